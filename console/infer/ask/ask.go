// Package ask is the console's chat: with any model on the square, with what it
// may cost before it is asked and the receipt under what it says.
//
// Questions go to the gateway's own /v1/chat/completions, paid by the API key of
// the session (the owner's by the owner's). With JavaScript an answer streams:
//
//	POST /ask/stream   the events of /v1/chat/completions, and in the end
//	                   "event: receipt", data: {"id":"…"}
//	POST /ask/stop     ends an answer; what was given by then is paid, and its
//	                   receipt still comes
//
// Without it POST /ask answers when the whole answer is there. The conversation
// is in the page, not here.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/meter"
)

// Page is the pages below /ask.
type Page struct {
	models Models
	desk   source.Desk
	keys   source.Keys
	api    http.Handler

	mu      sync.Mutex
	running map[string]context.CancelFunc // answers under way, by session and the page's id
}

// Models are what may be asked; *buyer.Buyer has them.
type Models interface {
	Models(ctx context.Context) ([]buyer.Model, error)
}

// New makes the page. api is the door that questions go through.
func New(m Models, d source.Desk, k source.Keys, api http.Handler) *Page {
	return &Page{models: m, desk: d, keys: k, api: api, running: map[string]context.CancelFunc{}}
}

// Link is its place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/ask", Title: "Ask"} }

// Routes are its doors.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /ask", p.show)
	r.Handle("POST /ask", p.whole)
	r.Handle("POST /ask/price", p.price)
	r.Handle("POST /ask/stream", p.stream)
	r.Handle("POST /ask/stop", p.stop)
	r.Handle("GET /ask/receipt/{id}", p.receipt)
	r.Handle("POST /ask/audit/{id}", p.audit)
}

// Bounds of a question.
const (
	maxTurns     = 64
	maxText      = 200_000 // bytes of all turns
	mostTokens   = 2048
	usualTokens  = 200
	maxRunning   = 64
	maxStreaming = 8 // of one session
)

// turn is one thing that was said.
type turn struct {
	Role    string `json:"role"` // "user" or "assistant"
	Content string `json:"content"`
	Receipt string `json:"receipt,omitempty"` // of an answer
}

// question is what a form asks.
type question struct {
	Model  string
	Turns  []turn // the last is the user's
	Tokens uint64
	Prove  bool
}

// parse reads a form. blank is whether there may be nothing to ask yet.
func parse(r *http.Request, blank bool) (question, error) {
	f := r.Form
	q := question{Model: f.Get("model"), Tokens: usualTokens, Prove: f.Get("prove") == "1"}
	if len(q.Model) > square.MaxText {
		return q, ui.BadInput("Model", "its name is too long")
	}
	if s := strings.TrimSpace(f.Get("tokens")); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n < 1 || n > mostTokens {
			return q, ui.BadInput("At most", fmt.Sprintf("want 1 to %d tokens", mostTokens))
		}
		q.Tokens = n
	}
	if s := f.Get("conversation"); s != "" {
		d := json.NewDecoder(strings.NewReader(s))
		d.DisallowUnknownFields()
		if err := d.Decode(&q.Turns); err != nil {
			return q, ui.BadInput("Conversation", "it is not what this page wrote")
		}
	}
	words := strings.ReplaceAll(f.Get("prompt"), "\r\n", "\n")
	if strings.TrimSpace(words) == "" && !blank {
		return q, ui.BadInput("Your words", "write something to ask")
	}
	if words != "" {
		q.Turns = append(q.Turns, turn{Role: "user", Content: words})
	}
	size := 0
	for i, t := range q.Turns {
		if t.Role != "user" && t.Role != "assistant" || len(t.Receipt) > 64 {
			return q, ui.BadInput("Conversation", fmt.Sprintf("turn %d is not what this page wrote", i+1))
		}
		if !utf8.ValidString(t.Content) {
			return q, ui.BadInput("Your words", "they are not UTF-8 text")
		}
		size += len(t.Content)
	}
	if len(q.Turns) > maxTurns || size > maxText {
		return q, ui.BadInput("Conversation", fmt.Sprintf("it is longer than %d turns or %d bytes; begin a new one", maxTurns, maxText))
	}
	return q, nil
}

