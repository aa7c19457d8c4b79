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
		less := edge(r)
		Uints(dst, x, less)
		for i, u := range dst {
			if uint32(u) != x[i].Sub(less).Uint() {
				t.Fatalf("%d of %d: %d less %d", i, n, x[i].Uint(), less.Uint())
			}
		}
	}
}
