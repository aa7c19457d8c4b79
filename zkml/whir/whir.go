// Package whir commits to columns of field elements by a Merkle root and
// proves the value of a linear function of them: the weighted sum of all
// elements. Values of multilinear extensions at points are such sums.
//
// It is WHIR (Arnon, Chiesa, Fenzi, Yogev, "WHIR: Reed-Solomon proximity
// testing with super-fast verification", 2024) up to the Johnson radius: every
// error bound is proven. The words near a commitment are then several codewords
// and not one, so that later words are pinned down by a sample outside their
// domain, as in the paper. That folding keeps distances there is theorem 4.6 of
// Ben-Sasson, Carmon, Haböck, Kopparty, Saraf, "On proximity gaps for
// Reed-Solomon codes" (2025): see wordShape.exceptions. Two things are arranged
// differently from the paper, neither of which changes its analysis:
//
//   - All codes are interleaved. A word that is next folded by k variables is
//     2^k rows, one for each value of those variables, that are encoded each by
//     itself; a leaf has one element of each row. The columns of one or more
//     commitments, all of one height, are further leading variables of the first.
//     Folding is by lines through rows, (1-r) e + r o.
//   - Elements of a row are the coefficients of the polynomial that is encoded,
//     while folding works on them as values on the cube, which saves a change of
//     basis. Index b of a row is the coefficient of x^rev(b). The value at y of
//     the encoding of f is the sum of f(b) y^rev(b): again a weighted sum.
//
// Rounds: all column variables and then some more are bound by sum-checks, each
// challenge being preceded by proof of work; the folded polynomial is committed
// on a smaller domain and its value at a random point is sent; positions of the
// last commitment are opened, folded and become weighted sums that the new
// polynomial must have; these and the value join the claim. When few variables
// are left, the polynomial is sent.
package whir

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/merkle"
	"github.com/torg-network/torg/zkml/mle"
	"github.com/torg-network/torg/zkml/parallel"
	"github.com/torg-network/torg/zkml/soundness"
	"github.com/torg-network/torg/zkml/transcript"
)

const (
	firstBits = 3 // variables folded of the columns: a leaf has 2^3 elements of each
	foldBits  = 4 // variables folded of each later word: a leaf has 2^4 elements
	thinBits  = 2 // the rate of each word is 2^-2 that of the one before
	finalBits = 7 // polynomials of at most so many variables are sent
)

// Bounds of Params.
const (
	MinHeight = foldBits + 1
	MaxHeight = 20
	minSlack  = 3
	maxSlack  = 64
)

// Params is how the commitments of one proof are made. Prover and verifier
// must use the same.
type Params struct {
	Height   int    // columns have 2^Height elements
	Rate     int    // the first code has rate 2^-Rate, 1 to 3
	Work     int    // bits of proof of work before each choice of positions
	FoldWork int    // and before each choice of where to fold
	Words    []Word // the columns, and each later commitment
}

// Word is how far from the code a committed word may be, and how that is
// tested.
type Word struct {
	Slack   int // words within 1 - sqrt(rate) (1 + 1/Slack) of the code are near
	Queries int // positions opened, with repetitions
}

// NewParams returns parameters for columns of 2^height elements with proven
// soundness of the given bits in each round: radii as large, and then queries
// as few, as that allows.
func NewParams(height, rate, work, foldWork int, bits float64) Params {
	p := Params{Height: height, Rate: rate, Work: work, FoldWork: foldWork}
	for _, w := range p.words() {
		w.Slack = minSlack
		for w.Slack < maxSlack {
			w.Slack++
			if w.lineBits()+float64(foldWork) < bits {
				w.Slack--
				break
			}
		}
		w.Queries = int(math.Ceil((bits - float64(work)) / w.queryBits()))
		p.Words = append(p.Words, w.Word)
	}
	return p
}

