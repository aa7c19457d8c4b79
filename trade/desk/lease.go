package desk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// settleOpening finds out what became of a lease that was being opened.
func (d *Desk) settleOpening(ctx context.Context, l *lease, now time.Time) error {
	m, err := d.cfg.Ledger.Lease(ctx, l.id)
	gone := errors.Is(err, market.ErrNotFound) && now.Unix() > l.rec.Order.Expiry+5
	if err != nil && !gone {
		return fmt.Errorf("lease %s: %w", l.id.Short(), err)
	}
	m = d.clock.Dated(m)
	d.mu.Lock()
	rec := l.rec
	switch {
	case gone || m.State.Terminal():
		rec.Phase = over
	case m.State == market.Active:
		rec.Phase, rec.Ends, rec.Bond, rec.Rates = standing, m.Ends, m.Bonded, m.Rates
	case m.State == market.Draining:
		rec.Phase, rec.Ends = closing, m.Ends
	}
	was := l.rec.Phase
	l.rec, l.until = rec, m.Deadline
	if was == opening && rec.Phase == standing {
		s := d.seat(rec.seat())
		s.leases = append(s.leases, l)
		d.notify()
	}
	d.mu.Unlock()
	return d.saveLease(l.id, rec)
}

// Run does the chores until ctx ends: it reads offers, renews, closes and
// prunes leases, asks after lanes whose last request ended without a word, audits,
// and sees orders through.
func (d *Desk) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { d.auditor(ctx) })
	beside.Go(func() { d.foreman(ctx) })
	tick := time.NewTimer(0)
	defer tick.Stop()
	var prune time.Time
	for {
		d.chores(ctx)
		tick.Reset(d.pace())
		if time.Now().After(prune) {
			prune = time.Now().Add(time.Minute)
			if err := d.prune(); err != nil {
				d.cfg.Log.Warn("receipts could not be pruned", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.kick:
		}
	}
}

// pace is how long the chores may rest. A desk that knows no provider yet looks
// often: a new square's first offer is a block away.
func (d *Desk) pace() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.seats) == 0 {
		return 50 * time.Millisecond
	}
	return time.Second
}

func (d *Desk) chores(ctx context.Context) {
	// A ledger that hangs must not hang the chores that do without it.
	lctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	_, err := d.clock.Refresh(lctx)
	if err == nil {
		err = d.list(lctx, min(d.cfg.Refresh, d.pace()*5))
	}
	cancel()
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Debug("ledger does not answer", "err", err)
	}
	now, err := d.clock.Now(ctx)
	if err != nil {
		return
	}
	d.mu.Lock()
	leases := make([]*lease, 0, len(d.leases))
	for _, l := range d.leases {
		leases = append(leases, l)
	}
	type renewal struct {
		*seat
		square.Policy
	}
	var renew []renewal
	for _, s := range d.seats {
		for _, p := range []square.Policy{square.PolicyNone, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve} {
			if d.wants(s, p, now) {
				s.openings(p, false).opening = true
				renew = append(renew, renewal{s, p})
			}
		}
	}
	d.mu.Unlock()
	for _, r := range renew {
		octx, cancel := context.WithTimeout(ctx, 30*time.Second)
		if err := d.open(octx, r.seat, r.Policy, 0); err != nil && ctx.Err() == nil {
			d.mu.Lock()
			if at := time.Now().Add(5 * time.Second); r.openings(r.Policy, false).retry.Before(at) {
				r.openings(r.Policy, false).retry = at
			}
			d.mu.Unlock()
		}
		cancel()
	}
	for _, l := range leases {
		d.tend(ctx, l, now)
	}
}

// wants reports whether a lease should be opened on a seat under a policy before
// a request needs it: the last one is nearly used up. Callers hold d.mu.
func (d *Desk) wants(s *seat, p square.Policy, now time.Time) bool {
	t := s.openings(p, false)
	if t.opening || s.shunned > now.Unix() || time.Now().Before(t.retry) || s.offer.Trade == "" || s.offer.Expiry <= now.Unix() || d.trades[s.key.trade].Rates(s.offer, p) == nil {
		return false
	}
	leases := s.under(p)
	if len(leases) == 0 {
		return s.key.provider == d.cfg.Own && p == d.cfg.Policy && d.streams(s, p)
	}
	l := leases[len(leases)-1]
	return l.rec.Phase == standing && l.charged() > 0 && d.worn(l, now)
}

