// Package client is how programs talk to the ledger: in the words of square and
// market, over a node in the same process or one reached by URL.
//
// Reading is by queries on a [Client]. Writing is by an [Account], which owns a
// key: its transactions are unordered, each with its own timeout, so any number
// may be under way at once and none waits for, or is refused because of,
// another. What is submitted is included or refused, or else its outcome is
// unknown: then the error is an [Unknown] that carries the hash to look it up
// by, and it must not be taken for a failure.
package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/libs/bytes"
	rpcclient "github.com/cometbft/cometbft/rpc/client"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	rpctypes "github.com/cometbft/cometbft/rpc/core/types"
	jsonrpc "github.com/cometbft/cometbft/rpc/jsonrpc/client"
	cmttypes "github.com/cometbft/cometbft/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Node is the ledger a client talks to; *node.Node is one.
type Node interface {
	RPC() rpcclient.Client
	ChainID() string
	WaitHeight(ctx context.Context, h int64) error
}

// rpc is what a client needs of CometBFT.
type rpc interface {
	ABCIInfo(context.Context) (*rpctypes.ResultABCIInfo, error)
	ABCIQueryWithOptions(context.Context, string, bytes.HexBytes, rpcclient.ABCIQueryOptions) (*rpctypes.ResultABCIQuery, error)
	BroadcastTxSync(context.Context, cmttypes.Tx) (*rpctypes.ResultBroadcastTx, error)
	Block(context.Context, *int64) (*rpctypes.ResultBlock, error)
	BlockResults(context.Context, *int64) (*rpctypes.ResultBlockResults, error)
	Status(context.Context) (*rpctypes.ResultStatus, error)
	Tx(context.Context, []byte, bool) (*rpctypes.ResultTx, error)
}

// Options tune a client.
type Options struct {
	TTL    time.Duration // how long a transaction may wait for its block, less than two minutes; 0: one
	Trades []trade.Rules // what the ledger can judge, to bound a challenge's gas
}

// maxTTL is the most that a transaction may wait: what the ledger allows, less
// what its clock, the last block's time, may be behind.
const maxTTL = 110 * time.Second

// Client talks to one ledger. It is safe for concurrent use; Close it.
type Client struct {
	rpc     rpc
	wait    func(context.Context, int64) error
	chainID string
	opt     Options
	ledger  square.Domain
	channel square.Domain

	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	height   int64
	gas      []uint64 // prices of gas, by lane
	gasAt    time.Time
	waiting  map[square.Hash]chan Result
	watchers map[*watcher]struct{}
}

// New is a client of a node in this process.
func New(ctx context.Context, n Node, o Options) (*Client, error) {
	return open(ctx, n.RPC(), n.ChainID(), n.WaitHeight, o)
}

// Dial is a client of the node whose CometBFT RPC is at url.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	over, err := jsonrpc.DefaultHTTPClient(url)
	if err != nil {
		return nil, fmt.Errorf("ledger at %s: %w", url, err)
	}
	over.Transport = Patient(over.Transport)
	h, err := rpchttp.NewWithClient(url, "/websocket", over)
	if err != nil {
		return nil, fmt.Errorf("ledger at %s: %w", url, err)
	}
	s, err := h.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ledger at %s: %w: %w", url, ErrUnreachable, err)
	}
	return open(ctx, h, s.NodeInfo.Network, poll(h), o)
}

// poll waits for a height by asking what the application has committed. The
// block store is ahead of it for a moment, in which a block's results can be
// read but queries still see the state before it.
func poll(r rpc) func(context.Context, int64) error {
	return func(ctx context.Context, h int64) error {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			if i, err := r.ABCIInfo(ctx); err == nil && i.Response.LastBlockHeight >= h {
				return nil
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return fmt.Errorf("waiting for block %d: %w", h, ctx.Err())
			}
		}
	}
}

