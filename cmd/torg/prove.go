package main

// Proof files, version 1. Numbers are little-endian; nothing may follow the
// end, and there is one encoding of every content.
//
//	"torgprf1"                 names the version
//	model          32 bytes    id of the model's zk card (zkml.Card.ID)
//	request        u32 length, then request bytes of trade/infer (kind 'x')
//	result         u32 length, then result bytes of trade/infer (kind 'x')
//	logits         u32 rows, u32 columns, then i32 each, row by row
//	proof          u32 length, then a proof of zkml
//
// Row i of logits is what the model says before token i of the completion. The
// claim that is proven follows from this: input is the prompt ("\n" for an
// empty one) and the completion without its last token, one byte a row; the
// rows of output 0 from the prompt's last row on are the logits; nothing is
// claimed of other outputs.
//
// Card files, version 1, hold what checking needs of a model:
//
//	"torgcrd1"
//	name           u8 length, then bytes
//	logit bits     u8          fractional bits of a logit
//	outputs        u8          of the program
//	card           the rest: zkml.Card.Encode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/soundness"
)

const (
	proofMagic = "torgprf1"
	cardMagic  = "torgcrd1"
	// maxProofFile bounds what is read of a proof file: 4,096 rows of logits
	// and a proof of eleven MiB.
	maxProofFile = 16 << 20
	maxCardFile  = zkml.MaxCard + 300
	vocab        = 256 // logits of a text model
)

// A refusal is the error that what was checked is not what it claims.
func refusal(format string, args ...any) error {
	return &codedError{exitVerify, fmt.Errorf(format, args...)}
}

// proofFile is what a proof file holds.
type proofFile struct {
	Model   square.Hash
	Request infer.Request
	Result  infer.Result
	Logits  [][]int32
	Proof   zkml.Proof
}

func (f proofFile) encode() []byte {
	chunk := func(b, p []byte) []byte { return append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), p...) }
	b := append([]byte(proofMagic), f.Model[:]...)
	b = chunk(b, f.Request.Encode())
	b = chunk(b, f.Result.Encode())
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Logits)))
	b = binary.LittleEndian.AppendUint32(b, vocab)
	for _, row := range f.Logits {
		for _, l := range row {
			b = binary.LittleEndian.AppendUint32(b, uint32(l))
		}
	}
	return chunk(b, f.Proof)
}

// decodeProofFile reads what encode wrote. Memory is bounded by the length of b.
func decodeProofFile(b []byte) (proofFile, error) {
	var f proofFile
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
	if len(b) > maxProofFile {
		return f, fmt.Errorf("more than %d MiB", maxProofFile>>20)
	}
	if string(take(uint64(len(proofMagic)))) != proofMagic {
		return f, errors.New("not a torg proof of version 1")
	}
	copy(f.Model[:], take(32))
	request, result := take(u32()), take(u32())
	rows, cols := u32(), u32()
	if rows > exact.MaxRows || cols != vocab {
		return f, fmt.Errorf("%d rows of %d logits: at most %d of %d", rows, cols, exact.MaxRows, vocab)
	}
	logits := take(4 * rows * cols)
	f.Proof = take(u32())
	if cut {
		return f, errors.New("it ends too early")
	}
	if len(b) > 0 {
		return f, fmt.Errorf("%d bytes after the end", len(b))
	}
	var err error
	if f.Request, err = infer.DecodeRequest(request); err != nil {
		return f, err
	}
	if f.Result, err = infer.DecodeResult(result); err != nil {
		return f, err
	}
	if f.Request.Kind != infer.Exact || f.Result.Kind != infer.Exact {
		return f, errors.New("not about an exact completion")
	}
	if f.Result.Finish == infer.FinishCancelled {
		return f, errors.New("about an answer that was cut off, of which there is nothing to check at its end")
	}
	f.Logits = make([][]int32, rows)
	for i := range f.Logits {
		f.Logits[i] = make([]int32, vocab)
		for j := range f.Logits[i] {
			f.Logits[i][j] = int32(binary.LittleEndian.Uint32(logits[4*(i*vocab+j):]))
		}
	}
	return f, nil
}

