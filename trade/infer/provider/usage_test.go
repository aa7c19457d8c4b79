package provider_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/provider"
)

// What a server says it used is held against what it delivered.
func TestUsage(t *testing.T) {
	words := strings.TrimSpace(strings.Repeat("word ", 400)) // 1999 bytes
	var usage, text string
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, word := range strings.SplitAfter(text, " ") {
				fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", word)
			}
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":%s}\n\ndata: [DONE]\n\n", usage)
			return
		}
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%q},"finish_reason":"stop"}],"usage":%s}`, text, usage)
	}))
	defer up.Close()
	e := provider.Upstream{Base: up.URL}.Engine(provider.Model{Name: "m", Subject: infer.Subject("m")})
	body := []byte(`{"messages":[{"role":"user","content":"forty bytes"}],"max_tokens":3000}`)
	own := uint64(len(body)) / 8
	for _, c := range []struct {
		text, usage  string
		stream       bool
		prompt, comp uint64
	}{
		{words, `{"prompt_tokens":9,"completion_tokens":400}`, true, 9, 400},
		{words, `{"prompt_tokens":9,"completion_tokens":400}`, false, 9, 400},
		{words, `{"prompt_tokens":9.0,"completion_tokens":400.0}`, false, 9, 400},
		{words, `null`, true, own, 400},
		{words, `{}`, true, own, 400},
		{words, `{}`, false, own, 1999 / 8},
		{words, `{"prompt_tokens":9,"completion_tokens":0}`, true, 9, 400},
		{words, `{"completion_tokens":"many"}`, true, own, 400},
		{words, `[]`, true, own, 400},
		{"hi", `{"prompt_tokens":9,"completion_tokens":4000000000}`, true, 9, 1},
		{"hi", `{"prompt_tokens":9,"completion_tokens":4000000000}`, false, 9, 0},
		{"hi", `{"prompt_tokens":4000000000,"completion_tokens":4000000000}`, false, own, 0},
		{"hi", `{"prompt_tokens":9,"completion_tokens":-1}`, true, 9, 1},
		{"hi", `{"prompt_tokens":9,"completion_tokens":12}`, true, 9, 12}, // marks of reasoning and the like
	} {
		text, usage = c.text, c.usage
		out, err := e.Run(t.Context(), provider.Job{Request: infer.Request{Kind: infer.Opaque, Prompt: body}, Stream: c.stream}, func(infer.Delta) error { return nil })
		if err != nil || out.Units[0] != c.prompt || out.Units[1] != c.comp {
			t.Errorf("%d bytes, usage %s, stream %v: metered %v (%s), %v; want %d and %d", len(c.text), c.usage, c.stream, out.Units, out.Counted, err, c.prompt, c.comp)
		}
	}
}

// The limit goes to the server by the name that it knows.
func TestLimitNames(t *testing.T) {
	var asked []map[string]json.RawMessage
	refuses := ""
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m map[string]json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&m)
		asked = append(asked, m)
		if _, has := m[refuses]; has {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"message":"Unsupported parameter: '%s'. Use 'max_completion_tokens' instead."}}`, refuses)
			return
		}
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	defer up.Close()
	for _, c := range []struct{ body, refuses, old, newer string }{
		{`{"messages":[],"max_completion_tokens":7}`, "", "7", "7"},
		{`{"messages":[],"max_tokens":7}`, "", "7", "7"},
		{`{"messages":[],"max_tokens":30000,"max_completion_tokens":7}`, "", "7", "7"},
		{`{"messages":[],"max_tokens":7.0}`, "", "7", "7"},
		{`{"messages":[],"max_tokens":7}`, "max_tokens", "", "7"},
		{`{"messages":[],"max_tokens":7}`, "max_completion_tokens", "7", ""},
		{`{"messages":[],"max_tokens":7,"n_predict":30000,"max_new_tokens":30000}`, "", "7", "7"},
		{`{"messages":[]}`, "", "4096", "4096"},
		{`{"messages":[],"n":2.0}`, "", "4096", "4096"},
		{`{"prompt":"x","max_tokens":7}`, "", "7", ""},
	} {
		asked, refuses = nil, c.refuses
		e := provider.Upstream{Base: up.URL}.Engine(provider.Model{Name: "m", Subject: infer.Subject("m")})
		_, err := e.Run(t.Context(), provider.Job{Request: infer.Request{Kind: infer.Opaque, Prompt: []byte(c.body)}}, func(infer.Delta) error { return nil })
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		m := asked[len(asked)-1]
		if string(m["max_tokens"]) != c.old || string(m["max_completion_tokens"]) != c.newer {
			t.Errorf("%s: the server was asked %s", c.body, m)
		}
		if m["n_predict"] != nil || m["max_new_tokens"] != nil || m["n"] != nil && string(m["n"]) != "2" {
			t.Errorf("%s: the server was asked %s", c.body, m)
		}
		if c.refuses == "" {
			continue
		}
		// It is not asked so again.
		asked = nil
		if _, err := e.Run(t.Context(), provider.Job{Request: infer.Request{Kind: infer.Opaque, Prompt: []byte(c.body)}}, func(infer.Delta) error { return nil }); err != nil || len(asked) != 1 {
			t.Errorf("%s: the second time it was asked %d times, %v", c.body, len(asked), err)
		}
	}
}
