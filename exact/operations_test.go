package exact

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// operationsProgram uses every operation that is not of a GPT, with constants
// from a seed; small, but for the tables.
func operationsProgram(seed uint64) *Program {
	r := rand.New(rand.NewPCG(seed, 11))
	p := &Program{Rows: 4}
	pick := func(rows, cols int, lo, hi int32) int {
		data := make([]int32, rows*cols)
		for i := range data {
			data[i] = lo + r.Int32N(hi-lo+1)
		}
		return p.Const(rows, cols, data)
	}
	x := p.Op(Input, nil, nil, 5, -100, 90)
	switch seed % 8 {
	case 0:
		x = p.Op(Arrange, []Value{x}, []int{pick(1, 12, -1, 4)})
	case 1:
		x = p.Op(BlockMatMul, []Value{p.Op(Arrange, []Value{x}, []int{pick(1, 12, -1, 4)})}, []int{pick(4, 3, -9, 9)}, 3)
	case 2:
		x = p.Op(BlockMax, []Value{p.Op(Arrange, []Value{x}, []int{pick(1, 12, -1, 4)})}, nil, 4)
	case 3:
		x = p.Op(Multiply, []Value{x, p.Op(Offset, []Value{x}, []int{pick(1, 5, -99, 99)})}, nil)
	case 4:
		x = p.Op(RMSNorm, []Value{x}, []int{pick(1, normKeyHi-normKeyLo, 100, 110)}, normKeyLo, 3)
	case 5:
		x = p.Op(FullAttention, []Value{x, x, x}, []int{p.Const(1, 4, []int32{100, 50, 20, 0})}, 5, 2)
	case 6:
		x = p.Op(MeanRows, []Value{x}, nil)
	case 7:
		x = p.Op(Add, []Value{x, p.Op(Noise, nil, []int{pick(1, noiseQuantiles, -20, 90)}, 5)}, nil)
	}
	p.Outputs = []Value{x}
	return p
}

// TestOperations checks the definition of each operation by numbers worked out
// by hand, and the engine with it.
func TestOperations(t *testing.T) {
	flat := func(n int, e int32) []int32 {
		data := make([]int32, n)
		for i := range data {
			data[i] = e
		}
		return data
	}
	quantiles := flat(noiseQuantiles, 0)
	for i := range quantiles {
		quantiles[i] = int32(i) - 1<<15
	}
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(i)
	}
	for _, c := range []struct {
		kind     Kind
		rows     int // of the constant
		constant []int32
		params   []int64
		env      Env
		in, want [][]int32
	}{
		{kind: Arrange, rows: 1, constant: []int32{2, -1, 0, 2}, in: [][]int32{{5, 6, 7}, {-1, 2, -3}}, want: [][]int32{{7, 0, 5, 7}, {-3, 0, -1, -3}}},
		{kind: BlockMatMul, rows: 2, constant: []int32{1, 10, 100, 2, 20, 200}, params: []int64{2}, in: [][]int32{{1, 2, 3, 4}}, want: [][]int32{{5, 50, 500, 11, 110, 1100}}},
		{kind: BlockMax, params: []int64{3}, in: [][]int32{{1, 9, -4, -3, 2, 2}}, want: [][]int32{{9, -3, 2}}},
		{kind: Multiply, in: [][]int32{{3, -4, 0}}, want: [][]int32{{9, 16, 0}}},
		// S = 9 + 16 + 16384 = 16409 with 15 bits: key 16409, entry 100; (3 100 + 4) >> 3.
		{kind: RMSNorm, rows: 1, constant: flat(normKeyHi-normKeyLo, 100), params: []int64{normKeyLo, 3}, in: [][]int32{{3, -4}}, want: [][]int32{{38, -50}}},
		// S = 2 300^2 + 16384 = 196384 with 18 bits: e = 1, entry round(101/2) = 51; (300 51 + 4) >> 3.
		{kind: RMSNorm, rows: 1, constant: flat(normKeyHi-normKeyLo, 101), params: []int64{normKeyLo, 3}, in: [][]int32{{300, -300}}, want: [][]int32{{1913, -1912}}},
		// Scores of row 0 (1): 1, 2: below the top by 1, 0: weights 10, 20: (10 + 40)/30.
		// Scores of row 1 (2): 2, 4: below by 2, 0: weights 4, 20: (4 + 40)/24.
		{kind: FullAttention, rows: 1, constant: []int32{20, 10, 4, 0}, params: []int64{1, 0}, in: [][]int32{{1}, {2}}, want: [][]int32{{1}, {1}}},
		// Row 0 sees the last row: scores -100, 100; the first has weight 0.
		{kind: FullAttention, rows: 1, constant: []int32{20, 10, 4, 0}, params: []int64{1, 0}, in: [][]int32{{10}, {0}, {90}}, want: [][]int32{{90}, {33}, {90}}},
		{kind: MeanRows, in: [][]int32{{1, -1, 7}, {2, -2, 7}}, want: [][]int32{{2, -1, 7}, {2, -1, 7}}},
		// The words as another implementation of BLAKE3 gives them.
		{kind: Noise, rows: 1, constant: quantiles, params: []int64{3}, env: Env{seed, 1000}, in: [][]int32{{0}}, want: [][]int32{{2729 - 1<<15, 25710 - 1<<15, 48771 - 1<<15}}},
		{kind: Noise, rows: 1, constant: quantiles, params: []int64{1}, env: Env{seed, 500}, in: [][]int32{{0}}, want: [][]int32{{-15019}}}, // -30039/2
		{kind: Noise, rows: 1, constant: quantiles, params: []int64{2}, env: Env{seed, 0}, in: [][]int32{{0}}, want: [][]int32{{0, 0}}},
	} {
		p := &Program{Rows: 3}
		ins := []Value{p.Op(Input, nil, nil, int64(len(c.in[0])), -300, 300)}
		for len(ins) < signatures[c.kind].ins {
			ins = append(ins, ins[0])
		}
		var consts []int
		if c.constant != nil {
			consts = []int{p.Const(c.rows, len(c.constant)/c.rows, c.constant)}
		}
		p.Outputs = []Value{p.Op(c.kind, ins[:signatures[c.kind].ins], consts, c.params...)}
		m := newTestModel(t, p)
		want := [][][]int32{c.want}
		if got, err := p.InterpretEnv(c.env, c.in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s of %v is %v, want %v (%v)", c.kind, c.in, got, want, err)
		}
		if got, err := m.RunEnv(c.env, c.in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: engine gives %v, want %v (%v)", c.kind, got, want, err)
		}
	}
}

