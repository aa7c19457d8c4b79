package tradetest

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// streams are the cases of a trade of streams.
func streams() map[string]func(*town) {
	all := map[string]func(*town){
		"sell":                askedAtOnce,
		"used up":             usedUp,
		"replay":              replayed,
		"double spend":        spentTwice,
		"disk lost":           sellerForgets,
		"charge forgotten":    chargeForgotten,
		"buyer away":          buyerSilent,
		"ledger stands still": onCredit,
		"go silent":           sellerSilent,
		"withhold":            stolen,
		"stop":                stopped,
		"cut":                 cut,
		"wrong":               lied,
		"pause":               paused,
		"fewer places":        crowded,
		"price change":        dearer,
		"seller's disk full":  sellerFull,
		"buyer's disk full":   buyerFull,
	}
	for name, at := range streamSellerDeaths {
		all["seller dies/"+name] = func(w *town) { streamSellerDies(w, at) }
	}
	for name, at := range streamBuyerDeaths {
		all["buyer dies/"+name] = func(w *town) { streamBuyerDies(w, at) }
	}
	return all
}

// ask asks a desk of the town's buyer for the nth answer, until it is killed.
func (s *shop) ask(n int, piece func() error) (*wire.Signed, error) {
	if piece == nil {
		piece = func() error { return nil }
	}
	ctx, cancel := context.WithTimeout(s.gone, patience)
	defer cancel()
	got, err := s.w.flow.Ask(ctx, s.d, s.trade, n, piece)
	if got != nil {
		s.w.mu.Lock()
		s.w.got = append(s.w.got, got.Receipt)
		s.w.mu.Unlock()
	}
	return got, err
}

// answer asks for the nth answer until it is there, whole, and at the price of a
// receipt's units.
func (s *shop) answer(n int) square.Receipt {
	w := s.w
	w.Helper()
	var got *wire.Signed
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if got, err = s.ask(n, nil); err == nil {
			break
		}
		if time.Now().After(end) {
			w.Fatalf("answer %d never came: %v", n, err)
		}
	}
	r, m := got.Receipt, w.lease(got.Receipt.Lease)
	if err := errors.Join(r.Charged(m.Rates), square.Within(m.Rates, m.Order.MaxRates)); err != nil {
		w.Errorf("answer %d: %v", n, err)
	}
	if w.stall.goods.times.Load() == 1 && r.Price != w.flow.Cost(n) {
		w.Errorf("answer %d cost %d, not %d", n, r.Price, w.flow.Cost(n))
	}
	return r
}

// sure waits until the buyer knows how the lanes of its leases stand.
func (w *town) sure() {
	w.Helper()
	w.until("the buyer knows how its lanes stand", func() bool {
		seats, err := w.shop.d.Seats(context.Background(), w.rules.Name(), func(*square.Offer) bool { return true })
		return err == nil && !slices.ContainsFunc(seats, func(s desk.Seat) bool { return s.Lanes > 0 && s.Free < s.Lanes })
	})
}

// known is the sum of all receipts that the buyer has, which are all right.
func (w *town) known() (sum uint64) {
	w.Helper()
	recs, _, err := w.shop.d.Receipts(context.Background(), desk.Filter{}, time.Time{}, 10_000)
	w.must(err)
	seen := map[square.Hash]bool{}
	for _, r := range recs {
		r, err := w.shop.d.Receipt(context.Background(), r.ID)
		w.must(err)
		w.judged(r.Evidence, w.lease(r.Evidence.Receipt.Lease))
		seen[r.ID] = true
		sum += r.Evidence.Receipt.Price
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.got {
		if id := r.Digest(w.domain); !seen[id] {
			seen[id] = true
			sum += r.Price
		}
	}
	return sum
}

// settle has the buyer end all its leases, and returns what they paid.
func (w *town) settle() (paid uint64) {
	w.Helper()
	w.until("all leases have ended", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_ = w.shop.d.CloseAll(ctx) // where it is not agreed on, with notice
		cancel()
		if slices.ContainsFunc(w.leases(), func(m market.Lease) bool { return !m.State.Terminal() }) {
			if w.stall.inside.Load() == nil || w.stall.s.Owed() == 0 { // who is there has redeemed
				w.hurry(market.Draining)
			}
			return false
		}
		return true
	})
	return w.even()
}

// exact is that the leases have paid what the buyer has receipts for, and nothing else.
func (w *town) exact() {
	w.Helper()
	if paid, known := w.settle(), w.known(); paid != known {
		w.Errorf("paid %d for receipts of %d", paid, known)
	}
}

