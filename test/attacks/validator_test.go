package attacks

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

// TestStuffingProposer: a validator proposes blocks of its own making, and the
// others, who are the application of torg's ledger here, must refuse them: else
// one proposer in a hundred could fill or stop the ledger (issue 9, section 3;
// at a45ab0b a block of "junk" and a megabyte of zeros was accepted).
//
// It runs the ledger without a torg up around it: with a single validator nobody
// else looks at its proposals.
func TestStuffingProposer(t *testing.T) {
	t.Parallel()
	const chain = "torg-attacked"
	priv := ed25519.GenPrivKey()
	rich := devnet.Key(1)
	doc, err := ledger.Genesis{
		ChainID: chain, Time: time.Now(), Balances: []ledger.Balance{{Owner: rich.Address(), Amount: square.Utorg(10_000 * torgs)}},
		Validators: []ledger.Validator{{Name: "stuffer", Operator: devnet.Key(0).Address(), Key: priv.PubKey(), Stake: 1_000_000 * torgs}},
	}.Doc()
	if err != nil {
		t.Fatal(err)
	}
	app, err := ledger.New(ledger.Config{ChainID: chain, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler), Trades: rules(), Lone: true, Validator: priv})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	params := doc.ConsensusParams.ToProto()
	vals := make([]abci.ValidatorUpdate, len(doc.Validators))
	for i, v := range doc.Validators {
		vals[i] = cmttypes.TM2PB.ValidatorUpdate(cmttypes.NewValidator(v.PubKey, v.Power))
	}
	if _, err := app.InitChain(&abci.RequestInitChain{Time: doc.GenesisTime, ChainId: chain, ConsensusParams: &params, Validators: vals, AppStateBytes: doc.AppState, InitialHeight: 1}); err != nil {
		t.Fatal(err)
	}
	block := func(txs [][]byte) abci.ResponseProcessProposal_ProposalStatus {
		r, err := app.ProcessProposal(&abci.RequestProcessProposal{
			Txs: txs, Height: 1, Time: doc.GenesisTime.Add(time.Second), Hash: []byte{1}, ProposerAddress: priv.PubKey().Address(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	own, err := app.PrepareProposal(&abci.RequestPrepareProposal{MaxTxBytes: space.BlockBytes, Height: 1, Time: doc.GenesisTime.Add(time.Second), ProposerAddress: priv.PubKey().Address()})
	if err != nil {
		t.Fatal(err)
	}
	head := own.Txs[0]
	until, n := time.Now().Add(time.Minute).UTC(), 0
	tx := func(gas, perMillion uint64) []byte {
		n++
		raw, err := forge(chain, rich, 0, until.Add(time.Duration(n)), gas, space.Cost(perMillion, gas), selfSend(rich.Address()))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	const dear = 10_000_000 // utorg for a million gas, far above any price
	fine := tx(100_000, dear)
	if got := block([][]byte{head, fine}); got != abci.ResponseProcessProposal_ACCEPT {
		t.Fatalf("a fair block is %s", got)
	}
	many := func(k int, gas uint64) (txs [][]byte) {
		txs = [][]byte{head}
		for range k {
			txs = append(txs, tx(gas, dear))
		}
		return txs
	}
	accepted := 0
	stuffed := map[string][][]byte{
		"junk and a megabyte of zeros":     {head, []byte("junk"), make([]byte, 1<<20)},
		"the same without the beacon":      {[]byte("junk"), make([]byte, 1<<20)},
		"nothing at all":                   {},
		"a transaction without a fee":      {head, tx(100_000, 0)},
		"one that wants the whole block":   {head, tx(99_000_000, dear)},
		"one twice":                        {head, fine, fine},
		"more gas than a block has":        many(21, 4_900_000),
		"a signature by another":           {head, append(bytes.Clone(fine[:len(fine)-1]), fine[len(fine)-1]^1)},
		"another chain's transaction":      {head, must(forge("torg-other", rich, 0, until, 100_000, torgs, selfSend(rich.Address())))},
		"bytes for which no gas is wanted": {head, append(bytes.Clone(fine), make([]byte, 100_000)...)},
		"a beacon of its choice":           {append(bytes.Clone(head[:len(head)-1]), head[len(head)-1]^1), fine},
		"two beacons":                      {head, head},
	}
	for name, txs := range stuffed {
		if got := block(txs); got == abci.ResponseProcessProposal_ACCEPT {
			accepted++
			t.Errorf("a block with %s is accepted", name)
		}
	}
	results.add(outcome{actor: validator, name: "stuffed and junk proposals", note: fmt.Sprintf("%d of %d accepted by the others", accepted, len(stuffed)), held: accepted == 0})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // constants do not fail
	}
	return b
}
