package quantise

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
)

// TestFunctions compares with the standard library, which is right to a few
// units in the last place on every machine, if not the same.
func TestFunctions(t *testing.T) {
	gelu := func(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) }
	geluTanh := func(x float64) float64 {
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, c := range []struct {
		name      string
		got, want Function
		relative  bool
	}{
		{"exp", Exp, math.Exp, true},
		{"log", func(x float64) float64 { return Log(math.Abs(x) + 1e-9) }, func(x float64) float64 { return math.Log(math.Abs(x) + 1e-9) }, true},
		{"erf", Erf, math.Erf, true},
		{"tanh", Tanh, math.Tanh, false},
		{"sigmoid", Sigmoid, sigmoid, true},
		{"gelu", GELU, gelu, false},
		{"gelu tanh", GELUTanh, geluTanh, false},
		{"relu", ReLU, func(x float64) float64 { return (x + math.Abs(x)) / 2 }, true},
	} {
		var worst float64
		for i := -40000; i <= 40000; i++ {
			x := float64(i) / 1999
			if i%7 == 0 {
				x /= 1000
			}
			got, want := c.got(x), c.want(x)
			diff := math.Abs(got - want)
			if c.relative {
				diff /= max(math.Abs(want), 1e-300)
				if want == 0 {
					diff = math.Abs(got)
				}
			}
			worst = max(worst, diff)
		}
		if worst > 2e-15*10 {
			t.Errorf("%s is off by %g", c.name, worst)
		}
	}
	for _, x := range []float64{-1e9, -701, 701, 1e9} {
		if y := Exp(x); y != y || math.IsInf(y, 0) || x < 0 && y != 0 || Sigmoid(x) != map[bool]float64{true: 1}[x > 0] && math.Abs(Sigmoid(x)) > 1e-300 {
			t.Errorf("exp %g is %g, sigmoid %g", x, y, Sigmoid(x))
		}
	}
}

// TestTables pins tables to their bytes: they must be the same on every
// machine.
func TestTables(t *testing.T) {
	gelu, err := Tabulate(GELU, -1<<13, 1<<14, 10, 12, 16)
	if err != nil {
		t.Fatal(err)
	}
	tanh, err := Tabulate(Tanh, -1<<13, 1<<14, 10, 14, 16)
	if err != nil {
		t.Fatal(err)
	}
	roots, frac := InverseRoots(384)
	if frac != 25 {
		t.Errorf("scale of roots is %d", frac)
	}
	lengths, _ := InverseLengths()
	for _, c := range []struct {
		name, want string
		table      []int32
	}{
		{"gelu", "9dd7b22b05d633e68c55eeb236194472383d5e628979f4ab17a06d8f6562808f", gelu},
		{"tanh", "a46d224ae489935890da27f95d0479861e39b33c8c64c7e28ba5f0875cb2eb15", tanh},
		{"gumbel", "95428f17d921d4bb71dfff6d645a54f8a7cb45560f7978876f8c5284e671d329", GumbelQuantiles(10)},
		{"roots", "1d84de21fbf469c05ab63e3e52268aeaa875d2a9cbc5779111f88e1d57deef1d", roots},
		{"lengths", "416826a89f793d0cd33fa4bc2e5d2dde5e62a110340d12e5c398a56591eca403", lengths},
	} {
		h := sha256.New()
		if err := binary.Write(h, binary.LittleEndian, c.table); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != c.want {
			t.Errorf("%s: table has digest %s, want %s", c.name, got, c.want)
		}
	}
	// Entries are as the documentation says.
	for _, u := range []int{0, 1, 777, 1 << 15, 1<<16 - 1} {
		want := -math.Log(-math.Log((float64(u) + 0.5) / 65536))
		if got := float64(GumbelQuantiles(10)[u]) / 1024; math.Abs(got-want) > 0.51/1024 {
			t.Errorf("quantile %d is %g, want %g", u, got, want)
		}
	}
	if _, err := Tabulate(math.Log, -1, 3, 0, 4, 8); err == nil {
		t.Error("tabulated what has no value")
	}
	step, err := Tabulate(func(x float64) float64 { return 1e300 * x }, -1, 3, 0, 1000, 16)
	if err != nil || step[0] != -32768 || step[1] != 0 || step[2] != 32767 {
		t.Errorf("saturated table is %v, %v", step, err)
	}
}
