package provider_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

var rates = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 2_500_000}}

var (
	domain  = square.LedgerDomain(fake.ChainID)
	channel = square.ChannelDomain(fake.ChainID)
)

// config is a seller's and its trade's.
type config struct {
	seller.Config
	Services []provider.Service
	Tokens   uint64 // provider.New's place
}

// bench is a provider and a buyer that speaks the bare wire.
type bench struct {
	t      testing.TB
	l      *fake.Ledger
	p      *seller.Seller
	trade  *provider.Trade
	cfg    config
	store  *journal.Journal
	path   string
	server *httptest.Server
	buyer  square.Key
	lease  square.Hash
	order  square.Order
	policy square.Policy // of orders; audit when empty
}

func key(t testing.TB) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newBench(t testing.TB, e provider.Engine, set func(*config)) *bench {
	t.Helper()
	b := &bench{t: t, l: infertest.NewLedger(), buyer: key(t), path: filepath.Join(t.TempDir(), "p.db")}
	k := key(t)
	b.l.Fund(k.Address(), 1e9)
	b.l.Fund(b.buyer.Address(), 1e9)
	if err := b.l.Bond(k.Address(), infer.Name, 9e8); err != nil {
		t.Fatal(err)
	}
	b.cfg = config{
		Config: seller.Config{
			Key: k, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: b.l, Self: k.Address()}, Endpoint: "http://provider.test",
			Tick: 10 * time.Millisecond,
		},
		Services: []provider.Service{{Engine: e, Price: provider.Price{Rates: rates, Denom: square.Denom, Capacity: 4}}},
		Tokens:   1,
	}
	if set != nil {
		set(&b.cfg)
	}
	b.start()
	t.Cleanup(func() {
		b.server.Close()
		b.store.Close()
	})
	return b
}

func (b *bench) start() {
	b.t.Helper()
	var err error
	if b.store, err = journal.Open(b.path, seller.Buckets...); err != nil {
		b.t.Fatal(err)
	}
	b.cfg.Store = b.store
	b.trade = provider.New(provider.Config{PlaceTokens: b.cfg.Tokens, Services: b.cfg.Services})
	b.cfg.Trades = []seller.Trade{b.trade}
	if b.p, err = seller.New(b.t.Context(), b.cfg.Config); err != nil {
		b.t.Fatal(err)
	}
	if err := b.p.PostOffers(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.server = httptest.NewServer(b.p.Handler())
}

// chores runs the provider's until the test, or stop, ends them.
func (b *bench) chores() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.p.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) newOrder(escrow uint64) square.Order {
	o := b.p.Offers().Offers[0]
	order := square.Order{
		Buyer: b.buyer.Address(), Authorizer: b.buyer.Address(), Trade: infer.Name, Mode: square.ModeStream,
		Spec: o.Spec, Denom: o.Denom, Escrow: escrow, MaxRates: rates, JobValue: escrow / 2, Policy: cmp.Or(b.policy, square.PolicyAudit),
		Lanes: 2, Units: 2, Start: 60, Idle: 600, Duration: 3600, Challenge: 60, Drain: 60,
		Expiry: time.Unix(1_800_000_000, 0).Add(time.Hour).Unix(),
	}
	if order.Policy == square.PolicyProve {
		order.Card = sha256.Sum256([]byte("card"))
	}
	order.Salt = square.Keccak(key(b.t).Bytes())
	return order
}

// post calls the provider as the buyer and returns status and body.
func (b *bench) post(call string, body any) (int, []byte) {
	b.t.Helper()
	return b.postAs(b.buyer, call, body)
}

// request makes a call of somebody's. Bytes are sent as they are, about the
// bench's lease.
func (b *bench) request(ctx context.Context, who square.Key, path string, body any) *http.Request {
	b.t.Helper()
	c := wire.Call{Provider: b.p.Address(), Path: path, Time: b.now().Unix()}
	switch r := body.(type) {
	case []byte:
		c.Lease = b.lease
	case wire.QuoteRequest:
		c.Lease = r.Order.ID(domain)
	case infer.ServeRequest:
		c.Lease, c.Lane = r.Lease, r.Lane
	case wire.LaneRequest:
		c.Lease, c.Lane = r.Lease, r.Lane
	case infer.ProofRequest:
		c.Lease, c.Lane = r.Lease, r.Lane
	case infer.CancelRequest:
		c.Lease, c.Lane = r.Lease, r.Lane
	case wire.CloseRequest:
		c.Lease = r.Lease
	default:
		b.t.Fatalf("a body of type %T", body)
	}
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			b.t.Fatal(err)
		}
	}
	c.Body = sha256.Sum256(raw)
	req, err := http.NewRequestWithContext(ctx, "POST", b.server.URL+wire.PathPrefix+path, bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", c.Header(domain, who))
	return req
}

