package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml"
	shapes "github.com/torg-network/torg/zkml/shape"
)

// How often each proof is made, and checked; the median by wall time is told.
const (
	proveRuns  = 5
	verifyRuns = 51
	floatRuns  = 9 // of a proof and passes in floats, in turns
)

// benchZKML measures proofs of the shapes by which proof systems are compared.
// All outputs of all rows are proven. Each figure of time is that of one proof,
// not of the measurement: wall time in value, CPU time of the same proof in
// cpu_s.
func benchZKML(ctx context.Context, _ config, report func(measure)) error {
	for _, b := range []struct {
		name  string
		rows  int // that size, verify, memory and bits are told for; 0 for none
		input [][]int32
		make  func() *exact.Program
		gpt   *shapes.GPT // whose overhead is told; nil for none
	}{
		// First, so that nothing else is in memory.
		{"nanogpt-1m/t64", 64, shapes.NanoGPT1M.Input(1, 64), func() *exact.Program { return shapes.NanoGPT1M.Program(1) }, &shapes.NanoGPT1M},
		{"nanogpt-1m/t128", 0, shapes.NanoGPT1M.Input(1, 128), func() *exact.Program { return shapes.NanoGPT1M.Program(1) }, nil},
		{"ezkl-nanogpt/t64", 0, shapes.EZKL.Input(1, 64), func() *exact.Program { return shapes.EZKL.Program(1) }, nil},
		{"mlp-4m", 0, shapes.MLP4M.Input(1), func() *exact.Program { return shapes.MLP4M.Program(1) }, nil},
		{"cnn-264k", 0, shapes.CNN264k.Input(1, 1), func() *exact.Program { return shapes.CNN264k.Program(1, 1) }, nil},
		{"layer-8x64x32", 0, shapes.Layer8x64x32.Input(1), func() *exact.Program { return shapes.Layer8x64x32.Program(1) }, nil},
	} {
		card, pk, err := zkml.Commit(b.make())
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := benchProofs(ctx, b.name, b.rows, card, pk, b.input, report); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if b.gpt == nil {
			continue
		}
		if err := benchFloats(ctx, b.name, *b.gpt, b.make(), pk, b.input, report); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

func benchProofs(ctx context.Context, name string, rows int, card zkml.Card, pk *zkml.ProverKey, input [][]int32, report func(measure)) error {
	var claim zkml.Claim
	var proof zkml.Proof
	one := func() (m measure, err error) {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		sw := startWatch()
		claim, proof, err = pk.Prove(input)
		cpu, wall := sw.stop()
		return measure{"prove/" + name, wall, "s", cpu, wall}, err
	}
	debug.FreeOSMemory()
	forgetPeak := resetPeak()
	if _, err := one(); err != nil { // warm
		return err
	}
	if rows > 0 {
		// The whole process during its first proof, committed weights included.
		switch peak, err := peakSince(); {
		case forgetPeak != nil || err != nil:
			progress("memory/%s is left out: %v", name, cmp.Or(forgetPeak, err))
		default:
			report(measure{"memory/" + name, peak, "MiB", 0, 0})
		}
	}
	m, err := median(proveRuns, one)
	if err != nil {
		return err
	}
	report(m)
	if rows == 0 {
		return zkml.Verify(card, claim, proof)
	}
	report(measure{"size/" + name, kib(len(proof)), "KiB", 0, 0})
	m, err = median(verifyRuns, func() (measure, error) {
		sw := startWatch()
		err := zkml.Verify(card, claim, proof)
		cpu, wall := sw.stop()
		return measure{"verify/" + name, wall * 1000, "ms", cpu, wall}, err
	})
	if err != nil {
		return err
	}
	report(m)
	budget, err := card.Budget(1, rows)
	if err != nil {
		return err
	}
	report(measure{"bits/" + name, budget.Bits(), "bits", 0, 0})
	return nil
}

// benchFloats tells how many times the CPU time of a pass in 32-bit floats it
// takes to prove one. Both are on one core, since two that share a cache, or
// even units of a core, take more CPU time for the same work; and in turns,
// since the machine is not always the same. The time in the row is that of the
// proof; the unit says what computed the floats.
func benchFloats(ctx context.Context, name string, g shapes.GPT, p *exact.Program, pk *zkml.ProverKey, input [][]int32, report func(measure)) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	claim, _, err := pk.Prove(input) // warm
	if err != nil {
		return err
	}
	f, err := openFloats(ctx, g, p, input, claim.Output[0])
	if err != nil {
		return err
	}
	defer f.close()
	m, err := median(floatRuns, func() (measure, error) {
		sw := startWatch()
		_, _, err := pk.Prove(input)
		cpu, wall := sw.stop()
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return measure{}, err
		}
		pass, err := f.pass()
		return measure{"overhead/" + name, cpu / pass, "times " + f.by, cpu, wall}, err
	})
	if err != nil {
		return err
	}
	progress("%s: on one core %.4g s to prove, %.4g ms for a pass in floats by %s", name, m.CPU, m.CPU/m.Value*1000, f.by)
	report(m)
	return nil
}

// median is the measurement in the middle of several.
func median(runs int, one func() (measure, error)) (measure, error) {
	var ms []measure
	for range runs {
		m, err := one()
		if err != nil {
			return m, err
		}
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b measure) int { return cmp.Compare(a.Value, b.Value) })
	return ms[len(ms)/2], nil
}

// resetPeak makes the system forget how much memory this process has had at
// most. Only Linux can.
func resetPeak() error {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("the system cannot measure memory from now on: %w", err)
	}
	return nil
}

// peakSince is the most memory this process has had since resetPeak, in MiB.
func peakSince() (float64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the system does not tell the greatest memory")
}
