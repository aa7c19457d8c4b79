package provider

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/chain"
)

// Run does the chores until ctx ends: it posts offers, adopts leases, and
// redeems.
//
// Money is redeemed when it has waited RedeemEvery or two fifths of the lease's
// T_idle, when more than MaxRisk of it waits, when the lease is draining or
// about to end, and at Close.
func (p *Provider) Run(ctx context.Context) error {
	tick := time.NewTicker(p.Tick)
	defer tick.Stop()
	var offerAt time.Time // no sooner; after a failure
	for {
		p.chores(ctx, &offerAt)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.kick:
		}
	}
}

func (p *Provider) wake() {
	select {
	case p.kick <- struct{}{}:
	default: // already awake
	}
}

func (p *Provider) chores(ctx context.Context, offerAt *time.Time) {
	if _, err := p.clock.Refresh(ctx); err != nil && ctx.Err() == nil {
		p.Log.Debug("ledger does not answer", "err", err)
	}
	now, err := p.clock.Now(ctx)
	if err != nil {
		return
	}
	if paused := p.Control().Paused; (paused || p.offersDue(now)) && time.Now().After(*offerAt) {
		does, what := p.PostOffers, "posted"
		if paused {
			does, what = p.withdrawOffers, "withdrawn"
		}
		if err := does(ctx); err != nil && ctx.Err() == nil {
			p.Log.Warn("offers could not be "+what, "err", err)
			*offerAt = time.Now().Add(min(p.OfferTTL/2, 5*p.Tick))
		}
	}
	p.adopt(ctx, now)
	for _, l := range p.open() {
		p.tend(ctx, l, now, false)
	}
	p.saveSteps()
}

// offersDue reports whether a service has no offer for the next half of
// OfferTTL.
func (p *Provider) offersDue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := 0
	for _, o := range p.offers {
		if p.services[o.Spec] != nil && o.Expiry > now.Add(p.OfferTTL/2).Unix() {
			fresh++
		}
	}
	return fresh < len(p.services)
}

func (p *Provider) open() []*lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*lease, 0, len(p.leases))
	for _, l := range p.leases {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *lease) int { return slices.Compare(a.id[:], b.id[:]) })
	return out
}

// risk is what was charged and not yet redeemed. Callers hold l.mu.
func (l *lease) risk() (sum uint64) {
	for _, ln := range l.lanes {
		sum += ln.rec.Charged - ln.rec.Redeemed
	}
	return sum
}

func (p *Provider) maxRisk(escrow uint64) uint64 {
	if p.MaxRisk > 0 {
		return p.MaxRisk
	}
	return escrow / 4
}

// tend looks after one lease: what the ledger says of it, and what it owes.
func (p *Provider) tend(ctx context.Context, l *lease, now time.Time, last bool) {
	if last || time.Now().After(l.lookAt) {
		l.lookAt = time.Now().Add(5 * p.Tick)
		p.look(ctx, l, now)
	}
	l.mu.Lock()
	if l.rec.State.Terminal() {
		l.mu.Unlock()
		if !l.overAt.IsZero() && time.Since(l.overAt) > time.Hour {
			p.forget(l)
		}
		return
	}
	risk := l.risk()
	every := min(p.RedeemEvery, time.Duration(l.rec.Order.Idle)*time.Second*2/5)
	due := last || time.Since(l.lastPaid) >= every || risk > p.maxRisk(l.rec.Order.Escrow) ||
		l.rec.State == market.Draining || !now.Before(time.Unix(l.rec.Until, 0).Add(-margin(l.rec.Order)))
	var claims []chain.Claim
	if risk > 0 && due && l.rec.State != market.Disputed && (last || time.Now().After(l.redeemAt)) {
		for n, ln := range l.lanes {
			if ln.rec.Charged > ln.rec.Redeemed {
				claims = append(claims, chain.Claim{Lane: n, Amount: ln.rec.Charged, Voucher: ln.rec.Voucher})
			}
		}
	}
	l.mu.Unlock()
	if len(claims) == 0 {
		return
	}
	slices.SortFunc(claims, func(a, b chain.Claim) int { return int(a.Lane) - int(b.Lane) })
	if err := p.Ledger.Redeem(ctx, l.id, claims); err != nil {
		// It may be on the ledger all the same: look before the next try.
		l.failures++
		l.redeemAt = time.Now().Add(min(p.Tick<<min(l.failures, 6), time.Minute))
		l.lookAt = time.Time{}
		if ctx.Err() == nil {
			p.Log.Warn("redemption failed, will try again", "lease", l.id.Short(), "waiting", risk, "tries", l.failures, "err", err)
		}
		return
	}
	l.failures, l.lastPaid, l.lookAt = 0, time.Now(), time.Time{}
	p.redeemed(l, claims)
	p.Log.Info("redeemed", "lease", l.id.Short(), "amount", risk, "lanes", len(claims))
}

