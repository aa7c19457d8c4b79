package openai

import (
	"math/big"
	"net/http"
	"slices"
	"strings"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// model is a model as the API lists it: OpenAI's four fields, OpenRouter's
// context_length and pricing, and ours.
type model struct {
	ID        string     `json:"id"`
	Object    string     `json:"object"`
	Created   int64      `json:"created"`
	OwnedBy   string     `json:"owned_by"`
	Context   uint64     `json:"context_length,omitempty"`
	Pricing   *pricing   `json:"pricing,omitempty"` // the cheapest offer in TORG
	Exact     bool       `json:"exact"`
	Digest    string     `json:"digest"`
	Providers []provider `json:"providers"`
}

// pricing is TORG per token, as decimal strings, as OpenRouter has dollars.
type pricing struct {
	Prompt     string `json:"prompt"`
	Completion string `json:"completion"`
}

type provider struct {
	Address    square.Address `json:"address"`
	Digest     square.Hash    `json:"digest"`
	Rates      []square.Rate  `json:"rates"`
	Proven     []square.Rate  `json:"proven_rates,omitempty"` // of answers with a proof, where they are sold
	Denom      string         `json:"denom"`
	Free       uint64         `json:"free_lanes"`
	TTFT       int64          `json:"ttft_ms,omitempty"`
	Throughput float64        `json:"tokens_per_second,omitempty"`
	Failures   float64        `json:"failure_rate,omitempty"`
}

func (h *Handler) listModels(w http.ResponseWriter, r *http.Request) error {
	all, err := h.cfg.Seller.Models(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"object": "list", "data": h.group(all)})
}

func (h *Handler) getModel(w http.ResponseWriter, r *http.Request) error {
	all, err := h.cfg.Seller.Models(r.Context())
	if err != nil {
		return err
	}
	found := h.group(offering(all, r.PathValue("id")))
	if len(found) == 0 {
		return noModel(r.PathValue("id"))
	}
	return writeJSON(w, found[0])
}

// group joins the offers of each model, by name.
func (h *Handler) group(all []buyer.Model) []model {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b buyer.Model) int { return strings.Compare(a.ID, b.ID) })
	out := []model{}
	var cheapest uint64
	for _, m := range all {
		if len(out) == 0 || out[len(out)-1].ID != m.ID {
			out = append(out, model{ID: m.ID, Object: "model", Created: h.started.Unix(), OwnedBy: "torg",
				Context: m.Context, Exact: m.Exact, Digest: m.Digest.String()})
		}
		g := &out[len(out)-1]
		g.Providers = append(g.Providers, provider{m.Provider, m.Digest, m.Rates, m.Proven, m.Denom, m.Free,
			m.TTFT.Milliseconds(), m.Throughput, m.Failures})
		prompt, completion := rate(m, infer.UnitPrompt), rate(m, infer.UnitCompletion)
		if m.Denom == square.Denom && (g.Pricing == nil || prompt+completion < cheapest) {
			cheapest = prompt + completion
			g.Pricing = &pricing{decimal(prompt, 12), decimal(completion, 12)}
		}
	}
	return out
}

// rate is what a model's unit costs in base units per million.
func rate(m buyer.Model, unit string) uint64 {
	for _, r := range m.Rates {
		if r.Unit == unit {
			return r.PerMillion
		}
	}
	return 0
}

// offering are the offers of one model, named by its ID or its digest in hex.
func offering(all []buyer.Model, name string) []buyer.Model {
	var out []buyer.Model
	for _, m := range all {
		if m.ID == name {
			out = append(out, m)
		}
	}
	if len(out) > 0 {
		return out
	}
	digest, err := square.ParseHash(name)
	if err != nil {
		return nil
	}
	for _, m := range all {
		if m.Digest == digest {
			out = append(out, m)
		}
	}
	return out
}

// decimal writes n / 10^places exactly, without trailing zeros.
func decimal(n uint64, places int) string {
	s := big.NewRat(1, 1).SetFrac(new(big.Int).SetUint64(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)).FloatString(places)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// fingerprint is what an answer of the model depends on, in short.
func fingerprint(m buyer.Model) string { return "fp_" + m.Digest.Short() }
