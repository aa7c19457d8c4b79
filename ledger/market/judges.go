package market

import (
	"context"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// MaxJudges bounds how many stakers of a trade sit as judges, so that a draw reads
// so many stakes at most. Who enlists when there are as many takes the place of the
// one that has the least to lose, if it has more.
const MaxJudges = 256

// drawAfter is how many blocks after the one that a challenge is in its judges are
// drawn. The beacon of that block depends on a proposer that was not known to
// matter when the challenge was included.
const drawAfter = 2

// queue remembers which disputes wait for judges, and which replicas for a provider.
func (k *Keeper) queue(ctx context.Context, events []pure.Event) error {
	height := sdk.UnwrapSDKContext(ctx).BlockHeight()
	for _, e := range events {
		if e.Kind != pure.EvChallenged && e.Kind != pure.EvRedrawn && e.Kind != pure.EvOpened {
			continue
		}
		l, err := state{k, ctx}.Lease(e.Lease)
		if err != nil {
			return err
		}
		if l.State == pure.Disputed && l.Dispute.Way == pure.ByJudges || l.State == pure.Open && l.Drawn {
			if err := k.draws.Set(ctx, collections.Join(height+drawAfter, e.Lease[:])); err != nil {
				return err
			}
		}
	}
	return nil
}

// seatJudges draws the judges of disputes, and the providers of replicas, whose block
// has come. Where there are none, lease or dispute are left to their deadline.
func (k *Keeper) seatJudges(ctx context.Context) error {
	due, err := k.upTo(ctx, k.draws, sdk.UnwrapSDKContext(ctx).BlockHeight())
	if err != nil {
		return err
	}
	for _, p := range due {
		if err := k.draws.Remove(ctx, p); err != nil {
			return err
		}
		id := square.Hash(p.K2())
		k.attempt(ctx, "judges of lease "+id.Short(), func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
			l, err := s.Lease(id)
			if err != nil {
				return nil, err
			}
			if l.State == pure.Open {
				return k.invite(ctx, m, s, now, l, p.K1())
			}
			if l.State != pure.Disputed || l.Dispute.Way != pure.ByJudges || l.Dispute.Seated != 0 || now >= l.Deadline {
				return nil, nil
			}
			beacon, err := k.Beacon(ctx, p.K1())
			if err != nil {
				return nil, err
			}
			candidates, err := k.candidates(ctx, m, l)
			if err != nil {
				return nil, err
			}
			label := append([]byte(fmt.Sprintf("judges %d ", l.Dispute.Draw)), id[:]...)
			judges, err := k.unrelated(ctx, l, square.Label(beacon, label), candidates, int(m.Seats))
			if err != nil || len(judges) == 0 {
				return nil, err
			}
			return m.Seat(s, now, id, judges)
		})
	}
	return nil
}

// invite draws the provider of a replica: enlisted stakers are drawn one after the other,
// and the first that has an offer for it is the one. One by whom the replica is not
// matched costs a draw, not a replica.
func (k *Keeper) invite(ctx context.Context, m pure.Machine, s pure.Store, now int64, l pure.Lease, height int64) ([]pure.Event, error) {
	if !l.Drawn || !l.Invited.IsZero() || now >= l.Deadline {
		return nil, nil
	}
	why, err := m.Invitable(s, now, l.ID)
	if err != nil {
		return nil, nil // its order is over
	}
	var candidates []pure.Candidate
	err = k.enlisted(ctx, l.Order.Trade, l.Order.Denom, func(who square.Address, st pure.Stake) {
		if why(who, st) == "" {
			candidates = append(candidates, pure.Candidate{Judge: who, Weight: st.Total - st.Unbonding, Most: 1})
		}
	})
	if err != nil {
		return nil, err
	}
	beacon, err := k.Beacon(ctx, height)
	if err != nil {
		return nil, err
	}
	label := append([]byte(fmt.Sprintf("replica %d ", l.Draw)), l.ID[:]...)
	for _, who := range pure.Draw(square.Label(beacon, label), candidates, maxAsked) {
		if k.offering(ctx, who, l.Order) {
			return m.Invite(s, now, l.ID, who)
		}
	}
	return nil, nil
}

// maxAsked bounds how many stakers a draw looks at for one with an offer, and maxOffers how
// many offers of each. Where it finds none, the next draw may.
const (
	maxAsked  = 16
	maxOffers = 16
)

// offering reports whether somebody has a live offer that an order may be filled from.
func (k *Keeper) offering(ctx context.Context, who square.Address, o square.Order) (found bool) {
	looked := 0
	at := wall(ctx)
	err := k.offers.Walk(ctx, of(who[:], nil), func(_ []byte, m marketv1.Offer) (bool, error) {
		looked++
		f, err := m.Market()
		found = err == nil && f.Trade == o.Trade && f.Denom == o.Denom && !f.Withdrawn && f.Expiry > at &&
			o.Units <= f.Capacity-f.InUse && square.Within(trade.RatesFor(f.Rates, o.Policy), o.MaxRates) == nil && k.fits(f.Offer, o) == nil
		return found || looked == maxOffers, nil
	})
	return found && err == nil
}

// candidates are the enlisted stakers that may judge a lease.
func (k *Keeper) candidates(ctx context.Context, m pure.Machine, l pure.Lease) (out []pure.Candidate, err error) {
	err = k.enlisted(ctx, l.Order.Trade, l.Order.Denom, func(judge square.Address, st pure.Stake) {
		if l.Barred(judge) == "" && st.Free() >= m.SeatBond {
			c := pure.Candidate{Judge: judge, Weight: st.Total - st.Unbonding, Most: m.Seats}
			if m.SeatBond > 0 {
				c.Most = st.Free() / m.SeatBond
			}
			out = append(out, c)
		}
	})
	return out, err
}

// enlisted calls f for every judge of a trade.
func (k *Keeper) enlisted(ctx context.Context, trade, denom string, f func(square.Address, pure.Stake)) error {
	return k.judges.Walk(ctx, collections.NewPrefixedPairRange[string, []byte](panel(trade, denom)), func(p collections.Pair[string, []byte]) (bool, error) {
		judge := square.Address(p.K2())
		st, err := state{k, ctx}.Stake(pure.StakeKey{Provider: judge, Trade: trade, Denom: denom})
		if err == nil {
			f(judge, st)
		}
		return false, err
	})
}

// Enlist takes a staker's word that it sits as a judge, or no longer. Where the
// bench is full, who has the least to lose makes room.
func (k *Keeper) Enlist(ctx context.Context, key pure.StakeKey, on bool) error {
	return k.Run(ctx, func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error) {
		events, err := m.Enlist(s, now, key, on)
		if err != nil || !on {
			return events, err
		}
		var least pure.StakeKey
		var weight uint64
		n := 0
		err = k.enlisted(ctx, key.Trade, key.Denom, func(judge square.Address, st pure.Stake) {
			if w := st.Total - st.Unbonding; n == 0 || w < weight {
				least, weight = pure.StakeKey{Provider: judge, Trade: key.Trade, Denom: key.Denom}, w
			}
			n++
		})
		switch {
		case err != nil || n <= MaxJudges:
			return events, err
		case least == key:
			return nil, fmt.Errorf("enlist: %w: %d judges sit in trade %s, each with more stake", pure.ErrFunds, MaxJudges, key.Trade)
		}
		more, err := m.Enlist(s, now, least, false)
		return append(events, more...), err
	})
}
