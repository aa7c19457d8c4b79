package koala

//go:noescape
func dotRows512(dst, a *Vec, b *Elem, cols, rows int)

// maxCols bounds the columns of dotRows512, whose sums must stay below 2^44.
const maxCols = 1 << 13

// fastDotRows does some rows from the first on and returns how many.
func fastDotRows(dst, a *Vec, b []Elem) int {
	rows, cols := len(dst[0])&^1, len(a[0])
	if !hasAVX512 || rows == 0 || cols == 0 || cols%32 != 0 || cols > maxCols {
		return 0
	}
	dotRows512(dst, a, &b[0], cols, rows)
	return rows
}
