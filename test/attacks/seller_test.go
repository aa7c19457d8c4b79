package attacks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	sell "github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/wire"
)

// crook is a thief who sells: it undercuts the square's provider, takes vouchers
// and answers as it likes.
type crook struct {
	*thief
	srv    *httptest.Server
	offer  square.Offer
	bond   uint64 // of each lease
	answer func(c *crook, s *sold, req infer.ServeRequest, w http.ResponseWriter)

	mu     sync.Mutex
	orders map[square.Hash]*sold
	asked  int
}

// sold is a lease that somebody opened with the crook.
type sold struct {
	id       square.Hash
	order    square.Order
	rates    []square.Rate
	vouchers map[uint16]square.Voucher // the highest of each lane
	charged  map[uint16]uint64
	seq      map[uint16]uint64
}

// crook opens a shop with this much staked, a tenth as dear as the square's own.
func (p *place) crook(stake uint64, answer func(*crook, *sold, infer.ServeRequest, http.ResponseWriter)) *crook {
	t := p.t
	t.Helper()
	c := &crook{thief: p.thief(20 * torgs), bond: min(stake, crookBond), answer: answer, orders: map[square.Hash]*sold{}}
	mux := http.NewServeMux()
	handle := func(what string, f func(w http.ResponseWriter, body []byte)) {
		mux.HandleFunc(what, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(io.LimitReader(r.Body, 8<<20))
			f(w, b)
		})
	}
	handle("GET "+wire.PathPrefix+"offers", func(w http.ResponseWriter, _ []byte) {
		_ = json.NewEncoder(w).Encode(wire.OffersReply{Provider: c.addr, Offers: []square.Offer{c.offer}})
	})
	handle("POST "+wire.PathPrefix+"quote", c.quote)
	handle("POST "+wire.PathPrefix+"infer/serve", c.serve)
	c.srv = httptest.NewServer(mux)
	t.Cleanup(c.srv.Close)
	if stake > 0 {
		if _, err := c.acct.Bond(t.Context(), infer.Name, square.Utorg(stake)); err != nil {
			t.Fatal(err)
		}
	}
	own := p.offer(nano.Name)
	c.offer = square.Offer{
		Provider: c.addr, Trade: infer.Name, Spec: own.Spec, Subject: own.Subject, Denom: square.Denom, Capacity: 64,
		Attributes: own.Attributes, Endpoint: c.srv.URL, Expiry: time.Now().Add(30 * time.Minute).Unix(), Nonce: 1,
	}
	for _, r := range trade.RatesFor(own.Rates, "") {
		c.offer.Rates = append(c.offer.Rates, square.Rate{Unit: r.Unit, PerMillion: r.PerMillion/10 + 1})
	}
	if _, err := c.acct.PostOffer(t.Context(), c.offer); err != nil {
		t.Fatal(err)
	}
	return c
}

// crookBond is what the crook puts up for each lease: little more than the ledger
// asks.
const crookBond = 400_000

// quote gives a quote.
func (c *crook) quote(w http.ResponseWriter, body []byte) {
	var req wire.QuoteRequest
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d := c.p.ledger.Domain()
	id := req.Order.ID(d)
	q := square.Quote{
		Provider: c.addr, Order: id, Offer: req.Offer, Spec: req.Order.Spec, Rates: c.offer.Rates, Bond: c.bond, Ready: true,
		Expiry: time.Now().Add(20 * time.Second).Unix(), Nonce: sha256.Sum256(id[:]),
	}
	c.mu.Lock()
	c.orders[id] = &sold{id: id, order: req.Order, rates: q.Rates, vouchers: map[uint16]square.Voucher{}, charged: map[uint16]uint64{}, seq: map[uint16]uint64{}}
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(wire.QuoteReply{Quote: q, Sig: c.key.Sign(q.Digest(d))})
}