// askedAtOnce: some at once, and some after them: each is worked at once, and paid by
// one lease that ends as both agree.
func askedAtOnce(w *town) {
	var asking sync.WaitGroup
	for n := range 6 {
		asking.Go(func() { w.shop.answer(n) })
	}
	asking.Wait()
	w.shop.answer(6)
	w.exact()
	var cost uint64
	for n := range 7 {
		cost += w.flow.Cost(n)
	}
	leases := w.leases()
	if got := w.known(); got != cost || len(leases) != 1 || leases[0].Reason != market.ReasonAgreed {
		w.Errorf("receipts of %d for answers that cost %d: %+v", got, cost, leases)
	}
	if n := w.stall.goods.works.Load(); n != 7 {
		w.Errorf("worked %d times", n)
	}
}

// usedUp: what a lease promises is never more than it holds; when it is used up another
// is opened.
func usedUp(w *town) {
	w.shop.stop()
	w.shop.cfg.Escrow = 2 * w.flow.JobValue
	w.shop.open()
	for n := range 12 {
		w.shop.answer(n)
	}
	w.exact()
	if n := len(w.leases()); n < 2 {
		w.Errorf("%d leases", n)
	}
}

// paid is a heard call that pays.
func (w *town) paid(c call) (p wire.Payment) {
	w.Helper()
	w.must(json.Unmarshal(c.body, &p))
	if p.Voucher.Channel.IsZero() {
		w.Fatalf("a call of %s has no payment at the top of its body", c.path)
	}
	return p
}

// own are the heard calls of the trade's own that pay for something.
func (b *stall) own() (out []call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		if strings.Contains(c.path, "/") && json.Valid(c.body) && strings.Contains(string(c.body), `"voucher"`) {
			out = append(out, c)
		}
	}
	return out
}

// replayed: whoever has heard a call says it again, to its seller and to another; the
// ledger is shown the same quote, voucher and consent again. Nothing is worked, charged
// or paid twice.
func replayed(w *town) {
	first := w.shop.answer(0)
	w.shop.answer(1)
	w.shop.answer(2)
	w.stall.mu.Lock()
	calls := slices.Clone(w.stall.calls)
	w.stall.mu.Unlock()
	works, charged := w.stall.goods.works.Load(), w.stall.s.Stats().Charged
	other := newStall(w)
	for _, c := range calls {
		w.stall.again(c)
		if code, reply := other.again(c); code < 400 {
			w.Errorf("%s was said to another seller: %d %s", c.path, code, reply)
		}
	}
	if n, sum := w.stall.goods.works.Load(), w.stall.s.Stats().Charged; n != works || sum != charged {
		w.Errorf("said again: worked %d times, not %d, charged %d, not %d", n, works, sum, charged)
	}
	m := w.lease(first.Lease)
	quotes := w.stall.heard("quote")
	var q wire.QuoteReply
	var asked wire.QuoteRequest
	w.must(json.Unmarshal(quotes[0].reply, &q))
	w.must(json.Unmarshal(quotes[0].body, &asked))
	if err := w.shop.account.Open(w.Context(), asked.Order, q.Quote, q.Sig); err == nil {
		w.Error("the same order was opened twice")
	}
	w.until("it is redeemed", func() bool { return w.stall.s.Owed() == 0 })
	before := w.lease(m.ID).Paid
	for _, c := range w.stall.own() {
		if p := w.paid(c); p.Lane == first.Lane {
			_ = w.stall.account.Redeem(w.Context(), p.Lease, []chain.Claim{{Lane: p.Lane, Amount: first.Price, Voucher: p.Voucher}})
		}
	}
	if after := w.lease(m.ID).Paid; after != before {
		w.Errorf("vouchers that were redeemed are redeemed again: paid %d, then %d", before, after)
	}
	w.exact()
	var ok wire.CloseReply
	for _, c := range w.stall.heard("close") {
		if json.Unmarshal(c.reply, &ok) == nil && c.code < 400 {
			if err := w.shop.account.Close(w.Context(), m.ID, &chain.Consent{Paid: w.lease(m.ID).Paid, Sig: ok.Sig}); err == nil {
				w.Error("the same lease was closed twice")
			}
		}
	}
}

