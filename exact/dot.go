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

// weigh sets acc[c] to the sum over all rows r of e[r] times column c of row r.
// Rows are stored in pairs, the two elements of a column next to each other:
// column c of row r is v[r/2*stride+2*c+r%2]. The length of e is even.
func weigh(acc []int32, e, v []int16, stride int) {
	c := 0
	if fastWeigh != nil && len(e) > 0 {
		for ; c+16 <= len(acc); c += 16 {
			fastWeigh((*[16]int32)(acc[c:]), e, v[2*c:], stride)
		}
	}
	if c == len(acc) {
		return
	}
	acc, v = acc[c:], v[2*c:]
	clear(acc)
	for r := 0; r < len(e); r += 2 {
		e0, e1 := int32(e[r]), int32(e[r+1])
		pair := v[r/2*stride:][:2*len(acc)]
		for c := range acc {
			acc[c] += e0*int32(pair[2*c]) + e1*int32(pair[2*c+1])
		}
	}
}
