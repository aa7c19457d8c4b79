package zkml

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
)

// This file says what is proven of each operation, assuming that what it
// reads is right: then what it writes is right, for lack of any other
// possibility. Every "unique" below is a statement about integers, and the
// bounds next to it keep both sides of an equation less than p apart, so that
// equal modulo p is equal.

// LayerNorm's key, as package exact defines it.
const (
	normKeyLo = 1 << 14
	normKeyHi = 1 << 16
)

var (
	errNear  = errors.New("values come too near the limit to be proven")
	errIndex = errors.New("only rows of the input, of positions and of argmax can be gathered yet")
)

// withZero extends a range to hold zero, which stands in columns that are only
// there to fill up a power of two.
func withZero(r exact.Range) exact.Range { return exact.Range{Lo: min(r.Lo, 0), Hi: max(r.Hi, 0)} }

func (p *plan) operation(i int, op exact.Op) error {
	l := p.lay[i]
	t, cb := p.rowBits(), l.bits()
	n := t + cb
	o := opPlan{}
	var x form
	var xr exact.Range
	if len(op.In) > 0 {
		x = p.ops[op.In[0]].out
		xr = withZero(p.card.facts[op.In[0]].Range)
	}
	k := 0
	var shape constShape
	if len(op.Consts) > 0 {
		k = op.Consts[0]
		shape = p.card.consts[k]
	}
	var err error
	switch op.Kind {
	case exact.Input:
		p.input = p.addSlot(slot{name: "input", bits: n})
		o.slots = []int{p.input}
		o.out = p.vector(p.input, n, vars(0, n))

	case exact.Position:
		s := p.addSlot(slot{name: "position", bits: t})
		o.slots = []int{s}
		o.out = p.vector(s, n, vars(0, t))

	case exact.Gather:
		switch p.card.ops[op.In[0]].Kind {
		case exact.Input, exact.Position, exact.ArgMax:
		default:
			return errIndex
		}
		// A one-hot vector of the row, public, times the constant.
		rows := layout{1, shape.rows}
		r := p.constantRegion(k, rows, l, fillZero)
		y := rows.bits()
		sum := p.addProduct(product{name: "gather", z: n, y: y, weight: gather, slot: p.ops[op.In[0]].slots[0],
			f: of(n+y, source{model, r}, vars(n, y), vars(t, cb))})
		o.out = of(n, source{summed, sum}, vars(0, n))

	case exact.Add:
		o.out = x.plus(p.ops[op.In[1]].out)

	case exact.Offset:
		r := p.constantRegion(k, layout{1, 1}, l, fillZero)
		o.out = x.plus(of(n, source{model, r}, vars(t, cb)))

	case exact.MatMul:
		// Thaler 2013: one sum over the inner index at a random point.
		in := p.lay[op.In[0]]
		y := in.bits()
		r := p.constantRegion(k, in, l, fillZero)
		sum := p.addProduct(product{name: "matmul", z: n, y: y,
			f: x.at(n+y, vars(0, t), vars(n, y)),
			g: of(n+y, source{model, r}, vars(n, y), vars(t, cb))})
		o.out = of(n, source{summed, sum}, vars(0, n))

	case exact.Requantise:
		o, err = p.requantise(i, op, x, xr, n)

	case exact.Table:
		lo := op.Params[0]
		cols := layout{1, shape.cols}
		r := p.constantRegion(k, layout{1, 1}, cols, fillZero)
		key := [3]int{r, int(lo)}
		tab, ok := p.pairs[key]
		if !ok {
			tab = p.addTable(table{bits: cols.bits(), live: shape.cols, lo: lo, region: r})
			p.pairs[key] = tab
		}
		c := p.addColumn(opName(i, "table"), n)
		o.columns, o.out = []int{c}, column(c, n)
		look := lookup{bits: n, value: x, second: o.out, tag: constant(n, tag(tab)), only: -1, table: tab, null: -1}
		if l.padded() {
			// Filler has the pair (0, 0) of the null table.
			m := p.addPublic(publicPoly{kind: maskPoly, bits: cb, lay: l})
			look.tag = constant(n, tag(p.null)).plus(of(n, source{public, m}, vars(t, cb)).times(tag(tab) - tag(p.null)))
			look.null = p.null
		}
		p.lookups = append(p.lookups, look)

	case exact.LayerNorm, exact.RMSNorm:
		o, err = p.layerNorm(i, op, x, p.card.facts[op.In[0]].Range, k)

	case exact.Attention, exact.FullAttention:
		o, err = p.attention(i, op, k, shape)

	case exact.ArgMax:
		o, err = p.argMax(i, op, x, p.card.facts[op.In[0]].Range, p.lay[op.In[0]])

	case exact.Arrange:
		// The matrix that moves columns is sparse and in the card.
		f, sum := p.arrange(x, &arrangement{from: p.lay[op.In[0]], to: l, source: shape.data})
		o.out, o.prods = f, []int{sum}

	case exact.BlockMatMul:
		// MatMul with the block's number beside the row's.
		blocks := int(op.Params[0])
		o.in, o.own = layout{blocks, shape.rows}, layout{blocks, shape.cols}
		x = p.relay(int(op.In[0]), x, p.lay[op.In[0]], o.in)
		rows, cols := layout{1, shape.rows}, layout{1, shape.cols}
		n, y := t+o.own.bits(), rows.bits()
		r := p.constantRegion(k, rows, cols, fillZero)
		sum := p.addProduct(product{name: "matmul", z: n, y: y,
			f: x.at(n+y, vars(0, t+o.own.groupBits()), vars(n, y)),
			g: of(n+y, source{model, r}, vars(n, y), vars(t+o.own.groupBits(), cols.bits()))})
		o.prods = []int{sum}
		o.out = p.relay(i, of(n, source{summed, sum}, vars(0, n)), o.own, l)

	case exact.BlockMax:
		o, err = p.blockMax(i, op, x, xr)

	case exact.Multiply:
		// Both factors are right, and so is their product: the program's
		// bounds keep it below 2^30.
		sum := p.addProduct(product{name: "multiply", z: n, y: n, pairs: pairUp(0, 0, n), f: x.at(2*n, vars(n, n)), g: p.ops[op.In[1]].out.at(2*n, vars(n, n))})
		o.out, o.prods = of(n, source{summed, sum}, vars(0, n)), []int{sum}

	case exact.MeanRows:
		o, err = p.meanRows(i, op, x, xr)

	case exact.Noise:
		// All know it: see known.
		s := p.addSlot(slot{name: "noise", bits: n})
		o.slots = []int{s}
		o.out = p.vector(s, n, vars(0, n))
	}
	p.ops = append(p.ops, o)
	return err
}

