package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/history"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/judge"
	"github.com/torg-network/torg/trade/seller"
)

// What a new square on one machine starts with, in TORG.
const (
	walletFunds   = 10_000
	providerFunds = 1_000
	providerStake = 100 // bonded in each trade that it sells, at the first start
)

// maxStreams bounds the setting streams: each needs four files open on one machine.
const maxStreams = 1 << 14

// openSquare is a whole square in this process: ledger, one provider, gateway.
type openSquare struct {
	cfg       config
	log       *slog.Logger
	run       running
	keyring   keyring
	ledger    *ledgernode.Node
	client    *client.Client
	lag       lagMeter
	history   *history.History
	node      *node.Node
	judge     *judge.Judge
	desk      *desk.Desk
	inference *buyer.Trade // as the desk buys it,
	buyer     *buyer.Buyer // and asks it for the gateway's own door
	receipts  *journal.Journal
	keys      *keys.Store
	console   *console.Console
	gateway   *gateway.Gateway
	listener  net.Listener
	stopOTel  func(context.Context) error
}

// start opens the square on the home directory, which the caller has locked.
// On an error everything that was opened is closed again.
func start(ctx context.Context, cfg config, log *slog.Logger) (s *openSquare, err error) {
	s = &openSquare{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	if s.keyring, err = openKeyring(cfg, true); err != nil {
		return s, err
	}
	if err = s.openLedger(ctx); err != nil {
		return s, err
	}
	if err = s.openProvider(ctx); err != nil {
		return s, err
	}
	if err = s.openJudge(); err != nil {
		return s, err
	}
	if err = s.openGateway(ctx); err != nil {
		return s, err
	}
	return s, nil
}

// newLedger is what a new square's ledger begins with.
func newLedger(k keyring, blockTime time.Duration) (devnet.Spec, error) {
	made, err := cards()
	return devnet.Spec{
		ChainID: "torg-local-" + randomToken()[:8],
		Trades:  trades(), Cards: made,
		Balances: []ledger.Balance{
			{Owner: k.owner.Address(), Amount: square.Utorg(walletFunds * square.UnitsPerTorg)},
			{Owner: k.provider.Address(), Amount: square.Utorg(providerFunds * square.UnitsPerTorg)},
		},
		Operators: []square.Address{k.validator.Address()},
		Settings:  ledgernode.Settings{BlockTime: blockTime},
	}, err
}

func (s *openSquare) openLedger(ctx context.Context) error {
	blockTime, err := s.cfg.duration("block-time")
	if err != nil {
		return err
	}
	home := ledgernode.Home(s.cfg.path("ledger"))
	settings, err := home.Settings()
	if errors.Is(err, ledgernode.ErrNoHome) {
		spec, cerr := newLedger(s.keyring, blockTime)
		if cerr != nil {
			return cerr
		}
		if _, err = devnet.InitHomes(string(home), 1, spec); err != nil {
			return fmt.Errorf("make the ledger: %w", err)
		}
		settings, err = home.Settings()
	}
	if err != nil {
		return err
	}
	settings.BlockTime = blockTime
	if settings.Hosts, err = hosts(s.cfg, "rpc-addr", "rest-addr"); err != nil {
		return err
	}
	settings.Origins = s.cfg.list("ledger-origins")
	if err := (door.Door{Origins: settings.Origins}).Check(); err != nil {
		return s.cfg.bad("ledger-origins", err)
	}
	if err := again(func() error {
		addrs, err := freeAddrs(s.cfg, "rpc-addr", "grpc-addr", "rest-addr")
		if err != nil {
			return err
		}
		settings.RPC, settings.GRPC, settings.REST = addrs[0], addrs[1], addrs[2]
		if err := home.Save(settings); err != nil {
			return err
		}
		if s.ledger, err = ledgernode.Open(ctx, home, ledgernode.Options{Log: s.log.With("part", "ledger"), Trades: trades()}); err != nil {
			return fmt.Errorf("start the ledger: %w", err)
		}
		return nil
	}); err != nil {
		return err
	}
	if s.client, err = client.New(ctx, s.ledger, client.Options{Trades: trades()}); err != nil {
		return fmt.Errorf("reach the ledger: %w", err)
	}
	if err := s.client.WaitHeight(ctx, s.ledger.Height()+1); err != nil {
		return fmt.Errorf("wait for a block: %w", err)
	}
	if s.history, err = history.Open(s.cfg.path("history.db"), s.client); err != nil {
		return err
	}
	s.run.ChainID, s.run.RPC, s.run.GRPC, s.run.REST = s.ledger.ChainID(), "http://"+reachable(settings.RPC), reachable(settings.GRPC), "http://"+reachable(settings.REST)
	s.run.Wallet = s.keyring.owner.Address().String()
	return nil
}

// escrow is what the desk here locks in a lease, in base units.
func (s *openSquare) escrow() (uint64, error) {
	a, err := square.ParseAmount(s.cfg.get("escrow"))
	if err == nil && a.Units == 0 {
		err = errors.New("must be more than nothing")
	}
	if err != nil {
		return 0, s.cfg.bad("escrow", err)
	}
	return a.Units, nil
}

// terms are what the provider here demands of an order, wide enough for those of
// the desk here.
func (s *openSquare) terms() (t seller.Terms, err error) {
	if t.Notice, err = s.cfg.duration("least-notice"); err == nil && t.Notice < time.Second {
		err = s.cfg.bad("least-notice", errors.New("must be at least 1s"))
	}
	if err != nil {
		return t, err
	}
	if t.MaxIdle, err = s.cfg.duration("lease-idle"); err != nil {
		return t, err
	}
	if t.MaxDuration, err = s.cfg.duration("lease-duration"); err != nil {
		return t, err
	}
	t.MaxIdle, t.MaxDuration = max(t.MaxIdle, time.Hour), max(t.MaxDuration, 31*24*time.Hour)
	return t, nil
}

func (s *openSquare) openProvider(ctx context.Context) error {
	account := s.client.Account(s.keyring.provider)
	dir := s.cfg.path("provider")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the provider's folder: %w", err)
	}
	terms, err := s.terms()
	if err != nil {
		return err
	}
	nc := node.Config{
		Terms: terms, Key: s.keyring.provider, ChainID: s.ledger.ChainID(), Ledger: providerView{chainView{s.client, account}},
		Dir: dir, Log: s.log.With("part", "provider"),
	}
	for _, k := range kits {
		if k.sells == nil {
			continue
		}
		if err := s.bond(ctx, account, k.rules.Name()); err != nil {
			return fmt.Errorf("bond the provider's stake in %s: %w", k.rules.Name(), err)
		}
		t, err := k.sells(ctx, s)
		if err != nil {
			return err
		}
		nc.Trades = append(nc.Trades, t)
	}
	if err := again(func() error {
		addrs, err := freeAddrs(s.cfg, "provider-addr")
		if err != nil {
			return err
		}
		nc.Listen = addrs[0]
		s.node, err = node.Open(ctx, nc)
		return err
	}); err != nil {
		return err
	}
	// Before anybody asks: buyers that know it from before find it at the port
	// it has now.
	if err := s.node.Provider.PostOffers(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("offers could not be posted, will try again", "err", err)
	}
	s.run.Provider = s.keyring.provider.Address().String()
	return nil
}

