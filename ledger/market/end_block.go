package market

import (
	"context"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
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
	due, err := k.due(ctx, now)
	if err != nil {
		return err
	}
	for _, id := range due {
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
	free, err := k.unbonded(ctx, now)
	if err != nil {
		return err
	}
	for _, key := range free {
		k.attempt(ctx, "stake of "+key.Provider.String(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			return m.FinishUnbond(s, now, key)
		})
	}
	lapsed, err := k.lapsed(ctx, now+lag)
	if err != nil {
		return err
	}
	for _, key := range lapsed {
		k.attempt(ctx, "offer of "+key.Provider.String(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			return m.DropOffer(s, now, key)
		})
	}
	if err := k.forgetCards(ctx, now); err != nil {
		return err
	}
	return k.forgetUsed(ctx, now)
}

// lapsed are offers that have expired and of which nothing is leased.
func (k *Keeper) lapsed(ctx context.Context, wall int64) (keys []pure.OfferKey, err error) {
	it, err := k.offers.Indexes.Expiry.Iterate(ctx, collections.NewPrefixUntilPairRange[int64, []byte](wall))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid() && len(keys) < Cap; it.Next() {
		pk, err := it.PrimaryKey()
		if err != nil {
			return nil, err
		}
		m, err := k.offers.Get(ctx, pk)
		if err != nil {
			return nil, err
		}
		o, err := m.Market()
		if err != nil {
			return nil, err
		}
		keys = append(keys, o.Key())
	}
	return keys, nil
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

func (k *Keeper) due(ctx context.Context, now int64) (ids []square.Hash, err error) {
	it, err := k.leases.Indexes.Deadline.Iterate(ctx, collections.NewPrefixUntilPairRange[int64, []byte](now))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid() && len(ids) < Cap; it.Next() {
		id, err := it.PrimaryKey()
		if err != nil {
			return nil, err
		}
		ids = append(ids, square.Hash(id))
	}
	return ids, nil
}

func (k *Keeper) unbonded(ctx context.Context, now int64) (keys []pure.StakeKey, err error) {
	from := collections.PairPrefix[int64, []byte](1)
	until := collections.PairPrefix[int64, []byte](now + 1)
	it, err := k.stakes.Indexes.Until.Iterate(ctx, new(collections.Range[collections.Pair[int64, []byte]]).StartInclusive(from).EndExclusive(until))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ; it.Valid() && len(keys) < Cap; it.Next() {
		pk, err := it.PrimaryKey()
		if err != nil {
			return nil, err
		}
		m, err := k.stakes.Get(ctx, pk)
		if err != nil {
			return nil, err
		}
		key, _, err := marketv1.Stake(m)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (k *Keeper) forgetUsed(ctx context.Context, now int64) error {
	return k.forgetOld(ctx, now, k.forget, func(h []byte) error { return k.used.Remove(ctx, h) })
}

func (k *Keeper) forgetCards(ctx context.Context, now int64) error {
	return k.forgetOld(ctx, now, k.lapse, func(h []byte) error { return k.cards.Remove(ctx, h) })
}

// forgetOld takes at most Cap entries whose time has come out of a queue.
func (k *Keeper) forgetOld(ctx context.Context, now int64, queue collections.KeySet[collections.Pair[int64, []byte]], remove func([]byte) error) error {
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
func (k *Keeper) upTo(ctx context.Context, queue collections.KeySet[collections.Pair[int64, []byte]], n int64) (out []collections.Pair[int64, []byte], err error) {
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
