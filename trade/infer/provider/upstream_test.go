package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// server answers like one of the common servers; the model's name picks how.
type server struct {
	*httptest.Server
	client *http.Client
	mu     sync.Mutex
	asked  []map[string]json.RawMessage
}

// last is what the server was asked last.
func (s *server) last() map[string]json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[len(s.asked)-1]
}

func sse(w http.ResponseWriter, lines ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, l := range lines {
		io.WriteString(w, l)
		w.(http.Flusher).Flush()
	}
}

func chunk(text string) string {
	return fmt.Sprintf(`{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`, text)
}

const (
	last  = `{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage = `{"id":"c1","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`
)

func newServer(t *testing.T) *server {
	s := &server{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"object":"list","data":[{"id":"llama3.2:1b","object":"model","owned_by":"library"},{"id":"vllm/qwen","max_model_len":32768},{"id":"gguf","meta":{"n_ctx_train":8192}},{"id":""}]}`)
	})
	answer := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, m)
		s.mu.Unlock()
		var model string
		_ = json.Unmarshal(m["model"], &model)
		stream := string(m["stream"]) == "true"
		hang := func() { <-r.Context().Done() }
		cut := func() { // the connection breaks
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/embeddings"):
			io.WriteString(w, `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,0.2]}],"model":"m","usage":{"prompt_tokens":4,"total_tokens":4}}`)
		case model == "ollama" && stream: // usage in a chunk of its own, LF
			sse(w, "data: "+chunk("He")+"\n\n", "data: "+chunk("llo")+"\n\ndata: "+last+"\n\n", "data: "+usage+"\n\n", "data: [DONE]\n\n")
		case model == "vllm" && stream: // CRLF, pings, a role chunk first, data without a space
			sse(w, ": ping - 2026-11-22\r\n\r\n", `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`+"\r\n\r\n",
				"data:"+chunk("He")+"\r\n\r\n", ": ping\r\n\r\n", "data: "+chunk("llo")+"\r\n\r\n", "data: "+last+"\r\n\r\n", "data: "+usage+"\r\n\r\n", "data: [DONE]\r\n\r\n")
		case model == "llama-server" && stream: // usage with the last chunk, event fields, no DONE
			sse(w, "event: message\nid: 7\nretry: 100\ndata: "+chunk("Hello")+"\n\n",
				"data: "+strings.Replace(last, `"choices"`, `"timings":{"n":1},"usage":{"prompt_tokens":11,"completion_tokens":3},"choices"`, 1)+"\n\n")
		case model == "reasoner" && stream:
			sse(w, `data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}`+"\n\n", `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}`+"\n\n",
				"data: "+strings.Replace(last, "stop", "tool_calls", 1)+"\n\n", "data: "+usage+"\n\n", "data: [DONE]\n\n")
		case model == "nousage" && stream:
			sse(w, "data: "+chunk("a")+"\n\n", "data: "+chunk("b")+"\n\n", "data: "+last+"\n\n", "data: [DONE]\n\n")
		case model == "old" && m["stream_options"] != nil:
			w.WriteHeader(400)
			io.WriteString(w, `{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`)
		case model == "old":
			sse(w, "data: "+chunk("a")+"\n\n", "data: "+last+"\n\n", "data: [DONE]\n\n")
		case model == "half": // breaks in the middle
			sse(w, "data: "+chunk("one")+"\n\n", "data: "+chunk("two")+"\n\n", `data: {"choi`)
			cut()
		case model == "halfclean": // ends in the middle, politely
			sse(w, "data: "+chunk("one")+"\n\n")
		case model == "nothing":
			sse(w, ": hello\n\n")
		case model == "stall":
			sse(w, "data: "+chunk("one")+"\n\n")
			hang()
		case model == "stallfirst":
			hang()
		case model == "keepalive": // slow, but it lives
			w.Header().Set("Content-Type", "text/event-stream")
			for range 10 {
				io.WriteString(w, ": keep-alive\n\n")
				w.(http.Flusher).Flush()
				time.Sleep(30 * time.Millisecond)
			}
			sse(w, "data: "+chunk("slow")+"\n\n", "data: "+last+"\n\n", "data: "+usage+"\n\n", "data: [DONE]\n\n")
		case model == "badjson":
			sse(w, "data: "+chunk("one")+"\n\n", "data: {nonsense\n\n", "data: "+last+"\n\n")
		case model == "badjsonfirst":
			sse(w, "data: {nonsense\n\n")
		case model == "giant":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: "+chunk("one")+"\n\ndata: ")
			junk := bytes.Repeat([]byte("x"), 64<<10)
			for range 64 {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		case model == "error200" && stream: // an error as an event
			sse(w, `data: {"error":{"message":"CUDA out of memory","type":"server_error"}}`+"\n\n")
		case model == "error200":
			io.WriteString(w, `{"error":"model runner has unexpectedly stopped"}`)
		case model == "errorlate":
			sse(w, "data: "+chunk("one")+"\n\n", `data: {"error":{"message":"out of memory"}}`+"\n\n", "data: [DONE]\n\n")
		case model == "500":
			http.Error(w, "boom", 500)
		case model == "404":
			w.WriteHeader(404)
			io.WriteString(w, `{"error":{"message":"model \"404\" not found, try pulling it first"}}`)
		case model == "429":
			w.WriteHeader(429)
			io.WriteString(w, `{"error":{"message":"slow down"}}`)
		case model == "401":
			w.WriteHeader(401)
			io.WriteString(w, `{"error":{"message":"bad key"}}`)
		case model == "reset":
			cut()
		case model == "html":
			io.WriteString(w, "<html>proxy</html>")
		case model == "huge":
			w.Write(bytes.Repeat([]byte(" "), infer.MaxResult+10))
		case model == "endless":
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "data: "+chunk("x")+"\n\n"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		case model == "wholenousage":
			io.WriteString(w, `{"choices":[{"message":{"role":"assistant","content":"sixteen letters."},"finish_reason":"stop"}]}`)
		default:
			io.WriteString(w, `{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"length"}],"usage":{"prompt_tokens":11,"completion_tokens":3}}`)
		}
	}
	mux.HandleFunc("POST /v1/chat/completions", answer)
	mux.HandleFunc("POST /v1/completions", answer)
	mux.HandleFunc("POST /v1/embeddings", answer)
	link := network{conns: make(chan net.Conn)}
	link.up, link.down = context.WithCancel(context.Background())
	s.Server = &httptest.Server{Listener: link, Config: &http.Server{Handler: mux}}
	s.Start()
	s.client = &http.Client{Transport: &http.Transport{DialContext: link.dial}}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.Close()
	})
	return s
}

