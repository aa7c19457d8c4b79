package zkml

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/torg-network/torg/zkml/koala"
)

// Numbers in the clear are sent with as many bits as they take: first the
// least of a slot (four bytes, little-endian, signed) and the number of bits
// (one byte), then how much each exceeds the least, without gaps, the lowest bit
// of the first number being the lowest of the first byte. There is one encoding
// of a slot: the least occurs, no fewer bits would do, and what is left of the
// last byte is zero.
const packHead = 5

func packedSize(n, width int) int { return (n*width + 7) / 8 }

// pack returns the encoding of numbers, none of which exceeds the least by 2^32
// or more.
func pack(x []int64) (head, body []byte) {
	least, most := x[0], x[0]
	for _, e := range x {
		least, most = min(least, e), max(most, e)
	}
	width := bits.Len64(uint64(most - least))
	head = append(binary.LittleEndian.AppendUint32(nil, uint32(int32(least))), byte(width))
	body = make([]byte, 0, packedSize(len(x), width))
	var word uint64
	have := 0
	for _, e := range x {
		word |= uint64(e-least) << have
		for have += width; have >= 8; have -= 8 {
			body = append(body, byte(word))
			word >>= 8
		}
	}
	if have > 0 {
		body = append(body, byte(word))
	}
	return head, body
}

var errPacked = errors.New("numbers in the clear are not packed as they should be")

// packedWidth reads the number of bits from a head.
func packedWidth(head []byte) (int, error) {
	if len(head) != packHead || head[4] > 31 {
		return 0, errPacked
	}
	return int(head[4]), nil
}

// unpack is the inverse of pack.
func unpack(head, body []byte, n int) ([]int64, error) {
	width, err := packedWidth(head)
	if err != nil || len(body) != packedSize(n, width) {
		return nil, errPacked
	}
	least := int64(int32(binary.LittleEndian.Uint32(head)))
	out := make([]int64, n)
	var word, all uint64
	have, zero := 0, false
	for i := range out {
		for ; have < width; have += 8 {
			word |= uint64(body[0]) << have
			body = body[1:]
		}
		e := word & (1<<width - 1)
		word >>= width
		have -= width
		all |= e
		zero = zero || e == 0
		out[i] = least + int64(e)
		if out[i] > koala.P/2 {
			return nil, errPacked
		}
	}
	if !zero || bits.Len64(all) != width || word != 0 || least < -(koala.P/2) {
		return nil, errPacked
	}
	return out, nil
}
