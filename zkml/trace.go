package zkml

import (
	"errors"
	"fmt"
	mathbits "math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/matrix"
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
	sat  []int        // of requantise operations: bits of how far beyond their bounds values are
}

// attnTrace is in (b, h, i, j) or (b, h, i).
type attnTrace struct {
	score, key, exp  []int32
	top, arg, weight []int64
	sums             []int32 // in (b, i, h, w)
}

// normTrace is of rows.
type normTrace struct{ sum, mean, factor, entry []int64 }

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
	return (&arrangement{from: from, to: to}).rows(x)
}

// rows returns rows of columns, arranged.
func (a *arrangement) rows(x []int32) []int32 {
	w, v := 1<<a.to.bits(), 1<<a.from.bits()
	source := slices.Repeat([]int32{-1}, w) // by index
	a.each(func(to, from int) { source[to] = int32(from) })
	out := make([]int32, len(x)/v*w)
	parallel.For(len(x)/v, 1<<16/w, func(from, to int) {
		for r := from; r < to; r++ {
			row, src := out[r*w:][:w], x[r*v:][:v]
			for i, at := range source {
				if at >= 0 {
					row[i] = src[at]
				}
			}
		}
	})
	return out
}

// stretch is n columns from the given one on, at consecutive indices from index
// on.
type stretch struct{ index, column, n int }

