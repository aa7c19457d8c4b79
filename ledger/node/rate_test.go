package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRate()
	r.now = func() time.Time { return now }
	h := r.limited(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(from string) int {
		q := httptest.NewRequest(http.MethodGet, "/", nil)
		q.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		return w.Code
	}
	for n := range asksAtOnce {
		if c := ask(fmt.Sprintf("[2001:db8::%x]:5", n+1)); c != http.StatusOK {
			t.Fatalf("question %d: %d", n, c)
		}
	}
	if ask("[2001:db8::ffff:1]:5") != http.StatusTooManyRequests {
		t.Error("another address of the same network asks on")
	}
	if ask("[2001:db9::1]:5") != http.StatusOK || ask("192.0.2.1:5") != http.StatusOK {
		t.Error("somebody else is refused")
	}
	now = now.Add(time.Second)
	for range asksPerSecond {
		if ask("[2001:db8::1]:5") != http.StatusOK {
			t.Fatal("refused after a second")
		}
	}
	if ask("[2001:db8::1]:5") != http.StatusTooManyRequests {
		t.Error("more than a second's worth")
	}
	for n := range maxAskers + 10 {
		ask(fmt.Sprintf("10.%d.%d.%d:1", n>>16, n>>8&255, n&255))
	}
	if len(r.askers) > maxAskers {
		t.Errorf("%d addresses are remembered", len(r.askers))
	}
	now = now.Add(time.Minute)
	if ask("203.0.113.9:1") != http.StatusOK {
		t.Error("a newcomer is refused though others asked long ago")
	}
}
