// Package logup proves that a sum of fractions is zero, which is how lookups
// are proven: the values v_i all occur among the table entries t_j, with
// multiplicities m_j, if and only if
//
//	sum of 1/(a - v_i)  =  sum of m_j/(a - t_j)
//
// as rational functions of a (Haböck, "Multivariate lookups based on
// logarithmic derivatives", 2022), provided fewer than p values are looked up.
// The sum is proven for a random a by adding fractions pairwise up a binary
// tree and walking down it with one sum-check a level (Papini and Haböck,
// "Improving logarithmic derivative lookups using GKR", 2023), so that nothing
// but the multiplicities needs a commitment.
//
// A node at index x has the children x and x + half of the level below: the
// new variable of a level comes first. The sum-check of a level has the factor
// eq(z, .); as its value is known, it is left out of the messages (Gruen,
// "Some improvements for the PIOP for ZeroCheck", 2024), which then have
// degree two and of which two coefficients determine the third.
package logup

import (
	"errors"
	"sync"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/transcript"
)

// block is how many nodes are worked on at once, so that temporary vectors
// stay in the nearest cache.
const block = 256

// level is the fractions of one level of the tree.
type level struct{ p, q koala.Vec }

// add returns the level above.
func (l level) add() level {
	h := l.p.Len() / 2
	up := level{koala.NewVec(h), koala.NewVec(h)}
	parallel.For(h, 4096, func(from, to int) {
		tmp := koala.NewVec(min(block, to-from))
		for at := from; at < to; at += block {
			end := min(at+block, to)
			t := tmp.Slice(0, end-at)
			p0, p1 := l.p.Slice(at, end), l.p.Slice(h+at, h+end)
			q0, q1 := l.q.Slice(at, end), l.q.Slice(h+at, h+end)
			koala.MulVec(t, p0, q1)
			koala.MulVec(up.p.Slice(at, end), p1, q0)
			koala.AddVec(up.p.Slice(at, end), up.p.Slice(at, end), t)
			koala.MulVec(up.q.Slice(at, end), q0, q1)
		}
	})
	return up
}

// Prove proves that the sum of p[i]/q[i] is zero, if it is and no q[i] is; if
// not it writes a proof that is refused. The length is a power of two. Both
// vectors are overwritten. It returns the point at which the verifier needs
// the values of p and q.
func Prove(t *transcript.Prover, p, q koala.Vec) []koala.Ext {
	levels := []level{{p, q}}
	for levels[len(levels)-1].p.Len() > 1 {
		levels = append(levels, levels[len(levels)-1].add())
	}
	root := levels[len(levels)-1]
	t.Exts("denominator", root.q.At(0))
	vp, vq := root.p.At(0), root.q.At(0)
	var point []koala.Ext
	for k := len(levels) - 2; k >= 0; k-- {
		lambda := t.Challenge("level")
		rho, e := levels[k].descend(t, point, vp.Add(lambda.Mul(vq)), lambda)
		t.Exts("children", e[:]...)
		c := t.Challenge("child")
		vp = e[0].Add(c.Mul(e[1].Sub(e[0])))
		vq = e[2].Add(c.Mul(e[3].Sub(e[2])))
		point = append([]koala.Ext{c}, rho...)
		levels[k] = level{}
	}
	return point
}

// descend proves that the node above at z has p + lambda q = claim. It returns
// the point reached and there p of both children, then q of both.
func (l level) descend(t *transcript.Prover, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	h := l.p.Len() / 2
	// With a = p0 + lambda q0, the sum is over eq(z, .) (a q1 + p1 q0).
	a, p1 := l.p.Slice(0, h), l.p.Slice(h, 2*h)
	q0, q1 := l.q.Slice(0, h), l.q.Slice(h, 2*h)
	parallel.For(h, 4096, func(from, to int) {
		tmp := koala.NewVec(min(block, to-from))
		for at := from; at < to; at += block {
			end := min(at+block, to)
			s := tmp.Slice(0, end-at)
			koala.ScaleVec(s, q0.Slice(at, end), lambda)
			koala.AddVec(a.Slice(at, end), a.Slice(at, end), s)
		}
	})
	var eq koala.Vec
	if h > 1 {
		eq = mle.Eq(z[1:], koala.ExtOne)
	}
	rho := make([]koala.Ext, len(z))
	for k := range z {
		h /= 2
		zero, top := sums(eq.Slice(0, h), a, p1, q0, q1)
		t.Exts("round", zero, top)
		r := t.Challenge("logup")
		rho[k] = r
		claim = quadratic(claim, z[k], zero, top, r)
		parallel.For(h, 1024, func(from, to int) {
			for _, v := range []koala.Vec{a, p1, q0, q1} {
				koala.Fold(v.Slice(from, to), v.Slice(from, to), v.Slice(h+from, h+to), r)
			}
		})
		a, p1, q0, q1 = a.Slice(0, h), p1.Slice(0, h), q0.Slice(0, h), q1.Slice(0, h)
		// Summing out a variable of eq leaves eq of the others.
		if h > 1 {
			koala.AddVec(eq.Slice(0, h/2), eq.Slice(0, h/2), eq.Slice(h/2, h))
		}
	}
	return rho, [4]koala.Ext{a.At(0).Sub(lambda.Mul(q0.At(0))), p1.At(0), q0.At(0), q1.At(0)}
}

