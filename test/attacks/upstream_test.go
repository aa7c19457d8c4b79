package attacks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/wire"
)

// upstreamModel is what the server behind the square's provider calls its model.
const upstreamModel = "austere"

// upstream is an OpenAI-compatible server whose owner sells it through torg up. It
// says as many words as the body's max_tokens allows, reading JSON as strictly
// as other servers do: by the exact name, the last one winning.
type upstream struct {
	*httptest.Server
	words atomic.Int64           // said in all
	deaf  atomic.Bool            // to limits: it says 1,000
	usage atomic.Pointer[string] // what it says it used, where that is a lie
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model"}]}`, upstreamModel)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var m map[string]json.RawMessage // exact names, unlike encoding/json's structs
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n, stream := 16, false
		_ = json.Unmarshal(m["max_tokens"], &n)
		_ = json.Unmarshal(m["stream"], &stream)
		n = min(max(n, 1), 50_000)
		if u.deaf.Load() {
			n = 1000
		}
		u.words.Add(int64(n))
		usage := fmt.Sprintf(`{"prompt_tokens":5,"completion_tokens":%d,"total_tokens":%d}`, n, n+5)
		text := strings.Repeat("word ", n)
		if lie := u.usage.Load(); lie != nil {
			usage = *lie
		}
		if !stream {
			fmt.Fprintf(w, `{"id":"1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"length"}],"usage":%s}`, upstreamModel, text, usage)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := func(choices, usage string) {
			fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":%q,\"choices\":[%s],\"usage\":%s}\n\n", upstreamModel, choices, usage)
		}
		chunk(fmt.Sprintf(`{"index":0,"delta":{"role":"assistant","content":%q},"finish_reason":null}`, text), "null")
		chunk(`{"index":0,"delta":{},"finish_reason":"length"}`, "null")
		chunk("", usage)
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// opaque is a request for an upstream server, whose body is sent as it is.
func opaque(body string) infer.Request {
	return infer.Request{Kind: infer.Opaque, Prompt: []byte(body)}
}

func chatBody(members string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"words"}]%s}`, upstreamModel, members)
}

// tricks are limits that say one thing to who prices the request and another to
// who answers it.
var tricks = []string{
	`,"max_tokens":3000,"Max_Tokens":1`,
	`,"max_tokens":3000,"MAX_COMPLETION_TOKENS":1`,
	`,"max_tokens":3000,"max_completion_tokens":1`,
	`,"max_tokens":1,"max_tokens":3000`,
	`,"max_tokens":3000,"max_tokenſ":1`, // U+017F folds to s
	`,"max_tokens":3000.0,"Max_tokens":1`,
}

// TestManyForOne: a buyer gets thousands of tokens for the price of one, by a
// limit that is written twice (money.md C4), at the gateway and straight at the
// provider.
func TestManyForOne(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := open(t, "--upstream", u.URL+"/v1")
	p.offer(upstreamModel)
	th := p.thief(20 * torgs)
	s := th.must(th.order(p.offer(upstreamModel)), p.offer(upstreamModel))
	if got, err := s.ask(0, opaque(chatBody(`,"max_tokens":100`))); err != nil || got.Receipt.Units[1] != 100 {
		t.Fatalf("an honest request for 100 tokens: %v %v", got.Receipt, err)
	}
	free := int64(0)
	for _, trick := range tricks {
		was := u.words.Load()
		got, err := s.ask(0, opaque(chatBody(trick)))
		said := u.words.Load() - was
		if err != nil {
			t.Logf("straight at the provider, %s: refused: %v", trick, err)
			continue
		}
		t.Logf("straight at the provider, %s: %d tokens said, %d charged", trick, said, got.Receipt.Units[1])
		if over := said - int64(got.Receipt.Units[1]); over > 0 {
			free += over
			t.Errorf("straight at the provider, %s: %d tokens for the price of %d", trick, said, got.Receipt.Units[1])
		}
	}
	for _, trick := range tricks {
		was := u.words.Load()
		a, err := p.chat(t.Context(), p.APIKey, chatBody(trick))
		said := u.words.Load() - was
		if err != nil {
			t.Logf("at the gateway, %s: refused: %.200v", trick, err)
			continue
		}
		t.Logf("at the gateway, %s: %d tokens said, %d charged", trick, said, a.Usage.Completion)
		if over := said - int64(a.Usage.Details.Amount); over > 0 {
			free += over
			t.Errorf("at the gateway, %s: %d tokens for the price of %d", trick, said, a.Usage.Details.Amount)
		}
	}
	// A token costs one base unit here.
	th.got.Add(uint64(free))
	p.after(outcome{actor: buyer, name: "a limit written twice", loss: free, note: fmt.Sprintf("%d ways tried twice, %d tokens for nothing", len(tricks), free)})
}

// TestPricedBytes: the rows of Money that need a whole square: what a server that
// keeps to no limit and lies of its usage is paid, what long prompts and images
// reserve and cost, and that the ledger's own check agrees.
func TestPricedBytes(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := open(t, "--upstream", u.URL+"/v1", "--price-prompt", "3")
	p.offer(upstreamModel)
	out, err := p.command("key", "create", "little", "--budget", "0.06", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var little admin.Created
	if err := json.Unmarshal([]byte(out), &little); err != nil {
		t.Fatal(err)
	}
	body := func(content, members string) string {
		return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]%s}`, upstreamModel, content, members)
	}
	long := fmt.Sprintf("%q", strings.Repeat("words ", 12<<10))
	image := fmt.Sprintf(`[{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}]`, strings.Repeat("iVBORw0K", 100<<10))
	for _, c := range []struct {
		name, key, body string
		deaf            bool
		usage           string
		least, most     uint64 // cost
	}{
		{"an honest one", p.APIKey, body(`"hi"`, `,"max_tokens":10`), false, "", 25, 25},
		{"a server that keeps to no limit", p.APIKey, body(`"hi"`, `,"max_completion_tokens":1`), true, "", 16, 16},
		{"a prompt of 72 KB", p.APIKey, body(long, `,"max_tokens":10`), false, "", 25, 25},
		{"an image of 600 KiB", little.Secret, body(image, `,"max_tokens":10`), false, "", 25, 25},
		{"no usage", p.APIKey, body(`"hi"`, `,"max_tokens":400`), false, `{}`, 250, 500},
		{"null usage", p.APIKey, body(`"hi"`, `,"max_tokens":400`), false, `null`, 250, 500},
		{"an absurd one", p.APIKey, body(`"hi"`, `,"max_tokens":10`), false, `{"prompt_tokens":5,"completion_tokens":4000000000}`, 15, 25},
	} {
		u.deaf.Store(c.deaf)
		u.usage.Store(nil)
		if c.usage != "" {
			u.usage.Store(&c.usage)
		}
		a, err := p.chat(t.Context(), c.key, c.body)
		if err != nil {
			t.Errorf("%s: %.300v", c.name, err)
			continue
		}
		if a.Usage.Details.Amount < c.least || a.Usage.Details.Amount > c.most {
			t.Errorf("%s costs %d, want %d to %d", c.name, a.Usage.Details.Amount, c.least, c.most)
		}
	}
	if _, err := p.chat(t.Context(), p.APIKey, body(`"hi"`, `,"max_tokens":4000000000`)); err == nil || strings.Contains(err.Error(), "budget") || !strings.Contains(err.Error(), "request_too_expensive") {
		t.Errorf("a request for more than any lease holds: %v", err)
	}

	nano := func(members string) string {
		return fmt.Sprintf(`{"model":"torg-nano","max_tokens":8,"messages":[{"role":"user","content":%q}]%s}`, strings.Repeat("It is a truth. ", 20_000), members)
	}
	if _, err := p.chat(t.Context(), p.APIKey, nano("")); err == nil || !strings.Contains(err.Error(), "context_length_exceeded") {
		t.Errorf("300,000 bytes before a model that reads 128: %v", err)
	}
	a, err := p.chat(t.Context(), p.APIKey, nano(`,"truncation":"auto"`))
	if err != nil || a.Usage.Details.Amount > 128*3+8 {
		t.Fatalf("the end of 300,000 bytes costs %d, %v", a.Usage.Details.Amount, err)
	}
	if out, err := p.command("audit", a.Receipt.String()); err != nil {
		t.Errorf("its audit: %v\n%s", err, out)
	}
	p.after(outcome{actor: buyer, name: "bytes that are priced otherwise than read", note: "nothing was free, nothing was charged that was not read or given"})
}

