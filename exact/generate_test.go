package exact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"sort"
	"sync"
	"testing"
)

// textProgram is a small random language model with attention.
func textProgram(seed uint64, context int) *Program {
	r := rand.New(rand.NewPCG(seed, 3))
	p := &Program{Rows: context}
	consts := func(rows, cols int, most int32) int {
		data := make([]int32, rows*cols)
		for i := range data {
			data[i] = r.Int32N(2*most+1) - most
		}
		return p.Const(rows, cols, data)
	}
	const d = 8
	x := p.Op(Add, []Value{
		p.Op(Gather, []Value{p.Op(Input, nil, nil, 1, 0, 255)}, []int{consts(256, d, 1000)}),
		p.Op(Gather, []Value{p.Op(Position, nil, nil, int64(context))}, []int{consts(context, d, 1000)}),
	}, nil)
	part := func() Value {
		return p.Op(Requantise, []Value{p.Op(MatMul, []Value{x}, []int{consts(d, d, 500)})}, nil, 11, 12)
	}
	q, k, v := part(), part(), part()
	a := p.Op(Attention, []Value{q, k, v}, []int{p.Const(1, 4, []int32{1000, 500, 100, 0})}, 2, 16)
	x = p.Op(Add, []Value{x, a}, nil)
	y := p.Op(MatMul, []Value{x}, []int{consts(d, 256, 300)})
	p.Outputs = []Value{p.Op(Requantise, []Value{y}, nil, 8, 18), x}
	return p
}

func textModel(t testing.TB, seed uint64, context int) *Model {
	t.Helper()
	file, err := Encode(Card{Name: "test-text", Text: true, LogitBits: 10}, textProgram(seed, context))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// slowChoose is the sampling rule of docs/exact.md in rational numbers and
// without cleverness.
func slowChoose(logits []int32, bits int, req Request, index int) int {
	type cand struct {
		id     int
		logit  int32
		weight *big.Int
	}
	var all []cand
	for i, l := range logits {
		all = append(all, cand{id: i, logit: l})
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].logit > all[b].logit })
	if req.Temperature == 0 {
		return all[0].id
	}
	total := new(big.Int)
	for i := range all {
		diff := new(big.Rat).SetFrac64(int64(all[0].logit)-int64(all[i].logit), 1<<bits)
		diff.Mul(diff, big.NewRat(1000*1024, int64(req.Temperature)))
		k := new(big.Int).Quo(diff.Num(), diff.Denom())
		all[i].weight = new(big.Int)
		if k.Cmp(big.NewInt(16384)) < 0 {
			all[i].weight.SetUint64(decays[k.Int64()])
		}
		total.Add(total, all[i].weight)
	}
	kept := new(big.Int)
	n := 0
	for n == 0 || n < len(all) && new(big.Int).Mul(kept, big.NewInt(10000)).Cmp(new(big.Int).Mul(total, big.NewInt(int64(req.TopP)))) < 0 {
		kept.Add(kept, all[n].weight)
		n++
	}
	if req.TopP == 10000 {
		n = len(all)
	}
	all = all[:n]
	sort.Slice(all, func(a, b int) bool { return all[a].id < all[b].id })
	h := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("torg exact draw 1"), req.Seed[:]...), uint64(index)))
	u := new(big.Int).SetBytes(h[:8])
	u.Mul(u, kept).Rsh(u, 64)
	for _, c := range all {
		if u.Cmp(c.weight) < 0 {
			return c.id
		}
		u.Sub(u, c.weight)
	}
	panic("no token")
}

