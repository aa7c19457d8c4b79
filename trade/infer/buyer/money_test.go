package buyer_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/wire"
)

// settle closes all leases and returns what the only one paid.
func settle(t *testing.T, l *fake.Ledger, d *shop) market.Lease {
	t.Helper()
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.Conserved() {
		t.Error("money was made or lost")
	}
	leases := l.Leases()
	if len(leases) != 1 {
		t.Fatalf("%d leases, want 1", len(leases))
	}
	return leases[0]
}

// crowd is a model that counts how many answers are judged at once.
type crowd struct {
	infer.Replayer
	now, most atomic.Int64
}

func (c *crowd) Replay(q infer.Request, r infer.Result) (bool, uint64, error) {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(5 * time.Millisecond)
	return c.Replayer.Replay(q, r)
}

// However many ask for audits, two answers at most are judged at a time.
func TestAuditsAtOnce(t *testing.T) {
	m := nano.Model()
	model := &crowd{Replayer: replay.Model{Model: m}}
	l := infertest.NewLedger(model)
	sell(t, l, 8, provider.Exact(m))
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{model} })
	var ids []square.Hash
	for i := range 8 {
		ans, err := d.Do(t.Context(), ask(m.Name(), i, 2), func(infer.Delta) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, ans.Receipt)
	}
	var workers sync.WaitGroup
	for _, id := range ids {
		workers.Go(func() {
			if got, err := d.Audit(t.Context(), id); err != nil || got != desk.AuditEqual {
				t.Errorf("audit: %v, %v", got, err)
			}
		})
	}
	workers.Wait()
	if most := model.most.Load(); most != 2 {
		t.Errorf("%d were judged at once", most)
	}
}

// TestNanoSettlement sells the bundled model, audits everything, and settles.
func TestNanoSettlement(t *testing.T) {
	m := nano.Model()
	model := replay.Model{Model: m}
	l := infertest.NewLedger(model)
	s := sell(t, l, 16, provider.Exact(m))
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{model} })
	var sum uint64
	var mu sync.Mutex
	var workers sync.WaitGroup
	n := 40
	if testing.Short() {
		n = 8
	}
	for i := range n {
		workers.Go(func() {
			var text strings.Builder
			a := ask(m.Name(), i, 12)
			a.Request.Temperature = uint32(i%3) * 500
			a.Request.Seed[0] = byte(i)
			ans, err := d.Do(t.Context(), a, func(p infer.Delta) error { text.WriteString(p.Text); return nil })
			if err != nil {
				t.Error(err)
				return
			}
			if text.String() != model.Text(a.Request, ans.Result) || len(ans.Result.Tokens) != 12 {
				t.Errorf("delivered %q, signed %v", text.String(), ans.Result)
			}
			if got, err := d.Audit(t.Context(), ans.Receipt); err != nil || got != desk.AuditEqual {
				t.Errorf("audit: %v, %v", got, err)
			}
			mu.Lock()
			sum += ans.Cost.Units
			mu.Unlock()
		})
	}
	workers.Wait()
	emb, err := d.Do(t.Context(), buyer.Ask{Model: m.Name(), Request: infer.Request{Kind: infer.Embed, Prompt: []byte("a text")}}, nil)
	if err != nil || len(emb.Result.Vector) == 0 {
		t.Fatalf("embedding: %v, %v", emb.Result, err)
	}
	sum += emb.Cost.Units
	if end := settle(t, l, d); end.Paid != sum || s.Stats().Charged != sum {
		t.Errorf("paid %d, receipts %d, charged %d", end.Paid, sum, s.Stats().Charged)
	}
}

// liar changes one answer in every so many.
type liar struct {
	infertest.Toy
	mu    sync.Mutex
	rnd   *rand.Rand
	every int
	lies  int
}

func (e *liar) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	e.mu.Lock()
	lie := e.rnd.IntN(e.every) == 0
	if lie {
		e.lies++
	}
	e.mu.Unlock()
	if lie {
		job.Request.Seed[31] ^= 1 // the answer to another request
	}
	return e.Toy.Run(ctx, job, emit)
}

