package trade

import (
	"time"

	"github.com/torg-network/torg/square"
)

// Served is a finished request for a trade's work, in words that all trades have: what a
// trade's door under the gateway's port tells whoever counts.
type Served struct {
	Trade    string
	Door     string // which of the trade's doors it came through
	Subject  string // of the good that was asked for
	Key      string // the API key's ID
	Provider square.Address
	Lease    square.Hash
	Receipt  square.Hash // zero: nothing was charged
	Units    []Metered   // as the receipt meters them
	Cost     square.Amount
	First    time.Duration // from the request's arrival to the first piece of the answer; 0: there was none
	Total    time.Duration // until the answer was written
	Overhead time.Duration // what of Total was not spent waiting for a provider
	Err      error
}

// Amount is all that was metered, whatever the unit.
func (s Served) Amount() (n uint64) {
	for _, m := range s.Units {
		n += min(m.Count, square.MaxUnits)
	}
	return n
}
