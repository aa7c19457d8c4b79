package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

func (b *bench) offered() int {
	b.t.Helper()
	offers, err := fake.Account{Ledger: b.l, Self: b.p.Address()}.Offers(b.t.Context(), infer.Name)
	if err != nil {
		b.t.Fatal(err)
	}
	return len(offers)
}

// TestPause: a paused provider takes no lease and no request, withdraws its
// offers, keeps so after a restart, and pays what it owes; resumed, it sells on.
func TestPause(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	b.open(1000)
	req := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 1, Voucher: b.voucher(0, 20)}, Request: request("0123456789", 4)}
	_, body := b.post("infer/serve", req)
	first := receipt(t, body)
	if why := b.p.Report().Why; why != seller.WhyUnredeemed {
		t.Errorf("the last hour paid what it paid because of %q", why)
	}
	offer := b.p.Offers().Offers[0].ID(domain)
	stop := b.chores()
	if err := b.p.SetControl(seller.Control{Paused: true}); err != nil {
		t.Fatal(err)
	}
	next := infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: 2, Voucher: b.voucher(0, 40)}, Request: request("0123456789", 4)}
	status, body := b.post("infer/serve", next)
	refusal(t, status, body, wire.CodePaused)
	order := b.order
	order.Salt[0] ^= 1
	status, body = b.post("quote", wire.QuoteRequest{Order: order, Offer: offer})
	refusal(t, status, body, wire.CodePaused)
	// What was answered before is shown again, and is redeemed.
	if _, body := b.post("infer/serve", req); receipt(t, body).Sig != first.Sig {
		t.Error("a paused provider does not show what it answered")
	}
	wait(t, "the offer to be withdrawn", func() bool { return b.offered() == 0 })
	stop()
	b.server.Close()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}

	b.cfg.RedeemEvery = time.Millisecond
	b.start() // posts offers where it may
	if !b.p.Control().Paused || b.offered() != 0 {
		t.Fatalf("after a restart control is %+v, and %d offers stand", b.p.Control(), b.offered())
	}
	status, body = b.post("infer/serve", next)
	refusal(t, status, body, wire.CodePaused)
	r := b.p.Report()
	if r.Refused.Time == 0 || r.Hour.Charged != 20 || len(r.Selling) != 1 || !r.Selling[0].ID.IsZero() {
		t.Errorf("the report after a restart: %+v", r)
	}
	stop = b.chores()
	wait(t, "redemption", func() bool { return b.p.Owed() == 0 })
	if err := b.p.SetControl(seller.Control{}); err != nil {
		t.Fatal(err)
	}
	wait(t, "an offer", func() bool { return b.offered() == 1 })
	status, body = b.post("infer/serve", next)
	if status != http.StatusOK || receipt(t, body).Receipt.Seq != 2 {
		t.Errorf("resumed: %d %s", status, body)
	}
	if why := b.p.Report().Why; why != seller.WhyEarned {
		t.Errorf("the last hour paid what it paid because of %q", why)
	}
	stop()
}

// withdrawals counts how often the ledger is asked for one.
type withdrawals struct {
	seller.Ledger
	asked atomic.Int64
}

func (w *withdrawals) WithdrawOffer(ctx context.Context, trade string, spec square.Hash) error {
	w.asked.Add(1)
	return w.Ledger.WithdrawOffer(ctx, trade, spec)
}

// A ledger that cannot withdraw yet is asked again, until it has.
func TestPauseWithoutLedger(t *testing.T) {
	var w withdrawals
	b := newBench(t, infertest.Toy{Name: "toy"}, func(c *config) { w.Ledger, c.Ledger = c.Ledger, &w })
	b.l.Refuse(errors.New("the ledger is not in the mood"))
	b.chores()
	if err := b.p.SetControl(seller.Control{Paused: true}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // a few ticks
	if b.offered() != 1 {
		t.Error("an offer was withdrawn from a ledger that refuses")
	}
	b.l.Refuse(nil)
	wait(t, "the offer to be withdrawn", func() bool { return b.offered() == 0 })
	asked := w.asked.Load()
	time.Sleep(50 * time.Millisecond)
	if n := w.asked.Load() - asked; n != 0 {
		t.Errorf("an offer that is gone was withdrawn %d times more: each is a transaction", n)
	}
}

// TestMostLanes: so many requests at once, and no more.
func TestMostLanes(t *testing.T) {
	toy := infertest.Toy{Name: "toy", Pace: 50 * time.Millisecond}
	b := newBench(t, toy, nil)
	b.open(1000)
	if err := b.p.SetControl(seller.Control{Lanes: 1}); err != nil {
		t.Fatal(err)
	}
	ask := func(lane uint16) infer.ServeRequest {
		return infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Lane: lane, Seq: 1, Voucher: b.voucher(lane, 40)}, Request: request("0123456789", 4)}
	}
	done := make(chan int, 1)
	go func() {
		status, _ := b.post("infer/serve", ask(0))
		done <- status
	}()
	wait(t, "work", func() bool { return b.p.Report().Working == 1 })
	status, body := b.post("infer/serve", ask(1))
	refusal(t, status, body, wire.CodeBusy)
	if err := b.p.SetControl(seller.Control{Paused: true, Lanes: 1}); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != http.StatusOK { // what runs ends
		t.Errorf("status %d of what ran when the provider paused", status)
	}
	if err := b.p.SetControl(seller.Control{Lanes: 2}); err != nil {
		t.Fatal(err)
	}
	if status, body := b.post("infer/serve", ask(1)); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if n := b.p.Report().Working; n != 0 {
		t.Errorf("%d requests run after the last", n)
	}
	for _, n := range []int{-1, square.MaxLanes + 1} {
		if err := b.p.SetControl(seller.Control{Lanes: n}); !errors.Is(err, seller.ErrControl) {
			t.Errorf("lanes %d: %v", n, err)
		}
	}
}

// TestBook: what ran is written down, bounded, and there after a restart.
func TestBook(t *testing.T) {
	b := newBench(t, infertest.Toy{Name: "toy"}, nil)
	if why := b.p.Report().Why; why != seller.WhyNoLease {
		t.Errorf("why is %q, want %q", why, seller.WhyNoLease)
	}
	b.open(1000)
	stop := b.chores()
	var last wire.Signed
	for n := range uint64(5) {
		_, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: n + 1, Voucher: b.voucher(0, 20*(n+1))}, Request: request("0123456789", 4)})
		last = receipt(t, body)
	}
	check := func() {
		t.Helper()
		ran := b.p.Ran(3)
		if len(ran) != 3 || ran[0].Number != 5 || ran[2].Number != 3 {
			t.Fatalf("ran %+v", ran)
		}
		if r := ran[0]; r.Receipt != last.Receipt.Digest(domain) || r.Price != 20 || r.Metered(infer.UnitPrompt) != 10 || r.Metered(infer.UnitCompletion) != 4 || r.Subject != "toy" ||
			r.Lease != b.lease || r.Policy != square.PolicyAudit || r.Took <= 0 || r.Error != "" {
			t.Errorf("the last is written down as %+v", r)
		}
		r := b.p.Report()
		if len(r.Steps) != seller.Steps || r.Hour.Served != 5 || r.Hour.Charged != 100 {
			t.Errorf("the hour: %+v of %d steps", r.Hour, len(r.Steps))
		}
		if len(r.Serving) != 1 || r.Serving[0].Charged != 100 || r.Serving[0].Subject != "toy" {
			t.Errorf("serving %+v", r.Serving)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	}
	check()
	time.Sleep(100 * time.Millisecond) // a few ticks: steps are written
	stop()
	b.server.Close()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	check()
}
