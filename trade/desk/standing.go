package desk

import (
	"github.com/torg-network/torg/square"
)

// Spent is what an account's requests have cost, by their receipts, and the most
// that those may still cost whose conversation has ended, or was cut off by a
// crash, and whose provider has not said yet how. Requests under way are not in it.
func (d *Desk) Spent(account string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := d.spent[account]
	for _, l := range d.leases {
		for _, ln := range l.lanes {
			if p := ln.rec.Pending; p != nil && !ln.talking && p.Account == account {
				sum += p.Max - min(p.Max, ln.rec.Charged)
			}
		}
	}
	return sum
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
