package openai

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/strict"
)

// generation is one answer to be made: what to ask, and what its view needs.
type generation struct {
	route   string
	id      string
	created int64
	asked   string // the model's name as the client wrote it
	model   buyer.Model
	offers  []buyer.Model // that may answer
	ask     buyer.Ask
	stream  bool
	usage   bool   // the client asked for the usage chunk
	seed    *seed  // of an exact answer
	echo    string // what the answer's text begins with

	truncation string // what the client says of a prompt that is too long
	cut        int    // bytes of its beginning that the model does not read
}

// view writes answers in the form of one endpoint. The streaming methods are
// called in order: begin, any number of piece, then end or fail.
type view interface {
	begin(*stream) error
	piece(*stream, piece) error
	end(*stream, *outcome) error
	fail(*stream, *Error) error
	whole(*outcome) ([]byte, error)
}

// piece is a part of an answer: valid UTF-8, or one event of an upstream
// server.
type piece struct {
	text     string
	logprobs []infer.Logprob
	event    *infer.Event
	more     bool // the next is here already
}

// outcome is a finished answer.
type outcome struct {
	buyer.Answer
	text     string          // exact
	logprobs []infer.Logprob // exact
	body     *infer.Event    // an upstream server's, where it was not streamed
	usage    usage
}

// heard notes what an upstream server says of its usage.
func (o *outcome) heard(e *infer.Event) {
	if u := e.Object.Get("usage"); u.Given() {
		o.usage.upstream = u.Object()
	}
}

// usage is what an answer took and cost. Each endpoint has its own names for
// the tokens.
type usage struct {
	prompt, completion uint64        // charged
	upstream           strict.Object // an upstream server's own, kept, but for what it could not be charged
	cost               square.Amount
}

// paid is what the square adds to an answer.
type paid struct {
	Provider string `json:"provider,omitempty"`
	Lease    string `json:"lease,omitempty"`
	Receipt  string `json:"receipt,omitempty"`
	Seed     *seed  `json:"seed,omitempty"`
	Verified string `json:"verified,omitempty"` // "prove", once a proof has been checked
	// Truncated is how many bytes of the prompt's beginning the model did not read.
	Truncated int `json:"truncated,omitempty"`
}

func (g *generation) paid(o *outcome) paid {
	return paid{o.Provider.String(), o.Lease.String(), o.Answer.Receipt.String(), g.seed, string(o.Answer.Verified), g.cut}
}

// price is what the square adds to a usage object.
type price struct {
	Cost    json.Number `json:"cost,omitempty"` // TORG
	Details costDetails `json:"cost_details"`
}

type costDetails struct {
	Amount string `json:"amount"` // base units
	Denom  string `json:"denom"`
	// Reported is what the upstream server says it used, where that is not what was
	// charged.
	Reported json.RawMessage `json:"reported,omitempty"`
}

func priceOf(c square.Amount) price {
	p := price{Details: costDetails{Amount: strconv.FormatUint(c.Units, 10), Denom: c.Denom}}
	if c.Denom == square.Denom {
		p.Cost = json.Number(decimal(c.Units, 6))
	}
	return p
}

// charged are the tokens that were charged, by the names that servers have.
func (u usage) charged() []strict.Member {
	set := []strict.Member{{Name: "prompt_tokens", Value: strict.Number(u.prompt)}}
	if u.completion > 0 || u.upstream.Get("completion_tokens") != nil { // embeddings have none
		set = append(set, strict.Member{Name: "completion_tokens", Value: strict.Number(u.completion)})
	}
	return append(set, strict.Member{Name: "total_tokens", Value: strict.Number(u.prompt + u.completion)})
}

// price is what was paid, and what the upstream server says where that is
// something else.
func (u usage) price() price {
	p := priceOf(u.cost)
	if u.upstream == nil {
		return p
	}
	var reported strict.Object
	differs := false
	for _, c := range []struct {
		name    string
		charged uint64
	}{{"prompt_tokens", u.prompt}, {"completion_tokens", u.completion}} {
		said := u.upstream.Get(c.name)
		n, ok := said.Count()
		differs = differs || said == nil && c.charged > 0 || said != nil && (!ok || n != c.charged)
		reported = append(reported, strict.Member{Name: c.name, Value: said})
	}
	if differs {
		p.Details.Reported = reported.With()
	}
	return p
}

