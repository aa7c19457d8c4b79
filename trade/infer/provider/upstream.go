package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/strict"
	"github.com/torg-network/torg/trade/wire"
)

// Upstream is an OpenAI-compatible server on this machine or beside it: Ollama,
// vLLM, llama-server, LM Studio. Its models are sold under their own names.
//
// A request's body goes to it with these members set: model; stream, with
// stream_options.include_usage; and the limit, the body's own or without one what
// the buyer's voucher covers, as max_tokens and, for a chat, as
// max_completion_tokens, since servers obey one or the other. A server that
// refuses one of these by name is asked again without it, and from then on. A body
// that could be read in two ways is refused (meter.ReadBody). The answer goes back
// verbatim.
//
// What is charged is the server's own usage where that can be, else what is
// counted here (meter.Body.Meter), and never more than was vouched for. A stream
// that goes on beyond the limit is broken off.
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
	// As many connections stay as there were requests at once: a new one for each
	// would cost more than the request.
	Transport:     &http.Transport{MaxIdleConnsPerHost: math.MaxInt, IdleConnTimeout: time.Minute, DisableCompression: true},
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
func (u Upstream) Engine(m Model) Engine { return &upstreamEngine{u: u, m: m} }

type upstreamEngine struct {
	u    Upstream
	m    Model
	less sync.Map // optional members that the server has refused
}

func (e *upstreamEngine) Model() Model { return e.m }

func (e *upstreamEngine) Ceiling(r infer.Request) ([]uint64, error) {
	if r.Kind != infer.Opaque {
		return nil, refuse(wire.CodeBadRequest, "model %s is served by an upstream server and takes opaque requests only", e.m.Name)
	}
	return meter.Ceiling(r, e.m.Context)
}

// optional are the members that a server is asked without when it refuses them,
// in this order: of two that it does not take together, the first.
var optional = []string{"stream_options", "max_tokens", "max_completion_tokens"}

// sent are the optional members that a body goes with, and all that is set in it.
func (e *upstreamEngine) sent(b meter.Body, stream bool, limit uint64, dropped []string) (names []string, set []strict.Member) {
	set = append(set, strict.Member{Name: "model", Value: strict.Quoted(e.m.Name)})
	for _, n := range meter.Foreign() {
		set = append(set, strict.Member{Name: n})
	}
	if b.Path == meter.Embeddings {
		return nil, append(set, strict.Member{Name: "stream"}, strict.Member{Name: "stream_options"})
	}
	set = append(set, strict.Member{Name: "stream", Value: strict.Bool(stream)})
	for _, n := range []string{"n", "best_of"} { // some write 2.0
		if c, ok := b.Object.Get(n).Count(); ok {
			set = append(set, strict.Member{Name: n, Value: strict.Number(c)})
		}
	}
	for _, n := range optional {
		m := strict.Member{Name: n}
		_, refused := e.less.Load(n)
		switch {
		case refused, slices.Contains(dropped, n), n == "stream_options" && !stream, n == "max_completion_tokens" && b.Path != meter.Chat:
		case n == "stream_options":
			m.Value = strict.Value(`{"include_usage":true}`)
		default:
			m.Value = strict.Number(limit)
		}
		if set = append(set, m); m.Value != nil {
			names = append(names, n)
		}
	}
	return names, set
}

