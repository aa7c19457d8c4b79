package attacks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// thief is an attacker with an account.
type thief struct {
	p     *place
	key   square.Key
	addr  square.Address
	acct  *client.Account
	began uint64

	got  atomic.Uint64 // the price of the work it was handed
	acts atomic.Int64  // what it was let do: leases opened, transactions queued

	mu     sync.Mutex
	leases []*stolen
}

// thief is an account that begins with so many utorg, given by the owner.
func (p *place) thief(units uint64) *thief {
	p.t.Helper()
	th := p.guest(units)
	p.thieves = append(p.thieves, th)
	return th
}

// guest is a thief who is honest: another buyer, whose gains are its own.
func (p *place) guest(units uint64) *thief {
	p.t.Helper()
	key, err := square.NewKey()
	if err != nil {
		p.t.Fatal(err)
	}
	th := &thief{p: p, key: key, addr: key.Address(), acct: p.ledger.Account(key), began: units}
	if _, err := p.owner.Send(p.t.Context(), th.addr, square.Utorg(units)); err != nil {
		p.t.Fatalf("give the thief its money: %v", err)
	}
	return th
}

const torgs = square.UnitsPerTorg

// stolen is a lease that a thief opened.
type stolen struct {
	th    *thief
	id    square.Hash
	order square.Order
	rates []square.Rate
	at    square.Offer // whose provider it is with
	lanes []*lane
}

type lane struct {
	mu      sync.Mutex
	n       uint16
	channel square.Hash
	seq     uint64
	charged uint64 // by the receipts it was given
	max     uint64
	most    uint64 // one request may cost
	voucher square.Voucher
	last    wire.Signed
	asked   []byte // the request of last
}

// offer is the newest offer of the square's provider under a name; of the first
// where the name is empty.
func (p *place) offer(subject string) square.Offer {
	p.t.Helper()
	var found square.Offer
	p.await("an offer of "+subject, func() error {
		offers, _, err := p.ledger.Offers(p.t.Context(), client.OfferFilter{Provider: p.Provider}, client.Page{})
		for _, o := range offers {
			if subject == "" || o.Subject == subject {
				found = o.Offer
				return nil
			}
		}
		return errors.Join(err, errors.New("not offered"))
	})
	return found
}

// order is what an honest buyer would order of the offer.
func (th *thief) order(o square.Offer) square.Order {
	out := square.Order{
		Buyer: th.addr, Authorizer: th.addr, Trade: infer.Name, Mode: square.ModeStream, Spec: o.Spec, Denom: square.Denom,
		Escrow: 2 * torgs, MaxRates: trade.RatesFor(o.Rates, square.PolicyAudit), JobValue: torgs / 5, Policy: square.PolicyAudit, Lanes: 2, Units: 2,
		Start: 60, Idle: 3600, Duration: 3600, Challenge: 600, Drain: 60, Expiry: time.Now().Add(time.Minute).Unix(),
	}
	rand.Read(out.Salt[:])
	return out
}

// lease gets a quote on an order and opens the lease.
func (th *thief) lease(o square.Order, of square.Offer) (*stolen, error) {
	ctx, cancel := context.WithTimeout(th.p.t.Context(), 30*time.Second)
	defer cancel()
	d := th.p.ledger.Domain()
	var q wire.QuoteReply
	if err := th.p.call(ctx, th.key, of, "quote", o.ID(d), 0, wire.QuoteRequest{Order: o, Offer: of.ID(d)}, &q); err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	if _, err := th.acct.OpenLease(ctx, o, q.Quote, q.Sig); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	th.acts.Add(1)
	s := &stolen{th: th, id: o.ID(d), order: o, rates: q.Quote.Rates, at: of}
	for n := range uint16(o.Lanes) {
		ch := o.Channel(d, of.Provider, n).ID(th.p.ledger.ChannelDomain())
		s.lanes = append(s.lanes, &lane{n: n, channel: ch})
	}
	th.mu.Lock()
	th.leases = append(th.leases, s)
	th.mu.Unlock()
	return s, nil
}

// must opens a lease or ends the test.
func (th *thief) must(o square.Order, of square.Offer) *stolen {
	th.p.t.Helper()
	s, err := th.lease(o, of)
	if err != nil {
		th.p.t.Fatal(err)
	}
	return s
}

