package market

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Machine is the lease machine: one method per operation. Beside its parameters
// it has what only its caller knows of the moment and of trades.
type Machine struct {
	Params
	// Lag is how many seconds the clock of deadlines, which is the now that every
	// operation is given, is behind the wall's. The clock of a ledger stands still
	// while its blocks have no room, so that nobody loses money for not having been
	// heard; what people sign (the expiry of offers, orders and quotes) is in the
	// wall's time.
	Lag int64
	// Fits says whether an order may be filled from an offer of its trade; nil:
	// if it is for the offer's own spec.
	Fits func(square.Offer, square.Order) error
}

func (m Machine) fits(f square.Offer, o square.Order) error {
	if m.Fits != nil {
		return m.Fits(f, o)
	}
	if f.Spec != o.Spec {
		return fmt.Errorf("the offer is for spec %s, the order for %s", f.Spec.Short(), o.Spec.Short())
	}
	return nil
}

// step is one operation under way. It reads through to the store and holds
// back everything it would change until commit, so that an operation that
// fails has changed nothing and one that is never committed is a projection.
type step struct {
	Machine
	store Store
	now   int64
	by    square.Address
	poked bool // the deadline has come: whoever asked is owed a bounty
	err   error

	lease  *Lease     // whose turn it is: the operation's own, or another (see on)
	leases []*subject // the operation's own, and what else it reads or changes
	offer  *Offer     // the lease's, once it changes
	stakes []*staked  // those that were needed
	uses   []use

	moves  []Transfer
	told   int // moves already in an event
	events []Event
}

// subject is a lease within a step.
type subject struct {
	*Lease
	was   State // at the last event
	dirty bool
}

// staked is a stake within a step.
type staked struct {
	StakeKey
	Stake
	dirty bool
}

type use struct {
	hash  square.Hash
	until int64
}

// wall is the wall's time.
func (t *step) wall() int64 { return t.now + t.Lag }

// begin loads a lease for an operation other than a poke: one that has ended,
// or whose deadline has come, refuses.
func (m Machine) begin(s Store, now int64, by square.Address, id square.Hash) (*step, error) {
	t, err := m.load(s, now, by, id)
	if err != nil {
		return nil, err
	}
	l := t.lease
	if l.State.Terminal() {
		return nil, fmt.Errorf("lease %s: %w: it ended, %s (%s)", id.Short(), ErrState, l.State, l.Reason)
	}
	if now >= l.Deadline {
		return nil, fmt.Errorf("lease %s: %w: it was to leave %s at %d and it is %d; poke it", id.Short(), ErrLate, l.State, l.Deadline, now)
	}
	return t, nil
}

func (m Machine) load(s Store, now int64, by square.Address, id square.Hash) (*step, error) {
	l, err := s.Lease(id)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
	}
	t := &step{Machine: m, store: s, now: now, by: by}
	t.lease = t.add(l, l.State)
	return t, nil
}

// add takes a lease into the step.
func (t *step) add(l Lease, was State) *Lease {
	t.leases = append(t.leases, &subject{Lease: &l, was: was})
	return &l
}

// other is a lease that the operation needs beside its own; nil if there is none.
func (t *step) other(id square.Hash) *Lease {
	for _, s := range t.leases {
		if s.ID == id {
			return s.Lease
		}
	}
	l, err := t.store.Lease(id)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			t.fail(fmt.Errorf("lease %s: %w", id.Short(), err))
		}
		return nil
	}
	return t.add(l, l.State)
}

// on has f change another lease of the step.
func (t *step) on(l *Lease, f func()) {
	lease := t.lease
	t.lease = l
	t.subject().dirty = true
	f()
	t.lease = lease
}

func (t *step) subject() *subject {
	for _, s := range t.leases {
		if s.Lease == t.lease {
			return s
		}
	}
	panic("market: a lease that is not in the step")
}

// in refuses unless the lease is in one of states.
func (t *step) in(verb string, states ...State) error {
	for _, s := range states {
		if t.lease.State == s {
			return nil
		}
	}
	return fmt.Errorf("%s: %w: lease %s is %s, want %v", verb, ErrState, t.lease.ID.Short(), t.lease.State, states)
}

