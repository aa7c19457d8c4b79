// Package seller is the selling half of every trade: it posts offers, signs
// quotes, serves what vouchers pay for, signs a receipt for each piece of work, and
// redeems what it is owed. A trade brings goods and does the work ([Trade]); one
// Seller sells any number of trades with one key, one disk and one set of chores.
//
// # Money
//
// A lane of a lease is a cumulative payment channel. For each piece of work the
// buyer's voucher must cover what the lane was charged so far and the most this
// piece may cost ([Seller.Admit]). The voucher is on disk before anything is
// delivered ([Till.Store]); the charge, the receipt and the answer are written
// before the receipt is sent ([Till.Charge]). So a seller that dies at any moment has
// either charged nothing and can prove nothing, or has the receipt it will show again
// (POST lane) and the voucher that pays it. Nothing is ever claimed that no receipt
// was signed for.
//
// Written is not yet synced: the receipt does not wait for the disk, which has
// it a moment later. Where the machine itself dies within that moment, the
// charge is forgotten. That is one piece of work of a lane at most: nothing more is
// delivered on it before its next voucher is on disk, and the store keeps the
// order, so that the charge is there when the voucher is. The buyer then has a
// receipt that its provider has forgotten; that lane is given up, and what its
// vouchers paid before is redeemed.
//
// # Time
//
// Terms says which orders are taken, so that there is always time to redeem, and
// Run when that is done.
//
// Expiries are judged by the ledger's time ([chain.Clock]); timeouts are
// monotonic. The wall clock only dates receipts.
package seller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// Trade is what a trade brings to be sold. Beside these it may have the abilities
// [Knower], [Placer] and [Prover].
type Trade interface {
	trade.Rules
	// Goods lists what is sold now. It may ask other machines, within ctx.
	Goods(ctx context.Context) ([]Good, error)
	// Serve answers the trade's own paths, below wire.PathPrefix + Name + "/";
	// [Post] adds one. It is called once.
	Serve(*Seller) http.Handler
}

// Good is one thing on sale: an offer without its seller and its time.
type Good struct {
	Spec       square.Hash // what exactly it is, as the trade defines it
	Subject    string      // its name for people
	Denom      string
	Rates      []square.Rate // in the order of the trade's units; then those of policies that have their own (trade.Under)
	Capacity   int           // units that may be leased, and pieces of work done at once
	Attributes []square.Attribute
}

// Knower is a Trade that looks at an order beyond what its rules check: whether the
// card is the one that its proofs would be checked against, for example. What it
// returns reaches the buyer, a *wire.Refusal as it is.
type Knower interface {
	Knows(order square.Order) error
}

// Placer is a Trade in which every unit of a lease is to be backed by so much of
// its escrow at least, in base units at these rates.
type Placer interface {
	Place(rates []square.Rate) uint64
}

// Prover is a Trade that can prove its work: it makes what the ledger's CheckProof
// takes for a part of the work that was challenged.
type Prover interface {
	Prove(ctx context.Context, e square.Evidence, part uint64) ([]byte, error)
}

