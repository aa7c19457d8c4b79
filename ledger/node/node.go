// Package node runs the ledger inside this process: consensus, application and,
// where asked for, listeners.
//
// A node with one validator is ready in well under a second, makes a block each
// BlockTime and keeps everything in its [Home], so that it comes back after a
// kill. The same node with peers is one validator of many. When no block has
// come for a while the node is stalled; [Node.Done] then closes and the process
// should end, because the listeners of a dead consensus would keep answering.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	cmtdb "github.com/cometbft/cometbft-db"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	cmtnode "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	rpcclient "github.com/cometbft/cometbft/rpc/client"
	rpclocal "github.com/cometbft/cometbft/rpc/client/local"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/cosmos/cosmos-sdk/server"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/trade"
)

// Options are what a caller decides at each start.
type Options struct {
	Log      *slog.Logger // nil: silent
	Trades   []trade.Rules
	Upgrades []ledger.Upgrade // nil: ledger.Upgrades; other than that for tests
}

// ErrStalled says that consensus makes no more blocks.
var ErrStalled = errors.New("the ledger stopped making blocks")

// Node is a running ledger.
type Node struct {
	App *ledger.App

	comet    *cmtnode.Node
	rpc      localRPC
	txs      *txIndex
	settings Settings
	services []func() // stop what was started, last first
	cleanup  []func()
	dbs      []cmtdb.DB

	mu     sync.Mutex
	height int64
	grown  chan struct{} // closed and replaced at each block
	done   chan struct{}
	err    error
	once   sync.Once

	stopping *atomic.Bool // the libraries' log is over
}

// Open starts the node whose home is h.
func Open(ctx context.Context, h Home, o Options) (*Node, error) {
	s, err := h.Settings()
	if err != nil {
		return nil, err
	}
	doc, err := cmttypes.GenesisDocFromFile(h.path("genesis.json"))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	id, err := p2p.LoadNodeKey(h.path("node_key.json"))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	// The state file records what was signed last. Losing it could sign a
	// block twice, so a missing one is an error and not a fresh start. A
	// damaged one would end the process inside LoadFilePV.
	for f, v := range map[string]any{
		h.path("validator_key.json"): new(privval.FilePVKey), h.path("data", "validator_state.json"): new(privval.FilePVLastSignState),
	} {
		b, err := os.ReadFile(f)
		if err == nil {
			err = cmtjson.Unmarshal(b, v)
		}
		if err != nil {
			return nil, fmt.Errorf("ledger: read %s: %w", f, err)
		}
	}
	if s.Join != nil {
		if err := h.restartJoin(); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	pv := privval.LoadFilePV(h.path("validator_key.json"), h.path("data", "validator_state.json"))
	db, err := openState(h.path("data", "ledger.db"))
	if err != nil {
		return nil, fmt.Errorf("ledger: open %s: %w", h.path("data"), err)
	}
	return start(ctx, string(h), "goleveldb", db, doc, pv, pv.Key.PrivKey.Bytes(), id, s, o)
}

// Memory starts a node that forgets everything when it stops, for tests.
func Memory(ctx context.Context, doc *cmttypes.GenesisDoc, validator ed25519.PrivKey, s Settings, o Options) (*Node, error) {
	dir, err := os.MkdirTemp("", "torg-ledger-")
	if err != nil {
		return nil, err
	}
	pv := cmttypes.NewMockPVWithParams(validator, false, false)
	n, err := start(ctx, dir, "memdb", dbm.NewMemDB(), doc, pv, validator, &p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}, s, o)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	n.cleanup = append(n.cleanup, func() { os.RemoveAll(dir) })
	return n, nil
}

