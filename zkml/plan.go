package zkml

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
)

// A plan is everything that is to be proven of one run: which values are
// committed, which are looked up where, which are sums of products, and what
// is zero. Prover and verifier make the same plan from the card, the number of
// rows and the modes in the proof's header.

// MaxSequences bounds how many runs one proof can be about.
const MaxSequences = 1 << 8

// Bounds of a plan, which bound the verifier's work and memory.
const (
	maxCells   = 1 << 26 // committed elements
	maxLookups = 1 << 26 // fractions
	maxRows    = 1 << 24 // numbers that the verifier evaluates itself
	maxTerms   = 256     // values in one sum
	maxClaims  = 1 << 14 // values of products
	maxValues  = 1 << 28 // elements of all values of a run
	directBits = 16      // ranges up to 2^16 are one table; others are split
)

// layout is how the columns of a value are spread over indices: column
// a*width+b, of groups*width, has index a<<bits(width) | b. Attention wants
// a group a head; what is between has zeros.
type layout struct{ groups, width int }

func (l layout) groupBits() int { return mle.Log(l.groups) }
func (l layout) widthBits() int { return mle.Log(l.width) }
func (l layout) bits() int      { return l.groupBits() + l.widthBits() }
func (l layout) cols() int      { return l.groups * l.width }
func (l layout) padded() bool   { return l.cols() < 1<<l.bits() }
func (l layout) index(j int) int {
	return j/l.width<<l.widthBits() | j%l.width
}

// dense reports whether column j has index j.
func (l layout) dense() bool { return l.groups == 1 || l.width&(l.width-1) == 0 }

// same reports whether two layouts of as many columns spread them alike.
func (l layout) same(m layout) bool { return l == m || l.dense() && m.dense() }

// mask is the polynomial that is 1 at indices of columns, at z.
func (l layout) mask(z []koala.Ext) koala.Ext {
	g := l.groupBits()
	return mle.Below(l.groups, z[:g]).Mul(mle.Below(l.width, z[g:]))
}

// region is a committed table of 2^bits elements at an offset.
type region struct {
	name string
	bits int
	at   int
	// Of the model: which constant, and how its rows and columns are spread.
	constant   int
	rows, cols layout
	fill       fill
}

// fill says what stands where a constant has no element.
type fill uint8

const (
	fillZero   fill = iota
	fillLast        // the last element
	fillHalves      // elements are twice as far apart: at i is (i+1)/2, and after all the last
)

// slot is a vector of integers that the verifier knows.
type slot struct {
	name string
	bits int
	sent bool // by the prover, in the proof
}

// lookup says that a value (or a pair) occurs in a table.
type lookup struct {
	bits   int
	value  form
	second form // of no terms if the table has single values
	tag    form // which table
	only   int  // a public polynomial of the last variables, 0 or 1: where to look; -1: everywhere
	table  int  // where honest values are
	null   int  // where honest values are if tag says so; or -1
	at     int
}

// table is what is looked up: entries lo, lo+1 ... of which the first live
// count, and beside each an element of a region, or after its end a constant.
type table struct {
	bits   int
	live   int
	lo     int64
	region int // of the model, or -1
	last   int64
	mark   bool // without region: beside the first entry is 1, beside others 0
	count  int  // of the witness: multiplicities
	at     int
}

// product is a polynomial in z with the values
//
//	sum over y of weight(z, y) f(z, y) g(z, y).
type product struct {
	name   string
	z, y   int
	pairs  []pair // weight has a factor eq(z_a, y_b) for each
	weight weight
	slot   int
	moved  *arrangement
	f      form // in z, y
	g      form // of a plain product; of no terms else
	level  int
}

// factors is how many values a claim about the product leaves to be claimed.
func (d product) factors() int {
	if len(d.g.terms) == 0 {
		return 1
	}
	return 2
}

type pair struct{ z, y int }

type weight uint8

