package square

import "unicode/utf8"

// Clip bounds a text that others wrote, for people: at most so many characters
// (runes; a byte that is no UTF-8 is one), and an ellipsis if there were more. What
// is cut is cut between characters, so that text stays text.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	at := 0
	for range most {
		if at == len(s) {
			return s
		}
		_, n := utf8.DecodeRuneInString(s[at:])
		at += n
	}
	if at == len(s) {
		return s
	}
	return s[:at] + "…"
}
