package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
)

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
	peak, norm := magnitudes(weights, n, 1)
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

// unbatched is a batch of one matrix as that matrix.
func (t *Tensor) unbatched() *Tensor {
	x := *t
	for len(x.Dims) > 2 && x.Dims[0] == 1 {
		x.Dims = x.Dims[1:]
	}
	return &x
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
		tb = tb.unbatched()
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
	ta = ta.unbatched()
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
