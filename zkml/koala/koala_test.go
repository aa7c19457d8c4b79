package koala

import (
	"fmt"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// The oracle is math/big: integers modulo p and polynomials modulo v^4-3.

var bigP = big.NewInt(P)

func edge(r *rand.Rand) Elem {
	switch r.IntN(6) {
	case 0:
		return Elem(r.IntN(3))
	case 1:
		return Elem(P - 1 - r.IntN(3))
	case 2:
		return FromInt(int64(r.IntN(5)) - 2)
	}
	return Elem(r.IntN(P))
}

func edgeExt(r *rand.Rand) Ext { return Ext{edge(r), edge(r), edge(r), edge(r)} }

func bigOf(x Elem) *big.Int { return big.NewInt(int64(x.Uint())) }

func (x Ext) coords() [4]Elem { return [4]Elem{x.A, x.B, x.C, x.D} }

func TestField(t *testing.T) {
	if !bigP.ProbablyPrime(64) {
		t.Fatal("p is not prime")
	}
	if new(big.Int).Mod(new(big.Int).Lsh(big.NewInt(1), 64), bigP).Int64() != rSquared {
		t.Fatal("2^64 mod p is wrong")
	}
	// With p = 1 mod 4 this makes v^4-3 irreducible.
	if FromInt(3).Exp((P-1)/2) == One {
		t.Fatal("3 is a square")
	}
	r := rand.New(rand.NewPCG(1, 1))
	mod := func(x *big.Int) uint32 { return uint32(new(big.Int).Mod(x, bigP).Int64()) }
	for range 20000 {
		x, y := edge(r), edge(r)
		if got, want := x.Add(y).Uint(), mod(new(big.Int).Add(bigOf(x), bigOf(y))); got != want {
			t.Fatalf("%d + %d = %d, want %d", x.Uint(), y.Uint(), got, want)
		}
		if got, want := x.Sub(y).Uint(), mod(new(big.Int).Sub(bigOf(x), bigOf(y))); got != want {
			t.Fatalf("%d - %d = %d, want %d", x.Uint(), y.Uint(), got, want)
		}
		if got, want := x.Mul(y).Uint(), mod(new(big.Int).Mul(bigOf(x), bigOf(y))); got != want {
			t.Fatalf("%d * %d = %d, want %d", x.Uint(), y.Uint(), got, want)
		}
		if x != 0 && x.Mul(x.Inv()) != One {
			t.Fatalf("inverse of %d", x.Uint())
		}
		if FromInt(x.Int()) != x || FromInt(int64(x.Uint())) != x || uint32(x) >= P {
			t.Fatalf("%d does not survive a round trip", x.Uint())
		}
		i := int64(r.Uint64())
		if got, want := FromInt(i).Uint(), mod(big.NewInt(i)); got != want {
			t.Fatalf("%d mod p = %d, want %d", i, got, want)
		}
		s := int32(r.Int64N(2*P-1) - P + 1)
		if FromSmall(s) != FromInt(int64(s)) {
			t.Fatalf("small %d", s)
		}
	}
}

func TestExt(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 5000 {
		x, y := edgeExt(r), edgeExt(r)
		var want [4]*big.Int
		for i := range want {
			want[i] = new(big.Int)
		}
		for i, a := range x.coords() {
			for j, b := range y.coords() {
				p := new(big.Int).Mul(bigOf(a), bigOf(b))
				if i+j >= 4 {
					p.Mul(p, big.NewInt(3))
				}
				want[(i+j)%4].Add(want[(i+j)%4], p)
			}
		}
		for i, g := range x.Mul(y).coords() {
			if w := new(big.Int).Mod(want[i], bigP); bigOf(g).Cmp(w) != 0 {
				t.Fatalf("coordinate %d of a product", i)
			}
		}
		if x != (Ext{}) && x.Mul(x.Inv()) != ExtOne {
			t.Fatalf("inverse of %v", x)
		}
		if x.Add(y).Sub(y) != x || x.Neg().Add(x) != (Ext{}) {
			t.Fatal("sums")
		}
		if x.Scale(y.A) != x.Mul(Lift(y.A)) {
			t.Fatal("scaling")
		}
		if x.Exp(5) != x.Mul(x).Mul(x).Mul(x).Mul(x) {
			t.Fatal("power")
		}
		if d, err := DecodeExt(x.Append(nil)); err != nil || d != x {
			t.Fatal("encoding")
		}
	}
	for i := range 4 {
		b := make([]byte, 16)
		copy(b[4*i:], []byte{1, 0, 0, 0x7f}) // p
		if _, err := DecodeExt(b); err == nil {
			t.Errorf("coordinate %d may be p", i)
		}
	}
}

// TestVectors compares every vector operation with its definition on scalars,
// for lengths around the widths of vector registers.
func TestVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	random := func(n int) (Vec, []Elem) {
		v, e := NewVec(n), make([]Elem, n)
		for i := range n {
			v.Set(i, edgeExt(r))
			e[i] = edge(r)
		}
		return v, e
	}
	for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 1000} {
		for range 5 {
			a, ea := random(n)
			b, eb := random(n)
			x := edgeExt(r)
			each := func(name string, dst Vec, want func(i int) Ext) {
				t.Helper()
				for i := range n {
					if dst.At(i) != want(i) {
						t.Fatalf("%s of %d: element %d", name, n, i)
					}
				}
			}
			dst := NewVec(n)
			AddVec(dst, a, b)
			each("sum", dst, func(i int) Ext { return a.At(i).Add(b.At(i)) })
			SubVec(dst, a, b)
			each("difference", dst, func(i int) Ext { return a.At(i).Sub(b.At(i)) })
			MulVec(dst, a, b)
			each("product", dst, func(i int) Ext { return a.At(i).Mul(b.At(i)) })
			ScaleVec(dst, a, x)
			each("scale", dst, func(i int) Ext { return a.At(i).Mul(x) })
			Fold(dst, a, b, x)
			each("fold", dst, func(i int) Ext { return a.At(i).Add(x.Mul(b.At(i).Sub(a.At(i)))) })
			wa, wb := append([]Elem(nil), ea...), append([]Elem(nil), eb...)
			butterfly(wa, wb, a[0])
			for i := range n {
				if p := eb[i].Mul(a[0][i]); wa[i] != ea[i].Add(p) || wb[i] != ea[i].Sub(p) {
					t.Fatalf("butterfly of %d: element %d", n, i)
				}
			}
			MulElems(wa, ea, eb)
			for i := range n {
				if wa[i] != ea[i].Mul(eb[i]) {
					t.Fatalf("product of %d: element %d", n, i)
				}
			}
			dst.Copy(b)
			AddScaled(dst, ea, x)
			each("scaled sum", dst, func(i int) Ext { return b.At(i).Add(x.Mul(Lift(ea[i]))) })
			SubFrom(dst, x, ea)
			each("constant less elements", dst, func(i int) Ext { return x.Sub(Lift(ea[i])) })
			y := edgeExt(r)
			for m := range 10 {
				terms := make([]Scaled, m)
				for k := range terms {
					_, e := random(n)
					terms[k] = Scaled{e, edgeExt(r)}
				}
				Combine(dst, y, terms...)
				each(fmt.Sprintf("combination of %d", m), dst, func(i int) Ext {
					s := y
					for _, t := range terms {
						s = s.Add(t.X.Mul(Lift(t.A[i])))
					}
					return s
				})
			}
			other := NewVec(n)
			Pairs(dst, other, x, ea, y, eb)
			each("sum of denominators", dst, func(i int) Ext { return x.Add(y).Sub(Lift(ea[i])).Sub(Lift(eb[i])) })
			each("product of denominators", other, func(i int) Ext { return x.Sub(Lift(ea[i])).Mul(y.Sub(Lift(eb[i]))) })
			c, _ := random(n)
			d, _ := random(n)
			AddFractions(dst, other, a, b, c, d)
			each("sum of fractions", dst, func(i int) Ext { return a.At(i).Mul(d.At(i)).Add(c.At(i).Mul(b.At(i))) })
			each("its denominator", other, func(i int) Ext { return b.At(i).Mul(d.At(i)) })
			inverse := func(i int) Ext { return y.Sub(Lift(eb[i])) }
			AddInverse(dst, other, ea, a, y, eb)
			each("sum with an inverse", dst, func(i int) Ext { return a.At(i).Add(inverse(i).Scale(ea[i])) })
			each("its denominator", other, func(i int) Ext { return a.At(i).Mul(inverse(i)) })
			AddInverse(dst, other, nil, a, y, eb)
			each("sum of inverses", dst, func(i int) Ext { return a.At(i).Add(inverse(i)) })
			each("its denominator", other, func(i int) Ext { return a.At(i).Mul(inverse(i)) })
			var lo, hi [4]Vec
			for k := range lo {
				lo[k], _ = random(n)
				hi[k], _ = random(n)
			}
			var zero, top Ext
			for i := range n {
				d := func(k int) Ext { return hi[k].At(i).Sub(lo[k].At(i)) }
				zero = zero.Add(a.At(i).Mul(lo[0].At(i).Mul(lo[1].At(i)).Add(lo[2].At(i).Mul(lo[3].At(i)))))
				top = top.Add(a.At(i).Mul(d(0).Mul(d(1)).Add(d(2).Mul(d(3)))))
			}
			if z, u := QuadraticSums(a, &lo, &hi); z != zero || u != top {
				t.Fatalf("quadratic sums of %d", n)
			}
			lo[3], hi[3] = Vec{}, Vec{}
			zero, top = Ext{}, Ext{}
			for i := range n {
				d := func(k int) Ext { return hi[k].At(i).Sub(lo[k].At(i)) }
				zero = zero.Add(a.At(i).Mul(lo[0].At(i).Mul(lo[1].At(i)).Add(lo[2].At(i))))
				top = top.Add(a.At(i).Mul(d(0).Mul(d(1))))
			}
			if z, u := QuadraticSums(a, &lo, &hi); z != zero || u != top {
				t.Fatalf("quadratic sums of %d with a factor 1", n)
			}
			dst.Fill(x)
			each("constant", dst, func(i int) Ext { return x })
			dst.Copy(b)
			AddProduct(dst, a, x)
			each("sum of scaled", dst, func(i int) Ext { return b.At(i).Add(x.Mul(a.At(i))) })
			dst.Copy(a)
			MulVec(dst, dst, b)
			each("product in place", dst, func(i int) Ext { return a.At(i).Mul(b.At(i)) })
			dst.Copy(a)
			Fold(dst, dst, b, x)
			each("fold in place", dst, func(i int) Ext { return a.At(i).Add(x.Mul(b.At(i).Sub(a.At(i)))) })
			var dot, dotE, sum Ext
			for i := range n {
				dot = dot.Add(a.At(i).Mul(b.At(i)))
				dotE = dotE.Add(a.At(i).Scale(eb[i]))
				sum = sum.Add(a.At(i))
			}
			if Dot(a, b) != dot || DotElems(a, eb) != dotE || Sum(a) != sum {
				t.Fatalf("dot products of %d", n)
			}
		}
	}
}

