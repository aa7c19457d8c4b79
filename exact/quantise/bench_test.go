//go:build unix

package quantise

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/exact"
)

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sketch adds layers with random weights: how fast a program runs depends on
// its shape alone.
type sketch struct {
	p *exact.Program
	r *rand.Rand
}

func newSketch(rows int) sketch {
	return sketch{&exact.Program{Rows: rows}, rand.New(rand.NewPCG(1, 1))}
}

func (s sketch) matrix(rows, cols int) exact.Const {
	data := make([]int32, rows*cols)
	for i := range data {
		data[i] = s.r.Int32N(255) - 127
	}
	return exact.Const{Rows: rows, Cols: cols, Data: data}
}

func (s sketch) linear(b *testing.B, x exact.Value, rows, cols int, most, shift, bits int64) exact.Value {
	y, err := Linear{Blocks: 1, Weights: s.matrix(rows, cols), Bias: make([]int32, cols), Shift: shift, Bits: bits}.Apply(s.p, x, most)
	if err != nil {
		b.Fatal(err)
	}
	return y
}

func (s sketch) lookUp(b *testing.B, f Function, x exact.Value, bits, frac int) exact.Value {
	table, err := Tabulate(f, -1<<(bits-1), 1<<bits, frac, frac, 16)
	if err != nil {
		b.Fatal(err)
	}
	return s.p.Op(exact.Table, []exact.Value{x}, []int{s.p.Const(1, len(table), table)}, -1<<(bits-1))
}

// lenet is LeNet-5 with rectifiers and the greatest of each two by two: 61,706
// parameters, 28 by 28 pixels, one image a row.
func lenet(b *testing.B, rows int) *exact.Program {
	s := newSketch(rows)
	im := Image{1, 28, 28, false}
	x := s.p.Op(exact.Input, nil, nil, int64(im.Columns()), 0, 255)
	stage := func(outs, pad int) {
		w := Window{[2]int{5, 5}, [2]int{1, 1}, [2]int{1, 1}, [4]int{pad, pad, pad, pad}}
		var err error
		if x, im, err = w.Convolve(s.p, x, im, 1, Linear{Weights: s.matrix(outs, im.Channels*25), Bias: make([]int32, outs), Shift: 10, Bits: 9}, 256); err != nil {
			b.Fatal(err)
		}
		if x, im, err = (Window{[2]int{2, 2}, [2]int{2, 2}, [2]int{1, 1}, [4]int{}}).MaxPool(s.p, x, im); err != nil {
			b.Fatal(err)
		}
		x = s.lookUp(b, ReLU, x, 9, 0)
	}
	stage(6, 2)
	stage(16, 0)
	for _, layer := range [][2]int{{400, 120}, {120, 84}} {
		x = s.lookUp(b, ReLU, s.linear(b, x, layer[0], layer[1], 256, 10, 9), 9, 0)
	}
	s.p.Outputs = []exact.Value{s.linear(b, x, 84, 10, 256, 8, 16)}
	return s.p
}

// encoder is a layer of the shape of MiniLM: 384 wide, 12 heads, a perceptron
// of 1,536, norms after the sums.
func encoder(b *testing.B, rows int) *exact.Program {
	s := newSketch(rows)
	const d = 384
	x := s.p.Op(exact.Input, nil, nil, d, -4096, 4095)
	exps := Exponentials(11)
	roots, frac := InverseRoots(d)
	norm := func(x exact.Value) exact.Value {
		return s.p.Op(exact.LayerNorm, []exact.Value{x}, []int{s.p.Const(1, len(roots), roots)}, normKeyLo, int64(frac-9))
	}
	q, k, v := s.linear(b, x, d, d, 4096, 12, 12), s.linear(b, x, d, d, 4096, 12, 12), s.linear(b, x, d, d, 4096, 12, 12)
	a := s.p.Op(exact.FullAttention, []exact.Value{q, k, v}, []int{s.p.Const(1, len(exps), exps)}, 12, 8)
	x = norm(s.p.Op(exact.Add, []exact.Value{x, s.linear(b, a, d, d, 2048, 8, 16)}, nil))
	up := s.lookUp(b, GELU, s.linear(b, x, d, 1536, 16384, 10, 12), 12, 8)
	x = norm(s.p.Op(exact.Add, []exact.Value{x, s.linear(b, up, 1536, d, 2048, 10, 16)}, nil))
	s.p.Outputs = []exact.Value{x}
	return s.p
}

// benchmark reports how many of something the engine does in a processor
// second, and how many multiplications each takes.
func benchmark(b *testing.B, p *exact.Program, rows int, per float64, unit string) {
	file, err := exact.Encode(exact.Card{Name: "bench"}, p)
	if err != nil {
		b.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(2, 2))
	in := make([][]int32, rows)
	for i := range in {
		in[i] = make([]int32, p.Ops[0].Params[0])
		for j := range in[i] {
			in[i][j] = int32(p.Ops[0].Params[1] + r.Int64N(p.Ops[0].Params[2]-p.Ops[0].Params[1]+1))
		}
	}
	n := 0.0
	start := cpu()
	for b.Loop() {
		if _, err := m.Run(in); err != nil {
			b.Fatal(err)
		}
		n += per
	}
	b.ReportMetric(n/(cpu()-start).Seconds(), unit+"/cpu-s")
}

func BenchmarkLeNet(b *testing.B)   { benchmark(b, lenet(b, 32), 32, 32, "images") }
func BenchmarkEncoder(b *testing.B) { benchmark(b, encoder(b, 128), 128, 1, "layers") }
