package matrix

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func random(r *rand.Rand, rows, cols, gap int) Matrix {
	m := Matrix{rows, cols, cols + gap, make([]int32, rows*(cols+gap))}
	for i := range m.Data {
		m.Data[i] = int32(r.Uint32())
	}
	return m
}

// TestMul compares with the definition, in shapes about what the kernels do at
// once, and checks that nothing else is written.
func TestMul(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, rows := range []int{0, 1, 2, 3, 4, 5, 9} {
		for _, inner := range []int{0, 1, 2, 33} {
			for _, cols := range []int{0, 1, 6, 15, 16, 17, 31, 32, 48, 63, 64, 65, 130} {
				for _, gap := range []int{0, 3} {
					a, b, c := random(r, rows, inner, gap), random(r, inner, cols, 2*gap), random(r, rows, cols, 3*gap)
					want := slices.Clone(c.Data)
					for i := range rows {
						for j := range cols {
							var s int32
							for k := range inner {
								s += a.Data[i*a.Stride+k] * b.Data[k*b.Stride+j]
							}
							want[i*c.Stride+j] = s
						}
					}
					Mul(c, a, b)
					if !slices.Equal(c.Data, want) {
						t.Fatalf("%d by %d by %d, gap %d", rows, inner, cols, gap)
					}
				}
			}
		}
	}
}

// TestBounds refuses what kernels would read or write beyond.
func TestBounds(t *testing.T) {
	data := make([]int32, 100)
	m := func(rows, cols, stride, n int) Matrix { return Matrix{rows, cols, stride, data[:n:n]} }
	whole := m(4, 4, 4, 16)
	for i, bad := range [][3]Matrix{
		{m(4, 4, 4, 15), whole, whole},
		{whole, m(4, 4, 4, 15), whole},
		{whole, whole, m(4, 4, 4, 15)},
		{m(4, 4, 3, 16), whole, whole},
		{whole, m(4, 3, 4, 16), whole},
		{m(3, 4, 4, 16), whole, whole},
		{m(4, 5, 5, 20), whole, whole},
		{m(-1, 4, 4, 16), m(-1, 4, 4, 16), whole},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("case %d is not refused", i)
				}
			}()
			Mul(bad[0], bad[1], bad[2])
		}()
	}
}

func BenchmarkMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{64, 128, 128}, {64, 128, 512}, {64, 512, 128}, {64, 32, 64}, {128, 384, 1536}, {1, 1024, 1024}} {
		x, y, z := random(r, s[0], s[1], 0), random(r, s[1], s[2], 0), random(r, s[0], s[2], 0)
		b.Run(fmt.Sprint(s[0], "x", s[1], "x", s[2]), func(b *testing.B) {
			for b.Loop() {
				Mul(z, x, y)
			}
			b.ReportMetric(float64(s[0]*s[1]*s[2])*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "products/ns")
		})
	}
}
