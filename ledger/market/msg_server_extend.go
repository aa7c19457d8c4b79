package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Extend lets a stream end later, as its provider has signed.
func (s msgServer) Extend(ctx context.Context, m *marketv1.MsgExtend) (*marketv1.MsgExtendResponse, error) {
	var r squarev1.Reader
	by, id, sig := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease), r.Signature("extension", m.Signature)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgExtendResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		charge(ctx, 1)
		if err := square.VerifyExtension(ledgerDomain(ctx), l.Provider, id, m.Ends, sig); err != nil {
			return nil, err
		}
		return machine.Extend(st, now, by, id, m.Ends)
	})
}
