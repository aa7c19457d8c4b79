package zkml

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
)

// This file is about the operations of images, encoders and gates, as
// everything and its tests are about those of text.

// mixture is a small program with every one of them and every way to prove one:
// blocks and heads that are no powers of two, blocks over blocks of another
// width, wide and narrow ranges of maxima. Its outputs are a drawn token, its
// logits and a mean.
func mixture(seed uint64) *exact.Program {
	r := rand.New(rand.NewPCG(seed, 11))
	p := &exact.Program{Rows: 11}
	consts := func(rows, cols int, most int32) int {
		data := make([]int32, rows*cols)
		for i := range data {
			data[i] = r.Int32N(2*most+1) - most
		}
		return p.Const(rows, cols, data)
	}
	op := func(k exact.Kind, in exact.Value, c []int, params ...int64) exact.Value {
		return p.Op(k, []exact.Value{in}, c, params...)
	}
	arrange := func(x exact.Value, from, to int) exact.Value {
		order := make([]int32, to)
		for i := range order {
			order[i] = r.Int32N(int32(from)+1) - 1
		}
		return op(exact.Arrange, x, []int{p.Const(1, to, order)})
	}
	roots := make([]int32, normKeyHi-normKeyLo)
	for i := range roots {
		roots[i] = 1<<20 - 16*int32(i)
	}
	x := p.Op(exact.Input, nil, nil, 12, -100, 100)
	x = op(exact.BlockMatMul, arrange(x, 12, 20), []int{consts(5, 3, 2000)}, 4)
	wide := op(exact.BlockMax, x, nil, 4) // of 3
	x = op(exact.Requantise, op(exact.Offset, x, []int{consts(1, 12, 5000)}), nil, 9, 9)
	y := op(exact.BlockMatMul, x, []int{consts(6, 6, 100)}, 2)
	y = op(exact.Requantise, y, nil, 6, 9)
	y = p.Op(exact.Multiply, []exact.Value{x, y}, nil)
	y = op(exact.Requantise, y, nil, 7, 10)
	x = op(exact.BlockMax, arrange(y, 12, 18), nil, 6) // of 3
	x = p.Op(exact.Add, []exact.Value{x, op(exact.BlockMax, y, nil, 6)}, nil)
	x = p.Op(exact.Add, []exact.Value{x, op(exact.Arrange, op(exact.Requantise, wide, nil, 10, 12), []int{p.Const(1, 6, []int32{0, 1, -1, 2, 3, -1})})}, nil)
	n := op(exact.RMSNorm, x, []int{p.Const(1, len(roots), roots)}, normKeyLo, 10)
	part := func() exact.Value {
		return op(exact.Requantise, op(exact.MatMul, n, []int{consts(6, 6, 200)}), nil, 9, 9)
	}
	a := p.Op(exact.FullAttention, []exact.Value{part(), part(), part()}, []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}, 2, 9)
	m := op(exact.MeanRows, a, nil)
	x = p.Op(exact.Add, []exact.Value{a, m}, nil)
	logits := op(exact.MatMul, x, []int{consts(6, 7, 50)})
	quantiles := make([]int32, 1<<16)
	for i := range quantiles {
		quantiles[i] = r.Int32N(40_000) - 10_000
	}
	drawn := p.Op(exact.Add, []exact.Value{logits, p.Op(exact.Noise, nil, []int{p.Const(1, 1<<16, quantiles)}, 7)}, nil)
	p.Outputs = []exact.Value{op(exact.ArgMax, drawn, nil), logits, m}
	return p
}

// mixtureRun is a run of so many rows, in an environment of its own.
func mixtureRun(n int, seed uint64) Run {
	r := rand.New(rand.NewPCG(seed, 12))
	run := Run{Env: exact.Env{Temperature: 900}, From: make([]int, 3)}
	run.Env.Seed[7] = byte(seed)
	for range n {
		row := make([]int32, 12)
		for j := range row {
			row[j] = r.Int32N(201) - 100
		}
		run.Input = append(run.Input, row)
	}
	return run
}

