package square

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
)

// Sealing hands bytes over in public so that only one reader can read them: a
// result whose buyer says that it was withheld is brought to the ledger so. It is
// HPKE (RFC 9180) in base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
// ChaCha20-Poly1305, with info = "torg seal/1" and the lease's id. The reader makes
// a key for each question, so that showing its private half, to let everyone see
// that something else was sealed, gives nothing else away.

// SealKeyLen is the length of both halves of a sealing key in bytes.
const SealKeyLen = 32

// ErrSeal says that sealed bytes do not open under a key.
var ErrSeal = errors.New("it does not open under this key")

func sealInfo(lease Hash) []byte { return append([]byte("torg seal/1"), lease[:]...) }

// NewSealKey makes a key that is used once.
func NewSealKey() (public, private []byte) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system's randomness does not fail
	}
	return k.PublicKey().Bytes(), k.Bytes()
}

// CheckSealKey refuses bytes to which nothing could be sealed: points of small
// order among them, under which everyone could read.
func CheckSealKey(public []byte) error {
	k, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	// X25519 gives an error exactly where the shared secret would be zero,
	// whatever the private half.
	one, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, SealKeyLen))
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	if _, err := one.ECDH(k); err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	return nil
}

// SealKeyPublic is the public half of a private one.
func SealKeyPublic(private []byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return k.PublicKey().Bytes(), nil
}

// Seal seals bytes of a lease to a public key.
func Seal(public []byte, lease Hash, plain []byte) ([]byte, error) {
	if err := CheckSealKey(public); err != nil {
		return nil, err
	}
	k, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	to, err := hpke.NewDHKEMPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(lease), plain)
}

// Unseal opens what Seal has sealed. Anything that does not open is ErrSeal,
// wrapped.
func Unseal(private []byte, lease Hash, sealed []byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	own, err := hpke.NewDHKEMPrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	plain, err := hpke.Open(own, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(lease), sealed)
	if err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}
