package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/gateway/sellertest"
)

// What a web page whose name was made to lead here asks is answered by none of
// the gateway's doors, and what is no JSON by none of the API's.
func TestDoors(t *testing.T) {
	g, err := gateway.New(gateway.Config{
		Doors: doors(t, openai.Config{Seller: sellertest.New()}), Hosts: []string{"torg.example"}, Log: slog.New(slog.DiscardHandler),
		Routes: map[string]http.Handler{"/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") })},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.SetBodyTime(300 * time.Millisecond)()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	for _, path := range []string{"/", "/v1/models", "/metrics", "/healthz", "/readyz", "/enter?token=x"} {
		for host, status := range map[string]int{"": 200, "localhost": 200, "torg.example": 200, "evil.example": 421} {
			r, err := http.NewRequest("GET", "http://"+ln.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			if res, b := do(t, r); res.StatusCode != status {
				t.Errorf("%s of %q: %d %s", path, host, res.StatusCode, b)
			}
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		r, err := http.NewRequest("POST", "http://"+ln.Addr().String()+"/v1/chat/completions", strings.NewReader(ask))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if res, b := do(t, r); res.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d %s", kind, res.StatusCode, b)
		}
	}
	// The profiler that libraries put on net/http's own mux is not served.
	if _, b := get(t, "http://"+ln.Addr().String()+"/debug/pprof/"); b != "page" {
		t.Errorf("/debug/pprof/ answers %s", b)
	}
	if _, err := gateway.New(gateway.Config{Doors: doors(t, openai.Config{Seller: sellertest.New()}), Hosts: []string{"http://torg.example"}}); err == nil {
		t.Error("a host that no request can have was taken")
	}
	// A body that never comes does not keep an answer back for ever, though
	// nobody reads it.
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("%q, %v", line, err)
	}
}

// A client that does not read its answer holds its handler, and the place it has,
// for as long as one write may take; one that is slow between writes does not.
func TestSlowReader(t *testing.T) {
	defer gateway.SetWriteTime(200 * time.Millisecond)()
	ended := make(chan error, 1)
	g, err := gateway.New(gateway.Config{
		Doors: doors(t, openai.Config{Seller: sellertest.New()}), Log: slog.New(slog.DiscardHandler),
		Routes: map[string]http.Handler{
			"/large": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := w.Write(make([]byte, 64<<20))
				ended <- err
			}),
			"/pauses": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 3 {
					io.WriteString(w, "word ")
					http.NewResponseController(w).Flush()
					time.Sleep(300 * time.Millisecond) // the model thinks
				}
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()
	defer func() {
		cancel()
		<-served
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
	select {
	case err := <-ended:
		if err == nil {
			t.Error("64 MiB went to a client that reads nothing")
		}
	case <-time.After(time.Minute):
		t.Fatal("a client that reads nothing holds its handler")
	}
	for range 2 { // on one connection: no deadline is left from the answer before
		if res, b := get(t, "http://"+ln.Addr().String()+"/pauses"); res.StatusCode != 200 || b != "word word word " {
			t.Errorf("%d %q", res.StatusCode, b)
		}
	}
}
