package square

import (
	"math/rand/v2"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

func forget() {
	points, owners, signers = newMemo[[33]byte, *point](4), newMemo[Address, *point](4), newMemo[signed, *point](4)
}

// reference is Recover as a library alone does it.
func reference(digest Hash, s Signature) (a Address, ok bool) {
	v := s[64]
	if v < 2 {
		v += 27
	}
	var sc secp256k1.ModNScalar
	if v != 27 && v != 28 || sc.SetByteSlice(s[32:64]) || sc.IsOverHalfOrder() {
		return a, false
	}
	p, _, err := ecdsa.RecoverCompact(append([]byte{v}, s[:64]...), digest[:])
	if err != nil {
		return a, false
	}
	h := Keccak(p.SerializeUncompressed()[1:])
	copy(a[:], h[12:])
	return a, true
}

// Whatever is remembered, the answer is the same: for true signatures, for
// every single damage to them, and for those that other keys made.
func TestRememberedSignaturesDecideNothing(t *testing.T) {
	defer forget()
	r := rand.New(rand.NewPCG(1, 2))
	var keys []Key
	for i := range 3 {
		k, err := KeyFromBytes(append(make([]byte, 31), byte(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	// The same keys, met so often that they have tables.
	warm := map[Address]*point{}
	for _, k := range keys {
		p, err := parsePoint(k.PubKey())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			digest := Hash{byte(i), 99}
			if sig := k.Sign(digest); !p.verify(digest, sig) {
				t.Fatal("refused")
			}
		}
		warm[p.address] = p
	}
	damages := map[string]func(*Hash, *Signature){
		"none":      func(*Hash, *Signature) {},
		"v small":   func(_ *Hash, s *Signature) { s[64] -= 27 },
		"v flipped": func(_ *Hash, s *Signature) { s[64] ^= 7 }, // 27 is 28, 28 is 27
		"v 29":      func(_ *Hash, s *Signature) { s[64] = 29 },
		"v 31":      func(_ *Hash, s *Signature) { s[64] += 4 },
		"r":         func(_ *Hash, s *Signature) { s[r.IntN(32)] ^= 1 << r.IntN(8) },
		"s":         func(_ *Hash, s *Signature) { s[32+r.IntN(32)] ^= 1 << r.IntN(8) },
		"digest":    func(d *Hash, _ *Signature) { d[r.IntN(32)] ^= 1 << r.IntN(8) },
		"r zero":    func(_ *Hash, s *Signature) { clear(s[:32]) },
		"s zero":    func(_ *Hash, s *Signature) { clear(s[32:64]) },
		"high s": func(_ *Hash, s *Signature) {
			var sc secp256k1.ModNScalar
			sc.SetByteSlice(s[32:64])
			b := sc.Negate().Bytes()
			copy(s[32:64], b[:])
			s[64] ^= 7
		},
		"r over order": func(_ *Hash, s *Signature) { copy(s[:32], bytesOf(0xff)) },
	}
	for range 40 {
		for name, damage := range damages {
			k, other := keys[r.IntN(3)], keys[r.IntN(3)]
			digest := Keccak([]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
			first := digest
			sig := k.Sign(digest)
			whole := sig
			damage(&digest, &sig)
			want, ok := reference(digest, sig)

			check := func(what string) {
				t.Helper()
				got, err := Recover(digest, sig)
				if (err == nil) != ok || got != want {
					t.Fatalf("%s, %s: recovered %v, %v; it is %v, %v", name, what, got, err, want, ok)
				}
				if err := verify(other.Address(), digest, sig); (err == nil) != (ok && want == other.Address()) {
					t.Fatalf("%s, %s: under %s: %v; it is of %v, %v", name, what, other.Address(), err, want, ok)
				}
			}
			var sc, rs secp256k1.ModNScalar
			over := sc.SetByteSlice(sig[32:64])
			over = rs.SetByteSlice(sig[:32]) || over
			pub, err := secp256k1.ParsePubKey(other.PubKey())
			if err != nil {
				t.Fatal(err)
			}
			valid := !over && !sc.IsOverHalfOrder() && ecdsa.NewSignature(&rs, &sc).Verify(digest[:], pub)
			checkPub := func(what string) {
				t.Helper()
				if err := VerifyPubKey(other.PubKey(), digest, [64]byte(sig[:64])); (err == nil) != valid {
					t.Fatalf("%s, %s: under the key: %v; it is %v", name, what, err, valid)
				}
			}
			forget()
			check("nothing remembered")
			check("the answer remembered")
			forget()
			checkPub("nothing remembered")
			checkPub("the answer remembered")
			check("the key and a signature without v remembered")
			forget()
			p := warm[other.Address()]
			points.put(p.key, p)
			owners.put(p.address, p)
			check("a key with a table remembered")
			forget()
			points.put(p.key, p)
			checkPub("a key with a table remembered")
			forget()
			if _, err := Recover(first, whole); err != nil {
				t.Fatal(err)
			}
			if err := VerifyPubKey(k.PubKey(), first, [64]byte(whole[:64])); err != nil {
				t.Fatal(err)
			}
			check("the true signature remembered")
			checkPub("the true signature remembered")
			forget()
			if _, err := PubKeyAddress(other.PubKey()); err != nil {
				t.Fatal(err)
			}
			if err := verify(other.Address(), digest, sig); (err == nil) != (ok && want == other.Address()) {
				t.Fatalf("%s, the key remembered: %v", name, err)
			}
		}
	}
}

func bytesOf(b byte) []byte {
	out := make([]byte, 32)
	for i := range out {
		out[i] = b
	}
	return out
}

// What is remembered is bounded, and only successes are.
func TestMemoIsBounded(t *testing.T) {
	defer forget()
	forget()
	m := newMemo[int, int](10)
	for i := range 1000 {
		m.put(i, i)
		if v, ok := m.get(i - 5); i >= 5 && (!ok || v != i-5) {
			t.Fatalf("%d is forgotten at %d", i-5, i)
		}
		if len(m.young)+len(m.old) > 20 {
			t.Fatalf("%d and %d are kept", len(m.young), len(m.old))
		}
	}
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s := k.Sign(Hash{1})
	for i := range 100 {
		_ = verify(k.Address(), Hash{2, byte(i)}, s)
		_ = VerifyPubKey(k.PubKey(), Hash{2, byte(i)}, [64]byte(s[:64]))
		bad := s
		bad[32+i%32] ^= 0x80
		_, _ = Recover(Hash{1}, bad)
	}
	for at, p := range signers.young {
		if !p.verify(at.digest, Signature(append(append([]byte{}, at.rs[:]...), at.v))) {
			t.Errorf("a signature that %s never made is remembered as its", p.address)
		}
	}
}

// What a provider and the ledger pay, digest and all, where nothing but the key is
// remembered, beside the same with dcrd's package: before the key has its table ("first"),
// after, and where only the address is known.
func BenchmarkVoucher(b *testing.B) {
	defer forget()
	k, err := NewKey()
	if err != nil {
		b.Fatal(err)
	}
	d := ChannelDomain("bench")
	var vouchers []Voucher
	for i := range 64 { // more than forget's memory holds
		vouchers = append(vouchers, SignVoucher(d, Hash{1}, uint64(1000+i), k))
	}
	pub, err := secp256k1.ParsePubKey(k.PubKey())
	if err != nil {
		b.Fatal(err)
	}
	who, n := k.Address(), 0
	next := func() Voucher { n++; return vouchers[n%len(vouchers)] }
	verify := func(b *testing.B) {
		if err := next().Verify(d, who); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("known", func(b *testing.B) {
		forget()
		for range 20 {
			verify(b)
		}
		for b.Loop() {
			verify(b)
		}
	})
	b.Run("dcrd/known", func(b *testing.B) {
		for b.Loop() {
			v := next()
			digest := voucherDigest(d, v.Channel, v.Max)
			var r, s secp256k1.ModNScalar
			if r.SetByteSlice(v.Sig[:32]) || s.SetByteSlice(v.Sig[32:64]) || !ecdsa.NewSignature(&r, &s).Verify(digest[:], pub) {
				b.Fatal()
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			forget()
			p, err := parsePoint(k.PubKey())
			if err != nil {
				b.Fatal(err)
			}
			owners.put(who, p)
			verify(b)
		}
	})
	b.Run("address", func(b *testing.B) {
		for b.Loop() {
			forget()
			verify(b)
		}
	})
	b.Run("dcrd/address", func(b *testing.B) {
		for b.Loop() {
			v := next()
			if _, ok := reference(voucherDigest(d, v.Channel, v.Max), v.Sig); !ok {
				b.Fatal()
			}
		}
	})
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			SignVoucher(d, Hash{1}, 1000, k)
		}
	})
	b.Run("dcrd/sign", func(b *testing.B) {
		own := secp256k1.PrivKeyFromBytes(k.Bytes())
		for b.Loop() {
			digest := voucherDigest(d, Hash{1}, 1000)
			ecdsa.SignCompact(own, digest[:], false)
		}
	})
}

// A transaction's signature under its public key.
func BenchmarkVerifyPubKey(b *testing.B) {
	defer forget()
	forget()
	k, err := NewKey()
	if err != nil {
		b.Fatal(err)
	}
	var sigs []Signature
	for i := range 64 {
		sigs = append(sigs, k.Sign(Hash{byte(i)}))
	}
	for i := 0; b.Loop(); i++ {
		if err := VerifyPubKey(k.PubKey(), Hash{byte(i % 64)}, [64]byte(sigs[i%64][:64])); err != nil {
			b.Fatal(err)
		}
	}
}
