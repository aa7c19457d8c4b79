package seller

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// quoteTTL leaves room below square.QuoteTTL for the clock being a block or so
// ahead.
const quoteTTL = square.QuoteTTL - 5

// Bounds of the quotes outstanding at once, in all and of one buyer, and how long
// after its expiry one is forgotten.
const (
	maxQuotes     = 1024
	maxQuotesEach = 4
	quoteGrace    = 5 * time.Second
)

// quoted is a quote that was given and may become a lease.
type quoted struct {
	reply  wire.QuoteReply
	order  square.Order
	good   goodKey
	expiry time.Time // ledger time
}

// Offers lists what is sold, as last posted.
func (s *Seller) Offers() wire.OffersReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := wire.OffersReply{Provider: s.addr, Offers: []square.Offer{}}
	for _, o := range s.offers {
		out.Offers = append(out.Offers, o)
	}
	slices.SortFunc(out.Offers, func(a, b square.Offer) int { return slices.Compare(a.Spec[:], b.Spec[:]) })
	return out
}

// PostOffers puts every good on the ledger. An offer of one that is gone lapses by
// itself. A paused seller posts none.
func (s *Seller) PostOffers(ctx context.Context) error {
	if s.Control().Paused {
		return nil
	}
	now, err := s.clock.Now(ctx)
	if err != nil {
		return err
	}
	s.readFee(ctx)
	s.mu.Lock()
	goods := slices.Collect(maps.Values(s.goods))
	s.mu.Unlock()
	var failed []error
	for _, g := range goods {
		nonce, err := s.nonce(now)
		if err != nil {
			return err
		}
		o := s.offer(g, now.Add(s.OfferTTL).Unix(), nonce)
		id := o.ID(s.domain)
		// Known here before it is there: who sees it may want a quote at once.
		s.mu.Lock()
		s.offers[id] = o
		s.mu.Unlock()
		err = s.Ledger.PostOffer(ctx, o)
		s.mu.Lock()
		if err != nil {
			failed = append(failed, err)
			delete(s.offers, id) // the one before is still the newest
		} else {
			delete(s.gone, keyOf(o))
			maps.DeleteFunc(s.offers, func(other square.Hash, old square.Offer) bool { return other != id && keyOf(old) == keyOf(o) })
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.offers, func(_ square.Hash, o square.Offer) bool { return s.goods[keyOf(o)] == nil || o.Expiry <= now.Unix() })
	return errors.Join(failed...)
}

// nonce is larger than every one before: the ledger's time in milliseconds, so
// that a lost disk does not matter, or one more than the last.
func (s *Seller) nonce(now time.Time) (n uint64, err error) {
	err = s.Store.Update(func(tx *bolt.Tx) error {
		n = uint64(now.UnixMilli())
		b := tx.Bucket([]byte(bucketOffers))
		if last := b.Get([]byte("nonce")); len(last) == 8 {
			n = max(n, binary.BigEndian.Uint64(last)+1)
		}
		return b.Put([]byte("nonce"), binary.BigEndian.AppendUint64(nil, n))
	})
	return n, err
}

// quote binds an offer to an order. The same order gets the same quote on the same
// offer; on another, which may have replaced that one meanwhile, a quote in its place:
// the ledger fills an order once. A quote holds places for its time, so that only an
// account that asks for itself, and can pay for what it asks, is given one.
func (s *Seller) quote(ctx context.Context, from Caller, req wire.QuoteRequest) (reply wire.QuoteReply, err error) {
	o := req.Order
	if err := o.Check(); err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "%v", err)
	}
	id, placed := o.ID(s.domain), o.Mode == square.ModeResult && o.Policy == square.PolicyReplicate
	switch {
	case from.Lease != id || from.Lane != 0:
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "authorization: lease is not the order's digest")
	case from.who != o.Buyer:
		return wire.QuoteReply{}, wire.Refuse(wire.CodeCaller, "order: only its buyer may ask for a quote on it")
	case s.trades[o.Trade] == nil:
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "order: trade %q is not sold here", o.Trade)
	}
	t := s.trades[o.Trade]
	if err := t.CheckOrder(o); err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "%v", err)
	}
	if !s.does(o) {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "order: mode %q: trade %s is not sold so here", o.Mode, o.Trade)
	}
	switch {
	case placed:
		id = market.ReplicaID(id, req.Nth) // the lease
	case req.Nth > 0:
		return wire.QuoteReply{}, wire.Refuse(wire.CodeBadRequest, "nth is %d, and the order has no replicas", req.Nth)
	}
	now, err := s.clock.Now(ctx)
	if err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	if s.Control().Paused {
		return wire.QuoteReply{}, errPaused
	}
	s.mu.Lock()
	have, rates, err := s.quotable(id, o, req.Offer, now)
	s.mu.Unlock()
	if err != nil || have != nil {
		return given(have, err)
	}
	var place uint64
	if p, ok := t.(Placer); ok {
		place = p.Place(rates)
	}
	if err := s.Terms.check(o, place, s.fee.Load()); err != nil {
		return wire.QuoteReply{}, err
	}
	if k, ok := t.(Knower); ok {
		if err := k.Knows(o); err != nil {
			return wire.QuoteReply{}, err
		}
	}
	if o.Mode == square.ModeResult {
		if _, err := s.takes(o, rates, req.Job); err != nil {
			return wire.QuoteReply{}, err
		}
	}
	select {
	case s.quoting <- struct{}{}:
		defer func() { <-s.quoting }()
	case <-ctx.Done():
		return wire.QuoteReply{}, ctx.Err()
	}
	if placed { // its money is in the order's escrow
		if err := s.invited(ctx, id); err != nil {
			return wire.QuoteReply{}, err
		}
		o.Escrow = 0
	}
	funds, err := s.Ledger.Funds(ctx, o.Buyer, o.Denom)
	if err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeUnavailable, "the buyer's balance is unknown: %v", err)
	}
	params, err := s.Ledger.Params(ctx)
	if err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeUnavailable, "the ledger's parameters are unknown: %v", err)
	}
	if err := params.CheckTimes(o); err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeTerms, "%v", err)
	}
	stake, err := s.Ledger.Stake(ctx, o.Trade, o.Denom)
	if err != nil {
		return wire.QuoteReply{}, wire.Refuse(wire.CodeUnavailable, "the provider's stake is unknown: %v", err)
	}
	if o.Mode == square.ModeResult {
		// On disk before it is promised: a promise that is not kept costs bond.
		if err := s.Store.Put(journal.Entry{Bucket: bucketJobs, Key: id[:], Value: req.Job}); err != nil {
			return wire.QuoteReply{}, wire.Refuse(wire.CodeUnavailable, "the provider's disk failed")
		}
		defer func() {
			if err != nil {
				s.dropJob(id)
			}
		}()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, rates, err = s.quotable(id, o, req.Offer, now)
	if err != nil || have != nil {
		return given(have, err)
	}
	offer := s.offers[req.Offer]
	bond, err := s.reserve(id, o, offer, params.LeaseBond(o), funds, stake, now)
	if err != nil {
		return wire.QuoteReply{}, err
	}
	expiry := now.Add(quoteTTL * time.Second)
	q := square.Quote{
		Provider: s.addr, Order: id, Offer: req.Offer, Spec: offer.Spec, Rates: rates, Bond: bond, Ready: true, Expiry: expiry.Unix(),
	}
	rand.Read(q.Nonce[:])
	out := wire.QuoteReply{Quote: q, Sig: s.Key.Sign(q.Digest(s.domain))}
	s.quotes[id] = quoted{reply: out, order: o, good: keyOf(offer), expiry: expiry}
	return out, nil
}

