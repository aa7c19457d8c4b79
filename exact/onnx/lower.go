package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// lowerings emit the nodes that the interpreter has too, except those that
// only move elements or work element by element.
var lowerings map[string]func(*lower, *call) ([]*wire, error)

func init() {
	lowerings = map[string]func(*lower, *call) ([]*wire, error){
		"MatMul": (*lower).matMul, "Gemm": (*lower).gemm, "Conv": (*lower).conv,
		"MaxPool": (*lower).pool, "AveragePool": (*lower).pool, "GlobalAveragePool": (*lower).pool, "GlobalMaxPool": (*lower).pool,
		"BatchNormalization": (*lower).batchNorm, "LayerNormalization": (*lower).norm, "RMSNormalization": (*lower).norm,
		"LpNormalization": (*lower).norm, "Softmax": (*lower).softmax,
		"ReduceMean": (*lower).reduce, "ReduceSum": (*lower).reduce, "ReduceMax": (*lower).reduce, "ReduceMin": (*lower).reduce,
		"ArgMax": (*lower).argMax, "Where": (*lower).where, "Cast": (*lower).cast, "Clip": (*lower).clip,
		"TreeEnsembleRegressor": (*lower).trees, "TreeEnsembleClassifier": (*lower).trees,
		"LinearRegressor": (*lower).linearModel, "LinearClassifier": (*lower).linearModel, "Scaler": (*lower).scaler,
	}
	for op := range movements {
		lowerings[op] = (*lower).move
	}
	for op := range binaries {
		lowerings[op] = (*lower).binary
	}
	for _, op := range unaries {
		lowerings[op] = (*lower).unary
	}
}

// node emits one node.
func (l *lower) node(node *Node) error {
	in := make([]*Tensor, len(node.In))
	for i, name := range node.In {
		if name == "" {
			continue
		}
		if in[i] = l.static[name]; in[i] == nil {
			// What depends on the input has dimensions only.
			in[i] = &Tensor{Name: name, Type: Float, Dims: l.dims[name]}
		}
	}
	f, ok := lowerings[node.Op]
	if !ok {
		return fmt.Errorf("%s: %s of what depends on the input is not supported: its result must not depend on the data", node.label(), node.Op)
	}
	left := l.net.room
	out, err := f(l, &call{node, l.net.version(node), in, &left})
	if err != nil {
		return fmt.Errorf("%s: %w", node.label(), err)
	}
	for i, name := range node.Out {
		if name == "" || i >= len(out) || out[i] == nil {
			continue
		}
		w := out[i]
		if got, want := w.dims, l.dims[name]; !slices.Equal(got, want) {
			return fmt.Errorf("%s: shape %v, evaluated %v", node.label(), got, want)
		}
		// A new atom's elements are this tensor's.
		if p, ok := l.peaks[name]; ok && w.f == nil && w.at.peak == 0 {
			w.at.peak = max(p, 1e-9)
		}
		l.wires[name] = w
	}
	return nil
}

// wire is operand i, which depends on the input.
func (l *lower) wire(c *call, i int) (*wire, error) {
	if !c.has(i) {
		return nil, fmt.Errorf("operand %d is missing", i)
	}
	name := c.node.In[i]
	if w := l.wires[name]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("operand %q is a constant and must depend on the input", name)
}

// constant is operand i if it does not depend on the input.
func (l *lower) constant(c *call, i int) *Tensor {
	if !c.has(i) {
		return nil
	}
	return l.static[c.node.In[i]]
}

