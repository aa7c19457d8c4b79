package desk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// Lane is a lane of a standing lease in the hands of one piece of work, which it
// can pay for. Its methods are called one after the other.
type Lane struct {
	d       *Desk
	s       *seat
	h       held
	price   uint64 // the most the work may cost
	account string
	request []byte
}

// Lease is the lease that the lane belongs to.
func (l *Lane) Lease() square.Hash { return l.h.l.id }

// Number is the lane's, counted from 0.
func (l *Lane) Number() uint16 { return l.h.ln.n }

// Denom is what is paid in.
func (l *Lane) Denom() string { return l.h.l.rec.Order.Denom }

// Rates are those of the lease.
func (l *Lane) Rates() []square.Rate {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return l.h.l.rec.Rates
}

// Bonded reports whether anything stands behind the lease. Where nothing does,
// an answer is paid for with the next request on the lane, or when the lease is
// closed; Settle must compare it first.
func (l *Lane) Bonded() bool { return l.h.l.rec.Bond > 0 }

// Most is what the work may cost at most, in base units.
func (l *Lane) Most() uint64 { return l.price }

// Release gives the lane back.
func (l *Lane) Release() {
	l.d.release(l.h)
	l.d.working.Done()
}

// Pay pays for a request, by the bytes whose digest the receipt will name. What it
// may cost is on disk before Pay returns.
func (l *Lane) Pay(request []byte) (wire.Payment, error) {
	// busy: the lane's record is this request's alone.
	rec := l.h.ln.rec
	most := rec.Charged + l.price
	vouched := most
	if !l.Bonded() {
		vouched = rec.Charged // the rest when it was compared
	}
	p := wire.Payment{Lease: l.h.l.id, Lane: l.h.ln.n, Seq: rec.Seq + 1}
	var signing sync.WaitGroup // beside the disk
	signing.Go(func() { p.Voucher = square.SignVoucher(l.d.channel, l.h.ln.channel, vouched, l.d.cfg.Key) })
	err := l.d.pend(l.h, &pending{Max: most, Request: request, Account: l.account})
	if signing.Wait(); err != nil {
		return wire.Payment{}, fmt.Errorf("the disk failed, nothing was sent: %w", err)
	}
	l.request = request
	return p, nil
}

// Post sends a call of the wire about this lane. A call that is answered with a
// refusal is an error, a *wire.Refusal.
func (l *Lane) Post(ctx context.Context, path string, body any) (*http.Response, error) {
	return l.d.post(ctx, l.d.target(l.h.l, l.h.ln.n), path, body)
}

// Call is Post with a reply of JSON, or, where reply is nil, without one.
func (l *Lane) Call(ctx context.Context, path string, body, reply any) error {
	return l.d.call(ctx, l.d.target(l.h.l, l.h.ln.n), path, body, reply)
}

// Settle ends what Pay began with a receipt that came. delivered holds it against
// what was delivered, beside what the trade verifies; nil: nothing was yet. A
// receipt that does not verify costs its provider the lane and all further work,
// and is challenged where the ledger needs nothing else to see it; that is an
// ErrUnknown.
func (l *Lane) Settle(ctx context.Context, signed wire.Signed, latency time.Duration, delivered func() error) (Record, error) {
	err := l.d.verify(l.h, l.request, l.price, signed)
	if err == nil && delivered != nil {
		err = delivered()
	}
	if errors.Is(err, ErrUncompared) {
		l.d.abandon(l.h, err)
		l.d.saw(l.s, false, 0, 0)
		return Record{}, fmt.Errorf("provider %s: %w", l.s.key.provider, err)
	}
	if err != nil {
		l.d.distrust(l.s, l.h, err)
		l.d.accuse(ctx, l.h, l.request, signed)
		return Record{}, fmt.Errorf("provider %s: %w: %w", l.s.key.provider, ErrUnknown, err)
	}
	rec, err := l.d.commit(l.h, l.s, l.request, signed, latency)
	if err != nil {
		// The provider is owed this all the same.
		l.d.cfg.Log.Error("receipt could not be stored", "lease", l.h.l.id.Short(), "lane", l.h.ln.n, "err", err)
	}
	return rec, nil
}

// Saw notes how the work went: until its first piece came, and how fast it was in
// the trade's own measure, as far as is known. Providers are ranked by it.
func (l *Lane) Saw(ok bool, latency time.Duration, speed float64) { l.d.saw(l.s, ok, latency, speed) }

