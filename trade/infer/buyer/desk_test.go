package buyer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// rates are 1 utorg a prompt token and 2.5 a completion token, so that rounding
// is seen.
var rates = []square.Rate{
	{Unit: infer.UnitPrompt, PerMillion: 1_000_000},
	{Unit: infer.UnitCompletion, PerMillion: 2_500_000},
}

// stall is a provider with its HTTP server and disk.
type stall struct {
	*seller.Seller
	cfg    seller.Config
	sells  []provider.Service
	tokens uint64 // provider.New's place
	path   string
	addr   string
	server *http.Server
	store  *journal.Journal
	disk   *faulty // between the provider and its store, if set
	wrap   func(http.Handler) http.Handler
	stop   func()
}

func newKey(t testing.TB) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sell opens a provider with a stake.
func sell(t testing.TB, l *fake.Ledger, capacity int, engines ...provider.Engine) *stall {
	t.Helper()
	key := newKey(t)
	l.Fund(key.Address(), 1_000_000_000)
	if err := l.Bond(key.Address(), infer.Name, 900_000_000); err != nil {
		t.Fatal(err)
	}
	return sellAs(t, l, key, capacity, engines...)
}

// newcomer opens a provider that has nothing at all.
func newcomer(t testing.TB, l *fake.Ledger, engines ...provider.Engine) *stall {
	t.Helper()
	return sellAs(t, l, newKey(t), 16, engines...)
}

func sellAs(t testing.TB, l *fake.Ledger, key square.Key, capacity int, engines ...provider.Engine) *stall {
	t.Helper()
	s := &stall{path: filepath.Join(t.TempDir(), "provider.db"), addr: "127.0.0.1:0", tokens: 1}
	s.cfg = seller.Config{
		Key: key, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: key.Address()},
		Tick: 20 * time.Millisecond,
	}
	for _, e := range engines {
		s.sells = append(s.sells, provider.Service{Engine: e, Price: provider.Price{Rates: rates, Denom: square.Denom, Capacity: capacity}})
	}
	s.start(t)
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

// start serves from disk, on the address it had before.
func (s *stall) start(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.cfg.Endpoint = "http://" + s.addr
	if s.store, err = journal.Open(s.path, seller.Buckets...); err != nil {
		t.Fatal(err)
	}
	s.cfg.Store = s.store
	if s.disk != nil {
		s.disk.Store = s.store
		s.cfg.Store = s.disk
	}
	s.cfg.Trades = []seller.Trade{provider.New(provider.Config{PlaceTokens: s.tokens, Services: s.sells})}
	if s.Seller, err = seller.New(t.Context(), s.cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	h := s.Handler()
	if s.wrap != nil {
		h = s.wrap(h)
	}
	s.server = &http.Server{Handler: h}
	running.Go(func() { _ = s.server.Serve(ln) })
	p, store, server := s.Seller, s.store, s.server
	s.stop = func() {
		server.Close()
		cancel()
		running.Wait()
		cctx, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		_ = p.Close(cctx)
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		s.stop = nil
	}
}

// request is a call about a lane, as the desk would make it.
func (s *stall) request(t testing.TB, d *shop, path string, id square.Hash, lane uint16, in any) *http.Request {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.cfg.Ledger.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := wire.Call{Provider: s.Address(), Path: path, Lease: id, Lane: lane, Time: h.Time.Unix(), Body: sha256.Sum256(body)}
	req, err := http.NewRequest("POST", "http://"+s.addr+wire.PathPrefix+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", c.Header(square.LedgerDomain(fake.ChainID), d.cfg.Key))
	return req
}

// lane asks how a lane stands.
func (s *stall) lane(t testing.TB, d *shop, id square.Hash, lane uint16) (wire.LaneReply, error) {
	t.Helper()
	var out wire.LaneReply
	res, err := http.DefaultClient.Do(s.request(t, d, "lane", id, lane, wire.LaneRequest{Lease: id, Lane: lane}))
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return out, fmt.Errorf("status %d", res.StatusCode)
	}
	return out, json.NewDecoder(res.Body).Decode(&out)
}

// kill ends a provider as a crash would: connections break, nothing is
// redeemed, the disk keeps what it has.
func (s *stall) kill() {
	s.cfg.Ledger.(fake.Account).Refuse(errors.New("killed"))
	s.stop()
	s.cfg.Ledger.(fake.Account).Refuse(nil)
}

// config is what a shop is made of.
type config struct {
	desk.Config
	Models         []infer.Replayer
	Silence, Grace time.Duration
}

// open makes the two halves of a shop.
func (c config) open() (*desk.Desk, *buyer.Buyer, error) {
	t := buyer.NewTrade(c.Models, c.Ledger.Card)
	c.Trades = []desk.Trade{t}
	d, err := desk.New(c.Config)
	if err != nil {
		return nil, nil, err
	}
	b, err := buyer.New(buyer.Config{Desk: d, Trade: t, Silence: c.Silence, Grace: c.Grace})
	return d, b, err
}

// shop is a desk, and who buys inference over it.
type shop struct {
	*desk.Desk
	*buyer.Buyer
	cfg  config
	path string
	stop func()
}

func buy(t testing.TB, l *fake.Ledger, set func(*config)) *shop {
	t.Helper()
	owner, key := newKey(t), newKey(t)
	l.Fund(owner.Address(), 1_000_000_000)
	d := &shop{path: filepath.Join(t.TempDir(), "buyer.db")}
	d.cfg = config{Config: desk.Config{
		Key: key, Owner: owner, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: owner.Address()},
		Escrow: 100_000_000, JobValue: 1_000_000, Lanes: 8,
	}}
	if set != nil {
		set(&d.cfg)
	}
	d.start(t)
	t.Cleanup(func() {
		if d.stop != nil {
			d.stop()
		}
	})
	return d
}

