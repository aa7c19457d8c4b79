package zkml

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/transcript"
)

// TestModuloAttack claims an output that differs from the right one by p, and
// an input likewise: both are within bounds that are wider than p. No program
// with such an output can be proven, and with the widest that can the other
// integer is out of bounds.
func TestModuloAttack(t *testing.T) {
	program := func(lo, hi int64) *exact.Program {
		p := &exact.Program{Rows: 2}
		x := p.Op(exact.Input, nil, nil, 1, lo, hi)
		p.Outputs = []exact.Value{p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(1, 1, []int32{1})}), x}
		return p
	}
	if _, _, err := Commit(program(-(koala.P-1)/2, (koala.P+1)/2)); err == nil {
		t.Error("an output whose bounds are p apart can be proven")
	}
	if _, _, err := Commit(program(1-exact.Limit, exact.Limit-1)); err == nil {
		t.Error("an output of exact's bounds can be proven")
	}
	const most = (koala.P - 1) / 2
	card, pk := mustCommit(t, program(-most, most))
	for _, x := range []int32{most, -most, 0} {
		in := [][]int32{{x}, {1}}
		claim, proof, err := pk.Prove(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(card, claim, proof); err != nil {
			t.Fatal(err)
		}
		for _, off := range []int32{koala.P, -koala.P} {
			for k := range 2 {
				refused(t, "output and p", card, pk, in, hook{claim: func(c *Claim) { c.Output[k][0][0] += off }})
			}
			refused(t, "input and p", card, pk, in, hook{claim: func(c *Claim) { c.Input = [][]int32{{x + off}, {1}} }})
		}
	}
}

// TestHostileCards: cards that no program has, in which an index may leave a
// constant, are refused. With one that is not, a proof made by hand stops the
// verifier while it computes what to expect.
func TestHostileCards(t *testing.T) {
	program := func(index exact.Kind) *exact.Program {
		p := &exact.Program{Rows: 4}
		x := p.Op(exact.Input, nil, nil, 1, 0, 3)
		at := x
		switch index {
		case exact.Position:
			at = p.Op(exact.Position, nil, nil, 4)
		case exact.ArgMax:
			at = p.Op(exact.ArgMax, []exact.Value{p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(1, 4, []int32{-3, 1, 2, 3})})}, nil)
		}
		p.Outputs = []exact.Value{p.Op(exact.Gather, []exact.Value{at}, []int{p.Const(4, 2, []int32{1, 2, 3, 4, 5, 6, 7, 8})})}
		return p
	}
	// bounds changes what a card says of an operation.
	bounds := func(kind exact.Kind, lo, hi int64) func(*Card) {
		return func(c *Card) {
			for i, op := range c.ops {
				if op.Kind == kind {
					c.facts[i].Range = exact.Range{Lo: lo, Hi: hi}
					if kind == exact.Input {
						c.ops[i].Params[1], c.ops[i].Params[2] = lo, hi
					}
				}
			}
		}
	}
	for _, kind := range []exact.Kind{exact.Input, exact.Position, exact.ArgMax} {
		card, _ := mustCommit(t, program(kind))
		for name, change := range map[string]func(c *Card){
			"a shorter table": func(c *Card) { c.consts[len(c.consts)-1].rows = 2 },
			"bounds below":    bounds(kind, -5, 3),
			"bounds above":    bounds(kind, 0, 1<<20),
		} {
			bad, err := DecodeCard(card.Encode())
			if err != nil {
				t.Fatal(err)
			}
			change(&bad)
			if bad, err = DecodeCard(bad.Encode()); err != nil {
				continue
			}
			t.Errorf("%s, %s: not refused", kind, name)
			for _, x := range []int32{-5, 3, 1 << 20} {
				claims := []Claim{{Input: [][]int32{{x}, {0}}, From: []int{2}, Output: [][][]int32{nil}}}
				p := transcript.NewProver(magic)
				p.Hint([]byte(magic))
				absorb(p, &bad, []byte(magic), claims)
				if kind == exact.ArgMax { // the last column is said to be the greatest
					for range 2 {
						head, body := pack([]int64{3, 3})
						p.Bytes("row", head)
						p.Bytes("row", body)
					}
				}
				p.Bytes("witness", make([]byte, 32))
				p.Grind("work", fractionWork)
				p.Exts("denominator", koala.ExtOne)
				p.Hint(make([]byte, 1500))
				func() {
					defer func() {
						if e := recover(); e != nil {
							t.Errorf("%s, %s, %d: %v", kind, name, x, e)
						}
					}()
					_ = VerifyBatch(bad, claims, bytes.Clone(p.Proof()))
				}()
			}
		}
	}
}