// spentTwice: who orders of two sellers at once for more than it has gets one lease, and
// is told why there is no other; one seller does not even quote twice for the same money.
func spentTwice(w *town) {
	other := &shop{w: w, owner: w.shop.owner, account: w.shop.account}
	other.begin(w.newKey())
	for _, s := range []*shop{w.shop, other} {
		s.stop()
		s.cfg.Escrow = purse/2 + 1
		s.open()
		w.until("the offer is seen", s.sees)
	}
	var second, third error
	w.shop.on("before open", func() { // with a quote in hand
		_, second = other.ask(1, nil)
		newStall(w)
		w.until("two offers are seen", func() bool {
			_ = other.d.Refresh(context.Background(), time.Millisecond)
			return other.seats() == 2
		})
		_, third = other.ask(2, nil)
	})
	_, first := w.shop.ask(0, nil)
	if second == nil || !strings.Contains(second.Error(), "quotes not used yet") {
		w.Errorf("of the same seller, at once: %v", second)
	}
	if third != nil || !errors.Is(first, desk.ErrFunds) {
		w.Errorf("of two sellers at once: %v; %v", third, first)
	}
	if n := len(w.leases()); n != 1 {
		w.Errorf("%d leases were opened with money for one", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.must(other.d.CloseAll(ctx))
	w.exact()
}

// sees reports whether the shop has seen an offer.
func (s *shop) sees() bool { return s.seats() > 0 }

func (s *shop) seats() int {
	seats, err := s.d.Seats(context.Background(), s.w.rules.Name(), func(*square.Offer) bool { return true })
	s.w.must(err)
	return len(seats)
}

// sellerForgets: a seller whose disk is lost loses what it has not redeemed, and nobody
// else does; it is asked on.
func sellerForgets(w *town) {
	first := w.shop.answer(0)
	w.stall.die()
	w.stall.path = filepath.Join(w.TempDir(), "seller.db")
	w.stall.open()
	w.shop.answer(1)
	w.lost(first.Price)
}

// chargeForgotten: a seller whose machine dies before a charge is on its disk has lost
// that one, and no more.
func chargeForgotten(w *town) {
	w.shop.answer(0)
	w.stall.forgets.Store(true)
	gone := w.shop.answer(1)
	w.stall.die()
	w.stall.forgets.Store(false)
	w.stall.open()
	w.shop.answer(2)
	w.lost(gone.Price)
}

// lost is that the leases paid what the buyer has receipts for, but for so much that the
// seller may have lost by its own fault.
func (w *town) lost(most uint64) {
	w.Helper()
	if paid, known := w.settle(), w.known(); paid > known || known-paid > most {
		w.Errorf("paid %d for receipts of %d: at most %d may be lost", paid, known, most)
	}
}

// buyerSilent: who has its answers, and is never heard again, has paid for them before
// silence ends the lease; when it comes back it buys on.
func buyerSilent(w *town) {
	first := w.shop.answer(0)
	w.shop.stop()
	w.until("it is redeemed", func() bool {
		if m := w.lease(first.Lease); w.stall.s.Owed() > 0 {
			if ahead := m.Deadline - 30 - w.now(); ahead > 0 { // within its notice
				w.l.Pass(time.Duration(ahead) * time.Second)
			}
			return false
		}
		return true
	})
	w.end(first.Lease)
	w.until("the lease has ended", func() bool {
		w.hurry(market.Draining)
		return w.lease(first.Lease).State.Terminal()
	})
	if m := w.lease(first.Lease); m.Paid != first.Price {
		w.Errorf("it ended %s, paid %d: the answer cost %d", m.Reason, m.Paid, first.Price)
	}
	w.shop.open()
	if next := w.shop.answer(1); next.Lease == first.Lease {
		w.Error("it was answered on a lease that has ended")
	}
	w.exact()
}

// onCredit: an open lease serves on while no block comes, for as much as one answer may
// cost and no more; then what is owed is redeemed.
func onCredit(w *town) {
	w.shop.answer(0)
	w.still.Store(true)
	var owed uint64
	for n := range 100 {
		if _, err := w.shop.ask(n+1, nil); err != nil {
			break
		}
		owed = w.stall.s.Owed()
	}
	if owed == 0 || owed > w.flow.JobValue {
		w.Errorf("while the ledger stood still %d were owed: an answer may cost %d", owed, w.flow.JobValue)
	}
	w.still.Store(false)
	w.shop.answer(101)
	w.exact()
}

// sellerSilent: a seller that is never heard again has what it has redeemed, and the
// buyer all else.
func sellerSilent(w *town) {
	w.shop.answer(0)
	w.stall.die()
	if _, err := w.shop.ask(1, nil); err == nil {
		w.Error("who is dead has answered")
	}
	paid, known := w.settle(), w.known()
	if paid > known {
		w.Errorf("paid %d for receipts of %d", paid, known)
	}
}

// stolen: a seller that takes vouchers and gives nothing gets one voucher, whatever is
// asked of it, and can make no more of it than it says.
func stolen(w *town) {
	w.shop.answer(0)
	before := len(w.stall.own())
	w.stall.steals.Store(true)
	for n := range 4 {
		if _, err := w.shop.ask(n+1, nil); err == nil {
			w.Error("who gave nothing has answered")
		}
	}
	taken := w.stall.own()[before:]
	if len(taken) == 0 {
		w.Fatal("no voucher was taken")
	}
	p := w.paid(taken[0])
	for _, c := range taken {
		if q := w.paid(c); q.Voucher != p.Voucher {
			w.Errorf("a second voucher of %d on lane %d, after one of %d on lane %d", q.Voucher.Max, q.Lane, p.Voucher.Max, p.Lane)
		}
	}
	w.until("the thief has redeemed it", func() bool {
		return w.stall.account.Redeem(w.Context(), p.Lease, []chain.Claim{{Lane: p.Lane, Amount: p.Voucher.Max, Voucher: p.Voucher}}) == nil
	})
	if paid, known, most := w.settle(), w.known(), w.flow.Cost(1); paid > known+most {
		w.Errorf("a thief was paid %d, by a buyer with receipts of %d: one voucher is for %d", paid, known, most)
	}
}

// stopped: who wants no more in the middle of an answer pays for what it was given.
func stopped(w *town) {
	w.until("the offer is seen", w.shop.sees)
	pieces := 0
	got, err := w.shop.ask(0, func() error {
		if pieces++; pieces == 4 {
			return errors.New("enough")
		}
		return nil
	})
	w.must(err)
	if got == nil || got.Receipt.Price == 0 || got.Receipt.Price > w.flow.Cost(0) {
		w.Errorf("an answer that was stopped after %d pieces: %+v", pieces, got)
	}
	w.exact()
}

// cut: where the line breaks in the middle of an answer, its buyer finds out what it
// was charged, and that is paid.
func cut(w *town) {
	w.shop.answer(0)
	w.stall.cuts.Store(true)
	pieces := 0
	if _, err := w.shop.ask(1, func() error { pieces++; return nil }); err == nil {
		w.Error("an answer whose line broke is whole")
	}
	w.stall.cuts.Store(false)
	if pieces == 0 {
		w.Error("nothing came before the line broke")
	}
	w.sure()
	w.shop.answer(2)
	w.exact()
}

// lied: an answer that is another is found out; its seller loses bond, and is asked no
// more.
func lied(w *town) {
	w.stall.die()
	w.stall.goods.lies.Store(true)
	w.stall.cfg.BondTimes = 1 // the law has most work done again
	w.stall.open()
	w.until("the offer is seen", w.shop.sees)
	const draws = 60
	n, err := 0, error(nil)
	for ; n < draws && err == nil; n++ {
		_, err = w.shop.ask(n, nil)
	}
	if err == nil {
		w.Fatalf("%d wrong answers were not found out", draws)
	}
	w.until("it is slashed", func() bool { return w.leases()[0].State == market.Slashed })
	m := w.leases()[0]
	if m.Reason != market.ReasonFraud {
		w.Errorf("it ended %s (%s)", m.State, m.Reason)
	}
	if _, err := w.shop.ask(n, nil); err == nil {
		w.Error("it was asked again")
	}
	if buyer, seller := w.balances(1); buyer < purse-m.Paid || seller >= purse+m.Paid {
		w.Errorf("the buyer has %d, the seller %d: both had %d, and %d was paid", buyer, seller, uint64(purse), m.Paid)
	}
}

// refused is that an answer is refused by who has paused.
func (w *town) refused(n int) {
	w.Helper()
	if _, err := w.shop.ask(n, nil); !errors.Is(err, desk.ErrPaused) && !errors.Is(err, desk.ErrNoProvider) && !errors.Is(err, desk.ErrProvider) {
		w.Errorf("asked who has paused: %v", err)
	}
}

// paused: no new work, by name; what runs is done and paid; and on it goes.
func paused(w *town) {
	w.shop.answer(0)
	release := w.stall.goods.hold()
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := w.shop.ask(1, nil); err != nil {
			w.Errorf("what ran when it paused: %v", err)
		}
	})
	w.until("it works", func() bool { return w.stall.goods.works.Load() == 2 })
	w.must(w.stall.s.SetControl(seller.Control{Paused: true}))
	w.refused(2)
	release()
	asking.Wait()
	w.until("its offer is withdrawn", func() bool { return w.count("withdraw") > 0 })
	w.refused(3)
	w.stall.die()
	w.stall.open() // and is still paused
	if !w.stall.s.Control().Paused {
		w.Error("a restart has ended the pause")
	}
	w.refused(4)
	w.must(w.stall.s.SetControl(seller.Control{}))
	w.shop.answer(5)
	w.exact()
}

