package koala

// Uints sets dst[i] to the representative in [0, p) of x[i]: a plain number,
// not an element, though it is given as one.
func Uints(dst, x []Elem) {
	clear(dst)
	AddTimes(dst, x, 1) // the word 1 is 2^-32, which undoes Montgomery form
}
