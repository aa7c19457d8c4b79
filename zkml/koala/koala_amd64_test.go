package koala

import "testing"

// TestPaths repeats the tests of everything that has kernels with fewer of
// them: all are checked against the definitions, so they give the same words.
func TestPaths(t *testing.T) {
	avx2, avx512 := hasAVX2, hasAVX512
	defer func() { hasAVX2, hasAVX512 = avx2, avx512 }()
	for _, c := range []struct {
		name         string
		avx2, avx512 bool
	}{{"portable", false, false}, {"avx2", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			if c.avx2 && !avx2 {
				t.Skip("not on this machine")
			}
			hasAVX2, hasAVX512 = c.avx2, c.avx512
			TestVectors(t)
			TestLongDot(t)
			TestEncode(t)
			TestEncodeAt(t)
			TestDotRows(t)
		})
	}
}

func BenchmarkMulVecAVX2(b *testing.B) {
	if !hasAVX2 {
		b.Skip("not on this machine")
	}
	avx512 := hasAVX512
	defer func() { hasAVX512 = avx512 }()
	hasAVX512 = false
	BenchmarkMulVec(b)
}
