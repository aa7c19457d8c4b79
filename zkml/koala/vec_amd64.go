package koala

import "golang.org/x/sys/cpu"

// The kernels are chosen once. They work on multiples of 16 (AVX-512) or 8
// (AVX2) elements; what is left over is done by the portable code, which gives
// the same words.
var (
	hasAVX2   = cpu.X86.HasAVX2
	hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL
)

//go:noescape
func mulVec512(dst, a, b *Vec, n int)

//go:noescape
func scaleVec512(dst, a *Vec, x *Ext, n int)

//go:noescape
func addProduct512(dst, a *Vec, x *Ext, n int)

//go:noescape
func fold512(dst, lo, hi *Vec, x *Ext, n int)

//go:noescape
func dot512(sum *[4][16]Elem, a, b *Vec, n int)

//go:noescape
func dotElems512(sum *sums, a *Vec, b *Elem, n int)

//go:noescape
func addScaled512(dst *Vec, a *Elem, x *Ext, n int)

//go:noescape
func subFrom512(dst *Vec, k *Ext, a *Elem, n int)

// factors are coordinates of up to four factors: the first ones, and so on.
type factors [4][4]uint64

//go:noescape
func combine2(dst *Vec, k *Ext, x *factors, a *[4]*Elem, n, keep int)

//go:noescape
func combine4(dst *Vec, k *Ext, x *factors, a *[4]*Elem, n, keep int)

//go:noescape
func quadraticSums512(sum *[2]sums, e *Vec, lo, hi *[4]Vec, n int, one bool)

//go:noescape
func addFractions512(p, q, p0, q0, p1, q1 *Vec, n int)

//go:noescape
func addInverse512(p, q *Vec, num *Elem, den *Vec, b *Ext, y *Elem, n int)

//go:noescape
func pairs512(p, q *Vec, sum, product, a, b *Ext, x, y *Elem, n int)

//go:noescape
func mulElems512(dst, a, b *Elem, n int)

//go:noescape
func addElems512(dst, a, b *Elem, n int)

//go:noescape
func subElems512(dst, a, b *Elem, n int)

//go:noescape
func mulVec256(dst, a, b *Vec, n int)

//go:noescape
func scaleVec256(dst, a *Vec, x *Ext, n int)

//go:noescape
func addProduct256(dst, a *Vec, x *Ext, n int)

//go:noescape
func fold256(dst, lo, hi *Vec, x *Ext, n int)

//go:noescape
func dot256(sum *[4][16]Elem, a, b *Vec, n int)

//go:noescape
func dotElems256(sum *[4][2][8]uint64, a *Vec, b *Elem, n int)

//go:noescape
func addScaled256(dst *Vec, a *Elem, x *Ext, n int)

//go:noescape
func butterfly256(a, b, w *Elem, n int)

//go:noescape
func mulElems256(dst, a, b *Elem, n int)

//go:noescape
func addElems256(dst, a, b *Elem, n int)

//go:noescape
func subElems256(dst, a, b *Elem, n int)

// The functions below do a multiple of 16 elements from the beginning and
// return how many.

func fast(n int) int {
	if !hasAVX512 && !hasAVX2 {
		return 0
	}
	return n &^ 15
}

func fastMulVec(dst, a, b *Vec) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		mulVec512(dst, a, b, n)
	default:
		mulVec256(dst, a, b, n)
	}
	return n
}

func fastScaleVec(dst, a *Vec, x *Ext) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		scaleVec512(dst, a, x, n)
	default:
		scaleVec256(dst, a, x, n)
	}
	return n
}

func fastAddProduct(dst, a *Vec, x *Ext) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		addProduct512(dst, a, x, n)
	default:
		addProduct256(dst, a, x, n)
	}
	return n
}

func fastFold(dst, lo, hi *Vec, x *Ext) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		fold512(dst, lo, hi, x, n)
	default:
		fold256(dst, lo, hi, x, n)
	}
	return n
}

func fastDot(a, b *Vec) (Ext, int) {
	n := fast(len(a[0]))
	if n == 0 {
		return Ext{}, 0
	}
	var sum [4][16]Elem
	if hasAVX512 {
		dot512(&sum, a, b, n)
	} else {
		dot256(&sum, a, b, n)
	}
	return Ext{sumElems(sum[0][:]), sumElems(sum[1][:]), sumElems(sum[2][:]), sumElems(sum[3][:])}, n
}

func fastDotElems(a *Vec, b []Elem) (Ext, int) {
	n := fast(len(a[0])) &^ 31
	if n == 0 {
		return Ext{}, 0
	}
	var s sums
	if hasAVX512 {
		dotElems512(&s, a, &b[0], n)
	} else {
		var halves [4][2][8]uint64 // the low ones by coordinate and lane, and the high ones
		dotElems256(&halves, a, &b[0], n)
		for c := range s {
			var low uint64
			for i, x := range halves[c][0] {
				low += x
				s[c][1] += halves[c][1][i]
			}
			s[c][0] = low + s[c][1]<<32
		}
	}
	return s.reduce(), n
}

