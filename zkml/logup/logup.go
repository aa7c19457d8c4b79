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

// block is how many nodes are worked on at once, so that they stay in the
// nearest cache: 2^blockBits.
const (
	blockBits = 8
	block     = 1 << blockBits
)

// Leaves writes fractions, len(p) of them from index at on: numerators, which
// are of the base field, and denominators. It is asked for blocks of a power of
// two, at multiples of their length, more than once and by several goroutines.
type Leaves func(at int, p []koala.Elem, q koala.Vec)

// level is the fractions of one level of the tree.
type level struct{ p, q koala.Vec }

// first returns the level above 2^n leaves. Leaves themselves are never kept:
// they are half of the tree, and made again sooner than fetched.
func first(n int, leaves Leaves) level {
	h := 1 << n / 2
	up := level{koala.NewVec(h), koala.NewVec(h)}
	parallel.For(h, 4096, func(from, to int) {
		m := min(block, h)
		p0, p1 := make([]koala.Elem, m), make([]koala.Elem, m)
		tmp := koala.NewVec(3 * m)
		q0, q1, s := tmp.Slice(0, m), tmp.Slice(m, 2*m), tmp.Slice(2*m, 3*m)
		for at := from; at < to; at += m {
			leaves(at, p0, q0)
			leaves(h+at, p1, q1)
			p := up.p.Slice(at, at+m)
			mulElems(p, q1, p0)
			mulElems(s, q0, p1)
			koala.AddVec(p, p, s)
			koala.MulVec(up.q.Slice(at, at+m), q0, q1)
		}
	})
	return up
}

// mulElems sets dst = a b for base elements b.
func mulElems(dst, a koala.Vec, b []koala.Elem) {
	for c := range dst {
		koala.MulElems(dst[c], a[c], b)
	}
}

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

// Prove proves that the sum of 2^n fractions is zero, if it is and no
// denominator is; if not it writes a proof that is refused. It returns the point
// at which the verifier needs the values of numerators and denominators.
func Prove(t *transcript.Prover, n int, leaves Leaves) []koala.Ext {
	if n == 0 {
		p, q := make([]koala.Elem, 1), koala.NewVec(1)
		leaves(0, p, q)
		t.Exts("denominator", q.At(0))
		return nil
	}
	levels := []level{first(n, leaves)}
	for levels[len(levels)-1].p.Len() > 1 {
		levels = append(levels, levels[len(levels)-1].add())
	}
	root := levels[len(levels)-1]
	t.Exts("denominator", root.q.At(0))
	vp, vq := root.p.At(0), root.q.At(0)
	var point []koala.Ext
	for k := len(levels) - 2; k >= -1; k-- {
		lambda := t.Challenge("level")
		claim := vp.Add(lambda.Mul(vq))
		var rho []koala.Ext
		var e [4]koala.Ext
		if k >= 0 {
			rho, e = levels[k].descend(t, point, claim, lambda)
			if k > 0 {
				levels[k] = level{}
			}
		} else {
			rho, e = descendLeaves(t, n, leaves, levels[0], point, claim, lambda)
		}
		t.Exts("children", e[:]...)
		c := t.Challenge("child")
		vp = e[0].Add(c.Mul(e[1].Sub(e[0])))
		vq = e[2].Add(c.Mul(e[3].Sub(e[2])))
		point = append([]koala.Ext{c}, rho...)
	}
	return point
}

// tables is what a level's sum-check is over: with a = p0 + lambda q0, the sum
// of eq(z, .) (a q1 + p1 q0).
type tables struct{ a, p1, q0, q1 koala.Vec }

func (x tables) slice(from, to int) tables {
	return tables{x.a.Slice(from, to), x.p1.Slice(from, to), x.q0.Slice(from, to), x.q1.Slice(from, to)}
}

func newTables(n int) tables {
	return tables{koala.NewVec(n), koala.NewVec(n), koala.NewVec(n), koala.NewVec(n)}
}

