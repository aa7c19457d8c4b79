//go:build !amd64

package merkle

const fast16 = false

func compress16(cv *[8][16]uint32, msg *[16][16]uint32, length, flags uint32) {
	panic("merkle: no such machine")
}