const (
	plain    weight = iota
	scaled          // the paired y, in order, index a slot of factors
	gather          // sum over i of eq(z, i) [y = slot[i]]
	chosen          // y = (i, j): eq(z, i) [j = slot[i]]
	arranged        // z ends in i: sum over i of eq(z, i) [y = where i comes from]
)

// arrangement is a sparse 0/1 matrix that all know: where columns come from.
type arrangement struct {
	from, to layout
	source   []int32 // of each column, the column it comes from, or -1; nil: itself
}

// each calls f with the indices of all columns that come from somewhere.
func (a *arrangement) each(f func(to, from int)) {
	index := make([]int, a.from.cols())
	for j := range index {
		index[j] = a.from.index(j)
	}
	j := 0
	for g := range a.to.groups {
		at := g << a.to.widthBits()
		for i := range a.to.width {
			from := j
			if a.source != nil {
				from = int(a.source[j])
			}
			if from >= 0 {
				f(at+i, index[from])
			}
			j++
		}
	}
}

// relay is a product that only spreads a value's columns in another way.
type relay struct {
	product int
	value   int // the operation's
	to      layout
}

// limb is a committed column whose honest value is the form shifted right.
type limb struct {
	column int
	value  form
	shift  int
}

// rowTable says that slot `value` holds the elements of a region of the model
// at the indices in slot `key`.
type rowTable struct{ region, key, value int }

// opPlan is what an operation's steps need to know of each other.
type opPlan struct {
	out     form
	columns []int // of the witness
	slots   []int
	sat     bool
	shift   int // LayerNorm: bits of the low limb
	qbits   int
	zbits   int
	prods   []int
	in      layout // blocks: of the operand
	own     layout // heads and blocks: of the result, before it is spread as others want it
}

type plan struct {
	card    *Card
	b       int // 2^b sequences are proven,
	t       int // of 2^t rows each
	lay     []layout
	modes   []byte
	mode    int // next to be read
	model   []region
	witness []region
	slots   []slot
	publics []publicPoly
	prods   []product
	tables  []table
	lookups []lookup
	limbs   []limb
	zeros   []form // zero at a random point
	rowTabs []rowTable
	relays  []relay
	claims  []int // about each product, at most
	ops     []opPlan
	input   int   // slot
	outputs []int // slots
	asked   []int // slots: which rows of each output are claimed
	live    int   // slot: 1 for rows of input, 0 for rows that fill up; -1 if not needed
	counts  int   // slot: rows of input of each sequence; -1 if not needed
	null    int   // table
	ranges  []rangeLookup
	marks   map[int64]int
	pairs   map[[3]int]int

	modelColumns, witnessColumns, witnessAt, logColumns int
	fractions                                           int // log2
}

// layouts finds a layout for each value: element by element operations share
// theirs, attention wants heads, and blocks want to be groups.
func (c *Card) layouts() []layout {
	parent := make([]int, len(c.ops))
	for i := range parent {
		parent[i] = i
	}
	find := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	for i, op := range c.ops {
		switch op.Kind {
		case exact.Add, exact.Offset, exact.Requantise, exact.Table, exact.LayerNorm, exact.Attention,
			exact.Multiply, exact.RMSNorm, exact.FullAttention, exact.MeanRows:
			for _, v := range op.In {
				parent[find(int(v))] = find(i)
			}
		}
	}
	of := make([]layout, len(c.ops))
	// The first to want one gets it, heads before blocks; others relay.
	want := func(v exact.Value, l layout) {
		if r := find(int(v)); of[r].groups == 0 {
			of[r] = l
		}
	}
	for i, op := range c.ops {
		if op.Kind == exact.Attention || op.Kind == exact.FullAttention {
			want(exact.Value(i), layout{int(op.Params[0]), c.facts[i].Cols / int(op.Params[0])})
		}
	}
	for i, op := range c.ops {
		switch op.Kind {
		case exact.BlockMatMul:
			blocks := int(op.Params[0])
			want(op.In[0], layout{blocks, c.facts[op.In[0]].Cols / blocks})
			want(exact.Value(i), layout{blocks, c.facts[i].Cols / blocks})
		case exact.BlockMax:
			blocks := int(op.Params[0])
			want(op.In[0], layout{blocks, c.facts[op.In[0]].Cols / blocks})
		}
	}
	out := make([]layout, len(c.ops))
	for i := range c.ops {
		out[i] = of[find(i)]
		if out[i].groups == 0 || out[i].width&(out[i].width-1) == 0 {
			out[i] = layout{1, c.facts[i].Cols}
		}
	}
	return out
}

