package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// value is a value of the exact program: element x stands for x/2^frac.
type value struct {
	v       exact.Value
	cols    int
	frac    int
	lo, hi  int64 // bounds of the elements, within which exact.Check proves them
	floored bool  // rounded down, so half a unit too small on average
}

// max is the greatest magnitude of an element.
func (x *value) max() int64 { return max(-x.lo, x.hi) }

// within reports whether the elements fit the bits with sign.
func (x *value) within(bits int) bool { return x.lo >= -1<<(bits-1) && x.hi < 1<<(bits-1) }

// atom is what wires are functions of, element by element. It is a value, or
// a matrix product that is not emitted yet, so that what follows can be folded
// into its weights; or scores or weights of attention, which are never values.
type atom struct {
	cols    int
	uniform bool    // all rows are alike
	peak    float64 // expected greatest magnitude
	val     *value
	gain    []float64 // of val's columns, or nil
	bias    []float64
	lin     *linear
	scores  *scores
	made    []made
}

// made is a value in an atom's layout that was emitted for it.
type made struct {
	f    *function
	frac int
	val  *value
}

// linear is blocks of columns of in, each times w, [k][n], plus bias.
type linear struct {
	in     *value
	blocks int
	k, n   int
	w      []float64
	bias   []float64
}

// scores are products of queries and keys; soft after the softmax.
type scores struct {
	q, k   *wire
	heads  int
	causal bool
	soft   bool
}

// function is what a wire does to each element of its atom: a x + b, or g. A
// nil function does nothing.
type function struct {
	a, b float64
	g    quantise.Function
}

func (f *function) at(x float64) float64 {
	switch {
	case f == nil:
		return x
	case f.g != nil:
		return f.g(x)
	}
	return float64(f.a*x) + f.b
}

// affine returns the factor and addend, if that is all the function is.
func (f *function) affine() (a, b float64, ok bool) {
	if f == nil {
		return 1, 0, true
	}
	return f.a, f.b, f.g == nil
}

// then is f followed by a factor and an addend.
func (f *function) then(a, b float64) *function {
	if a == 1 && b == 0 {
		return f
	}
	if fa, fb, ok := f.affine(); ok {
		return &function{a: fa * a, b: float64(fb*a) + b}
	}
	return &function{g: func(x float64) float64 { return float64(f.g(x)*a) + b }}
}

// wire is a tensor of the network that depends on the input: which elements
// of which atom, and a function of them. Every row of the tensor is made of
// the same columns of the atom.
type wire struct {
	dims []int
	axis int // the dimension that rows lie along; -1 if the tensor lies within one row
	row  int // that row
	at   *atom
	// cols are the atom's columns that the elements of a row are, in the
	// tensor's order; -1 is zero.
	cols []int32
	f    *function
}

