package secp256k1

// affine is a point of the curve y^2 = x^3 + 7 that is not the one at infinity; both
// coordinates are below p.
type affine struct{ x, y field }

// jacobian is the point (x/z^2, y/z^3), or the one at infinity if z is 0, in either of
// its forms.
type jacobian struct{ x, y, z field }

var (
	base = affine{
		field{0x59f2815b16f81798, 0x029bfcdb2dce28d9, 0x55a06295ce870b07, 0x79be667ef9dcbbac},
		field{0x9c47d08ffb10d4b8, 0xfd17b448a6855419, 0x5da4fbfc0e1108a8, 0x483ada7726a3c465},
	}
	// fieldBeta is a cube root of 1: (beta x, y) is (x, y) times lambda.
	fieldBeta = field{0xc1396c28719501ee, 0x9cf0497512f58995, 0x6e64479eac3434e9, 0x7ae96a2b657c0710}
)

// pointAt finds the point with this x, which is below p, and an odd or even y.
func pointAt(x *field, odd bool) (p affine, ok bool) {
	var t field
	t.square(x)
	t.mul(&t, x)
	t.add(&t, &fieldSeven)
	if !p.y.sqrt(&t) {
		return p, false
	}
	p.x = *x
	p.y.normal()
	if p.y.isOdd() != odd {
		p.y.negate(^uint64(0)) // no point has y = 0
	}
	return p, true
}

func (p *jacobian) set(q *affine) { *p = jacobian{q.x, q.y, fieldOne} }

func (p *jacobian) isInfinity() bool { return p.z.isZero() }

// affine is false for the point at infinity. Its time depends on z.
func (p *jacobian) affine() (q affine, ok bool) {
	if p.isInfinity() {
		return q, false
	}
	var i field
	i.inverse(&p.z)
	p.scaled(&q, &i)
	return q, true
}

// scaled makes q of p and 1/z.
func (p *jacobian) scaled(q *affine, inverse *field) {
	var i2 field
	i2.square(inverse)
	q.x.mul(&p.x, &i2)
	i2.mul(&i2, inverse)
	q.y.mul(&p.y, &i2)
	q.x.normal()
	q.y.normal()
}

// double doubles p. No point but that at infinity has y = 0, so the double of another is
// never at infinity.
func (p *jacobian) double(q *jacobian) {
	var l, s, t field
	s.square(&q.y)
	l.square(&q.x)
	t.add(&l, &l)
	l.add(&l, &t)
	l.half(&l) // 3 x^2 / 2
	t.mul(&q.x, &s)
	p.z.mul(&q.z, &q.y)
	p.x.square(&l)
	p.x.subSum(&p.x, &field{}, &t)
	t.sub(&t, &p.x)
	s.square(&s)
	p.y.mul(&l, &t)
	p.y.sub(&p.y, &s)
}

// add adds q. It is right for all p and q, and takes the same steps for all but those
// where p is at infinity, q or -q.
func (p *jacobian) add(q *affine) {
	if p.isInfinity() {
		p.set(q)
		return
	}
	var zz, x, y field
	zz.square(&p.z)
	x.mul(&q.x, &zz)
	y.mul(&p.z, &zz)
	y.mul(&y, &q.y)
	p.addOver(&x, &y)
}

// addJacobian adds q, right for all p and q.
func (p *jacobian) addJacobian(q *jacobian) {
	switch {
	case q.isInfinity():
		return
	case p.isInfinity():
		*p = *q
		return
	}
	var zz, x, y field
	zz.square(&p.z)
	x.mul(&q.x, &zz)
	zz.mul(&zz, &p.z)
	y.mul(&q.y, &zz)
	zz.square(&q.z)
	p.x.mul(&p.x, &zz)
	zz.mul(&zz, &q.z)
	p.y.mul(&p.y, &zz)
	p.z.mul(&p.z, &q.z)
	p.addOver(&x, &y)
}

// addOver adds the point that has x and y over p's z; neither is at infinity.
func (p *jacobian) addOver(x, y *field) {
	var h, r, hh, v field
	h.sub(x, &p.x)
	r.sub(y, &p.y)
	if h.isZero() {
		if r.isZero() {
			p.double(p)
		} else {
			*p = jacobian{}
		}
		return
	}
	p.z.mul(&p.z, &h)
	hh.square(&h)
	v.mul(&p.x, &hh)
	hh.mul(&hh, &h)
	p.y.mul(&p.y, &hh)
	p.x.square(&r)
	p.x.subSum(&p.x, &hh, &v)
	v.sub(&v, &p.x)
	v.mul(&v, &r)
	p.y.sub(&v, &p.y)
}

// invertAll replaces each of z by its inverse; none may be 0. Its time depends on them.
func invertAll(z []field) {
	before := make([]field, len(z)) // the products of those before each
	all := fieldOne
	for i := range z {
		before[i] = all
		all.mul(&all, &z[i])
	}
	all.inverse(&all)
	for i := len(z) - 1; i >= 0; i-- {
		before[i].mul(&before[i], &all)
		all.mul(&all, &z[i])
		z[i] = before[i]
	}
}

// affines turns points, none at infinity, into affine ones. Its time depends on them.
func affines(p []jacobian) []affine {
	z := make([]field, len(p))
	for i := range p {
		z[i] = p[i].z
	}
	invertAll(z)
	out := make([]affine, len(p))
	for i := range p {
		p[i].scaled(&out[i], &z[i])
	}
	return out
}
