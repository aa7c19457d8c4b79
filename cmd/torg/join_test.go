package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"

	ledgernode "github.com/torg-network/torg/ledger/node"
)

// A full node joins two validators by one command, is killed before it has the
// state, after it has it, and goes on each time; it has their state, though not
// the blocks before its snapshot.
func TestLedgerJoin(t *testing.T) {
	if testing.Short() {
		t.Skip("makes blocks for half a minute")
	}
	t.Parallel()
	dir := t.TempDir()
	ports := freePorts(t, 4)
	init := command("ledger", "init", "--home", dir, "--validators", "2", "--hosts", ports[0][0]+","+ports[1][0])
	init.Env = append(init.Env, "TORG_BLOCK_TIME=200ms")
	finish(t, init).want(t, exitOK)
	for _, name := range []string{"0", "1"} {
		h := ledgernode.Home(filepath.Join(dir, name))
		set, err := h.Settings()
		if err != nil {
			t.Fatal(err)
		}
		set.SnapshotEvery, set.SnapshotKeep = 5, 1000 // at five blocks a second: what was found can still be fetched
		if err := h.Save(set); err != nil {
			t.Fatal(err)
		}
		begin(t, command("ledger", "start", "--home", string(h)))
	}
	from := "http://" + ports[0][1] + ",http://" + ports[1][1]
	first := reachBlock(t, ports[0][1], 12)

	joiner := filepath.Join(dir, "joiner")
	args := []string{"ledger", "join", "--home", joiner, "--from", from, "--p2p", ports[2][0], "--rpc", ports[2][1]}
	run(t, args...).want(t, exitUsage, "--trust", "12") // what the nodes say
	b, err := first.Block(t.Context(), ptr(int64(4)))
	if err != nil {
		t.Fatal(err)
	}
	trust := "4:" + hex.EncodeToString(b.BlockID.Hash)
	wrong := "4:" + strings.Repeat("ab", 32)
	run(t, append(args, "--trust", wrong)...).want(t, exitFailure, "not the one to trust")
	if _, err := ledgernode.Home(joiner).Settings(); err == nil {
		t.Fatal("a home was made for a ledger that is not the trusted one")
	}
	args = append(args, "--trust", trust)

	p := begin(t, command(args...))
	await(t, "the node to begin", func() error {
		if s := p.out.String(); !strings.Contains(s, ports[2][1]) {
			return fmt.Errorf("it says %q", s)
		}
		return nil
	})
	p.kill() // it looks for snapshots for five seconds
	p = begin(t, command(args...))
	reachBlock(t, ports[2][1], 15)
	p.kill()
	begin(t, command("ledger", "start", "--home", joiner))
	joined := reachBlock(t, ports[2][1], 20)

	s, err := joined.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.SyncInfo.EarliestBlockHeight <= 5 || s.SyncInfo.EarliestBlockHeight%5 != 1 {
		t.Errorf("it ran the blocks from %d on, and took no snapshot", s.SyncInfo.EarliestBlockHeight)
	}
	own, err := joined.ABCIInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := own.Response.LastBlockHeight + 1
	reachBlock(t, ports[0][1], next)
	theirs, err := first.Block(t.Context(), &next)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(own.Response.LastBlockAppHash), hex.EncodeToString(theirs.Block.AppHash); got != want {
		t.Errorf("after block %d its state is %s, theirs %s", next-1, got, want)
	}
	run(t, "ledger", "join", "--home", filepath.Join(dir, "0"), "--from", from, "--trust", trust).want(t, exitUsage, "did not join")
}

func ptr[T any](v T) *T { return &v }

// freePorts are n pairs of neighbouring ports that nothing listens on.
func freePorts(t *testing.T, n int) (pairs [][2]string) {
	t.Helper()
	for port := 21000 + int(time.Now().UnixNano()%20000); len(pairs) < n; port += 2 {
		var at [2]string
		free := true
		for i := range at {
			at[i] = fmt.Sprintf("127.0.0.1:%d", port+i)
			l, err := net.Listen("tcp", at[i])
			if free = free && err == nil; err == nil {
				l.Close()
			}
		}
		if free {
			pairs = append(pairs, at)
		}
	}
	return pairs
}

// reachBlock waits until the node whose RPC is at the address has the block.
func reachBlock(t *testing.T, at string, height int64) *rpchttp.HTTP {
	t.Helper()
	c, err := rpchttp.New("http://"+at, "/websocket")
	if err != nil {
		t.Fatal(err)
	}
	await(t, fmt.Sprintf("block %d of %s", height, at), func() error {
		s, err := c.Status(t.Context())
		if err == nil && s.SyncInfo.LatestBlockHeight < height {
			err = fmt.Errorf("at block %d", s.SyncInfo.LatestBlockHeight)
		}
		return err
	})
	return c
}
