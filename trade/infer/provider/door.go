package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// maxOrder bounds the body of a quote and of other calls that carry no request,
// in bytes.
const maxOrder = 64 << 10

// Handler answers the wire of package infer. Who asks is known, and may, before
// a body is read; what the body is, before it is looked at.
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathPrefix+"offers", func(w http.ResponseWriter, r *http.Request) {
		say(w, p.Offers())
	})
	mux.HandleFunc("POST "+wire.PathPrefix+"quote", door(p, "quote", maxOrder, replies(p.quote)))
	mux.HandleFunc("POST "+wire.PathPrefix+"serve", door(p, "serve", wire.MaxBody, p.serve))
	mux.HandleFunc("POST "+wire.PathPrefix+"cancel", door(p, "cancel", maxOrder, p.cancel))
	mux.HandleFunc("POST "+wire.PathPrefix+"lane", door(p, "lane", maxOrder, replies(p.laneState)))
	mux.HandleFunc("POST "+wire.PathPrefix+"proof", door(p, "proof", wire.MaxBody, p.proof))
	mux.HandleFunc("POST "+wire.PathPrefix+"close", door(p, "close", maxOrder, replies(p.closeLease)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page in a browser of this machine's owner could otherwise speak to
		// the provider: under its own origin, or under a name that it has
		// resolve to this machine.
		if !p.named(r.Host) || r.Header.Get("Origin") != "" {
			http.Error(w, "this is the provider "+p.addr.String()+", and no browser's", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// named reports whether a Host is this provider's: its endpoint's, an address
// (which no name server answers for) or localhost.
func (p *Provider) named(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	return host == "localhost" || host == strings.ToLower(p.host) || net.ParseIP(host) != nil
}

// caller is who asks: the call as it was signed, by whom, and the lease it is
// about (nil: a quote).
type caller struct {
	wire.Call
	who square.Address
	l   *lease
}

// about refuses a body that is about another lane than its call.
func (c caller) about(lease square.Hash, lane uint16) error {
	if c.Lease != lease || c.Lane != lane {
		return refuse(wire.CodeBadRequest, "authorization: it is for another lease or lane than the body")
	}
	return nil
}

// door lets in who may ask, with what they signed.
func door[In any](p *Provider, path string, most int64, f func(http.ResponseWriter, *http.Request, caller, In)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// It holds for what is left of a body that is refused as well.
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(p.ReadTimeout)) // recorders have none
		from, err := p.caller(r, path)
		if err != nil {
			fail(w, err)
			return
		}
		if l := from.l; l != nil {
			// A buyer's own lanes, and a few questions about them.
			defer l.calls.Add(-1)
			if n := l.calls.Add(1); n > 2*int64(l.order.Lanes)+8 {
				fail(w, refuse(wire.CodeBusy, "%d calls about lease %s at once; wait for some to end", n-1, l.id.Short()))
				return
			}
		}
		var in In
		if err := p.read(w, r, from, most, &in); err != nil {
			fail(w, err)
			return
		}
		_ = rc.SetReadDeadline(time.Time{})
		f(w, r, from, in)
	}
}

// replies writes what a call is answered, or the refusal.
func replies[In, Out any](f func(context.Context, caller, In) (Out, error)) func(http.ResponseWriter, *http.Request, caller, In) {
	return func(w http.ResponseWriter, r *http.Request, from caller, in In) {
		out, err := f(r.Context(), from, in)
		if err != nil {
			fail(w, err)
			return
		}
		say(w, out)
	}
}

// caller reads who asks, and refuses who may not.
func (p *Provider) caller(r *http.Request, path string) (caller, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return caller{}, refuse(wire.CodeBadRequest, "content-type: want application/json")
	}
	call, who, err := wire.ParseCall(p.domain, p.addr, path, r.Header.Get("Authorization"))
	if err != nil {
		return caller{}, refuse(wire.CodeCaller, "%v", err)
	}
	from := caller{Call: call, who: who}
	now, err := p.clock.Now(r.Context())
	if err != nil {
		return from, refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	if path != "quote" {
		if from.l, err = p.find(r.Context(), call.Lease, who); err != nil {
			return from, err
		}
	}
	if d := now.Unix() - call.Time; d < -wire.CallWindow || d > wire.CallWindow {
		return from, refuse(wire.CodeClock, "authorization: time is %d and the ledger's is %d; sign the call again", call.Time, now.Unix())
	}
	return from, nil
}

// read decodes a body: what was signed, one JSON value and nothing after it.
func (p *Provider) read(w http.ResponseWriter, r *http.Request, from caller, most int64, v any) error {
	if r.ContentLength > most {
		return refuse(wire.CodeBadRequest, "request body: it is over %d bytes", most)
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return refuse(wire.CodeBadRequest, "request body: it is over %d bytes", most)
	case err != nil:
		return refuse(wire.CodeBadRequest, "request body: it did not come whole: %v", err)
	case sha256.Sum256(b) != from.Body:
		return refuse(wire.CodeCaller, "request body: it is not the one whose digest was signed")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return refuse(wire.CodeBadRequest, "request body: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(wire.CodeBadRequest, "request body: something follows the JSON value")
	}
	return nil
}

func say(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

var statuses = map[string]int{
	wire.CodeBadRequest:  http.StatusBadRequest,
	wire.CodeCaller:      http.StatusUnauthorized,
	wire.CodeClock:       http.StatusUnauthorized,
	wire.CodeTerms:       http.StatusUnprocessableEntity,
	wire.CodePayment:     http.StatusPaymentRequired,
	wire.CodeStale:       http.StatusConflict,
	wire.CodeBusy:        http.StatusTooManyRequests,
	wire.CodeUnknown:     http.StatusNotFound,
	wire.CodeClosed:      http.StatusGone,
	wire.CodePaused:      http.StatusServiceUnavailable,
	wire.CodeUnavailable: http.StatusServiceUnavailable,
}

func wireError(err error) *wire.Refusal {
	var we *wire.Refusal
	if !errors.As(err, &we) {
		we = refuse(wire.CodeUnavailable, "%v; nothing was charged", err)
	}
	return we
}

func fail(w http.ResponseWriter, err error) {
	we := wireError(err)
	status := statuses[we.Code]
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	if we.Code == wire.CodeBusy {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(we) // the client is gone
}
