package client_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// worker is somebody who sells labels.
type worker struct {
	*client.Account
	key   square.Key
	offer square.Offer
}

// worker has an offer and a stake; the money of some has enlisted.
func (f *fair) worker(n uint32, stake uint64, enlist bool) *worker {
	f.Helper()
	w := &worker{Account: f.c.Account(devnet.Key(n)), key: devnet.Key(n), offer: f.offer}
	w.offer.Provider = w.Address()
	if stake > 0 {
		f.must(w.Bond(f.Context(), f.offer.Trade, square.Utorg(stake)))
	}
	if enlist {
		f.must(w.Enlist(f.Context(), f.offer.Trade, square.Denom, true))
	}
	f.must(w.PostOffer(f.Context(), w.offer))
	return w
}

func (f *fair) stakeOf(w *worker) market.Stake {
	f.Helper()
	s, _, err := f.c.Stakes(f.Context(), w.Address(), f.offer.Trade, client.Page{})
	if err != nil || len(s) > 1 {
		f.Fatalf("stakes %+v: %v", s, err)
	}
	if len(s) == 0 {
		return market.Stake{}
	}
	return s[0].Stake
}

const oneJob = 1_000_000

// replicated places an order for replicas of one answer.
func (f *fair) replicated(question string, change func(*square.Order)) square.Hash {
	f.Helper()
	o := f.order(5*oneJob, 0)
	o.Authorizer, o.Trade, o.Mode, o.Spec, o.Request = o.Buyer, f.offer.Trade, square.ModeResult, sha256.Sum256([]byte("spec "+question)), sha256.Sum256([]byte(question))
	o.Idle, o.JobValue, o.Challenge, o.Start, o.Policy = 0, oneJob, 30, 30, square.PolicyReplicate
	if change != nil {
		change(&o)
	}
	q, sig := f.quote(o)
	f.refused("an order for two filled by one", market.ErrState, func() (client.Result, error) { return f.buyer.OpenLease(f.Context(), o, q, sig) })
	r := f.must(f.buyer.PlaceOrder(f.Context(), o))
	f.Logf("an order took %d gas", r.Gas)
	return o.ID(f.c.Domain())
}

// take has a worker match a replica; anyone carries its quote.
func (f *fair) take(id square.Hash, w *worker, bond uint64) func() (client.Result, error) {
	f.salt++
	q := square.Quote{
		Provider: w.Address(), Order: id, Offer: w.offer.ID(f.c.Domain()), Spec: w.offer.Spec, Rates: f.rates, Bond: bond, Ready: true,
		Expiry: time.Now().Unix() + 20, Nonce: square.Hash{f.salt, 2},
	}
	return func() (client.Result, error) {
		return f.buyer.Match(f.Context(), q, w.key.Sign(q.Digest(f.c.Domain())))
	}
}

// says is a worker's signed receipt for an answer.
func (f *fair) says(id square.Hash, w *worker, question, result string) square.Evidence {
	e := f.done(id, question, result, 600_000)
	e.Sig = w.key.Sign(e.Receipt.Digest(f.c.Domain()))
	return e
}

func (f *fair) commitTo(w *worker, e square.Evidence) client.Result {
	f.Helper()
	return f.must(w.CommitResult(f.Context(), e.Receipt, e.Sig))
}

func (f *fair) showTo(w *worker, e square.Evidence) client.Result {
	f.Helper()
	r := f.must(w.ShowResult(f.Context(), e.Receipt, e.Sig))
	f.Logf("showing took %d gas", r.Gas)
	return r
}

