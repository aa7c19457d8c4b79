package provider

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// Prover is an engine that can prove its answers (package proof). Without one, a
// model is not offered for leases under the policy prove.
type Prover interface {
	Engine
	// Windows is how many windows an answer of so many tokens can take at most.
	Windows(r infer.Request, tokens int) int
	// Prove proves an answer's windows from first on, at most n of them.
	Prove(q infer.Request, r infer.Result, first, n int) ([]byte, error)
	// Card is what the proofs are checked against.
	Card() ([]byte, error)
}

// maxProofs bounds how often the proof of one answer is made: a buyer whose
// connection broke may ask again.
const maxProofs = 3

// prover is what proves the service's answers for the rates of its offer; nil if
// they are not proven.
func (s *service) prover() Prover {
	if pr, ok := s.Engine.(Prover); ok && len(s.Proven) > 0 {
		return pr
	}
	return nil
}

// Knows refuses an order under the policy prove that names another card than the
// one its proofs would be checked against.
func (t *Trade) Knows(o square.Order) error {
	s := t.service(o.Spec)
	if s == nil || o.Policy != square.PolicyProve {
		return nil
	}
	pr := s.prover()
	if pr == nil {
		return refuse(wire.CodeBadRequest, "order: policy %q: answers of this model are not proven here", o.Policy)
	}
	card, err := pr.Card()
	if err != nil {
		return refuse(wire.CodeUnavailable, "the model's card could not be made: %v", err)
	}
	if own := square.Hash(sha256.Sum256(card)); own != o.Card {
		return refuse(wire.CodeBadRequest, "order: card: %s is not this model's, which is %s", o.Card.Short(), own)
	}
	return nil
}

// provable refuses a request that could not be answered with a proof.
func (s *service) provable(r infer.Request) error {
	pr := s.prover()
	if pr == nil {
		return refuse(wire.CodeUnavailable, "answers of model %s are not proven here any more; nothing was charged", s.model.Name)
	}
	if r.Kind != infer.Exact {
		return refuse(wire.CodeBadRequest, "only completions are proven, not a request of kind %q", r.Kind)
	}
	if n := pr.Windows(r, int(r.MaxTokens)); n > proof.MaxWindows {
		return refuse(wire.CodeBadRequest, "max_tokens %d: the answer could take %d windows of the model, and at most %d are proven", r.MaxTokens, n, proof.MaxWindows)
	}
	return nil
}

// proving takes its turn: one proof at a time, since each takes all processors
// and much memory.
func (t *Trade) proving(ctx context.Context, pr Prover, q infer.Request, r infer.Result, first, n int) ([]byte, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.turn }()
	return pr.Prove(q, r, first, n)
}

// proof proves a lane's last answer, part by part. A connection that ends early
// tells of a failure after the first.
func (c counter) proof(w http.ResponseWriter, r *http.Request, from seller.Caller, req infer.ProofRequest) {
	done, err := c.seller.Begin()
	if err != nil {
		seller.Fail(w, err)
		return
	}
	defer done()
	pr, q, res, err := c.toProve(from, req)
	if err != nil {
		seller.Fail(w, err)
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	n := pr.Windows(q, len(res.Tokens))
	for at := 0; at < n; at += proof.Batch {
		part, err := c.proving(r.Context(), pr, q, res, at, proof.Batch)
		if err != nil {
			c.seller.Log.Warn("an answer could not be proven", "lease", req.Lease.Short(), "lane", req.Lane, "seq", req.Seq, "err", err)
			if at == 0 {
				seller.Fail(w, err)
				return
			}
			panic(http.ErrAbortHandler)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(c.seller.WriteTimeout)) // recorders have none
		if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(part))), part...)); err != nil {
			return
		}
		_ = rc.Flush() // the next write tells
	}
}

// toProve finds the answer that a proof is asked for.
func (c counter) toProve(from seller.Caller, req infer.ProofRequest) (pr Prover, q infer.Request, res infer.Result, err error) {
	if err := from.About(req.Lease, req.Lane); err != nil {
		return nil, q, res, err
	}
	order := from.Order()
	if order.Policy != square.PolicyProve {
		return nil, q, res, refuse(wire.CodeBadRequest, "lease %s is under policy %q: its answers are not proven", req.Lease.Short(), order.Policy)
	}
	s := c.service(order.Spec)
	if s == nil || s.prover() == nil {
		return nil, q, res, refuse(wire.CodeUnavailable, "model %s is not served at the moment", order.Spec.Short())
	}
	a, err := from.Answer(req.Lane, req.Seq, sha256.Sum256(req.Request), maxProofs)
	if err != nil {
		return nil, q, res, err
	}
	if q, err = infer.DecodeRequest(req.Request); err == nil {
		res, err = infer.DecodeResult(a.Signed.Result)
	}
	if err != nil {
		return nil, q, res, refuse(wire.CodeUnavailable, "%v", err)
	}
	return s.prover(), q, res, nil
}

// Prove proves what was challenged, whether or not proofs are for sale.
func (t *Trade) Prove(ctx context.Context, e square.Evidence, part uint64) ([]byte, error) {
	q, err := infer.DecodeRequest(e.Request)
	if err != nil {
		return nil, err
	}
	res, err := infer.DecodeResult(e.Result)
	if err != nil {
		return nil, err
	}
	s := t.service(e.Receipt.Subject)
	if s == nil {
		return nil, fmt.Errorf("model %s is not served here", e.Receipt.Subject.Short())
	}
	pr, ok := s.Engine.(Prover)
	if !ok {
		return nil, errors.New("its engine cannot prove")
	}
	return t.proving(ctx, pr, q, res, int(part), 1)
}
