package merkle

import (
	"encoding/binary"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/zkml/parallel"
)

// Leaves hashes n leaves that lie across columns: leaf i has the words
// columns[0][i], columns[1][i] ..., little-endian. It gives what Leaf gives for
// the bytes of each.
func Leaves[W ~uint32](n int, columns [][]W) []Digest {
	out := make([]Digest, n)
	parallel.For(n, 64, func(from, to int) {
		done := from
		if fast16 && len(columns) > 0 && len(columns) <= 256 {
			for ; done+16 <= to; done += 16 {
				leaves16(out[done:done+16], columns, done)
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

// Flags of BLAKE3's compression.
const (
	chunkStart = 1
	chunkEnd   = 2
	root       = 8
)

var iv = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// leaves16 hashes sixteen leaves of at most one chunk, each in its lane: word
// j of all of them is sixteen consecutive words of a column.
func leaves16[W ~uint32](out []Digest, columns [][]W, at int) {
	var cv [8][16]uint32
	for i, x := range iv {
		for l := range cv[i] {
			cv[i][l] = x
		}
	}
	var msg [16][16]uint32
	for from := 0; from < len(columns); from += 16 {
		block := columns[from:min(from+16, len(columns))]
		for j, c := range block {
			c = c[at : at+16]
			for l := range msg[j] {
				msg[j][l] = uint32(c[l])
			}
		}
		clear(msg[len(block):])
		flags := uint32(0)
		if from == 0 {
			flags |= chunkStart
		}
		if from+16 >= len(columns) {
			flags |= chunkEnd | root
		}
		compress16(&cv, &msg, uint32(4*len(block)), flags)
	}
	for l := range out {
		for i := range cv {
			binary.LittleEndian.PutUint32(out[l][4*i:], cv[i][l])
		}
	}
}
