package exact

import (
	"runtime"
	"sync"
)

// batcher joins the next rows of concurrent generations into one run of the
// engine, which reads the weights once for all of them. Up to GOMAXPROCS runs
// go on at a time; rows that come meanwhile wait and go together in the next.
// A generation alone never waits, and none depends on who runs with it.
type batcher struct {
	mu      sync.Mutex
	changed sync.Cond
	running int
	waiting []*step
}

// step is one row that a generation wants run. The batcher's mutex guards
// taken and done.
type step struct {
	row         row
	token       [1]int32
	logits      []int32 // row of output 0
	taken, done bool
}

func (b *batcher) init() { b.changed.L = &b.mu }

// run computes the row of s, alone or with others.
func (b *batcher) run(pl *plan, s *step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.taken, s.done = false, false
	b.waiting = append(b.waiting, s)
	// Generations that are ready to go on put their rows here first.
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
	for !s.done {
		if s.taken || b.running >= runtime.GOMAXPROCS(0) {
			b.changed.Wait()
			continue
		}
		b.running++
		ws := pl.spare.Get().(*workspace)
		ws.steps = append(ws.steps[:0], b.waiting[:min(len(b.waiting), pl.chunk)]...)
		b.waiting = append(b.waiting[:0], b.waiting[len(ws.steps):]...)
		for _, t := range ws.steps {
			t.taken = true
		}
		b.mu.Unlock()

		ws.rows = ws.rows[:0]
		for _, t := range ws.steps {
			ws.rows = append(ws.rows, t.row)
		}
		pl.run(ws, ws.rows)
		for i, t := range ws.steps {
			copy(t.logits, pl.output(ws, 0, i))
		}

		b.mu.Lock()
		for _, t := range ws.steps {
			t.done = true
		}
		clear(ws.rows)
		clear(ws.steps)
		pl.spare.Put(ws)
		b.running--
		b.changed.Broadcast()
	}
}
