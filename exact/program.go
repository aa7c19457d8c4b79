package exact

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Limit is the exclusive bound on the magnitude of every element of every
// tensor, and of every sum inside an operation that says so: 2^30. It leaves
// the results provable in a 31-bit field (see package doc).
const Limit = 1 << 30

// Bounds on programs, so that reading one costs no more than its size.
const (
	MaxOps     = 1 << 12
	MaxConsts  = 1 << 12
	MaxRows    = 1 << 12 // positions of a sequence
	MaxCols    = 1 << 18 // columns of a value
	MaxEncoded = 1 << 28 // bytes of an encoded program
	MaxWidth   = 1 << 22 // columns of all values together
	MaxCache   = 1 << 26 // elements of keys and values of a full sequence
	MaxHeld    = 1 << 26 // elements of all values of a full sequence, where all its rows are needed at once
	MaxWork    = 1 << 40 // multiplications of weights and of attention in a full sequence
)

// Kind says what an operation does. The meaning of each is in the package doc
// and in docs/exact.md; Interpret is the definition in code.
type Kind uint8

// The operations. x and y are values, C a constant, p a parameter.
const (
	Input         Kind = 1 + iota // the caller's rows; p: columns, lowest, highest
	Position                      // the row's number, one column; p: how many rows there can be
	Gather                        // row x[0] of C
	Add                           // x + y
	Offset                        // x + C, C one row
	MatMul                        // x C, C [in][out]
	Requantise                    // round(x / 2^p0), saturated to p1 bits with sign
	Table                         // C[x - p0], C one row
	LayerNorm                     // centre and scale a row; C: inverse roots; p: epsilon, shift
	Attention                     // causal softmax attention of x (queries), y (keys), z (values); C: exponentials; p: heads, shift
	ArgMax                        // the lowest column that holds the row's maximum
	Arrange                       // column C[j] of x, or 0 where C[j] is -1; C one row
	BlockMatMul                   // each of p0 blocks of columns of x times C, C [columns of a block][out]
	BlockMax                      // the greatest element of each of p0 blocks of columns
	Multiply                      // x * y, element by element
	RMSNorm                       // LayerNorm without centring
	FullAttention                 // Attention to all rows of the sequence, also later ones
	MeanRows                      // the mean over all rows of the sequence
	Noise                         // Gumbel noise of the environment in p columns; C: 2^16 quantiles
	kinds
)

var signatures = [kinds]struct {
	name                string
	ins, consts, params int
}{
	Input:      {"input", 0, 0, 3},
	Position:   {"position", 0, 0, 1},
	Gather:     {"gather", 1, 1, 0},
	Add:        {"add", 2, 0, 0},
	Offset:     {"offset", 1, 1, 0},
	MatMul:     {"matmul", 1, 1, 0},
	Requantise: {"requantise", 1, 0, 2},
	Table:      {"table", 1, 1, 1},
	LayerNorm:  {"layernorm", 1, 1, 2},
	Attention:  {"attention", 3, 1, 2},
	ArgMax:     {"argmax", 1, 0, 0},

	Arrange:       {"arrange", 1, 1, 0},
	BlockMatMul:   {"blockmatmul", 1, 1, 1},
	BlockMax:      {"blockmax", 1, 0, 1},
	Multiply:      {"multiply", 2, 0, 0},
	RMSNorm:       {"rmsnorm", 1, 1, 2},
	FullAttention: {"fullattention", 3, 1, 2},
	MeanRows:      {"meanrows", 1, 0, 0},
	Noise:         {"noise", 0, 1, 1},
}

func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return signatures[k].name
}

// Value names the result of an operation: its index in Program.Ops.
type Value int

// Op is one operation.
type Op struct {
	Kind   Kind
	In     []Value // earlier operations
	Consts []int   // indices in Program.Consts
	Params []int64
}

// Const is a constant matrix, row-major. Elements are below Limit in
// magnitude.
type Const struct {
	Rows, Cols int
	Data       []int32
}

// Program is a list of operations, each using only earlier ones. It maps a
// sequence of up to Rows input rows to as many output rows. The meaning may
// depend on the run's environment too, if there is Noise.
type Program struct {
	Rows    int // most positions of a sequence
	Consts  []Const
	Ops     []Op
	Outputs []Value
}

// Range is an interval that holds every element of a value, whatever the
// input.
type Range struct{ Lo, Hi int64 }

func (r Range) max() int64 { return max(-r.Lo, r.Hi) }

// Facts is what can be said of a value without running the program.
type Facts struct {
	Cols  int
	Range Range
}