func (l *lower) move(c *call) ([]*wire, error) {
	if c.node.Op == "Gather" && l.constant(c, 0) != nil {
		return l.embed(c)
	}
	results, err := movements[c.node.Op](c)
	if err != nil {
		return nil, err
	}
	data := c.dataOperands()
	w, err := l.joined(c, len(data))
	if err != nil {
		return nil, err
	}
	if w[0].at.scores != nil {
		same := isIdentity(results[0].from)
		if len(results) != 1 || !same || !slices.Equal(results[0].dims, w[0].dims) {
			return nil, errors.New("scores of attention are rearranged between softmax and products")
		}
		return []*wire{w[0]}, nil
	}
	var codes []int
	for _, x := range w {
		codes = append(codes, x.codes()...)
	}
	if slices.ContainsFunc(results, func(m moved) bool { return slices.Contains(m.from, -1) }) && w[0].f != nil {
		// Zeros are to be zeros after the function.
		v, cols, err := l.own(w[0], want{maxFrac, actBits, false})
		if err != nil {
			return nil, err
		}
		x := fresh(v, w[0].dims, w[0].axis, w[0].row, w[0].at.uniform, l.peakOf(w[0]))
		x.cols = cols
		w[0], codes = x, x.codes()
	}
	var out []*wire
	for _, m := range results {
		x, err := w[0].rewired(m.dims, m.from, codes, l.rows)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func isIdentity(from []int) bool {
	for i, k := range from {
		if i != k {
			return false
		}
	}
	return true
}

// joined are the data operands of a movement, as wires to one atom: if there
// are several, their values are put side by side.
func (l *lower) joined(c *call, n int) ([]*wire, error) {
	var w []*wire
	same := true
	for i := range n {
		if l.constant(c, i) != nil {
			w = append(w, nil)
			same = false
			continue
		}
		x, err := l.wire(c, i)
		if err != nil {
			return nil, err
		}
		w = append(w, x)
		same = same && w[0] != nil && x.at == w[0].at && x.f == w[0].f
	}
	if same {
		return w, nil
	}
	frac, ok := l.group[c.node.Out[0]]
	if !ok {
		frac = fracFor(l.peaks[c.node.Out[0]], actBits, maxFrac)
	}
	var first *wire
	for _, x := range w {
		if x != nil {
			first = x
			break
		}
	}
	if first == nil {
		return nil, errors.New("nothing of it depends on the input")
	}
	all := &atom{}
	var parts []exact.Value
	var widths []int
	joint := &value{frac: frac}
	for i, x := range w {
		if x == nil {
			t := l.constant(c, i)
			if !t.Type.IsFloat() || first.axis >= 0 && (first.axis >= len(t.Dims) || t.Dims[first.axis] != l.rows) {
				return nil, errors.New("a constant is joined that is no row: rows are positions of the sequence, whose number does not change")
			}
			vary, row, err := l.perRow(t, t.Dims, first.axis)
			if err != nil || vary {
				return nil, errors.New("a constant is joined that differs from row to row")
			}
			data := make([]int32, len(row[0]))
			for j, v := range row[0] {
				data[j] = int32(math.Floor(math.Ldexp(v, frac) + 0.5))
			}
			joint.beside(int64(slices.Min(data)), int64(slices.Max(data)))
			parts, widths = append(parts, quantise.Constant(l.prog, l.input, data)), append(widths, len(data))
			w[i] = &wire{dims: t.Dims, axis: first.axis, row: first.row, at: all, cols: shifted(columns(len(data)), all.cols)}
			all.cols += len(data)
			continue
		}
		v, err := l.canonical(x, want{frac, 29, true})
		if err != nil {
			return nil, err
		}
		if (x.axis < 0) != (first.axis < 0) || x.axis < 0 && x.row != first.row {
			return nil, errors.New("values of one row are joined with values of others: rows are positions of the sequence, and only attention and means may join them")
		}
		joint.beside(v.lo, v.hi)
		all.peak = max(all.peak, l.peakOf(x))
		parts, widths = append(parts, v.v), append(widths, v.cols)
		w[i] = &wire{dims: x.dims, axis: x.axis, row: x.row, at: all, cols: shifted(columns(v.cols), all.cols)}
		all.cols += v.cols
	}
	if all.cols > exact.MaxCols || len(parts)*all.cols > exact.MaxWidth {
		return nil, fmt.Errorf("%d parts of %d columns together: at most %d columns", len(parts), all.cols, exact.MaxCols)
	}
	joint.v, joint.cols = quantise.Concat(l.prog, parts, widths), all.cols
	all.val = joint
	return w, nil
}

// beside takes in the bounds of a value that is put beside others: as they are
// proven, which is those of a sum of values that are zero elsewhere.
func (x *value) beside(lo, hi int64) {
	x.lo += min(0, lo)
	x.hi += max(0, hi)
}

func shifted(cols []int32, by int) []int32 {
	for i := range cols {
		cols[i] += int32(by)
	}
	return cols
}

// embed looks up rows of a constant.
func (l *lower) embed(c *call) ([]*wire, error) {
	table := l.constant(c, 0)
	index, err := l.wire(c, 1)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(table.Dims))
	if err != nil {
		return nil, err
	}
	if a != 0 || index.perRow() != 1 || index.f != nil || index.at.val == nil || index.at.gain != nil || index.at.val.frac != 0 || !table.Type.IsFloat() {
		return nil, errors.New("only rows of a table of floats are looked up, one for each row of integers")
	}
	n, cols := table.Dims[0], count(table.Dims[1:])
	if index.at.val.lo < 0 || index.at.val.hi >= int64(n) {
		return nil, fmt.Errorf("numbers up to %d look up one of %d rows", index.at.val.hi, n)
	}
	peak := 0.0
	for _, v := range table.F {
		peak = max(peak, math.Abs(float64(v)))
	}
	out := c.node.Out[0]
	frac, ok := l.group[out]
	if !ok {
		frac = fracFor(peak, actBits, maxFrac)
	}
	data := make([]int32, len(table.F))
	y := &value{cols: cols, frac: frac}
	for i, v := range table.F {
		x := math.Floor(math.Ldexp(float64(v), frac) + 0.5)
		if !(math.Abs(x) < exact.Limit) {
			return nil, fmt.Errorf("an entry of %g is too large", v)
		}
		data[i] = int32(x)
		y.lo, y.hi = min(y.lo, int64(x)), max(y.hi, int64(x))
	}
	x := l.arranged(index.at.val, index.cols)
	y.v = l.op(exact.Gather, x, []int{l.prog.Const(n, cols, data)})
	dims := slices.Concat(index.dims, table.Dims[1:])
	return []*wire{fresh(y, dims, index.axis, index.row, index.at.uniform, peak)}, nil
}

func (l *lower) cast(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	whole := w.at.val != nil && w.at.val.frac == 0 && w.at.gain == nil && w.f == nil
	if to := Type(c.node.intAttr("to", int64(Float))); !to.IsFloat() && !whole {
		return nil, errors.New("rounding to integers is not supported")
	}
	return []*wire{w}, nil
}

func (l *lower) unary(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	if c.node.Op == "Neg" {
		return []*wire{w.with(w.f.then(-1, 0))}, nil
	}
	g, err := unary(c.node)
	if err != nil {
		return nil, err
	}
	return l.apply(w, g)
}

// solid is the wire with its zeros, if it has any, made elements of a value, so
// that functions see them.
func (l *lower) solid(w *wire) (*wire, error) {
	if !slices.Contains(w.cols, -1) {
		return w, nil
	}
	v, err := l.canonical(w, want{maxFrac, actBits, false})
	if err != nil {
		return nil, err
	}
	return fresh(v, w.dims, w.axis, w.row, w.at.uniform, l.peakOf(w)), nil
}

// with is the wire with another function.
func (w *wire) with(f *function) *wire {
	x := *w
	x.f = f
	return &x
}

// apply applies a function to every element.
func (l *lower) apply(w *wire, g quantise.Function) ([]*wire, error) {
	if w.at.scores != nil {
		return nil, errors.New("a function of the scores of attention is not supported")
	}
	w, err := l.solid(w)
	if err != nil {
		return nil, err
	}
	f := w.f
	return []*wire{w.with(&function{g: func(x float64) float64 { return g(f.at(x)) }})}, nil
}

func (l *lower) clip(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	lo, hi, err := c.bounds()
	if err != nil {
		return nil, err
	}
	return l.apply(w, func(x float64) float64 { return min(hi, max(lo, x)) })
}

// aligned are the columns of a wire stretched to a shape whose rows lie along
// the given axis (-1: one row).
func (l *lower) aligned(w *wire, dims []int, ax int) ([]int32, error) {
	own := w.axis
	if own >= 0 {
		own += len(dims) - len(w.dims)
	}
	n := count(dims)
	rows := 1
	if ax >= 0 {
		rows = dims[ax]
	}
	if own >= 0 && own != ax {
		return nil, errors.New("operands whose rows lie along different dimensions")
	}
	if own < 0 && ax >= 0 && !w.at.uniform {
		return nil, fmt.Errorf("row %d is combined with all rows: only attention and means may join rows", w.row)
	}
	inner := n
	if ax >= 0 {
		inner = count(dims[ax+1:])
	}
	out := make([]int32, n/rows)
	width := w.at.cols + 1
	codes := w.codes()
	for i, k := range spread(w.dims, dims) {
		col := int32(codes[k]%width - 1)
		within := i
		r := 0
		if ax >= 0 {
			within, r = i/(rows*inner)*inner+i%inner, i/inner%rows
		}
		if r == 0 {
			out[within] = col
		} else if out[within] != col {
			return nil, errors.New("operands that go together differently from row to row")
		}
	}
	return out, nil
}

// perRow is a constant stretched to a shape: its numbers for each row, or for
// all if they do not vary.
func (l *lower) perRow(t *Tensor, dims []int, ax int) (vary bool, rows [][]float64, err error) {
	n := 1
	if ax >= 0 {
		n = dims[ax]
	}
	inner := count(dims)
	if ax >= 0 {
		inner = count(dims[ax+1:])
	}
	rows = make([][]float64, n)
	for r := range rows {
		rows[r] = make([]float64, 0, count(dims)/n)
	}
	if ax < 0 {
		inner = max(1, inner)
	}
	for i, k := range spread(t.Dims, dims) {
		r := 0
		if ax >= 0 {
			r = i / inner % n
		}
		rows[r] = append(rows[r], t.number(k))
	}
	for _, r := range rows[1:] {
		vary = vary || !slices.Equal(r, rows[0])
	}
	if !vary {
		rows = rows[:1]
	}
	return vary, rows, nil
}

func allEqual(v []float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return x != v[0] })
}

