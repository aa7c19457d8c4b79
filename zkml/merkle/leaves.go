package merkle

import (
	"encoding/binary"
	mathbits "math/bits"
	"unsafe"

	"lukechampine.com/blake3/guts"

	"github.com/torg-network/torg/zkml/parallel"
)

// Most of a proof's hashes are of many inputs of one length, which the machine
// may hash thirty-two at a time, each in its lane. All ways give the same.

const (
	lanes = 32
	// grain is how many states are worth another core.
	grain = 32
	// few inputs are hashed faster one by one.
	few = 3
	// maxChunk is the longest input that is one chunk of BLAKE3, in bytes.
	maxChunk = 1024
)

// Flags of BLAKE3's compression.
const (
	chunkStart = 1
	chunkEnd   = 2
	parent     = 4
	root       = 8
)

var iv = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// state is a chaining value in each lane, block a message.
type (
	state [8][lanes]uint32
	block [16][lanes]uint32
)

// initial is iv in all lanes.
var initial = func() (s state) {
	for i, x := range iv {
		for l := range s[i] {
			s[i][l] = x
		}
	}
	return s
}()

// digest returns a lane.
func (s *state) digest(lane int) (d Digest) {
	for i := range s {
		binary.LittleEndian.PutUint32(d[4*i:], s[i][lane])
	}
	return d
}

// set makes b, 64 bytes or less in whole words, the message of a lane.
func (m *block) set(lane int, b []byte) {
	if len(b) == 64 {
		b := (*[64]byte)(b)
		for j := range m {
			m[j][lane] = binary.LittleEndian.Uint32(b[4*j:])
		}
		return
	}
	for j := range m {
		m[j][lane] = 0
		if 4*j < len(b) {
			m[j][lane] = binary.LittleEndian.Uint32(b[4*j:])
		}
	}
}

// pair makes each two lanes of a, and after them those of b, halves of a message.
func (m *block) pair(a, b *state) {
	if fast32 {
		pair32(m, a, b)
		return
	}
	for i := range a {
		for l := range lanes / 2 {
			m[i][l], m[8+i][l] = a[i][2*l], a[i][2*l+1]
			m[i][lanes/2+l], m[8+i][lanes/2+l] = b[i][2*l], b[i][2*l+1]
		}
	}
}

// compress sets the first n lanes of s to what the compression function makes of
// cv and msg; others may change.
func (s *state) compress(cv *state, msg *block, n int, counter, length, flags uint32) {
	if fast32 {
		compress32(s, cv, msg, counter, length, flags)
		return
	}
	for l := range n {
		node := guts.Node{Counter: uint64(counter), BlockLen: length, Flags: flags}
		for i := range cv {
			node.CV[i] = cv[i][l]
		}
		for j := range msg {
			node.Block[j] = msg[j][l]
		}
		for i, x := range guts.ChainingValue(node) {
			s[i][l] = x
		}
	}
}

// BlockWords is how many words of each leaf a Hasher takes at once.
const BlockWords = 16

// chunkWords is the size of a chunk.
const chunkWords = maxChunk / 4

// Hasher hashes leaves that come a few words of each at a time, as when each
// word of a leaf is of another column: it gives what Leaf gives for the words,
// little-endian, one after the other.
type Hasher struct {
	n, words, done int
	states         []state   // of the chunk that is being hashed, then of all
	left           [][]state // of whole subtrees of chunks before it, the largest first
}

// NewHasher returns a hasher of n leaves of the given number of words.
func NewHasher(n, words int) *Hasher {
	return &Hasher{n: n, words: words, states: make([]state, (n+lanes-1)/lanes)}
}

// Add adds the next words of all leaves: columns[j][i] to leaf i. There are
// BlockWords columns but for the last time.
func Add[W ~uint32](h *Hasher, columns [][]W) {
	first := h.done
	h.done += len(columns)
	if h.done > h.words || len(columns) == 0 || len(columns) != BlockWords && h.done != h.words {
		panic("merkle: words do not come in blocks")
	}
	for _, c := range columns {
		if len(c) != h.n {
			panic("merkle: a column is not of all leaves")
		}
	}
	start, last := first%chunkWords == 0, h.done == h.words
	end := last || h.done%chunkWords == 0
	var flags uint32
	if start {
		flags |= chunkStart
	}
	if end {
		flags |= chunkEnd
	}
	if last && h.words <= chunkWords {
		flags |= root
	}
	parallel.For(len(h.states), grain, func(from, to int) {
		var msg block
		for k := from; k < to; k++ {
			n := min(lanes, h.n-k*lanes)
			if fast32 && n == lanes {
				gather32(&msg, (*[]uint32)(unsafe.Pointer(&columns[0])), len(columns), k*lanes)
			} else {
				for j, c := range columns {
					for l, x := range c[k*lanes : k*lanes+n] {
						msg[j][l] = uint32(x)
					}
				}
			}
			cv := &h.states[k]
			if start {
				cv = &initial
			}
			h.states[k].compress(cv, &msg, n, uint32(first/chunkWords), uint32(4*len(columns)), flags)
		}
	})
	if end {
		h.join(first/chunkWords+1, last)
	}
}

