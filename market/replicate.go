package market

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
)

// Spares is how many replicas of an order may fail and be replaced.
const Spares = 3

// ReplicaID is the id of the nth replica, from 0, of a replicated order: SHA-256 of
// "torg replica", the order's id and n as a big-endian 64-bit number.
func ReplicaID(order square.Hash, n uint64) (id square.Hash) {
	h := sha256.New()
	h.Write([]byte("torg replica"))
	h.Write(order[:])
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Sum(id[:0])
	return id
}

// replicated reports whether an order is for one result that several providers
// come to.
func replicated(o square.Order) bool {
	return o.Mode == square.ModeResult && o.Policy == square.PolicyReplicate
}

// round is the longest that a replica takes from its opening until its result is
// shown, and a notice more.
func (t *step) round(g *Lease) int64 {
	start := int64(g.Order.Start)
	return max(g.Wait, int64(t.Redraws+1)*start) + 2*start + int64(g.Order.Duration) + int64(t.Notice)
}

// rounds is how many may follow each other: one, one for each spare, and one of the
// replicas that follow where the first differ.
const rounds = 1 + Spares + 1

// group is the replicated lease that the lease is a replica of, while that waits
// for its replicas; else nil.
func (t *step) group() *Lease {
	if t.lease.Of.IsZero() {
		return nil
	}
	if g := t.other(t.lease.Of); g != nil && g.State == Replicating {
		return g
	}
	return nil
}

// replicas are those that stand, in the order in which they were opened.
func (t *step) replicas(g *Lease) []*Lease {
	rs := make([]*Lease, 0, len(g.Replicas))
	for _, id := range g.Replicas {
		if r := t.other(id); r != nil {
			rs = append(rs, r)
		} else {
			t.fail(fmt.Errorf("replica %s of lease %s: %w", id.Short(), g.ID.Short(), ErrNotFound))
		}
	}
	return rs
}

// replica opens one more, out of the group's escrow. A drawn one is for a staker
// that the caller draws.
func (t *step) replica(g *Lease, drawn bool) {
	o := g.Order
	o.Escrow, o.Failover = o.JobValue, 0
	r := Lease{
		ID: ReplicaID(g.ID, g.Nth), Order: o, State: Open, Of: g.ID, Nth: g.Nth, Drawn: drawn,
		Wait: g.Wait, Opened: t.now, Escrow: o.Escrow,
	}
	if drawn {
		r.Wait = int64(o.Start)
	}
	r.Deadline = t.now + r.Wait
	t.on(g, func() {
		g.Nth++
		g.Replicas = append(slices.Clone(g.Replicas), r.ID)
		t.fromEscrow(Escrow(r.ID), r.Escrow)
	})
	t.on(t.add(r, ""), func() { t.event(EvOpened, g.ID) })
}

// joins refuses who may not run a replica: a party, who runs another of the order's
// or has failed one, a second one without a bond, and, where results of the others
// have been seen, everybody who was not drawn.
func (t *step) joins(q square.Quote) error {
	l := t.lease
	if l.Of.IsZero() {
		return nil
	}
	g := t.group()
	if t.err != nil {
		return t.err
	}
	if g == nil {
		return fmt.Errorf("quote: %w: the order of replica %s is over", ErrState, l.ID.Short())
	}
	if why := t.apart(g, q.Provider); why != "" {
		return fmt.Errorf("quote: %w: %v %s", ErrParty, q.Provider, why)
	}
	if l.Drawn && l.Invited != q.Provider {
		return fmt.Errorf("quote: %w: %v was not drawn for replica %s", ErrParty, q.Provider, l.ID.Short())
	}
	if q.Bond > 0 {
		return nil
	}
	if l.Drawn {
		return fmt.Errorf("quote: bond is 0; a replica for which its provider is drawn is bonded, with at least %d", t.LeaseBond(l.Order))
	}
	for _, r := range t.replicas(g) {
		if !r.Provider.IsZero() && r.Bonded == 0 {
			return fmt.Errorf("quote: bond is 0, and so is that of the order's other replica; bond at least %d", t.LeaseBond(l.Order))
		}
	}
	return t.err
}

// apart says why somebody may run no replica of a group; empty if it may.
func (t *step) apart(g *Lease, who square.Address) string {
	switch {
	case who == g.Order.Buyer || who == g.Order.Authorizer:
		return "is the buyer"
	case slices.Contains(g.Left, who):
		return "has failed a replica of the order"
	}
	for _, r := range t.replicas(g) {
		if r.Provider == who {
			return "runs another replica of the order"
		}
	}
	return ""
}

