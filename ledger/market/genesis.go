package market

import (
	"context"
	"errors"
	"fmt"

	"cosmossdk.io/collections"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/ledger/space"
	pure "github.com/torg-network/torg/market"
)

// DefaultGenesis is an empty market under the default parameters.
func DefaultGenesis() *marketv1.GenesisState {
	return &marketv1.GenesisState{Params: marketv1.FromParams(pure.Default())}
}

func (k *Keeper) initGenesis(ctx context.Context, g *marketv1.GenesisState) error {
	if err := g.Params.Market().Check(); err != nil {
		return err
	}
	s := state{k, ctx}
	if err := k.params.Set(ctx, g.Params); err != nil {
		return err
	}
	for _, m := range g.Offers {
		o, err := m.Market()
		if err != nil {
			return err
		}
		if err := s.SetOffer(o); err != nil {
			return err
		}
	}
	for _, m := range g.Leases {
		l, err := m.Market()
		if err != nil {
			return err
		}
		if err := s.SetLease(l); err != nil {
			return err
		}
	}
	for _, m := range g.Stakes {
		key, st, err := marketv1.Stake(m)
		if err != nil {
			return err
		}
		if err := s.SetStake(key, st); err != nil {
			return err
		}
	}
	for _, u := range g.Used {
		if len(u.Hash) != 32 {
			return fmt.Errorf("used: %d bytes are no hash", len(u.Hash))
		}
		if err := s.Use([32]byte(u.Hash), u.Until); err != nil {
			return err
		}
	}
	for _, t := range g.Totals {
		if err := k.totals.Set(ctx, t.Denom, t); err != nil {
			return err
		}
	}
	for _, e := range g.Evidence {
		var r squarev1.Reader
		lease, hash := r.Hash("evidence: lease", e.Lease), r.Hash("evidence: hash", e.Hash)
		if r.Err != nil {
			return r.Err
		}
		if err := k.evidence.Set(ctx, collections.Join(lease[:], hash[:]), e.Evidence); err != nil {
			return err
		}
	}
	for _, q := range g.Questions {
		var r squarev1.Reader
		lease := r.Hash("question: lease", q.Lease)
		if r.Err != nil {
			return r.Err
		}
		if err := k.asked.Set(ctx, lease[:], q); err != nil {
			return err
		}
	}
	for _, c := range g.Cards {
		if _, err := k.publish(ctx, c); err != nil {
			return err
		}
	}
	for _, d := range g.Draws {
		var r squarev1.Reader
		lease := r.Hash("draw: lease", d.Lease)
		if r.Err != nil {
			return r.Err
		}
		if err := k.draws.Set(ctx, collections.Join(d.Height, lease[:])); err != nil {
			return err
		}
	}
	if g.Lag < 0 {
		return fmt.Errorf("lag: %d", g.Lag)
	}
	if g.Lag > 0 {
		if err := k.lag.Set(ctx, g.Lag); err != nil {
			return err
		}
	}
	if len(g.Prices) > 0 {
		if err := checkPrices(g.Prices); err != nil {
			return err
		}
		if err := k.SetPrices(ctx, g.Prices); err != nil {
			return err
		}
	}
	for _, m := range g.Mixes {
		if len(m.Mix) != 32 {
			return fmt.Errorf("mix of block %d: %d bytes are no hash", m.Height, len(m.Mix))
		}
		if err := k.mixes.Set(ctx, m.Height, m.Mix); err != nil {
			return err
		}
	}
	return k.pruned.Set(ctx, g.Pruned)
}

// checkPrices refuses prices that no ledger could have come to.
func checkPrices(prices []uint64) error {
	if len(prices) != int(space.Lanes) {
		return fmt.Errorf("prices: %d, want one for each of %d lanes", len(prices), space.Lanes)
	}
	for lane, p := range prices {
		if p < space.LeastPrices[lane] || p > space.MostPrice {
			return fmt.Errorf("prices: %d in lane %s: want %d to %d", p, space.Lane(lane), space.LeastPrices[lane], space.MostPrice)
		}
	}
	return nil
}

func (k *Keeper) exportGenesis(ctx context.Context) (*marketv1.GenesisState, error) {
	g := &marketv1.GenesisState{}
	var err error
	if g.Params, err = k.params.Get(ctx); err != nil {
		return nil, err
	}
	if g.Pruned, err = k.pruned.Get(ctx); err != nil && !errors.Is(err, collections.ErrNotFound) {
		return nil, err
	}
	if g.Lag, err = k.behind(ctx); err != nil {
		return nil, err
	}
	if g.Prices, err = k.Prices(ctx); err != nil {
		return nil, err
	}
	return g, errors.Join(
		k.mixes.Walk(ctx, nil, func(h int64, mix []byte) (bool, error) {
			g.Mixes = append(g.Mixes, marketv1.Mix{Height: h, Mix: mix})
			return false, nil
		}),
		k.offers.Walk(ctx, nil, func(_ []byte, o marketv1.Offer) (bool, error) { g.Offers = append(g.Offers, o); return false, nil }),
		k.leases.Walk(ctx, nil, func(_ []byte, l marketv1.Lease) (bool, error) { g.Leases = append(g.Leases, l); return false, nil }),
		k.stakes.Walk(ctx, nil, func(_ []byte, s bondv1.Stake) (bool, error) { g.Stakes = append(g.Stakes, s); return false, nil }),
		k.used.Walk(ctx, nil, func(h []byte, until int64) (bool, error) {
			g.Used = append(g.Used, marketv1.Used{Hash: h, Until: until})
			return false, nil
		}),
		k.totals.Walk(ctx, nil, func(_ string, t marketv1.Total) (bool, error) { g.Totals = append(g.Totals, t); return false, nil }),
		k.evidence.Walk(ctx, nil, func(p collections.Pair[[]byte, []byte], e squarev1.Evidence) (bool, error) {
			g.Evidence = append(g.Evidence, marketv1.StoredEvidence{Lease: fmt.Sprintf("%x", p.K1()), Hash: fmt.Sprintf("%x", p.K2()), Evidence: e})
			return false, nil
		}),
		k.asked.Walk(ctx, nil, func(_ []byte, q marketv1.Question) (bool, error) {
			g.Questions = append(g.Questions, q)
			return false, nil
		}),
		k.cards.Walk(ctx, nil, func(_ []byte, c marketv1.Card) (bool, error) { g.Cards = append(g.Cards, c); return false, nil }),
		k.draws.Walk(ctx, nil, func(p collections.Pair[int64, []byte]) (bool, error) {
			g.Draws = append(g.Draws, marketv1.Draw{Height: p.K1(), Lease: fmt.Sprintf("%x", p.K2())})
			return false, nil
		}),
	)
}
