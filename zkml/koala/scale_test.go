package koala

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var scaleLengths = []int{0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 100}

// TestInts compares conversions with those of single integers, those beyond p
// also: they mean nothing but must be the same words everywhere.
func TestInts(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	edges := []int32{0, 1, -1, P - 1, 1 - P, 1 << 30, -1 << 30, P, -P, math.MaxInt32, math.MinInt32}
	for _, n := range scaleLengths {
		for range 20 {
			f := edge(r)
			x := make([]int32, n)
			for i := range x {
				if x[i] = int32(r.Uint32()); r.IntN(2) == 0 {
					x[i] = edges[r.IntN(len(edges))]
				}
			}
			dst := make([]Elem, n)
			FromInts(dst, x)
			for i, e := range dst {
				if e != FromSmall(x[i]) {
					t.Fatalf("%d of %d: %d", i, n, x[i])
				}
			}
			ScaleInts(dst, x, f)
			for i, e := range dst {
				if e != FromSmall(x[i]).Mul(f) {
					t.Fatalf("%d of %d: %d times %d", i, n, f.Uint(), x[i])
				}
			}
		}
	}
}

func TestAddTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 2))
	for _, n := range scaleLengths {
		for range 20 {
			f := edge(r)
			a, b := make([]Elem, n), make([]Elem, n)
			for i := range n {
				a[i], b[i] = edge(r), edge(r)
			}
			dst := slices.Clone(b)
			AddTimes(dst, a, f)
			for i, e := range dst {
				if e != b[i].Add(f.Mul(a[i])) {
					t.Fatalf("%d of %d", i, n)
				}
			}
		}
	}
}

func BenchmarkFromInts(b *testing.B) {
	x, dst := make([]int32, 1<<12), make([]Elem, 1<<12)
	b.SetBytes(4 << 12)
	for b.Loop() {
		FromInts(dst, x)
	}
}

func BenchmarkAddTimes(b *testing.B) {
	x, dst := make([]Elem, 1<<12), make([]Elem, 1<<12)
	b.SetBytes(4 << 12)
	for b.Loop() {
		AddTimes(dst, x, 5)
	}
}
