package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/runfile"
)

// modelView is a model in words.
type modelView struct {
	Name      string      `json:"name"`
	ID        square.Hash `json:"id"`     // of the card file
	Digest    square.Hash `json:"digest"` // SHA-256 of the model file
	Source    string      `json:"source"`
	Weights   int         `json:"constants"`
	Context   int         `json:"context"` // rows of a run
	Text      bool        `json:"text"`    // bytes in, logits of the next byte out
	FileBytes int         `json:"file_bytes"`
	CardBytes int         `json:"card_bytes"`
	CommitS   float64     `json:"commit_s"`
	Card      string      `json:"card,omitempty"` // Markdown
}

// added is a model that torg model add made, as about.json beside it tells.
type added struct {
	modelView
	runfile.Meaning
	SourceDigest square.Hash `json:"source_digest"` // SHA-256 of the ONNX file
	Rows         int         `json:"rows"`
	Operations   int         `json:"operations"`
	Samples      int         `json:"samples"` // that scales were chosen by; 0 for none
	Causal       bool        `json:"causal"`
	Notes        []string    `json:"notes"`
	ImportS      float64     `json:"import_s"`
	dir          string
}

// Files of an added model, in models/NAME of the home directory.
const (
	modelsDir = "models"
	modelFile = "model.exact"
	aboutFile = "about.json"
)

func bundledView() (modelView, proof.Model, error) {
	m := nano.Model()
	start := time.Now()
	p, err := bundledProver()
	if err != nil {
		return modelView{}, proof.Model{}, err
	}
	return viewModel(m, len(nano.File()), p.ID(), len(p.Encode()), "bundled", start), p.Model, nil
}

func viewModel(m *exact.Model, size int, id square.Hash, card int, source string, start time.Time) modelView {
	v := modelView{Name: m.Name(), ID: id, Digest: m.Digest(), Source: source, Context: m.Context(), Text: m.Card().Text,
		FileBytes: size, CardBytes: card, CommitS: time.Since(start).Seconds()}
	for _, k := range m.Program().Consts {
		v.Weights += len(k.Data)
	}
	return v
}

