package receipts_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

func hash(n int) (h square.Hash) {
	h[0], h[30], h[31] = 0xaa, byte(n>>8), byte(n)
	return h
}

// record is receipt n, asked n seconds before now.
func record(n int, account string) desk.Record {
	return desk.Record{
		ID: hash(n), Time: time.Now().Add(-time.Duration(n) * time.Second), Subject: fmt.Sprintf("model-%d", n%3),
		Provider: square.Address{byte(n % 5), 1}, Account: account, Denom: square.Denom, Latency: time.Duration(n) * time.Millisecond,
		Units: []desk.Metered{{Unit: "prompt_tokens", Count: uint64(n)}, {Unit: "answer_tokens", Count: 7}},
		Evidence: square.Evidence{
			Receipt: square.Receipt{Lease: hash(9), Units: []uint64{uint64(n), 7}, Price: uint64(1000 + n), Cumulative: 5000, Seq: 4, Subject: hash(77)},
			Request: fmt.Appendf(nil, "question %d <b>", n), Result: []byte("answer"),
		},
	}
}

func ids(r *consoletest.Response) (out []string) {
	r.Each("th", func(n *html.Node) {
		if consoletest.Attr(n, "scope") == "row" {
			out = append(out, strings.TrimSpace(consoletest.TextOf(n)))
		}
	})
	return out
}

// links are the addresses of the list's pager.
func links(r *consoletest.Response) map[string]string {
	out := map[string]string{}
	r.Each("nav", func(nav *html.Node) {
		if consoletest.Attr(nav, "class") != "pager" {
			return
		}
		for a := range nav.Descendants() {
			if a.Data == "a" {
				out[consoletest.TextOf(a)] = consoletest.Attr(a, "href")
			}
		}
	})
	return out
}

func TestList(t *testing.T) {
	sq := consoletest.New()
	for n := 1; n <= 120; n++ {
		sq.Records = append(sq.Records, record(n, "owner"))
	}
	s := consoletest.Open(t, sq, nil)
	b := s.AsOwner()
	r := b.Get("/receipts").Is(http.StatusOK).Has("signed", "1 prompt + 7 answer tokens")
	if got := ids(r); len(got) != 50 || !strings.Contains(got[0], hash(1).Short()[:8]) {
		t.Fatalf("%d rows, first %q", len(got), got[0])
	}
	// One that comes in meanwhile moves nothing.
	sq.Records = slices.Insert(sq.Records, 0, record(0, "owner"))
	sq.Records[0].Time = time.Now()
	for range 2 {
		r = b.Get(links(r)["Next"]).Is(http.StatusOK)
	}
	if got, ls := ids(r), links(r); len(got) != 20 || !strings.Contains(got[19], hash(120).String()[:12]) || ls["Next"] != "" || ls["From the beginning"] != "/receipts" {
		t.Errorf("the last page has %d rows and leads to %v", len(got), ls)
	}
	if got := ids(b.Get("/receipts?what=model-2").Is(http.StatusOK).Lacks(">model-1<")); len(got) != 40 {
		t.Errorf("%d receipts are of model-2", len(got))
	}
	if got := ids(b.Get("/receipts?provider=" + record(4, "").Provider.String())); len(got) != 24 {
		t.Errorf("%d receipts are of one provider in five", len(got))
	}
	b.Get("/receipts?what=model").Is(http.StatusOK).Has("Nothing like that")
	b.Get("/receipts?verified=equal").Is(http.StatusOK).Has("Nothing like that")
	b.Get("/receipts?key=someone").Is(http.StatusOK).Has("Nothing like that")
	b.Get("/receipts?sort=price").Is(http.StatusBadRequest).Has("sort")
	b.Get("/receipts?from=yesterday").Is(http.StatusBadRequest).Has("from")
	b.Get("/receipts?provider=torg1").Is(http.StatusBadRequest).Has("provider")

	// An audit changes one.
	sq.Records[7].Audit = desk.AuditSlashed
	b.Get("/receipts").Has("false: provider slashed", "signed")
	if got := ids(b.Get("/receipts?verified=slashed")); len(got) != 1 {
		t.Errorf("%d receipts are of slashed providers", len(got))
	}
	if got := links(b.Get("/receipts?verified=none"))["Next"]; !strings.Contains(got, "verified=none") {
		t.Errorf("the next page forgets what was asked: %q", got)
	}
}