func (l *lower) binary(c *call) ([]*wire, error) {
	if len(c.in) == 1 {
		return l.move(&call{&Node{Op: "Identity", In: c.node.In, Out: c.node.Out}, c.opset, c.in, c.left})
	}
	if len(c.in) != 2 {
		return nil, errors.New("of more than two operands is not supported")
	}
	dims, err := broadcast(c.in[0].Dims, c.in[1].Dims)
	if err != nil {
		return nil, err
	}
	op := c.node.Op
	f := binaries[op]
	for i := range 2 {
		t := l.constant(c, i)
		if t == nil {
			continue
		}
		w, err := l.wire(c, 1-i)
		if err != nil {
			return nil, err
		}
		return l.withConstant(c, w, t, i == 0, dims)
	}
	a, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	b, err := l.wire(c, 1)
	if err != nil {
		return nil, err
	}
	if a.at.scores != nil || b.at.scores != nil {
		return nil, errors.New("scores of attention are combined with what depends on the input: only constant masks and scales are supported")
	}
	ax := -1
	for _, w := range []*wire{a, b} {
		if w.axis >= 0 {
			ax = w.axis + len(dims) - len(w.dims)
		}
	}
	ca, err := l.aligned(a, dims, ax)
	if err != nil {
		return nil, err
	}
	cb, err := l.aligned(b, dims, ax)
	if err != nil {
		return nil, err
	}
	row := a.row
	if a.at.uniform {
		row = b.row
	}
	if ax < 0 && !a.at.uniform && !b.at.uniform && a.row != b.row {
		return nil, fmt.Errorf("rows %d and %d are combined: only attention and means may join rows", a.row, b.row)
	}
	if a.at == b.at && slices.Equal(ca, cb) && !slices.Contains(ca, -1) {
		// Both are functions of the same numbers, and so is the result.
		af, bf := a.f, b.f
		x := &wire{dims: dims, axis: ax, row: row, at: a.at, cols: ca}
		fa, ga, oka := af.affine()
		fb, gb, okb := bf.affine()
		switch {
		case oka && okb && op == "Add":
			x.f = &function{a: fa + fb, b: ga + gb}
		case oka && okb && op == "Sub":
			x.f = &function{a: fa - fb, b: ga - gb}
		default:
			x.f = &function{g: func(v float64) float64 { return f(af.at(v), bf.at(v)) }}
		}
		return []*wire{x}, nil
	}
	need := want{maxFrac, 15, false}
	switch op {
	case "Add", "Sub":
		frac, ok := l.group[c.node.Out[0]]
		if !ok {
			return nil, errors.New("a sum without a scale, which is a bug")
		}
		need = want{frac, 29, true}
		if op == "Sub" {
			b = b.with(b.f.then(-1, 0))
		}
	case "Mul":
	case "Div":
		return nil, errors.New("division by what depends on the input is supported in LayerNormalization, RMS and L2 norms, softmax and functions of one number only")
	default:
		return nil, fmt.Errorf("%s of two values is not supported, only of one with a constant", op)
	}
	// Where a row of one operand stands for all rows of the other, its columns
	// are those of the stretched tensor.
	a2, b2 := *a, *b
	a2.cols, b2.cols = ca, cb
	va, oa, err := l.own(&a2, need)
	if err != nil {
		return nil, err
	}
	vb, ob, err := l.own(&b2, need)
	if err != nil {
		return nil, err
	}
	cols := columns(len(ca))
	if slices.Equal(oa, ob) && va.cols == vb.cols && !slices.Contains(oa, -1) {
		cols = oa // a common layout may stay
	} else {
		va, vb = l.arranged(va, oa), l.arranged(vb, ob)
	}
	y := &value{cols: va.cols, frac: va.frac}
	kind := exact.Add
	if op == "Mul" {
		kind, y.frac = exact.Multiply, va.frac+vb.frac
		p := []int64{va.lo * vb.lo, va.lo * vb.hi, va.hi * vb.lo, va.hi * vb.hi}
		y.lo, y.hi = slices.Min(p), slices.Max(p)
	} else {
		y.lo, y.hi = va.lo+vb.lo, va.hi+vb.hi
		y.floored = va.floored != vb.floored
	}
	y.v = l.prog.Op(kind, []exact.Value{va.v, vb.v}, nil)
	x := fresh(y, dims, ax, row, a.at.uniform && b.at.uniform, 0)
	x.cols = cols
	return []*wire{x}, nil
}

