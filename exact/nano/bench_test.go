//go:build unix

package nano

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchmark reports the tokens that work makes per processor second.
func benchmark(b *testing.B, work func(context.Context) (int, error)) {
	if _, err := work(context.Background()); err != nil { // load, warm up
		b.Fatal(err)
	}
	tokens := 0
	start := cpu()
	for b.Loop() {
		n, err := work(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		tokens += n
	}
	b.ReportMetric(float64(tokens)/(cpu()-start).Seconds(), "tok/cpu-s")
}

func BenchmarkDecode(b *testing.B)  { benchmark(b, Decode) }
func BenchmarkPrefill(b *testing.B) { benchmark(b, Prefill) }
func BenchmarkVerify(b *testing.B)  { benchmark(b, Verify) }

// BenchmarkDecode16 generates sixteen answers at a time.
func BenchmarkDecode16(b *testing.B) {
	benchmark(b, func(ctx context.Context) (int, error) {
		var wg sync.WaitGroup
		var total atomic.Int64
		for range 16 {
			wg.Go(func() {
				n, err := Decode(ctx)
				if err != nil {
					b.Error(err)
				}
				total.Add(int64(n))
			})
		}
		wg.Wait()
		return int(total.Load()), nil
	})
}
