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

// block is how many nodes are worked on at once, 2^blockBits: so many that what
// each block costs besides does not count, and so few that they stay in a cache.
// grain is how many blocks a core takes at least.
const (
	blockBits = 10
	block     = 1 << blockBits
	grain     = 4
)

// level is the fractions of one level of the tree.
type level struct{ p, q koala.Vec }

// maker makes nodes, as many as p and q are long, from an index on. The two
// lowest levels are never kept: they are three quarters of the tree. They are
// made again, block by block, whenever they are needed.
type maker func(at int, p, q koala.Vec)

// addMade sets l to the level above nodes that are made.
func (l level) addMade(made maker) {
	h := l.p.Len()
	m := min(block, h)
	parallel.For(h/m, grain, func(first, last int) {
		tmp := koala.NewVec(4 * m)
		p0, q0, p1, q1 := tmp.Slice(0, m), tmp.Slice(m, 2*m), tmp.Slice(2*m, 3*m), tmp.Slice(3*m, 4*m)
		for at := first * m; at < last*m; at += m {
			made(at, p0, q0)
			made(h+at, p1, q1)
			koala.AddFractions(l.p.Slice(at, at+m), l.q.Slice(at, at+m), p0, q0, p1, q1)
		}
	})
}

// addLevel sets l to the level above another.
func (l level) addLevel(below level) {
	h := l.p.Len()
	m := min(block, h)
	parallel.For(h/m, grain, func(first, last int) {
		for at := first * m; at < last*m; at += m {
			koala.AddFractions(l.p.Slice(at, at+m), l.q.Slice(at, at+m), below.p.Slice(at, at+m), below.q.Slice(at, at+m),
				below.p.Slice(h+at, h+at+m), below.q.Slice(h+at, h+at+m))
		}
	})
}

// Room is how many elements Prove wants room for.
func Room(n int) int { return 1<<n + 2*n*koala.Apart }

