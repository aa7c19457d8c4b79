package onnx

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// rewriter recognises norms that exporters write out as several nodes.
type rewriter struct {
	nodes  []*Node
	by     map[string]*Node // which node gives a name
	static map[string]*Tensor
	dims   map[string][]int
	opset  func(*Node) int64
}

// rewrite returns the nodes with norms as one node each, and what results do
// not need any more left out.
func (r *rewriter) rewrite(results []string) []*Node {
	r.merge()
	r.by = map[string]*Node{}
	for i, n := range r.nodes {
		var to *Node
		switch n.Op {
		case "Div":
			to = r.norm(n, n.In[0], n.In[1], false)
		case "Mul":
			for k := range 2 {
				if to == nil {
					to = r.norm(n, n.In[k], n.In[1-k], true)
				}
			}
		}
		if to != nil {
			r.nodes[i] = to
		}
		for _, o := range r.nodes[i].Out {
			r.by[o] = r.nodes[i]
		}
	}
	return needed(r.nodes, results)
}

// merge makes one node of nodes that compute the same.
func (r *rewriter) merge() {
	first := map[string]*Node{}
	same := map[string]string{}
	for i, n := range r.nodes {
		m := *n
		m.In = slices.Clone(n.In)
		for k, in := range m.In {
			if to, ok := same[in]; ok {
				m.In[k] = to
			}
		}
		r.nodes[i] = &m
		plain := m
		plain.Name, plain.Out = "", nil
		key := fmt.Sprintf("%d %s", len(m.Out), plain.append(nil))
		if f, ok := first[key]; ok {
			for k, out := range m.Out {
				same[out] = f.Out[k]
			}
			continue
		}
		first[key] = &m
	}
	// Results keep their names: an Identity where a node was merged away.
	for i, n := range r.nodes {
		if to, ok := same[n.Out[0]]; ok && len(n.Out) == 1 {
			r.nodes[i] = &Node{Name: n.Name, Op: "Identity", In: []string{to}, Out: n.Out}
		}
	}
}

// from is the node that gives a name, past those that change nothing.
func (r *rewriter) from(name string) *Node {
	for {
		n := r.by[name]
		if n == nil {
			return nil
		}
		switch n.Op {
		case "Identity", "Dropout", "Cast", "Expand":
			name = n.In[0]
		default:
			return n
		}
	}
}

// origin is a name past nodes that change nothing.
func (r *rewriter) origin(name string) string {
	for {
		n := r.by[name]
		if n == nil || n.Op != "Identity" && n.Op != "Dropout" && n.Op != "Cast" {
			return name
		}
		name = n.In[0]
	}
}

// number is a constant scalar.
func (r *rewriter) number(name string) (float64, bool) {
	t := r.static[name]
	if t == nil || t.Len() != 1 || len(t.F) != 1 {
		return 0, false
	}
	return float64(t.F[0]), true
}

// norm recognises x divided by its root mean square, deviation or length: x
// over y, or x times y if y is an inverse.
func (r *rewriter) norm(n *Node, x, y string, inverse bool) *Node {
	d := r.from(y)
	if d == nil {
		return nil
	}
	if inverse {
		switch d.Op {
		case "Reciprocal":
			y = d.In[0]
		case "Div":
			if v, ok := r.number(d.In[0]); !ok || v != 1 {
				return nil
			}
			y = d.In[1]
		case "Pow":
			if v, ok := r.number(d.In[1]); !ok || v != -0.5 {
				return nil
			}
			return r.meanSquare(n, x, d.In[0])
		default:
			return nil
		}
		if d = r.from(y); d == nil {
			return nil
		}
	}
	switch d.Op {
	case "Sqrt":
		return r.meanSquare(n, x, d.In[0])
	case "Pow":
		if v, ok := r.number(d.In[1]); ok && v == 0.5 {
			return r.meanSquare(n, x, d.In[0])
		}
		return nil
	case "Clip", "Max": // so that zero is not divided by
		if e := r.from(d.In[0]); e != nil && e.Op == "Sqrt" {
			return r.meanSquare(n, x, e.In[0])
		} else if e == nil || e.Op != "ReduceL2" {
			return nil
		}
		d = r.from(d.In[0])
	case "ReduceL2":
	default:
		return nil
	}
	if r.origin(d.In[0]) == r.origin(x) && r.last(d) {
		return &Node{Name: n.Name, Op: "LpNormalization", In: []string{x}, Out: n.Out}
	}
	return nil
}

