package market

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Charge is what somebody brings against work. The caller has checked the
// evidence's form and signature.
type Charge struct {
	Way      Way // ByJudges, also where the ledger judges at once; ByProof
	Evidence square.Hash
	Value    uint64         // what the work was charged at
	Part     uint64         // ByProof: what the provider is to prove
	Owes     square.Address // who must have the bytes that the evidence names by digest only; zero: they are here
	Cost     uint64         // fees that bringing it took
}

// Challenge disputes work: a claimed result, or, in a stream, a piece of work
// for which there is a signed receipt. It stores the evidence's hash, takes
// bond, at least what LeastBond says, from who asks, and stops every other clock
// of the lease. The same evidence is heard once, and after Hearings disputes only
// the buyer is heard: a provider could otherwise hold a buyer's money for ever by
// challenging itself through others, who lose their bond to it.
func (m Machine) Challenge(s Store, now int64, by square.Address, id square.Hash, c Charge, bond uint64) ([]Event, error) {
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
	if err := t.compared("challenge"); err != nil {
		return nil, err
	}
	if by == l.Provider {
		return nil, fmt.Errorf("challenge: %w: the provider cannot challenge its own work", ErrParty)
	}
	if l.Heard >= m.Hearings && by != l.Order.Buyer {
		return nil, fmt.Errorf("challenge: %w: lease %s was upheld %d times; only the buyer may challenge it again", ErrParty, id.Short(), l.Heard)
	}
	switch {
	case c.Way != ByJudges && c.Way != ByProof:
		return nil, fmt.Errorf("challenge: way %q: want %s or %s", c.Way, ByJudges, ByProof)
	case c.Evidence.IsZero():
		return nil, fmt.Errorf("challenge: evidence is missing")
	case !c.Owes.IsZero() && c.Owes != by && c.Owes != l.Provider:
		return nil, fmt.Errorf("challenge: %w: only the challenger or the provider can owe the evidence's bytes", ErrParty)
	case c.Value > l.Funded():
		return nil, fmt.Errorf("challenge: value %d is more than the lease's escrow ever was, %d", c.Value, l.Funded())
	}
	heard := hearing(id, c)
	// What judges have heard is not to be proven afterwards: the proof could show
	// them wrong when their bonds are gone.
	for _, h := range []square.Hash{heard, hearing(id, Charge{Way: ByJudges, Evidence: c.Evidence})} {
		if used, err := s.Used(h); err != nil {
			return nil, fmt.Errorf("challenge: evidence: %w", err)
		} else if used {
			return nil, fmt.Errorf("challenge: evidence %s: %w: it has been heard", c.Evidence.Short(), ErrUsed)
		}
	}
	t.uses = append(t.uses, use{heard, now + int64(t.Retention)})
	t.dispute("challenge", Dispute{Way: c.Way, Evidence: c.Evidence, Value: c.Value, Part: c.Part, Owes: c.Owes, Cost: min(c.Cost, t.DisputeCost)}, bond)
	l.State = Disputed
	t.event(EvChallenged, c.Evidence)
	return t.commit()
}

// dispute stops the lease's clocks and takes the bond of who asks.
func (t *step) dispute(verb string, d Dispute, bond uint64) {
	l := t.lease
	if least := t.LeastBond(l.Order, d.Value); bond < least {
		t.fail(fmt.Errorf("%s: bond is %d; at least %d", verb, bond, least))
		return
	}
	if bond > square.MaxUnits {
		t.fail(fmt.Errorf("%s: bond is larger than any supply", verb))
		return
	}
	d.Challenger, d.Bond = t.by, bond
	d.Prior, d.PriorTime, d.Since = l.State, l.Deadline, t.now
	l.Dispute = &d
	t.move(Account(t.by), ChallengeBond(l.ID), bond)
	l.Deadline = t.now + int64(t.Params.Answer)
	if d.Way == ByJudges {
		l.Deadline = t.now + int64(t.Params.Verdict)
	}
}

// LeastBond is the least bond with which work charged at value may be
// challenged in a lease that fills o: what a dispute may cost, at what ballots cost
// now, and a share of what is in dispute, rounded up.
func (p Params) LeastBond(o square.Order, value uint64) uint64 {
	v := max(value, o.JobValue)
	return max(1, p.Dispute()+p.Seats*p.BallotCost, v-square.Share(v, 10_000-p.ChallengeBps))
}

// hearing is what is remembered of a charge. It names the lease, so that nobody
// can use up another lease's evidence, and the part that is to be proven.
func hearing(lease square.Hash, c Charge) square.Hash {
	b := append(lease[:], c.Evidence[:]...)
	if c.Way == ByProof {
		b = binary.BigEndian.AppendUint64(b, c.Part)
	}
	return sha256.Sum256(b)
}

