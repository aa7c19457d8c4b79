package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Net is a network that can be evaluated in floating point: the reference
// that an exact program is measured against. Its rows are what exact programs
// call rows: the positions of a sequence, or else separate samples.
type Net struct {
	model  *Model
	input  Port
	tokens bool // the input is one token a row
	vocab  int  // tokens are below it
	// sequence says that rows are positions, which see each other.
	sequence bool
	rowAxis  int // of the input; -1 if it has none
	may      []layout
	cols     int // numbers a row
	fixed    map[string]filling
	consts   map[string]*Tensor // initializers, and what follows from them alone
	nodes    []*Node            // what results depend on, in order
	room     room               // of an evaluation
}

// filling is what an input is given that cannot vary.
type filling struct {
	port Port
	with string // "ones", "zeros" or "counting"
}

// fillings are the inputs, besides tokens, that exporters of encoders give a
// network, and what they are for one whole sequence.
var fillings = map[string]string{
	"attention_mask": "ones", "input_mask": "ones", "mask": "ones",
	"token_type_ids": "zeros", "segment_ids": "zeros", "position_ids": "counting",
}

// Open prepares a model for evaluation.
func Open(m *Model) (*Net, error) { return open(m, defaultRoom) }

func open(m *Model, r room) (*Net, error) {
	n := &Net{model: m, consts: map[string]*Tensor{}, fixed: map[string]filling{}, room: r}
	for domain, v := range m.Opsets {
		if domain == "" && (v < 1 || v > 1000) {
			return nil, fmt.Errorf("onnx: operator set version %d", v)
		}
	}
	for i := range m.Consts {
		t := &m.Consts[i]
		if _, twice := n.consts[t.Name]; twice || t.Name == "" {
			return nil, fmt.Errorf("onnx: two initializers, or one without a name: %q", t.Name)
		}
		n.consts[t.Name] = t
	}
	if err := n.findInput(); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	if err := n.sortOut(); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	var err error
	if n.may, err = n.layouts(); err != nil {
		return nil, fmt.Errorf("onnx: input %q: %w", n.input.Name, err)
	}
	return n, n.lay(n.may[0])
}

// findInput finds the one input that varies.
func (n *Net) findInput() error {
	var names []string
	for _, p := range n.model.Inputs {
		if _, ok := n.consts[p.Name]; ok { // older files list initializers too
			continue
		}
		if p.Type == 0 || !p.Shaped {
			return fmt.Errorf("input %q is no tensor with a shape: export with input shapes", p.Name)
		}
		with, known := fillings[p.Name]
		if known && !p.Type.IsFloat() && len(n.model.Inputs) > 1 {
			n.fixed[p.Name] = filling{p, with}
			continue
		}
		if len(names) == 0 {
			n.input = p
		}
		names = append(names, p.Name)
	}
	if len(names) != 1 {
		return fmt.Errorf("%d inputs that vary (%s), want one: make the others constants before exporting, or join them into one", len(names), strings.Join(names, ", "))
	}
	if !n.input.Type.known() || n.input.Type == Bool {
		return fmt.Errorf("input %q has elements of type %d, want floats or integers", n.input.Name, n.input.Type)
	}
	return nil
}

// label names a node for errors.
func (n *Node) label() string {
	if n.Name != "" {
		return fmt.Sprintf("node %q (%s)", n.Name, n.Op)
	}
	return fmt.Sprintf("the %s node that gives %q", n.Op, strings.Join(n.Out, ", "))
}

// version is that of the operator set of a node.
func (n *Net) version(node *Node) int64 {
	if node.Domain == "" {
		if v := n.model.Opsets[""]; v > 0 {
			return v
		}
		return 17
	}
	return max(1, n.model.Opsets[node.Domain])
}

