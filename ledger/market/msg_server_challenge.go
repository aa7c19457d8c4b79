package market

import (
	"context"
	"errors"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Challenge takes evidence against a lease's provider: a receipt that it
// signed, opened. Work that the ledger can re-execute is judged here and now,
// for gas that is charged before any of it is done; the rest waits for judges.
func (s msgServer) Challenge(ctx context.Context, m *marketv1.MsgChallenge) (*marketv1.MsgChallengeResponse, error) {
	var r squarev1.Reader
	by, id := r.Address("challenger", m.Challenger), r.Hash("lease", m.Lease)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	e, err := m.Evidence.Square()
	if err != nil {
		return nil, marketv1.Code(err)
	}
	hash := e.Hash(ledgerDomain(ctx))
	resp := &marketv1.MsgChallengeResponse{Evidence: hash.String()}
	return resp, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		if err := admissible(ctx, l, e); err != nil {
			return nil, err
		}
		events, err := machine.Challenge(st, now, by, id, hash, e.Receipt.Price, m.Bond, nil)
		if err != nil {
			return nil, err
		}
		if err := s.evidence.Set(ctx, collections.Join(id[:], hash[:]), m.Evidence); err != nil {
			return nil, err
		}
		verdict, err := s.judge(ctx, l, e)
		if errors.Is(err, trade.ErrNotJudgeable) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		resp.Verdict = string(verdict)
		more, err := machine.Judge(st, now, id, verdict)
		return append(events, more...), err
	})
}

// admissible refuses what is not a receipt of the lease's provider for the
// lease's work.
func admissible(ctx context.Context, l pure.Lease, e square.Evidence) error {
	if e.Receipt.Lease != l.ID {
		return fmt.Errorf("evidence: the receipt is of lease %s", e.Receipt.Lease.Short())
	}
	if l.Order.Mode == square.ModeResult && e.Receipt.Result != l.Root {
		return errors.New("evidence: the receipt is not of the result that was claimed")
	}
	charge(ctx, 1)
	return e.Receipt.Verify(ledgerDomain(ctx), l.Provider, e.Sig)
}

// judge finds on evidence if the ledger can.
func (k *Keeper) judge(ctx context.Context, l pure.Lease, e square.Evidence) (square.Verdict, error) {
	// A price that its own units do not give needs no re-execution.
	if trade.Charged(l.Rates, e.Receipt) != nil {
		return square.VerdictFraud, nil
	}
	rules, err := k.rules(l.Order.Trade)
	if err != nil {
		return "", err
	}
	gas, err := rules.JudgeGas(e)
	if err != nil {
		return "", err
	}
	sdk.UnwrapSDKContext(ctx).GasMeter().ConsumeGas(gas, "judge")
	return rules.Judge(e)
}
