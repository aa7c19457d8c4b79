package buyer_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
)

// turn makes a seller a crook: its wire goes through wrap.
func (s *stall) turn(t *testing.T, wrap func(http.Handler) http.Handler) {
	t.Helper()
	s.stop()
	s.wrap = wrap
	s.start(t)
}

// TestOneUnknownOutcome: a provider that has answered before, and then takes vouchers
// and cuts connections, gets one and no more, however many lanes are free.
func TestOneUnknownOutcome(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	var cuts atomic.Bool
	var mu sync.Mutex
	vouchers := map[square.Hash]bool{}
	s.turn(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cuts.Load() && strings.HasSuffix(r.URL.Path, "/lane") {
				time.Sleep(time.Second) // and while somebody asks, others want to be served
				panic(http.ErrAbortHandler)
			}
			if cuts.Load() && strings.HasSuffix(r.URL.Path, "/serve") {
				var q infer.ServeRequest
				if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
					t.Error(err)
				}
				mu.Lock()
				vouchers[q.Voucher.Channel] = true
				mu.Unlock()
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	d := buy(t, l, func(c *config) { c.Grace, c.Wait = 200*time.Millisecond, time.Second })
	if _, err := d.Do(t.Context(), ask("toy", 0, 3), nil); err != nil {
		t.Fatal(err)
	}
	cuts.Store(true)
	for n := range 6 {
		if _, err := d.Do(t.Context(), ask("toy", n+1, 3), nil); err == nil {
			t.Fatal("a request that was cut off is answered")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(vouchers) != 1 {
		t.Errorf("it has vouchers on %d lanes", len(vouchers))
	}
}

// TestAccuse: a receipt whose price its own units do not give costs its provider the
// bond, though nobody re-executes anything.
func TestAccuse(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.turn(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/serve") {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			for line := range bytes.Lines(rec.Body.Bytes()) {
				var f infer.Frame
				if err := json.Unmarshal(line, &f); err != nil {
					t.Error(err)
				}
				if f.Receipt != nil {
					f.Receipt.Receipt.Price++
					f.Receipt.Receipt.Cumulative++
					f.Receipt.Sig = s.cfg.Key.Sign(f.Receipt.Receipt.Digest(square.LedgerDomain(fake.ChainID)))
				}
				_ = json.NewEncoder(w).Encode(f)
			}
		})
	})
	d := buy(t, l, nil) // and no model to audit with
	if _, err := d.Do(t.Context(), ask("toy", 0, 3), nil); err == nil {
		t.Fatal("an overcharged answer was taken")
	}
	if x := l.Leases()[0]; x.State != market.Slashed || x.Reason != market.ReasonFraud {
		t.Errorf("the lease is %s (%s)", x.State, x.Reason)
	}
}
