package openai_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/gateway/sellertest"
	"github.com/torg-network/torg/trade/infer"
)

// FuzzRequest posts any body to every endpoint: the answer is always JSON or
// events, never a crash, and what reaches the seller is always a valid request.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"max_tokens":3,"seed":-1,"stop":["a"],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"model":"tiny","prompt":["x"],"logprobs":2,"max_tokens":3,"temperature":0.1,"top_p":1e-9}`,
		`{"model":"tiny","input":["a","b"],"encoding_format":"base64"}`,
		`{"model":"tiny","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}],"stream":true,"max_output_tokens":2,"include":["message.output_text.logprobs"]}`,
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"stream":true,"provider":{"sort":{"by":"price"},"max_price":{"prompt":"1e-3"}}}`,
		`{"model":"upstream","prompt":"x","input":"y","messages":[]}`,
		`{"model":"upstream","input":"x","text":{"format":{"type":"json_schema","schema":{}}}}`,
		`{"model":"sulky","messages":[{"role":"user","content":null}],"stream":true}`,
		`{"model":"halfway","prompt":"","stream":true}`,
	} {
		for path := range byte(4) {
			f.Add(path, []byte(s))
		}
	}
	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"}
	f.Fuzz(func(t *testing.T, path byte, body []byte) {
		s := sellertest.New()
		h, err := openai.New(openai.Config{Seller: s, Log: slog.New(slog.DiscardHandler), MaxTokens: 8})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), sellertest.Slow) {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", paths[int(path)%len(paths)], strings.NewReader(string(body))))
		out := w.Body.Bytes()
		if w.Header().Get("Content-Type") == "text/event-stream" {
			_, data := events(t, out)
			for _, d := range data {
				if d != "[DONE]" && !json.Valid([]byte(d)) {
					t.Errorf("event %s", d)
				}
			}
		} else if !json.Valid(out) {
			t.Errorf("%d %s", w.Code, out)
		}
		if w.Code == 500 && !strings.Contains(string(body), "fails-oddly") {
			t.Errorf("an internal error: %s", out)
		}
		for _, a := range s.Asks() {
			if _, err := infer.DecodeRequest(a.Request.Encode()); err != nil {
				t.Errorf("the seller was sent %+v: %v", a.Request, err)
			}
		}
	})
}

// FuzzRunes: however text is cut, its runes arrive whole and none is lost.
func FuzzRunes(f *testing.F) {
	f.Add([]byte("café 日本\xff\xe6"), uint64(0b1011))
	f.Add([]byte("\xf0\x9f\x92\xa9\xf0\x9f"), ^uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, cuts uint64) {
		var pieces []string
		from := 0
		for i := range b {
			if cuts>>(i%64)&1 == 1 {
				pieces, from = append(pieces, string(b[from:i])), i
			}
		}
		pieces = append(pieces, string(b[from:]))
		got := openai.PassRunes(pieces)
		want := string([]rune(string(b)))
		// A cut-off rune at the very end is one replacement, whatever its length.
		if !utf8.ValidString(got) || strings.TrimRight(got, "\ufffd") != strings.TrimRight(want, "\ufffd") {
			t.Errorf("%q arrives as %q, want %q", b, got, want)
		}
	})
}
