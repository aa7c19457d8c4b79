package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ensemble is a TreeEnsembleRegressor or TreeEnsembleClassifier.
type ensemble struct {
	trees   [][]treeNode
	outputs int
	base    []float64 // or nil
	average bool
	post    string
	// A classifier whose leaves speak of one of two classes only: its score s
	// stands for the second class.
	binary, positive bool
	labels           []int64 // of a classifier, if they are numbers
	classes          int
}

// treeNode asks a question, or is a leaf.
type treeNode struct {
	leaf        bool
	mode        string
	feature     int
	threshold   float32
	yes, no     int
	contributes []contribution
}

type contribution struct {
	output int
	weight float32
}

// readEnsemble reads the attributes of a node.
func readEnsemble(n *Node) (*ensemble, error) {
	classifier := n.Op == "TreeEnsembleClassifier"
	trees, ids := n.intsAttr("nodes_treeids"), n.intsAttr("nodes_nodeids")
	features, modes := n.intsAttr("nodes_featureids"), n.stringsAttr("nodes_modes")
	values := n.floatsAttr("nodes_values")
	yes, no := n.intsAttr("nodes_truenodeids"), n.intsAttr("nodes_falsenodeids")
	count := len(trees)
	if count == 0 || len(ids) != count || len(features) != count || len(modes) != count || len(values) != count || len(yes) != count || len(no) != count {
		return nil, errors.New("its lists of nodes are empty or differ in length")
	}
	type key struct{ tree, node int64 }
	place := make(map[key]int, count)
	first := map[int64]int{} // tree number
	var e ensemble
	for i := range trees {
		t, ok := first[trees[i]]
		if !ok {
			t = len(e.trees)
			first[trees[i]] = t
			e.trees = append(e.trees, nil)
		}
		k := key{trees[i], ids[i]}
		if _, twice := place[k]; twice {
			return nil, fmt.Errorf("tree %d has two nodes %d", trees[i], ids[i])
		}
		place[k] = len(e.trees[t])
		if features[i] < 0 || features[i] > maxDim {
			return nil, fmt.Errorf("feature %d", features[i])
		}
		e.trees[t] = append(e.trees[t], treeNode{leaf: modes[i] == "LEAF", mode: modes[i], feature: int(features[i]), threshold: values[i]})
	}
	for i := range trees {
		node := &e.trees[first[trees[i]]][place[key{trees[i], ids[i]}]]
		if node.leaf {
			continue
		}
		switch node.mode {
		case "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT":
		default:
			return nil, fmt.Errorf("nodes of mode %q are not supported, only BRANCH_LEQ, _LT, _GTE and _GT", node.mode)
		}
		var ok1, ok2 bool
		node.yes, ok1 = place[key{trees[i], yes[i]}]
		node.no, ok2 = place[key{trees[i], no[i]}]
		// Every node has one node above it, or evaluation might not end.
		if !ok1 || !ok2 || node.yes == 0 || node.no == 0 {
			return nil, fmt.Errorf("tree %d, node %d goes to a node that does not exist, or to the root", trees[i], ids[i])
		}
	}
	for t, tree := range e.trees {
		if err := acyclic(tree); err != nil {
			return nil, fmt.Errorf("tree number %d: %w", t, err)
		}
	}

	prefix := "target_"
	if classifier {
		prefix = "class_"
		e.labels = n.intsAttr("classlabels_int64s")
		e.classes = max(len(e.labels), len(n.stringsAttr("classlabels_strings")))
		e.outputs = e.classes
	} else {
		e.outputs = int(max(0, min(n.intAttr("n_targets", 1), maxDim)))
		switch f := n.stringAttr("aggregate_function", "SUM"); f {
		case "SUM":
		case "AVERAGE":
			e.average = true
		default:
			return nil, fmt.Errorf("trees joined by %s are not supported, only SUM and AVERAGE", f)
		}
	}
	if e.outputs < 1 || e.outputs > 1<<12 {
		return nil, fmt.Errorf("%d results", e.outputs)
	}
	ct, cn := n.intsAttr(prefix+"treeids"), n.intsAttr(prefix+"nodeids")
	ci, cw := n.intsAttr(prefix+"ids"), n.floatsAttr(prefix+"weights")
	if len(cn) != len(ct) || len(ci) != len(ct) || len(cw) != len(ct) {
		return nil, errors.New("its lists of leaves differ in length")
	}
	e.binary, e.positive = classifier && e.outputs == 2 && len(ci) > 0, true
	for i := range ct {
		at, ok := place[key{ct[i], cn[i]}]
		if !ok || ci[i] < 0 || ci[i] >= int64(e.outputs) {
			return nil, fmt.Errorf("a weight for result %d at tree %d, node %d", ci[i], ct[i], cn[i])
		}
		node := &e.trees[first[ct[i]]][at]
		node.contributes = append(node.contributes, contribution{int(ci[i]), cw[i]})
		e.binary = e.binary && ci[i] == ci[0]
		e.positive = e.positive && cw[i] >= 0
	}
	for _, b := range n.floatsAttr("base_values") {
		e.base = append(e.base, float64(b))
	}
	if e.binary {
		// One score, whatever the class is called.
		e.outputs = 1
		for _, tree := range e.trees {
			for i := range tree {
				for k := range tree[i].contributes {
					tree[i].contributes[k].output = 0
				}
			}
		}
	}
	if e.base != nil && len(e.base) != e.outputs {
		return nil, fmt.Errorf("%d base values for %d results", len(e.base), e.outputs)
	}
	e.post = n.stringAttr("post_transform", "NONE")
	return &e, nil
}

