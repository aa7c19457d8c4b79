// Package provider is inference as a trade that is sold (package seller): engines,
// how an answer streams, and proofs of answers.
package provider

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// Service is an engine and its price.
type Service struct {
	Engine     Engine
	Rates      []square.Rate // prompt_tokens, completion_tokens
	Proven     []square.Rate // the same for answers with a proof; empty, or an engine that is no Prover: none are
	Denom      string
	Capacity   int // requests served at once, and units that may be leased
	Attributes []square.Attribute
}

// Trade sells inference.
type Trade struct {
	infer.Rules
	place uint64
	turn  chan struct{} // of who proves

	mu       sync.Mutex
	services map[square.Hash]*service // by the model's subject
	cancels  map[string]running
}

var (
	_ seller.Trade  = (*Trade)(nil)
	_ seller.Knower = (*Trade)(nil)
	_ seller.Placer = (*Trade)(nil)
	_ seller.Prover = (*Trade)(nil)
)

type service struct {
	Service
	model Model
}

// running is a request that runs, as its cancel call knows it.
type running struct {
	lease square.Hash
	lane  uint16
	stop  context.CancelFunc
}

// New sells services. place is what each unit's share of a lease's escrow pays for at
// least, in completion tokens at the lease's rate (0: infer.PlaceTokens).
func New(place uint64, services ...Service) *Trade {
	if place == 0 {
		place = infer.PlaceTokens
	}
	t := &Trade{place: place, turn: make(chan struct{}, 1), cancels: map[string]running{}}
	t.SetServices(services)
	return t
}

// SetServices replaces what is sold; the seller knows it after a Refresh.
func (t *Trade) SetServices(list []Service) {
	next := map[square.Hash]*service{}
	for _, s := range list {
		m := s.Engine.Model()
		next[m.Subject] = &service{s, m}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.services = next
}

// Goods are the services.
func (t *Trade) Goods(context.Context) ([]seller.Good, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []seller.Good
	for _, s := range slices.SortedFunc(maps.Values(t.services), func(a, b *service) int { return slices.Compare(a.model.Subject[:], b.model.Subject[:]) }) {
		attrs := []square.Attribute{{Key: "infer.context", Value: fmt.Sprint(s.model.Context)}}
		if s.model.Exact {
			attrs = append(attrs, square.Attribute{Key: "infer.exact", Value: "true"})
		}
		rates := s.Rates
		if s.prover() != nil {
			rates = append(slices.Clone(rates), trade.Under(square.PolicyProve, s.Proven)...)
		}
		out = append(out, seller.Good{
			Spec: s.model.Subject, Subject: s.model.Name, Denom: s.Denom, Rates: rates, Capacity: s.Capacity,
			Attributes: append(append(attrs, s.model.Attributes...), s.Attributes...),
		})
	}
	return out, nil
}

// Place is what so many completion tokens cost.
func (t *Trade) Place(rates []square.Rate) uint64 {
	price, err := square.Price(rates[1:], []uint64{t.place})
	if err != nil {
		return square.MaxUnits
	}
	return max(price, 1)
}

// Serve answers the paths of package infer's wire.
func (t *Trade) Serve(s *seller.Seller) http.Handler {
	mux := http.NewServeMux()
	d := counter{t, s}
	seller.Post(mux, s, "infer/serve", wire.MaxBody, d.serve)
	seller.Post(mux, s, "infer/cancel", maxCancel, d.cancel)
	seller.Post(mux, s, "infer/proof", wire.MaxBody, d.proof)
	return mux
}

// maxCancel bounds the body of a cancel call, in bytes.
const maxCancel = 1 << 10

// counter is where the trade meets its buyers.
type counter struct {
	*Trade
	seller *seller.Seller
}

// service is what answers a model; nil while it is not sold.
func (t *Trade) service(subject square.Hash) *service {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.services[subject]
}

func refuse(code, format string, args ...any) *wire.Refusal {
	return wire.Refuse(code, format, args...)
}
