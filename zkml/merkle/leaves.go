package merkle

import (
	"encoding/binary"
	mathbits "math/bits"
	"unsafe"

	"lukechampine.com/blake3/guts"

	"github.com/torg-network/torg/zkml/parallel"
)

// Most of a proof's hashes are of many inputs of one length, which the machine
// may hash sixteen at a time, each in its lane. All ways give the same.

const (
	lanes = 16
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

func newState() (s state) {
	for i, x := range iv {
		for l := range s[i] {
			s[i][l] = x
		}
	}
	return s
}

// digests writes the first len(out) lanes.
func (s *state) digests(out []Digest) {
	for l := range out {
		d := &out[l]
		for i := range s {
			binary.LittleEndian.PutUint32(d[4*i:], s[i][l])
		}
	}
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

// flagsOf returns the flags of a leaf's block.
func flagsOf(first, last bool) (flags uint32) {
	if first {
		flags |= chunkStart
	}
	if last {
		flags |= chunkEnd | root
	}
	return flags
}

// BlockWords is how many words of each leaf a Hasher takes at once.
const BlockWords = 16

// Hasher hashes leaves that come a few words of each at a time, as when each
// word of a leaf is of another column: it gives what Leaf gives for the words,
// little-endian, one after the other.
type Hasher struct {
	n, words, done int
	states         []state
	// Of leaves longer than a chunk, which are hashed when all is there.
	long []byte
}

// NewHasher returns a hasher of n leaves of the given number of words.
func NewHasher(n, words int) *Hasher {
	h := &Hasher{n: n, words: words}
	if 4*words > maxChunk {
		h.long = make([]byte, 4*words*n)
		return h
	}
	h.states = make([]state, (n+lanes-1)/lanes)
	for i := range h.states {
		h.states[i] = newState()
	}
	return h
}

// Add adds the next words of all leaves: columns[j][i] to leaf i. There are
// BlockWords columns but for the last time.
func Add[W ~uint32](h *Hasher, columns [][]W) {
	first := h.done
	h.done += len(columns)
	if h.done > h.words || len(columns) != BlockWords && h.done != h.words {
		panic("merkle: words do not come in blocks")
	}
	if h.long != nil {
		parallel.For(h.n, 64, func(from, to int) {
			for j, c := range columns {
				for i := from; i < to; i++ {
					binary.LittleEndian.PutUint32(h.long[4*(i*h.words+first+j):], uint32(c[i]))
				}
			}
		})
		return
	}
	length, flags := uint32(4*len(columns)), flagsOf(first == 0, h.done == h.words)
	parallel.For(len(h.states), 64, func(from, to int) {
		var msg [16][lanes]W
		for k := from; k < to; k++ {
			n := min(lanes, h.n-k*lanes)
			for j, c := range columns {
				if n == lanes {
					msg[j] = [lanes]W(c[k*lanes:])
				} else {
					copy(msg[j][:], c[k*lanes:])
				}
			}
			h.states[k].compress((*block)(unsafe.Pointer(&msg)), n, length, flags)
		}
	})
}

// Digests returns the hashes, after all words.
func (h *Hasher) Digests() []Digest {
	if h.done != h.words {
		panic("merkle: words are missing")
	}
	out := make([]Digest, h.n)
	if h.long != nil {
		parallel.For(h.n, 64, func(from, to int) {
			for i := from; i < to; i++ {
				out[i] = Leaf(h.long[4*i*h.words : 4*(i+1)*h.words])
			}
		})
		return out
	}
	parallel.For(len(h.states), 64, func(from, to int) {
		for k := from; k < to; k++ {
			h.states[k].digests(out[k*lanes : min((k+1)*lanes, h.n)])
		}
	})
	return out
}

// compress takes a block of a leaf in each of the first n lanes.
func (s *state) compress(msg *block, n int, length, flags uint32) {
	if fast16 {
		compress16(s, msg, length, flags)
		return
	}
	for l := range n {
		node := guts.Node{BlockLen: length, Flags: flags}
		for i := range s {
			node.CV[i] = s[i][l]
		}
		for j := range msg {
			node.Block[j] = msg[j][l]
		}
		for i, x := range guts.ChainingValue(node) {
			s[i][l] = x
		}
	}
}

// LeavesOf hashes consecutive leaves of the given size, a whole number of
// words, by one core.
func LeavesOf(b []byte, size int) []Digest {
	out := make([]Digest, len(b)/size)
	done := 0
	if fast16 && size%4 == 0 && size <= maxChunk {
		var msg block
		for ; len(out)-done >= few; done = min(done+lanes, len(out)) {
			s := newState()
			n := min(lanes, len(out)-done)
			for from := 0; from < size; from += 64 {
				to := min(from+64, size)
				for l := range n {
					leaf := b[(done+l)*size:]
					msg.set(l, leaf[from:to])
				}
				compress16(&s, &msg, uint32(to-from), flagsOf(from == 0, to == size))
			}
			s.digests(out[done : done+n])
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
	if fast16 {
		var msg block
		for ; len(out)-done >= few; done = min(done+lanes, len(out)) {
			s := newState()
			n := min(lanes, len(out)-done)
			for l := range n {
				pair := (*[2]Digest)(children[2*(done+l):])
				for j := range 8 {
					msg[j][l] = binary.LittleEndian.Uint32(pair[0][4*j:])
					msg[8+j][l] = binary.LittleEndian.Uint32(pair[1][4*j:])
				}
			}
			compress16(&s, &msg, 64, parent)
			s.digests(out[done : done+n])
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
	least := uint32(1)<<(32-bits) - 1 // the first word, big-endian, is at most that
	if bits == 0 {
		least = 1<<32 - 1
	}
	return parallel.First(func(part uint64) (uint64, bool) {
		from := part * batch
		if !fast16 {
			var b [40]byte
			copy(b[:], seed[:])
			for nonce := from; nonce < from+batch; nonce++ {
				binary.LittleEndian.PutUint64(b[32:], nonce)
				h := Leaf(b[:])
				if binary.BigEndian.Uint32(h[:]) <= least {
					return nonce, true
				}
			}
			return 0, false
		}
		var msg block
		for j := range 8 {
			for l := range msg[j] {
				msg[j][l] = binary.LittleEndian.Uint32(seed[4*j:])
			}
		}
		for at := from; at < from+batch; at += lanes {
			for l := range msg[8] {
				msg[8][l], msg[9][l] = uint32(at)+uint32(l), uint32(at>>32)
			}
			s := newState()
			compress16(&s, &msg, 40, flagsOf(true, true))
			for l, w := range s[0] {
				if mathbits.ReverseBytes32(w) <= least {
					return at + uint64(l), true
				}
			}
		}
		return 0, false
	})
}
