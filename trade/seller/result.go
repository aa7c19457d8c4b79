package seller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// Worker is a Trade of results. A job comes with the request for a quote, so that a
// seller binds itself to nothing that it has not seen and could not do; it is on disk
// before the quote is signed. The result is on disk before it is claimed: whoever dies
// in between claims it later, and does not work twice.
//
// A result is handed over once it is claimed on the ledger, a replica's once it was
// compared. To a buyer that says on the ledger that it was withheld it is handed over
// there, sealed.
type Worker interface {
	Trade
	// Takes is the most units that a job may meter, or why it is refused. It does no
	// work worth mentioning.
	Takes(o square.Order, job []byte) ([]uint64, error)
	// Work does the job, until ctx ends, and may be asked again for what it did not
	// finish. A result has at most MaxResult bytes.
	Work(ctx context.Context, l market.Lease, job []byte) (Delivery, error)
}

// Opener is a Worker whose ledger rules (trade.Answerable) take something in place of
// the sealed result where it is said to be withheld.
type Opener interface {
	Open(ctx context.Context, e square.Evidence) ([]byte, error)
}

// MaxResult bounds a result in bytes, so that it can be handed over on the ledger,
// sealed.
const MaxResult = 512<<10 - 1<<10

// does reports whether orders of such a trade and mode are taken.
func (s *Seller) does(o square.Order) bool {
	t := s.trades[o.Trade]
	if o.Mode == square.ModeStream {
		return t != nil
	}
	_, ok := t.(Worker)
	return ok
}

// takes refuses a job that could not be done for the order's money.
func (s *Seller) takes(o square.Order, rates []square.Rate, job []byte) ([]uint64, error) {
	switch {
	case len(job) == 0:
		return nil, wire.Refuse(wire.CodeTerms, "job is missing: hand it over with the request for a quote; order of who has seen it")
	case len(job) > wire.MaxJob:
		return nil, wire.Refuse(wire.CodeBadRequest, "job: it has %d bytes: at most %d", len(job), wire.MaxJob)
	case sha256.Sum256(job) != o.Request:
		return nil, wire.Refuse(wire.CodeBadRequest, "job: it is not the one that the order names, request %s", o.Request.Short())
	}
	most, err := s.trades[o.Trade].(Worker).Takes(o, job)
	if err != nil {
		if we := (*wire.Refusal)(nil); errors.As(err, &we) {
			return nil, we
		}
		return nil, wire.Refuse(wire.CodeBadRequest, "job: %v", err)
	}
	price, err := square.Price(rates, most)
	if err != nil {
		return nil, wire.Refuse(wire.CodeBadRequest, "job: %v", err)
	}
	if price > o.JobValue {
		return nil, wire.Refuse(wire.CodeTerms, "order: job_value is %d and this job may cost %d; order at least so much", o.JobValue, price)
	}
	return most, nil
}

// invited refuses a replica that is not to be had, or not by this seller.
func (s *Seller) invited(ctx context.Context, replica square.Hash) error {
	m, err := s.Ledger.Lease(ctx, replica)
	switch {
	case errors.Is(err, market.ErrNotFound):
		return wire.Refuse(wire.CodeUnknown, "replica %s is not on the ledger: place the order first", replica.Short())
	case err != nil:
		return wire.Refuse(wire.CodeUnavailable, "replica %s: the ledger does not answer: %v", replica.Short(), err)
	case m.State != market.Open:
		return wire.Refuse(wire.CodeStale, "replica %s is %s", replica.Short(), m.State)
	case m.Drawn && m.Invited != s.addr:
		return wire.Refuse(wire.CodeUnknown, "replica %s is for who was drawn, which is not this provider", replica.Short())
	}
	return nil
}

// takeJob is a job that is handed over once more: to a provider whose disk was lost.
func (s *Seller) takeJob(w http.ResponseWriter, r *http.Request, from Caller, req wire.JobRequest) {
	err := from.About(req.Lease, 0)
	l := from.l
	if err == nil && l.order.Mode != square.ModeResult {
		err = wire.Refuse(wire.CodeBadRequest, "lease %s is a stream, which has no job", l.id.Short())
	}
	if err == nil {
		if have, jerr := s.job(l.id); jerr == nil && have != nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		l.mu.Lock()
		rates := l.rec.Rates // never change
		l.mu.Unlock()
		_, err = s.takes(l.order, rates, req.Job)
	}
	if err == nil && s.Store.Put(journal.Entry{Bucket: bucketJobs, Key: l.id[:], Value: req.Job}) != nil {
		err = wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
	}
	if err != nil {
		Fail(w, err)
		return
	}
	l.mu.Lock()
	l.lookAt = time.Time{}
	l.mu.Unlock()
	s.wake()
	w.WriteHeader(http.StatusNoContent)
}

