package desk

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// atOnce is how many orders are stepped at once.
const atOnce = 16

// stepTime bounds one step: doing the work again is the longest of what it may take.
const stepTime = 10 * time.Minute

// foreman steps orders until ctx ends.
func (d *Desk) foreman(ctx context.Context) {
	var steps sync.WaitGroup
	defer steps.Wait()
	places := make(chan struct{}, atOnce)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		d.mu.Lock()
		var due []*order
		for _, x := range d.orders {
			if !x.busy && !time.Now().Before(x.due) {
				due = append(due, x)
			}
		}
		d.mu.Unlock()
		for _, x := range due {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			d.mu.Lock()
			x.busy = true
			d.mu.Unlock()
			steps.Go(func() {
				defer func() { <-places }()
				d.advance(ctx, x)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-d.jobs:
		case <-tick.C:
		}
	}
}

// advance takes one step with an order. Every step may be taken again.
func (d *Desk) advance(ctx context.Context, x *order) {
	before, _ := json.Marshal(x.job)
	sctx, cancel := context.WithTimeout(ctx, stepTime)
	err := d.step(sctx, &x.job)
	cancel()
	if ctx.Err() == nil {
		x.job.Note = ""
		if err != nil {
			x.job.Note = err.Error()
			d.cfg.Log.Debug("order needs another try", "order", x.job.ID.Short(), "err", err)
		}
	}
	after, merr := json.Marshal(x.job)
	if merr == nil && !bytes.Equal(before, after) {
		if kerr := d.keep(x.job); kerr != nil {
			d.cfg.Log.Warn("an order could not be noted", "order", x.job.ID.Short(), "err", kerr)
			x.job.Over = false // until the disk has it
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x.busy = false
	// What takes long is looked at seldom.
	pause := min(max(d.cfg.Now().Sub(x.job.Placed)/20, 200*time.Millisecond), 5*time.Second)
	if x.tries++; err == nil {
		x.tries = 0
	} else {
		pause = max(pause, min(200*time.Millisecond<<min(x.tries, 6), 10*time.Second))
	}
	x.due = time.Now().Add(pause)
	if x.job.Over {
		delete(d.orders, x.job.ID)
	}
	d.notify()
}

func (d *Desk) step(ctx context.Context, j *Job) error {
	now, err := d.clock.Now(ctx)
	if err != nil {
		return err
	}
	l := d.cfg.Ledger.(ResultLedger)
	m, err := l.Lease(ctx, j.ID)
	switch {
	case errors.Is(err, market.ErrNotFound) && j.State == "":
		if now.Unix() > j.Order.Expiry+5 {
			j.Over = true
			return errors.New("the order never reached the ledger")
		}
		return err
	case errors.Is(err, market.ErrNotFound) && now.Unix() > j.Order.Expiry+int64(j.Order.Duration+j.Order.Challenge):
		j.Over = true
		return errors.New("the ledger has forgotten the order")
	case err != nil:
		return err
	}
	j.State, j.Reason = m.State, m.Reason
	if m.State != market.Replicating && len(m.Replicas) == 0 {
		if len(j.Parts) == 0 || j.Parts[0].Provider != m.Provider { // a crash before, or another has filled it
			j.Parts = []Part{{Lease: j.ID, Provider: m.Provider}}
		}
	}
	for _, id := range m.Replicas {
		if !slices.ContainsFunc(j.Parts, func(p Part) bool { return p.Lease == id }) {
			j.Parts = append(j.Parts, Part{Lease: id})
		}
	}
	var failed []error
	over := m.State.Terminal()
	if !over && m.State == market.Replicating {
		failed = append(failed, d.overdue(ctx, m, now))
	}
	for i := range j.Parts {
		p := &j.Parts[i]
		if p.Over {
			continue
		}
		r := m
		if p.Lease != j.ID {
			if r, err = l.Lease(ctx, p.Lease); err != nil {
				failed = append(failed, err)
				over = false
				continue
			}
		}
		if r.State.Terminal() {
			d.remember(ctx, j, r)
		}
		err := d.tendPart(ctx, j, p, m, r, now)
		if err != nil {
			failed = append(failed, fmt.Errorf("lease %s: %w", p.Lease.Short(), err))
		}
		p.Over = r.State.Terminal() && !(errors.Is(err, errUncollected) && now.Unix() < d.clock.Dated(r).Deadline+collectTime)
		over = over && p.Over
	}
	j.Over = over
	return errors.Join(failed...)
}

// remember finds the result of a lease that has ended, where a crash, or the end,
// came before that was noted.
func (d *Desk) remember(ctx context.Context, j *Job, m market.Lease) {
	if !j.Receipt.IsZero() || m.Receipt == nil {
		return
	}
	rec, err := d.Receipt(ctx, m.Receipt.Digest(d.domain))
	if err != nil {
		return // it was never here
	}
	j.Receipt = rec.ID
	if rec.Audit == AuditDifferent || rec.Audit == AuditChallenged || rec.Audit == AuditSlashed {
		j.Wrong = rec.Note
	}
}

// overdue pokes a lease whose deadline has passed.
func (d *Desk) overdue(ctx context.Context, m market.Lease, now time.Time) error {
	if m.State.Terminal() || now.Unix() <= d.clock.Dated(m).Deadline+1 {
		return nil
	}
	return d.cfg.Ledger.Poke(ctx, m.ID)
}

// tendPart looks after one lease of an order: of is the order's, m the lease.
func (d *Desk) tendPart(ctx context.Context, j *Job, p *Part, of, m market.Lease, now time.Time) error {
	switch m.State {
	case market.Open:
		if p.Lease != j.ID && of.State == market.Replicating {
			if m.Drawn && m.Invited.IsZero() {
				return nil // nobody is drawn yet
			}
			if err := d.match(ctx, j, p, of, m, now); err != nil {
				return errors.Join(err, d.overdue(ctx, m, now))
			}
			return nil
		}
	case market.Active, market.Draining:
		p.Provider = m.Provider
		if !p.Handed {
			if err := d.hand(ctx, j, p, m); err != nil {
				return errors.Join(err, d.overdue(ctx, m, now))
			}
		}
		if m.Of.IsZero() { // else it is handed over when it was compared
			_, err := d.fetch(ctx, j, m)
			return errors.Join(err, d.overdue(ctx, m, now))
		}
	case market.Claimed:
		// Of a replica: once it was compared, and if it was not outvoted.
		if m.Of.IsZero() || m.Agreed == m.Receipt.Result {
			return d.conclude(ctx, j, m, now)
		}
	case market.Settled:
		if j.Receipt.IsZero() && m.Receipt != nil && (m.Of.IsZero() || m.Agreed == m.Receipt.Result) {
			return d.collect(ctx, j, m)
		}
	}
	return d.overdue(ctx, m, now)
}

// errUncollected says that a result that was paid for is not here.
var errUncollected = errors.New("the result is paid for and not here")

// collectTime is for how long after the end such a result is asked for, in seconds: so
// long its provider keeps it.
const collectTime = 3600

// collect fetches a result that was paid for before this buyer could look at it, which
// was away. It can be challenged no more.
func (d *Desk) collect(ctx context.Context, j *Job, m market.Lease) error {
	id := m.Receipt.Digest(d.domain)
	var here bool
	var err error
	if !m.Answer.IsZero() {
		here, err = d.opened(ctx, j, m)
	}
	if !here {
		var ferr error
		here, ferr = d.fetch(ctx, j, m)
		err = errors.Join(err, ferr)
	}
	if !here {
		return errors.Join(errUncollected, err)
	}
	rec, err := d.Receipt(ctx, id)
	if err != nil {
		return errors.Join(errUncollected, err)
	}
	part, wrong, err := d.check(ctx, j, m, rec)
	if err != nil {
		return errors.Join(errUncollected, err)
	}
	if wrong != nil {
		return d.convict(j, rec, part, wrong)
	}
	j.Receipt, j.Wrong = id, ""
	return nil
}

// convict notes that a result is wrong, and asks its provider no more.
func (d *Desk) convict(j *Job, rec Record, part uint64, wrong error) error {
	if j.Receipt.IsZero() || j.Receipt == rec.ID {
		j.Receipt, j.Wrong = rec.ID, wrong.Error()
	}
	if rec.Audit == AuditDifferent {
		return nil
	}
	d.cfg.Log.Error("a result is wrong", "order", j.ID.Short(), "provider", rec.Provider.String(), "err", wrong)
	d.shun(rec.seat(), d.cfg.Shun)
	return d.find(rec.ID, finding{AuditDifferent, wrong.Error(), part})
}

// match has a provider fill a replica: who was drawn, or else the cheapest that has
// not been asked, runs no other and has failed none.
func (d *Desk) match(ctx context.Context, j *Job, p *Part, of, m market.Lease, now time.Time) error {
	seats, err := d.fitting(ctx, j.Order, now)
	if err != nil {
		return err
	}
	taken := func(who square.Address) bool {
		return slices.Contains(of.Left, who) || slices.ContainsFunc(j.Parts, func(o Part) bool { return o.Lease != p.Lease && o.Provider == who })
	}
	job, err := d.request(j.ID)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range seats {
		who := s.Offer.Provider
		if m.Drawn && who != m.Invited || taken(who) || slices.Contains(p.Denied, s.ID) && !m.Drawn {
			continue
		}
		q, err := d.quote(ctx, s.Offer, s.ID, j.Order, p.Lease, m.Nth, job)
		if err == nil {
			err = d.cfg.Ledger.(ResultLedger).Match(ctx, q.Quote, q.Sig)
		}
		if err == nil {
			p.Provider = who
			return nil
		}
		failed = append(failed, err)
		p.Denied = append(p.Denied, s.ID)
	}
	p.Denied = nil // all were asked: from the beginning
	return errors.Join(append(failed, fmt.Errorf("replica %d: %w", m.Nth, ErrNoProvider))...)
}

// to is where the provider of a lease is asked.
func (d *Desk) to(m market.Lease) (target, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.seats[seatKey{m.Order.Trade, m.Provider, m.Slot}]; s != nil && s.offer.Endpoint != "" {
		return target{s.offer.Endpoint, m.Provider, d.cfg.Key, m.ID, 0}, nil
	}
	return target{}, fmt.Errorf("provider %s has no offer that says where it is", m.Provider)
}

// offer is the newest of a lease's provider and slot.
func (d *Desk) offer(m market.Lease) square.Offer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seat(seatKey{m.Order.Trade, m.Provider, m.Slot}).offer
}

// read is what the disk has; nil if nothing.
func (d *Desk) read(bucket string, id square.Hash) (b []byte, err error) {
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		b = bytes.Clone(tx.Bucket([]byte(bucket)).Get(id[:]))
		return nil
	})
	return b, err
}

