package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	cmtpubsub "github.com/cometbft/cometbft/libs/pubsub"
	rpcserver "github.com/cometbft/cometbft/rpc/jsonrpc/server"

	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/ledger/space"
)

// Bounds of the RPC and REST listeners.
const (
	maxConnections = 900
	maxBody        = space.MaxTxBytes*4/3 + 64<<10 // a largest transaction in base64
	maxHeader      = 64 << 10
	readTime       = 10 * time.Second // of one request, whole
	writeTime      = 30 * time.Second // longer than broadcast_tx_commit waits
)

// guarded keeps out whoever has no business at the listener on addr; see
// package door.
func (n *Node) guarded(addr string, h http.Handler) http.Handler {
	d := door.Door{Listen: addr, Hosts: n.settings.Hosts, Origins: n.settings.Origins}
	return d.Named(d.Pages(door.JSON(http.MaxBytesHandler(h, maxBody))))
}

// serve answers on l until the node stops.
func (n *Node) serve(what string, l net.Listener, h http.Handler, log *slog.Logger) {
	s := &http.Server{
		Handler: newRate().limited(h), ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("ledger %s: %w", what, err))
		}
	}()
	n.services = append(n.services, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	})
}

// listenRPC opens CometBFT's RPC. CometBFT would open it by itself, and let
// pages of every site in: its WebSocket asks for no origin.
func (n *Node) listenRPC(log *slog.Logger) error {
	l, err := rpcserver.Listen("tcp://"+n.settings.RPC, maxConnections)
	if err != nil {
		return busy(err)
	}
	routes, quiet := n.rpc.env.GetRoutes(), cometLog{log.With("layer", "rpc")}
	sockets := rpcserver.NewWebsocketManager(routes, rpcserver.ReadLimit(maxBody), rpcserver.OnDisconnect(func(remote string) {
		if err := n.comet.EventBus().UnsubscribeAll(context.Background(), remote); err != nil && !errors.Is(err, cmtpubsub.ErrSubscriptionNotFound) {
			log.Debug("could not end subscriptions", "remote", remote, "err", err)
		}
	}))
	sockets.SetLogger(quiet)
	mux := http.NewServeMux()
	mux.HandleFunc("/websocket", sockets.WebsocketHandler)
	rpcserver.RegisterRPCFuncs(mux, routes, quiet)
	n.serve("RPC", l, n.guarded(n.settings.RPC, rpcserver.PreChecksHandler(rpcserver.RecoverAndLogHandler(mux, quiet), rpcserver.DefaultConfig())), log)
	return nil
}
