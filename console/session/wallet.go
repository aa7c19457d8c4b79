package session

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/torg-network/torg/square"
)

// challenge is a message that a wallet was asked to sign.
type challenge struct {
	who     square.Address
	message string
	until   time.Time
}

const (
	maxChallenges = 256
	challengeLife = 5 * time.Minute
)

// Challenge is the message that shows that who looks has the key of an account:
// EIP-4361 ("Sign-In with Ethereum"), which wallets show in words. origin is
// the page's, scheme and all; the nonce names the challenge in Answer.
func (s *Store) Challenge(who square.Address, origin, host, chainID string) (nonce, message string) {
	nonce = Token()[:22]
	now := s.now().UTC().Truncate(time.Second)
	message = fmt.Sprintf(`%s wants you to sign in with your Ethereum account:
%s

Open the console of the market square %s as %s. This moves no money.

URI: %s
Version: 1
Chain ID: %d
Nonce: %s
Issued At: %s
Expiration Time: %s`, host, who.Checksummed(), chainID, who, origin, square.NetworkID(chainID), nonce,
		now.Format(time.RFC3339), now.Add(challengeLife).Format(time.RFC3339))
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, c := range s.asked {
		if now.After(c.until) || len(s.asked) >= maxChallenges {
			delete(s.asked, k)
		}
	}
	s.asked[nonce] = challenge{who, message, now.Add(challengeLife)}
	return nonce, message
}

// ErrChallenge says that a signature lets nobody in.
var ErrChallenge = errors.New("this does not sign the message we asked for, or came too late; ask again")

// Answer says whose signature answers the challenge: 65 bytes over the message
// as EIP-191 has it (personal_sign), or 64 over it as ADR-36 has it
// (signArbitrary), in hex or base64. A challenge is answered once.
func (s *Store) Answer(nonce, signature string) (square.Address, error) {
	s.mu.Lock()
	c, ok := s.asked[nonce]
	delete(s.asked, nonce)
	late := s.now().After(c.until)
	s.mu.Unlock()
	if !ok || late {
		return square.Address{}, ErrChallenge
	}
	if raw, err := base64.StdEncoding.DecodeString(signature); err == nil && len(raw) == 64 {
		return c.who, answered(c.who, adr36(c.who, c.message), raw)
	}
	sig, err := square.ParseSignature(signature)
	if err != nil {
		return square.Address{}, ErrChallenge
	}
	digest := square.Keccak([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(c.message))), []byte(c.message))
	if who, err := square.Recover(digest, sig); err != nil || who != c.who {
		return square.Address{}, ErrChallenge
	}
	return c.who, nil
}

// answered looks for the signer of a document under either hash that Keplr
// takes for an Ethereum key: Keccak-256, or SHA-256 in older versions.
func answered(who square.Address, doc, raw []byte) error {
	sig := square.Signature(append(append([]byte(nil), raw...), 0))
	for _, digest := range []square.Hash{square.Keccak(doc), sha256.Sum256(doc)} {
		for v := byte(27); v <= 28; v++ {
			sig[64] = v
			if got, err := square.Recover(digest, sig); err == nil && got == who {
				return nil
			}
		}
	}
	return ErrChallenge
}

// adr36 is the document a Cosmos wallet signs for a text: an empty transaction
// in sorted JSON.
func adr36(who square.Address, text string) []byte {
	type m = map[string]any // encoding/json sorts the members
	b, err := json.Marshal(m{
		"account_number": "0", "chain_id": "", "sequence": "0", "memo": "",
		"fee":  m{"amount": []any{}, "gas": "0"},
		"msgs": []any{m{"type": "sign/MsgSignData", "value": m{"data": base64.StdEncoding.EncodeToString([]byte(text)), "signer": who.String()}}},
	})
	if err != nil {
		panic(err) // strings only
	}
	return b
}
