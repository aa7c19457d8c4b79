package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
)

// soldAt is what the test tells a provider's process.
type soldAt struct {
	Key, Dir, Listen, RPC, Endpoint string
}

// provideForTest is a provider in a process of its own, to be killed. It sells
// a model that talks slowly and for long.
func provideForTest() {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var at soldAt
	die(json.Unmarshal([]byte(os.Args[1]), &at))
	var h square.Hash
	die(h.UnmarshalText([]byte(at.Key)))
	key, err := square.KeyFromBytes(h[:])
	die(err)
	ctx := context.Background()
	cl, err := client.Dial(ctx, at.RPC, client.Options{Trades: trades()})
	die(err)
	n, err := node.Open(ctx, node.Config{
		Key: key, ChainID: cl.ChainID(), Ledger: providerView{chainView{cl, cl.Account(key)}}, Dir: at.Dir, Listen: at.Listen,
		Trades: []seller.Trade{provider.New(provider.Config{Services: []provider.Service{{Engine: infertest.Toy{Name: "slow", Pace: 20 * time.Millisecond}, Price: provider.Price{Rates: cheap, Denom: square.Denom, Capacity: 16}}}})},
		Log:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	die(err)
	die(n.Run(ctx))
}
