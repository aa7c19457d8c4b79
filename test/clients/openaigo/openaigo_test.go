// Package openaigo_test runs the Go package openai-go, unmodified, against the
// address in TORG_BASE_URL with the key in TORG_API_KEY. It is a module of its
// own because openai-go takes minutes to compile.
//
//	cd test/clients/openaigo && TORG_BASE_URL=… TORG_API_KEY=… go test ./...
//
// TestOpenAIGo in the folder above starts a gateway and runs it when
// TORG_OPENAI_GO is set.
package openaigo_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
)

func client(t *testing.T, more ...option.RequestOption) openai.Client {
	t.Helper()
	base := os.Getenv("TORG_BASE_URL")
	if base == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("TORG_BASE_URL is not set")
		}
		t.Skip("TORG_BASE_URL is not set")
	}
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(base), option.WithAPIKey(os.Getenv("TORG_API_KEY")), option.WithMaxRetries(0)}, more...)...)
}

// model is TORG_MODEL or the first exact one.
func model(t *testing.T, c openai.Client) string {
	t.Helper()
	if m := os.Getenv("TORG_MODEL"); m != "" {
		return m
	}
	page, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Data {
		if m.JSON.ExtraFields["exact"].Raw() == "true" {
			return m.ID
		}
	}
	t.Fatal("no exact model is offered")
	return ""
}

func chat(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model, MaxCompletionTokens: openai.Int(24), Seed: openai.Int(5),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Write on."), openai.UserMessage("It is a truth")},
	}
}

func TestModels(t *testing.T) {
	c := client(t)
	id := model(t, c)
	m, err := c.Models.Get(t.Context(), id)
	if err != nil || m.ID != id {
		t.Errorf("%+v %v", m, err)
	}
}

func TestChat(t *testing.T) {
	c := client(t)
	id := model(t, c)
	var res *http.Response
	r, err := c.Chat.Completions.New(t.Context(), chat(id), option.WithResponseInto(&res))
	if err != nil {
		t.Fatal(err)
	}
	if r.Usage.CompletionTokens != 24 || r.Choices[0].FinishReason != "length" || r.Choices[0].Message.Content == "" {
		t.Errorf("%s", r.RawJSON())
	}
	receipt := strings.Trim(r.JSON.ExtraFields["receipt"].Raw(), `"`)
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(receipt) || res.Header.Get("Torg-Receipt") != receipt {
		t.Errorf("receipt %q, header %q", receipt, res.Header.Get("Torg-Receipt"))
	}
	if cost := r.Usage.JSON.ExtraFields["cost"].Raw(); cost == "" {
		t.Errorf("usage %s", r.Usage.RawJSON())
	}

	q := chat(id)
	q.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	s := c.Chat.Completions.NewStreaming(t.Context(), q)
	var acc openai.ChatCompletionAccumulator
	var last openai.ChatCompletionChunk
	for s.Next() {
		last = s.Current()
		if !acc.AddChunk(last) {
			t.Fatalf("a chunk does not fit: %s", last.RawJSON())
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if acc.Choices[0].Message.Content != r.Choices[0].Message.Content {
		t.Errorf("streamed %q, whole %q", acc.Choices[0].Message.Content, r.Choices[0].Message.Content)
	}
	if len(last.Choices) != 0 || last.Usage.CompletionTokens != 24 {
		t.Errorf("usage chunk %s", last.RawJSON())
	}

	q = chat(id)
	q.Seed = openai.Int(6)
	other, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil || other.Choices[0].Message.Content == r.Choices[0].Message.Content {
		t.Errorf("another seed: %v, the same answer", err)
	}
	text := r.Choices[0].Message.Content
	stop := string([]rune(text)[3:5])
	q = chat(id)
	q.Stop = openai.ChatCompletionNewParamsStopUnion{OfString: openai.String(stop)}
	q.Logprobs, q.TopLogprobs = openai.Bool(true), openai.Int(2)
	cut, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(text, stop)
	if got := cut.Choices[0]; got.Message.Content != want || got.FinishReason != "stop" || len(got.Logprobs.Content[0].TopLogprobs) != 2 {
		t.Errorf("stop %q: %s", stop, cut.RawJSON())
	}
}

func TestCompletions(t *testing.T) {
	c := client(t)
	q := openai.CompletionNewParams{Model: openai.CompletionNewParamsModel(model(t, c)), MaxTokens: openai.Int(16), Temperature: openai.Float(0),
		Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("It is a truth")}}
	r, err := c.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Completions.NewStreaming(t.Context(), q)
	var text strings.Builder
	for s.Next() {
		text.WriteString(s.Current().Choices[0].Text)
	}
	if err := s.Err(); err != nil || text.String() != r.Choices[0].Text {
		t.Errorf("streamed %q, whole %q, %v", text.String(), r.Choices[0].Text, err)
	}
}

func TestEmbeddings(t *testing.T) {
	c := client(t)
	r, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: model(t, c),
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}}})
	if err != nil {
		t.Fatal(err)
	}
	var norm float64
	for _, x := range r.Data[1].Embedding {
		norm += x * x
	}
	if len(r.Data) != 2 || math.Abs(norm-1) > 1e-4 {
		t.Errorf("%d vectors, length² %v", len(r.Data), norm)
	}
}

