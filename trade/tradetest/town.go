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

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// patience bounds every wait for something that is to happen.
const patience = 2 * time.Minute

// purse is what each party starts with, in base units; most of a seller's is its stake.
const purse, stake = 1_000_000_000, 900_000_000

var domain = square.LedgerDomain(fake.ChainID)

// wait is longer than an order that was not opened can be.
const wait = time.Minute

func hash(b []byte) square.Hash { return sha256.Sum256(b) }

// town is a ledger with a seller and a buyer.
type town struct {
	*testing.T
	kit   Kit
	l     *fake.Ledger
	stall *stall
	shop  *shop
}

func newTown(t *testing.T, kit Kit) *town {
	w := &town{T: t, kit: kit, l: fake.New(kit.Rules)}
	w.stall = newStall(w)
	w.shop = newShop(w)
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
			w.Fatalf("it never came that %s: %+v", what, w.l.Leases())
		}
	}
}

func (w *town) newKey() square.Key {
	k, err := square.NewKey()
	w.must(err)
	return k
}

// disk is a store that can be full.
type disk struct {
	*journal.Journal
	full *atomic.Bool
}

var errFull = errors.New("no space left on device")

func (d disk) Put(e ...journal.Entry) error {
	if d.full.Load() {
		return errFull
	}
	return d.Journal.Put(e...)
}

func (d disk) PutSoon(e ...journal.Entry) error {
	if d.full.Load() {
		return errFull
	}
	return d.Journal.PutSoon(e...)
}

func (d disk) Update(f func(*bolt.Tx) error) error {
	if d.full.Load() {
		return errFull
	}
	return d.Journal.Update(f)
}

// goods is the kit's worker with what a case needs to turn.
type goods struct {
	seller.Worker
	places, times atomic.Int64 // capacity; and by how much rates are multiplied
	works         atomic.Int64 // how often it was asked to work
	holds         atomic.Pointer[chan struct{}]
	lie           func([]byte) []byte // if set
}

func (g *goods) Goods(ctx context.Context) ([]seller.Good, error) {
	list, err := g.Worker.Goods(ctx)
	for i := range list {
		list[i].Capacity = int(g.places.Load())
		list[i].Rates = slices.Clone(list[i].Rates)
		for j := range list[i].Rates {
			list[i].Rates[j].PerMillion *= uint64(g.times.Load())
		}
	}
	return list, err
}

func (g *goods) Work(ctx context.Context, l market.Lease, job []byte) (seller.Delivery, error) {
	g.works.Add(1)
	if c := g.holds.Load(); c != nil {
		select {
		case <-*c:
		case <-ctx.Done():
			return seller.Delivery{}, ctx.Err()
		}
	}
	d, err := g.Worker.Work(ctx, l, job)
	if err == nil && g.lie != nil {
		d.Result = g.lie(d.Result)
	}
	return d, err
}

// hold has work wait until the release.
func (g *goods) hold() (release func()) {
	c := make(chan struct{})
	g.holds.Store(&c)
	return func() { g.holds.Store(nil); close(c) }
}

// What a worker can beside.
func (g *goods) Knows(o square.Order) error {
	if k, ok := g.Worker.(seller.Knower); ok {
		return k.Knows(o)
	}
	return nil
}

func (g *goods) Place(rates []square.Rate) uint64 {
	if p, ok := g.Worker.(seller.Placer); ok {
		return p.Place(rates)
	}
	return 0
}

type opening struct {
	*goods
	seller.Opener
}

// till is the ledger as the seller sees it, some of which can be closed.
type till struct {
	fake.Account
	noClaim, noAnswer atomic.Bool
}

var errClosed = errors.New("the ledger is not to be reached")

func (l *till) ClaimResult(ctx context.Context, r square.Receipt, sig square.Signature) error {
	if l.noClaim.Load() {
		return errClosed
	}
	return l.Account.ClaimResult(ctx, r, sig)
}

func (l *till) AnswerWithheld(ctx context.Context, id square.Hash, answer []byte) error {
	if l.noAnswer.Load() {
		return errClosed
	}
	return l.Account.AnswerWithheld(ctx, id, answer)
}

// stall is a seller behind a door that stays when it dies.
type stall struct {
	w      *town
	goods  *goods
	ledger *till
	full   atomic.Bool
	cfg    seller.Config
	path   string
	s      *seller.Seller
	die    func() // at once, without the grace of Close

	web    *httptest.Server
	inside atomic.Pointer[http.Handler] // nil: nobody is there
	mute   atomic.Bool                  // results are not handed over on the wire

	mu    sync.Mutex
	calls []call // that were answered
}

// call is a request and its answer.
type call struct {
	path, auth string
	body       []byte
	code       int
	reply      []byte
}