// handOver gives the result to its buyer, as often as it asks.
func (s *Seller) handOver(_ context.Context, from Caller, req wire.ResultRequest) (wire.ResultReply, error) {
	if err := from.About(req.Lease, 0); err != nil {
		return wire.ResultReply{}, err
	}
	l := from.l
	l.mu.Lock()
	rec := l.rec
	l.mu.Unlock()
	switch rec.State {
	case market.Claimed, market.Owed, market.Disputed, market.Settled:
	case market.Active, market.Draining, market.Committed, market.Showing:
		return wire.ResultReply{Busy: true}, nil
	default:
		return wire.ResultReply{}, wire.Refuse(wire.CodeClosed, "lease %s is %s", l.id.Short(), rec.State)
	}
	if rec.Replica && !rec.Compared {
		return wire.ResultReply{Busy: true}, nil
	}
	signed, err := s.result(l.id)
	switch {
	case err != nil:
		return wire.ResultReply{}, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
	case signed == nil:
		return wire.ResultReply{}, wire.Refuse(wire.CodeUnknown, "lease %s has no result here", l.id.Short())
	}
	return wire.ResultReply{Signed: signed}, nil
}

// job is that of a lease; nil: it has not come.
func (s *Seller) job(id square.Hash) (job []byte, err error) {
	err = s.Store.View(func(tx *bolt.Tx) error {
		job = bytes.Clone(tx.Bucket([]byte(bucketJobs)).Get(id[:]))
		return nil
	})
	return job, err
}

// dropJob forgets the job of a quote that became no lease.
func (s *Seller) dropJob(id square.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, quoted := s.quotes[id]; quoted || s.leases[id] != nil {
		return
	}
	err := s.Store.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketJobs)).Delete(id[:]) })
	if err != nil {
		s.Log.Warn("a job that nobody ordered could not be dropped", "lease", id.Short(), "err", err)
	}
}

// result is that of a lease; nil: there is none yet.
func (s *Seller) result(id square.Hash) (signed *wire.Signed, err error) {
	err = s.Store.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucketResults)).Get(id[:]); b != nil {
			return json.Unmarshal(b, &signed)
		}
		return nil
	})
	return signed, err
}

// advance takes the next step with a result lease: to work, to claim, to answer. Only
// whoever tends the lease calls it.
func (s *Seller) advance(ctx context.Context, l *lease, m market.Lease, now time.Time) {
	if l.toiling.Load() || time.Now().Before(l.stepAt) {
		return
	}
	signed, err := s.result(l.id)
	var what string
	switch {
	case err != nil:
	case signed == nil && (m.State == market.Active || m.State == market.Draining):
		s.toil(ctx, l, m, now)
		return
	case m.State == market.Active || m.State == market.Draining || m.State == market.Showing:
		if what = "claimed"; signed != nil {
			err = s.claim(ctx, m, *signed)
		}
	case m.State == market.Owed:
		if what = "handed over on the ledger"; signed != nil {
			err = s.answerWithheld(ctx, m, *signed)
		}
	default:
		return
	}
	if err == nil && signed == nil {
		err = errors.New("it is not on this disk")
	}
	l.mu.Lock()
	l.lookAt = time.Time{}
	l.mu.Unlock()
	if err != nil {
		l.missed++
		l.stepAt = time.Now().Add(min(s.Tick<<min(l.missed, 6), s.Terms.reserve()/2))
		if ctx.Err() == nil {
			s.Log.Error("a result could not be "+what+", will try again; if it never is, bond is lost", "lease", l.id.Short(), "until", m.Deadline, "err", err)
		}
		return
	}
	l.missed = 0
	s.Log.Info("result "+what, "lease", l.id.Short(), "price", signed.Receipt.Price)
}

// claim claims a result, or commits to it where it is compared with others.
func (s *Seller) claim(ctx context.Context, m market.Lease, signed wire.Signed) error {
	if !m.Of.IsZero() && m.State == market.Active {
		err := s.Ledger.CommitResult(ctx, signed.Receipt, signed.Sig)
		if !errors.Is(err, market.ErrState) {
			return err
		}
	}
	return s.Ledger.ClaimResult(ctx, signed.Receipt, signed.Sig)
}

func (s *Seller) answerWithheld(ctx context.Context, m market.Lease, signed wire.Signed) error {
	if o, ok := s.trades[m.Order.Trade].(Opener); ok {
		job, err := s.job(m.ID)
		if err != nil {
			return err
		}
		answer, err := o.Open(ctx, square.Evidence{Receipt: signed.Receipt, Sig: signed.Sig, Request: job, Result: signed.Result})
		if err != nil {
			return err
		}
		return s.Ledger.AnswerWithheld(ctx, m.ID, answer)
	}
	key, err := s.Ledger.Question(ctx, m.ID)
	if err != nil {
		return err
	}
	sealed, err := square.Seal(key, m.ID, signed.Result)
	if err != nil {
		return err
	}
	return s.Ledger.AnswerWithheld(ctx, m.ID, sealed)
}

