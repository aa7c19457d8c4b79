package walk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Oracle is the second account of a walk. It knows the rules of the design and
// not the machine: what a lease holds is never a running balance here but
// worked out from its order and from what was redeemed.
//
// Its sums stay below 2^64 / 10^4 by the size of the walk's amounts.
type Oracle struct {
	p      market.Params
	pots   map[Purse]uint64
	files  map[square.Hash]*file
	open   map[square.Hash]*file
	stakes map[market.StakeKey]*stake
	offers map[market.OfferKey]*offer
	used   map[square.Hash]bool

	// What the last operation should have touched.
	tPots   map[Purse]bool
	tLeases map[square.Hash]bool
	tStakes map[market.StakeKey]bool
	tOffers map[market.OfferKey]bool

	Seen map[string]int // transitions, "active/stream -> settled (agreed)", and refusals, "close refused"
}

type stake struct {
	total, unbonding uint64
	until            int64
}

type offer struct {
	id        square.Hash
	denom     string
	capacity  uint64
	expiry    int64
	nonce     uint64
	withdrawn bool
}

// file is what the oracle knows of a lease.
type file struct {
	id       square.Hash
	order    square.Order
	state    market.State
	reason   market.Reason
	provider square.Address
	bonded   uint64
	lanes    []uint64
	rest     uint64 // paid outside the lanes: by consent, for a result
	price    uint64
	nth      uint64
	child    square.Hash
	opened   int64
	matched  int64
	started  int64
	touched  int64
	ends     int64
	due      int64
	hearing  *hearing
	heard    map[point]bool
	upheld   uint64
	finished bool // the money is out
}

// point is what is heard once: evidence, and the part of it to be proven, from
// 1; 0 is for judges.
type point struct {
	evidence square.Hash
	part     uint64
}

type hearing struct {
	who      square.Address
	bond     uint64
	evidence square.Hash
	since    int64
	from     market.State
	due      int64
	draw     uint64
	point    point
}

// NewOracle knows what the accounts hold at first.
func NewOracle(p market.Params) *Oracle {
	return &Oracle{
		p: p, pots: map[Purse]uint64{}, files: map[square.Hash]*file{}, open: map[square.Hash]*file{},
		stakes: map[market.StakeKey]*stake{}, offers: map[market.OfferKey]*offer{}, used: map[square.Hash]bool{},
		tPots: map[Purse]bool{}, tLeases: map[square.Hash]bool{}, tStakes: map[market.StakeKey]bool{}, tOffers: map[market.OfferKey]bool{},
		Seen: map[string]int{},
	}
}

// Fund tells the oracle of money minted into an account before the walk.
func (o *Oracle) Fund(a square.Address, amount square.Amount) {
	o.flow(market.Minted, market.Account(a), amount.Units, amount.Denom)
}

func (o *Oracle) flow(from, to market.Pot, units uint64, denom string) {
	if units == 0 {
		return
	}
	f, t := Purse{from, denom}, Purse{to, denom}
	o.tPots[f], o.tPots[t] = true, true
	if from == market.Minted {
		o.pots[f] += units
	} else {
		if o.pots[f] -= units; o.pots[f] == 0 {
			delete(o.pots, f)
		}
	}
	o.pots[t] += units
}

func (f *file) paid() (sum uint64) {
	for _, l := range f.lanes {
		sum += l
	}
	return sum + f.rest
}

func (f *file) escrow() uint64 {
	if f.finished {
		return 0
	}
	return f.order.Escrow - f.paid()
}

func (f *file) bond() uint64 {
	if f.finished {
		return 0
	}
	return f.bonded
}

func (f *file) key() market.StakeKey {
	return market.StakeKey{Provider: f.provider, Trade: f.order.Trade, Denom: f.order.Denom}
}

func (f *file) slot() market.OfferKey {
	return market.OfferKey{Provider: f.provider, Trade: f.order.Trade, Spec: f.order.Spec}
}

func (f *file) stream() bool { return f.order.Mode == square.ModeStream }

// locked is the sum of the bonds of a stake's open leases.
func (o *Oracle) locked(k market.StakeKey) (sum uint64) {
	for _, f := range o.open {
		if f.key() == k {
			sum += f.bond()
		}
	}
	return sum
}

// inUse is the sum of the units of a slot's open leases.
func (o *Oracle) inUse(k market.OfferKey) (sum uint64) {
	for _, f := range o.open {
		if !f.provider.IsZero() && f.slot() == k {
			sum += f.order.Units
		}
	}
	return sum
}