// redeemed notes what was paid.
func (p *Provider) redeemed(l *lease, claims []chain.Claim) {
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
	l.mu.Unlock()
	if len(recs) == 0 {
		return
	}
	p.count(func(s *Stats) { s.Redeemed += paid })
	// The disk's copy of Redeemed only spares a look at the ledger, so it is
	// written into what is there: a charge may have been stored meanwhile.
	err := p.Store.Update(func(tx *bolt.Tx) error {
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
		p.Log.Warn("redemption could not be noted", "lease", l.id.Short(), "err", err)
	}
}

// look brings a lease's record up to date with the ledger.
func (p *Provider) look(ctx context.Context, l *lease, now time.Time) {
	m, err := p.Ledger.Lease(ctx, l.id)
	if errors.Is(err, market.ErrNotFound) {
		l.mu.Lock()
		until := l.rec.Until + int64(l.rec.Order.Drain)
		l.mu.Unlock()
		if now.Unix() <= until {
			// The ledger remembers leases long after their end: what answers is
			// not (yet) the whole ledger, and money waits in this lease.
			p.Log.Warn("the ledger does not know an open lease", "lease", l.id.Short())
			return
		}
		m = market.Lease{State: market.Settled, Reason: "forgotten"}
	} else if err != nil {
		return
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
	rec.Until = m.Deadline
	l.rec = rec
	lost := l.risk()
	l.mu.Unlock()
	p.redeemed(l, claims)
	if changed {
		p.Log.Info("lease changed", "lease", l.id.Short(), "state", m.State, "reason", m.Reason)
		if err := p.saveLease(l.id, rec); err != nil {
			p.Log.Warn("lease could not be noted", "lease", l.id.Short(), "err", err)
		}
	}
	p.answerChallenge(l, m)
	if m.State.Terminal() {
		if l.overAt.IsZero() {
			l.overAt = time.Now()
			p.book.end(Ended{Lease: l.id, Time: p.Now().UnixMilli(), State: m.State, Reason: m.Reason, Lost: lost})
			if lost > 0 && m.Reason != market.ReasonAgreed {
				p.Log.Error("lease ended with money unredeemed", "lease", l.id.Short(), "amount", lost, "reason", m.Reason)
			}
		}
		return
	}
	// What is past its deadline, anyone may move on; give others' pokes a moment.
	if m.Deadline > 0 && now.Unix() > m.Deadline+5 {
		if err := p.Ledger.Poke(ctx, l.id); err != nil && ctx.Err() == nil {
			p.Log.Debug("poke", "lease", l.id.Short(), "err", err)
		}
		l.lookAt = time.Time{}
	}
}

// forget drops a lease that ended long ago.
func (p *Provider) forget(l *lease) {
	l.mu.Lock()
	keys := make([][]byte, 0, len(l.lanes))
	for n := range l.lanes {
		keys = append(keys, laneKey(l.id, n))
	}
	l.mu.Unlock()
	err := p.Store.Update(func(tx *bolt.Tx) error {
		for _, k := range keys {
			if err := errors.Join(tx.Bucket([]byte(bucketLanes)).Delete(k), tx.Bucket([]byte(bucketAnswers)).Delete(k)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketLeases)).Delete(l.id[:])
	})
	if err != nil {
		p.Log.Warn("ended lease could not be dropped", "lease", l.id.Short(), "err", err)
		return
	}
	p.mu.Lock()
	delete(p.leases, l.id)
	p.mu.Unlock()
}

// Owed is what was charged and not redeemed yet, over all open leases.
func (p *Provider) Owed() (sum uint64) {
	for _, l := range p.open() {
		l.mu.Lock()
		if !l.rec.State.Terminal() {
			sum += l.risk()
		}
		l.mu.Unlock()
	}
	return sum
}

// Leases lists the leases that are open, for people.
func (p *Provider) Leases() []square.Hash {
	var out []square.Hash
	for _, l := range p.open() {
		l.mu.Lock()
		if !l.rec.State.Terminal() {
			out = append(out, l.id)
		}
		l.mu.Unlock()
	}
	return out
}

// Close refuses new requests, waits for those that run until ctx ends (then
// stops them, and still charges what they delivered), and redeems what is owed.
// Run must have returned.
func (p *Provider) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	idle := make(chan struct{})
	go func() { p.working.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		p.mu.Lock()
		for _, stop := range p.cancels {
			stop()
		}
		p.mu.Unlock()
		<-idle
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	now, err := p.clock.Now(ctx)
	if err != nil {
		return err
	}
	for _, l := range p.open() {
		p.tend(ctx, l, now, true)
	}
	p.saveSteps()
	if owed := p.Owed(); owed > 0 {
		return errors.New("some charges are not redeemed yet; start again with the same data folder before the leases go idle")
	}
	return nil
}
