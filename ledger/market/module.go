package market

import (
	"context"
	"encoding/json"
	"fmt"

	"cosmossdk.io/core/appmodule"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"

	"github.com/torg-network/torg/ledger/api/marketv1"
)

// Module is the market as the application sees it.
type Module struct{ *Keeper }

var (
	//lint:ignore SA1019 the module manager still takes its modules as this
	_ module.AppModule        = Module{}
	_ module.HasGenesis       = Module{}
	_ module.HasServices      = Module{}
	_ appmodule.HasEndBlocker = Module{}
)

func (Module) IsOnePerModuleType()                         {}
func (Module) IsAppModule()                                {}
func (Module) Name() string                                { return Name }
func (Module) ConsensusVersion() uint64                    { return 1 }
func (Module) RegisterLegacyAminoCodec(*codec.LegacyAmino) {}

func (Module) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	msgservice.RegisterMsgServiceDesc(r, &marketv1.Msg_serviceDesc)
}

func (Module) RegisterGRPCGatewayRoutes(c client.Context, mux *runtime.ServeMux) {
	if err := marketv1.RegisterQueryHandlerClient(context.Background(), mux, marketv1.NewQueryClient(c)); err != nil {
		panic(err)
	}
}

func (m Module) RegisterServices(c module.Configurator) {
	marketv1.RegisterMsgServer(c.MsgServer(), msgServer(m))
	marketv1.RegisterQueryServer(c.QueryServer(), queryServer(m))
}

func (Module) DefaultGenesis(cdc codec.JSONCodec) json.RawMessage {
	return cdc.MustMarshalJSON(DefaultGenesis())
}

func (Module) ValidateGenesis(cdc codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	var g marketv1.GenesisState
	if err := cdc.UnmarshalJSON(raw, &g); err != nil {
		return fmt.Errorf("market genesis: %w", err)
	}
	return g.Params.Market().Check()
}

// InitGenesis panics on a state that cannot be stored, as the module manager
// wants it.
func (m Module) InitGenesis(ctx sdk.Context, cdc codec.JSONCodec, raw json.RawMessage) {
	var g marketv1.GenesisState
	cdc.MustUnmarshalJSON(raw, &g)
	if err := m.initGenesis(ctx, &g); err != nil {
		panic(fmt.Errorf("market genesis: %w", err))
	}
}

func (m Module) ExportGenesis(ctx sdk.Context, cdc codec.JSONCodec) json.RawMessage {
	g, err := m.exportGenesis(ctx)
	if err != nil {
		panic(fmt.Errorf("market genesis: %w", err))
	}
	return cdc.MustMarshalJSON(g)
}
