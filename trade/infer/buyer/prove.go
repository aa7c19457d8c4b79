package buyer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/wire"
)

// card is what proofs about a model are checked against.
func (d *Desk) card(ctx context.Context, spec square.Hash) (*proof.Model, error) {
	d.mu.Lock()
	m := d.cards[spec]
	d.mu.Unlock()
	if m != nil {
		return m, nil
	}
	b, err := d.cfg.Ledger.Card(ctx, spec)
	if errors.Is(err, market.ErrNotFound) {
		return nil, fmt.Errorf("model %s: %w: no card of it is known here, so that no proof could be checked", spec.Short(), ErrNoProvider)
	}
	if err != nil {
		return nil, err
	}
	made, err := proof.DecodeModel(b)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", spec.Short(), err)
	}
	d.mu.Lock()
	d.cards[spec] = &made
	d.mu.Unlock()
	return &made, nil
}

// provable refuses, before anything is signed, a request whose answer could not
// be proven.
func (d *Desk) provable(ctx context.Context, s *seat, r infer.Request) error {
	bad := func(format string, args ...any) error {
		return &wire.Refusal{Code: wire.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	if r.Kind != infer.Exact {
		return bad("only completions of exact models come with a proof; ask without one")
	}
	m, err := d.card(ctx, s.key.spec)
	if err != nil {
		return err
	}
	if n := proof.Windows(len(r.Prompt), int(r.MaxTokens), m.Card.Rows()); n > proof.MaxWindows {
		return bad("max_tokens %d: the answer could take %d windows of the model, and at most %d are proven; lower max_tokens", r.MaxTokens, n, proof.MaxWindows)
	}
	return nil
}

// prove fetches the proof of a lane's last answer, as it was committed, and
// checks it. A provider that has none, or not in time, or a wrong one, is trusted
// no more: the lane is abandoned, the lease closed, and the answer audited, which
// leads to a challenge. The caller holds the lane.
func (d *Desk) prove(ctx context.Context, s *seat, h held, rec Record) error {
	id := rec.ID
	d.mu.Lock()
	queued := d.proving[id] // not if the receipt could not be stored
	d.mu.Unlock()
	defer d.proved(id)
	began := time.Now()
	pctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Proof)
	defer cancel()
	at, size, err := d.fetchProof(pctx, h, rec.Evidence)
	if err == nil {
		words := fmt.Sprintf("proof of %d KiB checked %.1f s after the answer", (size+1023)>>10, time.Since(began).Seconds())
		if nerr := d.note(id, AuditProven, words); nerr != nil {
			d.cfg.Log.Warn("a checked proof could not be noted", "receipt", id.Short(), "err", nerr)
		}
		return nil
	}
	if pctx.Err() != nil {
		err = fmt.Errorf("no proof within %s", d.cfg.Proof)
	}
	err = fmt.Errorf("provider %s: %w: %w", s.key.provider, ErrUnproven, err)
	d.cfg.Log.Error("an answer was not proven", "lease", h.l.id.Short(), "receipt", id.Short(), "err", err)
	rec.Audit, rec.Note, rec.Part = AuditUnproven, err.Error(), uint64(at)
	if nerr := d.save(bucketReceipts, id[:], rec); nerr != nil {
		d.cfg.Log.Warn("an unproven answer could not be noted", "receipt", id.Short(), "err", nerr)
	} else if !queued {
		d.queue(rec)
	}
	d.abandon(h, err)
	d.saw(s, false, 0, 0)
	long := d.cfg.Shun
	if !errors.Is(err, trade.ErrProof) {
		long = min(long, proofPause) // it may be its machine's fault
	}
	d.shun(s.key, long)
	return err
}

// proved leaves the audit of an answer, which was queued with its receipt, to the
// auditor: if it was proven there is nothing left to do.
func (d *Desk) proved(id square.Hash) {
	d.mu.Lock()
	delete(d.proving, id)
	d.mu.Unlock()
	wake(d.audits)
}

// proofPause is how long a provider is not asked whose proof did not come.
const proofPause = 10 * time.Minute

// fetchProof reads and checks the parts of a proof. at is a window that was not
// proven, size the bytes of all parts.
func (d *Desk) fetchProof(ctx context.Context, h held, e square.Evidence) (at, size int, err error) {
	req, err := infer.DecodeRequest(e.Request)
	if err != nil {
		return 0, 0, err
	}
	res, err := infer.DecodeResult(e.Result)
	if err != nil {
		return 0, 0, err
	}
	m, err := d.card(ctx, e.Receipt.Subject)
	if err != nil {
		return 0, 0, err
	}
	n, err := m.Parts(req, res)
	if err != nil || n == 0 {
		return 0, 0, err
	}
	reply, err := d.post(ctx, d.target(h.l, h.ln.n), "infer/proof", infer.ProofRequest{
		Lease: h.l.id, Lane: h.ln.n, Seq: e.Receipt.Seq, Request: e.Request,
	})
	if err != nil {
		return rand.IntN(n), 0, err
	}
	defer reply.Body.Close()
	for first := 0; first < n; first += proof.Batch {
		at = first + rand.IntN(min(proof.Batch, n-first))
		var head [4]byte
		if _, err := io.ReadFull(reply.Body, head[:]); err != nil {
			return at, size, fmt.Errorf("the proof ends at window %d of %d: %w", first, n, err)
		}
		long := binary.BigEndian.Uint32(head[:])
		if long > proof.MaxPart {
			return at, size, fmt.Errorf("a part of %d bytes: at most %d", long, proof.MaxPart)
		}
		part := make([]byte, long)
		if _, err := io.ReadFull(reply.Body, part); err != nil {
			return at, size, fmt.Errorf("the proof ends at window %d of %d: %w", first, n, err)
		}
		if err := m.Check(req, res, first, proof.Batch, part); err != nil {
			return at, size, err
		}
		size += len(part)
	}
	return 0, size, nil
}

// placer is a Replayer that can also tell how many of the tokens are right.
type placer interface {
	Agreed(infer.Request, infer.Result) (int, error)
}

// where is the part of a wrong answer that its provider is to prove: the wrong
// one, if we can tell.
func (d *Desk) where(ctx context.Context, rec Record) uint64 {
	m, ok := d.replayer(rec.Evidence.Receipt.Subject).(placer)
	if !ok {
		return rec.Part
	}
	req, err := infer.DecodeRequest(rec.Evidence.Request)
	if err != nil {
		return rec.Part
	}
	res, err := infer.DecodeResult(rec.Evidence.Result)
	if err != nil || req.Kind != infer.Exact {
		return rec.Part
	}
	card, err := d.card(ctx, rec.Evidence.Receipt.Subject)
	if err != nil {
		return rec.Part
	}
	agreed, err := m.Agreed(req, res)
	if err != nil || agreed >= len(res.Tokens) {
		return rec.Part
	}
	return uint64(proof.Windows(len(req.Prompt), agreed+1, card.Card.Rows()) - 1)
}