// withConstant combines a wire with a constant, which comes first if so said.
func (l *lower) withConstant(c *call, w *wire, t *Tensor, first bool, dims []int) ([]*wire, error) {
	op := c.node.Op
	f := binaries[op]
	if w.at.scores != nil {
		return l.scoresWith(op, w, t, first, dims)
	}
	ax := w.axis
	if ax >= 0 {
		ax += len(dims) - len(w.dims)
	}
	cols, err := l.aligned(w, dims, ax)
	if err != nil {
		return nil, err
	}
	vary, rows, err := l.perRow(t, dims, ax)
	if err != nil {
		return nil, err
	}
	x := *w
	x.dims, x.axis, x.cols = dims, ax, cols
	if len(rows[0]) == 0 {
		return nil, errors.New("of nothing")
	}
	if !vary && allEqual(rows[0]) {
		v := rows[0][0]
		x, err := l.solid(&x)
		if err != nil {
			return nil, err
		}
		switch {
		case op == "Add":
			return []*wire{x.with(x.f.then(1, v))}, nil
		case op == "Mul":
			return []*wire{x.with(x.f.then(v, 0))}, nil
		case op == "Sub" && first:
			return []*wire{x.with(x.f.then(-1, v))}, nil
		case op == "Sub":
			return []*wire{x.with(x.f.then(1, -v))}, nil
		case op == "Div" && !first && v != 0:
			return []*wire{x.with(x.f.then(1/v, 0))}, nil
		case op == "Pow" && !first && v == 1:
			return []*wire{x}, nil
		case first:
			return l.apply(x, func(y float64) float64 { return f(v, y) })
		}
		return l.apply(x, func(y float64) float64 { return f(y, v) })
	}
	// A factor and an addend for each column.
	factor, addend := make([][]float64, len(rows)), make([][]float64, len(rows))
	for r := range rows {
		for _, v := range rows[r] {
			a, b := 1.0, 0.0
			switch {
			case op == "Add":
				b = v
			case op == "Sub" && first:
				a, b = -1, v
			case op == "Sub":
				b = -v
			case op == "Mul":
				a = v
			case op == "Div" && !first && v != 0:
				a = 1 / v
			default:
				return nil, fmt.Errorf("%s with a constant that differs from element to element is not supported", op)
			}
			factor[r], addend[r] = append(factor[r], a), append(addend[r], b)
		}
	}
	if vary {
		return l.rowwise(c, &x, op, factor, addend)
	}
	y, err := l.columnwise(&x, factor[0], addend[0])
	return []*wire{y}, err
}

// columnwise multiplies each element of a row by a factor and adds to it.
func (l *lower) columnwise(w *wire, factor, addend []float64) (*wire, error) {
	a, b, affine := w.f.affine()
	at := w.at
	out := &wire{dims: w.dims, axis: w.axis, row: w.row, cols: w.cols}
	if affine && at.lin != nil && !slices.Contains(w.cols, -1) {
		p := at.lin
		if p.blocks == 1 {
			q := p.chosen(w.cols)
			for i := range q.w {
				q.w[i] *= a * factor[i%q.n]
			}
			for j := range q.bias {
				q.bias[j] = float64((float64(q.bias[j]*a)+b)*factor[j]) + addend[j]
			}
			out.at, out.cols = &atom{cols: q.n, uniform: at.uniform, lin: q}, columns(q.n)
			return out, nil
		}
		// The same for all blocks?
		f, g, seen := make([]float64, p.n), make([]float64, p.n), make([]bool, p.n)
		ok := true
		for i, c := range w.cols {
			j := int(c) % p.n
			ok = ok && (!seen[j] || f[j] == factor[i] && g[j] == addend[i])
			f[j], g[j], seen[j] = factor[i], addend[i], true
		}
		if ok {
			q := *p
			q.w, q.bias = slices.Clone(p.w), slices.Clone(p.bias)
			for i := range q.w {
				q.w[i] *= a * f[i%p.n]
			}
			for j := range q.bias {
				q.bias[j] = float64((float64(q.bias[j]*a)+b)*f[j]) + g[j]
			}
			out.at = &atom{cols: at.cols, uniform: at.uniform, lin: &q}
			return out, nil
		}
	}
	base, cols := at.val, w.cols
	gain, bias := slices.Clone(factor), slices.Clone(addend)
	if affine && base != nil && base.within(scaleBits) {
		for i, c := range w.cols {
			g, h := 1.0, 0.0
			if c < 0 {
				g = 0
			} else if at.gain != nil {
				g, h = at.gain[c], at.bias[c]
			}
			gain[i], bias[i] = g*a*factor[i], float64((float64(h*a)+b)*factor[i])+addend[i]
		}
	} else {
		var err error
		if base, cols, err = l.own(w, want{maxFrac, actBits, false}); err != nil {
			return nil, err
		}
	}
	v := l.arranged(base, cols)
	out.at, out.cols = &atom{cols: v.cols, uniform: at.uniform, val: v, gain: gain, bias: bias}, columns(v.cols)
	return out, nil
}

// rowwise adds a constant, or multiplies by one, that differs from row to row.
func (l *lower) rowwise(c *call, w *wire, op string, factor, addend [][]float64) ([]*wire, error) {
	if len(factor) != l.prog.Rows {
		return nil, fmt.Errorf("a constant for %d rows in a program of %d", len(factor), l.prog.Rows)
	}
	if !l.hasPos {
		l.position, l.hasPos = l.prog.Op(exact.Position, nil, nil, int64(l.prog.Rows)), true
	}
	at := func(v [][]float64, frac int) (*value, error) {
		y := &value{cols: len(v[0]), frac: frac}
		var data []int32
		for _, row := range v {
			for _, e := range row {
				x := math.Floor(math.Ldexp(e, frac) + 0.5)
				if !(math.Abs(x) < 1<<28) {
					return nil, fmt.Errorf("a constant of %g is too large", e)
				}
				data = append(data, int32(x))
				y.lo, y.hi = min(y.lo, int64(x)), max(y.hi, int64(x))
			}
		}
		y.v = l.prog.Op(exact.Gather, []exact.Value{l.position}, []int{l.prog.Const(len(v), len(v[0]), data)})
		return y, nil
	}
	if op == "Mul" || op == "Div" {
		peak := 0.0
		for _, r := range factor {
			for _, v := range r {
				peak = max(peak, math.Abs(v))
			}
		}
		k, err := at(factor, fracFor(peak, weightBits+1, 20))
		if err != nil {
			return nil, err
		}
		x, err := l.canonical(w, want{maxFrac, actBits, false})
		if err != nil {
			return nil, err
		}
		y := &value{v: l.prog.Op(exact.Multiply, []exact.Value{x.v, k.v}, nil), cols: x.cols, frac: x.frac + k.frac}
		y.hi = x.max() * k.max()
		y.lo = -y.hi
		return []*wire{fresh(y, w.dims, w.axis, w.row, false, 0)}, nil
	}
	frac, ok := l.group[c.node.Out[0]]
	if !ok {
		return nil, errors.New("a sum without a scale, which is a bug")
	}
	k, err := at(addend, frac)
	if err != nil {
		return nil, err
	}
	if factor[0][0] == -1 {
		w = w.with(w.f.then(-1, 0))
	}
	x, err := l.canonical(w, want{frac, 29, true})
	if err != nil {
		return nil, err
	}
	y := &value{v: l.prog.Op(exact.Add, []exact.Value{x.v, k.v}, nil), cols: x.cols, frac: frac, lo: x.lo + k.lo, hi: x.hi + k.hi}
	return []*wire{fresh(y, w.dims, w.axis, w.row, false, 0)}, nil
}