func newStall(w *town) *stall {
	b := &stall{w: w, goods: &goods{Worker: w.kit.Worker}, path: filepath.Join(w.TempDir(), "seller.db")}
	b.goods.places.Store(8)
	b.goods.times.Store(1)
	b.web = httptest.NewServer(b)
	w.Cleanup(b.web.Close)
	k := w.newKey()
	w.l.Fund(k.Address(), purse)
	w.must(w.l.Bond(k.Address(), w.kit.Rules.Name(), stake))
	b.ledger = &till{Account: fake.Account{Ledger: w.l, Self: k.Address()}}
	var sold seller.Trade = b.goods
	if o, ok := w.kit.Worker.(seller.Opener); ok {
		sold = opening{b.goods, o}
	}
	b.cfg = seller.Config{
		Key: k, ChainID: fake.ChainID, Ledger: b.ledger, Endpoint: b.web.URL, Tick: 10 * time.Millisecond,
		Discover: time.Hour, Trades: []seller.Trade{sold},
	}
	b.open()
	w.Cleanup(func() { b.die() })
	return b
}

// open serves from disk.
func (b *stall) open() {
	w := b.w
	w.Helper()
	store, err := journal.Open(b.path, seller.Buckets...)
	w.must(err)
	b.cfg.Store = disk{store, &b.full}
	b.s, err = seller.New(context.Background(), b.cfg)
	w.must(err)
	if err := b.s.PostOffers(context.Background()); err != nil {
		w.Log(err) // it goes on trying
	}
	h := b.s.Handler()
	b.inside.Store(&h)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	s := b.s
	running.Go(func() { _ = s.Run(ctx) })
	b.die = sync.OnceFunc(func() {
		b.inside.Store(nil)
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			w.Error(err)
		}
	})
}

func (b *stall) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	h := b.inside.Load()
	if h == nil {
		panic(http.ErrAbortHandler) // the line is cut
	}
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
	rec := httptest.NewRecorder()
	(*h).ServeHTTP(rec, r)
	reply := rec.Body.Bytes()
	b.mu.Lock()
	b.calls = append(b.calls, call{path, r.Header.Get("Authorization"), body, rec.Code, reply})
	b.mu.Unlock()
	out.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
	out.WriteHeader(rec.Code)
	_, _ = out.Write(reply)
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

// wallet is the ledger as the buyer sees it: a process that is killed reaches it no
// more.
type wallet struct {
	fake.Account
	dead *atomic.Bool
	at   func(point string) // called around transactions
}

var errKilled = errors.New("killed")

// around does a transaction, unless somebody is killed before.
func (l wallet) around(point string, do func() error) error {
	l.at("before " + point)
	if l.dead.Load() {
		return errKilled
	}
	err := do()
	if err == nil {
		l.at("after " + point)
	}
	if l.dead.Load() {
		return errKilled
	}
	return err
}

func (l wallet) Open(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	return l.around("open", func() error { return l.Account.Open(ctx, o, q, sig) })
}

func (l wallet) Accept(ctx context.Context, id square.Hash) error {
	return l.around("accept", func() error { return l.Account.Accept(ctx, id) })
}

func (l wallet) Challenge(ctx context.Context, id square.Hash, e square.Evidence, part uint64) error {
	return l.around("challenge", func() error { return l.Account.Challenge(ctx, id, e, part) })
}

func (l wallet) Withhold(ctx context.Context, id square.Hash, key []byte) error {
	return l.around("withhold", func() error { return l.Account.Withhold(ctx, id, key) })
}

// shop is a buyer.
type shop struct {
	w     *town
	owner square.Key
	full  atomic.Bool
	cfg   desk.Config
	path  string
	d     *desk.Desk
	kill  func() // it reaches the ledger no more
	stop  func()
	at    atomic.Pointer[func(string)]
}

func newShop(w *town) *shop {
	s := &shop{w: w, owner: w.newKey(), path: filepath.Join(w.TempDir(), "desk.db")}
	w.l.Fund(s.owner.Address(), purse)
	s.cfg = desk.Config{Key: w.newKey(), Owner: s.owner, ChainID: fake.ChainID, Trades: []desk.Trade{w.kit.Buyer}, Refresh: 20 * time.Millisecond}
	s.open()
	w.Cleanup(func() { s.stop() })
	return s
}

func (s *shop) account() fake.Account { return fake.Account{Ledger: s.w.l, Self: s.owner.Address()} }

// on has f called at a point of the desk's transactions, once.
func (s *shop) on(point string, f func()) {
	var once sync.Once
	g := func(p string) {
		if p == point {
			once.Do(f)
		}
	}
	s.at.Store(&g)
}

