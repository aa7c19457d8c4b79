package ledger_test

import (
	"errors"
	"log/slog"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/marketv1"
	marketmodule "github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/market/walk"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
)

// Only governance registers a model, only with a card that proofs can be checked
// against, and only once; the card is part of the state that is exported.
func TestRegisterModel(t *testing.T) {
	people := newCast(t, 1, 1, 1)
	doc := walkGenesis(t, people, walk.Params())
	a, err := ledger.New(ledger.Config{
		ChainID: doc.ChainID, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler),
		Trades: []trade.Rules{infer.Rules{Verifier: proof.Verifier{}}, anything("label")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	params := doc.ConsensusParams.ToProto()
	if _, err = a.InitChain(&abci.RequestInitChain{
		Time: doc.GenesisTime, ChainId: doc.ChainID, ConsensusParams: &params, AppStateBytes: doc.AppState, InitialHeight: 1, Validators: updates(doc),
	}); err != nil {
		t.Fatal(err)
	}
	block(t, a, 1, doc.GenesisTime)
	ctx := a.NewContext(true).WithBlockHeight(2).WithChainID(doc.ChainID)

	p, err := proof.Commit(nano.Model())
	if err != nil {
		t.Fatal(err)
	}
	card, spec := p.Encode(), square.Hash(nano.Model().Digest())
	register := func(by, trade string, spec square.Hash, card []byte) error {
		m := &marketv1.MsgRegisterModel{Authority: by, Model: marketv1.Model{Trade: trade, Spec: spec.String(), Card: card}}
		_, err := a.MsgServiceRouter().Handler(m)(ctx, m)
		return err
	}
	if err := register(people.Buyers[0].String(), "infer", spec, card); !errors.Is(coded(err), market.ErrParty) {
		t.Errorf("a buyer registered a model: %v", err)
	}
	for what, err := range map[string]error{
		"no card":           register(ledger.Authority(), "infer", spec, nil),
		"a torn card":       register(ledger.Authority(), "infer", spec, card[:len(card)-1]),
		"a giant card":      register(ledger.Authority(), "infer", spec, append(card[:len(card):len(card)], make([]byte, 64<<10)...)),
		"an unknown trade":  register(ledger.Authority(), "none", spec, card),
		"an unprovable one": register(ledger.Authority(), "label", spec, card),
	} {
		if err == nil {
			t.Errorf("%s was registered", what)
		}
	}
	if err := register(ledger.Authority(), "infer", spec, card); err != nil {
		t.Fatal(err)
	}
	if err := register(ledger.Authority(), "infer", spec, card); !errors.Is(coded(err), market.ErrUsed) {
		t.Errorf("registered twice: %v", err)
	}
	got, err := marketmodule.Queries(a.Market).Model(ctx, &marketv1.QueryModelRequest{Trade: "infer", Spec: spec.String()})
	if err != nil || string(got.Model.Card) != string(card) {
		t.Errorf("asked for the card: %v", err)
	}
}
