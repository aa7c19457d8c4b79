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
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
)

func contextLength(o square.Offer) uint64 {
	n, _ := strconv.ParseUint(o.Attribute("infer.context"), 10, 32)
	return n
}

// model describes a seat.
func (b *Buyer) model(s desk.Seat) Model {
	policy, _ := b.cfg.Desk.Policy("")
	own := infer.Terms(s.Offer, policy)
	if own == nil { // it can only be asked under another policy
		own = trade.RatesFor(s.Offer.Rates, "")
	}
	return Model{
		ID: s.Offer.Subject, Digest: s.Offer.Spec, Exact: s.Offer.Attribute("infer.exact") == "true",
		Context: contextLength(s.Offer), Provider: s.Offer.Provider, Offer: s.ID,
		Rates: own, Proven: infer.Terms(s.Offer, square.PolicyProve), Denom: s.Offer.Denom, Free: s.Free,
		TTFT: s.Latency, Throughput: s.Speed, Failures: s.Failures,
	}
}

// Models lists what can be asked now.
func (b *Buyer) Models(ctx context.Context) ([]Model, error) {
	err := b.cfg.Desk.Refresh(ctx, 0)
	seats, serr := b.cfg.Desk.Seats(ctx, infer.Name, func(*square.Offer) bool { return true })
	if serr != nil || len(seats) == 0 {
		return nil, errors.Join(err, serr)
	}
	out := make([]Model, len(seats))
	for i, s := range seats {
		out[i] = b.model(s)
	}
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
func (b *Buyer) route(ctx context.Context, a Ask) ([]desk.Seat, error) {
	seats, err := b.fitting(ctx, a)
	if errors.Is(err, ErrNoModel) {
		// It may have come since; ask the ledger once.
		if lerr := b.cfg.Desk.Refresh(ctx, 200*time.Millisecond); lerr == nil {
			return b.fitting(ctx, a)
		}
	}
	return seats, err
}

func (b *Buyer) fitting(ctx context.Context, a Ask) ([]desk.Seat, error) {
	spec := strings.TrimPrefix(a.Model, "0x")
	known, err := b.cfg.Desk.Seats(ctx, infer.Name, func(o *square.Offer) bool {
		return o.Subject == a.Model || o.Spec.String() == spec
	})
	if err != nil {
		return nil, err
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("model %q: %w", square.Clip(a.Model, 80), ErrNoModel)
	}
	var out []desk.Seat
	rank := map[square.Hash]float64{} // by offer
	for _, s := range known {
		rates := infer.Terms(s.Offer, a.Route.Policy)
		r, at := a.Route, named(s.Offer.Provider, a.Route.Order)
		switch {
		case rates == nil,
			len(r.Only) > 0 && named(s.Offer.Provider, r.Only) < 0,
			named(s.Offer.Provider, r.Ignore) >= 0,
			r.NoFallbacks && len(r.Order) > 0 && at < 0,
			r.MaxPrompt > 0 && rates[0].PerMillion > r.MaxPrompt,
			r.MaxCompletion > 0 && rates[1].PerMillion > r.MaxCompletion:
			continue
		}
		rank[s.ID] = score(s, a, rates)
		out = append(out, s)
	}
	if len(out) == 0 {
		if a.Route.Policy == square.PolicyProve {
			return nil, fmt.Errorf("model %q with a proof: %w", square.Clip(a.Model, 80), desk.ErrNoProvider)
		}
		return nil, fmt.Errorf("model %q: %w", square.Clip(a.Model, 80), desk.ErrNoProvider)
	}
	slices.SortFunc(out, func(x, y desk.Seat) int {
		ix, iy := named(x.Offer.Provider, a.Route.Order), named(y.Offer.Provider, a.Route.Order)
		if (ix >= 0) != (iy >= 0) {
			return map[bool]int{true: -1, false: 1}[ix >= 0]
		}
		return cmp.Or(cmp.Compare(ix, iy), cmp.Compare(rank[x.ID], rank[y.ID]), slices.Compare(x.Offer.Provider[:], y.Offer.Provider[:]))
	})
	if a.Route.NoFallbacks && len(a.Route.Order) == 0 {
		out = out[:1]
	}
	return out, nil
}

// score is what a request is expected to cost with this seat, in money or in
// patience; lower is better. Estimates only: nothing is paid by them.
func score(s desk.Seat, a Ask, rates []square.Rate) float64 {
	answer := float64(a.Request.MaxTokens)
	if answer == 0 {
		answer = 256
	}
	price := 1 + float64(rates[0].PerMillion)*float64(len(a.Request.Prompt)) + float64(rates[1].PerMillion)*answer
	wait := s.Latency.Seconds()
	if s.Speed > 0 {
		wait += min(answer, 256) / s.Speed
	}
	unreliable := 1 / math.Max(0.05, 1-s.Failures)
	switch a.Route.Sort {
	case "price":
		return price * unreliable
	case "latency":
		return (0.001 + s.Latency.Seconds()) * unreliable
	case "throughput":
		if s.Speed == 0 {
			return 1e-9 // not measured yet: find out
		}
		return unreliable / s.Speed
	}
	return price * (1 + wait) * unreliable * unreliable * (1 + float64(s.Busy)/float64(s.Lanes+1))
}

// takes estimates how long a request takes on this seat.
func takes(s desk.Seat, j meter.Job) time.Duration {
	tokens := float64(j.Tokens(0))
	rate := s.Speed
	if rate <= 0 {
		rate = 100 // not measured yet
	}
	return s.Latency + time.Duration(min(tokens/rate, 3600)*float64(time.Second))
}
