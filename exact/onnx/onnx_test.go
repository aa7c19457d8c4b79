package onnx_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/exact/onnx/shape"
)

// network is a model to import, with the loss it may have.
type network struct {
	name  string
	model *onnx.Model
	rows  int
	// Greatest and mean error of a result, in parts of its greatest magnitude,
	// and the agreement of the greatest elements.
	most, mean, agreement float64
}

func networks() []network {
	small := shape.GPT{Vocab: 30, Layers: 2, Heads: 2, Width: 32, Context: 24}
	return []network{
		{"gpt", small.Model(1, false), 0, 0.01, 0.002, 0.98},
		{"gpt-plain", small.Model(1, true), 0, 0.01, 0.002, 0.98},
		{"encoder", shape.Encoder{Vocab: 50, Layers: 2, Heads: 4, Width: 64, Inner: 128, Context: 20}.Model(2), 20, 0.02, 0.005, 0.9},
		{"mlp", shape.MLP{16, 32, 32, 4}.Model(3), 8, 0.005, 0.001, 0.95},
		{"lenet", shape.LeNet(4), 1, 0.01, 0.002, 0.95},
		{"logistic", shape.Logistic(5, 8, 3), 1, 0.002, 0.0005, 0.98},
		{"forest", shape.Forest{Features: 6, Trees: 8, Depth: 4, Outputs: 1}.Model(6, false), 1, 0.2, 0.001, 0},
		{"forest-classes", shape.Forest{Features: 6, Trees: 8, Depth: 4, Outputs: 3}.Model(7, true), 1, 0.2, 0.001, 0.98},
	}
}

// inputs are samples that a network takes.
func inputs(t *testing.T, m *onnx.Model, rows, count int, seed uint64) [][][]float64 {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	in := m.Inputs[0]
	var out [][][]float64
	for range count {
		sample := make([][]float64, max(1, rows))
		if in.Type == onnx.Int64 && in.Dims[1].Size > 0 {
			sample = make([][]float64, in.Dims[1].Size)
		}
		for i := range sample {
			if in.Type == onnx.Int64 {
				sample[i] = []float64{float64(r.IntN(30))}
				continue
			}
			n := 1
			for _, d := range in.Dims[1:] {
				n *= d.Size
			}
			for range n {
				sample[i] = append(sample[i], r.Float64()*2-1)
			}
		}
		out = append(out, sample)
	}
	return out
}

// TestImport: every class of network becomes a program within its stated loss
// of the network in floating point, measured on inputs it was not calibrated
// with.
func TestImport(t *testing.T) {
	for _, n := range networks() {
		for _, calibrated := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/calibrated=%v", n.name, calibrated), func(t *testing.T) {
				o := onnx.Options{Name: n.name, Rows: n.rows, Lo: -1, Hi: 1}
				if calibrated {
					for _, s := range inputs(t, n.model, n.rows, 12, 1) {
						o.Samples = append(o.Samples, slices.Concat(s...))
					}
				}
				start := time.Now()
				im, err := onnx.Import(t.Context(), onnx.Encode(n.model), o)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(start)
				losses := check(t, n, im, inputs(t, n.model, n.rows, 12, 9))
				for k, loss := range losses {
					slack := 1.0
					if !calibrated {
						slack = 3 // scales leave room that is not needed
					}
					t.Logf("%d operations in %v; %s: error %.5f at most, %.6f on average, of %.3f, agreement %.3f; the card says %+v", len(im.Program.Ops), took.Round(time.Millisecond), im.Outputs[k].Name, loss.Max, loss.Mean, loss.Peak, loss.Agreement, im.Outputs[k].Loss)
					if loss.Max > slack*n.most*loss.Peak || loss.Mean > slack*n.mean*loss.Peak || loss.Agreement < n.agreement-0.05*(slack-1) {
						t.Errorf("result %q: %+v is too far off", im.Outputs[k].Name, loss)
					}
				}
			})
		}
	}
}

