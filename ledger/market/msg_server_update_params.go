package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
)

// UpdateParams replaces the parameters. Only governance may.
func (s msgServer) UpdateParams(ctx context.Context, m *marketv1.MsgUpdateParams) (*marketv1.MsgUpdateParamsResponse, error) {
	if m.Authority != s.authority {
		return nil, marketv1.Code(fmt.Errorf("params: %w: only %s may change them", pure.ErrParty, s.authority))
	}
	if err := m.Params.Market().Check(); err != nil {
		return nil, marketv1.Code(err)
	}
	return &marketv1.MsgUpdateParamsResponse{}, s.params.Set(ctx, m.Params)
}
