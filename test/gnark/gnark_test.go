// Package gnark compares the arithmetic of zkml/koala with gnark-crypto's, which
// others wrote, audited and use. It is a module of its own, because gnark-crypto
// would move versions of libraries that the ledger needs as they are.
package gnark

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/consensys/gnark-crypto/field/koalabear"
	"github.com/consensys/gnark-crypto/field/koalabear/extensions"

	"github.com/torg-network/torg/zkml/koala"
)

// lengths are around and far beyond the widths of vector registers.
var lengths = []int{1, 15, 16, 17, 31, 32, 33, 100, 1000, 4096}

// random is an element in both forms, often at an edge.
func random(r *rand.Rand) (koala.Elem, koalabear.Element) {
	x := r.Int64N(koala.P)
	if r.IntN(4) == 0 {
		x = []int64{0, 1, 2, koala.P - 1, koala.P - 2, koala.P / 2}[r.IntN(6)]
	}
	var e koalabear.Element
	e.SetInt64(x)
	return koala.FromInt(x), e
}

// ext is an element of the extension in both forms. Ours is A + B v + C v^2 +
// D v^3 with v^4 = 3, theirs (A0 + A1 u) + (A0' + A1' u) v with v^2 = u.
func ext(r *rand.Rand) (x koala.Ext, e extensions.E4) {
	x.A, e.B0.A0 = random(r)
	x.B, e.B1.A0 = random(r)
	x.C, e.B0.A1 = random(r)
	x.D, e.B1.A1 = random(r)
	return x, e
}

func same(x koala.Elem, e koalabear.Element) bool { return uint64(x.Uint()) == e.Uint64() }

func sameExt(x koala.Ext, e extensions.E4) bool {
	return same(x.A, e.B0.A0) && same(x.B, e.B1.A0) && same(x.C, e.B0.A1) && same(x.D, e.B1.A1)
}

func TestElements(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		x, a := random(r)
		y, b := random(r)
		var sum, difference, product, inverse, power koalabear.Element
		sum.Add(&a, &b)
		difference.Sub(&a, &b)
		product.Mul(&a, &b)
		inverse.Inverse(&a)
		n := r.Uint32()
		power.SetOne()
		for i := 31; i >= 0; i-- {
			power.Square(&power)
			if n>>i&1 == 1 {
				power.Mul(&power, &a)
			}
		}
		if !same(x.Add(y), sum) || !same(x.Sub(y), difference) || !same(x.Mul(y), product) || !same(x.Inv(), inverse) || !same(x.Exp(uint64(n)), power) {
			t.Fatalf("%d and %d", x.Uint(), y.Uint())
		}
	}
}

func TestExtension(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		x, a := ext(r)
		y, b := ext(r)
		var sum, difference, product, inverse extensions.E4
		sum.Add(&a, &b)
		difference.Sub(&a, &b)
		product.Mul(&a, &b)
		inverse.Inverse(&a)
		if !sameExt(x.Add(y), sum) || !sameExt(x.Sub(y), difference) || !sameExt(x.Mul(y), product) || !sameExt(x.Inv(), inverse) {
			t.Fatalf("%v and %v", x, y)
		}
	}
}