// sums returns the value at 0 and the leading coefficient of the round's
// polynomial of degree two.
func sums(eq, a, p1, q0, q1 koala.Vec) (zero, top koala.Ext) {
	h := eq.Len()
	var mu sync.Mutex
	parallel.For(h, 1024, func(from, to int) {
		n := min(block, to-from)
		tmp := koala.NewVec(4 * n)
		var z, u koala.Ext
		for at := from; at < to; at += block {
			end := min(at+block, to)
			n := end - at
			x, y, d, e := tmp.Slice(0, n), tmp.Slice(n, 2*n), tmp.Slice(2*n, 3*n), tmp.Slice(3*n, 4*n)
			w := eq.Slice(at, end)
			koala.MulVec(x, a.Slice(at, end), q1.Slice(at, end))
			koala.MulVec(y, p1.Slice(at, end), q0.Slice(at, end))
			koala.AddVec(x, x, y)
			z = z.Add(koala.Dot(w, x))

			koala.SubVec(d, a.Slice(h+at, h+end), a.Slice(at, end))
			koala.SubVec(e, q1.Slice(h+at, h+end), q1.Slice(at, end))
			koala.MulVec(x, d, e)
			koala.SubVec(d, p1.Slice(h+at, h+end), p1.Slice(at, end))
			koala.SubVec(e, q0.Slice(h+at, h+end), q0.Slice(at, end))
			koala.MulVec(y, d, e)
			koala.AddVec(x, x, y)
			u = u.Add(koala.Dot(w, x))
		}
		mu.Lock()
		zero, top = zero.Add(z), top.Add(u)
		mu.Unlock()
	})
	return zero, top
}

// quadratic returns h(r) for the h of degree two with the given value at 0 and
// leading coefficient and with (1-z) h(0) + z h(1) = claim. At z = 0, which a
// random z is with negligible probability, h(1) is taken to be 0.
func quadratic(claim, z, zero, top, r koala.Ext) koala.Ext {
	h1 := claim.Sub(zero).Mul(z.Inv()).Add(zero)
	return zero.Add(r.Mul(h1.Sub(zero).Sub(top).Add(r.Mul(top))))
}

// ErrSum is returned when the fractions do not add up to zero.
var ErrSum = errors.New("logup: fractions do not cancel")

// Verify checks a proof for 2^n fractions. It returns the point at which the
// values of p and q must be as returned; that is left to the caller. Errors
// are also recorded in t.
func Verify(t *transcript.Verifier, n int) (point []koala.Ext, p, q koala.Ext, err error) {
	q = t.Ext("denominator")
	// The sum is zero: p of the root is, and q is not.
	if q == (koala.Ext{}) {
		t.Fail(ErrSum)
	}
	for range n {
		lambda := t.Challenge("level")
		claim := p.Add(lambda.Mul(q))
		rho := make([]koala.Ext, len(point))
		for k, z := range point {
			e := t.Exts("round", 2)
			rho[k] = t.Challenge("logup")
			if z == (koala.Ext{}) {
				t.Fail(ErrSum)
			}
			claim = quadratic(claim, z, e[0], e[1], rho[k])
		}
		e := t.Exts("children", 4)
		if e[0].Mul(e[3]).Add(e[1].Mul(e[2])).Add(lambda.Mul(e[2].Mul(e[3]))) != claim {
			t.Fail(ErrSum)
		}
		c := t.Challenge("child")
		p = e[0].Add(c.Mul(e[1].Sub(e[0])))
		q = e[2].Add(c.Mul(e[3].Sub(e[2])))
		point = append([]koala.Ext{c}, rho...)
	}
	return point, p, q, t.Err()
}
