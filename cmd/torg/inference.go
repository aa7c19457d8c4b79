package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/seller"
)

// inference is the trade of models: the bundled one, and those of a server.
var inference = kit{
	rules: infer.Rules{Models: replayers(), Verifier: proof.Verifier{}},
	cards: func() ([][]byte, error) {
		p, err := bundledProver()
		if err != nil {
			return nil, err
		}
		return [][]byte{p.Encode()}, nil
	},
	sells: func(ctx context.Context, s *openSquare) (seller.Trade, error) { return s.models(ctx) },
	buys: func(s *openSquare) desk.Trade {
		s.inference = buyer.NewTrade(replayers(), buyerView{}.Card)
		return s.inference
	},
}

// replayers are the exact models whose weights this binary has.
func replayers() []infer.Replayer { return []infer.Replayer{replay.Model{Model: nano.Model()}} }

// provenTimes is how many times as much an answer with a proof costs here, which
// is about what it takes more of the processor.
const provenTimes = 10

// models are what this machine sells of inference.
func (s *openSquare) models(ctx context.Context) (seller.Trade, error) {
	rates, err := s.rates()
	if err != nil {
		return nil, err
	}
	lanes, err := s.cfg.number("lanes", 1, square.MaxLanes)
	if err != nil {
		return nil, err
	}
	streams, err := s.cfg.number("streams", 0, maxStreams)
	if err != nil {
		return nil, err
	}
	escrow, err := s.escrow()
	if err != nil {
		return nil, err
	}
	// Twice the lanes, since a lease is renewed before it ends; and
	// room for leases of a few lanes under another policy.
	price := provider.Price{Rates: rates, Denom: square.Denom, Capacity: 2*max(lanes, streams) + 4, Attributes: node.Hardware().Attributes()}
	if s.provesHere(ctx) {
		for _, r := range rates {
			price.Proven = append(price.Proven, square.Rate{Unit: r.Unit, PerMillion: min(r.PerMillion, square.MaxUnits/provenTimes) * provenTimes})
		}
	}
	c := provider.Config{Services: []provider.Service{{Engine: provider.Exact(nano.Model()), Price: price}}, Log: s.log.With("part", "provider")}
	if token := rates[1].PerMillion / 1_000_000; token > 0 { // a desk may have a single lane
		c.PlaceTokens = min(infer.PlaceTokens, max(escrow/token, 1))
	}
	if base := s.cfg.get("upstream"); base != "" {
		// Clients write the base URL with /v1, as OpenAI's do.
		base = strings.TrimSuffix(strings.TrimRight(base, "/"), "/v1")
		if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
			return nil, s.cfg.bad("upstream", errors.New("write it http://host:port/v1"))
		}
		c.Servers = []provider.Server{{Upstream: provider.Upstream{Base: base, APIKey: s.cfg.get("upstream-key")}, Price: price}}
	}
	return provider.New(c), nil
}

// rates reads the two prices from the settings: TORG per million tokens, which
// is base units per token, so a million times that per million.
func (s *openSquare) rates() (rates []square.Rate, err error) {
	for _, p := range []struct{ setting, unit string }{{"price-prompt", infer.UnitPrompt}, {"price-completion", infer.UnitCompletion}} {
		a, err := square.ParseAmount(s.cfg.get(p.setting))
		if err != nil {
			return nil, s.cfg.bad(p.setting, err)
		}
		rates = append(rates, square.Rate{Unit: p.unit, PerMillion: a.Units})
	}
	return rates, nil
}

// provesHere reports whether answers can be sold with proofs: whether the card that
// they are checked against is on the ledger. One that another version of torg began
// may not have it yet.
func (s *openSquare) provesHere(ctx context.Context) bool {
	made, err := bundledProver()
	if err == nil {
		card := made.Encode()
		if _, err = s.client.Card(ctx, sha256.Sum256(card)); errors.Is(err, client.ErrNotFound) {
			_, err = s.client.Account(s.keyring.provider).PublishCard(ctx, infer.Name, card)
		}
	}
	if err != nil {
		s.log.Warn("answers are not sold with proofs", "err", err)
	}
	return err == nil
}
