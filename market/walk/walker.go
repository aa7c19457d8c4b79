package walk

import (
	"encoding/binary"
	"math/rand/v2"

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
}

// Somebody is a cast with made-up addresses, for walks where nobody signs.
func Somebody(buyers, providers, others int) (p People) {
	make := func(kind byte, n int) (as []square.Address) {
		for i := range n {
			as = append(as, square.Address{0: kind, 18: byte(i >> 8), 19: byte(i + 1)})
		}
		return as
	}
	return People{make(0xb0, buyers), make(0x90, providers), make(0x0e, others)}
}

// All is everyone.
func (p People) All() []square.Address {
	return append(append(append([]square.Address(nil), p.Buyers...), p.Providers...), p.Others...)
}

// Params are parameters under which a walk meets every exit often.
func Params() market.Params {
	p := market.Default()
	p.EmissionBps = 9000
	p.Verdict, p.Answer, p.Hearings = 40, 50, 2
	p.PokeBounty = 50
	p.Unbonding, p.MaxOrderTTL, p.Retention = 300, 400, 500
	return p
}

// Walker makes one operation after the other. The same seed and the same
// outcomes make the same walk.
type Walker struct {
	People
	Trades []string
	Denoms []string
	Most   int // leases open at once, about

	params market.Params
	domain square.Domain
	view   View
	rng    *rand.Rand
	now    int64
	salt   uint64
	live   []square.Hash
	ended  []square.Hash // to be pruned, and to be tried in vain
	specs  []square.Hash
	quotes []square.Hash // digests of some quotes that were used
}

// New is a walker over view from the given time on.
func New(seed uint64, params market.Params, domain square.Domain, people People, view View, now int64) *Walker {
	return &Walker{
		People: people, Trades: []string{"infer", "label"}, Denoms: []string{square.Denom, "uusd"}, Most: 24,
		params: params, domain: domain, view: view, now: now,
		rng:   rand.New(rand.NewPCG(seed, 1)),
		specs: []square.Hash{{1}, {2}},
	}
}

// Now is the walk's time.
func (w *Walker) Now() int64 { return w.now }

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
	for _, e := range events {
		switch e.Kind {
		case market.EvOpened:
			w.live = append(w.live, e.Lease)
		case market.EvEnded:
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
	case w.chance(5):
		op = w.side()
	case len(w.ended) > 0 && w.chance(min(40, 5+len(w.ended)/10)):
		op = w.after(pick(w, w.ended[:min(len(w.ended), 1+w.rng.IntN(20))])) // the first to end most often
	default:
		op = w.act(pick(w, w.live))
	}
	if w.chance(10) {
		w.spoil(&op)
	}
	op.Now = w.now
	return op
}

// tick lets a little time pass, mostly none.
func (w *Walker) tick() {
	if w.chance(12) {
		w.now += 1 + w.rng.Int64N(3)
	}
}

func (w *Walker) rates(scale uint64) []square.Rate {
	return []square.Rate{{Unit: "in", PerMillion: 10 * scale}, {Unit: "out", PerMillion: 30 * scale}}
}

// side is an operation on a stake or an offer.
func (w *Walker) side() Op {
	p, trade, denom := pick(w, w.Providers), pick(w, w.Trades), pick(w, w.Denoms)
	op := Op{By: p, Trade: trade, Amount: square.Amount{Denom: denom}}
	st, _ := w.view.Stake(market.StakeKey{Provider: p, Trade: trade, Denom: denom})
	switch n := w.rng.IntN(100); {
	case n < 40 && st.Free() > 0:
		op.Verb, op.Amount.Units = Unbond, w.upto(st.Free())
	case n < 65 && st.Unbonding > 0:
		op.Verb = Unbonded
		if w.chance(70) && st.Until > w.now {
			w.now += st.Until - w.now
		}
	case n < 80:
		op.Verb, op.Slot = Withdraw, market.OfferKey{Provider: p, Trade: trade, Spec: pick(w, w.specs)}
	default:
		return w.offer(p, trade, pick(w, w.specs), denom)
	}
	return op
}

