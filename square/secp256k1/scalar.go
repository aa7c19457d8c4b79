package secp256k1

import "math/bits"

// scalar is a number modulo the curve's order n, below n: four 64-bit limbs, least
// first. All its methods take the same steps whatever the values are, but for inverse.
type scalar [4]uint64

var (
	order     = scalar{0xbfd25e8cd0364141, 0xbaaedce6af48a03b, 0xfffffffffffffffe, 0xffffffffffffffff}
	halfOrder = scalar{0xdfe92f46681b20a0, 0x5d576e7357a4501d, 0xffffffffffffffff, 0x7fffffffffffffff}
	orderC    = [3]uint64{0x402da1732fc9bebf, 0x4551231950b75fc4, 1} // 2^256 - n

	modulusN = newModulus(order)
)

// scalarOf reads 32 big-endian bytes modulo n; false if they are not below n.
func scalarOf(b *[32]byte) (z scalar, ok bool) {
	z = limbsOf(b)
	return z, z.reduce(0) == 0
}

func (z scalar) bytes() [32]byte { return bytesOf((*[4]uint64)(&z)) }

func (z *scalar) isZero() bool { return z[0]|z[1]|z[2]|z[3] == 0 }

// less is 1 if z is below x, else 0.
func (z *scalar) less(x *scalar) uint64 {
	_, c := bits.Sub64(z[0], x[0], 0)
	_, c = bits.Sub64(z[1], x[1], c)
	_, c = bits.Sub64(z[2], x[2], c)
	_, c = bits.Sub64(z[3], x[3], c)
	return c
}

// isHigh is 1 if z is in the upper half of the order, else 0.
func (z *scalar) isHigh() uint64 { return halfOrder.less(z) }

// reduce subtracts n once from high 2^256 + z if it is not below n, and says so by 1.
func (z *scalar) reduce(high uint64) uint64 {
	t0, c := bits.Add64(z[0], orderC[0], 0)
	t1, c := bits.Add64(z[1], orderC[1], c)
	t2, c := bits.Add64(z[2], orderC[2], c)
	t3, c := bits.Add64(z[3], 0, c)
	c |= high
	m := -c
	z[0] ^= (z[0] ^ t0) & m
	z[1] ^= (z[1] ^ t1) & m
	z[2] ^= (z[2] ^ t2) & m
	z[3] ^= (z[3] ^ t3) & m
	return c
}

func (z *scalar) add(x, y *scalar) {
	var c uint64
	z[0], c = bits.Add64(x[0], y[0], 0)
	z[1], c = bits.Add64(x[1], y[1], c)
	z[2], c = bits.Add64(x[2], y[2], c)
	z[3], c = bits.Add64(x[3], y[3], c)
	z.reduce(c)
}

// negate negates z if m is all ones and leaves it if m is 0.
func (z *scalar) negate(m uint64) {
	t0, c := bits.Sub64(order[0], z[0], 0)
	t1, c := bits.Sub64(order[1], z[1], c)
	t2, c := bits.Sub64(order[2], z[2], c)
	t3, _ := bits.Sub64(order[3], z[3], c)
	any := z[0] | z[1] | z[2] | z[3]
	m &= -((any | -any) >> 63) // 0 stays
	z[0] ^= (z[0] ^ t0) & m
	z[1] ^= (z[1] ^ t1) & m
	z[2] ^= (z[2] ^ t2) & m
	z[3] ^= (z[3] ^ t3) & m
}

// product is x y in full.
func product(x, y *[4]uint64) (t [8]uint64) {
	for i, a := range x {
		var c uint64
		for j, b := range y {
			hi, lo := bits.Mul64(a, b)
			var d uint64
			lo, d = bits.Add64(lo, t[i+j], 0)
			hi += d
			lo, d = bits.Add64(lo, c, 0)
			t[i+j], c = lo, hi+d
		}
		t[i+4] = c
	}
	return t
}

// fold replaces the n limbs above 2^256 by what they are modulo the order: they count
// orderC each. n limbs become at most n-1 and a few bits.
func fold(t *[8]uint64, n int) {
	h := [4]uint64(t[4:])
	clear(t[4:])
	for i := range n {
		var c uint64
		for j, b := range orderC {
			hi, lo := bits.Mul64(h[i], b)
			var d uint64
			lo, d = bits.Add64(lo, t[i+j], 0)
			hi += d
			lo, d = bits.Add64(lo, c, 0)
			t[i+j], c = lo, hi+d
		}
		for j := i + 3; j < len(t); j++ {
			t[j], c = bits.Add64(t[j], c, 0)
		}
	}
}