// bond stakes the provider's own money in a trade, once.
func (s *openSquare) bond(ctx context.Context, account *client.Account, name string) error {
	stakes, _, err := s.client.Stakes(ctx, account.Address(), name, client.Page{})
	if err != nil {
		return err
	}
	for _, st := range stakes {
		if st.Total > 0 {
			return nil
		}
	}
	_, err = account.Bond(ctx, name, square.Utorg(providerStake*square.UnitsPerTorg))
	return err
}

func (s *openSquare) openGateway(ctx context.Context) error {
	var err error
	if s.receipts, err = journal.Open(s.cfg.path("receipts.db"), desk.Buckets...); err != nil {
		return err
	}
	dc, err := s.deskConfig()
	if err != nil {
		return err
	}
	for _, k := range kits {
		if k.buys != nil {
			dc.Trades = append(dc.Trades, k.buys(s))
		}
	}
	if s.desk, err = desk.New(dc); err != nil {
		return err
	}
	if s.buyer, err = buyer.New(buyer.Config{Desk: s.desk, Trade: s.inference}); err != nil {
		return err
	}
	if s.keys, err = keys.Open(s.cfg.path("keys.db"), nil); err != nil {
		return err
	}
	s.keys.Follow(s.desk.Spent)
	if s.run.APIKey, err = s.apiKey(); err != nil {
		return err
	}
	if s.run.Token, err = admin.Token(s.cfg.path("admin-token")); err != nil {
		return err
	}
	tracer, stop, err := tracing(ctx, s.cfg.get("otlp-endpoint"))
	if err != nil {
		return s.cfg.bad("otlp-endpoint", err)
	}
	s.stopOTel = stop
	if err = s.openConsole(); err != nil {
		return err
	}
	names, err := hosts(s.cfg, "gateway-addr")
	if err != nil {
		return err
	}
	s.gateway, err = gateway.New(gateway.Config{
		// One key may have half of the places.
		OpenAI: openai.Config{Seller: s.buyer, Keys: s.keys, Log: s.log, Concurrent: max(256, 2*dc.Streams), Observe: func(_ context.Context, e openai.Event) {
			s.console.Observe(consoleRequest(e))
		}},
		Routes: map[string]http.Handler{"/": s.console},
		Admin: admin.Config{
			Token: s.run.Token, Keys: s.keys, Log: s.log,
			Receipts: adminView{s}, Leases: adminView{s}, Orders: adminView{s}, Auditor: adminView{s}, History: adminView{s}, Provider: adminView{s}, Status: adminView{s}.status,
			Console: func() string { return s.run.AdminURL + s.console.Link() },
		},
		Ready: []gateway.Check{
			{Name: "ledger", Run: s.ledgerMoves},
			{Name: "keys", Run: func(context.Context) error { return s.keys.Err() }},
			{Name: "models", Run: s.modelsOffered},
		},
		Origins: []string{"*"}, Hosts: names, TracerProvider: tracer, Log: s.log,
	})
	if err != nil {
		return err
	}
	if s.listener, err = listen(s.cfg, "gateway-addr"); err != nil {
		return err
	}
	base := "http://" + reachable(s.listener.Addr().String())
	s.run.BaseURL, s.run.AdminURL = base+"/v1", base
	return nil
}

