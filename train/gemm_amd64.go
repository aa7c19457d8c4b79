package train

import "golang.org/x/sys/cpu"

func machineKernels() []namedKernel {
	var ks []namedKernel
	if cpu.X86.HasAVX512F {
		ks = append(ks, namedKernel{"avx512", func(k int, a, b, c []float32, ldc int) {
			tileBounds(k, a, b, c, ldc)
			if k > 0 {
				tile8x32AVX512(k, &a[0], &b[0], &c[0], ldc)
			}
		}})
	}
	if cpu.X86.HasAVX2 {
		ks = append(ks, namedKernel{"avx2", func(k int, a, b, c []float32, ldc int) {
			tileBounds(k, a, b, c, ldc)
			if k == 0 {
				return
			}
			for i := 0; i < tileRows; i += 4 {
				for j := 0; j < tileCols; j += 16 {
					tile4x16AVX2(k, &a[i], &b[j], &c[i*ldc+j], ldc)
				}
			}
		}})
	}
	return ks
}

// tileBounds makes the compiler's bounds checks speak for the assembly.
func tileBounds(k int, a, b, c []float32, ldc int) {
	_ = a[:k*tileRows]
	_ = b[:k*tileCols]
	_ = c[:(tileRows-1)*ldc+tileCols]
}

// tile8x32AVX512 is the kernel on packed panels; k > 0.
//
//go:noescape
func tile8x32AVX512(k int, a, b, c *float32, ldc int)

// tile4x16AVX2 computes a 4 x 16 corner of the tile; the panels keep their
// strides of 8 and 32 elements. k > 0.
//
//go:noescape
func tile4x16AVX2(k int, a, b, c *float32, ldc int)
