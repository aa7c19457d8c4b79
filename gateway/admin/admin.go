// Package admin is how the command line talks to a running torg: API keys,
// receipts, leases, audits. It answers only requests that come from this
// machine, are addressed to it by a loopback name, are not a web page's, and
// carry the admin token, which lies in a file only its owner can read.
//
//	GET    /admin/v1/status
//	POST   /admin/v1/console                  → {"url":"http://…"}, which opens the owner's console once
//	GET    /admin/v1/keys?limit=&after=       → {"data":[Key…],"next":"key_…"}, oldest first
//	POST   /admin/v1/keys                     Grant → {"key":Key,"secret":"torg-…"}
//	GET    /admin/v1/keys/{id}                → Key
//	POST   /admin/v1/keys/{id}/revoke         → Key
//	POST   /admin/v1/keys/{id}/budget         {"budget":"123"|null} → Key
//	GET    /admin/v1/provider                 → what this machine sells and how it does
//	POST   /admin/v1/provider                 {"paused":true,"lanes":8} → the same
//	GET    /admin/v1/receipts?limit=&before=  → {"data":[Receipt…],"next":"2026-…"}, newest first;
//	                                          also &key= &lease= &provider= &what=, each in full
//	GET    /admin/v1/receipts/{id}            → Receipt, with its evidence; the beginning of an id will do
//	POST   /admin/v1/receipts/{id}/audit      → Audit
//	GET    /admin/v1/leases?limit=&after=     → {"data":[Lease…],"next":"…"}
//	POST   /admin/v1/leases/{id}/close        → Lease
//	POST   /admin/v1/orders                   {"order":Order,"job":base64,"review":false} → how it stands; what is left out of the order is filled in
//	GET    /admin/v1/orders                   → {"data":[…]}
//	GET    /admin/v1/orders/{id}              → how it stands, and its result once it is here
//	POST   /admin/v1/orders/{id}/accept       → how it stands
//	POST   /admin/v1/orders/{id}/challenge    {"why":"…"} → how it stands
//	GET    /admin/v1/history/lease/{id}       → {"data":[event…]}, in order
//	GET    /admin/v1/history/account/{id}     → {"data":[event…]}, newest first
//	GET    /admin/v1/pprof/{profile}          → what go tool pprof reads: profile?seconds=, trace?seconds=, heap, goroutine, …
//
// A list has limit (1 to 1000; 100) of its rows, and next, where there are more: what
// after, or before, is to be for them.
//
// A failure is {"error":{"code","message"}} with the status that fits: 400, 401,
// 403, 404, 501 where this process has no such thing, 500.
package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Receipt is one paid request. Evidence is set when a single one is asked for.
type Receipt struct {
	ID       square.Hash      `json:"id"`
	Provider square.Address   `json:"provider"`
	Trade    string           `json:"trade"`
	Subject  string           `json:"subject"` // of the good, as offered
	Units    []trade.Metered  `json:"units"`   // as the receipt meters them, by name
	Denom    string           `json:"denom"`
	Receipt  square.Receipt   `json:"receipt"`
	Sig      square.Signature `json:"signature"`
	Audited  string           `json:"audited,omitempty"` // "", "ok", "fraud" or why it could not be told
	Evidence *square.Evidence `json:"evidence,omitempty"`
}

// Lease is one standing or ended lease of this buyer's.
type Lease struct {
	ID       square.Hash    `json:"id"`
	Provider square.Address `json:"provider"`
	Trade    string         `json:"trade"`
	Spec     square.Hash    `json:"spec"`
	State    string         `json:"state"`
	Denom    string         `json:"denom"`
	Escrow   uint64         `json:"escrow,string"`
	Owed     uint64         `json:"owed,string"` // by receipts, paid out or not
	Lanes    int            `json:"lanes"`
	Busy     int            `json:"busy"`
	Ends     time.Time      `json:"ends,omitzero"`
}

// Audit is what a re-execution found.
type Audit struct {
	Receipt square.Hash    `json:"receipt"`
	Verdict square.Verdict `json:"verdict"`
	Took    time.Duration  `json:"took_ns"`
}

// ErrNotFound is wrapped by a source that has no such receipt or lease.
var ErrNotFound = errors.New("not found")

// Filter chooses receipts by what all its fields say; a zero field says nothing.
type Filter struct {
	Key      string // the API key's id
	Lease    square.Hash
	Provider square.Address
	What     string // the model's name
}

// Receipts lists what was paid for, newest first, older than before where that
// is set. next is the time before which to go on, zero at the end. Find is the id
// that begins with these digits.
type Receipts interface {
	Receipts(ctx context.Context, f Filter, before time.Time, limit int) (rs []Receipt, next time.Time, err error)
	Receipt(ctx context.Context, id square.Hash) (Receipt, error)
	Find(ctx context.Context, digits string) (square.Hash, error)
}

