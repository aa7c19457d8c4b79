package infer

import "github.com/torg-network/torg/square"

// The wire between a buyer (a gateway) and a provider: HTTP, JSON bodies, the
// answer as newline-delimited JSON frames. Every path is below PathPrefix.
//
//	GET  offers                 → OffersReply
//	POST quote   QuoteRequest   → QuoteReply
//	POST serve   ServeRequest   → Frame\n Frame\n … ending in a receipt or an error frame
//	POST cancel  CancelRequest  → 204; the serve stream then ends with its receipt
//	POST lane    LaneRequest    → LaneReply: what the provider last signed on a lane
//	POST proof   ProofRequest   → the parts of a proof (package proof), each behind its length in four bytes, big-endian
//	POST close   CloseRequest   → CloseReply: the provider's consent to a final sum
//
// Every POST carries a signed [Call] and says Content-Type: application/json;
// lease and lane in its body are the call's. Who asks is checked before the body
// is read, and the body's digest before it is looked at. This is no wire for
// browsers: a request with an Origin, or for a host name that is not the
// provider's, is refused. A failed call is a WireError with the HTTP status that
// fits it.
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
}

// QuoteReply is a signed quote.
type QuoteReply struct {
	Quote square.Quote     `json:"quote"`
	Sig   square.Signature `json:"signature"`
}

// ServeRequest pays for and asks one piece of work on one lane. The voucher's
// maximum is the lane's charged sum plus the most this request may cost. The
// same voucher with the same request, presented again, gets the same answer
// and is charged once.
type ServeRequest struct {
	Lease    square.Hash    `json:"lease"`
	Lane     uint16         `json:"lane"`
	Seq      uint64         `json:"seq"` // of the receipt this will become
	Voucher  square.Voucher `json:"voucher"`
	Request  []byte         `json:"request"` // canonical bytes
	Logprobs int            `json:"logprobs,omitempty"`
	Stream   bool           `json:"stream,omitempty"` // send each piece as it is made, not all at the end
}

// Frame is one line of an answer. Exactly one member is set.
type Frame struct {
	Start   *Start     `json:"start,omitempty"`   // first
	Delta   *Delta     `json:"delta,omitempty"`   // any number
	Receipt *Signed    `json:"receipt,omitempty"` // last, when the work is charged
	Error   *WireError `json:"error,omitempty"`   // last, when nothing is charged
}

// Start says that work began. Cancel is the secret that stops it.
type Start struct {
	Cancel string `json:"cancel"`
}

// Delta is a piece of the answer as it is made.
type Delta struct {
	Text     string    `json:"text,omitempty"`
	Tokens   int       `json:"tokens,omitempty"`
	Logprobs []Logprob `json:"logprobs,omitempty"` // one per token where asked for
	// Raw is one streamed event of an upstream server, verbatim JSON (opaque
	// requests): the gateway passes it on under its own id.
	Raw []byte `json:"raw,omitempty"`
	// Event is Raw once it has been read, so that it is read once here. It stays
	// on this machine.
	Event *Event `json:"-"`
}

// Logprob is a chosen token's log probability and its rivals'.
type Logprob struct {
	Token   string    `json:"token"`
	Logprob float64   `json:"logprob"`
	Top     []Logprob `json:"top,omitempty"`
}

// Signed is a receipt with its signature and the canonical result.
type Signed struct {
	Receipt square.Receipt   `json:"receipt"`
	Sig     square.Signature `json:"signature"`
	Result  []byte           `json:"result"`
	// Body is an upstream server's whole answer where it was not streamed.
	Body []byte `json:"body,omitempty"`
}

// CancelRequest stops a running piece of work.
type CancelRequest struct {
	Lease  square.Hash `json:"lease"`
	Lane   uint16      `json:"lane"`
	Cancel string      `json:"cancel"`
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

// ProofRequest asks for the proof of a lane's last answer, in a lease under the
// policy prove, by the bytes of its request.
type ProofRequest struct {
	Lease   square.Hash `json:"lease"`
	Lane    uint16      `json:"lane"`
	Seq     uint64      `json:"seq"`
	Request []byte      `json:"request"` // canonical bytes
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

// WireError is a refusal in words, with a code a program can switch on.
type WireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *WireError) Error() string { return e.Message + " (" + e.Code + ")" }

// Codes of WireError.
const (
	CodeBadRequest  = "bad_request" // malformed; nothing was charged
	CodeCaller      = "caller"      // not signed, or not by who may ask this
	CodeClock       = "clock"       // the call's time is not the ledger's
	CodeTerms       = "terms"       // an order that this provider does not take: the message names the field and the way out
	CodePayment     = "payment"     // voucher missing, too low, forged, or above the escrow
	CodeStale       = "stale"       // the lane moved on: ask for its state
	CodeBusy        = "busy"        // the lane or the provider is at capacity
	CodeUnknown     = "unknown"     // no such lease, lane, offer or model
	CodeClosed      = "closed"      // the lease has ended or is ending
	CodePaused      = "paused"      // its owner has paused the provider; nothing was charged
	CodeUnavailable = "unavailable" // the engine, the disk or the ledger failed; nothing was charged
)
