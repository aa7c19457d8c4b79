package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "API keys: who may ask, how often and for how much"}
	c.AddCommand(keyListCommand(), keyCreateCommand(), keyBudgetCommand(), keyRevokeCommand())
	return c
}

func keyListCommand() *cobra.Command {
	var limit int
	var after string
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List API keys with what they spent, oldest first", Args: cobra.NoArgs,
		RunE: asking(func(c *cobra.Command, api adminClient, _ []string) error {
			if limit < 1 {
				return usageError("limit: want 1 or more")
			}
			ks, next, err := rows[keys.Key](c, api, "keys", "after", url.Values{"after": {after}}, limit)
			if err != nil {
				return err
			}
			if next != "" {
				progress("there are more: --after %s", next)
			}
			return showTable(c.OutOrStdout(), ks, keyTable(ks...))
		}),
	}
	c.Flags().IntVarP(&limit, "limit", "n", 1000, "how many")
	c.Flags().StringVar(&after, "after", "", "only those made after the key with this id")
	return c
}

func keyTable(list ...keys.Key) table {
	limit := func(n uint64) string {
		if n == 0 {
			return "-"
		}
		return strconv.FormatUint(n, 10)
	}
	t := table{{"id", "name", "spent", "budget", "requests/min", "tokens/min", "state"}}
	for _, k := range list {
		budget, state := "none", "active"
		if k.Budget != nil {
			budget = square.Utorg(*k.Budget).String()
		}
		if k.Disabled {
			state = "revoked"
		} else if !k.Expires.IsZero() && time.Now().After(k.Expires) {
			state = "expired"
		}
		t = append(t, []any{k.ID, k.Name, square.Utorg(k.Spent).String(), budget, limit(k.Requests), limit(k.Tokens), state})
	}
	return t
}

func keyCreateCommand() *cobra.Command {
	var g admin.Grant
	var budget string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "create [name]", Short: "Make an API key; its secret is shown once", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				g.Name = args[0]
			}
			var err error
			if g.Budget, err = parseBudget(budget); err != nil {
				return err
			}
			if ttl > 0 {
				g.Expires = time.Now().Add(ttl)
			}
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			api, err := openAdmin(cfg)
			if err != nil {
				return err
			}
			var made admin.Created
			if err := api.call(c.Context(), "POST", "keys", g, &made); err != nil {
				return err
			}
			return show(c.OutOrStdout(), made, func(w io.Writer) {
				fmt.Fprintln(w, made.Secret)
				progress("%s; this is the only time the secret is shown", made.Key.ID)
			})
		},
	}
	c.Flags().StringVar(&budget, "budget", "none", "TORG the key may spend in all, or none")
	c.Flags().Uint64Var(&g.Requests, "rpm", 0, "requests a minute (0: no limit)")
	c.Flags().Uint64Var(&g.Tokens, "tpm", 0, "tokens a minute (0: no limit)")
	c.Flags().DurationVar(&ttl, "expires-in", 0, "how long the key works (0: for ever)")
	return c
}

func parseBudget(s string) (*uint64, error) {
	if s == "none" || s == "" {
		return nil, nil
	}
	a, err := square.ParseAmount(s)
	if err != nil {
		return nil, usageError("budget: %w", err)
	}
	return &a.Units, nil
}

func keyBudgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "budget ID AMOUNT", Short: "Set what a key may spend in all (none: no limit)", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := parseBudget(args[1])
			if err != nil {
				return err
			}
			body := struct {
				Budget *string `json:"budget"`
			}{}
			if b != nil {
				s := strconv.FormatUint(*b, 10)
				body.Budget = &s
			}
			return keyAction(c, args[0]+"/budget", body)
		},
	}
}

func keyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Stop a key from working, for good", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return keyAction(c, args[0]+"/revoke", nil) },
	}
}

func keyAction(c *cobra.Command, path string, body any) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	api, err := openAdmin(cfg)
	if err != nil {
		return err
	}
	var k keys.Key
	if err := api.call(c.Context(), "POST", "keys/"+path, body, &k); err != nil {
		return err
	}
	return showTable(c.OutOrStdout(), k, keyTable(k))
}