// stretches returns the columns in as few stretches as they are in.
func (l layout) stretches() []stretch {
	if l.dense() {
		return []stretch{{n: l.cols()}}
	}
	out := make([]stretch, l.groups)
	for g := range out {
		out[g] = stretch{g << l.widthBits(), g * l.width, l.width}
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

// run executes the program. The trace's long slices are in the room. After each
// operation it calls alter, if not nil, which may change the values, as only a
// dishonest prover would.
func (pk *ProverKey) run(runs []Run, room *koala.Space[int32], alter func(op int, vals []int32)) (*trace, error) {
	c := &pk.card
	longest := 0
	for _, r := range runs {
		if err := c.checkRun(r); err != nil {
			return nil, err
		}
		longest = max(longest, len(r.Input))
	}
	p, err := pk.runPlan(len(runs), longest)
	if err != nil {
		return nil, err
	}
	b, t := p.b, p.t
	rows := 1 << (b + t)
	tr := &trace{b: b, t: t, vals: make([][]int32, len(c.ops)), attn: make([]*attnTrace, len(c.ops)), norm: make([]*normTrace, len(c.ops)), sums: make([][]int32, len(c.ops)), sat: make([]int, len(c.ops))}
	for s := range 1 << b {
		tr.live = append(tr.live, liveRows(s, runs))
	}
	for i, op := range c.ops {
		// Operations that work element by element may do so where no column
		// is: of zeros they make zeros.
		l := pk.plan.lay[i]
		w, stretches := 1<<l.bits(), l.stretches()
		var out, x []int32
		var in layout
		if len(op.In) > 0 {
			x, in = tr.vals[op.In[0]], pk.plan.lay[op.In[0]]
		}
		var k exact.Const
		if len(op.Consts) > 0 {
			k = pk.consts[op.Consts[0]]
		}
		put := func(r int, row []int32) {
			for _, s := range stretches {
				copy(out[r*w+s.index:][:s.n], row[s.column:])
			}
		}
		switch op.Kind {
		case exact.Input:
			out = room.New(rows * w)
			idle := slices.Repeat([]int32{filler(op)}, l.cols())
			for r := range rows {
				if s, i := r>>t, r&(1<<t-1); s < len(runs) && i < len(runs[s].Input) {
					put(r, runs[s].Input[i])
				} else {
					put(r, idle)
				}
			}
		case exact.Position:
			out = make([]int32, rows)
			for r := range out {
				out[r] = int32(min(r&(1<<t-1), c.rows-1))
			}
		case exact.Gather:
			out = room.New(rows * w)
			for r := range rows {
				put(r, k.Data[int(x[r])*k.Cols:][:k.Cols])
			}
		case exact.Add:
			out = room.Take(len(x))
			copy(out, x)
			for at, e := range tr.vals[op.In[1]] {
				out[at] += e
			}
		case exact.Offset:
			out = room.Take(len(x))
			copy(out, x)
			for r := range rows {
				for _, s := range stretches {
					to := out[r*w+s.index:][:s.n]
					for j, e := range k.Data[s.column:][:s.n] {
						to[j] += e
					}
				}
			}
		case exact.MatMul:
			out = blockProducts(x, k, in, layout{1, k.Rows}, layout{1, k.Cols}, l, room)
		case exact.BlockMatMul:
			o := pk.plan.ops[i]
			out = blockProducts(x, k, in, o.in, o.own, l, room)
		case exact.Requantise:
			out = room.Take(len(x))
			tr.sat[i] = requantise(out, x, op)
		case exact.Table:
			out = room.New(len(x))
			for r := range rows {
				for _, s := range stretches {
					to := out[r*w+s.index:][:s.n]
					for j, e := range x[r*w+s.index:][:s.n] {
						to[j] = k.Data[int64(e)-op.Params[0]]
					}
				}
			}
		case exact.LayerNorm, exact.RMSNorm:
			out = room.New(len(x))
			tr.norm[i] = normTraceOf(out, x, l, k.Data, op)
		case exact.Attention, exact.FullAttention:
			heads := layout{int(op.Params[0]), l.cols() / int(op.Params[0])}
			a := &attention{
				b: b, t: t, lay: heads, table: k.Data, shift: op.Params[1],
				q: spread(x, l, heads), k: spread(tr.vals[op.In[1]], l, heads), v: spread(tr.vals[op.In[2]], l, heads),
			}
			if op.Kind == exact.FullAttention {
				a.live = tr.live
			}
			out, tr.attn[i] = a.run(room)
			out = spread(out, heads, l)
		case exact.ArgMax:
			out = make([]int32, rows)
			dense := layout{1, in.cols()}
			x = spread(x, in, dense)
			for r := range out {
				out[r] = int32(argMax(x[r<<dense.bits():][:dense.width]))
			}
		case exact.Arrange:
			out = (&arrangement{from: in, to: l, source: k.Data}).rows(x)
		case exact.BlockMax:
			o := pk.plan.ops[i]
			x = spread(x, in, o.in)
			gb, wb := o.in.groupBits(), o.in.widthBits()
			out = room.New(rows * w)
			row := make([]int32, o.in.groups)
			for r := range rows {
				for j := range row {
					row[j] = slices.Max(x[(r<<gb|j)<<wb:][:o.in.width])
				}
				put(r, row)
			}
		case exact.Multiply:
			out = room.Take(len(x))
			copy(out, x)
			for at, e := range tr.vals[op.In[1]] {
				out[at] *= e
			}
		case exact.MeanRows:
			out = room.New(len(x))
			sums := make([]int32, w<<b)
			for s, n := range tr.live {
				sum := sums[s*w : (s+1)*w]
				for r := range n {
					for j, e := range x[(s<<t|r)*w:][:w] {
						sum[j] += e
					}
				}
				first := out[s<<t*w:][:w]
				for j, e := range sum {
					first[j] = int32(meanOf(int64(e), n))
				}
				for r := 1; r < 1<<t; r++ {
					copy(out[(s<<t|r)*w:], first)
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

// blockProducts returns the products of blocks of columns and a matrix. In layout
// own, and x in layout in, blocks are groups.
func blockProducts(x []int32, k exact.Const, from, in, own, to layout, room *koala.Space[int32]) []int32 {
	x = spread(x, from, in)
	// Blocks of all rows are alike.
	n := len(x) >> in.widthBits()
	a := matrix.Matrix{Rows: n, Cols: k.Rows, Stride: 1 << in.widthBits(), Data: x}
	b := matrix.Matrix{Rows: k.Rows, Cols: k.Cols, Stride: k.Cols, Data: k.Data}
	c := matrix.Matrix{Rows: n, Cols: k.Cols, Stride: 1 << own.widthBits(), Data: room.New(n << own.widthBits())}
	const grain = 1 << 22 // products, of less than a tenth of a millisecond
	if n > k.Cols {
		parallel.For(n, grain/(k.Rows*k.Cols), func(from, to int) { matrix.Mul(c.Part(from, to), a.Part(from, to), b) })
	} else {
		parallel.For(k.Cols, grain/(n*k.Rows), func(from, to int) { matrix.Mul(c.Columns(from, to), a, b.Columns(from, to)) })
	}
	return spread(c.Data, own, to)
}

// requantise returns the bits of how far beyond its bounds a value is at most;
// 0 if none saturates.
func requantise(out, x []int32, op exact.Op) int {
	s := uint(op.Params[0]) & 63
	half := int64(1) << s >> 1
	top := int64(1)<<(op.Params[1]-1) - 1
	bottom := -top - 1
	var beyond int64
	for i, e := range x[:len(out)] {
		y := (int64(e) + half) >> s
		within := max(bottom, min(top, y))
		// The magnitude: what is below its bound has all bits of a negative
		// number.
		sign := (y - within) >> 63
		beyond |= (y - within ^ sign) - sign
		out[i] = int32(within)
	}
	return mathbits.Len64(uint64(beyond))
}

func argMax(x []int32) int {
	best := 0
	for j, e := range x {
		if e > x[best] {
			best = j
		}
	}
	return best
}

func normTraceOf(out, x []int32, l layout, table []int32, op exact.Op) *normTrace {
	eps, shift := op.Params[0], op.Params[1]
	w, stretches := 1<<l.bits(), l.stretches()
	rows := len(x) / w
	n := &normTrace{make([]int64, rows), make([]int64, rows), make([]int64, rows), make([]int64, rows)}
	for r := range rows {
		from, to := x[r*w:][:w], out[r*w:][:w]
		var sum, mean, squares int64
		for _, e := range from {
			sum += int64(e)
		}
		if op.Kind == exact.LayerNorm {
			mean = meanOf(sum, l.cols())
		}
		for _, s := range stretches {
			for _, e := range from[s.index:][:s.n] {
				d := int64(e) - mean
				squares += d * d
			}
		}
		key, e := normKeyOf(squares + eps)
		entry := int64(table[key-normKeyLo])
		factor := normFactorOf(entry, e)
		half := int64(1) << (shift - 1)
		for _, s := range stretches {
			to := to[s.index:][:s.n]
			for j, e := range from[s.index:][:s.n] {
				to[j] = int32(((int64(e)-mean)*factor + half) >> (uint(shift) & 63))
			}
		}
		n.sum[r], n.mean[r], n.factor[r], n.entry[r] = sum, mean, factor, entry
	}
	return n
}

// attention is what an attention operation reads: queries, keys and values of 2^b
// sequences of 2^t rows, in a layout whose groups are heads. Each row attends to
// the first live rows of its sequence or, if live is nil, to itself and those
// before it.
type attention struct {
	b, t    int
	lay     layout
	live    []int
	q, k, v []int32
	table   []int32
	shift   int64
}

func (a *attention) run(room *koala.Space[int32]) (out []int32, tr *attnTrace) {
	n := 1 << (a.b + a.lay.groupBits() + a.t)
	out = room.New(len(a.q))
	tr = &attnTrace{
		score: room.New(n << a.t), key: room.New(n << a.t), exp: room.New(n << a.t),
		top: make([]int64, n), arg: make([]int64, n), weight: make([]int64, n), sums: room.New(len(a.q)),
	}
	parallel.Each(n>>a.t, func(i int) { a.head(out, tr, i>>a.lay.groupBits(), i&(1<<a.lay.groupBits()-1)) })
	return out, tr
}

// head does head h of sequence s.
func (a *attention) head(out []int32, tr *attnTrace, s, h int) {
	rows, w := 1<<a.t, 1<<a.lay.bits()
	first := s<<a.t*w | h<<a.lay.widthBits() // of the sequence's elements
	at := (s<<a.lay.groupBits() | h) << a.t  // of its numbers, one a row
	of := func(x []int32) matrix.Matrix {
		return matrix.Matrix{Rows: rows, Cols: a.lay.width, Stride: w, Data: x[first:]}
	}
	pairs := func(x []int32) matrix.Matrix {
		return matrix.Matrix{Rows: rows, Cols: rows, Stride: rows, Data: x[at<<a.t:]}
	}
	q, k, v, sums, score, key, exp := of(a.q), of(a.k), of(a.v), of(tr.sums), pairs(tr.score), pairs(tr.key), pairs(tr.exp)
	// The proof speaks of all pairs, though not all count.
	matrix.Mul(score, q, k.Transposed())
	half := int64(1) << a.shift >> 1
	shift, low := uint(a.shift)&63, uint(max(0, a.shift-1))&63
	last := int64(len(a.table) - 1)
	for i := range rows {
		seen := i + 1
		if a.live != nil {
			seen = a.live[s]
		}
		score := score.Row(i)[:seen]
		key, exp := key.Row(i)[:seen], exp.Row(i)[:seen]
		arg := argMax(score)
		top := int64(score[arg])
		var weight int64
		for j, s := range score {
			diff := top - int64(s)
			e := a.table[min((diff+half)>>shift, last)]
			key[j], exp[j] = int32(diff>>low), e
			weight += int64(e)
		}
		tr.top[at+i], tr.arg[at+i], tr.weight[at+i] = top, int64(arg), weight
	}
	matrix.Mul(sums, exp, v)
	for i := range rows {
		z := tr.weight[at+i]
		to := out[first+i*w:][:a.lay.width]
		for c, s := range sums.Row(i) {
			d := int64(s) / z
			if int64(s)%z < 0 {
				d--
			}
			to[c] = int32(d)
		}
	}
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
	// What saturates goes as far as what goes furthest, for the same reason, if
	// one table holds it.
	sat := 0
	for _, m := range tr.sat {
		if m <= directBits {
			sat = max(sat, m)
		}
	}
	for i, op := range pk.card.ops {
		switch op.Kind {
		case exact.Requantise:
			widest := saturation(op, withZero(pk.card.facts[op.In[0]].Range))
			if widest == 0 {
				continue
			}
			m := tr.sat[i]
			if m > 0 && m <= directBits {
				m = max(m, min(sat, widest))
			}
			modes = append(modes, byte(m))
		case exact.Attention, exact.FullAttention:
			r := pk.card.facts[op.In[0]].Range
			s := pk.card.facts[op.In[1]].Range
			width := int64(pk.card.facts[i].Cols) / op.Params[0]
			keys := attentionKeys(max(-r.Lo, r.Hi)*max(-s.Lo, s.Hi)*width, op.Params[1])
			weight := slices.Max(tr.attn[i].weight)
			modes = append(modes, byte(min(mathbits.Len32(uint32(key)), mle.Log(int(keys)))), byte(mathbits.Len64(uint64(weight-1))))
		}
	}
	return modes
}

// data is the values of a plan's sources, for the prover.
type data struct {
	v       *vectors
	model   [][]koala.Elem
	columns [][]koala.Elem           // that are committed to
	witness [][]koala.Elem           // in these
	prods   [][]koala.Elem           // nil where nothing refers to the product
	publics [][]koala.Elem           // made when needed
	room    *koala.Space[koala.Elem] // for what is used until the end
}

func newData(p *plan, m *rooms) *data {
	d := &data{room: &m.proof, v: newVectors(p), columns: make([][]koala.Elem, p.witnessColumns), witness: make([][]koala.Elem, len(p.witness)), prods: make([][]koala.Elem, len(p.prods)), publics: make([][]koala.Elem, len(p.publics))}
	d.v.room = m.step
	height := p.card.height
	all := d.room.New(p.witnessColumns << height)
	for i := range d.columns {
		d.columns[i] = all[i<<height : (i+1)<<height]
	}
	for i, r := range p.witness {
		d.witness[i] = all[r.at : r.at+1<<r.bits]
	}
	return d
}

// elems is integers as elements.
func (d *data) elems(x []int32) []koala.Elem {
	out := d.room.Take(len(x))
	fromInts(out, x)
	return out
}

func fromInts(dst []koala.Elem, x []int32) {
	parallel.For(len(x), 1<<14, func(from, to int) { koala.FromInts(dst[from:to], x[from:to]) })
}

// fill computes the sources of a plan from a trace. Limbs and multiplicities
// stay zero.
func (pk *ProverKey) fill(p *plan, tr *trace, m *rooms) *data {
	d := newData(p, m)
	d.model = pk.regions
	for i, op := range p.card.ops {
		o := p.ops[i]
		switch op.Kind {
		case exact.Gather, exact.MatMul:
			d.prods[o.out.terms[0].src.id] = d.elems(tr.vals[i])
		case exact.Requantise:
			if len(o.columns) == 0 {
				break
			}
			fromInts(d.witness[o.columns[0]], tr.vals[i])
			if !o.sat {
				break
			}
			s := uint(op.Params[0]) & 63
			half := int64(1) << s >> 1
			var over, under []koala.Elem
			if c := o.columns[1]; c >= 0 {
				over = d.witness[c]
			}
			if c := o.columns[2]; c >= 0 {
				under = d.witness[c]
			}
			for j, x := range tr.vals[op.In[0]] {
				switch e := int32((int64(x)+half)>>s) - tr.vals[i][j]; {
				case e > 0 && over != nil:
					over[j] = koala.FromSmall(e)
				case e < 0 && under != nil:
					under[j] = koala.FromSmall(-e)
				}
			}
		case exact.Table:
			fromInts(d.witness[o.columns[0]], tr.vals[i])
		case exact.Arrange, exact.Multiply:
			d.prods[o.prods[0]] = d.elems(tr.vals[i])
		case exact.BlockMatMul:
			d.prods[o.prods[0]] = d.elems(spread(tr.vals[i], p.lay[i], o.own))
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
		d.prods[r.product] = d.elems(spread(tr.vals[r.value], p.lay[r.value], r.to))
	}
	return d
}

// fillMax marks the first greatest element of each block.
func (pk *ProverKey) fillMax(p *plan, i int, d *data, tr *trace) {
	o, in := p.ops[i], int(p.card.ops[i].In[0])
	x, top := spread(tr.vals[in], p.lay[in], o.in), spread(tr.vals[i], p.lay[i], o.own)
	wb := o.in.widthBits()
	mark := d.witness[o.columns[1]]
	for b := range len(x) >> wb {
		mark[b<<wb+max(0, slices.Index(x[b<<wb:][:o.in.width], top[b]))] = koala.One
	}
	fromInts(d.witness[o.columns[0]], top)
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
	fromInts(d.witness[o.columns[0]], mean)
	d.prods[o.prods[0]], d.prods[o.prods[1]] = d.elems(tr.sums[i]), back
}

func (pk *ProverKey) fillNorm(p *plan, i int, d *data, tr *trace) {
	o, n, l := p.ops[i], tr.norm[i], p.lay[i]
	x := tr.vals[p.card.ops[i].In[0]]
	w, stretches := 1<<l.bits(), l.stretches()
	high := make([]int32, len(x))
	scaled := d.room.Take(len(x))
	rows := 1 << p.rowBits()
	hh, hl, ll := make([]int64, rows), make([]int64, rows), make([]int64, rows)
	shift := uint(o.shift) & 63
	parallel.For(rows, 1<<16/w, func(from, to int) {
		for r := from; r < to; r++ {
			var aa, ab, bb int64
			for _, s := range stretches {
				to := high[r*w+s.index:][:s.n]
				for j, e := range x[r*w+s.index:][:s.n] {
					dev := int64(e) - n.mean[r]
					a := dev >> shift
					b := dev - a<<shift
					to[j] = int32(a)
					aa, ab, bb = aa+a*a, ab+a*b, bb+b*b
				}
			}
			hh[r], hl[r], ll[r] = aa, ab, bb
			koala.ScaleInts(scaled[r*w:][:w], x[r*w:][:w], koala.FromInt(n.factor[r]))
		}
	})
	fromInts(d.witness[o.columns[0]], high)
	fromInts(d.witness[o.columns[1]], tr.vals[i])
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
	own := spread(tr.vals[i], p.lay[i], o.own)
	for k, x := range [][]int32{a.key, a.exp, own} {
		fromInts(d.witness[o.columns[k]], x)
	}
	d.prods[o.prods[0]], d.prods[o.prods[2]] = d.elems(a.score), d.elems(a.sums)
	back := d.room.Take(len(own))
	hb, wb := o.own.groupBits(), o.own.widthBits()
	for r := range 1 << p.rowBits() {
		s, i := r>>p.t, r&(1<<p.t-1)
		for h := range 1 << hb {
			at := (r<<hb | h) << wb
			koala.ScaleInts(back[at:][:1<<wb], own[at:][:1<<wb], koala.FromInt(a.weight[(s<<hb|h)<<p.t|i]))
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

// values returns a form's values at all indices, which must not be changed. If
// they are no source's, they are in the room.
func (d *data) values(p *plan, f form, room *koala.Space[koala.Elem]) []koala.Elem {
	if len(f.terms) == 1 && f.terms[0].coef == 1 && f.terms[0].covers(0, f.n) {
		return d.source(p, f.terms[0].src)
	}
	var all koala.Elem // the sum of terms without variables
	for _, t := range f.terms {
		if len(t.pick) == 0 {
			all = all.Add(koala.FromInt(t.coef).Mul(d.source(p, t.src)[0]))
		}
	}
	out := room.Take(1 << f.n)
	koala.Fill(out, all)
	for _, t := range f.terms {
		m := len(t.pick)
		if m == 0 {
			continue
		}
		src := d.source(p, t.src)
		c := koala.FromInt(t.coef)
		// Almost all picks are consecutive variables.
		first := int(t.pick[0])
		switch {
		case t.covers(f.n-m, m):
			for at := 0; at < len(out); at += len(src) {
				addTimes(out[at:at+len(src)], src, c)
			}
		case t.covers(first, m):
			rep := 1 << (f.n - first - m)
			for i := 0; i < len(out); i += rep {
				x := c.Mul(src[i/rep&(len(src)-1)])
				for j := i; j < i+rep; j++ {
					out[j] = out[j].Add(x)
				}
			}
		default:
			// Each bit of the source's index is one of the form's, so those
			// of the upper and the lower half of a form's index are joined.
			low := make([]int, 1<<(f.n/2))
			for i := range low {
				low[i] = t.index(i, f.n)
			}
			for i := 0; i < len(out); i += len(low) {
				high := t.index(i, f.n)
				to := out[i:][:len(low)]
				for j, at := range low {
					to[j] = to[j].Add(c.Mul(src[high|at]))
				}
			}
		}
	}
	return out
}

// covers reports whether the term picks m variables from first on, in order.
func (t term) covers(first, m int) bool {
	return first >= 0 && slices.Equal(t.pick, vars(first, m))
}

// index returns the index in the term's source of index i of a form of n
// variables.
func (t term) index(i, n int) int {
	at := 0
	for _, v := range t.pick {
		at <<= 1
		switch {
		case v >= 0:
			at |= i >> (n - 1 - int(v)) & 1
		case v == pickOne:
			at |= 1
		case v == pickHalf:
			panic("zkml: values of a sum over a variable")
		}
	}
	return at
}

func addTimes(dst, src []koala.Elem, c koala.Elem) {
	switch c {
	case koala.One:
		koala.AddElems(dst, dst, src)
	case koala.One.Neg():
		koala.SubElems(dst, dst, src)
	default:
		koala.AddTimes(dst, src, c)
	}
}