// Causal reports whether row t of every result depends on rows up to t alone,
// so that a sequence can be continued row by row. If not, whole sequences are
// run.
func (p *Program) Causal() bool {
	return !slices.ContainsFunc(p.Ops, func(op Op) bool { return op.Kind == FullAttention || op.Kind == MeanRows })
}

// LayerNorm's and RMSNorm's key: the sum of squares is brought to [normKeyLo, normKeyHi) by
// dividing by a power of four.
const (
	normKeyLo = 1 << 14
	normKeyHi = 1 << 16
)

// Check proves that the program is well formed and that no run of it, on any
// input within the declared ranges, can leave the bounds. It returns facts
// about every value. A program that does not pass must not be run.
func (p *Program) Check() ([]Facts, error) {
	if p.Rows < 1 || p.Rows > MaxRows {
		return nil, fmt.Errorf("exact: %d rows, want 1 to %d", p.Rows, MaxRows)
	}
	if len(p.Ops) == 0 || len(p.Ops) > MaxOps || len(p.Consts) > MaxConsts {
		return nil, errors.New("exact: no or too many operations or constants")
	}
	// Traits are found once for each constant, however many operations share
	// it, so that checking takes time proportional to the program's size.
	known := make([]traits, len(p.Consts))
	for i, c := range p.Consts {
		if c.Rows < 1 || c.Cols < 1 || c.Rows > MaxEncoded || c.Cols > MaxEncoded || int64(c.Rows)*int64(c.Cols) != int64(len(c.Data)) {
			return nil, fmt.Errorf("exact: constant %d: %d by %d with %d elements", i, c.Rows, c.Cols, len(c.Data))
		}
		for _, x := range c.Data {
			if x <= -Limit || x >= Limit {
				return nil, fmt.Errorf("exact: constant %d: element %d out of bounds", i, x)
			}
		}
		known[i] = traitsOf(c)
	}
	facts := make([]Facts, len(p.Ops))
	inputs := 0
	var width, cache, work int64
	for i, op := range p.Ops {
		f, err := p.infer(i, op, facts, known)
		if err == nil && (f.Cols < 1 || f.Cols > MaxCols) {
			err = fmt.Errorf("%d columns, want 1 to %d", f.Cols, MaxCols)
		}
		if err == nil && f.Range.Lo > f.Range.Hi {
			err = fmt.Errorf("empty range [%d, %d]", f.Range.Lo, f.Range.Hi)
		}
		if err == nil && f.Range.max() >= Limit {
			err = fmt.Errorf("result in [%d, %d] may reach 2^30: requantise what it reads to fewer bits%s", f.Range.Lo, f.Range.Hi, remedies[op.Kind])
		}
		if err != nil {
			return nil, fmt.Errorf("exact: operation %d (%s): %w", i, op.Kind, err)
		}
		facts[i] = f
		width += int64(f.Cols)
		switch op.Kind {
		case Input:
			inputs++
		case Attention, FullAttention:
			cache += 2 * int64(p.Rows) * int64(f.Cols)
		}
		work += int64(p.Rows) * int64(p.macs(op, facts))
		if width > MaxWidth || cache > MaxCache || work > MaxWork {
			return nil, fmt.Errorf("exact: %d columns, %d cached elements and %d multiplications up to operation %d, at most %d, %d and %d",
				width, cache, work, i, MaxWidth, MaxCache, int64(MaxWork))
		}
	}
	if !p.Causal() && int64(p.Rows)*width > MaxHeld {
		return nil, fmt.Errorf("exact: %d rows of %d columns are needed at once, at most %d elements: declare fewer rows", p.Rows, width, MaxHeld)
	}
	if inputs != 1 {
		return nil, fmt.Errorf("exact: %d inputs, want one", inputs)
	}
	if len(p.Outputs) == 0 || len(p.Outputs) > 16 {
		return nil, errors.New("exact: want 1 to 16 outputs")
	}
	for _, v := range p.Outputs {
		if v < 0 || int(v) >= len(p.Ops) {
			return nil, fmt.Errorf("exact: output %d does not exist", v)
		}
	}
	return facts, nil
}

// remedies say what else helps against a result that may leave the bounds.
var remedies = [kinds]string{
	MatMul:      ", or split it (exact/quantise does)",
	BlockMatMul: ", or split it (exact/quantise does)",
	Noise:       ": the table's entries must stay below 2^30/100",
}

// macs is how many multiplications a row of op takes in a full sequence.
func (p *Program) macs(op Op, facts []Facts) uint64 {
	switch op.Kind {
	case MatMul, BlockMatMul:
		// Every column is multiplied by a row of C.
		return uint64(facts[op.In[0]].Cols) * uint64(p.Consts[op.Consts[0]].Cols)
	case Attention, FullAttention:
		return 2 * uint64(facts[op.In[0]].Cols) * uint64(p.Rows)
	}
	return 0
}

