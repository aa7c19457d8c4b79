package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Cancel ends a lease for its buyer before it runs.
func (s msgServer) Cancel(ctx context.Context, m *marketv1.MsgCancel) (*marketv1.MsgCancelResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgCancelResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Cancel(st, now, by, id)
	})
}
