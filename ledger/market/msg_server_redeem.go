package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Redeem pays a stream's provider what vouchers on its lanes promise. Claims
// that add nothing are skipped, and their signatures are not looked at.
func (s msgServer) Redeem(ctx context.Context, m *marketv1.MsgRedeem) (*marketv1.MsgRedeemResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("sender", m.Sender), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	resp := &marketv1.MsgRedeemResponse{}
	return resp, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		claims, err := vouchers(ctx, l, by, m.Claims)
		if err != nil {
			return nil, err
		}
		events, err := machine.Redeem(st, now, by, id, claims, m.Final)
		if err != nil {
			return nil, err
		}
		if l, err = st.Lease(id); err != nil {
			return nil, err
		}
		resp.Paid = l.Paid
		return events, nil
	})
}

// vouchers checks the claims' vouchers and returns those that add something.
// How much of a voucher is claimed is the provider's word: another sender
// claims all of it or nothing.
func vouchers(ctx context.Context, l pure.Lease, by square.Address, in []marketv1.LaneClaim) ([]pure.Claim, error) {
	d := channelDomain(ctx)
	config := l.Channel(0)
	claims := make([]pure.Claim, 0, len(in))
	for _, c := range in {
		var r squarev1.Reader
		lane, sig := r.Lane(c.Lane), r.Signature("voucher", c.Signature)
		if r.Err != nil {
			return nil, fmt.Errorf("lane %d: %w", c.Lane, r.Err)
		}
		if int(lane) >= len(l.Lanes) {
			return nil, fmt.Errorf("redeem: lane %d: the lease has %d", lane, len(l.Lanes))
		}
		if c.Amount > c.Max {
			return nil, fmt.Errorf("lane %d: %d is claimed on a voucher for %d", lane, c.Amount, c.Max)
		}
		if c.Amount <= l.Lanes[lane] {
			continue
		}
		if c.Amount < c.Max && by != l.Provider {
			return nil, fmt.Errorf("lane %d: %w: only the provider may claim part of a voucher", lane, pure.ErrParty)
		}
		charge(ctx, 1)
		config.Salt = square.LaneSalt(l.ID, lane)
		v := square.Voucher{Channel: config.ID(d), Max: c.Max, Sig: sig}
		if err := v.Verify(d, l.Order.Authorizer); err != nil {
			return nil, fmt.Errorf("lane %d: %w", lane, err)
		}
		claims = append(claims, pure.Claim{Lane: lane, Cumulative: c.Amount})
	}
	return claims, nil
}
