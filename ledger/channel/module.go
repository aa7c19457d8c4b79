package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cosmossdk.io/collections"
	"cosmossdk.io/core/appmodule"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/square"
)

// Module is the channels as the application sees them.
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
	msgservice.RegisterMsgServiceDesc(r, &channelv1.Msg_serviceDesc)
}

func (Module) RegisterGRPCGatewayRoutes(c client.Context, mux *runtime.ServeMux) {
	if err := channelv1.RegisterQueryHandlerClient(context.Background(), mux, channelv1.NewQueryClient(c)); err != nil {
		panic(err)
	}
}

func (m Module) RegisterServices(c module.Configurator) {
	channelv1.RegisterMsgServer(c.MsgServer(), msgServer(m))
	channelv1.RegisterQueryServer(c.QueryServer(), queryServer(m))
}

func (Module) DefaultGenesis(cdc codec.JSONCodec) json.RawMessage {
	return cdc.MustMarshalJSON(&channelv1.GenesisState{})
}

func (Module) ValidateGenesis(cdc codec.JSONCodec, _ client.TxEncodingConfig, raw json.RawMessage) error {
	return cdc.UnmarshalJSON(raw, &channelv1.GenesisState{})
}

// InitGenesis panics on a state that cannot be stored, as the module manager
// wants it.
func (m Module) InitGenesis(ctx sdk.Context, cdc codec.JSONCodec, raw json.RawMessage) {
	var g channelv1.GenesisState
	cdc.MustUnmarshalJSON(raw, &g)
	d := square.ChannelDomain(ctx.ChainID())
	for _, c := range g.Channels {
		config, err := c.Config.Square()
		if err != nil {
			panic(fmt.Errorf("channel genesis: %w", err))
		}
		id := config.ID(d)
		if err := m.channels.Set(ctx, id[:], c); err != nil {
			panic(err)
		}
	}
	for _, u := range g.Used {
		if err := errors.Join(m.used.Set(ctx, u.Hash, u.Until), m.forget.Set(ctx, collections.Join(u.Until, u.Hash))); err != nil {
			panic(err)
		}
	}
}

func (m Module) ExportGenesis(ctx sdk.Context, cdc codec.JSONCodec) json.RawMessage {
	g := &channelv1.GenesisState{}
	err := errors.Join(
		m.channels.Walk(ctx, nil, func(_ []byte, c channelv1.Channel) (bool, error) {
			g.Channels = append(g.Channels, c)
			return false, nil
		}),
		m.used.Walk(ctx, nil, func(h []byte, until int64) (bool, error) {
			g.Used = append(g.Used, channelv1.Used{Hash: h, Until: until})
			return false, nil
		}))
	if err != nil {
		panic(err)
	}
	return cdc.MustMarshalJSON(g)
}
