package runfile_test

import (
	"bytes"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/runfile"
)

// FuzzDecode: files and cards of runs are refused, or have one encoding.
func FuzzDecode(f *testing.F) {
	p := &exact.Program{Rows: 2}
	x := p.Op(exact.Input, nil, nil, 2, -3, 3)
	p.Outputs = []exact.Value{p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(2, 1, []int32{3, -2})})}
	card, _, err := zkml.Commit(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(runfile.Model{Name: "tiny", Meaning: runfile.Meaning{Input: onnx.Input{Columns: 2}, Outputs: []onnx.Output{{Name: "y", Columns: 1}}}, Card: card}.Encode())
	f.Add(runfile.File{Model: card.ID(), Claim: zkml.Claim{Input: [][]int32{{1, 2}}, From: []int{0}, Output: [][][]int32{{{-1}}}}, Proof: zkml.Proof("proof")}.Encode())
	f.Add(runfile.File{Claim: zkml.Claim{From: []int{1}, Output: [][][]int32{nil}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := runfile.Decode(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Error("another encoding of the same run")
		}
		if m, err := runfile.DecodeModel(b); err == nil && (!runfile.ValidName(m.Name) || !bytes.Equal(m.Encode(), b)) {
			t.Errorf("a model called %q, or another encoding of its card", m.Name)
		}
	})
}
