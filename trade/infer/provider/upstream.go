package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
)

// Upstream is an OpenAI-compatible server on this machine or beside it: Ollama,
// vLLM, llama-server, LM Studio. Its models are sold under their own names.
//
// A request's body goes to it with three members set: model; stream, with
// stream_options.include_usage; and max_tokens where the body has no limit, to
// what the buyer's voucher covers. Its answer goes back verbatim.
//
// What is charged is the server's own usage, at most what was vouched for.
// Where it reports none (a half stream has none), a streamed event with text
// counts as one completion token and eight bytes of text without events as
// one; eight bytes of body count as one prompt token. That is below what any
// common tokeniser gives.
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
		return nil, refuse(infer.CodeBadRequest, "model %s is served by an upstream server and takes opaque requests only", e.m.Name)
	}
	return meter.Ceiling(r, e.m.Context)
}

// prepare sets what must be set in a body.
func (e upstreamEngine) prepare(body []byte, stream, usage bool, ceiling uint64) ([]byte, string, error) {
	b, err := meter.ReadBody(body)
	if err != nil {
		return nil, "", refuse(infer.CodeBadRequest, "%v", err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, "", refuse(infer.CodeBadRequest, "request body: %v", err)
	}
	set := func(k string, v any) { m[k], _ = json.Marshal(v) } // strings, bools and numbers
	set("model", e.m.Name)
	delete(m, "stream_options")
	if b.Path != "/v1/embeddings" {
		set("stream", stream)
		if stream && usage {
			set("stream_options", map[string]bool{"include_usage": true})
		}
		if b.Completion == 0 {
			set("max_tokens", ceiling/max(b.Choices, 1))
		}
	} else {
		delete(m, "stream")
	}
	out, err := json.Marshal(m)
	return out, b.Path, err
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
	body, path, err := e.prepare(job.Request.Prompt, job.Stream, true, ceiling[1])
	if err != nil {
		return Output{}, err
	}
	stream := job.Stream && path != "/v1/embeddings"
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
	res, err := e.u.send(run, http.MethodPost, path, body)
	if err == nil && stream && res.StatusCode == http.StatusBadRequest {
		// Older servers refuse stream_options.
		said, _ := readAll(res.Body, maxEvent)
		res.Body.Close()
		if !bytes.Contains(said, []byte("stream_options")) {
			return Output{}, refused(res.StatusCode, said)
		}
		if body, _, err = e.prepare(job.Request.Prompt, true, false, ceiling[1]); err == nil {
			res, err = e.u.send(run, http.MethodPost, path, body)
		}
	}
	if err != nil {
		return Output{}, why(run, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		said, _ := readAll(res.Body, maxEvent)
		return Output{}, refused(res.StatusCode, said)
	}
	if stream && strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return e.stream(run, job, res.Body, ceiling, func() { watch.Reset(idle) }, emit)
	}
	return e.whole(run, job, res.Body)
}

// whole reads an answer that is not streamed.
func (e upstreamEngine) whole(ctx context.Context, job Job, r io.Reader) (Output, error) {
	body, err := readAll(r, infer.MaxResult)
	if err != nil {
		return Output{}, why(ctx, err)
	}
	ev, err := meter.ReadEvent(body)
	switch {
	case err != nil:
		return Output{}, fmt.Errorf("the server's answer is no JSON")
	case ev.Err != "":
		return Output{}, fmt.Errorf("the server says: %s", clip(ev.Err))
	}
	out := Output{Body: body, Units: make([]uint64, 2)}
	if ev.Usage != nil {
		out.Units = []uint64{ev.Usage.Prompt, ev.Usage.Completion}
	} else {
		out.Counted = "8 bytes a token"
		out.Units = []uint64{counted(len(job.Request.Prompt)), counted(len(ev.Text))}
	}
	out.Result = opaque(finish(ev.Finish), out.Units, body)
	return out, nil
}

// stream passes a streamed answer on, event by event.
func (e upstreamEngine) stream(ctx context.Context, job Job, r io.Reader, ceiling []uint64, alive func(), emit func(infer.Delta) error) (Output, error) {
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
			fault = fmt.Errorf("the server says: %s", clip(ev.Err))
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
	if usage != nil && (how == infer.FinishStop || how == infer.FinishLength) {
		out.Units = []uint64{usage.Prompt, usage.Completion}
	} else {
		out.Counted = "a streamed event a token, 8 bytes a prompt token"
		out.Units = []uint64{counted(len(job.Request.Prompt)), tokens}
	}
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

// counted is the conservative count of tokens in so many bytes.
func counted(n int) uint64 { return uint64(n) / 8 }

// refused turns a server's status into what the buyer is told.
func refused(status int, body []byte) error {
	switch status {
	case http.StatusTooManyRequests:
		return refuse(infer.CodeBusy, "the server is busy: %s", errorText(body))
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return refuse(infer.CodeBadRequest, "the server refuses: %s", errorText(body))
	}
	return fmt.Errorf("the server answers with status %d: %s", status, errorText(body))
}

// errorText is what a server's error body says.
func errorText(body []byte) string {
	if ev, err := meter.ReadEvent(body); err == nil && ev.Err != "" {
		return clip(ev.Err)
	}
	return clip(string(bytes.TrimSpace(body)))
}

func clip(s string) string {
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
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
