package clients_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/exact/onnx/shape"
)

// feed is an input of onnxruntime.
type feed struct {
	Type string    `json:"type"`
	Dims []int     `json:"dims"`
	Data []float64 `json:"data"`
}

// job is a network with an input, for onnxruntime and for package onnx.
type job struct {
	name  string
	file  []byte
	model *onnx.Model
	rows  [][]float64
	feeds map[string]feed
}

// newJob draws rows of input for a network: so many of a sequence or batch.
func newJob(t *testing.T, name string, m *onnx.Model, rows int, r *rand.Rand) job {
	t.Helper()
	j := job{name: name, file: onnx.Encode(m), model: m, feeds: map[string]feed{}}
	for k, in := range m.Inputs {
		f := feed{Type: "float32"}
		if in.Type == onnx.Int64 {
			f.Type = "int64"
		}
		n := 1
		for i, d := range in.Dims {
			size := d.Size
			if size < 0 {
				size = 1
				if in.Type == onnx.Int64 && i == len(in.Dims)-1 {
					size = rows
				}
			}
			f.Dims = append(f.Dims, size)
			n *= size
		}
		for range n {
			x := r.Float64()*2 - 1
			switch {
			case in.Type == onnx.Int64 && k == 0:
				x = float64(r.IntN(30))
			case in.Name == "attention_mask":
				x = 1
			case in.Type == onnx.Int64:
				x = 0
			default:
				x = float64(float32(x))
			}
			f.Data = append(f.Data, x)
		}
		if j.feeds[in.Name] = f; k > 0 {
			continue
		}
		width := n
		if in.Type == onnx.Int64 {
			width = 1
		} else if len(f.Dims) > 1 && f.Dims[0] > 1 {
			width = n / f.Dims[0]
		}
		var err error
		if j.rows, err = onnx.Rows(f.Data, width); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// TestONNX: onnxruntime reads the files that package onnx writes, and gives the
// numbers that its evaluation gives, for every class of network and for every
// operator in its variants.
func TestONNX(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var jobs []job
	add := func(name string, m *onnx.Model, rows int) { jobs = append(jobs, newJob(t, name, m, rows, r)) }
	gpt := shape.GPT{Vocab: 30, Layers: 2, Heads: 2, Width: 32, Context: 24}
	add("gpt", gpt.Model(1, false), 24)
	add("gpt written out", gpt.Model(1, true), 24)
	add("encoder", shape.Encoder{Vocab: 50, Layers: 2, Heads: 4, Width: 64, Inner: 128, Context: 20}.Model(2), 17)
	add("perceptron", shape.MLP{16, 32, 4}.Model(3), 1)
	add("lenet", shape.LeNet(4), 1)
	add("logistic", shape.Logistic(5, 8, 3), 1)
	add("forest", shape.Forest{Features: 6, Trees: 8, Depth: 4, Outputs: 1}.Model(6, false), 1)
	add("forest of classes", shape.Forest{Features: 6, Trees: 8, Depth: 4, Outputs: 3}.Model(7, true), 1)
	for _, c := range shape.Cases() {
		add(c.Name, c.Model, 1)
	}
	dir := t.TempDir()
	type order struct {
		File  string          `json:"file"`
		Feeds map[string]feed `json:"feeds"`
	}
	var orders []order
	for i, j := range jobs {
		path := filepath.Join(dir, fmt.Sprintf("%d.onnx", i))
		if err := os.WriteFile(path, j.file, 0o644); err != nil {
			t.Fatal(err)
		}
		orders = append(orders, order{path, j.feeds})
	}
	b, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(dir, "in.json")
	if err := os.WriteFile(in, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join("node_modules", "onnxruntime-web")); err != nil {
		lack(t, "onnxruntime-web is not installed (npm --prefix test/clients ci)")
	}
	var answers []struct {
		Outputs map[string]struct {
			Dims []int
			Data []*float64 // null where not a number
		}
		Error string
	}
	if err := json.Unmarshal(node(t, map[string]string{"TORG_IN": in}, "onnx.mjs"), &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(jobs) {
		t.Fatalf("%d answers for %d networks", len(answers), len(jobs))
	}
	for i, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			if answers[i].Error != "" {
				t.Fatalf("onnxruntime: %s", answers[i].Error)
			}
			net, err := onnx.Open(j.model)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := net.Eval(t.Context(), j.rows)
			if err != nil {
				t.Fatal(err)
			}
			for k, port := range j.model.Outputs {
				theirs, o := answers[i].Outputs[port.Name], ours[k]
				if len(theirs.Data) != len(o.F)+len(o.I) {
					t.Fatalf("%q has %d numbers of shape %v there, %d of %v here", port.Name, len(theirs.Data), theirs.Dims, len(o.F)+len(o.I), o.Dims)
				}
				if len(j.rows) == 1 && !slices.Equal(theirs.Dims, o.Dims) {
					t.Errorf("%q has shape %v there, %v here", port.Name, theirs.Dims, o.Dims)
				}
				worst, peak := 0.0, 1.0
				for e, x := range theirs.Data {
					y := 0.0
					if o.F != nil {
						y = float64(o.F[e])
					} else {
						y = float64(o.I[e])
					}
					if x == nil {
						if !math.IsNaN(y) && !math.IsInf(y, 0) {
							t.Errorf("%q: element %d is no number there, %g here", port.Name, e, y)
						}
						continue
					}
					worst, peak = max(worst, math.Abs(*x-y)), max(peak, math.Abs(*x))
				}
				if !(worst <= 3e-5*peak) {
					t.Errorf("%q differs by %g, of up to %g", port.Name, worst, peak)
				}
			}
		})
	}
	t.Logf("%d networks", len(jobs))
}
