package market

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// KeptMixes is for how many blocks the beacon is remembered.
const KeptMixes = 20_000

// Beacon is the randomness that exists since block height was made: see package
// ledger for how it is made and how far it can be bent. What is drawn by it must
// be fixed in a block before, at height-2 or earlier, or whoever included it
// chose the draw. It is ErrEarly for a block to come and ErrNotFound for one long
// past.
func (k *Keeper) Beacon(ctx context.Context, height int64) (square.Hash, error) {
	if at := sdk.UnwrapSDKContext(ctx).BlockHeight(); height > at {
		return square.Hash{}, fmt.Errorf("beacon of block %d: %w: it is block %d", height, pure.ErrEarly, at)
	}
	mix, err := k.mixes.Get(ctx, height)
	if err != nil {
		return square.Hash{}, fmt.Errorf("beacon of block %d: %w", height, missing(err))
	}
	return square.Hash(mix), nil
}

// Mix adds what the proposer of a block brought to the beacon, and forgets what
// is old. beta is the output of its VRF.
func (k *Keeper) Mix(ctx context.Context, height int64, beta []byte) error {
	before, err := k.Before(ctx, height)
	if err != nil {
		return err
	}
	mix := sha256.Sum256(append(before, beta...))
	if err := k.mixes.Set(ctx, height, mix[:]); err != nil {
		return err
	}
	return k.mixes.Remove(ctx, height-KeptMixes)
}

// Before is the beacon that the proposer of a block at height adds to; nil for
// the first block.
func (k *Keeper) Before(ctx context.Context, height int64) ([]byte, error) {
	mix, err := k.mixes.Get(ctx, height-1)
	if errors.Is(err, collections.ErrNotFound) {
		return nil, nil
	}
	return mix, err
}
