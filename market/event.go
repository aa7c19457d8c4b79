package market

import "github.com/torg-network/torg/square"

// Kind names what happened.
type Kind string

const (
	EvBonded     Kind = "bonded"
	EvUnbonding  Kind = "unbonding"
	EvUnbonded   Kind = "unbonded"
	EvEnlisted   Kind = "enlisted"  // a staker sits as a judge when drawn
	EvDelisted   Kind = "delisted"  // it does no longer
	EvOffered    Kind = "offered"   // Ref: the offer
	EvDropped    Kind = "dropped"   // Ref: the offer; it had expired
	EvWithdrawn  Kind = "withdrawn" // Ref: the offer
	EvOpened     Kind = "opened"    // Ref: the order, if it is a replica
	EvInvited    Kind = "invited"   // Ref: the order; a staker was drawn for a replica
	EvCalled     Kind = "called"    // Ref: the order; a replica is to show the result that it committed to
	EvCompared   Kind = "compared"  // Ref: the result that a replica is held to
	EvReleased   Kind = "released"  // Ref: the order; it is over, and a replica ends with it
	EvMatched    Kind = "matched"   // Ref: the quote's digest
	EvStarted    Kind = "started"
	EvRedeemed   Kind = "redeemed"
	EvDraining   Kind = "draining"
	EvToppedUp   Kind = "topped_up"
	EvExtended   Kind = "extended"
	EvClaimed    Kind = "claimed"    // Ref: the result
	EvWithheld   Kind = "withheld"   // Ref: the result; the provider is to answer
	EvAnswered   Kind = "answered"   // Ref: the answer
	EvChallenged Kind = "challenged" // Ref: the evidence
	EvSeated     Kind = "seated"     // Ref: the evidence; judges were drawn
	EvCommitted  Kind = "committed"  // Ref: the evidence, where a judge has fixed its vote; the order, where a replica has its result
	EvVoted      Kind = "voted"      // Ref: the evidence; a judge has shown its vote
	EvRedrawn    Kind = "redrawn"    // Ref: the evidence; another draw of judges is due; of an Open replica, the order: another staker is
	EvUpheld     Kind = "upheld"     // Ref: the evidence; a stream goes on
	EvGivenUp    Kind = "given_up"   // Ref: the evidence; no judges found on it, and a stream goes on
	EvEnded      Kind = "ended"      // Ref: the child, if one follows
	EvPruned     Kind = "pruned"
)

// Kinds that the machine does not make: a ledger tells in the same form of money
// sent from account to account, and of payment channels that belong to no lease,
// where Buyer is the payer and Provider the receiver.
const (
	EvSent               Kind = "sent"
	EvChannelDeposited   Kind = "channel_deposited"
	EvChannelClaimed     Kind = "channel_claimed"
	EvChannelWithdrawing Kind = "channel_withdrawing"
	EvChannelWithdrawn   Kind = "channel_withdrawn"
	EvChannelRefunded    Kind = "channel_refunded"
)

// Event is one thing that happened, with all that an indexer needs to follow
// leases and money without reading state.
type Event struct {
	Kind     Kind           `json:"kind"`
	Time     int64          `json:"time"`
	By       square.Address `json:"by"`    // who asked for it; zero: the ledger itself
	Lease    square.Hash    `json:"lease"` // zero for stakes and offers
	Trade    string         `json:"trade"`
	Buyer    square.Address `json:"buyer"`
	Provider square.Address `json:"provider"`
	From     State          `json:"from,omitempty"`
	To       State          `json:"to,omitempty"`
	Reason   Reason         `json:"reason,omitempty"`
	Deadline int64          `json:"deadline,omitempty"`
	Paid     uint64         `json:"paid,string"` // of the lease, so far
	Ref      square.Hash    `json:"ref"`
	Moves    []Transfer     `json:"moves,omitempty"` // since the operation's previous event
}