// blockMax: the greatest element of a block is committed, with marks that say
// where it is. All gaps to it are in range, a mark is 0 or 1 and 1 only where
// the gap is 0, and the marks of a block add up to 1, so it is attained. Which
// of several equal elements is marked is the prover's choice; the greatest is
// not.
func (p *plan) blockMax(i int, op exact.Op, x form, xr exact.Range) (opPlan, error) {
	blocks := int(op.Params[0])
	o := opPlan{in: layout{blocks, p.card.facts[op.In[0]].Cols / blocks}, own: layout{1, blocks}}
	x = p.relay(int(op.In[0]), x, p.lay[op.In[0]], o.in)
	z, wb := p.rowBits()+o.in.groupBits(), o.in.widthBits()
	n := z + wb
	top, mark := p.addColumn(opName(i, "greatest"), z), p.addColumn(opName(i, "mark"), n)
	o.columns = []int{top, mark}
	// Columns that fill up a block do not count. Blocks that fill up the row
	// are of zeros, of which the greatest is zero.
	only := -1
	var marks form
	if o.in.width < 1<<wb {
		only = p.addPublic(publicPoly{kind: maskPoly, bits: wb, lay: layout{1, o.in.width}})
		sum := p.addProduct(product{name: "marks", z: z, y: wb, f: column(mark, n), g: of(n, source{public, only}, vars(z, wb))})
		marks = of(z, source{summed, sum}, vars(0, z))
	} else {
		halves := make([]pick, wb)
		for j := range halves {
			halves[j] = pickHalf
		}
		marks = column(mark, n).at(z, vars(0, z), halves).times(1 << wb)
	}
	p.zeros = append(p.zeros, marks.minus(constant(z, 1)))
	gap := of(n, source{witness, top}, vars(0, z)).minus(x)
	span := xr.Hi - xr.Lo + 1
	// As the greatest is some element, |gap| < span.
	if err := p.rangeMark(opName(i, "gap"), gap, column(mark, n), span, koala.P-1-span, only); err != nil {
		return o, err
	}
	o.out = p.relay(i, column(top, z), o.own, p.lay[i])
	return o, nil
}

