package bond

import (
	"context"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Finish pays out stake whose unbonding is over.
func (s msgServer) Finish(ctx context.Context, m *bondv1.MsgFinish) (*bondv1.MsgFinishResponse, error) {
	provider, err := square.ParseAddress(m.Provider)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	key := market.StakeKey{Provider: provider, Trade: m.Trade, Denom: m.Denom}
	return &bondv1.MsgFinishResponse{}, s.market.Run(ctx, func(machine market.Machine, st market.Store, now int64) ([]market.Event, error) {
		return machine.FinishUnbond(st, now, key)
	})
}
