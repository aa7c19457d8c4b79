package zkml

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/zkml/koala"
	"github.com/torg-network/torg/zkml/shape"
)

// nanoInput is rows of text-like bytes.
func nanoInput(n int) [][]int32 {
	r := rand.New(rand.NewPCG(1, 1))
	in := make([][]int32, n)
	for i := range in {
		in[i] = []int32{int32("etaoin shrdlu\n"[r.IntN(14)])}
	}
	return in
}

// randomProgram makes a program that Check accepts: a stack of random
// operations kept in bounds by requantising. Widths need not be powers of two.
func randomProgram(r *rand.Rand) *exact.Program {
	p := &exact.Program{Rows: 2 * (1 + r.IntN(20))}
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
	vocab := 1 + r.IntN(60)
	in := p.Op(exact.Input, nil, nil, 1, 0, int64(vocab-1))
	width := 4 * (1 + r.IntN(5))
	x := p.Op(exact.Add, []exact.Value{
		p.Op(exact.Gather, []exact.Value{in}, []int{consts(vocab, width, 1<<12)}),
		p.Op(exact.Gather, []exact.Value{p.Op(exact.Position, nil, nil, int64(p.Rows))}, []int{consts(p.Rows, width, 1<<12)}),
	}, nil)
	blocksOf := func() int { // of the columns, which are a multiple of 4
		for {
			if b := 1 + r.IntN(width); width%b == 0 {
				return b
			}
		}
	}
	for range 1 + r.IntN(6) {
		switch r.IntN(13) {
		case 0: // wide weights
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, int64(r.IntN(4)), 8)
			y := p.Op(exact.MatMul, []exact.Value{n}, []int{consts(width, width, 100_000)})
			x = p.Op(exact.Requantise, []exact.Value{y}, nil, 12, 18)
		case 1: // layernorm
			data := make([]int32, normKeyHi-normKeyLo)
			for i := range data {
				data[i] = 1<<21 - int32(i)
			}
			n := p.Op(exact.LayerNorm, []exact.Value{x}, []int{p.Const(1, len(data), data)}, normKeyLo+int64(r.IntN(9999)), int64(12+r.IntN(5)))
			y := p.Op(exact.MatMul, []exact.Value{n}, []int{consts(width, width, 20)})
			x = p.Op(exact.Requantise, []exact.Value{y}, nil, 3, 15)
		case 2: // table
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 3, 8)
			x = p.Op(exact.Table, []exact.Value{n}, []int{consts(1, 256, 1<<14)}, -128)
		case 3: // attention
			part := func(bits int64) exact.Value {
				n := p.Op(exact.Requantise, []exact.Value{x}, nil, 2, 12)
				return p.Op(exact.Requantise, []exact.Value{p.Op(exact.MatMul, []exact.Value{n}, []int{consts(width, width, 300)})}, nil, 9, bits)
			}
			table := make([]int32, 2+r.IntN(400))
			e := int32(1 + r.IntN(2000))
			for i := range table {
				table[i] = e
				e -= min(e, r.Int32N(40))
			}
			x = p.Op(exact.Attention, []exact.Value{part(11), part(11), part(11)}, []int{p.Const(1, len(table), table)}, []int64{1, 2, 4}[r.IntN(3)], int64(2+r.IntN(10)))
		case 4: // residual, offset
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 0, 15)
			x = p.Op(exact.Add, []exact.Value{n, p.Op(exact.Offset, []exact.Value{n}, []int{consts(1, width, 1<<15-1)})}, nil)
		case 5: // change of width
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 1, 12)
			w := 4 * (1 + r.IntN(5))
			x = p.Op(exact.MatMul, []exact.Value{n}, []int{consts(width, w, 2047)})
			x = p.Op(exact.Requantise, []exact.Value{x}, nil, 10, 16)
			width = w
		case 6: // other columns
			w := 4 * (1 + r.IntN(8))
			order := make([]int32, w)
			for i := range order {
				order[i] = r.Int32N(int32(width)+1) - 1
			}
			x = p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, w, order)})
			width = w
		case 7: // blocks
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 1, 12)
			blocks := blocksOf()
			w := 1 + r.IntN(5)
			x = p.Op(exact.BlockMatMul, []exact.Value{n}, []int{consts(width/blocks, w, 2047)}, int64(blocks))
			width = blocks * w
			x = p.Op(exact.Requantise, []exact.Value{x}, nil, 10, 16)
			if order := make([]int32, (width+3)&^3); len(order) > width { // a multiple of 4 again
				for i := range order {
					order[i] = int32(i % width)
				}
				x = p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, len(order), order)})
				width = len(order)
			}
		case 8: // greatest of blocks, and what is less beside them
			blocks := blocksOf()
			top := p.Op(exact.BlockMax, []exact.Value{x}, nil, int64(blocks))
			order := make([]int32, width)
			for i := range order {
				order[i] = int32(i * blocks / width)
			}
			y := p.Op(exact.Arrange, []exact.Value{top}, []int{p.Const(1, width, order)})
			x = p.Op(exact.Requantise, []exact.Value{p.Op(exact.Add, []exact.Value{x, y}, nil)}, nil, 1, 18)
		case 9: // gates
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 2, 14)
			y := p.Op(exact.Multiply, []exact.Value{n, p.Op(exact.Offset, []exact.Value{n}, []int{consts(1, width, 1<<13)})}, nil)
			x = p.Op(exact.Requantise, []exact.Value{y}, nil, 10, 16)
		case 10: // norm without centring
			data := make([]int32, normKeyHi-normKeyLo)
			for i := range data {
				data[i] = 1<<21 - int32(i)
			}
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 0, 18)
			n = p.Op(exact.RMSNorm, []exact.Value{n}, []int{p.Const(1, len(data), data)}, normKeyLo+int64(r.IntN(9999)), int64(12+r.IntN(5)))
			y := p.Op(exact.MatMul, []exact.Value{n}, []int{consts(width, width, 20)})
			x = p.Op(exact.Requantise, []exact.Value{y}, nil, 3, 15)
		case 11: // attention to all
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 2, 9)
			x = p.Op(exact.FullAttention, []exact.Value{n, n, n}, []int{p.Const(1, 4, []int32{1000, 600, 100, 2})}, []int64{1, 2, 4}[r.IntN(3)], int64(4+r.IntN(8)))
		case 12: // mean
			n := p.Op(exact.Requantise, []exact.Value{x}, nil, 0, 18)
			x = p.Op(exact.Add, []exact.Value{n, p.Op(exact.MeanRows, []exact.Value{n}, nil)}, nil)
		}
	}
	if r.IntN(4) == 0 {
		quantiles := make([]int32, 1<<16)
		for i := range quantiles {
			quantiles[i] = r.Int32N(4_000_000) - 1_000_000
		}
		x = p.Op(exact.Add, []exact.Value{x, p.Op(exact.Noise, nil, []int{p.Const(1, len(quantiles), quantiles)}, int64(width))}, nil)
	}
	p.Outputs = []exact.Value{x, p.Op(exact.ArgMax, []exact.Value{x}, nil)}
	if r.IntN(3) == 0 {
		p.Outputs = append(p.Outputs, exact.Value(r.IntN(len(p.Ops))))
	}
	return p
}

