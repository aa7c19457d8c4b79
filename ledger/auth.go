package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"cosmossdk.io/core/appmodule"
	gateway "github.com/grpc-ecosystem/grpc-gateway/runtime"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
)

// authModule serves the keeper of x/auth, the accounts: its messages, its queries, its
// genesis and, before each block, the end of what unordered transactions are remembered
// by. The SDK's own brings the simulator of random accounts and its packages.
type authModule struct{ keeper authkeeper.AccountKeeper }

var (
	_ module.AppModuleBasic   = authModule{}
	_ module.HasGenesis       = authModule{}
	_ module.HasServices      = authModule{}
	_ appmodule.HasPreBlocker = authModule{}
)

func (authModule) IsAppModule()             {}
func (authModule) IsOnePerModuleType()      {}
func (authModule) Name() string             { return authtypes.ModuleName }
func (authModule) ConsensusVersion() uint64 { return 7 } // of the SDK's, whose state it is

func (authModule) RegisterLegacyAminoCodec(c *codec.LegacyAmino) {
	authtypes.RegisterLegacyAminoCodec(c)
}
func (authModule) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	authtypes.RegisterInterfaces(r)
}

func (authModule) RegisterGRPCGatewayRoutes(c client.Context, mux *gateway.ServeMux) {
	if err := authtypes.RegisterQueryHandlerClient(context.Background(), mux, authtypes.NewQueryClient(c)); err != nil {
		panic(err) // a route is there twice
	}
}

func (m authModule) RegisterServices(c module.Configurator) {
	authtypes.RegisterMsgServer(c.MsgServer(), authkeeper.NewMsgServerImpl(m.keeper))
	authtypes.RegisterQueryServer(c.QueryServer(), authkeeper.NewQueryServer(m.keeper))
}

func (authModule) DefaultGenesis(c codec.JSONCodec) json.RawMessage {
	return c.MustMarshalJSON(authtypes.DefaultGenesisState())
}

func (authModule) ValidateGenesis(c codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	var g authtypes.GenesisState
	if err := c.UnmarshalJSON(raw, &g); err != nil {
		return fmt.Errorf("auth genesis: %w", err)
	}
	return authtypes.ValidateGenesis(g)
}

// InitGenesis panics on a state that cannot be stored, as the module manager wants it.
func (m authModule) InitGenesis(ctx sdk.Context, c codec.JSONCodec, raw json.RawMessage) {
	var g authtypes.GenesisState
	c.MustUnmarshalJSON(raw, &g)
	m.keeper.InitGenesis(ctx, g)
}

func (m authModule) ExportGenesis(ctx sdk.Context, c codec.JSONCodec) json.RawMessage {
	return c.MustMarshalJSON(m.keeper.ExportGenesis(ctx))
}

// PreBlock forgets the unordered transactions whose time is over.
func (m authModule) PreBlock(ctx context.Context) (appmodule.ResponsePreBlock, error) {
	if err := m.keeper.RemoveExpiredUnorderedNonces(sdk.UnwrapSDKContext(ctx)); err != nil {
		return nil, fmt.Errorf("forget unordered transactions: %w", err)
	}
	return &sdk.ResponsePreBlock{}, nil
}
