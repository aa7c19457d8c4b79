package walk

import (
	"math/rand/v2"
	"testing"
)

// chooser makes a walker's choices from bytes, one byte each, and says when there
// are no more.
type chooser struct {
	bytes []byte
	after rand.Source
}

func (c *chooser) Uint64() uint64 {
	if len(c.bytes) == 0 {
		return c.after.Uint64() // to finish the operation under way
	}
	b := c.bytes[0]
	c.bytes = c.bytes[1:]
	return uint64(b) * 0x0101_0101_0101_0101
}

// FuzzMachine lets bytes choose where a walk goes, so that a fuzzer can look for
// histories that no seed comes to.
func FuzzMachine(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := make([]byte, 1000<<(seed%3))
		for i := range b {
			b[i] = byte(r.Uint64())
		}
		f.Add(b)
	}
	f.Add([]byte("one order, one offer, and nothing else"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 16_000 {
			return
		}
		h, c := newHistory(1), &chooser{b, rand.NewPCG(1, 4)}
		h.walker.rng = rand.New(c)
		for len(c.bytes) > 0 {
			if err := h.step(); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.oracle.CheckAll(h.memory, h.walker.Denoms); err != nil {
			t.Fatal(err)
		}
	})
}