// TestReplicas: two that agree are paid, of whom one may be a newcomer; nobody runs
// both, copies, or is believed alone.
func TestReplicas(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, nil)
	ctx := t.Context()
	staked, newcomer, another := f.worker(3, 10*oneJob, false), f.worker(4, 0, false), f.worker(5, 0, false)
	before := f.audit()
	id := f.replicated("a cat?", nil)
	one, two := market.ReplicaID(id, 0), market.ReplicaID(id, 1)
	if l, r := f.state(id), f.state(one); l.State != market.Replicating || l.Escrow != 3*oneJob || len(l.Replicas) != 2 || r.Of != id || r.State != market.Open || r.Escrow != oneJob {
		t.Fatalf("placed: %+v, %+v", l, r)
	}
	f.must(f.take(one, newcomer, 0)())
	f.refused("a lone replicator", market.ErrParty, f.take(two, newcomer, 2*oneJob))
	f.refused("two newcomers", nil, f.take(two, another, 0))
	f.refused("a bond that does not cover the job", nil, f.take(two, staked, oneJob-1))
	f.must(f.take(two, staked, 2*oneJob)())
	f.refused("a cancel of work under way", market.ErrState, func() (client.Result, error) { return f.buyer.Cancel(ctx, id) })

	a, b := f.says(one, newcomer, "a cat?", "yes"), f.says(two, staked, "a cat?", "yes")
	f.refused("a claim without the other's", market.ErrState, func() (client.Result, error) { return staked.ClaimResult(ctx, b.Receipt, b.Sig) })
	t.Logf("a commitment took %d gas", f.commitTo(staked, b).Gas)
	f.refused("a result shown before the other's is fixed", market.ErrState, func() (client.Result, error) { return staked.ShowResult(ctx, b.Receipt, b.Sig) })
	f.commitTo(newcomer, a)
	copied := f.says(one, newcomer, "a cat?", "no")
	f.refused("another result than was committed to", nil, func() (client.Result, error) { return newcomer.ShowResult(ctx, copied.Receipt, copied.Sig) })
	f.showTo(staked, b)
	f.refused("pay before all is known", market.ErrState, func() (client.Result, error) { return f.buyer.Accept(ctx, two) })
	f.showTo(newcomer, a)
	if l := f.state(id); l.State != market.Settled || l.Reason != market.ReasonReplicated || l.Escrow != 0 || l.Agreed != a.Receipt.Result {
		t.Fatalf("agreed: %+v", l)
	}
	f.must(f.buyer.Accept(ctx, one))
	f.must(f.buyer.Accept(ctx, two))
	for _, r := range []square.Hash{one, two} {
		if l := f.state(r); l.State != market.Settled || l.Paid != 600_000 || l.Escrow != 0 {
			t.Fatalf("paid: %+v", l)
		}
	}
	if s := f.stakeOf(newcomer); s.Total != 294_000 || s.Jobs != 0 { // half of its pay, after the fee
		t.Errorf("the newcomer's stake is %+v", s)
	}

	// It agrees to nothing the next time, and loses what was held back.
	drawn := []*worker{f.worker(6, 10*oneJob, true), f.worker(7, 10*oneJob, true), f.worker(8, 10*oneJob, true)}
	all := append([]*worker{newcomer, staked}, drawn...)
	id = f.replicated("a dog?", nil)
	f.must(f.take(market.ReplicaID(id, 0), newcomer, 0)())
	f.must(f.take(market.ReplicaID(id, 1), staked, 2*oneJob)())
	said := []square.Evidence{f.says(market.ReplicaID(id, 0), newcomer, "a dog?", "perhaps"), f.says(market.ReplicaID(id, 1), staked, "a dog?", "no")}
	for i, e := range said {
		f.commitTo(all[i], e)
	}
	for i, e := range said {
		f.showTo(all[i], e)
	}
	if l := f.state(id); len(l.Replicas) != 5 || l.Escrow != 0 {
		t.Fatalf("two that differ: %+v", l)
	}
	said = said[:0]
	var ran []*worker
	for n := uint64(2); n < 5; n++ {
		r := market.ReplicaID(id, n)
		who := f.invited(r)
		for _, w := range all {
			if w.Address() == who {
				ran = append(ran, w)
				said = append(said, f.says(r, w, "a dog?", "no"))
			}
		}
		if len(ran) == 0 || len(said) == 0 || ran[len(ran)-1].Address() != who {
			t.Fatalf("replica %d is for %v", n, who)
		}
		f.refused("somebody who was not drawn", market.ErrParty, f.take(r, another, 0))
	}
	for i, e := range said {
		f.must(f.take(e.Receipt.Lease, ran[i], 2*oneJob)())
		f.commitTo(ran[i], e)
	}
	rich := balance(t, f.c, f.buyer.Address())
	for i, e := range said {
		f.showTo(ran[i], e)
	}
	l := f.ended(market.ReplicaID(id, 0))
	if l.State != market.Slashed || l.Reason != market.ReasonOutvoted || l.Paid != 0 || l.Agreed != said[0].Receipt.Result {
		t.Fatalf("outvoted: %+v", l)
	}
	if s := f.stakeOf(newcomer); s.Total != 0 || s.Jobs != 0 {
		t.Errorf("a newcomer that was outvoted keeps %+v", s)
	}
	if got := balance(t, f.c, f.buyer.Address()); got != rich+oneJob+294_000 {
		t.Errorf("the buyer had %d and has %d: want its job's escrow and what the newcomer had held back", rich, got)
	}
	for n := uint64(1); n < 5; n++ {
		f.must(f.buyer.Accept(ctx, market.ReplicaID(id, n)))
	}
	for _, w := range all[1:] {
		if s := f.stakeOf(w); s.Locked != 0 || s.Total < 10*oneJob {
			t.Errorf("a stake of an agreed replica: %+v", s)
		}
	}
	if after := f.audit(); after.Escrow != before.Escrow {
		t.Errorf("escrow %d became %d", before.Escrow, after.Escrow)
	}
}

