package buyer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// Do asks. See Seller.
func (b *Buyer) Do(ctx context.Context, a Ask, emit func(infer.Delta) error) (Answer, error) {
	job, err := meter.Read(a.Request)
	if err != nil {
		return Answer{}, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	policy, err := b.cfg.Desk.Policy(a.Route.Policy)
	if err != nil {
		return Answer{}, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	a.Route.Policy = policy
	seats, err := b.route(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	if policy == square.PolicyReplicate {
		return b.pair(ctx, seats, a, job, emit)
	}
	var failed []error
	for _, s := range seats {
		out := &outlet{emit: emit}
		ans, err := b.try(ctx, s, a, job, out)
		var we *wire.Refusal
		if errors.As(err, &we) && we.Code == wire.CodeClosed && ctx.Err() == nil {
			ans, err = b.try(ctx, s, a, job, out) // on another lease; that one has ended
		}
		if err == nil || out.begun || ctx.Err() != nil || errors.As(err, &we) && we.Code == wire.CodeBadRequest || errors.Is(err, desk.ErrUnproven) {
			return ans, err
		}
		failed = append(failed, err)
	}
	return Answer{}, together(failed)
}

// together is the error of a request that every provider failed. Where all
// failed alike it is that failure.
func together(failed []error) error {
	for _, kind := range []error{desk.ErrNoProvider, desk.ErrStalled, desk.ErrFunds, desk.ErrBudget, desk.ErrPrice, desk.ErrBusy, desk.ErrPaused, desk.ErrUnknown} {
		if !slices.ContainsFunc(failed, func(e error) bool { return !errors.Is(e, kind) }) {
			return failed[0]
		}
	}
	words := make([]string, len(failed))
	unknown := false
	for i, e := range failed {
		words[i] = e.Error()
		unknown = unknown || errors.Is(e, desk.ErrUnknown)
	}
	if unknown { // money may have been spent: that must not be lost in the words
		return fmt.Errorf("%w: %w: %s", desk.ErrProvider, desk.ErrUnknown, strings.Join(words, "; "))
	}
	return fmt.Errorf("%w: %s", desk.ErrProvider, strings.Join(words, "; "))
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
func (b *Buyer) try(ctx context.Context, s desk.Seat, a Ask, job meter.Job, out *outlet) (Answer, error) {
	if a.Route.Policy == square.PolicyProve {
		if err := b.cfg.Trade.provable(ctx, s.Offer.Spec, a.Request); err != nil {
			return Answer{}, err
		}
	}
	lane, err := b.hold(ctx, s, a, job)
	if err != nil {
		return Answer{}, err
	}
	defer lane.Release()
	ans, _, err := b.work(ctx, s, lane, a, job, out, nil)
	return ans, err
}

func (b *Buyer) hold(ctx context.Context, s desk.Seat, a Ask, job meter.Job) (*desk.Lane, error) {
	return b.cfg.Desk.Hold(ctx, desk.Want{
		Trade: infer.Name, Provider: s.Offer.Provider, Spec: s.Offer.Spec, Policy: a.Route.Policy,
		Ceiling: func(o square.Offer) ([]uint64, error) { return job.Ceiling(contextLength(o)), nil },
		MaxCost: a.MaxCost, Takes: takes(s, job), Account: a.Account,
	})
}

// work has a request answered on a lane. agree, if there is one, holds what was signed
// for against another's before it is taken.
func (b *Buyer) work(ctx context.Context, s desk.Seat, lane *desk.Lane, a Ask, job meter.Job, out *outlet, agree func(wire.Signed, infer.Result) error) (Answer, desk.Record, error) {
	policy := a.Route.Policy
	started := time.Now()
	var err error
	body := a.Request.Encode()
	req := infer.ServeRequest{Request: body, Logprobs: a.Logprobs, Stream: a.Stream}
	if req.Payment, err = lane.Pay(body); err != nil {
		return Answer{}, desk.Record{}, err
	}
	sp := spoken{kind: a.Request.Kind}
	signed, ttft, err := b.converse(ctx, lane, req, out, &sp)
	if broken(err) && !out.begun && out.err == nil && ctx.Err() == nil {
		// The same again gets the same answer and is charged once, whether or
		// not the first reached the provider.
		sp = spoken{kind: a.Request.Kind}
		again, t, err2 := b.converse(ctx, lane, req, out, &sp)
		if err2 == nil {
			signed, ttft, err = again, t, nil
		}
	}
	if err != nil {
		if refusal := (desk.Refused{}); !errors.As(err, &refusal) || refusal.Code != wire.CodeBadRequest && refusal.Code != wire.CodeBusy && refusal.Code != wire.CodePaused {
			lane.Saw(errors.Is(err, context.Canceled) || ctx.Err() != nil || out.err != nil, 0, 0)
		}
		ans, err := b.afterFailure(ctx, s, lane, out, err)
		return ans, desk.Record{}, err
	}
	var result infer.Result
	kept, err := lane.Settle(ctx, signed, ttft, func() (err error) {
		if result, err = infer.DecodeResult(signed.Result); err != nil {
			return err
		}
		if err = b.cfg.Trade.delivered(a.Request, result, signed, &sp); err != nil || agree == nil {
			return err
		}
		return agree(signed, result)
	})
	if err != nil {
		return Answer{}, kept, err
	}
	rate, took := 0.0, time.Since(started)
	if a.Stream {
		took -= ttft // else the first piece is the whole answer
	}
	if took > 0 && signed.Receipt.Units[1] > 1 {
		rate = float64(signed.Receipt.Units[1]) / took.Seconds()
	}
	cut := result.Kind != infer.Embed && (result.Finish == infer.FinishError || result.Finish == infer.FinishCancelled && ctx.Err() == nil && out.err == nil)
	// A server that gave more than it was asked for: nothing beyond was charged, and
	// its provider is asked less.
	over := sp.over(job, contextLength(s.Offer))
	lane.Saw(!cut && !over, ttft, rate)
	ans := b.answer(s, lane, signed, result, ttft)
	if err := lane.Prove(ctx, kept); err != nil {
		return ans, kept, err
	}
	if policy == square.PolicyProve {
		ans.Verified = policy
	}
	return ans, kept, nil
}

func (b *Buyer) answer(s desk.Seat, lane *desk.Lane, signed wire.Signed, result infer.Result, ttft time.Duration) Answer {
	m := b.model(s)
	m.Rates = lane.Rates()
	return Answer{
		Provider: s.Offer.Provider, Model: m, Lease: lane.Lease(), Receipt: b.cfg.Desk.ReceiptID(signed.Receipt),
		Signed: signed, Result: result, TTFT: ttft,
		Cost: square.Amount{Units: signed.Receipt.Price, Denom: lane.Denom()},
	}
}

// errSilent says that a provider said nothing for too long.
var errSilent = errors.New("the provider was silent for too long")

// broken reports whether a conversation ended because the connection did.
func broken(err error) bool {
	var refusal desk.Refused
	return err != nil && !errors.As(err, &refusal) && !errors.Is(err, errSilent) && !errors.Is(err, context.Canceled)
}

// errLeft says that nobody waits any more, and that no receipt came in time.
var errLeft = fmt.Errorf("cancelled, and no receipt came: %w", context.Canceled)

// converse sends a request and reads its answer to the end. An ended ctx, or a
// client that takes no more, cancels the work; the receipt is still waited for,
// Grace long.
func (b *Buyer) converse(ctx context.Context, lane *desk.Lane, req infer.ServeRequest, out *outlet, sp *spoken) (wire.Signed, time.Duration, error) {
	started := time.Now()
	rctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &conversation{b: b, lane: lane, ctx: rctx, stop: stop}
	c.listen()
	left := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(left)
		c.leave()
	})
	defer func() {
		if !unhook() {
			<-left
		}
	}()
	defer c.end()

	var ttft time.Duration
	fail := func(err error) (wire.Signed, time.Duration, error) {
		if cause := context.Cause(rctx); cause != nil {
			err = cause
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the provider broke off")
		}
		return wire.Signed{}, ttft, err
	}
	res, err := lane.Post(rctx, pathServe, req)
	if err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) {
			err = desk.Refused{Refusal: we}
		}
		return fail(err)
	}
	defer res.Body.Close()
	in := newFrames(res.Body)
	defer in.close()
	for {
		f, err := in.next()
		if err != nil {
			return fail(err)
		}
		late := c.heard()
		switch {
		case f.Start != nil:
			c.begun(f.Start.Cancel)
		case f.Delta != nil:
			if ttft == 0 {
				ttft = time.Since(started)
			}
			if err := sp.add(f.Delta); err != nil {
				return wire.Signed{}, ttft, err
			}
			f.Delta.More = in.more()
			if !late && out.send(*f.Delta) != nil {
				c.leave()
			}
		case f.Error != nil, f.Receipt != nil:
			// To its end, or the connection could not be used again.
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
			if f.Error != nil {
				return wire.Signed{}, ttft, desk.Refused{Refusal: f.Error}
			}
			return *f.Receipt, ttft, nil
		default:
			return wire.Signed{}, ttft, errors.New("the provider sent an empty frame")
		}
	}
}

