package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Place opens an order that waits for providers.
func (a Account) Place(_ context.Context, o square.Order) error {
	return a.do("place", func() error {
		if o.Buyer != a.Self {
			return errors.New("order: signed by another account")
		}
		r, err := a.rules(o.Trade)
		if err != nil {
			return err
		}
		if err := r.CheckOrder(o); err != nil {
			return err
		}
		_, err = a.Machine.Open(a.mem, a.now(), o.ID(domain), o)
		return err
	})
}

// Match fills an open lease.
func (a Account) Match(_ context.Context, q square.Quote, sig square.Signature) error {
	return a.do("match", func() error {
		if err := q.Verify(domain, sig); err != nil {
			return err
		}
		_, err := a.Machine.Match(a.mem, a.now(), q, q.Digest(domain))
		return err
	})
}

// Invite draws a provider for a replica.
func (l *Ledger) Invite(id square.Hash, who square.Address) error {
	return l.do("invite", func() error {
		_, err := l.Machine.Invite(l.mem, l.now(), id, who)
		return err
	})
}

// ClaimResult claims a result, or shows the one that a replica has committed to.
func (a Account) ClaimResult(_ context.Context, r square.Receipt, sig square.Signature) error {
	return a.do("claim", func() error {
		l, err := a.mem.Lease(r.Lease)
		if err != nil {
			return err
		}
		if err := r.Verify(domain, l.Provider, sig); err != nil {
			return err
		}
		if l.State == market.Showing {
			_, err = a.Machine.Show(a.mem, a.now(), a.Self, r.Lease, r, square.Commitment(r.Digest(domain), sig))
		} else {
			_, err = a.Machine.Claim(a.mem, a.now(), a.Self, r.Lease, r)
		}
		return err
	})
}

// CommitResult fixes a replica's result without showing it.
func (a Account) CommitResult(_ context.Context, r square.Receipt, sig square.Signature) error {
	return a.do("commit", func() error {
		_, err := a.Machine.Commit(a.mem, a.now(), a.Self, r.Lease, square.Commitment(r.Digest(domain), sig))
		return err
	})
}

// Accept takes a claimed result.
func (a Account) Accept(_ context.Context, id square.Hash) error {
	return a.do("accept", func() error {
		_, err := a.Machine.Accept(a.mem, a.now(), a.Self, id)
		return err
	})
}

// Withhold says that a claimed result was not handed over.
func (a Account) Withhold(_ context.Context, id square.Hash, key []byte) error {
	return a.do("withhold", func() error {
		if err := square.CheckSealKey(key); err != nil {
			return err
		}
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		var value uint64
		if l.Receipt != nil {
			value = l.Receipt.Price
		}
		if _, err := a.Machine.Withhold(a.mem, a.now(), a.Self, id, a.Machine.LeastBond(l.Order, value)); err != nil {
			return err
		}
		a.asked[id] = question{key: key}
		return nil
	})
}

// Question is the key to seal a result to that is said to be withheld.
func (a Account) Question(_ context.Context, id square.Hash) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.asked[id]
	if !ok {
		return nil, market.ErrNotFound
	}
	return slices.Clone(q.key), nil
}

// AnswerWithheld hands a result over that was said to be withheld.
func (a Account) AnswerWithheld(_ context.Context, id square.Hash, answer []byte) error {
	return a.do("answer", func() error {
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		if _, err := a.Machine.Answer(a.mem, a.now(), a.Self, id, sha256.Sum256(answer), 0); err != nil {
			return err
		}
		if r, ok := a.Rules[l.Order.Trade].(trade.Answerable); ok {
			c := trade.Case{Lease: l}
			c.Receipt = *l.Receipt
			if err := r.CheckAnswer(c, answer); err != nil {
				return err
			}
		}
		a.asked[id] = question{a.asked[id].key, answer}
		return nil
	})
}

// Answer is what was answered.
func (a Account) Answer(_ context.Context, id square.Hash) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.asked[id]
	if !ok || q.answer == nil {
		return nil, market.ErrNotFound
	}
	return slices.Clone(q.answer), nil
}

// Unseal shows the private half of the key, so that the ledger sees what was sealed.
func (a Account) Unseal(_ context.Context, id square.Hash, key []byte) error {
	return a.do("unseal", func() error {
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		q := a.asked[id]
		if l.Order.Buyer != a.Self || q.answer == nil {
			return fmt.Errorf("unseal: %w: nothing was sealed for %v", market.ErrParty, a.Self)
		}
		if public, err := square.SealKeyPublic(key); err != nil || !bytes.Equal(public, q.key) {
			return errors.New("unseal: it is not the private half of the key that was named")
		}
		charge := market.Charge{Way: market.ByJudges, Evidence: sha256.Sum256(append(id[:], key...)), Value: l.Receipt.Price}
		if _, err := a.Machine.Challenge(a.mem, a.now(), a.Self, id, charge, a.Machine.LeastBond(l.Order, charge.Value)); err != nil {
			return err
		}
		verdict := square.VerdictFraud
		if plain, err := square.Unseal(key, id, q.answer); err == nil && sha256.Sum256(plain) == l.Receipt.Result {
			verdict = square.VerdictOK
		}
		_, err = a.Machine.Judge(a.mem, a.now(), id, verdict)
		return err
	})
}
