package walk

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// View is what a walker looks at to choose operations that make sense. A
// market.Store is one.
type View interface {
	Lease(id square.Hash) (market.Lease, error)
	Offer(market.OfferKey) (market.Offer, error)
	Stake(market.StakeKey) (market.Stake, error)
}

// People are the accounts of a walk.
type People struct {
	Buyers    []square.Address
	Providers []square.Address
	Others    []square.Address // carry vouchers, poke, challenge
	Judges    []square.Address // of every five, one is silent and one votes against what it finds
}

// Somebody is a cast with made-up addresses, for walks where nobody signs.
func Somebody(buyers, providers, others, judges int) (p People) {
	make := func(kind byte, n int) (as []square.Address) {
		for i := range n {
			as = append(as, square.Address{0: kind, 18: byte(i >> 8), 19: byte(i + 1)})
		}
		return as
	}
	return People{make(0xb0, buyers), make(0x90, providers), make(0x0e, others), make(0x1d, judges)}
}

// All is everyone.
func (p People) All() []square.Address {
	return slices.Concat(p.Buyers, p.Providers, p.Others, p.Judges)
}

// Params are parameters under which a walk meets every exit often.
func Params() market.Params {
	p := market.Default()
	p.EmissionBps = 9000
	p.Verdict, p.Answer, p.Hearings, p.Notice = 200, 50, 2, 3
	p.Seats, p.DisputeCost, p.JudgeFee, p.SeatBond, p.BallotCost = 4, 300, 40, 500, 17
	p.PokeBounty = 50
	p.Unbonding, p.MaxOrderTTL, p.Retention = 300, 400, 500
	return p
}

// Walker makes one operation after the other. The same seed and the same
// outcomes make the same walk.
type Walker struct {
	People
	Trades   []string
	Denoms   []string
	Policies []square.Policy
	Most     int // leases open at once, about
	Full     int // how often, in a hundred, time goes by in which blocks have no room, so that the clock of deadlines stands still

	// Sign signs the receipts of replicas, whose commitments hide behind the
	// signatures; nil: nobody does.
	Sign func(square.Address, square.Hash) square.Signature

	params market.Params
	domain square.Domain
	view   View
	rng    *rand.Rand
	now    int64
	lag    int64
	salt   uint64
	live   []square.Hash
	ended  []square.Hash // to be pruned, and to be tried in vain
	specs  []square.Hash
	focus  square.Hash                    // a replicated order whose replicas differ: five take many steps
	said   map[square.Hash]square.Receipt // what replicas have committed to
	quotes []square.Hash                  // digests of some quotes that were used
}

// New is a walker over view from the given time on.
func New(seed uint64, params market.Params, domain square.Domain, people People, view View, now int64) *Walker {
	return &Walker{
		People: people, Trades: []string{"infer", "label"}, Denoms: []string{square.Denom, "uusd"}, Most: 24, Full: 20,
		Policies: []square.Policy{square.PolicyAudit, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve, square.PolicyNone},
		params:   params, domain: domain, view: view, now: now,
		said:  map[square.Hash]square.Receipt{},
		rng:   rand.New(rand.NewPCG(seed, 1)),
		specs: []square.Hash{{1}, {2}},
	}
}

// Now is the walk's time, by the clock of deadlines, and Wall the wall's.
func (w *Walker) Now() int64  { return w.now }
func (w *Walker) Wall() int64 { return w.now + w.lag }

// Saw tells the walker what became of its operation.
func (w *Walker) Saw(op Op, events []market.Event, err error) {
	if err != nil {
		return
	}
	if op.Verb == Prune {
		w.ended = without(w.ended, op.Lease)
	}
	if op.Verb == Match || op.Verb == OpenMatched {
		if len(w.quotes) < 32 {
			w.quotes = append(w.quotes, op.Digest)
		} else {
			w.quotes[w.rng.IntN(32)] = op.Digest
		}
	}
	if op.Verb == Commit && !op.Receipt.Lease.IsZero() {
		w.said[op.Lease] = op.Receipt
	}
	for _, e := range events {
		switch e.Kind {
		case market.EvOpened:
			w.live = append(w.live, e.Lease)
			if l, err := w.view.Lease(e.Lease); err == nil && l.Drawn {
				w.focus = l.Of
			}
		case market.EvEnded:
			delete(w.said, e.Lease)
			if w.focus == e.Lease {
				w.focus = square.Hash{}
			}
			w.live = without(w.live, e.Lease)
			w.ended = append(w.ended, e.Lease)
			if !e.Ref.IsZero() {
				w.live = append(w.live, e.Ref)
			}
		}
	}
}

func without(ids []square.Hash, id square.Hash) []square.Hash {
	for i := range ids {
		if ids[i] == id {
			return append(ids[:i], ids[i+1:]...)
		}
	}
	return ids
}

// chance is true n times in a hundred.
func (w *Walker) chance(n int) bool { return w.rng.IntN(100) < n }

func pick[T any](w *Walker, s []T) T { return s[w.rng.IntN(len(s))] }

// upto is 1..n, small numbers as likely as large ones.
func (w *Walker) upto(n uint64) uint64 {
	if n <= 1 {
		return 1
	}
	if w.chance(40) {
		n = min(n, 1<<(1+w.rng.IntN(12)))
	}
	return 1 + w.rng.Uint64N(n)
}

