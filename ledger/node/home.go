package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmttypes "github.com/cometbft/cometbft/types"

	"github.com/torg-network/torg/ledger"
)

// Home is a folder that holds a node's keys, genesis, settings and data. Its
// files are genesis.json, ledger.json, validator_key.json, node_key.json and
// data/.
type Home string

// Settings are what ledger.json holds.
type Settings struct {
	BlockTime    time.Duration `json:"block_time"`              // nanoseconds between blocks
	P2P          string        `json:"p2p,omitempty"`           // where peers reach this node, host:port; empty: it has none
	Peers        []string      `json:"peers,omitempty"`         // id@host:port
	RPC          string        `json:"rpc,omitempty"`           // CometBFT RPC, host:port; empty: no listener
	GRPC         string        `json:"grpc,omitempty"`          // gRPC, host:port
	REST         string        `json:"rest,omitempty"`          // REST, host:port
	Hosts        []string      `json:"hosts,omitempty"`         // more names that lead to the listeners; see package door
	Origins      []string      `json:"origins,omitempty"`       // web origins whose pages may ask RPC and REST; none: no other site's
	Stalled      time.Duration `json:"stalled"`                 // no block for so long ends the node; 0: 30 s
	RetainBlocks uint64        `json:"retain_blocks,omitempty"` // blocks kept, and as many more as evidence and snapshots need; 0: 20,000
	// Who joins begins with a copy of the state. SnapshotEvery is how many
	// blocks lie between two; 0: 1,000 with peers; below 0: none are made.
	// SnapshotKeep is how many of the newest are kept; 0: 2.
	SnapshotEvery int64  `json:"snapshot_every,omitempty"`
	SnapshotKeep  uint32 `json:"snapshot_keep,omitempty"`
	Join          *Join  `json:"join,omitempty"` // nil: begins with the genesis
}

// Join is how a node without state begins: with a snapshot from its peers, held
// against headers that it follows from one it was told to trust.
type Join struct {
	RPC    []string `json:"rpc"` // nodes to ask for headers; from the second on they check the first
	Height int64    `json:"height"`
	Hash   string   `json:"hash"` // of the block at Height, in hex
}

func (s Settings) snapshots() ledger.Snapshots {
	out := ledger.Snapshots{Every: 1000, Keep: s.SnapshotKeep}
	switch {
	case s.P2P == "" || s.SnapshotEvery < 0:
		out.Every = 0 // nobody could ask
	case s.SnapshotEvery > 0:
		out.Every = uint64(s.SnapshotEvery)
	}
	if out.Keep == 0 {
		out.Keep = 2
	}
	return out
}

// ErrNoHome says that a folder holds no node.
var ErrNoHome = errors.New("no ledger here")

func (h Home) path(parts ...string) string {
	return filepath.Join(append([]string{string(h)}, parts...)...)
}

// Create writes a new node's home. It refuses a folder that holds one.
func (h Home) Create(doc *cmttypes.GenesisDoc, validator ed25519.PrivKey, id *p2p.NodeKey, s Settings) error {
	if _, err := os.Stat(h.path("genesis.json")); err == nil {
		return fmt.Errorf("%s holds a ledger already", h)
	}
	if err := os.MkdirAll(h.path("data"), 0o700); err != nil {
		return err
	}
	if err := h.Save(s); err != nil {
		return err
	}
	if err := id.SaveAs(h.path("node_key.json")); err != nil {
		return err
	}
	privval.NewFilePV(validator, h.path("validator_key.json"), h.path("data", "validator_state.json")).Save()
	return doc.SaveAs(h.path("genesis.json"))
}

// Settings reads ledger.json.
func (h Home) Settings() (s Settings, err error) {
	b, err := os.ReadFile(h.path("ledger.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w: %s has no ledger.json", ErrNoHome, h)
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", h.path("ledger.json"), err)
	}
	return s, nil
}

// Save writes ledger.json.
func (h Home) Save(s Settings) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(h.path("ledger.json"), append(b, '\n'), 0o600)
}
