package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// call is one application of an operator: the node, its operands (nil where
// left out) and the version of the operator set.
type call struct {
	node  *Node
	opset int64
	in    []*Tensor
	// left is what the evaluation may still take.
	left *room
}

// room bounds an evaluation, so that a small hostile file costs little.
type room struct{ elements, products int64 }

// defaultRoom is a gigabyte or two of elements held, and a minute or two of
// work.
var defaultRoom = room{1 << 27, 1 << 37}

var errRoom = errors.New("the network takes more memory or work than is allowed here")

// hold takes room for elements.
func (c *call) hold(n int) error {
	if c.left.elements -= int64(n); n < 0 || c.left.elements < 0 {
		return errRoom
	}
	return nil
}

// spend takes room for products.
func (c *call) spend(n int) error {
	if c.left.products -= int64(n); n < 0 || c.left.products < 0 {
		return errRoom
	}
	return nil
}

func (c *call) new(t Type, dims []int) (*Tensor, error) {
	if len(dims) > maxRank {
		return nil, fmt.Errorf("%d dimensions, at most %d", len(dims), maxRank)
	}
	n := 1
	for _, d := range dims {
		if d < 0 || d > maxDim {
			return nil, fmt.Errorf("dimensions %v", dims)
		}
		if n *= d; n > maxDim {
			return nil, fmt.Errorf("dimensions %v: too many elements", dims)
		}
	}
	if err := c.hold(n); err != nil {
		return nil, err
	}
	out := &Tensor{Type: t, Dims: slices.Clone(dims)}
	if t.IsFloat() {
		out.F = make([]float32, n)
	} else {
		out.I = make([]int64, n)
	}
	return out, nil
}

// operand returns operand i, which must be there.
func (c *call) operand(i int) (*Tensor, error) {
	if i >= len(c.in) || c.in[i] == nil {
		return nil, fmt.Errorf("operand %d is missing", i)
	}
	return c.in[i], nil
}

func (c *call) float(i int) (*Tensor, error) {
	t, err := c.operand(i)
	if err == nil && !t.Type.IsFloat() {
		err = fmt.Errorf("operand %d is not of floats", i)
	}
	return t, err
}

// ints returns operand i as integers.
func (c *call) ints(i int) ([]int64, error) {
	t, err := c.operand(i)
	if err == nil && (t.Type.IsFloat() || t.I == nil && t.Len() > 0) {
		err = fmt.Errorf("operand %d must be constant integers", i)
	}
	if err != nil {
		return nil, err
	}
	return t.I, nil
}

// has reports whether operand i is given.
func (c *call) has(i int) bool { return i < len(c.in) && c.in[i] != nil }

func (n *Node) attr(name string) (Attr, bool) {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a, true
		}
	}
	return Attr{}, false
}

func (n *Node) intAttr(name string, def int64) int64 {
	if a, ok := n.attr(name); ok && a.Type == AttrInt {
		return a.I
	}
	return def
}

func (n *Node) floatAttr(name string, def float32) float64 {
	if a, ok := n.attr(name); ok && a.Type == AttrFloat {
		def = a.F
	}
	return float64(def)
}

func (n *Node) stringAttr(name, def string) string {
	if a, ok := n.attr(name); ok && a.Type == AttrString {
		return string(a.S)
	}
	return def
}

func (n *Node) intsAttr(name string) []int64 {
	a, _ := n.attr(name)
	return a.Ints
}

func (n *Node) floatsAttr(name string) []float32 {
	a, _ := n.attr(name)
	return a.Floats
}

func (n *Node) stringsAttr(name string) []string {
	a, _ := n.attr(name)
	out := make([]string, len(a.Strings))
	for i, s := range a.Strings {
		out[i] = string(s)
	}
	return out
}

// operators are those that can be evaluated, by name.
var operators map[string]func(*call) ([]*Tensor, error)

