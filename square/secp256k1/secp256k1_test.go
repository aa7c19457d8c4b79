package secp256k1

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"testing"

	dcrd "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
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
	xs := numbers(testRand(), 300)
	check := func(what string, got field, want *big.Int, of ...[4]uint64) {
		t.Helper()
		if b := to32(new(big.Int).Mod(want, bigP)); got.bytes() != b {
			t.Fatalf("%s of %x is %x, not %x", what, of, got.bytes(), b)
		}
	}
	for _, x := range xs {
		bx, f := bigOf(x), field(x)
		var z field
		z.square(&f)
		check("square", z, new(big.Int).Mul(bx, bx), x)
		z.half(&f)
		z.add(&z, &z)
		check("twice the half", z, bx, x)
		z.inverse(&f)
		inv := new(big.Int).ModInverse(new(big.Int).Mod(bx, bigP), bigP)
		if inv == nil {
			inv = new(big.Int)
		}
		check("inverse", z, inv, x)
		root := new(big.Int).ModSqrt(new(big.Int).Mod(bx, bigP), bigP)
		if ok := z.sqrt(&f); ok != (root != nil) {
			t.Fatalf("sqrt of %x: %v", x, ok)
		} else if ok {
			z.square(&z)
			check("square of the root", z, bx, x)
		}
		z = f
		z.normal()
		check("normal", z, bx, x)
		if bigOf(z).Cmp(bigP) >= 0 {
			t.Fatalf("%x is not normal", z)
		}
		z.negate(0)
		check("not negated", z, bx, x)
		if !z.isZero() {
			z.negate(^uint64(0))
			check("negated", z, new(big.Int).Neg(bx), x)
		}
		if f.isZero() != (new(big.Int).Mod(bx, bigP).Sign() == 0) {
			t.Fatalf("%x is zero: %v", x, f.isZero())
		}
		b := bytesOf(&x)
		if _, ok := fieldOf(&b); ok != (bx.Cmp(bigP) < 0) {
			t.Fatalf("%x is read: %v", x, ok)
		}
		s, over := f.plusOrder()
		if sum := new(big.Int).Add(bx, bigN); (over == 0) != (sum.Cmp(bigP) < 0) || over == 0 && bigOf(s).Cmp(sum) != 0 {
			t.Fatalf("%x plus the order is %x, %d", x, s, over)
		}
		for _, y := range xs {
			by, g := bigOf(y), field(y)
			z.mul(&f, &g)
			check("product", z, new(big.Int).Mul(bx, by), x, y)
			z.add(&f, &g)
			check("sum", z, new(big.Int).Add(bx, by), x, y)
			z.sub(&f, &g)
			check("difference", z, new(big.Int).Sub(bx, by), x, y)
			same := new(big.Int).Sub(bx, by)
			if f.equal(&g) != (same.Mod(same, bigP).Sign() == 0) {
				t.Fatalf("%x equals %x: %v", x, y, f.equal(&g))
			}
		}
	}
}