// toil begins to work at a job, if there is a place. A lease that stands is worked at
// also while the seller is paused: it has promised.
func (s *Seller) toil(ctx context.Context, l *lease, m market.Lease, now time.Time) {
	job, err := s.job(l.id)
	if err != nil || job == nil {
		l.stepAt = time.Now().Add(5 * s.Tick)
		s.Log.Warn("a lease has no job yet", "lease", l.id.Short(), "err", err)
		return
	}
	g := s.sold(l.good)
	if g == nil {
		l.stepAt = time.Now().Add(5 * s.Tick)
		s.Log.Warn("a lease stands for what is not sold at the moment", "lease", l.id.Short())
		return
	}
	done, err := s.Begin()
	if err != nil {
		return
	}
	select {
	case g.slots <- struct{}{}:
	default:
		done()
		return
	}
	s.control.running.Add(1)
	l.toiling.Store(true)
	left := time.Unix(m.Deadline, 0).Sub(now)
	s.tending.Go(func() {
		defer func() {
			s.control.running.Add(-1)
			<-g.slots
			done()
			l.toiling.Store(false)
			l.mu.Lock()
			l.lookAt = time.Time{}
			l.mu.Unlock()
			s.wake()
		}()
		ctx, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		ran := Ran{Trade: m.Order.Trade, Subject: g.Subject, Spec: g.Spec, Lease: l.id, Policy: m.Order.Policy}
		began := time.Now()
		err := s.work(ctx, l, m, job, &ran, began)
		if err == nil || ctx.Err() != nil && time.Since(began) < left { // stopped: it is done after the next start
			return
		}
		l.mu.Lock()
		l.stepAt = time.Now().Add(min(s.Tick<<min(l.missed, 6), time.Minute))
		l.missed++
		l.mu.Unlock()
		s.count(func(s *Stats) { s.Failed++ })
		s.Log.Error("a job failed, will be tried again; if it never succeeds, bond is lost", "lease", l.id.Short(), "until", m.Deadline, "err", err)
		ran.Time, ran.Took = s.Now().UnixMilli(), time.Since(began)
		s.noteFailure(ran, err)
	})
}

// work does a job and has the result on disk when it returns.
func (s *Seller) work(ctx context.Context, l *lease, m market.Lease, job []byte, ran *Ran, began time.Time) error {
	if err := ctx.Err(); err != nil {
		return err // a seller that stops begins nothing
	}
	w := s.trades[m.Order.Trade].(Worker)
	most, err := s.takes(m.Order, m.Rates, job)
	if err != nil {
		return err
	}
	d, err := w.Work(ctx, m, job)
	switch {
	case err != nil:
		return err
	case len(d.Result) > MaxResult:
		return fmt.Errorf("the result has %d bytes: at most %d could be handed over on the ledger", len(d.Result), MaxResult)
	case len(d.Units) != len(most):
		return errors.New("the work metered other units than the trade's")
	}
	units := append([]uint64(nil), d.Units...)
	for i := range units {
		units[i] = min(units[i], most[i])
	}
	price, err := square.Price(m.Rates, units)
	if err != nil {
		return err
	}
	r := square.Receipt{
		Lease: m.ID, Seq: 1, Subject: m.Order.Spec, Request: m.Order.Request, Result: sha256.Sum256(d.Result),
		Units: units, Price: price, Cumulative: price, Time: s.Now().UnixMilli(),
	}
	b, err := json.Marshal(wire.Signed{Receipt: r, Sig: s.Key.Sign(r.Digest(s.domain)), Result: d.Result, Body: d.Body})
	if err != nil {
		return err
	}
	ran.Time, ran.Took = s.Now().UnixMilli(), time.Since(began)
	ran.Receipt, ran.Price, ran.Units = r.Digest(s.domain), price, trade.Meter(m.Rates, units)
	// Synced before it is claimed: a second receipt of one lease would be another.
	if err := s.Store.Put(journal.Entry{Bucket: bucketResults, Key: m.ID[:], Value: b}); err != nil {
		return fmt.Errorf("the result could not be put on disk: %w", err)
	}
	if err := s.Store.PutSoon(s.book.add(*ran)); err != nil {
		s.Log.Warn("what ran could not be written down", "err", err)
	}
	s.count(func(s *Stats) {
		s.Served++
		s.Charged += price
		if d.Counted != "" {
			s.Counted++
		}
	})
	return nil
}
