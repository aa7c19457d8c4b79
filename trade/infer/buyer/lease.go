package buyer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// stalled is how old the newest block is when no lease is opened any more.
const stalled = 15 * time.Second

func stall(err error) error {
	if errors.Is(err, ErrStalled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStalled, err)
}

// held is a lane in the hands of one request.
type held struct {
	l  *lease
	ln *lane
}

// patience is how long a request waits for word of another one from the same
// provider.
const patience = time.Second

// acquire takes a free lane of a lease on the seat, under the policy, that can
// still pay for a request of this price, and opens a lease where there is none.
func (d *Desk) acquire(ctx context.Context, s *seat, job meter.Job, policy square.Policy, maxCost uint64) (held, uint64, error) {
	timeout := time.NewTimer(d.cfg.Wait)
	defer timeout.Stop()
	for {
		now, err := d.clock.Now(ctx)
		if err != nil {
			return held{}, 0, stall(err)
		}
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return held{}, 0, errors.New("the desk is closed")
		}
		if s.shunned > now.Unix() {
			d.mu.Unlock()
			return held{}, 0, fmt.Errorf("provider %s was caught meanwhile: %w", s.key.provider, ErrProvider)
		}
		// A provider that has not said what became of a request gets no second
		// voucher: who cuts connections would earn one interval a lane. For the same
		// reason one that has never answered gets one request at a time.
		owing := d.owing(s.key)
		room := owing // some lease could pay, its lanes are busy
		for _, l := range s.under(policy) {
			if owing {
				break
			}
			if !l.lasts(now, s.takes(job)) {
				continue
			}
			price, err := square.Price(l.rec.Rates, job.Ceiling(l.rec.Context))
			if err != nil {
				d.mu.Unlock()
				return held{}, 0, err
			}
			if err := d.affordable(price, maxCost); err != nil {
				d.mu.Unlock()
				return held{}, 0, err
			}
			if price > l.rec.Order.JobValue {
				continue // it needs one that is made for more
			}
			left := l.rec.Order.Escrow - l.promised()
			for _, ln := range l.lanes {
				if ln.lost {
					continue
				}
				// A voucher that was signed and not used up still counts.
				more := max(ln.rec.Max, ln.rec.Charged+price) - ln.rec.Max
				if more > left {
					continue
				}
				room = true
				if !ln.busy && ln.rec.Pending == nil && (s.asked || !s.busy()) {
					ln.busy, ln.talking = true, true
					d.mu.Unlock()
					return held{l, ln}, price, nil
				}
			}
		}
		if !room {
			price, err := square.Price(infer.Terms(s.offer, policy), job.Ceiling(contextLength(s.offer)))
			if err == nil {
				err = d.affordable(price, maxCost)
			}
			opening := s.openings(policy, price > d.cfg.JobValue)
			switch {
			case err != nil:
				d.mu.Unlock()
				return held{}, 0, err
			case s.offer.Expiry <= now.Unix():
				d.mu.Unlock()
				return held{}, 0, fmt.Errorf("provider %s: its offer has lapsed", s.key.provider)
			case !opening.opening && time.Now().Before(opening.retry):
				err := opening.failed
				d.mu.Unlock()
				return held{}, 0, err
			case !opening.opening:
				opening.opening = true
				d.mu.Unlock()
				// A client that goes away must not leave a transaction half
				// looked after.
				octx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
				err := d.open(octx, s, policy, price)
				cancel()
				if err != nil {
					return held{}, 0, err
				}
				continue
			}
		}
		changed := d.changed
		d.mu.Unlock()
		var word <-chan time.Time
		if owing {
			word = time.After(patience)
		}
		select {
		case <-changed:
		case <-word:
			return held{}, 0, fmt.Errorf("provider %s: it has not said what became of a request, and gets no other until it has", s.key.provider)
		case <-timeout.C:
			return held{}, 0, fmt.Errorf("provider %s: %w", s.key.provider, ErrBusy)
		case <-ctx.Done():
			return held{}, 0, ctx.Err()
		}
	}
}

