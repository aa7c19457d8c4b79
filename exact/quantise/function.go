package quantise

import (
	"fmt"
	"math"

	"github.com/torg-network/torg/exact"
)

// Elementary functions with one defined rounding on every machine: only
// correctly rounded operations (+ - * / sqrt) are used, and every product is
// converted explicitly, which forbids fusing it with a sum. The standard
// library's may use assembly or fused multiply-add on some ports.

// Function is a real function, to be looked up in a table.
type Function = func(x float64) float64

// ln 2 in two parts, the first of which has 21 trailing zero bits, so that
// multiplying it by an exponent is exact.
const (
	ln2Hi = 0x1.62e42feep-1
	ln2Lo = 0x1.a39ef35793c76p-33
)

// Exp is e^x. It saturates to 0 below -700 and to e^700 above 700.
func Exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	x = min(x, 700)
	n := math.Floor(float64(x/math.Ln2) + 0.5)
	r := x - float64(n*ln2Hi)
	r -= float64(n * ln2Lo)
	// Taylor series for |r| <= ln 2 / 2: r^14/14! is below 2^-57.
	sum, term := 1.0, 1.0
	for i := 1.0; i < 15; i++ {
		term = float64(term*r) / i
		sum += term
	}
	return math.Ldexp(sum, int(n))
}

// Log is the natural logarithm, for x > 0.
func Log(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	// log m = 2 artanh s = 2 (s + s^3/3 + ...) with |s| < 0.172.
	s := (m - 1) / (m + 1)
	square := float64(s * s)
	var sum float64
	for i := 23; i > 0; i -= 2 {
		sum = float64(sum*square) + 1/float64(i)
	}
	return float64(float64(e)*ln2Hi) + (float64(float64(e)*ln2Lo) + float64(2*s*sum))
}

// Erf is the error function, by its series of positive terms
// 2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1)/(2n+1)!!.
func Erf(x float64) float64 {
	a := math.Abs(x)
	if a > 6 {
		return math.Copysign(1, x)
	}
	square := float64(a * a)
	sum, term := a, a
	for i := 3.0; term > sum*0x1p-60; i += 2 {
		term = float64(float64(2*square)*term) / i
		sum += term
	}
	return math.Copysign(min(1, float64(2/math.Sqrt(math.Pi)*float64(Exp(-square)*sum))), x)
}

// Tanh is the hyperbolic tangent.
func Tanh(x float64) float64 {
	e := Exp(-2 * math.Abs(x))
	return math.Copysign((1-e)/(1+e), x)
}

// Sigmoid is 1/(1+e^-x).
func Sigmoid(x float64) float64 {
	e := Exp(-math.Abs(x))
	if x < 0 {
		return e / (1 + e)
	}
	return 1 / (1 + e)
}

// ReLU is the positive part.
func ReLU(x float64) float64 { return max(0, x) }

// GELU is x times the normal distribution function.
func GELU(x float64) float64 { return float64(x / 2 * (1 + Erf(float64(x*math.Sqrt2/2)))) }

// GELUTanh is the customary approximation of GELU.
func GELUTanh(x float64) float64 {
	cube := float64(float64(x*x) * x)
	return float64(x / 2 * (1 + Tanh(float64(0.7978845608028654*(x+float64(0.044715*cube))))))
}

// Tabulate returns a table of exact.Table for n keys from lo on: f at
// key/2^inFrac, times 2^outFrac, to nearest, saturated to a signed number of
// the given bits, 2 to 30.
func Tabulate(f Function, lo int64, n, inFrac, outFrac, bits int) ([]int32, error) {
	if n < 1 || n > 1<<24 || bits < 2 || bits > 30 {
		return nil, fmt.Errorf("quantise: table of %d entries of %d bits", n, bits)
	}
	top := float64(int64(1)<<(bits-1) - 1)
	out := make([]int32, n)
	for k := range out {
		x := math.Ldexp(float64(lo+int64(k)), -inFrac)
		y := f(x)
		if y != y {
			return nil, fmt.Errorf("quantise: the function has no value at %g", x)
		}
		out[k] = int32(max(-top-1, min(top, math.Floor(math.Ldexp(y, outFrac)+0.5))))
	}
	return out, nil
}

// InverseLengths returns the table with which RMSNorm divides a row by its
// Euclidean length, and the fractional bits of the product: 28, the most that
// its bound allows. Entry k is 2^28/sqrt(k+2^14).
func InverseLengths() (table []int32, frac int) {
	table = make([]int32, normKeys)
	for k := range table {
		table[k] = int32(round(float64(1<<28) / math.Sqrt(float64(k+normKeyLo))))
	}
	return table, 28
}

// Keys of the tables of LayerNorm and RMSNorm: from 2^14 to 2^16.
const (
	normKeyLo = 1 << 14
	normKeys  = 1<<16 - 1<<14
)

// GumbelQuantiles returns a table of exact.Noise with frac fractional bits:
// entry u is -ln(-ln((u+1/2)/2^16)).
func GumbelQuantiles(frac int) []int32 {
	out := make([]int32, 1<<16)
	for u := range out {
		g := -Log(-Log((float64(u) + 0.5) / (1 << 16)))
		out[u] = int32(scaled(g, frac))
	}
	return out
}

// Exponentials returns the table of Attention for keys in 1/1024 nat: round
// (2^scale e^(-k/1024)) up to its first zero.
func Exponentials(scale uint) []int32 {
	var out []int32
	for _, e := range exact.Exponentials(16<<10, scale) {
		out = append(out, int32(e))
		if e == 0 {
			break
		}
	}
	return out
}
