package koala

// Uints sets dst[i] to the representative in [0, p) of x[i] - less: a plain
// number, not an element, though it is given as one.
func Uints(dst, x []Elem, less Elem) {
	Fill(dst, Elem(less.Neg().Uint()))
	AddTimes(dst, x, 1) // the word 1 is 2^-32, which undoes Montgomery form
}