// sortOut checks the graph, drops what no result depends on and works out
// what depends on no input.
func (n *Net) sortOut() error {
	given := map[string]bool{n.input.Name: true}
	for name := range n.fixed {
		given[name] = true
	}
	for name := range n.consts {
		given[name] = true
	}
	all := spelledOut(n.model.Nodes)
	for _, node := range all {
		for _, in := range node.In {
			if in != "" && !given[in] {
				return fmt.Errorf("%s uses %q, which nothing before it gives", node.label(), in)
			}
		}
		for _, out := range node.Out {
			if given[out] {
				return fmt.Errorf("%s gives %q, which is there already", node.label(), out)
			}
			if out != "" {
				given[out] = true
			}
		}
	}
	if len(n.model.Outputs) == 0 || len(n.model.Outputs) > 16 {
		return fmt.Errorf("%d results, want 1 to 16", len(n.model.Outputs))
	}
	var roots []string
	for _, o := range n.model.Outputs {
		if !given[o.Name] {
			return fmt.Errorf("nothing gives the result %q", o.Name)
		}
		roots = append(roots, o.Name)
	}
	left := n.room
	all = needed(all, roots)
	for _, node := range all {
		for _, in := range node.In {
			if t := n.consts[in]; t != nil {
				if i, bad := findElement(t, math.IsNaN); bad {
					return fmt.Errorf("initializer %q: element %d is no number (NaN): the file is damaged, or the training failed", in, i)
				}
			}
		}
	}
	for _, node := range dropUnused(all, roots) {
		op, ok := operators[node.Op]
		if !ok || node.Domain != "" && node.Domain != "ai.onnx.ml" && node.Domain != "com.microsoft" {
			return fmt.Errorf("%s: the operator %s%s is not supported: %s", node.label(), prefixed(node.Domain), node.Op, advice(node.Op))
		}
		in, static := make([]*Tensor, len(node.In)), true
		for i, name := range node.In {
			if name != "" {
				in[i] = n.consts[name]
				static = static && in[i] != nil
			}
		}
		if !static {
			n.nodes = append(n.nodes, node)
			continue
		}
		out, err := op(&call{node, n.version(node), in, &left})
		if err != nil {
			return fmt.Errorf("%s: %w", node.label(), err)
		}
		for i, name := range node.Out {
			if i < len(out) && name != "" {
				n.consts[name] = out[i]
			}
		}
	}
	return nil
}

// spelledOut are a file's nodes, with what takes any number of operands written
// as operators of two.
func spelledOut(nodes []Node) []*Node {
	taken := map[string]bool{}
	for _, node := range nodes {
		for _, out := range node.Out {
			taken[out] = true
		}
	}
	var all []*Node
	for i := range nodes {
		node := &nodes[i]
		op, many := map[string]string{"Sum": "Add", "Min": "Min", "Max": "Max"}[node.Op]
		if !many || node.Domain != "" || len(node.Out) != 1 || node.Op != "Sum" && len(node.In) < 3 {
			all = append(all, node)
			continue
		}
		if len(node.In) == 1 {
			all = append(all, &Node{Name: node.Name, Op: "Identity", In: node.In, Out: node.Out})
			continue
		}
		last := ""
		for k, in := range node.In {
			if k == 0 {
				last = in
				continue
			}
			out := node.Out[0]
			for n := k; k < len(node.In)-1; n++ {
				if out = fmt.Sprintf("%s, the first %d", node.Out[0], n+1); !taken[out] {
					break
				}
			}
			taken[out] = true
			all = append(all, &Node{Name: node.Name, Op: op, In: []string{last, in}, Out: []string{out}})
			last = out
		}
	}
	return all
}

// several are the operators with more than one result here. Others may have more
// in a file (the mask of a Dropout, the indices of a MaxPool), which only
// training asks for.
var several = map[string]bool{"Split": true, "TreeEnsembleClassifier": true, "LinearClassifier": true}

// dropUnused are the nodes without the results that nothing depends on.
func dropUnused(nodes []*Node, roots []string) []*Node {
	used := map[string]bool{}
	for _, r := range roots {
		used[r] = true
	}
	for _, node := range nodes {
		for _, in := range node.In {
			used[in] = true
		}
	}
	out := slices.Clone(nodes)
	for i, node := range nodes {
		if len(node.Out) < 2 || several[node.Op] || slices.ContainsFunc(node.Out[1:], func(name string) bool { return name != "" && used[name] }) {
			continue
		}
		alone := *node
		alone.Out = node.Out[:1]
		out[i] = &alone
	}
	return out
}

// findElement is the first element of a tensor of floats that is so.
func findElement(t *Tensor, is func(float64) bool) (at int, bad bool) {
	at = slices.IndexFunc(t.F, func(v float32) bool { return is(float64(v)) })
	return at, at >= 0
}

// infinite reports whether a number is none to compute with.
func infinite(v float64) bool { return math.IsInf(v, 0) || math.IsNaN(v) }

func prefixed(domain string) string {
	if domain == "" {
		return ""
	}
	return domain + "."
}

// advice says what to do about operators that are not supported but common.
func advice(op string) string {
	switch op {
	case "LSTM", "GRU", "RNN", "Loop", "Scan", "If":
		return "loops and branches have no fixed size; use a feed-forward network"
	case "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul":
		return "export the floating-point network, it is quantised here"
	case "NonZero", "TopK", "NonMaxSuppression", "Unique":
		return "its result's shape or places depend on the data; leave it to whoever reads the output"
	case "ConvTranspose", "Resize", "Upsample", "InstanceNormalization", "GroupNormalization":
		return "see docs/exact.md for the operators that are"
	}
	return "replace it by operators of the list in docs/exact.md"
}

