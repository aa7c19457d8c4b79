package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

func walletCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "wallet", Short: "Balances, what is reserved, what happened", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			return showWallet(c, cfg)
		}),
	}
	c.AddCommand(walletSendCommand(), walletHistoryCommand(), walletWordsCommand())
	return c
}

// accountView is one key's money.
type accountView struct {
	Name      string         `json:"name"`
	Address   square.Address `json:"address"`
	Ethereum  string         `json:"ethereum"`
	Available square.Amount  `json:"available"`
	Escrow    square.Amount  `json:"reserved_in_escrow"`
	Stake     square.Amount  `json:"stake"`
	Locked    square.Amount  `json:"stake_locked_in_bonds"`
}

func showWallet(c *cobra.Command, cfg config) error {
	k, err := openKeyring(cfg, false)
	if err != nil {
		return err
	}
	cl, _, err := dial(c, cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx := c.Context()
	var views []accountView
	for _, a := range []struct {
		name string
		key  square.Key
	}{{"wallet", k.owner}, {"provider", k.provider}} {
		v := accountView{Name: a.name, Address: a.key.Address(), Ethereum: a.key.Address().Hex(),
			Escrow: square.Utorg(0), Stake: square.Utorg(0), Locked: square.Utorg(0)}
		if v.Available, err = cl.Balance(ctx, v.Address, square.Denom); err != nil {
			return err
		}
		leases, _, err := cl.Leases(ctx, client.LeaseFilter{Buyer: v.Address}, client.Page{Limit: 1000})
		if err != nil {
			return err
		}
		for _, l := range leases {
			if l.Order.Denom == square.Denom {
				v.Escrow.Units += l.Escrow
			}
		}
		stakes, _, err := cl.Stakes(ctx, v.Address, "", client.Page{})
		if err != nil {
			return err
		}
		for _, s := range stakes {
			if s.Denom == square.Denom {
				v.Stake.Units += s.Total
				v.Locked.Units += s.Locked
			}
		}
		views = append(views, v)
	}
	t := table{{"account", "address", "available", "reserved", "stake", "locked"}}
	for _, v := range views {
		t = append(t, []any{v.Name, v.Address.String(), v.Available.String(), v.Escrow.String(), v.Stake.String(), v.Locked.String()})
	}
	return show(c.OutOrStdout(), views, func(w io.Writer) {
		t.write(w)
		fmt.Fprintf(w, "\nTop up by sending TORG to the wallet's address, %s (Ethereum form %s).\n", views[0].Address, views[0].Ethereum)
	})
}

func walletSendCommand() *cobra.Command {
	var from string
	var dry bool
	c := &cobra.Command{
		Use: "send TO AMOUNT", Short: "Send TORG", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			to, err := square.ParseAddress(args[0])
			if err != nil {
				return usageError("to: %w", err)
			}
			amount, err := square.ParseAmount(args[1])
			if err != nil {
				return usageError("amount: %w", err)
			}
			if amount.Units == 0 {
				return usageError("amount: nothing to send")
			}
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			k, err := openKeyring(cfg, false)
			if err != nil {
				return err
			}
			key := k.owner
			switch from {
			case "wallet":
			case "provider":
				key = k.provider
			default:
				return usageError("from %q: want wallet or provider", from)
			}
			if dry {
				progress("would send %s from %s to %s", amount, key.Address(), to)
				return nil
			}
			cl, _, err := dial(c, cfg)
			if err != nil {
				return err
			}
			defer cl.Close()
			res, err := cl.Account(key).Send(c.Context(), to, amount)
			if errors.Is(err, client.ErrInsufficient) {
				return &codedError{exitPayment, err}
			} else if err != nil {
				return err
			}
			sent := struct {
				To     square.Address `json:"to"`
				Amount square.Amount  `json:"amount"`
				Tx     square.Hash    `json:"tx"`
				Height int64          `json:"height"`
			}{to, amount, res.Hash, res.Height}
			return show(c.OutOrStdout(), sent, func(w io.Writer) {
				fmt.Fprintf(w, "sent %s to %s in block %d\ntransaction %s\n", amount, to, res.Height, res.Hash)
			})
		},
	}
	c.Flags().StringVar(&from, "from", "wallet", "wallet or provider")
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would happen, and do nothing")
	return c
}

func walletHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history", Short: "What happened to this wallet and provider on the market, newest first", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			run, err := findRunning(cfg)
			if err != nil {
				return err
			}
			var evs struct {
				Data []client.Event `json:"data"`
			}
			api := adminClient{run.AdminURL, run.Token}
			if err := api.call(c.Context(), "GET", "history/account/"+run.Wallet, nil, &evs); err != nil {
				return err
			}
			t := table{{"time", "block", "what"}}
			for _, e := range evs.Data {
				if e.Kind == market.EvOffered {
					continue // renewed every few minutes
				}
				t = append(t, []any{time.Unix(e.Time, 0).Format("2006-01-02 15:04:05"), fmt.Sprint(e.Height), sentence(e)})
			}
			return showTable(c.OutOrStdout(), evs.Data, t)
		}),
	}
}

func walletWordsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "file", Short: "Say where the words are that all keys come from", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			if _, err := openKeyring(cfg, false); err != nil {
				return err
			}
			where := struct {
				File string `json:"file"`
			}{cfg.path(walletName)}
			return show(c.OutOrStdout(), where, func(w io.Writer) { fmt.Fprintln(w, where.File) })
		}),
	}
}
