package client_test

import (
	"sync"
	"sync/atomic"
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

// onDisk is a ledger that keeps its files, as a real one does, and its client.
func onDisk(b *testing.B, trades ...trade.Rules) *client.Client {
	b.Helper()
	var balances []ledger.Balance
	for i := range uint32(10) {
		balances = append(balances, ledger.Balance{Owner: devnet.Key(i).Address(), Amount: square.Utorg(1 << 50)})
	}
	homes, err := devnet.InitHomes(b.TempDir(), 1, devnet.Spec{Trades: trades, Balances: balances, Settings: node.Settings{BlockTime: 200 * time.Millisecond}})
	if err != nil {
		b.Fatal(err)
	}
	n, err := node.Open(b.Context(), homes[0], node.Options{Trades: trades})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Stop)
	if err := n.WaitHeight(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	c, err := client.New(b.Context(), n, client.Options{TTL: time.Minute + 50*time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// crowd does b.N pieces of work, so many at once, and reports the CPU of each.
func crowd(b *testing.B, at int, work func(i int) error) {
	b.Helper()
	b.ResetTimer()
	used := host.Used().CPU
	var next atomic.Int64
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for !b.Failed() {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				if err := work(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
	b.ReportMetric(float64((host.Used().CPU-used).Microseconds())/float64(b.N), "cpu-µs/tx")
}

// BenchmarkSend is transfers from eight accounts, each waited for:
// go test -run - -bench Send -benchtime 8000x ./ledger/client
func BenchmarkSend(b *testing.B) {
	c := onDisk(b)
	var from [8]*client.Account
	for i := range from {
		from[i] = c.Account(devnet.Key(uint32(i)))
	}
	crowd(b, 512, func(i int) error {
		_, err := from[i%len(from)].Send(b.Context(), square.Address{1}, square.Utorg(1))
		return err
	})
}

// BenchmarkOpenLease is leases of eight buyers with one provider:
// go test -run - -bench OpenLease -benchtime 4000x ./ledger/client
func BenchmarkOpenLease(b *testing.B) {
	c := onDisk(b, echo{})
	ctx := b.Context()
	provider := devnet.Key(8)
	rates := []square.Rate{{Unit: "byte", PerMillion: 1}}
	offer := square.Offer{
		Provider: provider.Address(), Trade: "echo", Spec: square.Hash{7}, Denom: square.Denom, Rates: rates,
		Capacity: 1 << 40, Expiry: time.Now().Unix() + 3600, Nonce: 1,
	}
	p := c.Account(provider)
	if _, err := p.Bond(ctx, "echo", square.Utorg(1<<49)); err != nil {
		b.Fatal(err)
	}
	if _, err := p.PostOffer(ctx, offer); err != nil {
		b.Fatal(err)
	}
	var from [8]*client.Account
	for i := range from {
		from[i] = c.Account(devnet.Key(uint32(i)))
	}
	d := c.Domain()
	var gas atomic.Int64
	crowd(b, 128, func(i int) error {
		buyer, salt := from[i%len(from)], square.Hash{byte(i), byte(i >> 8), byte(i >> 16)}
		o := square.Order{
			Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: "echo", Mode: square.ModeStream, Spec: offer.Spec,
			Denom: square.Denom, Escrow: 1_000_000, MaxRates: rates, JobValue: 10_000, Policy: square.PolicyAudit, Lanes: 8, Units: 1,
			Start: 60, Idle: 86_400, Duration: 86_400, Challenge: 60, Drain: 60, Expiry: time.Now().Unix() + 60, Salt: salt,
		}
		q := square.Quote{
			Provider: provider.Address(), Order: o.ID(d), Offer: offer.ID(d), Spec: offer.Spec, Rates: rates, Bond: 2_000_000, Ready: true,
			Expiry: time.Now().Unix() + 29, Nonce: salt,
		}
		r, err := buyer.OpenLease(ctx, o, q, provider.Sign(q.Digest(d)))
		gas.Store(r.Gas)
		return err
	})
	b.ReportMetric(float64(gas.Load()), "gas/lease")
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
