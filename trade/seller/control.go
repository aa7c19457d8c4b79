package seller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// Control is what the owner of a provider has decided. It is on disk: what was
// paused stays so after a restart.
type Control struct {
	// Paused refuses new leases and new work (CodePaused) and withdraws the
	// offers. What runs ends, what is owed is redeemed.
	Paused bool `json:"paused"`
	// Lanes is the most pieces of work at once, over all trades; 0 is as many as the
	// offers have places.
	Lanes int `json:"lanes"`
}

// ErrControl is wrapped by SetControl's refusal of what cannot be.
var ErrControl = errors.New("it cannot be so")

var errPaused = wire.Refuse(wire.CodePaused, "the provider has paused, and takes no work until its owner resumes; nothing was charged")

// control is the Control in force, and the work that it limits.
type control struct {
	setting sync.Mutex // one change at a time
	now     atomic.Pointer[Control]
	running atomic.Int64
}

// Control is what is in force.
func (s *Seller) Control() Control {
	if c := s.control.now.Load(); c != nil {
		return *c
	}
	return Control{}
}

// SetControl puts a control on disk and in force. Offers are withdrawn, or
// posted again, within a Tick of Run.
func (s *Seller) SetControl(c Control) error {
	if c.Lanes < 0 || c.Lanes > square.MaxLanes {
		return fmt.Errorf("lanes %d: %w: want 1 to %d, or 0 for no limit", c.Lanes, ErrControl, square.MaxLanes)
	}
	s.control.setting.Lock()
	defer s.control.setting.Unlock()
	if err := s.save(bucketOwner, []byte("control"), c); err != nil {
		return fmt.Errorf("seller: control: %w", err)
	}
	s.control.now.Store(&c)
	s.Log.Info("control", "paused", c.Paused, "lanes", c.Lanes)
	s.wake()
	return nil
}

// withdrawOffers takes every offer that is not known to be withdrawn from the
// ledger: also those of a run before this one.
func (s *Seller) withdrawOffers(ctx context.Context) error {
	s.mu.Lock()
	keys := slices.Collect(maps.Keys(s.goods))
	for _, o := range s.offers {
		if s.goods[keyOf(o)] == nil {
			keys = append(keys, keyOf(o))
		}
	}
	keys = slices.DeleteFunc(keys, func(k goodKey) bool { return s.gone[k] })
	s.mu.Unlock()
	var failed []error
	for _, k := range keys {
		err := s.Ledger.WithdrawOffer(ctx, k.trade, k.spec)
		if err != nil && !errors.Is(err, market.ErrNotFound) && !errors.Is(err, market.ErrState) {
			failed = append(failed, err)
			continue
		}
		s.mu.Lock()
		s.gone[k] = true
		for id, o := range s.offers {
			if keyOf(o) == k {
				delete(s.offers, id)
			}
		}
		s.mu.Unlock()
	}
	return errors.Join(failed...)
}
