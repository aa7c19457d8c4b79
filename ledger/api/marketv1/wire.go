// Package marketv1 is the market's messages, queries and state as protobuf. The
// functions beside the generated types turn state into package market's and
// back.
package marketv1

import (
	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

func FromParams(p market.Params, judges []square.Address) Params {
	m := Params{
		FeeBps: p.FeeBps, TreasuryBps: p.TreasuryBps, EmissionBps: p.EmissionBps,
		CancelBps: p.CancelBps, AbandonBps: p.AbandonBps, LateBps: p.LateBps, ReporterBps: p.ReporterBps,
		HoldbackBps: p.HoldbackBps, HoldbackTimes: p.HoldbackTimes, ChallengeBps: p.ChallengeBps,
		Verdict: p.Verdict, Redraws: p.Redraws, PokeBounty: p.PokeBounty, BountyBps: p.BountyBps,
		Unbonding: p.Unbonding, MaxOrderTtl: p.MaxOrderTTL, Retention: p.Retention, Hearings: p.Hearings,
		Answer: p.Answer,
	}
	for _, j := range judges {
		m.Judges = append(m.Judges, j.String())
	}
	return m
}

func (m Params) Market() market.Params {
	if m.Answer == 0 {
		m.Answer = market.Default().Answer
	}
	return market.Params{
		FeeBps: m.FeeBps, TreasuryBps: m.TreasuryBps, EmissionBps: m.EmissionBps,
		CancelBps: m.CancelBps, AbandonBps: m.AbandonBps, LateBps: m.LateBps, ReporterBps: m.ReporterBps,
		HoldbackBps: m.HoldbackBps, HoldbackTimes: m.HoldbackTimes, ChallengeBps: m.ChallengeBps,
		Verdict: m.Verdict, Redraws: m.Redraws, PokeBounty: m.PokeBounty, BountyBps: m.BountyBps,
		Unbonding: m.Unbonding, MaxOrderTTL: m.MaxOrderTtl, Retention: m.Retention, Hearings: m.Hearings,
		Answer: m.Answer,
	}
}

func FromOffer(o market.Offer) Offer {
	return Offer{Offer: squarev1.FromOffer(o.Offer), Id: o.ID.String(), InUse: o.InUse, Withdrawn: o.Withdrawn}
}

func (m Offer) Market() (market.Offer, error) {
	var r squarev1.Reader
	o, err := m.Offer.Square()
	if err != nil {
		return market.Offer{}, err
	}
	return market.Offer{Offer: o, ID: r.Hash("offer: id", m.Id), InUse: m.InUse, Withdrawn: m.Withdrawn}, r.Err
}

func FromStake(k market.StakeKey, s market.Stake) bondv1.Stake {
	return bondv1.Stake{
		Provider: k.Provider.String(), Trade: k.Trade, Denom: k.Denom,
		Total: s.Total, Locked: s.Locked, Unbonding: s.Unbonding, Until: s.Until,
	}
}

func Stake(m bondv1.Stake) (market.StakeKey, market.Stake, error) {
	var r squarev1.Reader
	k := market.StakeKey{Provider: r.Address("stake: provider", m.Provider), Trade: m.Trade, Denom: m.Denom}
	return k, market.Stake{Total: m.Total, Locked: m.Locked, Unbonding: m.Unbonding, Until: m.Until}, r.Err
}

func FromLease(l market.Lease) Lease {
	m := Lease{
		Id: l.ID.String(), Order: squarev1.FromOrder(l.Order), State: string(l.State), Reason: string(l.Reason),
		Parent: squarev1.Hex(l.Parent), Child: squarev1.Hex(l.Child), Nth: l.Nth,
		Provider: squarev1.Text(l.Provider), Offer: squarev1.Hex(l.Offer), Rates: squarev1.FromRates(l.Rates),
		Escrow: l.Escrow, Bond: l.Bond, Bonded: l.Bonded, Paid: l.Paid, Burned: l.Burned, Emitted: l.Emitted,
		Lanes: l.Lanes, Root: squarev1.Hex(l.Root), Price: l.Price, Heard: l.Heard,
		Opened: l.Opened, Matched: l.Matched, Started: l.Started, Touched: l.Touched, Ends: l.Ends, Ended: l.Ended, Deadline: l.Deadline,
	}
	if d := l.Dispute; d != nil {
		m.Dispute = &Dispute{
			Challenger: d.Challenger.String(), Bond: d.Bond, Evidence: squarev1.Hex(d.Evidence), Value: d.Value,
			Prior: string(d.Prior), PriorTime: d.PriorTime, Since: d.Since, Draw: d.Draw,
			Prove: d.Prove, Part: d.Part,
		}
	}
	return m
}

func (m Lease) Market() (market.Lease, error) {
	var r squarev1.Reader
	order, err := m.Order.Square()
	if err != nil {
		return market.Lease{}, err
	}
	l := market.Lease{
		ID: r.Hash("lease: id", m.Id), Order: order, State: market.State(m.State), Reason: market.Reason(m.Reason),
		Parent: r.MaybeHash("lease: parent", m.Parent), Child: r.MaybeHash("lease: child", m.Child), Nth: m.Nth,
		Provider: r.MaybeAddress("lease: provider", m.Provider), Offer: r.MaybeHash("lease: offer", m.Offer), Rates: squarev1.Rates(m.Rates),
		Escrow: m.Escrow, Bond: m.Bond, Bonded: m.Bonded, Paid: m.Paid, Burned: m.Burned, Emitted: m.Emitted,
		Lanes: m.Lanes, Root: r.MaybeHash("lease: root", m.Root), Price: m.Price, Heard: m.Heard,
		Opened: m.Opened, Matched: m.Matched, Started: m.Started, Touched: m.Touched, Ends: m.Ends, Ended: m.Ended, Deadline: m.Deadline,
	}
	if d := m.Dispute; d != nil {
		l.Dispute = &market.Dispute{
			Challenger: r.Address("dispute: challenger", d.Challenger), Bond: d.Bond, Evidence: r.MaybeHash("dispute: evidence", d.Evidence),
			Value: d.Value, Prior: market.State(d.Prior), PriorTime: d.PriorTime, Since: d.Since, Draw: d.Draw,
			Prove: d.Prove, Part: d.Part,
		}
	}
	return l, r.Err
}
