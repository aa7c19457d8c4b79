package ledger_test

import (
	"errors"
	"testing"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"

	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// ordered signs a transfer with a sequence, as wallets do.
func (c *chain) ordered(who square.Address, sequence uint64) []byte {
	c.Helper()
	const gas = 150_000
	one, err := codectypes.NewAnyWithValue(c.send(who))
	pub, err2 := codectypes.NewAnyWithValue(keys.PubKeyOf(c.keys[who]))
	prices, err3 := c.Market.Prices(c.state())
	if err := errors.Join(err, err2, err3); err != nil {
		c.Fatal(err)
	}
	body := txtypes.TxBody{Messages: []*codectypes.Any{one}}
	auth := txtypes.AuthInfo{
		SignerInfos: []*txtypes.SignerInfo{{Sequence: sequence, PublicKey: pub, ModeInfo: &txtypes.ModeInfo{
			Sum: &txtypes.ModeInfo_Single_{Single: &txtypes.ModeInfo_Single{Mode: signing.SignMode_SIGN_MODE_DIRECT}},
		}}},
		Fee: &txtypes.Fee{GasLimit: gas, Amount: sdk.NewCoins(sdk.NewInt64Coin(square.Denom, int64(space.Cost(2*prices[space.Other], gas))))},
	}
	rawBody, err := body.Marshal()
	rawAuth, err2 := auth.Marshal()
	doc, err3 := (&txtypes.SignDoc{BodyBytes: rawBody, AuthInfoBytes: rawAuth, ChainId: chainID,
		AccountNumber: c.Accounts.GetAccount(c.state(), who[:]).GetAccountNumber()}).Marshal()
	raw, err4 := (&txtypes.TxRaw{BodyBytes: rawBody, AuthInfoBytes: rawAuth, Signatures: [][]byte{keys.Sign(c.keys[who], doc)}}).Marshal()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		c.Fatal(err)
	}
	return raw
}

// TestSequences: an account's transactions of one block follow one another,
// though each of them remembers the account while it is checked.
func TestSequences(t *testing.T) {
	c, _, _ := newChain(t, 1)
	who := c.Others[1]
	b := c.beacon()
	first, second, third := c.ordered(who, 0), c.ordered(who, 1), c.ordered(who, 2)
	for _, p := range [][][]byte{{second}, {first, third}, {first, first}, {first, second, second}} {
		if c.accepts(append([][]byte{b}, p...)...) {
			t.Errorf("accepted out of sequence: %d transactions", len(p))
		}
	}
	if r := c.block(b, first, second); r.TxResults[1].Code != 0 || r.TxResults[2].Code != 0 {
		t.Errorf("in sequence: %v", r.TxResults)
	}
	if a := c.Accounts.GetAccount(c.state(), who[:]); a.GetSequence() != 2 || a.GetPubKey() == nil {
		t.Errorf("afterwards the account has sequence %d and key %v", a.GetSequence(), a.GetPubKey())
	}
	if why := c.submit(second); why == "" {
		t.Error("a transaction of the last block is let in again")
	}
	if why := c.submit(third); why != "" {
		t.Errorf("the next one is refused: %s", why)
	}
	if c.block(); !c.included(third) {
		t.Error("the next one is not in the next block")
	}
}
