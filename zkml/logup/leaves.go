package logup

import (
	"sort"
	"sync"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/transcript"
)

// Terms bounds the vectors that a denominator is made of.
const Terms = 3

// Leaves are the fractions that are added up. Nearly all of the work is here,
// so it matters that a leaf is not any fraction: its numerator is of the base
// field and mostly 1, its denominator a constant and a few elements of the base
// field times random numbers.
type Leaves struct {
	Coef  [Terms]koala.Ext // of Part.Base
	Parts []Part           // in order; where there is none, nothing is added
}

// Part is the leaves from At on: numerators Num over denominators
// Const + sum of Coef[j] Base[j].
type Part struct {
	At, Len int          // Len is a power of two, At a multiple of it
	Num     []koala.Elem // a power of two of them, repeated; nil: all are 1
	Const   koala.Ext
	Base    [Terms][]koala.Elem // Len elements each; nil: zeros
}

// run is up to a block of consecutive leaves of a part: numerators one + num,
// denominators c + sum of Coef[j] base[j], where nil is zeros. Differences of
// runs are runs.
type run struct {
	n    int
	one  koala.Elem
	num  []koala.Elem
	c    koala.Ext
	base [Terms][]koala.Elem
}

var (
	minusOne = koala.Ext{}.Sub(koala.ExtOne)
	one      = mle.Eq(nil, koala.ExtOne) // the weight of a single run
	zeros    [block]koala.Elem           // not to be changed
)

// repeated returns the leaves with numerators that repeat no more often than
// from one block to the next, so that runs need not be shorter.
func (l Leaves) repeated() Leaves {
	parts := make([]Part, len(l.Parts))
	for i, p := range l.Parts {
		if n := min(p.Len, block); p.Num != nil && len(p.Num) < n {
			num := make([]koala.Elem, n)
			for at := 0; at < n; at += len(p.Num) {
				copy(num[at:], p.Num)
			}
			p.Num = num
		}
		parts[i] = p
	}
	return Leaves{l.Coef, parts}
}

// run returns leaves from at on, most of them or fewer.
func (l *Leaves) run(at, most int) run {
	next := sort.Search(len(l.Parts), func(i int) bool { return l.Parts[i].At > at })
	if next == 0 || at >= l.Parts[next-1].At+l.Parts[next-1].Len {
		if next < len(l.Parts) {
			most = min(most, l.Parts[next].At-at)
		}
		return run{n: most, c: koala.ExtOne} // nothing is 0/1
	}
	p := &l.Parts[next-1]
	from := at - p.At
	n := min(most, p.Len-from)
	r := run{n: n, one: koala.One, c: p.Const}
	if p.Num != nil {
		i := from & (len(p.Num) - 1)
		n = min(n, len(p.Num)-i)
		r.n, r.one, r.num = n, 0, p.Num[i:i+n]
	}
	for j, b := range p.Base {
		if b != nil {
			r.base[j] = b[from : from+n]
		}
	}
	return r
}

// first returns the beginning of a run.
func (r run) first(n int) run {
	if n == r.n {
		return r
	}
	r.n = n
	if r.num != nil {
		r.num = r.num[:n]
	}
	for j, b := range r.base {
		if b != nil {
			r.base[j] = b[:n]
		}
	}
	return r
}

// runs calls f with leaves at indices from each of the given ones on, in runs
// of one length, until there were m of each.
func (l *Leaves) runs(at []int, m int, f func(from, to int, r []run)) {
	var memory [8]run
	r := memory[:len(at)]
	for done := 0; done < m; {
		n := m - done
		for i := range r {
			r[i] = l.run(at[i]+done, n)
			n = r[i].n
		}
		for i := range r {
			r[i] = r[i].first(n)
		}
		f(done, done+n, r)
		done += n
	}
}

// ones reports whether all numerators are 1.
func (r run) ones() bool { return r.num == nil && r.one == koala.One }

// onesFrom reports whether all numerators of leaves from to to-1 are 1.
func (l *Leaves) onesFrom(from, to int) bool {
	for from < to {
		r := l.run(from, to-from)
		if !r.ones() {
			return false
		}
		from += r.n
	}
	return true
}

// single reports whether the denominators of a run are c - base[0].
func (l *Leaves) single(r run) bool {
	return l.Coef[0] == minusOne && r.base[0] != nil && r.base[1] == nil && r.base[2] == nil
}

// plain reports whether a run is of 1/(c - base[0]).
func (l *Leaves) plain(r run) bool { return r.ones() && l.single(r) }

// denominators writes those of a run.
func (l *Leaves) denominators(dst koala.Vec, r run) {
	if l.single(r) {
		koala.SubFrom(dst, r.c, r.base[0])
		return
	}
	l.foldDenominators(dst, []run{r}, one)
}

