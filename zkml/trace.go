package zkml

import (
	"errors"
	"fmt"
	mathbits "math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
)

// A trace is runs of the program, with what the proof needs of their inside.
// Values are tables of 2^b times 2^t rows, columns spread by their layout, zeros
// where no column is. Rows after the input's repeat a harmless input.
type trace struct {
	b, t int
	live []int // rows of input of each sequence
	vals [][]int32
	attn []*attnTrace // of attention operations
	norm []*normTrace // of layernorm operations
	sums [][]int32    // of meanrows operations: sums of sequences by columns
}

// attnTrace is in (b, h, i, j) or (b, h, i).
type attnTrace struct {
	score, key, exp  []int32
	top, arg, weight []int64
	sums             []int32 // in (b, i, h, w)
}

// normTrace is of rows.
type normTrace struct{ sum, mean, factor, entry, index []int64 }

// normKeyOf is the key as package exact defines it: s divided by the least sufficient
// power of four.
func normKeyOf(s int64) (key, e int64) {
	e = int64(max(0, (mathbits.Len64(uint64(s))-16+1)/2))
	return s >> (2 * e), e
}

// normFactorOf is the factor of a table entry at exponent e.
func normFactorOf(entry, e int64) int64 {
	if e > 0 {
		entry = (entry + 1<<(e-1)) >> e
	}
	return entry
}

