package logup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/transcript"
)

func ext(r *rand.Rand) koala.Ext {
	w := func() koala.Elem { return koala.FromInt(r.Int64()) }
	return koala.Ext{A: w(), B: w(), C: w(), D: w()}
}

// tableOf writes leaves out.
func tableOf(n int, l Leaves) (p []koala.Elem, q koala.Vec) {
	p, q = make([]koala.Elem, 1<<n), koala.NewVec(1<<n)
	q.Fill(koala.ExtOne)
	for _, part := range l.Parts {
		for i := range part.Len {
			p[part.At+i] = koala.One
			if part.Num != nil {
				p[part.At+i] = part.Num[i%len(part.Num)]
			}
			d := part.Const
			for j, b := range part.Base {
				if b != nil {
					d = d.Add(l.Coef[j].Scale(b[i]))
				}
			}
			q.Set(part.At+i, d)
		}
	}
	return p, q
}

// random returns 2^n fractions that cancel, made in all ways that there are:
// the second part of a pair has the denominators of the first, and what makes
// up for its numerators. Some end early.
func random(r *rand.Rand, n int) Leaves {
	l := Leaves{Coef: [Terms]koala.Ext{minusOne, ext(r), ext(r)}}
	if r.IntN(4) == 0 {
		l.Coef[0] = ext(r)
	}
	elem := func() koala.Elem { return koala.FromInt(r.Int64()) }
	at := 0
	for k := n - 1; k >= 0; k-- {
		for at+2<<k <= 1<<n && r.IntN(5) > 0 {
			a := Part{At: at, Len: 1 << k, Const: ext(r)}
			for j := range a.Base {
				if r.IntN(3) > 0 {
					a.Base[j] = make([]koala.Elem, a.Len)
					for i := range a.Base[j] {
						a.Base[j][i] = elem()
					}
				}
			}
			if r.IntN(2) == 0 {
				a.Num = make([]koala.Elem, 1<<r.IntN(k+1))
				for i := range a.Num {
					a.Num[i] = elem()
				}
			}
			b := a
			b.At += a.Len
			b.Num = []koala.Elem{koala.One.Neg()}
			if a.Num != nil {
				b.Num = make([]koala.Elem, len(a.Num))
				koala.SubElems(b.Num, b.Num, a.Num)
			}
			l.Parts = append(l.Parts, a, b)
			at += 2 << k
		}
	}
	return l
}

// accepts runs the verifier to the end, evaluating the leaves itself.
func accepts(n int, p []koala.Elem, q koala.Vec, proof []byte) bool {
	v := transcript.NewVerifier("test", proof)
	z, vp, vq, err := Verify(v, n)
	return err == nil && v.Done() == nil && mle.Eval(p, z) == vp && mle.EvalVec(q, z) == vq
}

func TestFractions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 13 {
		leaves := random(r, n)
		p, q := tableOf(n, leaves)
		w := transcript.NewProver("test")
		Prove(w, n, leaves, nil)
		if !accepts(n, p, q, w.Proof()) {
			t.Fatalf("honest proof of 2^%d refused", n)
		}
		for range 20 {
			bad := append([]byte(nil), w.Proof()...)
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			if accepts(n, p, q, bad) {
				t.Fatal("changed proof accepted")
			}
		}
		// One numerator or denominator is off by one.
		for range 4 {
			bad := Leaves{leaves.Coef, slices.Clone(leaves.Parts)}
			if len(bad.Parts) == 0 {
				bad.Parts = []Part{{Len: 1, Num: []koala.Elem{0}, Const: koala.ExtOne}}
			}
			part := &bad.Parts[r.IntN(len(bad.Parts))]
			if i := r.IntN(part.Len); r.IntN(2) == 0 || n == 0 {
				num := make([]koala.Elem, part.Len)
				for k := range num {
					num[k] = koala.One
					if part.Num != nil {
						num[k] = part.Num[k%len(part.Num)]
					}
				}
				num[i] = num[i].Add(koala.One)
				part.Num = num
			} else if part.Base[1] != nil {
				part.Base[1] = slices.Clone(part.Base[1])
				part.Base[1][i] = part.Base[1][i].Add(koala.One)
			} else {
				part.Const = part.Const.Add(koala.ExtOne)
			}
			p2, q2 := tableOf(n, bad)
			w := transcript.NewProver("test")
			Prove(w, n, bad, nil)
			if accepts(n, p2, q2, w.Proof()) {
				t.Fatal("fractions that do not cancel are accepted")
			}
			if n > 0 && accepts(n, p, q, w.Proof()) { // with one leaf the proof is q alone
				t.Fatal("proof of other fractions accepted")
			}
		}
	}
}

// TestZeroDenominator: 0/0 at one leaf makes every node above it 0/0 and must
// not hide what the others add up to.
func TestZeroDenominator(t *testing.T) {
	leaves := Leaves{Parts: []Part{
		{At: 0, Len: 1, Num: []koala.Elem{0}}, // 0/0
		{At: 1, Len: 1, Const: koala.ExtOne},
	}}
	p, q := tableOf(4, leaves)
	w := transcript.NewProver("test")
	Prove(w, 4, leaves, nil)
	if accepts(4, p, q, w.Proof()) {
		t.Error("accepted a zero denominator")
	}
}

func BenchmarkProve(b *testing.B) {
	const n = 20
	r := rand.New(rand.NewPCG(3, 1))
	v := make([]koala.Elem, 1<<n)
	for i := range v {
		v[i] = koala.Elem(r.IntN(koala.P))
	}
	leaves := Leaves{Coef: [Terms]koala.Ext{minusOne}, Parts: []Part{{Len: 1 << n, Const: ext(r), Base: [Terms][]koala.Elem{v}}}}
	room := koala.NewRoom(Room(n))
	for b.Loop() {
		room.Reset()
		Prove(transcript.NewProver("bench"), n, leaves, room)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<n), "ns/leaf")
}
