package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

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
				data[j] = int32(fixed(v, frac))
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
	peak := greatest(table)
	out := c.node.Out[0]
	frac, ok := l.group[out]
	if !ok {
		frac = fracFor(peak, actBits, maxFrac)
	}
	data := make([]int32, len(table.F))
	y := &value{cols: cols, frac: frac}
	for i, v := range table.F {
		x := fixed(float64(v), frac)
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
