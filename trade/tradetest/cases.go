package tradetest

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// sell: three jobs, at once, each done once and paid.
func sell(w *town) {
	var ids []square.Hash
	for n := range 3 {
		ids = append(ids, w.shop.buy(n))
	}
	for _, id := range ids {
		got, err := w.shop.d.Wait(w.Context(), id)
		if err != nil || got.Receipt.IsZero() || got.Wrong != "" {
			w.Errorf("waited for %+v, %v", got, err)
		}
		w.right(w.shop.over(id))
		if m := w.lease(id); m.Reason != market.ReasonAccepted {
			w.Errorf("it ended %s", m.Reason)
		}
	}
	if n := w.stall.goods.works.Load(); n != 3 {
		w.Errorf("worked %d times", n)
	}
	w.square(3)
}

// death is a point at which a seller dies, and how often it may then work.
type death struct {
	die   func(*town) (order square.Hash)
	works int64
}

var sellerDeaths = map[string]death{
	"quoted": {func(w *town) square.Hash {
		w.shop.on("before open", w.stall.die)
		return w.shop.buy(0)
	}, 1},
	"opened": {func(w *town) square.Hash {
		w.shop.on("after open", w.stall.die)
		return w.shop.buy(0)
	}, 2}, // the chores may have begun
	"at work": {func(w *town) square.Hash {
		release := w.stall.goods.hold()
		id := w.shop.buy(0)
		w.until("it works", func() bool { return w.stall.goods.works.Load() > 0 })
		w.stall.die()
		release()
		return id
	}, 2},
	"worked": {func(w *town) square.Hash {
		w.stall.shut.Store("claim", true)
		id := w.shop.buy(0)
		w.until("it has worked", func() bool { return w.stall.s.Stats().Served > 0 })
		w.stall.die()
		w.stall.shut.Delete("claim")
		return id
	}, 1},
	"claimed": {func(w *town) square.Hash {
		w.stall.mute.Store(true)
		id := w.shop.buy(0)
		w.is(id, market.Claimed)
		w.stall.die()
		w.stall.mute.Store(false)
		return id
	}, 1},
}

// sellerDies: at whatever point that is on disk, it is paid in the end, for one result.
func sellerDies(w *town, at death) {
	id := at.die(w)
	w.stall.open()
	w.right(w.shop.over(id))
	if n := w.stall.goods.works.Load(); n > at.works {
		w.Errorf("worked %d times", n)
	}
	w.square(1)
}

var buyerDeaths = []string{"before open", "after open", "before accept", "after accept"}

// buyerDies: it neither forgets an order nor pays twice, and one that was never opened
// costs nothing.
func buyerDies(w *town, at string) {
	killed := make(chan bool, 1)
	s := w.shop
	s.on(at, func() {
		s.kill()
		killed <- true
	})
	_, err := s.order(0) // who is killed hears no answer
	select {
	case <-killed:
	case <-time.After(patience):
		w.Fatalf("it was never killed; the order: %v", err)
	}
	s.stop()
	s.open()
	js, err := s.d.Jobs()
	w.must(err)
	if len(js) != 1 {
		w.Fatalf("after it was killed it knows of %d orders", len(js))
	}
	if at != "before open" {
		w.right(s.over(js[0].ID))
		w.square(1)
		return
	}
	w.l.Pass(2 * wait)
	if j := s.over(js[0].ID); j.State != "" {
		w.Errorf("an order that was never opened is %s", j.State)
	}
	w.square(0)
}