func (o *Oracle) stake(k market.StakeKey) *stake {
	if o.stakes[k] == nil {
		o.stakes[k] = &stake{}
	}
	return o.stakes[k]
}

// Expect says whether op is legal and, if it is, takes it into account.
func (o *Oracle) Expect(op Op) bool {
	clear(o.tPots)
	clear(o.tLeases)
	clear(o.tStakes)
	clear(o.tOffers)
	ok := o.expect(op)
	if !ok {
		o.Seen[string(op.Verb)+" refused"]++
	}
	return ok
}

func (o *Oracle) expect(op Op) bool {
	switch op.Verb {
	case Bond, Unbond, Unbonded:
		return o.expectStake(op)
	case Offer:
		n := op.Offer
		k := market.OfferKey{Provider: n.Provider, Trade: n.Trade, Spec: n.Spec}
		old := o.offers[k]
		if n.Check() != nil || n.Expiry <= op.Now || old != nil && n.Nonce <= old.nonce || n.Capacity < o.inUse(k) {
			return false
		}
		o.offers[k] = &offer{id: op.OfferID, denom: n.Denom, capacity: n.Capacity, expiry: n.Expiry, nonce: n.Nonce}
		o.tOffers[k] = true
		o.Seen["offer"]++
		return true
	case Withdraw:
		old := o.offers[op.Slot]
		if old == nil || old.withdrawn || op.By != op.Slot.Provider {
			return false
		}
		old.withdrawn = true
		o.tOffers[op.Slot] = true
		o.Seen["withdraw"]++
		return true
	case Open, OpenMatched:
		return o.expectOpen(op)
	case Match:
		f := o.files[op.Quote.Order]
		if f == nil || f.finished || op.Now >= f.due || f.state != market.Open || !o.canMatch(op, f) {
			return false
		}
		o.match(op, f)
		return true
	case Prune:
		f := o.files[op.Lease]
		if f == nil || !f.finished || op.Now < f.due {
			return false
		}
		delete(o.files, op.Lease)
		o.tLeases[op.Lease] = true
		o.Seen["prune"]++
		return true
	}
	f := o.files[op.Lease]
	if f == nil || f.finished {
		return false
	}
	if op.Verb == Poke {
		if op.Now < f.due {
			return false
		}
		o.poke(op, f)
		return true
	}
	return op.Now < f.due && o.expectLease(op, f)
}

func (o *Oracle) expectStake(op Op) bool {
	k := op.stakeKey()
	st := o.stake(k)
	own, pot := market.Account(op.By), market.StakePot(op.By, op.Trade)
	n := op.Amount.Units
	switch op.Verb {
	case Bond:
		if n == 0 || n > o.pots[Purse{own, k.Denom}] {
			return false
		}
		st.total += n
		o.flow(own, pot, n, k.Denom)
	case Unbond:
		if n == 0 || n > st.total-st.unbonding-o.locked(k) {
			return false
		}
		st.unbonding += n
		st.until = op.Now + int64(o.p.Unbonding)
	case Unbonded:
		if st.unbonding == 0 || op.Now < st.until {
			return false
		}
		o.flow(pot, own, st.unbonding, k.Denom)
		st.total -= st.unbonding
		*st = stake{total: st.total}
	}
	o.tStakes[k] = true
	o.Seen[string(op.Verb)]++
	return true
}

func (o *Oracle) expectOpen(op Op) bool {
	d := op.Order
	if d.Check() != nil || d.Expiry <= op.Now || d.Expiry > op.Now+int64(o.p.MaxOrderTTL) || o.files[op.Lease] != nil ||
		d.Escrow > o.pots[Purse{market.Account(d.Buyer), d.Denom}] {
		return false
	}
	f := &file{id: op.Lease, order: d, state: market.Open, opened: op.Now, due: d.Expiry, heard: map[point]bool{}}
	if op.Verb == OpenMatched && !o.canMatch(op, f) {
		return false
	}
	o.files[op.Lease], o.open[op.Lease] = f, f
	o.tLeases[op.Lease] = true
	o.flow(market.Account(d.Buyer), market.Escrow(op.Lease), d.Escrow, d.Denom)
	o.Seen["open"]++
	if op.Verb == OpenMatched {
		o.match(op, f)
	}
	return true
}

