package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
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
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
)

var price = provider.Price{Denom: square.Denom, Rates: []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 2_000_000}}, Capacity: 8}

func key(t *testing.T) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestNode sells the bundled model and an upstream server's, streams the
// latter, stops in order, and comes back on its disk.
func TestNode(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			io.WriteString(w, `{"data":[{"id":"big"},{"id":"hidden"}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range []string{
			`{"choices":[{"delta":{"content":"Good "}}]}`, `{"choices":[{"delta":{"content":"day"},"finish_reason":"stop"}]}`,
			`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}`, `[DONE]`,
		} {
			io.WriteString(w, "data: "+e+"\n\n")
		}
	}))
	defer upstream.Close()

	l := infertest.NewLedger()
	k, owner := key(t), key(t)
	l.Fund(k.Address(), 1e9)
	l.Fund(owner.Address(), 1e9)
	if err := l.Bond(k.Address(), infer.Name, 9e8); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Key: k, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: k.Address()}, Dir: t.TempDir(), Listen: "127.0.0.1:0",
		Trades: []seller.Trade{provider.New(provider.Config{
			Services: []provider.Service{{Engine: provider.Exact(nano.Model()), Price: price}},
			Servers:  []provider.Server{{Upstream: provider.Upstream{Base: upstream.URL}, Price: price, Only: []string{"big"}}},
		})},
	}
	start := func() (*Node, func()) {
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		return n, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("node ended with %v", err)
			}
		}
	}
	n, stop := start()
	cfg.Listen = strings.TrimPrefix(n.Endpoint(), "http://")

	j, err := journal.Open(filepath.Join(t.TempDir(), "b.db"), desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	account := fake.Account{Ledger: l, Self: owner.Address()}
	inference := buyer.NewTrade(nil, account.Card)
	buying, err := desk.New(desk.Config{
		Key: owner, ChainID: fake.ChainID, Ledger: account, Store: j, Trades: []desk.Trade{inference}, Lanes: 2, Escrow: 1_000_000, JobValue: 50_000, Refresh: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer buying.Close()
	d, err := buyer.New(buyer.Config{Desk: buying, Trade: inference})
	if err != nil {
		t.Fatal(err)
	}
	var models []buyer.Model
	for end := time.Now().Add(time.Minute); len(models) < 2 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		d.Models(t.Context())
		if models, err = d.Models(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(models) != 2 || models[0].ID != "big" && models[1].ID != "big" {
		t.Fatalf("models: %+v", models)
	}
	exactAsk := buyer.Ask{Model: nano.Model().Name(), Request: infer.Request{Kind: infer.Exact, MaxTokens: 5, TopP: 10000, Prompt: []byte("It is a truth")}}
	first, err := d.Do(t.Context(), exactAsk, nil)
	if err != nil {
		t.Fatal(err)
	}
	var raws int
	var said string
	chat := infer.Request{Kind: infer.Opaque, Prompt: []byte(`{"messages":[{"role":"user","content":"greet"}],"max_tokens":9}`)}
	second, err := d.Do(t.Context(), buyer.Ask{Model: "big", Request: chat, Stream: true}, func(p infer.Delta) error {
		if !json.Valid(p.Raw) {
			t.Errorf("raw event %q", p.Raw)
		}
		raws++
		said += p.Text
		return nil
	})
	if err != nil || said != "Good day" || raws != 3 || second.Cost.Units != 7+2*2 || string(second.Result.Text) != "Good day" {
		t.Fatalf("streamed %q in %d events for %v, %v", said, raws, second.Cost, err)
	}
	if res, err := http.Get(n.Endpoint() + "/healthz"); err != nil || res.StatusCode != 200 {
		t.Errorf("health: %v %v", res, err)
	}

	stop()
	var paid uint64
	for _, x := range l.Leases() {
		paid += x.Paid
	}
	if paid != first.Cost.Units+second.Cost.Units {
		t.Errorf("when the node had stopped %d was redeemed of %d", paid, first.Cost.Units+second.Cost.Units)
	}
	n, stop = start()
	again, err := d.Do(t.Context(), exactAsk, nil)
	if err != nil || again.Lease != first.Lease || again.Signed.Receipt.Seq+uint64(again.Signed.Receipt.Lane) < 1 {
		t.Errorf("after a restart: lease %v, was %v, %v", again.Lease.Short(), first.Lease.Short(), err)
	}
	if err := buying.CloseAll(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	_ = n
}

// TestTaken: a port or a disk that is taken is said so, and nothing is left
// open.
func TestTaken(t *testing.T) {
	l := infertest.NewLedger()
	k := key(t)
	cfg := Config{Key: k, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: k.Address()}, Dir: t.TempDir(), Listen: "127.0.0.1:0",
		Trades: []seller.Trade{provider.New(provider.Config{Services: []provider.Service{{Engine: infertest.Toy{Name: "toy"}, Price: price}}})}}
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	busy := cfg
	busy.Listen, busy.Dir = strings.TrimPrefix(n.Endpoint(), "http://"), t.TempDir()
	if _, err := Open(t.Context(), busy); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("a port that is taken: %v", err)
	}
	if _, err := Open(t.Context(), cfg); err == nil {
		t.Error("a disk that is taken was opened")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, err = Open(t.Context(), busy); err != nil {
		t.Fatalf("after the first was stopped: %v", err)
	}
	if err := n.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	for in, want := range map[string]uint64{
		"MemTotal:       16 kB\nMemFree: 1 kB\n": 16 << 10, "": 0, "MemTotal: x kB": 0, "Other: 1\nMemTotal: 2 kB": 2 << 10,
	} {
		if got := memory(strings.NewReader(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	if Hardware().Cores < 1 || len(Hardware().Attributes()) < 2 {
		t.Errorf("this machine: %+v", Hardware())
	}
}