// Leases lists and ends leases.
type Leases interface {
	Leases(ctx context.Context, after string, limit int) (ls []Lease, next string, err error)
	CloseLease(ctx context.Context, id square.Hash) (Lease, error)
}

// Auditor re-executes the work of a receipt.
type Auditor interface {
	Audit(ctx context.Context, receipt square.Hash) (Audit, error)
}

// Config is what the endpoints stand on. What is nil answers 501.
type Config struct {
	Token    string // see Token
	Keys     *keys.Store
	Receipts Receipts
	Leases   Leases
	Orders   Orders
	Auditor  Auditor
	History  History
	// Status is any JSON value that says how this process is.
	Status func(context.Context) (any, error)
	// Provider is what this machine sells.
	Provider Provider
	// Console makes a link that opens the owner's console once.
	Console func() string
	Log     *slog.Logger
}

// Control is what the owner of a provider sets.
type Control struct {
	Paused bool `json:"paused"`
	Lanes  int  `json:"lanes"` // most requests at once; 0: no limit
}

// ErrControl is wrapped by a provider that cannot be set so.
var ErrControl = errors.New("that cannot be set")

// Provider reports, as any JSON value, and is set.
type Provider interface {
	ProviderReport() any
	SetProvider(Control) error
}

// History tells what happened to a lease, in order, and to an account, newest
// first: any JSON values.
type History interface {
	LeaseHistory(ctx context.Context, id square.Hash) (any, error)
	AccountHistory(ctx context.Context, a square.Address) (any, error)
}

// Token reads the admin token from a file, making both where there is none.
func Token(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if t := string(bytes.TrimSpace(b)); len(t) >= 32 {
			return t, nil
		}
		return "", fmt.Errorf("admin token %s: too short; delete the file and start torg again", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("admin token: %w", err)
	}
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	t := hex.EncodeToString(raw[:])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	_, err = f.WriteString(t + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return t, nil
}

// maxBody bounds a request's body, maxList a list's length.
const (
	maxBody = 64 << 10
	maxList = 1000
)

type handler struct {
	Config
	hash [32]byte
}

// New makes the handler of everything below /admin/v1/.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &handler{Config: cfg, hash: sha256.Sum256([]byte(cfg.Token))}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /admin/v1/status":                 h.status,
		"POST /admin/v1/console":               h.console,
		"GET /admin/v1/keys":                   h.listKeys,
		"POST /admin/v1/keys":                  h.createKey,
		"GET /admin/v1/keys/{id}":              h.getKey,
		"POST /admin/v1/keys/{id}/revoke":      h.revokeKey,
		"POST /admin/v1/keys/{id}/budget":      h.setBudget,
		"GET /admin/v1/provider":               h.provider,
		"POST /admin/v1/provider":              h.setProvider,
		"GET /admin/v1/receipts":               h.listReceipts,
		"GET /admin/v1/receipts/{id}":          h.getReceipt,
		"POST /admin/v1/receipts/{id}/audit":   h.audit,
		"GET /admin/v1/leases":                 h.listLeases,
		"POST /admin/v1/leases/{id}/close":     h.closeLease,
		"POST /admin/v1/orders":                h.placeOrder,
		"GET /admin/v1/orders":                 h.listOrders,
		"GET /admin/v1/orders/{id}":            h.getOrder,
		"POST /admin/v1/orders/{id}/accept":    h.acceptOrder,
		"POST /admin/v1/orders/{id}/challenge": h.challengeOrder,
		"GET /admin/v1/history/lease/{id}":     h.leaseHistory,
		"GET /admin/v1/history/account/{id}":   h.accountHistory,
		"/admin/v1/": func(r *http.Request) (any, error) {
			return nil, refuse(http.StatusNotFound, "unknown_url", r.Method+" "+r.URL.Path+" is not an admin endpoint")
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := h.admit(r)
			var out any
			if err == nil {
				most := int64(maxBody)
				if pattern == "POST /admin/v1/orders" {
					most = maxOrder
				}
				r.Body = http.MaxBytesReader(w, r.Body, most)
				out, err = f(r)
			}
			h.answer(w, r, out, err)
		})
	}
	mux.HandleFunc("GET /admin/v1/pprof/{profile}", func(w http.ResponseWriter, r *http.Request) {
		if err := h.profile(w, r); err != nil {
			h.answer(w, r, nil, err)
		}
	})
	return mux
}

