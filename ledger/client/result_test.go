package client_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// label is a minimal trade of results: a job is a question, its result one word
// for each item. People judge it, and any offer of the trade fits any question.
type label struct{}

func (label) Name() string                             { return "label" }
func (label) Units() []string                          { return []string{"item"} }
func (r label) CheckOffer(o square.Offer) error        { return trade.CheckRates(r, o.Rates) }
func (r label) CheckOrder(o square.Order) error        { return trade.CheckRates(r, o.MaxRates) }
func (label) Fits(square.Offer, square.Order) error    { return nil }
func (label) JudgeGas(trade.Case) (uint64, error)      { return 0, trade.ErrNotJudgeable }
func (label) Judge(trade.Case) (square.Verdict, error) { return "", trade.ErrNotJudgeable }
func (label) Panel(c trade.Case, detached bool) error  { return nil }

// opaque is a trade of which nobody can judge anything.
type opaque struct{ label }

func (opaque) Name() string                      { return "opaque" }
func (r opaque) CheckOffer(o square.Offer) error { return trade.CheckRates(r, o.Rates) }
func (r opaque) CheckOrder(o square.Order) error { return trade.CheckRates(r, o.MaxRates) }
func (opaque) Panel(trade.Case, bool) error      { return trade.ErrNotJudgeable }

// results is a square where results are sold.
func results(t *testing.T, r trade.Rules, change func(*market.Params)) *fair {
	p := market.Default()
	p.Unbonding, p.Retention, p.MaxOrderTTL, p.Notice, p.Answer, p.Verdict = 2, 60, 60, 1, 2, 8
	p.DisputeCost, p.JudgeFee, p.SeatBond = 1000, 100, 5000
	if change != nil {
		change(&p)
	}
	f := &fair{T: t, bkey: devnet.Key(1), pkey: devnet.Key(2), numbers: p}
	f.n, f.c = openWith(t, devnet.Spec{Settings: node.Settings{BlockTime: 20 * time.Millisecond}, Trades: []trade.Rules{r}, Market: &p},
		client.Options{Trades: []trade.Rules{r}})
	f.buyer, f.provider, f.authorizer = f.c.Account(f.bkey), f.c.Account(f.pkey), f.bkey
	f.rates = []square.Rate{{Unit: "item", PerMillion: 1_000_000}}
	f.offer = square.Offer{
		Provider: f.provider.Address(), Trade: r.Name(), Spec: square.Hash{7}, Subject: "people", Denom: square.Denom,
		Rates: f.rates, Capacity: 100, Endpoint: "local", Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	f.must(f.provider.Bond(t.Context(), r.Name(), square.Utorg(1_000_000_000)))
	f.must(f.provider.PostOffer(t.Context(), f.offer))
	return f
}

// ask opens a lease for one question. Its spec is the question's own: no offer
// names it.
func (f *fair) ask(question string, change func(*square.Order)) square.Hash {
	f.Helper()
	o := f.order(1_000_000, 0)
	o.Authorizer, o.Trade, o.Mode, o.Spec, o.Request = o.Buyer, f.offer.Trade, square.ModeResult, sha256.Sum256([]byte("spec "+question)), sha256.Sum256([]byte(question))
	o.Idle, o.JobValue, o.Challenge, o.Start = 0, 1_000_000, 2, 20
	if change != nil {
		change(&o)
	}
	q, sig := f.quote(o)
	f.must(f.buyer.OpenLease(f.Context(), o, q, sig))
	return o.ID(f.c.Domain())
}

// done is a signed receipt for a result of so many items.
func (f *fair) done(lease square.Hash, question, result string, items uint64) square.Evidence {
	return f.evidence(lease, question, result, items, items)
}

// ended waits until a lease has ended.
func (f *fair) ended(id square.Hash) market.Lease {
	f.Helper()
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if l := f.state(id); l.State.Terminal() {
			return l
		}
	}
	f.Fatalf("lease %s does not end: %s", id.Short(), f.state(id).State)
	return market.Lease{}
}