// Ledger is what a seller needs of the ledger. Its account is the seller's.
type Ledger interface {
	Head(ctx context.Context) (chain.Head, error)
	// Params are the market's parameters.
	Params(ctx context.Context) (market.Params, error)
	// Lease returns market.ErrNotFound, wrapped, for one the ledger never had
	// or has forgotten.
	Lease(ctx context.Context, id square.Hash) (market.Lease, error)
	PostOffer(ctx context.Context, o square.Offer) error
	// WithdrawOffer ends an offer for new leases. One that is not there is
	// market.ErrNotFound or market.ErrState.
	WithdrawOffer(ctx context.Context, trade string, spec square.Hash) error
	// Funds is what an account holds, Stake what stands behind this seller's work
	// in a trade.
	Funds(ctx context.Context, account square.Address, denom string) (uint64, error)
	Stake(ctx context.Context, trade, denom string) (market.Stake, error)
	// Fee is what the redemption of a lease with so many lanes costs now.
	Fee(ctx context.Context, lanes int) (uint64, error)
	// Reclaim ends a lease after so many seconds.
	Reclaim(ctx context.Context, lease square.Hash, notice uint64) error
	// Redeem claims lanes of one lease in one transaction.
	Redeem(ctx context.Context, lease square.Hash, claims []chain.Claim) error
	// Poke moves a lease past its deadline on.
	Poke(ctx context.Context, lease square.Hash) error
	// ClaimResult hands in the receipt of a result, or shows the one that a replica
	// has committed to by CommitResult. That is market.ErrState, wrapped, of a replica
	// that nothing is compared with: it is claimed.
	ClaimResult(ctx context.Context, r square.Receipt, sig square.Signature) error
	CommitResult(ctx context.Context, r square.Receipt, sig square.Signature) error
	// Question is the key to which a result is to be sealed that its buyer says was
	// withheld; AnswerWithheld hands it over.
	Question(ctx context.Context, lease square.Hash) (key []byte, err error)
	AnswerWithheld(ctx context.Context, lease square.Hash, answer []byte) error
	// Evidence is what a lease was challenged with, and Prove answers with a
	// proof.
	Evidence(ctx context.Context, lease, hash square.Hash) (square.Evidence, error)
	Prove(ctx context.Context, lease, evidence square.Hash, proof []byte) error
}

// Store is the disk; a journal.Journal is one. What Put and PutSoon are given
// reaches the disk in the order of the calls.
type Store interface {
	Put(...journal.Entry) error
	PutSoon(...journal.Entry) error
	Update(func(*bolt.Tx) error) error
	View(func(*bolt.Tx) error) error
}

// Buckets are the store's buckets that a seller keeps its state in.
var Buckets = []string{bucketLeases, bucketLanes, bucketAnswers, bucketOffers, bucketOwner, bucketSteps, bucketRan, bucketJobs, bucketResults}

const (
	bucketLeases  = "provider.leases"  // lease → leaseRecord
	bucketLanes   = "provider.lanes"   // lease ‖ lane → laneRecord
	bucketAnswers = "provider.answers" // lease ‖ lane → Again
	bucketOffers  = "provider.offers"  // "nonce" → the last offer's
	bucketOwner   = "provider.owner"   // "control" → Control
	bucketSteps   = "provider.steps"   // number of a step modulo Steps → stepRecord
	bucketJobs    = "provider.jobs"    // lease → the bytes of its job
	bucketResults = "provider.results" // lease → wire.Signed
	bucketRan     = "provider.ran"     // number of a piece of work modulo maxRan → Ran
)

// Config is what a seller is made of. Zero durations and limits have defaults.
type Config struct {
	Key      square.Key
	ChainID  string
	Ledger   Ledger
	Store    Store
	Endpoint string // where buyers reach the handler, "http://127.0.0.1:8700"
	Trades   []Trade

	// BondTimes is how many times an order's job value is locked per lease (20):
	// it decides how often honest work is audited.
	BondTimes uint64
	Terms     Terms
	OfferTTL  time.Duration // 10 minutes; renewed at half of it
	// Discover is how often trades are asked for their goods (1 minute).
	Discover time.Duration
	// RedeemEvery is after how long money is redeemed that is worth it but
	// waits for nothing else (5 minutes).
	RedeemEvery time.Duration
	// Tick is how often leases are looked at (1 second).
	Tick time.Duration
	// ReadTimeout ends a request whose body does not come (10 seconds), and
	// WriteTimeout one whose buyer has not read for so long in all (30 seconds).
	ReadTimeout, WriteTimeout time.Duration

	Log *slog.Logger
	Now func() time.Time // the wall clock that dates receipts
}

