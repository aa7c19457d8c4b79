package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/store/v2/snapshots"
	snapshottypes "github.com/cosmos/cosmos-sdk/store/v2/snapshots/types"
)

// Snapshots are copies of the whole state after some blocks, in
// data/snapshots of the Home. A node that joins takes the newest from its peers
// instead of running every block since the first.
type Snapshots struct {
	Every uint64 // blocks from one to the next; 0: none are made
	Keep  uint32 // how many of the newest are kept, at least one
}

// retain is how many blocks must be kept: who takes the oldest snapshot needs
// those after it.
func (s Snapshots) retain(blocks uint64) uint64 {
	if blocks == 0 {
		return 0
	}
	return max(blocks, s.Every*uint64(s.Keep+1))
}

// snapshotting makes one snapshot at a time, beside the blocks.
type snapshotting struct {
	Snapshots
	running sync.WaitGroup
	one     sync.Mutex
}

func (a *App) setSnapshots(c Config) error {
	dir := filepath.Join(c.Home, "data", "snapshots")
	// What they are is noted in the ledger's own database: one file to lock,
	// and to close.
	store, err := snapshots.NewStore(dbm.NewPrefixDB(shared{c.DB}, []byte("torg/snapshots/")), dir)
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	if err := removeUnfinished(store, dir); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	a.snapshots.Snapshots = c.Snapshots
	// With an interval of its own the SDK would make them in a goroutine that
	// nobody waits for, and whose database is closed under it. Commit makes
	// them; the store is told, so that it keeps the state of their heights.
	baseapp.SetSnapshot(store, snapshottypes.NewSnapshotOptions(0, c.Snapshots.Keep))(a.BaseApp)
	a.CommitMultiStore().SetSnapshotInterval(c.Snapshots.Every)
	return nil
}

// shared is a database that somebody else closes.
type shared struct{ dbm.DB }

func (shared) Close() error { return nil }

// removeUnfinished removes the folders of snapshots that a kill cut off.
func removeUnfinished(store *snapshots.Store, dir string) error {
	done, err := store.List()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, s := range done {
		known[strconv.FormatUint(s.Height, 10)] = true
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range found {
		if !known[f.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Commit stores the block and begins a snapshot where one is due.
func (a *App) Commit() (*abci.ResponseCommit, error) {
	res, err := a.BaseApp.Commit()
	height := uint64(a.LastBlockHeight())
	if every := a.snapshots.Every; err == nil && every > 0 && height%every == 0 {
		a.snapshots.running.Go(func() { a.snapshot(height) })
	}
	return res, err
}

func (a *App) snapshot(height uint64) {
	a.snapshots.one.Lock()
	defer a.snapshots.one.Unlock()
	m := a.SnapshotManager()
	if _, err := m.Create(height); err != nil {
		a.Logger().Error("snapshot not made", "block", height, "err", err)
		return
	}
	if _, err := m.Prune(max(1, a.snapshots.Keep)); err != nil {
		a.Logger().Error("old snapshots not removed", "block", height, "err", err)
	}
}

// Close waits for a snapshot that is being made, then closes the state and its
// database. No block may be committed any more.
func (a *App) Close() error {
	a.snapshots.running.Wait()
	if err := a.BaseApp.Close(); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}
