package ledger_test

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/proto"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	"cosmossdk.io/math"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// chain is the ledger as one validator's CometBFT drives it: a mempool in the
// order of arrival, a proposal, a block, a recheck. Time is the test's.
type chain struct {
	testing.TB
	*ledger.App
	cast
	key     ed25519.PrivKey
	height  int64
	at      time.Time
	waiting [][]byte
	nonce   time.Duration
	last    [][]byte // the last block
	crowd   []square.Address
	mine    [][]byte // what was proposed last
}

// newChain is a ledger with n leases between the first buyer and the first
// provider and as many between the second ones.
func newChain(t testing.TB, n int) (*chain, []market.Lease, []market.Lease) {
	t.Helper()
	return newCrowded(t, n, 0)
}

// newCrowded is one with so many accounts more, which have money and nothing else.
func newCrowded(t testing.TB, n, crowd int) (*chain, []market.Lease, []market.Lease) {
	t.Helper()
	people := newCast(t, 3, 3, 3)
	doc := walkGenesis(t, people, market.Default())
	c := &chain{TB: t, cast: people, key: ed25519.GenPrivKeyFromSecret([]byte("v")), height: 1, at: doc.GenesisTime}
	var err error
	c.App, err = ledger.New(ledger.Config{
		ChainID: chainID, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler), Trades: []trade.Rules{anything("infer")}, Validator: c.key,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	params := doc.ConsensusParams.ToProto()
	if _, err := c.InitChain(&abci.RequestInitChain{
		Time: doc.GenesisTime, ChainId: chainID, ConsensusParams: &params, AppStateBytes: doc.AppState, InitialHeight: 1,
	}); err != nil {
		t.Fatal(err)
	}
	block(t, c.App, 1, c.at)
	c.height++
	if _, err := c.FinalizeBlock(&abci.RequestFinalizeBlock{Height: c.height, Time: c.at}); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the leases are written straight to the state that the next commit keeps
	ctx := c.NewUncachedContext(false, cmtproto.Header{ChainID: chainID, Height: c.height, Time: c.at})
	one, two := c.leases(ctx, 0, n), c.leases(ctx, 1, n)
	for i := range crowd {
		k, err := square.KeyFromBytes(append(make([]byte, 29), 1, byte(i>>8), byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		a, from := k.Address(), c.Others[1]
		if err := c.Bank.SendCoins(ctx, from[:], a[:], sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 1<<38))); err != nil {
			t.Fatal(err)
		}
		c.keys[a], c.crowd = k, append(c.crowd, a)
	}
	if _, err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	return c, one, two
}

func (c *chain) leases(ctx sdk.Context, pair, n int) (out []market.Lease) {
	c.Helper()
	buyer, provider := c.Buyers[pair], c.Providers[pair]
	machine := market.Machine{Params: market.Default(), Fits: anything("infer").Fits}
	st, now := c.Market.Store(ctx), c.at.Unix()
	d := square.LedgerDomain(chainID)
	rates := []square.Rate{{Unit: "u", PerMillion: 1}}
	offer := square.Offer{Provider: provider, Trade: "infer", Denom: square.Denom, Rates: rates, Capacity: uint64(n), Expiry: now + 1000, Nonce: 1}
	if _, err := machine.PostOffer(st, now, offer.ID(d), offer); err != nil {
		c.Fatal(err)
	}
	if _, err := machine.Bond(st, now, provider, "infer", square.Utorg(1<<40)); err != nil {
		c.Fatal(err)
	}
	for i := range n {
		// The second pair's leases end sooner: a flooder chooses its deadlines.
		order := square.Order{
			Buyer: buyer, Authorizer: buyer, Trade: "infer", Mode: square.ModeStream, Denom: square.Denom, Escrow: 1 << 30, MaxRates: rates,
			JobValue: 1, Policy: square.PolicyAudit, Lanes: 1, Units: 1, Start: 60, Idle: uint64(3000 - 1000*pair), Duration: 3000, Challenge: 60, Drain: 60,
			Expiry: now + 1000, Salt: square.Hash{byte(pair), byte(i), byte(i >> 8)},
		}
		id := order.ID(d)
		quote := square.Quote{Provider: provider, Order: id, Offer: offer.ID(d), Rates: rates, Bond: 400_000, Ready: true, Expiry: now + 20, Nonce: id}
		if _, err := machine.OpenMatched(st, now, id, order, quote, quote.Digest(d)); err != nil {
			c.Fatal(err)
		}
		l, err := st.Lease(id)
		if err != nil {
			c.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// tx signs a transaction that wants so much gas and pays times the least price of
// its lane, in quarters.
func (c *chain) tx(who square.Address, gas, quarters uint64, msgs ...proto.Message) []byte {
	c.Helper()
	lane, _ := space.Place(msgs...)
	prices, err := c.Market.Prices(c.state())
	if err != nil {
		c.Fatal(err)
	}
	return c.sign(who, gas, space.Cost(prices[lane]*quarters/4, gas), msgs...)
}

func (c *chain) sign(who square.Address, gas, fee uint64, msgs ...proto.Message) []byte {
	c.Helper()
	k := c.keys[who]
	c.nonce++
	until := c.at.Add(time.Minute + c.nonce)
	body := txtypes.TxBody{Unordered: true, TimeoutTimestamp: &until}
	for _, m := range msgs {
		one, err := codectypes.NewAnyWithValue(m)
		if err != nil {
			c.Fatal(err)
		}
		body.Messages = append(body.Messages, one)
	}
	pub, err := codectypes.NewAnyWithValue(keys.PubKeyOf(k))
	if err != nil {
		c.Fatal(err)
	}
	auth := txtypes.AuthInfo{
		SignerInfos: []*txtypes.SignerInfo{{PublicKey: pub, ModeInfo: &txtypes.ModeInfo{
			Sum: &txtypes.ModeInfo_Single_{Single: &txtypes.ModeInfo_Single{Mode: signing.SignMode_SIGN_MODE_DIRECT}},
		}}},
		Fee: &txtypes.Fee{GasLimit: gas, Amount: sdk.NewCoins(sdk.NewCoin(square.Denom, math.NewIntFromUint64(fee)))},
	}
	rawBody, err := body.Marshal()
	rawAuth, err2 := auth.Marshal()
	doc, err3 := (&txtypes.SignDoc{BodyBytes: rawBody, AuthInfoBytes: rawAuth, ChainId: chainID,
		AccountNumber: c.Accounts.GetAccount(c.state(), who[:]).GetAccountNumber()}).Marshal()
	raw, err4 := (&txtypes.TxRaw{BodyBytes: rawBody, AuthInfoBytes: rawAuth, Signatures: [][]byte{keys.Sign(k, doc)}}).Marshal()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		c.Fatal(err)
	}
	return raw
}

func (c *chain) state() sdk.Context { return c.NewContext(true).WithBlockHeight(c.height) }

// submit hands a transaction to the mempool; it tells why it was refused.
func (c *chain) submit(raw []byte) string {
	c.Helper()
	r, err := c.CheckTx(&abci.RequestCheckTx{Type: abci.CheckTxType_New, Tx: raw})
	if err != nil {
		c.Fatal(err)
	}
	if r.Code != 0 {
		return r.Log
	}
	c.waiting = append(c.waiting, raw)
	return ""
}

// proposal is what this node would propose.
func (c *chain) proposal() [][]byte {
	c.Helper()
	r, err := c.PrepareProposal(&abci.RequestPrepareProposal{
		Height: c.height + 1, Time: c.at, MaxTxBytes: ledger.MaxBlockBytes - 20_000, ProposerAddress: c.key.PubKey().Address(),
	})
	if err != nil {
		c.Fatal(err)
	}
	c.mine = r.Txs
	return r.Txs
}

// accepts tells whether a proposal would be accepted. This node's own is looked
// at twice, the second time as if it were another's.
func (c *chain) accepts(txs ...[]byte) bool {
	c.Helper()
	yes := c.judged(txs)
	if reflect.DeepEqual(txs, c.mine) {
		c.ForgetProposal()
		if c.judged(txs) != yes {
			c.Errorf("block %d: accepted as this node's own: %t; as another's: %t", c.height+1, yes, !yes)
		}
	}
	return yes
}

func (c *chain) judged(txs [][]byte) bool {
	c.Helper()
	r, err := c.ProcessProposal(&abci.RequestProcessProposal{Height: c.height + 1, Time: c.at, Txs: txs, ProposerAddress: c.key.PubKey().Address(), Hash: hashOf(txs)})
	if err != nil {
		c.Fatal(err)
	}
	return r.Status == abci.ResponseProcessProposal_ACCEPT
}

func hashOf(txs [][]byte) []byte {
	h := sha256.Sum256(slices.Concat(txs...))
	return h[:]
}

// block makes a block a second later, of what is proposed here or of txs.
func (c *chain) block(txs ...[]byte) *abci.ResponseFinalizeBlock {
	c.Helper()
	c.at = c.at.Add(time.Second)
	if txs == nil {
		txs = c.proposal()
	}
	if !c.accepts(txs...) {
		c.Fatalf("block %d, of %d, is refused", c.height+1, len(txs))
	}
	c.height++
	r, err := c.FinalizeBlock(&abci.RequestFinalizeBlock{Height: c.height, Time: c.at, Txs: txs, ProposerAddress: c.key.PubKey().Address(), Hash: hashOf(txs)})
	if err != nil {
		c.Fatal(err)
	}
	if _, err := c.Commit(); err != nil {
		c.Fatal(err)
	}
	c.last = txs
	left := c.waiting[:0]
	for _, raw := range c.waiting {
		if slices.ContainsFunc(txs, func(tx []byte) bool { return &tx[0] == &raw[0] || string(tx) == string(raw) }) {
			continue
		}
		r, err := c.CheckTx(&abci.RequestCheckTx{Type: abci.CheckTxType_Recheck, Tx: raw})
		if err != nil {
			c.Fatal(err)
		}
		if r.Code == 0 {
			left = append(left, raw)
		}
	}
	c.waiting = left
	return r
}

func (c *chain) included(raw []byte) bool {
	return slices.ContainsFunc(c.last, func(tx []byte) bool { return string(tx) == string(raw) })
}

func (c *chain) redeem(l market.Lease, units uint64) *marketv1.MsgRedeem {
	d := square.ChannelDomain(chainID)
	v := square.SignVoucher(d, l.Channel(0).ID(d), units, c.keys[l.Order.Buyer])
	return &marketv1.MsgRedeem{Sender: l.Provider.String(), Lease: l.ID.String(), Claims: []marketv1.LaneClaim{{Amount: units, Max: units, Signature: v.Sig[:]}}}
}

func (c *chain) send(from square.Address) *banktypes.MsgSend {
	return &banktypes.MsgSend{FromAddress: from.String(), ToAddress: c.Others[0].String(), Amount: sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 1))}
}

func (c *chain) lag() int64 {
	c.Helper()
	_, lag, err := c.Market.Clock(c.state())
	if err != nil {
		c.Fatal(err)
	}
	return lag
}

// beacon is the entry that begins the next block.
func (c *chain) beacon() []byte { return c.proposal()[0] }

// What no honest node proposes, none accepts.
func TestProposals(t *testing.T) {
	c, ls, _ := newChain(t, 40)
	junk := [][]byte{[]byte("junk"), make([]byte, 1<<20)}
	redeem := c.tx(ls[0].Provider, 400_000, 4, c.redeem(ls[0], 100_000))
	send := c.tx(c.Others[1], 100_000, 4, c.send(c.Others[1]))
	b := c.beacon()
	other := slices.Clone(b)
	other[len(other)-1] ^= 1
	stranger := append(slices.Clone(b[:len(b)-80]), ecvrf.Prove([]byte(ed25519.GenPrivKeyFromSecret([]byte("w"))), []byte("x"))...)
	if !c.accepts(b) || !c.accepts(b, redeem, send) {
		t.Fatal("an honest proposal is refused")
	}
	var full [][]byte
	for i := range 22 {
		full = append(full, c.tx(c.Others[1], 4_900_000, 4+uint64(i), c.send(c.Others[1])))
	}
	var many [][]byte
	for _, l := range ls {
		many = append(many, c.tx(l.Provider, 560_000, 4, c.redeem(l, 100_000)))
	}
	for _, p := range []struct {
		what string
		txs  [][]byte
	}{
		{"junk alone", junk},
		{"junk behind a beacon", append([][]byte{b}, junk...)},
		{"nothing", nil},
		{"no beacon", [][]byte{redeem, send}},
		{"a bent beacon", [][]byte{other}},
		{"another's beacon", [][]byte{stranger}},
		{"two beacons", [][]byte{b, b}},
		{"lanes out of order", [][]byte{b, send, redeem}},
		{"the same twice", [][]byte{b, send, send}},
		{"more sends than their lane holds", append([][]byte{b}, full[:11]...)},
		{"a send for more gas than it can use", [][]byte{b, c.tx(c.Others[1], 5_000_001, 4, c.send(c.Others[1]))}},
		{"a redeem that wants 49 M gas", [][]byte{b, c.tx(ls[0].Provider, 49_000_000, 4, c.redeem(ls[0], 100_000))}},
		{"bytes that gas does not cover", [][]byte{b, c.tx(ls[0].Provider, 20_000_000, 4, &marketv1.MsgProve{Sender: ls[0].Provider.String(), Proof: make([]byte, 500_000)})}},
		{"no fee", [][]byte{b, c.sign(c.Others[1], 100_000, 0, c.send(c.Others[1]))}},
		{"less than the price", [][]byte{b, c.tx(c.Others[1], 100_000, 3, c.send(c.Others[1]))}},
		{"a redeem for less than the price", [][]byte{b, c.tx(ls[0].Provider, 400_000, 3, c.redeem(ls[0], 100_000))}},
	} {
		if c.accepts(p.txs...) {
			t.Errorf("%s is accepted", p.what)
		}
	}
	if !c.accepts(append([][]byte{b}, full[:10]...)...) {
		t.Error("sends that fill their lane are refused")
	}
	if !c.accepts(append([][]byte{b}, many...)...) {
		t.Error("a block of redeems is refused")
	}
	// A largest proof fits, and two of them do not.
	proof := func() []byte {
		return c.tx(ls[0].Provider, 55_000_000, 4, &marketv1.MsgProve{Sender: ls[0].Provider.String(), Lease: ls[0].ID.String(), Proof: make([]byte, 1<<20)})
	}
	if !c.accepts(b, proof()) || c.accepts(b, proof(), proof()) {
		t.Error("of proofs of a megabyte one fits in a block, and no two")
	}
}

// A bit flipped anywhere in a transaction makes its block one that nobody accepts.
func TestSpoiledProposals(t *testing.T) {
	c, ls, _ := newChain(t, 1)
	b, good := c.beacon(), c.tx(ls[0].Provider, 400_000, 4, c.redeem(ls[0], 100_000))
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		bad := slices.Clone(good)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		if c.accepts(b, bad) {
			t.Fatalf("%x is accepted for %x", bad, good)
		}
	}
	for range 100 {
		bad := slices.Clone(b)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		if c.accepts(bad, good) {
			t.Fatalf("beacon %x is accepted for %x", bad, b)
		}
	}
	if !c.accepts(b, good) {
		t.Error("what was spoiled is refused whole")
	}
}

