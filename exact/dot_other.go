//go:build !amd64

package exact

// Fast versions of eight dot products and sixteen weighted sums; nil where
// there are none.
var (
	fastDots  func(y *[8]int32, x, w []int16, stride int)
	fastWeigh func(acc *[16]int32, e, v []int16, stride int)
)
