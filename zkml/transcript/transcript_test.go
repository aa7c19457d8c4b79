package transcript

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/merkle"
)

func talk(p *Prover) (koala.Ext, []int) {
	p.Absorb("model", []byte("m"))
	p.Exts("sum", koala.Ext{A: 1, B: 2, C: 3, D: 4}, koala.ExtOne)
	x := p.Challenge("x")
	p.Bytes("row", koala.Elem(koala.P-1).Append(koala.Elem(8).Append(koala.Elem(7).Append(nil))))
	p.Grind("work", 8)
	p.Bytes("root", bytes.Repeat([]byte{9}, 32))
	p.Hint([]byte("path"))
	return x.Mul(p.Challenge("y")), p.Indices("queries", 20, 10)
}

func listen(v *Verifier) (koala.Ext, []int) {
	v.Absorb("model", []byte("m"))
	v.Exts("sum", 2)
	x := v.Challenge("x")
	v.Bytes("row", 12)
	v.Grind("work", 8)
	v.Bytes("root", 32)
	v.Hint(4)
	return x.Mul(v.Challenge("y")), v.Indices("queries", 20, 10)
}

func TestBothSidesAgree(t *testing.T) {
	p := NewProver("test")
	x, q := talk(p)
	v := NewVerifier("test", p.Proof())
	y, r := listen(v)
	if err := v.Done(); err != nil {
		t.Fatal(err)
	}
	if x != y {
		t.Error("challenges differ")
	}
	for i := range q {
		if q[i] != r[i] || q[i] < 0 || q[i] >= 1<<10 {
			t.Errorf("index %d: %d and %d", i, q[i], r[i])
		}
	}
	if v = NewVerifier("other", p.Proof()); func() koala.Ext { z, _ := listen(v); return z }() == x {
		t.Error("the domain is not bound")
	}
}

// TestEveryByteCounts flips each byte of the proof: reading fails, or the
// last challenge changes, unless the byte is of a hint.
func TestEveryByteCounts(t *testing.T) {
	p := NewProver("test")
	x, _ := talk(p)
	proof := p.Proof()
	hint := len(proof) - 4
	for i := range proof {
		bad := bytes.Clone(proof)
		bad[i] ^= 1
		v := NewVerifier("test", bad)
		y, _ := listen(v)
		if changed := v.Done() != nil || y != x; changed != (i < hint) {
			t.Errorf("byte %d: changed is %v", i, changed)
		}
	}
	for n := range proof {
		v := NewVerifier("test", proof[:n])
		if listen(v); v.Done() == nil {
			t.Errorf("accepted %d bytes of %d", n, len(proof))
		}
	}
	v := NewVerifier("test", append(bytes.Clone(proof), 0))
	if listen(v); v.Done() == nil {
		t.Error("accepted a trailing byte")
	}
}

// TestFraming: items that concatenate to the same bytes give different
// challenges.
func TestFraming(t *testing.T) {
	seen := map[koala.Ext]int{}
	for i, items := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}, {"ab", "c", ""}} {
		s := newSponge("framing")
		for _, it := range items {
			s.Absorb("x", []byte(it))
		}
		c := s.Challenge("c")
		if j, ok := seen[c]; ok {
			t.Errorf("%d and %d agree", i, j)
		}
		seen[c] = i
	}
	a, b := newSponge("framing"), newSponge("framing")
	a.Absorb("x", []byte("y"))
	b.Absorb("z", []byte("y"))
	if a.Challenge("c") == b.Challenge("c") {
		t.Error("labels are not bound")
	}
}

// TestGolden pins the hash: whoever writes another verifier needs it.
func TestGolden(t *testing.T) {
	p := NewProver("test")
	x, _ := talk(p)
	if got, want := hex.EncodeToString(x.Append(nil)), "5f39de160bcbe872a4732b6ae2175027"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestGrind: the nonce works and is the smallest that does.
func TestGrind(t *testing.T) {
	for i := range 20 {
		seed := [32]byte{byte(i)}
		n := i % 15
		nonce := merkle.Search(seed, n)
		for k := range nonce {
			if works(seed, k, n) {
				t.Fatalf("seed %d: %d works, %d was found", i, k, nonce)
			}
		}
		if !works(seed, nonce, n) {
			t.Fatalf("seed %d: %d does not work", i, nonce)
		}
	}
}
