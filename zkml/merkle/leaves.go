package merkle

import (
	"encoding/binary"
	mathbits "math/bits"
	"unsafe"

	"lukechampine.com/blake3"
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

// Leaves hashes n leaves that lie across columns: leaf i has the words
// columns[0][i], columns[1][i] ..., little-endian. It gives what Leaf gives for
// the bytes of each.
func Leaves[W ~uint32](n int, columns [][]W) []Digest {
	out := make([]Digest, n)
	parallel.For(n, 64, func(from, to int) {
		done := from
		if fast16 && len(columns) > 0 && 4*len(columns) <= maxChunk {
			for ; done+lanes <= to; done += lanes {
				leaves16(out[done:done+lanes], columns, done)
			}
		}
		b := make([]byte, 4*len(columns))
		for i := done; i < to; i++ {
			for j, c := range columns {
				binary.LittleEndian.PutUint32(b[4*j:], uint32(c[i]))
			}
			out[i] = blake3.Sum256(b)
		}
	})
	return out
}

// leaves16 hashes sixteen leaves of at most one chunk: word j of all of them is
// sixteen consecutive words of a column.
func leaves16[W ~uint32](out []Digest, columns [][]W, at int) {
	s := newState()
	var msg [16][lanes]W
	for from := 0; from < len(columns); from += 16 {
		words := columns[from:min(from+16, len(columns))]
		for j, c := range words {
			msg[j] = [lanes]W(c[at : at+lanes])
		}
		clear(msg[len(words):])
		compress16(&s, (*block)(unsafe.Pointer(&msg)), uint32(4*len(words)), flagsOf(from == 0, from+16 >= len(columns)))
	}
	s.digests(out)
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
