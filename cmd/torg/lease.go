package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// dial is a client of the running square's ledger.
func dial(c *cobra.Command, cfg config) (*client.Client, running, error) {
	run, err := findRunning(cfg)
	if err != nil {
		return nil, run, err
	}
	cl, err := client.Dial(c.Context(), run.RPC, client.Options{Trades: trades()})
	return cl, run, err
}

// chainID names the ledger of this home's square.
func chainID(cfg config) (string, error) {
	run, err := findRunning(cfg)
	return run.ChainID, err
}

// leaseTx is one transaction, or deed of the ledger itself, in a lease's life.
type leaseTx struct {
	Kind   string      `json:"kind"`
	Time   int64       `json:"time"`
	Height int64       `json:"height"`
	Hash   square.Hash `json:"tx"` // zero: the ledger itself
	Words  string      `json:"words"`
}

// leaseView is a lease in full.
type leaseView struct {
	client.Projected
	Reason string    `json:"reason,omitempty"`
	Txs    []leaseTx `json:"history"`
}

// ledgerLease reads a lease and its history.
func ledgerLease(c *cobra.Command, cfg config, id square.Hash) (leaseView, error) {
	cl, run, err := dial(c, cfg)
	if err != nil {
		return leaseView{}, err
	}
	defer cl.Close()
	l, err := cl.Projected(c.Context(), id)
	if errors.Is(err, client.ErrNotFound) {
		return leaseView{}, &codedError{exitNotFound, fmt.Errorf("lease %s: the ledger has none, or has forgotten it", id.Short())}
	} else if err != nil {
		return leaseView{}, err
	}
	v := leaseView{Projected: l, Reason: string(l.Lease.Reason)}
	var evs struct {
		Data []client.Event `json:"data"`
	}
	api := adminClient{run.AdminURL, run.Token}
	if err := api.call(c.Context(), "GET", "history/lease/"+id.String(), nil, &evs); err != nil {
		return v, err
	}
	for _, e := range evs.Data {
		v.Txs = append(v.Txs, leaseTx{Kind: string(e.Kind), Time: e.Time, Height: e.Height, Hash: e.Tx, Words: sentence(e)})
	}
	return v, nil
}

// sentence explains an event to a person.
func sentence(e client.Event) string {
	who := func(a square.Address) string {
		if a.IsZero() {
			return "the ledger"
		}
		return shortAddress(a)
	}
	var s string
	switch e.Kind {
	case market.EvBonded:
		s = fmt.Sprintf("%s staked in %s", who(e.Provider), e.Trade)
	case market.EvUnbonding:
		s = fmt.Sprintf("%s began to take stake out of %s", who(e.Provider), e.Trade)
	case market.EvUnbonded:
		s = fmt.Sprintf("%s got stake back from %s", who(e.Provider), e.Trade)
	case market.EvOffered:
		s = fmt.Sprintf("%s offered %s", who(e.Provider), e.Trade)
	case market.EvWithdrawn:
		s = fmt.Sprintf("%s withdrew an offer of %s", who(e.Provider), e.Trade)
	case market.EvOpened:
		s = fmt.Sprintf("%s placed an order and locked its escrow", who(e.Buyer))
	case market.EvMatched:
		s = fmt.Sprintf("%s took it and locked its bond", who(e.Provider))
	case market.EvStarted:
		s = "work began"
	case market.EvRedeemed:
		s = fmt.Sprintf("%s redeemed vouchers; %s paid so far", who(e.Provider), square.Utorg(e.Paid))
	case market.EvDraining:
		s = "the lease is ending: last vouchers are redeemed"
	case market.EvChallenged:
		s = fmt.Sprintf("%s brought evidence against %s", who(e.By), who(e.Provider))
	case market.EvEnlisted:
		s = fmt.Sprintf("%s said whether its stake in %s judges", who(e.Provider), e.Trade)
	case market.EvSeated:
		s = "judges were drawn"
	case market.EvInvited:
		s = "a staker was drawn for the replica"
	case market.EvCalled:
		s = "all have a result: this one is to be shown"
	case market.EvCompared:
		s = "the results of the replicas were compared"
	case market.EvReleased:
		s = "the order is over, and the replica with it"
	case market.EvCommitted:
		if e.To == market.Committed {
			s = fmt.Sprintf("%s fixed its result without showing it", who(e.Provider))
			break
		}
		s = fmt.Sprintf("%s, a judge, committed to a verdict", who(e.By))
	case market.EvVoted:
		s = fmt.Sprintf("%s, a judge, voted", who(e.By))
	case market.EvRedrawn:
		if e.To == market.Open {
			s = "who was drawn did not come; another is drawn"
			break
		}
		s = "the judges found nothing in time; others are drawn"
	case market.EvGivenUp:
		s = "no judges found anything: what was signed stands"
	case market.EvUpheld:
		s = "the work was found right"
	case market.EvEnded:
		s = fmt.Sprintf("ended %s%s; %s paid in all", e.To, reasonWords(string(e.Reason)), square.Utorg(e.Paid))
	default:
		s = string(e.Kind)
	}
	var moved []string
	for _, m := range e.Moves {
		moved = append(moved, fmt.Sprintf("%s %s → %s", m.Amount, pot(m.From), pot(m.To)))
	}
	if len(moved) > 0 {
		s += " (" + strings.Join(moved, ", ") + ")"
	}
	return s
}

