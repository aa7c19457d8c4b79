package seller

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// Till is a piece of work that was admitted: paid for, its lane and a place taken.
// Whoever has one calls Release when it is done, whatever came of it.
type Till struct {
	s       *Seller
	l       *lease
	ln      *lane
	lane    uint16
	good    *good
	request square.Hash
	ceiling []uint64
	max     uint64 // of the voucher
	began   time.Time
	store   func() error
	freed   bool   // lane and place are given back
	done    func() // Close waits no more; nil: called
}

// Delivery is what the work came to.
type Delivery struct {
	Result []byte   // its canonical bytes, which the receipt names by digest
	Units  []uint64 // what it meters, in the order of the trade's units; beyond the ceiling nothing is charged
	Body   []byte   // wire.Signed's
	Kept   []byte   // opaque bytes that are kept beside the answer (Again)
	// Counted says that the units are the seller's own count, and how.
	Counted string
	// Over says what was made beyond what was asked for. It is not charged.
	Over string
}

// creditWait is how long work waits for a redemption that makes room for it.
const creditWait = 2 * time.Second

// errCredit says that as much waits to be redeemed as may.
var errCredit = wire.Refuse(wire.CodeBusy, "too much of this lease waits to be redeemed; nothing was charged")

// Admit checks a payment for a piece of work whose request has this digest, and
// takes its lane and a place, after a redemption where that is needed first. ceiling
// is the most units that the work may meter, or why it is refused; it does no work
// worth mentioning. For work that was already answered Admit returns the answer
// instead. An error is for [Seller.Refuse].
func (s *Seller) Admit(ctx context.Context, from Caller, p wire.Payment, request square.Hash, ceiling func() ([]uint64, error)) (*Till, *Again, error) {
	if err := from.About(p.Lease, p.Lane); err != nil {
		return nil, nil, err
	}
	done, err := s.Begin()
	if err != nil {
		return nil, nil, err
	}
	t, again, err := s.admitInTime(ctx, from, p, request, ceiling)
	if t == nil {
		done()
		return nil, again, err
	}
	t.done = done
	return t, nil, nil
}

