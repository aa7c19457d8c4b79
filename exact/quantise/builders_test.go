package quantise

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact"
)

// run checks the program, runs it by engine and interpreter, and returns its
// only output.
func run(t *testing.T, p *exact.Program, out exact.Value, in [][]int32) [][]int32 {
	t.Helper()
	p.Outputs = []exact.Value{out}
	file, err := exact.Encode(exact.Card{Name: "test"}, p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Interpret(in)
	if err != nil {
		t.Fatal(err)
	}
	for r := range want[0] {
		for j := range want[0][r] {
			if got[0][r][j] != want[0][r][j] {
				t.Fatalf("row %d, column %d: engine %d, interpreter %d", r, j, got[0][r][j], want[0][r][j])
			}
		}
	}
	return got[0]
}

// random fills n elements up to most in magnitude, sometimes all of the most.
func random(r *rand.Rand, n int, most int64) []int32 {
	out := make([]int32, n)
	extreme := r.IntN(3) == 0
	sign := int32(1)
	if r.IntN(2) == 0 {
		sign = -1
	}
	for i := range out {
		out[i] = int32(r.Int64N(2*most+1) - most)
		if extreme {
			out[i] = sign * int32(most)
		}
	}
	return out
}

// TestLinear compares with big integers: exactly where nothing is split, and
// within half a unit of what is rounded early where it is.
func TestLinear(t *testing.T) {
	splits := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		blocks, rows, cols := 1+r.IntN(4), 1+r.IntN(300), 1+r.IntN(8)
		most := int64(1) << (8 + r.IntN(8))
		l := Linear{
			Blocks:  blocks,
			Weights: exact.Const{Rows: rows, Cols: cols, Data: random(r, rows*cols, 1<<(6+r.IntN(9)))},
			Shift:   int64(12 + r.IntN(8)), Bits: 24,
		}
		if r.IntN(2) == 0 {
			l.Bias = random(r, cols, 1<<r.IntN(28))
		}
		p := &exact.Program{Rows: 1}
		x := p.Op(exact.Input, nil, nil, int64(blocks*rows), -most, most)
		y, err := l.Apply(p, x, most)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var tolerance float64
		parts := 0
		for _, op := range p.Ops {
			if op.Kind == exact.Requantise {
				parts++
			}
		}
		if parts--; parts > 0 {
			splits++
			first := 0
			for p.Ops[first].Kind != exact.Requantise {
				first++
			}
			// Half a unit for each part, and for the last rounding.
			tolerance = 0.5 + float64(parts)/2/math.Ldexp(1, int(l.Shift-p.Ops[first].Params[0]))
		}
		in := random(r, blocks*rows, most)
		out := run(t, p, y, [][]int32{in})[0]
		for b := range blocks {
			for j := range cols {
				sum := new(big.Int)
				for k := range rows {
					sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(in[b*rows+k])), big.NewInt(int64(l.Weights.Data[k*cols+j]))))
				}
				if l.Bias != nil {
					sum.Add(sum, big.NewInt(int64(l.Bias[j])))
				}
				real, _ := new(big.Rat).SetFrac(sum, new(big.Int).Lsh(big.NewInt(1), uint(l.Shift))).Float64()
				want := max(-1<<23, min(1<<23-1, real))
				got := float64(out[b*cols+j])
				if parts == 0 && got != max(-1<<23, min(1<<23-1, math.Floor(real+0.5))) {
					t.Fatalf("seed %d: %g of %g", seed, got, real)
				}
				if math.Abs(got-want) > max(0.5, tolerance) {
					t.Fatalf("seed %d: %g, want %g within %g", seed, got, want, tolerance)
				}
			}
		}
	}
	if splits < 10 || splits > 50 {
		t.Errorf("%d of 60 products were split", splits)
	}
	p := &exact.Program{Rows: 1}
	x := p.Op(exact.Input, nil, nil, 2, -1<<20, 1<<20)
	for want, l := range map[string]Linear{
		"one product":       {Blocks: 1, Weights: exact.Const{Rows: 2, Cols: 1, Data: []int32{1, 1 << 10}}, Shift: 10, Bits: 16},
		"fractional bits":   {Blocks: 1, Weights: exact.Const{Rows: 2, Cols: 1, Data: []int32{1000, 1000}}, Shift: 0, Bits: 16},
		"1 biases for 2 co": {Blocks: 1, Weights: exact.Const{Rows: 1, Cols: 2, Data: []int32{1, 1}}, Bias: []int32{1}, Bits: 16},
	} {
		if _, err := l.Apply(p, x, 1<<20); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}

