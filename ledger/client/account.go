package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/mempool"
	rpctypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/cosmos/gogoproto/proto"

	"cosmossdk.io/math"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// Account submits transactions with one key. It is safe for concurrent use.
type Account struct {
	c    *Client
	key  square.Key
	addr square.Address

	mu     sync.Mutex
	number *uint64   // the account's number on the ledger, once known
	last   time.Time // the newest timeout given out: what makes each transaction unique
}

// Account is the account of key.
func (c *Client) Account(key square.Key) *Account {
	return &Account{c: c, key: key, addr: key.Address()}
}

// Address is the account's.
func (a *Account) Address() square.Address { return a.addr }

// Gas of a transaction: what any uses, and what each byte of its messages adds.
// All gas that is asked for is paid for, so estimates here and in market.go are
// a quarter above what was measured, and one that falls short is made up for.
const (
	gasBase    = 55_000
	gasPerByte = 15
)

// call is a message with the gas it may need beyond the base.
type call struct {
	msg proto.Message
	gas uint64
}

// Send moves money to another account.
func (a *Account) Send(ctx context.Context, to square.Address, amount square.Amount) (Result, error) {
	return a.submit(ctx, a.send(to, amount))
}

func (a *Account) send(to square.Address, amount square.Amount) call {
	return call{&banktypes.MsgSend{FromAddress: a.addr.String(), ToAddress: to.String(), Amount: coins(amount)}, gasSend}
}

// Post sends a transfer without waiting for a block. It returns once the
// ledger has checked and queued it; Tx tells what became of it.
func (a *Account) Post(ctx context.Context, to square.Address, amount square.Amount) (square.Hash, error) {
	price := uint64(0)
	for try := 1; ; try++ {
		tx, err := a.sign(ctx, price, a.send(to, amount))
		if err != nil {
			return square.Hash{}, err
		}
		err = a.c.broadcast(ctx, tx)
		if try == tries || !outbid(err) {
			return tx.hash, err
		}
		price = tx.bid // it never was in the mempool
	}
}

// Submit sends messages in one transaction, all or nothing, and waits for its
// block. gas is what they need beyond a plain transfer.
func (a *Account) Submit(ctx context.Context, gas uint64, msgs ...proto.Message) (Result, error) {
	calls := make([]call, len(msgs))
	for i, m := range msgs {
		calls[i].msg = m
	}
	if len(calls) > 0 {
		calls[0].gas = gas
	}
	return a.submit(ctx, calls...)
}

func (a *Account) submit(ctx context.Context, calls ...call) (Result, error) {
	calls = slices.Clone(calls)
	price := uint64(0)
	began := time.Now()
	for try := 1; ; try++ {
		tx, err := a.sign(ctx, price, calls...)
		if err != nil {
			return Result{}, err
		}
		r, err := a.c.include(ctx, tx, func(ctx context.Context, over uint64) (signed, error) {
			return a.raise(ctx, tx, over, calls...)
		})
		var refused *Refused
		switch {
		case try == tries || !errors.As(err, &refused):
			return r, err
		case refused.outbid():
			// It never was in the mempool, so that another cannot be a second one.
			price = tx.bid
		case refused.starved():
			// It did nothing but pay its fee.
			calls[0].gas = 2*calls[0].gas + gasBase
		case errors.Is(err, ErrBusy) && time.Since(began) < a.c.opt.TTL:
			// Too many of the account's own wait; the next block frees a place.
			if c := a.c; c.wait(ctx, c.seen()+1) != nil {
				return r, err
			}
			try--
		default:
			return r, err
		}
	}
}

