package buyer_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
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
	again := &shop{cfg: d.cfg, path: path}
	again.start(t)
	t.Cleanup(func() {
		if again.stop != nil {
			again.stop()
		}
	})
	return again
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
		return nil
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
