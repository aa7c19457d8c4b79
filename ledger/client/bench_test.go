package client_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// BenchmarkSend is transfers from a hundred accounts until the last has
// arrived: go test -run - -bench Send -benchtime 5000x ./ledger/client
func BenchmarkSend(b *testing.B) {
	const senders = 100
	var accounts []square.Key
	var balances []ledger.Balance
	for i := range senders {
		k, err := square.KeyFromBytes(append(make([]byte, 31), byte(i+1)))
		if err != nil {
			b.Fatal(err)
		}
		accounts = append(accounts, k)
		balances = append(balances, ledger.Balance{Owner: k.Address(), Amount: square.Utorg(1 << 40)})
	}
	_, c := openWith(b, devnet.Spec{Balances: balances, Settings: node.Settings{BlockTime: 200 * time.Millisecond}}, client.Options{TTL: 5 * time.Minute})
	sink := square.Address{1}
	from := make([]*client.Account, senders)
	for i, k := range accounts {
		from[i] = c.Account(k)
	}
	ctx := b.Context()
	b.ResetTimer()
	used := host.Used().CPU
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < b.N; i += 4 {
				for {
					_, err := from[i%senders].Post(ctx, sink, square.Utorg(1))
					if err == nil {
						break
					}
					if !errors.Is(err, client.ErrBusy) {
						b.Error(err)
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	for balance(b, c, sink) < uint64(b.N) && !b.Failed() {
		time.Sleep(10 * time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
	b.ReportMetric(float64((host.Used().CPU-used).Microseconds())/float64(b.N), "cpu-µs/tx")
}

// BenchmarkOpenLease is leases opened by 64 goroutines, each waiting for its
// block: go test -run - -bench OpenLease -benchtime 2000x ./ledger/client
func BenchmarkOpenLease(b *testing.B) {
	_, c := openWith(b, devnet.Spec{Settings: node.Settings{BlockTime: 200 * time.Millisecond}, Trades: []trade.Rules{echo{}}}, client.Options{TTL: 5 * time.Minute})
	ctx := b.Context()
	provider, buyer := devnet.Key(2), devnet.Key(1)
	rates := []square.Rate{{Unit: "byte", PerMillion: 1}}
	offer := square.Offer{
		Provider: provider.Address(), Trade: "echo", Spec: square.Hash{7}, Denom: square.Denom, Rates: rates,
		Capacity: 1 << 40, Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	p := c.Account(provider)
	if _, err := p.Bond(ctx, "echo", square.Utorg(1<<38)); err != nil {
		b.Fatal(err)
	}
	if _, err := p.PostOffer(ctx, offer); err != nil {
		b.Fatal(err)
	}
	from := c.Account(buyer)
	d := c.Domain()
	b.ResetTimer()
	used := host.Used().CPU
	jobs := make(chan int)
	var wg sync.WaitGroup
	var gas int64
	var mu sync.Mutex
	for range 64 {
		wg.Go(func() {
			for i := range jobs {
				salt := square.Hash{byte(i), byte(i >> 8), byte(i >> 16)}
				o := square.Order{
					Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: "echo", Mode: square.ModeStream, Spec: offer.Spec,
					Denom: square.Denom, Escrow: 1000, MaxRates: rates, JobValue: 100, Policy: square.PolicyAudit, Lanes: 8, Units: 1,
					Start: 20, Idle: 3600, Duration: 3600, Challenge: 60, Drain: 60, Expiry: time.Now().Unix() + 600, Salt: salt,
				}
				q := square.Quote{
					Provider: provider.Address(), Order: o.ID(d), Offer: offer.ID(d), Rates: rates, Bond: 100, Ready: true,
					Expiry: time.Now().Unix() + 25, Nonce: salt,
				}
				r, err := from.OpenLease(ctx, o, q, provider.Sign(q.Digest(d)))
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				gas = max(gas, r.Gas)
				mu.Unlock()
			}
		})
	}
	for i := range b.N {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leases/s")
	b.ReportMetric(float64((host.Used().CPU-used).Microseconds())/float64(b.N), "cpu-µs/lease")
	b.ReportMetric(float64(gas), "gas/lease")
}

// BenchmarkFirstBlock is from nothing to a ledger that has made a block.
func BenchmarkFirstBlock(b *testing.B) {
	for b.Loop() {
		n, err := devnet.Memory(b.Context(), devnet.Spec{Settings: node.Settings{BlockTime: 200 * time.Millisecond}})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		n.Stop()
		b.StartTimer()
	}
}