// needed are the nodes that the roots depend on, in their order.
func needed(nodes []*Node, roots []string) []*Node {
	want := map[string]bool{}
	for _, r := range roots {
		want[r] = true
	}
	var keep []*Node
	for _, node := range slices.Backward(nodes) {
		if !slices.ContainsFunc(node.Out, func(o string) bool { return o != "" && want[o] }) {
			continue
		}
		for _, in := range node.In {
			want[in] = true
		}
		keep = append(keep, node)
	}
	slices.Reverse(keep)
	return keep
}

// layout says what a row of the input is: which dimension rows lie along (-1:
// there is one row), and whether they are positions of a sequence.
type layout struct {
	axis     int
	sequence bool
}

// layouts are those that may be meant, likeliest first.
func (n *Net) layouts() ([]layout, error) {
	dims := n.input.Dims
	n.tokens = n.looksUp()
	switch {
	case !n.tokens && !n.input.Type.IsFloat():
		return nil, errors.New("integers are supported as tokens that a Gather looks up; cast the input to float before exporting otherwise")
	case n.tokens && len(dims) == 2 && dims[0].Size > 1:
		return nil, fmt.Errorf("a batch of %d sequences: export it for a batch of one", dims[0].Size)
	case n.tokens && (len(dims) == 1 || len(dims) == 2):
		return []layout{{len(dims) - 1, true}}, nil
	case n.tokens:
		return nil, fmt.Errorf("tokens in %d dimensions, want [rows] or [1, rows]", len(dims))
	case len(dims) == 0:
		return nil, errors.New("a single number: give it a dimension")
	case len(dims) == 1:
		return []layout{{-1, false}}, nil
	}
	attends := n.attends()
	var sequences []layout
	if len(dims) == 2 && attends {
		sequences = append(sequences, layout{0, true})
	}
	for a := 1; a < len(dims)-1 && dims[a-1].Size <= 1; a++ {
		if dims[a].Size != 1 {
			sequences = append(sequences, layout{a, true})
		}
	}
	separate := layout{0, false}
	if attends {
		return append(sequences, separate), nil
	}
	return append([]layout{separate}, sequences...), nil
}

// lay settles what a row is.
func (n *Net) lay(l layout) error {
	n.sequence, n.rowAxis, n.cols = l.sequence, l.axis, 1
	for i, d := range n.input.Dims {
		if i == n.rowAxis || n.sequence && i < n.rowAxis {
			continue
		}
		if d.Size < 0 {
			return fmt.Errorf("onnx: input %q: dimension %d (%s) is free: export with a fixed size, only the batch or the sequence may be free", n.input.Name, i, d.Name)
		}
		if n.cols *= d.Size; n.cols > maxDim || n.cols == 0 {
			return fmt.Errorf("onnx: input %q: no or too many numbers a row", n.input.Name)
		}
	}
	return nil
}

// looksUp reports whether the input is tokens, and finds how many there are.
func (n *Net) looksUp() bool {
	if n.input.Type.IsFloat() {
		return false
	}
	same := map[string]bool{n.input.Name: true}
	found := false
	for _, node := range n.nodes {
		switch node.Op {
		case "Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Slice":
			if same[node.In[0]] {
				same[node.Out[0]] = true
			}
		case "Gather":
			if t := n.consts[node.In[0]]; t != nil && len(node.In) > 1 && same[node.In[1]] && len(t.Dims) > 0 {
				if !found || t.Dims[0] < n.vocab {
					n.vocab = t.Dims[0]
				}
				found = true
			}
		}
	}
	return found
}

// attends reports whether there is attention: a product with a softmax.
func (n *Net) attends() bool {
	soft := map[string]bool{}
	for _, node := range n.nodes {
		switch node.Op {
		case "Softmax":
			soft[node.Out[0]] = true
		case "Cast", "Identity", "Dropout", "Where":
			for _, in := range node.In {
				if soft[in] {
					soft[node.Out[0]] = true
				}
			}
		case "MatMul":
			if soft[node.In[0]] {
				return true
			}
		}
	}
	return false
}

// unit is how many rows an evaluation takes if they are separate samples.
func (n *Net) unit() int {
	if n.sequence || n.rowAxis < 0 || n.input.Dims[n.rowAxis].Size < 0 {
		return 1
	}
	return n.input.Dims[n.rowAxis].Size
}

// fixedRows is how many rows a sequence must have; 0 if any number.
func (n *Net) fixedRows() int {
	if n.sequence && n.input.Dims[n.rowAxis].Size > 0 {
		return n.input.Dims[n.rowAxis].Size
	}
	return 0
}