// network connects a server to its clients within a test's bubble, where time
// passes only while everybody waits: a busy machine makes no server silent.
type network struct {
	conns chan net.Conn
	up    context.Context
	down  context.CancelFunc
}

func (n network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case n.conns <- theirs:
		return ours, nil
	case <-n.up.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.up.Done():
		return nil, net.ErrClosed
	}
}

func (n network) Close() error   { n.down(); return nil }
func (n network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

const chat = `{"model":"whatever","messages":[{"role":"user","content":"say hello"}],"max_tokens":16,"temperature":0.5,"x_custom":[1]}`

func run(ctx context.Context, s *server, model, body string, stream bool, emit func(infer.Delta) error) (Output, []infer.Delta, error) {
	e := Upstream{Base: s.URL, Client: s.client, Idle: 150 * time.Millisecond, Total: 5 * time.Second}.Engine(Model{Name: model})
	var got []infer.Delta
	out, err := e.Run(ctx, Job{Request: infer.Request{Kind: infer.Opaque, Prompt: []byte(body)}, Stream: stream}, func(d infer.Delta) error {
		got = append(got, d)
		if emit != nil {
			return emit(d)
		}
		return nil
	})
	return out, got, err
}

// bubble runs a test against a server of its own, in a time of their own.
func bubble(t *testing.T, name string, test func(*testing.T, *server)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newServer(t)) })
	})
}

