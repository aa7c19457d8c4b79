//go:build linux

// Package net_test runs the ledger as it is meant to run: several validators,
// each in a process and on a host of its own, whose network breaks.
//
// The hosts are network namespaces ([hosts]), so the test needs root and ip, of
// iproute2, and touches nothing of the machine's own network. What must hold is
// said by [audit]: one chain, and no transaction lost.
package net_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// stalled is for how long a validator may see no block, longer than any time
// without a majority here.
const stalled = 40 * time.Second

// floodTxs is how many transfers a flood is.
const floodTxs = 1600

// TestPartitions kills, partitions, isolates, pauses and disconnects validators
// while transactions come in everywhere, once as a flood.
func TestPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped 1 test: it takes more than a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	h := newHosts(t, 4)
	traffic := newTraffic(4)
	vs := newSquare(t, h, traffic)

	sending, stop := context.WithCancel(ctx)
	defer stop()
	var ended []crash
	var cut time.Time

	play(t, ctx, vs, []step{
		{"start 4, wait for block 2", func() (string, error) {
			for _, v := range vs {
				if err := v.start(); err != nil {
					return "", err
				}
			}
			for _, v := range vs {
				if err := v.connect(ctx, client.Options{TTL: ttl}); err != nil {
					return "", err
				}
			}
			return "", reach(ctx, 2, vs...)
		}},
		{"send to all for 3 s", func() (string, error) {
			before := highest(ctx, vs...)
			traffic.start(sending, vs)
			time.Sleep(3 * time.Second)
			return blocks(highest(ctx, vs...) - before), nil
		}},
		{"kill -9 of 0, 5 more blocks", func() (string, error) {
			vs[0].end(true)
			ended = append(ended, crash{victim: 0, at: time.Now()})
			return "", reach(ctx, highest(ctx, vs[1:]...)+5, vs[1:]...)
		}},
		{"restart 0, wait until it caught up", func() (string, error) {
			if err := vs[0].start(); err != nil {
				return "", err
			}
			return "", catchUp(ctx, vs)
		}},
		{"2-2 partition for 7 s", func() (string, error) {
			cut = time.Now()
			if err := h.plug(right, 2, 3); err != nil {
				return "", err
			}
			time.Sleep(2 * time.Second) // what was on its way arrives, or does not
			before := heights(ctx, vs...)
			time.Sleep(5 * time.Second)
			after := heights(ctx, vs...)
			for i := range vs {
				if before[i] != after[i] || before[i] == 0 {
					return "", fmt.Errorf("heights went from %v to %v without a majority", before, after)
				}
				// Otherwise the test would not tell what becomes of such promises.
				if traffic.count(queued, i, cut) == 0 {
					return "", fmt.Errorf("validator %d accepted nothing meanwhile", i)
				}
			}
			return fmt.Sprintf("stood at %v", after), nil
		}},
		{"heal, 3 more blocks everywhere", func() (string, error) {
			if err := h.plug(left, 2, 3); err != nil {
				return "", err
			}
			return "", reach(ctx, highest(ctx, vs...)+3, vs...)
		}},
		{"isolate 3 for 7 s", func() (string, error) {
			cut = time.Now()
			if err := h.plug(right, 3); err != nil {
				return "", err
			}
			time.Sleep(2 * time.Second)
			before := heights(ctx, vs...)
			time.Sleep(5 * time.Second)
			after := heights(ctx, vs...)
			if after[3] != before[3] || after[3] == 0 {
				return "", fmt.Errorf("the isolated validator went from block %d to %d", before[3], after[3])
			}
			if after[0] < before[0]+2 {
				return "", fmt.Errorf("the majority went from block %d to %d only", before[0], after[0])
			}
			if traffic.count(queued, 3, cut) == 0 {
				return "", fmt.Errorf("the isolated validator accepted nothing")
			}
			return "majority " + blocks(after[0]-before[0]), nil
		}},
		{"rejoin, wait until it caught up", func() (string, error) {
			if err := h.plug(left, 3); err != nil {
				return "", err
			}
			return "", catchUp(ctx, vs)
		}},
		{fmt.Sprintf("pause 1 for %s, flood the others", stalled+2*time.Second), func() (string, error) {
			if err := vs[1].signal(syscall.SIGSTOP); err != nil {
				return "", err
			}
			began, before := time.Now(), highest(ctx, vs[0], vs[2], vs[3])
			traffic.flood(floodTxs, vs[0], vs[2], vs[3])
			took := time.Since(began)
			// Longer than a process may see no block and go on: but it saw no
			// time pass either.
			time.Sleep(stalled + 2*time.Second - took)
			made := highest(ctx, vs[0], vs[2], vs[3]) - before
			if err := vs[1].signal(syscall.SIGCONT); err != nil {
				return "", err
			}
			if made < 5 {
				return "", fmt.Errorf("the others made %s only", blocks(made))
			}
			return fmt.Sprintf("flooded in %.1f s, the others made %s", took.Seconds(), blocks(made)), nil
		}},
		{"go on, wait until it caught up", func() (string, error) { return "", catchUp(ctx, vs) }},
		{"disconnect 2 for 4 s", func() (string, error) {
			if err := h.cut(2); err != nil {
				return "", err
			}
			before := highest(ctx, vs[0], vs[1], vs[3])
			time.Sleep(4 * time.Second)
			if err := reach(ctx, before+1, vs[0], vs[1], vs[3]); err != nil {
				return "", err
			}
			return "", h.mend(2)
		}},
		{"reconnect, wait until it caught up", func() (string, error) { return "", catchUp(ctx, vs) }},
		{"stop sending, wait for outcomes", func() (string, error) {
			stop()
			traffic.wg.Wait()
			return "", reach(ctx, highest(ctx, vs...)+2, vs...)
		}},
		{"audit", func() (string, error) { return audit(ctx, vs, traffic, ended) }},
	})
}