func (s *openSquare) deskConfig() (desk.Config, error) {
	dc := desk.Config{
		Key: s.keyring.spender, Owner: s.keyring.owner, ChainID: s.ledger.ChainID(),
		Ledger: buyerView{chainView{s.client, s.client.Account(s.keyring.owner)}}, Store: s.receipts,
		Own: s.keyring.provider.Address(), Log: s.log.With("part", "buyer"),
	}
	var err error
	if dc.Escrow, err = s.escrow(); err != nil {
		return dc, err
	}
	dc.JobValue = min(dc.Escrow/10+1, square.UnitsPerTorg/5)
	if dc.Lanes, err = s.cfg.number("lanes", 1, square.MaxLanes); err != nil {
		return dc, err
	}
	if dc.Streams, err = s.cfg.number("streams", 0, maxStreams); err != nil {
		return dc, err
	}
	if dc.Duration, err = s.cfg.duration("lease-duration"); err != nil {
		return dc, err
	}
	if dc.Idle, err = s.cfg.duration("lease-idle"); err != nil {
		return dc, err
	}
	terms, err := s.terms()
	if err != nil {
		return dc, err
	}
	if dc.Idle < terms.Notice {
		return dc, s.cfg.bad("lease-idle", fmt.Errorf("must be at least %s, which is the least notice of the provider here", terms.Notice))
	}
	if dc.Duration < 2*terms.Notice {
		return dc, s.cfg.bad("lease-duration", fmt.Errorf("must be at least twice the least notice of the provider here, which is %s", terms.Notice))
	}
	dc.Start, dc.Drain, dc.Challenge = terms.Notice, terms.Notice, terms.Notice
	switch dc.Policy = square.Policy(s.cfg.get("verify")); dc.Policy {
	case square.PolicyNone, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve:
	default:
		return dc, s.cfg.bad("verify", errors.New("want audit, replicate, prove or none"))
	}
	return dc, nil
}