// allAdded reads what is known of the models that were added to this home.
func allAdded(c *cobra.Command) ([]added, error) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(cfg.path(modelsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list the models: %w", err)
	}
	var all []added
	for _, d := range dirs {
		if !runfile.ValidName(d.Name()) || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		dir := cfg.path(modelsDir, d.Name())
		b, err := readBounded(filepath.Join(dir, aboutFile), runfile.MaxMeaning)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", d.Name(), err)
		}
		a := added{dir: dir}
		if err := json.Unmarshal(b, &a); err != nil {
			return nil, fmt.Errorf("model %s: %s: %w; add the model again", d.Name(), aboutFile, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// findAdded finds an added model by name or id.
func findAdded(c *cobra.Command, name string) (added, error) {
	all, err := allAdded(c)
	if err != nil {
		return added{}, err
	}
	names := []string{nano.Name}
	for _, a := range all {
		if a.Name == name || a.ID.String() == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return added{}, &codedError{exitNotFound, fmt.Errorf("no model is called %q; there is %s; add one with torg model add", name, strings.Join(names, ", "))}
}

// open reads the model file, which must be the one that was added.
func (a added) open() (*exact.Model, error) {
	b, err := readBounded(filepath.Join(a.dir, modelFile), exact.MaxEncoded)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", a.Name, err)
	}
	m, err := exact.Load(b)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", a.Name, err)
	}
	if m.Digest() != a.Digest {
		return nil, refusal("model %s: its file has the digest %x, not %s: add the model again", a.Name, m.Digest(), a.Digest)
	}
	return m, nil
}

// commit makes the card file of a model, and its id.
func commit(m *exact.Model, says runfile.Meaning) (card []byte, id square.Hash, err error) {
	if m.Card().Text {
		p, err := proof.Commit(m)
		if err != nil {
			return nil, id, err
		}
		return p.Encode(), p.ID(), nil
	}
	zk, _, err := zkml.Commit(m.Program())
	if err != nil {
		return nil, id, err
	}
	r := runfile.Model{Name: m.Name(), Meaning: says, Card: zk}
	return r.Encode(), r.ID(), nil
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
			all, err := allAdded(c)
			if err != nil {
				return err
			}
			views := []modelView{v}
			for _, a := range all {
				a.Card = ""
				views = append(views, a.modelView)
			}
			t := table{{"model", "from", "context", "constants", "file", "id", "digest"}}
			for _, v := range views {
				t = append(t, []any{v.Name, v.Source, fmt.Sprint(v.Context), fmt.Sprint(v.Weights), fmt.Sprintf("%.0f KiB", kib(v.FileBytes)), v.ID.String(), v.Digest.Short()})
			}
			return showTable(c.OutOrStdout(), views, t)
		},
	}
	var out string
	card := &cobra.Command{
		Use: "card [MODEL]", Short: "Show a model's card and ids",
		Long: "Show a model's card: what it is, the digest of its file, and the id that proofs name, which is made\n" +
			"by commitment to its weights. --out writes the card that torg verify --card reads.",
		Args: cobra.MaximumNArgs(1), ValidArgs: []string{nano.Name},
		RunE: func(c *cobra.Command, args []string) error {
			v, zk, err := bundledView()
			if err != nil {
				return err
			}
			if len(args) == 1 && args[0] != v.Name && args[0] != v.ID.String() {
				a, err := findAdded(c, args[0])
				if err != nil {
					return err
				}
				if out != "" {
					m, err := a.open()
					if err != nil {
						return err
					}
					b, _, err := commit(m, a.Meaning)
					if err != nil {
						return err
					}
					if err := writeCard(out, b); err != nil {
						return err
					}
				}
				return showAdded(c, a)
			}
			if out != "" {
				if err := writeCard(out, zk.Encode()); err != nil {
					return err
				}
			}
			v.Card = nano.Card
			return show(c.OutOrStdout(), v, func(w io.Writer) { printModel(w, v) })
		},
	}
	card.Flags().StringVar(&out, "out", "", "write the card to this file")
	c.AddCommand(list, card, addModelCommand())
	return c
}

func writeCard(out string, b []byte) error {
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return fmt.Errorf("write the card: %w", err)
	}
	progress("card written to %s", out)
	return nil
}

func printModel(w io.Writer, v modelView) {
	row := rowPrinter(w)
	row("model", "%s, %s", v.Name, v.Source)
	row("id", "%s", v.ID)
	row("", "zk card of %.1f KiB, committed in %.2f s", kib(v.CardBytes), v.CommitS)
	row("digest", "%s", v.Digest)
	row("", "model file of %.0f KiB, %d constants, context of %d", kib(v.FileBytes), v.Weights, v.Context)
	fmt.Fprintf(w, "\n%s", visibleLines(strings.TrimLeft(v.Card, "\n")))
}

func showAdded(c *cobra.Command, a added) error {
	return show(c.OutOrStdout(), a, func(w io.Writer) { printModel(w, a.modelView) })
}