// body is the question as the gateway takes it.
func (q question) body(stream bool) ([]byte, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	// A conversation grows: of one that is too long the model reads the end.
	b := map[string]any{"model": q.Model, "max_tokens": q.Tokens, "stream": stream, "truncation": "auto"}
	ms := []message{}
	for _, t := range q.Turns {
		ms = append(ms, message{t.Role, t.Content})
	}
	b["messages"] = ms
	if stream {
		b["stream_options"] = map[string]bool{"include_usage": true}
	}
	if q.Prove {
		b["provider"] = map[string]string{"verification": "prove"}
	}
	return json.Marshal(b)
}

// choice is a model that may be asked, with what is known of it.
type choice struct {
	Name      string
	Exact     bool
	Digest    square.Hash
	Context   uint64
	Providers int
	Denom     string
	Cheapest  []square.Rate
	Proven    []square.Rate // the cheapest with a proof; none if nobody sells that
	TTFT      time.Duration // the quickest that this gateway has seen
	Speed     float64       // tokens a second, the best seen
	offers    []buyer.Model
}

// choices groups offers by the model's name.
func choices(ms []buyer.Model) []choice {
	by := map[string]*choice{}
	var names []string
	for _, m := range ms {
		c := by[m.ID]
		if c == nil {
			c = &choice{Name: m.ID, Exact: m.Exact, Digest: m.Digest, Context: m.Context, Denom: m.Denom, Cheapest: m.Rates}
			by[m.ID] = c
			names = append(names, m.ID)
		}
		c.Providers++
		c.offers = append(c.offers, m)
		if m.Denom == c.Denom && total(m.Rates) < total(c.Cheapest) {
			c.Cheapest = m.Rates
		}
		if m.Proven != nil && m.Denom == c.Denom && (c.Proven == nil || total(m.Proven) < total(c.Proven)) {
			c.Proven = m.Proven
		}
		if m.TTFT > 0 && (c.TTFT == 0 || m.TTFT < c.TTFT) {
			c.TTFT = m.TTFT
		}
		c.Speed = max(c.Speed, m.Throughput)
	}
	slices.Sort(names)
	out := make([]choice, len(names))
	for i, n := range names {
		out[i] = *by[n]
	}
	return out
}

func total(rates []square.Rate) (n uint64) {
	for _, r := range rates {
		n += min(r.PerMillion, square.MaxUnits/8)
	}
	return n
}

// most is the most that a question may cost, whoever answers it.
func (c choice) most(q question) (units uint64, err error) {
	body, err := q.body(true)
	if err != nil {
		return 0, err
	}
	var text strings.Builder
	for _, t := range q.Turns {
		text.WriteString(t.Content + "\n")
	}
	if text.Len() == 0 {
		text.WriteByte('\n')
	}
	for _, m := range c.offers {
		r := infer.Request{Kind: infer.Opaque, Prompt: body}
		if m.Exact {
			r = infer.Request{Kind: infer.Exact, MaxTokens: uint32(q.Tokens), TopP: 10_000, Prompt: []byte(text.String())}
		}
		n, err := meter.Ceiling(r, m.Context)
		if err != nil {
			return 0, err
		}
		rates := m.Rates
		if q.Prove {
			if rates = m.Proven; rates == nil {
				continue // it does not sell proofs
			}
		}
		u, err := square.Price(rates, n)
		if err != nil {
			continue // an offer nobody can price is never taken
		}
		units = max(units, u)
	}
	return units, nil
}

// pick is the model that a page is about: the one asked for, else the first.
func pick(cs []choice, name string) (choice, bool) {
	for _, c := range cs {
		if c.Name == name {
			return c, true
		}
	}
	if len(cs) > 0 && name == "" {
		return cs[0], true
	}
	return choice{}, false
}

// view is what the page shows.
type view struct {
	Choices  []choice
	Picked   choice
	Question question // what was said; its last turn may be an answer
	Most     uint64
	Failed   string // why the last question has no answer
	Receipts map[string]card
	Key      *keys.Key // that pays, if its budget is the viewer's business
	CanAsk   bool
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return ui.BadInput("Address", err.Error())
	}
	q, err := parse(r, true)
	if err != nil {
		return err
	}
	q.Turns = nil
	return p.render(w, r, q, "", 0)
}

