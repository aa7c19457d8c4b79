package shape

import (
	"math/rand/v2"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// Encoder is the shape of a transformer that embeds sentences: every position
// attends to all, LayerNorm comes after each block, GELU is exact, and the
// embedding is the mean of all positions, of length one. Its input is vectors,
// which whoever looks tokens up has.
type Encoder struct{ Layers, Heads, Width, Hidden, Context int }

// MiniLM is the shape of a layer of all-MiniLM-L6-v2, of which that has six.
var MiniLM = Encoder{Layers: 1, Heads: 12, Width: 384, Hidden: 1536, Context: 128}

// Program returns a program of the shape.
func (e Encoder) Program(seed uint64) *exact.Program {
	b := builder{&exact.Program{Rows: e.Context}, rand.New(rand.NewPCG(seed, 8))}
	d := e.Width
	roots, frac := quantise.InverseRoots(d)
	norms := b.p.Const(1, len(roots), roots)
	exps := quantise.Exponentials(11)
	table := b.p.Const(1, len(exps), exps)
	// Ten bits after the point before, nine after.
	act := must(quantise.Tabulate(quantise.GELU, -1<<13, 1<<14, 10, 9, 14))
	gelu := b.p.Const(1, len(act), act)
	norm := func(x exact.Value) exact.Value { return b.op(exact.LayerNorm, x, []int{norms}, 1<<14, int64(frac-10)) }

	x := norm(b.p.Op(exact.Input, nil, nil, int64(d), -1<<12, 1<<12-1))
	for range e.Layers {
		q, k, v := b.linear(x, d, d, 11, 13), b.linear(x, d, d, 11, 12), b.linear(x, d, d, 11, 12)
		a := b.p.Op(exact.FullAttention, []exact.Value{q, k, v}, []int{table}, int64(e.Heads), 10)
		x = norm(b.p.Op(exact.Add, []exact.Value{x, b.linear(a, d, d, 9, 16)}, nil))
		h := b.op(exact.Table, b.linear(x, d, e.Hidden, 11, 14), []int{gelu}, -1<<13)
		x = norm(b.p.Op(exact.Add, []exact.Value{x, b.linear(h, e.Hidden, d, 11, 16)}, nil))
	}
	lengths, frac := quantise.InverseLengths()
	mean := b.op(exact.MeanRows, x, nil)
	b.p.Outputs = []exact.Value{b.op(exact.RMSNorm, mean, []int{b.p.Const(1, len(lengths), lengths)}, 1<<14, int64(frac-15))}
	return b.p
}

// Input returns rows of random vectors.
func (e Encoder) Input(seed uint64, rows int) [][]int32 { return pixels(seed, rows, e.Width) }
