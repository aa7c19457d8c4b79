// Package tradetest is two suites, of which every trade passes one: its seller under a
// real seller.Seller and its buyer under a real desk.Desk, over HTTP on this machine,
// each attacked, killed, starved and paid. [Run] is for trades of results, [RunStreams]
// for trades of streams. At the end of each case no money was made or lost, and each side
// has what it is owed: who is honest has lost at most what one voucher covers.
//
// Cases run on the ledger in memory, or on any other, see [Ledger]: of the real one a
// trade knows nothing.
//
//	func TestTrade(t *testing.T) { tradetest.Run(t, tradetest.Kit{...}, nil) }
package tradetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// Kit is a trade of results to be tried.
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

// Streams is a trade of streams to be tried.
type Streams struct {
	Rules trade.Rules
	// Sell makes what sells one good; the suite sets its places and multiplies its
	// rates. It tells the work of everything it does.
	Sell func(Work) seller.Trade
	// Buy is how a desk buys it over a ledger. It can do the work again.
	Buy func(desk.Ledger) desk.Trade
	// Ask asks a desk, which has what Buy made, for the nth answer: all differ. piece is
	// called with each piece that comes; an error from it is a buyer that wants no more.
	// It returns the receipt where there is one. What it posts has the fields of its
	// wire.Payment at the top.
	Ask func(ctx context.Context, d *desk.Desk, t desk.Trade, n int, piece func() error) (*wire.Signed, error)
	// Cost is what the nth whole answer costs at the good's own rates. It is the most
	// that its voucher covers, at least 20,000 base units, so that it is worth a
	// redemption's fee; the job value is four times as much to five.
	Cost func(n int) uint64
	// What one answer may cost, and a lease's escrow: a tenth of a party's money at most.
	JobValue, Escrow uint64
}

// Work is told what a trade of streams does, and says how it is to go on.
type Work interface {
	// Begin is called before anything is done. It may wait, and refuse the work.
	Begin(context.Context) error
	// Piece is called before each piece of an answer, of which there are ten at least.
	// Work whose context has ended by then makes no more of them.
	Piece(context.Context)
	// Lies is asked of each answer: a lie is one that the rules judge as fraud.
	Lies() bool
}

// On makes the ledger that a case runs on; nil: one in memory that knows the trade.
type On func(*testing.T) Ledger

// Run tries a trade of results. Cases run side by side.
func Run(t *testing.T, kit Kit, on On) {
	kit.Order.Policy = square.PolicyAudit
	all := map[string]func(*town){
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
		"reviewed":            reviewed,
		"reviewed and wrong":  reviewedWrong,
	}
	for name, at := range sellerDeaths {
		all["seller dies/"+name] = func(w *town) { sellerDies(w, at) }
	}
	for _, at := range buyerDeaths {
		all["buyer dies/"+at] = func(w *town) { buyerDies(w, at) }
	}
	side(t, all, func(t *testing.T) *town {
		w := &town{
			T: t, rules: kit.Rules, kit: kit,
			sold: func(g *goods) seller.Trade {
				sold := worker{kit.Worker, g, kit.Wrong}
				if o, ok := kit.Worker.(seller.Opener); ok {
					return opening{sold, o}
				}
				return sold
			},
			bought: func(Account) desk.Trade { return kit.Buyer },
		}
		w.times.duration, w.times.challenge = 40*time.Second, 20*time.Second
		return w.on(on).build()
	})
}

// RunStreams tries a trade of streams. Cases run side by side.
func RunStreams(t *testing.T, flow Streams, on On) {
	side(t, streams(), func(t *testing.T) *town {
		w := &town{
			T: t, rules: flow.Rules, flow: flow,
			sold:   func(g *goods) seller.Trade { return stream{flow.Sell(g), g} },
			bought: func(a Account) desk.Trade { return flow.Buy(a) },
		}
		w.times.duration, w.times.challenge, w.times.idle = 2*time.Minute, 20*time.Second, 20*time.Second
		return w.on(on).build()
	})
}

// on gives the town its ledger. Where time cannot be made to pass, deadlines are short.
func (w *town) on(on On) *town {
	if on == nil {
		on = func(*testing.T) Ledger { return Memory(w.rules) }
	}
	w.l = on(w.T)
	if w.l.Pass(0) {
		w.times = times{tick: 10 * time.Millisecond, refresh: 20 * time.Millisecond, idle: 10 * time.Minute}
	} else {
		w.times.notice, w.times.tick, w.times.refresh = 10*time.Second, 100*time.Millisecond, 200*time.Millisecond
	}
	return w
}

// atOnce is how many cases run side by side: they wait more than they work.
const atOnce = 16

// side runs cases side by side, and returns when all have ended.
func side(t *testing.T, all map[string]func(*town), open func(*testing.T) *town) {
	places := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for name, try := range all {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(name, func(t *testing.T) { try(open(t)) })
		})
	}
	running.Wait()
}
