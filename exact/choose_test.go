package exact_test

import (
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
)

// TestChooseIsTheRule: from the logits of a run, Choose takes what Generate
// took, and Ending ends where it did.
func TestChooseIsTheRule(t *testing.T) {
	m := nano.Model()
	for _, req := range []exact.Request{
		{Prompt: []byte("It is a "), MaxTokens: 30, Temperature: 900, TopP: 9500, Seed: [32]byte{1}},
		{Prompt: []byte("It is a "), MaxTokens: 30},
		{Prompt: []byte("It is a "), MaxTokens: 60, Temperature: 1500, TopP: 10_000, Stop: [][]byte{[]byte("e")}},
	} {
		said, err := m.Generate(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		var in [][]int32
		for _, b := range req.Prompt {
			in = append(in, []int32{int32(b)})
		}
		for _, id := range said.Tokens {
			in = append(in, []int32{int32(id)})
		}
		out, err := m.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range said.Tokens {
			if got, err := exact.Choose(req, m.Card().LogitBits, out[0][len(req.Prompt)-1+i], i); err != nil || got != want {
				t.Fatalf("token %d is %d, chosen %d, %v", i, want, got, err)
			}
		}
		if n, f := exact.Ending(req, said.Tokens); n != len(said.Tokens) || f != said.Finish {
			t.Errorf("%d tokens (%s), generated %d (%s)", n, f, len(said.Tokens), said.Finish)
		}
		if n, _ := exact.Ending(req, append(said.Tokens[:len(said.Tokens):len(said.Tokens)], 'x')); n != len(said.Tokens) {
			t.Errorf("after its end a generation went on to %d tokens", n)
		}
		if n, f := exact.Ending(req, said.Tokens[:1]); len(said.Tokens) > 1 && (n != 1 || f != "") {
			t.Errorf("one token of several ends %q", f)
		}
	}
	if n, f := exact.Ending(exact.Request{MaxTokens: 5}, []int{1, 256}); n != 1 || f != "" {
		t.Errorf("a token that is no byte: %d, %q", n, f)
	}
	if _, err := exact.Choose(exact.Request{MaxTokens: 1}, 10, make([]int32, 256), 1); err == nil {
		t.Error("a token beyond the end was chosen")
	}
}
