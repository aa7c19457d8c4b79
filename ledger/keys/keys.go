// Package keys is the ledger's account key, secp256k1 as Ethereum uses it, and
// its derivation from a mnemonic.
//
// A [PubKey] travels under the type URL
// /cosmos.evm.crypto.v1.ethsecp256k1.PubKey, which is what CosmJS and Keplr
// send. Its address is the last 20 bytes of the Keccak-256 of the uncompressed
// point; a signature is r ‖ s over the Keccak-256 of the sign bytes, with s in
// the lower half of the order. The recovery id that some wallets append is
// accepted and ignored.
package keys

import (
	"bytes"
	"encoding/hex"

	"github.com/cosmos/cosmos-sdk/codec/types"
	cryptotypes "github.com/cosmos/cosmos-sdk/crypto/types"

	"github.com/torg-network/torg/square"
)

// Type is the key's algorithm name.
const Type = "eth_secp256k1"

// VerifyGas is what the ledger charges for one signature check.
const VerifyGas = 21_000

var _ cryptotypes.PubKey = (*PubKey)(nil)

// PubKeyOf is the public half of k in the ledger's form.
func PubKeyOf(k square.Key) *PubKey { return &PubKey{Key: k.PubKey()} }

// Register makes the key type known wherever a public key is packed.
func Register(r types.InterfaceRegistry) {
	r.RegisterImplementations((*cryptotypes.PubKey)(nil), &PubKey{})
}

// Address is the Ethereum address of the key; empty when the bytes are no key.
func (m *PubKey) Address() cryptotypes.Address {
	a, err := square.PubKeyAddress(m.Key)
	if err != nil {
		return nil
	}
	return a[:]
}

func (m *PubKey) Bytes() []byte  { return m.Key }
func (m *PubKey) Type() string   { return Type }
func (m *PubKey) String() string { return "EthSecp256k1{" + hex.EncodeToString(m.Key) + "}" }

// Equals reports whether o is the same key of the same type.
func (m *PubKey) Equals(o cryptotypes.PubKey) bool {
	return o != nil && o.Type() == Type && bytes.Equal(m.Key, o.Bytes())
}

// VerifySignature checks r ‖ s over the Keccak-256 of msg.
func (m *PubKey) VerifySignature(msg, sig []byte) bool {
	if len(sig) != 64 && len(sig) != 65 {
		return false
	}
	return square.VerifyPubKey(m.Key, square.Keccak(msg), [64]byte(sig[:64])) == nil
}

// Sign signs msg as VerifySignature reads it.
func Sign(k square.Key, msg []byte) []byte {
	s := k.Sign(square.Keccak(msg))
	return s[:64]
}
