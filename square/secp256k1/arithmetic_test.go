package secp256k1

import (
	"math/big"
	"math/rand/v2"
	"testing"

	dcrd "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

var (
	bigP, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", 16)
	bigN, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	two256  = new(big.Int).Lsh(big.NewInt(1), 256)
)

func bigOf(x [4]uint64) *big.Int {
	b := bytesOf(&x)
	return new(big.Int).SetBytes(b[:])
}

func to32(x *big.Int) (b [32]byte) {
	x.FillBytes(b[:])
	return b
}

// numbers are those at which limbs, carries and moduli turn, and random ones of all kinds.
func numbers(r *rand.Rand, n int) (out [][4]uint64) {
	for _, m := range []*big.Int{new(big.Int), two256, bigP, bigN, new(big.Int).Rsh(bigN, 1),
		new(big.Int).Sub(bigP, bigN), new(big.Int).Lsh(big.NewInt(1), 128), new(big.Int).Lsh(big.NewInt(1), 64),
		new(big.Int).Lsh(big.NewInt(1), 255), bigOf(fieldBeta), bigOf(base.x)} {
		for d := int64(-3); d <= 3; d++ {
			if x := new(big.Int).Add(m, big.NewInt(d)); x.Sign() >= 0 && x.Cmp(two256) < 0 {
				b := to32(x)
				out = append(out, limbsOf(&b))
			}
		}
	}
	for range n {
		var x [4]uint64
		for i := range x {
			switch r.IntN(4) {
			case 0:
				x[i] = ^uint64(0)
			case 1:
			case 2:
				x[i] = ^uint64(0) << r.IntN(64) >> r.IntN(64)
			case 3:
				x[i] = r.Uint64()
			}
		}
		out = append(out, x)
	}
	return out
}

func testRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestField(t *testing.T) {
	xs := numbers(testRand(), 100)
	for _, x := range xs {
		checkField(t, x)
		for _, y := range xs {
			checkFields(t, x, y)
		}
	}
}

func sameField(t testing.TB, what string, got field, want *big.Int, of ...[4]uint64) {
	t.Helper()
	if b := to32(new(big.Int).Mod(want, bigP)); got.bytes() != b {
		t.Fatalf("%s of %x is %x, not %x", what, of, got.bytes(), b)
	}
}

// inverse is 0 for 0.
func inverse(x, m *big.Int) *big.Int {
	if i := new(big.Int).ModInverse(new(big.Int).Mod(x, m), m); i != nil {
		return i
	}
	return new(big.Int)
}

func checkField(t testing.TB, x [4]uint64) {
	t.Helper()
	bx, f := bigOf(x), field(x)
	reduced := new(big.Int).Mod(bx, bigP)
	var z field
	z.square(&f)
	sameField(t, "square", z, new(big.Int).Mul(bx, bx), x)
	z.half(&f)
	z.add(&z, &z)
	sameField(t, "twice the half", z, bx, x)
	z.inverse(&f)
	sameField(t, "inverse", z, inverse(bx, bigP), x)
	root := new(big.Int).ModSqrt(reduced, bigP)
	if ok := z.sqrt(&f); ok != (root != nil) {
		t.Fatalf("sqrt of %x: %v", x, ok)
	} else if ok {
		z.square(&z)
		sameField(t, "square of the root", z, bx, x)
	}
	z = f
	z.normal()
	if bigOf(z).Cmp(reduced) != 0 {
		t.Fatalf("%x is the normal form of %x", z, x)
	}
	z.negate(0)
	sameField(t, "not negated", z, bx, x)
	z.negate(^uint64(0))
	sameField(t, "negated", z, new(big.Int).Neg(bx), x)
	if f.isZero() != (reduced.Sign() == 0) || f.isOdd() != (reduced.Bit(0) == 1) {
		t.Fatalf("%x is zero: %v, odd: %v", x, f.isZero(), f.isOdd())
	}
	b := bytesOf(&x)
	if _, ok := fieldOf(&b); ok != (bx.Cmp(bigP) < 0) {
		t.Fatalf("%x is read: %v", x, ok)
	}
	s, over := f.plusOrder()
	if sum := new(big.Int).Add(bx, bigN); (over == 0) != (sum.Cmp(bigP) < 0) || over == 0 && bigOf(s).Cmp(sum) != 0 {
		t.Fatalf("%x plus the order is %x, %d", x, s, over)
	}
}

func checkFields(t testing.TB, x, y [4]uint64) {
	t.Helper()
	bx, by, f, g := bigOf(x), bigOf(y), field(x), field(y)
	var z field
	z.mul(&f, &g)
	sameField(t, "product", z, new(big.Int).Mul(bx, by), x, y)
	z.add(&f, &g)
	sameField(t, "sum", z, new(big.Int).Add(bx, by), x, y)
	z.sub(&f, &g)
	d := new(big.Int).Sub(bx, by)
	sameField(t, "difference", z, d, x, y)
	z.subSum(&f, &g, &f)
	sameField(t, "x - y - 2 x", z, new(big.Int).Neg(new(big.Int).Add(bx, by)), x, y)
	z.subSum(&f, &g, &g)
	sameField(t, "x - 3 y", z, new(big.Int).Sub(bx, new(big.Int).Mul(by, big.NewInt(3))), x, y)
	if f.equal(&g) != (d.Mod(d, bigP).Sign() == 0) {
		t.Fatalf("%x equals %x: %v", x, y, f.equal(&g))
	}
}

func TestScalar(t *testing.T) {
	xs := numbers(testRand(), 100)
	for _, x := range xs {
		checkScalar(t, x)
		for _, y := range xs {
			checkScalars(t, x, y)
		}
	}
}

func sameScalar(t testing.TB, what string, got scalar, want *big.Int, of ...[4]uint64) {
	t.Helper()
	if b := to32(new(big.Int).Mod(want, bigN)); got.bytes() != b {
		t.Fatalf("%s of %x is %x, not %x", what, of, got.bytes(), b)
	}
}

var bigLambda, _ = new(big.Int).SetString("5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72", 16)

func checkScalar(t testing.TB, x [4]uint64) {
	t.Helper()
	bx, b := bigOf(x), bytesOf(&x)
	s, ok := scalarOf(&b)
	if ok != (bx.Cmp(bigN) < 0) {
		t.Fatalf("%x is read: %v", x, ok)
	}
	sameScalar(t, "number", s, bx, x)
	z := s
	z.negate(^uint64(0))
	sameScalar(t, "negative", z, new(big.Int).Neg(bx), x)
	z = s
	z.negate(0)
	sameScalar(t, "not negated", z, bx, x)
	z.inverse(&s)
	sameScalar(t, "inverse", z, inverse(bx, bigN), x)
	if high := bigOf(s).Cmp(new(big.Int).Rsh(bigN, 1)) > 0; (s.isHigh() == 1) != high {
		t.Fatalf("%x is high: %d", s, s.isHigh())
	}
	h1, h2 := s.split()
	a, c := halfBig(h1), halfBig(h2)
	sameScalar(t, "the split number", s, new(big.Int).Add(a, new(big.Int).Mul(c, bigLambda)), x)
	for i, h := range []half{h1, h2} {
		want := []*big.Int{a, c}[i]
		if want.Bit(0) != 1 || want.BitLen() >= splitBits {
			t.Fatalf("%x is split into %x", x, want)
		}
		if got := nafBig(h); got.Cmp(want) != 0 {
			t.Fatalf("%x is %x in digits", want, got)
		}
		for _, w := range []uint{4, 5, 8, 10} {
			tb := table{w: w}
			n := (splitBits + w - 1) / w
			d, got := h.digits(n*w), new(big.Int)
			for i := int(n) - 1; i >= 0; i-- {
				j, neg := tb.place(d.digit(uint(i)*w, w))
				v := big.NewInt(int64(2*j + 1))
				if neg != 0 {
					v.Neg(v)
				}
				got.Add(got.Lsh(got, w), v)
			}
			if got.Cmp(want) != 0 {
				t.Fatalf("%x is %x in digits of %d", want, got, w)
			}
		}
	}
}

func checkScalars(t testing.TB, x, y [4]uint64) {
	t.Helper()
	xb, yb := bytesOf(&x), bytesOf(&y)
	s, _ := scalarOf(&xb)
	u, _ := scalarOf(&yb)
	var z scalar
	z.mul(&s, &u)
	sameScalar(t, "product", z, new(big.Int).Mul(bigOf(x), bigOf(y)), x, y)
	z.add(&s, &u)
	sameScalar(t, "sum", z, new(big.Int).Add(bigOf(x), bigOf(y)), x, y)
}

func halfBig(h half) *big.Int {
	x := bigOf(h)
	if h[2]>>63 == 1 {
		x.Sub(x, new(big.Int).Lsh(big.NewInt(1), 192))
	}
	return x
}

func nafBig(h half) *big.Int {
	d, n := h.naf()
	x := new(big.Int)
	for i := n - 1; i >= 0; i-- {
		x.Add(x.Lsh(x, 1), big.NewInt(int64(d[i])))
	}
	return x
}

// All ways to multiply give what dcrd's gives, in sums that meet infinity and doubling.
func TestMultiply(t *testing.T) {
	r := testRand()
	xs := numbers(r, 60)
	wide, narrow := wideBase(), narrowBase()
	for i, x := range xs {
		b := bytesOf(&x)
		k, _ := scalarOf(&b)
		var want dcrd.JacobianPoint
		var dk dcrd.ModNScalar
		dk.SetBytes(&b)
		dcrd.ScalarBaseMultNonConst(&dk, &want)
		check := func(what string, p jacobian) {
			t.Helper()
			checkPoint(t, what, x, p, &want)
		}
		check("secret", multiplyBase(&k))
		var s sum
		s.add(wide, &k)
		check("wide", s.point())
		s = sum{}
		s.add(narrow, &k)
		check("narrow", s.point())
		s = sum{}
		s.addOnce(&base, &k)
		check("once", s.point())
		y := xs[(i*7+3)%len(xs)]
		if i%3 == 0 {
			y = x // -x in the sum below: infinity
		}
		yb := bytesOf(&y)
		m, _ := scalarOf(&yb)
		for _, neg := range []uint64{0, ^uint64(0)} {
			m := m
			m.negate(neg)
			mb := m.bytes()
			var dm dcrd.ModNScalar
			dm.SetBytes(&mb)
			dm.Add(&dk)
			dcrd.ScalarBaseMultNonConst(&dm, &want)
			s = sum{}
			s.addOnce(&base, &k)
			s.add(wide, &m)
			check("once and wide", s.point())
			s = sum{}
			s.add(narrow, &k)
			s.add(wide, &m)
			check("narrow and wide", s.point())
			s = sum{}
			s.add(narrow, &k)
			s.add(narrow, &m)
			check("narrow twice", s.point())
		}
	}
}

// Sums in which a point meets itself or its opposite on the way, in each of the places
// where that can happen: the key is made to fit.
func TestMeetings(t *testing.T) {
	r := testRand()
	random := func() scalar {
		x := [4]uint64{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
		b := bytesOf(&x)
		s, _ := scalarOf(&b)
		return s
	}
	number := func(x *big.Int) scalar {
		b := to32(new(big.Int).Mod(x, bigN))
		return limbsOf(&b)
	}
	times := func(x, y *big.Int) *big.Int { return new(big.Int).Mul(x, y) }
	for range 10 {
		u, v := random(), random()
		uh1, uh2 := u.split()
		vh1, vh2 := v.split()
		ua, ub, va, vb := halfBig(uh1), halfBig(uh2), halfBig(vh1), halfBig(vh2)
		// The first point of the base's table that is added.
		wide := wideBase()
		digits := uh1.digits(wide.windows * wide.w)
		j, negative := wide.place(digits.digit(0, wide.w))
		first := big.NewInt(int64(2*j + 1))
		if negative != 0 {
			first.Neg(first)
		}
		for _, sign := range []int64{1, -1} {
			s := big.NewInt(sign)
			for what, d := range map[string]*big.Int{
				// a of v P is the first point that is added to it
				"addition": times(times(first, s), inverse(va, bigN)),
				// v P is
				"addition to a single chain": times(times(first, s), inverse(bigOf(v), bigN)),
				// a = lambda b at the end, or -lambda b: infinity
				"end": times(new(big.Int).Sub(times(s, times(bigLambda, ub)), ua),
					inverse(new(big.Int).Sub(va, times(s, times(bigLambda, vb))), bigN)),
			} {
				d := number(d)
				p := multiplyBase(&d)
				q, ok := p.affine()
				if !ok {
					t.Fatal("no such key")
				}
				var dp, du, want dcrd.JacobianPoint
				dcrd.ScalarBaseMultNonConst(dcrdNumber(d.bytes()), &dp)
				dcrd.ScalarMultNonConst(dcrdNumber(v.bytes()), &dp, &dp)
				dcrd.ScalarBaseMultNonConst(dcrdNumber(u.bytes()), &du)
				dcrd.AddNonConst(&dp, &du, &want)
				var known, once sum
				known.add(newTable(&q, tableWidth), &v)
				known.add(wide, &u)
				checkPoint(t, what+", known", d, known.point(), &want)
				once.addOnce(&q, &v)
				once.add(wide, &u)
				checkPoint(t, what+", once", d, once.point(), &want)
			}
		}
	}
}

// Inverses end between bounds that few numbers come near; the first ones below do.
func TestInverse(t *testing.T) {
	r := testRand()
	xs := [][4]uint64{
		{3494153883456782827, 13549262990556000786, 2330169739852455776, 971417222098502695},
		{4132402073403852943, 12915536280542288683, 13328600202106844039, 14070387975253586641},
		{6470765389262291135, 9965515603624934132, 11949947061248152024, 5906189273107633878},
		{6550131762648240491, 9459172837092671683, 14118170001360139876, 4490944253217548611},
	}
	for range 20000 {
		xs = append(xs, [4]uint64{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()})
	}
	for _, x := range xs {
		f, i := field(x), field{}
		i.inverse(&f)
		if f.mul(&f, &i); !f.equal(&fieldOne) || bigOf(i).Cmp(bigP) >= 0 {
			t.Fatalf("the inverse of %x is %x", x, i)
		}
		b := bytesOf(&x)
		s, _ := scalarOf(&b)
		var w scalar
		w.inverse(&s)
		if s.mul(&s, &w); s != (scalar{1}) || bigOf(w).Cmp(bigN) >= 0 {
			t.Fatalf("the inverse of %x is %x", x, w)
		}
	}
}

func checkPoint(t *testing.T, what string, x [4]uint64, p jacobian, want *dcrd.JacobianPoint) {
	t.Helper()
	q, ok := p.affine()
	if inf := want.X.IsZero() && want.Y.IsZero() || want.Z.IsZero(); ok == inf {
		t.Fatalf("%s, %x: infinity: %v", what, x, ok)
	} else if inf {
		return
	}
	w := *want
	w.ToAffine()
	if q.x.bytes() != *w.X.Bytes() || q.y.bytes() != *w.Y.Bytes() {
		t.Fatalf("%s, %x: %x, %x; it is %v, %v", what, x, q.x.bytes(), q.y.bytes(), w.X, w.Y)
	}
}
