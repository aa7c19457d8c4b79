package ledger

import (
	"context"

	gateway "github.com/grpc-ecosystem/grpc-gateway/runtime"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	consensuskeeper "github.com/cosmos/cosmos-sdk/x/consensus/keeper"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
)

// consensusModule serves the keeper of x/consensus, the limits of a block. The
// SDK's own module adds nothing to it but packages.
type consensusModule struct{ keeper consensuskeeper.Keeper }

var _ interface {
	module.AppModuleBasic
	module.HasServices
} = consensusModule{}

func (consensusModule) IsAppModule()             {}
func (consensusModule) IsOnePerModuleType()      {}
func (consensusModule) Name() string             { return consensustypes.ModuleName }
func (consensusModule) ConsensusVersion() uint64 { return 1 }

func (consensusModule) RegisterLegacyAminoCodec(c *codec.LegacyAmino) {
	consensustypes.RegisterLegacyAminoCodec(c)
}

func (consensusModule) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	consensustypes.RegisterInterfaces(r)
}

func (consensusModule) RegisterGRPCGatewayRoutes(c client.Context, mux *gateway.ServeMux) {
	if err := consensustypes.RegisterQueryHandlerClient(context.Background(), mux, consensustypes.NewQueryClient(c)); err != nil {
		panic(err) // a route is there twice
	}
}

func (m consensusModule) RegisterServices(c module.Configurator) {
	consensustypes.RegisterMsgServer(c.MsgServer(), m.keeper)
	consensustypes.RegisterQueryServer(c.QueryServer(), m.keeper)
}
