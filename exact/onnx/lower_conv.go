package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

func (l *lower) conv(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	kernel := l.constant(c, 1)
	if kernel == nil || c.has(2) && l.constant(c, 2) == nil {
		return nil, errors.New("its weights must be constant")
	}
	groups := int(c.node.intAttr("group", 1))
	if err := convShape(w.dims, kernel.Dims, groups); err != nil {
		return nil, err
	}
	if w.axis > 0 {
		return nil, errors.New("a convolution over the rows is not supported: rows must be samples")
	}
	win, err := c.windowOf(w.dims, kernel.Dims[2:])
	if err != nil {
		return nil, err
	}
	batch, channels, made, per := w.dims[0], w.dims[1], kernel.Dims[0], kernel.Dims[1]
	if w.axis == 0 {
		batch = 1
	}
	size, positions, taps := count(win.in), count(win.out), count(win.kernel)
	// Groups are one group with zeros.
	k := channels * taps
	if k*made > 1<<26 {
		return nil, fmt.Errorf("a matrix of %d by %d", k, made)
	}
	places := batch * positions
	if k > exact.MaxCols || places > exact.MaxCols || places*made > exact.MaxCols {
		return nil, fmt.Errorf("%d places with %d inputs and %d outputs each: at most %d columns", places, k, made, exact.MaxCols)
	}
	// under are the columns under the kernel at some places, place by place.
	under := func(from, to int) []int32 {
		cols := make([]int32, 0, (to-from)*k)
		for place := from; place < to; place++ {
			b, p := place/positions, place%positions
			for ch := range channels {
				for _, at := range win.at[p*taps : (p+1)*taps] {
					if at < 0 {
						cols = append(cols, -1)
					} else {
						cols = append(cols, w.cols[(b*channels+ch)*size+int(at)])
					}
				}
			}
		}
		return cols
	}
	weights := make([]float64, k*made)
	for m := range made {
		first := m / (made / groups) * per
		for j := range per {
			for t := range taps {
				weights[((first+j)*taps+t)*made+m] = float64(kernel.F[(m*per+j)*taps+t])
			}
		}
	}
	var bias []float64
	if c.has(2) {
		if bias = doubles(c.in[2].F); len(bias) != made {
			return nil, fmt.Errorf("%d biases for %d channels", len(bias), made)
		}
	}
	at, err := l.convolved(c, w, under, places, k, made, weights, bias)
	if err != nil {
		return nil, err
	}
	// From places of channels to channels of places.
	out := &wire{dims: slices.Concat([]int{w.dims[0], made}, win.out), axis: w.axis, row: w.row, at: at}
	for b := range batch {
		for m := range made {
			for p := range positions {
				out.cols = append(out.cols, int32((b*positions+p)*made+m))
			}
		}
	}
	return []*wire{out}, nil
}

// convolved is a product for every place of a convolution. If the arranged
// columns are too many for one value, it is made of several.
func (l *lower) convolved(c *call, w *wire, under func(from, to int) []int32, places, k, made int, weights, bias []float64) (*atom, error) {
	step := exact.MaxCols / k
	if places <= step {
		return l.weighted(w, under(0, places), places, k, made, weights, bias)
	}
	peak := l.peaks[c.node.Out[0]]
	joint := &value{cols: places * made, frac: fracFor(peak, actBits, maxFrac)}
	n := (places + step - 1) / step
	if n*joint.cols > exact.MaxWidth {
		return nil, fmt.Errorf("%d places with %d inputs each are too many", places, k)
	}
	var parts []exact.Value
	var widths []int
	for from := 0; from < places; from += step {
		to := min(places, from+step)
		at, err := l.weighted(w, under(from, to), to-from, k, made, weights, bias)
		if err != nil {
			return nil, err
		}
		at.peak = peak
		v, _, err := l.own(&wire{dims: []int{at.cols}, axis: -1, at: at, cols: columns(at.cols)}, want{joint.frac, 29, true})
		if err != nil {
			return nil, err
		}
		joint.beside(v.lo, v.hi)
		parts, widths = append(parts, v.v), append(widths, v.cols)
	}
	joint.v = quantise.Concat(l.prog, parts, widths)
	return &atom{cols: joint.cols, uniform: w.at.uniform, val: joint}, nil
}

func (l *lower) pool(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	win, err := c.poolWindow(w.dims)
	if err != nil {
		return nil, err
	}
	if w.axis > 0 || len(c.node.Out) > 1 && c.node.Out[1] != "" {
		return nil, errors.New("pooling over rows, or the places of the greatest elements, are not supported")
	}
	size, positions, taps := count(win.in), count(win.out), count(win.kernel)
	planes := w.perRow() / size
	greatest := c.node.Op == "MaxPool" || c.node.Op == "GlobalMaxPool"
	sets := make([][]int32, 0, planes*positions)
	for p := range planes {
		for o := range positions {
			set := make([]int32, 0, taps)
			for _, at := range win.at[o*taps : (o+1)*taps] {
				if at >= 0 {
					set = append(set, w.cols[p*size+int(at)])
				}
			}
			sets = append(sets, set)
		}
	}
	dims := slices.Concat(w.dims[:2], win.out)
	if greatest {
		return l.greatest(w, sets, taps, dims, w.axis)
	}
	divide := c.node.intAttr("count_include_pad", 0) != 0
	return l.sums(w, sets, taps, dims, w.axis, func(n int) float64 {
		if divide {
			n = taps
		}
		return 1 / float64(n)
	})
}
