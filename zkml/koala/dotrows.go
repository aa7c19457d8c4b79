package koala

// DotRows sets dst[i] to the sum of a[k] b[i a.Len()+k] for base elements b: a
// matrix of dst.Len() rows times a vector.
func DotRows(dst, a Vec, b []Elem) {
	rows, cols := dst.same(dst, dst), a.same(a, a)
	b = b[:rows*cols]
	for i := fastDotRows(&dst, &a, b); i < rows; i++ {
		dst.Set(i, DotElems(a, b[i*cols:(i+1)*cols]))
	}
}
