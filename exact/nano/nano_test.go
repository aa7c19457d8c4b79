package nano

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
	"github.com/torg-network/torg/train/corpus"
)

// claim is the number or hash in the card's table row that starts with name.
func claim(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| ` + "`?" + `([^ |` + "`" + `]+)`).FindStringSubmatch(Card)
	if m == nil {
		t.Fatalf("the card does not state %q", name)
	}
	return m[1]
}

func TestDigestIsTheCards(t *testing.T) {
	if got, want := fmt.Sprintf("%x", Model().Digest()), claim(t, "SHA-256 of the model file"); got != want {
		t.Errorf("digest is %s, the card states %s", got, want)
	}
	if Model().Name() != Name {
		t.Errorf("the file's name is %q", Model().Name())
	}
}

// TestHeldOutLoss measures the claimed loss; a sample of windows unless
// TORG_FULL is set.
func TestHeldOutLoss(t *testing.T) {
	want, err := strconv.ParseFloat(claim(t, "held-out loss, exact"), 64)
	if err != nil {
		t.Fatal(err)
	}
	limit, tolerance := 30, 0.05
	if os.Getenv("TORG_FULL") != "" {
		limit, tolerance = 0, 5e-5
	}
	r, err := quantise.Compare(Model(), nil, corpus.HeldOut(), limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("held-out loss %.5f nats per byte over %d bytes", r.Exact, r.Bytes)
	if math.Abs(r.Exact-want) > tolerance {
		t.Errorf("held-out loss %.5f, the card states %.5f", r.Exact, want)
	}
}

func TestInterpreterAgrees(t *testing.T) {
	text := corpus.HeldOut()[0][:40]
	var in [][]int32
	for _, b := range text {
		in = append(in, []int32{int32(b)})
	}
	want, err := Model().Program().Interpret(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Model().Run(in)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("engine and interpreter differ")
	}
}

// TestAnswer pins one answer: it must be the same on every machine.
func TestAnswer(t *testing.T) {
	req := exact.Request{Prompt: []byte("It is a truth "), MaxTokens: 300, Temperature: 600, TopP: 9500, Seed: [32]byte{1}}
	res, err := Model().Generate(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/answer.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(res.Text) != strings.TrimSuffix(string(want), "\n") {
		t.Errorf("answered %q", res.Text)
	}
	v, err := Model().Verify(context.Background(), req, res.Tokens)
	if err != nil || v.Agreed != len(res.Tokens) || v.Finish != exact.Length {
		t.Errorf("verify: %+v, %v", v, err)
	}
}
