package node

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// What one address may ask of a listener: a refused transaction costs its sender
// nothing and the node the look at it. The ledger's own limits of what may wait
// do not help here, since they are found out by looking.
const (
	asksPerSecond = 300
	asksAtOnce    = 1500
	maxAskers     = 10_000 // addresses remembered
)

// rate counts what addresses ask. An IPv6 host has as many addresses as it likes
// in its network, so there the network is counted.
type rate struct {
	mu     sync.Mutex
	askers map[netip.Prefix]*bucket
	now    func() time.Time
}

type bucket struct {
	left float64
	at   time.Time
}

func newRate() *rate { return &rate{askers: map[netip.Prefix]*bucket{}, now: time.Now} }

// limited lets an address ask asksAtOnce questions, and asksPerSecond from then on.
func (r *rate) limited(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !r.take(q.RemoteAddr) {
			w.Header().Set("Retry-After", strconv.Itoa(1))
			http.Error(w, "too many requests from this address", http.StatusTooManyRequests)
			return
		}
		h.ServeHTTP(w, q)
	})
}

func (r *rate) take(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false // a listener always knows who connected
	}
	bits := 32
	if addr = addr.Unmap(); addr.Is6() {
		bits = 64
	}
	who, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.askers[who]
	if b == nil {
		if len(r.askers) >= maxAskers {
			r.forget(now)
		}
		if len(r.askers) >= maxAskers {
			return false
		}
		b = &bucket{left: asksAtOnce, at: now}
		r.askers[who] = b
	}
	b.fill(now)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

func (b *bucket) fill(now time.Time) {
	b.left = min(asksAtOnce, b.left+now.Sub(b.at).Seconds()*asksPerSecond)
	b.at = now
}

// forget drops who has asked for nothing lately.
func (r *rate) forget(now time.Time) {
	for who, b := range r.askers {
		if b.fill(now); b.left >= asksAtOnce {
			delete(r.askers, who)
		}
	}
}
