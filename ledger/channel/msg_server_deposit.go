package channel

import (
	"context"
	"errors"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Deposit funds a channel: out of the sender's account, or, with the payer's
// signed authorization, out of the payer's.
func (s msgServer) Deposit(ctx context.Context, m *channelv1.MsgDeposit) (*channelv1.MsgDepositResponse, error) {
	id, err := s.deposit(ctx, m)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &channelv1.MsgDepositResponse{Channel: id.String()}, nil
}

func (s msgServer) deposit(ctx context.Context, m *channelv1.MsgDeposit) (square.Hash, error) {
	config, err := m.Config.Square()
	if err != nil {
		return square.Hash{}, err
	}
	amount, err := m.Amount.Square()
	if err != nil {
		return square.Hash{}, err
	}
	if err := checkTerms(config, amount); err != nil {
		return square.Hash{}, err
	}
	chainID := sdk.UnwrapSDKContext(ctx).ChainID()
	id := config.ID(square.ChannelDomain(chainID))
	from, err := square.ParseAddress(m.Sender)
	if err != nil {
		return id, err
	}
	if m.Authorization != nil {
		from = config.Payer
		if err := s.authorize(ctx, square.LedgerDomain(chainID), id, config, amount, *m.Authorization); err != nil {
			return id, err
		}
	}
	c, err := s.channels.Get(ctx, id[:])
	if errors.Is(err, collections.ErrNotFound) {
		c, err = channelv1.Channel{Config: squarev1.FromChannelConfig(config), Denom: amount.Denom}, nil
	}
	if err != nil {
		return id, err
	}
	if amount.Units > square.MaxUnits-c.Deposit {
		return id, errors.New("deposit: the channel would hold more than any supply")
	}
	if err := s.take(ctx, from, amount); err != nil {
		return id, err
	}
	c.Deposit += amount.Units
	if err := s.channels.Set(ctx, id[:], c); err != nil {
		return id, err
	}
	return id, happened(ctx, "deposited", id, c, amount.Units)
}

// checkTerms refuses a channel that could not be used.
func checkTerms(c square.ChannelConfig, a square.Amount) error {
	switch {
	case a.Units == 0:
		return errors.New("deposit: the amount is 0")
	case sdk.ValidateDenom(a.Denom) != nil:
		return fmt.Errorf("deposit: %q is no denom", a.Denom)
	case c.Token != square.TokenAddress(a.Denom):
		return fmt.Errorf("config: token %s is not that of %s, %s", c.Token.Hex(), a.Denom, square.TokenAddress(a.Denom).Hex())
	case c.Payer.IsZero() || c.Receiver.IsZero():
		return errors.New("config: payer and receiver are required")
	case c.WithdrawDelay < MinDelay || c.WithdrawDelay > MaxDelay:
		return fmt.Errorf("config: withdraw_delay is %d s: want %d to %d", c.WithdrawDelay, MinDelay, MaxDelay)
	}
	return nil
}

// authorize checks the payer's signature and uses its nonce up.
func (s msgServer) authorize(ctx context.Context, d square.Domain, id square.Hash, c square.ChannelConfig, amount square.Amount, a channelv1.Authorization) error {
	var r squarev1.Reader
	nonce, sig := r.Hash("authorization: nonce", a.Nonce), r.Signature("authorization", a.Signature)
	if r.Err != nil {
		return r.Err
	}
	switch at := wall(ctx); {
	case a.Expiry <= at:
		return fmt.Errorf("authorization: %w: it expired at %d and it is %d", market.ErrLate, a.Expiry, at)
	case a.Expiry > at+MaxAuthorization:
		return fmt.Errorf("authorization: expiry is %d s ahead: at most %d", a.Expiry-at, MaxAuthorization)
	}
	once := square.Keccak(c.Payer[:], nonce[:])
	if used, err := s.used.Has(ctx, once[:]); err != nil {
		return err
	} else if used {
		return fmt.Errorf("authorization: %w", market.ErrUsed)
	}
	charge(ctx)
	err := square.Deposit{Owner: c.Payer, Channel: id, Receiver: c.Receiver, Amount: amount, Nonce: nonce, Expiry: a.Expiry}.Verify(d, sig)
	if err != nil {
		return err
	}
	return errors.Join(s.used.Set(ctx, once[:], a.Expiry), s.forget.Set(ctx, collections.Join(a.Expiry, once[:])))
}
