package mle

import (
	"math/rand/v2"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
)

func ext(r *rand.Rand) koala.Ext {
	w := func() koala.Elem { return koala.FromInt(r.Int64()) }
	return koala.Ext{A: w(), B: w(), C: w(), D: w()}
}

func point(r *rand.Rand, n int) []koala.Ext {
	z := make([]koala.Ext, n)
	for i := range z {
		z[i] = ext(r)
	}
	return z
}

// eval is the definition: the sum over the cube.
func eval(n int, z []koala.Ext, f func(i int) koala.Ext) koala.Ext {
	var s koala.Ext
	for i := range 1 << n {
		p := f(i)
		for k, x := range z {
			if i>>(n-1-k)&1 == 0 {
				x = koala.ExtOne.Sub(x)
			}
			p = p.Mul(x)
		}
		s = s.Add(p)
	}
	return s
}

func number(n int) koala.Ext { return koala.Lift(koala.FromInt(int64(n))) }

func TestExtensions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	bit := func(b bool) koala.Ext {
		if b {
			return koala.ExtOne
		}
		return koala.Ext{}
	}
	for n := range 7 {
		z, y := point(r, n), point(r, n)
		table, vec := make([]koala.Elem, 1<<n), koala.NewVec(1<<n)
		for i := range table {
			table[i] = koala.FromInt(r.Int64())
			vec.Set(i, ext(r))
		}
		if Eval(table, z) != eval(n, z, func(i int) koala.Ext { return koala.Lift(table[i]) }) {
			t.Error("Eval")
		}
		if EvalVec(vec, z) != eval(n, z, vec.At) {
			t.Error("EvalVec")
		}
		scale := ext(r)
		eq := Eq(z, scale)
		for i := range 1 << n {
			if eq.At(i) != EqIndex(z, i).Mul(scale) {
				t.Errorf("Eq at %d", i)
			}
		}
		if EqAt(z, y) != eval(n, y, func(i int) koala.Ext { return EqIndex(z, i) }) {
			t.Error("EqAt")
		}
		for below := range 1<<n + 1 {
			if Below(below, z) != eval(n, z, func(i int) koala.Ext { return bit(i < below) }) {
				t.Errorf("Below %d of %d", below, 1<<n)
			}
		}
		if Identity(z) != eval(n, z, number) {
			t.Error("Identity")
		}
		both := append(append([]koala.Ext(nil), z...), y...)
		if NotAfter(z, y) != eval(2*n, both, func(i int) koala.Ext { return bit(i&(1<<n-1) <= i>>n) }) {
			t.Error("NotAfter")
		}
	}
	for n, want := range map[int]int{1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 64: 6, 65: 7} {
		if Log(n) != want {
			t.Errorf("Log(%d) = %d", n, Log(n))
		}
	}
}

func TestPoints(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for n := range 9 {
		z := make([]koala.Ext, n)
		for i := range z {
			w := func() koala.Elem { return koala.FromInt(r.Int64()) }
			z[i] = koala.Ext{A: w(), B: w(), C: w(), D: w()}
		}
		p := NewPoints(z)
		for i := range 1 << n {
			if p.At(i) != EqIndex(z, i) {
				t.Fatalf("%d variables, index %d", n, i)
			}
		}
	}
}