func TestScalar(t *testing.T) {
	xs := numbers(testRand(), 300)
	check := func(what string, got scalar, want *big.Int, of ...[4]uint64) {
		t.Helper()
		if b := to32(new(big.Int).Mod(want, bigN)); got.bytes() != b {
			t.Fatalf("%s of %x is %x, not %x", what, of, got.bytes(), b)
		}
	}
	lambda, _ := new(big.Int).SetString("5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72", 16)
	for _, x := range xs {
		bx, b := bigOf(x), bytesOf(&x)
		s, ok := scalarOf(&b)
		if ok != (bx.Cmp(bigN) < 0) {
			t.Fatalf("%x is read: %v", x, ok)
		}
		check("number", s, bx, x)
		z := s
		z.negate(^uint64(0))
		check("negative", z, new(big.Int).Neg(bx), x)
		z = s
		z.negate(0)
		check("not negated", z, bx, x)
		z.inverse(&s)
		inv := new(big.Int).ModInverse(new(big.Int).Mod(bx, bigN), bigN)
		if inv == nil {
			inv = new(big.Int)
		}
		check("inverse", z, inv, x)
		if high := bigOf(s).Cmp(new(big.Int).Rsh(bigN, 1)) > 0; (s.isHigh() == 1) != high {
			t.Fatalf("%x is high: %d", s, s.isHigh())
		}

		h1, h2 := s.split()
		a, c := halfBig(h1), halfBig(h2)
		if a.Bit(0) != 1 || c.Bit(0) != 1 || a.BitLen() >= splitBits || c.BitLen() >= splitBits {
			t.Fatalf("%x is split into %x and %x", x, a, c)
		}
		check("the split number", s, new(big.Int).Add(a, new(big.Int).Mul(c, lambda)), x)
		for i, h := range []half{h1, h2} {
			want := []*big.Int{a, c}[i]
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
		for _, y := range xs {
			yb := bytesOf(&y)
			u, _ := scalarOf(&yb)
			z.mul(&s, &u)
			check("product", z, new(big.Int).Mul(bx, bigOf(y)), x, y)
			z.add(&s, &u)
			check("sum", z, new(big.Int).Add(bx, bigOf(y)), x, y)
		}
	}
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

// All signatures are dcrd's to the last byte.
func TestSignatures(t *testing.T) {
	r := testRand()
	xs := numbers(r, 100)
	for i, x := range xs {
		kb, digest := bytesOf(&x), bytesOf(&xs[(i*31+5)%len(xs)])
		k, ok := ParsePrivateKey(&kb)
		var dk dcrd.ModNScalar
		over := dk.SetBytes(&kb)
		if ok != (over == 0 && !dk.IsZero()) {
			t.Fatalf("%x is read: %v", kb, ok)
		}
		if !ok {
			continue
		}
		dp := dcrd.NewPrivateKey(&dk)
		c := ecdsa.SignCompact(dp, digest[:], false)
		got := k.Sign(&digest)
		if !bytes.Equal(got[:64], c[1:]) || got[64]+27 != c[0] {
			t.Fatalf("%x signs %x with %x, not %x", kb, digest, got, c)
		}
		p := k.PublicKey()
		pc := p.Compressed()
		if !bytes.Equal(pc[:], dp.PubKey().SerializeCompressed()) {
			t.Fatalf("the public key of %x is %x", kb, pc)
		}
		if xy := p.XY(); !bytes.Equal(xy[:], dp.PubKey().SerializeUncompressed()[1:]) {
			t.Fatalf("the public key of %x is %x", kb, xy)
		}
		for range 2 * tableAfter {
			compare(t, p, digest, [64]byte(got[:64]))
		}
	}
}

// compare holds every answer about a signature against dcrd's.
func compare(t *testing.T, p *PublicKey, digest [32]byte, rs [64]byte) (valid bool) {
	t.Helper()
	var r, s dcrd.ModNScalar
	over := r.SetByteSlice(rs[:32])
	over = s.SetByteSlice(rs[32:]) || over || s.IsOverHalfOrder() || r.IsZero() || s.IsZero()
	key := p.Compressed()
	dp, err := dcrd.ParsePubKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	valid = !over && ecdsa.NewSignature(&r, &s).Verify(digest[:], dp)
	if got := p.Verify(&digest, &rs); got != valid {
		t.Fatalf("%x over %x under %x: %v", rs, digest, key, got)
	}
	for v := range byte(2) {
		var want []byte
		if rp, _, err := ecdsa.RecoverCompact(append([]byte{27 + v}, rs[:]...), digest[:]); err == nil && !over {
			want = rp.SerializeCompressed()
		}
		q, ok := Recover(&digest, &rs, v == 1)
		if ok != (want != nil) {
			t.Fatalf("%x over %x, %d: recovered: %v", rs, digest, v, ok)
		}
		if ok {
			if got := q.Compressed(); !bytes.Equal(got[:], want) {
				t.Fatalf("%x over %x, %d: recovered %x, not %x", rs, digest, v, got, want)
			}
		}
		if got := p.VerifyRecoverable(&digest, &rs, v == 1); got != bytes.Equal(key[:], want) {
			t.Fatalf("%x over %x, %d, under %x: %v", rs, digest, v, key, got)
		}
	}
	return valid
}

var _ = binary.BigEndian
