package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/spf13/cobra"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/keys"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

func ledgerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "ledger", Short: "Run a ledger of several validators",
		Long: "Run a ledger of several validators, on this machine or on many. torg up needs none of this:\n" +
			"it has a ledger of its own.",
	}
	c.AddCommand(ledgerInitCommand(), ledgerStartCommand(), ledgerJoinCommand(), ledgerExportCommand())
	return c
}

// validatorView is one validator of a new ledger.
type validatorView struct {
	Home     string         `json:"home"`
	ID       string         `json:"id"`
	P2P      string         `json:"p2p,omitempty"` // where the others reach it
	RPC      string         `json:"rpc"`
	Operator square.Address `json:"operator"`
}

func ledgerInitCommand() *cobra.Command {
	var n int
	var hosts []string
	var chain, balance string
	c := &cobra.Command{
		Use: "init", Short: "Make a new ledger: a home for each validator",
		Long: "Make a new ledger: a home for each validator in the folder --home, named 0, 1, ... (the folder\n" +
			"itself, for a single one), all with one genesis. Each home holds the keys of its validator:\n" +
			"move it to its machine and keep it secret. The RPC listens on the port after the one for peers,\n" +
			"for its own machine only; ledger.json in the home says otherwise if need be.",
		Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			if n < 1 || n > 100 {
				return usageError("--validators is %d; it can be 1 to 100", n)
			}
			if cfg.source["home"] == "default" {
				return usageError("say with --home which folder to make the homes in")
			}
			// A second between blocks suits validators far apart.
			blockTime := time.Second
			if cfg.source["block-time"] != "default" {
				set, err := cfg.duration("block-time")
				if err != nil {
					return err
				}
				blockTime = set
			}
			funds, err := square.ParseAmount(balance)
			if err != nil {
				return usageError("--balance: %w", err)
			}
			places, err := ledgerPlaces(n, hosts)
			if err != nil {
				return err
			}
			if chain == "" {
				chain = "torg-" + randomToken()[:8]
			}
			made, err := ledgerInit(cfg.path(), chain, blockTime, funds, places)
			if err != nil {
				return err
			}
			t := table{{"home", "id", "peers reach it at", "rpc", "operator"}}
			for _, v := range made {
				t = append(t, []any{v.Home, v.ID, orDash(v.P2P), v.RPC, v.Operator.String()})
			}
			data := struct {
				ChainID    string          `json:"chain_id"`
				Validators []validatorView `json:"validators"`
			}{chain, made}
			if err := show(c.OutOrStdout(), data, func(w io.Writer) { t.write(w) }); err != nil {
				return err
			}
			progress("ledger %s; more than two thirds of its validators must be up for it to make blocks", chain)
			progress("next, for each home: torg ledger start --home %s", made[0].Home)
			return nil
		}),
	}
	c.Flags().IntVar(&n, "validators", 4, "how many, 1 to 100")
	c.Flags().StringSliceVar(&hosts, "hosts", nil, "where validators reach each other, host:port, one each (default: all on this machine, 127.0.0.1:26656, :26658, ...)")
	c.Flags().StringVar(&chain, "chain-id", "", "the ledger's name, which everything on it is signed for (default: torg- and a random word)")
	c.Flags().StringVar(&balance, "balance", "1000000", "TORG each operator starts with, beside its stake")
	return c
}

// place is where a validator listens.
type place struct{ host, p2p, rpc string }