// newModelPlan lays out the constants only.
func newModelPlan(c *Card) (*plan, error) {
	return newPlan(c, 1, 1, nil)
}

// errMode is returned when a header's modes do not fit the card.
type errMode struct{ what string }

func (e errMode) Error() string { return "zkml: header: " + e.what }

// rowBits is the number of variables that number rows of all sequences.
func (p *plan) rowBits() int { return p.b + p.t }

// newPlan plans the proof of runs over a number of sequences of at most the
// given number of rows. Nil modes stand for the cheapest.
func newPlan(c *Card, sequences, rows int, modes []byte) (*plan, error) {
	if sequences < 1 || sequences > MaxSequences {
		return nil, fmt.Errorf("zkml: %d sequences, want 1 to %d", sequences, MaxSequences)
	}
	if rows < 1 || rows > c.rows {
		return nil, fmt.Errorf("zkml: %d rows of input, want 1 to %d", rows, c.rows)
	}
	lay := c.layouts()
	p := &plan{card: c, b: mle.Log(sequences), t: mle.Log(rows), lay: lay, modes: modes, live: -1, counts: -1, marks: map[int64]int{}, pairs: map[[3]int]int{}}
	values := int64(0)
	for _, l := range lay {
		if values += 1 << (p.rowBits() + l.bits()); values > maxValues {
			return nil, fmt.Errorf("zkml: more than %d elements in the run: prove fewer rows at once", maxValues)
		}
	}
	p.null = p.addTable(table{bits: 0, live: 1, region: -1})
	for i, op := range c.ops {
		if err := p.operation(i, op); err != nil {
			return nil, fmt.Errorf("zkml: operation %d (%s): %w", i, op.Kind, err)
		}
		if len(p.ops[i].out.terms) > maxTerms {
			return nil, fmt.Errorf("zkml: operation %d (%s): sum of more than %d values", i, op.Kind, maxTerms)
		}
	}
	if modes != nil && p.mode != len(modes) {
		return nil, errMode{"too many modes"}
	}
	for k, v := range c.outs {
		// The claimed integers within bounds must differ modulo p.
		if r := c.facts[v].Range; r.Hi-r.Lo >= koala.P {
			return nil, fmt.Errorf("zkml: output %d: in [%d, %d], too near the limit to be proven: requantise it", k, r.Lo, r.Hi)
		}
		l := p.lay[v]
		s := p.addSlot(slot{name: fmt.Sprintf("output %d", k), bits: p.rowBits() + l.bits()})
		ask := p.addSlot(slot{name: fmt.Sprintf("asked %d", k), bits: p.rowBits()})
		t := p.rowBits()
		n := t + l.bits()
		sum := p.addProduct(product{name: "output", z: n, y: t, pairs: pairUp(0, 0, t), weight: scaled, slot: ask,
			f: p.ops[v].out.at(n+t, vars(n, t), vars(t, l.bits()))})
		p.zeros = append(p.zeros, of(n, source{summed, sum}, vars(0, n)).minus(p.vector(s, n, vars(0, n))))
		p.outputs, p.asked = append(p.outputs, s), append(p.asked, ask)
	}
	p.shareRanges()
	if err := p.countClaims(); err != nil {
		return nil, err
	}
	return p, p.place()
}

func pairUp(z, y, n int) []pair {
	out := make([]pair, n)
	for i := range out {
		out[i] = pair{z + i, y + i}
	}
	return out
}