// What waits is shared out: an account that has most makes room first, then who
// bids least, and only for whoever bids a tenth more; and what made room is gone
// from CometBFT's mempool after the next block.
func TestPool(t *testing.T) {
	defer ledger.SetWait(space.Other, 6)()
	c, _, _ := newChain(t, 1)
	greedy := c.Others[0]
	var of [][]byte
	for range 6 {
		raw := c.tx(greedy, 100_000, 8, c.send(greedy))
		if why := c.submit(raw); why != "" {
			t.Fatal(why)
		}
		of = append(of, raw)
	}
	if c.submit(c.tx(greedy, 100_000, 8, c.send(greedy))) == "" {
		t.Error("a full lane takes one more of who has most")
	}
	others := append(slices.Clone(c.Others[1:]), c.Judges[:3]...)
	for _, who := range others {
		if why := c.submit(c.tx(who, 100_000, 4, c.send(who))); why != "" {
			t.Fatalf("another account finds no room: %s", why)
		}
	}
	if n := c.Mempool().CountTx(); n != 6 {
		t.Errorf("%d wait, want 6", n)
	}
	// One each: more has to be bid than the cheapest.
	last := c.Judges[3]
	if c.submit(c.tx(last, 100_000, 4, c.send(last))) == "" {
		t.Error("a bid like the cheapest finds room")
	}
	if why := c.submit(c.tx(last, 100_000, 5, c.send(last))); why != "" {
		t.Errorf("a higher bid finds no room: %s", why)
	}
	for i, raw := range of[1:] {
		r, err := c.CheckTx(&abci.RequestCheckTx{Type: abci.CheckTxType_Recheck, Tx: raw})
		if err != nil || r.Code == 0 {
			t.Errorf("transaction %d made room and waits on: %v", i+1, err)
		}
	}
	// What nobody includes does not wait for ever.
	c.at = c.at.Add(3 * time.Minute)
	c.block(c.beacon())
	if n := c.Mempool().CountTx(); n != 0 || len(c.waiting) != 0 {
		t.Errorf("%d and %d wait after three minutes", n, len(c.waiting))
	}
}