// meanRows: the mean is committed once for a sequence. With n rows of input,
// floor((2 sum + n) / 2n) is floor((sum + floor(n/2)) / n), so sum + n/2 = n
// mean + rem, 0 <= rem < n, has one solution with the mean in range.
func (p *plan) meanRows(i int, op exact.Op, x form, xr exact.Range) (opPlan, error) {
	l := p.lay[i]
	bb, t, cb := p.b, p.t, l.bits()
	live, counts := p.liveRows()
	z, y := bb+cb, bb+t
	sums := p.addProduct(product{name: "sums", z: z, y: y, pairs: pairUp(0, 0, bb),
		f: x.at(z+y, vars(z, y), vars(bb, cb)),
		g: p.vector(live, z+y, vars(z, y))})
	mean := p.addColumn(opName(i, "mean"), z)
	// The quotient times the number of rows.
	back := p.addProduct(product{name: "divided", z: z, y: bb, pairs: pairUp(0, 0, bb), weight: scaled, slot: counts,
		f: column(mean, z).at(z+bb, vars(z, bb), vars(bb, cb))})
	half := p.addSlot(slot{name: opName(i, "half"), bits: bb}) // known: half the counts
	o := opPlan{columns: []int{mean}, prods: []int{sums, back}, slots: []int{half}}
	o.out = of(bb+t+cb, source{witness, mean}, vars(0, bb), vars(bb+t, cb))
	rem := of(z, source{summed, sums}, vars(0, z)).plus(p.vector(half, z, vars(0, bb))).minus(of(z, source{summed, back}, vars(0, z)))
	most := p.mostRows()
	up := int64(1) << bits.Len64(uint64(most-1))
	if err := p.rangeCheck(opName(i, "mean remainder"), rem, up, up, -1); err != nil {
		return o, err
	}
	rest := p.vector(counts, z, vars(0, bb)).minus(constant(z, 1)).minus(rem)
	if err := p.rangeCheck(opName(i, "mean divisor"), rest, up, up, -1); err != nil {
		return o, err
	}
	// |n mean + rem - n/2 - sum| < p for n <= most and 0 <= rem < n.
	reach := most * max(-xr.Lo, xr.Hi)
	limit := (koala.P-1-reach-most)/most + 1 - xr.Lo
	if most*-xr.Lo+reach+most >= koala.P {
		return o, errNear
	}
	return o, p.rangeCheck(opName(i, "mean"), column(mean, z).minus(constant(z, xr.Lo)), xr.Hi-xr.Lo+1, limit, -1)
}

func opName(i int, part string) string { return "op " + strconv.Itoa(i) + " " + part }

// saturation returns the bits of how far beyond its bounds a value in the range
// may be when it is requantised; 0 if none saturates. A proof's header says of
// an operation where it is not 0 how many bits there were.
func saturation(op exact.Op, x exact.Range) int {
	s := op.Params[0]
	half := int64(1) << s >> 1
	top := int64(1)<<(op.Params[1]-1) - 1
	beyond := max(0, (x.Hi+half)>>s-top, -top-1-(x.Lo+half)>>s)
	return bits.Len64(uint64(beyond))
}