// Seller sells. Handler serves it, Run does its chores.
type Seller struct {
	Config
	addr       square.Address
	domain     square.Domain // offers, orders, quotes, receipts
	channel    square.Domain // vouchers
	clock      *chain.Clock
	host       string        // of Endpoint
	fetch      chan struct{} // bounds ledger questions asked on behalf of strangers,
	quoting    chan struct{} // and of who wants a quote
	bulky      chan struct{} // and of bodies of strangers that are large
	kick       chan struct{} // the redeemer has something urgent
	looks      chan struct{} // bounds leases looked at, and pays redemptions, at once
	pays       chan struct{}
	tending    sync.WaitGroup // leases looked after, offers posted, goods listed
	posting    atomic.Bool
	listing    atomic.Bool
	listed     atomic.Value  // time.Time: when goods were last listed
	refreshing sync.Mutex    // one at a time
	fee        atomic.Uint64 // of a redemption, as last read
	offerAt    atomic.Value  // time.Time: no sooner, after a failure
	control    control
	book       book

	mu      sync.Mutex
	trades  map[string]Trade
	goods   map[goodKey]*good
	offers  map[square.Hash]square.Offer
	gone    map[goodKey]bool // goods whose offers are known to be withdrawn
	leases  map[square.Hash]*lease
	quotes  map[square.Hash]quoted // by order
	crowded map[goodKey]bool       // goods whose places somebody was refused
	running map[*Till]context.CancelFunc
	closing bool
	working sync.WaitGroup // work that runs
	stats   Stats
}

// Stats counts what a seller did since it started. Of what it served, Counted has
// units of its own counting, and of Over more was made than was asked for.
type Stats struct {
	Served, Charged, Refused, Failed, Redeemed, Counted, Over uint64
}

// goodKey is where offers are: one of a trade and a spec.
type goodKey struct {
	trade string
	spec  square.Hash
}

func keyOf(o square.Offer) goodKey { return goodKey{o.Trade, o.Spec} }

type good struct {
	Good
	trade Trade
	slots chan struct{}
}

// lease is a lease this seller serves.
type lease struct {
	id    square.Hash
	order square.Order // never changes
	good  goodKey      // what it is for
	calls atomic.Int64 // being answered

	mu      sync.Mutex // guards what follows
	rec     leaseRecord
	lanes   map[uint16]*lane
	used    time.Time     // when a lane last worked; monotonic
	eased   chan struct{} // closed and replaced when less waits to be redeemed
	starved bool          // a request waits for a redemption
	free    uint64        // of its escrow on the ledger, when last seen, that no dispute holds

	// The chores' own, all monotonic.
	lookAt   time.Time // when to ask the ledger again
	redeemAt time.Time // earliest next try
	lastPaid time.Time // last redemption
	overAt   time.Time // when the ledger was seen to have ended it
	answerAt time.Time // earliest next try to answer a challenge

	failures int

	tended    atomic.Bool // looked after, in a goroutine of its own
	answering atomic.Bool // a challenge, in another
	toiling   atomic.Bool // at a job, in another

	stepAt time.Time // result: earliest next step; of whoever tends
	missed int       // steps that failed, in a row
}

// leaseRecord is what the disk keeps of a lease.
type leaseRecord struct {
	Order   square.Order     `json:"order"`
	Slot    square.Hash      `json:"slot"` // the spec of the offer
	Rates   []square.Rate    `json:"rates"`
	State   market.State     `json:"state"` // as last seen
	Until   int64            `json:"until"` // the ledger's deadline: its end, or T_idle after the last redemption
	Ends    int64            `json:"ends"`
	Closed  bool             `json:"closed"` // consent to close was signed for Paid
	Paid    uint64           `json:"paid,string"`
	Consent square.Signature `json:"consent"`
	// Unbonded: nothing is behind the lease, so that its buyer pays for an answer with
	// the next voucher, after it has compared it with another's.
	Unbonded bool `json:"unbonded,omitempty"`
	// Of a replica: it is one, and it was compared with others.
	Replica  bool `json:"replica,omitempty"`
	Compared bool `json:"compared,omitempty"`
}

type lane struct {
	channel square.Hash
	rec     laneRecord
	busy    bool
	most    uint64 // while busy: what the work may cost
	// How often the answer of which receipt was asked for ([Caller.Answer]).
	shownSeq uint64
	shown    int
}

