package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// benchFunds is what each account of a bench's ledger starts with, and
// benchBond what its provider puts up.
const (
	benchFunds = 1_000_000_000 * square.UnitsPerTorg
	benchBond  = 900_000_000 * square.UnitsPerTorg
)

// load is transactions on a ledger, from eight accounts whose keys, like all
// else that a real client has once, are made before anything is timed.
type load struct {
	c      *client.Client
	buyers []*client.Account
	sink   square.Address
	seller square.Key
	offer  square.Offer
	made   int // leases

	mu    sync.Mutex
	head  time.Time // of the ledger
	asked time.Time // when
}

// now is the ledger's time, a second old at most: quotes expire by it, and on a busy
// machine it is far behind this one's.
func (l *load) now(ctx context.Context) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.asked) > time.Second {
		head, err := l.c.Head(ctx)
		if err != nil {
			return time.Time{}, err
		}
		l.head, l.asked = head.Time, time.Now()
	}
	return l.head, nil
}

func benchBalances() (out []ledger.Balance) {
	for i := range uint32(10) {
		out = append(out, ledger.Balance{Owner: devnet.Key(i).Address(), Amount: square.Utorg(benchFunds)})
	}
	return out
}

// benchClient has transactions wait long: on a busy machine a block takes its
// time, and is so much behind the clock by which the wait is measured.
func benchClient() client.Options {
	return client.Options{Trades: trades(), TTL: ledger.UnorderedTTL - 40*time.Second}
}

func newLoad(c *client.Client) *load {
	l := &load{c: c, seller: devnet.Key(8), sink: devnet.Key(9).Address()}
	for i := range uint32(8) {
		l.buyers = append(l.buyers, c.Account(devnet.Key(i)))
	}
	return l
}

