// Package buyer buys inference over a desk, which holds the leases, pays, and keeps
// the receipts: it routes a request, talks to providers, falls back, and verifies
// answers. The gateway's doors stand on it.
package buyer

import (
	"context"
	"errors"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/wire"
)

// Model is one model some provider offers.
type Model struct {
	ID       string         `json:"id"`     // its name, as offered
	Digest   square.Hash    `json:"digest"` // the offer's spec
	Exact    bool           `json:"exact"`  // re-executable: answers can be audited
	Context  uint64         `json:"context_length"`
	Provider square.Address `json:"provider"`
	Offer    square.Hash    `json:"offer"`
	Rates    []square.Rate  `json:"rates"`            // under this buyer's own policy, if it is sold under it
	Proven   []square.Rate  `json:"proven,omitempty"` // of answers with a proof; none if there are none
	Denom    string         `json:"denom"`
	Free     uint64         `json:"free_lanes"`
	// What this buyer has seen of it lately; zero when it has not asked yet.
	TTFT       time.Duration `json:"ttft"`
	Throughput float64       `json:"tokens_per_second"`
	Failures   float64       `json:"failure_rate"` // 0..1
}

// Route narrows and orders the providers that may answer, in the words of
// OpenRouter's provider object.
type Route struct {
	Order       []string // provider addresses (or prefixes), tried first, in order
	Only        []string
	Ignore      []string
	NoFallbacks bool
	// MaxPrompt and MaxCompletion limit the rates, base units per million; 0 is
	// no limit.
	MaxPrompt, MaxCompletion uint64
	Sort                     string // "", "price", "throughput" or "latency"
	// Policy is how the answer is verified: none, audit, replicate or prove; empty as
	// the buyer's own leases say.
	Policy square.Policy
}

// Ask is one request with how to route it.
type Ask struct {
	Model    string // a model's ID, or its digest in hex
	Request  infer.Request
	Logprobs int
	Stream   bool
	Route    Route
	// MaxCost refuses the request before it is sent when it could cost more
	// base units than this (an API key's remaining budget). 0 is no limit.
	MaxCost uint64
	// Account names whom the answer is for (an API key's ID), so that its
	// receipt can be found among theirs: at most 64 bytes.
	Account string
}

// Answer is what came back, paid for. Cancelled and failed answers that were
// charged are answers too; Result.Finish tells.
type Answer struct {
	Provider square.Address
	Model    Model
	Lease    square.Hash
	Receipt  square.Hash // the receipt's digest: its id
	Signed   wire.Signed
	Result   infer.Result
	Cost     square.Amount
	TTFT     time.Duration
	// Verified is prove when a proof of the answer has been checked, replicate when
	// another provider gave the same, else empty: audits come later.
	Verified square.Policy
}

// Seller is what a gateway needs of this package.
type Seller interface {
	// Models lists what can be asked now.
	Models(ctx context.Context) ([]Model, error)
	// Do asks. emit is called for every piece, in order; an error from it or an
	// ended ctx stops the work and the paying, and Do still returns the Answer
	// with what was charged. On an error no money was spent, unless the error
	// is desk.ErrUnknown. Under the policy prove it returns once the proof has been
	// checked, or with desk.ErrUnproven, which is an ErrUnknown.
	Do(ctx context.Context, a Ask, emit func(infer.Delta) error) (Answer, error)
}

// ErrNoModel says that no provider offers a model. It is wrapped, like the
// failures of package desk, which are Do's as well.
var ErrNoModel = errors.New("no provider offers this model")
