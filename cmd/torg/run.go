package main

// Run files, version 1, prove runs of models that are no text models. Numbers
// are little-endian; nothing may follow the end, and there is one encoding of
// every content.
//
//	"torgrun1"                 names the version
//	model          32 bytes    id of the model: the BLAKE3 hash of its card file
//	input          matrix
//	outputs        u8 number, of each: first row u32, then a matrix
//	proof          the rest:   a proof of zkml
//
//	matrix         rows u32, columns u32, then i32 each, row by row
//
// Card files, version 2, hold what checking such a run needs, and what its
// numbers mean:
//
//	"torgcrd2"
//	name           u8 length, then bytes
//	meaning        u32 length, then JSON: input and outputs, as torg model card shows them
//	card           the rest: zkml.Card.Encode

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"lukechampine.com/blake3"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/soundness"
)

const (
	runMagic     = "torgrun1"
	runCardMagic = "torgcrd2"
	maxRunFile   = 1 << 26
	maxMeaning   = 1 << 16
	maxRunCard   = zkml.MaxCard + maxMeaning + 300
	maxOutputs   = 16
)

// runFile is what a run file holds.
type runFile struct {
	Model square.Hash
	Claim zkml.Claim
	Proof zkml.Proof
}

func (f runFile) encode() []byte {
	u32 := binary.LittleEndian.AppendUint32
	matrix := func(b []byte, m [][]int32) []byte {
		cols := 0
		if len(m) > 0 {
			cols = len(m[0])
		}
		b = u32(u32(b, uint32(len(m))), uint32(cols))
		for _, row := range m {
			for _, e := range row {
				b = u32(b, uint32(e))
			}
		}
		return b
	}
	b := matrix(append([]byte(runMagic), f.Model[:]...), f.Claim.Input)
	b = append(b, byte(len(f.Claim.Output)))
	for k, o := range f.Claim.Output {
		b = matrix(u32(b, uint32(f.Claim.From[k])), o)
	}
	return append(b, f.Proof...)
}

// decodeRunFile reads what encode wrote. Memory is bounded by the length of b.
func decodeRunFile(b []byte) (runFile, error) {
	var f runFile
	if len(b) > maxRunFile {
		return f, fmt.Errorf("more than %d MiB", maxRunFile>>20)
	}
	cut := false
	take := func(n uint64) []byte {
		if n > uint64(len(b)) {
			cut, n = true, 0
		}
		p := b[:n:n]
		b = b[n:]
		return p
	}
	u32 := func() uint64 {
		if p := take(4); len(p) == 4 {
			return uint64(binary.LittleEndian.Uint32(p))
		}
		return 0
	}
	matrix := func() ([][]int32, error) {
		rows, cols := u32(), u32()
		if rows > exact.MaxRows || cols > exact.MaxCols || (rows == 0) != (cols == 0) {
			return nil, fmt.Errorf("a matrix of %d by %d", rows, cols)
		}
		data := take(4 * rows * cols)
		if cut {
			return nil, nil
		}
		m := make([][]int32, rows)
		for i := range m {
			m[i] = make([]int32, cols)
			for j := range m[i] {
				m[i][j] = int32(binary.LittleEndian.Uint32(data[4*(uint64(i)*cols+uint64(j)):]))
			}
		}
		return m, nil
	}
	if string(take(uint64(len(runMagic)))) != runMagic {
		return f, errors.New("not a torg run of version 1")
	}
	copy(f.Model[:], take(32))
	var err error
	if f.Claim.Input, err = matrix(); err != nil {
		return f, err
	}
	n := take(1)
	for !cut && len(f.Claim.From) < int(n[0]) {
		if n[0] > maxOutputs {
			return f, fmt.Errorf("%d outputs, at most %d", n[0], maxOutputs)
		}
		from := u32()
		if from > exact.MaxRows {
			return f, fmt.Errorf("an output from row %d on", from)
		}
		m, err := matrix()
		if err != nil {
			return f, err
		}
		f.Claim.From, f.Claim.Output = append(f.Claim.From, int(from)), append(f.Claim.Output, m)
	}
	if cut {
		return f, errors.New("it ends too early")
	}
	f.Proof = b
	return f, nil
}

// meaning says what a model's numbers stand for.
type meaning struct {
	Input   onnx.Input    `json:"input"`
	Outputs []onnx.Output `json:"outputs"`
}

// runModel is what checking a run needs of a model.
type runModel struct {
	Name string
	meaning
	Card zkml.Card
}

// id is the hash of the card file: of all that checking relies on, the scales
// that give numbers their meaning included.
func (m runModel) id() square.Hash { return blake3.Sum256(m.encode()) }

func (m runModel) encode() []byte {
	said := meaning{m.Input, slices.Clone(m.Outputs)}
	for i := range said.Outputs {
		said.Outputs[i].Loss = onnx.Loss{} // no part of what a run says
	}
	about, err := json.Marshal(said)
	if err != nil {
		panic(err) // of numbers that are none, which the importer has not
	}
	b := append([]byte(runCardMagic), byte(len(m.Name)))
	b = append(b, m.Name...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(about))), about...)
	return append(b, m.Card.Encode()...)
}

