package openai

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// sampling is how an exact answer is drawn, as the bodies of chat,
// completions and responses say it.
type sampling struct {
	Temperature      *float64           `json:"temperature"`
	TopP             *float64           `json:"top_p"`
	Stop             stops              `json:"stop"`
	Seed             *seed              `json:"seed"`
	N                *int64             `json:"n"`
	FrequencyPenalty *float64           `json:"frequency_penalty"`
	PresencePenalty  *float64           `json:"presence_penalty"`
	LogitBias        map[string]float64 `json:"logit_bias"`
}

// exact builds the request of an exact model. limit is the client's most
// tokens, given as the parameter named param.
func (s *sampling) exact(prompt []byte, param string, limit *int64, fallback uint32) (infer.Request, error) {
	q := infer.Request{Kind: infer.Exact, MaxTokens: fallback, Temperature: 1000, TopP: 10_000, Prompt: prompt}
	switch {
	case s.N != nil && *s.N != 1:
		return q, unsupported("n", "n: this model gives one answer a request; ask again with another seed")
	case s.FrequencyPenalty != nil && *s.FrequencyPenalty != 0:
		return q, unsupported("frequency_penalty", "frequency_penalty: an exact model has none; leave it out or send 0")
	case s.PresencePenalty != nil && *s.PresencePenalty != 0:
		return q, unsupported("presence_penalty", "presence_penalty: an exact model has none; leave it out or send 0")
	case len(s.LogitBias) > 0:
		return q, unsupported("logit_bias", "logit_bias: an exact model has none; leave it out")
	case len(s.Stop) > infer.MaxStops:
		return q, invalid("stop", "stop: %d sequences: at most %d", len(s.Stop), infer.MaxStops)
	}
	if limit != nil {
		if *limit < 1 || *limit > infer.MaxTokens {
			return q, invalid(param, "%s: %d: want 1 to %d", param, *limit, infer.MaxTokens)
		}
		q.MaxTokens = uint32(*limit)
	}
	if t := s.Temperature; t != nil {
		if !(*t >= 0 && *t <= 2) {
			return q, invalid("temperature", "temperature: want 0 to 2")
		}
		q.Temperature = uint32(math.Round(*t * 1000))
	}
	if p := s.TopP; p != nil {
		if !(*p >= 0 && *p <= 1) {
			return q, invalid("top_p", "top_p: want 0 to 1")
		}
		q.TopP = max(uint32(math.Round(*p*10_000)), 1)
	}
	for _, t := range s.Stop {
		if t == "" {
			continue
		}
		if len(t) > infer.MaxStop {
			return q, invalid("stop", "stop: a sequence of %d bytes: at most %d", len(t), infer.MaxStop)
		}
		q.Stop = append(q.Stop, []byte(t))
	}
	if s.Seed == nil {
		s.Seed = drawSeed()
	}
	q.Seed = s.Seed.hash()
	if len(prompt) > infer.MaxPrompt {
		e := invalid("messages", "the prompt has %d bytes: at most %d", len(prompt), infer.MaxPrompt)
		code := "context_length_exceeded"
		e.Code = &code
		return q, e
	}
	if err := q.Check(); err != nil {
		return q, problem(400, typeInvalid, "invalid_request", err.Error())
	}
	return q, nil
}

// seed is a client's 64-bit seed, signed or not, and how the client wrote it.
type seed struct {
	n    uint64
	text string
}

// drawSeed makes one that every JSON reader gets right.
func drawSeed() *seed {
	n := rand.Uint64N(1 << 53)
	return &seed{n, strconv.FormatUint(n, 10)}
}

func (s *seed) UnmarshalJSON(b []byte) error {
	s.text = string(b)
	if i, err := strconv.ParseInt(s.text, 10, 64); err == nil {
		s.n = uint64(i)
		return nil
	}
	u, err := strconv.ParseUint(s.text, 10, 64)
	if err != nil {
		return invalid("seed", "seed: want a whole number of 64 bits")
	}
	s.n = u
	return nil
}

func (s seed) MarshalJSON() ([]byte, error) { return []byte(s.text), nil }

func (s seed) hash() square.Hash { return Seed(s.n) }

// Seed is the 32-byte seed of the exact request that a number in a request
// becomes. See the package doc.
func Seed(n uint64) square.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("torg/gateway/seed/1"), n))
}

// stops is one stop sequence or a list of them.
type stops []string

func (s *stops) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = nil
		if one != "" {
			*s = stops{one}
		}
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) != nil {
		return invalid("stop", "stop: want a string or a list of strings")
	}
	*s = list
	return nil
}

// message is one turn of a conversation.
type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a message's text: a string or parts.
type content struct {
	text  string
	other string // the type of the first part that is not text
}

func (c *content) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) || json.Unmarshal(b, &c.text) == nil {
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(b, &parts) != nil {
		return invalid("messages", "messages: content must be a string or a list of parts")
	}
	var text strings.Builder
	for _, p := range parts {
		switch p.Type {
		case "text", "input_text", "output_text":
			text.WriteString(p.Text)
		default:
			if c.other == "" {
				c.other = p.Type
				if c.other == "" {
					c.other = "unnamed"
				}
			}
		}
	}
	c.text = text.String()
	return nil
}

var roles = []string{"system", "developer", "user", "assistant"}

// conversation writes messages as the plain text an exact model continues. See
// the package doc.
func conversation(param string, messages []message) ([]byte, error) {
	if len(messages) == 0 {
		return nil, invalid(param, "%s: at least one message is needed", param)
	}
	var b bytes.Buffer
	for i, m := range messages {
		if !slices.Contains(roles, m.Role) {
			return nil, unsupported(param, "%s[%d].role: %q: this model reads system, developer, user and assistant", param, i, square.Clip(m.Role, 80))
		}
		if m.Content.other != "" {
			return nil, unsupported(param, "%s[%d].content: this model reads text, not %q", param, i, square.Clip(m.Content.other, 80))
		}
		if t := strings.TrimRight(m.Content.text, " \t\r\n"); t != "" {
			b.WriteString(t)
			b.WriteByte('\n')
		}
	}
	if b.Len() == 0 {
		return nil, invalid(param, "%s: no message has any text", param)
	}
	return b.Bytes(), nil
}
