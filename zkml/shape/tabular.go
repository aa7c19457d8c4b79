package shape

import (
	"math/rand/v2"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// Logistic is the shape of a logistic regression: a row of so many signed
// bytes to a probability in 1/2^14.
type Logistic struct{ Features int }

// Program returns a program of the shape.
func (l Logistic) Program(seed uint64, rows int) *exact.Program {
	b := builder{&exact.Program{Rows: rows}, rand.New(rand.NewPCG(seed, 9))}
	x := b.p.Op(exact.Input, nil, nil, int64(l.Features), -128, 127)
	w := b.dense(l.Features, 1, 6)
	w.Bias, w.Bits = b.biases(1), 14
	x = must(w.Apply(b.p, x, 128))
	t := must(quantise.Tabulate(quantise.Sigmoid, -1<<13, 1<<14, 10, 14, 16))
	b.p.Outputs = []exact.Value{b.op(exact.Table, x, []int{b.p.Const(1, len(t), t)}, -1<<13)}
	return b.p
}

// Input returns rows of random features.
func (l Logistic) Input(seed uint64, rows int) [][]int32 { return pixels(seed, rows, l.Features) }

// Forest is the shape of a forest of full decision trees over signed bytes.
type Forest struct{ Features, Trees, Depth, Outputs int }

// Program returns a program of the shape. Its outputs are the sums of the
// leaves' values and the place of the greatest.
func (f Forest) Program(seed uint64, rows int) *exact.Program {
	b := builder{&exact.Program{Rows: rows}, rand.New(rand.NewPCG(seed, 10))}
	x := b.p.Op(exact.Input, nil, nil, int64(f.Features), -128, 127)
	trees := make([]quantise.Tree, f.Trees)
	for t := range trees {
		inner := 1<<f.Depth - 1
		tree := make(quantise.Tree, 2*inner+1)
		for n := range tree {
			if n < inner {
				tree[n] = quantise.Node{Feature: b.r.IntN(f.Features), Threshold: b.r.Int32N(256) - 128, Left: 2*n + 1, Right: 2*n + 2}
				continue
			}
			tree[n].Values = make([]int32, f.Outputs)
			for j := range tree[n].Values {
				tree[n].Values[j] = b.r.Int32N(1000)
			}
		}
		trees[t] = tree
	}
	y := must(quantise.Forest(b.p, x, f.Features, exact.Range{Lo: -128, Hi: 127}, trees, f.Outputs))
	b.p.Outputs = []exact.Value{y, b.op(exact.ArgMax, y, nil)}
	return b.p
}

// Input returns rows of random features.
func (f Forest) Input(seed uint64, rows int) [][]int32 { return pixels(seed, rows, f.Features) }