// crowded: who starts again with fewer places than the lanes that are leased works at no
// more at once, and who finds no place is charged nothing.
func crowded(w *town) {
	w.shop.answer(0) // a lease of four lanes
	w.stall.die()
	w.stall.goods.places.Store(1)
	w.stall.open()
	w.shop.answer(1)
	release := w.stall.goods.hold()
	var asking sync.WaitGroup
	var mu sync.Mutex
	answered, busy := 0, 0
	for n := range 3 {
		asking.Go(func() {
			_, err := w.shop.ask(2+n, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answered++
			case errors.Is(err, desk.ErrBusy), errors.Is(err, desk.ErrProvider):
				busy++
			default:
				w.Errorf("where there is no place: %v", err)
			}
		})
	}
	w.until("who finds no place is told so", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return busy == 2
	})
	release()
	asking.Wait()
	if answered != 1 {
		w.Errorf("%d were answered with one place", answered)
	}
	w.shop.answer(6)
	w.exact()
	if n := w.stall.goods.works.Load(); n != 4 {
		w.Errorf("worked %d times", n)
	}
}

// dearer: rates that change between a quote and its lease, or later, are not those of
// the lease: answers cost what was agreed on until there is another.
func dearer(w *town) {
	change := func() {
		w.stall.goods.times.Add(1)
		w.must(w.stall.s.Refresh(context.Background()))
		w.must(w.stall.s.PostOffers(context.Background()))
	}
	w.shop.on("before open", change)
	first := w.shop.answer(0)
	rates := w.lease(first.Lease).Rates
	change()
	next := w.shop.answer(1)
	if next.Lease != first.Lease || next.Charged(rates) != nil {
		w.Errorf("after a change of rates: %+v", next)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.must(w.shop.d.CloseAll(ctx))
	w.until("the new rates are known", func() bool {
		seats, err := w.shop.d.Seats(ctx, w.rules.Name(), func(o *square.Offer) bool { return o.Rates[0].PerMillion > rates[0].PerMillion })
		return err == nil && len(seats) == 1
	})
	last := w.shop.answer(2)
	if last.Lease == first.Lease || w.lease(last.Lease).Rates[0].PerMillion <= rates[0].PerMillion {
		w.Errorf("a new lease has the rates %v, the old one %v", w.lease(last.Lease).Rates, rates)
	}
	w.exact()
}

// sellerFull: who cannot write down what it is promised works for nobody, and what it
// cannot write down that it has charged it has not charged.
func sellerFull(w *town) {
	w.shop.answer(0)
	w.stall.full.Store(true)
	if _, err := w.shop.ask(1, nil); err == nil || errors.Is(err, desk.ErrUnknown) {
		w.Errorf("asked who has no disk: %v", err)
	}
	w.stall.full.Store(false)
	release := w.stall.goods.hold()
	stored := make(chan struct{})
	w.stall.on("after provider.lanes", func() { close(stored) })
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := w.shop.ask(2, nil); err == nil {
			w.Error("an answer came with a receipt that its seller does not have")
		}
	})
	<-stored
	w.stall.full.Store(true)
	release()
	asking.Wait()
	w.stall.full.Store(false)
	w.sure()
	w.shop.answer(3)
	w.exact()
}