// check runs program and network side by side, apart from the importer's own
// measurement.
func check(t *testing.T, n network, im *onnx.Imported, samples [][][]float64) []onnx.Loss {
	t.Helper()
	file, err := exact.Encode(im.Card, im.Program)
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	net, err := onnx.Open(n.model)
	if err != nil {
		t.Fatal(err)
	}
	read := slices.Clone(im.Program.Outputs)
	for _, op := range im.Program.Ops {
		read = append(read, op.In...)
	}
	for i, op := range im.Program.Ops {
		if op.Kind != exact.Input && !slices.Contains(read, exact.Value(i)) {
			t.Errorf("nothing reads operation %d (%s)", i, op.Kind)
		}
	}
	losses := make([]onnx.Loss, len(im.Outputs))
	counts := make([]int, len(im.Outputs))
	for _, s := range samples {
		want, err := net.Eval(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		in, err := im.Input.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		slow, err := im.Program.Interpret(in)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, slow) {
			t.Fatal("engine and interpreter differ")
		}
		for k, o := range im.Outputs {
			var flat []float64
			for _, v := range want[k].F {
				flat = append(flat, float64(v))
			}
			for _, v := range want[k].I {
				flat = append(flat, float64(v))
			}
			rows := len(s)
			if o.Row != onnx.EachRow {
				rows = 1
			}
			if len(flat) != rows*o.Columns {
				t.Fatalf("result %q: %d numbers for %d rows of %d", o.Name, len(flat), rows, o.Columns)
			}
			for r := range rows {
				row := got[k][r]
				if o.Row >= 0 {
					row = got[k][o.Row]
				}
				f := flat[r*o.Columns : (r+1)*o.Columns]
				a, b := 0, 0
				for j := range f {
					d := math.Abs(f[j] - o.Number(row[j]))
					losses[k].Max, losses[k].Mean = max(losses[k].Max, d), losses[k].Mean+d
					losses[k].Peak = max(losses[k].Peak, math.Abs(f[j]))
					if f[j] > f[a] {
						a = j
					}
					if row[j] > row[b] {
						b = j
					}
				}
				if a == b {
					losses[k].Agreement++
				}
				losses[k].Rows++
				counts[k] += len(f)
			}
		}
	}
	for k := range losses {
		losses[k].Mean /= float64(counts[k])
		losses[k].Agreement /= float64(losses[k].Rows)
	}
	return losses
}

func TestEncoding(t *testing.T) {
	for _, n := range networks() {
		file := onnx.Encode(n.model)
		m, err := onnx.Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if again := onnx.Encode(m); !bytes.Equal(file, again) {
			t.Errorf("%s: encodes to other bytes after reading", n.name)
		}
		for _, at := range []int{1, len(file) / 3, len(file) - 1} {
			if _, err := onnx.Decode(file[:at]); err == nil {
				t.Errorf("%s: read %d of %d bytes", n.name, at, len(file))
			}
		}
	}
}

// TestSize: the shape of the million-parameter nanoGPT is imported well within
// a second of processor time.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("a million weights")
	}
	file := onnx.Encode(shape.NanoGPT1M.Model(1, false))
	start := time.Now()
	im, err := onnx.Import(t.Context(), file, onnx.Options{Name: "nano-1m"})
	if err != nil {
		t.Fatal(err)
	}
	weights := 0
	for _, c := range im.Program.Consts {
		weights += len(c.Data)
	}
	t.Logf("%d bytes of ONNX, %d operations, %d constants, %v; %+v", len(file), len(im.Program.Ops), weights, time.Since(start).Round(time.Millisecond), im.Outputs[0].Loss)
	if im.Outputs[0].Loss.Agreement < 0.97 {
		t.Errorf("%+v", im.Outputs[0].Loss)
	}
	if len(im.Program.Ops) > 115 {
		t.Errorf("%d operations: something that should be folded is not", len(im.Program.Ops))
	}
}