// Prove has the work that was settled proven, under the policy prove; else it does
// nothing. It returns once the proof has been checked, or with ErrUnproven.
func (l *Lane) Prove(ctx context.Context, r Record) error {
	if l.h.l.rec.Order.Policy != square.PolicyProve {
		return nil
	}
	return l.d.prove(ctx, l.s, l.h, r)
}

// Refused says that the provider refused the work before any was done.
type Refused struct{ *wire.Refusal }

func (e Refused) Unwrap() error { return e.Refusal }

// Is makes a provider that is at its limit as busy as one whose lanes are, and
// tells one that has paused.
func (e Refused) Is(target error) bool {
	return target == ErrBusy && e.Code == wire.CodeBusy || target == ErrPaused && e.Code == wire.CodePaused
}

// Fail ends what Pay began without a receipt, for a cause, and finds out what that
// cost: until ctx ends it asks the provider how the lane stands. It returns the
// receipt where the work was charged after all. The error is the cause, which is
// an ErrUnknown where nobody knows.
func (l *Lane) Fail(ctx context.Context, cause error) (*wire.Signed, error) {
	d, h := l.d, l.h
	d.mu.Lock()
	h.ln.talking = false
	d.mu.Unlock()
	cause = fmt.Errorf("provider %s: %w", l.s.key.provider, cause)
	var refusal Refused
	if errors.As(cause, &refusal) {
		switch refusal.Code {
		case wire.CodeStale:
			// The lane moved on without us; ask below.
		case wire.CodeClosed, wire.CodeUnknown:
			// The lease is no good any more. It is wound up with what we know.
			if err := d.move(h.l, retiring); err != nil {
				d.cfg.Log.Warn("lease could not be noted", "lease", h.l.id.Short(), "err", err)
			}
			wake(d.kick)
			fallthrough
		default:
			d.clear(h)
			return nil, cause
		}
	}
	var op *net.OpError
	if errors.As(cause, &op) && op.Op == "dial" {
		d.clear(h) // nothing was ever sent
		return nil, cause
	}
	signed, err := d.resync(ctx, h)
	switch {
	case err != nil:
		wake(d.kick)
		return nil, fmt.Errorf("%w: %w", ErrUnknown, cause)
	case signed == nil: // nothing was charged
		return nil, cause
	}
	return signed, fmt.Errorf("%w: charged %d: %w", ErrUnknown, signed.Receipt.Price, cause)
}

// clear notes that a lane owes nothing for its last request.
func (d *Desk) clear(h held) {
	if err := d.pend(h, nil); err != nil {
		d.cfg.Log.Warn("lane could not be noted", "lease", h.l.id.Short(), "err", err)
	}
}

// pend puts what a lane is about to owe on disk. nil clears it: nothing was
// owed.
func (d *Desk) pend(h held, p *pending) error {
	d.mu.Lock()
	rec := h.ln.rec
	rec.Pending = p
	if p != nil {
		rec.Max = max(rec.Max, p.Max)
	}
	// In memory first: whoever counts promises must see this one.
	before := h.ln.rec
	h.ln.rec = rec
	h.l.sum += rec.Max - before.Max
	d.mu.Unlock()
	err := d.save(bucketLanes, laneKey(h.l.id, h.ln.n), rec)
	if err != nil && p != nil {
		d.mu.Lock()
		h.ln.rec = before // never sent
		h.l.sum -= rec.Max - before.Max
		d.mu.Unlock()
	}
	return err
}

