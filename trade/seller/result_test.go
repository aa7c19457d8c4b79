package seller_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// shout is a tiny trade of results: a job is words, its result the same in capitals,
// and a byte costs one base unit. Any offer fits any order.
type shout struct {
	works atomic.Int64  // how often it was asked to work
	holds chan struct{} // if set, work waits for it
}

func (*shout) Name() string                             { return "shout" }
func (*shout) Units() []string                          { return []string{"byte"} }
func (s *shout) CheckOffer(o square.Offer) error        { return trade.CheckRates(s, o.Rates) }
func (s *shout) CheckOrder(o square.Order) error        { return trade.CheckRates(s, o.MaxRates) }
func (*shout) Fits(square.Offer, square.Order) error    { return nil }
func (*shout) JudgeGas(trade.Case) (uint64, error)      { return 0, trade.ErrNotJudgeable }
func (*shout) Judge(trade.Case) (square.Verdict, error) { return "", trade.ErrNotJudgeable }
func (*shout) Serve(*seller.Seller) http.Handler        { return http.NotFoundHandler() }

var byteRates = []square.Rate{{Unit: "byte", PerMillion: 1_000_000}}

func (*shout) Goods(context.Context) ([]seller.Good, error) {
	return []seller.Good{{Spec: square.Hash{7}, Subject: "a voice", Denom: square.Denom, Rates: byteRates, Capacity: 8}}, nil
}

func (*shout) Takes(_ square.Order, job []byte) ([]uint64, error) {
	if bytes.Contains(job, []byte("!")) {
		return nil, errors.New("it shouts already")
	}
	return []uint64{uint64(len(job))}, nil
}

func (s *shout) Work(ctx context.Context, _ market.Lease, job []byte) (seller.Delivery, error) {
	s.works.Add(1)
	if s.holds != nil {
		select {
		case <-s.holds:
		case <-ctx.Done():
			return seller.Delivery{}, ctx.Err()
		}
	}
	return seller.Delivery{Result: bytes.ToUpper(job), Units: []uint64{uint64(len(job))}}, nil
}

var domain = square.LedgerDomain(fake.ChainID)

// stall is a seller of shouts and its buyer.
type stall struct {
	t      *testing.T
	l      *fake.Ledger
	trade  *shout
	buyer  square.Key
	cfg    seller.Config
	path   string
	s      *seller.Seller
	store  *journal.Journal
	server *httptest.Server
	quit   func()
}

func newKey(t *testing.T) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newStall(t *testing.T, l *fake.Ledger, buyer square.Key) *stall {
	t.Helper()
	b := &stall{t: t, l: l, trade: &shout{}, buyer: buyer, path: filepath.Join(t.TempDir(), "seller.db")}
	k := newKey(t)
	b.l.Fund(k.Address(), 1e9)
	if err := b.l.Bond(k.Address(), "shout", 9e8); err != nil {
		t.Fatal(err)
	}
	b.cfg = seller.Config{
		Key: k, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: b.l, Self: k.Address()}, Endpoint: "http://seller.test",
		Tick: 5 * time.Millisecond, Trades: []seller.Trade{b.trade},
	}
	b.open()
	t.Cleanup(func() { b.die() })
	return b
}

func shouting(t *testing.T) *stall {
	buyer := newKey(t)
	l := fake.New(&shout{})
	l.Fund(buyer.Address(), 1e9)
	return newStall(t, l, buyer)
}

// open serves from disk.
func (b *stall) open() {
	b.t.Helper()
	var err error
	if b.store, err = journal.Open(b.path, seller.Buckets...); err != nil {
		b.t.Fatal(err)
	}
	b.cfg.Store = b.store
	if b.s, err = seller.New(b.t.Context(), b.cfg); err != nil {
		b.t.Fatal(err)
	}
	if err := b.s.PostOffers(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.server = httptest.NewServer(b.s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.s.Run(ctx) })
	b.quit = func() { cancel(); running.Wait() }
}

// die ends it without the grace of Close.
func (b *stall) die() {
	if b.quit == nil {
		return
	}
	b.server.Close()
	b.quit()
	if err := b.store.Close(); err != nil {
		b.t.Error(err)
	}
	b.quit = nil
}

func (b *stall) account() fake.Account { return fake.Account{Ledger: b.l, Self: b.buyer.Address()} }

