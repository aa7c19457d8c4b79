package seller

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Bounds of how many leases are looked at, and redeemed, at once. A redemption
// that no block takes holds a place until it is given up.
const (
	maxLooks = 8
	maxPays  = 256
)

// feeLanes is for how many lanes a redemption is reckoned with.
const feeLanes = 4

// Run does the chores until ctx ends: it lists goods, posts offers, adopts leases, redeems,
// and takes back places that nobody uses while others want them.
//
// Redemption follows what may be lost. Work is done only while what
// waits to be redeemed, what may come of work that runs, and its own price
// are together within the lease's credit, which is its job value. At half of
// that it is redeemed, so that serving goes on meanwhile. It is redeemed as well
// when the lease drains, when its deadline is near (two thirds of Terms.Notice),
// at Close, and, where it is worth the fee twenty times over, every RedeemEvery.
// What a redemption would cost more than it brings is left.
//
// A lease is looked at every 5 ticks, at least six times in a notice. Leases are
// looked after side by side: one whose redemption takes long is not in the way
// of the others.
func (s *Seller) Run(ctx context.Context) error {
	tick := time.NewTicker(s.Tick)
	defer tick.Stop()
	defer s.tending.Wait()
	for {
		s.chores(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.kick:
		}
	}
}

func (s *Seller) wake() {
	select {
	case s.kick <- struct{}{}:
	default: // already awake
	}
}

func (s *Seller) chores(ctx context.Context) {
	if _, err := s.clock.Refresh(ctx); err != nil && ctx.Err() == nil {
		s.Log.Debug("ledger does not answer", "err", err)
	}
	now, err := s.clock.Now(ctx)
	if err != nil {
		return
	}
	s.readFee(ctx)
	// Money first.
	for _, l := range s.open() {
		if !l.due(s, now) || !l.tended.CompareAndSwap(false, true) {
			continue
		}
		s.tending.Go(func() {
			defer l.tended.Store(false)
			s.tend(ctx, l, now, false)
		})
	}
	failed, _ := s.offerAt.Load().(time.Time)
	if paused := s.Control().Paused; (paused || s.offersDue(now)) && time.Now().After(failed) {
		does, what := s.PostOffers, "posted"
		if paused {
			does, what = s.withdrawOffers, "withdrawn"
		}
		// In its own time: leases are looked after meanwhile.
		if s.posting.CompareAndSwap(false, true) {
			s.tending.Go(func() {
				defer s.posting.Store(false)
				if err := does(ctx); err != nil && ctx.Err() == nil {
					s.Log.Warn("offers could not be "+what, "err", err)
					s.offerAt.Store(time.Now().Add(min(s.OfferTTL/2, 5*s.Tick)))
				}
			})
		}
	}
	if at, _ := s.listed.Load().(time.Time); time.Since(at) > s.Discover && s.listing.CompareAndSwap(false, true) {
		s.tending.Go(func() {
			defer s.listing.Store(false)
			ctx, cancel := context.WithTimeout(ctx, s.Discover)
			defer cancel()
			if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
				s.Log.Warn("goods could not be listed", "err", err)
			}
		})
	}
	s.adopt(ctx, now)
	s.reclaim(ctx, now)
	s.saveSteps()
}

// readFee finds out what a redemption costs now; while the ledger does not answer
// it costs what it did.
func (s *Seller) readFee(ctx context.Context) {
	if fee, err := s.Ledger.Fee(ctx, feeLanes); err == nil {
		s.fee.Store(fee)
	}
}

// offersDue reports whether a good has no offer for the next half of
// OfferTTL.
func (s *Seller) offersDue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := 0
	for _, o := range s.offers {
		if s.goods[keyOf(o)] != nil && o.Expiry > now.Add(s.OfferTTL/2).Unix() {
			fresh++
		}
	}
	return fresh < len(s.goods)
}

func (s *Seller) open() []*lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*lease, 0, len(s.leases))
	for _, l := range s.leases {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *lease) int { return slices.Compare(a.id[:], b.id[:]) })
	return out
}

