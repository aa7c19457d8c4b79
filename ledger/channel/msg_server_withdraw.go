package channel

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/market"
)

// Withdraw starts the payer's way out. Until it ends, the receiver can claim.
func (s msgServer) Withdraw(ctx context.Context, m *channelv1.MsgWithdraw) (*channelv1.MsgWithdrawResponse, error) {
	at, err := s.withdraw(ctx, m)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &channelv1.MsgWithdrawResponse{At: at}, nil
}

func (s msgServer) withdraw(ctx context.Context, m *channelv1.MsgWithdraw) (int64, error) {
	var r squarev1.Reader
	by, id := r.Address("payer", m.Payer), r.Hash("channel", m.Channel)
	if r.Err != nil {
		return 0, r.Err
	}
	c, config, err := s.open(ctx, id)
	if err != nil {
		return 0, err
	}
	if by != config.Payer {
		return 0, fmt.Errorf("withdraw: %w: only the payer may, which is %s", market.ErrParty, config.Payer)
	}
	if m.Units > left(c) || left(c) == 0 {
		return 0, fmt.Errorf("withdraw: %w: %d asked and the channel has %d", market.ErrFunds, m.Units, left(c))
	}
	now, _, err := s.clock.Clock(ctx)
	if err != nil {
		return 0, err
	}
	c.Withdraw, c.WithdrawAt = m.Units, now+int64(config.WithdrawDelay)
	if err := s.channels.Set(ctx, id[:], c); err != nil {
		return 0, err
	}
	return c.WithdrawAt, happened(ctx, "withdrawing", id, c, 0)
}
