package attacks

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/wire"
)

// TestJudgeNobodyDrew: somebody stakes, enlists as a judge and votes wherever there
// is a lease: on one that nobody disputes, and on one whose provider is to prove its
// answer, before it has.
func TestJudgeNobodyDrew(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(30 * torgs)
	ctx := t.Context()
	if _, err := th.acct.Bond(ctx, infer.Name, square.Utorg(10*torgs)); err != nil {
		t.Fatal(err)
	}
	if _, err := th.acct.Enlist(ctx, infer.Name, square.Denom, true); err != nil {
		t.Fatalf("enlist: %v", err)
	}
	// Both sides are the thief's, but for the provider.
	of := p.offer(nano.Name)
	prover, err := proof.Commit(nano.Model())
	if err != nil {
		t.Fatal(err)
	}
	o := th.order(of)
	o.Policy, o.MaxRates, o.Card = square.PolicyProve, infer.Terms(of, square.PolicyProve), sha256.Sum256(prover.Encode())
	s := th.must(o, of)
	if _, err := s.ask(0, question(20)); err != nil {
		t.Fatal(err)
	}
	secret := square.Hash{7}
	vote := func(lease square.Hash) (done int) {
		if _, err := th.acct.Commit(ctx, lease, sha256.Sum256(secret[:])); err == nil {
			t.Errorf("a judge that nobody drew has committed on lease %s", lease.Short())
			done++
		}
		if _, err := th.acct.Vote(ctx, lease, square.VerdictFraud, secret); err == nil {
			t.Errorf("a judge that nobody drew has voted on lease %s", lease.Short())
			done++
		}
		return done
	}
	heard := 0
	ls, _, err := p.ledger.Leases(ctx, client.LeaseFilter{Buyer: p.Wallet, State: market.Active}, client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ls {
		heard += vote(l.ID)
	}
	ln := s.lanes[0]
	e := square.Evidence{Receipt: ln.last.Receipt, Sig: ln.last.Sig, Request: ln.asked, Result: ln.last.Result}
	if _, err := th.acct.Challenge(ctx, s.id, e, 0); err != nil {
		t.Fatal(err)
	}
	heard += vote(s.id)
	var l market.Lease
	p.awaitFor(3*patience, "the proof", func() error {
		if l, err = s.market(); err == nil && l.State == market.Disputed {
			err = fmt.Errorf("it is %s until %s", l.State, time.Unix(l.Deadline, 0))
		}
		return err
	})
	if l.State == market.Slashed {
		t.Errorf("an honest provider was slashed (%s)", l.Reason)
	}
	p.after(outcome{actor: judge, name: "votes without being drawn", note: fmt.Sprintf("%d of %d heard; the challenged lease is %s", heard, 2*len(ls)+2, l.State)})
}

// TestTopUpThatFails: a buyer pays with a voucher above the escrow while it tops the
// lease up with money that it has not got.
func TestTopUpThatFails(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(3 * torgs)
	of := p.offer(nano.Name)
	s := th.must(th.order(of), of)
	if _, err := s.ask(0, question(50)); err != nil {
		t.Fatal(err)
	}
	ln := s.lanes[0]
	above := square.SignVoucher(p.ledger.ChannelDomain(), ln.channel, s.order.Escrow+10_000, th.key)
	served := 0
	topped := make(chan error, 1)
	go func() {
		_, err := th.acct.TopUp(t.Context(), s.id, 100*torgs)
		topped <- err
	}()
	for range 20 {
		if _, err := s.serve(infer.ServeRequest{Payment: wire.Payment{Lease: s.id, Lane: 0, Seq: ln.seq + 1, Voucher: above}, Request: question(300).Encode()}); err == nil {
			served++
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := <-topped; err == nil {
		t.Error("the thief topped its lease up with money that it has not got")
	}
	if served > 0 {
		t.Errorf("%d requests were served for a voucher above the escrow", served)
	}
	p.after(outcome{actor: buyer, name: "a top-up that fails", note: fmt.Sprintf("%d of 20 served", served)})
}
