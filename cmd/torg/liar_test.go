package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/seller"
)

// liar answers one request of twenty with something the model did not say, and
// signs for it. All else about it is as it should be.
type liar struct {
	provider.Engine
	asked, lies atomic.Int64
}

func (l *liar) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	if l.asked.Add(1)%20 != 0 || job.Request.Kind != infer.Exact {
		return l.Engine.Run(ctx, job, emit)
	}
	out, err := l.Engine.Run(ctx, job, func(infer.Delta) error { return nil })
	if err != nil || len(out.Result.Tokens) == 0 {
		return out, err
	}
	l.lies.Add(1)
	out.Result.Tokens[0] ^= 1
	text := replay.Model{Model: nano.Model()}.Text(job.Request, out.Result)
	return out, emit(infer.Delta{Text: text, Tokens: len(out.Result.Tokens)})
}

// rival is a provider beside the square's own, on the same ledger, with money
// and a bond of its own.
type rival struct {
	key  square.Key
	node *node.Node
	stop func()
}

const (
	sellerFunds = 300 * square.UnitsPerTorg
	sellerStake = 100 * square.UnitsPerTorg
)

// fund gives a new account money, of which it bonds a part in the trade.
func (s *upSquare) fund() (square.Key, *client.Account) {
	s.t.Helper()
	key, err := square.NewKey()
	if err != nil {
		s.t.Fatal(err)
	}
	s.torg("wallet", "send", key.Address().String(), fmt.Sprint(sellerFunds/square.UnitsPerTorg)).want(s.t, exitOK)
	account := s.ledger().Account(key)
	if _, err := account.Bond(s.t.Context(), infer.Name, square.Utorg(sellerStake)); err != nil {
		s.t.Fatal(err)
	}
	return key, account
}

// cheap is a tenth of what the square's own provider asks.
var cheap = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 10_000}, {Unit: infer.UnitCompletion, PerMillion: 100_000}}

