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
		if op.Kind == exact.MatMul || op.Kind == exact.Gather {
			n += len(p.Consts[op.Consts[0]].Data)
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
}
