package market

import (
	"context"
	"errors"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// Prices is what gas costs in the next block, by lane, in utorg for [space.PerGas].
func (k *Keeper) Prices(ctx context.Context) ([]uint64, error) {
	out := make([]uint64, space.Lanes)
	for lane, least := range space.LeastPrices {
		p, err := k.prices.Get(ctx, uint32(lane))
		if errors.Is(err, collections.ErrNotFound) {
			p, err = least, nil
		}
		if err != nil {
			return nil, err
		}
		out[lane] = p
	}
	return out, nil
}

// ballotCost is what judges are given beside their fee at the price of now, at most
// what a silent one loses.
func (k *Keeper) ballotCost(ctx context.Context, most uint64) (uint64, error) {
	p, err := k.prices.Get(ctx, uint32(space.Defend))
	if errors.Is(err, collections.ErrNotFound) {
		return 0, nil
	}
	return min(most, space.BallotCost(p)), err
}

// SetPrices changes what Prices answers.
func (k *Keeper) SetPrices(ctx context.Context, prices []uint64) error {
	was, err := k.Prices(ctx)
	if err != nil {
		return err
	}
	for lane, p := range prices {
		if p == was[lane] {
			continue
		}
		if err := k.prices.Set(ctx, uint32(lane), p); err != nil {
			return err
		}
	}
	return nil
}

// Burn destroys utorg that a module's account holds, and counts it.
func (k *Keeper) Burn(ctx context.Context, module string, units uint64) error {
	if units == 0 {
		return nil
	}
	coins := sdk.Coins{{Denom: square.Denom, Amount: math.NewIntFromUint64(units)}}
	if err := k.bank.BurnCoins(ctx, module, coins); err != nil {
		return err
	}
	return state{k, ctx}.count(square.Denom, units, 0)
}
