// Package provider is inference as a trade that is sold (package seller): engines,
// how an answer streams, and proofs of answers.
package provider

import (
	"context"
	"fmt"
	"log/slog"
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
	Engine Engine
	Price
}

// Price is what a model costs, and how much of it there is.
type Price struct {
	Rates    []square.Rate // prompt_tokens, completion_tokens
	Proven   []square.Rate // the same for answers with a proof; empty, or an engine that is no Prover: none are
	Denom    string
	Capacity int // requests served at once, and units that may be leased
	// Attributes are what else the offer says: the machine's facts.
	Attributes []square.Attribute
}

// Server is an OpenAI-compatible server whose models are sold as they come and go.
type Server struct {
	Upstream
	Price
	Only []string // its models that are sold; all when empty
}

// Trade sells inference.
type Trade struct {
	infer.Rules
	place   uint64
	servers []Server
	log     *slog.Logger
	turn    chan struct{} // of who proves

	mu       sync.Mutex
	own      []Service
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

// Config is what is sold.
type Config struct {
	Services []Service
	Servers  []Server
	// PlaceTokens is what each unit's share of a lease's escrow pays for at least, in
	// completion tokens at the lease's rate (0: infer.PlaceTokens).
	PlaceTokens uint64
	Log         *slog.Logger
}

// New sells services, and the models of servers.
func New(c Config) *Trade {
	if c.PlaceTokens == 0 {
		c.PlaceTokens = infer.PlaceTokens
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	t := &Trade{place: c.PlaceTokens, servers: c.Servers, log: c.Log, turn: make(chan struct{}, 1), cancels: map[string]running{}}
	t.SetServices(c.Services)
	return t
}

// SetServices replaces the services; the seller knows it after a Refresh.
func (t *Trade) SetServices(list []Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own = slices.Clone(list)
	t.sell(nil)
}

// sell sets what is sold: the services, and others beside them. Callers hold t.mu.
func (t *Trade) sell(others []Service) {
	t.services = map[square.Hash]*service{}
	for _, s := range append(slices.Clone(t.own), others...) {
		m := s.Engine.Model()
		t.services[m.Subject] = &service{s, m}
	}
}

// served are the models that the servers have now. One that does not answer has none
// to sell; it is asked again.
func (t *Trade) served(ctx context.Context) (out []Service) {
	for _, s := range t.servers {
		models, err := s.Models(ctx)
		if err != nil {
			t.log.Warn("upstream server has no models to sell for now", "err", err)
			continue
		}
		for _, m := range models {
			if len(s.Only) == 0 || slices.Contains(s.Only, m.Name) {
				out = append(out, Service{s.Engine(m), s.Price})
			}
		}
	}
	return out
}

// Goods are the services, and what the servers have now.
func (t *Trade) Goods(ctx context.Context) ([]seller.Good, error) {
	if len(t.servers) > 0 {
		others := t.served(ctx)
		t.mu.Lock()
		t.sell(others)
		t.mu.Unlock()
	}
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