// laneRecord is what the disk keeps of a lane.
type laneRecord struct {
	Charged  uint64         `json:"charged,string"`
	Redeemed uint64         `json:"redeemed,string"`
	Seq      uint64         `json:"seq"`
	Voucher  square.Voucher `json:"voucher"` // the highest
	// What the last answer was paid with and asked, to know it when it is
	// presented again.
	LastMax     uint64      `json:"last_max,string"`
	LastRequest square.Hash `json:"last_request"`
}

// vouched is what was charged and a voucher covers: all, but on an unbonded lease
// the last answer.
func (r laneRecord) vouched() uint64 { return min(r.Charged, max(r.Voucher.Max, r.Redeemed)) }

// Again is a lane's last answer.
type Again struct {
	Signed wire.Signed `json:"signed"`
	Kept   []byte      `json:"kept,omitempty"` // what the trade had kept beside it
}

// New reads the disk and is ready to serve leases that were open before. Goods that
// could not be offered are an error here; a trade that cannot list its goods yet is
// asked again.
func New(ctx context.Context, cfg Config) (*Seller, error) {
	switch {
	case cfg.Key.IsZero():
		return nil, errors.New("seller: key is missing")
	case cfg.Ledger == nil || cfg.Store == nil:
		return nil, errors.New("seller: ledger and store are required")
	case cfg.ChainID == "" || cfg.Endpoint == "":
		return nil, errors.New("seller: chain id and endpoint are required")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.OfferTTL, 10*time.Minute)
	def(&cfg.Discover, time.Minute)
	def(&cfg.RedeemEvery, 5*time.Minute)
	def(&cfg.Tick, time.Second)
	def(&cfg.ReadTimeout, 10*time.Second)
	def(&cfg.WriteTimeout, 30*time.Second)
	cfg.Terms.defaults()
	if cfg.BondTimes == 0 {
		cfg.BondTimes = 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	endpoint, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("seller: endpoint: %w", err)
	}
	s := &Seller{
		Config: cfg, addr: cfg.Key.Address(), host: endpoint.Hostname(),
		domain: square.LedgerDomain(cfg.ChainID), channel: square.ChannelDomain(cfg.ChainID),
		clock:   chain.NewClock(cfg.Ledger.Head),
		fetch:   make(chan struct{}, 16),
		quoting: make(chan struct{}, 16),
		bulky:   make(chan struct{}, maxBulky),
		kick:    make(chan struct{}, 1),
		looks:   make(chan struct{}, maxLooks),
		pays:    make(chan struct{}, maxPays),
		trades:  map[string]Trade{},
		goods:   map[goodKey]*good{},
		crowded: map[goodKey]bool{},
		offers:  map[square.Hash]square.Offer{},
		gone:    map[goodKey]bool{},
		leases:  map[square.Hash]*lease{},
		quotes:  map[square.Hash]quoted{},
		running: map[*Till]context.CancelFunc{},
	}
	s.Log = s.Log.With("provider", s.addr.String())
	for _, t := range cfg.Trades {
		if s.trades[t.Name()] != nil {
			return nil, fmt.Errorf("seller: trades: two are called %q", t.Name())
		}
		s.trades[t.Name()] = t
	}
	if err := errors.Join(s.load(), s.loadOwner()); err != nil {
		return nil, err
	}
	if err := s.Refresh(ctx); errors.Is(err, errGood) {
		return nil, err
	} else if err != nil {
		s.Log.Warn("some goods are not known yet", "err", err)
	}
	return s, nil
}

// Address is the account that is paid.
func (s *Seller) Address() square.Address { return s.addr }

// Stats is a copy of the counters.
func (s *Seller) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// errGood says that a good could not be offered.
var errGood = errors.New("it cannot be offered")

