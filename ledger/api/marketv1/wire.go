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

func FromParams(p market.Params) Params {
	return Params{
		FeeBps: p.FeeBps, TreasuryBps: p.TreasuryBps, EmissionBps: p.EmissionBps,
		CancelBps: p.CancelBps, AbandonBps: p.AbandonBps, LateBps: p.LateBps, ReporterBps: p.ReporterBps,
		HoldbackBps: p.HoldbackBps, HoldbackTimes: p.HoldbackTimes, ChallengeBps: p.ChallengeBps,
		DisputeCost: p.DisputeCost, Seats: p.Seats, JudgeFee: p.JudgeFee, SeatBond: p.SeatBond, Notice: p.Notice,
		Verdict: p.Verdict, Answer: p.Answer, Redraws: p.Redraws, Hearings: p.Hearings, PokeBounty: p.PokeBounty, BountyBps: p.BountyBps,
		Unbonding: p.Unbonding, MaxOrderTtl: p.MaxOrderTTL, Retention: p.Retention,
	}
}

func (m Params) Market() market.Params {
	return market.Params{
		FeeBps: m.FeeBps, TreasuryBps: m.TreasuryBps, EmissionBps: m.EmissionBps,
		CancelBps: m.CancelBps, AbandonBps: m.AbandonBps, LateBps: m.LateBps, ReporterBps: m.ReporterBps,
		HoldbackBps: m.HoldbackBps, HoldbackTimes: m.HoldbackTimes, ChallengeBps: m.ChallengeBps,
		DisputeCost: m.DisputeCost, Seats: m.Seats, JudgeFee: m.JudgeFee, SeatBond: m.SeatBond, Notice: m.Notice,
		Verdict: m.Verdict, Answer: m.Answer, Redraws: m.Redraws, Hearings: m.Hearings, PokeBounty: m.PokeBounty, BountyBps: m.BountyBps,
		Unbonding: m.Unbonding, MaxOrderTTL: m.MaxOrderTtl, Retention: m.Retention,
	}
}

func FromOffer(o market.Offer) Offer {
	return Offer{Offer: squarev1.FromOffer(o.Offer), Id: squarev1.FromHash(o.ID), InUse: o.InUse, Withdrawn: o.Withdrawn}
}

func (m Offer) Market() (market.Offer, error) {
	var r squarev1.Reader
	o, err := m.Offer.Square()
	if err != nil {
		return market.Offer{}, err
	}
	return market.Offer{Offer: o, ID: m.Id.Read(&r, "offer: id"), InUse: m.InUse, Withdrawn: m.Withdrawn}, r.Err
}

func FromStake(k market.StakeKey, s market.Stake) bondv1.Stake {
	return bondv1.Stake{
		Provider: squarev1.FromAddress(k.Provider), Trade: k.Trade, Denom: k.Denom,
		Total: s.Total, Locked: s.Locked, Unbonding: s.Unbonding, Until: s.Until, Jobs: s.Jobs, Judge: s.Judge,
	}
}

func Stake(m bondv1.Stake) (market.StakeKey, market.Stake, error) {
	var r squarev1.Reader
	k := market.StakeKey{Provider: m.Provider.Read(&r, "stake: provider"), Trade: m.Trade, Denom: m.Denom}
	return k, market.Stake{Total: m.Total, Locked: m.Locked, Unbonding: m.Unbonding, Until: m.Until, Jobs: m.Jobs, Judge: m.Judge}, r.Err
}