// requantise: o = floor((x + half) / 2^s), saturated. Unless some value
// saturates, which the header tells, x + half = 2^s o + rem with both rem and
// o in range has one solution. Checking rem alone would not do: for any rem,
// o = (x + half - rem) / 2^s is a field element.
// Otherwise o + over - under takes the place of o, over being zero unless o is
// at the top and under unless it is at the bottom. Both have no more bits than
// the header tells, which is often far fewer than the program's bounds allow.
func (p *plan) requantise(i int, op exact.Op, x form, xr exact.Range, n int) (opPlan, error) {
	s := op.Params[0]
	half := int64(1) << s >> 1
	top := int64(1)<<(op.Params[1]-1) - 1
	bottom := -top - 1
	qlo, qhi := (xr.Lo+half)>>s, (xr.Hi+half)>>s
	widest := saturation(op, xr)
	may := widest > 0
	o := opPlan{}
	var span int64 // of over and of under
	if may {
		m, err := p.nextMode(byte(widest))
		if err != nil {
			return o, err
		}
		o.sat, span = m > 0, 1<<m
	}
	// Room above and below, in units of 2^s.
	most := (koala.P-1+xr.Lo+half-(1<<s-1))>>s + 1 // 2^s q + rem - half - x < p for q < most
	least := (xr.Hi + half - (koala.P - 1)) >> s   // x - (2^s q - half) < p for q > least
	olo, ohi := max(qlo, bottom), min(qhi, top)
	if may && bottom > least && top < most {
		olo, ohi = bottom, top
	}
	if !o.sat && s == 0 {
		// Nothing changes; what would have saturated must not.
		o.out = x
		if may {
			return o, p.rangeCheck(opName(i, "value"), x.minus(constant(n, olo)), ohi-olo+1, ohi-olo+1, -1)
		}
		return o, nil
	}
	c := p.addColumn(opName(i, "quotient"), n)
	o.columns, o.out = []int{c}, column(c, n)
	q := o.out
	if o.sat {
		if top >= most || bottom <= least {
			return o, errNear
		}
		if qhi > top {
			over := p.addColumn(opName(i, "over"), n)
			o.columns = append(o.columns, over)
			q = q.plus(column(over, n))
			if err := p.rangeCheck(opName(i, "over"), column(over, n), min(qhi-top+1, span), most-top, -1); err != nil {
				return o, err
			}
			p.bothZero(n, column(over, n), constant(n, top).minus(o.out))
		} else {
			o.columns = append(o.columns, -1)
		}
		if qlo < bottom {
			under := p.addColumn(opName(i, "under"), n)
			o.columns = append(o.columns, under)
			q = q.minus(column(under, n))
			if err := p.rangeCheck(opName(i, "under"), column(under, n), min(bottom-qlo+1, span), bottom-least, -1); err != nil {
				return o, err
			}
			p.bothZero(n, column(under, n), o.out.minus(constant(n, bottom)))
		} else {
			o.columns = append(o.columns, -1)
		}
	} else if olo <= least || ohi >= most {
		return o, errNear
	}
	rem := x.plus(constant(n, half)).minus(q.times(1 << s))
	if err := p.rangeCheck(opName(i, "remainder"), rem, 1<<s, 1<<s, -1); err != nil {
		return o, err
	}
	if !o.sat && p.keyOfTable(i, olo, ohi) {
		return o, nil // the table's lookup is the range check
	}
	limit := most - olo
	if may {
		limit = min(limit, ohi-olo+1) // exactly: beyond it would have saturated
	}
	return o, p.rangeCheck(opName(i, "quotient"), o.out.minus(constant(n, olo)), ohi-olo+1, limit, -1)
}

// keyOfTable reports whether value i is looked up in a table, everywhere, that
// has no key outside [lo, hi].
func (p *plan) keyOfTable(i int, lo, hi int64) bool {
	if p.lay[i].padded() {
		return false
	}
	for _, op := range p.card.ops {
		if op.Kind == exact.Table && int(op.In[0]) == i && op.Params[0] >= lo && op.Params[0]+int64(p.card.consts[op.Consts[0]].cols)-1 <= hi {
			return true
		}
	}
	return false
}