// TestCardNumbers: numbers in a card that are negative, or whose product is
// small, where an int has 32 bits are refused there as elsewhere.
func TestCardNumbers(t *testing.T) {
	p := &exact.Program{Rows: 1}
	x := p.Op(exact.Input, nil, nil, 2, 0, 1)
	p.Outputs = []exact.Value{p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 2, []int32{1, 0})})}
	card, _ := mustCommit(t, p)
	le := binary.LittleEndian
	arrange := le.AppendUint32(le.AppendUint32([]byte{byte(exact.Arrange), 1, 1, 0}, uint32(x)), 0)
	shape := le.AppendUint32(le.AppendUint32(nil, 1), 2)
	for _, c := range []struct{ find, put []byte }{
		{arrange, le.AppendUint32(arrange[:8:8], 1<<32-1)}, // constant -1
		{shape, le.AppendUint32(le.AppendUint32(nil, 1<<16), 1<<16)},
		{shape, le.AppendUint32(le.AppendUint32(nil, 1<<32-1), 1<<32-2)},
	} {
		b := card.Encode()
		if n := bytes.Count(b, c.find); n != 1 {
			t.Fatalf("%x is %d times in the card", c.find, n)
		}
		if _, err := DecodeCard(bytes.Replace(b, c.find, c.put, 1)); err == nil {
			t.Errorf("%x: not refused", c.put)
		}
	}
	card.consts[0] = constShape{rows: 1 << 16, cols: 1 << 16}
	if err := card.check(); err == nil || !strings.Contains(err.Error(), "constant") {
		t.Errorf("a constant of 2^32 elements: %v", err)
	}
}

// TestPriceOfVectors: a long input that is read by a product at each of many
// levels is evaluated at as many points, which is paid for.
func TestPriceOfVectors(t *testing.T) {
	const rows, cols = 4, 1 << 10
	price := func(steps int) Cost {
		p := &exact.Program{Rows: rows}
		x := p.Op(exact.Input, nil, nil, cols, 0, 1)
		w := make([]int32, cols)
		w[3] = 1
		read := func() exact.Value { return p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(cols, 1, w)}) }
		y := read()
		for range steps {
			y = p.Op(exact.Multiply, []exact.Value{y, read()}, nil)
		}
		p.Outputs = []exact.Value{y}
		in := make([][]int32, rows)
		for i := range in {
			in[i] = make([]int32, cols)
			in[i][3] = 1
		}
		card, _, _, proof := proven(t, p, []Run{{Input: in, From: []int{0}}})
		pl, err := newPlan(&card, 1, rows, nil)
		if err != nil || pl.levels() < steps {
			t.Fatalf("%d levels: %v", pl.levels(), err)
		}
		cost, err := Price(card, 1, rows, proof)
		if err != nil {
			t.Fatal(err)
		}
		return cost
	}
	few, many := price(2), price(34)
	// An element times one of the extension is a quarter of a multiplication.
	if more := many.Field - few.Field; more < 32*rows*cols/4 {
		t.Errorf("reading %d elements 32 times more costs %d more", rows*cols, more)
	}
}

// TestPriceOfCard: what the verifier hashes and computes because it is in the
// card is paid for: where columns come from, quantiles, and noise.
func TestPriceOfCard(t *testing.T) {
	const rows, cols = 4, 1 << 14
	price := func(cols int64, op func(p *exact.Program, x exact.Value) exact.Value) Cost {
		p := &exact.Program{Rows: rows}
		x := p.Op(exact.Input, nil, nil, cols, 0, 1)
		p.Outputs = []exact.Value{op(p, x)}
		card, err := newCard(p)
		if err != nil {
			t.Fatal(err)
		}
		card.height = 12
		pl, err := newPlan(&card, 1, rows, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pl.cost()
	}
	same := func(_ *exact.Program, x exact.Value) exact.Value { return x }
	arrange := func(p *exact.Program, x exact.Value) exact.Value {
		return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, cols, make([]int32, cols))})
	}
	noise := func(n int64) func(p *exact.Program, x exact.Value) exact.Value {
		return func(p *exact.Program, _ exact.Value) exact.Value {
			return p.Op(exact.Noise, nil, []int{p.Const(1, 1<<16, make([]int32, 1<<16))}, n)
		}
	}
	// A block of 64 bytes has 16 elements. Proofs are hashed besides.
	hashes := func(c Cost) int { return c.Hashes - c.Bytes/32 }
	moved, kept := price(cols, arrange), price(cols, same)
	if more := hashes(moved) - hashes(kept); more < cols/16 {
		t.Errorf("a card of %d columns costs %d hashes more", cols, more)
	}
	if more := moved.Field - kept.Field; more < cols {
		t.Errorf("arranging %d columns costs %d multiplications more", cols, more)
	}
	if more := hashes(price(1, noise(1))) - hashes(price(1, same)); more < 1<<16/16 {
		t.Errorf("a card of %d quantiles costs %d hashes more", 1<<16, more)
	}
	if more := hashes(price(1, noise(cols))) - hashes(price(1, noise(1))); more < rows*cols/16-rows {
		t.Errorf("noise in %d columns costs %d hashes more", cols, more)
	}
}