func FromLease(l market.Lease) Lease {
	m := Lease{
		Id: squarev1.FromHash(l.ID), Order: squarev1.FromOrder(l.Order), State: string(l.State), Reason: string(l.Reason),
		Parent: squarev1.FromHash(l.Parent), Child: squarev1.FromHash(l.Child), Nth: l.Nth,
		Provider: squarev1.FromAddress(l.Provider), Offer: squarev1.FromHash(l.Offer), Slot: squarev1.FromHash(l.Slot), Rates: squarev1.FromRates(l.Rates),
		Added: l.Added, Escrow: l.Escrow, Bond: l.Bond, Bonded: l.Bonded, Paid: l.Paid, Burned: l.Burned, Emitted: l.Emitted,
		Lanes: l.Lanes, Asked: l.Asked, Answer: squarev1.FromHash(l.Answer), Heard: l.Heard,
		Wait: l.Wait, Opened: l.Opened, Matched: l.Matched, Started: l.Started, Touched: l.Touched, Ends: l.Ends, Ended: l.Ended, Deadline: l.Deadline,
	}
	m.Of, m.Drawn, m.Draw, m.Invited = squarev1.FromHash(l.Of), l.Drawn, l.Draw, squarev1.FromAddress(l.Invited)
	m.Ballot, m.Agreed = squarev1.FromHash(l.Ballot), squarev1.FromHash(l.Agreed)
	m.Left, m.Passed, m.Peers = fromAddresses(l.Left), fromAddresses(l.Passed), fromAddresses(l.Peers)
	for _, id := range l.Replicas {
		m.Replicas = append(m.Replicas, squarev1.FromHash(id))
	}
	if l.Receipt != nil {
		r := squarev1.FromReceipt(*l.Receipt)
		m.Receipt = &r
	}
	if d := l.Dispute; d != nil {
		m.Dispute = &Dispute{
			Way: string(d.Way), Challenger: squarev1.FromAddress(d.Challenger), Bond: d.Bond, Cost: d.Cost, Evidence: squarev1.FromHash(d.Evidence), Value: d.Value,
			Prior: string(d.Prior), PriorTime: d.PriorTime, Since: d.Since, Part: d.Part, Owes: squarev1.FromAddress(d.Owes),
			Draw: d.Draw, Seated: d.Seated, Found: string(d.Found),
		}
		for _, s := range d.Seats {
			m.Dispute.Seats = append(m.Dispute.Seats, Seat{Judge: squarev1.FromAddress(s.Judge), Bond: s.Bond, Ballot: squarev1.FromHash(s.Ballot), Verdict: string(s.Verdict)})
		}
		m.Dispute.Stood = fromAddresses(d.Stood)
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
		ID: m.Id.Read(&r, "lease: id"), Order: order, State: market.State(m.State), Reason: market.Reason(m.Reason),
		Parent: m.Parent.Maybe(&r, "lease: parent"), Child: m.Child.Maybe(&r, "lease: child"), Nth: m.Nth,
		Provider: m.Provider.Maybe(&r, "lease: provider"), Offer: m.Offer.Maybe(&r, "lease: offer"),
		Slot: m.Slot.Maybe(&r, "lease: slot"), Rates: squarev1.Rates(m.Rates),
		Added: m.Added, Escrow: m.Escrow, Bond: m.Bond, Bonded: m.Bonded, Paid: m.Paid, Burned: m.Burned, Emitted: m.Emitted,
		Lanes: m.Lanes, Asked: m.Asked, Answer: m.Answer.Maybe(&r, "lease: answer"), Heard: m.Heard,
		Wait: m.Wait, Opened: m.Opened, Matched: m.Matched, Started: m.Started, Touched: m.Touched, Ends: m.Ends, Ended: m.Ended, Deadline: m.Deadline,
	}
	l.Of, l.Drawn, l.Draw, l.Invited = m.Of.Maybe(&r, "lease: of"), m.Drawn, m.Draw, m.Invited.Maybe(&r, "lease: invited")
	l.Ballot, l.Agreed = m.Ballot.Maybe(&r, "lease: ballot"), m.Agreed.Maybe(&r, "lease: agreed")
	l.Left, l.Passed, l.Peers = addresses(&r, "lease: left", m.Left), addresses(&r, "lease: passed", m.Passed), addresses(&r, "lease: peers", m.Peers)
	for _, id := range m.Replicas {
		l.Replicas = append(l.Replicas, id.Read(&r, "lease: replicas"))
	}
	if m.Receipt != nil {
		receipt, err := m.Receipt.Square()
		if err != nil {
			return market.Lease{}, err
		}
		l.Receipt = &receipt
	}
	if d := m.Dispute; d != nil {
		l.Dispute = &market.Dispute{
			Way: market.Way(d.Way), Challenger: d.Challenger.Read(&r, "dispute: challenger"), Bond: d.Bond, Cost: d.Cost,
			Evidence: d.Evidence.Maybe(&r, "dispute: evidence"), Value: d.Value, Prior: market.State(d.Prior), PriorTime: d.PriorTime,
			Since: d.Since, Part: d.Part, Owes: d.Owes.Maybe(&r, "dispute: owes"),
			Draw: d.Draw, Seated: d.Seated, Found: square.Verdict(d.Found),
		}
		for _, s := range d.Seats {
			l.Dispute.Seats = append(l.Dispute.Seats, market.Seat{
				Judge: s.Judge.Read(&r, "seat: judge"), Bond: s.Bond, Ballot: s.Ballot.Maybe(&r, "seat: ballot"), Verdict: square.Verdict(s.Verdict),
			})
		}
		l.Dispute.Stood = addresses(&r, "dispute: stood", d.Stood)
	}
	return l, r.Err
}

