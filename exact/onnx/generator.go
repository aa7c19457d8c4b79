package onnx

import (
	"errors"
	"math"
)

func shapeOf(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	clamp := func(name string, def int) int {
		a := c.node.intAttr(name, int64(def))
		if a < 0 {
			a += int64(len(x.Dims))
		}
		return int(max(0, min(a, int64(len(x.Dims)))))
	}
	from, to := clamp("start", 0), clamp("end", len(x.Dims))
	out, err := c.new(Int64, []int{max(0, to-from)})
	if err != nil {
		return nil, err
	}
	for i := range out.I {
		out.I[i] = int64(x.Dims[from+i])
	}
	return []*Tensor{out}, nil
}

func constant(c *call) ([]*Tensor, error) {
	for _, a := range c.node.Attrs {
		switch a.Type {
		case AttrTensor:
			return []*Tensor{a.T}, nil
		case AttrFloat:
			return []*Tensor{{Type: Float, F: []float32{a.F}}}, nil
		case AttrInt:
			return []*Tensor{{Type: Int64, I: []int64{a.I}}}, nil
		case AttrFloats:
			return []*Tensor{{Type: Float, Dims: []int{len(a.Floats)}, F: a.Floats}}, nil
		case AttrInts:
			return []*Tensor{{Type: Int64, Dims: []int{len(a.Ints)}, I: a.Ints}}, nil
		}
	}
	return nil, errors.New("it holds no value that can be read")
}

func constantOfShape(c *call) ([]*Tensor, error) {
	dims, err := c.ints(0)
	if err != nil {
		return nil, err
	}
	size, err := sizes(dims)
	if err != nil {
		return nil, err
	}
	v := &Tensor{Type: Float, F: []float32{0}}
	if a, ok := c.node.attr("value"); ok && a.T != nil && a.T.Len() == 1 {
		v = a.T
	}
	out, err := c.new(v.Type, size)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = v.F[0]
	}
	for i := range out.I {
		out.I[i] = v.I[0]
	}
	return []*Tensor{out}, nil
}

func rangeOf(c *call) ([]*Tensor, error) {
	var v [3]*Tensor
	for i := range v {
		t, err := c.operand(i)
		if err != nil {
			return nil, err
		}
		if t.Len() != 1 {
			return nil, errors.New("want three numbers")
		}
		v[i] = t
	}
	from, to, step := v[0].number(0), v[1].number(0), v[2].number(0)
	n := math.Ceil((to - from) / step)
	if !(n < maxDim) {
		return nil, errors.New("too many numbers")
	}
	out, err := c.new(v[0].Type, []int{max(0, int(n))})
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(from + float64(i)*step)
	}
	for i := range out.I {
		out.I[i] = int64(from) + int64(i)*int64(step)
	}
	return []*Tensor{out}, nil
}

func trilu(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	k := int64(0)
	if c.has(1) {
		v, err := c.ints(1)
		if err != nil || len(v) != 1 {
			return nil, errors.New("want one diagonal")
		}
		k = v[0]
	}
	r := len(x.Dims)
	if r < 2 {
		return nil, errors.New("want a matrix")
	}
	out, err := c.new(x.Type, x.Dims)
	if err != nil {
		return nil, err
	}
	upper := c.node.intAttr("upper", 1) != 0
	rows, cols := x.Dims[r-2], x.Dims[r-1]
	for e := range x.Len() {
		i, j := int64(e/cols%rows), int64(e%cols)
		if upper && j-i >= k || !upper && j-i <= k {
			out.copy(e, x, e)
		}
	}
	return []*Tensor{out}, nil
}

// nonZero lists the places of what is not zero, a row for each dimension.
func nonZero(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	var at []int
	for i := range x.Len() {
		if x.number(i) != 0 {
			at = append(at, i)
		}
	}
	out, err := c.new(Int64, []int{len(x.Dims), len(at)})
	if err != nil {
		return nil, err
	}
	for a, stride := range strides(x.Dims) {
		for j, i := range at {
			out.I[a*len(at)+j] = int64(i / stride % x.Dims[a])
		}
	}
	return []*Tensor{out}, nil
}
