package walk

import (
	"errors"
	"fmt"
	"reflect"
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
	stale   bool // nothing at all
	by      square.Address
	owed    uint64 // 1 while whoever pokes is to have a bounty

	Seen map[string]int // transitions, "active/stream -> settled (agreed)", and refusals, "close refused"
}

type stake struct {
	total, unbonding uint64
	until            int64
	judge            bool
}

type offer struct {
	id        square.Hash
	spec      square.Hash
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
	slot     square.Hash
	rates    []square.Rate
	added    uint64
	bonded   uint64
	lanes    []uint64
	rest     uint64 // paid outside the lanes: by consent, for a result
	receipt  *square.Receipt
	asked    bool
	answer   square.Hash
	nth      uint64
	child    square.Hash
	wait     int64
	opened   int64
	matched  int64
	started  int64
	touched  int64
	ends     int64
	due      int64
	hearing  *hearing
	heard    map[point]bool
	survived uint64 // hearings after which it went on
	finished bool   // the money is out
	sealed   bool   // and it was compared so
	most     uint64 // that was ever seen paid

	// Of a replicated order.
	replicas []square.Hash // that stand
	left     []square.Address
	lent     uint64 // to replicas

	// Of a replica.
	of      square.Hash
	drawn   bool
	draw    uint64
	invited square.Address
	passed  []square.Address
	ballot  square.Hash
	agreed  square.Hash // of a replicated order as well
	peers   []square.Address
}

// point is what is heard once: evidence, and the part of it to be proven, from
// 1; 0 is for judges.
type point struct {
	evidence square.Hash
	part     uint64
}

type hearing struct {
	way      market.Way
	who      square.Address
	bond     uint64 // still held
	cost     uint64 // still owed to who asked, if it is right
	evidence square.Hash
	value    uint64
	part     uint64
	owes     square.Address
	since    int64
	from     market.State
	due      int64 // of the state it came from
	draw     uint64
	seated   int64
	seats    []seat
	stood    []square.Address
	found    square.Verdict
}

