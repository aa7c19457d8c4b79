package secp256k1

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	dcrd "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// dcrdNumber is a number modulo the order as dcrd has it.
func dcrdNumber(b [32]byte) *dcrd.ModNScalar {
	var s dcrd.ModNScalar
	s.SetBytes(&b)
	return &s
}

// expected is what dcrd says of a signature: whether it is valid under the key, and which
// keys are recovered from it, for an even and an odd nonce.
type expected struct {
	valid bool
	keys  [2][]byte
}

func expect(t testing.TB, key [33]byte, digest [32]byte, rs [64]byte) (want expected) {
	t.Helper()
	var r, s dcrd.ModNScalar
	over := r.SetByteSlice(rs[:32])
	if over = s.SetByteSlice(rs[32:]) || over || s.IsOverHalfOrder(); over {
		return want
	}
	pub, err := dcrd.ParsePubKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	want.valid = ecdsa.NewSignature(&r, &s).Verify(digest[:], pub)
	for v := range want.keys {
		if p, _, err := ecdsa.RecoverCompact(append([]byte{27 + byte(v)}, rs[:]...), digest[:]); err == nil {
			want.keys[v] = p.SerializeCompressed()
		}
	}
	return want
}

// answers holds every answer about a signature against dcrd's, and says whether it is
// valid and whether the key is recovered from it.
func (want expected) answers(t testing.TB, p *PublicKey, digest [32]byte, rs [64]byte) (valid, recovered bool) {
	t.Helper()
	key := p.Compressed()
	if got := p.Verify(&digest, &rs); got != want.valid {
		t.Fatalf("%x over %x under %x: %v", rs, digest, key, got)
	}
	for v, want := range want.keys {
		q, ok := Recover(&digest, &rs, v == 1)
		if ok != (want != nil) {
			t.Fatalf("%x over %x, %d: recovered: %v", rs, digest, v, ok)
		}
		if ok {
			if got := q.Compressed(); !bytes.Equal(got[:], want) {
				t.Fatalf("%x over %x, %d: recovered %x, not %x", rs, digest, v, got, want)
			}
		}
		own := bytes.Equal(key[:], want)
		if got := p.VerifyRecoverable(&digest, &rs, v == 1); got != own {
			t.Fatalf("%x over %x, %d, under %x: %v", rs, digest, v, key, got)
		}
		recovered = recovered || own
	}
	return want.valid, recovered
}

func answers(t testing.TB, p *PublicKey, digest [32]byte, rs [64]byte) (valid, recovered bool) {
	t.Helper()
	return expect(t, p.Compressed(), digest, rs).answers(t, p, digest, rs)
}

// asked asks a key that was never asked before, and one that has its table.
func asked(t testing.TB, p *PublicKey, digest [32]byte, rs [64]byte) (valid, recovered bool) {
	t.Helper()
	want := expect(t, p.Compressed(), digest, rs)
	p = &PublicKey{point: p.point}
	want.answers(t, p, digest, rs)
	p.table.Store(newTable(&p.point, tableWidth))
	return want.answers(t, p, digest, rs)
}

// Keys, signatures and their damages are dcrd's to the last byte.
func TestSign(t *testing.T) {
	r := testRand()
	xs := numbers(r, 60)
	for i, x := range xs {
		kb, digest := bytesOf(&x), bytesOf(&xs[(i*31+5)%len(xs)])
		k, ok := ParsePrivateKey(&kb)
		var dk dcrd.ModNScalar
		over := dk.SetBytes(&kb)
		if ok != (over == 0 && !dk.IsZero()) {
			t.Fatalf("%x is read: %v", kb, ok)
		}
		if !ok {
			continue
		}
		if k.Bytes() != kb {
			t.Fatalf("%x is written %x", kb, k.Bytes())
		}
		dp := dcrd.NewPrivateKey(&dk)
		c := ecdsa.SignCompact(dp, digest[:], false)
		got := k.Sign(&digest)
		if !bytes.Equal(got[:64], c[1:]) || got[64]+27 != c[0] {
			t.Fatalf("%x signs %x with %x, not %x", kb, digest, got, c)
		}
		p := k.PublicKey()
		pc, xy := p.Compressed(), p.XY()
		if !bytes.Equal(pc[:], dp.PubKey().SerializeCompressed()) || !bytes.Equal(xy[:], dp.PubKey().SerializeUncompressed()[1:]) {
			t.Fatalf("the public key of %x is %x, %x", kb, pc, xy)
		}
		rs := [64]byte(got[:64])
		if valid, own := asked(t, p, digest, rs); !valid || !own {
			t.Fatalf("%x over %x by %x: %v, %v", rs, digest, kb, valid, own)
		}
		for range 4 {
			bad, d := rs, digest
			if r.IntN(3) == 0 {
				d[r.IntN(32)] ^= 1 << r.IntN(8)
			} else {
				bad[r.IntN(64)] ^= 1 << r.IntN(8)
			}
			answers(t, p, d, bad)
		}
	}
}