func (w *Walker) hash() (h square.Hash) {
	w.salt++
	binary.BigEndian.PutUint64(h[:], w.salt)
	binary.BigEndian.PutUint64(h[8:], w.rng.Uint64())
	return h
}

// Next is the next operation.
func (w *Walker) Next() Op {
	var op Op
	switch {
	case len(w.live) == 0 || len(w.live) < w.Most && w.chance(25):
		op = w.open()
	case !w.focus.IsZero() && w.chance(75):
		op = w.act(w.focus)
	case w.chance(5):
		op = w.side()
	case len(w.ended) > 0 && w.chance(min(40, 5+len(w.ended)/10)):
		op = w.after(pick(w, w.ended[:min(len(w.ended), 1+w.rng.IntN(20))])) // the first to end most often
	default:
		id := pick(w, w.live)
		for range 4 { // disputes take many steps
			if l, err := w.view.Lease(id); err == nil && l.State == market.Disputed || w.chance(60) {
				break
			}
			id = pick(w, w.live)
		}
		op = w.act(id)
	}
	if w.chance(10) {
		w.spoil(&op)
	}
	op.Now, op.Lag = w.now, w.lag
	return op
}

// tick lets a little time pass, mostly none.
func (w *Walker) tick() {
	if !w.chance(12) {
		return
	}
	if w.chance(w.Full) {
		w.lag += 1 + w.rng.Int64N(20)
	} else {
		w.now += 1 + w.rng.Int64N(3)
	}
}

func (w *Walker) rates(scale uint64) []square.Rate {
	return []square.Rate{{Unit: "in", PerMillion: 10 * scale}, {Unit: "out", PerMillion: 30 * scale}}
}

// side is an operation on a stake or an offer.
func (w *Walker) side() Op {
	p, trade, denom := pick(w, w.Providers), pick(w, w.Trades), pick(w, w.Denoms)
	if w.chance(30) {
		p = pick(w, w.Judges)
	}
	op := Op{By: p, Trade: trade, Amount: square.Amount{Denom: denom}}
	st, _ := w.view.Stake(market.StakeKey{Provider: p, Trade: trade, Denom: denom})
	slot := market.OfferKey{Provider: p, Trade: trade, Spec: pick(w, w.specs)}
	off, err := w.view.Offer(slot)
	switch n := w.rng.IntN(100); {
	case n < 30 && st.Free() > 0:
		op.Verb, op.Amount.Units = Unbond, w.upto(st.Free())
	case n < 50 && st.Unbonding > 0:
		op.Verb = Unbonded
		if w.chance(50) && st.Until > w.now {
			w.now += st.Until - w.now
		}
	case n < 65:
		op.Verb, op.On = Enlist, !st.Judge && (w.chance(40) || slices.Contains(w.Judges, p))
	case n < 80 && err == nil && (off.Expiry <= w.Wall() || w.chance(20)):
		op.Verb, op.Slot = Drop, slot
	case n < 85:
		op.Verb, op.Slot = Withdraw, slot
	default:
		return w.offer(pick(w, w.Providers), trade, slot.Spec, denom)
	}
	return op
}

// recruit is what a judge does to be drawn: it bonds something, then it enlists.
func (w *Walker) recruit(trade, denom string) Op {
	j := pick(w, w.Judges)
	op := Op{By: j, Trade: trade, Amount: square.Amount{Denom: denom}}
	st, _ := w.view.Stake(market.StakeKey{Provider: j, Trade: trade, Denom: denom})
	if st.Free() < max(1, w.params.SeatBond) {
		op.Verb, op.Amount.Units = Bond, w.params.SeatBond*(1+w.rng.Uint64N(3))+w.upto(400)
	} else {
		op.Verb, op.On = Enlist, true
	}
	return op
}

func (w *Walker) offer(p square.Address, trade string, spec square.Hash, denom string) Op {
	o := square.Offer{
		Provider: p, Trade: trade, Spec: spec, Subject: "a thing", Denom: denom, Rates: w.rates(1),
		Capacity: 1 + w.rng.Uint64N(12), Endpoint: "https://example.net", Expiry: w.Wall() + 1 + w.rng.Int64N(4000),
	}
	if old, err := w.view.Offer(market.OfferKey{Provider: p, Trade: trade, Spec: spec}); err == nil {
		o.Nonce = old.Nonce
		o.Capacity = max(o.Capacity, old.InUse)
		if old.InUse > 0 {
			o.Denom = old.Denom
		}
	}
	o.Nonce++
	return Op{Verb: Offer, By: p, Offer: o, OfferID: o.ID(w.domain)}
}

