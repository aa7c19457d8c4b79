package provide_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/seller"
)

func hash(n int) (h square.Hash) {
	h[0], h[30], h[31] = 0xab, byte(n>>8), byte(n)
	return h
}

var me = square.Address{7, 7}

const hostile = `<script>alert(1)</script>`

// report is a provider that sells one model and earned five times.
func report() seller.Report {
	r := seller.Report{
		Address: me, Endpoint: "http://127.0.0.1:7", Fee: 3000, Why: seller.WhyEarned,
		Hour: seller.Stats{Served: 5, Charged: 5_000_000, Redeemed: 3_000_000, Refused: 1}, Owed: 2_000_000,
		Begin: time.Now().Add(-24 * time.Hour), Steps: make([]seller.Stats, seller.Steps),
		Selling: []seller.Selling{{ID: hash(1), Working: 3, Offer: square.Offer{
			Provider: me, Trade: infer.Name, Spec: hash(2), Subject: "model " + hostile, Denom: square.Denom, Capacity: 12,
			Rates: append([]square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 2_000_000}},
				trade.Under(square.PolicyProve, []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 10_000_000}, {Unit: infer.UnitCompletion, PerMillion: 30_000_000}})...),
			Attributes: []square.Attribute{{Key: "cpu.cores", Value: "8"}, {Key: "memory.bytes", Value: "17179869184"}, {Key: hostile, Value: hostile}},
			Expiry:     time.Now().Add(time.Hour).Unix(),
		}}},
		Serving: []seller.Serving{{Lease: hash(3), Buyer: square.Address{9}, Trade: infer.Name, Subject: "m", Policy: square.PolicyAudit, State: market.Active, Lanes: 8, Busy: 2, Charged: 4, Redeemed: 1}},
	}
	r.Steps[len(r.Steps)-1].Charged = 5_000_000
	return r
}

func ran(n int) seller.Ran {
	r := seller.Ran{Number: uint64(n), Time: time.Now().UnixMilli(), Took: 42 * time.Millisecond, Subject: fmt.Sprintf("model-%d", n%3), Spec: hash(2), Lease: hash(3), Units: []trade.Metered{{Unit: infer.UnitPrompt, Count: 11}, {Unit: infer.UnitCompletion, Count: 22}}, Price: uint64(n) * 1_000_000}
	if n%10 == 0 {
		r.Error, r.Price = "the engine said "+hostile, 0
	} else {
		r.Receipt = hash(1000 + n)
	}
	return r
}

func open(t testing.TB) (*consoletest.Test, *consoletest.Browser) {
	sq := consoletest.New()
	sq.Provider = &consoletest.Provider{Told: report()}
	for n := 60; n > 0; n-- {
		sq.Provider.Log = append(sq.Provider.Log, ran(n))
	}
	stake := source.Stake{}
	stake.Provider, stake.Trade, stake.Total, stake.Locked, stake.Unbonding, stake.Until = me, infer.Name, 100_000_000, 40_000_000, 10_000_000, time.Now().Add(time.Hour).Unix()
	sq.AllStakes = []source.Stake{stake}
	sq.Records = []desk.Record{{ID: hash(1059), Time: time.Now()}}
	e := source.Event{Height: 99}
	e.Kind, e.Lease, e.Provider, e.Time, e.To, e.Reason = market.EvEnded, hash(4), me, time.Now().Unix(), market.Slashed, market.ReasonFraud
	sq.Past = []source.Event{e}
	s := consoletest.Open(t, sq, nil)
	return s, s.AsOwner()
}

func TestProvide(t *testing.T) {
	s, b := open(t)
	s.Asked()
	r := b.Get("/provide").Is(http.StatusOK).Has(
		"Work was done and paid", "5 requests answered for 5 TORG, and 3 TORG came to your account", "2 TORG waits in vouchers", // why
		"on the square", "model "+hostile, "30 TORG", "Processor cores 8", "16.0 GiB", hostile,
		"100 TORG", "40 TORG", "50 TORG", "50 % of each payment", "2 of 8 busy", "the work was false and the bond was slashed",
		"the engine said "+hostile, "Earned in the last day",
	).Lacks(hostile)
	if n := s.Asked(); n > 2 {
		t.Errorf("the ledger was asked %d times", n)
	}
	// The receipts that this machine's buyer has lead to their stories.
	links := map[string]bool{}
	r.Each("a", func(n *html.Node) { links[consoletest.Attr(n, "href")] = true })
	if !links["/receipts/"+hash(1059).String()] || links["/receipts/"+hash(1058).String()] || !links["/leases/"+hash(3).String()] {
		t.Errorf("links: %v", links)
	}
	// Without a ledger the machine is seen all the same.
	s.Break(errors.New("no ledger"))
	b.Get("/provide").Is(http.StatusOK).Has("The ledger does not answer", "no ledger", "Pause")
}