// infer derives the facts of operation i, given those of all before it.
func (p *Program) infer(i int, op Op, facts []Facts, known []traits) (Facts, error) {
	none := Facts{}
	if op.Kind == 0 || op.Kind >= kinds {
		return none, errors.New("unknown kind")
	}
	sig := signatures[op.Kind]
	if len(op.In) != sig.ins || len(op.Consts) != sig.consts || len(op.Params) != sig.params {
		return none, errors.New("wrong number of operands")
	}
	for _, v := range op.In {
		if v < 0 || int(v) >= i {
			return none, fmt.Errorf("uses value %d before it exists", v)
		}
	}
	for _, c := range op.Consts {
		if c < 0 || c >= len(p.Consts) {
			return none, fmt.Errorf("uses constant %d, which does not exist", c)
		}
	}
	x := none
	if sig.ins > 0 {
		x = facts[op.In[0]]
	}
	var c Const
	var ct traits
	if sig.consts > 0 {
		c, ct = p.Consts[op.Consts[0]], known[op.Consts[0]]
	}
	switch op.Kind {
	case Input:
		if op.Params[0] < 1 || op.Params[0] > MaxCols {
			return none, fmt.Errorf("%d columns", op.Params[0])
		}
		lo, hi := op.Params[1], op.Params[2]
		if lo <= -Limit || hi >= Limit {
			return none, errors.New("range out of bounds")
		}
		return Facts{int(op.Params[0]), Range{lo, hi}}, nil

	case Position:
		if op.Params[0] != int64(p.Rows) {
			return none, errors.New("must count the program's rows")
		}
		return Facts{1, Range{0, int64(p.Rows) - 1}}, nil

	case Gather:
		if x.Cols != 1 || x.Range.Lo < 0 || x.Range.Hi >= int64(c.Rows) {
			return none, fmt.Errorf("index in [%d, %d] for %d rows", x.Range.Lo, x.Range.Hi, c.Rows)
		}
		return Facts{c.Cols, ct.all}, nil

	case Add:
		y := facts[op.In[1]]
		if x.Cols != y.Cols {
			return none, fmt.Errorf("%d and %d columns", x.Cols, y.Cols)
		}
		return Facts{x.Cols, Range{x.Range.Lo + y.Range.Lo, x.Range.Hi + y.Range.Hi}}, nil

	case Offset:
		if c.Rows != 1 || c.Cols != x.Cols {
			return none, fmt.Errorf("constant is %d by %d for %d columns", c.Rows, c.Cols, x.Cols)
		}
		return Facts{x.Cols, Range{x.Range.Lo + ct.all.Lo, x.Range.Hi + ct.all.Hi}}, nil

	case MatMul:
		if c.Rows != x.Cols {
			return none, fmt.Errorf("%d columns times %d rows", x.Cols, c.Rows)
		}
		// Any partial sum of a column is within max|x| times the column's
		// sum of magnitudes, in any order of addition.
		if ct.norm >= Limit {
			return none, heavy(ct.norm)
		}
		b := ct.norm * x.Range.max() // below 2^60
		return Facts{c.Cols, Range{-b, b}}, nil

	case Requantise:
		shift, bits := op.Params[0], op.Params[1]
		if shift < 0 || shift > 30 || bits < 2 || bits > 30 {
			return none, fmt.Errorf("shift %d, %d bits", shift, bits)
		}
		return Facts{x.Cols, Range{requantise(x.Range.Lo, shift, bits), requantise(x.Range.Hi, shift, bits)}}, nil

	case Table:
		lo := op.Params[0]
		if lo <= -Limit || lo >= Limit {
			return none, errors.New("start out of bounds")
		}
		if c.Rows != 1 || x.Range.Lo < lo || x.Range.Hi >= lo+int64(c.Cols) {
			return none, fmt.Errorf("key in [%d, %d], table covers [%d, %d): requantise the key, which saturates it, or extend the table", x.Range.Lo, x.Range.Hi, lo, lo+int64(c.Cols))
		}
		return Facts{x.Cols, ct.all}, nil

	case LayerNorm:
		// |x - mean| <= hi - lo + 1.
		return inferNorm(x, c, ct, x.Range.Hi-x.Range.Lo+1, op.Params[0], op.Params[1])

	case Attention, FullAttention:
		return p.inferAttention(x, facts[op.In[1]], facts[op.In[2]], c, ct, op.Params[0], op.Params[1])

	case ArgMax:
		return Facts{1, Range{0, int64(x.Cols) - 1}}, nil

	case Arrange:
		if c.Rows != 1 || ct.all.Lo < -1 || ct.all.Hi >= int64(x.Cols) {
			return none, fmt.Errorf("map of %d rows with entries in [%d, %d], want one row of columns 0 to %d, or -1 for zero", c.Rows, ct.all.Lo, ct.all.Hi, x.Cols-1)
		}
		r := x.Range
		switch {
		case ct.all.Hi < 0:
			r = Range{}
		case ct.all.Lo < 0:
			r = Range{min(r.Lo, 0), max(r.Hi, 0)}
		}
		return Facts{c.Cols, r}, nil

	case BlockMatMul:
		blocks, err := blocksOf(x.Cols, op.Params[0])
		if err != nil {
			return none, err
		}
		if c.Rows != x.Cols/blocks {
			return none, fmt.Errorf("blocks of %d columns times %d rows", x.Cols/blocks, c.Rows)
		}
		if ct.norm >= Limit {
			return none, heavy(ct.norm)
		}
		if c.Cols > MaxCols/blocks {
			return none, fmt.Errorf("%d blocks of %d columns, at most %d columns", blocks, c.Cols, MaxCols)
		}
		b := ct.norm * x.Range.max()
		return Facts{blocks * c.Cols, Range{-b, b}}, nil

	case BlockMax:
		blocks, err := blocksOf(x.Cols, op.Params[0])
		if err != nil {
			return none, err
		}
		return Facts{blocks, x.Range}, nil

	case Multiply:
		y := facts[op.In[1]]
		if x.Cols != y.Cols {
			return none, fmt.Errorf("%d and %d columns", x.Cols, y.Cols)
		}
		a, b, c, d := x.Range.Lo*y.Range.Lo, x.Range.Lo*y.Range.Hi, x.Range.Hi*y.Range.Lo, x.Range.Hi*y.Range.Hi
		return Facts{x.Cols, Range{min(a, b, c, d), max(a, b, c, d)}}, nil

	case RMSNorm:
		return inferNorm(x, c, ct, x.Range.max(), op.Params[0], op.Params[1])

	case MeanRows:
		if s := int64(p.Rows) * x.Range.max(); s >= Limit {
			return none, fmt.Errorf("sums over %d rows may reach %d: requantise what it reads to fewer bits, or declare fewer rows", p.Rows, s)
		}
		// A mean rounded to nearest stays within the values' range.
		return x, nil

	case Noise:
		if op.Params[0] < 1 || op.Params[0] > MaxCols {
			return none, fmt.Errorf("%d columns, want 1 to %d", op.Params[0], MaxCols)
		}
		if c.Rows != 1 || c.Cols != noiseQuantiles {
			return none, fmt.Errorf("table is %d by %d, want 1 by %d", c.Rows, c.Cols, noiseQuantiles)
		}
		const most = MaxTemperature / 1000
		return Facts{int(op.Params[0]), Range{min(0, most*ct.all.Lo), max(0, most*ct.all.Hi)}}, nil
	}
	return none, errors.New("unknown kind")
}