// columns are 0 to n-1.
func columns(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

func isColumns(c []int32, n int) bool {
	if len(c) != n {
		return false
	}
	for i, k := range c {
		if int(k) != i {
			return false
		}
	}
	return true
}

// perRow is how many elements of the tensor lie in a row.
func (w *wire) perRow() int {
	n := count(w.dims)
	if w.axis >= 0 {
		n /= w.dims[w.axis]
	}
	return n
}

// codes are row and column of every element, as one number each.
func (w *wire) codes() []int {
	width := w.at.cols + 1
	out := make([]int, count(w.dims))
	if w.axis < 0 {
		for i, c := range w.cols {
			out[i] = w.row*width + int(c) + 1
		}
		return out
	}
	rows, inner := w.dims[w.axis], count(w.dims[w.axis+1:])
	for i := range out {
		within := i/(rows*inner)*inner + i%inner
		out[i] = i/inner%rows*width + int(w.cols[within]) + 1
	}
	return out
}

// rewired is a wire to the same atom with other elements: codes of those of w
// at from, or zero.
func (w *wire) rewired(dims []int, from []int, codes []int, rows int) (*wire, error) {
	out := &wire{dims: dims, axis: -1, at: w.at, f: w.f}
	width := w.at.cols + 1
	at := make([]int, len(from)) // codes; -1 for zero
	first, several := -1, false
	for i, k := range from {
		if at[i] = -1; k < 0 {
			continue
		}
		at[i] = codes[k]
		if r := at[i] / width; first < 0 {
			first = r
		} else {
			several = several || r != first
		}
	}
	out.row = max(0, first)
	if !several {
		out.cols = make([]int32, len(at))
		for i, c := range at {
			if out.cols[i] = -1; c >= 0 {
				out.cols[i] = int32(c%width - 1)
			}
		}
		return out, nil
	}
	// The dimension along which the row is the index.
	for a, d := range dims {
		if d != rows {
			continue
		}
		inner := count(dims[a+1:])
		cols := make([]int32, len(at)/d)
		ok := true
		for i, c := range at {
			within := i/(d*inner)*inner + i%inner
			r, col := i/inner%d, int32(-1)
			if c >= 0 {
				ok = ok && c/width == r
				col = int32(c%width - 1)
			}
			if r == 0 {
				cols[within] = col
			}
			// Zeros and columns must be the same in every row.
			if ok = ok && cols[within] == col; !ok {
				break
			}
		}
		if ok {
			out.axis, out.row, out.cols = a, 0, cols
			return out, nil
		}
	}
	return nil, fmt.Errorf("it moves elements from row to row, or different ones in different rows: rows are positions of the sequence (or samples) and only attention and means may join them")
}

// lower turns a network into an exact program.
type lower struct {
	net    *Net
	prog   *exact.Program
	rows   int // of the trace
	static map[string]*Tensor
	dims   map[string][]int
	wires  map[string]*wire
	peaks  map[string]float64
	group  map[string]int // fractional bits of what is added to each other
	notes  []string
	input  exact.Value
	// Position, once there is need of it.
	position exact.Value
	hasPos   bool
}

// Widths of values.
const (
	weightBits = quantise.WeightBits
	actBits    = 16 // what products and tables give, at most
	scaleBits  = 18 // what is multiplied by factors of columns, at most
	sumBits    = 20 // what is added to each other
	normFrac   = 10 // fractional bits after LayerNorm
	queryBits  = 13
	keyBits    = 12
	valueBits  = 14 // or fewer, where there are many rows
	lookupBits = 14 // key of a table
	keyFrac    = 10 // fractional bits of a key into the table of exponentials
	expScale   = 11 // that table starts at 2^11
	outBits    = 20 // what the network's results have
	maxFrac    = 16
)

func (l *lower) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(l.notes, s) {
		l.notes = append(l.notes, s)
	}
}

// fracFor is the most fractional bits at which values up to the peak, with a
// quarter to spare, fit the bits with sign.
func fracFor(peak float64, bits, most int) int {
	peak = max(peak, 1e-9)
	f := most
	for f > -30 && math.Ldexp(peak*1.25, f) >= float64(int64(1)<<(bits-1)-1) {
		f--
	}
	return f
}

// bitsFor is how many bits values up to the peak take, with a quarter to spare
// and a sign.
func bitsFor(peak float64, frac int) int {
	b := 2
	for b < 29 && math.Ldexp(peak*1.25, frac) >= float64(int64(1)<<(b-1)-1) {
		b++
	}
	return b
}

func (l *lower) op(k exact.Kind, in *value, consts []int, params ...int64) exact.Value {
	return l.prog.Op(k, []exact.Value{in.v}, consts, params...)
}

// arranged is a value with its columns in another order.
func (l *lower) arranged(x *value, cols []int32) *value {
	if isColumns(cols, x.cols) {
		return x
	}
	y := *x
	y.v = quantise.Arrange(l.prog, x.v, x.cols, cols)
	y.cols = len(cols)
	if slices.Contains(cols, -1) {
		y.lo, y.hi = min(0, y.lo), max(0, y.hi)
	}
	return &y
}

