package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/history"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/judge"
)

// TestJudges is a ledger that holds no model, so that it decides nothing about
// inference by itself, and four stakers that hold one and are drawn. A liar is
// slashed although one judge is silent, which loses its places' bonds, and one is
// killed between its commitment and its vote; an honest provider is upheld by all
// who are left.
func TestJudges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := market.Default()
	p.Notice, p.Verdict = 1, 16
	n, err := devnet.Memory(ctx, devnet.Spec{
		Settings: ledgernode.Settings{BlockTime: 50 * time.Millisecond}, Trades: []trade.Rules{infer.Rules{}}, Market: &p,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	cl, err := client.New(ctx, n, client.Options{Trades: []trade.Rules{infer.Rules{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	told, err := history.Open(filepath.Join(t.TempDir(), "history.db"), cl)
	if err != nil {
		t.Fatal(err)
	}
	following, stop := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() { defer close(followed); _ = told.Run(following) }()
	t.Cleanup(func() { stop(); <-followed; told.Close() })
	must := func(_ client.Result, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	model := nano.Model()
	buying, selling := devnet.Key(1), devnet.Key(2)
	buyer, seller := cl.Account(buying), cl.Account(selling)
	offer := square.Offer{
		Provider: seller.Address(), Trade: infer.Name, Spec: model.Digest(), Subject: nano.Name, Denom: square.Denom, Rates: cheap,
		Capacity: 10, Endpoint: "http://localhost", Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	must(seller.Bond(ctx, infer.Name, square.Utorg(10*square.UnitsPerTorg)))
	must(seller.PostOffer(ctx, offer))
	stake := p.Seats / 4 * p.SeatBond // four such fill the bench, eight places each
	type life struct {
		*judge.Judge
		said *bytes.Buffer
		kill func()
	}
	keys, dirs := make([]square.Key, 4), make([]string, 4)
	sit := func(i int) life {
		var said bytes.Buffer
		j, err := judge.Open(judge.Config{
			Key: keys[i].Address(), ChainID: cl.ChainID(), Ledger: judgeView{chainView{cl, cl.Account(keys[i])}, told},
			Trades: trades(), Dir: dirs[i], Tick: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&said, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = j.Run(ctx) }()
		l := life{j, &said, sync.OnceFunc(func() { cancel(); <-done })}
		t.Cleanup(l.kill)
		return l
	}
	for i := range keys {
		keys[i], dirs[i] = devnet.Key(uint32(3+i)), t.TempDir()
		a := cl.Account(keys[i])
		must(a.Bond(ctx, infer.Name, square.Utorg(stake)))
		must(a.Enlist(ctx, infer.Name, square.Denom, true))
	}
	staked := func(i int) client.Stake {
		t.Helper()
		s, _, err := cl.Stakes(ctx, keys[i].Address(), infer.Name, client.Page{})
		if err != nil || len(s) != 1 {
			t.Fatalf("stakes %+v, %v", s, err)
		}
		return s[0]
	}

	// What the model says, and a lease in which it was sold.
	req := infer.Request{Kind: infer.Exact, Prompt: []byte("It is a truth"), MaxTokens: 8, TopP: 10_000}
	said, err := model.Generate(ctx, replay.Request(req), nil)
	if err != nil {
		t.Fatal(err)
	}
	sold := func(salt byte, change func(*infer.Result)) (square.Hash, square.Evidence) {
		t.Helper()
		d := cl.Domain()
		o := square.Order{
			Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: infer.Name, Mode: square.ModeStream, Spec: model.Digest(), Denom: square.Denom,
			Escrow: square.UnitsPerTorg, MaxRates: cheap, JobValue: 1000, Policy: square.PolicyAudit, Lanes: 1, Units: 1,
			Start: 20, Idle: 600, Duration: 3600, Challenge: 60, Drain: 2, Expiry: time.Now().Unix() + 30, Salt: square.Hash{salt},
		}
		q := square.Quote{
			Provider: seller.Address(), Order: o.ID(d), Offer: offer.ID(d), Spec: offer.Spec, Rates: cheap, Bond: 2 * square.UnitsPerTorg, Ready: true,
			Expiry: time.Now().Unix() + 20, Nonce: square.Hash{salt, 1},
		}
		must(buyer.OpenLease(ctx, o, q, selling.Sign(q.Digest(d))))
		res := infer.Result{Kind: infer.Exact, Finish: replay.Finish(said.Finish)}
		for _, x := range said.Tokens {
			res.Tokens = append(res.Tokens, uint16(x))
		}
		change(&res)
		r := square.Receipt{
			Lease: o.ID(d), Seq: 1, Subject: model.Digest(), Request: sha256.Sum256(req.Encode()), Result: sha256.Sum256(res.Encode()),
			Units: []uint64{replay.PromptTokens(req, uint64(model.Context())), uint64(len(res.Tokens))},
		}
		if r.Price, err = square.Price(cheap, r.Units); err != nil {
			t.Fatal(err)
		}
		r.Cumulative = r.Price
		return r.Lease, square.Evidence{Receipt: r, Sig: selling.Sign(r.Digest(d)), Request: req.Encode(), Result: res.Encode()}
	}
	lease := func(id square.Hash) market.Lease {
		t.Helper()
		l, err := cl.Lease(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	report := func(l life, sat int) judge.Report {
		t.Helper()
		await(t, "a judge's report", func() error {
			if r := l.Report(); r.Sat < sat {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		return l.Report()
	}

	// A liar; the fourth judge is not there.
	sits := []life{sit(0), sit(1), sit(2)}
	id, e := sold(1, func(r *infer.Result) { r.Tokens[3] ^= 1 })
	must(buyer.Challenge(ctx, id, e, 0))
	if l := lease(id); l.State != market.Disputed || l.Dispute.Way != market.ByJudges {
		t.Fatalf("the ledger decided by itself: %s (%s)", l.State, l.Reason)
	}
	ballot := func() (b square.Hash) {
		if d := lease(id).Dispute; d != nil {
			for _, s := range d.Seats {
				if s.Judge == keys[0].Address() {
					b = s.Ballot
				}
			}
		}
		return b
	}
	await(t, "a ballot", func() error {
		if ballot().IsZero() {
			return errors.New("none")
		}
		return nil
	})
	sits[0].kill()
	if l := lease(id); l.State != market.Disputed || len(l.Dispute.Seats) != int(p.Seats) {
		t.Fatalf("of %d places: %s", len(l.Dispute.Seats), l.State)
	}
	before := ballot()
	sits[0] = sit(0)
	await(t, "the verdict", func() error {
		if l := lease(id); l.State != market.Slashed || l.Reason != market.ReasonFraud {
			return fmt.Errorf("%s (%s)", l.State, l.Reason)
		}
		return nil
	})
	if ballot() != before {
		t.Error("another ballot after the restart")
	}
	for i, l := range sits {
		if r := report(l, 1); r.Earned != p.Seats/4*p.JudgeFee || r.Lost != 0 || r.Past[0].Stage != judge.Voted || r.Past[0].Verdict != square.VerdictFraud {
			t.Errorf("judge %d reports %+v", i, r)
		}
		if s := staked(i); s.Total != stake || s.Locked != 0 {
			t.Errorf("judge %d: %+v", i, s)
		}
	}
	if s := staked(3); s.Total != 0 || s.Locked != 0 {
		t.Errorf("the silent judge: %+v", s)
	}

	// An honest provider, and three judges that must all agree.
	id, e = sold(2, func(*infer.Result) {})
	must(buyer.Challenge(ctx, id, e, 0))
	await(t, "the verdict", func() error {
		if l := lease(id); l.State != market.Active || l.Heard != 1 {
			return fmt.Errorf("%s (%s)", l.State, l.Reason)
		}
		return nil
	})
	for i, l := range sits {
		if r := report(l, 2); r.Lost != 0 || r.Past[0].Outcome != string(market.EvUpheld) || r.Past[0].Earned == 0 {
			t.Errorf("judge %d reports %+v", i, r)
		}
		if l.kill(); strings.Contains(l.said.String(), "level=ERROR") {
			t.Errorf("judge %d says %s", i, l.said)
		}
	}
	sup, err := cl.Supply(ctx, square.Denom)
	if err != nil || !sup.Balanced {
		t.Errorf("the pots do not sum: %+v, %v", sup, err)
	}
}