// A key sees what it asked, and nothing of anybody else's.
func TestForeignReceipts(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	b, k := s.AsKey("mine")
	sq.Records = []desk.Record{record(1, k.ID), record(2, "someone"), record(3, "")}
	b.Get("/receipts").Is(http.StatusOK).Has("model-1").Lacks(hash(2).String(), hash(3).String(), "model-2")
	b.Get("/receipts?key=someone").Is(http.StatusOK).Has("Nothing like that").Lacks(hash(2).String())
	b.Get("/receipts/"+hash(1).String()).Is(http.StatusOK).Has("question 1 <b>", "answer", "Signed").Lacks("question 1 <b>")
	for _, n := range []int{2, 3} {
		b.Get("/receipts/" + hash(n).String()).Is(http.StatusNotFound).Lacks("question")
		b.Submit("/receipts/"+hash(1).String(), "/receipts/"+hash(n).String()+"/audit", url.Values{}).Is(http.StatusNotFound)
	}
	if sq.Records[1].Audit != "" {
		t.Error("a stranger's receipt was audited")
	}
	k2, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	wallet := s.AsWallet(k2)
	wallet.Get("/receipts").Is(http.StatusOK).Has("Receipts belong to API keys").Lacks(hash(1).String())
	wallet.Get("/receipts/" + hash(1).String()).Is(http.StatusNotFound)
	s.Stranger().Get("/receipts/" + hash(1).String()).Is(http.StatusSeeOther)
}

func TestStory(t *testing.T) {
	sq := consoletest.New()
	rec := record(5, "owner")
	sq.Records = []desk.Record{rec}
	sq.Audited, sq.CanRepeat = desk.AuditEqual, true
	event := func(kind market.Kind, at time.Time) source.Event {
		e := source.Event{Height: 12345, Tx: hash(500)}
		e.Kind, e.Lease, e.Time, e.Reason = kind, hash(9), at.Unix(), market.ReasonEnded
		return e
	}
	s := consoletest.Open(t, sq, nil)
	b := s.AsOwner()
	path := "/receipts/" + rec.ID.String()
	b.Get(path).Is(http.StatusOK).Has("Not redeemed yet", "Its story", "receipt 4 of that lane")
	sq.Past = []source.Event{event(market.EvRedeemed, rec.Time.Add(-time.Hour)), event(market.EvRedeemed, rec.Time.Add(time.Minute)), event(market.EvEnded, rec.Time.Add(time.Hour))}
	b.Get(path).Is(http.StatusOK).Has("Paid", "12 345", "Lease ended", "its duration was reached").Lacks("Not redeemed yet")

	b.Submit(path, path+"/audit", url.Values{}).Is(http.StatusSeeOther)
	b.Get(path).Is(http.StatusOK).Has("Audited. The work was done again on the same request", "re-executed: equal")
	b.Post(path+"/audit", url.Values{}).Is(http.StatusForbidden) // without the page's token
	for _, id := range []string{"nothing", hash(6).String(), strings.Repeat("f", 65)} {
		b.Get("/receipts/" + id).Is(http.StatusNotFound)
	}
	sq.Records[0].Audit, sq.CanRepeat = "", false
	b.Get(path).Is(http.StatusOK).Has("signed, not verifiable").Lacks("Run it again")
	sq.Records[0].Evidence.Request = nil
	b.Get(path).Is(http.StatusOK).Has("Not kept")
}