// readBounded reads a file of at most so many bytes; "-" is standard input.
func readBounded(name string, most int64) ([]byte, error) {
	r := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		r = file
	}
	return io.ReadAll(io.LimitReader(r, most+1))
}

// prompt is the request's, as the model sees it.
func (f proofFile) prompt() []byte {
	if len(f.Request.Prompt) == 0 {
		return exact.Start
	}
	return f.Request.Prompt
}

// claim is what the proof must be about, for a program of so many rows and
// outputs.
func (f proofFile) claim(rows, outputs int) (zkml.Claim, error) {
	prompt, tokens := f.prompt(), f.Result.Tokens
	n := len(prompt) + len(tokens) - 1
	switch {
	case len(tokens) == 0:
		return zkml.Claim{}, errors.New("it claims no completion")
	case n > rows:
		return zkml.Claim{}, fmt.Errorf("%d positions, and the model's window has %d", n, rows)
	case len(f.Logits) != len(tokens):
		return zkml.Claim{}, fmt.Errorf("%d rows of logits for %d tokens", len(f.Logits), len(tokens))
	}
	c := zkml.Claim{From: make([]int, outputs), Output: make([][][]int32, outputs)}
	for _, t := range prompt {
		c.Input = append(c.Input, []int32{int32(t)})
	}
	for _, t := range tokens[:len(tokens)-1] {
		c.Input = append(c.Input, []int32{int32(t)})
	}
	for k := range c.From {
		c.From[k] = n
	}
	c.From[0], c.Output[0] = len(prompt)-1, f.Logits
	return c, nil
}

// zkModel is what checking needs of a model.
type zkModel struct {
	Name      string
	LogitBits int
	Outputs   int
	Card      zkml.Card
	Source    string // where the card is from, for people
}

func (m zkModel) id() square.Hash { return m.Card.ID() }

func (m zkModel) encode() []byte {
	b := append([]byte(cardMagic), byte(len(m.Name)))
	b = append(b, m.Name...)
	b = append(b, byte(m.LogitBits), byte(m.Outputs))
	return append(b, m.Card.Encode()...)
}

func decodeCardFile(b []byte) (zkModel, error) {
	head := len(cardMagic) + 1
	if len(b) < head || string(b[:len(cardMagic)]) != cardMagic || len(b) > maxCardFile {
		return zkModel{}, errors.New("not a torg card of version 1")
	}
	name := int(b[head-1])
	if len(b) < head+name+2 {
		return zkModel{}, errors.New("it ends too early")
	}
	m := zkModel{Name: string(b[head : head+name])}
	b = b[head+name:]
	m.LogitBits, m.Outputs = int(b[0]), int(b[1])
	if name == 0 || strings.Trim(m.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return zkModel{}, errors.New("its name is not one of a-z, 0-9, dot and dash")
	}
	if m.LogitBits > 16 || m.Outputs == 0 {
		return zkModel{}, fmt.Errorf("%d logit bits, %d outputs", m.LogitBits, m.Outputs)
	}
	var err error
	m.Card, err = zkml.DecodeCard(b[2:])
	return m, err
}

// bundledZK commits to the bundled model. The model is read, not run.
func bundledZK() (zkModel, *zkml.ProverKey, error) {
	m := nano.Model()
	card, pk, err := zkml.Commit(m.Program())
	if err != nil {
		return zkModel{}, nil, fmt.Errorf("commit to the bundled model: %w", err)
	}
	return zkModel{m.Name(), m.Card().LogitBits, len(m.Program().Outputs), card, "made here by commitment to the bundled model's weights"}, pk, nil
}

// check refuses a file whose proof or tokens are not those of the model. The
// model is not run.
func (f proofFile) check(ctx context.Context, m zkModel) error {
	if f.Model != m.id() {
		return fmt.Errorf("it is about model %s, not %s (%s)", f.Model.Short(), m.id().Short(), m.Name)
	}
	claim, err := f.claim(m.Card.Rows(), m.Outputs)
	if err != nil {
		return err
	}
	if err := zkml.Verify(m.Card, claim, f.Proof); err != nil {
		return err
	}
	return f.checkSampling(ctx, m)
}