func TestResponses(t *testing.T) {
	c := client(t)
	id := model(t, c)
	q := responses.ResponseNewParams{Model: id, MaxOutputTokens: openai.Int(24), Instructions: openai.String("Write on."),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("It is a truth")}}
	q.SetExtraFields(map[string]any{"seed": 5})
	r, err := c.Responses.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	same, err := c.Chat.Completions.New(t.Context(), chat(id))
	if err != nil || r.OutputText() != same.Choices[0].Message.Content || r.Usage.OutputTokens != 24 {
		t.Errorf("%v: %s", err, r.RawJSON())
	}
	s := c.Responses.NewStreaming(t.Context(), q)
	var text strings.Builder
	var last string
	for n := int64(0); s.Next(); n++ {
		e := s.Current()
		if e.SequenceNumber != n {
			t.Errorf("event %d has number %d", n, e.SequenceNumber)
		}
		if last = e.Type; last == "response.output_text.delta" {
			text.WriteString(e.Delta)
		}
	}
	if err := s.Err(); err != nil || text.String() != r.OutputText() || last != "response.incomplete" {
		t.Errorf("%v, last %s, streamed %q, whole %q", err, last, text.String(), r.OutputText())
	}
}

func TestErrors(t *testing.T) {
	c := client(t)
	id := model(t, c)
	ask := func(change func(*openai.ChatCompletionNewParams), opts ...option.RequestOption) error {
		q := chat(id)
		if change != nil {
			change(&q)
		}
		_, err := c.Chat.Completions.New(t.Context(), q, opts...)
		return err
	}
	provider := func(v any) func(*openai.ChatCompletionNewParams) {
		return func(q *openai.ChatCompletionNewParams) { q.SetExtraFields(map[string]any{"provider": v}) }
	}
	type check struct {
		err    error
		status int
		code   string
	}
	checks := map[string]check{
		"model": {ask(func(q *openai.ChatCompletionNewParams) { q.Model = "no-such" }), 404, "model_not_found"},
		"key":   {ask(nil, option.WithAPIKey("torg-wrong")), 401, "invalid_api_key"},
		"n":     {ask(func(q *openai.ChatCompletionNewParams) { q.N = openai.Int(2) }), 400, "unsupported_parameter"},
		"only":  {ask(provider(map[string]any{"only": []string{"torg1nobody"}})), 404, "no_provider"},
		"zdr":   {ask(provider(map[string]any{"zdr": true})), 400, "unsupported_parameter"},
		"fine":  {ask(provider(map[string]any{"sort": "price", "allow_fallbacks": false})), 0, ""},
	}
	if k := os.Getenv("TORG_POOR_KEY"); k != "" {
		checks["budget"] = check{ask(nil, option.WithAPIKey(k)), 402, "key_budget_exceeded"}
	}
	if k := os.Getenv("TORG_RATED_KEY"); k != "" {
		_ = ask(nil, option.WithAPIKey(k)) // may be refused already
		checks["rate"] = check{ask(nil, option.WithAPIKey(k)), 429, "rate_limit_exceeded"}
	}
	for name, k := range checks {
		var e *openai.Error
		if k.status == 0 {
			if k.err != nil {
				t.Errorf("%s: %v", name, k.err)
			}
			continue
		}
		if !errors.As(k.err, &e) || e.StatusCode != k.status || e.Code != k.code || e.Message == "" {
			t.Errorf("%s: %v, want %d %s", name, k.err, k.status, k.code)
		}
	}
}

func TestAbort(t *testing.T) {
	c := client(t)
	slow := os.Getenv("TORG_SLOW")
	if slow == "" {
		t.Skip("TORG_SLOW is not set")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q := chat(slow)
	q.MaxCompletionTokens, q.Seed = openai.Int(20000), param.Opt[int64]{}
	s := c.Chat.Completions.NewStreaming(ctx, q)
	for n := 0; n < 5 && s.Next(); n++ {
	}
	cancel()
	for s.Next() {
	}
	if !errors.Is(s.Err(), context.Canceled) {
		t.Errorf("the stream ended with %v", s.Err())
	}
}
