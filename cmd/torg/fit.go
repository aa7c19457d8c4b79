package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/history"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// chainView fits one account of the ledger's client to what the two halves of a
// trade ask of a ledger.
type chainView struct {
	client  *client.Client
	account *client.Account
}

// queryTime bounds a question to the ledger: one that takes connections and
// answers nothing must not hang whoever asks.
const queryTime = 3 * time.Second

// told translates the client's errors into those the trade tells apart.
func told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrStalled), errors.Is(err, client.ErrUnreachable):
		return fmt.Errorf("%w: %w", chain.ErrStalled, err)
	case errors.Is(err, client.ErrInsufficient), errors.Is(err, market.ErrFunds):
		return fmt.Errorf("%w: %w", desk.ErrFunds, err)
	case errors.Is(err, client.ErrNotFound):
		return fmt.Errorf("%w: %w", market.ErrNotFound, err)
	}
	return err
}

func (v chainView) Head(ctx context.Context) (chain.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	h, err := v.client.Head(ctx)
	if err != nil {
		return chain.Head{}, told(err)
	}
	b, err := v.client.Block(ctx)
	return chain.Head{Height: uint64(max(h.Height, 0)), Time: h.Time, Lag: b.Lag}, told(err)
}

func (v chainView) Lease(ctx context.Context, id square.Hash) (market.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	l, err := v.client.Lease(ctx, id)
	return l, told(err)
}

func (v chainView) Poke(ctx context.Context, lease square.Hash) error {
	_, err := v.account.Poke(ctx, lease)
	return told(err)
}

func (v chainView) Params(ctx context.Context) (market.Params, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	p, err := v.client.Params(ctx)
	return p, told(err)
}

// providerView is the ledger as a provider acts on it.
type providerView struct{ chainView }

func (v providerView) Funds(ctx context.Context, account square.Address, denom string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	a, err := v.client.Balance(ctx, account, denom)
	return a.Units, told(err)
}

func (v providerView) Stake(ctx context.Context, trade, denom string) (market.Stake, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	stakes, _, err := v.client.Stakes(ctx, v.account.Address(), trade, client.Page{})
	for _, s := range stakes {
		if s.Denom == denom {
			return s.Stake, nil
		}
	}
	return market.Stake{}, told(err)
}

func (v providerView) Fee(ctx context.Context, lanes int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	fee, err := v.account.RedeemFee(ctx, lanes)
	return fee, told(err)
}

func (v providerView) Reclaim(ctx context.Context, lease square.Hash, notice uint64) error {
	_, err := v.account.Reclaim(ctx, lease, notice)
	return told(err)
}

func (v providerView) PostOffer(ctx context.Context, o square.Offer) error {
	_, err := v.account.PostOffer(ctx, o)
	return told(err)
}

func (v providerView) WithdrawOffer(ctx context.Context, trade string, spec square.Hash) error {
	_, err := v.account.WithdrawOffer(ctx, trade, spec)
	return told(err)
}

func (v providerView) Redeem(ctx context.Context, lease square.Hash, claims []chain.Claim) error {
	cs := make([]client.Claim, len(claims))
	for i, c := range claims {
		cs[i] = client.Claim(c)
	}
	_, err := v.account.Redeem(ctx, lease, cs, false)
	return told(err)
}

func (v providerView) ClaimResult(ctx context.Context, r square.Receipt, sig square.Signature) error {
	_, err := v.account.ClaimResult(ctx, r, sig)
	return told(err)
}

func (v providerView) CommitResult(ctx context.Context, r square.Receipt, sig square.Signature) error {
	_, err := v.account.CommitResult(ctx, r, sig)
	return told(err)
}

func (v providerView) Question(ctx context.Context, lease square.Hash) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	q, err := v.client.Question(ctx, lease)
	return q.Key, told(err)
}

func (v providerView) AnswerWithheld(ctx context.Context, lease square.Hash, answer []byte) error {
	_, err := v.account.Answer(ctx, lease, answer, "")
	return told(err)
}

func (v providerView) Evidence(ctx context.Context, lease, hash square.Hash) (square.Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	e, err := v.client.Evidence(ctx, lease, hash)
	return e, told(err)
}

func (v providerView) Prove(ctx context.Context, lease, evidence square.Hash, proof []byte) error {
	_, err := v.account.Prove(ctx, lease, evidence, proof)
	return told(err)
}

// buyerView is the ledger as a buyer acts on it.
type buyerView struct{ chainView }

var _ desk.ResultLedger = buyerView{}

// maxOffers bounds how many offers of the trade are looked at.
const maxOffers = 10_000

func (v buyerView) Offers(ctx context.Context, trade string) (offers []square.Offer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTime)
	defer cancel()
	page := client.Page{Limit: 1000}
	for {
		some, next, err := v.client.Offers(ctx, client.OfferFilter{Trade: trade}, page)
		if err != nil {
			return nil, told(err)
		}
		for _, o := range some {
			offers = append(offers, o.Offer)
		}
		if next == "" || len(offers) >= maxOffers {
			return offers, nil
		}
		page.After = next
	}
}

func (v buyerView) Balance(ctx context.Context, denom string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	a, err := v.client.Balance(ctx, v.account.Address(), denom)
	return a.Units, told(err)
}

func (v buyerView) Open(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	_, err := v.account.OpenLease(ctx, o, q, sig)
	return told(err)
}

