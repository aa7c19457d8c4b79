package exact

import "golang.org/x/sys/cpu"

// fastDots computes eight dot products of len(x) elements, a positive multiple
// of 16; nil where there is none. Tests clear it.
var fastDots = pickDots()

func pickDots() func(y *[8]int32, x, w []int16, stride int) {
	if !cpu.X86.HasAVX2 {
		return nil
	}
	return func(y *[8]int32, x, w []int16, stride int) {
		_ = w[:7*stride+len(x)]
		dots8AVX2(y, &x[0], &w[0], len(x), stride)
	}
}

// dots8AVX2 sets y[j] to the dot product of x[:n] and w[j*stride:][:n]; n is
// a positive multiple of 16.
//
//go:noescape
func dots8AVX2(y *[8]int32, x, w *int16, n, stride int)
