package meter

import (
	"strings"
	"testing"

	"github.com/torg-network/torg/trade/infer"
)

func TestCeiling(t *testing.T) {
	for _, c := range []struct {
		body       string
		context    uint64
		path       Path
		completion uint64
	}{
		{`{"messages":[],"max_tokens":5}`, 0, Chat, 5},
		{`{"messages":[],"max_tokens":5.0}`, 0, Chat, 5},
		{`{"messages":[],"max_tokens":5,"max_completion_tokens":9}`, 0, Chat, 9},
		{`{"messages":[],"max_tokens":5,"max_completion_tokens":null}`, 0, Chat, 5},
		{`{"messages":[]}`, 0, Chat, DefaultCompletion},
		{`{"messages":[]}`, 100, Chat, 100},
		{`{"messages":[],"max_tokens":500}`, 100, Chat, 100},
		{`{"messages":[],"max_tokens":5,"n":3}`, 0, Chat, 15},
		{`{"messages":[],"max_tokens":5,"n":2,"best_of":3}`, 0, Chat, 15},
		{`{"messages":[],"max_tokens":5,"n_predict":30000}`, 0, Chat, 5},
		{`{"messages":[],"n_predict":7}`, 0, Chat, 7},
		{`{"messages":[],"n_predict":-1}`, 0, Chat, DefaultCompletion},
		{`{"prompt":"x","max_tokens":5}`, 0, Completions, 5},
		{`{"prompt":["a","b"],"max_tokens":5}`, 0, Completions, 10},
		{`{"prompt":[1,2,3],"max_tokens":5}`, 0, Completions, 5},
		{`{"prompt":[[1,2],[3]],"max_tokens":5}`, 0, Completions, 10},
		{`{"prompt":[[1,2]],"max_tokens":5,"n":128}`, 0, Completions, 640},
		{`{"input":["a","b"]}`, 0, Embeddings, 0},
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
	got, err := Ceiling(infer.Request{Kind: infer.Exact, MaxTokens: 7, TopP: 1, Prompt: []byte("abc")}, 0)
	if err != nil || got[1] != 7 || got[0] != 3 {
		t.Errorf("exact: %v, %v", got, err)
	}
}

// What servers could read in two ways has no price, and the refusal names it.
func TestAmbiguous(t *testing.T) {
	for body, names := range map[string]string{
		``: "object", `{}`: "messages", `[]`: "object", `null`: "object", `{"messages":[],"prompt":"x"}`: "one or the other", `{"input":"x","prompt":"x"}`: "one or the other",
		`{"messages":[],"n":129}`: "n:", `{"messages":[],"n":0}`: "n:", `{"messages":[],"n":1.5}`: "n:", `{"messages":[],"best_of":-1}`: "best_of:", `{"messages":[],"n_cmpl":200}`: "n_cmpl",
		`{"messages":[],"max_tokens":-1}`: "max_tokens:", `{"messages":[],"max_tokens":0}`: "max_tokens:", `{"messages":[],"max_tokens":1.5}`: "max_tokens:",
		`{"messages":[],"max_tokens":"9"}`: "max_tokens:", `{"messages":[],"max_tokens":4294967296}`: "max_tokens:", `{"messages":[],"max_completion_tokens":1e99}`: "max_completion_tokens:",
		`{"messages":[],"max_tokens":30000,"Max_Tokens":1}`: "case", `{"messages":[],"MAX_TOKENS":1}`: "max_tokens", "{\"messages\":[],\"max_token\u017f\":1}": "max_tokens",
		`{"messages":[],"N":3}`: `"n"`, `{"messages":[],"N_Predict":3}`: "n_predict", `{"Messages":[],"prompt":"x"}`: "messages",
		`{"messages":[],"max_tokens":1,"options":{"num_predict":30000}}`: "options.num_predict", `{"messages":[],"max_tokens":1,"extra_body":{"max_tokens":30000}}`: "extra_body.max_tokens",
		`{"messages":[],"max_tokens":1,"max_tokens":30000}`: "twice", `{"messages":[{"content":"a","content":"b"}]}`: "twice",
		`{"prompt":["a",1]}`: "prompt", `{"prompt":[{"a":1}]}`: "prompt", "{\"messages\":[\"\xff\"]}": "UTF-8", `{"messages":["\ud83d"]}`: "surrogate",
	} {
		got, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(body)}, 0)
		if err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, %v; want %q named", body, got, err, names)
		}
	}
}

