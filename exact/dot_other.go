//go:build !amd64

package exact

// fastDots computes eight dot products; nil where there is none.
var fastDots func(y *[8]int32, x, w []int16, stride int)
