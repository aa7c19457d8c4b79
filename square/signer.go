package square

import (
	"errors"
	"sync"

	"github.com/torg-network/torg/square/secp256k1"
)

// What is remembered about signatures saves work and decides nothing: each
// answer is that of a function of its arguments, which is the same whether it
// was remembered or not. Only successes are remembered. Finding the key from a
// signature costs more than twice what checking under a key that is known does, and a
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
	p := &point{pub: pub, key: pub.Compressed()}
	xy := pub.XY()
	h := Keccak(xy[:])
	copy(p.address[:], h[12:])
	return p
}

func parsePoint(pub []byte) (*point, error) {
	if len(pub) != 33 {
		return nil, errPublicKey
	}
	key := [33]byte(pub)
	if p, ok := points.get(key); ok {
		return p, nil
	}
	k, ok := secp256k1.ParsePublicKey(&key)
	if !ok {
		return nil, errPublicKey
	}
	p := known(pointOf(k))
	points.put(p.key, p)
	return p, nil
}

var errPublicKey = errors.New("public key: want 33 bytes, compressed, on secp256k1")

// known returns the point that is remembered by the same address, which may have had
// checks towards a table, and else remembers this one.
func known(p *point) *point {
	if q, ok := owners.get(p.address); ok && q.key == p.key {
		return q
	}
	owners.put(p.address, p)
	return p
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

// signer finds the key that made a signature.
func signer(digest Hash, s Signature) (*point, error) {
	at, ok := split(digest, s)
	if !ok {
		return nil, ErrSignature
	}
	if p, ok := signers.get(at); ok {
		return p, nil
	}
	pub, ok := secp256k1.Recover((*[32]byte)(&digest), &at.rs, at.v == 28)
	if !ok {
		return nil, ErrSignature
	}
	p := known(pointOf(pub))
	signers.put(at, p)
	return p, nil
}

// verify tells whether the point's key made a signature. It is true exactly
// when signer finds that key.
func (p *point) verify(digest Hash, sig Signature) bool {
	at, ok := split(digest, sig)
	if !ok {
		return false
	}
	if by, ok := signers.get(at); ok {
		return by.key == p.key
	}
	if !p.pub.VerifyRecoverable((*[32]byte)(&digest), &at.rs, at.v == 28) {
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
	if !p.pub.Verify((*[32]byte)(&digest), &rs) {
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