func mixtureRuns(ns ...int) []Run {
	var runs []Run
	for i, n := range ns {
		runs = append(runs, mixtureRun(n, uint64(i)))
	}
	return runs
}

// proven commits, proves, compares all outputs with the interpreter's and
// verifies.
func proven(t testing.TB, p *exact.Program, runs []Run) (Card, *ProverKey, []Claim, Proof) {
	t.Helper()
	card, pk := mustCommit(t, p)
	claims, proof, err := pk.ProveBatch(runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, run := range runs {
		want, err := p.InterpretEnv(run.Env, run.Input)
		if err != nil {
			t.Fatal(err)
		}
		for k := range want {
			want[k] = want[k][run.From[k]:]
			if len(want[k])+len(claims[i].Output[k]) > 0 && !reflect.DeepEqual(claims[i].Output[k], want[k]) {
				t.Fatalf("output %d of run %d differs from the interpreter's", k, i)
			}
		}
	}
	if err := VerifyBatch(card, claims, proof); err != nil {
		t.Fatal(err)
	}
	price, err := Price(card, len(runs), longest(claims), proof)
	if err != nil || price.Bytes < len(proof) {
		t.Errorf("price of %d bytes for %d: %v", price.Bytes, len(proof), err)
	}
	back, err := DecodeCard(card.Encode())
	if err != nil || !slices.Equal(back.Encode(), card.Encode()) {
		t.Fatalf("card does not survive encoding: %v", err)
	}
	if err := VerifyBatch(back, claims, proof); err != nil {
		t.Fatalf("decoded card: %v", err)
	}
	return card, pk, claims, proof
}

// TestMixture: sequences of all lengths, alone and together, and every
// combination of rows that fill up.
func TestMixture(t *testing.T) {
	p := mixture(1)
	for _, ns := range [][]int{{1}, {2}, {3}, {8}, {11}, {5, 3}, {4, 4}, {1, 11, 6}, {2, 1, 1, 1, 2}} {
		proven(t, p, mixtureRuns(ns...))
	}
}

// TestKinds proves each operation by itself, with the widths and ranges that
// are special to it, over inputs at both ends and between.
func TestKinds(t *testing.T) {
	roots := make([]int32, normKeyHi-normKeyLo)
	for i := range roots {
		roots[i] = 1<<20 - 16*int32(i)
	}
	for _, k := range []struct {
		name string
		most int64
		op   func(p *exact.Program, x exact.Value, w func(rows, cols int, most int32) int) exact.Value
	}{
		{"arrange", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 9, []int32{3, -1, 0, 0, 5, 11, -1, 2, 2})})
		}},
		{"arrange nothing", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 3, []int32{-1, -1, -1})})
		}},
		{"blocks of a power of two", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(4, 5, 99)}, 3)
		}},
		{"blocks of three", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(3, 3, 99)}, 4)
		}},
		{"one block", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(12, 1, 99)}, 1)
		}},
		{"blocks of one", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(1, 3, 99)}, 12)
		}},
		{"blocks over other blocks", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			y := p.Op(exact.Add, []exact.Value{x, p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(3, 3, 99)}, 4)}, nil)
			return p.Op(exact.BlockMax, []exact.Value{p.Op(exact.BlockMatMul, []exact.Value{y}, []int{w(6, 2, 99)}, 2)}, nil, 1)
		}},
		{"maxima of blocks that add to others", 1000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			// The maxima share columns with blocks of three.
			top := p.Op(exact.BlockMax, []exact.Value{p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(12, 36, 9)}, 1)}, nil, 12)
			return p.Op(exact.Add, []exact.Value{top, p.Op(exact.BlockMatMul, []exact.Value{x}, []int{w(3, 3, 99)}, 4)}, nil)
		}},
		{"maxima of a power of two", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 3)
		}},
		{"maxima of three", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 4)
		}},
		{"maximum of all", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 1)
		}},
		{"maxima of one", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 12)
		}},
		{"maxima over a wide range", 1 << 28, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 4)
		}},
		{"multiply", 30_000, func(p *exact.Program, x exact.Value, w func(int, int, int32) int) exact.Value {
			return p.Op(exact.Multiply, []exact.Value{x, p.Op(exact.Offset, []exact.Value{x}, []int{w(1, 12, 99)})}, nil)
		}},
		{"multiply products", 30, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			y := p.Op(exact.Multiply, []exact.Value{x, x}, nil)
			return p.Op(exact.Multiply, []exact.Value{y, y}, nil)
		}},
		{"rmsnorm", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, 10)
		}},
		{"rmsnorm of a wide range", 1 << 20, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, 1<<39, 10)
		}},
		{"rmsnorm of zeros", 0, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, 1)
		}},
		{"mean", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.MeanRows, []exact.Value{x}, nil)
		}},
		{"mean of a wide range", 1 << 26, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.MeanRows, []exact.Value{x}, nil)
		}},
		{"attention", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.FullAttention, []exact.Value{x, x, x}, []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}, 2, 9)
		}},
		{"attention to one key", 500, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			return p.Op(exact.FullAttention, []exact.Value{x, x, x}, []int{p.Const(1, 2, []int32{2000, 0})}, 12, 0)
		}},
		{"attention of other heads over the same columns", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			table := []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}
			y := p.Op(exact.FullAttention, []exact.Value{x, x, x}, table, 2, 9)
			y = p.Op(exact.Attention, []exact.Value{y, x, y}, table, 4, 9)
			y = p.Op(exact.FullAttention, []exact.Value{y, y, x}, table, 3, 9)
			return p.Op(exact.Add, []exact.Value{x, p.Op(exact.Attention, []exact.Value{y, y, x}, table, 1, 9)}, nil)
		}},
		{"both kinds of attention", 1000, func(p *exact.Program, x exact.Value, _ func(int, int, int32) int) exact.Value {
			table := []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}
			y := p.Op(exact.FullAttention, []exact.Value{x, x, x}, table, 3, 9)
			return p.Op(exact.Attention, []exact.Value{y, x, y}, table, 3, 9)
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 3))
			p := &exact.Program{Rows: 6}
			weights := func(rows, cols int, most int32) int {
				data := make([]int32, rows*cols)
				for i := range data {
					data[i] = r.Int32N(2*most+1) - most
				}
				return p.Const(rows, cols, data)
			}
			x := p.Op(exact.Input, nil, nil, 12, -k.most, k.most)
			p.Outputs = []exact.Value{k.op(p, x, weights)}
			run := func(n int, value func() int64) Run {
				u := Run{From: []int{0}}
				for range n {
					row := make([]int32, 12)
					for j := range row {
						row[j] = int32(value())
					}
					u.Input = append(u.Input, row)
				}
				return u
			}
			mixed := func() int64 { return r.Int64N(2*k.most+1) - k.most }
			ends := func() int64 { return k.most * (2*r.Int64N(2) - 1) }
			top, bottom := func() int64 { return k.most }, func() int64 { return -k.most }
			proven(t, p, []Run{run(5, mixed)})
			proven(t, p, []Run{run(6, ends)})
			proven(t, p, []Run{run(1, top)})
			proven(t, p, []Run{run(3, mixed), run(6, bottom), run(4, top)})
		})
	}
}

