package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Claim commits the provider of a result lease to its result, by root, and to
// its price, at most the escrow. The buyer has the order's Challenge seconds
// to accept or object.
func (m Machine) Claim(s Store, now int64, by square.Address, id, root square.Hash, price uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.mode("claim", square.ModeResult); err != nil {
		return nil, err
	}
	if err := t.in("claim", Active); err != nil {
		return nil, err
	}
	if err := t.only("claim", "provider", l.Provider); err != nil {
		return nil, err
	}
	if root.IsZero() {
		return nil, fmt.Errorf("claim: root is missing")
	}
	if price > l.Escrow {
		return nil, fmt.Errorf("claim: %w: the price is %d and the escrow has %d", ErrFunds, price, l.Escrow)
	}
	l.Root, l.Price = root, price
	l.State = Claimed
	l.Deadline = now + int64(l.Order.Challenge)
	t.event(EvClaimed, root)
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
	t.deliver(ReasonAccepted)
	return t.commit()
}

// deliver pays for a result.
func (t *step) deliver(why Reason) {
	t.pay(t.lease.Price)
	t.refund()
	t.end(Settled, why)
}
