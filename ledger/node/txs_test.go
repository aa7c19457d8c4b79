package node

import (
	"fmt"
	"testing"

	cmtdb "github.com/cometbft/cometbft-db"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/libs/pubsub/query"
	"github.com/cometbft/cometbft/rpc/core"
	sm "github.com/cometbft/cometbft/state"
	cmttypes "github.com/cometbft/cometbft/types"
)

// kept is a block store that has blocks from base on, and their results: the gas
// of each transaction is its height.
type kept struct {
	sm.BlockStore
	base, top int64
}

func (k *kept) Base() int64   { return k.base }
func (k *kept) Height() int64 { return k.top }

func (k *kept) LoadBlock(h int64) *cmttypes.Block {
	if h < k.base || h > k.top {
		return nil
	}
	b := &cmttypes.Block{Header: cmttypes.Header{Height: h}}
	for i := range h % 3 { // every third is empty
		b.Txs = append(b.Txs, cmttypes.Tx(fmt.Sprint(h, i)))
	}
	return b
}

type results struct {
	sm.Store
	*kept
}

func (r results) LoadFinalizeBlockResponse(h int64) (*abci.ResponseFinalizeBlock, error) {
	out := &abci.ResponseFinalizeBlock{}
	for range r.LoadBlock(h).Txs {
		out.TxResults = append(out.TxResults, &abci.ExecTxResult{GasUsed: h})
	}
	return out, nil
}

// TestTxIndex: what a kill left out is indexed at the next start, and what the
// node forgets of blocks the index forgets too, to the last key.
func TestTxIndex(t *testing.T) {
	k, db := &kept{base: 1, top: 20}, cmtdb.NewMemDB()
	env := &core.Environment{BlockStore: k, StateStore: results{kept: k}}
	var x *txIndex
	check := func() {
		t.Helper()
		want := 1 // "top"
		for h := int64(1); h <= k.top+1; h++ {
			var txs cmttypes.Txs
			if b := k.LoadBlock(h); b != nil {
				txs = b.Txs
				if want += len(txs); len(txs) > 0 {
					want++
				}
			}
			for i := range h % 3 {
				tx := cmttypes.Tx(fmt.Sprint(h, i))
				r, err := x.Get(tx.Hash())
				if has := h >= k.base && h <= k.top; err != nil || (r != nil) != has {
					t.Fatalf("transaction %d of block %d: %v, %v; kept: %t", i, h, r, err, has)
				} else if has && (r.Height != h || r.Index != uint32(i) || r.Result.GasUsed != h || string(r.Tx) != string(tx)) {
					t.Fatalf("transaction %d of block %d: %v", i, h, r)
				}
			}
			found, err := x.Search(t.Context(), query.MustCompile(fmt.Sprintf("tx.height = %d", h)))
			if err != nil || len(found) != len(txs) {
				t.Fatalf("block %d: %d found, %v; want %d", h, len(found), err, len(txs))
			}
		}
		it, err := db.Iterator(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		have := 0
		for ; it.Valid(); it.Next() {
			have++
		}
		if have != want {
			t.Fatalf("%d keys for blocks %d to %d, want %d", have, k.base, k.top, want)
		}
	}
	open := func() {
		t.Helper()
		var err error
		if x, err = openIndex(db, env); err != nil {
			t.Fatal(err)
		}
		check()
	}
	grow := func(base int64) {
		t.Helper()
		k.base, k.top = base, k.top+1
		for range 2 { // told of a block twice
			if err := x.add(k.LoadBlock(k.top)); err != nil {
				t.Fatal(err)
			}
		}
		check()
	}
	open()
	grow(1)
	grow(8)
	open()
	grow(8)
	grow(12)
	k.top += 3 // and then the process was killed
	open()
	hash := cmttypes.Tx("22 0").Hash()
	if r, err := x.Search(t.Context(), query.MustCompile(fmt.Sprintf("tx.hash = '%X'", hash))); err != nil || len(r) != 1 {
		t.Errorf("by hash: %v, %v", r, err)
	}
	for _, q := range []string{"transfer.sender = 'torg1'", "tx.height > 3", "tx.height = 22 AND tx.hash = 'ab'", "tx.hash = 'xyz'", "tx.hash = 'ab'"} {
		if r, err := x.Search(t.Context(), query.MustCompile(q)); err == nil {
			t.Errorf("%s: %v", q, r)
		}
	}
}
