package seller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
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

// maxBulky is how many strangers may send a longer body at once: the job of a quote.
const maxBulky = 32

// Handler answers the wire: what every trade has, and each trade's own paths. Who
// asks is known, and may, before a body is read; what the body is, before it is
// looked at.
func (s *Seller) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathPrefix+"offers", func(w http.ResponseWriter, r *http.Request) {
		Say(w, s.Offers())
	})
	Post(mux, s, "quote", wire.MaxBody, replies(s.quote))
	Post(mux, s, "job", wire.MaxBody, s.takeJob)
	Post(mux, s, "result", maxOrder, replies(s.handOver))
	Post(mux, s, "lane", maxOrder, replies(s.laneState))
	Post(mux, s, "close", maxOrder, replies(s.closeLease))
	for name, t := range s.trades {
		mux.Handle(wire.PathPrefix+name+"/", t.Serve(s))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page in a browser of this machine's owner could otherwise speak to
		// the provider: under its own origin, or under a name that it has
		// resolve to this machine.
		if !s.named(r.Host) || r.Header.Get("Origin") != "" {
			http.Error(w, "this is the provider "+s.addr.String()+", and no browser's", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// named reports whether a Host is this provider's: its endpoint's, an address
// (which no name server answers for) or localhost.
func (s *Seller) named(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	return host == "localhost" || host == strings.ToLower(s.host) || net.ParseIP(host) != nil
}

// Caller is who asks: the call as it was signed, by whom, and the lease it is
// about (nil: a quote).
type Caller struct {
	wire.Call
	who square.Address
	s   *Seller
	l   *lease
}

// Order is that of the lease.
func (c Caller) Order() square.Order { return c.l.order }

// About refuses a body that is about another lane than its call.
func (c Caller) About(lease square.Hash, lane uint16) error {
	if c.Lease != lease || c.Lane != lane {
		return wire.Refuse(wire.CodeBadRequest, "authorization: it is for another lease or lane than the body")
	}
	return nil
}

// Post adds a path to a trade's handler: "name/what", below wire.PathPrefix. It lets
// in the authorizer of a lease of the trade, with the body that it signed, JSON of at
// most so many bytes.
func Post[In any](mux *http.ServeMux, s *Seller, path string, most int64, f func(http.ResponseWriter, *http.Request, Caller, In)) {
	mux.HandleFunc("POST "+wire.PathPrefix+path, func(w http.ResponseWriter, r *http.Request) {
		// It holds for what is left of a body that is refused as well.
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(s.ReadTimeout)) // recorders have none
		from, err := s.caller(r, path)
		if err != nil {
			Fail(w, err)
			return
		}
		if l := from.l; l != nil {
			// A buyer's own lanes, and a few questions about them.
			defer l.calls.Add(-1)
			if n := l.calls.Add(1); n > 2*int64(l.order.Lanes)+8 {
				Fail(w, wire.Refuse(wire.CodeBusy, "%d calls about lease %s at once; wait for some to end", n-1, l.id.Short()))
				return
			}
		}
		if from.l == nil && (r.ContentLength < 0 || r.ContentLength > maxOrder) {
			select {
			case s.bulky <- struct{}{}:
				defer func() { <-s.bulky }()
			default:
				Fail(w, wire.Refuse(wire.CodeBusy, "%d others are handing jobs over; try again", maxBulky))
				return
			}
		}
		var in In
		if err := s.read(w, r, from, most, &in); err != nil {
			Fail(w, err)
			return
		}
		_ = rc.SetReadDeadline(time.Time{})
		f(w, r, from, in)
	})
}

// replies writes what a call is answered, or the refusal.
func replies[In, Out any](f func(context.Context, Caller, In) (Out, error)) func(http.ResponseWriter, *http.Request, Caller, In) {
	return func(w http.ResponseWriter, r *http.Request, from Caller, in In) {
		out, err := f(r.Context(), from, in)
		if err != nil {
			Fail(w, err)
			return
		}
		Say(w, out)
	}
}

// authorizer is who may ask about a lease; zero where that is not known here.
func (s *Seller) authorizer(lease square.Hash) (who square.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[lease]; l != nil {
		who = l.order.Authorizer
	}
	return who
}

// caller reads who asks, and refuses who may not.
func (s *Seller) caller(r *http.Request, path string) (Caller, error) {
	if said := r.Header.Get("Content-Type"); said != "application/json" { // as nearly all say it
		if kind, _, err := mime.ParseMediaType(said); err != nil || kind != "application/json" {
			return Caller{}, wire.Refuse(wire.CodeBadRequest, "content-type: want application/json")
		}
	}
	call, who, err := wire.ParseCall(s.domain, s.addr, path, r.Header.Get("Authorization"), s.authorizer)
	if err != nil {
		return Caller{}, wire.Refuse(wire.CodeCaller, "%v", err)
	}
	from := Caller{Call: call, who: who, s: s}
	now, err := s.clock.Now(r.Context())
	if err != nil {
		return from, wire.Refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	if path != "quote" {
		if from.l, err = s.find(r.Context(), call.Lease, who); err != nil {
			return from, err
		}
		if name, _, own := strings.Cut(path, "/"); own && from.l.order.Trade != name {
			return from, wire.Refuse(wire.CodeUnknown, "lease %s is of trade %s, not %s", call.Lease.Short(), from.l.order.Trade, name)
		}
	}
	if d := now.Unix() - call.Time; d < -wire.CallWindow || d > wire.CallWindow {
		return from, wire.Refuse(wire.CodeClock, "authorization: time is %d and the ledger's is %d; sign the call again", call.Time, now.Unix())
	}
	return from, nil
}

// read decodes a body: what was signed, one JSON value and nothing after it.
func (s *Seller) read(w http.ResponseWriter, r *http.Request, from Caller, most int64, v any) error {
	if r.ContentLength > most {
		return wire.Refuse(wire.CodeBadRequest, "request body: it is over %d bytes", most)
	}
	var in bytes.Buffer
	in.Grow(int(max(min(r.ContentLength, 16<<10), 0)) + bytes.MinRead) // one allocation for most
	_, err := in.ReadFrom(http.MaxBytesReader(w, r.Body, most))
	b := in.Bytes()
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return wire.Refuse(wire.CodeBadRequest, "request body: it is over %d bytes", most)
	case err != nil:
		return wire.Refuse(wire.CodeBadRequest, "request body: it did not come whole: %v", err)
	case sha256.Sum256(b) != from.Body:
		return wire.Refuse(wire.CodeCaller, "request body: it is not the one whose digest was signed")
	}
	if err := json.Unmarshal(b, v); err != nil { // also where something follows the value
		return wire.Refuse(wire.CodeBadRequest, "request body: %v", err)
	}
	return nil
}

// Say answers with JSON.
func Say(w http.ResponseWriter, v any) {
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

// Refusal is what a failed call is told: the refusal that err is, or one that says
// that the provider failed.
func Refusal(err error) *wire.Refusal {
	var we *wire.Refusal
	if !errors.As(err, &we) {
		we = wire.Refuse(wire.CodeUnavailable, "%v; nothing was charged", err)
	}
	return we
}

// Fail answers with a refusal.
func Fail(w http.ResponseWriter, err error) {
	we := Refusal(err)
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
