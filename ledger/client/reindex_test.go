package client_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// TestIndexAfterKill: a transaction whose block was committed but never indexed,
// as a kill between the two leaves it, is found after the next start.
func TestIndexAfterKill(t *testing.T) {
	dir := t.TempDir()
	// Blocks far apart: the transaction's is among the last when the node stops.
	homes, err := devnet.InitHomes(dir, 1, devnet.Spec{Settings: node.Settings{BlockTime: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*node.Node, *client.Client) {
		n, err := node.Open(t.Context(), homes[0], node.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(t.Context(), n, client.Options{})
		if err != nil {
			n.Stop()
			t.Fatal(err)
		}
		return n, c
	}
	n, c := start()
	if err := n.WaitHeight(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	sent, err := c.Account(devnet.Key(0)).Send(t.Context(), devnet.Key(1).Address(), square.Utorg(1))
	c.Close()
	n.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "data", "txs.db")); err != nil {
		t.Fatal(err)
	}
	n, c = start()
	defer n.Stop()
	defer c.Close()
	if found, err := c.Tx(t.Context(), sent.Hash); err != nil || found.Height != sent.Height {
		t.Errorf("transaction of block %d: %+v, %v", sent.Height, found, err)
	}
}
