package proof

import (
	"fmt"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
)

// Verifier checks proofs of single windows against card files, for the ledger.
type Verifier struct{}

var _ infer.Verifier = Verifier{}

// MaxLedgerCard bounds a card file that a ledger keeps.
const MaxLedgerCard = 64 << 10

// A unit of gas is about ten nanoseconds of one core.
const (
	gasPerMicrosecond = 100
	gasPerToken       = 2500 // the sampling rule: 256 logits are weighed, some sorted
	gasPerCardByte    = 10   // to read it
)

// CheckCard refuses a card file that is too large for a ledger, and a model one
// of whose windows has no sound proof.
func (Verifier) CheckCard(card []byte) error {
	if len(card) > MaxLedgerCard {
		return fmt.Errorf("card file: %d bytes: a ledger keeps at most %d", len(card), MaxLedgerCard)
	}
	m, err := DecodeModel(card)
	if err != nil {
		return err
	}
	b, err := m.Card.Budget(1, m.Card.Rows())
	if err != nil {
		return fmt.Errorf("card file: %w", err)
	}
	return b.Check()
}

// Parts counts windows.
func (Verifier) Parts(card []byte, q infer.Request, r infer.Result) (int, uint64, error) {
	m, err := DecodeModel(card)
	if err != nil {
		return 0, 0, err
	}
	n, err := m.Parts(q, r)
	return n, replay.PromptTokens(q, uint64(m.Card.Rows())), err
}

// Gas is the cost of the proof as its header tells it, and of sampling.
func (Verifier) Gas(card []byte, q infer.Request, r infer.Result, part int, proof []byte) (uint64, error) {
	m, err := DecodeModel(card)
	if err != nil {
		return 0, err
	}
	cost, said, err := m.Price(q, r, part, 1, proof)
	if err != nil {
		return 0, err
	}
	return cost.Gas()*gasPerMicrosecond + uint64(said)*gasPerToken + uint64(len(card))*gasPerCardByte, nil
}

// Check checks a proof of one window.
func (Verifier) Check(card []byte, q infer.Request, r infer.Result, part int, proof []byte) error {
	m, err := DecodeModel(card)
	if err != nil {
		return err
	}
	return m.Check(q, r, part, 1, proof)
}
