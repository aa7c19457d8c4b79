package onnx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/torg-network/torg/exact"
)

// randomMargin is how many times larger than on random inputs values are
// expected to be at most, without samples.
const randomMargin = 4

// Options say how a network is to become an exact program.
type Options struct {
	Name string // of the model
	// Rows is the most positions of a sequence, or samples of a batch; 0 for
	// as many as the network has.
	Rows int
	// Samples are inputs like those that the model will meet, each the numbers
	// of some rows, row by row; scales are chosen by them. Without samples they are chosen by
	// bounds of what inputs from Lo to Hi (not needed for tokens) can do, and
	// by what random ones do. What is larger than expected saturates.
	Samples [][]float64
	Lo, Hi  float64
}

// Input says how numbers become the program's input.
type Input struct {
	Name    string  `json:"name"`
	Tokens  bool    `json:"tokens"`
	Columns int     `json:"columns"` // numbers a row
	Rows    int     `json:"rows"`    // of a run, exactly; 0 for any number up to the program's
	Frac    int     `json:"frac"`    // a number x is given as x 2^frac, to nearest
	Lo      float64 `json:"lo"`      // least and greatest number
	Hi      float64 `json:"hi"`
}

// Output says what an output of the program means.
type Output struct {
	Name    string `json:"name"`
	Columns int    `json:"columns"`
	Frac    int    `json:"frac"` // e stands for e/2^frac
	// Row is which row of the program's output holds it, or EachRow, AnyRow or
	// LastRow.
	Row  int  `json:"row"`
	Loss Loss `json:"loss,omitzero"`
	axis int  // of the network's tensor along which rows lie
}

// Values of Output.Row.
const (
	EachRow = -1 // every row holds its own
	AnyRow  = -2 // all rows are alike
	LastRow = -3 // the last row of the run
)

// Loss is how far the exact program is from the network in floating point.
type Loss struct {
	Rows      int     `json:"rows"`      // compared
	Agreement float64 `json:"agreement"` // part of rows whose greatest element is in the same place, or whose label is the same; 1 for single numbers
	Max       float64 `json:"max_error"`
	Mean      float64 `json:"mean_error"`
	Peak      float64 `json:"peak"` // greatest magnitude of the network's elements
}

// Imported is a network as an exact program.
type Imported struct {
	Card    exact.Card
	Program *exact.Program
	Input   Input
	Outputs []Output
	// Samples is how many were given; if none, scales follow from bounds, and
	// loss is measured on inputs drawn at random.
	Samples int
	Causal  bool
	Notes   []string
}

// Import reads an ONNX file and makes an exact program of it that passes
// exact.Program.Check.
func Import(ctx context.Context, file []byte, o Options) (*Imported, error) {
	m, err := Decode(file)
	if err != nil {
		return nil, err
	}
	return importModel(ctx, m, o, defaultRoom)
}

func importModel(ctx context.Context, m *Model, o Options, r room) (*Imported, error) {
	n, err := open(m, r)
	if err != nil {
		return nil, err
	}
	im, err := n.lower(ctx, o)
	for _, l := range n.may[1:] {
		if err == nil {
			break
		}
		// What a row is is not written in the file: another reading may do.
		if n.lay(l) != nil {
			continue
		}
		if other, failed := n.lower(ctx, o); failed == nil {
			im, err = other, nil
		}
	}
	return im, err
}