// Refresh asks the trades what they sell now. Work that runs goes on; a lease on
// something that is gone is refused work until it is back. Of a trade whose goods
// cannot be listed, or cannot be offered, what was known before stays.
func (s *Seller) Refresh(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	var failed []error
	for name, t := range s.trades {
		next, err := s.list(ctx, t)
		if err != nil {
			failed = append(failed, fmt.Errorf("seller: %s: %w", name, err))
			continue
		}
		s.mu.Lock()
		for k, g := range s.goods {
			if k.trade != name {
				continue
			}
			if now := next[k]; now != nil && cap(now.slots) == cap(g.slots) { // what stays keeps its slots
				now.slots = g.slots
			}
			delete(s.goods, k)
		}
		for k, g := range next {
			s.goods[k] = g
		}
		s.mu.Unlock()
	}
	s.listed.Store(time.Now())
	return errors.Join(failed...)
}

// list is what a trade sells now.
func (s *Seller) list(ctx context.Context, t Trade) (map[goodKey]*good, error) {
	list, err := t.Goods(ctx)
	if err != nil {
		return nil, err
	}
	out := map[goodKey]*good{}
	for _, g := range list {
		if g.Capacity <= 0 {
			return nil, fmt.Errorf("%q: %w: capacity must be positive", g.Subject, errGood)
		}
		has := &good{Good: g, trade: t, slots: make(chan struct{}, g.Capacity)}
		o := s.offer(has, 1, 1)
		if err := errors.Join(o.Check(), t.CheckOffer(o)); err != nil {
			return nil, fmt.Errorf("%q: %w: %w", g.Subject, errGood, err)
		}
		out[keyOf(o)] = has
	}
	return out, nil
}

// offer is the good's ask.
func (s *Seller) offer(g *good, expiry int64, nonce uint64) square.Offer {
	return square.Offer{
		Provider: s.addr, Trade: g.trade.Name(), Spec: g.Spec, Subject: g.Subject,
		Denom: g.Denom, Rates: g.Rates, Capacity: uint64(g.Capacity), Attributes: g.Attributes,
		Endpoint: s.Endpoint, Expiry: expiry, Nonce: nonce,
	}
}

