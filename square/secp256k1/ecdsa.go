package secp256k1

import "crypto/sha256"

// signature is r and s.
type signature struct{ r, s scalar }

// signatureOf reads r ‖ s; false unless r is in [1, order) and s in [1, order/2].
func signatureOf(b *[64]byte) (g signature, ok bool) {
	r, okR := scalarOf((*[32]byte)(b[:32]))
	s, okS := scalarOf((*[32]byte)(b[32:]))
	return signature{r, s}, okR && okS && !r.isZero() && !s.isZero() && s.isHigh() == 0
}

// Verify tells whether r ‖ s signs the digest under the key.
func (p *PublicKey) Verify(digest *[32]byte, rs *[64]byte) bool {
	g, ok := signatureOf(rs)
	if !ok {
		return false
	}
	nonce := p.nonce(digest, &g)
	if nonce.isInfinity() {
		return false
	}
	x := field(g.r)
	if nonce.hasX(&x) {
		return true
	}
	// r is the point's x modulo the order, which may have been taken away from it once.
	var c uint64
	x, c = x.plusOrder()
	return c == 0 && nonce.hasX(&x)
}

// VerifyRecoverable tells whether Recover finds the key.
func (p *PublicKey) VerifyRecoverable(digest *[32]byte, rs *[64]byte, odd bool) bool {
	g, ok := signatureOf(rs)
	if !ok {
		return false
	}
	nonce := p.nonce(digest, &g)
	if x := field(g.r); nonce.isInfinity() || !nonce.hasX(&x) {
		return false
	}
	q, _ := nonce.affine()
	return q.y.isOdd() == odd
}

// nonce is the point whose x a true signature has as its r: (e G + r P) / s.
func (p *PublicKey) nonce(digest *[32]byte, g *signature) jacobian {
	e, _ := scalarOf(digest)
	var w, u, v scalar
	w.inverse(&g.s)
	u.mul(&e, &w)
	v.mul(&g.r, &w)
	var s sum
	if t := p.known(); t != nil {
		s.add(t, &v)
	} else {
		s.addOnce(&p.point, &v)
	}
	s.add(wideBase(), &u)
	return s.point()
}

// hasX tells whether the point, which is not at infinity, has this x.
func (p *jacobian) hasX(x *field) bool {
	var t field
	t.square(&p.z)
	t.mul(&t, x)
	return t.equal(&p.x)
}

// Recover finds the key under which r ‖ s signs the digest with a nonce whose point has
// r itself as its x and an odd or even y.
func Recover(digest *[32]byte, rs *[64]byte, odd bool) (*PublicKey, bool) {
	g, ok := signatureOf(rs)
	if !ok {
		return nil, false
	}
	x := field(g.r)
	nonce, ok := pointAt(&x, odd)
	if !ok {
		return nil, false
	}
	// P = (s R - e G) / r
	e, _ := scalarOf(digest)
	var w, u, v scalar
	w.inverse(&g.r)
	u.mul(&e, &w)
	u.negate(^uint64(0))
	v.mul(&g.s, &w)
	var s sum
	s.addOnce(&nonce, &v)
	s.add(wideBase(), &u)
	p := s.point()
	q, ok := p.affine()
	return &PublicKey{point: q}, ok
}

// Sign signs a digest: r ‖ s ‖ id, where s is at most order/2, and id is 1 if the nonce's
// point has an odd y, and 2 more if its x is not below the order.
//
// The nonce is RFC 6979's but that a digest is not reduced modulo the order first, which
// nearly none is above. The time that it takes tells nothing about the key or the nonce:
// what takes a time that depends on its argument, the two inversions, is given the nonce
// and its point's z times numbers that only the key's owner can know.
func (k PrivateKey) Sign(digest *[32]byte) (out [65]byte) {
	e, _ := scalarOf(digest)
	nonces := newNonces(k.d.bytes(), digest)
	for {
		n := nonces.next()
		p := multiplyBase(&n)
		b1, b2 := nonces.blinds()
		q, ok := p.blindAffine(&b1)
		if !ok {
			continue
		}
		r := scalar(q.x)
		over := r.reduce(0)
		s, w := k.d, scalar{}
		s.mul(&s, &r)
		s.add(&s, &e)
		b, _ := scalarOf(&b2)
		n.mul(&n, &b)
		w.inverse(&n)
		w.mul(&w, &b)
		s.mul(&s, &w)
		if r.isZero() || s.isZero() {
			continue
		}
		high := s.isHigh()
		s.negate(-high)
		rb, sb := r.bytes(), s.bytes()
		copy(out[:], rb[:])
		copy(out[32:], sb[:])
		out[64] = byte(q.y[0]&1 ^ high | over<<1)
		return out
	}
}

// blindAffine is affine in a time that tells nothing of p to those who do not know blind.
func (p *jacobian) blindAffine(blind *[32]byte) (q affine, ok bool) {
	b := field(limbsOf(blind))
	var i field
	i.mul(&p.z, &b)
	if i.isZero() {
		return q, false
	}
	i.inverse(&i)
	i.mul(&i, &b)
	p.scaled(&q, &i)
	return q, true
}

// nonces is the generator of RFC 6979, section 3.2, with HMAC-SHA256.
type nonces struct {
	k, v  [32]byte
	again bool
}

func newNonces(key [32]byte, digest *[32]byte) *nonces {
	n := &nonces{}
	for i := range n.v {
		n.v[i] = 1
	}
	for _, sep := range []byte{0, 1} {
		n.k = hmac(n.k, n.v[:], []byte{sep}, key[:], digest[:])
		n.v = hmac(n.k, n.v[:])
	}
	return n
}

// next is the next number in [1, order).
func (n *nonces) next() scalar {
	for {
		if n.again {
			n.k = hmac(n.k, n.v[:], []byte{0})
			n.v = hmac(n.k, n.v[:])
		}
		n.again = true
		n.v = hmac(n.k, n.v[:])
		if k, ok := scalarOf(&n.v); ok && !k.isZero() {
			return k
		}
	}
}

// blinds are two numbers as secret as the nonce, and independent of it.
func (n *nonces) blinds() (a, b [32]byte) {
	return hmac(n.k, n.v[:], []byte{2}), hmac(n.k, n.v[:], []byte{3})
}

// hmac is HMAC-SHA256 of parts that are 192 bytes at most together.
func hmac(key [32]byte, parts ...[]byte) [32]byte {
	var in [256]byte
	var out [96]byte
	for i := range 64 {
		in[i], out[i] = 0x36, 0x5c
	}
	for i, b := range key {
		in[i] ^= b
		out[i] ^= b
	}
	n := 64
	for _, p := range parts {
		n += copy(in[n:], p)
	}
	inner := sha256.Sum256(in[:n])
	copy(out[64:], inner[:])
	return sha256.Sum256(out[:])
}
