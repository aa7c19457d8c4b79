package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Start is the provider's word that it serves a matched lease.
func (s msgServer) Start(ctx context.Context, m *marketv1.MsgStart) (*marketv1.MsgStartResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("provider", m.Provider), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgStartResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Start(st, now, by, id)
	})
}
