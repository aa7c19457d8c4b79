package onnx

import (
	"bytes"
	"math"
	"testing"

	"github.com/torg-network/torg/exact"
)

// FuzzDecode: whatever the bytes, reading them ends soon and within memory of
// their length, and what is read is written as bytes that read the same.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		file := Encode(m)
		again, err := Decode(file)
		if err != nil {
			t.Fatalf("its own encoding: %v", err)
		}
		if !bytes.Equal(Encode(again), file) {
			t.Error("encodes to other bytes after reading")
		}
	})
}

// FuzzImport: a network is refused, or becomes a program that Check and the
// interpreter accept on the least and the greatest input.
func FuzzImport(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, rows uint8) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		im, err := importModel(t.Context(), m, Options{Name: "fuzz", Rows: int(rows % 9), Lo: -1, Hi: 1}, room{1 << 18, 1 << 22})
		if err != nil {
			return
		}
		facts, err := im.Program.Check()
		if err != nil {
			t.Fatal(err)
		}
		width := 0
		for _, f := range facts {
			width += f.Cols
		}
		if width > 1<<14 {
			return // slow to interpret
		}
		in := im.Program.Ops[0]
		for i, op := range im.Program.Ops {
			if op.Kind == exact.Input {
				in = im.Program.Ops[i]
			}
		}
		for _, e := range []int64{in.Params[1], in.Params[2]} {
			row := make([]int32, in.Params[0])
			for i := range row {
				row[i] = int32(e)
			}
			if _, err := im.Program.Interpret([][]int32{row}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzSample: samples are numbers, or refused.
func FuzzSample(f *testing.F) {
	for _, s := range []string{"[1,2.5]", "[[1],[2]]", `"a text"`, "plain", "[", "[1] [2]", "[1]]", `[{"a":1}]`, "[1e999]", "[]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseSample(b)
		if err != nil {
			return
		}
		if len(v) > len(b) {
			t.Errorf("%d numbers of %d bytes", len(v), len(b))
		}
		for _, x := range v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				t.Errorf("%g", x)
			}
		}
	})
}
