// Package tradetest is a suite that every trade of results passes: its seller under a
// real seller.Seller and its buyer under a real desk.Desk, over HTTP on this machine and
// the ledger in memory (package fake), each attacked, killed, starved and paid. At the
// end of each case no money was made or lost, and each side has what it is owed.
//
//	func TestTrade(t *testing.T) { tradetest.Run(t, tradetest.Kit{...}) }
package tradetest

import (
	"testing"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// Kit is a trade to be tried.
type Kit struct {
	Rules  trade.Rules
	Worker seller.Worker // sells one good; the suite sets its places and multiplies its rates
	Buyer  desk.Trade
	// Order is what is ordered: trade, spec, job value, and max rates of three times
	// the worker's at least. It is bought under the policy audit.
	Order square.Order
	// Job makes the nth job: all differ, and cost at least one base unit and at most a
	// third of the job value.
	Job func(n int) []byte
	// Wrong makes of a job's result one that the rules judge as fraud.
	Wrong func(result []byte) []byte
}

// Run tries a trade. Cases run side by side, each on a ledger of its own.
func Run(t *testing.T, kit Kit) {
	kit.Order.Policy = square.PolicyAudit
	for name, try := range map[string]func(*town){
		"sell":                sell,
		"replay":              replay,
		"double spend":        doubleSpend,
		"replicated":          replicated,
		"disk lost":           diskLost,
		"buyer away":          buyerAway,
		"ledger stands still": ledgerStandsStill,
		"go silent":           goSilent,
		"withhold":            withhold,
		"withhold to the end": withholdToTheEnd,
		"false withheld":      falseWithheld,
		"wrong":               wrong,
		"pause":               pause,
		"fewer places":        fewerPlaces,
		"price change":        priceChange,
		"seller's disk full":  sellerDiskFull,
		"buyer's disk full":   buyerDiskFull,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); try(newTown(t, kit)) })
	}
	for name, at := range sellerDeaths {
		t.Run("seller dies/"+name, func(t *testing.T) { t.Parallel(); sellerDies(newTown(t, kit), at) })
	}
	for _, at := range buyerDeaths {
		t.Run("buyer dies/"+at, func(t *testing.T) { t.Parallel(); buyerDies(newTown(t, kit), at) })
	}
}