// pixel is an element of an image, zero in the padding.
func pixel(v []int32, im Image, c, y, x int) (e int32, ok bool) {
	if y < 0 || y >= im.Height || x < 0 || x >= im.Width {
		return 0, false
	}
	if im.Last {
		return v[(y*im.Width+x)*im.Channels+c], true
	}
	return v[(c*im.Height+y)*im.Width+x], true
}

func randomWindow(r *rand.Rand) Window {
	w := Window{
		Kernel:   [2]int{1 + r.IntN(4), 1 + r.IntN(4)},
		Stride:   [2]int{1 + r.IntN(3), 1 + r.IntN(3)},
		Dilation: [2]int{1 + r.IntN(2), 1 + r.IntN(2)},
	}
	for i := range w.Pad {
		w.Pad[i] = r.IntN(w.Kernel[i%2])
	}
	return w
}

// TestConvolve compares with the four loops of the definition.
func TestConvolve(t *testing.T) {
	done := 0
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 2))
		groups := 1 + r.IntN(3)
		im := Image{groups * (1 + r.IntN(3)), 1 + r.IntN(9), 1 + r.IntN(9), r.IntN(2) == 0}
		w := randomWindow(r)
		outs := groups * (1 + r.IntN(10))
		in, area := im.Channels/groups, w.Kernel[0]*w.Kernel[1]
		l := Linear{Weights: exact.Const{Rows: outs, Cols: in * area, Data: random(r, outs*in*area, 127)}, Bias: random(r, outs, 1<<12), Shift: 5, Bits: 20}
		p := &exact.Program{Rows: 3}
		x := p.Op(exact.Input, nil, nil, int64(im.Columns()), -128, 127)
		y, out, err := w.Convolve(p, x, im, groups, l, 128)
		if err != nil {
			if !strings.Contains(err.Error(), "larger than the image") {
				t.Fatalf("seed %d: %v", seed, err)
			}
			continue
		}
		done++
		rows := [][]int32{random(r, im.Columns(), 127), random(r, im.Columns(), 127)}
		got := run(t, p, y, rows)
		for n, v := range rows {
			for m := range outs {
				for py := range out.Height {
					for px := range out.Width {
						sum := int64(l.Bias[m])
						for c := range in {
							for ky := range w.Kernel[0] {
								for kx := range w.Kernel[1] {
									e, _ := pixel(v, im, m/(outs/groups)*in+c, py*w.Stride[0]-w.Pad[0]+ky*w.Dilation[0], px*w.Stride[1]-w.Pad[1]+kx*w.Dilation[1])
									sum += int64(e) * int64(l.Weights.Data[(m*in+c)*area+ky*w.Kernel[1]+kx])
								}
							}
						}
						want := int64(math.Floor(float64(sum)/32 + 0.5))
						if e, _ := pixel(got[n], out, m, py, px); int64(e) != want {
							t.Fatalf("seed %d: image %d, channel %d at %d, %d: %d, want %d", seed, n, m, py, px, e, want)
						}
					}
				}
			}
		}
	}
	if done < 40 {
		t.Errorf("only %d convolutions were possible", done)
	}
	big := Image{64, 512, 512, false}
	if _, _, err := (Window{[2]int{3, 3}, [2]int{1, 1}, [2]int{1, 1}, [4]int{}}).Convolve(&exact.Program{Rows: 1}, 0, big, 1, Linear{Weights: exact.Const{Rows: 1, Cols: 576}}, 1); err == nil {
		t.Error("convolved an image of 16 million elements")
	}
}

