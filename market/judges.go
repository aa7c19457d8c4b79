package market

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/torg-network/torg/square"
)

// Enlist is a staker's word that it sits as a judge in its trade when it is drawn
// (or no longer; seats it has are kept). It risks SeatBond of its stake a seat.
func (m Machine) Enlist(s Store, now int64, key StakeKey, judge bool) ([]Event, error) {
	st, err := s.Stake(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("enlist: stake: %w", err)
	case st.Judge == judge:
		return nil, fmt.Errorf("enlist: %w: it is so already", ErrState)
	case judge && st.Free() < max(1, m.SeatBond):
		return nil, fmt.Errorf("enlist: %w: a judge has at least %d free in its stake in %s, and there are %d", ErrFunds, max(1, m.SeatBond), key.Trade, st.Free())
	}
	st.Judge = judge
	kind := EvDelisted
	if judge {
		kind = EvEnlisted
	}
	return stakeEvent(s, now, kind, key, st)
}

// Candidate is a judge that may be drawn.
type Candidate struct {
	Judge  square.Address
	Weight uint64 // its stake
	Most   uint64 // seats that it can bond
}

// Draw picks the judge of every seat, one after the other and each with a chance in
// proportion to its weight; the same may be drawn for several, as far as it can bond
// them. So it does not matter into how many judges stake is cut up: who has few
// large ones sits as often as who has many small ones, and those who have a share p
// of all stake hold k of n seats with the chance of k heads in n throws of a coin
// that shows heads with chance p. There are fewer seats where the candidates can
// bond no more. It is a function of the beacon and of the candidates, in whatever
// order they come.
func Draw(beacon square.Hash, candidates []Candidate, seats int) []square.Address {
	cs := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool { return c.Weight == 0 || c.Most == 0 })
	slices.SortFunc(cs, func(a, b Candidate) int { return bytes.Compare(a.Judge[:], b.Judge[:]) })
	var total uint64
	for i := range cs {
		cs[i].Weight = min(cs[i].Weight, square.MaxUnits/uint64(len(cs)))
		total += cs[i].Weight
	}
	drawn := make([]square.Address, 0, seats)
	for n := 0; n < seats && total > 0; n++ {
		x := uniform(beacon, uint64(n), total)
		i := 0
		for ; x >= cs[i].Weight; i++ {
			x -= cs[i].Weight
		}
		drawn = append(drawn, cs[i].Judge)
		if cs[i].Most--; cs[i].Most == 0 {
			total -= cs[i].Weight
			cs = slices.Delete(cs, i, i+1)
		}
	}
	return drawn
}

// uniform is a number below n: 128 bits of the beacon for the purpose, modulo n.
func uniform(beacon square.Hash, purpose, n uint64) uint64 {
	h := square.Label(beacon, binary.BigEndian.AppendUint64([]byte("draw "), purpose))
	hi, lo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	return mod128(hi, lo, n)
}

// Quorum is how many of so many seats decide: all of them where judges could not
// bond every seat, else two thirds. Of 32 seats 22 decide: who holds a quarter of the
// stake decides a draw by itself once in 4.2 million, and keeps one from deciding in
// 15 of 100; a third, once in 22,000 and in 52 of 100 (TestCollusion).
func (p Params) Quorum(seats int) int {
	if uint64(seats) < p.Seats {
		return seats
	}
	return (2*seats + 2) / 3
}

