package main

import (
	"os/exec"
	"strings"
	"testing"

	shapes "github.com/torg-network/torg/zkml/shape"
)

var floatShape = shapes.GPT{Vocab: 65, Layers: 2, Heads: 4, Width: 64, Context: 32}

func TestFloatsWithBLAS(t *testing.T) {
	if err := exec.Command("python3", "-c", "import numpy").Run(); err != nil {
		t.Skip("python3 with numpy is not installed")
	}
	g := floatShape
	p, in := g.Program(1), g.Input(1, 20)
	out, err := p.Interpret(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := openBLAS(t.Context(), "python3", g, p, in, out[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for range 2 {
		if cpu, err := f.pass(); err != nil || cpu <= 0 || cpu > 0.1 || !strings.HasPrefix(f.by, "OpenBLAS ") {
			t.Errorf("%v s by %q, error %v", cpu, f.by, err)
		}
	}
	if _, err := openBLAS(t.Context(), "python3", g, g.Program(2), in, out[0]); err == nil || !strings.Contains(err.Error(), "logits") {
		t.Errorf("the logits of other weights pass: %v", err)
	}
}

func TestFloatsWithoutBLAS(t *testing.T) {
	g := floatShape
	for _, python := range []string{"python-that-is-not-there", "cat", "false"} {
		if _, err := openBLAS(t.Context(), python, g, g.Program(1), g.Input(1, 20), nil); err == nil {
			t.Errorf("%s is no Python, and no error", python)
		}
	}
	f, err := openTrain(g, 20)
	if err != nil {
		t.Fatal(err)
	}
	if cpu, err := f.pass(); err != nil || cpu <= 0 || cpu > 0.1 {
		t.Errorf("%v s, error %v", cpu, err)
	}
}

func TestSameLogits(t *testing.T) {
	exact := []int32{1000, -2000, 300, 0}
	for _, c := range []struct {
		floats []float64
		same   bool
	}{
		{[]float64{1000, -2000, 300, 0}, true},
		{[]float64{1005, -2005, 295, 5}, true},
		{[]float64{1000, -2000, 300, 30}, false},
		{[]float64{0, 0, 0, 0}, false},
		{[]float64{1000, -2000, 300}, false},
	} {
		if err := sameLogits(c.floats, exact); (err == nil) != c.same {
			t.Errorf("%v: %v", c.floats, err)
		}
	}
}
