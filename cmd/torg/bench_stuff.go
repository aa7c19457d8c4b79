package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtbytes "github.com/cometbft/cometbft/libs/bytes"
	rpcclient "github.com/cometbft/cometbft/rpc/client"
	rpctypes "github.com/cometbft/cometbft/rpc/core/types"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// Of ten proposers in a row the first three, just under a third, are one person.
const (
	proposers = 10
	stuffers  = 3
)

// stuffed is the ledger with a proposer that fills its own blocks with its own
// transactions, shows them to nobody, and leaves out everybody else's. Each block is
// proposed to, and accepted by, the application as any other node runs it.
//
// It has no peers and no consensus: it is the order of the blocks that matters here,
// not how it was agreed on.
type stuffed struct {
	app     *ledger.App
	key     ed25519.PrivKey
	stuffer square.Address
	from    int64 // its first block
	stop    context.CancelFunc
	ended   chan struct{}

	busy sync.Mutex // the application's

	mu      sync.Mutex
	own     [][]byte // the stuffer's, for its own blocks
	waiting [][]byte // CometBFT's mempool
	blocks  []stuffedBlock
	grown   chan struct{}
}

type stuffedBlock struct {
	txs     [][]byte
	results []*abci.ExecTxResult
	at      time.Time
}

// stuff runs such a ledger until it is stopped; fail is told why it makes no more
// blocks.
func stuff(ctx context.Context, fail context.CancelCauseFunc, blockTime time.Duration, balances []ledger.Balance, stuffer square.Address) (*stuffed, error) {
	s := &stuffed{key: ed25519.GenPrivKey(), stuffer: stuffer, from: 1 << 62, ended: make(chan struct{}), grown: make(chan struct{})}
	doc, err := ledger.Genesis{ChainID: "torg-bench", Time: time.Now(), Balances: balances, Validators: []ledger.Validator{
		{Name: "v", Operator: devnet.Key(0).Address(), Key: s.key.PubKey(), Stake: square.UnitsPerTorg},
	}}.Doc()
	if err != nil {
		return nil, err
	}
	if s.app, err = ledger.New(ledger.Config{ChainID: doc.ChainID, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler), Trades: trades(), Validator: s.key}); err != nil {
		return nil, err
	}
	params := doc.ConsensusParams.ToProto()
	if _, err := s.app.InitChain(&abci.RequestInitChain{
		Time: doc.GenesisTime, ChainId: doc.ChainID, ConsensusParams: &params, AppStateBytes: doc.AppState, InitialHeight: 1,
	}); err != nil {
		return nil, err
	}
	if err := s.block(); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(ctx)
	s.stop = stop
	go func() {
		defer close(s.ended)
		tick := time.NewTicker(blockTime)
		defer tick.Stop()
		for {
			select {
			case <-run.Done():
				return
			case <-tick.C:
			}
			if err := s.block(); err != nil {
				fail(err)
				return
			}
		}
	}()
	return s, nil
}

func (s *stuffed) Stop() {
	s.stop()
	<-s.ended
	s.app.Close()
}

func (s *stuffed) RPC() rpcclient.Client { return stuffedRPC{node: s} }
func (s *stuffed) ChainID() string       { return s.app.ChainID() }

// Height is the last block's.
func (s *stuffed) Height() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.blocks))
}

// attack begins with the stuffing: until then all blocks are honest.
func (s *stuffed) attack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from = int64(len(s.blocks)) + proposers
}