func (p *Page) render(w http.ResponseWriter, r *http.Request, q question, failed string, status int) error {
	v := view{Question: q, Failed: failed, Receipts: map[string]card{}}
	ms, err := p.models.Models(r.Context())
	if err != nil {
		return err
	}
	v.Choices = choices(ms)
	v.Picked, _ = pick(v.Choices, q.Model)
	if v.Most, err = v.Picked.most(question{Model: v.Picked.Name, Tokens: q.Tokens, Prove: q.Prove}); err != nil {
		return err
	}
	viewer := ui.Of(r.Context()).Viewer()
	v.CanAsk = viewer.Secret() != ""
	if viewer.Role == session.Key {
		if k, err := p.keys.Get(viewer.Key); err == nil {
			v.Key = &k
		}
	}
	for _, t := range q.Turns {
		if id, err := square.ParseHash(t.Receipt); err == nil && t.Receipt != "" {
			if c, err := p.card(r.Context(), viewer, id); err == nil {
				v.Receipts[t.Receipt] = c
			}
		}
	}
	return ui.Render(w, r, ui.View{Title: "Ask", Islands: []string{"ask"}, Status: status}, body(v))
}

// price says what a question may cost, for htmx.
func (p *Page) price(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r, true)
	if err != nil {
		return err
	}
	ms, err := p.models.Models(r.Context())
	if err != nil {
		return err
	}
	c, ok := pick(choices(ms), q.Model)
	if !ok {
		return ui.NotFound("model")
	}
	q.Prove = q.Prove && c.Proven != nil
	most, err := c.most(q)
	if err != nil {
		return ui.BadInput("Your words", err.Error())
	}
	return ui.Fragment(w, r, priced(c, most))
}

// request is a question on its way to the gateway.
func (p *Page) request(ctx context.Context, v session.Viewer, q question, stream bool) (*http.Request, error) {
	if v.Secret() == "" {
		return nil, ui.Forbidden("A wallet's session has no API key to pay with. Log in with one to ask.")
	}
	body, err := q.body(stream)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+v.Secret())
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// answer is what of the gateway's answers is read here.
type answer struct {
	Receipt string `json:"receipt"`
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// whole asks and waits for the whole answer.
func (p *Page) whole(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r, false)
	if err != nil {
		return err
	}
	inner, err := p.request(r.Context(), ui.Of(r.Context()).Viewer(), q, false)
	if err != nil {
		return err
	}
	if err := ui.SentOnce(r); err != nil {
		return err
	}
	rec := &memory{header: http.Header{}}
	p.api.ServeHTTP(rec, inner)
	var a answer
	switch err := json.Unmarshal(rec.body.Bytes(), &a); {
	case err != nil || rec.over:
		return errors.New("the gateway's answer cannot be read")
	case a.Error != nil || rec.status != http.StatusOK || len(a.Choices) == 0:
		words := "the gateway answered " + strconv.Itoa(rec.status)
		if a.Error != nil {
			words = a.Error.Message
		}
		// The page keeps what was written, so that it can be sent again.
		return p.render(w, r, q, words, rec.status)
	}
	q.Turns = append(q.Turns, turn{Role: "assistant", Content: a.Choices[0].Message.Content, Receipt: a.Receipt})
	return p.render(w, r, q, "", 0)
}

// memory is a ResponseWriter that keeps the answer, up to a bound.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool
}

const maxAnswer = 4 << 20

func (m *memory) Header() http.Header { return m.header }

func (m *memory) WriteHeader(code int) {
	if m.status == 0 {
		m.status = code
	}
}

func (m *memory) Write(b []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(b) > maxAnswer {
		m.over = true
		return 0, errors.New("too long")
	}
	return m.body.Write(b)
}

// stream passes the gateway's events on.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r, false)
	if err != nil {
		return err
	}
	req := ui.Of(r.Context())
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	inner, err := p.request(ctx, req.Viewer(), q, true)
	if err != nil {
		return err
	}
	name, err := p.begin(req.Session, r.Form.Get("id"), cancel)
	if err != nil {
		return err
	}
	defer p.end(name)
	w.Header().Set("Torg-Once", req.Session.Once()) // for the page's next question
	if err := ui.SentOnce(r); err != nil {
		return err
	}
	out := &relay{out: w, header: http.Header{}}
	p.api.ServeHTTP(out, inner)
	if id := out.header.Get("Torg-Receipt"); id != "" && out.streams() {
		fmt.Fprintf(w, "event: receipt\ndata: {\"id\":%q}\n\n", id) // a browser that went away has the receipt in its list
	}
	return nil
}

