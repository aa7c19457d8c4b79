package main

import (
	"bytes"
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
// 32-bit integers, the tokens, and the weights as 32-bit floats; it prints an
// object with the BLAS it used, the CPU seconds of a forward pass and its logits.
//
//go:embed bench_blas.py
var blasScript string

// floatPass is the CPU time of one forward pass in 32-bit floats, on one core,
// of a program of the shape, and what computed it: numpy with OpenBLAS, if the
// machine has it and it comes to the same logits, otherwise package train.
func floatPass(ctx context.Context, g shapes.GPT, p *exact.Program, input, logits [][]int32) (seconds float64, by string, err error) {
	// The system's own Python is the one that has the system's numpy.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if seconds, by, err = blasPass(ctx, python, g, p, input, logits); err == nil {
			return seconds, by, nil
		}
	}
	progress("no OpenBLAS to compare with (Debian: python3-numpy and libopenblas0-pthread): %v", err)
	seconds, err = trainPass(g, len(input))
	return seconds, "package train, slower than BLAS", err
}

func blasPass(ctx context.Context, python string, g shapes.GPT, p *exact.Program, input, logits [][]int32) (float64, string, error) {
	var in bytes.Buffer
	put := func(v any) { binary.Write(&in, binary.LittleEndian, v) } // a Buffer takes all
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
	cmd := exec.CommandContext(ctx, python, "-c", blasScript)
	cmd.Stdin = &in
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
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return 0, "", fmt.Errorf("%s: %w %s", python, err, lines[len(lines)-1])
	}
	var r struct {
		BLAS   string    `json:"blas"`
		CPU    float64   `json:"cpu_s"`
		Logits []float64 `json:"logits"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, "", fmt.Errorf("%s: %w", python, err)
	}
	if r.BLAS == "" {
		return 0, "", errors.New("numpy multiplies without OpenBLAS")
	}
	if err := sameLogits(r.Logits, slices.Concat(logits...)); err != nil {
		return 0, "", fmt.Errorf("%s: %w", r.BLAS, err)
	}
	return r.CPU, r.BLAS, nil
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

// trainPass is a pass through blocks of the same shape with the vocabulary of
// package train, which is 256 and costs two per cent of a million parameters.
// Its products are nearly as fast as OpenBLAS's; what is between them is not.
func trainPass(g shapes.GPT, rows int) (float64, error) {
	p, err := train.NewParams(train.Shape{Layers: g.Layers, Width: g.Width, Heads: g.Heads, Context: g.Context})
	if err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range p.Flat {
		p.Flat[i] = float32(r.NormFloat64()) / 10
	}
	tokens := make([]byte, rows)
	for i := range tokens {
		tokens[i] = byte(r.Int32())
	}
	var times []float64
	for range 60 {
		const passes = 5
		sw := startWatch()
		for range passes {
			if _, err := p.Forward(tokens); err != nil {
				return 0, err
			}
		}
		cpu, _ := sw.stop()
		times = append(times, cpu/passes)
	}
	times = times[10:]
	slices.Sort(times)
	return times[len(times)/2], nil
}