// TestUpstreamAnswers: the quirks of servers that work.
func TestUpstreamAnswers(t *testing.T) {
	prompt := uint64(len(chat)) / 8
	for _, c := range []struct {
		model  string
		stream bool
		text   string // of the result where it was streamed
		said   string
		finish infer.Finish
		units  [2]uint64
		own    bool // counted by the provider
	}{
		{"ollama", true, "Hello", "Hello", infer.FinishStop, [2]uint64{11, 3}, false},
		{"vllm", true, "Hello", "Hello", infer.FinishStop, [2]uint64{11, 3}, false},
		{"llama-server", true, "Hello", "Hello", infer.FinishStop, [2]uint64{11, 3}, false},
		{"reasoner", true, `hm[{"index":0,"function":{"name":"f","arguments":"{}"}}]`, "", infer.FinishStop, [2]uint64{11, 3}, false},
		{"keepalive", true, "slow", "slow", infer.FinishStop, [2]uint64{11, 3}, false},
		{"nousage", true, "ab", "ab", infer.FinishStop, [2]uint64{prompt, 2}, true},
		{"old", true, "a", "a", infer.FinishStop, [2]uint64{prompt, 1}, true},
		{"any", false, "", "", infer.FinishLength, [2]uint64{11, 3}, false},
		{"wholenousage", false, "", "", infer.FinishStop, [2]uint64{prompt, 2}, true},
		{"half", true, "onetwo", "onetwo", infer.FinishError, [2]uint64{prompt, 2}, true},
		{"halfclean", true, "one", "one", infer.FinishError, [2]uint64{prompt, 1}, true},
		{"stall", true, "one", "one", infer.FinishError, [2]uint64{prompt, 1}, true},
		{"badjson", true, "one", "one", infer.FinishError, [2]uint64{prompt, 1}, true},
		{"giant", true, "one", "one", infer.FinishError, [2]uint64{prompt, 1}, true},
		{"errorlate", true, "one", "one", infer.FinishError, [2]uint64{prompt, 1}, true},
	} {
		bubble(t, c.model, func(t *testing.T, s *server) {
			out, deltas, err := run(t.Context(), s, c.model, chat, c.stream, nil)
			if err != nil {
				t.Fatal(err)
			}
			var said, text string
			for _, d := range deltas {
				said += d.Text
				ev, err := meter.ReadEvent(d.Raw)
				if err != nil {
					t.Fatal(err)
				}
				text += ev.Text
			}
			if c.stream && (string(out.Result.Text) != c.text || text != c.text || said != c.said) {
				t.Errorf("text %q, delivered %q, said %q; want %q and %q", out.Result.Text, text, said, c.text, c.said)
			}
			if !c.stream && (!bytes.Equal(out.Result.Text, out.Body) || !json.Valid(out.Body)) {
				t.Errorf("body %s, text %s", out.Body, out.Result.Text)
			}
			if [2]uint64(out.Units) != c.units || out.Result.Finish != c.finish || (out.Counted != "") != c.own {
				t.Errorf("units %v, finish %q, counted %q; want %v, %q, %v", out.Units, out.Result.Finish, out.Counted, c.units, c.finish, c.own)
			}
			if _, err := infer.DecodeResult(out.Result.Encode()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUpstreamFailures: nothing reached the buyer, nothing is charged, and the
// buyer is told why.
func TestUpstreamFailures(t *testing.T) {
	for _, c := range []struct {
		model  string
		stream bool
		code   string // of a refusal; "" is a failure of the server
		says   string
	}{
		{"nothing", true, "", "ended before an answer"},
		{"stallfirst", true, "", "silent"},
		{"badjsonfirst", true, "", "no JSON"},
		{"error200", true, "", "CUDA out of memory"},
		{"error200", false, "", "unexpectedly stopped"},
		{"500", true, "", "500"},
		{"500", false, "", "boom"},
		{"404", true, wire.CodeBadRequest, "try pulling"},
		{"429", false, wire.CodeBusy, "slow down"},
		{"401", false, "", "bad key"},
		{"reset", true, "", ""},
		{"html", false, "", "no JSON"},
		{"huge", false, "", "over"},
	} {
		bubble(t, c.model, func(t *testing.T, s *server) {
			_, deltas, err := run(t.Context(), s, c.model, chat, c.stream, nil)
			var we *wire.Refusal
			if err == nil || len(deltas) > 0 || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%d pieces, %v; want an error with %q", len(deltas), err, c.says)
			}
			if errors.As(err, &we) != (c.code != "") || we != nil && we.Code != c.code {
				t.Errorf("%v; want code %q", err, c.code)
			}
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	if _, _, err := run(t.Context(), &server{Server: gone}, "any", chat, true, nil); err == nil {
		t.Error("a server that is not there answered")
	}
	if _, err := (Upstream{Base: gone.URL}).Models(t.Context()); err == nil {
		t.Error("a server that is not there has models")
	}
}

// TestUpstreamStops: a buyer that goes away, and a server that does not stop.
func TestUpstreamStops(t *testing.T) { synctest.Test(t, testUpstreamStops) }

func testUpstreamStops(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	out, _, err := run(ctx, s, "endless", chat, true, func(infer.Delta) error {
		if n++; n == 5 {
			cancel()
		}
		return nil
	})
	if err != nil || out.Result.Finish != infer.FinishCancelled || out.Units[1] < 5 || out.Units[1] > 16 {
		t.Errorf("cancelled at 5: %v %q %v", out.Units, out.Result.Finish, err)
	}
	n = 0
	out, _, err = run(t.Context(), s, "endless", chat, true, func(infer.Delta) error {
		if n++; n == 5 {
			return io.ErrClosedPipe
		}
		return nil
	})
	if err != nil || out.Result.Finish != infer.FinishCancelled || out.Units[1] != 4 || string(out.Result.Text) != "xxxx" { // the fifth did not arrive
		t.Errorf("gone at 5: %v %q %v", out.Units, out.Result.Finish, err)
	}
	out, _, err = run(t.Context(), s, "endless", chat, true, nil)
	if err != nil || out.Result.Finish != infer.FinishLength || out.Units[1] != 16 || out.Over == "" {
		t.Errorf("with 16 tokens asked for: %v %q %v", out.Units, out.Result.Finish, err)
	}
}

// TestUpstreamBody: what is set in a body, what is left alone, and where it
// goes.
func TestUpstreamBody(t *testing.T) { synctest.Test(t, testUpstreamBody) }

func testUpstreamBody(t *testing.T) {
	s := newServer(t)
	if _, _, err := run(t.Context(), s, "ollama", chat, true, nil); err != nil {
		t.Fatal(err)
	}
	m := s.last()
	if string(m["model"]) != `"ollama"` || string(m["stream_options"]) != `{"include_usage":true}` || string(m["max_tokens"]) != "16" ||
		string(m["x_custom"]) != "[1]" || string(m["temperature"]) != "0.5" {
		t.Errorf("the server was asked %s", m)
	}
	if _, _, err := run(t.Context(), s, "any", `{"prompt":"x"}`, false, nil); err != nil {
		t.Fatal(err)
	}
	if m = s.last(); string(m["max_tokens"]) != fmt.Sprint(meter.DefaultCompletion) || string(m["stream"]) != "false" {
		t.Errorf("without a limit the server was asked %s", m)
	}
	out, _, err := run(t.Context(), s, "any", `{"input":"x","stream":true}`, true, nil)
	if err != nil || out.Units[0] != 4 || out.Units[1] != 0 {
		t.Errorf("embeddings: %v %v", out.Units, err)
	}
	for _, bad := range []string{"", "[]", `{"model":"x"}`, `{"messages":[],"n":1000}`} {
		var we *wire.Refusal
		if _, err := (&upstreamEngine{}).Ceiling(infer.Request{Kind: infer.Opaque, Prompt: []byte(bad)}); err == nil {
			t.Errorf("body %q has a ceiling", bad)
		}
		if _, _, err := run(t.Context(), s, "any", bad, false, nil); err == nil {
			t.Errorf("body %q was served (%v)", bad, we)
		}
	}
	models, err := Upstream{Base: s.URL, Client: s.client}.Models(t.Context())
	if err != nil || len(models) != 3 || models[0].Name != "llama3.2:1b" || models[1].Context != 32768 || models[2].Context != 8192 || models[0].Exact {
		t.Errorf("models: %+v, %v", models, err)
	}
}

// FuzzEvents: however bytes are cut into reads, the events are the same, and
// no event is over the limit.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: a\n\ndata:b\r\ndata: c\r\r: ping\n\ndata: [DONE]"), 1)
	f.Add([]byte("data\ndata:\n\n\r\n\r\ndata: x"), 3)
	f.Add([]byte("event: e\nid: 1\ndata: {\"choices\":[]}\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		all := func(r io.Reader) (out [][]byte) {
			e := newEvents(r, func() {})
			for {
				ev, err := e.next()
				if err != nil {
					return out
				}
				if len(ev) > maxEvent {
					t.Fatalf("an event of %d bytes", len(ev))
				}
				out = append(out, ev)
				_, _ = meter.ReadEvent(ev)
			}
		}
		whole, parts := all(bytes.NewReader(b)), all(&cutter{bytes.NewReader(b), max(1, cut&63)})
		if len(whole) != len(parts) {
			t.Fatalf("%d events whole, %d in parts", len(whole), len(parts))
		}
		for i := range whole {
			if !bytes.Equal(whole[i], parts[i]) {
				t.Fatalf("event %d: %q whole, %q in parts", i, whole[i], parts[i])
			}
		}
	})
}

type cutter struct {
	r io.Reader
	n int
}

func (c *cutter) Read(b []byte) (int, error) { return c.r.Read(b[:min(len(b), c.n)]) }

// FuzzWhole: text that comes byte by byte is delivered in whole characters, and
// is the same however it comes.
func FuzzWhole(f *testing.F) {
	f.Add([]byte("Grüße, 世界 🙂"), 1)
	f.Add([]byte{0xff, 0xe4, 0xb8, 'a', 0xf0, 0x9f, 0x99}, 2)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var w whole
		var got strings.Builder
		for rest, n := b, max(1, cut&7); len(rest) > 0; {
			k := min(n, len(rest))
			got.WriteString(w.add(rest[:k]))
			rest = rest[k:]
		}
		got.WriteString(w.rest())
		if want := string([]rune(string(b))); got.String() != want {
			t.Fatalf("%q came as %q", want, got.String())
		}
	})
}
