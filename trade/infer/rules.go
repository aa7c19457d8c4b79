package infer

import (
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Replayer re-executes exact work on one model. The exact engine's models are
// replayers; the ledger holds those whose weights it has.
type Replayer interface {
	// Subject is the model's digest.
	Subject() square.Hash
	// Cost bounds the multiply-accumulates of replaying so many prompt bytes
	// and completion tokens.
	Cost(prompt, completion int) uint64
	// Replay says whether the result is exactly what the request gives. The
	// tokens of a cancelled result must be a prefix. prompt is how many prompt
	// tokens the request has.
	Replay(Request, Result) (same bool, prompt uint64, err error)
}

// Rules are the trade's rules over the models that can be re-executed here.
type Rules struct {
	Models []Replayer
}

var _ trade.Rules = Rules{}

// MACsPerGas is how many multiply-accumulates one unit of gas buys. A million
// gas is then about a hundredth of a CPU-second.
const MACsPerGas = 20

// Name is "infer".
func (Rules) Name() string { return Name }

// Units are prompt and completion tokens.
func (Rules) Units() []string { return []string{UnitPrompt, UnitCompletion} }

// CheckOffer refuses an offer with no subject or with other units.
func (r Rules) CheckOffer(o square.Offer) error {
	if o.Subject == "" || o.Spec.IsZero() {
		return errors.New("infer offer: subject (the model's name) and spec (its digest) are required")
	}
	return trade.CheckRates(r, o.Rates)
}

// CheckOrder refuses an order that is not a stream or has other units.
func (r Rules) CheckOrder(o square.Order) error {
	if o.Mode != square.ModeStream {
		return fmt.Errorf("infer order: mode %q: inference is sold as a stream", o.Mode)
	}
	if o.Spec.IsZero() {
		return errors.New("infer order: spec (the model's digest) is required")
	}
	return trade.CheckRates(r, o.MaxRates)
}

func (r Rules) model(subject square.Hash) Replayer {
	for _, m := range r.Models {
		if m.Subject() == subject {
			return m
		}
	}
	return nil
}

// JudgeGas bounds the re-execution by the sizes of request and result. The
// result's token count is read from its length, so nothing is decoded.
func (r Rules) JudgeGas(e square.Evidence) (uint64, error) {
	m := r.model(e.Receipt.Subject)
	if m == nil {
		return 0, fmt.Errorf("model %s: %w", e.Receipt.Subject.Short(), trade.ErrNotJudgeable)
	}
	if len(e.Request) > MaxPrompt || len(e.Result) > 2*MaxTokens+64 {
		return 0, errors.New("evidence: request or result is larger than any receipt's")
	}
	return m.Cost(len(e.Request), len(e.Result)/2+1) / MACsPerGas, nil
}

// Judge re-executes. Bytes that do not match the digests in the receipt are not
// evidence and fail; bytes that match but are not what the request gives, or
// that were metered wrongly, are fraud.
func (r Rules) Judge(e square.Evidence) (square.Verdict, error) {
	m := r.model(e.Receipt.Subject)
	if m == nil {
		return "", fmt.Errorf("model %s: %w", e.Receipt.Subject.Short(), trade.ErrNotJudgeable)
	}
	if hash(e.Request) != e.Receipt.Request {
		return "", errors.New("evidence: the request is not the one the receipt names")
	}
	if hash(e.Result) != e.Receipt.Result {
		return "", errors.New("evidence: the result is not the one the receipt names")
	}
	req, err := DecodeRequest(e.Request)
	if err != nil {
		// The buyer sent these bytes; a provider that signs for them has not
		// lied about an answer.
		return "", fmt.Errorf("evidence: %w", err)
	}
	if req.Kind == Opaque {
		return "", fmt.Errorf("an upstream server's answer: %w", trade.ErrNotJudgeable)
	}
	res, err := DecodeResult(e.Result)
	if err != nil || res.Kind != req.Kind {
		return square.VerdictFraud, nil // signed by the provider, and no result at all
	}
	same, prompt, err := m.Replay(req, res)
	if err != nil {
		return "", fmt.Errorf("replay: %w", err)
	}
	units := e.Receipt.Units
	if !same || len(units) != 2 || units[0] != prompt || units[1] != uint64(len(res.Tokens)) {
		return square.VerdictFraud, nil
	}
	return square.VerdictOK, nil
}