// heavy refuses a matrix by the greatest sum of magnitudes of its columns.
func heavy(norm int64) error {
	return fmt.Errorf("weights of a column add up to %d in magnitude, want less than 2^30: use fewer bits", norm)
}

func fits16(r Range) bool { return r.Lo >= math.MinInt16 && r.Hi <= math.MaxInt16 }

func rangeOf(v []int32) Range {
	r := Range{int64(v[0]), int64(v[0])}
	for _, x := range v {
		r.Lo, r.Hi = min(r.Lo, int64(x)), max(r.Hi, int64(x))
	}
	return r
}

// traits are what inference needs to know of a constant.
type traits struct {
	all     Range
	norm    int64 // greatest sum of magnitudes of a column
	falling bool  // one row that starts above zero, falls and stays non-negative
	// For a table of LayerNorm: the greatest (isqrt(key)+1) times the entry.
	rooted int64
}

func traitsOf(c Const) traits {
	t := traits{all: rangeOf(c.Data)}
	norms := make([]int64, c.Cols)
	for k := range c.Rows {
		for j, w := range c.Data[k*c.Cols : (k+1)*c.Cols] {
			norms[j] += int64(max(w, -w))
		}
	}
	t.norm = slices.Max(norms)
	if c.Rows == 1 {
		t.falling = c.Data[0] > 0 && t.all.Lo >= 0 && slices.IsSortedFunc(c.Data, func(a, b int32) int { return cmp.Compare(b, a) })
	}
	if c.Rows == 1 && c.Cols == normKeyHi-normKeyLo {
		root := int64(128) // isqrt(normKeyLo)
		for k, e := range c.Data {
			for (root+1)*(root+1) <= int64(k)+normKeyLo {
				root++
			}
			t.rooted = max(t.rooted, (root+1)*int64(e))
		}
	}
	return t
}

