package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/runfile"
	"github.com/torg-network/torg/zkml/soundness"
)

// outputView is an output in numbers.
type outputView struct {
	Name     string      `json:"name"`
	FirstRow int         `json:"first_row"` // of Rows, in the run
	Rows     [][]float64 `json:"rows"`
}

// runView is what prove and verify tell of a run alike.
type runView struct {
	File       string       `json:"file"`
	Model      string       `json:"model"`
	ModelID    square.Hash  `json:"model_id"`
	Rows       int          `json:"rows"`
	Input      [][]float64  `json:"input"`
	Outputs    []outputView `json:"outputs"`
	FileBytes  int          `json:"file_bytes"`
	ProofBytes int          `json:"proof_bytes"`
	Bits       int          `json:"soundness_bits"`
}

func viewRun(f runfile.File, file string, size int, m runfile.Model) runView {
	v := runView{File: file, Model: m.Name, ModelID: f.Model, Rows: len(f.Claim.Input), FileBytes: size, ProofBytes: len(f.Proof), Bits: soundness.MinBits}
	numbers := func(rows [][]int32, frac int) [][]float64 {
		out := make([][]float64, len(rows))
		for i, r := range rows {
			out[i] = make([]float64, len(r))
			for j, e := range r {
				out[i][j] = onnx.Output{Frac: frac}.Number(e)
			}
		}
		return out
	}
	v.Input = numbers(f.Claim.Input, m.Input.Frac)
	for k, rows := range f.Claim.Output[:min(len(f.Claim.Output), len(m.Outputs))] {
		says := m.Outputs[k]
		if says.Row != onnx.EachRow { // rows after it are in the file, and mean nothing
			rows = rows[:min(len(rows), 1)]
		}
		v.Outputs = append(v.Outputs, outputView{Name: says.Name, FirstRow: f.Claim.From[k], Rows: numbers(rows, says.Frac)})
	}
	return v
}

// brief is a row of numbers for people.
func brief(row []float64) string {
	const most = 10
	var s []string
	for _, x := range row[:min(len(row), most)] {
		s = append(s, fmt.Sprintf("%.5g", x))
	}
	out := strings.Join(s, " ")
	if len(row) > most {
		best := 0
		for i, x := range row {
			if x > row[best] {
				best = i
			}
		}
		out += fmt.Sprintf(" … (%d numbers, the greatest %.5g at %d)", len(row), row[best], best)
	}
	return out
}

func (v runView) print(row func(name, format string, a ...any)) {
	row("model", "%s  %s", v.Model, v.ModelID)
	list := func(name, whose string, first int, rows [][]float64) {
		const most = 4
		for i, r := range rows {
			if i == most {
				row("", "… %d rows more", len(rows)-most)
				return
			}
			row(name, "%srow %d: %s", whose, first+i, brief(r))
			name = ""
		}
	}
	list("input", "", 0, v.Input)
	for _, o := range v.Outputs {
		list("output", named(o.Name)+", ", o.FirstRow, o.Rows)
	}
	row("file", "%s  %.1f KiB, of which proof %.1f KiB", v.File, kib(v.FileBytes), kib(v.ProofBytes))
}

// proveRunResult is what torg prove --in prints.
type proveRunResult struct {
	runView
	CommitS  float64 `json:"commit_s"`
	ProveS   float64 `json:"prove_s"`
	ProveCPU float64 `json:"prove_cpu_s"`
	WallS    float64 `json:"wall_s"`
	CPUS     float64 `json:"cpu_s"`
	PeakMiB  float64 `json:"peak_mib,omitempty"`
}

// proveRun runs a model on numbers and proves it.
func proveRun(c *cobra.Command, a added, in, out string) error {
	all := startWatch()
	b, err := readBounded(in, runfile.MaxFile)
	if err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	flat, err := onnx.ParseSample(b)
	if err != nil {
		return usageError("%s: %w", in, err)
	}
	rows, err := onnx.Rows(flat, a.Input.Columns)
	if err != nil {
		return usageError("%s: %w", in, err)
	}
	input, err := a.Input.Encode(rows)
	if err != nil {
		return usageError("%s: %w; give such numbers, or add the model again with samples that reach so far", in, err)
	}
	m, pk, err := a.run()
	if err != nil {
		return err
	}
	from, err := m.From(len(input))
	if err != nil {
		return usageError("%s: %w", in, err)
	}
	res := proveRunResult{CommitS: time.Since(all.wall).Seconds()}
	progress("model %s committed in %.2f s: %s; proving %s", m.Name, res.CommitS, square.Hash(m.ID()).Short(), count(len(input), "row"))
	f := runfile.File{Model: m.ID()}
	sw := startWatch()
	if f.Claim, f.Proof, err = pk.ProveFrom(input, from); err != nil {
		return fmt.Errorf("prove: %w", err)
	}
	res.ProveCPU, res.ProveS = sw.stop()
	if err := f.Check(m); err != nil {
		return fmt.Errorf("the proof made here is refused here, which is a bug: %w", err)
	}
	b = f.Encode()
	if len(b) > runfile.MaxFile {
		return fmt.Errorf("a file of %d bytes, at most %d: prove fewer rows", len(b), runfile.MaxFile)
	}
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	res.runView = viewRun(f, out, len(b), m)
	res.CPUS, res.WallS = all.stop()
	res.PeakMiB = peakMiB()
	return show(c.OutOrStdout(), res, func(w io.Writer) {
		row := rowPrinter(w)
		res.print(row)
		row("proving", "%.2f s, %.2f s of processor time", res.ProveS, res.ProveCPU)
		row("everything", "%.2f s, %.2f s of processor time, at most %.0f MiB of memory", res.WallS, res.CPUS, res.PeakMiB)
		row("soundness", "at least %d bits, proven, round by round", res.Bits)
	})
}