// conversation ends what a provider says when it is silent for too long, or when
// nobody listens any more and the receipt does not come.
type conversation struct {
	b    *Buyer
	lane *desk.Lane
	ctx  context.Context
	stop context.CancelCauseFunc

	mu     sync.Mutex
	timer  *time.Timer
	until  time.Time // when silence is too long
	secret string    // that cancels the work; empty: it has not begun
	late   bool      // the client has gone
	asked  bool      // to cancel
	ended  bool
}

func (c *conversation) listen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Now().Add(c.b.cfg.Silence)
	c.timer = time.AfterFunc(c.b.cfg.Silence, c.check)
}

// check runs when silence was too long, unless something was heard meanwhile: a
// timer that each frame sets anew would cost more than the frame.
func (c *conversation) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if left := time.Until(c.until); left > 0 {
		c.timer.Reset(left)
		return
	}
	if c.late {
		c.stop(errLeft)
	} else {
		c.stop(errSilent)
	}
}

// heard notes that the provider said something, and reports whether the client has
// gone.
func (c *conversation) heard() (late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.late {
		c.until = time.Now().Add(c.b.cfg.Silence)
	}
	return c.late
}

// begun takes in the secret by which the work is cancelled.
func (c *conversation) begun(secret string) {
	c.mu.Lock()
	c.secret = secret
	c.mu.Unlock()
	c.cancel()
}

