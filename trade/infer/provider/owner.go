package provider

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// Control is what the owner of a provider has decided. It is on disk: what was
// paused stays so after a restart.
type Control struct {
	// Paused refuses new leases and new requests (CodePaused) and withdraws the
	// offers. What runs ends, what is owed is redeemed.
	Paused bool `json:"paused"`
	// Lanes is the most requests at once, over all models; 0 is as many as the
	// offers have places.
	Lanes int `json:"lanes"`
}

// ErrControl is wrapped by SetControl's refusal of what cannot be.
var ErrControl = errors.New("it cannot be so")

var errPaused = refuse(wire.CodePaused, "the provider has paused, and takes no work until its owner resumes; nothing was charged")

// control is the Control in force, and the requests that it limits.
type control struct {
	setting sync.Mutex // one change at a time
	now     atomic.Pointer[Control]
	running atomic.Int64
}

// Control is what is in force.
func (p *Provider) Control() Control {
	if c := p.control.now.Load(); c != nil {
		return *c
	}
	return Control{}
}

// SetControl puts a control on disk and in force. Offers are withdrawn, or
// posted again, within a Tick of Run.
func (p *Provider) SetControl(c Control) error {
	if c.Lanes < 0 || c.Lanes > square.MaxLanes {
		return fmt.Errorf("lanes %d: %w: want 1 to %d, or 0 for no limit", c.Lanes, ErrControl, square.MaxLanes)
	}
	p.control.setting.Lock()
	defer p.control.setting.Unlock()
	if err := p.save(bucketOwner, []byte("control"), c); err != nil {
		return fmt.Errorf("provider: control: %w", err)
	}
	p.control.now.Store(&c)
	p.Log.Info("control", "paused", c.Paused, "lanes", c.Lanes)
	p.wake()
	return nil
}

// withdrawOffers takes every offer that is not known to be withdrawn from the
// ledger: also those of a run before this one.
func (p *Provider) withdrawOffers(ctx context.Context) error {
	p.mu.Lock()
	var specs []square.Hash
	for spec := range p.services {
		specs = append(specs, spec)
	}
	for _, o := range p.offers {
		if p.services[o.Spec] == nil {
			specs = append(specs, o.Spec)
		}
	}
	specs = slices.DeleteFunc(specs, func(s square.Hash) bool { return p.gone[s] })
	p.mu.Unlock()
	var failed []error
	for _, spec := range specs {
		err := p.Ledger.WithdrawOffer(ctx, spec)
		if err != nil && !errors.Is(err, market.ErrNotFound) && !errors.Is(err, market.ErrState) {
			failed = append(failed, err)
			continue
		}
		p.mu.Lock()
		p.gone[spec] = true
		for id, o := range p.offers {
			if o.Spec == spec {
				delete(p.offers, id)
			}
		}
		p.mu.Unlock()
	}
	return errors.Join(failed...)
}

// Ran is a request that this provider worked on.
type Ran struct {
	Number     uint64        `json:"number"` // of all that ran here, from 1
	Time       int64         `json:"time"`   // unix milliseconds of its end
	Took       time.Duration `json:"took_ns"`
	Model      string        `json:"model"`
	Subject    square.Hash   `json:"subject"`
	Lease      square.Hash   `json:"lease"`
	Lane       uint16        `json:"lane"`
	Policy     square.Policy `json:"policy"`
	Receipt    square.Hash   `json:"receipt"` // zero: it failed
	Prompt     uint64        `json:"prompt_tokens"`
	Completion uint64        `json:"completion_tokens"`
	Price      uint64        `json:"price,string"`
	Error      string        `json:"error,omitempty"` // why it failed and nothing was charged
}

// Ended is a lease that ended since this provider started.
type Ended struct {
	Lease  square.Hash   `json:"lease"`
	Time   int64         `json:"time"` // unix milliseconds
	State  market.State  `json:"state"`
	Reason market.Reason `json:"reason"`
	Lost   uint64        `json:"lost,string"` // charged and never redeemed
}

// Mishap is the last of its kind.
type Mishap struct {
	Time  int64  `json:"time"` // unix milliseconds; 0: there was none
	Words string `json:"words"`
}