func (p *plan) nextMode(most byte) (byte, error) {
	p.mode++
	if p.modes == nil {
		return 0, nil
	}
	if p.mode > len(p.modes) {
		return 0, errMode{"too few modes"}
	}
	m := p.modes[p.mode-1]
	if m > most {
		return 0, errMode{"mode out of range"}
	}
	return m, nil
}

// liveRows returns the slots that tell rows of input from those that fill up:
// 1 or 0 for each row, and how many there are of each sequence.
func (p *plan) liveRows() (live, counts int) {
	if p.live < 0 {
		p.live = p.addSlot(slot{name: "live", bits: p.rowBits()})
		p.counts = p.addSlot(slot{name: "counts", bits: p.b})
	}
	return p.live, p.counts
}

// mostRows is the most rows of input that a sequence can have.
func (p *plan) mostRows() int64 { return int64(min(1<<p.t, p.card.rows)) }

// arrange returns a form whose columns come from those of another.
func (p *plan) arrange(x form, a *arrangement) (form, int) {
	t, y := p.rowBits(), a.from.bits()
	n := t + a.to.bits()
	sum := p.addProduct(product{name: "arrange", z: n, y: y, weight: arranged, moved: a, f: x.at(n+y, vars(0, t), vars(n, y))})
	return of(n, source{summed, sum}, vars(0, n)), sum
}

// relay returns value v, whose form is x, spread in another way.
func (p *plan) relay(v int, x form, from, to layout) form {
	if from.same(to) {
		return x
	}
	f, sum := p.arrange(x, &arrangement{from: from, to: to})
	p.relays = append(p.relays, relay{sum, v, to})
	return f
}

func (p *plan) addSlot(s slot) int { p.slots = append(p.slots, s); return len(p.slots) - 1 }

func (p *plan) addProduct(d product) int { p.prods = append(p.prods, d); return len(p.prods) - 1 }

func (p *plan) addPublic(d publicPoly) int {
	p.publics = append(p.publics, d)
	return len(p.publics) - 1
}

func (p *plan) addTable(t table) int {
	t.count = p.addColumn(fmt.Sprintf("count %d", len(p.tables)), t.bits)
	p.tables = append(p.tables, t)
	return len(p.tables) - 1
}

func (p *plan) addColumn(name string, bits int) int {
	p.witness = append(p.witness, region{name: name, bits: bits})
	return len(p.witness) - 1
}

// column is the form of a committed column in all n variables.
func column(id, n int) form { return of(n, source{witness, id}, vars(0, n)) }

// vector is the form of a slot.
func (p *plan) vector(s, n int, picks ...[]pick) form {
	return of(n, source{public, p.addPublic(publicPoly{kind: vectorPoly, slot: s, bits: p.slots[s].bits})}, picks...)
}

// constantRegion returns the region of a constant spread in the given way.
func (p *plan) constantRegion(k int, rows, cols layout, f fill) int {
	want := region{constant: k, rows: rows, cols: cols, fill: f, bits: rows.bits() + cols.bits()}
	for i, r := range p.model {
		if r.constant == k && r.rows == rows && r.cols == cols && r.fill == f {
			return i
		}
	}
	want.name = fmt.Sprintf("constant %d", k)
	p.model = append(p.model, want)
	return len(p.model) - 1
}

// tag is what tells tables apart: 0 is of entries that do not count.
func tag(t int) int64 { return int64(t) + 1 }

// rangeCheck looks up the form's values in [0, n), or in a somewhat larger
// range that ends by limit. Where only is not -1 it does so only where that
// public polynomial is 1.
func (p *plan) rangeCheck(name string, f form, n, limit int64, only int) error {
	return p.rangeMark(name, f, form{}, n, limit, only)
}