// lower makes the program, for the layout that is set.
func (n *Net) lower(ctx context.Context, o Options) (*Imported, error) {
	rows, traced := o.Rows, n.unit()
	if n.sequence {
		switch f := n.fixedRows(); {
		case f > 0 && rows > 0 && rows != f:
			return nil, fmt.Errorf("onnx: %d rows are asked for, and the network takes exactly %d", rows, f)
		case f > 0:
			rows = f
		case rows == 0:
			return nil, errors.New("onnx: the network takes sequences of any length: say how many rows (positions) at most")
		}
		traced = rows
	}
	rows = max(rows, traced)
	if rows > exact.MaxRows || n.cols > exact.MaxCols {
		return nil, fmt.Errorf("onnx: %d rows of %d numbers, at most %d and %d", rows, n.cols, exact.MaxRows, exact.MaxCols)
	}
	if !n.sequence && traced > 1 && rows != traced {
		return nil, fmt.Errorf("onnx: %d rows are asked for, and the network takes batches of exactly %d", rows, traced)
	}
	samples, given, err := n.samples(o, traced)
	if err != nil {
		return nil, err
	}

	// One evaluation tells shapes, and what does not depend on the input.
	l := &lower{net: n, prog: &exact.Program{Rows: rows}, rows: traced, static: map[string]*Tensor{}, dims: map[string][]int{},
		wires: map[string]*wire{}, peaks: map[string]float64{}, group: map[string]int{}}
	for name, t := range n.consts {
		l.static[name] = t
	}
	for _, name := range slices.Sorted(maps.Keys(n.fixed)) {
		f := n.fixed[name]
		t, err := f.tensor(traced)
		if err != nil {
			return nil, fmt.Errorf("onnx: input %q: %w", name, err)
		}
		l.static[name] = t
		l.note("the input %s is taken to be all %s", name, map[string]string{"ones": "ones: every row counts", "zeros": "zeros", "counting": "positions, 0, 1, 2 ..."}[f.with])
	}
	var dynamic []*Node
	if _, err := n.evaluate(ctx, make([]float64, traced*n.cols), traced, func(node *Node, out []*Tensor, static bool) {
		for i, name := range node.Out {
			if name == "" {
				continue
			}
			l.dims[name] = out[i].Dims
			if static {
				l.static[name] = out[i]
			}
		}
		if !static {
			dynamic = append(dynamic, node)
		}
	}); err != nil {
		return nil, err
	}
	l.dims[n.input.Name] = n.inputDims(traced)
	var results []string
	for _, p := range n.model.Outputs {
		if l.static[p.Name] != nil {
			return nil, fmt.Errorf("onnx: the result %q does not depend on the input", p.Name)
		}
		results = append(results, p.Name)
	}
	for _, node := range dynamic {
		if err := l.finite(node); err != nil {
			return nil, fmt.Errorf("onnx: %s: %w", node.label(), err)
		}
	}
	r := &rewriter{nodes: dynamic, static: l.static, dims: l.dims, opset: n.version}
	nodes := r.rewrite(results)

	// How large values get.
	lo, hi := o.Lo, o.Hi
	if given > 0 {
		lo, hi = bounds(samples)
	}
	floats, err := l.calibrate(ctx, samples)
	if err != nil {
		return nil, err
	}
	if n.tokens {
		lo, hi = 0, float64(n.vocab-1)
	}
	l.peaks[n.input.Name] = max(math.Abs(lo), math.Abs(hi), 1e-9)
	if given == 0 {
		// Bounds of what any input can do; where they are far from what random
		// inputs do, which bounds of deep networks are, a margin over that.
		v := &intervals{peak: map[string]float64{n.input.Name: l.peaks[n.input.Name]}, length: map[string]float64{}, static: l.static, dims: l.dims, opset: n.version, room: n.room}
		for _, node := range nodes {
			if err := v.node(node); err != nil {
				return nil, fmt.Errorf("onnx: %w", err)
			}
		}
		for name, p := range v.peak {
			if seen, ok := l.peaks[name]; ok && seen > 0 {
				p = min(p, randomMargin*seen)
			}
			l.peaks[name] = p
		}
	}
	peak := map[string]float64{}
	member := groups(nodes, l.static)
	for name, g := range member {
		peak[g] = max(peak[g], l.peaks[name])
	}
	for name, g := range member {
		l.group[name] = fracFor(peak[g], sumBits, 12)
	}

	im := &Imported{Card: exact.Card{Name: o.Name}, Program: l.prog, Samples: given, Input: Input{Name: n.input.Name, Tokens: n.tokens, Columns: n.cols, Lo: lo, Hi: hi}}
	if err := l.enter(im, traced); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	for _, node := range nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
		if err := l.node(node); err != nil {
			return nil, fmt.Errorf("onnx: %w", err)
		}
		if len(l.prog.Ops) > exact.MaxOps {
			return nil, fmt.Errorf("onnx: more than %d operations", exact.MaxOps)
		}
	}
	if err := l.leave(im, results); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	im.settleRows(n, traced)
	l.sweep()
	im.Notes, im.Causal = l.notes, l.prog.Causal()
	if _, err := l.prog.Check(); err != nil {
		return nil, fmt.Errorf("onnx: the program is refused, which is a bug: %w", err)
	}
	return im, im.measure(ctx, samples, floats)
}

func (n *Net) inputDims(rows int) []int {
	dims := make([]int, len(n.input.Dims))
	for i, d := range n.input.Dims {
		if dims[i] = d.Size; d.Size < 0 {
			dims[i] = 1
		}
	}
	if n.rowAxis >= 0 {
		dims[n.rowAxis] = rows
	}
	return dims
}

