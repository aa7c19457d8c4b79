package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// lower turns a network into an exact program.
type lower struct {
	net    *Net
	prog   *exact.Program
	rows   int // of the trace
	static map[string]*Tensor
	dims   map[string][]int
	wires  map[string]*wire
	peaks  map[string]float64
	group  map[string]int // fractional bits of what is added to each other
	notes  []string
	input  exact.Value
	// Position, once there is need of it.
	position exact.Value
	hasPos   bool
}

// Widths of values.
const (
	weightBits = quantise.WeightBits
	actBits    = 16 // what products and tables give, at most
	scaleBits  = 18 // what is multiplied by factors of columns, at most
	sumBits    = 20 // what is added to each other
	normFrac   = 10 // fractional bits after LayerNorm
	queryBits  = 13
	keyBits    = 12
	valueBits  = 14 // or fewer, where there are many rows
	lookupBits = 14 // key of a table
	keyFrac    = 10 // fractional bits of a key into the table of exponentials
	expScale   = 11 // that table starts at 2^11
	outBits    = 20 // what the network's results have
	maxFrac    = 16
)

// lowerings emit the nodes that the interpreter has too, except those that
// only move elements or work element by element.
var lowerings map[string]func(*lower, *call) ([]*wire, error)

func init() {
	lowerings = map[string]func(*lower, *call) ([]*wire, error){
		"MatMul": (*lower).matMul, "Gemm": (*lower).gemm, "Conv": (*lower).conv,
		"MaxPool": (*lower).pool, "AveragePool": (*lower).pool, "GlobalAveragePool": (*lower).pool, "GlobalMaxPool": (*lower).pool,
		"BatchNormalization": (*lower).batchNorm, "LayerNormalization": (*lower).norm, "RMSNormalization": (*lower).norm,
		"LpNormalization": (*lower).norm, "Softmax": (*lower).softmax,
		"ReduceMean": (*lower).reduce, "ReduceSum": (*lower).reduce, "ReduceMax": (*lower).reduce, "ReduceMin": (*lower).reduce,
		"ArgMax": (*lower).argMax, "Where": (*lower).where, "Cast": (*lower).cast, "Clip": (*lower).clip,
		"TreeEnsembleRegressor": (*lower).trees, "TreeEnsembleClassifier": (*lower).trees,
		"LinearRegressor": (*lower).linearModel, "LinearClassifier": (*lower).linearModel, "Scaler": (*lower).scaler,
	}
	for op := range movements {
		lowerings[op] = (*lower).move
	}
	for op := range binaries {
		lowerings[op] = (*lower).binary
	}
	for _, op := range unaries {
		lowerings[op] = (*lower).unary
	}
}

// operands are a node's constants, and of what depends on the input its
// dimensions only.
func (n *Node) operands(static map[string]*Tensor, dims map[string][]int) []*Tensor {
	in := make([]*Tensor, len(n.In))
	for i, name := range n.In {
		if in[i] = static[name]; in[i] == nil && name != "" {
			in[i] = &Tensor{Name: name, Type: Float, Dims: dims[name]}
		}
	}
	return in
}

// node emits one node.
func (l *lower) node(node *Node) error {
	f, ok := lowerings[node.Op]
	if !ok {
		return fmt.Errorf("%s: %s of what depends on the input is not supported: its result must not depend on the data", node.label(), node.Op)
	}
	left := l.net.room
	out, err := f(l, &call{node, l.net.version(node), node.operands(l.static, l.dims), &left})
	if err != nil {
		return fmt.Errorf("%s: %w", node.label(), err)
	}
	for i, name := range node.Out {
		if name == "" || i >= len(out) || out[i] == nil {
			continue
		}
		w := out[i]
		if got, want := w.dims, l.dims[name]; !slices.Equal(got, want) {
			return fmt.Errorf("%s: shape %v, evaluated %v", node.label(), got, want)
		}
		// A new atom's elements are this tensor's.
		if p, ok := l.peaks[name]; ok && w.f == nil && w.at.peak == 0 {
			w.at.peak = max(p, 1e-9)
		}
		l.wires[name] = w
	}
	return nil
}

// finite refuses constants of a node that are no numbers to compute with: their
// results would look like any others. Limits may be infinite and masks less than
// everything; what is neither is refused where it is used.
func (l *lower) finite(node *Node) error {
	is := infinite
	switch node.Op {
	case "Clip", "Min", "Max":
		is = math.IsNaN
	case "Add", "Where":
		is = func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 1) }
	case "Div":
		if t := l.static[node.In[1]]; t != nil {
			if i, bad := findElement(t, func(v float64) bool { return v == 0 }); bad {
				return fmt.Errorf("division by the constant %q, whose element %d is 0", node.In[1], i)
			}
		}
	}
	for _, name := range node.In {
		if t := l.static[name]; t != nil {
			if i, bad := findElement(t, is); bad {
				return fmt.Errorf("the constant %q: element %d is %g, which is no number to compute with", name, i, t.F[i])
			}
		}
	}
	for _, a := range node.Attrs {
		is := is
		if a.Name == "nodes_values" { // thresholds
			is = math.IsNaN
		}
		if i := slices.IndexFunc(append(a.Floats[:len(a.Floats):len(a.Floats)], a.F), func(v float32) bool { return is(float64(v)) }); i >= 0 {
			return fmt.Errorf("the attribute %q: number %d is no number to compute with", a.Name, i)
		}
	}
	return nil
}

// wire is operand i, which depends on the input.
func (l *lower) wire(c *call, i int) (*wire, error) {
	if !c.has(i) {
		return nil, fmt.Errorf("operand %d is missing", i)
	}
	name := c.node.In[i]
	if w := l.wires[name]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("operand %q is a constant and must depend on the input", name)
}

// constant is operand i if it does not depend on the input.
func (l *lower) constant(c *call, i int) *Tensor {
	if !c.has(i) {
		return nil
	}
	return l.static[c.node.In[i]]
}

func (l *lower) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(l.notes, s) {
		l.notes = append(l.notes, s)
	}
}