// attack is a dishonest run of a small program whose honest claim is known.
type attack struct {
	t    *testing.T
	card Card
	pk   *ProverKey
	runs []Run
}

func newAttack(t *testing.T, p *exact.Program, runs ...Run) attack {
	t.Helper()
	card, pk, _, _ := proven(t, p, runs)
	return attack{t, card, pk, runs}
}

func (a attack) refused(what string, h hook) {
	a.t.Helper()
	refusedRuns(a.t, what, a.card, a.pk, a.runs, h)
}

// TestMaximumAttacks forges maxima: too great, so that no element attains it,
// with every kind of mark that might hide that; and too small.
func TestMaximumAttacks(t *testing.T) {
	for _, cols := range []int64{4, 3} {
		p := &exact.Program{Rows: 2}
		x := p.Op(exact.Input, nil, nil, cols, -100, 100)
		m := p.Op(exact.BlockMax, []exact.Value{x}, nil, 1)
		p.Outputs = []exact.Value{m}
		a := newAttack(t, p, Run{Input: [][]int32{[]int32{5, 9, 7, 9}[:cols], []int32{-8, -3, -4, -50}[:cols]}, From: []int{0}})
		half := koala.FromInt(2).Inv()
		minus := koala.FromInt(-1)
		forge := func(what string, top int64, marks ...koala.Elem) {
			a.t.Helper()
			change := func(pl *plan, d *data) {
				o := pl.ops[m]
				d.witness[o.columns[0]][1] = koala.FromInt(top)
				copy(d.witness[o.columns[1]][4:], marks)
			}
			a.refused(fmt.Sprintf("%s, of %d", what, cols), hook{cells: change, claim: func(c *Claim) { c.Output[0][1][0] = int32(top) }})
			a.refused(fmt.Sprintf("%s, of %d, late", what, cols), hook{late: change, claim: func(c *Claim) { c.Output[0][1][0] = int32(top) }})
		}
		forge("not attained, nothing marked", -2, 0, 0, 0)
		forge("not attained, the greatest marked", -2, 0, koala.One, 0)
		forge("not attained, two halves marked", -2, 0, half, half)
		forge("not attained, marks of both signs", -2, koala.One, koala.One, minus)
		forge("a smaller element", -4, 0, 0, koala.One)
		forge("the smallest", -8, koala.One, 0, 0)
		forge("right, marked elsewhere", -3, koala.One, 0, 0)
		forge("right, marked twice", -3, 0, koala.FromInt(2), minus)
		// What fills up a block of three is zero, greater than all.
		if cols == 3 {
			forge("what fills up", 0, 0, 0, 0, koala.One)
		}
	}
}

