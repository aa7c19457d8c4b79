// Package fake is a ledger in memory for the tests of any trade: market.Machine over
// market.Memory, with the checks that the ledger makes before it (signatures of
// quotes, vouchers, consents and receipts) and the trade's judge. Its clock is
// the test's.
package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// ChainID is the fake ledger's.
const ChainID = "torg-fake-1"

// Ledger is a ledger in memory. Use New.
type Ledger struct {
	Machine market.Machine
	Rules   map[string]trade.Rules // by trade
	Cards   map[square.Hash][]byte // by spec, of work that can be proven

	mu      sync.Mutex
	mem     *market.Memory
	base    time.Time
	started time.Time
	height  uint64
	stalled bool
	fee     uint64
	refuse  error
	count   map[string]int

	evidence map[square.Hash]square.Evidence
	asked    map[square.Hash]question // by lease
}

// question is what a buyer asked for that says a result was withheld, and the answer.
type question struct{ key, answer []byte }

// New makes an empty ledger at a time.
//
// Its deadlines may be short and disputes cost nothing, so that tests need not wait
// and count.
func New(trades ...trade.Rules) *Ledger {
	p := market.Default()
	p.Notice, p.DisputeCost, p.JudgeFee = 1, 0, 0
	rules := map[string]trade.Rules{}
	for _, t := range trades {
		rules[t.Name()] = t
	}
	l := &Ledger{
		Machine: market.Machine{Params: p}, Rules: rules, Cards: map[square.Hash][]byte{},
		evidence: map[square.Hash]square.Evidence{}, asked: map[square.Hash]question{},
		mem: market.NewMemory(), base: time.Unix(1_800_000_000, 0), started: time.Now(), count: map[string]int{},
	}
	l.Machine.Fits = func(f square.Offer, o square.Order) error {
		r, err := l.rules(f.Trade)
		if err != nil {
			return err
		}
		return r.Fits(f, o)
	}
	return l
}

var (
	domain  = square.LedgerDomain(ChainID)
	channel = square.ChannelDomain(ChainID)
)

// Jump moves the ledger's clock.
func (l *Ledger) Jump(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base = l.base.Add(d)
}

// Stall stops blocks: reads go on, transactions fail. Its clock stands.
func (l *Ledger) Stall(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled != on {
		l.base, l.started = time.Unix(l.now(), 0), time.Now()
	}
	l.stalled = on
}

// Charge makes redemptions seem to cost so much.
func (l *Ledger) Charge(fee uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fee = fee
}

// Refuse makes every transaction fail with err, until nil.
func (l *Ledger) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

// Count is how many transactions of a kind were carried out.
func (l *Ledger) Count(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[kind]
}

// Full lets blocks have no room for so many seconds: the clock of deadlines stands
// still meanwhile.
func (l *Ledger) Full(seconds int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Machine.Lag += seconds
}

// wall is the ledger's time.
func (l *Ledger) wall() int64 { return l.now() + l.Machine.Lag }

// now is what deadlines run on.
func (l *Ledger) now() int64 {
	if l.stalled {
		return l.base.Unix()
	}
	return l.base.Add(time.Since(l.started)).Unix()
}

// Fund mints money into an account.
func (l *Ledger) Fund(a square.Address, units uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mem.Fund(a, square.Utorg(units)); err != nil {
		panic(err)
	}
}

// rules are those of a trade.
func (l *Ledger) rules(name string) (trade.Rules, error) {
	r := l.Rules[name]
	if r == nil {
		return nil, fmt.Errorf("trade %q is not on this ledger", name)
	}
	return r, nil
}

// Bond stakes money of an account in a trade.
func (l *Ledger) Bond(a square.Address, trade string, units uint64) error {
	return l.do("bond", func() error {
		_, err := l.Machine.Bond(l.mem, l.now(), a, trade, square.Utorg(units))
		return err
	})
}

// Balance is what an account, and its stakes in all trades, hold.
func (l *Ledger) Balance(a square.Address) (account, stake uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.Rules {
		stake += l.mem.Balance(market.StakePot(a, name), square.Denom)
	}
	return l.mem.Balance(market.Account(a), square.Denom), stake
}

// Conserved reports whether no money was made or lost.
func (l *Ledger) Conserved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Total(square.Denom) == l.mem.Balance(market.Minted, square.Denom)
}

// Leases are all leases.
func (l *Ledger) Leases() []market.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mem.Leases()
}

