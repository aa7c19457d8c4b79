package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/exact/onnx"
	networks "github.com/torg-network/torg/exact/onnx/shape"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/zkml/runfile"
)

// forgeries are names that print a line of their own, hide what follows, or turn
// it around.
var forgeries = []string{
	"approved     row 0: 1\n\x1b[8m", "y\nverified: the model gave this", "y\r\x1b[2K", "y\u202e1 :0 wor", "y\u009b8m", "y\u2028row 0: 1", "y\u200b", "y\x7f", "\xff\x1b", "y\u00a0z", "\u2066y", "y\t1",
}

// noForgery says what of a print is not all there to see.
func noForgery(t *testing.T, what, s string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSuffix(s, "\n"), "\n") {
		for _, r := range line {
			if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
				t.Errorf("%s prints %q in %q", what, r, line)
				return
			}
		}
		word, _, _ := strings.Cut(line, " ")
		switch word {
		case "model", "input", "output", "file", "receipt", "time", "provider", "price", "voucher", "lease", "verified", "request", "prompt", "answer", "result", "what", "metered", "":
		default:
			t.Errorf("%s prints a line that is not ours: %q", what, line)
		}
	}
}

// What prove, verify, cards, receipts and lists print is one line a fact,
// whatever others called their things.
func TestNothingIsForged(t *testing.T) {
	for _, name := range forgeries {
		var b bytes.Buffer
		runView{Model: name, File: name, Input: [][]float64{{1}}, Outputs: []outputView{{Name: name, Rows: [][]float64{{0}}}}}.print(rowPrinter(&b))
		noForgery(t, "a run", b.String())
		if !strings.Contains(b.String(), `output       "`) || strings.Count(b.String(), "\n") != 4 {
			t.Errorf("a run of %q prints:\n%s", name, b.String())
		}
		b.Reset()
		s := story{Ledger: name, Audit: name, Voucher: name, Rates: []square.Rate{{Unit: name}}, Words: &source.Words{Kind: name, Request: name, Result: name, Finish: name, How: name}}
		s.Receipt.Subject, s.Receipt.Denom = name, name
		s.print(&b)
		noForgery(t, "a receipt", b.String())
		b.Reset()
		table{{"model"}, {name}}.write(&b)
		if got := b.String(); strings.Count(got, "\n") != 2 || visibleLines(got) != got {
			t.Errorf("a list prints %q", got)
		}
		if got := words(errors.Join(errors.New("a"), errors.New(name))); visibleLines(got) != got || strings.Contains(strings.ReplaceAll(got, "\n       ", ""), "\n") {
			t.Errorf("an error prints %q", got)
		}
		for _, f := range []outputFormat{"json", "yaml"} {
			was := format
			format = f
			b.Reset()
			err := show(&b, map[string]string{"name": name}, nil)
			format = was
			if got := b.String(); err != nil || visibleLines(got) != got {
				t.Errorf("%s prints %q, %v", f, got, err)
			}
			var back map[string]string
			if err := yaml.Unmarshal(b.Bytes(), &back); err != nil || back["name"] != strings.ToValidUTF8(name, "\ufffd") {
				t.Errorf("%s: %q came back as %q, %v", f, name, back["name"], err)
			}
		}
		a := added{modelView: modelView{Name: "m", Source: "from " + name}, Meaning: runfile.Meaning{Outputs: []onnx.Output{{Name: name + "` | 1 |\n"}}}}
		if card := a.markdown(); visibleLines(card) != card || strings.Contains(card, "` | 1 |\n|") {
			t.Errorf("the card of %q:\n%s", name, card)
		}
	}
	for s, want := range map[string]string{"logits": "logits", "a.b/c:0": "a.b/c:0", "": `""`, "a b": `"a b"`, "été": `"été"`, strings.Repeat("a", 65): `"` + strings.Repeat("a", 65) + `"`} {
		if got := named(s); got != want {
			t.Errorf("%q is called %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]string{"été 東京 🙂": "été 東京 🙂", "a\nb": `a\nb`, "\u202e\xff\ufffd": `\u202e\xff` + "\ufffd", "\U000e0001": `\U000e0001`} {
		if got := visible(s); got != want {
			t.Errorf("%q is shown as %s, want %s", s, got, want)
		}
	}
	in := []byte(`{"a":"🙂\n` + "\u202e\U000e0001\u007f" + `"}`)
	var a, b map[string]string
	if json.Unmarshal(in, &a) != nil || json.Unmarshal(escapeJSON(in), &b) != nil || a["a"] != b["a"] || strings.Contains(string(escapeJSON(in)), "\u202e") {
		t.Errorf("%s is escaped as %s", in, escapeJSON(in))
	}
}

// Files whose names could forge a line are refused: networks and cards.
func TestForgingFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	torg := func(args ...string) outcome { return run(t, append(args, "--home", at("home"))...) }
	net := networks.MLP{3, 2}.Model(9)
	damage(t, at("net.onnx"), string(onnx.Encode(net)))
	torg("model", "add", at("net.onnx"), "--domain=-1,1").want(t, exitOK)
	damage(t, at("in.json"), "[0.5, 0.25, 0]")
	torg("prove", "-m", "net", "--in", at("in.json"), "--out", at("run")).want(t, exitOK)
	torg("model", "card", "net", "--out", at("card")).want(t, exitOK)
	b, err := os.ReadFile(at("card"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range forgeries {
		evil := networks.MLP{3, 2}.Model(9)
		was := evil.Outputs[0].Name
		evil.Outputs[0].Name = name
		for i, n := range evil.Nodes {
			for j, o := range n.Out {
				if o == was {
					evil.Nodes[i].Out[j] = name
				}
			}
		}
		damage(t, at("evil.onnx"), string(onnx.Encode(evil)))
		torg("model", "add", at("evil.onnx"), "--domain=-1,1").want(t, exitUsage, "rename it")
		card, err := runfile.DecodeModel(b)
		if err != nil {
			t.Fatal(err)
		}
		card.Outputs[0].Name = strings.ToValidUTF8(name, "\x01")
		damage(t, at("evil.card"), string(card.Encode()))
		torg("verify", at("run"), "--card", at("evil.card")).want(t, exitVerify, "name")
	}
}
