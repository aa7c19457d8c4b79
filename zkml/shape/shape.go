// Package shape makes exact programs of the shapes by which proof systems are
// compared, with weights from a seed: what a proof costs depends on shapes and
// hardly on weights.
package shape

import (
	"math"
	"math/rand/v2"

	"github.com/torg-network/torg/exact"
)

// GPT is the shape of a transformer that predicts tokens: learned positions,
// LayerNorm before each block, no biases, blocks of attention and of a
// perceptron four times as wide, an untied head.
type GPT struct{ Vocab, Layers, Heads, Width, Context int }

// The shapes of the published comparisons.
var (
	// NanoGPT1M is the million-parameter model of articles about EZKL, and of
	// Jolt Atlas' file nanoGPT_1M.
	NanoGPT1M = GPT{Vocab: 65, Layers: 5, Heads: 4, Width: 128, Context: 128}
	// EZKL is the shape of EZKL's public nanoGPT example.
	EZKL = GPT{Vocab: 65, Layers: 4, Heads: 4, Width: 64, Context: 64}
)

// builder adds operations with random constants.
type builder struct {
	p *exact.Program
	r *rand.Rand
}

func (b builder) op(k exact.Kind, in exact.Value, consts []int, params ...int64) exact.Value {
	return b.p.Op(k, []exact.Value{in}, consts, params...)
}

func (b builder) matrix(rows, cols int, most int32) int {
	data := make([]int32, rows*cols)
	for i := range data {
		data[i] = b.r.Int32N(2*most+1) - most
	}
	return b.p.Const(rows, cols, data)
}

// linear multiplies by a random matrix of eight-bit weights and rounds to the
// given bits.
func (b builder) linear(x exact.Value, rows, cols int, shift, bits int64) exact.Value {
	y := b.op(exact.MatMul, x, []int{b.matrix(rows, cols, 100)})
	return b.op(exact.Requantise, y, nil, shift, bits)
}

// positive is a table in place of an activation function: keys of the given
// bits, negative ones to zero and others halved.
func (b builder) positive(bits int) int {
	data := make([]int32, 1<<bits)
	for i := range data {
		data[i] = max(0, int32(i)-1<<(bits-1)) >> 1
	}
	return b.p.Const(1, len(data), data)
}

// gelu is nanoGPT's activation as a table of 14-bit keys: ten bits after the
// point before, nine after.
func (b builder) gelu() int {
	data := make([]int32, 1<<14)
	for i := range data {
		x := float64(i-1<<13) / (1 << 10)
		data[i] = int32(math.RoundToEven(256 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))))
	}
	return b.p.Const(1, len(data), data)
}

// Program returns a program of the shape. Its input is a token a row, its
// output the logits of the next.
func (g GPT) Program(seed uint64) *exact.Program {
	b := builder{&exact.Program{Rows: g.Context}, rand.New(rand.NewPCG(seed, 0))}
	d := g.Width
	// LayerNorm's scale: as fine as its bound allows, results with 10 bits
	// after the point.
	scale := 0
	for math.Ldexp(math.Sqrt(float64(d)), scale+1) < 0.8*exact.Limit {
		scale++
	}
	roots := make([]int32, 1<<16-1<<14)
	for k := range roots {
		roots[k] = int32(math.Floor(math.Ldexp(math.Sqrt(float64(d)/float64(k+1<<14)), scale)))
	}
	norms := b.p.Const(1, len(roots), roots)
	var exps []int32
	for _, e := range exact.Exponentials(16<<10, 11) {
		exps = append(exps, int32(e))
		if e == 0 {
			break
		}
	}
	table := b.p.Const(1, len(exps), exps)
	act := b.gelu()

	norm := func(x exact.Value) exact.Value {
		return b.op(exact.LayerNorm, x, []int{norms}, 1<<14, int64(scale-10))
	}
	token := b.p.Op(exact.Input, nil, nil, 1, 0, int64(g.Vocab-1))
	at := b.p.Op(exact.Position, nil, nil, int64(g.Context))
	x := b.p.Op(exact.Add, []exact.Value{
		b.op(exact.Gather, token, []int{b.matrix(g.Vocab, d, 2000)}),
		b.op(exact.Gather, at, []int{b.matrix(g.Context, d, 500)}),
	}, nil)
	for range g.Layers {
		n := norm(x)
		q, k, v := b.linear(n, d, d, 10, 13), b.linear(n, d, d, 10, 12), b.linear(n, d, d, 10, 12)
		a := b.p.Op(exact.Attention, []exact.Value{q, k, v}, []int{table}, int64(g.Heads), 10)
		x = b.p.Op(exact.Add, []exact.Value{x, b.linear(a, d, d, 6, 18)}, nil)
		h := b.op(exact.Table, b.linear(norm(x), d, 4*d, 9, 14), []int{act}, -1<<13)
		x = b.p.Op(exact.Add, []exact.Value{x, b.linear(h, 4*d, d, 8, 18)}, nil)
	}
	b.p.Outputs = []exact.Value{b.linear(norm(x), d, g.Vocab, 10, 18)}
	return b.p
}

// Input returns rows of random tokens.
func (g GPT) Input(seed uint64, rows int) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 1))
	in := make([][]int32, rows)
	for i := range in {
		in[i] = []int32{r.Int32N(int32(g.Vocab))}
	}
	return in
}

// MLP is the shape of a perceptron: the widths of its layers.
type MLP []int

// MLP4M has four million weights, as in comparisons by DeepProve.
var MLP4M = MLP{1024, 1024, 1024, 1024, 1024}

// Program returns a program of the shape: one row of signed bytes in, one row
// out, and between layers the negative made zero.
func (m MLP) Program(seed uint64) *exact.Program {
	b := builder{&exact.Program{Rows: 1}, rand.New(rand.NewPCG(seed, 2))}
	x := b.p.Op(exact.Input, nil, nil, int64(m[0]), -128, 127)
	act := b.positive(10)
	for i := 1; i < len(m); i++ {
		x = b.linear(x, m[i-1], m[i], 10, 10)
		if i+1 < len(m) {
			x = b.op(exact.Table, x, []int{act}, -1<<9)
		}
	}
	b.p.Outputs = []exact.Value{x}
	return b.p
}

// Input returns a row of random bytes.
func (m MLP) Input(seed uint64) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 3))
	row := make([]int32, m[0])
	for i := range row {
		row[i] = r.Int32N(256) - 128
	}
	return [][]int32{row}
}