func (z *scalar) mul(x, y *scalar) {
	t := product((*[4]uint64)(x), (*[4]uint64)(y))
	fold(&t, 4) // below 2^386
	fold(&t, 3) // below 2^261
	fold(&t, 1) // below 2^257
	copy(z[:], t[:4])
	z.reduce(t[4])
}

// inverse takes a time that depends on x. The inverse of 0 is 0.
func (z *scalar) inverse(x *scalar) { *z = modulusN.inverse(*x) }

// half is one of two numbers into which a scalar is split: odd, between -2^129 and 2^129,
// as a two's complement of three limbs and an empty one.
type half [4]uint64

// The lattice of (a, b) with a + b lambda = 0 modulo n has the short basis (latticeA1,
// -latticeB1), (latticeA2, latticeA1). The quotients are latticeA1 and latticeB1 times
// 2^384 / n.
var (
	latticeA1 = [3]uint64{0xe86c90e49284eb15, 0x3086d221a7d46bcd}
	latticeB1 = [3]uint64{0x6f547fa90abfe4c3, 0xe4437ed6010e8828}
	latticeA2 = [3]uint64{0x57c1108d9d44cfd8, 0x14ca50f7a8e2f3f6, 1}
	quotient1 = [4]uint64{0xe893209a45dbb031, 0x3daa8a1471e8ca7f, 0xe86c90e49284eb15, 0x3086d221a7d46bcd}
	quotient2 = [4]uint64{0x1571b4ae8ac47f71, 0x221208ac9df506c6, 0x6f547fa90abfe4c4, 0xe4437ed6010e8828}
)

// split finds odd a and b with z = a + b lambda modulo n, where lambda, a cube root of 1,
// multiplies a point by multiplying its x with a cube root of 1 in the field (Gallant,
// Lambert and Vanstone, 2001). Nearest to (z, 0) lies the point of the lattice with the
// coordinates c1 and c2 in the basis; since the basis is, modulo 2, (1, 1) and (0, 1),
// c1 of z's other parity and c2 of z's own make what is left odd.
func (z *scalar) split() (a, b half) {
	c1, c2 := quotient(z, &quotient1, ^z[0]), quotient(z, &quotient2, z[0])
	a = half{z[0], z[1], z[2]}
	a.subTimes(&c1, &latticeA1)
	a.subTimes(&c2, &latticeA2)
	var n half
	n.subTimes(&c1, &latticeB1)
	b.subTimes(&c2, &latticeA1)
	b.sub(&n)
	return a, b
}

// quotient is z q / 2^384, rounded down, or up if only that has the parity wanted.
func quotient(z *scalar, q *[4]uint64, parity uint64) (c [2]uint64) {
	t := product((*[4]uint64)(z), q)
	var carry uint64
	c[0], carry = bits.Add64(t[6], (t[6]^parity)&1, 0)
	c[1] = t[7] + carry
	return c
}

func (z *half) sub(x *half) {
	var c uint64
	z[0], c = bits.Sub64(z[0], x[0], 0)
	z[1], c = bits.Sub64(z[1], x[1], c)
	z[2], _ = bits.Sub64(z[2], x[2], c)
}

// subTimes subtracts c v.
func (z *half) subTimes(c *[2]uint64, v *[3]uint64) {
	h00, l00 := bits.Mul64(c[0], v[0])
	h01, l01 := bits.Mul64(c[0], v[1])
	h10, l10 := bits.Mul64(c[1], v[0])
	t := half{l00, 0, h01 + h10 + c[0]*v[2] + c[1]*v[1]}
	var d uint64
	t[1], d = bits.Add64(h00, l01, 0)
	t[2] += d
	t[1], d = bits.Add64(t[1], l10, 0)
	t[2] += d
	z.sub(&t)
}

// digits gets z ready for digit: (z + 2^length - 1) / 2. Its bits say the signs of the
// powers of two whose sum z is: z is the sum of (2 bit - 1) 2^i for i below length.
func (z *half) digits(length uint) (d half) {
	d = half{z[0]>>1 | z[1]<<63, z[1]>>1 | z[2]<<63, uint64(int64(z[2]) >> 1)}
	d[(length-1)/64] += 1 << ((length - 1) % 64) // a bit that is above all others
	return d
}

// digit is the w bits from the given one.
func (z *half) digit(at, w uint) uint64 {
	return (z[at/64%4]>>(at%64) | z[(at/64+1)%4]<<(64-at%64)) & (1<<w - 1)
}
