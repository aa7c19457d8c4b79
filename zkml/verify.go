package zkml

import (
	"errors"
	"fmt"
	"math"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/logup"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/soundness"
	"github.com/torg-network/torg/zkml/sumcheck"
	"github.com/torg-network/torg/zkml/transcript"
	"github.com/torg-network/torg/zkml/whir"
)

// magic begins a proof and its transcript, and names its version.
const magic = "torgzkp3"

// Parameters of the commitments.
const (
	rate         = 2  // the code has rate 1/4
	queryWork    = 16 // bits of proof of work before queries,
	foldWork     = 12 // before each fold,
	fractionWork = 10 // and before lookups become fractions
)

func paramsOf(c *Card) whir.Params {
	return whir.NewParams(c.height, rate, queryWork, foldWork, soundness.MinBits)
}

// budget is the soundness of a plan's proof.
func (c *Card) budget(p *plan) soundness.Budget {
	params := paramsOf(c)
	// What is said before the opening must fail for all that may have been
	// committed to.
	list := params.List()
	fractions := math.Exp2(float64(p.fractions))
	claims := float64(2 + len(p.zeros) + len(p.rowTabs))
	n := 0
	for _, f := range p.zeros {
		n = max(n, f.n)
	}
	b := soundness.Budget{
		{Name: fmt.Sprintf("fractions at a random point, 2^%d of them", p.fractions), Source: "Haböck 2022; degree 2 in the joining of pairs", Count: 1,
			Bits: soundness.FieldBits - math.Log2(2*fractions*list) + fractionWork, Work: fractionWork},
		soundness.Round("levels of fractions: numerator and denominator joined", "Papini and Haböck 2023", 2*p.fractions, list),
		soundness.Round("sum-checks of fractions", "Lund et al. 1992, degree 3", p.fractions*(p.fractions-1)/2, 3*list),
		soundness.Round("identities at a random point", "Schwartz 1980, Zippel 1979", 1, float64(max(n, 1))*list),
		soundness.Round("claims joined by powers", "Schwartz 1980, Zippel 1979", 1, claims*list),
	}
	for level := range p.levels() {
		vars, factors := 0, 0
		for i, d := range p.prods {
			if d.level == level {
				vars = max(vars, d.y)
				factors += p.claims[i] * d.factors()
			}
		}
		b = append(b,
			soundness.Round(fmt.Sprintf("sum-check of products, level %d", level), "Thaler 2013, degree 3", vars, 3*list),
			soundness.Round("factors joined by powers", "Schwartz 1980, Zippel 1979", 1, float64(factors+1)*list))
	}
	return append(b, params.Budget(p.logColumns)...)
}

// Budget is the soundness of a proof over a number of sequences of the given
// number of rows, in the cheapest modes.
func (c Card) Budget(sequences, rows int) (soundness.Budget, error) {
	p, err := newPlan(&c, sequences, rows, nil)
	if err != nil {
		return nil, err
	}
	return c.budget(p), nil
}

// Cost is what verifying takes at most.
type Cost struct {
	Bytes  int // size of the proof
	Hashes int // compressions of 64 bytes
	Field  int // multiplications in the extension, or as much work
	Memory int // bytes allocated, roughly
}

// Gas is one number for a cost: about microseconds on one core, for ledgers
// that charge before they verify.
func (c Cost) Gas() uint64 { return uint64(c.Hashes/5+c.Field/40) + 100 }

// readHeader splits a proof into the modes that its header names and what
// follows.
func readHeader(c *Card, proof []byte) (modes, rest []byte, err error) {
	n := len(magic)
	for _, op := range c.ops {
		switch op.Kind {
		case exact.Requantise:
			if saturation(op, withZero(c.facts[op.In[0]].Range)) > 0 {
				n++
			}
		case exact.Attention, exact.FullAttention:
			n += 2
		}
	}
	if len(proof) < n || string(proof[:len(magic)]) != magic {
		return nil, nil, errMode{"not a proof of this version"}
	}
	return proof[len(magic):n:n], proof[n:], nil
}