// TestPool compares the pools with their definitions.
func TestPool(t *testing.T) {
	done := 0
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 3))
		im := Image{1 + r.IntN(4), 1 + r.IntN(9), 1 + r.IntN(9), r.IntN(2) == 0}
		w := randomWindow(r)
		const most = 1 << 15
		input := func() (*exact.Program, exact.Value) {
			p := &exact.Program{Rows: 2}
			return p, p.Op(exact.Input, nil, nil, int64(im.Columns()), -most, most)
		}
		rows := [][]int32{random(r, im.Columns(), most), random(r, im.Columns(), most)}
		p, x := input()
		y, out, err := w.MaxPool(p, x, im)
		if err != nil {
			continue // too large, or windows in the padding
		}
		done++
		greatest := run(t, p, y, rows)
		for _, padded := range []bool{false, true} {
			p, x = input()
			y, same, err := w.AveragePool(p, x, im, padded, most)
			if err != nil || same != out {
				t.Fatalf("seed %d: %v", seed, err)
			}
			means := run(t, p, y, rows)
			for n, v := range rows {
				for c := range im.Channels {
					for py := range out.Height {
						for px := range out.Width {
							top, sum, count := int32(math.MinInt32), 0.0, 0.0
							for ky := range w.Kernel[0] {
								for kx := range w.Kernel[1] {
									e, ok := pixel(v, im, c, py*w.Stride[0]-w.Pad[0]+ky*w.Dilation[0], px*w.Stride[1]-w.Pad[1]+kx*w.Dilation[1])
									if ok {
										top = max(top, e)
										sum += float64(e)
									}
									if ok || padded {
										count++
									}
								}
							}
							if e, _ := pixel(greatest[n], out, c, py, px); e != top {
								t.Fatalf("seed %d: greatest is %d, want %d", seed, e, top)
							}
							// Two roundings, and a factor of at least 9 bits.
							if e, _ := pixel(means[n], out, c, py, px); math.Abs(float64(e)-sum/count) > 1.01+math.Abs(sum/count)/512 {
								t.Fatalf("seed %d: mean is %d, want %g", seed, e, sum/count)
							}
						}
					}
				}
			}
		}
	}
	if done < 40 {
		t.Errorf("only %d pools were possible", done)
	}
	p := &exact.Program{Rows: 1}
	x := p.Op(exact.Input, nil, nil, 4, 0, 9)
	if _, _, err := (Window{[2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}, [4]int{1, 1, 1, 1}}).MaxPool(p, x, Image{1, 2, 2, false}); err == nil {
		t.Error("took the greatest of nothing")
	}
}

// TestSoftmax compares with floats, on even and on very uneven rows.
func TestSoftmax(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 4))
		cols, inFrac, frac := 1+r.IntN(300), r.IntN(14), 8+r.IntN(7)
		most := int64(40) << inFrac
		p := &exact.Program{Rows: 1}
		x := p.Op(exact.Input, nil, nil, int64(cols), -most, most)
		y, err := Softmax(p, x, cols, inFrac, frac, most)
		if err != nil {
			t.Fatal(err)
		}
		in := random(r, cols, max(1, most>>r.IntN(6)))
		out := run(t, p, y, [][]int32{in})[0]
		var sum float64
		top := math.Inf(-1)
		for _, e := range in {
			top = max(top, math.Ldexp(float64(e), -inFrac))
		}
		for _, e := range in {
			sum += math.Exp(math.Ldexp(float64(e), -inFrac) - top)
		}
		for j, e := range in {
			want := math.Exp(math.Ldexp(float64(e), -inFrac)-top) / sum
			if got := math.Ldexp(float64(out[j]), -frac); math.Abs(got-want) > math.Ldexp(0.5, -frac)+1.0/(1<<14) {
				t.Fatalf("seed %d: %d columns, %d bits: %g, want %g", seed, cols, inFrac, got, want)
			}
		}
	}
}

// randomTree grows a tree; leaves are at several depths.
func randomTree(r *rand.Rand, features, depth, outputs int, most int64) Tree {
	var tree Tree
	var grow func(depth int) int
	grow = func(depth int) int {
		at := len(tree)
		if depth == 0 || r.IntN(6) == 0 {
			tree = append(tree, Node{Values: random(r, outputs, 1000)})
			return at
		}
		tree = append(tree, Node{Feature: r.IntN(features), Threshold: int32(r.Int64N(2*most+1) - most)})
		left := grow(depth - 1)
		right := grow(depth - 1)
		tree[at].Left, tree[at].Right = left, right
		return at
	}
	grow(depth)
	return tree
}

