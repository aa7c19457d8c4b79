package walk

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// saboteur is one bug in the machine, made from outside: by other parameters,
// by altering an operation before the machine sees it, or by lying to the
// machine about the store and to the store about the machine. What it leaves
// nil it leaves alone.
type saboteur struct {
	name     string
	params   func(*market.Params)
	machine  func(Op, *market.Machine)
	op       func(*Op)
	lease    func(Op, *market.Lease)                       // as read
	setLease func(Op, *market.Lease)                       // as written
	restore  func(Op, *market.Lease, market.Lease)         // as written, over what
	stake    func(Op, *market.Stake)                       // as read
	setStake func(Op, *market.Stake, market.Stake)         // as written, over what
	offer    func(Op, *market.Offer)                       // as read
	setOffer func(Op, *market.Offer, market.Offer)         // as written, over what
	used     func(Op, bool) bool                           // as read
	move     func(Op, market.Transfer) []market.Transfer   // as written
	after    func(Op, []market.Event, *market.Memory) bool // done behind the machine's back; reports whether it was
}

// bent is the store as a saboteur shows it.
type bent struct {
	market.Store
	by *saboteur
	op *Op
}

func (b bent) Lease(id square.Hash) (market.Lease, error) {
	l, err := b.Store.Lease(id)
	if err == nil && b.by.lease != nil {
		b.by.lease(*b.op, &l)
	}
	return l, err
}

func (b bent) SetLease(l market.Lease) error {
	if b.by.setLease != nil {
		b.by.setLease(*b.op, &l)
	}
	if b.by.restore != nil {
		old, _ := b.Store.Lease(l.ID)
		b.by.restore(*b.op, &l, old)
	}
	return b.Store.SetLease(l)
}

func (b bent) Stake(k market.StakeKey) (market.Stake, error) {
	s, err := b.Store.Stake(k)
	if b.by.stake != nil {
		b.by.stake(*b.op, &s)
	}
	return s, err
}

func (b bent) SetStake(k market.StakeKey, s market.Stake) error {
	if b.by.setStake != nil {
		old, _ := b.Store.Stake(k)
		b.by.setStake(*b.op, &s, old)
	}
	return b.Store.SetStake(k, s)
}

func (b bent) Offer(k market.OfferKey) (market.Offer, error) {
	o, err := b.Store.Offer(k)
	if err == nil && b.by.offer != nil {
		b.by.offer(*b.op, &o)
	}
	return o, err
}

func (b bent) SetOffer(o market.Offer) error {
	if b.by.setOffer != nil {
		old, _ := b.Store.Offer(o.Key())
		b.by.setOffer(*b.op, &o, old)
	}
	return b.Store.SetOffer(o)
}

func (b bent) Used(h square.Hash) (bool, error) {
	was, err := b.Store.Used(h)
	if b.by.used != nil {
		was = b.by.used(*b.op, was)
	}
	return was, err
}

func (b bent) Move(from, to market.Pot, a square.Amount) error {
	ts := []market.Transfer{{From: from, To: to, Amount: a}}
	if b.by.move != nil {
		ts = b.by.move(*b.op, ts[0])
	}
	for _, t := range ts {
		if t.Amount.Units == 0 {
			continue
		}
		if err := b.Store.Move(t.From, t.To, t.Amount); err != nil {
			return err
		}
	}
	return nil
}

// between matches a transfer by the kinds of its pots.
func between(t market.Transfer, from, to market.PotKind) bool {
	return t.From.Kind == from && t.To.Kind == to
}

// bend changes a copy of a lease's dispute.
func bend(l *market.Lease, how func(*market.Dispute)) {
	if l.Dispute != nil {
		d := *l.Dispute
		d.Seats = slices.Clone(d.Seats)
		how(&d)
		l.Dispute = &d
	}
}

func once(t market.Transfer) []market.Transfer  { return []market.Transfer{t} }
func twice(t market.Transfer) []market.Transfer { return []market.Transfer{t, t} }

