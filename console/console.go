// Package console is the web pages for people: what happens on the square, a
// chat, the wallet, this machine's offer, and everything that was asked, leased
// and paid. Pages are HTML from this process; they read without JavaScript and
// load nothing from anywhere else.
//
// # A page is a folder
//
// console/<page>/ holds the page's handlers (<page>.go), its templates
// (<page>.templ), its island if it has one (<page>.ts or chart-like names, one
// bundle each) and its tests. It has a New that takes what it needs from
// package source, and its result is a [ui.Page]: a Link for the navigation and
// Routes. [New] lists the pages; that line is all that a new page changes
// elsewhere. The pages of a trade come by [Config].Pages instead, and may live with
// the trade; those with templates or islands are in console/<trade>/, where go
// generate finds them.
//
//	func (p *Page) Link() ui.Link      { return ui.Link{Path: "/leases", Title: "Leases"} }
//	func (p *Page) Routes(r ui.Router) { r.Handle("GET /leases/{id}", p.show) }
//	func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
//		v := ui.Of(r.Context()).Viewer()      // who looks: decide what it may see
//		…
//		return ui.Render(w, r, ui.View{Title: "…"}, body(…))
//	}
//
// What a handler returns becomes a page: ui.BadInput, ui.NotFound and
// ui.Forbidden say which, any other error is a 500 that says what happened.
// Money, times and ids are written by ui.Money, ui.Time and ui.ID. htmx asks
// for parts with ui.IsFragment; a link or form must do the same without it.
// Every form has @ui.CSRF(). Styles are classes of assets/style.css: the content
// security policy allows no style attribute and no script in a page.
//
// After changing a templ, ts or css file: go generate ./console. What it makes
// is committed, so that building needs only Go. Package consoletest has a square
// in memory and browsers of each kind to test with.
//
// # Who sees what
//
// See package session. A page shows the owner everything, an API key what that
// key asked and paid, a wallet its own account. What is not the viewer's is
// answered as what does not exist.
package console

//go:generate go -C gen run .

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/torg-network/torg"
	"github.com/torg-network/torg/console/assets"
	"github.com/torg-network/torg/console/docs"
	"github.com/torg-network/torg/console/leases"
	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/provide"
	"github.com/torg-network/torg/console/providers"
	"github.com/torg-network/torg/console/receipts"
	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	squarepage "github.com/torg-network/torg/console/square"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/console/wallet"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Config is what the console stands on.
type Config struct {
	Owner   square.Address // the wallet that pays for what this machine asks
	Ledger  source.Ledger
	History source.History
	Desk    source.Desk
	Keys    source.Keys
	Bank    source.Bank // nil: the console moves no money
	// Provider is what this machine sells; nil: it sells nothing.
	Provider source.Provider
	// OwnerKey is the API key that pays for the owner's questions.
	OwnerKey string
	// Pages makes the trades' own pages, which come after the square's in the
	// navigation; nil: they have none.
	Pages func(Room) []ui.Page
	// Goods is the path of a good's page, empty where its trade has none.
	Goods func(trade string, spec square.Hash) string
	// Units are those of all trades, in which the square's work is counted.
	Units []string
	Log   *slog.Logger // nil is slog.Default()
	Now   func() time.Time
}

// Room is what a trade's pages stand on, as all pages do.
type Room struct {
	Feed    *live.Feed
	Ledger  source.Ledger
	History source.History
	Desk    source.Desk
	Keys    source.Keys
	Docs    *docs.Page
}

// Console serves the pages. Run must run while it does.
type Console struct {
	cfg      Config
	log      *slog.Logger
	mux      *http.ServeMux
	sessions *session.Store
	limit    *session.Limiter
	feed     *live.Feed
	cross    *http.CrossOriginProtection
	nav      []ui.Link
}

// New makes a console.
func New(cfg Config) (*Console, error) {
	if cfg.Ledger == nil || cfg.History == nil || cfg.Desk == nil || cfg.Keys == nil {
		return nil, errors.New("console: ledger, history, desk and keys are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// What happened to the owner before this process began; the feed follows all.
	past, err := cfg.History.Account(cfg.Owner, 40)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	c := &Console{
		cfg: cfg, log: cfg.Log, mux: http.NewServeMux(),
		sessions: session.NewStore(cfg.Now), limit: session.NewLimiter(cfg.Now),
		feed:  live.NewFeed(live.Config{Ledger: cfg.Ledger, Past: past, Log: cfg.Log, Now: cfg.Now}),
		cross: http.NewCrossOriginProtection(),
	}
	documents, err := docs.New(torg.Documents)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	pages := []ui.Page{squarepage.New(c.feed, ui.Noun(cfg.Units))}
	if cfg.Pages != nil {
		pages = append(pages, cfg.Pages(Room{c.feed, cfg.Ledger, cfg.History, cfg.Desk, cfg.Keys, documents})...)
	}
	pages = append(pages,
		wallet.New(wallet.Config{
			Owner: cfg.Owner, Ledger: cfg.Ledger, History: cfg.History, Desk: cfg.Desk, Keys: cfg.Keys,
			Bank: cfg.Bank, Sessions: c.sessions, Now: cfg.Now,
		}),
		leases.New(cfg.Ledger, cfg.History, cfg.Desk, cfg.Now),
		receipts.New(cfg.Desk, cfg.History),
		providers.New(c.feed, cfg.Ledger, cfg.History, cfg.Desk),
	)
	if cfg.Provider != nil {
		pages = append(pages, provide.New(cfg.Provider, cfg.Ledger, cfg.History, cfg.Desk))
	}
	pages = append(pages, documents)
	for _, p := range pages {
		c.nav = append(c.nav, p.Link())
		p.Routes(c)
	}
	c.mux.HandleFunc("GET "+assets.Prefix, assets.ServeHTTP)
	c.mux.HandleFunc("GET /favicon.svg", favicon)
	c.open("GET /login", c.login)
	c.open("POST /login", c.loginByKey)
	c.open("POST /login/wallet/message", c.walletMessage)
	c.open("POST /login/wallet", c.loginByWallet)
	c.open("GET /enter", c.enter)
	c.open("POST /theme", c.setTheme)
	c.Handle("POST /logout", c.logout)
	c.Handle("/", func(http.ResponseWriter, *http.Request) error { return ui.NotFound("page") })
	return c, nil
}

// Observe takes in a finished request of the gateway's.
func (c *Console) Observe(r trade.Served) { c.feed.Observe(r) }

// Link is the path that opens the owner's session, once.
func (c *Console) Link() string { return "/enter?token=" + url.QueryEscape(c.sessions.Link()) }

// Run follows the square until ctx ends, then closes what is streamed.
func (c *Console) Run(ctx context.Context) error {
	c.feed.Run(ctx)
	return ctx.Err()
}

// policy is the content security policy of every page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves every page.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	c.mux.ServeHTTP(w, r)
}

// maxForm bounds what a form may send, formTime how long it may take.
const (
	maxForm  = 1 << 20
	formTime = 30 * time.Second
)

// Handle mounts a handler behind a session.
func (c *Console) Handle(pattern string, h ui.Handler) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s, err := c.session(w, r)
		r = c.with(r, s)
		if err == nil && s == nil {
			if r.Method == http.MethodGet && !ui.IsFragment(r) {
				http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
				return
			}
			err = &ui.Failure{Status: http.StatusUnauthorized, Title: "Please log in again", Words: "Your session has ended. Open /login, or run torg console for a new link."}
		}
		if err == nil {
			err = c.genuine(w, r, s)
		}
		if err == nil {
			err = h(w, r)
		}
		c.answer(w, r, err)
	})
}

