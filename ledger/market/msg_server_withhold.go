package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Withhold is the buyer's word that a claimed result was not handed over. The key
// is for the answer alone.
func (s msgServer) Withhold(ctx context.Context, m *marketv1.MsgWithhold) (*marketv1.MsgWithholdResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	charge(ctx, 1)
	if err := square.CheckSealKey(m.Key); err != nil {
		return nil, marketv1.Code(err)
	}
	return &marketv1.MsgWithholdResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		events, err := machine.Withhold(st, now, by, id, m.Bond)
		if err != nil {
			return nil, err
		}
		return events, s.asked.Set(ctx, id[:], marketv1.Question{Lease: id.String(), Key: m.Key})
	})
}
