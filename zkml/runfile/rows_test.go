package runfile_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/runfile"
)

// looked is a network that looks tokens up in a table of 9 rows of 4 numbers, and
// gives what the nodes make of "e", of shape [1, length, 4]. Length -1 is any.
func looked(seed float32, length int, nodes ...onnx.Node) *onnx.Model {
	table := onnx.Tensor{Name: "table", Type: onnx.Float, Dims: []int{9, 4}}
	for i := range 36 {
		table.F = append(table.F, seed+float32(i*i%17)/8)
	}
	m := &onnx.Model{IR: 8, Opsets: map[string]int64{"": 13}, Name: "looked", Consts: []onnx.Tensor{table}}
	for name, v := range map[string]int64{"first": 0, "third": 2, "last": -1} {
		m.Consts = append(m.Consts, onnx.Tensor{Name: name, Type: onnx.Int64, I: []int64{v}})
	}
	slices.SortFunc(m.Consts[1:], func(a, b onnx.Tensor) int { return strings.Compare(a.Name, b.Name) })
	m.Inputs = []onnx.Port{{Name: "x", Type: onnx.Int64, Shaped: true, Dims: []onnx.Dim{{Size: 1}, {Size: length}}}}
	m.Nodes = append([]onnx.Node{{Op: "Gather", In: []string{"table", "x"}, Out: []string{"e"}}}, nodes...)
	for _, n := range nodes {
		m.Outputs = append(m.Outputs, onnx.Port{Name: n.Out[0], Type: onnx.Float})
	}
	return m
}

func attribute(name string, v ...int64) []onnx.Attr {
	if len(v) == 1 && name == "axis" {
		return []onnx.Attr{{Name: name, Type: onnx.AttrInt, I: v[0]}}
	}
	return []onnx.Attr{{Name: name, Type: onnx.AttrInts, Ints: v}}
}

func picked(which string) onnx.Node {
	return onnx.Node{Op: "Gather", In: []string{"e", which}, Out: []string{"y"}, Attrs: attribute("axis", 1)}
}

// built is a model, and what proves its runs.
func built(t *testing.T, m *onnx.Model) (runfile.Model, *zkml.ProverKey) {
	t.Helper()
	im, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "looked", Rows: 5})
	if err != nil {
		t.Fatal(err)
	}
	card, pk, err := zkml.Commit(im.Program)
	if err != nil {
		t.Fatal(err)
	}
	b := runfile.Model{Name: "looked", Meaning: runfile.Meaning{Input: im.Input, Outputs: im.Outputs}, Card: card}.Encode()
	r, err := runfile.DecodeModel(b)
	if err != nil || !bytes.Equal(r.Encode(), b) {
		t.Fatalf("its own card: %v", err)
	}
	return r, pk
}

