package zkml

import (
	"math/rand/v2"
	"testing"

	"github.com/torg-network/torg/exact"
)

// TestTrace compares every value of a run with the interpreter's, and expects
// zeros where no column is.
func TestTrace(t *testing.T) {
	check := func(p *exact.Program, runs []Run) {
		t.Helper()
		_, pk := mustCommit(t, p)
		tr, err := pk.run(runs, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for v, op := range p.Ops {
			one := *p
			one.Outputs = []exact.Value{exact.Value(v)}
			l := pk.plan.lay[v]
			for s, run := range runs {
				out, err := one.InterpretEnv(run.Env, run.Input)
				if err != nil {
					t.Fatal(err)
				}
				for r, row := range out[0] {
					want := make([]int32, 1<<l.bits())
					for j, x := range row {
						want[l.index(j)] = x
					}
					for i, x := range tr.vals[v][(s<<tr.t|r)<<l.bits():][:len(want)] {
						if x != want[i] {
							t.Fatalf("operation %d (%s), run %d, row %d: %d at %d, want %d", v, op.Kind, s, r, x, i, want[i])
						}
					}
				}
			}
		}
	}
	for _, s := range specimens() {
		check(s.make(1), s.runs)
	}
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 4))
		p := randomProgram(r)
		check(p, []Run{{Input: randomInput(r, p, p.Rows)}, {Input: randomInput(r, p, 1)}})
	}
}
