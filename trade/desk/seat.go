package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/square"
)

// seatKey is a provider's good.
type seatKey struct {
	trade    string
	provider square.Address
	spec     square.Hash
}

func (k seatKey) bytes() []byte {
	b := append(append([]byte(nil), k.provider[:]...), k.spec[:]...)
	return append(b, k.trade...)
}

// seat is what the desk knows of a provider's good: its newest offer, the leases
// on it, and how it did lately. Guarded by Desk.mu.
type seat struct {
	key     seatKey
	offer   square.Offer
	id      square.Hash // the offer's
	leases  []*lease    // usable ones
	opened  map[openKey]*openings
	shunned int64 // ledger time until which it is not asked: it was caught

	asked    bool
	latency  time.Duration
	speed    float64
	failures float64 // 0..1
}

// openKey is what leases are opened for: a policy, and requests that cost at most
// the desk's job value, or dear ones.
type openKey struct {
	square.Policy
	dear bool
}

// openings is how opening leases on a seat for one purpose goes.
type openings struct {
	opening bool
	failed  error     // of the last opening
	balks   int       // openings that failed by the provider's fault, in a row
	retry   time.Time // no new opening before; monotonic
}

func (s *seat) openings(p square.Policy, dear bool) *openings {
	o := s.opened[openKey{p, dear}]
	if o == nil {
		o = &openings{}
		s.opened[openKey{p, dear}] = o
	}
	return o
}

// under are the seat's usable leases under a policy.
func (s *seat) under(p square.Policy) (ls []*lease) {
	for _, l := range s.leases {
		if l.rec.Order.Policy == p {
			ls = append(ls, l)
		}
	}
	return ls
}

// seat returns a provider's good, known or new. Callers hold d.mu.
func (d *Desk) seat(k seatKey) *seat {
	s := d.seats[k]
	if s == nil {
		s = &seat{key: k, opened: map[openKey]*openings{}}
		d.seats[k] = s
	}
	return s
}

// Seat is a provider's good that can be asked for now, and how it did lately.
type Seat struct {
	Offer square.Offer // its newest
	ID    square.Hash  // the offer's
	// What this desk has seen of it lately; zero when it has not asked yet.
	Latency  time.Duration // until the first piece of an answer came
	Speed    float64       // of the trade's own choosing, a second
	Failures float64       // 0..1
	// Lanes are those of its leases; Busy ones pay for something now, or are lost,
	// Free ones could pay at once. Without a lease, Free is what one would have.
	Lanes, Busy, Free uint64
}

// Refresh reads the offers of all trades when they are older than age; 0: than
// the desk reads them by itself.
func (d *Desk) Refresh(ctx context.Context, age time.Duration) error {
	if age == 0 {
		age = d.cfg.Refresh
	}
	return d.list(ctx, age)
}

// list reads the offers when they are older than age.
func (d *Desk) list(ctx context.Context, age time.Duration) error {
	d.mu.Lock()
	fresh := !d.listed.IsZero() && time.Since(d.listed) < age
	d.mu.Unlock()
	if fresh {
		return nil
	}
	var offers []square.Offer
	for name := range d.trades {
		some, err := d.cfg.Ledger.Offers(ctx, name)
		if err != nil {
			return fmt.Errorf("read offers: %w", err)
		}
		offers = append(offers, some...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listed = time.Now()
	for _, o := range offers {
		if t := d.trades[o.Trade]; t == nil || t.CheckOffer(o) != nil || o.Denom != d.cfg.Denom {
			continue
		}
		s := d.seat(seatKey{o.Trade, o.Provider, o.Spec})
		if o.Nonce >= s.offer.Nonce {
			s.offer, s.id = o, o.ID(d.domain)
		}
	}
	return nil
}

// live reports whether a seat can be asked at the ledger's time now: its offer
// stands, or a lease does. Callers hold d.mu.
func (s *seat) live(now time.Time) bool {
	if s.shunned > now.Unix() || s.offer.Trade == "" {
		return false
	}
	return s.offer.Expiry > now.Unix() || slices.ContainsFunc(s.leases, func(l *lease) bool {
		return now.Before(time.Unix(l.rec.Ends, 0).Add(-l.margin()))
	})
}

// Seats are the goods of a trade that can be asked for now, of those that match,
// by subject and provider. It reads nothing from the ledger; see Refresh.
func (d *Desk) Seats(ctx context.Context, trade string, match func(*square.Offer) bool) ([]Seat, error) {
	now, err := d.clock.Now(ctx)
	if err != nil {
		return nil, stall(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Seat
	for _, s := range d.seats {
		if s.key.trade != trade || !s.live(now) || !match(&s.offer) {
			continue
		}
		x := Seat{Offer: s.offer, ID: s.id, Latency: s.latency, Speed: s.speed, Failures: s.failures}
		for _, l := range s.leases {
			for _, ln := range l.lanes {
				x.Lanes++
				if ln.busy || ln.lost {
					x.Busy++
				} else if ln.rec.Pending == nil {
					x.Free++
				}
			}
		}
		if len(s.leases) == 0 {
			x.Free = min(s.offer.Capacity, uint64(d.cfg.Lanes))
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Seat) int {
		return cmp.Or(cmp.Compare(a.Offer.Subject, b.Offer.Subject), slices.Compare(a.Offer.Provider[:], b.Offer.Provider[:]))
	})
	return out, nil
}

// saw notes how a request went.
func (d *Desk) saw(s *seat, ok bool, latency time.Duration, speed float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const weight = 0.2
	mix := func(old, v float64) float64 {
		if !s.asked {
			return v
		}
		return old + weight*(v-old)
	}
	if ok {
		s.failures *= 1 - weight
		if latency > 0 {
			s.latency = time.Duration(mix(float64(s.latency), float64(latency)))
		}
		if speed > 0 {
			s.speed = mix(s.speed, speed)
		}
		s.asked = true
	} else {
		s.failures += weight * (1 - s.failures)
	}
}

// Typed failures of buying. All are wrapped.
var (
	ErrNoProvider = errors.New("no provider fits the routing constraints")
	ErrFunds      = errors.New("the paying account's balance is too low")
	ErrBudget     = errors.New("the request could cost more than the budget left")
	ErrPrice      = errors.New("the request could cost more than a lease holds")
	ErrProvider   = errors.New("every provider tried failed")
	ErrStalled    = chain.ErrStalled
	ErrUnknown    = errors.New("the provider did not say how the request ended")
	ErrBusy       = errors.New("every lane is busy")
	ErrPaused     = errors.New("the provider has paused")
)

// ErrUncompared says that an answer of a provider with nothing at stake could not be
// compared with another's, or was another one. It was not paid for.
var ErrUncompared = errors.New("the answer could not be compared and is not paid for")

// ErrUnproven says that an answer was paid for that its provider did not prove.
var ErrUnproven = fmt.Errorf("the answer was not proven: %w", ErrUnknown)
