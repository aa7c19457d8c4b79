package main

import (
	"errors"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/plug"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// kits are the trades of this program: the only list of them. A trade is a folder
// below trade/ and a line here.
var kits []plug.Kit

// In a function, for a kit's commands read the settings of all kits.
func init() {
	kits = []plug.Kit{
		inference,
	}
}

// kit is a trade's; one that is not known here has no parts.
func kit(name string) plug.Kit {
	for _, k := range kits {
		if k.Rules.Name() == name {
			return k
		}
	}
	return plug.Kit{}
}

// trades are the rules of all trades.
func trades() []trade.Rules {
	out := make([]trade.Rules, len(kits))
	for i, k := range kits {
		out[i] = k.Rules
	}
	return out
}

// units are those of all trades.
func units() (names []string) {
	for _, k := range kits {
		names = append(names, k.Rules.Units()...)
	}
	return names
}

// cards are those of all trades that are on a new ledger from the start.
func cards() (out []ledger.Card, err error) {
	for _, k := range kits {
		if k.Cards == nil {
			continue
		}
		made, err := k.Cards()
		if err != nil {
			return nil, err
		}
		for _, c := range made {
			out = append(out, ledger.Card{Trade: k.Rules.Name(), Card: c})
		}
	}
	return out, nil
}

// read opens evidence of a trade's for people.
func read(trade string, e square.Evidence) (source.Words, error) {
	open := kit(trade).Words
	switch {
	case len(e.Request) == 0:
		return source.Words{}, errors.New("its question and answer are no longer kept")
	case open == nil:
		return source.Words{}, errors.New("nobody here can read what trade " + trade + " asks and answers")
	}
	return open(e)
}

// page is where the console shows a good; empty if it has no page.
func page(trade string, spec square.Hash) string {
	if f := kit(trade).Page; f != nil {
		return f(spec)
	}
	return ""
}
