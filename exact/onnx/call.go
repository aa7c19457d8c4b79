package onnx

import (
	"errors"
	"fmt"
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

// list returns integers that are operand i, or an attribute in versions of the
// operator before it was an operand; nil if neither is given.
func (c *call) list(i int, name string) ([]int64, error) {
	if c.has(i) {
		return c.ints(i)
	}
	return c.node.intsAttr(name), nil
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

// copy makes element i that of another tensor of the same kind of numbers.
func (t *Tensor) copy(i int, from *Tensor, k int) {
	if t.Type.IsFloat() {
		t.F[i] = from.F[k]
	} else {
		t.I[i] = from.I[k]
	}
}

// number is element i of a tensor of any type.
func (t *Tensor) number(i int) float64 {
	if t.Type.IsFloat() {
		return float64(t.F[i])
	}
	return float64(t.I[i])
}
