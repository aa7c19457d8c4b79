package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
)

// aligned are the columns of a wire stretched to a shape whose rows lie along
// the given axis (-1: one row).
func (l *lower) aligned(w *wire, dims []int, ax int) ([]int32, error) {
	own := w.axisIn(dims)
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
	place := byRow(dims, ax)
	out := make([]int32, count(dims)/rows)
	width := w.at.cols + 1
	codes := w.codes()
	for i, k := range spread(w.dims, dims) {
		col := int32(codes[k]%width - 1)
		r, within := place(i)
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
	rows = make([][]float64, n)
	for r := range rows {
		rows[r] = make([]float64, 0, count(dims)/n)
	}
	place := byRow(dims, ax)
	for i, k := range spread(t.Dims, dims) {
		r, _ := place(i)
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

// withConstant combines a wire with a constant, which comes first if so said.
func (l *lower) withConstant(c *call, w *wire, t *Tensor, first bool, dims []int) ([]*wire, error) {
	op := c.node.Op
	f := binaries[op]
	if w.at.scores != nil {
		return l.scoresWith(op, w, t, first, dims)
	}
	name := c.node.In[1]
	if first {
		name = c.node.In[0]
	}
	if i, bad := findElement(t, infinite); bad && op != "Min" && op != "Max" {
		return nil, fmt.Errorf("the constant %q: element %d is %g, which only masks of attention and limits may be", name, i, t.F[i])
	}
	ax := w.axisIn(dims)
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
				x := fixed(e, frac)
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
