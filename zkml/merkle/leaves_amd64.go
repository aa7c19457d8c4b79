package merkle

import "golang.org/x/sys/cpu"

var fast32 = cpu.X86.HasAVX512F

// compress32 is BLAKE3's compression function on thirty-two lanes: out is the
// first half of the output.
//
//go:noescape
func compress32(out, cv *state, msg *block, counter, length, flags uint32)

// pair32 makes each two lanes of a, and after them those of b, halves of a
// message.
//
//go:noescape
func pair32(msg *block, a, b *state)

// gather32 makes words at to at+lanes-1 of n columns the words of a message.
//
//go:noescape
func gather32(msg *block, columns *[]uint32, n, at int)

// search32 tries n nonces, a multiple of lanes, from those in s on and returns
// which is the first that hits, n if none does. It overwrites the nonces.
//
//go:noescape
func search32(s *search, mask uint32, n int) int
