package onnx

import (
	"fmt"
	"math"
	"slices"
)

// intervals bounds the magnitude of every value, given that of the input, for
// networks that come without samples. Bounds are those of the operations in
// their order; values that belong together are taken for independent, except
// where a norm says otherwise.
type intervals struct {
	peak   map[string]float64
	length map[string]float64 // Euclidean, of a row's last dimension, if known
	static map[string]*Tensor
	dims   map[string][]int
	opset  func(*Node) int64
	room   room
}

func greatest(t *Tensor) float64 {
	most := 0.0
	for i := range t.Len() {
		if v := math.Abs(t.number(i)); v > most && !math.IsInf(v, 1) {
			most = v
		}
	}
	return most
}

func (v *intervals) of(name string) float64 {
	if t := v.static[name]; t != nil {
		return greatest(t)
	}
	return v.peak[name]
}

func (v *intervals) node(n *Node) error {
	x := 0.0
	if len(n.In) > 0 {
		x = v.of(n.In[0])
	}
	out, length := x, 0.0
	matrix := func(w []float64, k, cols int, bias func(j int) float64) {
		out = 0
		for j := range cols {
			sum, square := 0.0, 0.0
			for i := range k {
				e := math.Abs(w[i*cols+j])
				sum += e
				square += e * e
			}
			b := sum * x
			if l := v.length[n.In[0]]; l > 0 {
				b = min(b, l*math.Sqrt(square))
			}
			out = max(out, b+math.Abs(bias(j)))
		}
	}
	affine := func(factor, addend []float64) {
		out = 0
		for i := range factor {
			out = max(out, math.Abs(factor[i])*x+math.Abs(addend[i]))
		}
	}
	left := v.room
	c := &call{n, v.opset(n), n.operands(v.static, v.dims), &left}
	none := func(int) float64 { return 0 }
	switch n.Op {
	case "MatMul":
		a, b := v.static[n.In[0]], v.static[n.In[1]]
		switch {
		case b != nil && len(b.Dims) == 2:
			matrix(doubles(b.F), b.Dims[0], b.Dims[1], none)
		case a == nil && b == nil && v.length[n.In[0]] < 0: // weights of attention
			out = v.of(n.In[1])
		default:
			k := v.dims[n.In[0]]
			if a != nil {
				k = a.Dims
			}
			out = x * v.of(n.In[1]) * float64(k[len(k)-1])
		}
	case "Gemm":
		w, k, cols, bias, beta, err := c.gemmParts()
		if err != nil {
			return fmt.Errorf("%s: %w", n.label(), err)
		}
		matrix(doubles(w), k, cols, func(j int) float64 {
			if bias == nil || len(bias.F) == 0 {
				return 0
			}
			return float64(beta * bias.F[j%len(bias.F)])
		})
	case "Conv":
		w := v.static[n.In[1]]
		if w == nil || len(w.Dims) == 0 || w.Dims[0] == 0 {
			return fmt.Errorf("%s: its weights must be constant", n.label())
		}
		k := w.Len() / w.Dims[0]
		most := 0.0
		for m := range w.Dims[0] {
			sum := 0.0
			for _, e := range w.F[m*k : (m+1)*k] {
				sum += math.Abs(float64(e))
			}
			most = max(most, sum*x)
		}
		if out = most; len(n.In) > 2 {
			out += v.of(n.In[2])
		}
	case "LinearRegressor", "LinearClassifier", "TreeEnsembleRegressor", "TreeEnsembleClassifier":
		out = 16
	case "Scaler":
		f, g, err := c.scale(count(v.dims[n.In[0]]))
		if err != nil {
			return fmt.Errorf("%s: %w", n.label(), err)
		}
		affine(f, g)
	case "BatchNormalization":
		if len(c.in) > 0 && len(c.in[0].Dims) > 1 {
			f, g, err := c.batchFactors(c.in[0].Dims[1])
			if err != nil {
				return fmt.Errorf("%s: %w", n.label(), err)
			}
			affine(f, g)
		}
	case "LayerNormalization", "RMSNormalization":
		d := v.dims[n.In[0]]
		root := math.Sqrt(float64(d[len(d)-1]))
		out, length = root, root
		if len(n.In) > 1 && n.In[1] != "" {
			out *= v.of(n.In[1])
			length *= v.of(n.In[1])
		}
		if len(n.In) > 2 && n.In[2] != "" {
			out += v.of(n.In[2])
			length += root * v.of(n.In[2])
		}
	case "LpNormalization":
		out, length = 1, 1
	case "Softmax":
		out, length = 1, -1
	case "Add", "Sub":
		out = x + v.of(n.In[1])
		if len(n.In) == 2 && v.length[n.In[0]] > 0 && v.static[n.In[1]] != nil {
			d := v.dims[n.Out[0]]
			length = v.length[n.In[0]] + math.Sqrt(float64(d[len(d)-1]))*v.of(n.In[1])
		}
	case "Mul":
		out = x * v.of(n.In[1])
		for k := range 2 {
			if l := v.length[n.In[k]]; l > 0 && v.static[n.In[1-k]] != nil {
				length = l * v.of(n.In[1-k])
			}
		}
	case "Div":
		if t := v.static[n.In[1]]; t != nil {
			least := math.Inf(1)
			for i := range t.Len() {
				least = min(least, math.Abs(t.number(i)))
			}
			out = x / max(least, 1e-9)
		}
	case "Pow":
		if t := v.static[n.In[1]]; t != nil && t.Len() == 1 {
			out = math.Pow(x, math.Abs(t.number(0)))
		}
	case "Concat", "Min", "Max", "Where":
		for i, in := range n.In {
			if n.Op != "Where" || i > 0 {
				out = max(out, v.of(in))
			}
		}
	case "Clip":
		lo, hi, err := c.bounds()
		if err != nil {
			return fmt.Errorf("%s: %w", n.label(), err)
		}
		if b := max(math.Abs(lo), math.Abs(hi)); !math.IsInf(b, 1) {
			out = min(out, b)
		}
	case "ReduceSum":
		out = x * float64(count(v.dims[n.In[0]])) / max(1, float64(count(v.dims[n.Out[0]])))
	case "ArgMax":
		out = float64(count(v.dims[n.In[0]]))
	case "Gather":
		// Of a table or of a value alike.
	default:
		if slices.Contains(unaries, n.Op) {
			f, err := unary(n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.label(), err)
			}
			if out = 0; math.IsInf(x, 1) {
				x = math.MaxFloat32
			}
			for i := -256; i <= 256; i++ {
				if y := math.Abs(f(x * float64(i) / 256)); !math.IsNaN(y) && !math.IsInf(y, 1) {
					out = max(out, y)
				}
			}
		} else {
			length = v.length[n.In[0]] // moved
			if n.Op != "Identity" && !sameLast(v.dims[n.In[0]], v.dims[n.Out[0]]) {
				length = 0
			}
			if n.Op == "Slice" || n.Op == "Split" {
				length = v.length[n.In[0]] // a part is no longer
			}
		}
	}
	for _, o := range n.Out {
		v.peak[o] = min(out, 1e12)
		v.length[o] = length
	}
	return nil
}

func sameLast(a, b []int) bool {
	return len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1]
}
