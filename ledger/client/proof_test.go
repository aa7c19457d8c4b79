package client_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
)

var prover = sync.OnceValue(func() *proof.Prover {
	p, err := proof.Commit(nano.Model())
	if err != nil {
		panic(err)
	}
	return p
})

// newInferFair is a square where inference is sold whose ledger has the given
// models, and the bundled model's card. A provider has so many seconds to prove.
func newInferFair(t *testing.T, answer uint64, models ...infer.Replayer) *fair {
	p := market.Default()
	p.Answer, p.Notice, p.Verdict = answer, 1, 600
	p.DisputeCost, p.JudgeFee = 50, 0
	f := &fair{T: t, bkey: devnet.Key(1), pkey: devnet.Key(2), jkey: devnet.Key(3), numbers: p}
	trades := []trade.Rules{infer.Rules{Models: models, Verifier: proof.Verifier{}}}
	f.n, f.c = openWith(t, devnet.Spec{
		Settings: node.Settings{BlockTime: 20 * time.Millisecond}, Trades: trades, Market: &p,
		Cards: []ledger.Card{{Trade: infer.Name, Card: prover().Encode()}},
	}, client.Options{Trades: trades})
	f.buyer, f.provider = f.c.Account(f.bkey), f.c.Account(f.pkey)
	var err error
	if f.authorizer, err = square.NewKey(); err != nil {
		t.Fatal(err)
	}
	f.rates = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 1_000_000}}
	f.must(f.provider.Bond(t.Context(), infer.Name, square.Utorg(1_000_000_000)))
	f.sell(nano.Model().Digest())
	return f
}

