package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// TopUp adds to the escrow of a stream.
func (s msgServer) TopUp(ctx context.Context, m *marketv1.MsgTopUp) (*marketv1.MsgTopUpResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgTopUpResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.TopUp(st, now, by, id, m.Units)
	})
}