func (s *upSquare) sell(e provider.Engine) *rival {
	s.t.Helper()
	key, _ := s.fund()
	cl := s.ledger()
	n, err := node.Open(s.t.Context(), node.Config{
		Key: key, ChainID: s.ChainID, Ledger: providerView{chainView{cl, cl.Account(key)}}, Dir: s.t.TempDir(), Listen: "127.0.0.1:0",
		Trades: []seller.Trade{provider.New(provider.Config{Services: []provider.Service{{Engine: e, Price: provider.Price{Rates: cheap, Proven: cheap, Denom: square.Denom, Capacity: 16}}}})},
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = n.Run(ctx) }()
	out := &rival{key: key, node: n, stop: sync.OnceFunc(func() { cancel(); <-ended })}
	s.t.Cleanup(out.stop)
	return out
}

// wealth is all that the rival owns: what it holds and what it staked.
func (s *upSquare) wealth(v *rival) uint64 {
	s.t.Helper()
	cl := s.ledger()
	b, err := cl.Balance(s.t.Context(), v.key.Address(), square.Denom)
	if err != nil {
		s.t.Fatal(err)
	}
	stakes, _, err := cl.Stakes(s.t.Context(), v.key.Address(), infer.Name, client.Page{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, st := range stakes {
		b.Units += st.Total
	}
	return b.Units
}

// TestLiarLosesMoney: a provider that undercuts everybody and lies in a
// twentieth of its answers is drawn for audit, challenged, found guilty by the
// ledger's own re-execution, and poorer than before it lied; the gateway asks
// it no more.
func TestLiarLosesMoney(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	l := &liar{Engine: provider.Exact(nano.Model())}
	v := s.sell(l)
	await(t, "the first answer of the cheaper provider", func() error {
		if a := s.paid(hello(2)); a.Provider != v.key.Address().String() {
			return fmt.Errorf("%s answered", a.Provider)
		}
		return nil
	})
	before := s.wealth(v)
	if before > sellerFunds {
		t.Fatalf("the liar began with %d and owns %d", sellerFunds, before)
	}

	// Buyers go on asking until it is caught. At the audit law's 6 % a lie,
	// four hundred lies go unseen once in 10^10 runs.
	const most = 8000
	cl := s.ledger()
	var caught market.Lease
	var asked atomic.Int64
	ctx, found := context.WithCancel(t.Context())
	defer found()
	var buyers sync.WaitGroup
	for range 4 {
		buyers.Go(func() {
			for ctx.Err() == nil && asked.Add(1) <= most {
				if a, err := askAt(context.Background(), s.BaseURL, s.APIKey, hello(4)); err != nil || a.status != http.StatusOK {
					t.Errorf("while a liar is about a request got %v %v", err, a)
					return
				}
			}
		})
	}
	buyers.Go(func() {
		defer found()
		await(t, "the slashing", func() error {
			ls, _, err := cl.Leases(t.Context(), client.LeaseFilter{Provider: v.key.Address(), State: market.Slashed}, client.Page{})
			if err == nil && len(ls) == 0 {
				err = fmt.Errorf("after %d requests and %d lies none of its leases is slashed", asked.Load(), l.lies.Load())
			} else if err == nil {
				caught = ls[0].Lease
			}
			return err
		})
	})
	buyers.Wait()
	if t.Failed() {
		return
	}
	if caught.Reason != market.ReasonFraud || caught.Bond != 0 || caught.Escrow != 0 {
		t.Errorf("the lease ended %s (%s), bond %d, escrow %d", caught.State, caught.Reason, caught.Bond, caught.Escrow)
	}

	// Nobody asks it again: its lane may be in use at the slashing, its desk
	// knows of it a moment before.
	servedThen := l.asked.Load()
	for range 30 {
		if a := s.paid(hello(2)); a.Provider != s.Provider {
			t.Fatalf("after the slashing %s answers", a.Provider)
		}
	}
	if now := l.asked.Load(); now != servedThen {
		t.Errorf("the liar was asked %d times more", now-servedThen)
	}

	// The command line tells it.
	slashed := 0
	judge := infer.Rules{Models: replayers()}
	for _, r := range s.receipts() {
		if r.Receipt.Provider != v.key.Address() || r.Receipt.Audited == "" {
			continue
		}
		var full story
		s.torg("receipt", "show", r.Receipt.ID.String(), "-o", "json").read(t, &full)
		verdict, err := judge.Judge(trade.Case{Evidence: *full.Receipt.Evidence, Lease: market.Lease{Order: square.Order{Spec: full.Receipt.Evidence.Receipt.Subject}}})
		if err != nil {
			t.Fatal(err)
		}
		if verdict == square.VerdictOK {
			if full.Receipt.Audited != "equal" {
				t.Errorf("an honest answer's audit says %q", full.Receipt.Audited)
			}
			continue
		}
		if !strings.Contains(full.Receipt.Audited, "slashed") {
			t.Errorf("a wrong answer's receipt says %q of its audit, and its provider was slashed", full.Receipt.Audited)
		}
		if full.Receipt.Audited != "slashed" {
			continue // another lie found in the same lease
		}
		slashed++
		s.torg("audit", r.Receipt.ID.String()).want(t, exitVerify, "not what its receipt claims")
		if shown := s.torg("receipt", "show", r.Receipt.ID.String()).want(t, exitOK); !strings.Contains(shown.out, "slashed") {
			t.Errorf("the story of the lie does not end with the slashing: %v", shown)
		}
		file := filepath.Join(t.TempDir(), "evidence.json")
		damage(t, file, s.torg("receipt", "show", r.Receipt.ID.String(), "-o", "json").out)
		run(t, "audit", "--file", file, "--home", t.TempDir()).want(t, exitVerify) // by anyone, without a square
		if _, err := cl.Evidence(t.Context(), caught.ID, full.Receipt.Evidence.Hash(cl.Domain())); err != nil {
			t.Errorf("the ledger slashed without keeping the evidence: %v", err)
		}
	}
	if slashed != 1 {
		t.Errorf("%d receipts say that they slashed the provider, want the one", slashed)
	}
	if shown := s.torg("lease", "show", caught.ID.String()).want(t, exitOK); !strings.Contains(shown.out, "fraud") || !strings.Contains(shown.out, "brought evidence") {
		t.Errorf("the lease's story leaves the fraud out: %v", shown)
	}

	v.stop() // it redeems what it still can
	earned := uint64(v.node.Provider.Stats().Charged)
	after := s.wealth(v)
	if after >= before {
		t.Errorf("lying paid: it owned %d, and owns %d after charging %d", before, after, earned)
	}
	s.conserved(v.key.Address())
	t.Logf("caught after %d requests and %d lies; it charged %s and lost %s", l.asked.Load(), l.lies.Load(), square.Utorg(earned), square.Utorg(before-after))
	s.stop()
}
