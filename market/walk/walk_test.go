package walk

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

var (
	steps = flag.Int("steps", 1_000_000, "steps of TestWalk (a tenth with -short)")
	seed  = flag.Uint64("seed", 1, "seed of TestWalk")
	table = flag.Bool("table", false, "TestWalk prints its coverage")
)

const start = 1_790_000_000

// history is a walk under way.
type history struct {
	machine market.Machine
	memory  *market.Memory
	tap     *Tap
	store   market.Store // what the machine sees; the tap, unless sabotaged
	apply   func(Op) ([]market.Event, error)
	oracle  *Oracle
	walker  *Walker
	events  int
}

func newHistory(seed uint64) *history {
	p := Params()
	if err := p.Check(); err != nil {
		panic(err)
	}
	h := &history{machine: market.Machine{Params: p, Fits: Fits}, memory: market.NewMemory(), oracle: NewOracle(p)}
	h.tap = NewTap(h.memory)
	h.store = h.tap
	people := Somebody(4, 4, 3, 10)
	h.walker = New(seed, p, square.LedgerDomain("walk-1"), people, h.memory, start)
	for _, a := range people.All() {
		for _, d := range h.walker.Denoms {
			m := square.Amount{Units: 1 << 50, Denom: d}
			h.oracle.Fund(a, m)
			if err := h.memory.Fund(a, m); err != nil {
				panic(err)
			}
		}
	}
	h.apply = func(op Op) ([]market.Event, error) { return op.Apply(h.machine, h.store) }
	return h
}

func (h *history) step() error {
	op := h.walker.Next()
	legal := h.oracle.Expect(op)
	h.tap.Reset()
	var events []market.Event
	err := h.memory.Atomically(func() (err error) {
		events, err = h.apply(op)
		return err
	})
	h.walker.Saw(op, events, err)
	if err != nil && len(h.tap.Pots)+len(h.tap.Leases)+len(h.tap.Stakes)+len(h.tap.Offers) > 0 && !errors.Is(err, market.ErrFunds) {
		return fmt.Errorf("%v: it failed after it had begun to write: %w", op, err)
	}
	h.events += len(events)
	return h.oracle.Compare(op, legal, err, h.memory, h.tap)
}

// TestWalk takes a million steps, each checked against the oracle and the
// invariants, and requires that every exit was taken many times.
func TestWalk(t *testing.T) {
	n := *steps
	if testing.Short() {
		n /= 10
	}
	h := newHistory(*seed)
	began := time.Now()
	for i := range n {
		if err := h.step(); err != nil {
			t.Fatalf("seed %d, step %d: %v", *seed, i, err)
		}
		if i%10_000 == 0 {
			if err := h.oracle.CheckAll(h.memory, h.walker.Denoms); err != nil {
				t.Fatalf("seed %d, step %d: %v", *seed, i, err)
			}
		}
	}
	if err := h.oracle.CheckAll(h.memory, h.walker.Denoms); err != nil {
		t.Fatal(err)
	}

	// I5: one silence, one poke each; then children, whose own silence has yet
	// to come, the same.
	for round := 0; len(h.oracle.open) > 0; round++ {
		if round > 8 {
			t.Fatalf("I5: %d leases still open", len(h.oracle.open))
		}
		h.walker.now += 100_000
		for _, id := range slices.Collect(maps.Keys(h.oracle.open)) {
			op := Op{Verb: Poke, Lease: id, Now: h.walker.now, Lag: h.walker.lag}
			h.tap.Reset()
			legal := h.oracle.Expect(op)
			_, err := op.Apply(h.machine, h.tap)
			if err := h.oracle.Compare(op, legal, err, h.memory, h.tap); err != nil {
				t.Fatal(err)
			}
			if l, err := h.memory.Lease(id); err != nil || !l.State.Terminal() {
				t.Fatalf("I5: after a silence and a poke lease %s is %s", id.Short(), l.State)
			}
		}
	}
	took := time.Since(began)
	t.Logf("%d steps, %d events, %.0f steps/s", n, h.events, float64(n)/took.Seconds())
	seen := h.oracle.Seen
	if *table {
		for _, k := range slices.Sorted(maps.Keys(seen)) {
			t.Logf("%8d %s", seen[k], k)
		}
	}
	least := slices.MinFunc(exits, func(a, b string) int { return seen[a] - seen[b] })
	t.Logf("%d exits and refusals are to be met; the rarest met, %q, %d times", len(exits), least, seen[least])
	for _, k := range exits {
		if seen[k]*10_000 < n {
			t.Errorf("only %d of %q in %d steps", seen[k], k, n)
		}
	}
	for _, k := range rare {
		if seen[k] < n/200_000 {
			t.Errorf("only %d of %q in %d steps", seen[k], k, n)
		}
	}
	for v := range maps.Keys(seen) {
		if strings.Contains(v, "->") && !slices.Contains(exits, v) && !slices.Contains(rare, v) {
			t.Errorf("the diagram has no %q", v)
		}
	}
}

