package session_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/square"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func begin(s *session.Store, v session.Viewer) *http.Request {
	w := httptest.NewRecorder()
	s.Begin(w, httptest.NewRequest("GET", "/", nil), v)
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func TestSessionsEnd(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	s := session.NewStore(c.now)
	r := begin(s, session.Viewer{Role: session.Owner})
	if s.Of(r) == nil {
		t.Fatal("no session")
	}
	c.t = c.t.Add(13 * time.Hour)
	if s.Of(r) != nil {
		t.Error("an idle session lives on")
	}
	r = begin(s, session.Viewer{Role: session.Owner})
	for range 8 * 24 / 6 {
		c.t = c.t.Add(6 * time.Hour)
		s.Of(r)
	}
	if s.Of(r) != nil {
		t.Error("a session outlives its week")
	}
}

// Two squares on one host, at different ports, share what browsers send: neither
// ends the other's session, nor takes it for one of its own.
func TestSessionsAreOfOneSquare(t *testing.T) {
	one, two := session.NewStore(nil), session.NewStore(nil)
	at := func(host string, cookies []*http.Cookie) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		for _, c := range cookies {
			r.AddCookie(c)
		}
		return r
	}
	w := httptest.NewRecorder()
	one.Begin(w, at("127.0.0.1:8800", nil), session.Viewer{Role: session.Owner})
	jar := w.Result().Cookies()
	w = httptest.NewRecorder()
	two.Begin(w, at("127.0.0.1:8900", jar), session.Viewer{Role: session.Owner})
	for _, c := range w.Result().Cookies() {
		if c.Name == jar[0].Name {
			t.Errorf("entering one square sets the cookie of the other: %v", c)
		}
	}
	jar = append(jar, w.Result().Cookies()...)
	if one.Of(at("127.0.0.1:8800", jar)) == nil || two.Of(at("127.0.0.1:8900", jar)) == nil {
		t.Error("one square logged out of the other")
	}
	// Whoever got the cookie at another port has a session at none.
	for _, host := range []string{"127.0.0.1:8900", "localhost:8800", "evil.example:8800", ""} {
		r := at("127.0.0.1:8800", jar)
		r.Host = host
		for _, c := range jar {
			c.Name = w.Result().Cookies()[0].Name
			r.AddCookie(c)
		}
		if one.Of(r) != nil {
			t.Errorf("a session of 127.0.0.1:8800 is one at %q", host)
		}
	}
}

func TestOnce(t *testing.T) {
	s := session.NewStore(nil)
	mine, other := s.Of(begin(s, session.Viewer{})), s.Of(begin(s, session.Viewer{}))
	first := mine.Once()
	if other.Spend(first) || !mine.Spend(first) || mine.Spend(first) || mine.Spend("") {
		t.Error("a token is spent once, in its own session")
	}
	old := mine.Once()
	for range 256 {
		mine.Once()
	}
	if mine.Spend(old) {
		t.Error("tokens are kept without bound")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	s := session.NewStore(c.now)
	first := begin(s, session.Viewer{Role: session.Owner})
	for range 1024 {
		c.t = c.t.Add(time.Millisecond)
		begin(s, session.Viewer{Role: session.Wallet})
	}
	if s.Of(first) != nil {
		t.Error("the oldest of 1025 sessions is still there")
	}
}

func TestAKeysSessionsEndWithIt(t *testing.T) {
	s := session.NewStore(nil)
	a, b := begin(s, session.NewKey("a", "", "s")), begin(s, session.NewKey("b", "", "s"))
	s.EndKey("a")
	if s.Of(a) != nil || s.Of(b) == nil {
		t.Error("the wrong session ended")
	}
}

func TestLinksExpire(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	s := session.NewStore(c.now)
	late := s.Link()
	c.t = c.t.Add(16 * time.Minute)
	if s.UseLink(late) == nil {
		t.Error("a link of a quarter of an hour ago opens")
	}
}

// keplr signs a text as Keplr's signArbitrary does for an Ethereum key.
func keplr(k square.Key, text string) string {
	doc, _ := json.Marshal(map[string]any{
		"account_number": "0", "chain_id": "", "fee": map[string]any{"amount": []any{}, "gas": "0"}, "memo": "",
		"msgs": []any{map[string]any{"type": "sign/MsgSignData", "value": map[string]any{
			"data": base64.StdEncoding.EncodeToString([]byte(text)), "signer": k.Address().String()}}},
		"sequence": "0",
	})
	sig := k.Sign(square.Keccak(doc))
	return base64.StdEncoding.EncodeToString(sig[:64])
}

func TestKeplrSignIn(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	s := session.NewStore(c.now)
	key, _ := square.NewKey()
	other, _ := square.NewKey()
	ask := func() (nonce, message string) {
		return s.Challenge(key.Address(), "http://x.test", "x.test", "chain-1")
	}
	nonce, message := ask()
	if who, err := s.Answer(nonce, keplr(key, message)); err != nil || who != key.Address() {
		t.Errorf("%v %v", who, err)
	}
	if _, err := s.Answer(nonce, keplr(key, message)); err == nil {
		t.Error("a challenge was answered twice")
	}
	nonce, message = ask()
	if _, err := s.Answer(nonce, keplr(other, message)); err == nil {
		t.Error("another's signature was taken")
	}
	nonce, message = ask()
	if _, err := s.Answer(nonce, keplr(key, message+".")); err == nil {
		t.Error("a signature of another text was taken")
	}
	nonce, message = ask()
	c.t = c.t.Add(6 * time.Minute)
	if _, err := s.Answer(nonce, keplr(key, message)); err == nil {
		t.Error("a late signature was taken")
	}
}

// EIP-55's own examples.
func TestChecksum(t *testing.T) {
	s := session.NewStore(nil)
	for _, want := range []string{
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	} {
		a, err := square.ParseAddress(strings.ToLower(want))
		if err != nil {
			t.Fatal(err)
		}
		if _, message := s.Challenge(a, "http://x.test", "x.test", "c"); !strings.Contains(message, "\n"+want+"\n") {
			t.Errorf("%s is not in %q", want, message)
		}
	}
}

func TestLimiterForgets(t *testing.T) {
	c := &clock{time.Unix(1_000_000, 0)}
	l := session.NewLimiter(c.now)
	r := httptest.NewRequest("GET", "/", nil)
	for range 20 {
		l.Allow(r)
	}
	if l.Allow(r) == 0 {
		t.Error("a 21st try in a minute is allowed")
	}
	c.t = c.t.Add(time.Minute)
	if l.Allow(r) != 0 {
		t.Error("the next minute's first is not")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("0x" + strings.Repeat("00", 65))
	f.Add(base64.StdEncoding.EncodeToString(make([]byte, 64)))
	f.Add("")
	key, _ := square.NewKey()
	s := session.NewStore(nil)
	f.Fuzz(func(t *testing.T, sig string) {
		nonce, _ := s.Challenge(key.Address(), "http://x.test", "x.test", "c")
		if _, err := s.Answer(nonce, sig); err == nil {
			t.Errorf("%q lets somebody in", sig)
		}
	})
}
