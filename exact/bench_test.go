//go:build unix

package exact_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/shape"
)

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchmark reports how many of something the engine does in a processor
// second, where one run does as many as said. The language models' speed is
// measured by package nano.
func benchmark(b *testing.B, p *exact.Program, in [][]int32, per int, unit string) {
	file, err := exact.Encode(exact.Card{Name: "bench"}, p)
	if err != nil {
		b.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := m.Run(in); err != nil { // warm up
		b.Fatal(err)
	}
	n := 0
	start := cpu()
	for b.Loop() {
		if _, err := m.Run(in); err != nil {
			b.Fatal(err)
		}
		n += per
	}
	b.ReportMetric(float64(n)/(cpu()-start).Seconds(), unit+"/cpu-s")
}

func BenchmarkLeNet(b *testing.B) {
	benchmark(b, shape.LeNet.Program(1, 32), shape.LeNet.Input(1, 32), 32, "images")
}

func BenchmarkCNN264k(b *testing.B) {
	benchmark(b, shape.CNN264k.Program(1, 32), shape.CNN264k.Input(1, 32), 32, "images")
}

func BenchmarkEncoder(b *testing.B) {
	e := shape.MiniLM
	benchmark(b, e.Program(1), e.Input(1, e.Context), e.Layers, "layers")
}
