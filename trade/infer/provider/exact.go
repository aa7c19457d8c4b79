package provider

import (
	"context"
	"errors"
	"sync"
	"unicode/utf8"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/wire"
)

// Exact is the engine of an exact model: its answers can be re-executed, and
// those of a text model proven.
func Exact(m *exact.Model) Engine {
	e := exactEngine{m}
	if !m.Card().Text {
		return e
	}
	return provingEngine{e, sync.OnceValues(func() (*proof.Prover, error) { return proof.Commit(m) })}
}

type exactEngine struct{ m *exact.Model }

// provingEngine commits to its model when it is first asked for a proof.
type provingEngine struct {
	exactEngine
	prover func() (*proof.Prover, error)
}

var _ Prover = provingEngine{}

func (e provingEngine) Windows(r infer.Request, tokens int) int {
	return proof.Windows(len(r.Prompt), tokens, e.m.Context())
}

func (e provingEngine) Prove(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
	p, err := e.prover()
	if err != nil {
		return nil, err
	}
	return p.Prove(q, r, first, n)
}

func (e provingEngine) Card() ([]byte, error) {
	p, err := e.prover()
	if err != nil {
		return nil, err
	}
	return p.Encode(), nil
}

func (e exactEngine) Model() Model {
	return Model{
		Name: e.m.Name(), Subject: e.m.Digest(), Exact: true, Context: uint64(e.m.Context()),
		Attributes: []square.Attribute{{Key: "infer.engine", Value: "exact"}},
	}
}

func (e exactEngine) Ceiling(r infer.Request) ([]uint64, error) {
	switch r.Kind {
	case infer.Exact:
		return []uint64{e.read(r), uint64(r.MaxTokens)}, nil
	case infer.Embed:
		if len(r.Prompt) == 0 {
			return nil, refuse(wire.CodeBadRequest, "the text to embed is empty")
		}
		return []uint64{e.read(r), 0}, nil
	}
	return nil, refuse(wire.CodeBadRequest, "model %s is exact and takes no request of kind %q", e.m.Name(), r.Kind)
}

// read is how many prompt tokens the model reads of a request.
func (e exactEngine) read(r infer.Request) uint64 {
	return replay.PromptTokens(r, uint64(e.m.Context()))
}

// Run does the work. A token is charged when all of its text has been delivered:
// of an answer that is broken off, what was held back is neither, and where
// nothing was delivered, nothing is charged.
func (e exactEngine) Run(ctx context.Context, job Job, emit func(infer.Delta) error) (Output, error) {
	r := job.Request
	units := []uint64{e.read(r), 0}
	if r.Kind == infer.Embed {
		v, err := e.m.Embed(r.Prompt)
		if err != nil {
			return Output{}, err
		}
		return Output{Result: infer.Result{Kind: infer.Embed, Vector: v}, Units: units}, nil
	}
	req := replay.Request(r)
	req.Logprobs, req.TopLogprobs = job.Logprobs > 0, job.Logprobs
	var (
		text  whole
		held  infer.Delta // tokens whose text is held back, in part or whole
		ready int         // bytes that may be shown, a token each
		given int         // tokens delivered
		gone  bool
	)
	// send delivers the tokens up to number n.
	send := func(s string, n int) error {
		d := infer.Delta{Text: s, Tokens: n - given}
		if req.Logprobs {
			d.Logprobs, held.Logprobs = held.Logprobs[:d.Tokens:d.Tokens], held.Logprobs[d.Tokens:]
		}
		if err := emit(d); err != nil {
			gone = true
			return err
		}
		given = n
		return nil
	}
	made, err := e.m.Generate(ctx, req, func(t exact.Token) error {
		if req.Logprobs {
			held.Logprobs = append(held.Logprobs, infer.Logprob{Token: token(t.ID), Logprob: t.Logprob, Top: tops(t.Top)})
		}
		ready += len(t.Text)
		s := text.add(t.Text)
		if s == "" {
			return nil
		}
		return send(s, ready-len(text.held))
	})
	if err != nil && !gone {
		return Output{}, err
	}
	res := infer.Result{Kind: infer.Exact, Finish: replay.Finish(made.Finish)}
	switch rest := text.rest(); {
	case gone:
		res.Finish = infer.FinishCancelled
	case made.Finish == exact.Cancelled:
	case rest != "" || given < len(made.Tokens): // the last is no whole character, or a stop sequence
		if send(rest, len(made.Tokens)) != nil {
			res.Finish = infer.FinishCancelled
		}
	}
	if res.Finish == infer.FinishCancelled && (given == 0 || !job.Stream) {
		// What is not streamed is delivered at the end, or not at all.
		return Output{}, errors.New("cancelled before anything was delivered; nothing was charged")
	}
	for _, id := range made.Tokens[:given] {
		res.Tokens = append(res.Tokens, uint16(id))
	}
	units[1] = uint64(given)
	return Output{Result: res, Units: units}, nil
}

func token(id int) string { return string([]rune(string([]byte{byte(id)}))) }

func tops(list []exact.Logprob) []infer.Logprob {
	out := make([]infer.Logprob, len(list))
	for i, l := range list {
		out[i] = infer.Logprob{Token: token(l.ID), Logprob: l.Logprob}
	}
	return out
}

// whole turns bytes into text piece by piece, holding back the beginning of a
// character until it is whole. Bytes that are no UTF-8 become U+FFFD each, so
// the pieces together are string([]rune(all)).
type whole struct{ held []byte }

func (w *whole) add(b []byte) string {
	w.held = append(w.held, b...)
	n := len(w.held)
	for i := max(0, n-utf8.UTFMax+1); i < n; i++ {
		if utf8.RuneStart(w.held[i]) && !utf8.FullRune(w.held[i:]) {
			n = i
			break
		}
	}
	out := string([]rune(string(w.held[:n])))
	w.held = append(w.held[:0], w.held[n:]...)
	return out
}

func (w *whole) rest() string {
	out := string([]rune(string(w.held)))
	w.held = nil
	return out
}
