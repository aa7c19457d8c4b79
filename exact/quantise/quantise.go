// Package quantise turns float models of package train into exact programs, and
// has the parts that importers of others need: products that are split where
// they would leave the bounds, convolutions, pools, softmax, forests, and
// tables.
//
// All scales are powers of two. A matrix gets the largest scale at which its
// elements fit WeightBits bits with sign and no sum can leave the bounds;
// LayerNorm gains and the 1/sqrt(width) of attention are folded into the
// matrices that follow. Activations get the largest scale at which the peaks
// seen on calibration text, with a quarter to spare, fit their width; beyond
// they saturate, so every input has an answer. Rounding uses only correctly
// rounded float64 operations and the trainer's own elementary functions: the
// same parameters give the same program on every machine.
package quantise

import (
	"errors"
	"fmt"
	"math"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/train"
)

// Widths and scales of a GPT program.
const (
	WeightBits   = 12 // matrices
	residualFrac = 12 // fractional bits of the residual, at most
	addBits      = 18 // what a block adds to the residual
	normFrac     = 10 // fractional bits after LayerNorm
	queryBits    = 13
	keyBits      = 12
	valueBits    = 12
	upBits       = 14 // key of the GELU table
	keyFrac      = 10 // fractional bits of a key into the table of exponentials
	expScale     = 11 // the table starts at 2^11
	LogitFrac    = 10
	logitBits    = 18
)

// eps is LayerNorm's epsilon of package train.
const eps = 1e-5

// CalibrationBytes is how much of the text given to GPT is used.
const CalibrationBytes = 50_000

// GPT quantises p and returns the model file. text is like that the model
// will meet; its beginning is used to calibrate.
func GPT(p *train.Params, name string, text []byte) ([]byte, error) {
	peaks, err := p.Peaks(text[:min(len(text), CalibrationBytes)])
	if err != nil {
		return nil, fmt.Errorf("quantise: %w", err)
	}
	b := &builder{params: p, prog: &exact.Program{Rows: p.Shape.Context}}
	b.gpt(peaks)
	if b.err != nil {
		return nil, b.err
	}
	card := exact.Card{Name: name, Text: true, LogitBits: LogitFrac}
	file, err := exact.Encode(card, b.prog)
	if err != nil {
		return nil, fmt.Errorf("quantise: %w", err)
	}
	return file, nil
}

// fixed is a value with its meaning: element x stands for x/2^frac, and its
// magnitude is at most max.
type fixed struct {
	v    exact.Value
	frac int
	max  int64
}

type builder struct {
	params *train.Params
	prog   *exact.Program
	norms  int // constant: inverse roots
	frac   int // fractional bits of the residual
	err    error
}

func (b *builder) gpt(peaks []train.Peaks) {
	p, s := b.params, b.params.Shape
	d := s.Width
	// One scale for the whole residual, coarse enough for the greatest
	// addition to it.
	b.frac = residualFrac
	for _, pk := range peaks {
		for b.frac > 0 && math.Ldexp(float64(max(pk.AttnOut, pk.MLPOut))*1.25, b.frac) >= 1<<(addBits-1) {
			b.frac--
		}
	}
	roots, _ := InverseRoots(d)
	b.norms = b.prog.Const(1, len(roots), roots)
	exps := Exponentials(expScale)
	expTable := b.prog.Const(1, len(exps), exps)

	token := b.prog.Op(exact.Input, nil, nil, 1, 0, 255)
	position := b.prog.Op(exact.Position, nil, nil, int64(s.Context))
	x := b.prog.Op(exact.Add, []exact.Value{
		b.prog.Op(exact.Gather, []exact.Value{token}, []int{b.table(p.Embed, train.Vocab)}),
		b.prog.Op(exact.Gather, []exact.Value{position}, []int{b.table(p.Position, s.Context)}),
	}, nil)
	root := 1 / math.Sqrt(float64(d/s.Heads))
	for i, l := range p.Layers {
		pk := peaks[i]
		n := b.norm(x)
		part := func(k int, scale float64) matrix {
			return matrix{d, d, func(i, j int) float64 {
				return float64(float64(l.AttnGain[i])*float64(l.QKV[i*3*d+k*d+j])) * scale
			}}
		}
		q := b.narrow(b.matmul(n, part(0, root), false), queryBits, float64(pk.Query)*root)
		k := b.narrow(b.matmul(n, part(1, 1), false), keyBits, float64(pk.Key))
		v := b.narrow(b.matmul(n, part(2, 1), false), valueBits, float64(pk.Value))
		if q.frac+k.frac < keyFrac {
			b.fail("layer %d: attention scores are too coarse", i)
			return
		}
		att := fixed{b.prog.Op(exact.Attention, []exact.Value{q.v, k.v, v.v}, []int{expTable}, int64(s.Heads), int64(q.frac+k.frac-keyFrac)), v.frac, v.max}
		x = b.add(x, b.matmul(att, matrix{d, d, func(i, j int) float64 { return float64(l.AttnOut[i*d+j]) }}, true))

		n = b.norm(x)
		up := b.narrow(b.matmul(n, matrix{d, 4 * d, func(i, j int) float64 {
			return float64(float64(l.MLPGain[i]) * float64(l.Up[i*4*d+j]))
		}}, false), upBits, float64(pk.Up))
		down := matrix{4 * d, d, func(i, j int) float64 { return float64(l.Down[i*d+j]) }}
		x = b.add(x, b.matmul(b.gelu(up, down), down, false))
		if b.err != nil {
			return
		}
	}
	n := b.norm(x)
	head := b.matmul(n, matrix{d, train.Vocab, func(i, j int) float64 {
		return float64(float64(p.Final[i]) * float64(p.Embed[j*d+i]))
	}}, false)
	logits := b.requantise(head, LogitFrac, logitBits)
	b.prog.Outputs = []exact.Value{logits.v, n.v}
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("quantise: "+format, args...)
	}
}