func start(ctx context.Context, dir, backend string, db dbm.DB, doc *cmttypes.GenesisDoc, pv cmttypes.PrivValidator, key []byte, id *p2p.NodeKey, s Settings, o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if s.Stalled == 0 {
		s.Stalled = 30 * time.Second
	}
	lone := s.P2P == ""
	if s.RetainBlocks == 0 {
		s.RetainBlocks = 20_000
	}
	stopping := new(atomic.Bool)
	log := slog.New(libraryLog{o.Log.Handler(), stopping})
	app, err := ledger.New(ledger.Config{
		ChainID: doc.ChainID, Home: dir, DB: db, Log: log.With("layer", "app"),
		Trades: o.Trades, Upgrades: o.Upgrades, Lone: lone, RetainBlocks: s.RetainBlocks, Validator: key,
		Snapshots: s.snapshots(),
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	cfg := cometConfig(dir, backend, s)
	n := &Node{App: app, settings: s, stopping: stopping, grown: make(chan struct{}), done: make(chan struct{}), height: app.LastBlockHeight()}
	n.comet, err = cmtnode.NewNodeWithContext(ctx, cfg, pv, id,
		// One lock a connection: a query never waits for a block.
		proxy.NewConnSyncLocalClientCreator(server.NewCometABCIWrapper(app)),
		func() (*cmttypes.GenesisDoc, error) { return doc, nil },
		n.openDB, cmtnode.DefaultMetricsProvider(cfg.Instrumentation),
		cometLog{log.With("layer", "consensus")})
	if err != nil {
		select {
		case err = <-app.Halted(): // the block was stored already, and replayed now
		default:
		}
		n.closeFiles()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := n.index(cfg); err != nil {
		n.Stop()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	blocks, err := n.comet.EventBus().Subscribe(context.Background(), "torg", cmttypes.EventQueryNewBlock, 1000)
	if err != nil {
		n.Stop()
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := n.listen(doc.ChainID, log); err != nil {
		n.Stop()
		return nil, err
	}
	if err := n.comet.Start(); err != nil {
		n.Stop()
		return nil, fmt.Errorf("ledger: %w", busy(err))
	}
	go n.watch(blocks)
	return n, nil
}

func cometConfig(dir, backend string, s Settings) *cmtcfg.Config {
	c := cmtcfg.DefaultConfig()
	c.SetRoot(dir)
	c.DBBackend = backend
	c.DBPath = "data"
	c.FilterPeers = s.P2P == ""
	c.RPC.ListenAddress = "" // listenRPC opens it
	c.P2P.ListenAddress = "tcp://127.0.0.1:0"
	c.P2P.PexReactor = false
	c.P2P.AddrBook = "addrbook.json" // its default folder is not made here
	c.P2P.AddrBookStrict = false
	c.P2P.AllowDuplicateIP = true
	if s.P2P != "" {
		c.P2P.ListenAddress = "tcp://" + s.P2P
		c.P2P.PersistentPeers = strings.Join(s.Peers, ",")
		c.P2P.PersistentPeersMaxDialPeriod = 3 * time.Second
		c.P2P.HandshakeTimeout = 5 * time.Second
		c.P2P.DialTimeout = 2 * time.Second
	}
	c.Consensus.TimeoutCommit = s.BlockTime
	c.Consensus.TimeoutPropose = 600 * time.Millisecond
	c.Consensus.TimeoutProposeDelta = 200 * time.Millisecond
	c.Consensus.TimeoutPrevote = 300 * time.Millisecond
	c.Consensus.TimeoutPrevoteDelta = 200 * time.Millisecond
	c.Consensus.TimeoutPrecommit = 300 * time.Millisecond
	c.Consensus.TimeoutPrecommitDelta = 200 * time.Millisecond
	c.Consensus.WalPath = filepath.Join("data", "cs.wal", "wal")
	// More than the application lets wait: what makes room for another stays here
	// until the next block.
	c.Mempool.Size = 10_000
	c.Mempool.MaxTxBytes = space.MaxTxBytes
	c.Mempool.Recheck = true
	c.TxIndex.Indexer = "null" // txIndex does it
	if s.Join != nil {
		s.Join.configure(c.StateSync)
	}
	return c
}

// watch counts blocks and notices when they stop. What it measures is time that
// this process ran: of a pause (SIGSTOP, a frozen container, a machine's
// snapshot) the ticker gives one tick, however long it was, so that consensus
// has its time afterwards.
func (n *Node) watch(blocks cmttypes.Subscription) {
	t := time.NewTicker(max(n.settings.Stalled/30, time.Millisecond))
	defer t.Stop()
	quiet := 0 // ticks since the last block
	for {
		select {
		case m := <-blocks.Out():
			b, ok := m.Data().(cmttypes.EventDataNewBlock)
			if !ok {
				continue
			}
			if err := n.txs.add(b.Block); err != nil {
				n.fail(err)
				return
			}
			n.mu.Lock()
			n.height = b.Block.Height
			close(n.grown)
			n.grown = make(chan struct{})
			n.mu.Unlock()
			quiet = 0
		case <-t.C:
			if quiet++; quiet <= 30 {
				continue
			}
			n.fail(fmt.Errorf("%w: none for %s after block %d", ErrStalled, n.settings.Stalled, n.Height()))
			return
		case err := <-n.App.Halted():
			n.fail(err)
			return
		case <-blocks.Canceled():
			select {
			case <-n.done: // stopped
			default:
				n.fail(fmt.Errorf("%w: %w", ErrStalled, blocks.Err()))
			}
			return
		case <-n.done:
			return
		}
	}
}

func (n *Node) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
	default:
		n.err = err
		close(n.done)
	}
}

// Done closes when the node has stopped or stalled; Err says which.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is nil until Done closes and after a wanted Stop.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Height is the last block's.
func (n *Node) Height() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.height
}

// WaitHeight returns once block h is committed.
func (n *Node) WaitHeight(ctx context.Context, h int64) error {
	for {
		n.mu.Lock()
		have, grown := n.height, n.grown
		n.mu.Unlock()
		if have >= h {
			return nil
		}
		select {
		case <-grown:
		case <-n.done:
			if err := n.Err(); err != nil {
				return err
			}
			return errors.New("the ledger is stopped")
		case <-ctx.Done():
			return fmt.Errorf("waiting for block %d, at %d: %w", h, have, ctx.Err())
		}
	}
}

// RPC is the node's CometBFT interface, without a socket.
func (n *Node) RPC() rpcclient.Client { return n.rpc }

// ChainID names the ledger.
func (n *Node) ChainID() string { return n.comet.GenesisDoc().ChainID }

// ID is how peers know the node: the first half of id@host:port.
func (n *Node) ID() string { return string(n.comet.NodeInfo().ID()) }

// index opens the index of transactions, and the interface that asks it.
func (n *Node) index(cfg *cmtcfg.Config) error {
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return err
	}
	db, err := n.openDB(&cmtcfg.DBContext{ID: "txs", Config: cfg})
	if err != nil {
		return err
	}
	if n.txs, err = openIndex(db, env); err != nil {
		return err
	}
	env.TxIndexer = n.txs
	n.rpc = localRPC{rpclocal.New(n.comet), env}
	return nil
}

// openDB remembers what CometBFT opens, because it does not close all of it and
// a home could not be opened again.
//
// Each of these databases would set 8 MiB aside for writes and 8 for blocks read
// before: more than the state has, for what is written in order and hardly read.
func (n *Node) openDB(c *cmtcfg.DBContext) (db cmtdb.DB, err error) {
	if c.Config.DBBackend == string(cmtdb.GoLevelDBBackend) {
		db, err = cmtdb.NewGoLevelDBWithOpts(c.ID, c.Config.DBDir(), &opt.Options{WriteBuffer: 1 << 20, BlockCacheCapacity: 1 << 20})
	} else {
		db, err = cmtcfg.DefaultDBProvider(c)
	}
	if err == nil {
		n.dbs = append(n.dbs, db)
	}
	return db, err
}

func (n *Node) closeFiles() {
	n.App.Close()
	for _, db := range n.dbs {
		db.Close()
	}
}

// Stop ends the node and closes its files. It may be called more than once.
func (n *Node) Stop() {
	n.once.Do(func() {
		n.stopping.Store(true)
		n.fail(nil)
		for i := len(n.services) - 1; i >= 0; i-- {
			n.services[i]()
		}
		if n.comet.IsRunning() {
			if err := n.comet.Stop(); err == nil {
				n.comet.Wait()
			}
		}
		n.closeFiles()
		for _, f := range n.cleanup {
			f()
		}
	})
}