// open opens an order against an offer there is; without one it makes the
// offer, and without stake, the stake.
func (w *Walker) open() Op {
	w.tick()
	p, trade, spec := pick(w, w.Providers), pick(w, w.Trades), pick(w, w.specs)
	off, err := w.view.Offer(market.OfferKey{Provider: p, Trade: trade, Spec: spec})
	if err != nil || off.Expiry <= w.Wall() || off.Withdrawn && w.chance(50) {
		if err == nil && off.InUse == 0 && off.Expiry <= w.Wall() && w.chance(50) {
			return Op{Verb: Drop, By: pick(w, w.All()), Slot: off.Key()}
		}
		return w.offer(p, trade, spec, pick(w, w.Denoms))
	}
	st, _ := w.view.Stake(market.StakeKey{Provider: p, Trade: trade, Denom: off.Denom})
	if st.Free() < 1000 && w.chance(60) && !w.newcomer(p) {
		return Op{Verb: Bond, By: p, Trade: trade, Amount: square.Amount{Units: w.upto(1_000_000), Denom: off.Denom}}
	}
	notice := w.params.Notice
	o := square.Order{
		Buyer: pick(w, w.Buyers), Trade: trade, Mode: square.ModeStream, Spec: spec, Denom: off.Denom,
		Escrow: w.upto(1_000_000), MaxRates: w.rates(1 + w.rng.Uint64N(2)), Policy: pick(w, w.Policies),
		Lanes: 1 + w.rng.Uint64N(4), Units: 1 + w.rng.Uint64N(3),
		Start: notice + w.rng.Uint64N(30), Idle: notice + w.rng.Uint64N(120), Duration: notice + w.rng.Uint64N(200),
		Challenge: notice + w.rng.Uint64N(60), Drain: notice + w.rng.Uint64N(40), Failover: w.rng.Uint64N(3),
		Expiry: w.Wall() + 1 + w.rng.Int64N(int64(w.params.MaxOrderTTL)), Salt: w.hash(),
	}
	if w.chance(2) {
		o.Buyer = p // its own customer
	}
	o.Authorizer = o.Buyer
	o.JobValue = w.upto(o.Escrow)
	if o.Policy == square.PolicyProve {
		o.Card = square.Hash{3}
	}
	if w.chance(40) {
		o.Mode, o.Lanes, o.Request = square.ModeResult, 0, w.hash()
		if trade == "label" && w.chance(35) { // there the stakes are for five
			o.Policy, o.Card = square.PolicyReplicate, square.Hash{}
			o.JobValue = min(o.JobValue, 5*w.upto(2000))
		}
		if o.Policy == square.PolicyReplicate {
			o.Escrow = max(o.Escrow, square.ReplicasMore)
			o.JobValue = max(1, o.JobValue/square.ReplicasMore)
		}
	} else if w.chance(40) {
		o.Silence = w.upto(10_000)
	}
	if trade == "label" && w.chance(50) {
		o.Spec = pick(w, w.specs)
	}
	op := Op{Verb: Open, By: o.Buyer, Order: o, Lease: o.ID(w.domain)}
	if w.chance(50) && (!replicated(o) || w.chance(5)) {
		op.Verb = OpenMatched
		w.quote(&op, o, off, st)
	}
	return op
}

func replicated(o square.Order) bool {
	return o.Mode == square.ModeResult && o.Policy == square.PolicyReplicate
}

// newcomer is somebody that bonds nothing of its own.
func (w *Walker) newcomer(p square.Address) bool { return p == w.Providers[0] }

// quote adds a provider's quote for o to op.
func (w *Walker) quote(op *Op, o square.Order, off market.Offer, st market.Stake) {
	q := square.Quote{
		Provider: off.Provider, Order: op.Lease, Offer: off.ID, Spec: off.Spec, Rates: w.rates(1),
		Ready: w.chance(60), Expiry: w.Wall() + 1 + w.rng.Int64N(square.QuoteTTL), Nonce: w.hash(),
	}
	if o.Policy != square.PolicyReplicate || w.chance(40) && !w.newcomer(off.Provider) {
		q.Bond = min(max(w.upto(o.Escrow*2), w.params.LeaseBond(o)), max(1, st.Free()))
	}
	op.Quote, op.Digest = q, q.Digest(w.domain)
}

// after is an operation on a lease that has ended.
func (w *Walker) after(id square.Hash) Op {
	l, err := w.view.Lease(id)
	if err != nil {
		w.ended = without(w.ended, id)
		return w.side()
	}
	if w.now >= l.Deadline && w.chance(80) {
		return Op{Verb: Prune, By: pick(w, w.Others), Lease: id}
	}
	if len(w.ended) > 300 {
		w.now += 10
	}
	// All of these must be refused.
	op := w.verb(pick(w, verbs), l)
	if w.chance(30) {
		op.Verb = Prune
	}
	return op
}

var verbs = []Verb{
	Match, Start, Redeem, TopUp, Extend, Close, Reclaim, Abandon, Cancel, Claim, Withhold, Answer, Accept, Challenge, Judge, Seat, Commit, Vote, Prove, Poke, Invite, Show,
}

