package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/torg-network/torg/train/corpus"
)

// tiny is a run of a few seconds whose pieces have awkward sizes.
var tiny = Config{
	Shape: Shape{Layers: 2, Width: 24, Heads: 2, Context: 20},
	Seed:  7, Steps: 300, Batch: 3, Rate: 3e-3, Floor: 0.1, WarmUp: 20, Decay: 0.1,
}

// tinyDigest is what tiny ends in on corpus.Train(), on every machine.
const tinyDigest = "87c2077f16a25e9d982f290641b92be0a25c877997a9218eeef1c32d84610ba0"

func TestRunIsReproducible(t *testing.T) {
	text := corpus.Train()
	var last float64
	for _, procs := range []int{1, 2, 4} {
		before := runtime.GOMAXPROCS(procs)
		ck, err := Run(context.Background(), tiny, text, func(_ int, loss float64) { last = loss })
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", ck.Params.Digest()); got != tinyDigest {
			t.Errorf("with %d processors: %s, want %s", procs, got, tinyDigest)
		}
	}
	if last > 3 || last < 1 {
		t.Errorf("ends with loss %.3f: it did not learn", last)
	}
}

func TestRunIsTheSameOnEveryKernel(t *testing.T) {
	defer func(k kernel) { tile = k }(tile)
	c := tiny
	c.Steps = 40
	want := ""
	for _, k := range kernels {
		tile = k.run
		ck, err := Run(context.Background(), c, corpus.Train(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%x", ck.Params.Digest())
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s: %s, want %s", k.name, got, want)
		}
	}
}

// TestResume stops a run in the middle, stores it, reads it and goes on.
func TestResume(t *testing.T) {
	text := corpus.Train()
	ctx, cancel := context.WithCancel(context.Background())
	half, err := Run(ctx, tiny, text, func(step int, _ float64) {
		if step == 123 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || half.Step != 123 {
		t.Fatalf("stopped after %d steps with %v", half.Step, err)
	}
	var b bytes.Buffer
	if err := half.Write(&b); err != nil {
		t.Fatal(err)
	}
	file := append([]byte(nil), b.Bytes()...)
	ck, err := ReadCheckpoint(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := ck.Resume(context.Background(), text[1:], nil); err == nil {
		t.Error("resumed on another corpus")
	}
	if err := ck.Resume(context.Background(), text, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", ck.Params.Digest()); got != tinyDigest {
		t.Errorf("resumed run ends in %s, want %s", got, tinyDigest)
	}
	for _, at := range []int{0, 9, 100, len(file) / 2, len(file) - 1} {
		bad := append([]byte(nil), file...)
		bad[at] ^= 1
		if _, err := ReadCheckpoint(bytes.NewReader(bad)); err == nil {
			t.Errorf("read a checkpoint with byte %d changed", at)
		}
		if _, err := ReadCheckpoint(bytes.NewReader(file[:at])); err == nil {
			t.Errorf("read the first %d bytes of a checkpoint", at)
		}
	}
}

// TestWindows expects every byte but the first to be scored once, with half a
// context before it wherever there is one, and windows where the exact models
// put theirs.
func TestWindows(t *testing.T) {
	for _, context := range []int{2, 8, 20} {
		for n := 0; n < 100; n++ {
			text := make([]byte, n)
			for i := range text {
				text[i] = byte(i)
			}
			next := 1
			Windows(text, context, func(win []byte, first int) {
				if len(win) > context+1 {
					t.Fatalf("window of %d bytes for context %d", len(win), context)
				}
				for i := first; i < len(win); i++ {
					if int(win[i]) != next {
						t.Fatalf("byte %d scored, want %d", win[i], next)
					}
					if i < min(next, context/2) {
						t.Fatalf("byte %d has only %d before it", next, i)
					}
					next++
				}
			})
			if n > 1 && next != n {
				t.Fatalf("context %d: %d of %d bytes scored", context, next, n)
			}
		}
	}
}

// TestEvaluate compares the measured loss with one computed window by window
// from the logits.
func TestEvaluate(t *testing.T) {
	p, err := NewParams(Shape{Layers: 1, Width: 8, Heads: 2, Context: 8})
	if err != nil {
		t.Fatal(err)
	}
	p.initialise(1)
	for i, x := range random(2, len(p.Flat)) {
		p.Flat[i] += x / 2
	}
	texts := [][]byte{[]byte("a text of some length"), []byte("and one more")}
	var sum float64
	n := 0
	for _, text := range texts {
		for i := 1; i < len(text); i++ {
			from := 0
			for i-from > 8 {
				from += 4
			}
			l, err := p.Forward(text[from:i])
			if err != nil {
				t.Fatal(err)
			}
			row := l[len(l)-Vocab:]
			var z float64
			for _, x := range row {
				z += math.Exp(float64(x))
			}
			sum += math.Log(z) - float64(row[text[i]])
			n++
		}
	}
	got, err := p.Evaluate(texts...)
	if err != nil || !near(got, sum/float64(n), 1e-5) {
		t.Errorf("loss %g, %v; want %g", got, err, sum/float64(n))
	}
	if _, err := p.Evaluate([]byte("x")); err == nil {
		t.Error("evaluated one byte")
	}
}

func TestConfigCheck(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"steps":  func(c *Config) { c.Steps = 0 },
		"batch":  func(c *Config) { c.Batch = 0 },
		"heads":  func(c *Config) { c.Shape.Heads = 5 },
		"rate":   func(c *Config) { c.Rate = math.NaN() },
		"warmup": func(c *Config) { c.WarmUp = c.Steps + 1 },
	} {
		c := tiny
		spoil(&c)
		if _, err := Start(c, corpus.Train()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Start(tiny, make([]byte, 20)); err == nil {
		t.Error("accepted a corpus shorter than a context and a byte")
	}
}

func TestNanoHasAMillionParameters(t *testing.T) {
	if n := Nano.size(); n != 1_033_600 {
		t.Errorf("%d parameters", n)
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	c := Config{Shape: Shape{1, 2, 1, 2}, Seed: 1, Steps: 2, Batch: 1, Rate: 0.1}
	ck, err := Start(c, []byte("corpus"))
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := ck.Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:150])
	f.Fuzz(func(t *testing.T, file []byte) {
		ck, err := ReadCheckpoint(bytes.NewReader(file))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := ck.Write(&b); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(file, b.Bytes()) {
			t.Fatal("read a checkpoint that writes differently")
		}
	})
}
