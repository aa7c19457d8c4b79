package client

import (
	"context"
	"encoding/base64"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Event is something that happened on the square.
type Event struct {
	market.Event
	Height int64
	Tx     square.Hash // zero: the ledger itself, at the end of a block
}

// marketEvent is the type of the ledger's market events, and its attribute
// that holds the whole event, as protobuf in base64.
const (
	marketEvent = "torg.market"
	wholeEvent  = "event"
)

func events(height int64, tx square.Hash, in []abci.Event) (out []Event) {
	for _, e := range in {
		if e.Type != marketEvent {
			continue
		}
		for _, a := range e.Attributes {
			if a.Key != wholeEvent {
				continue
			}
			var m marketv1.Event
			raw, err := base64.StdEncoding.DecodeString(a.Value)
			if err != nil || m.Unmarshal(raw) != nil {
				continue
			}
			if e, err := m.Market(); err == nil {
				out = append(out, Event{Event: e, Height: height, Tx: tx})
			}
		}
	}
	return out
}

// Subscription delivers events in order. When its reader falls more than the
// buffer behind, events are dropped and Lost counts them: read state again.
type Subscription struct {
	C <-chan Event
	w *watcher
}

// Lost is how many events were dropped so far.
func (s *Subscription) Lost() uint64 {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.lost
}

type watcher struct {
	keep func(Event) bool
	ch   chan Event

	mu     sync.Mutex
	closed bool
	lost   uint64
}

// Watch subscribes to the events that keep chooses (all, if nil) from the next
// block on. C closes when ctx ends or the client is closed.
func (c *Client) Watch(ctx context.Context, buffer int, keep func(Event) bool) *Subscription {
	w := &watcher{keep: keep, ch: make(chan Event, max(1, buffer))}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
	go func() {
		select {
		case <-ctx.Done():
		case <-c.done:
		}
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
		w.close()
	}()
	return &Subscription{C: w.ch, w: w}
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.ch)
	}
}

func (c *Client) tell(evs []Event) {
	if len(evs) == 0 {
		return
	}
	c.mu.Lock()
	watchers := make([]*watcher, 0, len(c.watchers))
	for w := range c.watchers {
		watchers = append(watchers, w)
	}
	c.mu.Unlock()
	for _, w := range watchers {
		w.give(evs)
	}
}

func (w *watcher) give(evs []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range evs {
		if w.closed || w.keep != nil && !w.keep(e) {
			continue
		}
		select {
		case w.ch <- e:
		default:
			w.lost++
		}
	}
}
