package merkle

import "golang.org/x/sys/cpu"

var fast16 = cpu.X86.HasAVX512F

// compress16 is BLAKE3's compression function on sixteen lanes, at counter 0:
// cv becomes the first half of the output.
//
//go:noescape
func compress16(cv *state, msg *block, length, flags uint32)
