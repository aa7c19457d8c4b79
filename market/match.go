package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Match gives an Open lease to the provider of a quote, whose digest is given,
// locks the quote's bond and takes the order's units of the offer. The caller
// has checked that the provider signed the quote. A quote that is Ready starts
// the lease at once.
func (m Machine) Match(s Store, now int64, q square.Quote, digest square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, q.Provider, q.Order)
	if err != nil {
		return nil, err
	}
	if err := t.match(q, digest); err != nil {
		return nil, err
	}
	return t.commit()
}

// OpenMatched is Open and Match in one: both happen or neither.
func (m Machine) OpenMatched(s Store, now int64, id square.Hash, o square.Order, q square.Quote, digest square.Hash) ([]Event, error) {
	if replicated(o) {
		return nil, fmt.Errorf("order: %w: policy %q takes more than one provider; place the order, and let providers match its replicas", ErrState, o.Policy)
	}
	t, err := m.open(s, now, id, o)
	if err != nil {
		return nil, err
	}
	if err := t.match(q, digest); err != nil {
		return nil, err
	}
	return t.commit()
}

func (t *step) match(q square.Quote, digest square.Hash) error {
	l := t.lease
	if err := t.in("match", Open); err != nil {
		return err
	}
	switch {
	case q.Order != l.ID:
		return fmt.Errorf("quote: it is for order %s, not %s", q.Order.Short(), l.ID.Short())
	case q.Expiry <= t.wall():
		return fmt.Errorf("quote: %w: it expired at %d and it is %d; ask for another", ErrLate, q.Expiry, t.wall())
	case q.Expiry-t.wall() > square.QuoteTTL:
		return fmt.Errorf("quote: expiry is %d s ahead; at most %d", q.Expiry-t.wall(), square.QuoteTTL)
	case q.Provider == l.Order.Buyer:
		return fmt.Errorf("quote: %w: the buyer cannot be the provider of its own order", ErrParty)
	case q.Bond == 0 && l.Order.Policy != square.PolicyReplicate:
		return fmt.Errorf("quote: bond is 0, which policy %q does not allow; bond something or order with policy %q", l.Order.Policy, square.PolicyReplicate)
	}
	if least := t.LeaseBond(l.Order); q.Bond > 0 && q.Bond < least {
		return fmt.Errorf("quote: bond is %d; under policy %q at least %d, which covers a dispute", q.Bond, l.Order.Policy, least)
	}
	if err := t.joins(q); err != nil {
		return err
	}
	if err := square.Within(q.Rates, l.Order.MaxRates); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if used, err := t.store.Used(digest); err != nil {
		return fmt.Errorf("quote: %w", err)
	} else if used {
		return fmt.Errorf("quote: %w; ask for another", ErrUsed)
	}

	offer, err := t.store.Offer(OfferKey{q.Provider, l.Order.Trade, q.Spec})
	switch {
	case err != nil:
		return fmt.Errorf("quote: %v offers no %s of spec %s: %w", q.Provider, l.Order.Trade, q.Spec.Short(), err)
	case offer.ID != q.Offer:
		return fmt.Errorf("quote: offer %s is not the newest, %s; ask for another quote", q.Offer.Short(), offer.ID.Short())
	case offer.Withdrawn:
		return fmt.Errorf("quote: %w: offer %s is withdrawn", ErrState, offer.ID.Short())
	case offer.Expiry <= t.wall():
		return fmt.Errorf("quote: %w: offer %s expired at %d", ErrLate, offer.ID.Short(), offer.Expiry)
	case offer.Denom != l.Order.Denom:
		return fmt.Errorf("quote: the offer is in %s, the order in %s", offer.Denom, l.Order.Denom)
	case l.Order.Units > offer.Capacity-offer.InUse:
		return fmt.Errorf("quote: the order takes %d units and the offer has %d free of %d", l.Order.Units, offer.Capacity-offer.InUse, offer.Capacity)
	}
	if err := t.fits(offer.Offer, l.Order); err != nil {
		return fmt.Errorf("quote: the offer does not fit the order: %w", err)
	}

	l.Provider, l.Offer, l.Slot, l.Rates = q.Provider, q.Offer, q.Spec, q.Rates
	stake := t.look(l.StakeKey())
	if t.err != nil {
		return t.err
	}
	if q.Bond > 0 {
		if free := stake.Free(); q.Bond > free {
			return fmt.Errorf("quote: bond: %w: %d asked, %d free in the provider's %s stake in %s", ErrFunds, q.Bond, free, l.Order.Denom, l.Order.Trade)
		}
		t.bonded().Locked += q.Bond
	} else {
		// What a newcomer may have open at once grows with what it has left in its
		// stake: that is what it would lose by walking away from its name.
		if most := 1 + (stake.Total-stake.Unbonding)/l.Order.JobValue; stake.Jobs >= most {
			return fmt.Errorf("quote: bond is 0: %w: the provider has %d such leases open, and at most %d until more of its pay has become stake", ErrFunds, stake.Jobs, most)
		}
		t.bonded().Jobs++
	}
	l.Bond, l.Bonded = q.Bond, q.Bond
	l.Matched = t.now
	l.Lanes = make([]uint64, l.Order.Lanes)
	offer.InUse += l.Order.Units
	t.offer = &offer
	t.uses = append(t.uses, use{digest, q.Expiry})

	l.State = Matched
	l.Deadline = t.now + int64(l.Order.Start)
	t.event(EvMatched, digest)
	if q.Ready {
		t.start()
	}
	return nil
}

// LeaseBond is the least bond of a lease that fills o, if it is bonded at all.
// Where work may be disputed it covers a whole dispute, so that the loser can pay
// for it. Under replicate it covers what a wrong result may take as well: it is what
// another's word is believed for, who has bonded nothing.
func (p Params) LeaseBond(o square.Order) uint64 {
	switch {
	case o.Policy == square.PolicyReplicate:
		return max(o.JobValue, p.Dispute())
	case o.Policy == square.PolicyAudit || o.Policy == square.PolicyProve:
		return max(1, p.Dispute())
	}
	return 1
}

// Start is the provider's word that it serves a Matched lease.
func (m Machine) Start(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.in("start", Matched); err != nil {
		return nil, err
	}
	if err := t.only("start", "provider", t.lease.Provider); err != nil {
		return nil, err
	}
	t.start()
	return t.commit()
}

func (t *step) start() {
	l := t.lease
	l.State = Active
	l.Started, l.Touched = t.now, t.now
	l.Ends = t.now + int64(l.Order.Duration)
	l.Deadline = l.running()
	t.event(EvStarted, square.Hash{})
}

// running is the deadline of an Active lease.
func (l *Lease) running() int64 {
	if l.Order.Mode == square.ModeResult {
		return l.Ends
	}
	return min(l.Ends, l.Touched+int64(l.Order.Idle))
}
