package market

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/torg-network/torg/square"
)

// beacon is one of many.
func beacon(n int) square.Hash {
	var h square.Hash
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return square.Label(h, []byte("a test's"))
}

// bench are candidates of a kind, with so much stake each.
func bench(kind byte, stakes ...uint64) (cs []Candidate) {
	for i, s := range stakes {
		cs = append(cs, Candidate{Judge: square.Address{kind, 18: byte(i >> 8), 19: byte(i)}, Weight: s, Most: 64})
	}
	return cs
}

func many(n int, stake uint64) []uint64 { return slices.Repeat([]uint64{stake}, n) }

// seatsOf counts the seats of a kind of judges.
func seatsOf(kind byte, drawn []square.Address) (n int) {
	for _, j := range drawn {
		if j[0] == kind {
			n++
		}
	}
	return n
}

func TestDraw(t *testing.T) {
	cs := bench(1, 5, 1, 7, 100, 3, square.MaxUnits, 2)
	was := slices.Clone(cs)
	first := Draw(beacon(1), cs, 32)
	if !slices.Equal(cs, was) {
		t.Error("a draw changed its candidates")
	}
	back := slices.Clone(cs)
	slices.Reverse(back)
	if again := Draw(beacon(1), back, 32); !slices.Equal(first, again) {
		t.Errorf("the order of the candidates matters: %v and %v", first, again)
	}
	if other := Draw(beacon(2), bench(1, many(50, 9)...), 32); slices.Equal(Draw(beacon(1), bench(1, many(50, 9)...), 32), other) {
		t.Error("the beacon does not matter")
	}
	if len(first) != 32 {
		t.Errorf("%d of 32 seats were drawn", len(first))
	}
	// Nobody sits more often than it can bond, and nobody without stake sits.
	cs = bench(1, many(5, 10)...)
	for i := range cs {
		cs[i].Most = uint64(i)
	}
	cs = append(cs, bench(2, 0, 0)...)
	for n := range 100 {
		drawn, sits := Draw(beacon(n), cs, 32), map[square.Address]uint64{}
		for _, j := range drawn {
			sits[j]++
		}
		for _, c := range cs {
			if want := c.Most; c.Weight > 0 && sits[c.Judge] != want || c.Weight == 0 && sits[c.Judge] != 0 {
				t.Fatalf("%v sits %d times, can %d", c.Judge, sits[c.Judge], want)
			}
		}
	}
	for _, none := range [][]Candidate{nil, bench(1, 0), {{Judge: square.Address{1}, Weight: 5}}} {
		if drawn := Draw(beacon(1), none, 32); len(drawn) != 0 {
			t.Errorf("%v were drawn of %v", drawn, none)
		}
	}
}

