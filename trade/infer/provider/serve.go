package provider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/wire"
)

// work is an admitted request: paid for, its lane and a slot taken.
type work struct {
	l       *lease
	ln      *lane
	n       uint16
	service *service
	request infer.Request
	digest  square.Hash
	ceiling []uint64
	max     uint64
	policy  square.Policy
	began   time.Time
	running *atomic.Int64 // counts it
	done    bool
	// store puts the voucher on disk. Nothing may be delivered before it has.
	store func() error
}

// serve admits a request, does it and charges it.
func (p *Provider) serve(w http.ResponseWriter, r *http.Request, from caller, req infer.ServeRequest) {
	done, ok := p.work()
	if !ok {
		p.refused(w, refuse(wire.CodeUnavailable, "the provider is shutting down; nothing was charged"))
		return
	}
	defer done()

	wk, again, err := p.admitInTime(r.Context(), from, req)
	if err != nil {
		p.refused(w, err)
		return
	}
	out := &frames{w: w, rc: http.NewResponseController(w), patience: p.WriteTimeout}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if again != nil {
		for i := range again.Deltas {
			if out.send(infer.Frame{Delta: &again.Deltas[i]}) != nil {
				return
			}
		}
		_ = out.send(infer.Frame{Receipt: &again.Signed}) // the buyer may ask once more
		return
	}
	defer wk.release()

	ctx, secret, stop := p.cancellable(r.Context(), wk.l, wk.n)
	defer stop()
	// The voucher goes to disk while the engine reads the prompt. Nothing is
	// delivered before it is there, and what cannot be delivered is not charged.
	var unpaid error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if unpaid = wk.store(); unpaid != nil {
			return
		}
		start := infer.Frame{Start: &infer.Start{Cancel: secret}}
		if req.Stream || wk.request.Kind == infer.Opaque {
			unpaid = out.send(start)
		} else {
			unpaid = out.write(start) // an exact answer is there in milliseconds: one packet does
		}
	}()
	var kept answer
	emit := func(d infer.Delta) error {
		if <-opened; unpaid != nil {
			return unpaid
		}
		if req.Stream { // else all at once below: a frame a token costs more than a token
			if err := out.send(infer.Frame{Delta: &d}); err != nil {
				return err
			}
		}
		kept.add(d) // what was delivered
		return nil
	}
	made, err := wk.service.Engine.Run(ctx, Job{wk.request, req.Logprobs, req.Stream}, emit)
	if <-opened; unpaid != nil {
		wk.release()
		p.refused(w, unpaid) // or nobody listens
		return
	}
	if err == nil && !req.Stream {
		for i := range kept.deltas {
			if out.write(infer.Frame{Delta: &kept.deltas[i]}) != nil {
				wk.release()
				return // nobody listens; what is not delivered is not charged
			}
		}
	}
	var signed wire.Signed
	if err == nil {
		signed, err = p.charge(wk, made, kept.deltas)
	}
	if err != nil {
		p.count(func(s *Stats) { s.Failed++ })
		p.Log.Warn("work failed, nothing charged", "lease", wk.l.id.Short(), "lane", wk.n, "seq", req.Seq, "err", err)
		p.noteFailure(wk, err)
		wk.release() // before the buyer can know, so that it may come back at once
		_ = out.write(infer.Frame{Error: wireError(err)})
		return
	}
	_ = out.write(infer.Frame{Receipt: &signed}) // leaves with the end of the answer; the buyer finds it with POST lane
}

func (p *Provider) refused(w http.ResponseWriter, err error) {
	p.count(func(s *Stats) { s.Refused++ })
	p.book.refuse(p.Now(), err)
	fail(w, err)
}

// frames writes an answer, each frame at once. A buyer that does not read holds
// a place: it is waited for patience long in all.
type frames struct {
	w        io.Writer
	rc       *http.ResponseController
	patience time.Duration
}

func (f *frames) send(fr infer.Frame) error {
	if err := f.write(fr); err != nil {
		return err
	}
	return f.wait(f.rc.Flush)
}

