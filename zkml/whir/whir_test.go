package whir

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/transcript"
)

func ext(r *rand.Rand) koala.Ext {
	w := func() koala.Elem { return koala.FromInt(r.Int64()) }
	return koala.Ext{A: w(), B: w(), C: w(), D: w()}
}

// instance is two commitments, with weights, what they are by column and the
// sum by brute force.
type instance struct {
	p       Params
	parts   []Part
	logCols int
	weights []Weight
	columns []koala.Vec
	claim   koala.Ext
}

func newInstance(p Params, logCols int) *instance {
	in := &instance{p: p, logCols: logCols, columns: make([]koala.Vec, 1<<logCols)}
	for j := range in.columns {
		in.columns[j] = koala.NewVec(1 << p.Height)
	}
	return in
}

// commit adds a commitment to random columns.
func (in *instance) commit(r *rand.Rand, at, n int) {
	columns := make([][]koala.Elem, n)
	for j := range columns {
		columns[j] = make([]koala.Elem, 1<<in.p.Height)
		for i := range columns[j] {
			columns[j][i] = koala.FromInt(r.Int64())
		}
	}
	in.parts = append(in.parts, Part{at, in.p.Commit(columns, nil)})
}

// weigh adds a random weight of 2^n elements of columns of a part.
func (in *instance) weigh(r *rand.Rand, c Part, n int) {
	all := len(c.columns) << in.p.Height >> n
	w := Weight{At: c.At<<in.p.Height + r.IntN(all)<<n, Coef: ext(r)}
	if w.At>>n<<n != w.At {
		return // the part does not begin where such a weight can
	}
	// Many points end alike.
	ends := rand.New(rand.NewPCG(r.Uint64N(2), 1))
	for range n {
		w.Point = append(w.Point, ext(ends))
	}
	if n > 8 {
		w.Point[0] = ext(r)
	}
	in.weights = append(in.weights, w)
	eq := mle.Eq(w.Point, w.Coef)
	for i := range 1 << n {
		x := eq.At(i)
		j, k := (w.At+i)>>in.p.Height, (w.At+i)&(1<<in.p.Height-1)
		in.columns[j].Set(k, in.columns[j].At(k).Add(x))
		in.claim = in.claim.Add(x.Scale(c.columns[j-c.At][k]))
	}
}

func random(r *rand.Rand, p Params) *instance {
	in := newInstance(p, r.IntN(4))
	n := 1 << in.logCols
	first := 1 + r.IntN(n)
	in.commit(r, 0, first)
	if first < n {
		skip := r.IntN(n - first)
		in.commit(r, first+skip, 1+r.IntN(n-first-skip))
	}
	for _, c := range in.parts {
		for range 6 {
			in.weigh(r, c, r.IntN(p.Height+mle.Log(len(c.columns)+1)))
		}
	}
	return in
}

func (in *instance) prove() []byte {
	t := transcript.NewProver("test")
	in.p.Prove(t, in.parts, in.logCols, in.weights, koala.NewRoom(3<<in.p.Height))
	return t.Proof()
}

// TestBindAll: columns are bound in two ways, which say the same.
func TestBindAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 20 {
		p := NewParams(MinHeight+r.IntN(11), 2, 2, 1, 20)
		in := random(r, p)
		columns := make([][]koala.Elem, 1<<in.logCols)
		for _, c := range in.parts {
			copy(columns[c.At:], c.columns)
		}
		one, other := transcript.NewProver("test"), transcript.NewProver("test")
		f, w := p.bindColumns(one, columns, in.weights, nil)
		g, v := p.bindAll(other, columns, in.weights)
		if !bytes.Equal(one.Proof(), other.Proof()) || !reflect.DeepEqual(f, g) || !reflect.DeepEqual(w, v) {
			t.Fatalf("2^%d columns of 2^%d elements are bound in two ways", in.logCols, p.Height)
		}
	}
	// More columns than a column has elements.
	p := NewParams(MinHeight, 2, 2, 1, 20)
	in := newInstance(p, MinHeight+1)
	in.commit(r, 0, 2<<MinHeight)
	for n := range 2*MinHeight + 1 {
		in.weigh(r, in.parts[0], n)
	}
	if err := in.verify(in.claim, in.prove()); err != nil {
		t.Error(err)
	}
}

func (in *instance) verify(claim koala.Ext, proof []byte) error {
	t := transcript.NewVerifier("test", proof)
	var parts []Opening
	for _, c := range in.parts {
		parts = append(parts, Opening{c.At, len(c.columns), c.Root()})
	}
	err := in.p.Verify(t, parts, in.logCols, claim, func(z []koala.Ext) koala.Ext {
		eq := mle.Eq(z[:in.logCols], koala.ExtOne)
		var s koala.Ext
		for j, w := range in.columns {
			s = s.Add(mle.EvalVec(w, z[in.logCols:]).Mul(eq.At(j)))
		}
		return s
	})
	if err != nil {
		return err
	}
	return t.Done()
}

