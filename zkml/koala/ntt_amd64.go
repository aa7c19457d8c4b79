package koala

import (
	"math/bits"
	"sync"
)

//go:noescape
func butterfly512(a, b, w *Elem, n int)

// twoPasses512 does the passes that join blocks of quarter elements, a multiple
// of 32, and then of twice as many. n is a multiple of four quarters.
//
//go:noescape
func twoPasses512(v, w1, w2 *Elem, quarter, n int)

// eight512 evaluates each eight coefficients on the powers of Root(5). w are the
// powers that the second to the eighth are multiplied by, in even and in odd lanes.
// n is a multiple of 32. It fetches as much from next as it reads from src.
//
//go:noescape
func eight512(dst, src, next *Elem, w *[7][2][16]Elem, n int)

// two512 evaluates each two coefficients on the powers of Root(5), w.
//
//go:noescape
func two512(dst, src *Elem, w *[2][16]Elem, n int)

// weigh512 adds to sums what blocks of 32 points have at the indices of sixteen
// queries, times their weights: a sum of even queries and one of odd ones over
// each other two blocks, below 2^32 p. The number of blocks is a multiple of four.
//
//go:noescape
func weigh512(sums *[4][8]uint64, points, weights *Elem, index *[16]uint32, blocks int)

// powers32[i-1] is what coefficient i of eight is multiplied by at the first sixteen
// powers of Root(5), of which the others are the negatives: in even and then in odd
// lanes, which are moved to even ones.
var powers32 = sync.OnceValue(func() *[7][2][16]Elem {
	t := new([7][2][16]Elem)
	for i := range t {
		y := Root(5).Exp(uint64(bits.Reverse8(uint8(i+1)) >> 5))
		for lane, x := 0, One; lane < 16; lane, x = lane+1, x.Mul(y) {
			t[i][lane%2][lane&^1] = x
		}
	}
	return t
})

// fastFirst says and returns what first does, or 0 if it did nothing.
func fastFirst(dst, src []Elem, rate int) int {
	if !hasAVX512 || len(dst) < 32 {
		return 0
	}
	switch w := powers32(); rate {
	case 2:
		eight512(&dst[0], &src[0], &src[0], w, len(dst))
	case 4:
		two512(&dst[0], &src[0], &w[3], len(dst))
	default:
		return 0
	}
	return 5
}

// fastTwoPasses does the passes that join blocks of 2^k and 2^(k+1) elements and
// reports whether it did.
func fastTwoPasses(v []Elem, k int) bool {
	if !hasAVX512 || k < 5 {
		return false
	}
	twoPasses512(&v[0], &twiddle(k)[0], &twiddle(k + 1)[0], 1<<k, len(v))
	return true
}

func fastButterfly(a, b, w []Elem) int {
	n := fast(len(a))
	switch {
	case n == 0:
	case hasAVX512:
		butterfly512(&a[0], &b[0], &w[0], n)
	default:
		butterfly256(&a[0], &b[0], &w[0], n)
	}
	return n
}

const (
	partBlocks = 64 // blocks of 32 points that fastEncodeAt weighs at a time
	logPart    = 11 // of their points
)

// fastEncodeAt does EncodeAt and reports whether it did. After five passes there
// are blocks of 32 points. The other passes make of them, at index i, the sum over
// all blocks b of their element i mod 32 times y^rev(b), where y is the power i of
// Root(k): weights that are the same for all of src.
func fastEncodeAt(dst, src [][]Elem, k int, indices []int) bool {
	if !hasAVX512 || k < logPart || len(src) == 0 || len(src[0]) != 1<<k/4 {
		return false
	}
	const lanes = 16
	type group struct {
		index   [lanes]uint32
		weights [partBlocks][lanes]Elem // of the blocks of a part
		step    [partBlocks][lanes]Elem // what they are multiplied by for the next part
	}
	groups := make([]group, (len(indices)+lanes-1)/lanes)
	for j, i := range indices {
		g, lane := &groups[j/lanes], j%lanes
		g.index[lane] = uint32(i % 32)
		y := Root(k).Exp(uint64(i))
		z, power := y.Exp(1<<(k-logPart)), One
		for b := range partBlocks {
			g.weights[bits.Reverse8(uint8(b))>>2][lane] = power
			g.step[b][lane] = y
			power = power.Mul(z)
		}
	}
	sums := make([][][4][8]uint64, len(src))
	for r := range sums {
		sums[r] = make([][4][8]uint64, len(groups))
	}
	points := make([]Elem, 1<<logPart)
	parts := 1 << (k - logPart)
	for t := range parts {
		// The part whose first block weighs y^t.
		part := int(bits.Reverse32(uint32(t)) >> (32 - (k - logPart)))
		for r, s := range src {
			n := len(points) / 4
			s, next := s[part*n:(part+1)*n], src[(r+1)%len(src)][part*n:]
			if zero(s) {
				continue
			}
			eight512(&points[0], &s[0], &next[0], powers32(), len(points))
			for g := range groups {
				weigh512(&sums[r][g], &points[0], &groups[g].weights[0][0], &groups[g].index, partBlocks)
			}
		}
		for g := range groups {
			g := &groups[g]
			mulElems512(&g.weights[0][0], &g.weights[0][0], &g.step[0][0], partBlocks*lanes)
		}
	}
	for r, d := range dst {
		for j := range indices {
			s, lane := &sums[r][j/lanes], j%lanes
			d[j] = reduce(s[lane%2][lane/2]).Add(reduce(s[2+lane%2][lane/2]))
		}
	}
	return true
}