// buyerFull: nothing is asked for that would be forgotten, and a receipt that cannot be
// kept is paid all the same.
func buyerFull(w *town) {
	w.shop.answer(0)
	works := w.stall.goods.works.Load()
	w.shop.full.Store(true)
	if _, err := w.shop.ask(1, nil); err == nil || w.stall.goods.works.Load() != works {
		w.Errorf("asked without a disk: %v", err)
	}
	w.shop.full.Store(false)
	release := w.stall.goods.hold()
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := w.shop.ask(2, nil); err != nil {
			w.Errorf("an answer whose receipt cannot be kept: %v", err)
		}
	})
	w.until("it works", func() bool { return w.stall.goods.works.Load() == works+1 })
	w.shop.full.Store(true)
	release()
	asking.Wait()
	w.shop.full.Store(false)
	w.shop.answer(3)
	w.exact()
}

// midway has f called in the middle of the next answer.
func (g *goods) midway(f func()) {
	at := g.pieces.Load() + 5
	var once sync.Once
	stop := func() {
		if g.pieces.Load() >= at {
			once.Do(f)
		}
	}
	g.stops.Store(&stop)
}

// streamDeath is a point at which a process dies.
type streamDeath struct {
	fresh bool // before there is a lease
	set   func(w *town, die func())
	// does brings it about; nil: a question.
	does func(*town)
}

