package desk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/wire"
)

const chainID = "torg-test-1"

var domain = square.LedgerDomain(chainID)

// upper is a trade of results: the job's letters in upper case, by the letter. Any
// offer fits any job.
type upper struct{}

func (upper) Name() string                                        { return "upper" }
func (upper) Units() []string                                     { return []string{"letter"} }
func (r upper) CheckOffer(o square.Offer) error                   { return trade.CheckRates(r, o.Rates) }
func (r upper) CheckOrder(o square.Order) error                   { return trade.CheckRates(r, o.MaxRates) }
func (upper) Fits(square.Offer, square.Order) error               { return nil }
func (upper) JudgeGas(trade.Case) (uint64, error)                 { return 0, nil }
func (upper) Rates(o square.Offer, _ square.Policy) []square.Rate { return o.Rates }
func (upper) Place([]square.Rate) uint64                          { return 0 }
func (upper) Audits(square.Hash) bool                             { return true }

func (upper) Judge(c trade.Case) (square.Verdict, error) {
	if bytes.Equal(bytes.ToUpper(c.Request), c.Result) && slices.Equal(c.Receipt.Units, []uint64{uint64(len(c.Result))}) {
		return square.VerdictOK, nil
	}
	return square.VerdictFraud, nil
}

func (upper) Verify(_ square.Offer, job []byte, s wire.Signed) error {
	if len(s.Result) != len(job) || !slices.Equal(s.Receipt.Units, []uint64{uint64(len(job))}) {
		return fmt.Errorf("%d letters were metered for %d", s.Receipt.Units, len(job))
	}
	return nil
}

func (u upper) Audit(_ context.Context, r desk.Record) (square.Verdict, uint64, error) {
	v, err := u.Judge(trade.Case{Evidence: r.Evidence})
	return v, 0, err
}

// ledger is the lease machine over memory, with what the ledger checks before it.
type ledger struct {
	machine market.Machine

	mu     sync.Mutex
	mem    *market.Memory
	base   time.Time
	start  time.Time
	height uint64
	deaf   bool // no transaction is carried out
	asked  map[square.Hash]question
}

type question struct{ key, answer []byte }

func newLedger() *ledger {
	p := market.Default()
	p.Notice, p.Answer, p.DisputeCost, p.JudgeFee = 1, 30, 1000, 10
	return &ledger{
		machine: market.Machine{Params: p, Fits: upper{}.Fits}, mem: market.NewMemory(),
		base: time.Unix(1_800_000_000, 0), start: time.Now(), asked: map[square.Hash]question{},
	}
}

// hurry moves the clock to when something is due in leases that are in one of some
// states: their deadline, or, of a claim, when it is time to say that it is withheld.
func (l *ledger) hurry(in ...market.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.mem.Leases() {
		due := m.Deadline + 2
		if m.State == market.Claimed {
			due = m.Deadline - int64(m.Order.Challenge/2) + 1
		}
		if now := l.now(); slices.Contains(in, m.State) && !(m.State == market.Claimed && m.Asked) && now < due {
			l.base = l.base.Add(time.Duration(due-now) * time.Second)
		}
	}
}

func (l *ledger) now() int64 { return l.base.Add(time.Since(l.start)).Unix() }

func (l *ledger) do(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return desk.ErrStalled
	}
	if err := l.mem.Atomically(f); err != nil {
		return err
	}
	l.height++
	for _, x := range l.mem.Leases() { // draws
		if admit, err := l.machine.Invitable(l.mem, l.now(), x.ID); err == nil {
			for k, st := range l.mem.Stakes() {
				if admit(k.Provider, st) == "" {
					if _, err := l.machine.Invite(l.mem, l.now(), x.ID, k.Provider); err != nil {
						return err
					}
					break
				}
			}
		}
	}
	return nil
}

func (l *ledger) conserved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Total(square.Denom) == l.mem.Balance(market.Minted, square.Denom)
}

