package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// benchSquare measures what issue "Open the square" promises, each on the real
// thing: a torg up of its own for whatever a client sees, an embedded ledger
// with the same block time for transactions.
func benchSquare(ctx context.Context, cfg config, report func(measure)) error {
	dir, err := os.MkdirTemp("", "torg-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, step := range []struct {
		name string
		run  func(context.Context, config, string, func(measure)) error
	}{
		{"engine", benchEngine}, {"voucher", benchVouchers}, {"block", benchFirstBlock}, {"ledger", benchLedger}, {"idle", benchIdle},
		{"validators", benchValidators}, {"packages", benchPackages}, {"up", benchUp}, {"gateway", benchGateway}, {"many", benchMany}, {"receipts", benchReceipts}, {"flood", benchFlood},
	} {
		if benchOnly != "" && benchOnly != step.name {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step.run(ctx, cfg, dir, report); err != nil {
			return err
		}
	}
	return nil
}

// perCPUSecond repeats work for about two seconds on one goroutine and returns how
// much was done per CPU second.
func perCPUSecond(work func() (int, error)) (rate, cpu, wall float64, err error) {
	if _, err := work(); err != nil { // warm
		return 0, 0, 0, err
	}
	done := 0
	sw := startWatch()
	for time.Since(sw.wall) < 2*time.Second {
		n, err := work()
		if err != nil {
			return 0, 0, 0, err
		}
		done += n
	}
	cpu, wall = sw.stop()
	return float64(done) / cpu, cpu, wall, nil
}

func benchEngine(ctx context.Context, _ config, _ string, report func(measure)) error {
	for _, b := range []struct {
		name string
		run  func(context.Context) (int, error)
	}{{"exact/decode", nano.Decode}, {"exact/prefill", nano.Prefill}, {"exact/verify", nano.Verify}} {
		rate, cpu, wall, err := perCPUSecond(func() (int, error) { return b.run(ctx) })
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		report(measure{b.name, rate, "tokens/cpu-s", cpu, wall})
	}
	return nil
}

func benchVouchers(_ context.Context, _ config, _ string, report func(measure)) error {
	k, err := square.NewKey()
	if err != nil {
		return err
	}
	d := square.ChannelDomain("bench")
	// Each is verified once, as when it arrives: again costs nothing. The key is
	// known, as a lane's is from its second voucher on.
	who := k.Address()
	vs := make([]square.Voucher, 8000)
	for i := range vs {
		vs[i] = square.SignVoucher(d, square.Hash{byte(i), byte(i >> 8)}, uint64(i+1)*1000, k)
	}
	sw := startWatch()
	for _, v := range vs {
		if err := v.Verify(d, who); err != nil {
			return err
		}
	}
	cpu, wall := sw.stop()
	report(measure{"voucher/verify", float64(len(vs)) / cpu, "1/core-s", cpu, wall})
	return nil
}

// benchFirstBlock times an embedded ledger on disk from nothing to a block.
func benchFirstBlock(ctx context.Context, cfg config, dir string, report func(measure)) error {
	blockTime, err := cfg.duration("block-time")
	if err != nil {
		return err
	}
	homes, err := devnet.InitHomes(filepath.Join(dir, "first"), 1, devnet.Spec{Trades: trades(), Settings: ledgernode.Settings{BlockTime: blockTime}})
	if err != nil {
		return err
	}
	sw := startWatch()
	n, err := ledgernode.Open(ctx, homes[0], ledgernode.Options{Trades: trades()})
	if err != nil {
		return err
	}
	defer n.Stop()
	if err := n.WaitHeight(ctx, 1); err != nil {
		return err
	}
	cpu, wall := sw.stop()
	report(measure{"start/first-block", wall, "s", cpu, wall})
	return nil
}

// burst does n pieces of work, so many at once, and returns how many a second.
func burst(n, at int, work func(i int) error) (rate, cpu, wall float64, err error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, at)
	sw := startWatch()
	for w := range at {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[w] = work(i); errs[w] != nil {
					next.Store(int64(n)) // the others stop as well
				}
			}
		}()
	}
	wg.Wait()
	cpu, wall = sw.stop()
	for _, err := range errs {
		if err != nil {
			return 0, cpu, wall, err
		}
	}
	return float64(n) / wall, cpu, wall, nil
}

// benchUp starts a torg up in a process of its own and measures what its user
// meets.
func benchUp(ctx context.Context, cfg config, dir string, report func(measure)) error {
	sw := startWatch()
	up, run, err := startUp(ctx, filepath.Join(dir, "up"))
	if err != nil {
		return err
	}
	defer up.stop()
	pid := up.cmd.Process.Pid
	api := openAIClient{base: run.BaseURL, key: run.APIKey}
	if _, err := benchAsk(ctx, api, 0); err != nil {
		return fmt.Errorf("first answer: %w", err)
	}
	cpu, wall := sw.stop()
	report(measure{"start/first-answer", wall, "s", cpu + processCPU(pid), wall})

	if err := benchOverhead(ctx, api, pid, report); err != nil {
		return err
	}
	rss, err := residentMiB(pid)
	if err != nil {
		return err
	}
	report(measure{"memory/up", rss, "MiB", 0, 0})
	return nil
}

const (
	benchRequests = 1000
	benchTokens   = 16
	benchPrompt   = "It was a truth universally acknowledged"
)

// benchAsk asks one question through the gateway.
func benchAsk(ctx context.Context, api openAIClient, seed int) (time.Duration, error) {
	start := time.Now()
	resp, err := api.call(ctx, "POST", "/completions", map[string]any{
		"model": nano.Name, "prompt": benchPrompt, "max_tokens": benchTokens, "seed": seed})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Receipt string `json:"receipt"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	if err == nil && answer.Receipt == "" {
		err = errors.New("the answer has no receipt")
	}
	return time.Since(start), err
}

// benchOverhead compares each request through the gateway with the same work
// done by the engine in this process, in turns, so that both meet the same
// machine.
func benchOverhead(ctx context.Context, api openAIClient, pid int, report func(measure)) error {
	m := nano.Model()
	var over []float64
	before := processCPU(pid)
	sw := startWatch()
	for i := range benchRequests {
		t, err := benchAsk(ctx, api, i)
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		start := time.Now()
		if _, err := m.Generate(ctx, exact.Request{Prompt: []byte(benchPrompt), MaxTokens: benchTokens, Temperature: 1000, TopP: 10_000, Seed: square.Hash{byte(i), byte(i >> 8)}},
			func(exact.Token) error { return nil }); err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		over = append(over, (t-time.Since(start)).Seconds()*1000)
	}
	cpu, wall := sw.stop()
	cpu += processCPU(pid) - before
	slices.Sort(over)
	report(measure{"gateway/overhead/p50", percentile(over, 0.5), "ms", cpu, wall})
	report(measure{"gateway/overhead/p99", percentile(over, 0.99), "ms", cpu, wall})
	return nil
}

// processCPU is the CPU seconds another process has used; 0 where the system
// does not tell.
func processCPU(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Fields 14 and 15 after the name, which is in parentheses, in clock ticks
	// of a hundredth of a second.
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

func residentMiB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of torg up: %w", err)
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, errors.New("memory of torg up: the system does not tell")
	}
	pages, err := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}
