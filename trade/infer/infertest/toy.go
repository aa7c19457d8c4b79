// Package infertest is what tests of inference share: a model that costs nothing, and a
// ledger in memory that knows the trade.
package infertest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
)

// NewLedger makes an empty ledger that re-executes the models' answers.
func NewLedger(models ...infer.Replayer) *fake.Ledger {
	return fake.New(infer.Rules{Models: models, Verifier: proof.Verifier{}})
}

// Toy is a model whose answer is a hash of its request: an exact engine that
// costs nothing, and its replayer. Pace is how long a token takes.
type Toy struct {
	Name string
	Pace time.Duration
}

// Subject is the model's digest.
func (t Toy) Subject() square.Hash { return sha256.Sum256([]byte("toy " + t.Name)) }

// Model is what the engine runs.
func (t Toy) Model() provider.Model {
	return provider.Model{Name: t.Name, Subject: t.Subject(), Exact: true, Context: 4096}
}

// Answer is what a request gives.
func (t Toy) Answer(r infer.Request) []uint16 {
	h := sha256.Sum256(r.Encode())
	out := make([]uint16, r.MaxTokens)
	for i := range out {
		h = sha256.Sum256(h[:])
		out[i] = 'a' + binary.BigEndian.Uint16(h[:])%26
	}
	return out
}

// Ceiling is one prompt token a byte.
func (t Toy) Ceiling(r infer.Request) ([]uint64, error) {
	return []uint64{uint64(len(r.Prompt)), uint64(r.MaxTokens)}, nil
}

// Run answers.
func (t Toy) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	res := infer.Result{Kind: infer.Exact, Finish: infer.FinishLength}
	for _, tok := range t.Answer(job.Request) {
		if t.Pace > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(t.Pace):
			}
		}
		if ctx.Err() != nil {
			res.Finish = infer.FinishCancelled
			break
		}
		res.Tokens = append(res.Tokens, tok)
		if emit(infer.Delta{Text: string(rune(tok)), Tokens: 1}) != nil {
			res.Finish = infer.FinishCancelled
			break
		}
	}
	return provider.Output{Result: res, Units: []uint64{uint64(len(job.Request.Prompt)), uint64(len(res.Tokens))}}, nil
}

// Cost is next to nothing.
func (t Toy) Cost(prompt, completion int) uint64 { return uint64(prompt + completion) }

// Replay answers again.
func (t Toy) Replay(q infer.Request, r infer.Result) (bool, uint64, error) {
	want := t.Answer(q)
	n := len(r.Tokens)
	same := n <= len(want) && slices.Equal(want[:n], r.Tokens) &&
		(r.Finish == infer.FinishCancelled || r.Finish == infer.FinishLength && n == len(want))
	return same, uint64(len(q.Prompt)), nil
}
