package exact

import "golang.org/x/sys/cpu"

// Fast versions of eight dot products (of a positive multiple of 16 elements)
// and sixteen weighted sums (of a positive even number of rows); nil where
// there are none. Tests clear them.
var (
	fastDots  func(y *[8]int32, x, w []int16, stride int)
	fastWeigh func(acc *[16]int32, e, v []int16, stride int)
)

func init() {
	if !cpu.X86.HasAVX2 {
		return
	}
	// The slice expressions check the bounds that assembly cannot.
	fastDots = func(y *[8]int32, x, w []int16, stride int) {
		_ = w[:7*stride+len(x)]
		dots8AVX2(y, &x[0], &w[0], len(x), stride)
	}
	fastWeigh = func(acc *[16]int32, e, v []int16, stride int) {
		_ = v[:(len(e)/2-1)*stride+32]
		weigh16AVX2(acc, &e[0], &v[0], len(e)/2, stride)
	}
}

// dots8AVX2 sets y[j] to the dot product of x[:n] and w[j*stride:][:n]; n is
// a positive multiple of 16.
//
//go:noescape
func dots8AVX2(y *[8]int32, x, w *int16, n, stride int)

// weigh16AVX2 sets acc[c] to the sum over p < pairs of
// e[2*p]*v[p*stride+2*c] + e[2*p+1]*v[p*stride+2*c+1]; pairs > 0.
//
//go:noescape
func weigh16AVX2(acc *[16]int32, e, v *int16, pairs, stride int)