func addModelCommand() *cobra.Command {
	var calib, name, domain string
	var rows int
	c := &cobra.Command{
		Use: "add FILE.onnx", Short: "Make an exact model of an ONNX network, so that its runs can be proven",
		Long: "Read an ONNX network, make an exact integer program of it, commit to its weights, and keep it in the\n" +
			"home directory, where torg prove and torg verify find it. There are no keys and no setup.\n" +
			"Scales are chosen by samples of the input (--calib): a file with one sample a line, a JSON array of\n" +
			"numbers or, for networks of bytes, a text. Without samples they follow from bounds of what inputs\n" +
			"within --domain can do. The card that is printed says what quantisation costs: how far the program's\n" +
			"results are from the network's in floating point.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o := onnx.Options{Name: name, Rows: rows}
			if o.Name == "" {
				o.Name = nameOf(args[0])
			}
			if !runfile.ValidName(o.Name) || o.Name == nano.Name {
				return usageError("a model cannot be called %q; give a name of a-z, 0-9, dot and dash with --name", o.Name)
			}
			if rows < 0 || rows > exact.MaxRows {
				return usageError("--rows %d: want 1 to %d", rows, exact.MaxRows)
			}
			if domain != "" {
				lo, hi, ok := strings.Cut(domain, ",")
				var err1, err2 error
				o.Lo, err1 = strconv.ParseFloat(lo, 64)
				o.Hi, err2 = strconv.ParseFloat(hi, 64)
				if !ok || err1 != nil || err2 != nil || !(o.Lo < o.Hi) || o.Lo < -1e9 || o.Hi > 1e9 {
					return usageError("--domain %q: want the least and the greatest number, as in --domain=-1,1", domain)
				}
			}
			if calib != "" {
				f := os.Stdin
				if calib != "-" {
					var err error
					if f, err = os.Open(calib); err != nil {
						return fmt.Errorf("read the samples: %w", err)
					}
					defer f.Close()
				}
				var err error
				if o.Samples, err = onnx.ReadSamples(f); err != nil {
					return usageError("%s: %w", calib, err)
				}
			}
			return addModel(c, args[0], o)
		},
	}
	f := c.Flags()
	f.StringVar(&calib, "calib", "", "file of samples of the input, one a line; - is standard input")
	f.StringVar(&name, "name", "", "of the model (default: the file's)")
	f.IntVar(&rows, "rows", 0, "most positions of a sequence, or samples of a run (default: as the network says)")
	f.StringVar(&domain, "domain", "", "least and greatest number of the input, without samples")
	return c
}

// nameOf makes a model's name of a file's.
func nameOf(file string) string {
	s := strings.TrimSuffix(strings.ToLower(filepath.Base(file)), ".onnx")
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, s)
	return strings.Trim(s[:min(len(s), 64)], "-.")
}

func addModel(c *cobra.Command, file string, o onnx.Options) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	b, err := readBounded(file, onnx.MaxFile)
	if err != nil {
		return fmt.Errorf("read the network: %w", err)
	}
	start := time.Now()
	im, err := onnx.Import(c.Context(), b, o)
	if err := c.Context().Err(); err != nil {
		return err
	}
	if err != nil {
		return usageError("%s: %w", file, err)
	}
	encoded, err := exact.Encode(im.Card, im.Program)
	if err != nil {
		return fmt.Errorf("encode the model: %w", err)
	}
	m, err := exact.Load(encoded)
	if err != nil {
		return fmt.Errorf("load the model: %w", err)
	}
	imported := time.Since(start)
	start = time.Now()
	says := runfile.Meaning{Input: im.Input, Outputs: im.Outputs}
	card, id, err := commit(m, says)
	if err != nil {
		return usageError("%s: the program cannot be proven: %w", file, err)
	}
	a := added{
		modelView: viewModel(m, len(encoded), id, len(card), "from "+filepath.Base(file), start),
		Meaning:   says, SourceDigest: sha256.Sum256(b), Rows: m.Context(), Operations: len(im.Program.Ops),
		Samples: im.Samples, Causal: im.Causal, Notes: slices.Concat([]string{}, im.Notes), ImportS: imported.Seconds(),
		dir: cfg.path(modelsDir, o.Name),
	}
	a.Card = a.markdown()
	if err := a.keep(encoded); err != nil {
		return err
	}
	return showAdded(c, a)
}

// keep writes the model into the home directory, in one step. A model of
// another network that has its name stays.
func (a added) keep(file []byte) error {
	about, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the model: %w", err)
	}
	if len(about) > runfile.MaxMeaning {
		return fmt.Errorf("a description of %d bytes, at most %d", len(about), runfile.MaxMeaning)
	}
	if old, err := readBounded(filepath.Join(a.dir, aboutFile), runfile.MaxMeaning); err == nil {
		var was added
		if json.Unmarshal(old, &was) == nil && was.SourceDigest != a.SourceDigest {
			return usageError("there is a model %s already, of another network: choose another --name, or remove %s", a.Name, a.dir)
		}
	}
	parent := filepath.Dir(a.dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make the models' folder: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return fmt.Errorf("keep the model: %w", err)
	}
	defer os.RemoveAll(tmp)
	for name, b := range map[string][]byte{modelFile: file, aboutFile: append(about, '\n')} {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o600); err != nil {
			return fmt.Errorf("keep the model: %w", err)
		}
	}
	if err := os.RemoveAll(a.dir); err != nil {
		return fmt.Errorf("replace the model: %w", err)
	}
	if err := os.Rename(tmp, a.dir); err != nil {
		return fmt.Errorf("keep the model: %w", err)
	}
	return nil
}