// acyclic refuses a tree in which a node has two nodes above it.
func acyclic(tree []treeNode) error {
	above := make([]bool, len(tree))
	for _, n := range tree {
		if n.leaf {
			continue
		}
		if above[n.yes] || above[n.no] || n.yes == n.no {
			return errors.New("a node is reached on two ways")
		}
		above[n.yes], above[n.no] = true, true
	}
	return nil
}

// holds reports whether a node's condition is true of a number.
func (n treeNode) holds(x float32) bool {
	switch n.mode {
	case "BRANCH_LEQ":
		return x <= n.threshold
	case "BRANCH_LT":
		return x < n.threshold
	case "BRANCH_GTE":
		return x >= n.threshold
	}
	return x > n.threshold
}

// sums are the sums of what the leaves say that a row of features reaches.
func (e *ensemble) sums(row []float32) ([]float64, error) {
	out := make([]float64, e.outputs)
	for _, tree := range e.trees {
		at := 0
		for !tree[at].leaf {
			if tree[at].feature >= len(row) {
				return nil, fmt.Errorf("feature %d of %d", tree[at].feature, len(row))
			}
			if tree[at].holds(row[tree[at].feature]) {
				at = tree[at].yes
			} else {
				at = tree[at].no
			}
		}
		for _, c := range tree[at].contributes {
			out[c.output] += float64(c.weight)
		}
	}
	for i := range out {
		if e.average {
			out[i] /= float64(len(e.trees))
		}
		if e.base != nil {
			out[i] += e.base[i]
		}
	}
	return out, nil
}

// rowsOf is operand 0 as [rows][features].
func (c *call) rowsOf() (x *Tensor, rows, features int, err error) {
	x, err = c.operand(0)
	switch {
	case err != nil:
		return nil, 0, 0, err
	case len(x.Dims) == 1:
		return x, 1, x.Dims[0], nil
	case len(x.Dims) == 2:
		return x, x.Dims[0], x.Dims[1], nil
	}
	return nil, 0, 0, fmt.Errorf("input of shape %v, want rows of features", x.Dims)
}

