package train

import "math"

// Elementary functions with one defined rounding on every machine. The
// standard library's exp and cos may use assembly or fused multiply-add on
// some ports; here every product is converted explicitly, which forbids
// fusing, and only correctly rounded operations (+ - * / sqrt) are used.

// exp32 is e^x within 2 units in the last place, for the range the trainer
// meets; it saturates to 0 below -87 and to e^88 above 88.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	x = min(x, 88)
	// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 is split in two so that n*hi
	// is exact.
	const (
		invLn2 = 1.4426950408889634
		ln2Hi  = 0.693359375
		ln2Lo  = -2.12194440e-4
	)
	n := int32(float32(x * invLn2))
	f := float32(x*invLn2) - float32(n)
	if f > 0.5 {
		n++
	} else if f < -0.5 {
		n--
	}
	fn := float32(n)
	r := x - float32(fn*ln2Hi)
	r = r - float32(fn*ln2Lo)
	// Taylor series: the term after the last is below 2^-27 for |r| < 0.35.
	p := float32(1.0 / 5040)
	p = float32(p*r) + 1.0/720
	p = float32(p*r) + 1.0/120
	p = float32(p*r) + 1.0/24
	p = float32(p*r) + 1.0/6
	p = float32(p*r) + 0.5
	p = float32(p*r) + 1
	p = float32(p*r) + 1
	return p * math.Float32frombits(uint32(127+n)<<23)
}

// tanh32 is the hyperbolic tangent.
func tanh32(x float32) float32 {
	return 1 - 2/(exp32(2*x)+1)
}

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// cosPi is cos(pi t) for t in [0,1].
func cosPi(t float64) float64 {
	u := math.Pi * (0.5 - t) // cos(pi t) = sin(u), |u| <= pi/2
	u2 := float64(u * u)
	sum, term := u, u
	for k := 1; k <= 10; k++ {
		term = float64(term*u2) / float64(-2*k*(2*k+1))
		sum += term
	}
	return sum
}
