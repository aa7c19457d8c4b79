// Package replay re-executes exact inference: it makes an exact.Model the
// trade's Replayer, for the ledger's judge, for the buyer's audits and for
// anyone who holds a receipt.
package replay

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// Model is an exact model as a Replayer.
type Model struct{ *exact.Model }

var _ infer.Replayer = Model{}

// Subject is the model's digest.
func (m Model) Subject() square.Hash { return m.Digest() }

// Cost bounds the multiply-accumulates of a replay.
func (m Model) Cost(prompt, completion int) uint64 {
	// An embedding runs every window of its text once; a completion its last.
	return max(m.MACs(prompt, completion), m.MACs(0, prompt))
}

// Request is an exact completion as the engine takes it.
func Request(r infer.Request) exact.Request {
	return exact.Request{
		Prompt: r.Prompt, MaxTokens: int(r.MaxTokens), Temperature: int(r.Temperature),
		TopP: int(r.TopP), Stop: r.Stop, Seed: r.Seed,
	}
}

// PromptTokens is how many prompt tokens an exact request counts as, on a model
// with so long a context (0 when unknown): as many as the model reads. Of a
// prompt longer than its context it reads the end (exact.WindowStart); a text to
// embed it reads whole, window by window.
func PromptTokens(r infer.Request, context uint64) uint64 {
	n := len(r.Prompt)
	if r.Kind == infer.Exact && context > 1 && uint64(n) > context {
		n -= exact.WindowStart(n, int(context))
	}
	return uint64(max(n, 1))
}

// Replay says whether the result is what the request gives.
func (m Model) Replay(req infer.Request, res infer.Result) (same bool, prompt uint64, err error) {
	prompt = PromptTokens(req, uint64(m.Context()))
	switch req.Kind {
	case infer.Exact:
		ids := make([]int, len(res.Tokens))
		for i, t := range res.Tokens {
			ids[i] = int(t)
		}
		v, err := m.Verify(context.Background(), Request(req), ids)
		if err != nil {
			return false, 0, err
		}
		return v.Agreed == len(ids) && (res.Finish == infer.FinishCancelled || res.Finish == Finish(v.Finish)), prompt, nil
	case infer.Embed:
		want, err := m.Embed(req.Prompt)
		if err != nil {
			return false, 0, err
		}
		return slices.Equal(want, res.Vector), prompt, nil
	}
	return false, 0, fmt.Errorf("a request of kind %q cannot be re-executed", req.Kind)
}

// Agreed is how many leading tokens of an exact completion the model says.
func (m Model) Agreed(req infer.Request, res infer.Result) (int, error) {
	ids := make([]int, len(res.Tokens))
	for i, t := range res.Tokens {
		ids[i] = int(t)
	}
	v, err := m.Verify(context.Background(), Request(req), ids)
	return v.Agreed, err
}

// Finish is the engine's reason as the trade writes it; 0 for none.
func Finish(f exact.Finish) infer.Finish {
	switch f {
	case exact.Stop:
		return infer.FinishStop
	case exact.Length:
		return infer.FinishLength
	case exact.Cancelled:
		return infer.FinishCancelled
	}
	return 0
}

// Text is what the tokens of an exact completion read, without the stop
// sequence; each byte that is no UTF-8 is U+FFFD.
func (m Model) Text(req infer.Request, res infer.Result) string {
	b := make([]byte, len(res.Tokens))
	for i, t := range res.Tokens {
		b[i] = byte(t)
	}
	if res.Finish == infer.FinishStop {
		cut := 0
		for _, s := range req.Stop {
			if bytes.HasSuffix(b, s) {
				// The engine cuts the first that matches.
				cut = len(s)
				break
			}
		}
		b = b[:len(b)-cut]
	}
	return string([]rune(string(b)))
}