func init() {
	operators = map[string]func(*call) ([]*Tensor, error){
		"MatMul": matMul, "Gemm": gemm, "Conv": conv,
		"MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": pool, "GlobalMaxPool": pool,
		"BatchNormalization": batchNorm, "LayerNormalization": layerNorm, "RMSNormalization": layerNorm,
		"LpNormalization": lpNorm, "Softmax": softmax,
		"ReduceMean": reduce, "ReduceSum": reduce, "ReduceMax": reduce, "ReduceMin": reduce, "ReduceL2": reduce,
		"ArgMax": argMax, "Where": where, "Cast": cast, "Shape": shapeOf, "Constant": constant,
		"ConstantOfShape": constantOfShape, "Range": rangeOf, "Trilu": trilu, "NonZero": nonZero, "Clip": clip,
		"TreeEnsembleRegressor": treeEnsemble, "TreeEnsembleClassifier": treeEnsemble,
		"LinearRegressor": linearModel, "LinearClassifier": linearModel, "Scaler": scaler,
	}
	for op := range movements {
		operators[op] = evalMove
	}
	for op := range binaries {
		operators[op] = evalBinary
	}
	for op := range comparisons {
		operators[op] = evalComparison
	}
	for _, op := range unaries {
		operators[op] = evalUnary
	}
}

func one(t *Tensor, err error) ([]*Tensor, error) {
	if err != nil {
		return nil, err
	}
	return []*Tensor{t}, nil
}

// axis brings an axis into [0, rank).
func axis(a int64, rank int) (int, error) {
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d of %d dimensions", a, rank)
	}
	return int(a), nil
}

// strides are the distances of neighbours in each dimension, row-major.
func strides(dims []int) []int {
	s := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

// walk calls f for each index of dims in order, with the sum of index times
// stride.
func walk(dims, stride []int, f func(at int)) {
	if count(dims) == 0 {
		return
	}
	index := make([]int, len(dims))
	at := 0
	for {
		f(at)
		k := len(dims) - 1
		for ; k >= 0; k-- {
			index[k]++
			at += stride[k]
			if index[k] < dims[k] {
				break
			}
			at -= stride[k] * index[k]
			index[k] = 0
		}
		if k < 0 {
			return
		}
	}
}

// broadcast is the shape of two operands combined element by element.
func broadcast(a, b []int) ([]int, error) {
	n := max(len(a), len(b))
	out := make([]int, n)
	for i := range out {
		x, y := 1, 1
		if k := i - (n - len(a)); k >= 0 {
			x = a[k]
		}
		if k := i - (n - len(b)); k >= 0 {
			y = b[k]
		}
		if x != y && x != 1 && y != 1 {
			return nil, fmt.Errorf("shapes %v and %v do not go together", a, b)
		}
		if out[i] = x; x == 1 {
			out[i] = y
		}
	}
	return out, nil
}

// stretched are the strides of a tensor of shape dims seen as one of shape
// out.
func stretched(dims, out []int) []int {
	own := strides(dims)
	s := make([]int, len(out))
	for i, d := range dims {
		if d != 1 {
			s[len(out)-len(dims)+i] = own[i]
		}
	}
	return s
}

// spread is, for each element of shape out, the element of a tensor of shape
// dims that stands there.
func spread(dims, out []int) []int {
	at := make([]int, 0, count(out))
	walk(out, stretched(dims, out), func(i int) { at = append(at, i) })
	return at
}

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
		if y == 0 || y == -1 {
			return -x, nil // as hardware traps, but nothing may panic here
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

// number is element i of a tensor of any type.
func (t *Tensor) number(i int) float64 {
	if t.Type.IsFloat() {
		return float64(t.F[i])
	}
	return float64(t.I[i])
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
		if out.Type.IsFloat() {
			out.F[i] = from.F[at]
		} else {
			out.I[i] = from.I[at]
		}
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
				f = 0
			}
			out.I[i] = int64(f)
		default:
			out.I[i] = x.I[i]
		}
	}
	return []*Tensor{out}, nil
}

func shapeOf(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	clamp := func(name string, def int) int {
		a := c.node.intAttr(name, int64(def))
		if a < 0 {
			a += int64(len(x.Dims))
		}
		return int(max(0, min(a, int64(len(x.Dims)))))
	}
	from, to := clamp("start", 0), clamp("end", len(x.Dims))
	out, err := c.new(Int64, []int{max(0, to-from)})
	if err != nil {
		return nil, err
	}
	for i := range out.I {
		out.I[i] = int64(x.Dims[from+i])
	}
	return []*Tensor{out}, nil
}

