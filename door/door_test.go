package door_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/door"
)

var open = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") })

func TestNamed(t *testing.T) {
	all := []string{"evil.example", "evil.example:8800", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "0.0.0.0:8800", "[::]:8800",
		"", ":8800", "localhost:8800@evil.example", "2130706433", "0x7f000001", "127.1", "evil.localhost.", "torg.example", "10.0.0.9", "[2001:db8::9]:1", "::ffff:0.0.0.0"}
	for _, c := range []struct {
		listen string
		hosts  []string
		in     []string // of all, and these
	}{
		{"127.0.0.1:8800", nil, []string{"127.0.0.1:8800", "127.0.0.1", "localhost:8800", "LOCALHOST", "localhost.", "[::1]:8800", "::1", "127.9.9.9:1", "[::ffff:127.0.0.1]:8800"}},
		{"localhost:8800", nil, []string{"127.0.0.1:8800", "localhost:8800"}},
		{"10.0.0.9:8800", nil, []string{"10.0.0.9", "localhost"}},
		{"torg.example:8800", nil, []string{"torg.example", "TORG.example:443", "torg.example."}},
		{"127.0.0.1:8800", []string{"torg.example", "10.0.0.9"}, []string{"torg.example", "10.0.0.9"}},
		{"0.0.0.0:8800", nil, []string{"10.0.0.9", "[2001:db8::9]:1", "[fe80::1%eth0]:8800"}},
		{"[::]:8800", []string{"torg.example"}, []string{"10.0.0.9", "[2001:db8::9]:1", "torg.example"}},
		{":8800", nil, []string{"10.0.0.9", "[2001:db8::9]:1", "localhost"}},
	} {
		in := map[string]bool{}
		for _, h := range c.in {
			in[h] = true
		}
		d := door.Door{Listen: c.listen, Hosts: c.hosts}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		h := d.Named(open)
		for _, host := range append(c.in, all...) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = host
			r.Header.Set("X-Forwarded-Host", "localhost") // says the client, which may be anybody
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if (w.Code == 200) != in[host] || !in[host] && (w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "in\n")) {
				t.Errorf("%v answers to %q: %d %s", d, host, w.Code, w.Body)
			}
		}
	}
}

func TestPages(t *testing.T) {
	for _, c := range []struct {
		origins []string
		headers string // Name=value;…
		method  string
		in      bool
		reads   string
	}{
		{nil, "", "GET", true, ""}, // a program
		{nil, "Origin=https://evil.example", "POST", false, ""},
		{nil, "Origin=https://evil.example;Connection=Upgrade;Upgrade=websocket", "GET", false, ""},
		{nil, "Origin=null", "POST", false, ""},
		{nil, "Origin=http://127.0.0.1:9999", "POST", false, ""}, // another port is another site
		{nil, "Origin=http://127.0.0.1:8820.evil.example", "POST", false, ""},
		{nil, "Origin=http://127.0.0.1:8820", "POST", true, ""},
		{nil, "Sec-Fetch-Site=cross-site;Sec-Fetch-Mode=no-cors", "GET", false, ""}, // <img>
		{nil, "Sec-Fetch-Site=same-site;Sec-Fetch-Mode=no-cors", "GET", false, ""},
		{nil, "Sec-Fetch-Site=cross-site;Sec-Fetch-Mode=navigate", "GET", true, ""},
		{nil, "Sec-Fetch-Site=none;Sec-Fetch-Mode=navigate", "GET", true, ""},
		{nil, "Sec-Fetch-Site=same-origin;Sec-Fetch-Mode=cors", "GET", true, ""},
		{[]string{"https://app.example"}, "Origin=https://app.example", "POST", true, "https://app.example"},
		{[]string{"https://app.example"}, "Origin=https://app.example.evil.example", "POST", false, ""},
		{[]string{"https://app.example"}, "Origin=http://app.example", "POST", false, ""},
		{[]string{"*"}, "Origin=https://evil.example", "POST", true, "https://evil.example"},
	} {
		d := door.Door{Listen: "127.0.0.1:8820", Origins: c.origins}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		for _, preflight := range []bool{false, true} {
			r := httptest.NewRequest(c.method, "/", nil)
			r.Host = "127.0.0.1:8820"
			for _, h := range strings.Split(c.headers, ";") {
				if name, v, ok := strings.Cut(h, "="); ok {
					r.Header.Set(name, v)
				}
			}
			want := 200
			if preflight {
				if r.Header.Get("Origin") == "" {
					continue
				}
				r.Method = "OPTIONS"
				r.Header.Set("Access-Control-Request-Method", "POST")
				if c.reads != "" {
					want = 204
				}
			}
			if !c.in {
				want = 403
			}
			w := httptest.NewRecorder()
			d.Pages(open).ServeHTTP(w, r)
			if got := w.Header().Get("Access-Control-Allow-Origin"); w.Code != want || got != c.reads {
				t.Errorf("%+v, preflight %v: %d, want %d; %q reads the answer", c, preflight, w.Code, want, got)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Error("with credentials")
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, d := range []door.Door{
		{Hosts: []string{"http://torg.example"}}, {Hosts: []string{"torg.example:80"}}, {Hosts: []string{"*"}}, {Hosts: []string{""}}, {Hosts: []string{"Torg.example"}},
		{Origins: []string{"app.example"}}, {Origins: []string{"https://app.example/"}}, {Origins: []string{"https://*.example", "null", ""}}, {Origins: []string{"https://App.example"}},
	} {
		if d.Check() == nil {
			t.Errorf("%v would never let anybody in, and nobody is told", d)
		}
	}
}

func TestJSON(t *testing.T) {
	for kind, in := range map[string]bool{
		"application/json": true, "application/json; charset=utf-8": true, "Application/JSON": true,
		"": false, "text/plain": false, "text/plain; application/json": false, "text/plain, application/json": false,
		"application/x-www-form-urlencoded": false, "multipart/form-data; boundary=application/json": false, "application/jsonp": false,
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		w := httptest.NewRecorder()
		door.JSON(open).ServeHTTP(w, r)
		if (w.Code == 200) != in || !in && w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", kind, w.Code)
		}
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	r.Header["Content-Type"] = []string{"application/json", "text/plain"}
	w := httptest.NewRecorder()
	if door.JSON(open).ServeHTTP(w, r); w.Code == 200 {
		t.Error("two kinds at once were taken")
	}
}

// A handler that answers without reading the body is not held by a body that
// never comes: net/http would wait for it before it sends the answer.
func TestTimed(t *testing.T) {
	s := httptest.NewServer(door.Timed(200*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/reads" {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
				return
			}
			// The whole body is there: what is waited for now is not the client.
			select {
			case <-time.After(400 * time.Millisecond):
				fmt.Fprintf(w, "%s", b)
			case <-r.Context().Done():
				w.WriteHeader(http.StatusTeapot)
			}
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	})))
	defer s.Close()
	for path, want := range map[string]string{"/refuses": "401", "/reads": "408"} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1", path)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Errorf("%s: %q, %v", path, line, err)
		}
	}
	res, err := http.Post(s.URL+"/reads", "text/plain", strings.NewReader("whole"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "whole" {
		t.Errorf("a body that came in time: %d %q", res.StatusCode, b)
	}
}
