package buyer_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/wire"
)

// crash copies the desk's disk as a process leaves it that is killed now, and
// starts a desk on the copy.
func (d *shop) crash(t *testing.T) *shop {
	t.Helper()
	path := filepath.Join(t.TempDir(), "buyer.db")
	for _, end := range []string{"", ".log"} {
		b, err := os.ReadFile(d.path + end)
		if err == nil {
			err = os.WriteFile(path+end, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copySegments(t, d.path, path)
	again := &shop{cfg: d.cfg, path: path}
	again.start(t)
	t.Cleanup(func() {
		if again.stop != nil {
			again.stop()
		}
	})
	return again
}

// copySegments copies what a journal has of receipts beside its file, if anything.
func copySegments(t *testing.T, from, to string) {
	err := os.CopyFS(to+".segments", os.DirFS(from+".segments"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// What an account's answers have cost is known after a crash at any moment: by
// their receipts, and of a request that ran by the most it may cost, until its
// provider has said how it ended.
func TestSpentAfterCrash(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 16, toy, infertest.Toy{Name: "slow", Pace: 20 * time.Millisecond})
	d := buy(t, l, nil)
	var sum uint64
	for i := range 5 {
		a := ask("toy", i, 3)
		a.Account = "key_a"
		ans, err := d.Do(t.Context(), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum += ans.Cost.Units
		if got := d.crash(t).Spent("key_a"); got != sum {
			t.Fatalf("killed after answer %d: %d, spent were %d", i, got, sum)
		}
	}

	// Killed in the middle of an answer.
	a := ask("slow", 1, 20)
	a.Account = "key_b"
	most := uint64(len(a.Request.Prompt)) + 20*5/2
	var again *shop
	_, err := d.Do(t.Context(), a, func(infer.Delta) error {
		if again == nil {
			again = d.crash(t)
			if got := again.Spent("key_b"); got != most {
				t.Errorf("killed in the middle: %d, it may cost %d", got, most)
			}
		}
		return errors.New("enough") // so that it costs less than it might
	})
	if err != nil && !errors.Is(err, desk.ErrUnknown) {
		t.Fatal(err)
	}
	price := d.Spent("key_b")
	if price == 0 || price >= most {
		t.Fatalf("the answer cost %d of at most %d", price, most)
	}
	waitFor(t, "the desk that was killed to learn what the answer cost", func() bool { return again.Spent("key_b") == price })
}

// TestSpentOnAThief: what a provider took with a voucher, and gave neither answer nor
// receipt for, stays spent by whom it was signed for, also when the lease is gone.
func TestSpentOnAThief(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	var took atomic.Pointer[wire.Payment]
	s.turn(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/lane") {
				panic(http.ErrAbortHandler)
			}
			if strings.HasSuffix(r.URL.Path, "/serve") {
				var q infer.ServeRequest
				if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
					t.Error(err)
				}
				took.Store(&q.Payment)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	d := buy(t, l, func(c *config) { c.Grace = 200 * time.Millisecond })
	a := ask("toy", 1, 3)
	a.Account = "key_a"
	if _, err := d.Do(t.Context(), a, nil); err == nil {
		t.Fatal("a thief's answer was taken")
	}
	p := took.Load()
	const part = 3 // of what the voucher promises
	if err := s.cfg.Ledger.Redeem(t.Context(), p.Lease, []chain.Claim{{Lane: p.Lane, Amount: part, Voucher: p.Voucher}}); err != nil {
		t.Fatal(err)
	}
	if got := d.Spent("key_a"); got != p.Voucher.Max {
		t.Errorf("while nobody knows: %d, the voucher promises %d", got, p.Voucher.Max)
	}
	l.Jump(48 * time.Hour)
	waitFor(t, "the lease to be forgotten", func() bool { return len(d.Standing()) == 0 })
	if got := d.Spent("key_a"); got != part {
		t.Errorf("after the lease: %d, the thief took %d", got, part)
	}
	d.stop()
	d.start(t)
	if got := d.Spent("key_a"); got != part {
		t.Errorf("after a restart: %d, the thief took %d", got, part)
	}
}
