package attacks

import (
	"fmt"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/square"
)

// shortest is the lease with the least of one of an order's times that the
// provider quotes and the ledger opens: a thief takes what it can get.
func (th *thief) shortest(what string, set func(*square.Order, uint64)) (*stolen, uint64) {
	th.p.t.Helper()
	of := th.p.offer(nano.Name)
	var err error
	for _, seconds := range []uint64{1, 5, 20, 60, 90, 120, 300, 600} {
		o := th.order(of)
		o.Lanes, o.Units = 1, 1 // a quote that comes to nothing holds places for a while
		set(&o, seconds)
		var s *stolen
		if s, err = th.lease(o, of); err == nil {
			th.p.t.Logf("the shortest %s it takes: %d s", what, seconds)
			return s, seconds
		}
	}
	th.p.t.Fatalf("no %s is long enough: %v", what, err)
	return nil, 0
}

// fill asks so many requests on every lane, until the provider has had enough.
// The first must be answered, or nothing is attacked.
func (s *stolen) fill(requests int, tokens uint32) bool {
	s.th.p.t.Helper()
	for range requests {
		for n := range s.lanes {
			if _, err := s.ask(n, question(tokens)); err != nil && s.charged() == 0 {
				s.th.p.t.Fatalf("the first request is not answered: %v", err)
			} else if err != nil {
				s.th.p.t.Logf("after %d charged the provider answers no more: %v", s.charged(), err)
				return false
			}
		}
	}
	return true
}

// TestCloseAtOnce: a buyer orders with the shortest notice, asks, and closes
// before the provider redeems (money.md C2, seen at a45ab0b: with a notice of one
// second 12,608 charged, 0 paid).
func TestCloseAtOnce(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	s, drain := th.shortest("notice", func(o *square.Order, n uint64) { o.Drain = n })
	s.fill(16, 750)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	l := s.over(time.Duration(drain)*time.Second + patience)
	p.after(outcome{actor: buyer, name: "close with the shortest notice", note: fmt.Sprintf("%d s of notice; charged %d, paid %d", drain, s.charged(), l.Paid)})
}

// TestFallSilent: a buyer orders with the shortest silence, asks, and does
// nothing more; not even a transaction is needed (money.md C2).
func TestFallSilent(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	s, idle := th.shortest("silence", func(o *square.Order, n uint64) { o.Idle = n })
	// Up to the last moment of it.
	for end := time.Now().Add(time.Duration(idle) * time.Second); time.Now().Before(end) && s.charged() < 10_000 && s.fill(1, 750); {
	}
	l := s.over(time.Duration(idle)*time.Second + patience)
	p.after(outcome{actor: buyer, name: "fall silent with the shortest idle", note: fmt.Sprintf("%d s of silence; charged %d, paid %d", idle, s.charged(), l.Paid)})
}

// TestShortLease: a buyer orders the shortest lease there is and asks until it
// ends by itself (money.md C2).
func TestShortLease(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	s, d := th.shortest("lease, with its notice,", func(o *square.Order, n uint64) { o.Duration, o.Drain = n, min(n, 60) })
	for end := time.Now().Add(time.Duration(d) * time.Second); time.Now().Before(end) && s.charged() < 10_000 && s.fill(1, 750); {
	}
	l := s.over(2*time.Duration(d)*time.Second + patience)
	p.after(outcome{actor: buyer, name: "the shortest lease", note: fmt.Sprintf("%d s; charged %d, paid %d", d, s.charged(), l.Paid)})
}
