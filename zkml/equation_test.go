package zkml

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/shape"
	"github.com/torg-network/torg/zkml/sumcheck"
)

func randomPoint(r *rand.Rand, n int) []koala.Ext {
	z := make([]koala.Ext, n)
	for i := range z {
		w := func() koala.Elem { return koala.FromInt(r.Int64()) }
		z[i] = koala.Ext{A: w(), B: w(), C: w(), D: w()}
	}
	return z
}

// TestPlan checks, in honest runs, everything a plan says by brute force: each
// lookup is in its table, each form that should be zero is, at each index;
// each product is the extension of its values, and linear in each variable;
// and prover and verifier have the same public polynomials and weights.
func TestPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	text := []Run{{Input: everythingInput(8), From: []int{0, 2}}, {Input: everythingInput(3), From: []int{0, 1}}, {Input: everythingInput(5), From: []int{5, 0}}}
	for _, c := range []struct {
		prog *exact.Program
		runs []Run
	}{
		{everything(30), text[:1]}, {everything(31), text[:2]}, {everything(32), text},
		{mixture(30), mixtureRuns(4)}, {mixture(31), mixtureRuns(3)}, {mixture(32), mixtureRuns(2, 3, 1)},
	} {
		_, pk := mustCommit(t, c.prog)
		inspect := func(p *plan, d *data) {
			for i, q := range p.publics {
				z := randomPoint(r, q.bits)
				if mle.Eval(q.table(d.v), z) != q.eval(d.v, z) {
					t.Errorf("public polynomial %d, kind %d", i, q.kind)
				}
			}
			values, seconds := d.lookups(p)
			for i, l := range p.lookups {
				tags := d.values(p, l.tag, nil)
				for j, x := range values[i] {
					if l.only >= 0 {
						if o := d.publics[l.only]; o[j&(len(o)-1)] == 0 {
							continue
						}
					}
					second := koala.Elem(0)
					if seconds[i] != nil {
						second = seconds[i][j]
					}
					if !inTable(p, d, x.Int(), second.Int(), tags[j].Int()) {
						t.Fatalf("lookup %d at %d is in no table", i, j)
					}
				}
			}
			// The value of a form at a point, products from their definition.
			value := func(f form, z []koala.Ext) koala.Ext {
				var s koala.Ext
				for _, tm := range f.terms {
					if tm.src.kind == summed {
						a := atPoint{tm.src, point(tm.pick, z), koala.Lift(koala.FromInt(tm.coef))}
						s = s.Add(sumcheck.New(p.prods[tm.src.id].y, d.terms(p, []atPoint{a})).Sum())
					} else {
						s = s.Add(d.partial(p, form{f.n, []term{tm}}, z, 0).At(0))
					}
				}
				return s
			}
			for i, f := range p.zeros {
				if value(f, randomPoint(r, f.n)) != (koala.Ext{}) {
					t.Errorf("form %d is not zero", i)
				}
				for idx := range 1 << f.n {
					z := make([]koala.Ext, f.n)
					for k := range z {
						if idx>>(f.n-1-k)&1 == 1 {
							z[k] = koala.ExtOne
						}
					}
					if value(f, z) != (koala.Ext{}) {
						t.Fatalf("form %d is not zero at %d", i, idx)
					}
				}
			}
			for i, s := range p.prods {
				z, y := randomPoint(r, s.z), randomPoint(r, s.y)
				w := s.weightTable(d.v, z)
				if s.weight == plain {
					w = mle.Eq(s.paired(z), koala.ExtOne)
				}
				if mle.EvalVec(w, y[:mle.Log(w.Len())]) != s.weightAt(d.v, z, y) {
					t.Errorf("weight of product %d (%s)", i, s.name)
				}
				f := of(s.z, source{summed, i}, vars(0, s.z))
				if d.prods[i] != nil && value(f, z) != mle.Eval(d.prods[i], z) {
					t.Errorf("product %d (%s) is not the extension of its values", i, s.name)
				}
				// Linear in each variable: the value half way is the mean.
				for k := range z {
					at := func(x koala.Ext) koala.Ext {
						w := append([]koala.Ext(nil), z...)
						w[k] = x
						return value(f, w)
					}
					if mean := at(koala.Ext{}).Add(at(koala.ExtOne)).Scale(koala.Half); mean != at(koala.Lift(koala.Half)) {
						t.Errorf("product %d (%s) is not linear in variable %d", i, s.name, k)
					}
				}
			}
		}
		if _, _, err := pk.prove(c.runs, hook{late: inspect}); err != nil {
			t.Fatal(err)
		}
	}
}

// inTable reports whether a pair is a live entry of the table of a tag.
func inTable(p *plan, d *data, x, second, tg int64) bool {
	i := int(tg) - 1
	if i < 0 || i >= len(p.tables) {
		return false
	}
	t := p.tables[i]
	at := x - t.lo
	if at < 0 || at >= int64(t.live) {
		return false
	}
	want := int64(0)
	if t.region >= 0 {
		want = t.last
		if r := d.model[t.region]; at < int64(len(r)) {
			want = r[at].Int()
		}
	}
	if t.mark && at == 0 {
		want = 1
	}
	return second == want
}

// TestPlaces: the leaves of lookups and tables are apart, each at a multiple of
// its length, and the second half has plain lookups only if it is full of them.
func TestPlaces(t *testing.T) {
	half := 0
	for _, prog := range []*exact.Program{everything(1), mixture(1), nano.Model().Program(), shape.EZKL.Program(1), shape.LeNet.Program(1, 1)} {
		card, err := newCard(prog)
		if err != nil {
			t.Fatal(err)
		}
		card.height = 16
		for rows := 1; rows <= card.rows; rows *= 2 {
			p, err := newPlan(&card, 1, rows, nil)
			if err != nil {
				t.Fatal(err)
			}
			taken := make([]bool, 1<<p.fractions)
			take := func(at, bits int) {
				if at&(1<<bits-1) != 0 {
					t.Fatalf("%d leaves at %d", 1<<bits, at)
				}
				for i := range 1 << bits {
					if taken[at+i] {
						t.Fatalf("leaf %d is taken twice", at+i)
					}
					taken[at+i] = true
				}
			}
			plain := true
			for _, l := range p.lookups {
				take(l.at, l.bits)
				if l.at >= len(taken)/2 && (l.only >= 0 || len(l.second.terms) > 0) {
					plain = false
				}
			}
			for _, table := range p.tables {
				take(table.at, table.bits)
				if table.at >= len(taken)/2 {
					plain = false
				}
			}
			if plain {
				half++
				if slices.Contains(taken[len(taken)/2:], false) {
					t.Error("a second half of plain lookups has gaps")
				}
			}
		}
	}
	if half == 0 {
		t.Error("no second half is of plain lookups")
	}
}