// TestLongDot drives the accumulators as far as a proof does.
func TestLongDot(t *testing.T) {
	n := 1 << 16
	v, e := NewVec(n), make([]Elem, n)
	for i := range n {
		v.Set(i, Ext{P - 1, P - 1, P - 1, P - 1})
		e[i] = P - 1
	}
	m := Elem(P - 1)
	want := m.Mul(m).Mul(FromInt(int64(n)))
	if got := DotElems(v, e); got != (Ext{want, want, want, want}) {
		t.Fatalf("got %v, want %v", got, want)
	}
	zero := NewVec(n)
	square := v.At(0).Mul(v.At(0))
	twice := square.Add(square)
	sum := twice.Mul(v.At(0)).Scale(FromInt(int64(n)))
	lo, hi := [4]Vec{v, v, v, v}, [4]Vec{zero, zero, zero, zero}
	if z, _ := QuadraticSums(v, &lo, &hi); z != sum {
		t.Fatalf("got %v, want %v", z, sum)
	}
	if z, u := QuadraticSums(v, &hi, &lo); z != (Ext{}) || u != sum {
		t.Fatalf("got %v and %v, want 0 and %v", z, u, sum)
	}
	p, q := NewVec(n), NewVec(n)
	AddFractions(p, q, v, v, v, v)
	if p.At(0) != twice || q.At(0) != square {
		t.Fatalf("got %v and %v, want %v and %v", p.At(0), q.At(0), twice, square)
	}
	x := Ext{m, m, m, m}
	cube := x.Mul(x).Mul(x).Scale(FromInt(2 * int64(n)))
	if zero, top := QuadraticSums(v, &[4]Vec{v, v, v, v}, &[4]Vec{NewVec(n), NewVec(n), NewVec(n), NewVec(n)}); zero != cube || top != cube {
		t.Fatal("quadratic sums")
	}
	if got := Dot(v, v); got != x.Mul(x).Scale(FromInt(int64(n))) {
		t.Fatal("dot")
	}
}