func (o *Oracle) canMatch(op Op, f *file) bool {
	q := op.Quote
	off := o.offers[market.OfferKey{Provider: q.Provider, Trade: f.order.Trade, Spec: f.order.Spec}]
	if off == nil || q.Order != f.id || q.Offer != off.id || off.withdrawn || off.expiry <= op.Now || off.denom != f.order.Denom ||
		o.used[op.Digest] || q.Expiry <= op.Now || q.Expiry > op.Now+30 || len(q.Rates) != len(f.order.MaxRates) {
		return false
	}
	for i, r := range q.Rates {
		if m := f.order.MaxRates[i]; r.Unit != m.Unit || r.PerMillion > m.PerMillion {
			return false
		}
	}
	k := market.StakeKey{Provider: q.Provider, Trade: f.order.Trade, Denom: f.order.Denom}
	st := o.stake(k)
	if q.Bond > st.total-st.unbonding-o.locked(k) || q.Bond == 0 && f.order.Policy != "replicate" {
		return false
	}
	return o.inUse(market.OfferKey{Provider: q.Provider, Trade: f.order.Trade, Spec: f.order.Spec})+f.order.Units <= off.capacity
}

func (o *Oracle) match(op Op, f *file) {
	f.provider, f.bonded = op.Quote.Provider, op.Quote.Bond
	f.lanes = make([]uint64, f.order.Lanes)
	o.used[op.Digest] = true
	o.tOffers[f.slot()] = true
	if f.bonded > 0 {
		o.tStakes[f.key()] = true
	}
	f.matched = op.Now
	o.to(f, market.Matched)
	f.due = op.Now + int64(f.order.Start)
	if op.Quote.Ready {
		o.start(op, f)
	}
}

func (o *Oracle) start(op Op, f *file) {
	o.to(f, market.Active)
	f.started, f.touched = op.Now, op.Now
	f.ends = op.Now + int64(f.order.Duration)
	f.due = f.running()
}

func (f *file) running() int64 {
	if idle := f.touched + int64(f.order.Idle); f.stream() && idle < f.ends {
		return idle
	}
	return f.ends
}

// to notes a change of state.
func (o *Oracle) to(f *file, s market.State) {
	from := string(f.state)
	if f.state == market.Active || f.state == market.Disputed {
		from += "/" + string(f.order.Mode)
	}
	to := string(s)
	if f.reason != "" && s != market.Disputed && s != market.Active {
		to += " (" + string(f.reason) + ")"
	}
	o.Seen[from+" -> "+to]++
	f.state = s
	o.tLeases[f.id] = true
}

// finish takes the lease out of the open ones, once all its money is out.
func (o *Oracle) finish(f *file, now int64, s market.State, why market.Reason) {
	if f.bonded > 0 {
		o.tStakes[f.key()] = true
	}
	if !f.provider.IsZero() {
		o.tOffers[f.slot()] = true
	}
	f.reason = why
	o.to(f, s)
	f.finished = true
	f.due = now + int64(o.p.Retention)
	delete(o.open, f.id)
}

// pay pays for work: paid is what the lease had paid before.
func (o *Oracle) pay(f *file, paid, more uint64) {
	d, from := f.order.Denom, market.Escrow(f.id)
	treasury, burned, minted := o.fees(f, paid+more)
	t0, b0, m0 := o.fees(f, paid)
	treasury, burned, minted = treasury-t0, burned-b0, minted-m0
	o.flow(from, market.Treasury, treasury, d)
	o.flow(from, market.Burned, burned, d)
	o.flow(market.Minted, market.Account(f.provider), minted, d)
	net := more - treasury - burned

	hold, enough := uint64(0), f.order.JobValue*9
	if st := o.stake(f.key()); f.bonded < enough && st.total-st.unbonding < enough {
		hold = min(net/2, enough-(st.total-st.unbonding))
		st.total += hold
		if hold > 0 {
			o.tStakes[f.key()] = true
			o.Seen["holdback"]++
		}
	}
	o.flow(from, market.StakePot(f.provider, f.order.Trade), hold, d)
	o.flow(from, market.Account(f.provider), net-hold, d)
	o.tLeases[f.id] = true
}

// fees is where the fee on all that a lease has paid goes, and what it earns.
func (o *Oracle) fees(f *file, paid uint64) (treasury, burned, minted uint64) {
	fee := paid * o.p.FeeBps / 10_000
	treasury = fee * o.p.TreasuryBps / 10_000
	burned = fee - treasury
	if f.order.Denom == "utorg" {
		minted = burned * o.p.EmissionBps / 10_000
	}
	return
}

