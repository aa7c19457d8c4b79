package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/zkml/runfile"
	"github.com/torg-network/torg/zkml/soundness"
)

// A refusal is the error that what was checked is not what it claims.
func refusal(format string, args ...any) error {
	return &codedError{exitVerify, fmt.Errorf(format, args...)}
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

// promptOf is the request's, as the model sees it.
func promptOf(r infer.Request) []byte {
	if len(r.Prompt) == 0 {
		return exact.Start
	}
	return r.Prompt
}

// bundledProver commits to the bundled model, once. The model is read, not run.
var bundledProver = sync.OnceValues(func() (*proof.Prover, error) { return proof.Commit(nano.Model()) })

// madeHere is where the bundled model's card is from, for people.
const madeHere = "made here by commitment to the bundled model's weights"

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
	Windows     int         `json:"windows"` // runs of the model that were proven
	Temperature string      `json:"temperature"`
	TopP        string      `json:"top_p"`
	Seed        square.Hash `json:"seed"`
	FileBytes   int         `json:"file_bytes"`
	ProofBytes  int         `json:"proof_bytes"`
	Bits        int         `json:"soundness_bits"` // at least so many, proven, round by round
}

func viewProof(f proof.File, file string, size int, m proof.Model) proofView {
	prompt := promptOf(f.Request)
	v := proofView{
		File: file, Model: m.Name, ModelID: f.Model, Prompt: string(prompt), Completion: (replay.Model{}).Text(f.Request, f.Result),
		Finish: finishWords[f.Result.Finish], PromptSize: len(prompt), Tokens: len(f.Result.Tokens),
		Windows:     proof.Windows(len(prompt), len(f.Result.Tokens), m.Card.Rows()),
		Temperature: thousandths(f.Request.Temperature, 1000), TopP: thousandths(f.Request.TopP, 10000), Seed: f.Request.Seed,
		FileBytes: size, Bits: soundness.MinBits,
	}
	for _, p := range f.Parts {
		v.ProofBytes += len(p)
	}
	return v
}

func (v proofView) print(row func(name, format string, a ...any)) {
	row("model", "%s  %s", v.Model, v.ModelID)
	row("prompt", "%s", quoted(v.Prompt))
	row("completion", "%s", quoted(v.Completion))
	row("tokens", "%d of prompt, %d of completion, finished by %s; said from %s", v.PromptSize, v.Tokens, v.Finish, count(v.Windows, "window"))
	row("sampling", "temperature %s, top_p %s, seed %s", v.Temperature, v.TopP, v.Seed.Short())
	row("file", "%s  %.1f KiB, of which logits and proof %.1f KiB", v.File, kib(v.FileBytes), kib(v.ProofBytes))
}

func kib(bytes int) float64 { return float64(bytes) / 1024 }

