package zkml

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/torg-network/torg/exact"
)

func try(t *testing.T, p *exact.Program, runs []Run) {
	t.Helper()
	card, pk := mustCommit(t, p)
	claims, proof, err := pk.ProveBatch(runs)
	if err != nil {
		t.Error(err)
		return
	}
	for i, r := range runs {
		want, err := p.InterpretEnv(r.Env, r.Input)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(claims[i].Output, want) {
			t.Error("differs from interpreter")
		}
	}
	if err := VerifyBatch(card, claims, proof); err != nil {
		t.Error(err)
	}
	back, err := DecodeCard(card.Encode())
	if err != nil || back.ID() != card.ID() {
		t.Errorf("card: %v", err)
	}
}

func TestNewKinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	data := func(n int, most int32) []int32 {
		d := make([]int32, n)
		for i := range d {
			d[i] = r.Int32N(2*most+1) - most
		}
		return d
	}
	input := func(n, cols int, most int32) [][]int32 {
		in := make([][]int32, n)
		for i := range in {
			in[i] = data(cols, most)
		}
		return in
	}
	runs := func(cols int, most int32) []Run {
		return []Run{{Input: input(5, cols, most), From: []int{0}}, {Input: input(3, cols, most), From: []int{0}}, {Input: input(6, cols, most), From: []int{0}}}
	}
	one := func(cols int, most int64, f func(p *exact.Program, x exact.Value) exact.Value) *exact.Program {
		p := &exact.Program{Rows: 6}
		x := p.Op(exact.Input, nil, nil, int64(cols), -most, most)
		p.Outputs = []exact.Value{f(p, x)}
		return p
	}
	roots := make([]int32, normKeyHi-normKeyLo)
	for i := range roots {
		roots[i] = 1<<20 - 16*int32(i)
	}
	for name, f := range map[string]func(p *exact.Program, x exact.Value) exact.Value{
		"arrange": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, 9, []int32{3, -1, 0, 0, 5, 11, -1, 2, 2})})
		},
		"blockmatmul": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{p.Const(4, 5, data(20, 99))}, 3)
		},
		"blockmatmul odd": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMatMul, []exact.Value{x}, []int{p.Const(3, 3, data(9, 99))}, 4)
		},
		"blockmatmul relaid": func(p *exact.Program, x exact.Value) exact.Value {
			y := p.Op(exact.BlockMatMul, []exact.Value{x}, []int{p.Const(3, 3, data(9, 99))}, 4)
			y = p.Op(exact.Add, []exact.Value{x, y}, nil)
			return p.Op(exact.BlockMatMul, []exact.Value{y}, []int{p.Const(6, 2, data(12, 99))}, 2)
		},
		"blockmax": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 3)
		},
		"blockmax odd": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 4)
		},
		"blockmax one": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 1)
		},
		"blockmax all": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.BlockMax, []exact.Value{x}, nil, 12)
		},
		"blockmax wide": func(p *exact.Program, x exact.Value) exact.Value {
			y := p.Op(exact.MatMul, []exact.Value{x}, []int{p.Const(12, 12, data(144, 4000))})
			return p.Op(exact.BlockMax, []exact.Value{y}, nil, 4)
		},
		"multiply": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.Multiply, []exact.Value{x, p.Op(exact.Offset, []exact.Value{x}, []int{p.Const(1, 12, data(12, 99))})}, nil)
		},
		"rmsnorm": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.RMSNorm, []exact.Value{x}, []int{p.Const(1, len(roots), roots)}, normKeyLo, 10)
		},
		"meanrows": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.MeanRows, []exact.Value{x}, nil)
		},
		"fullattention": func(p *exact.Program, x exact.Value) exact.Value {
			return p.Op(exact.FullAttention, []exact.Value{x, x, x}, []int{p.Const(1, 5, []int32{200, 90, 30, 5, 1})}, 2, 9)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := one(12, 1000, f)
			try(t, p, runs(12, 1000))
			try(t, p, runs(12, 1000)[:1])
			try(t, p, runs(12, 1)[1:2])
			try(t, p, []Run{{Input: input(1, 12, 1000), From: []int{0}}})
		})
	}
	quantiles := data(1<<16, 5000)
	p := one(12, 1000, func(p *exact.Program, x exact.Value) exact.Value {
		n := p.Op(exact.Noise, nil, []int{p.Const(1, 1<<16, quantiles)}, 12)
		return p.Op(exact.ArgMax, []exact.Value{p.Op(exact.Add, []exact.Value{x, n}, nil)}, nil)
	})
	rs := runs(12, 1000)
	for i := range rs {
		rs[i].Env = exact.Env{Seed: [32]byte{byte(i)}, Temperature: 700 + i}
	}
	try(t, p, rs)
	try(t, p, rs[1:2])
}