// TestClaims: a result is paid for a receipt that answers the order's question at
// the lease's prices, and for nothing else.
func TestClaims(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	id := f.ask("is this a cat?", nil)
	claim := func(e square.Evidence) func() (client.Result, error) {
		return func() (client.Result, error) { return f.provider.ClaimResult(ctx, e.Receipt, e.Sig) }
	}
	signed := func(change func(*square.Receipt)) square.Evidence {
		e := f.done(id, "is this a cat?", "no", 5)
		change(&e.Receipt)
		e.Sig = f.pkey.Sign(e.Receipt.Digest(f.c.Domain()))
		return e
	}
	forged := f.done(id, "is this a cat?", "no", 5)
	forged.Sig = f.bkey.Sign(forged.Receipt.Digest(f.c.Domain()))
	f.refused("a receipt that the provider did not sign", square.ErrSignature, claim(forged))
	f.refused("an answer to a question nobody asked", nil, claim(f.done(id, "", "", 5)))
	f.refused("a price that the units do not give", nil, claim(signed(func(r *square.Receipt) { r.Price, r.Cumulative = 1_000_000, 1_000_000 })))
	f.refused("more than the job value", nil, claim(f.done(id, "is this a cat?", "no", 1_000_001)))
	f.refused("no result", nil, claim(signed(func(r *square.Receipt) { r.Result = square.Hash{} })))
	another := f.done(f.ask("another", nil), "is this a cat?", "no", 5)
	another.Receipt.Lease = id
	f.refused("a receipt of another lease", square.ErrSignature, claim(another))
	good := f.done(id, "is this a cat?", "no", 5)
	f.refused("a claim by a stranger", market.ErrParty, func() (client.Result, error) {
		return f.c.Account(devnet.Key(5)).ClaimResult(ctx, good.Receipt, good.Sig)
	})
	f.refused("a cancel of work under way", market.ErrState, func() (client.Result, error) { return f.buyer.Cancel(ctx, id) })
	earned := balance(t, f.c, f.provider.Address())
	f.must(f.buyer.ClaimResult(ctx, good.Receipt, good.Sig)) // a provider without money for fees is paid as well
	f.must(f.buyer.Accept(ctx, id))
	if l := f.state(id); l.State != market.Settled || l.Paid != 5 || balance(t, f.c, f.provider.Address()) == earned {
		t.Fatalf("accepted: %+v", l)
	}

	// Notice in place of a cancel: what is claimed before its end stands.
	id = f.ask("and this?", nil)
	f.must(f.buyer.Close(ctx, id, nil))
	e := f.done(id, "and this?", "yes", 7)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	if l := f.ended(id); l.State != market.Settled || l.Reason != market.ReasonUnchallenged || l.Paid != 7 {
		t.Fatalf("claimed under notice: %s (%s), %d", l.State, l.Reason, l.Paid)
	}
	f.audit()
}

