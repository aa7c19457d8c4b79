// Package ledger_test runs wallets, unmodified, against a real ledger of one
// validator: CosmJS sends and opens a lease, viem funds and pays from a channel.
// It is a package of its own since it links the ledger.
package ledger_test

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
	t.Skip("1 outside client was not tested: " + what)
}

// script runs a script of the folder above with what it is told in TORG_IN, and
// reads what it prints into out.
func script(ctx context.Context, t *testing.T, name, needs string, in, out any) {
	t.Helper()
	bin, err := exec.LookPath("node")
	if err != nil {
		lack(t, needs+": node is not installed")
	}
	if _, err := os.Stat(filepath.Join("..", "node_modules", needs)); err != nil {
		lack(t, needs+": the npm packages are not installed (npm --prefix test/clients ci)")
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, bin, name)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "TORG_IN="+string(text), "NO_COLOR=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", name, err, printed, stderr.String())
	}
	if err := json.Unmarshal(printed, out); err != nil {
		t.Fatalf("%s: %v: %s", name, err, printed)
	}
}

// openLedger starts a ledger and a client of it, and says where its RPC is.
func openLedger(ctx context.Context, t *testing.T) (c *client.Client, rpc string) {
	t.Helper()
	// A free port: the RPC's address is given before it is opened.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc = ln.Addr().String()
	ln.Close()
	rules := []trade.Rules{infer.Rules{}}
	n, err := devnet.Memory(ctx, devnet.Spec{Trades: rules, Settings: node.Settings{BlockTime: 50 * time.Millisecond, RPC: rpc}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	if c, err = client.New(ctx, n, client.Options{Trades: rules}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, rpc
}

func TestCosmJS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, rpc := openLedger(ctx, t)

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
		Start: 60, Idle: 60, Duration: 3600, Challenge: 60, Drain: 60, Expiry: time.Now().Unix() + 60, Salt: square.Hash{1, 2, 3}}
	quote := square.Quote{Provider: seller.Address(), Order: order.ID(c.Domain()), Offer: offer.ID(c.Domain()), Spec: offer.Spec, Rates: rates, Bond: 400_000,
		Ready: true, Expiry: time.Now().Unix() + square.QuoteTTL, Nonce: square.Hash{9}}
	sig := seller.Sign(quote.Digest(c.Domain()))

	to := devnet.Key(5).Address()
	had, err := c.Balance(ctx, to, square.Denom)
	if err != nil {
		t.Fatal(err)
	}
	const fee = 5000
	in := map[string]any{
		"mnemonic": devnet.Mnemonic, "rpc": "http://" + rpc, "to": to.String(), "order": order, "quote": quote, "signature": sig,
		"fee": []map[string]string{{"denom": square.Denom, "amount": fmt.Sprint(fee)}},
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
	script(ctx, t, "cosmjs.mjs", "@cosmjs/stargate", in, &got)
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

// TestViem: a deposit and a voucher that viem signed are carried to the ledger
// by others, and pay.
func TestViem(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, _ := openLedger(ctx, t)
	payer, receiver, carrier := devnet.Key(3), devnet.Key(4), c.Account(devnet.Key(5))
	config := square.ChannelConfig{Payer: payer.Address(), PayerAuthorizer: payer.Address(), Receiver: receiver.Address(),
		ReceiverAuthorizer: receiver.Address(), Token: square.TokenAddress(square.Denom), WithdrawDelay: 900, Salt: square.Hash{6}}
	const funded, promised = 5_000_000, 1_234_567
	nonce, expiry := square.Hash{31: 1}, time.Now().Unix()+600
	hex := func(h square.Hash) string { return "0x" + h.String() }
	id := config.ID(c.ChannelDomain())
	var got struct {
		ChannelID        square.Hash
		Voucher, Deposit square.Signature
	}
	script(ctx, t, "viem.mjs", "viem", map[string]any{
		"key": fmt.Sprintf("0x%x", payer.Bytes()), "chainId": square.NetworkID(c.ChainID()), "contract": square.ChannelContract.Hex(),
		"ledgerSalt": hex(square.Keccak([]byte(c.ChainID()))), "max": fmt.Sprint(promised),
		"channel": map[string]any{"payer": config.Payer.Hex(), "payerAuthorizer": config.Payer.Hex(), "receiver": config.Receiver.Hex(),
			"receiverAuthorizer": config.Receiver.Hex(), "token": config.Token.Hex(), "withdrawDelay": config.WithdrawDelay, "salt": hex(config.Salt)},
		"deposit": map[string]any{"owner": config.Payer.Hex(), "channel": hex(id), "receiver": config.Receiver.Hex(),
			"denom": square.Denom, "amount": fmt.Sprint(funded), "nonce": hex(nonce), "expiry": fmt.Sprint(expiry)},
	}, &got)
	if got.ChannelID != id {
		t.Fatalf("viem's channel is %s, ours %s", got.ChannelID, id)
	}
	balance := func(k square.Key) uint64 {
		t.Helper()
		a, err := c.Balance(ctx, k.Address(), square.Denom)
		if err != nil {
			t.Fatal(err)
		}
		return a.Units
	}
	hadPayer, hadReceiver := balance(payer), balance(receiver)
	auth := &client.Authorization{Nonce: nonce, Expiry: expiry, Sig: got.Deposit}
	if _, err := carrier.Deposit(ctx, config, square.Utorg(funded+1), auth); err == nil {
		t.Fatal("a deposit of more than was signed went through")
	}
	if _, err := carrier.Deposit(ctx, config, square.Utorg(funded), auth); err != nil {
		t.Fatal(err)
	}
	if _, err := carrier.Deposit(ctx, config, square.Utorg(funded), auth); err == nil {
		t.Fatal("the same deposit went through twice")
	}
	if now := balance(payer); now != hadPayer-funded {
		t.Errorf("the payer is %d poorer, not %d", hadPayer-now, funded)
	}
	claim := func(amount, max uint64) error {
		_, err := c.Account(receiver).ClaimChannels(ctx, []client.ChannelClaim{{Amount: amount, Voucher: square.Voucher{Channel: id, Max: max, Sig: got.Voucher}}})
		return err
	}
	if claim(promised+1, promised+1) == nil {
		t.Error("more was claimed than viem promised")
	}
	if err := claim(1_000_000, promised); err != nil {
		t.Fatal(err)
	}
	// It has paid the fee of its claim.
	if got := balance(receiver) - hadReceiver; got >= 1_000_000 || got < 990_000 {
		t.Errorf("the receiver has %d more, not 1000000 less a fee", got)
	}
}