func (s *Seller) admitInTime(ctx context.Context, from Caller, p wire.Payment, request square.Hash, ceiling func() ([]uint64, error)) (*Till, *Again, error) {
	timeout := time.NewTimer(creditWait)
	defer timeout.Stop()
	for {
		from.l.mu.Lock()
		eased := from.l.eased
		from.l.mu.Unlock()
		t, again, err := s.admit(ctx, from.l, p, request, ceiling)
		if !errors.Is(err, errCredit) {
			return t, again, err
		}
		from.l.mu.Lock()
		from.l.starved = true // until it is redeemed
		from.l.mu.Unlock()
		s.wake()
		select {
		case <-eased:
		case <-timeout.C:
			return nil, nil, err
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// margin is how long before its deadline a lease is served no more. What ends by
// silence takes with it what was not redeemed; what ends by its time drains
// first. Callers hold l.mu.
func (s *Seller) margin(l *lease) time.Duration {
	if l.rec.Until < l.rec.Ends {
		return s.Terms.reserve() * 3 / 2
	}
	return s.Terms.reserve() / 2
}

func (s *Seller) admit(ctx context.Context, l *lease, p wire.Payment, request square.Hash, ceiling func() ([]uint64, error)) (*Till, *Again, error) {
	ln, err := l.numbered(s, p.Lane)
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	order, rates := l.order, l.rec.Rates // neither changes
	l.mu.Unlock()
	if p.Voucher.Channel != ln.channel {
		return nil, nil, wire.Refuse(wire.CodePayment, "the voucher is for another channel; this lane's is %s", ln.channel)
	}
	if err := p.Voucher.Verify(s.channel, order.Authorizer); err != nil {
		return nil, nil, wire.Refuse(wire.CodePayment, "%v", err)
	}
	now, err := s.clock.Now(ctx)
	if err != nil {
		return nil, nil, wire.Refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	t := &Till{s: s, l: l, ln: ln, lane: p.Lane, good: s.sold(l.good), request: request, max: p.Voucher.Max, began: time.Now()}

	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.rec.Seq > 0 && p.Seq == ln.rec.Seq && t.max == ln.rec.LastMax && t.request == ln.rec.LastRequest {
		again, err := s.lastAnswer(l.id, p.Lane)
		if err != nil {
			return nil, nil, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed; the request was charged before, and not again")
		}
		return nil, again, nil
	}
	control := s.Control()
	switch {
	case control.Paused:
		return nil, nil, errPaused
	case l.rec.Closed || l.rec.State != market.Active: // disputed as well: what is served then may never be paid
		return nil, nil, wire.Refuse(wire.CodeClosed, "lease %s is %s", l.id.Short(), closedWord(l.rec))
	case !now.Before(time.Unix(l.rec.Until, 0).Add(-s.margin(l))):
		return nil, nil, wire.Refuse(wire.CodeClosed, "lease %s is about to end", l.id.Short())
	case ln.busy:
		return nil, nil, wire.Refuse(wire.CodeBusy, "lane %d is working on a request", p.Lane)
	case p.Seq != ln.rec.Seq+1:
		return nil, nil, wire.Refuse(wire.CodeStale, "lane %d is at receipt %d, so the next is %d, not %d", p.Lane, ln.rec.Seq, ln.rec.Seq+1, p.Seq)
	}
	if t.good == nil {
		return nil, nil, wire.Refuse(wire.CodeUnavailable, "%s %s is not served at the moment; nothing was charged", order.Trade, order.Spec.Short())
	}
	if t.ceiling, err = ceiling(); err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) {
			return nil, nil, we
		}
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "%v", err)
	}
	price, err := square.Price(rates, t.ceiling)
	if err != nil {
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "%v", err)
	}
	ahead := price
	if l.rec.Unbonded {
		ahead = 0
	}
	if t.max < ln.rec.Charged || t.max-ln.rec.Charged < ahead {
		return nil, nil, wire.Refuse(wire.CodePayment, "voucher of %d is too low: lane %d was charged %d and this request may cost %d", t.max, p.Lane, ln.rec.Charged, price)
	}
	if price > order.JobValue {
		return nil, nil, wire.Refuse(wire.CodePayment, "this request may cost %d and the lease was made for requests of at most %d; ask for less", price, order.JobValue)
	}
	// What is not redeemed when a lease ends is lost: whatever happens, it is not
	// more than one request may be.
	most := s.Terms.credit(order)
	if l.rec.Unbonded {
		most = min(most, order.JobValue) // no voucher covers the last answers
	}
	if owed := l.owed(); owed > 0 && owed+price > most {
		if l.rec.Unbonded && t.max > ln.rec.Voucher.Max {
			ln.rec.Voucher = p.Voucher // it pays for what was done, and that can be redeemed now
		}
		return nil, nil, errCredit
	}
	held := max(t.max, ln.rec.Voucher.Max, ln.rec.Charged+price)
	for n, other := range l.lanes {
		if n != p.Lane {
			held += max(other.rec.Voucher.Max, other.rec.Charged+other.most) // each at most MaxUnits and their sum at most the escrow
		}
	}
	if held > order.Escrow {
		return nil, nil, wire.Refuse(wire.CodePayment, "vouchers of %d in all are above the escrow of %d", held, order.Escrow)
	}
	running := &s.control.running
	if n := running.Add(1); control.Lanes > 0 && n > int64(control.Lanes) {
		running.Add(-1)
		return nil, nil, wire.Refuse(wire.CodeBusy, "this machine works on %d requests at once, and does", control.Lanes)
	}
	select {
	case t.good.slots <- struct{}{}:
	default:
		running.Add(-1)
		return nil, nil, wire.Refuse(wire.CodeBusy, "all %d places of %s are taken", cap(t.good.slots), t.good.Subject)
	}
	ln.busy, ln.most = true, price // the lane is ours
	before := ln.rec.Voucher
	t.store = func() error { return nil }
	if t.max > before.Max || before.Channel.IsZero() {
		ln.rec.Voucher = p.Voucher
		rec := ln.rec
		t.store = func() error {
			err := s.save(bucketLanes, laneKey(l.id, p.Lane), rec)
			if err == nil {
				return nil
			}
			l.mu.Lock()
			ln.rec.Voucher = before
			l.mu.Unlock()
			s.Log.Error("voucher could not be stored, request refused", "lease", l.id.Short(), "lane", p.Lane, "err", err)
			return wire.Refuse(wire.CodeUnavailable, "the provider's disk failed; nothing was charged")
		}
	}
	return t, nil, nil
}

func closedWord(r leaseRecord) string {
	if r.Closed {
		return "closed"
	}
	return string(r.State)
}

// Refuse answers work that was turned away, and has the owner see it.
func (s *Seller) Refuse(w http.ResponseWriter, err error) {
	s.count(func(s *Stats) { s.Refused++ })
	s.book.refuse(s.Now(), err)
	Fail(w, err)
}

// Store puts the voucher on disk. Nothing may be delivered before it has returned;
// the work itself may begin.
func (t *Till) Store() error { return t.store() }

