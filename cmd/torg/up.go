package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

func upCommand() *cobra.Command {
	var fresh bool
	c := &cobra.Command{
		Use: "up", Short: "Open a whole market square on this machine",
		Long: "Open a whole market square on this machine: ledger, one provider of all trades, gateway, console.\n" +
			"Everything is kept in the home directory and survives a restart, also after kill -9.\n" +
			"Ctrl-C shuts it down.",
		Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			log, err := logger(cfg)
			if err != nil {
				return err
			}
			return up(c.Context(), cfg, log, fresh, c.OutOrStdout())
		}),
	}
	addSettingFlags(c.Flags(), "up")
	c.Flags().BoolVar(&fresh, "wipe", false, "start afresh: forget ledger, wallet and receipts of this home")
	return c
}

func up(ctx context.Context, cfg config, log *slog.Logger, fresh bool, out io.Writer) error {
	begin := time.Now()
	unlock, err := lockHome(cfg)
	if err != nil {
		return err
	}
	defer unlock()
	if fresh {
		if err := wipe(cfg); err != nil {
			return err
		}
		progress("wiped %s", cfg.path())
	}
	// What goes wrong in the first second is the user's to see; afterwards the
	// log is for whoever looks.
	s, err := start(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer s.close()
	served := make(chan error, 1)
	sctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { served <- s.serve(sctx) }()
	end := func() error {
		stop()
		return <-served
	}
	if err := s.waitForLease(sctx); err != nil && ctx.Err() == nil {
		// The wallet may be empty: only an open square can be topped up.
		progress("no lease stands yet (%v); the first request opens one or says why not", err)
	}
	if err := s.announce(); err != nil {
		return errors.Join(err, end())
	}
	if ctx.Err() == nil {
		if err := s.greet(ctx, out, time.Since(begin)); err != nil {
			return errors.Join(err, end())
		}
	}
	err = <-served
	if err == nil || ctx.Err() != nil {
		progress("the square is closed; torg up opens it again where it was")
	}
	return err
}

// waitForLease returns when a lease of this wallet's stands on the ledger, or
// soon after if none comes.
func (s *openSquare) waitForLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	mine := client.LeaseFilter{Buyer: s.keyring.owner.Address(), State: market.Active}
	for {
		ls, _, err := s.client.Leases(ctx, mine, client.Page{Limit: 1})
		if len(ls) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// greeting is what torg up prints.
type greeting struct {
	running
	Console  string                   `json:"console"` // opens once, for the owner
	Balances map[string]square.Amount `json:"balances"`
	Goods    []string                 `json:"goods"`
	Alone    bool                     `json:"only_judge_is_owner"` // see judgeStatus
}

func (s *openSquare) greet(ctx context.Context, out io.Writer, took time.Duration) error {
	g := greeting{running: s.run, Balances: map[string]square.Amount{}}
	g.Console = g.AdminURL + s.console.Link()
	g.Token = "" // in the home directory, for this user's commands only
	for name, a := range map[string]square.Address{"wallet": s.keyring.owner.Address(), "provider": s.keyring.provider.Address()} {
		b, err := s.client.Balance(ctx, a, square.Denom)
		if err != nil {
			return fmt.Errorf("read balances: %w", err)
		}
		g.Balances[name] = b
	}
	var err error
	if g.Alone, err = s.alone(ctx); err != nil {
		return err
	}
	goods, err := s.goods(ctx)
	if err != nil {
		return fmt.Errorf("list what is on offer: %w", err)
	}
	for _, x := range goods {
		g.Goods = append(g.Goods, x.Subject)
	}
	if desktop() {
		// A person without the time to look has the line below.
		if err := browse(ctx, s.run.AdminURL+s.console.Link()); err != nil {
			progress("%v", err)
		}
	}
	return show(out, g, func(w io.Writer) {
		f := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
		head := func(s string) painted { return paint(os.Stdout, bold, s) }
		f("%s  %s, ready in %.1f s", head("The square is open."), g.ChainID, took.Seconds())
		f("")
		f("  console          %s", paint(os.Stdout, cyan, g.Console))
		f("  API key          %s", g.APIKey)
		f("  on offer         %s", visible(join(g.Goods)))
		f("  wallet           %s  %s", g.Wallet, g.Balances["wallet"])
		f("  provider         %s  %s", g.Provider, g.Balances["provider"])
		f("  ledger           RPC %s  gRPC %s  REST %s", g.RPC, g.GRPC, g.REST)
		f("  home             %s", s.cfg.path())
		if g.Alone {
			f("  judges           none but you: %s", aloneWords)
		}
		f("")
		for _, st := range s.stalls {
			if st.Greet != nil {
				f("%s", st.Greet(s.run.place()))
				f("")
			}
		}
		f("%s  (in another terminal%s)", head("Then:"), s.homeHint())
		f("")
		f("  torg receipt list      what was asked and what it cost")
		f("  torg audit RECEIPT     run an answer again and compare")
		f("  torg console           a new link to the console, in a browser")
		f("  torg wallet            balances, leases, what happened")
		f("  torg doctor            if something does not work")
		f("")
		f("%s", paint(os.Stdout, dim, "Ctrl-C closes the square; its state stays."))
	})
}

func (s *openSquare) homeHint() string {
	if s.cfg.source["home"] == "default" {
		return ""
	}
	return "; with --home " + s.cfg.path()
}

func join(words []string) string {
	if len(words) == 0 {
		return "none yet"
	}
	out := words[0]
	for _, w := range words[1:] {
		out += ", " + w
	}
	return out
}