// bounty is what whoever pokes gets out of sum.
func (o *Oracle) bounty(poker, sum uint64) uint64 {
	return poker * min(o.p.PokeBounty, sum/100*o.p.BountyBps/100+sum%100*o.p.BountyBps/10_000)
}

// refund returns what is left, once extra has left the escrow besides what was
// paid.
func (o *Oracle) refund(f *file, extra uint64, by square.Address, poker uint64) {
	rest := f.order.Escrow - f.paid() - extra
	b := o.bounty(poker, rest)
	o.flow(market.Escrow(f.id), market.Account(by), b, f.order.Denom)
	o.flow(market.Escrow(f.id), market.Account(f.order.Buyer), rest-b, f.order.Denom)
}

// succeed hands what is left to a child if the order allows one.
func (o *Oracle) succeed(f *file, now int64, by square.Address, poker uint64) {
	rest := f.order.Escrow - f.paid()
	b := o.bounty(poker, rest)
	if f.order.Failover == 0 || rest == b {
		o.refund(f, 0, by, poker)
		return
	}
	o.flow(market.Escrow(f.id), market.Account(by), b, f.order.Denom)
	rest -= b
	c := &file{id: market.ChildID(f.id, f.nth+1), order: f.order, state: market.Open, opened: now, nth: f.nth + 1, heard: map[point]bool{}}
	c.order.Escrow = rest
	c.order.Failover = f.order.Failover - 1
	if c.order.JobValue > rest {
		c.order.JobValue = rest
	}
	c.due = now + f.order.Expiry - f.opened
	c.order.Expiry = c.due
	if f.stream() && f.started > 0 {
		c.order.Duration = 1
		if f.ends > now {
			c.order.Duration = uint64(f.ends - now)
		}
	}
	f.child = c.id
	o.files[c.id], o.open[c.id] = c, c
	o.tLeases[c.id] = true
	o.flow(market.Escrow(f.id), market.Escrow(c.id), rest, f.order.Denom)
	o.Seen["failover after "+string(f.state)]++
}

// fine takes a share of the bond.
func (o *Oracle) fine(f *file, bps uint64, by square.Address, poker uint64) {
	sum := f.bonded * bps / 10_000
	b := o.bounty(poker, sum)
	buyer := f.order.Escrow * o.p.CancelBps / 10_000
	if buyer > sum-b {
		buyer = sum - b
	}
	o.fromStake(f, market.Account(by), b)
	o.fromStake(f, market.Account(f.order.Buyer), buyer)
	o.fromStake(f, market.Burned, sum-b-buyer)
}

func (o *Oracle) fromStake(f *file, to market.Pot, units uint64) {
	o.flow(market.StakePot(f.provider, f.order.Trade), to, units, f.order.Denom)
	o.stake(f.key()).total -= units
}

// deliver pays for a result.
func (o *Oracle) deliver(f *file, now int64, why market.Reason, by square.Address, poker uint64) {
	o.pay(f, 0, f.price)
	f.rest = f.price
	o.refund(f, 0, by, poker)
	o.finish(f, now, market.Settled, why)
}

