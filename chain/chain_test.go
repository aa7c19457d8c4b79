package chain

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestClock: the clock follows the ledger's blocks, goes on while there are
// none, and does not go back for an old one.
func TestClock(t *testing.T) {
	t0 := time.Unix(1000, 0)
	head, err := Head{}, errors.New("no ledger")
	c := NewClock(func(context.Context) (Head, error) { return head, err })
	if _, got := c.Now(t.Context()); !errors.Is(got, err) {
		t.Fatalf("before any block: %v", got)
	}
	near := func(want time.Time) {
		t.Helper()
		now, err := c.Now(t.Context())
		if d := now.Sub(want); err != nil || d < 0 || d > time.Second {
			t.Errorf("the time is %v, want %v (%v)", now, want, err)
		}
	}
	head, err = Head{Height: 1, Time: t0}, nil
	near(t0)
	head = Head{Height: 2, Time: t0.Add(time.Hour)}
	near(t0) // not asked yet
	if _, err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	near(t0.Add(time.Hour))
	head = Head{Height: 1, Time: t0}
	if _, err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	near(t0.Add(time.Hour))
	err = errors.New("gone")
	if _, got := c.Refresh(t.Context()); !errors.Is(got, err) {
		t.Error(got)
	}
	time.Sleep(20 * time.Millisecond)
	now, _ := c.Now(t.Context())
	if d := now.Sub(t0.Add(time.Hour)); d < 20*time.Millisecond {
		t.Errorf("with the ledger gone only %v went by", d)
	}
	if age := c.Age(); age < 20*time.Millisecond {
		t.Errorf("the newest block is said to be %v old", age)
	}
	head, err = Head{Height: 3, Time: t0.Add(time.Hour)}, nil
	if _, err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if age := c.Age(); age > 15*time.Millisecond {
		t.Errorf("a block that came just now is said to be %v old", age)
	}
}