// The beacon of a block is there from that block on, is another each time, and is
// the same for everybody.
func TestBeacon(t *testing.T) {
	c, _, _ := newChain(t, 1)
	seen := map[square.Hash]bool{}
	for range 5 {
		c.block()
		mix, err := c.Market.Beacon(c.state(), c.height)
		if err != nil || seen[mix] || mix.IsZero() {
			t.Fatalf("block %d: %s, %v", c.height, mix, err)
		}
		seen[mix] = true
		if again, err := c.Market.Beacon(c.state(), c.height); err != nil || again != mix {
			t.Errorf("asked again, it is %s, %v", again, err)
		}
	}
	if _, err := c.Market.Beacon(c.state(), c.height+1); !errors.Is(err, market.ErrEarly) {
		t.Errorf("a block to come: %v", err)
	}
	// The time and the round of a proposal do not change what it brings.
	one := c.beacon()
	c.at = c.at.Add(time.Second)
	if string(c.beacon()) != string(one) {
		t.Error("a proposer has a choice")
	}
}

// An account that a block's first transaction empties pays for the rest of them
// all the same: else a block could be filled for nothing.
func TestDrain(t *testing.T) {
	c, _, _ := newChain(t, 1)
	who := c.Others[2]
	has := func() uint64 { return c.Bank.GetBalance(c.state(), who[:], square.Denom).Amount.Uint64() }
	const gas = 4_000_000
	fee := space.Cost(space.LeastPrices[space.Other], gas)
	all := has() - 3*fee
	drain := &banktypes.MsgSend{FromAddress: who.String(), ToAddress: c.Others[0].String(), Amount: sdk.NewCoins(sdk.NewCoin(square.Denom, math.NewIntFromUint64(all)))}
	r := c.block(c.beacon(), c.tx(who, gas, 4, drain), c.tx(who, gas, 4, c.send(who)), c.tx(who, gas, 4, c.send(who)))
	if r.TxResults[1].Code != 0 || r.TxResults[2].Code == 0 || r.TxResults[3].Code == 0 {
		t.Fatalf("%+v", r.TxResults)
	}
	if has() != 0 {
		t.Errorf("%d are left: fees were not paid", has())
	}
}