func (d *Desk) request(id square.Hash) ([]byte, error) {
	job, err := d.read(bucketRequests, id)
	if err == nil && job == nil {
		err = errors.New("the job is not on disk any more")
	}
	return job, err
}

// hand hands the job over.
func (d *Desk) hand(ctx context.Context, j *Job, p *Part, m market.Lease) error {
	job, err := d.request(j.ID)
	if err != nil {
		return err
	}
	to, err := d.to(m)
	if err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := d.call(cctx, to, "job", wire.JobRequest{Lease: m.ID, Job: job}, nil); err != nil {
		return fmt.Errorf("hand the job over: %w", err)
	}
	p.Handed = true
	return nil
}

// fetch asks for a result and stores one that is what the provider signed, whether
// it is right or not. It returns false while there is none.
func (d *Desk) fetch(ctx context.Context, j *Job, m market.Lease) (bool, error) {
	to, err := d.to(m)
	if err != nil {
		return false, err
	}
	cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var reply wire.ResultReply
	err = d.call(cctx, to, "result", wire.ResultRequest{Lease: m.ID}, &reply)
	var refusal *wire.Refusal
	switch {
	case errors.As(err, &refusal) && (refusal.Code == wire.CodeBusy || refusal.Code == wire.CodeStale):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("fetch the result: %w", err)
	case reply.Signed == nil:
		return false, nil
	}
	return true, d.take(j, m, *reply.Signed)
}

