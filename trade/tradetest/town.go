package tradetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// patience bounds every wait for something that is to happen.
const patience = 2 * time.Minute

// purse is what each party starts with, in base units; most of a seller's is its stake.
const purse, stake = 1_000_000_000, 900_000_000

// wait is longer than an order that was not opened can be.
const wait = time.Minute

func hash(b []byte) square.Hash { return sha256.Sum256(b) }

// town is a ledger with a seller and a buyer.
type town struct {
	*testing.T
	rules  trade.Rules
	sold   func(*goods) seller.Trade
	bought func(Account) desk.Trade
	kit    Kit     // of results
	flow   Streams // of streams
	times  times
	l      Ledger
	params market.Params
	domain square.Domain

	still atomic.Bool // no block comes
	head  atomic.Pointer[chain.Head]

	mu    sync.Mutex
	sells map[square.Address]bool
	got   []square.Receipt // that somebody was handed
	done  map[string]int   // transactions of a kind that were carried out

	stall *stall
	shop  *shop
}

// times are how long things take where time cannot be made to pass; zero: as long as
// they do for everybody.
type times struct{ notice, duration, idle, challenge, tick, refresh time.Duration }

// newTown makes the seller and the buyer.
func (w *town) build() *town {
	w.sells, w.done = map[square.Address]bool{}, map[string]int{}
	w.domain = square.LedgerDomain(w.l.ChainID())
	w.stall = newStall(w)
	w.shop = newShop(w)
	var err error
	w.params, err = w.shop.account.Params(w.Context())
	w.must(err)
	return w
}

func (w *town) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// until waits for a condition.
func (w *town) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("it never came that %s: %+v", what, w.leases())
		}
	}
}

func (w *town) newKey() square.Key {
	k, err := square.NewKey()
	w.must(err)
	return k
}

// leases are the buyer's.
func (w *town) leases() []market.Lease {
	w.Helper()
	all, err := w.l.Leases(w.shop.owner.Address())
	w.must(err)
	return all
}

// count is how many transactions of a kind the town's parties have carried out.
func (w *town) count(kind string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done[kind]
}

// disk is a store that can be full, and of which a copy can be made as a process that is
// killed leaves it.
type disk struct {
	*journal.Journal
	*points
	full    *atomic.Bool
	forgets *atomic.Bool  // what PutSoon is given never gets there
	lock    *sync.RWMutex // held by whoever copies
}

var errFull = errors.New("no space left on device")

// write puts entries on disk. Their buckets name the points around it; what is kept of
// a lane while its outcome is open has one of its own.
func (d disk) write(es []journal.Entry, put func(...journal.Entry) error) error {
	if d.full.Load() {
		return errFull
	}
	pass := func(when string) {
		for _, e := range es {
			if bytes.Contains(e.Value, []byte(`"pending":`)) {
				e.Bucket += " pending"
			}
			d.pass(when + e.Bucket)
		}
	}
	pass("before ")
	d.lock.RLock()
	err := put(es...)
	d.lock.RUnlock()
	pass("after ")
	return err
}

func (d disk) Put(e ...journal.Entry) error { return d.write(e, d.Journal.Put) }

func (d disk) PutSoon(e ...journal.Entry) error {
	if d.forgets.Load() {
		return nil
	}
	return d.write(e, d.Journal.PutSoon)
}

func (d disk) Update(f func(*bolt.Tx) error) error {
	if d.full.Load() {
		return errFull
	}
	d.lock.RLock()
	defer d.lock.RUnlock()
	return d.Journal.Update(f)
}

func (d disk) View(f func(*bolt.Tx) error) error {
	d.lock.RLock()
	defer d.lock.RUnlock()
	return d.Journal.View(f)
}

func (d disk) Body(value []byte) ([]byte, error) {
	d.lock.RLock()
	defer d.lock.RUnlock()
	return d.Journal.Body(value)
}

// snap copies a disk as a killed process leaves it.
func (w *town) snap(from string, lock *sync.RWMutex) (to string) {
	dir := w.TempDir()
	lock.Lock()
	defer lock.Unlock()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(from))); err != nil {
		w.Error(err)
	}
	return filepath.Join(dir, filepath.Base(from))
}

// goods is what a case turns of what is sold.
type goods struct {
	places, times atomic.Int64 // capacity; and by how much rates are multiplied
	works         atomic.Int64 // how often work was begun
	pieces        atomic.Int64 // of all answers so far
	holds         atomic.Pointer[chan struct{}]
	stops         atomic.Pointer[func()] // called before each piece but the first
	lies          atomic.Bool
}

