package koala

// Vec is a planar vector of extension elements: coordinate c of element i is
// Vec[c][i]. All four slices have the same length.
type Vec [4][]Elem

// Apart is how many elements should be between vectors that are used at the same
// indices, if these are many: the nearest cache finds places by addresses modulo
// 4 KiB, and has few for each.
const Apart = 64

// NewVec returns a vector of n zeros.
func NewVec(n int) Vec { return vecOf(make([]Elem, 3*stride(n)+n), n) }

// vecOf returns the vector of n elements that is in b.
func vecOf(b []Elem, n int) Vec {
	step := stride(n)
	return Vec{b[:n:n], b[step : step+n : step+n], b[2*step : 2*step+n : 2*step+n], b[3*step:]}
}

// Len is the number of elements.
func (v Vec) Len() int { return len(v[0]) }

// At returns element i.
func (v Vec) At(i int) Ext { return Ext{v[0][i], v[1][i], v[2][i], v[3][i]} }

// Set sets element i.
func (v Vec) Set(i int, x Ext) { v[0][i], v[1][i], v[2][i], v[3][i] = x.A, x.B, x.C, x.D }

// Slice returns elements from to to-1, sharing memory.
func (v Vec) Slice(from, to int) Vec {
	return Vec{v[0][from:to:to], v[1][from:to:to], v[2][from:to:to], v[3][from:to:to]}
}

// Clear sets all elements to zero.
func (v Vec) Clear() {
	for c := range v {
		clear(v[c])
	}
}

// Fill sets all elements to x.
func (v Vec) Fill(x Ext) {
	for c, e := range [4]Elem{x.A, x.B, x.C, x.D} {
		Fill(v[c], e)
	}
}

// Copy copies w, of the same length, to v.
func (v Vec) Copy(w Vec) {
	for c := range v {
		copy(v[c], w[c])
	}
}

// same returns the length of all three vectors and panics if they differ:
// kernels do not check bounds.
func (v Vec) same(a, b Vec) int {
	n := len(v[0])
	for c := range v {
		if len(v[c]) != n || len(a[c]) != n || len(b[c]) != n {
			panic("koala: vectors of different lengths")
		}
	}
	return n
}

// The functions below work element by element on vectors of equal length; dst
// may be one of the operands but must not overlap one otherwise.

// Fill sets all elements to x.
func Fill(dst []Elem, x Elem) {
	if len(dst) == 0 {
		return
	}
	// Copying what there is doubles it, and copies are fast.
	dst[0] = x
	for n := 1; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

// AddElems sets dst = a + b.
func AddElems(dst, a, b []Elem) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := fastAddElems(dst, a, b); i < len(dst); i++ {
		dst[i] = a[i].Add(b[i])
	}
}

// SubElems sets dst = a - b.
func SubElems(dst, a, b []Elem) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := fastSubElems(dst, a, b); i < len(dst); i++ {
		dst[i] = a[i].Sub(b[i])
	}
}

// MulElems sets dst = a b.
func MulElems(dst, a, b []Elem) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := fastMulElems(dst, a, b); i < len(dst); i++ {
		dst[i] = a[i].Mul(b[i])
	}
}

// AddVec sets dst = a + b.
func AddVec(dst, a, b Vec) {
	for c := range dst {
		AddElems(dst[c], a[c], b[c])
	}
}

// SubVec sets dst = a - b.
func SubVec(dst, a, b Vec) {
	for c := range dst {
		SubElems(dst[c], a[c], b[c])
	}
}

// MulVec sets dst = a b.
func MulVec(dst, a, b Vec) {
	n := dst.same(a, b)
	for i := fastMulVec(&dst, &a, &b); i < n; i++ {
		dst.Set(i, a.At(i).Mul(b.At(i)))
	}
}

// ScaleVec sets dst = a x.
func ScaleVec(dst, a Vec, x Ext) {
	n := dst.same(a, a)
	for i := fastScaleVec(&dst, &a, &x); i < n; i++ {
		dst.Set(i, a.At(i).Mul(x))
	}
}

