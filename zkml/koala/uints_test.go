package koala

import (
	"math/rand/v2"
	"testing"
)

func TestUints(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, n := range scaleLengths {
		x, dst := make([]Elem, n), make([]Elem, n)
		for i := range x {
			x[i], dst[i] = edge(r), edge(r)
		}
		Uints(dst, x)
		for i, u := range dst {
			if uint32(u) != x[i].Uint() {
				t.Fatalf("%d of %d: %d", i, n, x[i].Uint())
			}
		}
	}
}
