// Package meter says what a request may cost at most, before anyone has seen
// the answer, and reads what an OpenAI-compatible server says about an answer.
// A buyer signs for the ceiling and a provider demands no more, so both must
// compute it alike.
package meter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

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
	Members    map[string]json.RawMessage // of the body
}

// priced are the members that decide a body's path and price, and those that a
// provider sets.
var priced = []string{
	"messages", "prompt", "input", "max_tokens", "max_completion_tokens", "n", "best_of", "model", "stream", "stream_options",
}

// ReadBody reads an opaque request's body. It reads what a server will read: a
// body that could be read in two ways is refused ([Members]).
func ReadBody(body []byte) (Body, error) {
	m, err := Members(body, priced...)
	if err != nil {
		return Body{}, err
	}
	given := func(name string) bool { return len(m[name]) > 0 && string(m[name]) != "null" }
	out := Body{Choices: 1, Members: m}
	switch {
	case given("messages"):
		out.Path = "/v1/chat/completions"
	case given("prompt"):
		out.Path = "/v1/completions"
		// A list of prompts gives an answer each.
		var list []json.RawMessage
		if json.Unmarshal(m["prompt"], &list) == nil && len(list) > 1 && !isNumber(list[0]) {
			out.Choices = uint64(len(list))
		}
	case given("input"):
		out.Path = "/v1/embeddings"
		return out, nil
	default:
		return Body{}, fmt.Errorf("request body: want messages, prompt or input")
	}
	for _, name := range []string{"n", "best_of"} {
		n, err := count(m[name])
		if err != nil || n > 128 {
			return Body{}, fmt.Errorf("request body: %s: want 1 to 128", name)
		}
		out.Choices *= max(n, 1)
	}
	for _, name := range []string{"max_tokens", "max_completion_tokens"} { // the newer name counts
		n, err := count(m[name])
		if err != nil {
			return Body{}, fmt.Errorf("request body: %s: want a whole number of tokens", name)
		}
		if given(name) {
			out.Completion = n
		}
	}
	return out, nil
}

// count reads a whole number, of which some clients write 100.0; 0 where there
// is none.
func count(raw json.RawMessage) (uint64, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(string(raw), 10, 32); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < 0 || f > math.MaxUint32 || f != math.Trunc(f) {
		return 0, errors.New("not a whole number")
	}
	return uint64(f), nil
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
	Prompt     uint64
	Completion uint64
}

// UnmarshalJSON reads numbers as servers write them, 11 or 11.0. What is no
// count of tokens is none.
func (u *Usage) UnmarshalJSON(b []byte) error {
	var v struct {
		Prompt     json.RawMessage `json:"prompt_tokens"`
		Completion json.RawMessage `json:"completion_tokens"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil // a list, a word: no usage
	}
	u.Prompt, _ = count(v.Prompt)
	u.Completion, _ = count(v.Completion)
	return nil
}

// Hidden is how many tokens a choice may have that give no text: its beginning
// and end, and the marks of reasoning and of tool calls.
const Hidden = 64

// Most is how many completion tokens so much text can be at most, in so many
// choices: a token is at least a byte.
func Most(text int, choices uint64) uint64 { return uint64(text) + Hidden*max(choices, 1) }

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