// Images have a bound of their own, and only what is an image and nothing else.
func TestImages(t *testing.T) {
	data := strings.Repeat("QUJD", 200<<10)
	part := func(p string) string {
		return `{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},` + p + `]}]}`
	}
	for p, images := range map[string]uint64{
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}`:           1,
		`{"type":"image_url","image_url":"data:image\/jpeg;base64,a\/b` + data + `"}`:             1,
		`{"type":"image_url","image_url":"data:image/jpeg;base64,a\nb` + data + `"}`:              0,
		`{"type":"image_url","image_url":"data:image/jpeg;base64,` + data + `"}`:                  1,
		`{"type":"input_image","image_url":"data:image/webp;base64,` + data + `","detail":"low"}`: 1,
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + ` and words"}}`: 0,
		`{"type":"image_url","image_url":{"url":"data:text/plain;base64,` + data + `"}}`:          0,
		`{"type":"image_url","image_url":{"url":"` + data + `"}}`:                                 0,
		`{"type":"text","text":"data:image/png;base64,` + data + `"}`:                             0,
		`{"type":"input_audio","input_audio":{"data":"data:image/png;base64,` + data + `"}}`:      0,
	} {
		body := part(p)
		b, err := ReadBody([]byte(body))
		if err != nil || b.Images != images {
			t.Fatalf("%.90s…: %d images, %v", p, b.Images, err)
		}
		most, least := uint64(len(body))+Overhead, uint64(len(body))-8
		if images > 0 {
			most, least = ImageTokens+Overhead+300, ImageTokens
		}
		if got, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(body)}, 0); err != nil || got[0] > most || got[0] < least {
			t.Errorf("%.90s…: %v, %v; want %d to %d", p, got, err, least, most)
		}
	}
}

// Escapes are counted as what they stand for.
func TestEscapes(t *testing.T) {
	plain, _ := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(`{"prompt":"日本\\ 😀"}`)}, 0)
	escaped, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(`{"prompt":"\u65e5\u672c\\\u0020\ud83d\ude00"}`)}, 0)
	if err != nil || plain[0] != escaped[0] {
		t.Errorf("%v, escaped %v, %v", plain, escaped, err)
	}
}