// take stores a result that its provider stands for.
func (d *Desk) take(j *Job, m market.Lease, s wire.Signed) error {
	r := s.Receipt
	switch {
	case r.Lease != m.ID || r.Lane != 0 || r.Seq != 1 || r.Cumulative != r.Price:
		return errors.New("the receipt is for something else")
	case r.Request != j.Order.Request:
		return errors.New("the receipt is for another job")
	case r.Result != sha256.Sum256(s.Result):
		return errors.New("the receipt is for another result")
	case r.Price > j.Order.JobValue:
		return fmt.Errorf("the receipt charges %d of at most %d", r.Price, j.Order.JobValue)
	case m.Receipt != nil && r.Digest(d.domain) != m.Receipt.Digest(d.domain):
		return errors.New("the receipt is not the one that was claimed")
	}
	if err := r.Charged(m.Rates); err != nil {
		return err
	}
	if err := r.Verify(d.domain, m.Provider, s.Sig); err != nil {
		return err
	}
	return d.file(j, m, s)
}

// file stores a result with its receipt.
func (d *Desk) file(j *Job, m market.Lease, s wire.Signed) error {
	job, err := d.request(j.ID)
	if err != nil {
		return err
	}
	if _, err := d.Receipt(context.Background(), s.Receipt.Digest(d.domain)); err == nil {
		return nil // it is here
	}
	rec := Record{
		ID: s.Receipt.Digest(d.domain), Provider: m.Provider, Trade: j.Order.Trade,
		Slot: m.Slot, Subject: d.offer(m).Subject, Denom: j.Order.Denom,
		Units: trade.Meter(m.Rates, s.Receipt.Units), Latency: d.cfg.Now().Sub(j.Placed),
		Evidence: square.Evidence{Receipt: s.Receipt, Sig: s.Sig, Request: job, Result: s.Result},
	}
	entries, err := d.filing(&rec)
	if err != nil {
		return err
	}
	if err := d.cfg.Store.Put(entries...); err != nil {
		return fmt.Errorf("keep the result: %w", err)
	}
	return nil
}

