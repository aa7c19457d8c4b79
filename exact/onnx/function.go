package onnx

import (
	"fmt"
	"math"

	"github.com/torg-network/torg/exact/quantise"
)

// unary is the function of one number that a node computes. All but Sin and Cos
// have the same value on every machine, as far as tables show it.
func unary(n *Node) (quantise.Function, error) {
	switch n.Op {
	case "Relu":
		return quantise.ReLU, nil
	case "LeakyRelu":
		alpha := n.floatAttr("alpha", 0.01)
		return func(x float64) float64 {
			if x < 0 {
				return alpha * x
			}
			return x
		}, nil
	case "Celu":
		alpha := n.floatAttr("alpha", 1)
		return func(x float64) float64 {
			return max(0, x) + min(0, alpha*(quantise.Exp(min(0, x)/alpha)-1))
		}, nil
	case "Elu", "Selu":
		alpha, gamma := n.floatAttr("alpha", 1), 1.0
		if n.Op == "Selu" {
			alpha, gamma = n.floatAttr("alpha", 1.67326319217681884765625), n.floatAttr("gamma", 1.05070102214813232421875)
		}
		return func(x float64) float64 {
			if x < 0 {
				x = alpha * (quantise.Exp(x) - 1)
			}
			return gamma * x
		}, nil
	case "Sigmoid":
		return quantise.Sigmoid, nil
	case "HardSigmoid":
		alpha, beta := n.floatAttr("alpha", 0.2), n.floatAttr("beta", 0.5)
		return func(x float64) float64 { return max(0, min(1, float64(alpha*x)+beta)) }, nil
	case "HardSwish":
		return func(x float64) float64 { return x * max(0, min(1, x/6+0.5)) }, nil
	case "Tanh":
		return quantise.Tanh, nil
	case "Erf":
		return quantise.Erf, nil
	case "Gelu":
		switch a := n.stringAttr("approximate", "none"); a {
		case "none":
			return quantise.GELU, nil
		case "tanh":
			return quantise.GELUTanh, nil
		default:
			return nil, fmt.Errorf("approximation %q", a)
		}
	case "Softplus":
		return softplus, nil
	case "Softsign":
		return func(x float64) float64 { return x / (1 + math.Abs(x)) }, nil
	case "Mish":
		return func(x float64) float64 { return x * quantise.Tanh(softplus(x)) }, nil
	case "Exp":
		return quantise.Exp, nil
	case "Log":
		return log, nil
	case "Sqrt":
		return math.Sqrt, nil
	case "Reciprocal":
		return func(x float64) float64 { return 1 / x }, nil
	case "Neg":
		return func(x float64) float64 { return -x }, nil
	case "Abs":
		return math.Abs, nil
	case "Floor":
		return math.Floor, nil
	case "Ceil":
		return math.Ceil, nil
	case "Sign":
		return func(x float64) float64 {
			switch {
			case x > 0:
				return 1
			case x < 0:
				return -1
			}
			return 0
		}, nil
	case "Sin":
		return math.Sin, nil
	case "Cos":
		return math.Cos, nil
	case "Not":
		return func(x float64) float64 { return 1 - x }, nil
	}
	return nil, fmt.Errorf("%s is no function of one number", n.Op)
}

func softplus(x float64) float64 {
	return max(x, 0) + log(1+quantise.Exp(-math.Abs(x)))
}

func log(x float64) float64 {
	switch {
	case x > 0 && !math.IsInf(x, 1):
		return quantise.Log(x)
	case x == 0:
		return math.Inf(-1)
	case x > 0:
		return x
	}
	return math.NaN()
}

// power is x to the y.
func power(x, y float64) float64 {
	switch {
	case y == math.Trunc(y) && math.Abs(y) <= 16:
		p := 1.0
		for range int(math.Abs(y)) {
			p *= x
		}
		if y < 0 {
			return 1 / p
		}
		return p
	case y == 0.5:
		return math.Sqrt(x)
	case x > 0:
		return quantise.Exp(y * log(x))
	case x == 0:
		return 0
	}
	return math.NaN()
}
