package shape

import (
	"math/rand/v2"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// CNN is the shape of LeNet (LeCun, Bottou, Bengio, Haffner 1998) with
// rectifiers: convolutions of 5 by 5 without padding, each followed by a
// rectifier and the maximum of 2 by 2, then dense layers with rectifiers
// between them. All have biases.
type CNN struct {
	Channels, Size int   // of the square input
	Convolutions   []int // output channels
	Dense          []int // outputs
}

// The shapes of the published comparisons.
var (
	// LeNet is LeNet-5: 61,706 parameters.
	LeNet = CNN{1, 32, []int{6, 16}, []int{120, 84, 10}}
	// CNN264k has 263,970 parameters and CIFAR-10's input. DeepProve publishes
	// the number, "CNN 264k", and a script, whose network is LeNet for colours
	// and has but 62,006; this is that network with more of everything.
	CNN264k = CNN{3, 32, []int{16, 32}, []int{256, 168, 10}}
)

// must is for shapes that are known to be possible.
func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// activated is the bits of what a layer says; the rectifier leaves one less.
const activated = 10

// dense is a matrix of eight-bit weights with a bias.
func (b builder) dense(rows, cols int, shift int64) quantise.Linear {
	l := quantise.Linear{Blocks: 1, Weights: exact.Const{Rows: rows, Cols: cols, Data: make([]int32, rows*cols)}, Shift: shift, Bits: activated}
	for i := range l.Weights.Data {
		l.Weights.Data[i] = b.r.Int32N(201) - 100
	}
	return l
}

func (b builder) biases(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = b.r.Int32N(20001) - 10000
	}
	return out
}

// rectify makes the negative zero.
func (b builder) rectify(x exact.Value) exact.Value {
	t := must(quantise.Tabulate(quantise.ReLU, -1<<(activated-1), 1<<activated, 0, 0, activated))
	return b.op(exact.Table, x, []int{b.p.Const(1, len(t), t)}, -1<<(activated-1))
}

// Program returns a program of the shape, for rows of one image each: signed
// bytes, channel by channel.
func (c CNN) Program(seed uint64, rows int) *exact.Program {
	b := builder{&exact.Program{Rows: rows}, rand.New(rand.NewPCG(seed, 6))}
	const most = 1 << (activated - 1)
	im := quantise.Image{Channels: c.Channels, Height: c.Size, Width: c.Size}
	x := b.p.Op(exact.Input, nil, nil, int64(im.Columns()), -128, 127)
	square := func(kernel, stride int) quantise.Window {
		return quantise.Window{Kernel: [2]int{kernel, kernel}, Stride: [2]int{stride, stride}, Dilation: [2]int{1, 1}}
	}
	for _, out := range c.Convolutions {
		l := b.dense(out, im.Channels*25, 9)
		l.Bias = b.biases(out)
		var err error
		if x, im, err = square(5, 1).Convolve(b.p, x, im, 1, l, most); err != nil {
			panic(err)
		}
		if x, im, err = square(2, 2).MaxPool(b.p, b.rectify(x), im); err != nil {
			panic(err)
		}
	}
	in := im.Columns()
	for i, out := range c.Dense {
		l := b.dense(in, out, 10)
		l.Bias = b.biases(out)
		x = must(l.Apply(b.p, x, most))
		if i+1 < len(c.Dense) {
			x = b.rectify(x)
		}
		in = out
	}
	b.p.Outputs = []exact.Value{x}
	return b.p
}

// Input returns rows of random pixels.
func (c CNN) Input(seed uint64, rows int) [][]int32 {
	return pixels(seed, rows, c.Channels*c.Size*c.Size)
}

func pixels(seed uint64, rows, cols int) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 7))
	in := make([][]int32, rows)
	for i := range in {
		in[i] = make([]int32, cols)
		for j := range in[i] {
			in[i][j] = r.Int32N(256) - 128
		}
	}
	return in
}
