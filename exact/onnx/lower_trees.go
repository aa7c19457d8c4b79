package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

func (l *lower) trees(c *call) ([]*wire, error) {
	e, err := readEnsemble(c.node)
	if err != nil {
		return nil, err
	}
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	if len(w.dims) > 2 || w.axis == 1 {
		return nil, fmt.Errorf("input of shape %v, want rows of features", w.dims)
	}
	x, err := l.canonical(w, want{maxFrac, outBits, false})
	if err != nil {
		return nil, err
	}
	most := 0.0 // sum over trees of the greatest leaf
	for _, tree := range e.trees {
		leaf := 0.0
		for _, n := range tree {
			sum := 0.0
			for _, k := range n.contributes {
				sum = max(sum, math.Abs(float64(k.weight)))
			}
			leaf = max(leaf, sum*float64(max(1, len(n.contributes))))
		}
		most += leaf
	}
	frac := fracFor(most, 27, 24)
	var trees []quantise.Tree
	for _, tree := range e.trees {
		out := make(quantise.Tree, len(tree))
		for i, n := range tree {
			if n.leaf {
				v := make([]int32, e.outputs)
				for _, k := range n.contributes {
					v[k.output] += int32(fixed(float64(k.weight), frac))
				}
				out[i].Values = v
				continue
			}
			// x <= t of numbers is x <= floor(t) of integers; the others follow.
			t := math.Ldexp(float64(n.threshold), x.frac)
			yes, no := n.yes, n.no
			if n.mode == "BRANCH_GT" || n.mode == "BRANCH_GTE" {
				yes, no = no, yes
			}
			if n.mode == "BRANCH_LT" || n.mode == "BRANCH_GTE" {
				t = math.Ceil(t) - 1
			}
			t = max(float64(x.lo-1), min(float64(x.hi), math.Floor(t)))
			out[i] = quantise.Node{Feature: n.feature, Threshold: int32(t), Left: yes, Right: no}
		}
		// Later nodes only, from the root on.
		ordered, err := fromRoot(out)
		if err != nil {
			return nil, err
		}
		trees = append(trees, ordered)
	}
	v, err := quantise.Forest(l.prog, x.v, x.cols, exact.Range{Lo: x.lo, Hi: x.hi}, trees, e.outputs)
	if err != nil {
		return nil, err
	}
	y := &value{v: v, cols: e.outputs, frac: frac, hi: 1 << 28}
	y.lo = -y.hi
	rows := l.dims[c.node.Out[0]][0]
	s := fresh(y, []int{rows, e.outputs}, w.axis, w.row, false, most)
	gain, bias := slices.Repeat([]float64{1}, e.outputs), make([]float64, e.outputs)
	for i := range gain {
		if e.average {
			gain[i] = 1 / float64(len(e.trees))
		}
		if e.base != nil {
			bias[i] = e.base[i]
		}
	}
	if e.average || e.base != nil {
		if s, err = l.columnwise(s, gain, bias); err != nil {
			return nil, err
		}
		s.at.peak = most
	}
	if c.node.Op == "TreeEnsembleRegressor" {
		out, err := l.scored(s, e.post)
		return []*wire{out}, err
	}
	return l.classified(c, s, e.scoring())
}

// fromRoot leaves out nodes that no path reaches.
func fromRoot(tree quantise.Tree) (quantise.Tree, error) {
	var out quantise.Tree
	var visit func(at, depth int) (int, error)
	visit = func(at, depth int) (int, error) {
		if depth > 64 {
			return 0, errors.New("a tree deeper than 64")
		}
		n := tree[at]
		k := len(out)
		out = append(out, n)
		if n.Values == nil {
			left, err := visit(n.Left, depth+1)
			if err != nil {
				return 0, err
			}
			right, err := visit(n.Right, depth+1)
			if err != nil {
				return 0, err
			}
			out[k].Left, out[k].Right = left, right
		}
		return k, nil
	}
	_, err := visit(0, 0)
	return out, err
}

