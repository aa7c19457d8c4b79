// Package sumcheck proves sums over a cube (Lund, Fortnow, Karloff, Nisan
// 1992) of products of multilinear polynomials, as in Thaler's "Time-optimal
// interactive proofs" (2013).
//
// Several sums with different numbers of variables are proven at once. A term
// of m variables among n is read as a polynomial of all n that depends on the
// last m only, divided by 2^(n-m) so that its sum stays: its point is the end
// of the common point.
//
// A factor eq(z, .) is never written out: of the variable whose turn it is, it
// is a factor of what is said, and of the others a weight that all terms with
// the same z share (Gruen, "Some improvements for the PIOP for ZeroCheck",
// 2024). What is left has degree two, and as its sum is known, two of its values
// determine the third.
package sumcheck

import (
	"errors"
	"slices"
	"sync"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/transcript"
)

// Table is the values of a multilinear polynomial of m variables, 2^m of them.
type Table struct {
	elems []koala.Elem // those of the base field, until the first variable is fixed
	vec   koala.Vec    // else; memory for half as many while there are elems
}

// Elems is a table of base elements, which stay as they are. What becomes of
// it is in the room.
func Elems(x []koala.Elem, room *koala.Room) *Table { return &Table{x, room.Take(len(x) / 2)} }

// Vec is a table of extension elements, which Prove overwrites.
func Vec(x koala.Vec) *Table { return &Table{vec: x} }

func (t *Table) len() int {
	if t.elems != nil {
		return len(t.elems)
	}
	return t.vec.Len()
}

func (t *Table) slice(from, to int) Table {
	if t.elems != nil {
		return Table{elems: t.elems[from:to]}
	}
	return Table{vec: t.vec.Slice(from, to)}
}

// Value is the polynomial's value when no variables are left.
func (t *Table) Value() koala.Ext {
	if t.elems != nil {
		return koala.Lift(t.elems[0])
	}
	return t.vec.At(0)
}

// Term is Coef times the sum over y in {0,1}^m of eq(Point, y) F(y) G(y), where
// Point is of the first variables, or of none. Tables may be in several terms.
type Term struct {
	Coef  koala.Ext
	Point []koala.Ext
	F, G  *Table
}

// round is a sum of products with the first variable left free: its values at
// 0 and 1 and its coefficient of degree two.
type round struct{ zero, one, top koala.Ext }

func (a round) add(b round, x koala.Ext) round {
	return round{a.zero.Add(b.zero.Mul(x)), a.one.Add(b.one.Mul(x)), a.top.Add(b.top.Mul(x))}
}

// at is the value at x.
func (a round) at(x koala.Ext) koala.Ext {
	return a.zero.Add(x.Mul(a.one.Sub(a.zero).Sub(a.top).Add(x.Mul(a.top))))
}

// group is terms of the same variables and point.
type group struct {
	vars  int         // that are left
	point []koala.Ext // of the first of these
	terms []Term
	// What follows is of the next variable, whose factor of eq is left out.
	round round
	claim koala.Ext // the sum of all, with that factor
	coef  koala.Ext // of the variables before: eq, and 1/2 for each that the terms do not have
}

// eq is the factor of the next variable at x.
func (g *group) eq(x koala.Ext) koala.Ext {
	if len(g.point) == 0 {
		return koala.ExtOne
	}
	return mle.EqAt(g.point[:1], []koala.Ext{x})
}

// Sums are sums of terms that are to be proven.
type Sums struct {
	n      int
	groups []*group
	tables []*Table
}

