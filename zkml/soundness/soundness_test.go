package soundness

import (
	"math"
	"strings"
	"testing"
)

func TestBudget(t *testing.T) {
	if math.Abs(FieldBits-123.9546) > 0.001 {
		t.Errorf("the field has %f bits", FieldBits)
	}
	b := Budget{Round("a", "x", 2, 1<<10), {Name: "b", Source: "y", Count: 1, Bits: 101, Work: 16}}
	if got := b[0].Bits; math.Abs(got-(FieldBits-10)) > 1e-9 {
		t.Errorf("round has %f bits", got)
	}
	if b.Bits() != 101 {
		t.Errorf("%f bits", b.Bits())
	}
	want := -math.Log2(math.Exp2(-101) + 2*math.Exp2(10-FieldBits))
	if math.Abs(b.Union()-want) > 1e-9 {
		t.Errorf("union %f, want %f", b.Union(), want)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Budget{nil, append(Budget{Round("c", "", 1, 1<<24)}, b...), {{Bits: math.NaN()}}, {{Bits: 99.99}}} {
		if bad.Check() == nil {
			t.Errorf("accepted %v", bad)
		}
	}
	for _, want := range []string{"| a | 2 | 2^-114.0 | x |", "(16 by work)", "2^-101.0"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}
