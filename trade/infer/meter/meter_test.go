package meter

import (
	"testing"

	"github.com/torg-network/torg/trade/infer"
)

func TestCeiling(t *testing.T) {
	for _, c := range []struct {
		body       string
		context    uint64
		path       string
		completion uint64
	}{
		{`{"messages":[],"max_tokens":5}`, 0, "/v1/chat/completions", 5},
		{`{"messages":[],"max_tokens":5,"max_completion_tokens":9}`, 0, "/v1/chat/completions", 9},
		{`{"messages":[]}`, 0, "/v1/chat/completions", DefaultCompletion},
		{`{"messages":[]}`, 100, "/v1/chat/completions", 100},
		{`{"messages":[],"max_tokens":500}`, 100, "/v1/chat/completions", 100},
		{`{"messages":[],"max_tokens":5,"n":3}`, 0, "/v1/chat/completions", 15},
		{`{"prompt":"x","max_tokens":5}`, 0, "/v1/completions", 5},
		{`{"prompt":["a","b"],"max_tokens":5}`, 0, "/v1/completions", 10},
		{`{"prompt":[1,2,3],"max_tokens":5}`, 0, "/v1/completions", 5},
		{`{"input":["a","b"]}`, 0, "/v1/embeddings", 0},
	} {
		b, err := ReadBody([]byte(c.body))
		if err != nil || b.Path != c.path {
			t.Errorf("%s: %+v, %v", c.body, b, err)
		}
		got, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(c.body)}, c.context)
		if err != nil || got[0] != uint64(len(c.body))+Overhead || got[1] != c.completion {
			t.Errorf("%s: %v, %v; want %d completion tokens", c.body, got, err, c.completion)
		}
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"messages":[],"n":129}`, `{"messages":[],"max_tokens":-1}`} {
		if got, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(bad)}, 0); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
	got, err := Ceiling(infer.Request{Kind: infer.Exact, MaxTokens: 7, TopP: 1, Prompt: []byte("abc")}, 0)
	if err != nil || got[1] != 7 || got[0] < 3 {
		t.Errorf("exact: %v, %v", got, err)
	}
}

func TestReadEvent(t *testing.T) {
	for _, c := range []struct{ raw, text, said, finish, err string }{
		{`{"choices":[{"delta":{"role":"assistant","content":null}}]}`, "", "", "", ""},
		{`{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"},"finish_reason":"stop"}]}`, "ab", "ab", "stop", ""},
		{`{"choices":[{"delta":{"reasoning":"r","content":"c"}}]}`, "rc", "c", "", ""},
		{`{"choices":[{"text":"t","finish_reason":"length"}]}`, "t", "t", "length", ""},
		{`{"choices":[{"message":{"content":[{"type":"text","text":"p"}]}}]}`, "p", "p", "", ""},
		{`{"choices":[],"usage":null}`, "", "", "", ""},
		{`{"error":"plain"}`, "", "", "", "plain"},
		{`{"error":{"message":"m"}}`, "", "", "", "m"},
		{`{"error":{"code":1}}`, "", "", "", `{"code":1}`},
		{`{"error":null,"choices":[]}`, "", "", "", ""},
	} {
		e, err := ReadEvent([]byte(c.raw))
		if err != nil || e.Text != c.text || e.Said != c.said || e.Finish != c.finish || e.Err != c.err {
			t.Errorf("%s: %+v, %v", c.raw, e, err)
		}
	}
	if _, err := ReadEvent([]byte(`{`)); err == nil {
		t.Error("half an object is an event")
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"messages":[],"n":3,"max_tokens":4294967295}`))
	f.Add([]byte(`{"prompt":[[1],[2]],"best_of":128,"n":128}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ReadEvent(b)
		if units, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: b}, 1<<20); err == nil && units[1] > 1<<20*128*128*uint64(len(b)) {
			t.Fatalf("%v", units)
		}
	})
}
