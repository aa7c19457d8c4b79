package market

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// MaxAnswer bounds an answer in bytes. A larger result is named by where it may be
// fetched, in a trade whose judges can say that it may not.
const MaxAnswer = 512 << 10

// Answer hands over a result of which the buyer says that it was withheld: sealed
// to the buyer's key (whether it opens, Unseal finds), or what the trade takes in
// its place, which is checked here.
func (s msgServer) Answer(ctx context.Context, m *marketv1.MsgAnswer) (*marketv1.MsgAnswerResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("provider", m.Provider), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgAnswerResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		// The machine looks first: it costs less than an answer.
		digest := square.Hash(sha256.Sum256(append([]byte(m.Locator), m.Answer...)))
		cost, err := s.spent(ctx, 0)
		if err != nil {
			return nil, err
		}
		events, err := machine.Answer(st, now, by, id, digest, cost)
		if err != nil {
			return nil, err
		}
		if err := s.answers(ctx, l, m); err != nil {
			return nil, err
		}
		q, err := s.asked.Get(ctx, id[:])
		if err != nil {
			return nil, fmt.Errorf("question of lease %s: %w", id.Short(), missing(err))
		}
		q.Answer, q.Locator = m.Answer, m.Locator
		return events, s.asked.Set(ctx, id[:], q)
	})
}

// answers refuses what cannot be an answer.
func (k *Keeper) answers(ctx context.Context, l pure.Lease, m *marketv1.MsgAnswer) error {
	rules, err := k.rules(l.Order.Trade)
	if err != nil {
		return err
	}
	c := trade.Case{Lease: l}
	c.Receipt = *l.Receipt
	switch {
	case len(m.Answer) > MaxAnswer:
		return fmt.Errorf("answer: %d bytes: at most %d; name where the result may be fetched", len(m.Answer), MaxAnswer)
	case (len(m.Answer) > 0) == (m.Locator != ""):
		return errors.New("answer: want the answer, or in its place the locator")
	case len(m.Locator) > square.MaxText:
		return fmt.Errorf("answer: locator: at most %d bytes", square.MaxText)
	case m.Locator != "":
		p, ok := rules.(trade.Panelled)
		if !ok {
			return fmt.Errorf("answer: locator: in trade %s nobody could say that it cannot be fetched; bring the result itself", l.Order.Trade)
		}
		if err := p.Panel(c, true); err != nil {
			return fmt.Errorf("answer: locator: %w", err)
		}
		return nil
	}
	opening, ok := rules.(trade.Answerable)
	if !ok {
		return nil // sealed
	}
	gas, err := opening.AnswerGas(c, m.Answer)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	sdk.UnwrapSDKContext(ctx).GasMeter().ConsumeGas(gas, "check answer")
	return opening.CheckAnswer(c, m.Answer)
}
