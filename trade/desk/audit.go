package desk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

func (d *Desk) auditorOf(r Record) Auditor {
	if a, ok := d.trades[r.Trade].(Auditor); ok && a.Audits(r.Evidence.Receipt.Subject) {
		return a
	}
	return nil
}

// seat is whose work the receipt is for.
func (r Record) seat() seatKey { return seatKey{r.Trade, r.Provider, r.Slot} }

// draw decides whether an answer is audited and, if so, queues it on disk.
func (d *Desk) draw(rec Record, bond, jobValue uint64) {
	if d.auditorOf(rec) == nil {
		return
	}
	var beacon square.Hash
	rand.Read(beacon[:])
	// Re-execution detects every wrong answer: a detection power of one.
	if !market.Drawn(beacon, market.AuditProbability(jobValue, bond, 10_000)) {
		return
	}
	d.queue(rec)
}

// Doubt has an answer audited that another provider's differs from, or that nobody
// else's could be held against, where that can be done here.
func (d *Desk) Doubt(rec Record) {
	if d.auditorOf(rec) != nil {
		d.queue(rec)
	}
}

// queue has an answer audited. Until it is, its lease is not closed: only an open
// one can be challenged.
func (d *Desk) queue(rec Record) {
	lease := rec.Evidence.Receipt.Lease
	d.mu.Lock()
	d.pending[lease]++
	d.mu.Unlock()
	if err := d.cfg.Store.PutSoon(journal.Entry{Bucket: bucketAudits, Key: rec.ID[:]}); err != nil {
		d.audited(lease)
		d.cfg.Log.Warn("audit could not be queued", "receipt", rec.ID.Short(), "err", err)
		return
	}
	wake(d.audits)
}

func (d *Desk) audited(lease square.Hash) {
	d.mu.Lock()
	if d.pending[lease]--; d.pending[lease] <= 0 {
		delete(d.pending, lease)
	}
	d.mu.Unlock()
}

// auditor makes the audits that were drawn, one at a time, until ctx ends.
func (d *Desk) auditor(ctx context.Context) {
	retry := time.NewTicker(2 * time.Second)
	defer retry.Stop()
	for {
		d.auditDue(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.audits:
		case <-retry.C:
		}
	}
}

// auditDue makes the audits of the queue. One that cannot be made now, or whose
// challenge is not judged yet, stays in it.
func (d *Desk) auditDue(ctx context.Context) {
	var due []square.Hash
	_ = d.cfg.Store.View(func(tx *bolt.Tx) error { // on a failure nothing is due this time
		return tx.Bucket([]byte(bucketAudits)).ForEach(func(k, _ []byte) error {
			if len(k) == 32 {
				due = append(due, square.Hash(k))
			}
			return nil
		})
	})
	for _, id := range due {
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		wait := d.proving[id]
		d.mu.Unlock()
		if wait {
			continue
		}
		rec, err := d.Receipt(ctx, id)
		if err == nil {
			_, err = d.Audit(ctx, id)
		}
		if err != nil && !errors.Is(err, ErrNoReceipt) {
			if ctx.Err() == nil && !errors.Is(err, errJudging) {
				d.cfg.Log.Warn("audit failed, will try again", "receipt", id.Short(), "err", err)
			}
			continue
		}
		err = d.cfg.Store.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketAudits)).Delete(id[:]) })
		if err == nil {
			d.audited(rec.Evidence.Receipt.Lease)
		}
	}
}

// maxJudging is how many answers are re-executed at once, whoever asks for it.
const maxJudging = 2

