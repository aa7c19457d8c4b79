package square

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Prefix is the human-readable part of a torg address in bech32.
const Prefix = "torg"

// Address names an account: the Ethereum address of its secp256k1 key.
type Address [20]byte

// ErrAddress is wrapped by every failure to read an address.
var ErrAddress = errors.New("not a torg address")

// ParseAddress reads the bech32 form ("torg1…") or the 0x hex form. Hex digits
// in both cases are a checksum (EIP-55), which must hold.
func ParseAddress(s string) (Address, error) {
	var a Address
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
		b, err := hex.DecodeString(s[2:])
		if err != nil || len(b) != len(a) {
			return a, fmt.Errorf("%w: %q is not 20 bytes of hex", ErrAddress, Clip(s, 80))
		}
		copy(a[:], b)
		digits := s[2:]
		if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && digits != a.Checksummed()[2:] {
			return Address{}, fmt.Errorf("%w: %q: its capitals are a checksum (EIP-55) that does not hold: a digit is wrong, or write it all in lower case", ErrAddress, Clip(s, 80))
		}
		return a, nil
	}
	hrp, b, err := decodeBech32(s)
	if err != nil {
		return a, fmt.Errorf("%w: %q: %w", ErrAddress, Clip(s, 80), err)
	}
	if hrp != Prefix || len(b) != len(a) {
		return a, fmt.Errorf("%w: %q: want prefix %q and 20 bytes", ErrAddress, Clip(s, 80), Prefix)
	}
	copy(a[:], b)
	return a, nil
}

// String returns the bech32 form.
func (a Address) String() string { return encodeBech32(Prefix, a[:]) }

// Hex returns the lower-case 0x form that Ethereum tools use.
func (a Address) Hex() string { return "0x" + hex.EncodeToString(a[:]) }

// Checksummed returns the 0x form whose capitals are a checksum (EIP-55).
func (a Address) Checksummed() string {
	s := []byte(a.Hex())
	h := Keccak(s[2:])
	for i, c := range s[2:] {
		if c >= 'a' && h[i/2]>>(4*(1-i%2))&15 >= 8 {
			s[2+i] = c - 'a' + 'A'
		}
	}
	return string(s)
}

// IsZero reports whether a is the zero address, which no key has.
func (a Address) IsZero() bool { return a == Address{} }

// MarshalText writes the bech32 form; the zero address is the empty string.
func (a Address) MarshalText() ([]byte, error) {
	if a.IsZero() {
		return nil, nil
	}
	return []byte(a.String()), nil
}

// UnmarshalText reads either form; the empty string is the zero address.
func (a *Address) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	v, err := ParseAddress(string(b))
	if err == nil {
		*a = v
	}
	return err
}

// Hash is a 32-byte digest. Ids on the square are hashes, never counters.
type Hash [32]byte

// ParseHash reads 64 hex digits, with or without 0x.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is not 32 bytes of hex", Clip(s, 80))
	}
	copy(h[:], b)
	return h, nil
}

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short is the first 12 hex digits, for people and logs.
func (h Hash) Short() string { return hex.EncodeToString(h[:6]) }

// IsZero reports whether h is all zeros.
func (h Hash) IsZero() bool { return h == Hash{} }

func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

func (h *Hash) UnmarshalText(b []byte) error {
	v, err := ParseHash(string(b))
	if err == nil {
		*h = v
	}
	return err
}
