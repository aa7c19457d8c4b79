package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cosmos/gogoproto/proto"

	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// What is offered for gas, in quarters of its price: more, since it may rise by an
// eighth a block until one has the transaction, and what bids less than the price is
// dropped. Twice the price lasts for six blocks. That is offered where money is
// defended, and in other lanes once they cost more than the least: whoever waits has
// its turn after five blocks, if it still bids enough by then.
const (
	offeredCalm   = 5
	offeredDemand = 8
)

// tries is how often a transaction is signed anew, for more gas or a better
// price.
const tries = 8

// rebroadcast is how often a transaction that no block has is sent again.
const rebroadcast = time.Second

// include broadcasts a transaction and waits for its block. What the ledger has
// dropped since, because its price has risen or others bid more, is signed again for
// more by raise, if there is one.
func (c *Client) include(ctx context.Context, tx signed, raise func(ctx context.Context, over uint64) (signed, error)) (Result, error) {
	included := make(chan Result, 1+tries)
	c.expect(tx.hash, included)
	txs := []signed{tx}
	defer func() { c.forget(txs) }()
	before := c.seen()
	if err := c.broadcast(ctx, tx); err != nil {
		return Result{}, err
	}
	late := time.NewTimer(time.Until(tx.until) + time.Second)
	defer late.Stop()
	again := time.NewTicker(rebroadcast)
	defer again.Stop()
	unknown := func(cause error) *Unknown {
		u := &Unknown{Hash: tx.hash, Until: tx.until, Cause: cause}
		for _, x := range txs[1:] {
			u.Raised = append(u.Raised, x.hash)
		}
		return u
	}
	for {
		select {
		case <-again.C:
			// The same bytes: a node that still has them says so, one that made room
			// for others may have room again. Whatever it answers, what was queued
			// before stands.
			newest := txs[len(txs)-1]
			if !outbid(c.broadcast(ctx, newest)) || raise == nil || len(txs) > tries {
				continue
			}
			next, err := raise(ctx, newest.bid)
			if err != nil {
				continue // the ledger did not answer; it is asked again
			}
			c.expect(next.hash, included)
			if errors.Is(c.broadcast(ctx, next), ErrInsufficient) {
				// Too little again, or more than the account has: it never was in the
				// mempool, and the one before it may be affordable later.
				c.forget([]signed{next})
				continue
			}
			// Refused for anything else, it is sent again: until the next block the
			// ledger may think that the one before it waits.
			txs = append(txs, next)
		case r := <-included:
			return r, r.err
		case <-ctx.Done():
			u := unknown(ctx.Err())
			if c.seen() == before {
				u.Cause = fmt.Errorf("%w: %w", ErrStalled, ctx.Err())
			}
			return Result{}, u
		case <-c.done:
			return Result{}, unknown(errors.New("the client was closed"))
		case <-late.C:
			// Once the ledger's clock is past the timeout, absence is final.
			if head, err := c.Head(ctx); err == nil && head.Time.After(tx.until) {
				if r, err := c.anyOf(ctx, txs); !errors.Is(err, errAsk) {
					return r, err
				}
			}
			late.Reset(time.Second)
		}
	}
}

// errAsk says that the ledger did not answer, and is to be asked again.
var errAsk = errors.New("the ledger did not answer")

// anyOf finds which of some transactions, whose time is over, a block has.
func (c *Client) anyOf(ctx context.Context, txs []signed) (Result, error) {
	for _, tx := range txs {
		r, err := c.Tx(ctx, tx.hash)
		switch {
		case err == nil || errors.As(err, new(*Refused)):
			return r, err
		case !errors.Is(err, ErrNotFound):
			return Result{}, errAsk
		}
	}
	return Result{}, fmt.Errorf("transaction %s: %w", txs[0].hash, ErrExpired)
}

// signed is a transaction that may be sent.
type signed struct {
	raw    []byte
	hash   square.Hash
	number uint64 // of the account
	until  time.Time
	bid    uint64 // what it offers for gas
}

// sign makes a transaction that offers more than outbid for gas.
func (a *Account) sign(ctx context.Context, outbid uint64, calls ...call) (signed, error) {
	number, until, err := a.next(ctx)
	if err != nil {
		return signed{}, err
	}
	return a.signFor(ctx, number, until, outbid, calls)
}

// raise makes the same transaction again for more. It has the same timeout, which is
// what the ledger knows an account's transactions apart by: it takes each timeout
// once, so that of all these one happens at most, whichever a node still has.
func (a *Account) raise(ctx context.Context, tx signed, over uint64, calls ...call) (signed, error) {
	return a.signFor(ctx, tx.number, tx.until, over, calls)
}

func (a *Account) signFor(ctx context.Context, number uint64, until time.Time, outbid uint64, calls []call) (signed, error) {
	bid, err := a.c.bid(ctx, outbid, calls...)
	if err != nil {
		return signed{}, err
	}
	d, err := a.c.draft(keys.PubKeyOf(a.key), number, until, bid, calls...)
	if err != nil {
		return signed{}, err
	}
	doc, err := d.signBytes(a.c.chainID)
	if err != nil {
		return signed{}, err
	}
	tx, err := d.sealed(keys.Sign(a.key, doc))
	tx.bid = bid
	return tx, err
}

// bid is what to offer for the gas of messages.
func (c *Client) bid(ctx context.Context, outbid uint64, calls ...call) (uint64, error) {
	prices, err := c.prices(ctx, outbid > 0)
	if err != nil {
		return 0, err
	}
	msgs := make([]proto.Message, len(calls))
	for i, m := range calls {
		msgs[i] = m.msg
	}
	lane, _ := space.Place(msgs...)
	offered := uint64(offeredDemand)
	if lane != space.Defend && prices[lane] <= space.LeastPrices[lane] {
		offered = offeredCalm
	}
	return max(prices[lane]*offered/4, outbid*5/4), nil
}

// prices are those of gas by lane, not older than a second, or new.
func (c *Client) prices(ctx context.Context, fresh bool) ([]uint64, error) {
	c.mu.Lock()
	known, at := c.gas, c.gasAt
	c.mu.Unlock()
	if !fresh && known != nil && time.Since(at) < time.Second {
		return known, nil
	}
	b, err := c.Block(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.gas, c.gasAt = b.Prices, time.Now()
	c.mu.Unlock()
	return b.Prices, nil
}
