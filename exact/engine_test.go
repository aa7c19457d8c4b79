package exact

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// randomProgram builds a program that passes Check: a stack of random
// operations kept in bounds by requantising.
func randomProgram(r *rand.Rand, causal bool) *Program {
	p := &Program{Rows: 2 * (1 + r.IntN(40))}
	consts := func(rows, cols int, most int32) int {
		data := make([]int32, rows*cols)
		for i := range data {
			data[i] = r.Int32N(2*most+1) - most
		}
		if r.IntN(4) == 0 { // extremes
			for i := range data {
				data[i] = most
			}
		}
		return p.Const(rows, cols, data)
	}
	roots := func() int {
		data := make([]int32, normKeyHi-normKeyLo)
		for i := range data { // rough, so that a key off by one shows
			data[i] = 1<<20 + r.Int32N(1<<20)
		}
		return p.Const(1, len(data), data)
	}
	order := func(from, to int) int {
		data := make([]int32, to)
		for i := range data {
			data[i] = r.Int32N(int32(from)+1) - 1
		}
		return p.Const(1, to, data)
	}
	vocab := 1 + r.IntN(300)
	in := p.Op(Input, nil, nil, 1, 0, int64(vocab-1))
	width := 4 * (1 + r.IntN(16))
	x := p.Op(Add, []Value{
		p.Op(Gather, []Value{in}, []int{consts(vocab, width, 1<<12)}),
		p.Op(Gather, []Value{p.Op(Position, nil, nil, int64(p.Rows))}, []int{consts(p.Rows, width, 1<<12)}),
	}, nil)
	attention := func(kind Kind) {
		heads := []int{1, 2, 4}[r.IntN(3)]
		w := heads * (1 + r.IntN(16))
		part := func(bits int64) Value {
			n := p.Op(Requantise, []Value{x}, nil, 2, 12)
			return p.Op(Requantise, []Value{p.Op(MatMul, []Value{n}, []int{consts(width, w, 300)})}, nil, 9, bits)
		}
		table := make([]int32, 1+1+r.IntN(400))
		e := int32(1 + r.IntN(2000))
		for i := range table {
			table[i] = e
			e -= min(e, r.Int32N(40))
		}
		x = p.Op(kind, []Value{part(11), part(11), part(11)}, []int{p.Const(1, len(table), table)}, int64(heads), int64(r.IntN(12)))
		width = w
	}
	for range 1 + r.IntN(6) {
		most := 13
		if causal {
			most = 11
		}
		switch r.IntN(most) {
		case 0: // wide weights: the 32-bit path
			n := p.Op(Requantise, []Value{x}, nil, int64(r.IntN(4)), int64(8))
			y := p.Op(MatMul, []Value{n}, []int{consts(width, width, 100_000)})
			x = p.Op(Requantise, []Value{y}, nil, 12, 18)
		case 1: // layernorm
			n := p.Op(LayerNorm, []Value{p.Op(Requantise, []Value{x}, nil, 0, 20)}, []int{roots()}, normKeyLo+int64(r.IntN(9999)), int64(12+r.IntN(5)))
			y := p.Op(MatMul, []Value{n}, []int{consts(width, width, 20)})
			x = p.Op(Requantise, []Value{y}, nil, 3, 15)
		case 2: // table
			n := p.Op(Requantise, []Value{x}, nil, 3, 8)
			x = p.Op(Table, []Value{n}, []int{consts(1, 256, 1<<14)}, -128)
		case 3: // attention
			attention(Attention)
		case 4: // residual, offset
			n := p.Op(Requantise, []Value{x}, nil, 0, 15)
			x = p.Op(Add, []Value{n, p.Op(Offset, []Value{n}, []int{consts(1, width, 1<<15)})}, nil)
		case 5: // change of width
			n := p.Op(Requantise, []Value{x}, nil, 1, 12)
			w := 4 * (1 + r.IntN(16))
			x = p.Op(MatMul, []Value{n}, []int{consts(width, w, 2047)})
			x = p.Op(Requantise, []Value{x}, nil, 10, 16)
			width = w
		case 6: // convolution: blocks of any width, by 16 and by 32 bits
			blocks, w := 1+r.IntN(8), 1+r.IntN(8)
			block := 1 + r.IntN(40)
			n := p.Op(Requantise, []Value{x}, nil, 2, []int64{12, 18}[r.IntN(2)])
			n = p.Op(Arrange, []Value{n}, []int{order(width, blocks*block)})
			x = p.Op(BlockMatMul, []Value{n}, []int{consts(block, w, []int32{60, 190}[r.IntN(2)])}, int64(blocks))
			x = p.Op(Requantise, []Value{x}, nil, 8, 16)
			width = blocks * w
		case 7: // pool
			blocks := 1 + r.IntN(20)
			n := p.Op(Arrange, []Value{x}, []int{order(width, blocks*(1+r.IntN(9)))})
			x = p.Op(BlockMax, []Value{n}, nil, int64(blocks))
			width = blocks
		case 8: // gate
			n := p.Op(Requantise, []Value{x}, nil, 1, 15)
			x = p.Op(Multiply, []Value{n, p.Op(Offset, []Value{n}, []int{consts(1, width, 1<<14)})}, nil)
			x = p.Op(Requantise, []Value{x}, nil, 13, 17)
		case 9: // rmsnorm
			n := p.Op(Requantise, []Value{x}, nil, 0, 20)
			n = p.Op(RMSNorm, []Value{n}, []int{roots()}, normKeyLo+int64(r.IntN(9999)), int64(12+r.IntN(5)))
			x = p.Op(Requantise, []Value{n}, nil, 1, 15)
		case 10: // noise
			n := p.Op(Noise, nil, []int{consts(1, noiseQuantiles, 9999)}, int64(width))
			x = p.Op(Requantise, []Value{p.Op(Add, []Value{x, n}, nil)}, nil, 2, 17)
		case 11:
			attention(FullAttention)
		case 12:
			x = p.Op(MeanRows, []Value{p.Op(Requantise, []Value{x}, nil, 0, 20)}, nil)
		}
	}
	if !causal && p.Causal() {
		attention(FullAttention)
	}
	p.Outputs = []Value{x, p.Op(ArgMax, []Value{x}, nil)}
	for range r.IntN(15) {
		p.Outputs = append(p.Outputs, Value(r.IntN(len(p.Ops))))
	}
	return p
}

