package onnx

import (
	"errors"
	"fmt"
	"slices"
)

// moved is a result whose elements are elements of the operands: element i is
// element from[i] of all data operands, one after another, or zero where
// from[i] is -1.
type moved struct {
	dims []int
	from []int
}

// movements are the operators that only move elements. Their data operands
// need have no elements, only dimensions; the others must be constant.
var movements = map[string]func(*call) ([]moved, error){
	"Identity": moveNothing, "Dropout": moveNothing, "Transpose": transpose, "Reshape": reshape, "Flatten": flatten,
	"Squeeze": squeeze, "Unsqueeze": unsqueeze, "Slice": slice, "Split": split, "Concat": concat, "Gather": gather,
	"Expand": expand, "Pad": pad, "Tile": tile, "ZipMap": moveNothing,
}

// dataOperands are the operands of a movement whose elements move.
func (c *call) dataOperands() []*Tensor {
	if c.node.Op == "Concat" {
		return c.in
	}
	return c.in[:min(1, len(c.in))]
}

func evalMove(c *call) ([]*Tensor, error) {
	data := c.dataOperands()
	if len(data) == 0 {
		return nil, errors.New("no operand")
	}
	for i, t := range data {
		if t == nil {
			return nil, fmt.Errorf("operand %d is missing", i)
		}
		if t.Type.IsFloat() != data[0].Type.IsFloat() {
			return nil, errors.New("operands are of different types")
		}
	}
	results, err := movements[c.node.Op](c)
	if err != nil {
		return nil, err
	}
	out := make([]*Tensor, len(results))
	for k, r := range results {
		if out[k], err = c.new(data[0].Type, r.dims); err != nil {
			return nil, err
		}
		t, base := 0, 0
		for i, from := range r.from {
			if from < 0 {
				continue
			}
			// Neighbours usually come from the same operand.
			for from < base {
				t--
				base -= data[t].Len()
			}
			for from >= base+data[t].Len() {
				base += data[t].Len()
				t++
			}
			out[k].copy(i, data[t], from-base)
		}
	}
	return out, nil
}

// inOrder is all elements in their order in another shape.
func (c *call) inOrder(n int, dims []int) ([]moved, error) {
	if count(dims) != n {
		return nil, fmt.Errorf("%d elements do not fit %v", n, dims)
	}
	if err := c.hold(n); err != nil {
		return nil, err
	}
	from := make([]int, n)
	for i := range from {
		from[i] = i
	}
	return []moved{{dims, from}}, nil
}

// strided is elements of operand 0 by strides, from one on.
func (c *call) strided(dims, stride []int, first int) ([]moved, error) {
	for _, d := range dims {
		if d < 0 || d > maxDim {
			return nil, fmt.Errorf("dimensions %v", dims)
		}
	}
	if n := count(dims); n < 0 || n > maxDim {
		return nil, fmt.Errorf("dimensions %v", dims)
	}
	if err := c.hold(count(dims)); err != nil {
		return nil, err
	}
	from := make([]int, 0, count(dims))
	walk(dims, stride, func(at int) { from = append(from, first+at) })
	return []moved{{dims, from}}, nil
}

func moveNothing(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	return c.inOrder(x.Len(), x.Dims)
}

func transpose(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	perm := c.node.intsAttr("perm")
	if perm == nil {
		for i := range x.Dims {
			perm = append(perm, int64(len(x.Dims)-1-i))
		}
	}
	own := strides(x.Dims)
	dims, stride := make([]int, len(perm)), make([]int, len(perm))
	seen := make([]bool, len(x.Dims))
	for i, a := range perm {
		k, err := axis(a, len(x.Dims))
		if err != nil || len(perm) != len(x.Dims) || seen[k] {
			return nil, fmt.Errorf("permutation %v of %d dimensions", perm, len(x.Dims))
		}
		seen[k] = true
		dims[i], stride[i] = x.Dims[k], own[k]
	}
	return c.strided(dims, stride, 0)
}

func reshape(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	want, err := c.list(1, "shape")
	if err != nil {
		return nil, err
	}
	if len(want) > maxRank {
		return nil, fmt.Errorf("to %d dimensions", len(want))
	}
	dims := make([]int, len(want))
	free, n := -1, 1
	for i, d := range want {
		switch {
		case d == -1 && free < 0:
			free = i
			continue
		case d == 0 && c.node.intAttr("allowzero", 0) == 0 && i < len(x.Dims):
			d = int64(x.Dims[i])
		}
		if d < 0 || d > maxDim {
			return nil, fmt.Errorf("to %v", want)
		}
		dims[i] = int(d)
		if n *= dims[i]; n > maxDim {
			return nil, fmt.Errorf("to %v", want)
		}
	}
	if free >= 0 {
		if n == 0 || x.Len()%n != 0 {
			return nil, fmt.Errorf("%v to %v", x.Dims, want)
		}
		dims[free] = x.Len() / n
	}
	return c.inOrder(x.Len(), dims)
}

