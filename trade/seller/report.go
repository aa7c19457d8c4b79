package seller

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

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

// Selling is a good on sale here.
type Selling struct {
	square.Offer             // as it was last posted, or would be now
	ID           square.Hash `json:"id"`      // zero: it is not on the ledger
	Working      int         `json:"working"` // pieces of work that run
}

// Serving is a lease that stands.
type Serving struct {
	Lease    square.Hash    `json:"lease"`
	Buyer    square.Address `json:"buyer"`
	Trade    string         `json:"trade"`
	Subject  string         `json:"subject"` // the good's name
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
	Working  int            `json:"working"` // pieces of work that run
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
func (s *Seller) Report() Report {
	now := s.Now()
	out := Report{
		Address: s.addr, Endpoint: s.Endpoint, Control: s.Control(), Working: int(s.control.running.Load()),
		Selling: []Selling{}, Serving: []Serving{}, Fee: s.fee.Load(),
	}
	names := map[goodKey]string{}
	ledger, clockErr := s.clock.Now(context.Background())
	s.mu.Lock()
	for k, g := range s.goods {
		sell := Selling{Offer: s.offer(g, 0, 0), Working: len(g.slots)}
		for id, o := range s.offers {
			if keyOf(o) == k && (clockErr != nil || o.Expiry > ledger.Unix()) && o.Nonce > sell.Nonce {
				sell.Offer, sell.ID = o, id
			}
		}
		out.Selling = append(out.Selling, sell)
		names[k] = g.Subject
	}
	s.mu.Unlock()
	slices.SortFunc(out.Selling, func(a, b Selling) int {
		return cmp.Or(cmp.Compare(a.Trade, b.Trade), slices.Compare(a.Spec[:], b.Spec[:]))
	})
	for _, l := range s.open() {
		l.mu.Lock()
		o := l.order
		e := Serving{
			Lease: l.id, Buyer: o.Buyer, Trade: o.Trade, Subject: names[l.good], Policy: o.Policy, State: l.rec.State,
			Lanes: o.Lanes, Until: l.rec.Until,
		}
		for _, ln := range l.lanes {
			e.Charged += ln.rec.Charged
			e.Redeemed += ln.rec.Redeemed
			if ln.busy {
				e.Busy++
			}
		}
		if e.Subject == "" {
			e.Subject = o.Spec.Short()
		}
		if !e.State.Terminal() {
			out.Serving = append(out.Serving, e)
			out.Owed += e.Charged - e.Redeemed
		}
		l.mu.Unlock()
	}
	b := &s.book
	b.mu.Lock()
	b.at(now)
	for i := b.step - Steps + 1; i <= b.step; i++ {
		st := b.steps[(i+Steps)%Steps]
		out.Steps = append(out.Steps, st)
		if i > b.step-hour {
			out.Hour.add(st)
		}
	}
	out.Begin = time.Unix((b.step-Steps+1)*int64(StepTime/time.Second), 0)
	out.Refused, out.Failed, out.Ended = b.refused, b.failed, slices.Clone(b.ended)
	b.mu.Unlock()
	slices.Reverse(out.Ended)
	out.Why = out.why(now)
	return out
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
