package buyer_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/wire"
)

// crooked changes the frames that a provider sends on serve; lane is left as it
// is. A frame that becomes nil ends the answer.
func crooked(change func(n int, f *infer.Frame) *infer.Frame) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/serve") {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code != http.StatusOK {
				w.WriteHeader(rec.Code)
				_, _ = w.Write(rec.Body.Bytes())
				return
			}
			in := bufio.NewScanner(rec.Body)
			for n := 0; in.Scan(); n++ {
				var f infer.Frame
				if json.Unmarshal(in.Bytes(), &f) != nil {
					panic("not a frame")
				}
				out := change(n, &f)
				if out == nil {
					panic(http.ErrAbortHandler)
				}
				b, _ := json.Marshal(out)
				_, _ = w.Write(append(b, '\n'))
				w.(http.Flusher).Flush()
			}
		})
	}
}

// TestCrookedProvider: what does not verify is not paid, and its provider is
// asked no more.
func TestCrookedProvider(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	domain := square.LedgerDomain(fake.ChainID)
	for _, c := range []struct {
		name    string
		forge   func(k square.Key, s *wire.Signed)
		shunned bool
	}{
		{"signed by another", func(_ square.Key, s *wire.Signed) {
			o, _ := square.NewKey()
			s.Sig = o.Sign(s.Receipt.Digest(domain))
		}, true},
		{"price above the units", func(k square.Key, s *wire.Signed) {
			s.Receipt.Price++
			s.Receipt.Cumulative++
			s.Sig = k.Sign(s.Receipt.Digest(domain))
		}, true},
		{"sum too high", func(k square.Key, s *wire.Signed) {
			s.Receipt.Cumulative++
			s.Sig = k.Sign(s.Receipt.Digest(domain))
		}, true},
		{"another request", func(k square.Key, s *wire.Signed) {
			s.Receipt.Request[0] ^= 1
			s.Sig = k.Sign(s.Receipt.Digest(domain))
		}, true},
		{"another result", func(k square.Key, s *wire.Signed) {
			s.Result = infer.Result{Kind: infer.Exact, Finish: infer.FinishStop, Tokens: []uint16{1, 2, 3}}.Encode()
		}, true},
		{"more units than tokens", func(k square.Key, s *wire.Signed) {
			s.Receipt.Units[0]++
			s.Receipt.Units[1]++
			s.Receipt.Price, _ = square.Price(rates, s.Receipt.Units)
			s.Receipt.Cumulative = s.Receipt.Price
			s.Sig = k.Sign(s.Receipt.Digest(domain))
		}, true},
		{"number out of turn", func(k square.Key, s *wire.Signed) {
			s.Receipt.Seq++
			s.Sig = k.Sign(s.Receipt.Digest(domain))
		}, true},
		{"left out", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := infertest.NewLedger(toy)
			s := sell(t, l, 16, toy)
			s.stop()
			s.wrap = crooked(func(n int, f *infer.Frame) *infer.Frame {
				if f.Receipt != nil {
					if c.forge == nil {
						return nil
					}
					c.forge(s.cfg.Key, f.Receipt)
				}
				return f
			})
			s.start(t)
			d := buy(t, l, nil)
			_, err := d.Do(t.Context(), ask("toy", 1, 3), func(infer.Delta) error { return nil })
			if !errors.Is(err, desk.ErrUnknown) {
				t.Fatalf("%v, want ErrUnknown", err)
			}
			_, err = d.Do(t.Context(), ask("toy", 2, 3), nil)
			if shunned := errors.Is(err, buyer.ErrNoModel); shunned != c.shunned {
				t.Errorf("asked again: %v", err)
			}
			recs, _, err := d.Receipts(t.Context(), desk.Filter{}, time.Time{}, 10)
			if err != nil || (len(recs) > 0) == c.shunned {
				t.Errorf("%d receipts are stored, %v", len(recs), err)
			}
		})
	}
}

// TestOpaqueFaults: an upstream server that fails in the middle is paid for
// what it gave; one that fails before is not paid.
func TestOpaqueFaults(t *testing.T) {
	var script atomic.Pointer[[]string]
	script.Store(&[]string{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range *script.Load() {
			fmt.Fprintf(w, "data: %s\n\n", e)
			w.(http.Flusher).Flush()
		}
		panic(http.ErrAbortHandler) // the connection breaks
	}))
	defer up.Close()
	l := infertest.NewLedger()
	sell(t, l, 16, provider.Upstream{Base: up.URL, Idle: time.Second}.Engine(provider.Model{Name: "up", Subject: infer.Subject("up")}))
	d := buy(t, l, nil)
	body := []byte(`{"messages":[{"role":"user","content":"a question of some length"}],"max_tokens":20}`)
	do := func() (buyer.Answer, int, error) {
		n := 0
		ans, err := d.Do(t.Context(), buyer.Ask{Model: "up", Stream: true, Request: infer.Request{Kind: infer.Opaque, Prompt: body}}, func(infer.Delta) error { n++; return nil })
		return ans, n, err
	}
	_, n, err := do()
	if err == nil || n != 0 || errors.Is(err, desk.ErrUnknown) {
		t.Errorf("before any output: %d pieces, %v", n, err)
	}
	script.Store(&[]string{`{"choices":[{"delta":{"content":"one"}}]}`, `{"choices":[{"delta":{"content":"two"}}]}`})
	ans, n, err := do()
	want, _ := square.Price(rates, []uint64{uint64(len(body)) / 8, 2})
	if err != nil || n != 2 || ans.Result.Finish != infer.FinishError || ans.Cost.Units != want || string(ans.Result.Text) != "onetwo" {
		t.Errorf("half a stream: %d pieces, %+v, %v; want a cost of %d", n, ans.Result, err, want)
	}
	if end := settle(t, l, d); end.Paid != want {
		t.Errorf("paid %d, want %d", end.Paid, want)
	}
}

