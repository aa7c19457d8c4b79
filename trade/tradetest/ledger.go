package tradetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/fake"
	"github.com/torg-network/torg/trade/seller"
)

// Account is the ledger as one account reaches it, which sells and buys.
type Account interface {
	seller.Ledger
	desk.ResultLedger
}

// Ledger is one that a case runs on. Cases may share it: each has accounts of its own,
// and looks at nobody else's offers and leases.
type Ledger interface {
	ChainID() string
	// Open gives a new account so much money, and stakes so much of it in a trade.
	Open(k square.Key, trade string, units, stake uint64) (Account, error)
	// Leases are all that an account has ever opened.
	Leases(buyer square.Address) ([]market.Lease, error)
	// Holds is what an account and its stake in a trade hold, and what its transactions
	// have cost it in fees.
	Holds(a square.Address, trade string) (units, fees uint64, err error)
	// Conserved says what is wrong with the sum of all money.
	Conserved() error
	// Pass has time pass at once. False: time passes only by itself, and deadlines are
	// to be short.
	Pass(time.Duration) bool
}

// Memory is a ledger in memory that knows some trades; cards are of work that can be
// proven.
func Memory(trades ...trade.Rules) Ledger { return memory{fake.New(trades...)} }

type memory struct{ *fake.Ledger }

func (memory) ChainID() string { return fake.ChainID }

func (m memory) Open(k square.Key, trade string, units, stake uint64) (Account, error) {
	a := k.Address()
	m.Fund(a, units)
	if stake > 0 {
		if err := m.Bond(a, trade, stake); err != nil {
			return nil, err
		}
	}
	return fake.Account{Ledger: m.Ledger, Self: a}, nil
}

func (m memory) Leases(buyer square.Address) (out []market.Lease, err error) {
	for _, l := range m.Ledger.Leases() {
		if l.Order.Buyer == buyer {
			out = append(out, l)
		}
	}
	return out, nil
}

func (m memory) Holds(a square.Address, _ string) (units, fees uint64, err error) {
	account, stake := m.Balance(a)
	return account + stake, 0, nil
}

func (m memory) Conserved() error {
	if !m.Ledger.Conserved() {
		return errors.New("money was made or lost")
	}
	return nil
}

func (m memory) Pass(d time.Duration) bool {
	m.Jump(d)
	return true
}

// points are moments at which a case can have something happen: around transactions
// ("before open", "after redeem"), around what is written to disk ("after
// provider.lanes"), and around calls ("after close").
type points struct{ at atomic.Pointer[func(string)] }

// on has f called at a point, once.
func (p *points) on(point string, f func()) {
	var did atomic.Bool
	g := func(now string) {
		if now == point && did.CompareAndSwap(false, true) {
			f()
		}
	}
	p.at.Store(&g)
}

func (p *points) pass(point string) {
	if f := p.at.Load(); f != nil {
		(*f)(point)
	}
}

// link is the ledger as a process of the town reaches it: one that is killed reaches it
// no more, some transactions can be shut out, and no block comes while the town's ledger
// stands still.
type link struct {
	Account
	*points
	w    *town
	dead *atomic.Bool
	shut *sync.Map // kinds of transactions that fail
}

var (
	errKilled = errors.New("killed")
	errClosed = errors.New("the ledger is not to be reached")
)

// do carries out a transaction, unless something is in its way.
func (l link) do(kind string, f func() error) error {
	l.pass("before " + kind)
	if _, shut := l.shut.Load(kind); shut {
		return errClosed
	}
	switch {
	case l.dead.Load():
		return errKilled
	case l.w.still.Load():
		return chain.ErrStalled
	}
	err := f()
	if errors.Is(err, market.ErrFunds) && !errors.Is(err, desk.ErrFunds) { // as who fits a ledger to the desk says it
		err = fmt.Errorf("%w: %w", desk.ErrFunds, err)
	}
	if err == nil {
		l.w.mu.Lock()
		l.w.done[kind]++
		l.w.mu.Unlock()
		l.pass("after " + kind)
	}
	if l.dead.Load() {
		return errKilled
	}
	return err
}

