package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Reclaim ends a stream for its provider, with notice.
func (s msgServer) Reclaim(ctx context.Context, m *marketv1.MsgReclaim) (*marketv1.MsgReclaimResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("provider", m.Provider), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgReclaimResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Reclaim(st, now, by, id, m.Notice)
	})
}
