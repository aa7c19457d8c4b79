package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Close ends a stream for its buyer, at once if the provider has signed the
// final sum.
func (s msgServer) Close(ctx context.Context, m *marketv1.MsgClose) (*marketv1.MsgCloseResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	var sig square.Signature
	if m.Consent != nil {
		sig = r.Signature("consent", m.Consent.Signature)
	}
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgCloseResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		if m.Consent == nil {
			return machine.Close(st, now, by, id, nil)
		}
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		charge(ctx, 1)
		if err := square.VerifyClose(ledgerDomain(ctx), l.Provider, id, m.Consent.Paid, sig); err != nil {
			return nil, err
		}
		return machine.Close(st, now, by, id, &m.Consent.Paid)
	})
}