// now is the ledger's time.
func (b *bench) now() time.Time {
	h, err := (fake.Account{Ledger: b.l}).Head(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return h.Time
}

func (b *bench) postAs(who square.Key, path string, body any) (int, []byte) {
	b.t.Helper()
	res, err := http.DefaultClient.Do(b.request(b.t.Context(), who, path, body))
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, out
}

// open opens a lease.
func (b *bench) open(escrow uint64) {
	b.t.Helper()
	b.order = b.newOrder(escrow)
	status, body := b.post("quote", wire.QuoteRequest{Order: b.order, Offer: b.p.Offers().Offers[0].ID(domain)})
	var q wire.QuoteReply
	if err := json.Unmarshal(body, &q); err != nil || status != 200 {
		b.t.Fatalf("quote: %d %s", status, body)
	}
	acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
	if err := acc.Open(b.t.Context(), b.order, q.Quote, q.Sig); err != nil {
		b.t.Fatal(err)
	}
	b.lease = b.order.ID(domain)
}

func (b *bench) voucher(lane uint16, max uint64) square.Voucher {
	return square.SignVoucher(channel, b.order.Channel(domain, b.p.Address(), lane).ID(channel), max, b.buyer)
}

func request(prompt string, tokens uint32) []byte {
	return infer.Request{Kind: infer.Exact, MaxTokens: tokens, TopP: 10000, Prompt: []byte(prompt)}.Encode()
}

// frames splits an answer.
func frames(t testing.TB, body []byte) (out []infer.Frame) {
	t.Helper()
	s := bufio.NewScanner(bytes.NewReader(body))
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var f infer.Frame
		if err := json.Unmarshal(s.Bytes(), &f); err != nil {
			t.Fatalf("frame %q: %v", s.Bytes(), err)
		}
		out = append(out, f)
	}
	return out
}

func receipt(t testing.TB, body []byte) wire.Signed {
	t.Helper()
	fs := frames(t, body)
	if len(fs) == 0 || fs[len(fs)-1].Receipt == nil {
		t.Fatalf("no receipt in %s", body)
	}
	return *fs[len(fs)-1].Receipt
}

func refusal(t testing.TB, status int, body []byte, want string) {
	t.Helper()
	var we wire.Refusal
	if err := json.Unmarshal(body, &we); err != nil || we.Code != want || status < 400 {
		t.Errorf("status %d, %s; want a refusal with code %s", status, bytes.TrimSpace(body), want)
	}
}

func (b *bench) charged(lane uint16) wire.LaneReply {
	b.t.Helper()
	status, body := b.post("lane", wire.LaneRequest{Lease: b.lease, Lane: lane})
	var st wire.LaneReply
	if err := json.Unmarshal(body, &st); err != nil || status != 200 {
		b.t.Fatalf("lane: %d %s", status, body)
	}
	return st
}

