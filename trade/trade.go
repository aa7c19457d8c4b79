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

	"github.com/torg-network/torg/market"
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
	// Fits says why an order may not be filled from an offer; nil if it may.
	Fits(square.Offer, square.Order) error
	// JudgeGas bounds the gas Judge will need, from the sizes of the evidence
	// alone, before any work. It returns ErrNotJudgeable for work that the
	// ledger cannot re-execute.
	JudgeGas(Case) (uint64, error)
	// Judge decides by re-execution whether the work is what its receipt says.
	Judge(Case) (square.Verdict, error)
}

// Case is what there is to judge by. Its caller has verified that the lease's
// provider signed the evidence's receipt, and that its request and result are the
// bytes that the receipt names.
type Case struct {
	square.Evidence
	// Lease is the lease that the work was done in: its order, its parties, when it
	// was claimed and challenged.
	Lease market.Lease
	// Card is the card that the order names; nil if it names none.
	Card []byte
	// Beacon is randomness from after the challenge, by which judges may draw
	// samples; zero where the ledger judges at once.
	Beacon square.Hash
}

// Panelled are rules of a trade whose work people or machines judge that the ledger
// is not: the judges that are drawn from its stakers.
type Panelled interface {
	Rules
	// Panel says why no judge could decide a case either, with ErrNotJudgeable,
	// wrapped. Where the evidence is detached, its bytes are missing.
	Panel(c Case, detached bool) error
}

// Answerable are rules of a trade that takes something smaller than the result as
// an answer to the word that it was withheld, an opening of it for example.
type Answerable interface {
	Rules
	// AnswerGas bounds the gas of CheckAnswer, before any work.
	AnswerGas(c Case, answer []byte) (uint64, error)
	// CheckAnswer refuses what does not show that the provider has the result of
	// the case's receipt.
	CheckAnswer(c Case, answer []byte) error
}

// Provable are rules whose work a provider can prove, so that the ledger can
// check it without doing it. A card is what checking needs to know of the work of
// one spec; an order names its card by SHA-256, so that both sides have agreed on
// it. Work is proven in parts, numbered from 0.
type Provable interface {
	Rules
	// CheckCard refuses a card that no proof could be checked against.
	CheckCard(card []byte) error
	// Parts finds on what needs no proof: a verdict of fraud for work whose form
	// alone is wrong, else how many parts the work has. It returns
	// ErrNotJudgeable for work that cannot be proven.
	Parts(Case) (parts uint64, v square.Verdict, err error)
	// ProofGas bounds the gas CheckProof will need, from the proof's header,
	// before any work.
	ProofGas(c Case, part uint64, proof []byte) (uint64, error)
	// CheckProof says whether the proof shows that the part of the work is what
	// its receipt says. A proof that does not is ErrProof, wrapped.
	CheckProof(c Case, part uint64, proof []byte) error
}

// SameSpec is Fits for trades whose offers and orders name the same spec.
func SameSpec(f square.Offer, o square.Order) error {
	if f.Spec != o.Spec {
		return fmt.Errorf("the offer is for spec %s, the order for %s", f.Spec.Short(), o.Spec.Short())
	}
	return nil
}

// ErrProof says that a proof does not prove what it should.
var ErrProof = errors.New("the proof does not hold")

// MaxJudgeGas is how much the ledger re-executes, half of a block, if it could
// have the work proven instead.
const MaxJudgeGas = 50_000_000

// ErrNotJudgeable says that the ledger cannot decide this evidence by itself;
// it is for judges, where the trade has any.
var ErrNotJudgeable = errors.New("the ledger cannot re-execute this work")

// CheckRates refuses rates whose units are not the trade's, in its order: first those
// of all policies, then, of an offer, those of each policy that has its own.
func CheckRates(r Rules, rates []square.Rate) error {
	units := r.Units()
	seen := map[square.Policy]bool{}
	for i := 0; i < len(rates) || i == 0; i += len(units) {
		group := rates[min(i, len(rates)):min(i+len(units), len(rates))]
		names := make([]string, len(group))
		for i := range group {
			names[i] = group[i].Unit
		}
		switch {
		case !slices.Equal(names, units):
			return fmt.Errorf("rates: trade %s meters %v, not %v", r.Name(), units, names)
		case (i == 0) != (group[0].Policy == ""):
			return fmt.Errorf("rates: %s under policy %q: first the rates without a policy, then those of each that has its own", group[0].Unit, group[0].Policy)
		case seen[group[0].Policy]:
			return fmt.Errorf("rates: policy %q has two", group[0].Policy)
		}
		for _, x := range group {
			if x.Policy != group[0].Policy {
				return fmt.Errorf("rates: %s under policy %q stands among those of %q", x.Unit, x.Policy, group[0].Policy)
			}
		}
		seen[group[0].Policy] = true
	}
	return nil
}

// RatesFor are the rates of an offer in an order's policy: its own, or those that have
// none. They name no policy, as an order's and a quote's.
func RatesFor(offered []square.Rate, p square.Policy) []square.Rate {
	var own, plain []square.Rate
	for _, r := range offered {
		switch r.Policy {
		case "":
			plain = append(plain, r)
		case p:
			r.Policy = ""
			own = append(own, r)
		}
	}
	if own != nil {
		return own
	}
	return plain
}

// Under are rates that an offer asks under a policy.
func Under(p square.Policy, rates []square.Rate) []square.Rate {
	out := slices.Clone(rates)
	for i := range out {
		out[i].Policy = p
	}
	return out
}

// Metered is how much of a unit a receipt meters.
type Metered struct {
	Unit  string `json:"unit"`
	Count uint64 `json:"count,string"`
}

// Meter names the units of a receipt by the rates that they are charged at; there are
// as many of both.
func Meter(rates []square.Rate, units []uint64) []Metered {
	out := make([]Metered, len(units))
	for i, n := range units {
		out[i] = Metered{rates[i].Unit, n}
	}
	return out
}