func treeEnsemble(c *call) ([]*Tensor, error) {
	e, err := readEnsemble(c.node)
	if err != nil {
		return nil, err
	}
	x, rows, features, err := c.rowsOf()
	if err != nil {
		return nil, err
	}
	if err := c.spend(rows * len(e.trees)); err != nil {
		return nil, err
	}
	var all [][]float64
	for r := range rows {
		row := make([]float32, features)
		for i := range row {
			row[i] = float32(x.number(r*features + i))
		}
		s, err := e.sums(row)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if c.node.Op == "TreeEnsembleRegressor" {
		return one(c.scores(all, e.outputs, e.post))
	}
	return c.classified(all, e.scoring())
}

// scoring says how a classifier makes scores of sums.
type scoring struct {
	labels   []int64 // or nil: the numbers of the classes
	classes  int
	post     string
	binary   bool // one sum for two classes
	positive bool // a binary sum is a probability
}

func (e *ensemble) scoring() scoring {
	return scoring{labels: e.labels, classes: e.classes, post: e.post, binary: e.binary, positive: e.positive}
}

// pair makes two scores of the one sum of a binary classifier, as the runtime
// does: probabilities, or the sum with both signs.
func (s scoring) pair(x float64) []float64 {
	if s.positive && s.post == "NONE" {
		return []float64{1 - x, x}
	}
	return []float64{-x, x}
}

// classified makes labels and scores of sums.
func (c *call) classified(sums [][]float64, s scoring) ([]*Tensor, error) {
	labels, err := c.new(Int64, []int{len(sums)})
	if err != nil {
		return nil, err
	}
	for i, row := range sums {
		if s.binary {
			row = s.pair(row[0])
			sums[i] = row
		}
		best := 0
		for j, v := range row {
			if v > row[best] {
				best = j
			}
		}
		labels.I[i] = int64(best)
		if best < len(s.labels) {
			labels.I[i] = s.labels[best]
		}
	}
	scores, err := c.scores(sums, s.classes, s.post)
	return []*Tensor{labels, scores}, err
}

// scores applies a post-transform to sums.
func (c *call) scores(sums [][]float64, n int, post string) (*Tensor, error) {
	out, err := c.new(Float, []int{len(sums), n})
	if err != nil {
		return nil, err
	}
	for i, row := range sums {
		if len(row) != n {
			return nil, fmt.Errorf("%d sums for %d results", len(row), n)
		}
		switch post {
		case "NONE":
		case "LOGISTIC":
			row = slices.Clone(row)
			for j, v := range row {
				row[j] = 1 / (1 + math.Exp(-v))
			}
		case "SOFTMAX":
			top, sum := slices.Max(row), 0.0
			row = slices.Clone(row)
			for j, v := range row {
				row[j] = math.Exp(v - top)
				sum += row[j]
			}
			for j := range row {
				row[j] /= sum
			}
		default:
			return nil, fmt.Errorf("post-transform %q is not supported, only NONE, LOGISTIC and SOFTMAX", post)
		}
		for j, v := range row {
			out.F[i*n+j] = float32(v)
		}
	}
	return out, nil
}

// linearParts are the weights [features][outputs] and intercepts of a
// LinearRegressor or LinearClassifier.
func (c *call) linearParts(features int) (w []float64, bias []float64, s scoring, err error) {
	n := c.node
	coef := n.floatsAttr("coefficients")
	outputs := int(max(1, min(n.intAttr("targets", 1), maxDim)))
	if n.Op == "LinearClassifier" {
		s.labels = n.intsAttr("classlabels_ints")
		s.classes = max(len(s.labels), len(n.stringsAttr("classlabels_strings")))
		if s.classes < 2 {
			return nil, nil, s, errors.New("fewer than two classes")
		}
		outputs = s.classes
		// One row of weights for two classes.
		if s.binary = s.classes == 2 && len(coef) == features; s.binary {
			outputs = 1
		}
	}
	s.post = n.stringAttr("post_transform", "NONE")
	if features < 1 || len(coef) != outputs*features {
		return nil, nil, s, fmt.Errorf("%d coefficients for %d results of %d features", len(coef), outputs, features)
	}
	w, bias = make([]float64, len(coef)), make([]float64, outputs)
	for o := range outputs {
		for i := range features {
			w[i*outputs+o] = float64(coef[o*features+i])
		}
	}
	switch in := n.floatsAttr("intercepts"); len(in) {
	case 0:
	case outputs:
		for o, b := range in {
			bias[o] = float64(b)
		}
	default:
		return nil, nil, s, fmt.Errorf("%d intercepts for %d results", len(in), outputs)
	}
	return w, bias, s, nil
}

func linearModel(c *call) ([]*Tensor, error) {
	x, rows, features, err := c.rowsOf()
	if err != nil {
		return nil, err
	}
	w, bias, s, err := c.linearParts(features)
	if err != nil {
		return nil, err
	}
	if err := c.spend(rows * len(w)); err != nil {
		return nil, err
	}
	sums := make([][]float64, rows)
	for r := range rows {
		sums[r] = slices.Clone(bias)
		for i := range features {
			for o := range bias {
				sums[r][o] += x.number(r*features+i) * w[i*len(bias)+o]
			}
		}
	}
	if c.node.Op == "LinearRegressor" {
		return one(c.scores(sums, len(bias), s.post))
	}
	return c.classified(sums, s)
}

// scale is the factor and addend of each feature of a Scaler.
func (c *call) scale(features int) (factor, addend []float64, err error) {
	offset, scale := c.node.floatsAttr("offset"), c.node.floatsAttr("scale")
	at := func(v []float32, i int, def float64) (float64, error) {
		switch len(v) {
		case 0:
			return def, nil
		case 1:
			return float64(v[0]), nil
		case features:
			return float64(v[i]), nil
		}
		return 0, fmt.Errorf("%d numbers for %d features", len(v), features)
	}
	for i := range features {
		o, err := at(offset, i, 0)
		if err != nil {
			return nil, nil, err
		}
		s, err := at(scale, i, 1)
		if err != nil {
			return nil, nil, err
		}
		factor, addend = append(factor, s), append(addend, -o*s)
	}
	return factor, addend, nil
}

func scaler(c *call) ([]*Tensor, error) {
	x, _, features, err := c.rowsOf()
	if err != nil {
		return nil, err
	}
	factor, addend, err := c.scale(features)
	if err != nil {
		return nil, err
	}
	out, err := c.new(Float, x.Dims)
	if err != nil {
		return nil, err
	}
	for i := range out.F {
		out.F[i] = float32(x.number(i)*factor[i%features] + addend[i%features])
	}
	return []*Tensor{out}, nil
}