// open mounts a handler that needs no session. What changes something is still
// refused to other origins.
func (c *Console) open(pattern string, h ui.Handler) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s, err := c.session(w, r)
		r = c.with(r, s)
		if err == nil {
			err = c.genuine(w, r, nil)
		}
		if err == nil {
			err = h(w, r)
		}
		c.answer(w, r, err)
	})
}

// session is the request's session. That of an API key ends with the key.
func (c *Console) session(w http.ResponseWriter, r *http.Request) (*session.Session, error) {
	s := c.sessions.Of(r)
	if s == nil || s.Viewer.Role != session.Key {
		return s, nil
	}
	if _, err := c.cfg.Keys.Check(s.Viewer.Secret()); err != nil {
		c.sessions.End(w, r)
		return nil, &ui.Failure{Status: http.StatusUnauthorized, Title: "This API key is no longer good", Words: err.Error() + ". Log in with another."}
	}
	return s, nil
}

// genuine refuses forms that are not from our own pages. s is nil where there
// is no session yet whose token a form could carry.
func (c *Console) genuine(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if err := c.cross.Check(r); err != nil {
		return &ui.Failure{Status: http.StatusForbidden, Title: "Refused", Words: "This form was sent by a page of another origin."}
	}
	_ = http.NewResponseController(w).SetReadDeadline(c.cfg.Now().Add(formTime)) // not every ResponseWriter has one
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &ui.Failure{Status: http.StatusBadRequest, Title: "This form cannot be read", Words: err.Error()}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if s == nil {
		return nil
	}
	token := r.Header.Get("X-Csrf")
	if token == "" {
		token = r.PostForm.Get("csrf")
	}
	if !s.ValidCSRF(token) {
		return &ui.Failure{Status: http.StatusForbidden, Title: "Refused", Words: "This form is from an older session. Go back, reload the page and send it again."}
	}
	return nil
}

// with puts what every page knows into a request.
func (c *Console) with(r *http.Request, s *session.Session) *http.Request {
	return r.WithContext(ui.With(r.Context(), &ui.Request{
		Session: s, Theme: themeOf(r), Now: c.cfg.Now(), Path: r.URL.Path, Nav: c.nav, Square: c.cfg.Ledger.ChainID(), Goods: c.cfg.Goods,
	}))
}

// answer makes a page of an error.
func (c *Console) answer(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	f := ui.Failed(err)
	if f.Status >= 500 && r.Context().Err() == nil {
		c.log.WarnContext(r.Context(), "console page failed", "path", r.URL.Path, "error", err)
	}
	ui.RenderFailure(w, r, f)
}

const themeCookie = "torg_theme"

func themeOf(r *http.Request) ui.Theme {
	if k, err := r.Cookie(themeCookie); err == nil && (k.Value == string(ui.Light) || k.Value == string(ui.Dark)) {
		return ui.Theme(k.Value)
	}
	return ui.System
}

func (c *Console) setTheme(w http.ResponseWriter, r *http.Request) error {
	t := ui.Theme(r.PostForm.Get("theme"))
	if t != ui.System && t != ui.Light && t != ui.Dark {
		return ui.BadInput("theme", "it is system, light or dark")
	}
	http.SetCookie(w, &http.Cookie{Name: themeCookie, Value: string(t), Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	http.Redirect(w, r, local(r.PostForm.Get("back")), http.StatusSeeOther)
	return nil
}

// local is a path on this site, "/" if it is none.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

func favicon(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "public, max-age=86400")
	fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 24"><path fill="#c98a1b" d="M1 23V11l5-6 5 6v12z"/><path fill="#9c3526" d="M11 23V9h2V6h2V3h2v3h2v3h2v14z"/><path fill="#1d6b4f" d="M21 23V11l5-5 5 5v12z"/></svg>`)
}
