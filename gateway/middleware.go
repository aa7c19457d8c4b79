package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/torg-network/torg/trade"
)

// record collects what one access log line says.
type record struct {
	status int
	bytes  int64
	served *trade.Served
	by     *Gateway
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	r, _ := ctx.Value(recordKey{}).(*record)
	return r
}

// Observe is how a door tells what it served, in the request's context: the gateway
// that the request came through counts it, logs it and tells its Config.Observe.
func Observe(ctx context.Context, s trade.Served) {
	rec := recordOf(ctx)
	if rec == nil {
		return // the door stands in no gateway
	}
	rec.served = &s
	rec.by.metrics.observe(s)
	if rec.by.cfg.Observe != nil {
		rec.by.cfg.Observe(s)
	}
}

// writeTime is how long one write may wait for a client that does not read.
var writeTime = 30 * time.Second // tests wait less

// writer notes status and size, and lets no client that does not read hold its
// handler.
type writer struct {
	http.ResponseWriter
	rc    *http.ResponseController
	rec   *record
	until time.Time // the deadline that stands; zero: another's, or none
}

// patience says until when what is written next must be taken. It is said with a
// little to spare, so that not every write need say it.
func (w *writer) patience() {
	if now := time.Now(); w.until.Before(now.Add(writeTime)) {
		w.until = now.Add(writeTime + writeTime/8)
		_ = w.rc.SetWriteDeadline(w.until) // not every ResponseWriter has one
	}
}

// SetWriteDeadline is asked by http.ResponseController. What is written next has
// the gateway's own all the same.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.until = time.Time{}
	return w.rc.SetWriteDeadline(t)
}

// FlushError is asked by http.ResponseController.
func (w *writer) FlushError() error {
	w.patience()
	return w.rc.Flush()
}

func (w *writer) WriteHeader(code int) {
	if w.rec.status == 0 && code >= 200 {
		w.rec.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.rec.status == 0 {
		w.rec.status = http.StatusOK
	}
	w.patience()
	n, err := w.ResponseWriter.Write(b)
	w.rec.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach deadlines.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe gives each request an id, a log line, a count, and a 500 instead of
// a crash.
func (g *Gateway) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := r.Header.Get("X-Request-Id")
		if !plain(id) {
			id = newRequestID()
		}
		rec := &record{by: g}
		ctx := context.WithValue(r.Context(), recordKey{}, rec)
		out := &writer{ResponseWriter: w, rc: http.NewResponseController(w), rec: rec}
		out.patience() // one of the answer before may be over
		outer := r
		r = r.WithContext(ctx) // the mux writes the route it chose into this one
		w.Header().Set("X-Request-Id", id)
		g.metrics.inFlight.Inc()
		defer func() {
			g.metrics.inFlight.Dec()
			outer.Pattern = r.Pattern // names the span around this
			out.patience()            // for what net/http writes after this
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				g.log.ErrorContext(ctx, "panic", "request_id", id, "route", routeOf(r), "panic", p, "stack", string(debug.Stack()))
				if rec.status == 0 {
					w.Header().Set("Content-Type", "application/json")
					out.WriteHeader(http.StatusInternalServerError)
					io.WriteString(out, internal)
					p = nil
				} else {
					p = http.ErrAbortHandler // the answer had begun: cut it off
				}
			}
			if rec.status == 0 {
				rec.status = http.StatusOK
			}
			g.metrics.requests.WithLabelValues(routeOf(r), strconv.Itoa(rec.status)).Inc()
			g.access(ctx, r, rec, id, time.Since(began))
			if p != nil {
				panic(p)
			}
		}()
		next.ServeHTTP(out, r)
	})
}

// internal says nothing of the cause. It has the form of OpenAI's errors, which most
// programs read.
const internal = `{"error":{"message":"the gateway failed; its log has the cause under this request's X-Request-Id","type":"server_error","param":null,"code":"internal"}}` + "\n"

// routeOf is the pattern that served the request, so that labels are few.
func routeOf(r *http.Request) string {
	_, path, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		path = r.Pattern
	}
	if path == "" {
		return "none"
	}
	return path
}

func (g *Gateway) access(ctx context.Context, r *http.Request, rec *record, id string, took time.Duration) {
	level := slog.LevelInfo
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
		level = slog.LevelDebug
	}
	e := rec.served
	span := oteltrace.SpanFromContext(ctx)
	if e != nil && span.IsRecording() {
		span.SetAttributes(
			attribute.String("torg.trade", e.Trade),
			attribute.String("torg.subject", e.Subject),
			attribute.String("torg.provider", e.Provider.String()),
			attribute.String("torg.lease", e.Lease.String()),
			attribute.String("torg.receipt", e.Receipt.String()))
		for _, m := range e.Units {
			span.SetAttributes(attribute.Int64("torg.units."+m.Unit, int64(m.Count)))
		}
	}
	if !g.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", id), slog.String("method", r.Method), slog.String("route", routeOf(r)),
		slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took),
	}
	if c := span.SpanContext(); c.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", c.TraceID().String()))
	}
	if e != nil {
		if e.Key != "" {
			attrs = append(attrs, slog.String("key", e.Key))
		}
		attrs = append(attrs, slog.String("trade", e.Trade), slog.String("subject", e.Subject))
		if !e.Receipt.IsZero() {
			attrs = append(attrs, slog.String("provider", e.Provider.String()), slog.String("lease_id", e.Lease.String()),
				slog.String("receipt", e.Receipt.String()))
			for _, m := range e.Units {
				attrs = append(attrs, slog.Uint64(m.Unit, m.Count))
			}
			attrs = append(attrs, slog.String("cost", e.Cost.String()), slog.Duration("first", e.First), slog.Duration("overhead", e.Overhead))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
	}
	g.log.LogAttrs(ctx, level, "request", attrs...)
}

// plain reports whether a client's request id may stand in logs and headers.
func plain(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func newRequestID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return "req_" + hex.EncodeToString(b[:])
}

// cors lets browsers call from the configured origins. Keys travel in a header
// and never in a cookie, so credentials are not allowed.
func (g *Gateway) cors(next http.Handler) http.Handler {
	any := slices.Contains(g.cfg.Origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin != "" && len(g.cfg.Origins) > 0 {
			h := w.Header()
			h.Add("Vary", "Origin")
			if any || slices.Contains(g.cfg.Origins, origin) {
				h.Set("Access-Control-Allow-Origin", origin)
				h.Set("Access-Control-Expose-Headers", "Torg-Receipt, Torg-Provider, Torg-Lease, Torg-Cost, Torg-Verified, X-Request-Id, Retry-After")
				if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
					h.Set("Access-Control-Allow-Methods", "GET, POST")
					if ask := r.Header.Get("Access-Control-Request-Headers"); len(ask) <= 1024 {
						h.Set("Access-Control-Allow-Headers", ask) // whatever an SDK adds
					}
					h.Set("Access-Control-Max-Age", "600")
					w.WriteHeader(http.StatusNoContent)
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