// checkSampling asks package exact whether the claimed tokens are those of its
// sampling rule. It judges generations by executing a model; here that is a
// stand-in of one operation which looks its logits up in the claim, so exactly
// the rule is checked, stop sequences and the reason for ending included.
func (f proofFile) checkSampling(ctx context.Context, m zkModel) error {
	rows := m.Card.Rows()
	said := make([]int32, rows*vocab)
	first := len(f.prompt()) - 1
	for i, row := range f.Logits {
		copy(said[(first+i)*vocab:], row)
	}
	p := &exact.Program{Rows: rows}
	p.Op(exact.Input, nil, nil, 1, 0, vocab-1)
	at := p.Op(exact.Position, nil, nil, int64(rows))
	p.Outputs = []exact.Value{p.Op(exact.Gather, []exact.Value{at}, []int{p.Const(rows, vocab, said)})}
	file, err := exact.Encode(exact.Card{Name: "claimed", Text: true, LogitBits: m.LogitBits}, p)
	if err != nil {
		return fmt.Errorf("the claimed logits are no logits: %w", err)
	}
	claimed, err := exact.Load(file)
	if err != nil {
		return fmt.Errorf("the claimed logits are no logits: %w", err)
	}
	tokens := make([]int, len(f.Result.Tokens))
	for i, t := range f.Result.Tokens {
		tokens[i] = int(t)
	}
	v, err := claimed.Verify(ctx, replay.Request(f.Request), tokens)
	if err != nil {
		return err
	}
	if v.Agreed != len(tokens) {
		return fmt.Errorf("token %d of the completion is not the one that the sampling rule takes from the proven logits", v.Agreed)
	}
	if replay.Finish(v.Finish) != f.Result.Finish {
		return fmt.Errorf("it claims to have ended by %s, and did not", finishWords[f.Result.Finish])
	}
	return nil
}

// proofView is what prove and verify tell of a file alike.
type proofView struct {
	File        string      `json:"file"`
	Model       string      `json:"model"`
	ModelID     square.Hash `json:"model_id"`
	Prompt      string      `json:"prompt"`
	Completion  string      `json:"completion"`
	Finish      string      `json:"finish"`
	PromptSize  int         `json:"prompt_tokens"`
	Tokens      int         `json:"completion_tokens"`
	Temperature string      `json:"temperature"`
	TopP        string      `json:"top_p"`
	Seed        square.Hash `json:"seed"`
	FileBytes   int         `json:"file_bytes"`
	ProofBytes  int         `json:"proof_bytes"`
	Bits        int         `json:"soundness_bits"` // at least so many, proven, round by round
}

func (f proofFile) view(file string, size int, m zkModel) proofView {
	return proofView{
		File: file, Model: m.Name, ModelID: f.Model, Prompt: string(f.prompt()), Completion: (replay.Model{}).Text(f.Request, f.Result),
		Finish: finishWords[f.Result.Finish], PromptSize: len(f.prompt()), Tokens: len(f.Result.Tokens),
		Temperature: thousandths(f.Request.Temperature, 1000), TopP: thousandths(f.Request.TopP, 10000), Seed: f.Request.Seed,
		FileBytes: size, ProofBytes: len(f.Proof), Bits: soundness.MinBits,
	}
}

func (v proofView) print(row func(name, format string, a ...any)) {
	row("model", "%s  %s", v.Model, v.ModelID)
	row("prompt", "%s", quoted(v.Prompt))
	row("completion", "%s", quoted(v.Completion))
	row("tokens", "%d of prompt, %d of completion, finished by %s", v.PromptSize, v.Tokens, v.Finish)
	row("sampling", "temperature %s, top_p %s, seed %s", v.Temperature, v.TopP, v.Seed.Short())
	row("file", "%s  %.1f KiB, of which proof %.1f KiB", v.File, kib(v.FileBytes), kib(v.ProofBytes))
}

func kib(bytes int) float64 { return float64(bytes) / 1024 }

// rowPrinter prints lines of a name and words.
func rowPrinter(w io.Writer) func(name, format string, a ...any) {
	return func(name, format string, a ...any) { fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, a...)) }
}

// proveResult is what torg prove prints.
type proveResult struct {
	proofView
	CommitS   float64 `json:"commit_s"`
	GenerateS float64 `json:"generate_s"`
	ProveS    float64 `json:"prove_s"`
	ProveCPU  float64 `json:"prove_cpu_s"`
	WallS     float64 `json:"wall_s"` // of everything
	CPUS      float64 `json:"cpu_s"`
	PeakMiB   float64 `json:"peak_mib,omitempty"`
}

