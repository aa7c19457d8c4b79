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

// values are those of a table, and the table.
type values struct {
	at    koala.Vec
	table *Table
}

func randomTable(r *rand.Rand, m int) values {
	v := values{at: koala.NewVec(1 << m)}
	base := r.IntN(2) == 0
	for i := range 1 << m {
		x := ext(r)
		if base {
			x = koala.Lift(x.A)
		}
		v.at.Set(i, x)
	}
	if base {
		v.table = Elems(v.at[0], nil)
	} else {
		c := koala.NewVec(1 << m)
		c.Copy(v.at)
		v.table = Vec(c)
	}
	return v
}

// random returns terms, some of which share tables and points, with the values
// of their factors and the sum, added up by brute force.
func random(r *rand.Rand, n int) (terms []Term, factors [][2]values, sum koala.Ext) {
	var z []koala.Ext
	for range n {
		x := ext(r)
		if r.IntN(8) == 0 {
			x = koala.Ext{}
		}
		z = append(z, x)
	}
	for range 1 + r.IntN(3) {
		m := r.IntN(n + 1)
		tables := []values{randomTable(r, m), randomTable(r, m), randomTable(r, m)}
		for range 1 + r.IntN(4) {
			f, g := tables[r.IntN(3)], tables[r.IntN(3)]
			t := Term{Coef: ext(r), Point: z[:[]int{0, m, r.IntN(m + 1)}[r.IntN(3)]], F: f.table, G: g.table}
			eq := mle.Eq(t.Point, t.Coef)
			for i := range 1 << m {
				sum = sum.Add(eq.At(i >> (m - len(t.Point))).Mul(f.at.At(i)).Mul(g.at.At(i)))
			}
			terms, factors = append(terms, t), append(factors, [2]values{f, g})
		}
	}
	return terms, factors, sum
}

func TestSums(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n := r.IntN(13)
		terms, factors, sum := random(r, n)
		p := transcript.NewProver("test")
		s := New(n, terms)
		if s.Sum() != sum {
			t.Fatal("sum")
		}
		point := s.Prove(p)
		check := func(claim koala.Ext, proof []byte) bool {
			v := transcript.NewVerifier("test", proof)
			z, value := Verify(v, n, claim)
			if v.Done() != nil {
				return false
			}
			var want koala.Ext
			for i, f := range factors {
				m := mle.Log(f[0].at.Len())
				y := z[n-m:]
				k := len(terms[i].Point)
				x := terms[i].Coef.Mul(mle.EqAt(terms[i].Point, y[:k])).Mul(mle.EvalVec(f[0].at, y)).Mul(mle.EvalVec(f[1].at, y))
				for range n - m {
					x = x.Scale(koala.Half)
				}
				want = want.Add(x)
			}
			return value == want
		}
		if !check(sum, p.Proof()) {
			t.Fatalf("honest proof of %d variables refused", n)
		}
		for _, f := range factors {
			for _, v := range f {
				if v.table.Value() != mle.EvalVec(v.at, point[n-mle.Log(v.at.Len()):]) {
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