// Check reports whether the parameters make sense.
func (p Params) Check() error {
	if p.Height < MinHeight || p.Height > MaxHeight || p.Rate < 1 || p.Rate > 3 || p.Work < 0 || p.Work > 24 || p.FoldWork < 0 || p.FoldWork > 24 {
		return fmt.Errorf("whir: height %d, rate %d, work %d and %d", p.Height, p.Rate, p.Work, p.FoldWork)
	}
	if n := len(p.words()); len(p.Words) != n {
		return fmt.Errorf("whir: %d words are tested of %d", len(p.Words), n)
	}
	for _, w := range p.Words {
		if w.Queries < 1 || w.Queries > 1<<10 || w.Slack < minSlack || w.Slack > maxSlack {
			return fmt.Errorf("whir: %d queries at slack %d", w.Queries, w.Slack)
		}
	}
	return nil
}

// wordShape is a committed word: a polynomial of vars variables as 2^fold rows,
// each encoded at 2^domain positions. The fold variables are bound before the
// next word.
type wordShape struct {
	Word
	vars, domain, fold int
}

// words returns the shapes of all committed words.
func (p Params) words() []wordShape {
	vars, fold, rate := p.Height, firstBits, p.Rate
	var out []wordShape
	for {
		w := wordShape{vars: vars, domain: vars - fold + rate, fold: fold}
		if len(out) < len(p.Words) {
			w.Word = p.Words[len(out)]
		}
		out = append(out, w)
		vars -= fold
		if vars <= finalBits {
			return out
		}
		fold, rate = foldBits, rate+thinBits
	}
}

// rate is that of the code.
func (w wordShape) rate() float64 { return math.Exp2(float64(w.vars - w.fold - w.domain)) }

// near is how many positions of a word may differ from a codeword, of 1.
func (w wordShape) near() float64 { return 1 - math.Sqrt(w.rate())*(1+1/float64(w.Slack)) }

// list bounds the codewords near a word (Johnson 1962): with sqrt(rate)(1+e) of
// all positions right, at most 1/(2 e rate).
func (w wordShape) list() float64 { return float64(w.Slack) / (2 * w.rate()) }

// queryBits is what one query is worth: a word that is not near the code
// disagrees with any codeword on more than near of all positions.
func (w wordShape) queryBits() float64 { return -math.Log2(1 - w.near()) }

// exceptions bounds the points of a line through two words where it is nearer
// to the code than the two are together, on any set of positions (theorem 4.6 of
// Ben-Sasson et al. 2025, for lines). There, the code has degree at most k and
// rate k/n.
//
// Nothing in the bound depends on the field, so that it holds for interleaved
// words too. Combine their rows with coefficients of a larger field that are
// independent over this one. If the line is in the code on some positions, so is
// the line through the combinations; and if the combinations are, then by
// comparing coefficients so is each row.
func (w wordShape) exceptions() float64 {
	n := math.Exp2(float64(w.domain))
	rate := (math.Exp2(float64(w.vars-w.fold)) - 1) / n
	m := float64(w.Slack) + 0.5
	return (2*math.Pow(m, 5)+3*m*w.near()*w.rate())/(3*math.Pow(rate, 1.5))*n + m/math.Sqrt(rate)
}

// lineBits is the soundness of one fold, without work: of the line, and of the
// sum-check's round for each codeword near the word.
func (w wordShape) lineBits() float64 {
	return soundness.FieldBits - math.Log2(w.exceptions()+2*w.list())
}

// List bounds the number of what is committed to, by words that are near it:
// what comes before the opening must be sound for each.
func (p Params) List() float64 { return p.words()[0].list() }

// Budget is the soundness of an opening of 2^logColumns columns.
func (p Params) Budget(logColumns int) soundness.Budget {
	const source = "Arnon et al. 2024 (WHIR)"
	var b soundness.Budget
	words := p.words()
	for i, w := range words {
		folds, list := w.fold, 1.0
		if i == 0 {
			folds += logColumns
		} else {
			b = append(b, soundness.Round(fmt.Sprintf("sample of word %d, of %.0f near it", i, w.list()), source, 1, w.list()*w.list()/2*float64(w.vars)))
		}
		if i+1 < len(words) {
			list = words[i+1].list()
		}
		b = append(b, soundness.Step{
			Name:   fmt.Sprintf("fold of word %d, 2^%d positions, within %.3f, and sum-check", i, w.domain, w.near()),
			Source: "lines through codewords: Ben-Sasson et al. 2025, theorem 4.6; WHIR", Count: folds,
			Bits: w.lineBits() + float64(p.FoldWork), Work: p.FoldWork,
		}, soundness.Step{
			Name: fmt.Sprintf("%d queries at rate 2^-%d", w.Queries, w.domain+w.fold-w.vars), Source: source, Count: 1,
			Bits: float64(w.Queries)*w.queryBits() + float64(p.Work), Work: p.Work,
		}, soundness.Round("combination of queries", source, 1, list*float64(w.Queries+2)))
	}
	return append(b, soundness.Round("last sum-check", "Lund et al. 1992", finalBits, 2))
}

