package desk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/wire"
)

type shop struct {
	*desk.Desk
	cfg  desk.Config
	path string
	stop func()
}

func open(t *testing.T, l *ledger, set func(*desk.Config)) *shop {
	t.Helper()
	owner := newKey(t)
	if err := l.do(func() error { return l.mem.Fund(owner.Address(), square.Utorg(1_000_000_000)) }); err != nil {
		t.Fatal(err)
	}
	s := &shop{path: filepath.Join(t.TempDir(), "desk.db"), cfg: desk.Config{
		Key: newKey(t), Owner: owner, ChainID: chainID, Ledger: account{l, owner.Address()}, Trades: []desk.Trade{upper{}},
		JobValue: 1_000_000, Start: 20 * time.Second, Challenge: 60 * time.Second, Duration: 100 * time.Second, Drain: 5 * time.Second, Refresh: 20 * time.Millisecond,
	}}
	if set != nil {
		set(&s.cfg)
	}
	s.run(t)
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

func (s *shop) run(t *testing.T) {
	t.Helper()
	store, err := journal.Open(s.path, desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Store = store
	if s.Desk, err = desk.New(s.cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	d := s.Desk
	running.Go(func() { _ = d.Run(ctx) })
	s.stop = func() {
		cancel()
		running.Wait()
		d.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		s.stop = nil
	}
}

func want(p square.Policy) square.Order {
	return square.Order{Trade: "upper", Spec: square.Hash{1}, Policy: p, MaxRates: []square.Rate{{Unit: "letter", PerMillion: 10_000_000}}}
}

// order places an order, or fails the test.
func (s *shop) order(t *testing.T, p square.Policy, job string) desk.Job {
	t.Helper()
	j, err := s.Order(t.Context(), want(p), []byte(job))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// over waits for the end of an order, and hurries leases that are in one of some
// states.
func (s *shop) over(t *testing.T, id square.Hash, l *ledger, in ...market.State) desk.Job {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		j, err := s.Job(id)
		if err != nil {
			t.Fatal(err)
		}
		if j.Over {
			return j
		}
		l.hurry(in...)
	}
	j, _ := s.Job(id)
	t.Fatalf("the order is not over: %+v\n%+v", j, l.leases())
	return j
}

func (s *shop) result(t *testing.T, id square.Hash) string {
	t.Helper()
	r, err := s.Receipt(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Evidence.Result)
}

func lease(t *testing.T, l *ledger, id square.Hash) market.Lease {
	t.Helper()
	m, err := account{ledger: l}.Lease(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOrder: an order goes to the cheapest that fits and gives a quote, and its
// result is paid at once.
func TestOrder(t *testing.T) {
	l := newLedger()
	dear, cheap, mean := hire(t, l, 50_000_000, 5), hire(t, l, 50_000_000, 2), hire(t, l, 50_000_000, 1)
	mean.refuses.Store(true)
	out := hire(t, l, 50_000_000, 11) // above the limit
	s := open(t, l, nil)
	j := s.order(t, square.PolicyNone, "some letters")
	got, err := s.Wait(t.Context(), j.ID)
	if err != nil || s.result(t, got.Receipt) != "SOME LETTERS" || got.Wrong != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	got = s.over(t, j.ID, l)
	m := lease(t, l, j.ID)
	if m.State != market.Settled || m.Reason != market.ReasonAccepted || m.Provider != cheap.self || m.Paid != 24 || got.State != m.State {
		t.Errorf("it ended %s (%s), paid %d by %v", m.State, m.Reason, m.Paid, m.Provider)
	}
	if dear.posts["quote"] != 0 || out.posts["quote"] != 0 || cheap.posts["job"] != 1 {
		t.Errorf("the dear were asked %d and %d times, the job was handed over %d times", dear.posts["quote"], out.posts["quote"], cheap.posts["job"])
	}
	r, err := s.Receipt(t.Context(), got.Receipt)
	if err != nil || r.Metered("letter") != 12 || r.Subject != "letters" || r.Trade != "upper" {
		t.Errorf("the receipt reads %+v, %v", r, err)
	}
	if !l.conserved() {
		t.Error("money was made or lost")
	}
}

// TestOrderRefused: what could never be bought is refused before money moves.
func TestOrderRefused(t *testing.T) {
	l := newLedger()
	hire(t, l, 50_000_000, 5)
	s := open(t, l, nil)
	for name, c := range map[string]struct {
		change func(*square.Order)
		job    int
		err    error
		words  string
	}{
		"no such trade":    {change: func(o *square.Order) { o.Trade = "lower" }, words: "lower"},
		"too large a job":  {job: wire.MaxJob + 1, words: "at most"},
		"rates too low":    {change: func(o *square.Order) { o.MaxRates[0].PerMillion = 1 }, err: desk.ErrNoProvider, words: "limit"},
		"no rates":         {change: func(o *square.Order) { o.MaxRates = nil }, words: "max_rates"},
		"proofs":           {change: func(o *square.Order) { o.Policy, o.Card = square.PolicyProve, square.Hash{1} }, words: "prove"},
		"more than it has": {change: func(o *square.Order) { o.Escrow = 2_000_000_000 }, err: desk.ErrFunds},
	} {
		o := want(square.PolicyNone)
		if c.change != nil {
			c.change(&o)
		}
		if _, err := s.Order(t.Context(), o, make([]byte, c.job)); err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if js, err := s.Jobs(); err != nil || len(js) != 0 || len(l.leases()) != 0 {
		t.Errorf("%d orders are kept, %d leases opened, %v", len(js), len(l.leases()), err)
	}
}

// TestWrongResult: a result that is seen to be wrong, by itself or done again, is
// challenged and not paid, and its provider is asked no more.
func TestWrongResult(t *testing.T) {
	t.Run("short", func(t *testing.T) {
		wrongResult(t, square.PolicyNone, "OME LETTERS", func(w *worker) { w.short.Store(true) })
	})
	t.Run("another", func(t *testing.T) {
		wrongResult(t, square.PolicyAudit, "XXXXXXXXXXXX", func(w *worker) {
			w.lies.Store(true)
			w.bond = 1400 // the law has nearly everything done again
		})
	})
}

func wrongResult(t *testing.T, p square.Policy, says string, set func(*worker)) {
	t.Parallel()
	l := newLedger()
	liar := hire(t, l, 50_000_000, 2)
	set(liar)
	s := open(t, l, nil)
	var got desk.Job
	var m market.Lease
	for range 5 { // draws
		j := s.order(t, p, "some letters")
		got, m = s.over(t, j.ID, l), lease(t, l, j.ID)
		if m.State == market.Slashed {
			break
		}
	}
	if m.State != market.Slashed || m.Reason != market.ReasonFraud || m.Paid != 0 || got.Wrong == "" || s.result(t, got.Receipt) != says {
		t.Fatalf("a lie ended %s (%s), paid %d: %+v", m.State, m.Reason, m.Paid, got)
	}
	if _, err := s.Order(t.Context(), want(square.PolicyAudit), []byte("more")); !errors.Is(err, desk.ErrNoProvider) {
		t.Errorf("the liar was asked again: %v", err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := s.Receipt(t.Context(), got.Receipt)
		if err == nil && r.Audit == desk.AuditSlashed {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("its receipt says %q, %v", r.Audit, err)
		}
	}
}

// TestWithheld: a claimed result that is not handed over is asked for on the
// ledger: who then answers is paid, who says nothing or seals junk is not.
func TestWithheld(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(*worker)
		state  market.State
		reason market.Reason
		paid   uint64
		hurry  []market.State
	}{
		"answers":      {func(*worker) {}, market.Settled, market.ReasonAccepted, 24, []market.State{market.Claimed}},
		"says nothing": {func(w *worker) { w.deafly.Store(true) }, market.Slashed, market.ReasonWithheld, 0, []market.State{market.Claimed, market.Owed}},
		"seals junk":   {func(w *worker) { w.junk.Store(true) }, market.Slashed, market.ReasonFraud, 0, []market.State{market.Claimed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			w := hire(t, l, 50_000_000, 2)
			w.mute.Store(true)
			c.set(w)
			s := open(t, l, nil)
			j := s.order(t, square.PolicyNone, "some letters")
			got := s.over(t, j.ID, l, c.hurry...)
			m := lease(t, l, j.ID)
			if m.State != c.state || m.Reason != c.reason || m.Paid != c.paid || !m.Asked {
				t.Fatalf("it ended %s (%s), paid %d: %+v", m.State, m.Reason, m.Paid, got)
			}
			if c.paid > 0 && s.result(t, got.Receipt) != "SOME LETTERS" {
				t.Errorf("the result is %q", s.result(t, got.Receipt))
			}
			if !l.conserved() {
				t.Error("money was made or lost")
			}
		})
	}
}

// TestLate: a provider that does nothing costs nobody but itself.
func TestLate(t *testing.T) {
	l := newLedger()
	w := hire(t, l, 50_000_000, 2)
	w.idle.Store(true)
	s := open(t, l, nil)
	j := s.order(t, square.PolicyNone, "some letters")
	s.over(t, j.ID, l, market.Active)
	if m := lease(t, l, j.ID); m.State != market.Failed || m.Reason != market.ReasonLate || m.Paid != 0 || m.Escrow != 0 {
		t.Errorf("it ended %s (%s), paid %d", m.State, m.Reason, m.Paid)
	}
}

// copySegments copies what a journal has of receipts beside its file, if anything.
func copySegments(t *testing.T, from, to string) {
	err := os.CopyFS(to+".segments", os.DirFS(from+".segments"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// crash copies the disk as a killed process leaves it, and opens a desk on it.
func (s *shop) crash(t *testing.T) *shop {
	t.Helper()
	path := filepath.Join(t.TempDir(), "desk.db")
	for _, end := range []string{"", ".log"} {
		b, err := os.ReadFile(s.path + end)
		if err == nil {
			err = os.WriteFile(path+end, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copySegments(t, s.path, path)
	s.stop()
	again := &shop{cfg: s.cfg, path: path}
	again.run(t)
	t.Cleanup(func() {
		if again.stop != nil {
			again.stop()
		}
	})
	return again
}

// TestOrderAfterCrash: a buyer that is killed at any moment goes on where it was: it
// neither forgets an escrow nor orders twice.
func TestOrderAfterCrash(t *testing.T) {
	for _, p := range []square.Policy{square.PolicyNone, square.PolicyReplicate} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			ws := []*worker{hire(t, l, 50_000_000, 2), hire(t, l, 50_000_000, 2)}
			for _, w := range ws {
				w.idle.Store(true)
			}
			s := open(t, l, nil)
			j := s.order(t, p, "some letters")
			s = s.crash(t) // with its order on the ledger
			deadline := time.Now().Add(time.Minute)
			for handed := 0; handed == 0; time.Sleep(10 * time.Millisecond) {
				for _, w := range ws {
					w.mu.Lock()
					handed += w.posts["job"]
					w.mu.Unlock()
				}
				if time.Now().After(deadline) {
					t.Fatal("the job is not handed over")
				}
			}
			s = s.crash(t) // while it is worked on
			for _, w := range ws {
				w.idle.Store(false)
			}
			got := s.over(t, j.ID, l)
			if s.result(t, got.Receipt) != "SOME LETTERS" {
				t.Errorf("the result is %q", s.result(t, got.Receipt))
			}
			if n := len(l.leases()); p == square.PolicyNone && n != 1 || p == square.PolicyReplicate && n != 3 {
				t.Errorf("%d leases were opened", n)
			}
			if m := lease(t, l, j.ID); m.State != market.Settled {
				t.Errorf("it ended %s (%s)", m.State, m.Reason)
			}
		})
	}
}

// hooked is an account that is killed at a point: after a transaction, before
// anybody hears of it.
type hooked struct {
	account
	at   string
	kill func()
}

func (h hooked) after(point string, err error) error {
	if err == nil && h.at == point {
		h.kill()
	}
	return err
}

func (h hooked) Open(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	return h.after("open", h.account.Open(ctx, o, q, sig))
}

func (h hooked) Place(ctx context.Context, o square.Order) error {
	return h.after("place", h.account.Place(ctx, o))
}

func (h hooked) Match(ctx context.Context, q square.Quote, sig square.Signature) error {
	return h.after("match", h.account.Match(ctx, q, sig))
}

func (h hooked) Withhold(ctx context.Context, id square.Hash, key []byte) error {
	return h.after("withhold", h.account.Withhold(ctx, id, key))
}

func (h hooked) Accept(ctx context.Context, id square.Hash) error {
	return h.after("accept", h.account.Accept(ctx, id))
}

func (h hooked) Challenge(ctx context.Context, id square.Hash, e square.Evidence, part uint64) error {
	return h.after("challenge", h.account.Challenge(ctx, id, e, part))
}

// TestKilledAfterTransaction: whatever transaction a buyer is killed after, what it
// needs to go on was on disk before.
func TestKilledAfterTransaction(t *testing.T) {
	for _, point := range []string{"open", "place", "match", "withhold", "accept", "challenge"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			l := newLedger()
			ws := []*worker{hire(t, l, 50_000_000, 2), hire(t, l, 50_000_000, 2)}
			p := square.PolicyNone
			for _, w := range ws {
				w.mute.Store(point == "withhold")
				w.short.Store(point == "challenge")
			}
			if point == "place" || point == "match" {
				p = square.PolicyReplicate
			}
			path, killed := filepath.Join(t.TempDir(), "desk.db"), make(chan struct{})
			var s *shop
			var once sync.Once
			kill := func() {
				once.Do(func() {
					for _, end := range []string{"", ".log"} {
						b, err := os.ReadFile(s.path + end)
						if err == nil {
							err = os.WriteFile(path+end, b, 0o600)
						}
						if err != nil {
							t.Error(err)
						}
					}
					copySegments(t, s.path, path)
					close(killed)
				})
			}
			s = open(t, l, func(c *desk.Config) { c.Ledger = hooked{c.Ledger.(account), point, kill} })
			j := s.order(t, p, "some letters")
			for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				select {
				case <-killed:
				default:
					if point == "withhold" {
						l.hurry(market.Claimed)
					}
					if time.Now().Before(end) {
						continue
					}
					t.Fatal("it did not come so far")
				}
				break
			}
			s.stop()
			again := &shop{cfg: s.cfg, path: path}
			again.cfg.Ledger = s.cfg.Ledger.(hooked).account
			again.run(t)
			t.Cleanup(func() { again.stop() })
			got := again.over(t, j.ID, l)
			if point == "challenge" {
				if got.State != market.Slashed || got.Wrong == "" {
					t.Errorf("it ended %s (%s): %+v", got.State, got.Reason, got)
				}
				return
			}
			if got.State != market.Settled || got.Receipt.IsZero() || again.result(t, got.Receipt) != "SOME LETTERS" {
				t.Errorf("it ended %s (%s): %+v", got.State, got.Reason, got)
			}
			if n := len(l.leases()); n != map[square.Policy]int{square.PolicyNone: 1, square.PolicyReplicate: 3}[p] {
				t.Errorf("%d leases were opened", n)
			}
		})
	}
}

// TestNeverPlaced: an order that did not reach the ledger is over once it cannot any
// more.
func TestNeverPlaced(t *testing.T) {
	l := newLedger()
	hire(t, l, 50_000_000, 2)
	s := open(t, l, nil)
	l.mu.Lock()
	l.deaf = true
	l.mu.Unlock()
	if _, err := s.Order(t.Context(), want(square.PolicyNone), []byte("x")); !errors.Is(err, desk.ErrStalled) {
		t.Fatalf("a ledger that takes nothing: %v", err)
	}
	js, err := s.Jobs()
	if err != nil || len(js) != 1 || js[0].Over {
		t.Fatalf("kept: %+v, %v", js, err)
	}
	l.mu.Lock()
	l.base = l.base.Add(66 * time.Second)
	l.mu.Unlock()
	if j := s.over(t, js[0].ID, l); j.State != "" {
		t.Errorf("it stands %s", j.State)
	}
}

// TestReplicated: two that agree are paid; one that lies is outvoted by three more.
func TestReplicated(t *testing.T) {
	t.Run("agree", func(t *testing.T) {
		t.Parallel()
		l := newLedger()
		a, newcomer := hire(t, l, 50_000_000, 2), hire(t, l, 0, 2)
		s := open(t, l, nil)
		j := s.order(t, square.PolicyReplicate, "some letters")
		got := s.over(t, j.ID, l)
		if got.State != market.Settled || got.Reason != market.ReasonReplicated || s.result(t, got.Receipt) != "SOME LETTERS" {
			t.Fatalf("%+v", got)
		}
		for n := range uint64(2) {
			m := lease(t, l, market.ReplicaID(j.ID, n))
			if m.State != market.Settled || m.Reason != market.ReasonAccepted || m.Paid != 24 || m.Provider != a.self && m.Provider != newcomer.self {
				t.Errorf("replica %d ended %s (%s), paid %d", n, m.State, m.Reason, m.Paid)
			}
		}
		if !l.conserved() {
			t.Error("money was made or lost")
		}
	})
	t.Run("one lies", func(t *testing.T) {
		t.Parallel()
		l := newLedger()
		liar := hire(t, l, 50_000_000, 1)
		liar.lies.Store(true)
		for range 4 {
			hire(t, l, 50_000_000, 2)
		}
		s := open(t, l, nil)
		j := s.order(t, square.PolicyReplicate, "some letters")
		got := s.over(t, j.ID, l)
		if got.State != market.Settled || got.Reason != market.ReasonReplicated || s.result(t, got.Receipt) != "SOME LETTERS" {
			t.Fatalf("%+v", got)
		}
		paid := 0
		for _, m := range l.leases() {
			if m.Provider == liar.self && (m.State != market.Slashed || m.Reason != market.ReasonOutvoted) {
				t.Errorf("the liar's replica ended %s (%s)", m.State, m.Reason)
			}
			if m.Paid == 24 {
				paid++
			}
		}
		if paid != 4 || !l.conserved() {
			t.Errorf("%d were paid", paid)
		}
	})
}
