package zkml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/logup"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/sumcheck"
	"github.com/torg-network/torg/zkml/transcript"
	"github.com/torg-network/torg/zkml/whir"
)

// ProverKey is a program ready to be proven, safe for concurrent use. Beside the
// program it holds the constants as field elements, four bytes each, and the hash
// tree over their code words, which are made again where they are opened.
type ProverKey struct {
	card    Card
	consts  []exact.Const
	plan    *plan // of the constants
	params  whir.Params
	regions [][]koala.Elem
	commit  *whir.Commitment
	plans   sync.Map  // of runs, by the logarithms of their number and of the longest's rows
	rooms   sync.Pool // of *rooms, for the next proofs; the collector takes what none wants
}

// runPlan plans runs before modes are chosen: whether they can be proven.
func (pk *ProverKey) runPlan(sequences, rows int) (*plan, error) {
	key := [2]int{mle.Log(sequences), mle.Log(rows)}
	if p, ok := pk.plans.Load(key); ok {
		return p.(*plan), nil
	}
	p, err := newPlan(&pk.card, sequences, rows, nil)
	if err == nil {
		pk.plans.Store(key, p)
	}
	return p, err
}

// rooms are memory for one proof: for elements that are used until its end, for
// its trace, and for what one step needs.
type rooms struct {
	proof koala.Space[koala.Elem]
	trace koala.Space[int32]
	step  *koala.Room
}

// Card is what a verifier needs of the program.
func (pk *ProverKey) Card() Card { return pk.card }

// heightOf chooses the height of columns for numbers of committed constants
// and, in the longest run, of committed values: few columns, so that openings
// stay small, but no more padding than that, of short runs neither.
func heightOf(constants, values int) int {
	return max(8, min(whir.MaxHeight, max(mle.Log(constants)-3, mle.Log(values)-6)))
}

func cells(rs []region) int {
	n := 1
	for _, r := range rs {
		n += 1 << r.bits
	}
	return n
}

// longestRun plans a run of as many rows as can be proven at once.
func longestRun(c *Card) (p *plan, err error) {
	for rows := c.rows; rows > 0; rows /= 2 {
		if p, err = newPlan(c, 1, rows, nil); err == nil {
			break
		}
	}
	return p, err
}

// Commit checks a program and commits to its constants. There is no secret and
// no randomness: the same program gives the same card. The program must not be
// changed afterwards.
func Commit(prog *exact.Program) (Card, *ProverKey, error) {
	c, err := newCard(prog)
	if err != nil {
		return Card{}, nil, err
	}
	c.height = whir.MinHeight
	p, err := longestRun(&c)
	if err != nil {
		return Card{}, nil, err
	}
	c.height = heightOf(cells(p.model), cells(p.witness))
	if err := c.check(); err != nil {
		return Card{}, nil, err
	}
	if p, err = newModelPlan(&c); err != nil {
		return Card{}, nil, err
	}
	pk := &ProverKey{consts: prog.Consts, plan: p, params: paramsOf(&c)}
	columns := make([][]koala.Elem, p.modelColumns)
	flat := make([]koala.Elem, len(columns)<<c.height)
	for _, r := range p.model {
		k := prog.Consts[r.constant]
		table := flat[r.at : r.at+1<<r.bits]
		rows, cols := r.rows, r.cols
		if r.fill != fillZero {
			for at := range table {
				i := at
				if r.fill == fillHalves {
					i = (at + 1) / 2
				}
				table[at] = koala.FromSmall(k.Data[min(i, len(k.Data)-1)])
			}
			pk.regions = append(pk.regions, table)
			continue
		}
		for i := range k.Rows {
			for j := range k.Cols {
				table[rows.index(i)<<cols.bits()|cols.index(j)] = koala.FromSmall(k.Data[i*k.Cols+j])
			}
		}
		pk.regions = append(pk.regions, table)
	}
	for i := range columns {
		columns[i] = flat[i<<c.height : (i+1)<<c.height]
	}
	pk.commit = pk.params.Commit(columns, nil)
	c.root = pk.commit.Root()
	pk.card = c
	pk.plan.card = &pk.card
	return c, pk, nil
}

