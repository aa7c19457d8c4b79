package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
)

// homeVariable tells a process of this test binary to run a ledger and to say
// each block it makes.
const homeVariable = "TORG_TEST_NODE_HOME"

func TestMain(m *testing.M) {
	home := os.Getenv(homeVariable)
	if home == "" {
		os.Exit(m.Run())
	}
	n, err := node.Open(context.Background(), node.Home(home), node.Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for h := n.Height() + 1; ; h++ {
		if err := n.WaitHeight(context.Background(), h); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(h)
	}
}

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

// A ledger that is killed in the middle of its work goes on where it was.
func TestKill(t *testing.T) {
	homes, err := devnet.InitHomes(t.TempDir(), 1, devnet.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for range 3 {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), homeVariable+"="+string(homes[0]))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		var first, h int64
		for range 10 {
			if _, err := fmt.Fscan(out, &h); err != nil {
				c.Process.Kill()
				rest, _ := io.ReadAll(out)
				t.Fatalf("after block %d: %v: %s", h, err, rest)
			}
			if first == 0 {
				first = h
			}
		}
		c.Process.Kill() // -9
		c.Wait()
		if first <= last {
			t.Fatalf("it said block %d again, after %d", first, last)
		}
		last = h
	}
}

func TestListeners(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s := node.Settings{BlockTime: 50 * time.Millisecond, RPC: "127.0.0.1:26961", GRPC: "127.0.0.1:26962", REST: "127.0.0.1:26963"}
	n, err := devnet.Memory(ctx, devnet.Spec{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()

	get := func(path string, into any) int {
		t.Helper()
		r, err := http.Get("http://" + s.REST + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if into != nil {
			if err := json.NewDecoder(r.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
		return r.StatusCode
	}
	var supply struct {
		Supply   string `json:"supply"`
		Balanced bool   `json:"balanced"`
	}
	if code := get("/torg/market/v1/supply/utorg", &supply); code != 200 || supply.Supply != "11000000000000" || !supply.Balanced {
		t.Fatalf("supply over REST: %d %+v", code, supply)
	}
	if code := get("/torg/market/v1/leases/"+strings.Repeat("ab", 32), nil); code != 404 {
		t.Fatalf("a lease that never was: status %d", code)
	}
	if code := get("/torg/market/v1/leases/xyz", nil); code != 400 {
		t.Fatalf("no hash: status %d", code)
	}
	if code := get("/cosmos/bank/v1beta1/balances/"+devnet.Key(0).Address().String(), nil); code != 200 {
		t.Fatalf("a balance over REST: status %d", code)
	}

	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := marketv1.NewQueryClient(conn).Params(ctx, &marketv1.QueryParamsRequest{})
	if err != nil || p.Params.FeeBps == 0 {
		t.Fatalf("params over gRPC: %+v, %v", p, err)
	}

	// A port that is taken is an error that says so, for each listener.
	for _, busy := range []node.Settings{{RPC: s.RPC}, {GRPC: s.GRPC}, {REST: s.REST}} {
		if other, err := devnet.Memory(ctx, devnet.Spec{Settings: busy}); err == nil || !strings.Contains(err.Error(), "another process has this port") {
			if other != nil {
				other.Stop()
			}
			t.Errorf("%+v: %v", busy, err)
		}
	}
	// And a stopped node leaves its ports.
	n.Stop()
	for _, addr := range []string{s.RPC, s.GRPC, s.REST} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("after the end: %v", err)
			continue
		}
		l.Close()
	}
}

// One validator of two can make no block: the node says so and ends.
func TestStalled(t *testing.T) {
	homes, err := devnet.InitHomes(t.TempDir(), 2, devnet.Spec{
		Hosts: []string{"127.0.0.1:26971", "127.0.0.1:26972"}, Settings: node.Settings{Stalled: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := devnet.Run(t.Context(), homes[0], node.Options{}); !errors.Is(err, node.ErrStalled) {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
}