// AddProduct sets dst = dst + a x.
func AddProduct(dst, a Vec, x Ext) {
	n := dst.same(a, a)
	for i := fastAddProduct(&dst, &a, &x); i < n; i++ {
		dst.Set(i, dst.At(i).Add(a.At(i).Mul(x)))
	}
}

// Fold sets dst = lo + x (hi - lo).
func Fold(dst, lo, hi Vec, x Ext) {
	n := dst.same(lo, hi)
	for i := fastFold(&dst, &lo, &hi, &x); i < n; i++ {
		l := lo.At(i)
		dst.Set(i, l.Add(hi.At(i).Sub(l).Mul(x)))
	}
}

// AddScaled sets dst = dst + x a for base elements a.
func AddScaled(dst Vec, a []Elem, x Ext) {
	n := dst.same(dst, dst)
	a = a[:n]
	for i := fastAddScaled(&dst, a, &x); i < n; i++ {
		dst.Set(i, dst.At(i).Add(x.Scale(a[i])))
	}
}

// SubFrom sets dst = k - a for base elements a.
func SubFrom(dst Vec, k Ext, a []Elem) {
	n := dst.same(dst, dst)
	a = a[:n]
	for i := fastSubFrom(&dst, &k, a); i < n; i++ {
		dst.Set(i, Ext{k.A.Sub(a[i]), k.B, k.C, k.D})
	}
}

// Scaled is base elements times X.
type Scaled struct {
	A []Elem
	X Ext
}

// Combine sets dst = k + the sum of terms, none of which may be dst.
func Combine(dst Vec, k Ext, terms ...Scaled) {
	n := dst.same(dst, dst)
	for i := range terms {
		terms[i].A = terms[i].A[:n]
	}
	if len(terms) == 0 {
		dst.Fill(k)
		return
	}
	from := fastCombine(&dst, &k, terms)
	rest := dst.Slice(from, n)
	rest.Fill(k)
	for _, t := range terms {
		AddScaled(rest, t.A[from:], t.X)
	}
}

// Dot returns the sum of a[i] b[i].
func Dot(a, b Vec) Ext {
	n := a.same(b, b)
	s, from := fastDot(&a, &b)
	for i := from; i < n; i++ {
		s = s.Add(a.At(i).Mul(b.At(i)))
	}
	return s
}

// QuadraticSums returns the sums of e (x0 x1 + x2 x3) for x = lo and for
// x = hi - lo: the value at 0 and the leading coefficient of the round of a
// sum-check. If the last of lo and hi are empty, x3 is 1.
func QuadraticSums(e Vec, lo, hi *[4]Vec) (zero, top Ext) {
	one := lo[3].Len() == 0
	for k := range lo {
		if k < 3 || !one {
			e.same(lo[k], hi[k])
		}
	}
	zero, top, from := fastQuadraticSums(&e, lo, hi)
	// By the other kernels, a few elements at a time.
	const few = 64
	var memory [16 * few]Elem
	v := Vec{memory[:4*few], memory[4*few : 8*few], memory[8*few : 12*few], memory[12*few:]}
	for ; from < e.Len(); from += few {
		to := min(from+few, e.Len())
		n := to - from
		x, y, a, b := v.Slice(0, n), v.Slice(few, few+n), v.Slice(2*few, 2*few+n), v.Slice(3*few, 3*few+n)
		at := func(v Vec) Vec { return v.Slice(from, to) }
		MulVec(x, at(lo[0]), at(lo[1]))
		if one {
			AddVec(x, x, at(lo[2]))
		} else {
			MulVec(y, at(lo[2]), at(lo[3]))
			AddVec(x, x, y)
		}
		zero = zero.Add(Dot(at(e), x))
		SubVec(a, at(hi[0]), at(lo[0]))
		SubVec(b, at(hi[1]), at(lo[1]))
		MulVec(x, a, b)
		if !one {
			SubVec(a, at(hi[2]), at(lo[2]))
			SubVec(b, at(hi[3]), at(lo[3]))
			MulVec(y, a, b)
			AddVec(x, x, y)
		}
		top = top.Add(Dot(at(e), x))
	}
	return zero, top
}