// TestWithheld: a provider that hands nothing over loses its bond, one that does
// is paid, and one that seals junk is found out by the key.
func TestWithheld(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	claimed := func(question, result string) square.Hash {
		id := f.ask(question, func(o *square.Order) { o.Challenge = 20 })
		e := f.done(id, question, result, 9)
		f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
		return id
	}
	stake := func() uint64 {
		s, _, err := f.c.Stakes(ctx, f.provider.Address(), f.offer.Trade, client.Page{})
		if err != nil || len(s) != 1 {
			t.Fatalf("stakes %+v: %v", s, err)
		}
		return s[0].Total
	}

	// Silence.
	public, _ := square.NewSealKey()
	id, before := claimed("silent", "x"), stake()
	f.refused("a stranger's word", market.ErrParty, func() (client.Result, error) { return f.c.Account(devnet.Key(5)).Withhold(ctx, id, public) })
	f.must(f.buyer.Withhold(ctx, id, public))
	l := f.ended(id)
	if l.State != market.Slashed || l.Reason != market.ReasonWithheld || l.Paid != 0 || before-stake() != 100_000 {
		t.Fatalf("silent: %s (%s), paid %d, stake lost %d", l.State, l.Reason, l.Paid, before-stake())
	}

	// An answer.
	public, private := square.NewSealKey()
	id, before = claimed("honest", "the result"), stake()
	f.must(f.buyer.Withhold(ctx, id, public))
	sealed, err := square.Seal(public, id, []byte("the result"))
	if err != nil {
		t.Fatal(err)
	}
	f.refused("another's answer", market.ErrParty, func() (client.Result, error) { return f.buyer.Answer(ctx, id, sealed, "") })
	f.must(f.provider.Answer(ctx, id, sealed, ""))
	q, err := f.c.Question(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := square.Unseal(private, id, q.Answer); err != nil || string(plain) != "the result" || bytes.Contains(q.Answer, []byte("the result")) {
		t.Fatalf("the answer opens as %q: %v", plain, err)
	}
	f.refused("the same word again", market.ErrUsed, func() (client.Result, error) { return f.buyer.Withhold(ctx, id, public) })
	// To say that it is junk when it is not costs the bond.
	rich := balance(t, f.c, f.buyer.Address())
	f.must(f.buyer.Unseal(ctx, id, private))
	if l := f.state(id); l.State != market.Settled || l.Reason != market.ReasonUpheld || l.Paid != 9 || before != stake() {
		t.Fatalf("a true answer called junk: %s (%s), paid %d", l.State, l.Reason, l.Paid)
	}
	if got := balance(t, f.c, f.buyer.Address()); got >= rich+1_000_000-9 {
		t.Errorf("calling a true answer junk cost its buyer nothing: %d became %d", rich, got)
	}

	// Junk, sealed.
	public, private = square.NewSealKey()
	id, before = claimed("junk", "the result"), stake()
	f.must(f.buyer.Withhold(ctx, id, public))
	if sealed, err = square.Seal(public, id, []byte("junk")); err != nil {
		t.Fatal(err)
	}
	f.must(f.provider.Answer(ctx, id, sealed, ""))
	_, wrong := square.NewSealKey()
	f.refused("another key", nil, func() (client.Result, error) { return f.buyer.Unseal(ctx, id, wrong) })
	f.must(f.buyer.Unseal(ctx, id, private))
	if l := f.state(id); l.State != market.Slashed || l.Reason != market.ReasonFraud || l.Paid != 0 || before-stake() != 100_000 {
		t.Fatalf("sealed junk: %s (%s), paid %d", l.State, l.Reason, l.Paid)
	}
	f.audit()
}

// TestSealedLie: a result that came as an answer to "withheld" alone can be
// challenged. The buyer has no signature of its receipt, and needs none: the ledger
// checked it when it was claimed.
func TestSealedLie(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	f.bench(3)
	id := f.ask("is this a lie?", func(o *square.Order) { o.Challenge = 20 })
	e := f.done(id, "is this a lie?", "no, a lie", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	public, private := square.NewSealKey()
	f.must(f.buyer.Withhold(ctx, id, public))
	sealed, err := square.Seal(public, id, e.Result)
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.provider.Answer(ctx, id, sealed, ""))
	q, err := f.c.Question(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := square.Unseal(private, id, q.Answer)
	if err != nil {
		t.Fatal(err)
	}
	lie := square.Evidence{Receipt: *f.state(id).Receipt, Request: []byte("is this a lie?"), Result: plain}
	other := lie
	other.Receipt.Units = []uint64{8}
	f.refused("another receipt that nobody signed", nil, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, other, 0) })
	f.must(f.buyer.Challenge(ctx, id, lie, 0))
	if l := f.state(id); l.State != market.Disputed || l.Dispute == nil || l.Dispute.Way != market.ByJudges {
		t.Fatalf("a lie that was sealed: %s, %+v", l.State, l.Dispute)
	}
	f.audit()
}

