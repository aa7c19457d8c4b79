package train

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// workers spreads independent pieces of one step over GOMAXPROCS goroutines.
// Pieces never share an output element, so the result does not depend on how
// many workers there are or who takes which piece.
type workers struct{ n int }

func newWorkers() *workers { return &workers{runtime.GOMAXPROCS(0)} }

// each calls piece(0) ... piece(n-1), each once, and returns when all are done.
func (w *workers) each(n int, piece func(int)) {
	k := min(w.n, n)
	if k <= 1 {
		for i := range n {
			piece(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range k {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				piece(i)
			}
		})
	}
	wg.Wait()
}
