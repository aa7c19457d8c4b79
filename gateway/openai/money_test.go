package openai_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/seller"
)

// town is a gateway with a real desk, a real provider and a ledger in memory,
// before an OpenAI-compatible server that can be told what to do, and the bundled
// model.
type town struct {
	*door
	desk   *desk.Desk
	asks   *buyer.Buyer
	seller *seller.Seller
	keys   *keys.Store

	mu     sync.Mutex
	asked  []map[string]json.RawMessage // of the server
	answer func(w http.ResponseWriter, asked map[string]json.RawMessage)
}

// newTown opens one where a million prompt tokens cost so many base units, and a
// million completion tokens 2.5 TORG.
func newTown(t *testing.T, perPrompt uint64) *town {
	t.Helper()
	tw := &town{}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var m map[string]json.RawMessage
		if err := json.Unmarshal(b, &m); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		tw.mu.Lock()
		tw.asked = append(tw.asked, m)
		answer := tw.answer
		tw.mu.Unlock()
		answer(w, m)
	}))
	t.Cleanup(up.Close)
	key := func() square.Key {
		k, err := square.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	store := func(buckets ...string) *journal.Journal {
		j, err := journal.Open(filepath.Join(t.TempDir(), "db"), buckets...)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	model := replay.Model{Model: nano.Model()}
	l := infertest.NewLedger(model)
	vendor, owner := key(), key()
	l.Fund(vendor.Address(), 100_000_000_000)
	l.Fund(owner.Address(), 100_000_000_000)
	if err := l.Bond(vendor.Address(), infer.Name, 90_000_000_000); err != nil {
		t.Fatal(err)
	}
	rates := []square.Rate{{Unit: infer.UnitPrompt, PerMillion: perPrompt}, {Unit: infer.UnitCompletion, PerMillion: 2_500_000}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sold, bought := store(seller.Buckets...), store(desk.Buckets...)
	var sells []provider.Service
	for _, e := range []provider.Engine{provider.Upstream{Base: up.URL}.Engine(provider.Model{Name: "fake", Subject: infer.Subject("fake")}), provider.Exact(nano.Model())} {
		sells = append(sells, provider.Service{Engine: e, Price: provider.Price{Rates: rates, Denom: square.Denom, Capacity: 8}})
	}
	tw.seller, err = seller.New(t.Context(), seller.Config{
		Key: vendor, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: vendor.Address()}, Store: sold,
		Tick: 20 * time.Millisecond, Endpoint: "http://" + listener.Addr().String(), Trades: []seller.Trade{provider.New(provider.Config{PlaceTokens: 1, Services: sells})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tw.seller.PostOffers(t.Context()); err != nil {
		t.Fatal(err)
	}
	account := fake.Account{Ledger: l, Self: owner.Address()}
	inference := buyer.NewTrade([]infer.Replayer{model}, account.Card)
	tw.desk, err = desk.New(desk.Config{
		Key: key(), Owner: owner, ChainID: fake.ChainID, Ledger: account, Store: bought, Trades: []desk.Trade{inference},
		Escrow: 10 * square.UnitsPerTorg, JobValue: square.UnitsPerTorg / 5, Lanes: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if tw.asks, err = buyer.New(buyer.Config{Desk: tw.desk, Trade: inference}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	server := &http.Server{Handler: tw.seller.Handler()}
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(func() { _ = tw.seller.Run(ctx) })
	running.Go(func() { _ = tw.desk.Run(ctx) })
	if tw.keys, err = keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil); err != nil {
		t.Fatal(err)
	}
	h, err := openai.New(openai.Config{Seller: tw.asks, Keys: tw.keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tw.door = &door{Server: httptest.NewServer(h)}
	t.Cleanup(func() {
		tw.door.Close()
		cancel()
		server.Close()
		running.Wait()
		tw.desk.Close()
		tw.keys.Close()
		sold.Close()
		bought.Close()
	})
	tw.key(t, nil)
	return tw
}

// key makes a key, and asks with it from now on.
func (tw *town) key(t *testing.T, budget *uint64) {
	t.Helper()
	secret, _, err := tw.keys.Create(keys.Grant{Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	tw.secret = secret
}

// says makes the server answer so much text with such a usage, streamed or not.
func (tw *town) says(text, usage string) {
	tw.does(func(w http.ResponseWriter, asked map[string]json.RawMessage) {
		if string(asked["stream"]) != "true" {
			fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":%s}`, text, usage)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range strings.SplitAfter(text, " ") {
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", word)
		}
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":%s}\n\ndata: [DONE]\n\n", usage)
	})
}

func (tw *town) does(answer func(http.ResponseWriter, map[string]json.RawMessage)) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.answer, tw.asked = answer, nil
}

// was is what the server was asked since it was told what to do.
func (tw *town) was() []map[string]json.RawMessage {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	return tw.asked
}

// paid is what an answer says of money.
type paid struct {
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
	Receipt   string `json:"receipt"`
	Truncated int    `json:"truncated"`
	Usage     struct {
		Prompt     uint64 `json:"prompt_tokens"`
		Completion uint64 `json:"completion_tokens"`
		Total      uint64 `json:"total_tokens"`
		Details    struct {
			Amount   string `json:"amount"`
			Reported *struct {
				Prompt     json.Number `json:"prompt_tokens"`
				Completion json.Number `json:"completion_tokens"`
			} `json:"reported"`
		} `json:"cost_details"`
	} `json:"usage"`
	Error struct {
		Message, Type, Code, Param string
	} `json:"error"`
}

// buy asks; of a stream it returns the last event that has a receipt, or an error.
func (tw *town) buy(t *testing.T, path, body string) (int, paid) {
	t.Helper()
	res, b := tw.do(t, "POST", path, body)
	if res.Header.Get("Content-Type") == "text/event-stream" {
		_, data := events(t, b)
		for i := len(data) - 1; i >= 0; i-- {
			if strings.Contains(data[i], `"receipt"`) || strings.Contains(data[i], `"error"`) {
				b = []byte(data[i])
				break
			}
		}
	}
	var p paid
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return res.StatusCode, p
}

// receipt is what an answer's receipt charges, which its usage must say.
func (tw *town) receipt(t *testing.T, p paid) []uint64 {
	t.Helper()
	id, err := square.ParseHash(p.Receipt)
	if err != nil {
		t.Fatalf("%v: %+v", err, p)
	}
	rec, err := tw.desk.Receipt(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	r := rec.Evidence.Receipt
	if r.Units[0] != p.Usage.Prompt || r.Units[1] != p.Usage.Completion || p.Usage.Total != r.Units[0]+r.Units[1] || p.Usage.Details.Amount != strconv.FormatUint(r.Price, 10) {
		t.Errorf("the answer says %+v, its receipt %v for %d", p.Usage, r.Units, r.Price)
	}
	return r.Units
}

const hi = `"messages":[{"role":"user","content":"hi"}]`

// A limit written twice is refused, in every way that servers read differently.
func TestMoneyTwoLimits(t *testing.T) {
	tw := newTown(t, 1_000_000)
	tw.says("a word", `{"prompt_tokens":9,"completion_tokens":2}`)
	for _, members := range []string{
		`"max_tokens":30000,"Max_Tokens":1`, `"max_tokens":30000,"MAX_COMPLETION_TOKENS":1`, `"max_tokens":30000,"max_tokens":1`,
		"\"max_tokens\":30000,\"max_token\u017f\":1", `"max_tokens":30000,"max_t\u006fkens":1`, `"max_tokens":1,"options":{"num_predict":30000}`,
		`"max_tokens":1,"prompt":"x"`, `"max_tokens":1,"N":100`, `"max_tokens":1,"extra_body":{"max_tokens":30000}`, `"max_tokens":1.5`, `"max_tokens":0`,
	} {
		if code, p := tw.buy(t, "/v1/chat/completions", `{"model":"fake",`+hi+`,`+members+`}`); code != 400 {
			t.Errorf("%s: %d %+v", members, code, p)
		}
	}
	if asked := tw.was(); len(asked) > 0 {
		t.Errorf("the server was asked %s", asked)
	}
	// Of those that mean one thing, that goes to the server.
	for _, members := range []string{
		`"max_tokens":30000,"max_completion_tokens":7`, `"max_tokens":7`, `"max_tokens":7.0`, `"max_completion_tokens":7`, `"max_tokens":7,"n_predict":30000`, `"n_predict":7`,
	} {
		tw.says("a word", `{"prompt_tokens":9,"completion_tokens":2}`)
		if code, p := tw.buy(t, "/v1/chat/completions", `{"model":"fake",`+hi+`,`+members+`}`); code != 200 {
			t.Errorf("%s: %d %+v", members, code, p)
			continue
		}
		if m := tw.was()[0]; string(m["max_tokens"]) != "7" || string(m["max_completion_tokens"]) != "7" || m["n_predict"] != nil {
			t.Errorf("%s: the server was asked %s", members, m)
		}
	}
}

// A server that obeys max_tokens alone obeys the limit; one that obeys none is
// paid for what was asked, and it is shown and counted against its provider.
func TestMoneyIgnoredLimit(t *testing.T) {
	tw := newTown(t, 1_000_000)
	thousand := strings.TrimSpace(strings.Repeat("word ", 1000))
	tw.does(func(w http.ResponseWriter, asked map[string]json.RawMessage) {
		n, err := strconv.Atoi(string(asked["max_tokens"]))
		if err != nil {
			n = 1000
		}
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%q}}],"usage":{"prompt_tokens":9,"completion_tokens":%d}}`, strings.Repeat("word ", n), n)
	})
	code, p := tw.buy(t, "/v1/chat/completions", `{"model":"fake",`+hi+`,"max_completion_tokens":1}`)
	if u := tw.receipt(t, p); code != 200 || u[0] != 9 || u[1] != 1 || p.Usage.Details.Reported != nil || tw.seller.Stats().Over != 0 {
		t.Errorf("%d %+v", code, p)
	}
	for over, stream := range []string{"false", "true"} {
		tw.says(thousand, `{"prompt_tokens":9,"completion_tokens":1000}`)
		code, p = tw.buy(t, "/v1/chat/completions", body(stream, `"max_completion_tokens":1`))
		if u := tw.receipt(t, p); code != 200 || u[1] != 1 {
			t.Errorf("stream %s: %d %+v", stream, code, p)
		}
		if stream == "false" && (p.Usage.Details.Reported == nil || p.Usage.Details.Reported.Completion != "1000") {
			t.Errorf("it is not shown: %+v", p.Usage)
		}
		if got := tw.seller.Stats().Over; got != uint64(over)+1 {
			t.Errorf("stream %s: counted %d times", stream, got)
		}
	}
	models, err := tw.asks.Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		if m.ID == "fake" && m.Failures == 0 {
			t.Error("nothing is held against the provider")
		}
	}
}

// body asks fake, streamed or not.
func body(stream, members string) string {
	b := `{"model":"fake",` + hi + `,` + members + `,"stream":` + stream
	if stream == "true" {
		b += `,"stream_options":{"include_usage":true}`
	}
	return b + "}"
}

// Of a prompt that is too long nothing is charged that the model does not read.
func TestMoneyLongPrompt(t *testing.T) {
	tw := newTown(t, 1_000_000)
	const tail = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a w"
	for _, c := range []struct{ path, prompt, param string }{
		{"/v1/completions", `"prompt":%q`, "prompt"},
		{"/v1/chat/completions", `"messages":[{"role":"user","content":%q}]`, "messages"},
		{"/v1/responses", `"input":%q`, "input"},
	} {
		ask := func(text, more string) (int, paid) {
			return tw.buy(t, c.path, `{"model":"`+nano.Name+`","temperature":0,`+fmt.Sprintf(c.prompt, text)+more+`}`)
		}
		code, p := ask(strings.Repeat("x", 300_000)+tail, "")
		if code != 400 || p.Error.Code != "context_length_exceeded" || p.Error.Param != c.param || !strings.Contains(p.Error.Message, "truncation") {
			t.Errorf("%s: %d %+v", c.path, code, p.Error)
		}
		if c.param == "input" {
			continue // its usage has other names
		}
		code, p = ask(strings.Repeat("x", 300_000)+tail, `,"truncation":"auto"`)
		u := tw.receipt(t, p)
		if code != 200 || u[0] > uint64(nano.Model().Context()) || p.Truncated != 300_000+len(tail)+map[string]int{"messages": 1}[c.param]-int(u[0]) {
			t.Errorf("%s: %d, %d prompt tokens, %d bytes cut off", c.path, code, u[0], p.Truncated)
		}
		id, _ := square.ParseHash(p.Receipt)
		if got, err := tw.desk.Audit(t.Context(), id); err != nil || got != desk.AuditEqual {
			t.Errorf("%s: the audit says %s, %v", c.path, got, err)
		}
		if code, p = ask(tail, `,"truncation":"disabled"`); code != 200 || p.Truncated != 0 {
			t.Errorf("%s: a prompt that fits: %d %+v", c.path, code, p)
		}
	}
	if code, p := tw.buy(t, "/v1/completions", `{"model":"`+nano.Name+`","prompt":"x","truncation":"middle"}`); code != 400 || p.Error.Param != "truncation" {
		t.Errorf("%d %+v", code, p.Error)
	}
}

// A dear request is sold, from a lease that is made for it; one that no lease can
// pay is refused without a word of budgets.
func TestMoneyDear(t *testing.T) {
	tw := newTown(t, 3_000_000)
	long := strings.Repeat("a word or two ", 72<<10/14)
	tw.says("yes", `{"prompt_tokens":16000,"completion_tokens":1}`)
	for range 2 {
		code, p := tw.buy(t, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"`+long+`"}],"max_tokens":10}`)
		if code != 200 {
			t.Fatalf("%d %+v", code, p.Error)
		}
		if u := tw.receipt(t, p); u[0] != 16000 {
			t.Errorf("%v", u)
		}
	}
	code, p := tw.buy(t, "/v1/chat/completions", `{"model":"fake",`+hi+`,"max_tokens":4000000000}`)
	if code != 400 || p.Error.Code != "request_too_expensive" || strings.Contains(p.Error.Message, "budget") || strings.Count(p.Error.Message, "lower max_tokens") != 1 {
		t.Errorf("%d %+v", code, p.Error)
	}
	// Where there is a budget, it is named once.
	little := uint64(1000)
	tw.key(t, &little)
	code, p = tw.buy(t, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"`+long+`"}],"max_tokens":10}`)
	if code != 402 || p.Error.Code != "key_budget_exceeded" || strings.Count(p.Error.Message, "lower max_tokens") != 1 {
		t.Errorf("%d %+v", code, p.Error)
	}
}

// An image costs what an image can cost, not what its bytes would as text; also
// where the server counts nothing.
func TestMoneyImage(t *testing.T) {
	tw := newTown(t, 75_000)
	image := `{"model":"fake","max_tokens":10,"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + strings.Repeat("iVBORw0K", 600<<10/6) + `"}}]}]}`
	little := uint64(50_000)
	for usage, want := range map[string]uint64{`{"prompt_tokens":120,"completion_tokens":2}`: 120, `null`: 25} {
		tw.key(t, &little)
		tw.says("a cat", usage)
		code, p := tw.buy(t, "/v1/chat/completions", image)
		if code != 200 {
			t.Fatalf("%d %+v", code, p.Error)
		}
		if u := tw.receipt(t, p); u[0] > want+5 || u[0] < want-5 {
			t.Errorf("usage %s: %v", usage, u)
		}
	}
}

// What a server says it used is compared with what it delivered.
func TestMoneyUsage(t *testing.T) {
	tw := newTown(t, 1_000_000)
	words := strings.TrimSpace(strings.Repeat("word ", 400))
	for _, c := range []struct {
		text, usage string
		least, most uint64 // completion tokens
		shown       bool   // that the server said something else
	}{
		{words, `{"prompt_tokens":9,"completion_tokens":400}`, 400, 400, false},
		{words, `{"prompt_tokens":9.0,"completion_tokens":400.0}`, 400, 400, false},
		{words, `{}`, 249, 400, false},
		{words, `null`, 249, 400, false},
		{words, `{"prompt_tokens":9,"completion_tokens":-5}`, 249, 400, true},
		{words, `{"prompt_tokens":9,"completion_tokens":null}`, 249, 400, true},
		{words, `{"prompt_tokens":9,"completion_tokens":11.5}`, 249, 400, true},
		{words, `{"prompt_tokens":9,"completion_tokens":"11"}`, 249, 400, true},
		{words, `{"prompt_tokens":9,"completion_tokens":2}`, 249, 400, true},
		{"hi", `{"prompt_tokens":9,"completion_tokens":4000000000}`, 0, 1, true},
		{"hi", `{"prompt_tokens":4000000000,"completion_tokens":4000000000}`, 0, 1, true},
		{"hi", `{"prompt_tokens":9,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":0}}`, 1, 1, false},
	} {
		for _, stream := range []string{"false", "true"} {
			tw.says(c.text, c.usage)
			code, p := tw.buy(t, "/v1/chat/completions", body(stream, `"max_tokens":3000`))
			if code != 200 {
				t.Errorf("usage %s, stream %s: %d %+v", c.usage, stream, code, p.Error)
				continue
			}
			u := tw.receipt(t, p)
			if u[1] < c.least || u[1] > c.most || u[0] < 9 || u[0] > 40 {
				t.Errorf("%d bytes, usage %s, stream %s: %v", len(c.text), c.usage, stream, u)
			}
			if (p.Usage.Details.Reported != nil) != c.shown {
				t.Errorf("usage %s, stream %s: shown %+v", c.usage, stream, p.Usage.Details)
			}
		}
	}
}