func randomInput(r *rand.Rand, p *exact.Program, n int) [][]int32 {
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

// prove commits, proves and compares the output with the interpreter.
func prove(t testing.TB, p *exact.Program, in [][]int32) (Card, *ProverKey, Claim, Proof) {
	t.Helper()
	card, pk, err := Commit(p)
	if err != nil {
		t.Fatal(err)
	}
	claim, proof, err := pk.Prove(in)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Interpret(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(claim.Output, want) {
		t.Fatal("output differs from the interpreter's")
	}
	return card, pk, claim, proof
}

// TestRandomPrograms: every run of every program can be proven.
func TestRandomPrograms(t *testing.T) {
	n := uint64(40)
	if testing.Short() {
		n = 10
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 1))
		p := randomProgram(r)
		var runs []Run
		for range []int{1, 1, 2, 3}[r.IntN(4)] {
			run := Run{Input: randomInput(r, p, 1+r.IntN(p.Rows)), From: make([]int, len(p.Outputs))}
			if slices.ContainsFunc(p.Ops, func(op exact.Op) bool { return op.Kind == exact.Noise }) {
				run.Env.Temperature = r.IntN(exact.MaxTemperature + 1)
				run.Env.Seed[r.IntN(32)] = byte(r.IntN(256))
			}
			runs = append(runs, run)
		}
		card, _, claims, proof := proven(t, p, runs)
		// Any other claim is refused.
		k := r.IntN(len(claims[0].Output))
		row := claims[0].Output[k][r.IntN(len(claims[0].Output[k]))]
		j := r.IntN(len(row))
		old := row[j]
		row[j]--
		if err := VerifyBatch(card, claims, proof); !errors.Is(err, ErrRefused) {
			t.Fatalf("seed %d: wrong output accepted", seed)
		}
		row[j] = old
		in := claims[0].Input
		in[r.IntN(len(in))][0] ^= 1
		if err := VerifyBatch(card, claims, proof); !errors.Is(err, ErrRefused) {
			t.Fatalf("seed %d: wrong input accepted", seed)
		}
	}
}

