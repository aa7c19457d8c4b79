package console_test

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/assets"
	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/infer"
	"github.com/torg-network/torg/console/infer/models"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer/buyer"
)

func open(t *testing.T) *consoletest.Test { return consoletest.Open(t, consoletest.New(), inferred) }

// inferred adds the pages of inference, so that they are held to what all are.
func inferred(c *console.Config) {
	c.Pages = func(r console.Room) []ui.Page {
		return infer.Pages(r, none{}, func(context.Context, square.Hash) (models.Known, error) { return models.Known{}, source.ErrNotFound }, http.NotFoundHandler())
	}
}

// none is nothing to ask.
type none struct{}

func (none) Models(context.Context) ([]buyer.Model, error) { return nil, nil }

func TestStrangersAreAskedToLogIn(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/", "/nothing"} {
		r := s.Stranger().Get(path).Is(http.StatusSeeOther)
		if to := r.Header().Get("Location"); to != "/login?next="+url.QueryEscape(path) {
			t.Errorf("%s leads to %q", path, to)
		}
	}
	s.Stranger().Get("/login").Is(http.StatusOK).Has("API key", "With a wallet")
}

func TestTheOwnersLinkOpensOnce(t *testing.T) {
	s := open(t)
	link := s.Console.Link()
	b := s.Stranger()
	b.Get(link).Is(http.StatusOK)
	b.Get("/").Is(http.StatusOK).Has("The square")
	s.Stranger().Get(link).Is(http.StatusForbidden).Has("torg console prints a new one")
	s.Stranger().Get("/enter?token=wrong").Is(http.StatusForbidden)
}

func TestLoginByKey(t *testing.T) {
	s := open(t)
	b, k := s.AsKey("mine")
	b.Get("/").Is(http.StatusOK)
	if _, err := s.Keys.Revoke(k.ID); err != nil {
		t.Fatal(err)
	}
	b.Get("/").Is(http.StatusUnauthorized).Has("revoked")
	b.Get("/").Is(http.StatusSeeOther) // the session is gone
	r := s.Stranger().Post("/login", url.Values{"key": {"torg-wrong"}}).Is(http.StatusUnauthorized)
	r.Has("No key that is in use reads like this")
}

func TestLoginIsLimited(t *testing.T) {
	s := open(t)
	b := s.Stranger()
	for range 20 {
		b.Post("/login", url.Values{"key": {"torg-wrong"}}).Is(http.StatusUnauthorized)
	}
	r := b.Post("/login", url.Values{"key": {"torg-wrong"}}).Is(http.StatusTooManyRequests)
	if r.Header().Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
}

func TestCookiesAreStrict(t *testing.T) {
	s := open(t)
	r := s.Stranger().Get(s.Console.Link())
	for _, c := range r.Result().Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
			t.Errorf("cookie %+v", c)
		}
	}
	if len(r.Result().Cookies()) == 0 {
		t.Error("no cookie")
	}
}

// A form of another origin, of no origin at all but without our token, and of
// another session is refused and changes nothing.
func TestForgedFormsAreRefused(t *testing.T) {
	s := open(t)
	b := s.AsOwner()
	other, _ := s.AsKey("other")
	token := ""
	other.Get("/").Each("input", func(n *html.Node) {
		if consoletest.Attr(n, "name") == "csrf" {
			token = consoletest.Attr(n, "value")
		}
	})
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	cross := form.Clone()
	cross.Set("Sec-Fetch-Site", "cross-site")
	origin := form.Clone()
	origin.Set("Origin", "http://evil.test")
	for name, r := range map[string]*consoletest.Response{
		"cross site":      b.Do("POST", "/logout", strings.NewReader(""), cross),
		"other origin":    b.Do("POST", "/logout", strings.NewReader(""), origin),
		"no token":        b.Do("POST", "/logout", strings.NewReader(""), form),
		"another's token": b.Post("/logout", url.Values{"csrf": {token}}),
		"login elsewhere": s.Stranger().Do("POST", "/login", strings.NewReader(url.Values{"key": {s.OwnerSecret}}.Encode()), cross),
	} {
		if r.Code != http.StatusForbidden {
			t.Errorf("%s: status %d", name, r.Code)
		}
	}
	b.Get("/").Is(http.StatusOK)
	b.Submit("/", "/logout", nil).Is(http.StatusSeeOther)
	b.Get("/").Is(http.StatusSeeOther)
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	s := open(t)
	answers := []*consoletest.Response{s.Stranger().Get("/login"), s.AsOwner().Get("/nothing")}
	for _, path := range pages(s) {
		answers = append(answers, s.AsOwner().Get(path).Is(http.StatusOK))
	}
	for _, r := range answers {
		csp := r.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("the policy lacks %s: %s", want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("the policy is %s", csp)
		}
		inert(t, r)
		if strings.Contains(r.Text(), "@ui.") {
			t.Errorf("a template shows its own code: %s", r.Text())
		}
	}
}

