package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/gateway/sellertest"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/wire"
)

var update = flag.Bool("update", false, "rewrite golden files")

type door struct {
	*httptest.Server
	seller *sellertest.Seller
	secret string
}

func open(t testing.TB, change func(*openai.Config)) *door {
	t.Helper()
	s := sellertest.New()
	cfg := openai.Config{Seller: s, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	h, err := openai.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &door{Server: srv, seller: s}
}

func (d *door) do(t testing.TB, method, path, body string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, d.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if d.secret != "" {
		req.Header.Set("Authorization", "Bearer "+d.secret)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

// post wants a 200 and returns the answer as a tree.
func (d *door) post(t testing.TB, path, body string) (map[string]any, *http.Response) {
	t.Helper()
	res, b := d.do(t, "POST", path, body)
	if res.StatusCode != 200 {
		t.Fatalf("%s %s: %d %s", path, body, res.StatusCode, b)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v: %s", path, err, b)
	}
	return m, res
}

// at walks a tree: at(m, "choices", 0, "message").
func at(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("%v: no object at %q in %v", path, k, v)
			}
			v = m[k]
		case int:
			l, ok := v.([]any)
			if !ok || k >= len(l) {
				t.Fatalf("%v: no element %d in %v", path, k, v)
			}
			v = l[k]
		}
	}
	return v
}

func text(prompt string, seed int64, n int) string {
	return string(sellertest.Text([]byte(prompt), openai.SeedHash(seed), 1000, n))
}

func TestChat(t *testing.T) {
	d := open(t, nil)
	m, res := d.post(t, "/v1/chat/completions", `{"model":"tiny","seed":7,"max_tokens":6,
		"messages":[{"role":"system","content":"Be brief.  \n"},{"role":"user","content":[{"type":"text","text":"Hello"}]}],
		"logprobs":true,"top_logprobs":2,"user":"u","never_heard_of":{"x":1}}`)
	prompt := "Be brief.\nHello\n"
	want := strings.ToValidUTF8(text(prompt, 7, 6), "\ufffd")
	if got := at(t, m, "choices", 0, "message", "content"); got != want {
		t.Errorf("content %q, want %q", got, want)
	}
	if got := at(t, m, "choices", 0, "finish_reason"); got != "length" {
		t.Errorf("finish_reason %v", got)
	}
	if n := len(at(t, m, "choices", 0, "logprobs", "content").([]any)); n != 6 {
		t.Errorf("%d logprobs, want 6", n)
	}
	if n := len(at(t, m, "choices", 0, "logprobs", "content", 0, "top_logprobs").([]any)); n != 2 {
		t.Errorf("%d rivals, want 2", n)
	}
	// 16 prompt tokens at 1, 6 completion tokens at 2.
	cost := len(prompt) + 6*2
	for path, want := range map[string]any{
		"prompt_tokens": float64(len(prompt)), "completion_tokens": 6.0, "total_tokens": float64(len(prompt) + 6),
		"cost": float64(cost) / 1e6,
	} {
		if got := at(t, m, "usage", path); got != want {
			t.Errorf("usage.%s: %v, want %v", path, got, want)
		}
	}
	if got := at(t, m, "usage", "cost_details", "amount"); got != fmt.Sprint(cost) {
		t.Errorf("cost_details.amount: %v", got)
	}
	if got := at(t, m, "seed"); got != 7.0 {
		t.Errorf("seed %v", got)
	}
	for name, want := range map[string]any{
		"Torg-Provider": m["provider"], "Torg-Lease": m["lease"], "Torg-Receipt": m["receipt"], "Torg-Cost": fmt.Sprintf("%dutorg", cost),
	} {
		if got := res.Header.Get(name); got == "" || got != want {
			t.Errorf("header %s %q, want %v", name, got, want)
		}
	}
	if m["provider"] != d.seller.Provider().String() {
		t.Errorf("provider %v", m["provider"])
	}
	models, _ := d.seller.Models(context.Background())
	if want := "fp_" + models[0].Digest.Short(); m["system_fingerprint"] != want {
		t.Errorf("system_fingerprint %v, want %s", m["system_fingerprint"], want)
	}
}

// TestVerification: a request may say how its answer is verified, and the answer
// says so, in every form; what it may cost is reserved at the rates of proven
// answers.
func TestVerification(t *testing.T) {
	d := open(t, nil)
	for _, c := range []struct {
		path, body string
	}{
		{"/v1/chat/completions", `{"model":"tiny","max_tokens":6,"messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"prove"}}`},
		{"/v1/completions", `{"model":"tiny","max_tokens":6,"prompt":"Hello","provider":{"verification":"prove"}}`},
		{"/v1/responses", `{"model":"tiny","max_output_tokens":16,"input":"Hello","provider":{"verification":"prove"}}`},
	} {
		m, res := d.post(t, c.path, c.body)
		if at(t, m, "verified") != "prove" || res.Header.Get("Torg-Verified") != "prove" {
			t.Errorf("%s: %v, %v", c.path, m, res.Header)
		}
		asks := d.seller.Asks()
		if p := asks[len(asks)-1].Route.Policy; p != square.PolicyProve {
			t.Errorf("%s asked for %q", c.path, p)
		}
	}
	m, res := d.post(t, "/v1/chat/completions", `{"model":"tiny","max_tokens":6,"messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"audit"}}`)
	if _, told := m["verified"]; told || res.Header.Get("Torg-Verified") != "" {
		t.Errorf("not proven: %v", m)
	}
	for body, want := range map[string]int{
		`{"model":"tiny","messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"oath"}}`:            400,
		`{"model":"tiny","messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"attest"}}`:          400,
		`{"model":"upstream","messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"prove"}}`:       404,
		`{"model":"fails-unproven","messages":[{"role":"user","content":"Hello"}],"provider":{"verification":"prove"}}`: 502,
	} {
		if res, b := d.do(t, "POST", "/v1/chat/completions", body); res.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", body, res.StatusCode, want, b)
		}
	}
}

