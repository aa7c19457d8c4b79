package openai_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
)

// hold sends the head of a request and one byte of its body, and keeps it there.
func hold(t *testing.T, d *door, secret string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 200\r\n\r\n{", secret)
	return c
}

// One key with 300 bodies of one byte leaves places for others, and so do two.
func TestOneKeyCannotTakeAllPlaces(t *testing.T) {
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ks.Close()
	d := open(t, func(c *openai.Config) { c.Keys, c.ReadTimeout = ks, 20*time.Second })
	key := func(name string) string {
		secret, _, err := ks.Create(keys.Grant{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	honest := key("honest")
	for range 2 {
		secret := key("thief")
		for range 300 {
			hold(t, d, secret)
		}
		for range 3 {
			d.secret = secret
			wait(t, func() bool { // until the thief has all that it gets
				res, b := d.do(t, "POST", "/v1/chat/completions", `{}`)
				return res.StatusCode == 429 && strings.Contains(string(b), "key_busy")
			})
		}
		d.secret = honest
		for range 5 {
			d.post(t, "/v1/chat/completions", `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`)
		}
	}
}

// A key's rate counts what it asks, also what is never read or never made
// sense, and refuses before it reads.
func TestRateBeforeBody(t *testing.T) {
	d, _, _ := withKeys(t, keys.Grant{Requests: 2})
	for range 2 {
		if res, b := d.do(t, "POST", "/v1/chat/completions", `{"nonsense`); res.StatusCode != http.StatusBadRequest {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
	}
	if res, b := d.do(t, "POST", "/v1/chat/completions", `{"nonsense`); res.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("nonsense is free: %d %s", res.StatusCode, b)
	}
	// Nor does a body that never comes keep the answer back for long.
	c := hold(t, d, d.secret)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "429") {
		t.Errorf("%q, %v", line, err)
	}
}