// Commitment is committed columns with all that is needed to open them. Their
// encodings are not kept, as they are many times larger: leaves that are opened
// are encoded again.
type Commitment struct {
	columns [][]koala.Elem
	tree    *merkle.Tree
	domain  int
	spoil   func(row, index int, x koala.Elem) koala.Elem // tests encode wrongly
}

// Commit commits to columns of 2^Height elements. It keeps them, but nothing that
// is in the room.
func (p Params) Commit(columns [][]koala.Elem, room *koala.Room) *Commitment {
	c := &Commitment{columns: columns, domain: p.words()[0].domain}
	c.hash(room)
	return c
}

// row returns the elements of a row.
func (c *Commitment) row(i int) []koala.Elem {
	column := c.columns[i>>firstBits]
	n := len(column) >> firstBits
	at := i & (1<<firstBits - 1) * n
	return column[at : at+n]
}

func (c *Commitment) rows() int { return len(c.columns) << firstBits }

func (c *Commitment) hash(room *koala.Room) {
	leaves := merkle.NewHasher(1<<c.domain, c.rows())
	// As many rows at a time as hashing takes.
	codes := make([][]koala.Elem, min(merkle.BlockWords, c.rows()))
	for i := range codes {
		codes[i] = room.Elems().Take(1 << c.domain)
	}
	for at := 0; at < c.rows(); at += len(codes) {
		codes = codes[:min(len(codes), c.rows()-at)]
		parallel.Each(len(codes), func(i int) {
			koala.Encode(codes[i], c.row(at+i))
			if c.spoil != nil {
				for k, x := range codes[i] {
					codes[i][k] = c.spoil(at+i, k, x)
				}
			}
		})
		merkle.Add(leaves, codes)
	}
	c.tree = leaves.Tree()
}

// Root is the commitment that the verifier sees.
func (c *Commitment) Root() merkle.Digest { return c.tree.Root() }

// word is a committed polynomial of a later round: the encodings of its rows.
type word struct {
	rows []koala.Vec
	tree *merkle.Tree
}

func newWord(f koala.Vec, s wordShape, room *koala.Room) *word {
	w := &word{rows: make([]koala.Vec, 1<<s.fold)}
	n := f.Len() >> s.fold
	parallel.Each(len(w.rows), func(i int) {
		w.rows[i] = room.Take(1 << s.domain)
		for c := range w.rows[i] {
			koala.Encode(w.rows[i][c], f[c][i*n:(i+1)*n])
		}
	})
	leaves := merkle.NewHasher(1<<s.domain, 4*len(w.rows))
	for at := 0; at < len(w.rows); at += merkle.BlockWords / 4 {
		var codes [][]koala.Elem
		for _, r := range w.rows[at : at+merkle.BlockWords/4] {
			codes = append(codes, r[:]...)
		}
		merkle.Add(leaves, codes)
	}
	w.tree = leaves.Tree()
	return w
}

func (w *word) open(t *transcript.Prover, indices []int) {
	var b []byte
	for _, i := range indices {
		for _, r := range w.rows {
			b = r.At(i).Append(b)
		}
	}
	t.Hint(b)
	t.Hint(w.tree.Open(indices))
}

// Part places a commitment's columns among those of the whole polynomial: its
// first column is number At.
type Part struct {
	At int
	*Commitment
}

// Weight is weights of consecutive elements of the whole polynomial, of which
// column j has those from j 2^Height on: of the 2^len(Point) elements from At on,
// a multiple of their number, element i weighs Coef eq(Point, i). Their weighted
// sum is Coef times the value at Point of their multilinear extension.
type Weight struct {
	At    int
	Point []koala.Ext
	Coef  koala.Ext
}

