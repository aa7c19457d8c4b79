// Package gateway is the buyer's side of the square: one HTTP server with the
// doors of the trades, the admin endpoints that the command line uses ([admin]),
// metrics, health and tracing. It knows no trade: inference brings the
// OpenAI-compatible API (package openai), and each door tells what it served by
// [Observe].
//
//	/v1/…              a door of a trade's, here inference's
//	/admin/v1/…        for the command line, from this machine only
//	/metrics           Prometheus
//	/healthz           the process answers
//	/readyz            every check of the caller's passes
//
// Only requests to a name of this machine's are answered, and only JSON is taken
// by the doors (package door). Around all of it: a request id (the client's X-Request-Id where it is a plain
// one, else a new one), one access log line a request, panic recovery, CORS and,
// when a tracer provider is given, OpenTelemetry spans. Logs carry request,
// key, provider, lease and receipt ids, never a secret, a prompt or an answer.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/trade"
)

// Config is what a gateway is made of. All of it may be left out.
type Config struct {
	// Doors are where programs ask for work of a trade, by http.ServeMux pattern:
	// only JSON is taken, and browsers may call from Origins.
	Doors map[string]http.Handler
	// Keys are the API keys, which the doors ask by themselves: the admin endpoints
	// make them, and a gateway that cannot write them down is not ready.
	Keys *keys.Store
	// Observe is told what doors served, beside the gateway's own metrics.
	Observe func(trade.Served)
	// Admin mounts the admin endpoints when its Token is set.
	Admin admin.Config
	// Ready are the checks of /readyz.
	Ready []Check
	// Origins are the web origins that browsers may call the API from; "*" is
	// any: a key is needed all the same, and no browser sends one by itself.
	Origins []string
	// Hosts are more names that lead to where Serve listens; see package door.
	Hosts []string
	// Routes mounts what is for people, by http.ServeMux pattern.
	Routes map[string]http.Handler
	// Registry takes the metrics; nil makes a new one, with those of the
	// process.
	Registry *prometheus.Registry
	// TracerProvider turns tracing on; the W3C traceparent of callers is
	// followed.
	TracerProvider oteltrace.TracerProvider
	// Grace is how long requests in flight may go on once Serve is told to
	// end; 10 s.
	Grace time.Duration
	Log   *slog.Logger // nil is slog.Default()
}

// Check is one condition for being ready.
type Check struct {
	Name string
	Run  func(context.Context) error
}

// Gateway is a configured gateway. It is an http.Handler.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	handler http.Handler
	metrics *metrics
}

// New makes a gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.Registry == nil {
		cfg.Registry = newRegistry()
	}
	g := &Gateway{cfg: cfg, log: cfg.Log, metrics: newMetrics()}
	if err := g.metrics.register(cfg.Registry); err != nil {
		return nil, fmt.Errorf("gateway metrics: %w", err)
	}

	if err := (door.Door{Hosts: cfg.Hosts, Origins: cfg.Origins}).Check(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	mux := http.NewServeMux()
	for pattern, h := range cfg.Doors {
		mux.Handle(pattern, g.cors(door.JSON(h)))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", g.ready)
	if cfg.Admin.Token != "" {
		a := cfg.Admin
		if a.Keys == nil {
			a.Keys = cfg.Keys
		}
		if a.Log == nil {
			a.Log = cfg.Log
		}
		mux.Handle("/admin/v1/", admin.New(a))
	}
	for pattern, h := range cfg.Routes {
		mux.Handle(pattern, h)
	}
	g.handler = g.observe(mux)
	if cfg.TracerProvider != nil {
		g.handler = otelhttp.NewHandler(g.handler, "gateway",
			otelhttp.WithTracerProvider(cfg.TracerProvider),
			otelhttp.WithPropagators(propagation.TraceContext{}),
			otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + routeOf(r) }))
	}
	return g, nil
}

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// bodyTime is how long a request's body may take.
var bodyTime = 30 * time.Second // tests wait less

// Serve answers on ln until ctx ends, then lets requests in flight finish
// within Config.Grace, cancels those that do not, and returns when all have
// ended. It closes ln.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           door.Door{Listen: ln.Addr().String(), Hosts: g.cfg.Hosts}.Named(door.Timed(bodyTime, g)),
		BaseContext:       func(net.Listener) context.Context { return work },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	select {
	case err := <-failed:
		return fmt.Errorf("gateway: serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, stop := context.WithTimeout(work, g.cfg.Grace)
	err := srv.Shutdown(grace)
	stop()
	if err != nil {
		// The grace is over: cancelled work pays what it owes and ends by
		// itself; a second is plenty.
		cancel()
		last, stop := context.WithTimeout(context.Background(), time.Second)
		err = srv.Shutdown(last)
		stop()
		if err != nil {
			err = errors.Join(fmt.Errorf("gateway: requests in flight did not end: %w", err), srv.Close())
		}
	}
	if serr := <-failed; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// checkTimeout bounds one readiness check.
const checkTimeout = 2 * time.Second

func (g *Gateway) ready(w http.ResponseWriter, r *http.Request) {
	checks := g.cfg.Ready
	if k := g.cfg.Keys; k != nil {
		checks = append(checks[:len(checks):len(checks)], Check{"keys", func(context.Context) error { return k.Err() }})
	}
	out := struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}{true, map[string]string{}}
	for _, c := range checks {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		err := c.Run(ctx)
		cancel()
		out.Checks[c.Name] = "ok"
		if err != nil {
			out.Ready, out.Checks[c.Name] = false, err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if !out.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(out)
}
