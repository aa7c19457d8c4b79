package market

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/torg-network/torg/square"
)

// State is where a lease stands. The package documentation has the diagram.
type State string

const (
	Open     State = "open"     // an order with its escrow, no provider yet
	Matched  State = "matched"  // a provider has bonded and must start
	Active   State = "active"   // work is being done
	Draining State = "draining" // a stream that is ending; vouchers are still redeemed
	Claimed  State = "claimed"  // a result is in and may be challenged
	Owed     State = "owed"     // the buyer says that it has not got the result; the provider is to answer
	// A replicated order has a lease that waits while its replicas go through states of
	// their own: Open, Matched, Active, Committed, Showing, Claimed.
	Replicating State = "replicating" // an order with its escrow, of which replicas run
	Committed   State = "committed"   // a replica has a result and does not show it before all have one
	Showing     State = "showing"     // all have, and this one is to show it

	Disputed  State = "disputed"  // judges are looking, or a proof is due; every other clock stands still
	Settled   State = "settled"   // ended as agreed
	Failed    State = "failed"    // ended because someone fell silent or left
	Cancelled State = "cancelled" // ended by the buyer before any work was paid
	Slashed   State = "slashed"   // ended by fraud, found or not disproved
)

// Terminal reports whether nothing but forgetting can happen to the lease.
func (s State) Terminal() bool {
	return s == Settled || s == Failed || s == Cancelled || s == Slashed
}

// Reason is why a lease is ending (Draining) or has ended.
type Reason string

const (
	ReasonAgreed       Reason = "agreed"        // settled: both sides signed the final sum
	ReasonClosed       Reason = "closed"        // settled: the buyer closed, the provider had its notice
	ReasonWithheld     Reason = "withheld"      // slashed: the provider handed over nothing, in time or at all
	ReasonEnded        Reason = "ended"         // settled: the duration was reached
	ReasonReclaimed    Reason = "reclaimed"     // settled: the provider gave notice
	ReasonAccepted     Reason = "accepted"      // settled: the buyer took the result
	ReasonUnchallenged Reason = "unchallenged"  // settled: nobody objected to the result in time
	ReasonUpheld       Reason = "upheld"        // settled: the judges found the result right
	ReasonCancelled    Reason = "cancelled"     // cancelled: by the buyer
	ReasonExpired      Reason = "expired"       // cancelled: no provider took the order in time
	ReasonNoStart      Reason = "no_start"      // failed: the provider did not start in time
	ReasonIdle         Reason = "idle"          // failed: nothing was redeemed for too long
	ReasonLate         Reason = "late"          // failed: no result by the job's deadline
	ReasonAbandoned    Reason = "abandoned"     // failed: the provider walked away
	ReasonJudgesSilent Reason = "judges_silent" // settled: no draw of judges gave a verdict, so that the signed claim stands
	ReasonFraud        Reason = "fraud"         // slashed: the work was found not to be what its receipt says
	ReasonUnproven     Reason = "unproven"      // slashed: the provider did not prove challenged work in time
	ReasonReplicated   Reason = "replicated"    // settled: the replicas of an order agreed
	ReasonOutvoted     Reason = "outvoted"      // slashed: a replica's result is not the agreed one
	ReasonUnshown      Reason = "unshown"       // slashed: a replica did not show the result that it committed to
	ReasonDisagreed    Reason = "disagreed"     // failed: the replicas of an order did not agree
	ReasonNoReplicas   Reason = "no_replicas"   // failed: too many replicas of an order fell silent or left
)

