package zkml

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/transcript"
)

// everything is a small program with every operation and every way to prove
// one: widths that are no powers of two, saturation, wide ranges, heads.
func everything(seed uint64) *exact.Program {
	r := rand.New(rand.NewPCG(seed, 9))
	p := &exact.Program{Rows: 16}
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
	roots := make([]int32, normKeyHi-normKeyLo)
	for i := range roots {
		roots[i] = 1<<20 - 16*int32(i)
	}
	const d = 6
	token := p.Op(exact.Input, nil, nil, 1, 0, 31)
	x := p.Op(exact.Add, []exact.Value{
		op(exact.Gather, token, []int{consts(32, d, 3000)}),
		op(exact.Gather, p.Op(exact.Position, nil, nil, 16), []int{consts(16, d, 3000)}),
	}, nil)
	for range 2 {
		n := op(exact.LayerNorm, x, []int{p.Const(1, len(roots), roots)}, normKeyLo, 10)
		part := func() exact.Value {
			return op(exact.Requantise, op(exact.MatMul, n, []int{consts(d, d, 200)}), nil, 9, 9) // saturates
		}
		a := p.Op(exact.Attention, []exact.Value{part(), part(), part()}, []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}, 2, 9)
		y := op(exact.Offset, op(exact.MatMul, a, []int{consts(d, d, 3000)}), []int{consts(1, d, 5000)})
		x = p.Op(exact.Add, []exact.Value{x, op(exact.Requantise, y, nil, 1, 18)}, nil) // a wide range
		t := op(exact.Table, op(exact.Requantise, x, nil, 9, 5), []int{consts(1, 32, 1000)}, -16)
		x = p.Op(exact.Add, []exact.Value{x, t}, nil)
	}
	logits := op(exact.Requantise, op(exact.MatMul, op(exact.Requantise, x, nil, 4, 12), []int{consts(d, 11, 500)}), nil, 6, 16)
	p.Outputs = []exact.Value{op(exact.ArgMax, logits, nil), logits}
	return p
}

func everythingInput(n int) [][]int32 {
	in := make([][]int32, n)
	for i := range in {
		in[i] = []int32{int32(7*i+3) % 32}
	}
	return in
}

func mustCommit(t testing.TB, p *exact.Program) (Card, *ProverKey) {
	t.Helper()
	card, pk, err := Commit(p)
	if err != nil {
		t.Fatal(err)
	}
	return card, pk
}

// refused runs a dishonest prover and expects its proof to be refused; a
// prover that gives up has not fooled anybody either.
func refused(t *testing.T, what string, card Card, pk *ProverKey, in [][]int32, h hook) {
	t.Helper()
	refusedRuns(t, what, card, pk, []Run{{Input: in, From: make([]int, len(pk.card.outs))}}, h)
}

// refusedRuns is refused for a batch of runs.
func refusedRuns(t *testing.T, what string, card Card, pk *ProverKey, runs []Run, h hook) {
	t.Helper()
	defer func() {
		// Dishonest values may leave what the prover's tables can index.
		if e := recover(); e != nil {
			t.Errorf("%s: the dishonest prover stumbled: %v", what, e)
		}
	}()
	claims, proof, err := pk.prove(runs, h)
	if err != nil {
		t.Errorf("%s: the dishonest prover gave up: %v", what, err)
		return
	}
	if err := VerifyBatch(card, claims, proof); err == nil {
		t.Errorf("%s: accepted", what)
	} else if !errors.Is(err, ErrRefused) {
		t.Errorf("%s: %v", what, err)
	}
}

// specimen is a program that tests of dishonest provers go through.
type specimen struct {
	name    string
	make    func(seed uint64) *exact.Program
	runs    []Run
	columns int      // at least so many are committed
	classes []string // some column has each in its name
	sent    int      // at least so many vectors are sent
}

func specimens() []specimen {
	return []specimen{
		{"everything", everything, []Run{{Input: everythingInput(7), From: []int{0, 0}}}, 60,
			[]string{"quotient", "over", "under", "high", "norm", "key", "exponential", "mean", "table", "count"}, 15},
		{"mixture", mixture, mixtureRuns(7), 40,
			[]string{"quotient", "greatest", "mark", "gap high", "high", "norm", "key", "exponential", "mean", "count"}, 8},
		{"mixture of three", mixture, mixtureRuns(3, 1, 4), 40, nil, 8},
	}
}

