package attacks

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
)

// TestOfferSpam: an account posts offers that live for a minute, each of another
// model; what the ledger stores of them must go (money.md, Medium).
func TestOfferSpam(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(6 * torgs)
	offers := 100
	if *long {
		offers = 3000
	}
	posted, refused := 0, ""
	var mu sync.Mutex
	var posters sync.WaitGroup
	jobs := make(chan int)
	for range 25 {
		posters.Go(func() {
			for i := range jobs {
				o := square.Offer{
					Provider: th.addr, Trade: infer.Name, Subject: fmt.Sprintf("spam %d", i), Denom: square.Denom,
					Rates:    []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1}, {Unit: infer.UnitCompletion, PerMillion: 1}},
					Capacity: 1, Endpoint: "http://127.0.0.1:1", Expiry: time.Now().Add(time.Minute).Unix(), Nonce: uint64(i + 1),
				}
				rand.Read(o.Spec[:])
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, err := th.acct.PostOffer(ctx, o)
				cancel()
				mu.Lock()
				if err == nil {
					posted++
				} else {
					refused = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	for i := range offers {
		jobs <- i
	}
	close(jobs)
	posters.Wait()
	if refused != "" {
		t.Logf("some were refused: %s", refused)
	}
	kept := 0
	end := time.Now().Add(2*time.Minute + time.Duration(offers)*20*time.Millisecond)
	for {
		kept = 0
		for page := (client.Page{Limit: 1000}); ; {
			some, next, err := p.ledger.Offers(t.Context(), client.OfferFilter{Provider: th.addr, All: true}, page)
			if err != nil {
				t.Fatal(err)
			}
			if kept += len(some); next == "" {
				break
			}
			page.After = next
		}
		if kept == 0 || time.Now().After(end) {
			break
		}
		time.Sleep(time.Second)
	}
	if kept > 0 {
		t.Errorf("%d of %d offers are still stored a minute after their end", kept, posted)
	}
	p.after(outcome{actor: stranger, name: "spam of offers that live for a minute", note: fmt.Sprintf("%d of %d posted, %d stored a minute after their end", posted, offers, kept)})
}

// TestHonestWorkChallenged: a buyer challenges honest exact answers one after the
// other, to make the ledger work and the provider's lease stand still (money.md,
// Medium).
func TestHonestWorkChallenged(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	of := p.offer(nano.Name)
	s := th.must(th.order(of), of)
	heard, gas := 0, int64(0)
	for range 5 {
		if _, err := s.ask(0, question(60)); err != nil {
			t.Fatal(err)
		}
		ln := s.lanes[0]
		e := square.Evidence{Receipt: ln.last.Receipt, Sig: ln.last.Sig, Request: ln.asked, Result: ln.last.Result}
		r, err := th.acct.Challenge(t.Context(), s.id, e, 0)
		if err != nil {
			t.Logf("challenge: %v", err)
			continue
		}
		heard++
		gas += r.Gas
	}
	if heard == 0 {
		t.Error("no honest answer could be challenged, so that nobody could challenge a false one either")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	l := s.over(2*time.Duration(s.order.Drain)*time.Second + patience)
	p.after(outcome{actor: buyer, name: "challenges of honest exact answers", note: fmt.Sprintf("%d heard for %d gas; charged %d, paid %d", heard, gas, s.charged(), l.Paid)})
}

// TestStrangerActs: a stranger sends every message there is about a lease, an
// offer and a stake that are not its own.
func TestStrangerActs(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(5 * torgs)
	of := p.offer(nano.Name)
	var lease square.Hash
	p.await("the square's own lease", func() error {
		ls, _, err := p.ledger.Leases(t.Context(), client.LeaseFilter{Buyer: p.Wallet, State: market.Active}, client.Page{})
		if err == nil && len(ls) == 0 {
			err = errors.New("none stands")
		}
		if err == nil {
			lease = ls[0].ID
		}
		return err
	})
	forged := square.SignVoucher(p.ledger.ChannelDomain(), square.Hash{1}, torgs, th.key)
	a, done := th.acct, 0
	acts := map[string]func(context.Context) (client.Result, error){
		"close":   func(ctx context.Context) (client.Result, error) { return a.Close(ctx, lease, nil) },
		"consent": func(ctx context.Context) (client.Result, error) { return a.Close(ctx, lease, &client.Consent{}) },
		"cancel":  func(ctx context.Context) (client.Result, error) { return a.Cancel(ctx, lease) },
		"reclaim": func(ctx context.Context) (client.Result, error) { return a.Reclaim(ctx, lease, 3600) },
		"abandon": func(ctx context.Context) (client.Result, error) { return a.Abandon(ctx, lease) },
		"accept":  func(ctx context.Context) (client.Result, error) { return a.Accept(ctx, lease) },
		"start":   func(ctx context.Context) (client.Result, error) { return a.Start(ctx, lease) },
		"poke":    func(ctx context.Context) (client.Result, error) { return a.Poke(ctx, lease) },
		"final":   func(ctx context.Context) (client.Result, error) { return a.Redeem(ctx, lease, nil, true) },
		"redeem": func(ctx context.Context) (client.Result, error) {
			return a.Redeem(ctx, lease, []client.Claim{{Amount: torgs, Voucher: forged}}, false)
		},
		"ballot": func(ctx context.Context) (client.Result, error) { return a.Commit(ctx, lease, square.Hash{2}) },
		"vote": func(ctx context.Context) (client.Result, error) {
			return a.Vote(ctx, lease, square.VerdictFraud, square.Hash{2})
		},
		"extend": func(ctx context.Context) (client.Result, error) {
			return a.Extend(ctx, lease, time.Now().Unix()+100_000, square.Signature{})
		},
		"answer": func(ctx context.Context) (client.Result, error) { return a.Answer(ctx, lease, []byte("junk"), "") },
		"claim": func(ctx context.Context) (client.Result, error) {
			r := square.Receipt{Lease: lease, Seq: 1, Subject: of.Spec, Units: []uint64{1, 1}, Price: 1, Cumulative: 1, Time: time.Now().UnixMilli()}
			return a.ClaimResult(ctx, r, th.key.Sign(r.Digest(p.ledger.Domain())))
		},
		"withdraw": func(ctx context.Context) (client.Result, error) { return a.WithdrawOffer(ctx, infer.Name, of.Spec) },
		"unbond": func(ctx context.Context) (client.Result, error) {
			return a.Unbond(ctx, infer.Name, square.Utorg(torgs))
		},
		"offer": func(ctx context.Context) (client.Result, error) { o := of; o.Nonce++; return a.PostOffer(ctx, o) },
		"evidence": func(ctx context.Context) (client.Result, error) {
			r := square.Receipt{Lease: lease, Seq: 1, Subject: of.Spec, Units: []uint64{1, 1}, Price: 1, Cumulative: 1, Time: time.Now().UnixMilli()}
			return a.Challenge(ctx, lease, square.Evidence{Receipt: r, Sig: th.key.Sign(r.Digest(p.ledger.Domain()))}, 0)
		},
	}
	for name, act := range acts {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := act(ctx); err == nil {
			done++
			t.Errorf("a stranger's %s is obeyed", name)
		}
		cancel()
	}
	if l, err := p.ledger.Lease(t.Context(), lease); err != nil || l.State != market.Active {
		t.Errorf("after a stranger's messages the lease is %s: %v", l.State, err)
	}
	p.after(outcome{actor: stranger, name: "every message about what is another's", note: fmt.Sprintf("%d of %d obeyed", done, len(acts))})
}

// TestTradeWithOneself: somebody is provider and buyer at once and pays itself, to
// draw what the ledger gives out or to pass as busy.
func TestTradeWithOneself(t *testing.T) {
	t.Parallel()
	p := open(t)
	seller, customer := p.thief(10*torgs), p.thief(10*torgs)
	if _, err := seller.acct.Bond(t.Context(), infer.Name, square.Utorg(2*torgs)); err != nil {
		t.Fatal(err)
	}
	of := p.offer(nano.Name)
	of.Provider, of.Nonce, of.Endpoint = seller.addr, 1, "http://127.0.0.1:1"
	if _, err := seller.acct.PostOffer(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	d := p.ledger.Domain()
	rounds := 0
	for range 3 {
		o := customer.order(of)
		q := square.Quote{Provider: seller.addr, Order: o.ID(d), Offer: of.ID(d), Spec: of.Spec, Rates: o.MaxRates, Bond: 2 * o.JobValue, Ready: true, Expiry: time.Now().Add(20 * time.Second).Unix()}
		rand.Read(q.Nonce[:])
		if _, err := customer.acct.OpenLease(t.Context(), o, q, seller.key.Sign(q.Digest(d))); err != nil {
			t.Fatal(err)
		}
		ch := o.Channel(d, seller.addr, 0).ID(p.ledger.ChannelDomain())
		v := square.SignVoucher(p.ledger.ChannelDomain(), ch, o.Escrow, customer.key)
		if _, err := seller.acct.Redeem(t.Context(), o.ID(d), []client.Claim{{Amount: o.Escrow, Voucher: v}}, false); err != nil {
			t.Fatal(err)
		}
		consent := &client.Consent{Paid: o.Escrow, Sig: seller.key.Sign(square.CloseDigest(d, o.ID(d), o.Escrow))}
		if _, err := customer.acct.Close(t.Context(), o.ID(d), consent); err != nil {
			t.Logf("close: %v", err)
		}
		rounds++
	}
	p.after(outcome{actor: provider, name: "trade with oneself", note: fmt.Sprintf("%d leases of 2 TORG paid in full", rounds)})
}

// TestProofInAFlood: a buyer under the policy prove challenges an honest answer and
// floods the ledger so that the proof finds no block before its deadline
// (money.md C1: slashed as unproven, attacker from 6 to 24 TORG).
func TestProofInAFlood(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	of := p.offer(nano.Name)
	f := th.flooder()
	gas := f.most(f.proof)
	o := th.order(of)
	prover, err := proof.Commit(nano.Model())
	if err != nil {
		t.Fatal(err)
	}
	o.Policy, o.MaxRates, o.Card = square.PolicyProve, infer.Terms(of, square.PolicyProve), sha256.Sum256(prover.Encode())
	s := th.must(o, of)
	if _, err := s.ask(0, question(20)); err != nil {
		t.Fatal(err)
	}
	params, err := p.ledger.Params(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Without -long the flood must hold the proof back for a minute to have
	// succeeded, with it for all the time that the provider has.
	most := time.Minute
	if *long {
		most = time.Duration(params.Answer) * time.Second
	}
	ln := s.lanes[0]
	e := square.Evidence{Receipt: ln.last.Receipt, Sig: ln.last.Sig, Request: ln.asked, Result: ln.last.Result}
	if _, err := th.acct.Challenge(t.Context(), s.id, e, 0); err != nil {
		t.Fatalf("a challenge that asks for a proof: %v", err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), most+patience)
	defer cancel()
	var floods sync.WaitGroup
	floods.Go(func() { f.keep(ctx, gas, f.proof, 600) })
	var l market.Lease
	for {
		if l, err = s.market(); err == nil && l.State != market.Disputed {
			break
		}
		if time.Since(began) > most {
			t.Errorf("%s after the challenge the provider's proof is in no block: %s", most, l.State)
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	cancel()
	floods.Wait()
	if l.State == market.Slashed {
		t.Errorf("an honest provider was slashed (%s)", l.Reason)
	}
	p.after(outcome{actor: buyer, name: "flood over the proof it asks for", note: fmt.Sprintf("%s after %s; flood: %v", l.State, took, f)})
}