// do carries out a transaction: one block each.
func (l *Ledger) do(kind string, f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stalled {
		return fmt.Errorf("%s: %w", kind, chain.ErrStalled)
	}
	if l.refuse != nil {
		return fmt.Errorf("%s: %w", kind, l.refuse)
	}
	err := l.mem.Atomically(f)
	if err == nil {
		l.count[kind]++
		l.height++
	}
	return err
}

// Account is the ledger as one account's client sees it: a seller.Ledger, and a
// buyer's.
type Account struct {
	*Ledger
	Self square.Address
}

// Head is the newest block: one a second and one a transaction.
func (a Account) Head(context.Context) (chain.Head, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.wall()
	h := chain.Head{Height: a.height + uint64(now), Time: time.Unix(now, 0), Lag: a.Machine.Lag}
	return h, nil
}

// Params are the machine's.
func (a Account) Params(context.Context) (market.Params, error) { return a.Machine.Params, nil }

func (a Account) Offers(_ context.Context, trade string) ([]square.Offer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []square.Offer
	for _, o := range a.mem.Offers() {
		if o.Trade == trade && !o.Withdrawn && o.Expiry > a.wall() {
			out = append(out, o.Offer)
		}
	}
	return out, nil
}

func (a Account) Lease(_ context.Context, id square.Hash) (market.Lease, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, err := a.mem.Lease(id)
	l.Lanes = slices.Clone(l.Lanes)
	return l, err
}

func (a Account) Balance(_ context.Context, denom string) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mem.Balance(market.Account(a.Self), denom), nil
}

func (a Account) Funds(_ context.Context, account square.Address, denom string) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mem.Balance(market.Account(account), denom), nil
}

func (a Account) Stake(_ context.Context, trade, denom string) (market.Stake, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mem.Stake(market.StakeKey{Provider: a.Self, Trade: trade, Denom: denom})
}

// Fee is what Charge said.
func (a Account) Fee(context.Context, int) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fee, nil
}

func (a Account) Reclaim(_ context.Context, id square.Hash, notice uint64) error {
	return a.do("reclaim", func() error {
		_, err := a.Machine.Reclaim(a.mem, a.now(), a.Self, id, notice)
		return err
	})
}

func (a Account) PostOffer(_ context.Context, o square.Offer) error {
	return a.do("offer", func() error {
		if o.Provider != a.Self {
			return errors.New("offer: signed by another account")
		}
		r, err := a.rules(o.Trade)
		if err != nil {
			return err
		}
		if err := r.CheckOffer(o); err != nil {
			return err
		}
		_, err = a.Machine.PostOffer(a.mem, a.now(), o.ID(domain), o)
		return err
	})
}

func (a Account) WithdrawOffer(_ context.Context, trade string, spec square.Hash) error {
	return a.do("withdraw", func() error {
		_, err := a.Machine.WithdrawOffer(a.mem, a.now(), a.Self, market.OfferKey{Provider: a.Self, Trade: trade, Spec: spec})
		return err
	})
}

func (a Account) Open(_ context.Context, o square.Order, q square.Quote, sig square.Signature) error {
	return a.do("open", func() error {
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
		if err := q.Verify(domain, sig); err != nil {
			return err
		}
		_, err = a.Machine.OpenMatched(a.mem, a.now(), o.ID(domain), o, q, q.Digest(domain))
		return err
	})
}

func (a Account) Redeem(_ context.Context, id square.Hash, claims []chain.Claim) error {
	return a.do("redeem", func() error {
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		var list []market.Claim
		for _, c := range claims {
			want := l.Channel(c.Lane).ID(channel)
			if c.Voucher.Channel != want || c.Amount > c.Voucher.Max {
				return fmt.Errorf("redeem: lane %d: the voucher is not for this", c.Lane)
			}
			if err := c.Voucher.Verify(channel, l.Order.Authorizer); err != nil {
				return err
			}
			list = append(list, market.Claim{Lane: c.Lane, Cumulative: c.Amount})
		}
		_, err = a.Machine.Redeem(a.mem, a.now(), a.Self, id, list, false)
		return err
	})
}

