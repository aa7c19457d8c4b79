package desk

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// ResultLedger is a Ledger over which results can be ordered.
type ResultLedger interface {
	Ledger
	// Place places a replicated order; Match fills one of its replicas.
	Place(ctx context.Context, o square.Order) error
	Match(ctx context.Context, q square.Quote, sig square.Signature) error
	// Accept takes a claimed result.
	Accept(ctx context.Context, lease square.Hash) error
	// Withhold says that a claimed result was not handed over, and names the public
	// half of a key to seal it to.
	Withhold(ctx context.Context, lease square.Hash, key []byte) error
	// Answer is what was answered to that; empty where the provider has named a
	// place in its stead, market.ErrNotFound, wrapped, while there is none.
	Answer(ctx context.Context, lease square.Hash) (sealed []byte, err error)
	// Unseal shows the private half, so that the ledger sees that junk was sealed.
	Unseal(ctx context.Context, lease square.Hash, key []byte) error
}

// Job is an order for a result and how it stands.
type Job struct {
	ID     square.Hash  `json:"id"` // the order's, and of its lease
	Order  square.Order `json:"order"`
	Placed time.Time    `json:"placed"`
	Over   bool         `json:"over"`
	// Review says that somebody looks at the result, and accepts or challenges it. The
	// desk challenges what it finds wrong itself.
	Review bool `json:"review,omitempty"`
	// Receipt is that of the result, once it is here; Desk.Receipt has its bytes.
	// A result that is not right has one as well: Wrong says what it is.
	Receipt square.Hash `json:"receipt"`
	Wrong   string      `json:"wrong,omitempty"`
	// How the order's lease stands, when last seen. That of a replicated one tells of
	// the replicas as well.
	State  market.State  `json:"state,omitempty"`
	Reason market.Reason `json:"reason,omitempty"`
	Note   string        `json:"note,omitempty"` // what went wrong last

	Parts []Part `json:"parts,omitempty"`
}

// Part is one lease of an order: its own, or that of a replica.
type Part struct {
	Lease    square.Hash    `json:"lease"`
	Provider square.Address `json:"provider"`         // zero: nobody has taken it yet
	Handed   bool           `json:"handed,omitempty"` // the provider has the job
	Over     bool           `json:"over,omitempty"`
	Denied   []square.Hash  `json:"denied,omitempty"` // offers whose provider did not take it
}

// order is a job that is under way.
type order struct {
	job Job // of whoever set busy
	// Guarded by Desk.mu.
	busy  bool
	due   time.Time // of the next step; monotonic
	tries int       // steps that failed, in a row
}

// maxJobs bounds how many orders are under way at once.
const maxJobs = 1000

// maxRounds is how often offers are read again for one order.
const maxRounds = 3

// Order buys the result of a job. o says what is wanted and for how much: trade,
// spec, max rates, and what else is not to be as in the desk's standing leases; the
// desk names parties, request, salt and expiry. The order goes to the provider that
// fits and is cheapest, by its rates as a share of the largest; under the policy
// replicate to two, or up to five.
//
// It is on disk before money moves, and Order returns when the order has its lease.
// Run does the rest, also after a crash: it hands the job over, waits, checks the
// result, and accepts or challenges it. See Wait.
func (d *Desk) Order(ctx context.Context, o square.Order, job []byte) (Job, error) {
	return d.order(ctx, o, job, false)
}

// OrderForReview is Order of a result that is not accepted before somebody says so: see
// Accept and Challenge. What nobody decides on is paid when it can be challenged no more.
func (d *Desk) OrderForReview(ctx context.Context, o square.Order, job []byte) (Job, error) {
	return d.order(ctx, o, job, true)
}

