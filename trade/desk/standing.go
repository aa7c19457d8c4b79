package desk

import (
	"maps"

	"github.com/torg-network/torg/square"
)

// Spent is what each account's answers have cost in all, by their receipts, and
// the most of requests whose end is not known yet.
func (d *Desk) Spent() map[string]uint64 {
	d.spending.Lock()
	out := maps.Clone(d.spent)
	d.spending.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		for _, ln := range l.lanes {
			if p := ln.rec.Pending; p != nil && p.Account != "" {
				out[p.Account] += p.Max - min(p.Max, ln.rec.Charged)
			}
		}
	}
	return out
}

// Standing is what a lease owes its provider by signed vouchers, whether
// redeemed or not.
type Standing struct {
	Charged  uint64 // by receipts that were verified
	Promised uint64 // the most that vouchers let the provider claim
}

// Standing is how each lease stands that this buyer keeps.
func (d *Desk) Standing() map[square.Hash]Standing {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[square.Hash]Standing, len(d.leases))
	for id, l := range d.leases {
		var s Standing
		for _, ln := range l.lanes {
			s.Charged += ln.rec.Charged
			s.Promised += ln.rec.Max
		}
		out[id] = s
	}
	return out
}
