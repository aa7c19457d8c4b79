package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// quoteOf asks for a quote on an order.
func (b *bench) quoteOf(o square.Order) (wire.QuoteReply, error) {
	b.t.Helper()
	status, body := b.post("quote", wire.QuoteRequest{Order: o, Offer: b.p.Offers().Offers[0].ID(domain)})
	var q wire.QuoteReply
	if status != http.StatusOK {
		return q, fmt.Errorf("quote: %d %s", status, strings.TrimSpace(string(body)))
	}
	return q, json.Unmarshal(body, &q)
}

// lease opens a lease on an order.
func (b *bench) openOn(o square.Order) error {
	b.t.Helper()
	q, err := b.quoteOf(o)
	if err != nil {
		return err
	}
	if err := (fake.Account{Ledger: b.l, Self: b.buyer.Address()}).Open(b.t.Context(), o, q.Quote, q.Sig); err != nil {
		return err
	}
	b.order, b.lease = o, o.ID(domain)
	return nil
}

// served asks one request of 20 base units and returns what was charged.
func (b *bench) served(lane uint16, seq uint64) uint64 {
	b.t.Helper()
	status, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: lane, Seq: seq, Voucher: b.voucher(lane, 20*seq)}, Request: request("0123456789", 4)})
	if status != http.StatusOK {
		return 0
	}
	return receipt(b.t, body).Receipt.Price
}

func slow(c *config) { c.Tick = time.Second } // as in production

// A thief that may give a second's notice, or falls silent for one, has its work
// for nothing.
func TestThiefNotice(t *testing.T) {
	for name, set := range map[string]func(*square.Order){
		"notice":  func(o *square.Order) { o.Drain = 1 },
		"silence": func(o *square.Order) { o.Idle = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, infertest.Toy{Name: "toy"}, slow)
			b.chores()
			o := b.newOrder(1000)
			set(&o)
			if err := b.openOn(o); err != nil {
				t.Logf("refused: %v", err)
				return
			}
			stolen := b.served(0, 1)
			acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
			if name == "notice" {
				if err := acc.Close(t.Context(), b.lease, nil); err != nil {
					t.Fatal(err)
				}
			}
			b.l.Jump(1500 * time.Millisecond)
			_ = acc.Poke(t.Context(), b.lease)
			if m := b.l.Leases()[0]; m.State.Terminal() && m.Paid == 0 {
				t.Errorf("%d charged, %d paid: %s (%s)", stolen, m.Paid, m.State, m.Reason)
			}
		})
	}
}

// A thief with one base unit takes all places for a day.
func TestThiefPlaces(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, slow)
	o := b.newOrder(1)
	o.JobValue, o.Units, o.Idle, o.Duration = 1, 2, 24*3600, 24*3600
	if err := b.openOn(o); err == nil {
		t.Error("all places were leased for a day against an escrow of 1")
	}
}

// A stranger without money blocks others' quotes.
func TestThiefQuote(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, slow)
	honest := b.buyer
	b.buyer = key(t) // an account that does not exist
	o := b.newOrder(1000)
	o.Units = 4
	_, stolen := b.quoteOf(o)
	o.Buyer = honest.Address() // an account that has money, and has not signed this
	if _, err := b.quoteOf(o); err == nil {
		t.Error("a quote was given to who is not the order's buyer")
	}
	b.buyer = honest
	if _, err := b.quoteOf(b.newOrder(1000)); err != nil {
		t.Errorf("an honest buyer is refused (%v) after a stranger without money was answered: %v", err, stolen)
	}
}

