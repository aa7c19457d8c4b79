// Package koala is arithmetic in the KoalaBear field, p = 2^31 - 2^24 + 1, and
// in its extension of degree four.
//
// An Elem is kept in Montgomery form (x is stored as x 2^32 mod p; Montgomery
// 1985) and is always fully reduced, so that equal elements have equal words.
// The extension is F[v]/(v^4-3), of about 2^123.96 elements; 3 generates the
// multiplicative group of the base field and p = 1 mod 4, so v^4-3 is
// irreducible (Lidl and Niederreiter, Finite Fields, theorem 3.75).
//
// Vectors of extension elements are planar: four slices, one a coordinate
// (Vec). Everything hot is written as a few operations on planar vectors
// (vec.go, ntt.go), which is where an instruction set of the machine can be
// used; all give the same words.
package koala

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// P is the order of the base field.
const P = 1<<31 - 1<<24 + 1

// TwoAdicity is the largest k such that the base field has a root of unity of
// order 2^k.
const TwoAdicity = 24

const (
	inverseP = 0x81000001  // P^-1 mod 2^32
	rSquared = 1 << 64 % P // 2^64 mod p
	one      = 1 << 32 % P
)

// Elem is an element of the base field.
type Elem uint32

// One is 1.
const One = Elem(one)

// reduce returns x / 2^32 mod p for x < 2^32 p.
func reduce(x uint64) Elem {
	m := uint32(x) * inverseP
	d := uint32(x>>32) - uint32(uint64(m)*P>>32)
	return Elem(min(d, d+P))
}

// reduce4 is reduce for a sum of up to four products of elements.
func reduce4(x uint64) Elem {
	hi := uint32(x >> 32)
	hi = min(hi, hi-P)
	m := uint32(x) * inverseP
	d := hi - uint32(uint64(m)*P>>32)
	return Elem(min(d, d+P))
}

// FromInt returns x mod p.
func FromInt(x int64) Elem {
	x %= P
	if x < 0 {
		x += P
	}
	return reduce(uint64(x) * rSquared)
}

// FromSmall returns x mod p for |x| < p.
func FromSmall(x int32) Elem {
	u := uint32(x)
	return reduce(uint64(min(u, u+P)) * rSquared)
}

// Uint returns the representative of x in [0, p).
func (x Elem) Uint() uint32 { return uint32(reduce(uint64(x))) }

// Int returns the representative of x in (-p/2, p/2).
func (x Elem) Int() int64 {
	u := int64(x.Uint())
	if u > P/2 {
		u -= P
	}
	return u
}

// Add returns x + y.
func (x Elem) Add(y Elem) Elem {
	s := uint32(x) + uint32(y)
	return Elem(min(s, s-P))
}

// Sub returns x - y.
func (x Elem) Sub(y Elem) Elem {
	d := uint32(x) - uint32(y)
	return Elem(min(d, d+P))
}

// Neg returns -x.
func (x Elem) Neg() Elem { return Elem(0).Sub(x) }

// Mul returns x y.
func (x Elem) Mul(y Elem) Elem { return reduce(uint64(x) * uint64(y)) }

// Exp returns x^n.
func (x Elem) Exp(n uint64) Elem {
	y := One
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			y = y.Mul(x)
		}
		x = x.Mul(x)
	}
	return y
}

// Inv returns 1/x, and 0 for 0.
func (x Elem) Inv() Elem { return x.Exp(P - 2) }

// Half is 1/2.
var Half = FromInt(2).Inv()

// Root returns a root of unity of order 2^k, k <= TwoAdicity, such that
// Root(k)^2 = Root(k-1).
func Root(k int) Elem {
	r := FromInt(3).Exp((P - 1) >> TwoAdicity)
	for ; k < TwoAdicity; k++ {
		r = r.Mul(r)
	}
	return r
}

// Ext is an element A + B v + C v^2 + D v^3 of the extension, v^4 = 3.
type Ext struct{ A, B, C, D Elem }

// Lift returns x as an element of the extension.
func Lift(x Elem) Ext { return Ext{A: x} }

// ExtOne is 1.
var ExtOne = Lift(One)

