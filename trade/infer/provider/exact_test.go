package provider

import (
	"context"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
)

// asked is a context that is cancelled once it has been asked so often, as an
// engine does before each token.
type asked struct {
	context.Context
	left int
}

func (a *asked) Err() error {
	if a.left--; a.left < 0 {
		return context.Canceled
	}
	return nil
}

// An answer that is broken off is charged by the tokens whose text was delivered:
// not by those that were held back, since they might have become a stop sequence
// or half a character. What is charged is still what the ledger finds.
func TestExactBrokenOff(t *testing.T) {
	m := nano.Model()
	e := Exact(m)
	model := replay.Model{Model: m}
	req := infer.Request{Kind: infer.Exact, MaxTokens: 40, TopP: 10_000, Prompt: []byte("It is a truth universally acknowledged, that")}
	run := func(ctx context.Context, req infer.Request, stream bool, emit func(infer.Delta) error) (Output, string, int, int, error) {
		var text strings.Builder
		tokens, scored := 0, 0
		out, err := e.Run(ctx, Job{Request: req, Stream: stream, Logprobs: 1}, func(d infer.Delta) error {
			if emit != nil {
				if err := emit(d); err != nil {
					return err
				}
			}
			text.WriteString(d.Text)
			tokens, scored = tokens+d.Tokens, scored+len(d.Logprobs)
			return nil
		})
		return out, text.String(), tokens, scored, err
	}
	whole, text, tokens, scored, err := run(t.Context(), req, true, nil)
	if err != nil || len(text) != 40 || tokens != 40 || scored != 40 || whole.Units[1] != 40 {
		t.Fatalf("%q, %d tokens, %d scored, %v, %v", text, tokens, scored, whole.Units, err)
	}
	held := req
	held.Stop = [][]byte{[]byte(text[8:24] + "\x00")} // never said, but half of it
	shown := 0                                        // of held
	for made := range 41 {
		hold := 0
		for n := range len(held.Stop[0]) {
			if strings.HasSuffix(text[:made], string(held.Stop[0][:n])) {
				hold = n
			}
		}
		if shown = max(shown, made-hold); made == 24 && shown != 8 {
			t.Fatalf("%d are shown, the test holds nothing back", shown)
		}
		for _, q := range []infer.Request{req, held} {
			given := made
			if len(q.Stop) > 0 && made < 40 {
				given = shown
			}
			out, said, tokens, scored, err := run(&asked{t.Context(), made}, q, true, nil)
			if given == 0 {
				if err == nil {
					t.Errorf("nothing was delivered, and %v are charged", out.Units)
				}
				continue
			}
			if err != nil || said != text[:given] || tokens != given || scored != given || out.Units[1] != uint64(given) || len(out.Result.Tokens) != given {
				t.Errorf("broken off after %d: said %q, %d delivered, %v charged, %v; want %d", made, said, tokens, out.Units, err, given)
			}
			if (out.Result.Finish == infer.FinishCancelled) != (made < 40) {
				t.Errorf("broken off after %d: finish %q", made, out.Result.Finish)
			}
			if same, prompt, err := model.Replay(q, out.Result); !same || prompt != out.Units[0] || err != nil {
				t.Errorf("broken off after %d: the ledger finds %v, %d, %v", made, same, prompt, err)
			}
		}
	}
	// The buyer goes away: what it does not take any more is not charged.
	n := 0
	out, said, _, _, err := run(t.Context(), req, true, func(infer.Delta) error {
		if n++; n > 5 {
			return context.Canceled
		}
		return nil
	})
	if err != nil || out.Units[1] != 5 || said != text[:5] || out.Result.Finish != infer.FinishCancelled {
		t.Errorf("gone after 5: %q, %v, %q, %v", said, out.Units, out.Result.Finish, err)
	}
	// What is not streamed comes at the end or not at all.
	if out, _, _, _, err := run(&asked{t.Context(), 20}, req, false, nil); err == nil {
		t.Errorf("nothing reached anybody, and %v are charged", out.Units)
	}
	// A stop sequence is charged and not shown.
	stop := req
	stop.Stop = [][]byte{[]byte(text[8:24])}
	out, said, tokens, scored, err = run(t.Context(), stop, true, nil)
	if err != nil || said != text[:8] || tokens != 24 || scored != 24 || out.Units[1] != 24 || out.Result.Finish != infer.FinishStop {
		t.Errorf("stopped: %q, %d delivered, %d scored, %v, %v", said, tokens, scored, out.Units, err)
	}
	if same, _, err := model.Replay(stop, out.Result); !same || err != nil {
		t.Errorf("stopped: the ledger finds %v, %v", same, err)
	}
}

// A prompt is charged by what the model reads of it, and all who look find the
// same: who serves, who runs it again, who checks a proof. What it does not read
// changes nothing.
func TestExactPrompt(t *testing.T) {
	m := nano.Model()
	e := Exact(m)
	card, err := e.(provingEngine).Card()
	if err != nil {
		t.Fatal(err)
	}
	c := m.Context()
	for n, want := range map[int]uint64{0: 1, 1: 1, c - 1: uint64(c - 1), c: uint64(c), c + 1: uint64(c/2 + 1), c + c/2: uint64(c), c + c/2 + 1: uint64(c/2 + 1), 300_000: uint64(300_000 - (300_000-c+c/2-1)/(c/2)*(c/2))} {
		req := infer.Request{Kind: infer.Exact, MaxTokens: 2, TopP: 10_000, Prompt: []byte(strings.Repeat("a tale of one city ", n/19+1)[:n])}
		ceiling, err := e.Ceiling(req)
		if err != nil || ceiling[0] != want {
			t.Errorf("%d bytes: a ceiling of %v, %v; want %d", n, ceiling, err, want)
		}
		out, err := e.Run(t.Context(), Job{Request: req, Stream: true}, func(infer.Delta) error { return nil })
		if err != nil || out.Units[0] != want {
			t.Fatalf("%d bytes: charged %v, %v; want %d", n, out.Units, err, want)
		}
		if same, prompt, err := (replay.Model{Model: m}).Replay(req, out.Result); !same || prompt != want || err != nil {
			t.Errorf("%d bytes: run again %v, %d, %v; want %d", n, same, prompt, err, want)
		}
		if _, prompt, err := (proof.Verifier{}).Parts(card, req, out.Result); prompt != want || err != nil {
			t.Errorf("%d bytes: proven %d, %v; want %d", n, prompt, err, want)
		}
		short := req
		if short.Prompt = req.Prompt[max(0, n-int(want)):]; n == 0 {
			continue
		}
		again, err := e.Run(t.Context(), Job{Request: short, Stream: true}, func(infer.Delta) error { return nil })
		if err != nil || again.Units[0] != want || string(again.Result.Encode()) != string(out.Result.Encode()) {
			t.Errorf("%d bytes: its end alone gives %v, %v", n, again.Result.Tokens, err)
		}
	}
}
