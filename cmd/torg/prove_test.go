package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/zkml"
)

// bundled commits once for all tests.
var bundled = sync.OnceValues(func() (zkModel, *zkml.ProverKey) {
	zk, pk, err := bundledZK()
	if err != nil {
		panic(err)
	}
	return zk, pk
})

// provenRequest is what tests prove.
var provenRequest = infer.Request{Kind: infer.Exact, MaxTokens: 6, Temperature: 900, TopP: 9500, Seed: seedHash(3), Prompt: []byte("It is a ")}

// proven proves a request in this process.
func proven(t testing.TB, req infer.Request) proofFile {
	t.Helper()
	zk, pk := bundled()
	said, err := nano.Model().Generate(t.Context(), replay.Request(req), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := proofFile{Model: zk.id(), Request: req, Result: infer.Result{Kind: infer.Exact, Finish: replay.Finish(said.Finish)}}
	for _, id := range said.Tokens {
		f.Result.Tokens = append(f.Result.Tokens, uint16(id))
	}
	f.Logits = make([][]int32, len(said.Tokens))
	claim, err := f.claim(zk.Card.Rows(), zk.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	if claim, f.Proof, err = pk.ProveFrom(claim.Input, claim.From); err != nil {
		t.Fatal(err)
	}
	f.Logits = claim.Output[0]
	return f
}

// altered is a deep copy of a file with a change.
func (f proofFile) altered(change func(*proofFile)) proofFile {
	f.Request.Prompt, f.Request.Stop = bytes.Clone(f.Request.Prompt), slices.Clone(f.Request.Stop)
	f.Result.Tokens, f.Proof = slices.Clone(f.Result.Tokens), slices.Clone(f.Proof)
	f.Logits = slices.Clone(f.Logits)
	for i := range f.Logits {
		f.Logits[i] = slices.Clone(f.Logits[i])
	}
	change(&f)
	return f
}

// TestProve is torg prove, torg verify and torg model as their users meet them.
func TestProve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, card, text := filepath.Join(dir, "a.torgproof"), filepath.Join(dir, "card"), filepath.Join(dir, "text")
	damage(t, text, "It is a ")

	var made proveResult
	run(t, "prove", "--prompt", text, "--max-tokens", "9", "--seed", "-7", "--temperature", "0.9", "--out", file, "-o", "json").read(t, &made)
	if made.Tokens != 9 || made.PromptSize != 8 || made.ProveS <= 0 || made.ProveCPU <= 0 || made.PeakMiB < 1 || made.Bits < 100 ||
		made.FileBytes <= made.ProofBytes || made.Seed != seedHash(1<<64-7) || !strings.HasPrefix(made.Temperature, "0.9") {
		t.Errorf("odd figures: %+v", made)
	}
	// As the engine says it.
	req := infer.Request{Kind: infer.Exact, MaxTokens: 9, Temperature: 900, TopP: 10_000, Seed: made.Seed, Prompt: []byte("It is a ")}
	said, err := nano.Model().Generate(t.Context(), replay.Request(req), nil)
	if err != nil || string(said.Text) != made.Completion {
		t.Errorf("proven %q, generated %q, %v", made.Completion, said.Text, err)
	}

	var list []modelView
	run(t, "model", "list", "-o", "json").read(t, &list)
	var shown modelView
	run(t, "model", "card", nano.Name, "--out", card, "-o", "json").read(t, &shown)
	if len(list) != 1 || list[0].ID != made.ModelID || shown.ID != made.ModelID || shown.Card != nano.Card || shown.Digest != nano.Model().Digest() || shown.CommitS > 10 {
		t.Errorf("models %+v and %+v, proven %s", list, shown, made.ModelID)
	}
	if o := run(t, "model", "card").want(t, exitOK); !strings.Contains(o.out, made.ModelID.String()) || !strings.Contains(o.out, "# torg-nano") {
		t.Errorf("a card without id or text: %v", o)
	}

	var ok verifyResult
	run(t, "verify", file, "-o", "json").read(t, &ok)
	if !ok.OK || ok.Completion != made.Completion || ok.ModelID != made.ModelID || len(ok.Checked) != 3 || ok.VerifyMS <= 0 || ok.Gas == 0 || ok.Bits < 100 {
		t.Errorf("odd verdict: %+v", ok)
	}
	for _, args := range [][]string{{}, {"--model", made.ModelID.String()}, {"--card", card}, {"--card", card, "--model", made.ModelID.String()}} {
		if o := run(t, append([]string{"verify", file}, args...)...).want(t, exitOK); !strings.Contains(o.out, "verified") || !strings.Contains(o.out, "the model was not run") {
			t.Errorf("unclear: %v", o)
		}
	}

	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := decodeProofFile(b)
	if err != nil {
		t.Fatal(err)
	}
	lie := func(name string, change func(*proofFile)) string {
		path := filepath.Join(dir, name)
		damage(t, path, string(f.altered(change).encode()))
		return path
	}
	none := strings.Repeat("0", 64)
	for _, c := range []struct {
		code int
		word string
		args []string
	}{
		{exitVerify, "refused", []string{"verify", lie("proof", func(f *proofFile) { f.Proof[len(f.Proof)/2] ^= 1 })}},
		{exitVerify, "refused", []string{"verify", lie("prompt", func(f *proofFile) { f.Request.Prompt[0] ^= 1 })}},
		{exitVerify, "refused", []string{"verify", lie("token", func(f *proofFile) { f.Result.Tokens[3] ^= 1 })}},
		{exitVerify, "token 8", []string{"verify", lie("last token", func(f *proofFile) { f.Result.Tokens[8] ^= 1 })}},
		{exitVerify, "token", []string{"verify", lie("seed", func(f *proofFile) { f.Request.Seed[31] ^= 1 })}},
		{exitVerify, "model", []string{"verify", lie("model", func(f *proofFile) { f.Model[5] ^= 1 })}},
		{exitVerify, "", []string{"verify", file, "--model", none}},
		{exitVerify, "", []string{"verify", file, "--card", text}},
		{exitVerify, "not a torg proof", []string{"verify", text}},
		{exitUsage, "--model", []string{"verify", file, "--model", "12"}},
		{exitNotFound, "", []string{"verify", filepath.Join(dir, "none")}},
		{exitNotFound, "", []string{"model", "card", "none"}},
		{exitUsage, "window", []string{"prove", "--text", strings.Repeat("a", 129)}},
		{exitUsage, "window", []string{"prove", "--text", strings.Repeat("a", 100), "--max-tokens", "30"}},
		{exitUsage, "token", []string{"prove", "--text", "a", "--max-tokens", "0"}},
		{exitUsage, "temperature", []string{"prove", "--text", "a", "--temperature", "-1"}},
		{exitUsage, "temperature", []string{"prove", "--text", "a", "--temperature", "NaN"}},
		{exitUsage, "--text", []string{"prove"}},
		{exitUsage, "--text", []string{"prove", "--text", "a", "--prompt", text}},
		{exitNotFound, "", []string{"prove", "--prompt", filepath.Join(dir, "none")}},
	} {
		run(t, c.args...).want(t, c.code, c.word)
	}
	o := run(t, "verify", filepath.Join(dir, "seed"), "-o", "json").want(t, exitVerify)
	o.code = exitOK // its JSON is whole all the same
	var refused verifyResult
	if o.read(t, &refused); refused.OK || refused.Refused == "" || refused.Checked != nil || refused.Bits != 0 {
		t.Errorf("a refusal that tells %+v", refused)
	}
}

// TestProofFileLies: whatever is changed is refused.
func TestProofFileLies(t *testing.T) {
	t.Parallel()
	zk, _ := bundled()
	f := proven(t, provenRequest)
	if err := f.check(t.Context(), zk); err != nil {
		t.Fatal(err)
	}
	other := provenRequest
	other.Prompt = []byte("It was a ")
	g := proven(t, other)
	for name, change := range map[string]func(*proofFile){
		"model":       func(f *proofFile) { f.Model[0] ^= 1 },
		"prompt":      func(f *proofFile) { f.Request.Prompt[0] ^= 1 },
		"no prompt":   func(f *proofFile) { f.Request.Prompt = nil },
		"context cut": func(f *proofFile) { f.Request.Prompt = f.Request.Prompt[1:] },
		"seed":        func(f *proofFile) { f.Request.Seed[0] ^= 1 },
		"greedy":      func(f *proofFile) { f.Request.Temperature, f.Request.Seed = 10, square.Hash{} },
		"longer":      func(f *proofFile) { f.Request.MaxTokens++ },
		"shorter":     func(f *proofFile) { f.Request.MaxTokens-- },
		"stops":       func(f *proofFile) { f.Request.Stop = [][]byte{{byte(f.Result.Tokens[2])}} },
		"finish":      func(f *proofFile) { f.Result.Finish = infer.FinishStop },
		"tokens cut":  func(f *proofFile) { f.Result.Tokens = f.Result.Tokens[:5] },
		"tokens and rows": func(f *proofFile) {
			f.Result.Tokens, f.Logits, f.Request.MaxTokens = f.Result.Tokens[:5], f.Logits[:5], 5
		},
		"no tokens": func(f *proofFile) { f.Result.Tokens, f.Logits = nil, nil },
		"no byte":   func(f *proofFile) { f.Result.Tokens[5] += 256 },
		"token":     func(f *proofFile) { f.Result.Tokens[0] ^= 1 },
		"token and logits": func(f *proofFile) {
			f.Result.Tokens[5] = 'x'
			f.Logits[5] = make([]int32, vocab)
			f.Logits[5]['x'] = 1 << 24
		},
		"logit":            func(f *proofFile) { f.Logits[3][200]-- },
		"logit's height":   func(f *proofFile) { f.Logits[3][200] = -1 << 31 },
		"another's proof":  func(f *proofFile) { f.Proof = g.Proof },
		"another's logits": func(f *proofFile) { f.Logits, f.Proof = g.Logits, g.Proof },
		"no proof":         func(f *proofFile) { f.Proof = nil },
		"longer proof":     func(f *proofFile) { f.Proof = append(f.Proof, 0) },
	} {
		if err := f.altered(change).check(t.Context(), zk); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	for name, m := range map[string]zkModel{"outputs": {zk.Name, zk.LogitBits, 1, zk.Card, ""}, "many outputs": {zk.Name, zk.LogitBits, 9, zk.Card, ""}} {
		if err := f.check(t.Context(), m); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}

	// Any byte. Only temperature and top_p may change a little without another
	// answer coming of it, and then the file is right about that request.
	b := f.encode()
	sampling := bytes.Index(b, []byte("torg/infer/1x")) + 13 + 4
	r := rand.New(rand.NewPCG(1, 2))
	var places []int
	for i := range sampling + 120 {
		places = append(places, i)
	}
	for range 100 {
		places = append(places, r.IntN(len(b)))
	}
	for _, i := range places {
		if i >= sampling && i < sampling+8 {
			continue
		}
		c := slices.Clone(b)
		c[i] ^= 1 << r.IntN(8)
		if g, err := decodeProofFile(c); err == nil && g.check(t.Context(), zk) == nil {
			t.Errorf("byte %d changed: not refused", i)
		}
	}
	for _, n := range []int{0, 7, 8, 40, 44, 100, len(b) / 2, len(b) - 1} {
		if _, err := decodeProofFile(b[:n]); err == nil {
			t.Errorf("%d of %d bytes: not refused", n, len(b))
		}
	}
	if _, err := decodeProofFile(append(slices.Clone(b), 0)); err == nil {
		t.Error("a byte too many: not refused")
	}
}

// TestProveWindow: empty prompts, stop sequences and the full window.
func TestProveWindow(t *testing.T) {
	t.Parallel()
	zk, _ := bundled()
	full := provenRequest
	full.Prompt, full.MaxTokens = bytes.Repeat([]byte("so it is "), 14), 3 // 126 and 3: 128 positions
	empty := provenRequest
	empty.Prompt = nil
	stop := provenRequest
	stop.MaxTokens, stop.Stop = 60, [][]byte{[]byte("e")}
	for name, req := range map[string]infer.Request{"full": full, "empty": empty, "stop": stop} {
		f := proven(t, req)
		if err := f.check(t.Context(), zk); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "stop" && f.Result.Finish != infer.FinishStop {
			t.Errorf("it did not stop: %v", f.Result.Tokens)
		}
	}
	for _, c := range []struct {
		prompt, tokens int
		asked          bool
		want           int // 0: refused
	}{{0, 128, true, 128}, {0, 129, true, 0}, {126, 3, true, 3}, {126, 4, true, 0}, {126, 32, false, 3}, {128, 1, true, 1}, {128, 32, false, 1}, {129, 1, true, 0}, {129, 32, false, 0}} {
		n, err := fitWindow(c.prompt, c.tokens, c.asked)
		if n != c.want || (err == nil) != (c.want > 0) || err != nil && exitCode(err) != exitUsage {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
	}
}

func TestCardFile(t *testing.T) {
	t.Parallel()
	zk, _ := bundled()
	b := zk.encode()
	m, err := decodeCardFile(b)
	if err != nil || !bytes.Equal(m.encode(), b) || m.id() != zk.id() {
		t.Fatalf("not what was written: %v", err)
	}
	for n := range b {
		if _, err := decodeCardFile(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes: not refused", n, len(b))
		}
	}
	if _, err := decodeCardFile(append(b, 0)); err == nil {
		t.Error("a byte too many: not refused")
	}
}

// FuzzProofFile: what decodes is written the same way, and what is verified
// is what the model says. Inputs without a proof get a genuine one, so that
// they are short.
func FuzzProofFile(f *testing.F) {
	zk, _ := bundled()
	req := provenRequest
	req.MaxTokens = 2
	genuine := proven(f, req)
	short := genuine.altered(func(g *proofFile) { g.Proof = nil })
	b := short.encode()
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(slices.Clone(b), 0))
	f.Add(short.altered(func(g *proofFile) { g.Proof = genuine.Proof[:100] }).encode())
	f.Add(short.altered(func(g *proofFile) { g.Logits, g.Result.Tokens = nil, nil }).encode())
	f.Add(short.altered(func(g *proofFile) { g.Result.Tokens[1] += 256 }).encode())
	f.Add(short.altered(func(g *proofFile) { g.Request.Temperature++ }).encode())
	f.Add([]byte(proofMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeProofFile(b)
		if err != nil {
			return
		}
		if !bytes.Equal(g.encode(), b) {
			t.Fatal("a second encoding")
		}
		if len(g.Proof) == 0 {
			g.Proof = genuine.Proof
		}
		if g.check(t.Context(), zk) != nil {
			return
		}
		if same, _, err := (replay.Model{Model: nano.Model()}).Replay(g.Request, g.Result); err != nil || !same {
			t.Fatalf("verified, and the model says otherwise (%v)", err)
		}
	})
}