// rowPrinter prints lines of a name, which is ours, and words.
func rowPrinter(w io.Writer) func(name, format string, a ...any) {
	return func(name, format string, a ...any) {
		fmt.Fprintf(w, "%-12s %s\n", visible(name), visible(fmt.Sprintf(format, a...)))
	}
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
	var promptFile, text, in, model, out string
	var maxTokens int
	var seed int64
	var temperature, topP float64
	c := &cobra.Command{
		Use: "prove (--prompt FILE | --text TEXT | --in FILE)", Short: "Run a model and prove what it said",
		Long: "Complete a text with the bundled model, or --model, and prove it. The file that is written holds request,\n" +
			"answer, logits and proof; torg verify checks it without running the model. What the model says\n" +
			"from one window (" + fmt.Sprint(nano.Model().Context()) + " bytes) is proven in one pass, and an answer may take up to " + fmt.Sprint(proof.MaxWindows) + " windows. A proof\n" +
			"shows integrity and hides nothing. The same text, settings and seed give the same answer as\n" +
			"torg chat's model.\n" +
			"Models of torg model add that take numbers are run with --model NAME --in FILE: a JSON array of the\n" +
			"numbers, row by row. Input and output are in the file, and proven.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			given := 0
			for _, f := range []string{"prompt", "text", "in"} {
				if c.Flags().Changed(f) {
					given++
				}
			}
			if given != 1 {
				return usageError("give the prompt with --prompt FILE (- is standard input) or with --text, or a model's numbers with --in")
			}
			m, commit := nano.Model(), bundledProver
			if model != nano.Name {
				a, err := findAdded(c, model)
				if err != nil {
					return err
				}
				if in != "" {
					return proveRun(c, a, in, out)
				}
				if !a.Text {
					return usageError("model %s takes numbers, not text: give them with --in", a.Name)
				}
				if m, err = a.open(); err != nil {
					return err
				}
				commit = func() (*proof.Prover, error) { return proof.Commit(m) }
			} else if in != "" {
				return usageError("model %s takes text: give it with --text or --prompt", m.Name())
			}
			prompt := []byte(text)
			if promptFile != "" {
				var err error
				if prompt, err = readBounded(promptFile, infer.MaxPrompt); err != nil {
					return fmt.Errorf("read the prompt: %w", err)
				}
			}
			if maxTokens < 1 || maxTokens > infer.MaxTokens {
				return usageError("--max-tokens %d: want 1 to %d", maxTokens, infer.MaxTokens)
			}
			if n := proof.Windows(len(prompt), maxTokens, m.Context()); n > proof.MaxWindows {
				return usageError("--max-tokens %d: they would take %d windows of the model, and a proof is about at most %d", maxTokens, n, proof.MaxWindows)
			}
			if !(temperature >= 0 && temperature <= 10) || !(topP > 0 && topP <= 1) {
				return usageError("temperature is from 0 to 10, top-p above 0 and at most 1")
			}
			return prove(c, m, commit, out, infer.Request{
				Kind: infer.Exact, MaxTokens: uint32(maxTokens), Temperature: uint32(math.Round(temperature * 1000)), Seed: openai.Seed(uint64(seed)),
				TopP: uint32(max(math.Round(topP*10_000), 1)), Prompt: prompt,
			})
		},
	}
	f := c.Flags()
	f.StringVar(&promptFile, "prompt", "", "file that holds the prompt, taken byte by byte; - is standard input")
	f.StringVar(&text, "text", "", "the prompt")
	f.StringVar(&in, "in", "", "file that holds a model's numbers, a JSON array; - is standard input")
	f.StringVarP(&model, "model", "m", nano.Name, "a model of torg model list")
	f.IntVar(&maxTokens, "max-tokens", 32, "length of the completion")
	f.Int64Var(&seed, "seed", 0, "of the sampling, as in the API")
	f.Float64VarP(&temperature, "temperature", "t", 0.7, "0 is greedy")
	f.Float64Var(&topP, "top-p", 1, "sample from the likeliest tokens that have this probability together")
	f.StringVar(&out, "out", "answer.torgproof", "file to write")
	return c
}