func proveCommand() *cobra.Command {
	var promptFile, text, out string
	var maxTokens int
	var seed int64
	var temperature, topP float64
	c := &cobra.Command{
		Use: "prove (--prompt FILE | --text TEXT)", Short: "Complete a text and prove that the model said it",
		Long: "Complete a text with the bundled model and prove it: prompt and completion in one pass. The file\n" +
			"that is written holds request, answer, logits and proof; torg verify checks it without running\n" +
			"the model. Prompt and completion share the model's window of " + fmt.Sprint(nano.Model().Context()) + " bytes. A proof shows integrity\n" +
			"and hides nothing. The same text, settings and seed give the same answer as torg chat's model.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("prompt") == c.Flags().Changed("text") {
				return usageError("give the prompt with --prompt FILE (- is standard input) or with --text")
			}
			prompt := []byte(text)
			if promptFile != "" {
				var err error
				if prompt, err = readBounded(promptFile, infer.MaxPrompt); err != nil {
					return fmt.Errorf("read the prompt: %w", err)
				}
			}
			n, err := fitWindow(len(prompt), maxTokens, c.Flags().Changed("max-tokens"))
			if err != nil {
				return err
			}
			if !(temperature >= 0 && temperature <= 10) || !(topP > 0 && topP <= 1) {
				return usageError("temperature is from 0 to 10, top-p above 0 and at most 1")
			}
			return prove(c, out, infer.Request{
				Kind: infer.Exact, MaxTokens: uint32(n), Temperature: uint32(math.Round(temperature * 1000)), Seed: seedHash(uint64(seed)),
				TopP: uint32(max(math.Round(topP*10_000), 1)), Prompt: prompt,
			})
		},
	}
	f := c.Flags()
	f.StringVar(&promptFile, "prompt", "", "file that holds the prompt, taken byte by byte; - is standard input")
	f.StringVar(&text, "text", "", "the prompt")
	f.IntVar(&maxTokens, "max-tokens", 32, "length of the completion; by default less if the window has less room")
	f.Int64Var(&seed, "seed", 0, "of the sampling, as in the API")
	f.Float64VarP(&temperature, "temperature", "t", 0.7, "0 is greedy")
	f.Float64Var(&topP, "top-p", 1, "sample from the likeliest tokens that have this probability together")
	f.StringVar(&out, "out", "answer.torgproof", "file to write")
	return c
}

// seedHash is the seed of an exact request, as the gateway makes it from a
// number.
func seedHash(n uint64) square.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("torg/gateway/seed/1"), n))
}

// fitWindow is how many tokens can be generated and proven in one window. The
// last token need not be seen, so they may be one more than the window.
func fitWindow(prompt, tokens int, asked bool) (int, error) {
	window := nano.Model().Context()
	room := window + 1 - max(prompt, 1)
	switch {
	case room < 1:
		return 0, usageError("the prompt has %d bytes, and the model's window has %d: a proof is about one window, so shorten the prompt", prompt, window)
	case tokens < 1:
		return 0, usageError("a completion has at least one token")
	case asked && tokens > room:
		return 0, usageError("a prompt of %d bytes leaves room for %d tokens in the model's window of %d, not %d: a proof is about one window", prompt, room, window, tokens)
	}
	return min(tokens, room), nil
}

