package market

import (
	"context"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// EndBlock carries out what is due: deadlines of leases, stake on its way out,
// and what need not be remembered any more; at most Cap of each.
func (k *Keeper) EndBlock(ctx context.Context) error {
	if err := k.seatJudges(ctx); err != nil {
		return err
	}
	now, lag, err := k.Clock(ctx)
	if err != nil {
		return err
	}
	due, err := k.upTo(ctx, k.leases.Indexes.Deadline.keys, now)
	if err != nil {
		return err
	}
	for _, p := range due {
		id := square.Hash(p.K2())
		k.attempt(ctx, "lease "+id.Short(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			l, err := s.Lease(id)
			if err != nil {
				return nil, err
			}
			if l.State.Terminal() {
				return m.Prune(s, now, id)
			}
			return m.Poke(s, now, square.Address{}, id)
		})
	}
	free, err := k.upTo(ctx, k.stakes.Indexes.Until.keys, now)
	if err != nil {
		return err
	}
	for _, p := range free {
		key, err := readStakeKey(p.K2())
		if err != nil {
			return err
		}
		k.attempt(ctx, "stake of "+key.Provider.String(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			return m.FinishUnbond(s, now, key)
		})
	}
	lapsed, err := k.upTo(ctx, k.offers.Indexes.Expiry.keys, now+lag)
	if err != nil {
		return err
	}
	for _, p := range lapsed {
		key, err := readOfferKey(p.K2())
		if err != nil {
			return err
		}
		k.attempt(ctx, "offer of "+key.Provider.String(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			return m.DropOffer(s, now, key)
		})
	}
	if err := k.forgetCards(ctx, now); err != nil {
		return err
	}
	return k.forgetUsed(ctx, now)
}

// attempt runs an operation that nobody asked for: if it fails, which only a
// broken invariant could cause, the block goes on without it.
func (k *Keeper) attempt(ctx context.Context, what string, op func(pure.Machine, pure.Store, int64) ([]pure.Event, error)) {
	c := sdk.UnwrapSDKContext(ctx)
	try, keep := c.CacheContext()
	if err := k.Run(try, op); err != nil {
		c.Logger().Error("the end of a block could not move "+what, "err", err)
		c.EventManager().EmitEvent(sdk.NewEvent(EventType+".stuck", sdk.NewAttribute("what", what), sdk.NewAttribute("error", err.Error())))
		return
	}
	keep()
}

func (k *Keeper) forgetUsed(ctx context.Context, now int64) error {
	return k.forgetOld(ctx, now, k.forget, func(h []byte) error { return k.used.Remove(ctx, h) })
}

func (k *Keeper) forgetCards(ctx context.Context, now int64) error {
	return k.forgetOld(ctx, now, k.lapse, func(h []byte) error { return k.cards.Remove(ctx, h) })
}

// forgetOld takes at most Cap entries whose time has come out of a queue.
func (k *Keeper) forgetOld(ctx context.Context, now int64, queue collections.KeySet[timed], remove func([]byte) error) error {
	old, err := k.upTo(ctx, queue, now)
	if err != nil {
		return err
	}
	for _, p := range old {
		if err := queue.Remove(ctx, p); err != nil {
			return err
		}
		if err := remove(p.K2()); err != nil {
			return fmt.Errorf("forget %x: %w", p.K2(), err)
		}
	}
	return nil
}

// upTo are the first Cap entries of a queue whose number is at most n.
func (k *Keeper) upTo(ctx context.Context, queue collections.KeySet[timed], n int64) (out []timed, err error) {
	it, err := queue.Iterate(ctx, collections.NewPrefixUntilPairRange[int64, []byte](n))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid() && len(out) < Cap; it.Next() {
		p, err := it.Key()
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
