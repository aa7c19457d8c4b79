package client_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
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

// echo is a trade whose work is to give the request back.
type echo struct{}

func (echo) Name() string                      { return "echo" }
func (echo) Units() []string                   { return []string{"byte"} }
func (e echo) CheckOffer(o square.Offer) error { return trade.CheckRates(e, o.Rates) }
func (e echo) CheckOrder(o square.Order) error { return trade.CheckRates(e, o.MaxRates) }

func (echo) Fits(f square.Offer, o square.Order) error { return trade.SameSpec(f, o) }

// Panel lets judges decide what is too much for the ledger, bytes or not.
func (echo) Panel(trade.Case, bool) error { return nil }

func (echo) JudgeGas(e trade.Case) (uint64, error) {
	if len(e.Request) > 1000 {
		return 0, fmt.Errorf("echo: %w", trade.ErrNotJudgeable)
	}
	return uint64(len(e.Request)) * 1000, nil
}

func (echo) Judge(e trade.Case) (square.Verdict, error) {
	if string(e.Request) != string(e.Result) {
		return square.VerdictFraud, nil
	}
	return square.VerdictOK, nil
}

// fair is a square with one provider, one buyer and a judge.
type fair struct {
	*testing.T
	n                *node.Node
	c                *client.Client
	buyer, provider  *client.Account
	bkey, pkey, jkey square.Key
	authorizer       square.Key
	offer            square.Offer
	rates            []square.Rate
	salt             byte
	numbers          market.Params
}

