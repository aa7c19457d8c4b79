package market

import (
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
)

// Claim asks for what a lane has earned. The caller has checked that the
// order's authorizer signed a voucher on the lane's channel for at least
// Cumulative.
type Claim struct {
	Lane       uint16 `json:"lane"`
	Cumulative uint64 `json:"cumulative,string"` // base units on this lane since the lease began
}

// Redeem pays a stream's provider what its claims add to what their lanes have
// been paid. Anyone may carry the vouchers; the money goes to the provider
// alone. A claim that is not more than its lane has been paid changes nothing,
// and if none is, there is no event and no error (I7).
//
// While a piece of work is disputed, all but its value is paid.
//
// final is the provider's word that no more is to come. It settles at once a
// lease that drains because the buyer closed it or its time was up.
func (m Machine) Redeem(s Store, now int64, by square.Address, id square.Hash, claims []Claim, final bool) ([]Event, error) {
	t, err := m.begin(s, now, by, id)
	if err != nil {
		return nil, err
	}
	if err := t.redeem(claims, final); err != nil {
		return nil, err
	}
	if len(t.events) == 0 && t.err == nil {
		return nil, nil
	}
	return t.commit()
}

func (t *step) redeem(claims []Claim, final bool) error {
	l := t.lease
	if err := t.mode("redeem", square.ModeStream); err != nil {
		return err
	}
	if err := t.in("redeem", Active, Draining, Disputed); err != nil {
		return err
	}
	if final {
		if err := t.only("redeem: final", "provider", l.Provider); err != nil {
			return err
		}
		if l.State != Draining || l.Reason == ReasonReclaimed {
			return fmt.Errorf("redeem: final: %w: neither has the buyer closed lease %s nor is its time up; reclaim it with notice", ErrState, l.ID.Short())
		}
	}
	lanes := slices.Clone(l.Lanes)
	escrow := l.Escrow
	if l.State == Disputed {
		escrow -= min(escrow, l.Dispute.Value) // what is disputed stays
	}
	var sum uint64
	for _, c := range claims {
		if int(c.Lane) >= len(lanes) {
			return fmt.Errorf("redeem: lane %d: the lease has %d", c.Lane, len(lanes))
		}
		if c.Cumulative <= lanes[c.Lane] {
			continue
		}
		more := c.Cumulative - lanes[c.Lane]
		if more > escrow-sum {
			return fmt.Errorf("redeem: lane %d: %w: %d more is claimed and the escrow has %d that nobody disputes; claim less", c.Lane, ErrFunds, more, escrow-sum)
		}
		sum += more
		lanes[c.Lane] = c.Cumulative
	}
	if sum > 0 {
		l.Lanes = lanes
		t.pay(sum)
		l.Touched = t.now
		if l.State == Disputed {
			// A sign of life, at the moment where the clocks stand.
			d := *l.Dispute
			l.Touched = d.Since
			if d.Prior == Active {
				d.PriorTime = l.running()
			}
			l.Dispute = &d
		}
		if l.State == Active {
			l.Deadline = l.running()
		}
		t.event(EvRedeemed, square.Hash{})
	}
	if final {
		t.refund()
		t.end(Settled, l.Reason)
	}
	return nil
}
