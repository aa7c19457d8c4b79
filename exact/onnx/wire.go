package onnx

import (
	"fmt"

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

// fresh is a wire to all columns of a value, in order.
func fresh(v *value, dims []int, axis, row int, uniform bool, peak float64) *wire {
	return &wire{dims: dims, axis: axis, row: row, at: &atom{cols: v.cols, uniform: uniform, peak: peak, val: v}, cols: columns(v.cols)}
}

// with is the wire with another function.
func (w *wire) with(f *function) *wire {
	x := *w
	x.f = f
	return &x
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

// axisIn is the dimension that rows lie along if the tensor is stretched to a
// shape.
func (w *wire) axisIn(dims []int) int {
	if w.axis < 0 {
		return -1
	}
	return w.axis + len(dims) - len(w.dims)
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
	place := byRow(w.dims, w.axis)
	for i := range out {
		row, within := place(i)
		if w.axis < 0 {
			row = w.row
		}
		out[i] = row*width + int(w.cols[within]) + 1
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
		place := byRow(dims, a)
		cols := make([]int32, len(at)/d)
		ok := true
		for i, c := range at {
			col := int32(-1)
			r, within := place(i)
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
