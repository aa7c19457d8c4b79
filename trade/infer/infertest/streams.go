package infertest

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/tradetest"
	"github.com/torg-network/torg/trade/wire"
)

// tried is a model that answers as the suite of package tradetest says.
type tried struct {
	Toy
	work tradetest.Work
}

func (e tried) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	if err := e.work.Begin(ctx); err != nil {
		return provider.Output{}, err
	}
	if e.work.Lies() {
		job.Request.Seed[31] ^= 1 // the answer to another request
	}
	return e.Toy.Run(ctx, job, func(d infer.Delta) error {
		e.work.Piece(ctx)
		return emit(d)
	})
}

// Rules are those of a ledger that re-executes the answers of Streams.
var Rules = infer.Rules{Models: []infer.Replayer{toy}, Verifier: proof.Verifier{}}

var toy = Toy{Name: "tried"}

// Streams is inference as package tradetest tries it.
func Streams() tradetest.Streams {
	rates := []square.Rate{ // 1,000 base units and more a token, so that rounding is seen
		{Unit: infer.UnitPrompt, PerMillion: 1_000_000_300},
		{Unit: infer.UnitCompletion, PerMillion: 2_500_000_700},
	}
	request := func(n int) infer.Request {
		return infer.Request{Kind: infer.Exact, MaxTokens: 14 + uint32(n%3), TopP: 10_000, Prompt: fmt.Appendf(nil, "question %d", n)}
	}
	return tradetest.Streams{
		Rules: Rules,
		Sell: func(w tradetest.Work) seller.Trade {
			return provider.New(provider.Config{PlaceTokens: 1, Services: []provider.Service{
				{Engine: tried{toy, w}, Price: provider.Price{Rates: rates, Denom: square.Denom, Capacity: 1}},
			}})
		},
		Buy: func(l desk.Ledger) desk.Trade { return buyer.NewTrade(Rules.Models, l.Card) },
		Ask: func(ctx context.Context, d *desk.Desk, t desk.Trade, n int, piece func() error) (*wire.Signed, error) {
			b, err := buyer.New(buyer.Config{Desk: d, Trade: t.(*buyer.Trade)})
			if err != nil {
				return nil, err
			}
			ans, err := b.Do(ctx, buyer.Ask{Model: toy.Name, Stream: true, Request: request(n)}, func(infer.Delta) error { return piece() })
			if ans.Receipt.IsZero() {
				return nil, err
			}
			return &ans.Signed, err
		},
		Cost: func(n int) uint64 {
			r := request(n)
			price, err := square.Price(rates, []uint64{uint64(len(r.Prompt)), uint64(r.MaxTokens)})
			if err != nil {
				panic(err) // the rates are constants
			}
			return price
		},
		JobValue: 220_000, Escrow: 50_000_000,
	}
}