// cost estimates a plan's verification.
func (p *plan) cost() Cost {
	params := paramsOf(p.card)
	sent := 0
	publics := 0
	for _, s := range p.slots {
		if s.sent {
			sent += packHead + 4<<s.bits
		}
		publics += 1 << s.bits
	}
	opening := params.OpeningSize([]int{p.modelColumns, p.witnessColumns}, p.logColumns)
	rounds := p.fractions*(p.fractions+3)/2 + 1
	factors := 0
	for i, d := range p.prods {
		factors += p.claims[i] * d.factors()
	}
	transcript := (rounds*2 + p.fractions*4 + factors + p.levels()*(3*30+1)) * koala.ExtSize
	terms := 0
	for _, l := range p.lookups {
		terms += len(l.value.terms) + len(l.second.terms) + len(l.tag.terms) + 1
	}
	for i, d := range p.prods {
		terms += p.claims[i] * (len(d.f.terms) + len(d.g.terms) + 1)
	}
	for _, f := range p.zeros {
		terms += len(f.terms)
	}
	terms += len(p.rowTabs) << p.rowBits()
	// Vectors are evaluated wherever they occur, for each claim about what they
	// occur in. An element takes a quarter of a multiplication.
	evaluated := 0
	evaluate := func(times int, forms ...form) {
		for _, f := range forms {
			for _, t := range f.terms {
				if t.src.kind == public {
					evaluated += times * p.evaluation(t.src.id)
				}
			}
		}
	}
	for _, l := range p.lookups {
		evaluate(1, l.value, l.second, l.tag)
		if l.only >= 0 {
			evaluated += p.evaluation(l.only)
		}
	}
	for _, f := range p.zeros {
		evaluate(1, f)
	}
	for i, d := range p.prods {
		evaluate(p.claims[i], d.f, d.g)
	}
	// Weights are evaluated for each claim about their product.
	rows, hashes, tables := 0, 0, 0
	for i, n := range p.claims {
		switch d := p.prods[i]; d.weight {
		case plain:
		case arranged:
			tables += n * (1<<d.moved.to.bits() + 2<<d.y)
		default:
			rows += n * 3 << p.slots[d.slot].bits
		}
	}
	for _, op := range p.card.ops {
		if op.Kind == exact.Noise {
			hashes += int(op.Params[0]) << p.rowBits() / 16
		}
	}
	// The card is hashed too.
	for _, k := range p.card.opened() {
		hashes += len(p.card.consts[k].data) / 16
	}
	c := Cost{Bytes: len(magic) + len(p.modes) + sent + opening + transcript + 40}
	c.Hashes = c.Bytes/32 + 4*rounds + hashes
	c.Field = terms*2*(p.logColumns+p.card.height) + 4*publics + evaluated/4 + rows + tables + opening/koala.ElemSize + 20*rounds
	c.Memory = 4*c.Bytes + 64*publics + koala.ExtSize*tables + 1<<16
	return c
}

// evaluation is how many base field elements are multiplied by one of the
// extension to evaluate a public polynomial.
func (p *plan) evaluation(id int) int {
	d := p.publics[id]
	switch d.kind {
	case maskPoly, causalPoly:
		return 16 * d.bits
	case lessPoly:
		return 16 * d.bits << p.slots[d.slot].bits
	}
	return 1 << p.slots[d.slot].bits
}

// Price reads the header of a proof about a number of sequences, the longest of
// the given number of rows, and returns what verifying it would take at most,
// having done little: the plan is made, and nothing is hashed.
func Price(c Card, sequences, rows int, proof Proof) (Cost, error) {
	modes, _, err := readHeader(&c, proof)
	if err != nil {
		return Cost{}, err
	}
	p, err := newPlan(&c, sequences, rows, modes)
	if err != nil {
		return Cost{}, err
	}
	return p.cost(), nil
}

// ErrRefused is wrapped by every error that means: this proof does not prove
// this claim about this program.
var ErrRefused = errors.New("zkml: proof refused")

// Verify reports whether the proof shows that the card's program has the
// claimed output. It is a pure function, deterministic on every machine; time
// and memory are bounded by what Price says.
func Verify(c Card, claim Claim, proof Proof) error {
	return VerifyBatch(c, []Claim{claim}, proof)
}