// Lease is an order and what became of it. Money is in base units of
// Order.Denom, times are seconds on the clock of deadlines (see Machine.Lag) and 0
// when they have not come.
type Lease struct {
	ID     square.Hash  `json:"id"`    // the order's id, or ChildID of the parent
	Order  square.Order `json:"order"` // of a child: the parent's, with escrow, job value, duration, failover and expiry cut down
	State  State        `json:"state"`
	Reason Reason       `json:"reason,omitempty"`

	Parent square.Hash `json:"parent"` // the lease this one replaces, or zero
	Child  square.Hash `json:"child"`  // the lease that replaces this one, or zero
	Nth    uint64      `json:"nth"`    // how many leases this order had before; of a replica: which one it is; while Replicating: how many replicas were opened

	Of       square.Hash      `json:"of"`                 // a replica: the lease of the whole order, or zero
	Replicas []square.Hash    `json:"replicas,omitempty"` // of a replicated order: those that stand
	Left     []square.Address `json:"left,omitempty"`     // of a replicated order: who has failed one
	Drawn    bool             `json:"drawn,omitempty"`    // a replica: only who was drawn may match it
	Draw     uint64           `json:"draw,omitempty"`     // a drawn replica: which draw, from 0
	Invited  square.Address   `json:"invited"`            // a drawn replica: who was drawn; zero: nobody yet
	Passed   []square.Address `json:"passed,omitempty"`   // a drawn replica: who was drawn before and did not match it
	Ballot   square.Hash      `json:"ballot"`             // a replica: what its provider committed to
	Agreed   square.Hash      `json:"agreed"`             // the result that the replicas agreed on; of a replica nothing was compared with, its own
	Peers    []square.Address `json:"peers,omitempty"`    // a replica: who ran those that were compared

	Provider square.Address `json:"provider"` // zero while Open
	Offer    square.Hash    `json:"offer"`
	Slot     square.Hash    `json:"slot"` // the spec of the offer
	Rates    []square.Rate  `json:"rates,omitempty"`

	Added  uint64 `json:"added,string"`  // to the order's escrow, by topping up
	Escrow uint64 `json:"escrow,string"` // held now
	Bond   uint64 `json:"bond,string"`   // locked now in the provider's stake
	Bonded uint64 `json:"bonded,string"` // locked at the match; what the audit law calls S
	Paid   uint64 `json:"paid,string"`   // out of the escrow for work so far, fees included

	Burned  uint64 `json:"burned,string"`  // of the fees on Paid
	Emitted uint64 `json:"emitted,string"` // minted to the provider for Burned

	Lanes   []uint64        `json:"lanes,omitempty"`   // redeemed so far by lane; their sum is at most Paid
	Receipt *square.Receipt `json:"receipt,omitempty"` // result: what was claimed, and for how much
	Asked   bool            `json:"asked,omitempty"`   // result: the buyer has said once that it was withheld
	Answer  square.Hash     `json:"answer"`            // result: what the provider answered to that

	Heard   uint64   `json:"heard,omitempty"`   // disputes after which a stream went on
	Dispute *Dispute `json:"dispute,omitempty"` // while Disputed or Owed, and after it ended the lease

	Wait    int64 `json:"wait"` // how long it waits for a provider
	Opened  int64 `json:"opened"`
	Matched int64 `json:"matched"`
	Started int64 `json:"started"`
	Touched int64 `json:"touched"` // stream: the last redemption, or the start
	Ends    int64 `json:"ends"`    // when the duration is reached
	Ended   int64 `json:"ended"`
	// Deadline is when anyone may Poke the lease, or Prune it once it has
	// ended. It is never 0: a store files the lease under it.
	Deadline int64 `json:"deadline"`
}

// Way is how a dispute is decided.
type Way string

const (
	ByJudges Way = "judges" // a draw of the trade's judges votes
	ByProof  Way = "proof"  // the provider proves a part of the work, or is slashed
	ByAnswer Way = "answer" // the provider hands the result over, or is slashed
)

// Dispute is a challenge, or the question after a withheld result.
type Dispute struct {
	Way        Way            `json:"way"`
	Challenger square.Address `json:"challenger"`
	Bond       uint64         `json:"bond,string"` // held now
	Cost       uint64         `json:"cost,string"` // what the challenge cost its sender in fees, as far as it is given back
	Evidence   square.Hash    `json:"evidence"`
	Value      uint64         `json:"value,string"` // what the work in question was charged at
	Prior      State          `json:"prior"`        // where an upheld stream goes back to
	PriorTime  int64          `json:"prior_time"`   // the deadline it had there
	Since      int64          `json:"since"`
	Part       uint64         `json:"part,omitempty"` // ByProof: of the work, as its trade counts
	// Owes is who must have the bytes behind the evidence's digests where they are
	// not on the ledger; zero where they are.
	Owes   square.Address   `json:"owes"`
	Draw   uint64           `json:"draw"`             // ByJudges: which draw sits, from 0
	Seated int64            `json:"seated,omitempty"` // when it sat down; 0: not yet
	Seats  []Seat           `json:"seats,omitempty"`
	Stood  []square.Address `json:"stood,omitempty"` // judges that were silent in earlier draws
	Found  square.Verdict   `json:"found,omitempty"` // what a draw found
}

// Seat is a judge in a dispute.
type Seat struct {
	Judge   square.Address `json:"judge"`
	Bond    uint64         `json:"bond,string"` // locked in its stake
	Ballot  square.Hash    `json:"ballot"`      // what it committed to; zero: nothing yet
	Verdict square.Verdict `json:"verdict,omitempty"`
}

// Funded is all that was ever put into the lease's escrow.
func (l Lease) Funded() uint64 { return l.Order.Escrow + l.Added }

// OfferKey is where the lease's offer is stored.
func (l Lease) OfferKey() OfferKey { return OfferKey{l.Provider, l.Order.Trade, l.Slot} }

// StakeKey is the stake the lease's bond is locked in.
func (l Lease) StakeKey() StakeKey { return StakeKey{l.Provider, l.Order.Trade, l.Order.Denom} }

// Channel is the payment channel of one of the lease's lanes: for a first lease
// what square.Order.Channel gives, for a child the same with the child's id.
func (l Lease) Channel(lane uint16) square.ChannelConfig {
	return square.ChannelConfig{
		Payer: l.Order.Buyer, PayerAuthorizer: l.Order.Authorizer,
		Receiver: l.Provider, ReceiverAuthorizer: l.Provider,
		Token: square.TokenAddress(l.Order.Denom), WithdrawDelay: l.Order.Drain,
		Salt: square.LaneSalt(l.ID, lane),
	}
}

// ChildID is the id of the nth lease of an order after its first, which
// replaces parent: SHA-256 of "torg failover", the parent's id and n as a
// big-endian 64-bit number.
func ChildID(parent square.Hash, n uint64) (id square.Hash) {
	h := sha256.New()
	h.Write([]byte("torg failover"))
	h.Write(parent[:])
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Sum(id[:0])
	return id
}
