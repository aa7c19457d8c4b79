package parallel

import (
	"sync/atomic"
	"testing"
)

func TestCoversOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 63, 64, 65, 1000, 4097} {
		for _, grain := range []int{0, 1, 100, 5000} {
			seen := make([]atomic.Int32, n)
			For(n, grain, func(from, to int) {
				for i := from; i < to; i++ {
					seen[i].Add(1)
				}
			})
			Each(n, func(i int) { seen[i].Add(1) })
			for i := range seen {
				if c := seen[i].Load(); c != 2 {
					t.Fatalf("n %d grain %d: index %d done %d times", n, grain, i, c)
				}
			}
		}
	}
}