func TestSeed(t *testing.T) {
	d := open(t, nil)
	ask := func(extra string) (string, json.Number) {
		_, b := d.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"Once","max_tokens":40`+extra+`}`)
		var m struct {
			Seed    json.Number `json:"seed"`
			Choices []struct {
				Text string `json:"text"`
			} `json:"choices"`
		}
		if err := json.Unmarshal(b, &m); err != nil || len(m.Choices) != 1 {
			t.Fatalf("%v: %s", err, b)
		}
		return m.Choices[0].Text, m.Seed
	}
	drawn, seed := ask("")
	if again, _ := ask(`,"seed":` + seed.String()); again != drawn {
		t.Errorf("the reported seed %s gives %q, not %q", seed, again, drawn)
	}
	if other, _ := ask(""); other == drawn {
		t.Error("two answers without a seed are the same")
	}
	if _, s := ask(`,"seed":-9223372036854775808`); s != "-9223372036854775808" {
		t.Errorf("the smallest seed came back as %s", s)
	}
	a, _ := ask(`,"seed":18446744073709551615`)
	if b, _ := ask(`,"seed":-1`); a != b {
		t.Error("a seed's two's complement is another seed")
	}
}

func TestCompletions(t *testing.T) {
	d := open(t, nil)
	full := text("Once", 3, 200)
	i := strings.Index(full, "open; ")
	if i < 0 {
		t.Fatal("the test's text has no stop sequence")
	}
	for _, stop := range []string{`"pen;"`, `["never","pen;"]`} {
		m, _ := d.post(t, "/v1/completions", `{"model":"tiny","prompt":["Once"],"seed":3,"max_tokens":200,"logprobs":3,"stop":`+stop+`}`)
		if got := at(t, m, "choices", 0, "text"); got != full[:i+1] {
			t.Errorf("stop %s: %q, want %q", stop, got, full[:i+1])
		}
		if got := at(t, m, "choices", 0, "finish_reason"); got != "stop" {
			t.Errorf("finish_reason %v", got)
		}
		// One a byte of the text: the stop sequence's are not shown.
		if n := len(at(t, m, "choices", 0, "logprobs", "tokens").([]any)); n != i+1 {
			t.Errorf("%d logprobs, want %d", n, i+1)
		}
		if got := at(t, m, "choices", 0, "logprobs", "top_logprobs", 0, "~"); got != -1.25 {
			t.Errorf("top_logprobs %v", got)
		}
		// The stop sequence's tokens were made, so they are paid.
		if got := at(t, m, "usage", "completion_tokens"); got != float64(i+1+4) {
			t.Errorf("completion_tokens %v, want %d", got, i+5)
		}
	}
	m, _ := d.post(t, "/v1/completions", `{"model":"tiny","prompt":"Once","seed":3,"max_tokens":3,"echo":true}`)
	if got := at(t, m, "choices", 0, "text"); got != "Once"+full[:3] {
		t.Errorf("echo: %q", got)
	}
	if got := at(t, m, "choices", 0, "logprobs"); got != nil {
		t.Errorf("logprobs nobody asked for: %v", got)
	}
	a, _ := d.post(t, "/v1/completions", `{"model":"tiny","prompt":"Once","seed":3,"max_tokens":9,"temperature":0}`)
	b, _ := d.post(t, "/v1/completions", `{"model":"tiny","prompt":"Once","seed":4,"max_tokens":9,"temperature":0}`)
	if at(t, a, "choices", 0, "text") != at(t, b, "choices", 0, "text") {
		t.Error("temperature 0 is not greedy")
	}
	asks := d.seller.Asks()
	if q := asks[0].Request; q.Temperature != 1000 || q.TopP != 10_000 {
		t.Errorf("defaults: %d, %d", q.Temperature, q.TopP)
	}
	d.post(t, "/v1/completions", `{"model":"tiny","prompt":"x","temperature":0.7004,"top_p":0.12344}`)
	asks = d.seller.Asks()
	if q := asks[len(asks)-1].Request; q.Temperature != 700 || q.TopP != 1234 || q.MaxTokens != 256 {
		t.Errorf("rounding: %d, %d; max %d", q.Temperature, q.TopP, q.MaxTokens)
	}
}

// events reads a stream.
func events(t testing.TB, b []byte) (names []string, data []string) {
	t.Helper()
	name := ""
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		switch line := sc.Text(); {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			names, data, name = append(names, name), append(data, line[6:]), ""
		}
	}
	return names, data
}

func TestStreamSplitsNoRune(t *testing.T) {
	d := open(t, nil)
	res, b := d.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","seed":1,"max_tokens":300,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Go"}]}`)
	if ct := res.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("Content-Type %s", ct)
	}
	_, data := events(t, b)
	if data[len(data)-1] != "[DONE]" {
		t.Fatalf("the stream ends with %s", data[len(data)-1])
	}
	var got strings.Builder
	multi := false
	for _, e := range data[:len(data)-1] {
		var c struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage map[string]any `json:"usage"`
		}
		if err := json.Unmarshal([]byte(e), &c); err != nil {
			t.Fatal(err)
		}
		if len(c.Choices) > 0 {
			s := c.Choices[0].Delta.Content
			if strings.ContainsRune(s, utf8.RuneError) {
				t.Errorf("a chunk splits a rune: %q", s)
			}
			multi = multi || len(s) > 1
			got.WriteString(s)
		}
	}
	want := text("Go\n", 1, 300)
	for !utf8.ValidString(want) { // the last rune may be cut by max_tokens
		want = want[:len(want)-1]
	}
	if g := strings.TrimRight(got.String(), "\ufffd"); g != want || !multi {
		t.Errorf("text %q, want %q (multi-byte runes: %v)", g, want, multi)
	}
	for _, name := range []string{"Torg-Provider", "Torg-Lease", "Torg-Receipt", "Torg-Cost"} {
		if res.Trailer.Get(name) == "" {
			t.Errorf("no trailer %s", name)
		}
	}
	var last struct {
		Choices []any          `json:"choices"`
		Usage   map[string]any `json:"usage"`
		Receipt string         `json:"receipt"`
	}
	if err := json.Unmarshal([]byte(data[len(data)-2]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Choices == nil || len(last.Choices) != 0 || last.Usage["completion_tokens"] != 300.0 || last.Receipt != res.Trailer.Get("Torg-Receipt") {
		t.Errorf("usage chunk: %s", data[len(data)-2])
	}
}

// volatile is what differs between two runs.
var volatile = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"(id|item_id)":"(chatcmpl-|cmpl-|resp_|msg_)[^"]*"`), `"$1":"$2…"`},
	{regexp.MustCompile(`"receipt":"[0-9a-f]{64}"`), `"receipt":"…"`},
	{regexp.MustCompile(`receipt [0-9a-f]{64}`), `receipt …`},
	{regexp.MustCompile(`"(created|created_at|completed_at)":[0-9]+`), `"$1":…`},
}