// exits are all transitions of the package documentation's diagram, and what
// else must have been met.
var exits = []string{
	"open -> matched", "open -> cancelled (cancelled)", "open -> cancelled (expired)",
	"matched -> active", "matched -> cancelled (cancelled)", "matched -> failed (no_start)", "matched -> failed (abandoned)",

	"active/stream -> failed (idle)", "active/stream -> failed (abandoned)",
	"active/stream -> draining (ended)", "active/stream -> draining (closed)", "active/stream -> draining (reclaimed)",
	"active/stream -> settled (agreed)", "active/stream -> disputed",
	"draining/stream -> settled (closed)", "draining/stream -> settled (ended)", "draining/stream -> settled (reclaimed)", "draining/stream -> settled (agreed)",
	"draining/stream -> draining (closed)", "draining/stream -> disputed",
	"disputed/stream -> active", "disputed/stream -> draining (closed)", "disputed/stream -> draining (ended)", "disputed/stream -> draining (reclaimed)",
	"disputed/stream -> slashed (fraud)", "disputed/stream -> slashed (unproven)", "disputed/stream -> slashed (withheld)",

	"active/result -> claimed", "active/result -> draining (closed)", "active/result -> failed (late)", "active/result -> failed (abandoned)",
	"draining/result -> claimed", "draining/result -> settled (closed)",
	"claimed -> settled (accepted)", "claimed -> settled (unchallenged)", "claimed -> owed", "claimed -> disputed",
	"owed -> claimed", "owed -> slashed (withheld)",
	"disputed/result -> settled (upheld)", "disputed/result -> settled (judges_silent)",
	"disputed/result -> slashed (fraud)", "disputed/result -> slashed (unproven)", "disputed/result -> slashed (withheld)",

	"replicating -> settled (replicated)", "replicating -> failed (no_replicas)", "replicating -> failed (disagreed)", "replicating -> cancelled (cancelled)",
	"active/result -> committed", "committed -> showing", "showing -> claimed",
	"showing -> slashed (unshown)", "showing -> failed (late)", "claimed -> slashed (outvoted)",
	"open -> failed (no_replicas)", "committed -> failed (no_replicas)", "claimed -> failed (disagreed)",
	"replica", "replica for who is drawn", "replaced", "invited", "another is drawn", "forfeit", "a lone replicator", "two newcomers", "who was not drawn",
	"two agree", "two differ", "four of five agree", "shown by one left alone",
	"poke committed", "poke showing", "invite refused", "show refused",

	"bond", "unbond", "unbonded", "enlist", "offer", "withdraw", "drop", "open", "prune", "holdback", "another spec", "too many without a bond",
	"heard enough", "proved", "seated", "fewer judges than seats", "a judge has two seats", "commit", "commit again", "vote", "redrawn", "given up, and goes on",
	"found ok", "found fraud", "found that the provider owes", "found that another owes",
	"silent judge", "a silent judge pays the challenger", "a silent judge pays the provider",
	"claimed by the buyer", "top up", "extend", "fine for silence",
	"redeem in active", "redeem in draining", "redeem in disputed", "redeem stale", "redeem final",
	"failover after matched", "failover after active", "failover after draining",
	"poke open", "poke matched", "poke active", "poke draining", "poke claimed", "poke owed", "poke disputed",

	"bond refused", "unbond refused", "unbonded refused", "enlist refused", "offer refused", "drop refused", "open refused", "openmatched refused",
	"match refused", "start refused", "redeem refused", "topup refused", "extend refused", "close refused", "reclaim refused", "abandon refused", "cancel refused",
	"claim refused", "withhold refused", "answer refused", "accept refused", "challenge refused", "judge refused", "seat refused", "commit refused", "vote refused",
	"prove refused", "poke refused", "prune refused",
}

