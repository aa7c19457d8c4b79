package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Claim hands in the receipt that the provider of a result lease signed (the
// caller has checked it): what it did for the order's request, what came of it,
// how much that is and what it costs at the lease's rates, at most the job value. The
// buyer has the order's Challenge seconds to accept or object. The provider may
// bring it, or the buyer, so that a provider without money for fees is paid.
func (m Machine) Claim(s Store, now int64, by square.Address, id square.Hash, r square.Receipt) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.mode("claim", square.ModeResult); err != nil {
		return nil, err
	}
	if err := t.in("claim", Active, Draining); err != nil {
		return nil, err
	}
	if by != l.Order.Buyer {
		if err := t.only("claim", "provider or the buyer", l.Provider); err != nil {
			return nil, err
		}
	}
	if !l.Of.IsZero() && (t.group() != nil || t.err != nil || l.Bonded == 0) {
		if t.err != nil {
			return nil, t.err
		}
		return nil, fmt.Errorf("claim: %w: lease %s is a replica; commit to the result, and show it when all have", ErrState, id.Short())
	}
	if err := t.receipt(r); err != nil {
		return nil, err
	}
	l.State, l.Reason = Claimed, ""
	l.Deadline = now + int64(l.Order.Challenge)
	if !l.Of.IsZero() {
		t.alone(now)
	}
	t.event(EvClaimed, r.Result)
	return t.commit()
}

// receipt takes the receipt of a result into the lease.
func (t *step) receipt(r square.Receipt) error {
	l := t.lease
	switch {
	case r.Lease != l.ID:
		return fmt.Errorf("claim: the receipt is of lease %s", r.Lease.Short())
	case r.Request != l.Order.Request:
		return fmt.Errorf("claim: the receipt answers request %s, the order asks %s", r.Request.Short(), l.Order.Request.Short())
	case r.Result.IsZero():
		return fmt.Errorf("claim: the receipt names no result")
	case r.Lane != 0 || r.Seq != 1 || r.Cumulative != r.Price:
		return fmt.Errorf("claim: a result has one receipt: lane 0, seq 1, cumulative as its price")
	case r.Price > l.Order.JobValue:
		return fmt.Errorf("claim: the price is %d and the order's job_value %d", r.Price, l.Order.JobValue)
	case r.Price > l.Escrow:
		return fmt.Errorf("claim: %w: the price is %d and the escrow has %d", ErrFunds, r.Price, l.Escrow)
	}
	if err := r.Charged(l.Rates); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	l.Receipt = &r
	return nil
}

// Withhold is the buyer's word that a result was claimed and not handed over. It
// may be said once in a lease, with a bond as for a challenge. The provider has
// Answer seconds to hand the result over on the ledger.
func (m Machine) Withhold(s Store, now int64, by square.Address, id square.Hash, bond uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.in("withheld", Claimed); err != nil {
		return nil, err
	}
	if err := t.only("withheld", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if err := t.compared("withheld"); err != nil {
		return nil, err
	}
	if l.Asked {
		return nil, fmt.Errorf("withheld: %w: it was said of lease %s, and answered", ErrUsed, id.Short())
	}
	l.Asked = true
	t.dispute("withheld", Dispute{Way: ByAnswer, Evidence: l.Receipt.Result, Value: l.Receipt.Price}, bond)
	l.State = Owed
	t.event(EvWithheld, l.Receipt.Result)
	return t.commit()
}

// Answer is what the provider hands over when the buyer has said that a result
// was withheld; answer is its digest and cost the fees that bringing it took. The
// caller has checked that it opens the receipt, or is sealed to the key that the
// buyer named, or is what the trade takes in its place. The buyer pays for it, as
// far as fees are given back, and has the order's Challenge seconds again.
func (m Machine) Answer(s Store, now int64, by square.Address, id, answer square.Hash, cost uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.in("answer", Owed); err != nil {
		return nil, err
	}
	if err := t.only("answer", "provider", l.Provider); err != nil {
		return nil, err
	}
	if answer.IsZero() {
		return nil, fmt.Errorf("answer: it is missing")
	}
	t.fromChallenge(Account(l.Provider), min(cost, t.DisputeCost, l.Dispute.Bond))
	t.fromChallenge(Account(l.Dispute.Challenger), l.Dispute.Bond)
	l.Answer, l.Dispute = answer, nil
	l.State = Claimed
	l.Deadline = now + int64(l.Order.Challenge)
	t.event(EvAnswered, answer)
	return t.commit()
}

// Accept is the buyer's word that a claimed result is right.
func (m Machine) Accept(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.in("accept", Claimed); err != nil {
		return nil, err
	}
	if err := t.only("accept", "buyer", t.lease.Order.Buyer); err != nil {
		return nil, err
	}
	if err := t.compared("accept"); err != nil {
		return nil, err
	}
	t.deliver(ReasonAccepted)
	return t.commit()
}

// deliver pays for a result.
func (t *step) deliver(why Reason) {
	t.pay(t.lease.Receipt.Price)
	t.refund()
	t.end(Settled, why)
}