// TestGolden pins every byte of one answer of each form.
func TestGolden(t *testing.T) {
	d := open(t, nil)
	const chat = `"messages":[{"role":"user","content":"Hi there"}]`
	for name, c := range map[string]struct{ path, body string }{
		"chat":                  {"/v1/chat/completions", `{"model":"tiny","seed":2,"max_tokens":4,` + chat + `}`},
		"chat-stream":           {"/v1/chat/completions", `{"model":"tiny","seed":2,"max_tokens":4,"stream":true,` + chat + `}`},
		"chat-stream-usage":     {"/v1/chat/completions", `{"model":"tiny","seed":2,"max_tokens":4,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,` + chat + `}`},
		"chat-upstream":         {"/v1/chat/completions", `{"model":"upstream",` + chat + `}`},
		"chat-upstream-tools":   {"/v1/chat/completions", `{"model":"upstream","tools":[{"type":"function","function":{"name":"weather"}}],` + chat + `}`},
		"chat-upstream-stream":  {"/v1/chat/completions", `{"model":"upstream","stream":true,` + chat + `}`},
		"chat-upstream-usage":   {"/v1/chat/completions", `{"model":"upstream","stream":true,"stream_options":{"include_usage":true},` + chat + `}`},
		"chat-sulky-stream":     {"/v1/chat/completions", `{"model":"sulky","stream":true,` + chat + `}`},
		"chat-halfway-stream":   {"/v1/chat/completions", `{"model":"halfway","seed":2,"stream":true,` + chat + `}`},
		"completions":           {"/v1/completions", `{"model":"tiny","seed":2,"max_tokens":4,"prompt":"Hi","logprobs":1}`},
		"completions-stream":    {"/v1/completions", `{"model":"tiny","seed":2,"max_tokens":4,"prompt":"Hi","stream":true,"stream_options":{"include_usage":true},"echo":true}`},
		"completions-upstream":  {"/v1/completions", `{"model":"upstream","prompt":"Hi"}`},
		"completions-up-stream": {"/v1/completions", `{"model":"upstream","prompt":"Hi","stream":true}`},
		"embeddings":            {"/v1/embeddings", `{"model":"tiny","input":["a","b"]}`},
		"embeddings-base64":     {"/v1/embeddings", `{"model":"tiny","input":"a","encoding_format":"base64"}`},
		"embeddings-upstream":   {"/v1/embeddings", `{"model":"upstream","input":"a"}`},
		"responses":             {"/v1/responses", `{"model":"tiny","seed":2,"max_output_tokens":4,"input":"Hi","instructions":"Talk.","metadata":{"a":"b"},"include":["message.output_text.logprobs"]}`},
		"responses-stream":      {"/v1/responses", `{"model":"tiny","seed":2,"max_output_tokens":60,"stop":"a","input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}],"stream":true}`},
		"responses-upstream":    {"/v1/responses", `{"model":"upstream","input":"Hi"}`},
		"responses-up-stream":   {"/v1/responses", `{"model":"upstream","input":"Hi","stream":true}`},
		"responses-halfway":     {"/v1/responses", `{"model":"halfway","seed":2,"input":"Hi","stream":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			res, b := d.do(t, "POST", c.path, c.body)
			if res.StatusCode != 200 {
				t.Fatalf("%d %s", res.StatusCode, b)
			}
			for _, v := range volatile {
				b = v.what.ReplaceAll(b, []byte(v.with))
			}
			golden(t, name, b)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it):\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func TestModels(t *testing.T) {
	d := open(t, nil)
	res, b := d.do(t, "GET", "/v1/models", "")
	var list struct {
		Object string `json:"object"`
		Data   []struct {
			ID      string            `json:"id"`
			Object  string            `json:"object"`
			Digest  string            `json:"digest"`
			Pricing map[string]string `json:"pricing"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &list); err != nil || res.StatusCode != 200 || list.Object != "list" || len(list.Data) != 5+len(sellertest.Failing) {
		t.Fatalf("%d %v: %s", res.StatusCode, err, b)
	}
	for _, m := range list.Data {
		// One TORG a million prompt tokens is 0.000001 a token.
		if m.Object != "model" || m.Pricing["prompt"] != "0.000001" || m.Pricing["completion"] != "0.000002" {
			t.Errorf("%+v", m)
		}
		for _, name := range []string{m.ID, m.Digest} {
			res, b := d.do(t, "GET", "/v1/models/"+name, "")
			if res.StatusCode != 200 || !bytes.Contains(b, []byte(`"id":"`+m.ID+`"`)) {
				t.Errorf("%s: %d %s", name, res.StatusCode, b)
			}
		}
	}
}

func TestEmbeddings(t *testing.T) {
	d := open(t, nil)
	m, _ := d.post(t, "/v1/embeddings", `{"model":"tiny","input":["one","two"],"encoding_format":"float"}`)
	var norm float64
	first := at(t, m, "data", 0, "embedding").([]any)
	for _, x := range first {
		norm += x.(float64) * x.(float64)
	}
	if math.Abs(norm-1) > 1e-6 {
		t.Errorf("length² %v, want 1", norm)
	}
	if got := at(t, m, "usage", "prompt_tokens"); got != 6.0 {
		t.Errorf("prompt_tokens %v", got)
	}
	if at(t, m, "data", 0, "receipt") == at(t, m, "data", 1, "receipt") {
		t.Error("two texts have one receipt")
	}
	p, _ := d.post(t, "/v1/embeddings", `{"model":"tiny","input":"one","encoding_format":"base64"}`)
	b, err := base64.StdEncoding.DecodeString(at(t, p, "data", 0, "embedding").(string))
	if err != nil || len(b) != 4*len(first) {
		t.Fatalf("base64: %d bytes, %v", len(b), err)
	}
	for i, x := range first {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])); float64(got) != float64(float32(x.(float64))) {
			t.Errorf("element %d: %v, want %v", i, got, x)
		}
	}
}

