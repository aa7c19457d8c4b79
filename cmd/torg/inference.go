package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/torg-network/torg/console"
	pages "github.com/torg-network/torg/console/infer"
	"github.com/torg-network/torg/console/infer/models"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/plug"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
)

// inference is the trade of models: the bundled one, and those of a server.
var inference = plug.Kit{
	Rules: infer.Rules{Models: replayers(), Verifier: proof.Verifier{}},
	Cards: func() ([][]byte, error) {
		card, err := bundledCard(context.Background(), nano.Model().Digest())
		return [][]byte{card}, err
	},
	Card: bundledCard,
	Commands: func(plug.Find) []*cobra.Command {
		return []*cobra.Command{chatCommand(), proveCommand(), verifyCommand(), modelCommand()}
	},
	Settings: []plug.Setting{
		{Name: "upstream", Help: "also sell the models of this OpenAI-compatible server, e.g. http://127.0.0.1:11434/v1", Of: "up"},
		{Name: "upstream-key", Help: "API key for the upstream server", Of: "up"},
		{Name: "price-prompt", Default: "0.1", Help: "TORG per million prompt tokens this machine asks for", Of: "up"},
		{Name: "price-completion", Default: "1", Help: "TORG per million completion tokens this machine asks for", Of: "up"},
		{Name: "api-key", Help: "API key for chat (default: the one torg up made)", Of: "chat"},
		{Name: "api-base", Help: "OpenAI base URL for chat (default: the running torg up)", Of: "chat"},
	},
	Words: answerWords,
	Page:  pages.Path,
	Open:  openInference,
}

// replayers are the exact models whose weights this binary has.
func replayers() []infer.Replayer { return []infer.Replayer{replay.Model{Model: nano.Model()}} }

// bundledCard is the bundled model's, made here. A card that somebody else made is not
// believed: only who has the model can tell whether it is of it.
func bundledCard(_ context.Context, spec square.Hash) ([]byte, error) {
	if spec != nano.Model().Digest() {
		return nil, market.ErrNotFound
	}
	p, err := bundledProver()
	if err != nil {
		return nil, err
	}
	return p.Encode(), nil
}

// inferring is the trade on one square.
type inferring struct {
	square *plug.Square
	trade  *buyer.Trade // as the desk buys it
	asks   *buyer.Buyer // asks over the desk, for the door and the pages
}

func openInference(ctx context.Context, sq *plug.Square) (plug.Stall, error) {
	sells, err := bundled(ctx, sq)
	if err != nil {
		return plug.Stall{}, err
	}
	in := &inferring{square: sq, trade: buyer.NewTrade(replayers(), bundledCard)}
	return plug.Stall{Sells: sells, Buys: in.trade, Doors: in.doors, Pages: in.pages, Greet: greetChat}, nil
}

// doors is the OpenAI API.
func (in *inferring) doors() (map[string]http.Handler, error) {
	var err error
	if in.asks, err = buyer.New(buyer.Config{Desk: in.square.Desk, Trade: in.trade}); err != nil {
		return nil, err
	}
	api, err := openai.New(openai.Config{
		Seller: in.asks, Keys: in.square.Keys, Log: in.square.Log,
		Concurrent: max(256, 2*in.square.Streams), // one key may have half of the places
		Observe: func(ctx context.Context, e openai.Event) {
			if span := oteltrace.SpanFromContext(ctx); span.IsRecording() { // what OpenTelemetry calls it
				span.SetAttributes(attribute.String("gen_ai.request.model", e.Model),
					attribute.Int64("gen_ai.usage.input_tokens", int64(e.Prompt)), attribute.Int64("gen_ai.usage.output_tokens", int64(e.Completion)))
			}
			in.square.Observe(ctx, e.Served())
		},
	})
	return map[string]http.Handler{"/v1/": api}, err
}

func (in *inferring) pages(r console.Room) []ui.Page {
	return pages.Pages(r, in.asks, knownModel, in.square.API)
}

// knownModel tells of models what offers cannot make up.
func knownModel(_ context.Context, digest square.Hash) (models.Known, error) {
	if digest != nano.Model().Digest() {
		return models.Known{}, source.ErrNotFound
	}
	p, err := bundledProver()
	if err != nil {
		return models.Known{}, err
	}
	return models.Known{
		Name: nano.Name, From: "this torg, which brings the model along and made the card from its weights",
		Card: p.ID(), CardBytes: len(p.Encode()), About: nano.Card, File: "exact/nano/CARD.md",
	}, nil
}

