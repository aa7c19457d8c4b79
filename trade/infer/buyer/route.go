package buyer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
)

// list reads the offers when they are older than age.
func (d *Desk) list(ctx context.Context, age time.Duration) error {
	d.mu.Lock()
	fresh := !d.listed.IsZero() && time.Since(d.listed) < age
	d.mu.Unlock()
	if fresh {
		return nil
	}
	offers, err := d.cfg.Ledger.Offers(ctx, infer.Name)
	if err != nil {
		return fmt.Errorf("read offers: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listed = time.Now()
	for _, o := range offers {
		if (infer.Rules{}).CheckOffer(o) != nil || o.Trade != infer.Name || o.Denom != d.cfg.Denom {
			continue
		}
		s := d.seat(seatKey{o.Provider, o.Spec})
		if o.Nonce >= s.offer.Nonce {
			s.offer, s.id = o, o.ID(d.domain)
		}
	}
	return nil
}

func contextLength(o square.Offer) uint64 {
	n, _ := strconv.ParseUint(o.Attribute("infer.context"), 10, 32)
	return n
}

// model describes a seat. Callers hold d.mu.
func (d *Desk) model(s *seat) Model {
	own := infer.Terms(s.offer, d.cfg.Policy)
	if own == nil { // it can only be asked under another policy
		own = trade.RatesFor(s.offer.Rates, "")
	}
	m := Model{
		ID: s.offer.Subject, Digest: s.key.spec, Exact: s.offer.Attribute("infer.exact") == "true",
		Context: contextLength(s.offer), Provider: s.key.provider, Offer: s.id,
		Rates: own, Proven: infer.Terms(s.offer, square.PolicyProve), Denom: s.offer.Denom,
		TTFT: s.ttft, Throughput: s.rate, Failures: s.failures,
	}
	for _, l := range s.leases {
		for _, ln := range l.lanes {
			if !ln.busy && !ln.lost && ln.rec.Pending == nil {
				m.Free++
			}
		}
	}
	if len(s.leases) == 0 {
		m.Free = min(s.offer.Capacity, uint64(d.cfg.Lanes))
	}
	return m
}

// live reports whether a seat can be asked at the ledger's time now: its offer
// stands, or a lease does. Callers hold d.mu.
func (s *seat) live(now time.Time) bool {
	if s.shunned > now.Unix() || s.offer.Subject == "" {
		return false
	}
	return s.offer.Expiry > now.Unix() || slices.ContainsFunc(s.leases, func(l *lease) bool {
		return now.Before(time.Unix(l.rec.Ends, 0).Add(-l.margin()))
	})
}

// Models lists what can be asked now.
func (d *Desk) Models(ctx context.Context) ([]Model, error) {
	err := d.list(ctx, d.cfg.Refresh)
	now, clockErr := d.clock.Now(ctx)
	if clockErr != nil {
		return nil, errors.Join(err, clockErr)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Model
	for _, s := range d.seats {
		if s.live(now) {
			out = append(out, d.model(s))
		}
	}
	if len(out) == 0 && err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Model) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), slices.Compare(a.Provider[:], b.Provider[:]))
	})
	return out, nil
}

// named reports whether a provider is in a list of addresses or their
// prefixes.
func named(p square.Address, list []string) int {
	for i, s := range list {
		if s != "" && (strings.HasPrefix(p.String(), s) || strings.HasPrefix(p.Hex(), strings.ToLower(s))) {
			return i
		}
	}
	return -1
}

// route returns the seats to try, best first.
func (d *Desk) route(ctx context.Context, a Ask) ([]*seat, error) {
	seats, err := d.fitting(ctx, a)
	if errors.Is(err, ErrNoModel) {
		// It may have come since; ask the ledger once.
		if lerr := d.list(ctx, 200*time.Millisecond); lerr == nil {
			return d.fitting(ctx, a)
		}
	}
	return seats, err
}

// policy is how a request's answer is to be verified.
func (d *Desk) policy(a Ask) square.Policy {
	if a.Route.Policy == "" {
		return d.cfg.Policy
	}
	return a.Route.Policy
}