// code is a name of somebody else's in Markdown, where it can be nothing more.
func code(name string) string {
	return "`" + strings.NewReplacer("`", "'", "|", "/").Replace(visible(name)) + "`"
}

// markdown is the card for people.
func (a added) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s\n\n", a.Name)
	p("Made by `torg model add` of an ONNX network: an integer program whose runs can be proven.\nA proof shows that this program gave a result; how near that is to the network, this card says.\n\n| | |\n|---|---|\n")
	row := func(name, format string, args ...any) { p("| %s | %s |\n", name, fmt.Sprintf(format, args...)) }
	row("network", "%s", code(strings.TrimPrefix(a.Source, "from ")))
	row("SHA-256 of the network", "`%s`", a.SourceDigest)
	row("SHA-256 of the model file", "`%s`", a.Digest)
	row("id that proofs name", "`%s`", a.ID)
	rows := "up to " + count(a.Rows, "row")
	if a.Input.Rows > 0 {
		rows = "exactly " + count(a.Input.Rows, "row") + " a run"
	}
	row("program", "%d operations, %d constants, %s", a.Operations, a.Weights, rows)
	switch {
	case a.Text:
		row("kind", "text: bytes in, logits of the next byte out (`torg prove --model %s --text ...`)", a.Name)
	case a.Causal:
		row("kind", "numbers in, numbers out (`torg prove --model %s --in rows.json`)", a.Name)
	default:
		row("kind", "numbers in, numbers out, every row sees all rows (`torg prove --model %s --in rows.json`)", a.Name)
	}
	if a.Input.Tokens {
		row("input "+code(a.Input.Name), "a token a row, 0 to %g", a.Input.Hi)
	} else {
		row("input "+code(a.Input.Name), "%s a row, %.6g to %.6g, in steps of 2^%d", count(a.Input.Columns, "number"), a.Input.Lo, a.Input.Hi, -a.Input.Frac)
	}
	for _, o := range a.Outputs {
		where := "every row holds its own"
		switch o.Row {
		case onnx.EachRow:
		case onnx.AnyRow:
			where = "one for the whole sequence"
		case onnx.LastRow:
			where = "in the last row"
		default:
			where = fmt.Sprintf("in row %d", o.Row)
		}
		row("output "+code(o.Name), "%s, in steps of 2^%d, %s", count(o.Columns, "number"), -o.Frac, where)
	}
	if a.Samples > 0 {
		row("scales", "by how large values get on %s", count(a.Samples, "sample"))
	} else {
		row("scales", "without samples: by bounds, and by four times what random inputs reach; larger values saturate. Samples of real inputs (`--calib`) are better")
	}
	p("\n**Loss** against the network in 32-bit floating point, ")
	if a.Samples > 0 {
		p("on the samples:\n\n")
	} else {
		p("on inputs drawn at random, which says little about real ones:\n\n")
	}
	p("| output | rows compared | same greatest | greatest error | mean error | greatest magnitude |\n|---|---|---|---|---|---|\n")
	for _, o := range a.Outputs {
		same := fmt.Sprintf("%.2f %%", 100*o.Loss.Agreement)
		if o.Columns == 1 && o.Frac != 0 {
			same = "-"
		}
		p("| %s | %d | %s | %.3g | %.3g | %.3g |\n", code(o.Name), o.Loss.Rows, same, o.Loss.Max, o.Loss.Mean, o.Loss.Peak)
	}
	for i, n := range a.Notes {
		if i == 0 {
			p("\n")
		}
		p("- %s\n", visible(n))
	}
	p("\nMade in %.2f s: %.2f s to import and measure, %.2f s to commit.\n", a.ImportS+a.CommitS, a.ImportS, a.CommitS)
	return b.String()
}
