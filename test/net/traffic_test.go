//go:build linux

package net_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/square"
)

// said is what a sender was told about a transaction.
type said string

const (
	queued    said = "queued"    // accepted into a mempool, by Post
	committed said = "committed" // found in a block, by Send
	expired   said = "expired"   // accepted, then given up for good, by Send
	unknown   said = "unknown"   // it may or may not happen until its timeout
	refused   said = "refused"
)

// transfer is one transaction and what its sender knows of it.
type transfer struct {
	hash     square.Hash   // zero: not told
	raised   []square.Hash // the same for more, of which one may have happened instead
	via      int           // validator
	from, to square.Address
	units    uint64
	sent     time.Time
	until    time.Time // no block takes it later than this
	said     said
	height   int64 // if committed
	err      error // if refused
}

// Each validator is sent to by so many accounts that wait for the block of one
// transaction before the next, and so many that do not.
const (
	waiters = 4
	posters = 2
	rest    = 200 * time.Millisecond
	ttl     = time.Minute
)

// purse is what each payer starts with.
const purse = 1_000_000 * square.UnitsPerTorg

// traffic is transfers from many accounts to all validators.
type traffic struct {
	payers   []square.Key
	flooders []square.Key
	payees   []square.Address
	wg       sync.WaitGroup

	flooded time.Time     // when the flood began
	votes   []square.Hash // transactions that are no transfers

	mu   sync.Mutex
	done []transfer
	busy int     // turned away by a full mempool
	errs []error // answers that say neither yes, no nor unknown
}

func newTraffic(validators int) *traffic {
	t := &traffic{}
	for i := range validators * (waiters + posters) {
		t.payers = append(t.payers, devnet.Key(uint32(i)))
	}
	for i := range 8 {
		t.flooders = append(t.flooders, devnet.Key(uint32(len(t.payers)+i)))
		t.payees = append(t.payees, square.Address{'p', 'a', 'y', 'e', 'e', byte(i)})
	}
	return t
}

// start sends until ctx ends. wg is done when all outcomes are in.
func (t *traffic) start(ctx context.Context, vs []*validator) {
	for i, key := range t.payers {
		via := i % len(vs)
		account := vs[via].Account(key)
		wait := i/len(vs) < waiters
		t.wg.Go(func() {
			for ctx.Err() == nil {
				t.one(account, via, wait, false)
				time.Sleep(rest/2 + rand.N(rest))
			}
		})
	}
}

// flood posts n transfers to some validators as fast as they take them, from
// accounts that send nothing else. A validator may turn them away, but what it
// accepts counts like all else.
func (t *traffic) flood(n int, vs ...*validator) {
	t.flooded = time.Now()
	var wg sync.WaitGroup
	for i, key := range t.flooders {
		v := vs[i%len(vs)]
		account := v.Account(key)
		wg.Go(func() {
			for range n / len(t.flooders) {
				t.one(account, v.index, false, true)
			}
		})
	}
	wg.Wait()
}

// crowded reports whether a transfer waited while the flood did.
func (t *traffic) crowded(x transfer) bool {
	return !t.flooded.IsZero() && x.sent.After(t.flooded.Add(-10*time.Second)) && x.sent.Before(t.flooded.Add(ttl))
}

func (t *traffic) one(from *client.Account, via int, wait, flood bool) {
	x := transfer{
		via: via, from: from.Address(), to: t.payees[rand.IntN(len(t.payees))],
		units: 1 + rand.Uint64N(1_000_000), sent: time.Now(),
	}
	// No deadline: the timeout of the transaction is one.
	ctx, amount := context.Background(), square.Utorg(x.units)
	var err error
	if wait {
		var r client.Result
		r, err = from.Send(ctx, x.to, amount)
		x.hash, x.height, x.said = r.Hash, r.Height, committed
	} else {
		x.hash, err = from.Post(ctx, x.to, amount)
		x.said = queued
	}
	x.until = time.Now().Add(ttl)

	var u *client.Unknown
	var no *client.Refused
	switch {
	case err == nil:
	case errors.As(err, &u):
		x.hash, x.raised, x.until, x.said = u.Hash, u.Raised, u.Until, unknown
	case errors.As(err, &no):
		x.hash, x.said, x.err = no.Hash, refused, err
	case errors.Is(err, client.ErrExpired):
		x.hash, x.said = square.Hash{}, expired
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(err, client.ErrBusy) || no != nil && no.Height == 0 && (flood || strings.Contains(no.Log, "ttl exceeds")) || u == nil && errors.Is(err, client.ErrUnreachable):
		// Turned away, also because the last block is so old that a minute from now is
		// more than two from it, or not even asked for the price: nothing was sent.
		t.busy++
	case x.hash.IsZero() && x.said != expired:
		t.errs = append(t.errs, err)
	default:
		t.done = append(t.done, x)
	}
}

// count is how many transactions via a validator the sender was told so about,
// sent from began on.
func (t *traffic) count(s said, via int, began time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.done {
		if x.said == s && x.via == via && !x.sent.Before(began) {
			n++
		}
	}
	return n
}