// only refuses unless who asks is want.
func (t *step) only(verb string, role string, want square.Address) error {
	if t.by == want {
		return nil
	}
	return fmt.Errorf("%s: %w: only the %s may, which is %v", verb, ErrParty, role, want)
}

// mode refuses a lease of the other mode.
func (t *step) mode(verb string, want square.Mode) error {
	if t.lease.Order.Mode == want {
		return nil
	}
	return fmt.Errorf("%s: %w: lease %s is for a %s", verb, ErrState, t.lease.ID.Short(), t.lease.Order.Mode)
}

func (t *step) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// move plans a transfer; nothing moves before commit.
func (t *step) move(from, to Pot, units uint64) {
	if units > 0 {
		t.moves = append(t.moves, Transfer{from, to, square.Amount{Units: units, Denom: t.lease.Order.Denom}})
	}
}

// fromEscrow takes units, of which the escrow has enough, out of it.
func (t *step) fromEscrow(to Pot, units uint64) {
	t.lease.Escrow -= units
	t.move(Escrow(t.lease.ID), to, units)
}

// fromBond takes units, of which the bond has enough, out of it.
func (t *step) fromBond(to Pot, units uint64) {
	s := t.bonded()
	s.Total -= units
	s.Locked -= units
	t.lease.Bond -= units
	t.move(StakePot(t.lease.Provider, t.lease.Order.Trade), to, units)
}

// bonded is the provider's stake, about to change.
func (t *step) bonded() *Stake { return t.change(t.lease.StakeKey()) }

// change is a stake that is about to change.
func (t *step) change(k StakeKey) *Stake {
	s := t.look(k)
	s.dirty = true
	return &s.Stake
}

func (t *step) look(k StakeKey) *staked {
	for _, s := range t.stakes {
		if s.StakeKey == k {
			return s
		}
	}
	s := &staked{StakeKey: k}
	var err error
	if s.Stake, err = t.store.Stake(k); err != nil {
		t.fail(fmt.Errorf("stake of %v in %s: %w", k.Provider, k.Trade, err))
	}
	t.stakes = append(t.stakes, s)
	return s
}

// pay pays units, of which the escrow has enough, for work.
//
// Fee, treasury's part and emission are shares of the sums so far, not of this
// payment, so that they do not depend on how a sum was cut into payments.
// Each rounds down; the remainder of the fee's split is burned, and the
// remainder of the payment is the provider's.
func (t *step) pay(units uint64) {
	l := t.lease
	split := func(paid uint64) (fee, treasury uint64) {
		fee = square.Share(paid, t.FeeBps)
		return fee, square.Share(fee, t.TreasuryBps)
	}
	fee0, treasury0 := split(l.Paid)
	fee1, treasury1 := split(l.Paid + units)
	treasury := treasury1 - treasury0
	burn := fee1 - fee0 - treasury
	net := units - treasury - burn
	l.Paid += units
	l.Burned += burn
	t.fromEscrow(Treasury, treasury)
	t.fromEscrow(Burned, burn)

	hold := t.holdback(net)
	if hold > 0 {
		t.bonded().Total += hold
		t.fromEscrow(StakePot(l.Provider, l.Order.Trade), hold)
	}
	t.fromEscrow(Account(l.Provider), net-hold)

	// Only the ledger's own denom can be minted.
	if emit := square.Share(l.Burned, t.EmissionBps); l.Order.Denom == square.Denom && emit > l.Emitted {
		t.move(Minted, Account(l.Provider), emit-l.Emitted)
		l.Emitted = emit
	}
}

// holdback is the part of a net payment that grows into stake: none once the
// bond, or the stake it can be bonded from, is HoldbackTimes the job value.
func (t *step) holdback(net uint64) uint64 {
	want := times(t.lease.Order.JobValue, t.HoldbackTimes)
	if t.lease.Bonded >= want {
		return 0
	}
	s := t.look(t.lease.StakeKey())
	if have := s.Total - s.Unbonding; have < want {
		return min(square.Share(net, t.HoldbackBps), want-have)
	}
	return 0
}

