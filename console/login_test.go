package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/torg-network/torg/square"
)

// A server at another port of this host cannot have a wallet sign in for it: the
// message would name its address, and the wallet's owner would be there.
func TestWalletsSignForOurPortOnly(t *testing.T) {
	s := open(t)
	srv := httptest.NewServer(s.Console)
	defer srv.Close()
	key, _ := square.NewKey()
	form := url.Values{"address": {key.Address().Hex()}}.Encode()
	_, port, _ := strings.Cut(srv.Listener.Addr().String(), ":")
	for host, want := range map[string]int{
		"127.0.0.1:" + port: 200, "localhost:" + port: 200, "torg.example": 200, "torg.example:9999": 200,
		"127.0.0.1:9999": 403, "localhost:9999": 403, "localhost.:9999": 403, "127.0.0.1": 403, "localhost": 403, "[::1]:9999": 403, "10.0.0.9:9999": 403,
	} {
		r, err := http.NewRequest("POST", srv.URL+"/login/wallet/message", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("a wallet is asked to sign for %s: %d, want %d", host, res.StatusCode, want)
		}
	}
}