// TestErrors is every refusal: its status, type, code and param.
func TestErrors(t *testing.T) {
	d := open(t, func(c *openai.Config) { c.MaxBody = 1 << 16 })
	chat := func(more string) string {
		return `{"model":"tiny","messages":[{"role":"user","content":"x"}]` + more + `}`
	}
	const c, p, e, r = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
	for _, tc := range []struct {
		path, body                string
		status                    int
		kind, code, param, saying string
	}{
		{c, `{`, 400, "invalid_request_error", "invalid_json", "", "JSON"},
		{c, `[]`, 400, "invalid_request_error", "invalid_json", "", "object"},
		{c, `{"messages":[]}`, 400, "invalid_request_error", "", "model", "missing"},
		{c, `{"model":"tiny"}`, 400, "invalid_request_error", "", "messages", "missing"},
		{c, `{"model":"tiny","messages":[]}`, 400, "invalid_request_error", "", "messages", "at least one"},
		{c, `{"model":"tiny","messages":[{"role":"user","content":" "}]}`, 400, "invalid_request_error", "", "messages", "any text"},
		{c, `{"model":"tiny","messages":[{"role":"user","content":7}]}`, 400, "invalid_request_error", "", "messages", "string"},
		{c, `{"model":"tiny","messages":[{"role":"tool","content":"x"}]}`, 400, "invalid_request_error", "unsupported_parameter", "messages", "tool"},
		{c, `{"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}`, 400, "invalid_request_error", "unsupported_parameter", "messages", "image_url"},
		{c, `{"model":"nope","messages":[{"role":"user","content":"x"}]}`, 404, "invalid_request_error", "model_not_found", "model", "nope"},
		{c, chat(`,"temperature":"hot"`), 400, "invalid_request_error", "", "temperature", "fit"},
		{c, chat(`,"temperature":2.5`), 400, "invalid_request_error", "", "temperature", "0 to 2"},
		{c, chat(`,"top_p":-1`), 400, "invalid_request_error", "", "top_p", "0 to 1"},
		{c, chat(`,"seed":1.5`), 400, "invalid_request_error", "", "seed", "whole"},
		{c, chat(`,"seed":18446744073709551616`), 400, "invalid_request_error", "", "seed", "64 bits"},
		{c, chat(`,"stop":5`), 400, "invalid_request_error", "", "stop", "list"},
		{c, chat(`,"stop":["` + strings.Repeat("a", 300) + `"]`), 400, "invalid_request_error", "", "stop", "300"},
		{c, chat(`,"stop":["` + strings.Repeat(`a","`, 17) + `b"]`), 400, "invalid_request_error", "", "stop", "at most 16"},
		{c, chat(`,"max_tokens":0`), 400, "invalid_request_error", "", "max_tokens", "1 to"},
		{c, chat(`,"max_completion_tokens":99999999`), 400, "invalid_request_error", "", "max_completion_tokens", "1 to"},
		{c, chat(`,"n":2`), 400, "invalid_request_error", "unsupported_parameter", "n", "one answer"},
		{c, chat(`,"tools":[{"type":"function"}]`), 400, "invalid_request_error", "unsupported_parameter", "tools", "tools"},
		{c, chat(`,"response_format":{"type":"json_schema","json_schema":{}}`), 400, "invalid_request_error", "unsupported_parameter", "response_format", "guarantee"},
		{c, chat(`,"frequency_penalty":0.1`), 400, "invalid_request_error", "unsupported_parameter", "frequency_penalty", "exact"},
		{c, chat(`,"presence_penalty":0.1`), 400, "invalid_request_error", "unsupported_parameter", "presence_penalty", "exact"},
		{c, chat(`,"logit_bias":{"5":1}`), 400, "invalid_request_error", "unsupported_parameter", "logit_bias", "exact"},
		{c, chat(`,"modalities":["audio"]`), 400, "invalid_request_error", "unsupported_parameter", "modalities", "audio"},
		{c, chat(`,"top_logprobs":3`), 400, "invalid_request_error", "", "top_logprobs", "logprobs"},
		{c, chat(`,"logprobs":true,"top_logprobs":21`), 400, "invalid_request_error", "", "top_logprobs", "20"},
		{c, chat(`,"stream_options":{"include_usage":true}`), 400, "invalid_request_error", "", "stream_options", "stream"},
		{c, chat(`,"provider":{"sort":"beauty"}`), 400, "invalid_request_error", "", "provider.sort", "beauty"},
		{c, chat(`,"provider":{"zdr":true}`), 400, "invalid_request_error", "unsupported_parameter", "provider.zdr", "retention"},
		{c, chat(`,"provider":{"data_collection":"deny"}`), 400, "invalid_request_error", "unsupported_parameter", "provider.data_collection", "prove"},
		{c, chat(`,"provider":{"quantizations":["fp8"],"require_parameters":true}`), 400, "invalid_request_error", "unsupported_parameter", "provider.quantizations", "digest"},
		{c, chat(`,"provider":{"max_price":{"prompt":-1}}`), 400, "invalid_request_error", "", "provider.max_price.prompt", "million"},
		{c, chat(`,"provider":{"max_price":{"completion":"1e99999999999999"}}`), 400, "invalid_request_error", "", "provider.max_price.completion", "million"},
		{c, chat(`,"provider":{"max_price":{"completion":0.5}}`), 404, "invalid_request_error", "no_provider", "provider", "relax"},
		{c, chat(`,"provider":{"only":["torg1nobody"]}`), 404, "invalid_request_error", "no_provider", "provider", "relax"},
		{c, chat(`,"provider":{"order":[""]}`), 400, "invalid_request_error", "", "provider.order", "empty"},
		{c, `{"pad":"` + strings.Repeat("x", 1<<16) + `"}`, 413, "invalid_request_error", "request_too_large", "", "65536"},
		{p, `{"model":"tiny"}`, 400, "invalid_request_error", "", "prompt", "missing"},
		{p, `{"model":"tiny","prompt":[1,2]}`, 400, "invalid_request_error", "unsupported_parameter", "prompt", "tokens"},
		{p, `{"model":"tiny","prompt":["a","b"]}`, 400, "invalid_request_error", "unsupported_parameter", "prompt", "one text"},
		{p, `{"model":"tiny","prompt":"a","suffix":"b"}`, 400, "invalid_request_error", "unsupported_parameter", "suffix", "suffix"},
		{p, `{"model":"tiny","prompt":"a","best_of":3}`, 400, "invalid_request_error", "unsupported_parameter", "best_of", "one"},
		{p, `{"model":"tiny","prompt":"a","logprobs":6}`, 400, "invalid_request_error", "", "logprobs", "0 to 5"},
		{p, `{"model":"tiny","prompt":"a","logprobs":true}`, 400, "invalid_request_error", "", "logprobs", "fit"},
		{p, `{"model":"tiny","prompt":"a","logprobs":1,"echo":true}`, 400, "invalid_request_error", "unsupported_parameter", "echo", "logprobs"},
		{e, `{"model":"tiny"}`, 400, "invalid_request_error", "", "input", "missing"},
		{e, `{"model":"tiny","input":[]}`, 400, "invalid_request_error", "", "input", "0 texts"},
		{e, `{"model":"tiny","input":""}`, 400, "invalid_request_error", "", "input", "empty"},
		{e, `{"model":"tiny","input":[[1,2]]}`, 400, "invalid_request_error", "unsupported_parameter", "input", "tokens"},
		{e, `{"model":"tiny","input":[1,2]}`, 400, "invalid_request_error", "unsupported_parameter", "input", "tokens"},
		{e, `{"model":"tiny","input":["` + strings.Repeat(`a","`, 256) + `b"]}`, 400, "invalid_request_error", "", "input", "257"},
		{e, `{"model":"tiny","input":"a","dimensions":3}`, 400, "invalid_request_error", "unsupported_parameter", "dimensions", "length"},
		{e, `{"model":"tiny","input":"a","encoding_format":"hex"}`, 400, "invalid_request_error", "", "encoding_format", "hex"},
		{r, `{"model":"tiny"}`, 400, "invalid_request_error", "", "input", "missing"},
		{r, `{"model":"tiny","input":5}`, 400, "invalid_request_error", "", "input", "list"},
		{r, `{"model":"tiny","input":[{"type":"function_call_output","output":"x"}]}`, 400, "invalid_request_error", "unsupported_parameter", "input", "function_call_output"},
		{r, `{"model":"tiny","input":"x","previous_response_id":"resp_1"}`, 400, "invalid_request_error", "unsupported_parameter", "previous_response_id", "stores"},
		{r, `{"model":"tiny","input":"x","conversation":"c"}`, 400, "invalid_request_error", "unsupported_parameter", "conversation", "stores"},
		{r, `{"model":"tiny","input":"x","background":true}`, 400, "invalid_request_error", "unsupported_parameter", "background", "wait"},
		{r, `{"model":"tiny","input":"x","tools":[{"type":"web_search"}]}`, 400, "invalid_request_error", "unsupported_parameter", "tools", "chat/completions"},
		{r, `{"model":"tiny","input":"x","text":{"format":{"type":"json_object"}}}`, 400, "invalid_request_error", "unsupported_parameter", "text.format", "guarantee"},
		{r, `{"model":"upstream","input":"x","text":{"format":{"type":"xml"}}}`, 400, "invalid_request_error", "", "text.format", "xml"},
		{"/v1/assistants", `{}`, 404, "invalid_request_error", "unknown_url", "", "assistants"},
		{"/v1/models", `{}`, 405, "invalid_request_error", "method_not_allowed", "", "GET"},
		{c, `{"model":"fails-provider","messages":[{"role":"user","content":"x"}]}`, 502, "server_error", "provider_failed", "", "provider"},
		{c, `{"model":"fails-routing","messages":[{"role":"user","content":"x"}]}`, 404, "invalid_request_error", "no_provider", "provider", "relax"},
		{c, `{"model":"fails-funds","messages":[{"role":"user","content":"x"}]}`, 402, "insufficient_quota", "insufficient_funds", "", "torg wallet"},
		{c, `{"model":"fails-stalled","messages":[{"role":"user","content":"x"}]}`, 503, "server_error", "ledger_stalled", "", "blocks"},
		{c, `{"model":"fails-unknown","messages":[{"role":"user","content":"x"}]}`, 503, "server_error", "outcome_unknown", "", "receipt"},
		{c, `{"model":"fails-busy","messages":[{"role":"user","content":"x"}]}`, 429, "rate_limit_error", "busy", "", "busy"},
		{c, `{"model":"fails-paused","messages":[{"role":"user","content":"x"}]}`, 503, "server_error", "provider_paused", "", "torg provide resume"},
		{c, `{"model":"fails-refused","messages":[{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "provider_refused", "", "taste"},
		{c, `{"model":"fails-oddly","messages":[{"role":"user","content":"x"}]}`, 500, "server_error", "internal", "", "X-Request-Id"},
		{c, `{"model":"fails-funds","stream":true,"messages":[{"role":"user","content":"x"}]}`, 402, "insufficient_quota", "insufficient_funds", "", "top up"},
		{c, `{"model":"halfway","messages":[{"role":"user","content":"x"}]}`, 502, "server_error", "provider_failed", "", "receipt"},
	} {
		name := tc.path + " " + tc.body
		res, b := d.do(t, "POST", tc.path, tc.body)
		var got struct {
			Error *struct {
				Message string  `json:"message"`
				Type    string  `json:"type"`
				Param   *string `json:"param"`
				Code    *string `json:"code"`
			} `json:"error"`
		}
		if err := json.Unmarshal(b, &got); err != nil || got.Error == nil {
			t.Errorf("%.120s: %d %v: %s", name, res.StatusCode, err, b)
			continue
		}
		e := got.Error
		if res.StatusCode != tc.status || e.Type != tc.kind || str(e.Code) != tc.code || str(e.Param) != tc.param || !strings.Contains(e.Message, tc.saying) {
			t.Errorf("%.120s:\n got %d %s %q %q %q\nwant %d %s %q %q …%s…", name, res.StatusCode, e.Type, str(e.Code), str(e.Param), e.Message,
				tc.status, tc.kind, tc.code, tc.param, tc.saying)
		}
		if res.StatusCode == 429 && res.Header.Get("Retry-After") == "" {
			t.Errorf("%.120s: no Retry-After", name)
		}
		if str(e.Code) == "outcome_unknown" && res.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%.120s: a client would pay twice", name)
		}
	}
	if n := d.seller.Running.Load(); n != 0 {
		t.Errorf("%d requests still run", n)
	}
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func TestRouting(t *testing.T) {
	d := open(t, nil)
	me := d.seller.Provider().String()
	for _, tc := range []struct {
		object string
		want   buyer.Route
	}{
		{`null`, buyer.Route{}},
		{`{"order":["` + me + `"],"only":["torg1"],"ignore":["torg1zzz"],"allow_fallbacks":false}`,
			buyer.Route{Order: []string{me}, Only: []string{"torg1"}, Ignore: []string{"torg1zzz"}, NoFallbacks: true}},
		{`{"sort":"price","data_collection":"allow","zdr":false,"quantizations":["fp8"],"allow_fallbacks":true}`, buyer.Route{Sort: "price"}},
		{`{"sort":{"by":"latency","partition":"none"}}`, buyer.Route{Sort: "latency"}},
		{`{"preferred_min_throughput":{"p90":50}}`, buyer.Route{Sort: "throughput"}},
		{`{"preferred_min_throughput":50,"sort":"price"}`, buyer.Route{Sort: "price"}},
		{`{"preferred_max_latency":2}`, buyer.Route{Sort: "latency"}},
		{`{"max_price":{"prompt":1,"completion":"2.5000019","request":0}}`, buyer.Route{MaxPrompt: 1_000_000, MaxCompletion: 2_500_001}},
		{`{"max_price":{"completion":1e3}}`, buyer.Route{MaxCompletion: 1_000_000_000}},
		{`{"max_price":{"prompt":0}}`, buyer.Route{MaxPrompt: 1}},
	} {
		res, b := d.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}],"provider":`+tc.object+`}`)
		if res.StatusCode != 200 {
			t.Errorf("%s: %d %s", tc.object, res.StatusCode, b)
			continue
		}
		asks := d.seller.Asks()
		if got := asks[len(asks)-1].Route; fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %+v, want %+v", tc.object, got, tc.want)
		}
	}
}