func constant(c *call) ([]*Tensor, error) {
	for _, a := range c.node.Attrs {
		switch a.Type {
		case AttrTensor:
			return []*Tensor{a.T}, nil
		case AttrFloat:
			return []*Tensor{{Type: Float, F: []float32{a.F}}}, nil
		case AttrInt:
			return []*Tensor{{Type: Int64, I: []int64{a.I}}}, nil
		case AttrFloats:
			return []*Tensor{{Type: Float, Dims: []int{len(a.Floats)}, F: a.Floats}}, nil
		case AttrInts:
			return []*Tensor{{Type: Int64, Dims: []int{len(a.Ints)}, I: a.Ints}}, nil
		}
	}
	return nil, errors.New("it holds no value that can be read")
}

func constantOfShape(c *call) ([]*Tensor, error) {
	dims, err := c.ints(0)
	if err != nil {
		return nil, err
	}
	size, err := sizes(dims)
	if err != nil {
		return nil, err
	}
	v := &Tensor{Type: Float, F: []float32{0}}
	if a, ok := c.node.attr("value"); ok && a.T != nil && a.T.Len() == 1 {
		v = a.T
	}
	out, err := c.new(v.Type, size)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = v.F[0]
	}
	for i := range out.I {
		out.I[i] = v.I[0]
	}
	return []*Tensor{out}, nil
}

func rangeOf(c *call) ([]*Tensor, error) {
	var v [3]*Tensor
	for i := range v {
		t, err := c.operand(i)
		if err != nil {
			return nil, err
		}
		if t.Len() != 1 {
			return nil, errors.New("want three numbers")
		}
		v[i] = t
	}
	from, to, step := v[0].number(0), v[1].number(0), v[2].number(0)
	n := math.Ceil((to - from) / step)
	if !(n < maxDim) {
		return nil, errors.New("too many numbers")
	}
	out, err := c.new(v[0].Type, []int{max(0, int(n))})
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(from + float64(i)*step)
	}
	for i := range out.I {
		out.I[i] = int64(from) + int64(i)*int64(step)
	}
	return []*Tensor{out}, nil
}

func trilu(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	k := int64(0)
	if c.has(1) {
		v, err := c.ints(1)
		if err != nil || len(v) != 1 {
			return nil, errors.New("want one diagonal")
		}
		k = v[0]
	}
	r := len(x.Dims)
	if r < 2 {
		return nil, errors.New("want a matrix")
	}
	out, err := c.new(x.Type, x.Dims)
	if err != nil {
		return nil, err
	}
	upper := c.node.intAttr("upper", 1) != 0
	rows, cols := x.Dims[r-2], x.Dims[r-1]
	for e := range x.Len() {
		i, j := int64(e/cols%rows), int64(e%cols)
		if upper && j-i >= k || !upper && j-i <= k {
			if x.Type.IsFloat() {
				out.F[e] = x.F[e]
			} else {
				out.I[e] = x.I[e]
			}
		}
	}
	return []*Tensor{out}, nil
}

