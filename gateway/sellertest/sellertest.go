// Package sellertest is a [buyer.Seller] for tests: a market of one provider
// with small deterministic engines that behave like real ones. Tokens come one
// byte at a time (so runes are split), stop sequences are held back and cut,
// an ended context stops the work within a token and is charged for what was
// made, and receipts are signed.
package sellertest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// The models of the market. All but Upstream are exact.
const (
	Tiny     = "tiny"     // answers at once
	Slow     = "slow"     // waits Delay before each token
	Upstream = "upstream" // an OpenAI-compatible server's
	Sulky    = "sulky"    // an upstream server's that does not stream
	Halfway  = "halfway"  // fails after three tokens
)

// Failing models are named "fails-" and what they fail with.
var Failing = map[string]error{
	"fails-provider": desk.ErrProvider,
	"fails-routing":  desk.ErrNoProvider,
	"fails-funds":    desk.ErrFunds,
	"fails-stalled":  desk.ErrStalled,
	"fails-unknown":  desk.ErrUnknown,
	"fails-unproven": desk.ErrUnproven,
	"fails-busy":     desk.ErrBusy,
	"fails-paused":   desk.ErrPaused,
	"fails-refused":  &wire.Refusal{Code: wire.CodeBadRequest, Message: "the prompt is not to our taste"},
	"fails-oddly":    errors.New("something nobody foresaw"),
}

// ChainID is the ledger that receipts are signed for.
const ChainID = "torg-test-1"

// Rates are base units per million tokens.
var Rates = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1_000_000}, {Unit: infer.UnitCompletion, PerMillion: 2_000_000}}

// Proven are the rates of proven answers; the exact models have them.
var Proven = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 10_000_000}, {Unit: infer.UnitCompletion, PerMillion: 20_000_000}}

// Seller is the market.
type Seller struct {
	Delay time.Duration

	Running atomic.Int64 // requests in an engine now
	Tokens  atomic.Int64 // made in all
	Stopped atomic.Int64 // requests that ended because the buyer went away

	key   square.Key
	lease square.Hash
	mu    sync.Mutex
	asks  []buyer.Ask
	seq   uint64
	sum   uint64
}

// New makes a market whose provider always has the same key.
func New() *Seller {
	k, err := square.KeyFromBytes(append(make([]byte, 31), 7))
	if err != nil {
		panic(err)
	}
	return &Seller{Delay: 5 * time.Millisecond, key: k, lease: sha256.Sum256([]byte("lease"))}
}

// Provider is who sells.
func (s *Seller) Provider() square.Address { return s.key.Address() }

// Asks are the requests that came, in order.
func (s *Seller) Asks() []buyer.Ask {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]buyer.Ask(nil), s.asks...)
}

// Models lists the market.
func (s *Seller) Models(context.Context) ([]buyer.Model, error) {
	names := []string{Tiny, Slow, Upstream, Sulky, Halfway}
	for n := range Failing {
		names = append(names, n)
	}
	out := make([]buyer.Model, len(names))
	for i, n := range names {
		out[i] = buyer.Model{ID: n, Digest: sha256.Sum256([]byte(n)), Exact: n != Upstream && n != Sulky, Context: 4096,
			Provider: s.Provider(), Offer: sha256.Sum256([]byte("offer " + n)), Rates: Rates, Denom: square.Denom, Free: 8}
		if out[i].Exact {
			out[i].Proven = Proven
		}
	}
	return out, nil
}