// TestDrawByStake requires that judges sit in proportion to their stake, by a
// chi-square test with nine degrees of freedom: 27.9 is exceeded by chance once in
// a thousand.
func TestDrawByStake(t *testing.T) {
	cs := bench(1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	sits := map[square.Address]float64{}
	const draws = 2000
	for n := range draws {
		for _, j := range Draw(beacon(n), cs, 32) {
			sits[j]++
		}
	}
	var chi float64
	for _, c := range cs {
		want := draws * 32 * float64(c.Weight) / 55
		chi += (sits[c.Judge] - want) * (sits[c.Judge] - want) / want
	}
	if chi > 27.9 {
		t.Errorf("chi-square is %.1f: %v", chi, sits)
	}
	t.Logf("chi-square %.1f", chi)
}

// TestCuttingStakeUpGainsNothing: whoever spreads its stake over many judges sits no
// more often. If a judge had one seat at most, 28 of the least stake would sit in 27
// of 32 seats beside five with a thousand times as much each.
func TestCuttingStakeUpGainsNothing(t *testing.T) {
	const draws = 2000
	for name, c := range map[string]struct {
		honest, sybils []uint64
		share          float64
	}{
		"dust":                   {many(5, 1_000_000_000), many(28, 100_000), 2.8e6 / (5e9 + 2.8e6)},
		"a third in a hundred":   {many(4, 500), many(100, 10), 1. / 3},
		"a third in one":         {many(200, 10), many(1, 1000), 1. / 3},
		"a quarter, as the rest": {many(60, 10), many(20, 10), 1. / 4},
	} {
		sum, most := 0, 0
		for n := range draws {
			k := seatsOf(2, Draw(beacon(n), append(bench(1, c.honest...), bench(2, c.sybils...)...), 32))
			sum, most = sum+k, max(most, k)
		}
		mean, want := float64(sum)/draws, 32*c.share
		if sd := math.Sqrt(32 * c.share * (1 - c.share) / draws); math.Abs(mean-want) > 4*sd {
			t.Errorf("%s: %.3f seats in the mean, want %.3f", name, mean, want)
		}
		if most >= Default().Quorum(32) {
			t.Errorf("%s: once it had %d seats", name, most)
		}
		t.Logf("%s: %.3f of 32 seats in the mean, %d at most", name, mean, most)
	}
}

// tail is the chance of at least k heads in n throws of a coin that shows heads with
// chance p.
func tail(n, k int, p *big.Rat) float64 {
	sum, q := new(big.Rat), new(big.Rat).Sub(big.NewRat(1, 1), p)
	for i := k; i <= n; i++ {
		x := new(big.Rat).SetInt(new(big.Int).Binomial(int64(n), int64(i)))
		for j := range n {
			if j < i {
				x.Mul(x, p)
			} else {
				x.Mul(x, q)
			}
		}
		sum.Add(sum, x)
	}
	f, _ := sum.Float64()
	return f
}

// TestCollusion states what judges that collude, with so much of all judges' stake,
// can do: decide against the others, or keep a draw from deciding. It holds the
// package documentation to it.
func TestCollusion(t *testing.T) {
	p := Default()
	seats, quorum := int(p.Seats), p.Quorum(int(p.Seats))
	if seats != 32 || quorum != 22 {
		t.Fatalf("%d of %d", quorum, seats)
	}
	for _, c := range []struct {
		share                   *big.Rat
		rules, ever, stops, all float64 // one draw is theirs, or one of three; a draw finds nothing, or none of three does
	}{
		{big.NewRat(1, 10), 2.4e-15, 2.4e-15, 1.8e-4, 5.3e-12},
		{big.NewRat(1, 4), 2.5e-7, 2.9e-7, 0.16, 0.0037},
		{big.NewRat(3, 10), 7.0e-6, 1.1e-5, 0.36, 0.046},
		{big.NewRat(1, 3), 4.6e-5, 8.1e-5, 0.52, 0.14},
	} {
		rules, stops := tail(seats, quorum, c.share), tail(seats, seats-quorum+1, c.share)
		none := stops - rules
		ever, all := rules*(1+none+none*none), none*none*none
		t.Logf("%v of the stake: decides a draw 1 in %.3g, a dispute 1 in %.3g; stops a draw %.3g, a dispute %.3g", c.share, 1/rules, 1/ever, none, all)
		for _, x := range [][2]float64{{rules, c.rules}, {ever, c.ever}, {none, c.stops}, {all, c.all}} {
			if x[0] > x[1] || x[0] < 0.9*x[1] {
				t.Errorf("%v of the stake: %g, stated is %g", c.share, x[0], x[1])
			}
		}
	}
	// A draw does as the coin does: by a chi-square test with 20 degrees of freedom,
	// of which 45.3 is exceeded by chance once in a thousand.
	const draws = 5000
	third := big.NewRat(1, 3)
	cs := append(bench(1, many(40, 10)...), bench(2, 100, 50, 25, 10, 5, 4, 3, 2, 1)...)
	var had [33]float64
	for n := range draws {
		had[seatsOf(2, Draw(beacon(n), cs, 32))]++
	}
	var chi float64
	for k := 0; k <= 20; k++ {
		want := draws * (tail(32, k, third) - tail(32, k+1, third))
		got := had[k]
		if k == 20 {
			want = draws * tail(32, 20, third)
			for _, n := range had[21:] {
				got += n
			}
		}
		chi += (got - want) * (got - want) / max(want, 1)
	}
	if chi > 45.3 {
		t.Errorf("chi-square is %.1f: %v", chi, had)
	}
}

func TestQuorum(t *testing.T) {
	p := Default()
	for seats, want := range map[int]int{32: 22, 31: 31, 1: 1, 5: 5} {
		if got := p.Quorum(seats); got != want {
			t.Errorf("%d of %d seats decide, want %d", got, seats, want)
		}
	}
	for seats := 1; seats <= MaxSeats; seats++ {
		p.Seats = uint64(seats)
		if got := p.Quorum(seats); 3*got < 2*seats || 3*(got-1) >= 2*seats {
			t.Errorf("%d of %d seats decide", got, seats)
		}
	}
}

func FuzzDraw(f *testing.F) {
	f.Add([]byte("beacon"), []byte{1, 2, 3, 255, 0, 9}, uint8(32))
	f.Add([]byte{}, []byte{0, 0}, uint8(3))
	f.Fuzz(func(t *testing.T, b, stakes []byte, seats uint8) {
		var cs []Candidate
		var most int
		for i, s := range stakes {
			c := Candidate{Judge: square.Address{byte(i), byte(i >> 8)}, Weight: uint64(s) << (s % 64), Most: uint64(s % 5)}
			if c.Weight > 0 {
				most += int(c.Most)
			}
			cs = append(cs, c)
		}
		var h square.Hash
		copy(h[:], b)
		if drawn := Draw(h, cs, int(seats)); len(drawn) != min(int(seats), most) {
			t.Errorf("%d of %d seats, of %d that can be bonded", len(drawn), seats, most)
		}
	})
}

// TestHonestAuditor plays the smallest job there is, with the default parameters: who
// challenges it, rightly, has its fees back and more, and every judge that voted so
// its fee. A wrong challenge pays the same judges, and the provider more than its fees.
func TestHonestAuditor(t *testing.T) {
	for _, found := range []square.Verdict{square.VerdictFraud, square.VerdictOK} {
		st := newStory()
		st.m.Params = Default()
		p := st.m.Params
		do := func(events []Event, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		cast := []square.Address{person("ann"), person("bob"), person("cat")}
		var judges []square.Address
		for i := range p.Seats {
			judges = append(judges, square.Address{0x1d, byte(i)})
		}
		for _, a := range append(cast, judges...) {
			if err := st.store.Fund(a, square.Utorg(1_000_000)); err != nil {
				t.Fatal(err)
			}
			do(st.m.Bond(st.store, st.now, a, "infer", square.Utorg(500_000)))
		}
		for _, j := range judges {
			do(st.m.Enlist(st.store, st.now, StakeKey{j, "infer", square.Denom}, true))
		}
		st.play([]string{"offer", "bob"})
		do(st.order("one", "ann", args{
			"mode": "result", "escrow": "1", "job": "1", "provider": "bob", "bond": "370000", "start": "60", "challenge": "60", "drain": "60",
		}, square.Denom, true))
		id := st.names["one"]
		do(st.m.Claim(st.store, st.now, cast[1], id, st.receipt(id, args{"price": "1"})))
		do(st.m.Challenge(st.store, st.now, cast[2], id, Charge{Way: ByJudges, Evidence: square.Hash{1}, Value: 1, Cost: p.DisputeCost}, p.Dispute()))
		do(st.m.Seat(st.store, st.now, id, judges))
		for _, j := range judges {
			do(st.m.Commit(st.store, st.now, j, id, square.Ballot(id, j, 0, found, square.Hash{9})))
		}
		st.now += int64(p.Verdict / 2)
		for _, j := range judges[:p.Quorum(int(p.Seats))] {
			do(st.m.Vote(st.store, st.now, j, id, found, square.Hash{9}))
		}
		for i, j := range judges {
			want := uint64(500_000)
			if i < p.Quorum(int(p.Seats)) {
				want += p.JudgeFee
			}
			if got := st.store.Balance(Account(j), square.Denom); got != want {
				t.Errorf("%s: judge %d has %d, want %d", found, i, got, want)
			}
		}
		winner := cast[2]
		if found == square.VerdictOK {
			winner = cast[1]
		}
		if got, least := st.store.Balance(Account(winner), square.Denom), 500_000+p.DisputeCost; got <= least {
			t.Errorf("%s: the winner has %d, want more than %d, which pays its fees", found, got, least)
		} else {
			t.Logf("%s: the winner has %d beyond its fees", found, got-least)
		}
	}
}

// paneled plays a stream whose judges, three with several seats each, found something
// about a piece of work, while ballots cost so much more than usual.
func paneled(t *testing.T, found square.Verdict, more uint64) (st *story, id square.Hash, judges []square.Address) {
	t.Helper()
	st = newStory()
	st.m.Params = Default()
	st.m.BallotCost = more
	p := st.m.Params
	do := func(events []Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	judges = []square.Address{{0x1d, 1}, {0x1d, 2}, {0x1d, 3}}
	cat := person("cat")
	for _, a := range append([]square.Address{person("ann"), person("bob"), cat}, judges...) {
		if err := st.store.Fund(a, square.Utorg(20_000_000)); err != nil {
			t.Fatal(err)
		}
		do(st.m.Bond(st.store, st.now, a, "infer", square.Utorg(10_000_000)))
	}
	var seats []square.Address
	for i := range p.Seats {
		seats = append(seats, judges[i%3])
	}
	for _, j := range judges {
		do(st.m.Enlist(st.store, st.now, StakeKey{j, "infer", square.Denom}, true))
	}
	st.play([]string{"offer", "bob"})
	do(st.order("one", "ann", args{
		"escrow": "1000", "job": "1", "provider": "bob", "bond": "1000000", "start": "60", "idle": "3000", "duration": "6000", "challenge": "60", "drain": "60",
	}, square.Denom, true))
	id = st.names["one"]
	charge := Charge{Way: ByJudges, Evidence: square.Hash{1}, Value: 1}
	l, err := st.store.Lease(id)
	if err != nil {
		t.Fatal(err)
	}
	least := p.LeastBond(l.Order, 1)
	if want := p.Dispute() + p.Seats*more; least != want {
		t.Errorf("a challenger's bond is %d while ballots cost %d more, want %d", least, more, want)
	}
	if _, err := st.m.Challenge(st.store, st.now, cat, id, charge, least-1); err == nil {
		t.Error("a bond that does not cover the ballots is taken")
	}
	do(st.m.Challenge(st.store, st.now, cat, id, charge, least))
	do(st.m.Seat(st.store, st.now, id, seats))
	for _, j := range judges {
		do(st.m.Commit(st.store, st.now, j, id, square.Ballot(id, j, 0, found, square.Hash{9})))
	}
	st.now += int64(p.Verdict / 2)
	for _, j := range judges {
		if _, err := st.m.Vote(st.store, st.now, j, id, found, square.Hash{9}); err != nil && j != judges[2] {
			t.Fatal(err)
		}
	}
	return st, id, judges
}

// TestPanelStands: when judges have found something there is no way left to a proof, or
// a verdict of the ledger's own, that could contradict them. So nobody can be shown to
// have voted against one, and what judges risk is their seats' bonds for silence.
func TestPanelStands(t *testing.T) {
	for _, found := range []square.Verdict{square.VerdictOK, square.VerdictFraud} {
		st, id, _ := paneled(t, found, 0)
		l, err := st.store.Lease(id)
		if err != nil {
			t.Fatal(err)
		}
		want, refusal := Active, ErrUsed
		if found == square.VerdictFraud {
			want, refusal = Slashed, ErrState
		}
		if l.State != want {
			t.Fatalf("%s: the lease is %s", found, l.State)
		}
		cat, bond := person("cat"), uint64(5_000_000)
		if _, err := st.m.Judge(st.store, st.now, id, square.VerdictFraud); !errors.Is(err, ErrState) {
			t.Errorf("%s: the ledger judges afterwards: %v", found, err)
		}
		if _, err := st.m.Prove(st.store, st.now, cat, id); !errors.Is(err, ErrState) {
			t.Errorf("%s: it is proven afterwards: %v", found, err)
		}
		if _, err := st.m.Challenge(st.store, st.now, cat, id, Charge{Way: ByJudges, Evidence: square.Hash{1}}, bond); !errors.Is(err, refusal) {
			t.Errorf("%s: judges are asked again: %v", found, err)
		}
		for part := range uint64(3) {
			if _, err := st.m.Challenge(st.store, st.now, cat, id, Charge{Way: ByProof, Evidence: square.Hash{1}, Part: part}, bond); !errors.Is(err, refusal) {
				t.Errorf("%s: a proof of part %d is asked for: %v", found, part, err)
			}
		}
		// Other work is heard in a lease that goes on.
		if _, err := st.m.Challenge(st.store, st.now, cat, id, Charge{Way: ByProof, Evidence: square.Hash{2}}, bond); (err == nil) != (found == square.VerdictOK) {
			t.Errorf("%s: other work: %v", found, err)
		}
	}
}

// TestBallotCost: while gas is dear, a judge has what its two transactions cost more, once
// for all of its seats, out of the loser's bond; the buyer, or the provider, is
// paid all the same.
func TestBallotCost(t *testing.T) {
	const more = 7_000
	for _, found := range []square.Verdict{square.VerdictOK, square.VerdictFraud} {
		usual, _, judges := paneled(t, found, 0)
		dear, _, _ := paneled(t, found, more)
		gained := func(a square.Address) int64 {
			return int64(dear.store.Balance(Account(a), square.Denom)) - int64(usual.store.Balance(Account(a), square.Denom))
		}
		for i, j := range judges {
			want := int64(more)
			if i == 2 {
				want = 0 // two thirds had decided before it
			}
			if got := gained(j); got != want {
				t.Errorf("%s: judge %d has %d more, want %d", found, i, got, want)
			}
		}
		for _, who := range []string{"ann", "bob"} {
			if got := gained(person(who)); got < 0 {
				t.Errorf("%s: %s has %d less for it", found, who, -got)
			}
		}
	}
}