// ledgerPlaces reads --hosts. A validator takes two ports of its machine, so
// two of them on one machine must not be neighbours.
func ledgerPlaces(n int, hosts []string) ([]place, error) {
	if hosts == nil {
		for i := range n {
			hosts = append(hosts, fmt.Sprintf("127.0.0.1:%d", 26656+2*i))
		}
	}
	if len(hosts) != n {
		return nil, usageError("--hosts names %d places for %d validators", len(hosts), n)
	}
	taken := map[string]string{}
	places := make([]place, n)
	for i, h := range hosts {
		host, portText, err := net.SplitHostPort(h)
		port, perr := strconv.Atoi(portText)
		if err != nil || perr != nil || host == "" || port < 1 || port > 65534 {
			return nil, usageError("--hosts: %q: write host:port, with a port from 1 to 65534", h)
		}
		for _, p := range []int{port, port + 1} {
			at := net.JoinHostPort(host, strconv.Itoa(p))
			if other, ok := taken[at]; ok {
				return nil, usageError("--hosts: %s and %s both need port %d; a validator takes its port and the next", other, h, p)
			}
			taken[at] = h
		}
		// Peers elsewhere come in by any address of the machine; the name they
		// use may not be one that it can listen on.
		listen := "0.0.0.0"
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" {
			listen = host
		}
		places[i] = place{h, net.JoinHostPort(listen, portText), net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1))}
	}
	return places, nil
}

func ledgerInit(dir, chain string, blockTime time.Duration, funds square.Amount, places []place) ([]validatorView, error) {
	if found, _ := filepath.Glob(filepath.Join(dir, "*", "genesis.json")); len(found) > 0 {
		return nil, usageError("%s holds a ledger already; choose another --home", filepath.Dir(found[0]))
	}
	if _, err := os.Stat(filepath.Join(dir, "genesis.json")); err == nil {
		return nil, usageError("%s holds a ledger already; choose another --home", dir)
	}
	spec := devnet.Spec{
		ChainID: chain, Trades: trades(),
		Balances: []ledger.Balance{}, // not those of the tests, whose keys everybody knows
		Settings: ledgernode.Settings{
			BlockTime: blockTime,
			// Validators are started one after the other, by people.
			Stalled: 10 * time.Minute,
		},
	}
	words := make([]string, len(places))
	for i, p := range places {
		var err error
		if words[i], err = keys.NewMnemonic(); err != nil {
			return nil, fmt.Errorf("make an operator's key: %w", err)
		}
		operator, err := keys.FromMnemonic(words[i], 0)
		if err != nil {
			return nil, fmt.Errorf("make an operator's key: %w", err)
		}
		spec.Operators = append(spec.Operators, operator.Address())
		spec.Hosts = append(spec.Hosts, p.host)
		if funds.Units > 0 {
			spec.Balances = append(spec.Balances, ledger.Balance{Owner: operator.Address(), Amount: funds})
		}
	}
	homes, err := devnet.InitHomes(dir, len(places), spec)
	if err != nil {
		return nil, fmt.Errorf("make the ledger: %w", err)
	}
	made := make([]validatorView, len(homes))
	for i, h := range homes {
		set, err := h.Settings()
		if err != nil {
			return nil, err
		}
		if set.P2P != "" {
			set.P2P = places[i].p2p
		}
		set.RPC = places[i].rpc
		if err := h.Save(set); err != nil {
			return nil, fmt.Errorf("make the ledger: %w", err)
		}
		if err := os.WriteFile(filepath.Join(string(h), "operator.mnemonic"), []byte(words[i]+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("keep the operator's key: %w", err)
		}
		id, err := p2p.LoadNodeKey(filepath.Join(string(h), "node_key.json"))
		if err != nil {
			return nil, fmt.Errorf("make the ledger: %w", err)
		}
		made[i] = validatorView{Home: string(h), ID: string(id.ID()), RPC: "http://" + set.RPC, Operator: spec.Operators[i]}
		if set.P2P != "" {
			made[i].P2P = places[i].host
		}
	}
	return made, nil
}

// lockLedger makes this process the only one on a validator's home.
func lockLedger(cfg config) (ledgernode.Home, ledgernode.Settings, func(), error) {
	home := ledgernode.Home(cfg.path())
	set, err := home.Settings()
	if errors.Is(err, ledgernode.ErrNoHome) {
		return home, set, nil, usageError("%w; make one with torg ledger init, or say with --home where it is", err)
	} else if err != nil {
		return home, set, nil, &codedError{exitUsage, err}
	}
	unlock, err := lockHome(cfg)
	return home, set, unlock, err
}

func ledgerStartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "start", Short: "Run the node whose home is --home, until Ctrl-C", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			log, err := logger(cfg)
			if err != nil {
				return err
			}
			home, set, unlock, err := lockLedger(cfg)
			if err != nil {
				return err
			}
			defer unlock()
			return ledgerRun(c, home, set, log)
		}),
	}
}