// rangeMark is rangeCheck that also looks up a mark: it is 0, or 1 where the
// value is 0. With a table of the entries -1, beside which is 1, and 0, 1 ...
// n-1, beside which is 0, the pair (value - mark, mark) is in the table just
// then. A mark without terms stands for none.
func (p *plan) rangeMark(name string, f, mark form, n, limit int64, only int) error {
	if n < 1 || n > limit {
		return fmt.Errorf("%s: too near the limit to be proven", name)
	}
	marked := len(mark.terms) > 0
	up := int64(1) << bits.Len64(uint64(n-1))
	if marked {
		up = 1<<bits.Len64(uint64(n)) - 1 // the entry -1 makes it a power of two
	}
	if up <= limit {
		n = up
	}
	if n > 1<<directBits {
		l := (bits.Len64(uint64(n-1)) + 1) / 2
		hi := (n + 1<<l - 1) >> l
		if hi<<l > limit {
			return fmt.Errorf("%s: too near the limit to be proven", name)
		}
		c := p.addColumn(name+" high", f.n)
		p.limbs = append(p.limbs, limb{c, f, l})
		h := column(c, f.n)
		if err := p.rangeMark(name, h, mark, hi, hi, only); err != nil {
			return err
		}
		return p.rangeMark(name, f.minus(h.times(1<<l)), mark, 1<<l, 1<<l, only)
	}
	if marked {
		t, ok := p.marks[n]
		if !ok {
			t = p.addTable(table{bits: mle.Log(int(n + 1)), live: int(n + 1), lo: -1, region: -1, mark: true})
			p.marks[n] = t
		}
		p.lookups = append(p.lookups, lookup{bits: f.n, value: f.minus(mark), second: mark, tag: constant(f.n, tag(t)), only: only, table: t, null: -1})
		return nil
	}
	p.ranges = append(p.ranges, rangeLookup{len(p.lookups), n, min(limit, 1<<mle.Log(int(n)))})
	p.lookups = append(p.lookups, lookup{bits: f.n, value: f, only: only, null: -1})
	return nil
}

// rangeLookup is a lookup in a table of between n and limit entries.
type rangeLookup struct {
	lookup   int
	n, limit int64
}

// shareRanges gives range checks as few tables as their limits allow: those of
// the layers of a network often differ by little.
func (p *plan) shareRanges() {
	// The table that ends where the first limit is serves all that it can.
	order := slices.Clone(p.ranges)
	slices.SortStableFunc(order, func(a, b rangeLookup) int { return int(a.limit - b.limit) })
	for len(order) > 0 {
		size := order[0].limit
		t := p.addTable(table{bits: mle.Log(int(size)), live: int(size), region: -1})
		order = slices.DeleteFunc(order, func(r rangeLookup) bool {
			if r.n > size || mle.Log(int(r.n)) < mle.Log(int(size)) {
				return false
			}
			l := &p.lookups[r.lookup]
			l.table, l.tag = t, constant(l.bits, tag(t))
			return true
		})
	}
}