// load reads leases and lanes from disk.
func (s *Seller) load() error {
	return s.Store.View(func(tx *bolt.Tx) error {
		err := tx.Bucket([]byte(bucketLeases)).ForEach(func(k, v []byte) error {
			var rec leaseRecord
			if err := json.Unmarshal(v, &rec); err != nil || len(k) != 32 {
				return fmt.Errorf("seller: lease %x on disk: %w", k, err)
			}
			// lastPaid stays zero: what is owed from before is redeemed at once.
			s.leases[square.Hash(k)] = newLease(square.Hash(k), rec)
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket([]byte(bucketLanes)).ForEach(func(k, v []byte) error {
			if len(k) != 34 {
				return fmt.Errorf("seller: lane %x on disk: want 34 bytes of key", k)
			}
			l := s.leases[square.Hash(k[:32])]
			if l == nil {
				return nil
			}
			n := uint16(k[32])<<8 | uint16(k[33])
			ln := l.lane(s, n)
			if err := json.Unmarshal(v, &ln.rec); err != nil {
				return fmt.Errorf("seller: lane %x on disk: %w", k, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		// A job without a lease was quoted: whether its order was opened, adopt finds
		// out.
		return tx.Bucket([]byte(bucketJobs)).ForEach(func(k, _ []byte) error {
			if len(k) != 32 {
				return fmt.Errorf("seller: job %x on disk: want 32 bytes of key", k)
			}
			if id := square.Hash(k); s.leases[id] == nil {
				s.quotes[id] = quoted{}
			}
			return nil
		})
	})
}

func newLease(id square.Hash, rec leaseRecord) *lease {
	return &lease{id: id, order: rec.Order, good: goodKey{rec.Order.Trade, rec.Slot}, rec: rec, lanes: map[uint16]*lane{}, used: time.Now(), eased: make(chan struct{}), free: rec.Order.Escrow}
}

// ease tells whoever waits that less is to be redeemed. Callers hold l.mu.
func (l *lease) ease() {
	close(l.eased)
	l.eased = make(chan struct{})
}

// lane returns the lane's state, a fresh one when it was never used. Callers
// hold l.mu and have checked that the order has the lane.
func (l *lease) lane(s *Seller, n uint16) *lane {
	ln := l.lanes[n]
	if ln == nil {
		config := market.Lease{ID: l.id, Order: l.order, Provider: s.addr}.Channel(n)
		ln = &lane{channel: config.ID(s.channel)}
		l.lanes[n] = ln
	}
	return ln
}

func laneKey(lease square.Hash, n uint16) []byte {
	return append(append(make([]byte, 0, 34), lease[:]...), byte(n>>8), byte(n))
}

func put(tx *bolt.Tx, bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucket)).Put(key, b)
}

// save puts one record on disk.
func (s *Seller) save(bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.Store.Put(journal.Entry{Bucket: bucket, Key: key, Value: b})
}

func (s *Seller) saveLease(id square.Hash, rec leaseRecord) error {
	return s.save(bucketLeases, id[:], rec)
}

// find returns a lease that this provider serves and that who may ask about. It
// asks the ledger about one it has not seen: on behalf of strangers a few at
// once, so that they are not in the way of who was quoted.
func (s *Seller) find(ctx context.Context, id square.Hash, who square.Address) (*lease, error) {
	s.mu.Lock()
	l := s.leases[id]
	_, quoted := s.quotes[id]
	s.mu.Unlock()
	if l != nil {
		if l.order.Authorizer != who {
			return nil, notTheirs(id)
		}
		return l, nil
	}
	if !quoted {
		select {
		case s.fetch <- struct{}{}:
			defer func() { <-s.fetch }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := s.Ledger.Lease(ctx, id)
	switch {
	case errors.Is(err, market.ErrNotFound):
		return nil, wire.Refuse(wire.CodeUnknown, "lease %s is not on the ledger", id.Short())
	case err != nil:
		return nil, wire.Refuse(wire.CodeUnavailable, "lease %s: the ledger does not answer: %v", id.Short(), err)
	case m.Order.Authorizer != who:
		return nil, notTheirs(id)
	}
	return s.take(m)
}

func notTheirs(id square.Hash) error {
	return wire.Refuse(wire.CodeCaller, "lease %s: only its authorizer may ask, who signs its vouchers", id.Short())
}

// take begins to serve a lease.
func (s *Seller) take(m market.Lease) (*lease, error) {
	m = s.clock.Dated(m)
	id := m.ID
	switch {
	case m.Provider != s.addr || !s.does(m.Order):
		return nil, wire.Refuse(wire.CodeUnknown, "lease %s is not this provider's", id.Short())
	case m.State.Terminal():
		return nil, wire.Refuse(wire.CodeClosed, "lease %s has ended: %s", id.Short(), m.Reason)
	case m.State == market.Open || m.State == market.Matched || m.State == market.Replicating:
		return nil, wire.Refuse(wire.CodeUnknown, "lease %s has not started", id.Short())
	}
	s.mu.Lock()
	l := s.leases[id]
	s.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l = newLease(id, leaseRecord{Order: m.Order, Slot: m.Slot, Rates: m.Rates, State: m.State, Until: m.Deadline, Ends: m.Ends, Replica: !m.Of.IsZero(), Compared: !m.Agreed.IsZero(), Unbonded: m.Bonded == 0})
	l.lastPaid = time.Now()
	if err := s.saveLease(id, l.rec); err != nil {
		return nil, wire.Refuse(wire.CodeUnavailable, "lease %s: the provider's disk failed; nothing was charged", id.Short())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.leases[id]; have != nil {
		return have, nil
	}
	s.leases[id] = l
	return l, nil
}

// sold is the good that a lease is for; nil while it is not sold.
func (s *Seller) sold(k goodKey) *good {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.goods[k]
}

// Begin notes that something runs which Close waits for, until done. A seller that
// is closing refuses.
func (s *Seller) Begin() (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, wire.Refuse(wire.CodeUnavailable, "the provider is shutting down; nothing was charged")
	}
	s.working.Add(1)
	return s.working.Done, nil
}

func (s *Seller) count(f func(*Stats)) {
	s.mu.Lock()
	f(&s.stats)
	s.mu.Unlock()
	s.book.count(s.Now(), f)
}