// TestBuyerDiskFull: nothing is sent that is not on disk, and nothing is lost.
func TestBuyerDiskFull(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	d := buy(t, l, nil)
	d.stop()
	store, err := journal.Open(d.path, desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	disk := &faulty{Store: store}
	cfg := d.cfg
	cfg.Store = disk
	opened, asks, err := cfg.open()
	if err != nil {
		t.Fatal(err)
	}
	a, err := asks.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	if _, err := asks.Do(t.Context(), ask("toy", 1, 3), nil); err == nil || errors.Is(err, desk.ErrUnknown) {
		t.Fatalf("with a full disk: %v", err)
	}
	if got := s.Stats().Served; got != 1 {
		t.Errorf("%d requests reached the provider, want 1", got)
	}
	disk.full.Store(false)
	b, err := asks.Do(t.Context(), ask("toy", 2, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if end := l.Leases()[0]; end.Paid != a.Cost.Units+b.Cost.Units {
		t.Errorf("paid %d, want %d", end.Paid, a.Cost.Units+b.Cost.Units)
	}
	opened.Close()
}

// TestSilentProvider: one that says nothing is given up, and another answers.
func TestSilentProvider(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	mute, good := sell(t, l, 8, toy), sell(t, l, 8, toy)
	mute.stop()
	mute.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/serve") {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	mute.start(t)
	d := buy(t, l, func(c *config) { c.Silence = 100 * time.Millisecond })
	a := ask("toy", 1, 3)
	a.Route.Order = []string{mute.Address().String()}
	ans, err := d.Do(t.Context(), a, nil)
	if err != nil || ans.Provider != good.Address() {
		t.Fatalf("answered by %v, %v", ans.Provider, err)
	}
	// The mute one was asked how the lane stands: nothing was charged.
	waitFor(t, "the lane", func() bool {
		models, err := d.Models(t.Context())
		for _, m := range models {
			if m.Provider == mute.Address() {
				return err == nil && m.Free == 4 && m.Failures > 0
			}
		}
		return false
	})
}

// TestLostReceipt: an answer whose receipt never came is asked for, and paid
// for, by the lane's own word.
func TestLostReceipt(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.stop()
	s.wrap = crooked(func(_ int, f *infer.Frame) *infer.Frame {
		if f.Receipt != nil {
			return nil
		}
		return f
	})
	s.start(t)
	d := buy(t, l, nil)
	var got bytes.Buffer
	ans, err := d.Do(t.Context(), ask("toy", 1, 3), func(p infer.Delta) error { got.WriteString(p.Text); return nil })
	if !errors.Is(err, desk.ErrUnknown) || ans.Cost.Units == 0 || got.Len() != 3 {
		t.Fatalf("%q for %v, %v", got.String(), ans.Cost, err)
	}
	if _, err := d.Receipt(t.Context(), ans.Receipt); err != nil {
		t.Error(err)
	}
	if end := settle(t, l, d); end.Paid != ans.Cost.Units {
		t.Errorf("paid %d, want %d", end.Paid, ans.Cost.Units)
	}
}

// TestOneConnection: requests one after the other, streamed or not, share a
// connection.
func TestOneConnection(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.stop()
	var mu sync.Mutex
	from := map[string]int{}
	s.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/serve") {
				mu.Lock()
				from[r.RemoteAddr]++
				mu.Unlock()
			}
			h.ServeHTTP(w, r)
		})
	}
	s.start(t)
	d := buy(t, l, nil)
	for n := range 40 {
		a := ask("toy", n, 3)
		a.Stream = n%2 == 0
		if _, err := d.Do(t.Context(), a, nil); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(from) > 2 { // the chores may have taken one meanwhile
		t.Errorf("40 requests came over %d connections: %v", len(from), from)
	}
}

