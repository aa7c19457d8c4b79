// Package wire is what a buyer and a provider of any trade say to each other,
// besides the work itself: offers, quotes, lanes, ends, and who asks.
//
// It is HTTP with JSON bodies. Every path is below [PathPrefix]; a trade adds its
// own below PathPrefix + its name + "/".
//
//	GET  offers                → OffersReply
//	POST quote  QuoteRequest   → QuoteReply
//	POST lane   LaneRequest    → LaneReply: what the provider last signed on a lane
//	POST close  CloseRequest   → CloseReply: the provider's consent to a final sum
//	POST job    JobRequest     → 204: the provider has the job of a result lease, which came with the quote
//	POST result ResultRequest  → ResultReply: what came of it
//
// Every POST carries a signed [Call] and says Content-Type: application/json;
// lease and lane in its body are the call's. Who asks is checked before the body
// is read, and the body's digest before it is looked at. This is no wire for
// browsers: a request with an Origin, or for a host name that is not the
// provider's, is refused. A failed call is a [Refusal] with the HTTP status that
// fits it.
package wire

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// PathPrefix is what every path of the wire begins with.
const PathPrefix = "/torg/v1/"

// MaxBody bounds every request body on this wire, in bytes.
const MaxBody = 4 << 20

// OffersReply lists what the provider sells now.
type OffersReply struct {
	Provider square.Address `json:"provider"`
	Offers   []square.Offer `json:"offers"`
}

// QuoteRequest asks for a quote on an order, whose digest is the call's lease.
// The order's buyer signs the call.
type QuoteRequest struct {
	Order square.Order `json:"order"`
	Offer square.Hash  `json:"offer"`
	// Nth is, of a replicated order, the replica that the quote is to be for: it
	// then names market.ReplicaID(order, Nth) in the order's place.
	Nth uint64 `json:"nth,omitempty"`
	// Job is, of an order for a result, the bytes whose SHA-256 the order names: at
	// most MaxJob. A provider binds itself to no job that it has not seen.
	Job []byte `json:"job,omitempty"`
}

// QuoteReply is a signed quote.
type QuoteReply struct {
	Quote square.Quote     `json:"quote"`
	Sig   square.Signature `json:"signature"`
}

// Payment pays for one piece of work on one lane. The voucher's maximum is the
// lane's charged sum plus the most this piece may cost. The same voucher with the
// same request, presented again, gets the same answer and is charged once.
type Payment struct {
	Lease   square.Hash    `json:"lease"`
	Lane    uint16         `json:"lane"`
	Seq     uint64         `json:"seq"` // of the receipt this will become
	Voucher square.Voucher `json:"voucher"`
}

// Signed is a receipt with its signature and the canonical result.
type Signed struct {
	Receipt square.Receipt   `json:"receipt"`
	Sig     square.Signature `json:"signature"`
	Result  []byte           `json:"result"`
	// Body is what was delivered where that is more than the result's bytes say
	// and did not stream before: a server's whole answer.
	Body []byte `json:"body,omitempty"`
}

// LaneRequest asks how a lane stands.
type LaneRequest struct {
	Lease square.Hash `json:"lease"`
	Lane  uint16      `json:"lane"`
}

// LaneReply is a lane as the provider knows it. Last is nil on a fresh lane.
type LaneReply struct {
	Charged uint64  `json:"charged,string"`
	Max     uint64  `json:"max,string"` // of the highest voucher it holds
	Seq     uint64  `json:"seq"`
	Busy    bool    `json:"busy"`
	Last    *Signed `json:"last,omitempty"`
}

// CloseRequest asks the provider to agree that the lease ends with Paid in all.
type CloseRequest struct {
	Lease square.Hash `json:"lease"`
	Paid  uint64      `json:"paid,string"`
}

// CloseReply is the provider's consent. After it the lease serves no more.
type CloseReply struct {
	Sig square.Signature `json:"signature"`
}

// MaxJob bounds the bytes of a job, and of a result, on this wire.
const MaxJob = MaxBody/4*3 - 1<<10

// JobRequest hands over the job of a result lease: the bytes whose SHA-256 its
// order names. The same again changes nothing.
type JobRequest struct {
	Lease square.Hash `json:"lease"`
	Job   []byte      `json:"job"`
}

// ResultRequest asks for the result of a lease's job. A replica's is handed over
// once the order's results were compared.
type ResultRequest struct {
	Lease square.Hash `json:"lease"`
}

// ResultReply has the result, or says that it is not to be had yet.
type ResultReply struct {
	Signed *Signed `json:"signed,omitempty"`
	Busy   bool    `json:"busy,omitempty"`
}

// Refusal is a no in words, with a code a program can switch on.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Refusal) Error() string { return e.Message + " (" + e.Code + ")" }

// Codes of Refusal.
const (
	CodeBadRequest  = "bad_request" // malformed; nothing was charged
	CodeCaller      = "caller"      // not signed, or not by who may ask this
	CodeClock       = "clock"       // the call's time is not the ledger's
	CodeTerms       = "terms"       // an order that this provider does not take: the message names the field and the way out
	CodePayment     = "payment"     // voucher missing, too low, forged, or above the escrow
	CodeStale       = "stale"       // the lane moved on: ask for its state
	CodeBusy        = "busy"        // the lane or the provider is at capacity
	CodeUnknown     = "unknown"     // no such lease, lane, offer or spec
	CodeClosed      = "closed"      // the lease has ended or is ending
	CodePaused      = "paused"      // its owner has paused the provider; nothing was charged
	CodeUnavailable = "unavailable" // the engine, the disk or the ledger failed; nothing was charged
)

// Refuse makes a refusal.
func Refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