// TestLiarLosesMoney lets a provider lie about one answer in twenty until it is
// caught. Over many providers the lies do not pay: what they brought is less than what
// was lost by them. What the honest answers brought between them hangs on luck alone.
func TestLiarLosesMoney(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	rounds, most := 12, 4000
	if testing.Short() {
		rounds = 2
	}
	const price = 40 // an answer costs less
	var gain, loss int64
	var caught, lies, requests int
	for round := range rounds {
		l := infertest.NewLedger(toy)
		e := &liar{Toy: toy, rnd: rand.New(rand.NewPCG(uint64(round), 5)), every: 20}
		s := sell(t, l, 16, e)
		// Requests cost about 30 to 40 base units, jobs are bonded at 1000.
		d := buy(t, l, func(c *config) {
			c.Models, c.JobValue, c.Escrow = []infer.Replayer{toy}, 1000, 1_000_000
		})
		a0, s0 := l.Balance(s.Address())
		n := 0
		for ; n < most; n++ {
			if _, err := d.Do(t.Context(), ask("toy", n, 8), nil); err != nil {
				if !errors.Is(err, buyer.ErrNoModel) && !errors.Is(err, desk.ErrProvider) {
					t.Fatalf("request %d: %v", n, err)
				}
				break
			}
		}
		requests += n
		lies += e.lies
		if n < most {
			caught++
			waitFor(t, "the slash", func() bool { return l.Leases()[0].State.Terminal() })
			if st := l.Leases()[0].State; st != market.Slashed {
				t.Errorf("round %d: the lease is %s, want slashed", round, st)
			}
			waitFor(t, "a receipt that says that its provider was slashed", func() bool {
				recs, _, err := d.Receipts(t.Context(), desk.Filter{}, time.Time{}, most)
				return err == nil && slices.ContainsFunc(recs, func(r desk.Record) bool { return r.Audit == desk.AuditSlashed })
			})
		}
		d.stop()
		s.stop()
		a1, s1 := l.Balance(s.Address())
		gain += int64(e.lies) * price
		loss += int64(a0+s0) + int64(l.Leases()[0].Paid) - int64(a1+s1)
		if !l.Conserved() {
			t.Error("money was made or lost")
		}
	}
	t.Logf("%d liars, %d requests, %d lies: %d caught, lies brought %d at most and cost %d", rounds, requests, lies, caught, gain, loss)
	if caught < rounds*3/4 || gain >= loss {
		t.Errorf("%d of %d caught, lies brought %d and cost %d: lying pays", caught, rounds, gain, loss)
	}
}

// TestKilledMidStream kills the provider while it answers, starts it again on
// the same disk, and finds that both sides agree on what is owed.
func TestKilledMidStream(t *testing.T) {
	toy := infertest.Toy{Name: "toy", Pace: 5 * time.Millisecond}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 4, toy)
	d := buy(t, l, nil)
	first, err := d.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	killed := make(chan struct{})
	_, err = d.Do(t.Context(), ask("toy", 1, 400), func(infer.Delta) error {
		if got++; got == 5 {
			go func() { defer close(killed); s.kill() }()
		}
		return nil
	})
	if err == nil || got < 5 {
		t.Fatalf("after %d tokens and a kill: %v", got, err)
	}
	t.Logf("after %d tokens: %v", got, err)
	<-killed
	if _, err := d.Do(t.Context(), ask("toy", 2, 3), nil); !errors.Is(err, desk.ErrProvider) || errors.Is(err, desk.ErrUnknown) {
		t.Fatalf("asking a dead provider: %v; nothing was sent, so the outcome is known", err)
	}
	s.start(t)
	var again buyer.Answer
	waitFor(t, "the provider", func() bool {
		again, err = d.Do(t.Context(), ask("toy", 3, 3), nil)
		return err == nil
	})
	// Nothing but receipts is owed: the two whole answers, and at most what the
	// provider signed for the cut one.
	waitFor(t, "the lanes", func() bool { return settleable(l, s, d) })
	end := settle(t, l, d)
	if want := s.Owned(t, d, end.ID); end.Paid != want || end.Paid < first.Cost.Units+again.Cost.Units {
		t.Errorf("paid %d, the provider's receipts say %d", end.Paid, want)
	}
	if end.Reason != market.ReasonAgreed {
		t.Errorf("the lease ended %s, want agreed", end.Reason)
	}
}