// TestRows: a file is verified if it claims the rows that hold the answer, and is
// refused if it claims others, fewer, more or none, or is of another number of
// rows than the network takes, however good its proof.
func TestRows(t *testing.T) {
	t.Parallel()
	each := onnx.Node{Op: "Neg", In: []string{"e"}, Out: []string{"y"}}
	mean := onnx.Node{Op: "ReduceMean", In: []string{"e"}, Out: []string{"y"}, Attrs: attribute("axes", 1)}
	for name, c := range map[string]struct {
		net   *onnx.Model
		exact bool                 // only 5 rows
		from  func(rows int) []int // where the answer begins
	}{
		"each":           {looked(1, -1, each), false, func(n int) []int { return []int{0} }},
		"each of five":   {looked(1, 5, each), true, func(n int) []int { return []int{0} }},
		"mean":           {looked(1, -1, mean), false, func(n int) []int { return []int{n - 1} }},
		"mean of five":   {looked(1, 5, mean), true, func(n int) []int { return []int{n - 1} }},
		"first":          {looked(1, -1, picked("first")), false, func(n int) []int { return []int{0} }},
		"third":          {looked(1, -1, picked("third")), true, func(n int) []int { return []int{2} }},
		"third of five":  {looked(1, 5, picked("third")), true, func(n int) []int { return []int{2} }},
		"last":           {looked(1, -1, picked("last")), false, func(n int) []int { return []int{n - 1} }},
		"first and last": {looked(1, -1, picked("first"), func() onnx.Node { n := picked("last"); n.Out = []string{"z"}; return n }()), false, func(n int) []int { return []int{0, n - 1} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, pk := built(t, c.net)
			other, _ := built(t, looked(2, c.net.Inputs[0].Dims[1].Size, c.net.Nodes[1:]...))
			net, err := onnx.Open(c.net)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{5, 3} {
				var input [][]int32
				var tokens [][]float64
				for i := range n {
					input, tokens = append(input, []int32{int32(i * 3 % 9)}), append(tokens, []float64{float64(i * 3 % 9)})
				}
				want := c.from(n)
				// Every run of rows that the prover will prove.
				starts := [][]int{{}}
				for range want {
					var longer [][]int
					for _, s := range starts {
						for at := range n + 1 {
							longer = append(longer, append(slices.Clone(s), at))
						}
					}
					starts = longer
				}
				for _, from := range starts {
					claim, proof, err := pk.ProveFrom(input, from)
					if err != nil {
						t.Fatal(err)
					}
					if err := zkml.Verify(m.Card, claim, proof); err != nil {
						t.Fatal(err)
					}
					f := runfile.File{Model: m.ID(), Claim: claim, Proof: proof}
					err = f.Check(m)
					if right := slices.Equal(from, want) && (n == 5 || !c.exact); right != (err == nil) {
						t.Fatalf("%d rows, claimed from %v on, the answer is from %v on: %v", n, from, want, err)
					} else if !right {
						continue
					}
					// The answer is the network's.
					truth, err := net.Eval(t.Context(), tokens)
					if err != nil {
						t.Fatal(err)
					}
					for k, o := range m.Outputs {
						for j, v := range claim.Output[k][0] {
							if d := o.Number(v) - float64(truth[k].F[j]); d > 0.01 || d < -0.01 {
								t.Errorf("%d rows: output %d begins with %g at %d, the network's with %g", n, k, o.Number(v), j, truth[k].F[j])
							}
						}
					}
					for lie, change := range map[string]func(f *runfile.File){
						"no outputs": func(f *runfile.File) { f.Claim.From, f.Claim.Output = nil, nil },
						"an output more": func(f *runfile.File) {
							f.Claim.From, f.Claim.Output = append(slices.Clone(from), n), append(slices.Clone(claim.Output), nil)
						},
						"no row": func(f *runfile.File) { f.Claim.Output = slices.Repeat([][][]int32{nil}, len(want)) },
						"a row more": func(f *runfile.File) {
							f.Claim.Output = slices.Clone(claim.Output)
							f.Claim.Output[0] = append(slices.Clone(claim.Output[0]), claim.Output[0][0])
						},
						"a row of input":  func(f *runfile.File) { f.Claim.Input = append(slices.Clone(input), input[0]) },
						"one row less":    func(f *runfile.File) { f.Claim.Input = input[:n-1] },
						"no input":        func(f *runfile.File) { f.Claim.Input = nil },
						"another network": func(f *runfile.File) { f.Model = other.ID() },
						"another's answer": func(f *runfile.File) {
							f.Claim.Output = slices.Clone(claim.Output)
							f.Claim.Output[0] = [][]int32{{1, 2, 3, 4}}
						},
					} {
						g := f
						change(&g)
						if g.Check(m) == nil {
							t.Errorf("%d rows, %s: verified", n, lie)
						}
						if lie == "another network" && g.Check(other) == nil {
							t.Errorf("verified by the card of another network")
						}
					}
				}
			}
		})
	}
}

// TestMeaningFits: a card whose meaning is not that of its program is refused.
func TestMeaningFits(t *testing.T) {
	t.Parallel()
	whole, _ := built(t, looked(1, -1, picked("last")))
	for name, change := range map[string]func(m *runfile.Model){
		"no outputs":   func(m *runfile.Model) { m.Outputs = nil },
		"two outputs":  func(m *runfile.Model) { m.Outputs = append(m.Outputs, m.Outputs[0]) },
		"wide output":  func(m *runfile.Model) { m.Outputs[0].Columns++ },
		"far row":      func(m *runfile.Model) { m.Outputs[0].Row = 5 },
		"no such row":  func(m *runfile.Model) { m.Outputs[0].Row = onnx.LastRow - 1 },
		"scale":        func(m *runfile.Model) { m.Outputs[0].Frac = 65 },
		"name":         func(m *runfile.Model) { m.Outputs[0].Name = "y\n" },
		"input":        func(m *runfile.Model) { m.Input.Columns = 2 },
		"input's name": func(m *runfile.Model) { m.Input.Name = "\x1b[8m" },
		"many rows":    func(m *runfile.Model) { m.Input.Rows = 6 },
		"less than 0":  func(m *runfile.Model) { m.Input.Rows = -1 },
		"input scale":  func(m *runfile.Model) { m.Input.Frac = -65 },
	} {
		m := whole
		m.Outputs = slices.Clone(whole.Outputs)
		change(&m)
		if _, err := runfile.DecodeModel(m.Encode()); err == nil || !strings.Contains(err.Error(), "its meaning") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := whole.Encode()
	for _, lie := range []struct{ old, new string }{{`{"input"`, `{ "input"`}, {`"outputs":`, `"more":1,"outputs":`}, {`"outputs":`, `"Outputs":`}} {
		l := bytes.Replace(slices.Clone(b), []byte(lie.old), []byte(lie.new), 1)
		at := len("torgcrd3") + 1 + len(whole.Name)
		l[at] += byte(len(lie.new) - len(lie.old))
		if _, err := runfile.DecodeModel(l); err == nil || !strings.Contains(err.Error(), "as torg writes it") {
			t.Errorf("%s for %s: %v", lie.new, lie.old, err)
		}
	}
}