// transfers sends n, so many at once, each waiting for its block.
func (l *load) transfers(ctx context.Context, n, at int) (cpu, wall float64, err error) {
	_, cpu, wall, err = burst(n, at, func(i int) error {
		_, err := l.buyers[i%len(l.buyers)].Send(ctx, l.sink, square.Utorg(1))
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("transfers: %w", err)
	}
	return cpu, wall, nil
}

var benchRates = []square.Rate{{Unit: infer.UnitPrompt, PerMillion: 1}, {Unit: infer.UnitCompletion, PerMillion: 1}}

// sell puts up one provider with room for all.
func (l *load) sell(ctx context.Context) error {
	a := l.c.Account(l.seller)
	if _, err := a.Bond(ctx, infer.Name, square.Utorg(benchBond)); err != nil {
		return fmt.Errorf("bond: %w", err)
	}
	head, err := l.c.Head(ctx)
	if err != nil {
		return err
	}
	l.offer = square.Offer{Provider: l.seller.Address(), Trade: infer.Name, Spec: square.Hash{1}, Subject: "bench", Denom: square.Denom,
		Rates: benchRates, Capacity: 1 << 30, Endpoint: "http://127.0.0.1:1", Expiry: head.Time.Add(24 * time.Hour).Unix(), Nonce: 1}
	if _, err := a.PostOffer(ctx, l.offer); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	return nil
}

// open opens n leases that stay open.
func (l *load) open(ctx context.Context, n, at int) (cpu, wall float64, err error) {
	from := l.made
	l.made += n
	d := l.c.Domain()
	_, cpu, wall, err = burst(n, at, func(i int) error {
		buyer := l.buyers[i%len(l.buyers)]
		salt := square.Keccak([]byte("bench"), []byte(strconv.Itoa(from+i)))
		now, err := l.now(ctx)
		if err != nil {
			return err
		}
		o := square.Order{Buyer: buyer.Address(), Authorizer: buyer.Address(), Trade: infer.Name, Mode: square.ModeStream, Spec: l.offer.Spec,
			Denom: square.Denom, Escrow: 1_000_000, MaxRates: benchRates, JobValue: 10_000, Policy: square.PolicyAudit, Lanes: 8, Units: 8,
			Start: 60, Idle: 86_400, Duration: 86_400, Challenge: 60, Drain: 60, Expiry: now.Add(time.Minute).Unix(), Salt: salt}
		q := square.Quote{Provider: l.seller.Address(), Order: o.ID(d), Offer: l.offer.ID(d), Spec: l.offer.Spec, Rates: benchRates, Bond: 2_000_000,
			Ready: true, Expiry: now.Add(29 * time.Second).Unix(), Nonce: salt}
		_, err = buyer.OpenLease(ctx, o, q, l.seller.Sign(q.Digest(d)))
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("leases: %w", err)
	}
	return cpu, wall, nil
}

// benchLedger counts what a transfer and a lease cost one validator on disk,
// whose clients are in the same process: what they sign and read is in the
// figures.
func benchLedger(ctx context.Context, cfg config, dir string, report func(measure)) error {
	blockTime, err := cfg.duration("block-time")
	if err != nil {
		return err
	}
	homes, err := devnet.InitHomes(filepath.Join(dir, "ledger"), 1, devnet.Spec{
		Trades: trades(), Balances: benchBalances(), Settings: ledgernode.Settings{BlockTime: blockTime},
	})
	if err != nil {
		return err
	}
	n, err := ledgernode.Open(ctx, homes[0], ledgernode.Options{Trades: trades()})
	if err != nil {
		return err
	}
	defer n.Stop()
	if err := n.WaitHeight(ctx, 1); err != nil {
		return err
	}
	c, err := client.New(ctx, n, benchClient())
	if err != nil {
		return err
	}
	defer c.Close()
	l := newLoad(c)

	const transfers, leases, at = 8000, 4000, 512
	if _, _, err := l.transfers(ctx, at, at); err != nil { // warm
		return err
	}
	cpu, wall, err := l.transfers(ctx, transfers, at)
	if err != nil {
		return err
	}
	report(measure{"ledger/tx", transfers / wall, "1/s", cpu, wall})
	report(measure{"ledger/tx/cpu", cpu / transfers * 1e6, "us", cpu, wall})

	if err := l.sell(ctx); err != nil {
		return err
	}
	// Quotes last half a minute: fewer wait at once than transfers may.
	const buyers = 128
	if _, _, err := l.open(ctx, buyers, buyers); err != nil {
		return err
	}
	before, err := settled(ctx, n, homes[0])
	if err != nil {
		return err
	}
	cpu, wall, err = l.open(ctx, leases, buyers)
	if err != nil {
		return err
	}
	report(measure{"lease/open", leases / wall, "1/s", cpu, wall})
	report(measure{"ledger/lease/cpu", cpu / leases * 1e6, "us", cpu, wall})
	after, err := settled(ctx, n, homes[0])
	if err != nil {
		return err
	}
	report(measure{"ledger/lease/disk", (after.stays - before.stays) / leases / 1000, "kB", 0, 0})
	report(measure{"ledger/lease/disk/goes", (after.goes - before.goes) / leases / 1000, "kB", 0, 0})
	return nil
}

// weight is how many bytes a home takes once old states are pruned: what stays
// as long as the leases do, and what goes with the blocks in which they were opened
// (blocks, results, where transactions are and consensus' log, each within a bound of
// its own).
type weight struct{ stays, goes float64 }

func settled(ctx context.Context, n *ledgernode.Node, h ledgernode.Home) (w weight, err error) {
	if err := n.WaitHeight(ctx, n.Height()+ledger.StatesKept+20); err != nil {
		return w, err
	}
	return weigh(string(h))
}

func weigh(home string) (w weight, err error) {
	for _, name := range []string{"blockstore.db", "state.db", "txs.db", "cs.wal"} {
		b, err := folderBytes(filepath.Join(home, "data", name))
		if err != nil {
			return w, err
		}
		w.goes += b
	}
	all, err := folderBytes(home)
	w.stays = all - w.goes
	return w, err
}

func folderBytes(dir string) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // merged into another just now
			return nil
		}
		if err == nil {
			sum += float64(i.Size())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return sum, nil
}

// validators is a ledger whose validators are processes of their own.
type validators struct {
	cmds  []*exec.Cmd
	rpcs  []string
	homes []string
}

// startValidators makes a ledger of n and waits until it makes blocks.
func startValidators(ctx context.Context, dir string, n int, blockTime time.Duration) (*validators, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	spec := devnet.Spec{Trades: trades(), Balances: benchBalances(), Settings: ledgernode.Settings{BlockTime: blockTime, Stalled: time.Minute}}
	ports, err := loopback(2 * n)
	if err != nil {
		return nil, err
	}
	spec.Hosts = ports[:n]
	homes, err := devnet.InitHomes(dir, n, spec)
	if err != nil {
		return nil, err
	}
	v := &validators{}
	for i, h := range homes {
		set, err := h.Settings()
		if err != nil {
			return nil, err
		}
		set.RPC = ports[n+i]
		if n > 1 {
			set.P2P = ports[i]
		}
		if err := h.Save(set); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, self, "ledger", "start", "--home", string(h))
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 20 * time.Second
		if err := cmd.Start(); err != nil {
			v.stop()
			return nil, fmt.Errorf("start a validator: %w", err)
		}
		v.cmds, v.rpcs, v.homes = append(v.cmds, cmd), append(v.rpcs, "http://"+set.RPC), append(v.homes, string(h))
	}
	return v, nil
}

