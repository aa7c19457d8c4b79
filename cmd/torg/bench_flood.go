package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cosmos/gogoproto/proto"

	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

const (
	floodTime   = 20 * time.Second
	floodLeases = 320 // of the flooder's; a block holds half of their redeems
	floodGas    = 500_000
)

// benchFlood measures how long an honest provider's redeem waits while somebody
// fills the ledger: with transfers, with redeems on own leases whose deadlines
// are nearer, and with proofs of a megabyte, each from a fresh ledger. Reported
// are the worst, and what the dearest flood cost and did.
func benchFlood(ctx context.Context, cfg config, _ string, report func(measure)) error {
	blockTime, err := cfg.duration("block-time")
	if err != nil {
		return err
	}
	sw := startWatch()
	var worst flooded
	for _, f := range []struct {
		what string
		send func(*flooder, context.Context, int) error
		at   int
	}{
		{"sends", (*flooder).transfer, 200},
		{"redeems", (*flooder).redeem, floodLeases},
		{"proofs", (*flooder).prove, 4},
	} {
		r, err := flood(ctx, blockTime, f.at, f.send)
		if err != nil {
			return fmt.Errorf("flood of %s: %w", f.what, err)
		}
		report(measure{"flood/" + f.what + "/honest-delay-blocks", float64(r.delay), "blocks", 0, 0})
		worst.delay = max(worst.delay, r.delay)
		worst.perBlock = max(worst.perBlock, r.perBlock)
		worst.lag = max(worst.lag, r.lag)
		worst.spent = max(worst.spent, r.spent)
	}
	cpu, wall := sw.stop()
	report(measure{"flood/honest-delay-blocks", float64(worst.delay), "blocks", cpu, wall})
	report(measure{"flood/cost-per-block", worst.perBlock, "TORG", 0, 0})
	report(measure{"flood/clock-lag", float64(worst.lag), "s", 0, 0})
	report(measure{"flood/profit", -worst.spent, "TORG", 0, 0})
	return nil
}

// flooded is what a flood did.
type flooded struct {
	delay    int64   // of honest redeems, at worst, in blocks
	perBlock float64 // what the flooder paid, TORG
	spent    float64
	lag      int64 // by how much the clock stood, in seconds
}

// flooder fills blocks: it owns leases on both sides, so that what it redeems it
// pays to itself.
type flooder struct {
	c      *client.Client
	key    square.Key
	leases []benchLease
}

// benchLease is an open lease and what its lane has been redeemed for.
type benchLease struct {
	order    square.Order
	id       square.Hash
	provider square.Key
	buyer    square.Key
	paid     uint64
}

// claim is a redeem of more than before.
func (l *benchLease) claim(c *client.Client, units uint64) *marketv1.MsgRedeem {
	l.paid += units
	d := c.ChannelDomain()
	v := square.SignVoucher(d, l.order.Channel(c.Domain(), l.provider.Address(), 0).ID(d), l.paid, l.buyer)
	return &marketv1.MsgRedeem{Sender: l.provider.Address().String(), Lease: l.id.String(), Claims: []marketv1.LaneClaim{{Amount: l.paid, Max: l.paid, Signature: v.Sig[:]}}}
}

func (f *flooder) transfer(ctx context.Context, _ int) error {
	from := f.key.Address()
	return f.submit(ctx, 4_500_000, &banktypes.MsgSend{FromAddress: from.String(), ToAddress: devnet.Key(9).Address().String(), Amount: sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 1))})
}

func (f *flooder) redeem(ctx context.Context, i int) error {
	return f.submit(ctx, floodGas-70_000, f.leases[i].claim(f.c, 1))
}

func (f *flooder) prove(ctx context.Context, i int) error {
	return f.submit(ctx, 1_000_000, &marketv1.MsgProve{Sender: f.key.Address().String(), Lease: f.leases[i].id.String(), Evidence: f.leases[i].id.String(), Proof: make([]byte, 1<<20)})
}

func (f *flooder) submit(ctx context.Context, gas uint64, m proto.Message) error {
	_, err := f.c.Account(f.key).Submit(ctx, gas, m)
	var refused *client.Refused
	if errors.As(err, &refused) || errors.Is(err, client.ErrExpired) || ctx.Err() != nil {
		return nil // a flood has no need of success
	}
	return err
}