// free gives lane and place back; the caller holds the lease's lock.
func (t *Till) free() {
	if !t.freed {
		t.freed = true
		t.ln.busy, t.ln.most, t.l.used = false, 0, time.Now()
		t.l.ease()
		t.s.control.running.Add(-1)
		<-t.good.slots
	}
}

// Release gives lane and place back. It may be called again.
func (t *Till) Release() {
	t.l.mu.Lock()
	t.free()
	t.l.mu.Unlock()
	if t.done != nil {
		t.done()
		t.done = nil
	}
}

// Fail writes down that the work failed and nothing is charged, and releases the
// till: before the buyer can know, so that it may come back at once.
func (t *Till) Fail(err error) {
	t.s.count(func(s *Stats) { s.Failed++ })
	t.s.Log.Warn("work failed, nothing charged", "lease", t.l.id.Short(), "lane", t.lane, "err", err)
	t.s.noteFailure(t.described(t.s.Now()), err)
	t.Release()
}

// Charge prices the work, signs the receipt, and has both written when it returns.
// When the disk fails nothing is charged.
func (t *Till) Charge(d Delivery) (wire.Signed, error) {
	s, l, ln := t.s, t.l, t.ln
	if len(d.Units) != len(t.ceiling) {
		return wire.Signed{}, errors.New("the work metered other units than the trade's")
	}
	if d.Counted != "" {
		s.Log.Info("units counted here", "lease", l.id.Short(), "subject", t.good.Subject, "how", d.Counted)
	}
	if d.Over != "" {
		s.Log.Warn("more was made than was asked for; nothing beyond that is charged", "lease", l.id.Short(), "subject", t.good.Subject, "made", d.Over)
	}
	l.mu.Lock()
	rec := ln.rec // busy: nobody else changes it but the redeemer, Redeemed alone
	rates := l.rec.Rates
	l.mu.Unlock()
	units := append([]uint64(nil), d.Units...)
	for i := range units {
		if units[i] > t.ceiling[i] {
			s.Log.Warn("units above what was vouched for are not charged", "lease", l.id.Short(), "lane", t.lane,
				"unit", rates[i].Unit, "metered", units[i], "charged", t.ceiling[i])
			units[i] = t.ceiling[i]
		}
	}
	price, err := square.Price(rates, units)
	if err != nil {
		return wire.Signed{}, err
	}
	rcpt := square.Receipt{
		Lease: l.id, Lane: t.lane, Seq: rec.Seq + 1, Subject: l.order.Spec,
		Request: t.request, Result: sha256.Sum256(d.Result), Units: units,
		Price: price, Cumulative: rec.Charged + price, Time: s.Now().UnixMilli(),
	}
	signed := wire.Signed{Receipt: rcpt, Sig: s.Key.Sign(rcpt.Digest(s.domain)), Result: d.Result, Body: d.Body}
	rec.Seq, rec.Charged, rec.LastMax, rec.LastRequest = rcpt.Seq, rcpt.Cumulative, t.max, t.request
	ans, err := json.Marshal(Again{Signed: signed, Kept: d.Kept})
	if err != nil {
		return wire.Signed{}, err
	}
	state, err := json.Marshal(rec)
	if err != nil {
		return wire.Signed{}, err
	}
	ran := t.described(s.Now())
	ran.Receipt, ran.Price, ran.Units = rcpt.Digest(s.domain), price, trade.Meter(rates, units)
	key := laneKey(l.id, t.lane)
	err = s.Store.PutSoon(
		journal.Entry{Bucket: bucketAnswers, Key: key, Value: ans},
		journal.Entry{Bucket: bucketLanes, Key: key, Value: state},
		s.book.add(ran),
	)
	if err != nil {
		return wire.Signed{}, errors.New("the provider's disk failed")
	}
	l.mu.Lock()
	rec.Redeemed = ln.rec.Redeemed
	ln.rec = rec
	t.free()
	urgent := l.urgent(s, time.Time{})
	l.mu.Unlock()
	s.count(func(s *Stats) {
		s.Served++
		s.Charged += price
		if d.Counted != "" {
			s.Counted++
		}
		if d.Over != "" {
			s.Over++
		}
	})
	if urgent {
		s.wake()
	}
	return signed, nil
}

func (s *Seller) lastAnswer(id square.Hash, n uint16) (*Again, error) {
	var rec Again
	err := s.Store.View(func(tx *bolt.Tx) error {
		return json.Unmarshal(tx.Bucket([]byte(bucketAnswers)).Get(laneKey(id, n)), &rec)
	})
	return &rec, err
}

