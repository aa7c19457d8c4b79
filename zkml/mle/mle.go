// Package mle is about multilinear extensions: the one polynomial of degree at
// most one in each of n variables that takes given values on {0,1}^n.
//
// The value at index i of a table of 2^n belongs to the point whose first
// coordinate is the most significant bit of i. So fixing the first variable
// combines the two halves of the table, and a table of rows has the row's bits
// before the column's.
package mle

import (
	"math/bits"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/parallel"
)

// Log returns k for n = 2^k, and for other n >= 1 the least k with n <= 2^k.
func Log(n int) int { return bits.Len(uint(n - 1)) }

// Eq returns the table of scale * eq(z, .) over {0,1}^len(z), where eq(z, x) =
// product of z_i x_i + (1-z_i)(1-x_i): the value at z of a multilinear
// polynomial is the sum of its table times Eq(z, 1).
func Eq(z []koala.Ext, scale koala.Ext) koala.Vec {
	v := koala.NewVec(1 << len(z))
	EqInto(v, z, scale)
	return v
}

// EqInto is Eq into a vector of 2^len(z) elements.
func EqInto(v koala.Vec, z []koala.Ext, scale koala.Ext) {
	v.Set(0, scale)
	n := 1
	for k := len(z) - 1; k >= 0; k-- {
		if n < 1<<13 {
			double(v, n, 0, n, z[k])
		} else {
			parallel.For(n, 1<<13, func(from, to int) { double(v, n, from, to, z[k]) })
		}
		n *= 2
	}
}

// double adds a variable z to a table of n elements, from and to being those
// to work on.
func double(v koala.Vec, n, from, to int, z koala.Ext) {
	if n < 16 { // less than a vector register
		for i := from; i < to; i++ {
			x := v.At(i)
			y := x.Mul(z)
			v.Set(i, x.Sub(y))
			v.Set(n+i, y)
		}
		return
	}
	lo, hi := v.Slice(from, to), v.Slice(n+from, n+to)
	koala.ScaleVec(hi, lo, z)
	koala.SubVec(lo, lo, hi)
}

// EqAt returns eq(a, b).
func EqAt(a, b []koala.Ext) koala.Ext {
	p := koala.ExtOne
	for i, x := range a {
		// 1 - x - y + 2xy
		xy := x.Mul(b[i])
		p = p.Mul(koala.ExtOne.Sub(x).Sub(b[i]).Add(xy).Add(xy))
	}
	return p
}

// EqIndex returns eq(z, .) at the point of an index.
func EqIndex(z []koala.Ext, index int) koala.Ext {
	p := koala.ExtOne
	for i, x := range z {
		if index>>(len(z)-1-i)&1 == 0 {
			x = koala.ExtOne.Sub(x)
		}
		p = p.Mul(x)
	}
	return p
}

// Points is EqIndex for many indices at one z: a product of two numbers from
// tables.
type Points struct {
	high, low koala.Vec
	bits      int // of an index that low is for
}

// NewPoints makes the tables.
func NewPoints(z []koala.Ext) Points {
	k := len(z) / 2
	return Points{Eq(z[:k], koala.ExtOne), Eq(z[k:], koala.ExtOne), len(z) - k}
}

// At returns eq(z, .) at the point of an index.
func (p Points) At(index int) koala.Ext {
	return p.high.At(index >> p.bits).Mul(p.low.At(index & (1<<p.bits - 1)))
}

// Eval returns the value at z of the polynomial with the given table.
func Eval(table []koala.Elem, z []koala.Ext) koala.Ext {
	return koala.DotElems(Eq(z, koala.ExtOne), table)
}

// EvalVec is Eval for a table of extension elements, which it leaves alone.
func EvalVec(table koala.Vec, z []koala.Ext) koala.Ext {
	return koala.Dot(Eq(z, koala.ExtOne), table)
}

// Below returns the value at z of the polynomial that is 1 at the indices
// below n, 0 <= n <= 2^len(z), and 0 at others.
func Below(n int, z []koala.Ext) koala.Ext {
	if n >= 1<<len(z) {
		return koala.ExtOne
	}
	// Going down the bits of n: indices that agree so far and then have a 0
	// where n has a 1 are below it, whatever follows.
	var sum koala.Ext
	agree := koala.ExtOne
	for i, x := range z {
		zero := koala.ExtOne.Sub(x)
		if n>>(len(z)-1-i)&1 == 1 {
			sum = sum.Add(agree.Mul(zero))
			agree = agree.Mul(x)
		} else {
			agree = agree.Mul(zero)
		}
	}
	return sum
}

// Identity returns the value at z of the polynomial whose value at index i is
// i.
func Identity(z []koala.Ext) koala.Ext {
	var s koala.Ext
	for _, x := range z {
		s = s.Add(s).Add(x)
	}
	return s
}

// NotAfter returns the value at (a, b), of equal length, of the polynomial
// that is 1 at pairs of indices (i, j) with j <= i and 0 at others.
func NotAfter(a, b []koala.Ext) koala.Ext {
	// agree: equal so far; less: j already below i.
	agree, less := koala.ExtOne, koala.Ext{}
	for i, x := range a {
		y := b[i]
		xy := x.Mul(y)
		less = less.Add(agree.Mul(x.Sub(xy)))
		agree = agree.Mul(koala.ExtOne.Sub(x).Sub(y).Add(xy).Add(xy))
	}
	return less.Add(agree)
}