// Prove proves the sum of all elements of the parts, each times its weight: the
// sum of the weights given for it. The whole polynomial has 2^logColumns
// columns; nothing may weigh where no part is. The commitments' roots and the
// claimed sum must have been absorbed before. It uses the room for what it can.
func (p Params) Prove(t *transcript.Prover, parts []Part, logColumns int, weights []Weight, room *koala.Room) {
	columns := make([][]koala.Elem, 1<<logColumns)
	for _, c := range parts {
		copy(columns[c.At:], c.columns)
	}
	f, w := p.bindColumns(t, columns, weights, room)
	shapes := p.words()
	var last *word
	for i, s := range shapes {
		for range s.fold {
			bind(t, &f, &w, p.FoldWork)
		}
		var next *word
		var z []koala.Ext
		if i+1 < len(shapes) {
			next = newWord(f, shapes[i+1], room)
			root := next.tree.Root()
			t.Bytes("root", root[:])
			z = t.Challenges("sample", mle.Log(f.Len()))
			t.Exts("sample", mle.EvalVec(f, z))
		} else {
			for i := range f.Len() {
				t.Exts("polynomial", f.At(i))
			}
		}
		t.Grind("work", p.Work)
		indices := distinct(t.Indices("queries", s.Queries, s.domain))
		if i == 0 {
			open(t, parts, s.domain, indices)
		} else {
			last.open(t, indices)
		}
		if next != nil {
			gamma := t.Challenge("combine")
			koala.AddVec(w, w, mle.Eq(z, gamma))
			addPowers(w, s.domain, indices, gamma)
		}
		last = next
	}
	for f.Len() > 1 {
		bind(t, &f, &w, 0)
	}
}

// open sends leaves of all parts and their paths; they are bound by the roots.
func open(t *transcript.Prover, parts []Part, domain int, indices []int) {
	var rows, values [][]koala.Elem
	for _, c := range parts {
		for i := range c.rows() {
			rows, values = append(rows, c.row(i)), append(values, make([]koala.Elem, len(indices)))
		}
	}
	parallel.For(len(rows), 1, func(from, to int) { koala.EncodeAt(values[from:to], rows[from:to], domain, indices) })
	for _, c := range parts {
		var leaves []byte
		for i, index := range indices {
			for row, v := range values[:c.rows()] {
				if c.spoil != nil {
					v[i] = c.spoil(row, index, v[i])
				}
				leaves = v[i].Append(leaves)
			}
		}
		t.Hint(leaves)
		t.Hint(c.tree.Open(indices))
		values = values[c.rows():]
	}
}

func distinct(indices []int) []int {
	slices.Sort(indices)
	return slices.Compact(indices)
}

// Columns are read in blocks of 2^innerBits elements, and in chunks of
// 2^chunkBits blocks, which stay in the nearest cache.
const (
	innerBits = 7
	chunkBits = 6
)

// product is weights of consecutive blocks of a column: eq of the last
// coordinates of a point, which few weights have others of, times a number for
// each block.
type product struct {
	column, at int // the first block
	outer      koala.Vec
}

// group is products in one chunk of the columns with the same inner vector. They
// are within the blocks from `from` to to-1.
type group struct {
	inner    koala.Vec
	products []product
	from, to int
}

// span is weights of less than a block: of the elements of a column from `at`
// on.
type span struct {
	column, at int
	weights    koala.Vec
}

