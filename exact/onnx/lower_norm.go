package onnx

import (
	"errors"
	"fmt"
	"math"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

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
	e := fixed(eps*float64(d), 2*x.frac)
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

func (l *lower) softmax(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	a, rest, err := c.softmaxAxis(w.dims)
	if err != nil {
		return nil, err
	}
	if w.at.scores != nil {
		if a != len(w.dims)-1 || w.at.scores.soft {
			return nil, errors.New("a softmax of scores of attention over another dimension than keys")
		}
		s := *w.at.scores
		s.soft = true
		x := *w
		x.at = &atom{scores: &s}
		return []*wire{&x}, nil
	}
	n := w.dims[a]
	if rest {
		n = count(w.dims[a:])
	}
	if w.axis == a || rest && w.axis > a || n != w.perRow() {
		return nil, fmt.Errorf("over %d of the %d elements of a row: only over whole rows, or in attention", n, w.perRow())
	}
	y, err := l.soften(w)
	if err != nil {
		return nil, err
	}
	return []*wire{fresh(y, w.dims, w.axis, w.row, w.at.uniform, 1)}, nil
}

func (l *lower) soften(w *wire) (*value, error) {
	// Keys of the exponentials have 10 fractional bits.
	v, err := l.canonical(w, want{12, outBits, false})
	if err != nil {
		return nil, err
	}
	if v.frac < 0 {
		return nil, fmt.Errorf("values of up to %g are too large for a softmax", l.peakOf(w))
	}
	const frac = 14
	y, err := quantise.Softmax(l.prog, v.v, v.cols, v.frac, frac, v.max())
	if err != nil {
		return nil, err
	}
	return &value{v: y, cols: v.cols, frac: frac, lo: 0, hi: 1<<(frac+1) - 1}, nil
}