// New begins to prove terms, each of at most n variables.
func New(n int, terms []Term) *Sums {
	s := &Sums{n: n}
	seen := map[*Table]bool{}
	for _, t := range terms {
		m := mle.Log(t.F.len())
		i := slices.IndexFunc(s.groups, func(g *group) bool { return g.vars == m && slices.Equal(g.point, t.Point) })
		if i < 0 {
			i = len(s.groups)
			s.groups = append(s.groups, &group{vars: m, point: t.Point, coef: koala.ExtOne})
		}
		s.groups[i].terms = append(s.groups[i].terms, t)
		for _, f := range []*Table{t.F, t.G} {
			if !seen[f] {
				seen[f] = true
				s.tables = append(s.tables, f)
			}
		}
	}
	for _, g := range s.groups {
		if g.vars == 0 {
			for _, t := range g.terms {
				g.claim = g.claim.Add(t.Coef.Mul(t.F.Value()).Mul(t.G.Value()))
			}
			continue
		}
		g.sum(true)
		if g.claim = g.round.zero.Add(g.round.one); len(g.point) > 0 {
			g.claim = g.round.zero.Add(g.point[0].Mul(g.round.one.Sub(g.round.zero)))
		}
	}
	return s
}

// Sum is the sum of the terms.
func (s *Sums) Sum() koala.Ext {
	var sum koala.Ext
	for _, g := range s.groups {
		sum = sum.Add(g.claim)
	}
	return sum
}

// Prove proves the sum. It returns the point at which the verifier needs the
// tables' values, which they are left with.
func (s *Sums) Prove(t *transcript.Prover) []koala.Ext {
	point := make([]koala.Ext, s.n)
	for k := range point {
		left := s.n - k
		var values [3]koala.Ext // at 0, 2 and 3
		for _, g := range s.groups {
			if g.vars < left {
				g.coef = g.coef.Scale(koala.Half)
				x := g.coef.Mul(g.claim)
				for i := range values {
					values[i] = values[i].Add(x)
				}
				continue
			}
			for i, x := range [3]koala.Ext{number(0), number(2), number(3)} {
				values[i] = values[i].Add(g.coef.Mul(g.eq(x)).Mul(g.round.at(x)))
			}
		}
		t.Exts("round", values[:]...)
		r := t.Challenge("sumcheck")
		point[k] = r
		parallel.Each(len(s.tables), func(i int) {
			if f := s.tables[i]; f.len() == 1<<left {
				f.fold(r)
			}
		})
		for _, g := range s.groups {
			if g.vars == left {
				g.fix(r)
			}
		}
	}
	return point
}

// fix fixes the next variable; the tables have been folded.
func (g *group) fix(r koala.Ext) {
	g.coef = g.coef.Mul(g.eq(r))
	g.claim = g.round.at(r)
	g.vars--
	if len(g.point) > 0 {
		g.point = g.point[1:]
	}
	if g.vars > 0 {
		g.sum(false)
	}
}

// weights is eq of variables: at index i n + k it is outer[i] inner[k] for an
// inner of n elements, or outer[i] without one.
type weights struct {
	outer, inner koala.Vec
	n            int
}

// block is how many elements of a table are worked on at once, so that
// temporary vectors stay in the nearest cache: 2^blockBits at most.
const (
	blockBits = 9
	block     = 1 << blockBits
)

// weigh makes the weights of a number of variables, the point being of the
// first.
func weigh(point []koala.Ext, vars int) weights {
	// Where there are enough variables without weight, blocks are of these.
	bits := min(vars, blockBits)
	if free := vars - len(point); free >= blockBits-2 {
		bits = min(bits, free)
	}
	outer := min(len(point), vars-bits)
	w := weights{outer: repeat(mle.Eq(point[:outer], koala.ExtOne), vars-bits), n: 1 << bits}
	if outer < len(point) {
		w.inner = repeat(mle.Eq(point[outer:], koala.ExtOne), bits)
	}
	return w
}

// repeat repeats each element so that there are 2^bits in all.
func repeat(v koala.Vec, bits int) koala.Vec {
	n := v.Len()
	if n == 1<<bits {
		return v
	}
	w := koala.NewVec(1 << bits)
	each := 1 << bits / n
	for i := range n {
		w.Slice(i*each, (i+1)*each).Fill(v.At(i))
	}
	return w
}

