package market

import (
	"context"
	"fmt"

	"cosmossdk.io/collections"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/trade"
)

// RegisterModel says against which card proofs about a spec are checked. Only
// governance may: to believe a card is to believe that it was made from the
// model whose digest the spec is, which anyone can check who has the model. A
// card stays for ever, since a provider that was challenged must be able to
// answer.
func (s msgServer) RegisterModel(ctx context.Context, m *marketv1.MsgRegisterModel) (*marketv1.MsgRegisterModelResponse, error) {
	if m.Authority != s.authority {
		return nil, marketv1.Code(fmt.Errorf("model: %w: only %s may register one", pure.ErrParty, s.authority))
	}
	return &marketv1.MsgRegisterModelResponse{}, marketv1.Code(s.register(ctx, m.Model))
}

func (k *Keeper) register(ctx context.Context, m marketv1.Model) error {
	var r squarev1.Reader
	spec := r.Hash("model: spec", m.Spec)
	if r.Err != nil {
		return r.Err
	}
	rules, err := k.rules(m.Trade)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	p, ok := rules.(trade.Provable)
	if !ok {
		return fmt.Errorf("model: nothing in trade %s can be proven", m.Trade)
	}
	if err := p.CheckCard(m.Card); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	of := collections.Join(m.Trade, spec[:])
	if twice, err := k.models.Has(ctx, of); err != nil {
		return err
	} else if twice {
		return fmt.Errorf("model %s: %w: its card stays as it is", spec.Short(), pure.ErrUsed)
	}
	m.Spec = spec.String()
	return k.models.Set(ctx, of, m)
}