// TestOpaqueBody: an upstream server gets the client's body but for what is ours.
func TestOpaqueBody(t *testing.T) {
	d := open(t, nil)
	d.post(t, "/v1/chat/completions", `{"model":"upstream","messages":[{"role":"user","content":"x"}],"provider":{"sort":"price"},"exotic":{"a":[1,2.50]},"tools":[]}`)
	d.do(t, "POST", "/v1/chat/completions", `{"model":"upstream","messages":[{"role":"user","content":"x"}],"stream":true}`)
	d.do(t, "POST", "/v1/responses", `{"model":"upstream","instructions":"Be brief.","input":"x","max_output_tokens":9,"temperature":0.5,"seed":3,
		"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}}`)
	asks := d.seller.Asks()
	for i, want := range []string{
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"exotic":{"a":[1,2.50]},"tools":[],"stream":false}`,
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"max_tokens":9,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"x"}],"model":"upstream","response_format":{"json_schema":{"name":"n","schema":{"type":"object"}},"type":"json_schema"},"seed":3,"stream":false,"temperature":0.5}`,
	} {
		if got := string(asks[i].Request.Prompt); got != want {
			t.Errorf("request %d: %s\nwant %s", i, got, want)
		}
	}
	big := `{"model":"upstream","messages":[{"role":"user","content":"` + strings.Repeat("x", infer.MaxPrompt) + `"}]}`
	if res, b := d.do(t, "POST", "/v1/chat/completions", big); res.StatusCode != 413 {
		t.Errorf("%d %s", res.StatusCode, b)
	}
}

