package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/gateway/sellertest"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const ask = `{"model":"tiny","max_tokens":5,"messages":[{"role":"user","content":"a secret prompt"}]}`

func post(t *testing.T, url, secret, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

// doors are those of inference.
func doors(t *testing.T, cfg openai.Config) map[string]http.Handler {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Observe = func(ctx context.Context, e openai.Event) { gateway.Observe(ctx, e.Served()) }
	h, err := openai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]http.Handler{"/v1/": h}
}

func TestGateway(t *testing.T) {
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ks.Close()
	secret, key, err := ks.Create(keys.Grant{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	spans := tracetest.NewInMemoryExporter()
	tp := trace.NewTracerProvider(trace.WithSyncer(spans))
	var moving error
	g, err := gateway.New(gateway.Config{
		Doors:          doors(t, openai.Config{Seller: sellertest.New(), Keys: ks}),
		Keys:           ks,
		Ready:          []gateway.Check{{Name: "ledger", Run: func(context.Context) error { return moving }}},
		Log:            slog.New(slog.NewJSONHandler(log, nil)),
		TracerProvider: tp,
		Routes:         map[string]http.Handler{"GET /panics": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") })},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	defer srv.Close()

	req, _ := http.NewRequest("POST", srv.URL+"/v1/chat/completions", strings.NewReader(ask))
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", "mine.1")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	res, body := do(t, req)
	if res.StatusCode != 200 || res.Header.Get("X-Request-Id") != "mine.1" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for range 500 { // the log line is written after the answer
		if strings.Contains(log.String(), "mine.1") {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	for k, want := range map[string]any{
		"request_id": "mine.1", "route": "/v1/chat/completions", "status": 200.0, "key": key.ID, "trade": "infer", "subject": "tiny",
		"receipt": res.Header.Get("Torg-Receipt"), "lease_id": res.Header.Get("Torg-Lease"), "provider": res.Header.Get("Torg-Provider"),
		"trace_id": "0af7651916cd43dd8448eb211c80319c", "completion_tokens": 5.0,
	} {
		if line[k] != want {
			t.Errorf("log %s: %v, want %v", k, line[k], want)
		}
	}
	post(t, srv.URL+"/v1/chat/completions", secret, `{"model":"nope","messages":[{"role":"user","content":"a secret prompt"}]}`)
	post(t, srv.URL+"/v1/chat/completions", "torg-wrong", ask)
	if s := log.String(); strings.Contains(s, secret) || strings.Contains(s, "secret prompt") || strings.Contains(s, "torg-wrong") {
		t.Errorf("the log holds a secret: %s", s)
	}
	if n := len(spans.GetSpans()); n == 0 {
		t.Error("no spans")
	} else if s := spans.GetSpans()[0]; s.SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("span %s in trace %s", s.Name, s.SpanContext.TraceID())
	}

	req, _ = http.NewRequest("GET", srv.URL+"/healthz", nil)
	req.Header.Set("X-Request-Id", "forged\tline")
	if res, body := do(t, req); res.StatusCode != 200 || body != "ok\n" || !strings.HasPrefix(res.Header.Get("X-Request-Id"), "req_") {
		t.Errorf("healthz: %d %q, id %q", res.StatusCode, body, res.Header.Get("X-Request-Id"))
	}
	if res, body := get(t, srv.URL+"/readyz"); res.StatusCode != 200 || !strings.Contains(body, `"ledger":"ok"`) || !strings.Contains(body, `"keys":"ok"`) {
		t.Errorf("readyz: %d %s", res.StatusCode, body)
	}
	moving = errors.New("height 12 for 9 s")
	if res, body := get(t, srv.URL+"/readyz"); res.StatusCode != 503 || !strings.Contains(body, "height 12") {
		t.Errorf("readyz: %d %s", res.StatusCode, body)
	}
	if res, body := get(t, srv.URL+"/panics"); res.StatusCode != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "oh") {
		t.Errorf("panic: %d %s", res.StatusCode, body)
	}
	if res, _ := get(t, srv.URL+"/admin/v1/keys"); res.StatusCode != 404 {
		t.Errorf("admin without a token: %d", res.StatusCode)
	}
	_, body = get(t, srv.URL+"/metrics")
	for _, want := range []string{
		`torg_gateway_requests_total{code="200",route="/v1/chat/completions"} 1`,
		`torg_gateway_requests_total{code="404",route="/v1/chat/completions"} 1`,
		`torg_gateway_requests_total{code="401",route="/v1/chat/completions"} 1`,
		`torg_gateway_requests_total{code="500",route="/panics"} 1`,
		`torg_gateway_units_total{trade="infer",unit="completion_tokens"} 5`,
		`torg_gateway_cost_units_total{denom="utorg"} 26`, // 16 of prompt, 5 at 2 of completion
		`torg_gateway_first_piece_seconds_count{door="chat",trade="infer"} 1`,
		`torg_gateway_overhead_seconds_count 1`,
		`torg_gateway_requests_in_flight 1`, // this one
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(grep(body, "torg_"))
	}
}

func grep(s, what string) string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if strings.HasPrefix(l, what) && !strings.Contains(l, "_bucket") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func TestCORS(t *testing.T) {
	for _, tc := range []struct {
		origins []string
		allowed string
	}{{nil, ""}, {[]string{"https://a.example"}, "https://a.example"}, {[]string{"*"}, "https://a.example"}, {[]string{"https://b.example"}, ""}} {
		g, err := gateway.New(gateway.Config{Doors: doors(t, openai.Config{Seller: sellertest.New()}), Origins: tc.origins, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("OPTIONS", "/v1/chat/completions", nil)
		r.Header.Set("Origin", "https://a.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization, x-stainless-lang")
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != tc.allowed || (w.Code == 204) != (tc.allowed != "") {
			t.Errorf("%v: preflight %d allows %q, want %q", tc.origins, w.Code, got, tc.allowed)
		}
		if tc.allowed != "" && w.Header().Get("Access-Control-Allow-Headers") != "authorization, x-stainless-lang" {
			t.Errorf("headers %q", w.Header().Get("Access-Control-Allow-Headers"))
		}
		r = httptest.NewRequest("GET", "/v1/models", nil)
		r.Header.Set("Origin", "https://a.example")
		w = httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != tc.allowed || w.Code != 200 {
			t.Errorf("%v: %d allows %q", tc.origins, w.Code, got)
		}
	}
}

// TestServe: a gateway told to end finishes what it can, cancels the rest, and
// leaves nothing running.
func TestServe(t *testing.T) {
	for name, tc := range map[string]struct {
		tokens string
		ends   string
	}{"finishes": {"10", "data: [DONE]\n\n"}, "cancels": {"30000", `"code":"cancelled"}}` + "\n\n"}} {
		t.Run(name, func(t *testing.T) {
			seller := sellertest.New()
			seller.Delay = 10 * time.Millisecond
			g, err := gateway.New(gateway.Config{Doors: doors(t, openai.Config{Seller: seller}), Grace: 400 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- g.Serve(ctx, ln) }()
			body := make(chan string, 1)
			go func() {
				_, b := post(t, "http://"+ln.Addr().String()+"/v1/completions", "", `{"model":"slow","prompt":"x","stream":true,"max_tokens":`+tc.tokens+`}`)
				body <- b
			}()
			for end := time.Now().Add(time.Minute); seller.Running.Load() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if n := seller.Running.Load(); n != 0 {
				t.Errorf("%d requests still run", n)
			}
			if b := <-body; !strings.HasSuffix(b, tc.ends) {
				t.Errorf("the stream ends with %q", b[max(0, len(b)-300):])
			}
			if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				t.Error("the port is still open")
			}
		})
	}
}

var _ buyer.Seller = (*sellertest.Seller)(nil)
