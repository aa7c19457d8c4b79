package client

import (
	"context"
	"fmt"

	cmttypes "github.com/cometbft/cometbft/types"

	"github.com/torg-network/torg/square"
)

// EventsAt is what happened in one block, in order: what its transactions did,
// then what the ledger did by itself at the block's end. Unlike a subscription
// it misses nothing, as long as the node still has the block.
func (c *Client) EventsAt(ctx context.Context, height int64) ([]Event, error) {
	results, err := c.rpc.BlockResults(ctx, &height)
	if err != nil {
		return nil, fmt.Errorf("events of block %d: %w", height, err)
	}
	var out []Event
	if len(results.TxsResults) > 0 {
		block, err := c.rpc.Block(ctx, &height)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", height, err)
		}
		for i, r := range results.TxsResults {
			if r.Code == 0 && i < len(block.Block.Txs) {
				out = append(out, events(height, square.Hash(cmttypes.Tx(block.Block.Txs[i]).Hash()), r.Events)...)
			}
		}
	}
	return append(out, events(height, square.Hash{}, results.FinalizeBlockEvents)...), nil
}
