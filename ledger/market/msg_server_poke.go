package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Poke carries out what a lease's deadline demands.
func (s msgServer) Poke(ctx context.Context, m *marketv1.MsgPoke) (*marketv1.MsgPokeResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("sender", m.Sender), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgPokeResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Poke(st, now, by, id)
	})
}
