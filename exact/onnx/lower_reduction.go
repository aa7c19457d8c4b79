package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
)

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
	place := byRow(dims, ax)
	for i, k := range into {
		row, within := place(k)
		if row > 0 {
			continue // where it is the same
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
