package koala

// Kernels take the constant and the constant divided by p mod 2^32.

//go:noescape
func scaleInts512(dst *Elem, x *int32, c Elem, q uint32, n int)

//go:noescape
func scaleInts256(dst *Elem, x *int32, c Elem, q uint32, n int)

//go:noescape
func addTimes512(dst, a *Elem, c Elem, q uint32, n int)

//go:noescape
func addTimes256(dst, a *Elem, c Elem, q uint32, n int)

func fastScaleInts(dst []Elem, x []int32, c Elem) int {
	n, q := fast(len(dst)), uint32(c)*inverseP
	switch {
	case n == 0:
	case hasAVX512:
		scaleInts512(&dst[0], &x[0], c, q, n)
	default:
		scaleInts256(&dst[0], &x[0], c, q, n)
	}
	return n
}

func fastAddTimes(dst, a []Elem, f Elem) int {
	n, q := fast(len(dst)), uint32(f)*inverseP
	switch {
	case n == 0:
	case hasAVX512:
		addTimes512(&dst[0], &a[0], f, q, n)
	default:
		addTimes256(&dst[0], &a[0], f, q, n)
	}
	return n
}