// bothZero proves that at every index one of two forms is zero.
func (p *plan) bothZero(n int, f, g form) {
	sum := p.addProduct(product{name: "zero", z: n, y: n, pairs: pairUp(0, 0, n), f: f.at(2*n, vars(n, n)), g: g.at(2*n, vars(n, n))})
	p.zeros = append(p.zeros, of(n, source{summed, sum}, vars(0, n)))
}

// Slots of LayerNorm.
const (
	normSum    = iota // sum of the row
	normHigh          // sums of products of the limbs of the deviations: a a
	normCross         // a b
	normLow           // b b
	normEntry         // the table's entry
	normMean          // derived: the mean
	normKey           // derived: index in the table
	normFactor        // derived: the factor
	normShift         // derived: mean times factor
	normSlots
)

// normSpread bounds the magnitudes that a norm squares: of deviations from the
// mean, or of elements.
func normSpread(op exact.Op, r exact.Range) int64 {
	if op.Kind == exact.RMSNorm {
		return max(-r.Lo, r.Hi, 1)
	}
	return r.Hi - r.Lo + 1
}

// layerNorm: what is one number a row is sent in the clear. The verifier
// computes the mean from the sum, the key from the sum of squares and the
// factor from the table's entry, and is left to check the sums, the entries
// and a rounding of (x - mean) factor. The sum of squares exceeds p, so
// deviations are split into limbs a 2^k + b: the sums of a a, a b and b b are
// each below p and determined by their residues. RMSNorm is the same with zero
// for the mean.
func (p *plan) layerNorm(i int, op exact.Op, x form, xr exact.Range, k int) (opPlan, error) {
	l := p.lay[i]
	t, cb := p.rowBits(), l.bits()
	n := t + cb
	cols := int64(l.cols())
	centred := op.Kind == exact.LayerNorm
	spread := normSpread(op, xr)
	low := (bits.Len64(uint64(spread)) + 1) / 2
	high := spread>>low + 1 // |a| <= high, since |deviation| <= spread
	const room = koala.P/2 - 1
	if centred && cols*max(-xr.Lo, xr.Hi) > room || spread >= 1<<24 || cols*(high<<low) > room || cols*high*high > room || cols<<(2*low) > room {
		return opPlan{}, errNear
	}
	o := opPlan{shift: low}
	for s := range normSlots {
		if !centred && (s == normSum || s == normMean || s == normShift) {
			o.slots = append(o.slots, -1)
			continue
		}
		o.slots = append(o.slots, p.addSlot(slot{name: opName(i, "row"), bits: t, sent: s <= normEntry}))
	}
	// Outer products of a slot and the mask of columns.
	outer := func(s int) form {
		return of(n, source{public, p.addPublic(publicPoly{kind: outerPoly, slot: o.slots[s], bits: n, lay: l})}, vars(0, n))
	}
	a := p.addColumn(opName(i, "high"), n)
	y := p.addColumn(opName(i, "norm"), n)
	o.columns, o.out = []int{a, y}, column(y, n)
	dev := x
	if centred {
		dev = x.minus(outer(normMean))
	}
	b := dev.minus(column(a, n).times(1 << low))
	// The most that |a| may be for the sums to stay below p/2.
	widest := min(int64(math.Sqrt(float64(room/cols)))-1, room/(cols<<low))
	if err := p.rangeCheck(opName(i, "high"), column(a, n).plus(constant(n, high)), 2*high+1, widest+high+1, -1); err != nil {
		return o, err
	}
	if err := p.rangeCheck(opName(i, "low"), b, 1<<low, 1<<low, -1); err != nil {
		return o, err
	}
	// The sum over columns is 2^cb times the value at 1/2.
	halves := make([]pick, cb)
	for j := range halves {
		halves[j] = pickHalf
	}
	if centred {
		p.zeros = append(p.zeros, x.at(t, vars(0, t), halves).times(1<<cb).minus(p.vector(o.slots[normSum], t, vars(0, t))))
	}
	for _, s := range []int{normHigh, normCross, normLow} {
		f, g := column(a, n), b
		switch s {
		case normHigh:
			g = f
		case normLow:
			f = b
		}
		sum := p.addProduct(product{name: "squares", z: t, y: n, pairs: pairUp(0, 0, t), f: f.at(t+n, vars(t, n)), g: g.at(t+n, vars(t, n))})
		p.zeros = append(p.zeros, of(t, source{summed, sum}, vars(0, t)).minus(p.vector(o.slots[s], t, vars(0, t))))
	}
	roots := p.constantRegion(k, layout{1, 1}, layout{1, normKeyHi - normKeyLo}, fillZero)
	p.rowTabs = append(p.rowTabs, rowTable{roots, o.slots[normKey], o.slots[normEntry]})
	// z = factor (x - mean), below 2^30 by the program's bounds.
	scale := p.addProduct(product{name: "norm", z: n, y: t, pairs: pairUp(0, 0, t), weight: scaled, slot: o.slots[normFactor],
		f: x.at(n+t, vars(n, t), vars(t, cb))})
	o.prods = []int{scale}
	z := of(n, source{summed, scale}, vars(0, n))
	if centred {
		z = z.minus(outer(normShift))
	}
	s := op.Params[1]
	half := int64(1) << (s - 1)
	r := withZero(p.card.facts[i].Range)
	// |z| < 2^30 and |2^s y + rem - half - z| < p.
	if exact.Limit+half-(r.Lo<<s) >= koala.P {
		return o, errNear
	}
	limit := (koala.P-1-exact.Limit+half-(1<<s-1))>>s + 1 - r.Lo
	if err := p.rangeCheck(opName(i, "norm"), o.out.minus(constant(n, r.Lo)), r.Hi-r.Lo+1, limit, -1); err != nil {
		return o, err
	}
	return o, p.rangeCheck(opName(i, "remainder"), z.plus(constant(n, half)).minus(o.out.times(1<<s)), 1<<s, 1<<s, -1)
}

