package walk

import (
	"fmt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Policy is how an honest provider deals with leases so that it loses at most
// Interval (I9): what it accepts, when it redeems and when it leaves. It looks only
// at the lease as the ledger has it and at the vouchers that it holds.
type Policy struct {
	// Interval is how much work it does beyond the vouchers that it holds, in base
	// units. Of a result, it is the whole job.
	Interval uint64
	// Delay is how long its transactions may take, in seconds of the clock of
	// deadlines, which stands still while blocks have no room.
	Delay int64
	// Risk is how much it lets stand unredeemed.
	Risk uint64
	// Bond is the most that it locks for one lease.
	Bond uint64
}

// Accepts refuses an order whose notices are too short to act in: every one leaves
// time to see, to send and to send again.
func (p Policy) Accepts(o square.Order, bond uint64) error {
	for _, f := range []struct {
		name  string
		value uint64
		has   bool
	}{
		{"start", o.Start, true}, {"idle", o.Idle, o.Mode == square.ModeStream}, {"drain", o.Drain, true},
		{"challenge", o.Challenge, true}, {"duration", o.Duration, true},
	} {
		if f.has && f.value < uint64(3*p.Delay) {
			return fmt.Errorf("%s is %d s: at least %d", f.name, f.value, 3*p.Delay)
		}
	}
	if bond > p.Bond {
		return fmt.Errorf("bond is %d: at most %d", bond, p.Bond)
	}
	return nil
}

// Serves says whether it does work worth step in a lease in which it has done work
// worth done and holds vouchers for held.
func (p Policy) Serves(l market.Lease, done, held, step uint64) bool {
	return l.State == market.Active && done+step <= held+p.Interval && done+step <= l.Funded()
}

// Holds is what a voucher over sum is worth to it: no more than was put into the
// escrow, as far as the ledger knows.
func (p Policy) Holds(l market.Lease, sum uint64) uint64 { return min(sum, l.Funded()) }

// Next is the transaction that it sends now, if any. held is the sum of the
// vouchers that it holds, all on lane 0 here; receipt is that of the result, once it
// is done.
func (p Policy) Next(l market.Lease, now int64, held uint64, receipt *square.Receipt) (op Op, ok bool) {
	op = Op{By: l.Provider, Lease: l.ID}
	left := l.Deadline - now
	redeem := func(sum uint64) {
		op.Verb, op.Claims = Redeem, []market.Claim{{Lane: 0, Cumulative: sum}}
	}
	switch l.State {
	case market.Matched:
		op.Verb = Start
	case market.Owed:
		op.Verb, op.Hash = Answer, l.Receipt.Result
	case market.Active, market.Draining:
		switch {
		case receipt != nil:
			op.Verb, op.Receipt = Claim, *receipt
		case l.Order.Mode == square.ModeResult:
		case l.State == market.Draining:
			if held > l.Paid {
				redeem(held)
			}
			if l.Reason != market.ReasonReclaimed {
				op.Verb, op.Final = Redeem, true // nothing more is to come
			}
		case held > l.Paid && (left <= 2*p.Delay || held-l.Paid >= p.Risk):
			redeem(held)
		case left <= 2*p.Delay && l.Deadline != l.Ends: // silence would be its own
			op.Verb, op.Units = Reclaim, l.Order.Drain
		}
	case market.Disputed:
		if l.Dispute.Way == market.ByProof {
			op.Verb = Prove
		} else if free := l.Escrow - min(l.Escrow, l.Dispute.Value); free > 0 && held > l.Paid {
			redeem(min(held, l.Paid+free))
		}
	}
	return op, op.Verb != ""
}
