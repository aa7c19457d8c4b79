// Package judge is the judging half of any trade. Stakers of a trade that have
// enlisted are drawn as judges of disputes that the ledger cannot decide by itself
// (package ledger/market draws them); this package sits for one of them.
//
// For each seat it does the disputed work again by the trade's rules, keeps what it
// found and a secret on disk, commits to both in the first half of the judges' time
// (square.Ballot) and shows them in the second. What is on disk is what is voted: a
// judge that dies between the two votes the same when it is back. Whoever is silent
// loses its seat's bond, so that nothing that can be tried again is given up before
// the ledger says that it is too late.
//
// Where it cannot tell, for want of the model for example, it does not guess: it
// votes nothing and says so loudly. Of evidence that the ledger has only digests of
// it fetches the bytes from where the provider said they are (see [Fetcher]), and
// finds "unavailable" if they cannot be had in time.
package judge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Ledger is what a judge needs of the ledger. Its account is the judge's.
type Ledger interface {
	// Now is the newest block's time, on the clock of deadlines.
	Now(ctx context.Context) (int64, error)
	Params(ctx context.Context) (market.Params, error)
	// Disputed are the leases in dispute now.
	Disputed(ctx context.Context) ([]market.Lease, error)
	// Lease returns market.ErrNotFound, wrapped, for one that is forgotten.
	Lease(ctx context.Context, id square.Hash) (market.Lease, error)
	Evidence(ctx context.Context, lease, hash square.Hash) (square.Evidence, error)
	Card(ctx context.Context, hash square.Hash) ([]byte, error)
	// Locator is where the party that owes the evidence's bytes said that they may be
	// fetched; empty if it said nothing.
	Locator(ctx context.Context, l market.Lease) (string, error)
	// Beacon is randomness from after the challenge, the same for all judges that sit
	// in a lease: of the block in which they were drawn.
	Beacon(ctx context.Context, l market.Lease) (square.Hash, error)
	// Events are what happened to a lease so far, in order.
	Events(ctx context.Context, lease square.Hash) ([]market.Event, error)

	Commit(ctx context.Context, lease, ballot square.Hash) error
	Vote(ctx context.Context, lease square.Hash, v square.Verdict, secret square.Hash) error
}

// Opinion are rules whose cases are decided by more than this machine's
// re-execution, by a person for example. A judge asks Opinion in place of Judge. It
// returns when ctx ends.
type Opinion interface {
	trade.Rules
	Opinion(ctx context.Context, c trade.Case) (square.Verdict, error)
}

// Config is what a judge is made of.
type Config struct {
	Key     square.Address
	ChainID string
	Ledger  Ledger
	Trades  []trade.Rules // with the models that this machine holds
	Dir     string        // votes; the judge makes it and is its only user
	// Hands is how many cases are done again at once (1).
	Hands int
	// Tick is how often the ledger is looked at (2 s).
	Tick  time.Duration
	Fetch Fetcher
	Log   *slog.Logger
}

const (
	maxSitting = 256 // seats looked after at once; more wait for one to be free
	maxFetches = 8   // evidence fetched at once
	waitEnd    = 60  // looks at the history for how a seat ended
)

// Judge sits for one key. Open it, then Run it.
type Judge struct {
	cfg    Config
	domain square.Domain
	book   *book
	hands  chan struct{} // who does work again
	doors  chan struct{} // who fetches

	mu      sync.Mutex
	sitting map[key]bool
}

