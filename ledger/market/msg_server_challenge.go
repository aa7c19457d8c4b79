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
// for gas that is charged before any of it is done. Of work that can be proven
// the provider is to prove a part: where the order says so, and where the ledger
// has not got the model or the work is much for a block. The rest waits for
// judges.
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
		way, err := s.way(ctx, l, e, m.Part)
		if err != nil {
			return nil, err
		}
		events, err := machine.Challenge(st, now, by, id, hash, e.Receipt.Price, m.Bond, way.prove)
		if err != nil {
			return nil, err
		}
		if err := s.evidence.Set(ctx, collections.Join(id[:], hash[:]), m.Evidence); err != nil {
			return nil, err
		}
		verdict := way.verdict
		if way.execute != nil {
			verdict, err = way.execute()
			if errors.Is(err, trade.ErrNotJudgeable) {
				return events, nil
			}
			if err != nil {
				return nil, err
			}
		}
		resp.Verdict, resp.Prove = string(verdict), way.prove != nil
		if verdict == "" {
			return events, nil
		}
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

// way is how a challenge is decided: by a verdict that took no work, by
// re-execution, by proof of a part, or, if it is none of these, by judges.
type way struct {
	verdict square.Verdict
	execute func() (square.Verdict, error)
	prove   *uint64
}

// gasPerByte of card, request and result pays for reading them.
const gasPerByte = 20

// way finds how evidence is decided, without doing any of the work.
func (k *Keeper) way(ctx context.Context, l pure.Lease, e square.Evidence, part uint64) (w way, err error) {
	// A price that its own units do not give needs no re-execution.
	if trade.Charged(l.Rates, e.Receipt) != nil {
		return way{verdict: square.VerdictFraud}, nil
	}
	rules, err := k.rules(l.Order.Trade)
	if err != nil {
		return w, err
	}
	gas, err := rules.JudgeGas(e)
	if err != nil && !errors.Is(err, trade.ErrNotJudgeable) {
		return w, err
	}
	meter := sdk.UnwrapSDKContext(ctx).GasMeter()
	if err == nil {
		w.execute = func() (square.Verdict, error) {
			meter.ConsumeGas(gas, "judge")
			return rules.Judge(e)
		}
		if gas <= trade.MaxJudgeGas && l.Order.Policy != square.PolicyProve {
			return w, nil
		}
	}
	prover, card, err := k.provable(ctx, l.Order.Trade, e.Receipt.Subject)
	if errors.Is(err, pure.ErrNotFound) {
		return w, nil
	}
	if err != nil {
		return w, err
	}
	meter.ConsumeGas(uint64(len(card)+len(e.Request)+len(e.Result))*gasPerByte, "read evidence")
	n, verdict, err := prover.Parts(card, e)
	switch {
	case errors.Is(err, trade.ErrNotJudgeable):
		return w, nil
	case err != nil:
		return w, err
	case verdict != "":
		return way{verdict: verdict}, nil
	case n == 0: // nothing was said, and of that nothing is wrong
		return way{verdict: square.VerdictOK}, nil
	case part >= n:
		return w, fmt.Errorf("challenge: part %d: the work has %d", part, n)
	}
	return way{prove: &part}, nil
}