// streams reports whether the seat's trade is sold in streams: of results each is an
// order of its own.
func (d *Desk) streams(s *seat, p square.Policy) bool {
	t := d.trades[s.key.trade]
	return t.CheckOrder(square.Order{Trade: s.key.trade, Mode: square.ModeStream, Spec: s.offer.Spec, Denom: s.offer.Denom, MaxRates: t.Rates(s.offer, p), Policy: p}) == nil
}

// worn reports whether a lease is nearly used up: a quarter of its escrow or a
// fifth of its time is left.
func (d *Desk) worn(l *lease, now time.Time) bool {
	life := time.Duration(l.rec.Order.Duration) * time.Second
	return l.promised() > l.rec.Order.Escrow/4*3 || time.Unix(l.rec.Ends, 0).Sub(now) < max(life/5, l.margin()+2*time.Second)
}

// tend looks after one lease.
func (d *Desk) tend(ctx context.Context, l *lease, now time.Time) {
	d.mu.Lock()
	rec := l.rec
	s := d.seat(rec.seat())
	wait := time.Now().Before(l.retry)
	if rec.Phase == standing {
		same := s.under(rec.Order.Policy)
		i := slices.Index(same, l)
		newer := i >= 0 && i < len(same)-1
		ended := !l.lasts(now, 0)
		empty := rec.Order.Escrow-l.promised() < rec.Order.JobValue
		if ended || empty || newer && d.worn(l, now) || s.shunned > now.Unix() {
			rec.Phase, l.rec.Phase = retiring, retiring
			s.leases = slices.DeleteFunc(s.leases, func(x *lease) bool { return x == l })
			d.notify()
		}
	}
	var stuck []*lane
	busy := false
	for _, ln := range l.lanes {
		busy = busy || ln.busy
		if !ln.busy && !ln.lost && ln.rec.Pending != nil && time.Now().After(ln.retry) {
			stuck = append(stuck, ln)
		}
	}
	d.mu.Unlock()

	reached := true
	for _, ln := range stuck {
		if !reached {
			break // the others of a provider that does not answer can wait
		}
		d.mu.Lock()
		free := !ln.busy && ln.rec.Pending != nil
		ln.busy = ln.busy || free
		d.mu.Unlock()
		if free {
			rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			if _, err := d.resync(rctx, held{l, ln}); err != nil && ctx.Err() == nil {
				reached = false
				d.cfg.Log.Debug("lane is still unknown", "lease", l.id.Short(), "lane", ln.n, "err", err)
			}
			cancel()
			d.release(held{l, ln})
		}
	}
	switch {
	case wait || busy:
	case rec.Phase == opening:
		d.again(l, d.settleOpening(ctx, l, now))
	case rec.Phase == retiring && len(stuck) == 0:
		d.again(l, d.finish(ctx, l, false))
	case rec.Phase == closing:
		d.again(l, d.watch(ctx, l, now))
	case rec.Phase == standing:
		d.again(l, d.glance(ctx, l))
	case rec.Phase == over:
		d.mu.Lock()
		never := l.unknown()
		d.mu.Unlock()
		if never { // it kept a voucher and never accounted for it
			d.shun(s.key, d.cfg.Shun)
		}
		d.forget(ctx, l)
	}
}

// again spaces what is done about a lease.
func (d *Desk) again(l *lease, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.retry = time.Now().Add(2 * time.Second)
	if err == nil {
		l.tries = 0
	} else {
		l.tries++
		l.retry = time.Now().Add(min(time.Second<<min(l.tries, 5), 30*time.Second))
		d.cfg.Log.Debug("lease needs another try", "lease", l.id.Short(), "phase", l.rec.Phase, "err", err)
	}
}

