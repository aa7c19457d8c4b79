package main

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/trade/seller"
)

// TestPause: what a person pauses takes no work, says so to whoever asks, and is
// not on offer; a restart changes none of it; resumed, it sells on.
func TestPause(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := open(t, home)
	s.paid(hello(4))
	var r seller.Report
	set := func(args ...string) {
		t.Helper()
		r = seller.Report{}
		s.torg(append(append([]string{"provide"}, args...), "-o", "json")...).read(t, &r)
	}
	set("status")
	if r.Control.Paused || r.Hour.Served != 1 || r.Why != seller.WhyUnredeemed || len(r.Serving) != 1 {
		t.Errorf("status is %+v", r)
	}
	offered := func(want int) {
		t.Helper()
		cl := s.ledger()
		await(t, "the offers that stand", func() error {
			offers, _, err := cl.Offers(t.Context(), client.OfferFilter{}, client.Page{})
			if err == nil && len(offers) != want {
				err = os.ErrNotExist
			}
			return err
		})
	}
	refused := func(status int, code, words string) {
		t.Helper()
		a := s.ask(hello(4))
		if a.status != status || a.Error == nil || a.Error.Code != code || !strings.Contains(a.Error.Message, words) {
			t.Fatalf("a paused provider's gateway answers %v", a)
		}
	}
	offered(1)
	set("pause")
	refused(http.StatusServiceUnavailable, "provider_paused", "torg provide resume")
	offered(0)
	s.stop()

	s = open(t, home)
	set("status")
	// To redeem what a few words cost would cost more.
	if !r.Control.Paused || r.Hour.Served != 1 || r.Owed != r.Hour.Charged {
		t.Errorf("after a restart status is %+v", r)
	}
	refused(http.StatusNotFound, "model_not_found", "no provider offers the model") // who comes new finds no offer
	offered(0)
	set("resume")
	offered(1)
	await(t, "the gateway's next look at the offers", func() error {
		if a := s.ask(hello(4)); a.status != http.StatusOK {
			return errors.New(a.String())
		}
		return nil
	})
	set("limit", "3")
	if r.Control != (seller.Control{Lanes: 3}) {
		t.Errorf("control is %+v", r.Control)
	}
	s.conserved()
	s.stop()
}
