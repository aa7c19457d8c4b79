package koala

import (
	"fmt"
	"math/bits"
	"sync"
)

// twiddles[k] holds, for the pass that joins blocks of 2^k elements, the
// powers 0 to 2^k-1 of Root(k+1).
var twiddles [TwoAdicity]struct {
	once sync.Once
	w    []Elem
}

func twiddle(k int) []Elem {
	t := &twiddles[k]
	t.once.Do(func() {
		t.w = make([]Elem, 1<<k)
		r := Root(k + 1)
		x := One
		for i := range t.w {
			t.w[i] = x
			x = x.Mul(r)
		}
	})
	return t.w
}

// Encode evaluates a polynomial on all powers of Root(k) for len(dst) = 2^k:
// dst[i] = sum over b of src[b] Root(k)^(i rev(b)), where rev reverses the
// bits of an index of src. So coefficient rev(b) is src[b]: the first half of
// src holds the even coefficients. len(src) is a power of two that divides
// len(dst). It is the fast Fourier transform with decimation in time (Cooley
// and Tukey 1965).
func Encode(dst, src []Elem) {
	n, m := len(dst), len(src)
	if n == 0 || n&(n-1) != 0 || m == 0 || m&(m-1) != 0 || m > n || n > 1<<TwoAdicity {
		panic(fmt.Sprintf("koala: encode %d to %d", m, n))
	}
	// In bit-reversed order each coefficient is followed by n/m - 1 zeros, so
	// the first passes only repeat it.
	rate := n / m
	if rate == 4 {
		for b, x := range src {
			d := dst[4*b : 4*b+4 : 4*b+4]
			d[0], d[1], d[2], d[3] = x, x, x, x
		}
	} else {
		for b, x := range src {
			for i := range rate {
				dst[b*rate+i] = x
			}
		}
	}
	for k := bits.TrailingZeros(uint(rate)); 1<<k < n; k++ {
		w := twiddle(k)
		half := 1 << k
		if half < 16 && fastShortPass(dst, k, w) {
			continue
		}
		for at := 0; at < n; at += 2 * half {
			butterfly(dst[at:at+half], dst[at+half:at+2*half], w)
		}
	}
}

// butterfly sets a, b = a + w b, a - w b.
func butterfly(a, b, w []Elem) {
	b, w = b[:len(a)], w[:len(a)]
	for i := fastButterfly(a, b, w); i < len(a); i++ {
		t := b[i].Mul(w[i])
		a[i], b[i] = a[i].Add(t), a[i].Sub(t)
	}
}