// leave is called when the client has gone.
func (c *conversation) leave() {
	c.mu.Lock()
	if !c.late && !c.ended {
		c.late, c.until = true, time.Now().Add(c.b.cfg.Grace)
		c.timer.Reset(c.b.cfg.Grace)
	}
	c.mu.Unlock()
	c.cancel()
}

// cancel has the provider stop, once it has begun and the client has gone.
func (c *conversation) cancel() {
	c.mu.Lock()
	ask := c.late && c.secret != "" && !c.asked && !c.ended
	c.asked = c.asked || ask
	c.mu.Unlock()
	if ask {
		ctx, done := context.WithTimeout(c.ctx, c.b.cfg.Grace)
		defer done()
		_ = c.lane.Call(ctx, pathCancel, infer.CancelRequest{Lease: c.lane.Lease(), Lane: c.lane.Number(), Cancel: c.secret}, nil) // else the grace ends it
	}
}

func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.timer.Stop()
	c.stop(nil)
}

// afterFailure finds out what a request that ended without a receipt cost.
func (b *Buyer) afterFailure(ctx context.Context, s desk.Seat, lane *desk.Lane, out *outlet, cause error) (Answer, error) {
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.Grace)
	defer cancel()
	signed, err := lane.Fail(rctx, cause)
	if signed == nil {
		return Answer{}, err
	}
	// It was charged, and what it made is known after all.
	result, derr := infer.DecodeResult(signed.Result)
	if derr != nil {
		return Answer{}, fmt.Errorf("%w: %w", desk.ErrUnknown, derr)
	}
	ans := b.answer(s, lane, *signed, result, 0)
	if ctx.Err() != nil || out.err != nil {
		return ans, nil // as asked
	}
	return ans, err
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

// Verify holds a result against its request and what was metered.
func (t *Trade) Verify(o square.Offer, request []byte, s wire.Signed) error {
	res, err := infer.DecodeResult(s.Result)
	if err != nil {
		return err
	}
	decoded, err := infer.DecodeRequest(request)
	if err != nil {
		return err
	}
	req, err := meter.Read(decoded)
	if err != nil {
		return err
	}
	if res.Kind != req.Kind {
		return fmt.Errorf("a request of kind %q was answered with %q", req.Kind, res.Kind)
	}
	units, most := s.Receipt.Units, req.Ceiling(contextLength(o))
	if units[0] > most[0] || units[1] > most[1] || req.Kind != infer.Opaque && units[0] != most[0] {
		return fmt.Errorf("%d are metered where at most %d can be", units, most)
	}
	switch res.Kind {
	case infer.Exact:
		if uint64(len(res.Tokens)) != units[1] || uint64(len(res.Tokens)) > uint64(req.MaxTokens) {
			return fmt.Errorf("%d tokens were metered, %d given", units[1], len(res.Tokens))
		}
	case infer.Opaque:
		if s.Body != nil && string(s.Body) != string(res.Text) {
			return errNotSigned
		}
		text := len(res.Text)
		if s.Body != nil {
			ev, err := meter.ReadEvent(s.Body)
			if err != nil {
				return fmt.Errorf("the provider passed on what is no answer: %w", err)
			}
			text = len(ev.Text)
		}
		if units[1] > meter.Most(text, req.Body.Choices) {
			return fmt.Errorf("%d completion tokens were metered for %d bytes of text", units[1], text)
		}
	}
	return nil
}

var errNotSigned = errors.New("the answer delivered is not the answer signed for")

// delivered holds what was delivered against what was signed.
func (t *Trade) delivered(req infer.Request, res infer.Result, s wire.Signed, sp *spoken) error {
	switch res.Kind {
	case infer.Exact:
		if sp.tokens != len(res.Tokens) {
			return fmt.Errorf("%d tokens were delivered, %d signed for", sp.tokens, len(res.Tokens))
		}
		if m, ok := t.replayer(s.Receipt.Subject).(reader); ok {
			want, got := m.Text(req, res), sp.text.String()
			if got != want && !(res.Finish == infer.FinishCancelled && strings.HasPrefix(want, got)) {
				return errors.New("the text delivered is not the text signed for")
			}
		}
	case infer.Opaque:
		if s.Body == nil && sp.text.String() != string(res.Text) {
			return errNotSigned
		}
		if s.Body != nil {
			if ev, err := meter.ReadEvent(s.Body); err == nil { // it was read before
				sp.usage = ev.Usage
			}
		}
	}
	return nil
}