// judge does work again. part is what to have proven.
func (d *Desk) judge(ctx context.Context, rec Record) (v square.Verdict, part uint64, err error) {
	if err := ctx.Err(); err != nil {
		return "", 0, err // where both could happen, who has stopped waiting gets no turn
	}
	select {
	case d.judging <- struct{}{}:
		defer func() { <-d.judging }()
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
	if a, ok := d.trades[rec.Trade].(Auditor); ok {
		return a.Audit(ctx, rec)
	}
	return "", 0, fmt.Errorf("trade %s: %w", rec.Trade, trade.ErrNotJudgeable)
}

// Audit re-executes an answer and notes what it finds. A wrong answer is
// challenged on the ledger while its lease is open, and its provider is asked
// no more.
func (d *Desk) Audit(ctx context.Context, id square.Hash) (Audit, error) {
	rec, err := d.Receipt(ctx, id)
	if err != nil {
		return AuditNone, err
	}
	switch rec.Audit {
	case AuditEqual, AuditDifferent, AuditSlashed, AuditUpheld, AuditProven:
		return rec.Audit, nil
	case AuditChallenged:
		return d.followUp(ctx, rec)
	}
	verdict, part, err := d.judge(ctx, rec)
	switch {
	case rec.Audit == AuditUnproven && errors.Is(err, trade.ErrNotJudgeable):
		part = rec.Part // we cannot tell; its provider is to prove it to the ledger
	case err != nil:
		return AuditNone, fmt.Errorf("audit %s: %w", id.Short(), err)
	case verdict == square.VerdictOK && rec.Audit == AuditUnproven:
		return AuditUnproven, d.note(id, AuditUnproven, rec.Note+"; re-executed here the answer is right")
	case verdict == square.VerdictOK:
		return AuditEqual, d.note(id, AuditEqual, "")
	}
	lease := rec.Evidence.Receipt.Lease
	log := d.cfg.Log.With("lease", lease.Short(), "provider", rec.Provider.String(), "receipt", id.Short())
	log.Error("audit: the work is not what it should be, or its provider does not prove it")
	d.shun(rec.seat(), d.cfg.Shun)
	m, err := d.cfg.Ledger.Lease(ctx, lease)
	switch {
	case errors.Is(err, market.ErrNotFound) || err == nil && (m.State.Terminal() || m.State == market.Disputed):
		return AuditDifferent, d.note(id, AuditDifferent, "the lease is "+string(m.State)+" already")
	case err != nil:
		return AuditNone, err
	}
	if err := d.cfg.Ledger.Challenge(ctx, lease, rec.Evidence, part); err != nil {
		return AuditNone, fmt.Errorf("challenge: %w", err)
	}
	log.Info("challenged")
	rec.Audit = AuditChallenged
	if err := d.note(id, AuditChallenged, ""); err != nil {
		return AuditChallenged, err
	}
	return d.followUp(ctx, rec)
}

// errJudging says that the judges have not found yet.
var errJudging = errors.New("the challenge is not judged yet")

// followUp sees what became of a challenge.
func (d *Desk) followUp(ctx context.Context, rec Record) (Audit, error) {
	m, err := d.cfg.Ledger.Lease(ctx, rec.Evidence.Receipt.Lease)
	switch {
	case errors.Is(err, market.ErrNotFound):
		return AuditDifferent, d.note(rec.ID, AuditDifferent, "the ledger has forgotten the lease")
	case err != nil:
		return AuditChallenged, err
	case m.State == market.Slashed:
		return AuditSlashed, d.note(rec.ID, AuditSlashed, "")
	case m.State == market.Disputed:
		return AuditChallenged, errJudging
	case m.State == market.Failed:
		return AuditDifferent, d.note(rec.ID, AuditDifferent, "the judges were silent")
	}
	d.shun(rec.seat(), 0)
	return AuditUpheld, d.note(rec.ID, AuditUpheld, "the judge found the answer right")
}

// shun asks a provider's good no more for so long, by the ledger's time.
func (d *Desk) shun(k seatKey, long time.Duration) {
	now, err := d.clock.Now(context.Background())
	if err != nil {
		now = d.cfg.Now()
	}
	until := now.Add(long).Unix()
	d.mu.Lock()
	d.seat(k).shunned = until
	d.mu.Unlock()
	err = d.cfg.Store.Put(journal.Entry{Bucket: bucketShunned, Key: k.bytes(), Value: binary.BigEndian.AppendUint64(nil, uint64(until))})
	if err != nil {
		d.cfg.Log.Warn("a shunned provider could not be noted", "provider", k.provider.String(), "err", err)
	}
	wake(d.kick)
}