// VerifyBatch is Verify for all claims of one proof, in their order.
func VerifyBatch(c Card, claims []Claim, proof Proof) error {
	if err := verify(&c, claims, proof, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// verify lets tests watch the transcript.
func verify(c *Card, claims []Claim, proof Proof, watch func(*transcript.Verifier)) error {
	for _, claim := range claims {
		if err := c.checkRun(claim.run()); err != nil {
			return err
		}
	}
	modes, body, err := readHeader(c, proof)
	if err != nil {
		return err
	}
	p, err := newPlan(c, len(claims), longest(claims), modes)
	if err != nil {
		return err
	}
	if err := c.budget(p).Check(); err != nil {
		return err
	}
	if most := p.cost().Bytes; len(proof) > most {
		return fmt.Errorf("proof of %d bytes, at most %d expected", len(proof), most)
	}
	v := newVectors(p)
	if err := p.known(v, claims); err != nil {
		return err
	}
	t := transcript.NewVerifier(magic, body)
	if watch != nil {
		watch(t)
	}
	absorb(t, c, proof[:len(proof)-len(body)], claims)
	for i, s := range p.slots {
		if !s.sent {
			continue
		}
		head := t.Bytes("row", packHead)
		if t.Err() != nil {
			return t.Err()
		}
		width, err := packedWidth(head)
		if err != nil {
			return err
		}
		body := t.Bytes("row", packedSize(1<<s.bits, width))
		if t.Err() != nil {
			return t.Err()
		}
		x, err := unpack(head, body, 1<<s.bits)
		if err != nil {
			return err
		}
		v.set(i, x)
	}
	if err := p.derive(v); err != nil {
		return err
	}
	var root [32]byte
	copy(root[:], t.Bytes("witness", len(root)))

	t.Grind("work", fractionWork)
	alpha, gamma := t.Challenge("alpha"), t.Challenge("gamma")
	leaf, num, den, err := logup.Verify(t, p.fractions)
	if err != nil {
		return err
	}
	cl := &equation{p: p, v: v, check: true}
	beta := p.gather(t, cl, leaf, alpha, gamma)
	right := num.Add(beta.Mul(den))
	for level := range p.levels() {
		now := cl.wave(level)
		if len(now) == 0 {
			continue
		}
		sum := t.Ext("sum")
		right = right.Sub(sum)
		y, value := sumcheck.Verify(t, p.waveVars(now), sum)
		n := 0
		for _, a := range now {
			n += p.prods[a.src.id].factors()
		}
		evals := t.Exts("factors", n)
		var want koala.Ext
		k := 0
		for _, a := range now {
			d := p.prods[a.src.id]
			x := a.coef.Mul(evals[k])
			k++
			if d.factors() == 2 {
				x = x.Mul(evals[k])
				k++
			}
			x = x.Mul(d.weightAt(v, a.point, y[len(y)-d.y:]))
			for range len(y) - d.y {
				x = x.Scale(koala.Half)
			}
			want = want.Add(x)
		}
		if want != value {
			return sumcheck.ErrSum
		}
		for i, power := range cl.factors(now, y, t.Challenge("factor")) {
			right = right.Add(power.Mul(evals[i]))
		}
	}
	parts := []whir.Opening{{At: 0, Columns: p.modelColumns, Root: c.root}, {At: p.witnessAt, Columns: p.witnessColumns, Root: root}}
	if err := paramsOf(c).Verify(t, parts, p.logColumns, right.Sub(cl.constant).Sub(cl.public()), cl.weightAt); err != nil {
		return err
	}
	return t.Done()
}

// weightAt is the extension of weights at a point of the whole polynomial.
func (c *equation) weightAt(z []koala.Ext) koala.Ext {
	var sum koala.Ext
	// Regions are few and have several claims: their prefix is computed once.
	prefix := map[source]koala.Ext{}
	for _, a := range c.oracles.list {
		at, bits := c.p.base(a.src)
		e, ok := prefix[a.src]
		if !ok {
			e = mle.EqIndex(z[:len(z)-bits], at>>bits)
			prefix[a.src] = e
		}
		sum = sum.Add(a.coef.Mul(e).Mul(mle.EqAt(a.point, z[len(z)-bits:])))
	}
	if len(c.sparse) > 0 {
		points := mle.NewPoints(z)
		for _, s := range c.sparse {
			sum = sum.Add(s.coef.Mul(points.At(s.index)))
		}
	}
	return sum
}

// known fills in the vectors that follow from the claims.
func (p *plan) known(v *vectors, claims []Claim) error {
	t := p.rowBits()
	var runs []Run
	for _, c := range claims {
		runs = append(runs, c.run())
		if len(c.Output) != len(p.outputs) || len(c.From) != len(p.outputs) {
			return errors.New("claim does not have the program's outputs")
		}
	}
	for i, op := range p.card.ops {
		o := p.ops[i]
		switch op.Kind {
		case exact.Input:
			l := p.lay[i]
			x := make([]int64, 1<<(t+l.bits()))
			for r := range 1 << t {
				s, at := r>>p.t, r&(1<<p.t-1)
				for j := range l.cols() {
					e := filler(op)
					if s < len(claims) && at < len(claims[s].Input) {
						e = claims[s].Input[at][j]
					}
					x[r<<l.bits()|l.index(j)] = int64(e)
				}
			}
			v.set(o.slots[0], x)
		case exact.Position:
			x := make([]int64, 1<<t)
			for r := range x {
				x[r] = int64(min(r&(1<<p.t-1), p.card.rows-1))
			}
			v.set(o.slots[0], x)
		case exact.MeanRows:
			x := make([]int64, 1<<p.b)
			for s := range x {
				x[s] = int64(liveRows(s, runs) / 2)
			}
			v.set(o.slots[0], x)
		case exact.Noise:
			noise := p.noiseOf(i, runs)
			x := make([]int64, len(noise))
			for j, e := range noise {
				x[j] = int64(e)
			}
			v.set(o.slots[0], x)
		}
	}
	if p.live >= 0 {
		live, counts := make([]int64, 1<<t), make([]int64, 1<<p.b)
		for s := range counts {
			n := liveRows(s, runs)
			counts[s] = int64(n)
			for r := range n {
				live[s<<p.t|r] = 1
			}
		}
		v.set(p.live, live)
		v.set(p.counts, counts)
	}
	for k, out := range p.card.outs {
		l, f := p.lay[out], p.card.facts[out]
		x, asked := make([]int64, 1<<(t+l.bits())), make([]int64, 1<<t)
		for s, c := range claims {
			from := c.From[k]
			if from < 0 || from > len(c.Input) || len(c.Output[k]) != len(c.Input)-from {
				return fmt.Errorf("output %d: %d rows from row %d of %d", k, len(c.Output[k]), from, len(c.Input))
			}
			for r, row := range c.Output[k] {
				if len(row) != l.cols() {
					return fmt.Errorf("output %d: row of %d columns, want %d", k, len(row), l.cols())
				}
				at := s<<p.t + from + r
				asked[at] = 1
				for j, e := range row {
					// Also keeps integers that are equal modulo p apart: the
					// planner has checked that bounds are less than p apart.
					if int64(e) < f.Range.Lo || int64(e) > f.Range.Hi {
						return fmt.Errorf("output %d: %d is outside the program's bounds", k, e)
					}
					x[at<<l.bits()|l.index(j)] = int64(e)
				}
			}
		}
		v.set(p.outputs[k], x)
		v.set(p.asked[k], asked)
	}
	return nil
}

// derive checks what the prover sent of rows, as far as numbers go, and fills
// in the vectors that follow. That the numbers are those of the run is what
// the rest of the proof is for.
func (p *plan) derive(v *vectors) error {
	var first error
	for i, op := range p.card.ops {
		o := p.ops[i]
		var err error
		switch op.Kind {
		case exact.LayerNorm, exact.RMSNorm:
			err = p.deriveNorm(v, i, op, o)
		case exact.Attention, exact.FullAttention:
			arg, weight := v.ints[o.slots[attnArg]], v.ints[o.slots[attnWeight]]
			most := p.mostWeight(op)
			for r := range arg {
				// Rows are those of a sequence, of one head of many.
				last := int64(r & (1<<p.t - 1))
				if op.Kind == exact.FullAttention {
					last = v.ints[p.counts][r*len(v.ints[p.counts])/len(arg)] - 1
				}
				if arg[r] < 0 || arg[r] > last {
					err = errors.New("the greatest score is in no row that is attended to")
				}
				if weight[r] < 1 || weight[r] > most {
					err = errors.New("sum of exponentials is out of range")
				}
			}
		case exact.ArgMax:
			in := p.lay[op.In[0]]
			index := v.ints[o.slots[argIndex]]
			place := make([]int64, len(index))
			for r, a := range index {
				if a < 0 || a >= int64(in.cols()) {
					err = errors.New("no such column")
					continue
				}
				place[r] = int64(in.index(int(a)))
			}
			v.set(o.slots[argPlace], place)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("operation %d (%s): %w", i, op.Kind, err)
		}
	}
	return first
}

func (p *plan) deriveNorm(v *vectors, i int, op exact.Op, o opPlan) error {
	cols := p.lay[i].cols()
	in := p.card.facts[op.In[0]].Range
	spread := normSpread(op, in)
	centred := op.Kind == exact.LayerNorm
	n := 1 << p.rowBits()
	mean, key, factor, shift := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for r := range n {
		if centred {
			sum := v.ints[o.slots[normSum]][r]
			if sum < in.Lo*int64(cols) || sum > in.Hi*int64(cols) {
				return errors.New("sum is out of range")
			}
			mean[r] = meanOf(sum, cols)
		}
		hh, hl, ll := v.ints[o.slots[normHigh]][r], v.ints[o.slots[normCross]][r], v.ints[o.slots[normLow]][r]
		// Each is below 2^31 and the shift at most 26.
		s := hh<<(2*o.shift) + hl<<(o.shift+1) + ll
		if hh < 0 || ll < 0 || s < 0 || s > spread*spread*int64(cols) {
			return errors.New("sum of squares is out of range")
		}
		k, e := normKeyOf(s + op.Params[0])
		key[r] = k - normKeyLo
		entry := v.ints[o.slots[normEntry]][r]
		if key[r] < 0 || key[r] >= normKeyHi-normKeyLo || entry < 0 || entry >= exact.Limit {
			return errors.New("factor is out of range")
		}
		factor[r] = normFactorOf(entry, e)
		shift[r] = mean[r] * factor[r]
	}
	v.set(o.slots[normKey], key)
	v.set(o.slots[normFactor], factor)
	if centred {
		v.set(o.slots[normMean], mean)
		v.set(o.slots[normShift], shift)
	}
	return nil
}