// split returns what weights consist of: for each of a number of chunks, groups
// of blocks of 2^bits elements, and what is less than a block.
func (p Params) split(weights []Weight, bits, chunks int) (groups [][]*group, spans []span) {
	type end struct {
		point []koala.Ext
		eq    koala.Vec
	}
	var ends []end
	find := map[[2]int]*group{} // of a chunk and an end
	groups = make([][]*group, chunks)
	blocks := 1 << (p.Height - bits)
	chunk := blocks / chunks
	for _, v := range weights {
		k := len(v.Point) - bits
		if k < 0 {
			spans = append(spans, span{v.At >> p.Height, v.At & (1<<p.Height - 1), mle.Eq(v.Point, v.Coef)})
			continue
		}
		last := v.Point[k:]
		i := slices.IndexFunc(ends, func(e end) bool { return slices.Equal(e.point, last) })
		if i < 0 {
			i = len(ends)
			ends = append(ends, end{last, mle.Eq(last, koala.ExtOne)})
		}
		outer := mle.Eq(v.Point[:k], v.Coef)
		n := min(outer.Len(), chunk)
		for from := 0; from < outer.Len(); from += n {
			at := v.At>>bits + from
			x := product{at / blocks, at % blocks, outer.Slice(from, from+n)}
			key := [2]int{x.at / chunk, i}
			g := find[key]
			if g == nil {
				g = &group{inner: ends[i].eq, from: x.at}
				find[key], groups[key[0]] = g, append(groups[key[0]], g)
			}
			g.products = append(g.products, x)
			g.from, g.to = min(g.from, x.at), max(g.to, x.at+n)
		}
	}
	return groups, spans
}

// bindColumns binds the variables that number the columns. All rounds can be
// computed from the inner products of columns and weights, and these from the
// inner products of blocks and few vectors.
func (p Params) bindColumns(t *transcript.Prover, columns [][]koala.Elem, weights []Weight, room *koala.Room) (f, w koala.Vec) {
	n := len(columns)
	if n > 1<<p.Height { // there would be more inner products than elements
		return p.bindAll(t, columns, weights)
	}
	bits := min(p.Height, innerBits)
	size := 1 << bits
	chunkSize := min(size<<chunkBits, 1<<p.Height)
	groups, spans := p.split(weights, bits, 1<<p.Height/chunkSize)
	q := make([][]koala.Ext, n)
	parallel.Each(n, func(j int) {
		sums := make([]koala.Ext, n)
		q[j] = sums
		c := columns[j]
		if c == nil {
			return
		}
		values := koala.NewVec(chunkSize / size)
		for _, gs := range groups {
			for _, g := range gs {
				v := values.Slice(0, g.to-g.from)
				koala.DotRows(v, g.inner, c[g.from*size:g.to*size])
				for _, x := range g.products {
					at := x.at - g.from
					sums[x.column] = sums[x.column].Add(koala.Dot(x.outer, v.Slice(at, at+x.outer.Len())))
				}
			}
		}
		for _, x := range spans {
			for i, e := range c[x.at:][:x.weights.Len()] {
				sums[x.column] = sums[x.column].Add(x.weights.At(i).Scale(e))
			}
		}
	})
	var rs []koala.Ext
	for h := n / 2; h > 0; h /= 2 {
		var zero, top koala.Ext
		for j := range h {
			zero = zero.Add(q[j][j])
			top = top.Add(q[j][j]).Sub(q[j][j+h]).Sub(q[j+h][j]).Add(q[j+h][j+h])
		}
		t.Exts("round", zero, top)
		t.Grind("fold work", p.FoldWork)
		r := t.Challenge("fold")
		rs = append(rs, r)
		s := koala.ExtOne.Sub(r)
		for j := range h {
			for k := range h {
				a := s.Mul(q[j][k]).Add(r.Mul(q[j+h][k]))
				b := s.Mul(q[j][k+h]).Add(r.Mul(q[j+h][k+h]))
				q[j][k] = s.Mul(a).Add(r.Mul(b))
			}
		}
	}
	eq := mle.Eq(rs, koala.ExtOne)
	f, w = room.Take(1<<p.Height), room.Take(1<<p.Height)
	parallel.Each(len(groups), func(i int) {
		at, end := i*chunkSize, (i+1)*chunkSize
		var terms []koala.Scaled
		for j, c := range columns {
			if c != nil {
				terms = append(terms, koala.Scaled{A: c[at:end], X: eq.At(j)})
			}
		}
		koala.Combine(f.Slice(at, end), koala.Ext{}, terms...)
		w.Slice(at, end).Clear()
		for _, g := range groups[i] {
			// What several columns have of one place is added before.
			outer := koala.NewVec(g.to - g.from)
			for _, x := range g.products {
				at := x.at - g.from
				koala.AddProduct(outer.Slice(at, at+x.outer.Len()), x.outer, eq.At(x.column))
			}
			for b := g.from; b < g.to; b++ {
				koala.AddProduct(w.Slice(b*size, (b+1)*size), g.inner, outer.At(b-g.from))
			}
		}
	})
	for _, x := range spans {
		to := w.Slice(x.at, x.at+x.weights.Len())
		koala.AddProduct(to, x.weights, eq.At(x.column))
	}
	return f, w
}