// wait counts how long something takes against the patience.
func (f *frames) wait(does func() error) error {
	began := time.Now()
	_ = f.rc.SetWriteDeadline(began.Add(max(f.patience, time.Millisecond))) // recorders have none
	err := does()
	f.patience -= time.Since(began)
	return err
}

// write leaves the frame to go with the next that is sent.
func (f *frames) write(fr infer.Frame) error {
	b, err := json.Marshal(fr)
	if err != nil {
		return err
	}
	return f.wait(func() error {
		_, err := f.w.Write(append(b, '\n'))
		return err
	})
}

// answer keeps what was delivered, so that it can be delivered again: pieces of
// text run together, verbatim events stay apart.
type answer struct{ deltas []infer.Delta }

func (a *answer) add(d infer.Delta) {
	if n := len(a.deltas); n > 0 && d.Raw == nil && a.deltas[n-1].Raw == nil {
		last := &a.deltas[n-1]
		last.Text += d.Text
		last.Tokens += d.Tokens
		last.Logprobs = append(last.Logprobs, d.Logprobs...)
		return
	}
	d.Logprobs = append([]infer.Logprob(nil), d.Logprobs...)
	a.deltas = append(a.deltas, d)
}

// creditWait is how long a request waits for a redemption that makes room for it.
const creditWait = 2 * time.Second

// errCredit says that as much waits to be redeemed as may.
var errCredit = refuse(wire.CodeBusy, "too much of this lease waits to be redeemed; nothing was charged")

