package trade_test

import (
	"slices"
	"testing"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

type weighed struct{ trade.Rules }

func (weighed) Name() string    { return "weighed" }
func (weighed) Units() []string { return []string{"gram", "mile"} }

// TestRates: an offer's rates are those of all policies and then groups of one each,
// and an order pays those of its own policy.
func TestRates(t *testing.T) {
	plain := []square.Rate{{Unit: "gram", PerMillion: 1}, {Unit: "mile", PerMillion: 2}}
	dear := []square.Rate{{Unit: "gram", PerMillion: 10}, {Unit: "mile", PerMillion: 20}}
	both := append(slices.Clone(plain), trade.Under(square.PolicyProve, dear)...)
	for name, c := range map[string]struct {
		rates []square.Rate
		ok    bool
	}{
		"plain":     {plain, true},
		"both":      {both, true},
		"three":     {append(slices.Clone(both), trade.Under(square.PolicyAudit, dear)...), true},
		"none":      {nil, false},
		"one short": {plain[:1], false},
		"swapped":   {[]square.Rate{plain[1], plain[0]}, false},
		"twice":     {append(slices.Clone(plain), plain...), false},
		"own twice": {append(slices.Clone(both), trade.Under(square.PolicyProve, dear)...), false},
		"own alone": {trade.Under(square.PolicyProve, dear), false},
		"half own":  {both[:3], false},
		"mixed":     {append(slices.Clone(both[:3]), trade.Under(square.PolicyAudit, dear[1:])...), false},
	} {
		if err := trade.CheckRates(weighed{}, c.rates); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := trade.RatesFor(both, square.PolicyProve); !slices.Equal(got, dear) {
		t.Errorf("under prove %v", got)
	}
	if got := trade.RatesFor(both, square.PolicyAudit); !slices.Equal(got, plain) {
		t.Errorf("under audit %v", got)
	}
}
