package market

import (
	"context"
	"fmt"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/trade"
)

// Prove answers a challenge with a proof of the part that it is about. Gas is
// charged by the proof's header, before anything of it is checked; a proof that
// does not hold changes nothing, and the provider may bring another until its
// time is up.
func (s msgServer) Prove(ctx context.Context, m *marketv1.MsgProve) (*marketv1.MsgProveResponse, error) {
	var r squarev1.Reader
	by, id, hash := r.Address("sender", m.Sender), r.Hash("lease", m.Lease), r.Hash("evidence", m.Evidence)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgProveResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		// The machine looks first: it costs less than a proof.
		events, err := machine.Prove(st, now, by, id)
		if err != nil {
			return nil, err
		}
		if l.Dispute.Evidence != hash {
			return nil, fmt.Errorf("prove: the dispute is about evidence %s", l.Dispute.Evidence.Short())
		}
		return events, s.check(ctx, l, m.Proof)
	})
}

// check checks a proof of what the dispute of a lease is about.
func (k *Keeper) check(ctx context.Context, l pure.Lease, proof []byte) error {
	stored, err := k.evidence.Get(ctx, collections.Join(l.ID[:], l.Dispute.Evidence[:]))
	if err != nil {
		return fmt.Errorf("evidence %s: %w", l.Dispute.Evidence.Short(), missing(err))
	}
	e, err := stored.Square()
	if err != nil {
		return err
	}
	rules, err := k.rules(l.Order.Trade)
	if err != nil {
		return err
	}
	prover, ok := rules.(trade.Provable)
	if !ok {
		return fmt.Errorf("proofs in trade %s: %w", l.Order.Trade, pure.ErrNotFound)
	}
	card, err := k.card(ctx, l.Order)
	if err != nil {
		return err
	}
	if card == nil {
		return fmt.Errorf("card %s: %w on the ledger; publish it first", l.Order.Card.Short(), pure.ErrNotFound)
	}
	c := trade.Case{Evidence: e, Lease: l, Card: card}
	meter := sdk.UnwrapSDKContext(ctx).GasMeter()
	meter.ConsumeGas(uint64(len(card)+len(e.Request)+len(e.Result))*gasPerByte, "read evidence")
	gas, err := prover.ProofGas(c, l.Dispute.Part, proof)
	if err != nil {
		return err
	}
	meter.ConsumeGas(gas, "check proof")
	return prover.CheckProof(c, l.Dispute.Part, proof)
}