// admitInTime admits a request, after a redemption where that is needed first.
func (p *Provider) admitInTime(ctx context.Context, from caller, req infer.ServeRequest) (*work, *answerRecord, error) {
	timeout := time.NewTimer(creditWait)
	defer timeout.Stop()
	for {
		from.l.mu.Lock()
		eased := from.l.eased
		from.l.mu.Unlock()
		wk, again, err := p.admit(ctx, from, req)
		if !errors.Is(err, errCredit) {
			return wk, again, err
		}
		from.l.mu.Lock()
		from.l.starved = true // until it is redeemed
		from.l.mu.Unlock()
		p.wake()
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
func (p *Provider) margin(l *lease) time.Duration {
	if l.rec.Until < l.rec.Ends {
		return p.Terms.reserve() * 3 / 2
	}
	return p.Terms.reserve() / 2
}

// admit checks everything about a request and takes its lane and a slot. For a
// request that was already answered it returns the answer instead.
func (p *Provider) admit(ctx context.Context, from caller, req infer.ServeRequest) (*work, *answerRecord, error) {
	if err := from.about(req.Lease, req.Lane); err != nil {
		return nil, nil, err
	}
	request, err := infer.DecodeRequest(req.Request)
	if err != nil {
		return nil, nil, refuse(wire.CodeBadRequest, "%v", err)
	}
	if req.Logprobs < 0 || req.Logprobs > 20 {
		return nil, nil, refuse(wire.CodeBadRequest, "logprobs %d: want 0 to 20", req.Logprobs)
	}
	l := from.l
	l.mu.Lock()
	order, rates := l.order, l.rec.Rates // neither changes
	if uint64(req.Lane) >= order.Lanes {
		l.mu.Unlock()
		return nil, nil, refuse(wire.CodeUnknown, "lane %d: the lease has %d", req.Lane, order.Lanes)
	}
	ln := l.lane(p, req.Lane)
	l.mu.Unlock()
	if req.Voucher.Channel != ln.channel {
		return nil, nil, refuse(wire.CodePayment, "the voucher is for another channel; this lane's is %s", ln.channel)
	}
	if err := req.Voucher.Verify(p.channel, order.Authorizer); err != nil {
		return nil, nil, refuse(wire.CodePayment, "%v", err)
	}
	now, err := p.clock.Now(ctx)
	if err != nil {
		return nil, nil, refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	wk := &work{service: p.service(order.Spec), l: l, ln: ln, n: req.Lane, request: request, digest: sha256.Sum256(req.Request), max: req.Voucher.Max, policy: order.Policy, began: time.Now(), running: &p.control.running}

	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.rec.Seq > 0 && req.Seq == ln.rec.Seq && wk.max == ln.rec.LastMax && wk.digest == ln.rec.LastRequest {
		again, err := p.lastAnswer(l.id, req.Lane)
		if err != nil {
			return nil, nil, refuse(wire.CodeUnavailable, "the provider's disk failed; the request was charged before, and not again")
		}
		return nil, again, nil
	}
	control := p.Control()
	switch {
	case control.Paused:
		return nil, nil, errPaused
	case l.rec.Closed || l.rec.State != market.Active: // disputed as well: what is served then may never be paid
		return nil, nil, refuse(wire.CodeClosed, "lease %s is %s", l.id.Short(), closedWord(l.rec))
	case !now.Before(time.Unix(l.rec.Until, 0).Add(-p.margin(l))):
		return nil, nil, refuse(wire.CodeClosed, "lease %s is about to end", l.id.Short())
	case ln.busy:
		return nil, nil, refuse(wire.CodeBusy, "lane %d is working on a request", req.Lane)
	case req.Seq != ln.rec.Seq+1:
		return nil, nil, refuse(wire.CodeStale, "lane %d is at receipt %d, so the next is %d, not %d", req.Lane, ln.rec.Seq, ln.rec.Seq+1, req.Seq)
	}
	if wk.service == nil {
		return nil, nil, refuse(wire.CodeUnavailable, "model %s is not served at the moment; nothing was charged", order.Spec.Short())
	}
	if wk.ceiling, err = wk.service.Engine.Ceiling(request); err != nil {
		return nil, nil, badRequest(err)
	}
	if order.Policy == square.PolicyProve {
		if err := wk.service.provable(request); err != nil {
			return nil, nil, err
		}
	}
	price, err := square.Price(rates, wk.ceiling)
	if err != nil {
		return nil, nil, refuse(wire.CodeBadRequest, "%v", err)
	}
	if wk.max < ln.rec.Charged || wk.max-ln.rec.Charged < price {
		return nil, nil, refuse(wire.CodePayment, "voucher of %d is too low: lane %d was charged %d and this request may cost %d", wk.max, req.Lane, ln.rec.Charged, price)
	}
	if price > order.JobValue {
		return nil, nil, refuse(wire.CodePayment, "this request may cost %d and the lease was made for requests of at most %d; lower max_tokens", price, order.JobValue)
	}
	// What is not redeemed when a lease ends is lost: whatever happens, it is not
	// more than one request may be.
	if owed := l.owed(); owed > 0 && owed+price > p.Terms.credit(order) {
		return nil, nil, errCredit
	}
	held := max(wk.max, ln.rec.Voucher.Max)
	for n, other := range l.lanes {
		if n != req.Lane {
			held += other.rec.Voucher.Max // each at most MaxUnits and their sum at most the escrow
		}
	}
	if held > order.Escrow {
		return nil, nil, refuse(wire.CodePayment, "vouchers of %d in all are above the escrow of %d", held, order.Escrow)
	}
	if n := wk.running.Add(1); control.Lanes > 0 && n > int64(control.Lanes) {
		wk.running.Add(-1)
		return nil, nil, refuse(wire.CodeBusy, "this machine works on %d requests at once, and does", control.Lanes)
	}
	select {
	case wk.service.slots <- struct{}{}:
	default:
		wk.running.Add(-1)
		return nil, nil, refuse(wire.CodeBusy, "all %d places of this model are taken", cap(wk.service.slots))
	}
	ln.busy, ln.most = true, price // the lane is ours
	before := ln.rec.Voucher
	wk.store = func() error { return nil }
	if wk.max > before.Max || before.Channel.IsZero() {
		ln.rec.Voucher = req.Voucher
		rec := ln.rec
		wk.store = func() error {
			err := p.save(bucketLanes, laneKey(l.id, req.Lane), rec)
			if err == nil {
				return nil
			}
			l.mu.Lock()
			ln.rec.Voucher = before
			l.mu.Unlock()
			p.Log.Error("voucher could not be stored, request refused", "lease", l.id.Short(), "lane", req.Lane, "err", err)
			return refuse(wire.CodeUnavailable, "the provider's disk failed; nothing was charged")
		}
	}
	return wk, nil, nil
}

func closedWord(r leaseRecord) string {
	if r.Closed {
		return "closed"
	}
	return string(r.State)
}

func badRequest(err error) error {
	var we *wire.Refusal
	if errors.As(err, &we) {
		return we
	}
	return refuse(wire.CodeBadRequest, "%v", err)
}

// free gives lane and slot back; the caller holds the lease's lock.
func (wk *work) free() {
	if !wk.done {
		wk.done = true
		wk.ln.busy, wk.ln.most, wk.l.used = false, 0, time.Now()
		wk.l.ease()
		wk.running.Add(-1)
		<-wk.service.slots
	}
}

// release is free with the lock taken. It may be called again.
func (wk *work) release() {
	wk.l.mu.Lock()
	defer wk.l.mu.Unlock()
	wk.free()
}

// charge prices the work, signs the receipt, and has both on disk when it
// returns. When the disk fails nothing is charged.
func (p *Provider) charge(wk *work, made Output, deltas []infer.Delta) (wire.Signed, error) {
	if len(made.Units) != len(wk.ceiling) {
		return wire.Signed{}, errors.New("the engine metered other units than the trade's")
	}
	if made.Counted != "" {
		p.Log.Info("units counted here", "lease", wk.l.id.Short(), "model", wk.service.model.Name, "why", made.Counted)
	}
	if made.Over != "" {
		p.Log.Warn("the server does not keep to the limit; nothing beyond it is charged", "lease", wk.l.id.Short(), "model", wk.service.model.Name, "gave", made.Over)
	}
	result := made.Result.Encode()
	l, ln := wk.l, wk.ln
	l.mu.Lock()
	rec := ln.rec // busy: nobody else changes it but the redeemer, Redeemed alone
	rates := l.rec.Rates
	l.mu.Unlock()
	units := append([]uint64(nil), made.Units...)
	for i := range units {
		if units[i] > wk.ceiling[i] {
			p.Log.Warn("units above what was vouched for are not charged", "lease", l.id.Short(), "lane", wk.n,
				"unit", rates[i].Unit, "metered", units[i], "charged", wk.ceiling[i])
			units[i] = wk.ceiling[i]
		}
	}
	price, err := square.Price(rates, units)
	if err != nil {
		return wire.Signed{}, err
	}
	rcpt := square.Receipt{
		Lease: l.id, Lane: wk.n, Seq: rec.Seq + 1, Subject: wk.service.model.Subject,
		Request: wk.digest, Result: sha256.Sum256(result), Units: units,
		Price: price, Cumulative: rec.Charged + price, Time: p.Now().UnixMilli(),
	}
	signed := wire.Signed{Receipt: rcpt, Sig: p.Key.Sign(rcpt.Digest(p.domain)), Result: result, Body: made.Body}
	rec.Seq, rec.Charged, rec.LastMax, rec.LastRequest = rcpt.Seq, rcpt.Cumulative, wk.max, wk.digest
	ans, err := json.Marshal(answerRecord{Signed: signed, Deltas: deltas})
	if err != nil {
		return wire.Signed{}, err
	}
	state, err := json.Marshal(rec)
	if err != nil {
		return wire.Signed{}, err
	}
	key := laneKey(l.id, wk.n)
	err = p.Store.PutSoon(
		journal.Entry{Bucket: bucketAnswers, Key: key, Value: ans},
		journal.Entry{Bucket: bucketLanes, Key: key, Value: state},
		p.book.add(wk.ran(p.Now(), rcpt, p.domain)),
	)
	if err != nil {
		return wire.Signed{}, errors.New("the provider's disk failed")
	}
	l.mu.Lock()
	rec.Redeemed = ln.rec.Redeemed
	ln.rec = rec
	wk.free()
	urgent := l.urgent(p, time.Time{})
	l.mu.Unlock()
	p.count(func(s *Stats) {
		s.Served++
		s.Charged += price
		if made.Counted != "" {
			s.Counted++
		}
		if made.Over != "" {
			s.Over++
		}
	})
	if urgent {
		p.wake()
	}
	return signed, nil
}

func (p *Provider) lastAnswer(id square.Hash, n uint16) (*answerRecord, error) {
	var rec answerRecord
	err := p.Store.View(func(tx *bolt.Tx) error {
		return json.Unmarshal(tx.Bucket([]byte(bucketAnswers)).Get(laneKey(id, n)), &rec)
	})
	return &rec, err
}

// cancellable is a context that ends with the buyer's connection, with its
// cancel call, or when only the time to redeem is left of the lease.
func (p *Provider) cancellable(ctx context.Context, l *lease, lane uint16) (context.Context, string, func()) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for d := p.left(ctx, l); d > 0; d = p.left(ctx, l) { // a redemption meanwhile has moved it
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
			}
		}
		cancel()
	}()
	var b [16]byte
	rand.Read(b[:])
	secret := hex.EncodeToString(b[:])
	p.mu.Lock()
	p.cancels[secret] = running{l.id, lane, cancel}
	p.mu.Unlock()
	return ctx, secret, func() {
		p.mu.Lock()
		delete(p.cancels, secret)
		p.mu.Unlock()
		cancel()
		<-watched
	}
}

