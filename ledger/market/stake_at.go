package market

import (
	"math"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// AtStake tells until when the signer of a transaction would lose something if
// no block took it: the earliest deadline of the leases that its messages are
// about. slot names what it does, so that a newer one of the same can take its
// place. It is not ok if nothing of the signer's is at stake: whoever could make
// a claim on somebody else's lease could else stand before those whom it
// concerns.
func (k *Keeper) AtStake(ctx sdk.Context, tx sdk.Tx, signer sdk.AccAddress) (slot string, deadline int64, ok bool) {
	deadline = math.MaxInt64
	for _, m := range tx.GetMsgs() {
		var lease, kind string
		concerned := func(l pure.Lease) bool { return l.Provider == square.Address(signer) }
		switch m := m.(type) {
		case *marketv1.MsgRedeem:
			lease, kind = m.Lease, "redeem"
			if m.Final {
				kind = "final"
			}
		case *marketv1.MsgStart:
			lease, kind = m.Lease, "start"
		case *marketv1.MsgClaim:
			lease, kind = m.Lease, "claim"
		case *marketv1.MsgProve:
			lease, kind = m.Lease, "prove"
		case *marketv1.MsgVerdict:
			lease, kind = m.Lease, "verdict"
			concerned = func(l pure.Lease) bool { return l.Dispute != nil }
		case *marketv1.MsgChallenge:
			lease, kind = m.Lease, "challenge"
			concerned = func(l pure.Lease) bool { return l.Dispute == nil }
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
