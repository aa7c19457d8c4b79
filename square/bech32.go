package square

import (
	"errors"
	"strings"
)

// Bech32 as BIP-173 defines it, for addresses only (at most 90 characters).

const bech32Alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

var errBech32 = errors.New("invalid bech32")

func polymod(values []byte) uint32 {
	gen := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	chk := uint32(1)
	for _, v := range values {
		top := chk >> 25
		chk = (chk&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range gen {
			if top>>i&1 == 1 {
				chk ^= g
			}
		}
	}
	return chk
}

func expandPrefix(hrp string) []byte {
	out := make([]byte, 0, 2*len(hrp)+1+64)
	for i := range len(hrp) {
		out = append(out, hrp[i]>>5)
	}
	out = append(out, 0)
	for i := range len(hrp) {
		out = append(out, hrp[i]&31)
	}
	return out
}

// regroup turns groups of from bits into groups of to bits.
func regroup(in []byte, from, to uint, pad bool) ([]byte, bool) {
	var acc, n uint
	out := make([]byte, 0, len(in)*int(from)/int(to)+1)
	for _, b := range in {
		acc = acc<<from | uint(b)
		n += from
		for n >= to {
			n -= to
			out = append(out, byte(acc>>n&(1<<to-1)))
		}
		acc &= 1<<n - 1
	}
	if pad && n > 0 {
		out = append(out, byte(acc<<(to-n)&(1<<to-1)))
	}
	return out, pad || (n < from && acc == 0)
}

func encodeBech32(hrp string, data []byte) string {
	groups, _ := regroup(data, 8, 5, true)
	sum := polymod(append(append(expandPrefix(hrp), groups...), 0, 0, 0, 0, 0, 0)) ^ 1
	var s strings.Builder
	s.WriteString(hrp)
	s.WriteByte('1')
	for _, g := range groups {
		s.WriteByte(bech32Alphabet[g])
	}
	for i := range 6 {
		s.WriteByte(bech32Alphabet[sum>>(5*(5-i))&31])
	}
	return s.String()
}

func decodeBech32(s string) (hrp string, data []byte, err error) {
	if len(s) > 90 || (strings.ToLower(s) != s && strings.ToUpper(s) != s) {
		return "", nil, errBech32
	}
	s = strings.ToLower(s)
	sep := strings.LastIndexByte(s, '1')
	if sep < 1 || sep+7 > len(s) {
		return "", nil, errBech32
	}
	hrp = s[:sep]
	groups := make([]byte, 0, len(s)-sep)
	for _, c := range []byte(s[sep+1:]) {
		v := strings.IndexByte(bech32Alphabet, c)
		if v < 0 {
			return "", nil, errBech32
		}
		groups = append(groups, byte(v))
	}
	if polymod(append(expandPrefix(hrp), groups...)) != 1 {
		return "", nil, errors.New("bech32 checksum does not match: a character is wrong or missing")
	}
	data, ok := regroup(groups[:len(groups)-6], 5, 8, false)
	if !ok {
		return "", nil, errBech32
	}
	return hrp, data, nil
}
