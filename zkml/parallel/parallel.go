// Package parallel splits loops over the machine's cores.
package parallel

import (
	"runtime"
	"sync"
)

// For calls f on consecutive ranges [from, to) that cover [0, n), on all
// cores, each range at least grain long (but for the last). It returns when
// all calls have. What f computes must not depend on how the range is split.
func For(n, grain int, f func(from, to int)) {
	parts := min(runtime.GOMAXPROCS(0), n/max(grain, 1))
	if parts <= 1 {
		if n > 0 {
			f(0, n)
		}
		return
	}
	// Ranges end on multiples of 64, so that vector registers stay aligned.
	size := ((n+parts-1)/parts + 63) &^ 63
	var wg sync.WaitGroup
	for from := 0; from < n; from += size {
		to := min(n, from+size)
		wg.Go(func() { f(from, to) })
	}
	wg.Wait()
}

// Each calls f(i) for all i in [0, n), several at a time; use it for few
// tasks of uneven size.
func Each(n int, f func(i int)) {
	parts := min(runtime.GOMAXPROCS(0), n)
	if parts <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for range parts {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}

// First calls f(0), f(1) ... on all cores until one succeeds, and returns the
// result of the first that does, in their order.
func First[T any](f func(i uint64) (T, bool)) T {
	var mu sync.Mutex
	var next, best uint64
	var found bool
	var result T
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				done := found && i > best
				mu.Unlock()
				if done {
					return
				}
				if x, ok := f(i); ok {
					mu.Lock()
					if !found || i < best {
						found, best, result = true, i, x
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return result
}