// A stranger reads the answers of others.
func TestThiefLane(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, slow)
	b.open(1000)
	b.served(0, 1)
	ask := wire.LaneRequest{Lease: b.lease}
	for name, change := range map[string]func(*http.Request){
		"without a signature": func(r *http.Request) { r.Header.Del("Authorization") },
		"by a stranger": func(r *http.Request) {
			*r = *b.request(t.Context(), key(t), "lane", ask)
		},
		"signed for another path": func(r *http.Request) {
			r.Header.Set("Authorization", b.request(t.Context(), b.buyer, "close", ask).Header.Get("Authorization"))
		},
		"signed for another lane": func(r *http.Request) {
			r.Header.Set("Authorization", b.request(t.Context(), b.buyer, "lane", wire.LaneRequest{Lease: b.lease, Lane: 1}).Header.Get("Authorization"))
		},
		"signed long ago": func(r *http.Request) { b.l.Jump(90 * time.Second); _ = b.p.Tock(t.Context()) },
		"with another body": func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"lease":"`+b.lease.String()+`","lane":0 }`)), -1
		},
		"as text":                  func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"by a web page":            func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"by a name of the thief's": func(r *http.Request) { r.Host = "evil.example" },
	} {
		r := b.request(t.Context(), b.buyer, "lane", ask)
		change(r)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusOK || strings.Contains(string(body), "receipt") {
			t.Errorf("%s: shown %.100s", name, body)
		}
		if len(res.Header.Values("Access-Control-Allow-Origin")) > 0 {
			t.Errorf("%s: CORS is open", name)
		}
	}
	if status, body := b.post("lane", ask); status != http.StatusOK {
		t.Errorf("the buyer itself: %d %s", status, body)
	}
}

// A body that never ends.
func TestThiefSlowBody(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { slow(c); c.ReadTimeout = 200 * time.Millisecond })
	b.open(1000)
	for name, who := range map[string]square.Key{"its buyer": b.buyer, "a stranger": key(t)} {
		c, err := net.Dial("tcp", b.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		signed := b.request(t.Context(), who, "infer/serve", []byte("{"))
		fmt.Fprintf(c, "POST /torg/v1/infer/serve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: %s\r\nContent-Length: 1000\r\n\r\n{",
			signed.Header.Get("Authorization"))
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s sends one byte and is waited for: %v", name, err)
		}
	}
}

// A thief whose body says two things pays for the smaller one.
func TestThiefTwice(t *testing.T) {
	var forwarded string
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		forwarded = string(b)
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	defer up.Close()
	for _, body := range []string{
		`{"messages":[],"max_tokens":30000,"Max_Tokens":1}`,
		`{"messages":[],"max_tokens":30000,"max_tokens":1}`,
		"{\"messages\":[],\"max_token\u017f\":1}",
		`{"messages":[],"n":8,"N":1,"max_tokens":1}`,
		`{"messages":[{"role":"user","content":"a","content":"b"}],"max_tokens":1}`,
	} {
		e := provider.Upstream{Base: up.URL}.Engine(provider.Model{Name: "m", Subject: infer.Subject("m")})
		job := provider.Job{Request: infer.Request{Kind: infer.Opaque, Prompt: []byte(body)}}
		forwarded = ""
		if _, err := e.Run(t.Context(), job, func(infer.Delta) error { return nil }); err == nil {
			c, _ := e.Ceiling(job.Request)
			t.Errorf("%s: forwarded as %s, priced as %d tokens", body, forwarded, c)
		}
	}
}

// While the ledger stands still, or its clock jumps, no more is served on credit
// than one job may cost.
func TestThiefStall(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, slow)
	b.chores()
	o := b.newOrder(10_000)
	o.JobValue = 100
	if err := b.openOn(o); err != nil {
		t.Fatal(err)
	}
	b.l.Stall(true)
	var stolen uint64
	for seq := range uint64(400) {
		got := b.served(0, seq+1)
		if stolen += got; got == 0 {
			break
		}
	}
	b.l.Stall(false)
	b.l.Jump(24 * time.Hour)
	_ = (fake.Account{Ledger: b.l, Self: b.buyer.Address()}).Poke(t.Context(), b.lease)
	if m := b.l.Leases()[0]; stolen-m.Paid > o.JobValue {
		t.Errorf("%d charged, %d paid, one job may cost %d", stolen, m.Paid, o.JobValue)
	}
}

// distant is a ledger that takes its time for a redemption.
type distant struct {
	seller.Ledger
	takes time.Duration
}

func (d distant) Redeem(ctx context.Context, lease square.Hash, claims []chain.Claim) error {
	time.Sleep(d.takes)
	return d.Ledger.Redeem(ctx, lease, claims)
}

// A thief closes many leases at once: all are redeemed within their notice.
func TestThiefCrowd(t *testing.T) {
	const leases = 20
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) {
		c.Services[0].Capacity = 4 * leases // a lease that was not adopted yet counts twice
		c.Ledger = distant{c.Ledger, 500 * time.Millisecond}
	})
	b.chores()
	acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
	for range leases {
		o := b.newOrder(1000)
		o.Drain = 60
		if err := b.openOn(o); err != nil {
			t.Fatal(err)
		}
		b.served(0, 1)
	}
	b.l.Jump(10 * time.Second)
	for _, m := range b.l.Leases() {
		if err := acc.Close(t.Context(), m.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.l.Jump(54 * time.Second) // 6 s of it are left, and one after the other would take 10
	lost := leases
	for end := time.Now().Add(6500 * time.Millisecond); lost > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		lost = 0
		for _, m := range b.l.Leases() {
			if m.Paid == 0 {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d leases were not redeemed within their notice", lost, leases)
	}
}

// Who holds places and does not use them loses them to who wants them.
func TestThiefHolds(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.Terms.Hold = 500 * time.Millisecond })
	b.chores()
	o := b.newOrder(1000)
	o.Units, o.Idle, o.Duration = 4, 3600, 24*3600
	if err := b.openOn(o); err != nil {
		t.Fatal(err)
	}
	held := b.lease
	time.Sleep(600 * time.Millisecond)
	if n := b.l.Count("reclaim"); n != 0 {
		t.Error("places were reclaimed that nobody wants")
	}
	wait(t, "a place", func() bool {
		b.l.Jump(10 * time.Second)
		_ = b.p.Tock(t.Context())
		return b.openOn(b.newOrder(1000)) == nil
	})
	for _, m := range b.l.Leases() {
		if m.ID == held && (m.State != market.Settled || m.Reason != market.ReasonReclaimed) {
			t.Errorf("the lease that was not used is %s (%s)", m.State, m.Reason)
		}
	}
	// One that is used keeps its places.
	o = b.newOrder(1000)
	o.Units = 4
	b.served(0, 1)
	if _, err := b.quoteOf(o); err == nil {
		t.Error("there is room for more than there is")
	}
	time.Sleep(30 * time.Millisecond)
	if n := b.l.Count("reclaim"); n != 1 {
		t.Errorf("%d leases were reclaimed", n)
	}
}

// TestTerms: what a provider cannot live with is refused by name.
func TestTerms(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.Tokens = 100 })
	b.l.Charge(100)
	if err := b.p.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	for field, set := range map[string]func(*square.Order){
		"drain":     func(o *square.Order) { o.Drain = 59 },
		"idle":      func(o *square.Order) { o.Idle = 59 },
		"start":     func(o *square.Order) { o.Start = 59 },
		"challenge": func(o *square.Order) { o.Challenge = 59 },
		"drain ":    func(o *square.Order) { o.Drain = 16 * 60 },
		"idle ":     func(o *square.Order) { o.Idle = 3601 },
		"duration":  func(o *square.Order) { o.Duration = 119 },
		"duration ": func(o *square.Order) { o.Duration = 32 * 24 * 3600 },
		"silence":   func(o *square.Order) { o.Silence = 1 },
		"lanes":     func(o *square.Order) { o.Lanes = 3 },
		"escrow":    func(o *square.Order) { o.Escrow, o.JobValue = 499, 499 }, // 2 units of 100 tokens of 2.5
		"job_value": func(o *square.Order) { o.JobValue = 399 },
		"job_value ": func(o *square.Order) { // bonded 20 times, at most a quarter of 9e8
			o.Escrow, o.JobValue = 20_000_000, 11_250_001
		},
	} {
		o := b.newOrder(1000)
		set(&o)
		_, err := b.quoteOf(o)
		if err == nil || !strings.Contains(err.Error(), `"terms"`) || !strings.Contains(err.Error(), "order: "+strings.TrimSpace(field)) || !strings.Contains(err.Error(), "order ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := b.quoteOf(b.newOrder(1000)); err != nil {
		t.Errorf("what fits: %v", err)
	}
	// A quote on an order that the ledger would refuse would hold places for nothing.
	b.l.Machine.Params.Notice = 61
	if _, err := b.quoteOf(b.newOrder(1000)); err == nil || !strings.Contains(err.Error(), `"terms"`) || !strings.Contains(err.Error(), "at least 61") {
		t.Errorf("a notice that the ledger does not take: %v", err)
	}
	b.l.Machine.Params.Notice = 1
	// A buyer holds no more quotes than it can pay for, nor more than a few.
	rich := b.newOrder(600_000_000)
	rich.JobValue = 1000
	if _, err := b.quoteOf(rich); err != nil {
		t.Fatal(err)
	}
	b.cfg.Services[0].Capacity = 100
	o := b.newOrder(600_000_000)
	o.JobValue = 1000
	b.trade.SetServices(b.cfg.Services)
	if err := b.p.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.p.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.quoteOf(o); err == nil || !strings.Contains(err.Error(), `"payment"`) {
		t.Errorf("more than the buyer has: %v", err)
	}
	var err error
	for range 4 {
		_, err = b.quoteOf(b.newOrder(1000))
	}
	if err == nil || !strings.Contains(err.Error(), `"busy"`) {
		t.Errorf("a fifth quote: %v", err)
	}
}

// A redemption that costs more than it brings is left; one that pays is made.
func TestFee(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.RedeemEvery = time.Millisecond })
	b.l.Charge(25)
	if err := b.p.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.open(1000)
	b.chores()
	b.served(0, 1)
	acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
	time.Sleep(50 * time.Millisecond)
	if n := b.l.Count("redeem"); n != 0 {
		t.Errorf("%d redemptions of 20 that cost 25", n)
	}
	b.served(0, 2)
	time.Sleep(50 * time.Millisecond)
	if n := b.l.Count("redeem"); n != 0 {
		t.Errorf("%d redemptions of 40 that can wait", n)
	}
	if err := acc.Close(t.Context(), b.lease, nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 40 })

	b.open(1000)
	b.served(0, 1)
	if err := acc.Close(t.Context(), b.lease, nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if n := b.l.Count("redeem"); n != 1 {
		t.Errorf("20 were redeemed for 25")
	}
}

// Blocks had no room for longer than a lease may be silent: its deadlines came
// later by as much, and it is served on.
func TestFullBlocks(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { c.OfferTTL = 3 * time.Hour })
	b.open(1000)
	b.chores()
	b.served(0, 1)
	b.l.Full(3600)
	time.Sleep(100 * time.Millisecond)
	if b.served(0, 2) == 0 {
		t.Error("a lease that lasts was served no more")
	}
	b.l.Jump(570 * time.Second) // of 600 s of silence
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 40 })
}

// What nobody disputes is redeemed while the rest is.
func TestRedeemBesideDispute(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	b := newBench(t, toy, nil)
	b.open(1000)
	b.served(0, 1)
	b.served(1, 1)
	status, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: 0, Seq: 2, Voucher: b.voucher(0, 40)}, Request: request("0123456789", 4)})
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	signed := receipt(t, body)
	// A lease whose escrow is 1000 of which 970 are disputed: 30 of 60 are free.
	if err := b.l.Dispute(b.lease, b.buyer.Address(), square.Evidence{Receipt: signed.Receipt, Sig: signed.Sig, Request: request("0123456789", 4), Result: signed.Result}, 970); err != nil {
		t.Fatal(err)
	}
	b.chores()
	wait(t, "redemption", func() bool { return b.l.Leases()[0].Paid == 30 })
	if m := b.l.Leases()[0]; m.State != market.Disputed {
		t.Errorf("the lease is %s", m.State)
	}
}

// A thief takes answers of a newcomer, who is paid with the next voucher, on all
// lanes, and pays for none.
func TestThiefTrust(t *testing.T) {
	fresh := key(t)
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) {
		acc := c.Ledger.(fake.Account)
		acc.Self = fresh.Address()
		c.Key, c.Ledger, c.Terms.Credit = fresh, acc, 1_000_000
	})
	b.chores()
	o := b.newOrder(10_000)
	o.Policy, o.Lanes, o.Units, o.JobValue = square.PolicyReplicate, 4, 4, 250
	if err := b.openOn(o); err != nil {
		t.Fatal(err)
	}
	ask := func(lane uint16, seq, max uint64) uint64 {
		status, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: lane, Seq: seq, Voucher: b.voucher(lane, max)}, Request: request("0123456789", 36)})
		if status != http.StatusOK {
			return 0
		}
		return receipt(t, body).Receipt.Price
	}
	var stolen uint64
	for lane := range uint16(4) {
		stolen += ask(lane, 1, 0)
	}
	if stolen == 0 || stolen > o.JobValue {
		t.Fatalf("answers for %d were given on trust, at most %d are to be", stolen, o.JobValue)
	}
	if got := ask(0, 2, 99); got != 0 {
		t.Error("a voucher that does not cover what was charged is taken")
	}
	if got := ask(0, 2, 100); got != 100 {
		t.Errorf("the answer after a voucher for the last costs %d", got)
	}
	for seq := uint64(3); seq < 12; seq++ { // all on one lane, each paid by the next
		if got := ask(0, seq, 100*(seq-1)); got != 100 {
			t.Fatalf("answer %d costs %d", seq, got)
		}
	}
	acc := fake.Account{Ledger: b.l, Self: b.buyer.Address()}
	if err := acc.Close(t.Context(), b.lease, nil); err != nil {
		t.Fatal(err)
	}
	var m market.Lease
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && !m.State.Terminal(); time.Sleep(10 * time.Millisecond) {
		b.l.Jump(time.Second)
		m = b.l.Leases()[0]
	}
	if want := uint64(10 * 100); m.Paid != want {
		t.Errorf("paid %d, vouchers cover %d (%s, %s)", m.Paid, want, m.State, m.Reason)
	}
}
