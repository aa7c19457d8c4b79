package quantise

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/train"
	"github.com/torg-network/torg/train/corpus"
)

// small is trained in about a second.
var small = train.Config{
	Shape: train.Shape{Layers: 2, Width: 32, Heads: 2, Context: 32},
	Seed:  3, Steps: 400, Batch: 4, Rate: 4e-3, WarmUp: 20, Decay: 0.1,
}

// smallDigest is the model file that small quantises to, on every machine.
const smallDigest = "8b56f5658544de1482aa35192f10fc93095c99ee72c477cd5b0dc95ee72fb71a"

func TestQuantise(t *testing.T) {
	ck, err := train.Run(context.Background(), small, corpus.Train(), nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := GPT(ck.Params, "small", corpus.Train())
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", m.Digest()); got != smallDigest {
		t.Errorf("model file %s, want %s", got, smallDigest)
	}
	r, err := Compare(m, ck.Params, corpus.HeldOut(), 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Float > 3 {
		t.Errorf("float loss %.3f: the model did not learn", r.Float)
	}
	if math.Abs(r.Exact-r.Float) > 0.005 || r.Agreement < 0.98 {
		t.Errorf("loss %.4f float, %.4f exact, agreement %.4f", r.Float, r.Exact, r.Agreement)
	}
	// Compare must be able to tell: against other parameters it is far off.
	other, err := train.Start(small, corpus.Train())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Compare(m, other.Params, corpus.HeldOut(), 2); err != nil || r.Agreement > 0.5 {
		t.Errorf("agrees %.2f with an untrained model, %v", r.Agreement, err)
	}
}

// TestLargeWeights quantises parameters far larger than training makes them:
// scales must give way, not bounds.
func TestLargeWeights(t *testing.T) {
	ck, err := train.Start(small, corpus.Train())
	if err != nil {
		t.Fatal(err)
	}
	for i := range ck.Params.Flat {
		ck.Params.Flat[i] *= 6
	}
	file, err := GPT(ck.Params, "large", corpus.Train())
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	in := make([][]int32, 32)
	for i := range in {
		in[i] = []int32{int32(corpus.Train()[i])}
	}
	if _, err := m.Program().Interpret(in); err != nil {
		t.Error(err)
	}
	if _, err := GPT(ck.Params, "large", nil); err == nil {
		t.Error("quantised without calibration")
	}
}
