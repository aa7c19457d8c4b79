package live_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// ledger makes a block each time it is asked, and tells what is put in.
type ledger struct {
	source.Ledger
	height int64
	asked  int
	events chan source.Event
}

func (l *ledger) Head(context.Context) (source.Head, error) {
	l.height++
	return source.Head{Height: l.height}, nil
}

func (l *ledger) Offers(context.Context, source.OfferFilter, source.Page) ([]market.Offer, string, error) {
	l.asked++
	return nil, "", nil
}

func (l *ledger) Leases(context.Context, source.LeaseFilter, source.Page) ([]source.Lease, string, error) {
	l.asked++
	return nil, "", nil
}

func (l *ledger) Watch(ctx context.Context) <-chan source.Event { return l.events }

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

var all = live.Scope{All: true}

// served is a finished request: for how much money, and what was metered.
func served(key string, cost uint64, units ...uint64) trade.Served {
	s := trade.Served{Key: key, Cost: square.Utorg(cost)}
	for _, n := range units {
		s.Units = append(s.Units, trade.Metered{Unit: "words", Count: n})
	}
	return s
}

func failed(s trade.Served) trade.Served {
	s.Err = errors.New("no answer")
	return s
}

// What an API key did is in the owner's numbers and its own, and in no other's.
func TestTrafficIsScoped(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	f := live.NewFeed(live.Config{Ledger: &ledger{}, Now: c.now})
	f.Observe(served("a", 10, 3, 4))
	f.Observe(failed(served("b", 5, 1)))
	f.Observe(served("", 1)) // of no key
	for _, x := range []struct {
		scope live.Scope
		want  live.Point
	}{
		{all, live.Point{Requests: 3, Failed: 1, Work: 8, Units: 16}},
		{live.Scope{Key: "a"}, live.Point{Requests: 1, Work: 7, Units: 10}},
		{live.Scope{Key: "b"}, live.Point{Requests: 1, Failed: 1, Work: 1, Units: 5}},
		{live.Scope{Key: "c"}, live.Point{}},
		{live.Scope{Account: square.Address{1}}, live.Point{}},
	} {
		begin, points := f.Traffic(x.scope)
		last := points[len(points)-1]
		if last != x.want || !begin.Add(time.Duration(len(points)-1)*live.Step).Equal(c.t) {
			t.Errorf("%+v: %+v at %v, want %+v", x.scope, last, begin, x.want)
		}
	}
}

// After an hour nothing is left of what was counted, however the time passed.
func TestTheHourPasses(t *testing.T) {
	for _, jump := range []time.Duration{live.Step, 7 * time.Minute, 3 * time.Hour} {
		c := &clock{time.Unix(1_000_000, 0)}
		f := live.NewFeed(live.Config{Ledger: &ledger{}, Now: c.now})
		f.Observe(served("", 10))
		for begin := c.t; c.t.Sub(begin) < time.Hour+live.Step; c.t = c.t.Add(jump) {
			_, points := f.Traffic(all)
			sum := uint64(0)
			for _, p := range points {
				sum += p.Units
			}
			if want := uint64(10); c.t.Sub(begin) < time.Hour-live.Step && sum != want {
				t.Fatalf("after %v the sum is %d, want %d", c.t.Sub(begin), sum, want)
			}
		}
		_, points := f.Traffic(all)
		for i, p := range points {
			if p != (live.Point{}) {
				t.Errorf("steps of %v: point %d is still %+v", jump, i, p)
			}
		}
	}
}

func TestRateIsOfTheLastTenSeconds(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	f := live.NewFeed(live.Config{Ledger: &ledger{}, Now: c.now})
	for range 20 {
		f.Observe(served("", 0, 2))
	}
	c.t = c.t.Add(time.Second)
	if r := f.Rate(all); r.Requests != 2 || r.Work != 4 {
		t.Errorf("%+v", r)
	}
	c.t = c.t.Add(12 * time.Second)
	if r := f.Rate(all); r.Requests != 0 {
		t.Errorf("%+v", r)
	}
}

// Keys beyond the bound push out the one that was quiet longest.
func TestKeysAreBounded(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	f := live.NewFeed(live.Config{Ledger: &ledger{}, Now: c.now})
	for i := range 200 {
		c.t = c.t.Add(time.Millisecond)
		f.Observe(served(string(rune('a'+i)), 1))
	}
	sum := func(s live.Scope) (n uint64) {
		_, points := f.Traffic(s)
		for _, p := range points {
			n += p.Units
		}
		return n
	}
	if got := sum(live.Scope{Key: "a"}); got != 0 {
		t.Errorf("the oldest key still counts %d", got)
	}
	if got := sum(live.Scope{Key: string(rune('a' + 199))}); got != 1 {
		t.Errorf("the newest key counts %d", got)
	}
	if got := sum(all); got != 200 {
		t.Errorf("all count %d", got)
	}
}

func event(by square.Address, kind market.Kind) source.Event {
	return source.Event{Event: market.Event{Kind: kind, Buyer: by}}
}

func TestEventsAreScopedAndNumbered(t *testing.T) {
	me, other := square.Address{1}, square.Address{2}
	f := live.NewFeed(live.Config{Ledger: &ledger{}, Past: []source.Event{event(other, market.EvEnded), event(me, market.EvOpened), event(me, market.EvOffered)}})
	got := f.Events(all, 0, 10)
	if len(got) != 2 || got[0].Kind != market.EvEnded || got[0].Seq <= got[1].Seq {
		t.Fatalf("%+v", got)
	}
	if mine := f.Events(live.Scope{Account: me}, 0, 10); len(mine) != 1 || mine[0].Buyer != me {
		t.Errorf("%+v", mine)
	}
	if none := f.Events(live.Scope{Key: "k"}, 0, 10); len(none) != 0 {
		t.Errorf("a key sees %+v", none)
	}
	if later := f.Events(all, got[0].Seq, 10); len(later) != 0 {
		t.Errorf("after the newest: %+v", later)
	}
}

// The ledger is asked once for many who look.
func TestStateIsShared(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	l := &ledger{}
	f := live.NewFeed(live.Config{Ledger: l, Now: c.now})
	for range 50 {
		if _, err := f.State(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if l.asked != 2 {
		t.Errorf("the ledger was asked %d times, want 2", l.asked)
	}
	c.t = c.t.Add(time.Minute)
	_, _ = f.State(t.Context())
	if l.asked != 4 {
		t.Errorf("a minute later it was asked %d times in all, want 4", l.asked)
	}
}

// Subscribers are bounded, and let go when the feed ends.
func TestSubscribersAreBounded(t *testing.T) {
	f := live.NewFeed(live.Config{Ledger: &ledger{events: make(chan source.Event)}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	var ticks []<-chan struct{}
	for {
		tick, cancel, err := f.Subscribe()
		if errors.Is(err, live.ErrFull) {
			break
		}
		if err != nil || len(ticks) > 1000 {
			t.Fatal("there is no bound", err)
		}
		if len(ticks) == 0 {
			defer cancel() // after the end: nothing happens
		}
		ticks = append(ticks, tick)
	}
	select {
	case <-ticks[0]:
	case <-time.After(time.Minute):
		t.Fatal("no tick")
	}
	stop()
	<-done
	for _, tick := range ticks {
		deadline := time.After(time.Second)
		for open := true; open; {
			select {
			case _, open = <-tick:
			case <-deadline:
				t.Fatal("a subscription stays open")
			}
		}
	}
	if _, _, err := f.Subscribe(); err == nil {
		t.Error("a feed that ended takes subscribers")
	}
}