func (w *Walker) offer(p square.Address, trade string, spec square.Hash, denom string) Op {
	o := square.Offer{
		Provider: p, Trade: trade, Spec: spec, Subject: "a thing", Denom: denom, Rates: w.rates(1),
		Capacity: 1 + w.rng.Uint64N(12), Endpoint: "https://example.net", Expiry: w.now + 1 + w.rng.Int64N(4000),
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
	if err != nil || off.Expiry <= w.now || off.Withdrawn && w.chance(50) {
		return w.offer(p, trade, spec, pick(w, w.Denoms))
	}
	st, _ := w.view.Stake(market.StakeKey{Provider: p, Trade: trade, Denom: off.Denom})
	if st.Free() < 1000 && w.chance(60) {
		return Op{Verb: Bond, By: p, Trade: trade, Amount: square.Amount{Units: w.upto(1_000_000), Denom: off.Denom}}
	}
	o := square.Order{
		Buyer: pick(w, w.Buyers), Trade: trade, Mode: square.ModeStream, Spec: spec, Denom: off.Denom,
		Escrow: w.upto(1_000_000), MaxRates: w.rates(1 + w.rng.Uint64N(2)), Policy: square.PolicyAudit,
		Lanes: 1 + w.rng.Uint64N(4), Units: 1 + w.rng.Uint64N(3),
		Start: 1 + w.rng.Uint64N(30), Idle: 1 + w.rng.Uint64N(120), Duration: 1 + w.rng.Uint64N(200),
		Challenge: 1 + w.rng.Uint64N(60), Drain: 1 + w.rng.Uint64N(40), Failover: w.rng.Uint64N(3),
		Expiry: w.now + 1 + w.rng.Int64N(int64(w.params.MaxOrderTTL)), Salt: w.hash(),
	}
	o.Authorizer = o.Buyer
	o.JobValue = w.upto(o.Escrow)
	if w.chance(40) {
		o.Mode, o.Lanes = square.ModeResult, 0
	}
	if w.chance(20) {
		o.Policy = square.PolicyReplicate
	}
	op := Op{Verb: Open, By: o.Buyer, Order: o, Lease: o.ID(w.domain)}
	if w.chance(50) {
		op.Verb = OpenMatched
		w.quote(&op, o, off, st)
	}
	return op
}

// quote adds a provider's quote for o to op.
func (w *Walker) quote(op *Op, o square.Order, off market.Offer, st market.Stake) {
	q := square.Quote{
		Provider: off.Provider, Order: op.Lease, Offer: off.ID, Rates: w.rates(1),
		Ready: w.chance(60), Expiry: w.now + 1 + w.rng.Int64N(square.QuoteTTL), Nonce: w.hash(),
	}
	if o.Policy != square.PolicyReplicate || w.chance(40) {
		q.Bond = min(w.upto(o.Escrow*2), max(1, st.Free()))
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

var verbs = []Verb{Match, Start, Redeem, Close, Reclaim, Abandon, Cancel, Claim, Accept, Challenge, Judge, Prove, Poke}

// sensible are the operations that a state may take, likely ones repeated.
func sensible(l market.Lease) []Verb {
	stream := l.Order.Mode == square.ModeStream
	switch l.State {
	case market.Open:
		return []Verb{Match, Match, Match, Match, Match, Match, Cancel}
	case market.Matched:
		return []Verb{Start, Start, Start, Start, Start, Cancel, Abandon}
	case market.Active:
		if stream {
			return []Verb{Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Redeem, Close, Close, Reclaim, Abandon, Challenge, Challenge}
		}
		return []Verb{Claim, Claim, Claim, Claim, Claim, Claim, Cancel, Abandon}
	case market.Draining:
		return []Verb{Redeem, Redeem, Redeem, Close, Challenge, Challenge}
	case market.Claimed:
		return []Verb{Accept, Accept, Challenge, Challenge}
	case market.Disputed:
		if l.Dispute != nil && l.Dispute.Prove {
			return []Verb{Prove, Prove, Prove, Judge}
		}
		return []Verb{Judge, Judge, Judge, Prove}
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
	left := l.Deadline - w.now
	switch n := w.rng.IntN(1000); {
	case left <= 0 && n < 850:
		return w.verb(Poke, l)
	case n < 15 && left > 0: // to the deadline, or just before or after
		w.now += left + w.rng.Int64N(3) - 1
		return w.verb(Poke, l)
	case n < 16: // everyone is silent
		w.now += 2000
		return w.verb(Poke, l)
	}
	w.tick()
	return w.verb(pick(w, sensible(l)), l)
}

// verb is an operation on a lease with arguments that suit it.
func (w *Walker) verb(v Verb, l market.Lease) Op {
	op := Op{Verb: v, Lease: l.ID, By: l.Provider}
	switch v {
	case Match:
		key := market.OfferKey{Provider: pick(w, w.Providers), Trade: l.Order.Trade, Spec: l.Order.Spec}
		for range 4 { // look for one that has room
			if o, err := w.view.Offer(key); err == nil && o.Denom == l.Order.Denom && o.Expiry > w.now && !o.Withdrawn && o.Capacity-o.InUse >= l.Order.Units {
				break
			}
			key.Provider = pick(w, w.Providers)
		}
		off, err := w.view.Offer(key)
		if err != nil {
			return w.offer(key.Provider, key.Trade, key.Spec, l.Order.Denom)
		}
		st, _ := w.view.Stake(market.StakeKey{Provider: key.Provider, Trade: key.Trade, Denom: l.Order.Denom})
		if st.Free() == 0 && w.chance(70) {
			return Op{Verb: Bond, By: key.Provider, Trade: key.Trade, Amount: square.Amount{Units: w.upto(1_000_000), Denom: l.Order.Denom}}
		}
		op.By = key.Provider
		w.quote(&op, l.Order, off, st)
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
	case Cancel, Accept:
		op.By = l.Order.Buyer
	case Claim:
		op.Hash, op.Units = w.hash(), w.upto(l.Escrow)
		if w.chance(10) {
			op.Units = l.Escrow
		}
	case Challenge:
		op.By = pick(w, []square.Address{l.Order.Buyer, pick(w, w.Others), pick(w, w.Others)})
		op.Units = w.upto(l.Order.Escrow)
		op.Stake = max(op.Units, l.Order.JobValue)/10 + 1 + w.upto(100)
		op.Hash = square.Hash{31: byte(w.rng.IntN(3)) + 1} // few, so that some come twice
		if w.chance(50) {
			part := w.rng.Uint64N(2)
			op.Part = &part
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

// spoil makes one thing about the operation wrong, or at least odd.
func (w *Walker) spoil(op *Op) {
	switch op.Verb {
	case Bond, Unbond:
		op.Amount.Units *= uint64(w.rng.IntN(3)) << w.rng.IntN(50)
		return
	case Unbonded:
		op.By = pick(w, w.Providers)
		return
	}
	switch n := w.rng.IntN(14); {
	case n == 0 && len(w.live) > 0:
		op.Lease = pick(w, w.live)
	case n == 1 && len(w.ended) > 0:
		op.Lease = pick(w, w.ended)
	case n == 2:
		op.Lease = w.hash()
	case n == 3:
		op.By = pick(w, w.All())
	case n == 4 && op.Verb == Challenge:
		op.Hash = square.Hash{}
	case n == 4 && op.Verb == Claim:
		op.Hash = square.Hash{}
	case n == 5:
		op.Units = op.Units * 3 / 2
	case n == 6:
		op.Stake /= 2
	case n == 7 && (op.Verb == Match || op.Verb == OpenMatched):
		w.forge(op)
	case n >= 8 && op.Verb == Offer:
		op.Offer.Nonce -= w.rng.Uint64N(2)
		op.Offer.Capacity = w.rng.Uint64N(3)
		op.OfferID = op.Offer.ID(w.domain)
	case n == 10 && (op.Verb == Open || op.Verb == OpenMatched):
		switch w.rng.IntN(3) {
		case 0:
			op.Order.Expiry = w.now + int64(w.params.MaxOrderTTL) + 1
		case 1:
			op.Order.Escrow = 1 << 60
		case 2:
			op.Order.Units = 100
		}
		op.Lease = op.Order.ID(w.domain)
		op.Quote.Order = op.Lease
		op.Digest = op.Quote.Digest(w.domain)
	case n == 11 && op.Verb == Judge:
		op.Verdict = "perhaps"
	case n == 12 && op.Consent != nil:
		*op.Consent += uint64(w.rng.IntN(1000))
	case n == 13 && op.Verb == Redeem:
		op.Final = true
		op.Claims = append(op.Claims, market.Claim{Lane: uint16(w.rng.IntN(300))})
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

// forge spoils a quote.
func (w *Walker) forge(op *Op) {
	switch w.rng.IntN(6) {
	case 0:
		op.Quote.Expiry = w.now + square.QuoteTTL + 1
	case 1:
		op.Quote.Expiry = w.now
	case 2:
		op.Quote.Bond = 0
	case 3:
		op.Quote.Bond *= 1000
	case 4:
		op.Quote.Rates = w.rates(3)
	case 5:
		op.Quote.Offer = w.hash()
	}
	op.Digest = op.Quote.Digest(w.domain)
	if len(w.quotes) > 0 && w.chance(40) {
		op.Digest, op.Forged = pick(w, w.quotes), true
	}
}