// samples cuts the samples into evaluations, or draws some if there are none;
// the second result is how many are given ones.
func (n *Net) samples(o Options, rows int) ([][][]float64, int, error) {
	if len(o.Samples) == 0 {
		if !n.tokens && !(o.Lo < o.Hi) {
			return nil, 0, errors.New("onnx: give samples of the input, or its least and greatest number: scales are chosen by them")
		}
		r := rand.New(rand.NewPCG(1, 1))
		count := max(4, 64/rows)
		var out [][][]float64
		for range count {
			s := make([][]float64, rows)
			for t := range s {
				s[t] = make([]float64, n.cols)
				for i := range s[t] {
					if s[t][i] = o.Lo + r.Float64()*(o.Hi-o.Lo); n.tokens {
						s[t][i] = float64(r.IntN(n.vocab))
					}
				}
			}
			out = append(out, s)
		}
		return out, 0, nil
	}
	var out [][][]float64
	for i, flat := range o.Samples {
		s, err := Rows(flat, n.cols)
		if err == nil {
			err = n.check(s)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("onnx: sample %d: %w", i+1, err)
		}
		for at := 0; at < len(s); at += rows {
			part := s[at:min(at+rows, len(s))]
			// A network of fixed size gets the last row again and again.
			if fixed := !n.sequence || n.fixedRows() > 0; fixed {
				part = slices.Clone(part)
				for len(part) < rows {
					part = append(part, part[len(part)-1])
				}
			}
			out = append(out, part)
		}
	}
	return out, len(out), nil
}

// Rows cuts numbers into rows of so many.
func Rows(flat []float64, columns int) ([][]float64, error) {
	if len(flat) == 0 || columns < 1 || len(flat)%columns != 0 {
		return nil, fmt.Errorf("%d numbers are no rows of %d", len(flat), columns)
	}
	var rows [][]float64
	for at := 0; at < len(flat); at += columns {
		rows = append(rows, flat[at:at+columns])
	}
	return rows, nil
}

func bounds(samples [][][]float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, s := range samples {
		for _, r := range s {
			lo, hi = min(lo, slices.Min(r)), max(hi, slices.Max(r))
		}
	}
	return lo, hi
}

// each calls f for every index on as many goroutines as there are processors.
func each(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range n {
		limit <- struct{}{}
		wg.Go(func() {
			errs[i] = f(i)
			<-limit
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("sample %d: %w", i+1, err)
		}
	}
	return nil
}

// measured is how many evaluations loss is measured on.
const measured = 256

// calibrate finds how large values get on the samples, and returns the results
// of the first.
func (l *lower) calibrate(ctx context.Context, samples [][][]float64) ([][]*Tensor, error) {
	var mu sync.Mutex
	results := make([][]*Tensor, min(len(samples), measured))
	return results, each(len(samples), func(i int) error {
		own := map[string]float64{}
		var wrong error
		outs, err := l.net.evaluate(ctx, slices.Concat(samples[i]...), len(samples[i]), func(node *Node, out []*Tensor, static bool) {
			for k, name := range node.Out {
				if name == "" || static {
					continue
				}
				own[name] = max(own[name], greatest(out[k]))
				if at, bad := findElement(out[k], func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 1) }); bad && wrong == nil {
					wrong = fmt.Errorf("onnx: %s: element %d of %q is %g: no program of integers can follow it there; give other samples or another domain, if its inputs never are so", node.label(), at, name, out[k].F[at])
				}
			}
		})
		if err == nil {
			err = wrong
		}
		for k, t := range outs {
			// What is less than everything is a mask's way to hide; none is a result.
			if at, bad := findElement(t, infinite); bad && err == nil {
				err = fmt.Errorf("onnx: the result %q: element %d is %g, which is no number to be near to", l.net.model.Outputs[k].Name, at, t.F[at])
			}
		}
		if i < len(results) {
			results[i] = outs
		}
		mu.Lock()
		defer mu.Unlock()
		for name, p := range own {
			l.peaks[name] = max(l.peaks[name], p)
		}
		return err
	})
}

