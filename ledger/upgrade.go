package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	gateway "github.com/grpc-ecosystem/grpc-gateway/runtime"

	"cosmossdk.io/core/appmodule"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
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

// upgradeModule serves the keeper of x/upgrade: its messages, its queries and
// the change of programs at a plan's height. The SDK's own module is not used,
// because it brings a command line that downloads programs, and with that the
// clients of three clouds, into every build.
type upgradeModule struct{ keeper *upgradekeeper.Keeper }

var (
	_ module.AppModuleBasic   = upgradeModule{}
	_ module.HasGenesis       = upgradeModule{}
	_ module.HasServices      = upgradeModule{}
	_ appmodule.HasPreBlocker = upgradeModule{}
)

func (upgradeModule) IsAppModule()        {}
func (upgradeModule) IsOnePerModuleType() {}
func (upgradeModule) Name() string        { return upgradetypes.ModuleName }

// ConsensusVersion is that of the keeper's state.
func (upgradeModule) ConsensusVersion() uint64 { return 2 }

func (upgradeModule) RegisterLegacyAminoCodec(c *codec.LegacyAmino) {
	upgradetypes.RegisterLegacyAminoCodec(c)
}

func (upgradeModule) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	upgradetypes.RegisterInterfaces(r)
}

func (upgradeModule) RegisterGRPCGatewayRoutes(c client.Context, mux *gateway.ServeMux) {
	if err := upgradetypes.RegisterQueryHandlerClient(context.Background(), mux, upgradetypes.NewQueryClient(c)); err != nil {
		panic(err) // a route is there twice
	}
}

func (m upgradeModule) RegisterServices(c module.Configurator) {
	upgradetypes.RegisterMsgServer(c.MsgServer(), upgradekeeper.NewMsgServerImpl(m.keeper))
	upgradetypes.RegisterQueryServer(c.QueryServer(), m.keeper)
}

// Plans are not part of a genesis: a ledger that goes on from an export has
// left them behind.
func (upgradeModule) DefaultGenesis(codec.JSONCodec) json.RawMessage { return []byte("{}") }

func (upgradeModule) ValidateGenesis(codec.JSONCodec, client.TxEncodingConfig, json.RawMessage) error {
	return nil
}

func (upgradeModule) InitGenesis(sdk.Context, codec.JSONCodec, json.RawMessage) {}

func (m upgradeModule) ExportGenesis(_ sdk.Context, c codec.JSONCodec) json.RawMessage {
	return m.DefaultGenesis(c)
}

// PreBlock runs the upgrade whose height has come. Its error ends the program:
// this one is not, or not yet, that of the next block.
func (m upgradeModule) PreBlock(ctx context.Context) (appmodule.ResponsePreBlock, error) {
	height := sdk.UnwrapSDKContext(ctx).HeaderInfo().Height
	plan, err := m.keeper.GetUpgradePlan(ctx)
	if errors.Is(err, upgradetypes.ErrNoUpgradePlanFound) {
		return &sdk.ResponsePreBlock{}, m.knowsLast(ctx)
	}
	switch known := m.keeper.HasHandler(plan.Name); {
	case err != nil:
		return nil, err
	case !plan.ShouldExecute(height) && known:
		return nil, fmt.Errorf("upgrade %q is %s, and this program has it already", plan.Name, plan.DueAt())
	case !plan.ShouldExecute(height):
		return &sdk.ResponsePreBlock{}, m.knowsLast(ctx)
	case !known:
		// Cosmovisor, which changes programs over, reads it.
		if err := m.keeper.DumpUpgradeInfoToDisk(height, plan); err != nil {
			return nil, fmt.Errorf("note upgrade %q: %w", plan.Name, err)
		}
		return nil, fmt.Errorf("upgrade %q is due at %s, and this program does not have it: %s", plan.Name, plan.DueAt(), plan.Info)
	}
	if err := m.keeper.ApplyUpgrade(ctx, plan); err != nil {
		return nil, err
	}
	return &sdk.ResponsePreBlock{ConsensusParamsChanged: true}, nil
}

// knowsLast refuses, once a start, a ledger whose last upgrade this program
// does not have.
func (m upgradeModule) knowsLast(ctx context.Context) error {
	if m.keeper.DowngradeVerified() {
		return nil
	}
	last, height, err := m.keeper.GetLastCompletedUpgrade(ctx)
	if err != nil {
		return err
	}
	if last != "" && !m.keeper.HasHandler(last) {
		return fmt.Errorf("the ledger ran upgrade %q at block %d, and this program does not have it", last, height)
	}
	m.keeper.SetDowngradeVerified(true)
	return nil
}
