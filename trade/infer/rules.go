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

// Verifier checks proofs of exact work against a model's card. Package proof has
// one.
type Verifier interface {
	// CheckCard refuses what is no card, or one that no proof could be checked
	// against in a transaction.
	CheckCard(card []byte) error
	// Parts checks what needs no proof, says in how many parts the work can be
	// proven, and how many prompt tokens the request has. Work whose form alone
	// is wrong is trade.ErrProof, wrapped.
	Parts(card []byte, q Request, r Result) (parts int, prompt uint64, err error)
	// Gas bounds what Check will need.
	Gas(card []byte, q Request, r Result, part int, proof []byte) (uint64, error)
	// Check says whether the proof is of that part; if not, with trade.ErrProof,
	// wrapped.
	Check(card []byte, q Request, r Result, part int, proof []byte) error
}

// Rules are the trade's rules over the models that can be re-executed here, and
// those whose proofs can be checked here.
type Rules struct {
	Models   []Replayer
	Verifier Verifier // nil: none
}

var (
	_ trade.Provable = Rules{}
	_ trade.Panelled = Rules{}
)

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

// Fits wants an offer of exactly the order's model, and one that is for proofs where
// the order wants them.
func (Rules) Fits(f square.Offer, o square.Order) error {
	if o.Policy == square.PolicyReplicate && f.Attribute("infer.exact") != "true" {
		return fmt.Errorf("policy %q: two answers of %s cannot be compared, it is not an exact model", o.Policy, f.Subject)
	}
	if o.Policy == square.PolicyProve && !proven(f) {
		return fmt.Errorf("policy %q: the offer has no rates for it, and answers of %s are not proven there", o.Policy, f.Subject)
	}
	return trade.SameSpec(f, o)
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
func (r Rules) JudgeGas(e trade.Case) (uint64, error) {
	if e.Receipt.Subject != e.Lease.Order.Spec {
		return 0, nil // Judge need not run it
	}
	m := r.model(e.Receipt.Subject)
	if m == nil {
		return 0, fmt.Errorf("model %s: %w", e.Receipt.Subject.Short(), trade.ErrNotJudgeable)
	}
	if len(e.Request) > MaxPrompt || len(e.Result) > 2*MaxTokens+64 {
		return 0, errors.New("evidence: request or result is larger than any receipt's")
	}
	return m.Cost(len(e.Request), len(e.Result)/2+1) / MACsPerGas, nil
}

// Judge re-executes. What is not what the request gives, or was metered wrongly, is
// fraud.
func (r Rules) Judge(e trade.Case) (square.Verdict, error) {
	if e.Receipt.Subject != e.Lease.Order.Spec {
		return square.VerdictFraud, nil // another model's answer, signed for
	}
	m := r.model(e.Receipt.Subject)
	if m == nil {
		return "", fmt.Errorf("model %s: %w", e.Receipt.Subject.Short(), trade.ErrNotJudgeable)
	}
	req, res, err := open(e)
	if errors.Is(err, errNoResult) {
		return square.VerdictFraud, nil
	}
	if err != nil {
		return "", err
	}
	same, prompt, err := m.Replay(req, res)
	if err != nil {
		return "", fmt.Errorf("replay: %w", err)
	}
	if !same || !metered(e.Receipt, prompt, res) {
		return square.VerdictFraud, nil
	}
	return square.VerdictOK, nil
}

// errNoResult says that a provider has signed what is no result of the request.
var errNoResult = errors.New("the receipt is not for a result of the request")

// Panel lets judges decide on exact work, which whoever holds the model can do
// again, and on nothing else: what an upstream server answers is nobody's to judge.
func (r Rules) Panel(c trade.Case, detached bool) error {
	if detached {
		return fmt.Errorf("evidence without its bytes: %w; a request and its answer fit into a transaction", trade.ErrNotJudgeable)
	}
	if _, _, err := open(c); err != nil && !errors.Is(err, errNoResult) {
		return err
	}
	return nil
}

// open takes evidence apart, and refuses what is none.
func open(e trade.Case) (req Request, res Result, err error) {
	if req, err = DecodeRequest(e.Request); err != nil {
		// The buyer sent these bytes; a provider that signs for them has not
		// lied about an answer.
		return req, res, fmt.Errorf("evidence: %w", err)
	}
	if req.Kind == Opaque {
		return req, res, fmt.Errorf("an upstream server's answer: %w", trade.ErrNotJudgeable)
	}
	if res, err = DecodeResult(e.Result); err != nil || res.Kind != req.Kind {
		return req, res, errNoResult
	}
	return req, res, nil
}

// metered reports whether a receipt counts what there is.
func metered(r square.Receipt, prompt uint64, res Result) bool {
	return len(r.Units) == 2 && r.Units[0] == prompt && r.Units[1] == uint64(len(res.Tokens))
}

// CheckCard refuses a card that no proof could be checked against.
func (r Rules) CheckCard(card []byte) error {
	if r.Verifier == nil {
		return fmt.Errorf("card: %w", trade.ErrNotJudgeable)
	}
	return r.Verifier.CheckCard(card)
}

// Parts counts the windows of an exact completion, after what needs no proof was
// looked at: form, units, and whether the card is of the receipt's model.
func (r Rules) Parts(e trade.Case) (uint64, square.Verdict, error) {
	req, res, err := open(e)
	switch {
	case e.Receipt.Subject != e.Lease.Order.Spec:
		return 0, square.VerdictFraud, nil // another model's answer, signed for
	case errors.Is(err, errNoResult):
		return 0, square.VerdictFraud, nil
	case err != nil:
		return 0, "", err
	case r.Verifier == nil || req.Kind != Exact:
		return 0, "", fmt.Errorf("no proof can be asked for: %w", trade.ErrNotJudgeable)
	}
	n, prompt, err := r.Verifier.Parts(e.Card, req, res)
	switch {
	case errors.Is(err, trade.ErrProof):
		return 0, square.VerdictFraud, nil
	case err != nil:
		return 0, "", err
	case !metered(e.Receipt, prompt, res):
		return 0, square.VerdictFraud, nil
	}
	return uint64(n), "", nil
}

// provable opens evidence that Parts has counted.
func (r Rules) provable(e trade.Case, part uint64) (Request, Result, error) {
	req, res, err := open(e)
	if err == nil && (r.Verifier == nil || part > MaxTokens) {
		err = trade.ErrNotJudgeable
	}
	return req, res, err
}

// ProofGas bounds the gas of checking a proof of one window, by its header.
func (r Rules) ProofGas(e trade.Case, part uint64, proof []byte) (uint64, error) {
	req, res, err := r.provable(e, part)
	if err != nil {
		return 0, err
	}
	return r.Verifier.Gas(e.Card, req, res, int(part), proof)
}

// CheckProof checks a proof of one window.
func (r Rules) CheckProof(e trade.Case, part uint64, proof []byte) error {
	req, res, err := r.provable(e, part)
	if err != nil {
		return err
	}
	return r.Verifier.Check(e.Card, req, res, int(part), proof)
}
