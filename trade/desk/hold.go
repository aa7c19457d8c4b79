package desk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/torg-network/torg/square"
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

// Want is a piece of work that is to be paid for.
type Want struct {
	Trade    string
	Provider square.Address
	Spec     square.Hash
	Policy   square.Policy // empty: the desk's own
	// Ceiling is the most the work may meter, in the order of the trade's units.
	// An error refuses the work as it is.
	Ceiling func(square.Offer) ([]uint64, error)
	// MaxCost refuses the work when it could cost more base units than this (an
	// API key's remaining budget). 0 is no limit.
	MaxCost uint64
	Takes   time.Duration // how long it will take, as far as anybody can tell
	// Account names whom the work is for (an API key's ID), so that its receipt
	// can be found among theirs: at most 64 bytes.
	Account string
}

// patience is how long a request waits for word of another one from the same
// provider.
const patience = time.Second

// Hold takes a free lane of a lease with the provider, under the policy, that can
// still pay for the work, and opens a lease where there is none. Release gives the
// lane back.
func (d *Desk) Hold(ctx context.Context, w Want) (*Lane, error) {
	policy, err := d.Policy(w.Policy)
	if err != nil {
		return nil, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	w.Policy = policy
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errClosed
	}
	d.working.Add(1)
	s := d.seats[seatKey{w.Trade, w.Provider, w.Spec}]
	d.mu.Unlock()
	if s == nil {
		d.working.Done()
		return nil, fmt.Errorf("provider %s: %w", w.Provider, ErrNoProvider)
	}
	h, price, err := d.acquire(ctx, s, w)
	if err != nil {
		d.working.Done()
		return nil, err
	}
	return &Lane{d: d, s: s, h: h, price: price, account: w.Account}, nil
}

var errClosed = errors.New("the desk is closed")

// held is a lane in the hands of one request.
type held struct {
	l  *lease
	ln *lane
}

func (d *Desk) acquire(ctx context.Context, s *seat, w Want) (held, uint64, error) {
	policy, t := w.Policy, d.trades[s.key.trade]
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
			return held{}, 0, errClosed
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
			if !l.lasts(now, w.Takes) {
				continue
			}
			price, err := w.ceiling(l.rec.Rates, l.rec.Offer)
			if err != nil {
				d.mu.Unlock()
				return held{}, 0, err
			}
			if err := d.affordable(price, w.MaxCost); err != nil {
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
			price, err := w.ceiling(t.Rates(s.offer, policy), s.offer)
			if err == nil {
				err = d.affordable(price, w.MaxCost)
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
		if room && !owing && d.crowded(s, policy, now) {
			d.widen(ctx, s, policy)
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

// crowded reports whether a seat has room for another lease beside those under a
// policy, whose lanes are busy. One that has never answered has not, and leases
// under another policy than the desk's own are for few. Callers hold d.mu.
func (d *Desk) crowded(s *seat, p square.Policy, now time.Time) bool {
	t := s.openings(p, false)
	if p != d.cfg.Policy || !s.asked || t.opening || time.Now().Before(t.retry) || s.offer.Expiry <= now.Unix() {
		return false
	}
	lanes := 0
	for _, l := range s.under(p) {
		for _, ln := range l.lanes {
			if !ln.lost {
				lanes++
			}
		}
	}
	return lanes < d.cfg.Streams
}

// widen opens another lease while requests go on waiting for a lane, which may come
// sooner. Callers hold d.mu, and d.working.
func (d *Desk) widen(ctx context.Context, s *seat, p square.Policy) {
	s.openings(p, false).opening = true
	d.working.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = d.open(ctx, s, p, 0) // it has logged why, and says when to try again
	})
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
		if l.rec.seat() == k && l.rec.Phase != over && l.unknown() {
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

// ceiling is the most that the work may cost.
func (w Want) ceiling(rates []square.Rate, o square.Offer) (uint64, error) {
	units, err := w.Ceiling(o)
	if err != nil {
		return 0, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	return square.Price(rates, units)
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
	t := d.trades[s.key.trade]
	rates := t.Rates(offer, policy)
	if rates == nil {
		return fmt.Errorf("provider %s: %w: it sells nothing under the policy %s", s.key.provider, ErrNoProvider, policy)
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
	if place := t.Place(rates); place > 0 {
		lanes = max(min(lanes, escrow/place), 1)
	}
	o := square.Order{
		Buyer: d.cfg.Owner.Address(), Authorizer: d.cfg.Key.Address(), Trade: s.key.trade, Mode: square.ModeStream,
		Spec: offer.Spec, Denom: d.cfg.Denom, Escrow: escrow, MaxRates: rates, JobValue: d.jobValue(price, escrow),
		Policy: policy, Lanes: lanes, Units: lanes, Start: seconds(d.cfg.Start), Idle: seconds(d.cfg.Idle),
		Duration: seconds(d.cfg.Duration), Challenge: seconds(d.cfg.Challenge), Drain: seconds(d.cfg.Drain),
		Failover: d.cfg.Failover, Expiry: now.Add(time.Minute).Unix(),
	}
	if policy == square.PolicyProve {
		card, err := d.cfg.Ledger.Card(ctx, offer.Spec)
		if err != nil {
			return fmt.Errorf("%s: its card: %w", offer.Subject, err)
		}
		o.Card = sha256.Sum256(card)
	}
	rand.Read(o.Salt[:])
	id := o.ID(d.domain)
	q, err := d.quote(ctx, offer, offerID, o, id, 0, nil)
	if err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) && we.Code == wire.CodeTerms && price > d.cfg.JobValue {
			err = fmt.Errorf("%w: %w", ErrPrice, err) // of so dear a one
		}
		return err
	}
	rec := leaseRecord{
		Phase: opening, Order: o, Provider: s.key.provider, Rates: q.Quote.Rates, Bond: q.Quote.Bond,
		Offer: offer,
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
	d.cfg.Log.Info("lease opened", "lease", id.Short(), "order", id.String(), "provider", s.key.provider.String(), "subject", offer.Subject, "escrow", escrow)
	return d.settleOpening(ctx, l, now)
}

// quote asks who made an offer for a quote on an order, for a lease that fills it,
// and checks it.
func (d *Desk) quote(ctx context.Context, offer square.Offer, offerID square.Hash, o square.Order, lease square.Hash, nth uint64, job []byte) (wire.QuoteReply, error) {
	var q wire.QuoteReply
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	bad := func(err error) (wire.QuoteReply, error) {
		return wire.QuoteReply{}, fmt.Errorf("quote by %s: %w", offer.Provider, err)
	}
	to := target{offer.Endpoint, offer.Provider, d.cfg.Owner, o.ID(d.domain), 0}
	if err := d.call(ctx, to, "quote", wire.QuoteRequest{Order: o, Offer: offerID, Nth: nth, Job: job}, &q); err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) && we.Code == wire.CodePaused {
			err = Refused{we}
		}
		return bad(err)
	}
	now, err := d.clock.Now(ctx)
	if err != nil {
		return bad(err)
	}
	switch quote := q.Quote; {
	case quote.Provider != offer.Provider || quote.Order != lease || quote.Offer != offerID || quote.Spec != offer.Spec:
		return bad(errors.New("it is for something else"))
	case !quote.Ready || quote.Expiry <= now.Unix():
		return bad(errors.New("it is not ready, or has expired"))
	}
	if err := square.Within(q.Quote.Rates, o.MaxRates); err != nil {
		return bad(err)
	}
	if err := q.Quote.Verify(d.domain, q.Sig); err != nil {
		return bad(err)
	}
	return q, nil
}