func fromPot(p market.Pot) Pot {
	return Pot{Kind: string(p.Kind), Owner: squarev1.FromAddress(p.Owner), Trade: p.Trade, Lease: squarev1.FromHash(p.Lease)}
}

func (m Pot) market(r *squarev1.Reader) market.Pot {
	return market.Pot{Kind: market.PotKind(m.Kind), Owner: m.Owner.Maybe(r, "pot: owner"), Trade: m.Trade, Lease: m.Lease.Maybe(r, "pot: lease")}
}

func FromEvent(e market.Event) Event {
	m := Event{
		Kind: string(e.Kind), Time: e.Time, By: squarev1.FromAddress(e.By), Lease: squarev1.FromHash(e.Lease), Trade: e.Trade,
		Buyer: squarev1.FromAddress(e.Buyer), Provider: squarev1.FromAddress(e.Provider), From: string(e.From), To: string(e.To),
		Reason: string(e.Reason), Deadline: e.Deadline, Paid: e.Paid, Ref: squarev1.FromHash(e.Ref),
	}
	for _, t := range e.Moves {
		m.Moves = append(m.Moves, Transfer{From: fromPot(t.From), To: fromPot(t.To), Amount: squarev1.FromAmount(t.Amount)})
	}
	return m
}

func (m Event) Market() (market.Event, error) {
	var r squarev1.Reader
	e := market.Event{
		Kind: market.Kind(m.Kind), Time: m.Time, By: m.By.Maybe(&r, "event: by"), Lease: m.Lease.Maybe(&r, "event: lease"), Trade: m.Trade,
		Buyer: m.Buyer.Maybe(&r, "event: buyer"), Provider: m.Provider.Maybe(&r, "event: provider"), From: market.State(m.From), To: market.State(m.To),
		Reason: market.Reason(m.Reason), Deadline: m.Deadline, Paid: m.Paid, Ref: m.Ref.Maybe(&r, "event: ref"),
	}
	for _, t := range m.Moves {
		a, err := t.Amount.Square()
		if err != nil {
			return e, err
		}
		e.Moves = append(e.Moves, market.Transfer{From: t.From.market(&r), To: t.To.market(&r), Amount: a})
	}
	return e, r.Err
}

func fromAddresses(as []square.Address) (out []squarev1.Address) {
	for _, a := range as {
		out = append(out, squarev1.FromAddress(a))
	}
	return out
}

func addresses(r *squarev1.Reader, field string, as []squarev1.Address) (out []square.Address) {
	for _, a := range as {
		out = append(out, a.Read(r, field))
	}
	return out
}
