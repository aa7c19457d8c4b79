package logup

import (
	"math/rand/v2"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/transcript"
)

func ext(r *rand.Rand) koala.Ext {
	w := func() koala.Elem { return koala.FromInt(r.Int64()) }
	return koala.Ext{A: w(), B: w(), C: w(), D: w()}
}

func clone(v koala.Vec) koala.Vec {
	w := koala.NewVec(v.Len())
	w.Copy(v)
	return w
}

// random returns 2^n fractions that cancel, and checks by brute force that
// they do.
func random(t testing.TB, r *rand.Rand, n int) (p, q koala.Vec) {
	p, q = koala.NewVec(1<<n), koala.NewVec(1<<n)
	var sum koala.Ext
	for i := range 1 << n {
		q.Set(i, ext(r))
		if i < 1<<n-1 {
			p.Set(i, ext(r))
			sum = sum.Add(p.At(i).Mul(q.At(i).Inv()))
		}
	}
	p.Set(1<<n-1, sum.Neg().Mul(q.At(1<<n-1)))
	sum = koala.Ext{}
	for i := range 1 << n {
		sum = sum.Add(p.At(i).Mul(q.At(i).Inv()))
	}
	if sum != (koala.Ext{}) {
		t.Fatal("fractions do not cancel")
	}
	return p, q
}

// accepts runs the verifier to the end, evaluating the leaves itself.
func accepts(n int, p, q koala.Vec, proof []byte) bool {
	v := transcript.NewVerifier("test", proof)
	z, vp, vq, err := Verify(v, n)
	return err == nil && v.Done() == nil && mle.EvalVec(p, z) == vp && mle.EvalVec(q, z) == vq
}

func TestFractions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 12 {
		p, q := random(t, r, n)
		w := transcript.NewProver("test")
		Prove(w, clone(p), clone(q))
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
			p2, q2 := clone(p), clone(q)
			i := r.IntN(1 << n)
			if r.IntN(2) == 0 || n == 0 {
				p2.Set(i, p2.At(i).Add(koala.ExtOne))
			} else {
				q2.Set(i, q2.At(i).Add(koala.ExtOne))
			}
			w := transcript.NewProver("test")
			Prove(w, clone(p2), clone(q2))
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
	r := rand.New(rand.NewPCG(2, 1))
	p, q := random(t, r, 4)
	p.Set(3, koala.Ext{})
	q.Set(3, koala.Ext{})
	p.Set(5, koala.ExtOne)
	w := transcript.NewProver("test")
	Prove(w, clone(p), clone(q))
	if accepts(4, p, q, w.Proof()) {
		t.Error("accepted a zero denominator")
	}
}

func BenchmarkProve(b *testing.B) {
	const n = 18
	r := rand.New(rand.NewPCG(3, 1))
	p, q := koala.NewVec(1<<n), koala.NewVec(1<<n)
	for i := range 1 << n {
		q.Set(i, koala.Ext{A: koala.Elem(r.IntN(koala.P)), B: 1, C: 2, D: 3})
	}
	for b.Loop() {
		b.StopTimer()
		p2, q2 := clone(p), clone(q)
		b.StartTimer()
		Prove(transcript.NewProver("bench"), p2, q2)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<n), "ns/leaf")
}
