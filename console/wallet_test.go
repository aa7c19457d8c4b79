package console_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/square"
)

// signIn logs a wallet in as MetaMask does: personal_sign of the console's
// message.
func signIn(t *testing.T, s *consoletest.Test, k square.Key, claim string) (*consoletest.Browser, *consoletest.Response) {
	t.Helper()
	if claim == "" {
		claim = k.Address().Hex()
	}
	b := s.Stranger()
	var asked struct{ Nonce, Message string }
	if err := json.Unmarshal(b.Post("/login/wallet/message", url.Values{"address": {claim}}).Is(200).Body.Bytes(), &asked); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(asked.Message, "torg.test wants you to sign in with your Ethereum account:\n0x") || !strings.Contains(asked.Message, "\nNonce: "+asked.Nonce+"\n") {
		t.Errorf("the message reads %q", asked.Message)
	}
	digest := square.Keccak([]byte(fmt.Sprintf("\x19Ethereum Signed Message:\n%d", len(asked.Message))), []byte(asked.Message))
	form := url.Values{"nonce": {asked.Nonce}, "signature": {k.Sign(digest).String()}}
	r := b.Post("/login/wallet", form)
	if again := s.Stranger().Post("/login/wallet", form); again.Code != 401 {
		t.Errorf("a signature that was used answers %d", again.Code)
	}
	return b, r
}