// replay: whoever has heard a call says it again; the ledger is shown the same quote
// again. Nothing is done twice, and nothing paid.
func replay(w *town) {
	id := w.shop.buy(0)
	w.right(w.shop.over(id))
	w.stall.mu.Lock()
	calls := slices.Clone(w.stall.calls)
	w.stall.mu.Unlock()
	seen := map[string]bool{}
	for _, c := range calls {
		seen[c.path] = true
		code, reply := w.stall.again(c)
		var was, is wire.ResultReply
		if c.path != "result" || json.Unmarshal(c.reply, &was) != nil || was.Signed == nil {
			continue
		}
		if err := json.Unmarshal(reply, &is); err != nil || is.Signed == nil || is.Signed.Sig != was.Signed.Sig {
			w.Errorf("the result, asked for again: %d %s", code, reply)
		}
	}
	// The job came with the quote's request; a seller that is quick is not sent it again.
	for _, path := range []string{"quote", "result"} {
		if !seen[path] {
			w.Errorf("nobody has called %s: %v", path, seen)
		}
	}
	var q wire.QuoteReply
	var asked wire.QuoteRequest
	w.must(json.Unmarshal(calls[0].reply, &q))
	w.must(json.Unmarshal(calls[0].body, &asked))
	if err := w.shop.account.Open(w.Context(), asked.Order, q.Quote, q.Sig); err == nil {
		w.Error("the same order was opened twice")
	}
	if err := w.stall.account.ClaimResult(w.Context(), *w.lease(id).Receipt, square.Signature{}); err == nil {
		w.Error("the same result was claimed twice")
	}
	// The same job again is another order.
	w.right(w.shop.over(w.shop.buy(0)))
	if n := w.stall.goods.works.Load(); n != 2 {
		w.Errorf("worked %d times", n)
	}
	w.square(2)
}

// goSilent: a seller that quotes and is never heard again costs itself bond; the buyer
// has its escrow back, and a share.
func goSilent(w *town) {
	w.shop.on("before open", w.stall.die)
	id := w.shop.buy(0)
	w.shop.over(id, market.Active)
	if m := w.lease(id); m.State != market.Failed || m.Reason != market.ReasonLate || m.Paid != 0 {
		w.Errorf("it ended %s (%s), paid %d", m.State, m.Reason, m.Paid)
	}
	if buyer, seller := w.balances(1); buyer <= purse || seller >= purse {
		w.Errorf("the buyer has %d, the seller %d: both had %d", buyer, seller, uint64(purse))
	}
}

// withhold: a result that is claimed and not handed over is had over the ledger.
func withhold(w *town) {
	w.stall.mute.Store(true)
	id := w.shop.buy(0)
	w.right(w.shop.over(id, market.Claimed))
	if m := w.lease(id); !m.Asked || w.count("answer") != 1 {
		w.Errorf("asked: %v, answered %d times", m.Asked, w.count("answer"))
	}
	w.square(1)
}

// withholdToTheEnd: who does not answer there either is not paid, and loses bond.
func withholdToTheEnd(w *town) {
	w.stall.mute.Store(true)
	w.stall.shut.Store("answer", true)
	id := w.shop.buy(0)
	w.shop.over(id, market.Claimed, market.Owed)
	if m := w.lease(id); m.State != market.Slashed || m.Reason != market.ReasonWithheld || m.Paid != 0 {
		w.Errorf("it ended %s (%s), paid %d", m.State, m.Reason, m.Paid)
	}
	if buyer, seller := w.balances(1); buyer < purse || seller >= purse {
		w.Errorf("the buyer has %d, the seller %d: both had %d", buyer, seller, uint64(purse))
	}
}

// falseWithheld: who says so of a result that was to be had is answered, and pays.
func falseWithheld(w *town) {
	w.stall.mute.Store(true)
	id := w.shop.buy(0)
	w.is(id, market.Claimed)
	public, private := square.NewSealKey()
	w.must(w.shop.account.Withhold(w.Context(), id, public))
	w.until("it is answered", func() bool { return w.count("answer") == 1 })
	if sealed, err := w.shop.account.Answer(w.Context(), id); err != nil {
		w.Error(err)
	} else if plain, err := square.Unseal(private, id, sealed); err != nil || w.lease(id).Receipt.Result != hash(plain) {
		w.Errorf("what was sealed is not the result: %v", err)
	}
	w.stall.mute.Store(false)
	w.right(w.shop.over(id))
	w.square(1)
}