func randomInput(r *rand.Rand, p *Program, n int) [][]int32 {
	in := make([][]int32, n)
	top := p.Ops[0].Params[2]
	for i := range in {
		in[i] = []int32{int32(r.Int64N(top + 1))}
		switch r.IntN(8) {
		case 0:
			in[i][0] = 0
		case 1:
			in[i][0] = int32(top)
		}
	}
	return in
}

// newTestModel compiles p without a file.
func newTestModel(t testing.TB, p *Program) *Model {
	t.Helper()
	m, err := newModel(Card{Name: "test"}, p, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// within expects every output to be what Check said of it.
func within(t *testing.T, m *Model, outs [][][]int32) {
	t.Helper()
	for o, v := range m.plan.prog.Outputs {
		f := m.plan.facts[v]
		for _, row := range outs[o] {
			if len(row) != f.Cols || int64(slices.Min(row)) < f.Range.Lo || int64(slices.Max(row)) > f.Range.Hi {
				t.Fatalf("operation %d (%s): %d columns in [%d, %d], Check said %+v", v, m.plan.prog.Ops[v].Kind, len(row), slices.Min(row), slices.Max(row), f)
			}
		}
	}
}

// randomEnv is an environment, often with noise.
func randomEnv(r *rand.Rand) (env Env) {
	env.Temperature = []int{0, 1, 700, MaxTemperature}[r.IntN(4)]
	for i := range env.Seed {
		env.Seed[i] = byte(r.Uint32())
	}
	return env
}

func TestEngineEqualsInterpreter(t *testing.T) {
	used := map[Kind]int{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := randomProgram(r, seed%2 == 0)
		if p.Causal() != (seed%2 == 0) {
			t.Fatalf("seed %d: causal is %t", seed, p.Causal())
		}
		for _, op := range p.Ops {
			used[op.Kind]++
		}
		m := newTestModel(t, p)
		in, env := randomInput(r, p, 1+r.IntN(p.Rows)), randomEnv(r)
		want, err := p.InterpretEnv(env, in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := m.RunEnv(env, in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: engine differs from interpreter", seed)
		}
		within(t, m, got)
	}
	for k := Input; k < kinds; k++ {
		if used[k] < 10 {
			t.Errorf("%s was tried %d times", k, used[k])
		}
	}
}

// TestBatchedDecode interleaves several sequences, a random number of rows of
// each at a time, and expects what each gives alone.
func TestBatchedDecode(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := randomProgram(r, true)
		m := newTestModel(t, p)
		type session struct {
			in   [][]int32
			want [][][]int32
			seq  *sequence
		}
		var ss []*session
		left := 0
		for range 1 + r.IntN(5) {
			in, env := randomInput(r, p, 1+r.IntN(p.Rows)), randomEnv(r)
			want, err := p.InterpretEnv(env, in)
			if err != nil {
				t.Fatal(err)
			}
			ss = append(ss, &session{in, want, m.plan.newSequence()})
			ss[len(ss)-1].seq.env = env
			left += len(in)
		}
		ws := m.plan.newWorkspace()
		for left > 0 {
			var rows []row
			var whose []*session
			for _, s := range ss {
				n := min(r.IntN(4), len(s.in)-s.seq.n, m.plan.chunk-len(rows))
				for i := range n {
					at := s.seq.n + i
					rows = append(rows, row{s.seq, at, s.in[at]})
					whose = append(whose, s)
				}
			}
			if len(rows) == 0 {
				continue
			}
			m.plan.run(ws, rows)
			left -= len(rows)
			for i, w := range rows {
				for o := range p.Outputs {
					if got, want := m.plan.output(ws, o, i), whose[i].want[o][w.at]; !reflect.DeepEqual(got, want) {
						t.Fatalf("seed %d: output %d of row %d: %v, want %v", seed, o, w.at, got, want)
					}
				}
			}
		}
	}
}

// TestExtremes drives a program whose constants are all as large as Check
// permits: sums come within a factor of two of the limit and stay right.
func TestExtremes(t *testing.T) {
	for _, sign := range []int32{1, -1} {
		p := &Program{Rows: 64}
		fill := func(rows, cols int, x int32) int {
			data := make([]int32, rows*cols)
			for i := range data {
				data[i] = x
			}
			return p.Const(rows, cols, data)
		}
		in := p.Op(Input, nil, nil, 32, -32768, 32767)
		y := p.Op(MatMul, []Value{in}, []int{fill(32, 8, sign*1023)}) // 32*1023*2^15 < 2^30
		n := p.Op(Requantise, []Value{y}, nil, 15, 11)
		a := p.Op(Attention, []Value{n, n, n}, []int{fill(1, 2, 16383)}, 2, 0) // 64*16383*2^10 < 2^30
		p.Outputs = []Value{y, n, a}
		m := newTestModel(t, p)
		for _, x := range []int32{-32768, 32767} {
			rows := make([][]int32, 64)
			for i := range rows {
				rows[i] = make([]int32, 32)
				for j := range rows[i] {
					rows[i][j] = x
				}
			}
			want, err := p.Interpret(rows)
			if err != nil {
				t.Fatal(err)
			}
			if w := want[0][0][0]; w != x*sign*1023*32 {
				t.Fatalf("sum is %d", w)
			}
			got, err := m.Run(rows)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("sign %d input %d: engine differs", sign, x)
			}
		}
	}
}

// TestCheckRefuses changes one thing at a time in good programs so that a
// bound breaks.
func TestCheckRefuses(t *testing.T) {
	ones := func(n int, x int32) []int32 {
		v := make([]int32, n)
		for i := range v {
			v[i] = x
		}
		return v
	}
	matmul := func(w int32, lo, hi int64) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 16, lo, hi)
		p.Outputs = []Value{p.Op(MatMul, []Value{x}, []int{p.Const(16, 1, ones(16, w))})}
		return p
	}
	attention := func(rows int, bits int64, e int32) *Program {
		p := &Program{Rows: rows}
		x := p.Op(Requantise, []Value{p.Op(Input, nil, nil, 32, -1<<20, 1<<20)}, nil, 0, bits)
		p.Outputs = []Value{p.Op(Attention, []Value{x, x, x}, []int{p.Const(1, 2, []int32{e, 0})}, 1, 4)}
		return p
	}
	norm := func(hi int64, entry int32, eps int64) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 64, -hi, hi)
		p.Outputs = []Value{p.Op(LayerNorm, []Value{x}, []int{p.Const(1, normKeyHi-normKeyLo, ones(normKeyHi-normKeyLo, entry))}, eps, 8)}
		return p
	}
	table := func(lo int64, n int) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 1, -8, 7)
		p.Outputs = []Value{p.Op(Table, []Value{x}, []int{p.Const(1, n, ones(n, 1))}, lo)}
		return p
	}
	wide := func(ops, rows int) *Program {
		p := &Program{Rows: rows}
		x := p.Op(Input, nil, nil, MaxCols, -1, 1)
		one := p.Const(1, 1, []int32{1})
		for i := range ops - 1 {
			if i == 0 && rows > 1 {
				x = p.Op(Attention, []Value{x, x, x}, []int{one}, MaxCols, 0)
				continue
			}
			x = p.Op(Requantise, []Value{x}, nil, 1, 8)
		}
		p.Outputs = []Value{x}
		return p
	}
	unary := func(k Kind, cols int64, c []int32, params ...int64) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, cols, -8, 7)
		var consts []int
		if c != nil {
			consts = []int{p.Const(1, len(c), c)}
		}
		p.Outputs = []Value{p.Op(k, []Value{x}, consts, params...)}
		return p
	}
	blockMatMul := func(w int32) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 64, -32768, 32767)
		p.Outputs = []Value{p.Op(BlockMatMul, []Value{x}, []int{p.Const(16, 1, ones(16, w))}, 4)}
		return p
	}
	multiply := func(most int64) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 3, -most, most)
		p.Outputs = []Value{p.Op(Multiply, []Value{x, x}, nil)}
		return p
	}
	rmsNorm := func(hi int64, entry int32) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 64, -hi, hi)
		p.Outputs = []Value{p.Op(RMSNorm, []Value{x}, []int{p.Const(1, normKeyHi-normKeyLo, ones(normKeyHi-normKeyLo, entry))}, normKeyLo, 8)}
		return p
	}
	meanRows := func(hi int64) *Program {
		p := &Program{Rows: 1 << 12}
		p.Outputs = []Value{p.Op(MeanRows, []Value{p.Op(Input, nil, nil, 2, 0, hi-1)}, nil)}
		return p
	}
	noise := func(n int, entry int32) *Program {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 2, 0, 0)
		p.Outputs = []Value{p.Op(Add, []Value{x, p.Op(Noise, nil, []int{p.Const(1, n, ones(n, -entry))}, 2)}, nil)}
		return p
	}
	whole := func(cols int64) *Program { // 2^12 rows of twice so many columns
		p := &Program{Rows: 1 << 12}
		p.Outputs = []Value{p.Op(MeanRows, []Value{p.Op(Input, nil, nil, cols, 0, 1)}, nil)}
		return p
	}
	work := func(ops int) *Program { // each 2^12 rows times 2^18 columns
		p := &Program{Rows: 1 << 12}
		x := p.Op(Input, nil, nil, MaxCols, 0, 1)
		c := p.Const(MaxCols, 1, ones(MaxCols, 1))
		for range ops {
			p.Outputs = []Value{p.Op(MatMul, []Value{x}, []int{c})}
		}
		return p
	}
	for _, c := range []struct {
		name      string
		good, bad *Program
	}{
		{"sum of products", matmul(2047, -32768, 32767), matmul(2048, -32768, 32767)},
		{"input range", matmul(1, 0, Limit/16-1), matmul(1, 0, Limit/16)},
		{"scores", attention(64, 12, 1000), attention(64, 13, 1000)},
		{"weighted sum", attention(64, 12, 8191), attention(64, 12, 8192)},
		{"exponentials start", attention(64, 12, 1), attention(64, 12, 0)},
		{"squares", norm(1<<21, 1<<20, 1<<14), norm(1<<22, 1<<20, 1<<14)},
		{"inverse roots", norm(1<<12, 1<<21, 1<<14), norm(1<<12, 1<<23, 1<<14)},
		{"epsilon", norm(1<<12, 1<<20, 1<<14), norm(1<<12, 1<<20, 1<<14-1)},
		{"table start", table(-8, 16), table(-7, 16)},
		{"table end", table(-8, 16), table(-8, 15)},
		{"width", wide(16, 1), wide(17, 1)},
		{"cache", wide(2, 128), wide(2, 129)},
		{"held", whole(MaxHeld >> 13), whole(MaxHeld>>13 + 1)},
		{"work", work(1 << 10), work(1<<10 + 1)},
		{"map", unary(Arrange, 8, []int32{-1, 7}), unary(Arrange, 8, []int32{-1, 8})},
		{"map below", unary(Arrange, 8, []int32{-1, 7}), unary(Arrange, 8, []int32{-2, 7})},
		{"blocks", unary(BlockMax, 8, nil, 4), unary(BlockMax, 8, nil, 3)},
		{"no blocks", unary(BlockMax, 8, nil, 8), unary(BlockMax, 8, nil, 0)},
		{"more blocks", unary(BlockMax, 8, nil, 1), unary(BlockMax, 8, nil, 1<<40)},
		{"columns of a block", unary(BlockMatMul, 8, []int32{1}, 8), unary(BlockMatMul, 8, []int32{1}, 4)},
		{"sum of a block", blockMatMul(2047), blockMatMul(2048)},
		{"product", multiply(1<<15 - 1), multiply(1 << 15)},
		{"squares of rmsnorm", rmsNorm(1<<22, 1<<20), rmsNorm(1<<23, 1<<20)},
		{"inverse roots of rmsnorm", rmsNorm(1<<12, 1<<21), rmsNorm(1<<12, 1<<23)},
		{"mean", meanRows(1 << 18), meanRows(1<<18 + 1)},
		{"quantiles", noise(noiseQuantiles, 10_737_418), noise(noiseQuantiles, 10_737_419)},
		{"number of quantiles", noise(noiseQuantiles, 1), noise(noiseQuantiles-1, 1)},
	} {
		if _, err := c.good.Check(); err != nil {
			t.Errorf("%s: good program refused: %v", c.name, err)
		}
		if _, err := c.bad.Check(); err == nil {
			t.Errorf("%s: bad program accepted", c.name)
		}
	}
}