func (v buyerView) Close(ctx context.Context, lease square.Hash, consent *chain.Consent) error {
	var c *client.Consent
	if consent != nil {
		c = &client.Consent{Paid: consent.Paid, Sig: consent.Sig}
	}
	_, err := v.account.Close(ctx, lease, c)
	return told(err)
}

func (v buyerView) Challenge(ctx context.Context, lease square.Hash, e square.Evidence, part uint64) error {
	_, err := v.account.Challenge(ctx, lease, e, part)
	return told(err)
}

func (v buyerView) Place(ctx context.Context, o square.Order) error {
	_, err := v.account.PlaceOrder(ctx, o)
	return told(err)
}

func (v buyerView) Match(ctx context.Context, q square.Quote, sig square.Signature) error {
	_, err := v.account.Match(ctx, q, sig)
	return told(err)
}

func (v buyerView) Accept(ctx context.Context, lease square.Hash) error {
	_, err := v.account.Accept(ctx, lease)
	return told(err)
}

func (v buyerView) Withhold(ctx context.Context, lease square.Hash, key []byte) error {
	_, err := v.account.Withhold(ctx, lease, key)
	return told(err)
}

func (v buyerView) Answer(ctx context.Context, lease square.Hash) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	q, err := v.client.Question(ctx, lease)
	return q.Answer, told(err)
}

func (v buyerView) Unseal(ctx context.Context, lease square.Hash, key []byte) error {
	_, err := v.account.Unseal(ctx, lease, key)
	return told(err)
}

// Card asks the trades: a card that somebody else made is not believed.
func (v buyerView) Card(ctx context.Context, spec square.Hash) ([]byte, error) {
	for _, k := range kits {
		if k.Card == nil {
			continue
		}
		if c, err := k.Card(ctx, spec); !errors.Is(err, market.ErrNotFound) {
			return c, err
		}
	}
	return nil, market.ErrNotFound
}

// tradeView is the ledger as a trade itself asks it.
type tradeView struct {
	client  *client.Client
	account *client.Account
}

func (v tradeView) Card(ctx context.Context, hash square.Hash) ([]byte, error) {
	c, err := v.client.Card(ctx, hash)
	return c, told(err)
}

func (v tradeView) PublishCard(ctx context.Context, trade string, card []byte) error {
	_, err := v.account.PublishCard(ctx, trade, card)
	return told(err)
}

// judgeView is the ledger as a judge acts on it.
type judgeView struct {
	chainView
	history *history.History
}

// maxDisputed bounds how many leases in dispute are looked at.
const maxDisputed = 10_000

func (v judgeView) Now(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	b, err := v.client.Block(ctx)
	return b.Clock, told(err)
}

func (v judgeView) Disputed(ctx context.Context) (leases []market.Lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*queryTime)
	defer cancel()
	page := client.Page{Limit: 1000}
	for {
		some, next, err := v.client.Leases(ctx, client.LeaseFilter{State: market.Disputed}, page)
		if err != nil {
			return nil, told(err)
		}
		for _, l := range some {
			leases = append(leases, l.Lease)
		}
		if next == "" || len(leases) >= maxDisputed {
			return leases, nil
		}
		page.After = next
	}
}

func (v judgeView) Evidence(ctx context.Context, lease, hash square.Hash) (square.Evidence, error) {
	return providerView{v.chainView}.Evidence(ctx, lease, hash)
}

func (v judgeView) Card(ctx context.Context, hash square.Hash) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	c, err := v.client.Card(ctx, hash)
	return c, told(err)
}

func (v judgeView) Locator(ctx context.Context, l market.Lease) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	q, err := v.client.Question(ctx, l.ID)
	if errors.Is(err, client.ErrNotFound) {
		return "", nil // nothing was asked, and nothing answered
	}
	if l.Dispute != nil && l.Dispute.Owes != l.Provider {
		return q.Shown, told(err)
	}
	return q.Locator, told(err)
}

func (v judgeView) Events(_ context.Context, lease square.Hash) ([]market.Event, error) {
	evs, err := v.history.Lease(lease, maxHistory)
	if err != nil && !errors.Is(err, history.ErrNone) {
		return nil, err
	}
	out := make([]market.Event, len(evs))
	for i := range evs {
		out[i] = evs[i].Event
	}
	return out, nil
}

func (v judgeView) Beacon(ctx context.Context, l market.Lease) (square.Hash, error) {
	evs, err := v.history.Lease(l.ID, maxHistory)
	if err != nil && !errors.Is(err, history.ErrNone) {
		return square.Hash{}, err
	}
	for _, e := range evs {
		if e.Kind == market.EvSeated && e.Ref == l.Dispute.Evidence && e.Time == l.Dispute.Seated {
			ctx, cancel := context.WithTimeout(ctx, queryTime)
			defer cancel()
			h, err := v.client.Beacon(ctx, e.Height, append([]byte("samples of judges "), l.ID[:]...))
			return h, told(err)
		}
	}
	return square.Hash{}, fmt.Errorf("lease %s: the history does not know yet in which block its judges were drawn", l.ID.Short())
}

func (v judgeView) Commit(ctx context.Context, lease, ballot square.Hash) error {
	_, err := v.account.Commit(ctx, lease, ballot)
	return told(err)
}

func (v judgeView) Vote(ctx context.Context, lease square.Hash, verdict square.Verdict, secret square.Hash) error {
	_, err := v.account.Vote(ctx, lease, verdict, secret)
	return told(err)
}
