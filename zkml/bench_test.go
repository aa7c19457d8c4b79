//go:build unix

package zkml

import (
	"syscall"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/zkml/shape"
)

// cpu is the processor time of this process so far, in milliseconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	ms := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e3 + float64(t.Usec)/1e3 }
	return ms(u.Utime) + ms(u.Stime)
}

func benchNano(b *testing.B, rows int) {
	_, pk, err := Commit(nano.Model().Program())
	if err != nil {
		b.Fatal(err)
	}
	in := nanoInput(rows)
	var proof Proof
	start := cpu()
	for b.Loop() {
		if _, proof, err = pk.ProveFrom(in, []int{rows - 1, rows}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ms")
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
	start := cpu()
	for b.Loop() {
		if err := Verify(card, claim, proof); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ms")
}

func benchShape(b *testing.B, p *exact.Program, in [][]int32) {
	_, pk, err := Commit(p)
	if err != nil {
		b.Fatal(err)
	}
	var proof Proof
	start := cpu()
	for b.Loop() {
		if _, proof, err = pk.ProveFrom(in, []int{len(in) - 1}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ms")
	b.ReportMetric(float64(len(proof))/1024, "KiB")
}

// BenchmarkBatch is eight conversations in one proof.
func BenchmarkBatch8NanoGPT1MT64(b *testing.B) {
	g := shape.NanoGPT1M
	_, pk, err := Commit(g.Program(1))
	if err != nil {
		b.Fatal(err)
	}
	var runs []Run
	for i := range uint64(8) {
		runs = append(runs, Run{Input: g.Input(i, 64), From: []int{63}})
	}
	var proof Proof
	start := cpu()
	for b.Loop() {
		if _, proof, err = pk.ProveBatch(runs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ms")
	b.ReportMetric(float64(len(proof))/1024, "KiB")
}

func BenchmarkShapeNanoGPT1MT64(b *testing.B) {
	benchShape(b, shape.NanoGPT1M.Program(1), shape.NanoGPT1M.Input(1, 64))
}

func BenchmarkShapeNanoGPT1MT128(b *testing.B) {
	benchShape(b, shape.NanoGPT1M.Program(1), shape.NanoGPT1M.Input(1, 128))
}

func BenchmarkShapeEZKL(b *testing.B) {
	benchShape(b, shape.EZKL.Program(1), shape.EZKL.Input(1, 64))
}

func BenchmarkShapeMLP4M(b *testing.B) {
	benchShape(b, shape.MLP4M.Program(1), shape.MLP4M.Input(1))
}

func BenchmarkShapeLeNet(b *testing.B) {
	benchShape(b, shape.LeNet.Program(1, 1), shape.LeNet.Input(1, 1))
}

func BenchmarkShapeCNN264k(b *testing.B) {
	benchShape(b, shape.CNN264k.Program(1, 1), shape.CNN264k.Input(1, 1))
}

func BenchmarkShapeMiniLM(b *testing.B) {
	benchShape(b, shape.MiniLM.Program(1), shape.MiniLM.Input(1, 128))
}

func BenchmarkCommitNano(b *testing.B) {
	for b.Loop() {
		if _, _, err := Commit(nano.Model().Program()); err != nil {
			b.Fatal(err)
		}
	}
}
