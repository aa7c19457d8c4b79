package marketv1

import (
	"testing"

	"github.com/torg-network/torg/market"
)

// Parameters from before there were proofs are those of today with the time to
// prove that a new ledger has.
func TestParamsOfOldLedgers(t *testing.T) {
	old := FromParams(market.Default(), nil)
	old.Answer = 0
	if got := old.Market(); got != market.Default() || got.Check() != nil {
		t.Errorf("%+v", got)
	}
}
