package square

import (
	"errors"
	"strings"
	"testing"
)

// The addresses of EIP-55's own test, which has no other case than these.
var checksums = []string{
	"0x52908400098527886E0F7030069857D2E4169EE7", "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77", "0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
}

// A mistyped digit of a checksummed address would pay somebody who is not
// there, so a checksum that does not hold is refused.
func TestChecksum(t *testing.T) {
	for _, s := range checksums {
		a, err := ParseAddress(s)
		if err != nil || a.Checksummed() != s {
			t.Errorf("%s reads as %s: %v", s, a.Checksummed(), err)
		}
		for _, plain := range []string{strings.ToLower(s), "0x" + strings.ToUpper(s[2:]), "0X" + s[2:]} {
			if got, err := ParseAddress(plain); err != nil || got != a {
				t.Errorf("%s, which has no checksum or the right one: %v", plain, err)
			}
		}
		if s == strings.ToLower(s) || s[2:] == strings.ToUpper(s[2:]) {
			continue
		}
		for i := 2; i < len(s); i++ {
			for _, c := range []byte("0123456789abcdefABCDEF") {
				wrong := s[:i] + string(c) + s[i+1:]
				if c == s[i] {
					continue
				}
				// Seven bits or more of checksum: one in 16,000 slips would
				// hold by chance, and none of these does.
				if got, err := ParseAddress(wrong); !errors.Is(err, ErrAddress) {
					t.Errorf("%s for %s was read as %s", wrong, s, got)
				}
			}
		}
	}
}
