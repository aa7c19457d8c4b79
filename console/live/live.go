// Package live is what happens on the square right now, gathered once for all
// who look: traffic of the gateway and blocks of the ledger in bounded rings of
// the last hour, the newest events, and the offers and leases that stand. Pages
// read it instead of asking the ledger each time.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Scope is what of it a viewer may see.
type Scope struct {
	All     bool
	Key     string
	Account square.Address
}

// ScopeOf is a viewer's scope.
func ScopeOf(v session.Viewer) Scope {
	return Scope{All: v.IsOwner(), Key: v.Key, Account: v.Address}
}

// Sees reports whether an event concerns the scope.
func (s Scope) Sees(e source.Event) bool {
	if s.All {
		return true
	}
	if s.Account.IsZero() {
		return false
	}
	return e.By == s.Account || e.Buyer == s.Account || e.Provider == s.Account
}

// Resolution of a series, and its length.
const (
	Step   = 10 * time.Second
	Points = 360
)

// Point is what happened in one step.
type Point struct {
	Requests, Failed uint64
	Work             uint64 // what was metered, whatever the unit
	Units            uint64 // of money
	Blocks           uint64
}

func (p *Point) add(q Point) {
	p.Requests += q.Requests
	p.Failed += q.Failed
	p.Work += q.Work
	p.Units += q.Units
	p.Blocks += q.Blocks
}

// ring counts by the step, overwriting what is older than its length.
type ring struct {
	step   int64 // seconds
	points []Point
	last   int64 // the newest step
}

func newRing(step time.Duration, n int) *ring {
	return &ring{step: int64(step / time.Second), points: make([]Point, n)}
}

// at is the step of a time, ready to count.
func (r *ring) at(now time.Time) *Point {
	n := now.Unix() / r.step
	if n > r.last {
		for i := max(r.last+1, n-int64(len(r.points))+1); i <= n; i++ {
			r.points[i%int64(len(r.points))] = Point{}
		}
		r.last = n
	}
	return &r.points[n%int64(len(r.points))]
}

// read copies the ring, oldest first; begin is the time of the first step.
func (r *ring) read(now time.Time) (begin time.Time, out []Point) {
	r.at(now)
	n := int64(len(r.points))
	out = make([]Point, n)
	for i := range n {
		out[i] = r.points[(r.last+1+i)%n]
	}
	return time.Unix((r.last-n+1)*r.step, 0), out
}

// account is the traffic of all, or of one API key.
type account struct {
	hour, now *ring
	used      time.Time
}

// nowSpan is what rates "now" are the mean of.
const nowSpan = 10

func newAccount() *account {
	return &account{hour: newRing(Step, Points), now: newRing(time.Second, nowSpan+1)}
}

func (a *account) add(now time.Time, p Point) {
	a.hour.at(now).add(p)
	a.now.at(now).add(p)
	a.used = now
}

// Bounds.
const (
	maxKeys        = 64  // API keys whose traffic is counted apart
	maxEvents      = 256 // that are remembered
	maxSubscribers = 64
	fresh          = 3 * time.Second // how old the offers and leases on a page may be
	maxListed      = 1000            // offers, and leases, that are looked at
)

// Logged is an event with its number, counted from 1.
type Logged struct {
	Seq uint64
	source.Event
}

// State is what stands on the square.
type State struct {
	Read   time.Time
	Offers []market.Offer
	Leases []source.Lease // that are active
}

// Config is what a feed follows.
type Config struct {
	Ledger source.Ledger
	Past   []source.Event // what happened before, newest first
	Log    *slog.Logger
	Now    func() time.Time
}

// Feed gathers. Run must run while it is read.
type Feed struct {
	cfg Config

	mu     sync.Mutex
	all    *account
	keys   map[string]*account
	height int64
	events []Logged
	seq    uint64
	ticks  map[chan struct{}]struct{}
	closed bool

	reading sync.Mutex // one reader of the ledger at a time
	state   State

	surveying sync.Mutex
	supply    Supply
}

// NewFeed makes a feed that knows nothing yet.
func NewFeed(cfg Config) *Feed {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Feed{cfg: cfg, all: newAccount(), keys: map[string]*account{}, ticks: map[chan struct{}]struct{}{}}
	for _, e := range slices.Backward(cfg.Past) {
		f.note(e)
	}
	f.cfg.Past = nil
	return f
}

// Observe takes in a finished request.
func (f *Feed) Observe(r trade.Served) {
	p := Point{Requests: 1, Work: r.Amount()}
	if r.Cost.Denom == square.Denom {
		p.Units = r.Cost.Units
	}
	if r.Err != nil {
		p.Failed = 1
	}
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all.add(now, p)
	if r.Key == "" {
		return
	}
	a := f.keys[r.Key]
	if a == nil {
		if len(f.keys) >= maxKeys {
			oldest := ""
			for k, o := range f.keys {
				if oldest == "" || o.used.Before(f.keys[oldest].used) {
					oldest = k
				}
			}
			delete(f.keys, oldest)
		}
		a = newAccount()
		f.keys[r.Key] = a
	}
	a.add(now, p)
}

// Run follows the ledger until ctx ends; then every subscription closes.
func (f *Feed) Run(ctx context.Context) {
	defer f.close()
	happening := f.cfg.Ledger.Watch(ctx)
	f.count(ctx)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-happening:
			if !ok {
				happening = nil
				continue
			}
			f.note(e)
		case <-tick.C:
			f.count(ctx)
			f.tell()
		}
	}
}

// note remembers an event that is news.
func (f *Feed) note(e source.Event) {
	if !e.News() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	if len(f.events) == maxEvents {
		f.events = slices.Delete(f.events, 0, maxEvents/4)
	}
	f.events = append(f.events, Logged{f.seq, e})
}

