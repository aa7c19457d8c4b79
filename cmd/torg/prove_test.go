package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
)

// TestProve is torg prove, torg verify and torg model as their users meet them.
func TestProve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, card, text := filepath.Join(dir, "a.torgproof"), filepath.Join(dir, "card"), filepath.Join(dir, "text")
	damage(t, text, "It is a ")

	var made proveResult
	run(t, "prove", "--prompt", text, "--max-tokens", "9", "--seed", "-7", "--temperature", "0.9", "--out", file, "-o", "json").read(t, &made)
	if made.Tokens != 9 || made.PromptSize != 8 || made.ProveS <= 0 || made.ProveCPU <= 0 || made.PeakMiB < 1 || made.Bits < 100 ||
		made.FileBytes <= made.ProofBytes || made.Seed != openai.Seed(1<<64-7) || !strings.HasPrefix(made.Temperature, "0.9") {
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
	lie := func(name string, change func(*proof.File)) string {
		path := filepath.Join(dir, name)
		g, err := proof.DecodeFile(slices.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		change(&g)
		damage(t, path, string(g.Encode()))
		return path
	}
	none := strings.Repeat("0", 64)
	for _, c := range []struct {
		code int
		word string
		args []string
	}{
		{exitVerify, "refused", []string{"verify", lie("proof", func(f *proof.File) { f.Parts[0][len(f.Parts[0])/2] ^= 1 })}},
		{exitVerify, "refused", []string{"verify", lie("prompt", func(f *proof.File) { f.Request.Prompt[0] ^= 1 })}},
		{exitVerify, "refused", []string{"verify", lie("token", func(f *proof.File) { f.Result.Tokens[3] ^= 1 })}},
		{exitVerify, "token 8", []string{"verify", lie("last token", func(f *proof.File) { f.Result.Tokens[8] ^= 1 })}},
		{exitVerify, "token", []string{"verify", lie("seed", func(f *proof.File) { f.Request.Seed[31] ^= 1 })}},
		{exitVerify, "model", []string{"verify", lie("model", func(f *proof.File) { f.Model[5] ^= 1 })}},
		{exitVerify, "", []string{"verify", file, "--model", none}},
		{exitVerify, "", []string{"verify", file, "--card", text}},
		{exitVerify, "not a torg proof", []string{"verify", text}},
		{exitUsage, "--model", []string{"verify", file, "--model", "12"}},
		{exitNotFound, "", []string{"verify", filepath.Join(dir, "none")}},
		{exitNotFound, "", []string{"model", "card", "none"}},
		{exitUsage, "windows", []string{"prove", "--text", "a", "--max-tokens", "3000"}},
		{exitUsage, "max-tokens", []string{"prove", "--text", "a", "--max-tokens", "0"}},
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

// TestProveLong: an answer of several windows, whose prompt is longer than one.
func TestProveLong(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "long.torgproof")
	var made proveResult
	run(t, "prove", "--text", strings.Repeat("so it is ", 20), "--max-tokens", "150", "--out", file, "-o", "json").read(t, &made)
	if made.Windows != 4 || made.Tokens != 150 || made.PromptSize != 180 {
		t.Errorf("odd figures: %+v", made)
	}
	var ok verifyResult
	run(t, "verify", file, "-o", "json").read(t, &ok)
	if !ok.OK || ok.Completion != made.Completion || ok.Windows != 4 {
		t.Errorf("odd verdict: %+v", ok)
	}
}
