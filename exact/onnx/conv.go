package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// window is how a convolution or pool goes over its input.
type window struct {
	in, out, kernel []int // sizes
	// at is, for each position of the result and each of the kernel, the
	// position in the input, or -1 in the padding.
	at []int32
}

// windowOf reads the attributes of a node for an input of the given
// dimensions, [batch][channel] first. A kernel of nil is read too.
func (c *call) windowOf(dims, kernel []int) (*window, error) {
	n := c.node
	rank := len(dims) - 2
	if rank < 1 {
		return nil, fmt.Errorf("input of shape %v, want batch, channels and at least one more", dims)
	}
	if kernel == nil {
		var err error
		if kernel, err = sizes(n.intsAttr("kernel_shape")); err != nil {
			return nil, err
		}
	}
	list := func(name string, of int, def int) ([]int, error) {
		v := n.intsAttr(name)
		if v == nil {
			return slices.Repeat([]int{def}, of), nil
		}
		s, err := sizes(v)
		if err == nil && len(s) != of {
			err = fmt.Errorf("%d numbers in %s, want %d", len(s), name, of)
		}
		return s, err
	}
	if len(kernel) != rank {
		return nil, fmt.Errorf("kernel of %d dimensions for input of shape %v", len(kernel), dims)
	}
	stride, err := list("strides", rank, 1)
	if err != nil {
		return nil, err
	}
	dilation, err := list("dilations", rank, 1)
	if err != nil {
		return nil, err
	}
	pads, err := list("pads", 2*rank, 0)
	if err != nil {
		return nil, err
	}
	if n.intAttr("ceil_mode", 0) != 0 {
		return nil, errors.New("ceil_mode is not supported: export without it")
	}
	w := &window{in: dims[2:], kernel: kernel, out: make([]int, rank)}
	for i, size := range w.in {
		if stride[i] == 0 || dilation[i] == 0 || kernel[i] == 0 {
			return nil, errors.New("a stride, dilation or kernel of zero")
		}
		reach := (kernel[i]-1)*dilation[i] + 1
		switch mode := n.stringAttr("auto_pad", "NOTSET"); mode {
		case "NOTSET", "":
		case "VALID":
			pads[i], pads[rank+i] = 0, 0
		case "SAME_UPPER", "SAME_LOWER":
			total := max(0, ((size+stride[i]-1)/stride[i]-1)*stride[i]+reach-size)
			pads[i], pads[rank+i] = total/2, total-total/2
			if mode == "SAME_LOWER" {
				pads[i], pads[rank+i] = pads[rank+i], pads[i]
			}
		default:
			return nil, fmt.Errorf("auto_pad %q", mode)
		}
		slack := size + pads[i] + pads[rank+i] - reach
		if slack < 0 {
			return nil, fmt.Errorf("a kernel that reaches over %d of %d", reach, size)
		}
		w.out[i] = slack/stride[i] + 1
	}
	if err := c.hold(count(w.out) * count(kernel)); err != nil {
		return nil, err
	}
	own := strides(w.in)
	oi, ki := make([]int, rank), make([]int, rank)
	for range count(w.out) {
		clear(ki)
		for range count(kernel) {
			at := 0
			for i := range ki {
				p := oi[i]*stride[i] + ki[i]*dilation[i] - pads[i]
				if p < 0 || p >= w.in[i] {
					at = -1
					break
				}
				at += p * own[i]
			}
			w.at = append(w.at, int32(at))
			next(ki, kernel)
		}
		next(oi, w.out)
	}
	return w, nil
}

func conv(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	w, err := c.float(1)
	if err != nil {
		return nil, err
	}
	groups := int(c.node.intAttr("group", 1))
	if err := convShape(x.Dims, w.Dims, groups); err != nil {
		return nil, err
	}
	win, err := c.windowOf(x.Dims, w.Dims[2:])
	if err != nil {
		return nil, err
	}
	batch, channels, made, per := x.Dims[0], x.Dims[1], w.Dims[0], w.Dims[1]
	size, positions, taps := count(win.in), count(win.out), count(win.kernel)
	out, err := c.new(Float, slices.Concat([]int{batch, made}, win.out))
	if err != nil {
		return nil, err
	}
	if err := c.spend(out.Len() * per * taps); err != nil {
		return nil, err
	}
	var bias *Tensor
	if c.has(2) {
		if bias, err = c.float(2); err != nil {
			return nil, err
		}
		if bias.Len() != made {
			return nil, fmt.Errorf("%d biases for %d channels", bias.Len(), made)
		}
	}
	for b := range batch {
		for m := range made {
			row := out.F[(b*made+m)*positions:][:positions]
			if bias != nil {
				for p := range row {
					row[p] = bias.F[m]
				}
			}
			for j := range per {
				plane := x.F[(b*channels+m/(made/groups)*per+j)*size:][:size]
				kernel := w.F[(m*per+j)*taps:][:taps]
				for p := range row {
					for k, at := range win.at[p*taps : (p+1)*taps] {
						if at >= 0 {
							row[p] += kernel[k] * plane[at]
						}
					}
				}
			}
		}
	}
	return []*Tensor{out}, nil
}

func convShape(x, w []int, groups int) error {
	if len(x) < 3 || len(w) != len(x) || groups < 1 || w[0]%groups != 0 || w[0] == 0 || x[1] != w[1]*groups {
		return fmt.Errorf("input %v, weights %v, %d groups", x, w, groups)
	}
	return nil
}

func pool(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	if len(c.node.Out) > 1 && c.node.Out[1] != "" {
		return nil, errors.New("the places of the greatest elements are not supported")
	}
	win, err := c.poolWindow(x.Dims)
	if err != nil {
		return nil, err
	}
	size, taps := count(win.in), count(win.kernel)
	out, err := c.new(Float, slices.Concat(x.Dims[:2], win.out))
	if err != nil {
		return nil, err
	}
	if err := c.spend(out.Len() * taps); err != nil {
		return nil, err
	}
	positions := count(win.out)
	all := c.node.intAttr("count_include_pad", 0) != 0
	greatest := c.node.Op == "MaxPool" || c.node.Op == "GlobalMaxPool"
	for i := range out.F {
		plane := x.F[i/positions*size:][:size]
		sum, n, top := 0.0, 0, math.Inf(-1)
		for _, at := range win.at[i%positions*taps:][:taps] {
			if at >= 0 {
				n++
				sum += float64(plane[at])
				top = math.Max(top, float64(plane[at]))
			}
		}
		switch {
		case greatest:
			out.F[i] = float32(top)
		case all:
			out.F[i] = float32(sum / float64(taps))
		default:
			out.F[i] = float32(sum / float64(n))
		}
	}
	return []*Tensor{out}, nil
}

// poolWindow is the window of a pool; a global one takes all.
func (c *call) poolWindow(dims []int) (*window, error) {
	var kernel []int
	if c.node.Op == "GlobalAveragePool" || c.node.Op == "GlobalMaxPool" {
		if len(dims) < 3 {
			return nil, fmt.Errorf("input of shape %v", dims)
		}
		kernel = dims[2:]
	}
	return c.windowOf(dims, kernel)
}
