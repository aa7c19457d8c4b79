package judge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// upper is a trade whose work is to give the request back in capitals.
type upper struct{ err error }

func (upper) Name() string                          { return "upper" }
func (upper) Units() []string                       { return []string{"byte"} }
func (upper) CheckOffer(square.Offer) error         { return nil }
func (upper) CheckOrder(square.Order) error         { return nil }
func (upper) Fits(square.Offer, square.Order) error { return nil }
func (upper) JudgeGas(trade.Case) (uint64, error)   { return 0, trade.ErrNotJudgeable }
func (u upper) Judge(c trade.Case) (square.Verdict, error) {
	switch {
	case u.err != nil:
		return "", u.err
	case c.Beacon != square.Hash{8}:
		return "", fmt.Errorf("beacon %s", c.Beacon.Short())
	case strings.ToUpper(string(c.Request)) != string(c.Result):
		return square.VerdictFraud, nil
	}
	return square.VerdictOK, nil
}

// person is a trade that takes its time.
type person struct {
	upper
	asked chan struct{}
}

func (p person) Opinion(ctx context.Context, c trade.Case) (square.Verdict, error) {
	select {
	case <-p.asked:
		return p.upper.Judge(c)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

const chain = "torg-test"

var (
	provider, _ = square.NewKey()
	judges      = []square.Address{{1}, {2}, {3}}
)

// court is a ledger in memory, of the real lease machine, with one dispute that
// the test's judges sit in. Its clock is the test's.
type court struct {
	*testing.T
	mu       sync.Mutex
	m        market.Machine
	store    *market.Memory
	now      int64
	lease    square.Hash
	evidence square.Evidence
	locator  string
	events   []market.Event
	fail     map[string]int // how often a call fails yet
	hidden   bool           // calls that fail were carried out all the same
	early    map[square.Address]int
}

func newCourt(t *testing.T, request, result string, detached bool) *court {
	p := market.Default()
	c := &court{T: t, m: market.Machine{Params: p}, store: market.NewMemory(), now: 1_800_000_000, lease: square.Hash{7}, fail: map[string]int{}, early: map[square.Address]int{}}
	d := square.LedgerDomain(chain)
	buyer := square.Address{9}
	c.evidence = square.Evidence{
		Receipt: square.Receipt{Lease: c.lease, Seq: 1, Request: sha256.Sum256([]byte(request)), Result: sha256.Sum256([]byte(result)), Units: []uint64{4}, Price: 4, Cumulative: 4},
		Request: []byte(request), Result: []byte(result),
	}
	c.evidence.Sig = provider.Sign(c.evidence.Receipt.Digest(d))
	claimed := c.evidence.Receipt
	var owes square.Address
	if detached {
		c.evidence.Request, c.evidence.Result, owes = nil, nil, provider.Address()
	}
	l := market.Lease{
		ID: c.lease, State: market.Disputed, Provider: provider.Address(), Escrow: 1000, Bond: 1_000_000, Bonded: 1_000_000,
		Order:   square.Order{Buyer: buyer, Authorizer: buyer, Trade: "upper", Mode: square.ModeResult, Denom: square.Denom, Escrow: 1000, JobValue: 1000},
		Receipt: &claimed, Deadline: c.now + int64(p.Verdict),
		Dispute: &market.Dispute{Way: market.ByJudges, Challenger: buyer, Bond: 500_000, Evidence: c.evidence.Hash(d), Value: 4, Prior: market.Claimed, Since: c.now, Owes: owes},
	}
	funds := func(pot market.Pot, units uint64) {
		who := square.Address{99}
		if err := errors.Join(c.store.Fund(who, square.Utorg(units)), c.store.Move(market.Account(who), pot, square.Utorg(units))); err != nil {
			t.Fatal(err)
		}
	}
	funds(market.Escrow(c.lease), l.Escrow)
	funds(market.ChallengeBond(c.lease), l.Dispute.Bond)
	for _, j := range append([]square.Address{provider.Address()}, judges...) {
		st := market.Stake{Total: 2_000_000, Judge: true}
		if j == provider.Address() {
			st.Locked = l.Bond
		}
		funds(market.StakePot(j, "upper"), st.Total)
		if err := c.store.SetStake(market.StakeKey{Provider: j, Trade: "upper", Denom: square.Denom}, st); err != nil {
			t.Fatal(err)
		}
	}
	l.Order.Units, l.Slot = 1, square.Hash{3}
	offer := market.Offer{Offer: square.Offer{Provider: provider.Address(), Trade: "upper", Spec: l.Slot, Capacity: 1}, InUse: 1}
	if err := errors.Join(c.store.SetOffer(offer), c.store.SetLease(l)); err != nil {
		t.Fatal(err)
	}
	c.do(c.m.Seat(c.store, c.now, c.lease, append(judges, judges[0]))) // the first has two places
	return c
}

func (c *court) do(evs []market.Event, err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
	c.events = append(c.events, evs...)
}

func (c *court) state() market.Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.store.Lease(c.lease)
	if err != nil {
		c.Fatal(err)
	}
	return l
}

func (c *court) pass(seconds int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += seconds
}

// poke carries out what the deadline demands.
func (c *court) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	evs, err := c.m.Poke(c.store, c.now, square.Address{}, c.lease)
	c.do(evs, err)
}

