package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/jsonpb"
	"github.com/cosmos/gogoproto/proto"

	errorsmod "cosmossdk.io/errors"

	"github.com/cosmos/cosmos-sdk/codec"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	marketmodule "github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/market/walk"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// anything is a trade that takes every order and judges nothing.
type anything string

func (a anything) Name() string                            { return string(a) }
func (anything) Units() []string                           { return nil }
func (anything) CheckOffer(square.Offer) error             { return nil }
func (anything) CheckOrder(square.Order) error             { return nil }
func (anything) Fits(f square.Offer, o square.Order) error { return walk.Fits(f, o) }
func (anything) JudgeGas(trade.Case) (uint64, error)       { return 0, trade.ErrNotJudgeable }
func (anything) Judge(trade.Case) (square.Verdict, error)  { return "", trade.ErrNotJudgeable }

// start applies a genesis without consensus, and returns the context of the
// block after.
func start(t testing.TB, doc *cmttypes.GenesisDoc) (*ledger.App, sdk.Context) {
	t.Helper()
	a, err := ledger.New(ledger.Config{
		ChainID: doc.ChainID, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler),
		Trades: []trade.Rules{anything("infer"), anything("label")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	params := doc.ConsensusParams.ToProto()
	_, err = a.InitChain(&abci.RequestInitChain{
		Time: doc.GenesisTime, ChainId: doc.ChainID, ConsensusParams: &params, AppStateBytes: doc.AppState,
		InitialHeight: doc.InitialHeight, Validators: updates(doc),
	})
	if err != nil {
		t.Fatal(err)
	}
	block(t, a, doc.InitialHeight, doc.GenesisTime)
	return a, a.NewContext(true).WithBlockHeight(doc.InitialHeight + 1).WithChainID(doc.ChainID)
}

func updates(doc *cmttypes.GenesisDoc) (out []abci.ValidatorUpdate) {
	for _, v := range doc.Validators {
		out = append(out, cmttypes.TM2PB.ValidatorUpdate(cmttypes.NewValidator(v.PubKey, v.Power)))
	}
	return out
}

func block(t testing.TB, a *ledger.App, height int64, at time.Time) {
	t.Helper()
	if _, err := a.FinalizeBlock(&abci.RequestFinalizeBlock{Height: height, Time: at}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(); err != nil {
		t.Fatal(err)
	}
}

// cast is people with keys.
type cast struct {
	walk.People
	keys map[square.Address]square.Key
}

func newCast(t testing.TB, buyers, providers, others int) cast {
	c := cast{keys: map[square.Address]square.Key{}}
	next := byte(0)
	some := func(n int) (out []square.Address) {
		for range n {
			next++
			k, err := square.KeyFromBytes(append(make([]byte, 31), next))
			if err != nil {
				t.Fatal(err)
			}
			c.keys[k.Address()] = k
			out = append(out, k.Address())
		}
		return out
	}
	c.People = walk.People{Buyers: some(buyers), Providers: some(providers), Others: some(others), Judges: some(7)}
	return c
}

const chainID = "walk-1"

func walkGenesis(t testing.TB, c cast, p market.Params) *cmttypes.GenesisDoc {
	t.Helper()
	g := ledger.Genesis{ChainID: chainID, Time: time.Unix(1_790_000_000, 0), Market: &p, Validators: []ledger.Validator{{
		Name: "v", Operator: c.Others[0], Key: ed25519.GenPrivKeyFromSecret([]byte("v")).PubKey(), Stake: square.UnitsPerTorg,
	}}}
	for _, a := range c.All() {
		for _, d := range []string{square.Denom, "uusd"} {
			g.Balances = append(g.Balances, ledger.Balance{Owner: a, Amount: square.Amount{Units: 1 << 50, Denom: d}})
		}
	}
	doc, err := g.Doc()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// sign signs for somebody, whose receipts of replicas a walk commits to.
func (c cast) sign(who square.Address, digest square.Hash) (s square.Signature) {
	if k, ok := c.keys[who]; ok {
		return k.Sign(digest)
	}
	return s
}

// sealKey is what withheld results would be sealed to.
var sealKey, _ = square.NewSealKey()

// message makes of an operation what a person would send. It is nil for what
// nobody sends: a charge, an answer and a proof come with bytes that a walk has not
// got, and seating judges and forgetting are the ledger's own.
func (c cast) message(op walk.Op, lease func(square.Hash) (market.Lease, error)) proto.Message {
	d := square.LedgerDomain(chainID)
	by, id := op.By.String(), op.Lease.String()
	sign := func(q square.Quote) []byte {
		k, ok := c.keys[q.Provider]
		if !ok {
			return make([]byte, 65)
		}
		s := k.Sign(q.Digest(d))
		return s[:]
	}
	switch op.Verb {
	case walk.Bond:
		return &bondv1.MsgBond{Provider: by, Trade: op.Trade, Amount: squarev1.FromAmount(op.Amount)}
	case walk.Unbond:
		return &bondv1.MsgUnbond{Provider: by, Trade: op.Trade, Amount: squarev1.FromAmount(op.Amount)}
	case walk.Unbonded:
		return &bondv1.MsgFinish{Sender: by, Provider: by, Trade: op.Trade, Denom: op.Amount.Denom}
	case walk.Offer:
		return &marketv1.MsgPostOffer{Provider: op.Offer.Provider.String(), Offer: squarev1.FromOffer(op.Offer)}
	case walk.Withdraw:
		if op.By != op.Slot.Provider {
			return nil // a message can only name the sender's own slot
		}
		return &marketv1.MsgWithdrawOffer{Provider: by, Trade: op.Slot.Trade, Spec: squarev1.Hex(op.Slot.Spec)}
	case walk.Open:
		return &marketv1.MsgPlaceOrder{Buyer: op.Order.Buyer.String(), Order: squarev1.FromOrder(op.Order)}
	case walk.OpenMatched:
		return &marketv1.MsgOpenLease{Buyer: op.Order.Buyer.String(), Order: squarev1.FromOrder(op.Order), Quote: squarev1.FromQuote(op.Quote), QuoteSignature: sign(op.Quote)}
	case walk.Match:
		return &marketv1.MsgMatch{Sender: by, Quote: squarev1.FromQuote(op.Quote), QuoteSignature: sign(op.Quote)}
	case walk.Start:
		return &marketv1.MsgStart{Provider: by, Lease: id}
	case walk.Redeem:
		m := &marketv1.MsgRedeem{Sender: by, Lease: id, Final: op.Final}
		l, err := lease(op.Lease)
		for _, x := range op.Claims {
			n := marketv1.LaneClaim{Lane: uint32(x.Lane), Amount: x.Cumulative, Max: x.Cumulative, Signature: make([]byte, 65)}
			if err == nil && x.Cumulative <= square.MaxUnits {
				cd := square.ChannelDomain(chainID)
				v := square.SignVoucher(cd, l.Channel(x.Lane).ID(cd), x.Cumulative, c.keys[l.Order.Authorizer])
				n.Signature = v.Sig[:]
			}
			m.Claims = append(m.Claims, n)
		}
		return m
	case walk.Close:
		m := &marketv1.MsgClose{Buyer: by, Lease: id}
		if op.Consent != nil {
			m.Consent = &marketv1.CloseConsent{Paid: *op.Consent, Signature: make([]byte, 65)}
			if l, err := lease(op.Lease); err == nil && !l.Provider.IsZero() {
				s := c.keys[l.Provider].Sign(square.CloseDigest(d, op.Lease, *op.Consent))
				m.Consent.Signature = s[:]
			}
		}
		return m
	case walk.Reclaim:
		return &marketv1.MsgReclaim{Provider: by, Lease: id, Notice: op.Units}
	case walk.Abandon:
		return &marketv1.MsgAbandon{Provider: by, Lease: id}
	case walk.Cancel:
		return &marketv1.MsgCancel{Buyer: by, Lease: id}
	case walk.TopUp:
		return &marketv1.MsgTopUp{Buyer: by, Lease: id, Units: op.Units}
	case walk.Extend:
		m := &marketv1.MsgExtend{Buyer: by, Lease: id, Ends: op.Ends, Signature: make([]byte, 65)}
		if l, err := lease(op.Lease); err == nil && !l.Provider.IsZero() {
			s := c.keys[l.Provider].Sign(square.ExtensionDigest(d, op.Lease, op.Ends))
			m.Signature = s[:]
		}
		return m
	case walk.Claim, walk.Show:
		m := &marketv1.MsgClaim{Sender: by, Lease: id, Receipt: squarev1.FromReceipt(op.Receipt), Signature: make([]byte, 65)}
		l, err := lease(op.Lease)
		if err == nil && (op.Verb == walk.Show) != (l.State == market.Showing) {
			return nil // the message is the other deed, which the lease's state wants
		}
		if err == nil && !l.Provider.IsZero() {
			s := c.keys[l.Provider].Sign(op.Receipt.Digest(d))
			m.Signature = s[:]
		}
		return m
	case walk.Withhold:
		return &marketv1.MsgWithhold{Buyer: by, Lease: id, Bond: op.Stake, Key: sealKey}
	case walk.Enlist:
		return &bondv1.MsgEnlist{Judge: by, Trade: op.Trade, Denom: op.Amount.Denom, On: op.On}
	case walk.Commit:
		return &marketv1.MsgCommit{Judge: by, Lease: id, Ballot: op.Hash.String()}
	case walk.Vote:
		return &marketv1.MsgVote{Judge: by, Lease: id, Verdict: string(op.Verdict), Secret: op.Hash.String()}
	case walk.Accept:
		return &marketv1.MsgAccept{Buyer: by, Lease: id}
	case walk.Prove:
		return nil
	case walk.Poke:
		return &marketv1.MsgPoke{Sender: by, Lease: id}
	}
	return nil
}

// TestRefinement walks the ledger and the pure machine along one history: what
// one refuses the other does, and leases, offers, stakes and money are the same
// after every step.
func TestRefinement(t *testing.T) {
	steps := 20_000
	if testing.Short() {
		steps = 4_000
	}
	people := newCast(t, 4, 4, 3)
	params := walk.Params()
	params.BallotCost = 0 // the ledger's own follows its price, which is the least here
	doc := walkGenesis(t, people, params)
	a, ctx := start(t, doc)
	ctx = ctx.WithEventManager(sdk.NewEventManager())

	machine := market.Machine{Params: params, Fits: walk.Fits}
	memory := market.NewMemory()
	for _, who := range people.All() {
		for _, d := range []string{square.Denom, "uusd"} {
			if err := memory.Fund(who, square.Amount{Units: 1 << 50, Denom: d}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tap := walk.NewTap(memory)
	walker := walk.New(11, params, square.LedgerDomain(chainID), people.People, memory, doc.GenesisTime.Unix())
	walker.Sign = people.sign
	var sent, done int
	var lag int64 // that the ledger's clock has
	for n := range steps {
		op := walker.Next()
		if op.Lag > lag {
			// A block without room, that took as long.
			stood := doc.GenesisTime.Add(time.Duration(op.Lag) * time.Second)
			if err := a.Market.Tick(ctx.WithBlockTime(stood), false); err != nil {
				t.Fatal(err)
			}
			lag = op.Lag
		}
		if op.Forged {
			continue // no signed message can carry it
		}
		message := people.message(op, memory.Lease)
		tap.Reset()
		var events []market.Event
		want := memory.Atomically(func() (err error) {
			events, err = op.Apply(machine, tap)
			return err
		})
		at := ctx.WithBlockTime(time.Unix(op.Now+op.Lag, 0)).WithEventManager(sdk.NewEventManager())
		try, keep := at.CacheContext()
		var got error
		if message != nil {
			sent++
			_, got = a.MsgServiceRouter().Handler(message)(try, message)
		} else {
			_, got = op.Apply(machine, a.Market.Store(try))
		}
		if got == nil {
			keep()
			done++
		}
		if (want == nil) != (got == nil) {
			t.Fatalf("step %d, %v:\nthe machine: %v\nthe ledger: %v", n, op, want, got)
		}
		// A message's own form and signatures are looked at before the lease is,
		// so the ledger may give another reason first.
		cause := coded(got)
		first := cause == nil || errors.Is(cause, square.ErrSignature) || errors.Is(cause, market.ErrParty)
		if message != nil && !first && !errors.Is(want, cause) || message == nil && fmt.Sprint(want) != fmt.Sprint(got) {
			t.Fatalf("step %d, %v:\nthe machine: %v\nthe ledger: %v", n, op, want, got)
		}
		walker.Saw(op, events, want)
		same(t, n, op, people.People, tap, memory, a, ctx)
	}
	t.Logf("%d steps, %d as messages, %d done", steps, sent, done)
	if done < steps/3 {
		t.Fatalf("only %d of %d operations were done: the walk shows little", done, steps)
	}
	// In the end, everything there is.
	store := a.Market.Store(ctx)
	for _, l := range memory.Leases() {
		if got, err := store.Lease(l.ID); err != nil || !equal(got, l) {
			t.Fatalf("lease %+v\nledger %+v: %v", l, got, err)
		}
	}
	audit(t, a, ctx)
}

// coded is the market's error behind a coded one.
func coded(err error) error {
	var c *errorsmod.Error
	if errors.As(err, &c) && c.Codespace() == marketv1.Codespace {
		return marketv1.Cause(c.ABCICode())
	}
	return err
}

// same compares all that the step wrote, and who might have been paid.
func same(t *testing.T, n int, op walk.Op, people walk.People, tap *walk.Tap, memory *market.Memory, a *ledger.App, ctx sdk.Context) {
	t.Helper()
	store := a.Market.Store(ctx)
	for id := range tap.Leases {
		want, werr := memory.Lease(id)
		got, gerr := store.Lease(id)
		if (werr == nil) != (gerr == nil) || !equal(want, got) {
			t.Fatalf("step %d, %v: lease\n%+v (%v)\nledger\n%+v (%v)", n, op, want, werr, got, gerr)
		}
	}
	for k := range tap.Offers {
		want, werr := memory.Offer(k)
		got, gerr := store.Offer(k)
		if (werr == nil) != (gerr == nil) || !equal(want, got) {
			t.Fatalf("step %d, %v: offer\n%+v (%v)\nledger\n%+v (%v)", n, op, want, werr, got, gerr)
		}
	}
	for k := range tap.Stakes {
		want, _ := memory.Stake(k)
		got, err := store.Stake(k)
		if err != nil || want != got {
			t.Fatalf("step %d, %v: stake\n%+v\nledger\n%+v (%v)", n, op, want, got, err)
		}
	}
	for _, d := range []string{square.Denom, "uusd"} {
		for _, who := range people.All() {
			want := memory.Balance(market.Account(who), d)
			if got := a.Bank.GetBalance(ctx, who[:], d).Amount.Uint64(); who != people.Others[0] && got != want {
				t.Fatalf("step %d, %v: %s has %d %s, on the ledger %d", n, op, who, want, d, got)
			}
		}
		if want, got := memory.Balance(market.Treasury, d), a.Bank.GetBalance(ctx, marketmodule.Address(marketmodule.Treasury), d).Amount.Uint64(); want != got {
			t.Fatalf("step %d, %v: treasury %d, on the ledger %d", n, op, want, got)
		}
	}
}

// equal is equality, an empty list being no list.
func equal(a, b any) bool {
	x, errx := json.Marshal(a)
	y, erry := json.Marshal(b)
	return errx == nil && erry == nil && bytes.Equal(x, y)
}

func audit(t *testing.T, a *ledger.App, ctx sdk.Context) {
	t.Helper()
	for _, d := range []string{square.Denom, "uusd"} {
		s, err := marketmodule.Queries(a.Market).Supply(ctx, &marketv1.QuerySupplyRequest{Denom: d})
		if err != nil || !s.Balanced {
			t.Fatalf("supply of %s: %+v, %v", d, s, err)
		}
	}
}

// TestGenesis exports a ledger with all kinds of state, starts another from it,
// and finds the same state, the same validators and a ledger that goes on.
func TestGenesis(t *testing.T) {
	people := newCast(t, 3, 3, 2)
	params := walk.Params()
	params.BallotCost = 0 // the ledger's own follows its price, which is the least here
	doc := walkGenesis(t, people, params)
	a, _ := start(t, doc)
	// A walk straight on the state that the next commit keeps.
	if _, err := a.FinalizeBlock(&abci.RequestFinalizeBlock{Height: 2, Time: doc.GenesisTime}); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 no other context writes to the state itself
	ctx := a.NewUncachedContext(false, cmtproto.Header{ChainID: chainID, Height: 2, Time: doc.GenesisTime})
	machine := market.Machine{Params: params, Fits: walk.Fits}
	walker := walk.New(5, params, square.LedgerDomain(chainID), people.People, a.Market.Store(ctx), doc.GenesisTime.Unix())
	for range 3000 {
		op := walker.Next()
		try, keep := ctx.CacheContext()
		events, err := op.Apply(machine, a.Market.Store(try))
		if err == nil {
			keep()
		}
		walker.Saw(op, events, err)
	}
	dear := []uint64{3_000, 50_000, 70_000}
	if err := a.Market.SetPrices(ctx, dear); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	out, err := a.Export()
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Validators) != 1 || out.InitialHeight != 3 || out.ConsensusParams.Block.MaxBytes != ledger.MaxBlockBytes {
		t.Fatalf("exported %d validators, height %d, blocks of %d", len(out.Validators), out.InitialHeight, out.ConsensusParams.Block.MaxBytes)
	}
	var g marketv1.GenesisState
	state, err := modules(out)
	if err != nil {
		t.Fatal(err)
	}
	a.Codec.MustUnmarshalJSON(state["market"], &g)
	if len(g.Leases) < 10 || len(g.Offers) < 3 || len(g.Stakes) < 3 || len(g.Used) < 10 || len(g.Totals) == 0 || g.Pruned.Leases == 0 {
		t.Fatalf("the walk left little: %d leases, %d offers, %d stakes, %d used, %d pruned", len(g.Leases), len(g.Offers), len(g.Stakes), len(g.Used), g.Pruned.Leases)
	}

	out.GenesisTime = doc.GenesisTime
	b, err := ledger.New(ledger.Config{ChainID: chainID, DB: dbm.NewMemDB(), Log: slog.New(slog.DiscardHandler), Trades: []trade.Rules{anything("infer"), anything("label")}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cp := out.ConsensusParams.ToProto()
	if _, err := b.InitChain(&abci.RequestInitChain{
		Time: out.GenesisTime, ChainId: chainID, ConsensusParams: &cp, AppStateBytes: out.AppState, InitialHeight: out.InitialHeight, Validators: updates(out),
	}); err != nil {
		t.Fatal(err)
	}
	block(t, b, out.InitialHeight, out.GenesisTime)
	again, err := b.Export()
	if err != nil {
		t.Fatal(err)
	}
	second, err := modules(again)
	if err != nil {
		t.Fatal(err)
	}
	// The block since has a beacon of its own, and was empty.
	var h marketv1.GenesisState
	b.Codec.MustUnmarshalJSON(second["market"], &h)
	h.Mixes = h.Mixes[:len(h.Mixes)-1]
	for lane, p := range dear {
		if want := space.Moved(space.Lane(lane), p, 0); h.Prices[lane] != want {
			t.Errorf("gas costs %d in lane %s after the first block; want %d", h.Prices[lane], space.Lane(lane), want)
		}
	}
	h.Prices = g.Prices
	second["market"] = b.Codec.MustMarshalJSON(&h)
	for _, module := range []string{"market", "channel", "bank", "staking", "auth", "gov"} {
		if string(state[module]) != string(second[module]) {
			t.Errorf("%s differs:\n%.2000s\n%.2000s", module, state[module], second[module])
		}
	}
	block(t, b, out.InitialHeight+1, out.GenesisTime.Add(time.Hour))
	audit(t, b, b.NewContext(true))
}

// TestWire fills every field of what is stored and sent, and finds it again
// after the way through protobuf: a field that protobuf has not got is a field
// that consensus would lose.
func TestWire(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		lease := fill[market.Lease](rng)
		if got, err := marketv1.FromLease(lease).Market(); err != nil || !reflect.DeepEqual(got, lease) {
			t.Fatalf("lease\n%+v\n%+v: %v", lease, got, err)
		}
		offer := fill[market.Offer](rng)
		if got, err := marketv1.FromOffer(offer).Market(); err != nil || !reflect.DeepEqual(got, offer) {
			t.Fatalf("offer\n%+v\n%+v: %v", offer, got, err)
		}
		params := fill[market.Params](rng)
		params.BallotCost = 0 // is no parameter: it follows the price
		if got := marketv1.FromParams(params).Market(); got != params {
			t.Fatalf("params\n%+v\n%+v", params, got)
		}
		key, stake := fill[market.StakeKey](rng), fill[market.Stake](rng)
		if k, s, err := marketv1.Stake(marketv1.FromStake(key, stake)); err != nil || k != key || s != stake {
			t.Fatalf("stake\n%+v\n%+v: %v", stake, s, err)
		}
		event := fill[market.Event](rng)
		if got, err := marketv1.FromEvent(event).Market(); err != nil || !reflect.DeepEqual(got, event) {
			t.Fatalf("event\n%+v\n%+v: %v", event, got, err)
		}
		quote := fill[square.Quote](rng)
		if got, err := squarev1.FromQuote(quote).Square(); err != nil || !reflect.DeepEqual(got, quote) {
			t.Fatalf("quote\n%+v\n%+v: %v", quote, got, err)
		}
		config := fill[square.ChannelConfig](rng)
		if got, err := squarev1.FromChannelConfig(config).Square(); err != nil || got != config {
			t.Fatalf("config\n%+v\n%+v: %v", config, got, err)
		}
		evidence := fill[square.Evidence](rng)
		evidence.Receipt.Lane %= square.MaxLanes
		if got, err := squarev1.FromEvidence(evidence).Square(); err != nil || !reflect.DeepEqual(got, evidence) {
			t.Fatalf("evidence\n%+v\n%+v: %v", evidence, got, err)
		}
	}
}

// TestWireJSON writes what is stored as JSON, as people and a genesis have it: addresses
// and hashes as text. What is read back is the same, and text that is neither is refused.
func TestWireJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		lease := fill[market.Lease](rng)
		m := marketv1.FromLease(lease)
		raw, err := codec.ProtoMarshalJSON(&m, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{lease.ID.String(), lease.Order.Buyer.String(), lease.Order.Salt.String(), lease.Peers[0].String(), lease.Replicas[0].String()} {
			if !bytes.Contains(raw, []byte(`"`+want+`"`)) {
				t.Fatalf("%s is not in %s", want, raw)
			}
		}
		var again marketv1.Lease
		if err := jsonpb.Unmarshal(bytes.NewReader(raw), &again); err != nil {
			t.Fatal(err)
		}
		if got, err := again.Market(); err != nil || !reflect.DeepEqual(got, lease) {
			t.Fatalf("lease\n%+v\n%+v: %v", lease, got, err)
		}
		for _, bad := range []string{lease.ID.String()[1:], lease.Order.Buyer.String(), "?"} {
			spoiled := bytes.Replace(raw, []byte(lease.ID.String()), []byte(bad), 1)
			if jsonpb.Unmarshal(bytes.NewReader(spoiled), new(marketv1.Lease)) == nil {
				t.Fatalf("%q is taken for a hash", bad)
			}
		}
	}
	for _, n := range []int{1, 19, 21, 31, 33} {
		if _, err := squarev1.Hash(make([]byte, n)).MarshalJSON(); err == nil {
			t.Errorf("%d bytes are written as a hash", n)
		}
		if _, err := (squarev1.Order{Buyer: make([]byte, n), Authorizer: make([]byte, 20)}).Square(); err == nil {
			t.Errorf("%d bytes are read as an address", n)
		}
	}
}

// fill sets every field to something that is not zero.
func fill[T any](rng *rand.Rand) (v T) {
	fillValue(reflect.ValueOf(&v).Elem(), rng)
	return v
}

func fillValue(v reflect.Value, rng *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), rng)
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(v.Field(i), rng)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fillValue(v.Index(i), rng)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", rng.Uint32()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1 + rng.Int64N(1<<62))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + rng.Uint64()%100)
	default:
		panic(v.Kind())
	}
}

// seeds are messages that strangers send, every field filled.
func seeds(t testing.TB) (out [][]byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, m := range []interface{ Marshal() ([]byte, error) }{
		ptr(squarev1.FromOffer(fill[square.Offer](rng))), ptr(squarev1.FromOrder(fill[square.Order](rng))),
		ptr(squarev1.FromQuote(fill[square.Quote](rng))), ptr(squarev1.FromEvidence(fill[square.Evidence](rng))),
		ptr(squarev1.FromChannelConfig(fill[square.ChannelConfig](rng))), ptr(marketv1.FromLease(fill[market.Lease](rng))),
	} {
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// decode reads bytes as each message: whatever they are, that ends in a value
// or an error, and a value is the same noun the second time.
func decode(t *testing.T, b []byte) {
	d := square.LedgerDomain(chainID)
	var offer squarev1.Offer
	if offer.Unmarshal(b) == nil {
		if o, err := offer.Square(); err == nil && o.Check() == nil {
			if again, err := squarev1.FromOffer(o).Square(); err != nil || again.ID(d) != o.ID(d) {
				t.Fatalf("offer %+v is %+v the second time: %v", o, again, err)
			}
		}
	}
	var order squarev1.Order
	if order.Unmarshal(b) == nil {
		if o, err := order.Square(); err == nil && o.Check() == nil {
			if again, err := squarev1.FromOrder(o).Square(); err != nil || again.ID(d) != o.ID(d) {
				t.Fatalf("order %+v is %+v the second time: %v", o, again, err)
			}
		}
	}
	var quote squarev1.Quote
	if quote.Unmarshal(b) == nil {
		if q, err := quote.Square(); err == nil && q.Verify(d, square.Signature{}) == nil {
			t.Fatal("a quote without a signature verifies")
		}
	}
	var evidence squarev1.Evidence
	if evidence.Unmarshal(b) == nil {
		if e, err := evidence.Square(); err == nil {
			if again, err := squarev1.FromEvidence(e).Square(); err != nil && !e.Receipt.Lease.IsZero() || err == nil && again.Hash(d) != e.Hash(d) {
				t.Fatalf("evidence %+v is %+v the second time: %v", e, again, err)
			}
		}
	}
	var config squarev1.ChannelConfig
	if config.Unmarshal(b) == nil {
		if c, err := config.Square(); err == nil && !c.Payer.IsZero() && !c.Receiver.IsZero() && !c.Token.IsZero() {
			if again, err := squarev1.FromChannelConfig(c).Square(); err != nil || again.ID(d) != c.ID(d) {
				t.Fatalf("config %+v is %+v the second time: %v", c, again, err)
			}
		}
	}
	var lease marketv1.Lease
	if lease.Unmarshal(b) == nil {
		if l, err := lease.Market(); err == nil && !bytes.Equal(l.ID[:], lease.Id) {
			t.Fatalf("lease %x was read as %s", []byte(lease.Id), l.ID)
		}
	}
}

// TestMutations decodes spoiled messages. FuzzMessages does the same with a
// fuzzer, which takes a build of everything of its own.
func TestMutations(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	all := seeds(t)
	for range 100_000 {
		b := bytes.Clone(all[rng.IntN(len(all))])
		for range 1 + rng.IntN(4) {
			switch at := rng.IntN(len(b)); rng.IntN(5) {
			case 0:
				b[at] ^= 1 << rng.IntN(8)
			case 1:
				b[at] = byte(rng.Uint32())
			case 2:
				b = append(b[:at:at], b[min(len(b), at+1+rng.IntN(8)):]...)
			case 3:
				other := all[rng.IntN(len(all))]
				b = append(b[:at:at], other[rng.IntN(len(other)):]...)
			case 4:
				b = b[:at+1]
			}
			if len(b) == 0 {
				b = []byte{0}
			}
		}
		decode(t, b)
	}
}

func FuzzMessages(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(decode)
}

func modules(doc *cmttypes.GenesisDoc) (m map[string]json.RawMessage, err error) {
	err = json.Unmarshal(doc.AppState, &m)
	return m, err
}

func ptr[T any](v T) *T { return &v }

// BenchmarkRedeem is vouchers through the message server, 200 to a message.
func BenchmarkRedeem(b *testing.B) {
	people := newCast(b, 1, 1, 1)
	buyer, provider := people.Buyers[0], people.Providers[0]
	doc := walkGenesis(b, people, market.Default())
	a, ctx := start(b, doc)
	ctx = ctx.WithBlockTime(doc.GenesisTime)
	machine := market.Machine{Params: market.Default()}
	now := doc.GenesisTime.Unix()
	rates := []square.Rate{{Unit: "u", PerMillion: 1}}
	offer := square.Offer{Provider: provider, Trade: "infer", Denom: square.Denom, Rates: rates, Capacity: 1, Expiry: now + 1000, Nonce: 1}
	order := square.Order{
		Buyer: buyer, Authorizer: buyer, Trade: "infer", Mode: square.ModeStream, Denom: square.Denom, Escrow: 1 << 49, MaxRates: rates,
		JobValue: 1, Policy: square.PolicyReplicate, Lanes: 200, Units: 1, Start: 60, Idle: 60, Duration: 1000, Challenge: 60, Drain: 60, Expiry: now + 1000,
	}
	d, cd := square.LedgerDomain(chainID), square.ChannelDomain(chainID)
	id := order.ID(d)
	st := a.Market.Store(ctx)
	if _, err := machine.PostOffer(st, now, offer.ID(d), offer); err != nil {
		b.Fatal(err)
	}
	quote := square.Quote{Provider: provider, Order: id, Offer: offer.ID(d), Rates: rates, Ready: true, Expiry: now + 20}
	if _, err := machine.OpenMatched(st, now, id, order, quote, quote.Digest(d)); err != nil {
		b.Fatal(err)
	}
	lease, err := st.Lease(id)
	if err != nil {
		b.Fatal(err)
	}
	processor := func() time.Duration { return host.Used().CPU }
	var used time.Duration
	n := 0
	for round := uint64(1); b.Loop(); round++ {
		b.StopTimer()
		m := &marketv1.MsgRedeem{Sender: provider.String(), Lease: id.String()}
		for lane := range uint16(200) {
			v := square.SignVoucher(cd, lease.Channel(lane).ID(cd), round, people.keys[buyer])
			m.Claims = append(m.Claims, marketv1.LaneClaim{Lane: uint32(lane), Amount: round, Max: round, Signature: v.Sig[:]})
		}
		b.StartTimer()
		began := processor()
		if _, err := a.MsgServiceRouter().Handler(m)(ctx, m); err != nil {
			b.Fatal(err)
		}
		used += processor() - began
		n += len(m.Claims)
	}
	b.ReportMetric(float64(n)/used.Seconds(), "claims/cpu-s")
}