// The nonces after the first, which no signature is known to need, are dcrd's as well.
func TestNonces(t *testing.T) {
	for _, x := range numbers(testRand(), 10) {
		key, digest := bytesOf(&x), [32]byte{byte(x[0])}
		n := newNonces(key, &digest)
		for i := range uint32(4) {
			if got, want := n.next(), dcrd.NonceRFC6979(key[:], digest[:], nil, nil, i); got.bytes() != want.Bytes() {
				t.Fatalf("%x, nonce %d: %x, not %x", key, i, got, want.Bytes())
			}
		}
	}
}

// The cases where sums meet infinity, doubling or the order, made on purpose.
func TestCorners(t *testing.T) {
	r := testRand()
	random := func() scalar {
		var b [32]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		s, _ := scalarOf(&b)
		return s
	}
	times := func(x, y scalar) (z scalar) { z.mul(&x, &y); return z }
	over := func(x, y scalar) (z scalar) { z.inverse(&y); z.mul(&z, &x); return z }
	neg := func(x scalar) scalar { x.negate(^uint64(0)); return x }
	lambda := scalar{0xdf02967c1b23bd72, 0x122e22ea20816678, 0xa5261c028812645a, 0x5363ad4cc05c30e0}
	one := scalar{1}
	key := func(d scalar) *PublicKey { return PrivateKey{d}.PublicKey() }
	sig := func(r, s scalar) (rs [64]byte) {
		if s.isHigh() == 1 {
			s = neg(s)
		}
		a, b := r.bytes(), s.bytes()
		copy(rs[:], a[:])
		copy(rs[32:], b[:])
		return rs
	}
	xOf := func(k scalar) scalar {
		p := multiplyBase(&k)
		q, _ := p.affine()
		x := scalar(q.x)
		x.reduce(0)
		return x
	}
	check := func(what string, p *PublicKey, digest [32]byte, rs [64]byte, want, recovers bool) {
		t.Helper()
		if got, own := asked(t, p, digest, rs); got != want || own != recovers {
			t.Fatalf("%s: %v, recovered: %v", what, got, own)
		}
	}
	if l := times(lambda, times(lambda, lambda)); l != one {
		t.Fatal("lambda is no cube root of 1")
	}
	zero := [32]byte{}
	for _, d := range []scalar{one, neg(one), {2}, neg(scalar{2}), lambda, neg(lambda), times(lambda, lambda), over(one, scalar{2}), random()} {
		p := key(d)
		k := random()
		x := xOf(k)
		for name, digest := range map[string][32]byte{"digest 0": zero, "digest of the order": order.bytes(), "digest of ones": bytesOf(&[4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)})} {
			s := PrivateKey{d}.Sign(&digest)
			check(name, p, digest, [64]byte(s[:64]), true, true)
		}
		// e = -r d: the nonce's point would be at infinity, whatever s is.
		e := neg(times(x, d))
		check("infinity", p, e.bytes(), sig(x, random()), false, false)
		// e = r d: both summands are the same point.
		e = times(x, d)
		check("doubling", p, e.bytes(), sig(x, over(times(scalar{2}, e), k)), true, true)
		// e = -lambda r d, and by its square: the sum is, up to lambda, a difference.
		for _, l := range []scalar{lambda, times(lambda, lambda), neg(lambda)} {
			e := times(l, times(x, d))
			s := times(x, d)
			s.add(&s, &e)
			check("lambda", p, e.bytes(), sig(x, over(s, k)), true, true)
		}
		// s = 1, r = 1 and such.
		check("s = 1", p, e.bytes(), sig(x, one), false, false)
		for _, v := range []scalar{{}, one, order, {order[0] + 1, order[1], order[2], order[3]}, {order[0] - 1, order[1], order[2], order[3]},
			scalar(fieldP), halfOrder, {halfOrder[0] + 1, halfOrder[1], halfOrder[2], halfOrder[3]}} {
			for _, w := range []scalar{one, x, v} {
				a, b := v.bytes(), w.bytes()
				answers(t, p, zero, [64]byte(append(a[:], b[:]...)))
				answers(t, p, zero, [64]byte(append(b[:], a[:]...)))
			}
		}
	}
	// Nonces whose point has an x not below the order: r is what is left of it. Nobody
	// knows such a nonce, but the key can be made to fit.
	for found, small := 0, uint64(1); found < 6; small++ {
		x, c := field{small}.plusOrder()
		if c != 0 {
			t.Fatal("too large")
		}
		if _, ok := pointAt(&x, true); !ok {
			continue
		}
		found++
		rs, digest := sig(scalar{small}, random()), random().bytes()
		for v := range byte(2) {
			pub, _, err := ecdsa.RecoverCompact(append([]byte{29 + v}, rs[:]...), digest[:])
			if err != nil {
				t.Fatal(err)
			}
			key := [33]byte(pub.SerializeCompressed())
			p, ok := ParsePublicKey(&key)
			if !ok {
				t.Fatal("key")
			}
			check("x above the order", p, digest, rs, true, false)
		}
	}
	// r with r + order not below p must not be taken for one of those.
	least := new(big.Int).Sub(bigP, bigN)
	for d := int64(-2); d < 20; d++ {
		b := to32(new(big.Int).Add(least, big.NewInt(d)))
		r := limbsOf(&b)
		answers(t, key(random()), random().bytes(), sig(r, random()))
	}
}