// left is how long a request may still run on a lease. One that runs when the
// lease's time is up may go on into the notice that follows.
func (p *Provider) left(ctx context.Context, l *lease) time.Duration {
	now, err := p.clock.Now(ctx)
	if err != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.rec.Until
	if l.rec.State == market.Active && l.rec.Until >= l.rec.Ends {
		end = l.rec.Ends + int64(l.order.Drain)
	}
	return time.Unix(end, 0).Sub(now) - p.Terms.reserve()
}

func (p *Provider) cancel(w http.ResponseWriter, _ *http.Request, from caller, req infer.CancelRequest) {
	if err := from.about(req.Lease, req.Lane); err != nil {
		fail(w, err)
		return
	}
	p.mu.Lock()
	r := p.cancels[req.Cancel]
	p.mu.Unlock()
	if r.stop != nil && r.lease == from.Lease && r.lane == from.Lane { // one that has just ended needs no stopping
		r.stop()
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *Provider) laneState(_ context.Context, from caller, req wire.LaneRequest) (wire.LaneReply, error) {
	if err := from.about(req.Lease, req.Lane); err != nil {
		return wire.LaneReply{}, err
	}
	l := from.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if uint64(req.Lane) >= l.order.Lanes {
		return wire.LaneReply{}, refuse(wire.CodeUnknown, "lane %d: the lease has %d", req.Lane, l.order.Lanes)
	}
	ln := l.lane(p, req.Lane)
	out := wire.LaneReply{Charged: ln.rec.Charged, Max: ln.rec.Voucher.Max, Seq: ln.rec.Seq, Busy: ln.busy}
	if ln.rec.Seq > 0 {
		a, err := p.lastAnswer(l.id, req.Lane)
		if err != nil {
			return wire.LaneReply{}, refuse(wire.CodeUnavailable, "the provider's disk failed")
		}
		out.Last = &a.Signed
	}
	return out, nil
}

func (p *Provider) closeLease(_ context.Context, from caller, req wire.CloseRequest) (wire.CloseReply, error) {
	if err := from.about(req.Lease, 0); err != nil {
		return wire.CloseReply{}, err
	}
	l := from.l
	l.mu.Lock()
	defer l.mu.Unlock()
	var charged uint64
	for n, ln := range l.lanes {
		if ln.busy {
			return wire.CloseReply{}, refuse(wire.CodeBusy, "lane %d is working on a request", n)
		}
		charged += ln.rec.Charged
	}
	if req.Paid != charged {
		return wire.CloseReply{}, refuse(wire.CodeStale, "the lease was charged %d in all, not %d", charged, req.Paid)
	}
	if !l.rec.Closed {
		rec := l.rec
		rec.Closed, rec.Paid, rec.Consent = true, charged, p.Key.Sign(square.CloseDigest(p.domain, l.id, charged))
		if err := p.saveLease(l.id, rec); err != nil {
			return wire.CloseReply{}, refuse(wire.CodeUnavailable, "the provider's disk failed")
		}
		l.rec = rec
		p.Log.Info("agreed to close", "lease", l.id.Short(), "paid", charged)
	}
	return wire.CloseReply{Sig: l.rec.Consent}, nil
}