// busy reports whether a request is under way. Callers hold d.mu.
func (s *seat) busy() bool {
	return slices.ContainsFunc(s.leases, func(l *lease) bool {
		return slices.ContainsFunc(l.lanes, func(ln *lane) bool { return ln.busy })
	})
}

// owing reports whether the outcome of a request to a seat is unknown, on any lease
// that is not over. Callers hold d.mu.
func (d *Desk) owing(k seatKey) bool {
	for _, l := range d.leases {
		if l.rec.Provider == k.provider && l.rec.Order.Spec == k.spec && l.rec.Phase != over && l.unknown() {
			return true
		}
	}
	return false
}

// unknown reports whether the outcome of a request is unknown: its conversation has
// ended, and its lane still waits for word of it, also while somebody asks for that.
func (l *lease) unknown() bool {
	for _, ln := range l.lanes {
		if !ln.talking && !ln.lost && ln.rec.Pending != nil {
			return true
		}
	}
	return false
}

// affordable refuses a request that could cost more than is left of a budget, or
// than any lease of this desk holds.
func (d *Desk) affordable(price, maxCost uint64) error {
	if maxCost > 0 && price > maxCost {
		return fmt.Errorf("%w: it could cost %d base units and %d are left", ErrBudget, price, maxCost)
	}
	if price > d.cfg.Escrow {
		return fmt.Errorf("%w: it could cost %d base units, and a lease here holds %d", ErrPrice, price, d.cfg.Escrow)
	}
	return nil
}

// jobValue is the most that a request may cost on a new lease: the desk's own
// setting, as many times as this one needs.
func (d *Desk) jobValue(price, escrow uint64) uint64 {
	times := max(price/d.cfg.JobValue+min(price%d.cfg.JobValue, 1), 1)
	return min(times*d.cfg.JobValue, escrow)
}

// open opens a lease on a seat under a policy, whose opening flag the caller has
// set, and clears it.
func (d *Desk) open(ctx context.Context, s *seat, policy square.Policy, price uint64) (err error) {
	defer func() {
		d.mu.Lock()
		t := s.openings(policy, price > d.cfg.JobValue)
		t.opening = false
		t.failed, t.retry = err, time.Time{}
		switch {
		case err == nil:
			t.balks = 0
		case errors.Is(err, ErrFunds), errors.Is(err, ErrStalled), errors.Is(err, context.Canceled):
			t.retry = time.Now().Add(500 * time.Millisecond)
		case errors.Is(err, ErrPaused):
			t.retry = time.Now().Add(2 * time.Second) // by its owner, and no fault
		default:
			// It is the provider's fault, and whoever asks waits for it: one
			// that goes on so is asked ever more seldom.
			t.retry = time.Now().Add(500 * time.Millisecond << min(t.balks, 7))
			t.balks++
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			d.cfg.Log.Warn("lease could not be opened", "provider", s.key.provider.String(), "err", err)
		}
		d.notify()
		d.mu.Unlock()
	}()
	for attempt := 0; ; attempt++ {
		d.mu.Lock()
		offer, id := s.offer, s.id
		d.mu.Unlock()
		err = d.openOn(ctx, s, offer, id, policy, price)
		var we *wire.Refusal
		if attempt == 0 && errors.As(err, &we) && we.Code == wire.CodeUnknown && d.list(ctx, 0) == nil {
			continue // a newer offer has replaced the one we know
		}
		return err
	}
}

// asideLanes are the lanes of a lease under a policy that is not the desk's own, or
// for dear requests: such are few, and the offer's places are for the others as
// well.
const asideLanes = 2

