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

// near elements, with their twiddles, stay in the nearest cache.
const near = 1 << 11

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
	encode(dst, src, bits.TrailingZeros(uint(n/m)))
}

// encode makes a block of 2^rate len(src) elements, of four blocks if it is large,
// so that all passes over each are done before it leaves the cache. Much of what is
// encoded only fills a column up and is zero.
func encode(dst, src []Elem, rate int) {
	switch quarter := len(src) / 4; {
	case zero(src):
		clear(dst)
	case len(dst) <= near || quarter == 0:
		passes(dst, first(dst, src, rate))
	default:
		for i := range 4 {
			at := i * quarter
			encode(dst[at<<rate:(at+quarter)<<rate], src[at:at+quarter], rate)
		}
		passes(dst, bits.TrailingZeros(uint(quarter<<rate)))
	}
}

// zero reports whether all elements are.
func zero(v []Elem) bool {
	for ; len(v) >= 8; v = v[8:] {
		if v[0]|v[1]|v[2]|v[3]|v[4]|v[5]|v[6]|v[7] != 0 {
			return false
		}
	}
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// EncodeAt sets dst[r][j] to element indices[j] of the encoding of src[r] to 2^k
// elements, for many src of one length.
func EncodeAt(dst, src [][]Elem, k int, indices []int) {
	if len(dst) != len(src) {
		panic("koala: not as many values as polynomials")
	}
	for r, s := range src {
		if len(dst[r]) != len(indices) || len(s) != len(src[0]) || len(s) == 0 || len(s)&(len(s)-1) != 0 || len(s) > 1<<k {
			panic(fmt.Sprintf("koala: encode %d to 2^%d at %d indices", len(s), k, len(indices)))
		}
	}
	for _, i := range indices {
		if i < 0 || i>>k > 0 {
			panic("koala: no such index")
		}
	}
	if fastEncodeAt(dst, src, k, indices) {
		return
	}
	code := make([]Elem, 1<<k)
	for r, s := range src {
		Encode(code, s)
		for j, i := range indices {
			dst[r][j] = code[i]
		}
	}
}

// first does the first passes and returns how many. In bit-reversed order each
// coefficient is followed by 2^rate-1 zeros, so that so many passes only repeat
// it.
func first(dst, src []Elem, rate int) int {
	if k := fastFirst(dst, src, rate); k > 0 {
		return k
	}
	for b, x := range src {
		d := dst[b<<rate : (b+1)<<rate]
		for i := range d {
			d[i] = x
		}
	}
	return rate
}

// passes joins blocks of 2^k elements until all are one.
func passes(v []Elem, k int) {
	for ; 2<<k < len(v) && fastTwoPasses(v, k); k += 2 {
	}
	for ; 1<<k < len(v); k++ {
		half, w := 1<<k, twiddle(k)
		for at := 0; at < len(v); at += 2 * half {
			butterfly(v[at:at+half], v[at+half:at+2*half], w)
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
