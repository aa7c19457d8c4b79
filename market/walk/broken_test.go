package walk

import (
	"errors"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

var errBroken = errors.New("the disk is full")

// broken is a store whose nth call fails.
type broken struct {
	market.Store
	left int
}

func (b *broken) call() error {
	b.left--
	if b.left == -1 {
		return errBroken
	}
	return nil
}

func (b *broken) Lease(id square.Hash) (market.Lease, error) {
	if err := b.call(); err != nil {
		return market.Lease{}, err
	}
	return b.Store.Lease(id)
}

func (b *broken) SetLease(l market.Lease) error { return errors.Join(b.call(), b.Store.SetLease(l)) }

func (b *broken) DropLease(id square.Hash) error {
	return errors.Join(b.call(), b.Store.DropLease(id))
}

func (b *broken) Offer(k market.OfferKey) (market.Offer, error) {
	if err := b.call(); err != nil {
		return market.Offer{}, err
	}
	return b.Store.Offer(k)
}

func (b *broken) SetOffer(o market.Offer) error { return errors.Join(b.call(), b.Store.SetOffer(o)) }

func (b *broken) DropOffer(k market.OfferKey) error {
	return errors.Join(b.call(), b.Store.DropOffer(k))
}

func (b *broken) Stake(k market.StakeKey) (market.Stake, error) {
	if err := b.call(); err != nil {
		return market.Stake{}, err
	}
	return b.Store.Stake(k)
}

func (b *broken) SetStake(k market.StakeKey, s market.Stake) error {
	return errors.Join(b.call(), b.Store.SetStake(k, s))
}

func (b *broken) Used(h square.Hash) (bool, error) {
	if err := b.call(); err != nil {
		return false, err
	}
	return b.Store.Used(h)
}

func (b *broken) Use(h square.Hash, until int64) error {
	return errors.Join(b.call(), b.Store.Use(h, until))
}

func (b *broken) Move(from, to market.Pot, a square.Amount) error {
	if err := b.call(); err != nil {
		return err
	}
	return b.Store.Move(from, to, a)
}

// TestBrokenStore breaks every call that an operation makes to its store, one
// at a time, and requires that the operation says so.
func TestBrokenStore(t *testing.T) {
	h := newHistory(5)
	apply, tried := h.apply, map[Verb]int{}
	h.apply = func(op Op) ([]market.Event, error) {
		whole := &broken{h.memory, 1 << 30}
		undo := errors.New("undo")
		try := func(s market.Store) (err error) {
			_ = h.memory.Atomically(func() error {
				_, err = op.Apply(h.machine, s)
				return undo
			})
			return err
		}
		if try(whole) == nil && tried[op.Verb] < 200 {
			tried[op.Verb]++
			for n := range 1<<30 - whole.left {
				if err := try(&broken{h.memory, n}); !errors.Is(err, errBroken) {
					t.Fatalf("%v: call %d to the store failed, the operation says: %v", op, n, err)
				}
			}
		}
		return apply(op)
	}
	for range 20_000 {
		if err := h.step(); err != nil {
			t.Fatal(err)
		}
	}
	if len(tried) != 32 {
		t.Errorf("tried only %v", tried)
	}
}