func newFair(t *testing.T) *fair {
	p := market.Default()
	p.Unbonding, p.Retention, p.MaxOrderTTL, p.Verdict, p.Notice = 2, 60, 60, 6, 1
	p.DisputeCost, p.JudgeFee, p.SeatBond = 1000, 100, 5000
	f := &fair{T: t, bkey: devnet.Key(1), pkey: devnet.Key(2), jkey: devnet.Key(3), numbers: p}
	f.n, f.c = openWith(t, devnet.Spec{
		Settings: node.Settings{BlockTime: 20 * time.Millisecond}, Trades: []trade.Rules{echo{}},
		Market: &p,
	}, client.Options{Trades: []trade.Rules{echo{}}})
	f.buyer, f.provider = f.c.Account(f.bkey), f.c.Account(f.pkey)
	var err error
	if f.authorizer, err = square.NewKey(); err != nil {
		t.Fatal(err)
	}
	f.rates = []square.Rate{{Unit: "byte", PerMillion: 1_000_000}}
	f.offer = square.Offer{
		Provider: f.provider.Address(), Trade: "echo", Spec: square.Hash{7}, Subject: "echo", Denom: square.Denom,
		Rates: f.rates, Capacity: 100, Endpoint: "local", Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	f.must(f.provider.Bond(t.Context(), "echo", square.Utorg(1_000_000_000)))
	f.must(f.provider.PostOffer(t.Context(), f.offer))
	return f
}

func (f *fair) must(r client.Result, err error) client.Result {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// refused checks that an operation is refused for a reason and moves no money.
func (f *fair) refused(what string, want error, op func() (client.Result, error)) {
	f.Helper()
	b, p := balance(f, f.c, f.buyer.Address()), balance(f, f.c, f.provider.Address())
	_, err := op()
	var r *client.Refused
	switch {
	case !errors.As(err, &r) || r.Codespace != "torg":
		f.Errorf("%s: %v, want a refusal by the market", what, err)
	case want == nil && r.Unwrap() != nil || want != nil && !errors.Is(err, want):
		f.Errorf("%s: %v, which is %v; want %v", what, err, r.Unwrap(), want)
	}
	if balance(f, f.c, f.buyer.Address()) != b || balance(f, f.c, f.provider.Address()) != p {
		f.Errorf("%s: money moved", what)
	}
}

func (f *fair) order(escrow, lanes uint64) square.Order {
	f.salt++
	return square.Order{
		Buyer: f.buyer.Address(), Authorizer: f.authorizer.Address(), Trade: "echo", Mode: square.ModeStream,
		Spec: f.offer.Spec, Denom: square.Denom, Escrow: escrow, MaxRates: f.rates, JobValue: 1000, Policy: square.PolicyAudit,
		Lanes: lanes, Units: 1, Start: 20, Idle: 60, Duration: 3600, Challenge: 60, Drain: 2,
		Expiry: time.Now().Unix() + 30, Salt: square.Hash{f.salt},
	}
}

func (f *fair) quote(o square.Order) (square.Quote, square.Signature) {
	d := f.c.Domain()
	q := square.Quote{
		Provider: f.provider.Address(), Order: o.ID(d), Offer: f.offer.ID(d), Spec: f.offer.Spec, Rates: f.rates, Bond: 100_000, Ready: true,
		Expiry: time.Now().Unix() + 20, Nonce: square.Hash{f.salt, 1},
	}
	return q, f.pkey.Sign(q.Digest(d))
}

func (f *fair) open(escrow, lanes uint64) (square.Order, square.Hash) {
	f.Helper()
	o := f.order(escrow, lanes)
	q, sig := f.quote(o)
	f.must(f.buyer.OpenLease(f.Context(), o, q, sig))
	return o, o.ID(f.c.Domain())
}

func (f *fair) voucher(o square.Order, lane uint16, max uint64) square.Voucher {
	return square.SignVoucher(f.c.ChannelDomain(), o.Channel(f.c.Domain(), f.provider.Address(), lane).ID(f.c.ChannelDomain()), max, f.authorizer)
}

func (f *fair) audit() client.Supply {
	f.Helper()
	s, err := f.c.Supply(f.Context(), square.Denom)
	if err != nil {
		f.Fatal(err)
	}
	if !s.Balanced {
		f.Fatalf("the supply does not balance: %+v", s)
	}
	return s
}

// Ten thousand requests over eight lanes settle to the exact unit.
func TestLease(t *testing.T) {
	f := newFair(t)
	ctx := t.Context()
	events := f.c.Watch(ctx, 100, nil)
	before, gasBefore := f.audit(), fees(t, f.c)
	paidBefore := balance(t, f.c, f.buyer.Address())
	const lanes, requests = 8, 10_000
	o, id := f.open(1_000_000, lanes)
	if got := paidBefore - balance(t, f.c, f.buyer.Address()); got != 1_000_000 {
		t.Fatalf("the escrow took %d", got)
	}
	l, err := f.c.Lease(ctx, id)
	if err != nil || l.State != market.Active || l.Provider != f.provider.Address() {
		t.Fatalf("lease %+v: %v", l, err)
	}

	earned := make([]uint64, lanes)
	var total uint64
	redeem := func(final bool) {
		t.Helper()
		var claims []client.Claim
		for lane := range uint16(lanes) {
			// The voucher promises a little more than was charged.
			claims = append(claims, client.Claim{Lane: lane, Amount: earned[lane], Voucher: f.voucher(o, lane, earned[lane]+50)})
		}
		f.must(f.provider.Redeem(ctx, id, claims, final))
	}
	for i := range uint64(requests) {
		price := 1 + i*i%97
		earned[i%lanes] += price
		total += price
		if i%2500 == 2499 {
			redeem(false)
		}
	}
	redeem(false) // all stale: no error, nothing moves
	if l, err = f.c.Lease(ctx, id); err != nil || l.Paid != total {
		t.Fatalf("paid %d, want %d: %v", l.Paid, total, err)
	}
	p, err := f.c.Projected(ctx, id)
	if err != nil || p.ToBuyer != 1_000_000-total {
		t.Fatalf("projected refund %d, want %d: %v", p.ToBuyer, 1_000_000-total, err)
	}

	final := total + 11
	f.must(f.buyer.Close(ctx, id, &client.Consent{Paid: final, Sig: f.pkey.Sign(square.CloseDigest(f.c.Domain(), id, final))}))
	if l, err = f.c.Lease(ctx, id); err != nil || l.State != market.Settled || l.Paid != final || l.Escrow != 0 || l.Bond != 0 {
		t.Fatalf("settled %+v: %v", l, err)
	}
	if got := paidBefore - balance(t, f.c, f.buyer.Address()); got != final {
		t.Fatalf("the buyer paid %d, want %d", got, final)
	}
	after := f.audit()
	fee := square.Share(final, f.numbers.FeeBps)
	// Of what was paid for gas, the price was burned and the rest is the
	// validators'.
	burnedGas := fees(t, f.c) - gasBefore - (after.Other - before.Other)
	if got := after.Treasury - before.Treasury + after.Burned - before.Burned - burnedGas; got != fee || burnedGas == 0 {
		t.Fatalf("fees %d, want %d; %d burned for gas", got, fee, burnedGas)
	}
	if after.Total != before.Total-(after.Burned-before.Burned) || after.Escrow != before.Escrow {
		t.Fatalf("supply before %+v, after %+v", before, after)
	}

	// Every event came, in order, with its lease.
	var kinds []market.Kind
	for len(kinds) == 0 || kinds[len(kinds)-1] != market.EvEnded {
		select {
		case e := <-events.C:
			if e.Lease != id || e.Height == 0 || e.Tx.IsZero() {
				t.Fatalf("event %+v", e)
			}
			kinds = append(kinds, e.Kind)
		case <-time.After(time.Minute):
			t.Fatalf("events so far: %v", kinds)
		}
	}
	want := []market.Kind{market.EvOpened, market.EvMatched, market.EvStarted, market.EvRedeemed, market.EvRedeemed, market.EvRedeemed, market.EvRedeemed, market.EvEnded}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || events.Lost() != 0 {
		t.Fatalf("events %v, want %v", kinds, want)
	}

	// Lists.
	for _, filter := range []client.LeaseFilter{{}, {Buyer: f.buyer.Address()}, {Provider: f.provider.Address(), State: market.Settled}, {State: market.Settled}, {Trade: "echo"}} {
		ls, next, err := f.c.Leases(ctx, filter, client.Page{})
		if err != nil || next != "" || len(ls) != 1 || ls[0].ID != id {
			t.Fatalf("%+v: %d leases, next %q: %v", filter, len(ls), next, err)
		}
	}
	if ls, _, err := f.c.Leases(ctx, client.LeaseFilter{Buyer: f.provider.Address()}, client.Page{}); err != nil || len(ls) != 0 {
		t.Fatalf("leases of somebody else: %d, %v", len(ls), err)
	}
	for _, filter := range []client.OfferFilter{{}, {Trade: "echo"}, {Provider: f.provider.Address()}, {Spec: f.offer.Spec}} {
		if os, _, err := f.c.Offers(ctx, filter, client.Page{}); err != nil || len(os) != 1 || os[0].ID != f.offer.ID(f.c.Domain()) || os[0].InUse != 0 {
			t.Fatalf("%+v: offers %+v: %v", filter, os, err)
		}
	}
}

// The widest lease there may be is redeemed in one message.
func TestWide(t *testing.T) {
	f := newFair(t)
	o, id := f.open(square.MaxUnits/1_000_000_000, square.MaxLanes)
	var claims []client.Claim
	var want uint64
	for lane := range uint16(square.MaxLanes) {
		n := 1_000_000 + uint64(lane)
		want += n
		claims = append(claims, client.Claim{Lane: lane, Amount: n, Voucher: f.voucher(o, lane, n)})
	}
	r := f.must(f.provider.Redeem(t.Context(), id, claims, false))
	l, err := f.c.Lease(t.Context(), id)
	if err != nil || l.Paid != want {
		t.Fatalf("paid %d, want %d: %v", l.Paid, want, err)
	}
	f.must(f.provider.Reclaim(t.Context(), id, 5))
	t.Logf("%d gas", r.Gas)
	f.audit()
}

func TestPages(t *testing.T) {
	f := newFair(t)
	want := map[square.Hash]bool{}
	for range 7 {
		_, id := f.open(1000, 1)
		want[id] = true
	}
	for _, filter := range []client.LeaseFilter{{}, {Buyer: f.buyer.Address()}, {State: market.Active}} {
		got := map[square.Hash]bool{}
		page := client.Page{Limit: 3}
		for pages := 1; ; pages++ {
			ls, next, err := f.c.Leases(t.Context(), filter, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range ls {
				if got[l.ID] || !want[l.ID] {
					t.Fatalf("%+v: lease %s twice, or of nobody", filter, l.ID.Short())
				}
				got[l.ID] = true
			}
			if next == "" {
				if pages != 3 {
					t.Fatalf("%+v: %d pages", filter, pages)
				}
				break
			}
			page.After = next
		}
		if len(got) != len(want) {
			t.Fatalf("%+v: %d of %d", filter, len(got), len(want))
		}
	}
	if _, _, err := f.c.Leases(t.Context(), client.LeaseFilter{}, client.Page{Limit: 5000}); err == nil {
		t.Fatal("a page of 5000")
	}
}

// What is forged, replayed, malformed or late is refused in words and moves
// nothing.
func TestRefusals(t *testing.T) {
	f := newFair(t)
	ctx := t.Context()
	d := f.c.Domain()
	o, id := f.open(10_000, 2)
	stranger := devnet.Key(5)
	claim := func(lane uint16, amount uint64, v square.Voucher) func() (client.Result, error) {
		return func() (client.Result, error) {
			return f.provider.Redeem(ctx, id, []client.Claim{{Lane: lane, Amount: amount, Voucher: v}}, false)
		}
	}

	forged := square.SignVoucher(f.c.ChannelDomain(), o.Channel(d, f.provider.Address(), 0).ID(f.c.ChannelDomain()), 500, stranger)
	f.refused("a voucher by another key", square.ErrSignature, claim(0, 500, forged))
	f.refused("a voucher of another lane", square.ErrSignature, claim(1, 500, f.voucher(o, 0, 500)))
	bent := f.voucher(o, 0, 500)
	bent.Max = 501
	f.refused("a voucher with another sum", square.ErrSignature, claim(0, 501, bent))
	f.refused("more than the voucher", nil, claim(0, 501, f.voucher(o, 0, 500)))
	f.refused("a lane that is not there", nil, claim(2, 1, f.voucher(o, 2, 1)))
	f.refused("more than the escrow", market.ErrFunds, claim(0, 10_001, f.voucher(o, 0, 10_001)))
	f.refused("part of a voucher by somebody else", market.ErrParty, func() (client.Result, error) {
		return f.c.Account(stranger).Redeem(ctx, id, []client.Claim{{Amount: 499, Voucher: f.voucher(o, 0, 500)}}, false)
	})
	f.must(claim(0, 500, f.voucher(o, 0, 500))())
	paid := balance(t, f.c, f.provider.Address())
	f.must(claim(0, 500, f.voucher(o, 0, 500))()) // replayed: nothing
	if got := balance(t, f.c, f.provider.Address()); got != paid {
		t.Errorf("a replayed voucher paid %d", got-paid)
	}

	// Quotes.
	o2 := f.order(1000, 1)
	q, sig := f.quote(o2)
	open := func(o square.Order, q square.Quote, sig square.Signature) func() (client.Result, error) {
		return func() (client.Result, error) { return f.buyer.OpenLease(ctx, o, q, sig) }
	}
	f.refused("a quote by another key", square.ErrSignature, open(o2, q, stranger.Sign(q.Digest(d))))
	changed := q
	changed.Bond++
	f.refused("a changed quote", square.ErrSignature, open(o2, changed, sig))
	late := q
	late.Expiry = time.Now().Unix() - 100
	f.refused("an expired quote", market.ErrLate, open(o2, late, f.pkey.Sign(late.Digest(d))))
	far := q
	far.Expiry += 1000
	f.refused("a quote for too long", nil, open(o2, far, f.pkey.Sign(far.Digest(d))))
	dear := q
	dear.Rates = []square.Rate{{Unit: "byte", PerMillion: 2_000_000}}
	f.refused("a quote above the order's limit", nil, open(o2, dear, f.pkey.Sign(dear.Digest(d))))
	shapeless := q
	shapeless.Rates = nil
	f.refused("a quote without rates", nil, open(o2, shapeless, f.pkey.Sign(shapeless.Digest(d))))
	other := f.order(1000, 1)
	f.refused("a quote on another order", nil, open(other, q, sig))
	f.must(open(o2, q, sig)())
	f.refused("the same order and quote again", market.ErrUsed, open(o2, q, sig))
	f.refused("somebody else's order", market.ErrParty, func() (client.Result, error) {
		o := f.order(1000, 1)
		q, sig := f.quote(o)
		return f.c.Account(stranger).OpenLease(ctx, o, q, sig)
	})
	wrong := f.order(1000, 1)
	wrong.Trade = "nothing"
	f.refused("a trade this ledger does not know", market.ErrNotFound, func() (client.Result, error) { return f.buyer.PlaceOrder(ctx, wrong) })
	poor := f.order(2_000_000*square.UnitsPerTorg, 1)
	qp, sp := f.quote(poor)
	f.refused("more than the buyer has", market.ErrFunds, open(poor, qp, sp))

	// Closing.
	f.refused("a consent by another key", square.ErrSignature, func() (client.Result, error) {
		return f.buyer.Close(ctx, id, &client.Consent{Paid: 500, Sig: stranger.Sign(square.CloseDigest(d, id, 500))})
	})
	f.refused("a close by a stranger", market.ErrParty, func() (client.Result, error) { return f.c.Account(stranger).Close(ctx, id, nil) })
	f.refused("a poke before its time", market.ErrEarly, func() (client.Result, error) { return f.buyer.Poke(ctx, id) })
	f.refused("a lease that never was", market.ErrNotFound, func() (client.Result, error) { return f.buyer.Close(ctx, square.Hash{9}, nil) })
	if _, err := f.c.Lease(ctx, square.Hash{9}); !errors.Is(err, market.ErrNotFound) {
		t.Errorf("a lease that never was: %v", err)
	}
	f.audit()
}

// Nobody has to ask: the ledger itself ends what is due, and pays what is free.
func TestDeadlines(t *testing.T) {
	f := newFair(t)
	ctx := t.Context()
	before := balance(t, f.c, f.buyer.Address())
	_, id := f.open(10_000, 1)
	f.must(f.buyer.Close(ctx, id, nil)) // drains for two seconds
	f.must(f.provider.Unbond(ctx, "echo", square.Utorg(5)))
	events := f.c.Watch(ctx, 10, func(e client.Event) bool { return e.Kind == market.EvEnded || e.Kind == market.EvUnbonded })
	for range 2 {
		select {
		case e := <-events.C:
			if !e.Tx.IsZero() {
				t.Fatalf("asked for by %s: %+v", e.Tx, e)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing ended")
		}
	}
	if l, err := f.c.Lease(ctx, id); err != nil || l.State != market.Settled || l.Reason != market.ReasonClosed {
		t.Fatalf("%+v: %v", l, err)
	}
	if got := balance(t, f.c, f.buyer.Address()); got != before {
		t.Fatalf("the refund is %d short", before-got)
	}
	if st, _, err := f.c.Stakes(ctx, f.provider.Address(), "echo", client.Page{}); err != nil || len(st) != 1 || st[0].Total != 999_999_995 || st[0].Unbonding != 0 {
		t.Fatalf("stake %+v: %v", st, err)
	}
	f.audit()
}

func (f *fair) evidence(id square.Hash, request, result string, units, price uint64) square.Evidence {
	r := square.Receipt{
		Lease: id, Seq: 1, Subject: f.offer.Spec, Request: sha256.Sum256([]byte(request)), Result: sha256.Sum256([]byte(result)),
		Units: []uint64{units}, Price: price, Cumulative: price,
	}
	return square.Evidence{Receipt: r, Sig: f.pkey.Sign(r.Digest(f.c.Domain())), Request: []byte(request), Result: []byte(result)}
}

func TestDisputes(t *testing.T) {
	f := newFair(t)
	ctx := t.Context()

	// Honest work survives, and the challenger pays for the doubt.
	_, id := f.open(10_000, 1)
	good := f.evidence(id, "hello", "hello", 5, 5)
	r := f.must(f.buyer.Challenge(ctx, id, good, 0))
	if l, err := f.c.Lease(ctx, id); err != nil || l.State != market.Active {
		t.Fatalf("after honest work was upheld: %+v, %v", l, err)
	}
	if len(r.Events) != 2 || r.Events[1].Kind != market.EvUpheld {
		t.Fatalf("events %+v", r.Events)
	}
	f.refused("the same evidence again", market.ErrUsed, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, good, 0) })
	bad := good
	bad.Sig = devnet.Key(5).Sign(good.Receipt.Digest(f.c.Domain()))
	f.refused("a receipt the provider did not sign", square.ErrSignature, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, bad, 0) })
	torn := f.evidence(id, "hello", "hullo", 5, 5)
	torn.Result = []byte("other bytes")
	f.refused("evidence that is not what the receipt names", nil, func() (client.Result, error) { return f.buyer.Challenge(ctx, id, torn, 0) })

	// Wrong work is slashed in the same transaction, and its evidence is kept.
	stakes, _, err := f.c.Stakes(ctx, f.provider.Address(), "", client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	lie := f.evidence(id, "hello", "hullo", 5, 5)
	f.must(f.buyer.Challenge(ctx, id, lie, 0))
	l, err := f.c.Lease(ctx, id)
	if err != nil || l.State != market.Slashed || l.Dispute == nil || l.Dispute.Evidence != lie.Hash(f.c.Domain()) {
		t.Fatalf("%+v: %v", l, err)
	}
	kept, err := f.c.Evidence(ctx, id, l.Dispute.Evidence)
	if err != nil || kept.Hash(f.c.Domain()) != l.Dispute.Evidence {
		t.Fatalf("kept evidence: %v", err)
	}
	now, _, err := f.c.Stakes(ctx, f.provider.Address(), "", client.Page{})
	if err != nil || now[0].Total != stakes[0].Total-100_000 {
		t.Fatalf("stake %+v after %+v: %v", now, stakes, err)
	}

	// A price that its units do not give is fraud without re-execution.
	_, id = f.open(10_000, 1)
	f.must(f.buyer.Challenge(ctx, id, f.evidence(id, "hello", "hello", 5, 6), 0))
	if l, err := f.c.Lease(ctx, id); err != nil || l.State != market.Slashed {
		t.Fatalf("overcharged: %+v, %v", l, err)
	}

	f.audit()
}

func TestChannels(t *testing.T) {
	f := newFair(t)
	ctx := t.Context()
	cd, d := f.c.ChannelDomain(), f.c.Domain()
	stranger := f.c.Account(devnet.Key(5))
	config := square.ChannelConfig{
		Payer: f.buyer.Address(), PayerAuthorizer: f.authorizer.Address(), Receiver: f.provider.Address(), ReceiverAuthorizer: f.provider.Address(),
		Token: square.TokenAddress(square.Denom), WithdrawDelay: 900, Salt: square.Hash{1},
	}
	id := config.ID(cd)

	// A signed deposit, carried by somebody else: the payer pays, once.
	authorize := func(units uint64, nonce byte, expiry int64) *client.Authorization {
		p := square.Deposit{Owner: config.Payer, Channel: id, Receiver: config.Receiver, Amount: square.Utorg(units), Nonce: square.Hash{nonce}, Expiry: expiry}
		return &client.Authorization{Nonce: p.Nonce, Expiry: p.Expiry, Sig: f.bkey.Sign(p.Digest(d))}
	}
	soon := time.Now().Unix() + 600
	before := balance(t, f.c, f.buyer.Address())
	auth := authorize(1000, 1, soon)
	f.must(stranger.Deposit(ctx, config, square.Utorg(1000), auth))
	if got := before - balance(t, f.c, f.buyer.Address()); got != 1000 {
		t.Fatalf("the deposit took %d", got)
	}
	deposit := func(c square.ChannelConfig, units uint64, a *client.Authorization) func() (client.Result, error) {
		return func() (client.Result, error) { return stranger.Deposit(ctx, c, square.Utorg(units), a) }
	}
	f.refused("a deposit replayed", market.ErrUsed, deposit(config, 1000, auth))
	f.refused("a deposit of another sum", square.ErrSignature, deposit(config, 1001, authorize(1000, 2, soon)))
	f.refused("a deposit too late", market.ErrLate, deposit(config, 1000, authorize(1000, 3, 1)))
	f.refused("a deposit for ever", nil, deposit(config, 1000, authorize(1000, 4, soon+1_000_000)))
	elsewhere := config
	elsewhere.Receiver = devnet.Key(6).Address()
	f.refused("a deposit into another channel", square.ErrSignature, deposit(elsewhere, 1000, authorize(1000, 5, soon)))
	hasty := config
	hasty.WithdrawDelay = 899
	f.refused("a delay too short", nil, deposit(hasty, 1000, nil))
	coin := config
	coin.Token = square.TokenAddress("other")
	f.refused("another token", nil, deposit(coin, 1000, nil))

	// Claims.
	claim := func(who *client.Account, amount uint64, v square.Voucher) func() (client.Result, error) {
		return func() (client.Result, error) {
			return who.ClaimChannels(ctx, []client.ChannelClaim{{Amount: amount, Voucher: v}})
		}
	}
	voucher := func(max uint64, k square.Key) square.Voucher { return square.SignVoucher(cd, id, max, k) }
	f.refused("a claim by a stranger", market.ErrParty, claim(stranger, 400, voucher(400, f.authorizer)))
	f.refused("a voucher by the payer, who named another", square.ErrSignature, claim(f.provider, 400, voucher(400, f.bkey)))
	f.refused("more than the voucher", nil, claim(f.provider, 401, voucher(400, f.authorizer)))
	f.refused("more than the deposit", market.ErrFunds, claim(f.provider, 1001, voucher(1001, f.authorizer)))
	got := balance(t, f.c, f.provider.Address())
	f.must(claim(f.provider, 370, voucher(400, f.authorizer))())
	f.must(claim(f.provider, 370, voucher(400, f.authorizer))()) // stale
	f.must(claim(f.provider, 100, voucher(100, f.authorizer))()) // older still
	if got = balance(t, f.c, f.provider.Address()) - got; got != 370 {
		t.Fatalf("claimed %d, want 370", got)
	}

	// Ways out.
	f.refused("a withdrawal by the receiver", market.ErrParty, func() (client.Result, error) { return f.provider.Withdraw(ctx, id, 0) })
	f.refused("a withdrawal of too much", market.ErrFunds, func() (client.Result, error) { return f.buyer.Withdraw(ctx, id, 631) })
	f.must(f.buyer.Withdraw(ctx, id, 0))
	f.refused("an end before the delay", market.ErrEarly, func() (client.Result, error) { return f.buyer.FinishWithdraw(ctx, id) })
	f.must(f.provider.RefundChannel(ctx, id, 30))
	c, err := f.c.Channel(ctx, id)
	if err != nil || c.Deposit != 970 || c.Claimed != 370 || c.WithdrawAt == 0 || c.Config != config {
		t.Fatalf("channel %+v: %v", c, err)
	}
	if list, _, err := f.c.Channels(ctx, square.Address{}, config.Receiver, client.Page{}); err != nil || len(list) != 1 || list[0] != c {
		t.Fatalf("channels %+v: %v", list, err)
	}
	if s := f.audit(); s.Channels != 600 {
		t.Fatalf("channels hold %d", s.Channels)
	}

	// All of it, and a plain payment, can be told afterwards.
	sent := f.must(f.buyer.Send(ctx, f.provider.Address(), square.Utorg(77)))
	var told []string
	for h := int64(1); h <= sent.Height; h++ {
		evs, err := f.c.EventsAt(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range evs {
			if e.Kind != market.EvSent && !strings.HasPrefix(string(e.Kind), "channel_") {
				continue
			}
			line := string(e.Kind)
			for _, m := range e.Moves {
				line += fmt.Sprint(" ", m.Amount.Units)
				for who, pot := range map[string]market.Pot{" from": m.From, " to": m.To} {
					if pot.Kind == market.PotAccount {
						line += who + map[square.Address]string{config.Payer: " payer", config.Receiver: " receiver"}[pot.Owner]
					}
				}
			}
			if e.Time == 0 || e.Kind != market.EvSent && (e.Buyer != config.Payer || e.Provider != config.Receiver) {
				t.Errorf("event %+v", e)
			}
			told = append(told, line)
		}
	}
	slices.Sort(told) // map order of from and to shows in the last alone
	for _, w := range []string{"channel_deposited 1000 from payer", "channel_claimed 370 to receiver", "channel_withdrawing", "channel_refunded 30 to payer"} {
		if !slices.Contains(told, w) {
			t.Errorf("nobody tells of %q: %q", w, told)
		}
	}
	if last := told[len(told)-1]; !strings.HasPrefix(last, "sent 77 ") || !strings.Contains(last, "from payer") || !strings.Contains(last, "to receiver") {
		t.Errorf("the payment is told as %q", last)
	}
}