func round(x float64) int64 { return int64(math.Floor(x + 0.5)) }

func scaled(x float64, frac int) int64 { return round(float64(math.Ldexp(x, frac))) }

// table is a lookup table at the residual's scale.
func (b *builder) table(v []float32, rows int) int {
	out := make([]int32, len(v))
	for i, x := range v {
		y := scaled(float64(x), b.frac)
		if y != int64(int16(y)) {
			b.fail("table entry %g is too large", x)
		}
		out[i] = int32(y)
	}
	return b.prog.Const(rows, len(v)/rows, out)
}

// normScale is the fractional bits of LayerNorm's product: as fine as its bound allows.
func normScale(d int) int {
	s := 0
	for math.Ldexp(math.Sqrt(float64(d)), s+1) < 0.8*exact.Limit {
		s++
	}
	return s
}

// InverseRoots returns the table with which LayerNorm and RMSNorm divide a row
// of d columns by the root of its mean square, and the fractional bits of the
// product. Entry k is 2^frac sqrt(d/(k+2^14)).
func InverseRoots(d int) (table []int32, frac int) {
	table, frac = make([]int32, normKeys), normScale(d)
	top := math.Ldexp(math.Sqrt(float64(d)), frac)
	for k := range table {
		table[k] = int32(round(float64(top / math.Sqrt(float64(k+normKeyLo)))))
	}
	return table, frac
}

func (b *builder) norm(x exact.Value) fixed {
	d := b.params.Shape.Width
	e := max(1<<14, scaled(float64(eps*float64(d)), 2*b.frac))
	shift := normScale(d) - normFrac
	y := b.prog.Op(exact.LayerNorm, []exact.Value{x}, []int{b.norms}, e, int64(shift))
	// By Cauchy-Schwarz; exact.Check proves it.
	return fixed{y, normFrac, int64(math.Ldexp(math.Sqrt(float64(d)), normFrac)*1.02) + 1}
}

// matrix is a float matrix [rows][cols].
type matrix struct {
	rows, cols int
	at         func(i, j int) float64
}

// norms returns the greatest magnitude and the greatest sum of magnitudes of
// a column.
func (m matrix) norms() (peak, sum float64) {
	for j := range m.cols {
		var s float64
		for i := range m.rows {
			a := math.Abs(m.at(i, j))
			peak = max(peak, a)
			s += a
		}
		sum = max(sum, s)
	}
	return peak, sum
}

// matmul multiplies x by m at the finest scale. If floored, x is known to be
// rounded down, and half a unit in every element is made up for.
func (b *builder) matmul(x fixed, m matrix, floored bool) fixed {
	peak, sum := m.norms()
	frac := 0
	for frac < 24 && math.Ldexp(peak, frac+1) < 1<<(WeightBits-1)-1 &&
		(math.Ldexp(sum, frac+1)+float64(m.rows)/2)*float64(x.max) < exact.Limit*0.99 {
		frac++
	}
	data := make([]int32, m.rows*m.cols)
	halves := make([]int32, m.cols)
	var worst int64
	for j := range m.cols {
		var s, norm int64
		for i := range m.rows {
			w := scaled(m.at(i, j), frac)
			data[i*m.cols+j] = int32(w)
			s += w
			norm += max(w, -w)
		}
		halves[j] = int32(s >> 1)
		worst = max(worst, norm)
	}
	y := fixed{b.prog.Op(exact.MatMul, []exact.Value{x.v}, []int{b.prog.Const(m.rows, m.cols, data)}), x.frac + frac, worst * x.max}
	if floored {
		y.v = b.prog.Op(exact.Offset, []exact.Value{y.v}, []int{b.prog.Const(1, m.cols, halves)})
		y.max += worst
	}
	return y
}

// requantise brings x to the given scale and width.
func (b *builder) requantise(x fixed, frac, bits int) fixed {
	if x.frac < frac {
		b.fail("a value with %d fractional bits is needed with %d", x.frac, frac)
		return x
	}
	v := b.prog.Op(exact.Requantise, []exact.Value{x.v}, nil, int64(x.frac-frac), int64(bits))
	return fixed{v, frac, 1 << (bits - 1)}
}

