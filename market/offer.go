package market

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// PostOffer makes o, whose digest is id, the live offer of its slot. The caller
// has checked that the provider signed it. A newer nonce replaces an older
// offer; leases under it keep their units.
func (m Machine) PostOffer(s Store, now int64, id square.Hash, o square.Offer) ([]Event, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if wall := now + m.Lag; o.Expiry <= wall {
		return nil, fmt.Errorf("offer: %w: it expired at %d and it is %d", ErrLate, o.Expiry, wall)
	}
	next := Offer{Offer: o, ID: id}
	old, err := s.Offer(next.Key())
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("offer: %w", err)
	case o.Nonce <= old.Nonce:
		return nil, fmt.Errorf("offer: nonce %d: %w: the newest is %d; sign a larger one", o.Nonce, ErrUsed, old.Nonce)
	case o.Capacity < old.InUse:
		return nil, fmt.Errorf("offer: capacity %d is less than the %d units in use; withdraw the old offer and wait for its leases to end", o.Capacity, old.InUse)
	default:
		next.InUse = old.InUse
	}
	return setOffer(s, now, EvOffered, next)
}

// WithdrawOffer ends the live offer of a slot for new leases.
func (m Machine) WithdrawOffer(s Store, now int64, by square.Address, key OfferKey) ([]Event, error) {
	o, err := s.Offer(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("withdraw offer: %w", err)
	case by != o.Provider:
		return nil, fmt.Errorf("withdraw offer: %w: only the provider may, which is %v", ErrParty, o.Provider)
	case o.Withdrawn:
		return nil, fmt.Errorf("withdraw offer: %w: it is withdrawn", ErrState)
	}
	o.Withdrawn = true
	return setOffer(s, now, EvWithdrawn, o)
}

// DropOffer forgets an offer that has expired and of which nothing is leased.
func (m Machine) DropOffer(s Store, now int64, key OfferKey) ([]Event, error) {
	o, err := s.Offer(key)
	switch wall := now + m.Lag; {
	case err != nil:
		return nil, fmt.Errorf("drop offer: %w", err)
	case o.Expiry > wall:
		return nil, fmt.Errorf("drop offer: %w: it expires at %d and it is %d", ErrEarly, o.Expiry, wall)
	case o.InUse > 0:
		return nil, fmt.Errorf("drop offer: %w: %d of its units are leased", ErrState, o.InUse)
	}
	return []Event{{Kind: EvDropped, Time: now, Trade: o.Trade, Provider: o.Provider, Ref: o.ID}}, s.DropOffer(key)
}

func setOffer(s Store, now int64, kind Kind, o Offer) ([]Event, error) {
	if err := s.SetOffer(o); err != nil {
		return nil, err
	}
	return []Event{{Kind: kind, Time: now, By: o.Provider, Trade: o.Trade, Provider: o.Provider, Deadline: o.Expiry, Ref: o.ID}}, nil
}
