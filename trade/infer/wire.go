package infer

import (
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// The trade's own paths on the wire between a buyer (a gateway) and a provider,
// below wire.PathPrefix; package wire has those of every trade. The answer of serve is
// newline-delimited JSON frames.
//
//	POST infer/serve   ServeRequest   → Frame\n Frame\n … ending in a receipt or an error frame
//	POST infer/cancel  CancelRequest  → 204; the serve stream then ends with its receipt
//	POST infer/proof   ProofRequest   → the parts of a proof (package proof), each behind its length in four bytes, big-endian

// ServeRequest pays for and asks one piece of work on one lane.
type ServeRequest struct {
	wire.Payment
	Request  []byte `json:"request"` // canonical bytes
	Logprobs int    `json:"logprobs,omitempty"`
	Stream   bool   `json:"stream,omitempty"` // send each piece as it is made, not all at the end
}

// Frame is one line of an answer. Exactly one member is set.
type Frame struct {
	Start   *Start        `json:"start,omitempty"`   // first
	Delta   *Delta        `json:"delta,omitempty"`   // any number
	Receipt *wire.Signed  `json:"receipt,omitempty"` // last, when the work is charged
	Error   *wire.Refusal `json:"error,omitempty"`   // last, when nothing is charged
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
	// More says that the next piece is here already, so that this one may wait for
	// it and both go in one packet. It stays on this machine.
	More bool `json:"-"`
}

// Logprob is a chosen token's log probability and its rivals'.
type Logprob struct {
	Token   string    `json:"token"`
	Logprob float64   `json:"logprob"`
	Top     []Logprob `json:"top,omitempty"`
}

// CancelRequest stops a running piece of work.
type CancelRequest struct {
	Lease  square.Hash `json:"lease"`
	Lane   uint16      `json:"lane"`
	Cancel string      `json:"cancel"`
}

// ProofRequest asks for the proof of a lane's last answer, in a lease under the
// policy prove, by the bytes of its request.
type ProofRequest struct {
	Lease   square.Hash `json:"lease"`
	Lane    uint16      `json:"lane"`
	Seq     uint64      `json:"seq"`
	Request []byte      `json:"request"` // canonical bytes
}
