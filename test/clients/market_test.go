package clients_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/seller"
)

// counted counts the requests that an engine works on.
type counted struct {
	provider.Prover
	running *atomic.Int64
}

func (e counted) Run(ctx context.Context, j provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	e.running.Add(1)
	defer e.running.Add(-1)
	return e.Prover.Run(ctx, j, emit)
}

// TestMarket runs the npm client against everything but the consensus: the
// gateway, the real desk, a real provider over HTTP with the bundled exact
// model and an OpenAI-compatible server (another gateway) behind it, leases and
// vouchers on the lease machine in memory.
func TestMarket(t *testing.T) {
	rates := []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 100_000}, {Unit: infer.UnitCompletion, PerMillion: 400_000}}
	proven := []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 4_000_000}}
	model := replay.Model{Model: nano.Model()}
	ledger := infertest.NewLedger(model)
	prover, err := proof.Commit(nano.Model())
	if err != nil {
		t.Fatal(err)
	}
	ledger.Cards[nano.Model().Digest()] = prover.Encode()

	// The provider.
	own := newKey(t)
	ledger.Fund(own.Address(), 1_000_000_000)
	if err := ledger.Bond(own.Address(), infer.Name, 900_000_000); err != nil {
		t.Fatal(err)
	}
	behind := start(t)
	up := provider.Upstream{Base: strings.TrimSuffix(behind["TORG_BASE_URL"], "/v1"), APIKey: behind["TORG_API_KEY"]}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	disk, err := journal.Open(filepath.Join(t.TempDir(), "provider.db"), seller.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	var running atomic.Int64
	upstream := behind["TORG_UPSTREAM"]
	p, err := seller.New(t.Context(), seller.Config{
		Key: own, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: ledger, Self: own.Address()}, Store: disk,
		Endpoint: "http://" + ln.Addr().String(), Tick: 20 * time.Millisecond,
		Trades: []seller.Trade{provider.New(provider.Config{Services: []provider.Service{
			{Engine: counted{provider.Exact(nano.Model()).(provider.Prover), &running}, Price: provider.Price{Rates: rates, Proven: proven, Denom: square.Denom, Capacity: 8}},
			{Engine: up.Engine(provider.Model{Name: upstream, Subject: infer.Subject(upstream)}), Price: provider.Price{Rates: rates, Denom: square.Denom, Capacity: 8}},
		}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var chores sync.WaitGroup
	chores.Go(func() { _ = p.Run(ctx) })
	server := &http.Server{Handler: p.Handler()}
	chores.Go(func() { _ = server.Serve(ln) })

	// The buyer.
	owner, authorizer := newKey(t), newKey(t)
	ledger.Fund(owner.Address(), 1_000_000_000)
	books, err := journal.Open(filepath.Join(t.TempDir(), "buyer.db"), desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	account := fake.Account{Ledger: ledger, Self: owner.Address()}
	inference := buyer.NewTrade([]infer.Replayer{model}, account.Card)
	buying, err := desk.New(desk.Config{
		Key: authorizer, Owner: owner, ChainID: fake.ChainID, Ledger: account,
		Store: books, Escrow: 100_000_000, JobValue: 10_000_000, Trades: []desk.Trade{inference},
	})
	if err != nil {
		t.Fatal(err)
	}
	asks, err := buyer.New(buyer.Config{Desk: buying, Trade: inference})
	if err != nil {
		t.Fatal(err)
	}
	chores.Go(func() { _ = buying.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		server.Close()
		chores.Wait()
		buying.Close()
		end, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		_ = p.Close(end)
		for _, j := range []*journal.Journal{books, disk} {
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
		if !ledger.Conserved() {
			t.Error("money was made or lost")
		}
	})

	env := serve(t, asks, func() any { return map[string]int64{"running": running.Load()} })
	env["TORG_MODEL"], env["TORG_SLOW"], env["TORG_UPSTREAM"] = nano.Name, nano.Name, upstream
	scenarios(t, env)

	// Every receipt of the exact model says what the model says.
	records, _, err := buying.Receipts(t.Context(), desk.Filter{}, time.Time{}, 100)
	if err != nil || len(records) < 30 {
		t.Fatalf("%d receipts, %v", len(records), err)
	}
	audited := 0
	for _, r := range records {
		if r.Subject != nano.Name {
			continue
		}
		found, err := buying.Audit(t.Context(), r.ID)
		if err != nil || found != desk.AuditEqual && found != desk.AuditProven {
			t.Errorf("receipt %s: %s %v", r.ID.Short(), found, err)
		}
		audited++
	}
	t.Logf("%d receipts re-executed", audited)
}

func newKey(t *testing.T) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
