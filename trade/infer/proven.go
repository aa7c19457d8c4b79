package infer

import (
	"strconv"

	"github.com/torg-network/torg/square"
)

// Proving costs several times what answering does, so that an offer has rates
// of its own for leases under the policy prove. They are attributes, one for
// each unit, in base units per million: "infer.proven.prompt_tokens" and
// "infer.proven.completion_tokens". An offer without them is not for proofs.
const provenPrefix = "infer.proven."

// ProvenAttributes are the attributes of an offer that is proven at these rates.
func ProvenAttributes(rates []square.Rate) (as []square.Attribute) {
	for _, r := range rates {
		as = append(as, square.Attribute{Key: provenPrefix + r.Unit, Value: strconv.FormatUint(r.PerMillion, 10)})
	}
	return as
}

// Terms are an offer's rates for a lease under a policy; nil if it is not for
// such leases.
func Terms(o square.Offer, p square.Policy) []square.Rate {
	if p != square.PolicyProve {
		return o.Rates
	}
	var rates []square.Rate
	for _, unit := range (Rules{}).Units() {
		n, err := strconv.ParseUint(o.Attribute(provenPrefix+unit), 10, 64)
		if err != nil || n > square.MaxUnits {
			return nil
		}
		rates = append(rates, square.Rate{Unit: unit, PerMillion: n})
	}
	return rates
}