// fold sets x to the fold of lo and hi at r.
func (x tables) fold(lo, hi tables, r koala.Ext) {
	koala.Fold(x.a, lo.a, hi.a, r)
	koala.Fold(x.p1, lo.p1, hi.p1, r)
	koala.Fold(x.q0, lo.q0, hi.q0, r)
	koala.Fold(x.q1, lo.q1, hi.q1, r)
}

// descend proves that the node above at z has p + lambda q = claim. It returns
// the point reached and there p of both children, then q of both. It overwrites
// the level.
func (l level) descend(t *transcript.Prover, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	h := l.p.Len() / 2
	x := tables{l.p.Slice(0, h), l.p.Slice(h, 2*h), l.q.Slice(0, h), l.q.Slice(h, 2*h)}
	rho := make([]koala.Ext, 0, len(z))
	return x.rounds(t, z, rho, claim, lambda, func(from, to int, s tables) {
		tmp := s.a.Slice(0, to-from)
		koala.ScaleVec(tmp, x.q0.Slice(from, to), lambda)
		koala.AddVec(x.a.Slice(from, to), x.a.Slice(from, to), tmp)
	})
}

// rounds proves the remaining rounds of a level. ready is called for each
// range of indices just before the tables there are read for the first time, with
// something to work in.
func (x tables) rounds(t *transcript.Prover, z, rho []koala.Ext, claim, lambda koala.Ext, ready func(from, to int, s tables)) ([]koala.Ext, [4]koala.Ext) {
	h := x.a.Len()
	if h == 1 {
		ready(0, 1, newTables(1))
	}
	for h > 1 {
		k := len(rho)
		zero, top := sums(z[k+1:], func(from, to int, lo, hi tables) (tables, tables) {
			ready(from, to, lo)
			ready(h/2+from, h/2+to, lo)
			return x.slice(from, to), x.slice(h/2+from, h/2+to)
		})
		t.Exts("round", zero, top)
		r := t.Challenge("logup")
		rho = append(rho, r)
		claim = quadratic(claim, z[k].Inv(), zero, top, r)
		// Folding waits for the next round's sums, so that memory is read once.
		h /= 2
		lo, hi := x.slice(0, h), x.slice(h, 2*h)
		x = lo
		ready = func(from, to int, _ tables) {
			x := lo.slice(from, to)
			x.fold(x, hi.slice(from, to), r)
		}
		if h == 1 {
			ready(0, 1, x)
		}
	}
	return rho, [4]koala.Ext{x.a.At(0).Sub(lambda.Mul(x.q0.At(0))), x.p1.At(0), x.q0.At(0), x.q1.At(0)}
}

// descendLeaves is descend for the leaves. The memory of the level above is used
// again.
func descendLeaves(t *transcript.Prover, n int, leaves Leaves, up level, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	h := 1 << n / 2
	// get makes the tables at some indices, and returns p1.
	get := func(at int, x tables, p0, p1 []koala.Elem) {
		leaves(at, p0, x.q0)
		leaves(h+at, p1, x.q1)
		koala.ScaleVec(x.a, x.q0, lambda)
		koala.AddElems(x.a[0], x.a[0], p0)
		x.p1.Clear()
		copy(x.p1[0], p1)
	}
	if h == 1 {
		x := newTables(1)
		get(0, x, make([]koala.Elem, 1), make([]koala.Elem, 1))
		return x.rounds(t, z, nil, claim, lambda, func(int, int, tables) {})
	}
	zero, top := sums(z[1:], func(from, to int, lo, hi tables) (tables, tables) {
		var p [2][block]koala.Elem
		m := to - from
		get(from, lo, p[0][:m], p[1][:m])
		get(h/2+from, hi, p[0][:m], p[1][:m])
		return lo, hi
	})
	t.Exts("round", zero, top)
	r := t.Challenge("logup")
	claim = quadratic(claim, z[0].Inv(), zero, top, r)
	x := tables{up.p.Slice(0, h/2), up.p.Slice(h/2, h), up.q.Slice(0, h/2), up.q.Slice(h/2, h)}
	parallel.For(h/2, 4096, func(from, to int) {
		m := min(block, h/2)
		lo, hi := newTables(m), newTables(m)
		var p [2][block]koala.Elem
		for at := from; at < to; at += m {
			get(at, lo, p[0][:m], p[1][:m])
			get(h/2+at, hi, p[0][:m], p[1][:m])
			x.slice(at, at+m).fold(lo, hi, r)
		}
	})
	return x.rounds(t, z, []koala.Ext{r}, claim, lambda, func(int, int, tables) {})
}

