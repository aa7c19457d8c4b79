package openai

import (
	"bytes"
	"encoding/json"
	"math/big"
	"slices"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// maxNames bounds each list of providers in a routing object.
const maxNames = 64

// routing is OpenRouter's provider object. See the package doc for what of it
// is honoured.
type routing struct {
	Order           []string        `json:"order"`
	Only            []string        `json:"only"`
	Ignore          []string        `json:"ignore"`
	AllowFallbacks  *bool           `json:"allow_fallbacks"`
	Require         bool            `json:"require_parameters"`
	DataCollection  string          `json:"data_collection"`
	ZDR             bool            `json:"zdr"`
	Quantizations   []string        `json:"quantizations"`
	Sort            json.RawMessage `json:"sort"`
	MaxPrice        *maxPrice       `json:"max_price"`
	MinThroughput   json.RawMessage `json:"preferred_min_throughput"`
	MaxLatency      json.RawMessage `json:"preferred_max_latency"`
	EnforceDistText *bool           `json:"enforce_distillable_text"`
	Verification    string          `json:"verification"` // ours
}

type maxPrice struct {
	Prompt     json.RawMessage `json:"prompt"`
	Completion json.RawMessage `json:"completion"`
}

// route maps the object to what the buyer understands.
func (r *routing) route() (buyer.Route, error) {
	var out buyer.Route
	if r == nil {
		return out, nil
	}
	for _, l := range []struct {
		param string
		names []string
	}{{"provider.order", r.Order}, {"provider.only", r.Only}, {"provider.ignore", r.Ignore}} {
		if len(l.names) > maxNames {
			return out, invalid(l.param, "%s: at most %d providers", l.param, maxNames)
		}
		if slices.Contains(l.names, "") {
			return out, invalid(l.param, "%s: a provider's name is empty; write an address (torg1…) or a prefix of one", l.param)
		}
	}
	out.Order, out.Only, out.Ignore = r.Order, r.Only, r.Ignore
	out.NoFallbacks = r.AllowFallbacks != nil && !*r.AllowFallbacks
	switch r.DataCollection {
	case "", "allow":
	case "deny":
		return out, unsupported("provider.data_collection", "provider.data_collection: no provider can prove that it keeps nothing; send \"allow\" or leave it out")
	default:
		return out, invalid("provider.data_collection", "provider.data_collection: %q: want \"allow\" or \"deny\"", square.Clip(r.DataCollection, 80))
	}
	if r.ZDR {
		return out, unsupported("provider.zdr", "provider.zdr: no provider can prove zero data retention; leave it out")
	}
	if r.Require && len(r.Quantizations) > 0 {
		return out, unsupported("provider.quantizations", "provider.quantizations: offers name a model by its digest, not by a quantization; ask for the digest, or drop require_parameters")
	}
	if r.Require && r.EnforceDistText != nil && *r.EnforceDistText {
		return out, unsupported("provider.enforce_distillable_text", "provider.enforce_distillable_text: offers carry no such property; drop it or require_parameters")
	}
	switch p := square.Policy(r.Verification); p {
	case "", square.PolicyNone, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve:
		out.Policy = p
	case square.PolicyAttest:
		return out, unsupported("provider.verification", "provider.verification: %q is not sold yet; send \"prove\", \"replicate\", \"audit\" or \"none\"", p)
	default:
		return out, invalid("provider.verification", "provider.verification: %q: want \"prove\", \"replicate\", \"audit\" or \"none\"", square.Clip(r.Verification, 80))
	}
	var err error
	if out.Sort, err = r.sort(); err != nil {
		return out, err
	}
	if r.MaxPrice != nil {
		if out.MaxPrompt, err = perMillion("provider.max_price.prompt", r.MaxPrice.Prompt); err != nil {
			return out, err
		}
		if out.MaxCompletion, err = perMillion("provider.max_price.completion", r.MaxPrice.Completion); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (r *routing) sort() (string, error) {
	name := ""
	if given(r.Sort) {
		var by struct {
			By string `json:"by"`
		}
		if json.Unmarshal(r.Sort, &name) != nil {
			if json.Unmarshal(r.Sort, &by) != nil {
				return "", invalid("provider.sort", "provider.sort: want \"price\", \"throughput\" or \"latency\"")
			}
			name = by.By
		}
	}
	switch name {
	case "price", "throughput", "latency":
		return name, nil
	case "":
	default:
		return "", invalid("provider.sort", "provider.sort: %q: want \"price\", \"throughput\" or \"latency\"", square.Clip(name, 80))
	}
	switch {
	case given(r.MinThroughput):
		return "throughput", nil
	case given(r.MaxLatency):
		return "latency", nil
	}
	return "", nil
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

// perMillion reads TORG per million tokens, a number or a decimal string, as
// base units per million. It rounds down: a limit never grows. The buyer's 0 is
// no limit, so a limit of less than one base unit becomes one.
func perMillion(param string, raw json.RawMessage) (uint64, error) {
	if !given(raw) {
		return 0, nil
	}
	text := string(raw)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		text = s
	}
	want := func() (uint64, error) {
		return 0, invalid(param, "%s: %q: want TORG per million tokens, such as 0.5", param, square.Clip(text, 80))
	}
	if len(text) > 32 {
		return want()
	}
	exact, ok := new(big.Rat).SetString(text) // refuses exponents of more than six digits
	if !ok || exact.Sign() < 0 {
		return want()
	}
	exact.Mul(exact, big.NewRat(square.UnitsPerTorg, 1))
	n := new(big.Int).Quo(exact.Num(), exact.Denom())
	if !n.IsUint64() || n.Uint64() > square.MaxUnits {
		return want()
	}
	return max(n.Uint64(), 1), nil
}