// Bounds of the book. A day of steps is kept, and of what ran the last.
const (
	StepTime = 5 * time.Minute
	Steps    = 24 * 12
	hour     = 12 // steps
	maxRan   = 5000
	maxEnded = 64
)

// book is what a provider writes down for its owner: what ran, and what was
// earned by the step. What ran is written with the charge; a step every few
// seconds, so that a crash loses a few seconds of a chart and no money.
type book struct {
	mu      sync.Mutex
	ran     []Ran // a ring, by Number
	last    uint64
	steps   [Steps]Stats
	step    int64 // number of the newest
	dirty   map[int64]bool
	saved   time.Time
	ended   []Ended // oldest first
	refused Mishap
	failed  Mishap
}

// stepRecord is what the disk keeps of a step.
type stepRecord struct {
	Number int64 `json:"number"`
	Stats
}

// at is the step of a time. Callers hold b.mu.
func (b *book) at(now time.Time) *Stats {
	n := now.Unix() / int64(StepTime/time.Second)
	if n > b.step {
		for i := max(b.step+1, n-Steps+1); i <= n; i++ {
			b.steps[i%Steps] = Stats{}
		}
		b.step = n
	}
	return &b.steps[b.step%Steps] // a clock that was set back counts where it was
}

func (b *book) count(now time.Time, f func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b.at(now))
	if b.dirty == nil {
		b.dirty = map[int64]bool{}
	}
	b.dirty[b.step] = true
}

func (b *book) refuse(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = Mishap{now.UnixMilli(), square.Clip(wireError(err).Message, 300)}
}

func (b *book) end(e Ended) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ended) == maxEnded {
		b.ended = slices.Delete(b.ended, 0, 1)
	}
	b.ended = append(b.ended, e)
}

// add takes in what ran and returns it as the disk keeps it.
func (b *book) add(r Ran) journal.Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	r.Number = b.last
	b.put(r)
	v, err := json.Marshal(r)
	if err != nil { // numbers and words always marshal
		panic(err)
	}
	return journal.Entry{Bucket: bucketRan, Key: binary.BigEndian.AppendUint32(nil, uint32(r.Number%maxRan)), Value: v}
}

func (b *book) put(r Ran) {
	if b.ran == nil {
		b.ran = make([]Ran, maxRan)
	}
	b.ran[r.Number%maxRan] = r
}

// ran is the work that came to a receipt.
func (wk *work) ran(now time.Time, r square.Receipt, d square.Domain) Ran {
	out := wk.described(now)
	out.Receipt, out.Price = r.Digest(d), r.Price
	out.Prompt, out.Completion = r.Units[0], r.Units[1]
	return out
}

func (wk *work) described(now time.Time) Ran {
	return Ran{
		Time: now.UnixMilli(), Took: time.Since(wk.began), Model: wk.service.model.Name, Subject: wk.service.model.Subject,
		Lease: wk.l.id, Lane: wk.n, Policy: wk.policy,
	}
}

// noteFailure writes down work that failed.
func (p *Provider) noteFailure(wk *work, err error) {
	now := p.Now()
	r := wk.described(now)
	r.Error = square.Clip(wireError(err).Message, 300)
	e := p.book.add(r)
	p.book.mu.Lock()
	p.book.failed = Mishap{now.UnixMilli(), r.Error}
	p.book.mu.Unlock()
	if err := p.Store.PutSoon(e); err != nil {
		p.Log.Warn("what failed could not be written down", "err", err)
	}
}

// saveSteps writes the steps that changed, every few seconds.
func (p *Provider) saveSteps() {
	b := &p.book
	b.mu.Lock()
	if len(b.dirty) == 0 || time.Since(b.saved) < 5*p.Tick {
		b.mu.Unlock()
		return
	}
	var es []journal.Entry
	for n := range b.dirty {
		if n > b.step-Steps {
			v, err := json.Marshal(stepRecord{n, b.steps[n%Steps]})
			if err != nil { // numbers always marshal
				panic(err)
			}
			es = append(es, journal.Entry{Bucket: bucketSteps, Key: binary.BigEndian.AppendUint32(nil, uint32(n%Steps)), Value: v})
		}
	}
	clear(b.dirty)
	b.saved = time.Now()
	b.mu.Unlock()
	if err := p.Store.PutSoon(es...); err != nil {
		p.Log.Warn("earnings could not be written down", "err", err)
	}
}

