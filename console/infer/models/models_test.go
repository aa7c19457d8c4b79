package models_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/infer/models"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
)

func hash(n int) (h square.Hash) {
	h[0], h[30], h[31] = 0xcc, byte(n>>8), byte(n)
	return h
}

func who(n int) square.Address { return square.Address{0xdd, byte(n >> 8), byte(n)} }

// offer is of provider n, for a model, at a price.
func offer(n int, spec square.Hash, name string, price uint64, attributes ...square.Attribute) market.Offer {
	return market.Offer{ID: hash(n), InUse: 1, Offer: square.Offer{
		Provider: who(n), Trade: infer.Name, Spec: spec, Subject: name, Denom: square.Denom, Capacity: 4,
		Rates:      []square.Rate{{Unit: infer.UnitPrompt, PerMillion: price}, {Unit: infer.UnitCompletion, PerMillion: 10 * price}},
		Attributes: append(attributes, square.Attribute{Key: "infer.context", Value: "4096"}),
		Endpoint:   "http://provider.test", Expiry: time.Now().Add(time.Hour).Unix(), Nonce: 1,
	}}
}

var exact = square.Attribute{Key: "infer.exact", Value: "true"}

const hostile = `<script>alert(1)</script>"'>`

// open is a console with the page, which knows some models by their bytes.
func open(t testing.TB, sq *consoletest.Square, known map[square.Hash]models.Known) *consoletest.Test {
	return consoletest.Open(t, sq, func(c *console.Config) {
		c.Pages = func(r console.Room) []ui.Page {
			return []ui.Page{models.New(r.Feed, r.Ledger, r.Desk, func(_ context.Context, digest square.Hash) (models.Known, error) {
				if m, ok := known[digest]; ok {
					return m, nil
				}
				return models.Known{}, fmt.Errorf("model %s: %w", digest.Short(), source.ErrNotFound)
			}, r.Docs)}
		}
	})
}

func TestList(t *testing.T) {
	sq := consoletest.New()
	proven := trade.Under(square.PolicyProve, []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 7_000_000}, {Unit: infer.UnitCompletion, PerMillion: 70_000_000}})
	nano := hash(1)
	sq.AllOffers = []market.Offer{
		offer(1, nano, "nano", 2_000_000, exact),
		offer(2, nano, "nano", 1_000_000, exact),
		offer(3, nano, "liar", 3_000_000, exact),
		offer(4, infer.Subject("gpt"), "gpt", 5_000_000),
		offer(5, hash(2), hostile, 1, square.Attribute{Key: "infer.context", Value: hostile}),
	}
	sq.AllOffers[0].Rates = append(sq.AllOffers[0].Rates, proven...)
	other := offer(6, hash(3), "not inference", 1)
	other.Trade = "store"
	sq.AllOffers = append(sq.AllOffers, other)
	s := open(t, sq, nil)
	b := s.AsOwner()
	sq.Asked()
	r := b.Get("/models").Is(http.StatusOK).Has("1–3 of 3", "nano", "gpt", hostile, "1 TORG", "70 TORG", "9", "4096").Lacks(hostile, "not inference", ">liar<")
	if n := sq.Asked(); n > 2 {
		t.Errorf("the ledger was asked %d times", n)
	}
	rows := 0
	r.Each("th", func(n *html.Node) {
		if consoletest.Attr(n, "scope") == "row" {
			rows++
		}
	})
	if rows != 3 {
		t.Errorf("%d rows", rows)
	}
	b.Get("/models?kind=exact").Has("1–1 of 1").Lacks(">gpt<")
	b.Get("/models?kind=upstream").Has("1–2 of 2")
	b.Get("/models?kind=provable&sort=answer&dir=desc").Has("1–1 of 1")
	b.Get("/models?name=GP").Has("1–1 of 1")
	b.Get("/models?name=none").Has("Nothing like that")
	if n := sq.Asked(); n > 2 { // it is read again after a few seconds only
		t.Errorf("the ledger was asked %d times for five lists", n)
	}
	for _, q := range []string{"sort=x", "dir=up", "page=0", "page=x", "kind=odd", "name=" + strings.Repeat("n", 101)} {
		b.Get("/models?" + q).Is(http.StatusBadRequest).Has("That does not fit")
	}
	key, _ := s.AsKey("reader")
	key.Get("/models").Is(http.StatusOK).Has("nano")
	s.Stranger().Get("/models").Is(http.StatusSeeOther)
}

