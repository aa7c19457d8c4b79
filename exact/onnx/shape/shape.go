// Package shape makes ONNX models of the usual shapes, with weights from a
// seed, in the operators that exporters of the day write: for tests, and to
// try torg model add without a framework.
package shape

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/torg-network/torg/exact/onnx"
)

// builder adds nodes to a model.
type builder struct {
	m *onnx.Model
	r *rand.Rand
	n int
}

func start(name string, seed uint64, in, out onnx.Port) *builder {
	return &builder{m: &onnx.Model{
		IR: 8, Producer: "torg", Opsets: map[string]int64{"": 17, "ai.onnx.ml": 3}, Name: name,
		Inputs: []onnx.Port{in}, Outputs: []onnx.Port{out},
	}, r: rand.New(rand.NewPCG(seed, 7))}
}

func port(name string, t onnx.Type, dims ...int) onnx.Port {
	p := onnx.Port{Name: name, Type: t, Shaped: true}
	for i, d := range dims {
		if d < 0 {
			p.Dims = append(p.Dims, onnx.Dim{Size: -1, Name: fmt.Sprintf("d%d", i)})
		} else {
			p.Dims = append(p.Dims, onnx.Dim{Size: d})
		}
	}
	return p
}

// node adds a node of one result and returns its name.
func (b *builder) node(op string, in []string, attrs ...onnx.Attr) string {
	b.n++
	out := fmt.Sprintf("v%d", b.n)
	b.m.Nodes = append(b.m.Nodes, onnx.Node{Name: fmt.Sprintf("%s_%d", op, b.n), Op: op, In: in, Out: []string{out}, Attrs: attrs})
	return out
}

// call is node without attributes.
func (b *builder) call(op string, in ...string) string { return b.node(op, in) }

// result names the last node's result.
func (b *builder) result(name string) *onnx.Model {
	b.m.Nodes[len(b.m.Nodes)-1].Out[0] = name
	return b.m
}

func (b *builder) constant(t onnx.Tensor) string {
	b.n++
	t.Name = fmt.Sprintf("c%d", b.n)
	b.m.Consts = append(b.m.Consts, t)
	return t.Name
}

func (b *builder) floats(v []float32, dims ...int) string {
	return b.constant(onnx.Tensor{Type: onnx.Float, Dims: dims, F: v})
}

func (b *builder) scalar(v float64) string { return b.floats([]float32{float32(v)}) }

func (b *builder) ints(v ...int64) string {
	return b.constant(onnx.Tensor{Type: onnx.Int64, Dims: []int{len(v)}, I: v})
}

// normal is a constant of normal numbers with the given deviation and mean.
func (b *builder) normal(deviation, mean float64, dims ...int) string {
	n := 1
	for _, d := range dims {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(b.r.NormFloat64()*deviation + mean)
	}
	return b.floats(v, dims...)
}

// matrix has the deviation that keeps values of their size.
func (b *builder) matrix(rows, cols int) string {
	return b.normal(1/math.Sqrt(float64(rows)), 0, rows, cols)
}

func ints(name string, v ...int64) onnx.Attr {
	return onnx.Attr{Name: name, Type: onnx.AttrInts, Ints: v}
}

func number(name string, v int64) onnx.Attr {
	return onnx.Attr{Name: name, Type: onnx.AttrInt, I: v}
}

func float(name string, v float32) onnx.Attr {
	return onnx.Attr{Name: name, Type: onnx.AttrFloat, F: v}
}

func text(name, v string) onnx.Attr {
	return onnx.Attr{Name: name, Type: onnx.AttrString, S: []byte(v)}
}

// GPT is the shape of a transformer that predicts tokens, as nanoGPT exports
// it: LayerNorm before each block, learned positions, one product for queries,
// keys and values, and GELU written out by tanh.
type GPT struct{ Vocab, Layers, Heads, Width, Context int }

// The shapes of the published comparisons.
var (
	NanoGPT1M = GPT{Vocab: 65, Layers: 5, Heads: 4, Width: 128, Context: 64}
	EZKL      = GPT{Vocab: 65, Layers: 4, Heads: 4, Width: 64, Context: 64}
)

