package provider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
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
	w.Header().Set("Content-Type", "application/x-ndjson")
	if again != nil {
		var deltas []infer.Delta
		if json.Unmarshal(again.Kept, &deltas) != nil { // of another version
			deltas = nil
		}
		for i := range deltas {
			if out.send(infer.Frame{Delta: &deltas[i]}) != nil {
				return
			}
		}
		_ = out.send(infer.Frame{Receipt: &again.Signed}) // the buyer may ask once more
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
		start := infer.Frame{Start: &infer.Start{Cancel: secret}}
		if req.Stream || request.Kind == infer.Opaque {
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