// TestVouchers presents what must be refused; none of it is charged.
func TestVouchers(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	req := request("0123456789", 4) // costs at most 10 + 2.5*4 = 20
	good := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 20)}, Request: req}
	vary := func(f func(*infer.ServeRequest)) infer.ServeRequest {
		r := good
		f(&r)
		return r
	}
	other := key(t)
	flipped := b.voucher(0, 20)
	flipped.Max = 21
	for _, c := range []struct {
		name string
		req  infer.ServeRequest
		code string
	}{
		{"too low", vary(func(r *infer.ServeRequest) { r.Voucher = b.voucher(0, 19) }), wire.CodePayment},
		{"by another key", vary(func(r *infer.ServeRequest) {
			r.Voucher = square.SignVoucher(channel, good.Voucher.Channel, 20, other)
		}), wire.CodePayment},
		{"altered", vary(func(r *infer.ServeRequest) { r.Voucher = flipped }), wire.CodePayment},
		{"another lane's", vary(func(r *infer.ServeRequest) { r.Voucher = b.voucher(1, 20) }), wire.CodePayment},
		{"over the escrow", vary(func(r *infer.ServeRequest) { r.Voucher = b.voucher(0, 1001) }), wire.CodePayment},
		{"missing", vary(func(r *infer.ServeRequest) { r.Voucher = square.Voucher{} }), wire.CodePayment},
		{"no such lane", vary(func(r *infer.ServeRequest) { r.Lane = 2 }), wire.CodeUnknown},
		{"no such lease", vary(func(r *infer.ServeRequest) { r.Lease[0] ^= 1 }), wire.CodeUnknown},
		{"for more than a job may cost", vary(func(r *infer.ServeRequest) { r.Request, r.Voucher = request("0123456789", 197), b.voucher(0, 600) }), wire.CodePayment},
		{"out of turn", vary(func(r *infer.ServeRequest) { r.Seq = 2 }), wire.CodeStale},
		{"request that is none", vary(func(r *infer.ServeRequest) { r.Request = append([]byte{}, req[:20]...) }), wire.CodeBadRequest},
		{"opaque for an exact model", vary(func(r *infer.ServeRequest) {
			r.Request = append(req[:0:0], req...)
			r.Request = infer.Request{Kind: 'q'}.Encode()
		}), wire.CodeBadRequest},
	} {
		status, body := b.post("infer/serve", c.req)
		t.Run(c.name, func(t *testing.T) { refusal(t, status, body, c.code) })
	}
	if st := b.charged(0); st.Charged != 0 || st.Max != 0 || st.Seq != 0 {
		t.Errorf("after refusals the lane stands at %+v", st)
	}

	status, body := b.post("infer/serve", good)
	first := receipt(t, body)
	if status != 200 || first.Receipt.Price != 20 || first.Receipt.Cumulative != 20 {
		t.Fatalf("status %d, receipt %+v", status, first.Receipt)
	}
	if err := first.Receipt.Verify(domain, b.p.Address(), first.Sig); err != nil {
		t.Error(err)
	}
	// The same again: the same answer, charged once.
	_, again := b.post("infer/serve", good)
	second := receipt(t, again)
	if a, b := join(frames(t, body)), join(frames(t, again)); a != b || first.Sig != second.Sig {
		t.Errorf("presented again: %q then %q, the same receipt %v", a, b, first.Sig == second.Sig)
	}
	// The same voucher with another request, and an old voucher for the next one.
	status, body = b.post("infer/serve", vary(func(r *infer.ServeRequest) { r.Request = request("another ask", 1) }))
	refusal(t, status, body, wire.CodeStale)
	status, body = b.post("infer/serve", vary(func(r *infer.ServeRequest) { r.Seq = 2 }))
	refusal(t, status, body, wire.CodePayment)
	// Both lanes together stay within the escrow.
	status, body = b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: 1, Seq: 1, Voucher: b.voucher(1, 981)}, Request: req})
	refusal(t, status, body, wire.CodePayment)
	status, body = b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: 1, Seq: 1, Voucher: b.voucher(1, 980)}, Request: req})
	if status != 200 || receipt(t, body).Receipt.Price != 20 {
		t.Errorf("status %d: %s", status, body)
	}
	if got := b.p.Stats(); got.Charged != 40 || got.Served != 2 {
		t.Errorf("stats are %+v, want 2 requests charged at 40", got)
	}
}

func join(fs []infer.Frame) (s string) {
	for _, f := range fs {
		if f.Delta != nil {
			s += f.Delta.Text
		}
	}
	return s
}

// TestRestart: what was charged before a restart is known, shown and redeemed
// after it.
func TestRestart(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	req := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 20)}, Request: request("0123456789", 4)}
	_, body := b.post("infer/serve", req)
	first := receipt(t, body)
	b.server.Close()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	if st := b.charged(0); st.Charged != 20 || st.Seq != 1 || st.Last == nil || st.Last.Sig != first.Sig {
		t.Errorf("after a restart the lane stands at %+v", st)
	}
	_, body = b.post("infer/serve", req)
	if again := receipt(t, body); again.Sig != first.Sig {
		t.Error("after a restart the same request got another receipt")
	}
	stop := b.chores()
	wait(t, "redemption", func() bool { return b.p.Owed() == 0 })
	stop()
	if m := b.l.Leases()[0]; m.Paid != 20 {
		t.Errorf("paid %d, want 20", m.Paid)
	}
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestRedeem: money is redeemed when too much waits, when it waited long, and
// at the end; failures are tried again, and never more than was charged.
func TestRedeem(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.Terms.Credit = 100; c.RedeemEvery = time.Hour })
	b.open(1000)
	stop := b.chores()
	serve := func(lane uint16, seq uint64) {
		t.Helper()
		_, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: lane, Seq: seq, Voucher: b.voucher(lane, 20*seq+100)}, Request: request("0123456789", 4)})
		receipt(t, body)
	}
	serve(0, 1)
	serve(1, 1)
	time.Sleep(50 * time.Millisecond)
	if n := b.l.Count("redeem"); n != 0 {
		t.Fatalf("%d redemptions of 40 at a limit of 50", n)
	}
	b.l.Refuse(io.ErrUnexpectedEOF) // the ledger does not take it at first
	serve(0, 2)
	time.Sleep(50 * time.Millisecond)
	b.l.Refuse(nil)
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 60 })
	if n := b.l.Count("redeem"); n != 1 {
		t.Errorf("%d redemptions for two lanes, want 1", n)
	}
	serve(1, 2)
	stop()
	if err := b.p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := b.l.Leases()[0]; m.Paid != 80 || m.Lanes[0] != 40 || m.Lanes[1] != 40 {
		t.Errorf("paid %d over lanes %v, want 40 each", m.Paid, m.Lanes)
	}
}