// sensible are the operations that a state may take, likely ones repeated.
func (w *Walker) sensible(l market.Lease) []Verb {
	stream := l.Order.Mode == square.ModeStream
	switch l.State {
	case market.Replicating:
		return []Verb{Cancel, Match, Poke}
	case market.Committed:
		return []Verb{Show, Claim, Abandon, Commit}
	case market.Showing:
		return []Verb{Show, Show, Show, Show, Show, Show, Show, Claim}
	case market.Open:
		if l.Drawn && l.Invited.IsZero() {
			return []Verb{Invite, Invite, Invite, Invite, Match}
		}
		return []Verb{Match, Match, Match, Match, Match, Match, Cancel}
	case market.Matched:
		return []Verb{Start, Start, Start, Start, Start, Cancel, Abandon}
	case market.Active:
		if stream {
			return []Verb{Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, TopUp, Extend, Close, Close, Reclaim, Abandon, Challenge, Challenge}
		}
		if g, err := w.view.Lease(l.Of); err == nil && g.State == market.Replicating {
			return []Verb{Commit, Commit, Commit, Commit, Commit, Commit, Commit, Commit, Commit, Claim, Close, Abandon}
		}
		return []Verb{Claim, Claim, Claim, Claim, Claim, Claim, Close, Abandon}
	case market.Draining:
		if stream {
			return []Verb{Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Close, Close, Challenge, Challenge, Challenge, Challenge, TopUp, Extend}
		}
		return []Verb{Claim, Claim, Claim, Close}
	case market.Claimed:
		return []Verb{Accept, Accept, Challenge, Challenge, Challenge, Withhold, Withhold}
	case market.Owed:
		return []Verb{Answer, Answer, Answer, Accept}
	case market.Disputed:
		var vs []Verb
		switch d := l.Dispute; {
		case d == nil || d.Way == market.ByProof:
			vs = []Verb{Prove, Prove, Prove, Judge}
		case d.Seated == 0 && d.Draw == 0:
			vs = []Verb{Seat, Seat, Seat, Seat, Judge, Prove}
		case d.Seated == 0:
			vs = []Verb{Seat}
		case w.now < d.Votes(w.params):
			vs = []Verb{Commit, Commit, Commit, Commit, Commit, Commit, Vote}
		default:
			vs = []Verb{Vote, Vote, Vote, Vote, Vote, Vote, Commit}
		}
		if stream {
			vs = append(vs, Redeem)
		}
		return vs
	}
	return verbs
}

// act is an operation on a live lease.
func (w *Walker) act(id square.Hash) Op {
	l, err := w.view.Lease(id)
	if err != nil { // only a broken store loses it
		w.live = without(w.live, id)
		return w.side()
	}
	// What is waited for is in another replica.
	g := l
	if !l.Of.IsZero() && l.Agreed.IsZero() && (l.State == market.Committed || l.State == market.Claimed) {
		g, _ = w.view.Lease(l.Of)
	}
	if g.State == market.Replicating && len(g.Replicas) > 0 && w.chance(90) {
		if l, err = w.view.Lease(pick(w, g.Replicas)); err != nil {
			return w.side()
		}
	}
	hurry := 60
	if id == w.focus {
		hurry = 97
	}
	left := l.Deadline - w.now
	switch n := w.rng.IntN(1000); {
	case left > 0 && g.State == market.Replicating && w.chance(hurry):
		return w.verb(pick(w, w.sensible(l)), l) // without delay
	case left <= 0 && n < 850:
		return w.verb(Poke, l)
	case n < 15 && left > 0: // to the deadline, or just before or after
		w.now += left + w.rng.Int64N(3) - 1
		return w.verb(Poke, l)
	case n < 16: // everyone is silent
		w.now += 2000
		return w.verb(Poke, l)
	}
	if d := l.Dispute; l.State == market.Disputed && d != nil && d.Seated > 0 && w.chance(30) {
		in := 0
		for _, s := range d.Seats {
			if !s.Ballot.IsZero() {
				in++
			}
		}
		if votes := d.Votes(w.params); in >= w.params.Quorum(len(d.Seats)) && w.now < votes {
			w.now = votes // enough have committed
		}
	}
	w.tick()
	if w.chance(4) {
		return w.verb(pick(w, verbs), l)
	}
	return w.verb(pick(w, w.sensible(l)), l)
}