// Run is what ProveBatch is asked to prove one of. Env is for programs with
// noise, else zero. Of output k the rows from From[k] on are claimed.
type Run struct {
	Input [][]int32
	Env   exact.Env
	From  []int
}

// Claim is what a proof is about, or one of several things: that the program,
// given Input in the environment Env, has these rows of output. Output[k] holds
// the last rows of output k, from row From[k] on; none if nothing is claimed of
// it.
type Claim struct {
	Input  [][]int32
	Env    exact.Env
	From   []int
	Output [][][]int32
}

// run is what the claim says to have been run.
func (c Claim) run() Run { return Run{c.Input, c.Env, c.From} }

// Proof is the bytes of a proof: the header, and what the protocol says. It
// names its version, but neither program nor claim.
type Proof []byte

// hook lets tests be dishonest.
type hook struct {
	value func(op int, vals []int32) // after an operation; the run goes on from there
	cells func(p *plan, d *data)     // before multiplicities are counted
	late  func(p *plan, d *data)     // after that, before anything is committed
	claim func(c *Claim)             // what is claimed
	watch func(t *transcript.Prover) // before anything is said
}

// Prove runs the program and proves all of its output.
func (pk *ProverKey) Prove(input [][]int32) (Claim, Proof, error) {
	return pk.ProveFrom(input, make([]int, len(pk.card.outs)))
}

// ProveFrom is Prove for the rows of output k from row from[k] on; len(input)
// proves nothing of that output.
func (pk *ProverKey) ProveFrom(input [][]int32, from []int) (Claim, Proof, error) {
	claims, proof, err := pk.ProveBatch([]Run{{Input: input, From: from}})
	if err != nil {
		return Claim{}, nil, err
	}
	return claims[0], proof, nil
}

// ProveBatch proves several runs at once, each in its environment. The opening
// of the model and most of the proof's size are paid once. Inputs are filled up
// to the length of the longest, and their number, at most MaxSequences, to a
// power of two.
func (pk *ProverKey) ProveBatch(runs []Run) ([]Claim, Proof, error) {
	return pk.prove(runs, hook{})
}

func (pk *ProverKey) prove(runs []Run, h hook) ([]Claim, Proof, error) {
	if len(runs) < 1 || len(runs) > MaxSequences {
		return nil, nil, fmt.Errorf("zkml: %d runs, want 1 to %d", len(runs), MaxSequences)
	}
	m, _ := pk.rooms.Get().(*rooms)
	if m == nil {
		m = new(rooms)
	}
	defer pk.rooms.Put(m)
	m.proof.Reset()
	m.trace.Reset()
	tr, err := pk.run(runs, &m.trace, h.value)
	if err != nil {
		return nil, nil, err
	}
	claims := make([]Claim, len(runs))
	for s, run := range runs {
		if len(run.From) != len(pk.card.outs) {
			return nil, nil, errors.New("zkml: one first row for each output is needed")
		}
		claims[s] = Claim{Input: run.Input, Env: run.Env, From: run.From}
		for k, v := range pk.card.outs {
			first := run.From[k]
			if first < 0 || first > len(run.Input) {
				return nil, nil, fmt.Errorf("zkml: output %d from row %d of %d", k, first, len(run.Input))
			}
			l := pk.plan.lay[v]
			var rows [][]int32
			for r := first; r < len(run.Input); r++ {
				row := make([]int32, l.cols())
				for j := range row {
					row[j] = tr.vals[v][(s<<tr.t+r)<<l.bits()|l.index(j)]
				}
				rows = append(rows, row)
			}
			claims[s].Output = append(claims[s].Output, rows)
		}
	}
	if h.claim != nil {
		h.claim(&claims[0])
	}
	modes := pk.chooseModes(tr)
	p, err := newPlan(&pk.card, len(runs), longest(claims), modes)
	if err != nil {
		return nil, nil, err
	}
	if err := pk.card.budget(p).Check(); err != nil {
		return nil, nil, err
	}
	if m.step == nil {
		m.step = koala.NewRoom(logup.Room(p.fractions))
	}
	m.step.Reset()
	d := pk.fill(p, tr, m)
	honest := h.value == nil && h.cells == nil && h.late == nil && h.claim == nil
	if err := p.known(d.v, claims); err != nil && honest {
		return nil, nil, err
	}
	if h.cells != nil {
		h.cells(p, d)
	}
	if err := p.derive(d.v); err != nil && honest {
		return nil, nil, err
	}
	t := transcript.NewProver(magic)
	if h.watch != nil {
		h.watch(t)
	}
	header := append([]byte(magic), modes...)
	t.Hint(header)
	absorb(t, &pk.card, header, claims)
	for i, s := range p.slots {
		if s.sent {
			head, body := pack(d.v.ints[i])
			t.Bytes("row", head)
			t.Bytes("row", body)
		}
	}
	pk.proveFilled(t, p, d, h)
	return claims, t.Proof(), nil
}