// TestIdleRedeem: a charge is redeemed well before the lease would fall idle.
func TestIdleRedeem(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.Terms.Notice = 30 * time.Second })
	o := b.newOrder(1000)
	o.Idle = 60
	if err := b.openOn(o); err != nil {
		t.Fatal(err)
	}
	b.chores()
	b.served(0, 1)
	time.Sleep(100 * time.Millisecond)
	if n := b.l.Count("redeem"); n != 0 {
		t.Errorf("redeemed at once, though it could wait")
	}
	b.l.Jump(45 * time.Second) // two thirds of the notice are left, and less
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 20 })
}

// TestClose: consent only to the exact sum, asked by the authorizer; then the
// lease serves no more.
func TestClose(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	req := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 20)}, Request: request("0123456789", 4)}
	b.post("infer/serve", req)
	status, body := b.postAs(key(t), "close", wire.CloseRequest{Lease: b.lease, Paid: 20})
	refusal(t, status, body, wire.CodeCaller)
	for _, paid := range []uint64{0, 19, 21} {
		status, body = b.post("close", wire.CloseRequest{Lease: b.lease, Paid: paid})
		refusal(t, status, body, wire.CodeStale)
	}
	status, body = b.post("close", wire.CloseRequest{Lease: b.lease, Paid: 20})
	var ok wire.CloseReply
	if err := json.Unmarshal(body, &ok); err != nil || status != 200 {
		t.Fatalf("close: %d %s", status, body)
	}
	if err := square.VerifyClose(domain, b.p.Address(), b.lease, 20, ok.Sig); err != nil {
		t.Error(err)
	}
	req.Seq, req.Voucher = 2, b.voucher(0, 40)
	status, body = b.post("infer/serve", req)
	refusal(t, status, body, wire.CodeClosed)
}

// TestQuotes: malformed orders are refused, and one order has one quote.
func TestQuotes(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	offer := b.p.Offers().Offers[0].ID(domain)
	good := b.newOrder(1000)
	for name, f := range map[string]func(*square.Order, *square.Hash){
		"no escrow":     func(o *square.Order, _ *square.Hash) { o.Escrow = 0 },
		"another trade": func(o *square.Order, _ *square.Hash) { o.Trade = "store" },
		"a result":      func(o *square.Order, _ *square.Hash) { o.Mode, o.Lanes = square.ModeResult, 0 },
		"other units":   func(o *square.Order, _ *square.Hash) { o.MaxRates = []square.Rate{{Unit: "second", PerMillion: 9}} },
		"too cheap": func(o *square.Order, _ *square.Hash) {
			o.MaxRates = []square.Rate{rates[0], {Unit: rates[1].Unit, PerMillion: 1}}
		},
		"another model":  func(o *square.Order, _ *square.Hash) { o.Spec[0] ^= 1 },
		"another denom":  func(o *square.Order, _ *square.Hash) { o.Denom = "uusd" },
		"another offer":  func(_ *square.Order, id *square.Hash) { id[0] ^= 1 },
		"expired":        func(o *square.Order, _ *square.Hash) { o.Expiry = 1 },
		"too many units": func(o *square.Order, _ *square.Hash) { o.Units = 5 },
	} {
		o, id := good, offer
		f(&o, &id)
		if status, body := b.post("quote", wire.QuoteRequest{Order: o, Offer: id}); status == 200 {
			t.Errorf("%s: quoted: %s", name, body)
		}
	}
	for _, body := range []string{"", "{", "[]", `{"order":{"buyer":"x"}}`, `{"order":{}} {}`, strings.Repeat("[", 100_000)} {
		status, out := b.post("quote", []byte(body))
		refusal(t, status, out, wire.CodeBadRequest)
	}
	_, one := b.post("quote", wire.QuoteRequest{Order: good, Offer: offer})
	_, two := b.post("quote", wire.QuoteRequest{Order: good, Offer: offer})
	if !bytes.Equal(one, two) {
		t.Error("one order got two quotes")
	}
	var q wire.QuoteReply
	if err := json.Unmarshal(one, &q); err != nil {
		t.Fatal(err)
	}
	if ttl := q.Quote.Expiry - 1_800_000_000; ttl > square.QuoteTTL+2 || !q.Quote.Ready || q.Quote.Bond == 0 {
		t.Errorf("the quote is %+v", q.Quote)
	}
}

