package buyer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// Do asks. See Seller.
func (d *Desk) Do(ctx context.Context, a Ask, emit func(infer.Delta) error) (Answer, error) {
	job, err := meter.Read(a.Request)
	if err != nil {
		return Answer{}, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	if err := sold(d.policy(a)); err != nil {
		return Answer{}, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return Answer{}, errors.New("the desk is closed")
	}
	d.working.Add(1)
	d.mu.Unlock()
	defer d.working.Done()

	seats, err := d.route(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	var failed []error
	for _, s := range seats {
		out := &outlet{emit: emit}
		ans, err := d.try(ctx, s, a, job, out)
		var we *wire.Refusal
		if errors.As(err, &we) && we.Code == wire.CodeClosed && ctx.Err() == nil {
			ans, err = d.try(ctx, s, a, job, out) // on another lease; that one has ended
		}
		if err == nil || out.begun || ctx.Err() != nil || errors.As(err, &we) && we.Code == wire.CodeBadRequest || errors.Is(err, ErrUnproven) {
			return ans, err
		}
		failed = append(failed, err)
	}
	return Answer{}, together(failed)
}

// together is the error of a request that every provider failed. Where all
// failed alike it is that failure.
func together(failed []error) error {
	for _, kind := range []error{ErrNoProvider, ErrStalled, ErrFunds, ErrBudget, ErrPrice, ErrBusy, ErrPaused, ErrUnknown} {
		if !slices.ContainsFunc(failed, func(e error) bool { return !errors.Is(e, kind) }) {
			return failed[0]
		}
	}
	words := make([]string, len(failed))
	unknown := false
	for i, e := range failed {
		words[i] = e.Error()
		unknown = unknown || errors.Is(e, ErrUnknown)
	}
	if unknown { // money may have been spent: that must not be lost in the words
		return fmt.Errorf("%w: %w: %s", ErrProvider, ErrUnknown, strings.Join(words, "; "))
	}
	return fmt.Errorf("%w: %s", ErrProvider, strings.Join(words, "; "))
}

// outlet passes pieces on and remembers whether the client has seen any.
type outlet struct {
	emit  func(infer.Delta) error
	begun bool
	err   error // the client takes no more
}

func (o *outlet) send(d infer.Delta) error {
	if o.err != nil || o.emit == nil {
		return o.err
	}
	o.begun = true
	o.err = o.emit(d)
	return o.err
}

// try asks one provider, on one lane.
func (d *Desk) try(ctx context.Context, s *seat, a Ask, job meter.Job, out *outlet) (Answer, error) {
	policy := d.policy(a)
	if policy == square.PolicyProve {
		if err := d.provable(ctx, s, a.Request); err != nil {
			return Answer{}, err
		}
	}
	h, price, err := d.acquire(ctx, s, job, policy, a.MaxCost)
	if err != nil {
		return Answer{}, err
	}
	defer d.release(h)
	started := time.Now()
	body := a.Request.Encode()
	// busy: the lane's record is this request's alone.
	rec := h.ln.rec
	most := rec.Charged + price
	req := infer.ServeRequest{Payment: wire.Payment{Lease: h.l.id, Lane: h.ln.n, Seq: rec.Seq + 1}, Request: body, Logprobs: a.Logprobs, Stream: a.Stream}
	var signing sync.WaitGroup // beside the disk
	signing.Go(func() { req.Voucher = square.SignVoucher(d.channel, h.ln.channel, most, d.cfg.Key) })
	err = d.pend(h, &pending{Max: most, Request: body, Account: a.Account})
	if signing.Wait(); err != nil {
		return Answer{}, fmt.Errorf("the disk failed, nothing was sent: %w", err)
	}
	sp := spoken{kind: a.Request.Kind}
	signed, ttft, err := d.converse(ctx, h, req, out, &sp)
	if broken(err) && !out.begun && out.err == nil && ctx.Err() == nil {
		// The same again gets the same answer and is charged once, whether or
		// not the first reached the provider.
		sp = spoken{kind: a.Request.Kind}
		again, t, err2 := d.converse(ctx, h, req, out, &sp)
		if err2 == nil {
			signed, ttft, err = again, t, nil
		}
	}
	if err != nil {
		if refusal := (errRefused{}); !errors.As(err, &refusal) || refusal.Code != wire.CodeBadRequest && refusal.Code != wire.CodeBusy && refusal.Code != wire.CodePaused {
			d.saw(s, errors.Is(err, context.Canceled) || ctx.Err() != nil || out.err != nil, 0, 0)
		}
		return d.afterFailure(ctx, s, h, a, out, err)
	}
	result, err := d.verify(h, body, job, price, signed, &sp)
	if err != nil {
		d.distrust(s, h, err)
		d.accuse(ctx, h, body, signed)
		return Answer{}, fmt.Errorf("provider %s: %w: %w", s.key.provider, ErrUnknown, err)
	}
	kept, err := d.commit(h, s, body, signed, ttft)
	if err != nil {
		// The provider is owed this all the same.
		d.cfg.Log.Error("receipt could not be stored", "lease", h.l.id.Short(), "lane", h.ln.n, "err", err)
	}
	rate, took := 0.0, time.Since(started)
	if a.Stream {
		took -= ttft // else the first piece is the whole answer
	}
	if took > 0 && signed.Receipt.Units[1] > 1 {
		rate = float64(signed.Receipt.Units[1]) / took.Seconds()
	}
	over := sp.over(job, h.l.rec.Context)
	if over {
		d.cfg.Log.Warn("a server gave more than it was asked for; nothing beyond that was charged", "provider", s.key.provider.String(), "model", h.l.rec.Model)
	}
	cut := result.Kind != infer.Embed && (result.Finish == infer.FinishError || result.Finish == infer.FinishCancelled && ctx.Err() == nil && out.err == nil)
	d.saw(s, !cut && !over, ttft, rate)
	ans := d.answer(s, h, signed, result, ttft)
	if policy == square.PolicyProve {
		if err := d.prove(ctx, s, h, kept); err != nil {
			return ans, err
		}
		ans.Verified = policy
	}
	return ans, nil
}

func (d *Desk) answer(s *seat, h held, signed wire.Signed, result infer.Result, ttft time.Duration) Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.model(s)
	m.Rates = h.l.rec.Rates
	return Answer{
		Provider: s.key.provider, Model: m, Lease: h.l.id, Receipt: signed.Receipt.Digest(d.domain),
		Signed: signed, Result: result, TTFT: ttft,
		Cost: square.Amount{Units: signed.Receipt.Price, Denom: h.l.rec.Order.Denom},
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
	d.mu.Unlock()
	err := d.save(bucketLanes, laneKey(h.l.id, h.ln.n), rec)
	if err != nil && p != nil {
		d.mu.Lock()
		h.ln.rec = before // never sent
		d.mu.Unlock()
	}
	return err
}

// errSilent says that a provider said nothing for too long.
var errSilent = errors.New("the provider was silent for too long")

// broken reports whether a conversation ended because the connection did.
func broken(err error) bool {
	var refusal errRefused
	return err != nil && !errors.As(err, &refusal) && !errors.Is(err, errSilent) && !errors.Is(err, context.Canceled)
}

// errRefused says that the provider refused the request before any work.
type errRefused struct{ *wire.Refusal }

func (e errRefused) Unwrap() error { return e.Refusal }

// Is makes a provider that is at its limit as busy as one whose lanes are, and
// tells one that has paused.
func (e errRefused) Is(target error) bool {
	return target == ErrBusy && e.Code == wire.CodeBusy || target == ErrPaused && e.Code == wire.CodePaused
}

// converse sends a request and reads its answer to the end. An ended ctx, or a
// client that takes no more, cancels the work; the receipt is still waited for,
// Grace long.
func (d *Desk) converse(ctx context.Context, h held, req infer.ServeRequest, out *outlet, sp *spoken) (wire.Signed, time.Duration, error) {
	started := time.Now()
	to := d.target(h.l, h.ln.n)
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	type read struct {
		frame infer.Frame
		err   error
	}
	in := make(chan read)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		res, err := d.post(rctx, to, "infer/serve", req)
		if err == nil {
			defer res.Body.Close()
		} else if we := (*wire.Refusal)(nil); errors.As(err, &we) {
			err = errRefused{we}
		}
		fs := frames{}
		if err == nil {
			fs = newFrames(res.Body)
		}
		for {
			r := read{err: err}
			if err == nil {
				r.frame, r.err = fs.next()
			}
			last := r.frame.Receipt != nil || r.frame.Error != nil
			if last {
				// To its end, or the connection could not be used again.
				_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
			}
			select {
			case in <- r:
			case <-rctx.Done():
				return
			}
			if last || r.err != nil {
				return
			}
		}
	}()
	defer func() { stop(); <-ended }()

	silence := time.NewTimer(d.cfg.Silence)
	defer silence.Stop()
	var (
		ttft   time.Duration
		secret string
		gone   = ctx.Done()
		asked  bool // to cancel
		late   bool // the client has gone
	)
	cancel := func() {
		if late && !asked && secret != "" {
			asked = true
			cctx, done := context.WithTimeout(rctx, d.cfg.Grace)
			_ = d.call(cctx, to, "infer/cancel", infer.CancelRequest{Lease: to.lease, Lane: to.lane, Cancel: secret}, nil) // else the grace ends it
			done()
		}
	}
	leave := func() {
		if !late {
			late = true
			silence.Reset(d.cfg.Grace)
			cancel()
		}
	}
	for {
		select {
		case <-gone:
			gone = nil
			leave()
		case <-silence.C:
			if late {
				return wire.Signed{}, ttft, fmt.Errorf("cancelled, and no receipt came: %w", context.Canceled)
			}
			return wire.Signed{}, ttft, errSilent
		case r := <-in:
			if r.err != nil {
				if errors.Is(r.err, io.EOF) || errors.Is(r.err, io.ErrUnexpectedEOF) {
					r.err = errors.New("the provider broke off")
				}
				return wire.Signed{}, ttft, r.err
			}
			if !late {
				silence.Reset(d.cfg.Silence)
			}
			switch f := r.frame; {
			case f.Start != nil:
				secret = f.Start.Cancel
				cancel()
			case f.Delta != nil:
				if ttft == 0 {
					ttft = time.Since(started)
				}
				if err := sp.add(f.Delta); err != nil {
					return wire.Signed{}, ttft, err
				}
				if !late && out.send(*f.Delta) != nil {
					leave()
				}
			case f.Error != nil:
				return wire.Signed{}, ttft, errRefused{f.Error}
			case f.Receipt != nil:
				return *f.Receipt, ttft, nil
			default:
				return wire.Signed{}, ttft, errors.New("the provider sent an empty frame")
			}
		}
	}
}

// afterFailure finds out what a request that ended without a receipt cost.
func (d *Desk) afterFailure(ctx context.Context, s *seat, h held, a Ask, out *outlet, cause error) (Answer, error) {
	d.mu.Lock()
	h.ln.talking = false
	d.mu.Unlock()
	cause = fmt.Errorf("provider %s: %w", s.key.provider, cause)
	var refusal errRefused
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
			if err := d.pend(h, nil); err != nil {
				d.cfg.Log.Warn("lane could not be noted", "lease", h.l.id.Short(), "err", err)
			}
			return Answer{}, cause
		}
	}
	var op *net.OpError
	if errors.As(cause, &op) && op.Op == "dial" {
		// Nothing was ever sent.
		if err := d.pend(h, nil); err != nil {
			d.cfg.Log.Warn("lane could not be noted", "lease", h.l.id.Short(), "err", err)
		}
		return Answer{}, cause
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Grace)
	defer cancel()
	signed, err := d.resync(rctx, h)
	switch {
	case err != nil:
		wake(d.kick)
		return Answer{}, fmt.Errorf("%w: %w", ErrUnknown, cause)
	case signed == nil: // nothing was charged
		return Answer{}, cause
	}
	// It was charged, and what it made is known after all.
	result, err := infer.DecodeResult(signed.Result)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	ans := d.answer(s, h, *signed, result, 0)
	if ctx.Err() != nil || out.err != nil {
		return ans, nil // as asked
	}
	return ans, fmt.Errorf("%w: charged %d: %w", ErrUnknown, signed.Receipt.Price, cause)
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
	case st.Seq == ln.rec.Seq+1 && st.Last != nil:
		req, err := infer.DecodeRequest(p.Request)
		var job meter.Job
		if err == nil {
			job, err = meter.Read(req)
		}
		if err == nil {
			_, err = d.verify(h, p.Request, job, p.Max-ln.rec.Charged, *st.Last, nil)
		}
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
	return d.seat(seatKey{l.rec.Provider, l.rec.Order.Spec})
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