// scored applies a post-transform.
func (l *lower) scored(w *wire, post string) (*wire, error) {
	switch post {
	case "NONE":
		return w, nil
	case "LOGISTIC":
		out, err := l.apply(w, quantise.Sigmoid)
		if err != nil {
			return nil, err
		}
		return out[0], nil
	case "SOFTMAX":
		y, err := l.soften(w)
		if err != nil {
			return nil, err
		}
		return fresh(y, w.dims, w.axis, w.row, false, 1), nil
	}
	return nil, fmt.Errorf("post-transform %q is not supported, only NONE, LOGISTIC and SOFTMAX", post)
}

// classified makes labels and scores of sums.
func (l *lower) classified(c *call, w *wire, s scoring) ([]*wire, error) {
	if s.binary {
		pair := *w
		pair.dims = []int{w.dims[0], 2}
		pair.cols = []int32{w.cols[0], w.cols[0]}
		zero, one := s.pair(0), s.pair(1)
		y, err := l.columnwise(&pair, []float64{one[0] - zero[0], one[1] - zero[1]}, zero)
		if err != nil {
			return nil, err
		}
		y.at.peak = max(l.peakOf(w), 1)
		w = y
	}
	if w.at.peak == 0 {
		w.at.peak = l.peaks[c.node.Out[1]]
		if s.post != "NONE" {
			w.at.peak = max(w.at.peak, 16) // a logit beyond it is certain
		}
	}
	label, err := l.best(w, w.dims[:1], w.axis)
	if err != nil {
		return nil, err
	}
	if len(s.labels) == s.classes {
		table := &Tensor{Type: Float, Dims: []int{len(s.labels)}}
		most := int64(0)
		for _, v := range s.labels {
			if v <= -exact.Limit || v >= exact.Limit {
				return nil, fmt.Errorf("label %d", v)
			}
			table.I = append(table.I, v)
			most = max(most, v, -v)
		}
		if !slices.Equal(table.I, counting(len(table.I))) {
			data := make([]int32, len(table.I))
			for i, v := range table.I {
				data[i] = int32(v)
			}
			x := label[0].at.val
			y := &value{v: l.op(exact.Gather, x, []int{l.prog.Const(len(data), 1, data)}), cols: 1, lo: -most, hi: most}
			label = []*wire{fresh(y, w.dims[:1], w.axis, w.row, false, float64(max(1, most)))}
		}
	} else {
		l.note("labels are numbers of classes, in the order in which the network lists them")
	}
	scores, err := l.scored(w, s.post)
	return []*wire{label[0], scores}, err
}

func counting(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func (l *lower) linearModel(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	if len(w.dims) > 2 || w.axis == 1 {
		return nil, fmt.Errorf("input of shape %v, want rows of features", w.dims)
	}
	weights, bias, s, err := c.linearParts(w.perRow())
	if err != nil {
		return nil, err
	}
	at, err := l.weighted(w, w.cols, 1, w.perRow(), len(bias), weights, bias)
	if err != nil {
		return nil, err
	}
	// The sums are no tensor of the network, so nobody has seen how large they
	// get: by the bound.
	norms := make([]float64, len(bias))
	for i, v := range weights {
		norms[i%len(bias)] += math.Abs(v) * l.peakOf(w)
	}
	for j, n := range norms {
		at.peak = max(at.peak, n+math.Abs(bias[j]))
	}
	out := &wire{dims: []int{l.dims[c.node.Out[0]][0], len(bias)}, axis: w.axis, row: w.row, at: at, cols: columns(len(bias))}
	if c.node.Op == "LinearRegressor" {
		y, err := l.scored(out, s.post)
		return []*wire{y}, err
	}
	return l.classified(c, out, s)
}

func (l *lower) scaler(c *call) ([]*wire, error) {
	w, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	if len(w.dims) > 2 || w.axis == 1 {
		return nil, fmt.Errorf("input of shape %v, want rows of features", w.dims)
	}
	factor, addend, err := c.scale(w.perRow())
	if err != nil {
		return nil, err
	}
	out, err := l.columnwise(w, factor, addend)
	return []*wire{out}, err
}