// TestDisconnect: a client that goes away stops the engine and the paying.
func TestDisconnect(t *testing.T) {
	var got atomic.Pointer[openai.Event]
	d := open(t, func(c *openai.Config) { c.Observe = func(_ context.Context, e openai.Event) { got.Store(&e) } })
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "POST", d.URL+"/v1/chat/completions",
		strings.NewReader(`{"model":"slow","max_tokens":20000,"stream":true,"messages":[{"role":"user","content":"x"}]}`))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	wait(t, func() bool { return d.seller.Running.Load() == 0 && got.Load() != nil })
	if d.seller.Stopped.Load() != 1 {
		t.Error("the engine ran to its end")
	}
	made := d.seller.Tokens.Load()
	time.Sleep(50 * time.Millisecond)
	if now := d.seller.Tokens.Load(); now != made || made > 5000 {
		t.Errorf("%d tokens, then %d", made, now)
	}
	if e := got.Load(); e.Completion != uint64(made) || e.Cost.Units != 2+2*uint64(made) {
		t.Errorf("charged %d tokens and %d units for %d tokens", e.Completion, e.Cost.Units, made)
	}
}

func wait(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

func TestTimeout(t *testing.T) {
	d := open(t, func(c *openai.Config) { c.Timeout = 60 * time.Millisecond })
	body := `{"model":"slow","max_tokens":20000,"messages":[{"role":"user","content":"x"}]`
	res, b := d.do(t, "POST", "/v1/chat/completions", body+`}`)
	if res.StatusCode != 504 || !bytes.Contains(b, []byte(`"timeout"`)) || res.Header.Get("Torg-Receipt") == "" {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	_, b = d.do(t, "POST", "/v1/chat/completions", body+`,"stream":true}`)
	_, data := events(t, b)
	if last := data[len(data)-1]; !strings.Contains(last, `"code":"timeout"`) {
		t.Errorf("the stream ends with %s", last)
	}
	wait(t, func() bool { return d.seller.Running.Load() == 0 })
}

func TestKeepAlive(t *testing.T) {
	d := open(t, func(c *openai.Config) { c.KeepAlive = 10 * time.Millisecond })
	d.seller.Delay = 100 * time.Millisecond
	_, b := d.do(t, "POST", "/v1/chat/completions", `{"model":"slow","max_tokens":2,"stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if n := bytes.Count(b, []byte(": keep-alive\n\n")); n < 3 {
		t.Errorf("%d comments in 200 ms of silence:\n%s", n, b)
	}
	if !bytes.HasSuffix(b, []byte("data: [DONE]\n\n")) {
		t.Errorf("%s", b)
	}
}

func TestConcurrency(t *testing.T) {
	d := open(t, func(c *openai.Config) { c.Concurrent = 2 })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			d.do(t, "POST", "/v1/chat/completions", `{"model":"slow","max_tokens":60,"messages":[{"role":"user","content":"x"}]}`)
		})
	}
	wait(t, func() bool { return d.seller.Running.Load() == 2 })
	res, b := d.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"}]}`)
	if res.StatusCode != 429 || !bytes.Contains(b, []byte("gateway_busy")) || res.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	if res, _ := d.do(t, "GET", "/v1/models", ""); res.StatusCode != 200 {
		t.Error("a full house lists no models")
	}
	wg.Wait()
	if res, _ := d.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"}]}`); res.StatusCode != 200 {
		t.Errorf("%d after the rush", res.StatusCode)
	}
}

func withKeys(t testing.TB, g keys.Grant) (*door, *keys.Store, keys.Key) {
	t.Helper()
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ks.Close() })
	secret, k, err := ks.Create(g)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, func(c *openai.Config) { c.Keys = ks })
	d.secret = secret
	return d, ks, k
}

