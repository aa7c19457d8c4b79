package console_test

import (
	"net/url"
	"testing"

	"github.com/torg-network/torg/console"
)

// FuzzLocal: wherever a form says to go on, a browser stays on this site.
func FuzzLocal(f *testing.F) {
	for _, s := range []string{"/", "/leases?x=1#y", "//evil.test", "/\\evil.test", "https://evil.test", "javascript:alert(1)", "/\t/evil.test", "/%2F/evil.test", "\x00"} {
		f.Add(s)
	}
	base, _ := url.Parse("http://torg.test/login")
	f.Fuzz(func(t *testing.T, s string) {
		got := console.Local(s)
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q leads to %q, which is no address", s, got)
		}
		if to := base.ResolveReference(u); to.Host != "torg.test" || to.Scheme != "http" {
			t.Errorf("%q leads to %s", s, to)
		}
		if len(got) > 1 && (got[1] == '/' || got[1] == '\\') {
			t.Errorf("%q leads to %q, which browsers read as another host", s, got)
		}
	})
}