func (l *lower) where(c *call) ([]*wire, error) {
	cond := l.constant(c, 0)
	if cond == nil {
		return nil, errors.New("its condition depends on the input: only constant masks are supported; give attention masks as inputs named attention_mask")
	}
	dims, err := broadcast(c.in[1].Dims, c.in[2].Dims)
	if err == nil {
		dims, err = broadcast(cond.Dims, dims)
	}
	if err != nil {
		return nil, err
	}
	x, y := l.constant(c, 1), l.constant(c, 2)
	yes, no := 0, 0
	for _, v := range cond.I {
		if v != 0 {
			yes++
		} else {
			no++
		}
	}
	pick, other, keep := 1, y, int64(1)
	if x != nil {
		pick, other, keep = 2, x, 0
	}
	if (no == 0 || yes == 0) && slices.Equal(dims, c.in[pick].Dims) && (yes == 0) == (pick == 2) {
		w, err := l.wire(c, pick)
		return []*wire{w}, err
	}
	if other == nil {
		return nil, errors.New("a choice between two values that depend on the input is not supported")
	}
	w, err := l.wire(c, pick)
	if err != nil {
		return nil, err
	}
	if w.at.scores != nil {
		// A mask: what is not kept becomes the constant.
		m := &Tensor{Type: Float, Dims: dims, F: make([]float32, count(dims))}
		so := spread(other.Dims, dims)
		for i, k := range spread(cond.Dims, dims) {
			if (cond.I[k] != 0) != (keep != 0) {
				if m.F[i] = float32(other.number(so[i])); m.F[i] > -1 {
					return nil, fmt.Errorf("scores of attention are replaced by %g, which is no mask", m.F[i])
				}
			}
		}
		return l.scoresWith("Add", w, m, false, dims)
	}
	ax := w.axis
	if ax >= 0 {
		ax += len(dims) - len(w.dims)
	}
	cols, err := l.aligned(w, dims, ax)
	if err != nil {
		return nil, err
	}
	v1, cs, err := l.perRow(cond, dims, ax)
	if err != nil {
		return nil, err
	}
	v2, os, err := l.perRow(other, dims, ax)
	if err != nil {
		return nil, err
	}
	if v1 || v2 {
		return nil, errors.New("a mask that differs from row to row is supported for scores of attention only")
	}
	factor, addend := make([]float64, len(cols)), make([]float64, len(cols))
	for i := range factor {
		if (cs[0][i] != 0) == (keep != 0) {
			factor[i] = 1
		} else {
			addend[i] = os[0][i]
		}
	}
	z := *w
	z.dims, z.axis, z.cols = dims, ax, cols
	out, err := l.columnwise(&z, factor, addend)
	return []*wire{out}, err
}

// weighted is a wire to a product: blocks of w's columns, in the given order
// and -1 being zero, each times a matrix.
func (l *lower) weighted(w *wire, cols []int32, blocks, k, n int, weights, bias []float64) (*atom, error) {
	if w.at.scores != nil {
		return nil, errors.New("scores of attention are multiplied by a constant, not by values")
	}
	if bias == nil {
		bias = make([]float64, n)
	}
	a, b, affine := w.f.affine()
	if blocks == 1 && affine && w.at.val != nil && w.at.val.within(actBits) && !slices.Contains(cols, -1) {
		// Gains and biases go into the matrix.
		v := l.arranged(w.at.val, cols)
		if w.at.gain != nil || a != 1 || b != 0 {
			weights, bias = slices.Clone(weights), slices.Clone(bias)
			for i, c := range cols {
				g, h := 1.0, 0.0
				if w.at.gain != nil {
					g, h = w.at.gain[c], w.at.bias[c]
				}
				h = float64(h*a) + b
				g *= a
				for j := range n {
					bias[j] += float64(h * weights[i*n+j])
					weights[i*n+j] *= g
				}
			}
		}
		return &atom{cols: n, uniform: w.at.uniform, lin: &linear{v, 1, k, n, weights, bias}}, nil
	}
	// As many bits as leave the weights theirs.
	peak, norm := 0.0, 0.0
	norms := make([]float64, n)
	for i, v := range weights {
		v = math.Abs(v)
		peak = max(peak, v)
		norms[i%n] += v
		norm = max(norm, norms[i%n])
	}
	bits := actBits
	if peak > 0 {
		for bits > 10 && (norm/peak*(1<<(weightBits-1))+float64(k)/2)*float64(int64(1)<<(bits-1)) >= 0.9*exact.Limit {
			bits--
		}
	}
	x := *w
	x.cols = cols
	v, at, err := l.own(&x, want{maxFrac, bits, false})
	if err != nil {
		return nil, err
	}
	return &atom{cols: blocks * n, uniform: w.at.uniform, lin: &linear{l.arranged(v, at), blocks, k, n, weights, bias}}, nil
}