// view is the court as one judge sees it.
type view struct {
	*court
	judge square.Address
	disk  string
}

func (v view) Now(context.Context) (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now, nil
}
func (v view) Params(context.Context) (market.Params, error) { return v.m.Params, nil }
func (v view) Disputed(context.Context) ([]market.Lease, error) {
	if l := v.state(); l.State == market.Disputed {
		return []market.Lease{l}, nil
	}
	return nil, nil
}
func (v view) Lease(context.Context, square.Hash) (market.Lease, error) { return v.state(), nil }
func (v view) Evidence(context.Context, square.Hash, square.Hash) (square.Evidence, error) {
	return v.evidence, nil
}
func (v view) Card(context.Context, square.Hash) ([]byte, error)         { return nil, market.ErrNotFound }
func (v view) Locator(context.Context, market.Lease) (string, error)     { return v.locator, nil }
func (v view) Beacon(context.Context, market.Lease) (square.Hash, error) { return square.Hash{8}, nil }
func (v view) Events(context.Context, square.Hash) ([]market.Event, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]market.Event(nil), v.events...), nil
}

var errNetwork = errors.New("the network is gone")

// submit carries a transaction, or loses it, or loses the answer.
func (v view) submit(what string, f func() ([]market.Event, error)) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	lost := v.fail[what] > 0
	if lost {
		v.fail[what]--
	}
	if lost && !v.hidden {
		return errNetwork
	}
	evs, err := f()
	if err != nil && !errors.Is(err, market.ErrEarly) && !errors.Is(err, market.ErrState) {
		v.Errorf("%s: %v", what, err)
	}
	v.events = append(v.events, evs...)
	if lost {
		return errNetwork
	}
	return err
}

func (v view) Commit(_ context.Context, lease, ballot square.Hash) error {
	// What is committed to is on disk by now.
	raw := v.file()
	if !bytes.Contains(raw, []byte(`"verdict":"`)) || bytes.Contains(raw, []byte(square.Hash{}.String()+`"}`)) {
		v.Errorf("%x commits to what is not on disk: %s", v.judge[:1], raw)
	}
	return v.submit("commit", func() ([]market.Event, error) { return v.m.Commit(v.store, v.now, v.judge, lease, ballot) })
}

func (v view) Vote(_ context.Context, lease square.Hash, verdict square.Verdict, secret square.Hash) error {
	return v.submit("vote", func() ([]market.Event, error) {
		evs, err := v.m.Vote(v.store, v.now, v.judge, lease, verdict, secret)
		if errors.Is(err, market.ErrEarly) {
			v.early[v.judge]++
		}
		return evs, err
	})
}

