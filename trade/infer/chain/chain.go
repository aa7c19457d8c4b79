// Package chain is the little of the ledger that both halves of the inference
// trade act on, beside market's own types: its newest block, its time, and a
// claim on a lane. It keeps the ledger's client, and all that links, out of the
// provider, the buyer and the node; cmd/torg fits the two together.
package chain

import (
	"context"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
)

// Claim redeems one lane: Amount of what its voucher promises, in all.
type Claim struct {
	Lane    uint16
	Amount  uint64
	Voucher square.Voucher
}

// Head is the newest block.
type Head struct {
	Height uint64
	Time   time.Time
	Hash   square.Hash
}

// Clock tells the ledger's time without asking the ledger each time, and while
// the ledger stands still. It adds this machine's monotonic time to the newest
// block's: setting the wall clock changes nothing.
type Clock struct {
	head func(context.Context) (Head, error)

	mu   sync.Mutex
	last Head
	seen time.Time // when last was first seen; carries a monotonic reading
	next time.Time // when to ask again
}

// NewClock makes a clock that asks head at most once a second.
func NewClock(head func(context.Context) (Head, error)) *Clock { return &Clock{head: head} }

// Now is the ledger's time, to about a block. It fails only when the ledger
// could never be asked.
func (c *Clock) Now(ctx context.Context) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(c.next) {
		c.next = now.Add(time.Second)
		h, err := c.head(ctx)
		if err == nil && (c.seen.IsZero() || h.Height != c.last.Height) {
			c.last, c.seen = h, now
		}
		if c.seen.IsZero() {
			c.next = time.Time{}
			return time.Time{}, err
		}
	}
	return c.last.Time.Add(time.Since(c.seen)), nil
}
