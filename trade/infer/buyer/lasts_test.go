package buyer_test

import (
	"context"
	"testing"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/seller"
)

// A request that runs when its lease's time is up is answered to its end and
// paid; one that would run longer than that is asked on another lease.
func TestRunsOverTheEnd(t *testing.T) {
	t.Parallel()
	toy := infertest.Toy{Name: "toy", Pace: 10 * time.Millisecond}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 32, toy)
	s.stop()
	s.cfg.Terms = seller.Terms{Notice: 6 * time.Second}
	s.start(t)
	d := buy(t, l, func(c *config) {
		c.Start, c.Drain, c.Challenge, c.Idle, c.Duration = 30*time.Second, 30*time.Second, 30*time.Second, 16*time.Second, 16*time.Second
	})
	// until moves the clock to so long before the lease's end.
	until := func(left time.Duration) {
		now, err := s.cfg.Ledger.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Jump(time.Unix(l.Leases()[0].Ends, 0).Sub(now.Time) - left)
	}
	if _, err := d.Do(t.Context(), ask("toy", 0, 3), nil); err != nil {
		t.Fatal(err)
	}
	first := l.Leases()[0].ID
	until(4600 * time.Millisecond)     // it is worn at 4 s, and then another is opened
	time.Sleep(100 * time.Millisecond) // the provider has read the time
	ans, err := d.Do(t.Context(), ask("toy", 1, 550), func(infer.Delta) error { return nil })
	if err != nil || len(ans.Result.Tokens) != 550 || ans.Result.Finish != infer.FinishLength {
		t.Fatalf("%d tokens of 550, finish %q, %v", len(ans.Result.Tokens), ans.Result.Finish, err)
	}
	if ans.Lease != first {
		t.Skip("this machine was too slow: the lease was worn when it was asked on")
	}
	waitFor(t, "the answer to be paid", func() bool {
		for _, m := range l.Leases() {
			if m.ID == first {
				return m.Paid >= ans.Signed.Receipt.Cumulative
			}
		}
		return false
	})

	// It is a matter of how fast the provider was.
	where := func(tokens uint32) square.Hash {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ans, err := d.Do(ctx, ask("toy", 2, tokens), func(infer.Delta) error { cancel(); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return ans.Lease
	}
	if where(10) == first {
		t.Error("asked on a lease that has ended")
	}
	if where(30_000) == first {
		t.Error("what no lease lasts for was asked on one that has ended")
	}
}