// enter emits the program's input.
func (l *lower) enter(im *Imported, rows int) error {
	n := l.net
	x := &value{cols: n.cols}
	if n.tokens {
		x.hi = int64(n.vocab - 1)
	} else {
		x.frac = fracFor(l.peaks[n.input.Name], actBits, maxFrac)
		// With room for inputs that are somewhat larger than the samples.
		x.lo, x.hi = -1<<(actBits-1)+1, 1<<(actBits-1)-1
		if im.Samples == 0 {
			// The whole domain, its ends too.
			x.lo, x.hi = int64(math.Floor(math.Ldexp(im.Input.Lo, x.frac))), int64(math.Ceil(math.Ldexp(im.Input.Hi, x.frac)))
		} else if im.Input.Lo >= 0 {
			x.lo = 0
		}
	}
	x.v = l.prog.Op(exact.Input, nil, nil, int64(x.cols), x.lo, x.hi)
	l.input = x.v
	im.Input.Frac = x.frac
	im.Input.Lo, im.Input.Hi = math.Ldexp(float64(x.lo), -x.frac), math.Ldexp(float64(x.hi), -x.frac)
	ax := n.rowAxis
	if rows == 1 {
		ax = -1
	}
	w := fresh(x, n.inputDims(rows), ax, 0, false, l.peaks[n.input.Name])
	l.wires[n.input.Name] = w
	return nil
}

// leave emits the program's outputs.
func (l *lower) leave(im *Imported, results []string) error {
	for _, name := range results {
		w := l.wires[name]
		if w == nil || w.at.scores != nil {
			return fmt.Errorf("the result %q is not supported as a result", name)
		}
		n := l.net
		text := n.tokens && n.vocab == 256 && w.perRow() == 256 && w.axis >= 0
		most := maxFrac
		if text {
			most = 10
		}
		v, err := l.canonical(w, want{most, outBits, false})
		if err != nil {
			return fmt.Errorf("result %q: %w", name, err)
		}
		row := EachRow
		switch {
		case w.axis < 0 && w.at.uniform:
			row = AnyRow
		case w.axis < 0 && (n.sequence || l.rows > 1):
			row = w.row
		}
		if len(im.Outputs) == 0 && text && v.frac >= 0 && l.prog.Causal() && l.prog.Rows%2 == 0 {
			im.Card.Text, im.Card.LogitBits = true, v.frac
		}
		im.Outputs = append(im.Outputs, Output{Name: name, Columns: v.cols, Frac: v.frac, Row: row, axis: w.axis})
		l.prog.Outputs = append(l.prog.Outputs, v.v)
	}
	return nil
}

// settleRows says of how many rows a run is: as many as the network takes, if
// that is a fixed number. A sequence of any length whose result is in its last
// row is asked for that; one whose result is in another, but the first, was only
// seen at the length it was traced with.
func (im *Imported) settleRows(n *Net, traced int) {
	if n.fixedRows() > 0 || !n.sequence && traced > 1 {
		im.Input.Rows = traced
		return
	}
	for k := range im.Outputs {
		switch o := &im.Outputs[k]; {
		case o.Row > 0 && o.Row == traced-1:
			o.Row = LastRow
		case o.Row > 0:
			im.Input.Rows = traced
		}
	}
}

// RowOf is the row of a run of so many rows that holds the output, and is the
// first to be claimed of it; 0 if every row holds its own.
func (o Output) RowOf(rows int) int {
	switch o.Row {
	case EachRow:
		return 0
	case AnyRow, LastRow:
		return rows - 1
	}
	return o.Row
}

// sweep removes operations and constants that no output needs.
func (l *lower) sweep() {
	p := l.prog
	need := make([]bool, len(p.Ops))
	for _, v := range p.Outputs {
		need[v] = true
	}
	need[l.input] = true
	for i := len(p.Ops) - 1; i >= 0; i-- {
		if need[i] {
			for _, v := range p.Ops[i].In {
				need[v] = true
			}
		}
	}
	q := &exact.Program{Rows: p.Rows}
	at := make([]exact.Value, len(p.Ops))
	consts := map[int]int{}
	for i, op := range p.Ops {
		if !need[i] {
			continue
		}
		in := make([]exact.Value, len(op.In))
		for k, v := range op.In {
			in[k] = at[v]
		}
		cs := make([]int, len(op.Consts))
		for k, c := range op.Consts {
			to, ok := consts[c]
			if !ok {
				to = len(q.Consts)
				consts[c] = to
				q.Consts = append(q.Consts, p.Consts[c])
			}
			cs[k] = to
		}
		at[i] = q.Op(op.Kind, in, cs, op.Params...)
	}
	for _, v := range p.Outputs {
		q.Outputs = append(q.Outputs, at[v])
	}
	*p = *q
}