// numerators sets dst = a times the numerators of a run of leaves.
func (r run) numerators(dst, a koala.Vec) {
	switch {
	case r.num != nil:
		for c := range dst {
			koala.MulElems(dst[c], a[c], r.num)
		}
	case r.one != 0:
		dst.Copy(a)
	default:
		dst.Clear()
	}
}

// nodes makes leaves.
func (l *Leaves) nodes(at int, p, q koala.Vec) {
	for done := 0; done < q.Len(); {
		r := l.run(at+done, q.Len()-done)
		p, q := p.Slice(done, done+r.n), q.Slice(done, done+r.n)
		q.Fill(koala.ExtOne)
		r.numerators(p, q)
		l.denominators(q, r)
		done += r.n
	}
}

// parents makes the level above 2^n leaves.
func (l *Leaves) parents(n int) maker {
	h := 1 << n / 2
	pool := sync.Pool{New: func() any { v := koala.NewVec(3 * block); return &v }}
	return func(at int, p, q koala.Vec) {
		v := pool.Get().(*koala.Vec)
		defer pool.Put(v)
		for done := 0; done < q.Len(); {
			a := l.run(at+done, q.Len()-done)
			b := l.run(h+at+done, a.n)
			a = a.first(b.n)
			n := b.n
			p, q := p.Slice(done, done+n), q.Slice(done, done+n)
			done += n
			if l.plain(a) && l.plain(b) {
				koala.Pairs(p, q, a.c, a.base[0], b.c, b.base[0])
				continue
			}
			if l.plain(a) {
				a, b = b, a
			}
			qa, qb := v.Slice(0, n), v.Slice(n, 2*n)
			l.denominators(qa, a)
			if l.plain(b) && (a.ones() || a.num != nil) {
				koala.AddInverse(p, q, a.num, qa, b.c, b.base[0])
				continue
			}
			l.denominators(qb, b)
			tmp := v.Slice(2*n, 3*n)
			a.numerators(p, qb)
			b.numerators(tmp, qa)
			koala.AddVec(p, p, tmp)
			koala.MulVec(q, qa, qb)
		}
	}
}

// descend is level.descend for the 2h leaves, which are not kept. In the first
// round sums of products of them are made of sums of products of what they are
// made of, nearly all of it in the base field. In the second they are folded for
// each block, and only after it are there tables, in memory of h elements.
func (l *Leaves) descend(t *transcript.Prover, h int, memory koala.Vec, z []koala.Ext, claim, lambda koala.Ext) ([]koala.Ext, [4]koala.Ext) {
	if h < 4 {
		return descendMade(t, h, l.nodes, memory, z, claim, lambda)
	}
	var rho []koala.Ext
	round := func(zero, top koala.Ext) {
		t.Exts("round", zero, top)
		rho = append(rho, t.Challenge("logup"))
		k := len(rho) - 1
		claim = valueAt(claim, z[k].Inv(), zero, top, rho[k])
	}
	half, quarter := h/2, h/4
	ones := l.onesFrom(h, 2*h)
	tables := func(x tables) tables {
		if ones {
			x[tabP1] = koala.Vec{}
		}
		return x
	}
	// First children are before h. The variable of the first round adds a half
	// to an index, that of the second a quarter.
	round(sums(z[1:], func() blockSum {
		var s leafScratch
		return func(at int, eq koala.Vec) (zero, top koala.Ext) {
			l.runs([]int{at, h + at, half + at, h + half + at}, eq.Len(), func(from, to int, r []run) {
				eq, all := eq, koala.ExtOne // the sum of all of eq
				if to-from < eq.Len() {
					eq = eq.Slice(from, to)
					all = koala.Sum(eq)
				}
				zero = zero.Add(l.sum(eq, all, r[0], r[1], lambda, s.product[:to-from]))
				a, b := s.first.of(r[2], r[0]), s.second.of(r[3], r[1])
				top = top.Add(l.sum(eq, all, a, b, lambda, s.product[:to-from]))
			})
			return zero, top
		}
	}))
	once := mle.Eq(rho, koala.ExtOne)
	round(sums(z[2:], func() blockSum {
		lo, hi := tables(newTables(min(block, quarter))), tables(newTables(min(block, quarter)))
		return func(at int, eq koala.Vec) (zero, top koala.Ext) {
			l.fold(lo, []int{at, half + at, h + at, h + half + at}, once, lambda)
			at += quarter
			l.fold(hi, []int{at, half + at, h + at, h + half + at}, once, lambda)
			return quadratic(eq, lo, hi)
		}
	}))
	twice := mle.Eq(rho, koala.ExtOne)
	x := tables(tablesIn(memory, quarter))
	m := min(block, quarter)
	parallel.For(quarter/m, grain, func(first, last int) {
		for at := first * m; at < last*m; at += m {
			var children [8]int
			for i := range 4 {
				children[i], children[4+i] = i*quarter+at, h+i*quarter+at
			}
			l.fold(x.slice(at, at+m), children[:], twice, lambda)
		}
	})
	return x.rounds(t, z, rho, claim, lambda, func(int, int) {})
}