// risk is what vouchers cover of what was charged, and not yet redeemed. Callers
// hold l.mu.
func (l *lease) risk() (sum uint64) {
	for _, ln := range l.lanes {
		sum += ln.rec.vouched() - ln.rec.Redeemed
	}
	return sum
}

// owed is what was charged and not yet redeemed, and what may come of work that
// runs. Callers hold l.mu.
func (l *lease) owed() (sum uint64) {
	for _, ln := range l.lanes {
		sum += ln.rec.Charged - ln.rec.Redeemed + ln.most
	}
	return sum
}

// urgent reports whether money is to be redeemed now, or as soon as it may be.
// Of a zero time the deadlines are left out. Callers hold l.mu.
func (l *lease) urgent(s *Seller, now time.Time) bool {
	risk, fee := l.risk(), s.fee.Load()
	if risk <= fee || l.redeemable() == 0 {
		return false
	}
	near := !now.IsZero() && !now.Before(time.Unix(l.rec.Until, 0).Add(-2*s.Terms.reserve()))
	old := time.Since(l.lastPaid) >= s.RedeemEvery && risk/20 >= fee
	return near || old || l.rec.State != market.Active || risk > s.Terms.credit(l.order)/2 || l.starved
}

// redeemable is how much of a lease's escrow can be redeemed now: all, but what is
// disputed. Callers hold l.mu.
func (l *lease) redeemable() uint64 {
	switch l.rec.State {
	case market.Active, market.Draining, market.Disputed:
		return l.free
	}
	return 0
}

// claims are for what is charged and can be redeemed. Callers hold l.mu.
func (l *lease) claims() (out []chain.Claim) {
	left := l.redeemable()
	for n, ln := range l.lanes {
		if more := min(ln.rec.vouched()-ln.rec.Redeemed, left); more > 0 {
			left -= more
			out = append(out, chain.Claim{Lane: n, Amount: ln.rec.Redeemed + more, Voucher: ln.rec.Voucher})
		}
	}
	slices.SortFunc(out, func(a, b chain.Claim) int { return int(a.Lane) - int(b.Lane) })
	return out
}

// due reports whether a lease needs looking after.
func (l *lease) due(s *Seller, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().After(l.lookAt) || time.Now().After(l.redeemAt) && l.urgent(s, now)
}

// tend looks after one lease: what the ledger says of it, and what it owes.
func (s *Seller) tend(ctx context.Context, l *lease, now time.Time, last bool) {
	l.mu.Lock()
	look := last || time.Now().After(l.lookAt)
	l.mu.Unlock()
	if look {
		s.sight(ctx, l, now)
	}
	l.mu.Lock()
	if l.rec.State.Terminal() {
		over := l.overAt
		l.mu.Unlock()
		if !over.IsZero() && time.Since(over) > time.Hour {
			s.forget(l)
		}
		return
	}
	risk := l.risk()
	var claims []chain.Claim
	if last && risk > s.fee.Load() || time.Now().After(l.redeemAt) && l.urgent(s, now) {
		claims = l.claims()
	}
	l.mu.Unlock()
	if len(claims) == 0 {
		return
	}
	s.pays <- struct{}{}
	err := s.Ledger.Redeem(ctx, l.id, claims)
	<-s.pays
	if err != nil {
		// It may be on the ledger all the same: look before the next try.
		l.mu.Lock()
		l.failures++
		l.redeemAt = time.Now().Add(min(s.Tick<<min(l.failures, 6), s.Terms.reserve()/2))
		l.lookAt = time.Time{}
		tries := l.failures
		l.mu.Unlock()
		if ctx.Err() == nil {
			s.Log.Warn("redemption failed, will try again", "lease", l.id.Short(), "waiting", risk, "tries", tries, "err", err)
		}
		return
	}
	l.mu.Lock()
	l.failures, l.lastPaid, l.lookAt = 0, time.Now(), time.Time{}
	l.mu.Unlock()
	s.redeemed(l, claims)
	s.Log.Info("redeemed", "lease", l.id.Short(), "amount", risk, "lanes", len(claims))
}

