package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/torg-network/torg/door"
	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/history"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// What a new square on one machine starts with, in TORG.
const (
	walletFunds   = 10_000
	providerFunds = 1_000
	providerStake = 100 // bonded in each trade that it sells, at the first start
)

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
		return s.cfg.Bad("ledger-origins", err)
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
	s.closes("ledger", func() error { s.ledger.Stop(); return nil })
	if s.client, err = client.New(ctx, s.ledger, client.Options{Trades: trades()}); err != nil {
		return fmt.Errorf("reach the ledger: %w", err)
	}
	s.closes("ledger client", func() error { s.client.Close(); return nil })
	if err := s.client.WaitHeight(ctx, s.ledger.Height()+1); err != nil {
		return fmt.Errorf("wait for a block: %w", err)
	}
	if s.history, err = history.Open(s.cfg.path("history.db"), s.client); err != nil {
		return err
	}
	s.closes("history", s.history.Close)
	s.run.ChainID, s.run.RPC, s.run.GRPC, s.run.REST = s.ledger.ChainID(), "http://"+reachable(settings.RPC), reachable(settings.GRPC), "http://"+reachable(settings.REST)
	s.run.Wallet = s.keyring.owner.Address().String()
	return nil
}