// call posts one call of the wire between buyer and provider, signed by a key.
func (p *place) call(ctx context.Context, k square.Key, at square.Offer, what string, lease square.Hash, lane uint16, body, reply any) error {
	resp, err := p.post(ctx, k, at, what, lease, lane, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return refused(resp)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(reply)
}

func (p *place) post(ctx context.Context, k square.Key, at square.Offer, what string, lease square.Hash, lane uint16, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Endpoint+wire.PathPrefix+what, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	c := wire.Call{Provider: at.Provider, Path: what, Lease: lease, Lane: lane, Time: time.Now().Unix(), Body: sha256.Sum256(b)}
	req.Header.Set("Authorization", c.Header(p.ledger.Domain(), k))
	return http.DefaultClient.Do(req)
}

func refused(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var we wire.Refusal
	if json.Unmarshal(raw, &we) == nil && we.Code != "" {
		return &we
	}
	return fmt.Errorf("HTTP %d: %s", resp.StatusCode, raw)
}

// question is a request for so many tokens of an exact model.
func question(tokens uint32) infer.Request {
	return infer.Request{Kind: infer.Exact, MaxTokens: tokens, TopP: 10_000, Prompt: []byte("It is a truth universally acknowledged")}
}

// ceiling is the most that a request may cost.
func (s *stolen) ceiling(r infer.Request) (uint64, error) {
	units, err := meter.Ceiling(r, 0)
	if err != nil {
		return 0, err
	}
	return square.Price(s.rates, units)
}

// ask pays for one request on a lane, honestly, and reads the answer.
func (s *stolen) ask(n int, r infer.Request) (wire.Signed, error) {
	ln := s.lanes[n]
	ln.mu.Lock()
	defer ln.mu.Unlock()
	price, err := s.ceiling(r)
	if err != nil {
		return wire.Signed{}, err
	}
	ln.most = max(ln.most, price)
	ln.max = max(ln.max, ln.charged+price)
	ln.voucher = square.SignVoucher(s.th.p.ledger.ChannelDomain(), ln.channel, ln.max, s.th.key)
	req := infer.ServeRequest{Payment: wire.Payment{Lease: s.id, Lane: ln.n, Seq: ln.seq + 1, Voucher: ln.voucher}, Request: r.Encode()}
	got, err := s.serve(req)
	if err != nil {
		return got, err
	}
	ln.seq, ln.charged, ln.last, ln.asked = got.Receipt.Seq, got.Receipt.Cumulative, got, req.Request
	s.th.got.Add(got.Receipt.Price)
	return got, nil
}

// serve posts a request as it is and reads the answer to its receipt.
func (s *stolen) serve(req infer.ServeRequest) (wire.Signed, error) {
	ctx, cancel := context.WithTimeout(s.th.p.t.Context(), patience)
	defer cancel()
	resp, err := s.th.p.post(ctx, s.th.key, s.at, "infer/serve", req.Lease, req.Lane, req)
	if err != nil {
		return wire.Signed{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return wire.Signed{}, refused(resp)
	}
	lines := bufio.NewReaderSize(resp.Body, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return wire.Signed{}, fmt.Errorf("the answer ends without a receipt: %w", err)
		}
		var f infer.Frame
		if err := json.Unmarshal(line, &f); err != nil {
			return wire.Signed{}, err
		}
		switch {
		case f.Receipt != nil:
			return *f.Receipt, nil
		case f.Error != nil:
			return wire.Signed{}, f.Error
		}
	}
}

// charged is what the provider has signed receipts for in this lease.
func (s *stolen) charged() (sum uint64) {
	for _, ln := range s.lanes {
		ln.mu.Lock()
		sum += ln.charged
		ln.mu.Unlock()
	}
	return sum
}

// market is the lease as the ledger has it.
func (s *stolen) market() (l market.Lease, err error) {
	ctx, cancel := context.WithTimeout(s.th.p.t.Context(), 10*time.Second)
	defer cancel()
	return s.th.p.ledger.Lease(ctx, s.id)
}

// close is the buyer's one-sided end.
func (s *stolen) close() error {
	_, err := s.th.acct.Close(s.th.p.t.Context(), s.id, nil)
	return err
}

// over waits until the lease has ended, and pokes it as anyone may.
func (s *stolen) over(most time.Duration) market.Lease {
	s.th.p.t.Helper()
	var l market.Lease
	s.th.p.awaitFor(most, "the end of lease "+s.id.Short(), func() error {
		var err error
		if l, err = s.market(); err != nil {
			return err
		}
		if l.State.Terminal() {
			return nil
		}
		if time.Now().Unix() > l.Deadline+1 {
			ctx, cancel := context.WithTimeout(s.th.p.t.Context(), 5*time.Second)
			defer cancel()
			if _, err := s.th.acct.Poke(ctx, s.id); err != nil {
				return fmt.Errorf("lease is %s; poke: %w", l.State, err)
			}
		}
		return fmt.Errorf("lease is %s until %s", l.State, time.Unix(l.Deadline, 0))
	})
	return l
}

// end is what the square's provider is owed by the thief's leases that have
// ended, and the most that one request in them may cost. Open ones are still to
// be paid, so nothing of them is lost yet.
func (th *thief) end() (owed int64, interval uint64) {
	th.p.t.Helper()
	for _, s := range th.leases {
		if s.at.Provider != th.p.Provider {
			continue
		}
		for _, ln := range s.lanes {
			interval = max(interval, ln.most)
		}
		l, err := s.market()
		if err != nil {
			th.p.t.Errorf("lease %s: %v", s.id.Short(), err)
			continue
		}
		if l.State.Terminal() {
			owed += int64(s.charged()) - int64(l.Paid)
		}
	}
	return owed, interval
}

// open is what the thief's leases that have not ended still hold, less what
// their provider has yet to redeem.
func (th *thief) open() (sum uint64) {
	for _, s := range th.leases {
		if l, err := s.market(); err == nil && !l.State.Terminal() {
			sum += l.Escrow - min(l.Escrow, s.charged()-min(l.Paid, s.charged()))
		}
	}
	return sum
}

// consent is a provider's agreement to end a lease with a sum.
func consent(paid uint64, c wire.CloseReply) *client.Consent {
	return &client.Consent{Paid: paid, Sig: c.Sig}
}

// resync asks the provider how a lane stands, as a buyer does that has lost an
// answer. What was charged meanwhile was worth its price.
func (s *stolen) resync(n int) error {
	ln := s.lanes[n]
	var r wire.LaneReply
	if err := s.th.p.call(s.th.p.t.Context(), s.th.key, s.at, "lane", s.id, ln.n, wire.LaneRequest{Lease: s.id, Lane: ln.n}, &r); err != nil {
		return err
	}
	if r.Charged > ln.charged {
		s.th.got.Add(r.Charged - ln.charged)
	}
	ln.seq, ln.charged = r.Seq, r.Charged
	return nil
}