func (f *fair) sell(spec square.Hash) {
	f.offer = square.Offer{
		Provider: f.provider.Address(), Trade: infer.Name, Spec: spec, Subject: "a model", Denom: square.Denom,
		Rates: slices.Concat(f.rates, trade.Under(square.PolicyProve, f.rates)), Capacity: 100, Endpoint: "local", Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	f.must(f.provider.PostOffer(f.Context(), f.offer))
}

// lease opens a lease under a policy.
func (f *fair) lease(policy square.Policy) square.Hash {
	f.Helper()
	o := f.order(10_000, 1)
	o.Trade, o.Policy, o.Card = infer.Name, policy, sha256.Sum256(prover().Encode())
	q, sig := f.quote(o)
	f.must(f.buyer.OpenLease(f.Context(), o, q, sig))
	return o.ID(f.c.Domain())
}

// answered is an answer of the bundled model, changed, and signed for.
func (f *fair) answered(lease square.Hash, req infer.Request, change func(*infer.Result)) (infer.Result, square.Evidence) {
	f.Helper()
	said, err := nano.Model().Generate(f.Context(), replay.Request(req), nil)
	if err != nil {
		f.Fatal(err)
	}
	res := infer.Result{Kind: infer.Exact, Finish: replay.Finish(said.Finish)}
	for _, id := range said.Tokens {
		res.Tokens = append(res.Tokens, uint16(id))
	}
	if change != nil {
		change(&res)
	}
	return res, f.receipt(lease, req, res)
}

func (f *fair) receipt(lease square.Hash, req infer.Request, res infer.Result) square.Evidence {
	e := square.Evidence{Request: req.Encode(), Result: res.Encode()}
	units := []uint64{replay.PromptTokens(req, uint64(nano.Model().Context())), uint64(len(res.Tokens))}
	e.Receipt = square.Receipt{
		Lease: lease, Seq: 1, Subject: f.offer.Spec, Request: sha256.Sum256(e.Request), Result: sha256.Sum256(e.Result),
		Units: units, Price: units[0] + units[1], Cumulative: units[0] + units[1],
	}
	e.Sig = f.pkey.Sign(e.Receipt.Digest(f.c.Domain()))
	return e
}

func (f *fair) prove(req infer.Request, res infer.Result, part int) []byte {
	f.Helper()
	b, err := prover().Prove(req, res, part, 1)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// bring sends a proof past the client's own look at it.
func (f *fair) bring(by *client.Account, lease, evidence square.Hash, p []byte) (client.Result, error) {
	return by.Submit(f.Context(), 40_000_000, &marketv1.MsgProve{Sender: by.Address().String(), Lease: lease.String(), Evidence: evidence.String(), Proof: p})
}

func (f *fair) state(id square.Hash) market.Lease {
	f.Helper()
	l, err := f.c.Lease(f.Context(), id)
	if err != nil {
		f.Fatal(err)
	}
	return l
}

// long is answered from four windows.
var long = infer.Request{Kind: infer.Exact, MaxTokens: 150, Temperature: 800, TopP: 10_000, Seed: square.Hash{9}, Prompt: bytes.Repeat([]byte("so it is "), 20)}

// TestFalseChallengeProven: an honest provider answers a false challenge with a
// proof that the ledger checks, and keeps its bond; the challenger pays. Nothing
// else is taken for a proof.
func TestFalseChallengeProven(t *testing.T) {
	t.Parallel()
	f := newInferFair(t, 600)
	ctx := t.Context()
	id := f.lease(square.PolicyAudit)
	res, e := f.answered(id, long, nil)
	hash := e.Hash(f.c.Domain())
	f.refused("a part there is not", nil, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, e, 4) })
	earned := balance(t, f.c, f.provider.Address())
	r := f.must(f.buyer.Challenge(ctx, id, e, 2))
	l := f.state(id)
	if l.State != market.Disputed || l.Dispute.Way != market.ByProof || l.Dispute.Part != 2 || l.Deadline != l.Dispute.Since+600 {
		t.Fatalf("challenged: %+v, %+v", l, l.Dispute)
	}
	t.Logf("challenge: %d gas", r.Gas)
	f.refused("a judge's word", market.ErrState, func() (client.Result, error) {
		return f.c.Account(f.jkey).Commit(ctx, id, square.Hash{1})
	})
	f.refused("a poke before the time is up", market.ErrEarly, func() (client.Result, error) { return f.buyer.Poke(ctx, id) })

	good := f.prove(long, res, 2)
	other := long
	other.Seed[0]++
	otherRes, _ := f.answered(id, other, nil)
	garbage := make([]byte, len(good))
	rand.NewChaCha8([32]byte{1}).Read(garbage)
	header := bytes.Clone(good) // header and logits stand
	copy(header[len(good)/2:], garbage)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-50_000] ^= 1
	logit := bytes.Clone(good)
	logit[5]++
	const checked = 4_000_000
	for _, c := range []struct {
		what string
		p    []byte
		most int64 // gas beside that for the bytes
	}{
		{"nothing", nil, 400_000},
		{"garbage", garbage, 400_000},
		{"an oversized proof", append(bytes.Clone(good), make([]byte, 400<<10)...), 400_000},
		{"half a proof", good[:len(good)/2], checked},
		{"a proof of garbage", header, checked},
		{"a proof with a bit flipped", flipped, checked},
		{"a proof of other logits", logit, checked},
		{"a proof of another part", f.prove(long, res, 1), checked},
		{"a proof of another answer", f.prove(other, otherRes, 2), checked},
	} {
		before := balance(t, f.c, f.provider.Address())
		_, err := f.bring(f.provider, id, hash, c.p)
		var why *client.Refused
		if !errors.As(err, &why) || !errors.Is(err, trade.ErrProof) {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		gas := f.gasOf(why.Hash) - 10*int64(len(c.p))
		t.Logf("%-28s %8d bytes, %8d gas beside them: %v", c.what, len(c.p), gas, why)
		// What looks like a proof pays for being checked, however early that ends.
		if gas > c.most || c.most == checked && gas < 1_000_000 {
			t.Errorf("%s: %d gas beside its bytes, at most %d", c.what, gas, c.most)
		}
		if f.state(id).State != market.Disputed || balance(t, f.c, f.provider.Address()) != before {
			t.Errorf("%s changed something", c.what)
		}
	}
	if _, err := f.provider.Prove(ctx, id, hash, garbage); !errors.Is(err, trade.ErrProof) {
		t.Errorf("the client sent garbage: %v", err)
	}
	f.refused("a proof of other evidence", nil, func() (client.Result, error) { return f.bring(f.provider, id, square.Hash{1}, good) })

	r = f.must(f.provider.Prove(ctx, id, hash, good))
	t.Logf("proof: %d bytes, %d gas", len(good), r.Gas)
	if l = f.state(id); l.State != market.Active || l.Dispute != nil || l.Bond != 100_000 || l.Heard != 1 {
		t.Fatalf("proven: %+v", l)
	}
	if got := balance(t, f.c, f.provider.Address()) - earned; got != 100 {
		t.Errorf("the provider was given %d for the doubt, want the challenger's 100", got)
	}
	f.refused("the same part again", market.ErrUsed, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, e, 2) })
	f.refused("a proof of what is not disputed", market.ErrState, func() (client.Result, error) { return f.bring(f.provider, id, hash, good) })
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	// Anyone may carry a proof.
	f.must(f.bring(f.c.Account(devnet.Key(6)), id, hash, f.prove(long, res, 0)))
	if l = f.state(id); l.State != market.Active {
		t.Fatalf("proven by a stranger: %+v", l)
	}
	f.audit()
}

