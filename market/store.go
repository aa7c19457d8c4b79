package market

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Errors that callers tell apart; every other error is a refusal in words.
var (
	ErrNotFound = errors.New("not found")
	ErrState    = errors.New("not possible in this state")
	ErrLate     = errors.New("past its deadline")   // poke the lease first
	ErrEarly    = errors.New("before its deadline") // nothing to poke yet
	ErrParty    = errors.New("not a party that may do this")
	ErrUsed     = errors.New("used before")
	ErrFunds    = errors.New("not enough money") // a Store wraps it when an account cannot pay
)

// Store is everything an operation reads and writes. Getters return ErrNotFound
// (it may be wrapped) for a lease or offer that is not there, and the zero Stake.
//
// An operation reads first, then moves money, then writes. The first Move may
// fail because an account is short, and then nothing has changed. Any other
// failure after the first Move is the store's own, and the caller rolls the
// operation back.
type Store interface {
	Lease(id square.Hash) (Lease, error)
	// SetLease also files the lease under its Deadline, if the store keeps a
	// queue of what to poke and prune.
	SetLease(Lease) error
	DropLease(id square.Hash) error

	Offer(OfferKey) (Offer, error)
	SetOffer(Offer) error
	DropOffer(OfferKey) error

	Stake(StakeKey) (Stake, error)
	SetStake(StakeKey, Stake) error

	// Used reports whether Use was called with h; the store may forget it
	// after until.
	Used(h square.Hash) (bool, error)
	Use(h square.Hash, until int64) error

	// Move moves money. The amount is never 0.
	Move(from, to Pot, a square.Amount) error
}

// PotKind says what a pot of money is for.
type PotKind string

const (
	PotAccount   PotKind = "account"   // an owner's own money
	PotStake     PotKind = "stake"     // a provider's stake in a trade
	PotEscrow    PotKind = "escrow"    // a buyer's money in a lease
	PotChallenge PotKind = "challenge" // a challenger's bond in a lease
	PotTreasury  PotKind = "treasury"
	PotBurned    PotKind = "burned"  // only receives
	PotMinted    PotKind = "minted"  // only pays
	PotChannel   PotKind = "channel" // of payment channels that belong to no lease; not the machine's
)

// Pot is a place where money is. On the ledger an account is an account, stake,
// escrow and challenge bonds are the module's, burned and minted are the
// supply's.
type Pot struct {
	Kind  PotKind        `json:"kind"`
	Owner square.Address `json:"owner"` // account, stake
	Trade string         `json:"trade"` // stake
	Lease square.Hash    `json:"lease"` // escrow, challenge
}

// Account is the pot of an owner.
func Account(a square.Address) Pot { return Pot{Kind: PotAccount, Owner: a} }

// Escrow is the pot of a lease's buyer.
func Escrow(lease square.Hash) Pot { return Pot{Kind: PotEscrow, Lease: lease} }

// ChallengeBond is the pot of a lease's challenger.
func ChallengeBond(lease square.Hash) Pot { return Pot{Kind: PotChallenge, Lease: lease} }

// StakePot is the pot of a provider's stake in a trade; bonds are locked in it.
func StakePot(provider square.Address, trade string) Pot {
	return Pot{Kind: PotStake, Owner: provider, Trade: trade}
}

// Treasury, Burned and Minted are the pots there is one of.
var (
	Treasury = Pot{Kind: PotTreasury}
	Burned   = Pot{Kind: PotBurned}
	Minted   = Pot{Kind: PotMinted}
)

// StakeKey names a stake: a provider stakes per trade and denom.
type StakeKey struct {
	Provider square.Address `json:"provider"`
	Trade    string         `json:"trade"`
	Denom    string         `json:"denom"`
}

// Stake is a provider's money behind its work in one trade.
type Stake struct {
	Total     uint64 `json:"total,string"`
	Locked    uint64 `json:"locked,string"`    // the sum of its open bonds and seats (I4)
	Unbonding uint64 `json:"unbonding,string"` // on its way out
	Until     int64  `json:"until"`            // when Unbonding may leave
	Jobs      uint64 `json:"jobs,omitempty"`   // open leases with no bond
	Judge     bool   `json:"judge,omitempty"`  // its owner sits as a judge when drawn
}

// Free is what may still be locked or unbonded.
func (s Stake) Free() uint64 { return s.Total - s.Locked - s.Unbonding }

// OfferKey is the slot an offer is in: a provider has one live offer per trade
// and spec.
type OfferKey struct {
	Provider square.Address `json:"provider"`
	Trade    string         `json:"trade"`
	Spec     square.Hash    `json:"spec"`
}

// Offer is the newest offer of its slot and how much of it is taken. Units
// leased under an earlier offer of the slot stay counted.
type Offer struct {
	square.Offer
	ID        square.Hash `json:"id"`
	InUse     uint64      `json:"in_use"` // units, at most Capacity (I8)
	Withdrawn bool        `json:"withdrawn,omitempty"`
}

// Key is the offer's slot.
func (o Offer) Key() OfferKey { return OfferKey{o.Provider, o.Trade, o.Spec} }

// Transfer is one Move.
type Transfer struct {
	From   Pot           `json:"from"`
	To     Pot           `json:"to"`
	Amount square.Amount `json:"amount"`
}

// String writes "escrow(0a0b…) -> account(torg1…) 5 TORG".
func (t Transfer) String() string { return fmt.Sprintf("%v -> %v %v", t.From, t.To, t.Amount) }

func (p Pot) String() string {
	switch p.Kind {
	case PotAccount:
		return fmt.Sprintf("account(%v)", p.Owner)
	case PotStake:
		return fmt.Sprintf("stake(%v %s)", p.Owner, p.Trade)
	case PotEscrow, PotChallenge:
		return fmt.Sprintf("%s(%s)", p.Kind, p.Lease.Short())
	}
	return string(p.Kind)
}
