package secp256k1

import "math/bits"

// limb62 is the mask of a limb of a signed number.
const limb62 = 1<<62 - 1

// signed is a number of limbs of 62 bits, least first: all but the last between 0 and
// 2^62, the last with the sign.
type signed [5]int64

func signedOf(x [4]uint64) signed {
	return signed{
		int64(x[0] & limb62),
		int64((x[0]>>62 | x[1]<<2) & limb62),
		int64((x[1]>>60 | x[2]<<4) & limb62),
		int64((x[2]>>58 | x[3]<<6) & limb62),
		int64(x[3] >> 56),
	}
}

// limbs is the number, which must be between 0 and 2^256.
func (s *signed) limbs() [4]uint64 {
	a, b, c, d, e := uint64(s[0]), uint64(s[1]), uint64(s[2]), uint64(s[3]), uint64(s[4])
	return [4]uint64{a | b<<62, b>>2 | c<<60, c>>4 | d<<58, d>>6 | e<<56}
}

// addTimes adds k m for a k of -1, 0 or 1.
func (s *signed) addTimes(m *signed, k int64) {
	var c int64
	for i := range s {
		c += s[i] + k*m[i]
		s[i] = c & limb62
		c >>= 62
	}
	s[4] |= c << 62
}

// modulus is an odd number below 2^256 with its inverse modulo 2^62.
type modulus struct {
	m       signed
	inverts uint64
}

func newModulus(m [4]uint64) *modulus {
	inv := m[0] // right in three bits, then in twice as many each time
	for range 5 {
		inv *= 2 - m[0]*inv
	}
	return &modulus{signedOf(m), inv & limb62}
}

// wide is a signed number of 128 bits.
type wide struct{ hi, lo uint64 }

// addMul adds a b.
func (w *wide) addMul(a, b int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	hi -= uint64(a>>63)&uint64(b) + uint64(b>>63)&uint64(a)
	var c uint64
	w.lo, c = bits.Add64(w.lo, lo, 0)
	w.hi, _ = bits.Add64(w.hi, hi, c)
}

// next takes the lowest 62 bits away.
func (w *wide) next() int64 {
	l := int64(w.lo & limb62)
	w.lo = w.lo>>62 | w.hi<<2
	w.hi = uint64(int64(w.hi) >> 62)
	return l
}

// steps is what 62 division steps make of f and g, 2^62 times too large:
// u f + v g and q f + r g.
type steps struct{ u, v, q, r int64 }

// divide does 62 division steps of Bernstein and Yang ("Fast constant-time gcd computation
// and modular inversion", 2019) on the lowest bits of f, which is odd, and g. One step is
//
//	delta > 0 and g odd: delta, f, g = 1 - delta, g, (g - f) / 2
//	otherwise:           delta, f, g = 1 + delta, f, (g + (g mod 2) f) / 2
//
// Steps of even g are taken at once, and after each swap as many multiples of f are
// added as make the next steps even ones.
func divide(delta int64, f, g uint64) (int64, steps) {
	var u, v, q, r uint64 = 1, 0, 0, 1
	for left := 62; ; {
		zeros := bits.TrailingZeros64(g | 1<<left)
		g >>= zeros
		u <<= zeros
		v <<= zeros
		delta += int64(zeros)
		left -= zeros
		if left == 0 {
			return delta, steps{int64(u), int64(v), int64(q), int64(r)}
		}
		if delta > 0 {
			delta = -delta
			f, g = g, -f
			u, q = q, -u
			v, r = r, -v
		}
		// With delta <= 0 the next 1 - delta steps change only g: w f takes that many of
		// its bits away, up to the six that are cheap to find.
		n := min(1-delta, int64(left), 6)
		inv := f * (2 - f*f) // 1/f modulo 2^6, for f f is 1 modulo 8
		w := -(g * inv) & (1<<n - 1)
		g += f * w
		q += u * w
		r += v * w
	}
}

// inverse is 1/x modulo m for an x below m; of 0 it is 0. Its time depends on x.
func (m *modulus) inverse(x [4]uint64) [4]uint64 {
	f, g := m.m, signedOf(x)
	d, e := signed{}, signed{1} // d x = f and e x = g, modulo m
	delta := int64(1)
	for g != (signed{}) {
		var t steps
		delta, t = divide(delta, uint64(f[0])|uint64(f[1])<<62, uint64(g[0])|uint64(g[1])<<62)
		m.halve(&d, &e, &t)
		t.apply(&f, &g)
	}
	// f is 1 or -1, or m or -m where x is 0.
	if f[4] < 0 {
		var n signed
		n.addTimes(&d, -1)
		d = n
	}
	for d[4] < 0 {
		d.addTimes(&m.m, 1)
	}
	for {
		n := d
		if n.addTimes(&m.m, -1); n[4] < 0 {
			return d.limbs()
		}
		d = n
	}
}

// apply makes f and g what they are after the steps. The division is exact.
func (t *steps) apply(f, g *signed) {
	var a, b wide
	for i := range f {
		a.addMul(t.u, f[i])
		a.addMul(t.v, g[i])
		b.addMul(t.q, f[i])
		b.addMul(t.r, g[i])
		fi, gi := a.next(), b.next()
		if i > 0 {
			f[i-1], g[i-1] = fi, gi
		}
	}
	f[4], g[4] = int64(a.lo), int64(b.lo)
}

// halve does to d and e what the steps do to f and g, modulo m: as much of m is added
// as makes the division exact. Both stay between -2 m and m.
func (m *modulus) halve(d, e *signed, t *steps) {
	// m is added where a negative number will be multiplied.
	sd, se := d[4]>>63, e[4]>>63
	md, me := t.u&sd+t.v&se, t.q&sd+t.r&se
	var a, b wide
	for i := range d {
		di, ei := d[i], e[i]
		a.addMul(t.u, di)
		a.addMul(t.v, ei)
		b.addMul(t.q, di)
		b.addMul(t.r, ei)
		if i == 0 {
			md -= int64((m.inverts*a.lo + uint64(md)) & limb62)
			me -= int64((m.inverts*b.lo + uint64(me)) & limb62)
		}
		a.addMul(m.m[i], md)
		b.addMul(m.m[i], me)
		ai, bi := a.next(), b.next()
		if i > 0 {
			d[i-1], e[i-1] = ai, bi
		}
	}
	d[4], e[4] = int64(a.lo), int64(b.lo)
}
