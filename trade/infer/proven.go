package infer

import (
	"slices"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// proven reports whether an offer sells proofs. Proving costs several times what
// answering does, so that an offer has rates of its own for it, or is not for leases
// under the policy prove.
func proven(o square.Offer) bool {
	return slices.ContainsFunc(o.Rates, func(r square.Rate) bool { return r.Policy == square.PolicyProve })
}

// Terms are an offer's rates for a lease under a policy; nil if it is not for
// such leases.
func Terms(o square.Offer, p square.Policy) []square.Rate {
	if p == square.PolicyProve && !proven(o) {
		return nil
	}
	return trade.RatesFor(o.Rates, p)
}
