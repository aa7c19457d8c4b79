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

func clone(v koala.Vec) koala.Vec {
	w := koala.NewVec(v.Len())
	w.Copy(v)
	return w
}

// of returns leaves from memory.
func of(p []koala.Elem, q koala.Vec) Leaves {
	return func(at int, dp []koala.Elem, dq koala.Vec) {
		copy(dp, p[at:])
		dq.Copy(q.Slice(at, at+len(dp)))
	}
}

// random returns 2^n fractions that cancel: at a few denominators the
// numerators add up to zero.
func random(r *rand.Rand, n int) (p []koala.Elem, q koala.Vec) {
	p, q = make([]koala.Elem, 1<<n), koala.NewVec(1<<n)
	groups := 1 + r.IntN(max(1, 1<<n/3))
	last, qs := make([]int, groups), make([]koala.Ext, groups)
	for g := range qs {
		last[g] = -1
		qs[g] = ext(r)
	}
	for _, i := range r.Perm(1 << n) {
		g := r.IntN(groups)
		q.Set(i, qs[g])
		if j := last[g]; j >= 0 {
			x := koala.FromInt(r.Int64())
			p[i], p[j] = p[i].Add(x), p[j].Sub(x)
		}
		last[g] = i
	}
	return p, q
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
		p, q := random(r, n)
		w := transcript.NewProver("test")
		Prove(w, n, of(p, q), nil)
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
			p2, q2 := slices.Clone(p), clone(q)
			i := r.IntN(1 << n)
			if r.IntN(2) == 0 || n == 0 {
				p2[i] = p2[i].Add(koala.One)
			} else {
				q2.Set(i, q2.At(i).Add(koala.ExtOne))
			}
			w := transcript.NewProver("test")
			Prove(w, n, of(p2, q2), nil)
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
	p, q := random(r, 4)
	p[3], p[5] = 0, p[5].Add(koala.One)
	q.Set(3, koala.Ext{})
	w := transcript.NewProver("test")
	Prove(w, 4, of(p, q), nil)
	if accepts(4, p, q, w.Proof()) {
		t.Error("accepted a zero denominator")
	}
}

func BenchmarkProve(b *testing.B) {
	const n = 18
	r := rand.New(rand.NewPCG(3, 1))
	p, q := make([]koala.Elem, 1<<n), koala.NewVec(1<<n)
	for i := range 1 << n {
		q.Set(i, koala.Ext{A: koala.Elem(r.IntN(koala.P)), B: 1, C: 2, D: 3})
	}
	for b.Loop() {
		Prove(transcript.NewProver("bench"), n, of(p, q), nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<n), "ns/leaf")
}