// invited waits for a draw.
func (f *fair) invited(id square.Hash) square.Address {
	f.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l := f.state(id); !l.Invited.IsZero() {
			return l.Invited
		}
	}
	f.Fatalf("nobody is drawn for replica %s: %+v", id.Short(), f.state(id))
	return square.Address{}
}

// TestReplicasFail: who fails is replaced, and who is left alone goes on as bonded as it
// is.
func TestReplicasFail(t *testing.T) {
	t.Parallel()
	f := results(t, label{}, func(p *market.Params) { p.Redraws = 0 })
	ctx := t.Context()
	first, second, third, newcomer := f.worker(3, 10*oneJob, false), f.worker(4, 10*oneJob, false), f.worker(5, 10*oneJob, false), f.worker(6, 0, false)
	id := f.replicated("a cat?", nil)
	f.must(f.take(market.ReplicaID(id, 0), first, 2*oneJob)())
	f.must(f.take(market.ReplicaID(id, 1), second, 2*oneJob)())
	a := f.says(market.ReplicaID(id, 0), first, "a cat?", "yes")
	f.commitTo(first, a)
	t.Logf("abandoning took %d gas", f.must(second.Abandon(ctx, market.ReplicaID(id, 1))).Gas)
	f.refused("who has failed", market.ErrParty, f.take(market.ReplicaID(id, 2), second, 2*oneJob))
	f.must(f.take(market.ReplicaID(id, 2), third, 2*oneJob)())
	b := f.says(market.ReplicaID(id, 2), third, "a cat?", "yes")
	f.commitTo(third, b)
	f.showTo(first, a)
	f.showTo(third, b)
	if l := f.state(id); l.State != market.Settled || l.Reason != market.ReasonReplicated {
		t.Fatalf("a partner was replaced: %s (%s)", l.State, l.Reason)
	}

	// All is over at a time that is known, and balances.
	silent := f.replicated("a bird?", func(o *square.Order) { o.Expiry = time.Now().Unix() + 4 })
	if l := f.ended(silent); l.State != market.Failed || l.Reason != market.ReasonNoReplicas || l.Nth != 2+market.Spares {
		t.Fatalf("nobody came: %s (%s) after %d replicas", l.State, l.Reason, l.Nth)
	}
	for n := range uint64(2 + market.Spares) {
		f.ended(market.ReplicaID(silent, n))
	}
	cancelled := f.replicated("a fish?", nil)
	f.must(f.buyer.Cancel(ctx, cancelled))
	if l := f.ended(market.ReplicaID(cancelled, 1)); l.State != market.Cancelled || l.Escrow != 0 {
		t.Fatalf("cancelled: %s (%s)", l.State, l.Reason)
	}

	// A partner that says it has a result and shows none loses its bond; nobody is
	// enlisted who could take its place, so the other goes on alone.
	id = f.replicated("a dog?", func(o *square.Order) { o.Start, o.Challenge = 5, 2 })
	f.must(f.take(market.ReplicaID(id, 0), first, 2*oneJob)())
	f.must(f.take(market.ReplicaID(id, 1), newcomer, 0)())
	a, b = f.says(market.ReplicaID(id, 0), first, "a dog?", "yes"), f.says(market.ReplicaID(id, 1), newcomer, "a dog?", "no")
	f.commitTo(newcomer, b)
	f.commitTo(first, a)
	f.showTo(first, a)
	if l := f.ended(market.ReplicaID(id, 1)); l.State != market.Slashed || l.Reason != market.ReasonUnshown {
		t.Fatalf("silent: %s (%s)", l.State, l.Reason)
	}
	if l := f.state(market.ReplicaID(id, 2)); l.State != market.Open || !l.Drawn {
		t.Fatalf("its place: %+v", l)
	}
	f.refused("who was not drawn", market.ErrParty, f.take(market.ReplicaID(id, 2), third, 2*oneJob))

	if l := f.ended(market.ReplicaID(id, 0)); l.State != market.Settled || l.Reason != market.ReasonUnchallenged || l.Paid != 600_000 {
		t.Fatalf("left alone: %s (%s), paid %d", l.State, l.Reason, l.Paid)
	}
	f.audit()
}
