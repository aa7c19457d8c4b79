package buyer

import (
	"context"
	"sync"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
)

// Trade is inference as a desk buys it: what it costs at most, what a receipt must
// fit, how answers are done again and how they are proven. Use NewTrade.
type Trade struct {
	infer.Rules
	cardOf func(context.Context, square.Hash) ([]byte, error)

	mu    sync.Mutex
	cards map[square.Hash]*proof.Model
}

var (
	_ desk.Trade   = (*Trade)(nil)
	_ desk.Auditor = (*Trade)(nil)
	_ desk.Prover  = (*Trade)(nil)
)

// NewTrade makes the trade. Answers of models that re-execute, as these do, are
// audited. card returns the card that proofs about a model are checked against;
// market.ErrNotFound, wrapped, without one.
func NewTrade(models []infer.Replayer, card func(ctx context.Context, spec square.Hash) ([]byte, error)) *Trade {
	return &Trade{Rules: infer.Rules{Models: models}, cardOf: card, cards: map[square.Hash]*proof.Model{}}
}

// Rates are an offer's for leases under a policy.
func (t *Trade) Rates(o square.Offer, p square.Policy) []square.Rate { return infer.Terms(o, p) }

// Place is what infer.PlaceTokens cost.
func (t *Trade) Place(rates []square.Rate) uint64 {
	place, err := square.Price(rates[1:], []uint64{infer.PlaceTokens})
	if err != nil {
		return 0
	}
	return place
}

func (t *Trade) replayer(subject square.Hash) infer.Replayer {
	for _, m := range t.Models {
		if m.Subject() == subject {
			return m
		}
	}
	return nil
}

// Audits reports whether the model is one that re-executes here.
func (t *Trade) Audits(subject square.Hash) bool { return t.replayer(subject) != nil }

// Audit re-executes an answer.
func (t *Trade) Audit(ctx context.Context, r desk.Record) (v square.Verdict, part uint64, err error) {
	// That the receipt is of the lease's own model was checked when it came.
	e := r.Evidence
	v, err = t.Judge(trade.Case{Evidence: e, Lease: market.Lease{ID: e.Receipt.Lease, Order: square.Order{Spec: e.Receipt.Subject}}})
	if v == square.VerdictFraud {
		part = t.where(ctx, r) // runs the model once more
	}
	return v, part, err
}