// bench enlists n judges.
func (f *fair) bench(n uint32) (judges []square.Key) {
	f.Helper()
	for i := range n {
		k := devnet.Key(3 + i)
		f.must(f.c.Account(k).Bond(f.Context(), f.offer.Trade, square.Utorg(1_000_000)))
		f.must(f.c.Account(k).Enlist(f.Context(), f.offer.Trade, square.Denom, true))
		judges = append(judges, k)
	}
	return judges
}

// sitting waits for a draw of judges.
func (f *fair) sitting(id square.Hash, draw uint64) market.Lease {
	f.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l := f.state(id); l.Dispute != nil && l.Dispute.Draw == draw && l.Dispute.Seated != 0 {
			return l
		}
	}
	f.Fatalf("no judges sit in lease %s: %+v", id.Short(), f.state(id).Dispute)
	return market.Lease{}
}

// vote has a judge commit, and, once it may, show its vote.
func (f *fair) commit(id square.Hash, k square.Key, draw uint64, v square.Verdict) (secret square.Hash) {
	f.Helper()
	secret = sha256.Sum256([]byte(fmt.Sprint(k.Address(), id, v)))
	f.must(f.c.Account(k).Commit(f.Context(), id, square.Ballot(id, k.Address(), draw, v, secret)))
	return secret
}

// votes has judges show their votes, until those that have decide.
func (f *fair) votes(id square.Hash, judges []square.Key, v square.Verdict, secrets []square.Hash) {
	f.Helper()
	for i, k := range judges {
		if f.state(id).State != market.Disputed {
			return
		}
		f.must(f.c.Account(k).Vote(f.Context(), id, v, secrets[i]))
	}
}

// until waits for the ledger's clock.
func (f *fair) until(at int64) {
	f.Helper()
	for {
		h, err := f.c.Head(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		if h.Time.Unix() >= at {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestJudges: judges are drawn, commit and vote; a quorum decides, is paid by the
// loser, and nobody else can.
func TestJudges(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	id := f.ask("a cat?", func(o *square.Order) { o.Challenge = 60 })
	e := f.done(id, "a cat?", "no", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	f.refused("a challenge that nobody can decide", market.ErrNotFound, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, e, 0) })
	f.refused("a judge without stake", market.ErrFunds, func() (client.Result, error) {
		return f.c.Account(devnet.Key(9)).Enlist(ctx, f.offer.Trade, square.Denom, true)
	})
	judges := f.bench(3)
	other := f.done(id, "a cat?", "yes", 9)
	f.refused("another receipt than was claimed", nil, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, other, 0) })
	torn := e
	torn.Result = []byte("other bytes")
	f.refused("bytes that the receipt does not name", nil, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, torn, 0) })
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	l := f.sitting(id, 0)
	sits := map[square.Address]bool{}
	for _, s := range l.Dispute.Seats {
		sits[s.Judge] = true
	}
	if len(l.Dispute.Seats) != 32 || len(sits) != 3 {
		t.Fatalf("%d judges sit on %d seats", len(sits), len(l.Dispute.Seats))
	}
	f.refused("a vote by nobody", market.ErrParty, func() (client.Result, error) { return f.buyer.Commit(ctx, id, square.Hash{1}) })
	secrets := make([]square.Hash, 3)
	for i, k := range judges {
		secrets[i] = f.commit(id, k, 0, square.VerdictFraud)
	}
	f.refused("a vote shown early", market.ErrEarly, func() (client.Result, error) {
		return f.c.Account(judges[0]).Vote(ctx, id, square.VerdictFraud, secrets[0])
	})
	f.until(l.Dispute.Votes(f.numbers))
	f.refused("another vote than was committed to", nil, func() (client.Result, error) {
		return f.c.Account(judges[0]).Vote(ctx, id, square.VerdictOK, secrets[0])
	})
	paid := balance(t, f.c, judges[2].Address())
	f.votes(id, judges, square.VerdictFraud, secrets)
	if l = f.state(id); l.State != market.Slashed || l.Reason != market.ReasonFraud || l.Bond != 0 {
		t.Fatalf("three votes for fraud: %s (%s)", l.State, l.Reason)
	}
	if got := balance(t, f.c, judges[2].Address()); got+100_000 < paid { // fees of a vote apart
		t.Errorf("a judge had %d and has %d", paid, got)
	}
	for _, k := range judges {
		if s, _, err := f.c.Stakes(ctx, k.Address(), f.offer.Trade, client.Page{}); err != nil || len(s) != 1 || s[0].Locked != 0 || s[0].Total != 1_000_000 || !s[0].Judge {
			t.Errorf("a judge's stake: %+v, %v", s, err)
		}
	}
	f.audit()
}