// verb is an operation on a lease with arguments that suit it.
func (w *Walker) verb(v Verb, l market.Lease) Op {
	op := Op{Verb: v, Lease: l.ID, By: l.Provider}
	switch v {
	case Match:
		key := market.OfferKey{Provider: pick(w, w.Providers), Trade: l.Order.Trade, Spec: l.Order.Spec}
		drawn := !l.Invited.IsZero() && w.chance(95)
		for range 4 { // look for one that has room
			if o, err := w.view.Offer(key); err == nil && !w.runs(l.Of, key.Provider) && o.Denom == l.Order.Denom && o.Expiry > w.Wall() && !o.Withdrawn && o.Capacity-o.InUse >= l.Order.Units {
				break
			}
			if key.Provider = pick(w, w.Providers); drawn {
				key.Provider = l.Invited
			}
			if key.Trade == "label" {
				key.Spec = pick(w, w.specs)
			}
		}
		if drawn {
			key.Provider = l.Invited
		}
		off, err := w.view.Offer(key)
		if err != nil || drawn && off.InUse == 0 && (off.Expiry <= w.Wall() || off.Withdrawn || off.Denom != l.Order.Denom) {
			return w.offer(key.Provider, key.Trade, key.Spec, l.Order.Denom)
		}
		st, _ := w.view.Stake(market.StakeKey{Provider: key.Provider, Trade: key.Trade, Denom: l.Order.Denom})
		if st.Free() == 0 && w.chance(70) && !w.newcomer(key.Provider) {
			return Op{Verb: Bond, By: key.Provider, Trade: key.Trade, Amount: square.Amount{Units: w.upto(1_000_000), Denom: l.Order.Denom}}
		}
		op.By = key.Provider
		w.quote(&op, l.Order, off, st)
		if drawn || !l.Of.IsZero() && !w.newcomer(key.Provider) && w.chance(60) {
			op.Quote.Bond = min(w.params.LeaseBond(l.Order)+w.rng.Uint64N(100), max(1, st.Free()))
			op.Digest = op.Quote.Digest(w.domain)
		}
	case Invite:
		op.By = square.Address{}
		least := w.params.LeaseBond(l.Order)
		var able []square.Address
		for _, a := range slices.Concat(w.Judges, w.Providers) {
			st, _ := w.view.Stake(market.StakeKey{Provider: a, Trade: l.Order.Trade, Denom: l.Order.Denom})
			if st.Judge && st.Free() >= least {
				able = append(able, a)
			}
		}
		if len(able) < 6 && l.Order.Trade == "label" && w.chance(70) {
			return w.enrich(l.Order.Trade, l.Order.Denom, least)
		}
		op.Judges = []square.Address{pick(w, append(able, pick(w, w.Others)))}
	case Show:
		op.By = pick(w, []square.Address{l.Provider, l.Provider, l.Order.Buyer, pick(w, w.Others)})
		r, ok := w.said[l.ID]
		if !ok {
			r = w.answer(l)
		}
		op.Receipt, op.Hash = r, w.commitment(l, r)
	case Redeem:
		op.By = pick(w, []square.Address{l.Provider, pick(w, w.Others)})
		for range 1 + w.rng.IntN(3) {
			c := market.Claim{Lane: uint16(w.rng.Uint64N(max(1, l.Order.Lanes)))}
			var had uint64
			if int(c.Lane) < len(l.Lanes) {
				had = l.Lanes[c.Lane]
			}
			switch n := w.rng.IntN(100); {
			case n < 20: // stale or equal
				c.Cumulative = had - w.rng.Uint64N(had+1)
			case n < 24: // more than there is
				c.Cumulative = had + l.Escrow + w.upto(10)
			case n < 30: // all there is
				c.Cumulative = had + l.Escrow
			default:
				c.Cumulative = had + w.upto(1+l.Escrow/4)
			}
			op.Claims = append(op.Claims, c)
		}
		if l.State == market.Draining && w.chance(40) {
			op.By, op.Final = l.Provider, true
			if w.chance(30) {
				op.Claims = nil
			}
		}
	case Close:
		op.By = l.Order.Buyer
		if w.chance(40) {
			final := l.Paid
			if l.Escrow > 0 && w.chance(80) {
				final += w.rng.Uint64N(l.Escrow + 1)
			}
			op.Consent = &final
		}
	case Reclaim:
		op.Units = l.Order.Drain + w.rng.Uint64N(10)
		if w.chance(10) { // about as long as there is
			op.Units = uint64(max(0, l.Ends-w.now)) + l.Order.Drain - min(l.Order.Drain, w.rng.Uint64N(3)) + 1
		}
	case Cancel, Accept:
		op.By = l.Order.Buyer
	case TopUp:
		op.By, op.Units = l.Order.Buyer, w.upto(100_000)
	case Extend:
		op.By, op.Ends = l.Order.Buyer, l.Ends+1+w.rng.Int64N(100)
	case Claim:
		op.Receipt = w.receipt(l, w.upto(l.Order.JobValue))
		if w.chance(10) {
			op.Receipt = w.receipt(l, l.Order.JobValue)
		}
		if w.chance(20) {
			op.By = l.Order.Buyer
		}
	case Withhold:
		op.By = l.Order.Buyer
		if l.Receipt != nil {
			op.Stake = w.params.LeastBond(l.Order, l.Receipt.Price) + w.rng.Uint64N(100)
		}
	case Answer:
		op.Hash, op.Charge.Cost = w.hash(), w.rng.Uint64N(2*w.params.DisputeCost)
	case Challenge:
		op.By = pick(w, []square.Address{l.Order.Buyer, pick(w, w.Others), pick(w, w.Others)})
		// Evidence is of the receipt that was claimed, or of one of the few that a
		// stream has, so that some comes twice.
		if l.Receipt != nil {
			op.Receipt = *l.Receipt
		} else {
			n := w.rng.Uint64N(2)
			op.Receipt = square.Receipt{
				Lease: l.ID, Seq: 1 + n, Request: square.Hash{31: byte(n + 1)}, Result: square.Hash{30: byte(n + 1)},
				Units: make([]uint64, len(l.Rates)), Time: int64(n),
			}
			for i, r := range l.Rates[:min(1, len(l.Rates))] { // of one unit, and nothing of the others
				op.Receipt.Units[i] = (1 + l.Order.Escrow>>(1+2*n)) * 1_000_000 / max(1, r.PerMillion)
			}
			op.Receipt.Price, _ = square.Price(l.Rates, op.Receipt.Units)
			op.Receipt.Cumulative = op.Receipt.Price
		}
		op.Charge = market.Charge{Way: market.ByJudges, Evidence: op.Receipt.Digest(w.domain), Value: op.Receipt.Price, Cost: w.rng.Uint64N(2 * w.params.DisputeCost)}
		switch n := w.rng.IntN(100); {
		case n < 30:
			op.Charge.Way, op.Charge.Part = market.ByProof, w.rng.Uint64N(2)
		case n < 55:
			op.Charge.Owes = l.Provider
		case n < 75:
			op.Charge.Owes = op.By
		}
		op.Stake = w.params.LeastBond(l.Order, op.Charge.Value) + w.rng.Uint64N(100)
	case Seat:
		var cs []market.Candidate
		var most uint64
		for _, a := range w.All() {
			st, _ := w.view.Stake(market.StakeKey{Provider: a, Trade: l.Order.Trade, Denom: l.Order.Denom})
			if st.Judge && st.Free() >= w.params.SeatBond && l.Barred(a) == "" {
				cs = append(cs, market.Candidate{Judge: a, Weight: st.Total, Most: st.Free() / max(1, w.params.SeatBond)})
				most += cs[len(cs)-1].Most
			}
		}
		if len(cs) == 0 || most < w.params.Seats && w.chance(30) || len(cs) < 4 && w.chance(30) {
			return w.recruit(l.Order.Trade, l.Order.Denom)
		}
		op.Judges = market.Draw(w.hash(), cs, int(w.params.Seats))
	case Commit:
		if !l.Of.IsZero() && l.Dispute == nil {
			op.Receipt = w.answer(l)
			op.Hash = w.commitment(l, op.Receipt)
			break
		}
		if l.Dispute == nil || len(l.Dispute.Seats) == 0 {
			break
		}
		d := *l.Dispute
		i := w.rng.IntN(len(d.Seats))
		for n := range d.Seats { // one that has not
			if j := (i + n) % len(d.Seats); d.Seats[j].Ballot.IsZero() {
				i = j
				break
			}
		}
		op.By = d.Seats[i].Judge
		v := Truth(d)
		switch w.character(op.By) {
		case silent:
			if w.chance(60) {
				return w.verb(Redeem, l)
			}
		case colluding:
			if v = square.VerdictFraud; v == Truth(d) {
				v = square.VerdictOK
			}
		}
		if w.chance(3) {
			v = pick(w, verdicts)
		}
		op.Hash = square.Ballot(l.ID, op.By, d.Draw, v, secret(l.ID, op.By))
	case Vote:
		if l.Dispute == nil || len(l.Dispute.Seats) == 0 {
			break
		}
		d := *l.Dispute
		i := w.rng.IntN(len(d.Seats))
		for n := range d.Seats { // one that has not, but could
			if j := (i + n) % len(d.Seats); d.Seats[j].Verdict == "" && !d.Seats[j].Ballot.IsZero() {
				i = j
				break
			}
		}
		op.By, op.Hash, op.Verdict = d.Seats[i].Judge, secret(l.ID, d.Seats[i].Judge), square.VerdictOK
		for _, v := range verdicts {
			if square.Ballot(l.ID, op.By, d.Draw, v, op.Hash) == d.Seats[i].Ballot {
				op.Verdict = v
			}
		}
		if w.character(op.By) == silent && w.chance(60) {
			return w.verb(Redeem, l)
		}
	case Prove:
		op.By = pick(w, []square.Address{l.Provider, pick(w, w.Others)})
	case Judge:
		op.By = square.Address{}
		op.Verdict = square.VerdictOK
		if w.chance(40) {
			op.Verdict = square.VerdictFraud
		}
	case Poke:
		op.By = pick(w, append(w.Others, square.Address{}))
	case Prune:
		op.By = pick(w, w.Others)
	}
	return op
}

