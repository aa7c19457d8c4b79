package buyer_test

import (
	"context"
	"testing"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/fake"
	"github.com/torg-network/torg/trade/infer/provider"
)

// A request that runs when its lease's time is up is answered to its end and
// paid; one that would run longer than that is asked on another lease.
func TestRunsOverTheEnd(t *testing.T) {
	toy := fake.Toy{Name: "toy", Pace: 10 * time.Millisecond}
	l := fake.New(toy)
	s := sell(t, l, 32, toy)
	s.stop()
	s.cfg.Terms = provider.Terms{Tokens: 1, Notice: 6 * time.Second}
	s.start(t)
	d := buy(t, l, func(c *buyer.Config) {
		c.Start, c.Drain, c.Challenge, c.Idle, c.Duration = 30*time.Second, 30*time.Second, 30*time.Second, 40*time.Second, 40*time.Second
	})
	// until moves the clock to so long before the first lease's end.
	until := func(left time.Duration) {
		now, err := s.cfg.Ledger.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Jump(time.Unix(l.Leases()[0].Ends, 0).Sub(now.Time) - left)
	}
	n := 0
	ans, err := d.Do(t.Context(), ask("toy", 1, 100), func(infer.Delta) error {
		if n++; n == 50 {
			until(-2 * time.Second)
		}
		return nil
	})
	if err != nil || len(ans.Result.Tokens) != 100 || ans.Result.Finish != infer.FinishLength {
		t.Fatalf("%d tokens of 100, finish %q, %v", len(ans.Result.Tokens), ans.Result.Finish, err)
	}
	waitFor(t, "the answer to be paid", func() bool { return l.Leases()[0].Paid == ans.Cost.Units })

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
	fresh := where(10)
	if fresh == ans.Lease {
		t.Error("asked on a lease that has ended")
	}
	if lease := where(30_000); lease != fresh {
		t.Error("what no lease lasts for was not asked on the freshest")
	}
}