// TestCells changes one cell of every committed column, multiplicities and
// limbs included, once with multiplicities counted afterwards and once before.
func TestCells(t *testing.T) {
	for _, s := range specimens() {
		card, pk := mustCommit(t, s.make(1))
		r := rand.New(rand.NewPCG(1, 2))
		var names []string
		refusedRuns(t, "a wrong claim", card, pk, s.runs, hook{
			cells: func(p *plan, d *data) {
				for _, w := range p.witness {
					names = append(names, w.name)
				}
			},
			claim: func(c *Claim) { c.Output[0][2][0] = (c.Output[0][2][0] + 1) % 7 },
		})
		if len(names) < s.columns {
			t.Fatalf("%s: only %d columns", s.name, len(names))
		}
		for _, class := range s.classes {
			if !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, class) }) {
				t.Errorf("%s: no column of class %q", s.name, class)
			}
		}
		for i, name := range names {
			change := func(p *plan, d *data) {
				if c := d.witness[i]; c != nil {
					j := r.IntN(len(c))
					for !matters(p, d, i, j) {
						j = r.IntN(len(c))
					}
					c[j] = c[j].Add(koala.FromInt([]int64{1, -1, 2, 1 << 20}[r.IntN(4)]))
				}
			}
			refusedRuns(t, s.name+" "+name+" late", card, pk, s.runs, hook{late: change})
			if !strings.HasPrefix(name, "count") && !strings.HasSuffix(name, " high") {
				refusedRuns(t, s.name+" "+name, card, pk, s.runs, hook{cells: change})
			}
		}
	}
}

// matters reports whether a committed cell has any meaning: those that fill up
// blocks, and pairs of rows that do not attend, are not looked up.
func matters(p *plan, d *data, column, at int) bool {
	for _, l := range p.lookups {
		if l.only < 0 {
			continue
		}
		d.source(p, source{public, l.only})
		for _, t := range slices.Concat(l.value.terms, l.second.terms) {
			if only := d.publics[l.only]; t.src == (source{witness, column}) && len(t.pick) == l.bits && only[at&(len(only)-1)] == 0 {
				return false
			}
		}
	}
	return true
}

