package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/strict"
)

// Config says how the door behaves. Only Seller is required.
type Config struct {
	Seller buyer.Seller
	Keys   *keys.Store  // nil opens the door to everyone
	Log    *slog.Logger // nil is slog.Default()

	MaxBody     int64         // bytes of a request body; 4 MiB
	Concurrent  int           // requests at once, more are refused with 429; 256
	Timeout     time.Duration // for one whole answer; 10 min
	ReadTimeout time.Duration // for reading one body, and for one write to a slow reader; 30 s
	KeepAlive   time.Duration // silence before a comment is sent on a stream; 15 s
	MaxTokens   uint32        // of an exact answer when the client sets no limit; 256

	// Observe, if set, is told of every request that reached a seller.
	Observe func(context.Context, Event)
}

// Event is one finished request.
type Event struct {
	Route              string // "chat", "completions", "responses", "embeddings"
	Model              string
	Key                string // the API key's ID
	Exact, Stream      bool
	Provider           square.Address
	Lease, Receipt     square.Hash
	Prompt, Completion uint64 // tokens
	Cost               square.Amount
	TTFT               time.Duration // from the request's arrival to the first piece; 0 when there was none
	Total              time.Duration // until the answer was written
	Overhead           time.Duration // of Total, what was not spent waiting for the seller
	Err                error
}

// Handler serves the OpenAI API.
type Handler struct {
	cfg     Config
	log     *slog.Logger
	mux     *http.ServeMux
	slots   chan struct{}
	started time.Time
}

// New makes the door.
func New(cfg Config) (*Handler, error) {
	if cfg.Seller == nil {
		return nil, errors.New("openai: Config.Seller is missing")
	}
	defaults(&cfg.MaxBody, 4<<20)
	defaults(&cfg.Concurrent, 256)
	defaults(&cfg.Timeout, 10*time.Minute)
	defaults(&cfg.ReadTimeout, 30*time.Second)
	defaults(&cfg.KeepAlive, 15*time.Second)
	defaults(&cfg.MaxTokens, 256)
	if cfg.Concurrent < 0 {
		return nil, errors.New("openai: Config.Concurrent is negative")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Handler{cfg: cfg, log: cfg.Log, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.Concurrent), started: time.Now()}
	h.mux.Handle("GET /v1/models", h.door(h.listModels))
	h.mux.Handle("GET /v1/models/{id...}", h.door(h.getModel))
	h.mux.Handle("POST /v1/chat/completions", h.paid(h.chat))
	h.mux.Handle("POST /v1/completions", h.paid(h.completions))
	h.mux.Handle("POST /v1/responses", h.paid(h.responses))
	h.mux.Handle("POST /v1/embeddings", h.paid(h.embeddings))
	h.mux.Handle("/v1/", h.door(func(_ http.ResponseWriter, r *http.Request) error {
		for _, m := range []string{http.MethodGet, http.MethodPost} {
			probe := r.Clone(r.Context())
			probe.Method = m
			if _, pattern := h.mux.Handler(probe); pattern != "/v1/" {
				return problem(http.StatusMethodNotAllowed, typeInvalid, "method_not_allowed", fmt.Sprintf("%s: use %s", r.URL.Path, m))
			}
		}
		return problem(http.StatusNotFound, typeInvalid, "unknown_url", fmt.Sprintf("unknown request URL: %s %s", r.Method, square.Clip(r.URL.Path, 80)))
	}))
	return h, nil
}

func defaults[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// ServeHTTP serves everything below /v1/.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// door authenticates, and writes a returned error unless the answer has begun.
func (h *Handler) door(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h.authenticate(r)
		if err == nil {
			err = f(w, r)
		}
		if err != nil {
			e := typed(err)
			if e.Status >= 500 {
				h.log.WarnContext(r.Context(), "request failed", "path", r.URL.Path, "status", e.Status, "error", err)
			}
			// net/http reads what is left of a body before it sends this.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second)) // not every ResponseWriter has one
			e.write(w)
		}
	})
}