// wrong: a result that is another is found out, not paid, and its seller asked no more.
func wrong(w *town) {
	w.stall.die()
	w.stall.goods.lies.Store(true)
	w.stall.cfg.BondTimes = 1 // the law has most work done again
	w.stall.open()
	const draws = 40 // each at 5/8
	for n := range draws {
		id := w.shop.buy(n)
		got, m := w.shop.over(id), w.lease(id)
		if m.State != market.Slashed {
			continue
		}
		if m.Reason != market.ReasonFraud || m.Paid != 0 || got.Wrong == "" {
			w.Errorf("it ended %s (%s), paid %d: %+v", m.State, m.Reason, m.Paid, got)
		}
		if _, err := w.shop.order(n + 1); !errors.Is(err, desk.ErrNoProvider) {
			w.Errorf("it was asked again: %v", err)
		}
		var paid uint64
		for _, m := range w.leases() {
			paid += m.Paid
		}
		if buyer, seller := w.balances(n + 1); buyer < purse-paid || seller >= purse+paid {
			w.Errorf("the buyer has %d, the seller %d: both had %d, and %d was paid", buyer, seller, uint64(purse), paid)
		}
		return
	}
	w.Errorf("%d wrong results were not found out", draws)
}

// pause: no new work, by name; what was promised is done; and on it goes.
func pause(w *town) {
	release := w.stall.goods.hold()
	id := w.shop.buy(0)
	w.must(w.stall.s.SetControl(seller.Control{Paused: true}))
	release()
	if _, err := w.shop.order(1); !errors.Is(err, desk.ErrPaused) && !errors.Is(err, desk.ErrNoProvider) {
		w.Errorf("ordered of who has paused: %v", err)
	}
	w.right(w.shop.over(id))
	w.until("its offer is withdrawn", func() bool { return w.count("withdraw") > 0 })
	if _, err := w.shop.order(2); !errors.Is(err, desk.ErrPaused) && !errors.Is(err, desk.ErrNoProvider) {
		w.Errorf("ordered of who has paused: %v", err)
	}
	w.stall.die()
	w.stall.open() // and is still paused
	if !w.stall.s.Control().Paused {
		w.Error("a restart has ended the pause")
	}
	w.must(w.stall.s.SetControl(seller.Control{}))
	var next desk.Job
	w.until("it sells again", func() (sold bool) {
		var err error
		next, err = w.shop.order(3)
		return err == nil
	})
	w.right(w.shop.over(next.ID))
	w.square(2)
}

// fewerPlaces: who starts again with fewer places than are leased does all that it has
// promised, and promises no more.
func fewerPlaces(w *town) {
	w.stall.goods.places.Store(3)
	w.stall.die()
	w.stall.open()
	release := w.stall.goods.hold()
	var ids []square.Hash
	for n := range 3 {
		ids = append(ids, w.shop.buy(n))
	}
	w.until("it works", func() bool { return w.stall.goods.works.Load() == 3 })
	w.stall.die()
	w.stall.goods.places.Store(1)
	w.stall.open()
	if _, err := w.shop.order(3); err == nil {
		w.Error("a place was sold that is not there")
	}
	release()
	for _, id := range ids {
		w.right(w.shop.over(id))
	}
	// The ledger lets the offer have fewer once the leases have ended.
	w.until("it sells again", func() bool {
		o, err := w.shop.cfg.Ledger.Offers(context.Background(), w.kit.Rules.Name())
		w.must(err)
		return len(o) == 1 && o[0].Capacity == 1
	})
	w.right(w.shop.over(w.shop.buy(4)))
	w.square(4)
}

// priceChange: rates that change between a quote and its lease are not what is paid
// unseen: the order is opened at what was quoted, or asked for anew.
func priceChange(w *town) {
	w.shop.on("before open", func() {
		w.stall.goods.times.Store(2)
		w.must(w.stall.s.Refresh(context.Background()))
		w.must(w.stall.s.PostOffers(context.Background()))
	})
	id := w.shop.buy(0)
	w.right(w.shop.over(id))
	w.right(w.shop.over(w.shop.buy(0)))
	for _, m := range w.leases() {
		if err := square.Within(m.Rates, m.Order.MaxRates); err != nil {
			w.Error(err)
		}
	}
	w.square(2)
}