// TestVectors compares the kernels of vectors.
func TestVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for _, n := range lengths {
		x, y, out := koala.NewVec(n), koala.NewVec(n), koala.NewVec(n)
		a, b := make([]extensions.E4, n), make([]extensions.E4, n)
		base, elems := make([]koala.Elem, n), make([]koalabear.Element, n)
		for i := range n {
			var e koala.Ext
			e, a[i] = ext(r)
			x.Set(i, e)
			e, b[i] = ext(r)
			y.Set(i, e)
			base[i], elems[i] = random(r)
		}
		k, c := ext(r)
		check := func(name string, want func(i int) extensions.E4) {
			t.Helper()
			for i := range n {
				if !sameExt(out.At(i), want(i)) {
					t.Fatalf("%s of %d: element %d", name, n, i)
				}
			}
		}
		koala.MulVec(out, x, y)
		check("product", func(i int) (e extensions.E4) { return *e.Mul(&a[i], &b[i]) })
		koala.ScaleVec(out, x, k)
		check("multiple", func(i int) (e extensions.E4) { return *e.Mul(&a[i], &c) })
		koala.Fold(out, x, y, k)
		check("fold", func(i int) (e extensions.E4) { e.Sub(&b[i], &a[i]); e.Mul(&e, &c); return *e.Add(&e, &a[i]) })
		out.Copy(y)
		koala.AddScaled(out, base, k)
		check("scaled", func(i int) (e extensions.E4) { e.MulByElement(&c, &elems[i]); return *e.Add(&e, &b[i]) })
		koala.Combine(out, k, koala.Scaled{A: base, X: k})
		check("combination", func(i int) (e extensions.E4) { e.MulByElement(&c, &elems[i]); return *e.Add(&e, &c) })
		koala.SubFrom(out, k, base)
		check("difference", func(i int) extensions.E4 { e := c; e.B0.A0.Sub(&e.B0.A0, &elems[i]); return e })
		q := koala.NewVec(n)
		koala.AddFractions(out, q, x, y, y, x) // x/y + y/x
		check("sum of fractions", func(i int) (e extensions.E4) {
			var square extensions.E4
			e.Square(&a[i])
			square.Square(&b[i])
			return *e.Add(&e, &square)
		})
		var dot, dotElems, cubes, term extensions.E4
		for i := range n {
			dot.Add(&dot, term.Mul(&a[i], &b[i]))
			dotElems.Add(&dotElems, term.MulByElement(&a[i], &elems[i]))
			term.Mul(&a[i], &a[i])
			term.Mul(&term, &b[i])
			cubes.Add(&cubes, &term)
		}
		cubes.Double(&cubes)
		zero := koala.NewVec(n)
		lo, hi := [4]koala.Vec{x, x, x, x}, [4]koala.Vec{zero, zero, zero, zero}
		first, top := koala.QuadraticSums(y, &lo, &hi)
		if !sameExt(koala.Dot(x, y), dot) || !sameExt(koala.DotElems(x, base), dotElems) || !sameExt(first, cubes) || !sameExt(top, cubes) {
			t.Fatalf("sums of %d", n)
		}
		wa := make([]koala.Elem, n)
		koala.MulElems(wa, base, x[1])
		for i := range n {
			var e koalabear.Element
			if !same(wa[i], *e.Mul(&elems[i], &a[i].B1.A0)) {
				t.Fatalf("product of %d base elements", n)
			}
		}
	}
}

// TestEncode evaluates polynomials at some of the points of an encoding.
func TestEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	for _, size := range []struct{ coefficients, points int }{{0, 2}, {3, 5}, {7, 8}, {10, 12}, {10, 14}, {15, 17}} {
		n := 1 << size.coefficients
		src, coef := make([]koala.Elem, n), make([]koalabear.Element, n)
		for i := range src {
			// Index i is of the coefficient whose number has its bits reversed.
			rev := 0
			for b := range size.coefficients {
				rev |= i >> b & 1 << (size.coefficients - 1 - b)
			}
			src[i], coef[rev] = random(r)
		}
		dst := make([]koala.Elem, 1<<size.points)
		koala.Encode(dst, src)
		indices := make([]int, 0, 40)
		for range cap(indices) {
			indices = append(indices, r.IntN(len(dst)))
		}
		some := [][]koala.Elem{make([]koala.Elem, len(indices))}
		koala.EncodeAt(some, [][]koala.Elem{src}, size.points, indices)
		for k, i := range indices {
			var x, y koalabear.Element
			x.SetUint64(uint64(koala.Root(size.points).Exp(uint64(i)).Uint()))
			for j := n - 1; j >= 0; j-- {
				y.Mul(&y, &x)
				y.Add(&y, &coef[j])
			}
			if !same(dst[i], y) || !same(some[0][k], y) {
				t.Fatalf("2^%d coefficients at point %d of 2^%d", size.coefficients, i, size.points)
			}
		}
	}
}

// TestPaths repeats the other tests with fewer kernels.
func TestPaths(t *testing.T) {
	for _, off := range []string{"cpu.avx512f=off", "cpu.avx512f=off,cpu.avx2=off"} {
		cmd := exec.Command(os.Args[0], "-test.run", "TestElements|TestExtension|TestVectors|TestEncode")
		cmd.Env = append(os.Environ(), "GODEBUG="+off)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", off, err, out)
		}
	}
}
