package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
)

// books are two receipts and a lease.
type books struct{ closed []square.Hash }

var one, two = square.Hash{1}, square.Hash{2}

func (b *books) Receipts(_ context.Context, f admin.Filter, before time.Time, limit int) ([]admin.Receipt, time.Time, error) {
	if !before.IsZero() || f.Key == "nobody" {
		return nil, time.Time{}, nil
	}
	if limit == 1 {
		return []admin.Receipt{{ID: two, Subject: f.What}}, time.UnixMicro(1_700_000_000_123_456), nil
	}
	return []admin.Receipt{{ID: two}, {ID: one}}, time.Time{}, nil
}

func (b *books) Find(_ context.Context, digits string) (square.Hash, error) {
	switch digits {
	case "01":
		return one, nil
	case "03":
		return one, fmt.Errorf("receipt %s: %w", digits, admin.ErrNotFound)
	}
	return one, errors.New("want hexadecimal digits")
}

func (b *books) Receipt(_ context.Context, id square.Hash) (admin.Receipt, error) {
	if id != one {
		return admin.Receipt{}, fmt.Errorf("receipt %s: %w", id.Short(), admin.ErrNotFound)
	}
	return admin.Receipt{ID: one, Subject: "tiny", Evidence: &square.Evidence{Request: []byte("q")}}, nil
}

func (b *books) Leases(_ context.Context, after string, limit int) ([]admin.Lease, string, error) {
	if after != "" || limit != 1 {
		return nil, "", nil
	}
	return []admin.Lease{{ID: one}}, "more", nil
}

func (b *books) CloseLease(_ context.Context, id square.Hash) (admin.Lease, error) {
	b.closed = append(b.closed, id)
	return admin.Lease{ID: id, State: "settled"}, nil
}

func (b *books) Audit(_ context.Context, id square.Hash) (admin.Audit, error) {
	return admin.Audit{Receipt: id, Verdict: square.VerdictOK}, nil
}

// machine is a provider that takes at most eight lanes.
type machine struct{ admin.Control }

func (m *machine) ProviderReport() any { return map[string]any{"control": m.Control} }

func (m *machine) SetProvider(c admin.Control) error {
	if c.Lanes > 8 {
		return fmt.Errorf("lanes %d: %w", c.Lanes, admin.ErrControl)
	}
	m.Control = c
	return nil
}

