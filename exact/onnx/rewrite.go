package onnx

import (
	"fmt"
	"slices"
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
