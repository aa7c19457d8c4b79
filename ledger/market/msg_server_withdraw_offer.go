package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// WithdrawOffer ends a live offer for new leases.
func (s msgServer) WithdrawOffer(ctx context.Context, m *marketv1.MsgWithdrawOffer) (*marketv1.MsgWithdrawOfferResponse, error) {
	var r squarev1.Reader
	by := r.Address("provider", m.Provider)
	key := pure.OfferKey{Provider: by, Trade: m.Trade, Spec: r.MaybeHash("spec", m.Spec)}
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgWithdrawOfferResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.WithdrawOffer(st, now, by, key)
	})
}