// TestForest compares with walking down the trees.
func TestForest(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		features, outputs := 1+r.IntN(10), 1+r.IntN(4)
		most := int64(1) << (1 + r.IntN(20)) // narrow ones by a table, wide ones by sign
		var trees []Tree
		for range 1 + r.IntN(30) {
			trees = append(trees, randomTree(r, features, r.IntN(7), outputs, most))
		}
		p := &exact.Program{Rows: 20}
		x := p.Op(exact.Input, nil, nil, int64(features), -most, most)
		y, err := Forest(p, x, features, exact.Range{Lo: -most, Hi: most}, trees, outputs)
		if err != nil {
			t.Fatal(err)
		}
		var rows [][]int32
		for range 20 {
			v := random(r, features, most)
			tree := trees[r.IntN(len(trees))]
			if n := tree[r.IntN(len(tree))]; n.Values == nil {
				v[n.Feature] = n.Threshold // the edge
			}
			rows = append(rows, v)
		}
		got := run(t, p, y, rows)
		for i, v := range rows {
			want := make([]int32, outputs)
			for _, tree := range trees {
				n := 0
				for tree[n].Values == nil {
					if v[tree[n].Feature] <= tree[n].Threshold {
						n = tree[n].Left
					} else {
						n = tree[n].Right
					}
				}
				for j, e := range tree[n].Values {
					want[j] += e
				}
			}
			for j := range want {
				if got[i][j] != want[j] {
					t.Fatalf("seed %d: row %d, output %d: %d, want %d", seed, i, j, got[i][j], want[j])
				}
			}
		}
	}
	for _, tree := range []Tree{
		{{Feature: 0, Left: 0, Right: 0}},
		{{Feature: 0, Left: 1, Right: 1}, {Values: []int32{1}}},
		{{Feature: 1, Left: 1, Right: 2}, {Values: []int32{1}}, {Values: []int32{1}}},
		{{Feature: 0, Left: 1, Right: 3}, {Values: []int32{1}}, {Values: []int32{1}}},
		{{Feature: 0, Left: 1, Right: 2}, {Values: []int32{1, 2}}, {Values: []int32{1}}},
		{{Feature: 0, Left: 1, Right: 2, Threshold: math.MinInt32}, {Values: []int32{1}}, {Values: []int32{1}}},
		{},
	} {
		if _, err := Forest(&exact.Program{Rows: 1}, 0, 1, exact.Range{Hi: 9}, []Tree{tree}, 1); err == nil {
			t.Errorf("accepted %v", tree)
		}
	}
}

// FuzzWindow builds convolutions and pools of any shape: what is built passes
// Check, and what is refused costs nothing.
func FuzzWindow(f *testing.F) {
	f.Add(3, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4, true)
	f.Add(4, 9, 7, 2, 3, 2, 1, 2, 1, 0, 2, 1, 0, 2, false)
	f.Add(1<<18, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1<<18, false)
	f.Add(1, 1, 1, 1<<18, 1<<18, 1, 1, 1, 1, 1<<17, 1<<17, 1<<17, 1<<17, 1, true)
	f.Fuzz(func(t *testing.T, channels, height, width, ky, kx, sy, sx, dy, dx, top, left, bottom, right, groups int, last bool) {
		im := Image{channels, height, width, last}
		w := Window{[2]int{ky, kx}, [2]int{sy, sx}, [2]int{dy, dx}, [4]int{top, left, bottom, right}}
		const most = 127
		build := func(add func(p *exact.Program, x exact.Value) (exact.Value, Image, error)) {
			p := &exact.Program{Rows: 1}
			x := p.Op(exact.Input, nil, nil, int64(im.Channels)*int64(im.Height)*int64(im.Width), -most, most)
			y, out, err := add(p, x)
			if err != nil {
				return
			}
			p.Outputs = []exact.Value{y}
			facts, err := p.Check()
			if err != nil {
				t.Fatalf("%+v over %+v is built but refused: %v", w, im, err)
			}
			if facts[y].Cols != out.Columns() {
				t.Fatalf("%+v over %+v has %d columns, want %d", w, im, facts[y].Cols, out.Columns())
			}
		}
		build(func(p *exact.Program, x exact.Value) (exact.Value, Image, error) { return w.MaxPool(p, x, im) })
		build(func(p *exact.Program, x exact.Value) (exact.Value, Image, error) {
			return w.AveragePool(p, x, im, last, most)
		})
		weights := int64(ky) * int64(kx) * int64(channels)
		if groups < 1 || groups > 64 || weights < 1 || weights > 1<<12 || channels > 1<<12 || ky > 64 || kx > 64 {
			return
		}
		outs := 2 * groups
		n := channels / groups * ky * kx
		l := Linear{Weights: exact.Const{Rows: outs, Cols: n, Data: make([]int32, outs*n)}, Bits: 8}
		build(func(p *exact.Program, x exact.Value) (exact.Value, Image, error) {
			return w.Convolve(p, x, im, groups, l, most)
		})
	})
}