// TestJunkAgainstOpaque: a buyer challenges the answer of an upstream server,
// which the ledger cannot run again, with bytes that are not those of the
// receipt; it then has its escrow back (money.md C3).
func TestJunkAgainstOpaque(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := open(t, "--upstream", u.URL+"/v1")
	th := p.thief(20 * torgs)
	s := th.must(th.order(p.offer(upstreamModel)), p.offer(upstreamModel))
	for range 4 {
		if _, err := s.ask(0, opaque(chatBody(`,"max_tokens":2000`))); err != nil {
			t.Fatal(err)
		}
	}
	note := p.junkAgainst(th, s.id, s.lanes[0].last, s.lanes[0].asked)
	if err := s.close(); err != nil {
		t.Errorf("the lease cannot be closed: %v", err)
	}
	if *long {
		l := s.over(p.disputeTime()) // or its notice, if nothing was heard
		note += fmt.Sprintf("; charged %d, paid %d", s.charged(), l.Paid)
	}
	p.after(outcome{actor: buyer, name: "junk evidence against opaque work", note: note})
}

// TestStrangersJunk: a stranger takes the last answer of somebody's lease, which
// it is shown, and challenges it with junk (money.md C3, H1).
func TestStrangersJunk(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	p := open(t, "--upstream", u.URL+"/v1")
	a, err := p.chat(t.Context(), p.APIKey, chatBody(`,"max_tokens":1000`))
	if err != nil {
		t.Fatal(err)
	}
	th := p.thief(2 * torgs)
	note := ""
	l, err := p.ledger.Lease(t.Context(), a.Lease)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint16(l.Order.Lanes) {
		var lane wire.LaneReply
		if err := p.call(t.Context(), th.key, p.offer(upstreamModel), "lane", a.Lease, n, wire.LaneRequest{Lease: a.Lease, Lane: n}, &lane); err == nil && lane.Last != nil {
			t.Errorf("lane %d of the square's own buyer shows a stranger its last answer, %d bytes", n, len(lane.Last.Result))
			note = p.junkAgainst(th, a.Lease, *lane.Last, nil)
			break
		}
	}
	if note == "" {
		// Then it makes up a receipt, and signs it itself.
		r := square.Receipt{Lease: a.Lease, Seq: 1, Subject: l.Order.Spec, Units: []uint64{1, 1}, Price: 1, Cumulative: 1, Time: time.Now().UnixMilli()}
		note = "no lane shows its answer; " + p.junkAgainst(th, a.Lease, wire.Signed{Receipt: r, Sig: th.key.Sign(r.Digest(p.ledger.Domain()))}, nil)
	}
	p.after(outcome{actor: stranger, name: "junk evidence against another's lease", note: note})
}

