// Package node is a machine on the square: its key, what it serves, the HTTP
// server that buyers reach, and the supervisor that keeps the provider's chores
// going and ends them in order.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/seller"
)

// Config is what a node is made of.
type Config struct {
	Key     square.Key
	ChainID string
	Ledger  seller.Ledger
	Dir     string // state; the node makes it and is its only user
	Listen  string // "127.0.0.1:8700"; port 0 takes a free one
	// Endpoint is where buyers reach Listen, when that is not the address
	// itself.
	Endpoint string

	Trades []seller.Trade // what is sold

	BondTimes   uint64
	OfferTTL    time.Duration
	Terms       seller.Terms // of the orders that are taken
	RedeemEvery time.Duration
	Discover    time.Duration // how often trades are asked what they sell (1 min)
	Drain       time.Duration // how long Run lets requests end when it stops (10 s)

	// Handler, if set, answers what is not the trades' wire: metrics.
	Handler http.Handler
	Log     *slog.Logger
}

// Node is a running machine's parts. Open it, then Run it.
type Node struct {
	Provider *seller.Seller
	cfg      Config
	journal  *journal.Journal
	listener net.Listener
	server   *http.Server
	ran      bool
}

// Open takes the disk and the port, and is ready to Run. Leases that were open
// before are served again.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Dir == "" || cfg.Listen == "" {
		return nil, errors.New("node: dir and listen are required")
	}
	if cfg.Drain <= 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("node: listen: %w", err)
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "http://" + listener.Addr().String()
	}
	j, err := journal.Open(filepath.Join(cfg.Dir, "provider.db"), seller.Buckets...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node: %w", err), listener.Close())
	}
	n := &Node{cfg: cfg, journal: j, listener: listener}
	n.Provider, err = seller.New(ctx, seller.Config{
		Key: cfg.Key, ChainID: cfg.ChainID, Ledger: cfg.Ledger, Store: j, Endpoint: cfg.Endpoint,
		Trades: cfg.Trades, BondTimes: cfg.BondTimes, OfferTTL: cfg.OfferTTL, Discover: cfg.Discover,
		Terms: cfg.Terms, RedeemEvery: cfg.RedeemEvery, Log: cfg.Log,
	})
	if err != nil {
		return nil, errors.Join(err, j.Close(), listener.Close())
	}
	n.server = &http.Server{
		Handler:           n.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // of a whole request; answers have their own, a frame each
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return n, nil
}

// Endpoint is where buyers reach the node.
func (n *Node) Endpoint() string { return n.cfg.Endpoint }

func (n *Node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/torg/", n.Provider.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // the client is gone
	})
	if n.cfg.Handler != nil {
		mux.Handle("/", n.cfg.Handler)
	}
	return mux
}

// Run serves until ctx ends, then lets requests end, redeems what is owed and
// gives disk and port back. It returns early when the server fails.
func (n *Node) Run(ctx context.Context) error {
	n.ran = true
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	served := make(chan error, 1)
	running.Go(func() { served <- n.server.Serve(n.listener) })
	running.Go(func() { _ = n.Provider.Run(ctx) }) // ends with ctx
	n.cfg.Log.Info("node serves", "provider", n.Provider.Address().String(), "endpoint", n.cfg.Endpoint)

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
	}
	cancel()
	// New requests are refused while running ones end; then, with the chores
	// over, what is owed is redeemed.
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Drain)
	defer done()
	err := n.server.Shutdown(stop)
	if err != nil {
		err = n.server.Close() // buyers that hang on are cut off, and charged what they got
	}
	running.Wait()
	if failed != nil && !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(fmt.Errorf("node: serve: %w", failed), err)
	}
	return errors.Join(err, n.Provider.Close(stop), n.journal.Close())
}

// Close gives disk and port back of a node that never ran. After Run it does nothing.
func (n *Node) Close() error {
	if n.ran {
		return nil
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return n.Run(ended)
}