// longest is the greatest number of rows.
func longest(claims []Claim) int {
	n := 0
	for _, c := range claims {
		n = max(n, len(c.Input))
	}
	return n
}

// absorber is either side of a transcript.
type absorber interface {
	Absorb(label string, data []byte)
}

// absorb binds all that both sides know.
func absorb(t absorber, c *Card, header []byte, claims []Claim) {
	id := c.ID()
	t.Absorb("card", id[:])
	t.Absorb("header", header)
	params := paramsOf(c)
	b := []byte{byte(params.Height), byte(params.Rate), byte(params.Work), byte(params.FoldWork)}
	for _, w := range params.Words {
		b = binary.LittleEndian.AppendUint32(append(b, byte(w.Slack)), uint32(w.Queries))
	}
	t.Absorb("parameters", b)
	rows := func(m [][]int32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(m)))
		for _, r := range m {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(r)))
			for _, x := range r {
				b = binary.LittleEndian.AppendUint32(b, uint32(x))
			}
		}
		return b
	}
	t.Absorb("claims", binary.LittleEndian.AppendUint32(nil, uint32(len(claims))))
	for _, claim := range claims {
		t.Absorb("environment", binary.LittleEndian.AppendUint32(claim.Env.Seed[:], uint32(claim.Env.Temperature)))
		t.Absorb("input", rows(claim.Input))
		for k := range c.outs {
			t.Absorb("from", binary.LittleEndian.AppendUint32(nil, uint32(claim.From[k])))
			t.Absorb("output", rows(claim.Output[k]))
		}
	}
}

func (pk *ProverKey) proveFilled(t *transcript.Prover, p *plan, d *data, h hook) {
	for i := range p.publics {
		d.source(p, source{public, i})
	}
	// Limbs in order: later ones may split earlier ones.
	for _, l := range p.limbs {
		shiftRight(d.witness[l.column], d.values(p, l.value, d.v.room.Elems()), l.shift)
	}
	values, seconds := d.lookups(p)
	d.count(p, values)
	if h.late != nil {
		h.late(p, d)
		values, seconds = d.lookups(p)
	}

	commit := pk.params.Commit(d.columns, d.v.room)
	root := commit.Root()
	t.Bytes("witness", root[:])

	// Lookups.
	t.Grind("work", fractionWork)
	alpha, gamma := t.Challenge("alpha"), t.Challenge("gamma")
	room := d.v.room
	room.Reset()
	leaf := logup.Prove(t, p.fractions, fractions(p, d, values, seconds, alpha, gamma), room)

	// One equation of everything.
	c := &equation{p: p, v: d.v}
	p.gather(t, c, leaf, alpha, gamma)
	for level := range p.levels() {
		now := c.wave(level)
		if len(now) == 0 {
			continue
		}
		room.Reset()
		terms := d.terms(p, now)
		sums := sumcheck.New(p.waveVars(now), terms)
		t.Exts("sum", sums.Sum())
		y := sums.Prove(t)
		var evals []koala.Ext
		for i, a := range now {
			for _, f := range []*sumcheck.Table{terms[i].F, terms[i].G}[:p.prods[a.src.id].factors()] {
				evals = append(evals, f.Value())
			}
		}
		t.Exts("factors", evals...)
		c.factors(now, y, t.Challenge("factor"))
	}
	room.Reset()
	pk.params.Prove(t, []whir.Part{{At: 0, Commitment: pk.commit}, {At: p.witnessAt, Commitment: commit}}, p.logColumns, c.weights(), room)
}

