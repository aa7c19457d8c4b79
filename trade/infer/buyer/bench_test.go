package buyer_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
)

// BenchmarkEngine is the work alone; BenchmarkDo is the same work bought: lane,
// voucher, two processes' disks, HTTP, receipt, verification. The difference is
// what the trade costs.
func BenchmarkEngine(b *testing.B) {
	toy := infertest.Toy{Name: "toy"}
	for n := 0; b.Loop(); n++ {
		job := provider.Job{Request: ask("toy", n, 8).Request}
		if _, err := toy.Run(context.Background(), job, func(infer.Delta) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	toy := infertest.Toy{Name: "toy"}
	l := infertest.NewLedger(toy)
	sell(b, l, 16, toy)
	d := buy(b, l, nil)
	if _, err := d.Do(b.Context(), ask("toy", 0, 8), nil); err != nil { // opens the lease
		b.Fatal(err)
	}
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		if _, err := d.Do(b.Context(), ask("toy", n, 8), nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