func TestModel(t *testing.T) {
	sq := consoletest.New()
	nano, odd := hash(1), hash(2)
	gone := offer(9, nano, "nano", 1, exact)
	gone.Withdrawn = true
	old := offer(8, nano, "old name", 1, exact)
	old.Expiry = 1000
	sq.AllOffers = []market.Offer{offer(1, nano, "nano", 2_000_000, exact), offer(2, nano, hostile, 1_000_000, exact), gone, old, offer(5, odd, hostile, 1), offer(6, infer.Subject("gpt"), "gpt", 1)}
	known := map[square.Hash]models.Known{
		nano:    {Name: "the-true-nano", From: "this torg", Card: hash(77), CardBytes: 2048, File: "exact/nano/CARD.md", About: "# A card\n\nIt says <script>x</script> and **much**.\n\n| | |\n|---|---|\n| size | small |\n\n## More\n\n[Operating](../../docs/operating.md)\n"},
		hash(4): {Name: "unsold", From: "the ledger", Card: hash(78)},
	}
	sq.SeatsNow = []desk.Seat{{Offer: sq.AllOffers[0].Offer, Latency: 42 * time.Millisecond, Failures: 0.25}}
	s := open(t, sq, known)
	b := s.AsOwner()
	sq.Asked()
	r := b.Get("/models/"+nano.String()).Is(http.StatusOK).
		Has("the-true-nano", "exact", "stands", "withdrawn", "lapsed", "42 ms", "25.0 %", hash(77).String()[:12], "2 KiB", "this torg", "A card", "and much", "Operating", "Also offered as", hostile).
		Lacks("<script>x", "<script>alert", `href="../../docs`, `<th scope="col"></th>`)
	if n := sq.Asked(); n > 2 {
		t.Errorf("the ledger was asked %d times", n)
	}
	h1 := 0
	r.Each("h1", func(*html.Node) { h1++ })
	if h1 != 1 {
		t.Errorf("%d headings of the first level", h1)
	}
	b.Get("/models/"+odd.String()).Is(http.StatusOK).Has("as its providers call it", "take on the provider’s word").Lacks("<script>alert")
	b.Get("/models/"+infer.Subject("gpt").String()).Is(http.StatusOK).Has("bound to the digest", "of its name")
	b.Get("/models/"+hash(4).String()).Is(http.StatusOK).Has("unsold", "Nobody now")
	for _, path := range []string{hash(3).String(), "nano", strings.Repeat("f", 63), "%3Cscript%3E"} {
		b.Get("/models/" + path).Is(http.StatusNotFound)
	}
	key, _ := s.AsKey("reader")
	key.Get("/models/" + nano.String()).Is(http.StatusOK).Has("the-true-nano")
	sq.Break(fmt.Errorf("no ledger"))
	b.Get("/models/" + nano.String()).Is(http.StatusInternalServerError).Has("no ledger")
}

// Ten thousand offers of a hundred models. Reading them is not measured: it
// happens once in three seconds.
func BenchmarkTenThousand(b *testing.B) {
	sq := consoletest.New()
	for n := range 10_000 {
		sq.AllOffers = append(sq.AllOffers, offer(n, hash(n%100), fmt.Sprintf("model-%d", n%100), uint64(n), exact))
	}
	s := open(b, sq, nil)
	owner := s.AsOwner()
	for _, path := range []string{"/models?sort=answer&dir=asc", "/models/" + hash(7).String()} {
		b.Run(path[:8], func(b *testing.B) {
			owner.Get(path).Is(http.StatusOK)
			for b.Loop() {
				owner.Get(path)
			}
		})
	}
}