// last reports whether a reduction is over the last dimension.
func (r *rewriter) last(n *Node) bool {
	dims := r.dims[n.In[0]]
	list := n.intsAttr("axes")
	if len(n.In) > 1 && n.In[1] != "" {
		t := r.static[n.In[1]]
		if t == nil {
			return false
		}
		list = t.I
	}
	return len(list) == 1 && n.intAttr("keepdims", 1) != 0 && (list[0] == -1 || list[0] == int64(len(dims)-1))
}

// meanSquare recognises the mean or the sum of the squares of x, plus epsilon.
func (r *rewriter) meanSquare(n *Node, x, name string) *Node {
	eps := 0.0
	m := r.from(name)
	if m != nil && m.Op == "Add" {
		for k := range 2 {
			if v, ok := r.number(m.In[k]); ok {
				eps, m = v, r.from(m.In[1-k])
				break
			}
		}
	}
	if m == nil || m.Op != "ReduceMean" && m.Op != "ReduceSum" || !r.last(m) {
		return nil
	}
	s := r.from(m.In[0])
	if s == nil || r.origin(s.In[0]) != r.origin(x) {
		return nil
	}
	switch s.Op {
	case "Pow":
		if v, ok := r.number(s.In[1]); !ok || v != 2 {
			return nil
		}
	case "Mul":
		if r.origin(s.In[1]) != r.origin(x) {
			return nil
		}
	default:
		return nil
	}
	if m.Op == "ReduceSum" {
		return &Node{Name: n.Name, Op: "LpNormalization", In: []string{x}, Out: n.Out}
	}
	out := &Node{Name: n.Name, Op: "RMSNormalization", In: []string{x}, Out: n.Out, Attrs: []Attr{{Name: "epsilon", Type: AttrFloat, F: float32(eps)}}}
	// Of a row less its mean?
	if c := r.from(x); c != nil && c.Op == "Sub" {
		if mean := r.from(c.In[1]); mean != nil && mean.Op == "ReduceMean" && r.last(mean) && r.origin(mean.In[0]) == r.origin(c.In[0]) {
			out.Op, out.In = "LayerNormalization", []string{c.In[0]}
		}
	}
	return out
}

// groups are names of values that are added to each other or put side by side,
// and so need one scale: for each name its group.
func groups(nodes []*Node, static map[string]*Tensor) map[string]string {
	parent := map[string]string{}
	var find func(string) string
	find = func(s string) string {
		p, ok := parent[s]
		if !ok || p == s {
			parent[s] = s
			return s
		}
		root := find(p)
		parent[s] = root
		return root
	}
	for _, n := range nodes {
		switch n.Op {
		case "Add", "Sub", "Concat":
		default:
			continue
		}
		scalar := false
		for _, in := range n.In {
			t := static[in]
			scalar = scalar || t != nil && t.Len() == 1
		}
		if scalar {
			continue
		}
		for _, in := range n.In {
			if static[in] == nil {
				parent[find(in)] = find(n.Out[0])
			}
		}
	}
	out := map[string]string{}
	for name := range parent {
		out[name] = find(name)
	}
	return out
}

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
	c := &call{node: n, opset: v.opset(n)}
	for _, in := range n.In {
		t := v.static[in]
		if t == nil && in != "" {
			t = &Tensor{Name: in, Type: Float, Dims: v.dims[in]}
		}
		c.in = append(c.in, t)
	}
	left := v.room
	c.left = &left
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
		out = 0
		for i := range f {
			out = max(out, math.Abs(f[i])*x+math.Abs(g[i]))
		}
	case "BatchNormalization":
		if len(c.in) > 0 && len(c.in[0].Dims) > 1 {
			f, g, err := c.batchFactors(c.in[0].Dims[1])
			if err != nil {
				return fmt.Errorf("%s: %w", n.label(), err)
			}
			out = 0
			for i := range f {
				out = max(out, math.Abs(f[i])*x+math.Abs(g[i]))
			}
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
			if !strings.HasPrefix(n.Op, "Identity") && !sameLast(v.dims[n.In[0]], v.dims[n.Out[0]]) {
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
