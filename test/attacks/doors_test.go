package attacks

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// door is an HTTP address of the square, asked in a way that is fine when its
// owner does it.
type door struct {
	name, method, url, body, kind string
	bearer                        string
}

// doors are all that a square listens on.
func (p *place) doors() []door {
	const rpc = `{"jsonrpc":"2.0","id":1,"method":"status","params":{}}`
	gateway := strings.TrimSuffix(p.BaseURL, "/v1")
	return []door{
		{"console", "GET", gateway + "/", "", "", ""},
		{"gateway health", "GET", gateway + "/healthz", "", "", ""},
		{"gateway metrics", "GET", gateway + "/metrics", "", "", ""},
		{"gateway API", "GET", p.BaseURL + "/models", "", "", p.APIKey},
		{"admin", "GET", p.AdminURL + "/admin/v1/status", "", "", p.token()},
		{"provider offers", "GET", p.seller + wire.PathPrefix + "offers", "", "", ""},
		{"provider lane", "POST", p.seller + wire.PathPrefix + "lane", `{"lease":"` + square.Hash{1}.String() + `","lane":0}`, "application/json", ""},
		{"RPC", "GET", p.RPC + "/status", "", "", ""},
		{"RPC query", "GET", p.RPC + "/abci_info", "", "", ""},
		{"RPC by POST", "POST", p.RPC + "/", rpc, "application/json", ""},
		{"REST", "GET", p.REST + "/cosmos/base/tendermint/v1beta1/blocks/latest", "", "", ""},
	}
}

// token is the admin's.
func (p *place) token() string {
	p.t.Helper()
	tok, err := admin.Token(p.home + "/admin-token")
	if err != nil {
		p.t.Fatal(err)
	}
	return tok
}

// knock asks a door; change makes the request the attacker's.
func (p *place) knock(d door, change func(*http.Request)) (status int, h http.Header, said string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), d.method, d.url, strings.NewReader(d.body))
	if err != nil {
		p.t.Fatal(err)
	}
	if d.kind != "" {
		req.Header.Set("Content-Type", d.kind)
	}
	if d.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+d.bearer)
	}
	change(req)
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		p.t.Fatalf("%s: %v", d.name, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header, string(b)
}

// owner leaves a request as it is.
func owner(*http.Request) {}

// TestRebinding: a page makes its own name resolve to this machine, so that its
// requests have the page's host and its browser takes the answers for the page's
// own (money.md H1).
func TestRebinding(t *testing.T) {
	t.Parallel()
	p := open(t)
	open := 0
	for _, d := range p.doors() {
		fine, _, said := p.knock(d, owner)
		port := d.url[strings.LastIndex(d.url, ":")+1:]
		port, _, _ = strings.Cut(port, "/")
		for _, host := range []string{"evil.example:" + port, "evil.example", "127.0.0.1.evil.example:" + port, "localhost.evil.example:" + port} {
			got, _, _ := p.knock(d, func(r *http.Request) { r.Host = host })
			if got != http.StatusForbidden && got != http.StatusMisdirectedRequest {
				t.Errorf("%s answers %d to host %s (%d to its own: %.60q)", d.name, got, host, fine, said)
				open++
				break
			}
		}
	}
	p.after(outcome{actor: webPage, name: "DNS rebinding", note: fmt.Sprintf("%d of %d doors open", open, len(p.doors()))})
}

// TestForeignPage: a page elsewhere asks by script; its browser shows it the
// answer only where the door says so, but sends simple requests anyway.
func TestForeignPage(t *testing.T) {
	t.Parallel()
	p := open(t)
	readable, obeyed := 0, 0
	for _, d := range p.doors() {
		for _, origin := range []string{"http://evil.example", "null"} {
			if d.name == "gateway API" {
				// Any page may call it that was given a key: no browser sends one by itself.
				d.bearer = ""
				if got, _, said := p.knock(d, func(r *http.Request) { r.Header.Set("Origin", origin) }); got != http.StatusUnauthorized {
					t.Errorf("%s answers %s without a key: %d %.100q", d.name, origin, got, said)
				}
				continue
			}
			_, h, _ := p.knock(d, func(r *http.Request) { r.Header.Set("Origin", origin) })
			if allow := h.Get("Access-Control-Allow-Origin"); allow == "*" || allow == origin {
				t.Errorf("%s lets %s read its answer: Access-Control-Allow-Origin %s", d.name, origin, allow)
				readable++
				break
			}
		}
		if d.method != "POST" {
			continue
		}
		// A form or a script may post this without asking first.
		got, _, said := p.knock(d, func(r *http.Request) {
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Origin", "http://evil.example")
		})
		if got != http.StatusUnsupportedMediaType && got != http.StatusForbidden && !strings.Contains(said, "origin") {
			t.Errorf("%s takes text/plain from another page: %d %.100q", d.name, got, said)
			obeyed++
		}
	}
	// And the provider's other posts, quote and serve and close.
	for _, what := range []string{"quote", "infer/serve", "infer/cancel", "infer/proof", "close"} {
		d := door{"provider " + what, "POST", p.seller + wire.PathPrefix + what, "{}", "text/plain", ""}
		if got, _, said := p.knock(d, owner); got < 400 || got >= 500 || !strings.Contains(said, "content-type") {
			t.Errorf("%s takes text/plain: %d %.100q", d.name, got, said)
			obeyed++
		}
	}
	p.after(outcome{actor: webPage, name: "requests of a foreign page", note: fmt.Sprintf("%d doors readable, %d simple posts obeyed", readable, obeyed)})
}

