package onnx

import (
	"errors"
	"fmt"
	"math"
)

// batchFactors are what a BatchNormalization multiplies each channel with and
// adds to it.
func (c *call) batchFactors(channels int) (factor, addend []float64, err error) {
	if c.node.intAttr("training_mode", 0) != 0 {
		return nil, nil, errors.New("it is in training mode: export the network for inference")
	}
	var v [4][]float32
	for i := range v {
		t, err := c.float(i + 1)
		if err != nil {
			return nil, nil, err
		}
		if len(t.F) != channels {
			return nil, nil, fmt.Errorf("operand %d has %d constants for %d channels", i+1, len(t.F), channels)
		}
		v[i] = t.F
	}
	eps := c.node.floatAttr("epsilon", 1e-5)
	factor, addend = make([]float64, channels), make([]float64, channels)
	for i := range factor {
		factor[i] = float64(v[0][i]) / math.Sqrt(float64(v[3][i])+eps)
		addend[i] = float64(v[1][i]) - float64(v[2][i])*factor[i]
		if infinite(factor[i]) || infinite(addend[i]) {
			return nil, nil, fmt.Errorf("channel %d: the variance %g (%q) makes no number", i, v[3][i], c.node.In[4])
		}
	}
	return factor, addend, nil
}

func batchNorm(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	if len(x.Dims) < 2 {
		return nil, fmt.Errorf("input of shape %v", x.Dims)
	}
	factor, addend, err := c.batchFactors(x.Dims[1])
	if err != nil {
		return nil, err
	}
	out, err := c.new(Float, x.Dims)
	if err != nil {
		return nil, err
	}
	size := count(x.Dims[2:])
	for i := range out.F {
		k := i / size % x.Dims[1]
		out.F[i] = float32(float64(x.F[i])*factor[k] + addend[k])
	}
	return []*Tensor{out}, nil
}

// layerNorm is LayerNormalization, or RMSNormalization.
func layerNorm(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", -1), len(x.Dims))
	if err != nil {
		return nil, err
	}
	for _, o := range c.node.Out[1:] {
		if o != "" {
			return nil, errors.New("its mean and deviation as results are not supported")
		}
	}
	out, err := c.new(Float, x.Dims)
	if err != nil {
		return nil, err
	}
	d := count(x.Dims[a:])
	var gain, bias []float32
	for i, to := range []*[]float32{&gain, &bias} {
		if !c.has(i + 1) {
			continue
		}
		t, err := c.float(i + 1)
		if err != nil {
			return nil, err
		}
		if len(t.F) != d {
			return nil, fmt.Errorf("operand %d has shape %v for input %v", i+1, t.Dims, x.Dims)
		}
		*to = t.F
	}
	eps := c.node.floatAttr("epsilon", 1e-5)
	for at := 0; at < len(x.F); at += d {
		row := x.F[at : at+d]
		var mean, squares float64
		if c.node.Op == "LayerNormalization" {
			for _, v := range row {
				mean += float64(v)
			}
			mean /= float64(d)
		}
		for _, v := range row {
			squares += (float64(v) - mean) * (float64(v) - mean)
		}
		f := 1 / math.Sqrt(squares/float64(d)+eps)
		for i, v := range row {
			y := (float64(v) - mean) * f
			if gain != nil {
				y *= float64(gain[i])
			}
			if bias != nil {
				y += float64(bias[i])
			}
			out.F[at+i] = float32(y)
		}
	}
	return []*Tensor{out}, nil
}

func lpNorm(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", -1), len(x.Dims))
	if err != nil {
		return nil, err
	}
	if p := c.node.intAttr("p", 2); p != 2 {
		return nil, fmt.Errorf("norm of order %d, want 2", p)
	}
	out, err := c.new(Float, x.Dims)
	if err != nil {
		return nil, err
	}
	along(x.Dims, a, func(at, step, n int) {
		s := 0.0
		for i := range n {
			s += float64(x.F[at+i*step]) * float64(x.F[at+i*step])
		}
		for i := range n {
			out.F[at+i*step] = float32(float64(x.F[at+i*step]) / math.Sqrt(s))
		}
	})
	return []*Tensor{out}, nil
}

// softmaxAxis is the axis of a Softmax; before version 13 all dimensions from
// it on go together, which is said by the second result.
func (c *call) softmaxAxis(dims []int) (int, bool, error) {
	if c.opset >= 13 {
		a, err := axis(c.node.intAttr("axis", -1), len(dims))
		return a, false, err
	}
	a, err := axis(c.node.intAttr("axis", 1), len(dims))
	return a, true, err
}

func softmax(c *call) ([]*Tensor, error) {
	x, err := c.float(0)
	if err != nil {
		return nil, err
	}
	a, rest, err := c.softmaxAxis(x.Dims)
	if err != nil {
		return nil, err
	}
	out, err := c.new(Float, x.Dims)
	if err != nil {
		return nil, err
	}
	dims := x.Dims
	if rest {
		dims = []int{count(dims[:a]), count(dims[a:])}
		a = 1
	}
	along(dims, a, func(at, step, n int) {
		top, s := math.Inf(-1), 0.0
		for i := range n {
			top = math.Max(top, float64(x.F[at+i*step]))
		}
		for i := range n {
			s += math.Exp(float64(x.F[at+i*step]) - top)
		}
		for i := range n {
			out.F[at+i*step] = float32(math.Exp(float64(x.F[at+i*step])-top) / s)
		}
	})
	return []*Tensor{out}, nil
}
