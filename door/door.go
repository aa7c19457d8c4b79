// Package door decides which requests an HTTP listener answers at all, before
// anything of them is read or looked up.
//
// A web page of any site can make the browser of whoever reads it send requests
// to this machine: straight, since a browser asks no listener before a simple
// request, or under the page's own name, once that name leads here (DNS
// rebinding), and then the page reads the answers too. Three checks keep such
// requests out, each a func(http.Handler) http.Handler:
//
//   - [Door.Named]: the Host is a name of this listener's;
//   - [Door.Pages]: a web page that asks is of this listener or of an origin
//     that the operator named, and only such a page may read the answer;
//   - [JSON]: what is posted says that it is JSON, which no page can send
//     elsewhere without being asked for its origin first.
//
// [Timed] keeps a body that never comes from holding whoever waits for it.
package door

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Door is what one listener is called, and whose pages may use it.
type Door struct {
	Listen  string   // where it listens, host:port
	Hosts   []string // more names that lead to it: a proxy's, a tunnel's
	Origins []string // web origins, "https://app.example", whose pages may ask; "*" is any
}

// Check finds what no Host or Origin could ever equal.
func (d Door) Check() error {
	for _, h := range d.Hosts {
		if h == "" || h != hostname(h) || strings.ContainsAny(h, "/*@ ") {
			return fmt.Errorf("host %q: write a name or an address alone, in lower case: no scheme, port or *", h)
		}
	}
	for _, o := range d.Origins {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.ToLower(o) != o) {
			return fmt.Errorf("origin %q: write it as a browser does: scheme://host or scheme://host:port in lower case, or * for any", o)
		}
	}
	return nil
}

// hostname is a Host without its port, as names are compared; empty if it is none.
func hostname(host string) string {
	if h, port, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return ""
		}
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// address reads an IP literal; the port and the zone do not matter.
func address(name string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(name)
	return ip.Unmap().WithZone(""), err == nil
}

// answersTo reports whether a Host is a name of this listener's: a loopback
// name, the name or address that it listens on, one of Hosts. A listener on all
// interfaces has every address. No page can make an address or "localhost" lead
// elsewhere, so these are not rebound.
func (d Door) answersTo(host string) bool {
	name := hostname(host)
	if name == "" {
		return false
	}
	listen := hostname(d.Listen)
	if name == "localhost" || name == listen || slices.Contains(d.Hosts, name) {
		return !unspecified(name)
	}
	ip, ok := address(name)
	if !ok || ip.IsUnspecified() {
		return false
	}
	own, ok := address(listen)
	return ip.IsLoopback() || listen == "" || ok && (own.IsUnspecified() || own == ip)
}

func unspecified(name string) bool {
	ip, ok := address(name)
	return ok && ip.IsUnspecified()
}

// Named refuses requests that are addressed to somebody else.
func (d Door) Named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.answersTo(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "wrong_host", fmt.Sprintf(
				"this listener is not called %.80q; ask it by its address, or tell it its names (--hosts)", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Pages refuses requests of web pages that are neither of this listener nor of
// Origins, also those that a browser sends without asking (images, forms,
// WebSockets), and lets the latter read the answers. Following a link is not
// asking: its page sees no answer.
func (d Door) Pages(next http.Handler) http.Handler {
	any := slices.Contains(d.Origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		switch {
		case origin == "":
			site := r.Header.Get("Sec-Fetch-Site")
			if (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" && !any {
				refuse(w, http.StatusForbidden, "foreign_page", "this listener does not answer pages of other sites")
				return
			}
		case any || slices.Contains(d.Origins, origin):
			h.Set("Access-Control-Allow-Origin", origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST")
				h.Set("Access-Control-Allow-Headers", "Content-Type")
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		default:
			if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
				refuse(w, http.StatusForbidden, "foreign_page", fmt.Sprintf(
					"pages of %.80q may not ask here; its operator can let them (--ledger-origins)", origin))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// JSON refuses what is posted as anything else, or as nothing.
func JSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			kinds := r.Header.Values("Content-Type")
			kind := strings.Join(kinds, ", ")
			if media, _, err := mime.ParseMediaType(kind); err != nil || media != "application/json" || len(kinds) != 1 {
				refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", fmt.Sprintf(
					"the Content-Type is %.80q; send JSON, with \"Content-Type: application/json\"", kind))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Timed gives the body of each request d to arrive whole, whoever reads it.
// net/http itself reads what a handler left before it sends the answer, and
// would wait for ever. A handler may set another deadline.
func Timed(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			c := http.NewResponseController(w)
			if c.SetReadDeadline(time.Now().Add(d)) == nil { // not every ResponseWriter has one
				r = r.WithContext(r.Context()) // a copy: net/http looks at its own request's body
				r.Body = &timed{r.Body, c}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// timed takes the deadline away once the body is there: the connection is read
// on, to notice when the client goes away.
type timed struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (t *timed) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = t.conn.SetReadDeadline(time.Time{}) // it was set, so it can be
	}
	return n, err
}

// refuse answers in JSON, as the listeners behind doors do.
func refuse(w http.ResponseWriter, status int, code, message string) {
	b, err := json.Marshal(map[string]any{"error": map[string]string{"type": "invalid_request_error", "code": code, "message": message}})
	if err != nil {
		panic(err) // strings always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}
