package bond

import (
	"context"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Bond moves the provider's own money into its stake in a trade.
func (s msgServer) Bond(ctx context.Context, m *bondv1.MsgBond) (*bondv1.MsgBondResponse, error) {
	by, err := square.ParseAddress(m.Provider)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	amount, err := m.Amount.Square()
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &bondv1.MsgBondResponse{}, s.market.Run(ctx, func(machine market.Machine, st market.Store, now int64) ([]market.Event, error) {
		return machine.Bond(st, now, by, m.Trade, amount)
	})
}