// conclude decides on a claimed result: it is fetched, over the wire or, where the
// provider keeps it, over the ledger; held against its receipt; and accepted or
// challenged.
func (d *Desk) conclude(ctx context.Context, j *Job, m market.Lease, now time.Time) error {
	l := d.cfg.Ledger.(ResultLedger)
	id := m.Receipt.Digest(d.domain)
	rec, err := d.Receipt(ctx, id)
	if errors.Is(err, ErrNoReceipt) {
		var here bool
		if first, ferr := d.Receipt(ctx, j.Receipt); ferr == nil && first.Evidence.Receipt.Result == m.Receipt.Result {
			// Another replica's provider has handed over the same.
			here, err = true, d.file(j, m, wire.Signed{Receipt: *m.Receipt, Result: first.Evidence.Result})
		} else if !m.Answer.IsZero() {
			here, err = d.opened(ctx, j, m)
		}
		if !here && (err == nil || errors.Is(err, ErrNoReceipt)) {
			here, err = d.fetch(ctx, j, m)
		}
		if !here {
			return errors.Join(err, d.ask(ctx, m, now), d.overdue(ctx, m, now))
		}
		if err == nil {
			rec, err = d.Receipt(ctx, id)
		}
		if err != nil { // it is not what it is said to be, and so not handed over
			return errors.Join(err, d.ask(ctx, m, now))
		}
	}
	if err != nil {
		return err
	}
	if j.Review && j.Receipt == rec.ID && j.Wrong == "" {
		return d.overdue(ctx, m, now) // it was looked at, and is somebody else's to decide on
	}
	part, wrong, err := d.check(ctx, j, m, rec)
	if err != nil {
		return errors.Join(err, d.overdue(ctx, m, now))
	}
	if wrong == nil && j.Review {
		j.Receipt = rec.ID
		return nil
	}
	if wrong == nil {
		if err := l.Accept(ctx, m.ID); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		j.Receipt, j.Wrong = rec.ID, ""
		d.cfg.Log.Info("result accepted", "order", j.ID.Short(), "provider", m.Provider.String(), "price", m.Receipt.Price)
		return nil
	}
	return errors.Join(d.charge(ctx, j, m, rec, part, wrong), d.overdue(ctx, m, now))
}

// charge challenges a result that is wrong.
func (d *Desk) charge(ctx context.Context, j *Job, m market.Lease, rec Record, part uint64, wrong error) error {
	if err := d.convict(j, rec, part, wrong); err != nil {
		return err // else another draw might take it
	}
	if err := d.cfg.Ledger.Challenge(ctx, m.ID, rec.Evidence, part); err != nil {
		return fmt.Errorf("%w; and it could not be challenged: %w", wrong, err)
	}
	err := d.note(rec.ID, AuditChallenged, wrong.Error())
	d.queue(rec) // after that, to see what becomes of it
	return err
}

