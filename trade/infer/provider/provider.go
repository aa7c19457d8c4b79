// Package provider sells inference: it signs quotes, serves requests that
// vouchers pay for, signs a receipt for each, and redeems what it is owed.
//
// # Money
//
// A lane of a lease is a cumulative payment channel. For each request the
// buyer's voucher must cover what the lane was charged so far and the most this
// request may cost. The voucher is on disk before anything is delivered; the
// charge, the receipt and the answer are written before the receipt is sent. So
// a provider that dies at any moment has either charged nothing and can prove
// nothing, or has the receipt it will show again (POST lane) and the voucher
// that pays it. Nothing is ever claimed that no receipt was signed for.
//
// Written is not yet synced: the receipt does not wait for the disk, which has
// it a moment later. Where the machine itself dies within that moment, the
// charge is forgotten. That is one request of a lane at most: nothing more is
// delivered on it before its next voucher is on disk, and the store keeps the
// order, so that the charge is there when the voucher is. Whose receipt was
// forgotten has a buyer that is ahead of it by one; that lane is given up, and
// what its vouchers paid before is redeemed.
//
// # Time
//
// Terms says which orders are taken, so that there is always time to redeem, and
// Run when that is done.
//
// Expiries are judged by the ledger's time ([chain.Clock]); timeouts are
// monotonic. The wall clock only dates receipts.
package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/wire"
)