type seat struct {
	judge   square.Address
	ballot  square.Hash
	verdict square.Verdict
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

func (f *file) funded() uint64 { return f.order.Escrow + f.added }

func (f *file) escrow() uint64 {
	if f.finished {
		return 0
	}
	return f.funded() - f.paid() - f.lent
}

func (f *file) bond() uint64 {
	if f.finished {
		return 0
	}
	return f.bonded
}

func (f *file) key() market.StakeKey { return f.stakeOf(f.provider) }

func (f *file) stakeOf(a square.Address) market.StakeKey {
	return market.StakeKey{Provider: a, Trade: f.order.Trade, Denom: f.order.Denom}
}

func (f *file) offer() market.OfferKey {
	return market.OfferKey{Provider: f.provider, Trade: f.order.Trade, Spec: f.slot}
}

func (f *file) stream() bool { return f.order.Mode == square.ModeStream }

// locked is the sum of the bonds of a stake's open leases and of its seats.
func (o *Oracle) locked(k market.StakeKey) (sum uint64) {
	for _, f := range o.open {
		if f.order.Trade != k.Trade || f.order.Denom != k.Denom {
			continue
		}
		if f.provider == k.Provider {
			sum += f.bond()
		}
		if f.hearing != nil {
			for _, s := range f.hearing.seats {
				if s.judge == k.Provider {
					sum += o.p.SeatBond
				}
			}
		}
	}
	return sum
}

func (o *Oracle) free(k market.StakeKey) uint64 {
	st := o.stake(k)
	return st.total - st.unbonding - o.locked(k)
}

// jobs is how many leases a provider has open with nothing bonded.
func (o *Oracle) jobs(k market.StakeKey) (n uint64) {
	for _, f := range o.open {
		if !f.provider.IsZero() && f.key() == k && f.bonded == 0 {
			n++
		}
	}
	return n
}

// inUse is the sum of the units of a slot's open leases.
func (o *Oracle) inUse(k market.OfferKey) (sum uint64) {
	for _, f := range o.open {
		if !f.provider.IsZero() && f.offer() == k {
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

// dispute is what one whole dispute may cost.
func (o *Oracle) dispute() uint64 { return o.p.DisputeCost + o.p.Seats*o.p.JudgeFee }

// enough says whether a challenger's bond is: it covers a dispute and a share of
// what is in dispute.
func (o *Oracle) enough(bond, value uint64, f *file) bool {
	return bond >= 1 && bond >= o.dispute()+o.p.Seats*o.p.BallotCost && bond*10_000 >= max(value, f.order.JobValue)*o.p.ChallengeBps
}

// Expect says whether op is legal and, if it is, takes it into account.
func (o *Oracle) Expect(op Op) bool {
	clear(o.tPots)
	clear(o.tLeases)
	clear(o.tStakes)
	clear(o.tOffers)
	o.stale, o.owed, o.by = false, 0, op.By
	ok := o.expect(op)
	if !ok {
		o.Seen[string(op.Verb)+" refused"]++
	}
	return ok
}

func (o *Oracle) expect(op Op) bool {
	wall := op.Now + op.Lag
	switch op.Verb {
	case Bond, Unbond, Unbonded, Enlist:
		return o.expectStake(op)
	case Offer:
		n := op.Offer
		k := market.OfferKey{Provider: n.Provider, Trade: n.Trade, Spec: n.Spec}
		old := o.offers[k]
		if n.Check() != nil || n.Expiry <= wall || old != nil && n.Nonce <= old.nonce || old != nil && n.Capacity < o.inUse(k) {
			return false
		}
		o.offers[k] = &offer{id: op.OfferID, spec: n.Spec, denom: n.Denom, capacity: n.Capacity, expiry: n.Expiry, nonce: n.Nonce}
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
	case Drop:
		old := o.offers[op.Slot]
		if old == nil || old.expiry > wall || o.inUse(op.Slot) > 0 {
			return false
		}
		delete(o.offers, op.Slot)
		o.tOffers[op.Slot] = true
		o.Seen["drop"]++
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
		if n == 0 || n > o.free(k) {
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
		st.unbonding, st.until = 0, 0
	case Enlist:
		if op.On == st.judge || op.On && (o.free(k) == 0 || o.free(k) < o.p.SeatBond) {
			return false
		}
		st.judge = op.On
	}
	o.tStakes[k] = true
	o.Seen[string(op.Verb)]++
	return true
}

func (o *Oracle) expectOpen(op Op) bool {
	d, wait := op.Order, op.Order.Expiry-op.Now-op.Lag
	least := min(d.Start, d.Challenge, d.Drain, d.Duration)
	if d.Mode == square.ModeStream {
		least = min(least, d.Idle)
	}
	if d.Check() != nil || wait <= 0 || wait > int64(o.p.MaxOrderTTL) || least < o.p.Notice || o.files[op.Lease] != nil ||
		d.Escrow > o.pots[Purse{market.Account(d.Buyer), d.Denom}] {
		return false
	}
	f := &file{id: op.Lease, order: d, state: market.Open, opened: op.Now, wait: wait, due: op.Now + wait, heard: map[point]bool{}}
	if d.Mode == "result" && d.Policy == "replicate" {
		if op.Verb == OpenMatched {
			return false
		}
		f.state, f.due = market.Replicating, op.Now+5*o.round(f)
	}
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
	if f.state == market.Replicating {
		o.replica(f, op.Now, false)
		o.replica(f, op.Now, false)
	}
	return true
}

func (o *Oracle) canMatch(op Op, f *file) bool {
	q, wall := op.Quote, op.Now+op.Lag
	slot := market.OfferKey{Provider: q.Provider, Trade: f.order.Trade, Spec: q.Spec}
	off := o.offers[slot]
	if off == nil || q.Order != f.id || q.Offer != off.id || off.withdrawn || off.expiry <= wall || off.denom != f.order.Denom ||
		off.spec != f.order.Spec && f.order.Trade != "label" || q.Provider == f.order.Buyer ||
		o.used[op.Digest] || q.Expiry <= wall || q.Expiry > wall+30 || len(q.Rates) != len(f.order.MaxRates) {
		return false
	}
	for i, r := range q.Rates {
		if m := f.order.MaxRates[i]; r.Unit != m.Unit || r.PerMillion > m.PerMillion {
			return false
		}
	}
	if o.inUse(slot)+f.order.Units > off.capacity {
		return false
	}
	k := f.stakeOf(q.Provider)
	if !f.of.IsZero() && !o.joins(q, f) {
		return false
	}
	if q.Bond == 0 {
		if f.order.Policy != "replicate" {
			return false
		}
		st := o.stake(k)
		if have := (st.total - st.unbonding) / f.order.JobValue; o.jobs(k) > have {
			o.Seen["too many without a bond"]++
			return false
		}
		return true
	}
	if f.order.Policy == "replicate" && (q.Bond < f.order.JobValue || q.Bond < o.dispute()) {
		return false
	}
	disputed := f.order.Policy == "audit" || f.order.Policy == "prove"
	return q.Bond <= o.free(k) && (!disputed || q.Bond >= o.dispute())
}

func (o *Oracle) match(op Op, f *file) {
	f.provider, f.slot, f.bonded = op.Quote.Provider, op.Quote.Spec, op.Quote.Bond
	f.rates = op.Quote.Rates
	f.lanes = make([]uint64, f.order.Lanes)
	o.used[op.Digest] = true
	o.tOffers[f.offer()] = true
	o.tStakes[f.key()] = true
	f.matched = op.Now
	o.to(f, market.Matched)
	f.due = op.Now + int64(f.order.Start)
	if f.slot != f.order.Spec {
		o.Seen["another spec"]++
	}
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
	if f.state == market.Active || f.state == market.Disputed || f.state == market.Draining {
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
	if !f.provider.IsZero() {
		o.tStakes[f.key()] = true
		o.tOffers[f.offer()] = true
	}
	f.reason = why
	o.to(f, s)
	f.finished = true
	f.due = now + int64(o.p.Retention)
	delete(o.open, f.id)
	if g := o.group(f); g != nil {
		o.replace(g, f, now)
	}
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
	rest := f.funded() - f.paid() - f.lent - extra
	if g := o.group(f); g != nil { // to where it came from, whole
		o.flow(market.Escrow(f.id), market.Escrow(g.id), rest, f.order.Denom)
		g.lent -= rest
		o.tLeases[g.id] = true
		return
	}
	b := o.bounty(poker, rest)
	o.flow(market.Escrow(f.id), market.Account(by), b, f.order.Denom)
	o.flow(market.Escrow(f.id), market.Account(f.order.Buyer), rest-b, f.order.Denom)
}

// succeed hands what is left to a child if the order allows one.
func (o *Oracle) succeed(f *file, op Op, poker uint64) {
	now, by := op.Now, op.By
	rest := f.funded() - f.paid()
	b := o.bounty(poker, rest)
	if f.order.Failover == 0 || rest == b {
		o.refund(f, 0, by, poker)
		return
	}
	o.flow(market.Escrow(f.id), market.Account(by), b, f.order.Denom)
	rest -= b
	c := &file{id: market.ChildID(f.id, f.nth+1), order: f.order, state: market.Open, opened: now, nth: f.nth + 1, wait: f.wait, heard: map[point]bool{}}
	c.order.Escrow = rest
	c.order.Failover = f.order.Failover - 1
	if c.order.JobValue > rest {
		c.order.JobValue = rest
	}
	c.due = now + f.wait
	c.order.Expiry = c.due + op.Lag
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
	o.owed = 0
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

// deliver pays for a result what its receipt says.
func (o *Oracle) deliver(f *file, now int64, why market.Reason, by square.Address, poker uint64) {
	price := f.receipt.Price
	o.pay(f, 0, price)
	f.rest = price
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
		if f.state == market.Replicating && buyer {
			return o.dissolve(f, op)
		}
		if !buyer || f.state != market.Open && f.state != market.Matched || !f.of.IsZero() {
			return false
		}
		var cost uint64
		if f.state == market.Matched {
			cost = f.order.Escrow * o.p.CancelBps / 10_000
			o.flow(market.Escrow(f.id), market.Account(f.provider), cost, f.order.Denom)
		}
		o.refund(f, cost, op.By, 0)
		o.finish(f, op.Now, market.Cancelled, market.ReasonCancelled)

	case Redeem:
		return o.redeem(op, f, provider)

	case TopUp:
		if !f.stream() || f.state != market.Active || !buyer || op.Units == 0 || op.Units > o.pots[Purse{market.Account(op.By), f.order.Denom}] {
			return false
		}
		f.added += op.Units
		o.flow(market.Account(op.By), market.Escrow(f.id), op.Units, f.order.Denom)
		o.tLeases[f.id] = true
		o.Seen["top up"]++

	case Extend:
		if !f.stream() || f.state != market.Active || !buyer || op.Ends <= f.ends || op.Ends > op.Now+366*86400 {
			return false
		}
		f.ends = op.Ends
		f.due = f.running()
		o.tLeases[f.id] = true
		o.Seen["extend"]++

	case Close:
		if !running || !buyer || op.Consent != nil && !f.stream() || !f.of.IsZero() {
			return false
		}
		if op.Consent != nil {
			paid := f.paid()
			if *op.Consent < paid || *op.Consent > f.funded() {
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
		if !f.stream() {
			due = min(due, f.ends)
		}
		f.reason, f.due = market.ReasonClosed, due
		o.to(f, market.Draining)

	case Reclaim:
		if !f.stream() || f.state != market.Active || !provider || op.Units < f.order.Drain || op.Now+int64(op.Units) > f.ends+int64(f.order.Drain) {
			return false
		}
		f.reason, f.due = market.ReasonReclaimed, op.Now+int64(op.Units)
		o.to(f, market.Draining)

	case Abandon:
		if f.state != market.Active && f.state != market.Matched || !provider {
			return false
		}
		o.fine(f, o.p.AbandonBps, op.By, 0)
		o.succeed(f, op, 0)
		o.finish(f, op.Now, market.Failed, market.ReasonAbandoned)

	case Claim:
		r := op.Receipt
		if !f.of.IsZero() {
			if o.group(f) != nil || f.bonded == 0 {
				return false
			}
			o.Seen["claim of a replica left alone"]++
		}
		if f.stream() || !running || !provider && !buyer || r.Lease != f.id || r.Request != f.order.Request || r.Result.IsZero() ||
			r.Lane != 0 || r.Seq != 1 || r.Cumulative != r.Price || r.Price > f.order.JobValue || !charged(r, f.rates) {
			return false
		}
		f.receipt = &r
		f.reason = ""
		if !f.of.IsZero() {
			f.agreed = r.Result
		}
		o.to(f, market.Claimed)
		f.due = op.Now + int64(f.order.Challenge)
		if buyer {
			o.Seen["claimed by the buyer"]++
		}

	case Withhold:
		if f.state != market.Claimed || !buyer || f.asked || f.uncompared() || !o.enough(op.Stake, f.receipt.Price, f) ||
			op.Stake > o.pots[Purse{market.Account(op.By), f.order.Denom}] {
			return false
		}
		f.asked = true
		o.hear(f, op, hearing{way: market.ByAnswer, evidence: f.receipt.Result, value: f.receipt.Price})
		o.to(f, market.Owed)

	case Answer:
		if f.state != market.Owed || !provider || op.Hash.IsZero() {
			return false
		}
		h := f.hearing
		fees := min(op.Charge.Cost, o.p.DisputeCost)
		o.flow(market.ChallengeBond(f.id), market.Account(f.provider), fees, f.order.Denom)
		o.flow(market.ChallengeBond(f.id), market.Account(f.order.Buyer), h.bond-fees, f.order.Denom)
		f.hearing, f.answer = nil, op.Hash
		f.due = op.Now + int64(f.order.Challenge)
		o.to(f, market.Claimed)

	case Accept:
		if f.state != market.Claimed || !buyer || f.uncompared() {
			return false
		}
		o.deliver(f, op.Now, market.ReasonAccepted, op.By, 0)

	case Challenge:
		c := op.Charge
		at := point{evidence: c.Evidence}
		if c.Way == market.ByProof {
			at.part = c.Part + 1
		}
		if f.uncompared() || f.stream() != running || f.state != market.Claimed && !running || provider || c.Way != market.ByProof && c.Way != market.ByJudges ||
			c.Evidence.IsZero() || !c.Owes.IsZero() && c.Owes != f.provider && c.Owes != op.By || f.heard[at] || f.heard[point{evidence: c.Evidence}] || f.survived >= o.p.Hearings && !buyer || c.Value > f.funded() || !o.enough(op.Stake, c.Value, f) ||
			op.Stake > o.pots[Purse{market.Account(op.By), f.order.Denom}] {
			return false
		}
		f.heard[at] = true
		o.hear(f, op, hearing{way: c.Way, evidence: c.Evidence, value: c.Value, part: c.Part, owes: c.Owes, cost: min(c.Cost, o.p.DisputeCost)})
		o.to(f, market.Disputed)

	case Judge:
		h := f.hearing
		if f.state != market.Disputed || h.way != market.ByJudges || h.seated != 0 || op.Verdict != "ok" && op.Verdict != "fraud" {
			return false
		}
		if op.Verdict == "fraud" {
			o.slash(f, op, market.ReasonFraud)
		} else {
			o.uphold(f, op)
		}

	case Prove:
		if f.state != market.Disputed || f.hearing.way != market.ByProof {
			return false
		}
		o.Seen["proved"]++
		o.uphold(f, op)

	case Seat:
		return o.seat(op, f)

	case Commit, Vote:
		if op.Verb == Commit && !f.of.IsZero() && f.hearing == nil {
			return o.pledge(op, f)
		}
		return o.vote(op, f)

	case Invite:
		return o.invite(op, f)

	case Show:
		return o.show(op, f)

	default:
		return false
	}
	return true
}

// charged works a receipt's price out.
func charged(r square.Receipt, rates []square.Rate) bool {
	if len(r.Units) != len(rates) {
		return false
	}
	var sum uint64
	for i, n := range r.Units {
		sum += n * rates[i].PerMillion
	}
	return (sum+999_999)/1_000_000 == r.Price
}

// hear stops a lease's clocks for a hearing.
func (o *Oracle) hear(f *file, op Op, h hearing) {
	h.who, h.bond, h.since, h.from, h.due = op.By, op.Stake, op.Now, f.state, f.due
	f.hearing = &h
	o.flow(market.Account(op.By), market.ChallengeBond(f.id), op.Stake, f.order.Denom)
	f.due = op.Now + int64(o.p.Answer)
	if h.way == market.ByJudges {
		f.due = op.Now + int64(o.p.Verdict)
	}
}

// seat seats judges.
func (o *Oracle) seat(op Op, f *file) bool {
	h := f.hearing
	if f.state != market.Disputed || h.way != market.ByJudges || h.seated != 0 || len(op.Judges) == 0 || uint64(len(op.Judges)) > o.p.Seats {
		return false
	}
	seats := map[square.Address]uint64{}
	for _, j := range op.Judges {
		seats[j]++
		if j == f.order.Buyer || j == f.order.Authorizer || j == f.provider || j == h.who || slices.Contains(f.peers, j) || slices.Contains(h.stood, j) ||
			!o.stake(f.stakeOf(j)).judge || o.free(f.stakeOf(j)) < seats[j]*o.p.SeatBond {
			return false
		}
	}
	for _, j := range op.Judges {
		h.seats = append(h.seats, seat{judge: j})
		o.tStakes[f.stakeOf(j)] = true
	}
	h.seated = op.Now
	f.due = op.Now + int64(o.p.Verdict)
	o.tLeases[f.id] = true
	o.Seen["seated"]++
	if uint64(len(h.seats)) < o.p.Seats {
		o.Seen["fewer judges than seats"]++
	}
	if len(seats) < len(h.seats) {
		o.Seen["a judge has two seats"]++
	}
	return true
}

// vote takes a judge's ballot, or its vote.
func (o *Oracle) vote(op Op, f *file) bool {
	if f.state != market.Disputed || f.hearing.way != market.ByJudges {
		return false
	}
	h := f.hearing
	i := slices.IndexFunc(h.seats, func(s seat) bool { return s.judge == op.By })
	if i < 0 {
		return false
	}
	show := h.seated + int64(o.p.Verdict)/2
	o.tLeases[f.id] = true
	if op.Verb == Commit {
		if op.Now >= show || op.Hash.IsZero() {
			return false
		}
		if !h.seats[i].ballot.IsZero() {
			o.Seen["commit again"]++
		}
		h.each(op.By, func(s *seat) { s.ballot = op.Hash })
		o.Seen["commit"]++
		return true
	}
	v := op.Verdict
	if op.Now < show || v != "ok" && v != "fraud" && v != "unavailable" || v == "unavailable" && h.owes.IsZero() ||
		h.seats[i].verdict != "" || h.seats[i].ballot != square.Ballot(f.id, op.By, h.draw, v, op.Hash) {
		return false
	}
	h.each(op.By, func(s *seat) { s.verdict = v })
	o.Seen["vote"]++
	same := 0
	for _, s := range h.seats {
		if s.verdict == v {
			same++
		}
	}
	all := len(h.seats)
	if uint64(all) < o.p.Seats && same < all || same*3 < all*2 {
		return true
	}
	h.found = v
	o.dismiss(f, op.Now)
	switch {
	case v == "fraud":
		o.Seen["found fraud"]++
		o.slash(f, op, market.ReasonFraud)
	case v == "unavailable" && h.owes == f.provider:
		o.Seen["found that the provider owes"]++
		o.slash(f, op, market.ReasonWithheld)
	case v == "unavailable":
		o.Seen["found that another owes"]++
		o.uphold(f, op)
	default:
		o.Seen["found ok"]++
		o.uphold(f, op)
	}
	return true
}

// each does something to the seats of a judge.
func (h *hearing) each(judge square.Address, do func(*seat)) {
	for i := range h.seats {
		if h.seats[i].judge == judge {
			do(&h.seats[i])
		}
	}
}

// dismiss lets judges go, and takes the bonds of those that did not do what was
// asked of them by now.
func (o *Oracle) dismiss(f *file, now int64) {
	h := f.hearing
	challenger, provider := uint64(0), uint64(0)
	if h.found == "" {
		challenger, provider = h.cost, h.cost
	}
	for _, s := range h.seats {
		k := f.stakeOf(s.judge)
		o.tStakes[k] = true
		silent := s.verdict == "" && (s.ballot.IsZero() || now >= f.due)
		if !silent {
			continue
		}
		o.Seen["silent judge"]++
		o.stake(k).total -= o.p.SeatBond
		pot, left := market.StakePot(s.judge, f.order.Trade), o.p.SeatBond
		one := min(left, challenger)
		o.flow(pot, market.Account(h.who), one, f.order.Denom)
		left, challenger = left-one, challenger-one
		two := min(left, provider)
		o.flow(pot, market.Account(f.provider), two, f.order.Denom)
		left, provider = left-two, provider-two
		o.flow(pot, market.Burned, left, f.order.Denom)
		if one > 0 {
			o.Seen["a silent judge pays the challenger"]++
		}
		if two > 0 {
			o.Seen["a silent judge pays the provider"]++
		}
	}
	if h.found == "" {
		h.cost = challenger
	}
}

// agreeing are the judges that voted for what was found.
func (h *hearing) agreeing() (js []square.Address) {
	for _, s := range h.seats {
		if h.found != "" && s.verdict == h.found {
			js = append(js, s.judge)
		}
	}
	return js
}

// distinct names each judge once, however many seats it has.
func distinct(js []square.Address) (out []square.Address) {
	for _, j := range js {
		if !slices.Contains(out, j) {
			out = append(out, j)
		}
	}
	return out
}

// uphold takes the challenger's bond.
func (o *Oracle) uphold(f *file, op Op) {
	h := f.hearing
	pot := market.ChallengeBond(f.id)
	for _, j := range h.agreeing() {
		fee := min(h.bond, o.p.JudgeFee)
		h.bond -= fee
		o.flow(pot, market.Account(j), fee, f.order.Denom)
	}
	for _, j := range distinct(h.agreeing()) {
		fee := min(h.bond, o.p.BallotCost)
		h.bond -= fee
		o.flow(pot, market.Account(j), fee, f.order.Denom)
	}
	o.flow(pot, market.Account(f.provider), h.bond, f.order.Denom)
	h.bond = 0
	if h.from == market.Claimed {
		o.deliver(f, op.Now, market.ReasonUpheld, op.By, 0)
		return
	}
	o.goOn(f, op.Now)
}

// goOn lets a stream go on where it was, with its clocks moved.
func (o *Oracle) goOn(f *file, now int64) {
	h := f.hearing
	at := min(now, f.due)
	stood := at - h.since
	f.touched += stood
	f.ends += stood
	f.due = h.due + stood
	if again := at + int64(o.p.Notice); f.due < again {
		o.Seen["notice again"]++
		if h.from == market.Draining {
			f.due = again
		} else {
			f.touched = max(f.touched, again-int64(f.order.Idle))
			f.due = f.running()
		}
	}
	f.hearing = nil
	if f.survived++; f.survived == o.p.Hearings {
		o.Seen["heard enough"]++
	}
	o.to(f, h.from)
}

// slash takes the whole bond.
func (o *Oracle) slash(f *file, op Op, why market.Reason) {
	h := f.hearing
	o.flow(market.ChallengeBond(f.id), market.Account(h.who), h.bond, f.order.Denom)
	h.bond = 0
	o.refund(f, 0, op.By, 0)
	left := f.bonded
	take := func(to market.Pot, units uint64) {
		units = min(units, left)
		left -= units
		o.fromStake(f, to, units)
	}
	take(market.Account(h.who), h.cost)
	for _, j := range h.agreeing() {
		take(market.Account(j), o.p.JudgeFee)
	}
	take(market.Account(f.order.Buyer), f.paid())
	for _, j := range distinct(h.agreeing()) {
		take(market.Account(j), o.p.BallotCost)
	}
	take(market.Account(h.who), left*o.p.ReporterBps/10_000)
	take(market.Burned, left)
	o.forfeit(f)
	o.finish(f, op.Now, market.Slashed, why)
}

func (o *Oracle) redeem(op Op, f *file, provider bool) bool {
	if !f.stream() || f.state != market.Active && f.state != market.Draining && f.state != market.Disputed ||
		op.Final && (!provider || f.state != market.Draining || f.reason == market.ReasonReclaimed) {
		return false
	}
	most := f.funded()
	if f.state == market.Disputed {
		// What is disputed stays; where more is paid than that leaves, nothing moves.
		most = max(f.paid(), most-min(most, f.hearing.value))
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
		if sum > most {
			return false
		}
	}
	paid := f.paid()
	f.lanes = lanes
	if more := f.paid() - paid; more > 0 {
		o.pay(f, paid, more)
		f.touched = op.Now
		if h := f.hearing; h != nil { // a sign of life when the clocks stopped
			f.touched = h.since
			if h.from == market.Active {
				h.due = f.running()
			}
		}
		if f.state == market.Active {
			f.due = f.running()
		}
		o.Seen["redeem in "+string(f.state)]++
	} else {
		o.Seen["redeem stale"]++
		o.stale = !op.Final
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
		o.owed = poker
		o.Seen["poke "+string(f.state)]++
		switch {
		case f.reason == market.ReasonDisagreed || f.reason == market.ReasonNoReplicas:
			o.refund(f, 0, op.By, poker)
			o.finish(f, op.Now, market.Failed, f.reason)
		case f.reason == market.ReasonCancelled:
			o.refund(f, 0, op.By, poker)
			o.finish(f, op.Now, market.Cancelled, f.reason)
		case f.state == market.Replicating:
			o.giveUp(f, op.Now, market.ReasonNoReplicas)
		case f.state == market.Committed || f.uncompared() && f.state == market.Claimed:
			o.giveUp(o.group(f), op.Now, market.ReasonNoReplicas)
		case f.state == market.Showing && o.group(f) != nil:
			o.outvote(f, op.Now, market.ReasonUnshown)
		case f.state == market.Showing:
			o.fine(f, o.p.LateBps, op.By, poker)
			o.refund(f, 0, op.By, 0)
			o.finish(f, op.Now, market.Failed, market.ReasonLate)
		case f.state == market.Claimed && !f.of.IsZero() && f.agreed != f.receipt.Result:
			o.outvote(f, op.Now, market.ReasonOutvoted)
		case f.state == market.Open && f.drawn && f.draw < o.p.Redraws:
			if !f.invited.IsZero() {
				f.passed = append(f.passed, f.invited)
			}
			f.invited = square.Address{}
			f.draw++
			f.due += int64(f.order.Start)
			o.tLeases[f.id] = true
			o.Seen["another is drawn"]++
		case f.state == market.Open:
			o.refund(f, 0, op.By, poker)
			o.finish(f, op.Now, market.Cancelled, market.ReasonExpired)
		case f.state == market.Matched:
			o.fine(f, o.p.AbandonBps, op.By, poker)
			o.succeed(f, op, 0)
			o.finish(f, op.Now, market.Failed, market.ReasonNoStart)
		case f.state == market.Active && !f.stream():
			o.fine(f, o.p.LateBps, op.By, poker)
			o.succeed(f, op, 0)
			o.finish(f, op.Now, market.Failed, market.ReasonLate)
		case f.state == market.Active && f.touched+int64(f.order.Idle) < f.ends:
			if f.order.Silence > 0 {
				o.fine(f, f.order.Silence, op.By, poker)
				o.succeed(f, op, 0)
				o.Seen["fine for silence"]++
			} else {
				o.succeed(f, op, poker)
			}
			o.finish(f, op.Now, market.Failed, market.ReasonIdle)
		case f.state == market.Active:
			f.reason = market.ReasonEnded
			f.due = f.ends + int64(f.order.Drain)
			o.to(f, market.Draining)
		case f.state == market.Draining:
			if f.reason == market.ReasonReclaimed {
				o.succeed(f, op, poker)
			} else {
				o.refund(f, 0, op.By, poker)
			}
			o.finish(f, op.Now, market.Settled, f.reason)
		case f.state == market.Claimed:
			o.deliver(f, op.Now, market.ReasonUnchallenged, op.By, poker)
		case f.state == market.Owed:
			o.slash(f, op, market.ReasonWithheld)
		case f.hearing.way == market.ByProof:
			o.slash(f, op, market.ReasonUnproven)
		default:
			h := f.hearing
			o.dismiss(f, op.Now)
			if h.draw == o.p.Redraws {
				o.flow(market.ChallengeBond(f.id), market.Account(h.who), h.bond, f.order.Denom)
				h.bond = 0
				if h.from == market.Claimed {
					o.deliver(f, op.Now, market.ReasonJudgesSilent, op.By, 0)
				} else {
					o.Seen["given up, and goes on"]++
					o.goOn(f, op.Now)
				}
				// Nobody pays for a poke of this.
				continue
			}
			for _, s := range h.seats {
				if s.verdict == "" && !slices.Contains(h.stood, s.judge) {
					h.stood = append(h.stood, s.judge)
				}
			}
			h.seats, h.seated = nil, 0
			h.draw++
			f.due += int64(o.p.Verdict)
			o.tLeases[f.id] = true
			o.Seen["redrawn"]++
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
	if wrote := len(tap.Leases) + len(tap.Stakes) + len(tap.Offers) + len(tap.Pots); legal && o.stale && wrote > 0 {
		return fmt.Errorf("I7: %v: a stale claim changed something", op)
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
		if f := o.files[id]; f != nil && f.sealed {
			return fmt.Errorf("I3: %v: lease %s had ended and was written again", op, id.Short())
		}
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
	if l.Paid < f.most {
		return fmt.Errorf("I2: %d paid, and it was %d", l.Paid, f.most)
	}
	f.most, f.sealed = l.Paid, f.finished
	type facts struct {
		state                market.State
		reason               market.Reason
		provider             square.Address
		slot, answer         square.Hash
		escrow, bond, bonded uint64
		paid, added          uint64
		child                square.Hash
		due, wait, expiry    int64
		units, failover, nth uint64
		jobValue             uint64
		duration             uint64
		asked                bool
		heard                uint64
		of, ballot, agreed   square.Hash
		drawn                bool
		draw                 uint64
		invited              square.Address
	}
	got := facts{
		l.State, l.Reason, l.Provider, l.Slot, l.Answer, l.Escrow, l.Bond, l.Bonded, l.Paid, l.Added, l.Child, l.Deadline, l.Wait, l.Order.Expiry,
		l.Order.Units, l.Order.Failover, l.Nth, l.Order.JobValue, l.Order.Duration, l.Asked, l.Heard,
		l.Of, l.Ballot, l.Agreed, l.Drawn, l.Draw, l.Invited,
	}
	want := facts{
		f.state, f.reason, f.provider, f.slot, f.answer, f.escrow(), f.bond(), f.bonded, f.paid(), f.added, f.child, f.due, f.wait, f.order.Expiry,
		f.order.Units, f.order.Failover, f.nth, f.order.JobValue, f.order.Duration, f.asked, f.survived,
		f.of, f.ballot, f.agreed, f.drawn, f.draw, f.invited,
	}
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
	if !slices.Equal(l.Replicas, f.replicas) || !slices.Equal(l.Left, f.left) || !slices.Equal(l.Passed, f.passed) || !slices.Equal(l.Peers, f.peers) {
		return fmt.Errorf("replicas %v, left %v, passed %v, peers %v; should be %v, %v, %v, %v", l.Replicas, l.Left, l.Passed, l.Peers, f.replicas, f.left, f.passed, f.peers)
	}
	if !slices.Equal(l.Lanes, f.lanes) {
		return fmt.Errorf("lanes are %v, should be %v", l.Lanes, f.lanes)
	}
	if !slices.Equal(l.Rates, f.rates) {
		return fmt.Errorf("rates are %v, should be %v", l.Rates, f.rates)
	}
	if (l.Receipt == nil) != (f.receipt == nil) || l.Receipt != nil && !reflect.DeepEqual(*l.Receipt, *f.receipt) {
		return fmt.Errorf("receipt is %+v, should be %+v", l.Receipt, f.receipt)
	}
	if _, burned, minted := o.fees(f, f.paid()); l.Burned != burned || l.Emitted != minted {
		return fmt.Errorf("burned %d and emitted %d, should be %d and %d", l.Burned, l.Emitted, burned, minted)
	}
	if (f.hearing == nil) != (l.Dispute == nil) {
		return fmt.Errorf("dispute: %v, should be: %v", l.Dispute, f.hearing)
	}
	if f.hearing != nil {
		if want := f.hearing.stored(o.p); !sameDispute(*l.Dispute, want) {
			return fmt.Errorf("dispute is\n\t%+v, should be\n\t%+v", *l.Dispute, want)
		}
	}
	return nil
}

// stored is how a lease keeps the hearing.
func (h *hearing) stored(p market.Params) market.Dispute {
	d := market.Dispute{
		Way: h.way, Challenger: h.who, Bond: h.bond, Cost: h.cost, Evidence: h.evidence, Value: h.value, Prior: h.from, PriorTime: h.due,
		Since: h.since, Part: h.part, Owes: h.owes, Draw: h.draw, Seated: h.seated, Stood: h.stood, Found: h.found,
	}
	for _, s := range h.seats {
		d.Seats = append(d.Seats, market.Seat{Judge: s.judge, Bond: p.SeatBond, Ballot: s.ballot, Verdict: s.verdict})
	}
	return d
}

func sameDispute(a, b market.Dispute) bool {
	if !slices.Equal(a.Seats, b.Seats) || !slices.Equal(a.Stood, b.Stood) {
		return false
	}
	a.Seats, a.Stood, b.Seats, b.Stood = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

func (o *Oracle) compareStake(m *market.Memory, k market.StakeKey, s market.Stake) error {
	want := market.Stake{Locked: o.locked(k), Jobs: o.jobs(k)}
	if x := o.stakes[k]; x != nil {
		want.Total, want.Unbonding, want.Until, want.Judge = x.total, x.unbonding, x.until, x.judge
	}
	if s != want {
		return fmt.Errorf("I4: is %+v, should be %+v", s, want)
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
	if want == nil && errors.Is(err, market.ErrNotFound) {
		return nil
	}
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
	heard := l.State == market.Disputed || l.State == market.Owed
	switch {
	case pot != l.Escrow:
		return fmt.Errorf("I1: the escrow's pot has %d, the lease says %d", pot, l.Escrow)
	case challenge != held:
		return fmt.Errorf("I1: the challenge's pot has %d, the lease says %d", challenge, held)
	case l.Paid+l.Escrow > l.Order.Escrow+l.Added || l.Paid > l.Order.Escrow+l.Added:
		return fmt.Errorf("I2: %d paid and %d held of %d and %d added", l.Paid, l.Escrow, l.Order.Escrow, l.Added)
	case lanes > l.Paid:
		return fmt.Errorf("I2: the lanes sum to %d, paid is %d", lanes, l.Paid)
	case l.State.Terminal() && (l.Escrow != 0 || l.Bond != 0 || held != 0):
		return fmt.Errorf("I3: %s holds escrow %d, bond %d, challenge %d", l.State, l.Escrow, l.Bond, held)
	case l.State.Terminal() != (l.Ended != 0) || l.State.Terminal() && l.Reason == "":
		return fmt.Errorf("I3: %s ended at %d for reason %q", l.State, l.Ended, l.Reason)
	case l.Deadline == 0:
		return fmt.Errorf("I5: %s has no deadline", l.State)
	case l.Reason == market.ReasonOutvoted && (l.Receipt == nil || l.Agreed.IsZero() || l.Agreed == l.Receipt.Result):
		return fmt.Errorf("I10, I15: outvoted, and nothing shows it")
	case l.Reason == market.ReasonUnshown && (l.Ballot.IsZero() || l.Receipt != nil):
		return fmt.Errorf("I10, I15: unshown, and nothing shows it")
	case !l.Of.IsZero() && l.Paid > 0 && l.Agreed != l.Receipt.Result:
		return fmt.Errorf("I15: paid for a result that nobody agreed on")
	case (heard || l.State == market.Slashed && l.Reason != market.ReasonOutvoted && l.Reason != market.ReasonUnshown) && (l.Dispute == nil || l.Dispute.Evidence.IsZero()):
		return fmt.Errorf("I10: %s without evidence", l.State)
	case l.Emitted > l.Burned*p.EmissionBps/10_000 || l.Emitted > l.Burned:
		return fmt.Errorf("I12: emitted %d, burned %d", l.Emitted, l.Burned)
	case l.Order.Mode == square.ModeResult && l.Paid > 0 && (l.Receipt == nil || l.Receipt.Request != l.Order.Request || l.Receipt.Price != l.Paid):
		return fmt.Errorf("I13: %d paid for a result with receipt %+v", l.Paid, l.Receipt)
	case heard && held < p.DisputeCost+p.Seats*p.JudgeFee:
		return fmt.Errorf("I14: a dispute is heard for %d", held)
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
