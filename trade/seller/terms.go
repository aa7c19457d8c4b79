package seller

import (
	"math/bits"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// Terms are what a seller demands of an order. Zero values have the defaults
// given here, which fit what desk.Desk orders.
//
// They hold this: whatever the buyer does, an honest provider loses at most what
// one job may cost (the order's job value). Money is lost when a lease ends
// before it was redeemed. A buyer can bring that about by giving notice, by
// silence, or by a challenge; each must leave Notice, of which a third is kept
// free for the redemption (see Seller.Run). What no notice helps against, a
// ledger that stands still or a clock that jumps, costs at most what waits
// unredeemed then, and more than the order's job value never waits.
type Terms struct {
	// Notice is the least of an order's start, idle, challenge and drain (60 s).
	// It must be far longer than a few ticks and blocks.
	Notice time.Duration
	// MaxNotice is the most of its drain (15 minutes): so long a place that is
	// taken back stays taken.
	MaxNotice time.Duration
	// MaxIdle is the most of its idle (1 hour): so long places are held that are
	// not paid for.
	MaxIdle     time.Duration
	MaxDuration time.Duration // 31 days
	// Hold is how long a lease may leave its places unused while others are
	// refused one (5 minutes). Then it is reclaimed, with its notice.
	Hold time.Duration
	// Bond and Bonds are the most of the stake, in percent, that stands behind
	// one lease (25) and behind all (100).
	Bond, Bonds uint64
	// Credit is the most of a lease's money that waits unredeemed, in base
	// units; 0 is the order's job value. More than that is a gift to whoever
	// stops the ledger.
	Credit uint64
}

func (t *Terms) defaults() {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.Notice, time.Minute}, {&t.MaxNotice, 15 * time.Minute}, {&t.MaxIdle, time.Hour},
		{&t.MaxDuration, 31 * 24 * time.Hour}, {&t.Hold, 5 * time.Minute},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *uint64
		def uint64
	}{{&t.Bond, 25}, {&t.Bonds, 100}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// reserve is what is kept of a deadline for the redemption before it.
func (t Terms) reserve() time.Duration { return t.Notice / 3 }

// credit is the most of a lease's money that may wait unredeemed.
func (t Terms) credit(o square.Order) uint64 {
	if t.Credit > 0 {
		return t.Credit
	}
	return o.JobValue
}

// feeTimes is how many times the fee of a redemption a job value must be, since
// about half of it is redeemed at a time.
const feeTimes = 4

// check refuses an order that the seller cannot live with, where each unit is to be
// backed by place of the escrow and a redemption costs so much. It names the field
// and the way out.
func (t Terms) check(o square.Order, place, fee uint64) error {
	seconds := func(field string, have uint64, least, most time.Duration) error {
		d := time.Duration(min(have, 1<<33)) * time.Second
		switch {
		case d < least:
			return wire.Refuse(wire.CodeTerms, "order: %s is %d s, too short to redeem in: order at least %.0f s", field, have, least.Seconds())
		case d > most:
			return wire.Refuse(wire.CodeTerms, "order: %s is %d s: order at most %.0f s", field, have, most.Seconds())
		}
		return nil
	}
	const long = 1 << 33 * time.Second / 2
	for _, err := range []error{
		seconds("drain", o.Drain, t.Notice, t.MaxNotice),
		seconds("start", o.Start, t.Notice, long),
		seconds("challenge", o.Challenge, t.Notice, long),
		seconds("duration", o.Duration, 2*t.Notice, t.MaxDuration),
	} {
		if err != nil {
			return err
		}
	}
	if o.Mode == square.ModeStream {
		if err := seconds("idle", o.Idle, t.Notice, t.MaxIdle); err != nil {
			return err
		}
	}
	if o.Silence > 0 {
		return wire.Refuse(wire.CodeTerms, "order: silence is %d: a lease that nobody uses costs a provider here nothing; order 0", o.Silence)
	}
	if o.Lanes > o.Units {
		return wire.Refuse(wire.CodeTerms, "order: lanes is %d and units %d: each lane takes a place, so order as many units", o.Lanes, o.Units)
	}
	if hi, least := bits.Mul64(max(place, 1), o.Units); hi > 0 || o.Escrow < least {
		return wire.Refuse(wire.CodeTerms, "order: escrow is %d: each of %d units is backed by at least %d here; order fewer units or a larger escrow", o.Escrow, o.Units, max(place, 1))
	}
	if hi, least := bits.Mul64(fee, feeTimes); hi > 0 || o.JobValue < least {
		return wire.Refuse(wire.CodeTerms, "order: job_value is %d: a redemption costs %d in fees, so order at least %d", o.JobValue, fee, least)
	}
	return nil
}

// bond is what is locked for an order, of what the provider has at stake:
// so many times its job value, and at least what the ledger asks. promised is what
// quotes hold that may become leases.
func (s *Seller) bond(o square.Order, least uint64, stake market.Stake, promised uint64) (uint64, error) {
	share := func(percent uint64) uint64 {
		return square.Share(stake.Total-min(stake.Unbonding, stake.Total), percent*100)
	}
	most := share(s.Terms.Bond)
	// A newcomer earns its first stake under a policy that asks for none: half of its
	// pay becomes stake.
	if o.Mode == square.ModeStream && o.Policy == square.PolicyReplicate && (o.JobValue > most/s.BondTimes || least > most) {
		if free := stake.Total - min(stake.Unbonding, stake.Total); stake.Jobs > free/o.JobValue {
			return 0, wire.Refuse(wire.CodeBusy, "order: with a stake of %d this provider may have %d leases without a bond, and has", free, stake.Jobs)
		}
		return 0, nil
	}
	if o.JobValue > most/s.BondTimes {
		return 0, wire.Refuse(wire.CodeTerms, "order: job_value is %d: %d times as much would be at stake, and of this provider's %d at most %d stand behind one lease; order a job_value of at most %d",
			o.JobValue, s.BondTimes, stake.Total, most, most/s.BondTimes)
	}
	if least > most {
		return 0, wire.Refuse(wire.CodeTerms, "order: the ledger asks a bond of %d, and of this provider's stake of %d at most %d stand behind one lease; order of one with more", least, stake.Total, most)
	}
	bond := max(o.JobValue*s.BondTimes, least)
	if all := share(s.Terms.Bonds); stake.Locked > all || promised > all-stake.Locked || bond > all-stake.Locked-promised {
		return 0, wire.Refuse(wire.CodeBusy, "order: job_value is %d: the %d that would be at stake for it are behind other leases now", o.JobValue, bond)
	}
	return bond, nil
}

// funded refuses an order whose buyer could not open it beside what quotes hold
// for it already.
func funded(o square.Order, funds, promised uint64) error {
	if funds < o.Escrow || funds-o.Escrow < promised {
		return wire.Refuse(wire.CodePayment, "order: escrow is %d, quotes not used yet hold %d, and the buyer has %s", o.Escrow, promised, square.Amount{Units: funds, Denom: o.Denom})
	}
	return nil
}