// TestSame: a file and its options give one result, however often.
func TestSame(t *testing.T) {
	file := onnx.Encode(shape.Encoder{Vocab: 9, Layers: 1, Heads: 1, Width: 8, Inner: 8, Context: 4}.Model(1))
	var first *onnx.Imported
	for range 16 {
		im, err := onnx.Import(t.Context(), file, onnx.Options{Name: "x", Rows: 4})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = im
		}
		if len(im.Notes) < 2 || !reflect.DeepEqual(im, first) {
			t.Fatalf("%+v after %+v", im, first)
		}
	}
}

// TestWrittenOut: norms and masks written in many nodes become what they are.
func TestWrittenOut(t *testing.T) {
	var kinds [2][]exact.Kind
	for i, plain := range []bool{false, true} {
		m := shape.GPT{Vocab: 9, Layers: 1, Heads: 1, Width: 8, Context: 4}.Model(1, plain)
		im, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range im.Program.Ops {
			kinds[i] = append(kinds[i], op.Kind)
		}
	}
	if !slices.Contains(kinds[0], exact.LayerNorm) || !slices.Equal(kinds[0], kinds[1]) {
		t.Errorf("operations %v, written out %v", kinds[0], kinds[1])
	}
}

// TestMerge: what two nodes compute alike is computed once.
func TestMerge(t *testing.T) {
	m := shape.MLP{3, 4, 2}.Model(1)
	again := m.Nodes[0]
	again.Name, again.Out = "again", []string{"again"}
	m.Nodes[1].Op, m.Nodes[1].In = "Mul", []string{m.Nodes[0].Out[0], "again"}
	m.Nodes = slices.Insert(m.Nodes, 1, again)
	im, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "x", Lo: -1, Hi: 1})
	if err != nil {
		t.Fatal(err)
	}
	products := 0
	for _, op := range im.Program.Ops {
		if op.Kind == exact.MatMul {
			products++
		}
	}
	if products != 2 {
		t.Errorf("%d products of two matrices", products)
	}
}

// TestThresholds: an input that meets a threshold goes where the network sends
// it, whatever the question.
func TestThresholds(t *testing.T) {
	tried := 0
	for _, c := range shape.Cases() {
		if !strings.HasPrefix(c.Name, "trees BRANCH_") {
			continue
		}
		tried++
		for n := range c.Model.Nodes {
			for _, a := range c.Model.Nodes[n].Attrs {
				if a.Name == "nodes_values" {
					for i, v := range a.Floats {
						a.Floats[i] = float32(math.Round(float64(v)*2) / 2)
					}
				}
			}
		}
		im, err := onnx.Import(t.Context(), onnx.Encode(c.Model), onnx.Options{Name: "x", Lo: -1, Hi: 1})
		if err != nil {
			t.Fatal(err)
		}
		samples := inputs(t, c.Model, 0, 100, 3)
		for _, s := range samples {
			for i, v := range s[0] {
				s[0][i] = math.Round(v*2) / 2
			}
		}
		if loss := check(t, network{model: c.Model}, im, samples)[0]; loss.Max > 1e-3 {
			t.Errorf("%s: %+v", c.Name, loss)
		}
	}
	if tried < 4 {
		t.Errorf("%d kinds of questions", tried)
	}
}