func (d *Desk) order(ctx context.Context, o square.Order, job []byte, review bool) (Job, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return Job{}, errClosed
	}
	d.working.Add(1)
	d.mu.Unlock()
	defer d.working.Done()
	l, ok := d.cfg.Ledger.(ResultLedger)
	if !ok {
		return Job{}, errors.New("order: this ledger takes no orders for results")
	}
	t := d.trades[o.Trade]
	if t == nil {
		return Job{}, fmt.Errorf("order: trade %q is not known here", o.Trade)
	}
	if len(job) > wire.MaxJob {
		return Job{}, fmt.Errorf("order: the job has %d bytes: at most %d", len(job), wire.MaxJob)
	}
	if _, err := d.clock.Refresh(ctx); err != nil {
		return Job{}, stall(err)
	}
	if age := d.clock.Age(); age > stalled {
		return Job{}, fmt.Errorf("%w: the last block came %s ago", ErrStalled, age.Round(time.Second))
	}
	now, err := d.clock.Now(ctx)
	if err != nil {
		return Job{}, stall(err)
	}
	d.fill(&o, job, now)
	if review && o.Policy == square.PolicyReplicate {
		return Job{}, errors.New("order: policy replicate: replicas are compared with each other, so there is nothing to review; use audit or none")
	}
	if o.Policy == square.PolicyProve {
		return Job{}, errors.New("order: policy prove: results come without proofs yet; use audit or replicate")
	}
	if err := o.Check(); err != nil {
		return Job{}, err
	}
	if err := t.CheckOrder(o); err != nil {
		return Job{}, err
	}
	balance, err := d.cfg.Ledger.Balance(ctx, o.Denom)
	if err != nil {
		return Job{}, fmt.Errorf("order: %w", err)
	}
	if balance < o.Escrow {
		return Job{}, fmt.Errorf("%w: it is %s, and the order's escrow is %d", ErrFunds, square.Amount{Units: balance, Denom: o.Denom}, o.Escrow)
	}
	offers, err := d.fitting(ctx, o, now)
	if err != nil {
		return Job{}, err
	}
	x := &order{busy: true, job: Job{ID: o.ID(d.domain), Order: o, Placed: d.cfg.Now(), Review: review}}
	defer d.let(x)
	if o.Policy == square.PolicyReplicate {
		if err := d.admit(x, job); err != nil {
			return Job{}, err
		}
		err = l.Place(ctx, o)
		return d.placed(ctx, x, err)
	}
	var failed []error
	asked := map[square.Hash]bool{}
	// An offer may be replaced between its quote and the order: the new one is asked.
	for round := 0; round < maxRounds && len(offers) > 0; round++ {
		for _, s := range offers {
			asked[s.ID] = true
			q, err := d.quote(ctx, s.Offer, s.ID, o, x.job.ID, 0, job)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			x.job.Parts = []Part{{Lease: x.job.ID, Provider: s.Offer.Provider}}
			if d.known(x.job.ID) {
				err = d.keep(x.job)
			} else {
				err = d.admit(x, job)
			}
			if err != nil {
				return Job{}, err
			}
			// An order is filled once: asking the next is safe whatever became of this.
			if err = l.Open(ctx, o, q.Quote, q.Sig); err != nil {
				err = fmt.Errorf("order with provider %s: %w", s.Offer.Provider, err)
			}
			j, err := d.placed(ctx, x, err)
			if err == nil || errors.Is(err, ErrFunds) || errors.Is(err, ErrStalled) || ctx.Err() != nil {
				return j, err
			}
			failed = append(failed, err)
		}
		if offers, err = d.fitting(ctx, o, now); err != nil {
			failed = append(failed, err)
			break
		}
		offers = slices.DeleteFunc(offers, func(s Seat) bool { return asked[s.ID] })
	}
	return Job{}, fmt.Errorf("order: %w: %w", ErrProvider, errors.Join(failed...))
}

// fill completes an order.
func (d *Desk) fill(o *square.Order, job []byte, now time.Time) {
	seconds := func(v *uint64, t time.Duration) {
		if *v == 0 {
			*v = uint64(max(t/time.Second, 1))
		}
	}
	o.Buyer, o.Authorizer, o.Mode, o.Request = d.cfg.Owner.Address(), d.cfg.Key.Address(), square.ModeResult, sha256.Sum256(job)
	o.Lanes, o.Idle, o.Silence = 0, 0, 0
	def(&o.Denom, d.cfg.Denom)
	def(&o.JobValue, d.cfg.JobValue)
	def(&o.Policy, d.cfg.Policy)
	def(&o.Units, 1)
	if o.Escrow == 0 {
		o.Escrow = o.JobValue
		if o.Policy == square.PolicyReplicate {
			o.Escrow *= square.ReplicasMore
		}
	}
	seconds(&o.Start, d.cfg.Start)
	seconds(&o.Duration, d.cfg.Duration)
	seconds(&o.Challenge, d.cfg.Challenge)
	seconds(&o.Drain, d.cfg.Drain)
	o.Expiry = now.Add(time.Minute).Unix()
	rand.Read(o.Salt[:])
}

// fitting are the goods that an order may be filled from, the cheapest first.
func (d *Desk) fitting(ctx context.Context, o square.Order, now time.Time) ([]Seat, error) {
	if err := d.list(ctx, 0); err != nil {
		return nil, err
	}
	t := d.trades[o.Trade]
	var why error
	seats, err := d.Seats(ctx, o.Trade, func(f *square.Offer) bool {
		err := t.Fits(*f, o)
		if err == nil {
			err = square.Within(t.Rates(*f, o.Policy), o.MaxRates)
		}
		if err != nil {
			why = fmt.Errorf("%s by %s: %w", f.Subject, f.Provider, err)
		}
		return err == nil && f.Expiry > now.Unix() && f.Denom == o.Denom && f.Provider != o.Buyer && f.Provider != o.Authorizer
	})
	if err != nil {
		return nil, err
	}
	if len(seats) == 0 {
		if why != nil {
			return nil, fmt.Errorf("order: %w; the last that was looked at: %w", ErrNoProvider, why)
		}
		return nil, fmt.Errorf("order: %w", ErrNoProvider)
	}
	share := func(s Seat) (sum float64) { // an estimate to rank by; nothing is paid by it
		for i, r := range t.Rates(s.Offer, o.Policy) {
			sum += float64(r.PerMillion) / float64(max(o.MaxRates[i].PerMillion, 1))
		}
		return sum
	}
	slices.SortStableFunc(seats, func(a, b Seat) int {
		return cmp.Or(cmp.Compare(share(a), share(b)), cmp.Compare(a.Failures, b.Failures))
	})
	return seats, nil
}