// TestRows changes every number that is sent in the clear.
func TestRows(t *testing.T) {
	for _, s := range specimens() {
		card, pk := mustCommit(t, s.make(2))
		r := rand.New(rand.NewPCG(1, 3))
		n := 0
		p, err := newPlan(&card, len(s.runs), len(s.runs[len(s.runs)-1].Input), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, slot := range p.slots {
			if !slot.sent {
				continue
			}
			n++
			refusedRuns(t, fmt.Sprintf("%s: slot %d, %s", s.name, i, slot.name), card, pk, s.runs, hook{cells: func(p *plan, d *data) {
				v := slices.Clone(d.v.ints[i])
				// Of a row of input: among equal scores of others any may be
				// said to be the greatest.
				j := r.IntN(len(v)>>(p.b+p.t))<<p.t + r.IntN(len(s.runs[0].Input))
				if v[j] > 0 {
					v[j]--
				} else {
					v[j]++
				}
				d.v.set(i, v)
			}})
		}
		if n < s.sent {
			t.Fatalf("%s: only %d slots", s.name, n)
		}
	}
}

// TestOtherRun runs another program: after each operation in turn one value
// is off by one, and everything after it is computed from that, consistently.
func TestOtherRun(t *testing.T) {
	for _, s := range specimens() {
		prog := s.make(3)
		card, pk := mustCommit(t, prog)
		r := rand.New(rand.NewPCG(1, 4))
		for i, op := range prog.Ops {
			if op.Kind == exact.Input || op.Kind == exact.Position {
				continue
			}
			l := pk.plan.lay[i]
			w := 1 << l.bits()
			row, col := r.IntN(len(s.runs[0].Input)), l.index(r.IntN(l.cols()))
			off := int32(1)
			if op.Kind == exact.Add || op.Kind == exact.Offset {
				// Sums are not committed, so that what the next rounding takes
				// away was never said: be off by more.
				off = 3000
			}
			if op.Kind == exact.Noise || slices.ContainsFunc(prog.Ops, func(op exact.Op) bool { return op.Kind == exact.ArgMax && int(op.In[0]) == i }) {
				off = 1 << 20 // or another would still be the greatest
			}
			refusedRuns(t, fmt.Sprintf("%s: operation %d (%s)", s.name, i, op.Kind), card, pk, s.runs, hook{value: func(k int, vals []int32) {
				if k != i {
					return
				}
				if vals[row*w+col] > 0 && off < 1<<20 {
					off = -off
				}
				for at := range len(vals) / w {
					// A mean is the same in all rows.
					if at == row || op.Kind == exact.MeanRows {
						vals[at*w+col] += off
					}
				}
			}})
		}
	}
}

// TestRoundingAttack is the attack that makes a range check of the quotient
// necessary: o = (acc - rem)/2^s is a field element for any rem in range. Two
// quotients are forged so that their sum is off by exactly one and passes for
// a result; both remainders are in range.
func TestRoundingAttack(t *testing.T) {
	p := &exact.Program{Rows: 4}
	x := p.Op(exact.Input, nil, nil, 1, -1024, 1023)
	a := p.Op(exact.Requantise, []exact.Value{x}, nil, 4, 12)
	b := p.Op(exact.Requantise, []exact.Value{p.Op(exact.Offset, []exact.Value{x}, []int{p.Const(1, 1, []int32{16})})}, nil, 4, 12)
	p.Outputs = []exact.Value{p.Op(exact.Add, []exact.Value{a, b}, nil)}
	card, pk := mustCommit(t, p)
	in := [][]int32{{160}, {-320}, {16}, {0}} // remainders are 8
	honest, proof, err := pk.Prove(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(card, honest, proof); err != nil {
		t.Fatal(err)
	}
	forge := func(acc int32) int32 {
		// The remainder is 0 instead of 8.
		return int32(koala.FromInt(int64(acc) + 8).Mul(koala.FromInt(16).Inv()).Int())
	}
	h := hook{
		value: func(op int, vals []int32) {
			switch exact.Value(op) {
			case a:
				vals[0] = forge(160)
			case b:
				vals[0] = forge(176)
			case p.Outputs[0]:
				// The sum as a field element.
				vals[0] = int32(koala.FromInt(int64(vals[0])).Int())
			}
		},
		cells: func(pl *plan, d *data) {
			for _, o := range []exact.Value{a, b} {
				q := d.witness[pl.ops[o].columns[0]][0]
				acc := koala.FromInt(160)
				if o == b {
					acc = koala.FromInt(176)
				}
				if rem := acc.Add(koala.FromInt(8)).Sub(q.Mul(koala.FromInt(16))); rem != 0 {
					t.Errorf("remainder is %d: the attack is not what it should be", rem.Int())
				}
				if v := q.Int(); v > -4096 && v < 4096 {
					t.Errorf("quotient %d is honest", v)
				}
			}
		},
	}
	h.late = func(p *plan, d *data) {
		// Of all lookups only those of the two quotients miss their tables.
		values, _ := d.lookups(p)
		var missing []int
		for i, l := range p.lookups {
			n := 0
			for _, x := range values[i] {
				if e := x.Int(); e < 0 || e >= int64(p.tables[l.table].live) {
					n++
				}
			}
			missing = append(missing, n)
		}
		if !slices.Equal(missing, []int{0, 1, 0, 1}) {
			t.Errorf("lookups that miss: %v, want one of each quotient", missing)
		}
	}
	claims, proof, err := pk.prove([]Run{{Input: in, From: []int{0}}}, h)
	if err != nil {
		t.Fatal(err)
	}
	claim := claims[0]
	if claim.Output[0][0][0] != honest.Output[0][0][0]+1 {
		t.Fatalf("forged sum is %d, honest %d", claim.Output[0][0][0], honest.Output[0][0][0])
	}
	if err := Verify(card, claim, proof); err == nil {
		t.Fatal("the attack works")
	}
}

// TestDoubling: a value added to itself forty times is one term, not 2^40.
func TestDoubling(t *testing.T) {
	p := &exact.Program{Rows: 2}
	x := p.Op(exact.Input, nil, nil, 1, 0, 0)
	for range 40 {
		x = p.Op(exact.Add, []exact.Value{x, x}, nil)
	}
	p.Outputs = []exact.Value{x, p.Op(exact.ArgMax, []exact.Value{x}, nil)}
	card, _, claim, proof := prove(t, p, [][]int32{{0}, {0}})
	if err := Verify(card, claim, proof); err != nil {
		t.Error(err)
	}
}

// TestGreatestAttack takes for the greatest score one that is less by no more
// than half a key: rounded differences stay at or above zero, so that only an
// exact comparison notices. Everything else is computed from it consistently.
func TestGreatestAttack(t *testing.T) {
	p := &exact.Program{Rows: 2}
	x := p.Op(exact.Input, nil, nil, 3, -100, 100)
	// The columns are query, key and value.
	part := func(j int) exact.Value {
		w := make([]int32, 3)
		w[j] = 1
		return p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(3, 1, w)})
	}
	exps := []int32{100, 60, 20, 5}
	a := p.Op(exact.Attention, []exact.Value{part(0), part(1), part(2)}, []int{p.Const(1, len(exps), exps)}, 1, 4)
	p.Outputs = []exact.Value{a}
	card, pk := mustCommit(t, p)
	// Row 1 has scores 2*10 = 20 and 2*14 = 28; keys are 16 wide, half is 8.
	in := [][]int32{{0, 10, 50}, {2, 14, -50}}
	honest, proof, err := pk.Prove(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(card, honest, proof); err != nil {
		t.Fatal(err)
	}
	if got := honest.Output[0][1][0]; got != (60*50-100*50-159)/160 { // floor
		t.Fatalf("honest output %d", got)
	}
	forged := func(pl *plan, d *data) {
		o := pl.ops[a]
		set := func(slot int, at int, to int64) {
			v := slices.Clone(d.v.ints[o.slots[slot]])
			v[at] = to
			d.v.set(o.slots[slot], v)
		}
		set(attnTop, 1, 20)
		set(attnArg, 1, 0)
		set(attnWeight, 1, 200)
		d.witness[o.columns[0]][2], d.witness[o.columns[0]][3] = 0, 0
		d.witness[o.columns[1]][2], d.witness[o.columns[1]][3] = koala.FromInt(100), koala.FromInt(100)
		d.witness[o.columns[2]][1] = 0 // (100*50 - 100*50) / 200
		d.prods[o.prods[2]][1], d.prods[o.prods[3]][1] = 0, 0
	}
	refused(t, "a greatest score that is not", card, pk, in, hook{cells: forged, claim: func(c *Claim) { c.Output[0][1] = []int32{0} }})
}

// cloned is a copy of a program whose constants can be changed.
func cloned(prog *exact.Program) *exact.Program {
	p := *prog
	p.Consts = slices.Clone(p.Consts)
	for i := range p.Consts {
		p.Consts[i].Data = slices.Clone(p.Consts[i].Data)
	}
	p.Ops = slices.Clone(p.Ops)
	for i := range p.Ops {
		p.Ops[i].Consts = slices.Clone(p.Ops[i].Consts)
	}
	return &p
}

// notThis proves runs of another program, honestly and as if it were the
// card's, and expects the card's verifier to refuse.
func notThis(t *testing.T, name string, card Card, other *exact.Program, runs []Run) {
	t.Helper()
	otherCard, pk := mustCommit(t, other)
	if otherCard.ID() == card.ID() {
		t.Errorf("%s: same identity", name)
	}
	claims, proof, err := pk.ProveBatch(runs)
	if err != nil {
		t.Fatal(err)
	}
	if VerifyBatch(otherCard, claims, proof) != nil {
		t.Errorf("%s: honest proof of the other program refused", name)
	}
	if VerifyBatch(card, claims, proof) == nil {
		t.Errorf("%s: accepted", name)
	}
	// The same, by a prover who speaks of the card as if it were theirs.
	pk.card = card
	if claims, proof, err = pk.ProveBatch(runs); err == nil && VerifyBatch(card, claims, proof) == nil {
		t.Errorf("%s: accepted under a false card", name)
	}
}

// TestOtherProgram: proofs by a prover who has committed to other constants,
// of every operation that has one: a bit of the last element is another.
func TestOtherProgram(t *testing.T) {
	for _, s := range specimens()[:2] {
		prog := s.make(4)
		card, _ := mustCommit(t, prog)
		tried := map[exact.Kind]bool{}
		for _, op := range prog.Ops {
			// What is in the card is not committed: see TestArrangeAttack.
			if len(op.Consts) == 0 || tried[op.Kind] || open(op.Kind) {
				continue
			}
			tried[op.Kind] = true
			other := cloned(prog)
			data := other.Consts[op.Consts[0]].Data
			data[len(data)-1] ^= 1
			notThis(t, s.name+": a bit of a constant of "+op.Kind.String(), card, other, s.runs)
		}
	}
	// Layers have four matrices each.
	prog := everything(4)
	card, _ := mustCommit(t, prog)
	swapped := cloned(prog)
	var squares []int
	for i, op := range swapped.Ops {
		if op.Kind == exact.MatMul && swapped.Consts[op.Consts[0]].Cols == 6 {
			squares = append(squares, i)
		}
	}
	for k := range 4 {
		i, j := squares[k], squares[4+k]
		swapped.Ops[i].Consts, swapped.Ops[j].Consts = swapped.Ops[j].Consts, swapped.Ops[i].Consts
	}
	notThis(t, "swapped layers", card, swapped, []Run{{Input: everythingInput(6), From: []int{0, 0}}})
}

// TestMillion: of the million weights of the bundled model one has another
// last bit, or two layers are swapped, and the proof is refused though nothing
// of what the model says need differ.
func TestMillion(t *testing.T) {
	prog := nano.Model().Program()
	card, pk := mustCommit(t, prog)
	run := Run{From: []int{0, 8}}
	for _, c := range []byte("Once upo") {
		run.Input = append(run.Input, []int32{int32(c)})
	}
	claims, proof, err := pk.ProveBatch([]Run{run})
	if err != nil {
		t.Fatal(err)
	}
	var weights []int // constants
	n := 0
	for _, op := range prog.Ops {
		if op.Kind == exact.MatMul || op.Kind == exact.Gather {
			weights = append(weights, op.Consts[0])
			n += len(prog.Consts[op.Consts[0]].Data)
		}
	}
	if n < 1_000_000 {
		t.Fatalf("only %d weights", n)
	}
	r := rand.New(rand.NewPCG(1, 13))
	for range 2 {
		at := r.IntN(n)
		other := cloned(prog)
		for _, k := range weights {
			data := other.Consts[k].Data
			if at < len(data) {
				data[at] ^= 1
				break
			}
			at -= len(data)
		}
		notThis(t, "last bit of a weight", card, other, []Run{run})
		// What is proven of this model is not proven of that.
		otherCard, _ := mustCommit(t, other)
		if VerifyBatch(otherCard, claims, proof) == nil {
			t.Error("a proof of the bundled model is accepted for another")
		}
	}
	// Layers begin at their first norm; two norms and six matrices each.
	var mats []int
	for i, op := range prog.Ops {
		if op.Kind == exact.MatMul {
			mats = append(mats, i)
		}
	}
	per := (len(mats) - 1) / 5
	swapped := cloned(prog)
	for k := range per {
		i, j := mats[per+k], mats[2*per+k]
		if len(prog.Consts[prog.Ops[i].Consts[0]].Data) != len(prog.Consts[prog.Ops[j].Consts[0]].Data) {
			t.Fatal("these are not layers")
		}
		swapped.Ops[i].Consts, swapped.Ops[j].Consts = swapped.Ops[j].Consts, swapped.Ops[i].Consts
	}
	if _, err := swapped.Check(); err != nil {
		t.Skipf("layers cannot be swapped: %v", err)
	}
	notThis(t, "swapped layers of the bundled model", card, swapped, []Run{run})
}

func cloneClaim(claim Claim) Claim {
	c := Claim{Env: claim.Env, From: slices.Clone(claim.From)}
	for _, r := range claim.Input {
		c.Input = append(c.Input, slices.Clone(r))
	}
	for _, o := range claim.Output {
		var rows [][]int32
		for _, r := range o {
			rows = append(rows, slices.Clone(r))
		}
		c.Output = append(c.Output, rows)
	}
	return c
}

// TestOtherClaim: an honest proof shows nothing but its own claim.
func TestOtherClaim(t *testing.T) {
	card, pk := mustCommit(t, everything(5))
	in := everythingInput(7)
	claim, proof, err := pk.ProveFrom(in, []int{0, 6})
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(card, claim, proof); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Claim){
		"a seed":             func(c *Claim) { c.Env.Seed[3] = 1 },
		"wrong token":        func(c *Claim) { c.Output[0][6] = []int32{(c.Output[0][6][0] + 1) % 11} },
		"token out of range": func(c *Claim) { c.Output[0][6] = []int32{11} },
		"wrong logit":        func(c *Claim) { c.Output[1][0][4]++ },
		"logit modulo p":     func(c *Claim) { c.Output[1][0][4] -= koala.P },
		"other input":        func(c *Claim) { c.Input[0] = []int32{c.Input[0][0] ^ 1} },
		"truncated context":  func(c *Claim) { c.Input = c.Input[1:]; c.Output[0] = c.Output[0][1:]; c.From = []int{0, 5} },
		"longer context": func(c *Claim) {
			c.Input = append(c.Input, []int32{0})
			c.Output[0] = append(c.Output[0], []int32{0})
			c.From = []int{0, 7}
		},
		"fewer rows": func(c *Claim) { c.From = []int{1, 6}; c.Output[0] = c.Output[0][1:] },
		"more rows": func(c *Claim) {
			c.From = []int{0, 5}
			c.Output[1] = append([][]int32{make([]int32, 11)}, c.Output[1]...)
		},
		"no output":       func(c *Claim) { c.Output = nil },
		"short row":       func(c *Claim) { c.Output[1][0] = c.Output[1][0][:10] },
		"wide input":      func(c *Claim) { c.Input[2] = []int32{1, 2} },
		"input too large": func(c *Claim) { c.Input[2] = []int32{32} },
	} {
		c := cloneClaim(claim)
		change(&c)
		if Verify(card, c, proof) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBatch proves several conversations of different lengths at once.
func TestBatch(t *testing.T) {
	prog := everything(9)
	card, pk := mustCommit(t, prog)
	for n := 1; n <= 5; n++ {
		var runs []Run
		for i := range n {
			in := everythingInput(3 + 5*i%13)
			in[0][0] = int32(i)
			runs = append(runs, Run{Input: in, From: []int{0, len(in) - 1}})
		}
		claims, proof, err := pk.ProveBatch(runs)
		if err != nil {
			t.Fatal(err)
		}
		for i, run := range runs {
			in := run.Input
			want, err := prog.Interpret(in)
			if err != nil {
				t.Fatal(err)
			}
			want[1] = want[1][len(in)-1:]
			if !reflect.DeepEqual(claims[i].Output, want) {
				t.Fatalf("output of sequence %d differs from the interpreter's", i)
			}
		}
		if err := VerifyBatch(card, claims, proof); err != nil {
			t.Fatalf("%d sequences: %v", n, err)
		}
		if price, err := Price(card, n, longest(claims), proof); err != nil || price.Bytes < len(proof) {
			t.Errorf("%d sequences: price of %d bytes for %d: %v", n, price.Bytes, len(proof), err)
		}
		if n == 1 {
			continue
		}
		bad := slices.Clone(claims)
		bad[0], bad[1] = bad[1], bad[0]
		if VerifyBatch(card, bad, proof) == nil {
			t.Error("accepted in another order")
		}
		if VerifyBatch(card, claims[:n-1], proof) == nil {
			t.Error("accepted without the last")
		}
		if Verify(card, claims[0], proof) == nil {
			t.Error("accepted for the first alone")
		}
		bad = slices.Clone(claims)
		bad[1].Output = [][][]int32{slices.Clone(claims[1].Output[0]), claims[1].Output[1]}
		bad[1].Output[0][2] = []int32{(bad[1].Output[0][2][0] + 1) % 11}
		if VerifyBatch(card, bad, proof) == nil {
			t.Error("accepted a wrong token in the second")
		}
	}
	if VerifyBatch(card, nil, nil) == nil {
		t.Error("accepted no claims")
	}
}

// TestEncoding: a proof has one encoding.
func TestEncoding(t *testing.T) {
	card, pk := mustCommit(t, everything(6))
	claim, proof, err := pk.Prove(everythingInput(4))
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, bad Proof) {
		t.Helper()
		if Verify(card, claim, bad) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := rand.New(rand.NewPCG(6, 6))
	for i := 0; i < len(proof); i += 1 + r.IntN(2*len(proof)/400) {
		bad := bytes.Clone(proof)
		bad[i] ^= 1 << r.IntN(8)
		try(fmt.Sprintf("byte %d", i), bad)
		// Add p: an equal element, if there is one here.
		if i%4 == 0 && i+4 <= len(proof) {
			bad = bytes.Clone(proof)
			for k, b := range []byte{1, 0, 0, 0x7f} {
				sum := int(bad[i+k]) + int(b)
				bad[i+k] = byte(sum)
			}
			try(fmt.Sprintf("word %d plus p", i), bad)
		}
	}
	for range 50 {
		try("cut", proof[:r.IntN(len(proof))])
	}
	try("empty", nil)
	try("trailing byte", append(bytes.Clone(proof), 0))
	try("twice", append(bytes.Clone(proof), proof...))
	bad := bytes.Clone(proof)
	bad[7]++
	try("other version", bad)
	for i := len(magic); i < len(magic)+12; i++ {
		bad := bytes.Clone(proof)
		bad[i] = 255
		try("mode out of range", bad)
	}
}

// TestGolden pins the bytes of proofs, on every machine and for every kernel:
// absorbing anything less, more or in another order changes them.
func TestGolden(t *testing.T) {
	for _, g := range []struct {
		name      string
		prog      *exact.Program
		runs      []Run
		id, proof string
		last      string // challenge
	}{
		{"everything", everything(7), []Run{{Input: everythingInput(8), From: []int{0, 0}}}, "3735fa2e721a942c58f00b526aa528cb4fd1b6338d7461951abbce562c02b61d", "bdbf113fa6940abcce2d7fc944825c9e839bfc0c4a61f400639e42cd4a1374ee", "155cd273c0eabf1facc8876b097ccbb4d87c9966c31046b1afa79f3ca8f04471"},
		{"mixture", mixture(7), mixtureRuns(5, 3), "154f605f3b105ddab90da2306a15da334526bb069714af490e71b74ecc73e71b", "378c69fbc571c1a8d0d785cc701ec564d518894481997ccab9a8c6ea87a51bd0", "42c3710b920cf37a07cb348275ee1a02e6c53065bc841f90ade77cb9dd9805c7"},
	} {
		card, pk := mustCommit(t, g.prog)
		var w watched
		claims, proof, err := pk.prove(g.runs, hook{watch: func(t *transcript.Prover) { t.Watch(w.note(-1)) }})
		if err != nil {
			t.Fatal(err)
		}
		v, err := watchVerifier(card, claims, proof, -1)
		if err != nil || !slices.Equal(v.draws, w.draws) {
			t.Errorf("%s: prover and verifier draw different challenges: %v", g.name, err)
		}
		if got := hex.EncodeToString(w.draws[len(w.draws)-1][:]); got != g.last {
			t.Errorf("%s: last challenge %s, want %s", g.name, got, g.last)
		}
		id, sum := card.ID(), blake3.Sum256(proof)
		if got := hex.EncodeToString(id[:]); got != g.id {
			t.Errorf("%s: card %s, want %s", g.name, got, g.id)
		}
		if got := hex.EncodeToString(sum[:]); got != g.proof {
			t.Errorf("%s: proof %s, want %s", g.name, got, g.proof)
		}
	}
}

// TestExtremes proves runs at the edges: constant inputs at both ends, one
// row, all rows, saturation everywhere.
func TestExtremes(t *testing.T) {
	for seed := range uint64(4) {
		prog := everything(10 + seed)
		for i := range prog.Consts {
			if seed%2 == 0 {
				for j, x := range prog.Consts[i].Data {
					if prog.Consts[i].Rows == 6 { // weights at their ends: everything saturates
						prog.Consts[i].Data[j] = 200
						if x < 0 && seed == 2 {
							prog.Consts[i].Data[j] = -200
						}
					}
				}
			}
		}
		card, pk := mustCommit(t, prog)
		for _, n := range []int{1, 2, 3, 16} {
			for _, x := range []int32{0, 31} {
				in := make([][]int32, n)
				for i := range in {
					in[i] = []int32{x}
				}
				claim, proof, err := pk.Prove(in)
				if err != nil {
					t.Fatalf("seed %d, %d rows of %d: %v", seed, n, x, err)
				}
				if err := Verify(card, claim, proof); err != nil {
					t.Fatalf("seed %d, %d rows of %d: %v", seed, n, x, err)
				}
			}
		}
	}
}

// TestMixtureExtremes is the same of images and encoders.
func TestMixtureExtremes(t *testing.T) {
	for seed := range uint64(3) {
		prog := mixture(10 + seed)
		for i, c := range prog.Consts {
			for j, x := range c.Data {
				// Weights at their ends: everything saturates.
				if c.Rows >= 5 && (x >= 0 || seed > 0) {
					end := int32(2000)
					if c.Rows == 6 {
						end = 200
					}
					if x < 0 && seed == 2 {
						end = -end
					}
					prog.Consts[i].Data[j] = end
				}
			}
		}
		if _, err := prog.Check(); err != nil {
			t.Fatal(err)
		}
		for _, ns := range [][]int{{1}, {2}, {11}, {3, 8}} {
			for _, x := range []int32{-100, 0, 100} {
				runs := mixtureRuns(ns...)
				for _, run := range runs {
					for _, row := range run.Input {
						for j := range row {
							row[j] = x
						}
					}
				}
				runs[0].Env.Temperature = exact.MaxTemperature
				proven(t, prog, runs)
			}
		}
	}
}

// FuzzVerify: no bytes make the verifier fail otherwise than by refusing, and
// none but the proof are accepted, of a rounded product or of a run with all
// the operations of images and encoders.
func FuzzVerify(f *testing.F) {
	p := &exact.Program{Rows: 4}
	x := p.Op(exact.Input, nil, nil, 2, -100, 100)
	y := p.Op(exact.Requantise, []exact.Value{p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(2, 2, []int32{1, 2, 3, 4})})}, nil, 2, 6)
	p.Outputs = []exact.Value{y}
	type honest struct {
		card   Card
		claims []Claim
		proof  Proof
	}
	var all []honest
	for _, c := range []struct {
		prog *exact.Program
		runs []Run
	}{
		{p, []Run{{Input: [][]int32{{1, 2}, {-3, 40}, {100, -100}}, From: []int{0}}}},
		{mixture(8), mixtureRuns(2, 1)},
	} {
		card, pk := mustCommit(f, c.prog)
		claims, proof, err := pk.ProveBatch(c.runs)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, honest{card, claims, proof})
	}
	// A proof is too long for fuzzing to get anywhere with, so it is told what
	// to change: at offsets (u24), bytes (to be added), after a cut or an
	// insertion at another.
	f.Add(uint8(0), uint32(0), int16(0), []byte{})
	f.Add(uint8(1), uint32(0), int16(0), []byte{})
	f.Add(uint8(1), uint32(9), int16(-1), []byte{})
	f.Add(uint8(0), uint32(100), int16(4), []byte{8, 0, 0, 1})
	f.Add(uint8(1), uint32(1<<31), int16(0), []byte{8, 0, 0, 1, 9, 0, 0, 255, 40, 1, 0, 127})
	f.Fuzz(func(t *testing.T, program uint8, at uint32, by int16, edits []byte) {
		h := all[program%2]
		b := bytes.Clone(h.proof)
		i := int(at) % len(b)
		if by < 0 {
			b = slices.Delete(b, i, min(len(b), i-int(by)))
		} else {
			b = slices.Insert(b, i, make([]byte, by)...)
		}
		for ; len(edits) >= 4 && len(b) > 0; edits = edits[4:] {
			b[(int(edits[0])|int(edits[1])<<8|int(edits[2])<<16)%len(b)] += edits[3]
		}
		if err := VerifyBatch(h.card, h.claims, b); (err == nil) != bytes.Equal(b, h.proof) {
			t.Errorf("%v", err)
		}
		if _, err := Price(h.card, len(h.claims), longest(h.claims), b); err == nil && !bytes.HasPrefix(b, []byte(magic)) {
			t.Error("priced what is not a proof")
		}
	})
}