// Slots of Attention, each of sequences by heads by rows.
const (
	attnTop    = iota // the greatest score
	attnArg           // where it is
	attnWeight        // the sum of the exponentials
	attnSlots
)

// attentionKeys is how many keys there are for scores of at most the given
// magnitude: their differences are at most twice that. See attention.
func attentionKeys(score, shift int64) int64 { return (2*score)>>max(0, shift-1) + 1 }

// mostWeight bounds sums of an attention's exponentials. Causal attention may
// run over rows that fill up.
func (p *plan) mostWeight(op exact.Op) int64 {
	first := int64(p.card.consts[op.Consts[0]].first)
	if op.Kind == exact.FullAttention {
		return first * p.mostRows()
	}
	return first << p.t
}

// attention: the greatest score of a row is sent in the clear with the place
// where it is. That no score is greater must be exact: were the rounded
// difference the key of the table, a score could exceed the top by half a key
// and the sum of key and remainder would still be in range. So keys are of half
// the width, difference = 2^(shift-1) key + remainder, and the table has
// exponential (key+1)/2, rounded down, at each: the rounded difference.
// Exponentials are committed and zero where j > i. Their sums are sent and
// checked. The mean is a division of sums by sums, with a remainder between 0
// and the divisor. FullAttention has rows of input in place of j <= i.
func (p *plan) attention(i int, op exact.Op, k int, shape constShape) (opPlan, error) {
	heads := int(op.Params[0])
	l := layout{heads, p.card.facts[i].Cols / heads}
	bb, t, hb, wb := p.b, p.t, l.groupBits(), l.widthBits()
	per := bb + hb + t // numbers sent: one a head and row
	operand := func(k int) form { return p.relay(int(op.In[k]), p.ops[op.In[k]].out, p.lay[op.In[k]], l) }
	q, key, v := operand(0), operand(1), operand(2)
	qr, kr, vr := p.card.facts[op.In[0]].Range, p.card.facts[op.In[1]].Range, withZero(p.card.facts[op.In[2]].Range)
	abs := func(r exact.Range) int64 { return max(-r.Lo, r.Hi) }
	if abs(qr) > 1<<15 || abs(kr) > 1<<15 || abs(vr) > 1<<15 {
		return opPlan{}, errNear
	}
	score := abs(qr) * abs(kr) * int64(l.width)
	weights := p.mostWeight(op)
	if 4*score > koala.P-1 || weights >= 1<<29 || weights*abs(vr) > koala.P/2-1 {
		return opPlan{}, errNear
	}
	o := opPlan{}

	// How far the table of exponentials goes on, and the bits of the sums.
	shift := op.Params[1]
	keys := attentionKeys(score, shift)
	entries, spread := layout{1, shape.cols}, fillLast
	if shift > 0 {
		shift--
		entries, spread = layout{1, 2*shape.cols - 1}, fillHalves
	}
	short := entries.bits()
	most := max(short, mle.Log(int(keys)))
	qb, err := p.nextMode(byte(most))
	if err != nil {
		return o, err
	}
	zb, err := p.nextMode(byte(bits.Len64(uint64(weights))))
	if err != nil {
		return o, err
	}
	o.qbits, o.zbits = max(int(qb), short), int(zb)
	live := min(keys, 1<<o.qbits)

	for range attnSlots {
		o.slots = append(o.slots, p.addSlot(slot{name: opName(i, "row"), bits: per, sent: true}))
	}
	// Scores in (b, h, i, j), b being the sequence.
	n := per + t
	scores := p.addProduct(product{name: "scores", z: n, y: bb + hb + wb, pairs: pairUp(0, 0, bb+hb),
		f: q.at(n+bb+hb+wb, vars(n, bb), vars(bb+hb, t), vars(n+bb, hb+wb)),
		g: key.at(n+bb+hb+wb, vars(n, bb), vars(per, t), vars(n+bb, hb+wb))})
	s := of(n, source{summed, scores}, vars(0, n))
	// The greatest is attained.
	at := p.addProduct(product{name: "greatest", z: per, y: n, pairs: pairUp(0, 0, per), weight: chosen, slot: o.slots[attnArg],
		f: s.at(per+n, vars(per, n))})
	p.zeros = append(p.zeros, of(per, source{summed, at}, vars(0, per)).minus(p.vector(o.slots[attnTop], per, vars(0, per))))
	// Keys and exponentials, in (b, h, i, j).
	kc, ec := p.addColumn(opName(i, "key"), n), p.addColumn(opName(i, "exponential"), n)
	var only int
	if op.Kind == exact.FullAttention {
		live, _ := p.liveRows()
		only = p.addPublic(publicPoly{kind: livePoly, bits: n, slot: live, tail: t})
	} else {
		only = p.addPublic(publicPoly{kind: causalPoly, bits: 2 * t})
	}
	seenBits := p.publics[only].bits
	seen := of(n, source{public, only}, vars(n-seenBits, seenBits))
	r := p.constantRegion(k, layout{1, 1}, entries, spread)
	tk := [3]int{-1 - r, o.qbits, int(live)}
	tab, ok := p.pairs[tk]
	if !ok {
		tab = p.addTable(table{bits: o.qbits, live: int(live), region: r, last: int64(shape.last)})
		p.pairs[tk] = tab
	}
	p.lookups = append(p.lookups, lookup{bits: n, value: column(kc, n), second: column(ec, n), only: -1, table: tab, null: p.null,
		tag: constant(n, tag(p.null)).plus(seen.times(tag(tab) - tag(p.null)))})
	top := p.vector(o.slots[attnTop], n, vars(0, per))
	// |2^shift key + rem - (top - score)| < p.
	if live<<shift+2*score >= koala.P {
		return o, errNear
	}
	if err := p.rangeCheck(opName(i, "key remainder"), top.minus(s).minus(column(kc, n).times(1<<shift)), 1<<shift, 1<<shift, only); err != nil {
		return o, err
	}
	// Sums of exponentials.
	halves := make([]pick, t)
	for j := range halves {
		halves[j] = pickHalf
	}
	p.zeros = append(p.zeros, column(ec, n).at(per, vars(0, per), halves).times(1<<t).minus(p.vector(o.slots[attnWeight], per, vars(0, per))))
	// Weighted sums in (b, i, h, w).
	r0 := bb + t
	m := r0 + hb + wb
	sums := p.addProduct(product{name: "weighted", z: m, y: per, pairs: slices.Concat(pairUp(0, 0, bb), pairUp(r0, bb, hb)),
		f: column(ec, n).at(m+per, vars(m, bb+hb), vars(bb, t), vars(m+bb+hb, t)),
		g: v.at(m+per, vars(m, bb), vars(m+bb+hb, t), vars(m+bb, hb), vars(r0+hb, wb))})
	oc := p.addColumn(opName(i, "mean"), m)
	own := column(oc, m)
	o.columns, o.own, o.out = []int{kc, ec, oc}, l, p.relay(i, own, l, p.lay[i])
	pairs := slices.Concat(pairUp(0, 0, bb), pairUp(r0, bb, hb), pairUp(bb, bb+hb, t))
	back := p.addProduct(product{name: "divided", z: m, y: per, pairs: pairs, weight: scaled, slot: o.slots[attnWeight],
		f: own.at(m+per, vars(m, bb), vars(m+bb+hb, t), vars(m+bb, hb), vars(r0+hb, wb))})
	o.prods = []int{scores, at, sums, back}
	rem := of(m, source{summed, sums}, vars(0, m)).minus(of(m, source{summed, back}, vars(0, m)))
	z := p.vector(o.slots[attnWeight], m, vars(0, bb), vars(r0, hb), vars(bb, t))
	if err := p.rangeCheck(opName(i, "mean remainder"), rem, 1<<o.zbits, 1<<o.zbits, -1); err != nil {
		return o, err
	}
	if err := p.rangeCheck(opName(i, "mean divisor"), z.minus(constant(m, 1)).minus(rem), 1<<o.zbits, 1<<o.zbits, -1); err != nil {
		return o, err
	}
	// |mean weights + rem - sums| < p.
	limit := (koala.P-1-weights*abs(vr)-weights)/weights - vr.Lo
	return o, p.rangeCheck(opName(i, "mean"), own.minus(constant(m, vr.Lo)), vr.Hi-vr.Lo+1, limit, -1)
}