// TestBrokenOff: a connection that breaks before the first piece is tried again,
// and one answer is charged.
func TestBrokenOff(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	s.stop()
	var broke atomic.Int64
	s.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/serve") {
				switch broke.Add(1) {
				case 1:
					panic(http.ErrAbortHandler) // before the work
				case 3:
					h.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler) // after it
				}
			}
			h.ServeHTTP(w, r)
		})
	}
	s.start(t)
	d := buy(t, l, nil)
	var sum uint64
	for i := range 3 {
		var got strings.Builder
		ans, err := d.Do(t.Context(), ask("toy", i, 5), func(p infer.Delta) error { got.WriteString(p.Text); return nil })
		if err != nil || got.Len() != 5 {
			t.Fatalf("request %d: %q, %v", i, got.String(), err)
		}
		sum += ans.Cost.Units
	}
	if end := settle(t, l, d); end.Paid != sum || s.Stats().Served != 3 {
		t.Errorf("paid %d for %d, served %d", end.Paid, sum, s.Stats().Served)
	}
}

// FuzzFrames: whatever a provider answers, nothing falls over and nothing that
// does not verify is taken.
func FuzzFrames(f *testing.F) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	var answer atomic.Pointer[[]byte]
	s := sell(f, l, 16, toy)
	s.stop()
	s.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/serve") {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = w.Write(*answer.Load())
				return
			}
			h.ServeHTTP(w, r)
		})
	}
	s.start(f)
	d := buy(f, l, func(c *config) { c.Silence, c.Shun = time.Second, time.Nanosecond })
	for _, seed := range []string{
		"", "{}\n", "null\n", `{"start":{"cancel":"x"}}` + "\n" + `{"delta":{"text":"a","tokens":1}}` + "\n", `{"receipt":{}}` + "\n",
		`{"error":{"code":"busy","message":"later"}}` + "\n", `{"error":{"code":"closed","message":"x"}}` + "\n", `{"delta":{"raw":"AAAA"}}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer.Store(&b)
		if _, err := d.Do(t.Context(), ask("toy", 1, 3), func(infer.Delta) error { return nil }); err == nil {
			t.Fatalf("%q was taken for an answer", b)
		}
	})
}

// TestProviderMoves: a provider that comes back at another address is found
// there, on the lease it had.
func TestProviderMoves(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	s := sell(t, l, 16, toy)
	d := buy(t, l, func(c *config) { c.Refresh = 20 * time.Millisecond })
	a, err := d.Do(t.Context(), ask("toy", 0, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.addr = "127.0.0.1:0"
	s.start(t)
	var b buyer.Answer
	waitFor(t, "the provider's new place", func() bool {
		b, err = d.Do(t.Context(), ask("toy", 1, 3), nil)
		return err == nil
	})
	if a.Lease != b.Lease {
		t.Error("a new lease was opened")
	}
	if end := settle(t, l, d); end.Paid != a.Cost.Units+b.Cost.Units {
		t.Errorf("paid %d, want %d", end.Paid, a.Cost.Units+b.Cost.Units)
	}
}

// TestThroughputOfAWholeAnswer: an answer in one piece was not made in the time
// after its first piece.
func TestThroughputOfAWholeAnswer(t *testing.T) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(t, l, 4, toy)
	d := buy(t, l, nil)
	q := ask("toy", 1, 50)
	q.Stream = false
	ans, err := d.Do(t.Context(), q, nil)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := d.Models(t.Context())
	if err != nil || len(ms) == 0 {
		t.Fatal(ms, err)
	}
	if most := float64(ans.Signed.Receipt.Units[1]) / ans.TTFT.Seconds(); ans.TTFT == 0 || ms[0].Throughput > most {
		t.Errorf("%d tokens in %v are told as %.0f a second", ans.Signed.Receipt.Units[1], ans.TTFT, ms[0].Throughput)
	}
}

// TestMeteredTooMuch: an upstream server's provider is not believed that so
// little text was so many tokens, nor that the prompt had more than it can have,
// though the sum is within what was vouched for.
func TestMeteredTooMuch(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	defer up.Close()
	l := infertest.NewLedger()
	domain := square.LedgerDomain(fake.ChainID)
	for i, c := range []struct {
		unit  int
		more  uint64
		taken bool
	}{{1, 20, true}, {1, 200, false}, {0, 200, true}, {0, 400, false}} {
		model := fmt.Sprint("model ", i)
		s := sell(t, l, 16, provider.Upstream{Base: up.URL}.Engine(provider.Model{Name: model, Subject: infer.Subject(model)}))
		s.stop()
		s.wrap = crooked(func(_ int, f *infer.Frame) *infer.Frame {
			if f.Receipt != nil {
				r := &f.Receipt.Receipt
				r.Units[c.unit] += c.more
				r.Price, _ = square.Price(rates, r.Units)
				r.Cumulative = r.Price
				f.Receipt.Sig = s.cfg.Key.Sign(r.Digest(domain))
			}
			return f
		})
		s.start(t)
		d := buy(t, l, nil)
		ask := buyer.Ask{Model: model, Request: infer.Request{Kind: infer.Opaque, Prompt: []byte(`{"messages":[],"max_tokens":1000}`)}}
		if _, err := d.Do(t.Context(), ask, nil); (err == nil) != c.taken {
			t.Errorf("%d tokens of unit %d more than there were: %v", c.more, c.unit, err)
		}
	}
}
