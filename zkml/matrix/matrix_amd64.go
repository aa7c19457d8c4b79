package matrix

import "golang.org/x/sys/cpu"

var (
	hasAVX2   = cpu.X86.HasAVX2
	hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasBMI2
)

// Rows that the kernels do at once, and columns.
const (
	rows    = 4
	cols512 = 64
	cols256 = 16
)

// mul512 sets four rows of c, cStride elements apart, to the products of four
// rows of a, aStride apart, and the first 1 to 64 columns of b, which has k > 0
// rows.
//
//go:noescape
func mul512(c, a, b *int32, k, cStride, aStride, bStride, cols int)

// mul256 is mul512 for 16 columns.
//
//go:noescape
func mul256(c, a, b *int32, k, cStride, aStride, bStride int)

// fastMul computes columns of the product from the first on and returns how
// many. No dimension is zero.
func fastMul(c, a, b Matrix) int {
	width, done := cols512, c.Cols
	switch {
	case hasAVX512:
	case hasAVX2:
		width, done = cols256, c.Cols/cols256*cols256
	default:
		return 0
	}
	// Some columns of b stay in the nearest cache while all rows of a pass.
	for j := 0; j < done; j += width {
		for i := 0; i < c.Rows; {
			// Of rows that do not make four, each is done as four that are
			// the same.
			n, cStride, aStride := 1, 0, 0
			if i+rows <= c.Rows {
				n, cStride, aStride = rows, c.Stride, a.Stride
			}
			to, x, y := &c.Data[i*c.Stride+j], &a.Data[i*a.Stride], &b.Data[j]
			if hasAVX512 {
				mul512(to, x, y, a.Cols, cStride, aStride, b.Stride, min(width, done-j))
			} else {
				mul256(to, x, y, a.Cols, cStride, aStride, b.Stride)
			}
			i += n
		}
	}
	return done
}
