package client_test

import (
	"errors"
	"testing"

	"github.com/cosmos/gogoproto/proto"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/authz"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// TestFullBench requires that the vote that decides can be included when as many
// judges sit as there are seats, all of them different: it frees each one's stake
// and pays each.
func TestFullBench(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, func(p *market.Params) { p.Verdict = 40 })
	ctx := t.Context()
	var judges []square.Key
	for range f.numbers.Seats {
		k, err := square.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		f.must(f.buyer.Send(ctx, k.Address(), square.Utorg(10_000_000)))
		judges = append(judges, k)
	}
	each := func(what string, do func(square.Key) error) {
		t.Helper()
		done := make(chan error, len(judges))
		for _, k := range judges {
			go func() { done <- do(k) }()
		}
		for range judges {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	each("enlist", func(k square.Key) error {
		a := f.c.Account(k)
		if _, err := a.Bond(ctx, f.offer.Trade, square.Utorg(f.numbers.SeatBond)); err != nil {
			return err
		}
		_, err := a.Enlist(ctx, f.offer.Trade, square.Denom, true)
		return err
	})
	id := f.ask("a cat?", func(o *square.Order) { o.Challenge = 60 })
	e := f.done(id, "a cat?", "no", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	l := f.sitting(id, 0)
	if len(l.Dispute.Seats) != int(f.numbers.Seats) {
		t.Fatalf("%d judges sit", len(l.Dispute.Seats))
	}
	last := judges[f.numbers.Quorum(len(judges))-1]
	has := func() uint64 {
		b, err := f.c.Balance(ctx, last.Address(), square.Denom)
		if err != nil {
			t.Fatal(err)
		}
		return b.Units
	}
	secret, before := square.Hash{1}, has()
	each("commit", func(k square.Key) error {
		r, err := f.c.Account(k).Commit(ctx, id, square.Ballot(id, k.Address(), 0, square.VerdictFraud, secret))
		if err == nil && r.Gas == 0 {
			err = errors.New("it took no gas")
		}
		return err
	})
	f.until(l.Dispute.Votes(f.numbers))
	for i, k := range judges[:f.numbers.Quorum(len(judges))] {
		r, err := f.c.Account(k).Vote(ctx, id, square.VerdictFraud, secret)
		if err != nil {
			t.Fatalf("vote %d: %v", i, err)
		}
		if i == 0 || i == f.numbers.Quorum(len(judges))-1 {
			t.Logf("vote %d: %d gas", i, r.Gas)
		}
	}
	// Whoever casts the vote that decides earns more than its two messages cost.
	cost, fee := before+f.numbers.JudgeFee-has(), market.Default().JudgeFee
	t.Logf("a commitment and the vote that decides cost %d utorg; a seat earns %d", cost, fee)
	if cost >= fee {
		t.Errorf("a judge pays %d in fees for %d", cost, fee)
	}
	if l = f.state(id); l.State != market.Slashed || l.Reason != market.ReasonFraud {
		t.Fatalf("a quorum for fraud: %s (%s)", l.State, l.Reason)
	}
	f.audit()
}

// Who has said of itself that it belongs to a party does not judge it. Of whom only the
// party says so, does: a party would else choose its judges.
func TestKin(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	judges := f.bench(5)
	parties := []square.Address{f.provider.Address(), f.buyer.Address()}
	addr := func(k square.Key) sdk.AccAddress { a := k.Address(); return a[:] }
	grant := func(from, to sdk.AccAddress) proto.Message {
		m, err := feegrant.NewMsgGrantAllowance(&feegrant.BasicAllowance{}, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ballots, err := authz.NewMsgGrant(addr(judges[1]), parties[1][:], authz.NewGenericAuthorization(sdk.MsgTypeURL(&marketv1.MsgVote{})), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.c.Account(judges[0]).Submit(ctx, 300_000, grant(addr(judges[0]), parties[0][:])))
	f.must(f.c.Account(judges[1]).Submit(ctx, 300_000, ballots))
	f.must(f.c.Account(judges[2]).Submit(ctx, 300_000, distrtypes.NewMsgSetWithdrawAddress(addr(judges[2]), parties[0][:])))
	f.must(f.provider.Submit(ctx, 300_000, grant(parties[0][:], addr(judges[3])), distrtypes.NewMsgSetWithdrawAddress(parties[0][:], addr(judges[4]))))

	id := f.ask("a cat?", func(o *square.Order) { o.Challenge = 60 })
	e := f.done(id, "a cat?", "no", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	sits := map[square.Address]int{}
	for _, s := range f.sitting(id, 0).Dispute.Seats {
		sits[s.Judge]++
	}
	for i, k := range judges {
		if kin := i < 3; kin == (sits[k.Address()] > 0) {
			t.Errorf("judge %d has %d seats", i, sits[k.Address()])
		}
	}
}
