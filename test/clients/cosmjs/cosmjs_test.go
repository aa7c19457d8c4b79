// Package cosmjs_test runs CosmJS, unmodified, against a real ledger of one
// validator. It is a package of its own since it links the ledger.
package cosmjs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
)

func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI=true allows no skipping", what)
	}
	t.Skip("1 outside client was not tested: CosmJS: " + what)
}

func TestCosmJS(t *testing.T) {
	bin, err := exec.LookPath("node")
	if err != nil {
		lack(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join("..", "node_modules", "@cosmjs", "stargate")); err != nil {
		lack(t, "the npm packages are not installed (npm --prefix test/clients ci)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	// A free port: the RPC's address is given before it is opened.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := ln.Addr().String()
	ln.Close()
	rules := []trade.Rules{infer.Rules{}}
	n, err := devnet.Memory(ctx, devnet.Spec{Trades: rules, Settings: node.Settings{BlockTime: 50 * time.Millisecond, RPC: rpc}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	c, err := client.New(ctx, n, client.Options{Trades: rules})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	// A provider with an offer, and its quote on an order that CosmJS will place.
	buyer, seller := devnet.Key(1), devnet.Key(2)
	account := c.Account(seller)
	rates := []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 100}, {Unit: infer.UnitCompletion, PerMillion: 200}}
	offer := square.Offer{Provider: seller.Address(), Trade: infer.Name, Spec: square.Hash{7}, Subject: "a model", Denom: square.Denom,
		Rates: rates, Capacity: 8, Endpoint: "http://127.0.0.1:1", Expiry: time.Now().Unix() + 3600, Nonce: 1}
	if _, err := account.Bond(ctx, infer.Name, square.Utorg(1_000_000_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := account.PostOffer(ctx, offer); err != nil {
		t.Fatal(err)
	}
	order := square.Order{Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: infer.Name, Mode: square.ModeStream, Spec: offer.Spec,
		Denom: square.Denom, Escrow: 900_719_925_477, MaxRates: rates, JobValue: 1000, Policy: square.PolicyAudit, Lanes: 2, Units: 1,
		Start: 20, Idle: 60, Duration: 3600, Challenge: 60, Drain: 2, Expiry: time.Now().Unix() + 60, Salt: square.Hash{1, 2, 3}}
	quote := square.Quote{Provider: seller.Address(), Order: order.ID(c.Domain()), Offer: offer.ID(c.Domain()), Rates: rates, Bond: 100_000,
		Ready: true, Expiry: time.Now().Unix() + square.QuoteTTL, Nonce: square.Hash{9}}
	sig := seller.Sign(quote.Digest(c.Domain()))

	to := devnet.Key(5).Address()
	had, err := c.Balance(ctx, to, square.Denom)
	if err != nil {
		t.Fatal(err)
	}
	const fee = 5000
	in, err := json.Marshal(map[string]any{
		"mnemonic": devnet.Mnemonic, "rpc": "http://" + rpc, "to": to.String(), "order": order, "quote": quote, "signature": sig,
		"fee": []map[string]string{{"denom": square.Denom, "amount": fmt.Sprint(fee)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, bin, "cosmjs.mjs")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "TORG_IN="+string(in), "NO_COLOR=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	type result struct {
		Code int
		Log  string
	}
	var got struct {
		Address             square.Address
		Sent, Opened, Again result
		Sequence            int
		Pubkey              string
		Before, After       uint64 `json:",string"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.Address != buyer.Address() {
		t.Errorf("CosmJS's account is %s, ours %s", got.Address, buyer.Address())
	}
	if got.Sent.Code != 0 || got.Opened.Code != 0 {
		t.Fatalf("send %+v, open %+v", got.Sent, got.Opened)
	}
	if got.Again.Code == 0 {
		t.Error("the same quote opened a second lease")
	}
	if !strings.Contains(strings.ToLower(got.Pubkey), "eth") {
		t.Errorf("the account's key is a %q", got.Pubkey)
	}
	has, err := c.Balance(ctx, to, square.Denom)
	if err != nil || has.Units != had.Units+12345 {
		t.Errorf("received %d, %v", has.Units-had.Units, err)
	}
	// Two transactions paid a fee for certain; the refused one may have.
	spent := got.Before - got.After
	if want := 12345 + order.Escrow + 2*fee; spent != want && spent != want+fee {
		t.Errorf("spent %d, want %d (or a fee more)", spent, want)
	}
	l, err := c.Lease(ctx, order.ID(c.Domain()))
	if err != nil || l.State != market.Active || l.Provider != seller.Address() || l.Escrow != order.Escrow {
		t.Errorf("the lease is %+v, %v", l, err)
	}
}