// admit keeps out everyone but this machine's owner. The checks of Host and
// Origin keep out web pages, which can reach loopback through a browser.
func (h *handler) admit(r *http.Request) error {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return refuse(http.StatusForbidden, "not_local", "admin endpoints answer this machine only")
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if !strings.EqualFold(host, "localhost") && (err != nil || !ip.IsLoopback()) {
		return refuse(http.StatusForbidden, "not_local", "admin endpoints answer under a loopback name only")
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return refuse(http.StatusForbidden, "not_local", "admin endpoints do not answer web pages")
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(token))
	if h.Token == "" || !strings.EqualFold(scheme, "bearer") || subtle.ConstantTimeCompare(got[:], h.hash[:]) != 1 {
		return refuse(http.StatusUnauthorized, "unauthorized", "the admin token is missing or wrong; it lies in the running torg's home")
	}
	return nil
}

// failure is an error with a status.
type failure struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (f *failure) Error() string { return f.Message }

func refuse(status int, code, message string) *failure { return &failure{status, code, message} }

func absent(what string) *failure {
	return refuse(http.StatusNotImplemented, "absent", "this process keeps no "+what)
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, out any, err error) {
	status := http.StatusOK
	if err != nil {
		var f *failure
		switch {
		case errors.As(err, &f):
		case errors.Is(err, ErrNotFound), errors.Is(err, keys.ErrUnknown):
			f = refuse(http.StatusNotFound, "not_found", err.Error())
		default:
			f = refuse(http.StatusInternalServerError, "internal", err.Error())
			h.Log.WarnContext(r.Context(), "admin request failed", "path", r.URL.Path, "error", err)
		}
		status, out = f.status, map[string]any{"error": f}
	}
	b, err := json.Marshal(out)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer could not be written"}}`)
		h.Log.ErrorContext(r.Context(), "admin answer", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // an answer may hold a key's secret
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "bad_request", "the body: "+err.Error())
	}
	if _, err := d.Token(); err != io.EOF {
		return refuse(http.StatusBadRequest, "bad_request", "the body: there is more after the JSON value")
	}
	return nil
}

// page is a page of a list.
type page[T any] struct {
	Data []T    `json:"data"`
	Next string `json:"next,omitempty"`
}

func list[T any](v []T, next string) page[T] {
	if v == nil {
		v = []T{}
	}
	return page[T]{v, next}
}

// limit is how many rows of a list are asked for.
func limit(r *http.Request) (int, error) {
	s := r.URL.Query().Get("limit")
	if s == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxList {
		return 0, refuse(http.StatusBadRequest, "bad_request", fmt.Sprintf("limit: want 1 to %d", maxList))
	}
	return n, nil
}

func (h *handler) status(r *http.Request) (any, error) {
	if h.Status == nil {
		return nil, absent("status")
	}
	return h.Status(r.Context())
}

func (h *handler) console(*http.Request) (any, error) {
	if h.Console == nil {
		return nil, absent("console")
	}
	return map[string]string{"url": h.Console()}, nil
}

func (h *handler) provider(*http.Request) (any, error) {
	if h.Provider == nil {
		return nil, absent("provider")
	}
	return h.Provider.ProviderReport(), nil
}

func (h *handler) setProvider(r *http.Request) (any, error) {
	if h.Provider == nil {
		return nil, absent("provider")
	}
	var c Control
	if err := read(r, &c); err != nil {
		return nil, err
	}
	if err := h.Provider.SetProvider(c); errors.Is(err, ErrControl) {
		return nil, refuse(http.StatusBadRequest, "bad_request", err.Error())
	} else if err != nil {
		return nil, err
	}
	return h.Provider.ProviderReport(), nil
}

func (h *handler) listKeys(r *http.Request) (any, error) {
	if h.Keys == nil {
		return nil, absent("API keys")
	}
	n, err := limit(r)
	if err != nil {
		return nil, err
	}
	return list(h.Keys.List("", r.URL.Query().Get("after"), n)), nil
}

func (h *handler) getKey(r *http.Request) (any, error) {
	if h.Keys == nil {
		return nil, absent("API keys")
	}
	return h.Keys.Get(r.PathValue("id"))
}