// resync asks the provider how a lane stands whose last request ended without
// a receipt, and takes over a charge that verifies. It returns the receipt of
// the request, or nil when it was not charged; an error leaves the lane as it
// is. The caller holds the lane.
func (d *Desk) resync(ctx context.Context, h held) (*wire.Signed, error) {
	ln := h.ln
	p := ln.rec.Pending
	if p == nil {
		return nil, nil
	}
	var st wire.LaneReply
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		var err error
		st, err = d.askLane(ctx, d.target(h.l, ln.n))
		if err != nil {
			ln.tries++
			ln.retry = time.Now().Add(min(time.Second<<min(ln.tries, 6), time.Minute))
			return nil, err
		}
		if !st.Busy {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	ln.tries = 0
	s := d.seatOf(h.l)
	switch {
	case st.Seq == ln.rec.Seq && st.Charged == ln.rec.Charged:
		return nil, d.pend(h, nil)
	case st.Seq == ln.rec.Seq+1 && st.Last != nil && h.l.rec.Bond == 0:
		d.abandon(h, ErrUncompared)
		return nil, ErrUncompared
	case st.Seq == ln.rec.Seq+1 && st.Last != nil:
		err := d.verify(h, p.Request, p.Max-ln.rec.Charged, *st.Last)
		if err == nil {
			var kept Record
			if kept, err = d.commit(h, s, p.Request, *st.Last, 0); err == nil && h.l.rec.Order.Policy == square.PolicyProve {
				err = d.prove(ctx, s, h, kept)
			}
			return st.Last, err
		}
		d.distrust(s, h, err)
		d.accuse(ctx, h, p.Request, *st.Last)
		return nil, err
	}
	err := fmt.Errorf("the provider says the lane is at receipt %d, charged %d; ours is %d, %d", st.Seq, st.Charged, ln.rec.Seq, ln.rec.Charged)
	if st.Charged < ln.rec.Charged { // it forgot, to its own loss
		d.abandon(h, err)
	} else {
		d.distrust(s, h, err)
	}
	return nil, err
}

func (d *Desk) seatOf(l *lease) *seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seat(l.rec.seat())
}

// abandon gives a lane up: its provider cannot account for it.
func (d *Desk) abandon(h held, why error) {
	d.mu.Lock()
	h.ln.lost, h.ln.rec.Lost = true, true
	rec := h.ln.rec
	d.mu.Unlock()
	d.cfg.Log.Warn("lane abandoned", "lease", h.l.id.Short(), "lane", h.ln.n, "provider", h.l.rec.Provider.String(), "err", why)
	if err := d.save(bucketLanes, laneKey(h.l.id, h.ln.n), rec); err != nil {
		d.cfg.Log.Warn("lane could not be noted", "lease", h.l.id.Short(), "err", err)
	}
}

// distrust abandons the lane and asks the provider no more.
func (d *Desk) distrust(s *seat, h held, why error) {
	d.abandon(h, why)
	d.saw(s, false, 0, 0)
	d.shun(s.key, d.cfg.Shun)
}

// accuse challenges a receipt whose price its own units do not give. The ledger
// needs nothing else to slash for it.
func (d *Desk) accuse(ctx context.Context, h held, request []byte, s wire.Signed) {
	e := square.Evidence{Receipt: s.Receipt, Sig: s.Sig, Request: request, Result: s.Result}
	if s.Receipt.Lease != h.l.id || s.Receipt.Charged(h.l.rec.Rates) == nil || !e.Opens() || s.Receipt.Verify(d.domain, h.l.rec.Provider, s.Sig) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	log := d.cfg.Log.With("lease", h.l.id.Short(), "provider", h.l.rec.Provider.String())
	if err := d.cfg.Ledger.Challenge(ctx, h.l.id, e, 0); err != nil {
		log.Warn("a receipt that charges more than its units could not be challenged", "err", err)
		return
	}
	log.Info("challenged a receipt that charges more than its units")
}

// verify checks everything about a receipt: who signed it, that it is the next
// of its lane, that it is for this request and this result, that its price is
// what its units cost and within what was vouched for, and what the trade says.
func (d *Desk) verify(h held, request []byte, price uint64, s wire.Signed) error {
	r, l, rec := s.Receipt, h.l, h.ln.rec
	switch {
	case r.Lease != l.id || r.Lane != h.ln.n:
		return errors.New("the receipt is for another lane")
	case r.Seq != rec.Seq+1:
		return fmt.Errorf("the receipt is number %d, not %d", r.Seq, rec.Seq+1)
	case r.Subject != l.rec.Order.Spec:
		return errors.New("the receipt is for other work than the lease is")
	case r.Request != sha256.Sum256(request):
		return errors.New("the receipt is for another request")
	case r.Result != sha256.Sum256(s.Result):
		return errors.New("the receipt is for another result")
	case len(r.Units) != len(l.rec.Rates):
		return errors.New("the receipt meters other units")
	case r.Price > price:
		return fmt.Errorf("the receipt charges %d of at most %d", r.Price, price)
	case r.Cumulative != rec.Charged+r.Price:
		return fmt.Errorf("the receipt's sum is %d, not %d", r.Cumulative, rec.Charged+r.Price)
	}
	if err := r.Charged(l.rec.Rates); err != nil {
		return err
	}
	if err := r.Verify(d.domain, l.rec.Provider, s.Sig); err != nil {
		return err
	}
	return d.trades[l.rec.Order.Trade].Verify(l.rec.Offer, request, s)
}