// TestLanesOfOthers: a stranger reads of the ledger which leases there are and
// asks their provider for the last answers (money.md H1).
func TestLanesOfOthers(t *testing.T) {
	t.Parallel()
	p := open(t)
	if err := p.ask(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	leases, _, err := p.ledger.Leases(t.Context(), client.LeaseFilter{Buyer: p.Wallet}, client.Page{})
	if err != nil || len(leases) == 0 {
		t.Fatalf("the square's own buyer has no lease: %v", err)
	}
	key, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, l := range leases {
		for n := range uint16(l.Order.Lanes) {
			var lane wire.LaneReply
			if err := p.call(t.Context(), key, p.offer(nano.Name), "lane", l.ID, n, wire.LaneRequest{Lease: l.ID, Lane: n}, &lane); err != nil {
				continue
			}
			seen++
			t.Errorf("lane %d of lease %s is shown to a stranger: charged %d, last answer %v", n, l.ID.Short(), lane.Charged, lane.Last != nil)
		}
	}
	p.after(outcome{actor: stranger, name: "others' answers by POST lane", note: fmt.Sprintf("%d lanes shown", seen)})
}

// TestSlowBodies: who has one key sends three hundred requests of a byte each
// and never the rest; others must have places still (money.md, Medium).
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	p := open(t)
	out, err := p.command("key", "create", "slow", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var key admin.Created
	if err := json.Unmarshal([]byte(out), &key); err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(p.BaseURL, "http://"), "/v1")
	var mu sync.Mutex
	var conns []net.Conn
	refused := 0
	var knocks sync.WaitGroup
	for range 300 {
		knocks.Go(func() {
			c, err := net.DialTimeout("tcp", addr, 10*time.Second)
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{", addr, key.Secret)
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && strings.Contains(line, " 4") {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	knocks.Wait()
	ok, worst := 0, time.Duration(0)
	for range 10 {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := p.ask(ctx, 4); err != nil {
			t.Errorf("an honest request while one key holds places: %.200v", err)
		} else {
			ok++
		}
		cancel()
		worst = max(worst, time.Since(began))
	}
	for _, c := range conns {
		c.Close()
	}
	p.after(outcome{actor: buyer, name: "300 bodies that never end, on one key", note: fmt.Sprintf("%d refused at once; %d of 10 honest requests answered, the slowest in %s", refused, ok, worst.Round(time.Millisecond))})
}

// TestPlacesForACoin: a stranger with a coin takes all places of the provider
// with leases of the smallest escrow, for a day (money.md H2).
func TestPlacesForACoin(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(torgs)
	of := p.offer(nano.Name)
	var held, locked uint64
	why := ""
	for units := of.Capacity; units > 0 && held < of.Capacity; {
		took := false
		for _, escrow := range []uint64{1, 100, 1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 900_000} {
			o := th.order(of)
			o.Escrow, o.JobValue, o.Lanes, o.Units, o.Duration = escrow, escrow, 1, units, 24*3600
			if _, err := th.lease(o, of); err != nil {
				why = err.Error()
				continue
			}
			held, locked, took = held+units, locked+escrow, true
			break
		}
		if !took {
			t.Logf("%d places: %s", units, why)
			units /= 2
		}
	}
	g := p.guest(5 * torgs)
	note := fmt.Sprintf("%d of %d places held by %d leases, %d utorg of escrow", held, of.Capacity, len(th.leases), locked)
	var err error
	for end := time.Now().Add(placeTime()); ; time.Sleep(5 * time.Second) {
		now := p.offer(nano.Name) // it is renewed
		if _, err = g.lease(g.order(now), now); err == nil || time.Now().After(end) {
			break
		}
	}
	// Places that are not used are taken back, with a notice: -long waits for it.
	if err != nil && *long {
		t.Errorf("%s, and another buyer gets none: %v", note, err)
	}
	p.after(outcome{actor: stranger, name: "all places for a coin", note: note})
}

// TestQuotesOfNobody: a stranger without an account asks for quotes on orders of
// buyers that do not exist (money.md H2).
func TestQuotesOfNobody(t *testing.T) {
	t.Parallel()
	p := open(t)
	of := p.offer(nano.Name)
	given := 0
	d := p.ledger.Domain()
	for i := range 40 {
		key, err := square.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		nobody := &thief{p: p, key: key, addr: key.Address()}
		o := nobody.order(of)
		o.Lanes = 1
		if o.Units = of.Capacity >> (i % 6); o.Units == 0 {
			o.Units = 1
		}
		var q wire.QuoteReply
		if err := p.call(t.Context(), key, of, "quote", o.ID(d), 0, wire.QuoteRequest{Order: o, Offer: of.ID(d)}, &q); err == nil {
			given++
		}
	}
	g := p.guest(5 * torgs)
	if _, err := g.lease(g.order(of), of); err != nil {
		t.Errorf("%d quotes were given to nobody, and a buyer with money gets none: %v", given, err)
	}
	p.after(outcome{actor: stranger, name: "quotes for buyers that do not exist", note: fmt.Sprintf("%d of 40 given", given)})
}

// placeTime is how long a buyer waits for a place that somebody holds and does not
// use: what the provider bears, and a notice.
func placeTime() time.Duration {
	if *long {
		return 8 * time.Minute
	}
	return 10 * time.Second
}