// requantised brings a value to frac fractional bits, saturated to bits, if it
// is not within them.
func (l *lower) requantised(x *value, frac, bits int) (*value, error) {
	if x.frac == frac && x.within(bits) {
		return x, nil
	}
	shift := x.frac - frac
	if shift < 0 || shift > 30 {
		if shift < 0 && shift > -29 && x.max() <= 1<<29>>-shift {
			return l.scaled(x, slices.Repeat([]float64{1}, x.cols), nil, frac, bits)
		}
		return nil, fmt.Errorf("a value with %d fractional bits is needed with %d", x.frac, frac)
	}
	y := &value{cols: x.cols, frac: frac, floored: x.floored && shift == 0}
	y.v = l.op(exact.Requantise, x, nil, int64(shift), int64(bits))
	round := func(e int64) int64 {
		if shift > 0 {
			e = (e + 1<<(shift-1)) >> shift
		}
		return max(-1<<(bits-1), min(1<<(bits-1)-1, e))
	}
	y.lo, y.hi = round(x.lo), round(x.hi)
	return y, nil
}

// scaled multiplies each column by a factor and adds to it.
func (l *lower) scaled(x *value, gain, bias []float64, frac, bits int) (*value, error) {
	if x.cols > exact.MaxCols {
		return nil, fmt.Errorf("%d columns, at most %d", x.cols, exact.MaxCols)
	}
	peak, most := 0.0, 0.0
	for _, g := range gain {
		peak = max(peak, math.Abs(g))
	}
	for _, b := range bias {
		most = max(most, math.Abs(b))
	}
	fits := func(g int) bool { // fractional bits of the factors
		return math.Ldexp(peak, g)+1 < 1<<16 && (math.Ldexp(peak, g)+1)*float64(x.max())+math.Ldexp(most, x.frac+g) < 0.98*exact.Limit
	}
	g := frac - x.frac
	if !fits(g) {
		for ; g > -30 && !fits(g); g-- {
		}
		frac = x.frac + g
	}
	for g < 20 && fits(g+1) && x.frac+g-frac < 30 && math.Ldexp(peak, g) < 1<<(weightBits-1) {
		g++
	}
	factors := make([]int32, len(gain))
	for i, v := range gain {
		factors[i] = int32(math.Floor(math.Ldexp(v, g) + 0.5))
	}
	c := quantise.Constant(l.prog, x.v, factors)
	y := &value{v: l.prog.Op(exact.Multiply, []exact.Value{x.v, c}, nil), cols: x.cols, frac: x.frac + g}
	y.hi = int64((math.Ldexp(peak, g)+1)*float64(x.max())) + 1
	if bias != nil {
		addends := make([]int32, len(bias))
		for i, v := range bias {
			addends[i] = int32(math.Floor(math.Ldexp(v, y.frac) + 0.5))
		}
		y.v = l.op(exact.Offset, y, []int{l.prog.Const(1, len(addends), addends)})
		y.hi += int64(math.Ldexp(most, y.frac)) + 1
	}
	y.lo = -y.hi
	return l.requantised(y, frac, bits)
}

// want says how a value is needed: with exactly frac fractional bits, or as
// many as fit the bits.
type want struct {
	frac    int
	bits    int
	exactly bool
}

