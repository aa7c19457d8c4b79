package openai

import (
	"bytes"
	"unicode/utf8"
)

// runes passes text on in whole runes: a token of a byte-level model may end
// inside one.
type runes struct{ held []byte }

// add takes the next bytes and returns what is whole so far. Bytes that can
// never become a rune come out as U+FFFD, as JSON would have them.
func (r *runes) add(s string) string {
	if len(r.held) == 0 && utf8.ValidString(s) {
		return s
	}
	b := append(r.held, s...)
	out := make([]byte, 0, len(b)+2)
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n <= 1 && !utf8.FullRune(b) {
			break
		}
		out = utf8.AppendRune(out, c)
		b = b[n:]
	}
	r.held = bytes.Clone(b)
	return string(out)
}

// rest is what was left at the end.
func (r *runes) rest() string {
	if len(r.held) == 0 {
		return ""
	}
	r.held = nil
	return string(utf8.RuneError)
}