func (l *ledger) leases() []market.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Leases()
}

// account is the ledger as one account sees it.
type account struct {
	*ledger
	self square.Address
}

var _ desk.ResultLedger = account{}

func (a account) Head(context.Context) (chain.Head, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return chain.Head{Height: a.height + uint64(a.now()), Time: time.Unix(a.now(), 0)}, nil
}

func (a account) Offers(context.Context, string) (out []square.Offer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.mem.Offers() {
		out = append(out, o.Offer)
	}
	return out, nil
}

func (a account) Lease(_ context.Context, id square.Hash) (market.Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mem.Lease(id)
}

func (a account) Balance(_ context.Context, denom string) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mem.Balance(market.Account(a.self), denom), nil
}

func (a account) Card(context.Context, square.Hash) ([]byte, error) { return nil, market.ErrNotFound }

func (a account) Open(_ context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	return a.do(func() error {
		if err := q.Verify(domain, sig); err != nil {
			return err
		}
		_, err := a.machine.OpenMatched(a.mem, a.now(), o.ID(domain), o, q, q.Digest(domain))
		return err
	})
}

func (a account) Place(_ context.Context, o square.Order) error {
	return a.do(func() error {
		_, err := a.machine.Open(a.mem, a.now(), o.ID(domain), o)
		return err
	})
}

func (a account) Match(_ context.Context, q square.Quote, sig square.Signature) error {
	return a.do(func() error {
		if err := q.Verify(domain, sig); err != nil {
			return err
		}
		_, err := a.machine.Match(a.mem, a.now(), q, q.Digest(domain))
		return err
	})
}

func (a account) Close(context.Context, square.Hash, *chain.Consent) error {
	return errors.New("no stream here")
}

func (a account) Poke(_ context.Context, id square.Hash) error {
	return a.do(func() error { _, err := a.machine.Poke(a.mem, a.now(), a.self, id); return err })
}

func (a account) Accept(_ context.Context, id square.Hash) error {
	return a.do(func() error { _, err := a.machine.Accept(a.mem, a.now(), a.self, id); return err })
}

// Challenge is judged at once.
func (a account) Challenge(_ context.Context, id square.Hash, e square.Evidence, _ uint64) error {
	return a.do(func() error {
		m, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		if m.Receipt == nil || m.Receipt.Digest(domain) != e.Receipt.Digest(domain) || !e.Opens() {
			return errors.New("the evidence is for something else")
		}
		if err := e.Receipt.Verify(domain, m.Provider, e.Sig); err != nil {
			return err
		}
		v, err := upper{}.Judge(trade.Case{Evidence: e, Lease: m})
		if err != nil {
			return err
		}
		if _, err := a.machine.Challenge(a.mem, a.now(), a.self, id, market.Charge{Way: market.ByJudges, Evidence: e.Hash(domain), Value: e.Receipt.Price}, a.machine.LeastBond(m.Order, e.Receipt.Price)); err != nil {
			return err
		}
		_, err = a.machine.Judge(a.mem, a.now(), id, v)
		return err
	})
}

func (a account) Withhold(_ context.Context, id square.Hash, key []byte) error {
	return a.do(func() error {
		m, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		a.asked[id] = question{key: key}
		_, err = a.machine.Withhold(a.mem, a.now(), a.self, id, a.machine.LeastBond(m.Order, m.Receipt.Price))
		return err
	})
}

func (a account) Answer(_ context.Context, id square.Hash) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.asked[id]
	if !ok || q.answer == nil {
		return nil, market.ErrNotFound
	}
	return q.answer, nil
}