// TestOneTimeout: of an account's transactions with one timeout the ledger takes one,
// so that a client may bid more for what waits. What waits keeps the newer one out;
// what the price has outgrown does not.
func TestOneTimeout(t *testing.T) {
	c, _, _ := newChain(t, 1)
	who, rich := c.Others[1], c.Others[2]
	pair := func() ([]byte, []byte) {
		one := c.tx(who, 100_000, 4, c.send(who))
		c.nonce-- // the same timeout
		return one, c.tx(who, 100_000, 40, c.send(who))
	}
	one, two := pair()
	b := c.beacon()
	if !c.accepts(b, one) || !c.accepts(b, two) || c.accepts(b, one, two) {
		t.Fatal("each of two transactions with one timeout would do alone, and not both")
	}
	if why := c.submit(one); why != "" {
		t.Fatal(why)
	}
	if c.submit(two) == "" {
		t.Error("the second is let in beside the first")
	}
	if c.block(); !c.included(one) {
		t.Fatal("the first is not in the next block")
	}
	if c.submit(two) == "" || c.accepts(c.beacon(), two) {
		t.Error("the second is taken after the first")
	}

	one, two = pair()
	if why := c.submit(one); why != "" {
		t.Fatal(why)
	}
	full := [][]byte{c.beacon()}
	for range 10 {
		full = append(full, c.tx(rich, 5_000_000, 8, c.send(rich)))
	}
	if c.block(full...); len(c.waiting) != 0 {
		t.Fatal("what bids less than the price waits on")
	}
	if why := c.submit(two); why != "" {
		t.Fatalf("more is not taken for what was dropped: %s", why)
	}
	if c.block(); !c.included(two) {
		t.Error("the second is not in the next block")
	}
	if c.submit(one) == "" || c.accepts(c.beacon(), one) {
		t.Error("the first is taken after the second")
	}
}

