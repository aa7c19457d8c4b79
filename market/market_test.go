package market

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/torg-network/torg/square"
)

func TestParamsCheck(t *testing.T) {
	if err := Default().Check(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Params){
		"fee_bps":        func(p *Params) { p.FeeBps = 5001 },
		"treasury_bps":   func(p *Params) { p.TreasuryBps = 5001 },
		"emission_bps":   func(p *Params) { p.EmissionBps = 9001 },
		"cancel_bps":     func(p *Params) { p.CancelBps = 1001 },
		"abandon_bps":    func(p *Params) { p.AbandonBps = 10_001 },
		"late_bps":       func(p *Params) { p.LateBps = 10_001 },
		"reporter_bps":   func(p *Params) { p.ReporterBps = 5001 },
		"holdback_bps":   func(p *Params) { p.HoldbackBps = 10_001 },
		"holdback_times": func(p *Params) { p.HoldbackTimes = 1001 },
		"challenge_bps":  func(p *Params) { p.ChallengeBps = 10_001 },
		"hearings":       func(p *Params) { p.Hearings = 1001 },
		"redraws":        func(p *Params) { p.Redraws = 9 },
		"poke_bounty":    func(p *Params) { p.PokeBounty = 1 << 63 },
		"bounty_bps":     func(p *Params) { p.BountyBps = 1001 },
		"verdict":        func(p *Params) { p.Verdict = 0 },
		"answer":         func(p *Params) { p.Answer = 0 },
		"unbonding":      func(p *Params) { p.Unbonding = 1 << 40 },
		"max_order_ttl":  func(p *Params) { p.MaxOrderTTL = 0 },
		"dispute_cost":   func(p *Params) { p.DisputeCost = 1 << 63 },
		"seats":          func(p *Params) { p.Seats = 0 },
		"judge_fee":      func(p *Params) { p.JudgeFee = 1 << 63 },
		"seat_bond":      func(p *Params) { p.SeatBond = 1 << 63 },
		"notice":         func(p *Params) { p.Notice = 0 },
		"retention":      func(p *Params) { p.Retention = p.MaxOrderTTL - 1 },
	} {
		p := Default()
		spoil(&p)
		if err := p.Check(); err == nil || !strings.HasPrefix(err.Error(), "params: "+field+" is ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestLargest plays with the largest amounts there are: no sum may wrap.
func TestLargest(t *testing.T) {
	const most = square.MaxUnits
	m := Machine{Params: Default()}
	m.Notice = 1
	m.EmissionBps = 9000
	for _, bond := range []uint64{1, most} {
		s := NewMemory()
		ann, bob := person("ann"), person("bob")
		must := func(events []Event, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range []square.Address{ann, bob} {
			if err := s.Fund(a, square.Utorg(most)); err != nil {
				t.Fatal(err)
			}
		}
		must(m.Bond(s, 1, bob, "infer", square.Utorg(bond)))
		if _, err := m.Bond(s, 1, bob, "infer", square.Utorg(most)); err == nil {
			t.Error("a stake grew beyond any supply")
		}
		off := square.Offer{Provider: bob, Trade: "infer", Denom: square.Denom, Rates: []square.Rate{{Unit: "token"}}, Capacity: 1 << 63, Expiry: 1 << 62, Nonce: 1<<64 - 1}
		must(m.PostOffer(s, 1, square.Hash{7}, off))
		o := square.Order{
			Buyer: ann, Authorizer: ann, Trade: "infer", Mode: square.ModeStream, Denom: square.Denom, Escrow: most, MaxRates: off.Rates,
			JobValue: most, Policy: square.PolicyNone, Lanes: 256, Units: 1 << 63, Start: 1, Idle: 86400, Duration: 366 * 86400,
			Challenge: 1, Drain: 1, Failover: 8, Expiry: 86401,
		}
		id := o.ID(storyDomain)
		q := square.Quote{Provider: bob, Order: id, Offer: square.Hash{7}, Rates: off.Rates, Bond: bond, Ready: true, Expiry: 31}
		must(m.OpenMatched(s, 1, id, o, q, square.Hash{8}))
		over := []Claim{{0, most - 1}, {1, 1<<64 - 1}, {2, 1 << 63}}
		if _, err := m.Redeem(s, 2, bob, id, over, false); !errors.Is(err, ErrFunds) {
			t.Errorf("lanes that wrap around: %v", err)
		}
		must(m.Redeem(s, 2, bob, id, []Claim{{0, most/2 + 1}, {255, most / 2}}, false))
		l, err := s.Lease(id)
		if err != nil || l.Paid != most || l.Escrow != 0 {
			t.Errorf("paid %d of %d: %v", l.Paid, uint64(most), err)
		}
		st, _ := s.Stake(l.StakeKey())
		if st.Total > most || st.Locked != bond {
			t.Errorf("stake %+v", st)
		}
		must(m.Abandon(s, 3, bob, id))
		if got := s.Total(square.Denom); got != s.Balance(Minted, square.Denom) {
			t.Errorf("I1: %d exist, %d were minted", got, s.Balance(Minted, square.Denom))
		}
	}
}

func TestAtomically(t *testing.T) {
	s := NewMemory()
	ann := person("ann")
	if err := s.Fund(ann, square.Utorg(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetLease(Lease{ID: square.Hash{1}, State: Open, Deadline: 5}); err != nil {
		t.Fatal(err)
	}
	before := []any{maps.Clone(s.leases), maps.Clone(s.offers), maps.Clone(s.stakes), maps.Clone(s.used), maps.Clone(s.pots)}
	no := errors.New("no")
	scribble := func() error {
		for _, err := range []error{
			s.SetLease(Lease{ID: square.Hash{1}, State: Settled, Deadline: 9}),
			s.SetLease(Lease{ID: square.Hash{2}, Deadline: 9}),
			s.DropLease(square.Hash{1}),
			s.SetOffer(Offer{ID: square.Hash{3}}),
			s.SetStake(StakeKey{Trade: "x"}, Stake{Total: 1}),
			s.Use(square.Hash{4}, 1),
			s.Move(Account(ann), Burned, square.Utorg(10)),
			s.Move(Minted, Treasury, square.Utorg(3)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return no
	}
	if err := s.Atomically(func() error {
		if err := s.Atomically(scribble); !errors.Is(err, no) {
			t.Errorf("inner: %v", err)
		}
		if err := s.Use(square.Hash{5}, 1); err != nil {
			t.Error(err)
		}
		return no
	}); !errors.Is(err, no) {
		t.Errorf("outer: %v", err)
	}
	after := []any{s.leases, s.offers, s.stakes, s.used, s.pots}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("after undoing\n%v\nbefore\n%v", after, before)
	}
	if due := s.Due(100, 10); len(due) != 1 || due[0] != (square.Hash{1}) {
		t.Errorf("due %v: only the lease that was there is", due)
	}
}

// TestDue drives leases by the queue alone, as the ledger does.
func TestDue(t *testing.T) {
	st := newStory()
	for _, line := range []string{"fund ann units=100000", "fund bob units=10000", "bond bob units=5000", "offer bob",
		"order one ann", "order two ann provider=bob", "order three ann provider=bob ready", "redeem three bob 0=5"} {
		st.play(strings.Fields(line))
	}
	ended := map[Reason]int{}
	for range 30 {
		st.now += 30
		for _, id := range st.store.Due(st.now, 100) {
			l, err := st.store.Lease(id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.m.Poke(st.store, st.now, square.Address{}, id); err != nil {
				t.Fatal(err)
			}
			l, _ = st.store.Lease(id)
			ended[l.Reason]++
		}
	}
	if want := map[Reason]int{ReasonExpired: 1, ReasonNoStart: 1, ReasonIdle: 1}; !maps.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
	st.now += int64(st.m.Retention)
	for _, id := range st.store.Due(st.now, 100) {
		if _, err := st.m.Prune(st.store, st.now, id); err != nil {
			t.Fatal(err)
		}
	}
	if left := st.store.Leases(); len(left) != 0 {
		t.Errorf("%d leases are never pruned", len(left))
	}
}

func TestChannel(t *testing.T) {
	o := square.Order{Buyer: person("ann"), Authorizer: person("key"), Denom: "uusd", Drain: 9}
	l := Lease{ID: o.ID(storyDomain), Order: o, Provider: person("bob")}
	if got, want := l.Channel(3), o.Channel(storyDomain, l.Provider, 3); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	l.ID = ChildID(l.ID, 1)
	if l.Channel(3) == o.Channel(storyDomain, l.Provider, 3) {
		t.Error("a child takes its parent's vouchers")
	}
	const want = "521a424e3375acee15d506c7b95a4118ee2294d98889da8f8809f9fca0430f06"
	if got := ChildID(square.Hash{1}, 2).String(); got != want {
		t.Errorf("ChildID: %s, want %s", got, want)
	}
}

// BenchmarkRedeem is one redemption of one lane, over maps.
func BenchmarkRedeem(b *testing.B) {
	st := newStory()
	for _, line := range []string{"fund ann units=1000000000000", "fund bob units=10000", "bond bob units=5000", "offer bob",
		"order one ann provider=bob ready escrow=1000000000000"} {
		st.play(strings.Fields(line))
	}
	id, bob, n := st.names["one"], person("bob"), uint64(0)
	for b.Loop() {
		n += 50
		if _, err := st.m.Redeem(st.store, st.now, bob, id, []Claim{{0, n}}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBondTrade(t *testing.T) {
	s, m := NewMemory(), Machine{Params: Default()}
	if err := s.Fund(person("bob"), square.Utorg(10)); err != nil {
		t.Fatal(err)
	}
	for trade, ok := range map[string]bool{"": false, "x": true, strings.Repeat("x", 32): true, strings.Repeat("x", 33): false} {
		if _, err := m.Bond(s, 1, person("bob"), trade, square.Utorg(1)); (err == nil) != ok {
			t.Errorf("%q: %v", trade, err)
		}
	}
}