// TestSilentJudges: where no draw finds anything, the claim stands, and the silent
// lose their bonds.
func TestSilentJudges(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, func(p *market.Params) { p.Verdict, p.Redraws = 4, 1 })
	ctx := t.Context()
	judges := f.bench(2)
	id := f.ask("a cat?", func(o *square.Order) { o.Challenge = 60 })
	e := f.done(id, "a cat?", "no", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	f.sitting(id, 0)
	l := f.ended(id)
	if l.State != market.Settled || l.Reason != market.ReasonJudgesSilent || l.Paid != 9 {
		t.Fatalf("silent judges: %s (%s), paid %d", l.State, l.Reason, l.Paid)
	}
	var left uint64
	for _, k := range judges {
		s, _, err := f.c.Stakes(ctx, k.Address(), f.offer.Trade, client.Page{})
		if err != nil || s[0].Locked != 0 {
			t.Errorf("a silent judge's stake: %+v, %v", s, err)
		}
		left += s[0].Total
	}
	if left != 2*1_000_000-32*5000 {
		t.Errorf("silent judges have %d left; they sat on 32 seats of 5000", left)
	}
	f.audit()
}

// TestUnavailable: evidence that is larger than a transaction is named by digest,
// and who owes its bytes loses if judges cannot fetch them.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, func(p *market.Params) { p.Answer = 20 })
	ctx := t.Context()
	judges := f.bench(3)
	decide := func(id square.Hash, v square.Verdict) market.Lease {
		l := f.sitting(id, 0)
		secrets := make([]square.Hash, len(judges))
		for i, k := range judges {
			secrets[i] = f.commit(id, k, 0, v)
		}
		f.until(l.Dispute.Votes(f.numbers))
		f.votes(id, judges, v, secrets)
		return f.state(id)
	}
	large := strings.Repeat("x", 100)

	// The provider said where the result is, and it is not there.
	id := f.ask("large", func(o *square.Order) { o.Challenge = 60 })
	e := f.done(id, "large", large, 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	public, _ := square.NewSealKey()
	f.must(f.buyer.Withhold(ctx, id, public))
	f.must(f.provider.Answer(ctx, id, nil, "https://example.net/large"))
	f.must(f.buyer.ChallengeDetached(ctx, id, e, ""))
	if l := f.sitting(id, 0); l.Dispute.Owes != f.provider.Address() {
		t.Fatalf("%v owes the bytes", l.Dispute.Owes)
	}
	if l := decide(id, square.VerdictUnavailable); l.State != market.Slashed || l.Reason != market.ReasonWithheld {
		t.Fatalf("unavailable at the provider's: %s (%s)", l.State, l.Reason)
	}

	// A challenger that does not show its evidence pays for the doubt.
	id = f.ask("large too", func(o *square.Order) { o.Challenge = 60 })
	e = f.done(id, "large too", large, 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	f.refused("evidence that is nowhere", nil, func() (client.Result, error) { return f.buyer.ChallengeDetached(ctx, id, e, "") })
	f.must(f.buyer.ChallengeDetached(ctx, id, e, "https://example.net/evidence"))
	if l := decide(id, square.VerdictUnavailable); l.State != market.Settled || l.Reason != market.ReasonUpheld || l.Paid != 9 {
		t.Fatalf("unavailable at the challenger's: %s (%s)", l.State, l.Reason)
	}
	f.audit()
}

// TestOpaque: of work that nobody can judge, junk evidence freezes nothing.
func TestOpaque(t *testing.T) {
	t.Parallel()
	f := results(t, opaque{}, func(p *market.Params) { p.Answer = 20 })
	ctx := t.Context()
	f.bench(2)
	id := f.ask("anything", func(o *square.Order) { o.Challenge = 5 })
	e := f.done(id, "anything", "something", 9)
	f.must(f.provider.ClaimResult(ctx, e.Receipt, e.Sig))
	for _, who := range []*client.Account{f.buyer, f.c.Account(devnet.Key(6))} {
		f.refused("a challenge of opaque work", nil, func() (client.Result, error) { return who.Challenge(ctx, id, e, 0) })
	}
	public, private := square.NewSealKey()
	f.must(f.buyer.Withhold(ctx, id, public))
	f.refused("a place where nobody could look", nil, func() (client.Result, error) {
		return f.provider.Answer(ctx, id, nil, "https://example.net")
	})
	sealed, err := square.Seal(public, id, e.Result)
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.provider.Answer(ctx, id, sealed, ""))
	if q, err := f.c.Question(ctx, id); err != nil {
		t.Fatal(err)
	} else if plain, err := square.Unseal(private, id, q.Answer); err != nil || string(plain) != "something" {
		t.Fatalf("the answer opens as %q: %v", plain, err)
	}
	if l := f.ended(id); l.State != market.Settled || l.Paid != 9 {
		t.Fatalf("%s (%s), paid %d", l.State, l.Reason, l.Paid)
	}
	f.audit()
}