// Model writes the shape with LayerNormalization nodes, or, if plain, with
// the nodes that make one up in older operator sets.
func (g GPT) Model(seed uint64, plain bool) *onnx.Model {
	d, t := g.Width, g.Context
	b := start("gpt", seed, port("tokens", onnx.Int64, 1, t), port("logits", onnx.Float, 1, t, g.Vocab))
	embed := b.normal(0.5, 0, g.Vocab, d)
	// Positions as exporters leave them: counted by the shape of the input.
	length := b.node("Gather", []string{b.call("Shape", "tokens"), b.constant(onnx.Tensor{Type: onnx.Int64, I: []int64{1}})}, number("axis", 0))
	zero, one := b.constant(onnx.Tensor{Type: onnx.Int64, I: []int64{0}}), b.constant(onnx.Tensor{Type: onnx.Int64, I: []int64{1}})
	position := b.call("Range", zero, length, one)
	x := b.call("Add", b.call("Gather", embed, "tokens"), b.call("Gather", b.normal(0.2, 0, t, d), position))
	hidden := make([]float32, t*t)
	for i := range hidden {
		if i%t > i/t {
			hidden[i] = 1
		}
	}
	mask := b.node("Cast", []string{b.floats(hidden, 1, 1, t, t)}, number("to", int64(onnx.Bool)))
	never := b.scalar(math.Inf(-1))
	for range g.Layers {
		n := b.norm(x, d, false, plain)
		// One product for all three, cut afterwards.
		qkv := b.call("MatMul", n, b.normal(1.5/math.Sqrt(float64(d)), 0, d, 3*d))
		b.m.Nodes = append(b.m.Nodes, onnx.Node{Name: fmt.Sprintf("Split_%d", b.n), Op: "Split", In: []string{qkv}, Out: []string{qkv + "q", qkv + "k", qkv + "v"}, Attrs: []onnx.Attr{number("axis", 2)}})
		a := b.attention(qkv+"q", qkv+"k", qkv+"v", g.Heads, d, func(s string) string { return b.call("Where", mask, never, s) })
		x = b.call("Add", x, b.call("MatMul", a, b.normal(0.5/math.Sqrt(float64(d)), 0, d, d)))
		up := b.call("MatMul", b.norm(x, d, false, plain), b.matrix(d, 4*d))
		x = b.call("Add", x, b.call("MatMul", b.gelu(up), b.normal(0.5/math.Sqrt(float64(4*d)), 0, 4*d, d)))
	}
	b.call("MatMul", b.norm(x, d, false, plain), b.normal(1/math.Sqrt(float64(d)), 0, d, g.Vocab))
	return b.result("logits")
}

// norm is a LayerNorm with gain, and bias if so said.
func (b *builder) norm(x string, d int, bias, plain bool) string {
	gain := b.normal(0.1, 1, d)
	if !plain {
		in := []string{x, gain}
		if bias {
			in = append(in, b.normal(0.1, 0, d))
		}
		return b.node("LayerNormalization", in, number("axis", -1), float("epsilon", 1e-5))
	}
	c := b.call("Sub", x, b.node("ReduceMean", []string{x}, ints("axes", -1)))
	v := b.node("ReduceMean", []string{b.call("Pow", c, b.scalar(2))}, ints("axes", -1))
	y := b.call("Mul", b.call("Div", c, b.call("Sqrt", b.call("Add", v, b.scalar(1e-5)))), gain)
	if bias {
		y = b.call("Add", y, b.normal(0.1, 0, d))
	}
	return y
}

// gelu is GELU by tanh, written out.
func (b *builder) gelu(x string) string {
	cube := b.call("Pow", x, b.scalar(3))
	inner := b.call("Mul", b.call("Add", x, b.call("Mul", cube, b.scalar(0.044715))), b.scalar(0.7978845608028654))
	return b.call("Mul", b.call("Mul", x, b.scalar(0.5)), b.call("Add", b.call("Tanh", inner), b.scalar(1)))
}

