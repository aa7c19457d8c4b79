package provider

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
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

// knows refuses an order under the policy prove that names another card than the
// one its proofs would be checked against.
func (s *service) knows(o square.Order) error {
	if o.Policy != square.PolicyProve {
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
func (p *Provider) proving(ctx context.Context, pr Prover, q infer.Request, r infer.Result, first, n int) ([]byte, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.turn }()
	return pr.Prove(q, r, first, n)
}

// proof proves a lane's last answer, part by part. A connection that ends early
// tells of a failure after the first.
func (p *Provider) proof(w http.ResponseWriter, r *http.Request, from caller, req infer.ProofRequest) {
	done, ok := p.work()
	if !ok {
		fail(w, refuse(wire.CodeUnavailable, "the provider is shutting down"))
		return
	}
	defer done()
	pr, q, res, err := p.toProve(from, req)
	if err != nil {
		fail(w, err)
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	n := pr.Windows(q, len(res.Tokens))
	for at := 0; at < n; at += proof.Batch {
		part, err := p.proving(r.Context(), pr, q, res, at, proof.Batch)
		if err != nil {
			p.Log.Warn("an answer could not be proven", "lease", req.Lease.Short(), "lane", req.Lane, "seq", req.Seq, "err", err)
			if at == 0 {
				fail(w, wireError(err))
				return
			}
			panic(http.ErrAbortHandler)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(p.WriteTimeout)) // recorders have none
		if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(part))), part...)); err != nil {
			return
		}
		_ = rc.Flush() // the next write tells
	}
}

// toProve finds the answer that a proof is asked for.
func (p *Provider) toProve(from caller, req infer.ProofRequest) (pr Prover, q infer.Request, res infer.Result, err error) {
	if err := from.about(req.Lease, req.Lane); err != nil {
		return nil, q, res, err
	}
	l := from.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.order.Policy != square.PolicyProve {
		return nil, q, res, refuse(wire.CodeBadRequest, "lease %s is under policy %q: its answers are not proven", l.id.Short(), l.order.Policy)
	}
	if uint64(req.Lane) >= l.order.Lanes {
		return nil, q, res, refuse(wire.CodeUnknown, "lane %d: the lease has %d", req.Lane, l.order.Lanes)
	}
	ln := l.lane(p, req.Lane)
	if req.Seq == 0 || req.Seq != ln.rec.Seq || sha256.Sum256(req.Request) != ln.rec.LastRequest {
		return nil, q, res, refuse(wire.CodeStale, "the last answer of lane %d is another", req.Lane)
	}
	if ln.provenSeq != req.Seq {
		ln.provenSeq, ln.proofs = req.Seq, 0
	}
	if ln.proofs >= maxProofs {
		return nil, q, res, refuse(wire.CodeBusy, "this answer was proven %d times already", maxProofs)
	}
	s := p.service(l.order.Spec)
	if s == nil || s.prover() == nil {
		return nil, q, res, refuse(wire.CodeUnavailable, "model %s is not served at the moment", l.order.Spec.Short())
	}
	a, err := p.lastAnswer(l.id, req.Lane)
	if err != nil {
		return nil, q, res, refuse(wire.CodeUnavailable, "the provider's disk failed")
	}
	if q, err = infer.DecodeRequest(req.Request); err == nil {
		res, err = infer.DecodeResult(a.Signed.Result)
	}
	if err != nil {
		return nil, q, res, refuse(wire.CodeUnavailable, "%v", err)
	}
	ln.proofs++
	return s.prover(), q, res, nil
}

// work notes that something runs which Close waits for, unless the provider is
// closing.
func (p *Provider) work() (done func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, false
	}
	p.working.Add(1)
	return p.working.Done, true
}

// answerChallenge proves what the ledger asks about one of our leases, beside
// the other chores. Until it is on the ledger it is tried again.
func (p *Provider) answerChallenge(l *lease, m market.Lease) {
	if m.State != market.Disputed || m.Dispute == nil || m.Dispute.Way != market.ByProof || l.answering.Load() || time.Now().Before(l.answerAt) {
		return
	}
	l.answerAt = time.Now().Add(5 * p.Tick)
	done, ok := p.work()
	if !ok {
		return
	}
	l.answering.Store(true)
	go func() {
		defer done()
		defer l.answering.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		log := p.Log.With("lease", l.id.Short(), "evidence", m.Dispute.Evidence.Short(), "part", m.Dispute.Part)
		if err := p.proveToLedger(ctx, m); err != nil {
			log.Error("a challenge is not answered yet; without an answer the bond is lost", "until", m.Deadline, "err", err)
			return
		}
		log.Info("answered a challenge with a proof")
	}()
}

func (p *Provider) proveToLedger(ctx context.Context, m market.Lease) error {
	e, err := p.Ledger.Evidence(ctx, m.ID, m.Dispute.Evidence)
	if err != nil {
		return err
	}
	q, err := infer.DecodeRequest(e.Request)
	if err != nil {
		return err
	}
	res, err := infer.DecodeResult(e.Result)
	if err != nil {
		return err
	}
	s := p.service(e.Receipt.Subject)
	if s == nil {
		return fmt.Errorf("model %s is not served here", e.Receipt.Subject.Short())
	}
	// Whether or not proofs are for sale.
	pr, ok := s.Engine.(Prover)
	if !ok {
		return errors.New("its engine cannot prove")
	}
	part, err := p.proving(ctx, pr, q, res, int(m.Dispute.Part), 1)
	if err != nil {
		return err
	}
	return p.Ledger.Prove(ctx, m.ID, m.Dispute.Evidence, part)
}