func (b *stall) now() time.Time {
	h, err := b.account().Head(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return h.Time
}

func (b *stall) order(job string) square.Order {
	o := square.Order{
		Buyer: b.buyer.Address(), Authorizer: b.buyer.Address(), Trade: "shout", Mode: square.ModeResult,
		Spec: sha256.Sum256([]byte("spec " + job)), Request: sha256.Sum256([]byte(job)), Denom: square.Denom, Escrow: 1000, MaxRates: byteRates,
		JobValue: 1000, Policy: square.PolicyAudit, Units: 1, Start: 60, Duration: 3600, Challenge: 60, Drain: 60,
		Expiry: b.now().Add(time.Hour).Unix(),
	}
	o.Salt = square.Keccak(newKey(b.t).Bytes())
	return o
}

// call posts as the buyer; the refusal is its error.
func (b *stall) call(path string, lease square.Hash, body, reply any) error {
	b.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	c := wire.Call{Provider: b.s.Address(), Path: path, Lease: lease, Time: b.now().Unix(), Body: sha256.Sum256(raw)}
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", b.server.URL+wire.PathPrefix+path, bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", c.Header(domain, b.buyer))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if res.StatusCode/100 != 2 {
		r := &wire.Refusal{}
		if err := json.Unmarshal(out, r); err != nil {
			b.t.Fatalf("%s: %d %s", path, res.StatusCode, out)
		}
		return r
	}
	if reply != nil {
		if err := json.Unmarshal(out, reply); err != nil {
			b.t.Fatal(err)
		}
	}
	return nil
}

func (b *stall) quote(o square.Order, nth uint64, job string) (q wire.QuoteReply, err error) {
	b.t.Helper()
	err = b.call("quote", o.ID(domain), wire.QuoteRequest{Order: o, Offer: b.s.Offers().Offers[0].ID(domain), Nth: nth, Job: []byte(job)}, &q)
	return q, err
}

// buy opens a lease for a job.
func (b *stall) buy(job string) square.Hash {
	b.t.Helper()
	o := b.order(job)
	q, err := b.quote(o, 0, job)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.account().Open(b.t.Context(), o, q.Quote, q.Sig); err != nil {
		b.t.Fatal(err)
	}
	return o.ID(domain)
}

func (b *stall) lease(id square.Hash) market.Lease {
	m, err := b.account().Lease(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *stall) until(id square.Hash, state market.State) market.Lease {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := b.lease(id); m.State == state {
			return m
		}
	}
	m := b.lease(id)
	b.t.Fatalf("lease is %s (%s), waited for %s", m.State, m.Reason, state)
	return m
}

// result asks until it is handed over.
func (b *stall) result(id square.Hash) wire.Signed {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var r wire.ResultReply
		if err := b.call("result", id, wire.ResultRequest{Lease: id}, &r); err != nil {
			b.t.Fatal(err)
		}
		if r.Signed != nil {
			return *r.Signed
		}
	}
	b.t.Fatal("no result is handed over")
	return wire.Signed{}
}

