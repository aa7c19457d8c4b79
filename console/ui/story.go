package ui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Sentence explains an event to a person. me is the viewer's account, which it
// calls "you"; zero is nobody.
func Sentence(e source.Event, me square.Address) string {
	s := sentence(e, me)
	if strings.HasPrefix(s, square.Prefix+"1") {
		return s + "." // an address is written as it is
	}
	first, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[n:] + "."
}

func sentence(e source.Event, me square.Address) string {
	who := func(a square.Address) string {
		switch {
		case a.IsZero():
			return "the ledger"
		case a == me:
			return "you"
		}
		return Short(a.String())
	}
	whose := func(a square.Address) string {
		if a == me && !a.IsZero() {
			return "your"
		}
		return who(a) + "’s"
	}
	provider, buyer, paid := who(e.Provider), who(e.Buyer), Coins(e.Paid, square.Denom)
	switch e.Kind {
	case market.EvBonded:
		return fmt.Sprintf("%s staked %s in the trade %s", provider, moved(e), e.Trade)
	case market.EvUnbonding:
		return fmt.Sprintf("%s began to take stake out of the trade %s", provider, e.Trade)
	case market.EvUnbonded:
		return fmt.Sprintf("%s got %s of stake back from the trade %s", provider, moved(e), e.Trade)
	case market.EvOffered:
		return fmt.Sprintf("%s offered work in the trade %s", provider, e.Trade)
	case market.EvDropped:
		return fmt.Sprintf("an offer by %s in the trade %s expired", provider, e.Trade)
	case market.EvEnlisted:
		return fmt.Sprintf("%s sits as a judge in the trade %s", provider, e.Trade)
	case market.EvDelisted:
		return fmt.Sprintf("%s sits no longer as a judge in the trade %s", provider, e.Trade)
	case market.EvWithdrawn:
		return fmt.Sprintf("%s withdrew an offer in the trade %s", provider, e.Trade)
	case market.EvOpened:
		return fmt.Sprintf("%s set %s aside in escrow for an order", buyer, moved(e))
	case market.EvMatched:
		return fmt.Sprintf("%s took %s order and locked a bond for it", provider, whose(e.Buyer))
	case market.EvStarted:
		return fmt.Sprintf("%s began to work for %s", provider, buyer)
	case market.EvRedeemed:
		return fmt.Sprintf("%s redeemed %s vouchers for %s; %s of the lease is paid so far", provider, whose(e.Buyer), Coins(fromEscrow(e), square.Denom), paid)
	case market.EvDraining:
		return fmt.Sprintf("the lease of %s with %s is ending; its last vouchers are being redeemed", buyer, provider)
	case market.EvClaimed:
		return fmt.Sprintf("%s handed in a result to %s", provider, buyer)
	case market.EvChallenged:
		return fmt.Sprintf("%s brought evidence against %s", who(e.By), provider)
	case market.EvToppedUp:
		return fmt.Sprintf("%s put %s more into the escrow of a lease with %s", buyer, moved(e), provider)
	case market.EvExtended:
		return fmt.Sprintf("%s and %s agreed that a lease ends later", buyer, provider)
	case market.EvWithheld:
		return fmt.Sprintf("%s says that %s has not handed a result over", buyer, provider)
	case market.EvAnswered:
		return fmt.Sprintf("%s handed a result over on the ledger", provider)
	case market.EvSeated:
		return "judges were drawn for a dispute"
	case market.EvInvited:
		return "a staker was drawn to work an order out as well"
	case market.EvCalled:
		return fmt.Sprintf("%s is to show the result that it has fixed", provider)
	case market.EvCompared:
		return fmt.Sprintf("%s result was compared with the others", whose(e.Provider))
	case market.EvReleased:
		return "an order that several worked on is over"
	case market.EvCommitted:
		if e.To == market.Committed {
			return fmt.Sprintf("%s fixed its result, and shows it when all have", provider)
		}
		return fmt.Sprintf("%s fixed its vote as a judge", who(e.By))
	case market.EvVoted:
		return fmt.Sprintf("%s voted as a judge", who(e.By))
	case market.EvGivenUp:
		return fmt.Sprintf("no judges found on %s work, and its lease went on", whose(e.Provider))
	case market.EvRedrawn:
		if e.To == market.Open {
			return "another staker is drawn to work an order out as well"
		}
		return "other judges were drawn for a dispute"
	case market.EvUpheld:
		return fmt.Sprintf("%s work was found right", whose(e.Provider))
	case market.EvEnded:
		s := fmt.Sprintf("the lease of %s with %s ended: %s. %s was paid in all", buyer, provider, Why(e.Reason), paid)
		if back, _ := Change(e, e.Buyer); back > 0 {
			s += fmt.Sprintf(" and %s went back to %s", Coins(back, square.Denom), buyer)
		}
		return s
	case market.EvSent:
		to := square.Address{}
		if len(e.Moves) > 0 {
			to = e.Moves[0].To.Owner
		}
		return fmt.Sprintf("%s sent %s to %s", who(e.By), moved(e), who(to))
	case market.EvChannelDeposited:
		return fmt.Sprintf("%s put %s into a payment channel for %s", who(e.By), moved(e), provider)
	case market.EvChannelClaimed:
		return fmt.Sprintf("%s claimed %s from %s payment channel", provider, moved(e), whose(e.Buyer))
	case market.EvChannelWithdrawing:
		return fmt.Sprintf("%s began to take money out of the payment channel for %s", buyer, provider)
	case market.EvChannelWithdrawn:
		return fmt.Sprintf("%s got %s back from the payment channel for %s", buyer, moved(e), provider)
	case market.EvChannelRefunded:
		return fmt.Sprintf("%s gave %s of a payment channel back to %s", provider, moved(e), buyer)
	case market.EvPruned:
		return "an old lease was forgotten by the ledger"
	}
	return square.Clip(string(e.Kind), 40)
}

// moved is the sum an event moved, as its first transfer has it.
func moved(e source.Event) string {
	if len(e.Moves) == 0 {
		return "money"
	}
	return Coins(e.Moves[0].Amount.Units, e.Moves[0].Amount.Denom)
}

// fromEscrow is what an event took out of escrow.
func fromEscrow(e source.Event) (n uint64) {
	for _, m := range e.Moves {
		if m.From.Kind == market.PotEscrow && m.Amount.Denom == square.Denom {
			n += m.Amount.Units
		}
	}
	return n
}

// Change is what an event did to an account's own money: in and out, base
// units of the ledger's denom.
func Change(e source.Event, a square.Address) (in, out uint64) {
	for _, m := range e.Moves {
		if m.Amount.Denom != square.Denom {
			continue
		}
		if m.To == market.Account(a) {
			in += m.Amount.Units
		}
		if m.From == market.Account(a) {
			out += m.Amount.Units
		}
	}
	return in, out
}

// EventTone is how an event stands in a timeline.
func EventTone(e source.Event) Tone {
	switch e.Kind {
	case market.EvBonded, market.EvStarted, market.EvRedeemed, market.EvUpheld:
		return Good
	case market.EvEnded:
		return StateTone(e.To)
	case market.EvChallenged, market.EvWithheld:
		return Warn
	}
	return Plain
}