// draft puts messages into a transaction that nobody has signed.
func (c *Client) draft(key proto.Message, number uint64, until time.Time, bid uint64, calls ...call) (Draft, error) {
	body := txtypes.TxBody{Unordered: true, TimeoutTimestamp: &until}
	gas := uint64(gasBase)
	for _, m := range calls {
		one, err := codectypes.NewAnyWithValue(m.msg)
		if err != nil {
			return Draft{}, err
		}
		body.Messages = append(body.Messages, one)
		gas += m.gas + uint64(len(one.Value))*gasPerByte
	}
	pub, err := codectypes.NewAnyWithValue(key)
	if err != nil {
		return Draft{}, err
	}
	d := Draft{Number: number, Until: until}
	if d.Body, err = body.Marshal(); err != nil {
		return Draft{}, err
	}
	// Beside the body there are a key and a signature.
	gas = max(gas, space.GasPerByte*uint64(len(d.Body)+300))
	auth := txtypes.AuthInfo{
		SignerInfos: []*txtypes.SignerInfo{{PublicKey: pub, ModeInfo: &txtypes.ModeInfo{
			Sum: &txtypes.ModeInfo_Single_{Single: &txtypes.ModeInfo_Single{Mode: signing.SignMode_SIGN_MODE_DIRECT}},
		}}},
		Fee: &txtypes.Fee{GasLimit: gas, Amount: coins(square.Utorg(space.Cost(bid, gas)))},
	}
	d.Auth, err = auth.Marshal()
	return d, err
}

// next is the account's number and a timeout that no other transaction of the
// account has.
func (a *Account) next(ctx context.Context) (uint64, time.Time, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.number == nil {
		n, err := a.c.number(ctx, a.addr)
		if err != nil {
			return 0, time.Time{}, err
		}
		a.number = &n
	}
	until := time.Now().Add(a.c.opt.TTL).UTC()
	if !until.After(a.last) {
		until = a.last.Add(time.Nanosecond)
	}
	a.last = until
	return *a.number, until, nil
}

// number is what the ledger counts an account as.
func (c *Client) number(ctx context.Context, a square.Address) (uint64, error) {
	r, err := authtypes.NewQueryClient(conn{c.rpc}).AccountInfo(ctx, &authtypes.QueryAccountInfoRequest{Address: a.String()})
	if errors.Is(err, ErrNotFound) {
		return 0, fmt.Errorf("account %s has never held money: %w", a, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("account %s: %w", a, err)
	}
	return r.Info.AccountNumber, nil
}

// broadcast hands a transaction to the ledger. A nil error says that it was
// checked and queued.
func (c *Client) broadcast(ctx context.Context, tx signed) error {
	type answer struct {
		res *rpctypes.ResultBroadcastTx
		err error
	}
	// A node whose consensus has failed may never answer.
	got := make(chan answer, 1)
	go func() {
		deep(0)
		res, err := c.rpc.BroadcastTxSync(ctx, tx.raw)
		got <- answer{res, err}
	}()
	select {
	case <-ctx.Done():
		return &Unknown{Hash: tx.hash, Until: tx.until, Cause: ctx.Err()}
	case r := <-got:
		switch {
		case r.err != nil && (errors.As(r.err, new(mempool.ErrMempoolIsFull)) || strings.Contains(r.err.Error(), "mempool is full")):
			return fmt.Errorf("%w: %w", ErrBusy, r.err)
		case r.err != nil:
			return &Unknown{Hash: tx.hash, Until: tx.until, Cause: r.err}
		case r.res.Code != 0:
			return &Refused{Hash: tx.hash, Code: r.res.Code, Codespace: r.res.Codespace, Log: r.res.Log}
		}
		return nil
	}
}

// deep has the stack of a new goroutine grow at once to what a check of a
// transaction in this process takes. It would be copied four times on the way
// there.
//
//go:noinline
func deep(i int) byte {
	var room [40 << 10]byte
	return room[i]
}

func coins(a square.Amount) sdk.Coins {
	if a.Units == 0 {
		return nil
	}
	return sdk.Coins{{Denom: a.Denom, Amount: math.NewIntFromUint64(a.Units)}}
}