// detail is a count that an upstream server has in its usage, such as that of
// cached tokens; 0 where it says nothing.
func (u usage) detail(member, name string) int64 {
	n, _ := u.upstream.Get(member).Get(name).Count()
	return int64(n)
}

// tokens is usage in the names of chat, completions and embeddings.
func (u usage) tokens() (json.RawMessage, error) {
	p := u.price()
	if u.upstream == nil {
		return json.Marshal(struct {
			Prompt     uint64 `json:"prompt_tokens"`
			Completion uint64 `json:"completion_tokens"`
			Total      uint64 `json:"total_tokens"`
			price
		}{u.prompt, u.completion, u.prompt + u.completion, p})
	}
	details, err := json.Marshal(p.Details)
	if err != nil {
		return nil, err
	}
	set := append(u.charged(), strict.Member{Name: "cost_details", Value: details}, strict.Member{Name: "cost"})
	if p.Cost != "" {
		set[len(set)-1].Value = strict.Value(p.Cost)
	}
	return u.upstream.With(set...), nil
}

// fit is the part of a prompt that an exact model reads. A longer one is refused,
// unless truncation is asked for: nothing is charged that is not read, and an
// answer to a part of a question says so.
func (g *generation) fit(param string, prompt []byte) ([]byte, error) {
	switch g.truncation {
	case "", "disabled", "auto":
	default:
		return nil, invalid("truncation", "truncation: %q: want \"auto\" or \"disabled\"", square.Clip(g.truncation, 80))
	}
	var context uint64
	for _, m := range g.offers {
		context = max(context, m.Context)
	}
	if context < 2 || uint64(len(prompt)) <= context { // 0: unknown
		return prompt, nil
	}
	if g.truncation != "auto" {
		e := invalid(param, "%s: the prompt has %d bytes and this model reads at most %d; shorten it, or send \"truncation\": \"auto\" to have its end read alone", param, len(prompt), context)
		code := "context_length_exceeded"
		e.Code = &code
		return nil, e
	}
	// What is cut off here the model would not see, so the answer is the same.
	g.cut = exact.WindowStart(len(prompt), int(context))
	return prompt[g.cut:], nil
}

// find lists the offers of the model a request names. Where both exact and
// other models carry the name, the exact one is meant, and asked for by its
// digest.
func (h *Handler) find(ctx context.Context, name string) (offers []buyer.Model, ask string, err error) {
	if name == "" {
		return nil, "", invalid("model", "model: is missing; GET /v1/models lists what is offered")
	}
	all, err := h.cfg.Seller.Models(ctx)
	if err != nil {
		return nil, "", err
	}
	offers = offering(all, name)
	if len(offers) == 0 {
		return nil, "", noModel(name)
	}
	first := slices.IndexFunc(offers, func(m buyer.Model) bool { return m.Exact })
	if first >= 0 && slices.ContainsFunc(offers, func(m buyer.Model) bool { return !m.Exact }) {
		name = offers[first].Digest.String()
		offers = offering(all, name)
	}
	return offers, name, nil
}

