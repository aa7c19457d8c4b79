package keys

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cosmos/go-bip39"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/torg-network/torg/square"
)

// Path is where an account's key lives under its mnemonic, as in every
// Ethereum wallet; the last number is the account's index.
const Path = "m/44'/60'/0'/0/"

// NewMnemonic makes twelve random words.
func NewMnemonic() (string, error) {
	entropy, err := bip39.NewEntropy(128)
	if err != nil {
		return "", fmt.Errorf("mnemonic: %w", err)
	}
	return bip39.NewMnemonic(entropy)
}

// ErrMnemonic says that words are not a BIP-39 mnemonic.
var ErrMnemonic = errors.New("not a BIP-39 mnemonic: a word is unknown, missing or misplaced")

// FromMnemonic derives the key of account index, without a passphrase.
func FromMnemonic(words string, index uint32) (square.Key, error) {
	words = strings.Join(strings.Fields(words), " ")
	seed, err := bip39.NewSeedWithErrorChecking(words, "")
	if err != nil {
		return square.Key{}, ErrMnemonic
	}
	const hard = 1 << 31
	if index >= hard {
		return square.Key{}, errors.New("account index is out of range")
	}
	return derive(seed, 44+hard, 60+hard, 0+hard, 0, index)
}

// derive walks a BIP-32 path from a seed.
func derive(seed []byte, path ...uint32) (square.Key, error) {
	key, chain := split([]byte("Bitcoin seed"), seed)
	for _, step := range path {
		var parent secp256k1.ModNScalar
		if parent.SetByteSlice(key) || parent.IsZero() {
			return square.Key{}, errors.New("this mnemonic has no key on this path")
		}
		data := make([]byte, 0, 37)
		if step>>31 == 1 {
			data = append(append(data, 0), key...)
		} else {
			data = append(data, secp256k1.NewPrivateKey(&parent).PubKey().SerializeCompressed()...)
		}
		data = binary.BigEndian.AppendUint32(data, step)
		var tweak []byte
		tweak, chain = split(chain, data)
		var t secp256k1.ModNScalar
		if t.SetByteSlice(tweak) {
			return square.Key{}, errors.New("this mnemonic has no key on this path")
		}
		child := t.Add(&parent).Bytes()
		key = child[:]
	}
	return square.KeyFromBytes(key)
}

// split is BIP-32's I: the key half and the chain code half.
func split(key, data []byte) (left, right []byte) {
	h := hmac.New(sha512.New, key)
	h.Write(data)
	sum := h.Sum(nil)
	return sum[:32], sum[32:]
}