// Open reads what the judge has on disk.
func Open(cfg Config) (*Judge, error) {
	if cfg.Hands <= 0 {
		cfg.Hands = 1
	}
	if cfg.Tick <= 0 {
		cfg.Tick = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b, err := openBook(cfg.Dir, maxEnded)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return &Judge{
		cfg: cfg, domain: square.LedgerDomain(cfg.ChainID), book: b, sitting: map[key]bool{},
		hands: make(chan struct{}, cfg.Hands), doors: make(chan struct{}, maxFetches),
	}, nil
}

// Run sits until ctx ends, and then waits for work under way, which cannot be
// stopped in its middle.
func (j *Judge) Run(ctx context.Context) error {
	var sitting sync.WaitGroup
	defer sitting.Wait()
	for {
		if err := j.look(ctx, &sitting); err != nil && ctx.Err() == nil {
			j.cfg.Log.Warn("could not look for disputes to judge, will try again", "err", err)
		}
		if !pause(ctx, j.cfg.Tick) {
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// look begins to sit wherever there is a seat and nobody sits.
func (j *Judge) look(ctx context.Context, sitting *sync.WaitGroup) error {
	for _, s := range j.book.open() { // from before a restart
		j.begin(ctx, s, sitting)
	}
	leases, err := j.cfg.Ledger.Disputed(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		d := l.Dispute
		if l.State != market.Disputed || d == nil || d.Way != market.ByJudges {
			continue
		}
		s := Seat{Lease: l.ID, Trade: l.Order.Trade, Draw: d.Draw, Evidence: d.Evidence, Seated: d.Seated, Stage: Working}
		for _, p := range d.Seats {
			if p.Judge == j.cfg.Key { // one that is drawn more than once has places, and votes for all of them
				s.Places++
				s.Bond += p.Bond
			}
		}
		if s.Places > 0 {
			j.begin(ctx, s, sitting)
		}
	}
	return nil
}

func (j *Judge) begin(ctx context.Context, s Seat, sitting *sync.WaitGroup) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sitting[s.key()] || len(j.sitting) >= maxSitting || j.book.over(s.key()) {
		return
	}
	j.sitting[s.key()] = true
	sitting.Go(func() {
		defer func() {
			j.mu.Lock()
			delete(j.sitting, s.key())
			j.mu.Unlock()
		}()
		j.sit(ctx, s)
	})
}

// sit looks after one seat until it is over.
func (j *Judge) sit(ctx context.Context, s Seat) {
	v, err := j.book.take(s)
	log := j.cfg.Log.With("lease", s.Lease.Short(), "draw", s.Draw, "trade", s.Trade)
	if err != nil {
		log.Error("a seat cannot be kept on disk, so that this judge cannot vote", "err", err)
		return // tried again at the next look
	}
	if v.Stage == Working {
		log.Info("drawn as a judge", "at_risk", square.Utorg(s.Bond).String())
	}
	w := seat{kept: v, log: log}
	said, wait := "", j.cfg.Tick
	for {
		over, err := j.step(ctx, &w)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			log.Warn("a judge's seat has trouble, will try again", "err", err)
		}
		if over {
			return
		}
		if err == nil {
			wait = j.cfg.Tick
		} else {
			wait = min(2*wait, 4*j.cfg.Tick) // what the ledger refuses may cost a fee
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// seat is one that is looked after.
type seat struct {
	kept
	log     *slog.Logger
	late    bool      // the ledger takes no more ballots
	fetchAt time.Time // when to try next
	looks   int       // at the history, since the seat ended
}

// step does for a seat what can be done now.
func (j *Judge) step(ctx context.Context, s *seat) (over bool, err error) {
	l, err := j.cfg.Ledger.Lease(ctx, s.Lease)
	if errors.Is(err, market.ErrNotFound) {
		return true, j.end(s, "forgotten", 0, 0)
	}
	if err != nil {
		return false, err
	}
	place := j.place(l, s.Seat)
	if place == nil {
		return j.conclude(ctx, s)
	}
	p, err := j.cfg.Ledger.Params(ctx)
	if err != nil {
		return false, err
	}
	now, err := j.cfg.Ledger.Now(ctx)
	if err != nil {
		return false, err
	}
	votes := l.Dispute.Votes(p)
	s.Votes, s.Until = votes, l.Deadline
	if place.Verdict != "" {
		return false, j.reached(s, Voted)
	}
	if s.Verdict == "" {
		if s.Stage == Unable {
			return false, nil
		}
		return false, j.decide(ctx, s, l, now)
	}
	ballot := square.Ballot(s.Lease, j.cfg.Key, s.Draw, s.Verdict, s.Secret)
	switch {
	case place.Ballot == ballot && now < votes:
		return false, j.reached(s, Committed)
	case place.Ballot == ballot:
		if err := j.cfg.Ledger.Vote(ctx, s.Lease, s.Verdict, s.Secret); err != nil {
			if errors.Is(err, market.ErrEarly) { // the ledger's clock may stand still
				return false, nil
			}
			return false, fmt.Errorf("vote: %w", err)
		}
		s.log.Info("voted", "verdict", string(s.Verdict))
		return false, j.reached(s, Voted)
	case s.late:
		return false, nil
	case s.Stage == Committed && !place.Ballot.IsZero():
		s.late = true
		s.log.Error("another ballot than this judge's is in its place: the same key judges elsewhere too, and one of the two must stop", "at_risk", square.Utorg(s.Bond).String())
		return false, nil
	}
	err = j.cfg.Ledger.Commit(ctx, s.Lease, ballot)
	if errors.Is(err, market.ErrLate) {
		s.late = true
		s.log.Error("the verdict came too late to be committed to: the seat's bond is lost unless others decide before its end", "verdict", string(s.Verdict), "at_risk", square.Utorg(s.Bond).String())
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return false, j.reached(s, Committed)
}

// place is the judge's first place in the draw that the seat is of, all others being
// like it; nil when that is over.
func (j *Judge) place(l market.Lease, s Seat) *market.Seat {
	d := l.Dispute
	if l.State != market.Disputed || d == nil || d.Way != market.ByJudges || d.Draw != s.Draw || d.Evidence != s.Evidence || d.Seated == 0 {
		return nil
	}
	for i := range d.Seats {
		if d.Seats[i].Judge == j.cfg.Key {
			return &d.Seats[i]
		}
	}
	return nil
}

// reached notes on disk how far a seat is.
func (j *Judge) reached(s *seat, at Stage) error {
	if s.Stage == at {
		return nil
	}
	s.Stage = at
	return j.book.put(s.kept)
}

// decide finds a verdict, and has it and a secret on disk when it returns.
func (j *Judge) decide(ctx context.Context, s *seat, l market.Lease, now int64) error {
	v, err := j.find(ctx, s, l, now)
	var unable unableError
	switch {
	case errors.As(err, &unable):
		s.Why = unable.Error()
		s.log.Error("this judge cannot tell and votes nothing: its seat's bond is lost unless others decide before its end", "why", s.Why, "at_risk", square.Utorg(s.Bond).String())
		return j.reached(s, Unable)
	case errors.Is(err, errTryAgain):
		return nil
	case err != nil:
		return err
	}
	s.Verdict = v
	if _, err := rand.Read(s.Secret[:]); err != nil {
		return fmt.Errorf("a ballot's secret: %w", err)
	}
	s.Stage = Decided
	if err := j.book.put(s.kept); err != nil {
		s.Verdict, s.Stage = "", Working // what is not on disk must not be committed to
		return err
	}
	s.log.Info("decided", "verdict", string(v))
	return nil
}

// unableError says why a judge cannot tell, now or later.
type unableError struct{ error }

func unable(format string, a ...any) error { return unableError{fmt.Errorf(format, a...)} }

// find decides a case.
func (j *Judge) find(ctx context.Context, s *seat, l market.Lease, now int64) (square.Verdict, error) {
	var rules trade.Rules
	for _, r := range j.cfg.Trades {
		if r.Name() == l.Order.Trade {
			rules = r
		}
	}
	if rules == nil {
		return "", unable("this machine has no rules of trade %s", l.Order.Trade)
	}
	e, err := j.cfg.Ledger.Evidence(ctx, l.ID, s.Evidence)
	switch {
	case err != nil:
		return "", err
	case e.Hash(j.domain) != s.Evidence:
		return "", fmt.Errorf("evidence %s: the ledger's node answered with other bytes", s.Evidence.Short())
	case e.Receipt.Lease != l.ID:
		return "", unable("the receipt is of lease %s", e.Receipt.Lease.Short())
	}
	if l.Receipt != nil { // the ledger verified it when it was claimed, and asks for no signature again
		if e.Receipt.Digest(j.domain) != l.Receipt.Digest(j.domain) {
			return "", unable("the receipt is not the one that was claimed")
		}
	} else if err := e.Receipt.Verify(j.domain, l.Provider, e.Sig); err != nil {
		return "", unable("the receipt: %w", err)
	}
	if !l.Dispute.Owes.IsZero() {
		switch e.Request, e.Result, err = j.fetch(ctx, s, l, e.Receipt, now); {
		case errors.Is(err, errUnavailable):
			return square.VerdictUnavailable, nil
		case err != nil:
			return "", err
		}
	}
	if !e.Opens() {
		return "", unable("request and result are not the bytes that the receipt names")
	}
	c := trade.Case{Evidence: e, Lease: l}
	if !l.Order.Card.IsZero() {
		if c.Card, err = j.cfg.Ledger.Card(ctx, l.Order.Card); errors.Is(err, market.ErrNotFound) {
			return "", unable("card %s, which the order names, is not on the ledger", l.Order.Card.Short())
		} else if err != nil {
			return "", err
		}
	}
	if c.Beacon, err = j.cfg.Ledger.Beacon(ctx, l); err != nil {
		return "", fmt.Errorf("beacon: %w", err)
	}
	var v square.Verdict
	if o, ok := rules.(Opinion); ok {
		v, err = o.Opinion(ctx, c)
	} else {
		if !enter(ctx, j.hands) {
			return "", ctx.Err()
		}
		v, err = rules.Judge(c)
		<-j.hands
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", unable("%w", err)
	case v != square.VerdictOK && v != square.VerdictFraud:
		return "", unable("the trade's rules find %q", v)
	}
	return v, nil
}

// enter takes a place; false where ctx ends before there is one.
func enter(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

var (
	errTryAgain    = errors.New("it is not yet time for another try")
	errUnavailable = errors.New("the evidence's bytes are not to be had")
)

// fetch gets the bytes of detached evidence. What cannot be had is tried for until
// three quarters of the time to commit are over, and then unavailable. No try lasts
// into the last eighth, which the ballot needs.
func (j *Judge) fetch(ctx context.Context, s *seat, l market.Lease, r square.Receipt, now int64) (request, result []byte, err error) {
	if time.Now().Before(s.fetchAt) {
		return nil, nil, errTryAgain
	}
	where, err := j.cfg.Ledger.Locator(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	half := s.Votes - l.Dispute.Seated
	tctx, cancel := context.WithTimeout(ctx, time.Duration(max(1, s.Votes-half/8-now))*time.Second)
	defer cancel()
	if !enter(tctx, j.doors) {
		return nil, nil, errTryAgain // nobody was asked: that is no finding
	}
	defer func() { <-j.doors }()
	request, result, err = j.cfg.Fetch.both(tctx, where, r)
	s.fetchAt = time.Now().Add(5 * j.cfg.Tick)
	switch {
	case err == nil:
		return request, result, nil
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, errNowhere) || tctx.Err() != nil || now >= s.Votes-half/4:
		s.Why = err.Error()
		s.log.Warn("finds evidence unavailable", "err", err)
		return nil, nil, errUnavailable
	}
	s.log.Info("evidence could not be fetched, will try again", "err", err)
	return nil, nil, errTryAgain // and soon: who waits longer may be too late to say that it is not there
}

// conclude notes how a seat ended and what it brought, from the ledger's events.
func (j *Judge) conclude(ctx context.Context, s *seat) (over bool, err error) {
	events, err := j.cfg.Ledger.Events(ctx, s.Lease)
	if err != nil {
		return false, err
	}
	me, stake := market.Account(j.cfg.Key), market.StakePot(j.cfg.Key, s.Trade)
	var earned, lost uint64
	sat := false
	for _, e := range events {
		if e.Kind == market.EvSeated && e.Ref == s.Evidence && e.Time == s.Seated {
			sat = true
		}
		if !sat {
			continue
		}
		if e.Kind == market.EvVoted && e.By == j.cfg.Key {
			s.Stage = Voted // also where the answer was lost
		}
		for _, m := range e.Moves {
			if m.To == me {
				earned += m.Amount.Units
			}
			if m.From == stake {
				lost += m.Amount.Units
			}
		}
		switch e.Kind {
		case market.EvEnded:
			return true, j.end(s, string(e.Reason), earned, lost)
		case market.EvUpheld, market.EvGivenUp, market.EvRedrawn:
			return true, j.end(s, string(e.Kind), earned, lost)
		}
	}
	// The history is a moment behind, or does not reach so far back.
	if s.looks++; s.looks < waitEnd {
		return false, nil
	}
	return true, j.end(s, "unknown", 0, 0)
}

// end notes on disk how a seat ended.
func (j *Judge) end(s *seat, how string, earned, lost uint64) error {
	s.Outcome, s.Earned, s.Lost = how, earned, lost
	s.Ended = true
	if lost > 0 {
		s.log.Error("a judge's seat lost its bond", "outcome", how, "stage", string(s.Stage), "why", s.Why, "lost", square.Utorg(lost).String())
	} else {
		s.log.Info("a judge's seat is over", "outcome", how, "verdict", string(s.Verdict), "earned", square.Utorg(earned).String())
	}
	return j.book.put(s.kept)
}
