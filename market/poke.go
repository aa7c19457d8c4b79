package market

import (
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
)

// Poke carries out what the deadline of a lease demands, and again if that
// only led to a state whose own deadline has come as well: one poke after a
// long enough silence ends any lease (I5). Who pokes earns a small bounty, out
// of the penalty where the provider is at fault and out of the buyer's refund
// elsewhere; the ledger itself pokes as the zero address and earns none.
func (m Machine) Poke(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.load(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if l.State.Terminal() {
		return nil, fmt.Errorf("poke: %w: lease %s ended, %s (%s)", ErrState, id.Short(), l.State, l.Reason)
	}
	if now < l.Deadline {
		return nil, fmt.Errorf("poke: %w: lease %s is %s until %d and it is %d", ErrEarly, id.Short(), l.State, l.Deadline, now)
	}
	for !l.State.Terminal() && now >= l.Deadline && t.err == nil {
		t.poked = true
		t.expire()
	}
	return t.commit()
}

// expire is the deadline exit of every state. A deadline that follows another
// counts from it and not from the poke.
func (t *step) expire() {
	l := t.lease
	if l.released() {
		state := Failed
		if l.Reason == ReasonCancelled {
			state = Cancelled
		}
		t.refund()
		t.end(state, l.Reason)
		return
	}
	switch l.State {
	case Open:
		if l.Drawn && l.Draw < t.Redraws {
			if !l.Invited.IsZero() {
				l.Passed = append(l.Passed[:len(l.Passed):len(l.Passed)], l.Invited)
			}
			l.Draw++
			l.Invited = square.Address{}
			l.Deadline += l.Wait
			t.event(EvRedrawn, l.Of)
			return
		}
		t.refund()
		t.end(Cancelled, ReasonExpired)
	case Matched:
		t.penalty(t.AbandonBps)
		t.failover()
		t.end(Failed, ReasonNoStart)
	case Active:
		switch {
		case l.Order.Mode == square.ModeResult:
			t.penalty(t.LateBps)
			t.failover()
			t.end(Failed, ReasonLate)
		case l.Deadline == l.Ends:
			t.drain(ReasonEnded, l.Ends+int64(l.Order.Drain))
		default:
			if l.Order.Silence > 0 {
				t.penalty(l.Order.Silence)
			}
			t.failover()
			t.end(Failed, ReasonIdle)
		}
	case Draining:
		if l.Reason == ReasonReclaimed {
			t.failover()
		} else {
			t.refund()
		}
		t.end(Settled, l.Reason)
	case Replicating:
		t.giveUpOn(l, ReasonNoReplicas)
	case Committed:
		t.waited()
	case Showing:
		if t.group() != nil {
			t.outvote(ReasonUnshown)
			return
		}
		t.penalty(t.LateBps)
		t.refund()
		t.end(Failed, ReasonLate)
	case Claimed:
		switch {
		case l.Of.IsZero() || l.Agreed == l.Receipt.Result:
			t.deliver(ReasonUnchallenged)
		case l.Agreed.IsZero():
			t.waited()
		default:
			t.outvote(ReasonOutvoted)
		}
	case Owed:
		t.slash(ReasonWithheld)
	case Disputed:
		if l.Dispute.Way == ByProof {
			t.slash(ReasonUnproven)
			return
		}
		t.adjourn()
		d := *l.Dispute
		if d.Draw >= t.Redraws {
			t.giveUp()
			return
		}
		d.Draw++
		for _, s := range d.Seats {
			if s.Verdict == "" && !slices.Contains(d.Stood, s.Judge) {
				d.Stood = append(d.Stood[:len(d.Stood):len(d.Stood)], s.Judge)
			}
		}
		d.Seats, d.Seated = nil, 0
		l.Dispute = &d
		l.Deadline += int64(t.Params.Verdict)
		t.event(EvRedrawn, d.Evidence)
	}
}

// Prune forgets a lease that ended at least Retention seconds ago. Its order
// cannot be opened again: it expired before.
func (m Machine) Prune(s Store, now int64, id square.Hash) ([]Event, error) {
	t, err := m.load(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if !l.State.Terminal() {
		return nil, fmt.Errorf("prune: %w: lease %s is %s", ErrState, id.Short(), l.State)
	}
	if now < l.Deadline {
		return nil, fmt.Errorf("prune: %w: lease %s is kept until %d and it is %d", ErrEarly, id.Short(), l.Deadline, now)
	}
	t.event(EvPruned, square.Hash{})
	return t.events, s.DropLease(id)
}