// own emits the values of a wire in its atom's layout, and returns where in it
// the elements are. If only some columns of a product are wanted, it makes
// just those.
func (l *lower) own(w *wire, need want) (*value, []int32, error) {
	peak := l.peakOf(w)
	frac := need.frac
	if !need.exactly {
		frac = fracFor(peak, need.bits, min(need.frac, maxFrac))
	}
	bits := min(need.bits, bitsFor(peak, frac))
	if need.exactly {
		bits = max(2, min(29, bitsFor(peak, frac)))
	}
	at := w.at
	if at.scores != nil {
		return nil, nil, fmt.Errorf("scores of attention are used other than by a softmax and a product with values")
	}
	for _, m := range at.made {
		if m.f == w.f && (m.frac == frac || !need.exactly && m.frac <= frac && m.frac >= frac-2) && m.val.within(need.bits) {
			return m.val, w.cols, nil
		}
	}
	cols := w.cols
	a, b, affine := w.f.affine()
	chosen := at
	if at.lin != nil && at.lin.blocks == 1 && !isColumns(w.cols, at.cols) && !slices.Contains(w.cols, -1) {
		chosen = &atom{cols: len(w.cols), uniform: at.uniform, peak: at.peak, lin: at.lin.chosen(w.cols)}
		cols = columns(len(w.cols))
	}
	var v *value
	var err error
	switch {
	case !affine:
		key, _, err := l.own(&wire{dims: []int{chosen.cols}, axis: -1, at: chosen, cols: columns(chosen.cols)}, want{maxFrac, lookupBits, false})
		if err != nil {
			return nil, nil, err
		}
		if v, err = l.table(key, w.f, frac, bits, need.exactly); err != nil {
			return nil, nil, err
		}
	case chosen.lin != nil:
		v, err = l.product(chosen.lin, a, b, frac, bits, need.exactly)
	case chosen.gain == nil && b == 0 && a > 0 && isPower(a):
		x := *chosen.val
		x.frac -= exponent(a)
		if !need.exactly && x.within(need.bits) && x.frac <= frac+8 {
			v = &x // as it is
			break
		}
		if !need.exactly {
			frac = min(frac, x.frac)
		}
		v, err = l.requantised(&x, frac, bits)
	default:
		gain, bias := make([]float64, chosen.cols), make([]float64, chosen.cols)
		for j := range gain {
			g, h := 1.0, 0.0
			if chosen.gain != nil {
				g, h = chosen.gain[j], chosen.bias[j]
			}
			gain[j], bias[j] = g*a, float64(h*a)+b
		}
		if !slices.ContainsFunc(bias, func(b float64) bool { return b != 0 }) {
			bias = nil
		}
		base := chosen.val
		if !base.within(scaleBits) {
			// A product of two values, or a sum of many: there would be no room
			// for the factors.
			if base, _, err = l.own(&wire{dims: []int{chosen.cols}, axis: -1, at: chosen, cols: columns(chosen.cols)}, want{maxFrac, actBits, false}); err != nil {
				return nil, nil, err
			}
		}
		v, err = l.scaled(base, gain, bias, frac, bits)
	}
	if err != nil {
		return nil, nil, err
	}
	if need.exactly && v.frac != frac {
		return nil, nil, fmt.Errorf("a value comes with %d fractional bits and is needed with %d", v.frac, frac)
	}
	if chosen == at {
		at.made = append(at.made, made{w.f, v.frac, v})
	}
	return v, cols, nil
}

func isPower(a float64) bool { f, _ := math.Frexp(a); return f == 0.5 }

func exponent(a float64) int { _, e := math.Frexp(a); return e - 1 }

// canonical emits the values of a wire with columns in the tensor's order.
func (l *lower) canonical(w *wire, need want) (*value, error) {
	v, cols, err := l.own(w, need)
	if err != nil {
		return nil, err
	}
	return l.arranged(v, cols), nil
}

// peakOf is the expected greatest magnitude of a wire's elements.
func (l *lower) peakOf(w *wire) float64 {
	if w.f == nil {
		return w.at.peak
	}
	if a, b, ok := w.f.affine(); ok {
		return math.Abs(a)*w.at.peak + math.Abs(b)
	}
	// A function is known only by its values.
	const steps = 512
	most := 0.0
	for i := -steps; i <= steps; i++ {
		if y := math.Abs(w.f.g(w.at.peak * float64(i) / steps)); y > most && !math.IsInf(y, 1) {
			most = y
		}
	}
	return most
}

// table looks a function up.
func (l *lower) table(key *value, f *function, frac, bits int, exactly bool) (*value, error) {
	n := key.hi - key.lo + 1
	if n > 1<<20 {
		return nil, fmt.Errorf("a table of %d entries", n)
	}
	width := bits
	if exactly {
		width = 29
	}
	// Where a function has no value, as a logarithm at zero, it is not asked:
	// the nearest value stands there.
	g := func(x float64) float64 {
		y := f.at(x)
		if math.IsNaN(y) || math.IsInf(y, 0) {
			y = f.at(math.Abs(x) + math.Ldexp(1, -key.frac))
		}
		if math.IsNaN(y) {
			y = 0
		}
		return y
	}
	data, err := quantise.Tabulate(g, key.lo, int(n), key.frac, frac, width)
	if err != nil {
		return nil, err
	}
	y := &value{cols: key.cols, frac: frac, lo: int64(slices.Min(data)), hi: int64(slices.Max(data))}
	y.v = l.op(exact.Table, key, []int{l.prog.Const(1, len(data), data)}, key.lo)
	return y, nil
}

