package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Close ends a lease that runs for its buyer. With consent, the final sum that the
// provider of a stream signed (the caller has checked it), the lease settles at once
// on exactly that sum. Without, it drains for the order's Drain seconds, so that
// the provider can redeem its last voucher, or claim a result that is done; a
// reclaimed lease drains no longer than it would have, and has no child.
func (m Machine) Close(s Store, now int64, by square.Address, id square.Hash, consent *uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.in("close", Active, Draining); err != nil {
		return nil, err
	}
	if err := t.only("close", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if !l.Of.IsZero() {
		return nil, fmt.Errorf("close: %w: lease %s is a replica; it runs until its time is up", ErrState, id.Short())
	}
	if consent != nil {
		if err := t.mode("close with a final sum", square.ModeStream); err != nil {
			return nil, err
		}
		switch final := *consent; {
		case final < l.Paid:
			return nil, fmt.Errorf("close: the final sum %d is less than the %d already paid", final, l.Paid)
		case final-l.Paid > l.Escrow:
			return nil, fmt.Errorf("close: %w: the final sum %d is %d more than paid and the escrow has %d", ErrFunds, final, final-l.Paid, l.Escrow)
		default:
			t.pay(final - l.Paid)
		}
		t.refund()
		t.end(Settled, ReasonAgreed)
		return t.commit()
	}
	until := now + int64(l.Order.Drain)
	if l.State == Draining {
		if l.Reason != ReasonReclaimed {
			return nil, fmt.Errorf("close: %w: lease %s is draining until %d already", ErrState, id.Short(), l.Deadline)
		}
		until = min(until, l.Deadline)
	}
	if l.Order.Mode == square.ModeResult {
		until = min(until, l.Ends)
	}
	t.drain(ReasonClosed, until)
	return t.commit()
}

// TopUp adds the buyer's money to the escrow of a stream that runs.
func (m Machine) TopUp(s Store, now int64, by square.Address, id square.Hash, units uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.mode("top up", square.ModeStream); err != nil {
		return nil, err
	}
	if err := t.in("top up", Active); err != nil {
		return nil, err
	}
	if err := t.only("top up", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if units == 0 || units > square.MaxUnits-l.Funded() {
		return nil, fmt.Errorf("top up: %d is out of range", units)
	}
	l.Added += units
	l.Escrow += units
	t.move(Account(by), Escrow(id), units)
	t.event(EvToppedUp, square.Hash{})
	return t.commit()
}

// Extend lets a stream that runs end later, at the buyer's wish and with the
// provider's signature under exactly that time (the caller has checked it).
func (m Machine) Extend(s Store, now int64, by square.Address, id square.Hash, ends int64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.mode("extend", square.ModeStream); err != nil {
		return nil, err
	}
	if err := t.in("extend", Active); err != nil {
		return nil, err
	}
	if err := t.only("extend", "buyer", l.Order.Buyer); err != nil {
		return nil, err
	}
	if ends <= l.Ends || ends > now+square.MaxDuration {
		return nil, fmt.Errorf("extend: ends is %d; later than now's %d, and at most %d s ahead", ends, l.Ends, square.MaxDuration)
	}
	l.Ends = ends
	l.Deadline = l.running()
	t.event(EvExtended, square.Hash{})
	return t.commit()
}

// Reclaim ends a stream for its provider after notice seconds, at least the
// order's Drain. What is left of the escrow goes on to a child lease, if the
// order allows one more.
func (m Machine) Reclaim(s Store, now int64, by square.Address, id square.Hash, notice uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.mode("reclaim", square.ModeStream); err != nil {
		return nil, err
	}
	if err := t.in("reclaim", Active); err != nil {
		return nil, err
	}
	if err := t.only("reclaim", "provider", l.Provider); err != nil {
		return nil, err
	}
	if notice < l.Order.Drain {
		return nil, fmt.Errorf("reclaim: notice is %d s; the order wants %d", notice, l.Order.Drain)
	}
	if notice > uint64(l.Ends-now)+l.Order.Drain {
		return nil, fmt.Errorf("reclaim: the lease ends by itself at %d, and drains for %d s, before the notice of %d s would", l.Ends, l.Order.Drain, notice)
	}
	t.drain(ReasonReclaimed, now+int64(notice))
	return t.commit()
}

func (t *step) drain(why Reason, until int64) {
	t.lease.State, t.lease.Reason, t.lease.Deadline = Draining, why, until
	t.event(EvDraining, square.Hash{})
}

// Abandon ends a lease for its provider at once, for AbandonBps of its bond.
func (m Machine) Abandon(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.in("abandon", Matched, Active); err != nil {
		return nil, err
	}
	if err := t.only("abandon", "provider", t.lease.Provider); err != nil {
		return nil, err
	}
	t.penalty(t.AbandonBps)
	t.failover()
	t.end(Failed, ReasonAbandoned)
	return t.commit()
}

// failover hands what is left of the escrow to a child lease with the same
// spec, or refunds it when the order allows no more. The child waits for a
// provider as long as its parent did at first.
func (t *step) failover() {
	l := t.lease
	bounty := t.bounty(l.Escrow)
	if l.Order.Failover == 0 || l.Escrow == bounty {
		t.refund()
		return
	}
	t.fromEscrow(Account(t.by), bounty)
	o := l.Order
	o.Failover--
	o.Expiry = t.wall() + l.Wait
	o.Escrow = l.Escrow
	o.JobValue = min(o.JobValue, o.Escrow)
	if o.Mode == square.ModeStream && l.Started != 0 {
		// A result starts over; of a stream the rest remains.
		o.Duration = uint64(max(1, l.Ends-t.now))
	}
	child := Lease{
		ID: ChildID(l.ID, l.Nth+1), Order: o, State: Open, Parent: l.ID, Nth: l.Nth + 1,
		Wait: l.Wait, Opened: t.now, Deadline: t.now + l.Wait, Escrow: o.Escrow,
	}
	l.Child = child.ID
	t.on(t.add(child, ""), func() {})
	t.fromEscrow(Escrow(child.ID), l.Escrow)
}