// apiKey is the key that torg up made for this machine's owner, or a new one
// when it is lost or revoked.
func (s *openSquare) apiKey() (string, error) {
	file := s.cfg.path("api-key")
	b, err := os.ReadFile(file)
	secret := strings.TrimSpace(string(b))
	if err == nil {
		if _, err := s.keys.Check(secret); err == nil {
			return secret, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the API key: %w", err)
	}
	secret, _, err = s.keys.Create(keys.Grant{Name: "owner"})
	if err != nil {
		return "", fmt.Errorf("make an API key: %w", err)
	}
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the API key: %w", err)
	}
	return secret, nil
}

// announce writes down where the square listens. The file goes when it closes.
func (s *openSquare) announce() error {
	s.run.PID, s.run.Started = os.Getpid(), time.Now()
	return writeFile(s.cfg.path(runningFile), s.run)
}

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}
}

// serve runs the square until ctx ends or a part fails, then ends the parts in
// the order in which they need each other: doors first, ledger last.
func (s *openSquare) serve(ctx context.Context) error {
	parts := []*part{
		{name: "console", run: s.console.Run}, // ends what it streams, so that the gateway need not wait
		{name: "gateway", run: func(ctx context.Context) error {
			err := s.gateway.Serve(ctx, s.listener)
			s.listener = nil
			return err
		}},
		{name: "buyer", run: s.desk.Run},
		{name: "provider", run: s.node.Run},
		{name: "judge", run: s.judge.Run},
		{name: "history", run: s.history.Run},
	}
	failed := make(chan error, len(parts))
	for _, p := range parts {
		var pctx context.Context
		pctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			if err := p.run(pctx); pctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", p.name, errors.Join(err, errors.New("stopped by itself")))
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-s.ledger.Done():
		err = fmt.Errorf("ledger: %w", errors.Join(s.ledger.Err(), errors.New("stopped by itself")))
	}
	for _, p := range parts {
		p.stop()
		<-p.done
		if p.name == "buyer" {
			s.desk.Close()
			s.desk = nil
		}
	}
	s.node = nil // its Run gave everything back
	return err
}

// close gives back whatever is open, in order.
func (s *openSquare) close() {
	os.Remove(s.cfg.path(runningFile))
	if s.listener != nil {
		s.listener.Close()
	}
	if s.desk != nil {
		s.desk.Close()
	}
	if s.node != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.node.Run(ended) // never ran: gives disk and port back
	}
	for _, c := range []interface{ Close() error }{s.keys, s.receipts, s.history} {
		if !isNil(c) {
			if err := c.Close(); err != nil {
				s.log.Error("could not close a store", "err", err)
			}
		}
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.ledger != nil {
		s.ledger.Stop()
	}
	if s.stopOTel != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.stopOTel(ctx) // the collector may be gone
	}
}

// isNil tells a nil pointer in an interface.
func isNil(c any) bool {
	switch c := c.(type) {
	case *keys.Store:
		return c == nil
	case *journal.Journal:
		return c == nil
	case *history.History:
		return c == nil
	}
	return c == nil
}

// logger is the process's log, on stderr.
func logger(cfg config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.get("log-level"))); err != nil {
		return nil, cfg.bad("log-level", errors.New("want debug, info, warn or error"))
	}
	opt := &slog.HandlerOptions{Level: level}
	switch cfg.get("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opt)), nil
	}
	return nil, cfg.bad("log-format", errors.New("want text or json"))
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

// answers says whether something answers at a URL; for doctor.
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("it answers " + strconv.Itoa(resp.StatusCode))
	}
	return nil
}
