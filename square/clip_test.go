package square_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/torg-network/torg/square"
)

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s    string
		most int
		want string
	}{
		{"", 0, ""}, {"torg", 4, "torg"}, {"torg", 3, "tor…"}, {"torg", 0, "…"},
		{"ярмарка", 7, "ярмарка"}, {"ярмарка", 3, "ярм…"}, {"a\U0001F3AA\U0001F3AA", 2, "a\U0001F3AA…"},
		{"a\xff\xfeb", 4, "a\xff\xfeb"}, {"a\xff\xfeb", 2, "a\xff…"},
	} {
		if got := square.Clip(c.s, c.most); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.s, c.most, got, c.want)
		}
	}
	long := strings.Repeat("площадь", 100)
	for n := range 700 {
		if s := square.Clip(long, n); !utf8.ValidString(s) || utf8.RuneCountInString(s) != n+1 {
			t.Fatalf("to %d: %d characters, text %v", n, utf8.RuneCountInString(s), utf8.ValidString(s))
		}
	}
}
