package square_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

func lease(n byte, buyer, provider square.Address, held, paid uint64) source.Lease {
	return source.Lease{Lease: market.Lease{
		ID: square.Hash{n}, State: market.Active, Provider: provider, Escrow: held, Paid: paid,
		Order: square.Order{Buyer: buyer, Denom: square.Denom},
	}}
}

// served is a finished request: for how much money, and how much was metered.
func served(key string, cost, work uint64) trade.Served {
	return trade.Served{Key: key, Cost: square.Utorg(cost), Units: []trade.Metered{{Unit: "words", Count: work}}}
}

func offer(provider square.Address) (o market.Offer) {
	o.Provider, o.Denom = provider, square.Denom
	return o
}

func TestTheSquareReadsWithoutJavaScript(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	me, a, b := s.Owner.Address(), square.Address{1}, square.Address{2}
	sq.AllLeases = []source.Lease{lease(1, me, a, 9_000_000, 1_000_000), lease(2, b, a, 5_000_000, 0), lease(3, me, a, 1_000_000, 250_000)}
	sq.AllOffers = []market.Offer{offer(a), offer(a), offer(b)}
	s.Console.Observe(served("k", 700, 500))
	who := s.AsOwner()
	wait(t, func() bool { return strings.Contains(who.Get("/").Text(), "Block 42") })
	r := who.Get("/").Is(200)
	r.Has("Providers 2", "3 offers", "Leases standing 3", "15 TORG held", "Who pays whom", "1.25 TORG paid", "Requests a second", "As a table")
	described := false
	r.Each("desc", func(n *html.Node) {
		described = described || strings.Contains(consoletest.TextOf(n), "2 accounts pay 1 providers")
	})
	if !described {
		t.Error("the picture has no text that says the same")
	}
	charts := 0
	r.Each("figure", func(n *html.Node) {
		if consoletest.Attr(n, "data-chart") == "" {
			return
		}
		charts++
		text := consoletest.TextOf(n)
		if !strings.Contains(text, "newest first") {
			t.Errorf("chart %s has no table", consoletest.Attr(n, "id"))
		}
	})
	if charts != 4 {
		t.Errorf("%d charts", charts)
	}
}

func TestManyAccountsFitThePicture(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	for i := range 60 {
		sq.AllLeases = append(sq.AllLeases, lease(byte(i), square.Address{1, byte(i)}, square.Address{2, byte(i)}, uint64(1000-i), uint64(i)))
	}
	r := s.AsOwner().Get("/").Is(200).Has("others")
	nodes := 0
	r.Each("path", func(n *html.Node) {
		if c := consoletest.Attr(n, "class"); c == "house" || c == "tent" {
			nodes++
		}
	})
	if nodes < 10 || nodes > 18 {
		t.Errorf("the picture has %d accounts", nodes)
	}
}

// A key sees what it did, and of the accounts and deals of others nothing.
func TestOthersAreNotShown(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	me, a := s.Owner.Address(), square.Address{1}
	sq.AllLeases = []source.Lease{lease(1, me, a, 9_000_000, 1_000_000)}
	sq.AllOffers = []market.Offer{offer(a)}
	b, k := s.AsKey("mine")
	s.Console.Observe(served("other", 31, 7777))
	for e := range 3 {
		sq.Happening <- source.Event{Event: market.Event{Kind: market.EvRedeemed, Buyer: me, Provider: a, Lease: square.Hash{1}, Time: time.Now().Unix(), Paid: uint64(e)}}
	}
	owner := s.AsOwner()
	wait(t, func() bool { return strings.Contains(owner.Get("/").Text(), "redeemed your vouchers") })
	foreign := []string{me.String(), a.String(), "redeemed", "777"}
	b.Get("/").Is(200).Has("Leases are the wallet’s", "Quiet so far").Lacks(foreign...)
	b.Get("/square/flows").Is(200).Lacks(foreign...)
	// Its own is.
	s.Console.Observe(served(k.ID, 0, 50))
	rate := ""
	b.Get("/").Each("figure", func(n *html.Node) {
		if consoletest.Attr(n, "id") == "work" {
			rate = consoletest.Attr(n, "data-chart")
		}
	})
	if !strings.HasSuffix(rate, ",5]") && !strings.Contains(rate, ",5,") {
		t.Errorf("its tokens are %s", rate)
	}
}

func wait(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("waited in vain")
}

// stream opens the live stream as a browser does.
func stream(t *testing.T, s *consoletest.Test, b *consoletest.Browser, after string) (*bufio.Reader, func()) {
	t.Helper()
	srv := httptest.NewServer(s.Console)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/live?after="+after, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "torg.test" // where the session was made
	for _, c := range b.Cookies() {
		r.AddCookie(c)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream answers %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return bufio.NewReader(resp.Body), func() { cancel(); resp.Body.Close() }
}

type tick struct {
	Figures map[string]string
	Points  map[string]float64
	News    string
}

func next(t *testing.T, r *bufio.Reader) (out tick) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &out); err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
}

func TestLive(t *testing.T) {
	sq := consoletest.New()
	now := time.Now() // it stands still: no step of the charts ends before it is looked at
	s := consoletest.Open(t, sq, func(c *console.Config) { c.Now = func() time.Time { return now } })
	me := s.Owner.Address()
	sq.Happening <- source.Event{Event: market.Event{Kind: market.EvOpened, Buyer: me, Time: time.Now().Unix()}, Height: 5}
	r, end := stream(t, s, s.AsOwner(), "0")
	defer end()
	first := next(t, r)
	for first.News == "" {
		first = next(t, r)
	}
	if !strings.Contains(first.News, "You set") || !strings.HasPrefix(first.News, "<li") {
		t.Errorf("the news is %q", first.News)
	}
	s.Console.Observe(served("", 40, 30))
	for {
		n := next(t, r)
		if n.News != "" {
			t.Fatalf("old news: %q", n.News)
		}
		if n.Points["work"] == 3 && n.Points["money"] == 4 {
			break
		}
	}
}

// A closing console ends its streams, so that nobody waits for them.
func TestStreamsEndWithTheConsole(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	r, end := stream(t, s, s.AsOwner(), "0")
	defer end()
	next(t, r)
	s.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("the stream goes on")
	}
}

func TestHostileWordsAreEscaped(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	sq.Happening <- source.Event{Event: market.Event{Kind: `<img src=x onerror=alert(1)>`, Trade: "<script>", Buyer: s.Owner.Address(), Time: 1}}
	b := s.AsOwner()
	wait(t, func() bool { return strings.Contains(b.Get("/").Body.String(), "onerror") })
	b.Get("/").Lacks("<img", "<script>alert")
	if got := b.Get("/live-none"); got.Code != http.StatusNotFound {
		t.Errorf("status %d", got.Code)
	}
}
