// Package desk is the buying half of every trade: it keeps standing leases with
// providers, pays each piece of work with a voucher, keeps every receipt, has work
// audited by the law, and asks no more whoever was caught. What the work is, a
// [Trade] says.
//
// # Streams
//
// Who asks looks at [Desk.Seats], takes a lane by [Desk.Hold], pays by [Lane.Pay],
// talks to the provider by [Lane.Post], and ends by [Lane.Settle] with the receipt,
// or by [Lane.Fail] without one.
//
// # Results
//
// [Desk.Order] buys the result of one job; the desk sees it through.
//
// # Disk
//
// All state is in the buckets of a journal.Journal, see Buckets, as JSON where
// nothing else is said. A receipt is stored in the same record of its log as its
// lane's new state and its account's new sum, so that none is ever there without
// the others, and costs no sync of its own. Its bytes then lie in the journal's
// segments, and the tree has its number (when it came, in microseconds), an ordinal
// (it counts receipts, so that too many can be told), what was found of its truth,
// and a key of the index for its account, lease, provider, name and finding:
// nothing is ever read through, neither at the start nor for a page.
package desk

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// Ledger is what a buyer needs of the ledger. Its account is the buyer's. An
// implementation wraps ErrStalled when the ledger makes no blocks.
type Ledger interface {
	Head(ctx context.Context) (chain.Head, error)
	// Offers lists a trade's newest offers.
	Offers(ctx context.Context, trade string) ([]square.Offer, error)
	// Lease returns market.ErrNotFound, wrapped, for one the ledger never had
	// or has forgotten.
	Lease(ctx context.Context, id square.Hash) (market.Lease, error)
	Balance(ctx context.Context, denom string) (uint64, error)
	// Open opens and matches a lease in one transaction.
	Open(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) error
	// Close ends a lease: at once on the sum the provider agreed to, or, without
	// consent, after its notice.
	Close(ctx context.Context, lease square.Hash, consent *chain.Consent) error
	// Challenge brings evidence; part is what the provider is to prove, where it
	// is asked to.
	Challenge(ctx context.Context, lease square.Hash, e square.Evidence, part uint64) error
	// Card is the card that proofs of work of a spec are checked against, from
	// whom the buyer believes; market.ErrNotFound, wrapped, without one.
	Card(ctx context.Context, spec square.Hash) ([]byte, error)
	Poke(ctx context.Context, lease square.Hash) error
}

// Store is the disk; a journal.Journal is one.
type Store interface {
	Put(...journal.Entry) error
	PutSoon(...journal.Entry) error
	Update(func(*bolt.Tx) error) error
	View(func(*bolt.Tx) error) error
	Body(value []byte) ([]byte, error)
	Drop(tx *bolt.Tx, bucket string, key []byte) error
}

// Buckets are the store's buckets that a desk keeps its state in.
var Buckets = []string{bucketLeases, bucketLanes, bucketHeads, bucketEvidence, bucketIDs, bucketIndex, bucketAudits, bucketShunned, bucketSpent, bucketJobs, bucketRequests, bucketSeals}

const (
	bucketLeases   = "desk.leases"   // lease → leaseRecord
	bucketLanes    = "desk.lanes"    // lease ‖ lane → laneRecord
	bucketHeads    = "desk.heads"    // number → [place of the Record], ordinal, 8 bytes ‖ finding
	bucketEvidence = "desk.evidence" // number → [place of] len(4) request ‖ result
	bucketIDs      = "desk.ids"      // receipt → number
	bucketIndex    = "desk.index"    // kind(1) and 8 bytes of SHA-256 of a value ‖ number → nothing
	bucketAudits   = "desk.audits"   // receipt → nothing: audits to make
	bucketShunned  = "desk.shunned"  // provider ‖ spec ‖ trade → ledger time until when, unix seconds
	bucketSpent    = "desk.spent"    // account → what all its receipts charged, 8 bytes
	bucketJobs     = "desk.jobs"     // order → Job
	bucketRequests = "desk.requests" // order → the job's bytes
	bucketSeals    = "desk.seals"    // lease → private half of the key that a withheld result is sealed to
)

