package provider

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
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
	expiry time.Time // ledger time
}

// Offers lists what is sold, as last posted.
func (p *Provider) Offers() wire.OffersReply {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := wire.OffersReply{Provider: p.addr, Offers: []square.Offer{}}
	for _, o := range p.offers {
		out.Offers = append(out.Offers, o)
	}
	slices.SortFunc(out.Offers, func(a, b square.Offer) int { return slices.Compare(a.Spec[:], b.Spec[:]) })
	return out
}

// PostOffers puts every service on the ledger. An offer of one that is gone
// lapses by itself. A paused provider posts none.
func (p *Provider) PostOffers(ctx context.Context) error {
	if p.Control().Paused {
		return nil
	}
	now, err := p.clock.Now(ctx)
	if err != nil {
		return err
	}
	p.readFee(ctx)
	p.mu.Lock()
	services := make([]*service, 0, len(p.services))
	for _, s := range p.services {
		services = append(services, s)
	}
	p.mu.Unlock()
	var failed []error
	for _, s := range services {
		nonce, err := p.nonce(now)
		if err != nil {
			return err
		}
		o := p.offer(s, now.Add(p.OfferTTL).Unix(), nonce)
		id := o.ID(p.domain)
		// Known here before it is there: who sees it may want a quote at once.
		p.mu.Lock()
		p.offers[id] = o
		p.mu.Unlock()
		err = p.Ledger.PostOffer(ctx, o)
		p.mu.Lock()
		if err != nil {
			failed = append(failed, err)
			delete(p.offers, id) // the one before is still the newest
		} else {
			delete(p.gone, o.Spec)
			maps.DeleteFunc(p.offers, func(other square.Hash, old square.Offer) bool { return other != id && old.Spec == o.Spec })
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.offers, func(_ square.Hash, o square.Offer) bool { return p.services[o.Spec] == nil || o.Expiry <= now.Unix() })
	return errors.Join(failed...)
}

// nonce is larger than every one before: the ledger's time in milliseconds, so
// that a lost disk does not matter, or one more than the last.
func (p *Provider) nonce(now time.Time) (n uint64, err error) {
	err = p.Store.Update(func(tx *bolt.Tx) error {
		n = uint64(now.UnixMilli())
		b := tx.Bucket([]byte(bucketOffers))
		if last := b.Get([]byte("nonce")); len(last) == 8 {
			n = max(n, binary.BigEndian.Uint64(last)+1)
		}
		return b.Put([]byte("nonce"), binary.BigEndian.AppendUint64(nil, n))
	})
	return n, err
}

// quote binds an offer to an order. The same order gets the same quote. A quote
// holds places for its time, so that only an account that asks for itself, and
// can pay for what it asks, is given one.
func (p *Provider) quote(ctx context.Context, from caller, req wire.QuoteRequest) (wire.QuoteReply, error) {
	o := req.Order
	if err := o.Check(); err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeBadRequest, "%v", err)
	}
	id := o.ID(p.domain)
	switch {
	case from.Lease != id || from.Lane != 0:
		return wire.QuoteReply{}, refuse(wire.CodeBadRequest, "authorization: lease is not the order's digest")
	case from.who != o.Buyer:
		return wire.QuoteReply{}, refuse(wire.CodeCaller, "order: only its buyer may ask for a quote on it")
	case o.Trade != infer.Name:
		return wire.QuoteReply{}, refuse(wire.CodeBadRequest, "order: trade %q is not sold here", o.Trade)
	}
	if err := (infer.Rules{}).CheckOrder(o); err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeBadRequest, "%v", err)
	}
	now, err := p.clock.Now(ctx)
	if err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	if p.Control().Paused {
		return wire.QuoteReply{}, errPaused
	}
	p.mu.Lock()
	have, rates, err := p.quotable(id, o, req.Offer, now)
	p.mu.Unlock()
	if err != nil || have != nil {
		return given(have, err)
	}
	if err := p.Terms.check(o, rates, p.fee.Load()); err != nil {
		return wire.QuoteReply{}, err
	}
	p.mu.Lock()
	s := p.services[o.Spec]
	p.mu.Unlock()
	if s != nil {
		if err := s.knows(o); err != nil {
			return wire.QuoteReply{}, err
		}
	}
	select {
	case p.quoting <- struct{}{}:
		defer func() { <-p.quoting }()
	case <-ctx.Done():
		return wire.QuoteReply{}, ctx.Err()
	}
	funds, err := p.Ledger.Funds(ctx, o.Buyer, o.Denom)
	if err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeUnavailable, "the buyer's balance is unknown: %v", err)
	}
	params, err := p.Ledger.Params(ctx)
	if err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeUnavailable, "the ledger's parameters are unknown: %v", err)
	}
	if err := params.CheckTimes(o); err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeTerms, "%v", err)
	}
	stake, err := p.Ledger.Stake(ctx, o.Denom)
	if err != nil {
		return wire.QuoteReply{}, refuse(wire.CodeUnavailable, "the provider's stake is unknown: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have, rates, err = p.quotable(id, o, req.Offer, now)
	if err != nil || have != nil {
		return given(have, err)
	}
	offer := p.offers[req.Offer]
	bond, err := p.reserve(o, offer.Capacity, params.LeaseBond(o), funds, stake, now)
	if err != nil {
		return wire.QuoteReply{}, err
	}
	expiry := now.Add(quoteTTL * time.Second)
	q := square.Quote{
		Provider: p.addr, Order: id, Offer: req.Offer, Spec: offer.Spec, Rates: rates, Bond: bond, Ready: true, Expiry: expiry.Unix(),
	}
	rand.Read(q.Nonce[:])
	out := wire.QuoteReply{Quote: q, Sig: p.Key.Sign(q.Digest(p.domain))}
	p.quotes[id] = quoted{reply: out, order: o, expiry: expiry}
	return out, nil
}

func given(have *wire.QuoteReply, err error) (wire.QuoteReply, error) {
	if err != nil {
		return wire.QuoteReply{}, err
	}
	return *have, nil
}

// quotable is the quote that an order has already, or at what rates it may get
// one. Callers hold p.mu.
func (p *Provider) quotable(id square.Hash, o square.Order, offerID square.Hash, now time.Time) (*wire.QuoteReply, []square.Rate, error) {
	if q, ok := p.quotes[id]; ok {
		if now.Before(q.expiry) {
			return &q.reply, nil, nil
		}
		return nil, nil, refuse(wire.CodeStale, "the quote on this order has expired; make a new order")
	}
	if p.leases[id] != nil {
		return nil, nil, refuse(wire.CodeStale, "this order is a lease already")
	}
	offer, ok := p.offers[offerID]
	s := p.services[o.Spec]
	switch {
	case p.closing:
		return nil, nil, refuse(wire.CodeUnavailable, "the provider is shutting down")
	case !ok || offer.Expiry <= now.Unix():
		return nil, nil, refuse(wire.CodeUnknown, "no such offer, or it has lapsed: ask for the offers again")
	case s == nil || offer.Spec != o.Spec:
		return nil, nil, refuse(wire.CodeUnknown, "order: spec: the offer is for another model")
	case o.Expiry <= now.Unix():
		return nil, nil, refuse(wire.CodeBadRequest, "order: expiry has passed")
	case o.Denom != offer.Denom:
		return nil, nil, refuse(wire.CodeBadRequest, "order: denom %q: the offer is in %q", o.Denom, offer.Denom)
	case o.Units > offer.Capacity:
		return nil, nil, refuse(wire.CodeTerms, "order: units %d: the offer has %d", o.Units, offer.Capacity)
	case len(p.quotes) >= maxQuotes:
		return nil, nil, refuse(wire.CodeBusy, "too many quotes are outstanding; try again in %d s", quoteTTL)
	}
	rates := infer.Terms(offer, o.Policy)
	if rates == nil {
		return nil, nil, refuse(wire.CodeBadRequest, "order: policy %q: answers of this model are not proven here", o.Policy)
	}
	if err := square.Within(rates, o.MaxRates); err != nil {
		return nil, nil, refuse(wire.CodeBadRequest, "%v", err)
	}
	return nil, rates, nil
}

// reserve finds room for an order beside leases and quotes, and returns its
// bond. The ledger enforces capacity and funds; this spares both sides a
// refusal, and keeps places for who can have them. least is the least bond that the
// ledger takes. Callers hold p.mu.
func (p *Provider) reserve(o square.Order, capacity, least, funds uint64, stake market.Stake, now time.Time) (uint64, error) {
	var escrows, bonds, each uint64
	used := o.Units
	for id, q := range p.quotes {
		if p.leases[id] != nil || !now.Before(q.expiry) {
			continue
		}
		if q.order.Spec == o.Spec {
			used += q.order.Units
		}
		if q.order.Denom == o.Denom {
			bonds += q.reply.Quote.Bond
		}
		if q.order.Buyer == o.Buyer {
			each++
			escrows += q.order.Escrow
		}
	}
	for _, l := range p.leases {
		l.mu.Lock()
		if l.order.Spec == o.Spec && !l.rec.State.Terminal() {
			used += l.order.Units
		}
		l.mu.Unlock()
	}
	switch {
	case each >= maxQuotesEach:
		return 0, refuse(wire.CodeBusy, "the buyer has %d quotes that it has not used; use one, or try again in %d s", each, quoteTTL)
	case used > capacity:
		p.crowded[o.Spec] = true
		return 0, refuse(wire.CodeBusy, "order: units %d: the offer has no room for them", o.Units)
	}
	if err := funded(o, funds, escrows); err != nil {
		return 0, err
	}
	return p.bond(o, least, stake, bonds)
}

// adopt takes up the leases that quotes became, and forgets quotes that lapsed.
func (p *Provider) adopt(ctx context.Context, now time.Time) {
	p.mu.Lock()
	open := maps.Clone(p.quotes)
	p.mu.Unlock()
	for id, q := range open {
		m, err := p.Ledger.Lease(ctx, id)
		if err == nil && m.State == market.Active {
			_, err = p.take(m)
		}
		if err == nil && m.State != market.Open || now.After(q.expiry.Add(quoteGrace)) {
			p.mu.Lock()
			delete(p.quotes, id)
			p.mu.Unlock()
		}
	}
}

// reclaim gives notice to the lease that has left its places unused for the
// longest, of each model whose places somebody was refused.
func (p *Provider) reclaim(ctx context.Context, now time.Time) {
	p.mu.Lock()
	specs := p.crowded
	p.crowded = map[square.Hash]bool{}
	p.mu.Unlock()
	for spec := range specs {
		var longest *lease
		var unused time.Duration
		for _, l := range p.open() {
			l.mu.Lock()
			busy := false
			for _, ln := range l.lanes {
				busy = busy || ln.busy
			}
			if d := time.Since(l.used); l.order.Spec == spec && l.rec.State == market.Active && !busy && d >= max(p.Terms.Hold, unused) &&
				l.rec.Ends-now.Unix() > int64(l.order.Drain) {
				longest, unused = l, d
			}
			l.mu.Unlock()
		}
		if longest == nil {
			continue
		}
		if err := p.Ledger.Reclaim(ctx, longest.id, longest.order.Drain); err != nil {
			p.Log.Warn("unused places could not be reclaimed", "lease", longest.id.Short(), "err", err)
			continue
		}
		p.Log.Info("reclaimed unused places", "lease", longest.id.Short(), "units", longest.order.Units, "unused", unused.Round(time.Second))
		p.sight(ctx, longest, now)
	}
}
