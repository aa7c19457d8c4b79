package desk

import (
	"context"
	"errors"
	"fmt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// ErrDecide says why nothing can be decided about an order's result. It is wrapped.
var ErrDecide = errors.New("nothing can be decided about this order")

// Accept takes an order's result, which is paid at once.
func (d *Desk) Accept(ctx context.Context, id square.Hash) (Job, error) {
	return d.decide(ctx, id, func(j *Job, m market.Lease, rec Record) error {
		if err := d.cfg.Ledger.(ResultLedger).Accept(ctx, m.ID); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		j.Receipt, j.Wrong = rec.ID, ""
		d.cfg.Log.Info("result accepted", "order", j.ID.Short(), "provider", m.Provider.String(), "price", m.Receipt.Price)
		return nil
	})
}

// Challenge brings an order's result before the ledger as wrong, with its receipt, job
// and bytes as evidence. What can be done again here is done again first, by the ledger's
// own rules: what those find right is not challenged, since that would cost the bond. why
// is kept with the receipt.
func (d *Desk) Challenge(ctx context.Context, id square.Hash, why string) (Job, error) {
	return d.decide(ctx, id, func(j *Job, m market.Lease, rec Record) error {
		v, part, err := d.judge(ctx, rec)
		switch {
		case errors.Is(err, trade.ErrNotJudgeable): // judges will say
		case err != nil:
			return fmt.Errorf("challenge: %w", err)
		case v == square.VerdictOK:
			return fmt.Errorf("%w: done again here its result is the same, so the ledger would find it right and the challenge would cost its bond", ErrDecide)
		}
		return d.charge(ctx, j, m, rec, part, errors.New(why))
	})
}

// decide has something decided about an order whose result is claimed and here, between
// the desk's own steps.
func (d *Desk) decide(ctx context.Context, id square.Hash, f func(*Job, market.Lease, Record) error) (Job, error) {
	x, err := d.hands(ctx, id)
	if err != nil {
		return Job{}, err
	}
	defer d.let(x)
	no := func(format string, args ...any) (Job, error) {
		return Job{}, fmt.Errorf("%w: "+format, append([]any{ErrDecide}, args...)...)
	}
	m, err := d.cfg.Ledger.Lease(ctx, id)
	switch {
	case err != nil:
		return Job{}, fmt.Errorf("order %s: %w", id.Short(), err)
	case x.job.Order.Policy == square.PolicyReplicate:
		return no("its replicas are compared with each other, and the ledger decides")
	case m.State.Terminal():
		return no("it has ended: %s (%s)", m.State, m.Reason)
	case m.State != market.Claimed:
		return no("it is %s, and only a result that is claimed can be accepted or challenged", m.State)
	}
	rec, err := d.Receipt(ctx, m.Receipt.Digest(d.domain))
	if errors.Is(err, ErrNoReceipt) {
		return no("its result is claimed and not here yet")
	} else if err != nil {
		return Job{}, err
	}
	if err := f(&x.job, m, rec); err != nil {
		return Job{}, err
	}
	return x.job, d.keep(x.job)
}

// hands takes an order that is under way into the caller's hands, when the foreman has
// let it go; let gives it back.
func (d *Desk) hands(ctx context.Context, id square.Hash) (*order, error) {
	for {
		d.mu.Lock()
		x, changed := d.orders[id], d.changed
		free := x != nil && !x.busy
		if free {
			x.busy = true
		}
		d.mu.Unlock()
		if x == nil {
			j, err := d.Job(id)
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%w: it has ended: %s (%s)", ErrDecide, j.State, j.Reason)
		}
		if free {
			return x, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
