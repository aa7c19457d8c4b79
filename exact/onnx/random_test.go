package onnx_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/torg-network/torg/exact/onnx"
)

// TestRandomNetworks: whatever operators are put together, the program stays
// near to the network. Every value keeps the shape [1][channels][5][5], or is a
// row at the end.
func TestRandomNetworks(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 40
	}
	imported := 0
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 8))
		m, what := randomNetwork(r)
		o := onnx.Options{Name: "random"}
		n := network{model: m}
		for _, s := range inputs(t, m, 0, 16, seed) {
			o.Samples = append(o.Samples, slices.Concat(s...))
		}
		im, err := onnx.Import(t.Context(), onnx.Encode(m), o)
		if err != nil {
			t.Errorf("seed %d, %v: %v", seed, what, err)
			continue
		}
		imported++
		// On samples it was calibrated with: products of products have results
		// on others that nobody could expect.
		loss := check(t, n, im, inputs(t, m, 0, 6, seed))[0]
		if loss.Mean > 0.01*max(loss.Peak, 1e-3) || loss.Max > 0.15*max(loss.Peak, 1e-3) {
			t.Errorf("seed %d: %+v of %v", seed, loss, what)
		}
	}
	if imported != seeds {
		t.Errorf("%d of %d networks imported", imported, seeds)
	}
}

// randomNetwork returns a network of a dozen operators and their names.
func randomNetwork(r *rand.Rand) (*onnx.Model, []string) {
	dims := []onnx.Dim{{Size: 1}, {Size: 3}, {Size: 5}, {Size: 5}}
	m := &onnx.Model{IR: 8, Opsets: map[string]int64{"": 17}, Inputs: []onnx.Port{{Name: "x", Type: onnx.Float, Dims: dims, Shaped: true}}, Outputs: []onnx.Port{{Name: "y", Type: onnx.Float}}}
	channels := map[string]int{"x": 3}
	names := []string{"x"}
	var what []string
	floats := func(scale, mean float64, dims ...int) string {
		c := onnx.Tensor{Name: fmt.Sprintf("c%d", len(m.Consts)), Type: onnx.Float, Dims: dims}
		for range c.Len() {
			c.F = append(c.F, float32(r.NormFloat64()*scale+mean))
		}
		m.Consts = append(m.Consts, c)
		return c.Name
	}
	list := func(v ...int64) string {
		c := onnx.Tensor{Name: fmt.Sprintf("c%d", len(m.Consts)), Type: onnx.Int64, Dims: []int{len(v)}, I: v}
		m.Consts = append(m.Consts, c)
		return c.Name
	}
	node := func(ch int, op string, in []string, attrs ...onnx.Attr) string {
		out := fmt.Sprintf("v%d", len(m.Nodes))
		m.Nodes = append(m.Nodes, onnx.Node{Name: out, Op: op, In: in, Out: []string{out}, Attrs: attrs})
		channels[out] = ch
		return out
	}
	ints := func(name string, v ...int64) onnx.Attr { return onnx.Attr{Name: name, Type: onnx.AttrInts, Ints: v} }
	axis := func(a int64) onnx.Attr { return onnx.Attr{Name: "axis", Type: onnx.AttrInt, I: a} }
	for range 4 + r.IntN(9) {
		x := names[max(0, len(names)-1-r.IntN(4))]
		c := channels[x]
		var y string
		kind := r.IntN(17)
		switch kind {
		case 0:
			y = node(c, []string{"Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Abs", "Neg"}[r.IntN(7)], []string{x})
		case 1:
			y = node(c, []string{"Add", "Sub", "Mul"}[r.IntN(3)], []string{x, floats(0.5, 0.5)})
		case 2:
			y = node(c, []string{"Add", "Sub", "Mul"}[r.IntN(3)], []string{x, floats(0.3, 1, c, 1, 1)})
		case 3:
			y = node(c, "Sub", []string{floats(0.3, 1, c, 5, 5), x})
		case 4:
			out := 1 + r.IntN(5)
			y = node(out, "Conv", []string{x, floats(0.5/float64(c), 0, out, c, 3, 3), floats(0.3, 0, out)}, ints("pads", 1, 1, 1, 1))
		case 5:
			y = node(c, "MaxPool", []string{x}, ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1))
		case 6:
			y = node(c, "AveragePool", []string{x}, ints("kernel_shape", 3, 2), ints("pads", 1, 0, 1, 1))
		case 7:
			y = node(c, "BatchNormalization", []string{x, floats(0.2, 1, c), floats(0.3, 0, c), floats(0.3, 0, c), floats(0.01, 1, c)})
		case 8, 9, 10: // of two values of one shape
			other := x
			for range 8 {
				if o := names[r.IntN(len(names))]; channels[o] == c {
					other = o
				}
			}
			y = node(c, []string{"Add", "Sub", "Mul"}[kind-8], []string{x, other})
		case 11:
			other := names[r.IntN(len(names))]
			if c+channels[other] > 9 {
				continue
			}
			y = node(c+channels[other], "Concat", []string{x, other}, axis(1))
		case 12:
			if c < 2 {
				continue
			}
			k := int64(1 + r.IntN(c-1))
			y = node(int(k), "Slice", []string{x, list(int64(c) - k), list(int64(c)), list(1)})
		case 13:
			y = node(c, "Transpose", []string{x}, ints("perm", 0, 1, 3, 2))
		case 14:
			p := node(c, "Pad", []string{x, list(0, 0, 1, 0, 0, 0, 0, 1)})
			y = node(c, "Slice", []string{p, list(0, 1), list(5, 6), list(2, 3)})
		case 15:
			mean := node(c, "GlobalAveragePool", []string{x})
			y = node(c, []string{"Add", "Mul"}[r.IntN(2)], []string{x, mean})
		case 16:
			f := node(c, "Reshape", []string{x, list(1, int64(5*c), 5)})
			f = node(c, "MatMul", []string{f, floats(0.4, 0, 5, 5)})
			y = node(c, "Reshape", []string{f, list(1, int64(c), 5, 5)})
		}
		what = append(what, m.Nodes[len(m.Nodes)-1].Op)
		names = append(names, y)
	}
	last := names[len(names)-1]
	flat := node(1, "Flatten", []string{last})
	// So that the result depends on the input whatever was cut away.
	node(1, "Gemm", []string{flat, floats(0.2, 0, 25*channels[last], 6), floats(0.2, 0, 6)})
	m.Nodes[len(m.Nodes)-1].Out[0] = "y"
	return m, what
}