// TestRefusals: what cannot be imported is refused by name, with a way out.
func TestRefusals(t *testing.T) {
	mlp := func() *onnx.Model { return shape.MLP{3, 4, 2}.Model(1) }
	ok := onnx.Options{Name: "x", Lo: -1, Hi: 1}
	for _, c := range []struct {
		name   string
		change func(m *onnx.Model, o *onnx.Options)
		says   []string
	}{
		{"operator", func(m *onnx.Model, o *onnx.Options) { m.Nodes[1].Op = "LSTM" }, []string{`"Relu_4"`, "LSTM", "feed-forward"}},
		{"domain", func(m *onnx.Model, o *onnx.Options) { m.Nodes[1].Domain = "my.own" }, []string{"my.own.Relu"}},
		{"no samples", func(m *onnx.Model, o *onnx.Options) { o.Lo, o.Hi = 0, 0 }, []string{"samples"}},
		{"nothing before", func(m *onnx.Model, o *onnx.Options) { m.Nodes[1].In[0] = "gone" }, []string{`"gone"`}},
		{"no result", func(m *onnx.Model, o *onnx.Options) { m.Outputs[0].Name = "gone" }, []string{`"gone"`}},
		{"two inputs", func(m *onnx.Model, o *onnx.Options) {
			m.Inputs = append(m.Inputs, onnx.Port{Name: "z", Type: onnx.Float, Shaped: true})
		}, []string{"2 inputs", "x, z"}},
		{"no shape", func(m *onnx.Model, o *onnx.Options) { m.Inputs[0].Shaped = false }, []string{"shape"}},
		{"free features", func(m *onnx.Model, o *onnx.Options) { m.Inputs[0].Dims[1].Size = -1 }, []string{"is free"}},
		{"wrong sample", func(m *onnx.Model, o *onnx.Options) { o.Samples = [][]float64{{1, 2}} }, []string{"sample 1", "2 numbers are no rows of 3"}},
		{"not a number", func(m *onnx.Model, o *onnx.Options) { o.Samples = [][]float64{{1, 2, math.NaN()}} }, []string{"NaN"}},
		{"division", func(m *onnx.Model, o *onnx.Options) {
			m.Nodes[1].Op, m.Nodes[1].In = "Div", []string{m.Nodes[0].Out[0], "v9"}
			m.Nodes = append([]onnx.Node{{Op: "Gemm", In: []string{"x", m.Nodes[0].In[1]}, Out: []string{"v9"}, Attrs: m.Nodes[0].Attrs}}, m.Nodes...)
		}, []string{"Relu_4", "division"}},
		{"types", func(m *onnx.Model, o *onnx.Options) { m.Inputs[0].Type = onnx.Int64 }, []string{"tokens"}},
		{"name", func(m *onnx.Model, o *onnx.Options) { o.Name = "Not A Name" }, []string{"Not A Name"}},
	} {
		m, o := mlp(), ok
		c.change(m, &o)
		_, err := onnx.Import(t.Context(), onnx.Encode(m), o)
		if err == nil {
			t.Errorf("%s: imported", c.name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", c.name, err, s)
			}
		}
	}
	if _, err := onnx.Import(t.Context(), onnx.Encode(mlp()), ok); err != nil {
		t.Error(err)
	}
	gpt := shape.GPT{Vocab: 9, Layers: 1, Heads: 1, Width: 8, Context: 4}.Model(1, false)
	if _, err := onnx.Import(t.Context(), onnx.Encode(gpt), onnx.Options{Name: "x", Samples: [][]float64{{1, 9}}}); err == nil || !strings.Contains(err.Error(), "token 9") {
		t.Errorf("a token beyond the vocabulary: %v", err)
	}
	encoder := shape.Encoder{Vocab: 9, Layers: 1, Heads: 1, Width: 8, Inner: 8, Context: 4}.Model(1)
	if _, err := onnx.Import(t.Context(), onnx.Encode(encoder), onnx.Options{Name: "x"}); err == nil || !strings.Contains(err.Error(), "how many rows") {
		t.Errorf("a free length: %v", err)
	}
}

