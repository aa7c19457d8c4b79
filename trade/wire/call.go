package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/torg-network/torg/square"
)

// CallScheme is the Authorization header's scheme on this wire. After it come
// lease, lane, time, body and signature of a [Call], with spaces between.
const CallScheme = "Torg"

// CallWindow is how far a call's time may be from the ledger's, in seconds.
const CallWindow = 60

// TypeCall is what whoever posts on this wire signs, under the ledger's domain.
const TypeCall = "Call(address provider,string path,bytes32 lease,uint256 lane,uint256 time,bytes32 body)"

// Call says who asks what of whom: it is signed by the authorizer of the lease,
// or, for a quote, by the order's buyer. It stands in the Authorization header,
// so that a provider knows who asks before it reads the body, and knows the
// body by its digest. A call is good for one provider, path, lease, lane and
// body, and for CallWindow seconds; within them the same call asks the same
// again, which every path answers alike.
type Call struct {
	Provider square.Address // who is asked
	Path     string         // below PathPrefix: "quote", "infer/serve"
	Lease    square.Hash    // quote: the order's digest
	Lane     uint16         // quote, close: 0
	Time     int64          // the ledger's, unix seconds
	Body     square.Hash    // SHA-256 of the request's body
}

// Digest is what is signed.
func (c Call) Digest(d square.Domain) square.Hash {
	var provider, lane, time [32]byte
	copy(provider[12:], c.Provider[:])
	binary.BigEndian.PutUint16(lane[30:], c.Lane)
	binary.BigEndian.PutUint64(time[24:], uint64(c.Time))
	kind, path := square.Keccak([]byte(TypeCall)), square.Keccak([]byte(c.Path))
	s := square.Keccak(kind[:], provider[:], path[:], c.Lease[:], lane[:], time[:], c.Body[:])
	return square.Keccak([]byte{0x19, 0x01}, d[:], s[:])
}

// Header signs the call and writes the Authorization header.
func (c Call) Header(d square.Domain, k square.Key) string {
	return fmt.Sprintf("%s %x %d %d %x %s", CallScheme, c.Lease[:], c.Lane, c.Time, c.Body[:], k.Sign(c.Digest(d)))
}

// ParseCall reads the Authorization header of a request to a provider's path,
// and returns the call and who signed it. likely, where it is not nil, guesses who may
// ask about a lease, so that the signature takes less to check.
func ParseCall(d square.Domain, provider square.Address, path, header string, likely func(lease square.Hash) square.Address) (Call, square.Address, error) {
	c := Call{Provider: provider, Path: path}
	f := strings.Split(header, " ")
	if len(header) > 512 || len(f) != 6 || f[0] != CallScheme {
		return c, square.Address{}, fmt.Errorf("authorization: want %q and lease, lane, time, body, signature", CallScheme)
	}
	lane, err := strconv.ParseUint(f[2], 10, 16)
	if err != nil {
		return c, square.Address{}, fmt.Errorf("authorization: lane: want a number below 65536")
	}
	c.Lane = uint16(lane)
	if c.Time, err = strconv.ParseInt(f[3], 10, 64); err != nil || c.Time < 0 {
		return c, square.Address{}, fmt.Errorf("authorization: time: want unix seconds")
	}
	for _, h := range []struct {
		name, text string
		to         *square.Hash
	}{{"lease", f[1], &c.Lease}, {"body", f[4], &c.Body}} {
		b, err := hex.DecodeString(h.text)
		if err != nil || copy(h.to[:], b) != len(b) || len(b) != len(h.to) {
			return c, square.Address{}, fmt.Errorf("authorization: %s: want 32 bytes in hex", h.name)
		}
	}
	sig, err := square.ParseSignature(f[5])
	if err != nil {
		return c, square.Address{}, fmt.Errorf("authorization: %w", err)
	}
	var guess square.Address
	if likely != nil {
		guess = likely(c.Lease)
	}
	who, err := square.RecoverLikely(c.Digest(d), sig, guess)
	if err != nil {
		return c, square.Address{}, fmt.Errorf("authorization: %w", err)
	}
	return c, who, nil
}