func open(ctx context.Context, r rpc, chainID string, wait func(context.Context, int64) error, o Options) (*Client, error) {
	if o.TTL == 0 {
		o.TTL = time.Minute
	}
	o.TTL = min(o.TTL, maxTTL)
	s, err := r.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	run, stop := context.WithCancel(context.Background())
	c := &Client{
		rpc: r, wait: wait, chainID: chainID, opt: o, stop: stop, done: make(chan struct{}),
		ledger: square.LedgerDomain(chainID), channel: square.ChannelDomain(chainID),
		height:  s.SyncInfo.LatestBlockHeight,
		waiting: map[square.Hash]chan Result{}, watchers: map[*watcher]struct{}{},
	}
	go c.follow(run)
	return c, nil
}

// Close ends the client. Subscriptions close; transactions under way are
// reported as unknown.
func (c *Client) Close() {
	c.stop()
	<-c.done
}

// ChainID names the ledger.
func (c *Client) ChainID() string { return c.chainID }

// Domain is what offers, orders, quotes, receipts and deposits are signed
// under.
func (c *Client) Domain() square.Domain { return c.ledger }

// ChannelDomain is what channel configs and vouchers are signed under.
func (c *Client) ChannelDomain() square.Domain { return c.channel }

// Head is the ledger's newest block.
type Head struct {
	Height int64
	Time   time.Time
	Hash   square.Hash
}

// Head asks for the newest block.
func (c *Client) Head(ctx context.Context) (Head, error) {
	s, err := c.rpc.Status(ctx)
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	h := Head{Height: s.SyncInfo.LatestBlockHeight, Time: s.SyncInfo.LatestBlockTime}
	copy(h.Hash[:], s.SyncInfo.LatestBlockHash)
	return h, nil
}

// WaitHeight returns once block h is committed; ErrStalled if ctx ends before
// any new block came.
func (c *Client) WaitHeight(ctx context.Context, h int64) error {
	before := c.seen()
	err := c.wait(ctx, h)
	if err != nil && ctx.Err() != nil && c.seen() == before {
		return fmt.Errorf("%w: %w", ErrStalled, err)
	}
	return err
}

func (c *Client) seen() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.height
}

// Beacon is the randomness of a block for a label: see package ledger for how it is
// made. That of old blocks is forgotten.
func (c *Client) Beacon(ctx context.Context, height int64, label []byte) (h square.Hash, err error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Beacon(ctx, &marketv1.QueryBeaconRequest{Height: height})
	if err != nil {
		return h, fmt.Errorf("beacon of block %d: %w", height, err)
	}
	if h, err = square.ParseHash(r.Beacon); err != nil {
		return h, fmt.Errorf("beacon of block %d: %w", height, err)
	}
	return square.Label(h, label), nil
}

// Tx looks up what became of a transaction: its result, a *Refused if it
// failed, ErrNotFound if no block has it (yet).
func (c *Client) Tx(ctx context.Context, hash square.Hash) (Result, error) {
	const tries = 5 // the index is a moment behind the block
	for try := 1; ; try++ {
		r, err := c.rpc.Tx(ctx, hash[:], false)
		switch {
		case err == nil:
			res := result(hash, r.Height, &r.TxResult)
			return res, res.err
		case !strings.Contains(err.Error(), "not found"):
			return Result{}, fmt.Errorf("transaction %s: %w", hash.Short(), err)
		case try == tries:
			return Result{}, fmt.Errorf("transaction %s: %w", hash.Short(), ErrNotFound)
		}
		select {
		case <-ctx.Done():
			return Result{}, fmt.Errorf("transaction %s: %w", hash.Short(), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Errors that callers tell apart. What the market refuses wraps the market's
// own errors, of which two are named here again.
var (
	ErrNotFound     = market.ErrNotFound
	ErrInsufficient = market.ErrFunds
	ErrStalled      = errors.New("the ledger makes no blocks")
	ErrUnreachable  = errors.New("the ledger cannot be reached")
	ErrBusy         = errors.New("the ledger takes no more transactions at the moment")
	ErrExpired      = errors.New("no block took the transaction before its timeout")
)
