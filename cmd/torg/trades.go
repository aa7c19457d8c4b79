package main

import (
	"context"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// kits are the trades of this program: the only list of them. A trade is a folder
// below trade/ and a line here.
var kits = []kit{
	inference,
}

// kit is what a trade plugs into a square.
type kit struct {
	rules trade.Rules // as the ledger judges by them
	// cards are on a new ledger from the start; nil: none.
	cards func() ([][]byte, error)
	// sells is what this machine sells of it; nil: nothing.
	sells func(context.Context, *openSquare) (seller.Trade, error)
	// buys is how this machine's desk buys it; nil: it does not.
	buys func(*openSquare) desk.Trade
}

// trades are the rules of all trades.
func trades() []trade.Rules {
	out := make([]trade.Rules, len(kits))
	for i, k := range kits {
		out[i] = k.rules
	}
	return out
}

// cards are those of all trades that are on a new ledger from the start.
func cards() (out []ledger.Card, err error) {
	for _, k := range kits {
		if k.cards == nil {
			continue
		}
		made, err := k.cards()
		if err != nil {
			return nil, err
		}
		for _, c := range made {
			out = append(out, ledger.Card{Trade: k.rules.Name(), Card: c})
		}
	}
	return out, nil
}
