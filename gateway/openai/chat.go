package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/strict"
)

// envelope is what every text endpoint's body has, whoever answers it.
type envelope struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Provider   *routing `json:"provider"`
	Truncation string   `json:"truncation"` // ours, but in responses
}

// envelopeOf is the envelope of a body. Of an upstream server's request nothing
// else is this gateway's to judge.
func envelopeOf(o strict.Object) (*envelope, error) {
	e := &envelope{}
	for _, f := range []struct {
		name string
		to   any
	}{{"model", &e.Model}, {"stream", &e.Stream}, {"stream_options", &e.StreamOptions}, {"provider", &e.Provider}, {"truncation", &e.Truncation}} {
		v := o.Get(f.name)
		if !v.Given() {
			continue
		}
		var kind *json.UnmarshalTypeError
		if err := json.Unmarshal(v, f.to); errors.As(err, &kind) {
			field := strings.TrimSuffix(f.name+"."+kind.Field, ".")
			return nil, invalid(field, "%s: a %s does not fit here", field, kind.Value)
		} else if err != nil {
			return nil, invalid(f.name, "%s: %v", f.name, err)
		}
	}
	return e, nil
}

type chatRequest struct {
	envelope
	sampling
	Messages            []message         `json:"messages"`
	MaxTokens           *int64            `json:"max_tokens"`
	MaxCompletionTokens *int64            `json:"max_completion_tokens"`
	Logprobs            bool              `json:"logprobs"`
	TopLogprobs         *int              `json:"top_logprobs"`
	Tools               []json.RawMessage `json:"tools"`
	ToolChoice          json.RawMessage   `json:"tool_choice"`
	Functions           []json.RawMessage `json:"functions"`
	ResponseFormat      *struct {
		Type string `json:"type"`
	} `json:"response_format"`
	Modalities []string `json:"modalities"`
}

// MaxTopLogprobs bounds the rivals reported beside each token.
const MaxTopLogprobs = 20

func (h *Handler) chat(w http.ResponseWriter, r *http.Request) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	var q chatRequest
	o, err := read(body, &q)
	if err != nil {
		return err
	}
	g, err := h.open(r, "chat", "chatcmpl-", o)
	if err != nil {
		return err
	}
	if !o.Get("messages").Given() {
		return invalid("messages", "messages: is missing")
	}
	if !g.model.Exact {
		if err := g.opaque(o); err != nil {
			return err
		}
		return h.generate(w, r, g, &rawView{g: g})
	}
	v := &chatView{g: g}
	if err := fields(body, &q); err != nil {
		return err
	}
	if err := q.possible(); err != nil {
		return err
	}
	prompt, err := conversation("messages", q.Messages)
	if err == nil {
		prompt, err = g.fit("messages", prompt)
	}
	if err != nil {
		return err
	}
	param, limit := "max_completion_tokens", q.MaxCompletionTokens
	if limit == nil {
		param, limit = "max_tokens", q.MaxTokens
	}
	if g.ask.Request, err = q.exact(prompt, param, limit, h.cfg.MaxTokens); err != nil {
		return err
	}
	g.seed = q.Seed
	v.logprobs = q.Logprobs
	if q.Logprobs {
		if q.TopLogprobs != nil {
			v.top = *q.TopLogprobs
		}
		g.ask.Logprobs = max(v.top, 1)
	}
	return h.generate(w, r, g, v)
}

// possible refuses what an exact model cannot do.
func (q *chatRequest) possible() error {
	var choice string
	json.Unmarshal(q.ToolChoice, &choice) // an object is a choice too, but "none" it is not
	switch {
	case (len(q.Tools) > 0 || len(q.Functions) > 0) && choice != "none":
		return unsupported("tools", "tools: this model cannot call tools; leave them out, send tool_choice \"none\", or ask a model that can")
	case q.ResponseFormat != nil && q.ResponseFormat.Type != "" && q.ResponseFormat.Type != "text":
		return unsupported("response_format", "response_format: %q: this model cannot guarantee a format; send \"text\" or leave it out", square.Clip(q.ResponseFormat.Type, 80))
	case q.TopLogprobs != nil && (*q.TopLogprobs < 0 || *q.TopLogprobs > MaxTopLogprobs):
		return invalid("top_logprobs", "top_logprobs: want 0 to %d", MaxTopLogprobs)
	case q.TopLogprobs != nil && *q.TopLogprobs > 0 && !q.Logprobs:
		return invalid("top_logprobs", "top_logprobs: needs logprobs to be true")
	}
	for _, m := range q.Modalities {
		if m != "text" {
			return unsupported("modalities", "modalities: %q: this model gives text", square.Clip(m, 80))
		}
	}
	return nil
}

// open finds the model and the route of a request.
func (h *Handler) open(r *http.Request, route, prefix string, o strict.Object) (*generation, error) {
	e, err := envelopeOf(o)
	if err != nil {
		return nil, err
	}
	if e.StreamOptions != nil && !e.Stream {
		return nil, invalid("stream_options", "stream_options: is for streamed answers; set stream to true or leave it out")
	}
	way, err := e.Provider.route()
	if err != nil {
		return nil, err
	}
	offers, name, err := h.find(r.Context(), e.Model)
	if err != nil {
		return nil, err
	}
	return &generation{
		route: route, id: newID(prefix), created: time.Now().Unix(), asked: e.Model,
		model: offers[0], offers: offers,
		ask:    buyer.Ask{Model: name, Route: way, Stream: e.Stream},
		stream: e.Stream, usage: e.StreamOptions != nil && e.StreamOptions.IncludeUsage, truncation: e.Truncation,
	}, nil
}