func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for k := range 10 {
		for m := 0; m <= k; m++ {
			src, dst := make([]Elem, 1<<m), make([]Elem, 1<<k)
			for i := range src {
				src[i] = edge(r)
			}
			Encode(dst, src)
			w := Root(k)
			for i, got := range dst {
				x := w.Exp(uint64(i))
				var want Elem
				for b, c := range src {
					e := uint64(0)
					if m > 0 {
						e = bits.Reverse64(uint64(b)) >> (64 - m)
					}
					want = want.Add(c.Mul(x.Exp(e)))
				}
				if got != want {
					t.Fatalf("%d to %d: element %d", 1<<m, 1<<k, i)
				}
			}
		}
	}
	// Sizes beyond what is done in registers and in the cache.
	for _, c := range [][2]int{{5, 7}, {6, 7}, {7, 7}, {6, 10}, {5, 11}, {9, 12}, {11, 13}, {12, 14}, {11, 15}, {13, 15}, {0, 14}, {14, 14}} {
		src, dst := make([]Elem, 1<<c[0]), make([]Elem, 1<<c[1])
		for i := range src {
			src[i] = edge(r)
		}
		// And with more and more of zeros.
		for range 4 {
			Encode(dst, src)
			for range 10 {
				i := r.IntN(len(dst))
				if dst[i] != valueOf(src, Root(c[1]).Exp(uint64(i))) {
					t.Fatalf("2^%d to 2^%d: element %d", c[0], c[1], i)
				}
			}
			clear(src[len(src)/4*r.IntN(4):])
		}
	}
	if Root(TwoAdicity).Exp(1<<(TwoAdicity-1)) != FromInt(-1) || Root(1) != FromInt(-1) || Root(0) != One {
		t.Error("roots of unity")
	}
}

