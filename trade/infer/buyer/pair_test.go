package buyer_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
)

// twice is a request under the policy replicate.
func twice(n int) buyer.Ask {
	a := ask("toy", n, 8)
	a.Route.Policy = square.PolicyReplicate
	return a
}

// leaseWith is the only lease with a provider.
func leaseWith(t *testing.T, l *fake.Ledger, s *stall) (found market.Lease) {
	t.Helper()
	n := 0
	for _, x := range l.Leases() {
		if x.Provider == s.Address() {
			found = x
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d leases with %s, want 1", n, s.Address())
	}
	return found
}

// earned wants a newcomer to have nothing from its lease. Whoever ends an overdue
// lease gets a bounty, which here costs no fee; that it may have.
func earned(t *testing.T, l *fake.Ledger, s *stall) {
	t.Helper()
	x := leaseWith(t, l, s)
	if balance, stake := l.Balance(s.Address()); x.Paid != 0 || stake != 0 || balance > l.Machine.PokeBounty {
		t.Errorf("lying earned %d, %d of it as stake; the lease has paid %d", balance+stake, stake, x.Paid)
	}
}

func always(toy infertest.Toy) *liar {
	return &liar{Toy: toy, rnd: rand.New(rand.NewPCG(1, 1)), every: 1}
}

// TestNewcomer: somebody with nothing answers beside a staked provider, is paid to
// the unit for what both gave, and half of it becomes its first stake.
func TestNewcomer(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	staked, fresh := sell(t, l, 16, toy), newcomer(t, l, toy)
	d := buy(t, l, nil) // without the model: comparing is all it can do
	var sum uint64
	for n := range 20 {
		ans, err := d.Do(t.Context(), twice(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		if ans.Provider != staked.Address() || ans.Verified != square.PolicyReplicate {
			t.Errorf("answer %d is by %s, verified %q", n, ans.Provider, ans.Verified)
		}
		sum += ans.Cost.Units
	}
	if x := leaseWith(t, l, fresh); x.Bonded != 0 || x.Order.Policy != square.PolicyReplicate {
		t.Errorf("the newcomer's lease has a bond of %d, under %s", x.Bonded, x.Order.Policy)
	}
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, b := leaseWith(t, l, staked), leaseWith(t, l, fresh)
	if a.Paid+b.Paid != sum || a.Paid != b.Paid || b.Reason != market.ReasonAgreed {
		t.Errorf("paid %d and %d (%s), the answers cost %d", a.Paid, b.Paid, b.Reason, sum)
	}
	balance, stake := l.Balance(fresh.Address())
	if stake == 0 || balance == 0 || stake > balance {
		t.Errorf("the newcomer has %d, and %d at stake", balance, stake)
	}
	if !l.Conserved() {
		t.Error("money was made or lost")
	}
}

// TestFirstLie: a newcomer's first lie earns it nothing, whether or not the buyer can
// run the model; the client has the true answer.
func TestFirstLie(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	for name, models := range map[string][]infer.Replayer{"compared only": nil, "run": {toy}} {
		t.Run(name, func(t *testing.T) {
			l := infertest.NewLedger(toy)
			sell(t, l, 16, toy)
			thief := newcomer(t, l, always(toy))
			d := buy(t, l, func(c *config) { c.Models = models })
			for n := range 3 {
				var text strings.Builder
				ans, err := d.Do(t.Context(), twice(n), func(p infer.Delta) error { text.WriteString(p.Text); return nil })
				if n > 0 && err != nil {
					break // it gets no more, and nobody else is there
				}
				if err != nil {
					t.Fatal(err)
				}
				want := ""
				for _, tok := range toy.Answer(twice(n).Request) {
					want += string(rune(tok))
				}
				if text.String() != want || ans.Verified != "" {
					t.Errorf("the client has %q, verified %q", text.String(), ans.Verified)
				}
			}
			thief.stop() // it redeems what it can
			if err := d.CloseAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.Jump(2 * 3600e9)
			waitFor(t, "the thief's lease to end", func() bool { return leaseWith(t, l, thief).State.Terminal() })
			earned(t, l, thief)
			if !l.Conserved() {
				t.Error("money was made or lost")
			}
		})
	}
}

// TestStakedLiar: where the staked one lies, the newcomer is paid and the liar slashed.
func TestStakedLiar(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	crook, fresh := sell(t, l, 16, always(toy)), newcomer(t, l, toy)
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{toy} })
	ans, err := d.Do(t.Context(), twice(0), nil)
	if err != nil || ans.Verified != "" {
		t.Fatalf("verified %q, %v", ans.Verified, err)
	}
	waitFor(t, "the slash", func() bool { return leaseWith(t, l, crook).State == market.Slashed })
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x := leaseWith(t, l, fresh); x.Paid == 0 || x.Reason != market.ReasonAgreed {
		t.Errorf("the honest newcomer was paid %d (%s)", x.Paid, x.Reason)
	}
}

// TestTwoNewcomers: two with nothing at stake are no pair.
func TestTwoNewcomers(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	a, b := newcomer(t, l, always(toy)), newcomer(t, l, always(toy))
	d := buy(t, l, nil)
	if _, err := d.Do(t.Context(), twice(0), nil); !errors.Is(err, desk.ErrNoProvider) {
		t.Errorf("two newcomers: %v", err)
	}
	if a.Stats().Served+b.Stats().Served > 0 {
		t.Error("they were asked")
	}
	if _, err := d.Do(t.Context(), ask("toy", 1, 8), nil); err == nil {
		t.Error("a newcomer was asked without a partner")
	}
}

// TestCutOffNewcomer: what a newcomer signed for and did not deliver is compared with
// nothing, and not paid.
func TestCutOffNewcomer(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy)
	thief := newcomer(t, l, always(toy))
	var cuts atomic.Bool
	thief.turn(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cuts.Load() && strings.HasSuffix(r.URL.Path, "/serve") {
				h.ServeHTTP(mute{w}, r)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	cuts.Store(true)
	d := buy(t, l, nil)
	for n := range 3 {
		ans, err := d.Do(t.Context(), twice(n), nil)
		if n > 0 && err != nil {
			break // it gets no more, and nobody else is there
		}
		if err != nil || ans.Verified != "" {
			t.Fatalf("verified %q, %v", ans.Verified, err)
		}
	}
	if thief.Stats().Served == 0 {
		t.Fatal("it has charged nothing")
	}
	thief.stop() // it redeems what it can
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Jump(2 * 3600e9)
	waitFor(t, "the thief's lease to end", func() bool { return leaseWith(t, l, thief).State.Terminal() })
	earned(t, l, thief)
}

// mute takes an answer and passes nothing on.
type mute struct{ http.ResponseWriter }

func (mute) Write(b []byte) (int, error) { return len(b), nil }
func (mute) WriteHeader(int)             {}
func (mute) Flush()                      {}

// TestOpaquePair: what cannot be compared is not sold so.
func TestOpaquePair(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	for range 2 {
		sell(t, l, 16, dim{toy})
	}
	d := buy(t, l, nil)
	if _, err := d.Do(t.Context(), twice(0), nil); err == nil || !strings.Contains(err.Error(), "exact") {
		t.Errorf("an opaque model, twice: %v", err)
	}
}

// dim is a model that says it is not exact.
type dim struct{ infertest.Toy }

func (d dim) Model() provider.Model {
	m := d.Toy.Model()
	m.Exact = false
	return m
}

// TestCollusion: two that agree on lies are one, and are audited all the same: both
// have something at stake, and lose it.
func TestCollusion(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	a, b := sell(t, l, 16, always(toy)), sell(t, l, 16, always(toy))
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{toy} })
	slashed := func() bool {
		for _, x := range l.Leases() {
			if x.State == market.Slashed && (x.Provider == a.Address() || x.Provider == b.Address()) {
				return true
			}
		}
		return false
	}
	for n := 0; n < 2000 && !slashed(); n++ { // at one in seventeen, both drawn
		if _, err := d.Do(t.Context(), twice(n), nil); err != nil {
			break // one has been found out
		}
	}
	waitFor(t, "the slash", slashed)
}
