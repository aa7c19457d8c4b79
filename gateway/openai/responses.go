package openai

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

type responsesRequest struct {
	envelope
	sampling
	Input           json.RawMessage   `json:"input"`
	Instructions    string            `json:"instructions"`
	MaxOutputTokens *int64            `json:"max_output_tokens"`
	TopLogprobs     *int              `json:"top_logprobs"`
	Include         []string          `json:"include"`
	Tools           []json.RawMessage `json:"tools"`
	Text            *struct {
		Format map[string]json.RawMessage `json:"format"`
	} `json:"text"`
	Previous     *string         `json:"previous_response_id"`
	Conversation json.RawMessage `json:"conversation"`
	Prompt       json.RawMessage `json:"prompt"`
	Background   bool            `json:"background"`
	Metadata     json.RawMessage `json:"metadata"`
	User         string          `json:"user"`
}

// includeLogprobs is how this endpoint asks for log probabilities.
const includeLogprobs = "message.output_text.logprobs"

// responses serves OpenAI's newer endpoint without its memory: nothing is
// stored, so nothing can be referred to later. An upstream server's model is
// asked as a chat.
func (h *Handler) responses(w http.ResponseWriter, r *http.Request) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	var q responsesRequest
	o, err := read(body, &q)
	if err == nil {
		err = fields(body, &q)
	}
	if err != nil {
		return err
	}
	if err := q.possible(); err != nil {
		return err
	}
	g, err := h.open(r, "responses", "resp_", o)
	if err != nil {
		return err
	}
	messages, err := q.messages()
	if err != nil {
		return err
	}
	v := &responsesView{g: g, q: &q, item: newID("msg_")}
	if !g.model.Exact {
		if err := q.forward(g, messages); err != nil {
			return err
		}
		return h.generate(w, r, g, v)
	}
	if f := q.format(); f != "text" {
		return unsupported("text.format", "text.format: %q: this model cannot guarantee a format; send \"text\" or leave it out", square.Clip(f, 80))
	}
	prompt, err := conversation("input", messages)
	if err == nil {
		prompt, err = g.fit("input", prompt)
	}
	if err != nil {
		return err
	}
	if g.ask.Request, err = q.exact(prompt, "max_output_tokens", q.MaxOutputTokens, h.cfg.MaxTokens); err != nil {
		return err
	}
	g.seed = q.Seed
	if slices.Contains(q.Include, includeLogprobs) {
		v.logs.logprobs = true
		if q.TopLogprobs != nil {
			v.logs.top = *q.TopLogprobs
		}
		g.ask.Logprobs = max(v.logs.top, 1)
	}
	return h.generate(w, r, g, v)
}

// possible refuses what this endpoint does for no model.
func (q *responsesRequest) possible() error {
	switch {
	case !given(q.Input):
		return invalid("input", "input: is missing")
	case q.Previous != nil && *q.Previous != "":
		return unsupported("previous_response_id", "previous_response_id: this gateway stores no answers; send the whole conversation as input")
	case given(q.Conversation):
		return unsupported("conversation", "conversation: this gateway stores no conversations; send the whole conversation as input")
	case given(q.Prompt):
		return unsupported("prompt", "prompt: this gateway stores no prompts; send it as instructions and input")
	case q.Background:
		return unsupported("background", "background: answers are given while you wait; leave it out")
	case len(q.Tools) > 0:
		return unsupported("tools", "tools: not on this endpoint; POST /v1/chat/completions passes tools to models that can call them")
	case q.TopLogprobs != nil && (*q.TopLogprobs < 0 || *q.TopLogprobs > MaxTopLogprobs):
		return invalid("top_logprobs", "top_logprobs: want 0 to %d", MaxTopLogprobs)
	}
	return nil
}

// format is the text format's type.
func (q *responsesRequest) format() string {
	f := "text"
	if q.Text != nil && q.Text.Format != nil {
		json.Unmarshal(q.Text.Format["type"], &f) // a type that is no string is refused as ""
	}
	return f
}

