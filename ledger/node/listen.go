package node

import (
	"fmt"
	"log/slog"
	"net"

	gateway "github.com/cosmos/gogogateway"
	"github.com/grpc-ecosystem/grpc-gateway/runtime"
	"google.golang.org/grpc"

	sdkclient "github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/grpc/cmtservice"
	nodeservice "github.com/cosmos/cosmos-sdk/client/grpc/node"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/server"
	"github.com/cosmos/cosmos-sdk/server/config"
	"github.com/cosmos/cosmos-sdk/server/grpc/gogoreflection"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/host"
)

// listen makes the queries that need the node answerable, and opens the
// listeners that were asked for.
func (n *Node) listen(chainID string, log *slog.Logger) error {
	app := n.App
	local := sdkclient.Context{}.
		WithChainID(chainID).WithClient(n.rpc).WithCodec(app.Codec).
		WithInterfaceRegistry(app.Interfaces).WithTxConfig(app.Tx).
		WithAccountRetriever(authtypes.AccountRetriever{})
	authtx.RegisterTxService(app.GRPCQueryRouter(), local, app.Simulate, app.Interfaces)
	cmtservice.RegisterTendermintService(local, app.GRPCQueryRouter(), app.Interfaces, server.NewCometABCIWrapper(app).Query)
	nodeservice.RegisterNodeService(local, app.GRPCQueryRouter(), *config.DefaultConfig(), func() int64 { return app.CommitMultiStore().EarliestVersion() })

	if err := (door.Door{Hosts: n.settings.Hosts, Origins: n.settings.Origins}).Check(); err != nil {
		return fmt.Errorf("ledger.json: %w", err)
	}
	if n.settings.RPC != "" {
		if err := n.listenRPC(log); err != nil {
			return fmt.Errorf("ledger RPC: %w", err)
		}
	}
	if n.settings.GRPC != "" {
		l, err := bind(n.settings.GRPC)
		if err != nil {
			return fmt.Errorf("ledger gRPC: %w", err)
		}
		s := grpc.NewServer(grpc.ForceServerCodec(codec.NewProtoCodec(app.Interfaces).GRPCCodec()))
		app.RegisterGRPCServer(s)
		gogoreflection.Register(s)
		go func() {
			if err := s.Serve(l); err != nil {
				n.fail(fmt.Errorf("ledger gRPC: %w", err))
			}
		}()
		n.services = append(n.services, s.Stop)
	}
	if n.settings.REST != "" {
		l, err := bind(n.settings.REST)
		if err != nil {
			return fmt.Errorf("ledger REST: %w", err)
		}
		mux := runtime.NewServeMux(
			runtime.WithMarshalerOption(runtime.MIMEWildcard, &gateway.JSONPb{EmitDefaults: true, OrigName: true, AnyResolver: app.Interfaces}),
			runtime.WithProtoErrorHandler(runtime.DefaultHTTPProtoErrorHandler))
		authtx.RegisterGRPCGatewayRoutes(local, mux)
		cmtservice.RegisterGRPCGatewayRoutes(local, mux)
		nodeservice.RegisterGRPCGatewayRoutes(local, mux)
		app.Basic().RegisterGRPCGatewayRoutes(local, mux)
		n.serve("REST", l, n.guarded(n.settings.REST, mux), log)
	}
	return nil
}

func bind(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	return l, busy(err)
}

// busy says what to do about a port that something else has.
func busy(err error) error {
	if host.PortTaken(err) {
		return fmt.Errorf("%w: another process has this port; choose another or stop it", err)
	}
	return err
}