// spoken gathers what a provider delivered, to hold it against what it signs.
type spoken struct {
	kind   infer.Kind
	text   strings.Builder
	tokens int
	usage  *infer.Usage // what the server behind says
}

// add reads a piece, and leaves what it read in it.
func (sp *spoken) add(d *infer.Delta) error {
	text := d.Text
	if d.Raw != nil {
		ev, err := meter.ReadEvent(d.Raw)
		if err != nil {
			return fmt.Errorf("the provider passed on what is no event: %w", err)
		}
		d.Event, text = ev, ev.Text
		if ev.Usage != nil {
			sp.usage = ev.Usage
		}
	}
	if sp.text.Len()+len(text) > infer.MaxResult {
		return errors.New("the provider's answer is too long")
	}
	sp.text.WriteString(text)
	sp.tokens += d.Tokens
	return nil
}

// over reports whether the server behind a provider gave more than it was asked
// for.
func (sp *spoken) over(j meter.Job, context uint64) bool {
	return j.Kind == infer.Opaque && j.Body.Path != meter.Embeddings && sp.usage != nil && sp.usage.Completion > int64(j.Tokens(context))
}

// reader is a Replayer that can also read tokens.
type reader interface {
	Text(infer.Request, infer.Result) string
}

// verify checks everything about a receipt: who signed it, that it is the next
// of its lane, that it is for this request and this result, that its price is
// what its units cost and within what was vouched for, and (where sp is what
// was delivered) that what was signed is what was delivered.
func (d *Desk) verify(h held, request []byte, req meter.Job, price uint64, s wire.Signed, sp *spoken) (infer.Result, error) {
	r, l, rec := s.Receipt, h.l, h.ln.rec
	most := req.Ceiling(l.rec.Context)
	switch {
	case r.Lease != l.id || r.Lane != h.ln.n:
		return infer.Result{}, errors.New("the receipt is for another lane")
	case r.Seq != rec.Seq+1:
		return infer.Result{}, fmt.Errorf("the receipt is number %d, not %d", r.Seq, rec.Seq+1)
	case r.Subject != l.rec.Order.Spec:
		return infer.Result{}, errors.New("the receipt is for another model")
	case r.Request != sha256.Sum256(request):
		return infer.Result{}, errors.New("the receipt is for another request")
	case r.Result != sha256.Sum256(s.Result):
		return infer.Result{}, errors.New("the receipt is for another result")
	case len(r.Units) != len(l.rec.Rates) || len(r.Units) != len(most):
		return infer.Result{}, errors.New("the receipt meters other units")
	case r.Units[0] > most[0] || r.Units[1] > most[1] || req.Kind != infer.Opaque && r.Units[0] != most[0]:
		return infer.Result{}, fmt.Errorf("%d are metered where at most %d can be", r.Units, most)
	case r.Price > price:
		return infer.Result{}, fmt.Errorf("the receipt charges %d of at most %d", r.Price, price)
	case r.Cumulative != rec.Charged+r.Price:
		return infer.Result{}, fmt.Errorf("the receipt's sum is %d, not %d", r.Cumulative, rec.Charged+r.Price)
	}
	if err := r.Charged(l.rec.Rates); err != nil {
		return infer.Result{}, err
	}
	if err := r.Verify(d.domain, l.rec.Provider, s.Sig); err != nil {
		return infer.Result{}, err
	}
	res, err := infer.DecodeResult(s.Result)
	if err != nil {
		return infer.Result{}, err
	}
	if res.Kind != req.Kind {
		return infer.Result{}, fmt.Errorf("a request of kind %q was answered with %q", req.Kind, res.Kind)
	}
	switch res.Kind {
	case infer.Exact:
		if uint64(len(res.Tokens)) != r.Units[1] || uint64(len(res.Tokens)) > uint64(req.MaxTokens) {
			return infer.Result{}, fmt.Errorf("%d tokens were metered, %d given", r.Units[1], len(res.Tokens))
		}
		if sp == nil {
			break
		}
		if sp.tokens != len(res.Tokens) {
			return infer.Result{}, fmt.Errorf("%d tokens were delivered, %d signed for", sp.tokens, len(res.Tokens))
		}
		for _, m := range d.cfg.Models {
			if t, ok := m.(reader); ok && m.Subject() == r.Subject {
				want, got := t.Text(req.Request, res), sp.text.String()
				if got != want && !(res.Finish == infer.FinishCancelled && strings.HasPrefix(want, got)) {
					return infer.Result{}, errors.New("the text delivered is not the text signed for")
				}
			}
		}
	case infer.Opaque:
		if sp != nil && s.Body == nil && sp.text.String() != string(res.Text) ||
			s.Body != nil && string(s.Body) != string(res.Text) {
			return infer.Result{}, errors.New("the answer delivered is not the answer signed for")
		}
		text := len(res.Text)
		if s.Body != nil {
			ev, err := meter.ReadEvent(s.Body)
			if err != nil {
				return infer.Result{}, fmt.Errorf("the provider passed on what is no answer: %w", err)
			}
			if text = len(ev.Text); sp != nil {
				sp.usage = ev.Usage
			}
		}
		if r.Units[1] > meter.Most(text, req.Body.Choices) {
			return infer.Result{}, fmt.Errorf("%d completion tokens were metered for %d bytes of text", r.Units[1], text)
		}
	}
	return res, nil
}