func (a account) Unseal(_ context.Context, id square.Hash, key []byte) error {
	return a.do(func() error {
		m, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		v := square.VerdictFraud
		if plain, err := square.Unseal(key, id, a.asked[id].answer); err == nil && sha256.Sum256(plain) == m.Receipt.Result {
			v = square.VerdictOK
		}
		if _, err := a.machine.Challenge(a.mem, a.now(), a.self, id, market.Charge{Way: market.ByJudges, Evidence: sha256.Sum256(key), Value: m.Receipt.Price}, a.machine.LeastBond(m.Order, m.Receipt.Price)); err != nil {
			return err
		}
		_, err = a.machine.Judge(a.mem, a.now(), id, v)
		return err
	})
}

// worker sells upper case, as honestly as it is told to.
type worker struct {
	account
	key   square.Key
	offer square.Offer
	bond  uint64

	lies    atomic.Bool // the result is another
	short   atomic.Bool // and shorter than what is charged
	mute    atomic.Bool // hands nothing over on the wire
	deafly  atomic.Bool // and answers nothing on the ledger
	junk    atomic.Bool // seals junk
	idle    atomic.Bool // does nothing with the job
	refuses atomic.Bool // gives no quotes

	mu     sync.Mutex
	jobs   map[square.Hash][]byte
	signed map[square.Hash]wire.Signed
	posts  map[string]int
}

