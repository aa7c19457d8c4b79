package buyer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/seller"
)

// TestPaused: a provider that paused is told apart from one that failed, with a
// lease and without, nothing is paid, others are asked, and when it resumes it
// is asked again at once.
func TestPaused(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	first := sell(t, l, 16, toy)
	d := buy(t, l, nil)
	if _, err := d.Do(t.Context(), ask("toy", 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	pause := func(s *stall, on bool) {
		t.Helper()
		if err := s.SetControl(seller.Control{Paused: on}); err != nil {
			t.Fatal(err)
		}
	}
	pause(first, true)
	if _, err := d.Do(t.Context(), ask("toy", 2, 2), nil); !errors.Is(err, desk.ErrPaused) || errors.Is(err, desk.ErrUnknown) {
		t.Errorf("on a lease: %v", err)
	}
	if ms, err := d.Models(t.Context()); err != nil || len(ms) != 1 || ms[0].Failures != 0 {
		t.Errorf("a pause counts as a failure: %+v, %v", ms, err)
	}
	// One that has no lease yet, and pauses between its offer and its quote.
	other := buy(t, l, func(c *config) { c.Refresh = time.Hour })
	pause(first, false)
	waitFor(t, "an offer", func() bool { ms, err := other.Models(t.Context()); return err == nil && len(ms) == 1 })
	pause(first, true)
	if _, err := other.Do(t.Context(), ask("toy", 3, 2), nil); !errors.Is(err, desk.ErrPaused) {
		t.Errorf("without a lease: %v", err)
	}
	// Another sells it as well.
	second := sell(t, l, 16, toy)
	third := buy(t, l, nil)
	if _, err := third.Do(t.Context(), ask("toy", 4, 2), nil); err != nil {
		t.Errorf("with another provider: %v", err)
	}
	pause(second, true)
	pause(first, false)
	if _, err := d.Do(t.Context(), ask("toy", 5, 2), nil); err != nil {
		t.Errorf("resumed: %v", err)
	}
}