// chosen is the product with only some of its columns.
func (p *linear) chosen(cols []int32) *linear {
	out := *p
	out.n = len(cols)
	out.w = make([]float64, p.k*len(cols))
	out.bias = make([]float64, len(cols))
	for j, c := range cols {
		for i := range p.k {
			out.w[i*len(cols)+j] = p.w[i*p.n+int(c)]
		}
		out.bias[j] = p.bias[c]
	}
	return &out
}

// product emits a p + b, where p is a product.
func (l *lower) product(p *linear, a, b float64, frac, bits int, exactly bool) (*value, error) {
	in := p.in
	peak, norm := 0.0, 0.0
	addend := 0.0
	norms := make([]float64, p.n)
	for i, w := range p.w {
		w = math.Abs(w * a)
		peak = max(peak, w)
		norms[i%p.n] += w
		norm = max(norm, norms[i%p.n])
	}
	halfUnit := math.Ldexp(0.5, -in.frac)
	if !in.floored {
		halfUnit = 0
	}
	for _, v := range p.bias {
		addend = max(addend, math.Abs(v*a+b))
	}
	addend += norm * halfUnit
	fits := func(g int) bool {
		return (math.Ldexp(norm, g)+float64(p.k)/2)*float64(in.max())+math.Ldexp(addend, in.frac+g)+2 < 0.99*exact.Limit
	}
	// Fractional bits of the weights: what weightBits hold; fewer if sums
	// might leave the bounds, but not so few that splitting is better.
	full := 24
	for full > -24 && math.Ldexp(peak, full) >= 1<<(weightBits-1)-1 {
		full--
	}
	g := max(full, min(frac-in.frac, full+8))
	for g > full-3 && !fits(g) || math.Ldexp(addend, in.frac+g) >= 0.4*exact.Limit || in.frac+g-frac > 30 {
		g--
	}
	shift := in.frac + g - frac
	if shift < 0 {
		if exactly {
			return nil, fmt.Errorf("products have %d fractional bits and are needed with %d: inputs or weights are too large for their results", in.frac+g, frac)
		}
		frac, shift = in.frac+g, 0
	}
	data := make([]int32, len(p.w))
	sums := make([]float64, p.n)
	for i, w := range p.w {
		q := int64(math.Floor(math.Ldexp(w*a, g) + 0.5))
		data[i] = int32(q)
		sums[i%p.n] += float64(q)
	}
	biases := make([]int32, p.n)
	any := false
	for j := range biases {
		v := math.Ldexp(float64(p.bias[j]*a)+b, in.frac+g)
		if in.floored {
			v += sums[j] / 2
		}
		if math.Abs(v) >= exact.Limit {
			return nil, fmt.Errorf("a bias of %g is too large for sums with %d fractional bits", p.bias[j]*a+b, in.frac+g)
		}
		biases[j] = int32(math.Floor(v + 0.5))
		any = any || biases[j] != 0
	}
	if !any {
		biases = nil
	}
	v, err := quantise.Linear{Blocks: p.blocks, Weights: exact.Const{Rows: p.k, Cols: p.n, Data: data}, Bias: biases, Shift: int64(shift), Bits: int64(bits)}.Apply(l.prog, in.v, in.max())
	if err != nil {
		return nil, err
	}
	return &value{v: v, cols: p.blocks * p.n, frac: frac, lo: -1 << (bits - 1), hi: 1<<(bits-1) - 1}, nil
}

// fresh is a wire to all columns of a value, in order.
func fresh(v *value, dims []int, axis, row int, uniform bool, peak float64) *wire {
	return &wire{dims: dims, axis: axis, row: row, at: &atom{cols: v.cols, uniform: uniform, peak: peak, val: v}, cols: columns(v.cols)}
}