// TestForgottenCharge: a provider whose machine dies before a charge is synced
// loses that one request and no more; the buyer pays for nothing else, and other
// lanes go on.
func TestForgottenCharge(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.stop()
	s.disk = &faulty{}
	s.start(t)
	d := buy(t, l, nil)
	first, err := d.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.disk.forgets.Store(true)
	lost, err := d.Do(t.Context(), ask("toy", 1, 3), nil)
	if err != nil || lost.Signed.Receipt.Lane != first.Signed.Receipt.Lane {
		t.Fatalf("on lane %d after %d: %v", lost.Signed.Receipt.Lane, first.Signed.Receipt.Lane, err)
	}
	s.kill()
	s.disk.forgets.Store(false)
	s.start(t)
	var next buyer.Answer
	waitFor(t, "the provider", func() bool {
		next, err = d.Do(t.Context(), ask("toy", 2, 3), nil)
		return err == nil
	})
	if next.Lease != first.Lease || next.Signed.Receipt.Lane == first.Signed.Receipt.Lane {
		t.Errorf("went on with lane %d of lease %s", next.Signed.Receipt.Lane, next.Lease.Short())
	}
	// The sums differ, so there is no consent, and the provider redeems in time.
	settle(t, l, d)
	both := first.Cost.Units + next.Cost.Units
	waitFor(t, "what is owed", func() bool { return l.Leases()[0].Paid >= both })
	if s.stop(); l.Leases()[0].Paid != both {
		t.Errorf("paid %d; %d are known to both, %d to the buyer alone", l.Leases()[0].Paid, both, lost.Cost.Units)
	}
}

// Owned is what the provider's lanes were charged in all, by its own word.
func (s *stall) Owned(t testing.TB, d *shop, id square.Hash) (sum uint64) {
	for lane := range uint16(8) {
		st, err := s.lane(t, d, id, lane)
		if err == nil {
			sum += st.Charged
		}
	}
	return sum
}

// settleable waits until the buyer knows how every lane stands.
func settleable(l *fake.Ledger, s *stall, d *shop) bool {
	models, err := d.Models(context.Background())
	return err == nil && len(models) == 1 && models[0].Free == l.Leases()[0].Order.Lanes
}

// TestLedgerStalled: open leases serve on while no blocks are made.
func TestLedgerStalled(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy, infertest.Toy{Name: "other"})
	d := buy(t, l, nil)
	if _, err := d.Do(t.Context(), ask("toy", 0, 3), nil); err != nil {
		t.Fatal(err)
	}
	l.Stall(true)
	for i := range 20 {
		if _, err := d.Do(t.Context(), ask("toy", i, 3), nil); err != nil {
			t.Fatalf("request %d in an open lease: %v", i, err)
		}
	}
	if _, err := d.Do(t.Context(), ask("other", 0, 3), nil); !errors.Is(err, desk.ErrStalled) {
		t.Fatalf("a request that needs a lease: %v, want ErrStalled", err)
	}
	l.Stall(false)
	waitFor(t, "blocks", func() bool { _, err := d.Do(t.Context(), ask("other", 1, 3), nil); return err == nil })
}

