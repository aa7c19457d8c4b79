package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/plug"
)

// running is what a square that is up writes for the other commands to find.
type running struct {
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	BaseURL  string    `json:"base_url"` // OpenAI
	APIKey   string    `json:"api_key"`
	AdminURL string    `json:"admin_url"`
	Token    string    `json:"admin_token"`
	RPC      string    `json:"rpc"`
	GRPC     string    `json:"grpc"`
	REST     string    `json:"rest"`
	ChainID  string    `json:"chain_id"`
	Wallet   string    `json:"wallet"`
	Provider string    `json:"provider"`
}

// place is where programs find the square.
func (r running) place() plug.Place { return plug.Place{URL: r.AdminURL, Key: r.APIKey} }

const (
	lockFile    = "lock"
	runningFile = "running.json"
)

// lockHome makes this process the only square on its home directory. The lock
// dies with the process, however it dies.
func lockHome(cfg config) (unlock func(), err error) {
	if err := os.MkdirAll(cfg.path(), 0o700); err != nil {
		return nil, fmt.Errorf("make the home directory: %w", err)
	}
	f, err := os.OpenFile(cfg.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the home directory: %w", err)
	}
	if err := host.Lock(f); err != nil {
		f.Close()
		if !errors.Is(err, host.ErrLocked) {
			return nil, fmt.Errorf("lock the home directory: %s: %w", cfg.path(lockFile), err)
		}
		if run, rerr := findRunning(cfg); rerr == nil {
			return nil, usageError("a square is already up on %s: process %d at %s; ask it (torg chat), stop it (Ctrl-C there), or choose another --home", cfg.path(), run.PID, run.BaseURL)
		}
		return nil, usageError("another torg is using %s; wait for it, or choose another --home", cfg.path())
	}
	return func() { f.Close() }, nil
}

// findRunning reads where the square on this home directory listens.
func findRunning(cfg config) (running, error) {
	var run running
	b, err := os.ReadFile(cfg.path(runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return run, usageError("no square is up on %s; start one with: torg up", cfg.path())
	} else if err != nil {
		return run, fmt.Errorf("find the running square: %w", err)
	}
	if err := json.Unmarshal(b, &run); err != nil {
		return run, fmt.Errorf("read %s: %w", cfg.path(runningFile), err)
	}
	// After a kill -9 the file is still there: the process decides.
	if !host.Alive(run.PID) {
		return run, usageError("no square is up on %s (the last one, process %d, is gone); start one with: torg up", cfg.path(), run.PID)
	}
	return run, nil
}

// writeFile replaces a file in one step, readable by the owner only.
func writeFile(path string, data any) error {
	b, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return os.Rename(tmp, path)
}

// wipe removes everything a square keeps but the configuration file.
func wipe(cfg config) error {
	for _, name := range []string{"ledger", "provider", "judge", walletName, "api-key", "admin-token", "receipts.db", "receipts.db.log", "receipts.db.segments", "keys.db", "history.db", runningFile} {
		if err := os.RemoveAll(cfg.path(name)); err != nil {
			return fmt.Errorf("wipe %s: %w", filepath.Join(cfg.path(), name), err)
		}
	}
	return nil
}