// meanOf is the sum divided by n, halves rounded up.
func meanOf(sum int64, n int) int64 {
	a, b := 2*sum+int64(n), 2*int64(n)
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// filler is the input of rows that are only there to fill up a power of two.
func filler(op exact.Op) int32 { return int32(max(op.Params[1], min(op.Params[2], 0))) }

// checkRun reports whether the program can be run on a run's input, in its
// environment.
func (c *Card) checkRun(r Run) error {
	if err := r.Env.Check(); err != nil {
		return fmt.Errorf("zkml: %w", err)
	}
	if r.Env != (exact.Env{}) && !c.noisy() {
		return errors.New("zkml: seed and temperature for a program without noise: leave them zero")
	}
	return c.checkInput(r.Input)
}

// checkInput reports whether the program can be run on the input.
func (c *Card) checkInput(input [][]int32) error {
	if len(input) < 1 || len(input) > c.rows {
		return fmt.Errorf("zkml: %d rows of input, want 1 to %d", len(input), c.rows)
	}
	for _, op := range c.ops {
		if op.Kind != exact.Input {
			continue
		}
		for i, row := range input {
			if len(row) != int(op.Params[0]) {
				return fmt.Errorf("zkml: input row %d has %d columns, want %d", i, len(row), op.Params[0])
			}
			for _, x := range row {
				if int64(x) < op.Params[1] || int64(x) > op.Params[2] {
					return fmt.Errorf("zkml: input %d is outside [%d, %d]", x, op.Params[1], op.Params[2])
				}
			}
		}
	}
	return nil
}

// spread moves rows of columns from one layout to another.
func spread(x []int32, from, to layout) []int32 {
	if from.same(to) {
		return x
	}
	a := &arrangement{from: from, to: to}
	w, v := 1<<to.bits(), 1<<from.bits()
	out := make([]int32, len(x)/v*w)
	for r := range len(x) / v {
		row, src := out[r*w:(r+1)*w], x[r*v:(r+1)*v]
		a.each(func(to, from int) { row[to] = src[from] })
	}
	return out
}

// liveRows is how many rows of input sequence s has; one that is only there to
// fill up has one.
func liveRows(s int, runs []Run) int {
	if s < len(runs) {
		return len(runs[s].Input)
	}
	return 1
}

// noiseOf returns the public noise of an operation: for each row of input of
// each run in its environment, zero in rows that fill up.
func (p *plan) noiseOf(i int, runs []Run) []int32 {
	op, l := p.card.ops[i], p.lay[i]
	table := p.card.consts[op.Consts[0]].data
	out := make([]int32, 1<<(p.rowBits()+l.bits()))
	row := make([]int32, l.cols())
	for s, run := range runs {
		for at := range run.Input {
			run.Env.Noise(at, table, row)
			for j, e := range row {
				out[(s<<p.t|at)<<l.bits()|l.index(j)] = e
			}
		}
	}
	return out
}

// run executes the program. After each operation it calls alter, if not nil,
// which may change the values, as only a dishonest prover would.
func (pk *ProverKey) run(runs []Run, alter func(op int, vals []int32)) (*trace, error) {
	c := &pk.card
	longest := 0
	for _, r := range runs {
		if err := c.checkRun(r); err != nil {
			return nil, err
		}
		longest = max(longest, len(r.Input))
	}
	p, err := newPlan(c, len(runs), longest, nil)
	if err != nil {
		return nil, err
	}
	b, t := p.b, p.t
	rows := 1 << (b + t)
	tr := &trace{b: b, t: t, vals: make([][]int32, len(c.ops)), attn: make([]*attnTrace, len(c.ops)), norm: make([]*normTrace, len(c.ops)), sums: make([][]int32, len(c.ops))}
	for s := range 1 << b {
		tr.live = append(tr.live, liveRows(s, runs))
	}
	for i, op := range c.ops {
		l := pk.plan.lay[i]
		w := 1 << l.bits()
		out := make([]int32, rows*w)
		var x []int32
		var xw int
		if len(op.In) > 0 {
			x = tr.vals[op.In[0]]
			xw = 1 << pk.plan.lay[op.In[0]].bits()
		}
		var k exact.Const
		if len(op.Consts) > 0 {
			k = pk.consts[op.Consts[0]]
		}
		each := func(f func(at int)) {
			for r := range rows {
				for j := range l.cols() {
					f(r*w + l.index(j))
				}
			}
		}
		switch op.Kind {
		case exact.Input:
			for r := range rows {
				for j := range l.cols() {
					e := filler(op)
					if s, i := r>>t, r&(1<<t-1); s < len(runs) && i < len(runs[s].Input) {
						e = runs[s].Input[i][j]
					}
					out[r*w+l.index(j)] = e
				}
			}
		case exact.Position:
			for r := range rows {
				out[r] = int32(min(r&(1<<t-1), c.rows-1))
			}
		case exact.Gather:
			for r := range rows {
				row := k.Data[int(x[r])*k.Cols:][:k.Cols]
				for j, e := range row {
					out[r*w+l.index(j)] = e
				}
			}
		case exact.Add:
			y := tr.vals[op.In[1]]
			each(func(at int) { out[at] = x[at] + y[at] })
		case exact.Offset:
			for r := range rows {
				for j, e := range k.Data {
					at := r*w + l.index(j)
					out[at] = x[at] + e
				}
			}
		case exact.MatMul:
			in := pk.plan.lay[op.In[0]]
			parallel.For(rows, 1, func(from, to int) {
				acc := make([]int32, k.Cols)
				for r := from; r < to; r++ {
					clear(acc)
					for kk := range k.Rows {
						e := x[r*xw+in.index(kk)]
						if e == 0 {
							continue
						}
						for j, m := range k.Data[kk*k.Cols : (kk+1)*k.Cols] {
							acc[j] += e * m
						}
					}
					for j, e := range acc {
						out[r*w+l.index(j)] = e
					}
				}
			})
		case exact.Requantise:
			s := op.Params[0]
			half := int64(1) << s >> 1
			top := int64(1)<<(op.Params[1]-1) - 1
			each(func(at int) { out[at] = int32(max(-top-1, min(top, (int64(x[at])+half)>>s))) })
		case exact.Table:
			each(func(at int) { out[at] = k.Data[int64(x[at])-op.Params[0]] })
		case exact.LayerNorm:
			tr.norm[i] = normTraceOf(out, x, rows, l, k.Data, op.Params[0], op.Params[1], true)
		case exact.RMSNorm:
			tr.norm[i] = normTraceOf(out, x, rows, l, k.Data, op.Params[0], op.Params[1], false)
		case exact.Attention, exact.FullAttention:
			y, z := tr.vals[op.In[1]], tr.vals[op.In[2]]
			all := &attnTrace{}
			heads := layout{int(op.Params[0]), l.cols() / int(op.Params[0])}
			x, y, z = spread(x, l, heads), spread(y, l, heads), spread(z, l, heads)
			own := make([]int32, len(x))
			for s := range 1 << b {
				from, to := s<<t<<heads.bits(), (s+1)<<t<<heads.bits()
				live := 0 // causal
				if op.Kind == exact.FullAttention {
					live = tr.live[s]
				}
				a := attentionTrace(own[from:to], x[from:to], y[from:to], z[from:to], t, live, heads, k.Data, op.Params[1])
				all.score, all.key, all.exp = append(all.score, a.score...), append(all.key, a.key...), append(all.exp, a.exp...)
				all.top, all.arg, all.weight = append(all.top, a.top...), append(all.arg, a.arg...), append(all.weight, a.weight...)
				all.sums = append(all.sums, a.sums...)
			}
			out = spread(own, heads, l)
			tr.attn[i] = all
		case exact.ArgMax:
			in := pk.plan.lay[op.In[0]]
			for r := range rows {
				best := 0
				for j := range in.cols() {
					if x[r*xw+in.index(j)] > x[r*xw+in.index(best)] {
						best = j
					}
				}
				out[r] = int32(best)
			}
		case exact.Arrange:
			a := &arrangement{from: pk.plan.lay[op.In[0]], to: l, source: k.Data}
			parallel.For(rows, 1, func(from, to int) {
				for r := from; r < to; r++ {
					row, src := out[r*w:(r+1)*w], x[r*xw:(r+1)*xw]
					a.each(func(to, from int) { row[to] = src[from] })
				}
			})
		case exact.BlockMatMul:
			o := pk.plan.ops[i]
			x = spread(x, pk.plan.lay[op.In[0]], o.in)
			own := out
			if !o.own.same(l) {
				own = make([]int32, rows<<o.own.bits())
			}
			// Blocks of all rows are alike.
			xb, ob := o.in.widthBits(), o.own.widthBits()
			parallel.For(rows<<o.in.groupBits(), 1, func(from, to int) {
				for b := from; b < to; b++ {
					acc := own[b<<ob:][:k.Cols]
					for kk, e := range x[b<<xb:][:k.Rows] {
						if e == 0 {
							continue
						}
						for j, m := range k.Data[kk*k.Cols:][:k.Cols] {
							acc[j] += e * m
						}
					}
				}
			})
			if !o.own.same(l) {
				out = spread(own, o.own, l)
			}
		case exact.BlockMax:
			o := pk.plan.ops[i]
			x = spread(x, pk.plan.lay[op.In[0]], o.in)
			gb, wb := o.in.groupBits(), o.in.widthBits()
			for r := range rows {
				for j := range o.in.groups {
					out[r*w+l.index(j)] = slices.Max(x[(r<<gb|j)<<wb:][:o.in.width])
				}
			}
		case exact.Multiply:
			y := tr.vals[op.In[1]]
			each(func(at int) { out[at] = x[at] * y[at] })
		case exact.MeanRows:
			sums := make([]int32, w<<b)
			for s, n := range tr.live {
				sum := sums[s*w : (s+1)*w]
				for r := range n {
					for j, e := range x[(s<<t|r)*w:][:w] {
						sum[j] += e
					}
				}
				for r := range 1 << t {
					for j, e := range sum {
						out[(s<<t|r)*w+j] = int32(meanOf(int64(e), n))
					}
				}
			}
			tr.sums[i] = sums
		case exact.Noise:
			out = p.noiseOf(i, runs)
		}
		if alter != nil {
			alter(i, out)
		}
		tr.vals[i] = out
	}
	return tr, nil
}

func normTraceOf(out, x []int32, rows int, l layout, table []int32, eps, shift int64, centred bool) *normTrace {
	n := &normTrace{make([]int64, rows), make([]int64, rows), make([]int64, rows), make([]int64, rows), make([]int64, rows)}
	w := 1 << l.bits()
	for r := range rows {
		var squares int64
		for j := range l.cols() {
			n.sum[r] += int64(x[r*w+l.index(j)])
		}
		var m int64
		if centred {
			m = meanOf(n.sum[r], l.cols())
		}
		for j := range l.cols() {
			d := int64(x[r*w+l.index(j)]) - m
			squares += d * d
		}
		key, e := normKeyOf(squares + eps)
		n.mean[r], n.index[r] = m, key-normKeyLo
		n.entry[r] = int64(table[key-normKeyLo])
		n.factor[r] = normFactorOf(n.entry[r], e)
		for j := range l.cols() {
			at := r*w + l.index(j)
			out[at] = int32(((int64(x[at])-m)*n.factor[r] + 1<<(shift-1)) >> shift)
		}
	}
	return n
}

// attentionTrace is of one sequence: each row attends to the first live rows,
// or to itself and those before it if live is 0.
func attentionTrace(out, q, k, v []int32, t, live int, l layout, table []int32, shift int64) *attnTrace {
	rows, heads, wb := 1<<t, 1<<l.groupBits(), l.widthBits()
	w := heads << wb
	a := &attnTrace{
		score: make([]int32, heads<<(2*t)), key: make([]int32, heads<<(2*t)), exp: make([]int32, heads<<(2*t)),
		top: make([]int64, heads<<t), arg: make([]int64, heads<<t), weight: make([]int64, heads<<t), sums: make([]int32, rows*w),
	}
	half := int64(1) << shift >> 1
	parallel.Each(heads, func(h int) {
		for i := range rows {
			seen := live
			if seen == 0 {
				seen = i + 1
			}
			qi := q[i*w+h<<wb:][:1<<wb]
			score := a.score[(h<<t+i)<<t:][:rows]
			arg := 0
			// The proof speaks of all pairs, though not all count.
			for j := range rows {
				kj := k[j*w+h<<wb:][:1<<wb]
				var s int32
				for c, e := range qi {
					s += e * kj[c]
				}
				score[j] = s
				if j < seen && s > score[arg] {
					arg = j
				}
			}
			top := int64(score[arg])
			a.top[h<<t+i], a.arg[h<<t+i] = top, int64(arg)
			sums := a.sums[i*w+h<<wb:][:1<<wb]
			var z int64
			for j := range seen {
				diff := top - int64(score[j])
				e := table[min((diff+half)>>shift, int64(len(table)-1))]
				a.key[(h<<t+i)<<t+j], a.exp[(h<<t+i)<<t+j] = int32(diff>>max(0, shift-1)), e
				z += int64(e)
				for c, x := range v[j*w+h<<wb:][:1<<wb] {
					sums[c] += e * x
				}
			}
			a.weight[h<<t+i] = z
			for c, s := range sums {
				d := int64(s) / z
				if int64(s)%z < 0 {
					d--
				}
				out[i*w+h<<wb+c] = int32(d)
			}
		}
	})
	return a
}

// chooseModes returns the cheapest modes that a trace can be proven in.
func (pk *ProverKey) chooseModes(tr *trace) []byte {
	modes := []byte{}
	// All attention goes on as far as the one that goes furthest, so that those
	// with the same exponentials share a table.
	var key int32
	for _, a := range tr.attn {
		if a != nil {
			key = max(key, slices.Max(a.key))
		}
	}
	for i, op := range pk.card.ops {
		switch op.Kind {
		case exact.Requantise:
			if !maySaturate(op, withZero(pk.card.facts[op.In[0]].Range)) {
				continue
			}
			var m byte
			if x := tr.vals[op.In[0]]; maySaturate(op, exact.Range{Lo: int64(slices.Min(x)), Hi: int64(slices.Max(x))}) {
				m = 1
			}
			modes = append(modes, m)
		case exact.Attention, exact.FullAttention:
			r := pk.card.facts[op.In[0]].Range
			s := pk.card.facts[op.In[1]].Range
			width := int64(pk.card.facts[i].Cols) / op.Params[0]
			keys := attentionKeys(max(-r.Lo, r.Hi)*max(-s.Lo, s.Hi)*width, op.Params[1])
			var weight int64
			for _, z := range tr.attn[i].weight {
				weight = max(weight, z)
			}
			modes = append(modes, byte(min(mathbits.Len32(uint32(key)), mle.Log(int(keys)))), byte(mathbits.Len64(uint64(weight-1))))
		}
	}
	return modes
}

// data is the values of a plan's sources, for the prover.
type data struct {
	v       *vectors
	model   [][]koala.Elem
	witness [][]koala.Elem
	prods   [][]koala.Elem // nil where nothing refers to the product
	publics [][]koala.Elem // made when needed
}

func elems(x []int32) []koala.Elem {
	out := make([]koala.Elem, len(x))
	parallel.For(len(x), 1<<14, func(from, to int) {
		for i := from; i < to; i++ {
			out[i] = koala.FromSmall(x[i])
		}
	})
	return out
}

// fill computes the sources of a plan from a trace. Multiplicities stay zero.
func (pk *ProverKey) fill(p *plan, tr *trace) *data {
	d := &data{v: newVectors(p), model: pk.regions, witness: make([][]koala.Elem, len(p.witness)), prods: make([][]koala.Elem, len(p.prods)), publics: make([][]koala.Elem, len(p.publics))}
	for i, op := range p.card.ops {
		o := p.ops[i]
		switch op.Kind {
		case exact.Gather, exact.MatMul:
			d.prods[o.out.terms[0].src.id] = elems(tr.vals[i])
		case exact.Requantise:
			if len(o.columns) == 0 {
				break
			}
			d.witness[o.columns[0]] = elems(tr.vals[i])
			if !o.sat {
				break
			}
			s := op.Params[0]
			half := int64(1) << s >> 1
			over, under := make([]int32, len(tr.vals[i])), make([]int32, len(tr.vals[i]))
			for j, x := range tr.vals[op.In[0]] {
				e := int32((int64(x)+half)>>s) - tr.vals[i][j]
				over[j], under[j] = max(e, 0), max(-e, 0)
			}
			for k, v := range [][]int32{over, under} {
				if c := o.columns[1+k]; c >= 0 {
					d.witness[c] = elems(v)
				}
			}
		case exact.Table:
			d.witness[o.columns[0]] = elems(tr.vals[i])
		case exact.Arrange, exact.Multiply:
			d.prods[o.prods[0]] = elems(tr.vals[i])
		case exact.BlockMatMul:
			d.prods[o.prods[0]] = elems(spread(tr.vals[i], p.lay[i], o.own))
		case exact.BlockMax:
			pk.fillMax(p, i, d, tr)
		case exact.MeanRows:
			pk.fillMean(p, i, d, tr)
		case exact.LayerNorm, exact.RMSNorm:
			pk.fillNorm(p, i, d, tr)
		case exact.Attention, exact.FullAttention:
			pk.fillAttention(p, i, d, tr)
		case exact.ArgMax:
			in := p.lay[op.In[0]]
			index, value := make([]int64, 1<<p.rowBits()), make([]int64, 1<<p.rowBits())
			for r := range index {
				index[r] = int64(tr.vals[i][r])
				value[r] = int64(tr.vals[op.In[0]][r<<in.bits()|in.index(int(index[r]))])
			}
			d.v.set(o.slots[argIndex], index)
			d.v.set(o.slots[argValue], value)
		}
	}
	for _, r := range p.relays {
		d.prods[r.product] = elems(spread(tr.vals[r.value], p.lay[r.value], r.to))
	}
	return d
}

// fillMax marks the first greatest element of each block.
func (pk *ProverKey) fillMax(p *plan, i int, d *data, tr *trace) {
	o, in := p.ops[i], int(p.card.ops[i].In[0])
	x, top := spread(tr.vals[in], p.lay[in], o.in), spread(tr.vals[i], p.lay[i], o.own)
	wb := o.in.widthBits()
	mark := make([]koala.Elem, len(x))
	for b := range len(x) >> wb {
		mark[b<<wb+max(0, slices.Index(x[b<<wb:][:o.in.width], top[b]))] = koala.One
	}
	d.witness[o.columns[0]], d.witness[o.columns[1]] = elems(top), mark
}

func (pk *ProverKey) fillMean(p *plan, i int, d *data, tr *trace) {
	o, w := p.ops[i], 1<<p.lay[i].bits()
	mean := make([]int32, 0, w<<p.b)
	back := make([]koala.Elem, 0, w<<p.b)
	for s, n := range tr.live {
		for _, e := range tr.vals[i][s<<p.t*w:][:w] {
			mean, back = append(mean, e), append(back, koala.FromSmall(e).Mul(koala.FromInt(int64(n))))
		}
	}
	d.witness[o.columns[0]], d.prods[o.prods[0]], d.prods[o.prods[1]] = elems(mean), elems(tr.sums[i]), back
}

func (pk *ProverKey) fillNorm(p *plan, i int, d *data, tr *trace) {
	o, n, l := p.ops[i], tr.norm[i], p.lay[i]
	x := tr.vals[p.card.ops[i].In[0]]
	w := 1 << l.bits()
	high := make([]int32, len(x))
	scaled := make([]koala.Elem, len(x))
	rows := 1 << p.rowBits()
	hh, hl, ll := make([]int64, rows), make([]int64, rows), make([]int64, rows)
	parallel.For(rows, 1, func(from, to int) {
		for r := from; r < to; r++ {
			f := koala.FromInt(n.factor[r])
			for j := range l.cols() {
				at := r*w + l.index(j)
				dev := int64(x[at]) - n.mean[r]
				a := dev >> o.shift
				b := dev - a<<o.shift
				high[at] = int32(a)
				hh[r], hl[r], ll[r] = hh[r]+a*a, hl[r]+a*b, ll[r]+b*b
				scaled[at] = koala.FromSmall(x[at]).Mul(f)
			}
		}
	})
	d.witness[o.columns[0]], d.witness[o.columns[1]] = elems(high), elems(tr.vals[i])
	d.prods[o.prods[0]] = scaled
	if o.slots[normSum] >= 0 {
		d.v.set(o.slots[normSum], n.sum)
	}
	d.v.set(o.slots[normHigh], hh)
	d.v.set(o.slots[normCross], hl)
	d.v.set(o.slots[normLow], ll)
	d.v.set(o.slots[normEntry], n.entry)
}

func (pk *ProverKey) fillAttention(p *plan, i int, d *data, tr *trace) {
	o, a := p.ops[i], tr.attn[i]
	d.witness[o.columns[0]], d.witness[o.columns[1]], d.witness[o.columns[2]] = elems(a.key), elems(a.exp), elems(spread(tr.vals[i], p.lay[i], o.own))
	d.prods[o.prods[0]], d.prods[o.prods[2]] = elems(a.score), elems(a.sums)
	back := slices.Clone(d.witness[o.columns[2]])
	heads := len(a.top) >> p.rowBits()
	per := len(back) >> p.rowBits() / heads
	for r := range 1 << p.rowBits() {
		s, i := r>>p.t, r&(1<<p.t-1)
		for h := range heads {
			z := koala.FromInt(a.weight[(s*heads+h)<<p.t+i])
			for c := range per {
				at := (r*heads+h)*per + c
				back[at] = back[at].Mul(z)
			}
		}
	}
	d.prods[o.prods[3]] = back
	d.v.set(o.slots[attnTop], a.top)
	d.v.set(o.slots[attnArg], a.arg)
	d.v.set(o.slots[attnWeight], a.weight)
}

// source returns the values of a source.
func (d *data) source(p *plan, s source) []koala.Elem {
	switch s.kind {
	case model:
		return d.model[s.id]
	case witness:
		return d.witness[s.id]
	case summed:
		return d.prods[s.id]
	case public:
		if d.publics[s.id] == nil {
			d.publics[s.id] = p.publics[s.id].table(d.v)
		}
		return d.publics[s.id]
	}
	return []koala.Elem{koala.One}
}

// values returns a form's values at all indices.
func (d *data) values(p *plan, f form) []koala.Elem {
	out := make([]koala.Elem, 1<<f.n)
	for _, t := range f.terms {
		src := d.source(p, t.src)
		c := koala.FromInt(t.coef)
		m := len(t.pick)
		if m == 0 {
			x := c.Mul(src[0])
			for i := range out {
				out[i] = out[i].Add(x)
			}
			continue
		}
		// Picks that are consecutive variables, as almost all are, make runs.
		first := int(t.pick[0])
		run := true
		for k, v := range t.pick {
			run = run && int(v) == first+k && v >= 0
		}
		if run && first+m == f.n {
			for at := 0; at < len(out); at += len(src) {
				addTimes(out[at:at+len(src)], src, c)
			}
			continue
		}
		if run {
			rep := 1 << (f.n - first - m)
			for i := 0; i < len(out); i += rep {
				x := c.Mul(src[i/rep&(len(src)-1)])
				for j := i; j < i+rep; j++ {
					out[j] = out[j].Add(x)
				}
			}
			continue
		}
		for i := range out {
			at := 0
			for _, v := range t.pick {
				at <<= 1
				switch {
				case v >= 0:
					at |= i >> (f.n - 1 - int(v)) & 1
				case v == pickOne:
					at |= 1
				case v == pickHalf:
					panic("zkml: values of a sum over a variable")
				}
			}
			out[i] = out[i].Add(c.Mul(src[at]))
		}
	}
	return out
}

func addTimes(dst, src []koala.Elem, c koala.Elem) {
	switch c {
	case koala.One:
		koala.AddElems(dst, dst, src)
	case koala.Elem(0).Sub(koala.One):
		koala.SubElems(dst, dst, src)
	default:
		for i, x := range src {
			dst[i] = dst[i].Add(c.Mul(x))
		}
	}
}