func TestAdmin(t *testing.T) {
	ks, err := keys.Open(filepath.Join(t.TempDir(), "k.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ks.Close()
	token, err := admin.Token(filepath.Join(t.TempDir(), "sub", "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	b := &books{}
	h := admin.New(admin.Config{Token: token, Keys: ks, Receipts: b, Leases: b, Auditor: b, Provider: &machine{}, Log: slog.New(slog.DiscardHandler)})
	call := func(method, path, body string, change func(*http.Request)) (int, string) {
		r := httptest.NewRequest(method, "http://127.0.0.1:8800"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:4242"
		r.Header.Set("Authorization", "Bearer "+token)
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}

	code, body := call("POST", "/admin/v1/keys", `{"name":"ci","budget":"5000","requests_per_minute":60}`, nil)
	var made admin.Created
	if err := json.Unmarshal([]byte(body), &made); code != 200 || err != nil || *made.Key.Budget != 5000 || made.Key.Requests != 60 {
		t.Fatalf("%d %v %s", code, err, body)
	}
	if _, err := ks.Check(made.Secret); err != nil {
		t.Fatalf("the new key does not open: %v", err)
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		saying             string
	}{
		{"GET", "/admin/v1/keys", "", 200, made.Key.ID},
		{"GET", "/admin/v1/keys/" + made.Key.ID, "", 200, `"budget":"5000"`},
		{"GET", "/admin/v1/keys/key_none", "", 404, "not_found"},
		{"POST", "/admin/v1/keys/" + made.Key.ID + "/budget", `{"budget":"7"}`, 200, `"budget":"7"`},
		{"POST", "/admin/v1/keys/" + made.Key.ID + "/budget", `{"budget":null}`, 200, `"name":"ci"`},
		{"POST", "/admin/v1/keys/" + made.Key.ID + "/budget", `{"budget":"18446744073709551615"}`, 400, "supply"},
		{"POST", "/admin/v1/keys/" + made.Key.ID + "/revoke", "", 200, `"disabled":true`},
		{"POST", "/admin/v1/keys", `{"naem":"x"}`, 400, "naem"},
		{"POST", "/admin/v1/keys", `{} {}`, 400, "more after"},
		{"POST", "/admin/v1/keys", `{"name":"` + strings.Repeat("x", 129) + `"}`, 400, "128"},
		{"POST", "/admin/v1/keys", `{"name":"` + strings.Repeat("x", 1<<17) + `"}`, 400, "too large"},
		{"GET", "/admin/v1/receipts", "", 200, two.String()},
		{"GET", "/admin/v1/receipts?limit=1&before=2026-01-02T03:04:05Z", "", 200, `{"data":[]}`},
		{"GET", "/admin/v1/receipts?limit=0", "", 400, "limit"},
		{"GET", "/admin/v1/receipts?limit=1&what=tiny", "", 200, `"subject":"tiny"`},
		{"GET", "/admin/v1/receipts?limit=1", "", 200, `"next":"2023-11-14T22:13:20.123456Z"`},
		{"GET", "/admin/v1/receipts?key=nobody", "", 200, `{"data":[]}`},
		{"GET", "/admin/v1/receipts?lease=1", "", 400, "lease"},
		{"GET", "/admin/v1/receipts?provider=torg1", "", 400, "provider"},
		{"GET", "/admin/v1/receipts/01", "", 200, one.String()},
		{"GET", "/admin/v1/receipts/03", "", 404, "not_found"},
		{"GET", "/admin/v1/leases?limit=1", "", 200, `"next":"more"`},
		{"GET", "/admin/v1/leases?limit=1&after=more", "", 200, `{"data":[]}`},
		{"GET", "/admin/v1/leases?limit=1001", "", 400, "limit"},
		{"GET", "/admin/v1/keys?limit=x", "", 400, "limit"},
		{"GET", "/admin/v1/keys?limit=1&after=" + made.Key.ID, "", 200, `{"data":[]}`},
		{"GET", "/admin/v1/receipts?before=yesterday", "", 400, "before"},
		{"GET", "/admin/v1/receipts/" + one.String(), "", 200, `"request":"cQ=="`},
		{"GET", "/admin/v1/receipts/" + two.String(), "", 404, "not_found"},
		{"GET", "/admin/v1/receipts/xyz", "", 400, "hex"},
		{"POST", "/admin/v1/receipts/" + one.String() + "/audit", "", 200, `"verdict":"ok"`},
		{"GET", "/admin/v1/leases", "", 200, `{"data":[]}`},
		{"POST", "/admin/v1/leases/" + one.String() + "/close", "", 200, "settled"},
		{"POST", "/admin/v1/provider", `{"paused":true,"lanes":8}`, 200, `"paused":true,"lanes":8`},
		{"GET", "/admin/v1/provider", "", 200, `"paused":true,"lanes":8`},
		{"POST", "/admin/v1/provider", `{"lanes":9}`, 400, "lanes 9"},
		{"POST", "/admin/v1/provider", `{"pause":true}`, 400, "pause"},
		{"GET", "/admin/v1/status", "", 501, "absent"},
		{"GET", "/admin/v1/nonsense", "", 404, "unknown_url"},
	} {
		code, body := call(tc.method, tc.path, tc.body, nil)
		if code != tc.status || !strings.Contains(body, tc.saying) {
			t.Errorf("%s %s %.60s: %d %s, want %d …%s…", tc.method, tc.path, tc.body, code, body, tc.status, tc.saying)
		}
	}
	if len(b.closed) != 1 || b.closed[0] != one {
		t.Errorf("closed %v", b.closed)
	}
	for name, tc := range map[string]struct {
		status int
		change func(*http.Request)
	}{
		"another machine": {403, func(r *http.Request) { r.RemoteAddr = "192.0.2.7:4242" }},
		"a rebound name":  {403, func(r *http.Request) { r.Host = "evil.example" }},
		"a web page":      {403, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }},
		"no token":        {401, func(r *http.Request) { r.Header.Del("Authorization") }},
		"a wrong token":   {401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[1:]+"0") }},
		"an API key":      {401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+made.Secret) }},
		"IPv6":            {200, func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4242", "[::1]:8800" }},
		"localhost":       {200, func(r *http.Request) { r.Host = "localhost:8800" }},
	} {
		for _, path := range []string{"keys", "pprof/heap", "pprof/profile?seconds=1"} {
			if tc.status == 200 && strings.Contains(path, "seconds") {
				continue // takes a second
			}
			if code, body := call("GET", "/admin/v1/"+path, "", tc.change); code != tc.status {
				t.Errorf("%s: %s: %d %s, want %d", name, path, code, body, tc.status)
			}
		}
	}
	for path, want := range map[string]int{"heap": 200, "goroutine": 200, "profile?seconds=1": 200, "profile?seconds=0": 400, "trace?seconds=61": 400, "profile?seconds=-1": 400, "cmdline": 404} {
		code, body := call("GET", "/admin/v1/pprof/"+path, "", nil)
		if code != want || code == 200 && !strings.HasPrefix(body, "\x1f\x8b") {
			t.Errorf("profile %s: %d, want %d: %.40q", path, code, want, body)
		}
	}
	// A process without books says so, and an empty token opens nothing.
	h = admin.New(admin.Config{Token: token, Log: slog.New(slog.DiscardHandler)})
	for _, p := range []string{"keys", "receipts", "leases", "status"} {
		if code, _ := call("GET", "/admin/v1/"+p, "", nil); code != 501 {
			t.Errorf("%s: %d", p, code)
		}
	}
	h = admin.New(admin.Config{})
	if code, _ := call("GET", "/admin/v1/keys", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }); code != 401 {
		t.Errorf("an empty token: %d", code)
	}
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.token")
	a, err := admin.Token(path)
	if err != nil || len(a) != 64 {
		t.Fatalf("%q %v", a, err)
	}
	if b, err := admin.Token(path); err != nil || a != b {
		t.Errorf("read back %q, %v", b, err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Token(path); err == nil {
		t.Error("a short token passes")
	}
}
