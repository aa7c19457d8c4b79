package shape_test

import (
	"reflect"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml"
	"github.com/torg-network/torg/zkml/shape"
)

func check(t *testing.T, p *exact.Program, in [][]int32, params int) {
	t.Helper()
	n := 0
	for _, op := range p.Ops {
		switch op.Kind {
		case exact.MatMul, exact.Gather, exact.BlockMatMul:
			n += len(p.Consts[op.Consts[0]].Data)
		case exact.Offset:
			// Biases are the same in every block.
			blocks := 1
			if from := p.Ops[op.In[0]]; from.Kind == exact.BlockMatMul {
				blocks = int(from.Params[0])
			}
			n += len(p.Consts[op.Consts[0]].Data) / blocks
		}
	}
	if n != params {
		t.Errorf("%d parameters, want %d", n, params)
	}
	card, pk, err := zkml.Commit(p)
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
		t.Error("output is not the interpreter's")
	}
	if err := zkml.Verify(card, claim, proof); err != nil {
		t.Error(err)
	}
}

func TestShapes(t *testing.T) {
	g := shape.EZKL
	check(t, g.Program(1), g.Input(1, 20), 65*64*2+64*64+4*12*64*64)
	l := shape.Layer8x64x32
	check(t, l.Program(1), l.Input(1), 64*32)
	m := shape.MLP{100, 60, 10}
	check(t, m.Program(1), m.Input(1), 100*60+60*10)
	check(t, shape.NanoGPT1M.Program(1), shape.NanoGPT1M.Input(1, 9), 65*128*2+128*128+5*12*128*128)
	check(t, shape.LeNet.Program(1, 3), shape.LeNet.Input(1, 3), 61_706)
	check(t, shape.CNN264k.Program(1, 1), shape.CNN264k.Input(1, 1), 263_970)
	r := shape.Logistic{Features: 30}
	check(t, r.Program(1, 100), r.Input(1, 100), 31)
	e := shape.Encoder{Layers: 2, Heads: 3, Width: 24, Hidden: 100, Context: 20}
	check(t, e.Program(1), e.Input(1, 11), 2*(4*24*24+2*24*100))
	f := shape.Forest{Features: 10, Trees: 8, Depth: 4, Outputs: 3}
	nodes, leaves := 8*15, 8*16
	check(t, f.Program(1, 20), f.Input(1, 20), nodes+nodes*leaves+leaves+leaves*3)
}