func (a Account) Close(_ context.Context, id square.Hash, consent *chain.Consent) error {
	return a.do("close", func() error {
		var sum *uint64
		if consent != nil {
			l, err := a.mem.Lease(id)
			if err != nil {
				return err
			}
			if err := square.VerifyClose(domain, l.Provider, id, consent.Paid, consent.Sig); err != nil {
				return err
			}
			sum = &consent.Paid
		}
		_, err := a.Machine.Close(a.mem, a.now(), a.Self, id, sum)
		return err
	})
}

// Challenge is judged at once, as the ledger judges what it can re-execute; in a
// lease under the policy prove the provider of work with a card is to prove the
// part.
func (a Account) Challenge(_ context.Context, id square.Hash, e square.Evidence, part uint64) error {
	return a.do("challenge", func() error {
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		if e.Receipt.Lease != id || e.Receipt.Subject != l.Order.Spec {
			return errors.New("challenge: the receipt is for something else")
		}
		if err := e.Receipt.Verify(domain, l.Provider, e.Sig); err != nil {
			return err
		}
		if !e.Opens() {
			return errors.New("challenge: the bytes are not those that the receipt names")
		}
		charge := market.Charge{Way: market.ByJudges, Evidence: e.Hash(domain), Value: e.Receipt.Price}
		bond := a.Machine.LeastBond(l.Order, charge.Value)
		a.evidence[charge.Evidence] = e
		c := trade.Case{Evidence: e, Lease: l, Card: a.Cards[l.Order.Spec]}
		r, err := a.rules(l.Order.Trade)
		if err != nil {
			return err
		}
		if p, ok := r.(trade.Provable); ok && c.Card != nil && l.Order.Policy == square.PolicyProve {
			n, verdict, err := p.Parts(c)
			switch {
			case err != nil:
				return err
			case verdict == "" && part < n:
				charge.Way, charge.Part = market.ByProof, part
				_, err = a.Machine.Challenge(a.mem, a.now(), a.Self, id, charge, bond)
				return err
			case verdict == "":
				return fmt.Errorf("challenge: part %d of %d", part, n)
			}
		}
		verdict := square.VerdictFraud
		if e.Receipt.Charged(l.Rates) == nil { // else it needs no look at the work
			if verdict, err = r.Judge(c); err != nil {
				return err
			}
		}
		if _, err := a.Machine.Challenge(a.mem, a.now(), a.Self, id, charge, bond); err != nil {
			return err
		}
		_, err = a.Machine.Judge(a.mem, a.now(), id, verdict)
		return err
	})
}

// Dispute has so much of a lease disputed before judges that say nothing.
func (l *Ledger) Dispute(id square.Hash, by square.Address, e square.Evidence, value uint64) error {
	return l.do("dispute", func() error {
		m, err := l.mem.Lease(id)
		if err != nil {
			return err
		}
		charge := market.Charge{Way: market.ByJudges, Evidence: e.Hash(domain), Value: value}
		_, err = l.Machine.Challenge(l.mem, l.now(), by, id, charge, l.Machine.LeastBond(m.Order, value))
		return err
	})
}

// Evidence is what a challenge brought.
func (a Account) Evidence(_ context.Context, _, hash square.Hash) (square.Evidence, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.evidence[hash]
	if !ok {
		return e, market.ErrNotFound
	}
	return e, nil
}

// Card is what proofs of work of a spec are checked against.
func (a Account) Card(_ context.Context, spec square.Hash) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if card := a.Cards[spec]; card != nil {
		return card, nil
	}
	return nil, market.ErrNotFound
}

// Prove answers a challenge.
func (a Account) Prove(_ context.Context, id, evidence square.Hash, p []byte) error {
	return a.do("prove", func() error {
		l, err := a.mem.Lease(id)
		if err != nil {
			return err
		}
		if _, err := a.Machine.Prove(a.mem, a.now(), a.Self, id); err != nil {
			return err
		}
		if l.Dispute.Evidence != evidence {
			return errors.New("prove: the dispute is about other evidence")
		}
		r, ok := a.Rules[l.Order.Trade].(trade.Provable)
		if !ok {
			return fmt.Errorf("prove: work of trade %s cannot be proven", l.Order.Trade)
		}
		return r.CheckProof(trade.Case{Evidence: a.evidence[evidence], Lease: l, Card: a.Cards[l.Order.Spec]}, l.Dispute.Part, p)
	})
}

func (a Account) Poke(_ context.Context, id square.Hash) error {
	return a.do("poke", func() error {
		_, err := a.Machine.Poke(a.mem, a.now(), a.Self, id)
		return err
	})
}