// evaluate runs the network once on rows rows of numbers, row after row, and
// shows see each value that depends on the input, if it is not nil.
func (n *Net) evaluate(ctx context.Context, data []float64, rows int, see func(node *Node, out []*Tensor, static bool)) ([]*Tensor, error) {
	dims := n.inputDims(rows)
	if count(dims) != len(data) {
		return nil, fmt.Errorf("onnx: %d numbers for input %q of shape %v", len(data), n.input.Name, dims)
	}
	x := &Tensor{Type: n.input.Type, Dims: dims}
	for _, v := range data {
		if x.Type.IsFloat() {
			x.F = append(x.F, float32(v))
		} else {
			x.I = append(x.I, int64(v))
		}
	}
	// Static are values that are the same whatever the numbers.
	vals, static := map[string]*Tensor{n.input.Name: x}, map[string]bool{}
	for name, f := range n.fixed {
		t, err := f.tensor(rows)
		if err != nil {
			return nil, fmt.Errorf("onnx: input %q: %w", name, err)
		}
		vals[name], static[name] = t, true
	}
	left := n.room
	for _, node := range n.nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
		in, same := make([]*Tensor, len(node.In)), true
		for i, name := range node.In {
			if name == "" {
				continue
			}
			if in[i] = n.consts[name]; in[i] == nil {
				in[i] = vals[name]
				same = same && static[name]
			}
			if in[i] == nil {
				return nil, fmt.Errorf("onnx: %s: no value for %q", node.label(), name)
			}
		}
		out, err := operators[node.Op](&call{node, n.version(node), in, &left})
		if err != nil {
			return nil, fmt.Errorf("onnx: %s: %w", node.label(), err)
		}
		same = same || node.Op == "Shape"
		for i, name := range node.Out {
			if name == "" {
				continue
			}
			if i >= len(out) {
				return nil, fmt.Errorf("onnx: %s: its result %q is not supported", node.label(), name)
			}
			vals[name], static[name] = out[i], same
		}
		if see != nil {
			see(node, out, same)
		}
	}
	var outs []*Tensor
	for _, o := range n.model.Outputs {
		t := vals[o.Name]
		if t == nil {
			t = n.consts[o.Name]
		}
		outs = append(outs, t)
	}
	return outs, nil
}

// tensor is the input's value for so many rows.
func (f filling) tensor(rows int) (*Tensor, error) {
	t := &Tensor{Type: f.port.Type}
	for i, d := range f.port.Dims {
		switch {
		case d.Size >= 0:
			t.Dims = append(t.Dims, d.Size)
		case i == len(f.port.Dims)-1:
			t.Dims = append(t.Dims, rows)
		default:
			t.Dims = append(t.Dims, 1)
		}
	}
	if t.Len() > 1<<20 {
		return nil, fmt.Errorf("of shape %v", t.Dims)
	}
	t.I = make([]int64, t.Len())
	for i := range t.I {
		switch f.with {
		case "ones":
			t.I[i] = 1
		case "counting":
			t.I[i] = int64(i)
		}
	}
	return t, nil
}

// Eval evaluates the network in floating point on rows of numbers: a sequence,
// or samples that are evaluated one after another. The results of a sequence
// are as the network shapes them; those of samples follow each other.
func (n *Net) Eval(ctx context.Context, rows [][]float64) ([]Tensor, error) {
	step := len(rows)
	if !n.sequence {
		step = n.unit()
	}
	if len(rows) == 0 || len(rows)%step != 0 {
		return nil, fmt.Errorf("onnx: %d rows, want a multiple of %d", len(rows), max(1, step))
	}
	if f := n.fixedRows(); f > 0 && len(rows) != f {
		return nil, fmt.Errorf("onnx: %d rows, and the network takes exactly %d", len(rows), f)
	}
	var all []Tensor
	for at := 0; at < len(rows); at += step {
		data := slices.Concat(rows[at : at+step]...)
		outs, err := n.evaluate(ctx, data, step, nil)
		if err != nil {
			return nil, err
		}
		for k, t := range outs {
			if at == 0 {
				all = append(all, *t)
				continue
			}
			all[k].F = append(all[k].F, t.F...)
			all[k].I = append(all[k].I, t.I...)
		}
	}
	return all, nil
}

// check refuses rows that the network does not take.
func (n *Net) check(rows [][]float64) error {
	for t, r := range rows {
		if len(r) != n.cols {
			return fmt.Errorf("row %d has %d numbers, want %d", t, len(r), n.cols)
		}
		for _, v := range r {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("row %d: %g is no number to compute with", t, v)
			}
			if n.tokens && (v != math.Trunc(v) || v < 0 || v >= float64(n.vocab)) {
				return fmt.Errorf("row %d: token %g, want 0 to %d", t, v, n.vocab-1)
			}
		}
	}
	return nil
}