// join joins the last of a number of chunks with those before it: all, or the
// subtrees that are as large.
func (h *Hasher) join(chunks int, all bool) {
	for ; len(h.left) > 0 && (all || chunks%2 == 0); chunks /= 2 {
		left := h.left[len(h.left)-1]
		h.left = h.left[:len(h.left)-1]
		flags := uint32(parent)
		if all && len(h.left) == 0 {
			flags |= root
		}
		parallel.For(len(h.states), grain, func(from, to int) {
			var msg block
			for k := from; k < to; k++ {
				copy(msg[:8], left[k][:])
				copy(msg[8:], h.states[k][:])
				h.states[k].compress(&initial, &msg, min(lanes, h.n-k*lanes), 0, 64, flags)
			}
		})
	}
	if !all {
		h.left = append(h.left, h.states)
		h.states = make([]state, len(h.states))
	}
}

// LeavesOf hashes consecutive leaves of the given size, a whole number of
// words, by one core.
func LeavesOf(b []byte, size int) []Digest {
	out := make([]Digest, len(b)/size)
	done := 0
	if fast32 && size%4 == 0 && size <= maxChunk {
		var msg block
		var s state
		for ; len(out)-done >= few; done = min(done+lanes, len(out)) {
			n := min(lanes, len(out)-done)
			cv, flags := &initial, uint32(chunkStart)
			for from := 0; from < size; from += 64 {
				to := min(from+64, size)
				for l := range n {
					leaf := b[(done+l)*size:]
					msg.set(l, leaf[from:to])
				}
				if to == size {
					flags |= chunkEnd | root
				}
				s.compress(cv, &msg, n, 0, uint32(to-from), flags)
				cv, flags = &s, 0
			}
			for l := range n {
				out[done+l] = s.digest(l)
			}
		}
	}
	for ; done < len(out); done++ {
		out[done] = Leaf(b[done*size : (done+1)*size])
	}
	return out
}

// nodes hashes pairs of children, by one core.
func nodes(out, children []Digest) {
	done := 0
	if fast32 {
		var msg block
		var s state
		for ; len(out)-done >= few; done = min(done+lanes, len(out)) {
			n := min(lanes, len(out)-done)
			for l := range n {
				pair := (*[2]Digest)(children[2*(done+l):])
				for j := range 8 {
					msg[j][l] = binary.LittleEndian.Uint32(pair[0][4*j:])
					msg[8+j][l] = binary.LittleEndian.Uint32(pair[1][4*j:])
				}
			}
			s.compress(&initial, &msg, n, 0, 64, parent)
			for l := range n {
				out[done+l] = s.digest(l)
			}
		}
	}
	for ; done < len(out); done++ {
		out[done] = node(&children[2*done], &children[2*done+1])
	}
}

func words(d *Digest) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(d[4*i:])
	}
	return w
}

func node(l, r *Digest) (d Digest) {
	cv := guts.ChainingValue(guts.ParentNode(words(l), words(r), &guts.IV, 0))
	for i, w := range cv {
		binary.LittleEndian.PutUint32(d[4*i:], w)
	}
	return d
}

// Search returns the least nonce such that Leaf of seed and nonce, as eight
// bytes little-endian, begins with the given number of zero bits, 0 to 32. It
// uses all cores.
func Search(seed [32]byte, bits int) uint64 {
	const batch = 1 << 12
	// The first bits of a digest are the first word's, big-endian.
	mask := mathbits.ReverseBytes32(uint32(1<<32 - uint64(1)<<(32-bits)))
	s := newSearch(seed)
	return parallel.First(func(part uint64) (uint64, bool) {
		from := part * batch
		if fast32 {
			s := s.at(from)
			i := search32(&s, mask, batch)
			return from + uint64(i), i < batch
		}
		var b [40]byte
		copy(b[:], seed[:])
		for nonce := from; nonce < from+batch; nonce++ {
			binary.LittleEndian.PutUint64(b[32:], nonce)
			h := Leaf(b[:])
			if binary.LittleEndian.Uint32(h[:])&mask == 0 {
				return nonce, true
			}
		}
		return 0, false
	})
}

// search is what search32 needs.
type search struct {
	nonces  [lanes]uint32 // lower halves
	state   [16]uint32    // after all of the first round that nonces have no part in
	message [10]uint32    // the last word is the upper half of all nonces
}

func newSearch(seed [32]byte) (s search) {
	for j := range 8 {
		s.message[j] = binary.LittleEndian.Uint32(seed[4*j:])
	}
	v, m := &s.state, &s.message
	copy(v[:8], iv[:])
	copy(v[8:12], iv[:4])
	v[14], v[15] = 40, chunkStart|chunkEnd|root
	for i := range 4 {
		quarter(v, i, 4+i, 8+i, 12+i, m[2*i], m[2*i+1])
	}
	quarter(v, 1, 6, 11, 12, 0, 0)
	quarter(v, 2, 7, 8, 13, 0, 0)
	quarter(v, 3, 4, 9, 14, 0, 0)
	return s
}

// at returns the search from a nonce on, a multiple of lanes.
func (s search) at(nonce uint64) search {
	for l := range s.nonces {
		s.nonces[l] = uint32(nonce) + uint32(l)
	}
	s.message[9] = uint32(nonce >> 32)
	return s
}

// quarter is BLAKE3's quarter round.
func quarter(v *[16]uint32, a, b, c, d int, x, y uint32) {
	v[a] += v[b] + x
	v[d] = mathbits.RotateLeft32(v[d]^v[a], -16)
	v[c] += v[d]
	v[b] = mathbits.RotateLeft32(v[b]^v[c], -12)
	v[a] += v[b] + y
	v[d] = mathbits.RotateLeft32(v[d]^v[a], -8)
	v[c] += v[d]
	v[b] = mathbits.RotateLeft32(v[b]^v[c], -7)
}
