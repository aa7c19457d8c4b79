package market

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Challenge disputes work: a claimed result, or, in a stream, a piece of work
// for which there is a signed receipt. It stores the evidence's hash, takes
// bond, at least ChallengeBps of the larger of value and the order's job
// value, rounded up, from who asks, and stops every other clock of the lease.
// The same evidence is heard once, and after Hearings upheld disputes only the
// buyer is heard: a provider could otherwise hold a buyer's money for ever by
// challenging itself through others, who lose their bond to it. The caller has
// checked the evidence's form; value is what the work was charged at.
//
// Without prove the dispute waits for judges. With it, it waits for the
// provider to prove that part of the work, and each part is heard once.
func (m Machine) Challenge(s Store, now int64, by square.Address, id, evidence square.Hash, value, bond uint64, prove *uint64) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	states := []State{Claimed}
	if l.Order.Mode == square.ModeStream {
		states = []State{Active, Draining}
	}
	if err := t.in("challenge", states...); err != nil {
		return nil, err
	}
	if by == l.Provider {
		return nil, fmt.Errorf("challenge: %w: the provider cannot challenge its own work", ErrParty)
	}
	if l.Heard >= m.Hearings && by != l.Order.Buyer {
		return nil, fmt.Errorf("challenge: %w: lease %s was upheld %d times; only the buyer may challenge it again", ErrParty, id.Short(), l.Heard)
	}
	if evidence.IsZero() {
		return nil, fmt.Errorf("challenge: evidence is missing")
	}
	if value > l.Order.Escrow {
		return nil, fmt.Errorf("challenge: value %d is more than the lease's escrow ever was, %d", value, l.Order.Escrow)
	}
	if least := m.LeastBond(l.Order, value); bond < least {
		return nil, fmt.Errorf("challenge: bond is %d; at least %d", bond, least)
	}
	if bond > square.MaxUnits {
		return nil, fmt.Errorf("challenge: bond is larger than any supply")
	}
	heard := hearing(id, evidence, prove)
	if used, err := s.Used(heard); err != nil {
		return nil, fmt.Errorf("challenge: evidence: %w", err)
	} else if used {
		return nil, fmt.Errorf("challenge: evidence %s: %w: it has been heard", evidence.Short(), ErrUsed)
	}
	t.uses = append(t.uses, use{heard, now + int64(t.Retention)})
	l.Dispute = &Dispute{
		Challenger: by, Bond: bond, Evidence: evidence, Value: value,
		Prior: l.State, PriorTime: l.Deadline, Since: now,
	}
	t.move(Account(by), ChallengeBond(id), bond)
	l.State = Disputed
	l.Deadline = now + int64(t.Params.Verdict)
	if prove != nil {
		l.Dispute.Prove, l.Dispute.Part = true, *prove
		l.Deadline = now + int64(t.Params.Answer)
	}
	t.event(EvChallenged, evidence)
	return t.commit()
}

// LeastBond is the least bond with which work charged at value may be
// challenged in a lease that fills o.
func (p Params) LeastBond(o square.Order, value uint64) uint64 {
	v := max(value, o.JobValue)
	return max(1, v-square.Share(v, 10_000-p.ChallengeBps))
}

// hearing is what is remembered of evidence. It names the lease, so that
// nobody can use up another lease's evidence, and the part that is to be proven.
func hearing(lease, evidence square.Hash, prove *uint64) (h square.Hash) {
	b := append(lease[:], evidence[:]...)
	if prove != nil {
		b = binary.BigEndian.AppendUint64(b, *prove)
	}
	return sha256.Sum256(b)
}

// Judge ends a dispute with the judges' verdict. The caller has checked that
// it is that of the draw that sits, and that the evidence was opened.
func (m Machine) Judge(s Store, now int64, id square.Hash, v square.Verdict) ([]Event, error) {
	t, err := m.begin(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	if err := t.in("judge", Disputed); err != nil {
		return nil, err
	}
	if t.lease.Dispute.Prove {
		return nil, fmt.Errorf("judge: %w: lease %s waits for its provider's proof", ErrState, id.Short())
	}
	switch v {
	case square.VerdictOK:
		t.uphold()
	case square.VerdictFraud:
		t.slash(ReasonFraud)
	default:
		return nil, fmt.Errorf("judge: verdict %q: want ok or fraud", v)
	}
	return t.commit()
}

// Prove ends a dispute that waits for the provider's proof with one that the
// caller has verified. Who carries it does not matter.
func (m Machine) Prove(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.in("prove", Disputed); err != nil {
		return nil, err
	}
	if !t.lease.Dispute.Prove {
		return nil, fmt.Errorf("prove: %w: lease %s is before judges", ErrState, id.Short())
	}
	t.uphold()
	return t.commit()
}

// uphold gives the challenger's bond to the provider. A result is paid; a
// stream goes on with its clocks moved by the time the dispute took.
func (t *step) uphold() {
	l, d := t.lease, t.lease.Dispute
	t.fromChallenge(Account(l.Provider))
	if d.Prior == Claimed {
		t.deliver(ReasonUpheld)
		return
	}
	stood := t.now - d.Since
	l.Touched += stood
	l.Ends += stood
	l.Deadline = d.PriorTime + stood
	l.Heard++
	l.State, l.Dispute = d.Prior, nil
	t.event(EvUpheld, d.Evidence)
}

// slash takes the whole bond. The buyer is refunded what is left of the escrow
// and, out of the bond, made whole for what it has paid; ReporterBps of what
// then is left, rounded down, is the challenger's, and the rest is burned.
func (t *step) slash(why Reason) {
	l, d := t.lease, t.lease.Dispute
	t.refund()
	t.fromBond(Account(l.Order.Buyer), min(l.Bond, l.Paid))
	t.fromBond(Account(d.Challenger), square.Share(l.Bond, t.ReporterBps))
	t.fromBond(Burned, l.Bond)
	t.fromChallenge(Account(d.Challenger))
	t.end(Slashed, why)
}

// giveUp ends a dispute that no draw of judges has found on: everyone gets
// their own back.
func (t *step) giveUp() {
	t.poked = false // nobody here is at fault
	t.refund()
	t.fromChallenge(Account(t.lease.Dispute.Challenger))
	t.end(Failed, ReasonJudgesSilent)
}

func (t *step) fromChallenge(to Pot) {
	d := *t.lease.Dispute // a copy: the store's own must not change before commit
	t.move(ChallengeBond(t.lease.ID), to, d.Bond)
	d.Bond = 0
	t.lease.Dispute = &d
}