// narrow brings x to the finest scale at which its peak fits the bits with a
// quarter to spare.
func (b *builder) narrow(x fixed, bits int, peak float64) fixed {
	frac := 0
	for frac < x.frac && frac < normFrac && math.Ldexp(peak*1.25, frac+1) < float64(int64(1)<<(bits-1)) {
		frac++
	}
	return b.requantise(x, frac, bits)
}

// gelu looks up the activation, at the finest scale that the matrix after it
// can take without leaving the bounds.
func (b *builder) gelu(x fixed, next matrix) fixed {
	peak, sum := next.norms()
	n := int64(1) << upBits
	top := float64(n/2) / float64(int64(1)<<x.frac) // GELU(x) <= x
	// The matrix should have its full precision: find the scale it wants.
	want := 0
	for math.Ldexp(peak, want+1) < 1<<(WeightBits-1)-1 {
		want++
	}
	frac := 0
	for frac < 12 && math.Ldexp(top, frac+1) < 1<<15-1 &&
		(math.Ldexp(sum, want)+float64(next.rows)/2)*math.Ldexp(top, frac+1) < exact.Limit*0.98 {
		frac++
	}
	data := make([]int32, n)
	var worst int64
	for k := range data {
		y := scaled(float64(train.GELU(float32(int64(k)-n/2)/float32(int64(1)<<x.frac))), frac)
		data[k] = int32(y)
		worst = max(worst, y, -y)
	}
	v := b.prog.Op(exact.Table, []exact.Value{x.v}, []int{b.prog.Const(1, int(n), data)}, -n/2)
	return fixed{v, frac, worst}
}

// add adds y, brought to the residual's scale, to the residual x.
func (b *builder) add(x exact.Value, y fixed) exact.Value {
	return b.prog.Op(exact.Add, []exact.Value{x, b.requantise(y, b.frac, addBits).v}, nil)
}

// Report compares an exact model with the float model it came from.
type Report struct {
	Bytes      int     // predictions compared
	Float      float64 // mean loss of the float model, nats per byte
	Exact      float64 // mean loss of the exact model
	Agreement  float64 // fraction of predictions with the same likeliest byte
	LogitError float64 // root mean square difference of the logits, in nats
}

// Compare measures both models on the texts by the protocol of train.Windows,
// which is also how the model sees text when it generates. p may be nil: then
// only the exact loss is measured. At most limit windows of each text are
// taken, spread evenly; 0 takes all.
func Compare(m *exact.Model, p *train.Params, texts [][]byte, limit int) (Report, error) {
	var r Report
	var err error
	bits := m.Card().LogitBits
	for _, text := range texts {
		count := 0
		train.Windows(text, m.Context(), func([]byte, int) { count++ })
		every := 1
		if limit > 0 {
			every = (count + limit - 1) / limit
		}
		at := 0
		train.Windows(text, m.Context(), func(win []byte, first int) {
			at++
			if err != nil || (at-1)%every != 0 {
				return
			}
			err = r.window(m, p, win, first, bits)
		})
	}
	if err != nil {
		return Report{}, fmt.Errorf("quantise: compare: %w", err)
	}
	if r.Bytes == 0 {
		return Report{}, errors.New("quantise: nothing to compare")
	}
	n := float64(r.Bytes)
	r.Float /= n
	r.Exact /= n
	r.Agreement /= n
	r.LogitError = math.Sqrt(r.LogitError / (n * train.Vocab))
	return r, nil
}

func (r *Report) window(m *exact.Model, p *train.Params, win []byte, first, bits int) error {
	n := len(win) - 1
	in := make([][]int32, n)
	for i := range in {
		in[i] = []int32{int32(win[i])}
	}
	outs, err := m.Run(in)
	if err != nil {
		return err
	}
	var float []float32
	if p != nil {
		if float, err = p.Forward(win[:n]); err != nil {
			return err
		}
	}
	e, f := make([]float64, train.Vocab), make([]float64, train.Vocab)
	for t := first - 1; t < n; t++ {
		for j, l := range outs[0][t] {
			e[j] = math.Ldexp(float64(l), -bits)
		}
		r.Bytes++
		r.Exact += loss(e, int(win[t+1]))
		if p == nil {
			continue
		}
		for j := range f {
			f[j] = float64(float[t*train.Vocab+j])
			r.LogitError += (f[j] - e[j]) * (f[j] - e[j])
		}
		r.Float += loss(f, int(win[t+1]))
		if best(e) == best(f) {
			r.Agreement++
		}
	}
	return nil
}

func best(v []float64) int {
	b := 0
	for i, x := range v {
		if x > v[b] {
			b = i
		}
	}
	return b
}

// loss is -log softmax(v)[want].
func loss(v []float64, want int) float64 {
	top := v[best(v)]
	var sum float64
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return math.Log(sum) - (v[want] - top)
}