func (v *validators) stop() {
	for _, c := range v.cmds {
		_ = c.Process.Signal(os.Interrupt) // it may have ended already
	}
	for _, c := range v.cmds {
		_ = c.Wait()
	}
}

func (v *validators) cpu() (sum float64) {
	for _, c := range v.cmds {
		sum += processCPU(c.Process.Pid)
	}
	return sum
}

// dial waits until the first validator has made a block.
func (v *validators) dial(ctx context.Context) (*client.Client, error) {
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := client.Dial(ctx, v.rpcs[0], benchClient())
		if err == nil {
			if err = c.WaitHeight(ctx, 2); err == nil {
				return c, nil
			}
			c.Close()
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// benchValidators compares four validators with one, all processes of their
// own, by the CPU of a transfer; the sender's is in neither.
func benchValidators(ctx context.Context, _ config, dir string, report func(measure)) error {
	const transfers = 4000
	var cost [2]float64
	var wall float64
	for i, n := range []int{1, 4} {
		err := func() error {
			v, err := startValidators(ctx, filepath.Join(dir, "validators"+strconv.Itoa(n)), n, 500*time.Millisecond)
			if err != nil {
				return err
			}
			defer v.stop()
			c, err := v.dial(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			l := newLoad(c)
			if _, _, err := l.transfers(ctx, 256, 256); err != nil { // warm
				return err
			}
			before := v.cpu()
			_, took, err := l.transfers(ctx, transfers, 256)
			cost[i], wall = v.cpu()-before, wall+took
			return err
		}()
		if err != nil {
			return fmt.Errorf("%d validators: %w", n, err)
		}
	}
	report(measure{"validators/4x", cost[1] / cost[0], "x", cost[0] + cost[1], wall})
	return nil
}

// benchIdle is what a validator with nothing to do costs at a block a second.
func benchIdle(ctx context.Context, _ config, dir string, report func(measure)) error {
	v, err := startValidators(ctx, filepath.Join(dir, "idle"), 1, time.Second)
	if err != nil {
		return err
	}
	defer v.stop()
	c, err := v.dial(ctx)
	if err != nil {
		return err
	}
	c.Close() // it asks for blocks
	time.Sleep(2 * time.Second)
	cpu, sw := v.cpu(), startWatch()
	time.Sleep(30 * time.Second)
	_, wall := sw.stop()
	cpu = v.cpu() - cpu
	report(measure{"idle/cpu", cpu / wall * 100, "% of a core", cpu, wall})
	return nil
}

// benchPackages counts what the program is built from, where its source is.
func benchPackages(ctx context.Context, _ config, _ string, report func(measure)) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "github.com/torg-network/torg/cmd/torg")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		progress("build/packages is left out: this is not the source folder, or go is not here")
		return nil
	}
	report(measure{"build/packages", float64(bytes.Count(out, []byte("\n"))), "", 0, 0})
	return nil
}

// benchMany fills a validator with open leases: 100,000, then a million.
func benchMany(ctx context.Context, _ config, dir string, report func(measure)) error {
	if !benchLong {
		return nil
	}
	v, err := startValidators(ctx, filepath.Join(dir, "many"), 1, 500*time.Millisecond)
	if err != nil {
		return err
	}
	defer v.stop()
	c, err := v.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	l := newLoad(c)
	if err := l.sell(ctx); err != nil {
		return err
	}
	home := v.homes[0]
	before, err := weigh(home)
	if err != nil {
		return err
	}
	const few, at = 4000, 128
	pid := v.cmds[0].Process.Pid
	for _, step := range []struct {
		leases int
		name   string
	}{{few, "lease/cpu/at-0"}, {100_000, "lease/cpu/at-100k"}, {1_000_000, "lease/cpu/at-1m"}} {
		for l.made < step.leases-few {
			if _, _, err := l.open(ctx, min(10_000, step.leases-few-l.made), at); err != nil {
				return err
			}
			progress("%d leases are open", l.made)
		}
		used := v.cpu()
		_, wall, err := l.open(ctx, few, at)
		if err != nil {
			return err
		}
		cpu := v.cpu() - used
		report(measure{step.name, cpu / few * 1e6, "us", cpu, wall})
		if step.leases == 100_000 {
			rss, err := residentMiB(pid)
			if err != nil {
				return err
			}
			report(measure{"memory/100k-leases", rss * (1 << 20) / 1e6, "MB", 0, 0})
			after, err := weigh(home)
			if err != nil {
				return err
			}
			report(measure{"disk/100k-leases", (after.stays - before.stays) / 100_000 / 1000, "kB", 0, 0})
		}
	}
	return nil
}

// loopback are places on loopback that nothing listens at.
func loopback(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}