func (v view) file() []byte {
	names, err := filepath.Glob(filepath.Join(v.disk, "*.json"))
	if err != nil || len(names) != 1 {
		v.Errorf("%x has the files %v: %v", v.judge[:1], names, err)
		return nil
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		v.Error(err)
	}
	return b
}

// log is what a judge said.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// life is a judge that runs.
type life struct {
	*Judge
	said *log
	kill func()
}

func (c *court) sits(judge square.Address, dir string, r trade.Rules, f Fetcher) life {
	c.Helper()
	var said log
	j, err := Open(Config{
		Key: judge, ChainID: chain, Ledger: view{c, judge, dir}, Trades: []trade.Rules{r}, Dir: dir, Tick: time.Millisecond, Fetch: f,
		Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = j.Run(ctx) }()
	l := life{j, &said, sync.OnceFunc(func() { cancel(); <-done })}
	c.Cleanup(l.kill)
	return l
}

func (c *court) await(what string, ok func() bool) {
	c.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("%s did not come: %+v", what, c.state().Dispute)
		}
	}
}

// ballots are how many judges have committed.
func (c *court) ballots() (n int) {
	if d := c.state().Dispute; d != nil {
		for _, s := range d.Seats[:min(len(d.Seats), len(judges))] {
			if !s.Ballot.IsZero() {
				n++
			}
		}
	}
	return n
}

func past(l life) func() bool { return func() bool { return l.Report().Sat > 0 } }

// TestVerdicts: right work is upheld and wrong work is slashed, by three judges that
// commit before they vote and are paid; the network may fail them for a while.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name, result string
		state        market.State
		hidden       bool
	}{{"right", "WORD", market.Settled, false}, {"wrong", "WORK", market.Slashed, false}, {"answers lost", "WORK", market.Slashed, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newCourt(t, "word", c.result, false)
			f.fail = map[string]int{"commit": 5, "vote": 5}
			f.hidden = c.hidden
			var sits []life
			for _, j := range judges {
				sits = append(sits, f.sits(j, t.TempDir(), upper{}, Fetcher{}))
			}
			f.await("three ballots", func() bool { return f.ballots() == 3 })
			f.pass(59)
			time.Sleep(20 * time.Millisecond)
			if l := f.state(); l.State != market.Disputed || l.Dispute.Seats[0].Verdict != "" || len(f.early) > 0 {
				t.Fatalf("voted before it is time: %+v", l.Dispute)
			}
			f.pass(1)
			f.await("the end", func() bool { return f.state().State == c.state })
			for i, l := range sits {
				f.await("a report", past(l))
				want := f.m.JudgeFee
				if i == 0 {
					want *= 2
				}
				if r := l.Report(); r.Earned != want || r.Lost != 0 || r.Past[0].Stage != Voted || len(r.Seats) != 0 || r.Past[0].Outcome != string(f.state().Reason) {
					t.Errorf("a judge reports %+v", r)
				}
			}
		})
	}
}

// TestRestart: a judge that is killed between its two votes votes the same when it
// is back, whatever it would find now; one that is killed in the middle of the work
// does it again.
func TestRestart(t *testing.T) {
	f := newCourt(t, "word", "WORK", false)
	dir := t.TempDir()
	slow := person{asked: make(chan struct{})}
	f.sits(judges[0], dir, slow, Fetcher{}).kill()
	first := f.sits(judges[0], dir, upper{}, Fetcher{})
	f.await("a ballot", func() bool { return f.ballots() == 1 })
	first.kill()
	ballot := f.state().Dispute.Seats
	second := f.sits(judges[0], dir, upper{errors.New("the model is gone")}, Fetcher{})
	time.Sleep(20 * time.Millisecond)
	f.pass(60)
	f.await("a vote", func() bool { return f.state().Dispute.Seats[0].Verdict == square.VerdictFraud })
	if now := f.state().Dispute.Seats; now[0].Ballot != ballot[0].Ballot {
		t.Error("another ballot after the restart")
	}
	if second.kill(); strings.Contains(second.said.String(), "level=ERROR") {
		t.Errorf("it says %s", second.said)
	}
}

