package exact

// Dot products of 16-bit integers with 32-bit sums. Check has proven that no
// partial sum can overflow, in any order, so implementations are free in
// theirs and still equal.

// dots sets y[j] to the dot product of x and w[j*stride:][:len(x)], for all j
// of y.
func dots(y []int32, x, w []int16, stride int) {
	j := 0
	if fastDots != nil && len(x)%16 == 0 && len(x) > 0 {
		for ; j+8 <= len(y); j += 8 {
			fastDots((*[8]int32)(y[j:]), x, w[j*stride:], stride)
		}
	}
	for ; j < len(y); j++ {
		y[j] = dot(x, w[j*stride:][:len(x)])
	}
}

// dot sums in four chains to keep the processor's units busy.
func dot(a, b []int16) int32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 int32
	for len(a) >= 8 {
		x, y := a[:8:8], b[:8:8]
		s0 += int32(x[0])*int32(y[0]) + int32(x[4])*int32(y[4])
		s1 += int32(x[1])*int32(y[1]) + int32(x[5])*int32(y[5])
		s2 += int32(x[2])*int32(y[2]) + int32(x[6])*int32(y[6])
		s3 += int32(x[3])*int32(y[3]) + int32(x[7])*int32(y[7])
		a, b = a[8:], b[8:]
	}
	for i, e := range a {
		s0 += int32(e) * int32(b[i])
	}
	return s0 + s1 + s2 + s3
}

// weigh adds e times v[c] to acc[c] for all c.
func weigh(acc []int32, v []int16, e int32) {
	v = v[:len(acc)]
	for c, x := range v {
		acc[c] += e * int32(x)
	}
}