// begin notes an answer under way, so that stop finds it.
func (p *Page) begin(s *session.Session, id string, cancel context.CancelFunc) (string, error) {
	if id == "" || len(id) > 64 {
		return "", ui.BadInput("id", "it is 1 to 64 characters that name the answer")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := 0
	for k := range p.running {
		if strings.HasPrefix(k, s.CSRF+" ") {
			mine++
		}
	}
	name := s.CSRF + " " + id
	if mine >= maxStreaming || len(p.running) >= maxRunning || p.running[name] != nil {
		return "", &ui.Failure{Status: http.StatusTooManyRequests, Title: "Enough at once", Words: "Other answers are still coming; wait for one or stop it."}
	}
	p.running[name] = cancel
	return name, nil
}

func (p *Page) end(name string) {
	p.mu.Lock()
	delete(p.running, name)
	p.mu.Unlock()
}

func (p *Page) stop(w http.ResponseWriter, r *http.Request) error {
	p.mu.Lock()
	cancel := p.running[ui.Of(r.Context()).Session.CSRF+" "+r.Form.Get("id")]
	p.mu.Unlock()
	if cancel != nil { // else it has just ended
		cancel()
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// relay is the gateway's ResponseWriter: the body goes to the browser, of the
// headers only what an island reads.
type relay struct {
	out    http.ResponseWriter
	header http.Header
	begun  bool
}

func (o *relay) Header() http.Header { return o.header }

func (o *relay) streams() bool {
	return strings.HasPrefix(o.header.Get("Content-Type"), "text/event-stream")
}

func (o *relay) WriteHeader(code int) {
	if o.begun {
		return
	}
	o.begun = true
	for _, k := range []string{"Content-Type", "Retry-After", "Torg-Receipt"} {
		if v := o.header.Get(k); v != "" {
			o.out.Header().Set(k, v)
		}
	}
	o.out.Header().Set("Cache-Control", "no-store")
	o.out.WriteHeader(code)
}

func (o *relay) Write(b []byte) (int, error) {
	o.WriteHeader(http.StatusOK)
	return o.out.Write(b)
}

// Unwrap lets http.ResponseController flush.
func (o *relay) Unwrap() http.ResponseWriter { return o.out }

// card is a receipt as it stands under an answer.
type card struct {
	desk.Record
	Exact              bool
	Prompt, Completion uint64
}

// card is the receipt that a viewer may see.
func (p *Page) card(ctx context.Context, v session.Viewer, id square.Hash) (card, error) {
	rec, err := p.desk.Receipt(ctx, id)
	if errors.Is(err, source.ErrNotFound) {
		return card{}, ui.NotFound("receipt")
	} else if err != nil {
		return card{}, err
	}
	if !v.Asked(rec.Account) {
		return card{}, ui.NotFound("receipt")
	}
	c := card{Record: rec}
	if q, err := infer.DecodeRequest(rec.Evidence.Request); err == nil {
		c.Exact = q.Kind == infer.Exact
	}
	if u := rec.Evidence.Receipt.Units; len(u) == 2 {
		c.Prompt, c.Completion = u[0], u[1]
	}
	return c, nil
}

// named is the receipt that a path names.
func (p *Page) named(r *http.Request) (card, error) {
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		return card{}, ui.NotFound("receipt")
	}
	return p.card(r.Context(), ui.Of(r.Context()).Viewer(), id)
}

func (p *Page) receipt(w http.ResponseWriter, r *http.Request) error {
	c, err := p.named(r)
	if err != nil {
		return err
	}
	return p.showCard(w, r, c, "")
}

func (p *Page) showCard(w http.ResponseWriter, r *http.Request, c card, failed string) error {
	if ui.IsFragment(r) {
		return ui.Fragment(w, r, receiptCard(c, failed))
	}
	return ui.Render(w, r, ui.View{Title: "Receipt " + c.ID.Short()}, receiptPage(c, failed))
}

// audit runs an answer again.
func (p *Page) audit(w http.ResponseWriter, r *http.Request) error {
	c, err := p.named(r)
	if err != nil {
		return err
	}
	found, err := p.desk.Audit(r.Context(), c.ID)
	if err != nil {
		return p.showCard(w, r, c, err.Error())
	}
	c.Audit = found
	return p.showCard(w, r, c, "")
}

// conversation is the turns for the form's hidden field.
func (q question) conversation() string {
	if len(q.Turns) == 0 {
		return ""
	}
	b, err := json.Marshal(q.Turns)
	if err != nil {
		return "" // strings only
	}
	return string(b)
}
