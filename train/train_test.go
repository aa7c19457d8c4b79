package train

import (
	"math"
	"testing"
)

func near(a, b, tol float64) bool { return math.Abs(a-b) <= tol*(1+math.Abs(b)) }

// random fills v with numbers of deviation 1.
func random(seed uint64, n int) []float32 {
	r := rng(seed)
	v := make([]float32, n)
	for i := range v {
		v[i] = r.normal()
	}
	return v
}

func TestGradient(t *testing.T) {
	s := Shape{Layers: 2, Width: 12, Heads: 3, Context: 7}
	p, err := NewParams(s)
	if err != nil {
		t.Fatal(err)
	}
	p.initialise(3)
	for i, x := range random(5, len(p.Flat)) { // away from the small start: every path matters
		p.Flat[i] += 0.2 * x
	}
	g, _ := NewParams(s)
	a := newPass(p, newWorkers(), 2, 7)
	in, out := []byte("abcdefgABCDEFG"), []byte("bcdefghBCDEFGH")
	eval := func() float64 { a.forward(in); return a.loss(out) }
	eval()
	a.backward(g)
	pt, gt := p.tensors(), g.tensors()
	for i := range pt {
		// Along the gradient itself the derivative is its squared norm.
		var norm2 float64
		for _, x := range gt[i].data {
			norm2 += float64(x) * float64(x)
		}
		norm := math.Sqrt(norm2)
		if norm < 1e-4 {
			t.Errorf("%s: gradient %g is too small to test", pt[i].name, norm)
			continue
		}
		h := 4e-3
		shift := func(f float64) float64 {
			for j := range pt[i].data {
				pt[i].data[j] += float32(f * h * float64(gt[i].data[j]) / norm)
			}
			return eval()
		}
		up := shift(1)
		down := shift(-2)
		shift(1)
		got := (up - down) / (2 * h)
		if !near(got, norm, 2e-2) {
			t.Errorf("%s: slope %g, gradient %g", pt[i].name, got, norm)
		}
	}
}

func TestKernelsAgree(t *testing.T) {
	for _, k := range []int{0, 1, 7, 128, 700} {
		a, b := random(1, k*tileRows), random(2, k*tileCols)
		var want []float32
		for i := len(kernels) - 1; i >= 0; i-- {
			c := random(3, tileRows*40)
			kernels[i].run(k, a, b, c, 40)
			if want == nil {
				want = c
				continue
			}
			for j := range c {
				if math.Float32bits(c[j]) != math.Float32bits(want[j]) {
					t.Fatalf("k=%d: %s differs from generic at %d: %g, %g", k, kernels[i].name, j, c[j], want[j])
				}
			}
		}
	}
}

func TestMulMatchesDefinition(t *testing.T) {
	for _, n := range [][3]int{{1, 1, 1}, {9, 33, 5}, {8, 32, 16}, {30, 70, 13}} {
		m, n, k := n[0], n[1], n[2]
		for trans := range 4 {
			a, b := rowMajor(random(1, m*k), k), rowMajor(random(2, k*n), n)
			if trans&1 != 0 {
				a = rowMajor(a.data, m).t()
			}
			if trans&2 != 0 {
				b = rowMajor(b.data, k).t()
			}
			c := random(3, m*n)
			want := append([]float32(nil), c...)
			for i := range m {
				for j := range n {
					for p := range k {
						want[i*n+j] += float32(a.data[i*a.rs+p*a.cs] * b.data[p*b.rs+j*b.cs])
					}
				}
			}
			(&workers{3}).mul(c, n, a, b, m, n, k)
			for i := range c {
				if c[i] != want[i] {
					t.Fatalf("%dx%dx%d trans %d: element %d is %g, want %g", m, n, k, trans, i, c[i], want[i])
				}
			}
		}
	}
}

func TestElementary(t *testing.T) {
	for x := float32(-86); x < 87; x += 0.0137 {
		if got, want := float64(exp32(x)), math.Exp(float64(x)); math.Abs(got-want) > 3e-7*want {
			t.Fatalf("exp(%g) = %g, want %g", x, got, want)
		}
		if got, want := float64(tanh32(x)), math.Tanh(float64(x)); math.Abs(got-want) > 3e-7 {
			t.Fatalf("tanh(%g) = %g, want %g", x, got, want)
		}
	}
	for x := 0.0; x <= 1; x += 1.0 / 512 {
		if got, want := cosPi(x), math.Cos(math.Pi*x); math.Abs(got-want) > 1e-12 {
			t.Fatalf("cos(pi %g) = %g, want %g", x, got, want)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	p, _ := NewParams(Nano)
	g, _ := NewParams(Nano)
	p.initialise(1)
	a := newPass(p, newWorkers(), 8, 128)
	in := make([]byte, a.rows)
	for i := range in {
		in[i] = byte(i * 7)
	}
	for b.Loop() {
		a.forward(in)
		a.loss(in)
		a.backward(g)
	}
	b.ReportMetric(float64(b.N*a.rows)/b.Elapsed().Seconds(), "tok/s")
}