// loadOwner reads control and book from disk.
func (p *Provider) loadOwner() error {
	b := &p.book
	return p.Store.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket([]byte(bucketOwner)).Get([]byte("control")); v != nil {
			var c Control
			if err := json.Unmarshal(v, &c); err != nil {
				return fmt.Errorf("provider: control on disk: %w", err)
			}
			p.control.now.Store(&c)
		}
		var steps []stepRecord
		err := tx.Bucket([]byte(bucketSteps)).ForEach(func(_, v []byte) error {
			var s stepRecord
			if err := json.Unmarshal(v, &s); err != nil {
				return fmt.Errorf("provider: earnings on disk: %w", err)
			}
			if s.Number < 0 {
				return fmt.Errorf("provider: earnings on disk: step %d", s.Number)
			}
			steps = append(steps, s)
			b.step = max(b.step, s.Number)
			return nil
		})
		for _, s := range steps {
			if s.Number > b.step-Steps {
				b.steps[s.Number%Steps] = s.Stats
			}
		}
		return errors.Join(err, tx.Bucket([]byte(bucketRan)).ForEach(func(_, v []byte) error {
			var r Ran
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("provider: what ran on disk: %w", err)
			}
			b.put(r)
			b.last = max(b.last, r.Number)
			return nil
		}))
	})
}

// Ran lists what ran here, newest first, at most n.
func (p *Provider) Ran(n int) []Ran {
	b := &p.book
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Ran, 0, min(n, maxRan))
	for i := b.last; i > 0 && b.last-i < maxRan && len(out) < n; i-- {
		if r := b.ran[i%maxRan]; r.Number == i { // else it never reached the disk
			out = append(out, r)
		}
	}
	return out
}

// Why is why the last hour paid what it paid.
type Why string

const (
	WhySlashed    Why = "slashed"     // an answer was found false
	WhyEarned     Why = "earned"      // work was charged and redeemed
	WhyUnredeemed Why = "unredeemed"  // charged, and waits to be redeemed
	WhyPaused     Why = "paused"      // by the owner
	WhyFailed     Why = "failed"      // whoever asked got no answer
	WhyRefused    Why = "refused"     // whoever asked was turned away
	WhyNothing    Why = "nothing"     // there is nothing to sell
	WhyNotOffered Why = "not_offered" // the ledger has no offer of this provider's
	WhyNoLease    Why = "no_lease"    // offered, and nobody has leased
	WhyNotAsked   Why = "not_asked"   // leased, and nobody asked
)

// Selling is a model on sale here.
type Selling struct {
	square.Offer             // as it was last posted, or would be now
	ID           square.Hash `json:"id"` // zero: it is not on the ledger
	Exact        bool        `json:"exact"`
	Working      int         `json:"working"` // requests that run
}

// Serving is a lease that stands.
type Serving struct {
	Lease    square.Hash    `json:"lease"`
	Buyer    square.Address `json:"buyer"`
	Model    string         `json:"model"`
	Policy   square.Policy  `json:"policy"`
	State    market.State   `json:"state"`
	Lanes    uint64         `json:"lanes"`
	Busy     int            `json:"busy"` // lanes that work
	Charged  uint64         `json:"charged,string"`
	Redeemed uint64         `json:"redeemed,string"`
	Until    int64          `json:"until"` // unix seconds
}

// Report is how a provider does, for its owner.
type Report struct {
	Address  square.Address `json:"address"`
	Endpoint string         `json:"endpoint"`
	Control  Control        `json:"control"`
	Working  int            `json:"working"` // requests that run
	Selling  []Selling      `json:"selling"`
	Serving  []Serving      `json:"serving"`
	Owed     uint64         `json:"owed,string"` // charged and not redeemed yet
	Fee      uint64         `json:"fee,string"`  // of a redemption now
	Hour     Stats          `json:"hour"`
	Why      Why            `json:"why"`
	Refused  Mishap         `json:"refused"` // the last
	Failed   Mishap         `json:"failed"`  // the last
	Ended    []Ended        `json:"ended"`   // newest first
	// Steps are the last day's, oldest first; Begin is where they start.
	Begin time.Time `json:"begin"`
	Steps []Stats   `json:"steps"`
}

