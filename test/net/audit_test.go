//go:build linux

package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/tmhash"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
)

// chain is what a validator's blocks say up to a height.
type chain struct {
	blocks [][]byte // hash of block i+1
	states [][]byte // hash of the state after block i
	txs    map[square.Hash]inclusion
	last   time.Time // of the last block
}

// inclusion is where a transaction is, whether it succeeded, and who paid how much
// for it.
type inclusion struct {
	height int64
	code   uint32
	payer  square.Address
	fee    uint64
}

// read goes on to a height.
func (c *chain) read(ctx context.Context, v *validator, to int64) error {
	for h := int64(len(c.blocks)) + 1; h <= to; h++ {
		b, err := v.rpc.Block(ctx, &h)
		if err != nil {
			return fmt.Errorf("validator %d, block %d: %w", v.index, h, err)
		}
		r, err := v.rpc.BlockResults(ctx, &h)
		if err != nil {
			return fmt.Errorf("validator %d, results of block %d: %w", v.index, h, err)
		}
		c.blocks = append(c.blocks, b.BlockID.Hash)
		c.states = append(c.states, b.Block.AppHash)
		c.last = b.Block.Time
		for i, tx := range b.Block.Txs {
			if ledger.IsBeacon(tx) {
				continue
			}
			hash := square.Hash(tmhash.Sum(tx))
			if at, twice := c.txs[hash]; twice {
				return fmt.Errorf("transaction %s is in blocks %d and %d", hash, at.height, h)
			}
			in := inclusion{height: h, code: r.TxsResults[i].Code}
			if in.payer, in.fee, err = paid(r.TxsResults[i].Events); err != nil {
				return fmt.Errorf("transaction %s in block %d: %w", hash, h, err)
			}
			c.txs[hash] = in
		}
	}
	return nil
}

// paid is the fee of a transaction, by its events.
func paid(events []abci.Event) (payer square.Address, fee uint64, err error) {
	for _, e := range events {
		if e.Type != sdk.EventTypeTx {
			continue
		}
		for _, a := range e.Attributes {
			switch a.Key {
			case sdk.AttributeKeyFee:
				coins, cerr := sdk.ParseCoinsNormalized(a.Value)
				if cerr != nil {
					return payer, 0, cerr
				}
				fee = coins.AmountOf(square.Denom).Uint64()
			case sdk.AttributeKeyFeePayer:
				if payer, err = square.ParseAddress(a.Value); err != nil {
					return payer, 0, err
				}
			}
		}
	}
	if fee == 0 || payer.IsZero() {
		return payer, 0, errors.New("nobody has paid for it")
	}
	return payer, fee, nil
}

// crash is the end of a validator. What it alone had accepted, and had not shown its
// peers or got into a block, died with it: that came since from.
type crash struct {
	victim   int
	from, at time.Time
}

func (c crash) took(x transfer) bool {
	return x.via == c.victim && x.sent.After(c.from) && x.sent.Before(c.at)
}