// pages are all that the navigation leads to.
func pages(s *consoletest.Test) (paths []string) {
	s.AsOwner().Get("/").Each("nav", func(nav *html.Node) {
		for n := range nav.Descendants() {
			if n.Type == html.ElementNode && n.Data == "a" {
				paths = append(paths, consoletest.Attr(n, "href"))
			}
		}
	})
	if len(paths) < 3 {
		s.T.Fatalf("the navigation leads to %q", paths)
	}
	return paths
}

// busy is a square with a thousand of everything, and its owner's browser.
func busy(t testing.TB) (*consoletest.Test, *consoletest.Browser) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, inferred)
	for i := range 1000 {
		id := square.Hash{1, byte(i), byte(i >> 8)}
		sq.AllLeases = append(sq.AllLeases, source.Lease{Lease: market.Lease{ID: id, State: market.Active, Provider: square.Address{byte(i)}, Escrow: 5,
			Order: square.Order{Buyer: s.Owner.Address(), Denom: square.Denom, Trade: "infer"}}})
		sq.Records = append(sq.Records, desk.Record{ID: id, Time: time.Now(), Subject: "m", Denom: square.Denom})
		sq.Past = append(sq.Past, source.Event{Event: market.Event{Kind: market.EvStarted, Buyer: s.Owner.Address(), Lease: id, Time: 1}})
	}
	return s, s.AsOwner()
}

// Every page has one heading, a main part and a way to skip to it.
func TestPagesAreWhole(t *testing.T) {
	s, b := busy(t)
	for _, path := range pages(s) {
		r := b.Get(path).Is(http.StatusOK)
		for element, want := range map[string]int{"h1": 1, "main": 1, "title": 1} {
			n := 0
			r.Each(element, func(*html.Node) { n++ })
			if n < want || element == "h1" && n != 1 {
				t.Errorf("%s has %d <%s>", path, n, element)
			}
		}
		if !strings.Contains(r.Body.String(), `class="skip" href="#main"`) {
			t.Errorf("%s has no way to skip to its content", path)
		}
	}
}

// BenchmarkPages is what each page takes to make; the goal is 30 ms.
func BenchmarkPages(b *testing.B) {
	s, owner := busy(b)
	for _, path := range pages(s) {
		b.Run(cmp.Or(strings.TrimPrefix(path, "/"), "square"), func(b *testing.B) {
			for b.Loop() {
				owner.Get(path)
			}
		})
	}
}

// inert fails the test if a page would need what the policy forbids.
func inert(t *testing.T, r *consoletest.Response) {
	t.Helper()
	r.Each("script", func(n *html.Node) {
		if consoletest.Attr(n, "src") == "" && consoletest.Attr(n, "type") != "application/json" {
			t.Errorf("an inline script: %s", consoletest.TextOf(n))
		}
	})
	for _, e := range []string{"script", "link", "img", "iframe", "a", "form"} {
		r.Each(e, func(n *html.Node) {
			for _, k := range []string{"src", "href", "action"} {
				if v := consoletest.Attr(n, k); v != "" && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "#") && !strings.HasPrefix(v, "?") {
					t.Errorf("<%s %s=%q>", e, k, v)
				}
			}
		})
	}
	r.Each("style", func(*html.Node) { t.Error("a style element") })
	for _, e := range []string{"div", "span", "svg", "path", "p", "td", "section", "li", "button", "a", "rect", "g", "text"} {
		r.Each(e, func(n *html.Node) {
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") {
					t.Errorf("<%s %s=%q>", e, a.Key, a.Val)
				}
			}
		})
	}
}