// Prove proves that the sum of 2^n fractions is zero, if it is and no
// denominator is; if not it writes a proof that is refused. It returns the point
// at which the verifier needs the values of numerators and denominators.
func Prove(t *transcript.Prover, n int, leaves Leaves, room *koala.Room) []koala.Ext {
	leaves = leaves.repeated()
	if n == 0 {
		p, q := koala.NewVec(1), koala.NewVec(1)
		leaves.nodes(0, p, q)
		t.Exts("denominator", q.At(0))
		return nil
	}
	// All levels that are kept, and later the tables of those that are not, are
	// in one place.
	memory := room.Take(Room(n))
	var levels []level
	at := 0
	for h := 1 << n / 4; h > 0; h /= 2 {
		l := level{memory.Slice(at, at+h), memory.Slice(at+h+koala.Apart, at+2*h+koala.Apart)}
		at += 2 * (h + koala.Apart)
		if len(levels) == 0 {
			l.addMade(leaves.parents(n))
		} else {
			l.addLevel(levels[len(levels)-1])
		}
		levels = append(levels, l)
	}
	root := level{koala.NewVec(1), koala.NewVec(1)}
	if n == 1 {
		root.addMade(leaves.nodes)
	} else {
		root = levels[len(levels)-1]
	}
	t.Exts("denominator", root.q.At(0))
	vp, vq := root.p.At(0), root.q.At(0)
	var point []koala.Ext
	for k := len(levels) - 2; k >= -2; k-- {
		lambda := t.Challenge("level")
		claim := vp.Add(lambda.Mul(vq))
		var rho []koala.Ext
		var e [4]koala.Ext
		switch k {
		case -1:
			rho, e = descendMade(t, 1<<n/4, leaves.parents(n), memory, point, claim, lambda)
		case -2:
			rho, e = leaves.descend(t, 1<<n/2, memory, point, claim, lambda)
		default:
			rho, e = levels[k].descend(t, point, claim, lambda)
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
// of eq(z, .) (a q1 + q0 p1). An empty p1 is 1 everywhere.
type tables [4]koala.Vec

const (
	tabA = iota
	tabQ1
	tabQ0
	tabP1
)

// tablesIn returns tables of n elements in memory of at least 4n.
func tablesIn(v koala.Vec, n int) tables {
	step := n
	if n >= 1024 {
		step += koala.Apart
	}
	return tables{v.Slice(0, n), v.Slice(step, step+n), v.Slice(2*step, 2*step+n), v.Slice(3*step, 3*step+n)}
}

func newTables(n int) tables { return tablesIn(koala.NewVec(4*(n+koala.Apart)), n) }

func (x tables) slice(from, to int) tables {
	for k := range x {
		if x[k].Len() > 0 {
			x[k] = x[k].Slice(from, to)
		}
	}
	return x
}

// fold sets x to the fold of lo and hi at r.
func (x tables) fold(lo, hi tables, r koala.Ext) {
	for k := range x {
		koala.Fold(x[k], lo[k], hi[k], r)
	}
}

// descend proves that the node above at z has p + lambda q = claim. It returns
// the point reached and there p of both children, then q of both. It overwrites
// the level.
func (l level) descend(t *transcript.Prover, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	h := l.p.Len() / 2
	x := tables{tabA: l.p.Slice(0, h), tabP1: l.p.Slice(h, 2*h), tabQ0: l.q.Slice(0, h), tabQ1: l.q.Slice(h, 2*h)}
	rho := make([]koala.Ext, 0, len(z))
	return x.rounds(t, z, rho, claim, lambda, func(from, to int) {
		koala.AddProduct(x[tabA].Slice(from, to), x[tabQ0].Slice(from, to), lambda)
	})
}

// rounds proves the remaining rounds of a level. ready is called for each
// range of indices just before the tables there are read for the first time.
func (x tables) rounds(t *transcript.Prover, z, rho []koala.Ext, claim, lambda koala.Ext, ready func(from, to int)) ([]koala.Ext, [4]koala.Ext) {
	h := x[tabA].Len()
	if h == 1 {
		ready(0, 1)
	}
	for h > 1 {
		k := len(rho)
		block := func(from int, eq koala.Vec) (zero, top koala.Ext) {
			to := from + eq.Len()
			ready(from, to)
			ready(h/2+from, h/2+to)
			return quadratic(eq, x.slice(from, to), x.slice(h/2+from, h/2+to))
		}
		zero, top := sums(z[k+1:], func() blockSum { return block })
		t.Exts("round", zero, top)
		r := t.Challenge("logup")
		rho = append(rho, r)
		claim = valueAt(claim, z[k].Inv(), zero, top, r)
		// Folding waits for the next round's sums, so that memory is read once.
		h /= 2
		lo, hi := x.slice(0, h), x.slice(h, 2*h)
		x = lo
		ready = func(from, to int) {
			x := lo.slice(from, to)
			x.fold(x, hi.slice(from, to), r)
		}
		if h == 1 {
			ready(0, 1)
		}
	}
	p1 := koala.ExtOne
	if x[tabP1].Len() > 0 {
		p1 = x[tabP1].At(0)
	}
	return rho, [4]koala.Ext{x[tabA].At(0).Sub(lambda.Mul(x[tabQ0].At(0))), p1, x[tabQ0].At(0), x[tabQ1].At(0)}
}

// descendMade is level.descend for a level of 2h nodes that are made. Tables
// are kept in memory, for 2h elements, after the first fold.
func descendMade(t *transcript.Prover, h int, made maker, memory koala.Vec, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	// get makes tables of which a is p0 yet.
	get := func(at int, x tables) {
		made(at, x[tabA], x[tabQ0])
		made(h+at, x[tabP1], x[tabQ1])
	}
	if h == 1 {
		x := newTables(1)
		get(0, x)
		koala.AddProduct(x[tabA], x[tabQ0], lambda)
		return x.rounds(t, z, nil, claim, lambda, func(int, int) {})
	}
	zero, top := sums(z[1:], func() blockSum {
		lo, hi := newTables(min(block, h/2)), newTables(min(block, h/2))
		return func(at int, eq koala.Vec) (zero, top koala.Ext) {
			get(at, lo)
			get(h/2+at, hi)
			koala.AddProduct(lo[tabA], lo[tabQ0], lambda)
			koala.AddProduct(hi[tabA], hi[tabQ0], lambda)
			return quadratic(eq, lo, hi)
		}
	})
	t.Exts("round", zero, top)
	r := t.Challenge("logup")
	claim = valueAt(claim, z[0].Inv(), zero, top, r)
	n := h / 2
	m := min(block, n)
	x := tablesIn(memory, n)
	parallel.For(n/m, grain, func(first, last int) {
		lo, hi := newTables(m), newTables(m)
		for at := first * m; at < last*m; at += m {
			get(at, lo)
			get(n+at, hi)
			x := x.slice(at, at+m)
			x.fold(lo, hi, r)
			koala.AddProduct(x[tabA], x[tabQ0], lambda)
		}
	})
	return x.rounds(t, z, []koala.Ext{r}, claim, lambda, func(int, int) {})
}

// blockSum returns what a block adds to sums: indices from one on, where eq is
// given but for a factor.
type blockSum func(at int, eq koala.Vec) (zero, top koala.Ext)

// quadratic is koala.QuadraticSums for tables.
func quadratic(eq koala.Vec, lo, hi tables) (zero, top koala.Ext) {
	return koala.QuadraticSums(eq, (*[4]koala.Vec)(&lo), (*[4]koala.Vec)(&hi))
}

// sums returns the value at 0 and the leading coefficient of a round's
// polynomial of degree two: z are the variables that are left. It adds up what
// blocks have; newSum is called for each core that does.
func sums(z []koala.Ext, newSum func() blockSum) (zero, top koala.Ext) {
	// eq of the last variables times a number for each block.
	inner := min(len(z), blockBits)
	outer, eq := mle.Eq(z[:len(z)-inner], koala.ExtOne), mle.Eq(z[len(z)-inner:], koala.ExtOne)
	var mu sync.Mutex
	parallel.For(outer.Len(), grain, func(first, last int) {
		sum := newSum()
		var z, u koala.Ext
		for i := first; i < last; i++ {
			zero, top := sum(i<<inner, eq)
			z, u = z.Add(outer.At(i).Mul(zero)), u.Add(outer.At(i).Mul(top))
		}
		mu.Lock()
		zero, top = zero.Add(z), top.Add(u)
		mu.Unlock()
	})
	return zero, top
}

// valueAt returns h(r) for the h of degree two with the given value at 0 and
// leading coefficient and with (1-z) h(0) + z h(1) = claim. It is given 1/z, and
// 0 at z = 0, which a random z is with negligible probability.
func valueAt(claim, inv, zero, top, r koala.Ext) koala.Ext {
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
			claim = valueAt(claim, inv[k], e[0], e[1], rho[k])
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
