package koala

import "testing"

// TestScalePaths is TestPaths for multiples by one base element.
func TestScalePaths(t *testing.T) {
	avx2, avx512 := hasAVX2, hasAVX512
	defer func() { hasAVX2, hasAVX512 = avx2, avx512 }()
	both := func(t *testing.T) {
		TestInts(t)
		TestAddTimes(t)
	}
	hasAVX512 = false
	t.Run("avx2", both)
	hasAVX2 = false
	t.Run("portable", both)
}