// TestFloods sends an honest provider's redeem into each kind of flood. It gets in
// within five blocks; the clock stands while there is no room; what it costs the
// flooder rises.
func TestFloods(t *testing.T) {
	if testing.Short() {
		t.Skip("floods take a while")
	}
	type flood struct {
		what  string
		fill  func(c *chain, own []market.Lease, round int)
		clock bool // the clock goes on
	}
	refill := func(c *chain, raw []byte) bool { return c.submit(raw) == "" }
	for _, f := range []flood{
		{"plain sends", func(c *chain, _ []market.Lease, _ int) {
			for range 100 {
				if !refill(c, c.tx(c.Others[1], 4_800_000, 8, c.send(c.Others[1]))) {
					return
				}
			}
		}, true},
		{"sends of many accounts", func(c *chain, _ []market.Lease, _ int) {
			for _, who := range append(slices.Clone(c.Others), c.Judges...) {
				for range 10 {
					refill(c, c.tx(who, 4_800_000, 8, c.send(who)))
				}
			}
		}, true},
		{"redeems on own leases with nearer deadlines", func(c *chain, own []market.Lease, round int) {
			for _, l := range own {
				refill(c, c.tx(l.Provider, 500_000, 8, c.redeem(l, uint64(round+1)*100_000)))
			}
		}, false},
		{"challenges of 2,000 accounts", func(c *chain, own []market.Lease, _ int) {
			// Anybody may have something against a lease: each has its place by the
			// flooder's deadline.
			for _, who := range c.crowd {
				refill(c, c.tx(who, 500_000, 8, &marketv1.MsgChallenge{Challenger: who.String(), Lease: own[0].ID.String()}))
			}
		}, false},
		{"redeems that want 49 M gas", func(c *chain, own []market.Lease, round int) {
			for _, l := range own {
				if refill(c, c.tx(l.Provider, 49_000_000, 8, c.redeem(l, uint64(round+1)*100_000))) {
					c.Error("such a redeem is taken")
				}
			}
		}, true},
		{"proofs of a megabyte", func(c *chain, own []market.Lease, _ int) {
			for range 3 {
				refill(c, c.tx(own[0].Provider, 54_000_000, 8, &marketv1.MsgProve{Sender: own[0].Provider.String(), Lease: own[0].ID.String(), Proof: make([]byte, 1<<20)}))
			}
		}, false},
	} {
		t.Run(f.what, func(t *testing.T) {
			c, honest, own := newCrowded(t, 600, 2000)
			worst, admitted, prices := 0, 0, []uint64(nil)
			for round := range 2 {
				f.fill(c, own, round)
				before := c.lag()
				// As a client does, it bids more under the same timeout when it is refused
				// or has been dropped.
				bid, nonce := uint64(8), c.nonce+1
				var mine []byte
				enter := func() string {
					why := "not sent"
					for n := 0; n < 8 && why != ""; n++ {
						after := c.nonce
						c.nonce = nonce - 1
						mine = c.tx(honest[0].Provider, 400_000, bid, c.redeem(honest[0], uint64(round+1)*100_000))
						c.nonce = max(after, nonce)
						if why = c.submit(mine); why != "" {
							bid = bid * 5 / 4
						}
					}
					return why
				}
				blocks, outside := 0, 0
				for in := false; blocks == 0 || !c.included(mine); blocks++ {
					if in = slices.ContainsFunc(c.waiting, func(raw []byte) bool { return string(raw) == string(mine) }); !in {
						in = enter() == ""
					}
					if !in {
						outside++
					}
					if blocks-outside >= 5 || outside > 20 {
						t.Fatalf("after %d blocks, %d of them outside the pool, the honest redeem is in none, and %d wait", blocks, outside, c.Mempool().CountTx())
					}
					c.block()
					f.fill(c, own, 10*round+blocks+1)
				}
				admitted = max(admitted, outside)
				blocks -= outside
				worst = max(worst, blocks)
				if stood := c.lag() > before; stood == f.clock {
					t.Errorf("the clock stood: %v; in round %d", stood, round)
				}
				var err error
				if prices, err = c.Market.Prices(c.state()); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("at most %d blocks, and %d to be let in; lag %d s after %d; prices %v", worst, admitted, c.lag(), c.height, prices)
			if !f.clock && prices[space.Defend] <= space.LeastPrices[space.Defend] {
				t.Error("the flood has made nothing dearer")
			}
		})
	}
}

// A proposer that stuffs its block with its own stops the clock and pays for it.
func TestStuffing(t *testing.T) {
	c, _, own := newChain(t, 160)
	has := func() uint64 { return c.Bank.GetBalance(c.state(), own[0].Provider[:], square.Denom).Amount.Uint64() }
	before, lag := has(), c.lag()
	txs := [][]byte{c.beacon()}
	for _, l := range own[:151] {
		txs = append(txs, c.tx(l.Provider, 560_000, 4, c.redeem(l, 1)))
	}
	c.block(txs...)
	if c.lag() != lag+1 {
		t.Errorf("the clock's lag is %d after a stuffed block, was %d", c.lag(), lag)
	}
	paid := before + 151 - has()
	if least := space.Cost(space.LeastPrices[space.Defend], 151*560_000); paid < least {
		t.Errorf("it paid %d, want at least %d", paid, least)
	}
	// Half a minute passes without a block: the clock takes no more than five
	// seconds of it.
	c.at = c.at.Add(30 * time.Second)
	c.block()
	if c.lag() != lag+1+26 {
		t.Errorf("the clock's lag is %d after 31 s without a block, was %d before", c.lag(), lag+1)
	}
}