// TestArrangeAttack: columns that come from elsewhere.
func TestArrangeAttack(t *testing.T) {
	program := func(order ...int32) *exact.Program {
		p := &exact.Program{Rows: 2}
		x := p.Op(exact.Input, nil, nil, 4, -100, 100)
		p.Outputs = []exact.Value{p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, len(order), order)})}
		return p
	}
	honest := program(2, 0, -1)
	run := Run{Input: [][]int32{{1, 2, 3, 4}, {5, 6, 7, 8}}, From: []int{0}}
	a := newAttack(t, honest, run)
	for _, to := range []int32{6, 7, 8, 0} {
		a.refused("a value from another column", hook{value: func(op int, vals []int32) {
			if op == 1 {
				vals[4] = to // of row 1, which is 7
				if to == 7 {
					vals[4+2] = to // and what is nothing
				}
			}
		}})
	}
	for _, order := range [][]int32{{3, 0, -1}, {2, 0, 1}, {-1, 0, -1}, {0, 2, -1}} {
		card, pk := mustCommit(t, program(order...))
		if card.ID() == a.card.ID() {
			t.Errorf("%v: same identity", order)
		}
		pk.card = a.card
		claims, proof, err := pk.ProveBatch([]Run{run})
		if err != nil {
			t.Fatal(err)
		}
		if VerifyBatch(a.card, claims, proof) == nil {
			t.Errorf("%v: accepted", order)
		}
	}
}

