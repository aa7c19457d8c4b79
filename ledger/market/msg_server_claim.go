package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Claim hands in the receipt that a result's provider has signed, or, of a replica, shows the
// one that it has committed to.
func (s msgServer) Claim(ctx context.Context, m *marketv1.MsgClaim) (*marketv1.MsgClaimResponse, error) {
	var r squarev1.Reader
	by, id, sig := r.Address("sender", m.Sender), r.Hash("lease", m.Lease), r.Signature("receipt", m.Signature)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	receipt, err := m.Receipt.Square()
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &marketv1.MsgClaimResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		charge(ctx, 1)
		if err := receipt.Verify(ledgerDomain(ctx), l.Provider, sig); err != nil {
			return nil, err
		}
		if l.State == pure.Showing {
			return machine.Show(st, now, by, id, receipt, square.Commitment(receipt.Digest(ledgerDomain(ctx)), sig))
		}
		return machine.Claim(st, now, by, id, receipt)
	})
}
