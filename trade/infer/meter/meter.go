// Package meter says what a request may cost at most, before anyone has seen the
// answer, and what an answer is charged. A buyer signs for the ceiling and a
// provider demands no more, so both compute it here; and both read a request and
// an answer here, once, with the same strict reader (package trade/strict).
//
// The rules, and why they are so, are in
// docs/decisions/2026-12-01-priced-bytes.md.
package meter

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/strict"
)

const (
	// DefaultCompletion is how long an upstream answer may be when neither the
	// body nor the offer limits it, in tokens.
	DefaultCompletion = 4096
	// Overhead is what a chat template or a beginning-of-text token may add to a
	// prompt beyond one token a byte.
	Overhead = 256
	// ImageTokens is the most that one image of a prompt may be metered at,
	// whatever its bytes: as much as the hungriest of the common models take of
	// the largest image (Qwen2-VL, 16,384).
	ImageTokens = 1 << 14
	// maxChoices bounds the answers to one request.
	maxChoices = 128
)

// Path is where an OpenAI-compatible server answers a body.
type Path string

// The paths.
const (
	Chat        Path = "/v1/chat/completions"
	Completions Path = "/v1/completions"
	Embeddings  Path = "/v1/embeddings"
)

// Body is what of an OpenAI request body decides its path and its price.
type Body struct {
	Object  strict.Object
	Path    Path
	Limit   uint64 // completion tokens of one answer; 0 when the body does not say
	Choices uint64 // answers
	Text    uint64 // bytes of it that can become prompt tokens: without escapes and images
	Images  uint64
}

// limits are the names of the limit, the one that counts first; aliases are other
// names that some servers obey, and some clients send beside the first.
var (
	limits  = []string{"max_completion_tokens", "max_tokens"}
	aliases = []string{"n_predict", "num_predict", "max_new_tokens", "max_output_tokens", "max_length", "maxtokens"}
	answers = []string{"n", "best_of"}
	// manifold are other names of answers.
	manifold = []string{"n_cmpl", "num_return_sequences"}
	// inner are members in which some servers look for limits as well.
	inner = []string{"options", "extra_body", "parameters", "generation_config", "sampling_params", "nvext"}
	// others decide a body's path, or are set by a provider.
	others = []string{"messages", "prompt", "input", "model", "stream", "stream_options"}
)

// ReadBody reads an opaque request's body. What a server could read in another
// way is refused by name, or is [Foreign] and not sent on.
func ReadBody(body []byte) (Body, error) {
	o, err := strict.Read(body)
	if err != nil {
		return Body{}, fmt.Errorf("request body: %w", err)
	}
	b := Body{Object: o, Choices: 1}
	if err := b.names(); err != nil {
		return Body{}, fmt.Errorf("request body: %w", err)
	}
	given := ""
	for _, p := range []struct {
		name string
		path Path
	}{{"messages", Chat}, {"prompt", Completions}, {"input", Embeddings}} {
		switch {
		case !o.Get(p.name).Given():
		case given != "":
			return Body{}, fmt.Errorf("request body: it has %s and %s, of which servers read one or the other; send one", given, p.name)
		default:
			given, b.Path = p.name, p.path
		}
	}
	if given == "" {
		return Body{}, errors.New("request body: want messages, prompt or input")
	}
	b.size()
	if b.Path == Embeddings {
		return b, nil
	}
	if err := b.limit(); err != nil {
		return Body{}, fmt.Errorf("request body: %w", err)
	}
	if err := b.choices(); err != nil {
		return Body{}, fmt.Errorf("request body: %w", err)
	}
	return b, nil
}

// names refuses members whose name is that of a priced one but for case, which
// some servers read as the priced one, and limits where only some look.
func (b *Body) names() error {
	for _, m := range b.Object {
		for _, list := range [...][]string{limits, answers, others, aliases, manifold} {
			for _, n := range list {
				if m.Name != n && strings.EqualFold(m.Name, n) {
					return fmt.Errorf("%q is read as %q by some servers; write it so, or leave it out", m.Name, n)
				}
			}
		}
	}
	for _, in := range inner {
		for name := range b.Object.Get(in).Members() {
			for _, list := range [...][]string{limits, aliases, answers, manifold} {
				for _, n := range list {
					if strings.EqualFold(string(name), n) {
						return fmt.Errorf("%s.%s: some servers read it and some do not; send max_tokens or n beside %s", in, n, in)
					}
				}
			}
		}
	}
	return nil
}