// The shapes of chat answers.
type (
	chatAnswer struct {
		ID          string          `json:"id"`
		Object      string          `json:"object"`
		Created     int64           `json:"created"`
		Model       string          `json:"model"`
		Fingerprint string          `json:"system_fingerprint"`
		Choices     []chatChoice    `json:"choices"`
		Usage       json.RawMessage `json:"usage,omitempty"`
		paid
	}
	chatChoice struct {
		Index    int           `json:"index"`
		Message  *chatMessage  `json:"message,omitempty"`
		Delta    *chatDelta    `json:"delta,omitempty"`
		Logprobs *chatLogprobs `json:"logprobs"`
		Finish   *string       `json:"finish_reason"`
	}
	chatMessage struct {
		Role    string  `json:"role"`
		Content string  `json:"content"`
		Refusal *string `json:"refusal"`
	}
	chatDelta struct {
		Role    string  `json:"role,omitempty"`
		Content *string `json:"content,omitempty"`
	}
	chatLogprobs struct {
		Content []chatLogprob `json:"content"`
		Refusal []chatLogprob `json:"refusal"`
	}
	chatLogprob struct {
		Token   string        `json:"token"`
		Logprob float64       `json:"logprob"`
		Bytes   []int         `json:"bytes"`
		Top     []chatLogprob `json:"top_logprobs,omitempty"`
	}
)

// chatView writes an exact model's chat answers.
type chatView struct {
	g        *generation
	logprobs bool
	top      int
}

func (v *chatView) logs(list []infer.Logprob) *chatLogprobs {
	if !v.logprobs {
		return nil
	}
	out := &chatLogprobs{Content: make([]chatLogprob, 0, len(list))}
	for _, l := range list {
		c := chatLogprobOf(l)
		c.Top = []chatLogprob{}
		for _, t := range l.Top[:min(len(l.Top), v.top)] {
			c.Top = append(c.Top, chatLogprobOf(t))
		}
		out.Content = append(out.Content, c)
	}
	return out
}

func chatLogprobOf(l infer.Logprob) chatLogprob {
	c := chatLogprob{Token: l.Token, Logprob: l.Logprob, Bytes: make([]int, len(l.Token))}
	for i := range len(l.Token) {
		c.Bytes[i] = int(l.Token[i])
	}
	return c
}

func (v *chatView) answer(object string, choices ...chatChoice) *chatAnswer {
	if choices == nil {
		choices = []chatChoice{}
	}
	a := &chatAnswer{ID: v.g.id, Object: object, Created: v.g.created, Model: v.g.asked,
		Fingerprint: fingerprint(v.g.model), Choices: choices}
	if object == chatChunk && v.g.usage {
		a.Usage = json.RawMessage("null")
	}
	return a
}

const chatChunk = "chat.completion.chunk"

func (v *chatView) send(s *stream, a *chatAnswer) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return s.event("", b)
}

func (v *chatView) begin(s *stream) error {
	empty := ""
	return v.send(s, v.answer(chatChunk, chatChoice{Delta: &chatDelta{Role: "assistant", Content: &empty}}))
}

func (v *chatView) piece(s *stream, p piece) error {
	return v.send(s, v.answer(chatChunk, chatChoice{Delta: &chatDelta{Content: &p.text}, Logprobs: v.logs(p.logprobs)}))
}

func (v *chatView) end(s *stream, o *outcome) error {
	why := finish(o.Result.Finish)
	a := v.answer(chatChunk, chatChoice{Delta: &chatDelta{}, Finish: &why})
	a.paid = v.g.paid(o)
	if err := v.send(s, a); err != nil {
		return err
	}
	if v.g.usage {
		u, err := o.usage.tokens()
		if err != nil {
			return err
		}
		a := v.answer(chatChunk)
		a.Usage, a.paid = u, v.g.paid(o)
		if err := v.send(s, a); err != nil {
			return err
		}
	}
	return s.event("", []byte("[DONE]"))
}

func (v *chatView) fail(s *stream, e *Error) error { return failed(s, e) }

// failed tells a client in the middle of a stream; the stream then ends
// without [DONE].
func failed(s *stream, e *Error) error {
	b := e.body()
	return s.event("", b[:len(b)-1])
}

func (v *chatView) whole(o *outcome) ([]byte, error) {
	why := finish(o.Result.Finish)
	a := v.answer("chat.completion", chatChoice{
		Message: &chatMessage{Role: "assistant", Content: o.text}, Logprobs: v.logs(o.logprobs), Finish: &why})
	u, err := o.usage.tokens()
	if err != nil {
		return nil, err
	}
	a.Usage, a.paid = u, v.g.paid(o)
	return json.Marshal(a)
}

// opaque makes the request an upstream server's: the client's own body as it was
// read, with the model's name, without what is ours.
func (g *generation) opaque(o strict.Object) error {
	set := []strict.Member{{Name: "model", Value: strict.Quoted(g.model.ID)}, {Name: "provider"}, {Name: "truncation"}, {Name: "stream_options"}}
	if g.route != "embeddings" {
		set = append(set, strict.Member{Name: "stream", Value: strict.Bool(g.stream)})
	}
	if g.stream {
		set[3].Value = strict.Value(`{"include_usage":true}`)
	}
	return g.forward(o.With(set...))
}

func (g *generation) forward(body []byte) error {
	if len(body) > infer.MaxPrompt {
		return problem(http.StatusRequestEntityTooLarge, typeInvalid, "request_too_large",
			fmt.Sprintf("the request has %d bytes and a provider takes at most %d; shorten the messages", len(body), infer.MaxPrompt))
	}
	g.ask.Request = infer.Request{Kind: infer.Opaque, Prompt: body}
	return nil
}
