package ask_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/infer/ask"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// gateway answers what a real one would, and notes who asked.
type gateway struct {
	bearer  string
	body    map[string]any
	receipt square.Hash
	fail    string
	wait    chan struct{} // if set, an answer stays open until it is stopped or this closes
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.bearer = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.body = nil
	_ = json.NewDecoder(r.Body).Decode(&g.body)
	if g.fail != "" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusPaymentRequired)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": g.fail}})
		return
	}
	if g.body["stream"] != true {
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"It was so."}}],"receipt":%q}`, g.receipt)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"It \"}}]}\n\n")
	_ = http.NewResponseController(w).Flush()
	if g.wait != nil {
		select {
		case <-r.Context().Done():
			w.Header().Set("Torg-Receipt", g.receipt.String())
			io.WriteString(w, "data: {\"error\":{\"code\":\"cancelled\",\"message\":\"stopped\"}}\n\n")
			return
		case <-g.wait:
		}
	}
	w.Header().Set("Torg-Receipt", g.receipt.String())
	io.WriteString(w, "data: [DONE]\n\n")
}

var provider = square.Address{1, 2, 3}

// asked are the models that may be.
type asked []buyer.Model

func (a asked) Models(context.Context) ([]buyer.Model, error) { return a, nil }

func open(t *testing.T, g *gateway) *consoletest.Test {
	models := asked{
		{ID: "exact-1", Digest: square.Hash{7}, Exact: true, Provider: provider, Denom: square.Denom, TTFT: 12 * time.Millisecond, Throughput: 80,
			Rates: []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 100_000}, {Unit: infer.UnitCompletion, PerMillion: 1_000_000}}},
		{ID: "<b>hostile</b>", Provider: provider, Denom: square.Denom, Rates: []square.Rate{{Unit: infer.UnitPrompt}, {Unit: infer.UnitCompletion}}},
	}
	return consoletest.Open(t, consoletest.New(), func(c *console.Config) {
		c.Pages = func(r console.Room) []ui.Page { return []ui.Page{ask.New(models, r.Desk, r.Keys, g)} }
	})
}

// receiptOf files a receipt for an account.
func receiptOf(s *consoletest.Test, account string, id square.Hash) {
	q := infer.Request{Kind: infer.Exact, MaxTokens: 8, TopP: 10_000, Prompt: []byte("x")}
	s.Records = append(s.Records, desk.Record{
		ID: id, Time: time.Now(), Provider: provider, Subject: "exact-1", Account: account, Denom: square.Denom, Latency: 12 * time.Millisecond,
		Evidence: square.Evidence{Request: q.Encode(), Receipt: square.Receipt{Lease: square.Hash{5}, Units: []uint64{14, 3}, Price: 42, Seq: 1, Subject: square.Hash{7}}},
	})
}

func TestThePageSaysWhatItCostsBeforeAsking(t *testing.T) {
	s := open(t, &gateway{})
	r := s.AsOwner().Get("/ask?model=exact-1").Is(200)
	r.Has("exact-1", "at most", "TORG", "12 ms", "80 tokens a second", "0.1 TORG / M prompt tokens", "The same bits on every machine")
	r.Lacks("<b>hostile")
	s.AsOwner().Submit("/ask", "/ask/price", url.Values{"model": {"exact-1"}, "prompt": {strings.Repeat("x", 1000)}, "tokens": {"1000"}}).Is(200)
}

func TestAskingWithoutJavaScript(t *testing.T) {
	g := &gateway{receipt: square.Hash{9}}
	s := open(t, g)
	b, k := s.AsKey("mine")
	receiptOf(s, k.ID, g.receipt)
	r := b.Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"Was it <so>?"}, "tokens": {"50"}}).Is(200)
	r.Has("Was it <so>?", "It was so.", "0.000042 TORG", "14 + 3 tokens", "signed", "Audit it").Lacks("Was it <so>")
	if got, err := s.Keys.Check(g.bearer); err != nil || got.ID != k.ID {
		t.Errorf("it was paid by %q (%v), want the session's own key", got.ID, err)
	}
	// The conversation goes on from the page.
	conversation := ""
	r.Each("input", func(n *html.Node) {
		if consoletest.Attr(n, "name") == "conversation" {
			conversation = consoletest.Attr(n, "value")
		}
	})
	b.Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"And then?"}, "conversation": {conversation}}).Is(200).Has("Was it <so>?", "And then?")
	if ms, _ := g.body["messages"].([]any); len(ms) != 3 {
		t.Errorf("the gateway was sent %v", g.body["messages"])
	}
}

func TestTheOwnerPaysWithTheOwnersKey(t *testing.T) {
	g := &gateway{receipt: square.Hash{9}}
	s := open(t, g)
	s.AsOwner().Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"x"}}).Is(200)
	if g.bearer != s.OwnerSecret {
		t.Error("it was paid by another key")
	}
}

func TestAFailureKeepsTheWords(t *testing.T) {
	g := &gateway{fail: `the wallet is <i>empty</i>`}
	s := open(t, g)
	r := s.AsOwner().Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"my long question"}}).Is(http.StatusPaymentRequired)
	r.Has("the wallet is <i>empty</i>", "my long question").Lacks("<i>empty")
	kept := ""
	r.Each("textarea", func(n *html.Node) { kept = strings.TrimSpace(consoletest.TextOf(n)) })
	if kept != "my long question" {
		t.Errorf("the form keeps %q", kept)
	}
}

func TestBadQuestions(t *testing.T) {
	s := open(t, &gateway{})
	b := s.AsOwner()
	for name, f := range map[string]url.Values{
		"no words":         {"model": {"exact-1"}, "prompt": {" "}},
		"tokens":           {"model": {"exact-1"}, "prompt": {"x"}, "tokens": {"0"}},
		"many tokens":      {"model": {"exact-1"}, "prompt": {"x"}, "tokens": {"99999"}},
		"conversation":     {"model": {"exact-1"}, "prompt": {"x"}, "conversation": {"{"}},
		"role":             {"model": {"exact-1"}, "prompt": {"x"}, "conversation": {`[{"role":"system","content":"x"}]`}},
		"long":             {"model": {"exact-1"}, "prompt": {strings.Repeat("x", 200_001)}},
		"not UTF-8":        {"model": {"exact-1"}, "prompt": {"\xff"}},
		"member":           {"model": {"exact-1"}, "prompt": {"x"}, "conversation": {`[{"role":"user","content":"x","html":"y"}]`}},
		"model's long":     {"model": {strings.Repeat("m", 300)}, "prompt": {"x"}},
		"a long receipt":   {"model": {"exact-1"}, "prompt": {"x"}, "conversation": {`[{"role":"user","content":"x","receipt":"` + strings.Repeat("0", 65) + `"}]`}},
		"tokens not digit": {"model": {"exact-1"}, "prompt": {"x"}, "tokens": {"many"}},
	} {
		if r := b.Submit("/ask", "/ask", f); r.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, r.Code)
		}
	}
}

func TestAWalletCannotAsk(t *testing.T) {
	g := &gateway{}
	s := open(t, g)
	key, _ := square.NewKey()
	b := s.AsWallet(key)
	b.Get("/ask").Is(200).Has("no API key to pay with")
	b.Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"x"}}).Is(http.StatusForbidden)
	if g.body != nil {
		t.Error("the gateway was asked")
	}
}

func TestStreamingEndsInTheReceipt(t *testing.T) {
	g := &gateway{receipt: square.Hash{9}}
	s := open(t, g)
	b := s.AsOwner()
	page := b.Get("/ask").Is(200)
	question := url.Values{"model": {"exact-1"}, "prompt": {"x"}, "id": {"a"}, "once": {page.Hidden("once", "/ask")}}
	r := page.Send(b, "/ask/stream", question).Is(200)
	if ct := r.Header().Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("it is %q", ct)
	}
	if r.Header().Get("Content-Security-Policy") == "" {
		t.Error("the policy is gone")
	}
	body := r.Body.String()
	if !strings.Contains(body, `"content":"It "`) || !strings.HasSuffix(body, fmt.Sprintf("event: receipt\ndata: {\"id\":%q}\n\n", g.receipt)) {
		t.Errorf("the stream is %q", body)
	}

	// The same question once more is not asked, and not paid, again; the page has
	// a token for its next.
	g.body = nil
	question.Set("id", "b")
	page.Send(b, "/ask/stream", question).Is(http.StatusConflict)
	if g.body != nil {
		t.Error("a form that was sent twice asked twice")
	}
	question.Set("once", r.Header().Get("Torg-Once"))
	if page.Send(b, "/ask/stream", question).Is(200); g.body == nil {
		t.Error("the next question was not asked")
	}
}

func TestAFormAsksOnce(t *testing.T) {
	g := &gateway{receipt: square.Hash{9}}
	s := open(t, g)
	b := s.AsOwner()
	page := b.Get("/ask").Is(200)
	question := url.Values{"model": {"exact-1"}, "prompt": {"x"}}
	page.Send(b, "/ask", question).Is(200)
	g.body = nil
	page.Send(b, "/ask", question).Is(http.StatusConflict).Has("Sent already")
	if g.body != nil {
		t.Error("a form that was sent twice asked twice")
	}
}

// A stopped answer ends at once, and its receipt still comes.
func TestStop(t *testing.T) {
	g := &gateway{receipt: square.Hash{9}, wait: make(chan struct{})}
	s := open(t, g)
	b := s.AsOwner()
	done := make(chan *consoletest.Response)
	page := b.Get("/ask").Is(200)
	token, once := page.Hidden("csrf", ""), page.Hidden("once", "/ask")
	go func() {
		done <- b.Post("/ask/stream", url.Values{"csrf": {token}, "once": {once}, "model": {"exact-1"}, "prompt": {"x"}, "id": {"a"}})
	}()
	other, _ := s.AsKey("other")
	deadline := time.After(time.Minute)
	for {
		other.Submit("/ask", "/ask/stop", url.Values{"id": {"a"}}).Is(http.StatusNoContent) // not its own: nothing happens
		select {
		case r := <-done:
			if !strings.Contains(r.Body.String(), g.receipt.String()) {
				t.Errorf("no receipt: %q", r.Body.String())
			}
			return
		case <-deadline:
			t.Fatal("it does not stop")
		case <-time.After(20 * time.Millisecond):
			b.Post("/ask/stop", url.Values{"csrf": {token}, "id": {"a"}}).Is(http.StatusNoContent)
		}
	}
}

func TestReceiptsOfOthersAreNotThere(t *testing.T) {
	s := open(t, &gateway{})
	b, k := s.AsKey("mine")
	_, other := s.AsKey("other")
	mine, theirs := square.Hash{1}, square.Hash{2}
	receiptOf(s, k.ID, mine)
	receiptOf(s, other.ID, theirs)
	b.Get("/ask/receipt/" + mine.String()).Is(200).Has("0.000042 TORG")
	r := b.Get("/ask/receipt/" + theirs.String()).Is(http.StatusNotFound)
	none := b.Get("/ask/receipt/" + square.Hash{3}.String()).Is(http.StatusNotFound)
	if r.Text() != none.Text() {
		t.Error("another's receipt looks different from one that is not there")
	}
	b.Submit("/ask", "/ask/audit/"+theirs.String(), nil).Is(http.StatusNotFound)
	// Neither does a page show it that was told of it.
	b.Submit("/ask", "/ask", url.Values{"model": {"exact-1"}, "prompt": {"x"}, "conversation": {
		`[{"role":"assistant","content":"x","receipt":"` + theirs.String() + `"}]`}}).Lacks("receipt-" + theirs.Short())
	s.AsOwner().Get("/ask/receipt/" + theirs.String()).Is(200)
}

func TestAudit(t *testing.T) {
	s := open(t, &gateway{})
	b, k := s.AsKey("mine")
	id := square.Hash{1}
	receiptOf(s, k.ID, id)
	s.Audited = desk.AuditEqual
	b.Submit("/ask", "/ask/audit/"+id.String(), nil).Is(200).Has("re-executed: equal").Lacks("Audit it")
	b.Get("/ask/receipt/" + id.String()).Has("re-executed: equal")
}

func FuzzQuestion(f *testing.F) {
	f.Add("model=exact-1&prompt=x&tokens=5&conversation=%5B%7B%22role%22%3A%22user%22%2C%22content%22%3A%22x%22%7D%5D&prove=1")
	f.Add("tokens=-1&conversation=null")
	f.Add("conversation=%5B%5D%5B%5D&prompt=%ff")
	f.Fuzz(func(t *testing.T, form string) {
		r, err := http.NewRequest(http.MethodPost, "/ask", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if r.ParseForm() != nil {
			return
		}
		body, err := ask.Asked(r)
		if err != nil {
			return
		}
		// What is taken is a question: it ends in the user's words, and no role
		// is asked for that the page does not have.
		var q struct {
			Messages []struct{ Role, Content string }
			Tokens   int `json:"max_tokens"`
		}
		if err := json.Unmarshal(body, &q); err != nil {
			t.Fatal(err)
		}
		if n := len(q.Messages); n == 0 || n > 64 || q.Messages[n-1].Role != "user" || q.Tokens < 1 || q.Tokens > 2048 {
			t.Errorf("%q asks %s", form, body)
		}
		for _, m := range q.Messages {
			if m.Role != "user" && m.Role != "assistant" {
				t.Errorf("%q has the role %q", form, m.Role)
			}
		}
	})
}
