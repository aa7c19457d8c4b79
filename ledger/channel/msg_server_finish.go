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

// Finish pays out a withdrawal whose delay is over: what was asked for, or what
// claims have left of it.
func (s msgServer) Finish(ctx context.Context, m *channelv1.MsgFinish) (*channelv1.MsgFinishResponse, error) {
	paid, err := s.finish(ctx, m)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &channelv1.MsgFinishResponse{Paid: paid}, nil
}

func (s msgServer) finish(ctx context.Context, m *channelv1.MsgFinish) (uint64, error) {
	var r squarev1.Reader
	id := r.Hash("channel", m.Channel)
	if r.Err != nil {
		return 0, r.Err
	}
	c, config, err := s.open(ctx, id)
	if err != nil {
		return 0, err
	}
	now, _, err := s.clock.Clock(ctx)
	if err != nil {
		return 0, err
	}
	switch {
	case c.WithdrawAt == 0:
		return 0, fmt.Errorf("finish: %w: nothing is being withdrawn", market.ErrState)
	case now < c.WithdrawAt:
		return 0, fmt.Errorf("finish: %w: free at %d and it is %d", market.ErrEarly, c.WithdrawAt, now)
	}
	units := left(c)
	if c.Withdraw != 0 {
		units = min(units, c.Withdraw)
	}
	if err := s.pay(ctx, config.Payer, square.Amount{Units: units, Denom: c.Denom}); err != nil {
		return 0, err
	}
	c.Deposit -= units
	c.Withdraw, c.WithdrawAt = 0, 0
	if err := s.channels.Set(ctx, id[:], c); err != nil {
		return 0, err
	}
	return units, happened(ctx, "withdrawn", id, c, units)
}
