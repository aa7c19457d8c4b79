// Package keys turns API keys into accounts: who may ask, how often, and how
// much it may cost.
//
// # Keys
//
// A key is "torg-" and 32 random bytes in base32. Only its SHA-256 is stored,
// so a stolen store opens nothing; a key's secret is shown once, when it is
// created. Its ID ("key_" and twelve hex digits of the hash) names it in lists
// and logs.
//
// # Budgets
//
// A budget is a number of base units. Around each request the store first
// reserves the most it may cost ([Store.Begin]) and then settles what it did
// cost ([Hold.Settle]). Reserved and spent together never exceed the budget,
// however many requests run at once.
//
// # What survives a crash
//
// What a key has spent is what its receipts say, and whoever pays for the
// requests keeps those: the store asks it each time ([Store.Follow]) and writes
// nothing of its own about money. A sum kept here as well would differ from the
// receipts after a crash, one way or the other. Reservations are in memory alone;
// of a request that a crash cut off, the payer knows what it may still cost.
//
// # Disk
//
// A bbolt file with one bucket, "keys": hash of the secret → Key, as JSON, without
// what it has spent and reserved. It is written when a key is made or changed, and
// read when the store is opened: all keys are in memory, some 400 bytes each.
package keys

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/torg-network/torg/square"
)

// Prefix begins every key.
const Prefix = "torg-"

// MaxName bounds a key's name, in bytes.
const MaxName = 128

// Key is an account as it is listed: everything but the secret.
type Key struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	Disabled bool      `json:"disabled,omitempty"`
	// Budget is the most base units the key may spend in all; nil is no limit.
	Budget *uint64 `json:"budget,string,omitempty"`
	Spent  uint64  `json:"spent,string"`
	// Reserved is what requests in flight may still cost.
	Reserved uint64 `json:"reserved,string"`
	// Requests and Tokens limit what the key may ask a minute; 0 is no limit.
	Requests uint64 `json:"requests_per_minute,omitempty"`
	Tokens   uint64 `json:"tokens_per_minute,omitempty"`
}

// Left is what the key may still reserve; ok is false when it has no budget.
func (k Key) Left() (units uint64, ok bool) {
	if k.Budget == nil {
		return 0, false
	}
	if used := k.Spent + k.Reserved; used < *k.Budget {
		return *k.Budget - used, true
	}
	return 0, true
}

// Grant is what a new key is given.
type Grant struct {
	Name     string
	Budget   *uint64 // base units; nil is no limit
	Requests uint64  // a minute; 0 is no limit
	Tokens   uint64  // a minute; 0 is no limit
	Expires  time.Time
}

// Failures. All are wrapped; none contains a key.
var (
	ErrUnknown  = errors.New("no such API key")
	ErrDisabled = errors.New("this API key was revoked")
	ErrExpired  = errors.New("this API key has expired")
	ErrClosed   = errors.New("the key store is closed")
	ErrGrant    = errors.New("the key cannot be given that")
)

// RateError says that the key asks too often.
type RateError struct {
	What  string // "requests" or "tokens"
	Limit uint64 // a minute
	After time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("this key may use %d %s a minute; try again in %s", e.Limit, e.What, e.After.Round(time.Millisecond))
}

// BudgetError says that a request may cost more than the key has left.
type BudgetError struct {
	ID         string
	Left, Need uint64
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("the request may cost %s and key %s has %s left of its budget",
		square.Utorg(e.Need), e.ID, square.Utorg(e.Left))
}

type account struct {
	Key
	hash             square.Hash
	settled          uint64 // base units, where nobody is followed
	requests, tokens bucket
	inside           int // requests that entered and have not left
}

// Store holds the accounts. Its methods may be called from many goroutines.
type Store struct {
	db  *bbolt.DB
	now func() time.Time

	writing sync.Mutex // one change at a time: on disk first, then in memory

	mu     sync.Mutex
	byHash map[square.Hash]*account
	byID   map[string]*account
	order  []*account             // the oldest first
	spent  func(id string) uint64 // what keys have spent; nil: what was settled here
	closed bool
}

var bucketKeys = []byte("keys")

// Open opens or creates the store at path. now is the clock; nil is time.Now.
func Open(path string, now func() time.Time) (*Store, error) {
	if now == nil {
		now = time.Now
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("key store %s: %w", path, err)
	}
	s := &Store{db: db, now: now, byHash: map[square.Hash]*account{}, byID: map[string]*account{}}
	if err := s.load(); err != nil {
		db.Close()
		return nil, fmt.Errorf("key store %s: %w", path, err)
	}
	slices.SortFunc(s.order, older)
	return s, nil
}

