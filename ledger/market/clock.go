package market

import (
	"context"
	"errors"
	"time"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"
)

// Deadlines run on a clock of their own. It goes with the time of blocks, but
// stands still over a block that had no room for whoever had to answer, and over
// the time that no block was made: whoever is kept from answering loses nothing
// by it. What is stored is the lag, by how much the clock is behind. What people
// sign, the expiry of an order, a quote, an offer or an authorization, is of the
// world and not of blocks, and is held against the time of the block itself.

// MaxStep is the most that one block moves the clock.
const MaxStep = 5 * time.Second

// Tick moves the clock on to the block of ctx. room says whether the block had
// room for any answer that was waiting.
func (k *Keeper) Tick(ctx context.Context, room bool) error {
	at := sdk.UnwrapSDKContext(ctx).BlockTime().UnixNano()
	last, err := k.ticked.Get(ctx)
	if errors.Is(err, collections.ErrNotFound) {
		return k.ticked.Set(ctx, at) // the first block
	}
	if err != nil {
		return err
	}
	behind := max(0, at-last)
	if room {
		behind = max(0, behind-int64(MaxStep))
	}
	if behind > 0 {
		lag, err := k.behind(ctx)
		if err != nil {
			return err
		}
		if err := k.lag.Set(ctx, lag+behind); err != nil {
			return err
		}
	}
	return k.ticked.Set(ctx, at)
}

// behind is the lag in nanoseconds.
func (k *Keeper) behind(ctx context.Context) (int64, error) {
	lag, err := k.lag.Get(ctx)
	if errors.Is(err, collections.ErrNotFound) {
		return 0, nil
	}
	return lag, err
}

// Clock is the time that deadlines run on, in seconds, and by how many seconds
// it is behind that of the block.
func (k *Keeper) Clock(ctx context.Context) (now, lag int64, err error) {
	behind, err := k.behind(ctx)
	if err != nil {
		return 0, 0, err
	}
	at := sdk.UnwrapSDKContext(ctx).BlockTime()
	now = at.Add(-time.Duration(behind)).Unix()
	return now, at.Unix() - now, nil
}

// wall is the time of the block, which expiries that people sign are held
// against.
func wall(ctx context.Context) int64 { return sdk.UnwrapSDKContext(ctx).BlockTime().Unix() }
