package history

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// chain is a ledger whose blocks hold the events that a test gives it.
type chain struct {
	mu     sync.Mutex
	blocks [][]client.Event // from height 1
	pruned int64            // blocks up to it cannot be read any more
	grown  chan struct{}
}

func newChain() *chain { return &chain{grown: make(chan struct{})} }

func (c *chain) add(evs ...client.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, nil)
	for _, e := range evs {
		e.Height = int64(len(c.blocks))
		c.blocks[len(c.blocks)-1] = append(c.blocks[len(c.blocks)-1], e)
	}
	close(c.grown)
	c.grown = make(chan struct{})
}

func (c *chain) ChainID() string { return "test" }

func (c *chain) Head(context.Context) (client.Head, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return client.Head{Height: int64(len(c.blocks))}, nil
}

func (c *chain) WaitHeight(ctx context.Context, h int64) error {
	for {
		c.mu.Lock()
		have, grown := int64(len(c.blocks)), c.grown
		c.mu.Unlock()
		if have >= h {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *chain) EventsAt(_ context.Context, h int64) ([]client.Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h <= c.pruned {
		return nil, errors.New("pruned")
	}
	return c.blocks[h-1], nil
}

var (
	alice, bob = square.Address{1}, square.Address{2}
	deal       = square.Hash{7}
	other      = square.Hash{8}
)

func event(kind market.Kind, lease square.Hash, buyer, provider square.Address) client.Event {
	return client.Event{Event: market.Event{Kind: kind, Lease: lease, Buyer: buyer, Provider: provider}}
}

// follow runs a history until it has read the whole chain.
func follow(t *testing.T, path string, c *chain, look func(*History)) {
	t.Helper()
	h, err := Open(path, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Run(ctx) }()
	c.mu.Lock()
	want := int64(len(c.blocks))
	last := want
	for last > 0 && len(c.blocks[last-1]) == 0 {
		last--
	}
	c.mu.Unlock()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var newest int64
		_ = h.db.View(func(tx *bolt.Tx) error {
			if k, _ := tx.Bucket(bucketEvents).Cursor().Last(); k != nil {
				newest = int64(k[7]) | int64(k[6])<<8
			}
			return nil
		})
		if newest >= last {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("read to block %d of %d", newest, last)
		}
	}
	cancel()
	<-done
	look(h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func kinds(evs []client.Event) string {
	s := ""
	for _, e := range evs {
		s += fmt.Sprintf("%s@%d ", e.Kind, e.Height)
	}
	return s
}

func TestHistoryGoesOnWhereItStopped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.db")
	c := newChain()
	c.add(event(market.EvOpened, deal, alice, bob), event(market.EvMatched, deal, alice, bob))
	c.add()
	c.add(event(market.EvOpened, other, bob, square.Address{}))
	follow(t, path, c, func(h *History) {
		evs, err := h.Lease(deal, 10)
		if got := kinds(evs); err != nil || got != "opened@1 matched@1 " {
			t.Errorf("the lease: %s, %v", got, err)
		}
	})
	c.add(event(market.EvRedeemed, deal, alice, bob))
	c.add(event(market.EvEnded, deal, alice, bob))
	follow(t, path, c, func(h *History) {
		evs, err := h.Lease(deal, 10)
		if got := kinds(evs); err != nil || got != "opened@1 matched@1 redeemed@4 ended@5 " {
			t.Errorf("the lease after a restart: %s, %v", got, err)
		}
		if evs, _ := h.Lease(deal, 2); kinds(evs) != "opened@1 matched@1 " {
			t.Errorf("two events: %s", kinds(evs))
		}
		// Newest first, and only what is the account's.
		evs, err = h.Account(bob, 3)
		if got := kinds(evs); err != nil || got != "ended@5 redeemed@4 opened@3 " {
			t.Errorf("bob: %s, %v", got, err)
		}
		evs, err = h.Account(alice, 10)
		if got := kinds(evs); err != nil || got != "ended@5 redeemed@4 matched@1 opened@1 " {
			t.Errorf("alice: %s, %v", got, err)
		}
		if _, err := h.Lease(square.Hash{9}, 10); !errors.Is(err, ErrNone) {
			t.Errorf("an unknown lease: %v", err)
		}
	})
}

// Money that moved through an account is its history too.
func TestMovesAreFiled(t *testing.T) {
	c := newChain()
	e := event(market.EvEnded, deal, alice, square.Address{})
	e.Moves = []market.Transfer{{From: market.Escrow(deal), To: market.Account(bob), Amount: square.Utorg(5)}}
	c.add(e)
	follow(t, filepath.Join(t.TempDir(), "h.db"), c, func(h *History) {
		if evs, err := h.Account(bob, 10); err != nil || len(evs) != 1 {
			t.Errorf("bob was paid, and his history says %s, %v", kinds(evs), err)
		}
	})
}

// Blocks that the node has forgotten are passed over.
func TestPrunedBlocks(t *testing.T) {
	c := newChain()
	for range 40 {
		c.add(event(market.EvOffered, square.Hash{}, square.Address{}, bob))
	}
	c.pruned = 25
	follow(t, filepath.Join(t.TempDir(), "h.db"), c, func(h *History) {
		if evs, err := h.Account(bob, 100); err != nil || len(evs) != 15 || evs[14].Height != 26 {
			t.Errorf("%d events, %v", len(evs), err)
		}
	})
}

// The oldest events go first, and their index with them.
func TestForgetting(t *testing.T) {
	h, err := Open(filepath.Join(t.TempDir(), "h.db"), newChain())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for i := range int64(20) {
		e := event(market.EvOffered, deal, alice, bob)
		e.Height = i + 1
		if err := h.file([]client.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.db.Update(func(tx *bolt.Tx) error { return forget(tx.Bucket(bucketEvents), tx.Bucket(bucketIndex), 5) }); err != nil {
		t.Fatal(err)
	}
	evs, err := h.Lease(deal, 100)
	if err != nil || len(evs) != 5 || evs[0].Height != 16 {
		t.Errorf("%s, %v", kinds(evs), err)
	}
	if err := h.db.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket(bucketIndex).Stats().KeyN; n != 15 {
			return fmt.Errorf("%d index entries for 5 events of a lease and two parties", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
