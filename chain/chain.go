// Package chain is the little of the ledger that both halves of a trade act on,
// beside market's own types: its newest block, its time, a claim on a lane, consent to
// an end. It keeps the ledger's client, and all that links, out of the trades and the
// node; cmd/torg fits the two together.
package chain

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Claim redeems one lane: Amount of what its voucher promises, in all.
type Claim struct {
	Lane    uint16
	Amount  uint64
	Voucher square.Voucher
}

// Consent is a provider's agreement to a final sum.
type Consent struct {
	Paid uint64
	Sig  square.Signature
}

// ErrStalled says that the ledger makes no blocks. Whoever fits a ledger to the
// interfaces of the trades wraps it.
var ErrStalled = errors.New("the ledger is not making blocks, and this request needs a new lease")

// Head is the newest block. Lag is how many seconds the clock that deadlines run
// on, which stands still while blocks have no room, is behind its time.
type Head struct {
	Height uint64
	Time   time.Time
	Lag    int64
}

// Clock tells the ledger's time without asking the ledger each time, and while
// the ledger stands still. It adds this machine's monotonic time to the newest
// block's: setting the wall clock changes nothing.
type Clock struct {
	head func(context.Context) (Head, error)

	mu   sync.Mutex
	last Head
	seen time.Time // when last was first seen; carries a monotonic reading
}

// NewClock makes a clock that reads head. Its owner calls Refresh about once a
// second.
func NewClock(head func(context.Context) (Head, error)) *Clock { return &Clock{head: head} }

// Refresh reads the newest block. On a failure the clock goes on from the last
// one.
func (c *Clock) Refresh(ctx context.Context) (Head, error) {
	h, err := c.head(ctx)
	if err != nil {
		return Head{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen.IsZero() || h.Height > c.last.Height {
		c.last, c.seen = h, time.Now()
	}
	return h, nil
}

// Now is the ledger's time, to about a block. It fails only when no block was
// ever read and none can be.
func (c *Clock) Now(ctx context.Context) (time.Time, error) {
	c.mu.Lock()
	last, seen := c.last, c.seen
	c.mu.Unlock()
	if seen.IsZero() {
		h, err := c.Refresh(ctx)
		return h.Time, err
	}
	return last.Time.Add(time.Since(seen)), nil
}

// Dated is a lease with its deadlines in the ledger's time, as far as is known now:
// they can only come later.
func (c *Clock) Dated(m market.Lease) market.Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Deadline > 0 {
		m.Deadline += c.last.Lag
	}
	if m.Ends > 0 {
		m.Ends += c.last.Lag
	}
	return m
}

// Age is how long the newest block that Refresh saw has been the newest.
func (c *Clock) Age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen.IsZero() {
		return 0
	}
	return time.Since(c.seen)
}