// bindAll says and returns what bindColumns does. It writes all elements and
// weights out and binds their variables like any others, in memory and time that
// do not grow with the square of the number of columns.
func (p Params) bindAll(t *transcript.Prover, columns [][]koala.Elem, weights []Weight) (f, w koala.Vec) {
	n := len(columns) << p.Height
	f, w = koala.NewVec(n), koala.NewVec(n)
	for j, c := range columns {
		copy(f[0][j<<p.Height:], c)
	}
	for _, v := range weights {
		to := w.Slice(v.At, v.At+1<<len(v.Point))
		koala.AddVec(to, to, mle.Eq(v.Point, v.Coef))
	}
	for range mle.Log(len(columns)) {
		bind(t, &f, &w, p.FoldWork)
	}
	return f, w
}

// bind runs one round of the sum-check of f w and folds both, after work.
func bind(t *transcript.Prover, f, w *koala.Vec, work int) {
	const block = 256 // of which all four and the differences are in the nearest cache
	h := f.Len() / 2
	var mu sync.Mutex
	var zero, top koala.Ext
	parallel.For(h, 1024, func(from, to int) {
		tmp := koala.NewVec(2 * block)
		var z, u koala.Ext
		for at := from; at < to; at += block {
			end := min(at+block, to)
			f0, f1 := f.Slice(at, end), f.Slice(h+at, h+end)
			w0, w1 := w.Slice(at, end), w.Slice(h+at, h+end)
			df, dw := tmp.Slice(0, end-at), tmp.Slice(block, block+end-at)
			z = z.Add(koala.Dot(f0, w0))
			koala.SubVec(df, f1, f0)
			koala.SubVec(dw, w1, w0)
			u = u.Add(koala.Dot(df, dw))
		}
		mu.Lock()
		zero, top = zero.Add(z), top.Add(u)
		mu.Unlock()
	})
	t.Exts("round", zero, top)
	t.Grind("fold work", work)
	r := t.Challenge("fold")
	parallel.For(h, 1024, func(from, to int) {
		for _, v := range []*koala.Vec{f, w} {
			koala.Fold(v.Slice(from, to), v.Slice(from, to), v.Slice(h+from, h+to), r)
		}
	})
	*f, *w = f.Slice(0, h), w.Slice(0, h)
}

// addPowers adds gamma^(i+2) times the weights of the i-th opened position to
// w: at index b, y^rev(b) for the position's y in the domain of 2^domain. Where
// b = h n + l it is the product of a power for h and one for l.
func addPowers(w koala.Vec, domain int, indices []int, gamma koala.Ext) {
	n := min(w.Len(), 1<<8)
	low, high := make([][]koala.Elem, len(indices)), make([][]koala.Elem, len(indices))
	gs := make([]koala.Ext, len(indices))
	g := gamma
	for i, y := range positions(domain, indices) {
		g = g.Mul(gamma)
		gs[i] = g
		low[i], high[i] = make([]koala.Elem, n), make([]koala.Elem, w.Len()/n)
		powers(high[i], y)
		powers(low[i], y.Exp(uint64(len(high[i]))))
	}
	parallel.For(w.Len()/n, 1, func(from, to int) {
		terms := make([]koala.Scaled, len(indices))
		sum := koala.NewVec(n)
		for h := from; h < to; h++ {
			for i, g := range gs {
				terms[i] = koala.Scaled{A: low[i], X: g.Scale(high[i][h])}
			}
			koala.Combine(sum, koala.Ext{}, terms...)
			koala.AddVec(w.Slice(h*n, (h+1)*n), w.Slice(h*n, (h+1)*n), sum)
		}
	})
}