var verdicts = []square.Verdict{square.VerdictOK, square.VerdictFraud, square.VerdictUnavailable}

// Truth is what an honest judge finds in a dispute of a walk.
func Truth(d market.Dispute) square.Verdict {
	switch n := d.Evidence[31]; {
	case !d.Owes.IsZero() && n%4 != 0:
		return square.VerdictUnavailable
	case n%3 == 0:
		return square.VerdictFraud
	}
	return square.VerdictOK
}

type character int

const (
	honest character = iota
	silent
	colluding
)

// character is how somebody judges.
func (w *Walker) character(a square.Address) character {
	switch slices.Index(w.Judges, a) % 5 {
	case 3:
		return silent
	case 4:
		return colluding
	}
	return honest
}

// secret is what hides a judge's ballot.
func secret(lease square.Hash, judge square.Address) square.Hash {
	return square.Ballot(lease, judge, 0, "secret", square.Hash{})
}

// units are such as cost price, about.
func (w *Walker) units(price uint64, rates []square.Rate) (units []uint64) {
	for i, r := range rates {
		part := price
		if i < len(rates)-1 {
			part = w.rng.Uint64N(price + 1)
		}
		price -= part
		units = append(units, part*1_000_000/max(1, r.PerMillion))
	}
	return units
}

// receipt is what a provider signs for the result of a lease.
func (w *Walker) receipt(l market.Lease, price uint64) square.Receipt {
	r := square.Receipt{Lease: l.ID, Seq: 1, Subject: l.Order.Spec, Request: l.Order.Request, Result: w.hash(), Units: w.units(price, l.Rates), Time: w.Wall() * 1000}
	r.Price, _ = square.Price(l.Rates, r.Units)
	r.Cumulative = r.Price
	return r
}

