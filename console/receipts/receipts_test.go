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
	"github.com/torg-network/torg/trade/infer"
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
		Evidence: square.Evidence{
			Receipt: square.Receipt{Lease: hash(9), Units: []uint64{uint64(n), 7}, Price: uint64(1000 + n), Cumulative: 5000, Seq: 4, Subject: hash(77)},
			Request: infer.Request{Kind: infer.Exact, MaxTokens: 7, TopP: 10_000, Prompt: fmt.Appendf(nil, "question %d <b>", n)}.Encode(), Result: []byte("answer"),
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

func TestList(t *testing.T) {
	sq := consoletest.New()
	for n := 1; n <= 120; n++ {
		sq.Records = append(sq.Records, record(n, "owner"))
	}
	s := consoletest.Open(t, sq, nil)
	b := s.AsOwner()
	r := b.Get("/receipts").Is(http.StatusOK).Has("1–50 of 120", "Page 1 of 3", "signed")
	if got := ids(r); len(got) != 50 || !strings.Contains(got[0], hash(1).Short()[:8]) {
		t.Fatalf("%d rows, first %q", len(got), got[0])
	}
	if got := ids(b.Get("/receipts?page=3").Is(http.StatusOK)); len(got) != 20 {
		t.Errorf("the last page has %d rows", len(got))
	}
	r = b.Get("/receipts?sort=price&dir=desc").Is(http.StatusOK)
	if got := ids(r); !strings.Contains(got[0], hash(120).String()[:12]) {
		t.Errorf("the dearest is %q", got[0])
	}
	b.Get("/receipts?model=MODEL-2").Is(http.StatusOK).Has("1–40 of 40").Lacks(">model-1<")
	b.Get("/receipts?verified=equal").Is(http.StatusOK).Has("Nothing like that")
	b.Get("/receipts?sort=nothing").Is(http.StatusBadRequest).Has("sort")

	// One comes in, and an audit changes another.
	sq.Records = slices.Insert(sq.Records, 0, record(0, "owner"))
	sq.Records[0].Time = time.Now()
	sq.Records[7].Audit = desk.AuditSlashed
	b.Get("/receipts").Has("1–50 of 121", "false: provider slashed", "signed")
}

// A key sees what it asked, and nothing of anybody else's.
func TestForeignReceipts(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	b, k := s.AsKey("mine")
	sq.Records = []desk.Record{record(1, k.ID), record(2, "someone"), record(3, "")}
	b.Get("/receipts").Is(http.StatusOK).Has("1–1 of 1").Lacks(hash(2).String(), hash(3).String(), "model-2")
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
	sq.Audited = desk.AuditEqual
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
	b.Get(path).Is(http.StatusOK).Has("Audited. The model was run again on the same request", "re-executed: equal")
	b.Post(path+"/audit", url.Values{}).Is(http.StatusForbidden) // without the page's token
	for _, id := range []string{"nothing", hash(6).String(), strings.Repeat("f", 65)} {
		b.Get("/receipts/" + id).Is(http.StatusNotFound)
	}
	sq.Records[0].Audit, sq.Records[0].Evidence.Request = "", []byte("no request of an exact model")
	b.Get(path).Is(http.StatusOK).Has("signed, not verifiable").Lacks("Run it again")
	sq.Records[0].Evidence.Request = nil
	b.Get(path).Is(http.StatusOK).Has("Not kept")
}

// Ten thousand receipts: every view is made in milliseconds.
func BenchmarkTenThousand(b *testing.B) {
	sq := consoletest.New()
	for n := range 10_000 {
		sq.Records = append(sq.Records, record(n, "owner"))
	}
	for _, path := range []string{"/receipts", "/receipts?page=150", "/receipts?sort=price&dir=desc&page=7&model=model-1"} {
		b.Run(path, func(b *testing.B) {
			s := consoletest.Open(b, sq, nil)
			owner := s.AsOwner()
			owner.Get(path).Is(http.StatusOK)
			for b.Loop() {
				owner.Get(path)
			}
		})
	}
}