// TestNano proves the bundled model over a sentence, whose length is no power
// of two, and compares with the engine.
func TestNano(t *testing.T) {
	m := nano.Model()
	card, pk := mustCommit(t, m.Program())
	var in [][]int32
	for _, c := range []byte("It was a dark and stormy night; ") {
		in = append(in, []int32{int32(c)})
	}
	in = in[:len(in)-3]
	claim, proof, err := pk.ProveFrom(in, []int{0, len(in)})
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(claim.Output[0], want[0]) || len(claim.Output[1]) != 0 {
		t.Error("output differs from the engine's")
	}
	if err := Verify(card, claim, proof); err != nil {
		t.Error(err)
	}
	claim.Output[0][7]['e']++
	if Verify(card, claim, proof) == nil {
		t.Error("wrong logit accepted")
	}
}

// TestCores proves on numbers of cores that do not divide powers of two, and
// wants the same proof from all.
func TestCores(t *testing.T) {
	_, pk, err := Commit(nano.Model().Program())
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first Proof
	for _, cores := range []int{1, 2, 3, 5, 7, 12} {
		runtime.GOMAXPROCS(cores)
		_, proof, err := pk.ProveFrom(nanoInput(64), []int{63, 64})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = proof
		}
		if !bytes.Equal(proof, first) {
			t.Errorf("another proof with %d cores", cores)
		}
	}
}

// TestReuse: proofs in memory that other proofs have used, also at once and of
// runs of other lengths, are those of a key that has made none, whatever was
// left there.
func TestReuse(t *testing.T) {
	p := shape.EZKL.Program(1)
	_, used := mustCommit(t, p)
	lengths := []int{64, 3, 17, 64, 1, 33}
	want := make([]Proof, len(lengths))
	input := func(i int) [][]int32 { return shape.EZKL.Input(uint64(i), lengths[i]) }
	for i := range lengths {
		_, pk := mustCommit(t, p)
		var err error
		if _, want[i], err = pk.Prove(input(i)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(i int) {
		if _, proof, err := used.Prove(input(i)); err != nil || !bytes.Equal(proof, want[i]) {
			t.Errorf("another proof of %d rows, or %v", lengths[i], err)
		}
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for i := range lengths {
				check(i)
			}
		})
	}
	all.Wait()
	for i := range lengths {
		m, _ := used.rooms.Get().(*rooms)
		if m == nil { // the collector, or the race detector, has taken it
			m = &rooms{step: koala.NewRoom(1)}
		}
		leave(&m.proof)
		leave(&m.trace)
		leave(m.step.Elems())
		used.rooms.Put(m)
		check(i)
	}
}

// leave leaves numbers that mean nothing all over a space.
func leave[E koala.Elem | int32](s *koala.Space[E]) {
	for range 2 { // at first it may be smaller
		s.Reset()
		for range 1 << 8 {
			for i, x := 0, s.Take(1<<14); i < len(x); i++ {
				x[i] = 12345
			}
		}
	}
}