// blocksOf checks a number of blocks of columns.
func blocksOf(cols int, blocks int64) (int, error) {
	if blocks < 1 || blocks > int64(cols) || int64(cols)%blocks != 0 {
		return 0, fmt.Errorf("%d columns in %d blocks", cols, blocks)
	}
	return int(blocks), nil
}

// inferNorm derives the bound of LayerNorm and RMSNorm, of which most is the
// greatest magnitude that is squared.
func inferNorm(x Facts, c Const, ct traits, most, eps, shift int64) (Facts, error) {
	if c.Rows != 1 || c.Cols != normKeyHi-normKeyLo {
		return Facts{}, fmt.Errorf("table is %d by %d", c.Rows, c.Cols)
	}
	if eps < normKeyLo || eps >= 1<<40 || shift < 1 || shift > 30 {
		return Facts{}, fmt.Errorf("epsilon %d, shift %d", eps, shift)
	}
	if most >= 1<<23 || most*most > 1<<60/int64(x.Cols) {
		return Facts{}, fmt.Errorf("input in [%d, %d] is too wide to square in %d columns: requantise it to fewer bits", x.Range.Lo, x.Range.Hi, x.Cols)
	}
	sum := most*most*int64(x.Cols) + eps // below 2^61
	_, highest := normKey(sum)
	if ct.all.Lo < 0 {
		return Facts{}, errors.New("table has a negative entry")
	}
	// With y what is squared and m the key: |y| <= sqrt(S) < (isqrt(m)+1) 2^e,
	// and the factor is at most T[m]/2^e + 1/2. Their product is at most
	// (isqrt(m)+1) (T[m] + 2^e/2), where isqrt(m)+1 <= 256.
	b := ct.rooted + 256<<highest
	if b >= Limit {
		return Facts{}, fmt.Errorf("product may reach %d: requantise what it reads to fewer bits, or use a coarser table", b)
	}
	b = b>>shift + 1
	return Facts{x.Cols, Range{-b, b}}, nil
}

func (p *Program) inferAttention(q, k, v Facts, c Const, ct traits, heads, shift int64) (Facts, error) {
	if heads < 1 || q.Cols != k.Cols || q.Cols != v.Cols || int64(q.Cols)%heads != 0 {
		return Facts{}, fmt.Errorf("%d heads over %d, %d and %d columns", heads, q.Cols, k.Cols, v.Cols)
	}
	if c.Rows != 1 || shift < 0 || shift > 30 {
		return Facts{}, fmt.Errorf("table is %d by %d, shift %d", c.Rows, c.Cols, shift)
	}
	if !ct.falling {
		return Facts{}, errors.New("table must start above zero, fall and stay non-negative")
	}
	if c.Data[0] > math.MaxInt16 || !fits16(q.Range) || !fits16(k.Range) || !fits16(v.Range) {
		return Facts{}, errors.New("operands and table must fit 16 bits: requantise them")
	}
	width := int64(q.Cols) / heads
	// Differences of scores are keys, so scores have half the room.
	if s := q.Range.max() * k.Range.max(); s >= Limit || 2*s*width >= Limit {
		return Facts{}, fmt.Errorf("scores may reach %d, want below %d: requantise queries or keys to fewer bits", s*width, Limit/2)
	}
	weight := int64(c.Data[0]) * int64(p.Rows)
	if weight >= Limit || weight*v.Range.max() >= Limit {
		return Facts{}, fmt.Errorf("weighted sums over %d rows may reach %d: requantise values to fewer bits, or use a coarser table", p.Rows, weight*v.Range.max())
	}
	// A weighted mean rounded down stays within the values' range.
	return Facts{q.Cols, v.Range}, nil
}

// Const adds a constant, or finds an equal one, and returns its index.
func (p *Program) Const(rows, cols int, data []int32) int {
	for i, c := range p.Consts {
		if c.Rows == rows && c.Cols == cols && slices.Equal(c.Data, data) {
			return i
		}
	}
	p.Consts = append(p.Consts, Const{rows, cols, data})
	return len(p.Consts) - 1
}

// Op adds an operation and returns its result.
func (p *Program) Op(kind Kind, in []Value, consts []int, params ...int64) Value {
	p.Ops = append(p.Ops, Op{kind, in, consts, params})
	return Value(len(p.Ops) - 1)
}