// Report tells how the provider does. It asks nobody.
func (p *Provider) Report() Report {
	now := p.Now()
	out := Report{
		Address: p.addr, Endpoint: p.Endpoint, Control: p.Control(), Working: int(p.control.running.Load()),
		Selling: []Selling{}, Serving: []Serving{}, Fee: p.fee.Load(),
	}
	names := map[square.Hash]string{}
	ledger, clockErr := p.clock.Now(context.Background())
	p.mu.Lock()
	for _, s := range p.services {
		sell := Selling{Offer: p.offer(s, 0, 0), Exact: s.model.Exact, Working: len(s.slots)}
		for id, o := range p.offers {
			if o.Spec == s.model.Subject && (clockErr != nil || o.Expiry > ledger.Unix()) && o.Nonce > sell.Nonce {
				sell.Offer, sell.ID = o, id
			}
		}
		out.Selling = append(out.Selling, sell)
		names[s.model.Subject] = s.model.Name
	}
	p.mu.Unlock()
	slices.SortFunc(out.Selling, func(a, b Selling) int { return slices.Compare(a.Spec[:], b.Spec[:]) })
	for _, l := range p.open() {
		l.mu.Lock()
		o := l.order
		s := Serving{
			Lease: l.id, Buyer: o.Buyer, Model: names[o.Spec], Policy: o.Policy, State: l.rec.State,
			Lanes: o.Lanes, Until: l.rec.Until,
		}
		for _, ln := range l.lanes {
			s.Charged += ln.rec.Charged
			s.Redeemed += ln.rec.Redeemed
			if ln.busy {
				s.Busy++
			}
		}
		if s.Model == "" {
			s.Model = o.Spec.Short()
		}
		if !s.State.Terminal() {
			out.Serving = append(out.Serving, s)
			out.Owed += s.Charged - s.Redeemed
		}
		l.mu.Unlock()
	}
	b := &p.book
	b.mu.Lock()
	b.at(now)
	for i := b.step - Steps + 1; i <= b.step; i++ {
		s := b.steps[(i+Steps)%Steps]
		out.Steps = append(out.Steps, s)
		if i > b.step-hour {
			out.Hour.add(s)
		}
	}
	out.Begin = time.Unix((b.step-Steps+1)*int64(StepTime/time.Second), 0)
	out.Refused, out.Failed, out.Ended = b.refused, b.failed, slices.Clone(b.ended)
	b.mu.Unlock()
	slices.Reverse(out.Ended)
	out.Why = out.why(now)
	return out
}

func (s *Stats) add(o Stats) {
	s.Served += o.Served
	s.Charged += o.Charged
	s.Refused += o.Refused
	s.Failed += o.Failed
	s.Redeemed += o.Redeemed
	s.Counted += o.Counted
}

func (r Report) why(now time.Time) Why {
	offered := slices.ContainsFunc(r.Selling, func(s Selling) bool { return !s.ID.IsZero() })
	since := now.Add(-time.Hour).UnixMilli()
	switch {
	case slices.ContainsFunc(r.Ended, func(e Ended) bool { return e.State == market.Slashed && e.Time >= since }):
		return WhySlashed
	case r.Hour.Redeemed > 0:
		return WhyEarned
	case r.Hour.Charged > 0:
		return WhyUnredeemed
	case r.Control.Paused:
		return WhyPaused
	case r.Hour.Failed > 0:
		return WhyFailed
	case r.Hour.Refused > 0:
		return WhyRefused
	case len(r.Selling) == 0:
		return WhyNothing
	case len(r.Serving) > 0:
		return WhyNotAsked
	case !offered:
		return WhyNotOffered
	}
	return WhyNoLease
}