// powers sets dst[b] = y^rev(b) for b < len(dst) = 2^n, where rev reverses n
// bits.
func powers(dst []koala.Elem, y koala.Elem) {
	dst[0] = koala.One
	// The factor of the top bit is y, of the next y^2 and so on.
	for h := len(dst) / 2; h > 0; h /= 2 {
		for b := 0; b < len(dst); b += 2 * h {
			dst[b+h] = dst[b].Mul(y)
		}
		y = y.Mul(y)
	}
}

// Opening is what the verifier knows of a Part.
type Opening struct {
	At      int
	Columns int
	Root    merkle.Digest
}

var errSum = errors.New("whir: the sum is not what was claimed")
var errFold = errors.New("whir: an opened position does not fit the polynomial")

// Verify checks a proof that the weighted sum of the parts' elements is claim.
// The whole polynomial has 2^logColumns columns. weight returns the
// multilinear extension of the weights at a point of logColumns + Height
// coordinates; it is called once, at the end. Errors are also recorded in t.
func (p Params) Verify(t *transcript.Verifier, parts []Opening, logColumns int, claim koala.Ext, weight func([]koala.Ext) koala.Ext) error {
	var point []koala.Ext
	round := func(work int) koala.Ext {
		e := t.Exts("round", 2)
		t.Grind("fold work", work)
		r := t.Challenge("fold")
		// h(0) + h(1) = claim, and e is h(0) and the leading coefficient.
		h1 := claim.Sub(e[0])
		claim = e[0].Add(r.Mul(h1.Sub(e[0]).Sub(e[1]).Add(r.Mul(e[1]))))
		point = append(point, r)
		return r
	}
	for range logColumns {
		round(p.FoldWork)
	}
	var joins []joined
	shapes := p.words()
	var root merkle.Digest
	for i, s := range shapes[:len(shapes)-1] {
		rs := make([]koala.Ext, s.fold)
		for k := range rs {
			rs[k] = round(p.FoldWork)
		}
		j := joined{after: len(point)}
		var next merkle.Digest
		copy(next[:], t.Bytes("root", len(next)))
		j.sample = t.Challenges("sample", s.vars-s.fold)
		value := t.Ext("sample")
		t.Grind("work", p.Work)
		indices := distinct(t.Indices("queries", s.Queries, s.domain))
		var values koala.Vec
		if i == 0 {
			values = readColumns(t, parts, point, s, indices)
		} else {
			values = readWord(t, root, rs, s, indices)
		}
		if t.Err() != nil {
			return t.Err()
		}
		gamma := t.Challenge("combine")
		j.powers = koala.NewVec(len(indices) + 1)
		power := gamma
		for k := range j.powers.Len() {
			j.powers.Set(k, power)
			power = power.Mul(gamma)
		}
		claim = claim.Add(gamma.Mul(value))
		claim = claim.Add(koala.Dot(j.powers.Slice(1, len(indices)+1), values))
		j.ys = positions(s.domain, indices)
		joins = append(joins, j)
		root = next
	}
	s := shapes[len(shapes)-1]
	rs := make([]koala.Ext, s.fold)
	for k := range rs {
		rs[k] = round(p.FoldWork)
	}
	final := koala.NewVec(1 << (s.vars - s.fold))
	for k := range final.Len() {
		final.Set(k, t.Ext("polynomial"))
	}
	t.Grind("work", p.Work)
	indices := distinct(t.Indices("queries", s.Queries, s.domain))
	var values koala.Vec
	if len(shapes) == 1 {
		values = readColumns(t, parts, point, s, indices)
	} else {
		values = readWord(t, root, rs, s, indices)
	}
	if t.Err() != nil {
		return t.Err()
	}
	pow := make([]koala.Elem, final.Len())
	for k, y := range positions(s.domain, indices) {
		powers(pow, y)
		if koala.DotElems(final, pow) != values.At(k) {
			t.Fail(errFold)
		}
	}
	for range mle.Log(final.Len()) {
		round(0)
	}
	if t.Err() != nil {
		return t.Err()
	}
	w := weight(point)
	for _, j := range joins {
		w = w.Add(j.weight(point))
	}
	if mle.EvalVec(final, point[len(point)-mle.Log(final.Len()):]).Mul(w) != claim {
		t.Fail(errSum)
	}
	return t.Err()
}

