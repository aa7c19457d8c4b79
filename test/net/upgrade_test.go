//go:build linux

package net_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// TestUpgrade changes the program of all validators at a height that governance has
// chosen, of three in time and of the fourth later, while transactions come in
// everywhere.
func TestUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped 1 test: it takes a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	h := newHosts(t, 4)
	traffic := newTraffic(4)
	vs := newSquare(t, h, traffic)
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var ended []crash
	var plan upgradetypes.Plan
	play(t, ctx, vs, []step{
		{"start 4, wait for block 2", func() (string, error) {
			for _, v := range vs {
				if err := v.start(); err != nil {
					return "", err
				}
			}
			for _, v := range vs {
				if err := v.connect(ctx, client.Options{TTL: ttl}); err != nil {
					return "", err
				}
			}
			return "", reach(ctx, 2, vs...)
		}},
		{"send to all for 3 s", func() (string, error) {
			before := highest(ctx, vs...)
			traffic.start(sending, vs)
			time.Sleep(3 * time.Second)
			return blocks(highest(ctx, vs...) - before), nil
		}},
		{"vote for an upgrade", func() (string, error) {
			plan = upgradetypes.Plan{Name: "second", Height: highest(ctx, vs...) + upgradeAfter}
			hashes, err := vote(ctx, vs, plan)
			traffic.votes = append(traffic.votes, hashes...)
			return fmt.Sprintf("at block %d", plan.Height), err
		}},
		{"upgrade 0, 1, 2, 3 more blocks", func() (string, error) {
			// The program that does not know it ends at its height, everywhere. Who has
			// not got the block when too many others have ended sees no more blocks, and
			// ends because of that.
			told := 0
			for i, v := range vs {
				v.ending = true
				select {
				case <-v.exited:
				case <-ctx.Done():
					return "", fmt.Errorf("validator %d goes on at block %d: %w", i, v.height(ctx), ctx.Err())
				}
				switch said := v.tail(200); {
				case strings.Contains(said, "error: "+ledger.ErrUpgrade.Error()):
					told++
				case !strings.Contains(said, "error: "+node.ErrStalled.Error()):
					return "", fmt.Errorf("validator %d does not say why it ended: %s", i, v.tail(5))
				}
			}
			if told == 0 {
				return "", errors.New("no validator says that it needs another program")
			}
			for i := range vs {
				ended = append(ended, crash{victim: i, from: time.Now().Add(-stalled - upgradeLoss), at: time.Now()})
			}
			for _, v := range vs[:3] {
				v.upgrade = plan.Name
				if err := v.start(); err != nil {
					return "", err
				}
			}
			return "", reach(ctx, plan.Height+3, vs[:3]...)
		}},
		{"upgrade 3, wait until it caught up", func() (string, error) {
			vs[3].upgrade = plan.Name
			if err := vs[3].start(); err != nil {
				return "", err
			}
			if err := catchUp(ctx, vs); err != nil {
				return "", err
			}
			// It changed the state once, on all of them.
			return "", each(vs, func(_ int, v *validator) error { return holds(ctx, v, gift, 3) })
		}},
		{"send to all for 3 s again", func() (string, error) {
			time.Sleep(3 * time.Second)
			for i := range vs {
				if traffic.count(committed, i, ended[len(ended)-1].at) == 0 {
					return "", fmt.Errorf("nothing via validator %d is in a block since the upgrade", i)
				}
			}
			return "", nil
		}},
		{"stop sending, wait for outcomes", func() (string, error) {
			stop()
			traffic.wg.Wait()
			return "", reach(ctx, highest(ctx, vs...)+2, vs...)
		}},
		{"audit", func() (string, error) { return audit(ctx, vs, traffic, ended) }},
	})
}

// An upgrade is due so many blocks after it is proposed. All validators end with it,
// the last when it has seen no block for as long as stalled, and what they had queued
// since just before the last block is gone with them.
const (
	upgradeAfter = 24
	upgradeLoss  = 10 * time.Second
)

// operator is the account of a validator's owner.
func operator(i int) square.Key { return devnet.Key(uint32(1000 + i)) }

// gift is who the upgrade gives something.
var gift = square.Address{'g', 'i', 'f', 't'}

// vote has governance decide on an upgrade. Proposal and vote are one transaction, so
// that no slow machine misses the time to vote.
func vote(ctx context.Context, vs []*validator, plan upgradetypes.Plan) ([]square.Hash, error) {
	first := operator(0).Address()
	propose, err := govv1.NewMsgSubmitProposal([]sdk.Msg{&upgradetypes.MsgSoftwareUpgrade{Authority: ledger.Authority(), Plan: plan}},
		sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 1000)), first.String(), "", "second", "the second rules", false)
	if err != nil {
		return nil, err
	}
	r, err := vs[0].Account(operator(0)).Submit(ctx, 2_000_000, propose, govv1.NewMsgVote(first[:], 1, govv1.OptionYes, ""))
	if err != nil {
		return nil, fmt.Errorf("propose and vote: %w", err)
	}
	return []square.Hash{r.Hash}, nil
}

// hurryVotes makes votes end soon and cost little.
func hurryVotes(home node.Home) error {
	file := filepath.Join(string(home), "genesis.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		return err
	}
	p := doc["app_state"].(map[string]any)["gov"].(map[string]any)["params"].(map[string]any)
	p["voting_period"], p["expedited_voting_period"] = "3s", "2s"
	p["quorum"] = "0.200000000000000000" // one of four validators is enough
	p["min_deposit"] = []any{map[string]any{"denom": square.Denom, "amount": "1000"}}
	if b, err = json.Marshal(doc); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