// TestTableAttack: a remainder that is out of its range is counted in the table
// of a greater one. But for the tags of tables the proof is right.
func TestTableAttack(t *testing.T) {
	p := &exact.Program{Rows: 1}
	x := p.Op(exact.Input, nil, nil, 1, -1000, 1000)
	y := p.Op(exact.Requantise, []exact.Value{x}, nil, 4, 12)
	z := p.Op(exact.Requantise, []exact.Value{x}, nil, 8, 12)
	p.Outputs = []exact.Value{y, z}
	in := [][]int32{{160}} // 160 + 8 = 16 * 10 + 8
	card, pk, _, _ := proven(t, p, []Run{{Input: in, From: []int{0, 0}}})
	refused(t, "a remainder in another's table", card, pk, in, hook{
		cells: func(p *plan, d *data) { d.witness[p.ops[y].columns[0]][0] = koala.FromInt(9) },
		late: func(p *plan, d *data) {
			values, _ := d.lookups(p)
			moved := 0
			for i, l := range p.lookups {
				if e := values[i][0].Int(); e < 0 || e >= int64(p.tables[l.table].live) {
					for k, great := range p.tables {
						if great.live == 256 && great.region < 0 {
							count := d.witness[p.tables[k].count]
							count[e] = count[e].Add(koala.One)
							moved++
						}
					}
				}
			}
			if moved != 1 {
				t.Errorf("%d lookups moved", moved)
			}
		},
		claim: func(c *Claim) { c.Output[0][0][0] = 9 },
	})
}

// TestRoom: whatever the ranges that tables allow to what is committed of a
// rounding, both sides of its equation are less than p apart, and every honest
// value is allowed. Bounds of values come near the limit on either side.
func TestRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 14))
	end := func() int64 {
		if r.IntN(2) == 0 {
			return exact.Limit - 1 - r.Int64N(1<<24)
		}
		return r.Int64N(exact.Limit)
	}
	planned, wide := 0, 0
	for range 4000 {
		lo, hi := -end(), end()
		if r.IntN(4) == 0 {
			lo = 0
		}
		s := 14 + r.Int64N(3) // so that most ranges are not split
		prog := &exact.Program{Rows: 1}
		x := prog.Op(exact.Input, nil, nil, 1, lo, hi)
		y := prog.Op(exact.Requantise, []exact.Value{x}, nil, s, 4+r.Int64N(16))
		prog.Outputs = []exact.Value{y}
		card, err := newCard(prog)
		if err != nil {
			t.Fatal(err)
		}
		card.height = 8
		widest := saturation(prog.Ops[y], exact.Range{Lo: min(lo, 0), Hi: max(hi, 0)})
		if _, err := newPlan(&card, 1, 1, []byte{byte(widest + 1)}); widest > 0 && err == nil {
			t.Fatal("a mode beyond the widest")
		}
		for _, mode := range []int{0, r.IntN(widest + 1), widest} {
			p, err := newPlan(&card, 1, 1, []byte{byte(mode)})
			if err != nil {
				if p, err = newPlan(&card, 1, 1, []byte{}); mode > 0 || err != nil {
					continue
				}
			}
			if len(p.limbs) > 0 {
				continue // ranges that are split are looked up in parts
			}
			planned++
			// allowed is what tables allow to a committed column.
			allowed := func(k int) exact.Range {
				o := p.ops[y]
				if k >= len(o.columns) || o.columns[k] < 0 {
					return exact.Range{}
				}
				for _, l := range p.lookups {
					if f := l.value.terms; f[0].src == (source{witness, o.columns[k]}) && f[0].coef == 1 {
						from := int64(0)
						for _, c := range f[1:] {
							from -= c.coef
						}
						return exact.Range{Lo: from, Hi: from + int64(p.tables[l.table].live) - 1}
					}
				}
				t.Fatalf("column %d is not looked up", k)
				return exact.Range{}
			}
			o, over, under := allowed(0), allowed(1), allowed(2)
			q := exact.Range{Lo: o.Lo - under.Hi, Hi: o.Hi + over.Hi}
			half := int64(1) << s >> 1
			if q.Hi<<s+1<<s-1-half-lo >= koala.P || q.Lo<<s-half-hi <= -koala.P {
				t.Fatalf("[%d, %d] by 2^%d, mode %d: quotients in [%d, %d]", lo, hi, s, mode, q.Lo, q.Hi)
			}
			// Of what saturates, that which has so many bits.
			f, beyond := card.facts[y].Range, int64(1)<<mode-1
			least, most := max((lo+half)>>s, f.Lo-beyond), min((hi+half)>>s, f.Hi+beyond)
			if mode > 0 && (o.Lo > f.Lo || o.Hi < f.Hi || q.Lo > least || q.Hi < most) {
				t.Fatalf("[%d, %d] by 2^%d, mode %d: quotients in [%d, %d] are not all there are", lo, hi, s, mode, q.Lo, q.Hi)
			}
			if hi-lo >= koala.P*15/16 {
				wide++
			}
		}
	}
	if planned < 1000 || wide < 100 {
		t.Errorf("%d plans, %d of them near the limit", planned, wide)
	}
}