// TestOversize: a body over the limit is cut off.
func TestOversize(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	body := append([]byte(`{"request":"`), bytes.Repeat([]byte("A"), wire.MaxBody)...)
	status, out := b.post("infer/serve", append(body, `"}`...))
	refusal(t, status, out, wire.CodeBadRequest)
}

// TestBusy: one request a lane, and no more at once than there is capacity.
func TestBusy(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy", Pace: 20 * time.Millisecond}, nil)
	b.open(1000)
	if err := b.p.SetControl(seller.Control{Lanes: 1}); err != nil {
		t.Fatal(err)
	}
	long := infer.ServeRequest{Stream: true, Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 60)}, Request: request("0123456789", 20)}
	done := make(chan []byte)
	asked := b.request(t.Context(), b.buyer, "infer/serve", long)
	go func() {
		res, err := http.DefaultClient.Do(asked)
		if err != nil {
			done <- nil
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		done <- body
	}()
	wait(t, "work", func() bool { return b.charged(0).Busy })
	status, body := b.post("infer/serve", long)
	refusal(t, status, body, wire.CodeBusy)
	status, body = b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: 1, Seq: 1, Voucher: b.voucher(1, 60)}, Request: request("0123456789", 1)})
	refusal(t, status, body, wire.CodeBusy)
	if r := receipt(t, <-done).Receipt; r.Price != 60 {
		t.Errorf("charged %d, want 60", r.Price)
	}
}

// TestDisconnect: a buyer that goes away stops the work, and is charged what it
// was sent.
func TestDisconnect(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy", Pace: 5 * time.Millisecond}, nil)
	b.open(10_000)
	ctx, cancel := context.WithCancel(t.Context())
	req := b.request(ctx, b.buyer, "infer/serve",
		(infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 5000)}, Request: request("0123456789", 1000), Stream: true}))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(res.Body)
	for range 6 {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	res.Body.Close()
	wait(t, "the end", func() bool { return !b.charged(0).Busy })
	st := b.charged(0)
	if st.Last == nil {
		t.Fatal("nothing was charged")
	}
	r, err := infer.DecodeResult(st.Last.Result)
	if err != nil || r.Finish != infer.FinishCancelled || len(r.Tokens) < 5 || len(r.Tokens) > 100 {
		t.Errorf("%d tokens, finish %q, %v", len(r.Tokens), r.Finish, err)
	}
	if want, _ := square.Price(rates, []uint64{10, uint64(len(r.Tokens))}); st.Charged != want {
		t.Errorf("charged %d for %d tokens, want %d", st.Charged, len(r.Tokens), want)
	}
}

// TestEnded: a lease that has ended on the ledger serves no more.
func TestEnded(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	req := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 20)}, Request: request("0123456789", 4)}
	b.post("infer/serve", req)
	b.chores()
	acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
	if err := acc.Close(t.Context(), b.lease, nil); err != nil { // notice
		t.Fatal(err)
	}
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 20 })
	req.Seq, req.Voucher = 2, b.voucher(0, 40)
	status, body := b.post("infer/serve", req)
	refusal(t, status, body, wire.CodeClosed)
	b.l.Jump(2 * time.Minute)
	wait(t, "the poke", func() bool { return b.l.Leases()[0].State == market.Settled })
}

// FuzzServe: nothing that is posted makes the provider fall over or charge.
func FuzzServe(f *testing.F) {
	b := newBench(f, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	good, _ := json.Marshal(infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 9, Voucher: b.voucher(0, 20)}, Request: request("hello", 4)})
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"lane":65535,"voucher":{"maxClaimableAmount":"18446744073709551615"}}`))
	f.Add([]byte(`{"request":"dG9yZy9pbmZlci8xeA=="}`))
	f.Add([]byte(`null`))
	h := b.p.Handler()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, call := range []string{"infer/serve", "quote", "infer/cancel", "lane", "close"} {
			w, as := httptest.NewRecorder(), *b
			as.t = t
			r := as.request(t.Context(), b.buyer, call, body)
			r.Host = "localhost"
			h.ServeHTTP(w, r)
			if call == "infer/serve" && w.Code == 200 {
				t.Errorf("served: %s", body)
			}
		}
		if c := b.p.Stats().Charged; c != 0 {
			t.Fatalf("charged %d", c)
		}
	})
}
