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

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// A flood lasts for so long, and on a slow machine until so many honest redeems have
// found a block.
const (
	floodTime     = 20 * time.Second
	floodRedeems  = 10
	floodLeases   = 600 // of the flooder's
	floodAccounts = 2000
	floodGas      = 500_000
)

// floodKinds are the floods that an honest provider's redeem is sent into.
var floodKinds = []struct {
	what   string
	at     int // senders at once
	send   func(f *flooder, ctx context.Context, i int) error
	stuffs bool // the flooder proposes three of ten blocks, and floods those alone
}{
	{"sends", 200, (*flooder).transfer, false},
	{"redeems", floodLeases, (*flooder).redeem, false},    // with nearer deadlines
	{"accounts", floodAccounts, (*flooder).accuse, false}, // by a deadline as near
	{"proofs", 4, (*flooder).prove, false},                // of a megabyte
	{"49M-redeems", 64, (*flooder).redeemForMuch, false},  // half of a block each
	{"stuffing", floodLeases, (*flooder).redeem, true},
}

// benchFlood measures how long an honest provider's redeem waits while somebody
// fills the ledger, in each way from a fresh one: with transfers; with redeems on own
// leases whose deadlines are nearer; from thousands of accounts; with proofs of a
// megabyte; with redeems that want half a block; as a proposer. Reported are each, the
// worst, and what the dearest flood cost and did.
func benchFlood(ctx context.Context, cfg config, _ string, report func(measure)) error {
	blockTime, err := cfg.duration("block-time")
	if err != nil {
		return err
	}
	all := startWatch()
	var worst flooded
	for _, k := range floodKinds {
		sw := startWatch()
		r, err := flood(ctx, blockTime, k.at, k.send, k.stuffs)
		if err != nil {
			return fmt.Errorf("flood of %s: %w", k.what, err)
		}
		cpu, wall := sw.stop()
		report(measure{"flood/" + k.what + "/honest-delay-blocks", float64(r.delay), "blocks", cpu, wall})
		report(measure{"flood/" + k.what + "/admission-blocks", float64(r.admission), "blocks", 0, 0})
		report(measure{"flood/" + k.what + "/cost-per-block", r.perBlock, "TORG", 0, 0})
		worst.delay = max(worst.delay, r.delay)
		worst.admission = max(worst.admission, r.admission)
		worst.perBlock = max(worst.perBlock, r.perBlock)
		worst.lag = max(worst.lag, r.lag)
		worst.spent = max(worst.spent, r.spent)
	}
	cpu, wall := all.stop()
	report(measure{"flood/honest-delay-blocks", float64(worst.delay), "blocks", cpu, wall})
	report(measure{"flood/admission-blocks", float64(worst.admission), "blocks", 0, 0})
	report(measure{"flood/cost-per-block", worst.perBlock, "TORG", 0, 0})
	report(measure{"flood/clock-lag", float64(worst.lag), "s", 0, 0})
	report(measure{"flood/profit", -worst.spent, "TORG", 0, 0})
	return nil
}

// flooded is what a flood did.
type flooded struct {
	delay     int64   // of honest redeems once they were let into the pool, at worst, in blocks
	admission int64   // until they were, at worst, in blocks
	perBlock  float64 // what the flooder paid, TORG
	spent     float64
	lag       int64 // by how much the clock stood, in seconds
}

// floodedNode is the ledger that is flooded.
type floodedNode interface {
	client.Node
	Height() int64
	Stop()
}

