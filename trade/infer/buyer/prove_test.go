package buyer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// dear are the rates of proven answers.
var dear = []square.Rate{
	{Unit: infer.UnitPrompt, PerMillion: 10_000_000},
	{Unit: infer.UnitCompletion, PerMillion: 25_000_000},
}

// nanoCard is the bundled model's.
var nanoCard = sync.OnceValue(func() []byte {
	p, err := proof.Commit(nano.Model())
	if err != nil {
		panic(err)
	}
	return p.Encode()
})

// prover is the bundled model's engine with a hook on what it proves.
type prover struct {
	provider.Prover
	prove func(q infer.Request, r infer.Result, first, n int) ([]byte, error)
	lie   atomic.Bool // answers with something else
}

func newProver() *prover {
	return &prover{Prover: provider.Exact(nano.Model()).(provider.Prover)}
}

func (p *prover) Prove(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
	if p.prove != nil {
		return p.prove(q, r, first, n)
	}
	return p.Prover.Prove(q, r, first, n)
}

func (p *prover) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	if !p.lie.Load() {
		return p.Prover.Run(ctx, job, emit)
	}
	out, err := p.Prover.Run(ctx, job, func(infer.Delta) error { return nil })
	if err != nil {
		return out, err
	}
	last := len(out.Result.Tokens) - 1
	out.Result.Tokens[last] ^= 1
	return out, emit(infer.Delta{Text: replay.Model{Model: nano.Model()}.Text(job.Request, out.Result), Tokens: last + 1})
}

// proving is a ledger that has the bundled model's card, and a provider that
// sells proven answers.
func proving(t *testing.T, e provider.Engine, models ...infer.Replayer) (*fake.Ledger, *stall) {
	t.Helper()
	l := infertest.NewLedger(models...)
	l.Cards[nano.Model().Digest()] = nanoCard()
	key := newKey(t)
	l.Fund(key.Address(), 1_000_000_000)
	if err := l.Bond(key.Address(), infer.Name, 900_000_000); err != nil {
		t.Fatal(err)
	}
	s := &stall{path: t.TempDir() + "/provider.db", addr: "127.0.0.1:0"}
	s.cfg = seller.Config{
		Key: key, ChainID: fake.ChainID, Ledger: fake.Account{Ledger: l, Self: key.Address()}, Tick: 20 * time.Millisecond,
	}
	s.sells = []provider.Service{{Engine: e, Price: provider.Price{Rates: rates, Proven: dear, Denom: square.Denom, Capacity: 32}}}
	s.start(t)
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return l, s
}

// proven is a request for a proven answer.
func proven(n int, tokens uint32) buyer.Ask {
	a := ask(nano.Model().Name(), n, tokens)
	a.Request.Temperature, a.Request.Seed = 700, square.Hash{byte(n)}
	a.Route.Policy = square.PolicyProve
	return a
}