// fold makes tables of leaves at indices from the given ones on, half of them
// first and half second children, each times its weight. Weights add up to 1.
func (l *Leaves) fold(x tables, at []int, weights koala.Vec, lambda koala.Ext) {
	k := len(at) / 2
	l.runs(at, x[tabA].Len(), func(from, to int, r []run) {
		x := x.slice(from, to)
		l.foldDenominators(x[tabQ0], r[:k], weights)
		l.foldDenominators(x[tabQ1], r[k:], weights)
		foldNumerators(x[tabA], r[:k], weights)
		if x[tabP1].Len() > 0 {
			foldNumerators(x[tabP1], r[k:], weights)
		}
		koala.AddProduct(x[tabA], x[tabQ0], lambda)
	})
}

// leafScratch is memory for sums of products of runs.
type leafScratch struct {
	first, second difference
	product       [block]koala.Elem
}

// difference is memory for a difference of runs.
type difference [Terms + 1][block]koala.Elem

// of returns b - a.
func (d *difference) of(b, a run) run {
	minus := func(dst, b, a []koala.Elem) []koala.Elem {
		switch {
		case a == nil:
			return b
		case b == nil:
			b = zeros[:len(a)]
		}
		dst = dst[:len(a)]
		koala.SubElems(dst, b, a)
		return dst
	}
	r := run{n: a.n, one: b.one.Sub(a.one), num: minus(d[Terms][:], b.num, a.num), c: b.c.Sub(a.c)}
	for j := range r.base {
		r.base[j] = minus(d[j][:], b.base[j], a.base[j])
	}
	return r
}

// sum returns the sum of eq (pa qb + pb qa + lambda qa qb) over the numerators
// p and denominators q of two runs. all is the sum of eq.
func (l *Leaves) sum(eq koala.Vec, all koala.Ext, a, b run, lambda koala.Ext, tmp []koala.Elem) koala.Ext {
	// of returns the sum of eq times x and what the vectors of a run add up to.
	of := func(x []koala.Elem, r *run) (s koala.Ext) {
		for j, u := range r.base {
			if u != nil {
				if x != nil {
					koala.MulElems(tmp, x, u)
					u = tmp
				}
				s = s.Add(l.Coef[j].Mul(koala.DotElems(eq, u)))
			}
		}
		return s
	}
	va, vb := of(nil, &a), of(nil, &b)
	qa, qb := va.Add(all.Mul(a.c)), vb.Add(all.Mul(b.c))
	s := qb.Scale(a.one).Add(qa.Scale(b.one))
	if a.num != nil {
		s = s.Add(b.c.Mul(koala.DotElems(eq, a.num))).Add(of(a.num, &b))
	}
	if b.num != nil {
		s = s.Add(a.c.Mul(koala.DotElems(eq, b.num))).Add(of(b.num, &a))
	}
	both := a.c.Mul(qb).Add(b.c.Mul(va))
	for j, u := range a.base {
		if u != nil {
			both = both.Add(l.Coef[j].Mul(of(u, &b)))
		}
	}
	return s.Add(lambda.Mul(both))
}

// foldDenominators sets dst to the sum of the denominators of runs, each times
// its weight.
func (l *Leaves) foldDenominators(dst koala.Vec, runs []run, weights koala.Vec) {
	var k koala.Ext
	var memory [4 * Terms]koala.Scaled
	terms := memory[:0]
	for i, r := range runs {
		w := weights.At(i)
		k = k.Add(w.Mul(r.c))
		for j, b := range r.base {
			if b != nil {
				terms = append(terms, koala.Scaled{A: b, X: w.Mul(l.Coef[j])})
			}
		}
	}
	koala.Combine(dst, k, terms...)
}

// foldNumerators is foldDenominators for numerators.
func foldNumerators(dst koala.Vec, runs []run, weights koala.Vec) {
	var k koala.Ext
	var memory [4]koala.Scaled
	terms := memory[:0]
	for i, r := range runs {
		w := weights.At(i)
		k = k.Add(w.Scale(r.one))
		if r.num != nil {
			terms = append(terms, koala.Scaled{A: r.num, X: w})
		}
	}
	koala.Combine(dst, k, terms...)
}