func (o *Oracle) expectLease(op Op, f *file) bool {
	buyer, provider := op.By == f.order.Buyer, op.By == f.provider
	running := f.state == market.Active || f.state == market.Draining
	switch op.Verb {
	case Start:
		if f.state != market.Matched || !provider {
			return false
		}
		o.start(op, f)

	case Cancel:
		mayPay := f.state == market.Matched || f.state == market.Active && !f.stream()
		if !buyer || f.state != market.Open && !mayPay {
			return false
		}
		var cost uint64
		if mayPay {
			cost = f.order.Escrow * o.p.CancelBps / 10_000
			o.flow(market.Escrow(f.id), market.Account(f.provider), cost, f.order.Denom)
		}
		o.refund(f, cost, op.By, 0)
		o.finish(f, op.Now, market.Cancelled, market.ReasonCancelled)

	case Redeem:
		return o.redeem(op, f, running, provider)

	case Close:
		if !f.stream() || !running || !buyer {
			return false
		}
		if op.Consent != nil {
			paid := f.paid()
			if *op.Consent < paid || *op.Consent > f.order.Escrow {
				return false
			}
			o.pay(f, paid, *op.Consent-paid)
			f.rest = *op.Consent - paid
			o.refund(f, 0, op.By, 0)
			o.finish(f, op.Now, market.Settled, market.ReasonAgreed)
			return true
		}
		due := op.Now + int64(f.order.Drain)
		if f.state == market.Draining {
			if f.reason != market.ReasonReclaimed {
				return false
			}
			due = min(due, f.due)
		}
		f.reason, f.due = market.ReasonClosed, due
		o.to(f, market.Draining)

	case Reclaim:
		if !f.stream() || f.state != market.Active || !provider || op.Units < f.order.Drain || op.Now+int64(op.Units) > f.ends {
			return false
		}
		f.reason, f.due = market.ReasonReclaimed, op.Now+int64(op.Units)
		o.to(f, market.Draining)

	case Abandon:
		if f.state != market.Active && f.state != market.Matched || !provider {
			return false
		}
		o.fine(f, o.p.AbandonBps, op.By, 0)
		o.succeed(f, op.Now, op.By, 0)
		o.finish(f, op.Now, market.Failed, market.ReasonAbandoned)

	case Claim:
		if f.stream() || f.state != market.Active || !provider || op.Hash.IsZero() || op.Units > f.order.Escrow {
			return false
		}
		f.price = op.Units
		o.to(f, market.Claimed)
		f.due = op.Now + int64(f.order.Challenge)

	case Accept:
		if f.state != market.Claimed || !buyer {
			return false
		}
		o.deliver(f, op.Now, market.ReasonAccepted, op.By, 0)

	case Challenge:
		value := max(op.Units, f.order.JobValue)
		at, wait := point{evidence: op.Hash}, o.p.Verdict
		if op.Part != nil {
			at.part, wait = *op.Part+1, o.p.Answer
		}
		if f.stream() != running || f.state != market.Claimed && !running || provider || op.Hash.IsZero() || f.heard[at] ||
			f.upheld >= o.p.Hearings && !buyer || op.Units > f.order.Escrow || op.Stake == 0 || op.Stake*10_000 < value*o.p.ChallengeBps ||
			op.Stake > o.pots[Purse{market.Account(op.By), f.order.Denom}] {
			return false
		}
		f.heard[at] = true
		f.hearing = &hearing{who: op.By, bond: op.Stake, evidence: op.Hash, since: op.Now, from: f.state, due: f.due, point: at}
		o.flow(market.Account(op.By), market.ChallengeBond(f.id), op.Stake, f.order.Denom)
		f.due = op.Now + int64(wait)
		o.to(f, market.Disputed)

	case Judge, Prove:
		h := f.hearing
		if f.state != market.Disputed || (op.Verb == Prove) != (h.point.part > 0) ||
			op.Verb == Judge && op.Verdict != "ok" && op.Verdict != "fraud" {
			return false
		}
		if op.Verb == Judge && op.Verdict == "fraud" {
			o.slash(f, op, market.ReasonFraud)
			return true
		}
		o.flow(market.ChallengeBond(f.id), market.Account(f.provider), h.bond, f.order.Denom)
		h.bond = 0
		if op.Verb == Prove {
			o.Seen["proved"]++
		}
		if h.from == market.Claimed {
			o.deliver(f, op.Now, market.ReasonUpheld, op.By, 0)
			return true
		}
		stood := op.Now - h.since
		f.touched += stood
		f.ends += stood
		f.due = h.due + stood
		f.hearing = nil
		if f.upheld++; f.upheld == o.p.Hearings {
			o.Seen["heard enough"]++
		}
		o.to(f, h.from)

	default:
		return false
	}
	return true
}

// slash takes the whole bond.
func (o *Oracle) slash(f *file, op Op, why market.Reason) {
	h := f.hearing
	o.flow(market.ChallengeBond(f.id), market.Account(h.who), h.bond, f.order.Denom)
	h.bond = 0
	o.refund(f, 0, op.By, 0)
	whole := min(f.paid(), f.bonded)
	reporter := (f.bonded - whole) * o.p.ReporterBps / 10_000
	o.fromStake(f, market.Account(f.order.Buyer), whole)
	o.fromStake(f, market.Account(h.who), reporter)
	o.fromStake(f, market.Burned, f.bonded-whole-reporter)
	o.finish(f, op.Now, market.Slashed, why)
}

