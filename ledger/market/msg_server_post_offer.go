package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
)

// PostOffer makes an offer the live one of its slot.
func (s msgServer) PostOffer(ctx context.Context, m *marketv1.MsgPostOffer) (*marketv1.MsgPostOfferResponse, error) {
	o, err := m.Offer.Square()
	if err != nil {
		return nil, marketv1.Code(err)
	}
	if m.Provider != o.Provider.String() {
		return nil, marketv1.Code(fmt.Errorf("offer: %w: it is %s's", pure.ErrParty, o.Provider))
	}
	rules, err := s.rules(o.Trade)
	if err == nil {
		err = rules.CheckOffer(o)
	}
	if err != nil {
		return nil, marketv1.Code(err)
	}
	id := o.ID(ledgerDomain(ctx))
	return &marketv1.MsgPostOfferResponse{Offer: id.String()}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.PostOffer(st, now, id, o)
	})
}