// Invite says who was drawn for a replica, and may match it. The caller has drawn it,
// with a beacon from after the replica was opened, among the stakers that Invitable
// admits.
func (m Machine) Invite(s Store, now int64, id square.Hash, who square.Address) ([]Event, error) {
	t, err := m.begin(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	admit, err := t.invitable()
	if err != nil {
		return nil, err
	}
	st := t.look(StakeKey{who, l.Order.Trade, l.Order.Denom})
	if t.err != nil {
		return nil, t.err
	}
	if why := admit(who, st.Stake); why != "" {
		return nil, fmt.Errorf("invite: %w: %v %s", ErrParty, who, why)
	}
	l.Invited = who
	t.event(EvInvited, l.Of)
	return t.commit()
}

// Invitable is what says why a staker cannot be drawn for a replica that waits for a
// draw; empty if it can.
func (m Machine) Invitable(s Store, now int64, id square.Hash) (func(square.Address, Stake) string, error) {
	t, err := m.begin(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	return t.invitable()
}

func (t *step) invitable() (func(square.Address, Stake) string, error) {
	l := t.lease
	if err := t.in("invite", Open); err != nil {
		return nil, err
	}
	g := t.group()
	if t.err != nil {
		return nil, t.err
	}
	if !l.Drawn || !l.Invited.IsZero() || g == nil {
		return nil, fmt.Errorf("invite: %w: lease %s does not wait for a draw", ErrState, l.ID.Short())
	}
	least := t.LeaseBond(l.Order)
	return func(who square.Address, st Stake) string {
		switch {
		case slices.Contains(l.Passed, who):
			return "was drawn before"
		case !st.Judge:
			return "has not enlisted"
		case st.Free() < least:
			return fmt.Sprintf("has less than %d free", least)
		}
		for _, r := range t.replicas(g) {
			if r.State == Open && r.Invited == who {
				return "was drawn for another replica of the order"
			}
		}
		return t.apart(g, who)
	}, t.err
}

// pledge fixes a replica's result without showing it.
func (t *step) pledge(ballot square.Hash) error {
	l := t.lease
	if err := t.in("commit", Active); err != nil {
		return err
	}
	if err := t.only("commit", "provider", l.Provider); err != nil {
		return err
	}
	g := t.group()
	switch {
	case t.err != nil:
		return t.err
	case g == nil:
		return fmt.Errorf("commit: %w: nobody else has a result to compare; claim", ErrState)
	case ballot.IsZero():
		return fmt.Errorf("commit: the ballot is missing")
	}
	l.Ballot = ballot
	l.State, l.Deadline = Committed, g.Deadline
	t.event(EvCommitted, g.ID)
	t.call(g)
	return nil
}

// call has replicas show their results, once all have committed to theirs.
func (t *step) call(g *Lease) {
	rs := t.replicas(g)
	for _, r := range rs {
		if r.State != Committed && r.State != Showing && r.State != Claimed {
			return
		}
	}
	for _, r := range rs {
		if r.State == Committed {
			t.on(r, func() { t.show(t.now) })
		}
	}
}

// show asks a replica for the result that it has committed to.
func (t *step) show(at int64) {
	l := t.lease
	l.State, l.Deadline = Showing, at+int64(l.Order.Start)
	t.event(EvCalled, l.Of)
}

// Show is the claim of a replica, once all have committed: ballot is what
// square.Commitment gives for the receipt and its signature (the caller has checked
// both), and must be what the replica's provider has committed to.
func (m Machine) Show(s Store, now int64, by square.Address, id square.Hash, r square.Receipt, ballot square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if err := t.in("show", Showing); err != nil {
		return nil, err
	}
	if ballot != l.Ballot {
		return nil, fmt.Errorf("show: the receipt is not what %v committed to", l.Provider)
	}
	if err := t.receipt(r); err != nil {
		return nil, err
	}
	g := t.group()
	l.State, l.Reason = Claimed, ""
	if g == nil {
		t.alone(now)
	} else {
		l.Deadline = g.Deadline
	}
	t.event(EvClaimed, r.Result)
	if g != nil {
		t.compare(g)
	}
	return t.commit()
}

// alone makes the claim of a replica that nothing is compared with an ordinary one.
func (t *step) alone(at int64) {
	l := t.lease
	l.Agreed = l.Receipt.Result
	l.Deadline = at + int64(l.Order.Challenge)
}

// compare decides on the results, once all are in.
func (t *step) compare(g *Lease) {
	rs := t.replicas(g)
	var results []square.Hash
	var peers []square.Address
	for _, r := range rs {
		if r.State != Claimed {
			return
		}
		results = append(results, r.Receipt.Result)
		peers = append(peers, r.Provider)
	}
	a := Agree(results)
	switch {
	case a.Done:
	case len(rs) < a.Want && t.now+t.round(g) <= g.Deadline:
		for range a.Want - len(rs) {
			t.replica(g, true)
		}
		return
	default:
		t.giveUpOn(g, ReasonDisagreed)
		return
	}
	for _, r := range rs {
		t.on(r, func() {
			r.Agreed, r.Peers, r.Deadline = a.Result, peers, t.now
			if r.Receipt.Result == a.Result {
				r.Deadline += int64(r.Order.Challenge)
			}
			t.event(EvCompared, a.Result)
		})
	}
	t.on(g, func() {
		g.Agreed = a.Result
		t.refund()
		t.end(Settled, ReasonReplicated)
	})
}

// compared refuses what may be done to a replica's claim only once it is known
// whether it is the agreed one.
func (t *step) compared(verb string) error {
	if l := t.lease; !l.Of.IsZero() && l.Agreed.IsZero() {
		return fmt.Errorf("%s: %w: the result of replica %s has not been compared with the others", verb, ErrState, l.ID.Short())
	}
	return nil
}

// replace opens another replica for one that has ended without a result, or gives
// up. Who could have seen the others' results must have been drawn.
func (t *step) replace(g *Lease) {
	l := t.lease
	t.on(g, func() {
		g.Replicas = slices.DeleteFunc(slices.Clone(g.Replicas), func(id square.Hash) bool { return id == l.ID })
		if !l.Provider.IsZero() {
			g.Left = append(slices.Clone(g.Left), l.Provider)
		}
	})
	rs := t.replicas(g)
	seen := l.Drawn || slices.ContainsFunc(rs, func(r *Lease) bool { return r.State == Claimed })
	if failed := g.Nth - uint64(len(rs)); failed > Spares || t.now+t.round(g) > g.Deadline {
		t.giveUpOn(g, ReasonNoReplicas)
		return
	}
	t.replica(g, seen)
}

// giveUpOn ends a group without an agreement. Where there was no comparison, a
// replica that is bonded goes on as an ordinary result. Every other one ends
// unpaid, at its next poke.
func (t *step) giveUpOn(g *Lease, why Reason) {
	at := min(t.now, g.Deadline)
	if len(g.Replicas) > square.Replicas {
		why = ReasonDisagreed // the first have differed
	}
	for _, r := range t.replicas(g) {
		t.on(r, func() {
			switch {
			case why != ReasonNoReplicas || r.Bonded == 0:
				t.release(why, at)
			case r.State == Committed:
				t.show(at)
			case r.State == Claimed:
				t.alone(at)
				t.event(EvCompared, r.Agreed)
			}
		})
	}
	t.on(g, func() {
		t.refund()
		t.end(Failed, why)
	})
}

// dissolve cancels a replicated order that nobody works on.
func (t *step) dissolve() ([]Event, error) {
	g := t.lease
	rs := t.replicas(g)
	for _, r := range rs {
		if r.State != Open || r.Drawn {
			return nil, fmt.Errorf("cancel: %w: replica %s of lease %s is under way", ErrState, r.ID.Short(), g.ID.Short())
		}
	}
	t.refund()
	t.end(Cancelled, ReasonCancelled)
	for _, r := range rs {
		t.on(r, func() { t.release(ReasonCancelled, t.now) })
	}
	return t.commit()
}

// release lets a replica end, for a reason that is not its own.
func (t *step) release(why Reason, at int64) {
	t.lease.Reason, t.lease.Deadline = why, at
	t.event(EvReleased, t.lease.Of)
}

// released reports whether a replica is to end for such a reason.
func (l Lease) released() bool {
	return l.Reason == ReasonDisagreed || l.Reason == ReasonNoReplicas || l.Reason == ReasonCancelled
}

// waited is the deadline of a replica that waits for others: it is its group's.
func (t *step) waited() {
	g := t.group()
	if g == nil {
		t.fail(fmt.Errorf("replica %s waits for lease %s: %w", t.lease.ID.Short(), t.lease.Of.Short(), ErrNotFound))
		return
	}
	t.giveUpOn(g, ReasonNoReplicas)
}

// outvote takes the whole bond of a replica whose result is not the agreed one, or
// is not shown; of one without a bond, what its provider has in its stake and not
// locked for other work, also where that is on its way out. The buyer gets at most
// the job value of it and the rest is burned.
func (t *step) outvote(why Reason) {
	l := t.lease
	t.poked = false // all of it is spoken for
	t.refund()
	t.fromBond(Account(l.Order.Buyer), min(l.Bond, l.Order.JobValue))
	t.fromBond(Burned, l.Bond)
	t.forfeit()
	t.end(Slashed, why)
}

// forfeit takes what a replica's provider without a bond has to lose.
func (t *step) forfeit() {
	l := t.lease
	if l.Of.IsZero() || l.Bonded > 0 {
		return
	}
	s := t.bonded()
	lost := s.Total - s.Locked
	s.Total, s.Unbonding, s.Until = s.Locked, 0, 0
	buyer := min(lost, l.Order.JobValue)
	pot := StakePot(l.Provider, l.Order.Trade)
	t.move(pot, Account(l.Order.Buyer), buyer)
	t.move(pot, Burned, lost-buyer)
}
