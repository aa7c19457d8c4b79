package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	cmtdb "github.com/cometbft/cometbft-db"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/libs/pubsub/query"
	"github.com/cometbft/cometbft/libs/pubsub/query/syntax"
	rpclocal "github.com/cometbft/cometbft/rpc/client/local"
	"github.com/cometbft/cometbft/rpc/core"
	coretypes "github.com/cometbft/cometbft/rpc/core/types"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"github.com/cometbft/cometbft/state/txindex"
	cmttypes "github.com/cometbft/cometbft/types"
)

// txIndex tells in which block a transaction is. The transaction and its result
// are read from the block and its results, so the index holds where and no
// more, as long as the block is kept. CometBFT's own holds a second copy of all,
// for ever.
//
// A block is indexed before the node says that it has it, and those that a kill
// left out are indexed at the next start: a transaction that looked as if it had
// never happened would be paid twice by whoever asks after it.
//
// # Disk
//
// The database "txs": 't' ‖ hash → height ‖ index (uvarint each); 'b' ‖ height
// (big-endian, 64 bits) → the hashes of the block's transactions, where it has
// any; "top" → the last block indexed, as the height of 'b'.
type txIndex struct {
	db  cmtdb.DB
	env *core.Environment

	mu    sync.Mutex
	base  int64 // nothing is indexed of blocks below
	top   int64
	block *cmttypes.Block // the one that was read last
	took  []*abci.ExecTxResult
}

var _ txindex.TxIndexer = (*txIndex)(nil)

var topKey = []byte("top")

func txKey(hash []byte) []byte { return append([]byte{'t'}, hash...) }

func blockKey(height int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{'b'}, uint64(height))
}

// openIndex opens the index and brings it up to the newest block.
func openIndex(db cmtdb.DB, env *core.Environment) (*txIndex, error) {
	x := &txIndex{db: db, env: env}
	b, err := db.Get(topKey)
	if err != nil {
		return nil, err
	}
	if len(b) == 8 {
		x.top = int64(binary.BigEndian.Uint64(b))
	}
	first, err := db.Iterator(blockKey(0), blockKey(x.top+1))
	if err != nil {
		return nil, err
	}
	x.base = x.top + 1
	if first.Valid() {
		x.base = int64(binary.BigEndian.Uint64(first.Key()[1:]))
	}
	if err := errors.Join(first.Error(), first.Close()); err != nil {
		return nil, err
	}
	for h := max(x.top+1, env.BlockStore.Base(), 1); h <= env.BlockStore.Height(); h++ {
		if block := env.BlockStore.LoadBlock(h); block != nil {
			if err := x.add(block); err != nil {
				return nil, err
			}
		}
	}
	return x, nil
}

// add indexes a block, and forgets those that the node has forgotten.
func (x *txIndex) add(block *cmttypes.Block) (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if block.Height <= x.top {
		return nil
	}
	batch := x.db.NewBatch()
	defer func() {
		if cerr := batch.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			err = fmt.Errorf("index block %d: %w", block.Height, err)
		}
	}()
	var hashes []byte
	for i, tx := range block.Txs {
		at := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(block.Height)), uint64(i))
		if err := batch.Set(txKey(tx.Hash()), at); err != nil {
			return err
		}
		hashes = append(hashes, tx.Hash()...)
	}
	if hashes != nil {
		if err := batch.Set(blockKey(block.Height), hashes); err != nil {
			return err
		}
	}
	if err := batch.Set(topKey, blockKey(block.Height)[1:]); err != nil {
		return err
	}
	base := min(x.env.BlockStore.Base(), block.Height)
	for h := x.base; h < base; h++ {
		hashes, err := x.db.Get(blockKey(h))
		if err != nil {
			return err
		}
		for ; len(hashes) >= 32; hashes = hashes[32:] {
			if err := batch.Delete(txKey(hashes[:32])); err != nil {
				return err
			}
		}
		if err := batch.Delete(blockKey(h)); err != nil {
			return err
		}
	}
	if err := batch.Write(); err != nil {
		return err
	}
	x.base, x.top = max(x.base, base), block.Height
	return nil
}

// Get is a transaction by its hash; nil if no block has it, or none that is kept.
func (x *txIndex) Get(hash []byte) (*abci.TxResult, error) {
	if len(hash) != 32 {
		return nil, fmt.Errorf("hash: %d bytes, want 32", len(hash))
	}
	at, err := x.db.Get(txKey(hash))
	if err != nil || at == nil {
		return nil, err
	}
	height, n := binary.Uvarint(at)
	if n <= 0 {
		return nil, fmt.Errorf("index of transaction %X is damaged", hash)
	}
	i, _ := binary.Uvarint(at[n:])
	all, err := x.at(int64(height))
	if err != nil || i >= uint64(len(all)) || !bytes.Equal(cmttypes.Tx(all[i].Tx).Hash(), hash) {
		return nil, err
	}
	return all[i], nil
}

// at is what a block has; nothing if it is not kept.
func (x *txIndex) at(height int64) ([]*abci.TxResult, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.block == nil || x.block.Height != height {
		block := x.env.BlockStore.LoadBlock(height)
		if block == nil || height > x.top {
			return nil, nil
		}
		res, err := x.env.StateStore.LoadFinalizeBlockResponse(height)
		if err != nil {
			return nil, fmt.Errorf("results of block %d: %w", height, err)
		}
		if len(res.TxResults) != len(block.Txs) {
			return nil, fmt.Errorf("block %d has %d transactions and %d results", height, len(block.Txs), len(res.TxResults))
		}
		x.block, x.took = block, res.TxResults
	}
	out := make([]*abci.TxResult, len(x.took))
	for i, r := range x.took {
		out[i] = &abci.TxResult{Height: height, Index: uint32(i), Tx: x.block.Txs[i], Result: *r}
	}
	return out, nil
}

// Search knows two questions: tx.hash and tx.height, each equal to something.
func (x *txIndex) Search(_ context.Context, q *query.Query) ([]*abci.TxResult, error) {
	if c := q.Syntax(); len(c) == 1 && c[0].Op == syntax.TEq {
		switch c[0].Tag {
		case cmttypes.TxHashKey:
			hash, err := hex.DecodeString(c[0].Arg.Value())
			if err != nil {
				return nil, fmt.Errorf("tx.hash: %w", err)
			}
			r, err := x.Get(hash)
			if err != nil || r == nil {
				return nil, err
			}
			return []*abci.TxResult{r}, nil
		case cmttypes.TxHeightKey:
			height, _ := c[0].Arg.Number().Int64()
			return x.at(height)
		}
	}
	return nil, errors.New("query: this ledger finds transactions by tx.hash='…' or tx.height=n; for those of an account, follow block_results")
}

// AddBatch and Index do nothing: the node adds whole blocks.
func (x *txIndex) AddBatch(*txindex.Batch) error { return nil }

// Index does nothing either.
func (x *txIndex) Index(*abci.TxResult) error { return nil }

// SetLogger is not needed: errors are returned.
func (x *txIndex) SetLogger(log.Logger) {}

// localRPC is CometBFT's interface without a socket, with our index.
type localRPC struct {
	*rpclocal.Local
	env *core.Environment
}

func (l localRPC) Tx(_ context.Context, hash []byte, prove bool) (*coretypes.ResultTx, error) {
	return l.env.Tx(&rpctypes.Context{}, hash, prove)
}

func (l localRPC) TxSearch(_ context.Context, q string, prove bool, page, perPage *int, order string) (*coretypes.ResultTxSearch, error) {
	return l.env.TxSearch(&rpctypes.Context{}, q, prove, page, perPage, order)
}
