package onnx_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/exact/onnx/shape"
)

// TestSeeds writes the seeds of the fuzz tests, tiny networks of each class,
// if WRITE_SEEDS is set, and else imports them.
func TestSeeds(t *testing.T) {
	for name, m := range map[string]*onnx.Model{
		"gpt":      shape.GPT{Vocab: 3, Layers: 1, Heads: 2, Width: 4, Context: 3}.Model(1, false),
		"plain":    shape.GPT{Vocab: 3, Layers: 1, Heads: 1, Width: 4, Context: 2}.Model(1, true),
		"encoder":  shape.Encoder{Vocab: 3, Layers: 1, Heads: 2, Width: 4, Inner: 4, Context: 4}.Model(1),
		"mlp":      shape.MLP{2, 3, 2}.Model(1),
		"images":   shape.Images(1, 4, 2, 3),
		"logistic": shape.Logistic(1, 2, 2),
		"forest":   shape.Forest{Features: 2, Trees: 2, Depth: 2, Outputs: 2}.Model(1, true),
	} {
		file := onnx.Encode(m)
		for fuzz, seed := range map[string]string{"FuzzDecode": fmt.Sprintf("[]byte(%q)\n", file), "FuzzImport": fmt.Sprintf("[]byte(%q)\nbyte('\\x04')\n", file)} {
			path := "testdata/fuzz/" + fuzz + "/" + name
			if os.Getenv("WRITE_SEEDS") != "" {
				if err := os.MkdirAll("testdata/fuzz/"+fuzz, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("go test fuzz v1\n"+seed), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != "go test fuzz v1\n"+seed {
				t.Errorf("%s is not the seed it should be (WRITE_SEEDS=1 go test -run TestSeeds writes it): %v", path, err)
			}
		}
		rows := 0
		if name == "encoder" {
			rows = 4
		}
		if _, err := onnx.Import(t.Context(), file, onnx.Options{Name: name, Rows: rows, Lo: -1, Hi: 1}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