// Judge ends a dispute at once, with the ledger's own verdict: it has done the
// work again, or has looked at what needs no work.
func (m Machine) Judge(s Store, now int64, id square.Hash, v square.Verdict) ([]Event, error) {
	t, err := m.begin(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	if err := t.before("judge", ByJudges); err != nil {
		return nil, err
	}
	if t.lease.Dispute.Seated != 0 {
		return nil, fmt.Errorf("judge: %w: judges sit in lease %s", ErrState, id.Short())
	}
	if v != square.VerdictOK && v != square.VerdictFraud {
		return nil, fmt.Errorf("judge: verdict %q: want ok or fraud", v)
	}
	t.verdict(v)
	return t.commit()
}

// Prove ends a dispute that waits for the provider's proof with one that the
// caller has verified. Who carries it does not matter.
func (m Machine) Prove(s Store, now int64, by square.Address, id square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.before("prove", ByProof); err != nil {
		return nil, err
	}
	t.uphold()
	return t.commit()
}

// before refuses a lease that is not in a dispute of one way.
func (t *step) before(verb string, w Way) error {
	if err := t.in(verb, Disputed); err != nil {
		return err
	}
	if d := t.lease.Dispute; d.Way != w {
		return fmt.Errorf("%s: %w: the dispute in lease %s is decided by %s", verb, ErrState, t.lease.ID.Short(), map[Way]string{ByJudges: "judges", ByProof: "a proof", ByAnswer: "an answer"}[d.Way])
	}
	return nil
}

// verdict ends a dispute as its judges, or the ledger, found.
func (t *step) verdict(v square.Verdict) {
	d := t.lease.Dispute
	switch {
	case v == square.VerdictFraud:
		t.slash(ReasonFraud)
	case v == square.VerdictUnavailable && d.Owes == t.lease.Provider:
		t.slash(ReasonWithheld)
	default:
		t.uphold()
	}
}

// uphold gives what is left of the challenger's bond to the provider. A result is
// paid; a stream goes on with its clocks moved by the time the dispute took.
func (t *step) uphold() {
	l := t.lease
	t.payJudges(func() uint64 { return l.Dispute.Bond }, t.fromChallenge)
	t.repayJudges(func() uint64 { return l.Dispute.Bond }, t.fromChallenge)
	t.fromChallenge(Account(l.Provider), l.Dispute.Bond)
	if l.Dispute.Prior == Claimed {
		t.deliver(ReasonUpheld)
		return
	}
	t.resume(EvUpheld)
}

// resume lets a stream go on where it was before the dispute. A dispute that was
// given up ended at its deadline, whenever somebody pokes.
func (t *step) resume(kind Kind) {
	l, d := t.lease, t.lease.Dispute
	at := min(t.now, l.Deadline)
	stood := at - d.Since
	l.Touched += stood
	l.Ends += stood
	l.Deadline = d.PriorTime + stood
	// Who must act again has its notice again: challenges in a row cannot eat it up.
	if least := at + int64(t.Notice); l.Deadline < least {
		if d.Prior == Active {
			l.Touched = max(l.Touched, least-int64(l.Order.Idle))
			l.Deadline = l.running()
		} else {
			l.Deadline = least
		}
	}
	l.Heard++
	l.State, l.Dispute = d.Prior, nil
	t.event(kind, d.Evidence)
}

// slash takes the whole bond: of it, first what the dispute has cost the
// challenger and the judges, then what the buyer has paid, then what ballots cost
// more than the judges' fee. The buyer is refunded
// what is left of the escrow as well. ReporterBps of what then is left, rounded
// down, is the challenger's, and the rest is burned.
func (t *step) slash(why Reason) {
	l, d := t.lease, t.lease.Dispute
	t.poked = false // all of the bond is spoken for, and all of the refund the buyer's
	t.refund()
	t.fromBond(Account(d.Challenger), min(l.Bond, d.Cost))
	t.payJudges(func() uint64 { return l.Bond }, t.fromBond)
	t.fromBond(Account(l.Order.Buyer), min(l.Bond, l.Paid))
	t.repayJudges(func() uint64 { return l.Bond }, t.fromBond)
	t.fromBond(Account(d.Challenger), square.Share(l.Bond, t.ReporterBps))
	t.fromBond(Burned, l.Bond)
	t.forfeit()
	t.fromChallenge(Account(d.Challenger), l.Dispute.Bond)
	t.end(Slashed, why)
}

// giveUp ends a dispute that no draw of judges has found on: what was signed
// stands, and the challenger has its bond back.
func (t *step) giveUp() {
	l := t.lease
	t.poked = false // nobody here is at fault
	t.fromChallenge(Account(l.Dispute.Challenger), l.Dispute.Bond)
	if l.Dispute.Prior == Claimed {
		t.deliver(ReasonJudgesSilent)
		return
	}
	t.resume(EvGivenUp)
}

// fromChallenge takes units, of which the challenger's bond has enough, out of it.
func (t *step) fromChallenge(to Pot, units uint64) {
	d := *t.lease.Dispute // a copy: the store's own must not change before commit
	d.Bond -= units
	t.lease.Dispute = &d
	t.move(ChallengeBond(t.lease.ID), to, units)
}