// Grant is the body that creates a key.
type Grant struct {
	Name     string    `json:"name"`
	Budget   *uint64   `json:"budget,string,omitempty"` // base units
	Requests uint64    `json:"requests_per_minute,omitempty"`
	Tokens   uint64    `json:"tokens_per_minute,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}

// Created is a new key. The secret is shown this once.
type Created struct {
	Key    keys.Key `json:"key"`
	Secret string   `json:"secret"`
}

func (h *handler) createKey(r *http.Request) (any, error) {
	if h.Keys == nil {
		return nil, absent("API keys")
	}
	var g Grant
	if err := read(r, &g); err != nil {
		return nil, err
	}
	secret, k, err := h.Keys.Create(keys.Grant(g))
	if errors.Is(err, keys.ErrGrant) {
		return nil, refuse(http.StatusBadRequest, "bad_request", err.Error())
	}
	if err != nil {
		return nil, err
	}
	h.Log.InfoContext(r.Context(), "API key created", "key", k.ID, "name", k.Name)
	return Created{k, secret}, nil
}

func (h *handler) revokeKey(r *http.Request) (any, error) {
	if h.Keys == nil {
		return nil, absent("API keys")
	}
	k, err := h.Keys.Revoke(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	h.Log.InfoContext(r.Context(), "API key revoked", "key", k.ID)
	return k, nil
}

func (h *handler) setBudget(r *http.Request) (any, error) {
	if h.Keys == nil {
		return nil, absent("API keys")
	}
	var q struct {
		Budget *uint64 `json:"budget,string"`
	}
	if err := read(r, &q); err != nil {
		return nil, err
	}
	k, err := h.Keys.SetBudget(r.PathValue("id"), q.Budget)
	if errors.Is(err, keys.ErrGrant) {
		return nil, refuse(http.StatusBadRequest, "bad_request", err.Error())
	}
	return k, err
}

func id(r *http.Request) (square.Hash, error) {
	v, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		return v, refuse(http.StatusBadRequest, "bad_request", "the id: "+err.Error())
	}
	return v, nil
}

func (h *handler) listReceipts(r *http.Request) (any, error) {
	if h.Receipts == nil {
		return nil, absent("receipts")
	}
	n, err := limit(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	bad := func(field string, err error) error {
		return refuse(http.StatusBadRequest, "bad_request", field+": "+err.Error())
	}
	f, before := Filter{Key: q.Get("key"), What: q.Get("what")}, time.Time{}
	if s := q.Get("lease"); s != "" {
		if f.Lease, err = square.ParseHash(s); err != nil {
			return nil, bad("lease", err)
		}
	}
	if s := q.Get("provider"); s != "" {
		if f.Provider, err = square.ParseAddress(s); err != nil {
			return nil, bad("provider", err)
		}
	}
	if s := q.Get("before"); s != "" {
		if before, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return nil, bad("before", errors.New("want a time such as 2026-01-31T12:00:00Z"))
		}
	}
	out, next, err := h.Receipts.Receipts(r.Context(), f, before, n)
	if err != nil {
		return nil, err
	}
	if next.IsZero() {
		return list(out, ""), nil
	}
	return list(out, next.UTC().Format(time.RFC3339Nano)), nil
}

func (h *handler) getReceipt(r *http.Request) (any, error) {
	if h.Receipts == nil {
		return nil, absent("receipts")
	}
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		if id, err = h.Receipts.Find(r.Context(), r.PathValue("id")); errors.Is(err, ErrNotFound) {
			return nil, err
		} else if err != nil {
			return nil, refuse(http.StatusBadRequest, "bad_request", err.Error())
		}
	}
	return h.Receipts.Receipt(r.Context(), id)
}

func (h *handler) audit(r *http.Request) (any, error) {
	if h.Auditor == nil {
		return nil, absent("means to audit")
	}
	id, err := id(r)
	if err != nil {
		return nil, err
	}
	return h.Auditor.Audit(r.Context(), id)
}

func (h *handler) listLeases(r *http.Request) (any, error) {
	if h.Leases == nil {
		return nil, absent("leases")
	}
	n, err := limit(r)
	if err != nil {
		return nil, err
	}
	out, next, err := h.Leases.Leases(r.Context(), r.URL.Query().Get("after"), n)
	if err != nil {
		return nil, err
	}
	return list(out, next), nil
}

func (h *handler) leaseHistory(r *http.Request) (any, error) {
	if h.History == nil {
		return nil, absent("history")
	}
	id, err := id(r)
	if err != nil {
		return nil, err
	}
	evs, err := h.History.LeaseHistory(r.Context(), id)
	return map[string]any{"data": evs}, err
}

func (h *handler) accountHistory(r *http.Request) (any, error) {
	if h.History == nil {
		return nil, absent("history")
	}
	a, err := square.ParseAddress(r.PathValue("id"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid_address", err.Error())
	}
	evs, err := h.History.AccountHistory(r.Context(), a)
	return map[string]any{"data": evs}, err
}

func (h *handler) closeLease(r *http.Request) (any, error) {
	if h.Leases == nil {
		return nil, absent("leases")
	}
	id, err := id(r)
	if err != nil {
		return nil, err
	}
	l, err := h.Leases.CloseLease(r.Context(), id)
	if err != nil {
		return nil, err
	}
	h.Log.InfoContext(r.Context(), "lease closed", "lease_id", id.String())
	return l, nil
}