// TestFullDisk: nothing is served, charged or lost while either disk is full.
func TestFullDisk(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.stop()
	disk := &faulty{}
	s.disk = disk
	s.start(t)
	d := buy(t, l, nil)
	a, err := d.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	_, err = d.Do(t.Context(), ask("toy", 1, 3), nil)
	var we *wire.Refusal
	if !errors.Is(err, desk.ErrProvider) && !errors.As(err, &we) || errors.Is(err, desk.ErrUnknown) {
		t.Fatalf("with the provider's disk full: %v", err)
	}
	disk.full.Store(false)
	b, err := d.Do(t.Context(), ask("toy", 2, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	if end := settle(t, l, d); end.Paid != a.Cost.Units+b.Cost.Units {
		t.Errorf("paid %d for answers of %d and %d", end.Paid, a.Cost.Units, b.Cost.Units)
	}
}

// TestCancel charges what was delivered, and no more.
func TestCancel(t *testing.T) {
	toy := infertest.Toy{Name: "toy", Pace: 2 * time.Millisecond}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy)
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{toy} })
	for _, way := range []string{"ctx", "emit"} {
		ctx, cancel := context.WithCancel(t.Context())
		got := 0
		ans, err := d.Do(ctx, ask("toy", 7, 1000), func(infer.Delta) error {
			if got++; got == 10 {
				if way == "emit" {
					return errors.New("the client has gone")
				}
				cancel()
			}
			return nil
		})
		cancel()
		n := len(ans.Result.Tokens)
		if err != nil || ans.Result.Finish != infer.FinishCancelled || n < 10 || n > 100 {
			t.Fatalf("%s: %d tokens, finish %q, %v", way, n, ans.Result.Finish, err)
		}
		if want, _ := square.Price(rates, []uint64{uint64(len("question 7")), uint64(n)}); ans.Cost.Units != want {
			t.Errorf("%s: charged %d for %d tokens, want %d", way, ans.Cost.Units, n, want)
		}
		if got, err := d.Audit(t.Context(), ans.Receipt); err != nil || got != desk.AuditEqual {
			t.Errorf("%s: audit of a cancelled answer: %v, %v", way, got, err)
		}
	}
	settle(t, l, d)
}

// TestClockJumps: wall clocks that jump by an hour on both sides change
// nothing; the ledger's own clock ends leases, and the next request opens one.
func TestClockJumps(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	var jump time.Duration
	var mu sync.Mutex
	wall := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(jump) }
	s := sell(t, l, 16, toy)
	s.stop()
	s.cfg.Now, s.cfg.RedeemEvery = wall, 20*time.Millisecond
	s.start(t)
	d := buy(t, l, func(c *config) { c.Now = wall; c.Refresh = 50 * time.Millisecond })
	for i, by := range []time.Duration{0, time.Hour, -time.Hour, 0} {
		mu.Lock()
		jump = by
		mu.Unlock()
		if _, err := d.Do(t.Context(), ask("toy", i, 3), nil); err != nil {
			t.Fatalf("wall clock off by %v: %v", by, err)
		}
	}
	if n := l.Count("open"); n != 1 {
		t.Errorf("%d leases were opened, want 1", n)
	}
	waitFor(t, "redemption", func() bool { return s.Owed() == 0 })
	l.Jump(2 * time.Hour) // the lease is over, and so is the offer
	time.Sleep(100 * time.Millisecond)
	waitFor(t, "a new lease", func() bool {
		_, err := d.Do(t.Context(), ask("toy", 9, 3), nil)
		return err == nil && l.Count("open") == 2
	})
	// What was charged on the lease that is over is paid all the same.
	waitFor(t, "the old lease to end", func() bool {
		ended := 0
		for _, x := range l.Leases() {
			if x.State.Terminal() {
				ended++
			}
		}
		return ended == 1
	})
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	var paid uint64
	for _, x := range l.Leases() {
		paid += x.Paid
		t.Logf("lease %s: %s (%s), paid %d", x.ID.Short(), x.State, x.Reason, x.Paid)
	}
	if want := s.Stats().Charged; paid != want {
		t.Errorf("%d was paid of the %d charged", paid, want)
	}
}

// TestRenewal uses up lease after lease without a failed request.
func TestRenewal(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy)
	d := buy(t, l, func(c *config) { c.Escrow, c.JobValue, c.Lanes = 10_000, 400, 4 })
	var sum uint64
	for i := range 800 {
		ans, err := d.Do(t.Context(), ask("toy", i, 8), nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		sum += ans.Cost.Units
	}
	waitFor(t, "old leases to close", func() bool {
		open := 0
		for _, x := range l.Leases() {
			if !x.State.Terminal() {
				open++
			}
		}
		return open <= 2
	})
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	var paid uint64
	for _, x := range l.Leases() {
		paid += x.Paid
		if x.Reason != market.ReasonAgreed {
			t.Errorf("lease %s ended %s, want agreed", x.ID.Short(), x.Reason)
		}
	}
	if paid != sum {
		t.Errorf("%d was paid for %d, over %d leases", paid, sum, len(l.Leases()))
	}
	t.Logf("%d leases", len(l.Leases()))
	if len(l.Leases()) < 2 {
		t.Error("the lease was never renewed")
	}
}