func (o *Oracle) redeem(op Op, f *file, running, provider bool) bool {
	if !f.stream() || !running || op.Final && (!provider || f.state != market.Draining || f.reason == market.ReasonReclaimed) {
		return false
	}
	lanes := slices.Clone(f.lanes)
	for _, c := range op.Claims {
		if int(c.Lane) >= len(lanes) {
			return false
		}
		lanes[c.Lane] = max(lanes[c.Lane], c.Cumulative)
		var sum uint64
		for _, l := range lanes {
			sum += l
		}
		if sum > f.order.Escrow {
			return false
		}
	}
	paid := f.paid()
	f.lanes = lanes
	if more := f.paid() - paid; more > 0 {
		o.pay(f, paid, more)
		f.touched = op.Now
		if f.state == market.Active {
			f.due = f.running()
		}
		o.Seen["redeem in "+string(f.state)]++
	} else {
		o.Seen["redeem stale"]++
	}
	if op.Final {
		o.refund(f, 0, op.By, 0)
		o.finish(f, op.Now, market.Settled, f.reason)
		o.Seen["redeem final"]++
	}
	return true
}

// poke carries out the deadlines that have come.
func (o *Oracle) poke(op Op, f *file) {
	poker := uint64(1)
	if op.By.IsZero() {
		poker = 0
	}
	for !f.finished && f.due <= op.Now {
		o.Seen["poke "+string(f.state)]++
		switch {
		case f.state == market.Open:
			o.refund(f, 0, op.By, poker)
			o.finish(f, op.Now, market.Cancelled, market.ReasonExpired)
		case f.state == market.Matched:
			o.fine(f, o.p.AbandonBps, op.By, poker)
			o.succeed(f, op.Now, op.By, 0)
			o.finish(f, op.Now, market.Failed, market.ReasonNoStart)
		case f.state == market.Active && !f.stream():
			o.fine(f, o.p.LateBps, op.By, poker)
			o.succeed(f, op.Now, op.By, 0)
			o.finish(f, op.Now, market.Failed, market.ReasonLate)
		case f.state == market.Active && f.touched+int64(f.order.Idle) < f.ends:
			o.succeed(f, op.Now, op.By, poker)
			o.finish(f, op.Now, market.Failed, market.ReasonIdle)
		case f.state == market.Active:
			f.reason = market.ReasonEnded
			f.due = f.ends + int64(f.order.Drain)
			o.to(f, market.Draining)
		case f.state == market.Draining:
			if f.reason == market.ReasonReclaimed {
				o.succeed(f, op.Now, op.By, poker)
			} else {
				o.refund(f, 0, op.By, poker)
			}
			o.finish(f, op.Now, market.Settled, f.reason)
		case f.state == market.Claimed:
			o.deliver(f, op.Now, market.ReasonUnchallenged, op.By, poker)
		case f.state == market.Disputed && f.hearing.point.part > 0:
			o.slash(f, op, market.ReasonUnproven)
		case f.state == market.Disputed && f.hearing.draw == o.p.Redraws:
			o.refund(f, 0, op.By, 0)
			o.flow(market.ChallengeBond(f.id), market.Account(f.hearing.who), f.hearing.bond, f.order.Denom)
			f.hearing.bond = 0
			o.finish(f, op.Now, market.Failed, market.ReasonJudgesSilent)
		case f.state == market.Disputed:
			f.hearing.draw++
			f.due = f.hearing.since + int64(o.p.Verdict*(f.hearing.draw+1))
			o.tLeases[f.id] = true
		}
	}
}

