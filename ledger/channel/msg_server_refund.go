package channel

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Refund gives the payer money back at once, by leave of the receiver.
func (s msgServer) Refund(ctx context.Context, m *channelv1.MsgRefund) (*channelv1.MsgRefundResponse, error) {
	if err := s.refund(ctx, m); err != nil {
		return nil, marketv1.Code(err)
	}
	return &channelv1.MsgRefundResponse{}, nil
}

func (s msgServer) refund(ctx context.Context, m *channelv1.MsgRefund) error {
	var r squarev1.Reader
	by, id := r.Address("receiver", m.Receiver), r.Hash("channel", m.Channel)
	if r.Err != nil {
		return r.Err
	}
	c, config, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case by != config.Receiver && by != config.ReceiverAuthorizer:
		return fmt.Errorf("refund: %w: only the receiver or its authorizer may", market.ErrParty)
	case m.Units == 0 || m.Units > left(c):
		return fmt.Errorf("refund: %w: %d asked and the channel has %d", market.ErrFunds, m.Units, left(c))
	}
	if err := s.pay(ctx, config.Payer, square.Amount{Units: m.Units, Denom: c.Denom}); err != nil {
		return err
	}
	c.Deposit -= m.Units
	if err := s.channels.Set(ctx, id[:], c); err != nil {
		return err
	}
	return happened(ctx, "refunded", id, c, m.Units)
}