// check says what is wrong about a result; nil: nothing that can be seen, or, where
// it can be done again, what the draw let be seen. part is what to have proven. An err
// says that it could not be looked at now.
func (d *Desk) check(ctx context.Context, j *Job, m market.Lease, rec Record) (part uint64, wrong, err error) {
	e := rec.Evidence
	if rec.Audit == AuditDifferent {
		return rec.Part, errors.New(rec.Note), nil
	}
	if err := d.trades[j.Order.Trade].Verify(d.offer(m), e.Request, wire.Signed{Receipt: e.Receipt, Sig: e.Sig, Result: e.Result}); err != nil {
		return 0, err, nil
	}
	a, ok := d.trades[j.Order.Trade].(Auditor)
	if j.Order.Policy != square.PolicyAudit || !ok || !a.Audits(e.Receipt.Subject) || rec.Audit == AuditEqual {
		return 0, nil, nil
	}
	var beacon square.Hash
	rand.Read(beacon[:]) // the provider has signed; see Desk on audits
	if !market.Drawn(beacon, market.AuditProbability(j.Order.JobValue, m.Bonded, 10_000)) {
		return 0, nil, nil
	}
	v, part, err := d.judge(ctx, rec)
	switch {
	case err == nil && v == square.VerdictFraud:
		return part, errors.New("done again, it is another"), nil
	case err != nil && !errors.Is(err, trade.ErrNotJudgeable):
		return 0, nil, fmt.Errorf("audit: %w", err)
	case err == nil:
		return 0, nil, d.note(rec.ID, AuditEqual, "")
	}
	return 0, nil, nil
}

// ask says on the ledger that a result was not handed over, once half of the time
// in which that can be said has gone by.
func (d *Desk) ask(ctx context.Context, m market.Lease, now time.Time) error {
	if m.Asked || now.Unix() < d.clock.Dated(m).Deadline-int64(m.Order.Challenge/2) {
		return nil
	}
	private, err := d.read(bucketSeals, m.ID)
	if err != nil {
		return err
	}
	if private == nil {
		_, private = square.NewSealKey()
		// On disk before it is named: without it the answer could not be read.
		if err := d.cfg.Store.Put(journal.Entry{Bucket: bucketSeals, Key: m.ID[:], Value: private}); err != nil {
			return err
		}
	}
	public, err := square.SealKeyPublic(private)
	if err != nil {
		return err
	}
	d.cfg.Log.Warn("a claimed result was not handed over; asking for it on the ledger", "lease", m.ID.Short(), "provider", m.Provider.String())
	if err := d.cfg.Ledger.(ResultLedger).Withhold(ctx, m.ID, public); err != nil {
		return fmt.Errorf("say that the result is withheld: %w", err)
	}
	return nil
}

// opened reads a result that was sealed on the ledger. Junk is shown to it.
func (d *Desk) opened(ctx context.Context, j *Job, m market.Lease) (bool, error) {
	l := d.cfg.Ledger.(ResultLedger)
	sealed, err := l.Answer(ctx, m.ID)
	if err != nil || len(sealed) == 0 {
		return false, err
	}
	private, err := d.read(bucketSeals, m.ID)
	if err != nil || private == nil {
		return false, err
	}
	plain, err := square.Unseal(private, m.ID, sealed)
	if err == nil && sha256.Sum256(plain) == m.Receipt.Result {
		// The ledger has checked the signature, and does not tell it.
		return true, d.file(j, m, wire.Signed{Receipt: *m.Receipt, Result: plain})
	}
	d.cfg.Log.Error("what was sealed for us is not the result", "lease", m.ID.Short(), "provider", m.Provider.String())
	d.shun(seatKey{m.Order.Trade, m.Provider, m.Slot}, d.cfg.Shun)
	if err := l.Unseal(ctx, m.ID, private); err != nil {
		return false, fmt.Errorf("show that junk was sealed: %w", err)
	}
	return false, errors.New("junk was sealed in place of the result")
}