// verifyRunResult is what torg verify prints of a run.
type verifyRunResult struct {
	runView
	OK       bool     `json:"ok"`
	Card     string   `json:"card"`
	Checked  []string `json:"checked"`
	Refused  string   `json:"refused,omitempty"`
	Gas      uint64   `json:"gas"`
	CardMS   float64  `json:"card_ms"`
	VerifyMS float64  `json:"verify_ms"`
	CPUMS    float64  `json:"verify_cpu_ms"`
}

// verifyRun checks a run file. Without a card file, the model must be one that
// was added.
func verifyRun(c *cobra.Command, name string, b []byte, cardFile string, want *square.Hash) error {
	f, err := runfile.Decode(b)
	if err != nil {
		return refusal("%s: %w", name, err)
	}
	start := time.Now()
	m, source, err := loadRunCard(c, f.Model, cardFile)
	if err != nil {
		return err
	}
	if want != nil && *want != m.ID() {
		return refusal("the card (%s) is of model %s, not of %s", source, square.Hash(m.ID()), *want)
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	res := verifyRunResult{runView: viewRun(f, name, len(b), m), Card: source, CardMS: ms(time.Since(start))}
	if cost, err := zkml.Price(m.Card, 1, max(len(f.Claim.Input), 1), f.Proof); err == nil {
		res.Gas = cost.Gas()
	}
	sw := startWatch()
	refused := f.Check(m)
	cpu, wall := sw.stop()
	res.VerifyMS, res.CPUMS = wall*1000, cpu*1000
	if refused == nil {
		res.OK = true
		res.Checked = []string{fmt.Sprintf("the model gives these outputs on this input of %s (proof)", count(len(f.Claim.Input), "row"))}
	} else {
		res.Refused, res.Bits = refused.Error(), 0
	}
	if err := show(c.OutOrStdout(), res, func(w io.Writer) {
		row := rowPrinter(w)
		if !res.OK {
			fmt.Fprintln(w, "refused: the file does not prove what it claims")
			row("file", "%s", name)
			row("model", "%s  %s", m.Name, square.Hash(m.ID()))
			row("card", "%s", res.Card)
			return
		}
		fmt.Fprintln(w, "verified: the model gave this")
		res.print(row)
		row("card", "%s", res.Card)
		for _, s := range res.Checked {
			row("checked", "%s", s)
		}
		row("soundness", "at least %d bits, proven, round by round", res.Bits)
		row("time", "%.1f ms (%.1f ms of processor time), and %.0f ms for the card; the model was not run", res.VerifyMS, res.CPUMS, res.CardMS)
	}); err != nil {
		return err
	}
	if refused != nil {
		return refusal("%s: %w", name, refused)
	}
	return nil
}

// run makes what proving and checking runs of the model takes. It must be the
// model that was added.
func (a added) run() (m runfile.Model, pk *zkml.ProverKey, err error) {
	model, err := a.open()
	if err != nil {
		return m, nil, err
	}
	m = runfile.Model{Name: a.Name, Meaning: a.Meaning}
	if m.Card, pk, err = zkml.Commit(model.Program()); err != nil {
		return m, nil, fmt.Errorf("commit to %s: %w", a.Name, err)
	}
	if id := square.Hash(m.ID()); id != a.ID {
		return m, nil, refusal("model %s: it was added as %s, and its card is of %s now: add the model again", a.Name, a.ID, id)
	}
	return m, pk, nil
}

// loadRunCard reads a card file, or makes the card of a model that was added,
// and says where it is from.
func loadRunCard(c *cobra.Command, id square.Hash, file string) (m runfile.Model, source string, err error) {
	if file != "" {
		b, err := readBounded(file, runfile.MaxCard)
		if err != nil {
			return m, "", fmt.Errorf("read the card: %w", err)
		}
		if m, err = runfile.DecodeModel(b); err != nil {
			return m, "", refusal("%s: %w", file, err)
		}
		return m, "read from " + file + " and believed", nil
	}
	a, err := findAdded(c, id.String())
	if exitCode(err) == exitNotFound {
		return m, "", &codedError{exitNotFound, fmt.Errorf("it is about model %s, which was not added here: give its card with --card, or add it with torg model add", id)}
	} else if err != nil {
		return m, "", err
	}
	if m, _, err = a.run(); err != nil {
		return m, "", err
	}
	return m, "made here by commitment to the weights of " + a.Name, nil
}
