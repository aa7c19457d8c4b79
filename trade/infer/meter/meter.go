// Package meter says what a request may cost at most, before anyone has seen
// the answer, and reads what an OpenAI-compatible server says about an answer.
// A buyer signs for the ceiling and a provider demands no more, so both must
// compute it alike.
package meter

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/torg-network/torg/trade/infer"
)

// DefaultCompletion is how long an upstream answer may be when neither the
// body nor the offer limits it.
const DefaultCompletion = 4096

// Overhead is what a chat template or a beginning-of-text token may add to a
// prompt beyond one token a byte.
const Overhead = 256

// Body is what of an OpenAI request body decides its path and its price.
type Body struct {
	Path       string // "/v1/chat/completions", "/v1/completions" or "/v1/embeddings"
	Completion uint64 // the most completion tokens; 0 when the body does not say
	Choices    uint64
}

// ReadBody reads an opaque request's body.
func ReadBody(body []byte) (Body, error) {
	var b struct {
		Messages      json.RawMessage `json:"messages"`
		Prompt        json.RawMessage `json:"prompt"`
		Input         json.RawMessage `json:"input"`
		MaxTokens     *uint32         `json:"max_tokens"`
		MaxCompletion *uint32         `json:"max_completion_tokens"`
		N             *uint32         `json:"n"`
		BestOf        *uint32         `json:"best_of"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return Body{}, fmt.Errorf("request body: %w", err)
	}
	out := Body{Choices: 1}
	switch {
	case b.Messages != nil:
		out.Path = "/v1/chat/completions"
	case b.Prompt != nil:
		out.Path = "/v1/completions"
		// A list of prompts gives an answer each.
		var list []json.RawMessage
		if json.Unmarshal(b.Prompt, &list) == nil && len(list) > 1 && !isNumber(list[0]) {
			out.Choices = uint64(len(list))
		}
	case b.Input != nil:
		out.Path = "/v1/embeddings"
		return out, nil
	default:
		return Body{}, fmt.Errorf("request body: want messages, prompt or input")
	}
	for _, n := range []*uint32{b.N, b.BestOf} {
		if n != nil && *n > 1 {
			if *n > 128 {
				return Body{}, fmt.Errorf("request body: n and best_of are at most 128")
			}
			out.Choices *= uint64(*n)
		}
	}
	switch {
	case b.MaxCompletion != nil:
		out.Completion = uint64(*b.MaxCompletion)
	case b.MaxTokens != nil:
		out.Completion = uint64(*b.MaxTokens)
	}
	return out, nil
}

func isNumber(b json.RawMessage) bool {
	return len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9')
}

// Ceiling is the most a request may be metered at, in the trade's units, on a
// model whose context is so long (0 when unknown). A token is at least one
// byte of prompt.
func Ceiling(r infer.Request, context uint64) ([]uint64, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	prompt := uint64(len(r.Prompt)) + Overhead
	switch r.Kind {
	case infer.Exact:
		return []uint64{prompt, uint64(r.MaxTokens)}, nil
	case infer.Embed:
		return []uint64{prompt, 0}, nil
	}
	b, err := ReadBody(r.Prompt)
	if err != nil {
		return nil, err
	}
	if b.Path == "/v1/embeddings" {
		return []uint64{prompt, 0}, nil
	}
	n := b.Completion
	if n == 0 {
		n = DefaultCompletion
		if context > 0 && context < n {
			n = context
		}
	}
	if context > 0 {
		n = min(n, context)
	}
	return []uint64{prompt, n * b.Choices}, nil
}

// Usage is what a server says it used.
type Usage struct {
	Prompt     uint64 `json:"prompt_tokens"`
	Completion uint64 `json:"completion_tokens"`
}

// Event is what matters of one streamed event.
type Event struct {
	Text   string // everything the event adds to the answer: reasoning, content and tool calls, in order
	Said   string // the content alone, what a chat shows
	Finish string
	Usage  *Usage
	Err    string // the server's own error, which some send with status 200
}

type choice struct {
	Text    string  `json:"text"`
	Delta   message `json:"delta"`
	Message message `json:"message"`
	Finish  string  `json:"finish_reason"`
}

type message struct {
	Reasoning  string          `json:"reasoning"`
	Reasoning2 string          `json:"reasoning_content"`
	Content    json.RawMessage `json:"content"`
	ToolCalls  json.RawMessage `json:"tool_calls"`
}

// ReadEvent reads one streamed event, or one whole answer: the two differ in
// where a choice keeps its message. Buyer and provider both read events with
// it: the text of a streamed opaque result is the events' Text joined.
func ReadEvent(raw []byte) (Event, error) {
	var v struct {
		Choices []choice        `json:"choices"`
		Usage   *Usage          `json:"usage"`
		Error   json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return Event{}, fmt.Errorf("not an event: %w", err)
	}
	e := Event{Usage: v.Usage}
	if len(v.Error) > 0 && string(v.Error) != "null" {
		var w struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(v.Error, &e.Err) != nil {
			if json.Unmarshal(v.Error, &w); w.Message != "" {
				e.Err = w.Message
			} else {
				e.Err = string(v.Error)
			}
		}
		if e.Err == "" {
			e.Err = "unnamed error"
		}
		return e, nil
	}
	var text, said bytes.Buffer
	for _, c := range v.Choices {
		for _, m := range []message{c.Delta, c.Message} {
			text.WriteString(m.Reasoning)
			text.WriteString(m.Reasoning2)
			s := contentText(m.Content)
			text.WriteString(s)
			said.WriteString(s)
			if len(m.ToolCalls) > 0 && string(m.ToolCalls) != "null" && string(m.ToolCalls) != "[]" {
				text.Write(m.ToolCalls)
			}
		}
		text.WriteString(c.Text)
		said.WriteString(c.Text)
		if c.Finish != "" {
			e.Finish = c.Finish
		}
	}
	e.Text, e.Said = text.String(), said.String()
	return e, nil
}

// contentText is a message's content: a string, or parts that have text.
func contentText(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) == nil {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(raw, &parts) // other shapes carry no text
	for _, p := range parts {
		s += p.Text
	}
	return s
}