// Compare holds what an operation did, as m now is and tap saw it written,
// against what Expect took into account, and checks the invariants of
// everything touched. legal is Expect's answer, err the machine's.
func (o *Oracle) Compare(op Op, legal bool, err error, m *market.Memory, tap *Tap) error {
	if legal != (err == nil) {
		return fmt.Errorf("%v: legal %v, but the machine says: %v", op, legal, err)
	}
	// What must not come twice is remembered until it could not.
	until := int64(0)
	switch {
	case legal && (op.Verb == Match || op.Verb == OpenMatched):
		until = op.Quote.Expiry
	case legal && op.Verb == Challenge:
		until = op.Now + int64(o.p.Retention)
	}
	if len(tap.Uses) > 1 || (len(tap.Uses) == 1) != (until > 0) {
		return fmt.Errorf("%v: %d hashes were used", op, len(tap.Uses))
	}
	for _, got := range tap.Uses {
		if got != until {
			return fmt.Errorf("%v: a hash is remembered until %d, should be until %d", op, got, until)
		}
	}
	for id := range tap.Leases {
		o.tLeases[id] = true
	}
	for k := range tap.Stakes {
		o.tStakes[k] = true
	}
	for k := range tap.Offers {
		o.tOffers[k] = true
	}
	for k := range tap.Pots {
		o.tPots[k] = true
	}
	for k := range o.tPots {
		if got, want := m.Balance(k.Pot, k.Denom), o.pots[k]; got != want {
			return fmt.Errorf("%v: %v has %d %s, should have %d", op, k.Pot, got, k.Denom, want)
		}
	}
	for id := range o.tLeases {
		if err := o.compareLease(m, id); err != nil {
			return fmt.Errorf("%v: lease %s: %w", op, id.Short(), err)
		}
	}
	for k := range o.tStakes {
		s, _ := m.Stake(k)
		if err := o.compareStake(m, k, s); err != nil {
			return fmt.Errorf("%v: stake of %s in %s, %s: %w", op, k.Provider.Hex()[:10], k.Trade, k.Denom, err)
		}
	}
	for k := range o.tOffers {
		if err := o.compareOffer(m, k); err != nil {
			return fmt.Errorf("%v: offer of %s in %s: %w", op, k.Provider.Hex()[:10], k.Trade, err)
		}
	}
	return nil
}

func (o *Oracle) compareLease(m *market.Memory, id square.Hash) error {
	l, err := m.Lease(id)
	f := o.files[id]
	switch {
	case errors.Is(err, market.ErrNotFound) && f == nil:
		return nil
	case err != nil || f == nil:
		return fmt.Errorf("stored: %v, should be: %v", err == nil, f != nil)
	}
	if err := Check(o.p, m, l); err != nil {
		return err
	}
	type facts struct {
		state                market.State
		reason               market.Reason
		provider             square.Address
		escrow, bond, bonded uint64
		paid                 uint64
		child                square.Hash
		due                  int64
		units, failover, nth uint64
		jobValue             uint64
		duration             uint64
	}
	got := facts{l.State, l.Reason, l.Provider, l.Escrow, l.Bond, l.Bonded, l.Paid, l.Child, l.Deadline, l.Order.Units, l.Order.Failover, l.Nth, l.Order.JobValue, l.Order.Duration}
	want := facts{f.state, f.reason, f.provider, f.escrow(), f.bond(), f.bonded, f.paid(), f.child, f.due, f.order.Units, f.order.Failover, f.nth, f.order.JobValue, f.order.Duration}
	if got != want {
		return fmt.Errorf("is\n\t%+v, should be\n\t%+v", got, want)
	}
	ended := int64(0)
	if f.finished {
		ended = f.due - int64(o.p.Retention)
	}
	times := [...]int64{l.Opened, l.Matched, l.Started, l.Touched, l.Ends, l.Ended}
	if want := [...]int64{f.opened, f.matched, f.started, f.touched, f.ends, ended}; times != want {
		return fmt.Errorf("opened, matched, started, touched, ends, ended at %v, should be %v", times, want)
	}
	if !slices.Equal(l.Lanes, f.lanes) {
		return fmt.Errorf("lanes are %v, should be %v", l.Lanes, f.lanes)
	}
	if _, burned, minted := o.fees(f, f.paid()); l.Burned != burned || l.Emitted != minted {
		return fmt.Errorf("burned %d and emitted %d, should be %d and %d", l.Burned, l.Emitted, burned, minted)
	}
	if h := f.hearing; (h == nil) != (l.Dispute == nil) {
		return fmt.Errorf("dispute: %v, should be: %v", l.Dispute, h)
	} else if h != nil {
		if d := *l.Dispute; d.Challenger != h.who || d.Bond != h.bond || d.Evidence != h.evidence || d.Since != h.since || d.Draw != h.draw || d.Prior != h.from ||
			d.Prove != (h.point.part > 0) || d.Prove && d.Part != h.point.part-1 {
			return fmt.Errorf("dispute is %+v, should be %+v", d, *h)
		}
	}
	return nil
}

func (o *Oracle) compareStake(m *market.Memory, k market.StakeKey, s market.Stake) error {
	want := market.Stake{Locked: o.locked(k)}
	if x := o.stakes[k]; x != nil {
		want.Total, want.Unbonding, want.Until = x.total, x.unbonding, x.until
	}
	if s != want {
		return fmt.Errorf("is %+v, should be %+v", s, want)
	}
	if s.Locked+s.Unbonding > s.Total {
		return fmt.Errorf("I4: %d locked and %d unbonding of %d", s.Locked, s.Unbonding, s.Total)
	}
	if pot := m.Balance(market.StakePot(k.Provider, k.Trade), k.Denom); pot != s.Total {
		return fmt.Errorf("I1: the pot has %d, the stake says %d", pot, s.Total)
	}
	return nil
}