func (s *Store) load() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		kb, err := tx.CreateBucketIfNotExists(bucketKeys)
		if err != nil {
			return err
		}
		return kb.ForEach(func(h, v []byte) error {
			a := &account{}
			if len(h) != len(a.hash) {
				return fmt.Errorf("a key's hash has %d bytes", len(h))
			}
			copy(a.hash[:], h)
			if err := json.Unmarshal(v, &a.Key); err != nil {
				return fmt.Errorf("key %x: %w", h[:6], err)
			}
			a.Spent, a.Reserved = 0, 0
			s.byHash[a.hash], s.byID[a.ID] = a, a
			s.order = append(s.order, a)
			return nil
		})
	})
}

// older compares by when keys were made.
func older(a, b *account) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// put writes a key down.
func (s *Store) put(hash square.Hash, k Key) error {
	k.Spent, k.Reserved = 0, 0
	v, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketKeys).Put(hash[:], v) }); err != nil {
		return fmt.Errorf("write the key down: %w", err)
	}
	return nil
}

// Follow has the store ask what a key has spent, in base units: by its receipts,
// and at most by requests that have ended here and of which it is not known what
// they cost. Requests that run are the store's to count, from Begin to Settle.
// It is called with the store locked, once a request, before which Follow is to
// be called.
func (s *Store) Follow(spent func(id string) uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent = spent
}