// TestFacts: what Check says of results is as tight as the specification says.
func TestFacts(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		constant []int32
		rows     int // of the constant
		params   []int64
		want     Facts
	}{
		{Arrange, []int32{0, 1, 0}, 1, nil, Facts{3, Range{3, 9}}},
		{Arrange, []int32{0, -1}, 1, nil, Facts{2, Range{0, 9}}},
		{Arrange, []int32{-1}, 1, nil, Facts{1, Range{0, 0}}},
		{BlockMatMul, []int32{5, 7, -6, 1}, 2, []int64{2}, Facts{4, Range{-99, 99}}},
		{BlockMax, nil, 0, []int64{2}, Facts{2, Range{3, 9}}},
		{Multiply, nil, 0, nil, Facts{4, Range{9, 81}}},
		{MeanRows, nil, 0, nil, Facts{4, Range{3, 9}}},
		{RMSNorm, make([]int32, normKeyHi-normKeyLo), 1, []int64{normKeyLo, 1}, Facts{4, Range{-129, 129}}},
	} {
		p := &Program{Rows: 3}
		x := p.Op(Input, nil, nil, 4, 3, 9)
		var consts []int
		if c.constant != nil {
			consts = []int{p.Const(c.rows, len(c.constant)/c.rows, c.constant)}
		}
		ins := []Value{x, x}[:signatures[c.kind].ins]
		p.Outputs = []Value{p.Op(c.kind, ins, consts, c.params...)}
		if facts, err := p.Check(); err != nil || facts[1] != c.want {
			t.Errorf("%s: %v, want %v (%v)", c.kind, facts, c.want, err)
		}
	}
	p := &Program{Rows: 1}
	x := p.Op(Input, nil, nil, 1, -3, 5)
	y := p.Op(Multiply, []Value{x, p.Op(Offset, []Value{x}, []int{p.Const(1, 1, []int32{1})})}, nil) // [-3, 5] [-2, 6]
	table := make([]int32, noiseQuantiles)
	table[0], table[1] = -2, 11
	p.Outputs = []Value{y, p.Op(Noise, nil, []int{p.Const(1, noiseQuantiles, table)}, 3)}
	facts, err := p.Check()
	if err != nil || facts[y] != (Facts{1, Range{-18, 30}}) || facts[p.Outputs[1]] != (Facts{3, Range{-200, 1100}}) {
		t.Errorf("%v, %v", facts, err)
	}
}

