// Package transcript makes interactive proofs non-interactive (Fiat and Shamir
// 1986): a hash of everything said so far stands in for the verifier's coins.
//
// The hash is BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020) used as
// a chain. Every item is absorbed as
//
//	length of label u8, label, length of data u32, data
//
// and a challenge hashes domain, chain and the items since into 64 bytes: the
// first half is the new chain, the second the challenge. So no two sequences
// of items give the same input, and a challenge depends on all before it.
//
// What the prover sends is absorbed by the same call that writes it to the
// proof, and what the verifier reads by the call that reads it: neither can
// forget to. Hints are the exception: they are not absorbed and must be bound
// by something that is (openings of a Merkle tree, by its root).
package transcript

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/merkle"
)

// sponge is what the next challenge hashes: domain, chain, and what was absorbed
// since.
type sponge struct {
	pending []byte
	item    func(label string, data []byte) bool // see Watch
	drawn   func(label string, b [32]byte)
}

func newSponge(domain string) (s sponge) {
	s.begin(blake3.Sum256([]byte("torg transcript 1 " + domain)))
	return s
}

func (s *sponge) begin(chain [32]byte) {
	s.pending = append(append(s.pending[:0], "torgdraw"...), chain[:]...)
}

// Absorb adds data that both sides know.
func (s *sponge) Absorb(label string, data []byte) {
	if len(label) > 255 || uint64(len(data)) > 1<<32-1 {
		panic("transcript: item is too long")
	}
	if s.item != nil && !s.item(label, data) {
		return
	}
	s.pending = append(s.pending, byte(len(label)))
	s.pending = append(s.pending, label...)
	s.pending = binary.LittleEndian.AppendUint32(s.pending, uint32(len(data)))
	s.pending = append(s.pending, data...)
}

// draw returns 32 random bytes.
func (s *sponge) draw(label string) [32]byte {
	s.Absorb(label, nil)
	h := blake3.Sum512(s.pending)
	s.begin([32]byte(h[:32]))
	if s.drawn != nil {
		s.drawn(label, [32]byte(h[32:]))
	}
	return [32]byte(h[32:])
}

// Watch is for tests that show what would happen if something were not
// absorbed: item is called for every item, a challenge's label included, and
// what it returns false for is left out. drawn is called for every challenge.
func (s *sponge) Watch(item func(label string, data []byte) bool, drawn func(label string, b [32]byte)) {
	s.item, s.drawn = item, drawn
}

// Challenge returns a random element of the extension. Each coordinate is a
// 64-bit number mod p: any set of elements is hit with at most
// (1+2^-32)^4 times its uniform probability.
func (s *sponge) Challenge(label string) koala.Ext {
	h := s.draw(label)
	w := func(i int) koala.Elem {
		return koala.FromInt(int64(binary.LittleEndian.Uint64(h[8*i:]) % koala.P))
	}
	return koala.Ext{A: w(0), B: w(1), C: w(2), D: w(3)}
}

// Challenges returns n random elements.
func (s *sponge) Challenges(label string, n int) []koala.Ext {
	out := make([]koala.Ext, n)
	for i := range out {
		out[i] = s.Challenge(label)
	}
	return out
}

// Indices returns n random numbers below 2^k, k <= 32, in the order drawn and
// with repetitions.
func (s *sponge) Indices(label string, n, k int) []int {
	seed := s.draw(label)
	var b [40]byte
	copy(b[:], seed[:])
	out := make([]int, 0, n)
	for i := uint64(0); len(out) < n; i++ {
		binary.LittleEndian.PutUint64(b[32:], i)
		h := blake3.Sum256(b[:])
		for j := 0; j < 8 && len(out) < n; j++ {
			out = append(out, int(binary.LittleEndian.Uint32(h[4*j:])>>(32-k)))
		}
	}
	return out
}

// works reports whether the nonce is a proof of work of n bits on the chain.
func works(seed [32]byte, nonce uint64, n int) bool {
	var b [40]byte
	copy(b[:], seed[:])
	binary.LittleEndian.PutUint64(b[32:], nonce)
	return leadingZeros(blake3.Sum256(b[:])) >= n
}

// Prover writes a proof.
type Prover struct {
	sponge
	proof []byte
}