func flood(ctx context.Context, blockTime time.Duration, at int, send func(*flooder, context.Context, int) error) (r flooded, err error) {
	n, err := devnet.Memory(ctx, devnet.Spec{Trades: trades(), Balances: benchBalances(), Settings: ledgernode.Settings{BlockTime: blockTime}})
	if err != nil {
		return r, err
	}
	defer n.Stop()
	c, err := client.New(ctx, n, client.Options{Trades: trades()})
	if err != nil {
		return r, err
	}
	defer c.Close()
	f := &flooder{c: c, key: devnet.Key(2)}
	honest, err := openLeases(ctx, c, devnet.Key(1), devnet.Key(3), 1, 24*time.Hour)
	if err != nil {
		return r, err
	}
	if f.leases, err = openLeases(ctx, c, devnet.Key(4), f.key, floodLeases, time.Hour); err != nil {
		return r, err
	}
	wealth := func() (float64, error) {
		b, err := c.Balance(ctx, f.key.Address(), square.Denom)
		return float64(b.Units) / square.UnitsPerTorg, err
	}
	before, err := wealth()
	if err != nil {
		return r, err
	}
	first, err := c.Block(ctx)
	if err != nil {
		return r, err
	}
	from := n.Height()

	run, stop := context.WithTimeout(ctx, floodTime)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, at)
	for i := range at {
		wg.Go(func() {
			for errs[i] == nil && run.Err() == nil {
				errs[i] = send(f, run, i)
			}
		})
	}
	defer wg.Wait()
	provider := c.Account(honest[0].provider)
	if err := c.WaitHeight(ctx, from+5); err != nil {
		return r, err
	}
	for run.Err() == nil {
		sent := n.Height()
		m := honest[0].claim(c, 2000)
		v := m.Claims[0]
		res, err := provider.Redeem(ctx, honest[0].id, []client.Claim{{Amount: v.Amount, Voucher: square.Voucher{Max: v.Max, Sig: square.Signature(v.Signature)}}}, false)
		if err != nil {
			return r, fmt.Errorf("honest redeem: %w", err)
		}
		// It is in the pool for the block after the one that was last.
		r.delay = max(r.delay, res.Height-sent)
	}
	wg.Wait()
	blocks := n.Height() - from
	last, err := c.Block(ctx)
	if err != nil {
		return r, err
	}
	after, err := wealth()
	if err != nil {
		return r, err
	}
	r.lag, r.spent = last.Lag-first.Lag, before-after
	r.perBlock = r.spent / float64(max(1, blocks))
	return r, errors.Join(slices.DeleteFunc(errs, func(e error) bool { return errors.Is(e, context.DeadlineExceeded) })...)
}

// openLeases opens n leases of one lane between two accounts.
func openLeases(ctx context.Context, c *client.Client, buyer, provider square.Key, n int, idle time.Duration) ([]benchLease, error) {
	a, d := c.Account(provider), c.Domain()
	if _, err := a.Bond(ctx, infer.Name, square.Utorg(benchBond/100)); err != nil {
		return nil, fmt.Errorf("bond: %w", err)
	}
	offer := square.Offer{Provider: provider.Address(), Trade: infer.Name, Spec: square.Hash{1}, Subject: "bench", Denom: square.Denom,
		Rates: benchRates, Capacity: 1 << 30, Endpoint: "http://127.0.0.1:1", Expiry: time.Now().Add(time.Hour).Unix(), Nonce: 1}
	if _, err := a.PostOffer(ctx, offer); err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	out := make([]benchLease, n)
	_, _, _, err := burst(n, min(n, 64), func(i int) error {
		now := time.Now()
		o := square.Order{Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: infer.Name, Mode: square.ModeStream, Spec: offer.Spec,
			Denom: square.Denom, Escrow: 1_000_000, MaxRates: benchRates, JobValue: 10_000, Policy: square.PolicyAudit, Lanes: 1, Units: 1,
			Start: 60, Idle: uint64(idle / time.Second), Duration: 86_400, Challenge: 60, Drain: 60, Expiry: now.Add(time.Minute).Unix(),
			Salt: square.Keccak([]byte("flood"), []byte{byte(i), byte(i >> 8)})}
		q := square.Quote{Provider: provider.Address(), Order: o.ID(d), Offer: offer.ID(d), Spec: offer.Spec, Rates: benchRates, Bond: 500_000,
			Ready: true, Expiry: now.Add(20 * time.Second).Unix(), Nonce: o.ID(d)}
		out[i] = benchLease{order: o, id: o.ID(d), provider: provider, buyer: buyer}
		_, err := c.Account(buyer).OpenLease(ctx, o, q, provider.Sign(q.Digest(d)))
		return err
	})
	return out, err
}
