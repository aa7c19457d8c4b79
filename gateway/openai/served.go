package openai

import (
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
)

// Served is the event in the words that all trades have.
func (e Event) Served() trade.Served {
	s := trade.Served{
		Trade: infer.Name, Door: e.Route, Subject: e.Model, Key: e.Key, Provider: e.Provider, Lease: e.Lease, Receipt: e.Receipt,
		Cost: e.Cost, First: e.TTFT, Total: e.Total, Overhead: e.Overhead, Err: e.Err,
	}
	if !e.Receipt.IsZero() {
		s.Units = []trade.Metered{{Unit: infer.UnitPrompt, Count: e.Prompt}, {Unit: infer.UnitCompletion, Count: e.Completion}}
	}
	return s
}
