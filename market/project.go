package market

import "github.com/torg-network/torg/square"

// Projection is how a lease would end.
type Projection struct {
	State  State      `json:"state"`
	Reason Reason     `json:"reason"`
	At     int64      `json:"at"`              // when, if nobody does anything before
	Child  *Lease     `json:"child,omitempty"` // the lease that would follow
	Moves  []Transfer `json:"moves,omitempty"`
}

// To is what the projection would move into a pot.
func (p Projection) To(pot Pot) (units uint64) {
	for _, m := range p.Moves {
		if m.To == pot {
			units += m.Amount.Units
		}
	}
	return units
}

// Project says what each party would receive if claims (none is fine) were
// redeemed now and then everyone fell silent. It runs the machine itself, so
// it cannot differ from what will happen, and changes nothing. An ended lease
// projects to itself.
func (m Machine) Project(s Store, now int64, id square.Hash, claims ...Claim) (Projection, error) {
	t, err := m.load(s, now, square.Address{}, id)
	if err != nil {
		return Projection{}, err
	}
	l := t.lease
	if len(claims) > 0 {
		if t, err = m.begin(s, now, square.Address{}, id); err != nil {
			return Projection{}, err
		}
		l = t.lease
		if err := t.redeem(claims, false); err != nil {
			return Projection{}, err
		}
	}
	at := l.Ended
	for !l.State.Terminal() && t.err == nil {
		t.now = max(t.now, l.Deadline)
		at = t.now
		t.expire()
	}
	p := Projection{State: l.State, Reason: l.Reason, At: at, Moves: t.moves}
	for _, s := range t.leases[1:] {
		if s.ID == l.Child {
			p.Child = s.Lease
		}
	}
	return p, t.err
}
