package market

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Open takes the escrow of an order, whose digest is id, and waits for a
// provider until the order expires. The caller has checked that the buyer
// signed it. A replicated order waits for two, each of whom fills a replica
// (ReplicaID).
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
	wait := o.Expiry - (now + m.Lag)
	if wait <= 0 {
		return nil, fmt.Errorf("order: %w: it expired at %d and it is %d", ErrLate, o.Expiry, now+m.Lag)
	}
	if uint64(wait) > m.MaxOrderTTL {
		return nil, fmt.Errorf("order: expiry is %d s ahead; at most %d", wait, m.MaxOrderTTL)
	}
	if err := m.CheckTimes(o); err != nil {
		return nil, err
	}
	if _, err := s.Lease(id); err == nil {
		return nil, fmt.Errorf("order %s: %w; change its salt", id.Short(), ErrUsed)
	} else if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("order %s: %w", id.Short(), err)
	}
	t := &step{Machine: m, store: s, now: now, by: o.Buyer}
	t.lease = t.add(Lease{ID: id, Order: o, State: Open, Wait: wait, Opened: now, Deadline: now + wait, Escrow: o.Escrow}, "")
	l := t.lease
	if replicated(o) {
		l.State, l.Deadline = Replicating, now+rounds*t.round(l)
	}
	t.move(Account(o.Buyer), Escrow(id), o.Escrow)
	t.event(EvOpened, square.Hash{})
	if replicated(o) {
		for range square.Replicas {
			t.replica(l, false)
		}
	}
	return t, nil
}

// CheckTimes refuses an order with a deadline that is too short.
func (p Params) CheckTimes(o square.Order) error {
	for _, f := range []struct {
		name  string
		value uint64
		has   bool
	}{
		{"start", o.Start, true}, {"idle", o.Idle, o.Mode == square.ModeStream}, {"challenge", o.Challenge, true},
		{"drain", o.Drain, true}, {"duration", o.Duration, true},
	} {
		if f.has && f.value < p.Notice {
			return fmt.Errorf("order: %s is %d s; at least %d, so that whoever must act in it can be heard", f.name, f.value, p.Notice)
		}
	}
	return nil
}

// Cancel ends a lease for its buyer before it has started: at no cost while it is
// Open, for CancelBps of the order's escrow, to the provider, once it is Matched.
// One that has started is closed, with notice.
func (m Machine) Cancel(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.only("cancel", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if !l.Of.IsZero() {
		return nil, fmt.Errorf("cancel: %w: lease %s is a replica; cancel its order %s, while nobody has matched it", ErrState, id.Short(), l.Of.Short())
	}
	if l.State == Replicating {
		return t.dissolve()
	}
	if l.State == Active {
		return nil, fmt.Errorf("cancel: %w: lease %s is running; close it, which gives its provider notice", ErrState, id.Short())
	}
	if err := t.in("cancel", Open, Matched); err != nil {
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