func ledgerJoinCommand() *cobra.Command {
	var from, peers []string
	var trust, p2pAddr, rpcAddr string
	c := &cobra.Command{
		Use: "join", Short: "Follow a ledger that others run, as a full node, until Ctrl-C",
		Long: "Follow a ledger that others run, as a full node, until Ctrl-C. In --home it makes the node's keys\n" +
			"and settings, with the genesis that the nodes at --from give, takes a snapshot of the state from\n" +
			"their peers and runs every block after it. What it takes is checked against the block at --trust:\n" +
			"get its height and hash from somebody you trust. Left out, the command prints what the nodes say\n" +
			"and ends. Started again it goes on, from wherever it was ended; so does torg ledger start.",
		Example: "  torg ledger join --home ~/square --from http://10.0.0.1:26657,http://10.0.0.2:26657 --trust 1200:5F3C...",
		Args:    cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			if cfg.source["home"] == "default" {
				return usageError("say with --home which folder to make the node in")
			}
			log, err := logger(cfg)
			if err != nil {
				return err
			}
			home := ledgernode.Home(cfg.path())
			if set, err := home.Settings(); err == nil && set.Join == nil {
				return usageError("%s holds a node already, which did not join; choose another --home", home)
			} else if errors.Is(err, ledgernode.ErrNoHome) {
				if err := ledgerJoin(c.Context(), home, from, peers, trust, p2pAddr, rpcAddr); err != nil {
					return err
				}
			}
			home, set, unlock, err := lockLedger(cfg)
			if err != nil {
				return err
			}
			defer unlock()
			return ledgerRun(c, home, set, log)
		}),
	}
	c.Flags().StringSliceVar(&from, "from", nil, "CometBFT RPC of nodes of the ledger; a second one checks what the first says")
	c.Flags().StringVar(&trust, "trust", "", "a block to trust, HEIGHT:HASH, less than two weeks old")
	c.Flags().StringSliceVar(&peers, "peers", nil, "whom to follow, id@host:port (default: the nodes at --from and their peers)")
	c.Flags().StringVar(&p2pAddr, "p2p", "0.0.0.0:26656", "where peers reach this node")
	c.Flags().StringVar(&rpcAddr, "rpc", "127.0.0.1:26657", "where this node's RPC listens")
	return c
}

// ledgerJoin makes the home of a node that joins.
func ledgerJoin(ctx context.Context, home ledgernode.Home, from, peers []string, trust, p2pAddr, rpcAddr string) error {
	if len(from) == 0 {
		return usageError("say with --from where nodes of the ledger answer, as http://host:port")
	}
	for i, f := range from {
		if !strings.Contains(f, "://") {
			from[i] = "http://" + f
		}
	}
	if trust == "" {
		newest, err := ledgernode.Newest(ctx, from)
		if err != nil {
			return err
		}
		return usageError("say with --trust which block to trust. The newest, say %s: %s. Compare it with what somebody you trust sees",
			strings.Join(from, " and "), strings.Join(newest, " and "))
	}
	height, hash, err := ledgernode.ParseTrust(trust)
	if err != nil {
		return usageError("--trust: %w", err)
	}
	for flag, at := range map[string]string{"--p2p": p2pAddr, "--rpc": rpcAddr} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return usageError("%s %s: %w", flag, at, err)
		}
		l.Close()
	}
	err = home.CreateJoining(ctx, ledgernode.Join{RPC: from, Height: height, Hash: hash}, ledgernode.Settings{
		BlockTime: time.Second, P2P: p2pAddr, RPC: rpcAddr, Peers: peers,
		Stalled: 10 * time.Minute, // a snapshot may take minutes
	})
	if err != nil {
		return err
	}
	progress("made %s; joining from a snapshot", home)
	return nil
}