// TestMeanAttacks: another quotient with the remainder that goes with it, out
// of range on either side, and one that is no integer.
func TestMeanAttacks(t *testing.T) {
	p := &exact.Program{Rows: 5}
	x := p.Op(exact.Input, nil, nil, 2, -100, 100)
	m := p.Op(exact.MeanRows, []exact.Value{x}, nil)
	p.Outputs = []exact.Value{m}
	rows := [][]int32{{3, -3}, {4, -4}, {7, -7}, {1, 1}, {2, 2}}
	alone := newAttack(t, p, Run{Input: rows[:3], From: []int{0}}) // means 5 and -5
	// Beside a longer run remainders have more room than three.
	for _, a := range []attack{alone, newAttack(t, p, Run{Input: rows[:3], From: []int{0}}, Run{Input: rows, From: []int{0}})} {
		for _, to := range []int32{4, 6, -5, 100} {
			a.refused(fmt.Sprintf("a mean of %d", to), hook{value: func(op int, vals []int32) {
				if exact.Value(op) == m {
					for r := range len(vals) / 2 / (2*len(a.runs) - 1) {
						vals[2*r] = to // of the first run
					}
				}
			}})
		}
	}

	// With the wrong remainder means are fractions, two of which may add up to
	// an integer: (sum + 1 - 2) / 3 of the sums 14 and 15.
	p = &exact.Program{Rows: 4}
	x = p.Op(exact.Input, nil, nil, 1, -100, 100)
	m = p.Op(exact.MeanRows, []exact.Value{x}, nil)
	// Its sum is greater by one.
	first := p.Op(exact.Gather, []exact.Value{p.Op(exact.Position, nil, nil, 4)}, []int{p.Const(4, 1, []int32{1, 0, 0, 0})})
	n := p.Op(exact.MeanRows, []exact.Value{p.Op(exact.Add, []exact.Value{x, first}, nil)}, nil)
	p.Outputs = []exact.Value{p.Op(exact.Add, []exact.Value{m, n}, nil)}
	third := koala.FromInt(3).Inv()
	newAttack(t, p, Run{Input: [][]int32{{3}, {4}, {7}}, From: []int{0}}).refused("means that are fractions", hook{
		value: func(op int, vals []int32) {
			for r := range vals {
				switch exact.Value(op) {
				case m:
					vals[r] = int32(third.Mul(koala.FromInt(13)).Int())
				case n:
					vals[r] = int32(third.Mul(koala.FromInt(14)).Int())
				case p.Outputs[0]:
					vals[r] = 9
				}
			}
		},
		late: func(p *plan, d *data) {
			values, _ := d.lookups(p)
			missing := 0
			for i, l := range p.lookups {
				for _, x := range values[i] {
					if e := x.Int(); e < 0 || e >= int64(p.tables[l.table].live) {
						missing++
					}
				}
			}
			if missing != 2 {
				t.Errorf("%d lookups miss, want those of the two means", missing)
			}
		},
	})
}