// TestStreamGoesOn: a stream is topped up and extended, and pays on while a piece
// of it is disputed.
func TestStreamGoesOn(t *testing.T) {
	t.Parallel()
	f := newFair(t)
	ctx := t.Context()
	f.jkey = devnet.Key(3)
	f.must(f.c.Account(f.jkey).Bond(ctx, "echo", square.Utorg(1_000_000)))
	f.must(f.c.Account(f.jkey).Enlist(ctx, "echo", square.Denom, true))
	o, id := f.open(10_000, 1)
	f.refused("a top-up by a stranger", market.ErrParty, func() (client.Result, error) { return f.c.Account(devnet.Key(5)).TopUp(ctx, id, 5) })
	f.must(f.buyer.TopUp(ctx, id, 5000))
	l := f.state(id)
	later := l.Ends + 1000
	f.refused("an extension that nobody signed", square.ErrSignature, func() (client.Result, error) {
		return f.buyer.Extend(ctx, id, later, f.bkey.Sign(square.ExtensionDigest(f.c.Domain(), id, later)))
	})
	f.must(f.buyer.Extend(ctx, id, later, f.pkey.Sign(square.ExtensionDigest(f.c.Domain(), id, later))))
	if l = f.state(id); l.Escrow != 15_000 || l.Added != 5000 || l.Ends != later {
		t.Fatalf("topped up and extended: %+v", l)
	}

	long := string(make([]byte, 2000)) // too much for the ledger
	e := f.evidence(id, long, long, 3000, 3000)
	f.must(f.buyer.Challenge(ctx, id, e, 0))
	if l = f.state(id); l.State != market.Disputed {
		t.Fatalf("challenged: %s", l.State)
	}
	redeem := func(sum uint64) func() (client.Result, error) {
		return func() (client.Result, error) {
			return f.provider.Redeem(ctx, id, []client.Claim{{Amount: sum, Voucher: f.voucher(o, 0, sum)}}, false)
		}
	}
	f.refused("what is disputed", market.ErrFunds, redeem(12_001))
	f.must(redeem(12_000)())
	l = f.sitting(id, 0)
	secret := f.commit(id, f.jkey, 0, square.VerdictOK)
	f.until(l.Dispute.Votes(f.numbers))
	f.must(f.c.Account(f.jkey).Vote(ctx, id, square.VerdictOK, secret))
	if l = f.state(id); l.State != market.Active || l.Heard != 1 || l.Paid != 12_000 {
		t.Fatalf("upheld: %+v", l)
	}
	f.must(redeem(15_000)())
	f.audit()
}