// Ledger is what a provider needs of the ledger. Its account is the provider's.
type Ledger interface {
	Head(ctx context.Context) (chain.Head, error)
	// Params are the market's parameters.
	Params(ctx context.Context) (market.Params, error)
	// Lease returns market.ErrNotFound, wrapped, for one the ledger never had
	// or has forgotten.
	Lease(ctx context.Context, id square.Hash) (market.Lease, error)
	PostOffer(ctx context.Context, o square.Offer) error
	// WithdrawOffer ends the offer of a model for new leases. One that is not
	// there is market.ErrNotFound or market.ErrState.
	WithdrawOffer(ctx context.Context, spec square.Hash) error
	// Funds is what an account holds, Stake what stands behind this provider's
	// work in the trade.
	Funds(ctx context.Context, account square.Address, denom string) (uint64, error)
	Stake(ctx context.Context, denom string) (market.Stake, error)
	// Fee is what the redemption of a lease with so many lanes costs now.
	Fee(ctx context.Context, lanes int) (uint64, error)
	// Reclaim ends a lease after so many seconds.
	Reclaim(ctx context.Context, lease square.Hash, notice uint64) error
	// Redeem claims lanes of one lease in one transaction.
	Redeem(ctx context.Context, lease square.Hash, claims []chain.Claim) error
	// Poke moves a lease past its deadline on.
	Poke(ctx context.Context, lease square.Hash) error
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

// Buckets are the store's buckets that a provider keeps its state in.
var Buckets = []string{bucketLeases, bucketLanes, bucketAnswers, bucketOffers, bucketOwner, bucketSteps, bucketRan}

const (
	bucketLeases  = "provider.leases"  // lease → leaseRecord
	bucketLanes   = "provider.lanes"   // lease ‖ lane → laneRecord
	bucketAnswers = "provider.answers" // lease ‖ lane → answerRecord
	bucketOffers  = "provider.offers"  // "nonce" → the last offer's
	bucketOwner   = "provider.owner"   // "control" → Control
	bucketSteps   = "provider.steps"   // number of a step modulo Steps → stepRecord
	bucketRan     = "provider.ran"     // number of a request modulo maxRan → Ran
)

// Service is an engine and its price.
type Service struct {
	Engine     Engine
	Rates      []square.Rate // prompt_tokens, completion_tokens
	Proven     []square.Rate // the same for answers with a proof; empty, or an engine that is no Prover: none are
	Denom      string
	Capacity   int // requests served at once, and units that may be leased
	Attributes []square.Attribute
}

// Config is what a provider is made of. Zero durations and limits have
// defaults.
type Config struct {
	Key      square.Key
	ChainID  string
	Ledger   Ledger
	Store    Store
	Endpoint string // where buyers reach the handler, "http://127.0.0.1:8700"
	Services []Service

	// Bond is locked per lease: so many times the order's job value (20), which
	// decides how often honest work is audited.
	BondTimes uint64
	Terms     Terms
	OfferTTL  time.Duration // 10 minutes; renewed at half of it
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

// Provider sells inference. Handler serves it, Run does its chores.
type Provider struct {
	Config
	addr    square.Address
	domain  square.Domain // offers, orders, quotes, receipts
	channel square.Domain // vouchers
	clock   *chain.Clock
	host    string        // of Endpoint
	fetch   chan struct{} // bounds ledger questions asked on behalf of strangers,
	quoting chan struct{} // and of who wants a quote
	kick    chan struct{} // the redeemer has something urgent
	turn    chan struct{} // of who proves
	looks   chan struct{} // bounds leases looked at, and pays redemptions, at once
	pays    chan struct{}
	tending sync.WaitGroup // leases looked after, offers posted
	posting atomic.Bool
	fee     atomic.Uint64 // of a redemption, as last read
	offerAt atomic.Value  // time.Time: no sooner, after a failure
	control control
	book    book

	mu       sync.Mutex
	services map[square.Hash]*service // by subject
	offers   map[square.Hash]square.Offer
	gone     map[square.Hash]bool // models whose offers are known to be withdrawn
	leases   map[square.Hash]*lease
	quotes   map[square.Hash]quoted // by order
	crowded  map[square.Hash]bool   // models whose places somebody was refused
	cancels  map[string]running
	closing  bool
	working  sync.WaitGroup // requests inside serve
	stats    Stats
}

// Stats counts what a provider did since it started. Of what it served, Counted
// had no usage from the server that could be, and Over went beyond what the server
// was asked for.
type Stats struct {
	Served, Charged, Refused, Failed, Redeemed, Counted, Over uint64
}

type service struct {
	Service
	model Model
	slots chan struct{}
}

// running is a request that runs, as its cancel call knows it.
type running struct {
	lease square.Hash
	lane  uint16
	stop  context.CancelFunc
}

// lease is a lease this provider serves.
type lease struct {
	id    square.Hash
	order square.Order // never changes
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
}

// leaseRecord is what the disk keeps of a lease.
type leaseRecord struct {
	Order   square.Order     `json:"order"`
	Rates   []square.Rate    `json:"rates"`
	State   market.State     `json:"state"` // as last seen
	Until   int64            `json:"until"` // the ledger's deadline: its end, or T_idle after the last redemption
	Ends    int64            `json:"ends"`
	Closed  bool             `json:"closed"` // consent to close was signed for Paid
	Paid    uint64           `json:"paid,string"`
	Consent square.Signature `json:"consent"`
}

type lane struct {
	channel square.Hash
	rec     laneRecord
	busy    bool
	most    uint64 // while busy: what the request may cost
	// How often the proof of which answer was made.
	provenSeq uint64
	proofs    int
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

// answerRecord is a lane's last answer.
type answerRecord struct {
	Signed wire.Signed   `json:"signed"`
	Deltas []infer.Delta `json:"deltas"`
}

// New reads the disk and is ready to serve leases that were open before.
func New(cfg Config) (*Provider, error) {
	switch {
	case cfg.Key.IsZero():
		return nil, errors.New("provider: key is missing")
	case cfg.Ledger == nil || cfg.Store == nil:
		return nil, errors.New("provider: ledger and store are required")
	case cfg.ChainID == "" || cfg.Endpoint == "":
		return nil, errors.New("provider: chain id and endpoint are required")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.OfferTTL, 10*time.Minute)
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
		return nil, fmt.Errorf("provider: endpoint: %w", err)
	}
	p := &Provider{
		Config: cfg, addr: cfg.Key.Address(), host: endpoint.Hostname(),
		domain: square.LedgerDomain(cfg.ChainID), channel: square.ChannelDomain(cfg.ChainID),
		clock:    chain.NewClock(cfg.Ledger.Head),
		fetch:    make(chan struct{}, 16),
		quoting:  make(chan struct{}, 16),
		kick:     make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		looks:    make(chan struct{}, maxLooks),
		pays:     make(chan struct{}, maxPays),
		crowded:  map[square.Hash]bool{},
		offers:   map[square.Hash]square.Offer{},
		gone:     map[square.Hash]bool{},
		leases:   map[square.Hash]*lease{},
		quotes:   map[square.Hash]quoted{},
		cancels:  map[string]running{},
		services: map[square.Hash]*service{},
	}
	p.Log = p.Log.With("provider", p.addr.String())
	if err := p.SetServices(cfg.Services); err != nil {
		return nil, err
	}
	return p, errors.Join(p.load(), p.loadOwner())
}

// Address is the account that is paid.
func (p *Provider) Address() square.Address { return p.addr }

// Stats is a copy of the counters.
func (p *Provider) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// SetServices replaces what is sold. Requests that run go on; leases on a model
// that is gone are refused until it is back.
func (p *Provider) SetServices(list []Service) error {
	next := map[square.Hash]*service{}
	for _, s := range list {
		m := s.Engine.Model()
		if s.Capacity <= 0 {
			return fmt.Errorf("provider: model %q: capacity must be positive", m.Name)
		}
		sv := &service{Service: s, model: m, slots: make(chan struct{}, s.Capacity)}
		if err := (infer.Rules{}).CheckOffer(p.offer(sv, 1, 1)); err != nil {
			return fmt.Errorf("provider: model %q: %w", m.Name, err)
		}
		if err := p.offer(sv, 1, 1).Check(); err != nil {
			return fmt.Errorf("provider: model %q: %w", m.Name, err)
		}
		next[m.Subject] = sv
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for subject, sv := range next { // a service that stays keeps its slots
		if old := p.services[subject]; old != nil && cap(old.slots) == cap(sv.slots) {
			sv.slots = old.slots
		}
	}
	p.services = next
	return nil
}

// offer is the service's ask.
func (p *Provider) offer(s *service, expiry int64, nonce uint64) square.Offer {
	attrs := []square.Attribute{{Key: "infer.context", Value: fmt.Sprint(s.model.Context)}}
	if s.model.Exact {
		attrs = append(attrs, square.Attribute{Key: "infer.exact", Value: "true"})
	}
	if s.prover() != nil {
		attrs = append(attrs, infer.ProvenAttributes(s.Proven)...)
	}
	attrs = append(append(attrs, s.model.Attributes...), s.Attributes...)
	return square.Offer{
		Provider: p.addr, Trade: infer.Name, Spec: s.model.Subject, Subject: s.model.Name,
		Denom: s.Denom, Rates: s.Rates, Capacity: uint64(s.Capacity), Attributes: attrs,
		Endpoint: p.Endpoint, Expiry: expiry, Nonce: nonce,
	}
}

// load reads leases and lanes from disk.
func (p *Provider) load() error {
	return p.Store.View(func(tx *bolt.Tx) error {
		err := tx.Bucket([]byte(bucketLeases)).ForEach(func(k, v []byte) error {
			var rec leaseRecord
			if err := json.Unmarshal(v, &rec); err != nil || len(k) != 32 {
				return fmt.Errorf("provider: lease %x on disk: %w", k, err)
			}
			// lastPaid stays zero: what is owed from before is redeemed at once.
			p.leases[square.Hash(k)] = newLease(square.Hash(k), rec)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketLanes)).ForEach(func(k, v []byte) error {
			if len(k) != 34 {
				return fmt.Errorf("provider: lane %x on disk: want 34 bytes of key", k)
			}
			l := p.leases[square.Hash(k[:32])]
			if l == nil {
				return nil
			}
			n := uint16(k[32])<<8 | uint16(k[33])
			ln := l.lane(p, n)
			if err := json.Unmarshal(v, &ln.rec); err != nil {
				return fmt.Errorf("provider: lane %x on disk: %w", k, err)
			}
			return nil
		})
	})
}

func newLease(id square.Hash, rec leaseRecord) *lease {
	return &lease{id: id, order: rec.Order, rec: rec, lanes: map[uint16]*lane{}, used: time.Now(), eased: make(chan struct{}), free: rec.Order.Escrow}
}

// ease tells whoever waits that less is to be redeemed. Callers hold l.mu.
func (l *lease) ease() {
	close(l.eased)
	l.eased = make(chan struct{})
}

// lane returns the lane's state, a fresh one when it was never used. Callers
// hold l.mu and have checked that the order has the lane.
func (l *lease) lane(p *Provider, n uint16) *lane {
	ln := l.lanes[n]
	if ln == nil {
		config := market.Lease{ID: l.id, Order: l.order, Provider: p.addr}.Channel(n)
		ln = &lane{channel: config.ID(p.channel)}
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
func (p *Provider) save(bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.Store.Put(journal.Entry{Bucket: bucket, Key: key, Value: b})
}

func (p *Provider) saveLease(id square.Hash, rec leaseRecord) error {
	return p.save(bucketLeases, id[:], rec)
}

func refuse(code, format string, args ...any) *wire.Refusal {
	return &wire.Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// find returns a lease that this provider serves and that who may ask about. It
// asks the ledger about one it has not seen: on behalf of strangers a few at
// once, so that they are not in the way of who was quoted.
func (p *Provider) find(ctx context.Context, id square.Hash, who square.Address) (*lease, error) {
	p.mu.Lock()
	l := p.leases[id]
	_, quoted := p.quotes[id]
	p.mu.Unlock()
	if l != nil {
		if l.order.Authorizer != who {
			return nil, notTheirs(id)
		}
		return l, nil
	}
	if !quoted {
		select {
		case p.fetch <- struct{}{}:
			defer func() { <-p.fetch }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := p.Ledger.Lease(ctx, id)
	switch {
	case errors.Is(err, market.ErrNotFound):
		return nil, refuse(wire.CodeUnknown, "lease %s is not on the ledger", id.Short())
	case err != nil:
		return nil, refuse(wire.CodeUnavailable, "lease %s: the ledger does not answer: %v", id.Short(), err)
	case m.Order.Authorizer != who:
		return nil, notTheirs(id)
	}
	return p.take(m)
}

func notTheirs(id square.Hash) error {
	return refuse(wire.CodeCaller, "lease %s: only its authorizer may ask, who signs its vouchers", id.Short())
}

// take begins to serve a lease.
func (p *Provider) take(m market.Lease) (*lease, error) {
	m = p.clock.Dated(m)
	id := m.ID
	switch {
	case m.Provider != p.addr || m.Order.Trade != infer.Name || m.Order.Mode != square.ModeStream:
		return nil, refuse(wire.CodeUnknown, "lease %s is not this provider's", id.Short())
	case m.State.Terminal():
		return nil, refuse(wire.CodeClosed, "lease %s has ended: %s", id.Short(), m.Reason)
	case m.State != market.Active && m.State != market.Draining && m.State != market.Disputed:
		return nil, refuse(wire.CodeUnknown, "lease %s has not started", id.Short())
	}
	p.mu.Lock()
	l := p.leases[id]
	p.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l = newLease(id, leaseRecord{Order: m.Order, Rates: m.Rates, State: m.State, Until: m.Deadline, Ends: m.Ends})
	l.lastPaid = time.Now()
	if err := p.saveLease(id, l.rec); err != nil {
		return nil, refuse(wire.CodeUnavailable, "lease %s: the provider's disk failed; nothing was charged", id.Short())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.leases[id]; have != nil {
		return have, nil
	}
	p.leases[id] = l
	return l, nil
}

// service returns what serves the lease's model.
func (p *Provider) service(spec square.Hash) *service {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.services[spec]
}

func (p *Provider) count(f func(*Stats)) {
	p.mu.Lock()
	f(&p.stats)
	p.mu.Unlock()
	p.book.count(p.Now(), f)
}
