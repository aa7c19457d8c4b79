package onnx

import (
	"fmt"
)

// axis brings an axis into [0, rank).
func axis(a int64, rank int) (int, error) {
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d of %d dimensions", a, rank)
	}
	return int(a), nil
}

// axisSet says of every dimension whether it is in a list of axes.
func axisSet(list []int64, rank int) ([]bool, error) {
	set := make([]bool, rank)
	for _, v := range list {
		a, err := axis(v, rank)
		if err != nil {
			return nil, err
		}
		set[a] = true
	}
	return set, nil
}

// strides are the distances of neighbours in each dimension, row-major.
func strides(dims []int) []int {
	s := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

// walk calls f for each index of dims in order, with the sum of index times
// stride.
func walk(dims, stride []int, f func(at int)) {
	if count(dims) == 0 {
		return
	}
	index := make([]int, len(dims))
	at := 0
	for {
		f(at)
		k := len(dims) - 1
		for ; k >= 0; k-- {
			index[k]++
			at += stride[k]
			if index[k] < dims[k] {
				break
			}
			at -= stride[k] * index[k]
			index[k] = 0
		}
		if k < 0 {
			return
		}
	}
}

// broadcast is the shape of two operands combined element by element.
func broadcast(a, b []int) ([]int, error) {
	n := max(len(a), len(b))
	out := make([]int, n)
	for i := range out {
		x, y := 1, 1
		if k := i - (n - len(a)); k >= 0 {
			x = a[k]
		}
		if k := i - (n - len(b)); k >= 0 {
			y = b[k]
		}
		if x != y && x != 1 && y != 1 {
			return nil, fmt.Errorf("shapes %v and %v do not go together", a, b)
		}
		if out[i] = x; x == 1 {
			out[i] = y
		}
	}
	return out, nil
}

// stretched are the strides of a tensor of shape dims seen as one of shape
// out.
func stretched(dims, out []int) []int {
	own := strides(dims)
	s := make([]int, len(out))
	for i, d := range dims {
		if d != 1 {
			s[len(out)-len(dims)+i] = own[i]
		}
	}
	return s
}

// spread is, for each element of shape out, the element of a tensor of shape
// dims that stands there.
func spread(dims, out []int) []int {
	at := make([]int, 0, count(out))
	walk(out, stretched(dims, out), func(i int) { at = append(at, i) })
	return at
}

// byRow tells of the elements of a tensor whose rows lie along a dimension (-1:
// it lies within one row) which row they are in, and where in it.
func byRow(dims []int, ax int) func(i int) (row, within int) {
	if ax < 0 {
		return func(i int) (int, int) { return 0, i }
	}
	rows, inner := dims[ax], count(dims[ax+1:])
	return func(i int) (int, int) { return i / inner % rows, i/(rows*inner)*inner + i%inner }
}

// next goes to the next index, row-major.
func next(index, dims []int) {
	for k := len(dims) - 1; k >= 0; k-- {
		if index[k]++; index[k] < dims[k] {
			return
		}
		index[k] = 0
	}
}

// along calls f with the elements of each line of x along an axis: the first
// one's place, the distance and the number.
func along(dims []int, a int, f func(at, step, n int)) {
	step := count(dims[a+1:])
	n := dims[a]
	for o := range count(dims[:a]) {
		for i := range step {
			f(o*n*step+i, step, n)
		}
	}
}