// Context is one that ends with the buyer's, when only the time to redeem is left of
// the lease, or when the seller closes and waits no longer.
func (t *Till) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for d := t.s.left(ctx, t.l); d > 0; d = t.s.left(ctx, t.l) { // a redemption meanwhile has moved it
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
			}
		}
		cancel()
	}()
	t.s.mu.Lock()
	t.s.running[t] = cancel
	t.s.mu.Unlock()
	return ctx, func() {
		t.s.mu.Lock()
		delete(t.s.running, t)
		t.s.mu.Unlock()
		cancel()
		<-watched
	}
}

// left is how long work may still run on a lease. What runs when the lease's time is
// up may go on into the notice that follows.
func (s *Seller) left(ctx context.Context, l *lease) time.Duration {
	now, err := s.clock.Now(ctx)
	if err != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.rec.Until
	if l.rec.State == market.Active && l.rec.Until >= l.rec.Ends {
		end = l.rec.Ends + int64(l.order.Drain)
	}
	return time.Unix(end, 0).Sub(now) - s.Terms.reserve()
}

// numbered is a lane that the lease has.
func (l *lease) numbered(s *Seller, n uint16) (*lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uint64(n) >= l.order.Lanes {
		return nil, wire.Refuse(wire.CodeUnknown, "lane %d: the lease has %d", n, l.order.Lanes)
	}
	return l.lane(s, n), nil
}

// Answer is the last answer of a lane of the caller's lease, for something that is
// done with it: its proof, for example. It is given so many times; the receipt's
// sequence and the request's digest say which answer is meant.
func (c Caller) Answer(lane uint16, seq uint64, request square.Hash, times int) (*Again, error) {
	ln, err := c.l.numbered(c.s, lane)
	if err != nil {
		return nil, err
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch {
	case seq == 0 || seq != ln.rec.Seq || request != ln.rec.LastRequest:
		return nil, wire.Refuse(wire.CodeStale, "the last answer of lane %d is another", lane)
	case ln.shownSeq != seq:
		ln.shownSeq, ln.shown = seq, 0
	case ln.shown >= times:
		return nil, wire.Refuse(wire.CodeBusy, "this was done for the last answer of lane %d %d times already", lane, times)
	}
	a, err := c.s.lastAnswer(c.l.id, lane)
	if err != nil {
		return nil, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
	}
	ln.shown++
	return a, nil
}

func (s *Seller) laneState(_ context.Context, from Caller, req wire.LaneRequest) (wire.LaneReply, error) {
	if err := from.About(req.Lease, req.Lane); err != nil {
		return wire.LaneReply{}, err
	}
	l := from.l
	ln, err := l.numbered(s, req.Lane)
	if err != nil {
		return wire.LaneReply{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := wire.LaneReply{Charged: ln.rec.Charged, Max: ln.rec.Voucher.Max, Seq: ln.rec.Seq, Busy: ln.busy}
	if ln.rec.Seq > 0 {
		a, err := s.lastAnswer(l.id, req.Lane)
		if err != nil {
			return wire.LaneReply{}, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
		}
		out.Last = &a.Signed
	}
	return out, nil
}

func (s *Seller) closeLease(_ context.Context, from Caller, req wire.CloseRequest) (wire.CloseReply, error) {
	if err := from.About(req.Lease, 0); err != nil {
		return wire.CloseReply{}, err
	}
	l := from.l
	if l.order.Mode != square.ModeStream {
		return wire.CloseReply{}, wire.Refuse(wire.CodeBadRequest, "lease %s is for a result, which is claimed and not agreed on: close it with notice", l.id.Short())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var charged uint64
	for n, ln := range l.lanes {
		if ln.busy {
			return wire.CloseReply{}, wire.Refuse(wire.CodeBusy, "lane %d is working on a request", n)
		}
		charged += ln.rec.Charged
	}
	if req.Paid != charged {
		return wire.CloseReply{}, wire.Refuse(wire.CodeStale, "the lease was charged %d in all, not %d", charged, req.Paid)
	}
	if !l.rec.Closed {
		rec := l.rec
		rec.Closed, rec.Paid, rec.Consent = true, charged, s.Key.Sign(square.CloseDigest(s.domain, l.id, charged))
		if err := s.saveLease(l.id, rec); err != nil {
			return wire.CloseReply{}, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
		}
		l.rec = rec
		s.Log.Info("agreed to close", "lease", l.id.Short(), "paid", charged)
	}
	return wire.CloseReply{Sig: l.rec.Consent}, nil
}