// Trade is what a desk needs of a trade to buy its streams. An implementation is
// safe for concurrent use.
type Trade interface {
	trade.Rules
	// Rates are what an offer asks under a policy, in the order of Units; nil: it
	// is not sold so.
	Rates(square.Offer, square.Policy) []square.Rate
	// Place is the share of a lease's escrow that providers want behind each of
	// its lanes, in base units at these rates; 0: any.
	Place(rates []square.Rate) uint64
	// Verify holds the result of a receipt against the request and the units, on a
	// lease that was opened on the offer. The desk has checked everything else:
	// signature, digests, order, price.
	Verify(o square.Offer, request []byte, s wire.Signed) error
}

// Auditor is a Trade whose work may be done again here.
type Auditor interface {
	// Audits reports whether work on a subject can be done again.
	Audits(subject square.Hash) bool
	// Audit does it again, by the ledger's own rules, so that no challenge is made
	// that it would not uphold. On fraud, part is what to have proven.
	Audit(ctx context.Context, r Record) (v square.Verdict, part uint64, err error)
}

// Prover is a Trade whose work comes with proofs under the policy prove.
type Prover interface {
	// Proof fetches the proof of a lane's last work and checks it. words say what
	// was checked, for people; part is one that was not proven. What does not
	// prove is trade.ErrProof, wrapped; any other error may be nobody's fault.
	Proof(ctx context.Context, l *Lane, e square.Evidence) (part uint64, words string, err error)
}

// Config is what a desk is made of. Zero values have defaults.
type Config struct {
	Key     square.Key // the authorizer: signs vouchers, and asks about leases
	Owner   square.Key // whose money it is: asks for quotes; zero: Key
	ChainID string
	Ledger  Ledger
	Store   Store
	Trades  []Trade
	Denom   string       // offers in others are not seen (square.Denom)
	HTTP    *http.Client // to providers

	// The terms of a standing lease.
	Escrow   uint64 // 10 TORG; less when the balance is less
	JobValue uint64 // what one request may cost on an ordinary lease (0.1 TORG); a dearer one gets its own
	Lanes    int    // requests at once (8)
	// Streams is how many requests may be under way at once on one good: where all
	// lanes are busy another lease is opened, until there are so many lanes. 0: those
	// of one lease.
	Streams   int
	Duration  time.Duration // 1 hour
	Start     time.Duration // 60 s
	Idle      time.Duration // the duration, 1 hour at most: providers take no longer silence
	Drain     time.Duration // 60 s
	Challenge time.Duration // 60 s
	Policy    square.Policy // audit; of requests that do not name another
	Failover  uint64

	Wait    time.Duration // for a free lane, or a lease (10 s)
	Proof   time.Duration // for the proof of an answer; later is too late (2 min)
	Refresh time.Duration // of the offers (5 s)
	Shun    time.Duration // a provider that was caught is not asked (30 days)
	// Own is the provider of the same machine: a lease with it is opened before
	// there is a request. With any other it waits for one, or everybody who offers
	// something would have the buyer's money locked.
	Own square.Address

	// Retain bounds how long receipts are kept (30 days), MaxReceipts how many
	// (1,000,000).
	Retain      time.Duration
	MaxReceipts int

	Log *slog.Logger
	Now func() time.Time // the wall clock that dates receipts
}