// TestNormBounds searches rows, from nearly constant to extreme, for the
// largest product and expects it within the bound that Check derives; the
// engine must follow everywhere.
func TestNormBounds(t *testing.T) {
	for _, kind := range []Kind{LayerNorm, RMSNorm} {
		t.Run(kind.String(), func(t *testing.T) { testNormBound(t, kind) })
	}
}

func testNormBound(t *testing.T, kind Kind) {
	data := make([]int32, normKeyHi-normKeyLo)
	for k := range data { // 2^21 sqrt(2) / sqrt(key / 2^14): steep like the real one
		root := 1
		for root*root < k+normKeyLo {
			root++
		}
		data[k] = int32((3<<27)/root - k%7)
	}
	p := &Program{Rows: 1}
	x := p.Op(Input, nil, nil, 16, -1<<20, 1<<20)
	p.Outputs = []Value{p.Op(kind, []Value{x}, []int{p.Const(1, len(data), data)}, normKeyLo, 1)}
	facts, err := p.Check()
	if err != nil {
		t.Fatal(err)
	}
	bound := facts[p.Outputs[0]].Range.Hi
	m := newTestModel(t, p)
	r := rand.New(rand.NewPCG(1, 1))
	var worst int64
	for range 20000 {
		in := make([]int32, 16)
		in[0] = int32(1) << r.IntN(21)
		for j := 1; j < 16; j++ {
			in[j] = int32(r.IntN(1 + r.IntN(1<<r.IntN(20))))
		}
		out, err := p.Interpret([][]int32{in})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Run([][]int32{in}); err != nil || !reflect.DeepEqual(got, out) {
			t.Fatalf("engine differs on %v: %v", in, err)
		}
		for _, y := range out[0][0] {
			worst = max(worst, int64(y), -int64(y))
		}
	}
	if worst > bound || worst < bound/2 {
		t.Errorf("largest result %d, bound %d", worst, bound)
	}
}