// step is a part of a test, and what it has to say for itself.
type step struct {
	name string
	do   func() (string, error)
}

func play(t *testing.T, ctx context.Context, vs []*validator, steps []step) {
	t.Helper()
	t.Logf("%-36s %7s  %-16s", "step", "took", "heights after")
	for _, s := range steps {
		began := time.Now()
		said, err := s.do()
		if err != nil {
			t.Fatalf("%s: after %.1f s: %v", s.name, time.Since(began).Seconds(), err)
		}
		t.Logf("%-36s %5.1f s  %-16s %s", s.name, time.Since(began).Seconds(), fmt.Sprint(heights(ctx, vs...)), said)
	}
}

// newSquare makes the homes of the validators, one for each host, with money
// for those who will send.
func newSquare(t *testing.T, h hosts, traffic *traffic) []*validator {
	t.Helper()
	spec := devnet.Spec{Settings: node.Settings{
		BlockTime: 500 * time.Millisecond,
		RPC:       rpcAddr,
		Stalled:   stalled,
	}}
	for _, k := range append(slices.Clone(traffic.payers), traffic.flooders...) {
		spec.Balances = append(spec.Balances, ledger.Balance{Owner: k.Address(), Amount: square.Utorg(purse)})
	}
	for i := range 4 {
		spec.Hosts = append(spec.Hosts, address(i)+":26656")
		owner := operator(i).Address()
		spec.Operators = append(spec.Operators, owner)
		spec.Balances = append(spec.Balances, ledger.Balance{Owner: owner, Amount: square.Utorg(purse)})
	}
	dir, err := os.MkdirTemp("", h.prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after all validators have ended
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	homes, err := devnet.InitHomes(dir, 4, spec)
	if err != nil {
		t.Fatal(err)
	}
	var vs []*validator
	for i, home := range homes {
		if err := hurryVotes(home); err != nil {
			t.Fatal(err)
		}
		vs = append(vs, newValidator(t, h, i, home))
	}
	t.Cleanup(func() { // before
		for _, v := range vs {
			if t.Failed() {
				t.Logf("validator %d, whole log in %s:\n%s", v.index, v.log, v.tail(40))
			}
		}
	})
	return vs
}

// catchUp waits until no validator is more than a block behind another.
func catchUp(ctx context.Context, vs []*validator) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		at := heights(ctx, vs...)
		if slices.Max(at)-slices.Min(at) <= 1 {
			return nil
		}
		if err := pause(ctx, vs); err != nil {
			return fmt.Errorf("catching up, heights are %v: %w", at, err)
		}
	}
}

// reach waits until all validators have block h.
func reach(ctx context.Context, h int64, vs ...*validator) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		at := heights(ctx, vs...)
		if slices.Min(at) >= h {
			return nil
		}
		if err := pause(ctx, vs); err != nil {
			return fmt.Errorf("waiting for block %d, heights are %v: %w", h, at, err)
		}
	}
}

// pause waits a moment; it is an error if a validator died or ctx ended.
func pause(ctx context.Context, vs []*validator) error {
	for _, v := range vs {
		if err := v.alive(); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}

func heights(ctx context.Context, vs ...*validator) []int64 {
	out := make([]int64, len(vs))
	for i, v := range vs {
		out[i] = v.height(ctx)
	}
	return out
}

func highest(ctx context.Context, vs ...*validator) int64 { return slices.Max(heights(ctx, vs...)) }

func blocks(n int64) string { return fmt.Sprint(n, " blocks") }
