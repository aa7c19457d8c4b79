package matrix

import "testing"

// TestPaths repeats the test with fewer kernels.
func TestPaths(t *testing.T) {
	avx2, avx512 := hasAVX2, hasAVX512
	defer func() { hasAVX2, hasAVX512 = avx2, avx512 }()
	hasAVX512 = false
	t.Run("avx2", TestMul)
	hasAVX2 = false
	t.Run("portable", TestMul)
}
