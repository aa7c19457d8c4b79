package provider

import (
	"context"
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
		return []uint64{replay.PromptTokens(r), uint64(r.MaxTokens)}, nil
	case infer.Embed:
		if len(r.Prompt) == 0 {
			return nil, refuse(wire.CodeBadRequest, "the text to embed is empty")
		}
		return []uint64{replay.PromptTokens(r), 0}, nil
	}
	return nil, refuse(wire.CodeBadRequest, "model %s is exact and takes no request of kind %q", e.m.Name(), r.Kind)
}

func (e exactEngine) Run(ctx context.Context, job Job, emit func(infer.Delta) error) (Output, error) {
	r := job.Request
	units := []uint64{replay.PromptTokens(r), 0}
	if r.Kind == infer.Embed {
		v, err := e.m.Embed(r.Prompt)
		if err != nil {
			return Output{}, err
		}
		return Output{Result: infer.Result{Kind: infer.Embed, Vector: v}, Units: units}, nil
	}
	req := replay.Request(r)
	req.Logprobs, req.TopLogprobs = job.Logprobs > 0, job.Logprobs
	var text whole
	gone := false
	made, err := e.m.Generate(ctx, req, func(t exact.Token) error {
		d := infer.Delta{Text: text.add(t.Text), Tokens: 1}
		if req.Logprobs {
			d.Logprobs = []infer.Logprob{{Token: token(t.ID), Logprob: t.Logprob, Top: tops(t.Top)}}
		}
		err := emit(d)
		gone = err != nil
		return err
	})
	if err != nil && !gone {
		return Output{}, err
	}
	if rest := text.rest(); rest != "" && !gone && made.Finish != exact.Cancelled {
		gone = emit(infer.Delta{Text: rest}) != nil
	}
	res := infer.Result{Kind: infer.Exact, Finish: replay.Finish(made.Finish)}
	for _, id := range made.Tokens {
		res.Tokens = append(res.Tokens, uint16(id))
	}
	units[1] = uint64(len(res.Tokens))
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
