package koala

import (
	"math/rand/v2"
	"testing"
)

func TestDotRows(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	check := func(a Vec, b []Elem, rows int) {
		t.Helper()
		cols := a.Len()
		dst := NewVec(rows)
		DotRows(dst, a, b)
		for i := range rows {
			var want Ext
			for k := range cols {
				want = want.Add(a.At(k).Scale(b[i*cols+k]))
			}
			if dst.At(i) != want {
				t.Fatalf("%d rows of %d: row %d", rows, cols, i)
			}
		}
	}
	for _, cols := range []int{0, 1, 16, 31, 32, 33, 64, 96, 128, 1024} {
		for rows := range 6 {
			a, b := NewVec(cols), make([]Elem, rows*cols)
			for i := range cols {
				a.Set(i, edgeExt(r))
			}
			for i := range b {
				b[i] = edge(r)
			}
			check(a, b, rows)
		}
	}
	// As far as the sums may go, and beyond.
	for _, cols := range []int{1 << 13, 1 << 14, 1 << 20} {
		a, b := NewVec(cols), make([]Elem, 2*cols)
		a.Fill(Ext{P - 1, P - 1, P - 1, P - 1})
		for i := range b {
			b[i] = P - 1
		}
		check(a, b, 2)
	}
}

func BenchmarkDotRows(b *testing.B) {
	dst, a, m := NewVec(64), NewVec(128), make([]Elem, 64*128)
	for b.Loop() {
		DotRows(dst, a, m)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64/128, "ns/element")
}