func TestKeys(t *testing.T) {
	budget := uint64(2000)
	d, ks, k := withKeys(t, keys.Grant{Budget: &budget})
	const body = `{"model":"tiny","max_tokens":100,"messages":[{"role":"user","content":"x"}]}`
	d.post(t, "/v1/chat/completions", body)
	spent := uint64(2 + 200)
	wait(t, func() bool { g, _ := ks.Get(k.ID); return g.Spent == spent && g.Reserved == 0 })

	// Unknown outcomes count as the most they may have cost.
	d.do(t, "POST", "/v1/chat/completions", strings.Replace(body, "tiny", "fails-unknown", 1))
	spent += 2 + 200 // the ceiling: prompt and completion
	wait(t, func() bool { g, _ := ks.Get(k.ID); return g.Spent == spent })

	// Failures cost nothing.
	d.do(t, "POST", "/v1/chat/completions", strings.Replace(body, "tiny", "fails-provider", 1))
	wait(t, func() bool { g, _ := ks.Get(k.ID); return g.Spent == spent && g.Reserved == 0 })

	for res, n := (*http.Response)(nil), 0; ; n++ {
		var b []byte
		if res, b = d.do(t, "POST", "/v1/chat/completions", body); res.StatusCode == 402 {
			if !bytes.Contains(b, []byte("key_budget_exceeded")) || !bytes.Contains(b, []byte("torg key budget "+k.ID)) {
				t.Errorf("%s", b)
			}
			break
		}
		if n > 20 {
			t.Fatal("the budget has no end")
		}
	}
	if g, _ := ks.Get(k.ID); g.Spent > budget {
		t.Errorf("spent %d of %d", g.Spent, budget)
	}
	if asks := d.seller.Asks(); asks[0].MaxCost != 2+200 {
		t.Errorf("MaxCost %d", asks[0].MaxCost)
	}
	for secret, want := range map[string]int{"": 401, "torg-nonsense": 401, "sk-1": 401, d.secret: 200} {
		good := d.secret
		d.secret = secret
		res, b := d.do(t, "GET", "/v1/models", "")
		d.secret = good
		if res.StatusCode != want || want == 401 && !bytes.Contains(b, []byte("invalid_api_key")) {
			t.Errorf("%q: %d %s", secret, res.StatusCode, b)
		}
		if want == 401 && bytes.Contains(b, []byte(secret)) && secret != "" {
			t.Errorf("the answer repeats the key: %s", b)
		}
	}
	ks.Revoke(k.ID)
	if res, _ := d.do(t, "GET", "/v1/models", ""); res.StatusCode != 401 {
		t.Errorf("revoked: %d", res.StatusCode)
	}
}

func TestRate(t *testing.T) {
	d, _, _ := withKeys(t, keys.Grant{Requests: 2})
	const body = `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`
	d.post(t, "/v1/chat/completions", body)
	d.post(t, "/v1/chat/completions", body)
	res, b := d.do(t, "POST", "/v1/chat/completions", body)
	if res.StatusCode != 429 || !bytes.Contains(b, []byte("rate_limit_exceeded")) {
		t.Fatalf("%d %s", res.StatusCode, b)
	}
	if after := res.Header.Get("Retry-After"); after != "30" {
		t.Errorf("Retry-After %q, want 30", after)
	}
}