// placed tells what came of placing an order. One that may have been placed all the
// same is looked after.
func (d *Desk) placed(ctx context.Context, x *order, err error) (Job, error) {
	if err == nil {
		d.cfg.Log.Info("order placed", "order", x.job.ID.String(), "trade", x.job.Order.Trade, "escrow", x.job.Order.Escrow)
		return x.job, nil
	}
	if _, lerr := d.cfg.Ledger.Lease(ctx, x.job.ID); lerr == nil {
		return x.job, nil
	}
	return Job{}, fmt.Errorf("place the order: %w", err)
}

// let has an order's next step taken.
func (d *Desk) let(x *order) {
	d.mu.Lock()
	x.busy = false
	d.mu.Unlock()
	wake(d.jobs)
}

func (d *Desk) known(id square.Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.orders[id] != nil
}

// admit puts an order and its job on disk, before money moves.
func (d *Desk) admit(x *order, job []byte) error {
	d.mu.Lock()
	n := len(d.orders)
	d.mu.Unlock()
	if n >= maxJobs {
		return fmt.Errorf("order: %w: %d orders are under way, at most %d", ErrBusy, n, maxJobs)
	}
	b, err := json.Marshal(x.job)
	if err == nil {
		err = d.cfg.Store.Put(
			journal.Entry{Bucket: bucketRequests, Key: x.job.ID[:], Value: job},
			journal.Entry{Bucket: bucketJobs, Key: x.job.ID[:], Value: b},
		)
	}
	if err != nil {
		return fmt.Errorf("the disk failed, nothing was ordered: %w", err)
	}
	d.mu.Lock()
	d.orders[x.job.ID] = x
	d.mu.Unlock()
	return nil
}

func (d *Desk) keep(j Job) error { return d.save(bucketJobs, j.ID[:], j) }

// loadJobs takes up the orders that were under way.
func (d *Desk) loadJobs(tx *bolt.Tx) error {
	return tx.Bucket([]byte(bucketJobs)).ForEach(func(k, v []byte) error {
		var j Job
		if err := json.Unmarshal(v, &j); err != nil || len(k) != 32 || j.ID != square.Hash(k) {
			return fmt.Errorf("desk: order %x on disk is damaged: %w", k, err)
		}
		if !j.Over {
			d.orders[j.ID] = &order{job: j}
		}
		return nil
	})
}

// pruneJobs drops orders that were over before receipts of now are kept.
func (d *Desk) pruneJobs() error {
	oldest := d.cfg.Now().Add(-d.cfg.Retain)
	return d.cfg.Store.Update(func(tx *bolt.Tx) error {
		jobs, requests, seals := tx.Bucket([]byte(bucketJobs)), tx.Bucket([]byte(bucketRequests)), tx.Bucket([]byte(bucketSeals))
		var gone, keys [][]byte
		err := jobs.ForEach(func(k, v []byte) error {
			var j Job
			if err := json.Unmarshal(v, &j); err != nil {
				return fmt.Errorf("desk: order %x on disk is damaged: %w", k, err)
			}
			if j.Over && j.Placed.Before(oldest) && len(gone) < pruneBatch {
				gone = append(gone, bytes.Clone(k))
				for _, p := range j.Parts {
					keys = append(keys, p.Lease[:])
				}
			}
			return nil
		})
		for _, k := range gone {
			err = errors.Join(err, jobs.Delete(k), requests.Delete(k))
		}
		for _, k := range keys {
			err = errors.Join(err, seals.Delete(k))
		}
		return err
	})
}

// ErrNoJob says that an order was never placed here, or is no longer kept.
var ErrNoJob = errors.New("no such order")

// Job tells how an order stands.
func (d *Desk) Job(id square.Hash) (j Job, err error) {
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketJobs)).Get(id[:])
		if b == nil {
			return fmt.Errorf("order %s: %w", id.Short(), ErrNoJob)
		}
		return json.Unmarshal(b, &j)
	})
	return j, err
}

// Jobs are all orders that are kept, the newest first.
func (d *Desk) Jobs() (js []Job, err error) {
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketJobs)).ForEach(func(_, v []byte) error {
			var j Job
			if err := json.Unmarshal(v, &j); err != nil {
				return err
			}
			js = append(js, j)
			return nil
		})
	})
	slices.SortFunc(js, func(a, b Job) int { return b.Placed.Compare(a.Placed) })
	return js, err
}

// Wait waits until an order is over, or has its result, right or wrong: whichever
// comes first.
func (d *Desk) Wait(ctx context.Context, id square.Hash) (Job, error) {
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		j, err := d.Job(id)
		if err != nil || j.Over || !j.Receipt.IsZero() {
			return j, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return j, ctx.Err()
		}
	}
}