// Slots of ArgMax.
const (
	argIndex = iota // the column
	argValue        // its element
	argPlace        // derived: the column's index in the layout
	argSlots
)

// argMax: the column is sent in the clear, with its element, which is checked
// to be there. No element is greater, and none before it is equal.
func (p *plan) argMax(i int, op exact.Op, x form, xr exact.Range, in layout) (opPlan, error) {
	t, cb := p.rowBits(), in.bits()
	n := t + cb
	o := opPlan{}
	for s := range argSlots {
		o.slots = append(o.slots, p.addSlot(slot{name: opName(i, "row"), bits: t, sent: s != argPlace}))
	}
	at := p.addProduct(product{name: "greatest", z: t, y: n, pairs: pairUp(0, 0, t), weight: chosen, slot: o.slots[argPlace],
		f: x.at(t+n, vars(t, n))})
	p.zeros = append(p.zeros, of(t, source{summed, at}, vars(0, t)).minus(p.vector(o.slots[argValue], t, vars(0, t))))
	less := p.addPublic(publicPoly{kind: lessPoly, bits: n, slot: o.slots[argPlace]})
	mask := p.addPublic(publicPoly{kind: maskPoly, bits: cb, lay: in})
	gap := p.vector(o.slots[argValue], n, vars(0, t)).minus(of(n, source{public, less}, vars(0, n))).minus(x)
	o.out = p.vector(o.slots[argIndex], t, vars(0, t))
	o.prods = []int{at}
	span := xr.Hi - xr.Lo + 1
	return o, p.rangeCheck(opName(i, "gap"), gap, span, koala.P-1-span, mask)
}
