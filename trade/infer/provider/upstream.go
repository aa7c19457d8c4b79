package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// Upstream is an OpenAI-compatible server on this machine or beside it: Ollama,
// vLLM, llama-server, LM Studio. Its models are sold under their own names.
//
// A request's body goes to it with these members set: model; stream, with
// stream_options.include_usage; and max_tokens, to the body's own limit, by
// whichever name it has, or without one to what the buyer's voucher covers. A
// server that refuses one of the last two by name is asked again without it. A
// body that could be read in two ways is refused (meter.Members). The answer
// goes back verbatim.
//
// What is charged is the server's own usage, at most what was vouched for.
// Where it reports none (a half stream has none), or no completion though there
// is text, or more than so much text can be, it is counted here: a streamed
// event with text as one completion token and eight bytes of text without events
// as one; eight bytes of body as one prompt token. That is below what any common
// tokeniser gives.
type Upstream struct {
	Base   string        // "http://127.0.0.1:11434"
	APIKey string        // sent as a bearer token where set
	Client *http.Client  // nil: one without a proxy, that follows no redirects
	Idle   time.Duration // a server silent for so long has stalled (60 s)
	Total  time.Duration // no answer takes longer (15 min)
}

func (u Upstream) client() *http.Client {
	if u.Client != nil {
		return u.Client
	}
	return upstreamClient
}

var upstreamClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (u Upstream) idle() time.Duration {
	if u.Idle > 0 {
		return u.Idle
	}
	return time.Minute
}

func (u Upstream) total() time.Duration {
	if u.Total > 0 {
		return u.Total
	}
	return 15 * time.Minute
}

// maxPassed bounds the events of one answer, in bytes.
const maxPassed = 4 * infer.MaxResult

// maxModels bounds how many of a server's models are listed.
const maxModels = 256

