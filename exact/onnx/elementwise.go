package onnx

import (
	"errors"
	"fmt"
	"math"
)

// unaries are functions of one number, see unary.
var unaries = []string{
	"Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Gelu", "Softplus", "Softsign", "Mish",
	"Celu", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Floor", "Ceil", "Sign", "Not", "Sin", "Cos",
}

func evalUnary(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	f, err := unary(c.node)
	if err != nil {
		return nil, err
	}
	out, err := c.new(x.Type, x.Dims)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(f(float64(x.F[i])))
	}
	for i := range out.I {
		switch c.node.Op {
		case "Neg":
			out.I[i] = -x.I[i]
		case "Abs":
			out.I[i] = max(x.I[i], -x.I[i])
		case "Not":
			out.I[i] = 1 - min(x.I[i], 1)
		default:
			return nil, errors.New("not on integers")
		}
	}
	return []*Tensor{out}, nil
}

// binaries are functions of two numbers.
var binaries = map[string]func(x, y float64) float64{
	"Add": func(x, y float64) float64 { return x + y },
	"Sub": func(x, y float64) float64 { return x - y },
	"Mul": func(x, y float64) float64 { return x * y },
	"Div": func(x, y float64) float64 { return x / y },
	"Pow": power,
	"Min": math.Min,
	"Max": math.Max,
	"PRelu": func(x, slope float64) float64 {
		if x < 0 {
			return slope * x
		}
		return x
	},
}

func evalBinary(c *call) ([]*Tensor, error) {
	if len(c.in) == 1 && (c.node.Op == "Min" || c.node.Op == "Max") {
		return c.in, nil
	}
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	f := binaries[c.node.Op]
	for k := 1; k < max(2, len(c.in)); k++ { // Min and Max take several
		y, err := c.operand(k)
		if err != nil {
			return nil, err
		}
		dims, err := broadcast(x.Dims, y.Dims)
		if err != nil {
			return nil, err
		}
		if x.Type.IsFloat() != y.Type.IsFloat() && c.node.Op != "Pow" {
			return nil, errors.New("operands are of different types")
		}
		out, err := c.new(x.Type, dims)
		if err != nil {
			return nil, err
		}
		sx, sy := spread(x.Dims, dims), spread(y.Dims, dims)
		for i := range out.F {
			v := 0.0
			if y.F != nil {
				v = float64(y.F[sy[i]])
			} else {
				v = float64(y.I[sy[i]])
			}
			out.F[i] = float32(f(float64(x.F[sx[i]]), v))
		}
		for i := range out.I {
			if y.I == nil {
				return nil, errors.New("operands are of different types")
			}
			if out.I[i], err = integer(c.node.Op, x.I[sx[i]], y.I[sy[i]]); err != nil {
				return nil, err
			}
		}
		x = out
	}
	return []*Tensor{x}, nil
}

func integer(op string, x, y int64) (int64, error) {
	switch op {
	case "Add":
		return x + y, nil
	case "Sub":
		return x - y, nil
	case "Mul":
		return x * y, nil
	case "Min":
		return min(x, y), nil
	case "Max":
		return max(x, y), nil
	case "Div":
		switch y {
		case 0:
			return 0, errors.New("division of an integer by 0")
		case -1:
			return -x, nil // hardware traps at the least integer
		}
		return x / y, nil
	}
	return 0, errors.New("not on integers")
}

// comparisons give booleans.
var comparisons = map[string]func(x, y float64) bool{
	"Equal":          func(x, y float64) bool { return x == y },
	"Less":           func(x, y float64) bool { return x < y },
	"LessOrEqual":    func(x, y float64) bool { return x <= y },
	"Greater":        func(x, y float64) bool { return x > y },
	"GreaterOrEqual": func(x, y float64) bool { return x >= y },
	"And":            func(x, y float64) bool { return x != 0 && y != 0 },
	"Or":             func(x, y float64) bool { return x != 0 || y != 0 },
}

func evalComparison(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	y, err := c.operand(1)
	if err != nil {
		return nil, err
	}
	dims, err := broadcast(x.Dims, y.Dims)
	if err != nil {
		return nil, err
	}
	out, err := c.new(Bool, dims)
	if err != nil {
		return nil, err
	}
	sx, sy := spread(x.Dims, dims), spread(y.Dims, dims)
	f := comparisons[c.node.Op]
	for i := range out.I {
		if f(x.number(sx[i]), y.number(sy[i])) {
			out.I[i] = 1
		}
	}
	return []*Tensor{out}, nil
}

func where(c *call) ([]*Tensor, error) {
	var in [3]*Tensor
	for i := range in {
		var err error
		if in[i], err = c.operand(i); err != nil {
			return nil, err
		}
	}
	cond, x, y := in[0], in[1], in[2]
	if cond.Type.IsFloat() || x.Type.IsFloat() != y.Type.IsFloat() {
		return nil, errors.New("operands are of the wrong types")
	}
	dims, err := broadcast(x.Dims, y.Dims)
	if err == nil {
		dims, err = broadcast(cond.Dims, dims)
	}
	if err != nil {
		return nil, err
	}
	out, err := c.new(x.Type, dims)
	if err != nil {
		return nil, err
	}
	sc, sx, sy := spread(cond.Dims, dims), spread(x.Dims, dims), spread(y.Dims, dims)
	for i, k := range sc {
		from, at := y, sy[i]
		if cond.I[k] != 0 {
			from, at = x, sx[i]
		}
		out.copy(i, from, at)
	}
	return []*Tensor{out}, nil
}

func cast(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	to := Type(c.node.intAttr("to", int64(Float)))
	if !to.known() {
		return nil, fmt.Errorf("to elements of type %d", to)
	}
	if to.IsFloat() {
		to = Float
	}
	out, err := c.new(to, x.Dims)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(x.number(i))
	}
	for i := range out.I {
		switch {
		case to == Bool:
			if x.number(i) != 0 {
				out.I[i] = 1
			}
		case x.Type.IsFloat():
			f := float64(x.F[i])
			if !(math.Abs(f) < 1<<62) { // or not a number
				return nil, fmt.Errorf("element %d is %g, which no integer is near to", i, f)
			}
			out.I[i] = int64(f)
		default:
			out.I[i] = x.I[i]
		}
	}
	return []*Tensor{out}, nil
}

// bounds are the limits of a Clip node: attributes before version 11, then
// operands.
func (c *call) bounds() (lo, hi float64, err error) {
	lo, hi = math.Inf(-1), math.Inf(1)
	if c.opset < 11 {
		return c.node.floatAttr("min", -math.MaxFloat32), c.node.floatAttr("max", math.MaxFloat32), nil
	}
	for i, to := range []*float64{&lo, &hi} {
		if !c.has(i + 1) {
			continue
		}
		if t := c.in[i+1]; t.Len() == 1 && len(t.F)+len(t.I) == 1 {
			*to = t.number(0)
		} else {
			return 0, 0, errors.New("its limits must be constant numbers")
		}
	}
	return lo, hi, nil
}

func clip(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	lo, hi, err := c.bounds()
	if err != nil {
		return nil, err
	}
	out, err := c.new(x.Type, x.Dims)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(math.Min(hi, math.Max(lo, float64(x.F[i]))))
	}
	for i := range out.I {
		out.I[i] = int64(math.Min(hi, math.Max(lo, float64(x.I[i]))))
	}
	return []*Tensor{out}, nil
}