// gasOf is what a transaction that a block refused used.
func (f *fair) gasOf(tx square.Hash) int64 {
	f.Helper()
	r, err := f.c.Tx(f.Context(), tx)
	if r.Gas == 0 {
		f.Fatalf("transaction %s: %v", tx.Short(), err)
	}
	return r.Gas
}

// TestLieUnproven: a provider that signed for a lie cannot prove it, and loses
// its bond when its time is up, without anybody's doing.
func TestLieUnproven(t *testing.T) {
	t.Parallel()
	f := newInferFair(t, 5)
	ctx := t.Context()
	id := f.lease(square.PolicyProve)
	res, e := f.answered(id, long, func(r *infer.Result) { r.Tokens[100] ^= 1 })
	before := balance(t, f.c, f.buyer.Address())
	// Of the lie there is a proof that it is one, and of the truth one. They are
	// made before the clock runs: a busy machine may take longer for them.
	truth, _ := f.answered(id, long, nil)
	proofs := [][]byte{f.prove(long, res, 2), f.prove(long, truth, 2)}
	f.must(f.buyer.Challenge(ctx, id, e, 2))
	for _, p := range proofs {
		_, err := f.bring(f.provider, id, e.Hash(f.c.Domain()), p)
		if !errors.Is(err, trade.ErrProof) && !errors.Is(err, market.ErrLate) && !errors.Is(err, market.ErrState) {
			t.Errorf("a lie was proven: %v", err)
		}
	}
	for end := time.Now().Add(time.Minute); f.state(id).State == market.Disputed && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
	}
	l := f.state(id)
	if l.State != market.Slashed || l.Reason != market.ReasonUnproven || l.Bond != 0 || l.Escrow != 0 || l.Ended != l.Dispute.Since+5 {
		t.Fatalf("%+v, %+v", l, l.Dispute)
	}
	// Nothing had been paid, so the buyer, who challenged, has its cost, and 30 % of what is left of the bond.
	if got := balance(t, f.c, f.buyer.Address()) - before; got != 10_000+50+(100_000-50)*3/10 {
		t.Errorf("the buyer got %d", got)
	}
	if s, _, err := f.c.Stakes(ctx, f.provider.Address(), infer.Name, client.Page{}); err != nil || s[0].Total != 1_000_000_000-100_000 {
		t.Errorf("stake %+v, %v", s, err)
	}
	f.audit()
}