// slowGenerate runs the interpreter on the whole window for every token.
func slowGenerate(t *testing.T, m *Model, req Request) Result {
	t.Helper()
	all := append([]byte(nil), req.Prompt...)
	if len(all) == 0 {
		all = []byte("\n")
	}
	res := Result{PromptTokens: len(all), Finish: Length}
	c := m.Context()
	for i := range req.MaxTokens {
		// Grow to a full window, then drop half of it, from the beginning.
		start := 0
		for n := 1; n <= len(all); n++ {
			if n-start > c {
				start += c / 2
			}
		}
		var in [][]int32
		for _, b := range all[start:] {
			in = append(in, []int32{int32(b)})
		}
		outs, err := m.Program().Interpret(in)
		if err != nil {
			t.Fatal(err)
		}
		id := slowChoose(outs[0][len(in)-1], m.Card().LogitBits, req, i)
		all = append(all, byte(id))
		res.Tokens = append(res.Tokens, id)
		res.Text = append(res.Text, byte(id))
		for _, s := range req.Stop {
			if bytes.HasSuffix(res.Text, s) {
				res.Text = res.Text[:len(res.Text)-len(s)]
				res.Finish = Stop
				return res
			}
		}
	}
	return res
}

func randomRequest(r *rand.Rand) Request {
	req := Request{
		MaxTokens:   1 + r.IntN(60),
		Temperature: []int{0, 1, 500, 1000, 2000, 100_000}[r.IntN(6)],
		TopP:        []int{0, 1, 5000, 9999, 10000}[r.IntN(5)],
		Prompt:      make([]byte, r.IntN(40)),
	}
	for i := range req.Prompt {
		req.Prompt[i] = byte(r.Uint32())
	}
	for i := range req.Seed {
		req.Seed[i] = byte(r.Uint32())
	}
	return req
}

func TestGenerateEqualsDefinition(t *testing.T) {
	stops, shifted := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 4))
		m := textModel(t, seed%5, 2*(1+r.IntN(8)))
		req := randomRequest(r)
		free := slowGenerate(t, m, req)
		if r.IntN(2) == 0 { // a stop sequence that will occur, and one that may
			at := r.IntN(len(free.Tokens))
			to := min(len(free.Tokens), at+1+r.IntN(3))
			s := []byte{}
			for _, id := range free.Tokens[at:to] {
				s = append(s, byte(id))
			}
			req.Stop = [][]byte{{byte(r.Uint32()), 1}, s}
		}
		want := slowGenerate(t, m, req)
		if want.Finish == Stop {
			stops++
		}
		if want.PromptTokens+len(want.Tokens) > m.Context()+1 {
			shifted++
		}
		var streamed []byte
		var ids []int
		got, err := m.Generate(context.Background(), req, func(tok Token) error {
			if tok.Index != len(ids) {
				t.Errorf("token %d has index %d", len(ids), tok.Index)
			}
			ids = append(ids, tok.ID)
			streamed = append(streamed, tok.Text...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Tokens, want.Tokens) || !bytes.Equal(got.Text, want.Text) || got.Finish != want.Finish || got.PromptTokens != want.PromptTokens {
			t.Fatalf("seed %d: got %+v, want %+v", seed, got, want)
		}
		if !reflect.DeepEqual(ids, want.Tokens) || !bytes.Equal(streamed, want.Text) {
			t.Fatalf("seed %d: streamed %q, want %q", seed, streamed, want.Text)
		}
		v, err := m.Verify(context.Background(), req, got.Tokens)
		if err != nil || v.Agreed != len(got.Tokens) || v.Finish != got.Finish {
			t.Fatalf("seed %d: verify: %+v, %v; generated %d, %s", seed, v, err, len(got.Tokens), got.Finish)
		}
	}
	if stops < 10 || shifted < 30 {
		t.Errorf("only %d stops and %d window shifts: the test is too easy", stops, shifted)
	}
}