// runs reports whether somebody runs a replica of an order.
func (w *Walker) runs(order square.Hash, a square.Address) bool {
	g, err := w.view.Lease(order)
	return err == nil && slices.ContainsFunc(g.Replicas, func(id square.Hash) bool {
		r, err := w.view.Lease(id)
		return err == nil && r.Provider == a
	})
}

// answer is what somebody says who runs a replica: mostly the truth, which all come
// to, seldom a lie, of which there are few.
func (w *Walker) answer(l market.Lease) square.Receipt {
	r := w.receipt(l, w.upto(l.Order.JobValue))
	r.Result = l.Order.Request
	switch n := w.rng.IntN(100); {
	case n < 12:
		r.Result[31] ^= 1
	case n < 16:
		r.Result[31] ^= 2
	}
	return r
}

// commitment is what hides a receipt.
func (w *Walker) commitment(l market.Lease, r square.Receipt) square.Hash {
	digest := r.Digest(w.domain)
	if w.Sign == nil {
		return square.Commitment(digest, square.Signature{})
	}
	return square.Commitment(digest, w.Sign(l.Provider, digest))
}

// enrich is what somebody does to be drawn for a replica.
func (w *Walker) enrich(trade, denom string, least uint64) Op {
	a := pick(w, slices.Concat(w.Judges, w.Providers[1:]))
	op := Op{By: a, Trade: trade, Amount: square.Amount{Denom: denom}}
	if st, _ := w.view.Stake(market.StakeKey{Provider: a, Trade: trade, Denom: denom}); st.Free() < least || st.Judge {
		op.Verb, op.Amount.Units = Bond, 2*least+w.upto(1000)
	} else {
		op.Verb, op.On = Enlist, true
	}
	return op
}

// spoil makes one thing about the operation wrong, or at least odd.
func (w *Walker) spoil(op *Op) {
	switch op.Verb {
	case Bond, Unbond:
		op.Amount.Units *= uint64(w.rng.IntN(3)) << w.rng.IntN(50)
		return
	case Unbonded, Enlist:
		op.By = pick(w, w.All())
		op.On = w.chance(50)
		return
	}
	n := w.rng.IntN(100)
	switch {
	case n < 7 && len(w.live) > 0:
		op.Lease = pick(w, w.live)
	case n < 14 && len(w.ended) > 0:
		op.Lease = pick(w, w.ended)
	case n < 18:
		op.Lease = w.hash()
	case n < 30:
		op.By = pick(w, w.All())
	case n < 75:
		w.twist(op)
	default:
		if l := op.Lease; !l.IsZero() && len(w.live) > 0 {
			if x, err := w.view.Lease(l); err == nil {
				*op = w.verb(pick(w, verbs), x)
			}
		}
	}
	if op.Verb == Open || op.Verb == OpenMatched {
		op.Forged = op.Forged || op.Lease != op.Order.ID(w.domain)
	}
}