// What a server reports is held against what it delivered.
func TestMeter(t *testing.T) {
	b, err := ReadBody([]byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("word ", 100) + `"}],"max_tokens":300}`))
	if err != nil {
		t.Fatal(err)
	}
	own := b.Text / 8
	ceiling := []uint64{b.Text + Overhead, 300}
	for _, c := range []struct {
		prompt, completion int64
		text               int
		events             uint64
		want               [2]uint64
		counted, over      bool
	}{
		{110, 200, 1000, 200, [2]uint64{110, 200}, false, false},
		{110, 60, 0, 0, [2]uint64{110, 60}, false, false},    // marks alone
		{110, 65, 0, 0, [2]uint64{110, 0}, true, false},      // more than marks
		{-1, 200, 1000, 0, [2]uint64{own, 200}, true, false}, // half of it is missing
		{0, 200, 1000, 0, [2]uint64{own, 200}, true, false},
		{110, -1, 1000, 200, [2]uint64{110, 200}, true, false},
		{110, 0, 1000, 0, [2]uint64{110, 125}, true, false},
		{110, 0, 0, 0, [2]uint64{110, 0}, false, false},
		{110, 3, 1000, 200, [2]uint64{110, 200}, true, false}, // 333 bytes a token
		{4e9, 200, 1000, 200, [2]uint64{own, 200}, true, false},
		{110, 4e9, 2, 1, [2]uint64{110, 1}, true, false},
		{110, 1000, 5000, 1000, [2]uint64{110, 300}, false, true},
		{-1, -1, 5000, 1, [2]uint64{own, 300}, true, true}, // one event holds it all
	} {
		m := b.Meter(&infer.Usage{Prompt: c.prompt, Completion: c.completion}, c.text, c.events, ceiling)
		if [2]uint64(m.Units) != c.want || (m.Counted != "") != c.counted || (m.Over != "") != c.over {
			t.Errorf("%d and %d for %d bytes in %d events: %+v, want %v", c.prompt, c.completion, c.text, c.events, m, c.want)
		}
	}
	if m := b.Meter(nil, 1000, 200, ceiling); m.Units[0] != own || m.Units[1] != 200 || m.Counted == "" {
		t.Errorf("no usage: %+v", m)
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
		{`{"object":"error","message":"old style","code":400}`, "", "", "", "old style"},
		{`{"detail":"not found"}`, "", "", "", "not found"},
		{`{"choices":[{"delta":{"content":"a","refusal":"no"}},{"text":"b"}]}`, "anob", "ab", "", ""},
		{`{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r","content":"c"}}]}`, "rc", "c", "", ""},
		{`{"choices":[{"delta":{"reasoning":"r","reasoning_content":"s"}}]}`, "rs", "", "", ""},
		{`{"choices":[{"delta":{"function_call":{"name":"f"}}}]}`, `{"name":"f"}`, "", "", ""},
		{`{"choices":[{"delta":{"content":"x","tool_calls":[{"a":1}]}}]}`, `x[{"a":1}]`, "x", "", ""},
		{`{"choices":[{"delta":{"tool_calls":[],"function_call":null}}]}`, "", "", "", ""},
		{`{"choices":[{"delta":{"Content":"no"},"Delta":{"content":"no"},"TEXT":"no"}],"Error":"no"}`, "", "", "", ""},
	} {
		e, err := ReadEvent([]byte(c.raw))
		if err != nil || e.Text != c.text || e.Said != c.said || e.Finish != c.finish || e.Err != c.err {
			t.Errorf("%s: %+v, %v", c.raw, e, err)
		}
	}
	for _, bad := range []string{`{`, `{"choices":[{"text":"a","text":"b"}]}`, `[]`, `{"usage":{},"usage":{}}`} {
		if e, err := ReadEvent([]byte(bad)); err == nil {
			t.Errorf("%s is an event: %+v", bad, e)
		}
	}
	for raw, want := range map[string]*infer.Usage{
		`{"usage":null}`: nil, `{}`: nil, `{"usage":[]}`: nil, `{"usage":"x"}`: nil, `{"usage":{}}`: {Prompt: -1, Completion: -1},
		`{"usage":{"prompt_tokens":11.0,"completion_tokens":3}}`: {Prompt: 11, Completion: 3}, `{"usage":{"prompt_tokens":1.5,"completion_tokens":-3}}`: {Prompt: -1, Completion: -1},
		`{"usage":{"Prompt_Tokens":9,"completion_tokens":"3"}}`: {Prompt: -1, Completion: -1},
	} {
		e, err := ReadEvent([]byte(raw))
		if err != nil || (e.Usage == nil) != (want == nil) || want != nil && *e.Usage != *want {
			t.Errorf("%s: %+v, %v", raw, e, err)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"messages":[],"n":3,"max_tokens":4294967295}`))
	f.Add([]byte(`{"prompt":[[1],[2]],"best_of":128,"n":128}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ReadEvent(b)
		if units, err := Ceiling(infer.Request{Kind: infer.Opaque, Prompt: b}, 1<<20); err == nil && units[1] > 1<<20*128*uint64(len(b)) {
			t.Fatalf("%v", units)
		}
	})
}

// BenchmarkEvent is what reading a streamed event takes.
func BenchmarkEvent(b *testing.B) {
	raw := []byte(`{"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"some-model","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":"Hello"},"logprobs":null,"finish_reason":null}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadEvent(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBody is what reading a request of eleven turns takes.
func BenchmarkBody(b *testing.B) {
	raw := []byte(`{"model":"m","messages":[` + strings.Repeat(`{"role":"user","content":"some words here, and more of them"},`, 10) + `{"role":"user","content":"x"}],"max_tokens":100,"temperature":0.5,"stream":true}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadBody(raw); err != nil {
			b.Fatal(err)
		}
	}
}