func (d *Desk) openOn(ctx context.Context, s *seat, offer square.Offer, offerID square.Hash, policy square.Policy, price uint64) error {
	rates := infer.Terms(offer, policy)
	if rates == nil {
		return fmt.Errorf("provider %s: %w: it does not prove its answers", s.key.provider, ErrNoProvider)
	}
	// A transaction that no block takes would hold up whoever asks until it is
	// given up.
	if _, err := d.clock.Refresh(ctx); err != nil {
		return stall(err)
	}
	if age := d.clock.Age(); age > stalled {
		return fmt.Errorf("%w: the last block came %s ago", ErrStalled, age.Round(time.Second))
	}
	now, err := d.clock.Now(ctx)
	if err != nil {
		return stall(err)
	}
	balance, err := d.cfg.Ledger.Balance(ctx, d.cfg.Denom)
	if err != nil {
		return fmt.Errorf("open a lease: %w", err)
	}
	// A tenth stays for fees.
	escrow := min(d.cfg.Escrow, balance/10*9)
	if escrow < d.cfg.JobValue || escrow < price {
		return fmt.Errorf("%w: it is %s, and a lease needs at least %d base units", ErrFunds,
			square.Amount{Units: balance, Denom: d.cfg.Denom}, max(d.cfg.JobValue, price)/9*10+10)
	}
	seconds := func(t time.Duration) uint64 { return uint64(max(t/time.Second, 1)) }
	// Half of the offer at most, so that the next lease fits beside this one.
	lanes := min(uint64(d.cfg.Lanes), max(offer.Capacity/2, 1))
	if policy != d.cfg.Policy || price > d.cfg.JobValue {
		lanes = min(lanes, asideLanes)
	}
	if place, err := square.Price(rates[1:], []uint64{infer.PlaceTokens}); err == nil && place > 0 {
		lanes = max(min(lanes, escrow/place), 1)
	}
	o := square.Order{
		Buyer: d.cfg.Owner.Address(), Authorizer: d.cfg.Key.Address(), Trade: infer.Name, Mode: square.ModeStream,
		Spec: offer.Spec, Denom: d.cfg.Denom, Escrow: escrow, MaxRates: rates, JobValue: d.jobValue(price, escrow),
		Policy: policy, Lanes: lanes, Units: lanes, Start: seconds(d.cfg.Start), Idle: seconds(d.cfg.Idle),
		Duration: seconds(d.cfg.Duration), Challenge: seconds(d.cfg.Challenge), Drain: seconds(d.cfg.Drain),
		Failover: d.cfg.Failover, Expiry: now.Add(time.Minute).Unix(),
	}
	if policy == square.PolicyProve {
		card, err := d.cfg.Ledger.Card(ctx, offer.Spec)
		if err != nil {
			return fmt.Errorf("model %s: its card: %w", offer.Subject, err)
		}
		o.Card = sha256.Sum256(card)
	}
	rand.Read(o.Salt[:])
	id := o.ID(d.domain)
	var q wire.QuoteReply
	qctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.call(qctx, target{offer.Endpoint, s.key.provider, d.cfg.Owner, id, 0}, "quote", wire.QuoteRequest{Order: o, Offer: offerID}, &q); err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) && we.Code == wire.CodePaused {
			err = errRefused{we}
		} else if we != nil && we.Code == wire.CodeTerms && price > d.cfg.JobValue {
			err = fmt.Errorf("%w: %w", ErrPrice, err) // of so dear a one
		}
		return fmt.Errorf("quote by %s: %w", s.key.provider, err)
	}
	switch quote := q.Quote; {
	case quote.Provider != s.key.provider || quote.Order != id || quote.Offer != offerID || quote.Spec != offer.Spec:
		return fmt.Errorf("quote by %s: it is for something else", s.key.provider)
	case !quote.Ready || quote.Expiry <= now.Unix():
		return fmt.Errorf("quote by %s: it is not ready, or has expired", s.key.provider)
	}
	if err := square.Within(q.Quote.Rates, o.MaxRates); err != nil {
		return fmt.Errorf("quote by %s: %w", s.key.provider, err)
	}
	if err := q.Quote.Verify(d.domain, q.Sig); err != nil {
		return fmt.Errorf("quote by %s: %w", s.key.provider, err)
	}
	rec := leaseRecord{
		Phase: opening, Order: o, Provider: s.key.provider, Rates: q.Quote.Rates, Bond: q.Quote.Bond,
		Endpoint: offer.Endpoint, Model: offer.Subject, Context: contextLength(offer),
	}
	// On disk before the money moves: a crash must not forget an escrow.
	if err := d.saveLease(id, rec); err != nil {
		return fmt.Errorf("open a lease: %w", err)
	}
	l := d.newLease(id, rec)
	d.mu.Lock()
	d.leases[id] = l
	d.mu.Unlock()
	if err := d.cfg.Ledger.Open(ctx, o, q.Quote, q.Sig); err != nil {
		// Whether it is on the ledger all the same, the chores find out.
		if b, berr := d.cfg.Ledger.Balance(ctx, d.cfg.Denom); errors.Is(err, ErrFunds) && berr == nil && b >= escrow {
			// The money is there; it is the provider's stake that is short.
			return fmt.Errorf("provider %s cannot bond the lease: %s", s.key.provider, err)
		}
		return fmt.Errorf("open a lease with %s: %w", s.key.provider, err)
	}
	d.cfg.Log.Info("lease opened", "lease", id.Short(), "order", id.String(), "provider", s.key.provider.String(), "model", offer.Subject, "escrow", escrow)
	return d.settleOpening(ctx, l, now)
}

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
		s := d.seat(seatKey{rec.Provider, rec.Order.Spec})
		s.leases = append(s.leases, l)
		d.notify()
	}
	d.mu.Unlock()
	return d.saveLease(l.id, rec)
}