// twist spoils an argument of the verb.
func (w *Walker) twist(op *Op) {
	switch op.Verb {
	case Match:
		w.forge(op)
	case OpenMatched, Open:
		if op.Verb == OpenMatched && w.chance(40) {
			w.forge(op)
			return
		}
		o := &op.Order
		switch w.rng.IntN(12) {
		case 0:
			o.Expiry = w.Wall() + int64(w.params.MaxOrderTTL) + w.rng.Int64N(2)
		case 1:
			o.Expiry = w.Wall() + w.rng.Int64N(2)
		case 2:
			o.Escrow = 1 << 60
		case 3:
			o.Units = 100
		case 4:
			o.Start = w.params.Notice - w.rng.Uint64N(2)
		case 5:
			o.Idle = w.params.Notice - w.rng.Uint64N(2)
		case 6:
			o.Duration = w.params.Notice - w.rng.Uint64N(2)
		case 7:
			o.Challenge = w.params.Notice - w.rng.Uint64N(2)
		case 8:
			o.Drain = w.params.Notice - w.rng.Uint64N(2)
		case 9:
			o.Silence = 10_000 + w.rng.Uint64N(2)
		case 10:
			o.Spec = w.hash()
		case 11:
			o.Request = square.Hash{}
		}
		op.Lease = op.Order.ID(w.domain)
		op.Quote.Order = op.Lease
		op.Digest = op.Quote.Digest(w.domain)
	case Offer:
		op.Offer.Nonce -= w.rng.Uint64N(2)
		op.Offer.Capacity = w.rng.Uint64N(3)
		if w.chance(30) {
			op.Offer.Expiry = w.Wall() + w.rng.Int64N(2)
		}
		op.OfferID = op.Offer.ID(w.domain)
	case Redeem:
		op.Final = w.chance(50)
		op.Claims = append(op.Claims, market.Claim{Lane: uint16(w.rng.IntN(300))})
	case TopUp:
		op.Units *= uint64(w.rng.IntN(2)) << 50
	case Extend:
		op.Ends += pick(w, []int64{-200, -100, -50, -1, square.MaxDuration - 200, square.MaxDuration})
	case Close:
		if op.Consent != nil {
			*op.Consent += w.rng.Uint64N(1000)
		}
	case Reclaim:
		op.Units = op.Units*3/2 - w.rng.Uint64N(op.Units+1)
	case Claim:
		r := &op.Receipt
		switch w.rng.IntN(13) {
		case 0:
			r.Lease = pick(w, w.live)
		case 1:
			r.Request = w.hash() // a stranger's question
		case 2:
			r.Request = square.Hash{}
		case 3:
			r.Result = square.Hash{}
		case 4:
			r.Lane = 1
		case 5:
			r.Seq = w.rng.Uint64N(3)
		case 6:
			r.Cumulative += w.rng.Uint64N(2)
		case 7:
			r.Price++ // an overcharger
			r.Cumulative++
		case 8:
			r.Price = max(1, r.Price) - 1
			r.Cumulative = r.Price
		case 9:
			r.Units = nil
		case 10:
			r.Units = append(r.Units, 0)
		case 11:
			for i := range r.Units[:min(1, len(r.Units))] {
				r.Units[i] += w.rng.Uint64N(1_000_000)
			}
		case 12:
			if x, err := w.view.Lease(op.Lease); err == nil {
				*r = w.receipt(x, x.Order.JobValue+1+w.rng.Uint64N(2))
			}
		}
	case Invite:
		op.Judges = []square.Address{pick(w, w.All())}
		if l, err := w.view.Lease(op.Lease); err == nil && w.chance(50) {
			op.Judges = []square.Address{pick(w, append([]square.Address{l.Order.Buyer, pick(w, w.Providers)}, l.Passed...))}
		}
	case Show:
		switch w.rng.IntN(5) {
		case 0:
			op.Hash, op.Forged = w.hash(), true
		case 1: // what another has shown
			if l, err := w.view.Lease(op.Lease); err == nil {
				op.Receipt = w.answer(l)
				op.Hash = w.commitment(l, op.Receipt)
			}
		case 2:
			op.Receipt.Request = w.hash()
		case 3:
			op.Receipt.Price++
		case 4:
			op.Receipt.Result = square.Hash{}
		}
	case Withhold:
		op.Stake /= 2
	case Answer:
		op.Hash = square.Hash{}
	case Challenge:
		switch w.rng.IntN(9) {
		case 0:
			op.Charge.Evidence = square.Hash{}
		case 1:
			op.Charge.Value = op.Charge.Value*3/2 + 1
		case 2:
			op.Charge.Way = market.ByAnswer
		case 3:
			op.Stake /= 2
		case 4:
			op.Stake -= min(op.Stake, 110)
		case 5:
			op.Stake = w.params.Dispute() - 1
		case 6:
			op.Charge.Evidence = w.hash()
		case 7:
			op.Charge.Owes = pick(w, w.All())
		case 8: // a provider against itself
			if l, err := w.view.Lease(op.Lease); err == nil {
				op.By, op.Charge.Owes = l.Provider, square.Address{}
			}
		}
	case Judge:
		op.Verdict = "perhaps"
	case Seat:
		// Some judge too many: a party, one that sat before, the same once more, anybody.
		more := pick(w, w.All())
		if l, err := w.view.Lease(op.Lease); err == nil {
			if d := l.Dispute; d != nil {
				if len(d.Stood) > 0 && w.chance(60) {
					more = pick(w, d.Stood)
				} else {
					more = pick(w, slices.Concat([]square.Address{more, pick(w, w.Providers), l.Order.Buyer, l.Provider, d.Challenger}, op.Judges))
				}
				parties := append(l.Peers[:len(l.Peers):len(l.Peers)], l.Order.Buyer, l.Provider, d.Challenger)
				for i, a := range slices.Concat(parties, w.Providers) {
					// Best one that could sit, were it no party, or had it enlisted.
					st, _ := w.view.Stake(market.StakeKey{Provider: a, Trade: l.Order.Trade, Denom: l.Order.Denom})
					if st.Judge == (i < len(parties)) && st.Free() >= w.params.SeatBond && w.chance(40) {
						more = a
					}
				}
			}
		}
		if len(op.Judges) > 1 && w.chance(80) {
			op.Judges[0] = more
		} else {
			op.Judges = append(op.Judges, more)
		}
		if w.chance(10) {
			op.Judges = nil
		}
	case Commit:
		op.Hash = pick(w, []square.Hash{{}, w.hash()})
	case Vote:
		if w.chance(50) {
			op.Verdict = pick(w, append(verdicts, "perhaps"))
		} else {
			op.Hash = w.hash()
		}
	}
}

// forge spoils a quote.
func (w *Walker) forge(op *Op) {
	switch w.rng.IntN(9) {
	case 0:
		op.Quote.Expiry = w.Wall() + square.QuoteTTL + 1
	case 1:
		op.Quote.Expiry = w.Wall()
	case 2:
		op.Quote.Bond = 0
	case 3:
		op.Quote.Bond *= 1000
	case 4:
		op.Quote.Rates = w.rates(3)
	case 5:
		op.Quote.Offer = w.hash()
	case 6:
		op.Quote.Expiry = w.now + 1 // by the wrong clock
	case 7:
		op.Quote.Spec = pick(w, append(w.specs, w.hash()))
	case 8:
		op.Quote.Bond = w.params.Dispute() - w.rng.Uint64N(2)
	}
	op.Digest = op.Quote.Digest(w.domain)
	if len(w.quotes) > 0 && w.chance(40) {
		op.Digest, op.Forged = pick(w, w.quotes), true
	}
}