// WaitHeight returns once block h is there.
func (s *stuffed) WaitHeight(ctx context.Context, h int64) error {
	for {
		s.mu.Lock()
		have, grown := int64(len(s.blocks)), s.grown
		s.mu.Unlock()
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

// block makes the next block.
func (s *stuffed) block() error {
	s.busy.Lock()
	defer s.busy.Unlock()
	h, at, proposer := s.Height()+1, time.Now(), s.key.PubKey().Address()
	prepared, err := s.app.PrepareProposal(&abci.RequestPrepareProposal{Height: h, Time: at, MaxTxBytes: ledger.MaxBlockBytes - 20_000, ProposerAddress: proposer})
	if err != nil {
		return err
	}
	txs := prepared.Txs
	if s.stuffs(h) {
		if txs, err = s.full(txs[0]); err != nil {
			return err
		}
	}
	hash := sha256.Sum256(slices.Concat(txs...))
	verdict, err := s.app.ProcessProposal(&abci.RequestProcessProposal{Height: h, Time: at, Txs: txs, ProposerAddress: proposer, Hash: hash[:]})
	if err != nil {
		return err
	}
	if verdict.Status != abci.ResponseProcessProposal_ACCEPT {
		return fmt.Errorf("block %d, of %d transactions, is refused", h, len(txs))
	}
	r, err := s.app.FinalizeBlock(&abci.RequestFinalizeBlock{Height: h, Time: at, Txs: txs, ProposerAddress: proposer, Hash: hash[:]})
	if err != nil {
		return err
	}
	if _, err := s.app.Commit(); err != nil {
		return err
	}
	s.mu.Lock()
	left := slices.DeleteFunc(s.waiting, func(raw []byte) bool {
		return slices.ContainsFunc(txs, func(tx []byte) bool { return bytes.Equal(tx, raw) })
	})
	s.mu.Unlock()
	var keep [][]byte
	for _, raw := range left {
		r, err := s.app.CheckTx(&abci.RequestCheckTx{Type: abci.CheckTxType_Recheck, Tx: raw})
		if err != nil {
			return err
		}
		if r.Code == 0 {
			keep = append(keep, raw)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = keep
	s.blocks = append(s.blocks, stuffedBlock{txs, r.TxResults, at})
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}

func (s *stuffed) stuffs(h int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h >= s.from && (h-s.from)%proposers < stuffers
}

// full is a block of the stuffer's own.
func (s *stuffed) full(beacon []byte) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	txs := [][]byte{beacon}
	var used space.Room
	for i, raw := range s.own {
		tx, err := s.app.TxDecode(raw)
		if err != nil {
			return nil, err
		}
		lane, f, err := space.Fits(tx, len(raw))
		if err != nil {
			return nil, err
		}
		with := used
		if !with.Take(lane, f.GetGas()) {
			s.own = s.own[i:]
			return txs, nil
		}
		// What pays too little by now, or has been in a block, would have the block
		// refused.
		if _, err := s.app.PrepareProposalVerifyTx(tx); err == nil {
			txs, used = append(txs, raw), with
		}
	}
	s.own = nil
	return txs, nil
}

// stuffedRPC is what a ledger's client uses of CometBFT.
type stuffedRPC struct {
	rpcclient.Client
	node *stuffed
}

// BroadcastTxSync takes a transaction in, the stuffer's own for its own blocks.
func (c stuffedRPC) BroadcastTxSync(_ context.Context, raw cmttypes.Tx) (*rpctypes.ResultBroadcastTx, error) {
	s := c.node
	tx, err := s.app.TxDecode(raw)
	if err != nil {
		return nil, err
	}
	s.busy.Lock()
	defer s.busy.Unlock()
	s.mu.Lock()
	attacks := s.from < 1<<62
	known := slices.ContainsFunc(append(slices.Clone(s.own), s.waiting...), func(w []byte) bool { return bytes.Equal(w, raw) })
	s.mu.Unlock()
	if known {
		return nil, errors.New("tx already exists in cache")
	}
	if f, ok := tx.(sdk.FeeTx); ok && attacks && bytes.Equal(f.FeePayer(), s.stuffer[:]) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.own = append(s.own, raw)
		return &rpctypes.ResultBroadcastTx{}, nil
	}
	r, err := s.app.CheckTx(&abci.RequestCheckTx{Type: abci.CheckTxType_New, Tx: raw})
	if err != nil {
		return nil, err
	}
	if r.Code == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting = append(s.waiting, raw)
	}
	return &rpctypes.ResultBroadcastTx{Code: r.Code, Codespace: r.Codespace, Log: r.Log}, nil
}

func (c stuffedRPC) ABCIQueryWithOptions(ctx context.Context, path string, data cmtbytes.HexBytes, _ rpcclient.ABCIQueryOptions) (*rpctypes.ResultABCIQuery, error) {
	s := c.node
	r, err := s.app.Query(ctx, &abci.RequestQuery{Path: path, Data: data})
	if err != nil {
		return nil, err
	}
	return &rpctypes.ResultABCIQuery{Response: *r}, nil
}

func (c stuffedRPC) Status(context.Context) (*rpctypes.ResultStatus, error) {
	s := c.node
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.blocks)
	return &rpctypes.ResultStatus{SyncInfo: rpctypes.SyncInfo{LatestBlockHeight: int64(last), LatestBlockTime: s.blocks[last-1].at}}, nil
}

func (c stuffedRPC) Block(_ context.Context, h *int64) (*rpctypes.ResultBlock, error) {
	s := c.node
	b, err := s.nth(*h)
	out := &cmttypes.Block{}
	for _, tx := range b.txs {
		out.Txs = append(out.Txs, tx)
	}
	return &rpctypes.ResultBlock{Block: out}, err
}

func (c stuffedRPC) BlockResults(_ context.Context, h *int64) (*rpctypes.ResultBlockResults, error) {
	s := c.node
	b, err := s.nth(*h)
	return &rpctypes.ResultBlockResults{Height: *h, TxsResults: b.results}, err
}

func (c stuffedRPC) Tx(_ context.Context, hash []byte, _ bool) (*rpctypes.ResultTx, error) {
	s := c.node
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.blocks {
		for j, tx := range b.txs {
			if bytes.Equal(cmttypes.Tx(tx).Hash(), hash) {
				return &rpctypes.ResultTx{Height: int64(i) + 1, TxResult: *b.results[j]}, nil
			}
		}
	}
	return nil, errors.New("not found")
}

func (s *stuffed) nth(h int64) (stuffedBlock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h < 1 || h > int64(len(s.blocks)) {
		return stuffedBlock{}, fmt.Errorf("there is no block %d yet", h)
	}
	return s.blocks[h-1], nil
}
