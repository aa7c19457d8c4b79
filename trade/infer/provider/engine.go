package provider

import (
	"context"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// Engine does the work of one model. An engine is safe for concurrent use up
// to the capacity it is offered with.
//
// An engine that refuses or fails before anything was delivered returns an
// error, and nothing is charged; an *wire.Refusal reaches the buyer as it
// is. Once output has been delivered a failure is an Output that says so
// (FinishError), and what was delivered is charged.
type Engine interface {
	Model() Model
	// Ceiling is the most units the request may be metered at, or why it is
	// refused. It does no work worth mentioning.
	Ceiling(infer.Request) ([]uint64, error)
	// Run does the work. emit delivers a piece; after an error from it, or when
	// ctx ends, Run stops within a token and returns what was made.
	Run(ctx context.Context, job Job, emit func(infer.Delta) error) (Output, error)
}

// Model is what an engine runs.
type Model struct {
	Name       string
	Subject    square.Hash // the model's digest, or infer.Subject of its name
	Exact      bool
	Context    uint64 // tokens; 0 when unknown
	Attributes []square.Attribute
}

// Job is one request to an engine.
type Job struct {
	Request  infer.Request
	Logprobs int
	Stream   bool
}

// Output is what an engine made.
type Output struct {
	Result infer.Result
	Units  []uint64
	Body   []byte // an upstream server's whole answer where it was not streamed
	// Counted says why the units, or one of them, are this provider's own count: the
	// server reported none, or none that can be.
	Counted string
	// Over says what the server gave or reported beyond what it was asked for. It
	// is not charged.
	Over string
}
