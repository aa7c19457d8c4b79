package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// fixed is a number in fixed point: times 2^frac, to nearest.
func fixed(x float64, frac int) float64 { return math.Floor(math.Ldexp(x, frac) + 0.5) }

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
		factors[i] = int32(fixed(v, g))
	}
	c := quantise.Constant(l.prog, x.v, factors)
	y := &value{v: l.prog.Op(exact.Multiply, []exact.Value{x.v, c}, nil), cols: x.cols, frac: x.frac + g}
	y.hi = int64((math.Ldexp(peak, g)+1)*float64(x.max())) + 1
	if bias != nil {
		addends := make([]int32, len(bias))
		for i, v := range bias {
			addends[i] = int32(fixed(v, y.frac))
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

// magnitudes are the greatest magnitude of the elements of a matrix of n columns,
// times a, and the greatest sum of those of a column.
func magnitudes(w []float64, n int, a float64) (peak, norm float64) {
	norms := make([]float64, n)
	for i, x := range w {
		x = math.Abs(x * a)
		peak = max(peak, x)
		norms[i%n] += x
		norm = max(norm, norms[i%n])
	}
	return peak, norm
}

// product emits a p + b, where p is a product.
func (l *lower) product(p *linear, a, b float64, frac, bits int, exactly bool) (*value, error) {
	in := p.in
	peak, norm := magnitudes(p.w, p.n, a)
	addend := 0.0
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
		q := int64(fixed(w*a, g))
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