// Every reason has words of its own.
func TestReasons(t *testing.T) {
	s, b := open(t)
	seen := map[string]seller.Why{}
	for _, why := range []seller.Why{
		seller.WhySlashed, seller.WhyEarned, seller.WhyUnredeemed, seller.WhyPaused, seller.WhyFailed,
		seller.WhyRefused, seller.WhyNothing, seller.WhyNotOffered, seller.WhyNoLease, seller.WhyNotAsked,
	} {
		s.Provider.Told.Why = why
		s.Provider.Told.Failed.Words, s.Provider.Told.Refused.Words = "last failure "+hostile, "last refusal "+hostile
		s.Provider.Told.Ended = []seller.Ended{{Lease: hash(5), State: market.Slashed, Lost: 6_000_000}}
		r := b.Get("/provide").Is(http.StatusOK).Lacks(hostile).Has("6 TORG was not redeemed")
		words := ""
		r.Each("section", func(n *html.Node) {
			if consoletest.Attr(n, "aria-labelledby") == "why" {
				words = consoletest.TextOf(n)
			}
		})
		if other, dup := seen[words]; dup || strings.Contains(words, string(why)+" ") && strings.Contains(string(why), "_") {
			t.Errorf("%q says what %q says, or no words: %s", why, other, words)
		}
		seen[words] = why
	}
}

func TestSwitches(t *testing.T) {
	s, b := open(t)
	b.Submit("/provide", "/provide/pause", url.Values{}).Is(http.StatusSeeOther)
	if !s.Provider.Told.Control.Paused {
		t.Fatal("not paused")
	}
	b.Get("/provide").Has("Resume", "It is paused now.", "Paused. New work and leases are refused")
	b.Submit("/provide", "/provide/limit", url.Values{"lanes": {" 7 "}}).Is(http.StatusSeeOther)
	if c := s.Provider.Told.Control; c.Lanes != 7 || !c.Paused {
		t.Errorf("control is %+v", c)
	}
	b.Get("/provide").Has("at most 7")
	b.Submit("/provide", "/provide/resume", url.Values{}).Is(http.StatusSeeOther)
	b.Submit("/provide", "/provide/limit", url.Values{"lanes": {""}}).Is(http.StatusSeeOther)
	if c := s.Provider.Told.Control; c != (seller.Control{}) {
		t.Errorf("control is %+v", c)
	}
	for _, bad := range []string{"0", "-1", "many", "1e3", "99999999999999999999"} {
		b.Submit("/provide", "/provide/limit", url.Values{"lanes": {bad}}).Is(http.StatusBadRequest).Has("lanes")
	}
	s.Provider.Fail = fmt.Errorf("lanes 9: %w", seller.ErrControl)
	b.Submit("/provide", "/provide/limit", url.Values{"lanes": {"9"}}).Is(http.StatusBadRequest)
	s.Provider.Fail = errors.New("the disk is full")
	b.Submit("/provide", "/provide/pause", url.Values{}).Is(http.StatusInternalServerError).Has("the disk is full")
	b.Post("/provide/pause", url.Values{}).Is(http.StatusForbidden) // without the page's token
}

func TestLog(t *testing.T) {
	_, b := open(t)
	b.Get("/provide/log").Is(http.StatusOK).Has("1–50 of 60", "60", "failed", "42 ms").Lacks(hostile)
	b.Get("/provide/log?end=failed").Is(http.StatusOK).Has("1–6 of 6")
	b.Get("/provide/log?end=charged&what=model-1&sort=price&dir=desc").Is(http.StatusOK).Has("1–18 of 18")
	b.Get("/provide/log?lease=" + hash(9).String()).Is(http.StatusOK).Has("Nothing like that")
	for _, q := range []string{"sort=x", "end=odd", "page=-1"} {
		b.Get("/provide/log?" + q).Is(http.StatusBadRequest)
	}
}

// It is the owner's alone; where nothing is sold there is no such page.
func TestOwnerOnly(t *testing.T) {
	s, _ := open(t)
	key, _ := s.AsKey("reader")
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*consoletest.Browser{key, s.AsWallet(k)} {
		b.Get("/provide").Is(http.StatusNotFound).Lacks("TORG", "model-1")
		b.Get("/provide/log").Is(http.StatusNotFound).Lacks("model-1")
		b.Get("/providers").Is(http.StatusOK).Lacks(`href="/provide"`)
		for _, path := range []string{"pause", "resume", "limit"} {
			b.Submit("/providers", "/provide/"+path, url.Values{"lanes": {"1"}}).Is(http.StatusNotFound)
		}
	}
	if s.Provider.Told.Control != (seller.Control{}) {
		t.Error("somebody else set it")
	}
	consoletest.Open(t, consoletest.New(), nil).AsOwner().Get("/provide").Is(http.StatusNotFound)
}
