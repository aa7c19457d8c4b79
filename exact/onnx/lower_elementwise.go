package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

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
	ax := max(a.axisIn(dims), b.axisIn(dims))
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
	if i, bad := findElement(other, infinite); bad {
		return nil, fmt.Errorf("the constant %q: element %d is %g, which only masks of attention may be", c.node.In[3-pick], i, other.F[i])
	}
	ax := w.axisIn(dims)
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
