package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Accept is the buyer's word that a result is right.
func (s msgServer) Accept(ctx context.Context, m *marketv1.MsgAccept) (*marketv1.MsgAcceptResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgAcceptResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Accept(st, now, by, id)
	})
}
