// Package sumcheck proves sums over a cube (Lund, Fortnow, Karloff, Nisan
// 1992) of sums of products of multilinear polynomials, as in Thaler's
// "Time-optimal interactive proofs" (2013).
//
// Several sums with different numbers of variables are proven at once. A term
// of m variables among n is read as a polynomial of all n that depends on the
// last m only, divided by 2^(n-m) so that its sum stays: its point is the end
// of the common point.
package sumcheck

import (
	"errors"
	"sync"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/transcript"
)

// Degree bounds the factors of a term.
const Degree = 3

// Term is Coef times the sum over {0,1}^m of the product of its factors, 1 to
// Degree tables of 2^m elements. Prove overwrites the tables; none may appear
// twice.
type Term struct {
	Coef    koala.Ext
	Factors []koala.Vec
}

// half is 1/2.
var half = koala.Lift(koala.Half)

// Sum returns Coef times the sum of the products.
func (t Term) Sum() koala.Ext {
	n := t.Factors[0].Len()
	var s koala.Ext
	switch len(t.Factors) {
	case 1:
		s = koala.Sum(t.Factors[0])
	case 2:
		s = koala.Dot(t.Factors[0], t.Factors[1])
	default:
		tmp := koala.NewVec(min(block, n))
		for at := 0; at < n; at += block {
			end := min(at+block, n)
			tmp := tmp.Slice(0, end-at)
			koala.MulVec(tmp, t.Factors[0].Slice(at, end), t.Factors[1].Slice(at, end))
			s = s.Add(koala.Dot(tmp, t.Factors[2].Slice(at, end)))
		}
	}
	return s.Mul(t.Coef)
}

// block is how many elements of a table are worked on at once, so that
// temporary vectors stay in the nearest cache.
const block = 512

var scratch = sync.Pool{New: func() any {
	v := koala.NewVec(3 * block)
	return &v
}}

// round returns the values at 0, 2 and 3 of the sum with the first variable
// left free.
func (t Term) round() [3]koala.Ext {
	h := t.Factors[0].Len() / 2
	var out [3]koala.Ext
	tmp := scratch.Get().(*koala.Vec)
	defer scratch.Put(tmp)
	for at := 0; at < h; at += block {
		n := min(block, h-at)
		prod, val, diff := tmp.Slice(0, n), tmp.Slice(n, 2*n), tmp.Slice(2*n, 3*n)
		for i := range out {
			// The polynomial at x is lo + x (hi - lo) = hi + (x-1)(hi - lo).
			for k, f := range t.Factors {
				lo, hi := f.Slice(at, at+n), f.Slice(h+at, h+at+n)
				v := val
				switch i {
				case 0:
					v = lo
				case 1:
					koala.SubVec(diff, hi, lo)
					koala.AddVec(val, hi, diff)
				case 2:
					koala.SubVec(diff, hi, lo)
					koala.AddVec(val, hi, diff)
					koala.AddVec(val, val, diff)
				}
				last := k == len(t.Factors)-1
				switch {
				case last && k == 0:
					out[i] = out[i].Add(koala.Sum(v))
				case last:
					out[i] = out[i].Add(koala.Dot(prod, v))
				case k == 0:
					prod.Copy(v)
				default:
					koala.MulVec(prod, prod, v)
				}
			}
		}
	}
	for i := range out {
		out[i] = out[i].Mul(t.Coef)
	}
	return out
}

// fold fixes the first variable.
func (t *Term) fold(r koala.Ext) {
	for k, f := range t.Factors {
		h := f.Len() / 2
		lo := f.Slice(0, h)
		koala.Fold(lo, lo, f.Slice(h, 2*h), r)
		t.Factors[k] = lo
	}
}

// Prove proves the sum of the terms, each of at most n variables. It returns
// the point at which the verifier needs the factors' values, which are left
// as the single elements of the terms' tables.
func Prove(t *transcript.Prover, n int, terms []Term) []koala.Ext {
	point := make([]koala.Ext, n)
	// Terms that have not begun add a constant, halved each round.
	idle := make([]koala.Ext, len(terms))
	for i := range terms {
		idle[i] = terms[i].Sum()
		for m := terms[i].Factors[0].Len(); m < 1<<n; m *= 2 {
			terms[i].Coef = terms[i].Coef.Mul(half)
		}
	}
	evals := make([][3]koala.Ext, len(terms))
	for round := range n {
		left := n - round
		parallel.Each(len(terms), func(i int) {
			if terms[i].Factors[0].Len() == 1<<left {
				evals[i] = terms[i].round()
				return
			}
			idle[i] = idle[i].Mul(half)
			evals[i] = [3]koala.Ext{idle[i], idle[i], idle[i]}
		})
		var sum [3]koala.Ext
		for _, e := range evals {
			for k := range sum {
				sum[k] = sum[k].Add(e[k])
			}
		}
		t.Exts("round", sum[:]...)
		r := t.Challenge("sumcheck")
		point[round] = r
		parallel.Each(len(terms), func(i int) {
			if terms[i].Factors[0].Len() == 1<<left {
				terms[i].fold(r)
			}
		})
	}
	return point
}

// Verify checks a proof of a claimed sum over n variables. It returns the
// point and what the sum of the terms must be there, each term divided by
// 2^(n-m).
func Verify(t *transcript.Verifier, n int, claim koala.Ext) (point []koala.Ext, value koala.Ext) {
	point = make([]koala.Ext, n)
	for i := range point {
		e := t.Exts("round", 3)
		r := t.Challenge("sumcheck")
		claim = Cubic(e[0], claim.Sub(e[0]), e[1], e[2], r)
		point[i] = r
	}
	return point, claim
}

var (
	inv2 = koala.FromInt(2).Inv()
	inv6 = koala.FromInt(6).Inv()
)

// Cubic returns the value at x of the polynomial of degree at most 3 with the
// given values at 0, 1, 2 and 3.
func Cubic(y0, y1, y2, y3, x koala.Ext) koala.Ext {
	x1, x2, x3 := x.Sub(number(1)), x.Sub(number(2)), x.Sub(number(3))
	a, b := x.Mul(x1), x2.Mul(x3)
	s := y3.Mul(a).Mul(x2).Scale(inv6)
	s = s.Sub(y2.Mul(a).Mul(x3).Scale(inv2))
	s = s.Add(y1.Mul(x).Mul(b).Scale(inv2))
	return s.Sub(y0.Mul(x1).Mul(b).Scale(inv6))
}

func number(n int64) koala.Ext { return koala.Lift(koala.FromInt(n)) }

// ErrSum is returned by callers when the value at the point is wrong.
var ErrSum = errors.New("sumcheck: the sum is not what was claimed")
