package buyer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/wire"
)

// card is what proofs about a model are checked against.
func (t *Trade) card(ctx context.Context, spec square.Hash) (*proof.Model, error) {
	t.mu.Lock()
	m := t.cards[spec]
	t.mu.Unlock()
	if m != nil {
		return m, nil
	}
	b, err := t.cardOf(ctx, spec)
	if errors.Is(err, market.ErrNotFound) {
		return nil, fmt.Errorf("model %s: %w: no card of it is known here, so that no proof could be checked", spec.Short(), desk.ErrNoProvider)
	}
	if err != nil {
		return nil, err
	}
	made, err := proof.DecodeModel(b)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", spec.Short(), err)
	}
	t.mu.Lock()
	t.cards[spec] = &made
	t.mu.Unlock()
	return &made, nil
}

// provable refuses, before anything is signed, a request whose answer could not
// be proven.
func (t *Trade) provable(ctx context.Context, spec square.Hash, r infer.Request) error {
	bad := func(format string, args ...any) error {
		return &wire.Refusal{Code: wire.CodeBadRequest, Message: fmt.Sprintf(format, args...)}
	}
	if r.Kind != infer.Exact {
		return bad("only completions of exact models come with a proof; ask without one")
	}
	m, err := t.card(ctx, spec)
	if err != nil {
		return err
	}
	if n := proof.Windows(len(r.Prompt), int(r.MaxTokens), m.Card.Rows()); n > proof.MaxWindows {
		return bad("max_tokens %d: the answer could take %d windows of the model, and at most %d are proven; lower max_tokens", r.MaxTokens, n, proof.MaxWindows)
	}
	return nil
}

// Proof reads and checks the parts of the proof of a lane's last answer.
func (t *Trade) Proof(ctx context.Context, lane *desk.Lane, e square.Evidence) (part uint64, words string, err error) {
	at, size, err := t.fetch(ctx, lane, e)
	return uint64(at), fmt.Sprintf("proof of %d KiB", (size+1023)>>10), err
}

// fetch reads and checks the parts of a proof. at is a window that was not proven,
// size the bytes of all parts.
func (t *Trade) fetch(ctx context.Context, lane *desk.Lane, e square.Evidence) (at, size int, err error) {
	req, err := infer.DecodeRequest(e.Request)
	if err != nil {
		return 0, 0, err
	}
	res, err := infer.DecodeResult(e.Result)
	if err != nil {
		return 0, 0, err
	}
	m, err := t.card(ctx, e.Receipt.Subject)
	if err != nil {
		return 0, 0, err
	}
	n, err := m.Parts(req, res)
	if err != nil || n == 0 {
		return 0, 0, err
	}
	reply, err := lane.Post(ctx, pathProof, infer.ProofRequest{
		Lease: lane.Lease(), Lane: lane.Number(), Seq: e.Receipt.Seq, Request: e.Request,
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
func (t *Trade) where(ctx context.Context, rec desk.Record) uint64 {
	m, ok := t.replayer(rec.Evidence.Receipt.Subject).(placer)
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
	card, err := t.card(ctx, rec.Evidence.Receipt.Subject)
	if err != nil {
		return rec.Part
	}
	agreed, err := m.Agreed(req, res)
	if err != nil || agreed >= len(res.Tokens) {
		return rec.Part
	}
	return uint64(proof.Windows(len(req.Prompt), agreed+1, card.Card.Rows()) - 1)
}