func (o *Oracle) compareOffer(m *market.Memory, k market.OfferKey) error {
	got, err := m.Offer(k)
	want := o.offers[k]
	if err != nil || want == nil {
		return fmt.Errorf("stored: %v, should be: %v", err == nil, want != nil)
	}
	if got.ID != want.id || got.Withdrawn != want.withdrawn || got.InUse != o.inUse(k) {
		return fmt.Errorf("is %s, withdrawn %v, %d in use; should be %s, %v, %d", got.ID.Short(), got.Withdrawn, got.InUse, want.id.Short(), want.withdrawn, o.inUse(k))
	}
	if got.InUse > got.Capacity {
		return fmt.Errorf("I8: %d in use of %d", got.InUse, got.Capacity)
	}
	return nil
}

// Check holds a stored lease against the invariants that need no history: its
// own numbers, and its pots in m.
func Check(p market.Params, m *market.Memory, l market.Lease) error {
	var lanes uint64
	for _, n := range l.Lanes {
		lanes += n
	}
	pot, challenge := m.Balance(market.Escrow(l.ID), l.Order.Denom), m.Balance(market.ChallengeBond(l.ID), l.Order.Denom)
	var held uint64
	if l.Dispute != nil {
		held = l.Dispute.Bond
	}
	switch {
	case pot != l.Escrow:
		return fmt.Errorf("I1: the escrow's pot has %d, the lease says %d", pot, l.Escrow)
	case challenge != held:
		return fmt.Errorf("I1: the challenge's pot has %d, the lease says %d", challenge, held)
	case l.Paid+l.Escrow > l.Order.Escrow || l.Paid > l.Order.Escrow:
		return fmt.Errorf("I2: %d paid and %d held of %d", l.Paid, l.Escrow, l.Order.Escrow)
	case lanes > l.Paid:
		return fmt.Errorf("I2: the lanes sum to %d, paid is %d", lanes, l.Paid)
	case l.State.Terminal() && (l.Escrow != 0 || l.Bond != 0 || held != 0):
		return fmt.Errorf("I3: %s holds escrow %d, bond %d, challenge %d", l.State, l.Escrow, l.Bond, held)
	case l.State.Terminal() != (l.Ended != 0) || l.State.Terminal() && l.Reason == "":
		return fmt.Errorf("I3: %s ended at %d for reason %q", l.State, l.Ended, l.Reason)
	case l.Deadline == 0:
		return fmt.Errorf("I5: %s has no deadline", l.State)
	case (l.State == market.Disputed || l.State == market.Slashed) && (l.Dispute == nil || l.Dispute.Evidence.IsZero()):
		return fmt.Errorf("I10: %s without evidence", l.State)
	case l.Emitted > l.Burned*p.EmissionBps/10_000 || l.Emitted > l.Burned:
		return fmt.Errorf("I12: emitted %d, burned %d", l.Emitted, l.Burned)
	}
	return nil
}

// CheckAll checks every lease, and that no money was made or lost (I1), that
// stakes and offers are what their open leases add up to (I4, I8), and that
// each has what its pot has.
func (o *Oracle) CheckAll(m *market.Memory, denoms []string) error {
	for _, d := range denoms {
		if got, want := m.Total(d), m.Balance(market.Minted, d); got != want {
			return fmt.Errorf("I1: %d %s exist, %d were minted", got, d, want)
		}
	}
	ls := m.Leases()
	if len(ls) != len(o.files) {
		return fmt.Errorf("%d leases are stored, should be %d", len(ls), len(o.files))
	}
	for _, l := range ls {
		if err := o.compareLease(m, l.ID); err != nil {
			return fmt.Errorf("lease %s: %w", l.ID.Short(), err)
		}
	}
	for k, s := range m.Stakes() {
		if err := o.compareStake(m, k, s); err != nil {
			return fmt.Errorf("stake %+v: %w", k, err)
		}
	}
	for k := range o.offers {
		if err := o.compareOffer(m, k); err != nil {
			return fmt.Errorf("offer %+v: %w", k, err)
		}
	}
	return nil
}
