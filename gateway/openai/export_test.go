package openai

import "github.com/torg-network/torg/square"

// SeedHash is the exact request's seed for a client's.
func SeedHash(n int64) square.Hash { return seed{n: uint64(n)}.hash() }

// Rune-by-rune passing, for the fuzz test.
func PassRunes(pieces []string) string {
	var r runes
	out := ""
	for _, p := range pieces {
		out += r.add(p)
	}
	return out + r.rest()
}