// TestLimbAttack makes the sum of squares of a norm another one: a limb b is
// any in range, and a = (x - b)/2^k a field element, such that sums of a a, a b
// and b b are those of another row. Only the range of a is in the way.
func TestLimbAttack(t *testing.T) {
	const most = 1 << 20
	p := &exact.Program{Rows: 1}
	x := p.Op(exact.Input, nil, nil, 2, -most, most)
	roots := make([]int32, normKeyHi-normKeyLo)
	for i := range roots {
		roots[i] = 1<<20 - 16*int32(i)
	}
	const shift = 12
	y := p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, shift)
	p.Outputs = []exact.Value{y}
	in := []int32{700_001, -80_003}
	a := newAttack(t, p, Run{Input: [][]int32{in}, From: []int{0}})
	pl, err := newPlan(&a.card, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := pl.ops[y].shift
	inv := koala.FromInt(1 << k).Inv()
	high := func(x int32, b int64) koala.Elem { return koala.FromInt(int64(x) - b).Mul(inv) }
	var forged struct {
		high       [2]koala.Elem
		hh, hl, ll int64
		entry, f   int64
	}
	found := false
	for b := int64(0); b < 1<<(2*k) && !found; b++ {
		c, d := b>>k, b&(1<<k-1)
		h := [2]koala.Elem{high(in[0], c), high(in[1], d)}
		hh := h[0].Mul(h[0]).Add(h[1].Mul(h[1])).Int()
		hl := h[0].Mul(koala.FromInt(c)).Add(h[1].Mul(koala.FromInt(d))).Int()
		ll := c*c + d*d
		sum := hh<<(2*k) + hl<<(k+1) + ll
		if hh < 0 || sum < 0 || sum > 2*most*most {
			continue
		}
		key, e := normKeyOf(sum + normKeyLo)
		entry := int64(roots[key-normKeyLo])
		f := normFactorOf(entry, e)
		// Another result, within the program's bounds.
		honest := int64(in[0])*int64(in[0]) + int64(in[1])*int64(in[1])
		if r := pl.card.facts[y].Range; sum != honest && max(int64(in[0])*f, -int64(in[1])*f) < min(r.Hi<<shift, exact.Limit) {
			forged.high, forged.hh, forged.hl, forged.ll, forged.entry, forged.f = h, hh, hl, ll, entry, f
			found = true
		}
	}
	if !found {
		t.Fatal("no other limbs")
	}
	result := func(j int) int32 { return int32((int64(in[j])*forged.f + 1<<(shift-1)) >> shift) }
	a.refused("limbs that are no integers", hook{
		cells: func(p *plan, d *data) {
			o := p.ops[y]
			for j := range in {
				d.witness[o.columns[0]][j] = forged.high[j]
				d.witness[o.columns[1]][j] = koala.FromSmall(result(j))
				d.prods[o.prods[0]][j] = koala.FromInt(int64(in[j]) * forged.f)
			}
			d.v.set(o.slots[normHigh], []int64{forged.hh})
			d.v.set(o.slots[normCross], []int64{forged.hl})
			d.v.set(o.slots[normLow], []int64{forged.ll})
			d.v.set(o.slots[normEntry], []int64{forged.entry})
		},
		claim: func(c *Claim) {
			if c.Output[0][0][0] == result(0) {
				t.Error("nothing to attack")
			}
			c.Output[0][0] = []int32{result(0), result(1)}
		},
	})
}

// TestFillAttacks: rows that fill up a power of two are counted, attended to,
// or not counted though they are of the input.
func TestFillAttacks(t *testing.T) {
	program := func(kind exact.Kind) *exact.Program {
		p := &exact.Program{Rows: 8}
		x := p.Op(exact.Input, nil, nil, 2, -100, 100)
		if kind == exact.MeanRows {
			p.Outputs = []exact.Value{p.Op(kind, []exact.Value{x}, nil)}
		} else {
			p.Outputs = []exact.Value{p.Op(kind, []exact.Value{x, x, x}, []int{p.Const(1, 3, []int32{100, 90, 80})}, 1, 9)}
		}
		return p
	}
	rows := [][]int32{{30, 10}, {50, 20}, {-20, 30}, {70, 40}, {90, 50}, {0, 0}, {0, 0}, {0, 0}}
	for _, kind := range []exact.Kind{exact.MeanRows, exact.FullAttention} {
		p := program(kind)
		card, pk := mustCommit(t, p)
		right, err := p.Interpret(rows[:5])
		if err != nil {
			t.Fatal(err)
		}
		shorten := func(n int) hook {
			return hook{claim: func(c *Claim) {
				c.Input, c.Output[0] = c.Input[:n], c.Output[0][:n]
				if n == 5 && reflect.DeepEqual(c.Output[0], right[0]) {
					t.Errorf("%s: nothing to attack", kind)
				}
			}}
		}
		// A run of eight rows, of which the last three are what would fill up.
		refusedRuns(t, kind.String()+" over rows that fill up", card, pk, []Run{{Input: rows, From: []int{0}}}, shorten(5))
		// A run of six, claimed to be of five: one row more is seen.
		refusedRuns(t, kind.String()+" over a row more", card, pk, []Run{{Input: rows[:6], From: []int{0}}}, shorten(5))
		// A run of five, claimed to be of seven.
		refusedRuns(t, kind.String()+" over fewer rows", card, pk, []Run{{Input: rows[:5], From: []int{0}}}, hook{claim: func(c *Claim) {
			c.Input = rows[:7]
			c.Output[0] = append(c.Output[0], c.Output[0][4], c.Output[0][4])
		}})
	}
}