func flatten(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	a := c.node.intAttr("axis", 1)
	if a < 0 {
		a += int64(len(x.Dims))
	}
	if a < 0 || a > int64(len(x.Dims)) {
		return nil, fmt.Errorf("axis %d of %d dimensions", a, len(x.Dims))
	}
	return c.inOrder(x.Len(), []int{count(x.Dims[:a]), count(x.Dims[a:])})
}

func squeeze(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	list, err := c.list(1, "axes")
	if err != nil {
		return nil, err
	}
	gone, err := axisSet(list, len(x.Dims))
	if err != nil {
		return nil, err
	}
	var dims []int
	for i, d := range x.Dims {
		if gone[i] && d != 1 {
			return nil, fmt.Errorf("dimension %d of %v is not 1", i, x.Dims)
		}
		if !gone[i] && (d != 1 || len(list) > 0) {
			dims = append(dims, d)
		}
	}
	return c.inOrder(x.Len(), dims)
}

func unsqueeze(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	list, err := c.list(1, "axes")
	if err != nil {
		return nil, err
	}
	rank := len(x.Dims) + len(list)
	if rank > maxRank {
		return nil, fmt.Errorf("to %d dimensions", rank)
	}
	dims := make([]int, rank)
	for _, v := range list {
		a, err := axis(v, rank)
		if err != nil || dims[a] == 1 {
			return nil, fmt.Errorf("axes %v", list)
		}
		dims[a] = 1
	}
	k := 0
	for i := range dims {
		if dims[i] == 0 {
			dims[i] = x.Dims[k]
			k++
			// A dimension of zero elements stays; it is not asked again.
		}
	}
	return c.inOrder(x.Len(), dims)
}

func slice(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	var lists [4][]int64
	for i, name := range []string{"starts", "ends", "axes", "steps"} {
		if lists[i], err = c.list(i+1, name); err != nil {
			return nil, err
		}
	}
	starts, ends, list, steps := lists[0], lists[1], lists[2], lists[3]
	if list == nil {
		for i := range starts {
			list = append(list, int64(i))
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	if len(starts) != len(ends) || len(starts) != len(list) || len(starts) != len(steps) {
		return nil, errors.New("different numbers of starts, ends, axes and steps")
	}
	dims, stride, first := slices.Clone(x.Dims), strides(x.Dims), 0
	for i := range starts {
		a, err := axis(list[i], len(dims))
		if err != nil {
			return nil, err
		}
		n, step := int64(x.Dims[a]), steps[i]
		if step == 0 || step < -maxDim || step > maxDim {
			return nil, fmt.Errorf("a step of %d", step)
		}
		clamp := func(v, lo, hi int64) int64 {
			if v < 0 {
				v = max(v, -maxDim) + n
			}
			return max(lo, min(hi, v))
		}
		from, to := clamp(starts[i], 0, n), clamp(ends[i], 0, n)
		size := (to - from + step - 1) / step
		if step < 0 {
			from, to = clamp(starts[i], -1, n-1), clamp(ends[i], -1, n-1)
			size = (from - to - step - 1) / -step
		}
		dims[a] = int(max(0, size))
		first += int(from) * stride[a]
		stride[a] *= int(step)
	}
	return c.strided(dims, stride, first)
}

func split(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(x.Dims))
	if err != nil {
		return nil, err
	}
	parts, err := c.list(1, "split")
	if err != nil {
		return nil, err
	}
	if parts == nil {
		n := int64(len(c.node.Out))
		each := (int64(x.Dims[a]) + n - 1) / n
		for i := range n {
			parts = append(parts, max(0, min(each, int64(x.Dims[a])-i*each)))
		}
	}
	if len(parts) != len(c.node.Out) {
		return nil, fmt.Errorf("%d parts for %d results", len(parts), len(c.node.Out))
	}
	var out []moved
	own, from := strides(x.Dims), 0
	for _, size := range parts {
		if size < 0 || int64(from)+size > int64(x.Dims[a]) {
			return nil, fmt.Errorf("parts %v of %d", parts, x.Dims[a])
		}
		dims := slices.Clone(x.Dims)
		dims[a] = int(size)
		m, err := c.strided(dims, own, from*own[a])
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
		from += int(size)
	}
	if from != x.Dims[a] {
		return nil, fmt.Errorf("parts %v of %d", parts, x.Dims[a])
	}
	return out, nil
}

func concat(c *call) ([]moved, error) {
	first, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(first.Dims))
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(first.Dims)
	dims[a] = 0
	for _, t := range c.in {
		if len(t.Dims) != len(dims) {
			return nil, errors.New("operands of different rank")
		}
		for i, d := range t.Dims {
			if i != a && d != dims[i] {
				return nil, fmt.Errorf("shapes %v and %v do not join on axis %d", first.Dims, t.Dims, a)
			}
		}
		dims[a] += t.Dims[a]
	}
	if count(dims) > maxDim {
		return nil, fmt.Errorf("dimensions %v", dims)
	}
	if err := c.hold(count(dims)); err != nil {
		return nil, err
	}
	from := make([]int, 0, count(dims))
	for o := range count(dims[:a]) {
		base := 0
		for _, t := range c.in {
			n := count(t.Dims[a:])
			for i := range n {
				from = append(from, base+o*n+i)
			}
			base += t.Len()
		}
	}
	return []moved{{dims, from}}, nil
}