// AddFractions sets p = p0 q1 + p1 q0 and q = q0 q1: p/q = p0/q0 + p1/q1. Neither
// may overlap an operand.
func AddFractions(p, q, p0, q0, p1, q1 Vec) {
	n := p.same(q, p0)
	p.same(q0, p1)
	p.same(q1, q1)
	for i := fastAddFractions(&p, &q, &p0, &q0, &p1, &q1); i < n; i++ {
		a, b := q0.At(i), q1.At(i)
		p.Set(i, p0.At(i).Mul(b).Add(p1.At(i).Mul(a)))
		q.Set(i, a.Mul(b))
	}
}

// AddInverse sets p = den + num (b - y) and q = den (b - y) for base elements num
// and y: p/q = num/den + 1/(b - y). If num is nil, it is 1. Neither p nor q may be
// den.
func AddInverse(p, q Vec, num []Elem, den Vec, b Ext, y []Elem) {
	n := p.same(q, den)
	y = y[:n]
	if num != nil {
		num = num[:n]
	}
	i := fastAddInverse(&p, &q, num, &den, &b, y)
	p, q, den, y = p.Slice(i, n), q.Slice(i, n), den.Slice(i, n), y[i:]
	SubFrom(q, b, y)
	if num == nil {
		AddVec(p, den, q)
	} else {
		for c := range p {
			MulElems(p[c], q[c], num[i:])
		}
		AddVec(p, p, den)
	}
	MulVec(q, q, den)
}

// Pairs sets p = (a - x) + (b - y) and q = (a - x)(b - y) for base elements x
// and y: numerators and denominators of the sums of 1/(a - x) and 1/(b - y).
func Pairs(p, q Vec, a Ext, x []Elem, b Ext, y []Elem) {
	n := p.same(q, q)
	x, y = x[:n], y[:n]
	sum := a.Add(b)
	// What does not depend on x and y: products with the first coordinates zero.
	product := Ext{0, a.B, a.C, a.D}.Mul(Ext{0, b.B, b.C, b.D})
	for i := fastPairs(&p, &q, &sum, &product, &a, &b, x, y); i < n; i++ {
		u, v := a.Sub(Lift(x[i])), b.Sub(Lift(y[i]))
		p.Set(i, u.Add(v))
		q.Set(i, u.Mul(v))
	}
}

// DotElems returns the sum of a[i] b[i] for base elements b.
func DotElems(a Vec, b []Elem) Ext {
	b = b[:a.same(a, a)]
	s, n := fastDotElems(&a, b)
	b = b[n:]
	return s.Add(Ext{dotElems(a[0][n:], b), dotElems(a[1][n:], b), dotElems(a[2][n:], b), dotElems(a[3][n:], b)})
}

// dotElems sums products in two halves of the word, so that nothing is
// reduced before the end. At most 2^32 elements.
func dotElems(a, b []Elem) Elem {
	b = b[:len(a)]
	var lo, hi uint64
	for i, x := range a {
		t := uint64(x) * uint64(b[i])
		lo += t & 0xffffffff
		hi += t >> 32
	}
	// lo + 2^32 hi, divided by 2^32 by each reduction.
	return reduce(lo % P).Add(Elem(hi % P))
}

// Sum returns the sum of the elements.
func Sum(a Vec) Ext { return Ext{sumElems(a[0]), sumElems(a[1]), sumElems(a[2]), sumElems(a[3])} }

func sumElems(a []Elem) Elem {
	var s uint64
	for _, x := range a {
		s += uint64(x)
	}
	return Elem(s % P)
}