// TestSilence: a judge that cannot tell votes nothing, says so, and is told what it
// lost; it tries again when it is started again.
func TestSilence(t *testing.T) {
	f := newCourt(t, "word", "WORK", false)
	dir := t.TempDir()
	l := f.sits(judges[0], dir, upper{fmt.Errorf("model 12ab: %w", trade.ErrNotJudgeable)}, Fetcher{})
	f.await("a word", func() bool { return strings.Contains(l.said.String(), "level=ERROR") })
	if s := l.said.String(); !strings.Contains(s, "model 12ab") || !strings.Contains(s, "0.2 TORG") {
		t.Errorf("it says %s", s)
	}
	f.pass(60)
	time.Sleep(20 * time.Millisecond)
	if f.ballots() != 0 {
		t.Error("it voted what it does not know")
	}
	f.pass(60)
	f.poke() // another draw
	f.await("a report", past(l))
	if r := l.Report(); r.Lost != 2*f.m.SeatBond || r.Earned != 0 || r.Past[0].Outcome != "redrawn" || r.Past[0].Stage != Unable {
		t.Errorf("it reports %+v", r)
	}

	again := newCourt(t, "word", "WORK", false)
	dir = t.TempDir()
	l = again.sits(judges[0], dir, upper{trade.ErrNotJudgeable}, Fetcher{})
	again.await("a word", func() bool { return strings.Contains(l.said.String(), "level=ERROR") })
	l.kill()
	again.sits(judges[0], dir, upper{}, Fetcher{})
	again.await("a ballot", func() bool { return again.ballots() == 1 })
}

// TestJunk: what is not the provider's, or not the ledger's, is not judged.
func TestJunk(t *testing.T) {
	d := square.LedgerDomain(chain)
	for name, c := range map[string]struct {
		change func(*court)
		filed  bool // the ledger's own node says that it is the evidence
		want   string
	}{
		"another's signature": {func(c *court) { k, _ := square.NewKey(); c.evidence.Sig = k.Sign(c.evidence.Receipt.Digest(d)) }, true, "signature"},
		"another receipt than was claimed": {func(c *court) {
			c.evidence.Receipt.Price++
			c.evidence.Sig = provider.Sign(c.evidence.Receipt.Digest(d))
		}, true, "not the one that was claimed"},
		"another lease's": {func(c *court) {
			c.evidence.Receipt.Lease = square.Hash{77}
			c.evidence.Sig = provider.Sign(c.evidence.Receipt.Digest(d))
		}, true, "of lease 4d"},
		"bytes of no receipt": {func(c *court) { c.evidence.Result = []byte("WORD") }, true, "not the bytes"},
		"other bytes":         {func(c *court) { c.evidence.Result = []byte("WORD") }, false, "other bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newCourt(t, "word", "WORK", false)
			c.change(f)
			if l := f.state(); c.filed {
				l.Dispute.Evidence = f.evidence.Hash(d)
				if c.want == "signature" { // the ledger has seen one of what was claimed
					l.Receipt = nil
				}
				if err := f.store.SetLease(l); err != nil {
					t.Fatal(err)
				}
			}
			l := f.sits(judges[0], t.TempDir(), upper{}, Fetcher{})
			f.await("a word", func() bool { return strings.Contains(l.said.String(), c.want) })
			if time.Sleep(20 * time.Millisecond); f.ballots() != 0 {
				t.Error("it voted on junk")
			}
		})
	}
}

// TestTwoMachines: two that judge with one key do not outbid each other's ballots
// until the time is over.
func TestTwoMachines(t *testing.T) {
	f := newCourt(t, "word", "WORK", false)
	one, two := f.sits(judges[0], t.TempDir(), upper{}, Fetcher{}), f.sits(judges[0], t.TempDir(), upper{}, Fetcher{})
	f.await("a word", func() bool {
		return strings.Contains(one.said.String()+two.said.String(), "the same key judges elsewhere")
	})
	before := len(f.events)
	time.Sleep(50 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.events); n > before+1 {
		t.Errorf("they go on: %d events became %d", before, n)
	}
}