func gather(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	index, err := c.ints(1)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(x.Dims))
	if err != nil {
		return nil, err
	}
	dims := slices.Concat(x.Dims[:a], c.in[1].Dims, x.Dims[a+1:])
	if len(dims) > maxRank {
		return nil, fmt.Errorf("to %d dimensions", len(dims))
	}
	outer, inner, n := count(x.Dims[:a]), count(x.Dims[a+1:]), x.Dims[a]
	if err := c.hold(outer * inner * len(index)); err != nil {
		return nil, err
	}
	from := make([]int, 0, outer*inner*len(index))
	for o := range outer {
		for _, k := range index {
			if k < 0 {
				k += int64(n)
			}
			if k < 0 || k >= int64(n) {
				return nil, fmt.Errorf("index %d of %d", k, n)
			}
			for i := range inner {
				from = append(from, (o*n+int(k))*inner+i)
			}
		}
	}
	return []moved{{dims, from}}, nil
}

func expand(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	want, err := c.ints(1)
	if err != nil {
		return nil, err
	}
	size, err := sizes(want)
	if err != nil || len(size) > maxRank {
		return nil, fmt.Errorf("to %v", want)
	}
	dims, err := broadcast(x.Dims, size)
	if err != nil {
		return nil, err
	}
	return c.strided(dims, stretched(x.Dims, dims), 0)
}

func tile(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	times, err := c.ints(1)
	if err != nil {
		return nil, err
	}
	if len(times) != len(x.Dims) || len(times) > maxRank {
		return nil, fmt.Errorf("%v times %v", x.Dims, times)
	}
	// Each dimension becomes two, of which the first changes nothing.
	own := strides(x.Dims)
	var dims, stride, out []int
	for i, d := range x.Dims {
		if times[i] < 0 || times[i] > maxDim {
			return nil, fmt.Errorf("%v times %v", x.Dims, times)
		}
		dims, stride = append(dims, int(times[i]), d), append(stride, 0, own[i])
		out = append(out, int(times[i])*d)
		if count(out) > maxDim {
			return nil, fmt.Errorf("%v times %v", x.Dims, times)
		}
	}
	m, err := c.strided(dims, stride, 0)
	if err != nil {
		return nil, err
	}
	m[0].dims = out
	return m, nil
}

func pad(c *call) ([]moved, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	pads, err := c.list(1, "pads")
	if err != nil {
		return nil, err
	}
	if mode := c.node.stringAttr("mode", "constant"); mode != "constant" {
		return nil, fmt.Errorf("mode %q is not supported, only constant zeros", mode)
	}
	if c.has(2) && !(c.in[2].Len() == 1 && len(c.in[2].F)+len(c.in[2].I) == 1 && c.in[2].number(0) == 0) || c.node.floatAttr("value", 0) != 0 {
		return nil, errors.New("only padding with zeros is supported")
	}
	rank := len(x.Dims)
	which := make([]int, rank)
	for i := range which {
		which[i] = i
	}
	if c.has(3) {
		list, err := c.ints(3)
		if err != nil {
			return nil, err
		}
		which = which[:0]
		for _, v := range list {
			a, err := axis(v, rank)
			if err != nil {
				return nil, err
			}
			which = append(which, a)
		}
	}
	if len(pads) != 2*len(which) {
		return nil, fmt.Errorf("%d pads for %d dimensions", len(pads), len(which))
	}
	dims, before := slices.Clone(x.Dims), make([]int, rank)
	for i, a := range which {
		lo, hi := pads[i], pads[len(which)+i]
		if lo < -maxDim || lo > maxDim || hi < -maxDim || hi > maxDim {
			return nil, fmt.Errorf("pads %v", pads)
		}
		before[a] = int(lo)
		dims[a] += int(lo + hi)
	}
	all, err := c.strided(dims, make([]int, rank), 0)
	if err != nil {
		return nil, err
	}
	own, index := strides(x.Dims), make([]int, rank)
	for i := range all[0].from {
		at := 0
		for k, j := range index {
			if j -= before[k]; j < 0 || j >= x.Dims[k] {
				at = -1
				break
			} else {
				at += j * own[k]
			}
		}
		all[0].from[i] = at
		next(index, dims)
	}
	return all, nil
}
