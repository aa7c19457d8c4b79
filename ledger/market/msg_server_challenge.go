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
// judges, if the trade says that they can decide it and there are any; what nobody
// can decide is refused, for it would only hold somebody's money.
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
		if err := admissible(ctx, l, e, m.Detached); err != nil {
			return nil, err
		}
		card, err := s.card(ctx, l.Order)
		if err != nil {
			return nil, err
		}
		way, err := s.way(ctx, machine, trade.Case{Evidence: e, Lease: l, Card: card}, m.Detached, m.Part)
		if err != nil {
			return nil, err
		}
		cost, err := s.spent(ctx, way.gas)
		if err != nil {
			return nil, err
		}
		charge := pure.Charge{Way: pure.ByJudges, Evidence: hash, Value: e.Receipt.Price, Cost: cost}
		switch {
		case way.prove:
			charge.Way, charge.Part = pure.ByProof, m.Part
		case m.Detached:
			if charge.Owes, err = s.owes(ctx, l, by, m.Locator); err != nil {
				return nil, err
			}
		}
		events, err := machine.Challenge(st, now, by, id, charge, m.Bond)
		if err != nil {
			return nil, err
		}
		if err := s.evidence.Set(ctx, collections.Join(id[:], hash[:]), m.Evidence); err != nil {
			return nil, err
		}
		verdict := way.verdict
		if way.execute != nil {
			if verdict, err = way.execute(); err != nil {
				return nil, err
			}
		}
		resp.Verdict, resp.Prove = string(verdict), way.prove
		if verdict == "" {
			return events, nil
		}
		more, err := machine.Judge(st, now, id, verdict)
		return append(events, more...), err
	})
}

// owes says from whom the bytes of detached evidence are to be had, and keeps where:
// from the provider, if it has said where the result may be fetched, else from the
// challenger.
func (k *Keeper) owes(ctx context.Context, l pure.Lease, by square.Address, locator string) (square.Address, error) {
	q, err := k.asked.Get(ctx, l.ID[:])
	switch {
	case err != nil && !errors.Is(err, collections.ErrNotFound):
		return by, err
	case err == nil && q.Locator != "":
		return l.Provider, nil
	case locator == "" || len(locator) > square.MaxText:
		return by, fmt.Errorf("challenge: locator: want 1 to %d bytes that say where the evidence may be fetched; its bytes are not here", square.MaxText)
	}
	q.Lease, q.Shown = l.ID.String(), locator
	return by, k.asked.Set(ctx, l.ID[:], q)
}

// admissible refuses what is not a receipt of the lease's provider for the lease's
// work, opened: the bytes must be those that the provider signed for, or anybody
// could bring junk against anyone.
func admissible(ctx context.Context, l pure.Lease, e square.Evidence, detached bool) error {
	d := ledgerDomain(ctx)
	switch {
	case e.Receipt.Lease != l.ID:
		return fmt.Errorf("evidence: the receipt is of lease %s", e.Receipt.Lease.Short())
	case l.Receipt != nil && e.Receipt.Digest(d) != l.Receipt.Digest(d):
		return errors.New("evidence: the receipt is not the one that was claimed")
	case detached && len(e.Request)+len(e.Result) > 0:
		return errors.New("evidence: it is detached, and has bytes")
	case !detached && !e.Opens():
		return errors.New("evidence: request and result are not the bytes that the receipt names by SHA-256")
	}
	if l.Receipt != nil {
		// It was verified when it was claimed. Who got the result as an answer to
		// "withheld" alone has no signature of it.
		return nil
	}
	charge(ctx, 1)
	return e.Receipt.Verify(d, l.Provider, e.Sig)
}

// way is how a challenge is decided: by a verdict that took no work, by
// re-execution, by proof of a part, or, if it is none of these, by judges.
type way struct {
	verdict square.Verdict
	execute func() (square.Verdict, error)
	gas     uint64 // of execute
	prove   bool
}

// gasPerByte of card, request and result pays for reading them.
const gasPerByte = 20

// way finds how evidence is decided, without doing any of the work.
func (k *Keeper) way(ctx context.Context, machine pure.Machine, c trade.Case, detached bool, part uint64) (way, error) {
	// A price that its own units do not give needs no re-execution.
	if c.Receipt.Charged(c.Lease.Rates) != nil {
		return way{verdict: square.VerdictFraud}, nil
	}
	rules, err := k.rules(c.Lease.Order.Trade)
	if err != nil {
		return way{}, err
	}
	if detached {
		// A dispute about a result is its lease's last. In a stream the bytes could be
		// brought afterwards, and show that its judges were wrong.
		if c.Lease.Order.Mode == square.ModeStream {
			return way{}, errors.New("challenge: evidence without its bytes is heard about results only; bring them")
		}
		return way{}, k.judgeable(ctx, machine, rules, c, true)
	}
	meter := sdk.UnwrapSDKContext(ctx).GasMeter()
	meter.ConsumeGas(uint64(len(c.Request)+len(c.Result))*gasPerByte, "read evidence")
	gas, err := rules.JudgeGas(c)
	if err != nil && !errors.Is(err, trade.ErrNotJudgeable) {
		return way{}, err
	}
	if err == nil && gas <= trade.MaxJudgeGas && c.Lease.Order.Policy != square.PolicyProve {
		return way{gas: gas, execute: func() (square.Verdict, error) {
			meter.ConsumeGas(gas, "judge")
			return rules.Judge(c)
		}}, nil
	}
	prover, ok := rules.(trade.Provable)
	if ok && !c.Lease.Order.Card.IsZero() {
		if c.Card == nil {
			return way{}, fmt.Errorf("challenge: card %s, which the order names: %w on the ledger; publish it first", c.Lease.Order.Card.Short(), pure.ErrNotFound)
		}
		meter.ConsumeGas(uint64(len(c.Card))*gasPerByte, "read card")
		n, verdict, err := prover.Parts(c)
		switch {
		case errors.Is(err, trade.ErrNotJudgeable):
		case err != nil:
			return way{}, err
		case verdict != "":
			return way{verdict: verdict}, nil
		case n == 0: // nothing was said, and of that nothing is wrong
			return way{verdict: square.VerdictOK}, nil
		case part >= n:
			return way{}, fmt.Errorf("challenge: part %d: the work has %d", part, n)
		default:
			return way{prove: true}, nil
		}
	}
	return way{}, k.judgeable(ctx, machine, rules, c, false)
}

// judgeable refuses a case that no judge could decide, or for which there is none.
func (k *Keeper) judgeable(ctx context.Context, machine pure.Machine, rules trade.Rules, c trade.Case, detached bool) error {
	p, ok := rules.(trade.Panelled)
	if !ok {
		return fmt.Errorf("challenge: %w, and trade %s has no judges", trade.ErrNotJudgeable, rules.Name())
	}
	if err := p.Panel(c, detached); err != nil {
		return fmt.Errorf("challenge: no judge could decide this: %w", err)
	}
	bench, err := k.candidates(ctx, machine, c.Lease)
	if err != nil {
		return err
	}
	if len(bench) == 0 {
		return fmt.Errorf("challenge: %w: no staker of trade %s sits as a judge", pure.ErrNotFound, rules.Name())
	}
	return nil
}
