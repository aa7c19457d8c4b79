package node

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	cmtdb "github.com/cometbft/cometbft-db"
	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	cmttypes "github.com/cometbft/cometbft/types"
)

// Bounds of what the nodes that a join asks may answer.
const (
	maxGenesis = 64 << 20
	maxPeers   = 20
)

// trustPeriod is how old a header may be that others are followed from: who
// could sign another history by then must still have a stake to lose. Stakes
// are locked for 21 days.
const trustPeriod = 14 * 24 * time.Hour

// ParseTrust reads HEIGHT:HASH.
func ParseTrust(s string) (height int64, hash string, err error) {
	h, hash, ok := strings.Cut(s, ":")
	height, herr := strconv.ParseInt(h, 10, 64)
	b, berr := hex.DecodeString(hash)
	if !ok || herr != nil || height < 1 || berr != nil || len(b) != 32 {
		return 0, "", fmt.Errorf("%q is not HEIGHT:HASH of a block, a number and 64 hex digits", s)
	}
	return height, strings.ToUpper(hash), nil
}

// Newest asks each node for its newest block, as HEIGHT:HASH.
func Newest(ctx context.Context, rpcs []string) ([]string, error) {
	var out []string
	for _, at := range rpcs {
		c, err := rpchttp.New(at, "/websocket")
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", at, err)
		}
		s, err := c.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", at, err)
		}
		out = append(out, fmt.Sprintf("%d:%s", s.SyncInfo.LatestBlockHeight, s.SyncInfo.LatestBlockHash))
	}
	return out, nil
}

// CreateJoining makes the home of a node that follows the ledger which the
// nodes at j.RPC run. They are asked for the genesis, which they must agree
// about, and for peers, where s names none. The block that j trusts must be
// theirs. All else is checked against that block when the node is opened.
func (h Home) CreateJoining(ctx context.Context, j Join, s Settings) error {
	if len(j.RPC) == 0 {
		return errors.New("join: name a node to ask")
	}
	if s.P2P == "" {
		return errors.New("join: p2p is empty; a node without peers cannot join")
	}
	var genesis []byte
	var peers []string
	for _, at := range j.RPC {
		c, err := rpchttp.New(at, "/websocket")
		if err != nil {
			return fmt.Errorf("join: ask %s: %w", at, err)
		}
		b, err := readGenesis(ctx, c)
		if err != nil {
			return fmt.Errorf("join: genesis from %s: %w", at, err)
		}
		if genesis != nil && string(b) != string(genesis) {
			return fmt.Errorf("join: %s and %s have different geneses", j.RPC[0], at)
		}
		genesis = b
		block, err := c.Commit(ctx, &j.Height)
		switch {
		case err != nil:
			return fmt.Errorf("join: block %d from %s: %w", j.Height, at, err)
		case block.Header == nil || !strings.EqualFold(block.Header.Hash().String(), j.Hash):
			return fmt.Errorf("join: block %d of %s is not the one to trust", j.Height, at)
		}
		if len(s.Peers) == 0 {
			found, err := findPeers(ctx, c, at)
			if err != nil {
				return fmt.Errorf("join: peers from %s: %w", at, err)
			}
			peers = append(peers, found...)
		}
	}
	doc, err := cmttypes.GenesisDocFromJSON(genesis)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if len(s.Peers) == 0 {
		slices.Sort(peers)
		if s.Peers = slices.Compact(peers); len(s.Peers) == 0 {
			return errors.New("join: none of the nodes takes peers: a torg up is alone on its ledger")
		}
		s.Peers = s.Peers[:min(len(s.Peers), maxPeers)]
	}
	s.Join = &j
	return h.Create(doc, ed25519.GenPrivKey(), &p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}, s)
}

func readGenesis(ctx context.Context, c *rpchttp.HTTP) ([]byte, error) {
	var out []byte
	for i, total := 0, 1; i < total; i++ {
		part, err := c.GenesisChunked(ctx, uint(i))
		if err != nil {
			return nil, err
		}
		total = part.TotalChunks
		b, err := base64.StdEncoding.DecodeString(part.Data)
		if err != nil {
			return nil, err
		}
		if len(out)+len(b) > maxGenesis {
			return nil, fmt.Errorf("more than %d MiB", maxGenesis>>20)
		}
		out = append(out, b...)
	}
	var doc cmttypes.GenesisDoc
	return out, cmtjson.Unmarshal(out, &doc)
}

// findPeers are a node, where it was asked, and those that it is connected to.
func findPeers(ctx context.Context, c *rpchttp.HTTP, at string) ([]string, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	info, err := c.NetInfo(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	add := func(id p2p.ID, host, listens string) {
		_, port, err := net.SplitHostPort(strings.TrimPrefix(listens, "tcp://"))
		if err != nil || port == "0" || port == "" || host == "" || len(out) == maxPeers {
			return
		}
		peer := p2p.IDAddressString(id, net.JoinHostPort(host, port))
		if _, err := p2p.NewNetAddressString(peer); err == nil {
			out = append(out, peer)
		}
	}
	if s.NodeInfo.ListenAddr != "" {
		add(s.NodeInfo.ID(), u.Hostname(), s.NodeInfo.ListenAddr)
	}
	for _, p := range info.Peers {
		add(p.NodeInfo.ID(), p.RemoteIP, p.NodeInfo.ListenAddr)
	}
	return out, nil
}

func (j Join) configure(c *cmtcfg.StateSyncConfig) {
	c.Enable = true
	c.RPCServers = j.RPC
	if len(c.RPCServers) == 1 {
		// A witness is asked for, even where there is none but the first.
		c.RPCServers = append(slices.Clone(c.RPCServers), c.RPCServers[0])
	}
	c.TrustHeight, c.TrustHash, c.TrustPeriod = j.Height, j.Hash, trustPeriod
	c.DiscoveryTime = 5 * time.Second // the least that is taken as it is
}

// restartJoin removes what a join left that was cut off before the node had the
// whole state: half a state cannot be gone on with. A node that has begun to
// follow is left as it is.
func (h Home) restartJoin() error {
	begun, err := h.follows()
	if err != nil || begun {
		return err
	}
	found, err := os.ReadDir(h.path("data"))
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Name() == "validator_state.json" {
			continue
		}
		if err := os.RemoveAll(h.path("data", f.Name())); err != nil {
			return fmt.Errorf("begin to join again: %w", err)
		}
	}
	return nil
}

// follows tells whether consensus has a state to go on from, with the commit
// that its next block is checked against.
func (h Home) follows() (bool, error) {
	if _, err := os.Stat(h.path("data", "state.db")); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	open := func(name string) (cmtdb.DB, error) {
		db, err := cmtdb.NewDB(name, cmtdb.GoLevelDBBackend, h.path("data"))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", h.path("data", name+".db"), err)
		}
		return db, nil
	}
	states, err := open("state")
	if err != nil {
		return false, err
	}
	defer states.Close()
	state, err := sm.NewStore(states, sm.StoreOptions{}).Load()
	if err != nil || state.IsEmpty() || state.LastBlockHeight == 0 {
		return false, err
	}
	kept, err := open("blockstore")
	if err != nil {
		return false, err
	}
	defer kept.Close()
	blocks := store.NewBlockStore(kept)
	return blocks.Height() > 0 || blocks.LoadSeenCommit(state.LastBlockHeight) != nil, nil
}
