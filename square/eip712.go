package square

import (
	"encoding/binary"

	"golang.org/x/crypto/sha3"
)

// Keccak is Ethereum's Keccak-256 of the concatenated parts.
func Keccak(parts ...[]byte) Hash {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		h.Write(p)
	}
	var out Hash
	h.Sum(out[:0])
	return out
}

// word is one 32-byte cell of an EIP-712 struct.
type word = [32]byte

func wordUint(n uint64) (w word) {
	binary.BigEndian.PutUint64(w[24:], n)
	return w
}

func wordAddress(a Address) (w word) {
	copy(w[12:], a[:])
	return w
}

func wordBool(b bool) (w word) {
	if b {
		w[31] = 1
	}
	return w
}

func wordString(s string) word { return word(Keccak([]byte(s))) }

func wordList(members []word) word {
	h := sha3.NewLegacyKeccak256()
	for i := range members {
		h.Write(members[i][:])
	}
	var out word
	h.Sum(out[:0])
	return out
}

// structHash is EIP-712's hashStruct. typeHash is keccak(encodeType).
func structHash(typeHash Hash, words ...word) Hash {
	h := sha3.NewLegacyKeccak256()
	h.Write(typeHash[:])
	for i := range words {
		h.Write(words[i][:])
	}
	var out Hash
	h.Sum(out[:0])
	return out
}

// Domain is an EIP-712 domain separator. Digests under different domains never
// collide, so a signature for one ledger is worthless on another.
type Domain Hash

// digest is what a key signs for the struct hash s.
func (d Domain) digest(s Hash) Hash { return Keccak([]byte{0x19, 0x01}, d[:], s[:]) }

const (
	typeDomainSalt    = "EIP712Domain(string name,string version,bytes32 salt)"
	typeDomainChannel = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)

// LedgerDomain is torg's own domain on the ledger with this chain id. Its salt
// is Keccak(chainID).
func LedgerDomain(chainID string) Domain {
	return Domain(structHash(Keccak([]byte(typeDomainSalt)),
		wordString("torg"), wordString("1"), word(Keccak([]byte(chainID)))))
}

// NetworkID is the number x402 clients know the ledger by (CAIP-2
// "eip155:<NetworkID>"): derived from the ledger's chain id, above every
// registered EVM chain and below 2^53, so that JavaScript reads it exactly.
func NetworkID(chainID string) uint64 {
	h := Keccak([]byte("torg network"), []byte(chainID))
	return 1<<52 | binary.BigEndian.Uint64(h[:8])>>12
}

// ChannelContract is the verifying contract x402 publishes for
// batch-settlement. On this ledger it is a constant of the signed domain, not
// a contract.
var ChannelContract = Address{0x40, 0x20, 0x07, 0x4e, 0x9d, 0xf2, 0xce, 0x1d, 0xee, 0x5a, 0x9c, 0x1b, 0x5c, 0x3f, 0x54, 0x1d, 0x02, 0xa1, 0x00, 0x03}

// ChannelDomain is x402's batch-settlement domain for the ledger with this
// chain id. Channel configs and vouchers are signed under it.
func ChannelDomain(chainID string) Domain {
	return Domain(structHash(Keccak([]byte(typeDomainChannel)),
		wordString("x402 Batch Settlement"), wordString("1"),
		wordUint(NetworkID(chainID)), wordAddress(ChannelContract)))
}
