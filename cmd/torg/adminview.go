package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/history"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// adminView is what the admin endpoints see of the square.
type adminView struct{ s *openSquare }

func (v adminView) Receipts(ctx context.Context, f admin.Filter, before time.Time, limit int) ([]admin.Receipt, time.Time, error) {
	recs, next, err := v.s.desk.Receipts(ctx, desk.Filter{Account: f.Key, Lease: f.Lease, Provider: f.Provider, Subject: f.What}, before, limit)
	out := make([]admin.Receipt, len(recs))
	for i, r := range recs {
		out[i] = adminReceipt(r)
		out[i].Evidence = nil
	}
	return out, next, err
}

func (v adminView) Find(ctx context.Context, digits string) (square.Hash, error) {
	id, err := v.s.desk.FindReceipt(ctx, digits)
	if errors.Is(err, desk.ErrNoReceipt) {
		err = fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return id, err
}

func (v adminView) Receipt(ctx context.Context, id square.Hash) (admin.Receipt, error) {
	r, err := v.s.desk.Receipt(ctx, id)
	if errors.Is(err, desk.ErrNoReceipt) {
		return admin.Receipt{}, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return adminReceipt(r), err
}

func adminReceipt(r desk.Record) admin.Receipt {
	words := string(r.Audit)
	if r.Note != "" {
		words += ": " + r.Note
	}
	return admin.Receipt{
		ID: r.ID, Provider: r.Provider, Trade: r.Trade, Subject: r.Subject, Units: r.Units, Denom: r.Denom,
		Receipt: r.Evidence.Receipt, Sig: r.Evidence.Sig, Audited: words, Evidence: &r.Evidence,
	}
}

func (v adminView) Audit(ctx context.Context, id square.Hash) (admin.Audit, error) {
	start := time.Now()
	found, err := v.s.desk.Audit(ctx, id)
	if errors.Is(err, desk.ErrNoReceipt) {
		err = fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	verdict := square.VerdictFraud
	if found == desk.AuditEqual || found == desk.AuditUpheld || found == desk.AuditProven {
		verdict = square.VerdictOK
	}
	return admin.Audit{Receipt: id, Verdict: verdict, Took: time.Since(start)}, err
}

// Leases are those of this square's wallet, from the ledger.
func (v adminView) Leases(ctx context.Context, after string, limit int) ([]admin.Lease, string, error) {
	ls, next, err := v.s.client.Leases(ctx, client.LeaseFilter{Buyer: v.s.keyring.owner.Address()}, client.Page{Limit: uint64(limit), After: after})
	out := make([]admin.Lease, len(ls))
	for i, l := range ls {
		out[i] = adminLease(l)
	}
	return out, next, err
}

func adminLease(l client.Projected) admin.Lease {
	return admin.Lease{
		ID: l.ID, Provider: l.Provider, Trade: l.Order.Trade, Spec: l.Order.Spec, State: string(l.State), Denom: l.Order.Denom,
		Escrow: l.Escrow, Owed: l.Paid, Lanes: int(l.Order.Lanes), Ends: time.Unix(l.Ends, 0),
	}
}

func (v adminView) CloseLease(ctx context.Context, id square.Hash) (admin.Lease, error) {
	if err := v.s.desk.CloseLease(ctx, id); errors.Is(err, market.ErrNotFound) {
		return admin.Lease{}, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	} else if err != nil {
		return admin.Lease{}, err
	}
	l, err := v.s.client.Projected(ctx, id)
	return adminLease(l), err
}

func (v adminView) ProviderReport() any { return v.s.node.Provider.Report() }

func (v adminView) SetProvider(c admin.Control) error {
	err := v.s.node.Provider.SetControl(seller.Control(c))
	if errors.Is(err, seller.ErrControl) {
		return fmt.Errorf("%w: %w", admin.ErrControl, err)
	}
	return err
}

// maxHistory bounds one answer.
const maxHistory = 500

func (v adminView) LeaseHistory(_ context.Context, id square.Hash) (any, error) {
	evs, err := v.s.history.Lease(id, maxHistory)
	if errors.Is(err, history.ErrNone) {
		err = nil
	}
	return evs, err
}

func (v adminView) AccountHistory(_ context.Context, a square.Address) (any, error) {
	evs, err := v.s.history.Account(a, maxHistory)
	if errors.Is(err, history.ErrNone) {
		err = nil
	}
	return evs, err
}

// status is what torg doctor reads.
func (v adminView) status(ctx context.Context) (any, error) {
	s := v.s
	head, err := s.client.Head(ctx)
	if err != nil {
		return nil, err
	}
	balance, err := s.client.Balance(ctx, s.keyring.owner.Address(), square.Denom)
	if err != nil {
		return nil, err
	}
	goods, err := s.goods(ctx)
	if err != nil {
		return nil, err
	}
	judging, err := s.judging(ctx)
	if err != nil {
		return nil, err
	}
	st := status{
		Judge: judging, Height: head.Height, BlockAge: time.Since(head.Time).Seconds(), Balance: balance, Goods: goods,
		Provider: s.node.Provider.Stats(), Endpoint: s.node.Endpoint(), Home: s.cfg.path(),
	}
	return st, nil
}

// status is how a running square is.
type status struct {
	Height   int64         `json:"height"`
	BlockAge float64       `json:"block_age_s"`
	Balance  square.Amount `json:"balance"`
	Goods    []good        `json:"goods"`
	Provider seller.Stats  `json:"provider"`
	Endpoint string        `json:"provider_endpoint"`
	Judge    judgeStatus   `json:"judge"`
	Home     string        `json:"home"`
}

// good is something that the desk here can buy now.
type good struct {
	Trade    string         `json:"trade"`
	Subject  string         `json:"subject"`
	Provider square.Address `json:"provider"`
	Free     uint64         `json:"free"` // how much at once
}

func (s *openSquare) goods(ctx context.Context) ([]good, error) {
	seats, err := s.seats(ctx)
	out := make([]good, len(seats))
	for i, x := range seats {
		out[i] = good{x.Offer.Trade, x.Offer.Subject, x.Offer.Provider, x.Free}
	}
	return out, err
}

// orderView is an order for a result, and the result once it is here.
type orderView struct {
	desk.Job
	Result []byte `json:"result,omitempty"`
}

func (v adminView) PlaceOrder(ctx context.Context, o square.Order, job []byte, review bool) (any, error) {
	place := v.s.desk.Order
	if review {
		place = v.s.desk.OrderForReview
	}
	j, err := place(ctx, o, job)
	switch {
	case err == nil:
		return orderView{Job: j}, nil
	case errors.Is(err, desk.ErrStalled):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", admin.ErrOrder, err)
}

func (v adminView) AcceptOrder(ctx context.Context, id square.Hash) (any, error) {
	return decided(v.s.desk.Accept(ctx, id))
}

func (v adminView) ChallengeOrder(ctx context.Context, id square.Hash, why string) (any, error) {
	return decided(v.s.desk.Challenge(ctx, id, why))
}

func decided(j desk.Job, err error) (any, error) {
	switch {
	case errors.Is(err, desk.ErrNoJob):
		return nil, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	case errors.Is(err, desk.ErrDecide):
		return nil, fmt.Errorf("%w: %w", admin.ErrOrder, err)
	case err != nil:
		return nil, err
	}
	return orderView{Job: j}, nil
}

func (v adminView) Orders(context.Context) (any, error) {
	jobs, err := v.s.desk.Jobs()
	if err != nil {
		return nil, err
	}
	out := []orderView{}
	for _, j := range jobs {
		out = append(out, orderView{Job: j})
	}
	return map[string]any{"data": out}, nil
}

func (v adminView) Order(ctx context.Context, id square.Hash) (any, error) {
	j, err := v.s.desk.Job(id)
	if errors.Is(err, desk.ErrNoJob) {
		return nil, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	} else if err != nil {
		return nil, err
	}
	out := orderView{Job: j}
	if !j.Receipt.IsZero() {
		r, err := v.s.desk.Receipt(ctx, j.Receipt)
		if err != nil {
			return nil, err
		}
		out.Result = r.Evidence.Result
	}
	return out, nil
}