func audited(t *testing.T, d *shop, id square.Hash) desk.Record {
	t.Helper()
	r, err := d.Receipt(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// TestProven: a proven answer streams before it is proven, is paid from a lease
// of its own at the offer's rates for it, and is told as proven once its proof
// has been checked.
func TestProven(t *testing.T) {
	t.Parallel()
	e := newProver()
	var streamed, began atomic.Int64
	e.prove = func(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
		if streamed.Load() == 0 {
			t.Error("proving began before anything was said")
		}
		began.Add(1)
		return e.Prover.Prove(q, r, first, n)
	}
	l, s := proving(t, e)
	d := buy(t, l, nil)
	emit := func(infer.Delta) error { streamed.Add(1); return nil }
	short, err := d.Do(t.Context(), proven(1, 12), emit)
	if err != nil {
		t.Fatal(err)
	}
	tokens, parts := uint32(250), int64(3) // from four windows: two parts
	if testing.Short() {
		tokens, parts = 10, 2
	}
	long, err := d.Do(t.Context(), proven(2, tokens), emit)
	if err != nil {
		t.Fatal(err)
	}
	if began.Load() != parts {
		t.Errorf("%d parts were proven, want %d", began.Load(), parts)
	}
	for _, a := range []buyer.Answer{short, long} {
		if a.Verified != square.PolicyProve {
			t.Errorf("verified by %q", a.Verified)
		}
		if r := audited(t, d, a.Receipt); r.Audit != desk.AuditProven || !strings.Contains(r.Note, "proof of") {
			t.Errorf("the receipt says %s: %s", r.Audit, r.Note)
		}
	}
	// 10 prompt tokens and 12 of completion, ten times as dear.
	if short.Cost.Units != 10*10+12*25 {
		t.Errorf("it cost %d", short.Cost.Units)
	}
	plain := proven(3, 12)
	plain.Route.Policy = ""
	ans, err := d.Do(t.Context(), plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ans.Cost.Units != 10+30 || ans.Lease == short.Lease || ans.Verified != "" || long.Lease != short.Lease {
		t.Errorf("an answer without a proof: %d, lease %s", ans.Cost.Units, ans.Lease.Short())
	}
	for _, x := range l.Leases() {
		if want := map[square.Hash]square.Policy{ans.Lease: square.PolicyAudit, short.Lease: square.PolicyProve}[x.ID]; x.Order.Policy != want {
			t.Errorf("lease %s is under %q", x.ID.Short(), x.Order.Policy)
		}
		// Few are asked with a proof: such a lease leaves the places to the others.
		if want := map[square.Policy]uint64{square.PolicyAudit: 8, square.PolicyProve: 2}[x.Order.Policy]; x.Order.Lanes != want {
			t.Errorf("a lease under %q has %d lanes, want %d", x.Order.Policy, x.Order.Lanes, want)
		}
	}
	ms, err := d.Models(t.Context())
	if err != nil || len(ms) != 1 || len(ms[0].Proven) != 2 || ms[0].Proven[1] != dear[1] {
		t.Errorf("models %+v, %v", ms, err)
	}
	// A client that goes away pays for what it got, and even that is proven.
	ctx, cancel := context.WithCancel(t.Context())
	cut, err := d.Do(ctx, proven(4, 400), func(infer.Delta) error { cancel(); return nil })
	if err != nil || cut.Result.Finish != infer.FinishCancelled {
		t.Fatalf("cancelled: %v, %v", cut.Result.Finish, err)
	}
	if r := audited(t, d, cut.Receipt); r.Audit != desk.AuditProven {
		t.Errorf("the cancelled answer's receipt says %s: %s", r.Audit, r.Note)
	}
	if st := s.Stats(); st.Failed != 0 {
		t.Errorf("%+v", st)
	}
	if err := d.CloseAll(t.Context()); err != nil || !l.Conserved() {
		t.Errorf("closing: %v", err)
	}
}

// TestProveRefusals: what cannot be proven is refused before anything is paid.
func TestProveRefusals(t *testing.T) {
	t.Parallel()
	l, _ := proving(t, newProver())
	d := buy(t, l, nil)
	embed := buyer.Ask{Model: nano.Model().Name(), Request: infer.Request{Kind: infer.Embed, Prompt: []byte("a")}}
	embed.Route.Policy = square.PolicyProve
	var we *wire.Refusal
	for what, a := range map[string]buyer.Ask{"an embedding": embed, "too long an answer": proven(1, 3000)} {
		if _, err := d.Do(t.Context(), a, nil); !errors.As(err, &we) || we.Code != wire.CodeBadRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, x := range l.Leases() {
		if x.Paid != 0 {
			t.Errorf("paid %d", x.Paid)
		}
	}
	// Nobody who proves.
	l2 := infertest.NewLedger()
	sell(t, l2, 16, provider.Exact(nano.Model()))
	d2 := buy(t, l2, nil)
	until(t, "an offer", func() bool { ms, _ := d2.Models(t.Context()); return len(ms) == 1 })
	if _, err := d2.Do(t.Context(), proven(1, 5), nil); !errors.Is(err, desk.ErrNoProvider) || !strings.Contains(err.Error(), "proof") {
		t.Errorf("from who does not prove: %v", err)
	}
	// A model without a card: its proofs could not be checked.
	l3, _ := proving(t, newProver())
	clear(l3.Cards)
	d3 := buy(t, l3, nil)
	if _, err := d3.Do(t.Context(), proven(1, 5), nil); !errors.Is(err, desk.ErrNoProvider) || !strings.Contains(err.Error(), "card") {
		t.Errorf("without a card: %v", err)
	}
}

// TestUnproven: a provider whose proof is wrong, missing, late or cut off is paid
// for the one answer and asked no more, and its lease ends; if the answer was a
// lie, the ledger takes its bond, also when nobody but the provider has the model.
func TestUnproven(t *testing.T) {
	t.Parallel()
	model := replay.Model{Model: nano.Model()}
	for _, c := range []struct {
		name  string
		lie   bool
		have  bool // the buyer has the model
		prove func(*prover) func(infer.Request, infer.Result, int, int) ([]byte, error)
		wrap  func(http.Handler) http.Handler
		words string
		audit desk.Audit
	}{
		{name: "a lie with its own proof", lie: true, words: "sampling rule", audit: desk.AuditSlashed},
		{name: "a lie, and the buyer has the model", lie: true, have: true, words: "sampling rule", audit: desk.AuditSlashed},
		{name: "a wrong proof", words: "proof refused", have: true, audit: desk.AuditUnproven, prove: func(p *prover) func(infer.Request, infer.Result, int, int) ([]byte, error) {
			return func(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
				b, err := p.Prover.Prove(q, r, first, n)
				b[len(b)-1000] ^= 1
				return b, err
			}
		}},
		{name: "another answer's proof", words: "proof", have: true, audit: desk.AuditUnproven, prove: func(p *prover) func(infer.Request, infer.Result, int, int) ([]byte, error) {
			return func(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
				q.Prompt = append(bytes.Clone(q.Prompt), '!')
				return p.Prover.Prove(q, r, first, n)
			}
		}},
		{name: "no proof", words: "out of order", have: true, audit: desk.AuditUnproven, prove: func(*prover) func(infer.Request, infer.Result, int, int) ([]byte, error) {
			return func(infer.Request, infer.Result, int, int) ([]byte, error) {
				return nil, errors.New("the prover is out of order")
			}
		}},
		{name: "late", words: "no proof within", have: true, audit: desk.AuditUnproven, wrap: proofDoor(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })},
		{name: "too large", words: "at most", have: true, audit: desk.AuditUnproven, wrap: proofDoor(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte{255, 255, 255, 255, 1})
		})},
		{name: "cut off", words: "ends at window", have: true, audit: desk.AuditUnproven, wrap: proofDoor(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, 1000), 1, 2, 3))
		})},
	} {
		if testing.Short() && c.wrap == nil && !(c.lie && c.have) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newProver()
			e.lie.Store(c.lie)
			if c.prove != nil {
				e.prove = c.prove(e)
			}
			var have []infer.Replayer
			if c.have {
				have = append(have, model)
			}
			l, s := proving(t, e, have...)
			if c.wrap != nil {
				s.stop()
				s.wrap = c.wrap
				s.start(t)
			}
			l.Machine.Params.Answer = 3
			d := buy(t, l, func(c *config) { c.Models, c.Proof = have, 20*time.Second })
			if c.name == "late" {
				d.stop()
				d.cfg.Proof = 300 * time.Millisecond
				d.start(t)
			}
			ans, err := d.Do(t.Context(), proven(1, 12), nil)
			if !errors.Is(err, desk.ErrUnproven) || !errors.Is(err, desk.ErrUnknown) || !strings.Contains(err.Error(), c.words) || ans.Verified != "" {
				t.Fatalf("verified by %q, %v", ans.Verified, err)
			}
			if _, err := d.Do(t.Context(), proven(2, 12), nil); err == nil {
				t.Error("it was asked again")
			}
			// The ledger moves on by itself.
			until(t, "the end", func() bool {
				for _, x := range l.Leases() {
					if x.State == market.Disputed {
						_ = fake.Account{Ledger: l}.Poke(t.Context(), x.ID) // only once its time is up
					}
				}
				r := audited(t, d, ans.Receipt)
				ended := true
				for _, x := range l.Leases() {
					ended = ended && (x.State.Terminal() || x.State == market.Draining)
				}
				return ended && r.Audit == c.audit
			})
			r := audited(t, d, ans.Receipt)
			x := l.Leases()[0]
			if c.audit == desk.AuditSlashed && (x.State != market.Slashed || x.Reason != market.ReasonUnproven || x.Dispute.Part != 0) {
				t.Errorf("the liar's lease is %s (%s)", x.State, x.Reason)
			}
			if c.audit == desk.AuditUnproven && (x.State == market.Slashed || !strings.Contains(r.Note, c.words)) {
				t.Errorf("the lease is %s (%s), the receipt says: %s", x.State, x.Reason, r.Note)
			}
			if paid := x.Paid; paid > ans.Cost.Units {
				t.Errorf("paid %d, more than the one answer's %d", paid, ans.Cost.Units)
			}
			if !l.Conserved() {
				t.Error("money was made or lost")
			}
		})
	}
}