// sellerDiskFull: who cannot write down what it promises promises nothing, and a result
// that cannot be kept is claimed when it can.
func sellerDiskFull(w *town) {
	w.stall.full.Store(true)
	if _, err := w.shop.order(0); !errors.Is(err, desk.ErrProvider) {
		w.Errorf("ordered of who has no disk: %v", err)
	}
	w.stall.full.Store(false)
	release := w.stall.goods.hold()
	id := w.shop.buy(1)
	w.until("it works", func() bool { return w.stall.goods.works.Load() > 0 })
	w.stall.full.Store(true)
	release()
	w.until("it has failed", func() bool { return w.stall.s.Stats().Failed > 0 })
	if m := w.lease(id); m.State != market.Active {
		w.Errorf("with a result that is not on disk the lease is %s", m.State)
	}
	w.stall.full.Store(false)
	w.right(w.shop.over(id))
	w.square(1)
}

// buyerDiskFull: nothing is ordered that would be forgotten, and a result that cannot be
// kept is neither accepted nor lost.
func buyerDiskFull(w *town) {
	w.shop.full.Store(true)
	if _, err := w.shop.order(0); err == nil || len(w.leases()) != 0 {
		w.Errorf("ordered without a disk: %v", err)
	}
	w.shop.full.Store(false)
	release := w.stall.goods.hold()
	id := w.shop.buy(1)
	w.shop.full.Store(true)
	release()
	w.is(id, market.Claimed)
	w.until("the result was asked for", func() bool {
		w.stall.mu.Lock()
		defer w.stall.mu.Unlock()
		for _, c := range w.stall.calls {
			var r wire.ResultReply
			if c.path == "result" && json.Unmarshal(c.reply, &r) == nil && r.Signed != nil {
				return true
			}
		}
		return false
	})
	if m := w.lease(id); m.State != market.Claimed {
		w.Errorf("a result that is not on disk is %s", m.State)
	}
	w.shop.full.Store(false)
	w.right(w.shop.over(id))
	w.square(1)
}

// doubleSpend: of orders at once that together are more than the buyer has, the one that
// it can pay is opened.
func doubleSpend(w *town) {
	w.kit.Order.Escrow = purse/2 + 1
	release := w.stall.goods.hold()
	var mu sync.Mutex
	var ids []square.Hash
	var ordering sync.WaitGroup
	for n := range 4 {
		ordering.Go(func() {
			j, err := w.shop.order(n)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ids = append(ids, j.ID)
			} else if !errors.Is(err, desk.ErrFunds) && !errors.Is(err, desk.ErrProvider) {
				w.Errorf("an order that cannot be paid: %v", err)
			}
		})
	}
	ordering.Wait()
	release()
	if len(ids) != 1 {
		w.Fatalf("%d orders were opened with money for one", len(ids))
	}
	w.right(w.shop.over(ids[0]))
	w.square(1)
}

// replicated: two sellers do the same and are both paid.
func replicated(w *town) {
	other := newStall(w)
	w.kit.Order.Policy = square.PolicyReplicate
	id := w.shop.buy(0)
	got := w.shop.over(id)
	if got.State != market.Settled || got.Reason != market.ReasonReplicated || got.Wrong != "" || got.Receipt.IsZero() {
		w.Errorf("it ended %+v", got)
	}
	var paid uint64
	for n := range uint64(square.Replicas) {
		m := w.lease(market.ReplicaID(id, n))
		if m.State != market.Settled || m.Reason != market.ReasonAccepted || m.Paid == 0 {
			w.Errorf("replica %d ended %s (%s), paid %d", n, m.State, m.Reason, m.Paid)
		}
		paid += m.Paid
	}
	if a, b := w.stall.goods.works.Load(), other.goods.works.Load(); a != 1 || b != 1 {
		w.Errorf("they worked %d and %d times", a, b)
	}
	if buyer, _ := w.balances(1 + square.Replicas); buyer != purse-paid {
		w.Errorf("the buyer has %d: it had %d, and %d was paid", buyer, uint64(purse), paid)
	}
}

// diskLost: a seller whose disk is lost after its quote is handed the job once more.
func diskLost(w *town) {
	w.shop.on("before open", w.stall.die)
	id := w.shop.buy(0)
	w.stall.path = filepath.Join(w.TempDir(), "seller.db")
	w.stall.open()
	w.right(w.shop.over(id))
	w.square(1)
}

