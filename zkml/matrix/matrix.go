// Package matrix multiplies matrices of 32-bit integers modulo 2^32. Where all
// sums are known to be below 2^31 in magnitude, as those of programs of package
// exact are, these are the products of the integers.
package matrix

// Matrix has element (i, j) at Data[i*Stride+j].
type Matrix struct {
	Rows, Cols, Stride int
	Data               []int32
}

// Row is the elements of row i.
func (m Matrix) Row(i int) []int32 { return m.Data[i*m.Stride:][:m.Cols] }

// check panics if elements lie outside of the data or rows overlap: kernels do
// not check bounds.
func (m Matrix) check() {
	if m.Rows < 0 || m.Cols < 0 || m.Stride < m.Cols {
		panic("matrix: rows overlap")
	}
	if m.Rows > 0 {
		_ = m.Data[:(m.Rows-1)*m.Stride+m.Cols]
	}
}

// Part is the matrix of rows from to to-1, sharing memory.
func (m Matrix) Part(from, to int) Matrix {
	return Matrix{to - from, m.Cols, m.Stride, m.Data[from*m.Stride:]}
}

// Columns is the matrix of columns from to to-1, sharing memory.
func (m Matrix) Columns(from, to int) Matrix {
	return Matrix{m.Rows, to - from, m.Stride, m.Data[from:]}
}

// Transposed returns a matrix with the rows of m as its columns.
func (m Matrix) Transposed() Matrix {
	t := Matrix{m.Cols, m.Rows, m.Rows, make([]int32, m.Rows*m.Cols)}
	for i := range m.Rows {
		for j, x := range m.Row(i) {
			t.Data[j*t.Stride+i] = x
		}
	}
	return t
}

// Mul sets c = a b. The memory of c must not overlap that of a or b; between its
// rows it stays as it is.
func Mul(c, a, b Matrix) {
	if c.Rows != a.Rows || c.Cols != b.Cols || a.Cols != b.Rows {
		panic("matrix: shapes do not fit")
	}
	c.check()
	a.check()
	b.check()
	if a.Rows == 0 || a.Cols == 0 || b.Cols == 0 {
		for i := range c.Rows {
			clear(c.Row(i))
		}
		return
	}
	done := fastMul(c, a, b)
	if done == c.Cols {
		return
	}
	c, b = c.Columns(done, c.Cols), b.Columns(done, b.Cols)
	for i := range c.Rows {
		to := c.Row(i)
		clear(to)
		for k, e := range a.Row(i) {
			if e == 0 {
				continue
			}
			for j, x := range b.Row(k) {
				to[j] += e * x
			}
		}
	}
}