// Encode makes rows of the program's input of numbers.
func (in Input) Encode(rows [][]float64) ([][]int32, error) {
	out := make([][]int32, len(rows))
	for t, r := range rows {
		if len(r) != in.Columns {
			return nil, fmt.Errorf("row %d has %d numbers, want %d", t, len(r), in.Columns)
		}
		out[t] = make([]int32, len(r))
		for i, x := range r {
			if in.Tokens && x != math.Trunc(x) || !(x >= in.Lo && x <= in.Hi) {
				return nil, fmt.Errorf("row %d: %g is not among the inputs the model takes, %g to %g", t, x, in.Lo, in.Hi)
			}
			out[t][i] = int32(fixed(x, in.Frac))
		}
	}
	return out, nil
}

// Number is what an element of the output stands for.
func (o Output) Number(e int32) float64 { return math.Ldexp(float64(e), -o.Frac) }

// measure compares the program with the network's results on samples.
func (im *Imported) measure(ctx context.Context, samples [][][]float64, floats [][]*Tensor) error {
	file, err := exact.Encode(im.Card, im.Program)
	if err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	m, err := exact.Load(file)
	if err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	parts := make([][]Loss, len(floats)) // added in order: sums depend on it
	if err := each(len(floats), func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, want := samples[i], floats[i]
		in, err := im.Input.Encode(s)
		if err != nil {
			return err
		}
		if n := im.Input.Rows; n > 0 && len(in) != n {
			return fmt.Errorf("it has %d rows, and a result is in a row that is known for %d only: give samples of so many", len(in), n)
		}
		got, err := m.Run(in)
		if err != nil {
			return err
		}
		parts[i] = make([]Loss, len(im.Outputs))
		for k, o := range im.Outputs {
			rows := 1
			if o.axis >= 0 {
				rows = len(s)
			}
			for r := range rows {
				e := got[k][r]
				if o.axis < 0 {
					e = got[k][o.RowOf(len(s))]
				}
				f := rowOf(want[k], o.axis, r)
				if len(f) != len(e) {
					return fmt.Errorf("result %q has %d elements a row in floating point and %d here, which is a bug", o.Name, len(f), len(e))
				}
				parts[i][k].add(o, f, e)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	for k := range im.Outputs {
		o := &im.Outputs[k]
		var s Loss
		for _, p := range parts {
			s.Rows, s.Agreement, s.Mean = s.Rows+p[k].Rows, s.Agreement+p[k].Agreement, s.Mean+p[k].Mean
			s.Max, s.Peak = max(s.Max, p[k].Max), max(s.Peak, p[k].Peak)
		}
		s.Mean /= float64(max(1, s.Rows*o.Columns))
		s.Agreement /= float64(max(1, s.Rows))
		o.Loss = s
	}
	return nil
}

// rowOf are the elements of a tensor in one row.
func rowOf(t *Tensor, ax, row int) []float64 {
	var out []float64
	place := byRow(t.Dims, ax)
	for i := range t.Len() {
		if r, _ := place(i); r == row {
			out = append(out, t.number(i))
		}
	}
	return out
}

// add takes in a row, as a sum of agreements and errors.
func (s *Loss) add(o Output, want []float64, got []int32) {
	s.Rows++
	a, b := 0, 0
	for i, x := range want {
		y := o.Number(got[i])
		if x > want[a] {
			a = i
		}
		if got[i] > got[b] {
			b = i
		}
		d := math.Abs(x - y)
		s.Max = max(s.Max, d)
		s.Mean += d
		s.Peak = max(s.Peak, math.Abs(x))
	}
	same := a == b
	if len(want) == 1 && o.Frac == 0 {
		same = want[0] == o.Number(got[0])
	}
	if same {
		s.Agreement++
	}
}

// groups are names of values that are added to each other or put side by side,
// and so need one scale: for each name its group.
func groups(nodes []*Node, static map[string]*Tensor) map[string]string {
	parent := map[string]string{}
	var find func(string) string
	find = func(s string) string {
		p, ok := parent[s]
		if !ok || p == s {
			parent[s] = s
			return s
		}
		root := find(p)
		parent[s] = root
		return root
	}
	for _, n := range nodes {
		switch n.Op {
		case "Add", "Sub", "Concat":
		default:
			continue
		}
		scalar := false
		for _, in := range n.In {
			t := static[in]
			scalar = scalar || t != nil && t.Len() == 1
		}
		if scalar {
			continue
		}
		for _, in := range n.In {
			if static[in] == nil {
				parent[find(in)] = find(n.Out[0])
			}
		}
	}
	out := map[string]string{}
	for name := range parent {
		out[name] = find(name)
	}
	return out
}
