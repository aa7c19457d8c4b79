package walk

import (
	"math/rand/v2"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// world is one lease between an honest provider, which follows its policy, and a
// buyer that does as it likes. A block a second; while blocks are full only the
// buyer is heard, and the clock of deadlines stands still. Everything else happens
// in the order that is worst for the provider: its transactions take the longest
// that they may, and the buyer moves first.
type world struct {
	*rand.Rand
	m       market.Machine
	s       *market.Memory
	policy  Policy
	now     int64
	full    int   // blocks without room still to come
	flight  *Op   // of the provider's, under way
	arrives int64 // when
	stands  bool  // does the clock stand still while blocks are full?
	judges  []square.Address
	done    uint64 // work
	held    uint64 // of vouchers
	receipt *square.Receipt
	pays    bool // the buyer still sends vouchers
	moved   map[string]int
}

const (
	worldBuyer    = 0xb0
	worldProvider = 0x90
	worldStranger = 0x0e
)

func someone(kind byte) square.Address { return square.Address{kind, 19: 1} }

func (w *world) chance(n, of int) bool { return w.IntN(of) < n }

// play plays a lease to its end and says what the provider has lost of what it was
// owed, and of its stake.
func (w *world) play(t *testing.T, o square.Order, bond uint64, ready bool) (owed, lost uint64) {
	t.Helper()
	must := func(_ []market.Event, err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	buyer, provider, stranger := someone(worldBuyer), someone(worldProvider), someone(worldStranger)
	for _, a := range []square.Address{buyer, provider, stranger} {
		if err := w.s.Fund(a, square.Utorg(1<<50)); err != nil {
			t.Fatal(err)
		}
	}
	must(w.m.Bond(w.s, w.now, provider, o.Trade, square.Utorg(1<<40)))
	for i := range byte(40) {
		j := square.Address{0x1d, 19: i}
		if err := w.s.Fund(j, square.Utorg(1<<40)); err != nil {
			t.Fatal(err)
		}
		must(w.m.Bond(w.s, w.now, j, o.Trade, square.Utorg(1000)))
		must(w.m.Enlist(w.s, w.now, market.StakeKey{Provider: j, Trade: o.Trade, Denom: square.Denom}, true))
		w.judges = append(w.judges, j)
	}
	off := square.Offer{Provider: provider, Trade: o.Trade, Spec: o.Spec, Denom: square.Denom, Rates: o.MaxRates, Capacity: 1, Expiry: 1 << 40, Nonce: 1}
	must(w.m.PostOffer(w.s, w.now, square.Hash{7}, off))
	id := o.ID(square.LedgerDomain("world"))
	q := square.Quote{Provider: provider, Order: id, Offer: square.Hash{7}, Spec: o.Spec, Rates: o.MaxRates, Bond: bond, Ready: ready, Expiry: w.now + 30}
	must(w.m.OpenMatched(w.s, w.now, id, o, q, square.Hash{8}))

	takes := w.Int64N(int64(o.Duration)) // that the job takes, if it is one
	for range 1_000_000 {
		l, err := w.s.Lease(id)
		if err != nil {
			t.Fatal(err)
		}
		if l.State.Terminal() {
			st, _ := w.s.Stake(l.StakeKey())
			if w.receipt != nil {
				w.done = w.receipt.Price
			}
			had := uint64(1 << 40)
			lost := had - min(had, st.Total) // pay that is held back may hide a little
			return w.done - min(w.done, l.Paid), lost
		}
		room := w.full == 0
		if room || !w.stands {
			w.now++
		}
		if !room {
			w.full--
			if w.stands {
				w.m.Lag++
			}
		}
		for _, id := range w.s.Due(w.now, 10) { // the ledger pokes
			events, _ := w.m.Poke(w.s, w.now, square.Address{}, id)
			for _, e := range events {
				w.moved["ledger: "+string(e.Kind)+" "+string(e.Reason)]++
			}
		}
		w.buyer(id)
		if w.flight != nil && room && w.now >= w.arrives {
			if _, err := w.flight.Apply(w.m, w.s); err == nil {
				w.moved["provider: "+string(w.flight.Verb)]++
			} else {
				w.moved["provider, in vain: "+string(w.flight.Verb)]++
			}
			w.flight = nil
		}
		// Work, and vouchers for it.
		l, _ = w.s.Lease(id)
		if step := 1 + w.Uint64N(w.policy.Interval); o.Mode == square.ModeStream && w.policy.Serves(l, w.done, w.held, step) && w.chance(1, 3) {
			w.done += step
		}
		if l.State == market.Active && w.pays && w.chance(1, 3) {
			w.held = max(w.held, w.policy.Holds(l, w.done+w.Uint64N(3)))
		}
		if o.Mode == square.ModeResult && w.receipt == nil && (l.State == market.Active || l.State == market.Draining) && l.Started > 0 && w.now >= l.Started+takes && w.now+2*w.policy.Delay < l.Deadline {
			price := o.JobValue
			w.receipt = &square.Receipt{Lease: id, Seq: 1, Request: o.Request, Result: square.Hash{1}, Units: []uint64{price * 1_000_000}, Price: price, Cumulative: price}
		}
		if w.flight == nil {
			if op, ok := w.policy.Next(l, w.now, w.held, w.receipt); ok {
				w.flight, w.arrives = &op, w.now+1+w.Int64N(w.policy.Delay)
				if w.chance(1, 2) {
					w.arrives = w.now + w.policy.Delay
				}
			}
		}
		if w.flight != nil {
			w.flight.Now, w.flight.Lag = w.now+1, w.m.Lag
			if !room && !w.stands {
				w.arrives++ // it has to wait, and time goes by
			}
		}
	}
	t.Fatal("the lease never ends")
	return
}

// buyer does something, mostly nothing.
func (w *world) buyer(id square.Hash) {
	buyer, stranger := someone(worldBuyer), someone(worldStranger)
	l, err := w.s.Lease(id)
	if err != nil || l.State.Terminal() {
		return
	}
	if w.full == 0 && w.chance(1, 60) {
		w.full = 1 + w.IntN(400) // it fills blocks
	}
	if w.chance(1, 100) {
		w.pays = !w.pays
	}
	did := func(what string, err error) {
		if err == nil {
			w.moved["buyer: "+what]++
		}
	}
	junk := func() {
		by := []square.Address{buyer, stranger}[w.IntN(2)]
		c := market.Charge{Way: []market.Way{market.ByJudges, market.ByProof}[w.IntN(2)], Evidence: square.Hash{byte(w.Uint64()), byte(w.Uint64())}, Value: w.Uint64N(l.Funded() + 1)}
		if l.Receipt != nil {
			c.Value = l.Receipt.Price
		}
		_, err := w.m.Challenge(w.s, w.now, by, id, c, w.m.LeastBond(l.Order, c.Value))
		did("junk challenge", err)
	}
	switch l.State {
	case market.Matched:
		if w.chance(1, 100) {
			_, err := w.m.Cancel(w.s, w.now, buyer, id)
			did("cancel", err)
		}
	case market.Active:
		switch n := w.IntN(2000); {
		case n < 12:
			_, err := w.m.Close(w.s, w.now, buyer, id, nil)
			did("close", err)
		case n < 24:
			_, err := w.m.TopUp(w.s, w.now, buyer, id, 1+w.Uint64N(1000))
			did("top up", err)
		case n < 36:
			junk()
		case n < 200 && l.Deadline-w.now < 2*w.policy.Delay+2: // just before it is silent
			junk()
		}
	case market.Draining:
		if w.chance(1, 40) {
			junk()
		} else if w.chance(1, 100) {
			_, err := w.m.Close(w.s, w.now, buyer, id, nil)
			did("close", err)
		}
	case market.Claimed:
		switch w.IntN(200) {
		case 0:
			junk()
		case 1, 2:
			_, err := w.m.Withhold(w.s, w.now, buyer, id, w.m.LeastBond(l.Order, l.Receipt.Price))
			did("withheld, it says", err)
		}
	case market.Disputed:
		if l.Dispute.Way == market.ByJudges && w.chance(1, 10) {
			w.judge(l)
		}
	}
}

// judge lets judges do what they have to do in a dispute. Of forty, four collude with
// the buyer and eight are silent, to keep the others from a quorum; of some disputes
// nobody judges.
func (w *world) judge(l market.Lease) {
	d := *l.Dispute
	if d.Evidence[0]%8 == 0 {
		return
	}
	if d.Seated == 0 {
		var cs []market.Candidate
		for _, j := range w.judges {
			st, _ := w.s.Stake(market.StakeKey{Provider: j, Trade: l.Order.Trade, Denom: l.Order.Denom})
			if l.Barred(j) == "" {
				cs = append(cs, market.Candidate{Judge: j, Weight: st.Total, Most: st.Free() / w.m.SeatBond})
			}
		}
		_, err := w.m.Seat(w.s, w.now, l.ID, market.Draw(square.Hash{byte(w.Uint64()), byte(w.Uint64())}, cs, int(w.m.Seats)))
		if err == nil {
			w.moved["judges: seat"]++
		}
		return
	}
	for _, s := range d.Seats {
		v := square.VerdictOK
		switch n := s.Judge[19]; {
		case n < 4:
			v = square.VerdictFraud
		case n < 12:
			continue
		}
		var err error
		if w.now < d.Votes(w.m.Params) {
			_, err = w.m.Commit(w.s, w.now, s.Judge, l.ID, square.Ballot(l.ID, s.Judge, d.Draw, v, secret(l.ID, s.Judge)))
		} else if s.Verdict == "" && !s.Ballot.IsZero() {
			_, err = w.m.Vote(w.s, w.now, s.Judge, l.ID, v, secret(l.ID, s.Judge))
		}
		if x, _ := w.s.Lease(l.ID); err == nil && x.State != market.Disputed {
			w.moved["judges: "+map[bool]string{true: "fraud", false: "ok"}[x.State == market.Slashed]]++
			return
		}
	}
}

func newWorld(seed uint64) *world {
	p := market.Default()
	p.DisputeCost, p.JudgeFee, p.SeatBond, p.Seats = 50, 1, 5, 15
	return &world{
		Rand: rand.New(rand.NewPCG(seed, 2)), m: market.Machine{Params: p}, s: market.NewMemory(), now: start, stands: true, pays: true,
		policy: Policy{Interval: 50, Delay: 20, Risk: 5000, Bond: 50_000}, moved: map[string]int{},
	}
}

// anOrder is one that the policy accepts, at the least notices as likely as at others.
func (w *world) anOrder(mode square.Mode) square.Order {
	secs := func() uint64 {
		if w.chance(1, 2) {
			return w.m.Notice
		}
		return w.m.Notice + w.Uint64N(600)
	}
	o := square.Order{
		Buyer: someone(worldBuyer), Authorizer: someone(worldBuyer), Trade: "infer", Mode: mode, Spec: square.Hash{1}, Denom: square.Denom,
		Escrow: 1000 + w.Uint64N(20_000), MaxRates: []square.Rate{{Unit: "token", PerMillion: 1}}, JobValue: 1 + w.Uint64N(200), Policy: square.PolicyAudit,
		Lanes: 1, Units: 1, Start: secs(), Idle: secs(), Duration: 2 * secs(), Challenge: secs(), Drain: secs(), Silence: w.Uint64N(10_001), Failover: w.Uint64N(2), Expiry: start + 60,
	}
	if mode == square.ModeResult {
		o.Lanes, o.Idle, o.Silence, o.Request = 0, 0, 0, square.Hash{5}
	}
	return o
}

// worst is the most that a provider loses in some leases of both modes: of pay, and
// of its stake.
func worst(t *testing.T, leases int, change func(*world, *square.Order)) (pay, stake uint64, moved map[string]int) {
	t.Helper()
	moved = map[string]int{}
	for seed := range uint64(leases) {
		w := newWorld(seed)
		w.moved = moved
		mode := square.ModeStream
		if seed%4 == 3 {
			mode = square.ModeResult
		}
		o := w.anOrder(mode)
		bond := w.m.LeaseBond(o) + w.Uint64N(1000)
		if err := w.policy.Accepts(o, bond); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(w, &o)
		}
		owed, lost := w.play(t, o, bond, w.chance(1, 2))
		late := mode == square.ModeResult && w.receipt == nil // its own fault: it took a job too long for it
		if owed > pay {
			pay = owed
		}
		if !late {
			stake = max(stake, lost)
		}
		if limit := w.policy.Interval; change == nil && (owed > limit || mode == square.ModeResult && owed > 0 || !late && lost > 0) {
			l := w.s.Leases()[0]
			t.Errorf("seed %d: the provider did work for %d, was paid %d and lost %d of its stake; the lease %s (%s)", seed, w.done, l.Paid, lost, l.State, l.Reason)
		}
	}
	return pay, stake, moved
}

// TestHonestProviderLosesOneInterval is I9 for a provider with a policy, its own
// transactions' delay and blocks that are full for minutes, whatever its buyer does.
func TestHonestProviderLosesOneInterval(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 500
	}
	pay, stake, moved := worst(t, n, nil)
	t.Logf("in %d leases at most %d of pay was lost in one, and %d of stake; %v", n, pay, stake, moved)
	for _, k := range []string{
		"buyer: close", "buyer: top up", "buyer: junk challenge", "buyer: withheld, it says", "buyer: cancel", "judges: seat", "judges: ok", "ledger: redrawn ", "ledger: given_up ",
		"provider: start", "provider: redeem", "provider: reclaim", "provider: claim", "provider: answer", "provider: prove", "provider, in vain: redeem",
	} {
		if moved[k] < 5 {
			t.Errorf("only %d of %q", moved[k], k)
		}
	}
	if moved["judges: fraud"] > 0 {
		t.Errorf("judges of whom less than a third collude found fraud %d times", moved["judges: fraud"])
	}
	if pay == 0 {
		t.Error("no buyer ever took its last interval: it does not try")
	}
}

// TestLossWithoutTheRules takes away one rule at a time and requires that an honest
// provider then loses more: so TestHonestProviderLosesOneInterval can fail.
func TestLossWithoutTheRules(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *square.Order)
		stake  bool
	}{
		"the clock stands still while blocks are full": {func(w *world, _ *square.Order) { w.stands = false }, false},
		"a close has notice":                           {func(w *world, o *square.Order) { w.m.Notice, o.Drain = 1, 1 }, false},
		"idle is long enough": {func(w *world, o *square.Order) {
			if w.m.Notice = 1; o.Mode == square.ModeStream {
				o.Idle, o.Silence = 10, 10_000
			}
		}, true},
		"it answers what it is asked":       {func(w *world, _ *square.Order) { w.policy.Delay = 400 }, true},
		"it holds only what the escrow has": {func(w *world, _ *square.Order) { w.policy.Risk = 1 << 62; w.policy.Interval = 5000 }, false},
	} {
		pay, stake, _ := worst(t, 200, c.change)
		if c.stake && stake == 0 || !c.stake && pay <= 50 {
			t.Errorf("without that %s it still lost only %d, and %d of its stake", name, pay, stake)
		}
	}
}
