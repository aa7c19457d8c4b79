package provider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// serve admits a request, does it and charges it.
func (c counter) serve(w http.ResponseWriter, r *http.Request, from seller.Caller, req infer.ServeRequest) {
	request, err := infer.DecodeRequest(req.Request)
	if err != nil {
		c.seller.Refuse(w, refuse(wire.CodeBadRequest, "%v", err))
		return
	}
	if req.Logprobs < 0 || req.Logprobs > 20 {
		c.seller.Refuse(w, refuse(wire.CodeBadRequest, "logprobs %d: want 0 to 20", req.Logprobs))
		return
	}
	model := c.service(from.Order().Spec)
	till, again, err := c.seller.Admit(r.Context(), from, req.Payment, sha256.Sum256(req.Request), func() ([]uint64, error) {
		return model.ceiling(request, from.Order())
	})
	if err != nil {
		c.seller.Refuse(w, err)
		return
	}
	out := &frames{w: w, rc: http.NewResponseController(w), patience: c.seller.WriteTimeout}
	defer out.close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	if again != nil {
		var deltas []infer.Delta
		if json.Unmarshal(again.Kept, &deltas) != nil { // of another version
			deltas = nil
		}
		for i := range deltas {
			if out.write(infer.Frame{Delta: &deltas[i]}) != nil {
				return
			}
		}
		_ = out.write(infer.Frame{Receipt: &again.Signed}) // the buyer may ask once more
		return
	}
	defer till.Release()

	ctx, end := till.Context(r.Context())
	defer end()
	secret, forget := c.cancellable(from.Lease, from.Lane, end)
	defer forget()
	// The voucher goes to disk while the engine reads the prompt. Nothing is
	// delivered before it is there, and what cannot be delivered is not charged.
	var unpaid error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if unpaid = till.Store(); unpaid != nil {
			return
		}
		unpaid = out.soon(infer.Frame{Start: &infer.Start{Cancel: secret}})
	}()
	var kept answer
	emit := func(d infer.Delta) error {
		if <-opened; unpaid != nil {
			return unpaid
		}
		if req.Stream { // else all at once below: a frame a token costs more than a token
			does := out.send
			if d.More {
				does = out.write
			}
			if err := does(infer.Frame{Delta: &d}); err != nil {
				return err
			}
		}
		kept.add(d) // what was delivered
		return nil
	}
	made, err := model.Engine.Run(ctx, Job{request, req.Logprobs, req.Stream}, emit)
	if <-opened; unpaid != nil {
		till.Release()
		c.seller.Refuse(w, unpaid) // or nobody listens
		return
	}
	if err == nil && !req.Stream {
		for i := range kept.deltas {
			if out.write(infer.Frame{Delta: &kept.deltas[i]}) != nil {
				return // nobody listens; what is not delivered is not charged
			}
		}
	}
	var signed wire.Signed
	if err == nil {
		signed, err = charge(till, made, kept.deltas)
	}
	if err != nil {
		till.Fail(err)
		_ = out.write(infer.Frame{Error: seller.Refusal(err)})
		return
	}
	_ = out.write(infer.Frame{Receipt: &signed}) // leaves with the end of the answer; the buyer finds it with POST lane
}

func charge(till *seller.Till, made Output, deltas []infer.Delta) (wire.Signed, error) {
	kept, err := json.Marshal(deltas)
	if err != nil {
		return wire.Signed{}, err
	}
	return till.Charge(seller.Delivery{Result: made.Result.Encode(), Units: made.Units, Body: made.Body, Kept: kept, Counted: made.Counted, Over: made.Over})
}

// ceiling is the most units that a request may be metered at.
func (s *service) ceiling(r infer.Request, o square.Order) ([]uint64, error) {
	if s == nil {
		return nil, refuse(wire.CodeUnavailable, "model %s is not served at the moment; nothing was charged", o.Spec.Short())
	}
	units, err := s.Engine.Ceiling(r)
	if err == nil && o.Policy == square.PolicyProve {
		err = s.provable(r)
	}
	return units, err
}

// startWait is how long the first frame waits for the next, to go in one packet
// with it.
const startWait = 5 * time.Millisecond

// frames writes an answer, a line a frame. A buyer that does not read holds
// a place: it is waited for patience long in all.
type frames struct {
	w  io.Writer
	rc *http.ResponseController

	mu       sync.Mutex
	patience time.Duration
	until    time.Time // the deadline that stands
	line     []byte
	due      *time.Timer // sends what soon has written; nil: nothing
	closed   bool
}

// send writes a frame, and all that was written before it leaves with it.
func (f *frames) send(fr infer.Frame) error { return f.put(fr, true) }

// write leaves the frame to go with the next that is sent, or with the end.
func (f *frames) write(fr infer.Frame) error { return f.put(fr, false) }

// soon writes a frame that leaves with the next one, if that comes within
// startWait, and else by itself.
func (f *frames) soon(fr infer.Frame) error {
	if err := f.put(fr, false); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.due = time.AfterFunc(startWait, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.due != nil && !f.closed {
			f.due = nil
			_ = f.wait(f.rc.Flush) // whoever writes next is told
		}
	})
	return nil
}

func (f *frames) put(fr infer.Frame, now bool) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.line, err = infer.AppendFrame(f.line[:0], fr); err != nil {
		return err
	}
	return f.wait(func() error {
		if _, err := f.w.Write(f.line); err != nil || !now {
			return err
		}
		if f.due != nil {
			f.due.Stop()
			f.due = nil
		}
		return f.rc.Flush()
	})
}

// wait counts how long something takes against the patience. A deadline is set
// with a little to spare, so that not every frame needs another.
func (f *frames) wait(does func() error) error {
	began := time.Now()
	if f.until.Before(began.Add(f.patience)) || f.patience <= 0 {
		f.until = began.Add(max(f.patience+f.patience/8, time.Millisecond))
		_ = f.rc.SetWriteDeadline(f.until) // recorders have none
	}
	err := does()
	f.patience -= time.Since(began)
	return err
}

// close leaves what was written to the server, which sends it.
func (f *frames) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.due != nil {
		f.due.Stop()
	}
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

// cancellable has the cancel call that brings the secret stop a request.
func (c counter) cancellable(lease square.Hash, lane uint16, stop context.CancelFunc) (secret string, forget func()) {
	var b [16]byte
	rand.Read(b[:])
	secret = hex.EncodeToString(b[:])
	c.mu.Lock()
	c.cancels[secret] = running{lease, lane, stop}
	c.mu.Unlock()
	return secret, func() {
		c.mu.Lock()
		delete(c.cancels, secret)
		c.mu.Unlock()
	}
}

func (c counter) cancel(w http.ResponseWriter, _ *http.Request, from seller.Caller, req infer.CancelRequest) {
	if err := from.About(req.Lease, req.Lane); err != nil {
		seller.Fail(w, err)
		return
	}
	c.mu.Lock()
	r := c.cancels[req.Cancel]
	c.mu.Unlock()
	if r.stop != nil && r.lease == from.Lease && r.lane == from.Lane { // one that has just ended needs no stopping
		r.stop()
	}
	w.WriteHeader(http.StatusNoContent)
}