func (z scalar) String() string { return fmt.Sprintf("%x", z.bytes()) }

func TestWycheproof(t *testing.T) {
	file, err := os.ReadFile("testdata/wycheproof.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(file)) {
		if line[0] == '#' {
			continue
		}
		n++
		f := strings.Fields(line)
		read := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		key := [33]byte(read(f[1]))
		p, ok := ParsePublicKey(&key)
		if !ok {
			t.Fatalf("%s: the key is not read", f[0])
		}
		rs := [64]byte(read(f[3]))
		s, inOrder := scalarOf((*[32]byte)(rs[32:]))
		valid := f[4] == "valid"
		got, _ := asked(t, p, [32]byte(read(f[2])), rs)
		if got != (valid && s.isHigh() == 0) {
			t.Errorf("%s: %v", f[0], got)
		}
		if s.isHigh() == 1 && inOrder { // Wycheproof takes either half
			s.negate(^uint64(0))
			b := s.bytes()
			copy(rs[32:], b[:])
			if got, _ := asked(t, p, [32]byte(read(f[2])), rs); got != valid {
				t.Errorf("%s, with s in the lower half: %v", f[0], got)
			}
		}
	}
	if n != 234 {
		t.Errorf("%d cases", n)
	}
}

func TestParsePublicKey(t *testing.T) {
	for _, x := range numbers(testRand(), 200) {
		b := bytesOf(&x)
		for f := range byte(6) {
			key := [33]byte(append([]byte{f}, b[:]...))
			want, err := dcrd.ParsePubKey(key[:])
			p, ok := ParsePublicKey(&key)
			if ok != (err == nil) {
				t.Fatalf("%x is read: %v; %v", key, ok, err)
			}
			if ok {
				if xy := p.XY(); p.Compressed() != key || !bytes.Equal(xy[:], want.SerializeUncompressed()[1:]) {
					t.Fatalf("%x is %x", key, xy)
				}
			}
		}
	}
}

