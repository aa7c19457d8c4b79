package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	txtypes "github.com/cosmos/cosmos-sdk/types/tx"

	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/square"
)

// visitor is a browser at a running square's console.
type visitor struct {
	t    *testing.T
	base string
	http http.Client
}

func visit(t *testing.T, base string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, base, http.Client{Jar: jar, Timeout: time.Minute}}
}

// get opens a page, whole URL or path.
func (v *visitor) get(path string) (int, string) {
	v.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = v.base + path
	}
	r, err := v.http.Get(path)
	return v.read(r, err)
}

func (v *visitor) read(r *http.Response, err error) (int, string) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

var (
	csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)
	onceField = regexp.MustCompile(`name="once" value="([^"]+)"`)
)

// post sends a form of the page.
func (v *visitor) post(page, path string, form url.Values) (int, string) {
	v.t.Helper()
	_, body := v.get(page)
	m := csrfField.FindStringSubmatch(body)
	if m == nil {
		v.t.Fatalf("%s has no form", page)
	}
	form.Set("csrf", m[1])
	if m := onceField.FindStringSubmatch(body); m != nil {
		form.Set("once", m[1])
	}
	r, err := v.http.PostForm(v.base+path, form)
	return v.read(r, err)
}

// TestConsole opens the console of a real square, asks, audits, and moves money
// as MetaMask and Keplr would have it signed.
func TestConsole(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := open(t, home)
	v := visit(t, s.AdminURL)
	if code, body := v.get(s.Console); code != 200 || !strings.Contains(body, "Welcome") {
		t.Fatalf("the printed link answers %d: %s", code, body)
	}
	if code, _ := visit(t, s.AdminURL).get(s.Console); code != http.StatusForbidden {
		t.Errorf("the link opens twice: %d", code)
	}

	var again consoleLink
	if out := s.torg("console", "-o", "json"); out.code != exitOK || json.Unmarshal([]byte(out.out), &again) != nil {
		t.Fatalf("torg console: %+v", out)
	}
	if code, _ := visit(t, s.AdminURL).get(again.URL); code != 200 {
		t.Errorf("the link of torg console answers %d", code)
	}

	// Every page that the navigation leads to.
	_, front := v.get("/")
	nav := front[strings.Index(front, "<nav"):strings.Index(front, "</nav>")]
	for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(nav, -1) {
		if code, body := v.get(m[1]); code != 200 {
			t.Errorf("%s answers %d: %s", m[1], code, body)
		}
	}

	// A question, its receipt, and the audit of it.
	code, body := v.post("/ask", "/ask", url.Values{"model": {"torg-nano"}, "prompt": {"It is a truth"}, "tokens": {"20"}})
	// Either may be audited by the gateway itself before it is looked at.
	audited := regexp.MustCompile(`Audit it|re-executed: equal`)
	found := regexp.MustCompile(`/receipts/([0-9a-f]{64})`).FindStringSubmatch(body)
	if code != 200 || !audited.MatchString(body) || found == nil {
		t.Fatalf("asking answers %d: %s", code, body)
	}
	id := found[1]
	if _, body = v.post("/ask", "/ask/audit/"+id, url.Values{}); !strings.Contains(body, "re-executed: equal") {
		t.Errorf("the audit finds %s", body)
	}

	// Money, from a wallet that is not this square's own: its provider's key has
	// some and plays MetaMask, then Keplr.
	k, c := s.keys(), s.ledger()
	to, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var q struct {
		Ticket, Body, Auth, Number string
		Typed                      struct{ Message map[string]string }
	}
	_, body = v.post("/wallet", "/wallet/sign", url.Values{"wallet": {"ethereum"}, "from": {k.provider.Address().Hex()}, "to": {to.Address().Hex()}, "amount": {"1.5"}})
	if err := json.Unmarshal([]byte(body), &q); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	m := q.Typed.Message
	channel, _ := square.ParseHash(m["channel"])
	nonce, _ := square.ParseHash(m["nonce"])
	units, _ := strconv.ParseUint(m["amount"], 10, 64)
	expiry, _ := strconv.ParseInt(m["expiry"], 10, 64)
	d := square.Deposit{Owner: k.provider.Address(), Channel: channel, Receiver: to.Address(), Amount: square.Utorg(units), Nonce: nonce, Expiry: expiry}
	sig := k.provider.Sign(d.Digest(c.Domain()))
	if code, body = v.post("/wallet", "/wallet/signed", url.Values{"ticket": {q.Ticket}, "signature": {sig.String()}}); code != 200 {
		t.Fatalf("MetaMask's transfer answers %d: %s", code, body)
	}
	holds := func(want uint64) {
		t.Helper()
		if a, err := c.Balance(t.Context(), to.Address(), square.Denom); err != nil || a.Units != want {
			t.Errorf("the receiver has %d, want %d (%v)", a.Units, want, err)
		}
	}
	holds(1_500_000)

	pub := base64.StdEncoding.EncodeToString(k.provider.PubKey())
	_, body = v.post("/wallet", "/wallet/sign", url.Values{"wallet": {"keplr"}, "pubkey": {pub}, "to": {to.Address().String()}, "amount": {"2"}})
	if err := json.Unmarshal([]byte(body), &q); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	doc := txtypes.SignDoc{ChainId: c.ChainID()}
	doc.BodyBytes, _ = base64.StdEncoding.DecodeString(q.Body)
	doc.AuthInfoBytes, _ = base64.StdEncoding.DecodeString(q.Auth)
	doc.AccountNumber, _ = strconv.ParseUint(q.Number, 10, 64)
	b, err := doc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	keplr := base64.StdEncoding.EncodeToString(keys.Sign(k.provider, b))
	if code, body = v.post("/wallet", "/wallet/signed", url.Values{"ticket": {q.Ticket}, "signature": {keplr}}); code != 200 {
		t.Fatalf("Keplr's transfer answers %d: %s", code, body)
	}
	holds(3_500_000)
	if code, body = v.post("/wallet", "/wallet/send", url.Values{"to": {to.Address().String()}, "amount": {"0.5"}, "sure": {"1"}}); code != 200 || !strings.Contains(body, "is now with") {
		t.Errorf("sending answers %d: %s", code, body)
	}
	holds(4_000_000)
	// The story of the money has it, once the history has read the block.
	await(t, "the payment in the wallet's story", func() error {
		if _, body = v.get("/wallet"); !strings.Contains(body, "You sent 0.5\u00a0TORG to ") {
			return os.ErrNotExist
		}
		return nil
	})

	// A key's session sees what it asked, and not what the owner did.
	code, body = v.post("/wallet", "/wallet/keys", url.Values{"name": {"guest"}, "budget": {"1"}})
	secret := regexp.MustCompile(`id="new-secret">(torg-[a-z2-7]+)<`).FindStringSubmatch(body)
	if code != 200 || secret == nil {
		t.Fatalf("making a key answers %d: %s", code, body)
	}
	guest := visit(t, s.AdminURL)
	if r, err := guest.http.PostForm(s.AdminURL+"/login", url.Values{"key": {secret[1]}}); err != nil || r.StatusCode != 200 {
		t.Fatalf("logging in: %v %v", r, err)
	}
	if _, body = guest.post("/ask", "/ask", url.Values{"model": {"torg-nano"}, "prompt": {"She was"}, "tokens": {"5"}}); !audited.MatchString(body) {
		t.Errorf("the guest gets %s", body)
	}
	if code, _ = guest.get("/ask/receipt/" + id); code != http.StatusNotFound {
		t.Errorf("the guest reads the owner's receipt: %d", code)
	}
	if _, body = guest.get("/wallet"); strings.Contains(body, s.Wallet) {
		t.Error("the guest sees the owner's wallet")
	}

	// An open stream does not hold the square up when it closes.
	r, err := v.http.Get(s.AdminURL + "/live")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if line, err := bufio.NewReader(r.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry:") {
		t.Errorf("the stream begins with %q (%v)", line, err)
	}
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("closing took %v with a browser looking", took)
	}
}
