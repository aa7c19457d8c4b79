package meter

import (
	"fmt"

	"github.com/torg-network/torg/trade/infer"
)

const (
	// Hidden is how many tokens a choice may have that give no text: its beginning
	// and end, and the marks of reasoning and of calls.
	Hidden = 64
	// longest is how many bytes of text a token has at most, on average: white
	// space has the longest.
	longest = 128
	// common is how many bytes of text a token is taken to have where nobody
	// counts them; no common tokeniser has fewer tokens.
	common = 8
)

// Most is how many completion tokens so many bytes of text can be at most, in so
// many choices: a token is at least a byte.
func Most(text int, choices uint64) uint64 { return uint64(text) + Hidden*max(choices, 1) }

// Metered is what is charged of an answer.
type Metered struct {
	Units   []uint64
	Counted string // why a count of the server's does not hold, and was made here; empty where both hold
	Over    string // what the server gave or counted beyond what it was asked for; not charged
}

// Meter holds what a server says it used (nil where it says nothing, or gave half
// an answer) against what it delivered: so many bytes of text, in so many events.
// ceiling is the job's.
func (b Body) Meter(u *infer.Usage, text int, events uint64, ceiling []uint64) (m Metered) {
	if u == nil {
		u = &infer.Usage{Prompt: -1, Completion: -1}
	}
	counted := func(format string, args ...any) {
		if m.Counted != "" {
			m.Counted += "; "
		}
		m.Counted += fmt.Sprintf(format, args...)
	}
	prompt, completion := uint64(max(u.Prompt, 0)), uint64(max(u.Completion, 0))
	switch {
	case u.Prompt <= 0:
		counted("no prompt tokens reported")
		prompt = b.Text / common
	case prompt > ceiling[0]:
		counted("%d prompt tokens reported for %d bytes and %d images", prompt, b.Text, b.Images)
		prompt = b.Text / common
	}
	least := max(events, uint64(text)/common)
	switch {
	case b.Path == Embeddings:
		completion = 0
	case u.Completion < 0 || completion == 0 && text > 0:
		counted("no completion tokens reported")
		completion = least
	case completion > Most(text, b.Choices), completion < uint64(text)/longest:
		counted("%d completion tokens reported for %d bytes", completion, text)
		completion = least
	}
	if completion > ceiling[1] && b.Path != Embeddings {
		m.Over = fmt.Sprintf("%d completion tokens where at most %d were asked for", completion, ceiling[1])
	}
	m.Units = []uint64{min(prompt, ceiling[0]), min(completion, ceiling[1])}
	return m
}