func (p *plan) place() error {
	// References between products: those that need others come first.
	for i := len(p.prods) - 1; i >= 0; i-- {
		for _, f := range []form{p.prods[i].f, p.prods[i].g} {
			for _, t := range f.terms {
				if t.src.kind == summed {
					p.prods[t.src.id].level = max(p.prods[t.src.id].level, p.prods[i].level+1)
				}
			}
		}
	}
	height := p.card.height
	pack := func(rs []region) (columns, widest int, err error) {
		order := make([]int, len(rs))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return rs[b].bits - rs[a].bits })
		at := 0
		for _, i := range order {
			rs[i].at = at
			at += 1 << rs[i].bits
			if rs[i].bits > 26 || at > maxCells {
				return 0, 0, fmt.Errorf("zkml: more than %d elements to commit", maxCells)
			}
			widest = max(widest, rs[i].bits)
		}
		return (at + 1<<height - 1) >> height, widest, nil
	}
	var err error
	var widest int
	if p.modelColumns, _, err = pack(p.model); err != nil {
		return err
	}
	if p.witnessColumns, widest, err = pack(p.witness); err != nil {
		return err
	}
	p.modelColumns = max(1, p.modelColumns) // a program may have no constants
	total := 0
	for _, s := range p.slots {
		if total += 1 << min(s.bits, 25); total > maxRows {
			return fmt.Errorf("zkml: more than %d numbers in the clear", maxRows)
		}
	}
	align := 1
	if widest > height {
		align = 1 << (widest - height)
	}
	p.witnessAt = (p.modelColumns + align - 1) / align * align
	p.logColumns = mle.Log(p.witnessAt + p.witnessColumns)

	// Fractions, the longest first.
	type piece struct {
		bits int
		at   *int
	}
	var all []piece
	for i := range p.lookups {
		all = append(all, piece{p.lookups[i].bits, &p.lookups[i].at})
	}
	for i := range p.tables {
		all = append(all, piece{p.tables[i].bits, &p.tables[i].at})
	}
	slices.SortStableFunc(all, func(a, b piece) int { return b.bits - a.bits })
	at := 0
	for _, a := range all {
		*a.at = at
		at += 1 << a.bits
		if a.bits > 26 || at > maxLookups {
			return fmt.Errorf("zkml: more than %d lookups", maxLookups)
		}
	}
	p.fractions = mle.Log(at)
	return nil
}

// countClaims counts, for each product, the points at which its value is
// claimed at most: one for each term that it is in, of a lookup or a zero, or
// of a product for each claim about that. A product of products of the same
// values can double them at every step.
func (p *plan) countClaims() error {
	p.claims = make([]int, len(p.prods))
	total := 0
	count := func(times int, f form) {
		for _, t := range f.terms {
			if t.src.kind == summed {
				p.claims[t.src.id] += times
				total += times
			}
		}
	}
	for _, l := range p.lookups {
		count(1, l.value.plus(l.second).plus(l.tag))
	}
	for _, f := range p.zeros {
		count(1, f)
	}
	// Products refer to products before them only.
	for i := len(p.prods) - 1; i >= 0; i-- {
		f, n := p.prods[i].f, p.claims[i]
		if g := p.prods[i].g; len(g.terms) > 0 {
			f = f.plus(g)
		}
		if count(n, f); total > maxClaims {
			return fmt.Errorf("zkml: more than %d claims about products of products: round between them", maxClaims)
		}
	}
	return nil
}

// base is the index of a region in the whole committed polynomial.
func (p *plan) base(s source) (at, bits int) {
	if s.kind == model {
		return p.model[s.id].at, p.model[s.id].bits
	}
	return p.witnessAt<<p.card.height + p.witness[s.id].at, p.witness[s.id].bits
}

// publicPoly is a polynomial that the verifier evaluates itself.
type publicPoly struct {
	kind publicKind
	bits int
	slot int    // vectorPoly, lessPoly, outerPoly, livePoly
	lay  layout // maskPoly, outerPoly
	tail int    // livePoly
}

type publicKind uint8

const (
	vectorPoly publicKind = iota // a slot
	maskPoly                     // 1 at the indices of columns
	causalPoly                   // (i, j): 1 if j <= i
	lessPoly                     // (i, j): 1 if j < slot[i]
	outerPoly                    // (i, j): slot[i] if j is the index of a column
	livePoly                     // (b, i, j): slot[b, j], j having tail variables
)

func (d publicPoly) eval(v *vectors, z []koala.Ext) koala.Ext {
	switch d.kind {
	case vectorPoly:
		return v.at(d.slot, z)
	case maskPoly:
		return d.lay.mask(z)
	case outerPoly:
		t := d.bits - d.lay.bits()
		return v.at(d.slot, z[:t]).Mul(d.lay.mask(z[t:]))
	case causalPoly:
		return mle.NotAfter(z[:d.bits/2], z[d.bits/2:])
	case livePoly:
		b := mle.Log(len(v.ints[d.slot])) - d.tail
		return v.at(d.slot, append(append([]koala.Ext(nil), z[:b]...), z[d.bits-d.tail:]...))
	default:
		s := v.ints[d.slot]
		n := mle.Log(len(s))
		eq := v.eq(z[:n])
		var sum koala.Ext
		for i, a := range s {
			sum = sum.Add(eq.At(i).Mul(mle.Below(int(a), z[n:])))
		}
		return sum
	}
}

