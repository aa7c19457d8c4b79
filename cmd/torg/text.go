package main

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/torg-network/torg/square"
)

// What others wrote — names in files, offers, answers, errors of servers — must
// not move the cursor, hide text, turn its direction or begin a line that looks
// like ours. Everything that is printed for people passes here.

// visible writes what a terminal does not print as it stands (control and format
// characters, other spaces than the plain one, bytes that are no text) as Go
// does, \n and \u202e, so that a line stays one line and shows all of itself.
func visible(s string) string {
	return escape(s, func(rune) bool { return false })
}

// visibleLines is visible for a text of many lines.
func visibleLines(s string) string {
	return escape(s, func(r rune) bool { return r == '\n' || r == '\t' })
}

func escape(s string, keep func(rune) bool) string {
	for i, r := range s {
		if plainRune(s, i, r) || keep(r) {
			continue
		}
		var b strings.Builder
		b.WriteString(s[:i])
		for s = s[i:]; s != ""; {
			r, n := utf8.DecodeRuneInString(s)
			if plainRune(s, 0, r) || keep(r) {
				b.WriteString(s[:n])
			} else {
				q := strconv.QuoteToASCII(s[:n])
				b.WriteString(q[1 : len(q)-1])
			}
			s = s[n:]
		}
		return b.String()
	}
	return s
}

// plainRune reports whether the rune of s at i is printed as it stands.
func plainRune(s string, i int, r rune) bool {
	if r == utf8.RuneError {
		_, n := utf8.DecodeRuneInString(s[i:])
		return n > 1 // the replacement character itself, not a byte that is no text
	}
	return strconv.IsPrint(r)
}

// named is a name that others gave, among words of ours: as it is if it could be
// nothing but a name, else quoted.
func named(s string) string {
	if s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-") == "" {
		return s
	}
	return quoted(s)
}

// quoted is a text that others wrote, cut where it is long.
func quoted(s string) string {
	return strconv.Quote(square.Clip(s, 400))
}

// escapeJSON writes such characters of JSON as \u…: JSON itself lets most of
// them stand in a string.
func escapeJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r < utf8.RuneSelf && r != 0x7f, n > 1 && strconv.IsPrint(r):
			out = append(out, b[:n]...)
		case r >= 0x10000:
			for _, half := range []rune{0xd800 + (r-0x10000)>>10, 0xdc00 + (r-0x10000)&0x3ff} {
				out = append(out, `\u`+strconv.FormatUint(uint64(half), 16)...)
			}
		default:
			out = append(out, `\u`...)
			hex := strconv.FormatUint(uint64(r), 16)
			out = append(append(out, "0000"[len(hex):]...), hex...)
		}
		b = b[n:]
	}
	return out
}
