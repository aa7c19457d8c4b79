package square

import (
	"errors"
	"fmt"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// What is remembered about signatures saves work and decides nothing: each
// answer is that of a function of its arguments, which is the same whether it
// was remembered or not. Only successes are remembered. Finding the key from a
// signature costs a quarter more than checking under a key that is known, and a
// ledger meets most signatures twice: when a transaction arrives and in its
// block.
var (
	points  = newMemo[[33]byte, *point](1 << 12) // by compressed key
	owners  = newMemo[Address, *point](1 << 12)  // by address
	signers = newMemo[signed, *point](1 << 14)   // by signature
)

// point is a public key.
type point struct {
	pub     *secp256k1.PublicKey
	key     [33]byte // compressed
	address Address
}

func pointOf(pub *secp256k1.PublicKey) *point {
	p := &point{pub: pub, key: [33]byte(pub.SerializeCompressed())}
	h := Keccak(pub.SerializeUncompressed()[1:])
	copy(p.address[:], h[12:])
	return p
}

func parsePoint(pub []byte) (*point, error) {
	if len(pub) == 33 {
		if p, ok := points.get([33]byte(pub)); ok {
			return p, nil
		}
	}
	k, err := secp256k1.ParsePubKey(pub)
	if err != nil || len(pub) != 33 {
		return nil, errors.New("public key: want 33 bytes, compressed, on secp256k1")
	}
	p := pointOf(k)
	points.put(p.key, p)
	owners.put(p.address, p)
	return p, nil
}

// signed is a signature over a digest; v is 0 where none was given.
type signed struct {
	digest Hash
	rs     [64]byte
	v      byte
}

// split reads a signature; false if no key can have made it.
func split(digest Hash, s Signature) (signed, bool) {
	at := signed{digest, [64]byte(s[:64]), s[64]}
	if at.v < 2 {
		at.v += 27
	}
	return at, at.v == 27 || at.v == 28
}

// scalars are r and s; false unless each is in its one encoding.
func (at signed) scalars() (r, s secp256k1.ModNScalar, ok bool) {
	ok = !r.SetByteSlice(at.rs[:32]) && !s.SetByteSlice(at.rs[32:]) && !r.IsZero() && !s.IsZero() && !s.IsOverHalfOrder()
	return r, s, ok
}

// signer finds the key that made a signature.
func signer(digest Hash, s Signature) (*point, error) {
	at, ok := split(digest, s)
	if !ok {
		return nil, ErrSignature
	}
	if p, ok := signers.get(at); ok {
		return p, nil
	}
	if _, _, ok := at.scalars(); !ok {
		return nil, ErrSignature
	}
	var c [65]byte
	c[0] = at.v
	copy(c[1:], at.rs[:])
	pub, _, err := ecdsa.RecoverCompact(c[:], digest[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	p := pointOf(pub)
	owners.put(p.address, p)
	signers.put(at, p)
	return p, nil
}

// verify tells whether the point's key made a signature. It is true exactly
// when signer finds that key: the nonce's point must have the signature's r as
// its x and be odd or even as v says.
func (p *point) verify(digest Hash, sig Signature) bool {
	at, ok := split(digest, sig)
	if !ok {
		return false
	}
	if by, ok := signers.get(at); ok {
		return by.key == p.key
	}
	r, s, ok := at.scalars()
	if !ok {
		return false
	}
	// R = (e G + r P) / s
	var e secp256k1.ModNScalar
	e.SetBytes((*[32]byte)(&digest))
	w := new(secp256k1.ModNScalar).InverseValNonConst(&s)
	u, v := new(secp256k1.ModNScalar).Mul2(&e, w), new(secp256k1.ModNScalar).Mul2(&r, w)
	var base, own, nonce secp256k1.JacobianPoint
	p.pub.AsJacobian(&own)
	secp256k1.ScalarBaseMultNonConst(u, &base)
	secp256k1.ScalarMultNonConst(v, &own, &own)
	secp256k1.AddNonConst(&base, &own, &nonce)
	if nonce.X.IsZero() && nonce.Y.IsZero() || nonce.Z.IsZero() {
		return false
	}
	nonce.ToAffine()
	if *nonce.X.Bytes() != [32]byte(at.rs[:32]) || nonce.Y.IsOdd() != (at.v == 28) {
		return false
	}
	signers.put(at, p)
	return true
}

// verifyAny checks a signature that comes without its v.
func (p *point) verifyAny(digest Hash, rs [64]byte) error {
	at := signed{digest: digest, rs: rs}
	if by, ok := signers.get(at); ok && by.key == p.key {
		return nil
	}
	r, s, ok := at.scalars()
	if !ok || !ecdsa.NewSignature(&r, &s).Verify(digest[:], p.pub) {
		return ErrSignature
	}
	signers.put(at, p)
	return nil
}

// memo remembers the newest n to 2n answers.
type memo[K comparable, V any] struct {
	mu         sync.Mutex
	n          int
	young, old map[K]V
}

func newMemo[K comparable, V any](n int) *memo[K, V] {
	return &memo[K, V]{n: n, young: map[K]V{}}
}

func (m *memo[K, V]) get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.young[k]
	if !ok {
		if v, ok = m.old[k]; ok {
			m.put1(k, v)
		}
	}
	return v, ok
}

func (m *memo[K, V]) put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put1(k, v)
}

func (m *memo[K, V]) put1(k K, v V) {
	if len(m.young) >= m.n {
		m.old, m.young = m.young, make(map[K]V, m.n)
	}
	m.young[k] = v
}