// greetChat is what torg up says of inference.
func greetChat(at plug.Place) string {
	return fmt.Sprintf(`OpenAI base URL  %[1]s/v1

Ask it something:

  curl %[1]s/v1/chat/completions -H 'Authorization: Bearer %[2]s' \
    -H 'Content-Type: application/json' \
    -d '{"model":"%[3]s","messages":[{"role":"user","content":"It is a truth universally acknowledged"}],"max_tokens":80}'

  torg chat              talk to it, in another terminal

The bundled model writes like Jane Austen and knows nothing. --upstream sells a real one.`, at.URL, at.Key, nano.Name)
}

// provenTimes is how many times as much an answer with a proof costs here, which
// is about what it takes more of the processor.
const provenTimes = 10

// bundled are the models that this machine sells.
func bundled(ctx context.Context, sq *plug.Square) (*provider.Trade, error) {
	rates, err := tokenRates(sq.Settings)
	if err != nil {
		return nil, err
	}
	// Twice the lanes, since a lease is renewed before it ends; and
	// room for leases of a few lanes under another policy.
	price := provider.Price{Rates: rates, Denom: square.Denom, Capacity: 2*max(sq.Lanes, sq.Streams) + 4, Attributes: node.Hardware().Attributes()}
	if provesHere(ctx, sq) {
		for _, r := range rates {
			price.Proven = append(price.Proven, square.Rate{Unit: r.Unit, PerMillion: min(r.PerMillion, square.MaxUnits/provenTimes) * provenTimes})
		}
	}
	c := provider.Config{Services: []provider.Service{{Engine: provider.Exact(nano.Model()), Price: price}}, Log: sq.Log.With("part", "provider")}
	if token := rates[1].PerMillion / 1_000_000; token > 0 { // a desk may have a single lane
		c.PlaceTokens = min(infer.PlaceTokens, max(sq.Escrow/token, 1))
	}
	if base := sq.Settings.Get("upstream"); base != "" {
		// Clients write the base URL with /v1, as OpenAI's do.
		base = strings.TrimSuffix(strings.TrimRight(base, "/"), "/v1")
		if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
			return nil, sq.Settings.Bad("upstream", errors.New("write it http://host:port/v1"))
		}
		c.Servers = []provider.Server{{Upstream: provider.Upstream{Base: base, APIKey: sq.Settings.Get("upstream-key")}, Price: price}}
	}
	return provider.New(c), nil
}

// tokenRates reads the two prices from the settings: TORG per million tokens, which
// is base units per token, so a million times that per million.
func tokenRates(s plug.Settings) (rates []square.Rate, err error) {
	for _, p := range []struct{ setting, unit string }{{"price-prompt", infer.UnitPrompt}, {"price-completion", infer.UnitCompletion}} {
		a, err := square.ParseAmount(s.Get(p.setting))
		if err != nil {
			return nil, s.Bad(p.setting, err)
		}
		rates = append(rates, square.Rate{Unit: p.unit, PerMillion: a.Units})
	}
	return rates, nil
}

// provesHere reports whether answers can be sold with proofs: whether the card that
// they are checked against is on the ledger. One that another version of torg began
// may not have it yet.
func provesHere(ctx context.Context, sq *plug.Square) bool {
	card, err := bundledCard(ctx, nano.Model().Digest())
	if err == nil {
		if _, err = sq.Ledger.Card(ctx, sha256.Sum256(card)); errors.Is(err, market.ErrNotFound) {
			err = sq.Ledger.PublishCard(ctx, infer.Name, card)
		}
	}
	if err != nil {
		sq.Log.Warn("answers are not sold with proofs", "err", err)
	}
	return err == nil
}

var finishWords = map[infer.Finish]string{
	infer.FinishStop: "stop", infer.FinishLength: "length", infer.FinishCancelled: "cancelled", infer.FinishError: "error",
}

// answerWords opens evidence into words. Answers of exact models need the model.
func answerWords(e square.Evidence) (source.Words, error) {
	q, err := infer.DecodeRequest(e.Request)
	if err != nil {
		return source.Words{}, err
	}
	r, err := infer.DecodeResult(e.Result)
	if err != nil {
		return source.Words{}, err
	}
	w := source.Words{Request: string(q.Prompt), Finish: finishWords[r.Finish]}
	switch q.Kind {
	case infer.Exact:
		w.Kind = "exact completion"
		w.How = fmt.Sprintf("temperature %s, top_p %s, seed %s", thousandths(q.Temperature, 1000), thousandths(q.TopP, 10000), q.Seed.Short())
		if m := (replay.Model{Model: nano.Model()}); m.Subject() == e.Receipt.Subject {
			w.Result = m.Text(q, r)
		}
	case infer.Embed:
		w.Kind, w.Result = "exact embedding", fmt.Sprintf("%d numbers", len(r.Vector))
	case infer.Opaque:
		w.Kind, w.Result = "upstream server", string(r.Text)
	}
	return w, nil
}

func thousandths(n, unit uint32) string { return decimal(float64(n) / float64(unit)) }
