//go:build !amd64

package merkle

const fast32 = false

func compress32(out, cv *state, msg *block, counter, length, flags uint32) { panic(noMachine) }
func pair32(msg *block, a, b *state)                                       { panic(noMachine) }
func gather32(msg *block, columns *[]uint32, n, at int)                    { panic(noMachine) }
func search32(s *search, mask uint32, n int) int                           { panic(noMachine) }

const noMachine = "merkle: no such machine"