// nonZero lists the places of what is not zero, a row for each dimension.
func nonZero(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	var at []int
	for i := range x.Len() {
		if x.number(i) != 0 {
			at = append(at, i)
		}
	}
	out, err := c.new(Int64, []int{len(x.Dims), len(at)})
	if err != nil {
		return nil, err
	}
	for a, stride := range strides(x.Dims) {
		for j, i := range at {
			out.I[a*len(at)+j] = int64(i / stride % x.Dims[a])
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

func matMul(c *call) ([]*Tensor, error) {
	a, err := c.float(0)
	if err != nil {
		return nil, err
	}
	b, err := c.float(1)
	if err != nil {
		return nil, err
	}
	da, db := a.Dims, b.Dims
	if len(da) == 0 || len(db) == 0 {
		return nil, errors.New("an operand is a single number")
	}
	if len(da) == 1 {
		da = []int{1, da[0]}
	}
	if len(db) == 1 {
		db = []int{db[0], 1}
	}
	m, k, n := da[len(da)-2], da[len(da)-1], db[len(db)-1]
	if db[len(db)-2] != k {
		return nil, fmt.Errorf("shapes %v and %v do not multiply", a.Dims, b.Dims)
	}
	ba, bb := da[:len(da)-2], db[:len(db)-2]
	batch, err := broadcast(ba, bb)
	if err != nil {
		return nil, err
	}
	dims := slices.Concat(batch, []int{m, n})
	out, err := c.new(Float, dims)
	if err != nil {
		return nil, err
	}
	if err := c.spend(out.Len() * k); err != nil {
		return nil, err
	}
	sa, sb := spread(ba, batch), spread(bb, batch)
	for i := range sa {
		product(out.F[i*m*n:(i+1)*m*n], a.F[sa[i]*m*k:], b.F[sb[i]*k*n:], m, k, n)
	}
	// A vector's added dimension goes again.
	if len(b.Dims) == 1 {
		out.Dims = out.Dims[:len(out.Dims)-1]
	}
	if len(a.Dims) == 1 {
		at := len(batch)
		out.Dims = slices.Delete(out.Dims, at, at+1)
	}
	return []*Tensor{out}, nil
}

// product adds a times b, [m][k] and [k][n], to out.
func product(out, a, b []float32, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		for j, x := range a[i*k : (i+1)*k] {
			if x == 0 {
				continue
			}
			for l, y := range b[j*n : (j+1)*n] {
				row[l] += x * y
			}
		}
	}
}

func transposed(x []float32, rows, cols int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}

// gemmParts are a Gemm's second factor and addend with everything applied, so
// that the result is x times w plus b. transA is refused.
func (c *call) gemmParts() (w []float32, k, n int, bias *Tensor, beta float32, err error) {
	if c.node.intAttr("transA", 0) != 0 {
		return nil, 0, 0, nil, 0, errors.New("transA is not supported")
	}
	b, err := c.float(1)
	if err != nil {
		return nil, 0, 0, nil, 0, err
	}
	if len(b.Dims) != 2 {
		return nil, 0, 0, nil, 0, fmt.Errorf("second operand of shape %v", b.Dims)
	}
	if b.F == nil && b.Len() > 0 {
		return nil, 0, 0, nil, 0, errors.New("its second operand must be constant: use MatMul for products of two values")
	}
	k, n, w = b.Dims[0], b.Dims[1], b.F
	if c.node.intAttr("transB", 0) != 0 {
		if err := c.hold(len(w)); err != nil {
			return nil, 0, 0, nil, 0, err
		}
		w = transposed(w, k, n)
		k, n = n, k
	}
	if alpha := float32(c.node.floatAttr("alpha", 1)); alpha != 1 {
		w = slices.Clone(w)
		for i := range w {
			w[i] *= alpha
		}
	}
	if c.has(2) {
		if bias, err = c.float(2); err != nil {
			return nil, 0, 0, nil, 0, err
		}
	}
	return w, k, n, bias, float32(c.node.floatAttr("beta", 1)), nil
}

func gemm(c *call) ([]*Tensor, error) {
	a, err := c.float(0)
	if err != nil {
		return nil, err
	}
	w, k, n, bias, beta, err := c.gemmParts()
	if err != nil {
		return nil, err
	}
	if len(a.Dims) != 2 || a.Dims[1] != k {
		return nil, fmt.Errorf("first operand of shape %v for %d", a.Dims, k)
	}
	m := a.Dims[0]
	out, err := c.new(Float, []int{m, n})
	if err != nil {
		return nil, err
	}
	if err := c.spend(m * k * n); err != nil {
		return nil, err
	}
	product(out.F, a.F, w, m, k, n)
	if bias != nil {
		if dims, err := broadcast(out.Dims, bias.Dims); err != nil || !slices.Equal(dims, out.Dims) {
			return nil, fmt.Errorf("addend of shape %v", bias.Dims)
		}
		for i, at := range spread(bias.Dims, out.Dims) {
			out.F[i] += beta * bias.F[at]
		}
	}
	return []*Tensor{out}, nil
}

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

// next goes to the next index, row-major.
func next(index, dims []int) {
	for k := len(dims) - 1; k >= 0; k-- {
		if index[k]++; index[k] < dims[k] {
			return
		}
		index[k] = 0
	}
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

// along calls f with the elements of each line of x along an axis: the first
// one's place, the distance and the number.
func along(dims []int, a int, f func(at, step, n int)) {
	step := count(dims[a+1:])
	n := dims[a]
	for o := range count(dims[:a]) {
		for i := range step {
			f(o*n*step+i, step, n)
		}
	}
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

// axes are those that a reduction goes over, as a set.
func (c *call) axes(rank int) ([]bool, error) {
	list := c.node.intsAttr("axes")
	if c.has(1) {
		var err error
		if list, err = c.ints(1); err != nil {
			return nil, err
		}
	}
	over := make([]bool, rank)
	if len(list) == 0 {
		if c.node.intAttr("noop_with_empty_axes", 0) == 0 {
			for i := range over {
				over[i] = true
			}
		}
		return over, nil
	}
	for _, v := range list {
		a, err := axis(v, rank)
		if err != nil {
			return nil, err
		}
		over[a] = true
	}
	return over, nil
}

// reduced is the shape after a reduction, and for each element before it the
// element it goes into.
func reduced(dims []int, over []bool, keep bool) (out []int, into []int) {
	kept := slices.Clone(dims)
	for i := range kept {
		if over[i] {
			kept[i] = 1
		}
	}
	into = make([]int, 0, count(dims))
	walk(dims, stretched(kept, dims), func(at int) { into = append(into, at) })
	if keep {
		return kept, into
	}
	for i, d := range dims {
		if !over[i] {
			out = append(out, d)
		}
	}
	return out, into
}

func reduce(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	over, err := c.axes(len(x.Dims))
	if err != nil {
		return nil, err
	}
	dims, into := reduced(x.Dims, over, c.node.intAttr("keepdims", 1) != 0)
	out, err := c.new(x.Type, dims)
	if err != nil {
		return nil, err
	}
	if err := c.spend(x.Len()); err != nil {
		return nil, err
	}
	acc := make([]float64, out.Len())
	for i := range acc {
		switch c.node.Op {
		case "ReduceMax":
			acc[i] = math.Inf(-1)
		case "ReduceMin":
			acc[i] = math.Inf(1)
		}
	}
	for i, k := range into {
		switch v := x.number(i); c.node.Op {
		case "ReduceMax":
			acc[k] = math.Max(acc[k], v)
		case "ReduceMin":
			acc[k] = math.Min(acc[k], v)
		case "ReduceL2":
			acc[k] += v * v
		default:
			acc[k] += v
		}
	}
	n := float64(max(1, x.Len())) / float64(max(1, len(acc)))
	for i, v := range acc {
		switch c.node.Op {
		case "ReduceMean":
			v /= n
		case "ReduceL2":
			v = math.Sqrt(v)
		}
		if out.Type.IsFloat() {
			out.F[i] = float32(v)
		} else {
			out.I[i] = int64(v)
		}
	}
	return []*Tensor{out}, nil
}

func argMax(c *call) ([]*Tensor, error) {
	x, err := c.operand(0)
	if err != nil {
		return nil, err
	}
	a, err := axis(c.node.intAttr("axis", 0), len(x.Dims))
	if err != nil {
		return nil, err
	}
	if c.node.intAttr("select_last_index", 0) != 0 {
		return nil, errors.New("select_last_index is not supported: the first of equal elements is taken")
	}
	over := make([]bool, len(x.Dims))
	over[a] = true
	if x.Dims[a] == 0 {
		return nil, errors.New("of nothing")
	}
	dims, _ := reduced(x.Dims, over, c.node.intAttr("keepdims", 1) != 0)
	out, err := c.new(Int64, dims)
	if err != nil {
		return nil, err
	}
	k := 0
	along(x.Dims, a, func(at, step, n int) {
		best := 0
		for i := range n {
			if x.number(at+i*step) > x.number(at+best*step) {
				best = i
			}
		}
		out.I[k] = int64(best)
		k++
	})
	return []*Tensor{out}, nil
}