// audit says whether the validators agree on one chain and whether it holds
// exactly what senders were told. What the killed validator alone had accepted
// may have died with it, and must then have expired.
func audit(ctx context.Context, vs []*validator, t *traffic, ended []crash) (string, error) {
	for _, err := range t.errs {
		return "", fmt.Errorf("%d answers left the sender without an outcome, the first: %w", len(t.errs), err)
	}
	chains := make([]chain, len(vs))
	for i := range chains {
		chains[i].txs = map[square.Hash]inclusion{}
	}
	// What is in no block yet may come until its timeout.
	var to int64
	for waiting := true; waiting; {
		to = highest(ctx, vs...)
		// A block is complete, with its results, once the next is there.
		if err := reach(ctx, to+1, vs...); err != nil {
			return "", err
		}
		if err := chains[0].read(ctx, vs[0], to); err != nil {
			return "", err
		}
		waiting = false
		for _, x := range t.done {
			_, in := chains[0].txs[x.hash]
			waiting = waiting || !in && !chains[0].last.After(x.until)
		}
	}

	// One chain.
	if err := each(vs, func(i int, v *validator) error { return chains[i].read(ctx, v, to) }); err != nil {
		return "", err
	}
	for i, c := range chains {
		for h := range c.blocks {
			if !bytes.Equal(c.blocks[h], chains[0].blocks[h]) || !bytes.Equal(c.states[h], chains[0].states[h]) {
				return "", fmt.Errorf("validators 0 and %d differ in block %d: %X and %X, state before %X and %X",
					i, h+1, chains[0].blocks[h], c.blocks[h], chains[0].states[h], c.states[h])
			}
		}
	}
	// The hash in a block is what its proposer computed; ask each for its own.
	if err := sameState(ctx, vs); err != nil {
		return "", err
	}

	// Nothing lost, nothing invented.
	txs := chains[0].txs
	spent, received := map[square.Address]uint64{}, map[square.Address]uint64{}
	outcomes := map[said][2]int{} // in a block, expired
	known := map[square.Hash]bool{}
	for _, x := range t.done {
		at, in := txs[x.hash]
		for _, h := range x.raised {
			if !in {
				x.hash = h
				at, in = txs[h]
			}
		}
		in = in && !x.hash.IsZero()
		known[x.hash] = true
		switch {
		case x.said == refused:
			return "", fmt.Errorf("transfer via %d refused: %w", x.via, x.err)
		case in && at.code != 0:
			return "", fmt.Errorf("transaction %s failed in block %d with code %d", x.hash, at.height, at.code)
		case x.said == committed && (!in || at.height != x.height):
			return "", fmt.Errorf("transaction %s was reported in block %d, and is in %d", x.hash, x.height, at.height)
		case x.said == queued && !in && t.crowded(x):
			// A posted transfer bids once. What a flood has made dearer, and a full
			// pool has no room for, does not come; nobody has paid for it.
		case (x.said == queued || x.said == expired) && !in && !slices.ContainsFunc(ended, func(c crash) bool { return c.took(x) }):
			return "", fmt.Errorf("transaction %s, accepted by validator %d at %s, is lost", x.hash, x.via, x.sent.Format(time.TimeOnly))
		}
		n := outcomes[x.said]
		if in {
			n[0]++
			spent[x.from] += x.units
			received[x.to] += x.units
		} else {
			n[1]++
		}
		outcomes[x.said] = n
	}
	for hash, at := range txs {
		spent[at.payer] += at.fee
		if !known[hash] && !slices.Contains(t.votes, hash) {
			return "", fmt.Errorf("block %d has transaction %s, which no sender knows of or which was reported expired", at.height, hash)
		}
	}
	for i := range vs {
		for _, s := range []said{queued, committed} {
			if t.count(s, i, time.Time{}) == 0 {
				return "", fmt.Errorf("no transaction via validator %d was %s", i, s)
			}
		}
	}

	// Every validator finds each, and has the same money.
	if err := each(vs, func(_ int, v *validator) error { return lookUp(ctx, v, txs) }); err != nil {
		return "", err
	}
	if err := each(vs, func(_ int, v *validator) error {
		for _, k := range append(slices.Clone(t.payers), t.flooders...) {
			if err := holds(ctx, v, k.Address(), purse-spent[k.Address()]); err != nil {
				return err
			}
		}
		for _, a := range t.payees {
			if err := holds(ctx, v, a, received[a]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return "", err
	}

	say := fmt.Sprintf("%d blocks, %d transactions", to, len(txs))
	for _, s := range []said{committed, queued, expired, unknown} {
		say += fmt.Sprintf("; said %s: %d in a block, %d not", s, outcomes[s][0], outcomes[s][1])
	}
	return say + fmt.Sprintf("; turned away: %d", t.busy), nil
}

// sameState compares the state that each validator has computed with the one
// the others agreed on.
func sameState(ctx context.Context, vs []*validator) error {
	return each(vs, func(_ int, v *validator) error {
		own, err := v.rpc.ABCIInfo(ctx)
		if err != nil {
			return err
		}
		next := own.Response.LastBlockHeight + 1
		if err := reach(ctx, next, vs...); err != nil {
			return err
		}
		for _, other := range vs {
			b, err := other.rpc.Block(ctx, &next)
			if err != nil {
				return err
			}
			if !bytes.Equal(b.Block.AppHash, own.Response.LastBlockAppHash) {
				return fmt.Errorf("state after block %d is %X on validator %d and %X on %d", next-1, own.Response.LastBlockAppHash, v.index, b.Block.AppHash, other.index)
			}
		}
		return nil
	})
}

// lookUp asks a validator for every transaction: also the one that was killed
// between committing a block and indexing it.
func lookUp(ctx context.Context, v *validator, txs map[square.Hash]inclusion) error {
	for hash, at := range txs {
		r, err := v.Tx(ctx, hash)
		switch {
		case errors.Is(err, client.ErrNotFound):
			return fmt.Errorf("validator %d does not find transaction %s of block %d", v.index, hash, at.height)
		case err != nil:
			return err
		case r.Height != at.height:
			return fmt.Errorf("validator %d finds transaction %s in block %d, not %d", v.index, hash, r.Height, at.height)
		}
	}
	return nil
}

func holds(ctx context.Context, v *validator, who square.Address, want uint64) error {
	b, err := v.Balance(ctx, who, square.Denom)
	if err == nil && b.Units != want {
		err = fmt.Errorf("validator %d: %s holds %d utorg, not %d", v.index, who, b.Units, want)
	}
	return err
}

// each asks all validators at once and returns all errors.
func each(vs []*validator, ask func(int, *validator) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(vs))
	for i, v := range vs {
		wg.Go(func() { errs[i] = ask(i, v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