// sums is sums of products by coordinate: of all modulo 2^64, and of their high
// halves.
type sums [4][2]uint64

func (s *sums) reduce() Ext {
	of := func(all, high uint64) Elem {
		// The sum of the low halves is in a word, as that of the high ones is.
		low := all - high<<32
		return reduce(low % P).Add(Elem(high % P))
	}
	return Ext{of(s[0][0], s[0][1]), of(s[1][0], s[1][1]), of(s[2][0], s[2][1]), of(s[3][0], s[3][1])}
}

func fastQuadraticSums(e *Vec, lo, hi *[4]Vec) (zero, top Ext, done int) {
	n := fast(len(e[0]))
	if n == 0 || !hasAVX512 {
		return Ext{}, Ext{}, 0
	}
	var sum [2]sums
	quadraticSums512(&sum, e, lo, hi, n, lo[3].Len() == 0)
	return sum[0].reduce(), sum[1].reduce(), n
}

func fastAddFractions(p, q, p0, q0, p1, q1 *Vec) int {
	n := fast(len(p[0]))
	switch {
	case n == 0:
	case hasAVX512:
		addFractions512(p, q, p0, q0, p1, q1, n)
	default:
		mulVec256(p, p0, q1, n)
		mulVec256(q, p1, q0, n)
		for c := range p {
			addElems256(&p[c][0], &p[c][0], &q[c][0], n)
		}
		mulVec256(q, q0, q1, n)
	}
	return n
}

func fastAddInverse(p, q *Vec, num []Elem, den *Vec, b *Ext, y []Elem) int {
	n := fast(len(y))
	if n == 0 || !hasAVX512 {
		return 0
	}
	var first *Elem
	if num != nil {
		first = &num[0]
	}
	addInverse512(p, q, first, den, b, &y[0], n)
	return n
}

func fastPairs(p, q *Vec, sum, product, a, b *Ext, x, y []Elem) int {
	n := fast(len(x))
	if n == 0 || !hasAVX512 {
		return 0
	}
	pairs512(p, q, sum, product, a, b, &x[0], &y[0], n)
	return n
}

func fastAddScaled(dst *Vec, a []Elem, x *Ext) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		addScaled512(dst, &a[0], x, n)
	default:
		addScaled256(dst, &a[0], x, n)
	}
	return n
}

func fastSubFrom(dst *Vec, k *Ext, a []Elem) int {
	n := fast(len(dst[0]))
	switch {
	case n == 0:
	case hasAVX512:
		subFrom512(dst, k, &a[0], n)
	default:
		d := dst.Slice(0, n)
		d.Fill(*k)
		subElems256(&d[0][0], &d[0][0], &a[0], n)
	}
	return n
}

// fastCombine does terms until none are left.
func fastCombine(dst *Vec, k *Ext, terms []Scaled) int {
	n := fast(len(dst[0]))
	if n == 0 || !hasAVX512 {
		return 0
	}
	keep := 0 // 1 for each lane of dst that is added to
	for {
		m := min(len(terms), 4)
		var x factors
		var a [4]*Elem
		for i := range a {
			// What is not there is something times zero.
			a[i] = &dst[0][0]
			if i < m {
				a[i] = &terms[i].A[0]
				t := terms[i].X
				x[0][i], x[1][i], x[2][i], x[3][i] = uint64(t.A), uint64(t.B), uint64(t.C), uint64(t.D)
			}
		}
		if m <= 2 {
			combine2(dst, k, &x, &a, n, keep)
		} else {
			combine4(dst, k, &x, &a, n, keep)
		}
		if terms = terms[m:]; len(terms) == 0 {
			return n
		}
		keep = 1<<16 - 1
	}
}

func fastMulElems(dst, a, b []Elem) int {
	n := fast(len(dst))
	switch {
	case n == 0:
	case hasAVX512:
		mulElems512(&dst[0], &a[0], &b[0], n)
	default:
		mulElems256(&dst[0], &a[0], &b[0], n)
	}
	return n
}

func fastAddElems(dst, a, b []Elem) int {
	n := fast(len(dst))
	switch {
	case n == 0:
	case hasAVX512:
		addElems512(&dst[0], &a[0], &b[0], n)
	default:
		addElems256(&dst[0], &a[0], &b[0], n)
	}
	return n
}

func fastSubElems(dst, a, b []Elem) int {
	n := fast(len(dst))
	switch {
	case n == 0:
	case hasAVX512:
		subElems512(&dst[0], &a[0], &b[0], n)
	default:
		subElems256(&dst[0], &a[0], &b[0], n)
	}
	return n
}
