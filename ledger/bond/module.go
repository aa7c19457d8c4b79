// Package bond is how providers put money behind their work: the messages and
// queries of stake. The stake itself is part of the lease machine's state, so
// this module keeps none of its own.
package bond

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/runtime"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/types/msgservice"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/market"
)

// Name is the module's name.
const Name = "bond"

// Module is bond as the application sees it.
type Module struct{ Market *market.Keeper }

var (
	//lint:ignore SA1019 the module manager still takes its modules as this
	_ module.AppModule   = Module{}
	_ module.HasServices = Module{}
)

func (Module) IsOnePerModuleType()                         {}
func (Module) IsAppModule()                                {}
func (Module) Name() string                                { return Name }
func (Module) RegisterLegacyAminoCodec(*codec.LegacyAmino) {}

func (Module) RegisterInterfaces(r codectypes.InterfaceRegistry) {
	msgservice.RegisterMsgServiceDesc(r, &bondv1.Msg_serviceDesc)
}

func (Module) RegisterGRPCGatewayRoutes(c client.Context, mux *runtime.ServeMux) {
	if err := bondv1.RegisterQueryHandlerClient(context.Background(), mux, bondv1.NewQueryClient(c)); err != nil {
		panic(err)
	}
}

func (m Module) RegisterServices(c module.Configurator) {
	bondv1.RegisterMsgServer(c.MsgServer(), msgServer{m.Market})
	bondv1.RegisterQueryServer(c.QueryServer(), m.Market)
}