// valueOf evaluates a polynomial with coefficients in Encode's order.
func valueOf(src []Elem, x Elem) Elem {
	var sum Elem
	m := bits.Len(uint(len(src))) - 1
	for b := range src {
		sum = sum.Mul(x).Add(src[bits.Reverse64(uint64(len(src)-1-b))>>(64-m)])
	}
	return sum
}

// TestEncodeAt compares with the whole encoding, at sizes around those of vectors
// and parts, and with all elements as large as they can be.
func TestEncodeAt(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, c := range [][2]int{{0, 0}, {3, 5}, {8, 10}, {9, 11}, {8, 11}, {10, 11}, {10, 12}, {12, 14}, {10, 14}} {
		for _, queries := range []int{0, 1, 31, 32, 33, 93} {
			src, dst := make([][]Elem, 1+r.IntN(4)), make([][]Elem, 0)
			for i := range src {
				src[i] = make([]Elem, 1<<c[0])
				for j := range src[i] {
					src[i][j] = edge(r)
					if i == 0 {
						src[i][j] = P - 1
					}
				}
				if i > 1 {
					clear(src[i][:len(src[i])/i])
				}
				dst = append(dst, make([]Elem, queries))
			}
			indices := make([]int, queries)
			for i := range indices {
				indices[i] = r.IntN(1 << c[1])
			}
			EncodeAt(dst, src, c[1], indices)
			code := make([]Elem, 1<<c[1])
			for i := range src {
				Encode(code, src[i])
				for j, at := range indices {
					if dst[i][j] != code[at] {
						t.Fatalf("2^%d to 2^%d: row %d, element %d", c[0], c[1], i, at)
					}
				}
			}
		}
	}
}

func BenchmarkMulVec(b *testing.B) {
	x, y := NewVec(1024), NewVec(1024)
	x.Fill(Ext{1, 2, 3, 4})
	y.Fill(Ext{5, 6, 7, 8})
	for b.Loop() {
		MulVec(x, x, y)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/element")
}

func BenchmarkFold(b *testing.B) {
	x, y := NewVec(1024), NewVec(1024)
	for b.Loop() {
		Fold(x, x, y, Ext{1, 2, 3, 4})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/element")
}

func BenchmarkDotElems(b *testing.B) {
	x := NewVec(1024)
	for b.Loop() {
		DotElems(x, x[0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/element")
}

// BenchmarkEncode and BenchmarkEncodeAt are of a row of a column of 2^18 elements.
func BenchmarkEncode(b *testing.B) {
	src, dst := make([]Elem, 1<<15), make([]Elem, 1<<17)
	for i := range src {
		src[i] = Elem(i)
	}
	for b.Loop() {
		Encode(dst, src)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(dst)), "ns/element")
}

func BenchmarkEncodeAt(b *testing.B) {
	src, dst, indices := make([][]Elem, 40), make([][]Elem, 40), make([]int, 93)
	for i := range src {
		src[i], dst[i] = make([]Elem, 1<<15), make([]Elem, len(indices))
	}
	for i := range indices {
		indices[i] = i * 1409
	}
	for b.Loop() {
		EncodeAt(dst, src, 17, indices)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(src)), "ns/row")
}