var saboteurs = []saboteur{
	{name: "pays the provider twice", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Redeem && between(t, market.PotEscrow, market.PotAccount) {
			return twice(t)
		}
		return once(t)
	}},
	{name: "loses the refund", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Poke && between(t, market.PotEscrow, market.PotAccount) {
			return nil
		}
		return once(t)
	}},
	{name: "refunds to nobody in particular", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Cancel && between(t, market.PotEscrow, market.PotAccount) {
			t.To = market.Account(square.Address{0x0e, 19: 1})
		}
		return once(t)
	}},
	{name: "slashes twice", move: func(op Op, t market.Transfer) []market.Transfer {
		if between(t, market.PotStake, market.PotBurned) {
			return twice(t)
		}
		return once(t)
	}},
	{name: "pays a stale voucher", lease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem {
			l.Lanes = make([]uint64, len(l.Lanes))
		}
	}},
	{name: "wakes a lease that has ended", lease: func(op Op, l *market.Lease) {
		if l.State == market.Failed && op.Verb != Prune {
			l.State, l.Deadline = market.Active, op.Now+1
		}
	}},
	{name: "takes 6 % of the bond for a no-show", params: func(p *market.Params) { p.AbandonBps = 600 }},
	{name: "takes 5 % of the bond for a late result", params: func(p *market.Params) { p.LateBps = 500 }},
	{name: "gives the reporter 30.01 %", params: func(p *market.Params) { p.ReporterBps = 3001 }},
	{name: "charges 2.01 % for cancelling", params: func(p *market.Params) { p.CancelBps = 201 }},
	{name: "takes a fee of 1.99 %", params: func(p *market.Params) { p.FeeBps = 199 }},
	{name: "burns less than half of the fee", params: func(p *market.Params) { p.TreasuryBps = 5001 }},
	{name: "holds no pay back", params: func(p *market.Params) { p.HoldbackTimes = 0 }},
	{name: "emits more than it burned", params: func(p *market.Params) { p.EmissionBps = 9999 }},
	{name: "draws judges only twice", machine: func(op Op, m *market.Machine) {
		if op.Verb == Poke {
			m.Redraws = 1
		}
	}},
	{name: "pays a bounty of 51", params: func(p *market.Params) { p.PokeBounty = 51 }},
	{name: "lets the fee's remainder vanish", move: func(op Op, t market.Transfer) []market.Transfer {
		if between(t, market.PotEscrow, market.PotBurned) {
			t.Amount.Units--
		}
		return once(t)
	}},
	{name: "pays the treasury's part to the provider", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Redeem && t.To == market.Treasury {
			t.To = market.Account(op.By)
		}
		return once(t)
	}},
	{name: "mints the bounty", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Poke && t.From.Kind == market.PotEscrow && t.To == market.Account(op.By) {
			t.From = market.Minted
		}
		return once(t)
	}},
	{name: "keeps the challenger's bond", move: func(op Op, t market.Transfer) []market.Transfer {
		if t.From.Kind == market.PotChallenge {
			t.To = market.Treasury
		}
		return once(t)
	}},
	{name: "makes no buyer whole", lease: func(op Op, l *market.Lease) {
		if op.Verb == Judge && op.Verdict == square.VerdictFraud {
			l.Paid = 0
		}
	}, setLease: func(op Op, l *market.Lease) {
		if l.State == market.Slashed {
			for _, n := range l.Lanes {
				l.Paid += n
			}
		}
	}},
	{name: "forgets the evidence", setLease: func(op Op, l *market.Lease) {
		if l.Dispute != nil {
			d := *l.Dispute
			d.Evidence = square.Hash{}
			l.Dispute = &d
		}
	}},
	{name: "hears a challenge without evidence", op: func(op *Op) {
		if op.Verb == Challenge && op.Charge.Evidence.IsZero() {
			op.Charge.Evidence = square.Hash{1}
		}
	}},
	{name: "hears the same evidence again", used: func(op Op, was bool) bool { return was && op.Verb != Challenge }},
	{name: "uses a quote again", used: func(op Op, was bool) bool { return was && op.Verb == Challenge }},
	{name: "lets judges find on what is to be proven", lease: func(op Op, l *market.Lease) {
		if op.Verb == Judge && l.Dispute != nil && l.Dispute.Way == market.ByProof {
			d := *l.Dispute
			d.Way = market.ByJudges
			l.Dispute = &d
		}
	}},
	{name: "takes a proof for a verdict", lease: func(op Op, l *market.Lease) {
		if op.Verb == Prove && l.Dispute != nil {
			d := *l.Dispute
			d.Way = market.ByProof
			l.Dispute = &d
		}
	}},
	{name: "forgives a provider that proves nothing", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke && l.State == market.Disputed && l.Dispute.Way == market.ByProof {
			d := *l.Dispute
			d.Way, d.Draw = market.ByJudges, 9
			l.Dispute = &d
		}
	}},
	{name: "gives less time to prove", params: func(p *market.Params) { p.Answer-- }},
	{name: "burns what a challenger is owed for an unproven lease", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Poke && between(t, market.PotChallenge, market.PotAccount) {
			t.To = market.Burned
		}
		return once(t)
	}},
	{name: "hears only one part of the evidence", op: func(op *Op) {
		if op.Verb == Challenge {
			op.Charge.Part = 0
		}
	}},
	{name: "hears anyone for ever", params: func(p *market.Params) { p.Hearings = 3 }},
	{name: "leaks capacity", setOffer: func(op Op, o *market.Offer, old market.Offer) {
		if o.InUse < old.InUse {
			o.InUse = old.InUse
		}
	}},
	{name: "leases more than there is", offer: func(op Op, o *market.Offer) {
		if op.Verb == Match || op.Verb == OpenMatched {
			o.Capacity += 5
		}
	}, setOffer: func(op Op, o *market.Offer, old market.Offer) {
		if op.Verb == Match || op.Verb == OpenMatched {
			o.Capacity -= 5
		}
	}},
	{name: "forgets units in use when the offer is renewed", setOffer: func(op Op, o *market.Offer, old market.Offer) {
		if op.Verb == Offer {
			o.InUse = 0
		}
	}},
	{name: "leases what was withdrawn", offer: func(op Op, o *market.Offer) { o.Withdrawn = false }},
	{name: "unlocks no bond", setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Cancel || op.Verb == Accept {
			s.Locked = old.Locked
		}
	}},
	{name: "locks no bond", setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == OpenMatched {
			s.Locked = old.Locked
		}
	}},
	{name: "unbonds what is locked", stake: func(op Op, s *market.Stake) {
		if op.Verb == Unbond {
			s.Locked = 0
		}
	}},
	{name: "pays unbonding stake out early", stake: func(op Op, s *market.Stake) {
		if op.Verb == Unbonded {
			s.Until = 0
		}
	}},
	{name: "never ends an idle lease", lease: func(op Op, l *market.Lease) {
		if l.State == market.Active && l.Order.Mode == square.ModeStream && l.Deadline < l.Ends {
			l.Deadline = math.MaxInt64
		}
	}, setLease: func(op Op, l *market.Lease) {
		if l.Deadline == math.MaxInt64 {
			l.Deadline = min(l.Ends, l.Touched+int64(l.Order.Idle))
		}
	}},
	{name: "pokes early", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke && op.Now == l.Deadline-1 {
			l.Deadline--
		}
	}},
	{name: "prunes early", lease: func(op Op, l *market.Lease) {
		if op.Verb == Prune {
			l.Deadline -= 100
		}
	}},
	{name: "takes operations after the deadline", lease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem {
			l.Deadline += 5
		}
	}},
	{name: "pays lanes more than the escrow", lease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem {
			l.Escrow += 10
		}
	}, move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Redeem && t.From.Kind == market.PotEscrow && t.Amount.Units >= 10 {
			u := t
			u.Amount.Units = 10
			u.From = market.Treasury
			t.Amount.Units -= 10
			return []market.Transfer{t, u}
		}
		return once(t)
	}},
	{name: "counts a stale voucher as life", after: func(op Op, ev []market.Event, m *market.Memory) bool {
		l, err := m.Lease(op.Lease)
		if err != nil || op.Verb != Redeem || len(ev) > 0 || l.State != market.Active || l.Touched == op.Now {
			return false
		}
		l.Touched = op.Now
		l.Deadline = min(l.Ends, l.Touched+int64(l.Order.Idle))
		_ = m.SetLease(l)
		return true
	}},
	{name: "settles a close before the provider's notice", setLease: func(op Op, l *market.Lease) {
		if op.Verb == Close && l.State == market.Draining {
			l.Deadline = op.Now + 1
		}
	}},
	{name: "lets clocks run through a dispute", setLease: func(op Op, l *market.Lease) {
		if op.Verb == Judge && l.State == market.Active {
			l.Deadline = op.Now + 1
		}
	}},
	{name: "gives a child all its parent's failovers", setLease: func(op Op, l *market.Lease) {
		if l.Nth > 0 {
			l.Order.Failover++
		}
	}},
	{name: "leaves the escrow behind at failover", move: func(op Op, t market.Transfer) []market.Transfer {
		if between(t, market.PotEscrow, market.PotEscrow) {
			t.Amount.Units /= 2
		}
		return once(t)
	}},
	{name: "lets anyone cancel and be refunded", lease: func(op Op, l *market.Lease) {
		if op.Verb == Cancel {
			l.Order.Buyer = op.By
		}
	}},
	// Results.
	{name: "pays for a stranger's question", lease: func(op Op, l *market.Lease) {
		if op.Verb == Claim {
			l.Order.Request = op.Receipt.Request
		}
	}},
	{name: "does not hold a price to its units", op: func(op *Op) {
		rates := []square.Rate{{Unit: "in", PerMillion: 10}, {Unit: "out", PerMillion: 30}} // all quotes are at these
		if price, err := square.Price(rates, op.Receipt.Units); op.Verb == Claim && (err != nil || price != op.Receipt.Price) {
			op.Receipt.Units = []uint64{op.Receipt.Price * 100_000, 0}
		}
	}},
	{name: "lets one job cost more than its order says", lease: func(op Op, l *market.Lease) {
		if op.Verb == Claim && op.Receipt.Price > l.Order.JobValue {
			l.Order.JobValue = l.Order.Escrow
		}
	}},
	{name: "takes another lease's receipt", op: func(op *Op) {
		if op.Verb == Claim {
			op.Receipt.Lease = op.Lease
		}
	}},
	{name: "takes a receipt without a result", op: func(op *Op) {
		if op.Verb == Claim && op.Receipt.Result.IsZero() {
			op.Receipt.Result[0] = 1
		}
	}},
	{name: "takes a receipt of another place in a lane", op: func(op *Op) {
		if op.Verb == Claim {
			op.Receipt.Lane, op.Receipt.Seq = 0, 1
		}
	}},
	{name: "lets anybody claim", lease: func(op Op, l *market.Lease) {
		if op.Verb == Claim && op.By != l.Order.Buyer {
			l.Provider = op.By
		}
	}},
	{name: "lets the buyer say twice that it has nothing", lease: func(op Op, l *market.Lease) {
		if op.Verb == Withhold {
			l.Asked = false
		}
	}},
	{name: "lets a stranger say that it was withheld", lease: func(op Op, l *market.Lease) {
		if op.Verb == Withhold {
			l.Order.Buyer = op.By
		}
	}},
	{name: "lets another answer", lease: func(op Op, l *market.Lease) {
		if op.Verb == Answer {
			l.Provider = op.By
		}
	}},
	{name: "takes nothing for an answer", op: func(op *Op) {
		if op.Verb == Answer && op.Hash.IsZero() {
			op.Hash[0] = 1
		}
	}},
	{name: "gives an answered buyer's bond to the provider", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Answer {
			t.To = market.Account(op.By)
		}
		return once(t)
	}},
	{name: "lets an answer cost the provider", op: func(op *Op) {
		if op.Verb == Answer {
			op.Charge.Cost = 0
		}
	}},
	{name: "gives back any fee of an answer", machine: func(op Op, m *market.Machine) {
		if op.Verb == Answer {
			m.DisputeCost *= 2
		}
	}},
	{name: "gives the buyer no time after an answer", setLease: func(op Op, l *market.Lease) {
		if op.Verb == Answer {
			l.Deadline = op.Now + 1
		}
	}},
	{name: "cancels a result at work for 2 %", lease: func(op Op, l *market.Lease) {
		if op.Verb == Cancel && l.State == market.Active && l.Order.Mode == square.ModeResult {
			l.State = market.Matched
		}
	}},
	{name: "takes no claim in the notice of a close", lease: func(op Op, l *market.Lease) {
		if op.Verb == Claim && l.State == market.Draining {
			l.State = market.Settled
		}
	}},

	// Streams.
	{name: "forgives silence", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke {
			l.Order.Silence = 0
		}
	}},
	{name: "forgets what was added", setLease: func(op Op, l *market.Lease) {
		if op.Verb == TopUp {
			l.Added -= op.Units
		}
	}},
	{name: "tops up what is ending", lease: func(op Op, l *market.Lease) {
		if op.Verb == TopUp && l.State == market.Draining {
			l.State = market.Active
		}
	}},
	{name: "extends for ever", op: func(op *Op) {
		if op.Verb == Extend {
			op.Ends = min(op.Ends, op.Now+square.MaxDuration)
		}
	}},
	{name: "extends backwards", lease: func(op Op, l *market.Lease) {
		if op.Verb == Extend {
			l.Ends = min(l.Ends, op.Ends-1)
		}
	}},
	{name: "reclaims without the order's notice", lease: func(op Op, l *market.Lease) {
		if op.Verb == Reclaim {
			l.Order.Drain = 0
		}
	}},
	{name: "reclaims for longer than a lease that ended drains", lease: func(op Op, l *market.Lease) {
		if op.Verb == Reclaim {
			l.Ends += 5
		}
	}, setLease: func(op Op, l *market.Lease) {
		if op.Verb == Reclaim {
			l.Ends -= 5
		}
	}},
	{name: "pays what is disputed", lease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem {
			bend(l, func(d *market.Dispute) { d.Value = 0 })
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Redeem && old.Dispute != nil {
			bend(l, func(d *market.Dispute) { d.Value = old.Dispute.Value })
		}
	}},
	{name: "pays nothing while it is disputed", lease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem && l.State == market.Disputed {
			l.State = market.Claimed
		}
	}},
	{name: "lets challenges eat up a notice", machine: func(op Op, m *market.Machine) {
		if op.Verb == Judge || op.Verb == Prove {
			m.Notice = 0
		}
	}},
	{name: "sees no sign of life in a dispute", setLease: func(op Op, l *market.Lease) {
		if op.Verb == Redeem && l.State == market.Disputed && l.Dispute.Prior == market.Active {
			bend(l, func(d *market.Dispute) { d.PriorTime-- })
		}
	}},

	// Judges.
	{name: "keeps the seats' bonds", setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Vote && s.Locked < old.Locked {
			s.Locked = old.Locked
		}
	}},
	{name: "punishes no silent judge", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke {
			bend(l, func(d *market.Dispute) {
				for i := range d.Seats {
					d.Seats[i].Verdict = square.VerdictOK
				}
			})
		}
	}},
	{name: "burns all that silent judges lose", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Poke && between(t, market.PotStake, market.PotAccount) && t.From.Owner[0] == 0x1d {
			t.To = market.Burned
		}
		return once(t)
	}},
	{name: "decides by one vote less", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				for i, s := range d.Seats {
					if s.Judge != op.By && s.Verdict == "" {
						d.Seats[i].Verdict = op.Verdict
						return
					}
				}
			})
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Vote && l.State == market.Disputed {
			bend(l, func(d *market.Dispute) {
				for i, s := range d.Seats {
					if s.Judge != op.By {
						d.Seats[i] = old.Dispute.Seats[i]
					}
				}
			})
		}
	}},
	{name: "decides by two thirds of too few judges", machine: func(op Op, m *market.Machine) {
		if op.Verb == Vote {
			m.Seats = 1
		}
	}},
	{name: "wants all votes", machine: func(op Op, m *market.Machine) {
		if op.Verb == Vote {
			m.Seats++
		}
	}},
	{name: "shows votes while others commit", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) { d.Seated -= 1000 })
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) { d.Seated = old.Dispute.Seated })
		}
	}},
	{name: "takes ballots while others vote", lease: func(op Op, l *market.Lease) {
		if op.Verb == Commit {
			bend(l, func(d *market.Dispute) { d.Seated += 1000 })
		}
	}, setLease: func(op Op, l *market.Lease) {
		if op.Verb == Commit {
			bend(l, func(d *market.Dispute) { d.Seated -= 1000 })
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) { d.Seated = old.Dispute.Seated })
		}
	}},
	{name: "does not hold a vote to its ballot", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				for i, s := range d.Seats {
					if s.Judge == op.By {
						d.Seats[i].Ballot = square.Ballot(l.ID, op.By, d.Draw, op.Verdict, op.Hash)
					}
				}
			})
		}
	}},
	{name: "lets a judge vote again", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				for i, s := range d.Seats {
					if s.Judge == op.By {
						d.Seats[i].Verdict = ""
					}
				}
			})
		}
	}},
	{name: "seats judges that were silent before", lease: func(op Op, l *market.Lease) {
		if op.Verb == Seat {
			bend(l, func(d *market.Dispute) { d.Stood = nil })
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Seat {
			bend(l, func(d *market.Dispute) { d.Stood = old.Dispute.Stood })
		}
	}},
	{name: "seats a judge twice for one bond", setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Seat {
			s.Locked = old.Locked + min(s.Locked-old.Locked, 500)
		}
	}},
	{name: "seats a party", lease: func(op Op, l *market.Lease) {
		if op.Verb == Seat {
			l.Order.Buyer, l.Order.Authorizer, l.Provider = square.Address{}, square.Address{}, square.Address{}
			bend(l, func(d *market.Dispute) { d.Challenger = square.Address{} })
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Seat {
			l.Order, l.Provider = old.Order, old.Provider
			bend(l, func(d *market.Dispute) { d.Challenger = old.Dispute.Challenger })
		}
	}},
	{name: "seats who never enlisted", stake: func(op Op, s *market.Stake) {
		if op.Verb == Seat {
			s.Judge = true
		}
	}, setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Seat {
			s.Judge = old.Judge
		}
	}},
	{name: "seats judges while others sit", lease: func(op Op, l *market.Lease) {
		if op.Verb == Seat {
			bend(l, func(d *market.Dispute) { d.Seated = 0 })
		}
	}},
	{name: "lets the ledger find while judges sit", lease: func(op Op, l *market.Lease) {
		if op.Verb == Judge {
			bend(l, func(d *market.Dispute) { d.Seated = 0 })
		}
	}},
	{name: "takes it out on the wrong side that bytes are missing", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				if d.Owes == l.Provider {
					d.Owes = d.Challenger
				} else if !d.Owes.IsZero() {
					d.Owes = l.Provider
				}
			})
		}
	}, setLease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				if d.Owes == l.Provider {
					d.Owes = d.Challenger
				} else if !d.Owes.IsZero() {
					d.Owes = l.Provider
				}
			})
		}
	}},
	{name: "finds that bytes are missing which are on the ledger", lease: func(op Op, l *market.Lease) {
		if op.Verb == Vote {
			bend(l, func(d *market.Dispute) {
				if d.Owes.IsZero() {
					d.Owes = l.Provider
				}
			})
		}
	}, setLease: func(op Op, l *market.Lease) {
		if op.Verb == Vote && l.State == market.Disputed {
			bend(l, func(d *market.Dispute) {
				if d.Evidence[31]%7 == 0 {
					d.Owes = square.Address{}
				}
			})
		}
	}},
	{name: "pays no judge", machine: func(op Op, m *market.Machine) {
		if op.Verb == Vote {
			m.JudgeFee = 0
		}
	}},
	{name: "slashes whom silent judges have not judged", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke && l.State == market.Disputed && l.Dispute.Draw == 2 {
			bend(l, func(d *market.Dispute) { d.Way = market.ByProof })
		}
	}},
	{name: "gives a winner's fees back to nobody", op: func(op *Op) {
		if op.Verb == Challenge {
			op.Charge.Cost = 0
		}
	}},
	{name: "hears a challenge for less than a dispute costs", machine: func(op Op, m *market.Machine) {
		if op.Verb == Challenge {
			m.JudgeFee = 0
		}
	}},
	{name: "hears a provider against itself", lease: func(op Op, l *market.Lease) {
		if op.Verb == Challenge && op.By == l.Provider {
			l.Provider = square.Address{1}
		}
	}},
	{name: "lets a third party owe", op: func(op *Op) {
		if op.Verb == Challenge && op.Charge.Owes != op.By && op.Charge.Owes[0] != 0x90 && !op.Charge.Owes.IsZero() {
			op.Charge.Owes = op.By
		}
	}},
	{name: "enlists judges with nothing to lose", stake: func(op Op, s *market.Stake) {
		if op.Verb == Enlist {
			s.Total += 1000
		}
	}, setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Enlist {
			s.Total -= 1000
		}
	}},

	// Clocks, offers, newcomers.
	{name: "holds quotes to the slow clock", op: func(op *Op) {
		if op.Verb == Match {
			op.Lag = 0
		}
	}},
	{name: "holds orders to the slow clock", op: func(op *Op) {
		if op.Verb == Open && !replicated(op.Order) {
			op.Lag = 0
		}
	}},
	{name: "holds offers to the slow clock", op: func(op *Op) {
		if op.Verb == Offer || op.Verb == Drop {
			op.Lag = 0
		}
	}},
	{name: "lets deadlines come while nobody can be heard", op: func(op *Op) {
		if op.Verb == Poke {
			op.Now, op.Lag = op.Now+op.Lag, 0
		}
	}},
	{name: "lets children wait by the slow clock", setLease: func(op Op, l *market.Lease) {
		if l.Nth > 0 && l.State == market.Open && l.Of.IsZero() {
			l.Order.Expiry = l.Deadline
		}
	}},
	{name: "opens orders with short notices", machine: func(op Op, m *market.Machine) {
		if op.Verb == Open && !replicated(op.Order) {
			m.Notice--
		}
	}},
	{name: "leases for a bond that covers no dispute", machine: func(op Op, m *market.Machine) {
		if op.Verb == Match {
			m.JudgeFee, m.DisputeCost = 0, 0
		}
	}},
	{name: "lets a buyer be its own provider", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match {
			l.Order.Buyer = square.Address{}
		}
	}, setLease: func(op Op, l *market.Lease) {
		if op.Verb == Match {
			l.Order.Buyer = l.Order.Authorizer
		}
	}},
	{name: "fills any order from any offer", machine: func(op Op, m *market.Machine) {
		m.Fits = func(square.Offer, square.Order) error { return nil }
	}},
	{name: "gives newcomers all the leases they want", stake: func(op Op, s *market.Stake) {
		if op.Verb == Match {
			s.Jobs = 0
		}
	}, setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Match {
			s.Jobs += old.Jobs
		}
	}},
	{name: "counts no newcomer's lease out", setStake: func(op Op, s *market.Stake, old market.Stake) {
		if s.Jobs < old.Jobs {
			s.Jobs = old.Jobs
		}
	}},
	{name: "drops an offer in use", offer: func(op Op, o *market.Offer) {
		if op.Verb == Drop {
			o.InUse = 0
		}
	}},
	{name: "drops a live offer", offer: func(op Op, o *market.Offer) {
		if op.Verb == Drop {
			o.Expiry = 0
		}
	}},
	{name: "remembers no lease after it ended", after: func(op Op, ev []market.Event, m *market.Memory) bool {
		for _, e := range ev {
			if e.Kind == market.EvEnded {
				_ = m.DropLease(e.Lease)
				return true
			}
		}
		return false
	}},

	// Replicas.
	{name: "lets one run both replicas", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match && l.ID != op.Quote.Order && l.Bonded > 0 {
			l.Provider = square.Address{}
		}
	}},
	{name: "lets two newcomers agree", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match && l.ID != op.Quote.Order && !l.Provider.IsZero() {
			l.Bonded = 1
		}
	}},
	{name: "lets anybody come who was not drawn", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match && l.Drawn && !l.Invited.IsZero() && op.Quote.Bond > 0 {
			l.Invited = op.Quote.Provider
		}
	}},
	{name: "forgets who has failed", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match {
			l.Left = nil
		}
	}},
	{name: "leases replicas for less than they cost", lease: func(op Op, l *market.Lease) {
		if op.Verb == Match && !l.Of.IsZero() {
			l.Order.JobValue = 1
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Match {
			l.Order.JobValue = old.Order.JobValue
		}
	}},
	{name: "shows a result before all have one", lease: func(op Op, l *market.Lease) {
		if op.Verb == Show && l.ID == op.Lease && l.State == market.Committed {
			l.State = market.Showing
		}
	}},
	{name: "takes a copy for what was committed to", lease: func(op Op, l *market.Lease) {
		if op.Verb == Show && l.State == market.Showing && l.Ballot != op.Hash {
			l.Ballot = op.Hash
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Show {
			l.Ballot = old.Ballot
		}
	}},
	{name: "pays before the comparison", lease: func(op Op, l *market.Lease) {
		if op.Verb == Accept && l.State == market.Claimed && l.Agreed.IsZero() && l.Receipt != nil {
			l.Agreed = l.Receipt.Result
		}
	}},
	{name: "pays the outvoted", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke && l.State == market.Claimed && !l.Agreed.IsZero() {
			l.Agreed = l.Receipt.Result
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Poke && !old.Agreed.IsZero() {
			l.Agreed = old.Agreed
		}
	}},
	{name: "lets who shows nothing be merely late", lease: func(op Op, l *market.Lease) {
		if op.Verb == Poke && l.State == market.Showing {
			l.State = market.Active
		}
	}},
	{name: "lets newcomers keep what is on its way out", stake: func(op Op, s *market.Stake) {
		if op.Verb == Poke {
			s.Total, s.Unbonding = s.Total-s.Unbonding, 0
		}
	}, setStake: func(op Op, s *market.Stake, old market.Stake) {
		if op.Verb == Poke {
			s.Total, s.Unbonding, s.Until = s.Total+old.Unbonding, old.Unbonding, old.Until
		}
	}},
	{name: "lets three of five decide", lease: func(op Op, l *market.Lease) {
		if op.Verb == Show && l.ID != op.Lease && l.Nth == 2 && l.Receipt != nil {
			r := *l.Receipt
			r.Result = op.Receipt.Result
			l.Receipt = &r
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Show && l.ID != op.Lease {
			l.Receipt = old.Receipt
		}
	}},
	{name: "pays a newcomer whom nobody has compared", lease: func(op Op, l *market.Lease) {
		if op.Verb != Match && l.ID != op.Lease && l.State == market.Claimed && l.Bonded == 0 {
			l.Bonded = 1
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb != Match && l.ID != op.Lease {
			l.Bonded = old.Bonded
		}
	}},
	{name: "lets replicators judge each other", lease: func(op Op, l *market.Lease) {
		if op.Verb == Seat {
			l.Peers = nil
		}
	}, restore: func(op Op, l *market.Lease, old market.Lease) {
		if op.Verb == Seat {
			l.Peers = old.Peers
		}
	}},
	{name: "draws who has not enlisted", stake: func(op Op, s *market.Stake) {
		if op.Verb == Invite {
			s.Judge = true
		}
	}},
	{name: "draws who runs another replica", lease: func(op Op, l *market.Lease) {
		if op.Verb == Invite && l.ID != op.Lease {
			l.Provider = square.Address{}
		}
	}},
	{name: "cancels what others work on", lease: func(op Op, l *market.Lease) {
		if op.Verb == Cancel && l.ID != op.Lease && !l.Of.IsZero() {
			l.State, l.Drawn = market.Open, false
		}
	}},
	{name: "loses a replica's escrow", move: func(op Op, t market.Transfer) []market.Transfer {
		if op.Verb == Abandon && between(t, market.PotEscrow, market.PotEscrow) {
			t.To = market.Burned
		}
		return once(t)
	}},
	{name: "gives a provider no time to show", setLease: func(op Op, l *market.Lease) {
		if op.Verb == Commit && l.State == market.Showing {
			l.Deadline = op.Now
		}
	}},
}

// TestSaboteurs requires that the walk notices every one of the saboteurs, and
// none where there is none. Some bugs are met seldom: they have several walks.
func TestSaboteurs(t *testing.T) {
	const most, walks = 40_000, 8
	var report strings.Builder
	if len(saboteurs) < 130 {
		t.Fatalf("only %d saboteurs", len(saboteurs))
	}
	for _, by := range append(saboteurs, saboteur{}) {
		var caught error
		n := 0
		for seed := range uint64(walks) {
			if by.name == "" && seed > 0 || caught != nil {
				break
			}
			more := 0
			more, caught = by.walk(3+seed, most)
			n += more
		}
		switch {
		case by.name == "" && caught != nil:
			t.Errorf("nobody sabotaged, yet: %v", caught)
		case by.name != "" && caught == nil:
			t.Errorf("%s: not noticed in %d walks of %d steps", by.name, walks, most)
		case by.name != "":
			fmt.Fprintf(&report, "%6d  %-50s %s\n", n, by.name, brief(caught))
		}
	}
	t.Logf("%d saboteurs, by the step that gave them away:\n%s", len(saboteurs), &report)
}

// walk walks until the saboteur is noticed, most steps at most.
func (by saboteur) walk(seed uint64, most int) (n int, caught error) {
	h := newHistory(seed)
	if by.params != nil {
		by.params(&h.machine.Params)
	}
	var current Op
	store := bent{h.tap, &by, &current}
	h.apply = func(op Op) ([]market.Event, error) {
		if by.op != nil {
			by.op(&op)
		}
		current = op
		m := h.machine
		if by.machine != nil {
			by.machine(op, &m)
		}
		events, err := op.Apply(m, store)
		if err == nil && by.after != nil && by.after(op, events, h.memory) {
			h.tap.Leases[op.Lease] = true
		}
		return events, err
	}
	for ; n < most && caught == nil; n++ {
		caught = h.step()
		if caught == nil && n%1000 == 999 {
			caught = h.oracle.CheckAll(h.memory, h.walker.Denoms)
		}
	}
	return n, caught
}

func brief(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > 150 {
		s = s[:150] + "…"
	}
	return s
}