func doubles(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func (l *lower) matMul(c *call) ([]*wire, error) {
	ta, tb := l.constant(c, 0), l.constant(c, 1)
	if ta == nil && tb == nil {
		return l.attention(c)
	}
	if tb != nil {
		w, err := l.wire(c, 0)
		if err != nil {
			return nil, err
		}
		for len(tb.Dims) > 2 && tb.Dims[0] == 1 {
			tb = &Tensor{Type: tb.Type, Dims: tb.Dims[1:], F: tb.F}
		}
		if len(tb.Dims) > 2 || len(w.dims) == 0 {
			return nil, fmt.Errorf("times a constant of shape %v: only one matrix is supported", tb.Dims)
		}
		k, n := tb.Dims[0], count(tb.Dims[1:])
		if w.axis == len(w.dims)-1 {
			return nil, errors.New("a product over the rows: only attention and means may join rows")
		}
		out := slices.Concat(w.dims[:len(w.dims)-1], tb.Dims[1:])
		return l.times(w, out, k, n, doubles(tb.F), nil)
	}
	// A constant times a value: the same with everything transposed.
	w, err := l.wire(c, 1)
	if err != nil {
		return nil, err
	}
	r := len(w.dims)
	for len(ta.Dims) > 2 && ta.Dims[0] == 1 {
		ta = &Tensor{Type: ta.Type, Dims: ta.Dims[1:], F: ta.F}
	}
	if len(ta.Dims) != 2 || r < 2 {
		return nil, fmt.Errorf("a constant of shape %v times %v: only one matrix is supported", ta.Dims, w.dims)
	}
	flip := func(w *wire) (*wire, error) {
		r := len(w.dims)
		dims, stride := slices.Clone(w.dims), strides(w.dims)
		dims[r-1], dims[r-2] = dims[r-2], dims[r-1]
		stride[r-1], stride[r-2] = stride[r-2], stride[r-1]
		from := make([]int, 0, count(dims))
		walk(dims, stride, func(at int) { from = append(from, at) })
		return w.rewired(dims, from, w.codes(), l.rows)
	}
	if w, err = flip(w); err != nil {
		return nil, err
	}
	if w.axis == r-1 {
		return nil, errors.New("a product over the rows: only attention and means may join rows")
	}
	m, k := ta.Dims[0], ta.Dims[1]
	out, err := l.times(w, slices.Concat(w.dims[:r-1], []int{m}), k, m, doubles(transposed(ta.F, m, k)), nil)
	if err != nil {
		return nil, err
	}
	y, err := flip(out[0])
	return []*wire{y}, err
}

// times is a wire's last dimension times a matrix.
func (l *lower) times(w *wire, dims []int, k, n int, weights, bias []float64) ([]*wire, error) {
	per := w.perRow()
	if k == 0 || n == 0 || per%k != 0 || w.dims[len(w.dims)-1] != k {
		return nil, fmt.Errorf("shape %v times %d by %d", w.dims, k, n)
	}
	at, err := l.weighted(w, w.cols, per/k, k, n, weights, bias)
	if err != nil {
		return nil, err
	}
	return []*wire{{dims: dims, axis: w.axis, row: w.row, at: at, cols: columns(at.cols)}}, nil
}

func (l *lower) gemm(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	weights, k, n, addend, beta, err := c.gemmParts()
	if err != nil {
		return nil, err
	}
	if len(w.dims) != 2 || w.axis == 1 {
		return nil, fmt.Errorf("of shape %v", w.dims)
	}
	dims := []int{w.dims[0], n}
	var bias []float64
	if addend != nil {
		if addend.F == nil || addend.Len() != n && addend.Len() != 1 {
			return nil, errors.New("its addend must be one constant row")
		}
		for j := range n {
			bias = append(bias, float64(beta)*float64(addend.F[j%addend.Len()]))
		}
	}
	return l.times(w, dims, k, n, doubles(weights), bias)
}

func (l *lower) conv(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	kernel := l.constant(c, 1)
	if kernel == nil || c.has(2) && l.constant(c, 2) == nil {
		return nil, errors.New("its weights must be constant")
	}
	groups := int(c.node.intAttr("group", 1))
	if err := convShape(w.dims, kernel.Dims, groups); err != nil {
		return nil, err
	}
	if w.axis > 0 {
		return nil, errors.New("a convolution over the rows is not supported: rows must be samples")
	}
	win, err := c.windowOf(w.dims, kernel.Dims[2:])
	if err != nil {
		return nil, err
	}
	batch, channels, made, per := w.dims[0], w.dims[1], kernel.Dims[0], kernel.Dims[1]
	if w.axis == 0 {
		batch = 1
	}
	size, positions, taps := count(win.in), count(win.out), count(win.kernel)
	// Groups are one group with zeros.
	k := channels * taps
	if k*made > 1<<26 {
		return nil, fmt.Errorf("a matrix of %d by %d", k, made)
	}
	places := batch * positions
	if k > exact.MaxCols || places > exact.MaxCols || places*made > exact.MaxCols {
		return nil, fmt.Errorf("%d places with %d inputs and %d outputs each: at most %d columns", places, k, made, exact.MaxCols)
	}
	// under are the columns under the kernel at some places, place by place.
	under := func(from, to int) []int32 {
		cols := make([]int32, 0, (to-from)*k)
		for place := from; place < to; place++ {
			b, p := place/positions, place%positions
			for ch := range channels {
				for _, at := range win.at[p*taps : (p+1)*taps] {
					if at < 0 {
						cols = append(cols, -1)
					} else {
						cols = append(cols, w.cols[(b*channels+ch)*size+int(at)])
					}
				}
			}
		}
		return cols
	}
	weights := make([]float64, k*made)
	for m := range made {
		first := m / (made / groups) * per
		for j := range per {
			for t := range taps {
				weights[((first+j)*taps+t)*made+m] = float64(kernel.F[(m*per+j)*taps+t])
			}
		}
	}
	var bias []float64
	if c.has(2) {
		if bias = doubles(c.in[2].F); len(bias) != made {
			return nil, fmt.Errorf("%d biases for %d channels", len(bias), made)
		}
	}
	at, err := l.convolved(c, w, under, places, k, made, weights, bias)
	if err != nil {
		return nil, err
	}
	// From places of channels to channels of places.
	out := &wire{dims: slices.Concat([]int{w.dims[0], made}, win.out), axis: w.axis, row: w.row, at: at}
	for b := range batch {
		for m := range made {
			for p := range positions {
				out.cols = append(out.cols, int32((b*positions+p)*made+m))
			}
		}
	}
	return []*wire{out}, nil
}

// convolved is a product for every place of a convolution. If the arranged
// columns are too many for one value, it is made of several.
func (l *lower) convolved(c *call, w *wire, under func(from, to int) []int32, places, k, made int, weights, bias []float64) (*atom, error) {
	step := exact.MaxCols / k
	if places <= step {
		return l.weighted(w, under(0, places), places, k, made, weights, bias)
	}
	peak := l.peaks[c.node.Out[0]]
	joint := &value{cols: places * made, frac: fracFor(peak, actBits, maxFrac)}
	n := (places + step - 1) / step
	if n*joint.cols > exact.MaxWidth {
		return nil, fmt.Errorf("%d places with %d inputs each are too many", places, k)
	}
	var parts []exact.Value
	var widths []int
	for from := 0; from < places; from += step {
		to := min(places, from+step)
		at, err := l.weighted(w, under(from, to), to-from, k, made, weights, bias)
		if err != nil {
			return nil, err
		}
		at.peak = peak
		v, _, err := l.own(&wire{dims: []int{at.cols}, axis: -1, at: at, cols: columns(at.cols)}, want{joint.frac, 29, true})
		if err != nil {
			return nil, err
		}
		joint.beside(v.lo, v.hi)
		parts, widths = append(parts, v.v), append(widths, v.cols)
	}
	joint.v = quantise.Concat(l.prog, parts, widths)
	return &atom{cols: joint.cols, uniform: w.at.uniform, val: joint}, nil
}

func (l *lower) pool(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	win, err := c.poolWindow(w.dims)
	if err != nil {
		return nil, err
	}
	if w.axis > 0 || len(c.node.Out) > 1 && c.node.Out[1] != "" {
		return nil, errors.New("pooling over rows, or the places of the greatest elements, are not supported")
	}
	size, positions, taps := count(win.in), count(win.out), count(win.kernel)
	planes := w.perRow() / size
	greatest := c.node.Op == "MaxPool" || c.node.Op == "GlobalMaxPool"
	sets := make([][]int32, 0, planes*positions)
	for p := range planes {
		for o := range positions {
			set := make([]int32, 0, taps)
			for _, at := range win.at[o*taps : (o+1)*taps] {
				if at >= 0 {
					set = append(set, w.cols[p*size+int(at)])
				}
			}
			sets = append(sets, set)
		}
	}
	dims := slices.Concat(w.dims[:2], win.out)
	if greatest {
		return l.greatest(w, sets, taps, dims, w.axis)
	}
	divide := c.node.intAttr("count_include_pad", 0) != 0
	return l.sums(w, sets, taps, dims, w.axis, func(n int) float64 {
		if divide {
			n = taps
		}
		return 1 / float64(n)
	})
}

// greatest is the greatest of each set of columns; sets of less than size
// columns repeat one.
func (l *lower) greatest(w *wire, sets [][]int32, size int, dims []int, ax int) ([]*wire, error) {
	cols := make([]int32, 0, len(sets)*size)
	for _, s := range sets {
		if len(s) == 0 {
			return nil, errors.New("a window that lies in the padding alone")
		}
		cols = append(cols, s...)
		for range size - len(s) {
			cols = append(cols, s[0])
		}
	}
	if len(cols) > exact.MaxCols {
		return nil, fmt.Errorf("windows of %d elements together, at most %d", len(cols), exact.MaxCols)
	}
	x := *w
	x.cols = cols
	v, at, err := l.whole(&x, want{maxFrac, actBits, false})
	if err != nil {
		return nil, err
	}
	v = l.arranged(v, at)
	y := &value{v: l.op(exact.BlockMax, v, nil, int64(len(sets))), cols: len(sets), frac: v.frac, lo: v.lo, hi: v.hi}
	return []*wire{fresh(y, dims, ax, w.row, w.at.uniform, 0)}, nil
}

// whole is own without making only some columns of a product, which would make
// those that occur twice twice.
func (l *lower) whole(w *wire, need want) (*value, []int32, error) {
	x := *w
	x.cols = columns(w.at.cols)
	v, _, err := l.own(&x, need)
	return v, w.cols, err
}

// sums is the sum of each set of columns times a factor of its number.
func (l *lower) sums(w *wire, sets [][]int32, size int, dims []int, ax int, factor func(n int) float64) ([]*wire, error) {
	cols := make([]int32, 0, len(sets)*size)
	scale := make([]float64, len(sets))
	for i, s := range sets {
		if len(s) == 0 {
			return nil, errors.New("a window that lies in the padding alone")
		}
		scale[i] = factor(len(s))
		cols = append(cols, s...)
		for range size - len(s) {
			cols = append(cols, -1)
		}
	}
	if len(cols) > exact.MaxCols {
		return nil, fmt.Errorf("windows of %d elements together, at most %d", len(cols), exact.MaxCols)
	}
	if w.at.lin != nil {
		v, own, err := l.whole(w, want{maxFrac, actBits, false})
		if err != nil {
			return nil, err
		}
		x := fresh(v, w.dims, w.axis, w.row, w.at.uniform, l.peakOf(w))
		x.cols = own
		w = x
	}
	least := slices.Min(scale)
	at, err := l.weighted(w, cols, len(sets), size, 1, slices.Repeat([]float64{least}, size), nil)
	if err != nil {
		return nil, err
	}
	out := &wire{dims: dims, axis: ax, row: w.row, at: at, cols: columns(at.cols)}
	if allEqual(scale) {
		return []*wire{out}, nil
	}
	for i := range scale {
		scale[i] /= least
	}
	at.peak = l.peakOf(w) // by the least factor no sum is more than a mean
	out, err = l.columnwise(out, scale, make([]float64, len(scale)))
	return []*wire{out}, err
}

func (l *lower) batchNorm(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	if len(w.dims) < 2 || w.axis == 1 {
		return nil, fmt.Errorf("of shape %v", w.dims)
	}
	f, g, err := c.batchFactors(w.dims[1])
	if err != nil {
		return nil, err
	}
	per := w.perRow()
	inner := count(w.dims[2:])
	if w.axis > 1 {
		inner /= w.dims[w.axis]
	}
	factor, addend := make([]float64, per), make([]float64, per)
	for i := range factor {
		k := i / inner % w.dims[1]
		factor[i], addend[i] = f[k], g[k]
	}
	out, err := l.columnwise(w, factor, addend)
	return []*wire{out}, err
}

// norm is LayerNormalization, RMSNormalization or LpNormalization.
func (l *lower) norm(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", -1), len(w.dims))
	if err != nil {
		return nil, err
	}
	d := count(w.dims[a:])
	if w.axis >= a || d != w.perRow() {
		return nil, fmt.Errorf("it normalises %d of the %d elements of a row: only whole rows are supported", d, w.perRow())
	}
	op := c.node.Op
	frac := fracFor(l.peakOf(w), 18, maxFrac)
	if f, ok := l.group[c.node.In[0]]; ok {
		frac = f
	}
	x, err := l.canonical(w, want{frac, 29, true})
	if err != nil {
		return nil, err
	}
	// The squares must not leave 2^53, for the bound of exact.Check.
	for bits := 24; ; bits-- {
		most := float64(x.hi - x.lo + 1)
		if op != "LayerNormalization" {
			most = float64(x.max())
		}
		if most*most*float64(d) < 1<<52 && most < 1<<23 {
			break
		}
		f := fracFor(l.peakOf(w), bits, x.frac)
		if x, err = l.requantised(x, f, bits); err != nil {
			return nil, err
		}
	}
	eps := c.node.floatAttr("epsilon", 1e-5)
	table, scale, out := []int32(nil), 0, normFrac
	kind, peak := exact.RMSNorm, math.Sqrt(float64(d))
	switch op {
	case "LpNormalization":
		table, scale = quantise.InverseLengths()
		eps, out, peak = 0, 14, 1
	case "LayerNormalization":
		kind = exact.LayerNorm
		fallthrough
	default:
		table, scale = quantise.InverseRoots(d)
	}
	e := math.Floor(math.Ldexp(eps*float64(d), 2*x.frac) + 0.5)
	if e >= 1<<40 {
		return nil, fmt.Errorf("an epsilon of %g is too large for a value of up to %g", eps, l.peakOf(w))
	}
	y := &value{cols: d, frac: out}
	y.v = l.op(kind, x, []int{l.prog.Const(1, len(table), table)}, max(1<<14, int64(e)), int64(scale-out))
	// As exact.Check bounds it, generously.
	y.hi = int64(math.Ldexp(peak*1.02, out)) + int64(1)<<max(0, 27-(scale-out)) + 2
	y.lo = -y.hi
	r := fresh(y, w.dims, w.axis, w.row, w.at.uniform, 0)
	if !c.has(1) {
		return []*wire{r}, nil
	}
	r.at.peak = peak
	gain, bias := make([]float64, d), make([]float64, d)
	for i, to := range [][]float64{gain, bias} {
		t := l.constant(c, i+1)
		if t == nil {
			if c.has(i + 1) {
				return nil, errors.New("its scale and bias must be constant")
			}
			continue
		}
		if t.Len() != d {
			return nil, fmt.Errorf("%d constants for %d elements", t.Len(), d)
		}
		for j := range to {
			to[j] = t.number(j)
		}
	}
	z, err := l.columnwise(r, gain, bias)
	return []*wire{z}, err
}

func (l *lower) reduce(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	over, err := c.axes(len(w.dims))
	if err != nil {
		return nil, err
	}
	keep := c.node.intAttr("keepdims", 1) != 0
	dims, into := reduced(w.dims, over, keep)
	if w.axis >= 0 && over[w.axis] {
		return l.overRows(c, w, over, dims)
	}
	// Where rows lie afterwards.
	ax := w.axis
	if ax >= 0 && !keep {
		for i := range w.axis {
			if over[i] {
				ax--
			}
		}
	}
	n := count(dims)
	if ax >= 0 {
		n /= dims[ax]
	}
	sets := make([][]int32, n)
	codes, width := w.codes(), w.at.cols+1
	inner := count(dims)
	if ax >= 0 {
		inner = count(dims[ax+1:])
	}
	for i, k := range into {
		within := k
		if ax >= 0 {
			if k/inner%dims[ax] != 0 {
				continue // another row, where it is the same
			}
			within = k/(dims[ax]*inner)*inner + k%inner
		}
		sets[within] = append(sets[within], int32(codes[i]%width-1))
	}
	size := 0
	for _, s := range sets {
		size = max(size, len(s))
	}
	switch c.node.Op {
	case "ReduceMax":
		return l.greatest(w, sets, size, dims, ax)
	case "ReduceMin":
		out, err := l.greatest(w.with(w.f.then(-1, 0)), sets, size, dims, ax)
		if err != nil {
			return nil, err
		}
		out[0].at.peak = l.peakOf(w)
		return []*wire{out[0].with(out[0].f.then(-1, 0))}, nil
	case "ReduceSum":
		return l.sums(w, sets, size, dims, ax, func(int) float64 { return 1 })
	}
	return l.sums(w, sets, size, dims, ax, func(n int) float64 { return 1 / float64(n) })
}

// overRows is the mean, or the sum, over all rows.
func (l *lower) overRows(c *call, w *wire, over []bool, dims []int) ([]*wire, error) {
	for a := range over {
		if a != w.axis && over[a] && w.dims[a] != 1 {
			return nil, errors.New("a mean over rows and columns at once: use two, one after the other")
		}
	}
	if c.node.Op == "ReduceMax" || c.node.Op == "ReduceMin" {
		return nil, errors.New("the greatest of all rows is not supported, only their mean")
	}
	bits := actBits
	for int64(l.prog.Rows)<<(bits-1) >= exact.Limit {
		bits--
	}
	v, err := l.canonical(w, want{maxFrac, bits, false})
	if err != nil {
		return nil, err
	}
	y := &value{v: l.op(exact.MeanRows, v, nil), cols: v.cols, frac: v.frac, lo: v.lo, hi: v.hi}
	x := fresh(y, dims, -1, 0, true, l.peakOf(w))
	if c.node.Op == "ReduceSum" {
		// The mean, as a sum. If fewer rows are run, their mean counts.
		x.f = x.f.then(float64(l.rows), 0)
	}
	return []*wire{x}, nil
}

func (l *lower) argMax(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(w.dims))
	if err != nil {
		return nil, err
	}
	if a == w.axis || w.dims[a] != w.perRow() {
		return nil, fmt.Errorf("over %d of the %d elements of a row: only whole rows are supported", w.dims[a], w.perRow())
	}
	over := make([]bool, len(w.dims))
	over[a] = true
	keep := c.node.intAttr("keepdims", 1) != 0
	dims, _ := reduced(w.dims, over, keep)
	ax := w.axis
	if ax > a && !keep {
		ax--
	}
	return l.best(w, dims, ax)
}

func (l *lower) best(w *wire, dims []int, ax int) ([]*wire, error) {
	v, err := l.canonical(w, want{maxFrac, outBits, false})
	if err != nil {
		return nil, err
	}
	y := &value{v: l.op(exact.ArgMax, v, nil), cols: 1, hi: int64(v.cols - 1)}
	return []*wire{fresh(y, dims, ax, w.row, w.at.uniform, float64(max(1, v.cols-1)))}, nil
}
