// Package trade says what every kind of work on the square has in common. A
// trade is a folder: its rules (this interface; pure, deterministic, light
// imports, safe to run inside consensus) live in trade/<name>, the heavier
// halves that serve it and buy it in trade/<name>/provider and
// trade/<name>/buyer.
package trade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
)

// Rules is what the ledger knows of a trade.
type Rules interface {
	// Name is the trade's name in orders and offers.
	Name() string
	// Units names what the trade meters, in the order of rates and receipts.
	Units() []string
	// CheckOffer and CheckOrder refuse what the trade could not serve or judge.
	CheckOffer(square.Offer) error
	CheckOrder(square.Order) error
	// JudgeGas bounds the gas Judge will need for the evidence, from its header
	// alone, before any work. It returns ErrNotJudgeable for work that the
	// ledger cannot re-execute.
	JudgeGas(square.Evidence) (uint64, error)
	// Judge decides by re-execution whether the work is what its receipt says.
	// The caller has verified the receipt's signature and lease.
	Judge(square.Evidence) (square.Verdict, error)
}

// Provable are rules whose work a provider can prove, so that the ledger can
// check it without doing it. A card is what checking needs to know of the work of
// one spec; work is proven in parts, numbered from 0. The caller has verified the
// evidence's receipt.
type Provable interface {
	Rules
	// CheckCard refuses a card that no proof could be checked against.
	CheckCard(card []byte) error
	// Parts finds on what needs no proof: a verdict of fraud for work whose form
	// alone is wrong, else how many parts the work has. It returns
	// ErrNotJudgeable for work that cannot be proven.
	Parts(card []byte, e square.Evidence) (parts uint64, v square.Verdict, err error)
	// ProofGas bounds the gas CheckProof will need, from the proof's header,
	// before any work.
	ProofGas(card []byte, e square.Evidence, part uint64, proof []byte) (uint64, error)
	// CheckProof says whether the proof shows that the part of the work is what
	// its receipt says. A proof that does not is ErrProof, wrapped.
	CheckProof(card []byte, e square.Evidence, part uint64, proof []byte) error
}

// ErrProof says that a proof does not prove what it should.
var ErrProof = errors.New("the proof does not hold")

// MaxJudgeGas is how much the ledger re-executes, half of a block, if it could
// have the work proven instead.
const MaxJudgeGas = 50_000_000

// ErrNotJudgeable says that the ledger cannot decide this evidence by itself;
// it goes to a committee.
var ErrNotJudgeable = errors.New("the ledger cannot re-execute this work")

// CheckRates refuses rates whose units are not the trade's, in its order.
func CheckRates(r Rules, rates []square.Rate) error {
	names := make([]string, len(rates))
	for i := range rates {
		names[i] = rates[i].Unit
	}
	if !slices.Equal(names, r.Units()) {
		return fmt.Errorf("rates: trade %s meters %v, not %v", r.Name(), r.Units(), names)
	}
	return nil
}

// Charged checks a receipt's arithmetic against the lease's rates: a provider
// that signs a price its own units do not give has committed provable fraud.
func Charged(rates []square.Rate, r square.Receipt) error {
	want, err := square.Price(rates, r.Units)
	if err != nil {
		return fmt.Errorf("receipt units: %w", err)
	}
	if r.Price != want {
		return fmt.Errorf("receipt price: %d charged, the units cost %d", r.Price, want)
	}
	if r.Cumulative < r.Price {
		return fmt.Errorf("receipt cumulative: %d is below its own price %d", r.Cumulative, r.Price)
	}
	return nil
}