// attention splits heads, attends and joins them again; masked is applied to
// the scaled scores.
func (b *builder) attention(q, k, v string, heads, d int, masked func(string) string) string {
	w := int64(d / heads)
	shape := b.ints(1, -1, int64(heads), w)
	q = b.node("Transpose", []string{b.call("Reshape", q, shape)}, ints("perm", 0, 2, 1, 3))
	k = b.node("Transpose", []string{b.call("Reshape", k, shape)}, ints("perm", 0, 2, 3, 1))
	v = b.node("Transpose", []string{b.call("Reshape", v, shape)}, ints("perm", 0, 2, 1, 3))
	s := b.call("Mul", b.call("MatMul", q, k), b.scalar(1/math.Sqrt(float64(w))))
	p := b.node("Softmax", []string{masked(s)}, number("axis", -1))
	y := b.node("Transpose", []string{b.call("MatMul", p, v)}, ints("perm", 0, 2, 1, 3))
	return b.call("Reshape", y, b.ints(1, -1, int64(d)))
}

// Encoder is the shape of an encoder of sentences as BERT and MiniLM are: norm
// after each block, GELU by erf, and the mean over the positions, of length
// one.
type Encoder struct{ Vocab, Layers, Heads, Width, Inner, Context int }

// MiniLM has the shape of a layer of all-MiniLM-L6-v2, with a small
// vocabulary.
var MiniLM = Encoder{Vocab: 1000, Layers: 2, Heads: 12, Width: 384, Inner: 1536, Context: 32}

// Model writes the shape with inputs as exporters name them, of any length.
func (e Encoder) Model(seed uint64) *onnx.Model {
	d := e.Width
	b := start("encoder", seed, port("input_ids", onnx.Int64, 1, -1), port("embedding", onnx.Float, 1, d))
	b.m.Inputs = append(b.m.Inputs, port("attention_mask", onnx.Int64, 1, -1), port("token_type_ids", onnx.Int64, 1, -1))
	b.m.Nodes = append(b.m.Nodes,
		onnx.Node{Op: "Shape", In: []string{"input_ids"}, Out: []string{"shape"}},
		onnx.Node{Op: "Gather", In: []string{"shape", "index"}, Out: []string{"length"}},
		onnx.Node{Op: "Unsqueeze", In: []string{"length", "first"}, Out: []string{"ends"}},
		onnx.Node{Op: "Slice", In: []string{"counting", "begin", "ends", "second"}, Out: []string{"positions"}},
	)
	count := make([]int64, e.Context)
	for i := range count {
		count[i] = int64(i)
	}
	for _, c := range []onnx.Tensor{
		{Name: "index", I: []int64{1}}, {Name: "first", Dims: []int{1}, I: []int64{0}}, {Name: "begin", Dims: []int{1}, I: []int64{0}},
		{Name: "second", Dims: []int{1}, I: []int64{1}}, {Name: "counting", Dims: []int{1, e.Context}, I: count},
	} {
		c.Type = onnx.Int64
		b.m.Consts = append(b.m.Consts, c)
	}
	x := b.call("Add", b.call("Gather", b.normal(0.5, 0, e.Vocab, d), "input_ids"), b.call("Gather", b.normal(0.1, 0, 2, d), "token_type_ids"))
	x = b.norm(b.call("Add", x, b.call("Gather", b.normal(0.2, 0, e.Context, d), "positions")), d, true, false)
	// (1 - mask) times the least number, as BERT has it.
	keep := b.node("Cast", []string{b.node("Unsqueeze", []string{"attention_mask", b.ints(1, 2)})}, number("to", int64(onnx.Float)))
	mask := b.call("Mul", b.call("Sub", b.scalar(1), keep), b.scalar(-math.MaxFloat32))
	linear := func(x string, from, to int) string {
		return b.call("Add", b.call("MatMul", x, b.matrix(from, to)), b.normal(0.1, 0, to))
	}
	for range e.Layers {
		a := b.attention(linear(x, d, d), linear(x, d, d), linear(x, d, d), e.Heads, d, func(s string) string { return b.call("Add", s, mask) })
		x = b.norm(b.call("Add", linear(a, d, d), x), d, true, true)
		up := linear(x, d, e.Inner)
		// GELU by erf, written out.
		g := b.call("Mul", b.call("Mul", up, b.call("Add", b.call("Erf", b.call("Div", up, b.scalar(math.Sqrt2))), b.scalar(1))), b.scalar(0.5))
		x = b.norm(b.call("Add", linear(g, e.Inner, d), x), d, true, false)
	}
	// The mean over the positions that count.
	wide := b.node("Cast", []string{b.node("Unsqueeze", []string{"attention_mask", b.ints(-1)})}, number("to", int64(onnx.Float)))
	sum := b.node("ReduceSum", []string{b.call("Mul", x, wide), b.ints(1)}, number("keepdims", 0))
	n := b.node("Clip", []string{b.node("ReduceSum", []string{wide, b.ints(1)}, number("keepdims", 0)), b.scalar(1e-9)})
	mean := b.call("Div", sum, n)
	length := b.node("ReduceL2", []string{mean}, ints("axes", -1))
	b.call("Div", mean, b.call("Expand", b.node("Clip", []string{length, b.scalar(1e-12)}), b.call("Shape", mean)))
	return b.result("embedding")
}