// messages are the instructions and the input as a conversation.
func (q *responsesRequest) messages() ([]message, error) {
	var out []message
	if q.Instructions != "" {
		out = append(out, message{"system", content{text: q.Instructions}})
	}
	var text string
	if json.Unmarshal(q.Input, &text) == nil {
		return append(out, message{"user", content{text: text}}), nil
	}
	var items []struct {
		Type string `json:"type"`
		message
	}
	if err := fields(q.Input, &items); err != nil {
		var ours *Error
		if errors.As(err, &ours) && ours.Param != nil {
			return nil, err
		}
		return nil, invalid("input", "input: want a string or a list of messages")
	}
	for i, it := range items {
		if it.Type != "" && it.Type != "message" {
			return nil, unsupported("input", "input[%d].type: %q: this endpoint takes messages", i, square.Clip(it.Type, 80))
		}
		if it.Content.other != "" {
			return nil, unsupported("input", "input[%d].content: this endpoint takes text, not %q", i, square.Clip(it.Content.other, 80))
		}
		out = append(out, it.message)
	}
	return out, nil
}

// forward asks an upstream server's model as a chat.
func (q *responsesRequest) forward(g *generation, messages []message) error {
	type turn struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	turns := make([]turn, len(messages))
	for i, m := range messages {
		turns[i] = turn{m.Role, m.Content.text}
	}
	body := map[string]any{"model": g.model.ID, "messages": turns, "stream": g.stream}
	if g.stream {
		body["stream_options"] = map[string]bool{"include_usage": true}
	}
	if q.MaxOutputTokens != nil {
		body["max_tokens"] = *q.MaxOutputTokens
	}
	if q.Temperature != nil {
		body["temperature"] = *q.Temperature
	}
	if q.TopP != nil {
		body["top_p"] = *q.TopP
	}
	if q.Seed != nil {
		body["seed"] = q.Seed
	}
	switch f := q.format(); f {
	case "text":
	case "json_object":
		body["response_format"] = map[string]string{"type": f}
	case "json_schema": // the schema's members stand one level deeper in a chat
		schema := map[string]json.RawMessage{}
		for k, v := range q.Text.Format {
			if k != "type" {
				schema[k] = v
			}
		}
		body["response_format"] = map[string]any{"type": f, "json_schema": schema}
	default:
		return invalid("text.format", "text.format: %q: want text, json_object or json_schema", square.Clip(f, 80))
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return g.forward(b)
}

type (
	responseItem struct {
		ID      string         `json:"id"`
		Type    string         `json:"type"`
		Status  string         `json:"status"`
		Role    string         `json:"role"`
		Content []responsePart `json:"content"`
	}
	responsePart struct {
		Type        string        `json:"type"`
		Text        string        `json:"text"`
		Annotations []string      `json:"annotations"`
		Logprobs    []chatLogprob `json:"logprobs"`
	}
	responseUsage struct {
		Input        uint64           `json:"input_tokens"`
		InputDetails map[string]int64 `json:"input_tokens_details"`
		Output       uint64           `json:"output_tokens"`
		OutDetails   map[string]int64 `json:"output_tokens_details"`
		Total        uint64           `json:"total_tokens"`
		price
	}
)

// responsesView writes answers of the responses endpoint.
type responsesView struct {
	g    *generation
	q    *responsesRequest
	item string
	logs chatView // for its log probabilities

	seq      int
	text     strings.Builder
	logprobs []chatLogprob
}

// response is the response object in one of its states.
func (v *responsesView) response(status string, output []responseItem, o *outcome, e *Error) map[string]any {
	q := v.q
	m := map[string]any{
		"id": v.g.id, "object": "response", "created_at": v.g.created, "status": status,
		"model": v.g.asked, "output": output, "error": nil, "incomplete_details": nil,
		"instructions": nil, "max_output_tokens": q.MaxOutputTokens, "metadata": struct{}{},
		"parallel_tool_calls": true, "previous_response_id": nil,
		"reasoning": map[string]any{"effort": nil, "summary": nil},
		"store":     false, "temperature": 1, "top_p": 1, "tool_choice": "auto", "tools": []string{},
		"text": map[string]any{"format": map[string]string{"type": "text"}}, "truncation": "disabled", "usage": nil,
		"system_fingerprint": fingerprint(v.g.model),
	}
	if q.Truncation != "" {
		m["truncation"] = q.Truncation
	}
	if q.Instructions != "" {
		m["instructions"] = q.Instructions
	}
	if given(q.Metadata) {
		m["metadata"] = q.Metadata
	}
	if q.Temperature != nil {
		m["temperature"] = *q.Temperature
	}
	if q.TopP != nil {
		m["top_p"] = *q.TopP
	}
	if q.User != "" {
		m["user"] = q.User
	}
	if q.Text != nil && q.Text.Format != nil {
		m["text"] = map[string]any{"format": q.Text.Format}
	}
	if v.g.seed != nil {
		m["seed"] = v.g.seed
	}
	if o != nil {
		p := v.g.paid(o)
		m["provider"], m["lease"], m["receipt"] = p.Provider, p.Lease, p.Receipt
		if p.Truncated > 0 {
			m["truncated"] = p.Truncated
		}
		if p.Verified != "" {
			m["verified"] = p.Verified
		}
		m["usage"] = responseUsage{
			o.usage.prompt, map[string]int64{"cached_tokens": o.usage.detail("prompt_tokens_details", "cached_tokens")},
			o.usage.completion, map[string]int64{"reasoning_tokens": o.usage.detail("completion_tokens_details", "reasoning_tokens")},
			o.usage.prompt + o.usage.completion, o.usage.price(),
		}
		if o.Result.Finish == infer.FinishLength {
			m["status"] = "incomplete"
			m["incomplete_details"] = map[string]string{"reason": "max_output_tokens"}
		}
		m["completed_at"] = time.Now().Unix()
	}
	if e != nil {
		code := "server_error"
		if e.Code != nil {
			code = *e.Code
		}
		m["error"] = map[string]string{"code": code, "message": e.Message}
	}
	return m
}

func (v *responsesView) part() responsePart {
	logs := v.logprobs
	if logs == nil {
		logs = []chatLogprob{}
	}
	return responsePart{"output_text", v.text.String(), []string{}, logs}
}

func (v *responsesView) message(status string) responseItem {
	return responseItem{v.item, "message", status, "assistant", []responsePart{v.part()}}
}

// emit writes one named event, numbered.
func (v *responsesView) emit(s *stream, name string, members map[string]any) error {
	members["type"], members["sequence_number"] = name, v.seq
	v.seq++
	b, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return s.event(name, b)
}

// in adds where an event belongs.
func (v *responsesView) in(members map[string]any) map[string]any {
	members["item_id"], members["output_index"], members["content_index"] = v.item, 0, 0
	return members
}

func (v *responsesView) begin(s *stream) error {
	for _, name := range []string{"response.created", "response.in_progress"} {
		if err := v.emit(s, name, map[string]any{"response": v.response("in_progress", []responseItem{}, nil, nil)}); err != nil {
			return err
		}
	}
	item := v.message("in_progress")
	item.Content = []responsePart{}
	if err := v.emit(s, "response.output_item.added", map[string]any{"output_index": 0, "item": item}); err != nil {
		return err
	}
	return v.emit(s, "response.content_part.added", v.in(map[string]any{"part": v.part()}))
}

func (v *responsesView) piece(s *stream, p piece) error {
	if p.event != nil {
		if p.text = p.event.Said; p.text == "" {
			return nil
		}
	}
	logs := v.scores(p.logprobs)
	v.text.WriteString(p.text)
	v.logprobs = append(v.logprobs, logs...)
	return v.emit(s, "response.output_text.delta", v.in(map[string]any{"delta": p.text, "logprobs": logs}))
}

func (v *responsesView) scores(list []infer.Logprob) []chatLogprob {
	if l := v.logs.logs(list); l != nil {
		return l.Content
	}
	return []chatLogprob{}
}

func (v *responsesView) end(s *stream, o *outcome) error {
	part := v.part()
	if err := v.emit(s, "response.output_text.done", v.in(map[string]any{"text": part.Text, "logprobs": part.Logprobs})); err != nil {
		return err
	}
	if err := v.emit(s, "response.content_part.done", v.in(map[string]any{"part": part})); err != nil {
		return err
	}
	status, last := v.ended(o)
	item := v.message(status)
	if err := v.emit(s, "response.output_item.done", map[string]any{"output_index": 0, "item": item}); err != nil {
		return err
	}
	return v.emit(s, last, map[string]any{"response": v.response(status, []responseItem{item}, o, nil)})
}

// ended is the status of a finished answer and its last event.
func (v *responsesView) ended(o *outcome) (status, event string) {
	if o.Result.Finish == infer.FinishLength {
		return "incomplete", "response.incomplete"
	}
	return "completed", "response.completed"
}

func (v *responsesView) fail(s *stream, e *Error) error {
	return v.emit(s, "response.failed", map[string]any{"response": v.response("failed", []responseItem{v.message("incomplete")}, nil, e)})
}

func (v *responsesView) whole(o *outcome) ([]byte, error) {
	if v.g.model.Exact {
		v.text.WriteString(o.text)
		v.logprobs = v.scores(o.logprobs)
	} else if o.body != nil {
		v.text.WriteString(o.body.Said)
	}
	status, _ := v.ended(o)
	return json.Marshal(v.response(status, []responseItem{v.message(status)}, o, nil))
}