// TestPlaceAttack takes for the greatest score that of a row which is not of the
// input, where all others are less, and computes everything else from it.
func TestPlaceAttack(t *testing.T) {
	p := &exact.Program{Rows: 4}
	x := p.Op(exact.Input, nil, nil, 3, -100, 100)
	// The columns are query, key and value.
	part := func(j int32) exact.Value {
		return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 1, []int32{j})})
	}
	exps := []int32{100, 60, 20, 5}
	y := p.Op(exact.FullAttention, []exact.Value{part(0), part(1), part(2)}, []int{p.Const(1, len(exps), exps)}, 1, 4)
	p.Outputs = []exact.Value{y}
	// Row 0 has scores -100, -140 and -180, and 0 with the row that fills up.
	in := [][]int32{{10, -10, 50}, {25, -14, -50}, {1, -18, 10}}
	a := newAttack(t, p, Run{Input: in, From: []int{0}})
	const mean = 3 // of the three values
	a.refused("the score of a row that fills up", hook{
		cells: func(pl *plan, d *data) {
			o := pl.ops[y]
			for slot, to := range map[int]int64{attnTop: 0, attnArg: 3, attnWeight: 15} {
				v := slices.Clone(d.v.ints[o.slots[slot]])
				v[0] = to
				d.v.set(o.slots[slot], v)
			}
			for j, diff := range []int64{100, 140, 180} {
				d.witness[o.columns[0]][j] = koala.FromInt(diff >> 3)
				d.witness[o.columns[1]][j] = koala.FromInt(5)
			}
			d.witness[o.columns[2]][0] = koala.FromInt(mean)
			d.prods[o.prods[2]][0], d.prods[o.prods[3]][0] = koala.FromInt(5*10), koala.FromInt(15*mean)
		},
		claim: func(c *Claim) {
			if c.Output[0][0][0] == mean {
				t.Error("nothing to attack")
			}
			c.Output[0][0] = []int32{mean}
		},
	})
}

