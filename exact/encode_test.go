package exact

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func smallFile(t testing.TB) []byte {
	t.Helper()
	p := &Program{Rows: 2}
	x := p.Op(Input, nil, nil, 2, -100, 100)
	x = p.Op(MatMul, []Value{x}, []int{p.Const(2, 3, []int32{1, -2, 300, 4, 5, 70000})})
	x = p.Op(Requantise, []Value{x}, nil, 3, 8)
	p.Outputs = []Value{x, p.Op(ArgMax, []Value{x}, nil)}
	b, err := Encode(Card{Name: "small"}, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodingIsCanonical(t *testing.T) {
	for seed := range uint64(30) {
		p := randomProgram(rand.New(rand.NewPCG(seed, 6)), seed%2 == 0)
		card := Card{Name: "a"}
		b, err := Encode(card, p)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Load(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Encode(m.Card(), m.Program())
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("seed %d: encodes differently after decoding: %v", seed, err)
		}
	}
	b := smallFile(t)
	for n := range b {
		if _, err := Load(b[:n]); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", n, len(b))
		}
	}
	if _, err := Load(append(b, 0)); err == nil {
		t.Error("accepted a trailing byte")
	}
	// A constant stored wider than needed has the same meaning and must be
	// refused.
	p := &Program{Rows: 1}
	p.Outputs = []Value{p.Op(Offset, []Value{p.Op(Input, nil, nil, 1, 0, 1)}, []int{p.Const(1, 1, []int32{5})})}
	b, err := Encode(Card{Name: "a"}, p)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte{1, 1, 0, 0, 0, 1, 0, 0, 0, 5})
	wide := append([]byte(nil), b[:at]...)
	wide = append(wide, 4, 1, 0, 0, 0, 1, 0, 0, 0)
	wide = binary.LittleEndian.AppendUint32(wide, 5)
	wide = append(wide, b[at+10:]...)
	if _, err := Load(wide); err == nil {
		t.Error("accepted a constant wider than needed")
	}
}

// TestGoldenFile pins the format: these bytes are the example of docs/exact.md.
func TestGoldenFile(t *testing.T) {
	p := &Program{Rows: 1}
	x := p.Op(Input, nil, nil, 2, -8, 7)
	p.Outputs = []Value{p.Op(MatMul, []Value{x}, []int{p.Const(2, 1, []int32{3, -300})})}
	b, err := Encode(Card{Name: "tiny"}, p)
	if err != nil {
		t.Fatal(err)
	}
	want := "torgexa1\x04tiny\x00\x00" + // card
		"\x01\x00\x00\x00" + // rows
		"\x01\x00\x00\x00" + "\x02\x02\x00\x00\x00\x01\x00\x00\x00" + "\x03\x00\xd4\xfe" + // constants
		"\x02\x00\x00\x00" + // operations
		"\x01" + "\x02\x00\x00\x00\x00\x00\x00\x00" + "\xf8\xff\xff\xff\xff\xff\xff\xff" + "\x07\x00\x00\x00\x00\x00\x00\x00" +
		"\x06" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" +
		"\x01\x00\x00\x00" + "\x01\x00\x00\x00" // outputs
	if string(b) != want {
		t.Errorf("encoding is\n%q, want\n%q", b, want)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(smallFile(f))
	text, err := Encode(Card{Name: "t", Text: true, LogitBits: 10}, textProgram(1, 4))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(magic))
	for _, seed := range []uint64{0, 1, 2, 3, 5, 6} { // not those with long tables: fuzzing is slow on them
		b, err := Encode(Card{Name: "o"}, operationsProgram(seed))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Load(b)
		if err != nil {
			return
		}
		again, err := Encode(m.Card(), m.Program())
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted bytes that encode differently: %v", err)
		}
		var work uint64
		for _, f := range m.plan.facts {
			work += uint64(f.Cols)
		}
		if work+m.MACs(1, 1) > 1<<22 {
			return // right or wrong, it takes too long to find out here
		}
		// What passes Check must run, within its bounds, like the definition.
		p := m.Program()
		var lo, hi int64
		cols := 0
		for i, op := range p.Ops {
			if op.Kind == Input {
				lo, hi, cols = op.Params[1], op.Params[2], m.plan.facts[i].Cols
			}
		}
		in := make([][]int32, min(p.Rows, 3))
		for t := range in {
			in[t] = make([]int32, cols)
			for j := range in[t] {
				in[t][j] = int32([]int64{lo, hi, (lo + hi) / 2}[(t+j)%3])
			}
		}
		env := Env{Temperature: MaxTemperature, Seed: [32]byte{1}}
		want, err := p.InterpretEnv(env, in)
		if err != nil {
			t.Fatalf("a checked program left its bounds: %v", err)
		}
		got, err := m.RunEnv(env, in)
		if err != nil {
			t.Fatal(err)
		}
		within(t, m, got)
		for o := range want {
			for r := range want[o] {
				for j := range want[o][r] {
					if got[o][r][j] != want[o][r][j] {
						t.Fatalf("output %d row %d column %d: engine %d, interpreter %d", o, r, j, got[o][r][j], want[o][r][j])
					}
				}
			}
		}
	})
}

func FuzzGenerate(f *testing.F) {
	m := textModel(f, 1, 6)
	f.Add([]byte("prompt"), 10, 700, 9000, []byte("e"), []byte("seed"), 3)
	f.Add([]byte{}, 1, 0, 0, []byte{}, []byte{}, 0)
	f.Fuzz(func(t *testing.T, prompt []byte, n, temperature, topP int, stop, seed []byte, top int) {
		req := Request{Prompt: prompt, MaxTokens: n, Temperature: temperature, TopP: topP, Logprobs: top != 0, TopLogprobs: top}
		if len(stop) > 0 {
			req.Stop = [][]byte{stop}
		}
		copy(req.Seed[:], seed)
		if n > 200 {
			if err := req.check(); err == nil && n > MaxTokens {
				t.Fatal("accepted too many tokens")
			}
			return
		}
		res, err := m.Generate(context.Background(), req, nil)
		if err != nil {
			return
		}
		v, err := m.Verify(context.Background(), req, res.Tokens)
		if err != nil || v.Agreed != len(res.Tokens) || v.Finish != res.Finish {
			t.Fatalf("verify: %+v, %v; generated %d, %s", v, err, len(res.Tokens), res.Finish)
		}
	})
}