// MLP is a perceptron: the widths of its layers.
type MLP []int

// Model writes the shape with Gemm and ReLU, for batches of any size.
func (w MLP) Model(seed uint64) *onnx.Model {
	b := start("mlp", seed, port("x", onnx.Float, -1, w[0]), port("y", onnx.Float, -1, w[len(w)-1]))
	x := "x"
	for i := 1; i < len(w); i++ {
		x = b.node("Gemm", []string{x, b.normal(1.4/math.Sqrt(float64(w[i-1])), 0, w[i], w[i-1]), b.normal(0.1, 0, w[i])}, number("transB", 1))
		if i+1 < len(w) {
			x = b.call("Relu", x)
		}
	}
	return b.result("y")
}

// LeNet is LeNet-5 over images of 28 by 28.
func LeNet(seed uint64) *onnx.Model { return Images(seed, 28, 6, 10) }

// Images is a network of convolutions over square images of one channel, with
// batch normalisation, both kinds of pooling, padding and strides: first so
// many channels, then more.
func Images(seed uint64, size, channels, classes int) *onnx.Model {
	b := start("images", seed, port("image", onnx.Float, -1, 1, size, size), port("scores", onnx.Float, -1, classes))
	conv := func(x string, from, to, k int, attrs ...onnx.Attr) string {
		w := b.normal(1.4/math.Sqrt(float64(from*k*k)), 0, to, from, k, k)
		return b.node("Conv", []string{x, w, b.normal(0.1, 0, to)}, append(attrs, ints("kernel_shape", int64(k), int64(k)))...)
	}
	k := min(5, size/2)
	x := conv("image", 1, channels, 5, ints("pads", 2, 2, 2, 2))
	x = b.node("BatchNormalization", []string{x, b.normal(0.1, 1, channels), b.normal(0.1, 0, channels), b.normal(0.1, 0, channels), b.variances(channels)}, float("epsilon", 1e-5))
	x = b.node("MaxPool", []string{b.call("Relu", x)}, ints("kernel_shape", 2, 2), ints("strides", 2, 2))
	wide := channels*2 + channels/2 + channels%2 + 1 // 16 for 6
	x = b.call("Relu", conv(x, channels, wide, k))
	pool, rest := 2, size/2-k+1
	if rest < 2 {
		pool = 1
	}
	x = b.node("AveragePool", []string{x}, ints("kernel_shape", int64(pool), int64(pool)), ints("strides", int64(pool), int64(pool)))
	x = b.node("Flatten", []string{x})
	widths := []int{wide * (rest / pool) * (rest / pool), 20 * channels, 14 * channels, classes}
	for i := 1; i < len(widths); i++ {
		x = b.node("Gemm", []string{x, b.normal(1.4/math.Sqrt(float64(widths[i-1])), 0, widths[i], widths[i-1]), b.normal(0.1, 0, widths[i])}, number("transB", 1))
		if i+1 < len(widths) {
			x = b.call("Tanh", x)
		}
	}
	return b.result("scores")
}

// variances are positive.
func (b *builder) variances(n int) string {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(0.5 + b.r.Float64())
	}
	return b.floats(v, n)
}

