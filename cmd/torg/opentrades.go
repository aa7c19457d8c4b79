package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/plug"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// maxStreams bounds the setting streams: each needs four files open on one machine.
const maxStreams = 1 << 14

// stall is a trade's, with its name.
type stall struct {
	name string
	plug.Stall
}

// openStalls opens the trades: what they sell and buy is known from then on.
func (s *openSquare) openStalls(ctx context.Context) (err error) {
	s.found = plug.Square{Log: s.log, Settings: s.cfg, Ledger: tradeView{s.client, s.client.Account(s.keyring.provider)}, Observe: gateway.Observe, API: gatewayOf(s)}
	if s.found.Escrow, err = s.escrow(); err != nil {
		return err
	}
	if s.found.Lanes, err = s.cfg.Number("lanes", 1, square.MaxLanes); err != nil {
		return err
	}
	if s.found.Streams, err = s.cfg.Number("streams", 0, maxStreams); err != nil {
		return err
	}
	for _, k := range kits {
		if k.Open == nil {
			continue
		}
		st, err := k.Open(ctx, &s.found)
		if err != nil {
			return fmt.Errorf("open trade %s: %w", k.Rules.Name(), err)
		}
		s.stalls = append(s.stalls, stall{k.Rules.Name(), st})
	}
	return nil
}

// gatewayOf is the square's gateway, which opens after the trades.
func gatewayOf(s *openSquare) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.gateway.ServeHTTP(w, r) })
}

// doors are those of all trades.
func (s *openSquare) doors() (map[string]http.Handler, error) {
	out := map[string]http.Handler{}
	for _, st := range s.stalls {
		if st.Doors == nil {
			continue
		}
		ds, err := st.Doors()
		if err != nil {
			return nil, fmt.Errorf("doors of trade %s: %w", st.name, err)
		}
		for pattern, h := range ds {
			if out[pattern] != nil {
				return nil, fmt.Errorf("doors of trade %s: another trade has %s", st.name, pattern)
			}
			out[pattern] = h
		}
	}
	return out, nil
}

// pages are those of all trades.
func (s *openSquare) pages(r console.Room) (out []ui.Page) {
	for _, st := range s.stalls {
		if st.Pages != nil {
			out = append(out, st.Pages(r)...)
		}
	}
	return out
}

// seats are all goods that the desk here can buy now.
func (s *openSquare) seats(ctx context.Context) ([]desk.Seat, error) {
	out := []desk.Seat{}
	err := s.desk.Refresh(ctx, 0)
	for _, st := range s.stalls {
		if st.Buys == nil {
			continue
		}
		some, serr := s.desk.Seats(ctx, st.name, func(*square.Offer) bool { return true })
		err = errors.Join(err, serr)
		out = append(out, some...)
	}
	if len(out) > 0 {
		err = nil // what is known from before can be asked for
	}
	return out, err
}

// escrow is what the desk here locks in a lease, in base units.
func (s *openSquare) escrow() (uint64, error) {
	a, err := square.ParseAmount(s.cfg.Get("escrow"))
	if err == nil && a.Units == 0 {
		err = errors.New("must be more than nothing")
	}
	if err != nil {
		return 0, s.cfg.Bad("escrow", err)
	}
	return a.Units, nil
}

// terms are what the provider here demands of an order, wide enough for those of
// the desk here.
func (s *openSquare) terms() (t seller.Terms, err error) {
	if t.Notice, err = s.cfg.duration("least-notice"); err == nil && t.Notice < time.Second {
		err = s.cfg.Bad("least-notice", errors.New("must be at least 1s"))
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
	for _, st := range s.stalls {
		if st.Sells == nil {
			continue
		}
		if err := s.bond(ctx, account, st.name); err != nil {
			return fmt.Errorf("bond the provider's stake in %s: %w", st.name, err)
		}
		nc.Trades = append(nc.Trades, st.Sells)
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
	s.closes("provider", s.node.Close)
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

// openDesk opens what buys for all trades.
func (s *openSquare) openDesk(context.Context) error {
	receipts, err := journal.Open(s.cfg.path("receipts.db"), desk.Buckets...)
	if err != nil {
		return err
	}
	s.closes("receipts", receipts.Close)
	dc, err := s.deskConfig()
	if err != nil {
		return err
	}
	dc.Store = receipts
	for _, st := range s.stalls {
		if st.Buys != nil {
			dc.Trades = append(dc.Trades, st.Buys)
		}
	}
	if s.desk, err = desk.New(dc); err != nil {
		return err
	}
	s.found.Desk = s.desk
	s.closes("desk", func() error { s.desk.Close(); return nil })
	return nil
}

func (s *openSquare) deskConfig() (desk.Config, error) {
	dc := desk.Config{
		Key: s.keyring.spender, Owner: s.keyring.owner, ChainID: s.ledger.ChainID(),
		Ledger: buyerView{chainView{s.client, s.client.Account(s.keyring.owner)}},
		Own:    s.keyring.provider.Address(), Log: s.log.With("part", "buyer"),
	}
	var err error
	dc.Escrow, dc.Lanes, dc.Streams = s.found.Escrow, s.found.Lanes, s.found.Streams
	dc.JobValue = min(dc.Escrow/10+1, square.UnitsPerTorg/5)
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
		return dc, s.cfg.Bad("lease-idle", fmt.Errorf("must be at least %s, which is the least notice of the provider here", terms.Notice))
	}
	if dc.Duration < 2*terms.Notice {
		return dc, s.cfg.Bad("lease-duration", fmt.Errorf("must be at least twice the least notice of the provider here, which is %s", terms.Notice))
	}
	dc.Start, dc.Drain, dc.Challenge = terms.Notice, terms.Notice, terms.Notice
	switch dc.Policy = square.Policy(s.cfg.Get("verify")); dc.Policy {
	case square.PolicyNone, square.PolicyAudit, square.PolicyReplicate, square.PolicyProve:
	default:
		return dc, s.cfg.Bad("verify", errors.New("want audit, replicate, prove or none"))
	}
	return dc, nil
}
