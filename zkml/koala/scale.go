package koala

// Multiples by one base element, of integers and of elements.

// FromInts sets dst = x, of the same length, for |x| < p.
func FromInts(dst []Elem, x []int32) { ScaleInts(dst, x, One) }

// ScaleInts sets dst = f x, x being of the same length, for |x| < p.
func ScaleInts(dst []Elem, x []int32, f Elem) {
	x = x[:len(dst)]
	// What the residue of an integer is to be multiplied by before it is
	// reduced: 2^64 f mod p.
	c := f.Mul(rSquared)
	for i := fastScaleInts(dst, x, c); i < len(dst); i++ {
		u := uint32(x[i])
		dst[i] = reduce(uint64(min(u, u+P)) * uint64(c))
	}
}

// AddTimes sets dst = dst + f a, of the same length. They must not overlap.
func AddTimes(dst, a []Elem, f Elem) {
	a = a[:len(dst)]
	for i := fastAddTimes(dst, a, f); i < len(dst); i++ {
		dst[i] = dst[i].Add(a[i].Mul(f))
	}
}
