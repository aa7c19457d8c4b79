package bond

import (
	"context"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Unbond starts the way out for stake that no lease has locked.
func (s msgServer) Unbond(ctx context.Context, m *bondv1.MsgUnbond) (*bondv1.MsgUnbondResponse, error) {
	by, err := square.ParseAddress(m.Provider)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	amount, err := m.Amount.Square()
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &bondv1.MsgUnbondResponse{}, s.market.Run(ctx, func(machine market.Machine, st market.Store, now int64) ([]market.Event, error) {
		return machine.Unbond(st, now, by, m.Trade, amount)
	})
}