// TestOpinion: a person is asked, and another case does not wait for it.
func TestOpinion(t *testing.T) {
	f := newCourt(t, "word", "WORK", false)
	p := person{asked: make(chan struct{})}
	f.sits(judges[0], t.TempDir(), p, Fetcher{})
	time.Sleep(20 * time.Millisecond)
	if f.ballots() != 0 {
		t.Fatal("nobody was asked")
	}
	close(p.asked)
	f.await("a ballot", func() bool { return f.ballots() == 1 })
}

// TestDetached: the bytes of evidence are fetched by digest, tried for as long as
// there is time, and unavailable only then.
func TestDetached(t *testing.T) {
	serve := func(c *court, answer func(w http.ResponseWriter, r *http.Request)) {
		s := httptest.NewServer(http.HandlerFunc(answer))
		c.Cleanup(s.Close)
		c.locator = s.URL + "/result/12/"
	}
	good := func(w http.ResponseWriter, r *http.Request) {
		for _, b := range []string{"word", "WORK"} {
			if r.URL.Path == "/result/12/"+square.Hash(sha256.Sum256([]byte(b))).String() {
				fmt.Fprint(w, b)
				return
			}
		}
		http.NotFound(w, r)
	}
	none := func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
	three := func(c *court) {
		for _, j := range judges {
			c.sits(j, c.TempDir(), upper{}, Fetcher{Private: true})
		}
	}
	t.Run("there", func(t *testing.T) {
		t.Parallel()
		f := newCourt(t, "word", "WORK", true)
		serve(f, good)
		three(f)
		f.await("three ballots", func() bool { return f.ballots() == 3 })
		f.pass(60)
		f.await("the end", func() bool { return f.state().Reason == market.ReasonFraud })
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		f := newCourt(t, "word", "WORK", true)
		var tries sync.Map
		serve(f, func(w http.ResponseWriter, r *http.Request) {
			if n, _ := tries.LoadOrStore("n", new(int)); n != nil {
				f.mu.Lock()
				*n.(*int)++
				late := *n.(*int) > 10
				f.mu.Unlock()
				if late {
					good(w, r)
					return
				}
			}
			none(w, r)
		})
		three(f)
		f.await("three ballots", func() bool { return f.ballots() == 3 })
		f.pass(60)
		f.await("the end", func() bool { return f.state().Reason == market.ReasonFraud })
	})
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		f := newCourt(t, "word", "WORK", true)
		serve(f, none)
		three(f)
		f.pass(44)
		if time.Sleep(50 * time.Millisecond); f.ballots() != 0 {
			t.Fatal("they gave up while there was time")
		}
		f.pass(1)
		f.await("three ballots", func() bool { return f.ballots() == 3 })
		f.pass(15)
		f.await("the end", func() bool { return f.state().Reason == market.ReasonWithheld })
	})
	t.Run("nowhere", func(t *testing.T) {
		t.Parallel()
		f := newCourt(t, "word", "WORK", true)
		three(f)
		f.await("three ballots", func() bool { return f.ballots() == 3 })
		f.pass(60)
		f.await("the end", func() bool { return f.state().Reason == market.ReasonWithheld })
	})
}