// TestVerifyFindsFirstLie changes one token and expects exactly the tokens
// before it to be confirmed.
func TestVerifyFindsFirstLie(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := textModel(t, seed%5, 2*(1+r.IntN(8)))
		req := randomRequest(r)
		res, err := m.Generate(context.Background(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := r.IntN(len(res.Tokens))
		lie := append([]int(nil), res.Tokens...)
		lie[at] = (lie[at] + 1 + r.IntN(255)) % 256
		if v, err := m.Verify(context.Background(), req, lie); err != nil || v.Agreed != at || v.Finish != "" {
			t.Fatalf("seed %d: lie at %d: %+v, %v", seed, at, v, err)
		}
		// A prefix agrees but does not end.
		if v, err := m.Verify(context.Background(), req, res.Tokens[:at]); err != nil || v.Agreed != at || v.Finish != "" {
			t.Fatalf("seed %d: prefix of %d: %+v, %v", seed, at, v, err)
		}
		// Nothing can follow the end, and no token is above 255.
		if v, _ := m.Verify(context.Background(), req, append(res.Tokens, 1)); v.Agreed != len(res.Tokens) {
			t.Fatalf("seed %d: an extra token gave %+v", seed, v)
		}
		lie[at] = 256 + res.Tokens[at]
		if v, _ := m.Verify(context.Background(), req, lie); v.Agreed != at {
			t.Fatalf("seed %d: token 256+x gave %+v", seed, v)
		}
	}
}

func TestGenerateCancels(t *testing.T) {
	m := textModel(t, 1, 16)
	req := Request{MaxTokens: 1000, Temperature: 1000, TopP: 10000}
	whole, err := m.Generate(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	res, err := m.Generate(ctx, req, func(tok Token) error {
		if tok.Index == 20 {
			cancel()
		}
		return nil
	})
	if err != nil || res.Finish != Cancelled || !reflect.DeepEqual(res.Tokens, whole.Tokens[:21]) {
		t.Errorf("after cancel: %s with %d tokens, %v", res.Finish, len(res.Tokens), err)
	}
	broken := errors.New("client is gone")
	res, err = m.Generate(context.Background(), req, func(tok Token) error {
		if tok.Index == 5 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || res.Finish != Cancelled || len(res.Tokens) != 6 {
		t.Errorf("after emit failed: %s with %d tokens, %v", res.Finish, len(res.Tokens), err)
	}
}

func TestConcurrentGenerate(t *testing.T) {
	m := textModel(t, 2, 16)
	want := make([]Result, 4)
	for i := range want {
		want[i], _ = m.Generate(context.Background(), Request{MaxTokens: 100, Temperature: 900, TopP: 9500, Seed: [32]byte{byte(i)}}, nil)
	}
	var wg sync.WaitGroup
	for g := range 80 { // more than one run of the engine takes along
		wg.Go(func() {
			i := g % len(want)
			got, err := m.Generate(context.Background(), Request{MaxTokens: 100, Temperature: 900, TopP: 9500, Seed: [32]byte{byte(i)}}, nil)
			if err != nil || !reflect.DeepEqual(got, want[i]) {
				t.Errorf("call %d differs: %v", g, err)
			}
		})
	}
	wg.Wait()
	if reflect.DeepEqual(want[0].Tokens, want[1].Tokens) {
		t.Error("two seeds gave the same text")
	}
}

func TestStreamHoldsBack(t *testing.T) {
	e := ending{stops: [][]byte{[]byte("abc"), []byte("bd")}}
	var shown []string
	for _, c := range []byte("xababd") {
		stop := e.add(c)
		shown = append(shown, string(e.show(stop)))
	}
	if got := fmt.Sprint(shown); got != "[x   ab  a]" {
		t.Errorf("shown %s", got)
	}
}

func TestWindowStart(t *testing.T) {
	for _, c := range []int{2, 4, 6, 128} {
		start := 0
		for n := 1; n < 1000; n++ {
			if n-start > c {
				start += c / 2
			}
			if got := WindowStart(n, c); got != start {
				t.Fatalf("WindowStart(%d, %d) = %d, want %d", n, c, got, start)
			}
		}
	}
}

func TestRequestCheck(t *testing.T) {
	m := textModel(t, 1, 8)
	ok := Request{MaxTokens: 1, Temperature: 100_000, TopP: 10_000, Stop: [][]byte{{1}}, Logprobs: true, TopLogprobs: 20}
	if _, err := m.Generate(context.Background(), ok, nil); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Request){
		"no tokens":         func(r *Request) { r.MaxTokens = 0 },
		"too many tokens":   func(r *Request) { r.MaxTokens = MaxTokens + 1 },
		"negative heat":     func(r *Request) { r.Temperature = -1 },
		"too hot":           func(r *Request) { r.Temperature = 100_001 },
		"top_p":             func(r *Request) { r.TopP = 10_001 },
		"negative top_p":    func(r *Request) { r.TopP = -1 },
		"empty stop":        func(r *Request) { r.Stop = [][]byte{{}} },
		"long stop":         func(r *Request) { r.Stop = [][]byte{make([]byte, 257)} },
		"many stops":        func(r *Request) { r.Stop = make([][]byte, 17) },
		"many logprobs":     func(r *Request) { r.TopLogprobs = 21 },
		"logprobs unwanted": func(r *Request) { r.Logprobs = false },
		"prompt":            func(r *Request) { r.Prompt = make([]byte, MaxText+1) },
	} {
		req := ok
		spoil(&req)
		if _, err := m.Generate(context.Background(), req, nil); err == nil {
			t.Errorf("%s: generated", name)
		}
		if _, err := m.Verify(context.Background(), req, nil); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// TestExponentials compares the integer recipe with correctly rounded values
// from a 200-bit series.
func TestExponentials(t *testing.T) {
	for _, scale := range []uint{11, 32} {
		table := Exponentials(decayCount, scale)
		step := new(big.Float).SetPrec(200).SetInt64(1)
		sum, term := new(big.Float).SetPrec(200).SetInt64(1), new(big.Float).SetPrec(200).SetInt64(1)
		for i := int64(1); i < 40; i++ { // e^(-1/1024)
			term.Quo(term, new(big.Float).SetPrec(200).SetInt64(-1024*i))
			sum.Add(sum, term)
		}
		half := big.NewFloat(0.5)
		for k, got := range table {
			x := new(big.Float).SetPrec(200).SetMantExp(step, int(scale))
			want, _ := x.Add(x, half).Uint64()
			if got != want {
				t.Fatalf("scale %d: entry %d is %d, want %d", scale, k, got, want)
			}
			step.Mul(step, sum)
		}
	}
	h := sha256.New()
	for _, w := range decays {
		h.Write(binary.LittleEndian.AppendUint64(nil, w))
	}
	const stated = "bc2b7d00d474095cc32d6a84c8e394ced94c9d8f578c25d9b757f186d827a241"
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != stated {
		t.Errorf("table of exponentials has SHA-256 %s, docs/exact.md states %s", got, stated)
	}
}

// TestChooseEqualsDefinition includes many equal logits, and nuclei that are
// reached exactly.
func TestChooseEqualsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for i := range 3000 {
		logits := make([]int32, 1+r.IntN(40))
		spread := 1 + r.Int32N(1<<r.IntN(15))
		if i%4 == 0 {
			spread = 1
		}
		for j := range logits {
			logits[j] = r.Int32N(spread) - spread/2
		}
		req := randomRequest(r)
		if i%3 == 0 { // k of n equal weights
			req.TopP = 10000 * r.IntN(len(logits)+1) / len(logits)
		}
		if got, want := newSampler(len(logits)).choose(logits, 10, &req, i), slowChoose(logits, 10, req, i); got != want {
			t.Fatalf("case %d: chose %d, want %d of %v at temperature %d, top_p %d", i, got, want, logits, req.Temperature, req.TopP)
		}
	}
	// Four equal weights: half of them are two.
	s := newSampler(4)
	for i := range 200 {
		if id := s.choose([]int32{7, 7, 7, 7}, 10, &Request{Temperature: 1000, TopP: 5000}, i); id > 1 {
			t.Fatalf("token %d is outside the nucleus", id)
		}
	}
}

func TestSamplingFollowsProbabilities(t *testing.T) {
	logits := []int32{1024, 0, -1024, 1024 - 710} // 1, 0, -1, 0.307 nats
	req := Request{Temperature: 1000, TopP: 10000}
	s := newSampler(len(logits))
	count := make([]float64, len(logits))
	const n = 40000
	for i := range n {
		count[s.choose(logits, 10, &req, i)]++
	}
	_, lp := logprobs(logits, 10, 0, 4)
	for _, l := range lp {
		want := math.Exp(l.Logprob)
		if got := count[l.ID] / n; math.Abs(got-want) > 0.01 {
			t.Errorf("token %d came with frequency %.4f, want %.4f", l.ID, got, want)
		}
	}
	req.TopP = 6000 // tokens 0 and 3 have 0.576 + 0.288... : the first alone is not enough
	for i := range 1000 {
		if id := s.choose(logits, 10, &req, i); id != 0 && id != 3 {
			t.Fatalf("token %d is outside the nucleus", id)
		}
	}
	req.Temperature = 0
	if id := s.choose([]int32{1, 5, 5, 2}, 10, &req, 0); id != 1 {
		t.Errorf("of equal logits, token %d was taken", id)
	}
}

// TestMACs counts what the engine really multiplies.
func TestMACs(t *testing.T) {
	m := textModel(t, 1, 8)
	perRow := uint64(3*8*8+8*256) + 2*8*8
	for _, c := range [][2]int{{0, 1}, {3, 1}, {8, 1}, {9, 20}, {1000, 33}, {5, 500}} {
		rows := uint64(0)
		for i, from, n := 0, -1, 0; i < c[1]; i++ {
			s := WindowStart(max(1, c[0])+i, 8)
			if s != from {
				from, n = s, 0
			}
			rows += uint64(max(1, c[0]) + i - s - n)
			n = max(1, c[0]) + i - s
		}
		if got := m.MACs(c[0], c[1]); got < rows*perRow || got > 2*rows*perRow+40*perRow {
			t.Errorf("MACs(%d, %d) = %d, really %d", c[0], c[1], got, rows*perRow)
		}
	}
}

func TestEmbed(t *testing.T) {
	m := textModel(t, 3, 8)
	text := []byte("some text of more than one window")
	got, err := m.Embed(text)
	if err != nil {
		t.Fatal(err)
	}
	sums := make([]int64, len(got))
	for rest := text; len(rest) > 0; rest = rest[min(8, len(rest)):] {
		var in [][]int32
		for _, b := range rest[:min(8, len(rest))] {
			in = append(in, []int32{int32(b)})
		}
		outs, err := m.Program().Interpret(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range outs[1] {
			for j, x := range r {
				sums[j] += int64(x)
			}
		}
	}
	var norm float64
	for j, u := range Unit(got) {
		if want := int32(math.Floor(float64(sums[j])/float64(len(text)) + 0.5)); got[j] != want {
			t.Errorf("element %d is %d, want %d", j, got[j], want)
		}
		norm += float64(u) * float64(u)
	}
	if math.Abs(norm-1) > 1e-6 {
		t.Errorf("unit vector has squared length %g", norm)
	}
	if _, err := m.Embed(nil); err == nil {
		t.Error("embedded nothing")
	}
}

// TestNoAllocationPerToken expects a long answer to allocate little more than
// a short one: only the growing token list.
func TestNoAllocationPerToken(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, which runs with -short, allocates")
	}
	m := textModel(t, 1, 16)
	count := func(n int) float64 {
		return testing.AllocsPerRun(20, func() {
			if _, err := m.Generate(context.Background(), Request{MaxTokens: n, Temperature: 800, TopP: 9000}, func(Token) error { return nil }); err != nil {
				t.Fatal(err)
			}
		})
	}
	if short, long := count(10), count(1010); long-short > 60 {
		t.Errorf("1000 more tokens cost %g more allocations", long-short)
	}
}