// Desk buys. It is safe for concurrent use; Run does the chores.
//
// # Money
//
// A lane's voucher, and the request it pays for, are on disk before they are
// sent. The receipt that comes back is written at once, and need not be synced:
// until it is, the request is still pending on the disk. So after a crash the desk knows what it may owe: it asks the provider
// how the lane stands (POST lane), and takes a charge only with a receipt that
// verifies. What a lane owes is never more than its last verified receipt says
// and one request; a lane whose provider cannot show a receipt for what it
// claims is abandoned.
//
// # Audits
//
// Whether an answer is audited is drawn after its receipt is stored, from this
// machine's cryptographic randomness. A beacon from the ledger would serve
// third parties that have to believe in the draw. Here nobody has to: the
// gateway pays for its own audits, a provider cannot foresee them since the
// draw is made after it has signed, and what an audit finds convinces by
// re-execution alone. The draw costs no block.
//
// # Proofs
//
// Requests may ask for a proof, and then are paid from a lease under the policy
// prove, at the offer's rates for such leases. The answer comes as ever; its proof
// is fetched after the receipt and checked against the spec's card before the
// lane is used again, so that a provider that proves nothing has been paid for
// one request a lane. It is asked no more, its lease is closed, and what it did
// not prove is challenged like an answer that failed an audit.
type Desk struct {
	cfg     Config
	trades  map[string]Trade
	domain  square.Domain
	channel square.Domain
	clock   *chain.Clock
	http    *http.Client
	kick    chan struct{}
	audits  chan struct{} // wakes the auditor
	jobs    chan struct{} // wakes the foreman
	judging chan struct{} // re-executions at once: each runs a model
	working sync.WaitGroup

	spending sync.Mutex // held while a total of spent is made and written

	mu      sync.Mutex
	spent   map[string]uint64 // by account, what all its receipts charged
	seats   map[seatKey]*seat
	leases  map[square.Hash]*lease
	orders  map[square.Hash]*order // under way
	changed chan struct{}          // closed and replaced when a lane or a lease comes free
	listed  time.Time              // when offers were last read, monotonic
	pending map[square.Hash]int    // audits to make, by lease
	proving map[square.Hash]bool   // receipts whose proof is under way: not to be audited yet
	newest  uint64                 // the last receipt's number,
	filed   uint64                 // and its ordinal
	closed  bool
}

