package openai

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/torg-network/torg/trade/infer"
)

type completionRequest struct {
	envelope
	sampling
	Prompt    json.RawMessage `json:"prompt"`
	MaxTokens *int64          `json:"max_tokens"`
	Logprobs  *int            `json:"logprobs"`
	Echo      bool            `json:"echo"`
	BestOf    *int64          `json:"best_of"`
	Suffix    string          `json:"suffix"`
}

// completionLogprobs bounds the rivals of the completions endpoint, as OpenAI does.
const completionLogprobs = 5

func (h *Handler) completions(w http.ResponseWriter, r *http.Request) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	var q completionRequest
	o, err := read(body, &q)
	if err != nil {
		return err
	}
	g, err := h.open(r, "completions", "cmpl-", o)
	if err != nil {
		return err
	}
	if !o.Get("prompt").Given() {
		return invalid("prompt", "prompt: is missing")
	}
	if !g.model.Exact {
		if err := g.opaque(o); err != nil {
			return err
		}
		return h.generate(w, r, g, &rawView{g: g})
	}
	if err := fields(body, &q); err != nil {
		return err
	}
	prompt, err := oneText("prompt", q.Prompt)
	if err != nil {
		return err
	}
	fits, err := g.fit("prompt", []byte(prompt))
	if err != nil {
		return err
	}
	v := &completionView{g: g}
	switch {
	case q.Suffix != "":
		return unsupported("suffix", "suffix: this model only writes on; leave it out")
	case q.BestOf != nil && *q.BestOf != 1:
		return unsupported("best_of", "best_of: this model gives one answer a request")
	case q.Logprobs != nil && (*q.Logprobs < 0 || *q.Logprobs > completionLogprobs):
		return invalid("logprobs", "logprobs: want 0 to %d", completionLogprobs)
	case q.Logprobs != nil && q.Echo:
		return unsupported("echo", "echo: cannot be combined with logprobs, since a prompt's tokens are not scored")
	case q.Logprobs != nil:
		v.logprobs, v.top = true, *q.Logprobs
		g.ask.Logprobs = max(v.top, 1)
	}
	if g.ask.Request, err = q.exact(fits, "max_tokens", q.MaxTokens, h.cfg.MaxTokens); err != nil {
		return err
	}
	g.seed = q.Seed
	if q.Echo {
		g.echo = prompt
	}
	return h.generate(w, r, g, v)
}

// oneText reads a string, or a list of one string.
func oneText(param string, raw json.RawMessage) (string, error) {
	list, err := texts(param, raw)
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", unsupported(param, "%s: one text a request, not %d", param, len(list))
	}
	return list[0], nil
}

// texts reads a string or a list of strings. Lists of tokens are refused:
// there is no tokenizer that all models share.
func texts(param string, raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, invalid(param, "%s: want a string or a list of strings", param)
	}
	out := make([]string, len(list))
	for i, m := range list {
		if m = bytes.TrimSpace(m); len(m) > 0 && m[0] != '"' {
			return nil, unsupported(param, "%s: tokens are not accepted, since models do not share a tokenizer; send text", param)
		}
		if json.Unmarshal(m, &out[i]) != nil {
			return nil, invalid(param, "%s: want a string or a list of strings", param)
		}
	}
	return out, nil
}

type (
	completionAnswer struct {
		ID          string             `json:"id"`
		Object      string             `json:"object"`
		Created     int64              `json:"created"`
		Model       string             `json:"model"`
		Fingerprint string             `json:"system_fingerprint"`
		Choices     []completionChoice `json:"choices"`
		Usage       json.RawMessage    `json:"usage,omitempty"`
		paid
	}
	completionChoice struct {
		Text     string          `json:"text"`
		Index    int             `json:"index"`
		Logprobs *completionLogs `json:"logprobs"`
		Finish   *string         `json:"finish_reason"`
	}
	completionLogs struct {
		Tokens   []string             `json:"tokens"`
		Logprobs []float64            `json:"token_logprobs"`
		Top      []map[string]float64 `json:"top_logprobs"`
		Offsets  []int                `json:"text_offset"`
	}
)

// completionView writes an exact model's completions.
type completionView struct {
	g        *generation
	logprobs bool
	top      int
	offset   int // of the next token in the text
}

func (v *completionView) logs(list []infer.Logprob) *completionLogs {
	if !v.logprobs {
		return nil
	}
	out := &completionLogs{Tokens: []string{}, Logprobs: []float64{}, Top: []map[string]float64{}, Offsets: []int{}}
	for _, l := range list {
		out.Tokens = append(out.Tokens, l.Token)
		out.Logprobs = append(out.Logprobs, l.Logprob)
		out.Offsets = append(out.Offsets, v.offset)
		v.offset += len(l.Token)
		top := map[string]float64{}
		for _, t := range l.Top[:min(len(l.Top), v.top)] {
			top[t.Token] = t.Logprob
		}
		out.Top = append(out.Top, top)
	}
	return out
}

func (v *completionView) answer(choices ...completionChoice) *completionAnswer {
	if choices == nil {
		choices = []completionChoice{}
	}
	a := &completionAnswer{ID: v.g.id, Object: "text_completion", Created: v.g.created, Model: v.g.asked,
		Fingerprint: fingerprint(v.g.model), Choices: choices}
	if v.g.stream && v.g.usage {
		a.Usage = json.RawMessage("null")
	}
	return a
}

func (v *completionView) send(s *stream, a *completionAnswer) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return s.event("", b)
}

func (v *completionView) begin(*stream) error { return nil }

func (v *completionView) piece(s *stream, p piece) error {
	return v.send(s, v.answer(completionChoice{Text: p.text, Logprobs: v.logs(p.logprobs)}))
}

func (v *completionView) end(s *stream, o *outcome) error {
	why := finish(o.Result.Finish)
	a := v.answer(completionChoice{Finish: &why})
	a.paid = v.g.paid(o)
	if err := v.send(s, a); err != nil {
		return err
	}
	if v.g.usage {
		u, err := o.usage.tokens()
		if err != nil {
			return err
		}
		a := v.answer()
		a.Usage, a.paid = u, v.g.paid(o)
		if err := v.send(s, a); err != nil {
			return err
		}
	}
	return s.event("", []byte("[DONE]"))
}

func (v *completionView) fail(s *stream, e *Error) error { return failed(s, e) }

func (v *completionView) whole(o *outcome) ([]byte, error) {
	why := finish(o.Result.Finish)
	a := v.answer(completionChoice{Text: o.text, Logprobs: v.logs(o.logprobs), Finish: &why})
	u, err := o.usage.tokens()
	if err != nil {
		return nil, err
	}
	a.Usage, a.paid = u, v.g.paid(o)
	return json.Marshal(a)
}
