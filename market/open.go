package market

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Open takes the escrow of an order, whose digest is id, and waits for a
// provider until the order expires. The caller has checked that the buyer
// signed it.
func (m Machine) Open(s Store, now int64, id square.Hash, o square.Order) ([]Event, error) {
	t, err := m.open(s, now, id, o)
	if err != nil {
		return nil, err
	}
	return t.commit()
}

func (m Machine) open(s Store, now int64, id square.Hash, o square.Order) (*step, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Expiry <= now {
		return nil, fmt.Errorf("order: %w: it expired at %d and it is %d", ErrLate, o.Expiry, now)
	}
	if uint64(o.Expiry-now) > m.MaxOrderTTL {
		return nil, fmt.Errorf("order: expiry is %d s ahead; at most %d", o.Expiry-now, m.MaxOrderTTL)
	}
	if _, err := s.Lease(id); err == nil {
		return nil, fmt.Errorf("order %s: %w; change its salt", id.Short(), ErrUsed)
	} else if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("order %s: %w", id.Short(), err)
	}
	t := &step{Params: m.Params, store: s, now: now, by: o.Buyer, lease: &Lease{
		ID: id, Order: o, State: Open, Opened: now, Deadline: o.Expiry, Escrow: o.Escrow,
	}}
	t.move(Account(o.Buyer), Escrow(id), o.Escrow)
	t.event(EvOpened, square.Hash{})
	return t, nil
}

// Cancel ends a lease for its buyer: at no cost while it is Open, for
// CancelBps of the order's escrow, to the provider, once it is Matched or, for
// a result, Active. A stream that runs is closed instead.
func (m Machine) Cancel(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.only("cancel", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if l.State == Active && l.Order.Mode == square.ModeStream {
		return nil, fmt.Errorf("cancel: %w: lease %s is running; close it", ErrState, id.Short())
	}
	if err := t.in("cancel", Open, Matched, Active); err != nil {
		return nil, err
	}
	if l.State != Open {
		// Compensation is not pay for work: no fee, no holdback, not Paid.
		t.fromEscrow(Account(l.Provider), square.Share(l.Order.Escrow, t.CancelBps))
	}
	t.refund()
	t.end(Cancelled, ReasonCancelled)
	return t.commit()
}