// Create makes a key. The secret is returned once and kept nowhere.
func (s *Store) Create(g Grant) (secret string, k Key, err error) {
	switch {
	case len(g.Name) > MaxName:
		return "", Key{}, fmt.Errorf("%w: name: at most %d bytes", ErrGrant, MaxName)
	case g.Budget != nil && *g.Budget > square.MaxUnits:
		return "", Key{}, fmt.Errorf("%w: budget: larger than any supply", ErrGrant)
	case !g.Expires.IsZero() && !g.Expires.After(s.now()):
		return "", Key{}, fmt.Errorf("%w: expires: is in the past", ErrGrant)
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", Key{}, fmt.Errorf("key: %w", err)
	}
	secret = Prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:]))
	a := &account{hash: sha256.Sum256([]byte(secret))}
	a.Key = Key{
		ID: "key_" + hex.EncodeToString(a.hash[:6]), Name: g.Name, Created: s.now().UTC().Truncate(time.Second),
		Expires: g.Expires, Budget: clone(g.Budget), Requests: g.Requests, Tokens: g.Tokens,
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	err = s.usable()
	if s.byID[a.ID] != nil {
		err = errors.New("key: two keys drew the same id; try again")
	}
	s.mu.Unlock()
	if err != nil {
		return "", Key{}, err
	}
	if err := s.put(a.hash, a.Key); err != nil {
		return "", Key{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byHash[a.hash], s.byID[a.ID] = a, a
	at, _ := slices.BinarySearchFunc(s.order, a, older)
	s.order = slices.Insert(s.order, at, a)
	return secret, s.copy(a), nil
}

// List returns at most n keys, the oldest first, that were made after the key with
// an id (empty: from the first) and whose name or id contains a text. next is the
// id after which to go on; empty at the end.
func (s *Store) List(text, after string, n int) (ks []Key, next string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	if a := s.byID[after]; a != nil {
		at, _ = slices.BinarySearchFunc(s.order, a, older)
		at++
	}
	text = strings.ToLower(text)
	for _, a := range s.order[at:] {
		if text != "" && !strings.Contains(a.ID, text) && !strings.Contains(strings.ToLower(a.Name), text) {
			continue
		}
		if len(ks) == n {
			return ks, next
		}
		ks, next = append(ks, s.copy(a)), a.ID
	}
	return ks, ""
}

// Get returns one key by its ID.
func (s *Store) Get(id string) (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.byID[id]; a != nil {
		return s.copy(a), nil
	}
	return Key{}, fmt.Errorf("key %q: %w", id, ErrUnknown)
}

// Revoke disables a key for good. Requests in flight end and settle.
func (s *Store) Revoke(id string) (Key, error) {
	return s.change(id, func(k *Key) { k.Disabled = true })
}

// SetBudget sets the most a key may spend in all; nil is no limit. A budget
// below what is spent admits nothing more.
func (s *Store) SetBudget(id string, budget *uint64) (Key, error) {
	if budget != nil && *budget > square.MaxUnits {
		return Key{}, fmt.Errorf("%w: budget: larger than any supply", ErrGrant)
	}
	return s.change(id, func(k *Key) { k.Budget = clone(budget) })
}

func (s *Store) change(id string, f func(*Key)) (Key, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	a, err := s.byID[id], s.usable()
	if a == nil {
		err = fmt.Errorf("key %q: %w", id, ErrUnknown)
	}
	if err != nil {
		s.mu.Unlock()
		return Key{}, err
	}
	k := a.Key
	s.mu.Unlock()
	f(&k)
	if err := s.put(a.hash, k); err != nil {
		return Key{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&a.Key)
	return s.copy(a), nil
}

// Check says whose key this is. It admits nothing and counts nothing.
func (s *Store) Check(secret string) (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.find(secret)
	if err != nil {
		return Key{}, err
	}
	return s.copy(a), nil
}

func (s *Store) find(secret string) (*account, error) {
	if !strings.HasPrefix(secret, Prefix) || len(secret) > 128 {
		return nil, ErrUnknown
	}
	a := s.byHash[sha256.Sum256([]byte(secret))]
	switch {
	case a == nil:
		return nil, ErrUnknown
	case a.Disabled:
		return nil, ErrDisabled
	case !a.Expires.IsZero() && !s.now().Before(a.Expires):
		return nil, ErrExpired
	}
	return a, nil
}

// Need is the most one request may use.
type Need struct {
	Units  uint64 // base units of money
	Tokens uint64
}

// Begin admits what a request needs: it checks the key, its rate of tokens and
// its budget, and takes the need from both or from none. The request itself was
// admitted by Enter. The caller must Settle the hold.
func (s *Store) Begin(secret string, n Need) (*Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	a, err := s.find(secret)
	if err != nil {
		return nil, err
	}
	if n.Units > square.MaxUnits {
		return nil, errors.New("reservation: larger than any supply")
	}
	now := s.now()
	// A request larger than a whole minute's tokens is admitted when the
	// minute is untouched, and then uses it up.
	tokens := n.Tokens
	if a.Tokens > 0 && tokens > a.Tokens {
		tokens = a.Tokens
	}
	if wait := a.tokens.wait(now, a.Tokens, tokens); wait > 0 {
		return nil, &RateError{What: "tokens", Limit: a.Tokens, After: wait}
	}
	left, budgeted := s.copy(a).Left()
	if budgeted && n.Units > left || budgeted && left == 0 {
		return nil, &BudgetError{ID: a.ID, Left: left, Need: n.Units}
	}
	a.tokens.take(tokens)
	a.Reserved += n.Units
	return &Hold{s: s, a: a, units: n.Units, tokens: tokens, budgeted: budgeted}, nil
}

// Hold is an admitted request's reservation.
type Hold struct {
	s             *Store
	a             *account
	units, tokens uint64
	budgeted      bool
	settled       bool // under s.mu
}

// ID is the key's.
func (h *Hold) ID() string { return h.a.ID }

// Limit is the most the request may cost; 0 when the key has no budget.
func (h *Hold) Limit() uint64 {
	if !h.budgeted {
		return 0
	}
	return h.units
}

// Reserved is what was reserved, budget or not.
func (h *Hold) Reserved() uint64 { return h.units }

// Settle replaces the reservation by what the request did cost, which a store
// that follows a payer hears from there. Only the first call counts.
func (h *Hold) Settle(units, tokens uint64) {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.settled {
		return
	}
	h.settled = true
	a := h.a
	a.Reserved -= h.units
	a.settled += min(units, square.MaxUnits-min(a.settled, square.MaxUnits))
	a.tokens.adjust(int64(h.tokens) - int64(min(tokens, 1<<40)))
}

// Err says why nothing is admitted.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usable()
}

func (s *Store) usable() error {
	if s.closed {
		return ErrClosed
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.db.Close()
}

// copy is the account as it is now. The caller holds s.mu.
func (s *Store) copy(a *account) Key {
	k := a.Key
	k.Spent = a.settled
	if s.spent != nil {
		k.Spent = s.spent(a.ID)
	}
	k.Spent = min(k.Spent, square.MaxUnits)
	k.Budget = clone(a.Budget)
	return k
}

func clone(n *uint64) *uint64 {
	if n == nil {
		return nil
	}
	v := *n
	return &v
}