// TestNoNumbers: what is no number to compute with is refused with the name of
// what holds it. A program of integers would give some result for it.
func TestNoNumbers(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	mlp := func() *onnx.Model { return shape.MLP{3, 4, 2}.Model(1) }
	set := func(name string, at int, v float32) func(m *onnx.Model) string {
		return func(m *onnx.Model) string {
			for i := range m.Consts {
				if len(m.Consts[i].Dims) == map[string]int{"weight": 2, "bias": 1}[name] {
					m.Consts[i].F[at] = v
					return m.Consts[i].Name
				}
			}
			t.Fatalf("no %s", name)
			return ""
		}
	}
	// after puts an operator with a constant behind the network.
	after := func(op string, v ...float32) func(m *onnx.Model) string {
		return func(m *onnx.Model) string {
			last := &m.Nodes[len(m.Nodes)-1]
			m.Consts = append(m.Consts, onnx.Tensor{Name: "divisor", Type: onnx.Float, Dims: []int{len(v)}, F: v})
			m.Nodes = append(m.Nodes, onnx.Node{Op: op, In: []string{"before", "divisor"}, Out: last.Out})
			m.Nodes[len(m.Nodes)-2].Out = []string{"before"}
			return "divisor"
		}
	}
	for name, change := range map[string]func(m *onnx.Model) string{
		"infinite weight": set("weight", 2, inf), "minus infinite weight": set("weight", 2, -inf), "NaN weight": set("weight", 2, nan),
		"infinite bias": set("bias", 1, inf), "minus infinite bias": set("bias", 1, -inf), "NaN bias": set("bias", 1, nan),
		"division by 0": after("Div", 0), "division by a row with 0": after("Div", 1, 0), "times infinity": after("Mul", inf),
		"plus infinity": after("Add", inf), "minus infinity in a row": after("Add", 0, -inf), "plus NaN": after("Add", nan), "to the NaN": after("Pow", nan),
	} {
		m := mlp()
		who := change(m)
		_, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "x", Lo: -1, Hi: 1})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", who)) && !(name == "minus infinity in a row" && strings.Contains(err.Error(), `the result "y"`)) || strings.Contains(err.Error(), "which is a bug") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range shape.Cases() {
		if c.Name != "BatchNormalization" {
			continue
		}
		bn := c.Model
		bn.Consts[3].F[0] = -4
		if _, err := onnx.Import(t.Context(), onnx.Encode(bn), onnx.Options{Name: "x", Lo: -1, Hi: 1}); err == nil || !strings.Contains(err.Error(), bn.Consts[3].Name) {
			t.Errorf("a negative variance: %v", err)
		}
	}
	// A logarithm of 0 on a sample: the network itself gives nothing to be near to.
	m := mlp()
	m.Nodes[len(m.Nodes)-1].Out = []string{"before"}
	m.Nodes = append(m.Nodes, onnx.Node{Op: "Relu", In: []string{"before"}, Out: []string{"half"}}, onnx.Node{Op: "Log", In: []string{"half"}, Out: []string{m.Outputs[0].Name}})
	if _, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "x", Lo: -1, Hi: 1}); err == nil || !strings.Contains(err.Error(), m.Outputs[0].Name) {
		t.Errorf("infinite results: %v", err)
	}
}