// TestMixtureClaim: an honest proof of two runs shows nothing but its claims.
func TestMixtureClaim(t *testing.T) {
	card, _, claims, proof := proven(t, mixture(5), mixtureRuns(7, 6))
	for name, change := range map[string]func(c []Claim){
		"wrong token": func(c []Claim) { c[1].Output[0][5][0] = (c[1].Output[0][5][0] + 1) % 7 },
		"wrong logit": func(c []Claim) { c[0].Output[1][0][4]++ },
		"wrong mean":  func(c []Claim) { c[0].Output[2][6][5]-- },
		"other input": func(c []Claim) { c[0].Input[3][11] ^= 1 },
		"truncated context": func(c []Claim) {
			c[0].Input = c[0].Input[1:]
			for k := range c[0].Output {
				c[0].Output[k] = c[0].Output[k][1:]
			}
		},
		"truncated at the end": func(c []Claim) {
			c[0].Input = c[0].Input[:6]
			for k := range c[0].Output {
				c[0].Output[k] = c[0].Output[k][:6]
			}
		},
		"longer context": func(c []Claim) {
			c[1].Input = append(c[1].Input, make([]int32, 12))
			for k := range c[1].Output {
				c[1].Output[k] = append(c[1].Output[k], c[1].Output[k][5])
			}
		},
		"less claimed": func(c []Claim) { c[1].From = []int{0, 0, 6}; c[1].Output[2] = nil },
		"swapped runs": func(c []Claim) { c[0], c[1] = c[1], c[0] },
	} {
		other := []Claim{cloneClaim(claims[0]), cloneClaim(claims[1])}
		if VerifyBatch(card, other, proof) != nil {
			t.Fatal("a copy is refused")
		}
		change(other)
		if VerifyBatch(card, other, proof) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestNoise: a token that is drawn with noise is proven for its seed and
// temperature alone.
func TestNoise(t *testing.T) {
	prog := mixture(2)
	card, pk, claims, proof := proven(t, prog, mixtureRuns(6))
	for name, change := range map[string]func(e *exact.Env){
		"wrong seed":        func(e *exact.Env) { e.Seed[31] ^= 1 },
		"wrong temperature": func(e *exact.Env) { e.Temperature++ },
		"no noise":          func(e *exact.Env) { *e = exact.Env{} },
		"no such environment": func(e *exact.Env) {
			e.Temperature = exact.MaxTemperature + 1
		},
	} {
		bad := claims[0]
		change(&bad.Env)
		if Verify(card, bad, proof) == nil {
			t.Errorf("%s: accepted", name)
		}
		// A prover who draws with the noise of one seed and claims another.
		if bad.Env.Check() == nil {
			refusedRuns(t, name, card, pk, mixtureRuns(6), hook{claim: func(c *Claim) { c.Env = bad.Env }})
		}
	}
	// Noise that differs in a single column, and the token that follows.
	noise := slices.IndexFunc(prog.Ops, func(op exact.Op) bool { return op.Kind == exact.Noise })
	l := pk.plan.lay[noise]
	refusedRuns(t, "other noise", card, pk, mixtureRuns(6), hook{value: func(op int, vals []int32) {
		if op == noise {
			vals[2<<l.bits()|l.index(4)] += 1 << 20
		}
	}})
	// Swapped environments of two runs.
	claims, proof, err := pk.ProveBatch(mixtureRuns(4, 4))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyBatch(card, claims, proof); err != nil {
		t.Fatal(err)
	}
	claims[0].Env, claims[1].Env = claims[1].Env, claims[0].Env
	if VerifyBatch(card, claims, proof) == nil {
		t.Error("swapped environments: accepted")
	}
	// A program without noise has no environment.
	plain, key := mustCommit(t, everything(1))
	if _, _, err := key.ProveBatch([]Run{{Input: everythingInput(2), Env: exact.Env{Temperature: 1}, From: []int{0, 0}}}); err == nil {
		t.Error("a temperature for a program without noise: proven")
	}
	claim, proof, err := key.Prove(everythingInput(2))
	if err != nil {
		t.Fatal(err)
	}
	claim.Env.Seed[0] = 1
	if Verify(plain, claim, proof) == nil {
		t.Error("a seed for a program without noise: accepted")
	}
}

// TestClaimsOfClaims: values that are products of themselves in two places, so
// that claims about them double at every step, are refused before that, and
// allowed as long as it is cheap.
func TestClaimsOfClaims(t *testing.T) {
	program := func(steps int) *exact.Program {
		p := &exact.Program{Rows: 2}
		x := p.Op(exact.Input, nil, nil, 4, 0, 1)
		for range steps {
			y := p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 4, []int32{1, 2, 3, 0})})
			x = p.Op(exact.Multiply, []exact.Value{x, y}, nil)
		}
		p.Outputs = []exact.Value{x}
		return p
	}
	proven(t, program(6), []Run{{Input: [][]int32{{1, 0, 1, 1}, {1, 1, 1, 1}}, From: []int{0}}})
	if _, _, err := Commit(program(60)); err == nil {
		t.Error("2^60 claims are not refused")
	}
}