// buyerAway: a buyer that comes back when its time to look has gone by has paid, and is
// handed what it paid for.
func buyerAway(w *town) {
	release := w.stall.goods.hold()
	id := w.shop.buy(0)
	w.shop.stop()
	release()
	w.is(id, market.Claimed)
	w.end(id)
	w.is(id, market.Settled)
	w.shop.open()
	w.right(w.shop.over(id))
	m := w.lease(id)
	poked := square.Share(m.Order.Escrow, w.params.BountyBps) // whoever has ended it is paid for that
	if buyer, seller := w.balances(1); buyer > purse-m.Paid || buyer < purse-m.Paid-poked || seller > purse+m.Paid+poked {
		w.Errorf("the buyer has %d, the seller %d: both had %d, and %d was paid", buyer, seller, uint64(purse), m.Paid)
	}
}

// ledgerStandsStill: what is done while no block comes is claimed and paid when one does.
func ledgerStandsStill(w *town) {
	release := w.stall.goods.hold()
	id := w.shop.buy(0)
	w.still.Store(true)
	release()
	w.until("it has worked", func() bool { return w.stall.s.Stats().Served > 0 })
	if _, err := w.shop.order(1); err == nil {
		w.Error("ordered on a ledger that makes no blocks")
	}
	w.still.Store(false)
	w.right(w.shop.over(id))
	if n := w.stall.goods.works.Load(); n != 1 {
		w.Errorf("worked %d times", n)
	}
	w.square(1)
}

// reviewed: a result that is ordered for review waits for its buyer, who can take it and
// cannot call it wrong.
func reviewed(w *town) {
	j, err := w.shop.d.OrderForReview(w.Context(), w.kit.Order, w.kit.Job(0))
	w.must(err)
	if _, err := w.shop.d.Accept(w.Context(), square.Hash{1}); !errors.Is(err, desk.ErrNoJob) {
		w.Errorf("accepted what was never ordered: %v", err)
	}
	got, err := w.shop.d.Wait(w.Context(), j.ID)
	if err != nil || got.Receipt.IsZero() || got.Over {
		w.Errorf("waited for %+v, %v", got, err)
	}
	w.is(j.ID, market.Claimed)
	time.Sleep(500 * time.Millisecond) // some steps of the desk's
	if m := w.lease(j.ID); m.State != market.Claimed {
		w.Errorf("a result that nobody has reviewed is %s", m.State)
	}
	if _, err := w.shop.d.Challenge(w.Context(), j.ID, "it is not"); !errors.Is(err, desk.ErrDecide) {
		w.Errorf("challenged what is right: %v", err)
	}
	if _, err := w.shop.d.Accept(w.Context(), j.ID); err != nil {
		w.Error(err)
	}
	w.right(w.shop.over(j.ID))
	if _, err := w.shop.d.Accept(w.Context(), j.ID); !errors.Is(err, desk.ErrDecide) {
		w.Errorf("accepted again: %v", err)
	}
	w.square(1)
}

// reviewedWrong: one that is wrong, and that the law did not have done again, its buyer
// challenges.
func reviewedWrong(w *town) {
	w.stall.goods.lies.Store(true)
	j, err := w.shop.d.OrderForReview(w.Context(), w.kit.Order, w.kit.Job(0))
	w.must(err)
	_, err = w.shop.d.Wait(w.Context(), j.ID)
	w.must(err)
	w.until("it is challenged", func() bool {
		_, err := w.shop.d.Challenge(w.Context(), j.ID, "it is not what I asked for")
		return err == nil || w.count("challenge") > 0 // the law may have had it done again
	})
	got, m := w.shop.over(j.ID), w.lease(j.ID)
	if m.State != market.Slashed || m.Reason != market.ReasonFraud || m.Paid != 0 || got.Wrong == "" {
		w.Errorf("it ended %s (%s), paid %d: %+v", m.State, m.Reason, m.Paid, got)
	}
	if buyer, seller := w.balances(1); buyer < purse || seller >= purse {
		w.Errorf("the buyer has %d, the seller %d: both had %d", buyer, seller, uint64(purse))
	}
}