// The responses endpoint says the same, in its own names.
func TestMoneyResponses(t *testing.T) {
	tw := newTown(t, 1_000_000)
	for _, stream := range []string{"false", "true"} {
		tw.says("hi", `{"prompt_tokens":9,"completion_tokens":4000000000,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":3}}`)
		res, b := tw.do(t, "POST", "/v1/responses", `{"model":"fake","input":"hi","max_output_tokens":3000,"stream":`+stream+`}`)
		if stream == "true" {
			_, data := events(t, b)
			b = []byte(data[len(data)-1])
		}
		for _, want := range []string{`"input_tokens":9,`, `"cached_tokens":5`, `"reasoning_tokens":3`, `"reported":{"prompt_tokens":9,"completion_tokens":4000000000}`} {
			if res.StatusCode != 200 || !strings.Contains(string(b), want) {
				t.Errorf("stream %s: %d, no %s in %s", stream, res.StatusCode, want, b)
			}
		}
	}
}

// Everything that an answer says counts, whatever it is called.
func TestMoneyAllThatIsSaid(t *testing.T) {
	tw := newTown(t, 1_000_000)
	for _, member := range []string{"content", "reasoning", "reasoning_content", "refusal"} {
		tw.does(func(w http.ResponseWriter, _ map[string]json.RawMessage) {
			fmt.Fprintf(w, `{"choices":[{"message":{"role":"assistant",%q:%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":400}}`, member, strings.Repeat("word ", 400))
		})
		if code, p := tw.buy(t, "/v1/chat/completions", body("false", `"max_tokens":3000`)); code != 200 || tw.receipt(t, p)[1] != 400 {
			t.Errorf("%s: %d %+v", member, code, p)
		}
	}
	for _, member := range []string{"tool_calls", "function_call"} {
		tw.does(func(w http.ResponseWriter, _ map[string]json.RawMessage) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 40 {
				fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{%q:{\"function\":{\"arguments\":\"{}\"}}}}]}\n\n", member)
			}
			io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n")
		})
		if code, p := tw.buy(t, "/v1/chat/completions", body("true", `"max_tokens":3000`)); code != 200 || tw.receipt(t, p)[1] < 40 {
			t.Errorf("%s: %d %+v", member, code, p)
		}
	}
}

