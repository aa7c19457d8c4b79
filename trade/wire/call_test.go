package wire

import (
	"strings"
	"testing"

	"github.com/torg-network/torg/square"
)

// The bytes of a signed call, as other programs have to make them.
func TestCall(t *testing.T) {
	k, err := square.KeyFromBytes([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	d := square.LedgerDomain("torg-test-1")
	c := Call{Provider: square.Address{1, 2}, Path: "serve", Lease: square.Hash{3}, Lane: 258, Time: 1_800_000_000, Body: square.Hash{4}}
	const digest, header = "fbc85396b9bf1f984db27437218d1ce7281aa772532e20db5e6b168b23fb642a", "Torg 0300000000000000000000000000000000000000000000000000000000000000 258 1800000000 0400000000000000000000000000000000000000000000000000000000000000 0xb3193a87542ea449255aa8be11179a702be5ea4c6df662bcc3f264f12e73d64440bdbf73bb2fb98665fcb67ba43219a1e314027ae0b8ccddf7e812cc987a37fa1c"
	if got := c.Digest(d).String(); got != digest {
		t.Errorf("digest %s, want %s", got, digest)
	}
	if got := c.Header(d, k); got != header {
		t.Errorf("header %s", got)
	}
	back, who, err := ParseCall(d, c.Provider, c.Path, c.Header(d, k), nil)
	if err != nil || back != c || who != k.Address() {
		t.Errorf("read back %+v by %s, %v", back, who, err)
	}
	// Each part is signed: another one is another caller's.
	good := c.Header(d, k)
	for name, f := range map[string]func() (square.Address, error){
		"domain": func() (square.Address, error) {
			_, a, err := ParseCall(square.LedgerDomain("torg-test-2"), c.Provider, c.Path, good, nil)
			return a, err
		},
		"provider": func() (square.Address, error) {
			_, a, err := ParseCall(d, square.Address{9}, c.Path, good, nil)
			return a, err
		},
		"path": func() (square.Address, error) {
			_, a, err := ParseCall(d, c.Provider, "lane", good, nil)
			return a, err
		},
		"lane": func() (square.Address, error) {
			_, a, err := ParseCall(d, c.Provider, c.Path, strings.Replace(good, " 258 ", " 259 ", 1), nil)
			return a, err
		},
		"time": func() (square.Address, error) {
			_, a, err := ParseCall(d, c.Provider, c.Path, strings.Replace(good, " 1800000000 ", " 1800000001 ", 1), nil)
			return a, err
		},
		"lease": func() (square.Address, error) {
			_, a, err := ParseCall(d, c.Provider, c.Path, strings.Replace(good, " 03", " 04", 1), nil)
			return a, err
		},
		"body": func() (square.Address, error) {
			_, a, err := ParseCall(d, c.Provider, c.Path, strings.Replace(good, " 0400", " 0500", 1), nil)
			return a, err
		},
	} {
		if who, err := f(); err == nil && who == k.Address() {
			t.Errorf("%s is not signed", name)
		}
	}
	for _, bad := range []string{"", "Torg", "Bearer x", good + " ", " " + good, strings.ToUpper(good), strings.Replace(good, " 258 ", " 65536 ", 1), strings.Replace(good, " 258 ", " -1 ", 1)} {
		if _, _, err := ParseCall(d, c.Provider, c.Path, bad, nil); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzCall(f *testing.F) {
	d := square.LedgerDomain("torg-test-1")
	f.Add("Torg 00 1 2 00 0x")
	f.Fuzz(func(t *testing.T, header string) { _, _, _ = ParseCall(d, square.Address{}, "lane", header, nil) })
}
