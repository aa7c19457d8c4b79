package secp256k1

import (
	"sync"
	"sync/atomic"
)

// PublicKey is a point of the curve that is not the one at infinity. The first checks
// under a key also count towards a table that makes later ones cheaper; see [TableBytes].
type PublicKey struct {
	point affine
	seen  atomic.Uint32 // checks without a table
	used  atomic.Bool   // since the table was last passed over for deletion
	table atomic.Pointer[table]
}

// ParsePublicKey reads SEC 1's compressed form: 2 or 3 for an even or odd y, and x.
func ParsePublicKey(b *[33]byte) (*PublicKey, bool) {
	x, ok := fieldOf((*[32]byte)(b[1:]))
	if !ok || b[0]&^1 != 2 {
		return nil, false
	}
	p, ok := pointAt(&x, b[0] == 3)
	return &PublicKey{point: p}, ok
}

// Compressed is SEC 1's compressed form.
func (p *PublicKey) Compressed() (b [33]byte) {
	b[0] = 2 + byte(p.point.y[0]&1)
	x := p.point.x.bytes()
	copy(b[1:], x[:])
	return b
}

// XY is x ‖ y, 32 big-endian bytes each.
func (p *PublicKey) XY() (b [64]byte) {
	x, y := p.point.x.bytes(), p.point.y.bytes()
	copy(b[:], x[:])
	copy(b[32:], y[:])
	return b
}

const (
	tableWidth = 5
	maxTables  = 512
	// tableAfter checks a key gets its table: it costs as much as they would have saved.
	tableAfter = 8
)

// TableBytes bounds what all tables of public keys together take. Beside the tables of
// the base point there is nothing else that is kept.
const TableBytes = maxTables * ((splitBits + tableWidth - 1) / tableWidth) << (tableWidth - 1) * 64

// tables are the keys that have one. A new one takes the place of the first, from a hand
// that goes round, whose key was not used since the hand came by.
var tables struct {
	sync.Mutex
	keys []*PublicKey
	hand int
}

// known returns the key's table, nil if it has not earned one.
func (p *PublicKey) known() *table {
	if t := p.table.Load(); t != nil {
		if !p.used.Load() {
			p.used.Store(true)
		}
		return t
	}
	if p.seen.Add(1) != tableAfter {
		return nil
	}
	t := newTable(&p.point, tableWidth)
	tables.Lock()
	defer tables.Unlock()
	p.table.Store(t)
	p.used.Store(false) // it has yet to show that it is worth its place
	if len(tables.keys) < maxTables {
		tables.keys = append(tables.keys, p)
		return t
	}
	for tables.keys[tables.hand].used.Swap(false) {
		tables.hand = (tables.hand + 1) % maxTables
	}
	old := tables.keys[tables.hand]
	old.table.Store(nil)
	old.seen.Store(0)
	tables.keys[tables.hand] = p
	tables.hand = (tables.hand + 1) % maxTables
	return t
}

// PrivateKey is a number between 0 and the order.
type PrivateKey struct{ d scalar }

// ParsePrivateKey reads 32 big-endian bytes; false unless they are in [1, order).
func ParsePrivateKey(b *[32]byte) (PrivateKey, bool) {
	d, ok := scalarOf(b)
	return PrivateKey{d}, ok && !d.isZero()
}

// Bytes is the number, big-endian.
func (k PrivateKey) Bytes() [32]byte { return k.d.bytes() }

// PublicKey costs about as much as a signature.
func (k PrivateKey) PublicKey() *PublicKey {
	p := multiplyBase(&k.d)
	blind := hmac(k.d.bytes(), []byte("blind"))
	q, _ := p.blindAffine(&blind) // the order is prime: k times the base point is not at infinity
	return &PublicKey{point: q}
}