func prove(c *cobra.Command, out string, req infer.Request) error {
	all := startWatch()
	zk, pk, err := bundledZK()
	if err != nil {
		return err
	}
	res := proveResult{CommitS: time.Since(all.wall).Seconds()}
	progress("model %s committed in %.2f s: %s", zk.Name, res.CommitS, zk.id().Short())

	f := proofFile{Model: zk.id(), Request: req, Result: infer.Result{Kind: infer.Exact}}
	sw := startWatch()
	said, err := nano.Model().Generate(c.Context(), replay.Request(req), nil)
	if err != nil {
		return err
	}
	if err := c.Context().Err(); err != nil {
		return err
	}
	_, res.GenerateS = sw.stop()
	f.Result.Finish = replay.Finish(said.Finish)
	for _, t := range said.Tokens {
		f.Result.Tokens = append(f.Result.Tokens, uint16(t))
	}

	f.Logits = make([][]int32, len(f.Result.Tokens))
	claim, err := f.claim(zk.Card.Rows(), zk.Outputs)
	if err != nil {
		return err
	}
	progress("%d tokens generated in %.2f s; proving %d positions", len(f.Result.Tokens), res.GenerateS, len(claim.Input))
	sw = startWatch()
	claim, f.Proof, err = pk.ProveFrom(claim.Input, claim.From)
	if err != nil {
		return fmt.Errorf("prove: %w", err)
	}
	f.Logits = claim.Output[0]
	res.ProveCPU, res.ProveS = sw.stop()
	if err := f.check(c.Context(), zk); err != nil {
		return fmt.Errorf("the proof made here is refused here, which is a bug: %w", err)
	}
	b := f.encode()
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	res.proofView = f.view(out, len(b), zk)
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

// peakMiB is the most memory this process has had at once; 0 where the system
// does not tell.
func peakMiB() float64 {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(r.Maxrss) / (1 << 20) // in bytes there
	}
	return float64(r.Maxrss) / 1024
}

// verifyResult is what torg verify prints.
type verifyResult struct {
	proofView
	OK       bool     `json:"ok"`
	Card     string   `json:"card"`
	Checked  []string `json:"checked"`
	Refused  string   `json:"refused,omitempty"`
	Gas      uint64   `json:"gas"`
	CardMS   float64  `json:"card_ms"`
	VerifyMS float64  `json:"verify_ms"` // proof and sampling
	CPUMS    float64  `json:"verify_cpu_ms"`
}

func verifyCommand() *cobra.Command {
	var model, cardFile string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a proof that the model said it, without running the model",
		Long: "Check a file of torg prove, without running the model:\n" +
			"  - the model whose id the file names gives the claimed logits on prompt and completion (the proof);\n" +
			"  - every token of the completion is the one that the sampling rule takes from these logits with the\n" +
			"    request's seed, temperature and top_p, and the answer ended as claimed (done again, exactly).\n" +
			"The model's card is made here, from the bundled model's weights, or with --card comes from a file of\n" +
			"torg model card --out. A card from a file is believed, so take it from whom you trust, or name the\n" +
			"model's id with --model; the file's logit bits, which temperatures depend on, are not part of the id.\n" +
			"Exit code 5 if anything is not as claimed.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var want square.Hash
			if model != "" {
				var err error
				if want, err = square.ParseHash(model); err != nil {
					return usageError("--model: %w", err)
				}
			}
			b, err := readBounded(args[0], maxProofFile)
			if err != nil {
				return fmt.Errorf("read the proof: %w", err)
			}
			f, err := decodeProofFile(b)
			if err != nil {
				return refusal("%s: %w", args[0], err)
			}
			start := time.Now()
			m, err := loadCard(cardFile)
			if err != nil {
				return err
			}
			cardTime := time.Since(start)
			if model != "" && want != m.id() {
				return refusal("the card (%s) is of model %s, not of %s", m.Source, m.id(), want)
			}
			return verify(c, args[0], len(b), f, m, cardTime)
		},
	}
	c.Flags().StringVar(&model, "model", "", "id that the model must have, 64 hex digits")
	c.Flags().StringVar(&cardFile, "card", "", "card file to check against, instead of the bundled model")
	return c
}

func loadCard(file string) (zkModel, error) {
	if file == "" {
		m, _, err := bundledZK()
		return m, err
	}
	b, err := readBounded(file, maxCardFile)
	if err != nil {
		return zkModel{}, fmt.Errorf("read the card: %w", err)
	}
	m, err := decodeCardFile(b)
	if err != nil {
		return zkModel{}, refusal("%s: %w", file, err)
	}
	m.Source = "read from " + file + " and believed"
	return m, nil
}

