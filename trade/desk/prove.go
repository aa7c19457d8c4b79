package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

func (d *Desk) proof(ctx context.Context, s *seat, h held, e square.Evidence) (part uint64, words string, err error) {
	p, ok := d.trades[s.key.trade].(Prover)
	if !ok {
		return 0, "", fmt.Errorf("trade %s has no proofs", s.key.trade)
	}
	return p.Proof(ctx, &Lane{d: d, s: s, h: h}, e)
}

// prove fetches the proof of a lane's last answer, as it was committed, and
// checks it. A provider that has none, or not in time, or a wrong one, is trusted
// no more: the lane is abandoned, the lease closed, and the answer audited, which
// leads to a challenge. The caller holds the lane.
func (d *Desk) prove(ctx context.Context, s *seat, h held, rec Record) error {
	id := rec.ID
	d.mu.Lock()
	queued := d.proving[id] // not if the receipt could not be stored
	d.mu.Unlock()
	defer d.proved(id)
	began := time.Now()
	pctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Proof)
	defer cancel()
	part, words, err := d.proof(pctx, s, h, rec.Evidence)
	if err == nil {
		words = fmt.Sprintf("%s checked %.1f s after the answer", words, time.Since(began).Seconds())
		if nerr := d.note(id, AuditProven, words); nerr != nil {
			d.cfg.Log.Warn("a checked proof could not be noted", "receipt", id.Short(), "err", nerr)
		}
		return nil
	}
	if pctx.Err() != nil {
		err = fmt.Errorf("no proof within %s", d.cfg.Proof)
	}
	err = fmt.Errorf("provider %s: %w: %w", s.key.provider, ErrUnproven, err)
	d.cfg.Log.Error("an answer was not proven", "lease", h.l.id.Short(), "receipt", id.Short(), "err", err)
	if nerr := d.find(id, finding{AuditUnproven, err.Error(), part}); nerr != nil {
		d.cfg.Log.Warn("an unproven answer could not be noted", "receipt", id.Short(), "err", nerr)
	} else if !queued {
		d.queue(rec)
	}
	d.abandon(h, err)
	d.saw(s, false, 0, 0)
	long := d.cfg.Shun
	if !errors.Is(err, trade.ErrProof) {
		long = min(long, proofPause) // it may be its machine's fault
	}
	d.shun(s.key, long)
	return err
}

// proved leaves the audit of an answer, which was queued with its receipt, to the
// auditor: if it was proven there is nothing left to do.
func (d *Desk) proved(id square.Hash) {
	d.mu.Lock()
	delete(d.proving, id)
	d.mu.Unlock()
	wake(d.audits)
}

// proofPause is how long a provider is not asked whose proof did not come.
const proofPause = 10 * time.Minute
