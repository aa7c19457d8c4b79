package market

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"cosmossdk.io/collections"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// cardLife is how long a published card is kept, on the clock of deadlines.
const cardLife = 366 * 24 * 3600

// PublishCard stores a card under its hash, for the gas that its bytes cost. It
// needs nobody's leave and gives no power: a card judges only orders that name it,
// which both sides have signed. Publishing it again keeps it longer.
func (s msgServer) PublishCard(ctx context.Context, m *marketv1.MsgPublishCard) (*marketv1.MsgPublishCardResponse, error) {
	var r squarev1.Reader
	r.Address("sender", m.Sender)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	now, _, err := s.Clock(ctx)
	if err != nil {
		return nil, err
	}
	h, err := s.publish(ctx, marketv1.Card{Trade: m.Trade, Card: m.Card, Until: now + cardLife})
	return &marketv1.MsgPublishCardResponse{Card: h.String()}, marketv1.Code(err)
}

func (k *Keeper) publish(ctx context.Context, c marketv1.Card) (square.Hash, error) {
	h := square.Hash(sha256.Sum256(c.Card))
	rules, err := k.rules(c.Trade)
	if err != nil {
		return h, fmt.Errorf("card: %w", err)
	}
	p, ok := rules.(trade.Provable)
	if !ok {
		return h, fmt.Errorf("card: nothing in trade %s can be proven", c.Trade)
	}
	if err := p.CheckCard(c.Card); err != nil {
		return h, fmt.Errorf("card: %w", err)
	}
	switch old, err := k.cards.Get(ctx, h[:]); {
	case errors.Is(err, collections.ErrNotFound):
	case err != nil:
		return h, err
	case old.Trade != c.Trade:
		return h, fmt.Errorf("card %s: %w: it is one of trade %s", h.Short(), pure.ErrUsed, old.Trade)
	case old.Until == 0 || c.Until != 0 && old.Until >= c.Until:
		return h, nil // it is kept as long already
	default:
		if err := k.lapse.Remove(ctx, collections.Join(old.Until, h[:])); err != nil {
			return h, err
		}
	}
	if c.Until != 0 {
		if err := k.lapse.Set(ctx, collections.Join(c.Until, h[:])); err != nil {
			return h, err
		}
	}
	return h, k.cards.Set(ctx, h[:], c)
}

// card is the card that an order names; nil if it names none or the card is not
// on the ledger.
func (k *Keeper) card(ctx context.Context, o square.Order) ([]byte, error) {
	if o.Card.IsZero() {
		return nil, nil
	}
	c, err := k.cards.Get(ctx, o.Card[:])
	if errors.Is(err, collections.ErrNotFound) || err == nil && c.Trade != o.Trade {
		return nil, nil
	}
	return c.Card, err
}
