package channel

import (
	"context"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Claim pays receivers what vouchers promise. A claim that adds nothing is
// skipped, so that a batch does not fail for what another has taken first.
func (s msgServer) Claim(ctx context.Context, m *channelv1.MsgClaim) (*channelv1.MsgClaimResponse, error) {
	by, err := square.ParseAddress(m.Sender)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	out := &channelv1.MsgClaimResponse{Paid: make([]uint64, len(m.Claims))}
	for i, item := range m.Claims {
		if out.Paid[i], err = s.claim(ctx, by, item); err != nil {
			return nil, marketv1.Code(fmt.Errorf("claim %d: %w", i, err))
		}
	}
	return out, nil
}

func (s msgServer) claim(ctx context.Context, by square.Address, m channelv1.ClaimItem) (uint64, error) {
	var r squarev1.Reader
	id, sig := r.Hash("channel", m.Channel), r.Signature("voucher", m.Signature)
	if r.Err != nil {
		return 0, r.Err
	}
	c, config, err := s.open(ctx, id)
	if err != nil {
		return 0, err
	}
	switch {
	case by != config.Receiver && by != config.ReceiverAuthorizer:
		return 0, fmt.Errorf("%w: only the receiver or its authorizer may claim", market.ErrParty)
	case m.Amount > m.Max:
		return 0, fmt.Errorf("%d is claimed on a voucher for %d", m.Amount, m.Max)
	case m.Amount <= c.Claimed:
		return 0, nil
	case m.Amount > c.Deposit:
		return 0, fmt.Errorf("%w: %d is claimed in all and the channel was given %d", market.ErrFunds, m.Amount, c.Deposit)
	}
	charge(ctx)
	signer := config.PayerAuthorizer
	if signer.IsZero() {
		signer = config.Payer
	}
	v := square.Voucher{Channel: id, Max: m.Max, Sig: sig}
	if err := v.Verify(square.ChannelDomain(sdk.UnwrapSDKContext(ctx).ChainID()), signer); err != nil {
		return 0, err
	}
	paid := m.Amount - c.Claimed
	if err := s.pay(ctx, config.Receiver, square.Amount{Units: paid, Denom: c.Denom}); err != nil {
		return 0, err
	}
	c.Claimed = m.Amount
	if err := s.channels.Set(ctx, id[:], c); err != nil {
		return 0, err
	}
	return paid, happened(ctx, "claimed", id, c, paid)
}
