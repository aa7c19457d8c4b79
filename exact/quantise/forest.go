package quantise

import (
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
)

// Node is a node of a decision tree. An inner node asks whether the feature is
// at most the threshold, and goes Left if so; a leaf has Values.
type Node struct {
	Feature     int
	Threshold   int32
	Left, Right int     // later nodes of the tree
	Values      []int32 // one for each output; nil for an inner node
}

// Tree is a decision tree; node 0 is the root.
type Tree []Node

// path is how a leaf is reached: the numbers of the conditions that must hold
// or must not.
type path struct {
	yes, no []int
	values  []int32
}

// Forest emits the sums, over all trees, of the values of the leaf that a row
// of features reaches. x has the given number of columns; all its elements are
// in r. Comparisons are with constants, so all are made at once: a leaf is
// reached if as many of its conditions hold as lie on its path.
func Forest(p *exact.Program, x exact.Value, features int, r exact.Range, trees []Tree, outputs int) (exact.Value, error) {
	bad := func(t, n int, format string, args ...any) error {
		return fmt.Errorf("quantise: tree %d, node %d: "+format, append([]any{t, n}, args...)...)
	}
	if len(trees) == 0 || outputs < 1 {
		return 0, fmt.Errorf("quantise: %d trees of %d outputs", len(trees), outputs)
	}
	type condition struct {
		feature   int
		threshold int32
	}
	// Groups of trees share one product; a greater one would be mostly zeros.
	type group struct {
		conditions []condition
		paths      []path
	}
	const (
		most     = 1 << 18 // weights of a group, if it has more than one tree
		mostEach = 1 << 22 // weights of a tree
		mostAll  = 1 << 26
	)
	size := func(g group) int64 { return int64(len(g.conditions)) * int64(len(g.paths)) }
	total := int64(0)
	var groups []group
	var now group
	for t, tree := range trees {
		var next group
		seen, number := make([]bool, len(tree)), map[condition]int{}
		var walk func(n int, yes, no []int) error
		walk = func(n int, yes, no []int) error {
			if n < 0 || n >= len(tree) || seen[n] {
				return bad(t, n, "is no node of the tree, or reached twice")
			}
			seen[n] = true
			node := tree[n]
			if node.Values != nil {
				if len(node.Values) != outputs {
					return bad(t, n, "%d values for %d outputs", len(node.Values), outputs)
				}
				next.paths = append(next.paths, path{slices.Clone(yes), slices.Clone(no), node.Values})
				return nil
			}
			if node.Feature < 0 || node.Feature >= features {
				return bad(t, n, "feature %d of %d", node.Feature, features)
			}
			if node.Threshold <= -exact.Limit || node.Threshold >= exact.Limit {
				return bad(t, n, "threshold %d, want less than 2^30", node.Threshold)
			}
			if len(yes)+len(no) >= 64 {
				return bad(t, n, "deeper than 64")
			}
			c := condition{node.Feature, node.Threshold}
			at, ok := number[c]
			if !ok {
				at = len(next.conditions)
				number[c] = at
				next.conditions = append(next.conditions, c)
			}
			if err := walk(node.Left, append(yes, at), no); err != nil {
				return err
			}
			return walk(node.Right, yes, append(no, at))
		}
		if err := walk(0, nil, nil); err != nil {
			return 0, err
		}
		if len(next.conditions) == 0 {
			// A leaf alone: ask anything, go on either way.
			next.conditions = []condition{{}}
		}
		if size(next) > mostEach {
			return 0, fmt.Errorf("quantise: tree %d has %d conditions and %d leaves, whose product must be at most %d: use smaller trees", t, len(next.conditions), len(next.paths), mostEach)
		}
		if len(now.paths) > 0 && int64(len(now.conditions)+len(next.conditions))*int64(len(now.paths)+len(next.paths)) > most {
			groups, total = append(groups, now), total+size(now)
			now = group{}
		}
		if total > mostAll {
			return 0, fmt.Errorf("quantise: %d trees up to number %d are too many: use fewer or smaller ones", len(trees), t)
		}
		for _, leaf := range next.paths {
			for _, list := range [][]int{leaf.yes, leaf.no} {
				for i := range list {
					list[i] += len(now.conditions)
				}
			}
			now.paths = append(now.paths, leaf)
		}
		now.conditions = append(now.conditions, next.conditions...)
	}
	groups = append(groups, now)

	var sum exact.Value
	for i, g := range groups {
		n := len(g.conditions)
		columns, offsets := make([]int32, n), make([]int32, n)
		lo, hi := int64(exact.Limit), int64(-exact.Limit)
		for j, c := range g.conditions {
			columns[j], offsets[j] = int32(c.feature), -c.threshold
			lo, hi = min(lo, r.Lo-int64(c.threshold)), max(hi, r.Hi-int64(c.threshold))
		}
		d := Arrange(p, x, features, columns)
		d = p.Op(exact.Offset, []exact.Value{d}, []int{p.Const(1, n, offsets)})
		if hi-lo >= 1<<12 {
			// Signs are enough: no greater table is needed.
			d = p.Op(exact.Requantise, []exact.Value{d}, nil, 0, 2)
			lo, hi = -2, 1
		}
		holds := make([]int32, hi-lo+1)
		for k := range holds {
			if lo+int64(k) <= 0 {
				holds[k] = 1
			}
		}
		d = p.Op(exact.Table, []exact.Value{d}, []int{p.Const(1, len(holds), holds)}, lo)

		leaves, depth := len(g.paths), 0
		weights, needs := make([]int32, n*leaves), make([]int32, leaves)
		values := make([]int32, leaves*outputs)
		for j, leaf := range g.paths {
			// A condition may lie on a path twice, either way.
			for _, k := range leaf.yes {
				weights[k*leaves+j]++
			}
			for _, k := range leaf.no {
				weights[k*leaves+j]--
			}
			needs[j] = int32(-len(leaf.yes))
			depth = max(depth, len(leaf.yes)+len(leaf.no))
			copy(values[j*outputs:], leaf.values)
		}
		reached := p.Op(exact.MatMul, []exact.Value{d}, []int{p.Const(n, leaves, weights)})
		reached = p.Op(exact.Offset, []exact.Value{reached}, []int{p.Const(1, leaves, needs)})
		// Zero if reached, else below.
		is := make([]int32, 3*depth+1)
		is[2*depth] = 1
		reached = p.Op(exact.Table, []exact.Value{reached}, []int{p.Const(1, len(is), is)}, int64(-2*depth))
		y := p.Op(exact.MatMul, []exact.Value{reached}, []int{p.Const(leaves, outputs, values)})
		if i == 0 {
			sum = y
			continue
		}
		sum = p.Op(exact.Add, []exact.Value{sum, y}, nil)
	}
	return sum, nil
}