// open buys from disk.
func (s *shop) open() {
	s.w.Helper()
	store, err := journal.Open(s.path, desk.Buckets...)
	s.w.must(err)
	dead := &atomic.Bool{}
	s.cfg.Store = disk{store, &s.full}
	s.cfg.Ledger = wallet{s.account(), dead, func(p string) {
		if f := s.at.Load(); f != nil {
			(*f)(p)
		}
	}}
	s.d, err = desk.New(s.cfg)
	s.w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	d := s.d
	running.Go(func() { _ = d.Run(ctx) })
	s.kill = func() { dead.Store(true) }
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		d.Close()
		if err := store.Close(); err != nil {
			s.w.Error(err)
		}
	})
}

// snap copies the disk as a killed process leaves it; what is opened next is that.
func (s *shop) snap() (path string) {
	path = filepath.Join(s.w.TempDir(), "desk.db")
	for _, end := range []string{"", ".log"} {
		b, err := os.ReadFile(s.path + end)
		if err == nil {
			err = os.WriteFile(path+end, b, 0o600)
		}
		if err != nil {
			s.w.Error(err)
		}
	}
	return path
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

func (w *town) hurry(in ...market.State) {
	for _, m := range w.l.Leases() {
		due := m.Deadline + 2
		if m.State == market.Claimed {
			due = m.Deadline - int64(m.Order.Challenge/2) + 1
		}
		if ahead := due - w.now(); slices.Contains(in, m.State) && !(m.State == market.Claimed && m.Asked) && ahead > 0 {
			w.l.Jump(time.Duration(ahead) * time.Second)
		}
	}
}

// end moves the clock past the deadline of a lease.
func (w *town) end(id square.Hash) {
	if ahead := w.lease(id).Deadline + 2 - w.now(); ahead > 0 {
		w.l.Jump(time.Duration(ahead) * time.Second)
	}
}

// now is the ledger's time, unix seconds.
func (w *town) now() int64 {
	h, err := w.shop.account().Head(context.Background())
	w.must(err)
	return h.Time.Unix()
}

func (w *town) lease(id square.Hash) market.Lease {
	w.Helper()
	m, err := w.shop.account().Lease(context.Background(), id)
	w.must(err)
	return m
}

// is waits until a lease is in a state.
func (w *town) is(id square.Hash, state market.State) {
	w.Helper()
	w.until("lease "+id.Short()+" is "+string(state), func() bool { return w.lease(id).State == state })
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
	if v, err := w.kit.Rules.Judge(trade.Case{Evidence: r.Evidence, Lease: m}); err != nil || v != square.VerdictOK {
		w.Errorf("the result is judged %q, %v", v, err)
	}
	if m.Paid != r.Evidence.Receipt.Price || m.Receipt.Digest(domain) != j.Receipt {
		w.Errorf("paid %d by %s, the receipt here is of %d", m.Paid, m.Receipt.Digest(domain).Short(), r.Evidence.Receipt.Price)
	}
}

// square is that all leases have ended, n of them, no money was made or lost, nothing
// is held back, the buyer has lost what was paid, and the seller has it but for the
// market's fee.
func (w *town) square(n int) {
	w.Helper()
	buyer, seller := w.balances(n)
	var paid, least uint64
	for _, m := range w.l.Leases() {
		paid += m.Paid
		least += m.Paid - square.Share(m.Paid, w.l.Machine.Params.FeeBps) - min(m.Paid, 2)
	}
	if buyer != purse-paid {
		w.Errorf("the buyer has %d: it had %d and paid %d", buyer, uint64(purse), paid)
	}
	if seller < purse+least || seller > purse+paid {
		w.Errorf("the seller has %d: it had %d and was paid %d", seller, uint64(purse), paid)
	}
}

// balances are what both have at the end, in all.
func (w *town) balances(n int) (buyer, seller uint64) {
	w.Helper()
	leases := w.l.Leases()
	if len(leases) != n {
		w.Errorf("%d leases were opened, not %d", len(leases), n)
	}
	for _, m := range leases {
		if !m.State.Terminal() {
			w.Errorf("lease %s is still %s", m.ID.Short(), m.State)
		}
	}
	if !w.l.Conserved() {
		w.Error("money was made or lost")
	}
	st, err := w.stall.ledger.Stake(context.Background(), w.kit.Rules.Name(), square.Denom)
	w.must(err)
	if st.Locked != 0 {
		w.Errorf("%d of the seller's stake are still locked", st.Locked)
	}
	buyer, _ = w.l.Balance(w.shop.owner.Address())
	account, staked := w.l.Balance(w.stall.cfg.Key.Address())
	return buyer, account + staked
}
