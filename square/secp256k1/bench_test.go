package secp256k1

import (
	"testing"

	dcrd "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

func BenchmarkField(b *testing.B) {
	x, y := base.x, base.y
	var dx, dy dcrd.FieldVal
	xb, yb := x.bytes(), y.bytes()
	dx.SetBytes(&xb)
	dy.SetBytes(&yb)
	b.Run("mul", func(b *testing.B) {
		for b.Loop() {
			x.mul(&x, &y)
		}
	})
	b.Run("dcrd/mul", func(b *testing.B) {
		for b.Loop() {
			dx.Mul(&dy)
		}
	})
	b.Run("square", func(b *testing.B) {
		for b.Loop() {
			x.square(&x)
		}
	})
	b.Run("add", func(b *testing.B) {
		for b.Loop() {
			x.add(&x, &y)
		}
	})
	b.Run("sub", func(b *testing.B) {
		for b.Loop() {
			x.sub(&x, &y)
		}
	})
	b.Run("inverse", func(b *testing.B) {
		for b.Loop() {
			x.inverse(&x)
			x.add(&x, &y)
		}
	})
	b.Run("sqrt", func(b *testing.B) {
		for b.Loop() {
			x.sqrt(&y)
		}
	})
	s := scalar(y)
	b.Run("scalar/mul", func(b *testing.B) {
		for b.Loop() {
			s.mul(&s, &s)
		}
	})
	b.Run("split", func(b *testing.B) {
		for b.Loop() {
			s.split()
		}
	})
	var p jacobian
	p.set(&base)
	b.Run("double", func(b *testing.B) {
		for b.Loop() {
			p.double(&p)
		}
	})
	b.Run("addition", func(b *testing.B) {
		for b.Loop() {
			p.add(&base)
		}
	})
}

func BenchmarkTable(b *testing.B) {
	for b.Loop() {
		newTable(&base, tableWidth)
	}
}

// BenchmarkSignature compares with dcrd's, which torg used before.
func BenchmarkSignature(b *testing.B) {
	kb, digest := [32]byte{1, 2, 3}, [32]byte{7: 9}
	k, _ := ParsePrivateKey(&kb)
	sig := k.Sign(&digest)
	rs, odd := [64]byte(sig[:64]), sig[64] == 1
	pub := k.PublicKey().Compressed()
	dk := dcrd.PrivKeyFromBytes(kb[:])
	compact := ecdsa.SignCompact(dk, digest[:], false)
	var r, s dcrd.ModNScalar
	r.SetByteSlice(rs[:32])
	s.SetByteSlice(rs[32:])
	wideBase()
	b.Run("verify/first", func(b *testing.B) {
		p, _ := ParsePublicKey(&pub)
		for b.Loop() {
			p.seen.Store(0)
			if !p.Verify(&digest, &rs) {
				b.Fatal()
			}
		}
	})
	known, _ := ParsePublicKey(&pub)
	for range tableAfter {
		known.Verify(&digest, &rs)
	}
	b.Run("verify/known", func(b *testing.B) {
		for b.Loop() {
			if !known.Verify(&digest, &rs) {
				b.Fatal()
			}
		}
	})
	b.Run("verify/recoverable", func(b *testing.B) {
		for b.Loop() {
			if !known.VerifyRecoverable(&digest, &rs, odd) {
				b.Fatal()
			}
		}
	})
	b.Run("dcrd/verify", func(b *testing.B) {
		dp := dk.PubKey()
		for b.Loop() {
			if !ecdsa.NewSignature(&r, &s).Verify(digest[:], dp) {
				b.Fatal()
			}
		}
	})
	b.Run("recover", func(b *testing.B) {
		for b.Loop() {
			if _, ok := Recover(&digest, &rs, odd); !ok {
				b.Fatal()
			}
		}
	})
	b.Run("dcrd/recover", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := ecdsa.RecoverCompact(compact, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			k.Sign(&digest)
		}
	})
	b.Run("dcrd/sign", func(b *testing.B) {
		for b.Loop() {
			ecdsa.SignCompact(dk, digest[:], false)
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			ParsePublicKey(&pub)
		}
	})
	b.Run("dcrd/parse", func(b *testing.B) {
		for b.Loop() {
			dcrd.ParsePubKey(pub[:])
		}
	})
}