// TestOverspend: many parallel requests of one key spend at most its budget,
// and what was spent is what the receipts say, to the unit.
func TestOverspend(t *testing.T) {
	budget := uint64(10_000)
	var charged atomic.Uint64
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ks.Close()
	secret, k, err := ks.Create(keys.Grant{Budget: &budget})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, func(c *openai.Config) {
		c.Keys = ks
		c.Observe = func(_ context.Context, e openai.Event) { charged.Add(e.Cost.Units) }
	})
	d.secret = secret
	var wg sync.WaitGroup
	var ok, refused atomic.Int64
	for i := range 200 {
		wg.Go(func() {
			res, b := d.do(t, "POST", "/v1/completions", fmt.Sprintf(`{"model":"tiny","max_tokens":%d,"prompt":"x"}`, 20+i%50))
			switch res.StatusCode {
			case 200:
				ok.Add(1)
			case 402:
				refused.Add(1)
			default:
				t.Errorf("%d %s", res.StatusCode, b)
			}
		})
	}
	wg.Wait()
	wait(t, func() bool { g, _ := ks.Get(k.ID); return g.Reserved == 0 && g.Spent == charged.Load() })
	g, _ := ks.Get(k.ID)
	if g.Spent > budget || ok.Load() == 0 || refused.Load() == 0 {
		t.Errorf("spent %d, charged %d, budget %d; %d ok, %d refused", g.Spent, charged.Load(), budget, ok.Load(), refused.Load())
	}
}

func TestMixedKinds(t *testing.T) {
	// Where an exact and another model share a name, the exact one is asked.
	d := open(t, func(c *openai.Config) { c.Seller = twins{c.Seller.(*sellertest.Seller)} })
	d.post(t, "/v1/chat/completions", `{"model":"twin","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`)
	if a := d.seller.Asks()[0]; a.Request.Kind != infer.Exact || len(a.Model) != 64 {
		t.Errorf("asked %q with kind %c", a.Model, a.Request.Kind)
	}
}

type twins struct{ *sellertest.Seller }

func (s twins) Models(ctx context.Context) ([]buyer.Model, error) {
	all, err := s.Seller.Models(ctx)
	up, exact := all[2], all[0]
	up.ID, exact.ID = "twin", "twin"
	return []buyer.Model{up, exact}, err
}

// instant answers at once and costs nothing to run, so that what is measured
// is the gateway.
type instant struct{ answer buyer.Answer }

func (s *instant) Models(context.Context) ([]buyer.Model, error) {
	return []buyer.Model{s.answer.Model}, nil
}

func (s *instant) Do(_ context.Context, _ buyer.Ask, emit func(infer.Delta) error) (buyer.Answer, error) {
	return s.answer, emit(infer.Delta{Text: "Hello, market.", Tokens: 3})
}

func BenchmarkOverhead(b *testing.B) {
	s := &instant{buyer.Answer{
		Model:  buyer.Model{ID: "m", Exact: true, Denom: square.Denom, Rates: sellertest.Rates},
		Result: infer.Result{Kind: infer.Exact, Finish: infer.FinishStop, Tokens: []uint16{1, 2, 3}},
		Cost:   square.Utorg(17), Signed: wire.Signed{Receipt: square.Receipt{Units: []uint64{11, 3}}},
	}}
	for _, mode := range []string{"plain", "stream", "keys"} {
		b.Run(mode, func(b *testing.B) {
			var mu sync.Mutex
			var took []time.Duration
			cfg := openai.Config{Seller: s, Log: slog.New(slog.DiscardHandler), Observe: func(_ context.Context, e openai.Event) {
				mu.Lock()
				took = append(took, e.Overhead)
				mu.Unlock()
			}}
			d := &door{}
			if mode == "keys" {
				ks, err := keys.Open(filepath.Join(b.TempDir(), "k"), nil)
				if err != nil {
					b.Fatal(err)
				}
				defer ks.Close()
				if d.secret, _, err = ks.Create(keys.Grant{}); err != nil {
					b.Fatal(err)
				}
				cfg.Keys = ks
			}
			h, err := openai.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			d.Server = httptest.NewServer(h)
			defer d.Close()
			body := `{"model":"m","seed":1,"stream":` + fmt.Sprint(mode == "stream") + `,"messages":[{"role":"user","content":"hello"}]}`
			for b.Loop() {
				if res, body := d.do(b, "POST", "/v1/chat/completions", body); res.StatusCode != 200 {
					b.Fatalf("%d %s", res.StatusCode, body)
				}
			}
			report(b, took)
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// gate is a seller that writes its second token only when the client has read
// the first.
type gate struct {
	*sellertest.Seller
	read chan struct{}
}

func (s gate) Do(ctx context.Context, a buyer.Ask, emit func(infer.Delta) error) (buyer.Answer, error) {
	n := 0
	return s.Seller.Do(ctx, a, func(d infer.Delta) error {
		if n++; n == 2 {
			select {
			case <-s.read:
			case <-time.After(time.Minute):
				return errors.New("the first token was never read")
			}
		}
		return emit(d)
	})
}

// TestFlush: each token is on its way before the next is made.
func TestFlush(t *testing.T) {
	read := make(chan struct{})
	d := open(t, func(c *openai.Config) { c.Seller = gate{c.Seller.(*sellertest.Seller), read} })
	res, err := http.Post(d.URL+"/v1/completions", "application/json", strings.NewReader(`{"model":"tiny","prompt":"x","max_tokens":2,"stream":true,"seed":1}`)) // a seed whose first token is a whole character
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Fatalf("%q %v", line, err)
	}
	close(read)
	if rest, err := io.ReadAll(in); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("%q %v", rest, err)
	}
}