// However many keys are met, the tables are as many as stated and as large; a key that is
// in use keeps its table, and one that lost it is answered as before.
func TestTablesAreBounded(t *testing.T) {
	digest := [32]byte{1}
	var keys []*PublicKey
	var sigs [][64]byte
	var busy *table
	for i := range maxTables + 100 {
		k := PrivateKey{scalar{uint64(i + 1), 5}}
		s := k.Sign(&digest)
		keys, sigs = append(keys, k.PublicKey()), append(sigs, [64]byte(s[:64]))
	}
	for i, p := range keys {
		for range tableAfter {
			if !p.Verify(&digest, &sigs[i]) {
				t.Fatal("refused")
			}
		}
		if i == 0 {
			busy = keys[0].table.Load()
		}
		if !keys[0].Verify(&digest, &sigs[0]) {
			t.Fatal("refused")
		}
		if keys[0].table.Load() != busy {
			t.Fatalf("after %d keys the busy one lost its table", i)
		}
	}
	tables.Lock()
	bytes, held := 0, map[*PublicKey]bool{}
	for _, p := range tables.keys {
		tb := p.table.Load()
		if tb == nil || held[p] {
			t.Fatal("a place is empty, or a key has two")
		}
		held[p] = true
		bytes += cap(tb.points) * 64
	}
	if len(tables.keys) != maxTables || bytes != TableBytes {
		t.Errorf("%d tables, %d bytes; at most %d, %d", len(tables.keys), bytes, maxTables, TableBytes)
	}
	tables.Unlock()
	lost := 0
	for i, p := range keys {
		if !held[p] {
			lost++
			if p.table.Load() != nil {
				t.Errorf("key %d has a table that is not counted", i)
			}
		}
		if i%10 == 0 {
			if valid, own := answers(t, p, digest, sigs[i]); !valid || !own {
				t.Fatalf("key %d: %v, %v", i, valid, own)
			}
		}
	}
	p := keys[len(keys)-1]
	for i, q := range keys { // one that lost its table earns it again
		if !held[q] {
			p = q
			for range tableAfter {
				q.Verify(&digest, &sigs[i])
			}
			break
		}
	}
	if p.table.Load() == nil || len(tables.keys) != maxTables {
		t.Errorf("no second table, or one too many: %d", len(tables.keys))
	}
	if lost < 100 {
		t.Errorf("%d keys lost their tables", lost)
	}
}

func TestConcurrent(t *testing.T) {
	k := PrivateKey{scalar{77}}
	p, digest := k.PublicKey(), [32]byte{5}
	s := k.Sign(&digest)
	rs := [64]byte(s[:64])
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2 * tableAfter {
				if !p.Verify(&digest, &rs) || !p.VerifyRecoverable(&digest, &rs, s[64] == 1) || p.VerifyRecoverable(&digest, &rs, s[64] == 0) {
					t.Error("refused")
				}
			}
		})
	}
	wg.Wait()
	if p.table.Load() == nil {
		t.Error("no table")
	}
}

// FuzzAnswers holds a key's signature and a random one under it against dcrd's.
func FuzzAnswers(f *testing.F) {
	for _, x := range numbers(rand.New(rand.NewPCG(3, 4)), 4) {
		b := bytesOf(&x)
		f.Add(b[:], b[:], append(b[:], b[:]...))
	}
	f.Fuzz(func(t *testing.T, key, digest, sig []byte) {
		var kb, d [32]byte
		var rs [64]byte
		copy(kb[:], key)
		copy(d[:], digest)
		copy(rs[:], sig)
		k, ok := ParsePrivateKey(&kb)
		if n := dcrdNumber(kb); ok != (n.Bytes() == kb && !n.IsZero()) {
			t.Fatalf("%x is read: %v", kb, ok)
		}
		if !ok {
			return
		}
		s := k.Sign(&d)
		if c := ecdsa.SignCompact(dcrd.NewPrivateKey(dcrdNumber(kb)), d[:], false); !bytes.Equal(s[:64], c[1:]) || s[64]+27 != c[0] {
			t.Fatalf("%x signs %x with %x, not %x", kb, d, s, c)
		}
		p := k.PublicKey()
		asked(t, p, d, [64]byte(s[:64]))
		answers(t, p, d, rs)
	})
}

// FuzzArithmetic holds the fields against big integers.
func FuzzArithmetic(f *testing.F) {
	for _, x := range numbers(rand.New(rand.NewPCG(5, 6)), 8) {
		b := bytesOf(&x)
		f.Add(b[:], b[:])
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		var a, b [32]byte
		copy(a[:], x)
		copy(b[:], y)
		checkField(t, limbsOf(&a))
		checkFields(t, limbsOf(&a), limbsOf(&b))
		checkScalar(t, limbsOf(&a))
		checkScalars(t, limbsOf(&a), limbsOf(&b))
	})
}