// sum finds out about the next variable. What follows from the claim is not
// computed if there is one.
func (g *group) sum(first bool) {
	var z koala.Ext
	if len(g.point) > 0 {
		z = g.point[0]
	}
	// (1-z) h(0) + z h(1) is the claim, and h(0) + h(1) without a point.
	all := first || len(g.point) > 0 && z == koala.Ext{}
	w := weigh(g.point[min(1, len(g.point)):], g.vars-1)
	rounds := make([]round, len(g.terms))
	parallel.Each(len(g.terms), func(i int) { rounds[i] = g.terms[i].sum(w, all) })
	g.round = round{}
	for i, t := range g.terms {
		g.round = g.round.add(rounds[i], t.Coef)
	}
	switch {
	case all:
	case len(g.point) > 0:
		g.round.one = g.claim.Sub(g.round.zero).Mul(z.Inv()).Add(g.round.zero)
	default:
		g.round.one = g.claim.Sub(g.round.zero)
	}
}

// scratch is temporary vectors.
type scratch struct{ f, g, product koala.Vec }

var pool = sync.Pool{New: func() any {
	return &scratch{koala.NewVec(block), koala.NewVec(block), koala.NewVec(block)}
}}

// sum is the weighted sum of F G with the first variable left free, the value
// at 1 only if asked for.
func (t Term) sum(w weights, one bool) round {
	tmp := pool.Get().(*scratch)
	defer pool.Put(tmp)
	h := t.F.len() / 2
	var r round
	for i := range w.outer.Len() {
		at, end := i*w.n, (i+1)*w.n
		f0, f1, g0, g1 := t.F.slice(at, end), t.F.slice(h+at, h+end), t.G.slice(at, end), t.G.slice(h+at, h+end)
		x := round{zero: w.dot(f0, g0, tmp)}
		if one {
			x.one = w.dot(f1, g1, tmp)
		}
		x.top = w.dot(difference(tmp.f, f1, f0), difference(tmp.g, g1, g0), tmp)
		r = r.add(x, w.outer.At(i))
	}
	return r
}

// difference is a - b, made in tmp.
func difference(tmp koala.Vec, a, b Table) Table {
	if a.elems != nil {
		d := tmp[0][:len(a.elems)]
		koala.SubElems(d, a.elems, b.elems)
		return Table{elems: d}
	}
	d := tmp.Slice(0, a.vec.Len())
	koala.SubVec(d, a.vec, b.vec)
	return Table{vec: d}
}

// dot is the sum of the products of a block of two tables, times the inner
// weights.
func (w weights) dot(f, g Table, tmp *scratch) koala.Ext {
	if f.elems == nil {
		f, g = g, f
	}
	plain := w.inner.Len() == 0
	product := tmp.product.Slice(0, w.n)
	switch {
	case f.elems != nil && g.elems != nil:
		koala.MulElems(product[0], f.elems, g.elems)
		if plain {
			return koala.Sum(koala.Vec{product[0]})
		}
		return koala.DotElems(w.inner, product[0])
	case f.elems != nil:
		if plain {
			return koala.DotElems(g.vec, f.elems)
		}
		for c := range product {
			koala.MulElems(product[c], g.vec[c], f.elems)
		}
	default:
		if plain {
			return koala.Dot(f.vec, g.vec)
		}
		koala.MulVec(product, f.vec, g.vec)
	}
	return koala.Dot(w.inner, product)
}

// fold fixes the first variable.
func (t *Table) fold(r koala.Ext) {
	h := t.len() / 2
	if t.elems == nil {
		lo := t.vec.Slice(0, h)
		koala.Fold(lo, lo, t.vec.Slice(h, 2*h), r)
		t.vec = lo
		return
	}
	tmp := pool.Get().(*scratch)
	defer pool.Put(tmp)
	for at := 0; at < h; at += block {
		end := min(at+block, h)
		lo, hi, dst := t.elems[at:end], t.elems[h+at:h+end], t.vec.Slice(at, end)
		copy(dst[0], lo)
		for _, c := range dst[1:] {
			clear(c)
		}
		d := tmp.f[0][:end-at]
		koala.SubElems(d, hi, lo)
		koala.AddScaled(dst, d, r)
	}
	t.elems = nil
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
