package onnx

import (
	"errors"
	"fmt"
	"slices"
)

func matMul(c *call) ([]*Tensor, error) {
	a, err := c.float(0)
	if err != nil {
		return nil, err
	}
	b, err := c.float(1)
	if err != nil {
		return nil, err
	}
	da, db := a.Dims, b.Dims
	if len(da) == 0 || len(db) == 0 {
		return nil, errors.New("an operand is a single number")
	}
	if len(da) == 1 {
		da = []int{1, da[0]}
	}
	if len(db) == 1 {
		db = []int{db[0], 1}
	}
	m, k, n := da[len(da)-2], da[len(da)-1], db[len(db)-1]
	if db[len(db)-2] != k {
		return nil, fmt.Errorf("shapes %v and %v do not multiply", a.Dims, b.Dims)
	}
	ba, bb := da[:len(da)-2], db[:len(db)-2]
	batch, err := broadcast(ba, bb)
	if err != nil {
		return nil, err
	}
	dims := slices.Concat(batch, []int{m, n})
	out, err := c.new(Float, dims)
	if err != nil {
		return nil, err
	}
	if err := c.spend(out.Len() * k); err != nil {
		return nil, err
	}
	sa, sb := spread(ba, batch), spread(bb, batch)
	for i := range sa {
		product(out.F[i*m*n:(i+1)*m*n], a.F[sa[i]*m*k:], b.F[sb[i]*k*n:], m, k, n)
	}
	// A vector's added dimension goes again.
	if len(b.Dims) == 1 {
		out.Dims = out.Dims[:len(out.Dims)-1]
	}
	if len(a.Dims) == 1 {
		at := len(batch)
		out.Dims = slices.Delete(out.Dims, at, at+1)
	}
	return []*Tensor{out}, nil
}

// product adds a times b, [m][k] and [k][n], to out.
func product(out, a, b []float32, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		for j, x := range a[i*k : (i+1)*k] {
			if x == 0 {
				continue
			}
			for l, y := range b[j*n : (j+1)*n] {
				row[l] += x * y
			}
		}
	}
}

func transposed(x []float32, rows, cols int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}

// gemmParts are a Gemm's second factor and addend with everything applied, so
// that the result is x times w plus b. transA is refused.
func (c *call) gemmParts() (w []float32, k, n int, bias *Tensor, beta float32, err error) {
	if c.node.intAttr("transA", 0) != 0 {
		return nil, 0, 0, nil, 0, errors.New("transA is not supported")
	}
	b, err := c.float(1)
	if err != nil {
		return nil, 0, 0, nil, 0, err
	}
	if len(b.Dims) != 2 {
		return nil, 0, 0, nil, 0, fmt.Errorf("second operand of shape %v", b.Dims)
	}
	if b.F == nil && b.Len() > 0 {
		return nil, 0, 0, nil, 0, errors.New("its second operand must be constant: use MatMul for products of two values")
	}
	k, n, w = b.Dims[0], b.Dims[1], b.F
	if c.node.intAttr("transB", 0) != 0 {
		if err := c.hold(len(w)); err != nil {
			return nil, 0, 0, nil, 0, err
		}
		w = transposed(w, k, n)
		k, n = n, k
	}
	if alpha := float32(c.node.floatAttr("alpha", 1)); alpha != 1 {
		w = slices.Clone(w)
		for i := range w {
			w[i] *= alpha
		}
	}
	if c.has(2) {
		if bias, err = c.float(2); err != nil {
			return nil, 0, 0, nil, 0, err
		}
	}
	return w, k, n, bias, float32(c.node.floatAttr("beta", 1)), nil
}

func gemm(c *call) ([]*Tensor, error) {
	a, err := c.float(0)
	if err != nil {
		return nil, err
	}
	w, k, n, bias, beta, err := c.gemmParts()
	if err != nil {
		return nil, err
	}
	if len(a.Dims) != 2 || a.Dims[1] != k {
		return nil, fmt.Errorf("first operand of shape %v for %d", a.Dims, k)
	}
	m := a.Dims[0]
	out, err := c.new(Float, []int{m, n})
	if err != nil {
		return nil, err
	}
	if err := c.spend(m * k * n); err != nil {
		return nil, err
	}
	product(out.F, a.F, w, m, k, n)
	if bias != nil {
		if dims, err := broadcast(out.Dims, bias.Dims); err != nil || !slices.Equal(dims, out.Dims) {
			return nil, fmt.Errorf("addend of shape %v", bias.Dims)
		}
		for i, at := range spread(bias.Dims, out.Dims) {
			out.F[i] += beta * bias.F[at]
		}
	}
	return []*Tensor{out}, nil
}