// table returns the values, for the prover.
func (d publicPoly) table(v *vectors) []koala.Elem {
	if d.kind == vectorPoly {
		return v.elems(d.slot)
	}
	out := make([]koala.Elem, 1<<d.bits)
	switch d.kind {
	case maskPoly:
		for j := range d.lay.cols() {
			out[d.lay.index(j)] = koala.One
		}
	case outerPoly:
		for i, x := range v.elems(d.slot) {
			for j := range d.lay.cols() {
				out[i<<d.lay.bits()|d.lay.index(j)] = x
			}
		}
	case causalPoly:
		n := 1 << (d.bits / 2)
		for i := range n {
			for j := range i + 1 {
				out[i*n+j] = koala.One
			}
		}
	case livePoly:
		s := v.elems(d.slot)
		each := len(out) / (len(s) >> d.tail) // of a sequence
		for i := range out {
			out[i] = s[i/each<<d.tail|i&(1<<d.tail-1)]
		}
	case lessPoly:
		s := v.ints[d.slot]
		n := len(out) / len(s)
		for i, a := range s {
			for j := range min(int(a), n) {
				out[i*n+j] = koala.One
			}
		}
	}
	return out
}

// vectors are the values of a plan's slots: integers in (-p/2, p/2).
type vectors struct {
	ints [][]int64
	mont [][]koala.Elem
	eqs  []eqTable // seen last, in a ring
	last int
	room *koala.Room // for the prover's tables; may be nil
}

// eqTable is the table of eq(z, .).
type eqTable struct {
	z     []koala.Ext
	table koala.Vec
}

func newVectors(p *plan) *vectors {
	return &vectors{ints: make([][]int64, len(p.slots)), mont: make([][]koala.Elem, len(p.slots))}
}

// eq returns the table of eq(z, .), which must not be changed. Many vectors are
// evaluated at few points, of which it remembers some.
func (v *vectors) eq(z []koala.Ext) koala.Vec {
	const most, large = 32, 10
	if len(z) > large {
		return mle.Eq(z, koala.ExtOne)
	}
	for _, e := range v.eqs {
		if slices.Equal(e.z, z) {
			return e.table
		}
	}
	e := eqTable{z, mle.Eq(z, koala.ExtOne)}
	if len(v.eqs) < most {
		v.eqs = append(v.eqs, e)
	} else {
		v.eqs[v.last%most] = e
	}
	v.last++
	return e.table
}

// at returns the value at z of the polynomial of a slot. It is faster where many
// rows are zero, as those of outputs that are not claimed are.
func (v *vectors) at(slot int, z []koala.Ext) koala.Ext {
	table := v.elems(slot)
	if len(z) < 10 {
		return koala.DotElems(v.eq(z), table)
	}
	k := len(z) / 2
	rows, cols := v.eq(z[:k]), v.eq(z[k:])
	n := cols.Len()
	var s koala.Ext
	for i := range rows.Len() {
		row := table[i*n : (i+1)*n]
		for _, x := range row {
			if x != 0 {
				s = s.Add(rows.At(i).Mul(koala.DotElems(cols, row)))
				break
			}
		}
	}
	return s
}

func (v *vectors) set(slot int, x []int64) {
	v.ints[slot], v.mont[slot] = x, nil
}

func (v *vectors) elems(slot int) []koala.Elem {
	if v.mont[slot] == nil {
		e := make([]koala.Elem, len(v.ints[slot]))
		for i, x := range v.ints[slot] {
			e[i] = koala.FromInt(x)
		}
		v.mont[slot] = e
	}
	return v.mont[slot]
}
