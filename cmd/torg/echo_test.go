package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/tradetest/echo"
	"github.com/torg-network/torg/trade/wire"
)

// fibber is an echo that can be told to say something else.
type fibber struct {
	echo.Worker
	lies atomic.Bool
}

func (l *fibber) Work(ctx context.Context, m market.Lease, job []byte) (seller.Delivery, error) {
	d, err := l.Worker.Work(ctx, m, job)
	if l.lies.Load() {
		d.Result = bytes.Repeat([]byte("X"), len(job))
	}
	return d, err
}

// TestEchoOnLedger is the example trade on the embedded ledger, between a real seller and
// a real desk: a result is paid; one that is not handed over is had over the ledger; a
// wrong one is done again by the buyer and by the ledger, and costs its seller bond.
func TestEchoOnLedger(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := market.Default()
	p.Notice, p.DisputeCost, p.JudgeFee = 1, 50, 0
	rules := []trade.Rules{echo.Rules{}}
	n, err := devnet.Memory(ctx, devnet.Spec{Settings: ledgernode.Settings{BlockTime: 50 * time.Millisecond}, Trades: rules, Market: &p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	cl, err := client.New(ctx, n, client.Options{Trades: rules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	buying, selling := devnet.Key(1), devnet.Key(2)
	const stake = 10 * square.UnitsPerTorg
	if _, err := cl.Account(selling).Bond(ctx, "echo", square.Utorg(stake)); err != nil {
		t.Fatal(err)
	}
	open := func(name string, buckets []string) *journal.Journal {
		store, err := journal.Open(filepath.Join(t.TempDir(), name), buckets...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	}
	run := func(f func(context.Context) error) {
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = f(ctx) })
		t.Cleanup(func() { stop(); running.Wait() })
	}

	web := httptest.NewUnstartedServer(nil)
	t.Cleanup(web.Close)
	work := &fibber{Worker: echo.Worker{Rate: 10_000_000, Places: 8}}
	s, err := seller.New(ctx, seller.Config{
		Key: selling, ChainID: cl.ChainID(), Ledger: providerView{chainView{cl, cl.Account(selling)}}, Store: open("seller.db", seller.Buckets),
		Endpoint: "http://" + web.Listener.Addr().String(), Trades: []seller.Trade{work}, BondTimes: 1, Tick: 20 * time.Millisecond, Terms: seller.Terms{Notice: 6 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	var mute atomic.Bool // results are not handed over on the wire
	inside := s.Handler()
	web.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mute.Load() && r.URL.Path == wire.PathPrefix+"result" {
			_, _ = io.WriteString(w, `{"busy":true}`)
			return
		}
		inside.ServeHTTP(w, r)
	})
	web.Start()
	if err := s.PostOffers(ctx); err != nil {
		t.Fatal(err)
	}
	run(s.Run)
	d, err := desk.New(desk.Config{
		Key: devnet.Key(3), Owner: buying, ChainID: cl.ChainID(), Ledger: buyerView{chainView{cl, cl.Account(buying)}}, Store: open("desk.db", desk.Buckets),
		Trades: []desk.Trade{echo.Buyer{}}, Challenge: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(d.Run)
	t.Cleanup(d.Close)

	buy := func(job string) (desk.Job, market.Lease) {
		t.Helper()
		j, err := d.Order(ctx, square.Order{
			Trade: "echo", Spec: echo.Spec, MaxRates: []square.Rate{{Unit: "bytes", PerMillion: 10_000_000}}, Policy: square.PolicyAudit,
		}, []byte(job))
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the end of an order", func() error {
			if j, err = d.Job(j.ID); err == nil && !j.Over {
				err = fmt.Errorf("%s: %s", j.State, j.Note)
			}
			return err
		})
		m, err := cl.Lease(ctx, j.ID)
		if err != nil {
			t.Fatal(err)
		}
		return j, m
	}
	said := func(j desk.Job, want string) {
		t.Helper()
		r, err := d.Receipt(ctx, j.Receipt)
		if err != nil || string(r.Evidence.Result) != want || r.Metered("bytes") != uint64(len(want)) {
			t.Errorf("the result is %q, %v", r.Evidence.Result, err)
		}
	}

	j, m := buy("is anybody there?")
	if said(j, "IS ANYBODY THERE?"); m.State != market.Settled || m.Reason != market.ReasonAccepted || m.Paid != 170 || m.Asked {
		t.Errorf("it ended %s (%s), paid %d", m.State, m.Reason, m.Paid)
	}
	mute.Store(true)
	j, m = buy("say it to the ledger")
	if said(j, "SAY IT TO THE LEDGER"); m.State != market.Settled || m.Reason != market.ReasonAccepted || m.Paid != 200 || !m.Asked {
		t.Errorf("withheld, it ended %s (%s), paid %d, asked %v", m.State, m.Reason, m.Paid, m.Asked)
	}
	mute.Store(false)
	work.lies.Store(true)
	for n := 0; ; n++ { // each is done again with 5/8
		if j, m = buy(fmt.Sprintf("the truth, %d", n)); m.State == market.Slashed {
			break
		}
		if n == 40 {
			t.Fatal("no lie was found out")
		}
	}
	if m.Reason != market.ReasonFraud || m.Paid != 0 || j.Wrong == "" {
		t.Errorf("a lie ended %s (%s), paid %d: %+v", m.State, m.Reason, m.Paid, j)
	}
	stakes, _, err := cl.Stakes(ctx, selling.Address(), "echo", client.Page{})
	if err != nil || len(stakes) != 1 || stakes[0].Total >= stake || stakes[0].Locked != 0 {
		t.Errorf("after a lie the stake is %+v, %v", stakes, err)
	}
	if _, err := d.Order(ctx, j.Order, []byte("again")); !errors.Is(err, desk.ErrNoProvider) {
		t.Errorf("the liar was asked again: %v", err)
	}
	if sup, err := cl.Supply(ctx, square.Denom); err != nil || !sup.Balanced {
		t.Errorf("the pots do not sum: %+v, %v", sup, err)
	}
}