// turn changes a list of goods.
func (g *goods) turn(list []seller.Good, err error) ([]seller.Good, error) {
	for i := range list {
		list[i].Capacity = int(g.places.Load())
		list[i].Rates = slices.Clone(list[i].Rates)
		for j := range list[i].Rates {
			list[i].Rates[j].PerMillion *= uint64(g.times.Load())
		}
	}
	return list, err
}

// Begin counts the work, and waits while work is held.
func (g *goods) Begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // who is dead begins nothing
	}
	g.works.Add(1)
	if c := g.holds.Load(); c != nil {
		select {
		case <-*c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// hold has work wait until the release.
func (g *goods) hold() (release func()) {
	c := make(chan struct{})
	g.holds.Store(&c)
	return func() { g.holds.Store(nil); close(c) }
}

// worker is a kit's worker in the hands of a case.
type worker struct {
	seller.Worker
	g   *goods
	lie func([]byte) []byte
}

func (k worker) Goods(ctx context.Context) ([]seller.Good, error) {
	return k.g.turn(k.Worker.Goods(ctx))
}

func (k worker) Work(ctx context.Context, l market.Lease, job []byte) (seller.Delivery, error) {
	if err := k.g.Begin(ctx); err != nil {
		return seller.Delivery{}, err
	}
	d, err := k.Worker.Work(ctx, l, job)
	if err == nil && k.g.lies.Load() {
		d.Result = k.lie(d.Result)
	}
	return d, err
}

// What a trade can beside.
func (k worker) Knows(o square.Order) error       { return knows(k.Worker, o) }
func (k worker) Place(rates []square.Rate) uint64 { return place(k.Worker, rates) }

func knows(t seller.Trade, o square.Order) error {
	if k, ok := t.(seller.Knower); ok {
		return k.Knows(o)
	}
	return nil
}

func place(t seller.Trade, rates []square.Rate) uint64 {
	if p, ok := t.(seller.Placer); ok {
		return p.Place(rates)
	}
	return 0
}

type opening struct {
	worker
	seller.Opener
}

// stall is a seller behind a door that stays when it dies.
type stall struct {
	points
	w       *town
	goods   *goods
	account Account  // with nothing in its way
	shut    sync.Map // kinds of transactions that fail
	full    atomic.Bool
	forgets atomic.Bool
	lock    sync.RWMutex
	cfg     seller.Config
	path    string // of what is opened next
	s       *seller.Seller
	kill    func() // at once: nothing of it reaches anybody any more, and its disk is as it was
	die     func() // it is killed, and all that ran has ended

	web    *httptest.Server
	inside atomic.Pointer[life] // nil: nobody is there
	mute   atomic.Bool          // results are not handed over on the wire
	steals atomic.Bool          // the trade's own calls, and questions after lanes, are cut off when they have been heard
	cuts   atomic.Bool          // the line breaks in the middle of answers

	mu    sync.Mutex
	calls []call // that were heard
}

// life is that of a process which answers.
type life struct {
	http.Handler
	over   context.Context
	inside sync.RWMutex // read: calls that are being answered
}

// call is a request and its answer.
type call struct {
	path, auth string
	body       []byte
	code       int
	reply      []byte
}

// tape is an answer on its way out.
type tape struct {
	http.ResponseWriter
	over  context.Context
	cuts  int // writes after which the line breaks; 0: never
	code  int
	reply bytes.Buffer
}

func (t *tape) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tape) WriteHeader(code int) {
	t.code = code
	t.ResponseWriter.WriteHeader(code)
}

func (t *tape) Write(b []byte) (int, error) {
	if t.cuts--; t.over.Err() != nil || t.cuts == 0 {
		t.cuts = 1
		return 0, errKilled
	}
	t.reply.Write(b)
	return t.ResponseWriter.Write(b)
}

func newStall(w *town) *stall {
	b := &stall{w: w, goods: &goods{}, path: filepath.Join(w.TempDir(), "seller.db")}
	b.goods.places.Store(8)
	b.goods.times.Store(1)
	b.web = httptest.NewServer(b)
	w.Cleanup(b.web.Close)
	k := w.newKey()
	var err error
	b.account, err = w.l.Open(k, w.rules.Name(), purse, stake)
	w.must(err)
	w.mu.Lock()
	w.sells[k.Address()] = true
	w.mu.Unlock()
	b.cfg = seller.Config{
		Key: k, ChainID: w.l.ChainID(), Endpoint: b.web.URL, Tick: w.times.tick, Terms: seller.Terms{Notice: w.times.notice},
		Discover: time.Hour, Trades: []seller.Trade{w.sold(b.goods)},
	}
	b.open()
	w.Cleanup(func() { b.die() })
	return b
}

// open serves from disk.
func (b *stall) open() {
	w := b.w
	w.Helper()
	path := b.path
	store, err := journal.Open(path, seller.Buckets...)
	w.must(err)
	dead := &atomic.Bool{}
	b.cfg.Store = disk{store, &b.points, &b.full, &b.forgets, &b.lock}
	b.cfg.Ledger = link{b.account, &b.points, w, dead, &b.shut}
	b.s, err = seller.New(context.Background(), b.cfg)
	w.must(err)
	if err := b.s.PostOffers(context.Background()); err != nil {
		w.Log(err) // it goes on trying
	}
	over, end := context.WithCancel(context.Background())
	l := &life{Handler: b.s.Handler(), over: over}
	b.inside.Store(l)
	var running sync.WaitGroup
	s := b.s
	running.Go(func() { _ = s.Run(over) })
	b.kill = sync.OnceFunc(func() {
		dead.Store(true)
		b.inside.Store(nil)
		end()
		b.path = w.snap(path, &b.lock)
	})
	kill := b.kill
	b.die = sync.OnceFunc(func() {
		kill()
		running.Wait()
		l.inside.Lock() // who is inside leaves, and nobody comes after
		if err := store.Close(); err != nil {
			w.Error(err)
		}
	})
}

func (b *stall) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	l := b.inside.Load()
	if l == nil || !l.inside.TryRLock() {
		panic(http.ErrAbortHandler) // the line is cut
	}
	defer l.inside.RUnlock()
	path := strings.TrimPrefix(r.URL.Path, wire.PathPrefix)
	if path == "result" && b.mute.Load() {
		out.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(out, `{"busy":true}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	heard := call{path: path, auth: r.Header.Get("Authorization"), body: body}
	if b.steals.Load() && (strings.Contains(path, "/") || path == "lane") {
		b.hear(heard)
		panic(http.ErrAbortHandler)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(l.over, cancel)()
	rec := &tape{ResponseWriter: out, over: l.over, code: http.StatusOK}
	if b.cuts.Load() && strings.Contains(path, "/") {
		rec.cuts = 6
	}
	l.ServeHTTP(rec, r.WithContext(ctx))
	heard.code, heard.reply = rec.code, rec.reply.Bytes()
	b.hear(heard)
	b.pass("after call " + path)
	if l.over.Err() != nil || rec.cuts > 0 {
		panic(http.ErrAbortHandler)
	}
}

func (b *stall) hear(c call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, c)
}

// heard are the calls of a path so far.
func (b *stall) heard(path string) (out []call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		if c.path == path {
			out = append(out, c)
		}
	}
	return out
}

// again posts what was posted before, as whoever has heard it can.
func (b *stall) again(c call) (int, []byte) {
	req, err := http.NewRequestWithContext(context.Background(), "POST", b.web.URL+wire.PathPrefix+c.path, bytes.NewReader(c.body))
	b.w.must(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", c.auth)
	res, err := http.DefaultClient.Do(req)
	b.w.must(err)
	defer res.Body.Close()
	reply, err := io.ReadAll(res.Body)
	b.w.must(err)
	return res.StatusCode, reply
}

// shop is a buyer.
type shop struct {
	points
	w       *town
	owner   square.Key
	account Account // with nothing in its way
	shut    sync.Map
	full    atomic.Bool
	lock    sync.RWMutex
	cfg     desk.Config
	path    string // of what is opened next
	trade   desk.Trade
	d       *desk.Desk
	gone    context.Context // ends when it is killed
	kill    func()          // at once: nothing of it reaches anybody any more, and its disk is as it was
	stop    func()          // and all that ran has ended; who was not killed ends in order
}

func newShop(w *town) *shop {
	s := &shop{w: w, owner: w.newKey()}
	var err error
	s.account, err = w.l.Open(s.owner, w.rules.Name(), purse, 0)
	w.must(err)
	s.begin(w.newKey())
	return s
}

// begin makes a desk with a disk of its own.
func (s *shop) begin(key square.Key) {
	w := s.w
	s.path = filepath.Join(w.TempDir(), "desk.db")
	s.trade = w.bought(s.account)
	s.cfg = desk.Config{
		Key: key, Owner: s.owner, ChainID: w.l.ChainID(), Trades: []desk.Trade{s.trade}, Refresh: w.times.refresh,
		Start: w.times.notice, Drain: w.times.notice, Challenge: w.times.challenge, Duration: w.times.duration, Idle: w.times.idle,
		Escrow: w.flow.Escrow, JobValue: w.flow.JobValue,
	}
	s.open()
	w.Cleanup(func() { s.stop() })
}

// line is how a desk reaches sellers, until it is killed.
type line struct{ over context.Context }

func (l line) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.over.Err() != nil {
		return nil, errKilled
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		res.Body = reply{res.Body, l.over}
	}
	return res, err
}

type reply struct {
	io.ReadCloser
	over context.Context
}

func (r reply) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if r.over.Err() != nil {
		return 0, errKilled
	}
	return n, err
}

// open buys from disk.
func (s *shop) open() {
	s.w.Helper()
	path := s.path
	store, err := journal.Open(path, desk.Buckets...)
	s.w.must(err)
	dead := &atomic.Bool{}
	var end context.CancelFunc
	s.gone, end = context.WithCancel(context.Background())
	s.cfg.Store = disk{store, &s.points, &s.full, &atomic.Bool{}, &s.lock}
	s.cfg.Ledger = link{s.account, &s.points, s.w, dead, &s.shut}
	s.cfg.HTTP = &http.Client{Transport: line{s.gone}}
	s.d, err = desk.New(s.cfg)
	s.w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	d := s.d
	running.Go(func() { _ = d.Run(ctx) })
	s.kill = sync.OnceFunc(func() {
		dead.Store(true)
		end()
		s.path = s.w.snap(path, &s.lock)
	})
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		d.Close()
		end()
		if err := store.Close(); err != nil {
			s.w.Error(err)
		}
	})
}

// order places an order for the nth job, if it can be.
func (s *shop) order(n int) (desk.Job, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.d.Order(ctx, s.w.kit.Order, s.w.kit.Job(n))
}

// buy places an order for the nth job.
func (s *shop) buy(n int) square.Hash {
	s.w.Helper()
	j, err := s.order(n)
	s.w.must(err)
	return j.ID
}

// over waits for an order's end, and moves the clock to where something is due for
// leases in one of some states: at their deadline, or, of a claim, when it is time to say
// that it is withheld.
func (s *shop) over(id square.Hash, in ...market.State) desk.Job {
	s.w.Helper()
	var j desk.Job
	s.w.until("order "+id.Short()+" is over", func() bool {
		var err error
		j, err = s.d.Job(id)
		s.w.must(err)
		if !j.Over {
			s.w.hurry(in...)
		}
		return j.Over
	})
	return j
}

// hurry has time pass to where something is due for leases in one of some states.
func (w *town) hurry(in ...market.State) {
	for _, m := range w.leases() {
		due := m.Deadline + 2
		if m.State == market.Claimed {
			due = m.Deadline - int64(m.Order.Challenge/2) + 1
		}
		if ahead := due - w.now(); slices.Contains(in, m.State) && !(m.State == market.Claimed && m.Asked) && ahead > 0 {
			w.l.Pass(time.Duration(ahead) * time.Second)
		}
	}
}

// end has time pass to the deadline of a lease.
func (w *town) end(id square.Hash) {
	due := w.lease(id).Deadline + 2
	w.until("lease "+id.Short()+" is due", func() bool {
		ahead := due - w.now()
		return ahead <= 0 || w.l.Pass(time.Duration(ahead)*time.Second)
	})
}

// now is the ledger's time, unix seconds.
func (w *town) now() int64 {
	h, err := w.shop.account.Head(context.Background())
	w.must(err)
	return h.Time.Unix()
}

func (w *town) lease(id square.Hash) market.Lease {
	w.Helper()
	m, err := w.shop.account.Lease(context.Background(), id)
	w.must(err)
	return m
}

// is waits until a lease is in a state.
func (w *town) is(id square.Hash, state market.State) {
	w.Helper()
	w.until("lease "+id.Short()+" is "+string(state), func() bool { return w.lease(id).State == state })
}

// judged is that the ledger takes evidence for right.
func (w *town) judged(e square.Evidence, m market.Lease) {
	w.Helper()
	if v, err := w.rules.Judge(trade.Case{Evidence: e, Lease: m}); err != nil || v != square.VerdictOK {
		w.Errorf("the result is judged %q, %v", v, err)
	}
}

// right is that an order was paid, and brought what the ledger judges to be right.
func (w *town) right(j desk.Job) {
	w.Helper()
	m := w.lease(j.ID)
	if m.State != market.Settled || m.Paid == 0 || j.Wrong != "" || j.State != market.Settled {
		w.Errorf("order %s ended %s (%s), paid %d: %+v", j.ID.Short(), m.State, m.Reason, m.Paid, j)
		return
	}
	r, err := w.shop.d.Receipt(context.Background(), j.Receipt)
	w.must(err)
	w.judged(r.Evidence, m)
	if m.Paid != r.Evidence.Receipt.Price || m.Receipt.Digest(w.domain) != j.Receipt {
		w.Errorf("paid %d by %s, the receipt here is of %d", m.Paid, m.Receipt.Digest(w.domain).Short(), r.Evidence.Receipt.Price)
	}
}

// square is that all leases have ended, n of them, no money was made or lost, nothing
// is held back, the buyer has lost what was paid, and the seller has it but for the
// market's fee and what whoever ends a lease is paid. What their transactions have cost is left out.
func (w *town) square(n int) {
	w.Helper()
	if leases := w.leases(); len(leases) != n {
		w.Errorf("%d leases were opened, not %d", len(leases), n)
	}
	w.even()
}

// even is square of however many leases.
func (w *town) even() (paid uint64) {
	w.Helper()
	leases := w.leases()
	buyer, seller := w.balances(len(leases))
	var earned, least, poked uint64
	rounding := 2 + uint64(w.count("redeem")+w.count("close")) // a unit each time that the fee is taken
	for _, m := range leases {
		paid += m.Paid
		if m.Provider == w.stall.s.Address() {
			earned += m.Paid
			least += m.Paid - square.Share(m.Paid, w.params.FeeBps) - min(m.Paid, rounding)
		}
		if m.Reason != market.ReasonAgreed && m.Reason != market.ReasonAccepted { // whoever ended it is paid for that
			poked += square.Share(m.Order.Escrow, w.params.BountyBps)
		}
	}
	if buyer > purse-paid || buyer < purse-paid-poked {
		w.Errorf("the buyer has %d: it had %d and paid %d", buyer, uint64(purse), paid)
	}
	if seller < purse+least || seller > purse+earned+poked {
		w.Errorf("the seller has %d: it had %d and was paid %d", seller, uint64(purse), earned)
	}
	return paid
}

// balances are what both have at the end, in all, and what their transactions have cost.
func (w *town) balances(n int) (buyer, seller uint64) {
	w.Helper()
	leases := w.leases()
	if len(leases) != n {
		w.Errorf("%d leases were opened, not %d", len(leases), n)
	}
	for _, m := range leases {
		if !m.State.Terminal() {
			w.Errorf("lease %s is still %s", m.ID.Short(), m.State)
		}
	}
	if err := w.l.Conserved(); err != nil {
		w.Error(err)
	}
	st, err := w.stall.account.Stake(context.Background(), w.rules.Name(), square.Denom)
	w.must(err)
	if st.Locked != 0 {
		w.Errorf("%d of the seller's stake are still locked", st.Locked)
	}
	holds := func(a square.Address) uint64 {
		units, fees, err := w.l.Holds(a, w.rules.Name())
		w.must(err)
		return units + fees
	}
	return holds(w.shop.owner.Address()), holds(w.stall.cfg.Key.Address())
}

// stream is a trade of streams in the hands of a case.
type stream struct {
	seller.Trade
	g *goods
}

func (k stream) Goods(ctx context.Context) ([]seller.Good, error) {
	return k.g.turn(k.Trade.Goods(ctx))
}
func (k stream) Knows(o square.Order) error       { return knows(k.Trade, o) }
func (k stream) Place(rates []square.Rate) uint64 { return place(k.Trade, rates) }

// Piece counts the piece, and stops where a case says so.
func (g *goods) Piece(context.Context) {
	g.pieces.Add(1)
	if f := g.stops.Load(); f != nil {
		(*f)()
	}
}

// Lies is what a case says.
func (g *goods) Lies() bool { return g.lies.Load() }