// New reads the disk; leases that stood before stand again.
func New(cfg Config) (*Desk, error) {
	switch {
	case cfg.Key.IsZero():
		return nil, errors.New("desk: key is missing")
	case cfg.Ledger == nil || cfg.Store == nil:
		return nil, errors.New("desk: ledger and store are required")
	case cfg.ChainID == "":
		return nil, errors.New("desk: chain id is required")
	case cfg.Lanes > square.MaxLanes:
		return nil, fmt.Errorf("desk: lanes is %d: at most %d", cfg.Lanes, square.MaxLanes)
	case cfg.Streams < 0:
		return nil, fmt.Errorf("desk: streams is %d: want 0 or more", cfg.Streams)
	}
	if cfg.Owner.IsZero() {
		cfg.Owner = cfg.Key
	}
	def(&cfg.Denom, square.Denom)
	def(&cfg.Escrow, 10*square.UnitsPerTorg)
	def(&cfg.JobValue, square.UnitsPerTorg/10)
	def(&cfg.Lanes, 8)
	def(&cfg.Duration, time.Hour)
	def(&cfg.Start, time.Minute)
	def(&cfg.Idle, min(cfg.Duration, time.Hour))
	def(&cfg.Drain, time.Minute)
	def(&cfg.Challenge, time.Minute)
	def(&cfg.Policy, square.PolicyAudit)
	def(&cfg.Wait, 10*time.Second)
	def(&cfg.Proof, 2*time.Minute)
	def(&cfg.Refresh, 5*time.Second)
	def(&cfg.Shun, 30*24*time.Hour)
	def(&cfg.Retain, 30*24*time.Hour)
	def(&cfg.MaxReceipts, 1_000_000)
	if err := sold(cfg.Policy); err != nil {
		return nil, fmt.Errorf("desk: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	trades := map[string]Trade{}
	for _, t := range cfg.Trades {
		trades[t.Name()] = t
	}
	d := &Desk{
		cfg: cfg, trades: trades, domain: square.LedgerDomain(cfg.ChainID), channel: square.ChannelDomain(cfg.ChainID),
		clock: chain.NewClock(cfg.Ledger.Head), http: cfg.HTTP,
		kick: make(chan struct{}, 1), audits: make(chan struct{}, 1), judging: make(chan struct{}, maxJudging),
		seats: map[seatKey]*seat{}, leases: map[square.Hash]*lease{}, orders: map[square.Hash]*order{}, jobs: make(chan struct{}, 1),
		changed: make(chan struct{}), pending: map[square.Hash]int{}, proving: map[square.Hash]bool{},
		spent: map[string]uint64{},
	}
	if d.http == nil {
		d.http = &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConnsPerHost: max(2*square.MaxLanes, cfg.Streams), IdleConnTimeout: time.Minute,
				DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return d, d.load()
}

// Policy is what a request for a policy is bought under: the desk's own where it
// names none. A policy that requests one by one are not sold under is refused.
func (d *Desk) Policy(p square.Policy) (square.Policy, error) {
	if p == "" {
		return d.cfg.Policy, nil
	}
	return p, sold(p)
}

func sold(p square.Policy) error {
	switch p {
	case square.PolicyNone, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve:
		return nil
	}
	return fmt.Errorf("policy %q is not for streams of requests; use none, audit, replicate or prove", p)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// phase is where a lease is in this desk's hands.
type phase string

const (
	opening  phase = "opening"  // the transaction may or may not be on the ledger
	standing phase = "standing" // requests are paid from it
	retiring phase = "retiring" // to be closed when its lanes are idle and its audits made
	closing  phase = "closing"  // the ledger was told; its end is awaited
	over     phase = "over"
)

// lease is one lease of this desk's. Guarded by Desk.mu.
type lease struct {
	id    square.Hash
	rec   leaseRecord
	lanes []*lane
	sum   uint64    // of what the lanes' vouchers promise
	until int64     // its deadline on the ledger, when last seen; 0: not yet
	tries int       // of closing it
	retry time.Time // monotonic
}

type leaseRecord struct {
	Phase    phase          `json:"phase"`
	Order    square.Order   `json:"order"`
	Provider square.Address `json:"provider"`
	Rates    []square.Rate  `json:"rates"`
	Bond     uint64         `json:"bond,string"`
	Ends     int64          `json:"ends"`
	Offer    square.Offer   `json:"offer"` // as it was when the lease was opened
}

func (r leaseRecord) seat() seatKey { return seatKey{r.Order.Trade, r.Provider, r.Order.Spec} }

type lane struct {
	n       uint16
	channel square.Hash
	rec     laneRecord
	busy    bool // in somebody's hands
	talking bool // in those of a request whose conversation is under way
	lost    bool // abandoned: the provider cannot account for it
	tries   int
	retry   time.Time // of asking how it stands; monotonic
}

// laneRecord is what the disk keeps of a lane.
type laneRecord struct {
	Charged uint64   `json:"charged,string"` // by verified receipts
	Seq     uint64   `json:"seq"`
	Max     uint64   `json:"max,string"` // of the highest voucher ever signed
	Pending *pending `json:"pending,omitempty"`
	Lost    bool     `json:"lost,omitempty"`
}

// pending is a request that was paid for and whose end is not known.
type pending struct {
	Max     uint64 `json:"max,string"`
	Request []byte `json:"request"`
	Account string `json:"account,omitempty"`
}

// promised is the sum of what may be claimed from the lease.
func (l *lease) promised() uint64 { return l.sum }

func (l *lease) charged() (sum uint64) {
	for _, ln := range l.lanes {
		sum += ln.rec.Charged
	}
	return sum
}

// margin is how long before its end a lease takes no more requests; a little
// more than the provider's own.
func (l *lease) margin() time.Duration {
	return min(20*time.Second, time.Duration(l.rec.Order.Duration)*time.Second/8)
}

// lasts reports whether a request that takes so long ends before the lease does.
// A provider lets a request run on into the notice that follows a lease's end,
// of which it keeps a part to redeem in; before silence ends a lease it keeps as
// much.
func (l *lease) lasts(now time.Time, long time.Duration) bool {
	o := l.rec.Order
	notice := time.Duration(o.Drain) * time.Second
	long = min(long, time.Duration(o.Duration)*time.Second/2)
	ends := time.Unix(l.rec.Ends, 0)
	if !now.Before(ends.Add(-l.margin())) || !now.Add(long).Before(ends.Add(notice/2)) {
		return false
	}
	silent := time.Unix(l.until, 0)
	return l.until == 0 || l.until >= l.rec.Ends || now.Add(long).Before(silent.Add(-notice*2/3))
}

// endpoint is where the lease's provider is now: its newest offer may say
// another place than the one the lease was opened under.
func (d *Desk) endpoint(l *lease) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.seats[l.rec.seat()]; s != nil && s.offer.Endpoint != "" {
		return s.offer.Endpoint
	}
	return l.rec.Offer.Endpoint
}

func (d *Desk) newLease(id square.Hash, rec leaseRecord) *lease {
	l := &lease{id: id, rec: rec}
	for n := range rec.Order.Lanes {
		l.lanes = append(l.lanes, &lane{
			n: uint16(n), channel: rec.Order.Channel(d.domain, rec.Provider, uint16(n)).ID(d.channel),
		})
	}
	return l
}

// notify wakes whoever waits for a lane or a lease. Callers hold d.mu.
func (d *Desk) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // awake already
	}
}

func laneKey(lease square.Hash, n uint16) []byte {
	return append(append(make([]byte, 0, 34), lease[:]...), byte(n>>8), byte(n))
}

// save puts one record on disk.
func (d *Desk) save(bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.cfg.Store.Put(journal.Entry{Bucket: bucket, Key: key, Value: b})
}

func (d *Desk) saveLease(id square.Hash, rec leaseRecord) error {
	return d.save(bucketLeases, id[:], rec)
}

func (d *Desk) load() error {
	return d.cfg.Store.View(func(tx *bolt.Tx) error {
		err := tx.Bucket([]byte(bucketLeases)).ForEach(func(k, v []byte) error {
			var rec leaseRecord
			if err := json.Unmarshal(v, &rec); err != nil || len(k) != 32 || rec.Order.Lanes > square.MaxLanes {
				return fmt.Errorf("desk: lease %x on disk is damaged: %w", k, err)
			}
			l := d.newLease(square.Hash(k), rec)
			for _, ln := range l.lanes {
				if b := tx.Bucket([]byte(bucketLanes)).Get(laneKey(l.id, ln.n)); b != nil {
					if err := json.Unmarshal(b, &ln.rec); err != nil {
						return fmt.Errorf("desk: lease %x lane %d on disk: %w", k, ln.n, err)
					}
					ln.lost = ln.rec.Lost
					l.sum += ln.rec.Max
				}
			}
			d.leases[l.id] = l
			if rec.Phase == standing {
				s := d.seat(rec.seat())
				s.leases = append(s.leases, l)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket([]byte(bucketShunned)).ForEach(func(k, v []byte) error {
			if len(k) < 52 || len(v) != 8 {
				return fmt.Errorf("desk: shunned provider %x on disk is damaged", k)
			}
			d.seat(seatKey{string(k[52:]), square.Address(k[:20]), square.Hash(k[20:52])}).shunned = int64(binary.BigEndian.Uint64(v))
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket([]byte(bucketSpent)).ForEach(func(k, v []byte) error {
			if len(v) != 8 {
				return fmt.Errorf("desk: what account %q spent is damaged on disk", k)
			}
			d.spent[string(k)] = binary.BigEndian.Uint64(v)
			return nil
		})
		if err != nil {
			return err
		}
		if err := d.loadJobs(tx); err != nil {
			return err
		}
		if err := d.loadReceipts(tx); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketAudits)).ForEach(func(id, _ []byte) error {
			if k, err := known(tx, square.Hash(id)); err == nil {
				rec, err := d.record(k)
				if err != nil {
					return err
				}
				d.pending[rec.Evidence.Receipt.Lease]++
			}
			return nil
		})
	})
}

// Close refuses new requests and waits for those that run. Leases stay
// standing; a desk on the same store takes them up again. Run must have
// returned.
func (d *Desk) Close() {
	d.mu.Lock()
	d.closed = true
	d.notify()
	d.mu.Unlock()
	d.working.Wait()
}
