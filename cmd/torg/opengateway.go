package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
)

// openGateway opens the port for people and programs, with the doors and pages of all
// trades.
func (s *openSquare) openGateway(ctx context.Context) (err error) {
	if s.keys, err = keys.Open(s.cfg.path("keys.db"), nil); err != nil {
		return err
	}
	s.closes("keys", s.keys.Close)
	s.keys.Follow(s.desk.Spent)
	s.found.Keys = s.keys
	if s.run.APIKey, err = s.apiKey(); err != nil {
		return err
	}
	if s.run.Token, err = admin.Token(s.cfg.path("admin-token")); err != nil {
		return err
	}
	tracer, stop, err := tracing(ctx, s.cfg.Get("otlp-endpoint"))
	if err != nil {
		return s.cfg.Bad("otlp-endpoint", err)
	}
	s.closes("traces", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = stop(ctx) // the collector may be gone
		return nil
	})
	doors, err := s.doors()
	if err != nil {
		return err
	}
	if s.console, err = console.New(console.Config{
		Owner: s.keyring.owner.Address(), Ledger: consoleLedger{s.client}, History: consoleHistory{s.history},
		Desk: consoleDesk{s.desk, s}, Keys: s.keys, Bank: consoleBank{s}, OwnerKey: s.run.APIKey, Provider: s.node.Provider,
		Pages: s.pages, Goods: page, Units: units(), Log: s.log.With("part", "console"),
	}); err != nil {
		return err
	}
	names, err := hosts(s.cfg, "gateway-addr")
	if err != nil {
		return err
	}
	if s.gateway, err = gateway.New(gateway.Config{
		Doors: doors, Keys: s.keys, Observe: s.console.Observe,
		Routes: map[string]http.Handler{"/": s.console},
		Admin: admin.Config{
			Token: s.run.Token, Log: s.log,
			Receipts: adminView{s}, Leases: adminView{s}, Orders: adminView{s}, Auditor: adminView{s}, History: adminView{s}, Provider: adminView{s}, Status: adminView{s}.status,
			Console: func() string { return s.run.AdminURL + s.console.Link() },
		},
		Ready: []gateway.Check{
			{Name: "ledger", Run: s.ledgerMoves},
			{Name: "goods", Run: s.goodsOffered},
		},
		Origins: []string{"*"}, Hosts: names, TracerProvider: tracer, Log: s.log,
	}); err != nil {
		return err
	}
	if s.listener, err = listen(s.cfg, "gateway-addr"); err != nil {
		return err
	}
	s.closes("gateway", func() error { s.listener.Close(); return nil }) // twice, if it served
	base := "http://" + reachable(s.listener.Addr().String())
	s.run.BaseURL, s.run.AdminURL = base+"/v1", base
	return nil
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
