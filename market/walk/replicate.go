package walk

import (
	"slices"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// round is the longest that a replica may take, and a notice.
func (o *Oracle) round(g *file) int64 {
	open := max(g.wait, int64(o.p.Redraws+1)*int64(g.order.Start))
	return open + 2*int64(g.order.Start) + int64(g.order.Duration) + int64(o.p.Notice)
}

// group is the order that a replica is of, until that is over.
func (o *Oracle) group(f *file) *file {
	if g := o.files[f.of]; !f.of.IsZero() && g != nil && !g.finished {
		return g
	}
	return nil
}

// uncompared is a replica of which nobody knows yet whether it is the agreed one.
func (f *file) uncompared() bool { return !f.of.IsZero() && f.agreed.IsZero() }

func (o *Oracle) standing(g *file) (fs []*file) {
	for _, id := range g.replicas {
		fs = append(fs, o.files[id])
	}
	return fs
}

func (o *Oracle) replica(g *file, now int64, drawn bool) {
	f := &file{
		id: market.ReplicaID(g.id, g.nth), order: g.order, state: market.Open, of: g.id, nth: g.nth, drawn: drawn,
		wait: g.wait, opened: now, heard: map[point]bool{},
	}
	f.order.Escrow, f.order.Failover = g.order.JobValue, 0
	if drawn {
		f.wait = int64(g.order.Start)
	}
	f.due = now + f.wait
	g.nth++
	g.replicas = append(g.replicas, f.id)
	g.lent += f.order.Escrow
	o.files[f.id], o.open[f.id] = f, f
	o.tLeases[f.id], o.tLeases[g.id] = true, true
	o.flow(market.Escrow(g.id), market.Escrow(f.id), f.order.Escrow, g.order.Denom)
	if drawn {
		o.Seen["replica for who is drawn"]++
	} else {
		o.Seen["replica"]++
	}
}

// party is who may run no replica of an order, or no other one.
func (o *Oracle) party(g *file, a square.Address) bool {
	if a == g.order.Buyer || a == g.order.Authorizer || slices.Contains(g.left, a) {
		return true
	}
	for _, f := range o.standing(g) {
		if f.provider == a {
			return true
		}
	}
	return false
}

func (o *Oracle) joins(q square.Quote, f *file) bool {
	g := o.group(f)
	switch {
	case g == nil:
		return false
	case o.party(g, q.Provider):
		o.Seen["a lone replicator"]++
		return false
	case f.drawn && (f.invited != q.Provider || q.Bond == 0):
		o.Seen["who was not drawn"]++
		return false
	}
	for _, r := range o.standing(g) {
		if q.Bond == 0 && !r.provider.IsZero() && r.bonded == 0 {
			o.Seen["two newcomers"]++
			return false
		}
	}
	return true
}

func (o *Oracle) invite(op Op, f *file) bool {
	g, who := o.group(f), op.Judges[0]
	k := f.stakeOf(who)
	if f.state != market.Open || !f.drawn || !f.invited.IsZero() || g == nil || o.party(g, who) || slices.Contains(f.passed, who) ||
		!o.stake(k).judge || o.free(k) < o.dispute() || o.free(k) < f.order.JobValue {
		return false
	}
	for _, r := range o.standing(g) {
		if r.state == market.Open && r.invited == who {
			return false
		}
	}
	f.invited = who
	o.tLeases[f.id] = true
	o.Seen["invited"]++
	return true
}

func (o *Oracle) pledge(op Op, f *file) bool {
	g := o.group(f)
	if f.state != market.Active || op.By != f.provider || g == nil || op.Hash.IsZero() {
		return false
	}
	f.ballot = op.Hash
	f.due = g.due
	o.to(f, market.Committed)
	fs := o.standing(g)
	for _, r := range fs {
		if r.state != market.Committed && r.state != market.Showing && r.state != market.Claimed {
			return true
		}
	}
	for _, r := range fs {
		if r.state == market.Committed {
			o.call(r, op.Now)
		}
	}
	return true
}

func (o *Oracle) call(f *file, at int64) {
	f.due = at + int64(f.order.Start)
	o.to(f, market.Showing)
}

func (o *Oracle) show(op Op, f *file) bool {
	r := op.Receipt
	if f.state != market.Showing || op.Hash != f.ballot || r.Lease != f.id || r.Request != f.order.Request || r.Result.IsZero() ||
		r.Lane != 0 || r.Seq != 1 || r.Cumulative != r.Price || r.Price > f.order.JobValue || !charged(r, f.rates) {
		return false
	}
	f.receipt = &r
	o.to(f, market.Claimed)
	g := o.group(f)
	if g == nil {
		f.agreed, f.due = r.Result, op.Now+int64(f.order.Challenge)
		o.Seen["shown by one left alone"]++
		return true
	}
	f.due = g.due
	votes := map[square.Hash]int{}
	fs := o.standing(g)
	var ran []square.Address
	for _, x := range fs {
		if x.state != market.Claimed {
			return true
		}
		votes[x.receipt.Result]++
		ran = append(ran, x.provider)
	}
	for result, n := range votes {
		if n < 4 && !(n == 2 && len(fs) == 2) {
			continue
		}
		for _, x := range fs {
			x.agreed, x.peers, x.due = result, ran, op.Now
			if x.receipt.Result == result {
				x.due += int64(x.order.Challenge)
			}
			o.tLeases[x.id] = true
		}
		g.agreed = result
		o.refund(g, 0, op.By, 0)
		o.finish(g, op.Now, market.Settled, market.ReasonReplicated)
		if len(fs) == 2 {
			o.Seen["two agree"]++
		} else {
			o.Seen["four of five agree"]++
		}
		return true
	}
	if len(fs) == 2 && op.Now+o.round(g) <= g.due {
		o.replica(g, op.Now, true)
		o.replica(g, op.Now, true)
		o.replica(g, op.Now, true)
		o.Seen["two differ"]++
		return true
	}
	o.giveUp(g, op.Now, market.ReasonDisagreed)
	return true
}

// replace opens another replica for one that has ended, or gives up.
func (o *Oracle) replace(g, f *file, now int64) {
	g.replicas = slices.DeleteFunc(g.replicas, func(id square.Hash) bool { return id == f.id })
	if !f.provider.IsZero() {
		g.left = append(g.left, f.provider)
	}
	o.tLeases[g.id] = true
	drawn := f.drawn
	for _, r := range o.standing(g) {
		drawn = drawn || r.state == market.Claimed
	}
	if g.nth-uint64(len(g.replicas)) > 3 || now+o.round(g) > g.due {
		o.giveUp(g, now, market.ReasonNoReplicas)
		return
	}
	o.replica(g, now, drawn)
	o.Seen["replaced"]++
}

func (o *Oracle) giveUp(g *file, now int64, why market.Reason) {
	at := min(now, g.due)
	if len(g.replicas) > 2 {
		why = market.ReasonDisagreed
	}
	for _, f := range o.standing(g) {
		o.tLeases[f.id] = true
		switch {
		case why == market.ReasonDisagreed || f.bonded == 0:
			f.reason, f.due = why, at
			o.Seen["released "+string(f.state)]++
		case f.state == market.Committed:
			o.call(f, at)
		case f.state == market.Claimed:
			f.agreed, f.due = f.receipt.Result, at+int64(f.order.Challenge)
			o.Seen["left alone with a claim"]++
		}
	}
	o.refund(g, 0, o.by, o.owed)
	o.finish(g, now, market.Failed, why)
}

// dissolve cancels an order that nobody works on.
func (o *Oracle) dissolve(g *file, op Op) bool {
	for _, f := range o.standing(g) {
		if f.state != market.Open || f.drawn {
			return false
		}
	}
	o.refund(g, 0, op.By, 0)
	o.finish(g, op.Now, market.Cancelled, market.ReasonCancelled)
	for _, f := range o.standing(g) {
		f.reason, f.due = market.ReasonCancelled, op.Now
		o.tLeases[f.id] = true
	}
	return true
}

// outvote takes all that a replica's provider has at stake.
func (o *Oracle) outvote(f *file, now int64, why market.Reason) {
	o.owed = 0
	o.refund(f, 0, square.Address{}, 0)
	buyer := min(f.bonded, f.order.JobValue)
	o.fromStake(f, market.Account(f.order.Buyer), buyer)
	o.fromStake(f, market.Burned, f.bonded-buyer)
	o.forfeit(f)
	o.finish(f, now, market.Slashed, why)
}

// forfeit takes what who has bonded nothing has not locked elsewhere.
func (o *Oracle) forfeit(f *file) {
	if f.of.IsZero() || f.bonded > 0 {
		return
	}
	st := o.stake(f.key())
	lost := st.total - o.locked(f.key())
	st.unbonding, st.until = 0, 0
	o.fromStake(f, market.Account(f.order.Buyer), min(lost, f.order.JobValue))
	o.fromStake(f, market.Burned, lost-min(lost, f.order.JobValue))
	if lost > 0 {
		o.Seen["forfeit"]++
	}
}
