// Package consoletest is a square in memory to test pages on, and browsers that
// look at it: the owner's, those of API keys and of wallets, and strangers'.
package consoletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// Square is everything that pages are told, in fields that a test sets. Queries
// counts questions to the ledger.
type Square struct {
	mu          sync.Mutex
	Queries     int
	HeadNow     source.Head
	Balances    map[square.Address]uint64
	AllLeases   []source.Lease
	AllOffers   []market.Offer
	AllStakes   []source.Stake
	AllChannels []source.Channel
	ParamsNow   market.Params
	Happening   chan source.Event
	Past        []source.Event // oldest first
	SeatsNow    []desk.Seat
	CanRepeat   bool          // the work of every receipt can be done again
	Provider    *Provider     // what this machine sells; nil: nothing
	Records     []desk.Record // newest first
	Audited     desk.Audit    // what Audit finds
	fail        error         // of every question to the ledger, see Break
	Owed        map[square.Hash]desk.Standing
}

// ChainID is the ledger's name.
const ChainID = "torg-test-1"

// New is a square with nothing on it.
func New() *Square {
	return &Square{
		HeadNow: source.Head{Height: 42, Time: time.Now()}, Balances: map[square.Address]uint64{},
		ParamsNow: market.Default(), Happening: make(chan source.Event, 64),
	}
}

func (s *Square) asked() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Queries++
	return s.fail
}

// Break makes the ledger answer every question with an error from now on.
func (s *Square) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Asked is how many questions the ledger has been asked, and forgets them.
func (s *Square) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.Queries
	s.Queries = 0
	return n
}

func (s *Square) ChainID() string { return ChainID }

// Head is not among the questions that are counted: the console asks it every
// second, whatever is looked at.
func (s *Square) Head(context.Context) (source.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.HeadNow, s.fail
}

func (s *Square) Balance(_ context.Context, a square.Address, denom string) (square.Amount, error) {
	return square.Amount{Units: s.Balances[a], Denom: denom}, s.asked()
}

func (s *Square) Params(context.Context) (market.Params, error) { return s.ParamsNow, s.asked() }

func (s *Square) Lease(_ context.Context, id square.Hash) (source.Lease, error) {
	for _, l := range s.AllLeases {
		if l.ID == id {
			return l, s.asked()
		}
	}
	return source.Lease{}, fmt.Errorf("lease %s: %w", id.Short(), source.ErrNotFound)
}

// page cuts a list as the ledger does.
func page[T any](all []T, p source.Page, keep func(T) bool) (out []T, next string) {
	limit := int(p.Limit)
	if limit == 0 {
		limit = 100
	}
	var from int
	fmt.Sscan(p.After, &from)
	for i := from; i < len(all); i++ {
		if !keep(all[i]) {
			continue
		}
		if len(out) == limit {
			return out, fmt.Sprint(i)
		}
		out = append(out, all[i])
	}
	return out, ""
}

func (s *Square) Leases(_ context.Context, f source.LeaseFilter, p source.Page) ([]source.Lease, string, error) {
	out, next := page(s.AllLeases, p, func(l source.Lease) bool {
		return (f.Buyer.IsZero() || f.Buyer == l.Order.Buyer) && (f.Provider.IsZero() || f.Provider == l.Provider) &&
			(f.Trade == "" || f.Trade == l.Order.Trade) && (f.State == "" || f.State == l.State)
	})
	return out, next, s.asked()
}

func (s *Square) Offers(_ context.Context, f source.OfferFilter, p source.Page) ([]market.Offer, string, error) {
	out, next := page(s.AllOffers, p, func(o market.Offer) bool {
		return (f.Provider.IsZero() || f.Provider == o.Provider) && (f.Trade == "" || f.Trade == o.Trade) && (f.Spec.IsZero() || f.Spec == o.Spec)
	})
	return out, next, s.asked()
}

