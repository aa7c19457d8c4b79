package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/train"
	shapes "github.com/torg-network/torg/zkml/shape"
)

// blasScript reads, little-endian, the shape and the number of tokens as six
// 32-bit integers, the tokens, and the weights as 32-bit floats. It prints a
// line with the BLAS it uses and the logits, and then, for each line it reads,
// one with the CPU seconds of a pass.
//
//go:embed bench_blas.py
var blasScript string

// floats runs a model in 32-bit floats on one core.
type floats struct {
	by    string
	pass  func() (seconds float64, err error) // CPU time of one forward pass, the median of many
	close func()
}

// openFloats takes what is fastest here for a program of the shape: numpy with
// OpenBLAS, if the machine has it and it comes to the same logits, otherwise
// package train.
func openFloats(ctx context.Context, g shapes.GPT, p *exact.Program, input, logits [][]int32) (f floats, err error) {
	// The system's own Python is the one that has the system's numpy.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if f, err = openBLAS(ctx, python, g, p, input, logits); err == nil {
			return f, nil
		}
	}
	progress("no OpenBLAS to compare with (Debian: python3-numpy and libopenblas0-pthread): %v", err)
	return openTrain(g, len(input))
}

func openBLAS(ctx context.Context, python string, g shapes.GPT, p *exact.Program, input, logits [][]int32) (_ floats, err error) {
	var model bytes.Buffer
	put := func(v any) { binary.Write(&model, binary.LittleEndian, v) } // a Buffer takes all
	for _, n := range []int{g.Layers, g.Heads, g.Width, g.Vocab, g.Context, len(input)} {
		put(int32(n))
	}
	put(slices.Concat(input...))
	// The weights in the order of use. A product's shift is part of them.
	for i, op := range p.Ops {
		if op.Kind != exact.Gather && op.Kind != exact.MatMul {
			continue
		}
		shift := 0
		if op.Kind == exact.MatMul {
			shift = int(p.Ops[i+1].Params[0]) // the Requantise after it
		}
		for _, w := range p.Consts[op.Consts[0]].Data {
			put(float32(math.Ldexp(float64(w), -shift)))
		}
	}
	ctx, kill := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, python, "-c", blasScript)
	for _, kv := range os.Environ() {
		// OpenBLAS shall take the kernels made for this processor; if they are
		// wrong, the logits show it.
		if !strings.HasPrefix(kv, "OPENBLAS_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "OPENBLAS_NUM_THREADS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := cmp.Or(err1, err2, cmd.Start()); err != nil {
		kill()
		return floats{}, fmt.Errorf("%s: %w", python, err)
	}
	end := func() {
		kill()
		cmd.Wait() // killed: there is nothing to learn from how it ended
	}
	var answer struct {
		BLAS   string    `json:"blas"`
		Logits []float64 `json:"logits"`
		CPU    float64   `json:"cpu_s"`
	}
	lines := json.NewDecoder(out)
	ask := func(b []byte) error {
		_, err := in.Write(b)
		if err = cmp.Or(lines.Decode(&answer), err); err != nil {
			end()
			said := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			return fmt.Errorf("%s: %w: %s", python, err, said[len(said)-1])
		}
		return nil
	}
	if err := ask(model.Bytes()); err != nil {
		return floats{}, err
	}
	err = sameLogits(answer.Logits, slices.Concat(logits...))
	if answer.BLAS == "" {
		err = errors.New("numpy multiplies without OpenBLAS")
	}
	if err != nil {
		end()
		return floats{}, fmt.Errorf("%s: %w", python, err)
	}
	pass := func() (float64, error) {
		err := ask([]byte("\n"))
		return answer.CPU, err
	}
	return floats{answer.BLAS, pass, end}, nil
}

// sameLogits compares floats with integers that were rounded many times on the
// way: the mean square of the difference may be a ten-thousandth of theirs.
func sameLogits(floats []float64, exact []int32) error {
	if len(floats) != len(exact) {
		return fmt.Errorf("%d logits, want %d", len(floats), len(exact))
	}
	var apart, size float64
	for i, x := range floats {
		d := x - float64(exact[i])
		apart += d * d
		size += float64(exact[i]) * float64(exact[i])
	}
	if !(apart <= 1e-4*size) {
		return fmt.Errorf("its logits are others: %.3g of their size apart", math.Sqrt(apart/size))
	}
	return nil
}

// openTrain runs blocks of the same shape with the vocabulary of package
// train, which is 256 and costs two per cent of a million parameters. Its
// products are nearly as fast as OpenBLAS's; what is between them is not.
func openTrain(g shapes.GPT, rows int) (floats, error) {
	p, err := train.NewParams(train.Shape{Layers: g.Layers, Width: g.Width, Heads: g.Heads, Context: g.Context})
	if err != nil {
		return floats{}, err
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range p.Flat {
		p.Flat[i] = float32(r.NormFloat64()) / 10
	}
	tokens := make([]byte, rows)
	for i := range tokens {
		tokens[i] = byte(r.Int32())
	}
	pass := func() (float64, error) {
		m, err := median(21, func() (m measure, err error) {
			const passes = 3
			sw := startWatch()
			for range passes {
				if _, err := p.Forward(tokens); err != nil {
					return m, err
				}
			}
			cpu, _ := sw.stop()
			m.Value = cpu / passes
			return m, nil
		})
		return m.Value, err
	}
	if _, err := pass(); err != nil { // warm
		return floats{}, err
	}
	return floats{"package train, slower than BLAS", pass, func() {}}, nil
}
