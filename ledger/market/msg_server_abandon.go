package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Abandon ends a lease for its provider at once, at a price.
func (s msgServer) Abandon(ctx context.Context, m *marketv1.MsgAbandon) (*marketv1.MsgAbandonResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("provider", m.Provider), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgAbandonResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Abandon(st, now, by, id)
	})
}