// limit finds the most tokens of an answer. The newer name counts, then the
// older, then what some servers call it.
func (b *Body) limit() error {
	for _, n := range limits {
		v := b.Object.Get(n)
		if !v.Given() {
			continue
		}
		tokens, ok := v.Count()
		if !ok || tokens == 0 {
			return fmt.Errorf("%s: want a whole number of tokens, 1 or more; servers take 0 for none and for any number", n)
		}
		if b.Limit == 0 {
			b.Limit = tokens
		}
	}
	for _, n := range aliases {
		if tokens, ok := b.Object.Get(n).Count(); ok && b.Limit == 0 {
			b.Limit = tokens
		}
	}
	return nil
}

func (b *Body) choices() error {
	for _, list := range [...][]string{answers, manifold} {
		for _, name := range list {
			v := b.Object.Get(name)
			if !v.Given() {
				continue
			}
			n, ok := v.Count()
			if !ok || n < 1 || n > maxChoices {
				return fmt.Errorf("%s: want 1 to %d", name, maxChoices)
			}
			b.Choices = max(b.Choices, n) // best_of answers are made, n of them given
		}
	}
	if b.Path != Completions {
		return nil
	}
	// A list of prompts gives an answer each; a list of numbers is one prompt.
	prompts, kind := uint64(0), byte('"')
	for p := range b.Object.Get("prompt").Elements() {
		if prompts == 0 {
			kind = p.Kind()
		}
		if prompts++; p.Kind() != kind || kind != '"' && kind != '[' && kind != 0 {
			return errors.New("prompt: want a text, a list of texts, a list of tokens or a list of such lists")
		}
	}
	if kind != 0 {
		b.Choices *= max(prompts, 1)
	}
	return nil
}

// size counts what can become prompt tokens.
func (b *Body) size() {
	b.Text = 1
	for _, m := range b.Object {
		b.Text += uint64(len(m.Name) + len(`"":,`) + m.Value.Plain())
	}
	for m := range b.Object.Get("messages").Elements() {
		for part := range m.Get("content").Elements() {
			if n := image(part); n > 0 {
				b.Images++
				b.Text -= uint64(n)
			}
		}
	}
}

// image is how many bytes of a part of a message are an image's own; 0 where it
// is none, or elsewhere.
func image(part strict.Value) int {
	for _, name := range []string{"image_url", "image"} {
		v := part.Get(name)
		if url := v.Get("url"); url != nil {
			v = url
		}
		if isImage(v) {
			return v.Plain()
		}
	}
	return 0
}

// isImage reports whether a value is an image in base64, of which no byte is
// read as text. Some clients write each slash as \/.
func isImage(v strict.Value) bool {
	const most = 64 // bytes of what stands before the data
	if v.Kind() != '"' || !bytes.HasPrefix(v[1:], []byte("data:image/")) && !bytes.HasPrefix(v[1:], []byte(`data:image\/`)) {
		return false
	}
	at := bytes.Index(v[:min(len(v), most)], []byte(";base64,"))
	if at < 0 {
		return false
	}
	for i, c := range v[:len(v)-1] {
		switch {
		case i < at+len(";base64,"):
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/', c == '=', c == '\\' && v[i+1] == '/':
		default:
			return false
		}
	}
	return true
}

// Foreign are the members of a body that are sent on to no server, since only
// some obey them: what they say, the limits and the answers say.
func Foreign() []string {
	return append(append([]string(nil), aliases...), manifold...)
}

// Job is a request that has been read. All that may be metered of it follows.
type Job struct {
	infer.Request
	Body Body // of an opaque request
}

// Read reads a request.
func Read(r infer.Request) (Job, error) {
	j := Job{Request: r}
	err := r.Check()
	if err == nil && r.Kind == infer.Opaque {
		j.Body, err = ReadBody(r.Prompt)
	}
	return j, err
}

// Tokens is how many completion tokens an answer may have at most, in all its
// choices, of a model with so long a context (0 when unknown).
func (j Job) Tokens(context uint64) uint64 {
	switch {
	case j.Kind == infer.Exact:
		return uint64(j.MaxTokens)
	case j.Kind == infer.Embed, j.Body.Path == Embeddings:
		return 0
	}
	n := j.Body.Limit
	if n == 0 {
		n = DefaultCompletion
	}
	if context > 0 {
		n = min(n, context)
	}
	return n * j.Body.Choices
}

// Ceiling is the most the request may be metered at, in the trade's units, on a
// model with so long a context (0 when unknown). What is exact is known exactly.
// Else a token is at least a byte of text.
func (j Job) Ceiling(context uint64) []uint64 {
	prompt := replay.PromptTokens(j.Request, context)
	if j.Kind == infer.Opaque {
		prompt = j.Body.Text + j.Body.Images*ImageTokens + Overhead
	}
	return []uint64{prompt, j.Tokens(context)}
}

// Ceiling reads a request and says what it may be metered at.
func Ceiling(r infer.Request, context uint64) ([]uint64, error) {
	j, err := Read(r)
	if err != nil {
		return nil, err
	}
	return j.Ceiling(context), nil
}