// flooder fills blocks: it owns leases on both sides, so that what it redeems it
// pays to itself.
type flooder struct {
	c      *client.Client
	key    square.Key
	crowd  []square.Key // its other accounts
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

// accuse takes a place by the deadline of a lease, as anybody may who has something
// against it, and has nothing.
func (f *flooder) accuse(ctx context.Context, i int) error {
	return f.submitFrom(ctx, f.crowd[i], floodGas-70_000, &marketv1.MsgChallenge{Challenger: f.crowd[i].Address().String(), Lease: f.leases[0].id.String()})
}

func (f *flooder) redeemForMuch(ctx context.Context, i int) error {
	return f.submit(ctx, 49_000_000, f.leases[i].claim(f.c, 1))
}

func (f *flooder) submit(ctx context.Context, gas uint64, m proto.Message) error {
	return f.submitFrom(ctx, f.key, gas, m)
}

func (f *flooder) submitFrom(ctx context.Context, key square.Key, gas uint64, m proto.Message) error {
	before, err := f.c.Head(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	_, err = f.c.Account(key).Submit(ctx, gas, m)
	var refused *client.Refused
	switch {
	case ctx.Err() != nil || errors.Is(err, client.ErrExpired):
		return nil // a flood has no need of success
	case errors.As(err, &refused) || errors.Is(err, client.ErrBusy):
		_ = f.c.WaitHeight(ctx, before.Height+1) // there is room again in the next block, or no more time
		return nil
	}
	return err
}

func flood(ctx context.Context, blockTime time.Duration, at int, send func(*flooder, context.Context, int) error, stuffs bool) (r flooded, err error) {
	f := &flooder{key: devnet.Key(2)}
	balances := benchBalances()
	for i := range floodAccounts {
		k, err := square.KeyFromBytes(append(make([]byte, 29), 1, byte(i>>8), byte(i)))
		if err != nil {
			return r, err
		}
		f.crowd = append(f.crowd, k)
		balances = append(balances, ledger.Balance{Owner: k.Address(), Amount: square.Utorg(10_000 * square.UnitsPerTorg)})
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer func() {
		if err != nil && context.Cause(ctx) != nil {
			err = context.Cause(ctx)
		}
	}()
	var n floodedNode
	start := func() {}
	if stuffs {
		s, err := stuff(ctx, fail, blockTime, balances, f.key.Address())
		if err != nil {
			return r, err
		}
		n, start = s, s.attack
	} else if n, err = devnet.Memory(ctx, devnet.Spec{Trades: trades(), Balances: balances, Settings: ledgernode.Settings{BlockTime: blockTime}}); err != nil {
		return r, err
	}
	defer n.Stop()
	c, err := client.New(ctx, n, client.Options{Trades: trades()})
	if err != nil {
		return r, err
	}
	defer c.Close()
	f.c = c
	honest, err := openLeases(ctx, c, devnet.Key(1), devnet.Key(3), 1, 24*time.Hour)
	if err != nil {
		return r, err
	}
	if f.leases, err = openLeases(ctx, c, devnet.Key(4), f.key, floodLeases, time.Hour); err != nil {
		return r, err
	}
	before, err := f.wealth(ctx)
	if err != nil {
		return r, err
	}
	first, err := c.Block(ctx)
	if err != nil {
		return r, err
	}
	from := n.Height()
	start()

	run, stop := context.WithCancel(ctx)
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
	defer stop()
	if err := c.WaitHeight(ctx, from+5); err != nil {
		return r, err
	}
	for began, done := time.Now(), 0; done < floodRedeems || time.Since(began) < floodTime; done++ {
		admission, delay, err := redeemHonestly(ctx, n, c, &honest[0])
		if err != nil {
			return r, fmt.Errorf("honest redeem: %w", err)
		}
		r.admission, r.delay = max(r.admission, admission), max(r.delay, delay)
	}
	stop()
	wg.Wait()
	blocks := n.Height() - from
	last, err := c.Block(ctx)
	if err != nil {
		return r, err
	}
	after, err := f.wealth(ctx)
	if err != nil {
		return r, err
	}
	r.lag, r.spent = last.Lag-first.Lag, before-after
	r.perBlock = r.spent / float64(max(1, blocks))
	return r, errors.Join(errs...)
}

// redeemHonestly redeems some more of a lease, and tells for how many blocks it was
// not let into the pool, and how many it then took until a block had it.
func redeemHonestly(ctx context.Context, n floodedNode, c *client.Client, l *benchLease) (admission, delay int64, err error) {
	v := l.claim(c, 20_000).Claims[0]
	claims := []client.Claim{{Amount: v.Amount, Voucher: square.Voucher{Max: v.Max, Sig: square.Signature(v.Signature)}}}
	for first := n.Height(); ; {
		// It is in the pool for the block after the one that was last.
		sent := n.Height()
		res, err := c.Account(l.provider).Redeem(ctx, l.id, claims, false)
		var refused *client.Refused
		if errors.As(err, &refused) && refused.Height == 0 {
			if err := c.WaitHeight(ctx, sent+1); err != nil {
				return 0, 0, err
			}
			continue
		}
		return sent - first, res.Height - sent, err
	}
}

// wealth is what the flooder has, in TORG, but for what its leases hold.
func (f *flooder) wealth(ctx context.Context) (sum float64, err error) {
	for _, k := range append(slices.Clone(f.crowd), f.key) {
		b, err := f.c.Balance(ctx, k.Address(), square.Denom)
		if err != nil {
			return 0, err
		}
		sum += float64(b.Units) / square.UnitsPerTorg
	}
	return sum, nil
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
			Denom: square.Denom, Escrow: 10_000_000, MaxRates: benchRates, JobValue: 10_000, Policy: square.PolicyAudit, Lanes: 1, Units: 1,
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