// rare is what a walk meets seldom: replicas that end with their order in some state.
var rare = []string{
	"open -> failed (disagreed)", "matched -> failed (no_replicas)", "matched -> failed (disagreed)", "active/result -> failed (no_replicas)",
	"active/result -> failed (disagreed)", "committed -> failed (disagreed)", "showing -> failed (no_replicas)", "showing -> failed (disagreed)",
	"claimed -> failed (no_replicas)", "poke replicating", "notice again", "left alone with a claim", "claim of a replica left alone",
}

// TestEventsCarryTheMoney replays the transfers that events report and requires
// the balances of the store itself, and that the states they report link up.
func TestEventsCarryTheMoney(t *testing.T) {
	h := newHistory(7)
	replay := market.NewMemory()
	for _, a := range h.walker.All() {
		for _, d := range h.walker.Denoms {
			if err := replay.Fund(a, square.Amount{Units: 1 << 50, Denom: d}); err != nil {
				t.Fatal(err)
			}
		}
	}
	states := map[square.Hash]market.State{}
	apply := h.apply
	h.apply = func(op Op) ([]market.Event, error) {
		events, err := apply(op)
		if err != nil {
			return events, err
		}
		for _, e := range events {
			for _, m := range e.Moves {
				if err := replay.Move(m.From, m.To, m.Amount); err != nil {
					t.Fatalf("%v: replaying %v: %v", op, m, err)
				}
			}
			if e.Lease.IsZero() {
				continue
			}
			if was := states[e.Lease]; was != "" && was != e.From {
				t.Fatalf("%v: event %s says the lease was %s, the one before left it %s", op, e.Kind, e.From, was)
			}
			states[e.Lease] = e.To
			if l, err := h.memory.Lease(e.Lease); err == nil && e.Kind == market.EvEnded && (l.State != e.To || l.Reason != e.Reason || l.Child != e.Ref) {
				t.Fatalf("%v: the event says %s (%s), the lease %s (%s)", op, e.To, e.Reason, l.State, l.Reason)
			}
		}
		return events, nil
	}
	for range 20_000 {
		if err := h.step(); err != nil {
			t.Fatal(err)
		}
	}
	for k, want := range h.oracle.pots {
		if got := replay.Balance(k.Pot, k.Denom); got != want {
			t.Fatalf("by the events %v has %d %s, it has %d", k.Pot, got, k.Denom, want)
		}
	}
}

// TestProjection requires that what Project promised is what a poke at that
// time does, and that a projection writes nothing.
func TestProjection(t *testing.T) {
	h := newHistory(11)
	apply, checked := h.apply, 0
	h.apply = func(op Op) ([]market.Event, error) {
		l, err := h.memory.Lease(op.Lease)
		if op.Verb != Poke || err != nil || l.State.Terminal() || !op.By.IsZero() {
			return apply(op)
		}
		m := h.machine
		m.Lag = op.Lag
		p, err := m.Project(h.memory, op.Now, op.Lease)
		if err != nil {
			t.Fatalf("%v: project: %v", op, err)
		}
		events, err := apply(op)
		if l, _ := h.memory.Lease(op.Lease); err == nil && l.State.Terminal() && p.At == op.Now {
			checked++
			var moves []market.Transfer
			for _, e := range events {
				moves = append(moves, e.Moves...)
			}
			if p.State != l.State || p.Reason != l.Reason || !reflect.DeepEqual(p.Moves, moves) || (p.Child == nil) != l.Child.IsZero() {
				t.Fatalf("%v: projected %+v, became %s (%s) with %v", op, p, l.State, l.Reason, moves)
			}
		}
		return events, err
	}
	for range 20_000 {
		if err := h.step(); err != nil {
			t.Fatal(err)
		}
	}
	if checked < 100 {
		t.Fatalf("only %d projections came true in time", checked)
	}
}

func BenchmarkWalk(b *testing.B) {
	h := newHistory(1)
	for b.Loop() {
		if err := h.step(); err != nil {
			b.Fatal(err)
		}
	}
}
