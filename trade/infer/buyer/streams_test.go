package buyer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
)

// gathering answers once so many requests have come together.
type gathering struct {
	infertest.Toy
	all  int
	mu   sync.Mutex
	here int
	met  chan struct{}
}

func (g *gathering) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	if string(job.Request.Prompt) != "question 0" {
		g.mu.Lock()
		if g.here++; g.here == g.all {
			close(g.met)
		}
		g.mu.Unlock()
		select {
		case <-g.met:
		case <-ctx.Done():
		}
	}
	return g.Toy.Run(ctx, job, emit)
}

// TestStreams: a desk that is set to more streams than a lease has lanes opens more
// leases once its lanes are busy, and no more than it needs.
func TestStreams(t *testing.T) {
	const streams = 6
	g := &gathering{Toy: infertest.Toy{Name: "toy"}, all: streams, met: make(chan struct{})}
	l := infertest.NewLedger(g.Toy)
	sell(t, l, 2*streams, g)
	d := buy(t, l, func(c *config) { c.Lanes, c.Streams, c.Wait = 2, streams, time.Minute })
	if _, err := d.Do(t.Context(), ask("toy", 0, 2), nil); err != nil { // who never answered gets one at a time
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var asking sync.WaitGroup
	for n := range streams {
		asking.Go(func() {
			if _, err := d.Do(ctx, ask("toy", n+1, 2), nil); err != nil {
				t.Errorf("stream %d: %v", n, err)
			}
		})
	}
	asking.Wait()
	if n := len(d.Standing()); n != streams/2 {
		t.Errorf("%d leases of two lanes each stand for %d streams", n, streams)
	}
}
