package sumcheck

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

// random returns terms, copies of their tables and the sum, added up by
// brute force.
func random(r *rand.Rand, n int) (terms, copies []Term, sum koala.Ext) {
	for range 1 + r.IntN(4) {
		m := r.IntN(n + 1)
		t := Term{Coef: ext(r)}
		c := Term{Coef: t.Coef}
		for range 1 + r.IntN(Degree) {
			v := koala.NewVec(1 << m)
			for i := range 1 << m {
				v.Set(i, ext(r))
			}
			t.Factors = append(t.Factors, v)
			c.Factors = append(c.Factors, clone(v))
		}
		for i := range 1 << m {
			p := t.Coef
			for _, f := range t.Factors {
				p = p.Mul(f.At(i))
			}
			sum = sum.Add(p)
		}
		terms, copies = append(terms, t), append(copies, c)
	}
	return terms, copies, sum
}

func TestSums(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		n := r.IntN(11)
		terms, copies, sum := random(r, n)
		p := transcript.NewProver("test")
		point := Prove(p, n, terms)
		check := func(claim koala.Ext, proof []byte) bool {
			v := transcript.NewVerifier("test", proof)
			z, value := Verify(v, n, claim)
			if v.Done() != nil {
				return false
			}
			var want koala.Ext
			for _, c := range copies {
				x := c.Coef
				m := mle.Log(c.Factors[0].Len())
				for range n - m {
					x = x.Scale(koala.Half)
				}
				for _, f := range c.Factors {
					x = x.Mul(mle.EvalVec(f, z[n-m:]))
				}
				want = want.Add(x)
			}
			return value == want
		}
		if !check(sum, p.Proof()) {
			t.Fatalf("honest proof of %d variables refused", n)
		}
		for i, term := range terms {
			m := mle.Log(copies[i].Factors[0].Len())
			for k, f := range term.Factors {
				if f.Len() != 1 || f.At(0) != mle.EvalVec(copies[i].Factors[k], point[n-m:]) {
					t.Fatal("tables are not left at the point")
				}
			}
		}
		if check(sum.Add(koala.ExtOne), p.Proof()) {
			t.Fatal("wrong sum accepted")
		}
		if len(p.Proof()) > 0 {
			bad := append([]byte(nil), p.Proof()...)
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			if check(sum, bad) {
				t.Fatal("changed proof accepted")
			}
		}
	}
}

func TestCubic(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	c := [4]koala.Ext{ext(r), ext(r), ext(r), ext(r)}
	f := func(x koala.Ext) koala.Ext { return c[0].Add(x.Mul(c[1].Add(x.Mul(c[2].Add(x.Mul(c[3])))))) }
	x := ext(r)
	if Cubic(f(number(0)), f(number(1)), f(number(2)), f(number(3)), x) != f(x) {
		t.Error("interpolation")
	}
}