// sight brings a lease's record up to date with the ledger, in its turn.
func (s *Seller) sight(ctx context.Context, l *lease, now time.Time) {
	s.looks <- struct{}{}
	defer func() { <-s.looks }()
	l.mu.Lock()
	l.lookAt = time.Now().Add(min(5*s.Tick, s.Terms.Notice/6))
	l.mu.Unlock()
	s.look(ctx, l, now)
}

// redeemed notes what was paid.
func (s *Seller) redeemed(l *lease, claims []chain.Claim) {
	l.mu.Lock()
	var paid uint64
	recs := map[uint16]laneRecord{}
	for _, c := range claims {
		ln := l.lanes[c.Lane]
		if ln != nil && c.Amount > ln.rec.Redeemed {
			paid += c.Amount - ln.rec.Redeemed
			ln.rec.Redeemed = c.Amount
			recs[c.Lane] = ln.rec
		}
	}
	l.starved = false
	l.ease()
	l.mu.Unlock()
	if len(recs) == 0 {
		return
	}
	s.count(func(s *Stats) { s.Redeemed += paid })
	// The disk's copy of Redeemed only spares a look at the ledger, so it is
	// written into what is there: a charge may have been stored meanwhile.
	err := s.Store.Update(func(tx *bolt.Tx) error {
		for n := range recs {
			key := laneKey(l.id, n)
			var rec laneRecord
			if json.Unmarshal(tx.Bucket([]byte(bucketLanes)).Get(key), &rec) != nil {
				continue
			}
			rec.Redeemed = recs[n].Redeemed
			if err := put(tx, bucketLanes, key, rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.Log.Warn("redemption could not be noted", "lease", l.id.Short(), "err", err)
	}
}

// look brings a lease's record up to date with the ledger.
func (s *Seller) look(ctx context.Context, l *lease, now time.Time) {
	m, err := s.Ledger.Lease(ctx, l.id)
	if errors.Is(err, market.ErrNotFound) {
		l.mu.Lock()
		until := l.rec.Until + int64(l.order.Drain)
		l.mu.Unlock()
		if now.Unix() <= until {
			// The ledger remembers leases long after their end: what answers is
			// not (yet) the whole ledger, and money waits in this lease.
			s.Log.Warn("the ledger does not know an open lease", "lease", l.id.Short())
			return
		}
		m = market.Lease{State: market.Settled, Reason: "forgotten", Deadline: now.Unix(), Ends: until}
	} else if err != nil {
		return
	} else {
		m = s.clock.Dated(m)
	}
	var claims []chain.Claim
	l.mu.Lock()
	for n, paid := range m.Lanes {
		if ln := l.lanes[uint16(n)]; ln != nil && paid > ln.rec.Redeemed && paid <= ln.rec.Charged {
			claims = append(claims, chain.Claim{Lane: uint16(n), Amount: paid})
		}
	}
	rec, changed := l.rec, m.State != l.rec.State
	rec.State = m.State
	rec.Until, rec.Ends = m.Deadline, m.Ends
	compared := !m.Agreed.IsZero() && !rec.Compared
	rec.Compared = rec.Compared || compared
	l.rec, l.free = rec, m.Escrow
	if m.State == market.Disputed && m.Dispute != nil {
		l.free -= min(l.free, m.Dispute.Value)
	}
	lost := l.risk()
	l.mu.Unlock()
	s.redeemed(l, claims)
	if changed || compared {
		s.Log.Info("lease changed", "lease", l.id.Short(), "state", m.State, "reason", m.Reason)
		if err := s.saveLease(l.id, rec); err != nil {
			s.Log.Warn("lease could not be noted", "lease", l.id.Short(), "err", err)
		}
	}
	s.answerChallenge(l, m)
	if changed && m.State == market.Settled && m.Order.Mode == square.ModeResult {
		s.count(func(s *Stats) { s.Redeemed += m.Paid })
	}
	if m.State.Terminal() {
		l.mu.Lock()
		first := l.overAt.IsZero()
		if first {
			l.overAt = time.Now()
		}
		l.mu.Unlock()
		if first {
			s.book.end(Ended{Lease: l.id, Time: s.Now().UnixMilli(), State: m.State, Reason: m.Reason, Lost: lost})
			if lost > 0 && m.Reason != market.ReasonAgreed {
				s.Log.Error("lease ended with money unredeemed", "lease", l.id.Short(), "amount", lost, "reason", m.Reason)
			}
		}
		return
	}
	if m.Order.Mode == square.ModeResult {
		s.advance(ctx, l, m, now)
	}
	// What is past its deadline, anyone may move on; give others' pokes a moment,
	// unless money waits for it.
	patience := int64(5)
	if lost > 0 {
		patience = 0
	}
	if m.Deadline > 0 && now.Unix() > m.Deadline+patience {
		if err := s.Ledger.Poke(ctx, l.id); err != nil && ctx.Err() == nil {
			s.Log.Debug("poke", "lease", l.id.Short(), "err", err)
		}
		l.mu.Lock()
		l.lookAt = time.Time{}
		l.mu.Unlock()
	}
}

// forget drops a lease that ended long ago.
func (s *Seller) forget(l *lease) {
	l.mu.Lock()
	keys := make([][]byte, 0, len(l.lanes))
	for n := range l.lanes {
		keys = append(keys, laneKey(l.id, n))
	}
	l.mu.Unlock()
	err := s.Store.Update(func(tx *bolt.Tx) error {
		for _, k := range keys {
			if err := errors.Join(tx.Bucket([]byte(bucketLanes)).Delete(k), tx.Bucket([]byte(bucketAnswers)).Delete(k)); err != nil {
				return err
			}
		}
		return errors.Join(tx.Bucket([]byte(bucketLeases)).Delete(l.id[:]),
			tx.Bucket([]byte(bucketJobs)).Delete(l.id[:]), tx.Bucket([]byte(bucketResults)).Delete(l.id[:]))
	})
	if err != nil {
		s.Log.Warn("ended lease could not be dropped", "lease", l.id.Short(), "err", err)
		return
	}
	s.mu.Lock()
	delete(s.leases, l.id)
	s.mu.Unlock()
}

// Owed is what was charged and not redeemed yet, over all open leases.
func (s *Seller) Owed() (sum uint64) {
	for _, l := range s.open() {
		l.mu.Lock()
		if !l.rec.State.Terminal() {
			sum += l.risk()
		}
		l.mu.Unlock()
	}
	return sum
}

// Leases lists the leases that are open, for people.
func (s *Seller) Leases() []square.Hash {
	var out []square.Hash
	for _, l := range s.open() {
		l.mu.Lock()
		if !l.rec.State.Terminal() {
			out = append(out, l.id)
		}
		l.mu.Unlock()
	}
	return out
}

// Close refuses new work, waits for what runs until ctx ends (then stops it, and
// what was delivered is still charged), and redeems what is owed
// where that brings more than its fee.
// Run must have returned.
func (s *Seller) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	idle := make(chan struct{})
	go func() { s.working.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		s.mu.Lock()
		for _, stop := range s.running {
			stop()
		}
		s.mu.Unlock()
		<-idle
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	now, err := s.clock.Now(ctx)
	if err != nil {
		return err
	}
	for _, l := range s.open() {
		s.tending.Go(func() { s.tend(ctx, l, now, true) })
	}
	s.tending.Wait()
	s.saveSteps()
	for _, l := range s.open() {
		l.mu.Lock()
		left := l.redeemable() > 0 && l.risk() > s.fee.Load()
		l.mu.Unlock()
		if left {
			return errors.New("some charges are not redeemed yet; start again with the same data folder before the leases go idle")
		}
	}
	return nil
}