// TestNoiseWords pins far words of a far row to those of another
// implementation of BLAKE3 (keyed, extended output).
func TestNoiseWords(t *testing.T) {
	var env Env
	for i := range env.Seed {
		env.Seed[i] = byte(i)
	}
	for row, want := range map[int][6]uint16{
		0: {2729, 25710, 48771, 28148, 2349, 15043},
		5: {64142, 51971, 17983, 6777, 27515, 36036},
	} {
		w := make([]uint16, 600)
		env.words(row, w)
		if got := [6]uint16{w[0], w[1], w[2], w[511], w[512], w[599]}; got != want {
			t.Errorf("row %d: %d, want %d", row, got, want)
		}
	}
	if err := (Env{Temperature: MaxTemperature + 1}).Check(); err == nil {
		t.Error("accepted too high a temperature")
	}
	m := newTestModel(t, operationsProgram(7))
	if _, err := m.RunEnv(Env{Temperature: -1}, [][]int32{{0, 0, 0, 0, 0}}); err == nil {
		t.Error("ran at a temperature below zero")
	}
}

// TestExtremeOperations drives operations with elements as large as Check
// permits, on all corners of the input.
func TestExtremeOperations(t *testing.T) {
	fill := func(n int, e int32) []int32 {
		data := make([]int32, n)
		for i := range data {
			data[i] = e
		}
		return data
	}
	for _, sign := range []int32{1, -1} {
		p := &Program{Rows: 64}
		x := p.Op(Input, nil, nil, 64, -32768, 32767)
		wide := p.Op(MatMul, []Value{x}, []int{p.Const(64, 32, fill(64*32, sign*511))}) // 64*511*2^15 < 2^30
		p.Outputs = []Value{
			p.Op(BlockMatMul, []Value{x}, []int{p.Const(32, 3, fill(96, sign*1023))}, 2),
			p.Op(BlockMatMul, []Value{p.Op(Requantise, []Value{wide}, nil, 2, 20)}, []int{p.Const(2, 9, fill(18, sign*1023))}, 16), // 2*1023*2^19 < 2^30
			p.Op(BlockMax, []Value{wide}, nil, 4),
			p.Op(Multiply, []Value{x, p.Op(Requantise, []Value{x}, nil, 1, 15)}, nil),
			p.Op(RMSNorm, []Value{p.Op(Requantise, []Value{wide}, nil, 7, 23)}, []int{p.Const(1, normKeyHi-normKeyLo, fill(normKeyHi-normKeyLo, 1<<21))}, normKeyLo, 1),
			p.Op(MeanRows, []Value{p.Op(Requantise, []Value{wide}, nil, 6, 24)}, nil), // 64*2^23 < 2^30
			p.Op(FullAttention, []Value{p.Op(Requantise, []Value{x}, nil, 5, 11), p.Op(Requantise, []Value{x}, nil, 5, 11), p.Op(Requantise, []Value{x}, nil, 5, 11)},
				[]int{p.Const(1, 2, []int32{16383, 0})}, 2, 0),
			p.Op(Noise, nil, []int{p.Const(1, noiseQuantiles, fill(noiseQuantiles, sign*10_737_418))}, 7),
			p.Op(Arrange, []Value{wide}, []int{p.Const(1, 3, []int32{31, -1, 0})}),
		}
		m := newTestModel(t, p)
		env := Env{Temperature: MaxTemperature}
		corner := []int32{-32768, 32767}
		for pattern := range 8 {
			in := make([][]int32, 1+pattern*9)
			for r := range in {
				in[r] = make([]int32, 64)
				for j := range in[r] {
					in[r][j] = corner[(pattern+(r*(pattern>>1&1)+j*(pattern>>2&1)))&1]
				}
			}
			want, err := p.InterpretEnv(env, in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.RunEnv(env, in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("pattern %d: engine differs from interpreter", pattern)
			}
			within(t, m, got)
		}
	}
}

// TestRefusalsSayWhatToDo expects the operation, the reason and the way out.
func TestRefusalsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		want  []string
		build func(p *Program, x Value) Value
	}{
		{[]string{"operation 1 (blockmatmul)", "2^30", "fewer bits", "split"}, func(p *Program, x Value) Value {
			return p.Op(BlockMatMul, []Value{x}, []int{p.Const(2, 1, []int32{1 << 14, 1 << 14})}, 4)
		}},
		{[]string{"operation 1 (multiply)", "2^30", "fewer bits"}, func(p *Program, x Value) Value {
			return p.Op(Multiply, []Value{x, x}, nil)
		}},
		{[]string{"(meanrows)", "4096 rows", "fewer rows"}, func(p *Program, x Value) Value {
			p.Rows = 4096
			return p.Op(MeanRows, []Value{p.Op(Arrange, []Value{x}, []int{p.Const(1, 1, []int32{0})})}, nil)
		}},
		{[]string{"(rmsnorm)", "too wide to square", "fewer bits"}, func(p *Program, x Value) Value {
			y := p.Op(Requantise, []Value{p.Op(MatMul, []Value{x}, []int{p.Const(8, 8, make([]int32, 64))})}, nil, 0, 25)
			y = p.Op(Offset, []Value{y}, []int{p.Const(1, 8, []int32{1 << 24, 0, 0, 0, 0, 0, 0, 0})})
			return p.Op(RMSNorm, []Value{y}, []int{p.Const(1, normKeyHi-normKeyLo, make([]int32, normKeyHi-normKeyLo))}, normKeyLo, 3)
		}},
		{[]string{"operation 1 (arrange)", "columns 0 to 7"}, func(p *Program, x Value) Value {
			return p.Op(Arrange, []Value{x}, []int{p.Const(1, 1, []int32{8})})
		}},
		{[]string{"operation 1 (blockmax)", "8 columns in 3 blocks"}, func(p *Program, x Value) Value {
			return p.Op(BlockMax, []Value{x}, nil, 3)
		}},
	} {
		p := &Program{Rows: 4}
		x := p.Op(Input, nil, nil, 8, -1<<20, 1<<20)
		p.Outputs = []Value{c.build(p, x)}
		_, err := p.Check()
		if err == nil {
			t.Errorf("accepted what should be refused with %q", c.want)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
	}
}