func decodeRunCard(b []byte) (runModel, error) {
	var m runModel
	take := func(n int) []byte {
		if n > len(b) {
			return nil
		}
		p := b[:n:n]
		b = b[n:]
		return p
	}
	if len(b) > maxRunCard || string(take(len(runCardMagic))) != runCardMagic {
		return m, errors.New("not a torg card of version 2")
	}
	cut := errors.New("it ends too early")
	n := take(1)
	if n == nil {
		return m, cut
	}
	name := take(int(n[0]))
	size := take(4)
	if name == nil || size == nil {
		return m, cut
	}
	if m.Name = string(name); !modelName(m.Name) {
		return m, errors.New("its name is not one of a-z, 0-9, dot and dash")
	}
	about := take(int(min(binary.LittleEndian.Uint32(size), maxMeaning+1)))
	if about == nil || len(about) > maxMeaning {
		return m, cut
	}
	if err := json.Unmarshal(about, &m.meaning); err != nil {
		return m, fmt.Errorf("its meaning: %w", err)
	}
	var err error
	m.Card, err = zkml.DecodeCard(b)
	return m, err
}

// modelName reports whether a model may have the name.
func modelName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" && strings.Trim(s, ".") != ""
}

// outputView is an output in numbers.
type outputView struct {
	Name     string      `json:"name"`
	FirstRow int         `json:"first_row"` // of the rows that are claimed
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

func (f runFile) view(file string, size int, m runModel) runView {
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
	v.Input = numbers(f.Claim.Input, m.meaning.Input.Frac)
	for k, rows := range f.Claim.Output {
		o := outputView{Name: fmt.Sprintf("output %d", k), FirstRow: f.Claim.From[k]}
		frac := 0
		if k < len(m.meaning.Outputs) {
			o.Name, frac = m.meaning.Outputs[k].Name, m.meaning.Outputs[k].Frac
		}
		o.Rows = numbers(rows, frac)
		v.Outputs = append(v.Outputs, o)
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
	list := func(name string, first int, rows [][]float64) {
		const most = 4
		for i, r := range rows {
			if i == most {
				row("", "… %d rows more", len(rows)-most)
				return
			}
			row(name, "row %d: %s", first+i, brief(r))
			name = ""
		}
	}
	list("input", 0, v.Input)
	for _, o := range v.Outputs {
		list(o.Name, o.FirstRow, o.Rows)
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
	b, err := readBounded(in, maxRunFile)
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
	if len(input) > a.Rows {
		return usageError("%s: %d rows, and the model takes at most %d", in, len(input), a.Rows)
	}
	model, err := a.open()
	if err != nil {
		return err
	}
	card, pk, err := zkml.Commit(model.Program())
	if err != nil {
		return fmt.Errorf("commit to %s: %w", a.Name, err)
	}
	m := runModel{a.Name, a.meaning, card}
	res := proveRunResult{CommitS: time.Since(all.wall).Seconds()}
	progress("model %s committed in %.2f s: %s; proving %s", m.Name, res.CommitS, m.id().Short(), count(len(input), "row"))
	// Of each output the rows that hold it.
	from := make([]int, len(a.Outputs))
	for k, o := range a.Outputs {
		switch o.Row {
		case onnx.EachRow:
		case onnx.AnyRow:
			from[k] = len(input) - 1
		default:
			from[k] = min(o.Row, len(input)-1)
		}
	}
	f := runFile{Model: m.id()}
	sw := startWatch()
	if f.Claim, f.Proof, err = pk.ProveFrom(input, from); err != nil {
		return fmt.Errorf("prove: %w", err)
	}
	res.ProveCPU, res.ProveS = sw.stop()
	if err := f.check(m); err != nil {
		return fmt.Errorf("the proof made here is refused here, which is a bug: %w", err)
	}
	b = f.encode()
	if len(b) > maxRunFile {
		return fmt.Errorf("a file of %d bytes, at most %d: prove fewer rows", len(b), maxRunFile)
	}
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	res.runView = f.view(out, len(b), m)
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

// check says whether the file proves what it claims about the model.
func (f runFile) check(m runModel) error {
	if f.Model != m.id() {
		return fmt.Errorf("it is about model %s, not %s (%s)", f.Model.Short(), m.id().Short(), m.Name)
	}
	return zkml.Verify(m.Card, f.Claim, f.Proof)
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
	f, err := decodeRunFile(b)
	if err != nil {
		return refusal("%s: %w", name, err)
	}
	start := time.Now()
	m, source, err := loadRunCard(c, f.Model, cardFile)
	if err != nil {
		return err
	}
	if want != nil && *want != m.id() {
		return refusal("the card (%s) is of model %s, not of %s", source, m.id(), *want)
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	res := verifyRunResult{runView: f.view(name, len(b), m), Card: source, CardMS: ms(time.Since(start))}
	if cost, err := zkml.Price(m.Card, 1, max(len(f.Claim.Input), 1), f.Proof); err == nil {
		res.Gas = cost.Gas()
	}
	sw := startWatch()
	refused := f.check(m)
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
			row("model", "%s  %s", m.Name, m.id())
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

// loadRunCard reads a card file, or makes the card of a model that was added,
// and says where it is from.
func loadRunCard(c *cobra.Command, id square.Hash, file string) (m runModel, source string, err error) {
	if file != "" {
		b, err := readBounded(file, maxRunCard)
		if err != nil {
			return m, "", fmt.Errorf("read the card: %w", err)
		}
		if m, err = decodeRunCard(b); err != nil {
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
	model, err := a.open()
	if err != nil {
		return m, "", err
	}
	card, _, err := zkml.Commit(model.Program())
	if err != nil {
		return m, "", fmt.Errorf("commit to %s: %w", a.Name, err)
	}
	return runModel{a.Name, a.meaning, card}, "made here by commitment to the weights of " + a.Name, nil
}
