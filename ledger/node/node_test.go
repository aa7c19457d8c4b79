package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
)

func TestMemory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	n, err := devnet.Memory(ctx, devnet.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first block after %v", time.Since(began))
	if err := n.WaitHeight(ctx, 5); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	n.Stop()
	if err := n.Err(); err != nil {
		t.Fatalf("a wanted stop is no error: %v", err)
	}
	if err := n.WaitHeight(ctx, 1<<40); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waiting on a stopped node: %v", err)
	}
}

func TestHome(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dir := t.TempDir()
	if _, err := node.Open(ctx, node.Home(dir), node.Options{}); !errors.Is(err, node.ErrNoHome) {
		t.Fatalf("an empty folder: %v", err)
	}
	homes, err := devnet.InitHomes(dir, 1, devnet.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for range 3 {
		n, err := node.Open(ctx, homes[0], node.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Height() < last {
			t.Fatalf("went back from block %d to %d", last, n.Height())
		}
		if err := n.WaitHeight(ctx, n.Height()+3); err != nil {
			t.Fatal(err)
		}
		last = n.Height()
		n.Stop()
	}
	if _, err := devnet.InitHomes(dir, 1, devnet.Spec{}); err == nil {
		t.Fatal("a home was overwritten")
	}
}