func newKey(t testing.TB) square.Key {
	t.Helper()
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hire has a worker with a stake offer its work for so much a letter.
func hire(t *testing.T, l *ledger, stake, perLetter uint64) *worker {
	t.Helper()
	k := newKey(t)
	w := &worker{
		account: account{l, k.Address()}, key: k, bond: 2_000_000,
		jobs: map[square.Hash][]byte{}, signed: map[square.Hash]wire.Signed{}, posts: map[string]int{},
	}
	web := httptest.NewServer(w)
	w.offer = square.Offer{
		Provider: w.self, Trade: "upper", Spec: square.Hash{7}, Subject: "letters", Denom: square.Denom, Capacity: 100, Endpoint: web.URL,
		Rates: []square.Rate{{Unit: "letter", PerMillion: perLetter * 1_000_000}}, Expiry: l.now() + 3600, Nonce: 1,
	}
	if err := l.do(func() error {
		if err := l.mem.Fund(w.self, square.Utorg(100_000_000)); err != nil {
			return err
		}
		if stake == 0 {
			w.bond = 0
		} else {
			if _, err := l.machine.Bond(l.mem, l.now(), w.self, "upper", square.Utorg(stake)); err != nil {
				return err
			}
			if _, err := l.machine.Enlist(l.mem, l.now(), market.StakeKey{Provider: w.self, Trade: "upper", Denom: square.Denom}, true); err != nil {
				return err
			}
		}
		_, err := l.machine.PostOffer(l.mem, l.now(), w.offer.ID(domain), w.offer)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var works sync.WaitGroup
	works.Go(func() {
		for ctx.Err() == nil {
			w.work()
			time.Sleep(5 * time.Millisecond)
		}
	})
	t.Cleanup(func() { stop(); works.Wait(); web.Close() })
	return w
}

func (w *worker) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, wire.PathPrefix)
	refuse := func(code, why string) {
		out.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(out).Encode(wire.Refusal{Code: code, Message: why})
	}
	call, who, err := wire.ParseCall(domain, w.self, path, r.Header.Get("Authorization"), nil)
	if err != nil {
		refuse(wire.CodeCaller, err.Error())
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posts[path]++
	switch path {
	case "quote":
		var q wire.QuoteRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || who != q.Order.Buyer || call.Lease != q.Order.ID(domain) {
			refuse(wire.CodeCaller, "not the buyer")
			return
		}
		if w.refuses.Load() {
			refuse(wire.CodeTerms, "not today")
			return
		}
		lease := q.Order.ID(domain)
		if q.Order.Policy == square.PolicyReplicate {
			lease = market.ReplicaID(lease, q.Nth)
		}
		w.ledger.mu.Lock()
		now := w.now()
		w.ledger.mu.Unlock()
		quote := square.Quote{
			Provider: w.self, Order: lease, Offer: w.offer.ID(domain), Spec: w.offer.Spec, Rates: w.offer.Rates, Bond: w.bond,
			Ready: true, Expiry: now + 20, Nonce: sha256.Sum256(fmt.Appendf(nil, "%x %d", lease, w.posts[path])),
		}
		_ = json.NewEncoder(out).Encode(wire.QuoteReply{Quote: quote, Sig: w.key.Sign(quote.Digest(domain))})
	case "job", "result":
		m, err := w.Lease(r.Context(), call.Lease)
		if err != nil || who != m.Order.Authorizer || m.Provider != w.self {
			refuse(wire.CodeCaller, "not the authorizer")
			return
		}
		if path == "job" {
			var q wire.JobRequest
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Lease != call.Lease || sha256.Sum256(q.Job) != m.Order.Request {
				refuse(wire.CodeBadRequest, "not the job")
				return
			}
			w.jobs[call.Lease] = q.Job
			out.WriteHeader(http.StatusNoContent)
			return
		}
		if w.mute.Load() {
			panic(http.ErrAbortHandler)
		}
		s, ok := w.signed[call.Lease]
		if !ok || !m.Of.IsZero() && m.Agreed.IsZero() {
			_ = json.NewEncoder(out).Encode(wire.ResultReply{Busy: true})
			return
		}
		_ = json.NewEncoder(out).Encode(wire.ResultReply{Signed: &s})
	default:
		refuse(wire.CodeUnknown, "no such path")
	}
}

// work does what is due on the ledger.
func (w *worker) work() {
	for _, m := range w.leases() {
		if m.Provider != w.self || m.State.Terminal() {
			continue
		}
		w.mu.Lock()
		job, ok := w.jobs[m.ID]
		s := w.signed[m.ID]
		w.mu.Unlock()
		if !ok || w.idle.Load() {
			continue
		}
		_ = w.do(func() (err error) { // what fails is tried again
			switch m.State {
			case market.Active:
				s = w.sign(m, job)
				if !m.Of.IsZero() {
					_, err = w.machine.Commit(w.mem, w.now(), w.self, m.ID, square.Commitment(s.Receipt.Digest(domain), s.Sig))
				} else {
					_, err = w.machine.Claim(w.mem, w.now(), w.self, m.ID, s.Receipt)
				}
			case market.Showing:
				_, err = w.machine.Show(w.mem, w.now(), w.self, m.ID, s.Receipt, square.Commitment(s.Receipt.Digest(domain), s.Sig))
			case market.Owed:
				if w.deafly.Load() {
					return errors.New("not a word")
				}
				plain := s.Result
				if w.junk.Load() {
					plain = []byte("junk")
				}
				q := w.asked[m.ID]
				if q.answer, err = square.Seal(q.key, m.ID, plain); err != nil {
					return err
				}
				w.asked[m.ID] = q
				_, err = w.machine.Answer(w.mem, w.now(), w.self, m.ID, sha256.Sum256(q.answer), 0)
			default:
				err = errors.New("nothing is due")
			}
			return err
		})
	}
}

func (w *worker) sign(m market.Lease, job []byte) wire.Signed {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.signed[m.ID]; ok {
		return s
	}
	s := wire.Signed{Result: bytes.ToUpper(job)}
	if w.lies.Load() {
		s.Result = bytes.Repeat([]byte("X"), len(job))
	}
	if w.short.Load() {
		s.Result = s.Result[1:]
	}
	price, _ := square.Price(m.Rates, []uint64{uint64(len(job))})
	s.Receipt = square.Receipt{
		Lease: m.ID, Seq: 1, Subject: m.Order.Spec, Request: m.Order.Request, Result: sha256.Sum256(s.Result),
		Units: []uint64{uint64(len(job))}, Price: price, Cumulative: price,
	}
	s.Sig = w.key.Sign(s.Receipt.Digest(domain))
	w.signed[m.ID] = s
	return s
}