func verify(c *cobra.Command, name string, size int, f proofFile, m zkModel, cardTime time.Duration) error {
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	res := verifyResult{proofView: f.view(name, size, m), Card: m.Source, CardMS: ms(cardTime)}
	if cost, err := zkml.Price(m.Card, 1, max(res.PromptSize+res.Tokens-1, 1), f.Proof); err == nil {
		res.Gas = cost.Gas()
	}
	sw := startWatch()
	refused := f.check(c.Context(), m)
	cpu, wall := sw.stop()
	res.VerifyMS, res.CPUMS = wall*1000, cpu*1000
	if err := c.Context().Err(); err != nil {
		return err
	}
	if refused == nil {
		res.OK = true
		res.Checked = []string{
			fmt.Sprintf("the model gives these %d rows of logits on these %d bytes (proof)", len(f.Logits), res.PromptSize+res.Tokens-1),
			fmt.Sprintf("all %d tokens are those that the sampling rule takes from them (done again)", res.Tokens),
			"the answer ended as claimed: " + res.Finish,
		}
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
		fmt.Fprintln(w, "verified: the model said this")
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

// modelView is a model in words.
type modelView struct {
	Name      string      `json:"name"`
	ID        square.Hash `json:"id"`     // of the zk card
	Digest    square.Hash `json:"digest"` // SHA-256 of the model file
	Source    string      `json:"source"`
	Weights   int         `json:"constants"`
	Context   int         `json:"context"`
	FileBytes int         `json:"file_bytes"`
	CardBytes int         `json:"card_bytes"`
	CommitS   float64     `json:"commit_s"`
	Card      string      `json:"card,omitempty"` // Markdown
}

func bundledView() (modelView, zkModel, error) {
	m := nano.Model()
	start := time.Now()
	zk, _, err := bundledZK()
	if err != nil {
		return modelView{}, zk, err
	}
	v := modelView{Name: m.Name(), ID: zk.id(), Digest: m.Digest(), Source: "bundled", Context: m.Context(),
		FileBytes: len(nano.File()), CardBytes: len(zk.encode()), CommitS: time.Since(start).Seconds()}
	for _, k := range m.Program().Consts {
		v.Weights += len(k.Data)
	}
	return v, zk, nil
}

func modelCommand() *cobra.Command {
	c := &cobra.Command{Use: "model", Short: "The models this torg can prove, and their cards"}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List models that can be proven", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v, _, err := bundledView()
			if err != nil {
				return err
			}
			return showTable(c.OutOrStdout(), []modelView{v}, table{
				{"model", "from", "context", "constants", "file", "id", "digest"},
				{v.Name, v.Source, fmt.Sprint(v.Context), fmt.Sprint(v.Weights), fmt.Sprintf("%.0f KiB", kib(v.FileBytes)), v.ID.String(), v.Digest.Short()},
			})
		},
	}
	var out string
	card := &cobra.Command{
		Use: "card [MODEL]", Short: "Show a model's card and ids",
		Long: "Show a model's card: what it is, the digest of its file, and the id that proofs name, which is made\n" +
			"here by commitment to its weights. --out writes the card that torg verify --card reads.",
		Args: cobra.MaximumNArgs(1), ValidArgs: []string{nano.Name},
		RunE: func(c *cobra.Command, args []string) error {
			v, zk, err := bundledView()
			if err != nil {
				return err
			}
			if len(args) == 1 && args[0] != v.Name && args[0] != v.ID.String() {
				return &codedError{exitNotFound, fmt.Errorf("no model is called %q; there is %s", args[0], v.Name)}
			}
			if out != "" {
				if err := os.WriteFile(out, zk.encode(), 0o644); err != nil {
					return fmt.Errorf("write the card: %w", err)
				}
				progress("card written to %s", out)
			}
			v.Card = nano.Card
			return show(c.OutOrStdout(), v, func(w io.Writer) {
				row := rowPrinter(w)
				row("model", "%s, %s", v.Name, v.Source)
				row("id", "%s", v.ID)
				row("", "zk card of %.1f KiB, committed in %.2f s", kib(v.CardBytes), v.CommitS)
				row("digest", "%s", v.Digest)
				row("", "model file of %.0f KiB, %d constants, context of %d bytes", kib(v.FileBytes), v.Weights, v.Context)
				fmt.Fprintf(w, "\n%s", bytes.TrimLeft([]byte(v.Card), "\n"))
			})
		},
	}
	card.Flags().StringVar(&out, "out", "", "write the card to this file")
	c.AddCommand(list, card)
	return c
}