// Seat seats a draw of judges in a dispute. The caller has drawn them, with a
// beacon from after the challenge, among those that have enlisted, and names one as
// often as it was drawn; parties, judges that were silent in an earlier draw and
// judges without a bond to lose for every seat are refused.
func (m Machine) Seat(s Store, now int64, id square.Hash, judges []square.Address) ([]Event, error) {
	t, err := m.begin(s, now, square.Address{}, id)
	if err != nil {
		return nil, err
	}
	if err := t.before("seat", ByJudges); err != nil {
		return nil, err
	}
	d := *t.lease.Dispute
	switch {
	case d.Seated != 0:
		return nil, fmt.Errorf("seat: %w: judges sit in lease %s", ErrState, id.Short())
	case len(judges) == 0 || uint64(len(judges)) > m.Seats:
		return nil, fmt.Errorf("seat: %d judges: want 1 to %d", len(judges), m.Seats)
	}
	d.Seats = make([]Seat, len(judges))
	for i, j := range judges {
		if why := t.barred(j); why != "" {
			return nil, fmt.Errorf("seat: %w: judge %v %s", ErrParty, j, why)
		}
		st := t.change(t.judge(j))
		if t.err != nil {
			return nil, t.err
		}
		if !st.Judge || st.Free() < m.SeatBond {
			return nil, fmt.Errorf("seat: %w: judge %v has not enlisted, or has less than %d free for a seat", ErrFunds, j, m.SeatBond)
		}
		st.Locked += m.SeatBond
		d.Seats[i] = Seat{Judge: j, Bond: m.SeatBond}
	}
	d.Seated = now
	t.lease.Dispute = &d
	t.lease.Deadline = now + int64(m.Params.Verdict)
	t.event(EvSeated, d.Evidence)
	return t.commit()
}

// Barred says why somebody may not judge a lease's dispute; empty if it may.
func (l Lease) Barred(j square.Address) string {
	switch {
	case j == l.Order.Buyer || j == l.Order.Authorizer:
		return "is the buyer"
	case j == l.Provider:
		return "is the provider"
	case l.Dispute != nil && j == l.Dispute.Challenger:
		return "is the challenger"
	case slices.Contains(l.Peers, j):
		return "ran another replica"
	case l.Dispute != nil && slices.Contains(l.Dispute.Stood, j):
		return "was silent in an earlier draw"
	}
	return ""
}

func (t *step) barred(j square.Address) string { return t.lease.Barred(j) }

// judge is the stake that a judge's seat is bonded in.
func (t *step) judge(j square.Address) StakeKey {
	return StakeKey{j, t.lease.Order.Trade, t.lease.Order.Denom}
}

// seats finds the seats of who asks, which are all alike.
func (t *step) seats(verb string) (d Dispute, own []*Seat, err error) {
	if err := t.before(verb, ByJudges); err != nil {
		return d, nil, err
	}
	d = *t.lease.Dispute
	d.Seats = slices.Clone(d.Seats)
	for i := range d.Seats {
		if d.Seats[i].Judge == t.by {
			own = append(own, &d.Seats[i])
		}
	}
	if len(own) > 0 {
		return d, own, nil
	}
	return d, nil, fmt.Errorf("%s: %w: %v has no seat in lease %s", verb, ErrParty, t.by, t.lease.ID.Short())
}

// Votes is when judges begin to show their votes: half of their time is for
// committing to them.
func (d Dispute) Votes(p Params) int64 { return d.Seated + int64(p.Verdict/2) }

// Commit fixes a judge's vote without showing it; ballot is what square.Ballot
// gives. It may be changed until votes are shown. The provider of a replica commits to
// its result in the same way, once; ballot is what square.Commitment gives.
func (m Machine) Commit(s Store, now int64, by square.Address, id, ballot square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if !t.lease.Of.IsZero() && t.lease.Dispute == nil {
		if err := t.pledge(ballot); err != nil {
			return nil, err
		}
		return t.commit()
	}
	d, seats, err := t.seats("commit")
	if err != nil {
		return nil, err
	}
	if votes := d.Votes(m.Params); now >= votes {
		return nil, fmt.Errorf("commit: %w: votes are shown since %d and it is %d", ErrLate, votes, now)
	}
	if ballot.IsZero() {
		return nil, fmt.Errorf("commit: the ballot is missing")
	}
	for _, seat := range seats {
		seat.Ballot = ballot
	}
	t.lease.Dispute = &d
	t.event(EvCommitted, d.Evidence)
	return t.commit()
}