// refuses is the optional member that a server's refusal names, of those it was
// sent; empty if none, or if no limit would be left.
func refuses(sent []string, said []byte) string {
	limits := 0
	for _, n := range sent {
		if n != "stream_options" {
			limits++
		}
	}
	for _, n := range sent {
		if bytes.Contains(said, []byte(n)) && (n == "stream_options" || limits > 1) {
			return n
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

func (e *upstreamEngine) Run(ctx context.Context, job Job, emit func(infer.Delta) error) (Output, error) {
	read, err := meter.Read(job.Request)
	switch {
	case err != nil:
		return Output{}, refuse(wire.CodeBadRequest, "%v", err)
	case job.Request.Kind != infer.Opaque:
		_, err := e.Ceiling(job.Request)
		return Output{}, err
	}
	b, ceiling := read.Body, read.Ceiling(e.m.Context)
	stream := job.Stream && b.Path != meter.Embeddings
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	run, stopTotal := context.WithTimeoutCause(run, e.u.total(), errStalled)
	defer stopTotal()
	// A slow answer that is not streamed is silent until it is done, so it has
	// the whole time.
	watch := &watch{idle: e.u.idle(), stalled: func() { stop(errStalled) }}
	if stream {
		watch.start()
		defer watch.end()
	}
	var res *http.Response
	var dropped []string
	for {
		names, set := e.sent(b, stream, ceiling[1]/b.Choices, dropped)
		if res, err = e.u.send(run, http.MethodPost, string(b.Path), b.Object.With(set...)); err != nil {
			return Output{}, why(run, err)
		}
		if res.StatusCode == http.StatusOK {
			break
		}
		said, _ := readAll(res.Body, maxEvent)
		res.Body.Close()
		name := refuses(names, said)
		if res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnprocessableEntity || name == "" {
			return Output{}, refused(res.StatusCode, said)
		}
		dropped = append(dropped, name)
	}
	defer res.Body.Close()
	for _, n := range dropped {
		e.less.Store(n, true) // it took the rest
	}
	d := delivery{b: b, ceiling: ceiling}
	if stream && strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return d.stream(run, res.Body, watch.alive, emit)
	}
	return d.whole(run, res.Body)
}

// watch calls stalled when a server was silent for too long. A timer that each
// line of an answer set anew would cost more than the line.
type watch struct {
	idle    time.Duration
	stalled func()

	mu    sync.Mutex
	timer *time.Timer
	heard time.Time
	ended bool
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = time.Now()
	w.timer = time.AfterFunc(w.idle, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if left := w.idle - time.Since(w.heard); left > 0 && !w.ended {
			w.timer.Reset(left)
		} else if !w.ended {
			w.stalled()
		}
	})
}

func (w *watch) alive() {
	w.mu.Lock()
	w.heard = time.Now()
	w.mu.Unlock()
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}

// delivery is an answer on its way.
type delivery struct {
	b       meter.Body
	ceiling []uint64
	text    []byte // everything that reached the buyer
	events  uint64 // with text
}

// output is what has been delivered, and what is charged for it.
func (d *delivery) output(how infer.Finish, usage *infer.Usage, text int) Output {
	m := d.b.Meter(usage, text, d.events, d.ceiling)
	return Output{Units: m.Units, Counted: m.Counted, Over: m.Over, Result: opaque(how, m.Units, d.text)}
}

// valid is what a server has written, as UTF-8.
func valid(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\ufffd"))
}

// whole reads an answer that is not streamed.
func (d *delivery) whole(ctx context.Context, r io.Reader) (Output, error) {
	body, err := readAll(r, infer.MaxResult)
	if err != nil {
		return Output{}, why(ctx, err)
	}
	body = valid(body)
	ev, err := meter.ReadEvent(body)
	switch {
	case err != nil:
		return Output{}, fmt.Errorf("the server's answer is no JSON: %w", err)
	case ev.Err != "":
		return Output{}, fmt.Errorf("the server says: %s", square.Clip(ev.Err, 300))
	case d.b.Path != meter.Embeddings && ev.Choices == 0, d.b.Path == meter.Embeddings && ev.Object.Get("data").Len() == 0:
		return Output{}, errors.New("the server's answer is empty")
	}
	d.text = body
	out := d.output(finish(ev.Finish), ev.Usage, len(ev.Text))
	out.Body = body
	return out, nil
}

// stream passes a streamed answer on, event by event. What the buyer does not
// take any more is not charged.
func (d *delivery) stream(ctx context.Context, r io.Reader, alive func(), emit func(infer.Delta) error) (Output, error) {
	var (
		in       = newEvents(r, alive)
		usage    *infer.Usage
		finished string
		done     bool
		begun    bool // some choice was heard of
		over     bool // it goes on beyond the limit
		fault    error
		gone     bool // the buyer takes no more
		passed   int  // bytes of events
	)
	defer in.close()
	for !done && !gone && !over && fault == nil {
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
		raw = valid(raw)
		ev, err := meter.ReadEvent(raw)
		switch {
		case err != nil:
			fault = fmt.Errorf("the server sent an event that is no JSON: %w", err)
		case ev.Err != "":
			fault = fmt.Errorf("the server says: %s", square.Clip(ev.Err, 300))
		case len(d.text)+len(ev.Text) > infer.MaxResult-64, passed+len(raw) > maxPassed:
			fault = errors.New("the server's answer is too long")
		}
		if fault != nil {
			break
		}
		passed += len(raw)
		begun = begun || ev.Choices > 0
		if ev.Usage != nil {
			usage = ev.Usage
		}
		if ev.Finish != "" {
			finished = ev.Finish
		}
		delta := infer.Delta{Text: ev.Said, Raw: raw, More: in.more()}
		if ev.Text != "" {
			if over = d.events == d.ceiling[1]; over {
				break // it was asked for no more, and no more is paid for
			}
			delta.Tokens = 1
		}
		if gone = emit(delta) != nil; !gone && ev.Text != "" {
			d.events++
			d.text = append(d.text, ev.Text...)
		}
	}
	how := finish(finished)
	switch {
	case gone, ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStalled):
		how, usage = infer.FinishCancelled, nil // of half an answer
		if len(d.text) == 0 {
			units := make([]uint64, 2)
			return Output{Units: units, Result: opaque(how, units, nil)}, nil // nothing was delivered, nothing is charged
		}
	case over:
		how, usage = infer.FinishLength, nil
	case fault == nil && (done && begun || finished != ""):
	case len(d.text) == 0:
		if fault == nil {
			fault = errors.New("the server's stream ended before an answer")
		}
		return Output{}, fault
	default:
		how, usage = infer.FinishError, nil
	}
	out := d.output(how, usage, len(d.text))
	if over {
		out.Over = fmt.Sprintf("more than the %d completion tokens that were asked for", d.ceiling[1])
	}
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
