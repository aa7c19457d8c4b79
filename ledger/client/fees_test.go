package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/libs/bytes"
	rpcclient "github.com/cometbft/cometbft/rpc/client"
	rpctypes "github.com/cometbft/cometbft/rpc/core/types"
	cmttypes "github.com/cometbft/cometbft/types"

	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// dearLedger is a node whose gas grows dearer than what waits, which it then drops.
type dearLedger struct {
	mu     sync.Mutex
	price  uint64
	blocks [][][]byte
	sent   [][]byte        // all that was ever queued
	waits  map[string]bool // what a block may still have
	at     time.Time       // of the last block
}

func (l *dearLedger) rises(to uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.price, l.waits = to, map[string]bool{}
}

// block makes a block of some transactions.
func (l *dearLedger) block(at time.Time, txs ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocks, l.at = append(l.blocks, txs), at
}

func (l *dearLedger) queued() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func (l *dearLedger) BroadcastTxSync(_ context.Context, tx cmttypes.Tx) (*rpctypes.ResultBroadcastTx, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, fee, gas := read(tx)
	if l.waits[string(tx)] {
		return nil, errors.New("tx already exists in cache")
	}
	if fee < space.Cost(l.price, gas) {
		return &rpctypes.ResultBroadcastTx{Code: sdkerrors.ErrInsufficientFee.ABCICode(), Codespace: sdkerrors.RootCodespace}, nil
	}
	l.sent, l.waits[string(tx)] = append(l.sent, tx), true
	return &rpctypes.ResultBroadcastTx{}, nil
}

func (l *dearLedger) ABCIQueryWithOptions(_ context.Context, path string, _ bytes.HexBytes, _ rpcclient.ABCIQueryOptions) (*rpctypes.ResultABCIQuery, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	var err error
	if strings.HasSuffix(path, "/AccountInfo") {
		b, err = (&authtypes.QueryAccountInfoResponse{Info: &authtypes.BaseAccount{AccountNumber: 7}}).Marshal()
	} else {
		b, err = (&marketv1.QueryParamsResponse{Prices: []uint64{1000, 10_000, l.price}}).Marshal()
	}
	return &rpctypes.ResultABCIQuery{Response: abci.ResponseQuery{Value: b}}, err
}

func (l *dearLedger) Status(context.Context) (*rpctypes.ResultStatus, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &rpctypes.ResultStatus{SyncInfo: rpctypes.SyncInfo{LatestBlockHeight: int64(len(l.blocks)), LatestBlockTime: l.at}}, nil
}

func (l *dearLedger) Block(_ context.Context, h *int64) (*rpctypes.ResultBlock, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &cmttypes.Block{}
	for _, tx := range l.blocks[*h-1] {
		b.Txs = append(b.Txs, tx)
	}
	return &rpctypes.ResultBlock{Block: b}, nil
}

func (l *dearLedger) BlockResults(_ context.Context, h *int64) (*rpctypes.ResultBlockResults, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &rpctypes.ResultBlockResults{}
	for range l.blocks[*h-1] {
		r.TxsResults = append(r.TxsResults, &abci.ExecTxResult{})
	}
	return r, nil
}

func (l *dearLedger) Tx(context.Context, []byte, bool) (*rpctypes.ResultTx, error) {
	return nil, errors.New("not found")
}

func (l *dearLedger) ABCIInfo(context.Context) (*rpctypes.ResultABCIInfo, error) {
	return nil, errors.New("nobody asks")
}

func read(raw []byte) (until time.Time, fee, gas uint64) {
	var tx txtypes.Tx
	if err := tx.Unmarshal(raw); err != nil {
		panic(err)
	}
	return *tx.Body.TimeoutTimestamp, tx.AuthInfo.Fee.Amount.AmountOf(square.Denom).Uint64(), tx.AuthInfo.Fee.GasLimit
}

// openDear is a client of such a node, an account, and what became of a transfer
// that waits while the price has risen so that it was sent again for more.
func openDear(t *testing.T, ctx context.Context, ttl time.Duration) (*dearLedger, [][]byte, <-chan error, *Result) {
	t.Helper()
	l := &dearLedger{price: space.LeastPrices[space.Other], waits: map[string]bool{}, at: time.Now()}
	l.block(time.Now())
	c, err := open(t.Context(), l, "dear", func(ctx context.Context, h int64) error {
		for {
			if s, _ := l.Status(ctx); s.SyncInfo.LatestBlockHeight >= h {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}, Options{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	key, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	done, res := make(chan error, 1), new(Result)
	go func() {
		r, err := c.Account(key).Send(ctx, square.Address{1}, square.Utorg(1))
		*res = r
		done <- err
	}()
	until := func(n int) [][]byte {
		for {
			if sent := l.queued(); len(sent) >= n {
				return sent
			}
			select {
			case err := <-done:
				t.Fatalf("after %d of %d transactions: %v", len(l.queued()), n, err)
			case <-t.Context().Done():
				t.Fatalf("%d of %d transactions", len(l.queued()), n)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	until(1)
	l.rises(3 * space.LeastPrices[space.Other])
	return l, until(2), done, res
}

// What the ledger has dropped because its price has risen is sent again for more,
// under the timeout that it had, so that no two of them can happen; whichever a block
// has is the one.
func TestRaise(t *testing.T) {
	for which := range 2 {
		l, sent, done, res := openDear(t, t.Context(), time.Minute)
		first, fee, _ := read(sent[0])
		second, more, gas := read(sent[1])
		if !first.Equal(second) {
			t.Fatalf("the second is good until %s and the first until %s: both could happen", second, first)
		}
		if more <= fee || more < space.Cost(6*space.LeastPrices[space.Other], gas) {
			t.Errorf("%d offered, after %d, at three times the price", more, fee)
		}
		l.block(time.Now(), sent[which])
		if err := <-done; err != nil || res.Hash != square.Hash(cmttypes.Tx(sent[which]).Hash()) {
			t.Errorf("%s in block %d: %v", res.Hash, res.Height, err)
		}
	}
}

// A context that ends leaves both unknown.
func TestRaiseUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, sent, done, _ := openDear(t, ctx, time.Minute)
	cancel()
	var u *Unknown
	if err := <-done; !errors.As(err, &u) || u.Hash != square.Hash(cmttypes.Tx(sent[0]).Hash()) ||
		len(u.Raised) != 1 || u.Raised[0] != square.Hash(cmttypes.Tx(sent[1]).Hash()) {
		t.Errorf("of two transactions: %v", err)
	}
}

// What no block took before the timeout has expired, all of it.
func TestRaiseExpires(t *testing.T) {
	l, _, done, _ := openDear(t, t.Context(), 5*time.Second)
	l.block(time.Now().Add(time.Minute))
	if err := <-done; !errors.Is(err, ErrExpired) {
		t.Errorf("%v, want expired", err)
	}
}