func TestOpening(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, height := range []int{MinHeight, 6, 7, 10, 11, 12} {
		for rate := 1; rate <= 3; rate++ {
			p := NewParams(height, rate, 2, 1, 20)
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			in := random(r, p)
			proof := in.prove()
			if err := in.verify(in.claim, proof); err != nil {
				t.Fatalf("height %d rate %d: honest proof refused: %v", height, rate, err)
			}
			var columns []int
			for _, c := range in.parts {
				columns = append(columns, len(c.columns))
			}
			if most := p.OpeningSize(columns, in.logCols); len(proof) > most {
				t.Errorf("proof of %d bytes, at most %d expected", len(proof), most)
			}
			if in.verify(in.claim.Add(koala.ExtOne), proof) == nil {
				t.Fatal("wrong sum accepted")
			}
			for range 40 {
				bad := slices.Clone(proof)
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
				if in.verify(in.claim, bad) == nil {
					t.Fatal("changed proof accepted")
				}
			}
			if in.verify(in.claim, proof[:len(proof)-1]) == nil || in.verify(in.claim, append(slices.Clone(proof), 0)) == nil {
				t.Fatal("proof of another length accepted")
			}
			// Another element was committed than the claim is about.
			c := in.parts[0]
			w := in.weights[0]
			changed := slices.Clone(c.columns)
			column := slices.Clone(changed[w.At>>height])
			at := w.At & (1<<height - 1)
			column[at] = column[at].Add(koala.One)
			changed[w.At>>height] = column
			in.parts[0].Commitment = p.Commit(changed, nil)
			if in.verify(in.claim, in.prove()) == nil {
				t.Fatal("claim about another element accepted")
			}
		}
	}
}

// TestDistance commits to a word that differs from a codeword in slightly more
// positions than the radius, so that a query misses them with probability
// 1-near, proves honestly for the rest and expects to be caught at that rate.
func TestDistance(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	p := Params{Height: 8, Rate: 2, Words: []Word{{Slack: 12, Queries: 2}}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	w := p.words()[0]
	const trials = 400
	leaves := 1 << w.domain
	wrong := int(math.Ceil(float64(leaves) * w.near()))
	accepted := 0
	for range trials {
		in := newInstance(p, 0)
		in.commit(r, 0, 1)
		in.weigh(r, in.parts[0], p.Height)
		c := in.parts[0].Commitment
		bad := r.Perm(leaves)[:wrong]
		c.spoil = func(row, index int, x koala.Elem) koala.Elem {
			if k := slices.Index(bad, index); k >= 0 && k&(1<<firstBits-1) == row {
				return x.Add(koala.One)
			}
			return x
		}
		c.hash(nil)
		if in.verify(in.claim, in.prove()) == nil {
			accepted++
		}
	}
	q := 1 - float64(wrong)/float64(leaves)
	want := trials * q * q
	sigma := math.Sqrt(want * (1 - q*q))
	if math.Abs(float64(accepted)-want) > 4*sigma {
		t.Errorf("accepted %d of %d, expected %.0f +- %.0f", accepted, trials, want, sigma)
	}
	// The calculator says the same of a single query: 1/2 (1 + 1/12).
	if bits := w.queryBits(); math.Abs(math.Exp2(-bits)-13./24) > 1e-9 {
		t.Errorf("a query is worth %f bits", bits)
	}
}

// TestBudget compares with figures computed by hand from the theorem.
func TestBudget(t *testing.T) {
	p := NewParams(18, 2, 18, 14, 100)
	if got, want := p.Words, []Word{{12, 93}, {10, 45}, {9, 29}}; !slices.Equal(got, want) {
		t.Errorf("words %v, want %v", got, want)
	}
	w := p.words()[0]
	// 1/2 (1 + 1/12) of all positions are right.
	if math.Abs(w.near()-11./24) > 1e-9 || math.Abs(w.list()-24) > 1e-9 {
		t.Errorf("near %f, list %f", w.near(), w.list())
	}
	// 2/3 12.5^5 4^1.5 2^17 and little more.
	if got := math.Log2(w.exceptions()); math.Abs(got-(math.Log2(16./3)+5*math.Log2(12.5)+17)) > 0.001 {
		t.Errorf("2^%f exceptions", got)
	}
	if err := p.Budget(4).Check(); err != nil {
		t.Error(err)
	}
	for i := range p.Words {
		weak := p
		weak.Words = slices.Clone(p.Words)
		weak.Words[i].Queries--
		if weak.Budget(4).Check() == nil {
			t.Errorf("one query of word %d less is still enough", i)
		}
		weak.Words[i].Queries += 10
		weak.Words[i].Slack++
		if weak.Budget(4).Check() == nil {
			t.Errorf("a larger radius of word %d is still sound", i)
		}
	}
	p.FoldWork--
	if p.Budget(4).Check() == nil {
		t.Error("less work before folds is still enough")
	}
	ok := []Word{{3, 1}}
	for _, bad := range []Params{{}, {Height: 4, Rate: 2, Words: ok}, {Height: 8, Rate: 2, Words: []Word{{3, 0}}}, {Height: 8, Rate: 2, Words: []Word{{2, 1}}},
		{Height: 8, Rate: 2, Words: append(ok, ok...)}, {Height: 8, Rate: 9, Words: ok}, {Height: 8, Rate: 2, FoldWork: 99, Words: ok}} {
		if bad.Check() == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

// benchColumn is a column without zeros.
func benchColumn() []koala.Elem {
	col := make([]koala.Elem, 1<<18)
	for i := range col {
		col[i] = koala.FromInt(int64(i) + 1)
	}
	return col
}

func BenchmarkCommit(b *testing.B) {
	p := NewParams(18, 2, 18, 14, 100)
	col := benchColumn()
	for b.Loop() {
		p.Commit([][]koala.Elem{col, col, col, col}, nil)
	}
}

func BenchmarkProve(b *testing.B) {
	p := NewParams(18, 2, 18, 14, 100)
	col := benchColumn()
	c := p.Commit([][]koala.Elem{col, col, col, col}, nil)
	for b.Loop() {
		w := Weight{Point: make([]koala.Ext, 20), Coef: koala.ExtOne}
		p.Prove(transcript.NewProver("bench"), []Part{{0, c}}, 2, []Weight{w}, nil)
	}
}
