package market

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Unseal is a challenge of an answer: the buyer shows the private half of its key,
// and the ledger looks whether what was sealed to it is the result that the provider
// signed for. If so, the buyer has lost its bond; if not, the provider has withheld
// the result after all.
func (s msgServer) Unseal(ctx context.Context, m *marketv1.MsgUnseal) (*marketv1.MsgUnsealResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("buyer", m.Buyer), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	resp := &marketv1.MsgUnsealResponse{}
	return resp, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		if by != l.Order.Buyer {
			return nil, fmt.Errorf("unseal: %w: only the buyer may, which is %v", pure.ErrParty, l.Order.Buyer)
		}
		q, err := s.asked.Get(ctx, id[:])
		if err != nil || len(q.Answer) == 0 || l.Answer.IsZero() {
			return nil, fmt.Errorf("unseal: %w: nothing was sealed in lease %s", pure.ErrState, id.Short())
		}
		rules, err := s.rules(l.Order.Trade)
		if err != nil {
			return nil, err
		}
		if _, opened := rules.(trade.Answerable); opened {
			return nil, fmt.Errorf("unseal: %w: answers in trade %s are checked when they come", pure.ErrState, l.Order.Trade)
		}
		charge(ctx, 2)
		gas := uint64(len(q.Answer)) * gasPerByte
		sdk.UnwrapSDKContext(ctx).GasMeter().ConsumeGas(gas, "unseal")
		public, err := square.SealKeyPublic(m.Key)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(public, q.Key) {
			return nil, errors.New("unseal: it is not the private half of the key that was named")
		}
		cost, err := s.spent(ctx, 0)
		if err != nil {
			return nil, err
		}
		charge := pure.Charge{Way: pure.ByJudges, Evidence: sha256.Sum256(append(id[:], m.Key...)), Value: l.Receipt.Price, Cost: cost}
		events, err := machine.Challenge(st, now, by, id, charge, m.Bond)
		if err != nil {
			return nil, err
		}
		verdict := square.VerdictFraud
		if plain, err := square.Unseal(m.Key, id, q.Answer); err == nil && sha256.Sum256(plain) == l.Receipt.Result {
			verdict = square.VerdictOK
		}
		resp.Verdict = string(verdict)
		more, err := machine.Judge(st, now, id, verdict)
		return append(events, more...), err
	})
}