// sums returns the value at 0 and the leading coefficient of a round's
// polynomial of degree two: z are the variables that are left, and at returns
// the tables at indices where the round's variable is 0 and where it is 1. It is
// given memory that it may use for them.
func sums(z []koala.Ext, at func(from, to int, lo, hi tables) (tables, tables)) (zero, top koala.Ext) {
	// eq of the last variables times a number for each block.
	inner := min(len(z), blockBits)
	outer, eq := mle.Eq(z[:len(z)-inner], koala.ExtOne), mle.Eq(z[len(z)-inner:], koala.ExtOne)
	m := 1 << inner
	var mu sync.Mutex
	parallel.For(outer.Len(), 4, func(first, last int) {
		l, h := newTables(m), newTables(m)
		tmp := koala.NewVec(4 * m)
		x, y, d, e := tmp.Slice(0, m), tmp.Slice(m, 2*m), tmp.Slice(2*m, 3*m), tmp.Slice(3*m, 4*m)
		var z, u koala.Ext
		for i := first; i < last; i++ {
			lo, hi := at(i*m, (i+1)*m, l, h)
			koala.MulVec(x, lo.a, lo.q1)
			koala.MulVec(y, lo.p1, lo.q0)
			koala.AddVec(x, x, y)
			z = z.Add(outer.At(i).Mul(koala.Dot(eq, x)))

			koala.SubVec(d, hi.a, lo.a)
			koala.SubVec(e, hi.q1, lo.q1)
			koala.MulVec(x, d, e)
			koala.SubVec(d, hi.p1, lo.p1)
			koala.SubVec(e, hi.q0, lo.q0)
			koala.MulVec(y, d, e)
			koala.AddVec(x, x, y)
			u = u.Add(outer.At(i).Mul(koala.Dot(eq, x)))
		}
		mu.Lock()
		zero, top = zero.Add(z), top.Add(u)
		mu.Unlock()
	})
	return zero, top
}

// quadratic returns h(r) for the h of degree two with the given value at 0 and
// leading coefficient and with (1-z) h(0) + z h(1) = claim. It is given 1/z, and
// 0 at z = 0, which a random z is with negligible probability.
func quadratic(claim, inv, zero, top, r koala.Ext) koala.Ext {
	h1 := claim.Sub(zero).Mul(inv).Add(zero)
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
		inv, ok := inverses(point)
		if !ok {
			t.Fail(ErrSum)
		}
		for k := range point {
			e := t.Exts("round", 2)
			rho[k] = t.Challenge("logup")
			claim = quadratic(claim, inv[k], e[0], e[1], rho[k])
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

// inverses returns the inverses of all elements by one inversion (Montgomery
// 1987), if none is zero.
func inverses(z []koala.Ext) ([]koala.Ext, bool) {
	out := make([]koala.Ext, len(z))
	product := koala.ExtOne
	for i, x := range z {
		out[i] = product
		product = product.Mul(x)
	}
	inv := product.Inv()
	for i := len(z) - 1; i >= 0; i-- {
		out[i] = out[i].Mul(inv)
		inv = inv.Mul(z[i])
	}
	return out, product != (koala.Ext{})
}
