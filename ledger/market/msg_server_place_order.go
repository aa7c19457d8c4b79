package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// PlaceOrder takes an order's escrow and waits for a provider.
func (s msgServer) PlaceOrder(ctx context.Context, m *marketv1.MsgPlaceOrder) (*marketv1.MsgPlaceOrderResponse, error) {
	o, err := s.order(m.Buyer, m.Order)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	id := o.ID(ledgerDomain(ctx))
	return &marketv1.MsgPlaceOrderResponse{Lease: id.String()}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Open(st, now, id, o)
	})
}

// order reads an order, which must be its sender's own and one that its trade
// can serve.
func (s msgServer) order(buyer string, m squarev1.Order) (square.Order, error) {
	o, err := m.Square()
	if err != nil {
		return o, err
	}
	if buyer != o.Buyer.String() {
		return o, fmt.Errorf("order: %w: it is %s's", pure.ErrParty, o.Buyer)
	}
	if err := o.Check(); err != nil {
		return o, err
	}
	rules, err := s.rules(o.Trade)
	if err != nil {
		return o, err
	}
	return o, rules.CheckOrder(o)
}