// Head is the newest block: while the ledger stands still, that before it did.
func (l link) Head(ctx context.Context) (chain.Head, error) {
	if h := l.w.head.Load(); h != nil && l.w.still.Load() {
		return *h, nil
	}
	h, err := l.Account.Head(ctx)
	if err == nil {
		l.w.head.Store(&h)
	}
	return h, err
}

// Offers are those of the town's sellers.
func (l link) Offers(ctx context.Context, trade string) (out []square.Offer, err error) {
	all, err := l.Account.Offers(ctx, trade)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	for _, o := range all {
		if l.w.sells[o.Provider] {
			out = append(out, o)
		}
	}
	return out, err
}

func (l link) PostOffer(ctx context.Context, o square.Offer) error {
	return l.do("offer", func() error { return l.Account.PostOffer(ctx, o) })
}

func (l link) WithdrawOffer(ctx context.Context, trade string, spec square.Hash) error {
	return l.do("withdraw", func() error { return l.Account.WithdrawOffer(ctx, trade, spec) })
}

func (l link) Reclaim(ctx context.Context, lease square.Hash, notice uint64) error {
	return l.do("reclaim", func() error { return l.Account.Reclaim(ctx, lease, notice) })
}

func (l link) Redeem(ctx context.Context, lease square.Hash, claims []chain.Claim) error {
	return l.do("redeem", func() error { return l.Account.Redeem(ctx, lease, claims) })
}

func (l link) Poke(ctx context.Context, lease square.Hash) error {
	return l.do("poke", func() error { return l.Account.Poke(ctx, lease) })
}

func (l link) ClaimResult(ctx context.Context, r square.Receipt, sig square.Signature) error {
	return l.do("claim", func() error { return l.Account.ClaimResult(ctx, r, sig) })
}

func (l link) CommitResult(ctx context.Context, r square.Receipt, sig square.Signature) error {
	return l.do("commit", func() error { return l.Account.CommitResult(ctx, r, sig) })
}

func (l link) AnswerWithheld(ctx context.Context, lease square.Hash, answer []byte) error {
	return l.do("answer", func() error { return l.Account.AnswerWithheld(ctx, lease, answer) })
}

func (l link) Prove(ctx context.Context, lease, evidence square.Hash, proof []byte) error {
	return l.do("prove", func() error { return l.Account.Prove(ctx, lease, evidence, proof) })
}

func (l link) Open(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	return l.do("open", func() error { return l.Account.Open(ctx, o, q, sig) })
}

func (l link) Close(ctx context.Context, lease square.Hash, consent *chain.Consent) error {
	kind := "close"
	if consent == nil {
		kind = "notice"
	}
	return l.do(kind, func() error { return l.Account.Close(ctx, lease, consent) })
}

func (l link) Challenge(ctx context.Context, lease square.Hash, e square.Evidence, part uint64) error {
	return l.do("challenge", func() error { return l.Account.Challenge(ctx, lease, e, part) })
}

func (l link) Place(ctx context.Context, o square.Order) error {
	return l.do("place", func() error { return l.Account.Place(ctx, o) })
}

func (l link) Match(ctx context.Context, q square.Quote, sig square.Signature) error {
	return l.do("match", func() error { return l.Account.Match(ctx, q, sig) })
}

func (l link) Accept(ctx context.Context, lease square.Hash) error {
	return l.do("accept", func() error { return l.Account.Accept(ctx, lease) })
}

func (l link) Withhold(ctx context.Context, lease square.Hash, key []byte) error {
	return l.do("withhold", func() error { return l.Account.Withhold(ctx, lease, key) })
}

func (l link) Unseal(ctx context.Context, lease square.Hash, key []byte) error {
	return l.do("unseal", func() error { return l.Account.Unseal(ctx, lease, key) })
}