// count adds the blocks that were made since the last look.
func (f *Feed) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	head, err := f.cfg.Ledger.Head(ctx)
	if err != nil {
		return // the charts show that no blocks came
	}
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.height > 0 && head.Height > f.height {
		f.all.add(now, Point{Blocks: uint64(head.Height - f.height)})
	}
	f.height = max(f.height, head.Height)
}

func (f *Feed) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range f.ticks {
		select {
		case t <- struct{}{}:
		default: // it is still busy with the last
		}
	}
}

func (f *Feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for t := range f.ticks {
		close(t)
	}
	clear(f.ticks)
}

// ErrFull says that enough browsers follow already.
var ErrFull = errors.New("too many browsers follow the square live; reload to see what is new")

// Subscribe ticks about once a second until cancel is called or the feed ends,
// which closes the channel. A subscriber that is busy misses ticks, not news:
// it asks for what it has not seen.
func (f *Feed) Subscribe() (tick <-chan struct{}, cancel func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.ticks) >= maxSubscribers {
		return nil, nil, ErrFull
	}
	t := make(chan struct{}, 1)
	f.ticks[t] = struct{}{}
	return t, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, mine := f.ticks[t]; mine {
			delete(f.ticks, t)
			close(t)
		}
	}, nil
}

// Traffic is the last hour of a scope, oldest step first. Only the owner's has
// blocks besides what is the scope's own.
func (f *Feed) Traffic(s Scope) (begin time.Time, points []Point) {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	begin, points = f.all.hour.read(now)
	if s.All {
		return begin, points
	}
	own := make([]Point, len(points))
	if a := f.keys[s.Key]; a != nil && s.Key != "" {
		_, own = a.hour.read(now)
	}
	for i := range own {
		own[i].Blocks = points[i].Blocks // the ledger is everyone's
	}
	return begin, own
}

// Rate is what a scope does a second, as the mean of the last ten.
type Rate struct {
	Requests, Work, Units, Blocks float64
}

// Rate is how fast things go now.
func (f *Feed) Rate(s Scope) Rate {
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := func(a *account) (p Point) {
		_, points := a.now.read(now)
		for _, q := range points[:nowSpan] { // the running second is not over
			p.add(q)
		}
		return p
	}
	all := sum(f.all)
	own := all
	if !s.All {
		own = Point{}
		if a := f.keys[s.Key]; a != nil && s.Key != "" {
			own = sum(a)
		}
	}
	return Rate{float64(own.Requests) / nowSpan, float64(own.Work) / nowSpan, float64(own.Units) / nowSpan, float64(all.Blocks) / nowSpan}
}

// Events are at most limit events of a scope that came after seq, newest first.
func (f *Feed) Events(s Scope, after uint64, limit int) (out []Logged) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range slices.Backward(f.events) {
		if e.Seq <= after || len(out) == limit {
			break
		}
		if s.Sees(e.Event) {
			out = append(out, e)
		}
	}
	return out
}

// Height is the newest block that was seen.
func (f *Feed) Height() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.height
}

// State is what stands on the square, at most a few seconds old: two
// questions to the ledger when it is older, none when it is not.
func (f *Feed) State(ctx context.Context) (State, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	now := f.cfg.Now()
	if !f.state.Read.IsZero() && now.Sub(f.state.Read) < fresh {
		return f.state, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	offers, _, err := f.cfg.Ledger.Offers(ctx, source.OfferFilter{}, source.Page{Limit: maxListed})
	if err != nil {
		return State{}, err
	}
	leases, _, err := f.cfg.Ledger.Leases(ctx, source.LeaseFilter{State: market.Active}, source.Page{Limit: maxListed})
	if err != nil {
		return State{}, err
	}
	slices.SortFunc(leases, func(a, b source.Lease) int { return cmp.Compare(b.Opened, a.Opened) })
	f.state = State{Read: now, Offers: offers, Leases: leases}
	return f.state, nil
}

// Supply is all that is offered, and what is staked on it.
type Supply struct {
	Read   time.Time
	Offers []market.Offer
	Stakes []source.Stake
}

// Bounds of Supply.
const (
	maxSupply = 20_000 // offers, and stakes
	pageSize  = 1000   // of one question
)

// Supply is at most a few seconds old: a question to the ledger for every
// thousand offers and stakes when it is older, none when it is not.
func (f *Feed) Supply(ctx context.Context) (Supply, error) {
	f.surveying.Lock()
	defer f.surveying.Unlock()
	now := f.cfg.Now()
	if !f.supply.Read.IsZero() && now.Sub(f.supply.Read) < fresh {
		return f.supply, nil
	}
	out := Supply{Read: now}
	err := pages(func(p source.Page) (int, string, error) {
		some, next, err := f.cfg.Ledger.Offers(ctx, source.OfferFilter{}, p)
		out.Offers = append(out.Offers, some...)
		return len(out.Offers), next, err
	})
	if err != nil {
		return Supply{}, fmt.Errorf("read the offers: %w", err)
	}
	err = pages(func(p source.Page) (int, string, error) {
		some, next, err := f.cfg.Ledger.Stakes(ctx, square.Address{}, "", p)
		out.Stakes = append(out.Stakes, some...)
		return len(out.Stakes), next, err
	})
	if err != nil {
		return Supply{}, fmt.Errorf("read the stakes: %w", err)
	}
	f.supply = out
	return out, nil
}

// pages reads a list page by page, to its end or maxSupply.
func pages(read func(source.Page) (have int, next string, err error)) error {
	p := source.Page{Limit: pageSize}
	for {
		have, next, err := read(p)
		if err != nil || next == "" || have >= maxSupply {
			return err
		}
		p.After = next
	}
}
