package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/tradetest"
	"github.com/torg-network/torg/trade/tradetest/echo"
)

// TestTradesOnLedger runs the suites of package tradetest, of inference and of the
// example, on one embedded ledger with blocks every 50 ms: what the trades themselves
// try on a ledger in memory.
func TestTradesOnLedger(t *testing.T) {
	t.Parallel()
	p := market.Default()
	p.Notice, p.Answer, p.DisputeCost, p.JudgeFee = 1, 20, 0, 0
	rules := []trade.Rules{echo.Rules{}, infertest.Rules}
	n, err := devnet.Memory(t.Context(), devnet.Spec{Settings: ledgernode.Settings{BlockTime: 50 * time.Millisecond}, Trades: rules, Market: &p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	cl, err := client.New(t.Context(), n, client.Options{Trades: rules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	l := &embedded{node: n, cl: cl, fees: map[string]uint64{}}
	on := func(t *testing.T) tradetest.Ledger { return l }
	var trying sync.WaitGroup
	trying.Go(func() { t.Run("infer", func(t *testing.T) { tradetest.RunStreams(t, infertest.Streams(), on) }) })
	trying.Go(func() {
		t.Run("echo", func(t *testing.T) {
			tradetest.Run(t, tradetest.Kit{
				Rules: echo.Rules{}, Worker: echo.Worker{Rate: 10_000_000, Places: 8}, Buyer: echo.Buyer{},
				Order: square.Order{
					Trade: "echo", Spec: echo.Spec, JobValue: 10_000,
					MaxRates: []square.Rate{{Unit: "bytes", PerMillion: 30_000_000}},
				},
				Job:   func(n int) []byte { return fmt.Appendf(nil, "hello %d, who is there?", n) },
				Wrong: func(result []byte) []byte { return append([]byte("x"), result[1:]...) },
			}, on)
		})
	})
	trying.Wait()
	if sup, err := cl.Supply(t.Context(), square.Denom); err != nil || !sup.Balanced {
		t.Errorf("the pots do not sum: %+v, %v", sup, err)
	}
}

// embedded is a ledger in this process, as package tradetest tries trades on it.
type embedded struct {
	node *ledgernode.Node
	cl   *client.Client

	mu   sync.Mutex
	read int64             // the newest block whose fees are counted
	fees map[string]uint64 // by who has paid them
}

// everyone is the ledger as an account reaches it that sells and buys.
type everyone struct {
	chainView
	providerView
	buyerView
}

func (l *embedded) ChainID() string { return l.cl.ChainID() }

func (l *embedded) Open(k square.Key, trade string, units, stake uint64) (tradetest.Account, error) {
	ctx := context.Background()
	if _, err := l.cl.Account(devnet.Key(1)).Send(ctx, k.Address(), square.Utorg(units)); err != nil {
		return nil, fmt.Errorf("give an account its money: %w", err)
	}
	a := l.cl.Account(k)
	if stake > 0 {
		if _, err := a.Bond(ctx, trade, square.Utorg(stake)); err != nil {
			return nil, fmt.Errorf("stake: %w", err)
		}
	}
	v := chainView{l.cl, a}
	return everyone{v, providerView{v}, buyerView{v}}, nil
}

func (l *embedded) Leases(buyer square.Address) ([]market.Lease, error) {
	ls, _, err := l.cl.Leases(context.Background(), client.LeaseFilter{Buyer: buyer}, client.Page{Limit: 1000})
	out := make([]market.Lease, len(ls))
	for i := range ls {
		out[i] = ls[i].Lease
	}
	return out, err
}

// Holds reads money and fees until neither has changed for two blocks: the one is
// asked of the newest state, the other of the newest block that was announced.
func (l *embedded) Holds(a square.Address, trade string) (units, fees uint64, err error) {
	ctx := context.Background()
	for same := false; !same; {
		had, paid := units, fees
		if err := l.cl.WaitHeight(ctx, l.node.Height()+2); err != nil {
			return 0, 0, err
		}
		if fees, err = l.paid(ctx, a); err != nil {
			return 0, 0, err
		}
		b, err := l.cl.Balance(ctx, a, square.Denom)
		if err != nil {
			return 0, 0, err
		}
		stakes, _, err := l.cl.Stakes(ctx, a, trade, client.Page{})
		if err != nil {
			return 0, 0, err
		}
		units = b.Units
		for _, s := range stakes {
			units += s.Total
		}
		same = units == had && fees == paid
	}
	return units, fees, nil
}

// paid is what an account's transactions have cost, also those that failed.
func (l *embedded) paid(ctx context.Context, a square.Address) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for newest := l.node.Height(); l.read < newest; l.read++ {
		h := l.read + 1
		b, err := l.node.RPC().BlockResults(ctx, &h)
		if err != nil {
			return 0, fmt.Errorf("fees of block %d: %w", h, err)
		}
		for _, tx := range b.TxsResults {
			for _, e := range tx.Events {
				if e.Type != sdk.EventTypeTx {
					continue
				}
				var payer, fee string
				for _, at := range e.Attributes {
					switch at.Key {
					case sdk.AttributeKeyFeePayer:
						payer = at.Value
					case sdk.AttributeKeyFee:
						fee = at.Value
					}
				}
				coins, err := sdk.ParseCoinsNormalized(fee)
				if err != nil {
					return 0, fmt.Errorf("a fee of %q: %w", fee, err)
				}
				l.fees[payer] += coins.AmountOf(square.Denom).Uint64()
			}
		}
	}
	return l.fees[a.String()], nil
}

// Conserved asks the ledger to audit itself, between two blocks.
func (l *embedded) Conserved() error {
	ctx := context.Background()
	sup, err := l.cl.Supply(ctx, square.Denom)
	if err != nil {
		return err
	}
	if !sup.Balanced || sup.Accounts+sup.Escrow+sup.Stake+sup.Challenges+sup.Channels+sup.Treasury+sup.Validators+sup.Other != sup.Total {
		return fmt.Errorf("the pots do not sum: %+v", sup)
	}
	if sup.Total == 0 {
		return errors.New("the ledger has no money")
	}
	return nil
}

// Pass does nothing: time passes by itself.
func (l *embedded) Pass(time.Duration) bool { return false }