func code(err error) string {
	if r := (*wire.Refusal)(nil); errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// TestResult: a job is done once, claimed by its receipt, handed over as often as it is
// asked for, and paid.
func TestResult(t *testing.T) {
	b := shouting(t)
	id := b.buy("hello")
	m := b.until(id, market.Claimed)
	got := b.result(id)
	if string(got.Result) != "HELLO" || m.Receipt == nil || m.Receipt.Digest(domain) != got.Receipt.Digest(domain) || got.Receipt.Price != 5 || got.Receipt.Subject != m.Order.Spec {
		t.Fatalf("claimed %+v, handed over %+v %q", m.Receipt, got.Receipt, got.Result)
	}
	if err := got.Receipt.Verify(domain, b.s.Address(), got.Sig); err != nil {
		t.Error(err)
	}
	// Asked twice, and handed the job once more: nothing changes.
	if again := b.result(id); again.Sig != got.Sig {
		t.Error("asked twice, another receipt")
	}
	for range 2 {
		if err := b.call("job", id, wire.JobRequest{Lease: id, Job: []byte("hello")}, nil); err != nil {
			t.Error(err)
		}
	}
	if err := b.account().Accept(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if m := b.lease(id); m.State != market.Settled || m.Paid != 5 {
		t.Errorf("%s, paid %d", m.State, m.Paid)
	}
	if again := b.result(id); again.Sig != got.Sig {
		t.Error("a result that is paid is handed over no more")
	}
	if n := b.trade.works.Load(); n != 1 {
		t.Errorf("worked %d times", n)
	}
	if ran := b.s.Ran(2); len(ran) != 1 || ran[0].Metered("byte") != 5 || ran[0].Price != 5 || ran[0].Lease != id {
		t.Errorf("the book says %+v", ran)
	}
	if !b.l.Conserved() {
		t.Error("money was made or lost")
	}
}

// A job that the seller has not seen, cannot do or would do for too little binds it to
// nothing: a lease without its job would cost it bond.
func TestThiefJob(t *testing.T) {
	b := shouting(t)
	for what, c := range map[string]struct {
		job    string
		change func(*square.Order)
		code   string
	}{
		"no job":           {"", nil, wire.CodeTerms},
		"another job":      {"bye", nil, wire.CodeBadRequest},
		"an impossible":    {"hello!", func(o *square.Order) { o.Request = sha256.Sum256([]byte("hello!")) }, wire.CodeBadRequest},
		"worth more":       {"hello", func(o *square.Order) { o.JobValue = 4 }, wire.CodeTerms},
		"a short notice":   {"hello", func(o *square.Order) { o.Duration = 30 }, wire.CodeTerms},
		"of another trade": {"hello", func(o *square.Order) { o.Trade = "whisper" }, wire.CodeBadRequest},
		"too long":         {strings.Repeat("a", wire.MaxJob+1), nil, wire.CodeBadRequest},
	} {
		o := b.order("hello")
		if c.change != nil {
			c.change(&o)
		}
		if _, err := b.quote(o, 0, c.job); code(err) != c.code {
			t.Errorf("%s: %v, want code %s", what, err, c.code)
		}
	}
	if _, err := b.quote(b.order("hello"), 1, "hello"); code(err) != wire.CodeBadRequest {
		t.Errorf("a replica of what has none: %v", err)
	}
	// A provider that is asked twice is bound once.
	o := b.order("hello")
	one, err := b.quote(o, 0, "hello")
	two, err2 := b.quote(o, 0, "hello")
	if err != nil || err2 != nil || one.Sig != two.Sig {
		t.Errorf("two quotes on one order: %v, %v", err, err2)
	}
	// An order that was never opened leaves nothing on disk.
	b.l.Jump(time.Minute)
	for end := time.Now().Add(time.Minute); b.jobs() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if n := b.jobs(); n != 0 {
		t.Errorf("%d jobs of lapsed quotes are kept", n)
	}
}

// A buyer cannot have its provider agree that a job cost nothing.
func TestThiefAgrees(t *testing.T) {
	b := shouting(t)
	b.trade.holds = make(chan struct{})
	id := b.buy("hello")
	if err := b.call("close", id, wire.CloseRequest{Lease: id}, nil); code(err) != wire.CodeBadRequest {
		t.Errorf("consent to a close for nothing: %v", err)
	}
	// Nor the result before it is claimed.
	var r wire.ResultReply
	if err := b.call("result", id, wire.ResultRequest{Lease: id}, &r); err != nil || r.Signed != nil || !r.Busy {
		t.Errorf("before the claim: %+v, %v", r, err)
	}
	close(b.trade.holds)
	b.until(id, market.Claimed)
}

// A buyer that never takes the result pays for it all the same.
func TestThiefSilent(t *testing.T) {
	b := shouting(t)
	id := b.buy("hello")
	b.until(id, market.Claimed)
	b.l.Jump(70 * time.Second)
	if m := b.until(id, market.Settled); m.Paid != 5 || m.Reason != market.ReasonUnchallenged {
		t.Errorf("paid %d (%s)", m.Paid, m.Reason)
	}
}

// A buyer that says falsely that the result was withheld is answered, sealed, and pays.
func TestThiefWithheld(t *testing.T) {
	for name, dies := range map[string]bool{"alive": false, "dies in between": true} {
		t.Run(name, func(t *testing.T) {
			b := shouting(t)
			id := b.buy("hello")
			b.until(id, market.Claimed)
			if dies {
				b.die()
			}
			_, stake := b.l.Balance(b.cfg.Key.Address())
			public, private := square.NewSealKey()
			if err := b.account().Withhold(t.Context(), id, public); err != nil {
				t.Fatal(err)
			}
			if dies {
				b.open()
			}
			b.until(id, market.Claimed)
			sealed, err := b.account().Answer(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := square.Unseal(private, id, sealed); err != nil || string(plain) != "HELLO" || bytes.Contains(sealed, []byte("HELLO")) {
				t.Errorf("sealed is %q, %v", plain, err)
			}
			// And called junk: that costs the buyer.
			if err := b.account().Unseal(t.Context(), id, private); err != nil {
				t.Fatal(err)
			}
			if m := b.lease(id); m.State != market.Settled || m.Reason != market.ReasonUpheld || m.Paid != 5 {
				t.Errorf("%s (%s), paid %d", m.State, m.Reason, m.Paid)
			}
			if _, now := b.l.Balance(b.cfg.Key.Address()); now != stake {
				t.Errorf("stake was %d and is %d", stake, now)
			}
		})
	}
}

// TestResultDies: at each point that is on disk a seller may die, and is paid in the
// end for one piece of work.
func TestResultDies(t *testing.T) {
	t.Run("quoted", func(t *testing.T) {
		b := shouting(t)
		o := b.order("hello")
		q, err := b.quote(o, 0, "hello")
		if err != nil {
			t.Fatal(err)
		}
		b.die()
		if err := b.account().Open(t.Context(), o, q.Quote, q.Sig); err != nil {
			t.Fatal(err)
		}
		b.open() // nobody tells it of the lease
		b.until(o.ID(domain), market.Claimed)
	})
	t.Run("at work", func(t *testing.T) {
		b := shouting(t)
		b.trade.holds = make(chan struct{})
		id := b.buy("hello")
		for end := time.Now().Add(time.Minute); b.trade.works.Load() == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		b.die()
		close(b.trade.holds)
		b.open()
		b.until(id, market.Claimed)
		if n := b.trade.works.Load(); n != 2 {
			t.Errorf("worked %d times", n)
		}
	})
	t.Run("done and not claimed", func(t *testing.T) {
		b := shouting(t)
		b.trade.holds = make(chan struct{})
		id := b.buy("hello")
		for end := time.Now().Add(time.Minute); b.trade.works.Load() == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		b.l.Refuse(errors.New("no claim today"))
		close(b.trade.holds)
		for end := time.Now().Add(time.Minute); b.s.Stats().Served == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		b.die()
		b.l.Refuse(nil)
		b.open()
		b.until(id, market.Claimed)
		if n := b.trade.works.Load(); n != 1 {
			t.Errorf("worked %d times", n)
		}
		if got := b.result(id); string(got.Result) != "HELLO" {
			t.Errorf("handed over %q", got.Result)
		}
	})
	t.Run("claimed", func(t *testing.T) {
		b := shouting(t)
		id := b.buy("hello")
		m := b.until(id, market.Claimed)
		b.die()
		b.open()
		if got := b.result(id); got.Receipt.Digest(domain) != m.Receipt.Digest(domain) {
			t.Error("after a restart another receipt")
		}
		if n := b.trade.works.Load(); n != 1 {
			t.Errorf("worked %d times", n)
		}
	})
}

// TestReplicas: two sellers commit, show and are compared; one dies in between. The
// result is handed over when it was compared, and not before.
func TestReplicas(t *testing.T) {
	one := shouting(t)
	two := newStall(t, one.l, one.buyer)
	two.trade.holds = make(chan struct{})
	o := one.order("hello")
	o.Policy, o.Escrow, o.JobValue = square.PolicyReplicate, 5000, 1000
	if _, err := one.quote(o, 0, "hello"); code(err) != wire.CodeUnknown {
		t.Errorf("a replica of an order that was not placed: %v", err)
	}
	if err := one.account().Place(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var ids [2]square.Hash
	for n, b := range []*stall{one, two} {
		q, err := b.quote(o, uint64(n), "hello")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.account().Match(t.Context(), q.Quote, q.Sig); err != nil {
			t.Fatal(err)
		}
		ids[n] = q.Quote.Order
	}
	one.until(ids[0], market.Committed)
	var r wire.ResultReply
	if err := one.call("result", ids[0], wire.ResultRequest{Lease: ids[0]}, &r); err != nil || r.Signed != nil {
		t.Errorf("before the others have committed: %+v, %v", r, err)
	}
	one.die()
	close(two.trade.holds)
	two.until(ids[1], market.Claimed) // committed, called and shown
	if err := two.call("result", ids[1], wire.ResultRequest{Lease: ids[1]}, &r); err != nil || r.Signed != nil {
		t.Errorf("before it was compared: %+v, %v", r, err)
	}
	one.open()
	for n, b := range []*stall{one, two} {
		if got := b.result(ids[n]); string(got.Result) != "HELLO" {
			t.Errorf("replica %d: %q", n, got.Result)
		}
		if err := b.account().Accept(t.Context(), ids[n]); err != nil {
			t.Error(err)
		}
		if m := b.lease(ids[n]); m.State != market.Settled || m.Paid != 5 {
			t.Errorf("replica %d is %s (%s), paid %d", n, m.State, m.Reason, m.Paid)
		}
	}
	if n := one.trade.works.Load(); n != 1 {
		t.Errorf("worked %d times", n)
	}
	if !one.l.Conserved() {
		t.Error("money was made or lost")
	}
}
