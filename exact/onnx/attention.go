package onnx

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/quantise"
)

// attention is a product of two values: queries and keys, or weights and
// values.
func (l *lower) attention(c *call) ([]*wire, error) {
	a, err := l.wire(c, 0)
	if err != nil {
		return nil, err
	}
	b, err := l.wire(c, 1)
	if err != nil {
		return nil, err
	}
	r := len(a.dims)
	if r < 2 || len(b.dims) != r || !slices.Equal(a.dims[:r-2], b.dims[:r-2]) {
		return nil, fmt.Errorf("two values of shapes %v and %v: only products of attention are supported, queries times keys and weights times values, heads first", a.dims, b.dims)
	}
	heads := count(a.dims[:r-2])
	dims := slices.Concat(a.dims[:r-1], b.dims[r-1:])
	if s := a.at.scores; s != nil {
		if !s.soft || b.axis != r-2 || b.at.scores != nil {
			return nil, errors.New("scores of attention are multiplied by something other than values, or without a softmax")
		}
		v, err := l.attend(s, a.f, b)
		if err != nil {
			return nil, err
		}
		return []*wire{fresh(v, dims, r-2, 0, false, 0)}, nil
	}
	if l.rows < 2 {
		return nil, errors.New("attention over a single row: import it for two rows or more")
	}
	if a.axis != r-2 || b.axis != r-1 || b.at.scores != nil {
		return nil, fmt.Errorf("two values of shapes %v and %v: only products of attention are supported, queries of each row times keys of each row", a.dims, b.dims)
	}
	return []*wire{{dims: dims, axis: -1, at: &atom{scores: &scores{q: a, k: b, heads: heads}}}}, nil
}

// scoresWith scales scores, or adds a mask to them.
func (l *lower) scoresWith(op string, w *wire, t *Tensor, first bool, dims []int) ([]*wire, error) {
	s := *w.at.scores
	if s.soft || !slices.Equal(dims, w.dims) {
		return nil, fmt.Errorf("%s of attention weights after the softmax is not supported", op)
	}
	x := *w
	all := !slices.ContainsFunc(t.F, func(v float32) bool { return v != t.F[0] })
	switch {
	case len(t.F) == 0:
		return nil, errors.New("scores of attention with integers")
	case op == "Mul" && all:
		x.f = w.f.then(float64(t.F[0]), 0)
		return []*wire{&x}, nil
	case op == "Div" && all && !first && t.F[0] != 0:
		x.f = w.f.then(1/float64(t.F[0]), 0)
		return []*wire{&x}, nil
	case op == "Add" && all, op == "Sub" && all && !first:
		return []*wire{w}, nil // the softmax does not see it
	case op != "Add":
		return nil, fmt.Errorf("%s of scores of attention with a constant that varies is not supported", op)
	}
	// The mask must hide exactly what comes later.
	n := dims[len(dims)-1]
	weakest := math.Inf(-1)
	for i, k := range spread(t.Dims, dims) {
		v := float64(t.F[k])
		later := i%n > i/n%n
		if later && v > -8 || !later && v != 0 {
			return nil, fmt.Errorf("a mask of attention that has %g for row %d at row %d: only full attention and masks that hide later rows are supported", v, i/n%n, i%n)
		}
		if later {
			weakest = max(weakest, v)
		}
	}
	if weakest > -100 {
		l.note("its mask adds %g to the scores of later rows; here they are not seen at all", weakest)
	}
	s.causal = true
	x.at = &atom{scores: &s}
	return []*wire{&x}, nil
}

// attend emits attention with scores s times f on the values of b.
func (l *lower) attend(s *scores, f *function, b *wire) (*value, error) {
	scale, _, ok := f.affine()
	if !ok || scale <= 0 {
		return nil, errors.New("scores of attention are scaled by something other than a positive number")
	}
	width := s.q.perRow() / s.heads
	if width < 1 || s.q.perRow() != s.k.perRow() || s.q.perRow() != b.perRow() {
		return nil, fmt.Errorf("%d, %d and %d columns of queries, keys and values: they must be the same", s.q.perRow(), s.k.perRow(), b.perRow())
	}
	// Twice a score must stay below 2^30, and the sums of weighted values too.
	qb, kb, vb, es := queryBits, keyBits, valueBits, expScale
	for qb+kb-2+1+bits.Len(uint(width-1)) > 29 {
		if qb > kb {
			qb--
		} else {
			kb--
		}
	}
	for es+bits.Len(uint(l.prog.Rows-1))+vb-1 > 29 {
		if vb > 11 {
			vb--
		} else {
			es--
		}
	}
	if qb < 7 || es < 8 {
		return nil, fmt.Errorf("attention over %d rows with %d columns a head is too large", l.prog.Rows, width)
	}
	// Elements of a row are heads times columns in all three, whether the
	// tensor is [heads][row][column] or [heads][column][row].
	q, k, v := *s.q, *s.k, *b
	q.f = q.f.then(scale, 0)
	qv, err := l.canonical(&q, want{normFrac, qb, false})
	if err != nil {
		return nil, err
	}
	kv, err := l.canonical(&k, want{normFrac, kb, false})
	if err != nil {
		return nil, err
	}
	vv, err := l.canonical(&v, want{maxFrac, vb, false})
	if err != nil {
		return nil, err
	}
	// The table has 1,024 entries a nat, or fewer if scores are coarser.
	frac := qv.frac + kv.frac
	coarser := max(0, keyFrac-frac)
	if coarser > keyFrac {
		return nil, fmt.Errorf("scores of attention with %d fractional bits are too coarse: queries reach %g, keys %g", frac, l.peakOf(&q), l.peakOf(&k))
	}
	fine := quantise.Exponentials(uint(es))
	var table []int32
	for i := 0; i < len(fine); i += 1 << coarser {
		table = append(table, fine[i])
	}
	if table[len(table)-1] != 0 {
		table = append(table, 0)
	}
	kind := exact.FullAttention
	if s.causal {
		kind = exact.Attention
	}
	y := l.prog.Op(kind, []exact.Value{qv.v, kv.v, vv.v}, []int{l.prog.Const(1, len(table), table)}, int64(s.heads), int64(max(0, frac-keyFrac)))
	return &value{v: y, cols: vv.cols, frac: vv.frac, lo: vv.lo, hi: vv.hi, floored: true}, nil
}
