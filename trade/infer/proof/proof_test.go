package proof

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
)

// bundled commits once for all tests.
var bundled = sync.OnceValue(func() *Prover {
	p, err := Commit(nano.Model())
	if err != nil {
		panic(err)
	}
	return p
})

// asked is what tests prove.
var asked = infer.Request{Kind: infer.Exact, MaxTokens: 6, Temperature: 900, TopP: 9500, Seed: square.Hash{3}, Prompt: []byte("It is a ")}

func answered(t testing.TB, req infer.Request) infer.Result {
	t.Helper()
	said, err := nano.Model().Generate(t.Context(), replay.Request(req), nil)
	if err != nil {
		t.Fatal(err)
	}
	res := infer.Result{Kind: infer.Exact, Finish: replay.Finish(said.Finish)}
	for _, id := range said.Tokens {
		res.Tokens = append(res.Tokens, uint16(id))
	}
	return res
}

func proven(t testing.TB, req infer.Request) File {
	t.Helper()
	p := bundled()
	f := File{Model: p.ID(), Request: req, Result: answered(t, req)}
	if err := p.ProveAll(t.Context(), req, f.Result, func(part []byte) error {
		f.Parts = append(f.Parts, part)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return f
}

// altered is a deep copy of a file with a change.
func (f File) altered(change func(*File)) File {
	f.Request.Prompt, f.Request.Stop = bytes.Clone(f.Request.Prompt), slices.Clone(f.Request.Stop)
	f.Result.Tokens, f.Parts = slices.Clone(f.Result.Tokens), slices.Clone(f.Parts)
	for i := range f.Parts {
		f.Parts[i] = bytes.Clone(f.Parts[i])
	}
	change(&f)
	return f
}

// relogit changes a logit of the file's first part.
func (f *File) relogit(row, column int, x int32) {
	n := int(f.Parts[0][0])
	logits, proof, err := decodePart(f.Parts[0], n)
	if err != nil {
		panic(err)
	}
	logits[row][column] = x
	f.Parts[0] = encodePart(logits, proof)
}

// TestLies: whatever is changed is refused.
func TestLies(t *testing.T) {
	t.Parallel()
	m := bundled().Model
	f := proven(t, asked)
	if err := f.Check(m); err != nil {
		t.Fatal(err)
	}
	other := asked
	other.Prompt = []byte("It was a ")
	g := proven(t, other)
	head := 4 + 4*vocab*6
	for name, change := range map[string]func(*File){
		"model":       func(f *File) { f.Model[0] ^= 1 },
		"prompt":      func(f *File) { f.Request.Prompt[0] ^= 1 },
		"no prompt":   func(f *File) { f.Request.Prompt = nil },
		"context cut": func(f *File) { f.Request.Prompt = f.Request.Prompt[1:] },
		"seed":        func(f *File) { f.Request.Seed[0] ^= 1 },
		"greedy":      func(f *File) { f.Request.Temperature, f.Request.Seed = 10, square.Hash{} },
		"longer":      func(f *File) { f.Request.MaxTokens++ },
		"shorter":     func(f *File) { f.Request.MaxTokens-- },
		"stops":       func(f *File) { f.Request.Stop = [][]byte{{byte(f.Result.Tokens[2])}} },
		"finish":      func(f *File) { f.Result.Finish = infer.FinishStop },
		"cancelled":   func(f *File) { f.Result.Finish = infer.FinishCancelled },
		"tokens cut":  func(f *File) { f.Result.Tokens = f.Result.Tokens[:5] },
		"tokens and rows": func(f *File) {
			f.Result.Tokens, f.Request.MaxTokens = f.Result.Tokens[:5], 5
			f.Parts[0] = append([]byte{5, 0, 0, 0}, slices.Delete(f.Parts[0], head-4*vocab, head)[4:]...)
		},
		"no tokens":         func(f *File) { f.Result.Tokens, f.Parts = nil, nil },
		"no byte":           func(f *File) { f.Result.Tokens[5] += 256 },
		"token":             func(f *File) { f.Result.Tokens[0] ^= 1 },
		"last token":        func(f *File) { f.Result.Tokens[5] ^= 1 },
		"token and logits":  func(f *File) { f.Result.Tokens[5] = 'x'; f.relogit(5, 'x', 1<<24) },
		"logit":             func(f *File) { f.relogit(3, 200, 0) },
		"logit's height":    func(f *File) { f.relogit(3, 200, -1<<31) },
		"number of rows":    func(f *File) { f.Parts[0][0]++ },
		"another's proof":   func(f *File) { f.Parts[0] = append(f.Parts[0][:head], g.Parts[0][head:]...) },
		"another's part":    func(f *File) { f.Parts = g.Parts },
		"no part":           func(f *File) { f.Parts = nil },
		"a part twice":      func(f *File) { f.Parts = append(f.Parts, f.Parts[0]) },
		"no proof":          func(f *File) { f.Parts[0] = f.Parts[0][:head] },
		"longer proof":      func(f *File) { f.Parts[0] = append(f.Parts[0], 0) },
		"far longer proof":  func(f *File) { f.Parts[0] = append(f.Parts[0], make([]byte, MaxPart)...) },
		"shorter than rows": func(f *File) { f.Parts[0] = f.Parts[0][:head-1] },
	} {
		if err := f.altered(change).Check(m); !errors.Is(err, trade.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, outputs := range []int{1, 9} {
		x := m
		x.Outputs = outputs
		if err := f.Check(x); !errors.Is(err, trade.ErrProof) {
			t.Errorf("%d outputs: %v", outputs, err)
		}
	}

	// Any byte. Only temperature and top_p may change a little without another
	// answer coming of it, and then the file is right about that request.
	b := f.Encode()
	sampling := bytes.Index(b, []byte("torg/infer/1x")) + 13 + 4
	r := rand.New(rand.NewPCG(1, 2))
	var places []int
	for i := range sampling + 120 {
		places = append(places, i)
	}
	for range 100 {
		places = append(places, r.IntN(len(b)))
	}
	for _, i := range places {
		if i >= sampling && i < sampling+8 {
			continue
		}
		c := slices.Clone(b)
		c[i] ^= 1 << r.IntN(8)
		if g, err := DecodeFile(c); err == nil && g.Check(m) == nil {
			t.Errorf("byte %d changed: not refused", i)
		}
	}
	for _, n := range []int{0, 7, 8, 40, 44, 100, len(b) / 2, len(b) - 1} {
		if _, err := DecodeFile(b[:n]); err == nil {
			t.Errorf("%d of %d bytes: not refused", n, len(b))
		}
	}
	if _, err := DecodeFile(append(slices.Clone(b), 0)); err == nil {
		t.Error("a byte too many: not refused")
	}
}

// TestWindows: the windows of an answer say every token once, from what the
// engine saw when it said it.
func TestWindows(t *testing.T) {
	const c = 128
	for _, n := range []struct{ prompt, tokens, windows int }{
		{1, 1, 1}, {1, 128, 1}, {1, 129, 2}, {128, 1, 1}, {128, 2, 2}, {129, 1, 1}, {64, 65, 1}, {64, 66, 2}, {1000, 1, 1}, {100, 300, 6}, {8, 0, 0},
	} {
		ws := windows(n.prompt, n.tokens, c, 1000)
		next := 0
		for _, w := range ws {
			if w.first != next || w.to-w.from > c || w.to != n.prompt+w.last-1 {
				t.Errorf("%+v: window %+v after token %d", n, w, next)
			}
			for i := w.first; i < w.last; i++ {
				if exact.WindowStart(n.prompt+i, c) != w.from {
					t.Errorf("%+v: token %d is said from %d", n, i, w.from)
				}
			}
			next = w.last
		}
		if next != n.tokens || len(ws) != n.windows {
			t.Errorf("%+v: %d windows, %d tokens", n, len(ws), next)
		}
	}
}

// TestAnswers: answers of one window and of several, with and without a
// prompt, stopped and cancelled.
func TestAnswers(t *testing.T) {
	t.Parallel()
	p := bundled()
	full, long, empty, stop := asked, asked, asked, asked
	full.Prompt, full.MaxTokens = bytes.Repeat([]byte("so it is "), 14), 3 // 126 and 3: 128 positions
	long.Prompt, long.MaxTokens = bytes.Repeat([]byte("so it is "), 20), 180
	empty.Prompt = nil
	stop.MaxTokens, stop.Stop = 60, [][]byte{[]byte("e")}
	for _, c := range []struct {
		name  string
		req   infer.Request
		parts int
	}{{"full", full, 1}, {"long", long, 2}, {"empty", empty, 1}, {"stop", stop, 1}} {
		if testing.Short() && c.name == "long" {
			continue
		}
		f := proven(t, c.req)
		if err := f.Check(p.Model); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(f.Parts) != c.parts {
			t.Errorf("%s: %d parts", c.name, len(f.Parts))
		}
		for i, part := range f.Parts {
			t.Logf("%s: part %d has %d KiB", c.name, i, len(part)>>10)
		}
		if c.name == "stop" && f.Result.Finish != infer.FinishStop {
			t.Errorf("it did not stop: %v", f.Result.Tokens)
		}
		if c.name != "long" {
			continue
		}
		// Parts are each about their own windows, and a window can be proven alone.
		if err := f.altered(func(f *File) { f.Parts[0], f.Parts[1] = f.Parts[1], f.Parts[0] }).Check(p.Model); !errors.Is(err, trade.ErrProof) {
			t.Errorf("parts swapped: %v", err)
		}
		if err := f.altered(func(f *File) { f.Result.Tokens[179] ^= 1 }).Check(p.Model); !errors.Is(err, trade.ErrProof) {
			t.Errorf("last token changed: %v", err)
		}
		part, err := p.Prove(f.Request, f.Result, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(f.Request, f.Result, 2, 1, part); err != nil {
			t.Errorf("one window: %v", err)
		}
		for _, w := range [][2]int{{1, 1}, {2, 2}, {9, 1}, {-1, 1}, {2, 0}} {
			if p.Check(f.Request, f.Result, w[0], w[1], part) == nil {
				t.Errorf("a proof of window 2 proves %v", w)
			}
		}
		cost, said, err := p.Price(f.Request, f.Result, 2, 1, part)
		if err != nil || cost.Bytes < len(part)-4-4*vocab*said || said != 64 {
			t.Errorf("priced %+v for %d tokens, %v", cost, said, err)
		}
		if _, _, err := p.Price(f.Request, f.Result, 2, 1, append(part, make([]byte, 300<<10)...)); !errors.Is(err, trade.ErrProof) {
			t.Errorf("an oversized proof was priced: %v", err)
		}
		// A lie cannot be proven: not by the proof of what is true, and proving
		// the lie itself proves that it is one.
		lie := f.altered(func(f *File) { f.Result.Tokens[130] ^= 1 })
		if part, err = p.Prove(lie.Request, lie.Result, 2, 1); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(lie.Request, lie.Result, 2, 1, part); !errors.Is(err, trade.ErrProof) {
			t.Errorf("a lie was proven: %v", err)
		}
	}
	// The beginning of a cancelled answer is proven like any other.
	res := answered(t, asked)
	res.Tokens, res.Finish = res.Tokens[:4], infer.FinishCancelled
	part, err := p.Prove(asked, res, 0, Batch)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(asked, res, 0, Batch, part); err != nil {
		t.Error(err)
	}
	res.Tokens = nil
	if n, err := p.Parts(asked, res); n != 0 || err != nil {
		t.Errorf("nothing said: %d windows, %v", n, err)
	}
	if n, err := p.Parts(asked, infer.Result{Kind: infer.Exact, Finish: infer.FinishLength}); err == nil {
		t.Errorf("nothing said, by length: %d windows", n)
	}
	if _, err := p.Parts(infer.Request{Kind: infer.Embed, Prompt: []byte("a")}, infer.Result{Kind: infer.Embed}); !errors.Is(err, trade.ErrProof) {
		t.Errorf("an embedding: %v", err)
	}
}

func TestCardFile(t *testing.T) {
	t.Parallel()
	m := bundled().Model
	b := m.Encode()
	t.Logf("%d bytes", len(b))
	got, err := DecodeModel(b)
	if err != nil || !bytes.Equal(got.Encode(), b) || got.ID() != m.ID() {
		t.Fatalf("not what was written: %v", err)
	}
	for n := range b {
		if _, err := DecodeModel(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes: not refused", n, len(b))
		}
	}
	if _, err := DecodeModel(append(b, 0)); err == nil {
		t.Error("a byte too many: not refused")
	}
}

// FuzzFile: what decodes is written the same way, and what is verified is what
// the model says. Parts that end with their logits get a genuine proof, so that
// inputs are short.
func FuzzFile(f *testing.F) {
	m := bundled().Model
	req := asked
	req.MaxTokens = 2
	genuine := proven(f, req)
	head := 4 + 4*vocab*2
	proof := genuine.Parts[0][head:]
	short := genuine.altered(func(g *File) { g.Parts[0] = g.Parts[0][:head] })
	b := short.Encode()
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(slices.Clone(b), 0))
	f.Add(genuine.altered(func(g *File) { g.Parts[0] = g.Parts[0][:head+100] }).Encode())
	f.Add(short.altered(func(g *File) { g.Parts, g.Result.Tokens = nil, nil }).Encode())
	f.Add(short.altered(func(g *File) { g.Parts = append(g.Parts, g.Parts[0]) }).Encode())
	f.Add(short.altered(func(g *File) { g.Result.Tokens[1] += 256 }).Encode())
	f.Add(short.altered(func(g *File) { g.Request.Temperature++ }).Encode())
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeFile(b)
		if err != nil {
			return
		}
		if !bytes.Equal(g.Encode(), b) {
			t.Fatal("a second encoding")
		}
		for i, p := range g.Parts {
			if len(p) == head {
				g.Parts[i] = append(p, proof...)
			}
		}
		if g.Check(m) != nil {
			return
		}
		if same, _, err := (replay.Model{Model: nano.Model()}).Replay(g.Request, g.Result); err != nil || !same {
			t.Fatalf("verified, and the model says otherwise (%v)", err)
		}
	})
}

// FuzzCardFile: what decodes is written the same way.
func FuzzCardFile(f *testing.F) {
	b := bundled().Encode()
	f.Add(b)
	f.Add(b[:40])
	f.Add([]byte(cardMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeModel(b); err == nil && !bytes.Equal(m.Encode(), b) {
			t.Fatal("a second encoding")
		}
	})
}

// FuzzPart: nothing but a proof proves, whatever the bytes. Inputs that end with
// their logits get a genuine proof, so that they are short.
func FuzzPart(f *testing.F) {
	m := bundled().Model
	req := asked
	req.MaxTokens = 2
	genuine := proven(f, req)
	head := 4 + 4*vocab*2
	part, proof := genuine.Parts[0], genuine.Parts[0][head:]
	f.Add(part[:head])
	f.Add(part[:head-1])
	f.Add(part[:head+40])
	f.Add([]byte{2, 0, 0, 0})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == head {
			b = append(b, proof...)
		}
		cost, said, perr := m.Price(req, genuine.Result, 0, 1, b)
		err := m.Check(req, genuine.Result, 0, 1, b)
		if (err == nil) != bytes.Equal(b, part) {
			t.Fatalf("checked: %v", err)
		}
		if err == nil && (perr != nil || said != 2 || cost.Gas() == 0) {
			t.Fatalf("it holds, and could not be priced: %v", perr)
		}
	})
}

// BenchmarkWindow proves and checks one full window, which is what a challenge
// asks of provider and ledger.
func BenchmarkWindow(b *testing.B) {
	p := bundled()
	req := asked
	req.Prompt, req.MaxTokens = bytes.Repeat([]byte("so it is "), 14), 67
	res := answered(b, req)
	part, err := p.Prove(req, res, 1, 1)
	if err != nil {
		b.Fatal(err)
	}
	card := p.Encode()
	b.Run("prove", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Prove(req, res, 1, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := (Verifier{}).Check(card, req, res, 1, part); err != nil {
				b.Fatal(err)
			}
		}
		gas, err := (Verifier{}).Gas(card, req, res, 1, part)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(gas), "gas")
		b.ReportMetric(float64(len(part)), "bytes")
	})
	b.Run("gas", func(b *testing.B) { // what is done before it is charged
		for b.Loop() {
			if _, err := (Verifier{}).Gas(card, req, res, 1, part); err != nil {
				b.Fatal(err)
			}
		}
	})
}