// joined is weights that joined the claim: those of a sample at a point and of
// opened positions y, times powers of a challenge. They are on the variables
// after the first `after`.
type joined struct {
	after  int
	sample []koala.Ext
	ys     []koala.Elem
	powers koala.Vec
}

// weight is the extension of the weights at a point of the whole polynomial.
func (j joined) weight(point []koala.Ext) koala.Ext {
	point = point[j.after:]
	sum := j.powers.At(0).Mul(mle.EqAt(j.sample, point))
	n := len(j.ys)
	product, factor, y := koala.NewVec(n), koala.NewVec(n), slices.Clone(j.ys)
	product.Copy(j.powers.Slice(1, n+1))
	for _, r := range point {
		factor.Fill(koala.ExtOne.Sub(r)) // 1 - r + r y
		koala.AddScaled(factor, y, r)
		koala.MulVec(product, product, factor)
		koala.MulElems(y, y, y)
	}
	return sum.Add(koala.Sum(product))
}

// positions returns the powers of the root of order 2^domain.
func positions(domain int, indices []int) []koala.Elem {
	g := koala.Root(domain)
	ys := make([]koala.Elem, len(indices))
	for k, i := range indices {
		ys[k] = g.Exp(uint64(i))
	}
	return ys
}

// readColumns reads the leaves of all parts and folds their rows, all of them at
// point. It returns a value for each leaf.
func readColumns(t *transcript.Verifier, parts []Opening, point []koala.Ext, s wordShape, indices []int) koala.Vec {
	eq := mle.Eq(point, koala.ExtOne)
	out := koala.NewVec(len(indices))
	elems := make([]koala.Elem, len(indices))
	for _, c := range parts {
		rows := c.Columns << s.fold
		b := readLeaves(t, c.Root, s, indices, rows*koala.ElemSize)
		if b == nil {
			break
		}
		for row := range rows {
			for i := range elems {
				elems[i] = t.DecodeElem(b[(i*rows+row)*koala.ElemSize:])
			}
			koala.AddScaled(out, elems, eq.At(c.At<<s.fold+row))
		}
	}
	return out
}

// readWord reads the leaves of a later word and folds its rows.
func readWord(t *transcript.Verifier, root merkle.Digest, point []koala.Ext, s wordShape, indices []int) koala.Vec {
	out := koala.NewVec(len(indices))
	rows := 1 << s.fold
	b := readLeaves(t, root, s, indices, rows*koala.ExtSize)
	if b == nil {
		return out
	}
	eq := mle.Eq(point, koala.ExtOne)
	leaf := koala.NewVec(rows)
	for i := range indices {
		for row := range rows {
			leaf.Set(row, t.DecodeExt(b[(i*rows+row)*koala.ExtSize:]))
		}
		out.Set(i, koala.Dot(eq, leaf))
	}
	return out
}

// readLeaves reads opened leaves of the given size and checks their path.
func readLeaves(t *transcript.Verifier, root merkle.Digest, s wordShape, indices []int, size int) []byte {
	leaves := t.Hint(size * len(indices))
	path := t.Hint(merkle.Siblings(s.domain, indices) * len(merkle.Digest{}))
	if t.Err() != nil {
		return nil
	}
	if err := merkle.Verify(root, s.domain, indices, merkle.LeavesOf(leaves, size), path); err != nil {
		t.Fail(fmt.Errorf("whir: %w", err))
		return nil
	}
	return leaves
}

// OpeningSize is the size in bytes that the opening of the given numbers of
// columns has at most; it allocates little.
func (p Params) OpeningSize(columns []int, logColumns int) int {
	const nonce = 8
	n := 0
	for i, w := range p.words() {
		paths, leaf := 1, koala.ExtSize
		if i == 0 {
			paths, leaf = len(columns), 0
			for _, c := range columns {
				leaf += c * koala.ElemSize
			}
		}
		n += w.Queries * (leaf<<w.fold + paths*w.domain*len(merkle.Digest{}))
		n += len(merkle.Digest{}) + koala.ExtSize + nonce
	}
	return n + (logColumns+p.Height)*(2*koala.ExtSize+nonce) + koala.ExtSize<<finalBits
}
