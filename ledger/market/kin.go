package market

import (
	"context"
	"slices"

	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Kin tells whether somebody has said of itself that it and a party belong together.
// What only the party has said does not count: it could keep anybody from judging.
type Kin func(ctx context.Context, judge, party square.Address) (bool, error)

// SetKin says how the rest of the ledger is asked. Without it nobody is kin.
func (k *Keeper) SetKin(kin Kin) { k.kin = kin }

// unrelated draws judges of which none is a party's kin. Only those that are drawn are
// asked about, each once; without them it is drawn again, by the same beacon.
func (k *Keeper) unrelated(ctx context.Context, l pure.Lease, beacon square.Hash, candidates []pure.Candidate, seats int) ([]square.Address, error) {
	asked := map[square.Address]bool{}
	for {
		judges := pure.Draw(beacon, candidates, seats)
		n := len(candidates)
		for _, j := range judges {
			if asked[j] {
				continue
			}
			asked[j] = true
			related, err := k.related(ctx, l, j)
			if err != nil {
				return nil, err
			}
			if related {
				candidates = slices.DeleteFunc(slices.Clone(candidates), func(c pure.Candidate) bool { return c.Judge == j })
			}
		}
		if len(candidates) == n {
			return judges, nil
		}
	}
}

func (k *Keeper) related(ctx context.Context, l pure.Lease, judge square.Address) (bool, error) {
	if k.kin == nil {
		return false, nil
	}
	for _, party := range append([]square.Address{l.Order.Buyer, l.Order.Authorizer, l.Provider, l.Dispute.Challenger}, l.Peers...) {
		if yes, err := k.kin(ctx, judge, party); err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}