// TestNorms compares the three norms with floats.
func TestNorms(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 6))
		d := 8 + r.IntN(500)
		const most, frac = 1 << 16, 12
		p := &exact.Program{Rows: 1}
		x := p.Op(exact.Input, nil, nil, int64(d), -most, most)
		roots, rootFrac := InverseRoots(d)
		lengths, lengthFrac := InverseLengths()
		in := random(r, d, most>>r.IntN(4))
		in[0] = -in[0] // not all the same
		var mean, squares, variance float64
		for _, e := range in {
			mean += float64(e) / float64(d)
			squares += float64(e) * float64(e)
		}
		for _, e := range in {
			variance += (float64(e) - mean) * (float64(e) - mean) / float64(d)
		}
		for _, c := range []struct {
			name  string
			y     exact.Value
			float func(e float64) float64
		}{
			{"layernorm", p.Op(exact.LayerNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, int64(rootFrac-frac)),
				func(e float64) float64 { return (e - mean) / math.Sqrt(variance) }},
			{"rmsnorm", p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, int64(rootFrac-frac)),
				func(e float64) float64 { return e / math.Sqrt(squares/float64(d)) }},
			{"length", p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(lengths), lengths)}, normKeyLo, int64(lengthFrac-frac)),
				func(e float64) float64 { return e / math.Sqrt(squares) }},
		} {
			for j, y := range run(t, p, c.y, [][]int32{in})[0] {
				want := c.float(float64(in[j]))
				if got := math.Ldexp(float64(y), -frac); math.Abs(got-want) > math.Ldexp(0.5, -frac)+math.Abs(want)/2000+2/math.Sqrt(variance) {
					t.Fatalf("seed %d: %s of %d is %g, want %g", seed, c.name, in[j], got, want)
				}
			}
		}
	}
}

// TestLogistic: a logistic regression is a Linear and a table.
func TestLogistic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	const features, frac, weightFrac = 30, 8, 10
	l := Linear{Blocks: 1, Weights: exact.Const{Rows: features, Cols: 1, Data: random(r, features, 2<<weightFrac)}, Bias: []int32{-3 << (frac + weightFrac)}, Shift: weightFrac, Bits: 13}
	p := &exact.Program{Rows: 50}
	x := p.Op(exact.Input, nil, nil, features, -1<<frac, 1<<frac)
	score, err := l.Apply(p, x, 1<<frac)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Tabulate(Sigmoid, -1<<12, 1<<13, frac, 14, 16)
	if err != nil {
		t.Fatal(err)
	}
	y := p.Op(exact.Table, []exact.Value{score}, []int{p.Const(1, len(table), table)}, -1<<12)
	var rows [][]int32
	for range 50 {
		rows = append(rows, random(r, features, 1<<frac))
	}
	for i, out := range run(t, p, y, rows) {
		sum := -3.0
		for j, e := range rows[i] {
			sum += math.Ldexp(float64(e)*float64(l.Weights.Data[j]), -frac-weightFrac)
		}
		want := 1 / (1 + math.Exp(-sum))
		if got := math.Ldexp(float64(out[0]), -14); math.Abs(got-want) > 0.0006 {
			t.Errorf("row %d: probability %g, want %g", i, got, want)
		}
	}
}
