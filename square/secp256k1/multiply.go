package secp256k1

import "sync"

// splitBits is more than the bits of a half of a split scalar, the sign included.
const splitBits = 130

// table has what a point is multiplied by without doubling: for each group of w bits of
// a half, the odd multiples of its power of two, 1 to 2^w - 1.
type table struct {
	w       uint
	windows uint
	points  []affine // windows of 2^(w-1)
}

func newTable(p *affine, w uint) *table {
	t := &table{w: w, windows: (splitBits + w - 1) / w}
	doubles := make([]jacobian, t.windows*w)
	doubles[0].set(p)
	for i := range doubles[1:] {
		doubles[i+1].double(&doubles[i])
	}
	powers := affines(doubles)
	t.points = make([]affine, t.windows<<(w-1))
	row := func(i uint) []affine { return t.points[i<<(w-1):][:1<<(w-1)] }
	for i := range t.windows {
		row(i)[0] = powers[i*w]
	}
	// 2^(l+1) added to the first 2^l odd multiples makes the next 2^l. Being different
	// multiples below the order, which is prime, no two are equal or opposite.
	slopes := make([]field, t.windows<<(w-1)/2)
	for l := range w - 1 {
		slopes := slopes[:t.windows<<l]
		for i := range t.windows {
			for j := range uint(1) << l {
				slopes[i<<l+j].sub(&powers[i*w+l+1].x, &row(i)[j].x)
			}
		}
		invertAll(slopes)
		for i := range t.windows {
			for j := range uint(1) << l {
				row(i)[1<<l+j].chord(&row(i)[j], &powers[i*w+l+1], &slopes[i<<l+j])
			}
		}
	}
	return t
}

// chord makes z the sum of p and q, given the inverse of the difference of their x.
func (z *affine) chord(p, q *affine, inverse *field) {
	var m, x field
	m.sub(&q.y, &p.y)
	m.mul(&m, inverse)
	x.square(&m)
	x.sub(&x, &p.x)
	x.sub(&x, &q.x)
	z.y.sub(&p.x, &x)
	z.y.mul(&z.y, &m)
	z.y.sub(&z.y, &p.y)
	z.x = x
	z.x.normal()
	z.y.normal()
}

// sum is a + lambda b. Multiples of points are summed in this form: it saves the
// multiplication by beta of each point that belongs to b.
type sum struct{ a, b jacobian }

func (s *sum) point() jacobian {
	s.b.x.mul(&s.b.x, &fieldBeta)
	s.a.addJacobian(&s.b)
	return s.a
}

// add adds k times the table's point. Which places of memory are read depends on k.
func (s *sum) add(t *table, k *scalar) {
	a, b := k.split()
	a, b = a.digits(t.windows*t.w), b.digits(t.windows*t.w)
	var q affine
	for i := range t.windows {
		t.pick(&q, i, a.digit(i*t.w, t.w))
		s.a.add(&q)
		t.pick(&q, i, b.digit(i*t.w, t.w))
		s.b.add(&q)
	}
}

// place says where in its window a digit's point is, and whether it is negated: all
// ones or 0. The digit d stands for 2 d - (2^w - 1).
func (t *table) place(digit uint64) (j, negative uint64) {
	negative = digit>>(t.w-1) - 1
	return (digit ^ negative) & (1<<(t.w-1) - 1), negative
}

func (t *table) pick(q *affine, i uint, digit uint64) {
	j, negative := t.place(digit)
	*q = t.points[uint64(i)<<(t.w-1)+j]
	q.y.negate(negative)
}

// addSecret is add for a k that is secret: it takes the same steps and reads the same
// memory for every k. (Only where a sum is at infinity or doubles it does not, which
// needs a k that nobody can choose without knowing it.)
func (s *sum) addSecret(t *table, k *scalar) {
	a, b := k.split()
	a, b = a.digits(t.windows*t.w), b.digits(t.windows*t.w)
	for i := range t.windows {
		var p, q affine
		ja, na := t.place(a.digit(i*t.w, t.w))
		jb, nb := t.place(b.digit(i*t.w, t.w))
		for j := range uint64(1) << (t.w - 1) {
			e := &t.points[uint64(i)<<(t.w-1)+j]
			p.take(e, ((j^ja)-1)>>63)
			q.take(e, ((j^jb)-1)>>63)
		}
		p.y.negate(na)
		q.y.negate(nb)
		s.a.add(&p)
		s.b.add(&q)
	}
}

// take takes q if yes is 1 and leaves z, which must be zero then, if it is 0.
func (z *affine) take(q *affine, yes uint64) {
	m := -yes
	z.x[0] |= q.x[0] & m
	z.x[1] |= q.x[1] & m
	z.x[2] |= q.x[2] & m
	z.x[3] |= q.x[3] & m
	z.y[0] |= q.y[0] & m
	z.y[1] |= q.y[1] & m
	z.y[2] |= q.y[2] & m
	z.y[3] |= q.y[3] & m
}

// nafWidth makes three of four digits and more zero; the others are odd and below 2^4.
const nafWidth = 5

// naf writes z in digits of which a non-zero one is followed by nafWidth - 1 zeros.
func (z half) naf() (d [splitBits + 1]int8, n int) {
	sign := int8(1)
	if int64(z[2]) < 0 {
		var m half
		m.sub(&z)
		z, sign = m, -1
	}
	for carry, i := uint64(0), uint(0); i < splitBits+1; {
		if z.digit(i, 1) == carry { // this bit and the carry make 0, or 2
			i++
			continue
		}
		v := z.digit(i, nafWidth) + carry
		carry = v >> (nafWidth - 1)
		d[i] = sign * (int8(v) - int8(carry<<nafWidth))
		n = int(i) + 1
		i += nafWidth
	}
	return d, n
}

// addOnce adds k q, where no table is at hand. It must be the first that is added.
func (s *sum) addOnce(q *affine, k *scalar) {
	var odd [1 << (nafWidth - 2)]jacobian // q, 3 q, 5 q …
	var two jacobian
	odd[0].set(q)
	two.double(&odd[0])
	for i := range odd[1:] {
		odd[i+1] = odd[i]
		odd[i+1].addJacobian(&two)
	}
	of := affines(odd[:])
	by := [len(odd)]affine{} // the same times lambda
	for i := range by {
		by[i] = of[i]
		by[i].x.mul(&of[i].x, &fieldBeta)
	}
	a, b := k.split()
	da, na := a.naf()
	db, nb := b.naf()
	for i := max(na, nb) - 1; i >= 0; i-- {
		s.a.double(&s.a)
		s.a.addOdd(of, da[i])
		s.a.addOdd(by[:], db[i])
	}
}

// addOdd adds d times the point whose odd multiples are given, if d is not 0.
func (p *jacobian) addOdd(odd []affine, d int8) {
	switch {
	case d > 0:
		p.add(&odd[d/2])
	case d < 0:
		q := odd[-d/2]
		q.y.negate(^uint64(0))
		p.add(&q)
	}
}

// The base point's tables: a wide one to check signatures, and one to make them that is
// small enough to be read whole.
var (
	wideBase   = sync.OnceValue(func() *table { return newTable(&base, 10) })
	narrowBase = sync.OnceValue(func() *table { return newTable(&base, 5) })
)

// multiplyBase is k times the base point, for a secret k.
func multiplyBase(k *scalar) jacobian {
	var s sum
	s.addSecret(narrowBase(), k)
	return s.point()
}