func closeAll(w *town) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = w.shop.d.CloseAll(ctx)
}

// redeemed has so much owed that it is redeemed.
func redeemed(w *town) {
	for n := range 3 {
		_, _ = w.shop.ask(20+n, nil)
	}
}

var streamSellerDeaths = map[string]streamDeath{
	"quoted":     {true, func(w *town, die func()) { w.shop.on("before open", die) }, nil},
	"opened":     {true, func(w *town, die func()) { w.shop.on("after open", die) }, nil},
	"paid":       {false, func(w *town, die func()) { w.stall.on("after provider.lanes", die) }, nil},
	"mid stream": {false, func(w *town, die func()) { w.stall.goods.midway(die) }, nil},
	"made":       {false, func(w *town, die func()) { w.stall.on("before provider.answers", die) }, nil},
	"charged":    {false, func(w *town, die func()) { w.stall.on("after provider.answers", die) }, nil},
	"redeeming":  {false, func(w *town, die func()) { w.stall.on("before redeem", die) }, redeemed},
	"redeemed":   {false, func(w *town, die func()) { w.stall.on("after redeem", die) }, redeemed},
	"agreed":     {false, func(w *town, die func()) { w.stall.on("after call close", die) }, closeAll},
}

// streamSellerDies: at whatever point, both sides know what was charged when it is back,
// that is paid and nothing else, and on it goes.
func streamSellerDies(w *town, at streamDeath) {
	w.die(at, w.stall.kill)
	w.stall.die()
	w.stall.open()
	w.sure()
	w.shop.answer(10)
	w.exact()
}

// die brings a death about.
func (w *town) die(at streamDeath, kill func()) {
	w.Helper()
	if !at.fresh {
		w.shop.answer(0)
	} else {
		w.until("the offer is seen", w.shop.sees)
	}
	died := make(chan struct{})
	at.set(w, func() { kill(); close(died) })
	if at.does != nil {
		at.does(w)
	} else {
		_, _ = w.shop.ask(1, nil) // who is killed hears no answer
	}
	select {
	case <-died:
	case <-time.After(patience):
		w.Fatal("nobody has come to where it was to die")
	}
}

var streamBuyerDeaths = map[string]streamDeath{
	"before open":    {true, func(w *town, die func()) { w.shop.on("before open", die) }, nil},
	"after open":     {true, func(w *town, die func()) { w.shop.on("after open", die) }, nil},
	"paid":           {false, func(w *town, die func()) { w.shop.on("after desk.lanes pending", die) }, nil},
	"mid stream":     {false, func(w *town, die func()) { w.stall.goods.midway(die) }, nil},
	"before receipt": {false, func(w *town, die func()) { w.shop.on("before desk.lanes", die) }, nil},
	"after receipt":  {false, func(w *town, die func()) { w.shop.on("after desk.lanes", die) }, nil},
	"before close":   {false, func(w *town, die func()) { w.shop.on("before close", die) }, closeAll},
	"after close":    {false, func(w *town, die func()) { w.shop.on("after close", die) }, closeAll},
}

// streamBuyerDies: at whatever point, it knows what it owes when it is back, pays that
// and nothing else, forgets no lease, and buys on.
func streamBuyerDies(w *town, at streamDeath) {
	w.die(at, w.shop.kill)
	w.shop.stop()
	// What its last life was told is lost with it, but for what is on its disk.
	w.mu.Lock()
	w.got = nil
	w.mu.Unlock()
	w.shop.open()
	w.sure()
	w.shop.answer(10)
	w.l.Pass(2 * wait) // an order that never reached the ledger is given up
	w.exact()
	w.until("nothing is kept of leases that are over", func() bool { return len(w.shop.d.Standing()) == 0 })
}
