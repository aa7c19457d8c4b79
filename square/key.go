package square

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/torg-network/torg/square/secp256k1"
)

// Key is a secp256k1 private key. It never prints itself.
type Key struct{ k *private }

// private is a scalar and, once somebody asked, its point.
type private struct {
	scalar secp256k1.PrivateKey
	once   sync.Once
	point  *point
}

// NewKey makes a random key.
func NewKey() (Key, error) {
	for {
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			return Key{}, fmt.Errorf("generate key: %w", err)
		}
		if k, ok := secp256k1.ParsePrivateKey(&b); ok {
			return Key{&private{scalar: k}}, nil
		}
	}
}

// KeyFromBytes reads a 32-byte big-endian scalar in [1, order).
func KeyFromBytes(b []byte) (Key, error) {
	if len(b) == 32 {
		if k, ok := secp256k1.ParsePrivateKey((*[32]byte)(b)); ok {
			return Key{&private{scalar: k}}, nil
		}
	}
	return Key{}, errors.New("private key: want 32 bytes between 1 and the curve's order")
}

// Bytes returns the 32-byte scalar. Callers keep it secret.
func (k Key) Bytes() []byte {
	b := k.k.scalar.Bytes()
	return b[:]
}

// public computes the point once: it costs as much as a signature.
func (k Key) public() *point {
	k.k.once.Do(func() { k.k.point = pointOf(k.k.scalar.PublicKey()) })
	return k.k.point
}

// PubKey returns the 33-byte compressed public key.
func (k Key) PubKey() []byte { return bytes.Clone(k.public().key[:]) }

// Address returns the account the key controls.
func (k Key) Address() Address { return k.public().address }

// IsZero reports whether the key is unset.
func (k Key) IsZero() bool { return k.k == nil }

func (k Key) String() string   { return "Key(" + k.Address().String() + ")" }
func (k Key) GoString() string { return k.String() }

// PubKeyAddress returns the address of a 33-byte compressed public key.
func PubKeyAddress(pub []byte) (Address, error) {
	p, err := parsePoint(pub)
	if err != nil {
		return Address{}, err
	}
	return p.address, nil
}

// Signature is r ‖ s ‖ v with low s and v 27 or 28.
type Signature [65]byte

// ErrSignature says that a signature is malformed or by another key.
var ErrSignature = errors.New("signature does not verify")

// ParseSignature reads 65 bytes of hex with or without 0x.
func ParseSignature(s string) (Signature, error) {
	if len(s) > 2 && s[:2] == "0x" {
		s = s[2:]
	}
	var out Signature
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(out) {
		return out, fmt.Errorf("%w: want 65 bytes of hex", ErrSignature)
	}
	copy(out[:], b)
	return out, nil
}

func (s Signature) String() string { return "0x" + hex.EncodeToString(s[:]) }
func (s Signature) MarshalText() ([]byte, error) {
	return hex.AppendEncode([]byte("0x"), s[:]), nil
}

func (s *Signature) UnmarshalText(b []byte) error {
	v, err := ParseSignature(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// Sign signs a digest, deterministically (RFC 6979).
func (k Key) Sign(digest Hash) Signature {
	s := Signature(k.k.scalar.Sign((*[32]byte)(&digest)))
	s[64] += 27
	return s
}

// Recover returns who signed the digest. It accepts exactly one encoding per
// signature, but for v, which may be 0/1 or 27/28.
func Recover(digest Hash, s Signature) (Address, error) {
	p, err := signer(digest, s)
	if err != nil {
		return Address{}, err
	}
	return p.address, nil
}

// RecoverLikely is Recover, and takes less time where the guess is right and has
// signed before.
func RecoverLikely(digest Hash, s Signature, guess Address) (Address, error) {
	if p, ok := owners.get(guess); ok && p.verify(digest, s) {
		return guess, nil
	}
	return Recover(digest, s)
}

// VerifyPubKey checks r ‖ s, with s in the lower half of the order, over a
// digest under a 33-byte compressed public key.
func VerifyPubKey(pub []byte, digest Hash, sig [64]byte) error {
	p, err := parsePoint(pub)
	if err != nil {
		return err
	}
	return p.verifyAny(digest, sig)
}

// verify checks that who signed the digest.
func verify(who Address, digest Hash, s Signature) error {
	got, err := RecoverLikely(digest, s, who)
	if err != nil {
		return err
	}
	if got != who {
		return fmt.Errorf("%w: signed by %s, not %s", ErrSignature, got, who)
	}
	return nil
}