// coins is either side of a transcript.
type coins interface {
	Challenge(label string) koala.Ext
	Challenges(label string, n int) []koala.Ext
}

// gather starts the equation: the leaf of the lookups, and everything that is
// zero at a random point.
func (p *plan) gather(t coins, c *equation, leaf []koala.Ext, alpha, gamma koala.Ext) (beta koala.Ext) {
	n := 0
	for _, f := range p.zeros {
		n = max(n, f.n)
	}
	for _, r := range p.rowTabs {
		n = max(n, p.slots[r.key].bits)
	}
	tau := t.Challenges("tau", n)
	beta = t.Challenge("beta")
	c.fractions(leaf, alpha, gamma, beta)
	power := beta
	for _, f := range p.zeros {
		power = power.Mul(beta)
		c.add(f, tau[:f.n], power)
	}
	for _, r := range p.rowTabs {
		power = power.Mul(beta)
		c.rowTable(r, tau, power)
	}
	return beta
}

// factors adds the claims about the factors of a wave's products at the point
// reached, each times a power of rho. The values join the equation's right
// side by the caller, in the same order.
func (c *equation) factors(now []atPoint, y []koala.Ext, rho koala.Ext) (powers []koala.Ext) {
	power := rho
	for _, a := range now {
		s := c.p.prods[a.src.id]
		at := append(append([]koala.Ext(nil), a.point...), y[len(y)-s.y:]...)
		for _, f := range []form{s.f, s.g} {
			if len(f.terms) > 0 {
				c.add(f, at, power)
				powers = append(powers, power)
				power = power.Mul(rho)
			}
		}
	}
	return powers
}

// lookups returns the values of all lookups, and their second elements where
// they have one.
func (d *data) lookups(p *plan) (values, seconds [][]koala.Elem) {
	values, seconds = make([][]koala.Elem, len(p.lookups)), make([][]koala.Elem, len(p.lookups))
	parallel.Each(len(p.lookups), func(i int) {
		l := p.lookups[i]
		values[i] = d.values(p, l.value, d.room)
		if len(l.second.terms) > 0 {
			seconds[i] = d.values(p, l.second, d.room)
		}
	})
	return values, seconds
}

// shiftRight sets dst to the integers in (-p/2, p/2) that elements stand for,
// shifted.
func shiftRight(dst, x []koala.Elem, by int) {
	const half = koala.P / 2
	parallel.For(len(x), 1<<14, func(from, to int) {
		var uints [1 << 10]koala.Elem
		var ints [1 << 10]int32
		for at := from; at < to; at += len(uints) {
			end := min(at+len(uints), to)
			u, v := uints[:end-at], ints[:end-at]
			koala.Uints(u, x[at:end], koala.FromInt(-half))
			for i, e := range u {
				v[i] = (int32(e) - half) >> by
			}
			koala.FromInts(dst[at:end], v)
		}
	})
}