// TestDots compares the fast dot products with the plain ones at the edge of
// what Check permits.
func TestDots(t *testing.T) {
	if fastDots == nil {
		t.Skip("this machine has no fast dot products")
	}
	r := rand.New(rand.NewPCG(1, 7))
	for range 500 {
		n := 16 * (1 + r.IntN(8))
		stride := n + r.IntN(20)
		x, w := make([]int16, n), make([]int16, 8*stride)
		most := int32((Limit - 1) / 32768 / n)
		for i := range x {
			x[i] = int16(r.Uint32())
			if r.IntN(3) == 0 {
				x[i] = -32768
			}
		}
		for i := range w {
			w[i] = int16(r.Int32N(2*most+1) - most)
			if r.IntN(3) == 0 {
				w[i] = int16(most)
			}
		}
		y := make([]int32, 8)
		dots(y, x, w, stride)
		for j := range y {
			if want := dot(x, w[j*stride:][:n]); y[j] != want {
				t.Fatalf("n=%d stride=%d: product %d is %d, want %d", n, stride, j, y[j], want)
			}
		}
	}
}

// TestWeigh does the same for weighted sums.
func TestWeigh(t *testing.T) {
	if fastWeigh == nil {
		t.Skip("this machine has no fast weighted sums")
	}
	r := rand.New(rand.NewPCG(1, 8))
	for range 500 {
		cols, pairs := 1+r.IntN(50), 1+r.IntN(70)
		stride := 2*cols + r.IntN(9)
		most := int32((Limit - 1) / 32768 / (2 * pairs))
		e, v := make([]int16, 2*pairs), make([]int16, pairs*stride)
		for i := range e {
			e[i] = int16(r.Int32N(most + 1))
		}
		for i := range v {
			v[i] = int16(r.Uint32())
			if r.IntN(3) == 0 {
				v[i] = -32768
			}
		}
		got := make([]int32, cols)
		weigh(got, e, v, stride)
		for c := range got {
			var want int32
			for i, x := range e {
				want += int32(x) * int32(v[i/2*stride+2*c+i%2])
			}
			if got[c] != want {
				t.Fatalf("%d columns, %d pairs: column %d is %d, want %d", cols, pairs, c, got[c], want)
			}
		}
	}
}

// TestPlainEngine repeats the engine's tests without assembly.
func TestPlainEngine(t *testing.T) {
	if fastDots == nil {
		t.Skip("the other tests ran without already")
	}
	d, w := fastDots, fastWeigh
	defer func() { fastDots, fastWeigh = d, w }()
	fastDots, fastWeigh = nil, nil
	TestEngineEqualsInterpreter(t)
	TestBatchedDecode(t)
	TestExtremes(t)
}