func ledgerRun(c *cobra.Command, home ledgernode.Home, set ledgernode.Settings, log *slog.Logger) error {
	ctx := c.Context()
	n, err := ledgernode.Open(ctx, home, ledgernode.Options{Log: log, Trades: trades()})
	if err != nil {
		return fmt.Errorf("start the validator: %w", err)
	}
	defer func() {
		n.Stop()
		progress("stopped after block %d", n.Height())
	}()
	up := struct {
		ChainID string `json:"chain_id"`
		ID      string `json:"id"`
		Height  int64  `json:"height"`
		P2P     string `json:"p2p,omitempty"`
		RPC     string `json:"rpc,omitempty"`
	}{n.ChainID(), n.ID(), n.Height(), set.P2P, ""}
	if set.RPC != "" {
		up.RPC = "http://" + set.RPC
	}
	if err := show(c.OutOrStdout(), up, func(w io.Writer) {
		fmt.Fprintf(w, "ledger  %s, after block %d\npeers   %s as %s\nrpc     %s\n", up.ChainID, up.Height, orDash(up.P2P), up.ID, orDash(up.RPC))
	}); err != nil {
		return err
	}
	// The first block soon, or a word on what is missing; then now and then.
	every := 10 * time.Second
	for said := n.Height(); ; {
		err := untilBlock(ctx, n, said+1, every)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			said, every = n.Height(), time.Minute
			progress("block %d", said)
			if !sleep(ctx, n, every) {
				return n.Err()
			}
		case errors.Is(err, context.DeadlineExceeded):
			progress("no block after %d yet: more than two thirds of the validators must be up and reach each other", said)
		default:
			return err
		}
	}
}

func untilBlock(ctx context.Context, n *ledgernode.Node, height int64, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return n.WaitHeight(ctx, height)
}

// sleep is false if the ledger or the command ends first.
func sleep(ctx context.Context, n *ledgernode.Node, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-n.Done():
	case <-ctx.Done():
	}
	return false
}

func ledgerExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Print the state after the last block as a genesis",
		Long: "Print the state after the last block of the validator in --home, which must not be running, as\n" +
			"the genesis of a ledger that goes on from there with the same validators. To start it, give every\n" +
			"home this one genesis.json and remove all but validator_state.json from its data folder.",
		Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			home, _, unlock, err := lockLedger(cfg)
			if err != nil {
				return err
			}
			defer unlock()
			doc, err := ledgerExport(home)
			if err != nil {
				return err
			}
			b, err := cmtjson.MarshalIndent(doc, "", "  ")
			if err != nil {
				return fmt.Errorf("print the genesis: %w", err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
			return err
		}),
	}
}

// ledgerExport reads the state of a home without running its consensus.
func ledgerExport(home ledgernode.Home) (*cmttypes.GenesisDoc, error) {
	genesis := filepath.Join(string(home), "genesis.json")
	doc, err := cmttypes.GenesisDocFromFile(genesis)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	db, err := dbm.NewDB("ledger", dbm.PebbleDBBackend, filepath.Join(string(home), "data"))
	if err != nil {
		return nil, fmt.Errorf("export: open the state: %w", err)
	}
	app, err := ledger.New(ledger.Config{ChainID: doc.ChainID, DB: db, Log: slog.New(slog.DiscardHandler), Trades: trades()})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("export: %w", err)
	}
	defer app.Close() // and the database
	if app.LastBlockHeight() == 0 {
		return nil, usageError("no block has been made here yet: the genesis is still %s", genesis)
	}
	return app.Export()
}