// times is a product that stops at square.MaxUnits.
func times(a, b uint64) uint64 {
	if b != 0 && a > square.MaxUnits/b {
		return square.MaxUnits
	}
	return a * b
}

// bounty is what a poke earns out of a sum.
func (t *step) bounty(sum uint64) uint64 {
	if !t.poked || t.by.IsZero() {
		return 0
	}
	return min(t.PokeBounty, square.Share(sum, t.BountyBps))
}

// refund returns the rest of the escrow to the buyer, less a bounty when it
// took a poke; that of a replica to the lease whose replica it is, while that waits
// for replicas.
func (t *step) refund() {
	if g := t.group(); g != nil {
		units := t.lease.Escrow
		t.fromEscrow(Escrow(g.ID), units)
		t.on(g, func() { g.Escrow += units })
		return
	}
	t.fromEscrow(Account(t.by), t.bounty(t.lease.Escrow))
	t.fromEscrow(Account(t.lease.Order.Buyer), t.lease.Escrow)
}

// penalty takes bps of the bond, rounded down: first the poke's bounty, then
// the buyer's compensation, which is at most what cancelling would have cost
// the buyer; the rest is burned. So a buyer cannot live on making providers
// fail.
func (t *step) penalty(bps uint64) {
	l := t.lease
	sum := square.Share(l.Bond, bps)
	bounty := t.bounty(sum)
	buyer := min(sum-bounty, square.Share(l.Order.Escrow, t.CancelBps))
	t.fromBond(Account(t.by), bounty)
	t.fromBond(Account(l.Order.Buyer), buyer)
	t.fromBond(Burned, sum-bounty-buyer)
	t.poked = false // the provider has paid for the poke; the refund is whole
}

// end makes the lease terminal. The escrow has been disposed of; the rest of
// the bond is unlocked and the offer's units are free again.
func (t *step) end(state State, reason Reason) {
	l := t.lease
	if l.Bond > 0 {
		t.bonded().Locked -= l.Bond
		l.Bond = 0
	}
	if !l.Provider.IsZero() {
		if l.Bonded == 0 {
			t.bonded().Jobs--
		}
		o, err := t.store.Offer(l.OfferKey())
		if err != nil {
			t.fail(fmt.Errorf("offer of %v: %w", l.Provider, err))
			return
		}
		o.InUse -= l.Order.Units
		t.offer = &o
	}
	l.State, l.Reason = state, reason
	l.Ended = t.now
	l.Deadline = t.now + int64(t.Retention)
	t.event(EvEnded, l.Child)
	if g := t.group(); g != nil {
		t.replace(g)
	}
}

// event records what happened to the lease, with the moves since the previous
// event.
func (t *step) event(kind Kind, ref square.Hash) {
	l, s := t.lease, t.subject()
	t.events = append(t.events, Event{
		Kind: kind, Time: t.now, By: t.by,
		Lease: l.ID, Trade: l.Order.Trade, Buyer: l.Order.Buyer, Provider: l.Provider,
		From: s.was, To: l.State, Reason: l.Reason, Deadline: l.Deadline, Paid: l.Paid,
		Ref: ref, Moves: t.moves[t.told:len(t.moves):len(t.moves)],
	})
	t.told, s.was = len(t.moves), l.State
}

// commit carries out what the step has planned.
func (t *step) commit() ([]Event, error) {
	if t.err != nil {
		return nil, t.err
	}
	for _, m := range t.moves {
		if err := t.store.Move(m.From, m.To, m.Amount); err != nil {
			return nil, fmt.Errorf("move %v: %w", m, err)
		}
	}
	var errs []error
	for _, l := range t.leases[1:] {
		if l.dirty {
			errs = append(errs, t.store.SetLease(*l.Lease))
		}
	}
	for _, s := range t.stakes {
		if s.dirty {
			errs = append(errs, t.store.SetStake(s.StakeKey, s.Stake))
		}
	}
	if t.offer != nil {
		errs = append(errs, t.store.SetOffer(*t.offer))
	}
	for _, u := range t.uses {
		errs = append(errs, t.store.Use(u.hash, u.until))
	}
	errs = append(errs, t.store.SetLease(*t.leases[0].Lease))
	return t.events, errors.Join(errs...)
}
