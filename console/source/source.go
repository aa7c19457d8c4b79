// Package source is where the console's pages have their facts from: small
// interfaces over plain structs, so that the console builds and is tested
// without a ledger. cmd/torg fits the real square to them; package
// console/consoletest has one in memory.
package source

import (
	"context"
	"errors"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// ErrNotFound is wrapped where the square has no such thing, or has forgotten
// it.
var ErrNotFound = errors.New("not found")

// Head is the ledger's newest block.
type Head struct {
	Height int64
	Time   time.Time
	Hash   square.Hash
}

// Event is something that happened on the square.
type Event struct {
	market.Event
	Height int64
	Tx     square.Hash // zero: the ledger itself, at the end of a block
}

// News reports whether an event is worth telling. Offers are renewed every few
// minutes and ended leases forgotten: that is none.
func (e Event) News() bool {
	return e.Kind != market.EvOffered && e.Kind != market.EvPruned && e.Kind != market.EvDropped
}

// Lease is a lease and how it would end if everyone fell silent now.
type Lease struct {
	market.Lease
	Then       market.State
	Why        market.Reason
	At         int64
	ToBuyer    uint64
	ToProvider uint64
}

// Stake is a provider's stake in a trade.
type Stake struct {
	market.StakeKey
	market.Stake
}

// Channel is a standalone payment channel.
type Channel struct {
	ID         square.Hash
	Config     square.ChannelConfig
	Denom      string
	Deposit    uint64 // in all, less what was withdrawn
	Claimed    uint64
	Withdraw   uint64 // on its way out; 0 with a time: all
	WithdrawAt int64  // 0: nothing is
}

// LeaseFilter chooses leases; a zero field chooses all.
type LeaseFilter struct {
	Buyer, Provider square.Address
	Trade           string
	State           market.State
}

// OfferFilter chooses offers; a zero field chooses all.
type OfferFilter struct {
	Provider square.Address
	Trade    string
	Spec     square.Hash
	All      bool // expired and withdrawn ones too
}

// Page is where a list goes on. The zero Page is its beginning.
type Page struct {
	Limit uint64 // at most 1000; 0: 100
	After string // the next of the answer before; empty: from the beginning
}

// Ledger is what pages ask of the ledger. Each call may cost milliseconds: a
// page makes a fixed, small number of them, whatever it shows.
type Ledger interface {
	ChainID() string
	Head(ctx context.Context) (Head, error)
	Balance(ctx context.Context, a square.Address, denom string) (square.Amount, error)
	Params(ctx context.Context) (market.Params, error)
	Lease(ctx context.Context, id square.Hash) (Lease, error)
	Leases(ctx context.Context, f LeaseFilter, p Page) (leases []Lease, next string, err error)
	Offers(ctx context.Context, f OfferFilter, p Page) (offers []market.Offer, next string, err error)
	Stakes(ctx context.Context, provider square.Address, trade string, p Page) (stakes []Stake, next string, err error)
	Channels(ctx context.Context, payer, receiver square.Address, p Page) (channels []Channel, next string, err error)
	// Watch delivers what happens from now on; the channel closes with ctx. A
	// reader that falls behind misses some.
	Watch(ctx context.Context) <-chan Event
}

// History tells what happened, in order to a lease and newest first to an
// account, also long after the ledger has forgotten.
type History interface {
	Lease(id square.Hash, limit int) ([]Event, error)
	Account(a square.Address, limit int) ([]Event, error)
}

// Desk is what this machine's buyer knows.
type Desk interface {
	// Seats are the goods of all trades that this desk buys, and what it has seen of
	// them.
	Seats(ctx context.Context) ([]desk.Seat, error)
	// Receipts lists at most n that a filter chooses, the newest before a time first
	// (zero: now), without their request and result. next is the time before which to
	// look on; zero at the end.
	Receipts(ctx context.Context, f desk.Filter, before time.Time, n int) (rs []desk.Record, next time.Time, err error)
	Receipt(ctx context.Context, id square.Hash) (desk.Record, error)
	Audit(ctx context.Context, id square.Hash) (desk.Audit, error)
	CloseLease(ctx context.Context, id square.Hash) error
	// Standing is what each lease of this machine's wallet owes by vouchers.
	Standing() map[square.Hash]desk.Standing
	// Again reports whether the work of a receipt can be done again here.
	Again(desk.Record) bool
	// Words opens a receipt's evidence; an error says why it cannot be read.
	Words(desk.Record) (Words, error)
}

// Words are a request for work and its result as their trade has people read them.
type Words struct {
	Kind    string `json:"kind"` // of the request: "exact completion"
	Request string `json:"request"`
	Result  string `json:"result"`
	Finish  string `json:"finish,omitempty"` // why it ended; empty if it always ends so
	How     string `json:"how,omitempty"`    // what else was asked of it; empty if nothing
}

// Keys are the API keys; *keys.Store is one.
type Keys interface {
	Check(secret string) (keys.Key, error)
	List(text, after string, n int) (ks []keys.Key, next string)
	Get(id string) (keys.Key, error)
	Create(keys.Grant) (secret string, k keys.Key, err error)
	Revoke(id string) (keys.Key, error)
	SetBudget(id string, budget *uint64) (keys.Key, error)
}

// Tx is a transaction that a block has executed.
type Tx struct {
	Hash   square.Hash
	Height int64
}

// Draft is a transfer that a Cosmos wallet is to sign.
type Draft struct {
	Body, Auth []byte // TxBody and AuthInfo of SIGN_MODE_DIRECT
	Number     uint64 // of the account
	Until      time.Time
}

// Bank moves money.
type Bank interface {
	// Send pays out of this machine's own wallet.
	Send(ctx context.Context, to square.Address, amount square.Amount) (Tx, error)
	// Carry brings a deposit that its owner signed in a browser to the ledger,
	// and at once pays it on to the channel's receiver. The channel is one whose
	// authorizers are both the wallet's own, Carrier.
	Carry(ctx context.Context, c square.ChannelConfig, d square.Deposit, sig square.Signature) (Tx, error)
	Carrier() square.Address
	// DraftSend drafts a transfer out of the account of a public key, 33 bytes;
	// SubmitDraft sends it with the account's signature, 64 bytes.
	DraftSend(ctx context.Context, pub []byte, to square.Address, amount square.Amount) (Draft, error)
	SubmitDraft(ctx context.Context, d Draft, sig []byte) (Tx, error)
}

// Provider is what this machine sells; *seller.Seller is one.
type Provider interface {
	Report() seller.Report
	// Ran lists what ran here, newest first, at most n.
	Ran(n int) []seller.Ran
	SetControl(seller.Control) error
}
