package ui

import (
	"fmt"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Sentence explains an event to a person. me is the viewer's account, which it
// calls "you"; zero is nobody.
func Sentence(e source.Event, me square.Address) string {
	who := func(a square.Address) string {
		switch {
		case a.IsZero():
			return "the ledger"
		case a == me:
			return "you"
		}
		return Short(a.String())
	}
	paid := Coins(e.Paid, square.Denom)
	switch e.Kind {
	case market.EvBonded:
		return fmt.Sprintf("%s staked %s in %s", who(e.Provider), moved(e), e.Trade)
	case market.EvUnbonding:
		return fmt.Sprintf("%s began to take stake out of %s", who(e.Provider), e.Trade)
	case market.EvUnbonded:
		return fmt.Sprintf("%s got %s of stake back from %s", who(e.Provider), moved(e), e.Trade)
	case market.EvOffered:
		return fmt.Sprintf("%s offered %s", who(e.Provider), e.Trade)
	case market.EvWithdrawn:
		return fmt.Sprintf("%s withdrew an offer of %s", who(e.Provider), e.Trade)
	case market.EvOpened:
		return fmt.Sprintf("%s set %s aside for an order", who(e.Buyer), moved(e))
	case market.EvMatched:
		return fmt.Sprintf("%s took the order of %s and locked a bond", who(e.Provider), who(e.Buyer))
	case market.EvStarted:
		return fmt.Sprintf("%s began to work for %s", who(e.Provider), who(e.Buyer))
	case market.EvRedeemed:
		return fmt.Sprintf("%s redeemed vouchers of %s; %s paid so far", who(e.Provider), who(e.Buyer), paid)
	case market.EvDraining:
		return "a lease is ending; its last vouchers are redeemed"
	case market.EvClaimed:
		return fmt.Sprintf("%s handed in a result", who(e.Provider))
	case market.EvChallenged:
		return fmt.Sprintf("%s brought evidence against %s", who(e.By), who(e.Provider))
	case market.EvRedrawn:
		return "other judges were drawn for a dispute"
	case market.EvUpheld:
		return fmt.Sprintf("the work of %s was found right", who(e.Provider))
	case market.EvEnded:
		s := fmt.Sprintf("a lease of %s with %s ended: %s; %s paid in all", who(e.Buyer), who(e.Provider), Why(e.Reason), paid)
		if back := toAccount(e, e.Buyer); back > 0 {
			s += fmt.Sprintf(", %s back to %s", Coins(back, square.Denom), who(e.Buyer))
		}
		return s
	case market.EvPruned:
		return "an old lease was forgotten by the ledger"
	}
	return clip(string(e.Kind), 40)
}

// moved is the sum an event moved, as its first transfer has it.
func moved(e source.Event) string {
	if len(e.Moves) == 0 {
		return "nothing"
	}
	return Coins(e.Moves[0].Amount.Units, e.Moves[0].Amount.Denom)
}

// toAccount is what an event paid into an account.
func toAccount(e source.Event, a square.Address) (n uint64) {
	for _, m := range e.Moves {
		if m.To == market.Account(a) && m.Amount.Denom == square.Denom {
			n += m.Amount.Units
		}
	}
	return n
}