// NewProver starts a proof for the given domain.
func NewProver(domain string) *Prover { return &Prover{sponge: newSponge(domain)} }

// Proof is everything written so far.
func (p *Prover) Proof() []byte { return p.proof }

// Bytes sends bytes whose number the verifier knows.
func (p *Prover) Bytes(label string, b []byte) {
	p.Absorb(label, b)
	p.proof = append(p.proof, b...)
}

// Exts sends extension elements whose number the verifier knows.
func (p *Prover) Exts(label string, x ...koala.Ext) {
	from := len(p.proof)
	for _, e := range x {
		p.proof = e.Append(p.proof)
	}
	p.Absorb(label, p.proof[from:])
}

// Hint sends bytes that are not absorbed.
func (p *Prover) Hint(b []byte) { p.proof = append(p.proof, b...) }

// Grind does n bits of work, 0 <= n <= 32, so that whoever wants to try
// another continuation must do it again: the smallest nonce is sent.
func (p *Prover) Grind(label string, n int) {
	if n == 0 {
		return
	}
	seed := p.draw(label)
	p.Bytes(label, binary.LittleEndian.AppendUint64(nil, merkle.Search(seed, n)))
}

func leadingZeros(h [32]byte) int { return bits.LeadingZeros64(binary.BigEndian.Uint64(h[:])) }

// Verifier reads a proof. After the first error everything it reads is zero
// and the error stays; callers may check once, before they believe anything.
type Verifier struct {
	sponge
	proof []byte
	err   error
}

// NewVerifier starts to read a proof of the given domain.
func NewVerifier(domain string, proof []byte) *Verifier {
	return &Verifier{sponge: newSponge(domain), proof: proof}
}

// ErrShort is returned for proofs that end early.
var ErrShort = errors.New("transcript: proof ends early")

// Err is the first error met.
func (v *Verifier) Err() error { return v.err }

// Fail records an error, unless there is one.
func (v *Verifier) Fail(err error) {
	if v.err == nil {
		v.err = err
	}
}

// Done returns an error if there was one or if bytes are left.
func (v *Verifier) Done() error {
	if v.err == nil && len(v.proof) > 0 {
		return fmt.Errorf("transcript: %d bytes after the end", len(v.proof))
	}
	return v.err
}

// Hint reads n bytes that are not absorbed. The result shares memory with the
// proof. It is nil after an error.
func (v *Verifier) Hint(n int) []byte {
	if v.err == nil && (n < 0 || n > len(v.proof)) {
		v.err = ErrShort
	}
	if v.err != nil {
		return nil
	}
	b := v.proof[:n:n]
	v.proof = v.proof[n:]
	return b
}

// Bytes reads n bytes; nil after an error.
func (v *Verifier) Bytes(label string, n int) []byte {
	b := v.Hint(n)
	v.Absorb(label, b)
	return b
}

// Exts reads n extension elements.
func (v *Verifier) Exts(label string, n int) []koala.Ext {
	b := v.Bytes(label, n*koala.ExtSize)
	out := make([]koala.Ext, n)
	if b == nil {
		return out
	}
	for i := range out {
		if out[i] = v.DecodeExt(b[i*koala.ExtSize:]); v.err != nil {
			clear(out)
			break
		}
	}
	return out
}

// Ext reads one extension element.
func (v *Verifier) Ext(label string) koala.Ext { return v.Exts(label, 1)[0] }

// DecodeElem decodes the element that b begins with.
func (v *Verifier) DecodeElem(b []byte) koala.Elem {
	x, err := koala.DecodeElem(b)
	if err != nil {
		v.Fail(err)
	}
	return x
}

// DecodeExt decodes the extension element that b begins with.
func (v *Verifier) DecodeExt(b []byte) koala.Ext {
	x, err := koala.DecodeExt(b)
	if err != nil {
		v.Fail(err)
	}
	return x
}

// Grind reads and checks n bits of work.
func (v *Verifier) Grind(label string, n int) {
	if n == 0 {
		return
	}
	seed := v.draw(label)
	b := v.Bytes(label, 8)
	if b != nil && !works(seed, binary.LittleEndian.Uint64(b), n) {
		v.Fail(errors.New("transcript: proof of work is missing"))
	}
}