// smallCard has the operations of images and encoders in few bytes, so that
// fuzzing gets somewhere.
func smallCard(t testing.TB) Card {
	p := &exact.Program{Rows: 3}
	x := p.Op(exact.Input, nil, nil, 4, -9, 9)
	x = p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 6, []int32{3, -1, 0, 1, 2, 2})})
	x = p.Op(exact.BlockMatMul, []exact.Value{x}, []int{p.Const(3, 2, []int32{1, 2, 3, 4, 5, 6})}, 2)
	x = p.Op(exact.Multiply, []exact.Value{x, p.Op(exact.MeanRows, []exact.Value{x}, nil)}, nil)
	y := p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, normKeyHi-normKeyLo, make([]int32, normKeyHi-normKeyLo))}, normKeyLo, 4)
	y = p.Op(exact.FullAttention, []exact.Value{y, y, y}, []int{p.Const(1, 2, []int32{3, 1})}, 2, 1)
	p.Outputs = []exact.Value{p.Op(exact.BlockMax, []exact.Value{x}, nil, 2), y}
	card, _ := mustCommit(t, p)
	return card
}

// FuzzCard: what decodes encodes to the same bytes and can be planned or
// refused.
func FuzzCard(f *testing.F) {
	card, _ := mustCommit(f, everything(8))
	f.Add(card.Encode())
	f.Add(smallCard(f).Encode())
	f.Add([]byte(cardMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCard(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Error("card has two encodings")
		}
		if _, err := c.Budget(1, 1); err != nil {
			return
		}
		if err := Verify(c, Claim{Input: everythingInput(1)}, []byte(magic)); err == nil {
			t.Error("accepted")
		}
	})
}

// TestGoldenPaths makes the golden proof again with fewer of the machine's
// instructions: the bytes are the same.
func TestGoldenPaths(t *testing.T) {
	if os.Getenv("ZKML_PATH") != "" {
		t.Skip("once is enough")
	}
	for _, off := range []string{"cpu.avx512f=off", "cpu.avx512f=off,cpu.avx2=off"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestGolden$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG="+off, "ZKML_PATH=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestGolden")) {
			t.Errorf("%s: %v\n%s", off, err, out)
		}
	}
}