// TestSaturation: the header tells how many bits beyond its bounds a value is,
// at both ends and where a bit more is needed; a proof does not pass under
// another header.
func TestSaturation(t *testing.T) {
	prog := &exact.Program{Rows: 1}
	x := prog.Op(exact.Input, nil, nil, 2, -1<<28, 1<<28)
	prog.Outputs = []exact.Value{prog.Op(exact.Requantise, []exact.Value{x}, nil, 4, 8)} // -128 to 127
	card, pk := mustCommit(t, prog)
	for _, c := range []struct {
		beyond int32
		bits   byte
	}{{0, 0}, {1, 1}, {2, 2}, {3, 2}, {4, 3}, {255, 8}, {256, 9}, {1<<16 - 1, 16}, {1 << 16, 17}, {1<<24 - 200, 24}} {
		for _, input := range [][]int32{{(127 + c.beyond) << 4, 0}, {5, (-128 - c.beyond) << 4}} {
			claim, proof, err := pk.Prove([][]int32{input})
			if err != nil {
				t.Fatalf("%d beyond: %v", c.beyond, err)
			}
			if got := proof[len(magic)]; got != c.bits {
				t.Errorf("%d beyond: %d bits in the header, want %d", c.beyond, got, c.bits)
			}
			if err := Verify(card, claim, proof); err != nil {
				t.Errorf("%d beyond: %v", c.beyond, err)
			}
			for m := range byte(27) {
				other := bytes.Clone(proof)
				if other[len(magic)] = m; m != c.bits && Verify(card, claim, other) == nil {
					t.Errorf("%d beyond: passes as of %d bits", c.beyond, m)
				}
			}
		}
	}
	// Two that saturate share a table where one holds both.
	two := &exact.Program{Rows: 1}
	x = two.Op(exact.Input, nil, nil, 1, -1<<28, 1<<28)
	for _, s := range []int64{4, 9} {
		two.Outputs = append(two.Outputs, two.Op(exact.Requantise, []exact.Value{x}, nil, s, 8))
	}
	_, pk = mustCommit(t, two)
	_, proof, err := pk.Prove([][]int32{{(127 + 1000) << 4}})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := proof[len(magic)], proof[len(magic)+1]; a != 10 || b != 0 {
		t.Errorf("%d and %d bits in the header, want 10 and none", a, b)
	}
	if _, proof, err = pk.Prove([][]int32{{(127 + 1000) << 9}}); err != nil {
		t.Fatal(err)
	}
	if a, b := proof[len(magic)], proof[len(magic)+1]; a != b || a != 16 {
		t.Errorf("%d and %d bits in the header, want 16 for both", a, b)
	}
}