func (c *crook) serve(w http.ResponseWriter, body []byte) {
	var req infer.ServeRequest
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.orders[req.Lease]
	if s == nil {
		http.Error(w, "no such lease", http.StatusNotFound)
		return
	}
	c.asked++
	if req.Voucher.Max > s.vouchers[req.Lane].Max {
		s.vouchers[req.Lane] = req.Voucher
	}
	c.answer(c, s, req, w)
}

// receipt answers truly, with a receipt that change has had its way with.
func (c *crook) receipt(s *sold, req infer.ServeRequest, w http.ResponseWriter, change func(*square.Receipt, *infer.Result)) {
	r, err := infer.DecodeRequest(req.Request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var text []infer.Delta
	out, err := sell.Exact(nano.Model()).Run(context.Background(), sell.Job{Request: r, Logprobs: req.Logprobs, Stream: req.Stream}, func(d infer.Delta) error {
		text = append(text, d)
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	d := c.p.ledger.Domain()
	rcpt := square.Receipt{
		Lease: s.id, Lane: req.Lane, Seq: req.Seq, Subject: c.offer.Spec, Request: r.Digest(), Units: out.Units, Time: time.Now().UnixMilli(),
	}
	rcpt.Price, _ = square.Price(s.rates, rcpt.Units)
	rcpt.Cumulative = s.charged[req.Lane] + rcpt.Price
	change(&rcpt, &out.Result)
	result := out.Result.Encode()
	rcpt.Result = sha256.Sum256(result)
	s.charged[req.Lane] = rcpt.Cumulative
	enc := json.NewEncoder(w)
	_ = enc.Encode(infer.Frame{Start: &infer.Start{Cancel: "0"}})
	for i := range text {
		_ = enc.Encode(infer.Frame{Delta: &text[i]})
	}
	_ = enc.Encode(infer.Frame{Receipt: &wire.Signed{Receipt: rcpt, Sig: c.key.Sign(rcpt.Digest(d)), Result: result}})
}

// cash redeems the highest vouchers of all leases, to the last unit of them.
func (c *crook) cash() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.orders {
		var claims []client.Claim
		for n, v := range s.vouchers {
			claims = append(claims, client.Claim{Lane: n, Amount: v.Max, Voucher: v})
		}
		if len(claims) == 0 {
			continue
		}
		if _, rerr := c.acct.Redeem(c.p.t.Context(), s.id, claims, false); rerr != nil {
			err = fmt.Errorf("lease %s: %w", s.id.Short(), rerr)
		}
	}
	return err
}

// paid is what the crook's leases have paid it, and how they stand.
func (c *crook) paid() (sum, locked uint64, states map[market.State]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	states = map[market.State]int{}
	for id := range c.orders {
		if l, err := c.p.ledger.Lease(c.p.t.Context(), id); err == nil {
			sum += l.Paid
			locked += l.Escrow
			states[l.State]++
		}
	}
	return sum, locked, states
}

// shop lets the square's buyer ask so often, eight at once, and says how often it
// was answered.
func (c *crook) shop(requests, tokens int) int {
	var answered atomic.Int64
	var asks sync.WaitGroup
	left := make(chan struct{}, requests)
	for range requests {
		left <- struct{}{}
	}
	close(left)
	for range min(8, requests) {
		asks.Go(func() {
			for range left {
				if err := c.p.ask(c.p.t.Context(), tokens); err == nil {
					answered.Add(1)
				}
			}
		})
	}
	asks.Wait()
	return int(answered.Load())
}

// TestWithholder: a provider with the smallest stake undercuts everybody,
// takes the voucher of every request and breaks off; then it redeems them.
func TestWithholder(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := p.crook(crookBond, func(_ *crook, _ *sold, _ infer.ServeRequest, w http.ResponseWriter) {
		panic(http.ErrAbortHandler) // the connection is cut
	})
	p.await("the square's buyer to ask the crook", func() error {
		if c.shop(8, 100); c.asked == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	answered := c.shop(30, 100)
	if err := c.cash(); err != nil {
		t.Logf("the crook's redemption: %v", err)
	}
	sum, locked, states := c.paid()
	interval, err := square.Price(c.offer.Rates, []uint64{uint64(len("It is a truth")) + 300, 100})
	if err != nil {
		t.Fatal(err)
	}
	p.after(outcome{
		actor: provider, name: "takes vouchers and breaks off", loss: int64(sum), interval: interval,
		note: fmt.Sprintf("asked %d times in %d leases %v, %d of 30 requests answered by others, %d locked", c.asked, len(c.orders), states, answered, locked),
	})
}

// TestOvercharger: a provider answers truly and meters the prompt at its ceiling.
func TestOvercharger(t *testing.T) {
	t.Parallel()
	p := open(t)
	stolen := uint64(0)
	c := p.crook(torgs, func(c *crook, s *sold, req infer.ServeRequest, w http.ResponseWriter) {
		c.receipt(s, req, w, func(r *square.Receipt, _ *infer.Result) {
			fair := r.Price
			prompt := r.Units[:1]
			prompt[0] += 250
			r.Price, _ = square.Price(s.rates, r.Units)
			r.Cumulative += r.Price - fair
			stolen += r.Price - fair
		})
	})
	p.await("the square's buyer to ask the crook", func() error {
		if c.shop(8, 30); c.asked == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	answered := c.shop(30, 30)
	if err := c.cash(); err != nil {
		t.Logf("the crook's redemption: %v", err)
	}
	sum, locked, states := c.paid()
	interval, err := square.Price(c.offer.Rates, []uint64{uint64(len("It is a truth")) + 300, 30})
	if err != nil {
		t.Fatal(err)
	}
	p.after(outcome{
		actor: provider, name: "meters more than it did", loss: int64(min(sum, stolen)), interval: interval,
		note: fmt.Sprintf("asked %d times in %d leases %v, %d of 30 answered, paid %d, %d locked", c.asked, len(c.orders), states, answered, sum, locked),
	})
}

// TestNewcomersLie: a provider with nothing at stake answers falsely beside the
// square's own, under the policy that lets it sell at all.
func TestNewcomersLie(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := p.crook(0, func(c *crook, s *sold, req infer.ServeRequest, w http.ResponseWriter) {
		c.receipt(s, req, w, func(_ *square.Receipt, r *infer.Result) {
			r.Tokens[len(r.Tokens)-1] ^= 1
		})
	})
	ask := func(verification string) (reply, error) {
		return p.chat(t.Context(), p.APIKey, fmt.Sprintf(
			`{"model":%q,"max_tokens":30,"seed":7,"temperature":0,"provider":{"verification":%q},"messages":[{"role":"user","content":"It is a truth"}]}`, nano.Name, verification))
	}
	fair, err := ask("audit")
	if err != nil {
		t.Fatal(err)
	}
	if c.asked > 0 {
		t.Error("it was asked alone")
	}
	answered := 0
	p.await("the square's buyer to ask the newcomer", func() error {
		a, err := ask("replicate")
		if err == nil {
			answered++
			if a.Choices[0].Message.Content != fair.Choices[0].Message.Content {
				t.Errorf("the client was told %q", a.Choices[0].Message.Content)
			}
		}
		if c.asked == 0 {
			return fmt.Errorf("not yet: %v", err)
		}
		return nil
	})
	for range 10 {
		if _, err := ask("replicate"); err == nil {
			answered++
		}
	}
	if err := c.cash(); err != nil {
		t.Logf("the crook's redemption: %v", err)
	}
	sum, locked, states := c.paid()
	if sum > 0 {
		t.Errorf("lying earned %d", sum)
	}
	p.after(outcome{
		actor: provider, name: "lies with nothing at stake", loss: int64(sum),
		note: fmt.Sprintf("asked %d times in %d leases %v, %d of 11 answered, paid %d, %d locked", c.asked, len(c.orders), states, answered, sum, locked),
	})
}

// TestSmallBond: a provider that would vouch for another's lies has bonded one base
// unit for it, and is asked nothing.
func TestSmallBond(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := p.crook(1, func(c *crook, s *sold, req infer.ServeRequest, w http.ResponseWriter) {
		c.receipt(s, req, w, func(_ *square.Receipt, r *infer.Result) { r.Tokens[0] ^= 1 })
	})
	body := fmt.Sprintf(`{"model":%q,"max_tokens":4,"provider":{"verification":"replicate"},"messages":[{"role":"user","content":"It is a truth"}]}`, nano.Name)
	p.await("its quote to be asked for", func() error {
		if _, err := p.chat(t.Context(), p.APIKey, body); err == nil {
			return fmt.Errorf("it was answered by a pair")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.orders) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	for range 5 {
		_, _ = p.chat(t.Context(), p.APIKey, body) // there is nobody to compare with
	}
	sum, locked, states := c.paid()
	if c.asked > 0 || locked > 0 {
		t.Errorf("asked %d times, with %d locked", c.asked, locked)
	}
	p.after(outcome{
		actor: provider, name: "vouches with a bond of one unit", loss: int64(sum),
		note: fmt.Sprintf("quoted %d times, leases %v, asked %d times", len(c.orders), states, c.asked),
	})
}

// TestDearer: a provider whose receipt asks a price that its own units do not
// give.
func TestDearer(t *testing.T) {
	t.Parallel()
	p := open(t)
	c := p.crook(torgs, func(c *crook, s *sold, req infer.ServeRequest, w http.ResponseWriter) {
		c.receipt(s, req, w, func(r *square.Receipt, _ *infer.Result) { r.Price++; r.Cumulative++ })
	})
	p.await("the square's buyer to ask the crook", func() error {
		if c.shop(8, 30); c.asked == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	answered := c.shop(10, 30)
	if err := c.cash(); err != nil {
		t.Logf("the crook's redemption: %v", err)
	}
	sum, _, states := c.paid()
	interval, err := square.Price(c.offer.Rates, []uint64{uint64(len("It is a truth")) + 300, 30})
	if err != nil {
		t.Fatal(err)
	}
	p.after(outcome{
		actor: provider, name: "asks more than its rates", loss: int64(sum), interval: interval,
		note: fmt.Sprintf("asked %d times in %d leases %v, %d of 10 answered, paid %d", c.asked, len(c.orders), states, answered, sum),
	})
}

// TestUnaskedModels: a provider offers many models that nobody asks for, and quotes
// on them, so that the square's buyer puts escrow into leases with it.
func TestUnaskedModels(t *testing.T) {
	t.Parallel()
	p := open(t)
	before, err := p.ledger.Balance(t.Context(), p.Wallet, square.Denom)
	if err != nil {
		t.Fatal(err)
	}
	c := p.crook(15*torgs, func(_ *crook, _ *sold, _ infer.ServeRequest, w http.ResponseWriter) { panic(http.ErrAbortHandler) })
	const models = 30
	var posts sync.WaitGroup
	for i := range models {
		posts.Go(func() {
			o := c.offer
			o.Subject, o.Spec = fmt.Sprintf("model %d", i), infer.Subject(fmt.Sprintf("model %d", i))
			if _, err := c.acct.PostOffer(t.Context(), o); err != nil {
				t.Logf("offer %d: %v", i, err)
			}
		})
	}
	posts.Wait()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if _, locked, _ := c.paid(); locked > 25*10*torgs {
			break
		}
	}
	_, locked, states := c.paid()
	after, err := p.ledger.Balance(t.Context(), p.Wallet, square.Denom)
	if err != nil {
		t.Fatal(err)
	}
	// One lease, for the model that the square's buyer asks for, is as it should be.
	if states[market.Active] > 1 {
		t.Errorf("for models that nobody asked for the square's buyer has opened %d leases and locked %s", states[market.Active], square.Utorg(locked))
	}
	p.after(outcome{
		actor: provider, name: "models that nobody asks for", interval: 100,
		note: fmt.Sprintf("%d leases opened, %d locked, the wallet fell by %d", states[market.Active], locked, before.Units-min(before.Units, after.Units)),
	})
}