// Add returns x + y.
func (x Ext) Add(y Ext) Ext {
	return Ext{x.A.Add(y.A), x.B.Add(y.B), x.C.Add(y.C), x.D.Add(y.D)}
}

// Sub returns x - y.
func (x Ext) Sub(y Ext) Ext {
	return Ext{x.A.Sub(y.A), x.B.Sub(y.B), x.C.Sub(y.C), x.D.Sub(y.D)}
}

// Neg returns -x.
func (x Ext) Neg() Ext { return Ext{}.Sub(x) }

// Scale returns x y for y of the base field.
func (x Ext) Scale(y Elem) Ext { return Ext{x.A.Mul(y), x.B.Mul(y), x.C.Mul(y), x.D.Mul(y)} }

func triple(x Elem) uint64 {
	return uint64(x.Add(x).Add(x))
}

// Mul returns x y.
func (x Ext) Mul(y Ext) Ext {
	a0, a1, a2, a3 := uint64(x.A), uint64(x.B), uint64(x.C), uint64(x.D)
	b0, b1, b2, b3 := uint64(y.A), uint64(y.B), uint64(y.C), uint64(y.D)
	t1, t2, t3 := triple(y.B), triple(y.C), triple(y.D)
	// Four products of reduced elements stay below 2^64: 4 p^2 < 2^63.98.
	return Ext{
		reduce4(a0*b0 + a1*t3 + a2*t2 + a3*t1),
		reduce4(a0*b1 + a1*b0 + a2*t3 + a3*t2),
		reduce4(a0*b2 + a1*b1 + a2*b0 + a3*t3),
		reduce4(a0*b3 + a1*b2 + a2*b1 + a3*b0),
	}
}

// Inv returns 1/x, and 0 for 0.
func (x Ext) Inv() Ext {
	// Over E2 = F[w]/(w^2-3), w = v^2: x = s + t v with s = A + C w and
	// t = B + D w; 1/x = (s - t v) / (s^2 - w t^2).
	three := FromInt(3)
	n0 := x.A.Mul(x.A).Add(three.Mul(x.C.Mul(x.C))).Sub(three.Mul(x.B.Mul(x.D).Add(x.B.Mul(x.D))))
	n1 := x.A.Mul(x.C).Add(x.A.Mul(x.C)).Sub(x.B.Mul(x.B).Add(three.Mul(x.D.Mul(x.D))))
	// 1/(n0 + n1 w) = (n0 - n1 w) / (n0^2 - 3 n1^2).
	d := n0.Mul(n0).Sub(three.Mul(n1.Mul(n1))).Inv()
	i := Ext{A: n0.Mul(d), C: n1.Mul(d).Neg()}
	return Ext{x.A, x.B.Neg(), x.C, x.D.Neg()}.Mul(i)
}

// Exp returns x^n.
func (x Ext) Exp(n uint64) Ext {
	y := ExtOne
	for i := bits.Len64(n) - 1; i >= 0; i-- {
		y = y.Mul(y)
		if n>>i&1 == 1 {
			y = y.Mul(x)
		}
	}
	return y
}

// Sizes of encodings in bytes.
const (
	ElemSize = 4
	ExtSize  = 16
)

// ErrRange is returned for words that are not reduced.
var ErrRange = errors.New("koala: element is not canonical")

// Append appends the encoding of x: its Montgomery word, little-endian.
func (x Elem) Append(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, uint32(x)) }

// Append appends the encodings of the four coordinates.
func (x Ext) Append(b []byte) []byte { return x.D.Append(x.C.Append(x.B.Append(x.A.Append(b)))) }

// DecodeElem reads the encoding of an element from the first four bytes of b.
// There is one encoding an element: words of p and above are refused.
func DecodeElem(b []byte) (Elem, error) {
	x := binary.LittleEndian.Uint32(b)
	if x >= P {
		return 0, ErrRange
	}
	return Elem(x), nil
}

// DecodeExt reads the encoding of an extension element from the first sixteen
// bytes of b.
func DecodeExt(b []byte) (Ext, error) {
	var w [4]Elem
	for i := range w {
		x, err := DecodeElem(b[4*i:])
		if err != nil {
			return Ext{}, err
		}
		w[i] = x
	}
	return Ext{w[0], w[1], w[2], w[3]}, nil
}
