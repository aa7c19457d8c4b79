package zkml

import (
	"slices"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/sumcheck"
)

// equation is one linear equation about values of sources at points: the sum of
// coefficients times values. All that is claimed is added up in it, each claim
// times a random number.
type equation struct {
	p     *plan
	v     *vectors
	check bool // keep publics, as the verifier does
	// constant is what does not depend on any source.
	constant koala.Ext
	publics  bag
	oracles  bag
	sums     []bag // of each level
	// Points of sparse claims: index of the whole polynomial.
	sparse []sparseClaim
	room   []koala.Ext // for points
}

type sparseClaim struct {
	coef  koala.Ext
	index int
}

// atPoint is a coefficient times the value of a source at a point.
type atPoint struct {
	src   source
	point []koala.Ext
	coef  koala.Ext
}

// bag holds each source and point once, in the order of arrival.
type bag struct {
	list []atPoint
	next []int32          // for each, another of the same hash, plus one
	find map[uint64]int32 // the last of each hash, plus one
}

func (b *bag) add(src source, z []koala.Ext, coef koala.Ext) {
	// Points are random: any mixing will do.
	h := uint64(src.kind)<<32 | uint64(src.id)
	for _, x := range z {
		h = (h ^ uint64(x.A) ^ uint64(x.C)<<32) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	for i := b.find[h]; i > 0; i = b.next[i-1] {
		if a := &b.list[i-1]; a.src == src && slices.Equal(a.point, z) {
			a.coef = a.coef.Add(coef)
			return
		}
	}
	if b.find == nil {
		b.find = map[uint64]int32{}
	}
	b.list = append(b.list, atPoint{src, z, coef})
	b.next = append(b.next, b.find[h])
	b.find[h] = int32(len(b.list))
}

// public returns what publics add up to.
func (c *equation) public() koala.Ext {
	var sum koala.Ext
	for _, a := range c.publics.list {
		sum = sum.Add(a.coef.Mul(c.p.publics[a.src.id].eval(c.v, a.point)))
	}
	return sum
}

// point is point, without allocating each.
func (c *equation) point(picks []pick, z []koala.Ext) []koala.Ext {
	n := len(picks)
	if len(c.room) < n {
		c.room = make([]koala.Ext, max(n, 1<<10))
	}
	p := c.room[:n:n]
	c.room = c.room[n:]
	fillPoint(p, picks, z)
	return p
}

// add adds coef times the form's value at z.
func (c *equation) add(f form, z []koala.Ext, coef koala.Ext) {
	for _, t := range f.terms {
		k := coef.Scale(koala.FromInt(t.coef))
		switch t.src.kind {
		case one:
			c.constant = c.constant.Add(k)
		case public:
			if c.check {
				c.publics.add(t.src, c.point(t.pick, z), k)
			}
		case summed:
			level := c.p.prods[t.src.id].level
			for len(c.sums) <= level {
				c.sums = append(c.sums, bag{})
			}
			c.sums[level].add(t.src, c.point(t.pick, z), k)
		default:
			c.oracles.add(t.src, c.point(t.pick, z), k)
		}
	}
}

// fractions adds the equations of the leaves reached by logup at z: numerators
// times 1 and denominators times beta. Alpha is the point at which the
// fractions are taken, gamma joins the elements of a pair.
func (c *equation) fractions(z []koala.Ext, alpha, gamma, beta koala.Ext) {
	p := c.p
	gamma2 := gamma.Mul(gamma)
	used := koala.Ext{}
	place := func(bits, at int) (koala.Ext, []koala.Ext) {
		n := len(z) - bits
		e := mle.EqIndex(z[:n], at>>bits)
		used = used.Add(e)
		return e, z[n:]
	}
	for _, l := range p.lookups {
		e, z := place(l.bits, l.at)
		if l.only < 0 {
			c.constant = c.constant.Add(e)
		} else if c.check {
			c.publics.add(source{public, l.only}, z[l.bits-p.publics[l.only].bits:], e)
		}
		e = e.Mul(beta)
		c.constant = c.constant.Add(e.Mul(alpha))
		e = e.Neg()
		c.add(l.value, z, e)
		c.add(l.second, z, e.Mul(gamma))
		c.add(l.tag, z, e.Mul(gamma2))
	}
	for i, t := range p.tables {
		e, z := place(t.bits, t.at)
		c.oracles.add(source{witness, t.count}, z, e.Neg())
		e = e.Mul(beta)
		value := mle.Identity(z).Add(koala.Lift(koala.FromInt(t.lo)))
		value = value.Add(gamma2.Mul(mle.Below(t.live, z)).Scale(koala.FromInt(tag(i))))
		if t.region >= 0 {
			// The region is the beginning; beyond is the last element.
			bits := p.model[t.region].bits
			inside := koala.ExtOne
			for _, x := range z[:t.bits-bits] {
				inside = inside.Mul(koala.ExtOne.Sub(x))
			}
			c.oracles.add(source{model, t.region}, z[t.bits-bits:], e.Mul(gamma).Mul(inside).Neg())
			value = value.Add(gamma.Mul(koala.ExtOne.Sub(inside)).Scale(koala.FromInt(t.last)))
		}
		if t.mark {
			value = value.Add(gamma.Mul(mle.EqIndex(z, 0)))
		}
		c.constant = c.constant.Add(e.Mul(alpha.Sub(value)))
	}
	// Nothing is 0/1.
	c.constant = c.constant.Add(beta.Mul(koala.ExtOne.Sub(used)))
}

// rowTable adds coef times the claim that a slot holds entries of a region.
func (c *equation) rowTable(r rowTable, tau []koala.Ext, coef koala.Ext) {
	keys := c.v.ints[r.key]
	n := mle.Log(len(keys))
	eq := mle.Eq(tau[:n], coef)
	at, _ := c.p.base(source{model, r.region})
	for i, k := range keys {
		c.sparse = append(c.sparse, sparseClaim{eq.At(i), at + int(k)})
	}
	if c.check {
		c.constant = c.constant.Sub(koala.DotElems(eq, c.v.elems(r.value)))
	}
}

// wave takes the claims about products of a level out of the equation.
func (c *equation) wave(level int) []atPoint {
	if level >= len(c.sums) {
		return nil
	}
	now := c.sums[level].list
	c.sums[level] = bag{}
	return now
}

func (p *plan) levels() int {
	n := 0
	for _, d := range p.prods {
		n = max(n, d.level+1)
	}
	return n
}

// waveVars is how many variables a sum-check of the given products has.
func (p *plan) waveVars(now []atPoint) int {
	n := 0
	for _, a := range now {
		n = max(n, p.prods[a.src.id].y)
	}
	return n
}

// weightTable returns the table over y of a product's weight at z, for the
// prover. There is none for a plain product, whose weight is eq of the paired
// variables.
func (d product) weightTable(v *vectors, z []koala.Ext) koala.Vec {
	w := v.room.New(1 << d.y)
	switch d.weight {
	case gather:
		keys := v.ints[d.slot]
		eq := mle.Eq(z[:mle.Log(len(keys))], koala.ExtOne)
		for i, k := range keys {
			w.Set(int(k), w.At(int(k)).Add(eq.At(i)))
		}
	case arranged:
		eq := mle.Eq(z[len(z)-d.moved.to.bits():], koala.ExtOne)
		d.moved.each(func(to, from int) {
			w[0][from] = w[0][from].Add(eq[0][to])
			w[1][from] = w[1][from].Add(eq[1][to])
			w[2][from] = w[2][from].Add(eq[2][to])
			w[3][from] = w[3][from].Add(eq[3][to])
		})
	case chosen:
		keys := v.ints[d.slot]
		n := mle.Log(len(keys))
		eq := mle.Eq(z[:n], koala.ExtOne)
		for i, k := range keys {
			w.Set(i<<(d.y-n)|int(k), eq.At(i))
		}
	case scaled:
		eq := mle.Eq(d.paired(z), koala.ExtOne)
		each := w.Len() / eq.Len()
		for i, x := range v.elems(d.slot) {
			w.Slice(i*each, (i+1)*each).Fill(eq.At(i).Scale(x))
		}
	}
	return w
}

// paired is the values of the variables of z that are paired with those of y,
// which come first and in order.
func (d product) paired(z []koala.Ext) []koala.Ext {
	zs := make([]koala.Ext, len(d.pairs))
	for i, k := range d.pairs {
		if k.y != i {
			panic("zkml: paired variables are not the first")
		}
		zs[i] = z[k.z]
	}
	return zs
}

// weightAt returns the extension of weightTable at y, for the verifier.
func (d product) weightAt(v *vectors, z, y []koala.Ext) koala.Ext {
	switch d.weight {
	case arranged:
		return mle.EvalVec(d.weightTable(v, z), y)
	case gather, chosen:
		keys := v.ints[d.slot]
		n := mle.Log(len(keys))
		eq := v.eq(z[:n])
		rest := y
		if d.weight == chosen {
			both := koala.NewVec(eq.Len())
			koala.MulVec(both, eq, v.eq(y[:n]))
			eq = both
			rest = y[n:]
		}
		points := mle.NewPoints(rest)
		var s koala.Ext
		for i, k := range keys {
			s = s.Add(eq.At(i).Mul(points.At(int(k))))
		}
		return s
	}
	zs := d.paired(z)
	if d.weight == scaled {
		both := koala.NewVec(1 << len(zs))
		koala.MulVec(both, v.eq(zs), v.eq(y[:len(zs)]))
		return koala.DotElems(both, v.elems(d.slot))
	}
	return mle.EqAt(zs, y[:len(zs)])
}

// partial returns, over the last y variables, the values of a form whose first
// variables are z.
func (d *data) partial(p *plan, f form, z []koala.Ext, y int) koala.Vec {
	out := d.v.room.New(1 << y)
	// Terms with the same picks are added before anything is multiplied.
	joined := make([]bool, len(f.terms))
	for i, t := range f.terms {
		if joined[i] {
			continue
		}
		m := len(t.pick)
		sum := form{n: m}
		for k, u := range f.terms[i:] {
			if slices.Equal(u.pick, t.pick) {
				joined[i+k] = true
				sum.terms = append(sum.terms, term{u.coef, u.src, vars(0, m)})
			}
		}
		contract(d.v.room, out, d.values(p, sum, d.v.room.Elems()), t.pick, z)
	}
	return out
}

// contract adds a source to dst, which is over the last y variables of the form:
// the source's variables among the first take the values z. Tables that it needs
// besides are in the room.
func contract(room *koala.Room, dst koala.Vec, src []koala.Elem, picks []pick, z []koala.Ext) {
	y := mle.Log(dst.Len())
	bound := func(v pick) bool { return v < 0 || int(v) < len(z) }
	free := 0
	for _, v := range picks {
		if !bound(v) {
			free |= 1 << (len(z) + y - 1 - int(v))
		}
	}
	if free != 1<<y-1 {
		// The source does not depend on all of them: repeat it.
		all := dst
		dst = room.New(1 << y)
		defer func() {
			for i := range 1 << y {
				if j := i & free; j != i {
					dst.Set(i, dst.At(j))
				}
			}
			koala.AddVec(all, all, dst)
		}()
	}
	// Inner variables: all bound, or all free and in their place.
	m := len(picks)
	inner := 0
	if m > 0 && bound(picks[m-1]) {
		for inner < m && bound(picks[m-1-inner]) {
			inner++
		}
	} else {
		for inner < m && !bound(picks[m-1-inner]) && int(picks[m-1-inner]) == len(z)+y-1-inner {
			inner++
		}
	}
	// Weight and place of each block.
	weights, places := []koala.Ext{koala.ExtOne}, []int{0}
	for _, v := range picks[:m-inner] {
		w2, p2 := make([]koala.Ext, 0, 2*len(weights)), make([]int, 0, 2*len(weights))
		if bound(v) {
			x := pickAt(v, z)
			for i, w := range weights {
				wx := w.Mul(x)
				w2 = append(w2, w.Sub(wx), wx)
				p2 = append(p2, places[i], places[i])
			}
		} else {
			bit := 1 << (len(z) + y - 1 - int(v))
			for i, w := range weights {
				w2 = append(w2, w, w)
				p2 = append(p2, places[i], places[i]|bit)
			}
		}
		weights, places = w2, p2
	}
	size := 1 << inner
	if inner > 0 && !bound(picks[m-1]) {
		for i, w := range weights {
			if w != (koala.Ext{}) {
				koala.AddScaled(dst.Slice(places[i], places[i]+size), src[i*size:(i+1)*size], w)
			}
		}
	} else {
		eq := mle.Eq(point(picks[m-inner:], z), koala.ExtOne)
		rows := room.Take(len(weights))
		koala.DotRows(rows, eq, src)
		for i, w := range weights {
			dst.Set(places[i], dst.At(places[i]).Add(rows.At(i).Mul(w)))
		}
	}
}

// values is what is left of a form over its last y variables when the first
// have the values z.
type values struct {
	f form
	z []koala.Ext
	y int
}

// same reports whether two have the same terms.
func (a values) same(b values) bool {
	return a.y == b.y && slices.EqualFunc(a.f.terms, b.f.terms, func(s, t term) bool {
		return s.coef == t.coef && s.src == t.src && slices.EqualFunc(s.pick, t.pick, func(v, w pick) bool {
			i, j := int(v)-len(a.z), int(w)-len(b.z)
			return i == j && i >= 0 || i < 0 && j < 0 && pickAt(v, a.z) == pickAt(w, b.z)
		})
	})
}

// table makes the table of values for a sum-check.
func (d *data) table(p *plan, a values) *sumcheck.Table {
	free := form{a.y, make([]term, len(a.f.terms))}
	for i, t := range a.f.terms {
		picks := make([]pick, len(t.pick))
		for k, v := range t.pick {
			if int(v) < len(a.z) {
				return sumcheck.Vec(d.partial(p, a.f, a.z, a.y))
			}
			picks[k] = v - pick(len(a.z))
		}
		free.terms[i] = term{t.coef, t.src, picks}
	}
	return sumcheck.Elems(d.values(p, free, d.v.room.Elems()), d.v.room)
}

// terms returns the sum-check's terms of a wave. What several products have as
// a factor is one table.
func (d *data) terms(p *plan, now []atPoint) []sumcheck.Term {
	type key struct {
		y, terms int
		first    source
	}
	of := make([][2]int, len(now)) // the factors, of all
	var all []values
	find := map[key][]int{}
	for i, a := range now {
		s := p.prods[a.src.id]
		for k, f := range []form{s.f, s.g} {
			if len(f.terms) == 0 {
				continue
			}
			v := values{f, a.point, s.y}
			at := key{s.y, len(f.terms), f.terms[0].src}
			j := slices.IndexFunc(find[at], func(j int) bool { return all[j].same(v) })
			if j >= 0 {
				of[i][k] = find[at][j]
				continue
			}
			of[i][k] = len(all)
			find[at] = append(find[at], len(all))
			all = append(all, v)
		}
	}
	tables := make([]*sumcheck.Table, len(all))
	parallel.Each(len(all), func(i int) { tables[i] = d.table(p, all[i]) })
	out := make([]sumcheck.Term, len(now))
	parallel.Each(len(now), func(i int) {
		a := now[i]
		s := p.prods[a.src.id]
		out[i] = sumcheck.Term{Coef: a.coef, F: tables[of[i][0]]}
		if s.weight == plain {
			out[i].Point, out[i].G = s.paired(a.point), tables[of[i][1]]
		} else {
			out[i].G = sumcheck.Vec(s.weightTable(d.v, a.point))
		}
	})
	return out
}