func (s *Square) Stakes(_ context.Context, provider square.Address, trade string, p source.Page) ([]source.Stake, string, error) {
	out, next := page(s.AllStakes, p, func(k source.Stake) bool {
		return (provider.IsZero() || provider == k.Provider) && (trade == "" || trade == k.Trade)
	})
	return out, next, s.asked()
}

func (s *Square) Channels(_ context.Context, payer, receiver square.Address, p source.Page) ([]source.Channel, string, error) {
	out, next := page(s.AllChannels, p, func(c source.Channel) bool {
		return (payer.IsZero() || payer == c.Config.Payer) && (receiver.IsZero() || receiver == c.Config.Receiver)
	})
	return out, next, s.asked()
}

func (s *Square) Watch(ctx context.Context) <-chan source.Event {
	out := make(chan source.Event)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-s.Happening:
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// history is the square's past.
type history struct{ s *Square }

func (h history) Lease(id square.Hash, limit int) (out []source.Event, err error) {
	for _, e := range h.s.Past {
		if e.Lease == id && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (h history) Account(a square.Address, limit int) (out []source.Event, err error) {
	for _, e := range slices.Backward(h.s.Past) {
		if (e.By == a || e.Buyer == a || e.Provider == a) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// books are the square's buyer.
type books struct{ s *Square }

func (d books) Seats(context.Context) ([]desk.Seat, error) { return d.s.SeatsNow, nil }

func (d books) Again(desk.Record) bool { return d.s.CanRepeat }

func (d books) Receipts(_ context.Context, f desk.Filter, before time.Time, n int) (out []desk.Record, next time.Time, err error) {
	for _, r := range d.s.Records {
		switch {
		case !before.IsZero() && !r.Time.Before(before),
			f.Account != "" && r.Account != f.Account,
			!f.Lease.IsZero() && r.Evidence.Receipt.Lease != f.Lease,
			!f.Provider.IsZero() && r.Provider != f.Provider,
			f.Subject != "" && r.Subject != f.Subject,
			f.Audit != "" && r.Audit != f.Audit,
			f.Signed && r.Audit != "":
			continue
		case len(out) == n:
			return out, out[n-1].Time, nil
		}
		r.Evidence.Request, r.Evidence.Result = nil, nil
		out = append(out, r)
	}
	return out, next, nil
}

func (d books) Receipt(_ context.Context, id square.Hash) (desk.Record, error) {
	for _, r := range d.s.Records {
		if r.ID == id {
			return r, nil
		}
	}
	return desk.Record{}, fmt.Errorf("%w: %w", source.ErrNotFound, desk.ErrNoReceipt)
}

func (d books) Audit(_ context.Context, id square.Hash) (desk.Audit, error) {
	for i := range d.s.Records {
		if d.s.Records[i].ID == id {
			d.s.Records[i].Audit = d.s.Audited
			return d.s.Audited, nil
		}
	}
	return "", fmt.Errorf("%w: %w", source.ErrNotFound, desk.ErrNoReceipt)
}

func (d books) Standing() map[square.Hash]desk.Standing { return d.s.Owed }

func (d books) CloseLease(_ context.Context, id square.Hash) error {
	for i := range d.s.AllLeases {
		if d.s.AllLeases[i].ID == id {
			d.s.AllLeases[i].State, d.s.AllLeases[i].Reason = market.Settled, market.ReasonAgreed
			return nil
		}
	}
	return source.ErrNotFound
}

func (books) Words(r desk.Record) (source.Words, error) {
	if len(r.Evidence.Request) == 0 {
		return source.Words{}, errors.New("the question is no longer kept")
	}
	return source.Words{Kind: "bytes", Request: string(r.Evidence.Request), Result: string(r.Evidence.Result), Finish: "stop"}, nil
}

// Provider is what this machine sells.
type Provider struct {
	Told seller.Report
	Log  []seller.Ran // newest first
	Fail error        // of SetControl
}

func (p *Provider) Report() seller.Report { return p.Told }

func (p *Provider) Ran(n int) []seller.Ran { return p.Log[:min(n, len(p.Log))] }

func (p *Provider) SetControl(c seller.Control) error {
	if p.Fail == nil {
		p.Told.Control = c
	}
	return p.Fail
}

// Test is a console that serves a square.
type Test struct {
	*Square
	T       testing.TB
	Console *console.Console
	Keys    *keys.Store
	Owner   square.Key
	// OwnerSecret is the API key that pays for the owner.
	OwnerSecret string
	// Stop ends the console's run, as the end of the test does.
	Stop func()
}

// Open serves a square until the test ends. change, if not nil, has the last
// word on the configuration.
func Open(t testing.TB, s *Square, change func(*console.Config)) *Test {
	t.Helper()
	store, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := store.Create(keys.Grant{Name: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := console.Config{
		Owner: owner.Address(), Ledger: s, History: history{s}, Desk: books{s}, Keys: store, OwnerKey: secret,
		Log: slog.New(slog.DiscardHandler),
	}
	if s.Provider != nil {
		cfg.Provider = s.Provider
	}
	if change != nil {
		change(&cfg)
	}
	c, err := console.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Test{Square: s, T: t, Console: c, Keys: store, Owner: owner, OwnerSecret: secret, Stop: stop}
}

// Browser keeps cookies, as a browser does, and runs no JavaScript.
type Browser struct {
	t       *Test
	cookies map[string]*http.Cookie
	Header  http.Header // sent with every request
}

// Stranger is a browser without a session.
func (t *Test) Stranger() *Browser {
	return &Browser{t: t, cookies: map[string]*http.Cookie{}, Header: http.Header{}}
}

// Cookies are what the browser sends.
func (b *Browser) Cookies() []*http.Cookie { return slices.Collect(maps.Values(b.cookies)) }

// In is the same browser in another test: a fuzz target's, or a subtest's.
func (b *Browser) In(t testing.TB) *Browser {
	other := *b.t
	other.T = t
	return &Browser{t: &other, cookies: b.cookies, Header: b.Header}
}

// AsOwner is the owner's browser.
func (t *Test) AsOwner() *Browser {
	t.T.Helper()
	b := t.Stranger()
	if r := b.Get(t.Console.Link()); r.Code != http.StatusOK {
		t.T.Fatalf("the owner's link answers %d", r.Code)
	}
	return b
}

// AsKey is a browser with a new API key's session; it also gives the key.
func (t *Test) AsKey(name string) (*Browser, keys.Key) {
	t.T.Helper()
	secret, k, err := t.Keys.Create(keys.Grant{Name: name})
	if err != nil {
		t.T.Fatal(err)
	}
	b := t.Stranger()
	if r := b.Post("/login", url.Values{"key": {secret}}); r.Code != http.StatusSeeOther {
		t.T.Fatalf("logging in with a key answers %d", r.Code)
	}
	return b, k
}

// Response is an answer, read as HTML.
type Response struct {
	*httptest.ResponseRecorder
	t *Test
}

// Do sends a request with the browser's cookies.
func (b *Browser) Do(method, path string, body io.Reader, header http.Header) *Response {
	b.t.T.Helper()
	r := httptest.NewRequest(method, "http://torg.test"+path, body)
	for _, h := range []http.Header{b.Header, header} {
		for k, v := range h {
			r.Header[k] = v
		}
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.t.Console.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c
		}
	}
	return &Response{w, b.t}
}

// Get opens a page.
func (b *Browser) Get(path string) *Response {
	b.t.T.Helper()
	return b.Do(http.MethodGet, path, nil, nil)
}

// Post sends a form as a page of ours would, but for the CSRF token: see Submit.
func (b *Browser) Post(path string, form url.Values) *Response {
	b.t.T.Helper()
	return b.Do(http.MethodPost, path, strings.NewReader(form.Encode()), http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"},
	})
}

// AsWallet is a browser that signed in with a wallet's key, as MetaMask does.
func (t *Test) AsWallet(k square.Key) *Browser {
	t.T.Helper()
	b := t.Stranger()
	var asked struct{ Nonce, Message string }
	r := b.Post("/login/wallet/message", url.Values{"address": {k.Address().Hex()}}).Is(http.StatusOK)
	if err := json.Unmarshal(r.Body.Bytes(), &asked); err != nil {
		t.T.Fatal(err)
	}
	digest := square.Keccak(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d", len(asked.Message)), []byte(asked.Message))
	b.Post("/login/wallet", url.Values{"nonce": {asked.Nonce}, "signature": {k.Sign(digest).String()}}).Is(http.StatusOK)
	return b
}

// Token is the CSRF token of a page's forms.
func (b *Browser) Token(page string) (token string) {
	b.t.T.Helper()
	if token = b.Get(page).Hidden("csrf", ""); token == "" {
		b.t.T.Fatalf("%s has no form with a token", page)
	}
	return token
}

// Hidden is a hidden field of the page's form that sends to an action, or of any
// where that is empty; empty if there is none.
func (r *Response) Hidden(name, action string) (value string) {
	r.t.T.Helper()
	r.Each("form", func(form *html.Node) {
		if action != "" && Attr(form, "action") != action {
			return
		}
		for n := range form.Descendants() {
			if Attr(n, "name") == name && value == "" {
				value = Attr(n, "value")
			}
		}
	})
	return value
}

// Submit opens a page, takes the tokens out of its forms and sends one.
func (b *Browser) Submit(page, path string, form url.Values) *Response {
	b.t.T.Helper()
	return b.Get(page).Send(b, path, form)
}

// Send sends a form of the page, with its tokens.
func (r *Response) Send(b *Browser, path string, form url.Values) *Response {
	r.t.T.Helper()
	form = cloneValues(form)
	csrf := r.Hidden("csrf", "")
	if csrf == "" {
		r.t.T.Fatalf("no form on the page before %s has a token", path)
	}
	form.Set("csrf", csrf)
	if once := r.Hidden("once", path); once != "" && !form.Has("once") {
		form.Set("once", once)
	}
	return b.Post(path, form)
}

func cloneValues(v url.Values) url.Values {
	out := url.Values{}
	for k, x := range v {
		out[k] = slices.Clone(x)
	}
	return out
}

// Each calls f with every element of a name.
func (r *Response) Each(element string, f func(*html.Node)) {
	r.t.T.Helper()
	doc, err := html.Parse(strings.NewReader(r.Body.String()))
	if err != nil {
		r.t.T.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == element {
			f(n)
		}
	}
}

// Text is what a person reads of the page's main part, white space made plain.
func (r *Response) Text() string {
	out := ""
	r.Each("body", func(n *html.Node) {
		for m := range n.Descendants() {
			if m.Type == html.ElementNode && Attr(m, "id") == "main" {
				n = m
			}
		}
		out = TextOf(n)
	})
	return out
}

// TextOf is what a person reads of an element.
func TextOf(n *html.Node) string {
	var words []string
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "style") {
			return
		}
		if n.Type == html.TextNode {
			words = append(words, strings.Fields(n.Data)...)
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(words, " ")
}

// Attr is an element's attribute.
func Attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Has fails the test unless the page reads each of the words.
func (r *Response) Has(words ...string) *Response {
	r.t.T.Helper()
	text := r.Text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			r.t.T.Errorf("the page does not say %q:\n%s", w, text)
		}
	}
	return r
}

// Lacks fails the test if any byte of the answer gives away one of the words.
func (r *Response) Lacks(words ...string) *Response {
	r.t.T.Helper()
	for _, w := range words {
		if strings.Contains(r.Body.String(), w) {
			r.t.T.Errorf("the page says %q", w)
		}
	}
	return r
}

// Is fails the test unless the status is this one.
func (r *Response) Is(code int) *Response {
	r.t.T.Helper()
	if r.Code != code {
		r.t.T.Fatalf("status %d, want %d:\n%s", r.Code, code, r.Text())
	}
	return r
}
