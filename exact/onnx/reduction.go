package onnx

import (
	"errors"
	"math"
	"slices"
)

// axes are those that a reduction goes over, as a set.
func (c *call) axes(rank int) ([]bool, error) {
	list, err := c.list(1, "axes")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && c.node.intAttr("noop_with_empty_axes", 0) == 0 {
		return slices.Repeat([]bool{true}, rank), nil
	}
	return axisSet(list, rank)
}

// reduced is the shape after a reduction, and for each element before it the
// element it goes into.
func reduced(dims []int, over []bool, keep bool) (out []int, into []int) {
	kept := slices.Clone(dims)
	for i := range kept {
		if over[i] {
			kept[i] = 1
		}
	}
	into = make([]int, 0, count(dims))
	walk(dims, stretched(kept, dims), func(at int) { into = append(into, at) })
	if keep {
		return kept, into
	}
	for i, d := range dims {
		if !over[i] {
			out = append(out, d)
		}
	}
	return out, into
}

func reduce(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	over, err := c.axes(len(x.Dims))
	if err != nil {
		return nil, err
	}
	dims, into := reduced(x.Dims, over, c.node.intAttr("keepdims", 1) != 0)
	out, err := c.new(x.Type, dims)
	if err != nil {
		return nil, err
	}
	if err := c.spend(x.Len()); err != nil {
		return nil, err
	}
	acc := make([]float64, out.Len())
	for i := range acc {
		switch c.node.Op {
		case "ReduceMax":
			acc[i] = math.Inf(-1)
		case "ReduceMin":
			acc[i] = math.Inf(1)
		}
	}
	for i, k := range into {
		switch v := x.number(i); c.node.Op {
		case "ReduceMax":
			acc[k] = math.Max(acc[k], v)
		case "ReduceMin":
			acc[k] = math.Min(acc[k], v)
		case "ReduceL2":
			acc[k] += v * v
		default:
			acc[k] += v
		}
	}
	n := float64(max(1, x.Len())) / float64(max(1, len(acc)))
	for i, v := range acc {
		switch c.node.Op {
		case "ReduceMean":
			v /= n
		case "ReduceL2":
			v = math.Sqrt(v)
		}
		if out.Type.IsFloat() {
			out.F[i] = float32(v)
		} else {
			out.I[i] = int64(v)
		}
	}
	return []*Tensor{out}, nil
}

func argMax(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(x.Dims))
	if err != nil {
		return nil, err
	}
	if c.node.intAttr("select_last_index", 0) != 0 {
		return nil, errors.New("select_last_index is not supported: the first of equal elements is taken")
	}
	over := make([]bool, len(x.Dims))
	over[a] = true
	if x.Dims[a] == 0 {
		return nil, errors.New("of nothing")
	}
	dims, _ := reduced(x.Dims, over, c.node.intAttr("keepdims", 1) != 0)
	out, err := c.new(Int64, dims)
	if err != nil {
		return nil, err
	}
	k := 0
	along(x.Dims, a, func(at, step, n int) {
		best := 0
		for i := range n {
			if x.number(at+i*step) > x.number(at+best*step) {
				best = i
			}
		}
		out.I[k] = int64(best)
		k++
	})
	return []*Tensor{out}, nil
}