// TestConstantsThatAreNoNumbers: what a network makes of infinite constants before
// it meets its input is refused as well, and never taken for 0.
func TestConstantsThatAreNoNumbers(t *testing.T) {
	to := func(t onnx.Type) []onnx.Attr { return []onnx.Attr{{Name: "to", Type: onnx.AttrInt, I: int64(t)}} }
	floats := func(v ...float64) onnx.Tensor {
		c := onnx.Tensor{Name: "k", Type: onnx.Float, Dims: []int{1, len(v)}}
		for _, x := range v {
			c.F = append(c.F, float32(x))
		}
		return c
	}
	integers := func(name string, v int64) onnx.Tensor {
		return onnx.Tensor{Name: name, Type: onnx.Int64, Dims: []int{1, 1}, I: []int64{v}}
	}
	for name, c := range map[string]struct {
		consts []onnx.Tensor
		nodes  []onnx.Node
		says   string
	}{
		"infinity as an integer": {[]onnx.Tensor{floats(math.Inf(1))},
			[]onnx.Node{{Op: "Cast", In: []string{"k"}, Out: []string{"i"}, Attrs: to(onnx.Int64)}, {Op: "Cast", In: []string{"i"}, Out: []string{"f"}, Attrs: to(onnx.Float)}, {Op: "Add", In: []string{"x", "f"}, Out: []string{"y"}}}, "no integer is near"},
		"integer divided by 0": {[]onnx.Tensor{integers("a", 5), integers("b", 0)},
			[]onnx.Node{{Op: "Div", In: []string{"a", "b"}, Out: []string{"i"}}, {Op: "Cast", In: []string{"i"}, Out: []string{"f"}, Attrs: to(onnx.Float)}, {Op: "Add", In: []string{"x", "f"}, Out: []string{"y"}}}, "by 0"},
		"minus infinity beside the input": {[]onnx.Tensor{floats(math.Inf(-1))},
			[]onnx.Node{{Op: "Concat", In: []string{"x", "k"}, Out: []string{"c"}, Attrs: []onnx.Attr{{Name: "axis", Type: onnx.AttrInt, I: 1}}}, {Op: "Exp", In: []string{"c"}, Out: []string{"y"}}}, `"k": element 0 is -Inf`},
		"0 by 0 beside the input": {[]onnx.Tensor{floats(0)},
			[]onnx.Node{{Op: "Div", In: []string{"k", "k"}, Out: []string{"n"}}, {Op: "Concat", In: []string{"x", "n"}, Out: []string{"y"}, Attrs: []onnx.Attr{{Name: "axis", Type: onnx.AttrInt, I: 1}}}}, `"n": element 0 is NaN`},
	} {
		m := &onnx.Model{IR: 8, Opsets: map[string]int64{"": 13}, Name: "x", Consts: c.consts, Nodes: c.nodes, Outputs: []onnx.Port{{Name: "y", Type: onnx.Float}}}
		m.Inputs = []onnx.Port{{Name: "x", Type: onnx.Float, Shaped: true, Dims: []onnx.Dim{{Size: 1}, {Size: 3}}}}
		if _, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "x", Lo: -1, Hi: 1}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDomain: a model takes the whole domain that it was made for.
func TestDomain(t *testing.T) {
	for _, ends := range [][2]float64{{-1, 1}, {-0.01, 0.01}, {1e-5, 0.01}, {-1e-3, 3e-4}, {1000, 1e6}, {-1e9, 1e9}} {
		im, err := onnx.Import(t.Context(), onnx.Encode(shape.MLP{2, 3, 2}.Model(1)), onnx.Options{Name: "x", Lo: ends[0], Hi: ends[1]})
		if err == nil {
			_, err = im.Input.Encode([][]float64{{ends[0], ends[1]}})
		}
		if err != nil {
			t.Errorf("from %g to %g: %v", ends[0], ends[1], err)
		}
	}
}

// TestCases: every operator that test/clients compares with onnxruntime becomes
// a program too, near to the evaluation.
func TestCases(t *testing.T) {
	for _, c := range shape.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			im, err := onnx.Import(t.Context(), onnx.Encode(c.Model), onnx.Options{Name: "case", Lo: -1, Hi: 1})
			switch c.Name {
			case "Min a row", "Max a row", "PRelu a row": // no function of one number
				if err == nil || !strings.Contains(err.Error(), "differs from element to element") {
					t.Errorf("refused as %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, loss := range check(t, network{model: c.Model}, im, inputs(t, c.Model, 0, 20, 4)) {
				// Reciprocals have a pole, and steps are steps.
				if loss.Mean > 0.005*max(1, loss.Peak) && c.Name != "Reciprocal" && c.Name != "Pow" {
					t.Errorf("%+v", loss)
				}
			}
		})
	}
}
