package market

import (
	"container/heap"
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
)

// Memory is a Store in memory, with accounts, a queue of deadlines and
// rollback. It is for tests, projections and simulations; one goroutine at a
// time may use it. Use NewMemory.
type Memory struct {
	leases map[square.Hash]Lease
	offers map[OfferKey]Offer
	stakes map[StakeKey]Stake
	used   map[square.Hash]int64
	pots   map[potDenom]uint64
	queue  deadlines
	undo   []func()
	marks  int
}

type potDenom struct {
	Pot   Pot
	Denom string
}

// NewMemory is an empty square.
func NewMemory() *Memory {
	return &Memory{
		leases: map[square.Hash]Lease{}, offers: map[OfferKey]Offer{}, stakes: map[StakeKey]Stake{},
		used: map[square.Hash]int64{}, pots: map[potDenom]uint64{},
	}
}

// Atomically runs f and, if it fails, undoes all that it did to the store.
func (m *Memory) Atomically(f func() error) error {
	mark := len(m.undo)
	m.marks++
	err := f()
	m.marks--
	if err != nil {
		for i := len(m.undo) - 1; i >= mark; i-- {
			m.undo[i]()
		}
		m.undo = m.undo[:mark]
	}
	if m.marks == 0 {
		m.undo = m.undo[:0]
	}
	return err
}

// put writes a map entry so that Atomically can take it back.
func put[K comparable, V any](m *Memory, to map[K]V, k K, v V) {
	if m.marks > 0 {
		old, had := to[k]
		m.undo = append(m.undo, func() {
			if had {
				to[k] = old
			} else {
				delete(to, k)
			}
		})
	}
	to[k] = v
}

// drop deletes a map entry so that Atomically can take it back.
func drop[K comparable, V any](m *Memory, from map[K]V, k K) {
	if old, had := from[k]; had && m.marks > 0 {
		m.undo = append(m.undo, func() { from[k] = old })
	}
	delete(from, k)
}

func (m *Memory) Lease(id square.Hash) (Lease, error) {
	l, ok := m.leases[id]
	if !ok {
		return l, ErrNotFound
	}
	return l, nil
}

func (m *Memory) SetLease(l Lease) error {
	put(m, m.leases, l.ID, l)
	heap.Push(&m.queue, deadline{l.Deadline, l.ID})
	if len(m.queue) > 64+8*len(m.leases) { // mostly stale: start over
		m.queue = m.queue[:0]
		for _, l := range m.leases {
			m.queue = append(m.queue, deadline{l.Deadline, l.ID})
		}
		heap.Init(&m.queue)
	}
	return nil
}

func (m *Memory) DropLease(id square.Hash) error {
	drop(m, m.leases, id)
	return nil
}

func (m *Memory) Offer(k OfferKey) (Offer, error) {
	o, ok := m.offers[k]
	if !ok {
		return o, ErrNotFound
	}
	return o, nil
}

func (m *Memory) SetOffer(o Offer) error {
	put(m, m.offers, o.Key(), o)
	return nil
}

func (m *Memory) DropOffer(k OfferKey) error {
	drop(m, m.offers, k)
	return nil
}

func (m *Memory) Stake(k StakeKey) (Stake, error) { return m.stakes[k], nil }

func (m *Memory) SetStake(k StakeKey, s Stake) error {
	put(m, m.stakes, k, s)
	return nil
}

func (m *Memory) Used(h square.Hash) (bool, error) {
	_, ok := m.used[h]
	return ok, nil
}

func (m *Memory) Use(h square.Hash, until int64) error {
	put(m, m.used, h, until)
	return nil
}

func (m *Memory) Move(from, to Pot, a square.Amount) error {
	if a.Units == 0 || a.Units > square.MaxUnits {
		return fmt.Errorf("move: amount %d is out of range", a.Units)
	}
	if from != Minted {
		k := potDenom{from, a.Denom}
		switch has := m.pots[k]; {
		case has < a.Units:
			return fmt.Errorf("%w: %v has %d %s of %d", ErrFunds, from, has, a.Denom, a.Units)
		case has == a.Units:
			drop(m, m.pots, k)
		default:
			put(m, m.pots, k, has-a.Units)
		}
	} else {
		// What was minted is counted, so that money can be shown to be conserved.
		k := potDenom{Minted, a.Denom}
		put(m, m.pots, k, m.pots[k]+a.Units)
	}
	k := potDenom{to, a.Denom}
	put(m, m.pots, k, m.pots[k]+a.Units)
	return nil
}

// Fund mints money into an account, as a genesis or a faucet would.
func (m *Memory) Fund(a square.Address, amount square.Amount) error {
	return m.Move(Minted, Account(a), amount)
}

// Balance is what a pot holds; of Minted and Burned, what has ever passed.
func (m *Memory) Balance(p Pot, denom string) uint64 { return m.pots[potDenom{p, denom}] }

// Total is the sum of all pots of a denom but Minted, which it equals as long
// as no money was made or lost.
func (m *Memory) Total(denom string) (sum uint64) {
	for k, v := range m.pots {
		if k.Denom == denom && k.Pot != Minted {
			sum += v
		}
	}
	return sum
}

// Leases are all leases the store remembers, by id.
func (m *Memory) Leases() []Lease {
	ls := make([]Lease, 0, len(m.leases))
	for _, l := range m.leases {
		ls = append(ls, l)
	}
	slices.SortFunc(ls, func(a, b Lease) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return ls
}

// Offers are all offers, by id.
func (m *Memory) Offers() []Offer {
	os := make([]Offer, 0, len(m.offers))
	for _, o := range m.offers {
		os = append(os, o)
	}
	slices.SortFunc(os, func(a, b Offer) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return os
}

// Stakes are all stakes.
func (m *Memory) Stakes() map[StakeKey]Stake { return m.stakes }

// Due takes up to n leases whose deadline has come out of the queue, earliest
// first. The caller pokes or prunes each; SetLease files it again.
func (m *Memory) Due(now int64, n int) (due []square.Hash) {
	for len(due) < n && len(m.queue) > 0 && m.queue[0].at <= now {
		d := heap.Pop(&m.queue).(deadline)
		// An entry whose lease has moved on is stale; a lease that was written
		// twice with one deadline has two.
		if l, ok := m.leases[d.lease]; ok && l.Deadline == d.at && !slices.Contains(due, d.lease) {
			due = append(due, d.lease)
		}
	}
	return due
}

type deadline struct {
	at    int64
	lease square.Hash
}

type deadlines []deadline

func (q deadlines) Len() int           { return len(q) }
func (q deadlines) Less(i, j int) bool { return q[i].at < q[j].at }
func (q deadlines) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *deadlines) Push(x any)        { *q = append(*q, x.(deadline)) }
func (q *deadlines) Pop() any {
	d := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return d
}