func pot(p market.Pot) string {
	switch p.Kind {
	case market.PotAccount:
		return shortAddress(p.Owner)
	case market.PotStake:
		return "stake of " + shortAddress(p.Owner)
	}
	return string(p.Kind)
}

func leaseCommand() *cobra.Command {
	c := &cobra.Command{Use: "lease", Short: "Escrow, bond and payments of each deal"}
	c.AddCommand(leaseListCommand(), leaseShowCommand(), leaseCloseCommand())
	return c
}

func leaseListCommand() *cobra.Command {
	var state, after string
	var all bool
	var limit uint64
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List leases of this wallet (or, with --all, of everyone)", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			cl, run, err := dial(c, cfg)
			if err != nil {
				return err
			}
			defer cl.Close()
			f := client.LeaseFilter{State: market.State(state)}
			if !all {
				if f.Buyer, err = square.ParseAddress(run.Wallet); err != nil {
					return err
				}
			}
			if limit < 1 || limit > 1000 {
				return usageError("limit: want 1 to 1000")
			}
			ls, next, err := cl.Leases(c.Context(), f, client.Page{Limit: limit, After: after})
			if err != nil {
				return err
			}
			if next != "" {
				progress("there are more: --after %s", next)
			}
			t := table{{"lease", "state", "trade", "provider", "escrow", "paid", "bond", "ends", "reason"}}
			for _, l := range ls {
				t = append(t, []any{l.ID.Short(), string(l.State), l.Order.Trade, shortAddress(l.Provider), money(l.Escrow, l.Order.Denom),
					money(l.Paid, l.Order.Denom), money(l.Bond, l.Order.Denom), clock(l.Ends * 1000), orDash(string(l.Lease.Reason))})
			}
			return showTable(c.OutOrStdout(), ls, t)
		}),
	}
	c.Flags().Uint64VarP(&limit, "limit", "n", 1000, "how many, at most 1000")
	c.Flags().StringVar(&after, "after", "", "go on where a list ended, as it says there")
	c.Flags().StringVar(&state, "state", "", "only those in this state: active, settled, …")
	c.Flags().BoolVar(&all, "all", false, "of every buyer")
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"open", "matched", "active", "draining", "claimed", "disputed", "settled", "failed", "cancelled", "slashed"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// findLease is the lease that an id or its beginning names.
func findLease(c *cobra.Command, cfg config, prefix string) (square.Hash, error) {
	if id, err := square.ParseHash(prefix); err == nil {
		return id, nil
	}
	cl, _, err := dial(c, cfg)
	if err != nil {
		return square.Hash{}, err
	}
	defer cl.Close()
	ls, _, err := cl.Leases(c.Context(), client.LeaseFilter{}, client.Page{Limit: 1000})
	if err != nil {
		return square.Hash{}, err
	}
	ids := make([]square.Hash, len(ls))
	for i := range ls {
		ids[i] = ls[i].ID
	}
	return matchID("lease", prefix, ids)
}