func TestInitialScriptsAreLight(t *testing.T) {
	s := open(t)
	b := s.AsOwner()
	for _, path := range pages(s) {
		sum := 0
		b.Get(path).Each("script", func(n *html.Node) {
			if src := consoletest.Attr(n, "src"); src != "" {
				r := b.Do("GET", src, nil, http.Header{"Accept-Encoding": {"gzip"}}).Is(http.StatusOK)
				if r.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(r.Header().Get("Cache-Control"), "immutable") {
					t.Errorf("%s: %v", src, r.Header())
				}
				sum += r.Body.Len()
			}
		})
		if sum == 0 || sum > 60_000 {
			t.Errorf("%s loads %d bytes of scripts, want at most 60000", path, sum)
		}
		t.Logf("%s: %d bytes of scripts", path, sum)
	}
	if n := assets.Weight("style.css"); n > 12_000 {
		t.Errorf("the style sheet takes %d bytes", n)
	}
}

func TestThemeIsKept(t *testing.T) {
	s := open(t)
	b := s.AsOwner()
	b.Submit("/", "/theme", url.Values{"theme": {"dark"}, "back": {"/"}}).Is(http.StatusSeeOther)
	b.Get("/").Each("html", func(n *html.Node) {
		if got := consoletest.Attr(n, "data-theme"); got != "dark" {
			t.Errorf("the theme is %q", got)
		}
	})
	b.Submit("/", "/theme", url.Values{"theme": {"pink"}}).Is(http.StatusBadRequest)
}

func TestRedirectsStayHere(t *testing.T) {
	s := open(t)
	for next, want := range map[string]string{
		"/leases?x=1": "/leases?x=1", "https://evil.test/": "/", "//evil.test/": "/", "/\\evil.test": "/", "javascript:alert(1)": "/", "": "/",
	} {
		secret, _, err := s.Keys.Create(keys.Grant{})
		if err != nil {
			t.Fatal(err)
		}
		r := s.Stranger().Post("/login", url.Values{"key": {secret}, "next": {next}}).Is(http.StatusSeeOther)
		if got := r.Header().Get("Location"); got != want {
			t.Errorf("next %q leads to %q", next, got)
		}
	}
}

func TestUnknownPagesAreKind(t *testing.T) {
	s := open(t)
	s.AsOwner().Get("/nothing").Is(http.StatusNotFound).Has("Nothing here")
	s.AsOwner().Get("/assets/app.000000000000.js").Is(http.StatusNotFound)
}

// What cannot be read from the ledger is a page that says so, not a blank one.
func TestALedgerThatFails(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	b := s.AsOwner()
	sq.Break(errHostile)
	b.Get("/").Is(http.StatusInternalServerError).Has("Something went wrong", string(errHostile)).Lacks("<script>alert")
}

type hostile string

func (h hostile) Error() string { return string(h) }

const errHostile = hostile(`<script>alert("no")</script>`)

func TestWalletSignIn(t *testing.T) {
	s := open(t)
	key, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b, in := signIn(t, s, key, "")
	in.Is(http.StatusOK)
	b.Get("/").Is(http.StatusOK).Lacks("You own this")
	owner, in := signIn(t, s, s.Owner, "")
	in.Is(http.StatusOK)
	if r := owner.Get("/").Is(http.StatusOK); !strings.Contains(r.Body.String(), "You own this") {
		t.Error("the owner's wallet is not the owner")
	}
	_, in = signIn(t, s, key, s.Owner.Address().Hex()) // says to be another
	in.Is(http.StatusUnauthorized)
}
