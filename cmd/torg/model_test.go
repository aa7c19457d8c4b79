package main

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact/onnx"
	networks "github.com/torg-network/torg/exact/onnx/shape"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/runfile"
)

// TestModelAdd is torg model add as its users meet it: networks of numbers, of
// tokens and of bytes are added, proven and verified, here and with nothing but
// a card.
func TestModelAdd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	torg := func(args ...string) outcome { return run(t, append(args, "--home", at("home"))...) }
	r := rand.New(rand.NewPCG(3, 3))
	tells := func(o outcome, words string) {
		t.Helper()
		if !strings.Contains(o.want(t, exitOK).out, words) {
			t.Errorf("%q is not said: %v", words, o)
		}
	}
	numbers := func(n int, most float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Floor(r.Float64()*most*1000) / 1000
		}
		return v
	}
	write := func(name string, v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		damage(t, at(name), string(b))
		return at(name)
	}

	images := networks.Images(1, 12, 3, 4)
	damage(t, at("Small Images.onnx"), string(onnx.Encode(images)))
	var samples bytes.Buffer
	for range 8 {
		b, _ := json.Marshal([][]float64{numbers(144, 1)})
		samples.Write(append(b, '\n'))
	}
	damage(t, at("samples.jsonl"), samples.String())
	var made added
	torg("model", "add", at("Small Images.onnx"), "--calib", at("samples.jsonl"), "-o", "json").read(t, &made)
	if made.Name != "small-images" || made.Samples != 8 || len(made.Outputs) != 1 || made.Outputs[0].Loss.Rows != 8 || made.Outputs[0].Loss.Max > 0.02 ||
		made.ImportS+made.CommitS > 60 || !strings.Contains(made.Card, "8 samples") || !strings.Contains(made.Card, made.ID.String()) {
		t.Errorf("%+v", made)
	}

	// What is proven is what the network gives.
	image := numbers(144, 1)
	var proven proveRunResult
	torg("prove", "-m", "small-images", "--in", write("image.json", image), "--out", at("image.run"), "-o", "json").read(t, &proven)
	net, err := onnx.Open(images)
	if err != nil {
		t.Fatal(err)
	}
	want, err := net.Eval(t.Context(), [][]float64{image})
	if err != nil {
		t.Fatal(err)
	}
	if proven.ModelID != made.ID || len(proven.Outputs) != 1 || len(proven.Outputs[0].Rows) != 1 || len(proven.Outputs[0].Rows[0]) != 4 {
		t.Fatalf("%+v", proven)
	}
	for i, x := range proven.Outputs[0].Rows[0] {
		if math.Abs(x-float64(want[0].F[i])) > 0.02 {
			t.Errorf("score %d is %g, of the network %g", i, x, want[0].F[i])
		}
	}
	var verdict verifyRunResult
	torg("verify", at("image.run"), "-o", "json").read(t, &verdict)
	if !verdict.OK || verdict.Gas == 0 || verdict.Bits < 100 || verdict.Outputs[0].Rows[0][0] != proven.Outputs[0].Rows[0][0] {
		t.Errorf("%+v", verdict)
	}
	// Elsewhere, with the card alone.
	torg("model", "card", "small-images", "--out", at("card")).want(t, exitOK)
	elsewhere := func(args ...string) outcome { return run(t, append(args, "--home", at("elsewhere"))...) }
	elsewhere("verify", at("image.run")).want(t, exitNotFound, "--card")
	tells(elsewhere("verify", at("image.run"), "--card", at("card")), "the model was not run")
	elsewhere("verify", at("image.run"), "--card", at("card"), "--model", strings.Repeat("0", 64)).want(t, exitVerify)

	b, err := os.ReadFile(at("image.run"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := runfile.Decode(b)
	if err != nil || !bytes.Equal(f.Encode(), b) {
		t.Fatalf("its own file: %v", err)
	}
	for name, change := range map[string]func(f *runfile.File){
		"input":  func(f *runfile.File) { f.Claim.Input[0][7]++ },
		"output": func(f *runfile.File) { f.Claim.Output[0][0][2]++ },
		"rows":   func(f *runfile.File) { f.Claim.From, f.Claim.Output = []int{1}, [][][]int32{nil} },
		"proof":  func(f *runfile.File) { f.Proof[len(f.Proof)/2] ^= 1 },
		"model":  func(f *runfile.File) { f.Model[0] ^= 1 },
	} {
		g, err := runfile.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		g.Proof = append(zkml.Proof(nil), g.Proof...)
		change(&g)
		damage(t, at("lie"), string(g.Encode()))
		torg("verify", at("lie"), "--card", at("card")).want(t, exitVerify)
		_ = name
	}
	for _, at := range []int{0, 20, 60, 300} {
		damage(t, filepath.Join(dir, "lie"), string(b[:at]))
		if o := torg("verify", filepath.Join(dir, "lie")); o.code != exitVerify {
			t.Errorf("%d bytes: %v", at, o)
		}
	}

	// Bytes: a text model, proven like the bundled one.
	damage(t, at("bytes.onnx"), string(onnx.Encode(networks.GPT{Vocab: 256, Layers: 1, Heads: 2, Width: 16, Context: 16}.Model(1, false))))
	damage(t, at("texts"), "It is a truth\nuniversally acknowledged\n")
	tells(torg("model", "add", at("bytes.onnx"), "--calib", at("texts"), "--name", "writer"), "text: bytes in")
	torg("prove", "-m", "writer", "--text", "It is", "--max-tokens", "4", "--out", at("text.proof")).want(t, exitOK)
	tells(torg("verify", at("text.proof")), "weights of writer")
	torg("model", "card", "writer", "--out", at("text.card")).want(t, exitOK)
	elsewhere("verify", at("text.proof"), "--card", at("text.card")).want(t, exitOK)
	elsewhere("verify", at("text.proof")).want(t, exitVerify)

	var list []modelView
	torg("model", "list", "-o", "json").read(t, &list)
	if len(list) != 3 || list[1].ID != made.ID || list[2].Name != "writer" || !list[2].Text || list[2].Card != "" {
		t.Errorf("%+v", list)
	}

	damage(t, at("not.onnx"), "no network")
	damage(t, at("other.onnx"), string(onnx.Encode(networks.MLP{3, 2}.Model(9))))
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{exitUsage, "onnx", []string{"model", "add", at("not.onnx")}},
		{exitUsage, "--domain", []string{"model", "add", at("other.onnx"), "--domain", "1"}},
		{exitUsage, "samples", []string{"model", "add", at("other.onnx")}},
		{exitUsage, "another network", []string{"model", "add", at("other.onnx"), "--domain=-1,1", "--name", "writer"}},
		{exitUsage, "--name", []string{"model", "add", at("other.onnx"), "--name", "../x"}},
		{exitUsage, "--name", []string{"model", "add", at("other.onnx"), "--name", "torg-nano"}},
		{exitUsage, "sample 1", []string{"model", "add", at("other.onnx"), "--calib", at("texts")}},
		{exitUsage, "rows of 144", []string{"prove", "-m", "small-images", "--in", write("short.json", []float64{1})}},
		{exitUsage, "samples that reach so far", []string{"prove", "-m", "small-images", "--in", write("far.json", numbers(144, 99))}},
		{exitUsage, "--in", []string{"prove", "-m", "small-images", "--text", "hello"}},
		{exitUsage, "text", []string{"prove", "--in", at("image.json")}},
		{exitUsage, "--prompt", []string{"prove", "-m", "writer"}},
	} {
		torg(c.args...).want(t, c.code, c.says)
	}

	// A model file that is not the one that was added.
	path := filepath.Join(at("home"), modelsDir, "writer", modelFile)
	b, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	damage(t, path, string(b))
	if o := torg("prove", "-m", "writer", "--text", "It is", "--out", at("x")); o.code == exitOK {
		t.Errorf("proven with another model file: %v", o)
	}
}