func completeLeases(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cl, _, err := dial(c, cfg)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.Close()
	ls, _, _ := cl.Leases(c.Context(), client.LeaseFilter{}, client.Page{Limit: 50})
	var ids []string
	for _, l := range ls {
		ids = append(ids, l.ID.Short()+"\t"+string(l.State)+" "+visible(l.Order.Trade))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func leaseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show LEASE", Short: "Tell the whole story of a lease", Args: cobra.ExactArgs(1), ValidArgsFunction: completeLeases,
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			id, err := findLease(c, cfg, args[0])
			if err != nil {
				return err
			}
			l, err := ledgerLease(c, cfg, id)
			if err != nil {
				return err
			}
			return show(c.OutOrStdout(), l, l.print)
		}),
	}
}

func (l leaseView) print(w io.Writer) {
	row := rowPrinter(w)
	d := l.Order.Denom
	row("lease", "%s", l.ID)
	row("state", "%s%s", l.State, reasonWords(l.Reason))
	row("trade", "%s, %s, verified by %s", named(l.Order.Trade), l.Order.Mode, l.Order.Policy)
	row("buyer", "%s  (vouchers signed by %s)", l.Order.Buyer, shortAddress(l.Order.Authorizer))
	row("provider", "%s", l.Provider)
	for _, r := range l.Rates {
		row("rate", "%s per million %s", money(r.PerMillion, d), named(r.Unit))
	}
	row("escrow", "%s left of %s", money(l.Escrow, d), money(l.Order.Escrow, d))
	row("paid", "%s, of which %s was burned", money(l.Paid, d), money(l.Burned, d))
	row("bond", "%s locked (%s at the start)", money(l.Bond, d), money(l.Bonded, d))
	if d := l.Dispute; d != nil && !l.State.Terminal() {
		switch d.Way {
		case market.ByProof:
			row("dispute", "the provider is to prove part %d of challenged work until %s, or loses its bond", d.Part, clock(l.Deadline*1000))
		case market.ByAnswer:
			row("dispute", "the provider is to hand the result over until %s, or loses its bond", clock(l.Deadline*1000))
		case market.ByJudges:
			row("dispute", "before %d judges, who have until %s", len(d.Seats), clock(l.Deadline*1000))
		}
	}
	if !l.State.Terminal() {
		row("if silent", "%s%s at %s: %s to the buyer, %s to the provider", l.Then, reasonWords(string(l.Why)), clock(l.At*1000), money(l.ToBuyer, d), money(l.ToProvider, d))
	}
	for _, tx := range l.Txs {
		row(time.Unix(tx.Time, 0).Format("15:04:05"), "block %d  %s", tx.Height, tx.Words)
		if !tx.Hash.IsZero() {
			fmt.Fprintf(w, "%-12s %s\n", "", paint(os.Stdout, dim, "transaction "+tx.Hash.String()))
		}
	}
}

func leaseCloseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "close LEASE", Short: "Close a lease: pay what is owed, refund the rest", Args: cobra.ExactArgs(1), ValidArgsFunction: completeLeases,
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			id, err := findLease(c, cfg, args[0])
			if err != nil {
				return err
			}
			api, err := openAdmin(cfg)
			if err != nil {
				return err
			}
			var l admin.Lease
			if err := api.call(c.Context(), "POST", "leases/"+id.String()+"/close", nil, &l); err != nil {
				return err
			}
			view, err := ledgerLease(c, cfg, id)
			if err != nil {
				return err
			}
			return show(c.OutOrStdout(), view, view.print)
		}),
	}
}
