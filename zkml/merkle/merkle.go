// Package merkle commits to a list of leaves by the root of a hash tree
// (Merkle 1987) and opens several leaves at once.
//
// A leaf is hashed by BLAKE3; a node by BLAKE3's compression of its children
// as a parent that is not the root. The flags differ, so that no node can be
// taken for a leaf. All trees are full: 2^k leaves.
package merkle

import (
	"errors"
	"slices"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/zkml/parallel"
)

// Digest is a hash.
type Digest [32]byte

// Leaf hashes a leaf.
func Leaf(b []byte) Digest { return blake3.Sum256(b) }

// Tree is a committed list.
type Tree struct {
	levels [][]state // leaves first, root last: lane l of state k is digest k lanes + l
}

// Tree returns the tree over the leaves, after all words of them; they are a
// power of two.
func (h *Hasher) Tree() *Tree {
	if h.done != h.words || h.n == 0 || h.n&(h.n-1) != 0 {
		panic("merkle: words are missing, or the number of leaves is not a power of two")
	}
	below := h.states
	t := &Tree{levels: [][]state{below}}
	for n := h.n / 2; n > 0; n /= 2 {
		level := make([]state, (n+lanes-1)/lanes)
		parallel.For(len(level), grain, func(from, to int) {
			var msg block
			for k := from; k < to; k++ {
				// With one state below the second half is not of the tree.
				msg.pair(&below[2*k], &below[min(2*k+1, len(below)-1)])
				level[k].compress(&initial, &msg, min(lanes, n), 0, 64, parent)
			}
		})
		t.levels = append(t.levels, level)
		below = level
	}
	return t
}

// digest returns a digest of a level.
func (t *Tree) digest(level, i int) Digest { return t.levels[level][i/lanes].digest(i % lanes) }

// Root is the commitment.
func (t *Tree) Root() Digest { return t.digest(len(t.levels)-1, 0) }

// Open returns what Verify needs beside the leaves at the given indices, which
// must be in rising order without repetition: the siblings that cannot be
// computed, level by level from the leaves, left to right.
func (t *Tree) Open(indices []int) []byte {
	var out []byte
	known := slices.Clone(indices)
	for level := range len(t.levels) - 1 {
		up := known[:0]
		for i := 0; i < len(known); i++ {
			k := known[i]
			if i+1 < len(known) && k&1 == 0 && known[i+1] == k+1 {
				i++
			} else {
				sibling := t.digest(level, k^1)
				out = append(out, sibling[:]...)
			}
			up = append(up, k>>1)
		}
		known = up
	}
	return out
}

// Siblings is the number of digests that Open returns for a tree of 2^depth
// leaves.
func Siblings(depth int, indices []int) int {
	n := 0
	known := slices.Clone(indices)
	for range depth {
		up := known[:0]
		for i := 0; i < len(known); i++ {
			k := known[i]
			if i+1 < len(known) && k&1 == 0 && known[i+1] == k+1 {
				i++
			} else {
				n++
			}
			up = append(up, k>>1)
		}
		known = up
	}
	return n
}

// ErrRoot is returned when leaves do not belong to the root.
var ErrRoot = errors.New("merkle: opening does not lead to the root")

// Verify checks that leaves are the hashes of the leaves at the given indices
// (rising, without repetition, below 2^depth) of a tree with that root. The
// path must have exactly the siblings needed: one opening has one encoding.
func Verify(root Digest, depth int, indices []int, leaves []Digest, path []byte) error {
	if len(indices) != len(leaves) || len(indices) == 0 {
		return errors.New("merkle: no leaves, or not as many as indices")
	}
	for i, k := range indices {
		if k < 0 || k>>depth != 0 || i > 0 && k <= indices[i-1] {
			return errors.New("merkle: indices are not sorted and distinct")
		}
	}
	known, hashes := slices.Clone(indices), slices.Clone(leaves)
	children := make([]Digest, 0, 2*len(known))
	for range depth {
		children = children[:0]
		n := 0
		for i := 0; i < len(known); i++ {
			k := known[i]
			if i+1 < len(known) && k&1 == 0 && known[i+1] == k+1 {
				children = append(children, hashes[i], hashes[i+1])
				i++
			} else {
				if len(path) < len(root) {
					return ErrRoot
				}
				s := Digest(path[:len(root)])
				path = path[len(root):]
				if k&1 == 0 {
					children = append(children, hashes[i], s)
				} else {
					children = append(children, s, hashes[i])
				}
			}
			known[n] = k >> 1
			n++
		}
		known, hashes = known[:n], hashes[:n]
		nodes(hashes, children)
	}
	if len(path) > 0 || hashes[0] != root {
		return ErrRoot
	}
	return nil
}