// TestBuyerRestart: a desk that comes back on its disk uses the same lease and
// knows its receipts.
func TestBuyerRestart(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy)
	d := buy(t, l, nil)
	a, err := d.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.stop()
	d.start(t)
	b, err := d.Do(t.Context(), ask("toy", 1, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Lease != b.Lease {
		t.Error("a new lease was opened after the restart")
	}
	for _, id := range []square.Hash{a.Receipt, b.Receipt} {
		if _, err := d.Receipt(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if end := settle(t, l, d); end.Paid != a.Cost.Units+b.Cost.Units {
		t.Errorf("paid %d, want %d", end.Paid, a.Cost.Units+b.Cost.Units)
	}
}

// TestRouting: the order, the limits and the fallbacks of a route.
func TestRouting(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	x, y := sell(t, l, 8, toy), sell(t, l, 8, toy)
	d := buy(t, l, nil)
	do := func(r buyer.Route) (buyer.Answer, error) {
		a := ask("toy", 1, 3)
		a.Route = r
		return d.Do(t.Context(), a, nil)
	}
	for _, s := range []*stall{x, y} {
		ans, err := do(buyer.Route{Order: []string{s.Address().String()[:20]}})
		if err != nil || ans.Provider != s.Address() {
			t.Errorf("order: answered by %v, want %v (%v)", ans.Provider, s.Address(), err)
		}
		ans, err = do(buyer.Route{Ignore: []string{s.Address().Hex()}})
		if err != nil || ans.Provider == s.Address() {
			t.Errorf("ignore: answered by %v (%v)", ans.Provider, err)
		}
	}
	if _, err := do(buyer.Route{MaxCompletion: 1}); !errors.Is(err, desk.ErrNoProvider) {
		t.Errorf("max price: %v", err)
	}
	if _, err := d.Do(t.Context(), buyer.Ask{Model: "none", Request: ask("", 0, 1).Request}, nil); !errors.Is(err, buyer.ErrNoModel) {
		t.Errorf("unknown model: %v", err)
	}
	a := ask("toy", 1, 100)
	a.MaxCost = 10
	if _, err := d.Do(t.Context(), a, nil); !errors.Is(err, desk.ErrBudget) {
		t.Errorf("budget: %v", err)
	}
	x.kill()
	ans, err := do(buyer.Route{Order: []string{x.Address().String()}})
	if err != nil || ans.Provider != y.Address() {
		t.Errorf("fallback: answered by %v (%v)", ans.Provider, err)
	}
	if _, err := do(buyer.Route{Order: []string{x.Address().String()}, NoFallbacks: true}); err == nil {
		t.Error("a dead provider answered")
	}
}

// TestUnsold: that a policy is not for streams is said by name, before anything is
// asked.
func TestUnsold(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 8, toy)
	d := buy(t, l, nil)
	for _, p := range []square.Policy{square.PolicyAttest, "luck"} {
		a := ask("toy", 1, 1)
		a.Route.Policy = p
		var we *wire.Refusal
		if _, err := d.Do(t.Context(), a, nil); !errors.As(err, &we) || we.Code != wire.CodeBadRequest || !strings.Contains(err.Error(), string(p)) {
			t.Errorf("policy %s: %v", p, err)
		}
		cfg := d.cfg
		cfg.Policy = p
		if _, _, err := cfg.open(); err == nil {
			t.Errorf("a desk of policy %s", p)
		}
	}
	if n := l.Count("open"); n != 0 {
		t.Errorf("%d leases were opened", n)
	}
}

// TestFunds: a payer without money is told so.
func TestFunds(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 8, toy)
	d := buy(t, l, func(c *config) {
		c.Owner = newKey(t)
		c.Ledger = fake.Account{Ledger: l, Self: c.Owner.Address()}
	})
	if _, err := d.Do(t.Context(), ask("toy", 1, 1), nil); !errors.Is(err, desk.ErrFunds) {
		t.Fatalf("%v, want ErrFunds", err)
	}
}
