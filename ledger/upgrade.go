package ledger

import (
	"context"
	"errors"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	upgradekeeper "github.com/cosmos/cosmos-sdk/x/upgrade/keeper"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"
)

// Upgrade is a change of the rules that governance schedules by name for a
// height. Before that height only programs without it make blocks, from it on
// only programs with it: all validators change over at one block.
type Upgrade struct {
	Name string
	// Run changes the state before the modules' own migrations; may be nil.
	Run func(context.Context, *App) error
}

// Upgrades are those that this program knows, oldest first. An entry stays as
// long as a ledger that ran it may be opened. The first release has none.
var Upgrades []Upgrade

// ErrUpgrade says that this program is not the one the ledger's next block
// needs.
var ErrUpgrade = errors.New("another version of torg is needed")

func (a *App) setUpgrades(k *upgradekeeper.Keeper, known []Upgrade) {
	for _, u := range known {
		k.SetUpgradeHandler(u.Name, func(ctx context.Context, _ upgradetypes.Plan, from module.VersionMap) (module.VersionMap, error) {
			if u.Run != nil {
				if err := u.Run(ctx, a); err != nil {
					return nil, fmt.Errorf("upgrade %s: %w", u.Name, err)
				}
			}
			return a.modules.RunMigrations(ctx, a.configurator, from)
		})
	}
	a.halted = make(chan error, 1)
	a.SetPreBlocker(a.beforeBlock(func(ctx sdk.Context, _ *abci.RequestFinalizeBlock) (*sdk.ResponsePreBlock, error) {
		res, err := a.modules.PreBlock(ctx)
		if err != nil {
			select {
			case a.halted <- fmt.Errorf("%w for block %d: %w", ErrUpgrade, ctx.BlockHeight(), err):
			default: // said already
			}
		}
		return res, err
	}))
}

// Halted gives the error after which the app makes no more blocks: ErrUpgrade.
func (a *App) Halted() <-chan error { return a.halted }