// TestWholeSequencesAreNoText: what needs all rows cannot be continued.
func TestWholeSequencesAreNoText(t *testing.T) {
	p := textProgram(1, 4)
	if _, err := newModel(Card{Name: "t", Text: true, LogitBits: 10}, p, [32]byte{}); err != nil {
		t.Fatal(err)
	}
	p.Outputs = append(p.Outputs, p.Op(MeanRows, []Value{p.Outputs[0]}, nil))
	if _, err := newModel(Card{Name: "t", Text: true, LogitBits: 10}, p, [32]byte{}); err == nil || !strings.Contains(err.Error(), "without text") {
		t.Errorf("a text model with a mean over rows: %v", err)
	}
	if _, err := newModel(Card{Name: "t"}, p, [32]byte{}); err != nil {
		t.Error(err)
	}
}

// TestSmallFilesStaySmall loads and runs files of a few kilobytes that declare
// as much as they may, and counts the memory.
func TestSmallFilesStaySmall(t *testing.T) {
	narrow := &Program{Rows: 64} // many values of 1,024 columns, two thirds of them held at a time
	x := narrow.Op(Input, nil, nil, 1<<10, -1, 1)
	for range 2700 {
		narrow.Op(Requantise, []Value{x}, nil, 1, 8)
	}
	for i := range Value(1350) {
		narrow.Outputs = []Value{narrow.Op(Add, []Value{1 + 2*i, 2 + 2*i}, nil)}
	}
	broad := &Program{Rows: MaxRows}
	x = broad.Op(Input, nil, nil, MaxCols, -1, 1)
	for range 15 {
		x = broad.Op(Requantise, []Value{x}, nil, 1, 8)
	}
	broad.Outputs = []Value{x}
	for name, p := range map[string]*Program{"narrow": narrow, "broad": broad} {
		file, err := Encode(Card{Name: name}, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(file) > 1<<17 {
			t.Errorf("%s: file of %d bytes", name, len(file))
		}
		in := [][]int32{make([]int32, p.Ops[0].Params[0])}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Run(in); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 300<<20 {
			t.Errorf("%s: %d MiB for a file of %d bytes", name, got>>20, len(file))
		}
	}
}
