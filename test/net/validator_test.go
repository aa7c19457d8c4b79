//go:build linux

package net_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	rpcclient "github.com/cometbft/cometbft/rpc/client"
	rpchttp "github.com/cometbft/cometbft/rpc/client/http"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// homeEnv makes the test binary a validator of that home instead of a test, and
// upgradeEnv one that knows the upgrade of that name.
const (
	homeEnv    = "TORG_TEST_VALIDATOR"
	upgradeEnv = "TORG_TEST_UPGRADE"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(homeEnv); home != "" {
		if err := validate(home); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// validate runs a validator until its standard input ends, which it does with
// the test process, however that ends.
func validate(home string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o := node.Options{Log: log}
	if name := os.Getenv(upgradeEnv); name != "" {
		o.Upgrades = []ledger.Upgrade{{Name: name, Run: func(ctx context.Context, a *ledger.App) error {
			from, to := operator(0).Address(), gift
			return a.Bank.SendCoins(ctx, from[:], to[:], sdk.NewCoins(sdk.NewInt64Coin(square.Denom, 3)))
		}}}
	}
	return devnet.Run(ctx, node.Home(home), o)
}

// rpcAddr is where each validator answers, on its own host only.
const rpcAddr = "127.0.0.1:26657"

// validator is one process on a host of its own.
type validator struct {
	t     *testing.T
	hosts hosts
	index int
	home  node.Home
	log   string // file

	rpc *rpchttp.HTTP
	*client.Client

	upgrade string // what its program knows
	process *exec.Cmd
	input   io.Closer
	exited  chan struct{} // closed when process has ended
	ending  bool          // the test ends it
}

func newValidator(t *testing.T, h hosts, i int, home node.Home) *validator {
	v := &validator{t: t, hosts: h, index: i, home: home, log: filepath.Join(string(home), "log")}
	// One connection per request under way, at most; each dial costs a thread.
	web := &http.Client{Transport: client.Patient(&http.Transport{DialContext: h.dialer(i), MaxIdleConnsPerHost: 100})}
	rpc, err := rpchttp.NewWithClient("http://"+rpcAddr, "/websocket", web)
	if err != nil {
		t.Fatal(err)
	}
	v.rpc = rpc
	t.Cleanup(func() {
		if v.Client != nil {
			v.Client.Close()
		}
		v.end(false)
	})
	return v
}

// start runs the process.
func (v *validator) start() error {
	log, err := os.OpenFile(v.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// ip becomes the program it runs: the process that is killed is the validator.
	p := v.hosts.command(v.index, os.Args[0])
	p.Env = append(os.Environ(), homeEnv+"="+string(v.home), upgradeEnv+"="+v.upgrade)
	p.Stdout, p.Stderr = log, log
	if v.input, err = p.StdinPipe(); err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	v.process, v.exited, v.ending = p, exited, false
	go func() {
		_ = p.Wait()
		close(exited)
	}()
	return nil
}

// end stops the process, at once or in its own time, and waits for it.
func (v *validator) end(kill bool) {
	if v.process == nil {
		return
	}
	v.ending = true
	if kill {
		_ = v.process.Process.Kill()
	} else {
		_ = v.input.Close()
	}
	select {
	case <-v.exited:
	case <-time.After(15 * time.Second):
		v.t.Errorf("validator %d does not stop", v.index)
		_ = v.process.Process.Kill()
		<-v.exited
	}
}

// signal stops the process where it is, or lets it go on.
func (v *validator) signal(s syscall.Signal) error {
	if err := v.process.Process.Signal(s); err != nil {
		return fmt.Errorf("validator %d: %w", v.index, err)
	}
	return nil
}

// alive is an error if the process has ended by itself.
func (v *validator) alive() error {
	select {
	case <-v.exited:
		if !v.ending {
			return fmt.Errorf("validator %d ended by itself: %s", v.index, v.process.ProcessState)
		}
	default:
	}
	return nil
}

// connect waits until the validator answers.
func (v *validator) connect(ctx context.Context, o client.Options) error {
	for {
		s, err := v.rpc.Status(ctx)
		if err == nil {
			v.Client, err = client.New(ctx, far{v.rpc, s.NodeInfo.Network}, o)
			return err
		}
		if err := v.alive(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("validator %d does not answer: %w", v.index, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// height is that of the validator's last block; 0 while it does not answer.
func (v *validator) height(ctx context.Context) int64 {
	s, err := v.rpc.Status(ctx)
	if err != nil {
		return 0
	}
	return s.SyncInfo.LatestBlockHeight
}

// tail is the end of the validator's log, without what the state's tree says of
// each of its nodes.
func (v *validator) tail(lines int) string {
	b, err := os.ReadFile(v.log)
	if err != nil {
		return err.Error()
	}
	all := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b)), "\n"), func(line string) bool {
		return strings.Contains(line, "level=DEBUG") && strings.Contains(line, "part=ledger")
	})
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// far is a validator as package client wants it.
type far struct {
	*rpchttp.HTTP
	chain string
}

func (f far) RPC() rpcclient.Client { return f.HTTP }
func (f far) ChainID() string       { return f.chain }

func (f far) WaitHeight(ctx context.Context, h int64) error {
	for {
		if s, err := f.Status(ctx); err == nil && s.SyncInfo.LatestBlockHeight >= h {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