// TestWaysToDecide: what needs no proof is decided at once; with the model the
// ledger re-executes, unless the order wants proofs or it is too much for a
// block; without model and card there are judges.
func TestWaysToDecide(t *testing.T) {
	t.Parallel()
	f := newInferFair(t, 600, replay.Model{Model: nano.Model()})
	ctx := t.Context()
	short := infer.Request{Kind: infer.Exact, MaxTokens: 5, TopP: 10_000, Prompt: []byte("It is a ")}
	huge := infer.Request{Kind: infer.Exact, MaxTokens: 1500, TopP: 10_000, Prompt: []byte("It is a ")}
	for _, c := range []struct {
		what   string
		policy square.Policy
		req    infer.Request
		change func(*infer.Result)
		state  market.State
		proof  bool
	}{
		{"right, re-executed", square.PolicyAudit, short, nil, market.Active, false},
		{"wrong, re-executed", square.PolicyAudit, short, func(r *infer.Result) { r.Tokens[0] ^= 1 }, market.Slashed, false},
		{"right, to be proven", square.PolicyProve, short, nil, market.Disputed, true},
		{"too much to re-execute", square.PolicyAudit, huge, nil, market.Disputed, true},
		{"wrong in form", square.PolicyProve, short, func(r *infer.Result) { r.Finish = infer.FinishStop }, market.Slashed, false},
		{"no byte", square.PolicyProve, short, func(r *infer.Result) { r.Tokens[4] = 300 }, market.Slashed, false},
		{"nothing said", square.PolicyProve, short, func(r *infer.Result) { r.Tokens, r.Finish = nil, infer.FinishCancelled }, market.Active, false},
	} {
		id := f.lease(c.policy)
		_, e := f.answered(id, c.req, c.change)
		if _, err := f.buyer.Challenge(ctx, id, e, 0); err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		l := f.state(id)
		if l.State != c.state || l.State == market.Disputed && (l.Dispute.Way == market.ByProof) != c.proof {
			t.Errorf("%s: %s (%s), %+v", c.what, l.State, l.Reason, l.Dispute)
		}
	}
	// Units that the answer does not have are fraud, without the model.
	id := f.lease(square.PolicyProve)
	res, e := f.answered(id, short, nil)
	prompt := e.Receipt.Units[:1]
	prompt[0]++
	e.Receipt.Price, e.Receipt.Cumulative = e.Receipt.Price+1, e.Receipt.Cumulative+1
	e.Sig = f.pkey.Sign(e.Receipt.Digest(f.c.Domain()))
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	if l := f.state(id); l.State != market.Slashed || l.Reason != market.ReasonFraud {
		t.Errorf("counted wrongly: %s (%s)", l.State, l.Reason)
	}
	// Another model's answer, which is right for that model.
	id = f.lease(square.PolicyProve)
	_, e = f.answered(id, short, nil)
	e.Receipt.Subject = square.Hash{76}
	e.Sig = f.pkey.Sign(e.Receipt.Digest(f.c.Domain()))
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	if l := f.state(id); l.State != market.Slashed || l.Reason != market.ReasonFraud {
		t.Errorf("another model's answer: %s (%s)", l.State, l.Reason)
	}
	// A model that the ledger has not got, and nobody sits as a judge.
	f.sell(square.Hash{77})
	o := f.order(10_000, 1)
	o.Trade = infer.Name
	q, sig := f.quote(o)
	f.must(f.buyer.OpenLease(ctx, o, q, sig))
	id = o.ID(f.c.Domain())
	f.refused("work that nobody here can judge", market.ErrNotFound, func() (client.Result, error) {
		return f.buyer.Challenge(ctx, id, f.receipt(id, short, res), 0)
	})
	if l := f.state(id); l.State != market.Active {
		t.Errorf("a challenge that nobody can decide: %s", l.State)
	}
	// A card that is not on the ledger is published by whoever wants a proof.
	card := prover().Encode()
	other := bytes.Clone(card)
	other[9] ^= 1 // a letter of the name
	if got, err := f.c.Card(ctx, sha256.Sum256(card)); err != nil || !bytes.Equal(got, card) {
		t.Errorf("the card: %d bytes, %v", len(got), err)
	}
	if _, err := f.c.Card(ctx, sha256.Sum256(other)); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a card nobody published: %v", err)
	}
	f.must(f.buyer.PublishCard(ctx, infer.Name, other))
	f.must(f.buyer.PublishCard(ctx, infer.Name, other)) // again: kept longer
	if got, err := f.c.Card(ctx, sha256.Sum256(other)); err != nil || !bytes.Equal(got, other) {
		t.Errorf("the published card: %d bytes, %v", len(got), err)
	}
	f.refused("junk as a card", nil, func() (client.Result, error) { return f.buyer.PublishCard(ctx, infer.Name, card[:40]) })
	f.audit()
}
