package node

import (
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/state/txindex"
)

// reindexed is how many of the newest blocks are indexed again at each start.
const reindexed = 3

// reindex files the transactions of the newest blocks again. CometBFT indexes a
// block some time after it has committed it, and never comes back to one that a
// kill cut off: its transactions would look as if they had never happened, and
// whoever asks after an unknown outcome would pay twice.
func (n *Node) reindex() error {
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return err
	}
	top := env.BlockStore.Height()
	for h := max(env.BlockStore.Base(), top-reindexed+1, 1); h <= top; h++ {
		block := env.BlockStore.LoadBlock(h)
		if block == nil || len(block.Txs) == 0 {
			continue
		}
		res, err := env.StateStore.LoadFinalizeBlockResponse(h)
		if err != nil || len(res.TxResults) != len(block.Txs) {
			continue // stored, but not executed yet: it is indexed when it is
		}
		batch := txindex.NewBatch(int64(len(block.Txs)))
		for i, tx := range block.Txs {
			if err := batch.Add(&abci.TxResult{Height: h, Index: uint32(i), Tx: tx, Result: *res.TxResults[i]}); err != nil {
				return fmt.Errorf("index block %d again: %w", h, err)
			}
		}
		if err := env.TxIndexer.AddBatch(batch); err != nil {
			return fmt.Errorf("index block %d again: %w", h, err)
		}
	}
	return nil
}
