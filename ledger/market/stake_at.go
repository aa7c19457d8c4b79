package market

import (
	gomath "math"
	"slices"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// AtStake tells until when the signer of a transaction would lose something if
// no block took it: the earliest deadline of the leases that its messages are
// about. A redeem of less than its fee can wait, unless it is the last. slot names what it does, so that a newer one of the same can take its
// place. It is not ok if nothing of the signer's is at stake: whoever could make
// a claim on somebody else's lease could else stand before those whom it
// concerns.
func (k *Keeper) AtStake(ctx sdk.Context, tx sdk.Tx, signer sdk.AccAddress) (slot string, deadline int64, ok bool) {
	by := square.Address(signer)
	provider := func(l pure.Lease) bool { return l.Provider == by }
	buyer := func(l pure.Lease) bool { return l.Order.Buyer == by }
	judge := func(l pure.Lease) bool {
		return l.Dispute != nil && slices.ContainsFunc(l.Dispute.Seats, func(s pure.Seat) bool { return s.Judge == by })
	}
	deadline = gomath.MaxInt64
	for _, m := range tx.GetMsgs() {
		var lease, kind string
		var concerned func(pure.Lease) bool
		switch m := m.(type) {
		case *marketv1.MsgRedeem:
			lease, kind = m.Lease, "redeem"
			concerned = func(l pure.Lease) bool {
				return provider(l) && (m.Final || l.State == pure.Draining || worth(l, m, tx))
			}
			if m.Final {
				kind = "final"
			}
		case *marketv1.MsgStart:
			lease, kind, concerned = m.Lease, "start", provider
		case *marketv1.MsgClaim:
			lease, kind, concerned = m.Lease, "claim", provider
		case *marketv1.MsgAnswer:
			lease, kind, concerned = m.Lease, "answer", provider
		case *marketv1.MsgProve:
			lease, kind, concerned = m.Lease, "prove", provider
		case *marketv1.MsgWithhold:
			lease, kind, concerned = m.Lease, "withhold", buyer
		case *marketv1.MsgUnseal:
			lease, kind, concerned = m.Lease, "unseal", buyer
		case *marketv1.MsgChallenge:
			lease, kind = m.Lease, "challenge"
			concerned = func(l pure.Lease) bool { return l.Dispute == nil }
		case *marketv1.MsgCommit:
			lease, kind = m.Lease, "commit"
			concerned = func(l pure.Lease) bool { return judge(l) || !l.Of.IsZero() && provider(l) }
		case *marketv1.MsgVote:
			lease, kind, concerned = m.Lease, "vote", judge
		default:
			return "", 0, false
		}
		id, err := square.ParseHash(lease)
		if err != nil {
			return "", 0, false
		}
		l, err := k.Store(ctx).Lease(id)
		if err != nil || l.State.Terminal() || !concerned(l) {
			return "", 0, false
		}
		deadline = min(deadline, l.Deadline)
		slot += kind + string(id[:]) + string(signer)
	}
	return slot, deadline, true
}

// worth tells whether a redeem adds at least its own fee, as far as it says so
// and both are in the same coin.
func worth(l pure.Lease, m *marketv1.MsgRedeem, tx sdk.Tx) bool {
	f, ok := tx.(sdk.FeeTx)
	if !ok || l.Order.Denom != square.Denom {
		return ok
	}
	var adds uint64
	for _, c := range m.Claims {
		if int(c.Lane) < len(l.Lanes) && c.Amount > l.Lanes[c.Lane] && c.Amount <= square.MaxUnits {
			adds += c.Amount - l.Lanes[c.Lane]
		}
	}
	return f.GetFee().AmountOf(square.Denom).LTE(math.NewIntFromUint64(adds))
}