// junkAgainst challenges with a true receipt and bytes that show nothing, in each
// way that there is.
func (p *place) junkAgainst(th *thief, lease square.Hash, last wire.Signed, asked []byte) string {
	p.t.Helper()
	whole := square.Evidence{Receipt: last.Receipt, Sig: last.Sig, Request: asked, Result: last.Result}
	for _, way := range []struct {
		name   string
		change func(*square.Evidence)
	}{
		{"other request", func(e *square.Evidence) { e.Request = opaque(chatBody("")).Encode() }},
		{"no request", func(e *square.Evidence) { e.Request = nil }},
		{"other result", func(e *square.Evidence) { e.Result = []byte("junk") }},
		{"no bytes", func(e *square.Evidence) { e.Request, e.Result = nil, nil }},
		{"its own bytes, which nobody can judge", func(*square.Evidence) {}},
	} {
		name, e := way.name, whole
		way.change(&e)
		if _, err := th.acct.Challenge(p.t.Context(), lease, e, 0); err != nil {
			p.t.Logf("junk evidence, %s: refused: %v", name, err)
			continue
		}
		p.t.Errorf("junk evidence, %s: the lease is disputed", name)
		return "junk is heard"
	}
	return "junk is refused at the door"
}

// disputeTime is how long a dispute may take on this ledger, to its last draw.
func (p *place) disputeTime() (d time.Duration) {
	params, err := p.ledger.Params(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return time.Duration(params.Verdict*(params.Redraws+1)+params.Answer)*time.Second + patience
}