// proofDoor answers calls for proofs.
func proofDoor(answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/proof") {
				_, _ = io.Copy(io.Discard, r.Body)
				answer(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

// TestFalseChallengeAnswered: a provider that is challenged over an honest answer
// proves it to the ledger by itself, also when it was restarted in between, and
// its lease goes on.
func TestFalseChallengeAnswered(t *testing.T) {
	t.Parallel()
	l, s := proving(t, newProver())
	l.Machine.Params.Answer = 600
	d := buy(t, l, nil)
	tokens, parts := uint32(200), uint64(2)
	if testing.Short() {
		tokens, parts = 10, 1
	}
	ans, err := d.Do(t.Context(), proven(1, tokens), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := audited(t, d, ans.Receipt).Evidence
	before, _ := l.Balance(s.cfg.Key.Address())
	stranger := fake.Account{Ledger: l, Self: newKey(t).Address()}
	l.Fund(stranger.Self, 10_000_000)
	for part := range parts {
		if part == 1 {
			s.stop()
		}
		if err := stranger.Challenge(t.Context(), ans.Lease, e, part); err != nil {
			t.Fatal(err)
		}
		if part == 1 {
			s.start(t)
		}
		until(t, "an answer to the challenge", func() bool { return l.Count("prove") == int(part)+1 })
	}
	x := l.Leases()[0]
	if x.State != market.Active || x.Heard != parts || x.Bond == 0 {
		t.Errorf("the lease is %s, heard %d, bond %d", x.State, x.Heard, x.Bond)
	}
	if now, _ := l.Balance(s.cfg.Key.Address()); now < before+parts*100_000 {
		t.Errorf("the challenger's bonds did not come: %d, then %d", before, now)
	}
}

// TestProofDoor: a provider proves only the last answer of a lane, to who knows
// its request, and not for ever.
func TestProofDoor(t *testing.T) {
	t.Parallel()
	l, s := proving(t, newProver())
	d := buy(t, l, nil)
	ans, err := d.Do(t.Context(), proven(1, 3), nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := proven(2, 3)
	plain.Route.Policy = ""
	audit, err := d.Do(t.Context(), plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := infer.ProofRequest{Lease: ans.Lease, Lane: ans.Signed.Receipt.Lane, Seq: 1, Request: proven(1, 3).Request.Encode()}
	call := func(change func(*infer.ProofRequest)) *httptest.ResponseRecorder {
		r := good
		change(&r)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, s.request(t, d, "infer/proof", r.Lease, r.Lane, r))
		return w
	}
	for what, c := range map[string]struct {
		status int
		change func(*infer.ProofRequest)
	}{
		"another request":   {409, func(r *infer.ProofRequest) { r.Request = proven(1, 4).Request.Encode() }},
		"another answer":    {409, func(r *infer.ProofRequest) { r.Seq = 2 }},
		"no answer":         {409, func(r *infer.ProofRequest) { r.Seq = 0 }},
		"another lane":      {404, func(r *infer.ProofRequest) { r.Lane = 77 }},
		"another lease":     {404, func(r *infer.ProofRequest) { r.Lease[0] ^= 1 }},
		"a lease of audits": {400, func(r *infer.ProofRequest) { r.Lease = audit.Lease }},
		"a second time":     {200, func(*infer.ProofRequest) {}},
	} {
		if w := call(c.change); w.Code != c.status {
			t.Errorf("%s: %d %s", what, w.Code, w.Body.String()[:min(200, w.Body.Len())])
		}
	}
	if w := call(func(*infer.ProofRequest) {}); w.Code != 200 {
		t.Errorf("a third time: %d", w.Code)
	}
	if w := call(func(*infer.ProofRequest) {}); w.Code != http.StatusTooManyRequests {
		t.Errorf("a fourth time: %d", w.Code)
	}
}

// TestProvenAfterBreak: an answer whose receipt was lost on the way is taken over
// with its proof, before its lane pays for another.
func TestProvenAfterBreak(t *testing.T) {
	t.Parallel()
	l, s := proving(t, newProver())
	var served, lanes, proofs atomic.Int64
	s.stop()
	s.wrap = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/serve") && served.Add(1) <= 2: // the request, and the same again
				h.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			case strings.HasSuffix(r.URL.Path, "/lane") && lanes.Add(1) == 1: // the chores find out
				panic(http.ErrAbortHandler)
			case strings.HasSuffix(r.URL.Path, "/proof"):
				if proofs.Add(1) == 1 && served.Load() > 2 {
					t.Error("the lane was used again before its answer was proven")
				}
			}
			h.ServeHTTP(w, r)
		})
	}
	s.start(t)
	d := buy(t, l, func(c *config) { c.Lanes = 1 })
	if _, err := d.Do(t.Context(), proven(1, 12), nil); !errors.Is(err, desk.ErrUnknown) || errors.Is(err, desk.ErrUnproven) {
		t.Fatalf("a lost receipt: %v", err)
	}
	until(t, "the proof", func() bool {
		rs, _, err := d.Receipts(t.Context(), desk.Filter{}, time.Time{}, 10)
		return err == nil && len(rs) == 1 && rs[0].Audit == desk.AuditProven
	})
	if ans, err := d.Do(t.Context(), proven(2, 12), nil); err != nil || ans.Verified != square.PolicyProve {
		t.Errorf("the next: %q, %v", ans.Verified, err)
	}
}