// Models asks the server what it serves.
func (u Upstream) Models(ctx context.Context) ([]Model, error) {
	ctx, cancel := context.WithTimeout(ctx, min(u.idle(), 10*time.Second))
	defer cancel()
	res, err := u.send(ctx, http.MethodGet, "/v1/models", nil)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", u.Base, err)
	}
	defer res.Body.Close()
	body, err := readAll(res.Body, maxEvent)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, errorText(body))
	}
	var list struct {
		Data []struct {
			ID     string `json:"id"`
			MaxLen uint64 `json:"max_model_len"` // vLLM
			Meta   struct {
				Context uint64 `json:"n_ctx_train"` // llama-server
			} `json:"meta"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("upstream %s: list models: %w", u.Base, err)
	}
	var out []Model
	for _, m := range list.Data {
		if m.ID == "" || len(m.ID) > square.MaxText || len(out) == maxModels {
			continue
		}
		out = append(out, Model{
			Name: m.ID, Subject: infer.Subject(m.ID), Context: max(m.MaxLen, m.Meta.Context),
			Attributes: []square.Attribute{{Key: "infer.engine", Value: "upstream"}},
		})
	}
	return out, nil
}

// Engine serves one of the server's models.
func (u Upstream) Engine(m Model) Engine { return upstreamEngine{u, m} }

type upstreamEngine struct {
	u Upstream
	m Model
}

func (e upstreamEngine) Model() Model { return e.m }

func (e upstreamEngine) Ceiling(r infer.Request) ([]uint64, error) {
	if r.Kind != infer.Opaque {
		return nil, refuse(wire.CodeBadRequest, "model %s is served by an upstream server and takes opaque requests only", e.m.Name)
	}
	return meter.Ceiling(r, e.m.Context)
}

// asked is a body as it goes to the server.
type asked struct {
	meter.Body
	stream bool
	limit  uint64          // completion tokens of a choice
	less   map[string]bool // members that the server does not take
}

// optional are the members that a server is asked without when it refuses them.
var optional = []string{"stream_options", "max_tokens"}

// encode sets what must be set in a body.
func (a asked) encode(model string) ([]byte, error) {
	m := maps.Clone(a.Members)
	set := func(k string, v any) { m[k], _ = json.Marshal(v) } // strings, bools and numbers
	set("model", model)
	delete(m, "stream_options")
	if a.Path == "/v1/embeddings" {
		delete(m, "stream")
		return json.Marshal(m)
	}
	set("stream", a.stream)
	if a.stream && !a.less["stream_options"] {
		set("stream_options", map[string]bool{"include_usage": true})
	}
	_, newer := m["max_completion_tokens"]
	if newer || a.less["max_tokens"] {
		set("max_completion_tokens", a.limit)
	}
	if delete(m, "max_tokens"); !a.less["max_tokens"] {
		set("max_tokens", a.limit) // many servers know no other name
	}
	return json.Marshal(m)
}

// refuses is an optional member that a server's refusal names and that it was
// sent; empty if none.
func (a asked) refuses(said []byte) string {
	for _, name := range optional {
		if !a.less[name] && bytes.Contains(said, []byte(name)) && (name != "stream_options" || a.stream) {
			return name
		}
	}
	return ""
}

func (u Upstream) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(u.Base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if u.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+u.APIKey)
	}
	return u.client().Do(req)
}

// errStalled ends the context of an answer that fell silent.
var errStalled = errors.New("the server fell silent")

func (e upstreamEngine) Run(ctx context.Context, job Job, emit func(infer.Delta) error) (Output, error) {
	ceiling, err := e.Ceiling(job.Request)
	if err != nil {
		return Output{}, err
	}
	b, err := meter.ReadBody(job.Request.Prompt)
	if err != nil {
		return Output{}, refuse(wire.CodeBadRequest, "%v", err)
	}
	stream := job.Stream && b.Path != "/v1/embeddings"
	ask := asked{Body: b, stream: stream, limit: ceiling[1] / max(b.Choices, 1), less: map[string]bool{}}
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	run, stopTotal := context.WithTimeoutCause(run, e.u.total(), errStalled)
	defer stopTotal()
	// The timer is the idle watch: whoever reads resets it. A slow answer that
	// is not streamed is silent until it is done, so it has the whole time.
	var watch *time.Timer
	idle := e.u.idle()
	if stream {
		watch = time.AfterFunc(idle, func() { stop(errStalled) })
		defer watch.Stop()
	}
	var res *http.Response
	for {
		body, err := ask.encode(e.m.Name)
		if err != nil {
			return Output{}, err
		}
		if res, err = e.u.send(run, http.MethodPost, b.Path, body); err != nil {
			return Output{}, why(run, err)
		}
		if res.StatusCode == http.StatusOK {
			break
		}
		said, _ := readAll(res.Body, maxEvent)
		res.Body.Close()
		name := ask.refuses(said)
		if res.StatusCode != http.StatusBadRequest || name == "" {
			return Output{}, refused(res.StatusCode, said)
		}
		ask.less[name] = true
	}
	defer res.Body.Close()
	if stream && strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return e.stream(run, job, b, res.Body, ceiling, func() { watch.Reset(idle) }, emit)
	}
	return e.whole(run, job, b, res.Body)
}

// metered is what is charged for a whole answer: what the server says it used,
// if that can be; counted is how many completion tokens were counted here.
func metered(b meter.Body, u *meter.Usage, prompt, text int, counted uint64) (units []uint64, how string) {
	switch {
	case u == nil || u.Completion == 0 && text > 0 || u.Prompt == 0 && u.Completion == 0:
		how = "none reported"
	case b.Path != "/v1/embeddings" && u.Completion > meter.Most(text, b.Choices):
		how = fmt.Sprintf("%d completion tokens reported for %d bytes", u.Completion, text)
	default:
		return []uint64{u.Prompt, u.Completion}, ""
	}
	return []uint64{bytesCounted(prompt), counted}, how
}

// whole reads an answer that is not streamed.
func (e upstreamEngine) whole(ctx context.Context, job Job, b meter.Body, r io.Reader) (Output, error) {
	body, err := readAll(r, infer.MaxResult)
	if err != nil {
		return Output{}, why(ctx, err)
	}
	ev, err := meter.ReadEvent(body)
	switch {
	case err != nil:
		return Output{}, fmt.Errorf("the server's answer is no JSON")
	case ev.Err != "":
		return Output{}, fmt.Errorf("the server says: %s", square.Clip(ev.Err, 300))
	}
	out := Output{Body: body}
	out.Units, out.Counted = metered(b, ev.Usage, len(job.Request.Prompt), len(ev.Text), bytesCounted(len(ev.Text)))
	out.Result = opaque(finish(ev.Finish), out.Units, body)
	return out, nil
}

// stream passes a streamed answer on, event by event.
func (e upstreamEngine) stream(ctx context.Context, job Job, b meter.Body, r io.Reader, ceiling []uint64, alive func(), emit func(infer.Delta) error) (Output, error) {
	var (
		in       = newEvents(r, alive)
		text     bytes.Buffer
		tokens   uint64 // events with text
		usage    *meter.Usage
		finished string
		done     bool
		fault    error
		gone     bool // the buyer takes no more
		passed   int  // bytes of events
	)
	for !done && !gone && fault == nil {
		raw, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fault = why(ctx, err)
			break
		}
		if string(bytes.TrimSpace(raw)) == "[DONE]" {
			done = true
			break
		}
		ev, err := meter.ReadEvent(raw)
		switch {
		case err != nil:
			fault = errors.New("the server sent an event that is no JSON")
		case ev.Err != "":
			fault = fmt.Errorf("the server says: %s", square.Clip(ev.Err, 300))
		case text.Len()+len(ev.Text) > infer.MaxResult-64, passed+len(raw) > maxPassed:
			fault = errors.New("the server's answer is too long")
		}
		if fault != nil {
			break
		}
		passed += len(raw)
		if ev.Usage != nil {
			usage = ev.Usage
		}
		if ev.Finish != "" {
			finished = ev.Finish
		}
		d := infer.Delta{Text: ev.Said, Raw: raw}
		if ev.Text != "" {
			tokens++
			d.Tokens = 1
			text.WriteString(ev.Text)
		}
		gone = emit(d) != nil
		if tokens > ceiling[1] {
			done, finished = true, "length" // more than was asked for, and than is paid for
		}
	}
	out := Output{Units: make([]uint64, 2)}
	how := finish(finished)
	switch {
	case gone, ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStalled):
		how = infer.FinishCancelled
		if text.Len() == 0 {
			out.Result = opaque(how, out.Units, nil) // nothing was delivered, nothing is charged
			return out, nil
		}
	case fault == nil && (done || finished != ""):
	case text.Len() == 0:
		if fault == nil {
			fault = errors.New("the server's stream ended before an answer")
		}
		return Output{}, fault
	default:
		how = infer.FinishError
	}
	if how != infer.FinishStop && how != infer.FinishLength {
		usage = nil // of half an answer
	}
	out.Units, out.Counted = metered(b, usage, len(job.Request.Prompt), text.Len(), tokens)
	out.Result = opaque(how, out.Units, text.Bytes())
	return out, nil
}

func opaque(f infer.Finish, units []uint64, text []byte) infer.Result {
	clamp := func(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }
	return infer.Result{Kind: infer.Opaque, Finish: f, Prompt: clamp(units[0]), Completion: clamp(units[1]), Text: text}
}

func finish(reason string) infer.Finish {
	if reason == "length" {
		return infer.FinishLength
	}
	return infer.FinishStop
}

// bytesCounted is the conservative count of tokens in so many bytes.
func bytesCounted(n int) uint64 { return uint64(n) / 8 }

// refused turns a server's status into what the buyer is told.
func refused(status int, body []byte) error {
	switch status {
	case http.StatusTooManyRequests:
		return refuse(wire.CodeBusy, "the server is busy: %s", errorText(body))
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return refuse(wire.CodeBadRequest, "the server refuses: %s", errorText(body))
	}
	return fmt.Errorf("the server answers with status %d: %s", status, errorText(body))
}

// errorText is what a server's error body says.
func errorText(body []byte) string {
	if ev, err := meter.ReadEvent(body); err == nil && ev.Err != "" {
		return square.Clip(ev.Err, 300)
	}
	return square.Clip(string(bytes.TrimSpace(body)), 300)
}

// why prefers the reason the context ended over the error that followed.
func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("the server's answer is over %d bytes", most)
	}
	return b, err
}