// Run does the chores until ctx ends: it reads offers, renews, closes and
// prunes leases, asks after lanes whose last request ended without a word, and
// audits.
func (d *Desk) Run(ctx context.Context) error {
	audited := make(chan struct{})
	go func() { defer close(audited); d.auditor(ctx) }()
	defer func() { <-audited }()
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
		for _, p := range []square.Policy{square.PolicyNone, square.PolicyAudit, square.PolicyProve} {
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
	if t.opening || s.shunned > now.Unix() || time.Now().Before(t.retry) || s.offer.Subject == "" || s.offer.Expiry <= now.Unix() || infer.Terms(s.offer, p) == nil {
		return false
	}
	leases := s.under(p)
	if len(leases) == 0 {
		return s.key.provider == d.cfg.Own && p == d.cfg.Policy
	}
	l := leases[len(leases)-1]
	return l.rec.Phase == standing && l.charged() > 0 && d.worn(l, now)
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
	s := d.seat(seatKey{rec.Provider, rec.Order.Spec})
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
		d.forget(l)
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
		s := d.seat(seatKey{rec.Provider, rec.Order.Spec})
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
	err = d.call(cctx, d.target(l, 0), "close", req, &reply)
	cancel()
	if err == nil {
		err = square.VerifyClose(d.domain, rec.Provider, l.id, paid, reply.Sig)
	}
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
	if err := d.cfg.Ledger.Close(ctx, l.id, &Consent{Paid: paid, Sig: reply.Sig}); err != nil {
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

// forget drops a lease that is over; its receipts stay.
func (d *Desk) forget(l *lease) {
	err := d.cfg.Store.Update(func(tx *bolt.Tx) error {
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
	delete(d.leases, l.id)
	d.mu.Unlock()
}

// release gives a lane back.
func (d *Desk) release(h held) {
	d.mu.Lock()
	h.ln.busy, h.ln.talking = false, false
	d.notify()
	worn := false
	if s := d.seats[seatKey{h.l.rec.Provider, h.l.rec.Order.Spec}]; s != nil && !s.openings(h.l.rec.Order.Policy, false).opening {
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
			s := d.seat(seatKey{l.rec.Provider, l.rec.Order.Spec})
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