func prove(c *cobra.Command, m *exact.Model, commit func() (*proof.Prover, error), out string, req infer.Request) error {
	all := startWatch()
	pr, err := commit()
	if err != nil {
		return err
	}
	res := proveResult{CommitS: time.Since(all.wall).Seconds()}
	progress("model %s committed in %.2f s: %s", pr.Name, res.CommitS, pr.ID().Short())

	f := proof.File{Model: pr.ID(), Request: req, Result: infer.Result{Kind: infer.Exact}}
	sw := startWatch()
	said, err := m.Generate(c.Context(), replay.Request(req), nil)
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
	windows := proof.Windows(said.PromptTokens, len(said.Tokens), pr.Card.Rows())
	progress("%d tokens generated in %.2f s; proving %s", len(f.Result.Tokens), res.GenerateS, count(windows, "window"))
	sw = startWatch()
	if err := pr.ProveAll(c.Context(), f.Request, f.Result, func(part []byte) error {
		f.Parts = append(f.Parts, part)
		if windows > proof.Batch {
			progress("%d of %d windows proven, at most %.0f MiB of memory", min(len(f.Parts)*proof.Batch, windows), windows, peakMiB())
		}
		return nil
	}); err != nil {
		return fmt.Errorf("prove: %w", err)
	}
	res.ProveCPU, res.ProveS = sw.stop()
	if err := f.Check(pr.Model); err != nil {
		return fmt.Errorf("the proof made here is refused here, which is a bug: %w", err)
	}
	b := f.Encode()
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	res.proofView = viewProof(f, out, len(b), pr.Model)
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

// count is so many of something, in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// peakMiB is the most memory this process has had at once; 0 where the system
// does not tell.
func peakMiB() float64 { return float64(host.Used().Peak) / (1 << 20) }

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
			"Of a run of numbers (torg prove --in): that the model gives the claimed outputs on the claimed input.\n" +
			"The model's card is made here, from the weights of the bundled model or of one that was added, or with\n" +
			"--card comes from a file of torg model card --out. A card from a file is believed, so take it from whom\n" +
			"you trust, or name the model's id, the hash of the card file, with --model.\n" +
			"Exit code 5 if anything is not as claimed.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var want *square.Hash
			if model != "" {
				id, err := square.ParseHash(model)
				if err != nil {
					return usageError("--model: %w", err)
				}
				want = &id
			}
			b, err := readBounded(args[0], max(proof.MaxFile, runfile.MaxFile))
			if err != nil {
				return fmt.Errorf("read the proof: %w", err)
			}
			if runfile.Is(b) {
				return verifyRun(c, args[0], b, cardFile, want)
			}
			f, err := proof.DecodeFile(b)
			if err != nil {
				return refusal("%s: %w", args[0], err)
			}
			start := time.Now()
			m, source, err := loadCard(c, f.Model, cardFile)
			if err != nil {
				return err
			}
			cardTime := time.Since(start)
			if want != nil && *want != m.ID() {
				return refusal("the card (%s) is of model %s, not of %s", source, m.ID(), *want)
			}
			return verify(c, args[0], len(b), f, m, source, cardTime)
		},
	}
	c.Flags().StringVar(&model, "model", "", "id that the model must have, 64 hex digits")
	c.Flags().StringVar(&cardFile, "card", "", "card file to check against, instead of a model that is here")
	return c
}

// loadCard reads a card file, or makes the card of the model with the id if it
// was added, else of the bundled one, and says where it is from.
func loadCard(c *cobra.Command, id square.Hash, file string) (m proof.Model, source string, err error) {
	if file == "" {
		if a, err := findAdded(c, id.String()); err == nil && a.Text {
			added, err := a.open()
			if err != nil {
				return m, "", err
			}
			p, err := proof.Commit(added)
			if err != nil {
				return m, "", err
			}
			return p.Model, "made here by commitment to the weights of " + a.Name, nil
		}
		p, err := bundledProver()
		if err != nil {
			return m, "", err
		}
		return p.Model, madeHere, nil
	}
	b, err := readBounded(file, proof.MaxCard)
	if err != nil {
		return m, "", fmt.Errorf("read the card: %w", err)
	}
	if m, err = proof.DecodeModel(b); err != nil {
		return m, "", refusal("%s: %w", file, err)
	}
	return m, "read from " + file + " and believed", nil
}

func verify(c *cobra.Command, name string, size int, f proof.File, m proof.Model, source string, cardTime time.Duration) error {
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	res := verifyResult{proofView: viewProof(f, name, size, m), Card: source, CardMS: ms(cardTime)}
	for i, p := range f.Parts {
		if cost, _, err := m.Price(f.Request, f.Result, i*proof.Batch, proof.Batch, p); err == nil {
			res.Gas += cost.Gas()
		}
	}
	sw := startWatch()
	refused := f.Check(m)
	cpu, wall := sw.stop()
	res.VerifyMS, res.CPUMS = wall*1000, cpu*1000
	if err := c.Context().Err(); err != nil {
		return err
	}
	if refused == nil {
		res.OK = true
		res.Checked = []string{
			fmt.Sprintf("the model gives the claimed logits at each of these %d tokens (%s)", res.Tokens, count(len(f.Parts), "proof")),
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
			row("model", "%s  %s", m.Name, m.ID())
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