// TestFetch: a locator reaches nothing but the bytes asked for.
func TestFetch(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
	defer secret.Close()
	word, slow := []byte("word"), make(chan struct{})
	hash := square.Hash(sha256.Sum256(word))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/there/"):
			w.Write(word)
		case strings.HasPrefix(r.URL.Path, "/moved/"):
			http.Redirect(w, r, "/there/"+hash.String(), http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/away/"):
			http.Redirect(w, r, secret.URL, http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/round/"):
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/large/"):
			for range MaxBytes/4 + 1 {
				if _, err := w.Write(word); err != nil {
					return
				}
			}
		case strings.HasPrefix(r.URL.Path, "/other/"):
			fmt.Fprint(w, "work")
		case strings.HasPrefix(r.URL.Path, "/slow/"):
			w.Write(word[:2])
			w.(http.Flusher).Flush()
			<-slow
		}
	}))
	defer s.Close()
	defer close(slow)
	f := Fetcher{Private: true, Timeout: 5 * time.Second}
	r := square.Receipt{Request: hash, Result: hash}
	for _, path := range []string{"/there", "/there/", "/moved"} {
		if a, b, err := f.both(t.Context(), s.URL+path, r); err != nil || !bytes.Equal(a, word) || !bytes.Equal(b, word) {
			t.Errorf("%s: %q %q, %v", path, a, b, err)
		}
	}
	f.Timeout = 500 * time.Millisecond
	for _, where := range []string{s.URL + "/away", s.URL + "/round", s.URL + "/other", s.URL + "/slow"} {
		if _, _, err := f.both(t.Context(), where, r); err == nil || errors.Is(err, errNowhere) {
			t.Errorf("%s: %v", where, err)
		}
	}
	f.Timeout = 30 * time.Second
	if _, _, err := f.both(t.Context(), s.URL+"/large", r); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("large: %v", err)
	}
	for _, where := range []string{"", "ftp://example.net/x", "file:///etc/passwd", "https://user:pw@example.net/", "https://example.net/?a=", "https://", "example.net/x", "http://a b/", "https://example.net/#x"} {
		if _, _, err := f.both(t.Context(), where, r); !errors.Is(err, errNowhere) {
			t.Errorf("%q: %v", where, err)
		}
	}
	// Not of this machine or its network, unless that is said, whatever its name.
	f.Private = false
	for _, where := range []string{s.URL + "/there", strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/there"} {
		if _, _, err := f.both(t.Context(), where, r); err == nil || !strings.Contains(err.Error(), "not of the public internet") {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestPublic(t *testing.T) {
	for _, a := range []string{"8.8.8.8:80", "[2606:4700::1]:443", "[::ffff:8.8.8.8]:80"} {
		if err := public(a); err != nil {
			t.Error(err)
		}
	}
	for _, a := range []string{
		"127.0.0.1:80", "10.1.2.3:80", "192.168.1.1:80", "172.16.0.1:80", "169.254.169.254:80", "100.64.0.1:80", "0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "198.18.0.1:80",
		"[::1]:80", "[::]:80", "[fe80::1%eth0]:80", "[fd00::1]:80", "[::ffff:127.0.0.1]:80", "[64:ff9b::7f00:1]:80", "[2002:7f00:1::]:80", "[2001:0:7f00:1::]:80", "[::7f00:1]:80", "nonsense",
	} {
		if public(a) == nil {
			t.Errorf("%s is taken for public", a)
		}
	}
}

// TestBook: a vote that cannot be read is not passed over, half a file is, and the
// oldest are forgotten.
func TestBook(t *testing.T) {
	dir := t.TempDir()
	b, err := openBook(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 + 5 {
		if err := b.put(kept{Seat: Seat{Lease: square.Hash{1}, Draw: uint64(i), Seated: int64(i), Ended: true}}); err != nil {
			t.Fatal(err)
		}
	}
	open := kept{Seat: Seat{Lease: square.Hash{2}, Seated: -1, Stage: Committed, Verdict: square.VerdictOK}, Secret: square.Hash{5}}
	if err := b.put(open); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half.json.new"), []byte(`{"lease`), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = openBook(dir, 10); err != nil || len(b.all) != 10+1 || b.all[open.key()] != open || b.over((Seat{Lease: square.Hash{1}, Draw: 4}).key()) || !b.over((Seat{Lease: square.Hash{1}, Draw: 5}).key()) {
		t.Fatalf("read back: %d, %v", len(b.all), err)
	}
	if err := os.WriteFile(filepath.Join(dir, open.key().file()), []byte(`{"lease`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openBook(dir, 10); err == nil || !strings.Contains(err.Error(), open.key().file()) {
		t.Errorf("a broken file: %v", err)
	}
}