// newID makes an answer's id in OpenAI's style.
func newID(prefix string) string {
	var b [18]byte
	rand.Read(b[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// most is the most a request may be metered at and cost on any of the offers
// that may answer it.
func most(offers []buyer.Model, a buyer.Ask) (tokens, units uint64, err error) {
	job, err := meter.Read(a.Request)
	if err != nil {
		return 0, 0, problem(http.StatusBadRequest, typeInvalid, "invalid_request", err.Error())
	}
	for _, m := range offers {
		if a.Route.Policy == square.PolicyProve {
			if m.Proven == nil {
				continue
			}
			m.Rates = m.Proven
		}
		if a.Route.MaxPrompt > 0 && rate(m, infer.UnitPrompt) > a.Route.MaxPrompt ||
			a.Route.MaxCompletion > 0 && rate(m, infer.UnitCompletion) > a.Route.MaxCompletion {
			continue // it may not
		}
		n := job.Ceiling(m.Context)
		if p, err := square.Price(m.Rates, n); err == nil { // an offer nobody can price is never taken
			tokens, units = max(tokens, n[0]+n[1]), max(units, p)
		}
	}
	return tokens, units, nil
}

// request is the account of one request at a seller: what was asked, spent and
// waited for.
type request struct {
	h     *Handler
	ctx   context.Context
	hold  *keys.Hold
	event Event

	waiting time.Duration // in Seller.Do, outside emit
	unknown bool
}

// begin admits a request under its API key and reserves the most it can cost.
// The caller calls done when the answer is written.
func (h *Handler) begin(r *http.Request, g *generation, asks ...buyer.Ask) (*request, error) {
	q := &request{h: h, ctx: r.Context(), event: Event{Route: g.route, Model: g.model.ID, Exact: g.model.Exact, Stream: g.stream}}
	if h.cfg.Keys == nil {
		return q, nil
	}
	var need keys.Need
	for _, a := range asks {
		tokens, units, err := most(g.offers, a)
		if err != nil {
			return nil, err
		}
		need.Tokens, need.Units = need.Tokens+tokens, need.Units+units
	}
	var err error
	if q.hold, err = h.cfg.Keys.Begin(bearer(r), need); err != nil {
		return nil, err
	}
	q.event.Key = q.hold.ID()
	return q, nil
}

// do asks the seller and counts.
func (q *request) do(a buyer.Ask, emit func(infer.Delta) error) (buyer.Answer, error) {
	if q.hold != nil {
		a.Account = q.hold.ID()
		if limit := q.hold.Limit(); limit > 0 {
			a.MaxCost = limit - min(limit, q.event.Cost.Units)
			if a.MaxCost == 0 {
				return buyer.Answer{}, desk.ErrBudget
			}
		}
	}
	asked, inside := time.Now(), time.Duration(0)
	answer, err := q.h.cfg.Seller.Do(q.ctx, a, func(d infer.Delta) error {
		t := time.Now()
		if q.event.TTFT == 0 {
			q.event.TTFT = t.Sub(arrival(q.ctx))
		}
		err := emit(d)
		inside += time.Since(t)
		return err
	})
	q.waiting += time.Since(asked) - inside
	e := &q.event
	e.Err = err
	if err != nil {
		q.unknown = q.unknown || errors.Is(err, desk.ErrUnknown)
		return answer, err
	}
	e.Provider, e.Lease, e.Receipt = answer.Provider, answer.Lease, answer.Receipt
	e.Cost = square.Amount{Units: e.Cost.Units + answer.Cost.Units, Denom: answer.Cost.Denom}
	if u := answer.Signed.Receipt.Units; len(u) == 2 {
		e.Prompt, e.Completion = e.Prompt+u[0], e.Completion+u[1]
	}
	return answer, nil
}

// done settles the account. It runs after the answer is on its way, since the
// settling waits for the disk. What ended in an unknown way counts as the most
// it may have cost, so that a budget is never exceeded.
func (q *request) done() {
	e := &q.event
	e.Total = time.Since(arrival(q.ctx))
	e.Overhead = e.Total - q.waiting
	if q.hold != nil {
		units := e.Cost.Units
		if q.unknown {
			units = max(units, q.hold.Reserved())
		}
		// The disk is not waited for: the client's next request would be.
		q.hold.Settle(units, e.Prompt+e.Completion)
	}
	if q.h.cfg.Observe != nil {
		q.h.cfg.Observe(q.ctx, *e)
	}
}

// generate asks for one answer and has v write it.
func (h *Handler) generate(w http.ResponseWriter, r *http.Request, g *generation, v view) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	q, err := h.begin(r.WithContext(ctx), g, g.ask)
	if err != nil {
		return err
	}
	defer q.done()

	o := &outcome{}
	var text strings.Builder
	var out *stream
	began := false
	give := func(p piece) error {
		if p.text == "" && p.event == nil && len(p.logprobs) == 0 {
			return nil
		}
		if out == nil {
			text.WriteString(p.text)
			o.logprobs = append(o.logprobs, p.logprobs...)
			return nil
		}
		if !began {
			began = true
			if err := v.begin(out); err != nil {
				return err
			}
		}
		if err := v.piece(out, p); err != nil || p.more {
			return err
		}
		return out.flush()
	}
	if g.stream {
		out = newStream(w, h.cfg.KeepAlive, h.cfg.ReadTimeout)
		defer out.close()
	}

	var whole runes
	var logprobs []infer.Logprob // of text that is held back
	answer, err := q.do(g.ask, func(d infer.Delta) error {
		if ev, err := meter.EventOf(d); ev != nil || err != nil {
			if err != nil {
				return err
			}
			o.heard(ev)
			return give(piece{event: ev, more: d.More})
		}
		logprobs = append(logprobs, d.Logprobs...)
		s := whole.add(d.Text)
		if s == "" {
			if out != nil && !d.More {
				return out.flush()
			}
			return nil
		}
		p := piece{text: g.echo + s, logprobs: logprobs, more: d.More}
		g.echo, logprobs = "", nil
		return give(p)
	})
	if err != nil {
		return h.broke(out, began, v, err)
	}
	if answer.Result.Finish == infer.FinishError || answer.Result.Finish == infer.FinishCancelled {
		setPaid(w.Header(), answer)
		return h.broke(out, began, v, brokenOff(ctx, answer))
	}
	last := piece{text: g.echo + whole.rest(), more: true} // the end is
	if answer.Result.Finish != infer.FinishStop {
		last.logprobs = logprobs // else they are the stop sequence's
	}
	if g.stream && !began && last.text == "" && !g.model.Exact {
		last.text = string(answer.Result.Text) // an upstream server that did not stream
	}
	if err := give(last); err != nil {
		return h.broke(out, began, v, err)
	}
	if b := answer.Signed.Body; b != nil {
		if o.body, err = meter.ReadEvent(b); err != nil {
			return h.broke(out, began, v, problem(http.StatusBadGateway, typeServer, "provider_failed", "the provider's answer could not be read: "+err.Error()))
		}
		o.heard(o.body)
	}
	o.Answer, o.text = answer, text.String()
	o.usage.cost = answer.Cost
	if u := answer.Signed.Receipt.Units; len(u) == 2 {
		o.usage.prompt, o.usage.completion = u[0], u[1]
	}
	setPaid(w.Header(), answer)
	if out != nil {
		if !began {
			if err := v.begin(out); err != nil {
				return h.broke(out, began, v, err)
			}
		}
		err := v.end(out, o)
		if err == nil {
			err = out.flush()
		}
		if err != nil {
			return h.broke(out, true, v, err)
		}
		return nil
	}
	b, err := v.whole(o)
	if err != nil {
		return problem(http.StatusBadGateway, typeServer, "provider_failed", "the provider's answer could not be read: "+err.Error())
	}
	writeBytes(w, b)
	return nil
}

// broke ends an answer that failed: as an HTTP error while that is possible,
// else as an event. A client that went away is told nothing.
func (h *Handler) broke(out *stream, began bool, v view, err error) error {
	if out == nil || !out.started() {
		if out != nil {
			out.close()
		}
		return err
	}
	e := typed(err)
	if !began {
		if berr := v.begin(out); berr != nil {
			return nil
		}
	}
	ferr := v.fail(out, e)
	if ferr == nil {
		ferr = out.flush()
	}
	if ferr != nil {
		h.log.Debug("the client is gone", "error", ferr)
	}
	return nil
}

// brokenOff says why an answer that was charged has no end.
func brokenOff(ctx context.Context, a buyer.Answer) *Error {
	e := problem(http.StatusBadGateway, typeServer, "provider_failed", "the provider failed in the middle of its answer")
	if a.Result.Finish == infer.FinishCancelled {
		e = problem(http.StatusBadGateway, typeServer, "cancelled", "the provider broke the answer off")
		switch ctx.Err() {
		case context.DeadlineExceeded:
			e = problem(http.StatusGatewayTimeout, typeServer, "timeout", "the answer took longer than this gateway waits")
		case context.Canceled:
			e = problem(499, typeServer, "cancelled", "the client went away")
		}
	}
	e.NoRetry = true
	e.Message += fmt.Sprintf("; what was given cost %s (receipt %s)", a.Cost, a.Receipt)
	return e
}

func setPaid(h http.Header, a buyer.Answer) {
	h.Set("Torg-Provider", a.Provider.String())
	h.Set("Torg-Lease", a.Lease.String())
	h.Set("Torg-Receipt", a.Receipt.String())
	if a.Verified != "" {
		h.Set("Torg-Verified", string(a.Verified))
	}
	h.Set("Torg-Cost", strconv.FormatUint(a.Cost.Units, 10)+a.Cost.Denom)
}

func finish(f infer.Finish) string {
	if f == infer.FinishLength {
		return "length"
	}
	return "stop"
}