func (d *shop) start(t testing.TB) {
	t.Helper()
	store, err := journal.Open(d.path, desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.Store = store
	if d.Desk, d.Buyer, err = d.cfg.open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	d.stop = func() {
		cancel()
		running.Wait()
		d.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		d.stop = nil
	}
}

func ask(model string, n int, tokens uint32) buyer.Ask {
	return buyer.Ask{Model: model, Stream: true, Request: infer.Request{
		Kind: infer.Exact, MaxTokens: tokens, TopP: 10_000, Prompt: fmt.Appendf(nil, "question %d", n),
	}}
}

// TestExactSettlement pays ten thousand requests from one lease over eight
// lanes in parallel, and the money agrees to the unit.
func TestExactSettlement(t *testing.T) {
	requests := 10_000
	if testing.Short() {
		requests = 500
	}
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	d := buy(t, l, func(c *config) { c.Models = []infer.Replayer{toy} })
	before, _ := l.Balance(d.cfg.Owner.Address())

	started := time.Now()
	work := make(chan int)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		sum     uint64
		failed  error
	)
	for range 8 {
		workers.Go(func() {
			for n := range work {
				ans, err := d.Do(t.Context(), ask("toy", n, uint32(n%7)+1), nil)
				mu.Lock()
				sum += ans.Signed.Receipt.Price
				if err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for n := range requests {
		work <- n
	}
	close(work)
	workers.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	took := time.Since(started)
	t.Logf("%d requests in %v: %.0f/s", requests, took.Round(time.Millisecond), float64(requests)/took.Seconds())

	leases := l.Leases()
	if len(leases) != 1 {
		t.Fatalf("%d leases were opened, want 1", len(leases))
	}
	waitFor(t, "audits", func() bool { // so that the close is not held up
		recs, _, err := d.Receipts(t.Context(), desk.Filter{Lease: leases[0].ID}, time.Time{}, requests+1)
		return err == nil && len(recs) == requests
	})
	if err := d.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	recs, _, err := d.Receipts(t.Context(), desk.Filter{Lease: leases[0].ID}, time.Time{}, requests+1)
	if err != nil || len(recs) != requests {
		t.Fatalf("%d receipts are stored, want %d (%v)", len(recs), requests, err)
	}
	var stored uint64
	for _, r := range recs {
		stored += r.Evidence.Receipt.Price
	}
	end := l.Leases()[0]
	after, _ := l.Balance(d.cfg.Owner.Address())
	if stored != sum || end.Paid != sum || before-after != sum || s.Stats().Charged != sum {
		t.Errorf("receipts %d, stored %d, paid %d, out of the buyer's account %d, charged by the provider %d", sum, stored, end.Paid, before-after, s.Stats().Charged)
	}
	if end.State != "settled" || end.Reason != "agreed" || end.Escrow != 0 {
		t.Errorf("the lease is %s (%s) with %d in escrow", end.State, end.Reason, end.Escrow)
	}
	if !l.Conserved() {
		t.Error("money was made or lost")
	}
	t.Logf("transactions: %d open, %d redeem, %d close", l.Count("open"), l.Count("redeem"), l.Count("close"))
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}