// TestCrashBeforeProof: whoever starts again between an answer and its proof
// audits the answer, for no proof is asked for any more.
func TestCrashBeforeProof(t *testing.T) {
	t.Parallel()
	e := newProver()
	model := replay.Model{Model: nano.Model()}
	l, _ := proving(t, e, model)
	var d *shop
	crash := filepath.Join(t.TempDir(), "buyer.db")
	e.prove = func(q infer.Request, r infer.Result, first, n int) ([]byte, error) {
		for _, end := range []string{"", ".log"} { // what a killed process leaves
			b, err := os.ReadFile(d.path + end)
			if err == nil {
				err = os.WriteFile(crash+end, b, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		}
		copySegments(t, d.path, crash)
		return e.Prover.Prove(q, r, first, n)
	}
	d = buy(t, l, func(c *config) { c.Models = []infer.Replayer{model} })
	ans, err := d.Do(t.Context(), proven(1, 12), nil)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the lease free of audits", func() bool { return d.CloseAll(t.Context()) == nil })
	d.stop()
	if d.path = crash; t.Failed() {
		t.FailNow()
	}
	d.start(t)
	if rec := audited(t, d, ans.Receipt); rec.Audit != desk.AuditUnproven {
		t.Fatalf("the crash came too late: %q", rec.Audit)
	}
	until(t, "an audit of the answer", func() bool {
		return strings.Contains(audited(t, d, ans.Receipt).Note, "re-executed here the answer is right")
	})
}