// What is no answer is not charged.
func TestMoneyNoAnswer(t *testing.T) {
	tw := newTown(t, 1_000_000)
	for _, c := range []struct{ stream, whole string }{
		{"data: {\"object\":\"error\",\"message\":\"CUDA out of memory\",\"code\":50001}\n\ndata: [DONE]\n\n", `{"object":"error","message":"CUDA out of memory","code":50001}`},
		{"data: {\"error\":\"CUDA out of memory\"}\n\ndata: [DONE]\n\n", `{"error":{"message":"CUDA out of memory"}}`},
		{"data: {\"detail\":\"CUDA out of memory\"}\n\n", `{"detail":"CUDA out of memory"}`},
		{"data: [DONE]\n\n", `{}`},
		{"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":50}}\n\ndata: [DONE]\n\n", `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":50}}`},
		{"data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"content\":\"b\"}}]}\n\ndata: [DONE]\n\n", `{"choices":[{"message":{"content":"a","content":"b"}}]}`},
	} {
		tw.does(func(w http.ResponseWriter, asked map[string]json.RawMessage) {
			if string(asked["stream"]) == "true" {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, c.stream)
				return
			}
			io.WriteString(w, c.whole)
		})
		for _, stream := range []string{"false", "true"} {
			code, p := tw.buy(t, "/v1/chat/completions", body(stream, `"max_tokens":30`))
			if code != 502 || p.Error.Code != "provider_failed" || strings.Contains(c.stream, "CUDA") && !strings.Contains(p.Error.Message, "CUDA") {
				t.Errorf("%s: stream %s: %d %+v", c.whole, stream, code, p)
			}
		}
	}
	if s := tw.seller.Stats(); s.Charged != 0 || s.Served != 0 {
		t.Errorf("%+v", s)
	}
}
