//go:build unix

// Package ezkl_test proves one layer, the same numbers, with EZKL and with
// package zkml, and tells what each took. EZKL is its npm engine 21.0.0,
// unmodified: a WebAssembly build that runs on one thread. Its native build is
// faster and uses all cores; npm does not have it, and it is not measured here.
//
//	npm --prefix test/clients/ezkl ci
//	go test ./test/clients/ezkl                   # a tiny layer
//	TORG_FULL=1 go test -v ./test/clients/ezkl    # also 8x64x32: over a minute
//
// Without node, or before npm ci, it is skipped and says so, in CI too: the
// engine's package names no licence, so that only who wants the comparison
// installs it.
package ezkl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/shape"
)

// ezklRun is what ezkl.mjs prints.
type ezklRun struct {
	CPU struct {
		Reference, VK, PK, Witness, Prove, Verify float64
	}
	Output                                       []int32
	Verified, Forgery, OtherOutput               bool
	ProofBytes, PKBytes, VKBytes, ReferenceBytes int
}

func TestTiny(t *testing.T) {
	compare(t, shape.Layer{Rows: 1, In: 3, Out: 4, Shift: 4}, 8, 128)
}

func TestLayer8x64x32(t *testing.T) {
	if os.Getenv("TORG_FULL") == "" {
		t.Skip("takes EZKL over a minute; set TORG_FULL=1")
	}
	// EZKL's default base, and the fewest rows into which the layer fits.
	compare(t, shape.Layer8x64x32, 15, 16384)
}

// compare proves a layer with both. EZKL gets a circuit of 2^logrows rows, and
// splits numbers into two digits of the base.
func compare(t *testing.T, l shape.Layer, logrows, base int) {
	prog, input := l.Program(2), l.Input(2)
	theirs := ezkl(t, map[string]any{
		"rows": l.Rows, "ins": l.In, "outs": l.Out, "shift": l.Shift, "logrows": logrows, "base": base,
		"input": slices.Concat(input...), "weights": prog.Consts[0].Data,
	})

	start := cpuSeconds()
	card, pk, err := zkml.Commit(prog)
	if err != nil {
		t.Fatal(err)
	}
	commit := cpuSeconds() - start
	var claim zkml.Claim
	var proof zkml.Proof
	prove := median(t, func() (err error) {
		claim, proof, err = pk.Prove(input)
		return err
	})
	verify := median(t, func() error { return zkml.Verify(card, claim, proof) })

	if !theirs.Verified {
		t.Error("EZKL refuses its own proof")
	}
	if theirs.Forgery || theirs.OtherOutput {
		t.Error("EZKL accepts a changed proof or output: what is verified here?")
	}
	if ours := slices.Concat(claim.Output[0]...); !slices.Equal(theirs.Output, ours) {
		t.Errorf("EZKL proved the output %d, torg %d", theirs.Output, ours)
	} else if slices.Max(ours) == 0 {
		t.Error("an output of zeros, that other weights would also have")
	}
	keys := theirs.CPU.VK + theirs.CPU.PK
	t.Logf("%dx%dx%d, CPU seconds, both verified, same output:", l.Rows, l.In, l.Out)
	t.Logf("EZKL (npm engine 21.0.0, WebAssembly, one thread, 2^%d rows): witness and prove %.3f, verify %.4f, proof %d bytes, keys %.2f (%d bytes), besides a structured reference string of %d bytes",
		logrows, theirs.CPU.Witness+theirs.CPU.Prove, theirs.CPU.Verify, theirs.ProofBytes, keys, theirs.PKBytes+theirs.VKBytes, theirs.ReferenceBytes)
	t.Logf("torg: run and prove %.4f, verify %.5f, proof %d bytes, commit %.4f (no keys)", prove, verify, len(proof), commit)
	t.Logf("EZKL / torg: prove %.0f, verify %.0f, proof size 1/%.0f",
		(theirs.CPU.Witness+theirs.CPU.Prove)/prove, theirs.CPU.Verify/verify, float64(len(proof))/float64(theirs.ProofBytes))
}

func ezkl(t *testing.T, layer map[string]any) ezklRun {
	t.Helper()
	bin, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat(filepath.Join("node_modules", "@ezkljs", "engine")); err != nil {
		t.Skip("the npm packages are not installed (npm --prefix test/clients/ezkl ci)")
	}
	for _, script := range []string{"ezkl.mjs", "model.mjs", "srs.mjs"} {
		if _, err := os.Stat(script); err != nil { // so that go test knows what it depends on
			t.Fatal(err)
		}
	}
	in, err := json.Marshal(layer)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "ezkl.mjs")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ezkl.mjs: %v\n%s", err, stderr.Bytes())
	}
	var r ezklRun
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("ezkl.mjs: %v\n%s", err, out)
	}
	return r
}

// median is the CPU seconds of one call, of eleven after a first.
func median(t *testing.T, f func() error) float64 {
	t.Helper()
	var all []float64
	for i := range 12 {
		start := cpuSeconds()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			all = append(all, cpuSeconds()-start)
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// cpuSeconds is the processor time of this process so far.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	s := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return s(u.Utime) + s(u.Stime)
}