// Do asks.
func (s *Seller) Do(ctx context.Context, a buyer.Ask, emit func(infer.Delta) error) (buyer.Answer, error) {
	s.mu.Lock()
	s.asks = append(s.asks, a)
	s.mu.Unlock()
	all, _ := s.Models(ctx)
	var m buyer.Model
	for _, o := range all {
		if o.ID == a.Model || o.Digest.String() == a.Model {
			m = o
		}
	}
	if m.ID == "" {
		return buyer.Answer{}, fmt.Errorf("%q: %w", a.Model, buyer.ErrNoModel)
	}
	me := func(prefix string) bool { return strings.HasPrefix(s.Provider().String(), prefix) }
	if len(a.Route.Only) > 0 && !slices.ContainsFunc(a.Route.Only, me) || slices.ContainsFunc(a.Route.Ignore, me) ||
		a.Route.MaxCompletion > 0 && a.Route.MaxCompletion < Rates[1].PerMillion {
		return buyer.Answer{}, fmt.Errorf("%s: %w", m.ID, desk.ErrNoProvider)
	}
	if a.Route.Policy == square.PolicyProve {
		if m.Rates = m.Proven; m.Proven == nil {
			return buyer.Answer{}, fmt.Errorf("%s: %w", m.ID, desk.ErrNoProvider)
		}
	}
	units, err := meter.Ceiling(a.Request, m.Context)
	if err != nil {
		return buyer.Answer{}, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	if most, err := square.Price(m.Rates, units); err != nil || a.MaxCost > 0 && most > a.MaxCost {
		return buyer.Answer{}, fmt.Errorf("up to %d: %w", most, desk.ErrBudget)
	}
	if err := Failing[m.ID]; err != nil {
		return buyer.Answer{}, fmt.Errorf("%s: %w", m.ID, err)
	}
	if err := ctx.Err(); err != nil {
		return buyer.Answer{}, err
	}
	s.Running.Add(1)
	defer s.Running.Add(-1)
	began := time.Now()
	var res infer.Result
	var body []byte
	switch a.Request.Kind {
	case infer.Exact:
		res = s.complete(ctx, m, a, emit)
		units = []uint64{uint64(max(len(a.Request.Prompt), 1)), uint64(len(res.Tokens))}
	case infer.Embed:
		res = infer.Result{Kind: infer.Embed, Vector: vector(a.Request.Prompt)}
		units = []uint64{uint64(len(a.Request.Prompt)), 0}
	case infer.Opaque:
		if res, body, err = s.upstream(ctx, m, a, emit); err != nil {
			return buyer.Answer{}, err
		}
		units = []uint64{uint64(res.Prompt), uint64(res.Completion)}
	}
	if res.Finish == infer.FinishCancelled {
		s.Stopped.Add(1)
	}
	return s.sign(m, a, res, body, units, time.Since(began)), nil
}

func (s *Seller) sign(m buyer.Model, a buyer.Ask, res infer.Result, body []byte, units []uint64, ttft time.Duration) buyer.Answer {
	price, err := square.Price(m.Rates, units)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq, s.sum = s.seq+1, s.sum+price
	d := square.LedgerDomain(ChainID)
	r := square.Receipt{Lease: s.lease, Seq: s.seq, Subject: m.Digest, Request: a.Request.Digest(), Result: res.Digest(),
		Units: units, Price: price, Cumulative: s.sum, Time: time.Now().UnixMilli()}
	var verified square.Policy
	if a.Route.Policy == square.PolicyProve {
		verified = square.PolicyProve
	}
	return buyer.Answer{Verified: verified, Provider: m.Provider, Model: m, Lease: s.lease, Receipt: r.Digest(d),
		Signed: wire.Signed{Receipt: r, Sig: s.key.Sign(r.Digest(d)), Result: res.Encode(), Body: body},
		Result: res, Cost: square.Utorg(price), TTFT: ttft}
}

var words = []string{"the ", "market ", "is ", "open; ", "café ", "Straße ", "日本 ", "and ", "nobody ", "owns ", "it.\n"}

// Text is what the exact engine would go on writing for ever.
func Text(prompt []byte, seed square.Hash, temperature uint32, n int) []byte {
	if temperature == 0 {
		seed = square.Hash{}
	}
	var out []byte
	for i := uint64(0); len(out) < n; i++ {
		h := sha256.Sum256(binary.BigEndian.AppendUint64(append(append([]byte(nil), prompt...), seed[:]...), i))
		out = append(out, words[binary.BigEndian.Uint32(h[:])%uint32(len(words))]...)
	}
	return out[:n]
}

func (s *Seller) complete(ctx context.Context, m buyer.Model, a buyer.Ask, emit func(infer.Delta) error) infer.Result {
	q := a.Request
	res := infer.Result{Kind: infer.Exact, Finish: infer.FinishLength}
	var made []byte
	shown := 0
	for i, b := range Text(q.Prompt, q.Seed, q.Temperature, int(q.MaxTokens)) {
		if m.ID == Slow {
			select {
			case <-ctx.Done():
			case <-time.After(s.Delay):
			}
		}
		if ctx.Err() != nil {
			res.Finish = infer.FinishCancelled
			return res
		}
		if m.ID == Halfway && i == 3 {
			// No exact result says so; a seller passes on what it got.
			res.Finish = infer.FinishError
			return res
		}
		made = append(made, b)
		res.Tokens = append(res.Tokens, uint16(b))
		s.Tokens.Add(1)
		hold, stopped := 0, false
		for _, stop := range q.Stop {
			if strings.HasSuffix(string(made), string(stop)) {
				made, stopped = made[:len(made)-len(stop)], true
				break
			}
			for n := min(len(stop)-1, len(made)); n > hold; n-- {
				if strings.HasSuffix(string(made), string(stop[:n])) {
					hold = n
				}
			}
		}
		if stopped || i == int(q.MaxTokens)-1 {
			hold = 0
		}
		d := infer.Delta{Tokens: 1, Text: string(made[shown:max(shown, len(made)-hold)])}
		shown = max(shown, len(made)-hold)
		if a.Logprobs > 0 {
			d.Logprobs = []infer.Logprob{{Token: string(rune(b)), Logprob: -0.5, Top: []infer.Logprob{
				{Token: string(rune(b)), Logprob: -0.5}, {Token: "~", Logprob: -1.25}, {Token: "#", Logprob: -3}}[:min(a.Logprobs, 3)]}}
		}
		if err := emit(d); err != nil {
			res.Finish = infer.FinishCancelled
			return res
		}
		if stopped {
			res.Finish = infer.FinishStop
			return res
		}
	}
	return res
}

func vector(text []byte) []int32 {
	out := make([]int32, 16)
	for i := range out {
		h := sha256.Sum256(append([]byte{byte(i)}, text...))
		out[i] = int32(binary.BigEndian.Uint32(h[:])) >> 8
	}
	return out
}

// upstream answers as an OpenAI-compatible server does, echoing the last
// message.
func (s *Seller) upstream(ctx context.Context, m buyer.Model, a buyer.Ask, emit func(infer.Delta) error) (infer.Result, []byte, error) {
	var q struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Content string `json:"content"`
		} `json:"messages"`
		Prompt string `json:"prompt"`
		Input  any    `json:"input"`
		Tools  []any  `json:"tools"`
	}
	if err := json.Unmarshal(a.Request.Prompt, &q); err != nil {
		return infer.Result{}, nil, &wire.Refusal{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	if q.Model != m.ID || q.Stream != a.Stream {
		return infer.Result{}, nil, &wire.Refusal{Code: wire.CodeBadRequest, Message: "the body is not this model's"}
	}
	if q.Input != nil {
		return infer.Result{Kind: infer.Opaque, Finish: infer.FinishStop, Prompt: 3},
			[]byte(`{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":3,"total_tokens":3}}`), nil
	}
	said := "You said: " + q.Prompt
	if n := len(q.Messages); n > 0 {
		said = "You said: " + q.Messages[n-1].Content
	}
	parts := strings.SplitAfter(said, " ")
	usage := map[string]any{"prompt_tokens": 11, "completion_tokens": len(parts), "total_tokens": 11 + len(parts),
		"prompt_tokens_details": map[string]int{"cached_tokens": 4}}
	chat := q.Messages != nil
	choice := func(text string, whole bool, finish any) map[string]any {
		c := map[string]any{"index": 0, "finish_reason": finish}
		switch {
		case !chat:
			c["text"] = text
		case whole && len(q.Tools) > 0:
			c["message"] = map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{"id": "call_1", "type": "function",
				"function": map[string]string{"name": "weather", "arguments": `{"city":"Oslo"}`}}}}
			c["finish_reason"] = "tool_calls"
		case whole:
			c["message"] = map[string]string{"role": "assistant", "content": text}
		default:
			c["delta"] = map[string]string{"content": text}
		}
		return c
	}
	object := "chat.completion"
	if !chat {
		object = "text_completion"
	}
	res := infer.Result{Kind: infer.Opaque, Finish: infer.FinishStop, Prompt: 11, Completion: uint32(len(parts)), Text: []byte(said)}
	if !a.Stream || m.ID == Sulky {
		body, err := json.Marshal(map[string]any{"id": "up-1", "object": object, "created": 5, "model": "their-name",
			"choices": []any{choice(said, true, "stop")}, "usage": usage, "system_fingerprint": "theirs"})
		return res, body, err
	}
	if chat {
		object = "chat.completion.chunk"
	}
	event := func(choices []any, usage any) error {
		raw, err := json.Marshal(map[string]any{"id": "up-1", "object": object, "created": 5, "model": "their-name", "choices": choices, "usage": usage})
		if err != nil {
			return err
		}
		return emit(infer.Delta{Tokens: 1, Raw: raw})
	}
	for i, p := range parts {
		if ctx.Err() != nil || event([]any{choice(p, false, nil)}, nil) != nil {
			res.Finish, res.Completion = infer.FinishCancelled, uint32(i)
			return res, nil, nil
		}
	}
	if event([]any{choice("", false, "stop")}, nil) != nil || event([]any{}, usage) != nil {
		res.Finish = infer.FinishCancelled
	}
	return res, nil, nil
}
