package bond

import (
	"context"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Enlist says whether a stake sits as a judge when it is drawn.
func (s msgServer) Enlist(ctx context.Context, m *bondv1.MsgEnlist) (*bondv1.MsgEnlistResponse, error) {
	var r squarev1.Reader
	by := r.Address("judge", m.Judge)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	key := pure.StakeKey{Provider: by, Trade: m.Trade, Denom: m.Denom}
	return &bondv1.MsgEnlistResponse{}, s.market.Enlist(ctx, key, m.On)
}
