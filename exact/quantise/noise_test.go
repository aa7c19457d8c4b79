package quantise

import (
	"math"
	"testing"

	"github.com/torg-network/torg/exact"
)

// draws counts the tokens that a program draws from the same logits, with 10
// fractional bits, in every row of a number of sequences of seeds of their own.
func draws(t *testing.T, logits []int32, temperature, sequences int) []int {
	t.Helper()
	p := &exact.Program{Rows: exact.MaxRows}
	x := p.Op(exact.Input, nil, nil, 1, 0, 0)
	l := Constant(p, x, logits)
	table := GumbelQuantiles(10)
	noise := p.Op(exact.Noise, nil, []int{p.Const(1, len(table), table)}, int64(len(logits)))
	p.Outputs = []exact.Value{p.Op(exact.ArgMax, []exact.Value{p.Op(exact.Add, []exact.Value{l, noise}, nil)}, nil)}
	file, err := exact.Encode(exact.Card{Name: "draws"}, p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	in := make([][]int32, exact.MaxRows)
	for i := range in {
		in[i] = []int32{0}
	}
	counts := make([]int, len(logits))
	for s := range sequences {
		out, err := m.RunEnv(exact.Env{Seed: [32]byte{1, byte(s)}, Temperature: temperature}, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range out[0] {
			counts[row[0]]++
		}
	}
	return counts
}

// chiSquare is Pearson's statistic of counts against the softmax of logits at
// a temperature.
func chiSquare(counts []int, logits []int32, temperature float64) float64 {
	var sum, n float64
	for j, l := range logits {
		sum += math.Exp(float64(l) / 1024 / temperature)
		n += float64(counts[j])
	}
	var x float64
	for j, l := range logits {
		want := n * math.Exp(float64(l)/1024/temperature) / sum
		x += (float64(counts[j]) - want) * (float64(counts[j]) - want) / want
	}
	return x
}

// TestDrawsFollowSoftmax: the token with the greatest sum of logit and noise is
// a draw from the softmax at the environment's temperature.
func TestDrawsFollowSoftmax(t *testing.T) {
	logits := []int32{0, 1024, -700, 2048, 300, 1500, -1024, 1023}
	for _, temperature := range []int{300, 700, 1000, 2000} {
		counts := draws(t, logits, temperature, 24)
		// 24.3 is exceeded once in a thousand times, with seven degrees of
		// freedom.
		x := chiSquare(counts, logits, float64(temperature)/1000)
		t.Logf("temperature %d: %v, chi-square %.1f", temperature, counts, x)
		if x > 24.3 {
			t.Errorf("temperature %d: %v, chi-square %.1f", temperature, counts, x)
		}
		// The test can tell a temperature from another a twentieth higher.
		if y := chiSquare(counts, logits, float64(temperature)/1000*1.05); y < 24.3 {
			t.Errorf("temperature %d: cannot tell a higher one, chi-square %.1f", temperature, y)
		}
	}
	counts := draws(t, logits, 0, 1)
	if counts[3] != exact.MaxRows {
		t.Errorf("temperature 0: %v, want the greatest alone", counts)
	}
}