// Logistic is a logistic regression as scikit-learn is exported: a scaler, and
// a linear classifier with its labels and probabilities.
func Logistic(seed uint64, features, classes int) *onnx.Model {
	b := start("logistic", seed, port("x", onnx.Float, -1, features), port("label", onnx.Int64, -1))
	b.m.Outputs = append(b.m.Outputs, port("probability", onnx.Float, -1, classes))
	random := func(n int, deviation, mean float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(b.r.NormFloat64()*deviation + mean)
		}
		return v
	}
	list := func(name string, v []float32) onnx.Attr {
		return onnx.Attr{Name: name, Type: onnx.AttrFloats, Floats: v}
	}
	var labels []int64
	for c := range classes {
		labels = append(labels, int64(10+c))
	}
	b.m.Nodes = append(b.m.Nodes,
		onnx.Node{Name: "scale", Op: "Scaler", Domain: "ai.onnx.ml", In: []string{"x"}, Out: []string{"z"},
			Attrs: []onnx.Attr{list("offset", random(features, 0.2, 0)), list("scale", random(features, 0.1, 1))}},
		onnx.Node{Name: "classify", Op: "LinearClassifier", Domain: "ai.onnx.ml", In: []string{"z"}, Out: []string{"label", "probability"},
			Attrs: []onnx.Attr{list("coefficients", random(features*classes, 1, 0)), list("intercepts", random(classes, 0.3, 0)), ints("classlabels_ints", labels...), text("post_transform", "SOFTMAX"), number("multi_class", 1)}})
	return b.m
}

// Forest is a decision forest of full trees.
type Forest struct{ Features, Trees, Depth, Outputs int }

// Model writes the forest as a regression, or as a classifier of as many
// classes.
func (f Forest) Model(seed uint64, classifier bool) *onnx.Model {
	out := port("y", onnx.Float, -1, f.Outputs)
	b := start("forest", seed, port("x", onnx.Float, -1, f.Features), out)
	var trees, nodes, features, yes, no, ct, cn, ci []int64
	var values, cw []float32
	var modes [][]byte
	for t := range f.Trees {
		inner := 1<<f.Depth - 1
		for i := range 2*inner + 1 {
			trees, nodes = append(trees, int64(t)), append(nodes, int64(i))
			if i < inner {
				modes = append(modes, []byte("BRANCH_LEQ"))
				features, values = append(features, b.r.Int64N(int64(f.Features))), append(values, float32(b.r.Float64()*1.6-0.8))
				yes, no = append(yes, int64(2*i+1)), append(no, int64(2*i+2))
				continue
			}
			modes = append(modes, []byte("LEAF"))
			features, values, yes, no = append(features, 0), append(values, 0), append(yes, 0), append(no, 0)
			for o := range f.Outputs {
				ct, cn, ci = append(ct, int64(t)), append(cn, int64(i)), append(ci, int64(o))
				cw = append(cw, float32(b.r.Float64()/float64(f.Trees)))
			}
		}
	}
	prefix, op, outs := "target_", "TreeEnsembleRegressor", []string{"y"}
	attrs := []onnx.Attr{ints("nodes_treeids", trees...), ints("nodes_nodeids", nodes...), ints("nodes_featureids", features...),
		{Name: "nodes_values", Type: onnx.AttrFloats, Floats: values}, {Name: "nodes_modes", Type: onnx.AttrStrings, Strings: modes},
		ints("nodes_truenodeids", yes...), ints("nodes_falsenodeids", no...), text("post_transform", "NONE")}
	if classifier {
		prefix, op, outs = "class_", "TreeEnsembleClassifier", []string{"label", "y"}
		var labels []int64
		for o := range f.Outputs {
			labels = append(labels, int64(o))
		}
		attrs = append(attrs, ints("classlabels_int64s", labels...))
		b.m.Outputs = []onnx.Port{port("label", onnx.Int64, -1), out}
	} else {
		attrs = append(attrs, number("n_targets", int64(f.Outputs)))
	}
	attrs = append(attrs, ints(prefix+"treeids", ct...), ints(prefix+"nodeids", cn...), ints(prefix+"ids", ci...), onnx.Attr{Name: prefix + "weights", Type: onnx.AttrFloats, Floats: cw})
	b.m.Nodes = append(b.m.Nodes, onnx.Node{Name: "forest", Op: op, Domain: "ai.onnx.ml", In: []string{"x"}, Out: outs, Attrs: attrs})
	return b.m
}
