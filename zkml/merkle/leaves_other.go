//go:build !amd64

package merkle

const fast16 = false

func compress16(cv *state, msg *block, length, flags uint32) {
	panic("merkle: no such machine")
}
