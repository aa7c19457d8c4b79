package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
)

// OpenLease places an order and gives it to the provider that quoted on it.
func (s msgServer) OpenLease(ctx context.Context, m *marketv1.MsgOpenLease) (*marketv1.MsgOpenLeaseResponse, error) {
	o, err := s.order(m.Buyer, m.Order)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	q, digest, err := quote(ctx, m.Quote, m.QuoteSignature)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	id := o.ID(ledgerDomain(ctx))
	return &marketv1.MsgOpenLeaseResponse{Lease: id.String()}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.OpenMatched(st, now, id, o, q, digest)
	})
}
