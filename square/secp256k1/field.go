package secp256k1

import (
	"encoding/binary"
	"math/bits"
)

// fieldC is 2^256 - p: what a carry out of 256 bits is worth.
const fieldC = 0x1000003d1

// field is an element of the field of p = 2^256 - 2^32 - 977: four 64-bit limbs, least
// first. Any value below 2^256 may stand for its element, so that 0 has two forms and
// most others one; normal picks the one below p. All its methods take the same steps
// whatever the values are, but for inverse and sqrt.
type field [4]uint64

var (
	fieldP     = field{^uint64(0) - fieldC + 1, ^uint64(0), ^uint64(0), ^uint64(0)}
	fieldOne   = field{1}
	fieldSeven = field{7}

	modulusP = newModulus(fieldP)
)

// fieldOf reads 32 big-endian bytes; false if they are not below p.
func fieldOf(b *[32]byte) (z field, ok bool) {
	z = limbsOf(b)
	n := z
	n.normal()
	return z, n == z
}

func limbsOf(b *[32]byte) (z [4]uint64) {
	for i := range z {
		z[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return z
}

func bytesOf(z *[4]uint64) (b [32]byte) {
	for i, l := range z {
		binary.BigEndian.PutUint64(b[24-8*i:], l)
	}
	return b
}

// bytes are those of the element's normal form.
func (z field) bytes() [32]byte {
	z.normal()
	return bytesOf((*[4]uint64)(&z))
}

// normal subtracts p if that leaves no borrow.
func (z *field) normal() {
	t0, c := bits.Add64(z[0], fieldC, 0)
	t1, c := bits.Add64(z[1], 0, c)
	t2, c := bits.Add64(z[2], 0, c)
	t3, c := bits.Add64(z[3], 0, c)
	m := -c
	z[0] ^= (z[0] ^ t0) & m
	z[1] ^= (z[1] ^ t1) & m
	z[2] ^= (z[2] ^ t2) & m
	z[3] ^= (z[3] ^ t3) & m
}

func (z *field) isZero() bool {
	return z[0]|z[1]|z[2]|z[3] == 0 || z[0]^fieldP[0]|^z[1]|^z[2]|^z[3] == 0
}

func (z *field) isOdd() bool {
	n := *z
	n.normal()
	return n[0]&1 == 1
}

func (z *field) equal(x *field) bool {
	var d field
	d.sub(z, x)
	return d.isZero()
}

func (z *field) add(x, y *field) {
	t0, c := bits.Add64(x[0], y[0], 0)
	t1, c := bits.Add64(x[1], y[1], c)
	t2, c := bits.Add64(x[2], y[2], c)
	t3, c := bits.Add64(x[3], y[3], c)
	t0, c = bits.Add64(t0, fieldC&-c, 0)
	t1, c = bits.Add64(t1, 0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	// A second carry leaves less than fieldC, so there is no third.
	z[0], z[1], z[2], z[3] = t0+fieldC&-c, t1, t2, t3
}

func (z *field) sub(x, y *field) {
	t0, c := bits.Sub64(x[0], y[0], 0)
	t1, c := bits.Sub64(x[1], y[1], c)
	t2, c := bits.Sub64(x[2], y[2], c)
	t3, c := bits.Sub64(x[3], y[3], c)
	t0, c = bits.Sub64(t0, fieldC&-c, 0)
	t1, c = bits.Sub64(t1, 0, c)
	t2, c = bits.Sub64(t2, 0, c)
	t3, c = bits.Sub64(t3, 0, c)
	z[0], z[1], z[2], z[3] = t0-fieldC&-c, t1, t2, t3
}

// subSum is x - a - 2 b.
func (z *field) subSum(x, a, b *field) {
	t0, c := bits.Add64(a[0], b[0]<<1, 0)
	t1, c := bits.Add64(a[1], b[1]<<1|b[0]>>63, c)
	t2, c := bits.Add64(a[2], b[2]<<1|b[1]>>63, c)
	t3, c := bits.Add64(a[3], b[3]<<1|b[2]>>63, c)
	t4 := b[3]>>63 + c
	t0, c = bits.Sub64(x[0], t0, 0)
	t1, c = bits.Sub64(x[1], t1, c)
	t2, c = bits.Sub64(x[2], t2, c)
	t3, c = bits.Sub64(x[3], t3, c)
	t0, c = bits.Sub64(t0, (t4+c)*fieldC, 0)
	t1, c = bits.Sub64(t1, 0, c)
	t2, c = bits.Sub64(t2, 0, c)
	t3, c = bits.Sub64(t3, 0, c)
	z[0], z[1], z[2], z[3] = t0-fieldC&-c, t1, t2, t3
}

// negate negates z, which must be below p, if m is all ones and leaves it if m is 0.
func (z *field) negate(m uint64) {
	t0, c := bits.Sub64(z[0]^m, (fieldC-1)&m, 0)
	t1, c := bits.Sub64(z[1]^m, 0, c)
	t2, c := bits.Sub64(z[2]^m, 0, c)
	t3, _ := bits.Sub64(z[3]^m, 0, c)
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
}

// half divides by two.
func (z *field) half(x *field) {
	m := -(x[0] & 1) // an odd value becomes even with p
	t0, c := bits.Add64(x[0], fieldP[0]&m, 0)
	t1, c := bits.Add64(x[1], m, c)
	t2, c := bits.Add64(x[2], m, c)
	t3, c := bits.Add64(x[3], m, c)
	z[0], z[1], z[2], z[3] = t0>>1|t1<<63, t1>>1|t2<<63, t2>>1|t3<<63, t3>>1|c<<63
}

func (z *field) mul(x, y *field) {
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]
	var c uint64

	a := x[0]
	h0, t0 := bits.Mul64(a, y0)
	h1, l1 := bits.Mul64(a, y1)
	h2, l2 := bits.Mul64(a, y2)
	h3, l3 := bits.Mul64(a, y3)
	t1, c := bits.Add64(l1, h0, 0)
	t2, c := bits.Add64(l2, h1, c)
	t3, c := bits.Add64(l3, h2, c)
	t4 := h3 + c

	a = x[1]
	h0, l0 := bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t1, c = bits.Add64(t1, l0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, l2, c)
	t4, c = bits.Add64(t4, l3, c)
	t5 := h3 + c
	t2, c = bits.Add64(t2, h0, 0)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, h2, c)
	t5 += c

	a = x[2]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t2, c = bits.Add64(t2, l0, 0)
	t3, c = bits.Add64(t3, l1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, l3, c)
	t6 := h3 + c
	t3, c = bits.Add64(t3, h0, 0)
	t4, c = bits.Add64(t4, h1, c)
	t5, c = bits.Add64(t5, h2, c)
	t6 += c

	a = x[3]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, l1, c)
	t5, c = bits.Add64(t5, l2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7 := h3 + c
	t4, c = bits.Add64(t4, h0, 0)
	t5, c = bits.Add64(t5, h1, c)
	t6, c = bits.Add64(t6, h2, c)
	t7 += c

	// 2^256 is fieldC.
	h0, l0 = bits.Mul64(t4, fieldC)
	h1, l1 = bits.Mul64(t5, fieldC)
	h2, l2 = bits.Mul64(t6, fieldC)
	h3, l3 = bits.Mul64(t7, fieldC)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	h3 += c
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	h3 += c
	h0, l0 = bits.Mul64(h3, fieldC)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, h0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	// A last carry leaves less than 2^68.
	t0, c = bits.Add64(t0, fieldC&-c, 0)
	z[0], z[1], z[2], z[3] = t0, t1+c, t2, t3
}

func (z *field) square(x *field) {
	x0, x1, x2, x3 := x[0], x[1], x[2], x[3]
	var c uint64

	// The products of different limbs, twice.
	h1, t1 := bits.Mul64(x0, x1)
	h2, t2 := bits.Mul64(x0, x2)
	h3, t3 := bits.Mul64(x0, x3)
	h4, l3 := bits.Mul64(x1, x2)
	h5, l4 := bits.Mul64(x1, x3)
	h6, t5 := bits.Mul64(x2, x3)
	t2, c = bits.Add64(t2, h1, 0)
	t3, c = bits.Add64(t3, h2, c)
	t4, c := bits.Add64(l4, h3, c)
	t5, c = bits.Add64(t5, h5, c)
	t6 := h6 + c
	t3, c = bits.Add64(t3, l3, 0)
	t4, c = bits.Add64(t4, h4, c)
	t5, c = bits.Add64(t5, 0, c)
	t6 += c
	t7 := t6 >> 63
	t6 = t6<<1 | t5>>63
	t5 = t5<<1 | t4>>63
	t4 = t4<<1 | t3>>63
	t3 = t3<<1 | t2>>63
	t2 = t2<<1 | t1>>63
	t1 <<= 1

	h0, t0 := bits.Mul64(x0, x0)
	h1, l1 := bits.Mul64(x1, x1)
	h2, l2 := bits.Mul64(x2, x2)
	h3, l3 = bits.Mul64(x3, x3)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7, _ = bits.Add64(t7, h3, c)

	var l0 uint64
	h0, l0 = bits.Mul64(t4, fieldC)
	h1, l1 = bits.Mul64(t5, fieldC)
	h2, l2 = bits.Mul64(t6, fieldC)
	h3, l3 = bits.Mul64(t7, fieldC)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	h3 += c
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	h3 += c
	h0, l0 = bits.Mul64(h3, fieldC)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, h0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	t0, c = bits.Add64(t0, fieldC&-c, 0)
	z[0], z[1], z[2], z[3] = t0, t1+c, t2, t3
}

// plusOrder is z, below 2^256, plus the curve's order, and 1 if that is not below p.
func (z field) plusOrder() (field, uint64) {
	t := scalar(z)
	var c uint64
	t[0], c = bits.Add64(z[0], order[0], 0)
	t[1], c = bits.Add64(z[1], order[1], c)
	t[2], c = bits.Add64(z[2], order[2], c)
	t[3], c = bits.Add64(z[3], order[3], c)
	p := scalar(fieldP)
	return field(t), c | (t.less(&p) ^ 1)
}

// squareTimes squares n times.
func (z *field) squareTimes(x *field, n int) {
	z.square(x)
	for range n - 1 {
		z.square(z)
	}
}

// sqrt finds a square root, if there is one: x^((p+1)/4), whose exponent is, from its
// highest bit, 223 ones, a zero, 22 ones, 4 zeros, 2 ones and 2 zeros.
func (z *field) sqrt(x *field) bool {
	var x2, x3, x6, x9, x11, x22, x44, x88, x176, x220, t field // xN is x^(2^N - 1)
	for _, s := range []struct {
		to, of, with *field
		n            int
	}{
		{&x2, x, x, 1}, {&x3, &x2, x, 1}, {&x6, &x3, &x3, 3}, {&x9, &x6, &x3, 3}, {&x11, &x9, &x2, 2},
		{&x22, &x11, &x11, 11}, {&x44, &x22, &x22, 22}, {&x88, &x44, &x44, 44}, {&x176, &x88, &x88, 88},
		{&x220, &x176, &x44, 44}, {&t, &x220, &x3, 3}, {&t, &t, &x22, 23}, {&t, &t, &x2, 6},
	} {
		s.to.squareTimes(s.of, s.n)
		s.to.mul(s.to, s.with)
	}
	t.squareTimes(&t, 2)
	x3.square(&t)
	ok := x3.equal(x)
	*z = t
	return ok
}

// inverse takes a time that depends on x. The inverse of 0 is 0.
func (z *field) inverse(x *field) {
	n := *x
	n.normal()
	*z = modulusP.inverse(n)
}