// count fills in the multiplicities. A value that is in no table is not
// counted: the proof will be refused.
func (d *data) count(p *plan, values [][]koala.Elem) {
	counts := make([][]int32, len(p.tables))
	for i, t := range p.tables {
		counts[i] = make([]int32, 1<<t.bits)
	}
	// Each table has few lookups that are long; do tables at a time.
	byTable := make([][]int, len(p.tables))
	for i, l := range p.lookups {
		byTable[l.table] = append(byTable[l.table], i)
	}
	nulls := make([]int32, len(p.tables))
	parallel.Each(len(p.tables), func(t int) {
		tab := p.tables[t]
		count := counts[t][:tab.live]
		lo := koala.FromInt(tab.lo)
		const nowhere = koala.P - 1
		want := koala.FromInt(tag(t))
		var room [1 << 10]koala.Elem
		for _, i := range byTable[t] {
			l := p.lookups[i]
			var only, tags []koala.Elem
			if l.only >= 0 {
				only = d.publics[l.only]
			}
			if l.null >= 0 {
				tags = d.values(p, l.tag, d.v.room.Elems())
			}
			for from := 0; from < len(values[i]); from += len(room) {
				x := room[:min(len(room), len(values[i])-from)]
				koala.Uints(x, values[i][from:from+len(x)], lo)
				if only != nil {
					for j := range x {
						if only[(from+j)&(len(only)-1)] == 0 {
							x[j] = nowhere
						}
					}
				}
				if tags != nil {
					for j := range x {
						if tags[from+j] != want {
							x[j] = nowhere
							nulls[t]++
						}
					}
				}
				// The entries' places.
				for _, at := range x {
					if int(at) < len(count) {
						count[at]++
					}
				}
			}
		}
	})
	for _, n := range nulls {
		counts[p.null][0] += n
	}
	for i, t := range p.tables {
		fromInts(d.witness[t.count], counts[i])
	}
}

// fractions describes the leaves of the lookup argument: denominators are alpha
// less the value, less gamma times the second element, less gamma^2 times the
// tag.
func fractions(p *plan, d *data, values, seconds [][]koala.Elem, alpha, gamma koala.Ext) logup.Leaves {
	gamma2 := gamma.Mul(gamma)
	out := logup.Leaves{Coef: [logup.Terms]koala.Ext{koala.ExtOne.Neg(), gamma.Neg(), gamma2.Neg()}}
	parts := make([]logup.Part, len(p.lookups)+len(p.tables))
	parallel.Each(len(p.lookups), func(i int) {
		l := p.lookups[i]
		f := logup.Part{At: l.at, Len: 1 << l.bits, Const: alpha, Base: [logup.Terms][]koala.Elem{values[i], seconds[i]}}
		if l.only >= 0 {
			f.Num = d.publics[l.only]
		}
		if len(l.tag.terms) == 1 && l.tag.terms[0].src.kind == one {
			f.Const = alpha.Sub(gamma2.Scale(koala.FromInt(l.tag.terms[0].coef)))
		} else {
			f.Base[2] = d.values(p, l.tag, d.room)
		}
		parts[i] = f
	})
	parallel.Each(len(p.tables), func(i int) {
		t := p.tables[i]
		n := 1 << t.bits
		f := logup.Part{At: t.at, Len: n, Num: d.room.New(n), Const: alpha}
		koala.SubElems(f.Num, f.Num, d.witness[t.count])
		value, tags := d.room.Take(n), d.room.New(n)
		koala.Fill(tags[:t.live], koala.FromInt(tag(i)))
		// The entries lo, lo + 1 ...: those after the first k are these and k.
		value[0] = koala.FromInt(t.lo)
		for k := 1; k < n; k *= 2 {
			next := value[k : 2*k]
			koala.Fill(next, koala.FromInt(int64(k)))
			koala.AddElems(next, next, value[:k])
		}
		f.Base[0], f.Base[2] = value, tags
		if t.region >= 0 {
			second := d.room.Take(n)
			koala.Fill(second[copy(second, d.model[t.region]):], koala.FromInt(t.last))
			f.Base[1] = second
		} else if t.mark {
			f.Base[1] = d.room.New(n)
			f.Base[1][0] = koala.One
		}
		parts[len(p.lookups)+i] = f
	})
	slices.SortFunc(parts, func(a, b logup.Part) int { return a.At - b.At })
	out.Parts = parts
	return out
}

// weights returns the weights of the committed polynomial.
func (c *equation) weights() []whir.Weight {
	p := c.p
	out := make([]whir.Weight, 0, len(c.oracles.list)+len(c.sparse))
	for _, a := range c.oracles.list {
		at, _ := p.base(a.src)
		out = append(out, whir.Weight{At: at, Point: a.point, Coef: a.coef})
	}
	for _, s := range c.sparse {
		out = append(out, whir.Weight{At: s.index, Coef: s.coef})
	}
	return out
}
