package zkml

import (
	"math/rand/v2"
	"testing"

	"github.com/torg-network/torg/exact/nano"
)

// nanoInput is rows of text-like bytes.
func nanoInput(n int) [][]int32 {
	r := rand.New(rand.NewPCG(1, 1))
	in := make([][]int32, n)
	for i := range in {
		in[i] = []int32{int32("etaoin shrdlu\n"[r.IntN(14)])}
	}
	return in
}

func benchNano(b *testing.B, rows int) {
	_, pk, err := Commit(nano.Model().Program())
	if err != nil {
		b.Fatal(err)
	}
	in := nanoInput(rows)
	var proof Proof
	for b.Loop() {
		if _, proof, err = pk.ProveFrom(in, []int{rows - 1, rows}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(proof))/1024, "KiB")
}

func BenchmarkProveNano64(b *testing.B)  { benchNano(b, 64) }
func BenchmarkProveNano128(b *testing.B) { benchNano(b, 128) }

func BenchmarkVerifyNano64(b *testing.B) {
	card, pk, err := Commit(nano.Model().Program())
	if err != nil {
		b.Fatal(err)
	}
	claim, proof, err := pk.ProveFrom(nanoInput(64), []int{63, 64})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Verify(card, claim, proof); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommitNano(b *testing.B) {
	for b.Loop() {
		if _, _, err := Commit(nano.Model().Program()); err != nil {
			b.Fatal(err)
		}
	}
}
