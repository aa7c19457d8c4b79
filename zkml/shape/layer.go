package shape

import (
	"math/rand/v2"

	"github.com/torg-network/torg/exact"
)

// Layer is the shape of one layer: rows of signed bytes times a matrix of
// eight-bit weights, divided by 2^Shift and rounded, and the negative made
// zero.
type Layer struct{ Rows, In, Out, Shift int }

// Layer8x64x32 is small enough for proof systems that prove each product of
// numbers by itself.
var Layer8x64x32 = Layer{Rows: 8, In: 64, Out: 32, Shift: 7}

// Program returns a program of the shape. Its first constant is the matrix.
func (l Layer) Program(seed uint64) *exact.Program {
	b := builder{&exact.Program{Rows: l.Rows}, rand.New(rand.NewPCG(seed, 4))}
	x := b.p.Op(exact.Input, nil, nil, int64(l.In), -128, 127)
	const bits = 14
	x = b.linear(x, l.In, l.Out, int64(l.Shift), bits)
	rectifier := make([]int32, 1<<bits)
	for i := range rectifier {
		rectifier[i] = max(0, int32(i)-1<<(bits-1))
	}
	x = b.op(exact.Table, x, []int{b.p.Const(1, len(rectifier), rectifier)}, -1<<(bits-1))
	b.p.Outputs = []exact.Value{x}
	return b.p
}

// Input returns all rows, of random bytes.
func (l Layer) Input(seed uint64) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 5))
	in := make([][]int32, l.Rows)
	for i := range in {
		in[i] = make([]int32, l.In)
		for j := range in[i] {
			in[i][j] = r.Int32N(256) - 128
		}
	}
	return in
}
