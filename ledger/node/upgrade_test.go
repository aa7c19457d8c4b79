package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// Governance schedules an upgrade; the program that does not know it stops at
// its height and says why, as does one that knows it too early; the one that
// knows it goes on with the same state, changed as the upgrade says, once.
func TestUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a vote")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	voter := devnet.Key(0)
	homes, err := devnet.InitHomes(t.TempDir(), 1, devnet.Spec{
		Operators: []square.Address{voter.Address()}, Settings: node.Settings{BlockTime: 50 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	home := homes[0]
	hurryVotes(t, filepath.Join(string(home), "genesis.json"))
	friend := devnet.Key(5).Address()
	ran := 0
	second := []ledger.Upgrade{{Name: "second", Run: func(ctx context.Context, a *ledger.App) error {
		ran++
		from, to := voter.Address(), friend
		return a.Bank.SendCoins(ctx, from[:], to[:], sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 3)))
	}}}

	n, err := node.Open(ctx, home, node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.WaitHeight(ctx, 1); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(ctx, n, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.Balance(ctx, friend, square.Denom)
	if err != nil {
		t.Fatal(err)
	}
	plan := upgradetypes.Plan{Name: "second", Height: n.Height() + 150}
	propose, err := govv1.NewMsgSubmitProposal([]sdk.Msg{&upgradetypes.MsgSoftwareUpgrade{Authority: ledger.Authority(), Plan: plan}},
		sdk.NewCoins(sdk.NewCoin(square.Denom, math.NewInt(1000))), voter.Address().String(), "", "second", "the second rules", false)
	if err != nil {
		t.Fatal(err)
	}
	a := c.Account(voter)
	if _, err := a.Submit(ctx, 1_000_000, propose); err != nil {
		t.Fatal(err)
	}
	owner := voter.Address()
	if _, err := a.Submit(ctx, 1_000_000, govv1.NewMsgVote(owner[:], 1, govv1.OptionYes, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bond(ctx, "infer", square.Utorg(7)); err != nil {
		t.Fatal(err)
	}
	// The old program makes the block before and not the block of the plan.
	stopsAt := func(n *node.Node, height int64) {
		t.Helper()
		select {
		case <-n.Done():
		case <-ctx.Done():
			t.Fatalf("still making blocks at %d, the plan is for %d", n.Height(), plan.Height)
		}
		if err := n.Err(); !errors.Is(err, ledger.ErrUpgrade) || !strings.Contains(err.Error(), "second") || n.Height() > height {
			t.Fatalf("at block %d: %v", n.Height(), err)
		}
		n.Stop()
	}
	if err := n.WaitHeight(ctx, plan.Height-30); err != nil {
		t.Fatal(err)
	}
	c.Close()
	n.Stop()
	early, err := node.Open(ctx, home, node.Options{Upgrades: second})
	if err != nil {
		t.Fatal(err)
	}
	stopsAt(early, plan.Height-1)
	for range 3 { // from the second time on it stops at once, or does not open
		n, err := node.Open(ctx, home, node.Options{})
		if err == nil {
			stopsAt(n, plan.Height-1)
		} else if !errors.Is(err, ledger.ErrUpgrade) || !strings.Contains(err.Error(), "second") {
			t.Fatal(err)
		}
	}
	for range 2 {
		n, err := node.Open(ctx, home, node.Options{Upgrades: second})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.WaitHeight(ctx, max(n.Height(), plan.Height)+3); err != nil {
			t.Fatal(err)
		}
		c, err := client.New(ctx, n, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		after, err := c.Balance(ctx, friend, square.Denom)
		if err != nil || after.Units != before.Units+3 || ran != 1 {
			t.Errorf("friend has %v after %v, the upgrade ran %d times: %v", after, before, ran, err)
		}
		stakes, _, err := c.Stakes(ctx, owner, "infer", client.Page{})
		if err != nil || len(stakes) != 1 {
			t.Errorf("stakes %v: %v", stakes, err)
		}
		c.Close()
		n.Stop()
	}
}

// hurryVotes makes votes end after a second and cost little.
func hurryVotes(t *testing.T, genesis string) {
	t.Helper()
	b, err := os.ReadFile(genesis)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	p := doc["app_state"].(map[string]any)["gov"].(map[string]any)["params"].(map[string]any)
	p["voting_period"], p["expedited_voting_period"] = "2s", "1s"
	p["min_deposit"] = []any{map[string]any{"denom": square.Denom, "amount": "1000"}}
	if b, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(genesis, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