// glance sees whether a standing lease still stands on the ledger.
func (d *Desk) glance(ctx context.Context, l *lease) error {
	m, err := d.cfg.Ledger.Lease(ctx, l.id)
	if err != nil {
		// Not found as well: the ledger remembers leases long after their end, so
		// what answers is not (yet) the whole ledger.
		return err
	}
	switch {
	case m.State.Terminal():
		return d.move(l, over)
	case m.State == market.Draining:
		return d.move(l, closing)
	}
	m = d.clock.Dated(m)
	d.mu.Lock()
	l.until, l.rec.Ends = m.Deadline, m.Ends
	d.mu.Unlock()
	return nil
}

// move puts a lease into another phase; only a standing one is used.
func (d *Desk) move(l *lease, to phase) error {
	d.mu.Lock()
	l.rec.Phase = to
	rec := l.rec
	if to != standing {
		s := d.seat(rec.seat())
		s.leases = slices.DeleteFunc(s.leases, func(x *lease) bool { return x == l })
		d.notify()
	}
	d.mu.Unlock()
	return d.saveLease(l.id, rec)
}

// finish closes a retired lease: with the provider's consent at once, without
// it, after a few tries, with notice.
func (d *Desk) finish(ctx context.Context, l *lease, now bool) error {
	d.mu.Lock()
	paid, tries, waiting := l.charged(), l.tries, d.pending[l.id]
	rec := l.rec
	d.mu.Unlock()
	if waiting > 0 && !now {
		return nil // audits: only an open lease can be challenged
	}
	m, err := d.cfg.Ledger.Lease(ctx, l.id)
	switch {
	case err == nil && m.State.Terminal() || d.forgotten(ctx, l, err):
		return d.move(l, over)
	case err != nil:
		return err
	case m.State == market.Disputed:
		return nil
	}
	req := wire.CloseRequest{Lease: l.id, Paid: paid}
	var reply wire.CloseReply
	cctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	if m.Paid > paid {
		// It has redeemed more than it has signed for: no consent undoes that, and the
		// ledger takes none. The rest comes back with notice.
		err, tries = fmt.Errorf("it has redeemed %d and signed for %d", m.Paid, paid), 3
	} else if err = d.call(cctx, d.target(l, 0), "close", req, &reply); err == nil {
		err = square.VerifyClose(d.domain, rec.Provider, l.id, paid, reply.Sig)
	}
	cancel()
	if err != nil {
		if tries < 3 && !now {
			return fmt.Errorf("consent to close: %w", err)
		}
		if m.State == market.Draining {
			return d.move(l, closing)
		}
		d.cfg.Log.Warn("provider does not agree to close, giving notice", "lease", l.id.Short(), "provider", rec.Provider.String(), "err", err)
		if err := d.cfg.Ledger.Close(ctx, l.id, nil); err != nil {
			return err
		}
		return d.move(l, closing)
	}
	if err := d.cfg.Ledger.Close(ctx, l.id, &chain.Consent{Paid: paid, Sig: reply.Sig}); err != nil {
		// Closed twice at once, or the answer to the first closing was lost.
		if m, lerr := d.cfg.Ledger.Lease(ctx, l.id); lerr == nil && m.State.Terminal() {
			return d.move(l, over)
		}
		return fmt.Errorf("close: %w", err)
	}
	d.cfg.Log.Info("lease closed", "lease", l.id.Short(), "provider", rec.Provider.String(), "paid", paid)
	return d.move(l, over)
}

// forgotten reports whether the ledger does not know a lease any more. One whose
// time is not up it has not forgotten: what answers then is not the whole
// ledger.
func (d *Desk) forgotten(ctx context.Context, l *lease, err error) bool {
	if !errors.Is(err, market.ErrNotFound) {
		return false
	}
	now, cerr := d.clock.Now(ctx)
	return cerr == nil && now.Unix() > l.rec.Ends+int64(l.rec.Order.Drain)
}

// watch waits for the end of a lease that was given notice.
func (d *Desk) watch(ctx context.Context, l *lease, now time.Time) error {
	m, err := d.cfg.Ledger.Lease(ctx, l.id)
	if err == nil && m.State.Terminal() || d.forgotten(ctx, l, err) {
		return d.move(l, over)
	}
	if err == nil && now.Unix() > d.clock.Dated(m).Deadline+1 {
		err = d.cfg.Ledger.Poke(ctx, l.id)
	}
	return err
}

