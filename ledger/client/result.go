package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cmttypes "github.com/cometbft/cometbft/types"

	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/square"
)

// Result is a transaction that a block has executed.
type Result struct {
	Hash   square.Hash
	Height int64
	Gas    int64 // used
	Events []Event

	err error // a *Refused if it failed
}

// Refused is a transaction that the ledger rejected or whose messages failed.
// Nothing but its fee has changed.
type Refused struct {
	Hash      square.Hash
	Height    int64 // 0: it never reached a block
	Code      uint32
	Codespace string
	Log       string
}

// Error is the refusal in the words of whoever refused, without the SDK's frame
// around them.
func (r *Refused) Error() string {
	why := r.Log
	if _, rest, framed := strings.Cut(why, "message index: "); framed {
		if _, rest, framed = strings.Cut(rest, ": "); framed {
			why = rest
		}
	}
	if end := strings.LastIndex(why, ": "); end > 0 && r.Codespace == marketv1.Codespace {
		why = why[:end] // the code's name
	}
	return "the ledger refused: " + why
}

// outbid tells whether a transaction was kept out of the mempool because more is
// asked for gas.
func outbid(err error) bool {
	var r *Refused
	return errors.As(err, &r) && r.outbid()
}

func (r *Refused) outbid() bool {
	return r.Height == 0 && r.Codespace == sdkerrors.RootCodespace && r.Code == sdkerrors.ErrInsufficientFee.ABCICode()
}

// starved tells whether a block had a transaction and its gas was not enough.
func (r *Refused) starved() bool {
	return r.Height > 0 && r.Codespace == sdkerrors.RootCodespace && r.Code == sdkerrors.ErrOutOfGas.ABCICode()
}

// Unwrap is what went wrong in terms that callers tell apart.
func (r *Refused) Unwrap() error {
	if r.Codespace == marketv1.Codespace {
		return marketv1.Cause(r.Code)
	}
	if r.Codespace == sdkerrors.RootCodespace {
		switch r.Code {
		case sdkerrors.ErrInsufficientFunds.ABCICode(), sdkerrors.ErrInsufficientFee.ABCICode():
			return ErrInsufficient
		case sdkerrors.ErrKeyNotFound.ABCICode(), sdkerrors.ErrUnknownAddress.ABCICode():
			return ErrNotFound
		case sdkerrors.ErrMempoolIsFull.ABCICode():
			return ErrBusy
		}
	}
	return nil
}

// Unknown is the outcome of a transaction that may or may not happen. After
// Until, by the ledger's clock, it cannot happen any more; Client.Tx tells.
type Unknown struct {
	Hash   square.Hash
	Raised []square.Hash // the same again for more; of all these one happens at most
	Until  time.Time
	Cause  error
}

func (u *Unknown) Error() string {
	which := u.Hash.String()
	for _, h := range u.Raised {
		which += " or " + h.String()
	}
	return fmt.Sprintf("outcome unknown (look up transaction %s; it can happen until %s): %v", which, u.Until.Format(time.RFC3339), u.Cause)
}

func (u *Unknown) Unwrap() error { return u.Cause }

func result(hash square.Hash, height int64, r *abci.ExecTxResult) Result {
	out := Result{Hash: hash, Height: height, Gas: r.GasUsed}
	if r.Code != 0 {
		out.err = &Refused{Hash: hash, Height: height, Code: r.Code, Codespace: r.Codespace, Log: r.Log}
		return out
	}
	out.Events = events(height, hash, r.Events)
	return out
}

func (c *Client) expect(hash square.Hash, ch chan Result) {
	c.mu.Lock()
	c.waiting[hash] = ch
	c.mu.Unlock()
}

func (c *Client) forget(txs []signed) {
	c.mu.Lock()
	for _, tx := range txs {
		delete(c.waiting, tx.hash)
	}
	c.mu.Unlock()
}

// follow reads each new block and tells who waits for what is in it.
func (c *Client) follow(ctx context.Context) {
	defer func() {
		c.mu.Lock()
		for w := range c.watchers {
			w.close()
		}
		c.mu.Unlock()
		close(c.done)
	}()
	for {
		next := c.seen() + 1
		if err := c.wait(ctx, next); err != nil {
			if ctx.Err() != nil {
				return
			}
			select { // a stopped node: nothing more will come, but answer Close
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		if err := c.read(ctx, next); err != nil {
			if ctx.Err() != nil {
				return
			}
			// The block is there; its results may be a moment behind, or
			// forgotten if this client slept for long.
			if head, herr := c.Head(ctx); herr == nil && head.Height > next+100 {
				c.advance(head.Height)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		c.advance(next)
	}
}

func (c *Client) advance(h int64) {
	c.mu.Lock()
	c.height = h
	c.mu.Unlock()
}

func (c *Client) read(ctx context.Context, h int64) error {
	c.mu.Lock()
	idle := len(c.waiting) == 0 && len(c.watchers) == 0
	c.mu.Unlock()
	if idle {
		return nil
	}
	results, err := c.rpc.BlockResults(ctx, &h)
	if err != nil {
		return err
	}
	block, err := c.rpc.Block(ctx, &h)
	if err != nil {
		return err
	}
	if block.Block == nil || len(block.Block.Txs) != len(results.TxsResults) {
		return errors.New("block and results do not match")
	}
	for i, tx := range block.Block.Txs {
		hash := square.Hash(cmttypes.Tx(tx).Hash())
		r := result(hash, h, results.TxsResults[i])
		c.mu.Lock()
		if ch, ok := c.waiting[hash]; ok {
			ch <- r
			delete(c.waiting, hash)
		}
		c.mu.Unlock()
		c.tell(r.Events)
	}
	c.tell(events(h, square.Hash{}, results.FinalizeBlockEvents))
	return nil
}
