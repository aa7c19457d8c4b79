// Package walk drives the lease machine along random histories and judges them.
//
// A [Walker] makes operations that mostly make sense where the leases stand
// (uniformly random ones would hardly ever reach a dispute), a tenth of them
// spoiled on purpose. An [Oracle] keeps a second account of what each must do:
// whether it is legal, where every unit of money goes, what the lease looks
// like afterwards, worked out in plain arithmetic from the order, the quote
// and the lease's history and never by calling the machine. A [Tap] sees what
// really was written, and [Oracle.Compare] holds the two against each other
// and checks the invariants that package market promises.
//
// A [Policy] is how an honest provider deals with leases. Its test puts it into a
// world where blocks are full for minutes and the buyer does its worst, and requires
// that it loses one interval of vouchers at most.
//
// The operations are data, so a ledger can be driven along the same walk:
// make a message of each [Op] and compare its state with a market.Memory's.
package walk

import (
	"fmt"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Verb names an operation of the machine.
type Verb string

const (
	Bond        Verb = "bond"
	Unbond      Verb = "unbond"
	Unbonded    Verb = "unbonded" // FinishUnbond
	Enlist      Verb = "enlist"
	Offer       Verb = "offer"
	Withdraw    Verb = "withdraw"
	Drop        Verb = "drop" // DropOffer
	Open        Verb = "open"
	OpenMatched Verb = "openmatched"
	Match       Verb = "match"
	Start       Verb = "start"
	Redeem      Verb = "redeem"
	TopUp       Verb = "topup"
	Extend      Verb = "extend"
	Close       Verb = "close"
	Reclaim     Verb = "reclaim"
	Abandon     Verb = "abandon"
	Cancel      Verb = "cancel"
	Claim       Verb = "claim"
	Invite      Verb = "invite"
	Show        Verb = "show"
	Withhold    Verb = "withhold"
	Answer      Verb = "answer"
	Accept      Verb = "accept"
	Challenge   Verb = "challenge"
	Judge       Verb = "judge"
	Seat        Verb = "seat"
	Commit      Verb = "commit"
	Vote        Verb = "vote"
	Prove       Verb = "prove"
	Poke        Verb = "poke"
	Prune       Verb = "prune"
)

// Op is one operation: which, when, by whom, and those of the arguments that
// the verb has.
type Op struct {
	Verb  Verb
	Now   int64          // by the clock of deadlines
	Lag   int64          // that the clock of deadlines is behind the wall's
	By    square.Address // also the provider of Bond, Unbond, Unbonded and Enlist
	Lease square.Hash    // of every verb from Match on; of Open and OpenMatched, the order's id

	Trade  string        // Bond, Unbond, Unbonded, Enlist
	Amount square.Amount // Bond, Unbond; of Unbonded and Enlist, the denom
	On     bool          // Enlist

	Offer   square.Offer    // Offer
	OfferID square.Hash     // Offer
	Slot    market.OfferKey // Withdraw, Drop

	Order  square.Order // Open, OpenMatched
	Quote  square.Quote // Match, OpenMatched
	Digest square.Hash  // Match, OpenMatched: the quote's
	// Forged marks a digest that is not the quote's own, or a ballot that is not the
	// receipt's. No signed message can
	// carry it; a driver that computes digests skips the operation.
	Forged bool

	Claims  []market.Claim   // Redeem
	Final   bool             // Redeem
	Consent *uint64          // Close
	Ends    int64            // Extend
	Units   uint64           // Reclaim: the notice; TopUp: how much
	Receipt square.Receipt   // Claim, Show, and of a replica Commit; Challenge: what the evidence opens
	Charge  market.Charge    // Challenge; of Answer, the cost
	Stake   uint64           // Challenge, Withhold: the bond
	Hash    square.Hash      // Answer: its digest; Commit, Show: the ballot; Vote: the secret
	Verdict square.Verdict   // Judge, Vote
	Judges  []square.Address // Seat; Invite: who is drawn
}

// Fits is the walk's rule for which offers fill which orders: what is labelled may
// be of any spec.
func Fits(f square.Offer, o square.Order) error {
	if f.Spec != o.Spec && o.Trade != "label" {
		return fmt.Errorf("another spec")
	}
	return nil
}

// Apply carries the operation out.
func (op Op) Apply(m market.Machine, s market.Store) ([]market.Event, error) {
	m.Lag = op.Lag
	switch op.Verb {
	case Bond:
		return m.Bond(s, op.Now, op.By, op.Trade, op.Amount)
	case Unbond:
		return m.Unbond(s, op.Now, op.By, op.Trade, op.Amount)
	case Unbonded:
		return m.FinishUnbond(s, op.Now, op.stakeKey())
	case Enlist:
		return m.Enlist(s, op.Now, op.stakeKey(), op.On)
	case Offer:
		return m.PostOffer(s, op.Now, op.OfferID, op.Offer)
	case Withdraw:
		return m.WithdrawOffer(s, op.Now, op.By, op.Slot)
	case Drop:
		return m.DropOffer(s, op.Now, op.Slot)
	case Open:
		return m.Open(s, op.Now, op.Lease, op.Order)
	case OpenMatched:
		return m.OpenMatched(s, op.Now, op.Lease, op.Order, op.Quote, op.Digest)
	case Match:
		return m.Match(s, op.Now, op.Quote, op.Digest)
	case Start:
		return m.Start(s, op.Now, op.By, op.Lease)
	case Redeem:
		return m.Redeem(s, op.Now, op.By, op.Lease, op.Claims, op.Final)
	case TopUp:
		return m.TopUp(s, op.Now, op.By, op.Lease, op.Units)
	case Extend:
		return m.Extend(s, op.Now, op.By, op.Lease, op.Ends)
	case Close:
		return m.Close(s, op.Now, op.By, op.Lease, op.Consent)
	case Reclaim:
		return m.Reclaim(s, op.Now, op.By, op.Lease, op.Units)
	case Abandon:
		return m.Abandon(s, op.Now, op.By, op.Lease)
	case Cancel:
		return m.Cancel(s, op.Now, op.By, op.Lease)
	case Claim:
		return m.Claim(s, op.Now, op.By, op.Lease, op.Receipt)
	case Invite:
		return m.Invite(s, op.Now, op.Lease, op.Judges[0])
	case Show:
		return m.Show(s, op.Now, op.By, op.Lease, op.Receipt, op.Hash)
	case Withhold:
		return m.Withhold(s, op.Now, op.By, op.Lease, op.Stake)
	case Answer:
		return m.Answer(s, op.Now, op.By, op.Lease, op.Hash, op.Charge.Cost)
	case Accept:
		return m.Accept(s, op.Now, op.By, op.Lease)
	case Challenge:
		return m.Challenge(s, op.Now, op.By, op.Lease, op.Charge, op.Stake)
	case Prove:
		return m.Prove(s, op.Now, op.By, op.Lease)
	case Judge:
		return m.Judge(s, op.Now, op.Lease, op.Verdict)
	case Seat:
		return m.Seat(s, op.Now, op.Lease, op.Judges)
	case Commit:
		return m.Commit(s, op.Now, op.By, op.Lease, op.Hash)
	case Vote:
		return m.Vote(s, op.Now, op.By, op.Lease, op.Verdict, op.Hash)
	case Poke:
		return m.Poke(s, op.Now, op.By, op.Lease)
	case Prune:
		return m.Prune(s, op.Now, op.Lease)
	}
	return nil, fmt.Errorf("walk: no operation is called %q", op.Verb)
}

func (op Op) stakeKey() market.StakeKey {
	return market.StakeKey{Provider: op.By, Trade: op.Trade, Denom: op.Amount.Denom}
}

// String is the operation in one line.
func (op Op) String() string {
	s := fmt.Sprintf("%d+%d %s by %s", op.Now, op.Lag, op.Verb, op.By.Hex()[:10])
	if !op.Lease.IsZero() {
		s += " lease " + op.Lease.Short()
	}
	switch op.Verb {
	case Bond, Unbond:
		s += fmt.Sprintf(" %s %d %s", op.Trade, op.Amount.Units, op.Amount.Denom)
	case Redeem:
		s += fmt.Sprintf(" %v final=%v", op.Claims, op.Final)
	case Match, OpenMatched:
		s += fmt.Sprintf(" bond=%d ready=%v", op.Quote.Bond, op.Quote.Ready)
	case Reclaim, TopUp:
		s += fmt.Sprintf(" %d", op.Units)
	case Extend:
		s += fmt.Sprintf(" to %d", op.Ends)
	case Invite:
		s += " " + op.Judges[0].Hex()[:10]
	case Commit:
		s += " " + op.Hash.Short()
	case Claim, Show:
		s += fmt.Sprintf(" %+v", op.Receipt)
	case Withhold:
		s += fmt.Sprintf(" stake=%d", op.Stake)
	case Answer:
		s += fmt.Sprintf(" %s cost=%d", op.Hash.Short(), op.Charge.Cost)
	case Challenge:
		s += fmt.Sprintf(" %+v stake=%d", op.Charge, op.Stake)
	case Judge, Vote:
		s += " " + string(op.Verdict)
	case Seat:
		s += fmt.Sprintf(" of %d", len(op.Judges))
	case Close:
		if op.Consent != nil {
			s += fmt.Sprintf(" consent=%d", *op.Consent)
		}
	}
	return s
}

// Tap is a store that notes what is written to it.
type Tap struct {
	market.Store
	Pots   map[Purse]bool
	Leases map[square.Hash]bool
	Stakes map[market.StakeKey]bool
	Offers map[market.OfferKey]bool
	Uses   map[square.Hash]int64 // until when
}

// Purse is a pot and a denom.
type Purse struct {
	Pot   market.Pot
	Denom string
}

// NewTap is a tap on s.
func NewTap(s market.Store) *Tap {
	return &Tap{s, map[Purse]bool{}, map[square.Hash]bool{}, map[market.StakeKey]bool{}, map[market.OfferKey]bool{}, map[square.Hash]int64{}}
}

// Reset forgets what was noted.
func (t *Tap) Reset() {
	clear(t.Pots)
	clear(t.Leases)
	clear(t.Stakes)
	clear(t.Offers)
	clear(t.Uses)
}

func (t *Tap) SetLease(l market.Lease) error {
	t.Leases[l.ID] = true
	return t.Store.SetLease(l)
}

func (t *Tap) DropLease(id square.Hash) error {
	t.Leases[id] = true
	return t.Store.DropLease(id)
}

func (t *Tap) SetOffer(o market.Offer) error {
	t.Offers[o.Key()] = true
	return t.Store.SetOffer(o)
}

func (t *Tap) DropOffer(k market.OfferKey) error {
	t.Offers[k] = true
	return t.Store.DropOffer(k)
}

func (t *Tap) SetStake(k market.StakeKey, s market.Stake) error {
	t.Stakes[k] = true
	return t.Store.SetStake(k, s)
}

func (t *Tap) Use(h square.Hash, until int64) error {
	t.Uses[h] = until
	return t.Store.Use(h, until)
}

func (t *Tap) Move(from, to market.Pot, a square.Amount) error {
	t.Pots[Purse{from, a.Denom}] = true
	t.Pots[Purse{to, a.Denom}] = true
	return t.Store.Move(from, to, a)
}