// forget drops a lease that is over; its receipts stay. What its provider took with
// vouchers and never accounted for was spent by those whose requests they paid.
func (d *Desk) forget(ctx context.Context, l *lease) {
	taken := uint64(math.MaxUint64) // as much as it could, where the ledger knows no more
	if m, err := d.cfg.Ledger.Lease(ctx, l.id); err == nil {
		taken = m.Paid - min(m.Paid, l.charged())
	} else if !errors.Is(err, market.ErrNotFound) {
		d.again(l, err)
		return
	}
	d.spending.Lock()
	defer d.spending.Unlock()
	d.mu.Lock()
	spent := map[string]uint64{}
	for _, ln := range l.lanes {
		if p := ln.rec.Pending; p != nil && p.Account != "" {
			part := min(p.Max-min(p.Max, ln.rec.Charged), taken)
			taken -= part
			spent[p.Account] += part
		}
	}
	for account := range spent {
		spent[account] += d.spent[account]
	}
	d.mu.Unlock()
	err := d.cfg.Store.Update(func(tx *bolt.Tx) error {
		for account, sum := range spent {
			if err := tx.Bucket([]byte(bucketSpent)).Put([]byte(account), binary.BigEndian.AppendUint64(nil, sum)); err != nil {
				return err
			}
		}
		for _, ln := range l.lanes {
			if err := tx.Bucket([]byte(bucketLanes)).Delete(laneKey(l.id, ln.n)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketLeases)).Delete(l.id[:])
	})
	if err != nil {
		d.cfg.Log.Warn("ended lease could not be dropped", "lease", l.id.Short(), "err", err)
		return
	}
	d.mu.Lock()
	maps.Copy(d.spent, spent)
	delete(d.leases, l.id)
	d.mu.Unlock()
}

// release gives a lane back.
func (d *Desk) release(h held) {
	d.mu.Lock()
	h.ln.busy, h.ln.talking = false, false
	d.notify()
	worn := false
	if s := d.seats[h.l.rec.seat()]; s != nil && !s.openings(h.l.rec.Order.Policy, false).opening {
		worn = h.l.promised() > h.l.rec.Order.Escrow/4*3
	}
	d.mu.Unlock()
	if worn {
		wake(d.kick)
	}
}

// CloseAll closes every lease, with the providers' consent where they give it,
// and returns when the ledger has been told of all. New requests open new
// leases; close the desk's doors first.
func (d *Desk) CloseAll(ctx context.Context) error {
	return d.closeLeases(ctx, func(*lease) bool { return true })
}

// CloseLease closes one lease, as CloseAll does. A lease that is not this
// desk's, or has ended, is market.ErrNotFound.
func (d *Desk) CloseLease(ctx context.Context, id square.Hash) error {
	found := false
	err := d.closeLeases(ctx, func(l *lease) bool {
		found = found || l.id == id
		return l.id == id
	})
	if err == nil && !found {
		err = fmt.Errorf("lease %s: no open lease of this buyer's: %w", id.Short(), market.ErrNotFound)
	}
	return err
}

func (d *Desk) closeLeases(ctx context.Context, which func(*lease) bool) error {
	d.mu.Lock()
	var open []*lease
	for _, l := range d.leases {
		if (l.rec.Phase == standing || l.rec.Phase == retiring) && which(l) {
			l.rec.Phase = retiring
			s := d.seat(l.rec.seat())
			s.leases = slices.DeleteFunc(s.leases, func(x *lease) bool { return x == l })
			open = append(open, l)
		}
	}
	d.notify()
	d.mu.Unlock()
	var failed []error
	for _, l := range open {
		for {
			d.mu.Lock()
			busy := slices.ContainsFunc(l.lanes, func(ln *lane) bool { return ln.busy })
			done := l.rec.Phase == over || l.rec.Phase == closing
			changed := d.changed
			d.mu.Unlock()
			if done {
				break
			}
			if !busy {
				if err := d.finish(ctx, l, true); err != nil {
					failed = append(failed, fmt.Errorf("lease %s: %w", l.id.Short(), err))
				}
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return errors.Join(append(failed, ctx.Err())...)
			}
		}
	}
	return errors.Join(failed...)
}
