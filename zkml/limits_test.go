package zkml

import (
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/koala"
)

// TestModuloAttack claims an output that differs from the right one by p, and
// an input likewise: both are within bounds that are wider than p. No program
// with such an output can be proven, and with the widest that can the other
// integer is out of bounds.
func TestModuloAttack(t *testing.T) {
	program := func(lo, hi int64) *exact.Program {
		p := &exact.Program{Rows: 2}
		x := p.Op(exact.Input, nil, nil, 1, lo, hi)
		p.Outputs = []exact.Value{p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(1, 1, []int32{1})}), x}
		return p
	}
	if _, _, err := Commit(program(-(koala.P-1)/2, (koala.P+1)/2)); err == nil {
		t.Error("an output whose bounds are p apart can be proven")
	}
	if _, _, err := Commit(program(1-exact.Limit, exact.Limit-1)); err == nil {
		t.Error("an output of exact's bounds can be proven")
	}
	const most = (koala.P - 1) / 2
	card, pk := mustCommit(t, program(-most, most))
	for _, x := range []int32{most, -most, 0} {
		in := [][]int32{{x}, {1}}
		claim, proof, err := pk.Prove(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(card, claim, proof); err != nil {
			t.Fatal(err)
		}
		for _, off := range []int32{koala.P, -koala.P} {
			for k := range 2 {
				refused(t, "output and p", card, pk, in, hook{claim: func(c *Claim) { c.Output[k][0][0] += off }})
			}
			refused(t, "input and p", card, pk, in, hook{claim: func(c *Claim) { c.Input = [][]int32{{x + off}, {1}} }})
		}
	}
}
