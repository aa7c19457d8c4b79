package seller

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Ran is a piece of work that this seller did, or failed to do.
type Ran struct {
	Number  uint64          `json:"number"` // of all that ran here, from 1
	Time    int64           `json:"time"`   // unix milliseconds of its end
	Took    time.Duration   `json:"took_ns"`
	Trade   string          `json:"trade"`
	Subject string          `json:"subject"` // the good's name
	Spec    square.Hash     `json:"spec"`
	Lease   square.Hash     `json:"lease"`
	Lane    uint16          `json:"lane"`
	Policy  square.Policy   `json:"policy"`
	Receipt square.Hash     `json:"receipt"` // zero: it failed
	Units   []trade.Metered `json:"units,omitempty"`
	Price   uint64          `json:"price,string"`
	Error   string          `json:"error,omitempty"` // why it failed and nothing was charged
}

// Metered is how much of a unit was metered; 0 of one that was not.
func (r Ran) Metered(unit string) uint64 {
	for _, m := range r.Units {
		if m.Unit == unit {
			return m.Count
		}
	}
	return 0
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
	b.refused = Mishap{now.UnixMilli(), square.Clip(Refusal(err).Message, 300)}
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

// described is what the book says of a piece of work, but how it ended.
func (t *Till) described(now time.Time) Ran {
	return Ran{
		Time: now.UnixMilli(), Took: time.Since(t.began), Trade: t.l.order.Trade, Subject: t.good.Subject, Spec: t.good.Spec,
		Lease: t.l.id, Lane: t.lane, Policy: t.l.order.Policy,
	}
}

// noteFailure writes down work that failed.
func (s *Seller) noteFailure(r Ran, err error) {
	now := s.Now()
	r.Error = square.Clip(Refusal(err).Message, 300)
	e := s.book.add(r)
	s.book.mu.Lock()
	s.book.failed = Mishap{now.UnixMilli(), r.Error}
	s.book.mu.Unlock()
	if err := s.Store.PutSoon(e); err != nil {
		s.Log.Warn("what failed could not be written down", "err", err)
	}
}

// saveSteps writes the steps that changed, every few seconds.
func (s *Seller) saveSteps() {
	b := &s.book
	b.mu.Lock()
	if len(b.dirty) == 0 || time.Since(b.saved) < 5*s.Tick {
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
	if err := s.Store.PutSoon(es...); err != nil {
		s.Log.Warn("earnings could not be written down", "err", err)
	}
}

// loadOwner reads control and book from disk.
func (s *Seller) loadOwner() error {
	b := &s.book
	return s.Store.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket([]byte(bucketOwner)).Get([]byte("control")); v != nil {
			var c Control
			if err := json.Unmarshal(v, &c); err != nil {
				return fmt.Errorf("seller: control on disk: %w", err)
			}
			s.control.now.Store(&c)
		}
		var steps []stepRecord
		err := tx.Bucket([]byte(bucketSteps)).ForEach(func(_, v []byte) error {
			var r stepRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("seller: earnings on disk: %w", err)
			}
			if r.Number < 0 {
				return fmt.Errorf("seller: earnings on disk: step %d", r.Number)
			}
			steps = append(steps, r)
			b.step = max(b.step, r.Number)
			return nil
		})
		for _, r := range steps {
			if r.Number > b.step-Steps {
				b.steps[r.Number%Steps] = r.Stats
			}
		}
		return errors.Join(err, tx.Bucket([]byte(bucketRan)).ForEach(func(_, v []byte) error {
			var r Ran
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("seller: what ran on disk: %w", err)
			}
			b.put(r)
			b.last = max(b.last, r.Number)
			return nil
		}))
	})
}

// Ran lists what ran here, newest first, at most n.
func (s *Seller) Ran(n int) []Ran {
	b := &s.book
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

func (s *Stats) add(o Stats) {
	s.Served += o.Served
	s.Charged += o.Charged
	s.Refused += o.Refused
	s.Failed += o.Failed
	s.Redeemed += o.Redeemed
	s.Counted += o.Counted
	s.Over += o.Over
}
