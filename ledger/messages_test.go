package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cosmos/gogoproto/proto"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	marketmodule "github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/market/walk"
	"github.com/torg-network/torg/square"
)

// A payer leaves a channel: the receiver has until the delay is over to claim,
// what is left is paid out once, and every unit is with one of the two.
func TestWithdrawChannel(t *testing.T) {
	people := newCast(t, 1, 1, 1)
	doc := walkGenesis(t, people, walk.Params())
	a, ctx := start(t, doc)
	payer, receiver := people.Buyers[0], people.Providers[0]
	config := square.ChannelConfig{
		Payer: payer, PayerAuthorizer: payer, Receiver: receiver, ReceiverAuthorizer: receiver,
		Token: square.TokenAddress(square.Denom), WithdrawDelay: 900, Salt: square.Hash{9},
	}
	domain := square.ChannelDomain(chainID)
	id := config.ID(domain)
	now := doc.GenesisTime
	send := func(m proto.Message) error {
		try, keep := ctx.WithBlockTime(now).WithEventManager(sdk.NewEventManager()).CacheContext()
		_, err := a.MsgServiceRouter().Handler(m)(try, m)
		if err == nil {
			keep()
		}
		return coded(err)
	}
	must := func(m proto.Message) {
		t.Helper()
		if err := send(m); err != nil {
			t.Fatalf("%v: %v", m, err)
		}
	}
	refused := func(m proto.Message, want error) {
		t.Helper()
		if err := send(m); !errors.Is(err, want) {
			t.Fatalf("%v: %v, want %v", m, err, want)
		}
	}
	has := func(who square.Address) uint64 { return a.Bank.GetBalance(ctx, who[:], square.Denom).Amount.Uint64() }
	claim := func(units uint64) proto.Message {
		v := square.SignVoucher(domain, id, units, people.keys[payer])
		return &channelv1.MsgClaim{Sender: receiver.String(), Claims: []channelv1.ClaimItem{{Channel: id.String(), Amount: units, Max: units, Signature: v.Sig[:]}}}
	}
	finish := &channelv1.MsgFinish{Sender: payer.String(), Channel: id.String()}
	began, earned := has(payer), has(receiver)

	must(&channelv1.MsgDeposit{Sender: payer.String(), Config: squarev1.FromChannelConfig(config), Amount: squarev1.FromAmount(square.Utorg(1000))})
	refused(finish, market.ErrState)
	must(claim(100))
	must(&channelv1.MsgWithdraw{Payer: payer.String(), Channel: id.String()})
	now = now.Add(899 * time.Second)
	refused(finish, market.ErrEarly)
	must(claim(370)) // in time
	refused(claim(1001), market.ErrFunds)
	now = now.Add(time.Second)
	must(finish)
	refused(finish, market.ErrState)
	refused(claim(371), market.ErrFunds) // too late
	if has(payer) != began-370 || has(receiver) != earned+370 {
		t.Fatalf("payer %d of %d, receiver %d of %d", has(payer), began, has(receiver), earned)
	}
	// The channel can be filled again; a part of it leaves.
	must(&channelv1.MsgDeposit{Sender: payer.String(), Config: squarev1.FromChannelConfig(config), Amount: squarev1.FromAmount(square.Utorg(50))})
	must(&channelv1.MsgWithdraw{Payer: payer.String(), Channel: id.String(), Units: 20})
	now = now.Add(900 * time.Second)
	must(claim(410)) // leaves 10 of the 20
	must(finish)
	if has(payer) != began-410 || has(receiver) != earned+410 {
		t.Fatalf("payer %d of %d, receiver %d of %d", has(payer), began, has(receiver), earned)
	}
	audit(t, a, ctx)
}

// Only governance changes the market's parameters, and only to ones that hold
// together.
func TestUpdateParams(t *testing.T) {
	people := newCast(t, 1, 1, 1)
	a, ctx := start(t, walkGenesis(t, people, walk.Params()))
	params := walk.Params()
	params.BallotCost = 0 // is no parameter: it follows the price
	params.FeeBps += 7
	update := func(by string, p market.Params) error {
		m := &marketv1.MsgUpdateParams{Authority: by, Params: marketv1.FromParams(p)}
		_, err := a.MsgServiceRouter().Handler(m)(ctx, m)
		return err
	}
	if update(people.Buyers[0].String(), params) == nil {
		t.Error("a buyer changed the parameters")
	}
	bad := params
	bad.FeeBps = 10_001
	if update(ledger.Authority(), bad) == nil {
		t.Error("nonsense was taken")
	}
	if err := update(ledger.Authority(), params); err != nil {
		t.Fatal(err)
	}
	got, err := marketmodule.Queries(a.Market).Params(ctx, &marketv1.QueryParamsRequest{})
	if err != nil || got.Params.Market() != params {
		t.Fatalf("%+v, %v", got, err)
	}
}
