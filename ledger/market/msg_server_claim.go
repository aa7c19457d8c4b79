package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Claim commits a provider to its result and its price.
func (s msgServer) Claim(ctx context.Context, m *marketv1.MsgClaim) (*marketv1.MsgClaimResponse, error) {
	var r squarev1.Reader
	by, id, root := r.Address("provider", m.Provider), r.Hash("lease", m.Lease), r.Hash("root", m.Root)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgClaimResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Claim(st, now, by, id, root, m.Price)
	})
}
