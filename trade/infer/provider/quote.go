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
)

// quoteTTL leaves room below square.QuoteTTL for the clock being a block or so
// ahead.
const quoteTTL = square.QuoteTTL - 5

// maxQuotes bounds the quotes outstanding at once.
const maxQuotes = 1024

// quoted is a quote that was given and may become a lease.
type quoted struct {
	reply  infer.QuoteReply
	spec   square.Hash
	units  uint64
	expiry time.Time // ledger time
}

// Offers lists what is sold, as last posted.
func (p *Provider) Offers() infer.OffersReply {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := infer.OffersReply{Provider: p.addr, Offers: []square.Offer{}}
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

// quote binds an offer to an order. The same order gets the same quote.
func (p *Provider) quote(ctx context.Context, req infer.QuoteRequest) (infer.QuoteReply, error) {
	o := req.Order
	if err := o.Check(); err != nil {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "%v", err)
	}
	if o.Trade != infer.Name {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "order: trade %q is not sold here", o.Trade)
	}
	if err := (infer.Rules{}).CheckOrder(o); err != nil {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "%v", err)
	}
	now, err := p.clock.Now(ctx)
	if err != nil {
		return infer.QuoteReply{}, refuse(infer.CodeUnavailable, "the ledger's time is unknown: %v", err)
	}
	params, err := p.Ledger.Params(ctx)
	if err != nil {
		return infer.QuoteReply{}, refuse(infer.CodeUnavailable, "the ledger's parameters are unknown: %v", err)
	}
	id := o.ID(p.domain)
	if p.Control().Paused {
		return infer.QuoteReply{}, errPaused
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if q, ok := p.quotes[id]; ok {
		if now.Before(q.expiry) {
			return q.reply, nil
		}
		return infer.QuoteReply{}, refuse(infer.CodeStale, "the quote on this order has expired; make a new order")
	}
	if p.leases[id] != nil {
		return infer.QuoteReply{}, refuse(infer.CodeStale, "this order is a lease already")
	}
	offer, ok := p.offers[req.Offer]
	s := p.services[o.Spec]
	switch {
	case p.closing:
		return infer.QuoteReply{}, refuse(infer.CodeUnavailable, "the provider is shutting down")
	case !ok || offer.Expiry <= now.Unix():
		return infer.QuoteReply{}, refuse(infer.CodeUnknown, "no such offer, or it has lapsed: ask for the offers again")
	case s == nil || offer.Spec != o.Spec:
		return infer.QuoteReply{}, refuse(infer.CodeUnknown, "order: spec: the offer is for another model")
	case o.Expiry <= now.Unix():
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "order: expiry has passed")
	case o.Denom != offer.Denom:
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "order: denom %q: the offer is in %q", o.Denom, offer.Denom)
	case len(p.quotes) >= maxQuotes:
		return infer.QuoteReply{}, refuse(infer.CodeBusy, "too many quotes are outstanding; try again in %d s", quoteTTL)
	}
	if err := s.knows(o); err != nil {
		return infer.QuoteReply{}, err
	}
	rates := infer.Terms(offer, o.Policy)
	if rates == nil {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "order: policy %q: answers of this model are not proven here", o.Policy)
	}
	if err := square.Within(rates, o.MaxRates); err != nil {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "%v", err)
	}
	// The ledger enforces capacity; this only spares both sides a refusal.
	used := o.Units
	for _, q := range p.quotes {
		if q.spec == o.Spec {
			used += q.units
		}
	}
	for _, l := range p.leases {
		l.mu.Lock()
		if l.rec.Order.Spec == o.Spec && !l.rec.State.Terminal() {
			used += l.rec.Order.Units
		}
		l.mu.Unlock()
	}
	if o.Units > offer.Capacity || used > offer.Capacity {
		return infer.QuoteReply{}, refuse(infer.CodeBusy, "order: units %d: the offer has no room for them", o.Units)
	}
	if o.JobValue > square.MaxUnits/p.BondTimes {
		return infer.QuoteReply{}, refuse(infer.CodeBadRequest, "order: job_value is too large to bond")
	}
	expiry := now.Add(quoteTTL * time.Second)
	q := square.Quote{
		Provider: p.addr, Order: id, Offer: req.Offer, Spec: offer.Spec, Rates: rates,
		Bond: max(o.JobValue*p.BondTimes, params.LeaseBond(o)), Ready: true, Expiry: expiry.Unix(),
	}
	rand.Read(q.Nonce[:])
	out := infer.QuoteReply{Quote: q, Sig: p.Key.Sign(q.Digest(p.domain))}
	p.quotes[id] = quoted{reply: out, spec: o.Spec, units: o.Units, expiry: expiry}
	return out, nil
}

// adopt takes up the leases that quotes became, and forgets quotes that lapsed.
func (p *Provider) adopt(ctx context.Context, now time.Time) {
	p.mu.Lock()
	open := map[square.Hash]quoted{}
	for id, q := range p.quotes {
		open[id] = q
	}
	p.mu.Unlock()
	for id, q := range open {
		m, err := p.Ledger.Lease(ctx, id)
		if err == nil && m.State == market.Active {
			_, err = p.find(ctx, id)
		}
		lapsed := now.After(q.expiry.Add(square.QuoteTTL * time.Second))
		if err == nil && m.State != market.Open || lapsed {
			p.mu.Lock()
			delete(p.quotes, id)
			p.mu.Unlock()
		}
	}
}