// Vote shows what a judge has committed to. Where a quorum agrees, that is the
// verdict.
func (m Machine) Vote(s Store, now int64, by square.Address, id square.Hash, v square.Verdict, secret square.Hash) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	d, seats, err := t.seats("vote")
	if err != nil {
		return nil, err
	}
	switch votes := d.Votes(m.Params); {
	case now < votes:
		return nil, fmt.Errorf("vote: %w: others may still commit until %d and it is %d", ErrEarly, votes, now)
	case !v.Valid():
		return nil, fmt.Errorf("vote: verdict %q: want ok, fraud or unavailable", v)
	case v == square.VerdictUnavailable && d.Owes.IsZero():
		return nil, fmt.Errorf("vote: the evidence is on the ledger; vote ok or fraud")
	case seats[0].Verdict != "":
		return nil, fmt.Errorf("vote: %w: %v has voted", ErrUsed, by)
	case seats[0].Ballot != square.Ballot(id, by, d.Draw, v, secret):
		return nil, fmt.Errorf("vote: it is not what %v committed to", by)
	}
	for _, seat := range seats {
		seat.Verdict = v
	}
	t.lease.Dispute = &d
	n := 0
	for _, s := range d.Seats {
		if s.Verdict == v {
			n++
		}
	}
	t.event(EvVoted, d.Evidence)
	if n >= t.Quorum(len(d.Seats)) {
		t.lease.Dispute.Found = v
		t.adjourn()
		t.verdict(v)
	}
	return t.commit()
}

// adjourn frees the judges' stakes. Who has not committed to a vote, or has not
// shown it when the time for it is over, loses its seat's bond: to the two sides, as
// far as the dispute has cost them, where the draw found nothing; else it is burned.
func (t *step) adjourn() {
	l, d := t.lease, *t.lease.Dispute
	var costs []*uint64
	var whose []Pot
	if d.Found == "" {
		challenger, provider := d.Cost, d.Cost
		costs, whose = []*uint64{&challenger, &provider}, []Pot{Account(d.Challenger), Account(l.Provider)}
	}
	for _, s := range d.Seats {
		key := t.judge(s.Judge)
		st := t.change(key)
		st.Locked -= s.Bond
		if s.Verdict != "" || !s.Ballot.IsZero() && t.now < l.Deadline {
			continue
		}
		lost, pot := s.Bond, StakePot(s.Judge, key.Trade)
		st.Total -= lost
		for i := range costs {
			n := min(lost, *costs[i])
			lost, *costs[i] = lost-n, *costs[i]-n
			t.move(pot, whose[i], n)
		}
		t.move(pot, Burned, lost)
	}
	if d.Found == "" && len(costs) > 0 {
		d.Cost = *costs[0] // what is still to be given back
	}
	l.Dispute = &d
}

// payJudges pays those that voted for what was found, out of the loser's bond as
// far as it goes.
func (t *step) payJudges(left func() uint64, from func(Pot, uint64)) {
	d := *t.lease.Dispute
	if d.Found == "" {
		return
	}
	for _, s := range d.Seats {
		if s.Verdict == d.Found {
			from(Account(s.Judge), min(left(), t.JudgeFee))
		}
	}
}

// repayJudges gives each judge that voted for what was found what its ballots cost
// more than its fee reckons with, as far as the loser's bond goes.
func (t *step) repayJudges(left func() uint64, from func(Pot, uint64)) {
	d := *t.lease.Dispute
	if d.Found == "" {
		return
	}
	paid := map[square.Address]bool{}
	for _, s := range d.Seats {
		if s.Verdict == d.Found && !paid[s.Judge] {
			paid[s.Judge] = true
			from(Account(s.Judge), min(left(), t.BallotCost))
		}
	}
}

func mod128(hi, lo, n uint64) uint64 {
	_, r := bits.Div64(hi%n, lo, n)
	return r
}