func (d *Desk) fitting(ctx context.Context, a Ask) ([]*seat, error) {
	now, err := d.clock.Now(ctx)
	if err != nil {
		return nil, stall(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := false
	var out []*seat
	for _, s := range d.seats {
		if s.offer.Subject != a.Model && s.key.spec.String() != strings.TrimPrefix(a.Model, "0x") || !s.live(now) {
			continue
		}
		known = true
		rates := infer.Terms(s.offer, d.policy(a))
		r, at := a.Route, named(s.key.provider, a.Route.Order)
		switch {
		case rates == nil,
			len(r.Only) > 0 && named(s.key.provider, r.Only) < 0,
			named(s.key.provider, r.Ignore) >= 0,
			r.NoFallbacks && len(r.Order) > 0 && at < 0,
			r.MaxPrompt > 0 && rates[0].PerMillion > r.MaxPrompt,
			r.MaxCompletion > 0 && rates[1].PerMillion > r.MaxCompletion:
			continue
		}
		out = append(out, s)
	}
	if !known {
		return nil, fmt.Errorf("model %q: %w", clip(a.Model), ErrNoModel)
	}
	if len(out) == 0 {
		if d.policy(a) == square.PolicyProve {
			return nil, fmt.Errorf("model %q with a proof: %w", clip(a.Model), ErrNoProvider)
		}
		return nil, fmt.Errorf("model %q: %w", clip(a.Model), ErrNoProvider)
	}
	rank := map[*seat]float64{}
	for _, s := range out {
		rank[s] = s.score(a, infer.Terms(s.offer, d.policy(a)))
	}
	slices.SortFunc(out, func(x, y *seat) int {
		ix, iy := named(x.key.provider, a.Route.Order), named(y.key.provider, a.Route.Order)
		if (ix >= 0) != (iy >= 0) {
			return map[bool]int{true: -1, false: 1}[ix >= 0]
		}
		return cmp.Or(cmp.Compare(ix, iy), cmp.Compare(rank[x], rank[y]), slices.Compare(x.key.provider[:], y.key.provider[:]))
	})
	if a.Route.NoFallbacks && len(a.Route.Order) == 0 {
		out = out[:1]
	}
	return out, nil
}

// score is what a request is expected to cost with this seat, in money or in
// patience; lower is better. Estimates only: nothing is paid by them. Callers
// hold d.mu.
func (s *seat) score(a Ask, rates []square.Rate) float64 {
	answer := float64(a.Request.MaxTokens)
	if answer == 0 {
		answer = 256
	}
	price := 1 + float64(rates[0].PerMillion)*float64(len(a.Request.Prompt)) + float64(rates[1].PerMillion)*answer
	wait := s.ttft.Seconds()
	if s.rate > 0 {
		wait += min(answer, 256) / s.rate
	}
	unreliable := 1 / math.Max(0.05, 1-s.failures)
	switch a.Route.Sort {
	case "price":
		return price * unreliable
	case "latency":
		return (0.001 + s.ttft.Seconds()) * unreliable
	case "throughput":
		if s.rate == 0 {
			return 1e-9 // not measured yet: find out
		}
		return unreliable / s.rate
	}
	busy, lanes := 0, 1
	for _, l := range s.leases {
		for _, ln := range l.lanes {
			lanes++
			if ln.busy || ln.lost {
				busy++
			}
		}
	}
	return price * (1 + wait) * unreliable * unreliable * (1 + float64(busy)/float64(lanes))
}

// takes estimates how long a request takes on this seat. Callers hold d.mu.
func (s *seat) takes(r infer.Request) time.Duration {
	tokens := float64(r.MaxTokens)
	if r.Kind == infer.Opaque {
		tokens = meter.DefaultCompletion
		if b, err := meter.ReadBody(r.Prompt); err == nil && b.Completion > 0 {
			tokens = float64(b.Completion)
		}
	}
	rate := s.rate
	if rate <= 0 {
		rate = 100 // not measured yet
	}
	return s.ttft + time.Duration(min(tokens/rate, 3600)*float64(time.Second))
}

// saw notes how a request went.
func (d *Desk) saw(s *seat, ok bool, ttft time.Duration, rate float64) {
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
		if ttft > 0 {
			s.ttft = time.Duration(mix(float64(s.ttft), float64(ttft)))
		}
		if rate > 0 {
			s.rate = mix(s.rate, rate)
		}
		s.asked = true
	} else {
		s.failures += weight * (1 - s.failures)
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