func given(have *wire.QuoteReply, err error) (wire.QuoteReply, error) {
	if err != nil {
		return wire.QuoteReply{}, err
	}
	return *have, nil
}

// quotable is the quote that an order has already, or at what rates it may get
// one. Callers hold s.mu.
func (s *Seller) quotable(id square.Hash, o square.Order, offerID square.Hash, now time.Time) (*wire.QuoteReply, []square.Rate, error) {
	if q, ok := s.quotes[id]; ok {
		switch {
		case !now.Before(q.expiry):
			return nil, nil, wire.Refuse(wire.CodeStale, "the quote on this order has expired; make a new order")
		case q.reply.Quote.Offer == offerID:
			return &q.reply, nil, nil
		}
	}
	if s.leases[id] != nil {
		return nil, nil, wire.Refuse(wire.CodeStale, "this order is a lease already")
	}
	offer, ok := s.offers[offerID]
	switch {
	case s.closing:
		return nil, nil, wire.Refuse(wire.CodeUnavailable, "the provider is shutting down")
	case !ok || offer.Expiry <= now.Unix():
		return nil, nil, wire.Refuse(wire.CodeUnknown, "no such offer, or it has lapsed: ask for the offers again")
	case offer.Trade != o.Trade || s.goods[keyOf(offer)] == nil:
		return nil, nil, wire.Refuse(wire.CodeUnknown, "order: the offer is for something else, or for what is no longer sold")
	case o.Expiry <= now.Unix() && o.Policy != square.PolicyReplicate: // replicas follow later
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "order: expiry has passed")
	case o.Denom != offer.Denom:
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "order: denom %q: the offer is in %q", o.Denom, offer.Denom)
	case o.Units > offer.Capacity:
		return nil, nil, wire.Refuse(wire.CodeTerms, "order: units %d: the offer has %d", o.Units, offer.Capacity)
	case len(s.quotes) >= maxQuotes:
		return nil, nil, wire.Refuse(wire.CodeBusy, "too many quotes are outstanding; try again in %d s", quoteTTL)
	}
	t := s.trades[o.Trade]
	if err := t.Fits(offer, o); err != nil {
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "order: %v", err)
	}
	rates := trade.RatesFor(offer.Rates, o.Policy)
	if err := square.Within(rates, o.MaxRates); err != nil {
		return nil, nil, wire.Refuse(wire.CodeBadRequest, "%v", err)
	}
	return nil, rates, nil
}