// paid is a door with a limit on how many are inside, in all and of each key.
// Nothing of a request is read before it is let in.
func (h *Handler) paid(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return h.door(func(w http.ResponseWriter, r *http.Request) error {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		default:
			e := problem(http.StatusTooManyRequests, typeRate, "gateway_busy",
				fmt.Sprintf("this gateway is serving %d requests, as many as it may; try again", cap(h.slots)))
			e.After = time.Second
			return e
		}
		if h.cfg.Keys != nil {
			leave, err := h.cfg.Keys.Enter(bearer(r), cap(h.slots)-len(h.slots))
			var places *keys.PlacesError
			if errors.As(err, &places) {
				e := problem(http.StatusTooManyRequests, typeRate, "key_busy", err.Error())
				e.After = time.Second
				return e
			} else if err != nil {
				return err
			}
			defer leave()
		}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), arrivalKey{}, time.Now()), h.cfg.Timeout)
		defer cancel()
		return f(w, r.WithContext(ctx))
	})
}

type arrivalKey struct{}

func arrival(ctx context.Context) time.Time {
	t, _ := ctx.Value(arrivalKey{}).(time.Time)
	return t
}

func (h *Handler) authenticate(r *http.Request) error {
	if h.cfg.Keys == nil {
		return nil
	}
	_, err := h.cfg.Keys.Check(bearer(r))
	return err
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// body reads a request's JSON body whole, within the limits of size and time.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > h.cfg.MaxBody {
		return nil, tooLarge(h.cfg.MaxBody)
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(h.cfg.ReadTimeout)) // not every ResponseWriter has deadlines
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBody))
	rc.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(h.cfg.MaxBody)
	case err != nil:
		e := problem(http.StatusRequestTimeout, typeInvalid, "body_unread", "the request body did not arrive whole")
		e.cause = err
		return nil, e
	}
	return b, nil
}

// embedded are names in Go's path of a field that are not in the client's.
var embedded = strings.NewReplacer("envelope.", "", "sampling.", "", "message.", "")

// read reads a request's JSON object, strictly, since the bytes may go on to a
// server that reads them too. v is what it may become here: a name that differs
// from one of its members' by case alone would be taken for it by some.
func read(b []byte, v any) (strict.Object, error) {
	bad := func(err error) error {
		return problem(http.StatusBadRequest, typeInvalid, "invalid_json", "the request body: "+err.Error())
	}
	o, err := strict.Read(b)
	if err != nil {
		return nil, bad(err)
	}
	names := membersOf(reflect.TypeOf(v).Elem())
	for _, m := range o {
		for _, n := range names {
			if m.Name != n && strings.EqualFold(m.Name, n) {
				return nil, bad(fmt.Errorf("%q is read as %q by some; write it so, or leave it out", square.Clip(m.Name, 80), n))
			}
		}
	}
	return o, nil
}

// known are the members of types that were asked for before.
var known sync.Map // reflect.Type → []string

func membersOf(t reflect.Type) []string {
	if names, ok := known.Load(t); ok {
		return names.([]string)
	}
	names := members(t)
	known.Store(t, names)
	return names
}

// members are the names of a type's JSON members.
func members(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, members(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// fields reads JSON into v and names the field that does not fit.
func fields(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var kind *json.UnmarshalTypeError
	var ours *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &kind) && kind.Field != "":
		field := embedded.Replace(kind.Field)
		return invalid(field, "%s: a %s does not fit here", field, kind.Value)
	case errors.As(err, &kind):
		return problem(http.StatusBadRequest, typeInvalid, "invalid_json", "the request body must be a JSON object")
	}
	return problem(http.StatusBadRequest, typeInvalid, "invalid_json", "the request body is not JSON: "+err.Error())
}

// writeJSON sends a whole answer.
func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	writeBytes(w, b)
	return nil
}

// writeBytes sends a whole answer at once, before its handler returns: the
// settling that follows waits for the disk. A client that went away has been
// charged already, so failed writes are of no interest.
func writeBytes(w http.ResponseWriter, b []byte) {
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b)
	http.NewResponseController(w).Flush()
}