// reserve finds room for an order beside leases and the quotes of others, and returns
// its bond. The ledger enforces capacity and funds; this spares both sides a
// refusal, and keeps places for who can have them. least is the least bond that the
// ledger takes. Callers hold s.mu.
func (s *Seller) reserve(order square.Hash, o square.Order, offer square.Offer, least, funds uint64, stake market.Stake, now time.Time) (uint64, error) {
	var escrows, bonds, each uint64
	used, k := o.Units, keyOf(offer)
	for id, q := range s.quotes {
		if s.leases[id] != nil || !now.Before(q.expiry) || id == order {
			continue
		}
		if q.good == k {
			used += q.order.Units
		}
		if q.order.Trade == o.Trade && q.order.Denom == o.Denom {
			bonds += q.reply.Quote.Bond
		}
		if q.order.Buyer == o.Buyer {
			each++
			escrows += q.order.Escrow
		}
	}
	for _, l := range s.leases {
		l.mu.Lock()
		if l.good == k && !l.rec.State.Terminal() {
			used += l.order.Units
		}
		l.mu.Unlock()
	}
	switch {
	case each >= maxQuotesEach:
		return 0, wire.Refuse(wire.CodeBusy, "the buyer has %d quotes that it has not used; use one, or try again in %d s", each, quoteTTL)
	case used > offer.Capacity:
		s.crowded[k] = true
		return 0, wire.Refuse(wire.CodeBusy, "order: units %d: the offer has no room for them", o.Units)
	}
	if err := funded(o, funds, escrows); err != nil {
		return 0, err
	}
	return s.bond(o, least, stake, bonds)
}

// adopt takes up the leases that quotes became, and forgets quotes that lapsed.
func (s *Seller) adopt(ctx context.Context, now time.Time) {
	s.mu.Lock()
	open := maps.Clone(s.quotes)
	s.mu.Unlock()
	for id, q := range open {
		m, err := s.Ledger.Lease(ctx, id)
		known := err == nil
		if known && m.State != market.Open {
			_, err = s.take(m)
		}
		// Of a job the disk must not lose hold while its order may be a lease.
		late := now.After(q.expiry.Add(quoteGrace)) && (known || errors.Is(err, market.ErrNotFound))
		if known && m.State != market.Open && (err == nil || errors.As(err, new(*wire.Refusal))) || late {
			s.mu.Lock()
			delete(s.quotes, id)
			taken := s.leases[id] != nil
			s.mu.Unlock()
			if !taken {
				s.dropJob(id)
			}
		}
	}
}

// reclaim gives notice to the lease that has left its places unused for the
// longest, of each good whose places somebody was refused.
func (s *Seller) reclaim(ctx context.Context, now time.Time) {
	s.mu.Lock()
	crowded := s.crowded
	s.crowded = map[goodKey]bool{}
	s.mu.Unlock()
	for k := range crowded {
		var longest *lease
		var unused time.Duration
		for _, l := range s.open() {
			l.mu.Lock()
			busy := false
			for _, ln := range l.lanes {
				busy = busy || ln.busy
			}
			if d := time.Since(l.used); l.good == k && l.order.Mode == square.ModeStream && l.rec.State == market.Active && !busy && d >= max(s.Terms.Hold, unused) &&
				l.rec.Ends-now.Unix() > int64(l.order.Drain) {
				longest, unused = l, d
			}
			l.mu.Unlock()
		}
		if longest == nil {
			continue
		}
		if err := s.Ledger.Reclaim(ctx, longest.id, longest.order.Drain); err != nil {
			s.Log.Warn("unused places could not be reclaimed", "lease", longest.id.Short(), "err", err)
			continue
		}
		s.Log.Info("reclaimed unused places", "lease", longest.id.Short(), "units", longest.order.Units, "unused", unused.Round(time.Second))
		s.sight(ctx, longest, now)
	}
}
